//! The few system calls that `rustix` does not make safe.
//!
//! All of this runs in a process of one thread, so a child that was just forked may allocate and
//! use whatever its parent could.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::{Errno, Result};
use rustix::process::{Pid, Signal};
use rustix::thread::Uid;

/// In which process one is after a clone.
pub(crate) enum Clone {
    /// In the new one.
    Child,
    /// In the old one, with a descriptor that tells when the new one ends.
    Parent(Pid, OwnedFd),
}

/// Forks, with new namespaces for the child as `namespaces` says.
pub(crate) fn clone(namespaces: u64) -> Result<Clone> {
    clone_with(namespaces, libc::SIGCHLD.cast_unsigned().into())
}

/// The same, for our parent: the child is its own, and it learns of the end as it does of ours.
pub(crate) fn clone_for_parent(namespaces: u64) -> Result<Clone> {
    clone_with(namespaces | u64::from(libc::CLONE_PARENT.cast_unsigned()), 0)
}

fn clone_with(flags: u64, exit_signal: u64) -> Result<Clone> {
    let mut pidfd: RawFd = -1;
    // SAFETY: `clone_args` is plain integers, for which zero is a value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | u64::from(libc::CLONE_PIDFD.cast_unsigned());
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = exit_signal;
    // SAFETY: without CLONE_VM this is a fork: the child has its own copy of all memory and goes
    // on on a copy of this stack. There is one thread, so no lock is held by another. `args` and
    // `pidfd` live until the call returns.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of_val(&args)) };
    match pid {
        0 => Ok(Clone::Child),
        pid => {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).filter(|_| pid > 0);
            // SAFETY: the kernel stored a new descriptor that nobody else knows.
            pid.map(|pid| Clone::Parent(pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
                .ok_or_else(last_error)
        }
    }
}

/// Forks as [`clone`] does, where the kernel has no descriptors of processes: the number of the new
/// one, or `None` in it.
pub(crate) fn clone_by_number(namespaces: u64) -> Result<Option<Pid>> {
    let flags = namespaces | u64::from(libc::SIGCHLD.cast_unsigned());
    // SAFETY: as in `clone`; all pointers are null, which means the same stack and nothing to store.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    check(pid)?;
    Ok(i32::try_from(pid).ok().and_then(Pid::from_raw))
}

/// Has this process find and open files as another user than the one whose rights it has otherwise. Not
/// being allowed to shows when it does.
pub(crate) fn look_up_files_as(user: Uid) {
    // SAFETY: the call touches no memory.
    unsafe { libc::syscall(libc::SYS_setfsuid, user.as_raw()) };
}

/// Has this process share the processors as ordinary ones do, whatever the host does: nothing in a sandbox
/// goes before the host, and who is in a hurry can't enter a control group that limits processor time.
/// Not being allowed to shows when it enters one.
pub(crate) fn share_processors() {
    let ordinary = libc::sched_param { sched_priority: 0 };
    // SAFETY: `ordinary` lives until the call returns. C libraries refuse this call of theirs.
    unsafe {
        libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_OTHER, &raw const ordinary)
    };
}

/// Moves this process into a namespace of its own, of networks or of control groups.
pub(crate) fn unshare(namespace: i32) -> Result<()> {
    // SAFETY: the call touches no memory, and for these namespaces changes nothing that is open.
    check(unsafe { libc::syscall(libc::SYS_unshare, namespace) })
}

/// No descriptor has a greater number. Some kernels refuse to hear of one that might.
pub(crate) const LAST_DESCRIPTOR: u32 = i32::MAX.cast_unsigned();

/// Closes every descriptor from `first` to `last`.
///
/// Only for a process that owns nothing there and goes on to use nothing there.
pub(crate) fn close_range(first: u32, last: u32) -> Result<()> {
    // SAFETY: callers are new processes; the descriptors they close belonged to their parent.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })
}

/// Makes `fd` appear as the descriptor `number`, which stays open over an `execve`.
pub(crate) fn place(fd: impl AsFd, number: RawFd) -> Result<()> {
    // SAFETY: `number` is 0, 1 or 2, which no owner in this process closes.
    check(unsafe { libc::dup2(fd.as_fd().as_raw_fd(), number) }.into())
}

/// Uses the files of others as this user and group.
pub(crate) fn set_file_ids(id: u32) {
    // SAFETY: neither call touches memory. They return the old value and no error; that they
    // worked shows in the next call, which says what is in force.
    unsafe {
        libc::setfsgid(id);
        libc::setfsuid(id);
    }
}

/// The user whose permissions are used for files.
pub(crate) fn file_user() -> i32 {
    // SAFETY: an id that can't be, for which the call changes nothing and returns what is.
    unsafe { libc::setfsuid(u32::MAX) }
}

/// Applies a system call filter, an array of `sock_filter`, to this process for good.
pub(crate) fn filter(program: &[u8]) -> Result<()> {
    let instruction = size_of::<libc::sock_filter>();
    let count = program.len() / instruction;
    if !program.len().is_multiple_of(instruction) {
        return Err(Errno::INVAL);
    }
    let mut copy = Vec::with_capacity(count);
    for bytes in program.chunks_exact(instruction) {
        copy.push(libc::sock_filter {
            code: u16::from_ne_bytes([bytes[0], bytes[1]]),
            jt: bytes[2],
            jf: bytes[3],
            k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        });
    }
    let len = u16::try_from(count).map_err(|_| Errno::TOOBIG)?;
    let program = libc::sock_fprog { len, filter: copy.as_mut_ptr() };
    // SAFETY: `program` points at `len` instructions in `copy`, which outlives the call; the
    // kernel copies and checks them.
    check(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program)
    })
}

/// The version of the kernel's Landlock.
pub(crate) fn landlock_version() -> Result<u32> {
    const VERSION: u32 = 1;
    let nothing = std::ptr::null::<u8>();
    // SAFETY: with this flag the call takes no structure.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0_usize, VERSION) };
    u32::try_from(version).map_err(|_| last_error())
}

/// Rules that refuse these rights, and scopes, wherever nothing allows them.
pub(crate) fn landlock_rules(rights: u64, scopes: u64) -> Result<OwnedFd> {
    // What is refused of files, of networks, and of other processes. An older kernel takes a longer
    // structure than its own if the rest is zero.
    let refused = [rights, 0, scopes];
    // SAFETY: `refused` has the layout and size that are passed with it, and outlives the call.
    let rules = unsafe {
        let size = size_of_val(&refused);
        libc::syscall(libc::SYS_landlock_create_ruleset, refused.as_ptr(), size, 0)
    };
    let rules = i32::try_from(rules).ok().filter(|rules| *rules >= 0).ok_or_else(last_error)?;
    // SAFETY: the kernel made a new descriptor that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(rules) })
}

/// Allows rights at a place and beneath it.
pub(crate) fn landlock_allow(rules: impl AsFd, place: impl AsFd, rights: u64) -> Result<()> {
    #[repr(C, packed)]
    struct Beneath {
        rights: u64,
        place: RawFd,
    }
    const PATH_BENEATH: i32 = 1;
    let rule = Beneath { rights, place: place.as_fd().as_raw_fd() };
    let rules = rules.as_fd().as_raw_fd();
    // SAFETY: `rule` has the layout of this kind of rule, and outlives the call.
    check(unsafe {
        libc::syscall(libc::SYS_landlock_add_rule, rules, PATH_BENEATH, &raw const rule, 0)
    })
}

/// Puts this process under rules for good.
pub(crate) fn landlock_enter(rules: impl AsFd) -> Result<()> {
    // SAFETY: the call touches no memory.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_fd().as_raw_fd(), 0) })
}

/// Sets attributes of a mount and of all beneath it, and makes it private.
pub(crate) fn set_mount(mount: impl AsFd, attributes: u64) -> Result<()> {
    let attributes = libc::mount_attr {
        attr_set: attributes,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the path is a constant, and the structure outlives the call and has the size that is
    // passed with it.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of_val(&attributes),
        )
    })
}

/// No signal has a greater number.
const LAST_SIGNAL: libc::c_int = 64;

/// What a keeper is sent to pass a signal on, whose number is the value that comes with it: the last
/// of those that queue, so that none is lost.
const PASS_ON: libc::c_int = LAST_SIGNAL;

/// What a keeper is sent to end all of its command and itself.
pub(crate) const END: Signal = Signal::INT;

/// The beginning of a `siginfo_t` of a signal that was sent with a value, on a 64-bit machine.
#[repr(C)]
struct Sent {
    signal: i32,
    error: i32,
    code: i32,
    padding: i32,
    process: u32,
    user: u32,
    value: usize,
    rest: [u64; 12],
}
const _: () = assert!(size_of::<Sent>() == size_of::<libc::siginfo_t>());

/// A set of the signals that a keeper waits for.
fn awaited() -> libc::sigset_t {
    // SAFETY: a `sigset_t` is plain integers and is initialised by `sigemptyset`; the signals
    // exist.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGCHLD, END.as_raw(), PASS_ON] {
            libc::sigaddset(&raw mut set, signal);
        }
        set
    }
}

/// Keeps what a keeper waits for for [`await_signal`].
pub(crate) fn hold_signals() {
    // SAFETY: the set lives until the call returns.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &awaited(), std::ptr::null_mut()) };
}

/// What a keeper waits for.
pub(crate) enum Awaited {
    /// A child has ended.
    Child,
    /// The signal of this number is to be passed on.
    PassOn(u32),
    /// All is to end.
    End,
}

/// Waits for one of the signals that are [held](hold_signals).
pub(crate) fn await_signal() -> Awaited {
    // SAFETY: the structure is plain integers, for which zero is a value.
    let mut sent: Sent = unsafe { std::mem::zeroed() };
    // SAFETY: the set and `sent`, which has the size of what is stored, live until the call returns.
    let signal = unsafe { libc::sigwaitinfo(&awaited(), (&raw mut sent).cast()) };
    if signal == PASS_ON {
        Awaited::PassOn(u32::try_from(sent.value).unwrap_or(0))
    } else if signal == END.as_raw() {
        Awaited::End
    } else {
        Awaited::Child
    }
}

/// What has a keeper send the signal of this number to its command's process group.
fn to_pass_on(number: u32) -> Sent {
    Sent {
        signal: PASS_ON,
        error: 0,
        code: libc::SI_QUEUE,
        padding: 0,
        process: 0,
        user: 0,
        value: number as usize,
        rest: [0; 12],
    }
}

/// Has a keeper pass a signal on.
pub(crate) fn pass_on(keeper: impl AsFd, number: u32) -> Result<()> {
    let sent = to_pass_on(number);
    let keeper = keeper.as_fd().as_raw_fd();
    // SAFETY: `sent` has the layout and size of what is read, and lives until the call returns.
    check(unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, keeper, PASS_ON, &raw const sent, 0)
    })
}

/// Has a keeper pass a signal on, where there is only its number.
pub(crate) fn pass_on_by_number(keeper: Pid, number: u32) -> Result<()> {
    let sent = to_pass_on(number);
    let keeper = keeper.as_raw_nonzero().get();
    // SAFETY: `sent` has the layout and size of what is read, and lives until the call returns.
    check(unsafe { libc::syscall(libc::SYS_rt_sigqueueinfo, keeper, PASS_ON, &raw const sent) })
}

/// Sends a signal to a process group; one that has gone, or a signal that does not exist, is no
/// affair of a keeper.
pub(crate) fn signal_group(leader: Pid, number: u32) {
    let number = i32::try_from(number).unwrap_or(0);
    // SAFETY: the call touches no memory.
    unsafe { libc::kill(-leader.as_raw_nonzero().get(), number) };
}

/// Kills all other processes that this one sees.
///
/// Only for the first process of a namespace of processes: anywhere else that is everybody.
pub(crate) fn kill_all() {
    if std::process::id() == 1 {
        // SAFETY: the call touches no memory; that nobody is there is no error that matters.
        unsafe { libc::kill(-1, libc::SIGKILL) };
    }
}

/// Gives all signals the meaning that a new program expects, but the one of a reader that has gone, which is
/// an error here; none is held back.
pub(crate) fn expect_signals() {
    set_signals(libc::SIGPIPE);
}

/// Gives all signals back the meaning that a new program expects.
pub(crate) fn release_signals() {
    set_signals(0);
}

/// All but one.
fn set_signals(but: libc::c_int) {
    // What the kernel reads of a disposition: the handler, the flags, the restorer and the mask, a
    // word each. Zero is the default. The C library's own call leaves out the signals that it uses
    // itself, which another one's `posix_spawn` has ignored for us.
    let default = [0_usize; 4];
    // SAFETY: the set is initialised before it is used, and `default` has the size of what is read
    // and lives until the calls return; for signals that can't have another disposition they do
    // nothing.
    unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        for signal in (1..=LAST_SIGNAL).filter(|signal| *signal != but) {
            let (none, set_size) = (std::ptr::null_mut::<usize>(), size_of::<u64>());
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), none, set_size);
        }
    }
}

/// The most memory that one of the processes that were waited for held, in bytes.
pub(crate) fn children_peak() -> u64 {
    // SAFETY: a `rusage` is plain integers and lives until the call returns.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024
}

/// Sets a limit of this process. The kernel ends who reaches the hard one of processor time.
pub(crate) fn limit(number: u32, soft: u64, hard: u64) -> Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `limit` lives until the call returns; there is no old value to store.
    check(unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, number, &raw const limit, std::ptr::null_mut::<u8>())
    })
}

/// Removes all shared memory, queues and semaphores of System V that this process sees. It needs no memory
/// for that, of which there may be none while they are there.
///
/// Only for the first process of a namespace of processes, which has a namespace of these of its own.
pub(crate) fn remove_shared() {
    const INFO: [libc::c_int; 3] = [14, 12, 19]; // SHM_INFO, MSG_INFO, SEM_INFO
    const STAT_ANY: [libc::c_int; 3] = [15, 13, 20];
    // Longer than any of the structures.
    let mut about = [0_u64; 32];
    let kinds = INFO.into_iter().zip(STAT_ANY);
    for ((info, stat), kind) in kinds.zip([libc::SYS_shmctl, libc::SYS_msgctl, libc::SYS_semctl]) {
        // Those of semaphores have one argument more, which the others do not look at.
        let mut control = |id: i64, command: libc::c_int| -> i64 {
            let about = about.as_mut_ptr();
            // SAFETY: what is written fits into `about`, which outlives the call.
            unsafe {
                match kind {
                    libc::SYS_semctl => libc::syscall(kind, id, 0, command, about),
                    _ => libc::syscall(kind, id, command, about),
                }
            }
        };
        for index in 0..=control(0, info) {
            let id = control(index, stat);
            if id >= 0 {
                control(id, libc::IPC_RMID);
            }
        }
    }
}

/// Lowers a limit of this process, which may be lower already.
pub(crate) fn lower_limit(number: u32, value: u64) -> Result<()> {
    let mut now = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: there is no new value to read, and `now` lives until the call returns.
    check(unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, number, std::ptr::null::<u8>(), &raw mut now)
    })?;
    let value = value.min(now.rlim_max);
    limit(number, value, value)
}

/// A name that nobody guesses, for what has none yet.
pub(crate) fn unguessable() -> Result<Vec<u8>> {
    let mut random = [0; 16];
    // SAFETY: the array has the length that is passed, and lives until the call returns.
    let filled = unsafe { libc::getrandom(random.as_mut_ptr().cast(), random.len(), 0) };
    // So few bytes come at once, or not at all.
    if usize::try_from(filled) != Ok(random.len()) {
        return Err(last_error());
    }
    Ok(format!(".symbiont-{:032x}", u128::from_ne_bytes(random)).into_bytes())
}

/// Becomes another program; returns only if that fails.
pub(crate) fn execute(program: &CString, arguments: &[CString], environment: &[CString]) -> Errno {
    let list = |strings: &[CString]| {
        strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>()
    };
    let (arguments, environment) = (list(arguments), list(environment));
    // SAFETY: both lists end with a null pointer and point at strings that outlive the call.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    last_error()
}

/// Ends this process without running anything more of it.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: the call does not return and touches no memory.
    unsafe { libc::_exit(code) }
}

fn check(result: i64) -> Result<()> {
    if result < 0 { Err(last_error()) } else { Ok(()) }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
