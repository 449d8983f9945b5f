//! The scheduler: runs agents when they are due, in order of urgency, a bounded number at a time.
//!
//! # What holds
//!
//! - `schedule_task` returns when the task is recorded; on a durable journal it then survives
//!   `kill -9`, and runs after it unless an effect had begun that must not be repeated blindly. An
//!   attempt that the end of the process interrupted counts as one.
//! - A task's status comes from its execution: it has completed when its attempt returned, and that
//!   is on record together with the end of the agent's run, in one commit.
//! - An effect that must not be repeated blindly is not: an attempt that began one and was cut off
//!   leaves its task `Unknown`.
//! - Nothing is polled: tasks are started when one comes, becomes due or ends, and when an agent's
//!   readiness changes.

mod lanes;
mod meter;
mod queue;
mod restore;
mod state;
mod stored;
mod work;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use async_trait::async_trait;
use symbiont_store::StoreError;
use symbiont_types::{
    AgentId, LoadBalancingStrategy, Priority, PriorityCounts, RunningTask, ScheduledTask,
    SchedulerError, SchedulerMetrics, TaskId, TaskStatus,
};
use tokio::time::Instant;

use self::lanes::Lanes;
use self::queue::Queue;
use self::state::{Phase, State};
pub(crate) use self::stored::RunMark;
use self::work::{Inner, dispatch};
use crate::clock::{Clock, FAR};
use crate::directory::Directory;
use crate::journal::{Journal, RESULTS, SETTINGS};
use crate::tasks::Tasks;

/// Runs agents when they are due.
#[async_trait]
pub trait Scheduler: Send + Sync {
    /// Accepts a task. `Ok` means that it is recorded. The same task again is accepted once.
    ///
    /// # Errors
    ///
    /// `AgentNotFound`, `DuplicateTask` for another task with the id, `QueueFull`, `InvalidTask`
    /// for an agent that has terminated, `ShuttingDown`, `Storage`.
    async fn schedule_task(&self, task: ScheduledTask) -> Result<(), SchedulerError>;

    /// Cancels a task. `Ok` means that this is recorded. One that waits is cancelled at once, one
    /// that runs at its next step; the status says when it was.
    ///
    /// # Errors
    ///
    /// `TaskNotFound`, `AlreadyFinished`, `Storage`, `ShuttingDown`.
    async fn cancel_task(&self, task_id: TaskId) -> Result<(), SchedulerError>;

    /// Where the task is, for a day after its end.
    ///
    /// # Errors
    ///
    /// `TaskNotFound`.
    async fn get_task_status(&self, task_id: TaskId) -> Result<TaskStatus, SchedulerError>;

    /// Tasks that wait, due or not, in the order of their due time.
    async fn list_pending_tasks(&self) -> Vec<ScheduledTask>;

    /// Tasks with an attempt under way.
    async fn list_running_tasks(&self) -> Vec<RunningTask>;

    /// How it goes.
    async fn get_scheduler_metrics(&self) -> SchedulerMetrics;

    /// Gives the task another priority; it keeps its age.
    ///
    /// # Errors
    ///
    /// `TaskNotFound`, `AlreadyFinished`, `Storage`, `ShuttingDown`.
    async fn update_task_priority(
        &self,
        task_id: TaskId,
        priority: Priority,
    ) -> Result<(), SchedulerError>;

    /// Starts no more attempts until [`Scheduler::resume_scheduling`]; what runs goes on, and tasks
    /// are accepted. Survives a restart on a durable journal. Again is fine.
    ///
    /// # Errors
    ///
    /// `Storage`, `ShuttingDown`.
    async fn pause_scheduling(&self) -> Result<(), SchedulerError>;

    /// Starts attempts again. Again is fine.
    ///
    /// # Errors
    ///
    /// `Storage`, `ShuttingDown`.
    async fn resume_scheduling(&self) -> Result<(), SchedulerError>;

    /// Takes and starts nothing more, asks what runs to come to its next step, waits up to 10 seconds
    /// for that, then leaves it. Tasks that wait are kept, and so are those whose attempt was ended
    /// by this before it had any effect. Again is fine.
    ///
    /// # Errors
    ///
    /// None at present.
    async fn shutdown(&self) -> Result<(), SchedulerError>;
}

/// Settings of the scheduler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchedulerConfig {
    /// Attempts running at a time, over all lanes, at most a million. A twentieth is for critical
    /// tasks alone.
    pub max_concurrent_tasks: usize,
    /// The most time that an attempt gets, and what one without a timeout of its own gets.
    pub task_timeout: Duration,
    /// Attempts after the first.
    pub retry_attempts: u32,
    /// How attempts are dealt out to lanes.
    pub load_balancing_strategy: LoadBalancingStrategy,
    /// Whether urgency orders tasks; otherwise the due time alone does.
    pub enable_priority_scheduling: bool,
    /// The most tasks that may wait, due or not.
    pub task_queue_size: usize,
    /// Lanes, at most 1,024; zero is one for each core.
    pub worker_threads: usize,
    /// Time between an attempt's heartbeats, at least 10 ms. Its lease is lost after three without
    /// one.
    pub health_check_interval: Duration,
}

impl Default for SchedulerConfig {
    /// 1,000 attempts, an hour each, three retries, the least busy lane, by priority, 100,000
    /// waiting tasks, a lane for each core, a heartbeat every ten seconds.
    fn default() -> Self {
        Self {
            max_concurrent_tasks: 1000,
            task_timeout: Duration::from_secs(3600),
            retry_attempts: 3,
            load_balancing_strategy: LoadBalancingStrategy::default(),
            enable_priority_scheduling: true,
            task_queue_size: 100_000,
            worker_threads: 0,
            health_check_interval: Duration::from_secs(10),
        }
    }
}

/// How long it is remembered what became of a task.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// The most ended tasks that are remembered; the oldest goes.
const MOST_REMEMBERED: usize = 200_000;
/// The largest input of a task.
const LARGEST_INPUT: usize = 1024 * 1024;
/// The most attempts at a time, and lanes for them.
const MOST_SLOTS: usize = 1_000_000;
const MOST_LANES: usize = 1024;
/// The shortest time between heartbeats: a lease is no measure of how busy the host is.
const SHORTEST_HEARTBEAT: Duration = Duration::from_millis(10);
/// How long a shutdown waits for what runs.
const DRAIN: Duration = Duration::from_secs(10);
const PAUSED: &[u8] = b"scheduler.paused";
/// Why the tasks of an agent that is gone end.
const TERMINATED: &str = "the agent has terminated";

/// The scheduler over a journal.
#[derive(Debug, Clone)]
pub struct DefaultScheduler {
    inner: Arc<Inner>,
}

/// Builds a [`DefaultScheduler`].
#[derive(Debug)]
pub struct SchedulerBuilder {
    config: SchedulerConfig,
    directory: Arc<Directory>,
    journal: Journal,
}

impl DefaultScheduler {
    /// A scheduler in memory, which meets the process's other components in their directory.
    ///
    /// # Errors
    ///
    /// `InvalidTask` for settings that make no sense.
    pub async fn new(config: SchedulerConfig) -> Result<Self, SchedulerError> {
        Self::builder(config).directory(Directory::process()).build().await
    }

    /// A scheduler with a directory of its own, in memory, unless the builder is told otherwise.
    pub fn builder(config: SchedulerConfig) -> SchedulerBuilder {
        SchedulerBuilder {
            config,
            directory: Directory::new(),
            journal: Journal::in_memory(Clock::system()),
        }
    }

    /// [`Scheduler::schedule_task`] with an input for the run, as JSON text.
    ///
    /// # Errors
    ///
    /// As there; `InvalidTask` for an input that is no JSON or has more than 1 MiB.
    pub async fn schedule_task_with_input(
        &self,
        task: ScheduledTask,
        input: &str,
    ) -> Result<(), SchedulerError> {
        if input.len() > LARGEST_INPUT {
            return Err(invalid("the input has more than 1 MiB"));
        }
        if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(input) {
            return Err(invalid(&format!("the input is no JSON: {error}")));
        }
        self.inner.accept(task, Some(input.into()), false).await
    }

    /// Schedules the task, which is due at once whatever it says, or says that nothing is started at
    /// present.
    ///
    /// # Errors
    ///
    /// `SchedulingPaused`; otherwise as [`Scheduler::schedule_task`].
    pub async fn run_now(&self, task: ScheduledTask) -> Result<(), SchedulerError> {
        self.inner.accept(task, None, true).await
    }

    /// Waits until the task has ended, and says how.
    ///
    /// # Errors
    ///
    /// `TaskNotFound`; `ShuttingDown` when the scheduler closes first.
    pub async fn ended(&self, task_id: TaskId) -> Result<TaskStatus, SchedulerError> {
        let told = self.inner.lock().wait_for(task_id)?;
        match told {
            Ok(status) => Ok(status),
            Err(waiter) => waiter.await.map_err(|_| SchedulerError::ShuttingDown),
        }
    }

    /// The result of a completed task as JSON text: what its `result_ref` refers to. A task whose
    /// run returned `null` has none.
    ///
    /// # Errors
    ///
    /// `TaskNotFound`, `Storage`.
    pub async fn result(&self, task_id: TaskId) -> Result<Option<String>, SchedulerError> {
        if !self.inner.lock().jobs.contains_key(&task_id) {
            return Err(SchedulerError::TaskNotFound { task_id });
        }
        let key = *task_id.as_uuid().as_bytes();
        let bytes = self.inner.journal.store().get(RESULTS, &key).await.map_err(storage)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }
}

impl SchedulerBuilder {
    /// Meets other components in `directory`.
    #[must_use]
    pub fn directory(self, directory: Arc<Directory>) -> Self {
        Self { directory, ..self }
    }

    /// Uses `journal`; tasks that are kept there wait again.
    #[must_use]
    pub fn journal(self, journal: Journal) -> Self {
        Self { journal, ..self }
    }

    /// The scheduler.
    ///
    /// # Errors
    ///
    /// `InvalidTask` for settings that make no sense, `Storage` when the kept tasks can't be read.
    pub async fn build(self) -> Result<DefaultScheduler, SchedulerError> {
        let c = &self.config;
        #[rustfmt::skip]
        let wrong = [
            ("max_concurrent_tasks", !(1..=MOST_SLOTS).contains(&c.max_concurrent_tasks), "from 1 to 1,000,000"),
            ("worker_threads", c.worker_threads > MOST_LANES, "at most 1,024"),
            ("task_timeout", c.task_timeout.is_zero(), "longer than zero"),
            ("task_queue_size", c.task_queue_size == 0, "at least 1"),
            ("health_check_interval", c.health_check_interval < SHORTEST_HEARTBEAT, "at least 10 ms"),
        ];
        if let Some((name, _, fit)) = wrong.iter().find(|(_, is_wrong, _)| *is_wrong) {
            return Err(invalid(&format!("`{name}` must be {fit}")));
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let lanes = if c.worker_threads == 0 { cores.min(MOST_LANES) } else { c.worker_threads };
        let settings = SchedulerConfig {
            task_timeout: c.task_timeout.min(FAR),
            health_check_interval: c.health_check_interval.min(FAR),
            ..self.config
        };
        let paused = self.journal.store().get(SETTINGS, PAUSED).await.map_err(storage)?.is_some();
        let queue = Queue::new(settings.enable_priority_scheduling);
        let slots = settings.max_concurrent_tasks;
        let lanes = Lanes::new(lanes, slots, settings.load_balancing_strategy);
        let mut state = State::new(queue, lanes, paused);
        let change = restore::restore(&self.journal, &mut state, settings.retry_attempts)
            .await
            .map_err(storage)?;
        if !change.is_empty() {
            self.journal.commit(change).await.map_err(storage)?;
        }
        let agents: HashSet<AgentId> = state.open.keys().copied().collect();
        let inner = Arc::new_cyclic(|this| Inner {
            settings,
            journal: self.journal,
            directory: self.directory,
            state: Mutex::new(state),
            wake: Arc::default(),
            accepted: tokio::sync::Notify::new(),
            wishes: work::stripes(),
            pausing: tokio::sync::Mutex::default(),
            tasks: Tasks::default(),
            this: Weak::clone(this),
        });
        for agent_id in agents {
            if inner.take_place(agent_id).is_err() {
                tracing::warn!(%agent_id, "another scheduler hears of the changes of this agent");
            }
        }
        inner.tasks.spawn(dispatch(Weak::clone(&inner.this), inner.tasks.stopping()));
        Ok(DefaultScheduler { inner })
    }
}

#[async_trait]
impl Scheduler for DefaultScheduler {
    async fn schedule_task(&self, task: ScheduledTask) -> Result<(), SchedulerError> {
        self.inner.accept(task, None, false).await
    }

    async fn cancel_task(&self, task_id: TaskId) -> Result<(), SchedulerError> {
        let inner = Arc::clone(&self.inner);
        self.inner.detached(async move { inner.cancel(task_id, "cancel_task").await }).await
    }

    async fn get_task_status(&self, task_id: TaskId) -> Result<TaskStatus, SchedulerError> {
        self.inner.status(task_id)
    }

    async fn list_pending_tasks(&self) -> Vec<ScheduledTask> {
        let state = self.inner.lock();
        let mut waiting: Vec<_> = state
            .jobs
            .values()
            .filter(|job| matches!(job.phase, Phase::Waiting { .. }))
            .map(|job| ((job.task.scheduled_time, job.sequence), job.task.clone()))
            .collect();
        drop(state);
        waiting.sort_by_key(|(place, _)| *place);
        waiting.into_iter().map(|(_, task)| task).collect()
    }

    async fn list_running_tasks(&self) -> Vec<RunningTask> {
        let now = self.inner.journal.now();
        let state = self.inner.lock();
        let running = state.running.iter().filter_map(|id| {
            let job = state.jobs.get(id)?;
            let (Phase::Running(attempt) | Phase::Ending { attempt: Some(attempt), .. }) =
                &job.phase
            else {
                return None;
            };
            Some(RunningTask {
                task: job.task.clone(),
                attempt: job.attempt(),
                started_at: attempt.since,
                deadline: attempt.deadline,
                worker_id: attempt.lane,
                lease_expires_at: now + attempt.lease_until.duration_since(Instant::now()),
                progress: None,
            })
        });
        let mut running: Vec<RunningTask> = running.collect();
        drop(state);
        running.sort_by_key(|running| (running.started_at, running.task.id));
        running
    }

    async fn get_scheduler_metrics(&self) -> SchedulerMetrics {
        let now = self.inner.journal.now();
        let state = self.inner.lock();
        let [due, later] = state.queue.counts(now);
        let counted = |counts: BTreeMap<Priority, usize>| {
            let mut by_class = PriorityCounts::default();
            for (class, count) in counts {
                *by_class.of(class) += count;
            }
            by_class
        };
        let mut running = PriorityCounts::default();
        for job in state.running.iter().filter_map(|id| state.jobs.get(id)) {
            *running.of(job.task.priority) += 1;
        }
        SchedulerMetrics {
            pending: counted(due),
            running,
            delayed: counted(later),
            completed: state.counts.completed,
            failed: state.counts.failed,
            timed_out: state.counts.timed_out,
            cancelled: state.counts.cancelled,
            unknown: state.counts.unknown,
            throughput: state.throughput.rates(),
            wait_time: state.wait_time.summary(),
            run_time: state.run_time.summary(),
            oldest_pending: state
                .queue
                .oldest_due()
                .map(|due| now.duration_since(due).unwrap_or_default()),
            retries: state.counts.retries,
            lease_losses: state.counts.lease_losses,
            lane_utilisation: state.lanes.utilisation(),
            paused: state.paused,
            queue_capacity: self.inner.settings.task_queue_size,
        }
    }

    async fn update_task_priority(
        &self,
        task_id: TaskId,
        priority: Priority,
    ) -> Result<(), SchedulerError> {
        let inner = Arc::clone(&self.inner);
        self.inner.detached(async move { inner.reprioritize(task_id, priority).await }).await
    }

    async fn pause_scheduling(&self) -> Result<(), SchedulerError> {
        let inner = Arc::clone(&self.inner);
        self.inner.detached(async move { inner.set_paused(true).await }).await
    }

    async fn resume_scheduling(&self) -> Result<(), SchedulerError> {
        let inner = Arc::clone(&self.inner);
        self.inner.detached(async move { inner.set_paused(false).await }).await
    }

    async fn shutdown(&self) -> Result<(), SchedulerError> {
        self.inner.lock().close();
        self.inner.tasks.stop(DRAIN).await;
        self.inner.lock().dismiss();
        Ok(())
    }
}

fn invalid(reason: &str) -> SchedulerError {
    SchedulerError::InvalidTask { reason: reason.to_owned() }
}

fn storage(error: StoreError) -> SchedulerError {
    match error {
        StoreError::Closed => SchedulerError::ShuttingDown,
        error => SchedulerError::Storage { reason: error.to_string() },
    }
}
