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
    priority: Priority,
    due: i64,
    timeout: Duration,
    retries: u32,
    pub(crate) input: Option<Arc<str>>,
    pub(crate) order: u64,
    /// An attempt had been started.
    pub(crate) running: bool,
    pub(crate) last_error: Option<String>,
    pub(crate) end: Option<End>,
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
    pub(crate) fn of(task: &ScheduledTask, input: Option<Arc<str>>, order: u64) -> Self {
        Self {
            id: task.id,
            agent_id: task.agent_id,
            priority: task.priority,
            due: micros(task.scheduled_time),
            timeout: task.timeout,
            retries: task.retry_count,
            input,
            order,
            running: false,
            last_error: None,
            end: None,
        }
    }

    pub(crate) fn task(&self) -> ScheduledTask {
        ScheduledTask {
            id: self.id,
            agent_id: self.agent_id,
            priority: self.priority,
            scheduled_time: from_micros(self.due),
            timeout: self.timeout,
            retry_count: self.retries,
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
