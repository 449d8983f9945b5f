//! Agents: what one is made from, and what is known of it.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::{AgentId, Policy, ResourceLimits, SecurityTier};

/// Where an agent is in its life.
///
/// Which state may follow which is decided by the lifecycle controller alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AgentState {
    /// Accepted and recorded; its program has not been looked at.
    Created,
    /// Its program is being parsed and checked.
    Initializing,
    /// Fit to run and not started, or a scheduled agent between two runs.
    Ready,
    /// A run is active.
    Running,
    /// Put aside by an operator, a policy, a limit or a breaker. Mail and tasks queue up.
    Suspended,
    /// Started, with nothing to do until mail, a task, a timer or an answer arrives.
    Waiting,
    /// An ephemeral agent's run returned.
    Completed,
    /// A run or the initialization failed and nothing recovered it.
    Failed,
    /// Being ended: its run is cancelled, its sandbox destroyed.
    Terminating,
    /// Ended for good; only its record is left.
    Terminated,
}

impl AgentState {
    /// Every state, in the order of an agent's life.
    pub const ALL: [Self; 10] = [
        Self::Created,
        Self::Initializing,
        Self::Ready,
        Self::Running,
        Self::Suspended,
        Self::Waiting,
        Self::Completed,
        Self::Failed,
        Self::Terminating,
        Self::Terminated,
    ];
}

impl fmt::Display for AgentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// When an agent runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ExecutionMode {
    /// Each start, task and message is a run; between runs it waits, and it never completes.
    Persistent,
    /// One run, then completed. A further task runs it again from its initial state.
    Ephemeral,
    /// Runs at a fixed rate from its start. A tick that finds the last run unfinished is skipped.
    Scheduled {
        /// Time from one nominal tick to the next; not zero.
        interval: Duration,
    },
    /// Waits, and runs once for each message, in order.
    EventDriven,
}

/// How urgent something is. `Critical` is the greatest.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub enum Priority {
    /// Before everything else, with slots of its own.
    Critical = 4,
    /// Before normal work.
    High = 3,
    /// What work is unless somebody says otherwise.
    #[default]
    Normal = 2,
    /// When there is nothing better to do; age raises it.
    Low = 1,
}

impl Priority {
    /// Every priority, the most urgent first.
    pub const ALL: [Self; 4] = [Self::Critical, Self::High, Self::Normal, Self::Low];
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Something that an agent may be able to do at all; policy then decides each use.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Capability {
    /// `fs.*`
    FileSystem,
    /// `http.*` and `net.*`
    Network,
    /// Tools that declare that they reach a database.
    Database,
    /// Any other name, as it was written.
    Custom(String),
}

/// What an agent is made from.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentConfig {
    /// The agent's id; no living agent may have it already.
    pub id: AgentId,
    /// A name for people and for `send`: 1 to 128 characters, no control characters.
    pub name: String,
    /// The agent's program, or an instruction in plain words. Not empty, at most 1 MiB.
    pub dsl_source: String,
    /// When it runs.
    pub execution_mode: ExecutionMode,
    /// The weakest tier that its sandboxed effects may run in.
    pub security_tier: SecurityTier,
    /// What it may use.
    pub resource_limits: ResourceLimits,
    /// What it may be able to do. The program's own list narrows it.
    pub capabilities: Vec<Capability>,
    /// Its own policies, beside those in its program. They narrow what global ones allow.
    pub policies: Vec<Policy>,
    /// Settings by name. The runtime reads `sandbox` (`eager`) and `concurrency`; the rest is the
    /// caller's. At most 64 entries, 64 KiB in all.
    pub metadata: HashMap<String, String>,
    /// Its urgency, where a task or message has none of its own.
    pub priority: Priority,
}

/// What the runtime knows of an agent at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentInstance {
    /// The agent's id, that of its config.
    pub id: AgentId,
    /// The config in force.
    pub config: AgentConfig,
    /// Its state.
    pub state: AgentState,
    /// When it was created.
    pub created_at: SystemTime,
    /// When its record last changed.
    pub last_updated: SystemTime,
    /// Runs started so far.
    pub execution_count: u64,
    /// Runs that failed, and errors that were handled.
    pub error_count: u32,
    /// Automatic restarts since it was last stable for ten minutes.
    pub restart_count: u32,
}
