//! A command that runs, as its caller holds it: its streams, its signals, its end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use symbiont_guest::protocol::{self, MAX_CHUNK, Request};
use symbiont_types::{CommandResult, SandboxError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;

use crate::api::TerminalSize;
use crate::link::{End, Link, Pipe};
use crate::request::invalid;

/// A command that runs in a sandbox. Whoever drops it has it killed, with all that it started.
///
/// Its streams may be taken out and used elsewhere. Output that is held and not read holds the
/// command up once 256 KiB are under way; an [`ProcessOutput`] that is dropped holds up nobody, what would
/// have come there is thrown away.
#[derive(Debug)]
pub struct Process {
    /// What it reads. Dropping it ends the input.
    pub stdin: Option<ProcessInput>,
    /// What it writes to standard output, or to its terminal.
    pub stdout: Option<ProcessOutput>,
    /// What it writes to standard error; `None` if it has a terminal.
    pub stderr: Option<ProcessOutput>,
    link: Arc<Link>,
    stream: u32,
    /// Whether it was asked to be killed.
    killed: Arc<AtomicBool>,
    end: Ending,
}

/// How far its end is known.
#[derive(Debug)]
enum Ending {
    Awaited(JoinHandle<Result<CommandResult, SandboxError>>),
    Known(Result<CommandResult, SandboxError>),
}

impl Process {
    pub(crate) fn new(
        link: Arc<Link>,
        stream: u32,
        [stdout, stderr]: [Option<Arc<Pipe>>; 2],
        killed: Arc<AtomicBool>,
        end: JoinHandle<Result<CommandResult, SandboxError>>,
    ) -> Self {
        let output = |which, pipe: Option<Arc<Pipe>>| {
            pipe.map(|pipe| ProcessOutput { link: Arc::clone(&link), stream, which, pipe })
        };
        Self {
            stdin: Some(ProcessInput { link: Arc::clone(&link), stream, ended: false }),
            stdout: output(protocol::Output::Stdout, stdout),
            stderr: output(protocol::Output::Stderr, stderr),
            link,
            stream,
            killed,
            end: Ending::Awaited(end),
        }
    }

    /// Sends a signal to the process group that the command leads. [`Process::kill`] is what ends
    /// all that it started, and what number 9 is taken for.
    ///
    /// A command that is over takes no notice.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` when Linux has no signal of this number.
    pub fn signal(&self, number: i32) -> Result<(), SandboxError> {
        match u8::try_from(number) {
            Ok(9) => self.kill(),
            Ok(number @ 1..=64) => self.link.send(self.stream, &Request::Signal(number)),
            _ => return Err(invalid(format!("{number} is no signal"))),
        }
        Ok(())
    }

    /// Kills the command and all that it started.
    pub fn kill(&self) {
        self.killed.store(true, Ordering::Relaxed);
        self.link.send(self.stream, &Request::Kill);
    }

    /// Gives its terminal another size, which its programs are told. Without a terminal this does
    /// nothing.
    pub fn resize(&self, size: TerminalSize) {
        self.link.send(self.stream, &Request::Resize(size.into()));
    }

    /// Waits for its end. Everything it started is gone then, and the streams hold what is left of
    /// its output; the result itself has none. May be asked again, and given up and asked again.
    ///
    /// # Errors
    ///
    /// `ExecFailed` when it could not be started, `IsolationUnavailable` and `ResourceLimit`
    /// likewise; `AgentLost` when the sandbox ended before it.
    pub async fn wait(&mut self) -> Result<CommandResult, SandboxError> {
        if let Ending::Awaited(task) = &mut self.end {
            let result = match task.await {
                Ok(result) => result,
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => Err(SandboxError::ShuttingDown),
            };
            self.end = Ending::Known(result);
        }
        match &self.end {
            Ending::Known(result) => result.clone(),
            Ending::Awaited(_) => unreachable!("it was awaited"),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(&self.end, Ending::Awaited(task) if !task.is_finished()) {
            self.kill();
        }
    }
}

/// A command's input. Writing waits while the command does not read; a command that is over, or
/// that has closed its input, takes what it is given or breaks the pipe.
#[derive(Debug)]
pub struct ProcessInput {
    link: Arc<Link>,
    stream: u32,
    ended: bool,
}

impl ProcessInput {
    fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            self.link.send(self.stream, &Request::StdinEnd);
        }
    }
}

impl AsyncWrite for ProcessInput {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let wanted = bytes.len().min(MAX_CHUNK / 4);
        Poll::Ready(match ready!(self.link.poll_credit(cx, self.stream, wanted)) {
            None => Err(io::ErrorKind::BrokenPipe.into()),
            Some(count) => {
                self.link.send(self.stream, &Request::Stdin(bytes[..count].to_vec()));
                Ok(count)
            }
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end();
        Poll::Ready(Ok(()))
    }
}

impl Drop for ProcessInput {
    fn drop(&mut self) {
        self.end();
    }
}

/// A command's output. It ends when the command and all that it started have ended, or have closed
/// it; when the sandbox was lost meanwhile, reading fails after what had arrived.
#[derive(Debug)]
pub struct ProcessOutput {
    link: Arc<Link>,
    stream: u32,
    which: protocol::Output,
    pipe: Arc<Pipe>,
}

impl AsyncRead for ProcessOutput {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(match ready!(self.pipe.poll(cx, buffer.initialize_unfilled())) {
            Ok(count) => {
                buffer.advance(count);
                self.link.taken(self.stream, self.which, count);
                Ok(())
            }
            Err(End::Whole) => Ok(()),
            Err(End::Lost) => {
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the sandbox was lost"))
            }
        })
    }
}

impl Drop for ProcessOutput {
    fn drop(&mut self) {
        self.link.drop_output(self.stream, self.which, &self.pipe);
    }
}
