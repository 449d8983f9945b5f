//! The processes that a sandbox is on this host: one that we started, whoever it started, and the
//! control groups that they are in.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use symbiont_types::SandboxError;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::Child;

use crate::api::SandboxUsage;
use crate::cgroup::Group;
use crate::sandbox::{END, lock};

/// When an empty control group can mostly be removed, and when it must be.
const SOON: Duration = Duration::from_micros(300);
const REMOVAL: Duration = Duration::from_millis(500);
/// How long it may take until all of it stands still.
const STANDSTILL: Duration = Duration::from_secs(10);

/// Agents that nobody wanted any more before they had ended.
static ORPHANS: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());

/// A child of ours that another process made for us. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Agent {
    id: u32,
    /// Until it has ended and was waited for.
    process: Option<OwnedFd>,
}

impl Agent {
    /// The process of this id, which this descriptor is of.
    pub(crate) fn new(id: u32, process: OwnedFd) -> Self {
        lock(&ORPHANS).retain(|process| !reaped(process));
        Self { id, process: Some(process) }
    }

    /// Its process id, which is nobody else's while this is there.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    fn kill(&self) -> io::Result<()> {
        let Some(process) = &self.process else { return Ok(()) };
        Ok(pidfd_send_signal(process, Signal::KILL)?)
    }

    async fn wait(&mut self) -> io::Result<()> {
        let Some(process) = &self.process else { return Ok(()) };
        #[expect(deprecated, reason = "a borrowed descriptor stays open, which is all it asks for")]
        let ended = AsyncFd::with_interest(process.as_fd(), Interest::READABLE)?;
        while !reaped(process) {
            ended.readable().await?.clear_ready();
        }
        drop(ended);
        self.process = None;
        Ok(())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _gone_already = self.kill();
        if let Some(process) = self.process.take().filter(|process| !reaped(process)) {
            lock(&ORPHANS).push(process);
        }
    }
}

/// Waits for a child if it has ended.
fn reaped(process: &OwnedFd) -> bool {
    match waitid(WaitId::PidFd(process.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
        Ok(ended) => ended.is_some(),
        Err(errno) => errno != Errno::INTR,
    }
}

/// The first process of a family.
#[derive(Debug)]
pub(crate) enum First {
    Agent(Agent),
    Child(Child),
}

impl First {
    async fn wait(&mut self) -> io::Result<()> {
        match self {
            Self::Agent(agent) => agent.wait().await,
            Self::Child(child) => child.wait().await.map(drop),
        }
    }

    fn start_kill(&mut self) -> io::Result<()> {
        match self {
            Self::Agent(agent) => agent.kill(),
            Self::Child(child) => child.start_kill(),
        }
    }
}

/// What is left to be cleaned up when the guest has ended.
#[derive(Debug)]
pub(crate) struct Family {
    /// Until it has ended.
    first: Mutex<Option<First>>,
    group: Mutex<Group>,
}

impl Family {
    /// One that was just started, and is in these groups or about to be.
    pub(crate) fn new(first: First, group: Group) -> Self {
        Self { first: Mutex::new(Some(first)), group: Mutex::new(group) }
    }

    /// Waits until all of it has ended, which it has been asked to or else is made to, and removes its
    /// groups. May be called again after it failed.
    pub(crate) async fn end(&self) -> Result<(), SandboxError> {
        let left = |what: String| SandboxError::BackendUnavailable { reason: what };
        let running = lock(&self.first).take();
        if let Some(mut first) = running
            && tokio::time::timeout(END, first.wait()).await.is_err()
        {
            // What may hardly run may hardly end.
            lock(&self.group).unthrottle();
            let _ended_meanwhile = first.start_kill();
            lock(&self.group).kill();
            if tokio::time::timeout(END, first.wait()).await.is_err() {
                *lock(&self.first) = Some(first);
                return Err(left("the guest can't be killed".to_owned()));
            }
        }
        // The kernel tells when a process has ended, but not when its group has noticed. It mostly
        // has within some microseconds, which no timer can wait.
        let start = Instant::now();
        loop {
            let error = match lock(&self.group).remove() {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let waited = start.elapsed();
            if waited >= REMOVAL {
                return Err(left(format!("a control group can't be removed: {error}")));
            }
            if waited < SOON {
                tokio::task::yield_now().await;
            } else {
                lock(&self.group).kill();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    /// Lets all of it stand still.
    pub(crate) async fn pause(&self) -> Result<(), SandboxError> {
        let failed = |error: std::io::Error| SandboxError::BackendUnavailable {
            reason: format!("it can't be paused: {error}"),
        };
        lock(&self.group).freeze(true).map_err(|error| match error.kind() {
            std::io::ErrorKind::Unsupported => SandboxError::Unsupported {
                operation: "be paused".to_owned(),
                reason: format!(
                    "{error}: it takes control groups of version 2, or the `freezer` of version 1, \
                     that this process may write to"
                ),
            },
            _ => failed(error),
        })?;
        let start = Instant::now();
        while !lock(&self.group).is_frozen() {
            if start.elapsed() >= STANDSTILL {
                lock(&self.group).freeze(false).map_err(failed)?;
                return Err(failed(std::io::Error::other("something in it does not stand still")));
            }
            // The kernel tells nobody when that is so.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) -> Result<(), SandboxError> {
        lock(&self.group).freeze(false).map_err(|error| SandboxError::BackendUnavailable {
            reason: format!("it can't be resumed: {error}"),
        })
    }

    pub(crate) fn oom_kills(&self) -> Option<u64> {
        lock(&self.group).oom_kills()
    }

    pub(crate) fn usage(&self) -> SandboxUsage {
        lock(&self.group).usage()
    }
}
