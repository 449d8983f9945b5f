//! The sandbox orchestrator: makes sandboxes, runs commands in them, moves files in and out.
//!
//! The walls themselves are built by the drivers of `symbiont-sandbox`; this component keeps track
//! of who has which, chooses the driver, and records what happened.
//!
//! # What holds
//!
//! - A sandbox is served by the tier that was asked for or not at all. A driver that this host
//!   can't have keeps nobody from what needs no sandbox.
//! - A path of a sandbox is resolved inside it, never on the host.
//! - `destroy_sandbox` is fine from every state, and fine twice.
//! - What a process that was killed has left is removed by the orchestrator that starts next.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
pub use symbiont_sandbox::{
    CPU_CORES, CgroupLayout, Command, Control, DirEntry, EntryKind, IsolationReport, MEMORY_MB,
    Omission, Omitted, Options as SandboxOptions, PROCESSES, Process, ProcessInput, ProcessOutput,
    SandboxUsage, Stat, TerminalSize, Transferred, kept as kept_sandboxes, reap as reap_sandboxes,
};
use symbiont_sandbox::{
    Claim, DockerDriver, Driver, GvisorDriver, GvisorOptions, Probe, ProcessDriver, Sandbox, reap,
};
use symbiont_types::{
    AgentId, AuditEventType, CommandResult, RootFilesystem, SandboxConfig, SandboxError, SandboxId,
    SandboxStatus, SecurityTier, TierStatus,
};
use tokio::sync::OnceCell;

use crate::clock::Clock;
use crate::journal::{Change, Journal};

/// Whether a driver works on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverStatus {
    /// What it is called in settings.
    pub driver: String,
    /// The tier that it serves.
    pub tier: SecurityTier,
    /// Whether a command ran in a sandbox of its.
    pub available: bool,
    /// What is in force, or why it does not work and what to do about it.
    pub detail: String,
    /// What this host can't apply.
    pub degraded: Vec<String>,
}

/// Makes sandboxes and runs commands in them.
#[async_trait]
pub trait SandboxOrchestrator: Send + Sync {
    /// Makes a sandbox. It runs nothing until it is started.
    ///
    /// # Errors
    ///
    /// `TierUnavailable` when no driver serves the tier here, with what to install;
    /// `IsolationUnavailable` when a wall that was asked for can't be put up; `InvalidArgument`,
    /// `ImageMissing`, `CreateFailed`, `Timeout`, `ResourceLimit` when there are too many,
    /// `ShuttingDown`.
    async fn create_sandbox(&self, config: SandboxConfig) -> Result<SandboxId, SandboxError>;

    /// Starts it; returns once it answers.
    ///
    /// # Errors
    ///
    /// `NotFound`, `InvalidState`, `CreateFailed`, `Timeout`, `AgentLost`.
    async fn start_sandbox(&self, sandbox_id: SandboxId) -> Result<(), SandboxError>;

    /// Ends everything that runs in it.
    ///
    /// # Errors
    ///
    /// `NotFound`, `InvalidState`.
    async fn stop_sandbox(&self, sandbox_id: SandboxId) -> Result<(), SandboxError>;

    /// Removes it with all that is in it.
    ///
    /// # Errors
    ///
    /// `NotFound` when the id was never given out.
    async fn destroy_sandbox(&self, sandbox_id: SandboxId) -> Result<(), SandboxError>;

    /// How it is.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    async fn get_sandbox_status(
        &self,
        sandbox_id: SandboxId,
    ) -> Result<SandboxStatus, SandboxError>;

    /// Runs a command to its end, without a shell, bounded by the sandbox's `execution_timeout`.
    /// A command that exits with another code than 0, is killed at its deadline or writes too much
    /// is a result and no error.
    ///
    /// # Errors
    ///
    /// `NotFound`, `InvalidState`, `InvalidArgument`, `ExecFailed` when it can't be started,
    /// `AgentLost`.
    async fn execute_command(
        &self,
        sandbox_id: SandboxId,
        command: &str,
        args: Vec<String>,
    ) -> Result<CommandResult, SandboxError>;

    /// Copies a regular file of the host into the sandbox, whole or not at all.
    ///
    /// # Errors
    ///
    /// `NotFound`, `InvalidState`, `PathForbidden`, `NotRegular`, `TransferTooLarge`,
    /// `StorageFull`, `InvalidArgument` when the host's file can't be read, `AgentLost`.
    async fn upload_file(
        &self,
        sandbox_id: SandboxId,
        local_path: &str,
        remote_path: &str,
    ) -> Result<(), SandboxError>;

    /// Copies a regular file of the sandbox to the host, whole or not at all.
    ///
    /// # Errors
    ///
    /// As for [`SandboxOrchestrator::upload_file`].
    async fn download_file(
        &self,
        sandbox_id: SandboxId,
        remote_path: &str,
        local_path: &str,
    ) -> Result<(), SandboxError>;
}

/// What the runtime asks beside the reference's calls.
#[async_trait]
pub trait SandboxExt: SandboxOrchestrator {
    /// Makes a sandbox with more to say about it than its configuration has room for.
    ///
    /// # Errors
    ///
    /// As for [`SandboxOrchestrator::create_sandbox`].
    async fn create_with(
        &self,
        config: SandboxConfig,
        options: SandboxOptions,
    ) -> Result<SandboxId, SandboxError>;

    /// Runs a command with its own environment, input, directory, timeout and cap.
    ///
    /// # Errors
    ///
    /// As for [`SandboxOrchestrator::execute_command`].
    async fn execute(&self, id: SandboxId, command: Command)
    -> Result<CommandResult, SandboxError>;

    /// Starts a command whose streams are read and written while it runs. That it could not be
    /// executed shows in [`Process::wait`].
    ///
    /// # Errors
    ///
    /// `NotFound`, `InvalidState`, `InvalidArgument`, `ResourceLimit`, `AgentLost`.
    async fn spawn(&self, id: SandboxId, command: Command) -> Result<Process, SandboxError>;

    /// The content of a file of at most `max` bytes. No link is followed, and a file with several
    /// hard links is refused, so that what is allowed of a path is allowed of that file.
    ///
    /// That can't hold for a file's content: whoever may run `mv` or `cp` can give it another name,
    /// and a rule that is to keep a file from being read must be about those commands as well.
    ///
    /// # Errors
    ///
    /// As for [`SandboxOrchestrator::download_file`].
    async fn read_file(&self, id: SandboxId, path: &str, max: u64)
    -> Result<Vec<u8>, SandboxError>;

    /// Writes a file, and the directories above it that are missing.
    ///
    /// # Errors
    ///
    /// As for [`SandboxOrchestrator::upload_file`].
    async fn write_file(
        &self,
        id: SandboxId,
        path: &str,
        content: &[u8],
    ) -> Result<(), SandboxError>;

    /// What [`SandboxOrchestrator::upload_file`] does, for paths that are any bytes; how many bytes the
    /// file has.
    ///
    /// # Errors
    ///
    /// As for [`SandboxOrchestrator::upload_file`].
    async fn upload(&self, id: SandboxId, local: &Path, remote: &Path)
    -> Result<u64, SandboxError>;

    /// What [`SandboxOrchestrator::download_file`] does, in the same way.
    ///
    /// # Errors
    ///
    /// As for [`SandboxOrchestrator::download_file`].
    async fn download(
        &self,
        id: SandboxId,
        remote: &Path,
        local: &Path,
    ) -> Result<u64, SandboxError>;

    /// Copies a directory of the host into the sandbox, whole or not at all, to where nothing or an
    /// empty directory is. What can't be carried is left out and listed.
    ///
    /// # Errors
    ///
    /// As for [`SandboxOrchestrator::upload_file`].
    async fn upload_directory(
        &self,
        id: SandboxId,
        local: &Path,
        remote: &Path,
    ) -> Result<Transferred, SandboxError>;

    /// Copies a directory out of the sandbox, in the same way. No link is followed on either side.
    ///
    /// # Errors
    ///
    /// As for [`SandboxOrchestrator::download_file`].
    async fn download_directory(
        &self,
        id: SandboxId,
        remote: &Path,
        local: &Path,
    ) -> Result<Transferred, SandboxError>;

    /// What is in a directory.
    ///
    /// # Errors
    ///
    /// `NotFound`, `InvalidState`, `PathForbidden`, `AgentLost`.
    async fn list_dir(&self, id: SandboxId, path: &str) -> Result<Vec<DirEntry>, SandboxError>;

    /// What is at a path, if anything is.
    ///
    /// # Errors
    ///
    /// As for [`SandboxExt::list_dir`].
    async fn stat(&self, id: SandboxId, path: &Path) -> Result<Option<Stat>, SandboxError>;

    /// Removes a file.
    ///
    /// # Errors
    ///
    /// As for [`SandboxExt::list_dir`].
    async fn remove_file(&self, id: SandboxId, path: &str) -> Result<(), SandboxError>;

    /// Stops all that runs in it where it is; until it is resumed nothing can be run in it or copied.
    ///
    /// # Errors
    ///
    /// `NotFound`, `InvalidState`, `Unsupported` when this host can't.
    async fn pause(&self, id: SandboxId) -> Result<(), SandboxError>;

    /// Lets go on what was paused.
    ///
    /// # Errors
    ///
    /// As for [`SandboxExt::pause`].
    async fn resume(&self, id: SandboxId) -> Result<(), SandboxError>;

    /// What it uses, from the kernel.
    ///
    /// # Errors
    ///
    /// `NotFound`, `AgentLost`.
    async fn usage(&self, id: SandboxId) -> Result<SandboxUsage, SandboxError>;

    /// Which walls are really up.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    async fn isolation(&self, id: SandboxId) -> Result<IsolationReport, SandboxError>;

    /// Which tiers this host has, found out by trying.
    async fn tiers(&self) -> Vec<TierStatus>;

    /// Which drivers work on this host, found out by trying, and why the others do not.
    async fn drivers(&self) -> Vec<DriverStatus>;

    /// Destroys everything and takes nothing more. May be called twice.
    async fn shutdown(&self);
}

/// Settings of the sandbox orchestrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxOrchestratorConfig {
    /// Where it keeps what it must find again, a directory that is its user's alone and that one process
    /// at a time may have; `None` is one that processes share, `/run/user/UID/symbiont`, or
    /// `symbiont-UID` among the temporary files where the host has no such directory. What several
    /// processes of root must agree on is in `/run/symbiont` always.
    pub state_directory: Option<PathBuf>,
    /// Drivers that may be used, by name. One that this version does not have is refused.
    pub drivers: Vec<String>,
    /// Which of them serves Tier1.
    pub tier1: Tier1,
    /// The socket of the engine behind the docker driver; `None` is `/var/run/docker.sock`.
    pub engine_socket: Option<PathBuf>,
    /// Limits that a sandbox may be without where the host can't hold them. Without any other of
    /// them there is no sandbox.
    pub allow_degraded: Vec<Control>,
    /// Whether a virtual machine may be emulated in software where the host has no other.
    pub allow_emulation: bool,
    /// The most sandboxes at a time.
    pub max_sandboxes: usize,
    /// The most bytes kept of each output stream of a command.
    pub output_cap: usize,
}

impl Default for SandboxOrchestratorConfig {
    /// Every driver, every limit held, no emulation, 256 sandboxes, 1 MiB of output.
    fn default() -> Self {
        Self {
            state_directory: None,
            drivers: Kind::ALL.map(|kind| kind.name().to_owned()).into(),
            tier1: Tier1::Auto,
            engine_socket: None,
            allow_degraded: Vec::new(),
            allow_emulation: false,
            max_sandboxes: 256,
            output_cap: 1024 * 1024,
        }
    }
}

/// Which driver serves Tier1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tier1 {
    /// Docker for a sandbox whose files come from an image, the process driver for any other.
    #[default]
    Auto,
    /// Docker; a sandbox that names no root has a busybox.
    Docker,
    /// The process driver, which serves no images.
    Process,
}

/// The drivers of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Process,
    Docker,
    Gvisor,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Process, Self::Docker, Self::Gvisor];

    fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Docker => "docker",
            Self::Gvisor => "gvisor",
        }
    }
}

/// Which driver serves a tier and a root, if the settings allow one; otherwise why none does.
fn choose(
    tier: SecurityTier,
    tier1: Tier1,
    rootfs: &RootFilesystem,
    allowed: impl Fn(Kind) -> bool,
) -> Result<Kind, String> {
    let kind = match (tier, tier1) {
        (SecurityTier::Tier1, Tier1::Docker) => Kind::Docker,
        (SecurityTier::Tier1, Tier1::Process) => Kind::Process,
        (SecurityTier::Tier1, Tier1::Auto) => match rootfs {
            RootFilesystem::Image(_) => Kind::Docker,
            RootFilesystem::Host | RootFilesystem::Dir(_) => Kind::Process,
        },
        (SecurityTier::Tier2, _) => Kind::Gvisor,
        (SecurityTier::Tier3, _) => {
            return Err(
                "this version has no microVM driver yet; Tier1 (process, docker) and Tier2 \
                        (gvisor) are served: ask for Tier2, the stronger of them"
                    .to_owned(),
            );
        }
    };
    if allowed(kind) {
        return Ok(kind);
    }
    // A root that either can serve goes to the other one.
    if (kind, tier1, rootfs) == (Kind::Process, Tier1::Auto, &RootFilesystem::Host)
        && allowed(Kind::Docker)
    {
        return Ok(Kind::Docker);
    }
    Err(format!("the `{}` driver is switched off in the configuration", kind.name()))
}

/// The orchestrator over the drivers of this host.
#[derive(Debug)]
pub struct DefaultSandboxOrchestrator {
    max_sandboxes: usize,
    output_cap: usize,
    tier1: Tier1,
    allow_degraded: Vec<Control>,
    journal: Journal,
    state_directory: Option<PathBuf>,
    /// That the state directory is ours, until everything is destroyed.
    claim: Mutex<Option<Claim>>,
    engine_socket: Option<PathBuf>,
    drivers: Vec<Candidate>,
    sandboxes: Mutex<Boxes>,
}

/// A driver that the settings allow, made when it is first needed. One that could not be made is
/// tried again by whoever needs it next: an engine may have been started meanwhile.
#[derive(Debug)]
struct Candidate {
    kind: Kind,
    driver: OnceCell<Arc<dyn Driver>>,
    /// What trying it has shown, once it has worked.
    works: OnceCell<Probe>,
}

impl Candidate {
    /// Tries its driver, unless it has worked before.
    async fn probe(&self, driver: &Arc<dyn Driver>) -> Probe {
        if let Some(probe) = self.works.get() {
            return probe.clone();
        }
        let probe = driver.probe().await;
        if probe.available {
            let _somebody_was_faster = self.works.set(probe.clone());
        }
        probe
    }
}

#[derive(Debug, Default)]
struct Boxes {
    by_id: HashMap<SandboxId, Entry>,
    /// Sandboxes that are there or are being made.
    taken: usize,
    closed: bool,
}

impl Boxes {
    /// Takes a place for a sandbox, if there is one.
    fn take(&mut self, most: usize) -> Result<(), SandboxError> {
        if self.closed {
            return Err(SandboxError::ShuttingDown);
        }
        if self.taken >= most {
            // Some may have gone without anyone being told.
            let mut gone = 0;
            for entry in self.by_id.values_mut().filter(|entry| entry.placed) {
                if entry.sandbox.status() == SandboxStatus::Destroyed {
                    entry.placed = false;
                    gone += 1;
                }
            }
            self.taken -= gone;
        }
        if self.taken >= most {
            let kind = format!("sandboxes ({most}, see max_sandboxes)");
            return Err(SandboxError::ResourceLimit { kind });
        }
        self.taken += 1;
        Ok(())
    }

    /// Gives back the place of a sandbox that has been destroyed.
    fn give_back(&mut self, id: SandboxId) {
        if let Some(entry) = self.by_id.get_mut(&id)
            && std::mem::take(&mut entry.placed)
        {
            self.taken -= 1;
        }
    }
}

#[derive(Debug, Clone)]
struct Entry {
    sandbox: Arc<dyn Sandbox>,
    agent_id: AgentId,
    timeout: Duration,
    /// Whether it holds one of the places.
    placed: bool,
}

/// A place that was taken for a sandbox that is being made; it goes back unless it is kept.
struct Place<'a> {
    boxes: &'a Mutex<Boxes>,
    kept: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.boxes.lock().unwrap_or_else(PoisonError::into_inner).taken -= 1;
        }
    }
}

/// Ids of destroyed sandboxes that are remembered, so that destroying twice is fine.
const REMEMBERED: usize = 4096;

/// Builds a [`DefaultSandboxOrchestrator`].
#[derive(Debug)]
pub struct SandboxOrchestratorBuilder {
    config: SandboxOrchestratorConfig,
    journal: Journal,
}

impl DefaultSandboxOrchestrator {
    /// An orchestrator whose records stay in memory.
    ///
    /// A driver that can't be used here is no error: whoever asks for its tier is told why.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for settings that make no sense.
    pub async fn new(config: SandboxOrchestratorConfig) -> Result<Self, SandboxError> {
        Self::builder(config).build().await
    }

    /// An orchestrator over what [`SandboxOrchestratorBuilder::journal`] says.
    pub fn builder(config: SandboxOrchestratorConfig) -> SandboxOrchestratorBuilder {
        SandboxOrchestratorBuilder { config, journal: Journal::in_memory(Clock::system()) }
    }

    fn lock(&self) -> MutexGuard<'_, Boxes> {
        self.sandboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, id: SandboxId) -> Result<Entry, SandboxError> {
        let boxes = self.lock();
        boxes.by_id.get(&id).cloned().ok_or(SandboxError::NotFound { sandbox_id: id })
    }

    /// The driver for a tier and a root, made if it is not there.
    async fn driver(
        &self,
        tier: SecurityTier,
        rootfs: &RootFilesystem,
    ) -> Result<(&Candidate, &Arc<dyn Driver>), SandboxError> {
        let unserved = |reason: String| SandboxError::TierUnavailable { tier, reason };
        let candidate = |kind| self.drivers.iter().find(|candidate| candidate.kind == kind);
        let kind = choose(tier, self.tier1, rootfs, |kind| candidate(kind).is_some());
        let kind = kind.map_err(unserved)?;
        let candidate = candidate(kind).expect("what was chosen is allowed");
        let made = candidate.driver.get_or_try_init(|| self.make(kind)).await;
        made.map(|driver| (candidate, driver)).map_err(|error| match error {
            SandboxError::IsolationUnavailable { .. } => error,
            // What it says of itself is a part of the sentence here.
            SandboxError::BackendUnavailable { reason } => unserved(reason),
            other => unserved(other.to_string()),
        })
    }

    /// A driver; what dead processes have left is removed by it.
    async fn make(&self, kind: Kind) -> Result<Arc<dyn Driver>, SandboxError> {
        let state = self.state_directory.as_deref();
        let made: Result<Arc<dyn Driver>, SandboxError> = match kind {
            Kind::Process => ProcessDriver::new(state).map(|driver| Arc::new(driver) as _),
            Kind::Docker => {
                let driver = DockerDriver::new(state, self.engine_socket.clone()).await;
                driver.map(|driver| Arc::new(driver) as _)
            }
            Kind::Gvisor => {
                let driver = GvisorDriver::new(state, GvisorOptions::default()).await;
                driver.map(|driver| Arc::new(driver) as _)
            }
        };
        if let Err(error) = &made {
            tracing::warn!(driver = kind.name(), %error, "a driver can't be used");
        }
        made
    }

    /// Tries a driver out.
    async fn probe(&self, kind: Kind) -> DriverStatus {
        let tier = match kind {
            Kind::Process | Kind::Docker => SecurityTier::Tier1,
            Kind::Gvisor => SecurityTier::Tier2,
        };
        let status = |available, detail, degraded| DriverStatus {
            driver: kind.name().to_owned(),
            tier,
            available,
            detail,
            degraded,
        };
        let Some(candidate) = self.drivers.iter().find(|candidate| candidate.kind == kind) else {
            return status(false, "it is switched off in the configuration".to_owned(), Vec::new());
        };
        match candidate.driver.get_or_try_init(|| self.make(kind)).await {
            Ok(driver) => {
                let Probe { available, detail, degraded } = candidate.probe(driver).await;
                status(available, detail, degraded)
            }
            Err(SandboxError::BackendUnavailable { reason }) => status(false, reason, Vec::new()),
            Err(error) => status(false, error.to_string(), Vec::new()),
        }
    }

    async fn record(&self, change: Change) {
        // The sandbox itself is there or not whatever the trail says; a trail that can't be
        // written stops the run at its next step, where the failure is an answer to someone.
        if let Err(error) = self.journal.commit(change).await {
            tracing::error!(%error, "a sandbox event could not be recorded");
        }
    }
}

/// The walls of a sandbox in a line, for the trail.
fn walls(report: &IsolationReport) -> String {
    let mut parts = vec![
        format!("own {}", report.namespaces.join(" ")),
        report.user_mapping.clone(),
        report.limits.join(", "),
        format!("network {}", report.network),
        format!("root {}", report.rootfs),
    ];
    parts.extend(report.seccomp.clone());
    parts.extend(report.landlock.map(|version| format!("Landlock {version}")));
    if report.no_new_privileges {
        parts.push("no new privileges".to_owned());
    }
    if report.capabilities_dropped {
        parts.push("no capabilities".to_owned());
    }
    if !report.degraded.is_empty() {
        parts.push(format!("not applied here: {}", report.degraded.join(", ")));
    }
    parts.join("; ")
}

/// What is not in force, by name: what stands before the reasons.
fn degraded(report: &IsolationReport) -> String {
    let names = report.degraded.iter().map(|it| it.split(':').next().unwrap_or(it));
    names.collect::<Vec<_>>().join(", ")
}

impl SandboxOrchestratorBuilder {
    /// Uses `journal`.
    #[must_use]
    pub fn journal(self, journal: Journal) -> Self {
        Self { journal, ..self }
    }

    /// The orchestrator.
    ///
    /// What processes that were killed have left of their sandboxes is removed here. A driver that can't
    /// be used here is no error: whoever asks for its tier is told why.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for settings that make no sense, and when another process has the state
    /// directory.
    pub async fn build(self) -> Result<DefaultSandboxOrchestrator, SandboxError> {
        let invalid = |what: &str| Err(SandboxError::InvalidArgument { what: what.to_owned() });
        let SandboxOrchestratorConfig {
            state_directory,
            drivers,
            tier1,
            engine_socket,
            allow_degraded,
            allow_emulation,
            max_sandboxes,
            output_cap,
        } = self.config;
        if max_sandboxes == 0 || output_cap == 0 {
            return invalid("`max_sandboxes` and `output_cap` must be at least 1");
        }
        if allow_emulation {
            return invalid(
                "`allow_emulation` needs a microVM driver, which this version does not have yet",
            );
        }
        let known = |name: &String| Kind::ALL.into_iter().find(|kind| kind.name() == name);
        if let Some(unknown) = drivers.iter().find(|name| known(name).is_none()) {
            let what = format!(
                "no driver `{}` in this version: there are `{}`",
                unknown.escape_debug(),
                Kind::ALL.map(Kind::name).join("`, `")
            );
            return Err(SandboxError::InvalidArgument { what });
        }
        let claim = match state_directory.as_deref().map(Claim::take).transpose() {
            Ok(claim) => claim,
            Err(error @ SandboxError::InvalidArgument { .. }) => return Err(error),
            Err(error) => {
                // Drivers that need it say so to whoever needs them.
                tracing::warn!(%error, "the state directory can't be used");
                None
            }
        };
        match reap(state_directory.as_deref()).await {
            Ok(left) => {
                for what in left {
                    tracing::warn!(%what, "something of a process that has ended can't be removed");
                }
            }
            Err(error) => tracing::warn!(%error, "nobody could look for what others have left"),
        }
        let allowed = Kind::ALL.into_iter().filter(|kind| drivers.iter().any(|n| n == kind.name()));
        Ok(DefaultSandboxOrchestrator {
            max_sandboxes,
            output_cap,
            tier1,
            allow_degraded,
            journal: self.journal,
            state_directory,
            claim: Mutex::new(claim),
            engine_socket,
            drivers: allowed
                .map(|kind| Candidate { kind, driver: OnceCell::new(), works: OnceCell::new() })
                .collect(),
            sandboxes: Mutex::default(),
        })
    }
}

#[async_trait]
impl SandboxOrchestrator for DefaultSandboxOrchestrator {
    async fn create_sandbox(&self, config: SandboxConfig) -> Result<SandboxId, SandboxError> {
        self.create_with(config, SandboxOptions::default()).await
    }
    async fn start_sandbox(&self, sandbox_id: SandboxId) -> Result<(), SandboxError> {
        let entry = self.entry(sandbox_id)?;
        entry.sandbox.start().await?;
        let report = entry.sandbox.report();
        let event = self
            .journal
            .event(AuditEventType::SecurityEvent, "sandbox.started")
            .agent(entry.agent_id)
            .with("sandbox", sandbox_id)
            .with("degraded", degraded(&report))
            .details(walls(&report));
        self.record(Change::new().record(event)).await;
        Ok(())
    }

    async fn stop_sandbox(&self, sandbox_id: SandboxId) -> Result<(), SandboxError> {
        self.entry(sandbox_id)?.sandbox.stop().await
    }

    async fn destroy_sandbox(&self, sandbox_id: SandboxId) -> Result<(), SandboxError> {
        let entry = self.entry(sandbox_id)?;
        if entry.sandbox.status() == SandboxStatus::Destroyed {
            self.lock().give_back(sandbox_id);
            return Ok(());
        }
        entry.sandbox.destroy().await?;
        self.lock().give_back(sandbox_id);
        let event = self
            .journal
            .event(AuditEventType::SecurityEvent, "sandbox.destroyed")
            .agent(entry.agent_id)
            .with("sandbox", sandbox_id);
        self.record(Change::new().record(event)).await;
        let mut boxes = self.lock();
        if boxes.by_id.len() > REMEMBERED {
            boxes.by_id.retain(|_, entry| entry.sandbox.status() != SandboxStatus::Destroyed);
        }
        Ok(())
    }

    async fn get_sandbox_status(
        &self,
        sandbox_id: SandboxId,
    ) -> Result<SandboxStatus, SandboxError> {
        Ok(self.entry(sandbox_id)?.sandbox.status())
    }

    async fn execute_command(
        &self,
        sandbox_id: SandboxId,
        command: &str,
        args: Vec<String>,
    ) -> Result<CommandResult, SandboxError> {
        let timeout = self.entry(sandbox_id)?.timeout;
        let command =
            Command { timeout, output_cap: self.output_cap, ..Command::new(command).args(args) };
        self.execute(sandbox_id, command).await
    }

    async fn upload_file(
        &self,
        sandbox_id: SandboxId,
        local_path: &str,
        remote_path: &str,
    ) -> Result<(), SandboxError> {
        let sandbox = self.entry(sandbox_id)?.sandbox;
        sandbox.upload(local_path.as_ref(), remote_path.as_ref()).await.map(drop)
    }

    async fn download_file(
        &self,
        sandbox_id: SandboxId,
        remote_path: &str,
        local_path: &str,
    ) -> Result<(), SandboxError> {
        let sandbox = self.entry(sandbox_id)?.sandbox;
        sandbox.download(remote_path.as_ref(), local_path.as_ref()).await.map(drop)
    }
}

#[async_trait]
impl SandboxExt for DefaultSandboxOrchestrator {
    async fn create_with(
        &self,
        config: SandboxConfig,
        options: SandboxOptions,
    ) -> Result<SandboxId, SandboxError> {
        let rootfs = &config.filesystem_config.rootfs;
        let driver = Arc::clone(self.driver(config.security_tier, rootfs).await?.1);
        let mut options = options;
        options.allow_degraded.extend(&self.allow_degraded);
        self.lock().take(self.max_sandboxes)?;
        let mut place = Place { boxes: &self.sandboxes, kept: false };
        let id = SandboxId::new();
        let made = driver.create_with(id, &config, &options).await;
        let mut late = None;
        let outcome = match made {
            Err(error) => Err(error),
            Ok(sandbox) => {
                let mut boxes = self.lock();
                if boxes.closed {
                    late = Some(sandbox);
                    Err(SandboxError::ShuttingDown)
                } else {
                    let timeout = config.resource_limits.execution_timeout;
                    let agent_id = config.agent_id;
                    let entry = Entry { sandbox, agent_id, timeout, placed: true };
                    boxes.by_id.insert(id, entry);
                    place.kept = true;
                    Ok(id)
                }
            }
        };
        drop(place);
        if let Some(sandbox) = late {
            sandbox.destroy().await?;
        }
        let entry = self.journal.event(AuditEventType::SecurityEvent, "sandbox.created");
        let entry = entry.agent(config.agent_id).with("sandbox", id).with("driver", driver.name());
        match &outcome {
            Ok(_) => {
                let entry = entry.details(format!(
                    "{} by the {} driver",
                    config.security_tier,
                    driver.name()
                ));
                self.record(Change::new().record(entry)).await;
            }
            Err(error) => {
                let entry = entry.with("failed", "true").details(error.to_string());
                self.record(Change::new().record(entry)).await;
            }
        }
        outcome
    }

    async fn execute(
        &self,
        id: SandboxId,
        command: Command,
    ) -> Result<CommandResult, SandboxError> {
        let entry = self.entry(id)?;
        let output_cap = command.output_cap.min(self.output_cap);
        let timeout = command.timeout.min(entry.timeout);
        entry.sandbox.exec(Command { output_cap, timeout, ..command }).await
    }

    async fn spawn(&self, id: SandboxId, command: Command) -> Result<Process, SandboxError> {
        let entry = self.entry(id)?;
        let timeout = command.timeout.min(entry.timeout);
        entry.sandbox.spawn(Command { timeout, ..command }).await
    }

    async fn read_file(
        &self,
        id: SandboxId,
        path: &str,
        max: u64,
    ) -> Result<Vec<u8>, SandboxError> {
        self.entry(id)?.sandbox.read_file(path, max).await
    }

    async fn write_file(
        &self,
        id: SandboxId,
        path: &str,
        content: &[u8],
    ) -> Result<(), SandboxError> {
        self.entry(id)?.sandbox.write_file(path, content, 0o644).await
    }

    async fn upload(
        &self,
        id: SandboxId,
        local: &Path,
        remote: &Path,
    ) -> Result<u64, SandboxError> {
        self.entry(id)?.sandbox.upload(local, remote).await
    }

    async fn download(
        &self,
        id: SandboxId,
        remote: &Path,
        local: &Path,
    ) -> Result<u64, SandboxError> {
        self.entry(id)?.sandbox.download(remote, local).await
    }

    async fn upload_directory(
        &self,
        id: SandboxId,
        local: &Path,
        remote: &Path,
    ) -> Result<Transferred, SandboxError> {
        self.entry(id)?.sandbox.upload_directory(local, remote).await
    }

    async fn download_directory(
        &self,
        id: SandboxId,
        remote: &Path,
        local: &Path,
    ) -> Result<Transferred, SandboxError> {
        self.entry(id)?.sandbox.download_directory(remote, local).await
    }

    async fn list_dir(&self, id: SandboxId, path: &str) -> Result<Vec<DirEntry>, SandboxError> {
        self.entry(id)?.sandbox.list(path).await
    }

    async fn stat(&self, id: SandboxId, path: &Path) -> Result<Option<Stat>, SandboxError> {
        self.entry(id)?.sandbox.stat(path).await
    }

    async fn remove_file(&self, id: SandboxId, path: &str) -> Result<(), SandboxError> {
        self.entry(id)?.sandbox.remove(path).await
    }

    async fn pause(&self, id: SandboxId) -> Result<(), SandboxError> {
        self.entry(id)?.sandbox.pause().await
    }

    async fn resume(&self, id: SandboxId) -> Result<(), SandboxError> {
        self.entry(id)?.sandbox.resume().await
    }

    async fn usage(&self, id: SandboxId) -> Result<SandboxUsage, SandboxError> {
        self.entry(id)?.sandbox.usage().await
    }

    async fn isolation(&self, id: SandboxId) -> Result<IsolationReport, SandboxError> {
        Ok(self.entry(id)?.sandbox.report())
    }

    async fn tiers(&self) -> Vec<TierStatus> {
        let mut tiers = Vec::new();
        for tier in SecurityTier::ALL {
            tiers.push(match self.driver(tier, &RootFilesystem::Host).await {
                Err(error) => {
                    let detail = match error {
                        SandboxError::TierUnavailable { reason, .. } => reason,
                        other => other.to_string(),
                    };
                    TierStatus { tier, driver: None, detail }
                }
                Ok((candidate, driver)) => {
                    let Probe { available, mut detail, degraded } = candidate.probe(driver).await;
                    if !degraded.is_empty() {
                        detail = format!("{detail}; not applied here: {}", degraded.join("; "));
                    }
                    let driver = available.then(|| driver.name().to_owned());
                    TierStatus { tier, driver, detail }
                }
            });
        }
        tiers
    }

    async fn drivers(&self) -> Vec<DriverStatus> {
        let mut all = Vec::new();
        for kind in Kind::ALL {
            all.push(self.probe(kind).await);
        }
        all
    }

    async fn shutdown(&self) {
        let entries: Vec<(SandboxId, Entry)> = {
            let mut boxes = self.lock();
            boxes.closed = true;
            boxes.by_id.iter().map(|(id, entry)| (*id, entry.clone())).collect()
        };
        for (id, _) in entries {
            if let Err(error) = self.destroy_sandbox(id).await {
                tracing::error!(sandbox_id = %id, %error, "a sandbox could not be destroyed");
            }
        }
        self.claim.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tier_and_root_has_its_driver() {
        use RootFilesystem::{Dir, Host, Image};
        use SecurityTier::{Tier1 as T1, Tier2 as T2, Tier3 as T3};
        let image = || Image("x".to_owned());
        let dir = || Dir("/x".into());
        let all = &Kind::ALL[..];
        let only = |kind: Kind| vec![kind];
        let (no_process, no_docker) = ([Kind::Docker, Kind::Gvisor], [Kind::Process, Kind::Gvisor]);
        for (tier, tier1, rootfs, allowed, want) in [
            (T1, Tier1::Auto, Host, all, "process"),
            (T1, Tier1::Auto, dir(), all, "process"),
            (T1, Tier1::Auto, image(), all, "docker"),
            (T1, Tier1::Docker, Host, all, "docker"),
            (T1, Tier1::Process, image(), all, "process"),
            (T2, Tier1::Docker, Host, all, "gvisor"),
            (T3, Tier1::Auto, Host, all, "! this version has no microVM driver"),
            (T1, Tier1::Auto, Host, &no_process[..], "docker"),
            (T1, Tier1::Auto, dir(), &no_process[..], "! the `process` driver is switched off"),
            (T1, Tier1::Process, Host, &no_process[..], "! the `process` driver is switched off"),
            (T1, Tier1::Auto, image(), &no_docker[..], "! the `docker` driver is switched off"),
            (T2, Tier1::Auto, Host, &only(Kind::Process)[..], "! the `gvisor` driver is switched"),
            (T1, Tier1::Auto, Host, &only(Kind::Gvisor)[..], "! the `process` driver is switched"),
        ] {
            let chosen = choose(tier, tier1, &rootfs, |kind| allowed.contains(&kind));
            let got = chosen.map_or_else(|why| format!("! {why}"), |kind| kind.name().to_owned());
            assert!(got.starts_with(want), "{tier} {tier1:?} {rootfs:?} {allowed:?}: {got}");
        }
    }
}
