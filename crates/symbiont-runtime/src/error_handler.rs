//! The error handler: decides what is to be done about an agent's errors, does it, and learns from
//! whether it helped.
//!
//! # What holds
//!
//! - A decision is a plain function of the error and what is known; the decided action is carried
//!   out through the directory, and its outcome is counted.
//! - What keeps failing is left alone: a breaker for each agent and kind of error, and a budget of
//!   recoveries in a window.
//!
//! # What is not here
//!
//! Nothing is retried here: an action that says `Retry` tells whoever runs the agent to.

mod breaker;
mod decide;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use symbiont_types::{
    AgentId, AgentState, AuditEventType, ErrorAction, ErrorFingerprint, ErrorHandlerError,
    ErrorStatistics, ErrorThresholds, ErrorType, RecoveryStrategy, RuntimeError,
    SystemErrorStatistics,
};

use self::breaker::{Breaker, Setting};
use self::decide::Situation;
use crate::clock::Clock;
use crate::directory::{AgentPort, Directory, FailedRun, Supervisor};
use crate::journal::{Change, Journal};

/// Decides what is to be done about errors, and does it.
#[async_trait]
pub trait ErrorHandler: Send + Sync {
    /// Records the error, decides, and carries the action out.
    ///
    /// # Errors
    ///
    /// `AgentNotFound` for an agent that nobody runs or that has ended; `RecoveryFailed` when the
    /// decided action could not be carried out; `ShuttingDown`.
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
    /// `InvalidThreshold`; `AgentNotFound`.
    async fn set_error_thresholds(
        &self,
        agent_id: AgentId,
        thresholds: ErrorThresholds,
    ) -> Result<(), ErrorHandlerError>;

    /// Forgets the agent's errors, and closes its breakers.
    ///
    /// # Errors
    ///
    /// `AgentNotFound` for an agent that nobody runs and that had no errors.
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
    /// Errors kept of each agent.
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
    /// How much longer each pause before a retry is than the one before; at least 1.
    pub recovery_backoff_multiplier: f32,
}

impl Default for ErrorHandlerConfig {
    /// 1,000 errors, five minutes, telling from 10, breakers at 5 for a minute, recovery on, three
    /// restarts, pauses doubling.
    fn default() -> Self {
        Self {
            max_error_history: 1000,
            error_aggregation_window: Duration::from_secs(300),
            escalation_threshold: 10,
            circuit_breaker_threshold: 5,
            circuit_breaker_timeout: Duration::from_secs(60),
            enable_auto_recovery: true,
            max_recovery_attempts: 3,
            recovery_backoff_multiplier: 2.0,
        }
    }
}

/// Agents whose errors are remembered; the one that was quiet the longest is forgotten.
const MOST_AGENTS: usize = 10_000;
/// Patterns counted for each agent.
const MOST_PATTERNS: usize = 64;
/// Patterns and agents that statistics name.
const TOP: usize = 8;

/// The error handler.
#[derive(Debug)]
pub struct DefaultErrorHandler {
    settings: ErrorHandlerConfig,
    journal: Journal,
    directory: Arc<Directory>,
    state: Mutex<State>,
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
        Self::builder(config).directory(Directory::process()).build()
    }

    /// An error handler with a directory of its own, unless the builder is told otherwise.
    pub fn builder(config: ErrorHandlerConfig) -> ErrorHandlerBuilder {
        ErrorHandlerBuilder {
            config,
            directory: Directory::new(),
            journal: Journal::in_memory(Clock::system()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<MutexGuard<'_, State>, ErrorHandlerError> {
        let state = self.lock();
        if state.closed { Err(ErrorHandlerError::ShuttingDown) } else { Ok(state) }
    }

    fn living(&self, agent_id: AgentId) -> Result<Arc<dyn AgentPort>, ErrorHandlerError> {
        let gone = ErrorHandlerError::AgentNotFound { agent_id };
        let port = self.directory.agent(agent_id).ok_or_else(|| gone.clone())?;
        match port.state(agent_id) {
            None | Some(AgentState::Terminated | AgentState::Terminating) => Err(gone),
            Some(_) => Ok(port),
        }
    }

    /// Steps 2 to 8 of the selection: records the error and chooses.
    fn choose(
        &self,
        agent_id: AgentId,
        error: &RuntimeError,
        ephemeral: bool,
    ) -> Result<(ErrorType, ErrorAction, bool), ErrorHandlerError> {
        let now = self.journal.now();
        let error_type = decide::classify(error);
        let window = self.settings.error_aggregation_window;
        let within = |at: SystemTime, window| now.duration_since(at).unwrap_or_default() <= window;
        let mut state = self.open()?;
        let strategy = state
            .strategies
            .get(&error_type)
            .cloned()
            .unwrap_or_else(|| decide::default_strategy(error_type));
        state.make_room();
        let history = state.agents.entry(agent_id).or_default();
        history.add(now, error_type, error, self.settings.max_error_history);
        let in_window = history.recent.iter().filter(|(at, _)| within(*at, window)).count();
        let breached = history.thresholds.as_ref().is_some_and(|t| {
            let of_type = |kind: ErrorType| {
                let same = |(at, there): &&(SystemTime, ErrorType)| {
                    *there == kind && within(*at, t.window)
                };
                history.recent.iter().filter(same).count()
            };
            let all = history.recent.iter().filter(|(at, _)| within(*at, t.window)).count();
            let own = t
                .per_type
                .get(&error_type)
                .is_some_and(|most| of_type(error_type) >= *most as usize);
            own || all >= t.max_errors as usize || history.consecutive >= t.max_consecutive
        });
        let on_breach = history.thresholds.as_ref().map(|t| t.action_on_breach.clone());
        let setting = Setting {
            threshold: self.settings.circuit_breaker_threshold,
            window,
            open_for: self.settings.circuit_breaker_timeout,
        };
        let breaker_allows = history.breakers.entry(error_type).or_default().failure(setting, now);
        history.recoveries.retain(|at| within(*at, window));
        let situation = Situation {
            recovering: self.settings.enable_auto_recovery,
            breached,
            breaker_allows,
            recoveries: u32::try_from(history.recoveries.len()).unwrap_or(u32::MAX),
            max_recoveries: self.settings.max_recovery_attempts,
            retries: history.retries.get(&error_type).copied().unwrap_or(0),
            multiplier: self.settings.recovery_backoff_multiplier,
            has_backup: false,
            ephemeral,
            chance: crate::chance(),
        };
        let action = decide::decide(&strategy, on_breach.as_ref(), situation);
        match &action {
            ErrorAction::Retry { .. } => *history.retries.entry(error_type).or_default() += 1,
            ErrorAction::Restart => history.recoveries.push_back(now),
            ErrorAction::Suspend | ErrorAction::Terminate | ErrorAction::Failover => {}
        }
        *history.actions.entry(name(&action).to_owned()).or_default() += 1;
        let due = in_window >= self.settings.escalation_threshold as usize
            && history.escalated_at.is_none_or(|at| !within(at, window));
        if due {
            history.escalated_at = Some(now);
        }
        Ok((error_type, action, due))
    }

    async fn carry_out(
        &self,
        agent_id: AgentId,
        port: &dyn AgentPort,
        action: &ErrorAction,
        error: &RuntimeError,
    ) -> Result<(), ErrorHandlerError> {
        let outcome = port.control(agent_id, action, &error.to_string()).await;
        let failed = outcome.as_ref().err().map(ToString::to_string);
        if failed.is_some()
            && let Some(history) = self.lock().agents.get_mut(&agent_id)
        {
            history.recovery_failed += 1;
        }
        outcome.map_err(|error| ErrorHandlerError::RecoveryFailed {
            action: action.clone(),
            reason: error.to_string(),
        })
    }

    async fn note(&self, change: Change) {
        if let Err(error) = self.journal.commit(change).await {
            tracing::error!(%error, "an error could not be recorded");
        }
    }

    /// An agent did what it was asked: what was wrong is over.
    fn succeeded(&self, agent_id: AgentId) {
        let now = self.journal.now();
        let mut state = self.lock();
        let Some(history) = state.agents.get_mut(&agent_id) else { return };
        history.consecutive = 0;
        history.retries.clear();
        for breaker in history.breakers.values_mut() {
            breaker.success();
        }
        if let Some(since) = history.failing_since.take() {
            history.recovered += 1;
            history.recovery_time += now.duration_since(since).unwrap_or_default();
        }
    }
}

impl State {
    fn make_room(&mut self) {
        if self.agents.len() < MOST_AGENTS {
            return;
        }
        let quietest =
            self.agents.iter().min_by_key(|(_, history)| history.last_at).map(|(id, _)| *id);
        if let Some(id) = quietest {
            self.agents.remove(&id);
        }
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

    fn statistics(&self, agent_id: AgentId, now: SystemTime, window: Duration) -> ErrorStatistics {
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
                .map(|(kind, breaker)| breaker.status(*kind, now))
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

    /// Uses `journal`.
    #[must_use]
    pub fn journal(self, journal: Journal) -> Self {
        Self { journal, ..self }
    }

    /// The error handler.
    ///
    /// # Errors
    ///
    /// `InvalidStrategy` for settings that make no sense.
    pub fn build(self) -> Result<DefaultErrorHandler, ErrorHandlerError> {
        let c = &self.config;
        let multiplier = c.recovery_backoff_multiplier;
        let wrong = [
            ("max_error_history", c.max_error_history == 0, "at least 1"),
            ("error_aggregation_window", c.error_aggregation_window.is_zero(), "longer than zero"),
            ("escalation_threshold", c.escalation_threshold == 0, "at least 1"),
            ("circuit_breaker_threshold", c.circuit_breaker_threshold == 0, "at least 1"),
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
        Ok(DefaultErrorHandler {
            settings: self.config,
            journal: self.journal,
            directory: self.directory,
            state: Mutex::default(),
        })
    }
}

#[async_trait]
impl ErrorHandler for DefaultErrorHandler {
    async fn handle_error(
        &self,
        agent_id: AgentId,
        error: RuntimeError,
    ) -> Result<ErrorAction, ErrorHandlerError> {
        drop(self.open()?);
        let port = self.living(agent_id)?;
        let (error_type, action, escalate) =
            self.choose(agent_id, &error, port.is_ephemeral(agent_id))?;
        let event_type = match error_type {
            ErrorType::SecurityViolation => AuditEventType::SecurityEvent,
            ErrorType::PolicyViolation => AuditEventType::PolicyViolation,
            ErrorType::ResourceExhaustion
            | ErrorType::NetworkError
            | ErrorType::SystemError
            | ErrorType::ValidationError => AuditEventType::ErrorOccurred,
        };
        let entry = self
            .journal
            .event(event_type, "error.handled")
            .agent(agent_id)
            .details(error.to_string())
            .with("error_type", format!("{error_type:?}"))
            .with("action", name(&action));
        let mut change = Change::new().record(entry);
        if escalate {
            let entry = self
                .journal
                .event(event_type, "error.escalated")
                .agent(agent_id)
                .details("the agent fails more often than `escalation_threshold` allows");
            change = change.record(entry);
        }
        self.note(change).await;
        self.carry_out(agent_id, &*port, &action, &error).await?;
        Ok(action)
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
        self.open()?.strategies.insert(error_type, strategy);
        Ok(())
    }

    async fn get_error_stats(
        &self,
        agent_id: AgentId,
    ) -> Result<ErrorStatistics, ErrorHandlerError> {
        let now = self.journal.now();
        let window = self.settings.error_aggregation_window;
        if let Some(history) = self.lock().agents.get(&agent_id) {
            return Ok(history.statistics(agent_id, now, window));
        }
        self.living(agent_id)?;
        Ok(History::default().statistics(agent_id, now, window))
    }

    async fn get_system_error_stats(&self) -> SystemErrorStatistics {
        let now = self.journal.now();
        let window = self.settings.error_aggregation_window;
        let state = self.lock();
        let all: Vec<ErrorStatistics> =
            state.agents.iter().map(|(id, history)| history.statistics(*id, now, window)).collect();
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
        drop(self.open()?);
        self.living(agent_id)?;
        let mut state = self.open()?;
        state.make_room();
        state.agents.entry(agent_id).or_default().thresholds = Some(thresholds);
        Ok(())
    }

    async fn clear_error_history(&self, agent_id: AgentId) -> Result<(), ErrorHandlerError> {
        {
            let mut state = self.open()?;
            if let Some(history) = state.agents.get_mut(&agent_id) {
                let thresholds = history.thresholds.take();
                *history = History { thresholds, ..History::default() };
                return Ok(());
            }
        }
        self.living(agent_id).map(|_| ())
    }

    async fn shutdown(&self) -> Result<(), ErrorHandlerError> {
        self.lock().closed = true;
        Ok(())
    }
}

#[async_trait]
impl Supervisor for DefaultErrorHandler {
    async fn run_failed(&self, id: AgentId, failed: FailedRun) {
        match self.handle_error(id, failed.error).await {
            Ok(action) => tracing::info!(agent_id = %id, ?action, "an error was handled"),
            Err(error) => tracing::warn!(agent_id = %id, %error, "an error was not handled"),
        }
    }

    fn run_succeeded(&self, id: AgentId) {
        self.succeeded(id);
    }
}

fn name(action: &ErrorAction) -> &'static str {
    match action {
        ErrorAction::Retry { .. } => "Retry",
        ErrorAction::Restart => "Restart",
        ErrorAction::Suspend => "Suspend",
        ErrorAction::Terminate => "Terminate",
        ErrorAction::Failover => "Failover",
    }
}
