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

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
pub use symbiont_sandbox::{
    Command, DirEntry, IsolationReport, Process, ProcessInput, ProcessOutput, SandboxUsage, Stat,
    TerminalSize,
};
use symbiont_sandbox::{Driver, Probe, ProcessDriver, Sandbox};
use symbiont_types::{
    AgentId, AuditEventType, CommandResult, SandboxConfig, SandboxError, SandboxId, SandboxStatus,
    SecurityTier, TierStatus,
};

use crate::clock::Clock;
use crate::journal::{Change, Journal};

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
    async fn stat(&self, id: SandboxId, path: &str) -> Result<Option<Stat>, SandboxError>;

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
    /// `NotFound`, `InvalidState`, `BackendUnavailable` when this host can't.
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

    /// Destroys everything and takes nothing more. May be called twice.
    async fn shutdown(&self);
}

/// Settings of the sandbox orchestrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxOrchestratorConfig {
    /// Where it keeps what it must find again, a directory that is its user's alone; `None` is
    /// `/run/user/UID/symbiont`, or `symbiont-UID` among the temporary files where the host has no
    /// such directory. Root's is always `/run/symbiont`.
    pub state_directory: Option<PathBuf>,
    /// Drivers that may be used, by name. One that this version does not have is refused.
    pub drivers: Vec<String>,
    /// Whether a virtual machine may be emulated in software where the host has no other.
    pub allow_emulation: bool,
    /// The most sandboxes at a time.
    pub max_sandboxes: usize,
    /// The most bytes kept of each output stream of a command.
    pub output_cap: usize,
}

impl Default for SandboxOrchestratorConfig {
    /// The process driver, no emulation, 256 sandboxes, 1 MiB of output.
    fn default() -> Self {
        Self {
            state_directory: None,
            drivers: vec!["process".to_owned()],
            allow_emulation: false,
            max_sandboxes: 256,
            output_cap: 1024 * 1024,
        }
    }
}

/// The orchestrator over the drivers of this host.
#[derive(Debug)]
pub struct DefaultSandboxOrchestrator {
    max_sandboxes: usize,
    output_cap: usize,
    journal: Journal,
    drivers: Vec<Candidate>,
    sandboxes: Mutex<Boxes>,
}

/// A driver that the settings allow, or why it can't be used here.
#[derive(Debug)]
struct Candidate {
    tier: SecurityTier,
    driver: Result<Arc<dyn Driver>, SandboxError>,
}

impl Candidate {
    /// The driver, or the refusal of its tier.
    fn driver(&self) -> Result<&Arc<dyn Driver>, SandboxError> {
        self.driver.as_ref().map_err(|error| match error {
            SandboxError::IsolationUnavailable { .. } => error.clone(),
            other => SandboxError::TierUnavailable { tier: self.tier, reason: other.to_string() },
        })
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
        Self::builder(config).build()
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

    fn driver(&self, tier: SecurityTier) -> Result<&Arc<dyn Driver>, SandboxError> {
        match self.drivers.iter().find(|candidate| candidate.tier == tier) {
            Some(candidate) => candidate.driver(),
            None => Err(SandboxError::TierUnavailable { tier, reason: unserved(tier).to_owned() }),
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

/// Why a tier without a driver is not served.
fn unserved(tier: SecurityTier) -> &'static str {
    match tier {
        SecurityTier::Tier1 => "the `process` driver is switched off in the configuration",
        SecurityTier::Tier2 => {
            "this version has no gVisor driver yet; only Tier1 (the process driver) is served"
        }
        SecurityTier::Tier3 => {
            "this version has no microVM driver yet; only Tier1 (the process driver) is served"
        }
    }
}

impl SandboxOrchestratorBuilder {
    /// Uses `journal`.
    #[must_use]
    pub fn journal(self, journal: Journal) -> Self {
        Self { journal, ..self }
    }

    /// The orchestrator.
    ///
    /// A driver that can't be used here is no error: whoever asks for its tier is told why.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for settings that make no sense.
    pub fn build(self) -> Result<DefaultSandboxOrchestrator, SandboxError> {
        let invalid = |what: &str| Err(SandboxError::InvalidArgument { what: what.to_owned() });
        let SandboxOrchestratorConfig {
            state_directory,
            drivers,
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
        if let Some(unknown) = drivers.iter().find(|name| *name != "process") {
            let what = format!(
                "no driver `{}` in this version: there is `process`",
                unknown.escape_debug()
            );
            return Err(SandboxError::InvalidArgument { what });
        }
        let drivers = if drivers.is_empty() {
            Vec::new()
        } else {
            let driver = ProcessDriver::new(state_directory.as_deref());
            let driver = driver.map(|driver| Arc::new(driver) as Arc<dyn Driver>);
            if let Err(error) = &driver {
                tracing::warn!(%error, "the process driver can't be used");
            }
            vec![Candidate { tier: SecurityTier::Tier1, driver }]
        };
        Ok(DefaultSandboxOrchestrator {
            max_sandboxes,
            output_cap,
            journal: self.journal,
            drivers,
            sandboxes: Mutex::default(),
        })
    }
}

#[async_trait]
impl SandboxOrchestrator for DefaultSandboxOrchestrator {
    async fn create_sandbox(&self, config: SandboxConfig) -> Result<SandboxId, SandboxError> {
        let driver = Arc::clone(self.driver(config.security_tier)?);
        self.lock().take(self.max_sandboxes)?;
        let mut place = Place { boxes: &self.sandboxes, kept: false };
        let id = SandboxId::new();
        let made = driver.create(id, &config).await;
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
        sandbox.upload(Path::new(local_path), remote_path).await.map(|_| ())
    }

    async fn download_file(
        &self,
        sandbox_id: SandboxId,
        remote_path: &str,
        local_path: &str,
    ) -> Result<(), SandboxError> {
        let sandbox = self.entry(sandbox_id)?.sandbox;
        sandbox.download(remote_path, Path::new(local_path)).await.map(|_| ())
    }
}

#[async_trait]
impl SandboxExt for DefaultSandboxOrchestrator {
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

    async fn list_dir(&self, id: SandboxId, path: &str) -> Result<Vec<DirEntry>, SandboxError> {
        self.entry(id)?.sandbox.list(path).await
    }

    async fn stat(&self, id: SandboxId, path: &str) -> Result<Option<Stat>, SandboxError> {
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
            tiers.push(match self.driver(tier) {
                Err(error) => {
                    let detail = match error {
                        SandboxError::TierUnavailable { reason, .. } => reason,
                        other => other.to_string(),
                    };
                    TierStatus { tier, driver: None, detail }
                }
                Ok(driver) => {
                    let Probe { available, mut detail, degraded } = driver.probe().await;
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
    }
}
