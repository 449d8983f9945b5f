//! What every driver offers.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt::Debug;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use symbiont_types::{
    AgentId, CommandResult, FilesystemConfig, NetworkConfig, ResourceLimits, SandboxConfig,
    SandboxError, SandboxId, SandboxStatus, SecurityTier,
};

use symbiont_guest::tree::Transferred;

use crate::request::{MAX_PROCESSES, invalid};
use crate::running::Process;

/// Makes sandboxes of one tier.
#[async_trait]
pub trait Driver: Debug + Send + Sync {
    /// What the driver is called in settings and reports, such as `process`.
    fn name(&self) -> &'static str;

    /// The tier that it serves.
    fn tier(&self) -> SecurityTier;

    /// Whether it works on this host, tried and not guessed.
    async fn probe(&self) -> Probe;

    /// Prepares a sandbox; [`Sandbox::start`] brings it up.
    ///
    /// Everything in `config` and `options` is checked here, before anything is made.
    async fn create_with(
        &self,
        id: SandboxId,
        config: &SandboxConfig,
        options: &Options,
    ) -> Result<Arc<dyn Sandbox>, SandboxError>;

    /// The same for who would rather have a sandbox without some limits than none: what this host
    /// can't hold is in [`IsolationReport::degraded`].
    async fn create(
        &self,
        id: SandboxId,
        config: &SandboxConfig,
    ) -> Result<Arc<dyn Sandbox>, SandboxError> {
        self.create_with(id, config, &Options::lenient()).await
    }
}

/// How much memory a sandbox may be given, in MiB.
pub const MEMORY_MB: RangeInclusive<u64> = 8..=1 << 22;
/// How many processor cores a sandbox may be given.
pub const CPU_CORES: RangeInclusive<f64> = 0.01..=4096.0;
/// How many processes and threads a sandbox may be given.
pub const PROCESSES: RangeInclusive<u64> = 16..=4096;

/// What is asked of a sandbox beside its [`SandboxConfig`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Processes and threads that it may have at once, from 16 to 4096; the guest's own few count.
    pub processes: u64,
    /// Limits that it may be without where the host can't hold them. Without any other of them
    /// there is no sandbox: `IsolationUnavailable` names the one to list here.
    pub allow_degraded: Vec<Control>,
    /// The system calls that its commands may make.
    pub profile: Profile,
}

/// Which system calls commands may make. None makes a namespace, mounts anything or reaches what is
/// another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Profile {
    /// What text tools, interpreters and compilers need: no sockets but those between processes here, no
    /// queues, semaphores or memory of System V and POSIX, no locked memory, no pipes with names, no
    /// choice of scheduling.
    Strict,
    /// What ordinary programs, databases and servers need.
    #[default]
    Default,
    /// That, and what debuggers and tracers need: processes can trace those they started.
    Compat,
}

impl Profile {
    /// Every one of them, the narrowest first.
    pub const ALL: [Self; 3] = [Self::Strict, Self::Default, Self::Compat];

    /// What it is called in settings and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Default => "default",
            Self::Compat => "compat",
        }
    }
}

impl std::str::FromStr for Profile {
    type Err = SandboxError;

    fn from_str(name: &str) -> Result<Self, SandboxError> {
        let found = Self::ALL.into_iter().find(|profile| profile.name() == name);
        found.ok_or_else(|| {
            let all = Self::ALL.map(Self::name).join("`, `");
            invalid(format!("no profile is called `{}`; there are `{all}`", name.escape_debug()))
        })
    }
}

impl Options {
    /// The default limit of processes, and no limit that must be held.
    pub fn lenient() -> Self {
        Self { allow_degraded: Control::ALL.to_vec(), ..Self::default() }
    }
}

impl Default for Options {
    /// 256 processes; every limit is held, or there is no sandbox.
    fn default() -> Self {
        let (allow_degraded, profile) = (Vec::new(), Profile::default());
        Self { processes: MAX_PROCESSES, allow_degraded, profile }
    }
}

/// A limit that a sandbox is asked for, and that a host may be unable to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Control {
    /// The memory of all its processes together.
    Memory,
    /// The number of its processes.
    Processes,
    /// Its share of processor time.
    ProcessorTime,
    /// The kernel's rules for files, Landlock, around each command. Asked of the drivers whose
    /// sandboxes share the host's kernel.
    Landlock,
}

impl Control {
    /// Every one of them.
    pub const ALL: [Self; 4] = [Self::Memory, Self::Processes, Self::ProcessorTime, Self::Landlock];

    /// What it is called in settings, and what a line of [`IsolationReport::degraded`] about it
    /// begins with.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Processes => "processes",
            Self::ProcessorTime => "processor time",
            Self::Landlock => "Landlock",
        }
    }
}

impl std::str::FromStr for Control {
    type Err = SandboxError;

    fn from_str(name: &str) -> Result<Self, SandboxError> {
        let found = Self::ALL.into_iter().find(|control| control.name() == name);
        found.ok_or_else(|| {
            let all = Self::ALL.map(Self::name).join("`, `");
            invalid(format!("no limit is called `{}`; there are `{all}`", name.escape_debug()))
        })
    }
}

/// Whether a driver works on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Whether sandboxes can be made.
    pub available: bool,
    /// What is in force, or why nothing can be made and what to do about it.
    pub detail: String,
    /// Limits and walls that this host can't apply.
    pub degraded: Vec<String>,
}

/// Tries a driver out: makes a sandbox by `make`, runs a command in it, and destroys it.
pub(crate) async fn probe(
    tier: SecurityTier,
    make: impl FnOnce(SandboxId, &SandboxConfig) -> Result<Arc<dyn Sandbox>, SandboxError>,
) -> Probe {
    let config = SandboxConfig {
        agent_id: AgentId::new(),
        security_tier: tier,
        resource_limits: ResourceLimits::default(),
        network_config: NetworkConfig::default(),
        filesystem_config: FilesystemConfig { scratch_mb: 16, ..FilesystemConfig::default() },
        environment_variables: HashMap::new(),
    };
    let tried = async {
        let sandbox = make(SandboxId::new(), &config)?;
        // A sandbox that stands may still be unable to run anything.
        let ran = async {
            sandbox.start().await?;
            sandbox.exec(Command::new("true")).await
        };
        let ran = ran.await;
        let report = sandbox.report();
        sandbox.destroy().await?;
        ran.map(|result| (result, report))
    };
    let unavailable = |detail: String| Probe { available: false, detail, degraded: Vec::new() };
    match tried.await {
        Ok((result, report)) if result.is_success() => Probe {
            available: true,
            detail: format!(
                "namespaces {}; users: {}; control groups {:?}{}",
                report.namespaces.join(" "),
                report.user_mapping,
                report.cgroup,
                report.landlock.map_or_else(String::new, |version| format!("; Landlock {version}"))
            ),
            degraded: report.degraded,
        },
        Ok((result, _)) => unavailable(format!("`true` failed in a sandbox: {result:?}")),
        Err(error) => unavailable(error.to_string()),
    }
}

/// A place where commands run.
#[async_trait]
pub trait Sandbox: Debug + Send + Sync {
    /// Its id.
    fn id(&self) -> SandboxId;

    /// Brings it up; when this returns, it has answered a ping.
    async fn start(&self) -> Result<(), SandboxError>;

    /// Runs a command to its end. Everything it started is gone when this returns.
    ///
    /// A command that is killed at its deadline, or whose output was cut, is `Ok` with
    /// `timed_out` or the `truncated` flags. A caller that gives up (drops the future) has the
    /// command killed.
    async fn exec(&self, command: Command) -> Result<CommandResult, SandboxError>;

    /// Starts a command whose streams the caller reads and writes while it runs. That it could not
    /// be executed shows in [`Process::wait`].
    async fn spawn(&self, command: Command) -> Result<Process, SandboxError>;

    /// Copies a file of the host into the sandbox, and says how many bytes that was.
    ///
    /// Missing directories are made. The file appears whole or not at all; one that grows or shrinks
    /// while it is read is refused.
    async fn upload(&self, local: &Path, remote: &Path) -> Result<u64, SandboxError>;

    /// Copies a regular file out of the sandbox, and says how many bytes that was. Links that stay
    /// within the same directory tree are followed.
    ///
    /// The local file appears whole or not at all.
    async fn download(&self, remote: &Path, local: &Path) -> Result<u64, SandboxError>;

    /// Copies a directory of the host into the sandbox, with all that is in it. Nothing or an empty
    /// directory may be at `remote`; missing directories above are made.
    ///
    /// The directory appears whole or not at all. Permissions are masked with 0777, and whoever owns a
    /// directory can use it. Links are copied as links if they are relative and stay within; pipes,
    /// sockets, devices, other links and what may not be read are left out and
    /// [listed](Transferred::omitted). At most 100,000 entries, 64 directories deep, and as many bytes as
    /// the workspace has.
    async fn upload_directory(
        &self,
        local: &Path,
        remote: &Path,
    ) -> Result<Transferred, SandboxError>;

    /// Copies a directory out of the sandbox, as [`Sandbox::upload_directory`] copies one into it. No
    /// link is followed, neither inside nor on the host, where nothing or an empty directory may be at
    /// `local`.
    async fn download_directory(
        &self,
        remote: &Path,
        local: &Path,
    ) -> Result<Transferred, SandboxError>;

    /// Writes a directory of the sandbox into a new archive (`tar`) of the host, with what
    /// [`Sandbox::download_directory`] would copy. Its names are relative, its owners 0, its times 1970.
    async fn export(&self, remote: &Path, archive: &Path) -> Result<Transferred, SandboxError>;

    /// Reads a regular file of at most `max` bytes, which must have this name and no other: a link
    /// is not followed, and a file with several hard links is refused. Whoever decides about names
    /// decides about the file then. What commands move or copy has its new name only.
    async fn read_file(&self, path: &str, max: u64) -> Result<Vec<u8>, SandboxError>;

    /// Writes a file whole, with the permissions of `mode` (masked with 0777).
    ///
    /// Missing directories are made.
    async fn write_file(&self, path: &str, content: &[u8], mode: u32) -> Result<(), SandboxError>;

    /// What is in a directory, sorted by name. No link is followed.
    async fn list(&self, path: &str) -> Result<Vec<DirEntry>, SandboxError>;

    /// What is at a path, a link itself and not what it points to; `None` if nothing is. No link on
    /// the way is followed.
    async fn stat(&self, path: &Path) -> Result<Option<Stat>, SandboxError>;

    /// Removes a file, a link or an empty directory. Nothing there is no error.
    async fn remove(&self, path: &str) -> Result<(), SandboxError>;

    /// Ends everything that runs in it. Its files stay, and [`Sandbox::start`] makes it ready again.
    /// May be called in any state.
    async fn stop(&self) -> Result<(), SandboxError>;

    /// Stops all that runs in it where it is, its guest included: until [`Sandbox::resume`] nothing
    /// can be run in it or copied. Time goes on: a command whose time is up meanwhile is ended when the
    /// sandbox goes on. Fine if it is paused already.
    async fn pause(&self) -> Result<(), SandboxError>;

    /// Lets go on what [`Sandbox::pause`] has stopped. Fine if it runs already.
    async fn resume(&self) -> Result<(), SandboxError>;

    /// Removes it and all that belongs to it. May be called in any state, and again.
    async fn destroy(&self) -> Result<(), SandboxError>;

    /// How it is.
    fn status(&self) -> SandboxStatus;

    /// What it uses, from the kernel's own books.
    async fn usage(&self) -> Result<SandboxUsage, SandboxError>;

    /// What is really in force.
    fn report(&self) -> IsolationReport;
}

/// A command to run in a sandbox. Its words are bytes, as they are everywhere on Linux.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The program: a path, or a name that is looked up in the sandbox's `PATH`.
    pub program: OsString,
    /// What follows the program's name. The arguments and the environment together may have
    /// 256 KiB, and each of them less than 128 KiB.
    pub args: Vec<OsString>,
    /// Environment of this command, over that of the sandbox.
    pub env: Vec<(OsString, OsString)>,
    /// What it reads from standard input; `None` gives it an empty one. That of a command which is
    /// [spawned](Sandbox::spawn) is written to it instead.
    pub stdin: Option<Vec<u8>>,
    /// Where it starts; `None` takes the sandbox's own working directory.
    pub cwd: Option<String>,
    /// How long it may run; the sandbox's `execution_timeout` bounds it.
    pub timeout: Duration,
    /// Time between asking it to end and killing it, 60 s at most.
    pub grace: Duration,
    /// Bytes kept of each of its output streams, 64 MiB at most. What is written to a command that
    /// is [spawned](Sandbox::spawn) is not kept but read.
    pub output_cap: usize,
    /// Processor time that each of its processes may use, in whole seconds, rounded up. One that
    /// uses more is ended by signal 24 (`SIGXCPU`).
    pub processor_time: Option<Duration>,
    /// A terminal for its three streams. All output is standard output then, and the end of its
    /// input is typed as Control-D.
    pub terminal: Option<TerminalSize>,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

impl From<TerminalSize> for symbiont_guest::protocol::Size {
    fn from(TerminalSize { rows, columns }: TerminalSize) -> Self {
        Self { rows, columns }
    }
}

impl Command {
    /// `program` without arguments: 60 s, 2 s of grace, 1 MiB of each output stream.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            stdin: None,
            cwd: None,
            timeout: Duration::from_secs(60),
            grace: Duration::from_secs(2),
            output_cap: 1 << 20,
            processor_time: None,
            terminal: None,
        }
    }

    /// The same with these arguments after those it has.
    pub fn args<I: IntoIterator<Item = S>, S: Into<OsString>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Refuses what is wrong in the command itself, in whichever sandbox: every sandbox refuses it in
    /// the same way. What its variables come to together with those of the sandbox is not known here.
    ///
    /// # Errors
    ///
    /// `InvalidArgument`, which says what is wrong.
    pub fn check(&self) -> Result<(), SandboxError> {
        crate::request::check(self)
    }
}

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// Its name, any bytes but `/` and NUL.
    pub name: OsString,
    /// What it is.
    pub stat: Stat,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// Of which kind.
    pub kind: EntryKind,
    /// Its logical size in bytes.
    pub size: u64,
    /// Its permissions, the lowest twelve bits.
    pub mode: u32,
    /// When it was last changed.
    pub modified: SystemTime,
}

/// The kind of a directory entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A pipe, socket or device.
    Other,
}

/// What a sandbox uses. `None` means that this host's kernel does not tell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SandboxUsage {
    /// Memory held now, in bytes, files in memory included.
    pub memory_bytes: Option<u64>,
    /// The most memory it ever held.
    pub memory_peak_bytes: Option<u64>,
    /// Processor time since it was made.
    pub cpu_time: Option<Duration>,
    /// Time that it was held back by its processor limit.
    pub throttled: Option<Duration>,
    /// Bytes read from disks.
    pub io_read_bytes: Option<u64>,
    /// Bytes written to disks.
    pub io_write_bytes: Option<u64>,
    /// Processes now.
    pub processes: Option<u64>,
    /// Processes that were killed for lack of memory.
    pub oom_kills: Option<u64>,
}

/// What isolates a sandbox, as it was really applied.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IsolationReport {
    /// The driver that serves it.
    pub driver: String,
    /// The kernel namespaces that are its own.
    pub namespaces: Vec<String>,
    /// How its users are mapped, such as `65536 ids from 1073741824` or `one id`.
    pub user_mapping: String,
    /// Whether no program can gain privileges.
    pub no_new_privileges: bool,
    /// Whether its commands hold no capability, and can't gain one.
    pub capabilities_dropped: bool,
    /// Which control groups hold its limits.
    pub cgroup: CgroupLayout,
    /// The limits in force, such as `memory 512 MiB`.
    pub limits: Vec<String>,
    /// What it reaches.
    pub network: String,
    /// What its root is.
    pub rootfs: String,
    /// What the system call filter does, if there is one.
    pub seccomp: Option<String>,
    /// The version of the kernel's Landlock that its commands are under, if they are.
    pub landlock: Option<u32>,
    /// What this host can't apply.
    pub degraded: Vec<String>,
}

/// Which control groups a host has for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CgroupLayout {
    /// None that we may use.
    #[default]
    None,
    /// One hierarchy for each controller.
    V1,
    /// One hierarchy for all.
    V2,
    /// Controllers on both.
    Hybrid,
}
