//! Scheduled work: tasks, where they are, and how the scheduler is doing.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::{AgentId, Priority, TaskId};

/// "Run this agent once, not before `scheduled_time`."
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduledTask {
    /// The task's id. The same task again is accepted once; another under the same id is refused.
    pub id: TaskId,
    /// Which agent runs.
    pub agent_id: AgentId,
    /// How urgent it is.
    pub priority: Priority,
    /// Not before this moment.
    pub scheduled_time: SystemTime,
    /// Bound on each attempt; zero takes the scheduler's own. The least of this, the scheduler's
    /// and the agent's applies.
    pub timeout: Duration,
    /// Retries already consumed: zero in a new task.
    pub retry_count: u32,
}

/// Where a task is.
#[derive(Debug, Clone, PartialEq)]
pub enum TaskStatus {
    /// Due, and waiting for its turn or for its agent.
    Pending {
        /// What it waits for.
        reason: String,
        /// How many due tasks come before it, where the order alone decides.
        position: Option<usize>,
    },
    /// Not due yet.
    Scheduled {
        /// When it will be.
        due: SystemTime,
    },
    /// An attempt is running.
    Running {
        /// Which attempt, from 1.
        attempt: u32,
        /// The lane that runs it.
        worker: usize,
        /// Since when.
        since: SystemTime,
    },
    /// The running attempt waits for something outside.
    Waiting {
        /// For what.
        on: String,
    },
    /// An attempt failed and another one is due.
    Retrying {
        /// The attempt that comes next, from 1.
        attempt: u32,
        /// When.
        next_at: SystemTime,
        /// Why the last one failed.
        last_error: String,
    },
    /// An attempt returned.
    Completed {
        /// When.
        at: SystemTime,
        /// Where the result can be read, if there is one other than `null`.
        result_ref: Option<String>,
    },
    /// Every attempt failed, or one failed for good.
    Failed {
        /// Why the last one did.
        error: String,
        /// How many there were.
        attempts: u32,
    },
    /// The last attempt ran into its timeout.
    TimedOut {
        /// How many there were.
        attempts: u32,
    },
    /// Cancelled while running; the attempt is being ended.
    Cancelling,
    /// Cancelled, and nothing of it runs.
    Cancelled {
        /// By whom or by what.
        by: String,
    },
    /// The process ended during an effect that must not be repeated blindly.
    Unknown {
        /// Which attempt, from 1.
        attempt: u32,
    },
}

impl TaskStatus {
    /// Whether nothing will change this status any more.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Completed { .. }
            | Self::Failed { .. }
            | Self::TimedOut { .. }
            | Self::Cancelled { .. }
            | Self::Unknown { .. } => true,
            Self::Pending { .. }
            | Self::Scheduled { .. }
            | Self::Running { .. }
            | Self::Waiting { .. }
            | Self::Retrying { .. }
            | Self::Cancelling => false,
        }
    }
}

/// A task with an attempt under way.
#[derive(Debug, Clone, PartialEq)]
pub struct RunningTask {
    /// The task.
    pub task: ScheduledTask,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// When the attempt started.
    pub started_at: SystemTime,
    /// When it will be ended if it has not ended by itself.
    pub deadline: SystemTime,
    /// The lane that runs it.
    pub worker_id: usize,
    /// When its lease ends unless a heartbeat renews it.
    pub lease_expires_at: SystemTime,
    /// What the attempt last said of itself.
    pub progress: Option<String>,
}

/// How tasks are dealt out to worker lanes.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub enum LoadBalancingStrategy {
    /// Each lane in turn.
    RoundRobin,
    /// The lane with the fewest running tasks.
    #[default]
    LeastConnections,
    /// The lane with the most room for what the agent may use.
    ResourceBased,
    /// Each lane in turn, as often as its capacity deserves.
    WeightedRoundRobin,
}

/// Counts by priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PriorityCounts {
    /// Of [`Priority::Critical`].
    pub critical: usize,
    /// Of [`Priority::High`].
    pub high: usize,
    /// Of [`Priority::Normal`].
    pub normal: usize,
    /// Of [`Priority::Low`].
    pub low: usize,
}

impl PriorityCounts {
    /// The count of `priority`.
    pub fn of(&mut self, priority: Priority) -> &mut usize {
        match priority {
            Priority::Critical => &mut self.critical,
            Priority::High => &mut self.high,
            Priority::Normal => &mut self.normal,
            Priority::Low => &mut self.low,
        }
    }

    /// All of them together.
    pub fn total(&self) -> usize {
        self.critical + self.high + self.normal + self.low
    }
}

/// Percentiles of a set of durations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimingSummary {
    /// Half took no longer than this.
    pub p50: Duration,
    /// 95 % took no longer than this.
    pub p95: Duration,
    /// 99 % took no longer than this.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

/// How the scheduler is doing.
#[derive(Debug, Clone, PartialEq)]
pub struct SchedulerMetrics {
    /// Due tasks that wait, by priority.
    pub pending: PriorityCounts,
    /// Running tasks, by priority.
    pub running: PriorityCounts,
    /// Tasks that are not due yet, retries included, by priority.
    pub delayed: PriorityCounts,
    /// Tasks completed since the start.
    pub completed: u64,
    /// Tasks failed for good.
    pub failed: u64,
    /// Tasks whose last attempt timed out.
    pub timed_out: u64,
    /// Tasks cancelled.
    pub cancelled: u64,
    /// Tasks whose outcome nobody knows.
    pub unknown: u64,
    /// Tasks ended per second over the last 1, 5 and 15 minutes.
    pub throughput: [f64; 3],
    /// From due to started, over the last 1,024 attempts.
    pub wait_time: TimingSummary,
    /// From started to ended, over the last 1,024 attempts.
    pub run_time: TimingSummary,
    /// How long the oldest due task has waited.
    pub oldest_pending: Option<Duration>,
    /// Attempts beyond the first.
    pub retries: u64,
    /// Leases that ended without a heartbeat.
    pub lease_losses: u64,
    /// Running attempts of each lane as a share of its slots.
    pub lane_utilisation: Vec<f64>,
    /// Whether no new attempt is started.
    pub paused: bool,
    /// The most tasks that may be pending and delayed together.
    pub queue_capacity: usize,
}
