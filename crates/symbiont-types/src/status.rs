//! How the runtime as a whole is.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::{AgentState, SecurityTier, SystemResourceStatus};

/// What the runtime is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// Coming up.
    Starting,
    /// At work.
    Running,
    /// At work, with something broken.
    Degraded,
    /// Finishing what runs, taking nothing new.
    Draining,
    /// At rest.
    Stopped,
}

/// Whether a component does its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Health {
    /// It does.
    Healthy,
    /// It does some of it.
    Degraded,
    /// It does not.
    Unhealthy,
    /// It was not there to be asked.
    Absent,
}

/// The same with a reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentHealth {
    /// Whether it does its work.
    pub health: Health,
    /// What is to be known about it.
    pub detail: String,
}

/// One component of the runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentStatus {
    /// Its name, such as `scheduler`.
    pub name: String,
    /// How it is.
    pub health: Health,
    /// Since when it has been there.
    pub since: SystemTime,
    /// What is to be known about it.
    pub detail: String,
}

/// Whether this host can serve a tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierStatus {
    /// Which tier.
    pub tier: SecurityTier,
    /// The driver that serves it, if one does.
    pub driver: Option<String>,
    /// Why it is not available and what to do, or what its driver can't apply here.
    pub detail: String,
}

/// The end of the audit trail.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditHead {
    /// The last record's number; 0 when there is none.
    pub sequence: u64,
    /// Time since the last checkpoint, if there was one.
    pub checkpoint_age: Option<Duration>,
    /// When the trail was last verified by this process.
    pub last_verified: Option<SystemTime>,
}

/// Where state is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StorageStatus {
    /// `sqlite` or `memory`; empty when the store does not answer.
    pub backend: String,
    /// Bytes on disk, or held in memory.
    pub size: u64,
    /// The 99th percentile of the time one commit takes to be on disk, once there were some.
    pub fsync_p99: Option<Duration>,
}

/// How the runtime as a whole is. What an absent component would know is `None`.
#[derive(Debug, Clone, PartialEq)]
pub struct SystemStatus {
    /// This process among others.
    pub node_id: String,
    /// The runtime's version.
    pub version: String,
    /// `debug` or `release`.
    pub build: String,
    /// `dev` or `production`.
    pub profile: String,
    /// When it came up.
    pub started_at: SystemTime,
    /// Since then.
    pub uptime: Duration,
    /// What it is about.
    pub phase: Phase,
    /// All agents on record.
    pub agents_total: usize,
    /// The same by state.
    pub agents_by_state: BTreeMap<AgentState, usize>,
    /// The most agents that may be alive.
    pub agents_capacity: usize,
    /// Runs under way.
    pub runs_active: usize,
    /// Runs that wait for something outside.
    pub runs_waiting: usize,
    /// Tasks that are due or delayed.
    pub tasks_pending: Option<usize>,
    /// Tasks running.
    pub tasks_running: Option<usize>,
    /// Messages in mailboxes.
    pub messages_pending: Option<usize>,
    /// Messages among the dead letters.
    pub messages_dead: Option<usize>,
    /// Resources.
    pub resources: Option<SystemResourceStatus>,
    /// Circuit breakers that are open.
    pub breakers_open: Option<usize>,
    /// Approvals that somebody waits for.
    pub approvals_pending: usize,
    /// A digest of all policies in force.
    pub policy_digest: Option<String>,
    /// The end of the audit trail.
    pub audit_head: AuditHead,
    /// Where state is kept.
    pub storage: StorageStatus,
    /// Which tiers this host has, as last probed.
    pub tiers: Vec<TierStatus>,
    /// The components.
    pub components: Vec<ComponentStatus>,
    /// What somebody should look at.
    pub warnings: Vec<String>,
}
