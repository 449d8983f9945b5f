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

pub(crate) mod config;
pub(crate) mod fleet;
pub(crate) mod machine;
mod stored;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use symbiont_store::StoreError;
use symbiont_types::{
    AgentConfig, AgentId, AgentInstance, AgentState, AuditEventType, Capability, ErrorAction,
    ExecutionMode, LifecycleError, Phase, ResourceLimits, SystemStatus, UsageSource,
};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::fleet::{Cell, Fleet, Member};
use self::machine::{Event, Rest, transition};
use crate::bus::CommunicationBus;
use crate::clock::{Clock, FAR, from_micros, micros};
use crate::directory::{
    Activation, AgentPort, AttemptOutcome, Directory, FailedRun, Readiness, Supervisor, Usage,
};
use crate::journal::{AGENTS, CONFIGS, Change, Entry, Journal, MEMORY, rows};
use crate::policy::{AgentFacts, PolicyGate, Question};
use crate::resources::ResourceManager;
use crate::run::{
    ActiveRun, Blocking, Cause, Definition, Input, Programs, Run, RunOutcome, RunReport,
    SandboxSeat, Services, Wish,
};
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
    /// it. Again is fine.
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

/// The window that automatic restarts are counted in.
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
    profile: &'static str,
}

impl std::fmt::Debug for LifecycleBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LifecycleBuilder").field("config", &self.config).finish_non_exhaustive()
    }
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
            profile: "dev",
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

    /// Uses `journal`; agents that are kept there are there again.
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

    pub(crate) fn supervisor(self, supervisor: Arc<dyn Supervisor>) -> Self {
        Self { supervisor: Some(supervisor), ..self }
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
                stuck: Mutex::default(),
                tasks,
                this: Weak::clone(this),
            }
        });
        inner.restore().await?;
        inner.tasks.spawn(sweep(Weak::clone(&inner.this), inner.tasks.stopping()));
        let leash = Arc::new(Leash(Arc::clone(&inner.tasks)));
        Ok(DefaultLifecycleController { inner, _leash: leash })
    }
}

/// Compares what is recorded with what is there, once in a while, beside events.
async fn sweep(this: Weak<Inner>, stop: CancellationToken) {
    loop {
        let Some(inner) = this.upgrade() else { return };
        let until = Clock::instant_in(inner.settings.state_check_interval);
        drop(inner);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep_until(until) => {}
        }
        let Some(inner) = this.upgrade() else { return };
        inner.check_all().await;
    }
}

/// Waits for an agent's ticks and runs it at each.
async fn recur(
    this: Weak<Inner>,
    id: AgentId,
    first: SystemTime,
    mut due: SystemTime,
    interval: Duration,
) {
    loop {
        let Some(inner) = this.upgrade() else { return };
        let clock = inner.journal.clock();
        let stop = inner.tasks.stopping();
        drop(inner);
        while clock.now() < due {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep_until(clock.instant_of(due)) => {}
            }
        }
        let Some(inner) = this.upgrade() else { return };
        let Some(member) = inner.fleet.find(id) else { return };
        let still = {
            let cell = member.cell();
            let same = cell.record.first_tick == Some(micros(first));
            same && cell.record.started
                && !matches!(cell.record.state, AgentState::Terminating | AgentState::Terminated)
        };
        if !still {
            return;
        }
        inner.tick(&member, due).await;
        // The latest of the ticks that were missed meanwhile has just been run; the others are
        // skipped.
        let behind = clock.now().duration_since(due).unwrap_or_default();
        let missed = u32::try_from(behind.as_nanos() / interval.as_nanos()).unwrap_or(u32::MAX);
        let Some(next) = due.checked_add(interval.saturating_mul(missed.saturating_add(1))) else {
            return; // No clock will ever show it.
        };
        due = next;
    }
}

/// The tick that a recurrence which was interrupted goes on with: the latest one that came after its
/// agent was last seen, if one did, otherwise the next.
fn due_after(
    first: SystemTime,
    interval: Duration,
    seen: SystemTime,
    now: SystemTime,
) -> SystemTime {
    let behind = now.duration_since(first).unwrap_or_default();
    let passed = u32::try_from(behind.as_nanos() / interval.as_nanos()).unwrap_or(u32::MAX);
    let latest = first.checked_add(interval.saturating_mul(passed)).unwrap_or(first);
    if now < first || latest > seen {
        latest
    } else {
        latest.checked_add(interval).unwrap_or(latest)
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
        match self.tasks.detached(work(inner, member)).await {
            Ok(Some(outcome)) => outcome,
            Ok(None) | Err(_) => Err(closing()),
        }
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

    /// Tells who waits for a change of the agent.
    fn tell(&self, member: &Member) {
        member.changed();
        if let Some(work) = self.directory.work(member.id) {
            work.agent_changed(member.id);
        }
    }

    // Beginnings.

    async fn create(&self, config: AgentConfig) -> Result<AgentInstance, LifecycleError> {
        let mut issues = config::issues(&config);
        issues.extend(symbiont_policy::validate(&config.policies));
        if !issues.is_empty() {
            return Err(invalid(&config::line(&issues)));
        }
        let id = config.id;
        let now = micros(self.journal.now());
        let record = stored::Agent {
            state: AgentState::Created,
            started: false,
            suspended_from: None,
            created_at: now,
            updated_at: now,
            execution_count: 0,
            error_count: 0,
            restart_count: 0,
            first_tick: None,
            failure: None,
        };
        let member = Member::new(config, record.clone());
        self.fleet.add(Arc::clone(&member))?;
        let outcome = self.announce(&member, &record).await;
        if outcome.is_err() {
            self.fleet.undo(id);
            self.policy.forget_agent(id);
        }
        outcome.map(|()| member.instance())
    }

    async fn announce(
        &self,
        member: &Member,
        record: &stored::Agent,
    ) -> Result<(), LifecycleError> {
        self.take_place(member.id)?;
        let outcome = self.record_creation(member, record).await;
        if outcome.is_err() {
            self.directory.forget(member.id);
        }
        outcome
    }

    async fn record_creation(
        &self,
        member: &Member,
        record: &stored::Agent,
    ) -> Result<(), LifecycleError> {
        let config = Arc::clone(&member.cell().config);
        self.tell_policy(member.id, &config, &config.policies, config.security_tier)?;
        let key = *member.id.as_uuid().as_bytes();
        let entry = self
            .entry(member, AuditEventType::AgentCreated, "agent.created")
            .details(config.name.clone())
            .with("state", AgentState::Created);
        let change = Change::new()
            .put(AGENTS, key, record)
            .put(CONFIGS, key, &stored::Configs::of(&config, None))
            .record(entry);
        self.journal.commit(change).await.map(|_| ()).map_err(storage)
    }

    fn take_place(&self, id: AgentId) -> Result<(), LifecycleError> {
        let port: Arc<dyn AgentPort> = self.me();
        self.directory.set_agent(id, &port).map_err(|_| {
            invalid(&format!("another lifecycle controller of this process has an agent `{id}`"))
        })
    }

    fn tell_policy(
        &self,
        id: AgentId,
        config: &AgentConfig,
        policies: &[symbiont_types::Policy],
        tier: symbiont_types::SecurityTier,
    ) -> Result<(), LifecycleError> {
        let facts = AgentFacts {
            name: config.name.clone(),
            tier,
            metadata: config.metadata.clone(),
            policies: policies.to_vec(),
        };
        self.policy.set_agent(id, facts).map_err(|issues| invalid(&config::line(&issues)))
    }

    /// The agent's definition; read again if it was parked.
    fn definition(&self, member: &Member) -> Result<Arc<Definition>, String> {
        let config = {
            let cell = member.cell();
            if let Some(definition) = &cell.definition {
                return Ok(Arc::clone(definition));
            }
            Arc::clone(&cell.config)
        };
        let definition = Arc::new(self.programs.define(&config)?);
        member.cell().definition = Some(Arc::clone(&definition));
        Ok(definition)
    }

    async fn initialize(&self, member: &Arc<Member>, event: Event) -> Result<(), LifecycleError> {
        let _turn = member.turn.lock().await;
        self.initialize_in_turn(member, event).await
    }

    async fn initialize_in_turn(
        &self,
        member: &Arc<Member>,
        event: Event,
    ) -> Result<(), LifecycleError> {
        let entry = self.entry(member, AuditEventType::AgentCreated, "agent.initializing");
        let mut also = Change::new();
        {
            let mut cell = member.cell();
            transition(cell.record.state, event)?;
            cell.definition = None;
            if let Some(next) = cell.next_config.take() {
                let key = *member.id.as_uuid().as_bytes();
                also = also.put(CONFIGS, key, &stored::Configs::of(&next, None));
                cell.config = next;
            }
        }
        self.shift(member, event, entry, also, |record| {
            record.failure = None;
            record.suspended_from = None;
        })
        .await?;
        let limit = self.settings.initialization_timeout;
        let prepared = match tokio::time::timeout(limit, self.prepare(member)).await {
            Ok(prepared) => prepared,
            Err(_) => Err(format!("it took longer than {limit:?} (see initialization_timeout)")),
        };
        match prepared {
            Ok(()) => {
                let entry = self.entry(member, AuditEventType::AgentCreated, "agent.initialized");
                self.shift(member, Event::Initialized, entry, Change::new(), |_| {}).await?;
                Ok(())
            }
            Err(reason) => {
                let entry = self
                    .entry(member, AuditEventType::ErrorOccurred, "agent.initialization_failed")
                    .details(reason.clone());
                let why = reason.clone();
                self.shift(member, Event::Fail, entry, Change::new(), |record| {
                    record.error_count = record.error_count.saturating_add(1);
                    record.failure = Some(why);
                })
                .await?;
                Err(LifecycleError::InitializationFailed { agent_id: member.id, reason })
            }
        }
    }

    /// What has to be there before an agent is ready.
    async fn prepare(&self, member: &Arc<Member>) -> Result<(), String> {
        let config = Arc::clone(&member.cell().config);
        let definition = if config.dsl_source.len() > LARGE_SOURCE {
            // Reading it takes a while; others want to run meanwhile.
            let (inner, member) = (self.me(), Arc::clone(member));
            let read = tokio::task::spawn_blocking(move || inner.definition(&member));
            read.await.map_err(|_| "its source could not be read".to_owned())??
        } else {
            self.definition(member)?
        };
        self.tell_policy(member.id, &config, &definition.policies, definition.tier)
            .map_err(|error| error.to_string())?;
        if let Some(bus) = &self.bus {
            let capabilities: Vec<Capability> = config.capabilities.clone();
            bus.register_agent(member.id, capabilities).await.map_err(|error| error.to_string())?;
        }
        if config.metadata.get("sandbox").is_some_and(|value| value == "eager") {
            self.eager_sandbox(member, &definition).await?;
        }
        Ok(())
    }

    async fn eager_sandbox(
        &self,
        member: &Member,
        definition: &Arc<Definition>,
    ) -> Result<(), String> {
        let run = self.run_of(
            member,
            Arc::clone(definition),
            Cause::Start,
            Input::None,
            ActiveRun::new(),
            None,
        );
        crate::run::open_sandbox(&run).await.map_err(|error| error.to_string())
    }

    fn run_of(
        &self,
        member: &Member,
        definition: Arc<Definition>,
        cause: Cause,
        input: Input,
        active: ActiveRun,
        timeout: Option<Duration>,
    ) -> Run {
        let (limits, name) = {
            let cell = member.cell();
            (cell.config.resource_limits.execution_timeout, cell.config.name.clone())
        };
        let most = definition.limits.execution_timeout.min(limits);
        Run {
            services: Arc::clone(&self.services),
            agent_id: member.id,
            agent_name: name,
            definition,
            seat: Arc::clone(&member.seat),
            cause,
            input,
            timeout: timeout.map_or(most, |timeout| timeout.min(most)),
            active,
        }
    }

    // Runs.

    async fn start(&self, member: &Arc<Member>, input: Input) -> Result<(), LifecycleError> {
        let turn = member.turn.lock().await;
        transition(member.state(), Event::Start)?;
        if member.cell().run.is_some() {
            return Err(invalid("the agent is still being stopped: start it when that is done"));
        }
        let definition = self.definition(member).map_err(|reason| {
            LifecycleError::InitializationFailed { agent_id: member.id, reason }
        })?;
        self.may_start(member, &definition)?;
        self.admit(member, &definition).await?;
        let interval = match definition.mode {
            ExecutionMode::Scheduled { interval } => Some(interval),
            ExecutionMode::Persistent | ExecutionMode::Ephemeral | ExecutionMode::EventDriven => {
                None
            }
        };
        // A tick that no clock will ever show is at the end of time.
        let first_tick = interval
            .map(|interval| self.journal.now().checked_add(interval).map_or(i64::MAX, micros));
        let begun = self
            .begin(member, definition, Cause::Start, input, Event::Start, None, first_tick)
            .await;
        drop(turn);
        match begun {
            Ok(_outcome) => {
                if let (Some(interval), Some(first)) = (interval, first_tick) {
                    self.tasks.spawn(recur(
                        Weak::clone(&self.this),
                        member.id,
                        from_micros(first),
                        from_micros(first),
                        interval,
                    ));
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Has what the agent may use promised to it, exactly.
    async fn admit(&self, member: &Member, definition: &Definition) -> Result<(), LifecycleError> {
        let Some(resources) = &self.resources else { return Ok(()) };
        let limits = definition.limits.clone();
        let promised = match resources.allocate_resources(member.id, limits.clone()).await {
            // It holds another promise: that of an earlier start, or one made by hand.
            Err(symbiont_types::ResourceError::AllocationFailed { .. }) => {
                resources.update_resource_limits(member.id, limits).await
            }
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        };
        promised.map_err(|error| invalid(&error.to_string()))
    }

    fn may_start(&self, member: &Member, definition: &Definition) -> Result<(), LifecycleError> {
        let nothing = std::collections::BTreeMap::new();
        let no_metadata = std::collections::HashMap::new();
        let decision = self.policy.decide(&Question {
            agent_id: member.id,
            operation: "agent.start",
            arguments: &[],
            named: &nothing,
            limits: Some(&definition.limits),
            metadata: &no_metadata,
            ambient: &nothing,
            own_policies: false,
        });
        if decision.is_allowed() {
            return Ok(());
        }
        Err(invalid(&format!("`agent.start` was refused: {}", decision.reason)))
    }

    /// Begins a run and returns where its end will be told. The caller holds the agent's turn.
    #[expect(clippy::too_many_arguments, reason = "all of them are what one run is")]
    async fn begin(
        &self,
        member: &Arc<Member>,
        definition: Arc<Definition>,
        cause: Cause,
        input: Input,
        event: Event,
        timeout: Option<Duration>,
        first_tick: Option<i64>,
    ) -> Result<(oneshot::Receiver<Arc<RunReport>>, ActiveRun), LifecycleError> {
        let active = ActiveRun::new();
        let entry = self
            .entry(member, AuditEventType::AgentStarted, "run.started")
            .details(cause.to_string())
            .with("run", active.id);
        let entry = match cause {
            Cause::Task(task) => entry.with("task", task),
            Cause::Message(message) => entry.with("message", message),
            Cause::Start | Cause::Tick | Cause::Agent(_) | Cause::Stop => entry,
        };
        self.shift(member, event, entry, Change::new(), |record| {
            record.execution_count += 1;
            if event == Event::Start {
                record.started = true;
                record.first_tick = first_tick;
            }
        })
        .await?;
        member.cell().run = Some(active.clone());
        let run = self.run_of(member, definition, cause, input, active.clone(), timeout);
        let (tell, told) = oneshot::channel();
        let (inner, member) = (self.me(), Arc::clone(member));
        self.tasks.spawn(async move {
            let report = inner.carry(&member, run).await;
            let _ = tell.send(report); // Nobody may be waiting.
            inner.after(&member).await;
        });
        Ok((told, active))
    }

    /// Carries a run to its end and records how it ended.
    async fn carry(&self, member: &Arc<Member>, run: Run) -> Arc<RunReport> {
        let (cause, active, tier) = (run.cause, run.active.clone(), run.definition.tier);
        let mode = run.definition.mode.clone();
        let started_at = self.journal.now();
        let began = Instant::now();
        let (outcome, tally) = run.drive().await;
        let report = Arc::new(RunReport {
            run_id: active.id,
            agent_id: member.id,
            cause,
            started_at,
            duration: began.elapsed(),
            steps: tally.steps,
            host_calls: tally.host_calls,
            effects: tally.effects,
            unfinished: tally.unfinished,
            outcome,
        });
        let failed = self.conclude(member, &report, &active, &mode).await;
        if let Some(supervisor) = &self.supervisor {
            match (&report.outcome, failed) {
                (RunOutcome::Failed(failure), true) => {
                    let failed = FailedRun {
                        error: failure.as_error(member.id, tier),
                        effects: report.effects || report.unfinished,
                        rests: false,
                    };
                    let (supervisor, id) = (Arc::clone(supervisor), member.id);
                    self.tasks.spawn(async move { supervisor.run_failed(id, failed).await });
                }
                (RunOutcome::Returned(_), _) => supervisor.run_succeeded(member.id),
                (RunOutcome::Failed(_) | RunOutcome::Cancelled(_), _) => {}
            }
        }
        report
    }

    /// Records the end of a run and puts the agent to rest. Whether the agent has failed.
    async fn conclude(
        &self,
        member: &Arc<Member>,
        report: &Arc<RunReport>,
        active: &ActiveRun,
        mode: &ExecutionMode,
    ) -> bool {
        let _turn = self.turn_to_conclude(member, active).await;
        let rest = match mode {
            ExecutionMode::Persistent | ExecutionMode::EventDriven => Rest::Waiting,
            ExecutionMode::Scheduled { .. } => Rest::Ready,
            // It waits for its first task if the start did not run its behaviour.
            ExecutionMode::Ephemeral if self.lacks_input(member, report) => Rest::Waiting,
            ExecutionMode::Ephemeral => Rest::Completed,
        };
        let entry = |event_type, kind| {
            self.entry(member, event_type, kind)
                .with("run", report.run_id)
                .with("cause", report.cause)
                .with("steps", report.steps)
                .with("host_calls", report.host_calls)
                .with("duration_us", report.duration.as_micros())
        };
        let lasting = !matches!(mode, ExecutionMode::Ephemeral) && report.cause != Cause::Start;
        let (entry, event, fails) = match &report.outcome {
            RunOutcome::Returned(json) => {
                let shown: String = json.chars().take(4096).collect();
                (
                    entry(AuditEventType::AgentStopped, "run.completed").details(shown),
                    Event::Finish(rest),
                    false,
                )
            }
            RunOutcome::Failed(failure) => {
                let entry = entry(AuditEventType::ErrorOccurred, "run.failed")
                    .details(failure.to_string())
                    .with("error", &failure.kind);
                // A lasting agent survives the failure of one piece of work.
                let event = if lasting { Event::Finish(rest) } else { Event::Fail };
                (entry, event, !lasting)
            }
            RunOutcome::Cancelled(by) => (
                entry(AuditEventType::AgentStopped, "run.cancelled").details(by.clone()),
                Event::Stop,
                false,
            ),
        };
        // The message that the run dealt with leaves the mailbox in the same step in which the run's
        // end is recorded. A run that was cut off has dealt with nothing.
        let lent = member.cell().lent.take();
        let mail = self.directory.mail(member.id);
        let dealt_with = !matches!(report.outcome, RunOutcome::Cancelled(_));
        let also = match (&lent, &mail) {
            (Some(lent), Some(mail)) if dealt_with => mail.receipt(lent),
            (Some(_) | None, Some(_) | None) => Change::new(),
        };
        let failure = match &report.outcome {
            RunOutcome::Failed(failure) => Some(failure.to_string()),
            RunOutcome::Returned(_) | RunOutcome::Cancelled(_) => None,
        };
        let state = member.state();
        let event = match (state, event) {
            (AgentState::Waiting, Event::Finish(Rest::Ready)) => Event::Stop,
            (_, event) => event,
        };
        let moved = match state {
            // Whoever ends or stops the agent moves it on; the run's own end is recorded beside.
            AgentState::Terminating | AgentState::Suspended | AgentState::Ready => {
                let change = also.record(entry.with("state", state));
                self.journal.commit(change).await.map(|_| ()).map_err(storage)
            }
            // Its deadline came while it waited: it rests as it is, or comes to rest as if stopped.
            AgentState::Waiting if event == Event::Finish(Rest::Waiting) => {
                let entry = entry.with("state", state);
                self.journal.commit(also.record(entry)).await.map(|_| ()).map_err(storage)
            }
            _ => {
                let why = failure.clone();
                let count = u32::from(failure.is_some());
                let shifted = self.shift(member, event, entry, also, |record| {
                    record.error_count = record.error_count.saturating_add(count);
                    if fails {
                        record.failure = why;
                    }
                });
                shifted.await.map(|_| ())
            }
        };
        if let (Some(lent), Some(mail)) = (&lent, &mail) {
            if dealt_with && moved.is_ok() {
                mail.settle(lent);
            } else {
                mail.give_back(lent);
            }
        }
        {
            let mut cell = member.cell();
            cell.run = None;
            cell.blocked_on = None;
            cell.cpu_nanos += active.meter.cpu_nanos.load(std::sync::atomic::Ordering::Relaxed);
            cell.last_run = Some(Arc::clone(report));
            if cell.stable_since.elapsed() >= STABLE {
                cell.restarts.clear();
            }
        }
        if let Err(error) = moved {
            // The agent is not at rest on record. It is found interrupted after a restart, and is
            // failed here so that nobody waits for it.
            tracing::error!(agent_id = %member.id, %error, "the end of a run could not be recorded");
            let mut cell = member.cell();
            if cell.record.state == AgentState::Running {
                cell.record.state = AgentState::Failed;
                cell.record.failure = Some(error.to_string());
            }
        }
        self.tell(member);
        // A task's failure is the scheduler's to retry, another agent's the other agent's to catch.
        fails && !matches!(report.cause, Cause::Task(_) | Cause::Agent(_))
    }

    /// The agent's turn, once its run is not to hold still any more.
    async fn turn_to_conclude<'a>(
        &self,
        member: &'a Member,
        active: &ActiveRun,
    ) -> tokio::sync::MutexGuard<'a, ()> {
        let mut wish = active.wish.subscribe();
        loop {
            while *wish.borrow_and_update() == Wish::Pause && !active.cancel.is_cancelled() {
                tokio::select! {
                    changed = wish.changed() => if changed.is_err() { break },
                    () = active.cancel.cancelled() => {}
                }
            }
            let turn = member.turn.lock().await;
            if *wish.borrow_and_update() != Wish::Pause || active.cancel.is_cancelled() {
                return turn;
            }
        }
    }

    /// Whether a start ran nothing because the agent needs an input first.
    fn lacks_input(&self, member: &Member, report: &RunReport) -> bool {
        let definition = member.cell().definition.clone();
        let returned_nothing =
            matches!(&report.outcome, RunOutcome::Returned(json) if &**json == "null");
        report.cause == Cause::Start
            && returned_nothing
            && report.steps == 0
            && definition.is_some_and(|definition| definition.needs_input())
    }

    /// What follows a run: the next message, if one waits. Boxed, since that begins a run in turn.
    fn after<'a>(
        &'a self,
        member: &'a Arc<Member>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            if let Err(error) = self.next_message(member).await {
                tracing::warn!(agent_id = %member.id, %error, "a message could not be taken");
            }
        })
    }

    /// Begins a run for the next message that waits, if the agent takes messages now.
    async fn next_message(&self, member: &Arc<Member>) -> Result<(), LifecycleError> {
        let Some(mail) = self.directory.mail(member.id) else { return Ok(()) };
        if self.fleet.is_closed() || mail.waiting(member.id) == 0 {
            return Ok(());
        }
        let _turn = member.turn.lock().await;
        let resting = {
            let cell = member.cell();
            let at_rest = matches!(cell.record.state, AgentState::Waiting | AgentState::Ready);
            cell.record.started && cell.run.is_none() && at_rest
        };
        if !resting {
            return Ok(());
        }
        let definition = self.definition(member).map_err(|reason| {
            LifecycleError::InitializationFailed { agent_id: member.id, reason }
        })?;
        if !definition.takes_messages() {
            return Ok(());
        }
        let lent = mail.lend(member.id).await.map_err(|error| invalid(&error.to_string()))?;
        let Some(lent) = lent else { return Ok(()) };
        let cause = Cause::Message(lent.message.message.id);
        let input = Input::Message(Box::new(lent.message.clone()));
        member.cell().lent = Some(lent.clone());
        let begun = self.begin(member, definition, cause, input, Event::Run, None, None).await;
        if begun.is_err() {
            member.cell().lent = None;
            mail.give_back(&lent);
        }
        begun.map(|_| ())
    }

    async fn tick(&self, member: &Arc<Member>, due: SystemTime) {
        let _turn = member.turn.lock().await;
        let (ready, why) = {
            let cell = member.cell();
            let ready = cell.record.state == AgentState::Ready && cell.run.is_none();
            (ready, cell.record.state)
        };
        let outcome = match (ready, self.definition(member)) {
            (true, Ok(definition)) => self
                .begin(member, definition, Cause::Tick, Input::None, Event::Run, None, None)
                .await
                .map(|_| ()),
            (true, Err(reason)) => Err(invalid(&reason)),
            (false, _) => {
                let entry = self
                    .entry(member, AuditEventType::AgentStopped, "tick.skipped")
                    .details(format!("the agent is {why}"))
                    .with("due", crate::clock::rfc3339(due));
                self.journal.commit(Change::new().record(entry)).await.map(|_| ()).map_err(storage)
            }
        };
        if let Err(error) = outcome {
            tracing::warn!(agent_id = %member.id, %error, "a tick could not run");
        }
    }

    // Ends.

    /// Asks the run to come to its next step, and cuts it off after the grace. The caller does not
    /// hold the agent's turn: the run needs it to conclude.
    async fn end_run(&self, member: &Member, at_once: bool) {
        let Some(active) = member.cell().run.clone() else { return };
        let mut changes = member.changes.subscribe();
        if at_once {
            active.cancel.cancel();
        } else {
            active.wish.send_replace(Wish::Stop);
        }
        let grace = Clock::instant_in(self.settings.termination_timeout);
        let over =
            |member: &Member| member.cell().run.as_ref().is_none_or(|run| run.id != active.id);
        let last = grace + Clock::instant_in(END).duration_since(Instant::now());
        let mut cut = at_once;
        loop {
            changes.borrow_and_update();
            if over(member) {
                return;
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(grace), if !cut => {
                    cut = true;
                    active.cancel.cancel();
                }
                // It was cut off and still did not end: whoever asked says so.
                () = tokio::time::sleep_until(last), if cut => return,
            }
        }
    }

    async fn stop(&self, member: &Arc<Member>) -> Result<(), LifecycleError> {
        match member.state() {
            AgentState::Running | AgentState::Waiting => {}
            AgentState::Ready | AgentState::Completed | AgentState::Failed => {}
            from @ (AgentState::Created
            | AgentState::Initializing
            | AgentState::Suspended
            | AgentState::Terminating
            | AgentState::Terminated) => {
                return Err(LifecycleError::InvalidStateTransition { from, to: AgentState::Ready });
            }
        }
        let mut was_started = false;
        let turn = loop {
            was_started |= self.take_off_duty(member).await?;
            self.end_run(member, false).await;
            let turn = member.turn.lock().await;
            let is_off = {
                let cell = member.cell();
                cell.run.is_none() && !cell.record.started
            };
            // Somebody may have started it anew while the turn was free.
            if is_off {
                break turn;
            }
        };
        let state = member.state();
        let entry = self.entry(member, AuditEventType::AgentStopped, "agent.stopped");
        match state {
            AgentState::Running | AgentState::Waiting => {
                self.shift(member, Event::Stop, entry, Change::new(), |_| {}).await?;
            }
            _ if was_started => {
                let change = Change::new().record(entry.with("state", state));
                self.journal.commit(change).await.map_err(storage)?;
            }
            _ => {}
        }
        let definition = member.cell().definition.clone();
        let goodbye = definition.filter(|definition| was_started && definition.has_on_stop());
        let Some(definition) = goodbye else { return Ok(()) };
        // The farewell is a run like any other: whoever terminates the agent ends it.
        let active = ActiveRun::new();
        member.cell().run = Some(active.clone());
        drop(turn);
        self.say_goodbye(member, definition, active).await;
        Ok(())
    }

    /// From here on nothing begins a run of the agent. Whether something could have before.
    async fn take_off_duty(&self, member: &Member) -> Result<bool, LifecycleError> {
        let _turn = member.turn.lock().await;
        let mut record = member.cell().record.clone();
        if !record.started {
            return Ok(false);
        }
        record.started = false;
        record.first_tick = None;
        let change = Change::new().put(AGENTS, *member.id.as_uuid().as_bytes(), &record);
        self.journal.commit(change).await.map_err(storage)?;
        member.cell().record = record;
        self.tell(member);
        Ok(true)
    }

    /// Runs `on stop`, for as long as the grace.
    async fn say_goodbye(
        &self,
        member: &Arc<Member>,
        definition: Arc<Definition>,
        active: ActiveRun,
    ) {
        let timeout = Some(self.settings.termination_timeout.max(Duration::from_millis(1)));
        let run =
            self.run_of(member, definition, Cause::Stop, Input::None, active.clone(), timeout);
        let (outcome, _) = run.drive().await;
        if let RunOutcome::Failed(failure) = outcome {
            let entry = self
                .entry(member, AuditEventType::ErrorOccurred, "run.failed")
                .details(failure.to_string())
                .with("run", active.id)
                .with("cause", Cause::Stop);
            if let Err(error) = self.journal.commit(Change::new().record(entry)).await {
                tracing::error!(agent_id = %member.id, %error, "a failed `on stop` could not be recorded");
            }
        }
        {
            let mut cell = member.cell();
            if cell.run.as_ref().is_some_and(|run| run.id == active.id) {
                cell.run = None;
            }
        }
        self.tell(member);
    }

    async fn suspend(&self, member: &Arc<Member>, why: &str) -> Result<(), LifecycleError> {
        let _turn = member.turn.lock().await;
        let from = member.state();
        transition(from, Event::Suspend)?;
        let entry = self
            .entry(member, AuditEventType::AgentStopped, "agent.suspended")
            .details(why.to_owned());
        let active = member.cell().run.clone();
        if let Some(active) = &active {
            // One that is being stopped has nothing to hold still for.
            active.wish.send_if_modified(|wish| {
                let goes_on = *wish == Wish::Go;
                if goes_on {
                    *wish = Wish::Pause;
                }
                goes_on
            });
        }
        let shifted = self
            .shift(member, Event::Suspend, entry, Change::new(), |record| {
                record.suspended_from = Some(from);
            })
            .await;
        if shifted.is_err()
            && let Some(active) = &active
        {
            active.wish.send_replace(Wish::Go);
        }
        shifted.map(|_| ())
    }

    async fn resume(&self, member: &Arc<Member>) -> Result<(), LifecycleError> {
        {
            let _turn = member.turn.lock().await;
            let (back_to, active) = {
                let cell = member.cell();
                (cell.record.suspended_from.unwrap_or(AgentState::Ready), cell.run.clone())
            };
            // What its run waited for may have come meanwhile, and after a restart of the process
            // nothing of the run is left.
            let blocked = member.cell().blocked_on.is_some();
            let back_to = match (back_to, &active) {
                (_, Some(_)) if blocked => AgentState::Waiting,
                (_, Some(_)) => AgentState::Running,
                (AgentState::Running, None) => AgentState::Ready,
                (state, None) => state,
            };
            let entry = self.entry(member, AuditEventType::AgentStarted, "agent.resumed");
            self.shift(member, Event::Resume(back_to), entry, Change::new(), |record| {
                record.suspended_from = None;
            })
            .await?;
            if let Some(active) = active {
                active.wish.send_replace(Wish::Go);
            }
        }
        self.after(member).await;
        Ok(())
    }

    async fn terminate(&self, member: &Arc<Member>) -> Result<(), LifecycleError> {
        {
            let _turn = member.turn.lock().await;
            match member.state() {
                AgentState::Terminated => return Ok(()),
                AgentState::Terminating => {}
                _ => {
                    let entry =
                        self.entry(member, AuditEventType::AgentStopped, "agent.terminating");
                    self.shift(member, Event::Terminate, entry, Change::new(), |record| {
                        record.started = false;
                        record.first_tick = None;
                    })
                    .await?;
                }
            }
        }
        self.end_run(member, true).await;
        self.clean_up(member).await
    }

    /// Takes everything away that an agent has, and then calls it terminated.
    async fn clean_up(&self, member: &Arc<Member>) -> Result<(), LifecycleError> {
        let _turn = member.turn.lock().await;
        if member.state() == AgentState::Terminated {
            return Ok(());
        }
        let ended = match member.cell().run {
            Some(_) => Err("its run did not end".to_owned()),
            None => Ok(()),
        };
        let ended = match ended {
            Ok(()) => self.take_sandbox(member).await,
            stuck => stuck,
        };
        if let Err(reason) = ended {
            let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
            stuck.retain(|(id, _)| *id != member.id);
            stuck.push((member.id, reason.clone()));
            return Err(LifecycleError::TerminationFailed { agent_id: member.id, reason });
        }
        let id = member.id;
        let now = self.journal.now();
        if let Some(work) = self.directory.work(id) {
            work.agent_gone(id, now).await;
        }
        if let Some(mail) = self.directory.mail(id) {
            mail.agent_gone(id).await;
        }
        if let Some(ledger) = self.directory.ledger(id) {
            ledger.agent_gone(id).await;
        }
        let mut also = Change::new();
        for key in self.remembered(id).await? {
            also = also.remove(MEMORY, key);
        }
        let entry = self.entry(member, AuditEventType::AgentTerminated, "agent.terminated");
        self.shift(member, Event::Terminated, entry, also, |_| {}).await?;
        {
            let mut cell = member.cell();
            cell.definition = None;
            cell.next_config = None;
        }
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner).retain(|(there, _)| *there != id);
        self.policy.forget_agent(id);
        let forgotten = self.fleet.terminated(id, now);
        self.forget(forgotten).await;
        Ok(())
    }

    /// The keys of everything that the agent remembers.
    async fn remembered(&self, id: AgentId) -> Result<Vec<Vec<u8>>, LifecycleError> {
        const PAGE: usize = 1000;
        let prefix = id.as_uuid().as_bytes();
        let mut keys: Vec<Vec<u8>> = Vec::new();
        loop {
            let after = keys.last().map(Vec::as_slice);
            let page = self.journal.store().scan(MEMORY, prefix, after, PAGE).await;
            let page = page.map_err(storage)?;
            let last = page.len() < PAGE;
            keys.extend(page.into_iter().map(|(key, _)| key));
            if last {
                return Ok(keys);
            }
        }
    }

    async fn take_sandbox(&self, member: &Member) -> Result<(), String> {
        let mut seat = member.seat.id.lock().await;
        let (Some(id), Some(sandbox)) = (*seat, &self.sandbox) else { return Ok(()) };
        match sandbox.destroy_sandbox(id).await {
            Ok(()) | Err(symbiont_types::SandboxError::NotFound { .. }) => {
                *seat = None;
                *member.seat.current.lock().unwrap_or_else(PoisonError::into_inner) = None;
                Ok(())
            }
            Err(error) => Err(format!("its sandbox could not be destroyed: {error}")),
        }
    }

    async fn forget(&self, ids: Vec<AgentId>) {
        for id in ids {
            self.directory.forget(id);
            let key = *id.as_uuid().as_bytes();
            let change = Change::new().remove(AGENTS, key).remove(CONFIGS, key);
            if let Err(error) = self.journal.commit(change).await {
                tracing::error!(agent_id = %id, %error, "an old record could not be removed");
            }
        }
    }

    async fn restart(&self, member: &Arc<Member>) -> Result<(), LifecycleError> {
        match member.state() {
            AgentState::Running | AgentState::Waiting => self.stop(member).await?,
            AgentState::Suspended => self.end_run(member, true).await,
            AgentState::Created
            | AgentState::Initializing
            | AgentState::Ready
            | AgentState::Completed
            | AgentState::Failed
            | AgentState::Terminating
            | AgentState::Terminated => {}
        }
        self.initialize(member, Event::Reinitialize).await?;
        self.start(member, Input::None).await
    }

    // Changes.

    async fn update(
        &self,
        member: &Arc<Member>,
        config: AgentConfig,
    ) -> Result<(), LifecycleError> {
        if config.id != member.id {
            return Err(invalid("the config is of another agent: its `id` can't change"));
        }
        let mut issues = config::issues(&config);
        issues.extend(symbiont_policy::validate(&config.policies));
        if !issues.is_empty() {
            return Err(invalid(&config::line(&issues)));
        }
        let _turn = member.turn.lock().await;
        let (state, current) = {
            let cell = member.cell();
            (cell.record.state, Arc::clone(&cell.config))
        };
        if matches!(state, AgentState::Terminating | AgentState::Terminated) {
            return Err(LifecycleError::InvalidStateTransition { from: state, to: state });
        }
        // What applies at once, and what waits for the next initialization.
        let narrows = !config.capabilities.is_empty()
            && (current.capabilities.is_empty()
                || config.capabilities.iter().all(|c| current.capabilities.contains(c)));
        let now_config = AgentConfig {
            dsl_source: current.dsl_source.clone(),
            security_tier: current.security_tier,
            execution_mode: current.execution_mode.clone(),
            capabilities: if narrows {
                config.capabilities.clone()
            } else {
                current.capabilities.clone()
            },
            ..config.clone()
        };
        let later = (now_config != config).then(|| Arc::new(config.clone()));
        let definition = match state {
            AgentState::Created => None,
            _ => Some(Arc::new(
                self.programs.define(&now_config).map_err(|reason| invalid(&reason))?,
            )),
        };
        let policies =
            definition.as_ref().map_or(&now_config.policies, |definition| &definition.policies);
        let tier =
            definition.as_ref().map_or(now_config.security_tier, |definition| definition.tier);
        let holds = self.directory.ledger(member.id).is_some_and(|ledger| ledger.holds(member.id));
        if let (Some(resources), Some(definition), true) = (&self.resources, &definition, holds) {
            let limits = definition.limits.clone();
            resources
                .update_resource_limits(member.id, limits)
                .await
                .map_err(|error| invalid(&error.to_string()))?;
        }
        let entry = self
            .entry(member, AuditEventType::SecurityEvent, "config.updated")
            .with("at_next_initialization", later.is_some());
        let change = Change::new()
            .put(
                CONFIGS,
                *member.id.as_uuid().as_bytes(),
                &stored::Configs::of(&now_config, later.as_deref()),
            )
            .record(entry);
        self.journal.commit(change).await.map_err(storage)?;
        self.tell_policy(member.id, &now_config, policies, tier)?;
        {
            let mut cell = member.cell();
            self.fleet.rename(member.id, &current.name, &now_config.name);
            cell.config = Arc::new(now_config);
            cell.next_config = later;
            if definition.is_some() {
                cell.definition = definition;
            }
        }
        self.tell(member);
        Ok(())
    }

    // What is looked at once in a while.

    async fn check_all(&self) {
        let now = self.journal.now();
        let forgotten = self.fleet.forget_old(now);
        self.forget(forgotten).await;
        for member in self.fleet.all() {
            if self.tasks.is_stopping() {
                return;
            }
            match member.state() {
                AgentState::Terminating => {
                    if let Err(error) = self.clean_up(&member).await {
                        tracing::warn!(agent_id = %member.id, %error, "still not terminated");
                    }
                }
                AgentState::Waiting => self.park(&member),
                AgentState::Created
                | AgentState::Initializing
                | AgentState::Ready
                | AgentState::Running
                | AgentState::Suspended
                | AgentState::Completed
                | AgentState::Failed
                | AgentState::Terminated => {}
            }
            self.check_sandbox(&member).await;
        }
    }

    /// Frees the memory of an agent that has waited for longer than its `idle_timeout`; its program
    /// is read again when there is something to do.
    fn park(&self, member: &Member) {
        let mut cell = member.cell();
        let idle = cell.resting_since.elapsed();
        let parked = cell.run.is_none()
            && cell.definition.is_some()
            && idle >= cell.config.resource_limits.idle_timeout;
        if parked {
            cell.definition = None;
            tracing::debug!(agent_id = %member.id, "parked");
        }
    }

    /// An idle agent's sandbox that has gone without our doing is forgotten, so that the next
    /// effect gets a new one.
    async fn check_sandbox(&self, member: &Member) {
        let Some(sandbox) = &self.sandbox else { return };
        let Ok(mut seat) = member.seat.id.try_lock() else { return };
        let Some(id) = *seat else { return };
        let status = sandbox.get_sandbox_status(id).await;
        if matches!(status, Ok(symbiont_types::SandboxStatus::Running)) {
            return;
        }
        // What is left of it is taken away, or it would count as one for ever.
        if let Err(error) = sandbox.destroy_sandbox(id).await {
            tracing::warn!(agent_id = %member.id, sandbox_id = %id, %error, "a lost sandbox could not be removed");
            return;
        }
        *seat = None;
        *member.seat.current.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let entry = self
            .entry(member, AuditEventType::SecurityEvent, "sandbox.lost")
            .details(format!("{status:?}"))
            .with("sandbox", id);
        if let Err(error) = self.journal.commit(Change::new().record(entry)).await {
            tracing::error!(agent_id = %member.id, %error, "a lost sandbox could not be recorded");
        }
    }

    /// Takes one of the automatic restarts that the agent may have.
    fn take_restart(&self, member: &Member) -> bool {
        let now = self.journal.now();
        let mut cell = member.cell();
        cell.restarts.retain(|at| now.duration_since(*at).unwrap_or_default() <= RESTART_WINDOW);
        if cell.restarts.len() >= self.settings.max_restart_attempts as usize {
            return false;
        }
        cell.restarts.push_back(now);
        cell.stable_since = Instant::now();
        cell.record.restart_count = cell.record.restart_count.saturating_add(1);
        true
    }

    /// Initializes a failed agent again by itself, with growing pauses, within its budget.
    fn recover_later(&self, member: &Arc<Member>) {
        if !self.settings.enable_auto_recovery {
            return;
        }
        let (this, id) = (Weak::clone(&self.this), member.id);
        self.tasks.spawn(async move {
            let mut pause = RECOVERY_BACKOFF;
            loop {
                let Some(inner) = this.upgrade() else { return };
                let stop = inner.tasks.stopping();
                drop(inner);
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = pause.saturating_mul(2).min(Duration::from_secs(60));
                let Some(inner) = this.upgrade() else { return };
                let Some(member) = inner.fleet.find(id) else { return };
                if member.state() != AgentState::Failed || !inner.take_restart(&member) {
                    return;
                }
                if inner.initialize(&member, Event::Initialize).await.is_ok() {
                    return;
                }
            }
        });
    }

    /// Takes in the agents of a journal. What the process left half done when it died is decided
    /// here.
    async fn restore(self: &Arc<Self>) -> Result<(), LifecycleError> {
        let store = self.journal.store();
        let configs = rows::<stored::Configs>(store, CONFIGS, &[]).await.map_err(storage)?;
        let mut change = Change::new();
        let mut again = Vec::new();
        for (key, stored::Configs { now: config, next }) in configs {
            let found =
                crate::journal::row::<stored::Agent>(store, AGENTS, &key).await.map_err(storage)?;
            let Some(mut record) = found else { continue };
            let config = AgentConfig::from(config);
            let before = record.state;
            let interrupted = "the process ended during the run, which is not replayed";
            let event = match before {
                AgentState::Initializing => Some(Event::Rewind),
                AgentState::Running => Some(Event::Fail),
                AgentState::Suspended if record.suspended_from == Some(AgentState::Running) => {
                    record.suspended_from = Some(AgentState::Ready);
                    None
                }
                AgentState::Created
                | AgentState::Ready
                | AgentState::Suspended
                | AgentState::Waiting
                | AgentState::Completed
                | AgentState::Failed
                | AgentState::Terminating
                | AgentState::Terminated => None,
            };
            if let Some(event) = event {
                record.state = transition(before, event)?;
                if record.state == AgentState::Failed {
                    record.error_count = record.error_count.saturating_add(1);
                    record.failure = Some(interrupted.to_owned());
                }
                let entry = self
                    .journal
                    .event(AuditEventType::ErrorOccurred, "agent.interrupted")
                    .agent(config.id)
                    .details(interrupted)
                    .with("from", before)
                    .with("state", record.state);
                change = change.put(AGENTS, key, &record).record(entry);
            }
            let ended = record.state == AgentState::Terminated;
            let member = Member::new(config, record);
            member.cell().next_config = next.map(|next| Arc::new(next.into()));
            self.fleet.restore(Arc::clone(&member));
            if ended {
                continue;
            }
            self.take_place(member.id)?;
            let config = Arc::clone(&member.cell().config);
            match self.definition(&member) {
                Ok(definition) => {
                    self.tell_policy(member.id, &config, &definition.policies, definition.tier)?;
                }
                // A program that this version refuses fails when it is initialized or run.
                Err(_) => {
                    self.tell_policy(member.id, &config, &config.policies, config.security_tier)?;
                }
            }
            if before == AgentState::Running || before == AgentState::Initializing {
                again.push(Arc::clone(&member));
            }
            let (first_tick, started, updated_at) = {
                let cell = member.cell();
                let record = &cell.record;
                (record.first_tick, record.started, from_micros(record.updated_at))
            };
            if let (Some(first), true, ExecutionMode::Scheduled { interval }) =
                (first_tick, started, &config.execution_mode)
            {
                self.tasks.spawn(recur(
                    Weak::clone(&self.this),
                    member.id,
                    from_micros(first),
                    due_after(from_micros(first), *interval, updated_at, self.journal.now()),
                    *interval,
                ));
            }
        }
        if !change.is_empty() {
            self.journal.commit(change).await.map_err(storage)?;
        }
        for member in again {
            if member.state() == AgentState::Failed {
                self.recover_later(&member);
            }
        }
        for member in self.fleet.all() {
            let on_duty = {
                let cell = member.cell();
                let at_rest = matches!(cell.record.state, AgentState::Waiting | AgentState::Ready);
                at_rest && cell.record.started
            };
            if on_duty {
                let inner = Arc::clone(self);
                self.tasks.spawn(async move { inner.after(&member).await });
            }
        }
        Ok(())
    }
}

/// Sources above this are read on a thread of their own.
const LARGE_SOURCE: usize = 64 * 1024;

#[async_trait]
impl LifecycleController for DefaultLifecycleController {
    async fn create_agent(&self, config: AgentConfig) -> Result<AgentInstance, LifecycleError> {
        if self.inner.fleet.is_closed() {
            return Err(closing());
        }
        let inner = Arc::clone(&self.inner);
        match self.inner.tasks.detached(async move { inner.create(config).await }).await {
            Ok(Some(outcome)) => outcome,
            Ok(None) | Err(_) => Err(closing()),
        }
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
        if !self.inner.fleet.close() {
            for member in self.inner.fleet.all() {
                if let Some(active) = member.cell().run.clone() {
                    active.wish.send_replace(Wish::Stop);
                }
            }
        }
        self.inner.tasks.stop(self.inner.settings.termination_timeout).await;
        Ok(())
    }
}

impl Inner {
    async fn status(&self) -> SystemStatus {
        let counts = self.fleet.counts();
        let stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (mut active, mut waiting) = (0, 0);
        for member in self.fleet.all() {
            let cell = member.cell();
            match (&cell.run, &cell.blocked_on) {
                (Some(_), None) => active += 1,
                (Some(_), Some(_)) => waiting += 1,
                (None, _) => {}
            }
        }
        let phase = match (self.fleet.is_closed(), self.tasks.is_done(), stuck.is_empty()) {
            (true, true, _) => Phase::Stopped,
            (true, false, _) => Phase::Draining,
            (false, _, false) => Phase::Degraded,
            (false, _, true) => Phase::Running,
        };
        let store = self.journal.store().status().await;
        let mut warnings: Vec<String> = stuck
            .into_iter()
            .map(|(id, why)| format!("agent `{id}` can't be ended: {why}"))
            .collect();
        let (storage, head) = match store {
            Ok(store) => (
                symbiont_types::StorageStatus {
                    backend: store.backend.to_owned(),
                    size: store.size,
                    fsync_p99: store.commit_p99,
                },
                store.head.sequence,
            ),
            Err(error) => {
                warnings.push(format!("the store does not answer: {error}"));
                (symbiont_types::StorageStatus::default(), 0)
            }
        };
        let resources = match &self.resources {
            Some(resources) => Some(resources.get_system_resources().await),
            None => None,
        };
        let tiers = match &self.sandbox {
            Some(sandbox) => sandbox.tiers().await,
            None => Vec::new(),
        };
        SystemStatus {
            node_id: format!("{}-{}", host_name(), std::process::id()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            build: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
            profile: self.profile.to_owned(),
            started_at: self.started_at,
            uptime: self.began.elapsed(),
            phase,
            agents_total: counts.values().sum(),
            agents_by_state: counts,
            agents_capacity: self.settings.max_agents,
            runs_active: active,
            runs_waiting: waiting,
            tasks_pending: None,
            tasks_running: None,
            messages_pending: None,
            messages_dead: None,
            resources,
            breakers_open: None,
            approvals_pending: 0,
            policy_digest: Some(self.policy.digest()),
            audit_head: symbiont_types::AuditHead {
                sequence: head,
                checkpoint_age: None,
                last_verified: None,
            },
            storage,
            tiers,
            components: Vec::new(),
            warnings,
        }
    }
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}

#[async_trait]
impl AgentPort for Inner {
    fn state(&self, id: AgentId) -> Option<AgentState> {
        self.fleet.find(id).map(|member| member.state())
    }

    fn limits(&self, id: AgentId) -> Option<ResourceLimits> {
        let member = self.fleet.find(id)?;
        let cell = member.cell();
        let definition = cell.definition.as_ref().map(|definition| definition.limits.clone());
        Some(definition.unwrap_or_else(|| cell.config.resource_limits.clone()))
    }

    fn is_ephemeral(&self, id: AgentId) -> bool {
        self.fleet
            .find(id)
            .is_some_and(|member| member.cell().config.execution_mode == ExecutionMode::Ephemeral)
    }

    fn readiness(&self, id: AgentId) -> Readiness {
        match self.fleet.find(id) {
            Some(member) => readiness(&member.cell()),
            None => Readiness::Gone,
        }
    }

    async fn run_task(&self, id: AgentId, activation: Activation) -> AttemptOutcome {
        let Some(member) = self.fleet.find(id) else { return AttemptOutcome::Gone };
        let inner = self.me();
        let task = async move { inner.attempt(&member, activation).await };
        match self.tasks.detached(task).await {
            Ok(Some(outcome)) => outcome,
            Ok(None) | Err(_) => {
                AttemptOutcome::Cancelled { by: "the runtime is shutting down".to_owned() }
            }
        }
    }

    fn mail_waiting(&self, id: AgentId) {
        let Some(member) = self.fleet.find(id) else { return };
        let run = member.cell().run.clone();
        match run {
            Some(run) => run.mail.notify_one(),
            None => {
                let inner = self.me();
                self.tasks.spawn(async move { inner.after(&member).await });
            }
        }
    }

    async fn usage(&self, id: AgentId) -> Result<Usage, String> {
        let member = self.fleet.get(id).map_err(|error| error.to_string())?;
        let (memory, cpu_nanos, created_at, ended_at) = {
            let cell = member.cell();
            let (memory, cpu) = cell.run.as_ref().map_or((0, 0), |run| {
                let load = |figure: &std::sync::atomic::AtomicU64| {
                    figure.load(std::sync::atomic::Ordering::Relaxed)
                };
                (load(&run.meter.memory), load(&run.meter.cpu_nanos))
            });
            let ended =
                (cell.record.state == AgentState::Terminated).then_some(cell.record.updated_at);
            (memory, cell.cpu_nanos + cpu, cell.record.created_at, ended)
        };
        let until = ended_at.map_or_else(|| self.journal.now(), from_micros);
        let mut usage = Usage {
            memory: Some(memory),
            cpu_nanos: Some(cpu_nanos),
            // The evaluator reaches neither, and a sandbox has no network.
            disk_bytes: Some(0),
            network_bytes: Some(0),
            throttled: None,
            oom_kills: None,
            source: UsageSource::Evaluator,
            uptime: until.duration_since(from_micros(created_at)).unwrap_or_default(),
        };
        let seat: Arc<SandboxSeat> = Arc::clone(&member.seat);
        let current = *seat.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(sandbox), Some(id)) = (&self.sandbox, current) {
            let measured = sandbox.usage(id).await.map_err(|error| error.to_string())?;
            let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            usage = Usage {
                memory: measured.memory_bytes.map(|there| there.saturating_add(memory)),
                cpu_nanos: measured.cpu_time.map(|time| nanos(time).saturating_add(cpu_nanos)),
                disk_bytes: measured
                    .io_read_bytes
                    .zip(measured.io_write_bytes)
                    .map(|(read, written)| read.saturating_add(written)),
                throttled: measured.throttled,
                oom_kills: measured.oom_kills,
                source: UsageSource::Kernel,
                ..usage
            };
        }
        Ok(usage)
    }

    async fn control(
        &self,
        id: AgentId,
        action: &ErrorAction,
        reason: &str,
    ) -> Result<(), LifecycleError> {
        let (action, reason) = (action.clone(), reason.to_owned());
        self.act(id, |inner, member| async move { inner.carry_out(&member, action, &reason).await })
            .await
    }
}

/// Whether the agent would take a task now.
fn readiness(cell: &Cell) -> Readiness {
    let not_now = |why: &str| Readiness::NotNow(why.to_owned());
    let ephemeral = cell.config.execution_mode == ExecutionMode::Ephemeral;
    match cell.record.state {
        AgentState::Created | AgentState::Initializing => not_now("the agent is not initialized"),
        AgentState::Ready if !cell.record.started => not_now("the agent is not started"),
        AgentState::Ready | AgentState::Waiting | AgentState::Running if cell.run.is_some() => {
            not_now("the agent is busy with another run")
        }
        AgentState::Ready | AgentState::Waiting => Readiness::Ready,
        AgentState::Running => not_now("the agent is busy with another run"),
        AgentState::Suspended => not_now("the agent is suspended"),
        AgentState::Completed | AgentState::Failed if ephemeral && cell.record.started => {
            Readiness::Ready
        }
        AgentState::Completed => not_now("the agent is not started"),
        AgentState::Failed => not_now("the agent has failed: initialize and start it again"),
        AgentState::Terminating | AgentState::Terminated => Readiness::Gone,
    }
}

impl Inner {
    /// One attempt at a task.
    async fn attempt(&self, member: &Arc<Member>, activation: Activation) -> AttemptOutcome {
        let Activation { task_id, input, timeout, cancel, .. } = activation;
        let input = input.map_or(Input::None, Input::Json);
        self.work(member, Cause::Task(task_id), input, Some(timeout), cancel).await
    }

    /// Runs the agent's behaviour once on behalf of somebody.
    async fn work(
        &self,
        member: &Arc<Member>,
        cause: Cause,
        input: Input,
        timeout: Option<Duration>,
        cancel: CancellationToken,
    ) -> AttemptOutcome {
        let begun = {
            let _turn = member.turn.lock().await;
            match readiness(&member.cell()) {
                Readiness::Ready => {}
                Readiness::NotNow(reason) => return AttemptOutcome::NotNow(reason),
                Readiness::Gone => return AttemptOutcome::Gone,
            }
            self.begin_work(member, cause, input, timeout).await
        };
        let (mut told, active) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                return AttemptOutcome::Failed { error: error.to_string(), retryable: true };
            }
        };
        let report = tokio::select! {
            report = &mut told => report,
            () = cancel.cancelled() => {
                active.wish.send_replace(Wish::Stop);
                let grace = Clock::instant_in(self.settings.termination_timeout);
                tokio::select! {
                    report = &mut told => report,
                    () = tokio::time::sleep_until(grace) => {
                        active.cancel.cancel();
                        told.await
                    }
                }
            }
        };
        let Ok(report) = report else {
            return AttemptOutcome::Cancelled { by: "the runtime is shutting down".to_owned() };
        };
        match &report.outcome {
            RunOutcome::Returned(json) => AttemptOutcome::Completed(Arc::clone(json)),
            RunOutcome::Failed(_) if report.unfinished => AttemptOutcome::Unknown,
            RunOutcome::Failed(failure)
                if failure.kind == "Timeout" && failure.operation.is_none() && !report.effects =>
            {
                AttemptOutcome::TimedOut
            }
            RunOutcome::Failed(failure) => AttemptOutcome::Failed {
                error: failure.to_string(),
                // What it did before it failed would be done again.
                retryable: !failure.is_final() && !report.effects,
            },
            RunOutcome::Cancelled(by) => AttemptOutcome::Cancelled { by: by.clone() },
        }
    }

    /// Begins a run for work, initializing an ephemeral agent anew first. The caller holds the
    /// agent's turn.
    async fn begin_work(
        &self,
        member: &Arc<Member>,
        cause: Cause,
        input: Input,
        timeout: Option<Duration>,
    ) -> Result<(oneshot::Receiver<Arc<RunReport>>, ActiveRun), LifecycleError> {
        if matches!(member.state(), AgentState::Completed | AgentState::Failed) {
            self.initialize_in_turn(member, Event::Initialize).await?;
        }
        let definition = self.definition(member).map_err(|reason| {
            LifecycleError::InitializationFailed { agent_id: member.id, reason }
        })?;
        self.begin(member, definition, cause, input, Event::Run, timeout, None).await
    }

    /// Does what was decided about an error or a violation.
    async fn carry_out(
        &self,
        member: &Arc<Member>,
        action: ErrorAction,
        reason: &str,
    ) -> Result<(), LifecycleError> {
        let failed = |reason: &str| {
            Err(LifecycleError::InitializationFailed {
                agent_id: member.id,
                reason: reason.to_owned(),
            })
        };
        match action {
            ErrorAction::Retry { backoff, .. } => {
                if member.state() != AgentState::Failed {
                    return Ok(()); // It goes on by itself.
                }
                let (this, id) = (Weak::clone(&self.this), member.id);
                let stop = self.tasks.stopping();
                self.tasks.spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(backoff) => {}
                    }
                    let Some(inner) = this.upgrade() else { return };
                    let Some(member) = inner.fleet.find(id) else { return };
                    if member.state() == AgentState::Failed
                        && let Err(error) = inner.restart(&member).await
                    {
                        tracing::warn!(agent_id = %id, %error, "a retry could not begin");
                    }
                });
                Ok(())
            }
            ErrorAction::Restart => {
                if !self.take_restart(member) {
                    return failed(
                        "its restarts in five minutes are used up (see max_restart_attempts)",
                    );
                }
                self.restart(member).await
            }
            ErrorAction::Suspend => match member.state() {
                AgentState::Ready | AgentState::Running | AgentState::Waiting => {
                    self.suspend(member, reason).await
                }
                // It does nothing as it is.
                AgentState::Created
                | AgentState::Initializing
                | AgentState::Suspended
                | AgentState::Completed
                | AgentState::Failed
                | AgentState::Terminating
                | AgentState::Terminated => Ok(()),
            },
            ErrorAction::Terminate => self.terminate(member).await,
            ErrorAction::Failover => failed("taking over by a backup agent is not served yet"),
        }
    }
}

#[async_trait]
impl Blocking for Inner {
    async fn block(&self, agent_id: AgentId, run: Uuid, on: &str) {
        let Some(member) = self.fleet.find(agent_id) else { return };
        let _turn = member.turn.lock().await;
        {
            let mut cell = member.cell();
            if cell.run.as_ref().is_none_or(|there| there.id != run) {
                return;
            }
            cell.blocked_on = Some(on.to_owned());
        }
        if member.state() == AgentState::Running {
            let entry = self
                .entry(&member, AuditEventType::AgentStopped, "run.waiting")
                .details(format!("waits for {on}"));
            if let Err(error) =
                self.shift(&member, Event::Block, entry, Change::new(), |_| {}).await
            {
                tracing::warn!(%agent_id, %error, "a wait could not be recorded");
            }
        }
    }

    async fn unblock(&self, agent_id: AgentId, run: Uuid) {
        let Some(member) = self.fleet.find(agent_id) else { return };
        let _turn = member.turn.lock().await;
        {
            let mut cell = member.cell();
            if cell.run.as_ref().is_none_or(|there| there.id != run) {
                return;
            }
            cell.blocked_on = None;
        }
        if member.state() == AgentState::Waiting {
            let entry = self.entry(&member, AuditEventType::AgentStarted, "run.resumed");
            if let Err(error) = self.shift(&member, Event::Run, entry, Change::new(), |_| {}).await
            {
                tracing::warn!(%agent_id, %error, "the end of a wait could not be recorded");
            }
        }
    }

    fn named(&self, name: &str) -> Option<AgentId> {
        self.fleet.named(name)
    }

    fn name_of(&self, id: AgentId) -> Option<String> {
        self.fleet.find(id).map(|member| member.cell().config.name.clone())
    }

    async fn delegate(&self, from: AgentId, to: AgentId, input: Arc<str>) -> RunOutcome {
        let Some(member) = self.fleet.find(to) else {
            return RunOutcome::Cancelled("the agent is gone".to_owned());
        };
        if let Err(error) = self.make_ready(&member).await {
            return RunOutcome::Cancelled(error.to_string());
        }
        let mut changes = member.changes.subscribe();
        loop {
            changes.borrow_and_update();
            let input = Input::Json(Arc::clone(&input));
            let outcome =
                self.work(&member, Cause::Agent(from), input, None, CancellationToken::new()).await;
            return match outcome {
                AttemptOutcome::NotNow(_) => match changes.changed().await {
                    Ok(()) => continue,
                    Err(_) => RunOutcome::Cancelled("the agent is gone".to_owned()),
                },
                AttemptOutcome::Completed(json) => RunOutcome::Returned(json),
                AttemptOutcome::Failed { .. }
                | AttemptOutcome::TimedOut
                | AttemptOutcome::Unknown => {
                    let last = member.cell().last_run.clone();
                    match last.map(|report| report.outcome.clone()) {
                        Some(RunOutcome::Failed(failure)) => RunOutcome::Failed(failure),
                        _ => RunOutcome::Cancelled("the agent failed".to_owned()),
                    }
                }
                AttemptOutcome::Cancelled { by } => RunOutcome::Cancelled(by),
                AttemptOutcome::Gone => {
                    RunOutcome::Cancelled("the agent has terminated".to_owned())
                }
            };
        }
    }
}

impl Inner {
    /// Initializes and admits an agent that was only created, so that it can work for another.
    async fn make_ready(&self, member: &Arc<Member>) -> Result<(), LifecycleError> {
        if member.state() == AgentState::Created {
            self.initialize(member, Event::Initialize).await?;
        }
        let _turn = member.turn.lock().await;
        if member.state() != AgentState::Ready || member.cell().record.started {
            return Ok(());
        }
        let definition = self.definition(member).map_err(|reason| invalid(&reason))?;
        self.may_start(member, &definition)?;
        self.admit(member, &definition).await?;
        let mut record = member.cell().record.clone();
        record.started = true;
        let entry = self
            .entry(member, AuditEventType::AgentStarted, "agent.admitted")
            .details("it works for another agent")
            .with("state", record.state);
        let change =
            Change::new().put(AGENTS, *member.id.as_uuid().as_bytes(), &record).record(entry);
        self.journal.commit(change).await.map_err(storage)?;
        member.cell().record = record;
        self.tell(member);
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
