//! One command: its keeper, its program, and the pipes between them and the agent.

use std::collections::VecDeque;
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, fcntl_dupfd_cloexec, read, write};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{DumpableBehavior, Signal, WaitOptions};
use rustix::termios::Winsize;
use symbiont_guest::protocol::{
    Event, Exec, Exit, LEFT_IN_PIPE, MAX_CHUNK, Output, Setup, Size, WINDOW,
};
use symbiont_guest::users::USER;

use crate::kernel::{self, Child, Fork};
use crate::landlock::Rules;
use crate::setup::{become_user, renew_processes, set_capabilities, write_all};
use crate::sys::{self, Awaited};

/// What the keeper tells the agent: one byte of kind, two numbers.
const REPORT: usize = 17;
const ENDED: u8 = 0xff;
/// How long a keeper may take to end everything.
const TO_END: Duration = Duration::from_secs(1);
/// What stands for the end of a file when it is typed.
const END_OF_FILE: u8 = 4;
/// The steps of a start, in the order of the byte that names them.
const STEPS: [&str; 12] = [
    "mount /proc",
    "fork",
    "start a session",
    "connect its streams",
    "set its limits",
    "become its user",
    "go first when memory is short",
    "enter its directory",
    "apply the system call filter",
    "execute",
    "take its terminal",
    "come under the rules for files",
];

// Limits, as the kernel numbers them; C libraries differ in the type of theirs.
const PROCESSOR_TIME: u32 = 0;
const CORE: u32 = 4;
/// Of signals that wait, of queues of messages, of niceness and of priority: what they limit a kernel that is
/// given, as gVisor's is, has not, and it lets nobody set them.
const LINUX_ONLY: [u32; 4] = [11, 12, 13, 14];

/// A command from its start until everything of it is gone.
#[derive(Debug)]
pub(crate) struct Running {
    keeper: Child,
    report: OwnedFd,
    /// What the keeper has told.
    told: Option<[u8; REPORT]>,
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
    input: VecDeque<u8>,
    input_ended: bool,
    /// The last byte of the input is the end of a terminal's, which the host has not sent.
    end_typed: bool,
    terminal: Option<Terminal>,
    /// Bytes of standard output and standard error that may be read.
    credit: [usize; 2],
    started: Instant,
    deadline: Option<Instant>,
    grace: Duration,
    timed_out: bool,
    /// Its keeper was told to end everything.
    ending: bool,
    gone: bool,
}

/// A terminal, from the side of whoever sits before it.
#[derive(Debug)]
struct Terminal {
    master: OwnedFd,
    /// Held until the command is gone: with nobody on the other side reading would fail, also while
    /// the command has the terminal closed for a moment.
    slave: OwnedFd,
}

impl Terminal {
    /// A new one among the sandbox's own.
    fn open(size: Size) -> rustix::io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let master = rustix::fs::openat(CWD, "/dev/ptmx", flags, Mode::empty())?;
        rustix::pty::unlockpt(&master)?;
        let slave = kernel::other_side(&master)?;
        let terminal = Self { master, slave };
        terminal.resize(size)?;
        Ok(terminal)
    }

    fn resize(&self, size: Size) -> rustix::io::Result<()> {
        let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&self.master, size)
    }
}

/// What a command reads and writes, and our ends of that.
struct Streams {
    theirs: [OwnedFd; 3],
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: Option<OwnedFd>,
    terminal: Option<Terminal>,
}

impl Streams {
    fn open(size: Option<Size>) -> Result<Self, (&'static str, Errno)> {
        let streams = match size {
            None => Self::pipes().map_err(|errno| ("make a pipe", errno)),
            Some(size) => Self::terminal(size).map_err(|errno| ("make a terminal", errno)),
        }?;
        for ours in [Some(&streams.stdin), Some(&streams.stdout), streams.stderr.as_ref()] {
            let set = ours.map_or(Ok(()), |ours| {
                rustix::fs::fcntl_setfl(ours, rustix::fs::fcntl_getfl(ours)? | OFlags::NONBLOCK)
            });
            set.map_err(|errno| ("connect its streams", errno))?;
        }
        Ok(streams)
    }

    fn pipes() -> rustix::io::Result<Self> {
        let pipe = || pipe_with(PipeFlags::CLOEXEC);
        let (child_stdin, stdin) = pipe()?;
        let (stdout, child_stdout) = pipe()?;
        let (stderr, child_stderr) = pipe()?;
        let theirs = [child_stdin, child_stdout, child_stderr];
        Ok(Self { theirs, stdin, stdout, stderr: Some(stderr), terminal: None })
    }

    fn terminal(size: Size) -> rustix::io::Result<Self> {
        let terminal = Terminal::open(size)?;
        let copy = |fd: &OwnedFd| fcntl_dupfd_cloexec(fd, 3);
        let (master, slave) = (&terminal.master, &terminal.slave);
        let theirs = [copy(slave)?, copy(slave)?, copy(slave)?];
        let (stdin, stdout) = (copy(master)?, copy(master)?);
        Ok(Self { theirs, stdin, stdout, stderr: None, terminal: Some(terminal) })
    }
}

impl Running {
    /// Starts a command. That it could not be executed shows later, in its report.
    pub(crate) fn start(
        exec: &Exec,
        setup: &Setup,
        rules: Option<&Rules>,
    ) -> Result<Self, (&'static str, Errno)> {
        let strings = |bytes: &[Vec<u8>]| {
            bytes.iter().map(|b| CString::new(b.as_slice())).collect::<Result<Vec<_>, _>>()
        };
        let invalid = |_| ("read the command", Errno::INVAL);
        let arguments = strings(&exec.arguments).map_err(invalid)?;
        let environment = strings(&exec.environment).map_err(invalid)?;
        let directory = CString::new(exec.directory.as_slice()).map_err(invalid)?;
        if arguments.is_empty() {
            return Err(("read the command", Errno::INVAL));
        }
        let Streams { theirs, stdin, stdout, stderr, terminal } = Streams::open(exec.terminal)?;
        let (report, child_report) =
            pipe_with(PipeFlags::CLOEXEC).map_err(|errno| ("make a pipe", errno))?;
        rustix::fs::fcntl_setfl(&report, OFlags::NONBLOCK)
            .map_err(|errno| ("make a pipe", errno))?;
        let started = Instant::now();
        // Its own view of /proc takes its own mounts, which a given place need not have. What it makes
        // of shared memory, queues and semaphores goes with it, as its processes do.
        let mounts = if setup.is_given() { 0 } else { libc::CLONE_NEWNS };
        let namespaces = libc::CLONE_NEWPID | libc::CLONE_NEWIPC | mounts;
        match kernel::fork(namespaces.cast_unsigned().into()) {
            Err(errno) => Err(("make a process", errno)),
            Ok(Fork::Parent(_, keeper)) => Ok(Self {
                keeper,
                report,
                told: None,
                stdin: Some(stdin),
                stdout: Some(stdout),
                stderr,
                input: VecDeque::new(),
                input_ended: false,
                end_typed: false,
                terminal,
                credit: [WINDOW; 2],
                started,
                deadline: started.checked_add(Duration::from_millis(exec.timeout_ms)),
                grace: Duration::from_millis(exec.grace_ms),
                timed_out: false,
                ending: false,
                gone: false,
            }),
            Ok(Fork::Child) => {
                let limit = exec.processor_seconds;
                let terminal = terminal.is_some();
                let program =
                    Program { arguments, environment, directory, setup, rules, limit, terminal };
                keep(&program, theirs, &child_report)
            }
        }
    }

    /// A descriptor that becomes readable when everything of the command is gone, or there is
    /// something to be [told](Self::keeper_told) about that.
    pub(crate) fn keeper(&self) -> Option<&OwnedFd> {
        let ended = match &self.keeper {
            Child::Descriptor(descriptor) => descriptor,
            // Only the keeper holds the other end.
            Child::Number(_) => &self.report,
        };
        (!self.gone).then_some(ended)
    }

    /// When something is to be done about its time.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        if self.gone { None } else { self.deadline }
    }

    /// Asks it to end, or makes it, if its time is up.
    pub(crate) fn check_time(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        if self.ending {
            return self.kill();
        }
        if self.timed_out || self.grace.is_zero() {
            self.kill();
        } else {
            self.signal(libc::SIGTERM.cast_unsigned());
            self.deadline = now.checked_add(self.grace);
        }
        self.timed_out = true;
    }

    /// Sends a signal to the command's process group, by way of the keeper.
    pub(crate) fn signal(&self, number: u32) {
        if !self.gone {
            self.keeper.pass_on(number);
        }
    }

    /// Gives its terminal another size, if it has one.
    pub(crate) fn resize(&self, size: Size) {
        if let Some(terminal) = &self.terminal {
            let _no_size_of_a_terminal = terminal.resize(size);
        }
    }

    /// Ends everything of it at once: its keeper does, and is ended itself if it does not get there soon.
    pub(crate) fn kill(&mut self) {
        if self.gone {
            return; // Its number may be another's now.
        }
        if !std::mem::replace(&mut self.ending, true) {
            self.keeper.signal(sys::END);
            self.deadline = Instant::now().checked_add(TO_END);
            return;
        }
        if matches!(self.keeper, Child::Descriptor(_)) {
            self.keeper.signal(Signal::KILL);
        }
        // Elsewhere a keeper's end takes nothing along that can be waited for.
        self.deadline = None;
    }

    /// Takes note of what the keeper tells, or that it has ended, and with it everything else.
    pub(crate) fn keeper_told(&mut self) {
        let mut report = [0; REPORT];
        let heard = read(&self.report, &mut report);
        if heard == Ok(REPORT) && self.told.is_none() {
            self.told = Some(report);
        }
        if matches!(self.keeper, Child::Descriptor(_)) || heard == Ok(0) {
            self.keeper.reap();
            self.gone = true;
            self.terminal = None;
            for credit in &mut self.credit {
                *credit = credit.saturating_add(LEFT_IN_PIPE);
            }
        }
    }

    /// Takes input in; `false` if the host sends more than it may.
    pub(crate) fn take_input(&mut self, bytes: &[u8]) -> bool {
        self.input.extend(bytes);
        self.input.len() <= WINDOW && !self.end_typed
    }

    /// No more input will come.
    ///
    /// A terminal has no end; there the character that stands for it is typed.
    pub(crate) fn end_input(&mut self) {
        if self.terminal.is_none() {
            self.input_ended = true;
        } else if !std::mem::replace(&mut self.end_typed, true) {
            self.input.push_back(END_OF_FILE);
        }
    }

    /// The host has taken some of its output.
    pub(crate) fn output_taken(&mut self, which: Output, count: u32) {
        let credit = &mut self.credit[which as usize];
        *credit = credit.saturating_add(usize::try_from(count).unwrap_or(usize::MAX));
    }

    /// One of its output streams, if it may be read now.
    pub(crate) fn readable(&self, which: Output) -> Option<&OwnedFd> {
        let stream = match which {
            Output::Stdout => &self.stdout,
            Output::Stderr => &self.stderr,
        };
        stream.as_ref().filter(|_| self.gone || self.credit[which as usize] > 0)
    }

    /// Whether its input pipe is worth waiting for.
    pub(crate) fn wants_input(&self) -> bool {
        self.stdin.is_some() && !self.input.is_empty()
    }

    /// Passes input on, and says how much was passed on or dropped.
    pub(crate) fn pass_input(&mut self) -> u32 {
        let before = self.input.len();
        while let Some(stdin) = &self.stdin
            && !self.input.is_empty()
        {
            match write(stdin, self.input.as_slices().0) {
                Ok(count) => drop(self.input.drain(..count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => self.stdin = None, // Nobody reads it any more, which is no error.
            }
        }
        if self.stdin.is_none() {
            self.input.clear();
        } else if self.input_ended && self.input.is_empty() {
            self.stdin = None;
        }
        let passed = before - self.input.len();
        let of_ours = usize::from(passed > 0 && self.input.is_empty() && self.end_typed);
        u32::try_from(passed - of_ours).unwrap_or(u32::MAX)
    }

    /// Some of its output, if there is any now.
    pub(crate) fn take_output(&mut self, which: Output, buffer: &mut [u8]) -> Option<usize> {
        let gone = self.gone;
        let stream = match which {
            Output::Stdout => &mut self.stdout,
            Output::Stderr => &mut self.stderr,
        };
        let credit = &mut self.credit[which as usize];
        let end = buffer.len().min(MAX_CHUNK).min(*credit);
        if end == 0 && !gone {
            return None;
        }
        match read(stream.as_ref()?, &mut buffer[..end]) {
            Ok(count @ 1..) => {
                *credit -= count;
                Some(count)
            }
            Err(Errno::INTR) => None,
            // Whoever might still hold the pipe is not of this command.
            Err(Errno::AGAIN) if !gone => None,
            Ok(_) | Err(_) => {
                *stream = None;
                None
            }
        }
    }

    /// How it ended, once everything is gone and all output was taken.
    pub(crate) fn outcome(&self) -> Option<Event> {
        if !self.gone || self.stdout.is_some() || self.stderr.is_some() {
            return None;
        }
        let mut exit = Exit {
            code: None,
            signal: Some(libc::SIGKILL),
            timed_out: self.timed_out,
            nanoseconds: u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX),
            peak_memory: 0,
        };
        if let Some(report) = self.told {
            let (kind, first, second) = parse(report);
            if kind != ENDED {
                let step = STEPS.get(usize::from(kind)).copied().unwrap_or("start");
                let errno = i32::try_from(first).unwrap_or(libc::EIO);
                return Some(Event::NotStarted { step: step.to_owned(), errno });
            }
            let number = i32::try_from(first & 0xffff).unwrap_or(0);
            let signaled = first & (1 << 32) != 0;
            exit.code = (!signaled).then_some(number);
            exit.signal = signaled.then_some(number);
            exit.peak_memory = second;
        }
        Some(Event::Exit(exit))
    }
}

fn report(kind: u8, first: u64, second: u64) -> [u8; REPORT] {
    let mut bytes = [kind; REPORT];
    bytes[1..9].copy_from_slice(&first.to_ne_bytes());
    bytes[9..].copy_from_slice(&second.to_ne_bytes());
    bytes
}

fn parse(bytes: [u8; REPORT]) -> (u8, u64, u64) {
    let number = |at: usize| {
        let mut number = [0; 8];
        number.copy_from_slice(&bytes[at..at + 8]);
        u64::from_ne_bytes(number)
    };
    (bytes[0], number(1), number(9))
}

/// What a keeper needs to start a program.
struct Program<'a> {
    arguments: Vec<CString>,
    environment: Vec<CString>,
    directory: CString,
    setup: &'a Setup,
    rules: Option<&'a Rules>,
    /// Seconds of processor time for each process, or 0.
    limit: u64,
    terminal: bool,
}

/// A step of [`STEPS`] that failed.
type Failed = (u8, Errno);

/// The keeper's life: the first process of the command's own namespace.
fn keep(program: &Program<'_>, streams: [OwnedFd; 3], reports: &OwnedFd) -> ! {
    let tell = |(step, errno): Failed| {
        let number = errno.raw_os_error().cast_unsigned().into();
        let _told = write_all(reports, &report(step, number, 0));
        sys::exit(1);
    };
    let given = program.setup.is_given();
    if !given && let Err(errno) = renew_processes() {
        tell((0, errno));
    }
    let leader = match kernel::fork(0) {
        Err(errno) => tell((1, errno)),
        Ok(Fork::Child) => tell(become_program(program, streams)),
        Ok(Fork::Parent(leader, _)) => leader,
    };
    // From here on the keeper holds nothing but its report: not the socket, not the streams.
    let ours = reports.as_raw_fd().cast_unsigned();
    for (first, last) in [(0, ours - 1), (ours + 1, sys::LAST_DESCRIPTOR)] {
        if sys::close_range(first, last).is_err() {
            sys::exit(1);
        }
    }
    loop {
        match sys::await_signal() {
            Awaited::PassOn(number) => {
                sys::signal_group(leader, number);
                continue;
            }
            Awaited::End => {
                end_all();
                sys::exit(1);
            }
            Awaited::Child => {}
        }
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if pid != leader {
                continue;
            }
            let signal = status
                .terminating_signal()
                .map(|signal| (1 << 32) | u64::from(signal.cast_unsigned()));
            let code = status.exit_status().unwrap_or(0).cast_unsigned();
            let how = signal.unwrap_or(code.into());
            end_all();
            let _told = write_all(reports, &report(ENDED, how, sys::children_peak()));
            sys::exit(0);
        }
    }
}

/// Ends whatever is in the keeper's namespaces, and waits until it is gone.
///
/// The kernel does so when a namespace's first process ends, but Linux takes its time with shared memory,
/// which the next command would find taken, and gVisor does not wait for processes.
fn end_all() {
    loop {
        sys::kill_all();
        if matches!(rustix::process::wait(WaitOptions::empty()), Err(Errno::CHILD)) {
            break;
        }
    }
    sys::remove_shared();
}

/// Becomes the program, or says which step failed.
///
/// A failure is reported before the keeper could report the end, as this is the leader.
fn become_program(program: &Program<'_>, streams: [OwnedFd; 3]) -> Failed {
    match try_become_program(program, streams) {
        Ok(errno) => (9, errno),
        Err(failed) => failed,
    }
}

fn try_become_program(program: &Program<'_>, streams: [OwnedFd; 3]) -> Result<Errno, Failed> {
    let step = |number: u8| move |errno: Errno| (number, errno);
    rustix::process::setsid().map_err(step(2))?;
    for (stream, number) in streams.iter().zip(0..) {
        sys::place(stream, number).map_err(step(3))?;
    }
    if program.terminal {
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()).map_err(step(10))?;
    }
    for (number, value) in &program.setup.limits {
        let linux_only = LINUX_ONLY.contains(number);
        let set = match *number {
            _ if linux_only && program.setup.is_given() => Ok(()),
            number if linux_only || number == CORE => sys::lower_limit(number, *value),
            number => sys::limit(number, *value, *value),
        };
        set.map_err(step(4))?;
    }
    if program.limit > 0 {
        // It is told at the first, and ended a second later if it takes no notice.
        let hard = program.limit.saturating_add(1);
        sys::limit(PROCESSOR_TIME, program.limit, hard).map_err(step(4))?;
    }
    if program.setup.first_id.is_some() {
        rustix::thread::set_thread_groups(&[]).map_err(step(5))?;
    }
    become_user(USER, USER).map_err(step(5))?;
    set_capabilities(rustix::thread::CapabilitySet::empty()).map_err(step(5))?;
    // A process that hides its memory does not own its files in /proc. Executing restores it.
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).map_err(step(6))?;
    // Anyone may raise it.
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, "/proc/self/oom_score_adj", flags, Mode::empty())
        .and_then(|file| write_all(file, b"500"))
        .map_err(step(6))?;
    enter(&program.directory).map_err(step(7))?;
    sys::release_signals();
    if let Some(rules) = program.rules {
        rules.enter().map_err(step(11))?;
    }
    for filter in &program.setup.filters {
        sys::filter(filter).map_err(step(8))?;
    }
    Ok(execute(program))
}

/// Changes to a directory by its name; the links of `/proc`, which lead to whatever a process has
/// open, are not followed, and neither are links to them.
fn enter(directory: &CString) -> rustix::io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_MAGICLINKS;
    let directory = kernel::open(CWD, directory.as_bytes(), flags, resolve)?;
    rustix::process::fchdir(directory)
}

/// Looks the program up as a shell does, and becomes it.
fn execute(program: &Program<'_>) -> Errno {
    let name = &program.arguments[0];
    if name.as_bytes().contains(&b'/') {
        return sys::execute(name, &program.arguments, &program.environment);
    }
    let path = program.environment.iter().find_map(|entry| entry.as_bytes().strip_prefix(b"PATH="));
    let mut result = Errno::NOENT;
    for directory in path.unwrap_or_default().split(|byte| *byte == b':') {
        let candidate = [directory, b"/", name.as_bytes()].concat();
        let Ok(candidate) = CString::new(candidate) else { continue };
        match sys::execute(&candidate, &program.arguments, &program.environment) {
            Errno::NOENT | Errno::NOTDIR => {}
            Errno::ACCESS => result = Errno::ACCESS, // There may be one further on.
            errno => return errno,
        }
    }
    result
}
