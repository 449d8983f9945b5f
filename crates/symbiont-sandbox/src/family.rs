//! The processes that a sandbox is on this host: one that we started, whoever it started, and the
//! control groups that they are in.

use std::process::ExitStatus;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use symbiont_types::SandboxError;
use tokio::process::Child;

use crate::api::SandboxUsage;
use crate::cgroup::Group;
use crate::sandbox::{END, lock};

/// When an empty control group can mostly be removed, and when it must be.
const SOON: Duration = Duration::from_micros(300);
const REMOVAL: Duration = Duration::from_millis(500);
/// How long it may take until all of it stands still.
const STANDSTILL: Duration = Duration::from_secs(10);

/// What is left to be cleaned up when the guest has ended.
#[derive(Debug)]
pub(crate) struct Family {
    /// Until it has ended.
    child: Mutex<Option<Child>>,
    group: Mutex<Group>,
}

impl Family {
    /// One that was just started, and is in these groups or about to be.
    pub(crate) fn new(child: Child, group: Group) -> Self {
        Self { child: Mutex::new(Some(child)), group: Mutex::new(group) }
    }

    /// Waits until all of it has ended, which it has been asked to or else is made to, and removes its
    /// groups. May be called again after it failed. Gives how the first of it ended, if that was seen
    /// now.
    pub(crate) async fn end(&self) -> Result<Option<ExitStatus>, SandboxError> {
        let left = |what: String| SandboxError::BackendUnavailable { reason: what };
        let mut status = None;
        let running = lock(&self.child).take();
        if let Some(mut child) = running {
            status = match tokio::time::timeout(END, child.wait()).await {
                Ok(ended) => ended.ok(),
                Err(_) => {
                    // What may hardly run may hardly end.
                    lock(&self.group).unthrottle();
                    let _ended_meanwhile = child.start_kill();
                    lock(&self.group).kill();
                    match tokio::time::timeout(END, child.wait()).await {
                        Ok(ended) => ended.ok(),
                        Err(_) => {
                            *lock(&self.child) = Some(child);
                            return Err(left("the guest can't be killed".to_owned()));
                        }
                    }
                }
            };
        }
        // The kernel tells when a process has ended, but not when its group has noticed. It mostly
        // has within some microseconds, which no timer can wait.
        let start = Instant::now();
        loop {
            let error = match lock(&self.group).remove() {
                Ok(()) => return Ok(status),
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
