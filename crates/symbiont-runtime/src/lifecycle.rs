//! The lifecycle controller: the life of every agent, from its creation to its end.
//!
//! # What holds
//!
//! - A call returns when its change is recorded; changes of one agent happen one at a time.
//! - [`machine::transition`] is the only thing that moves an agent from state to state.
//! - At most `max_agents` agents are alive, whoever creates them at the same moment.
//! - One run of an agent at a time. What a caller began is finished although it stops waiting.
//!
//! # What is not here
//!
//! How a program is evaluated and what its host calls do: that is [`crate::run`]'s. An interrupted
//! run is not replayed after a crash yet; its agent is found failed, and says so.

mod births;
pub(crate) mod config;
mod ends;
pub(crate) mod fleet;
pub(crate) mod machine;
mod port;
mod restore;
mod runs;
mod status;
mod stored;
mod update;
mod watch;

use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use symbiont_dsl::machine::Machine;
use symbiont_dsl::tools::Tools;
use symbiont_store::StoreError;
use symbiont_types::{
    AgentConfig, AgentId, AgentInstance, AgentState, AuditEventType, LifecycleError, SystemStatus,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::fleet::{Fleet, Member};
use self::machine::{Event, transition};
use self::runs::Work;
use crate::bus::CommunicationBus;
use crate::clock::{Clock, FAR, micros};
use crate::directory::{AttemptOutcome, Directory, Supervisor};
use crate::http::HttpClient;
use crate::journal::{AGENTS, Change, Entry, Journal};
use crate::policy::PolicyGate;
use crate::resources::ResourceManager;
use crate::run::{Blocking, Cause, Input, Programs, RunReport, Services, Wish};
use crate::sandbox::SandboxExt;
use crate::tasks::{Leash, Tasks};

/// Leads agents through their lives.
#[async_trait]
pub trait LifecycleController: Send + Sync {
    /// Accepts an agent.
    ///
    /// # Errors
    ///
    /// `ConfigurationInvalid` for a config that is not fit, an id that exists, `max_agents` agents
    /// alive, or a controller that is shutting down.
    async fn create_agent(&self, config: AgentConfig) -> Result<AgentInstance, LifecycleError>;

    /// Reads and checks the agent's program; returns once the agent is ready.
    ///
    /// # Errors
    ///
    /// `AgentNotFound`, `InvalidStateTransition`; `InitializationFailed` with the diagnostics, or
    /// after `initialization_timeout`, and the agent is then failed.
    async fn initialize_agent(&self, agent_id: AgentId) -> Result<(), LifecycleError>;

    /// Starts the agent: a run with empty input, in the background. From now on it takes tasks,
    /// mail and ticks.
    ///
    /// # Errors
    ///
    /// `AgentNotFound`, `InvalidStateTransition`, `ConfigurationInvalid` when a policy or the
    /// ledger says no.
    async fn start_agent(&self, agent_id: AgentId) -> Result<(), LifecycleError>;

    /// Stops the agent at its next step, after `termination_timeout` wherever it is. It takes no
    /// more tasks, mail and ticks. On an agent that rests it changes nothing but that.
    ///
    /// # Errors
    ///
    /// `AgentNotFound`, `InvalidStateTransition`.
    async fn stop_agent(&self, agent_id: AgentId) -> Result<(), LifecycleError>;

    /// Puts the agent aside: its run holds still at its next step, tasks and mail queue up.
    ///
    /// # Errors
    ///
    /// `AgentNotFound`, `InvalidStateTransition`.
    async fn suspend_agent(&self, agent_id: AgentId) -> Result<(), LifecycleError>;

    /// Lets a suspended agent go on from where it was.
    ///
    /// # Errors
    ///
    /// `AgentNotFound`, `InvalidStateTransition`.
    async fn resume_agent(&self, agent_id: AgentId) -> Result<(), LifecycleError>;

    /// Ends the agent for good: its run, its sandbox, its tasks, its mail and what was promised to
    /// it. A run ends at its next step, a command that is under way at once, and both are cut off
    /// after `termination_timeout`. Again is fine.
    ///
    /// # Errors
    ///
    /// `AgentNotFound`; `TerminationFailed` when something could not be ended, which the runtime
    /// goes on trying.
    async fn terminate_agent(&self, agent_id: AgentId) -> Result<(), LifecycleError>;

    /// The agent's state.
    ///
    /// # Errors
    ///
    /// `AgentNotFound`.
    async fn get_agent_state(&self, agent_id: AgentId) -> Result<AgentState, LifecycleError>;

    /// All agents on record, in the order of their ids; terminated ones for a day.
    async fn list_agents(&self) -> Vec<AgentInstance>;

    /// What is known of the agent.
    ///
    /// # Errors
    ///
    /// `AgentNotFound`.
    async fn get_agent(&self, agent_id: AgentId) -> Result<AgentInstance, LifecycleError>;

    /// Takes another config. Limits, policies, priority, metadata and fewer capabilities apply at
    /// once; another program, tier, mode or more capabilities at the next initialization.
    ///
    /// # Errors
    ///
    /// `AgentNotFound`; `ConfigurationInvalid` for a config that is not fit or of another id;
    /// `InvalidStateTransition` for an agent that has ended.
    async fn update_agent_config(
        &self,
        agent_id: AgentId,
        config: AgentConfig,
    ) -> Result<(), LifecycleError>;

    /// Stops, initializes and starts the agent anew. It keeps its id, mail and tasks.
    ///
    /// # Errors
    ///
    /// `AgentNotFound`, `InvalidStateTransition`, and what initializing and starting say.
    async fn restart_agent(&self, agent_id: AgentId) -> Result<(), LifecycleError>;

    /// How the controller and what it knows of is.
    async fn get_system_status(&self) -> SystemStatus;

    /// Takes nothing more, lets runs come to their next step, and returns when they have, at most
    /// after `termination_timeout`. Agents are not terminated. Again is fine.
    ///
    /// # Errors
    ///
    /// None at present.
    async fn shutdown(&self) -> Result<(), LifecycleError>;
}

/// Settings of the lifecycle controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifecycleConfig {
    /// The most time that an initialization takes.
    pub initialization_timeout: Duration,
    /// The grace that a run gets to come to its next step when its agent is stopped or terminated.
    pub termination_timeout: Duration,
    /// Time between comparisons of what is recorded with what is there: sandboxes, agents that
    /// could not be ended, agents that have nothing to do.
    pub state_check_interval: Duration,
    /// Whether agents that failed to initialize, or are found failed at start-up because the
    /// process died, are initialized again.
    pub enable_auto_recovery: bool,
    /// Automatic restarts of one agent in five minutes.
    pub max_restart_attempts: u32,
    /// The most agents that are not terminated.
    pub max_agents: usize,
}

impl Default for LifecycleConfig {
    /// 30 seconds each, a look every ten, recovery on, three restarts, 10,000 agents.
    fn default() -> Self {
        Self {
            initialization_timeout: Duration::from_secs(30),
            termination_timeout: Duration::from_secs(30),
            state_check_interval: Duration::from_secs(10),
            enable_auto_recovery: true,
            max_restart_attempts: 3,
            max_agents: 10_000,
        }
    }
}

/// The window that automatic restarts are counted in, where no error handler has another.
const RESTART_WINDOW: Duration = Duration::from_secs(300);
/// An agent that ran this long without a restart starts counting anew.
const STABLE: Duration = Duration::from_secs(600);
/// The pause before the first automatic initialization; it doubles.
const RECOVERY_BACKOFF: Duration = Duration::from_millis(100);
/// How long a run that was cut off may take to be gone: it yields every millisecond or so.
const END: Duration = Duration::from_secs(10);
/// The largest input of a run.
const LARGEST_INPUT: usize = 1024 * 1024;

/// The lifecycle controller over a journal.
#[derive(Debug, Clone)]
pub struct DefaultLifecycleController {
    inner: Arc<Inner>,
    /// Runs hold what they run on: without it a busy agent would outlive everyone who knows of it.
    _leash: Arc<Leash>,
}

struct Inner {
    settings: LifecycleConfig,
    profile: &'static str,
    journal: Journal,
    directory: Arc<Directory>,
    fleet: Fleet,
    programs: Programs,
    policy: Arc<dyn PolicyGate>,
    sandbox: Option<Arc<dyn SandboxExt>>,
    bus: Option<Arc<dyn CommunicationBus>>,
    resources: Option<Arc<dyn ResourceManager>>,
    supervisor: Option<Arc<dyn Supervisor>>,
    services: Arc<Services>,
    started_at: SystemTime,
    began: Instant,
    restart_window: Duration,
    /// What could not be ended, with why.
    stuck: Mutex<Vec<(AgentId, String)>>,
    tasks: Arc<Tasks>,
    this: Weak<Self>,
}

/// Builds a [`DefaultLifecycleController`].
pub struct LifecycleBuilder {
    config: LifecycleConfig,
    directory: Arc<Directory>,
    journal: Journal,
    policy: Option<Arc<dyn PolicyGate>>,
    sandbox: Option<Arc<dyn SandboxExt>>,
    bus: Option<Arc<dyn CommunicationBus>>,
    resources: Option<Arc<dyn ResourceManager>>,
    supervisor: Option<Arc<dyn Supervisor>>,
    restart_window: Duration,
    profile: &'static str,
    tools: Tools,
    http: Option<Arc<dyn HttpClient>>,
}

impl std::fmt::Debug for LifecycleBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LifecycleBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}

/// What became of a machine that an agent evaluated.
#[derive(Debug)]
pub struct Evaluation {
    /// The run.
    pub report: Arc<RunReport>,
    /// The machine at its end.
    pub machine: Option<Machine>,
}

impl DefaultLifecycleController {
    /// A controller in memory, which meets the process's other components in their directory.
    /// Agents are held to their own policies; what those do not speak of is allowed.
    ///
    /// # Errors
    ///
    /// `ConfigurationInvalid` for settings that make no sense.
    pub async fn new(config: LifecycleConfig) -> Result<Self, LifecycleError> {
        Self::builder(config).directory(Directory::process()).build().await
    }

    /// A controller with a directory of its own, in memory, unless the builder is told otherwise.
    pub fn builder(config: LifecycleConfig) -> LifecycleBuilder {
        LifecycleBuilder {
            config,
            directory: Directory::new(),
            journal: Journal::in_memory(Clock::system()),
            policy: None,
            sandbox: None,
            bus: None,
            resources: None,
            supervisor: None,
            restart_window: RESTART_WINDOW,
            profile: "dev",
            tools: Tools::default(),
            http: None,
        }
    }

    /// [`LifecycleController::start_agent`] with an input for the run, as JSON text.
    ///
    /// # Errors
    ///
    /// As there; `ConfigurationInvalid` for an input that is no JSON or has more than 1 MiB.
    pub async fn start_agent_with_input(
        &self,
        agent_id: AgentId,
        input: &str,
    ) -> Result<(), LifecycleError> {
        if input.len() > LARGEST_INPUT {
            return Err(invalid("the input has more than 1 MiB"));
        }
        if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(input) {
            return Err(invalid(&format!("the input is no JSON: {error}")));
        }
        let input = Input::Json(input.into());
        self.inner
            .act(agent_id, move |inner, member| async move { inner.start(&member, input).await })
            .await
    }

    /// Has an agent evaluate a machine that was prepared elsewhere, such as at a console, as one of
    /// its runs: the machine's host calls are the agent's, and are decided, made and recorded like
    /// those of its own program. Cancelling ends the run at its next step.
    ///
    /// The machine comes back as the run has left it, unless the run was cut off in the middle of a
    /// call.
    ///
    /// # Errors
    ///
    /// `AgentNotFound`; `ConfigurationInvalid` when the agent takes no work now, and says why.
    pub async fn evaluate(
        &self,
        agent_id: AgentId,
        machine: Machine,
        cancel: CancellationToken,
    ) -> Result<Evaluation, LifecycleError> {
        let member = self.inner.fleet.get(agent_id)?;
        let seat = Arc::new(Mutex::new(Some(machine)));
        let work = Work {
            cause: Cause::Console,
            input: Input::Machine(Arc::clone(&seat)),
            timeout: None,
            cancel,
            errand: None,
        };
        let inner = self.inner.me();
        let worked = self.inner.tasks.finish(async move { inner.work(&member, work).await }).await;
        let (outcome, report) = worked.ok_or_else(closing)?;
        let Some(report) = report else {
            return Err(match outcome {
                AttemptOutcome::Gone => LifecycleError::AgentNotFound { agent_id },
                AttemptOutcome::NotNow(reason) => invalid(&reason),
                AttemptOutcome::Failed { error, .. } => invalid(&error),
                AttemptOutcome::Cancelled { by } => invalid(&by),
                // These come with a report.
                AttemptOutcome::Completed(_)
                | AttemptOutcome::TimedOut
                | AttemptOutcome::Unknown => invalid("the run was cut off"),
            });
        };
        let machine = seat.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(Evaluation { report, machine })
    }

    /// Waits until no run of the agent is under way and none can begin by itself at once, and gives
    /// the last one.
    ///
    /// # Errors
    ///
    /// `AgentNotFound`.
    pub async fn settled(
        &self,
        agent_id: AgentId,
    ) -> Result<Option<Arc<RunReport>>, LifecycleError> {
        let member = self.inner.fleet.get(agent_id)?;
        let mut changes = member.changes.subscribe();
        loop {
            changes.borrow_and_update();
            {
                let cell = member.cell();
                if cell.run.is_none() && cell.record.state != AgentState::Running {
                    return Ok(cell.last_run.clone());
                }
            }
            if changes.changed().await.is_err() {
                return Err(LifecycleError::AgentNotFound { agent_id });
            }
        }
    }

    /// Waits until the agent is in one of `states`, and says in which.
    ///
    /// # Errors
    ///
    /// `AgentNotFound`.
    pub async fn until(
        &self,
        agent_id: AgentId,
        states: &[AgentState],
    ) -> Result<AgentState, LifecycleError> {
        let member = self.inner.fleet.get(agent_id)?;
        let mut changes = member.changes.subscribe();
        loop {
            changes.borrow_and_update();
            let state = member.state();
            if states.contains(&state) {
                return Ok(state);
            }
            if changes.changed().await.is_err() {
                return Err(LifecycleError::AgentNotFound { agent_id });
            }
        }
    }

    /// Copies a file of the host into the agent's sandbox when that is made.
    ///
    /// # Errors
    ///
    /// `AgentNotFound`; `ConfigurationInvalid` when the file can't be read.
    pub fn provide_file(
        &self,
        agent_id: AgentId,
        local: PathBuf,
        remote: String,
    ) -> Result<(), LifecycleError> {
        let member = self.inner.fleet.get(agent_id)?;
        match std::fs::metadata(&local) {
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => return Err(invalid(&format!("`{}` is no regular file", local.display()))),
            Err(error) => return Err(invalid(&format!("`{}`: {error}", local.display()))),
        }
        member.seat.files.lock().unwrap_or_else(PoisonError::into_inner).push((local, remote));
        Ok(())
    }

    /// Takes nothing more: no agents, starts, messages or ticks. Runs that are under way come to
    /// their next step and end there.
    pub(crate) fn close(&self) {
        if self.inner.fleet.close() {
            return;
        }
        for member in self.inner.fleet.all() {
            if let Some(active) = member.cell().run.clone() {
                active.wish.send_replace(Wish::Stop);
            }
        }
    }

    /// Why the agent is failed, if it is.
    ///
    /// # Errors
    ///
    /// `AgentNotFound`.
    pub fn failure(&self, agent_id: AgentId) -> Result<Option<String>, LifecycleError> {
        Ok(self.inner.fleet.get(agent_id)?.cell().record.failure.clone())
    }
}

impl LifecycleBuilder {
    /// Meets other components in `directory`.
    #[must_use]
    pub fn directory(self, directory: Arc<Directory>) -> Self {
        Self { directory, ..self }
    }

    /// Uses `journal`; agents that are kept there are there again. A bus over the same journal is to
    /// be there before: a message whose handling had an effect when the process ended is given up.
    #[must_use]
    pub fn journal(self, journal: Journal) -> Self {
        Self { journal, ..self }
    }

    /// Asks `policy` before an agent starts and before each effect.
    #[must_use]
    pub fn policy(self, policy: Arc<dyn PolicyGate>, profile: &'static str) -> Self {
        Self { policy: Some(policy), profile, ..self }
    }

    /// Makes agents' sandboxes with `sandbox`.
    #[must_use]
    pub fn sandbox(self, sandbox: Arc<dyn SandboxExt>) -> Self {
        Self { sandbox: Some(sandbox), ..self }
    }

    /// Registers agents with `bus` when they are initialized.
    #[must_use]
    pub fn bus(self, bus: Arc<dyn CommunicationBus>) -> Self {
        Self { bus: Some(bus), ..self }
    }

    /// Takes what an agent may use from `resources` before it starts.
    #[must_use]
    pub fn resources(self, resources: Arc<dyn ResourceManager>) -> Self {
        Self { resources: Some(resources), ..self }
    }

    /// Lets programs call these tools.
    #[must_use]
    pub fn tools(self, tools: Tools) -> Self {
        Self { tools, ..self }
    }

    /// Sends what programs and tools ask over HTTP with `http`; without it they can ask nobody.
    #[must_use]
    pub fn http(self, http: Arc<dyn HttpClient>) -> Self {
        Self { http: Some(http), ..self }
    }

    /// Tells `supervisor` of runs that end; automatic restarts are counted in its window.
    pub(crate) fn supervisor(self, supervisor: Arc<dyn Supervisor>, window: Duration) -> Self {
        Self { supervisor: Some(supervisor), restart_window: window, ..self }
    }

    /// The controller.
    ///
    /// # Errors
    ///
    /// `ConfigurationInvalid` for settings that make no sense, or agents that can't be read.
    pub async fn build(self) -> Result<DefaultLifecycleController, LifecycleError> {
        let c = &self.config;
        let zero = [
            ("initialization_timeout", c.initialization_timeout.is_zero()),
            ("state_check_interval", c.state_check_interval.is_zero()),
            ("max_agents", c.max_agents == 0),
        ];
        if let Some((name, _)) = zero.iter().find(|(_, is_zero)| *is_zero) {
            return Err(invalid(&format!("`{name}` must not be zero")));
        }
        let policy = match self.policy {
            Some(policy) => policy,
            None => crate::policy::own_policies_alone(self.journal.clone()),
        };
        let settings = LifecycleConfig {
            initialization_timeout: c.initialization_timeout.min(FAR),
            termination_timeout: c.termination_timeout.min(FAR),
            state_check_interval: c.state_check_interval.min(FAR),
            ..self.config
        };
        let tasks = Arc::new(Tasks::default());
        let inner = Arc::new_cyclic(|this: &Weak<Inner>| {
            let owner: Weak<dyn Blocking> = Weak::clone(this) as _;
            Inner {
                fleet: Fleet::new(settings.max_agents),
                services: Arc::new(Services {
                    journal: self.journal.clone(),
                    directory: Arc::clone(&self.directory),
                    policy: Arc::clone(&policy),
                    sandbox: self.sandbox.clone(),
                    tools: self.tools.clone(),
                    http: self.http.clone(),
                    owner,
                    tasks: Arc::clone(&tasks),
                    rates: crate::run::Rates::default(),
                }),
                settings,
                profile: self.profile,
                started_at: self.journal.now(),
                journal: self.journal,
                directory: self.directory,
                programs: Programs::default(),
                policy,
                sandbox: self.sandbox,
                bus: self.bus,
                resources: self.resources,
                supervisor: self.supervisor,
                began: Instant::now(),
                restart_window: self.restart_window,
                stuck: Mutex::default(),
                tasks,
                this: Weak::clone(this),
            }
        });
        inner.restore().await?;
        inner.tasks.spawn(watch::sweep(Weak::clone(&inner.this), inner.tasks.stopping()));
        let leash = Arc::new(Leash(Arc::clone(&inner.tasks)));
        Ok(DefaultLifecycleController { inner, _leash: leash })
    }
}

impl Inner {
    fn me(&self) -> Arc<Self> {
        self.this.upgrade().expect("`self` is alive")
    }

    /// Finds the agent and changes it, to the end although the caller may stop waiting.
    async fn act<T, F, W>(&self, id: AgentId, work: F) -> Result<T, LifecycleError>
    where
        T: Send + 'static,
        F: FnOnce(Arc<Self>, Arc<Member>) -> W + Send + 'static,
        W: Future<Output = Result<T, LifecycleError>> + Send + 'static,
    {
        let member = self.fleet.get(id)?;
        if self.fleet.is_closed() {
            return Err(closing());
        }
        let inner = self.me();
        self.tasks.finish(work(inner, member)).await.unwrap_or_else(|| Err(closing()))
    }

    fn entry(&self, member: &Member, event_type: AuditEventType, kind: &'static str) -> Entry {
        self.journal.event(event_type, kind).agent(member.id)
    }

    /// Moves the agent and records that, together with whatever else changes about it. The caller
    /// holds the agent's turn.
    async fn shift(
        &self,
        member: &Member,
        event: Event,
        entry: Entry,
        also: Change,
        adjust: impl FnOnce(&mut stored::Agent) + Send,
    ) -> Result<AgentState, LifecycleError> {
        let mut record = member.cell().record.clone();
        let from = record.state;
        record.state = transition(from, event)?;
        record.updated_at = micros(self.journal.now());
        adjust(&mut record);
        let entry = entry.with("from", from).with("state", record.state);
        let key = *member.id.as_uuid().as_bytes();
        let change = also.put(AGENTS, key, &record).record(entry);
        self.journal.commit(change).await.map_err(storage)?;
        {
            let mut cell = member.cell();
            if record.state == AgentState::Waiting || record.state == AgentState::Ready {
                cell.resting_since = Instant::now();
            }
            cell.record = record;
        }
        self.tell(member);
        Ok(from)
    }

    /// The machine's table leads out of a state that could not be recorded; the record is mended by
    /// the next change, or at the next start.
    fn fall_back(&self, member: &Member, event: Event, error: &LifecycleError) {
        tracing::error!(agent_id = %member.id, %error, "a change of state could not be recorded");
        let mut cell = member.cell();
        if let Ok(state) = transition(cell.record.state, event) {
            cell.record.state = state;
            cell.record.run = None;
            if event == Event::Fail {
                cell.record.failure = Some(error.to_string());
            }
        }
    }

    /// Records something about an agent that stays in its state. The caller holds its turn.
    async fn amend(
        &self,
        member: &Member,
        entry: Entry,
        also: Change,
        adjust: impl FnOnce(&mut stored::Agent) + Send,
    ) -> Result<(), LifecycleError> {
        let mut record = member.cell().record.clone();
        adjust(&mut record);
        let key = *member.id.as_uuid().as_bytes();
        let change = also.put(AGENTS, key, &record).record(entry);
        self.journal.commit(change).await.map_err(storage)?;
        member.cell().record = record;
        Ok(())
    }

    /// Tells who waits for a change of the agent.
    fn tell(&self, member: &Member) {
        member.changed();
        if let Some(work) = self.directory.work(member.id) {
            work.agent_changed(member.id);
        }
    }
}

#[async_trait]
impl LifecycleController for DefaultLifecycleController {
    async fn create_agent(&self, config: AgentConfig) -> Result<AgentInstance, LifecycleError> {
        if self.inner.fleet.is_closed() {
            return Err(closing());
        }
        let inner = Arc::clone(&self.inner);
        let created = self.inner.tasks.finish(async move { inner.create(config).await });
        created.await.unwrap_or_else(|| Err(closing()))
    }

    async fn initialize_agent(&self, agent_id: AgentId) -> Result<(), LifecycleError> {
        self.inner
            .act(agent_id, |inner, member| async move {
                let outcome = inner.initialize(&member, Event::Initialize).await;
                if matches!(outcome, Err(LifecycleError::InitializationFailed { .. })) {
                    inner.recover_later(&member);
                }
                outcome
            })
            .await
    }

    async fn start_agent(&self, agent_id: AgentId) -> Result<(), LifecycleError> {
        self.inner
            .act(agent_id, |inner, member| async move { inner.start(&member, Input::None).await })
            .await
    }

    async fn stop_agent(&self, agent_id: AgentId) -> Result<(), LifecycleError> {
        self.inner.act(agent_id, |inner, member| async move { inner.stop(&member).await }).await
    }

    async fn suspend_agent(&self, agent_id: AgentId) -> Result<(), LifecycleError> {
        self.inner
            .act(
                agent_id,
                |inner, member| async move { inner.suspend(&member, "suspend_agent").await },
            )
            .await
    }

    async fn resume_agent(&self, agent_id: AgentId) -> Result<(), LifecycleError> {
        self.inner.act(agent_id, |inner, member| async move { inner.resume(&member).await }).await
    }

    async fn terminate_agent(&self, agent_id: AgentId) -> Result<(), LifecycleError> {
        self.inner
            .act(agent_id, |inner, member| async move { inner.terminate(&member).await })
            .await
    }

    async fn get_agent_state(&self, agent_id: AgentId) -> Result<AgentState, LifecycleError> {
        Ok(self.inner.fleet.get(agent_id)?.state())
    }

    async fn list_agents(&self) -> Vec<AgentInstance> {
        self.inner.fleet.all().iter().map(|member| member.instance()).collect()
    }

    async fn get_agent(&self, agent_id: AgentId) -> Result<AgentInstance, LifecycleError> {
        Ok(self.inner.fleet.get(agent_id)?.instance())
    }

    async fn update_agent_config(
        &self,
        agent_id: AgentId,
        config: AgentConfig,
    ) -> Result<(), LifecycleError> {
        self.inner
            .act(agent_id, |inner, member| async move { inner.update(&member, config).await })
            .await
    }

    async fn restart_agent(&self, agent_id: AgentId) -> Result<(), LifecycleError> {
        self.inner.act(agent_id, |inner, member| async move { inner.restart(&member).await }).await
    }

    async fn get_system_status(&self) -> SystemStatus {
        self.inner.status().await
    }

    async fn shutdown(&self) -> Result<(), LifecycleError> {
        self.close();
        self.inner.tasks.stop(self.inner.settings.termination_timeout).await;
        Ok(())
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lifecycle").field("settings", &self.settings).finish_non_exhaustive()
    }
}

fn invalid(reason: &str) -> LifecycleError {
    LifecycleError::ConfigurationInvalid { reason: reason.to_owned() }
}

fn closing() -> LifecycleError {
    invalid("the lifecycle controller is shutting down")
}

fn storage(error: StoreError) -> LifecycleError {
    match error {
        StoreError::Closed => closing(),
        error => invalid(&format!("not recorded: {error}")),
    }
}
