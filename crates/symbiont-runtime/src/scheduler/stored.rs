//! Tasks as they are kept.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use symbiont_types::{AgentId, Priority, ScheduledTask, TaskId, TaskStatus};

use crate::clock::{from_micros, micros};

/// A kept task.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) id: TaskId,
    agent_id: AgentId,
    timeout: Duration,
    /// As it was handed in.
    submitted: Terms,
    /// With what has changed since.
    current: Terms,
    pub(crate) input: Option<Arc<str>>,
    pub(crate) order: u64,
    /// An attempt had been started.
    pub(crate) running: bool,
    pub(crate) last_error: Option<String>,
    pub(crate) end: Option<End>,
}

/// What changes of a task while it waits.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Terms {
    priority: Priority,
    due: i64,
    retries: u32,
}

impl Terms {
    fn of(task: &ScheduledTask) -> Self {
        let due = micros(task.scheduled_time);
        Self { priority: task.priority, due, retries: task.retry_count }
    }
}

/// How a task ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct End {
    pub(crate) at: i64,
    pub(crate) how: How,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum How {
    Completed { has_result: bool },
    Failed { error: String, attempts: u32 },
    TimedOut { attempts: u32 },
    Cancelled { by: String },
    Unknown { attempt: u32 },
}

impl Task {
    pub(crate) fn of(
        task: &ScheduledTask,
        submitted: &ScheduledTask,
        input: Option<Arc<str>>,
        order: u64,
    ) -> Self {
        Self {
            id: task.id,
            agent_id: task.agent_id,
            timeout: task.timeout,
            submitted: Terms::of(submitted),
            current: Terms::of(task),
            input,
            order,
            running: false,
            last_error: None,
            end: None,
        }
    }

    pub(crate) fn task(&self) -> ScheduledTask {
        self.with(self.current)
    }

    pub(crate) fn submitted(&self) -> ScheduledTask {
        self.with(self.submitted)
    }

    fn with(&self, terms: Terms) -> ScheduledTask {
        ScheduledTask {
            id: self.id,
            agent_id: self.agent_id,
            priority: terms.priority,
            scheduled_time: from_micros(terms.due),
            timeout: self.timeout,
            retry_count: terms.retries,
        }
    }
}

impl End {
    pub(crate) fn status(&self, id: TaskId) -> TaskStatus {
        match &self.how {
            How::Completed { has_result } => TaskStatus::Completed {
                at: from_micros(self.at),
                result_ref: has_result.then(|| format!("task:{id}")),
            },
            How::Failed { error, attempts } => {
                TaskStatus::Failed { error: error.clone(), attempts: *attempts }
            }
            How::TimedOut { attempts } => TaskStatus::TimedOut { attempts: *attempts },
            How::Cancelled { by } => TaskStatus::Cancelled { by: by.clone() },
            How::Unknown { attempt } => TaskStatus::Unknown { attempt: *attempt },
        }
    }
}
