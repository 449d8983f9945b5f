//! The runtime: all eight components, built, joined and shut down.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use symbiont_store::{SqliteReader, StoreError};
use symbiont_types::{
    AgentInstance, AgentState, AuditEvent, AuditEventType, ComponentStatus, ConfigurationError,
    Health, Phase, RuntimeError, SystemStatus,
};
use tokio::sync::broadcast;
use tokio::time::Instant;

use crate::audit::{AuditTrailConfig, DefaultAuditTrail};
use crate::bus::{CommunicationBus, CommunicationConfig, DefaultCommunicationBus};
use crate::clock::Clock;
use crate::directory::{Directory, Supervisor};
use crate::error_handler::{DefaultErrorHandler, ErrorHandler, ErrorHandlerConfig};
use crate::http::{DefaultHttpClient, HttpClient, HttpConfig};
use crate::journal::{Change, Journal};
use crate::lifecycle::{DefaultLifecycleController, LifecycleConfig, LifecycleController};
use crate::policy::{DefaultPolicyEngine, PolicyEngineConfig, PolicyGate, Profile};
use crate::resources::{DefaultResourceManager, ResourceManager, ResourceManagerConfig};
use crate::sandbox::{DefaultSandboxOrchestrator, SandboxExt, SandboxOrchestratorConfig};
use crate::scheduler::{DefaultScheduler, Scheduler, SchedulerConfig};
use symbiont_dsl::tools::Tools;

/// Settings of a runtime.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// Where everything is kept; `None` keeps it in memory for as long as the process lives.
    pub data_dir: Option<PathBuf>,
    /// What happens to what no policy speaks of. In production that is denied, `agent.start`
    /// included.
    pub profile: Profile,
    /// Where the time of day comes from.
    pub clock: Clock,
    /// Of the lifecycle controller.
    pub lifecycle: LifecycleConfig,
    /// Of the resource manager.
    pub resources: ResourceManagerConfig,
    /// Of the scheduler.
    pub scheduler: SchedulerConfig,
    /// Of the bus.
    pub bus: CommunicationConfig,
    /// Of the error handler.
    pub errors: ErrorHandlerConfig,
    /// Of the policy engine; its profile is the one above.
    pub policy: PolicyEngineConfig,
    /// Of the sandbox orchestrator.
    pub sandbox: SandboxOrchestratorConfig,
    /// Of the audit trail.
    pub audit: AuditTrailConfig,
    /// What agents may call by name, such as [`load_tools`](crate::load_tools) finds in a folder.
    pub tools: Tools,
    /// Of requests over HTTP.
    pub http: HttpConfig,
}

impl Default for RuntimeConfig {
    /// In memory, in production, without tools, everything else as its component has it.
    fn default() -> Self {
        Self {
            data_dir: None,
            profile: Profile::Production,
            clock: Clock::system(),
            lifecycle: LifecycleConfig::default(),
            resources: ResourceManagerConfig::default(),
            scheduler: SchedulerConfig::default(),
            bus: CommunicationConfig::default(),
            errors: ErrorHandlerConfig::default(),
            policy: PolicyEngineConfig::default(),
            sandbox: SandboxOrchestratorConfig::default(),
            audit: AuditTrailConfig::default(),
            tools: Tools::default(),
            http: HttpConfig::default(),
        }
    }
}

/// All eight components, joined by a directory and a journal of their own.
#[derive(Debug)]
pub struct Runtime {
    journal: Journal,
    lifecycle: Arc<DefaultLifecycleController>,
    resources: Arc<DefaultResourceManager>,
    scheduler: Arc<DefaultScheduler>,
    bus: Arc<DefaultCommunicationBus>,
    errors: Arc<DefaultErrorHandler>,
    policy: Arc<DefaultPolicyEngine>,
    sandbox: Arc<DefaultSandboxOrchestrator>,
    audit: Arc<DefaultAuditTrail>,
    started_at: SystemTime,
}

impl Runtime {
    /// Builds all components and joins them. With a data directory, everything that was accepted
    /// there before is there again.
    ///
    /// # Errors
    ///
    /// `Configuration` when the directory can't be used or another process holds it, and whatever
    /// the components say of their settings.
    pub async fn open(config: RuntimeConfig) -> Result<Self, RuntimeError> {
        let clock = config.clock;
        let journal = match &config.data_dir {
            None => Journal::in_memory(clock),
            Some(directory) => {
                let directory = directory.clone();
                let opened = tokio::task::spawn_blocking(move || Journal::open(&directory, clock));
                opened
                    .await
                    .map_err(|error| RuntimeError::Internal(error.to_string()))?
                    .map_err(|error| unusable(config.data_dir.as_deref(), &error))?
            }
        };
        let directory = Directory::new();
        let policy = PolicyEngineConfig { profile: config.profile, ..config.policy };
        let policy = DefaultPolicyEngine::builder(policy).journal(journal.clone()).build().await?;
        let policy = Arc::new(policy);
        let audit = DefaultAuditTrail::builder(config.audit).journal(journal.clone()).build()?;
        let sandbox = SandboxOrchestratorConfig {
            state_directory: config
                .sandbox
                .state_directory
                .or_else(|| config.data_dir.as_ref().map(|data| data.join("sandbox"))),
            ..config.sandbox
        };
        let sandbox =
            DefaultSandboxOrchestrator::builder(sandbox).journal(journal.clone()).build().await?;
        let sandbox = Arc::new(sandbox);
        let resources = DefaultResourceManager::builder(config.resources)
            .directory(Arc::clone(&directory))
            .journal(journal.clone());
        let resources = match &config.data_dir {
            Some(data) => resources.data(data),
            None => resources,
        };
        let resources = Arc::new(resources.build().await?);
        let bus = DefaultCommunicationBus::builder(config.bus)
            .directory(Arc::clone(&directory))
            .journal(journal.clone());
        let bus = match &config.data_dir {
            Some(data) => bus.keystore(data.join("keystore.key")),
            None => bus,
        };
        let bus = Arc::new(bus.build().await?);
        let restart_window = config.errors.error_aggregation_window;
        let errors = DefaultErrorHandler::builder(config.errors)
            .directory(Arc::clone(&directory))
            .journal(journal.clone())
            .build()
            .await?;
        let errors = Arc::new(errors);
        let http: Arc<dyn HttpClient> = Arc::new(DefaultHttpClient::new(config.http)?);
        let profile = match config.profile {
            Profile::Production => "production",
            Profile::Dev => "dev",
        };
        let lifecycle = DefaultLifecycleController::builder(config.lifecycle)
            .directory(Arc::clone(&directory))
            .journal(journal.clone())
            .policy(Arc::clone(&policy) as Arc<dyn PolicyGate>, profile)
            .sandbox(Arc::clone(&sandbox) as Arc<dyn SandboxExt>)
            .bus(Arc::clone(&bus) as Arc<dyn CommunicationBus>)
            .resources(Arc::clone(&resources) as Arc<dyn ResourceManager>)
            .supervisor(Arc::clone(&errors) as Arc<dyn Supervisor>, restart_window)
            .tools(config.tools)
            .http(http)
            .build()
            .await?;
        // The scheduler comes last: what it finds waiting may run at once.
        let scheduler = DefaultScheduler::builder(config.scheduler)
            .directory(directory)
            .journal(journal.clone())
            .build()
            .await?;
        let started_at = journal.now();
        Ok(Self {
            journal,
            lifecycle: Arc::new(lifecycle),
            resources,
            scheduler: Arc::new(scheduler),
            bus,
            errors,
            policy,
            sandbox,
            audit: Arc::new(audit),
            started_at,
        })
    }

    /// The lifecycle controller.
    pub fn lifecycle(&self) -> &Arc<DefaultLifecycleController> {
        &self.lifecycle
    }

    /// The resource manager.
    pub fn resources(&self) -> &Arc<DefaultResourceManager> {
        &self.resources
    }

    /// The scheduler.
    pub fn scheduler(&self) -> &Arc<DefaultScheduler> {
        &self.scheduler
    }

    /// The communication bus.
    pub fn bus(&self) -> &Arc<DefaultCommunicationBus> {
        &self.bus
    }

    /// The error handler.
    pub fn errors(&self) -> &Arc<DefaultErrorHandler> {
        &self.errors
    }

    /// The policy engine.
    pub fn policy(&self) -> &Arc<DefaultPolicyEngine> {
        &self.policy
    }

    /// The sandbox orchestrator.
    pub fn sandbox(&self) -> &Arc<DefaultSandboxOrchestrator> {
        &self.sandbox
    }

    /// The audit trail.
    pub fn audit(&self) -> &Arc<DefaultAuditTrail> {
        &self.audit
    }

    /// Everything that is recorded from now on, as it is recorded.
    pub fn watch(&self) -> broadcast::Receiver<Arc<AuditEvent>> {
        self.journal.watch()
    }

    /// How the runtime as a whole is: what each component knows, gathered.
    pub async fn status(&self) -> SystemStatus {
        let mut status = self.lifecycle.get_system_status().await;
        let metrics = self.scheduler.get_scheduler_metrics().await;
        status.tasks_pending = Some(metrics.pending.total() + metrics.delayed.total());
        status.tasks_running = Some(metrics.running.total());
        status.messages_pending = Some(self.bus.pending());
        status.messages_dead = Some(self.bus.dead_letters().len());
        let errors = self.errors.get_system_error_stats().await;
        status.breakers_open = Some(errors.breakers_open);
        status.audit_head.last_verified = self.audit.last_verified();
        let stopped = status.phase == Phase::Stopped;
        let health = |is_well: bool| match (stopped, is_well) {
            (true, _) => Health::Unhealthy,
            (false, true) => Health::Healthy,
            (false, false) => Health::Degraded,
        };
        let component = |name: &str, is_well: bool, detail: String| ComponentStatus {
            name: name.to_owned(),
            health: health(is_well),
            since: self.started_at,
            detail,
        };
        // Everything that changes is recorded: without the store nobody does any work.
        let records = !status.storage.backend.is_empty();
        let served = status.tiers.iter().filter(|tier| tier.driver.is_some()).count();
        let unknown = status.resources.as_ref().map_or(0, |resources| resources.degraded.len());
        let ended = metrics.completed + metrics.failed + metrics.timed_out + metrics.cancelled;
        let breakers = errors.breakers_open;
        #[rustfmt::skip]
        let components = vec![
            component("lifecycle", status.warnings.is_empty(), format!("{} agents", status.agents_total)),
            component("resources", records && unknown == 0, format!("{unknown} things are not measured or held to limits here")),
            component("scheduler", records, format!("{} tasks ended", ended + metrics.unknown)),
            component("bus", records, format!("{} messages wait", self.bus.pending())),
            component("errors", records && breakers == 0, format!("{breakers} breakers open")),
            component("policy", records, self.policy.digest()),
            component("sandbox", served > 0, format!("{served} of {} tiers are served here", status.tiers.len())),
            component("audit", records, format!("{} records", status.audit_head.sequence)),
        ];
        status.components = components;
        status
    }

    /// Closes everything in an order that leaves no one working for someone already gone, and
    /// returns what did not go well. Agents are not terminated: they are there again when the
    /// directory is opened. It takes at most 30 seconds; what is still under way then is cut off, as
    /// if the process had died. Again is fine.
    pub async fn shutdown(&self) -> Vec<RuntimeError> {
        let mut closing = Closing { deadline: Instant::now() + DRAIN, failed: Vec::new() };
        // Intake first: nothing begins any more, and what runs comes to its next step.
        self.lifecycle.close();
        closing.step("scheduler", self.scheduler.shutdown()).await;
        closing.step("error handler", self.errors.shutdown()).await;
        closing.step("lifecycle controller", self.lifecycle.shutdown()).await;
        closing.step("bus", self.bus.shutdown()).await;
        // What belongs to the kernel is taken down whatever happened before.
        self.sandbox.shutdown().await;
        closing.step("resource manager", self.resources.shutdown()).await;
        let mut failed = closing.failed;
        let parked = self.parked().await;
        let entry =
            self.journal.event(AuditEventType::SecurityEvent, "runtime.stopped").details(parked);
        match self.journal.commit(Change::new().record(entry)).await {
            Ok(_) | Err(StoreError::Closed) => {}
            Err(error) => failed.push(RuntimeError::Internal(error.to_string())),
        }
        if let Err(error) = self.journal.store().close().await {
            failed.push(RuntimeError::Internal(error.to_string()));
        }
        failed
    }

    /// What waits for the next start, in words.
    async fn parked(&self) -> String {
        let metrics = self.scheduler.get_scheduler_metrics().await;
        let tasks = metrics.pending.total() + metrics.delayed.total() + metrics.running.total();
        let agents = self.lifecycle.list_agents().await;
        let alive = |agent: &&AgentInstance| agent.state != AgentState::Terminated;
        format!(
            "{} agents, {tasks} tasks and {} messages wait for the next start",
            agents.iter().filter(alive).count(),
            self.bus.pending()
        )
    }
}

/// How long a shutdown takes at most.
const DRAIN: Duration = Duration::from_secs(30);

/// A shutdown under way: each step has what is left of the time, and the next one follows whatever
/// the last one said.
struct Closing {
    deadline: Instant,
    failed: Vec<RuntimeError>,
}

impl Closing {
    async fn step<E: Into<RuntimeError>>(
        &mut self,
        name: &str,
        shutdown: impl Future<Output = Result<(), E>>,
    ) {
        match tokio::time::timeout_at(self.deadline, shutdown).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.failed.push(error.into()),
            Err(_) => self.failed.push(RuntimeError::Internal(format!(
                "the {name} had not come to an end after {DRAIN:?}, and was left"
            ))),
        }
    }
}

/// The audit trail of a data directory, for reading, while another process may hold it.
///
/// # Errors
///
/// `Configuration` when it can't be read: `Missing`, with the directory, when there is none.
pub async fn open_trail(directory: &Path) -> Result<DefaultAuditTrail, RuntimeError> {
    let path = directory.to_owned();
    let opened = tokio::task::spawn_blocking(move || SqliteReader::open(&path));
    let reader = opened
        .await
        .map_err(|error| RuntimeError::Internal(error.to_string()))?
        .map_err(|error| unusable(Some(directory), &error))?;
    let journal = Journal::reading(Arc::new(reader), Clock::system());
    Ok(DefaultAuditTrail::builder(AuditTrailConfig::default()).journal(journal).build()?)
}

fn unusable(directory: Option<&Path>, error: &StoreError) -> RuntimeError {
    let path = directory.map(|path| path.display().to_string()).unwrap_or_default();
    if let StoreError::NotThere { path } = error {
        return ConfigurationError::Missing { key: path.clone() }.into();
    }
    ConfigurationError::Io { path, reason: error.to_string() }.into()
}
