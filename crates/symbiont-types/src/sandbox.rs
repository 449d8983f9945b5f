//! Sandboxes: what one is asked to be, how it is, and what a command in it did.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::{AgentId, ResourceLimits, SecurityTier};

/// What a sandbox should be.
#[derive(Debug, Clone, PartialEq)]
pub struct SandboxConfig {
    /// The agent that it is for.
    pub agent_id: AgentId,
    /// The tier; it is never served by a weaker one.
    pub security_tier: SecurityTier,
    /// What it may use. `execution_timeout` bounds each command.
    pub resource_limits: ResourceLimits,
    /// What it may reach.
    pub network_config: NetworkConfig,
    /// What it sees.
    pub filesystem_config: FilesystemConfig,
    /// The environment of its commands, beside `PATH`, `HOME`, `LANG` and `TMPDIR`.
    pub environment_variables: HashMap<String, String>,
}

/// What a sandbox may reach.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkConfig {
    /// Which hosts.
    pub mode: NetworkMode,
    /// Name servers for [`NetworkMode::Open`]; empty takes the host's.
    pub dns: Vec<std::net::IpAddr>,
}

/// Which hosts a sandbox may reach.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum NetworkMode {
    /// None, not even itself.
    #[default]
    None,
    /// Those that a rule allows, through a proxy of the runtime's.
    Proxy {
        /// The rules; a host that none names is refused.
        allow: Vec<EgressRule>,
    },
    /// All, by an operator's word.
    Open {
        /// Whether private and local addresses are refused.
        deny_private: bool,
    },
    /// The host's own network. Refused in production.
    Host,
}

/// Hosts that a sandbox may reach through the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressRule {
    /// A host name, or `*.` and a suffix.
    pub host: String,
    /// Ports; empty means 80 and 443.
    pub ports: Vec<u16>,
    /// HTTP methods; empty means all.
    pub methods: Vec<String>,
    /// Beginnings of HTTP paths; empty means all.
    pub paths: Vec<String>,
    /// Names of credentials that the proxy adds.
    pub credentials: Vec<String>,
}

/// What a sandbox sees of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesystemConfig {
    /// Its root.
    pub rootfs: RootFilesystem,
    /// Whether the root can't be written; `/workspace` and `/tmp` always can.
    pub read_only: bool,
    /// Room in `/workspace`, in MiB. Where it is memory, as in the process driver, it is part of the
    /// memory limit and smaller when it would not fit.
    pub scratch_mb: u64,
    /// Directories and files of the host that it sees.
    pub mounts: Vec<Mount>,
    /// Where commands start.
    pub workdir: String,
}

impl Default for FilesystemConfig {
    /// The host's programs read-only, a workspace of 1 GiB, nothing else of the host.
    fn default() -> Self {
        Self {
            rootfs: RootFilesystem::Host,
            read_only: true,
            scratch_mb: 1024,
            mounts: Vec::new(),
            workdir: "/workspace".to_owned(),
        }
    }
}

/// The root of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootFilesystem {
    /// The host's programs and libraries, and nothing else of it.
    Host,
    /// A directory of the host.
    Dir(PathBuf),
    /// An image, by name.
    Image(String),
}

impl std::fmt::Display for RootFilesystem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host => f.write_str("the host's programs"),
            Self::Dir(path) => write!(f, "the directory {}", path.display()),
            Self::Image(name) => write!(f, "image {name}"),
        }
    }
}

/// A directory or file of the host inside a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where it is on the host.
    pub source: PathBuf,
    /// Where it appears; not over anything the sandbox needs for itself.
    pub target: String,
    /// Whether it can't be written.
    pub read_only: bool,
}

/// How a sandbox is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SandboxStatus {
    /// Being made.
    Creating,
    /// Made, not started.
    Created,
    /// Being started.
    Starting,
    /// Ready for commands.
    Running,
    /// Held still.
    Paused,
    /// Being stopped.
    Stopping,
    /// Stopped; its files are there.
    Stopped,
    /// Being copied.
    Snapshotting,
    /// Broken.
    Failed {
        /// By what.
        reason: String,
    },
    /// Being removed.
    Destroying,
    /// Removed.
    Destroyed,
    /// Gone without our doing.
    Lost,
}

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommandResult {
    /// The code it exited with, unless a signal ended it.
    pub exit_code: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// What it wrote to standard output, up to the cap: the first three quarters and the end.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error, likewise.
    pub stderr: Vec<u8>,
    /// Whether some of standard output was left out.
    pub stdout_truncated: bool,
    /// Whether some of standard error was left out.
    pub stderr_truncated: bool,
    /// Whether it was killed at its deadline.
    pub timed_out: bool,
    /// Whether it was killed, by nobody who runs it, while the kernel killed processes of its sandbox for
    /// lack of memory. The kernel counts those of a sandbox together: of several commands that run at
    /// once and are killed, each is told so.
    pub oom_killed: bool,
    /// From start to end.
    pub duration: Duration,
    /// The most memory it held, in bytes, where the kernel tells.
    pub peak_memory: Option<u64>,
}

impl CommandResult {
    /// Whether it exited with code 0.
    pub fn is_success(&self) -> bool {
        self.exit_code == Some(0)
    }
}
