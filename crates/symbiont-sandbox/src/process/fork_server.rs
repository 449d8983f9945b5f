//! Agents from a process that was started once.
//!
//! It is a process of ours like any other: when it goes, however that came about, another is started for
//! the next agent, and the agents that are there live on, as they are our own children.

use std::io::{self, Error, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use symbiont_guest::protocol::{Born, FORK_SERVER};
use tokio::io::Interest;

use crate::family::Agent;
use crate::sandbox::{START, lock};

/// Makes agents, by a server that it starts when there is none, or none any more.
#[derive(Debug)]
pub(super) struct ForkServer {
    guest: OwnedFd,
    running: Mutex<Option<Arc<Running>>>,
}

/// A server that was started, and ends with this.
#[derive(Debug)]
struct Running {
    control: UnixStream,
    process: Child,
}

/// Why there is no agent.
#[derive(Debug)]
pub(super) enum Unborn {
    /// The kernel makes no such process.
    Refused(i32),
    /// The server has gone, or does not answer and was ended.
    Gone,
    Failed(Error),
}

impl From<Error> for Unborn {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Self::Gone,
            _ => Self::Failed(error),
        }
    }
}

impl ForkServer {
    /// One that starts `guest`.
    pub(super) fn new(guest: OwnedFd) -> Self {
        Self { guest, running: Mutex::new(None) }
    }

    /// A new agent, which waits for its set-up, and the socket to it. Its namespaces are `owner`'s, or our
    /// own.
    pub(super) async fn agent(
        &self,
        owner: Option<u32>,
    ) -> Result<(Agent, tokio::net::UnixStream), Unborn> {
        for _ in 0..2 {
            let server = self.server()?;
            match server.agent(owner).await {
                Err(Unborn::Gone) => {
                    tracing::warn!("the process that makes agents has gone: another is started");
                    self.forget(&server);
                }
                made => return made,
            }
        }
        Err(Unborn::Gone)
    }

    /// The one that runs.
    fn server(&self) -> io::Result<Arc<Running>> {
        let mut running = lock(&self.running);
        if let Some(server) = &*running {
            return Ok(Arc::clone(server));
        }
        let server = Arc::new(Running::start(&self.guest)?);
        *running = Some(Arc::clone(&server));
        Ok(server)
    }

    fn forget(&self, gone: &Arc<Running>) {
        let mut running = lock(&self.running);
        if running.as_ref().is_some_and(|server| Arc::ptr_eq(server, gone)) {
            *running = None;
        }
    }
}

impl Running {
    fn start(guest: &OwnedFd) -> io::Result<Self> {
        let (control, theirs) = UnixStream::pair()?;
        control.set_nonblocking(true)?;
        let process = Command::new(format!("/proc/self/fd/{}", guest.as_raw_fd()))
            .arg0("symbiont-guest")
            .arg(FORK_SERVER)
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // What a terminal sends to all of its foreground is for us, not for sandboxes.
            .process_group(0)
            .spawn()?;
        Ok(Self { control, process })
    }

    async fn agent(&self, owner: Option<u32>) -> Result<(Agent, tokio::net::UnixStream), Unborn> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let ours = tokio::net::UnixStream::from_std(ours)?;
        let answer = async {
            let control = tokio::net::UnixStream::from_std(self.control.try_clone()?)?;
            self.send(&control, owner, &theirs).await?;
            drop(theirs);
            // An agent that was made and not told of holds its end, so that only the server's own tells
            // that it has gone.
            tokio::select! {
                biased;
                told = ours.async_io(Interest::READABLE, || receive(&ours)) => told,
                _ = control.readable() => Err(ErrorKind::ConnectionReset.into()),
            }
        };
        let Ok(answer) = tokio::time::timeout(START, answer).await else {
            // It would make an agent that nobody knows of. Its id is its own: nobody has waited for it.
            kill_process(Pid::from_child(&self.process), Signal::KILL).map_err(Error::from)?;
            return Err(Unborn::Gone);
        };
        match answer? {
            (Born::LENGTH, Born(Ok(id)), Some(process)) => Ok((Agent::new(id, process), ours)),
            (Born::LENGTH, Born(Ok(id)), None) => {
                // There was no descriptor left for it, and nobody will ever have one.
                let id = i32::try_from(id).ok().and_then(Pid::from_raw);
                if let Some(id) = id.filter(|id| kill_process(*id, Signal::KILL).is_ok()) {
                    let _reaped = waitpid(Some(id), WaitOptions::empty());
                }
                Err(Unborn::Failed(Error::other("there is no descriptor left for the agent")))
            }
            (Born::LENGTH, Born(Err(errno)), _) => Err(Unborn::Refused(errno)),
            (0, ..) => Err(Unborn::Gone),
            _ => Err(Unborn::Failed(Error::other("what tells of an agent is not whole"))),
        }
    }

    /// Asks for an agent with this socket.
    async fn send(
        &self,
        control: &tokio::net::UnixStream,
        owner: Option<u32>,
        theirs: &UnixStream,
    ) -> io::Result<()> {
        let owner = owner.unwrap_or(0).to_le_bytes();
        let send = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut attached = SendAncillaryBuffer::new(&mut space);
            let descriptors = [theirs.as_fd()];
            if !attached.push(SendAncillaryMessage::ScmRights(&descriptors)) {
                return Err(Errno::NOBUFS);
            }
            let bytes = [IoSlice::new(&owner)];
            sendmsg(&self.control, &bytes, &mut attached, SendFlags::NOSIGNAL).map(drop)
        };
        match send() {
            Err(Errno::AGAIN) => {}
            sent => return Ok(sent?),
        }
        // As many are on their way as it holds.
        control.async_io(Interest::WRITABLE, || Ok(send()?)).await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has nothing to finish: what it made is not its own.
        let _ended_already = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// How many bytes came of what is told of an agent, what they say, and the process.
fn receive(socket: impl AsFd) -> io::Result<(usize, Born, Option<OwnedFd>)> {
    let mut bytes = [0; Born::LENGTH];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut attached = RecvAncillaryBuffer::new(&mut space);
    let parts = &mut [IoSliceMut::new(&mut bytes)];
    let received = recvmsg(socket, parts, &mut attached, RecvFlags::CMSG_CLOEXEC)?;
    let process = attached.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok((received.bytes, Born::from_bytes(bytes), process))
}
