//! The error handler: decides what is to be done about an agent's errors, does it, and learns from
//! whether it helped.
//!
//! # What holds
//!
//! - A decision is a plain function of the error and what is known. It is on record before it is
//!   carried out through the directory, and its outcome is counted; what can't be recorded is not
//!   carried out.
//! - What keeps failing is left alone: a breaker for each agent and kind of error, which outlives
//!   the process, and a budget of recoveries in a window.
//! - An agent that began an effect that must not be repeated is not run again by itself.
//! - One piece of work that fails, of an agent that goes on, is counted. So is a single denial by
//!   policy. Neither is acted on before there are too many.
//!
//! # What is not here
//!
//! Nothing is retried here: an action that says `Retry` tells whoever runs the agent to.

mod breaker;
mod decide;
mod stored;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use symbiont_store::StoreError;
use symbiont_types::{
    AgentId, AgentState, AuditEventType, ErrorAction, ErrorFingerprint, ErrorHandlerError,
    ErrorStatistics, ErrorThresholds, ErrorType, RecoveryStrategy, RuntimeError,
    SystemErrorStatistics,
};

use self::breaker::{Breaker, Setting};
use self::decide::{Decision, Situation};
use self::stored::Breakers;
use crate::clock::Clock;
use crate::directory::{AgentPort, Directory, FailedRun, Supervisor};
use crate::journal::{Change, Journal, SETTINGS, rows};
use crate::tasks::Tasks;
use crate::turns::Turns;

/// Decides what is to be done about errors, and does it.
#[async_trait]
pub trait ErrorHandler: Send + Sync {
    /// Records the error, decides, and carries the action out. A `Retry` without attempts left
    /// means that the error was counted and nothing is done about it: a single denial by policy is
    /// a normal result.
    ///
    /// # Errors
    ///
    /// `AgentNotFound` for an agent that nobody runs or that has ended; `Storage` when the decision
    /// could not be recorded, and was therefore not carried out; `RecoveryFailed` when the decided
    /// action could not be carried out; `ShuttingDown`.
    async fn handle_error(
        &self,
        agent_id: AgentId,
        error: RuntimeError,
    ) -> Result<ErrorAction, ErrorHandlerError>;

    /// What is to be done about errors of a kind from now on.
    ///
    /// # Errors
    ///
    /// `InvalidStrategy` for a retry without attempts or for ever, a backup that nobody runs, or a
    /// manual strategy without a reason.
    async fn register_strategy(
        &self,
        error_type: ErrorType,
        strategy: RecoveryStrategy,
    ) -> Result<(), ErrorHandlerError>;

    /// The agent's errors.
    ///
    /// # Errors
    ///
    /// `AgentNotFound` for an agent that nobody runs and that had no errors.
    async fn get_error_stats(
        &self,
        agent_id: AgentId,
    ) -> Result<ErrorStatistics, ErrorHandlerError>;

    /// The errors of all agents.
    async fn get_system_error_stats(&self) -> SystemErrorStatistics;

    /// When the agent's errors are too many.
    ///
    /// # Errors
    ///
    /// `InvalidThreshold` for zeros, or more errors than `max_error_history` keeps;
    /// `AgentNotFound`.
    async fn set_error_thresholds(
        &self,
        agent_id: AgentId,
        thresholds: ErrorThresholds,
    ) -> Result<(), ErrorHandlerError>;

    /// Forgets the agent's errors, and closes its breakers.
    ///
    /// # Errors
    ///
    /// `AgentNotFound` for an agent that nobody runs and that had no errors; `Storage` when that
    /// could not be recorded.
    async fn clear_error_history(&self, agent_id: AgentId) -> Result<(), ErrorHandlerError>;

    /// Takes nothing more. Again is fine.
    ///
    /// # Errors
    ///
    /// None at present.
    async fn shutdown(&self) -> Result<(), ErrorHandlerError>;
}

/// Settings of the error handler.
#[derive(Debug, Clone, PartialEq)]
pub struct ErrorHandlerConfig {
    /// Errors kept of each agent; at least as many as the thresholds below count.
    pub max_error_history: usize,
    /// The window that errors, restarts and recoveries are counted in.
    pub error_aggregation_window: Duration,
    /// Errors of one agent in the window from which somebody is told.
    pub escalation_threshold: u32,
    /// Failures of one kind in the window, without a success, that open a breaker.
    pub circuit_breaker_threshold: u32,
    /// How long a breaker stays open the first time.
    pub circuit_breaker_timeout: Duration,
    /// Whether anything but suspending is done by itself.
    pub enable_auto_recovery: bool,
    /// Restarts of one agent in the window.
    pub max_recovery_attempts: u32,
    /// How much longer each pause before a retry may be than the one before; at least 1.
    pub recovery_backoff_multiplier: f32,
}

impl Default for ErrorHandlerConfig {
    /// 1,000 errors, five minutes, telling from 10, breakers for a minute at 6, which is one more
    /// than the default retries of any kind, recovery on, three restarts, pauses doubling.
    fn default() -> Self {
        Self {
            max_error_history: 1000,
            error_aggregation_window: Duration::from_secs(300),
            escalation_threshold: 10,
            circuit_breaker_threshold: 6,
            circuit_breaker_timeout: Duration::from_secs(60),
            enable_auto_recovery: true,
            max_recovery_attempts: 3,
            recovery_backoff_multiplier: 2.0,
        }
    }
}

/// Agents that something is remembered of. The one that was quiet the longest is forgotten, those
/// with thresholds of their own last.
const MOST_AGENTS: usize = 10_000;
/// Patterns counted for each agent.
const MOST_PATTERNS: usize = 64;
/// Patterns and agents that statistics name.
const TOP: usize = 8;
/// How long a breaker that nothing is heard of is kept over restarts.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// The error handler.
#[derive(Debug)]
pub struct DefaultErrorHandler {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: ErrorHandlerConfig,
    journal: Journal,
    directory: Arc<Directory>,
    state: Mutex<State>,
    /// Held while an agent's breakers are recorded.
    turns: Turns,
    tasks: Tasks,
    this: Weak<Self>,
}

#[derive(Debug, Default)]
struct State {
    strategies: HashMap<ErrorType, RecoveryStrategy>,
    agents: HashMap<AgentId, History>,
    closed: bool,
}

/// What is remembered of one agent's errors.
#[derive(Debug, Default)]
struct History {
    recent: VecDeque<(SystemTime, ErrorType)>,
    total: u64,
    by_type: BTreeMap<ErrorType, u64>,
    first_at: Option<SystemTime>,
    last_at: Option<SystemTime>,
    consecutive: u32,
    retries: BTreeMap<ErrorType, u32>,
    recoveries: VecDeque<SystemTime>,
    breakers: BTreeMap<ErrorType, Breaker>,
    patterns: BTreeMap<String, u64>,
    actions: BTreeMap<String, u64>,
    thresholds: Option<ErrorThresholds>,
    /// Since when an error waits for a success.
    failing_since: Option<SystemTime>,
    recovered: u64,
    recovery_failed: u64,
    recovery_time: Duration,
    escalated_at: Option<SystemTime>,
    /// When something was last heard of it, from the agent or from who looks after it.
    touched_at: Option<SystemTime>,
}

/// What was decided about an error, not yet on record.
#[derive(Debug)]
struct Chosen {
    error_type: ErrorType,
    decision: Decision,
    escalate: bool,
    breakers: Option<Breakers>,
}

/// Builds a [`DefaultErrorHandler`].
#[derive(Debug)]
pub struct ErrorHandlerBuilder {
    config: ErrorHandlerConfig,
    directory: Arc<Directory>,
    journal: Journal,
}

impl DefaultErrorHandler {
    /// An error handler, which meets the process's other components in their directory.
    ///
    /// # Errors
    ///
    /// `InvalidStrategy` for settings that make no sense.
    pub async fn new(config: ErrorHandlerConfig) -> Result<Self, ErrorHandlerError> {
        Self::builder(config).directory(Directory::process()).build().await
    }

    /// An error handler with a directory of its own, unless the builder is told otherwise.
    pub fn builder(config: ErrorHandlerConfig) -> ErrorHandlerBuilder {
        ErrorHandlerBuilder {
            config,
            directory: Directory::new(),
            journal: Journal::in_memory(Clock::system()),
        }
    }

    /// Runs `work` to its end, whether or not the caller waits for it.
    async fn detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, ErrorHandlerError>> + Send + 'static,
    ) -> Result<T, ErrorHandlerError> {
        self.inner.tasks.finish(work).await.unwrap_or(Err(ErrorHandlerError::ShuttingDown))
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<MutexGuard<'_, State>, ErrorHandlerError> {
        let state = self.lock();
        if state.closed { Err(ErrorHandlerError::ShuttingDown) } else { Ok(state) }
    }

    fn setting(&self) -> Setting {
        Setting {
            threshold: self.settings.circuit_breaker_threshold,
            window: self.settings.error_aggregation_window,
            open_for: self.settings.circuit_breaker_timeout,
        }
    }

    fn living(&self, agent_id: AgentId) -> Result<Arc<dyn AgentPort>, ErrorHandlerError> {
        let gone = ErrorHandlerError::AgentNotFound { agent_id };
        let port = self.directory.agent(agent_id).ok_or_else(|| gone.clone())?;
        match port.state(agent_id) {
            None | Some(AgentState::Terminated | AgentState::Terminating) => Err(gone),
            Some(_) => Ok(port),
        }
    }

    /// Records the failure, decides, and carries out what was decided, if it is anything.
    async fn handle(
        &self,
        agent_id: AgentId,
        failed: FailedRun,
    ) -> Result<Option<ErrorAction>, ErrorHandlerError> {
        drop(self.open()?);
        let port = self.living(agent_id)?;
        // An agent that goes on has long gone on; what is done then is done about all its failures.
        let about = failed.run.filter(|_| !failed.rests);
        let decision = {
            let _turn = self.turns.of(agent_id).await;
            let chosen = self.choose(agent_id, &failed, port.is_ephemeral(agent_id))?;
            self.record(agent_id, &failed.error, &chosen).await?;
            self.begin(agent_id, &chosen);
            chosen.decision
        };
        if let Some(action) = &decision.action {
            let reason = reason(&failed.error, &decision);
            if let Err(error) = port.control(agent_id, about, action, &reason).await {
                if let Some(history) = self.lock().agents.get_mut(&agent_id) {
                    history.recovery_failed += 1;
                }
                return Err(ErrorHandlerError::RecoveryFailed {
                    action: action.clone(),
                    reason: error.to_string(),
                });
            }
        }
        Ok(decision.action)
    }

    /// Steps 2 to 8 of the selection: counts the error and chooses.
    fn choose(
        &self,
        agent_id: AgentId,
        failed: &FailedRun,
        ephemeral: bool,
    ) -> Result<Chosen, ErrorHandlerError> {
        let now = self.journal.now();
        let error_type = decide::classify(&failed.error);
        let window = self.settings.error_aggregation_window;
        let mut state = self.open()?;
        let registered = state.strategies.get(&error_type).cloned();
        let is_registered = registered.is_some();
        let strategy = registered.unwrap_or_else(|| decide::default_strategy(error_type));
        let history = self.history(&mut state, agent_id, now);
        history.add(now, error_type, &failed.error, self.settings.max_error_history);
        let in_window = history.count(now, window, None);
        let same_in_window = history.count(now, window, Some(error_type));
        let on_breach = history.breached(error_type, now).cloned();
        let threshold = self.settings.escalation_threshold as usize;
        let grave = decide::is_grave(error_type, same_in_window >= threshold);
        let acts = decide::acts(error_type, grave, is_registered, failed.rests);
        // A denial that is a normal result is no failure that a breaker counts.
        let fails = acts || error_type != ErrorType::PolicyViolation;
        let breaker_allows =
            !fails || history.breakers.entry(error_type).or_default().failure(self.setting(), now);
        let within = |at: &SystemTime| now.duration_since(*at).unwrap_or_default() <= window;
        history.recoveries.retain(within);
        let situation = Situation {
            recovering: self.settings.enable_auto_recovery,
            acts,
            registered: is_registered,
            effects: failed.effects,
            rests: failed.rests,
            breaker_allows,
            recoveries: u32::try_from(history.recoveries.len()).unwrap_or(u32::MAX),
            max_recoveries: self.settings.max_recovery_attempts,
            retries: history.retries.get(&error_type).copied().unwrap_or(0),
            multiplier: self.settings.recovery_backoff_multiplier,
            ephemeral,
            chance: crate::chance(),
        };
        let escalate =
            in_window >= threshold && history.escalated_at.as_ref().is_none_or(|at| !within(at));
        Ok(Chosen {
            error_type,
            decision: decide::decide(&strategy, on_breach.as_ref(), situation),
            escalate,
            breakers: Breakers::of(&history.breakers),
        })
    }

    /// Puts the decision on record, together with the breakers as they are now.
    async fn record(
        &self,
        agent_id: AgentId,
        error: &RuntimeError,
        chosen: &Chosen,
    ) -> Result<(), ErrorHandlerError> {
        let event_type = match chosen.error_type {
            ErrorType::SecurityViolation => AuditEventType::SecurityEvent,
            ErrorType::PolicyViolation => AuditEventType::PolicyViolation,
            ErrorType::ResourceExhaustion
            | ErrorType::NetworkError
            | ErrorType::SystemError
            | ErrorType::ValidationError => AuditEventType::ErrorOccurred,
        };
        let mut entry = self
            .journal
            .event(event_type, "error.handled")
            .agent(agent_id)
            .details(reason(error, &chosen.decision))
            .with("error_type", format!("{:?}", chosen.error_type))
            .with("action", name(chosen.decision.action.as_ref()));
        if chosen.decision.unknown {
            entry = entry.with("outcome", "unknown");
        }
        let mut change = Change::new().record(entry);
        if let Some(breakers) = &chosen.breakers {
            change = change.put(SETTINGS, stored::key(agent_id), breakers);
        }
        if chosen.escalate {
            let entry = self
                .journal
                .event(event_type, "error.escalated")
                .agent(agent_id)
                .details("the agent fails more often than `escalation_threshold` allows");
            change = change.record(entry);
        }
        self.journal.commit(change).await.map_err(storage)?;
        Ok(())
    }

    /// The decision is on record: what it spends is spent.
    fn begin(&self, agent_id: AgentId, chosen: &Chosen) {
        let now = self.journal.now();
        let mut state = self.lock();
        let Some(history) = state.agents.get_mut(&agent_id) else { return };
        let action = chosen.decision.action.as_ref();
        match action {
            Some(ErrorAction::Retry { .. }) => {
                *history.retries.entry(chosen.error_type).or_default() += 1;
            }
            Some(ErrorAction::Restart) => history.recoveries.push_back(now),
            Some(ErrorAction::Suspend | ErrorAction::Terminate | ErrorAction::Failover) | None => {}
        }
        *history.actions.entry(name(action).to_owned()).or_default() += 1;
        if chosen.escalate {
            history.escalated_at = Some(now);
        }
    }

    /// What is remembered of the agent, which is heard of now. Whoever has to go for it is forgotten.
    fn history<'a>(
        &self,
        state: &'a mut State,
        agent_id: AgentId,
        now: SystemTime,
    ) -> &'a mut History {
        if !state.agents.contains_key(&agent_id)
            && let Some(forgotten) = state.make_room()
        {
            self.keep_breakers(forgotten);
        }
        let history = state.agents.entry(agent_id).or_default();
        history.touched_at = Some(now);
        history
    }

    /// Records the agent's breakers as they are when its turn comes.
    fn keep_breakers(&self, agent_id: AgentId) {
        let Some(inner) = self.this.upgrade() else { return };
        self.tasks.spawn(async move {
            let _turn = inner.turns.of(agent_id).await;
            let there = inner
                .lock()
                .agents
                .get(&agent_id)
                .and_then(|history| Breakers::of(&history.breakers));
            let key = stored::key(agent_id);
            let change = match there {
                Some(breakers) => Change::new().put(SETTINGS, key, &breakers),
                None => Change::new().remove(SETTINGS, key),
            };
            if let Err(error) = inner.journal.commit(change).await {
                // They are as they were before the success; the next error is counted from there.
                tracing::error!(%agent_id, %error, "breakers could not be recorded");
            }
        });
    }

    /// An agent did what it was asked: what was wrong is over.
    fn succeeded(&self, agent_id: AgentId) {
        let now = self.journal.now();
        let mut state = self.lock();
        let Some(history) = state.agents.get_mut(&agent_id) else { return };
        history.consecutive = 0;
        history.retries.clear();
        let kept = Breakers::of(&history.breakers).is_some();
        for breaker in history.breakers.values_mut() {
            breaker.success();
        }
        if let Some(since) = history.failing_since.take() {
            history.recovered += 1;
            history.recovery_time += now.duration_since(since).unwrap_or_default();
        }
        drop(state);
        if kept {
            self.keep_breakers(agent_id);
        }
    }

    async fn clear(&self, agent_id: AgentId) -> Result<(), ErrorHandlerError> {
        let _turn = self.turns.of(agent_id).await;
        if !self.open()?.agents.contains_key(&agent_id) {
            return self.living(agent_id).map(|_| ());
        }
        let change = Change::new().remove(SETTINGS, stored::key(agent_id));
        self.journal.commit(change).await.map_err(storage)?;
        if let Some(history) = self.lock().agents.get_mut(&agent_id) {
            let (thresholds, touched_at) = (history.thresholds.take(), history.touched_at);
            *history = History { thresholds, touched_at, ..History::default() };
        }
        Ok(())
    }
}

impl State {
    /// Makes room for one more; who was forgotten for it.
    fn make_room(&mut self) -> Option<AgentId> {
        if self.agents.len() < MOST_AGENTS {
            return None;
        }
        let (id, _) = self
            .agents
            .iter()
            .min_by_key(|(_, history)| (history.thresholds.is_some(), history.touched_at))?;
        let id = *id;
        self.agents.remove(&id);
        Some(id)
    }
}

impl History {
    fn add(&mut self, now: SystemTime, error_type: ErrorType, error: &RuntimeError, most: usize) {
        self.total += 1;
        *self.by_type.entry(error_type).or_default() += 1;
        self.first_at.get_or_insert(now);
        self.last_at = Some(now);
        self.consecutive = self.consecutive.saturating_add(1);
        self.failing_since.get_or_insert(now);
        self.recent.push_back((now, error_type));
        while self.recent.len() > most {
            self.recent.pop_front();
        }
        let pattern = decide::fingerprint(error);
        if self.patterns.len() < MOST_PATTERNS || self.patterns.contains_key(&pattern) {
            *self.patterns.entry(pattern).or_default() += 1;
        }
    }

    /// Errors in the last `window`, of one kind or of all.
    fn count(&self, now: SystemTime, window: Duration, kind: Option<ErrorType>) -> usize {
        let counts = |(at, there): &&(SystemTime, ErrorType)| {
            kind.is_none_or(|kind| kind == *there)
                && now.duration_since(*at).unwrap_or_default() <= window
        };
        self.recent.iter().filter(counts).count()
    }

    /// What the agent's thresholds ask for, if an error of this kind has just passed them.
    fn breached(&self, error_type: ErrorType, now: SystemTime) -> Option<&ErrorAction> {
        let thresholds = self.thresholds.as_ref()?;
        let own = thresholds.per_type.get(&error_type).is_some_and(|most| {
            self.count(now, thresholds.window, Some(error_type)) >= *most as usize
        });
        let breached = own
            || self.count(now, thresholds.window, None) >= thresholds.max_errors as usize
            || self.consecutive >= thresholds.max_consecutive;
        breached.then_some(&thresholds.action_on_breach)
    }

    fn statistics(&self, agent_id: AgentId, now: SystemTime, setting: Setting) -> ErrorStatistics {
        let window = setting.window;
        let mut in_window = BTreeMap::new();
        for (at, error_type) in &self.recent {
            if now.duration_since(*at).unwrap_or_default() <= window {
                *in_window.entry(*error_type).or_default() += 1;
            }
        }
        let count: u64 = in_window.values().sum();
        let mut top: Vec<ErrorFingerprint> = self
            .patterns
            .iter()
            .map(|(pattern, count)| ErrorFingerprint { pattern: pattern.clone(), count: *count })
            .collect();
        top.sort_by_key(|fingerprint| std::cmp::Reverse(fingerprint.count));
        top.truncate(TOP);
        #[expect(clippy::cast_precision_loss, reason = "a rate is an estimate")]
        let rate_per_minute = count as f64 * 60.0 / window.as_secs_f64().max(1.0);
        let recovered = u32::try_from(self.recovered).unwrap_or(u32::MAX);
        ErrorStatistics {
            agent_id,
            total: self.total,
            by_type: self.by_type.clone(),
            in_window,
            rate_per_minute,
            first_at: self.first_at,
            last_at: self.last_at,
            top,
            breakers: self
                .breakers
                .iter()
                .map(|(kind, breaker)| breaker.status(*kind, setting, now))
                .collect(),
            actions: self.actions.clone(),
            recovered: self.recovered,
            recovery_failed: self.recovery_failed,
            mean_time_to_recovery: self.recovery_time.checked_div(recovered),
        }
    }
}

impl ErrorHandlerBuilder {
    /// Meets other components in `directory`.
    #[must_use]
    pub fn directory(self, directory: Arc<Directory>) -> Self {
        Self { directory, ..self }
    }

    /// Uses `journal`; breakers that are kept there stand as they stood.
    #[must_use]
    pub fn journal(self, journal: Journal) -> Self {
        Self { journal, ..self }
    }

    /// The error handler.
    ///
    /// # Errors
    ///
    /// `InvalidStrategy` for settings that make no sense; `Storage` when breakers can't be read.
    pub async fn build(self) -> Result<DefaultErrorHandler, ErrorHandlerError> {
        let c = &self.config;
        let uncounted = |most: u32| c.max_error_history < most as usize;
        let multiplier = c.recovery_backoff_multiplier;
        let wrong = [
            ("max_error_history", c.max_error_history == 0, "at least 1"),
            ("error_aggregation_window", c.error_aggregation_window.is_zero(), "longer than zero"),
            ("escalation_threshold", c.escalation_threshold == 0, "at least 1"),
            (
                "escalation_threshold",
                uncounted(c.escalation_threshold),
                "at most `max_error_history`: errors that are not kept are not counted",
            ),
            ("circuit_breaker_threshold", c.circuit_breaker_threshold == 0, "at least 1"),
            (
                "circuit_breaker_threshold",
                uncounted(c.circuit_breaker_threshold),
                "at most `max_error_history`: errors that are not kept are not counted",
            ),
            ("circuit_breaker_timeout", c.circuit_breaker_timeout.is_zero(), "longer than zero"),
            (
                "recovery_backoff_multiplier",
                !(1.0..=1000.0).contains(&multiplier),
                "from 1 to 1,000",
            ),
        ];
        if let Some((name, _, fit)) = wrong.iter().find(|(_, is_wrong, _)| *is_wrong) {
            return Err(ErrorHandlerError::InvalidStrategy {
                reason: format!("`{name}` must be {fit}"),
            });
        }
        let state = kept(&self.journal).await.map_err(storage)?;
        let inner = Arc::new_cyclic(|this| Inner {
            settings: self.config,
            journal: self.journal,
            directory: self.directory,
            state: Mutex::new(state),
            turns: Turns::default(),
            tasks: Tasks::default(),
            this: Weak::clone(this),
        });
        Ok(DefaultErrorHandler { inner })
    }
}

/// What the last process left, without what nothing was heard of for a day.
async fn kept(journal: &Journal) -> Result<State, StoreError> {
    let now = journal.now();
    let mut state = State::default();
    let mut stale = Change::new();
    for (key, row) in rows::<Breakers>(journal.store(), SETTINGS, stored::PREFIX).await? {
        let mut breakers = row.into_breakers();
        breakers.retain(|_, breaker| {
            let last = breaker.open_until.or_else(|| breaker.failures.back().copied());
            last.is_some_and(|at| now.duration_since(at).unwrap_or_default() < STALE)
        });
        match stored::agent_of(&key) {
            Some(agent_id) if !breakers.is_empty() && state.agents.len() < MOST_AGENTS => {
                let touched_at = Some(now);
                let history = History { breakers, touched_at, ..History::default() };
                state.agents.insert(agent_id, history);
            }
            Some(_) | None => stale = stale.remove(SETTINGS, key),
        }
    }
    if !stale.is_empty() {
        journal.commit(stale).await?;
    }
    Ok(state)
}

#[async_trait]
impl ErrorHandler for DefaultErrorHandler {
    async fn handle_error(
        &self,
        agent_id: AgentId,
        error: RuntimeError,
    ) -> Result<ErrorAction, ErrorHandlerError> {
        let inner = Arc::clone(&self.inner);
        let failed = FailedRun { run: None, error, effects: false, rests: false };
        let action = self.detached(async move { inner.handle(agent_id, failed).await }).await?;
        Ok(action.unwrap_or(ErrorAction::Retry { max_attempts: 0, backoff: Duration::ZERO }))
    }

    async fn register_strategy(
        &self,
        error_type: ErrorType,
        strategy: RecoveryStrategy,
    ) -> Result<(), ErrorHandlerError> {
        let invalid =
            |reason: &str| Err(ErrorHandlerError::InvalidStrategy { reason: reason.to_owned() });
        match &strategy {
            RecoveryStrategy::Retry { max_attempts: 0, .. } => {
                return invalid("a retry needs at least one attempt");
            }
            RecoveryStrategy::Retry { max_attempts, .. } if *max_attempts > 1000 => {
                return invalid("a retry has at most 1,000 attempts");
            }
            RecoveryStrategy::Manual { reason } if reason.trim().is_empty() => {
                return invalid("a manual strategy says what the person should know");
            }
            RecoveryStrategy::Failover { backup_agent: Some(_) } => {
                return invalid(
                    "taking over by a backup agent is not served yet (use Restart, Manual or \
                     Terminate)",
                );
            }
            RecoveryStrategy::Retry { .. }
            | RecoveryStrategy::Restart { .. }
            | RecoveryStrategy::Failover { backup_agent: None }
            | RecoveryStrategy::Terminate { .. }
            | RecoveryStrategy::Manual { .. }
            | RecoveryStrategy::None => {}
        }
        self.inner.open()?.strategies.insert(error_type, strategy);
        Ok(())
    }

    async fn get_error_stats(
        &self,
        agent_id: AgentId,
    ) -> Result<ErrorStatistics, ErrorHandlerError> {
        let now = self.inner.journal.now();
        let setting = self.inner.setting();
        if let Some(history) = self.inner.lock().agents.get(&agent_id) {
            return Ok(history.statistics(agent_id, now, setting));
        }
        self.inner.living(agent_id)?;
        Ok(History::default().statistics(agent_id, now, setting))
    }

    async fn get_system_error_stats(&self) -> SystemErrorStatistics {
        let now = self.inner.journal.now();
        let setting = self.inner.setting();
        let state = self.inner.lock();
        let all: Vec<ErrorStatistics> = state
            .agents
            .iter()
            .map(|(id, history)| history.statistics(*id, now, setting))
            .collect();
        let mut by_type: BTreeMap<ErrorType, u64> = BTreeMap::new();
        for (error_type, count) in all.iter().flat_map(|statistics| &statistics.by_type) {
            *by_type.entry(*error_type).or_default() += count;
        }
        let mut worst: Vec<(AgentId, u64)> =
            all.iter().filter(|s| s.total > 0).map(|s| (s.agent_id, s.total)).collect();
        let agents_affected = worst.len();
        worst.sort_by_key(|(id, total)| (std::cmp::Reverse(*total), *id));
        worst.truncate(TOP);
        let open = |status: &&symbiont_types::BreakerStatus| {
            status.state != symbiont_types::BreakerState::Closed
        };
        SystemErrorStatistics {
            total: all.iter().map(|s| s.total).sum(),
            by_type,
            rate_per_minute: all.iter().map(|s| s.rate_per_minute).sum(),
            agents_affected,
            worst,
            breakers_open: all.iter().flat_map(|s| &s.breakers).filter(open).count(),
            recovered: all.iter().map(|s| s.recovered).sum(),
            recovery_failed: all.iter().map(|s| s.recovery_failed).sum(),
        }
    }

    async fn set_error_thresholds(
        &self,
        agent_id: AgentId,
        thresholds: ErrorThresholds,
    ) -> Result<(), ErrorHandlerError> {
        let zero = thresholds.max_errors == 0
            || thresholds.max_consecutive == 0
            || thresholds.window.is_zero()
            || thresholds.per_type.values().any(|most| *most == 0);
        if zero {
            let reason = "every number and the window must be above zero".to_owned();
            return Err(ErrorHandlerError::InvalidThreshold { reason });
        }
        let retries_never =
            matches!(thresholds.action_on_breach, ErrorAction::Retry { max_attempts: 0, .. });
        if retries_never {
            let reason = "a retry needs at least one attempt".to_owned();
            return Err(ErrorHandlerError::InvalidThreshold { reason });
        }
        let kept = self.inner.settings.max_error_history;
        let most = thresholds.per_type.values().chain([&thresholds.max_errors]).max();
        if let Some(most) = most.filter(|most| **most as usize > kept) {
            let reason = format!(
                "{most} errors are never counted, because {kept} are kept of an agent (raise \
                 `max_error_history`)"
            );
            return Err(ErrorHandlerError::InvalidThreshold { reason });
        }
        drop(self.inner.open()?);
        self.inner.living(agent_id)?;
        let now = self.inner.journal.now();
        let mut state = self.inner.open()?;
        self.inner.history(&mut state, agent_id, now).thresholds = Some(thresholds);
        Ok(())
    }

    async fn clear_error_history(&self, agent_id: AgentId) -> Result<(), ErrorHandlerError> {
        let inner = Arc::clone(&self.inner);
        self.detached(async move { inner.clear(agent_id).await }).await
    }

    async fn shutdown(&self) -> Result<(), ErrorHandlerError> {
        self.inner.lock().closed = true;
        self.inner.tasks.stop(Duration::from_secs(30)).await;
        Ok(())
    }
}

#[async_trait]
impl Supervisor for DefaultErrorHandler {
    async fn run_failed(&self, id: AgentId, failed: FailedRun) {
        let inner = Arc::clone(&self.inner);
        match self.detached(async move { inner.handle(id, failed).await }).await {
            Ok(action) => tracing::info!(agent_id = %id, ?action, "an error was handled"),
            Err(error) => tracing::warn!(agent_id = %id, %error, "an error was not handled"),
        }
    }

    fn run_succeeded(&self, id: AgentId) {
        self.inner.succeeded(id);
    }
}

/// The error, and what a person has to know about what was decided.
fn reason(error: &RuntimeError, decision: &Decision) -> String {
    if decision.unknown {
        format!(
            "{error}; it had begun an effect that must not be repeated, whose outcome is unknown: \
             an operator has to look before the agent runs again"
        )
    } else {
        error.to_string()
    }
}

fn storage(error: StoreError) -> ErrorHandlerError {
    match error {
        StoreError::Closed => ErrorHandlerError::ShuttingDown,
        error => ErrorHandlerError::Storage { reason: error.to_string() },
    }
}

fn name(action: Option<&ErrorAction>) -> &'static str {
    match action {
        None => "None",
        Some(ErrorAction::Retry { .. }) => "Retry",
        Some(ErrorAction::Restart) => "Restart",
        Some(ErrorAction::Suspend) => "Suspend",
        Some(ErrorAction::Terminate) => "Terminate",
        Some(ErrorAction::Failover) => "Failover",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faulty::{FaultyStore, Witness};

    /// A handler over a store that can be told to fail, and who runs its agent.
    async fn handler() -> (DefaultErrorHandler, Arc<FaultyStore>, Arc<Witness>, AgentId) {
        let (store, witness) = (FaultyStore::new(), Witness::new());
        let (directory, agent_id) = (Directory::new(), AgentId::new());
        let port: Arc<dyn AgentPort> = Arc::clone(&witness) as Arc<dyn AgentPort>;
        directory.set_agent(agent_id, &port).expect("the place is free");
        let journal = Journal::reading(Arc::clone(&store) as _, Clock::system());
        let handler = DefaultErrorHandler::builder(ErrorHandlerConfig::default())
            .directory(directory)
            .journal(journal)
            .build()
            .await
            .expect("the defaults are fine");
        (handler, store, witness, agent_id)
    }

    #[tokio::test]
    async fn what_cannot_be_recorded_is_not_carried_out() {
        let (handler, store, witness, agent_id) = handler().await;
        let broken = || RuntimeError::Internal("it broke".to_owned());
        store.fail(true);
        let refused = handler.handle_error(agent_id, broken()).await;
        assert!(matches!(refused, Err(ErrorHandlerError::Storage { .. })), "{refused:?}");
        let refused = handler.clear_error_history(agent_id).await;
        assert!(matches!(refused, Err(ErrorHandlerError::Storage { .. })), "{refused:?}");
        assert_eq!(witness.told(), []);
        store.fail(false);
        assert_eq!(handler.handle_error(agent_id, broken()).await, Ok(ErrorAction::Restart));
        assert_eq!(witness.told(), [ErrorAction::Restart]);
        let stats = handler.get_error_stats(agent_id).await.expect("it is known");
        assert_eq!((stats.total, stats.actions["Restart"]), (2, 1), "an error counts all the same");
    }

    #[tokio::test]
    async fn failed_work_of_an_agent_that_goes_on_is_counted_until_it_is_too_much() {
        let (handler, _store, witness, agent_id) = handler().await;
        let work = || FailedRun {
            run: None,
            error: RuntimeError::Internal("it broke".to_owned()),
            effects: true,
            rests: true,
        };
        for _ in 0..5 {
            handler.run_failed(agent_id, work()).await;
        }
        assert_eq!(witness.told(), []);
        handler.run_failed(agent_id, work()).await;
        assert_eq!(witness.told(), [ErrorAction::Suspend], "the breaker has opened");
        handler.run_succeeded(agent_id);
        handler.run_failed(agent_id, work()).await;
        assert_eq!(witness.told(), [ErrorAction::Suspend]);
        let error = symbiont_types::SecurityError::KeyNotFound { key_id: "k".to_owned() }.into();
        handler.run_failed(agent_id, FailedRun { error, ..work() }).await;
        assert_eq!(witness.told(), [ErrorAction::Suspend, ErrorAction::Terminate]);
        let stats = handler.get_error_stats(agent_id).await.expect("it is known");
        assert_eq!((stats.total, stats.actions["None"]), (8, 6));
    }

    #[tokio::test]
    async fn whoever_was_quiet_the_longest_is_forgotten_and_own_thresholds_go_last() {
        let (handler, _store, _witness, _) = handler().await;
        let mut state = handler.inner.lock();
        let at = |second: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        let ids: Vec<AgentId> = (0..MOST_AGENTS).map(|_| AgentId::new()).collect();
        for (second, id) in ids.iter().enumerate() {
            handler.inner.history(&mut state, *id, at(second as u64));
        }
        handler.inner.history(&mut state, ids[1], at(0)).thresholds =
            Some(ErrorThresholds::default());
        assert_eq!(state.agents.len(), MOST_AGENTS, "one that is there takes no more room");
        handler.inner.history(&mut state, AgentId::new(), at(0));
        assert_eq!(state.agents.len(), MOST_AGENTS);
        assert!(!state.agents.contains_key(&ids[0]) && state.agents.contains_key(&ids[1]));
    }
}
