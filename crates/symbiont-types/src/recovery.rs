//! Errors as a subject: their kinds, what is done about them, and their statistics.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::AgentId;

/// What is to be done about an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorAction {
    /// Run again after a pause.
    Retry {
        /// Attempts that are left.
        max_attempts: u32,
        /// The pause before the next one.
        backoff: Duration,
    },
    /// Initialize and start the agent again.
    Restart,
    /// Put the agent aside until a person looks at it.
    Suspend,
    /// End the agent.
    Terminate,
    /// Let the backup agent take over.
    Failover,
}

/// What is to be done about errors of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecoveryStrategy {
    /// Run again, with growing pauses.
    Retry {
        /// How often at most; at least 1.
        max_attempts: u32,
        /// The first pause; later ones grow by the handler's multiplier, up to 60 s.
        backoff: Duration,
    },
    /// Initialize and start the agent again.
    Restart {
        /// Whether variables, mail and tasks are kept.
        preserve_state: bool,
    },
    /// Let another agent take over.
    Failover {
        /// Which one; `None` leaves the choice to the group of standby agents.
        backup_agent: Option<AgentId>,
    },
    /// End the agent.
    Terminate {
        /// Whether its sandbox is removed too, rather than kept as evidence.
        cleanup: bool,
    },
    /// Put the agent aside for a person.
    Manual {
        /// What the person should know; not empty.
        reason: String,
    },
    /// No recovery: a lasting agent is suspended, an ephemeral one ends.
    None,
}

/// Kinds of error, by what can be done about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ErrorType {
    /// There was not enough of something.
    ResourceExhaustion,
    /// Something could not be reached.
    NetworkError,
    /// Someone did, or was, what they must not.
    SecurityViolation,
    /// A policy said no.
    PolicyViolation,
    /// Something here broke.
    SystemError,
    /// What was asked makes no sense; asking again won't help.
    ValidationError,
}

impl ErrorType {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::ResourceExhaustion,
        Self::NetworkError,
        Self::SecurityViolation,
        Self::PolicyViolation,
        Self::SystemError,
        Self::ValidationError,
    ];
}

/// Whether a circuit breaker lets recovery through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum BreakerState {
    /// Recovery is tried.
    Closed,
    /// Too many failures: nothing is tried.
    Open,
    /// One attempt is out to see whether things are better.
    HalfOpen,
}

/// A circuit breaker at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct BreakerStatus {
    /// Which errors it watches.
    pub error_type: ErrorType,
    /// Its state.
    pub state: BreakerState,
    /// Failures in the window without a success.
    pub failures: u32,
    /// When it lets a probe through, if it is open.
    pub retry_at: Option<SystemTime>,
}

/// An error that came more than once, without what changes from time to time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorFingerprint {
    /// The error's text with ids and numbers left out.
    pub pattern: String,
    /// How often.
    pub count: u64,
}

/// The errors of one agent.
#[derive(Debug, Clone, PartialEq)]
pub struct ErrorStatistics {
    /// Whose.
    pub agent_id: AgentId,
    /// All of them since the history was last cleared.
    pub total: u64,
    /// The same by kind.
    pub by_type: BTreeMap<ErrorType, u64>,
    /// Those of the window, by kind.
    pub in_window: BTreeMap<ErrorType, u64>,
    /// Errors a minute over the window.
    pub rate_per_minute: f64,
    /// When the first one came.
    pub first_at: Option<SystemTime>,
    /// When the last one came.
    pub last_at: Option<SystemTime>,
    /// The most frequent ones, at most eight.
    pub top: Vec<ErrorFingerprint>,
    /// Its breakers.
    pub breakers: Vec<BreakerStatus>,
    /// Actions decided, by name.
    pub actions: BTreeMap<String, u64>,
    /// Actions that were carried out and helped.
    pub recovered: u64,
    /// Actions that could not be carried out or did not help.
    pub recovery_failed: u64,
    /// Mean time from an error to the recovery from it.
    pub mean_time_to_recovery: Option<Duration>,
}

/// The errors of all agents.
#[derive(Debug, Clone, PartialEq)]
pub struct SystemErrorStatistics {
    /// All of them.
    pub total: u64,
    /// The same by kind.
    pub by_type: BTreeMap<ErrorType, u64>,
    /// Errors a minute over the window.
    pub rate_per_minute: f64,
    /// Agents with at least one error.
    pub agents_affected: usize,
    /// The agents with the most, at most eight.
    pub worst: Vec<(AgentId, u64)>,
    /// Breakers that are open or half open.
    pub breakers_open: usize,
    /// Actions that were carried out and helped.
    pub recovered: u64,
    /// Actions that could not be carried out or did not help.
    pub recovery_failed: u64,
}

/// When an agent's errors are too many.
#[derive(Debug, Clone, PartialEq)]
pub struct ErrorThresholds {
    /// Errors in the window from which `action_on_breach` applies; at least 1.
    pub max_errors: u32,
    /// The window; not zero.
    pub window: Duration,
    /// Errors in a row, without a success between, from which it applies; at least 1.
    pub max_consecutive: u32,
    /// Other numbers than `max_errors` for some kinds.
    pub per_type: BTreeMap<ErrorType, u32>,
    /// What is then done.
    pub action_on_breach: ErrorAction,
}

impl Default for ErrorThresholds {
    /// Twenty errors in five minutes, or ten in a row, suspend the agent.
    fn default() -> Self {
        Self {
            max_errors: 20,
            window: Duration::from_secs(300),
            max_consecutive: 10,
            per_type: BTreeMap::new(),
            action_on_breach: ErrorAction::Suspend,
        }
    }
}
