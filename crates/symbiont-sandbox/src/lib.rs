//! Sandboxes: places where a command runs without reaching the machine it runs on.
//!
//! A [`Driver`] makes sandboxes of one tier; a [`Sandbox`] runs commands and moves files.
//! [`ProcessDriver`] needs nothing but a Linux kernel, [`DockerDriver`] an engine, and
//! [`GvisorDriver`] the program `runsc`.
//!
//! # What holds
//!
//! - A wall that was asked for stands, or creation fails. What a host can't apply and the sandbox
//!   can live without is listed in [`IsolationReport::degraded`], never passed over in silence.
//! - A command is reported only when everything it started is gone.
//! - Whatever comes out of a sandbox is hostile: its frames are bounded and checked, its paths are
//!   resolved inside and never on the host.
//! - Nothing outlives a sandbox: no process, no mount, no control group. What a process that was
//!   killed has left is removed by the next one, or by [`reap`].
//!
//! # What is not here
//!
//! Which tier an agent gets, what it may run and what is written down about it are decided by
//! whoever calls. Images, egress and snapshots are not served yet; asking for them is a typed
//! error.

#![warn(missing_docs)]

/// Tells whoever listens in that something of what has this name is there now, or gone: between any two
/// of these, this process may be ended.
macro_rules! step {
    ($what:literal, $of:expr) => {
        tracing::trace!(target: "symbiont_sandbox::step", of = %$of, $what)
    };
}

mod api;
mod cgroup;
mod directories;
mod docker;
mod family;
mod files;
mod gvisor;
mod instance;
mod layout;
mod link;
mod process;
mod request;
mod running;
mod sandbox;
mod seccomp;

pub use api::{
    CPU_CORES, CgroupLayout, Command, Control, DirEntry, Driver, EntryKind, IsolationReport,
    MEMORY_MB, Options, PROCESSES, Probe, Profile, Sandbox, SandboxUsage, Stat, TerminalSize,
};
pub use docker::DockerDriver;
pub use gvisor::{GvisorDriver, GvisorOptions};
pub use instance::{Claim, kept, reap};
pub use process::ProcessDriver;
pub use running::{Process, ProcessInput, ProcessOutput};
pub use symbiont_guest::protocol::Omission;
pub use symbiont_guest::tree::{Omitted, Transferred};

/// What a fuzzer needs of the inside.
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing {
    pub use crate::link::hears;
}

/// The guest, built by this crate's build script.
static GUEST: &[u8] = include_bytes!(env!("SYMBIONT_GUEST"));
