//! Resources: what an agent may use, does use, and what there is.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::AgentId;

/// What an agent may use at most.
#[derive(Debug, Clone, PartialEq)]
pub struct ResourceLimits {
    /// Memory in MiB.
    pub memory_mb: u64,
    /// Processor cores; fractions are exact to a thousandth.
    pub cpu_cores: f64,
    /// Disk reads and writes together, in MB/s; zero is none at all.
    pub disk_io_mbps: u64,
    /// Network traffic in both directions together, in MB/s; zero is none at all.
    pub network_io_mbps: u64,
    /// Active time of one run.
    pub execution_timeout: Duration,
    /// Time that an agent may wait without work before it is parked.
    pub idle_timeout: Duration,
}

impl Default for ResourceLimits {
    /// 512 MiB, one core, 50 MB/s of disk, 10 MB/s of network, one hour a run, five minutes idle.
    fn default() -> Self {
        Self {
            memory_mb: 512,
            cpu_cores: 1.0,
            disk_io_mbps: 50,
            network_io_mbps: 10,
            execution_timeout: Duration::from_secs(3600),
            idle_timeout: Duration::from_secs(300),
        }
    }
}

/// What an agent uses. A zero means that it uses nothing of the kind, never that nobody looked.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ResourceUsage {
    /// Memory held now, in bytes.
    pub memory_used: u64,
    /// Cores in use; 1.0 is one core.
    pub cpu_usage: f64,
    /// Disk reads and writes, in bytes/s.
    pub disk_io_rate: u64,
    /// Network traffic, in bytes/s.
    pub network_io_rate: u64,
    /// Time since the agent was created, up to its end.
    pub uptime: Duration,
}

/// A figure, and where it comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured<T> {
    /// The figure.
    pub value: T,
    /// Where it comes from.
    pub source: UsageSource,
}

/// What an agent uses, as far as it can be measured here: what nobody can tell is `None`.
#[derive(Debug, Clone, PartialEq)]
pub struct UsageDetail {
    /// Memory held now, in bytes.
    pub memory_used: Option<Measured<u64>>,
    /// Cores in use; 1.0 is one core.
    pub cpu_usage: Option<Measured<f64>>,
    /// Disk reads and writes, in bytes/s.
    pub disk_io_rate: Option<Measured<u64>>,
    /// Network traffic, in bytes/s.
    pub network_io_rate: Option<Measured<u64>>,
    /// Time since the agent was created, up to its end.
    pub uptime: Duration,
}

/// A promise of resources to an agent.
#[derive(Debug, Clone, PartialEq)]
pub struct ResourceAllocation {
    /// Who holds the promise.
    pub agent_id: AgentId,
    /// Since when.
    pub allocated_at: SystemTime,
    /// What was promised.
    pub limits: ResourceLimits,
    /// What is used of it.
    pub current_usage: ResourceUsage,
}

/// A kind of resource that is promised and measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ResourceKind {
    /// Memory, in bytes.
    Memory,
    /// Processor time, in cores.
    Cpu,
    /// Disk traffic, in bytes/s.
    Disk,
    /// Network traffic, in bytes/s.
    Network,
}

impl ResourceKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Memory, Self::Cpu, Self::Disk, Self::Network];
}

impl fmt::Display for ResourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Disk => "disk",
            Self::Network => "network",
        })
    }
}

/// Where a figure of usage comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum UsageSource {
    /// The evaluator's own accounting of the program's values and steps.
    Evaluator,
    /// The kernel's accounting of the agent's sandbox, and the evaluator's of the rest.
    Kernel,
    /// Nothing of the agent exists that could use any.
    NothingRuns,
}

/// The state of one kind of resource on this machine, in bytes of memory, cores, bytes of disk space
/// or bytes/s of network traffic.
#[derive(Debug, Clone, PartialEq)]
pub struct KindStatus {
    /// Which kind.
    pub kind: ResourceKind,
    /// What there is, where the host tells or the configuration says.
    pub total: Option<f64>,
    /// What is held back from agents.
    pub reserved: f64,
    /// What is promised to agents.
    pub allocated: f64,
    /// What could still be promised, where there is a total.
    pub available: Option<f64>,
    /// What agents use, as last sampled; `None` when it is not known of every agent. The space that
    /// agents use on disks is not measured.
    pub used: Option<f64>,
}

/// The resources of this machine and what is promised of them.
#[derive(Debug, Clone, PartialEq)]
pub struct SystemResourceStatus {
    /// One entry for each kind, in the order of [`ResourceKind::ALL`].
    pub kinds: Vec<KindStatus>,
    /// Promises in force.
    pub allocations: usize,
    /// Tasks stalled for lack of (memory, cpu, io) over ten seconds, as a share of time, where the
    /// kernel tells.
    pub pressure: Option<[f32; 3]>,
    /// Whether of some kind more is promised than there is without the reserve, as it may be after a
    /// restart with less, or more is used than there is.
    pub overcommitted: bool,
    /// When usage was last sampled; `None` before the first time.
    pub sampled_at: Option<SystemTime>,
    /// Where totals and usage come from, in words.
    pub backend: String,
    /// What can't be enforced or measured here, and why.
    pub degraded: Vec<String>,
}

impl SystemResourceStatus {
    /// The entry of `kind`, if this status has one.
    pub fn kind(&self, kind: ResourceKind) -> Option<&KindStatus> {
        self.kinds.iter().find(|status| status.kind == kind)
    }
}

/// How far over its limit an agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ViolationSeverity {
    /// Over the limit, within the grace of three samples.
    Warning,
    /// Over the limit for longer.
    Critical,
}

/// What was done about a violation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ViolationAction {
    /// Enforcement is off: nothing but this report.
    Observed,
    /// The violation was recorded.
    Notified,
    /// The kernel slows the agent's sandbox down to its limit, as it has measured.
    Throttled,
    /// The agent was suspended.
    Suspended,
    /// The agent was terminated.
    Terminated,
}

/// An agent that uses more than it was promised.
#[derive(Debug, Clone, PartialEq)]
pub struct ResourceViolation {
    /// Who.
    pub agent_id: AgentId,
    /// Of what.
    pub kind: ResourceKind,
    /// How much it uses, in the kind's unit.
    pub used: f64,
    /// How much it may use, in the same unit.
    pub limit: f64,
    /// `used / limit`; infinite when the limit is zero.
    pub ratio: f64,
    /// When it was first seen over the limit.
    pub since: SystemTime,
    /// Samples in a row that found it there.
    pub samples: u32,
    /// How bad it is.
    pub severity: ViolationSeverity,
    /// What was done.
    pub action: ViolationAction,
}

/// When to speak up about one kind of resource.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// Share of the limit, above 0 and up to 1, from which a warning is due.
    pub warn: f64,
    /// Share of the limit, at least `warn`, from which the alert is critical.
    pub critical: f64,
}

/// When to raise alerts about an agent.
#[derive(Debug, Clone, PartialEq)]
pub struct ResourceThresholds {
    /// Thresholds by kind; a kind that is not here raises no alert.
    pub kinds: Vec<(ResourceKind, Threshold)>,
    /// Samples in a row beyond a threshold before it counts; at least 1.
    pub consecutive_samples: u32,
    /// Least time between two alerts of one kind. A warning that becomes critical does not wait.
    pub cooldown: Duration,
}

impl Default for ResourceThresholds {
    /// Warn at 80 % and 95 % of memory and processor, after three samples, once a minute.
    fn default() -> Self {
        let threshold = Threshold { warn: 0.8, critical: 0.95 };
        Self {
            kinds: vec![(ResourceKind::Memory, threshold), (ResourceKind::Cpu, threshold)],
            consecutive_samples: 3,
            cooldown: Duration::from_secs(60),
        }
    }
}

/// One sample of an agent's usage.
#[derive(Debug, Clone, PartialEq)]
pub struct ResourceSnapshot {
    /// When it was taken.
    pub at: SystemTime,
    /// What was used.
    pub usage: ResourceUsage,
    /// Kinds that could not be measured: their figures in `usage` mean nothing.
    pub unmeasured: Vec<ResourceKind>,
    /// The limits in force at that moment.
    pub limits: ResourceLimits,
    /// Where the figures come from.
    pub source: UsageSource,
    /// Time the kernel held the agent's sandbox back so far, where it tells.
    pub throttled: Option<Duration>,
    /// Processes of the agent's sandbox that the kernel killed for lack of memory, where it tells.
    pub oom_kills: Option<u64>,
}
