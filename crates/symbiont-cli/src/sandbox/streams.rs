//! This command's own streams, terminal and signals as those of a command in a sandbox.

use std::ffi::OsString;
use std::io::{self, ErrorKind, IsTerminal};
use std::time::Instant;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use symbiont_runtime::{
    Command, Duration, IsolationReport, Process, ProcessInput, ProcessOutput, TerminalSize,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::end::{self, End, failure};
use crate::{Exit, Failure};

/// What ends a program that writes to a reader that has gone.
const BROKEN_PIPE: u8 = 13;
/// What ends any program.
const KILL: u8 = 9;
/// How long a command that was told so may go on writing for nobody: what it had written before is still
/// under way, and it may have last words.
const PATIENCE: Duration = Duration::from_millis(200);
/// What is read at once.
const CHUNK: usize = 64 << 10;

/// The signals that are meant for the command.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
    quit: Signal,
}

impl Signals {
    pub(super) fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Failure::new(Exit::NoSandbox, format!("no signal can be caught: {error}"))
            })
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
            quit: listen(SignalKind::quit())?,
        })
    }

    /// The number of the next one.
    pub(super) async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
            _ = self.hang_up.recv() => 1,
            _ = self.quit.recv() => 3,
        }
    }
}

/// The terminal that this command has, raw until this is dropped: what is typed is for the other
/// side to understand.
pub(super) struct Terminal {
    before: Termios,
    resized: Signal,
}

impl Terminal {
    /// The terminal, if both input and output are one.
    pub(super) fn open() -> Option<Self> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return None;
        }
        let before = tcgetattr(rustix::stdio::stdin()).ok()?;
        let resized = signal(SignalKind::window_change()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self { before, resized })
    }

    pub(super) fn size() -> TerminalSize {
        match tcgetwinsize(rustix::stdio::stdout()) {
            Ok(size) if size.ws_row > 0 && size.ws_col > 0 => {
                TerminalSize { rows: size.ws_row, columns: size.ws_col }
            }
            Ok(_) | Err(_) => TerminalSize { rows: 24, columns: 80 },
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _it_has_gone = tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &self.before);
    }
}

/// Resolves when the terminal has another size.
async fn resized(terminal: &mut Option<Terminal>) {
    match terminal {
        Some(terminal) => drop(terminal.resized.recv().await),
        None => std::future::pending().await,
    }
}

/// A command as it was typed, and its terminal if it is to have one.
pub(super) fn command(typed: Vec<OsString>, terminal: Option<&Terminal>) -> Command {
    let mut words = typed.into_iter();
    let mut command = Command::new(words.next().unwrap_or_default()).args(words);
    if terminal.is_some() {
        command.terminal = Some(Terminal::size());
        // What every terminal understands: which one it is here is nobody's affair inside.
        command.env.push(("TERM".into(), "xterm".into()));
    }
    command
}

/// What becomes of what is typed at a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Typed {
    /// It is passed on.
    Passed,
    /// It is passed on, and what stands for a signal is one as well: the sandbox's own kernel makes none
    /// of it.
    Signals,
}

impl Typed {
    /// Of a sandbox with these walls, for a command with or without a terminal.
    pub(super) fn of(walls: &IsolationReport, terminal: bool) -> Self {
        match terminal && walls.degraded.iter().any(|what| what.starts_with("terminals: ")) {
            true => Self::Signals,
            false => Self::Passed,
        }
    }

    /// The numbers of the signals in what is typed: Control-C and Control-Backslash.
    pub(super) fn signals(self, bytes: &[u8]) -> impl Iterator<Item = u8> {
        let bytes = if self == Self::Signals { bytes } else { &[] };
        bytes.iter().filter_map(|byte| match byte {
            0x03 => Some(2),
            0x1c => Some(3),
            _ => None,
        })
    }
}

/// A command that runs, here or held by a keeper.
pub(super) trait Running {
    type Input: AsyncWrite + Send + Unpin + 'static;
    type Output: AsyncRead + Unpin;

    /// Its input and its outputs, given once.
    fn streams(&mut self) -> (Option<Self::Input>, [Option<Self::Output>; 2]);
    async fn wait(&mut self) -> Result<End, Failure>;
    fn signal(&self, number: u8);
    fn resize(&self, size: TerminalSize);
}

impl Running for Process {
    type Input = ProcessInput;
    type Output = ProcessOutput;

    fn streams(&mut self) -> (Option<ProcessInput>, [Option<ProcessOutput>; 2]) {
        (self.stdin.take(), [self.stdout.take(), self.stderr.take()])
    }

    async fn wait(&mut self) -> Result<End, Failure> {
        Self::wait(self).await.map(|result| end::of(&result)).map_err(failure)
    }

    fn signal(&self, number: u8) {
        // Every number that is sent is one of a signal.
        let _over_already = Self::signal(self, number.into());
    }

    fn resize(&self, size: TerminalSize) {
        Self::resize(self, size);
    }
}

/// Passes everything in both directions until the command has ended, and gives how.
pub(super) async fn attach(
    process: &mut impl Running,
    signals: &mut Signals,
    mut terminal: Option<Terminal>,
    typed: Typed,
) -> Result<End, Failure> {
    let (mut stdin, [stdout, stderr]) = process.streams();
    let (unwritten, mut sent) = mpsc::channel(2);
    let asked = unwritten.clone();
    let outward = async {
        tokio::join!(
            pass(stdout, tokio::io::stdout(), unwritten.clone()),
            pass(stderr, tokio::io::stderr(), unwritten),
        )
    };
    let mut outward = std::pin::pin!(outward);
    let inward = tokio::spawn(async move {
        let Some(to) = &mut stdin else { return };
        let (mut from, mut buffer) = (tokio::io::stdin(), vec![0; CHUNK]);
        // Whoever can't be read any more has ended, and so has one who does not read.
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            for number in typed.signals(&buffer[..count]) {
                let _over_already = asked.send(number).await;
            }
            if to.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
    });
    let mut written = None;
    let ended = loop {
        tokio::select! {
            ended = process.wait() => break ended,
            both = &mut outward, if written.is_none() => written = Some(both),
            Some(number) = sent.recv() => process.signal(number),
            number = signals.next() => process.signal(number),
            () = resized(&mut terminal) => process.resize(Terminal::size()),
        }
    };
    inward.abort();
    let written = match written {
        Some(both) => both,
        // Its last words, unless nobody wants to wait for whoever reads them.
        None => tokio::select! {
            both = &mut outward => both,
            number = signals.next() => return Ok(End::signal(number)),
        },
    };
    drop(terminal);
    let ended = ended?;
    let (Ok(()), Ok(())) = written else {
        let (stdout, stderr) = written;
        let error = stdout.and(stderr).err().unwrap_or_else(|| ErrorKind::Other.into());
        let what = format!("the command's output could not be written: {error}");
        return Err(Failure::new(Exit::NoSandbox, what));
    };
    Ok(ended)
}

/// Passes output on as it comes. When it can't be any more, `unwritten` gets the signals for whoever
/// goes on writing for nobody: for a reader that has gone, which is no failure, the one that the kernel
/// would send, and what ends a command that takes no notice; for any other reason the latter at once.
async fn pass(
    output: Option<impl AsyncRead + Unpin>,
    mut to: impl AsyncWrite + Unpin,
    unwritten: mpsc::Sender<u8>,
) -> io::Result<()> {
    let Some(mut from) = output else { return Ok(()) };
    let mut buffer = vec![0; CHUNK];
    // How it ended is told by its end, also if it was lost.
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let written = async {
            to.write_all(&buffer[..count]).await?;
            to.flush().await
        };
        match written.await {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                let _over_already = unwritten.send(BROKEN_PIPE).await;
                let patience = Instant::now() + PATIENCE;
                while let Ok(1..) = from.read(&mut buffer).await {
                    if Instant::now() > patience {
                        let _over_already = unwritten.send(KILL).await;
                        break;
                    }
                }
                return Ok(());
            }
            Err(error) => {
                let _over_already = unwritten.send(KILL).await;
                return Err(error);
            }
        }
    }
    Ok(())
}
