//! Tasks as they are kept: what was accepted in one row, which never changes; what attempts made of
//! it in another; what operators asked for in a third and a fourth. Each row has one writer at a
//! time, so that no order among them matters.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use symbiont_types::{AgentId, Priority, ScheduledTask, TaskId, TaskStatus};
use uuid::Uuid;

use crate::clock::{from_micros, micros};

/// A task as it was accepted.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) id: TaskId,
    agent_id: AgentId,
    priority: Priority,
    due: i64,
    timeout: Duration,
    retries: u32,
    pub(crate) input: Option<Arc<str>>,
    /// When it is due, if that is not when it says.
    now: Option<i64>,
    pub(crate) accepted_at: i64,
    /// In the order of acceptance.
    pub(crate) sequence: u64,
}

impl Task {
    pub(crate) fn of(
        task: &ScheduledTask,
        input: Option<Arc<str>>,
        accepted_at: i64,
        sequence: u64,
    ) -> Self {
        Self {
            id: task.id,
            agent_id: task.agent_id,
            priority: task.priority,
            due: micros(task.scheduled_time),
            timeout: task.timeout,
            retries: task.retry_count,
            input,
            now: None,
            accepted_at,
            sequence,
        }
    }

    /// The same task, due already at `now`, whatever it says of itself.
    pub(crate) fn advance(&mut self, now: SystemTime) {
        self.now = Some(micros(now));
    }

    /// As it was handed in.
    pub(crate) fn submitted(&self) -> ScheduledTask {
        ScheduledTask {
            id: self.id,
            agent_id: self.agent_id,
            priority: self.priority,
            scheduled_time: from_micros(self.due),
            timeout: self.timeout,
            retry_count: self.retries,
        }
    }

    /// As it is to be run.
    pub(crate) fn task(&self) -> ScheduledTask {
        let task = self.submitted();
        ScheduledTask { scheduled_time: self.now.map_or(task.scheduled_time, from_micros), ..task }
    }
}

/// What attempts have made of a task.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// The run of an attempt that has begun and not ended.
    pub(crate) run: Option<Uuid>,
    pub(crate) retries: u32,
    pub(crate) due: i64,
    pub(crate) last_error: Option<String>,
    pub(crate) end: Option<End>,
}

/// What an operator asked for; the key says of which task, and whether it is about this or that.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Wish {
    Priority(Priority),
    Cancel { by: String },
}

impl Wish {
    /// The keys of the wishes about a task: its priority, and its end.
    pub(crate) fn keys(id: TaskId) -> [Vec<u8>; 2] {
        [b'p', b'x'].map(|which| {
            let mut key = id.as_uuid().as_bytes().to_vec();
            key.push(which);
            key
        })
    }

    pub(crate) fn key(&self, id: TaskId) -> Vec<u8> {
        let [priority, cancel] = Self::keys(id);
        match self {
            Self::Priority(_) => priority,
            Self::Cancel { .. } => cancel,
        }
    }
}

/// The mark of a run that has begun an effect which must not be repeated blindly. It says nothing of
/// any other run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RunMark {
    pub(crate) run: Uuid,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct End {
    pub(crate) at: i64,
    pub(crate) how: How,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum How {
    Completed { has_result: bool },
    Failed { error: String, attempts: u32 },
    TimedOut { attempts: u32 },
    Cancelled { by: String },
    Unknown { attempt: u32 },
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
