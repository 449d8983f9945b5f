//! The scheduler: runs agents when they are due, in order of urgency, a bounded number at a time.
//!
//! # What holds
//!
//! - `schedule_task` returns when the task is recorded; on a durable journal it then survives
//!   `kill -9`, and runs after it unless an effect had begun that must not be repeated blindly.
//! - A task's status comes from its execution: it has completed when its attempt returned.
//! - A slot is released on every path, and a late attempt cannot end a task that was given to
//!   another: each attempt carries a fence.
//! - Nothing is polled: the dispatcher wakes when a task comes, becomes due or ends, and when an
//!   agent's readiness changes.

mod meter;
mod queue;
mod stored;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use symbiont_store::StoreError;
use symbiont_types::{
    AgentId, LoadBalancingStrategy, Priority, PriorityCounts, RunningTask, ScheduledTask,
    SchedulerError, SchedulerMetrics, TaskId, TaskStatus,
};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::meter::{Throughput, Timings};
use self::queue::{Lanes, Load, Queue, Ticket};
use self::stored::{End, How};
use crate::clock::{Clock, FAR, from_micros, micros};
use crate::directory::{Activation, AttemptOutcome, Directory, Readiness, WorkPort};
use crate::journal::{Change, Journal, RESULTS, RUNS, SETTINGS, TASKS, row, rows};
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

    /// Cancels a task. One that waits is cancelled at once, one that runs at its next step; the
    /// status says when it was.
    ///
    /// # Errors
    ///
    /// `TaskNotFound`, `AlreadyFinished`, `Storage`.
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
    /// `TaskNotFound`, `AlreadyFinished`, `Storage`.
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

    /// Takes and starts nothing more, and waits up to 10 seconds for what runs, then leaves it.
    /// Tasks that wait are kept. Again is fine.
    ///
    /// # Errors
    ///
    /// None at present.
    async fn shutdown(&self) -> Result<(), SchedulerError>;
}

/// Settings of the scheduler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchedulerConfig {
    /// Attempts running at a time, over all lanes. A twentieth is for critical tasks alone.
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
    /// Lanes; zero is one for each core.
    pub worker_threads: usize,
    /// Time between an attempt's heartbeats. Its lease is lost after three without one.
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
/// Locks that the ids of tasks being accepted share: enough that few ids meet.
const ACCEPTING: usize = 1024;
/// The pause before the first retry; it doubles with each.
const BACKOFF: Duration = Duration::from_millis(500);
/// The longest pause before a retry.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
/// The largest input of a task.
const LARGEST_INPUT: usize = 1024 * 1024;
/// How long a shutdown waits for what runs.
const DRAIN: Duration = Duration::from_secs(10);
const PAUSED: &[u8] = b"scheduler.paused";

/// The scheduler over a journal.
#[derive(Debug, Clone)]
pub struct DefaultScheduler {
    inner: Arc<Inner>,
}

struct Inner {
    settings: SchedulerConfig,
    journal: Journal,
    directory: Arc<Directory>,
    state: Mutex<State>,
    /// Agents whose readiness may have changed since the dispatcher last looked.
    changed: Mutex<HashSet<AgentId>>,
    wake: Arc<Notify>,
    /// Held while a task is being accepted, so that an id is judged once at a time; ids share them.
    accepting: Vec<tokio::sync::Mutex<()>>,
    tasks: Tasks,
    this: Weak<Self>,
}

#[derive(Debug)]
struct State {
    queue: Queue,
    lanes: Lanes,
    jobs: HashMap<TaskId, Job>,
    /// Tasks that have not ended, by agent.
    open: HashMap<AgentId, HashSet<TaskId>>,
    /// Agents that run a task: one at a time each.
    busy: HashSet<AgentId>,
    ended: VecDeque<(SystemTime, TaskId)>,
    waiters: HashMap<TaskId, Vec<oneshot::Sender<TaskStatus>>>,
    /// Tasks that have ended and whose end is being recorded.
    unrecorded: HashSet<TaskId>,
    counts: Counts,
    wait_time: Timings,
    run_time: Timings,
    throughput: Throughput,
    fence: u64,
    /// Tasks whose place in the queue is promised while they are being recorded.
    promised: usize,
    paused: bool,
    closed: bool,
}

#[derive(Debug, Default)]
struct Counts {
    completed: u64,
    failed: u64,
    timed_out: u64,
    cancelled: u64,
    unknown: u64,
    retries: u64,
    lease_losses: u64,
}

#[derive(Debug)]
struct Job {
    /// As it was handed in.
    submitted: ScheduledTask,
    /// With what the runtime has counted since.
    task: ScheduledTask,
    input: Option<Arc<str>>,
    phase: Phase,
    /// One record of it at a time, in the order in which it changed.
    recording: Arc<tokio::sync::Mutex<()>>,
}

impl Job {
    fn new(
        submitted: ScheduledTask,
        task: ScheduledTask,
        input: Option<Arc<str>>,
        phase: Phase,
    ) -> Self {
        Self { submitted, task, input, phase, recording: Arc::default() }
    }
}

#[derive(Debug)]
enum Phase {
    Waiting { ticket: Ticket, last_error: Option<String> },
    Running(Attempt),
    Ended(End),
}

#[derive(Debug)]
struct Attempt {
    fence: u64,
    lane: usize,
    load: Load,
    since: SystemTime,
    deadline: SystemTime,
    /// On the timers' scale: the time of day may jump.
    lease_until: Instant,
    cancel: CancellationToken,
    /// By whom or by what it is being cancelled.
    cancelled_by: Option<String>,
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

    /// Schedules the task at once, or says that nothing is started at present.
    ///
    /// # Errors
    ///
    /// `SchedulingPaused`; otherwise as [`Scheduler::schedule_task`].
    pub async fn run_now(&self, task: ScheduledTask) -> Result<(), SchedulerError> {
        let now = self.inner.journal.now();
        let task = ScheduledTask { scheduled_time: task.scheduled_time.min(now), ..task };
        self.inner.accept(task, None, true).await
    }

    /// Waits until the task has ended, and says how.
    ///
    /// # Errors
    ///
    /// `TaskNotFound`; `ShuttingDown` when the scheduler closes first.
    pub async fn ended(&self, task_id: TaskId) -> Result<TaskStatus, SchedulerError> {
        let waiter = {
            let mut state = self.inner.lock();
            let job = state.jobs.get(&task_id).ok_or(SchedulerError::TaskNotFound { task_id })?;
            if let Phase::Ended(end) = &job.phase
                && !state.unrecorded.contains(&task_id)
            {
                return Ok(end.status(task_id));
            }
            let (tell, told) = oneshot::channel();
            state.waiters.entry(task_id).or_default().push(tell);
            told
        };
        waiter.await.map_err(|_| SchedulerError::ShuttingDown)
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
        let zero = [
            ("max_concurrent_tasks", c.max_concurrent_tasks == 0),
            ("task_timeout", c.task_timeout.is_zero()),
            ("task_queue_size", c.task_queue_size == 0),
            ("health_check_interval", c.health_check_interval.is_zero()),
        ];
        if let Some((name, _)) = zero.iter().find(|(_, is_zero)| *is_zero) {
            return Err(invalid(&format!("`{name}` must not be zero")));
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let lanes = if c.worker_threads == 0 { cores } else { c.worker_threads };
        let settings = SchedulerConfig {
            task_timeout: c.task_timeout.min(FAR),
            health_check_interval: c.health_check_interval.min(FAR),
            ..self.config
        };
        let paused = self.journal.store().get(SETTINGS, PAUSED).await.map_err(storage)?.is_some();
        let mut state = State {
            queue: Queue::new(settings.enable_priority_scheduling),
            lanes: Lanes::new(
                lanes,
                settings.max_concurrent_tasks,
                settings.load_balancing_strategy,
            ),
            jobs: HashMap::new(),
            open: HashMap::new(),
            busy: HashSet::new(),
            ended: VecDeque::new(),
            waiters: HashMap::new(),
            unrecorded: HashSet::new(),
            counts: Counts::default(),
            wait_time: Timings::default(),
            run_time: Timings::default(),
            throughput: Throughput::new(),
            fence: 0,
            promised: 0,
            paused,
            closed: false,
        };
        let change =
            restore(&self.journal, &mut state, settings.retry_attempts).await.map_err(storage)?;
        if !change.is_empty() {
            self.journal.commit(change).await.map_err(storage)?;
        }
        let agents: HashSet<AgentId> = state.jobs.values().map(|job| job.task.agent_id).collect();
        let inner = Arc::new_cyclic(|this| Inner {
            settings,
            journal: self.journal,
            directory: self.directory,
            state: Mutex::new(state),
            changed: Mutex::default(),
            wake: Arc::default(),
            accepting: (0..ACCEPTING).map(|_| tokio::sync::Mutex::default()).collect(),
            tasks: Tasks::default(),
            this: Weak::clone(this),
        });
        for agent in agents {
            inner.take_place(agent);
        }
        inner.tasks.spawn(dispatch(Weak::clone(&inner.this), inner.tasks.stopping()));
        Ok(DefaultScheduler { inner })
    }
}

/// Every task that a journal has; what was running when the process died is decided here.
async fn restore(journal: &Journal, state: &mut State, retries: u32) -> Result<Change, StoreError> {
    let mut kept: Vec<stored::Task> =
        rows(journal.store(), TASKS, &[]).await?.into_iter().map(|(_, task)| task).collect();
    kept.sort_by_key(|task| task.order);
    let now = journal.now();
    let mut change = Change::new();
    for mut kept in kept {
        let submitted = kept.submitted();
        let mut task = kept.task();
        if kept.running && kept.end.is_none() {
            let key = *kept.id.as_uuid().as_bytes();
            let begun = row::<RunMark>(journal.store(), RUNS, &key).await?;
            kept.running = false;
            let attempt = task.retry_count.saturating_add(1);
            if begun.is_some_and(|mark| mark.effects) {
                kept.end = Some(End { at: micros(now), how: How::Unknown { attempt } });
            } else if task.retry_count >= retries {
                let error = "the process ended during the last attempt".to_owned();
                kept.end =
                    Some(End { at: micros(now), how: How::Failed { error, attempts: attempt } });
            } else {
                task.retry_count += 1;
                kept.last_error = Some("the process ended during the attempt".to_owned());
            }
            let end = kept.end.clone();
            let mut again = stored::Task::of(&task, &submitted, kept.input.clone(), kept.order);
            again.last_error.clone_from(&kept.last_error);
            again.end = end;
            change = change.put(TASKS, key, &again);
        }
        let phase = match kept.end {
            Some(end) => {
                state.ended.push_back((from_micros(end.at), kept.id));
                Phase::Ended(end)
            }
            None => {
                let ticket = state.queue.ticket(task.priority, task.scheduled_time);
                state.queue.push(kept.id, ticket, now);
                Phase::Waiting { ticket, last_error: kept.last_error }
            }
        };
        if !matches!(phase, Phase::Ended(_)) {
            state.open.entry(task.agent_id).or_default().insert(kept.id);
        }
        state.jobs.insert(kept.id, Job::new(submitted, task, kept.input, phase));
    }
    state.ended.make_contiguous().sort_unstable();
    Ok(change)
}

/// What is kept of a run while it is under way.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct RunMark {
    /// It has begun an effect that must not be repeated blindly.
    pub(crate) effects: bool,
}

/// Starts what can start, whenever something has changed.
async fn dispatch(this: Weak<Inner>, stop: CancellationToken) {
    let Some(inner) = this.upgrade() else { return };
    let health = inner.settings.health_check_interval;
    let wake = Arc::clone(&inner.wake);
    drop(inner);
    let mut next_check = Clock::instant_in(health);
    loop {
        let Some(inner) = this.upgrade() else { return };
        inner.start_all();
        let due = inner.lock().queue.next_due();
        let due =
            due.map_or_else(|| Clock::instant_in(FAR), |at| inner.journal.clock().instant_of(at));
        drop(inner); // Whoever waits here keeps nobody alive.
        tokio::select! {
            () = stop.cancelled() => return,
            () = wake.notified() => {}
            () = tokio::time::sleep_until(due) => {}
            () = tokio::time::sleep_until(next_check) => {
                next_check = Clock::instant_in(health);
                let Some(inner) = this.upgrade() else { return };
                inner.check_leases().await;
            }
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_place(&self, agent_id: AgentId) {
        let port: Arc<dyn WorkPort> = self.this.upgrade().expect("`self` is alive");
        if self.directory.set_work(agent_id, &port).is_err() {
            // Two schedulers may well have work for one agent; only the first hears of changes at
            // once, the other when its own tasks end.
            tracing::warn!(%agent_id, "another scheduler hears of this agent's changes");
        }
    }

    async fn detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, SchedulerError>> + Send + 'static,
    ) -> Result<T, SchedulerError> {
        match self.tasks.detached(work).await {
            Ok(Some(outcome)) => outcome,
            Ok(None) | Err(_) => Err(SchedulerError::ShuttingDown),
        }
    }

    async fn accept(
        &self,
        task: ScheduledTask,
        input: Option<Arc<str>>,
        now_only: bool,
    ) -> Result<(), SchedulerError> {
        let this = self.this.upgrade().expect("`self` is alive");
        self.detached(async move { this.accept_here(task, input, now_only).await }).await
    }

    async fn accept_here(
        &self,
        task: ScheduledTask,
        input: Option<Arc<str>>,
        now_only: bool,
    ) -> Result<(), SchedulerError> {
        let ScheduledTask { id, agent_id, .. } = task;
        // The last bytes of an id are its random ones.
        let [.., high, low] = *id.as_uuid().as_bytes();
        let place = usize::from(u16::from_be_bytes([high, low])) % ACCEPTING;
        let _one_at_a_time = self.accepting[place].lock().await;
        let port =
            self.directory.agent(agent_id).ok_or(SchedulerError::AgentNotFound { agent_id })?;
        match port.readiness(agent_id) {
            Readiness::Gone if port.state(agent_id).is_none() => {
                return Err(SchedulerError::AgentNotFound { agent_id });
            }
            Readiness::Gone => return Err(invalid("its agent has terminated")),
            Readiness::Ready | Readiness::NotNow(_) => {}
        }
        let order = {
            let mut state = self.lock();
            if state.closed {
                return Err(SchedulerError::ShuttingDown);
            }
            if now_only && state.paused {
                return Err(SchedulerError::SchedulingPaused);
            }
            if let Some(there) = state.jobs.get(&id) {
                return if is_same(&there.submitted, &task) && there.input == input {
                    Ok(())
                } else {
                    Err(SchedulerError::DuplicateTask { task_id: id })
                };
            }
            let capacity = self.settings.task_queue_size;
            if state.queue.len() + state.promised >= capacity {
                return Err(SchedulerError::QueueFull { capacity });
            }
            state.promised += 1;
            state.fence += 1;
            state.fence
        };
        let row = stored::Task::of(&task, &task, input.clone(), order);
        let change = Change::new().put(TASKS, *id.as_uuid().as_bytes(), &row);
        let recorded = self.journal.commit(change).await;
        self.take_place(agent_id);
        let mut state = self.lock();
        state.promised -= 1;
        recorded.map_err(storage)?;
        if state.jobs.contains_key(&id) {
            return Ok(()); // Two calls with the same task, at the same moment.
        }
        let now = self.journal.now();
        let ticket = state.queue.ticket(task.priority, task.scheduled_time);
        state.queue.push(id, ticket, now);
        let phase = Phase::Waiting { ticket, last_error: None };
        state.open.entry(task.agent_id).or_default().insert(id);
        state.jobs.insert(id, Job::new(task.clone(), task, input, phase));
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Starts every task that can start.
    fn start_all(&self) {
        let changed: Vec<AgentId> = {
            let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
            changed.drain().collect()
        };
        let now = self.journal.now();
        let mut state = self.lock();
        for agent in changed {
            state.queue.unhold(agent);
        }
        let forgotten = state.forget_old(now);
        if !forgotten.is_empty() {
            let this = self.this.upgrade().expect("`self` is alive");
            self.tasks.spawn(async move { this.forget(forgotten).await });
        }
        if state.paused || state.closed {
            return;
        }
        state.queue.ripen(now);
        loop {
            let (any, critical) = state.lanes.free();
            if !critical {
                return;
            }
            let Some((_, id)) = state.queue.first(now, !any) else { return };
            let Some(start) = self.try_start(&mut state, id, now) else { continue };
            let this = self.this.upgrade().expect("`self` is alive");
            self.tasks.spawn(async move { this.attempt(start).await });
        }
    }

    /// Takes a task out of the queue and gives it a slot, or puts it aside.
    fn try_start(&self, state: &mut State, id: TaskId, now: SystemTime) -> Option<Start> {
        let job = state.jobs.get(&id).expect("what is queued is known");
        let Phase::Waiting { ticket, .. } = job.phase else {
            unreachable!("what is queued waits");
        };
        let agent_id = job.task.agent_id;
        state.queue.remove(agent_id, id, ticket);
        if state.busy.contains(&agent_id) {
            let reason = "the agent is running another task".to_owned();
            state.queue.hold(agent_id, id, ticket, reason);
            return None;
        }
        let port = self.directory.agent(agent_id);
        let readiness = port.as_ref().map_or(Readiness::Gone, |port| port.readiness(agent_id));
        match readiness {
            Readiness::Ready => {}
            Readiness::NotNow(reason) => {
                // A change between the look and this line is in `changed`, for the next round.
                state.queue.hold(agent_id, id, ticket, reason);
                return None;
            }
            Readiness::Gone => {
                let by = "the agent has terminated".to_owned();
                self.end_in_memory(state, id, How::Cancelled { by }, now);
                let this = self.this.upgrade().expect("`self` is alive");
                self.tasks.spawn(async move {
                    // A failure is in the log; the agent's end itself is on record.
                    let _ = this.save(id, None).await;
                });
                return None;
            }
        }
        let limits = port.and_then(|port| port.limits(agent_id));
        let load = Load::of(limits.as_ref());
        let lane = state.lanes.acquire(load).expect("a free slot was seen");
        state.busy.insert(agent_id);
        state.fence += 1;
        let fence = state.fence;
        let own = state.jobs[&id].task.timeout;
        let most = self.settings.task_timeout;
        let timeout = if own.is_zero() { most } else { own.min(most) };
        let timeout = limits.map_or(timeout, |limits| timeout.min(limits.execution_timeout));
        let cancel = CancellationToken::new();
        let job = state.jobs.get_mut(&id).expect("it was there a line ago");
        let waited = now.duration_since(ticket.due).unwrap_or_default();
        job.phase = Phase::Running(Attempt {
            fence,
            lane,
            load,
            since: now,
            deadline: now + timeout,
            lease_until: self.lease(),
            cancel: cancel.clone(),
            cancelled_by: None,
        });
        let start = Start {
            fence,
            agent_id,
            activation: Activation {
                task_id: id,
                input: job.input.clone(),
                timeout,
                attempt: job.task.retry_count.saturating_add(1),
                cancel,
            },
        };
        state.wait_time.add(waited);
        Some(start)
    }

    /// Runs one attempt and takes in how it ended.
    async fn attempt(self: Arc<Self>, start: Start) {
        let Start { fence, agent_id, activation } = start;
        let (id, attempt) = (activation.task_id, activation.attempt);
        // Unrecorded, the attempt is found as not begun after a crash, and begins again.
        let _ = self.save(id, Some(fence)).await;
        let outcome = match self.directory.agent(agent_id) {
            None => AttemptOutcome::Gone,
            Some(port) => {
                let run = port.run_task(agent_id, activation);
                tokio::pin!(run);
                loop {
                    let beat = Clock::instant_in(self.settings.health_check_interval);
                    tokio::select! {
                        outcome = &mut run => break outcome,
                        () = tokio::time::sleep_until(beat) => self.renew(id, fence),
                    }
                }
            }
        };
        tracing::debug!(task_id = %id, %agent_id, attempt, ?outcome, "attempt ended");
        self.finished(id, fence, outcome).await;
    }

    /// A heartbeat: the attempt is being driven.
    fn renew(&self, id: TaskId, fence: u64) {
        let until = self.lease();
        let mut state = self.lock();
        if let Some(attempt) = state.attempt(id, fence) {
            attempt.lease_until = until;
        }
    }

    /// When a lease that is given now ends.
    fn lease(&self) -> Instant {
        Clock::instant_in(self.settings.health_check_interval.saturating_mul(3))
    }

    /// Takes in how an attempt ended. One whose fence is not the newest any more changes nothing.
    async fn finished(&self, id: TaskId, fence: u64, outcome: AttemptOutcome) {
        let now = self.journal.now();
        let mut result = None;
        {
            let mut state = self.lock();
            let Some(attempt) = state.attempt(id, fence) else {
                tracing::warn!(task_id = %id, "a late attempt ended and changes nothing");
                return;
            };
            let (since, cancelled_by) = (attempt.since, attempt.cancelled_by.clone());
            state.run_time.add(now.duration_since(since).unwrap_or_default());
            state.free_slot(id);
            let job = state.jobs.get_mut(&id).expect("it was there a line ago");
            let consumed = job.task.retry_count;
            if let AttemptOutcome::Completed(json) = &outcome
                && &**json != "null"
            {
                result = Some(Arc::clone(json));
            }
            match next(outcome, cancelled_by, consumed, self.settings.retry_attempts) {
                Next::End(how) => {
                    self.end_in_memory(&mut state, id, how, now);
                }
                Next::Retry(error) => {
                    job.task.retry_count = job.task.retry_count.saturating_add(1);
                    let due = now + backoff(consumed);
                    job.task.scheduled_time = due;
                    let priority = job.task.priority;
                    state.counts.retries += 1;
                    let ticket = state.queue.ticket(priority, due);
                    state.queue.push(id, ticket, now);
                    let job = state.jobs.get_mut(&id).expect("it was there a line ago");
                    job.phase = Phase::Waiting { ticket, last_error: Some(error) };
                }
                Next::Again(reason) => {
                    let (agent, priority, due) =
                        (job.task.agent_id, job.task.priority, job.task.scheduled_time);
                    let ticket = state.queue.ticket(priority, due);
                    state.queue.hold(agent, id, ticket, reason);
                    let job = state.jobs.get_mut(&id).expect("it was there a line ago");
                    job.phase = Phase::Waiting { ticket, last_error: None };
                    // It may have become ready since it said that it was not.
                    self.changed.lock().unwrap_or_else(PoisonError::into_inner).insert(agent);
                }
            }
        }
        // What could not be recorded is in the log; after a crash the task is found as it was
        // recorded last.
        let _ = self.save_with(id, None, result).await;
        self.tell(id);
        self.wake.notify_one();
    }

    /// Ends a task in memory. Whoever waits is told when it is recorded.
    fn end_in_memory(&self, state: &mut State, id: TaskId, how: How, now: SystemTime) {
        let count = match &how {
            How::Completed { .. } => &mut state.counts.completed,
            How::Failed { .. } => &mut state.counts.failed,
            How::TimedOut { .. } => &mut state.counts.timed_out,
            How::Cancelled { .. } => &mut state.counts.cancelled,
            How::Unknown { .. } => &mut state.counts.unknown,
        };
        *count += 1;
        state.throughput.add();
        state.ended.push_back((now, id));
        state.unrecorded.insert(id);
        if let Some(job) = state.jobs.get_mut(&id) {
            tracing::info!(task_id = %id, agent_id = %job.task.agent_id, outcome = ?how, "task ended");
            job.phase = Phase::Ended(End { at: micros(now), how });
            let agent = job.task.agent_id;
            if let Some(open) = state.open.get_mut(&agent) {
                open.remove(&id);
                if open.is_empty() {
                    state.open.remove(&agent);
                }
            }
        }
    }

    fn tell(&self, id: TaskId) {
        let (waiters, status) = {
            let mut state = self.lock();
            let Some(Job { phase: Phase::Ended(end), .. }) = state.jobs.get(&id) else { return };
            let status = end.status(id);
            state.unrecorded.remove(&id);
            (state.waiters.remove(&id).unwrap_or_default(), status)
        };
        for waiter in waiters {
            let _ = waiter.send(status.clone()); // Who does not wait any more needs no answer.
        }
    }

    async fn save(&self, id: TaskId, fence: Option<u64>) -> Result<(), SchedulerError> {
        let saved = self.save_with(id, fence, None).await;
        self.tell(id);
        saved
    }

    /// Records a task as it is. With a fence, only if that attempt is the one that runs.
    async fn save_with(
        &self,
        id: TaskId,
        fence: Option<u64>,
        result: Option<Arc<str>>,
    ) -> Result<(), SchedulerError> {
        let key = *id.as_uuid().as_bytes();
        let recording = match self.lock().jobs.get(&id) {
            Some(job) => Arc::clone(&job.recording),
            None => return Ok(()),
        };
        let _in_order = recording.lock().await;
        let mut change = Change::new();
        {
            let mut state = self.lock();
            if let Some(fence) = fence
                && state.attempt(id, fence).is_none()
            {
                return Ok(());
            }
            let Some(job) = state.jobs.get(&id) else { return Ok(()) };
            let mut row = stored::Task::of(&job.task, &job.submitted, job.input.clone(), 0);
            match &job.phase {
                Phase::Waiting { ticket, last_error } => {
                    row.order = ticket.sequence;
                    row.last_error.clone_from(last_error);
                    change = change.remove(RUNS, key);
                }
                Phase::Running(attempt) => {
                    row.order = attempt.fence;
                    row.running = true;
                }
                Phase::Ended(end) => {
                    row.end = Some(end.clone());
                    change = change.remove(RUNS, key);
                }
            }
            change = change.put(TASKS, key, &row);
        }
        if let Some(result) = result {
            change = change.put_bytes(RESULTS, key, result.as_bytes().to_vec());
        }
        self.journal.commit(change).await.map(|_| ()).map_err(|error| {
            tracing::error!(task_id = %id, %error, "a task could not be recorded");
            storage(error)
        })
    }

    async fn forget(&self, ids: Vec<TaskId>) {
        let mut change = Change::new();
        for id in ids {
            let key = *id.as_uuid().as_bytes();
            change = change.remove(TASKS, key).remove(RESULTS, key).remove(RUNS, key);
        }
        if let Err(error) = self.journal.commit(change).await {
            tracing::error!(%error, "old tasks could not be removed");
        }
    }

    /// Gives up attempts whose lease was not renewed.
    async fn check_leases(&self) {
        let now = Instant::now();
        let lost: Vec<(TaskId, u64)> = {
            let mut state = self.lock();
            let lost: Vec<_> = state
                .jobs
                .iter()
                .filter_map(|(id, job)| match &job.phase {
                    Phase::Running(attempt) if attempt.lease_until < now => {
                        Some((*id, attempt.fence))
                    }
                    Phase::Running(_) | Phase::Waiting { .. } | Phase::Ended(_) => None,
                })
                .collect();
            state.counts.lease_losses += lost.len() as u64;
            lost
        };
        for (id, fence) in lost {
            if let Some(attempt) = self.lock().attempt(id, fence) {
                // Nothing of it goes on behind the back of the attempt that follows.
                attempt.cancel.cancel();
            }
            let error = "its lease was lost: the attempt gave no sign of life".to_owned();
            self.finished(id, fence, AttemptOutcome::Failed { error, retryable: true }).await;
        }
    }

    async fn cancel(&self, task_id: TaskId, by: &str) -> Result<(), SchedulerError> {
        let now = self.journal.now();
        {
            let mut state = self.lock();
            let job =
                state.jobs.get_mut(&task_id).ok_or(SchedulerError::TaskNotFound { task_id })?;
            match &mut job.phase {
                Phase::Ended(_) => return Err(SchedulerError::AlreadyFinished { task_id }),
                Phase::Running(attempt) => {
                    attempt.cancelled_by.get_or_insert_with(|| by.to_owned());
                    attempt.cancel.cancel();
                    return Ok(());
                }
                Phase::Waiting { ticket, .. } => {
                    let (agent, ticket) = (job.task.agent_id, *ticket);
                    state.queue.remove(agent, task_id, ticket);
                    self.end_in_memory(
                        &mut state,
                        task_id,
                        How::Cancelled { by: by.to_owned() },
                        now,
                    );
                }
            }
        }
        self.save(task_id, None).await
    }
}

/// An attempt that got its slot.
struct Start {
    fence: u64,
    agent_id: AgentId,
    activation: Activation,
}

impl State {
    fn attempt(&mut self, id: TaskId, fence: u64) -> Option<&mut Attempt> {
        match &mut self.jobs.get_mut(&id)?.phase {
            Phase::Running(attempt) if attempt.fence == fence => Some(attempt),
            Phase::Running(_) | Phase::Waiting { .. } | Phase::Ended(_) => None,
        }
    }

    fn free_slot(&mut self, id: TaskId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let agent = job.task.agent_id;
        if let Phase::Running(attempt) = &job.phase {
            self.lanes.release(attempt.lane, attempt.load);
        }
        self.busy.remove(&agent);
        self.queue.unhold(agent);
    }

    /// Forgets what ended long ago; a few at a time, so that nobody waits for it.
    fn forget_old(&mut self, now: SystemTime) -> Vec<TaskId> {
        let mut forgotten = Vec::new();
        while forgotten.len() < 16
            && let Some(&(at, id)) = self.ended.front()
        {
            let old = now.duration_since(at).unwrap_or_default() > REMEMBERED;
            if !old && self.ended.len() <= MOST_REMEMBERED {
                break;
            }
            self.ended.pop_front();
            self.jobs.remove(&id);
            forgotten.push(id);
        }
        forgotten
    }
}

/// What follows from the end of an attempt.
#[derive(Debug, PartialEq)]
enum Next {
    End(How),
    Retry(String),
    /// The attempt did not begin; it counts for nothing.
    Again(String),
}

impl PartialEq for How {
    fn eq(&self, other: &Self) -> bool {
        format!("{self:?}") == format!("{other:?}")
    }
}

fn next(outcome: AttemptOutcome, cancelled_by: Option<String>, consumed: u32, budget: u32) -> Next {
    let attempts = consumed.saturating_add(1);
    let again = consumed < budget;
    match (outcome, cancelled_by) {
        (AttemptOutcome::Completed(json), _) => {
            Next::End(How::Completed { has_result: &*json != "null" })
        }
        (AttemptOutcome::Unknown, _) => Next::End(How::Unknown { attempt: attempts }),
        (
            AttemptOutcome::Failed { .. }
            | AttemptOutcome::TimedOut
            | AttemptOutcome::Cancelled { .. }
            | AttemptOutcome::NotNow(_),
            Some(by),
        ) => Next::End(How::Cancelled { by }),
        (AttemptOutcome::Failed { error, retryable: true }, None) if again => Next::Retry(error),
        (AttemptOutcome::Failed { error, .. }, None) => Next::End(How::Failed { error, attempts }),
        (AttemptOutcome::TimedOut, None) if again => {
            Next::Retry("the attempt timed out".to_owned())
        }
        (AttemptOutcome::TimedOut, None) => Next::End(How::TimedOut { attempts }),
        // Its agent was stopped, or is: what was accepted waits until it is started again.
        (AttemptOutcome::Cancelled { by: reason } | AttemptOutcome::NotNow(reason), None) => {
            Next::Again(reason)
        }
        (AttemptOutcome::Gone, by) => {
            let by = by.unwrap_or_else(|| "the agent has terminated".to_owned());
            Next::End(How::Cancelled { by })
        }
    }
}

/// The pause before a retry: doubled with each, half of it by chance, so that tasks that failed
/// together do not come back together.
fn backoff(consumed: u32) -> Duration {
    let most = BACKOFF.saturating_mul(1 << consumed.min(16)).min(LONGEST_BACKOFF);
    most / 2 + (most / 2).mul_f64(crate::chance())
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
        let now = self.inner.journal.now();
        let state = self.inner.lock();
        let job = state.jobs.get(&task_id).ok_or(SchedulerError::TaskNotFound { task_id })?;
        Ok(match &job.phase {
            Phase::Ended(end) => end.status(task_id),
            Phase::Running(attempt) if attempt.cancelled_by.is_some() => TaskStatus::Cancelling,
            Phase::Running(attempt) => TaskStatus::Running {
                attempt: job.task.retry_count.saturating_add(1),
                worker: attempt.lane,
                since: attempt.since,
            },
            Phase::Waiting { ticket, last_error: Some(error) } if ticket.due > now => {
                TaskStatus::Retrying {
                    attempt: job.task.retry_count.saturating_add(1),
                    next_at: ticket.due,
                    last_error: error.clone(),
                }
            }
            Phase::Waiting { ticket, .. } if ticket.due > now => {
                TaskStatus::Scheduled { due: ticket.due }
            }
            Phase::Waiting { ticket, .. } => {
                let reason = match state.queue.held_reason(job.task.agent_id, task_id) {
                    Some(reason) => reason.to_owned(),
                    None if state.paused => "scheduling is paused".to_owned(),
                    None => "its turn".to_owned(),
                };
                TaskStatus::Pending { reason, position: state.queue.position(task_id, *ticket) }
            }
        })
    }

    async fn list_pending_tasks(&self) -> Vec<ScheduledTask> {
        let state = self.inner.lock();
        let mut waiting: Vec<(Ticket, ScheduledTask)> = state
            .jobs
            .values()
            .filter_map(|job| match &job.phase {
                Phase::Waiting { ticket, .. } => Some((*ticket, job.task.clone())),
                Phase::Running(_) | Phase::Ended(_) => None,
            })
            .collect();
        waiting.sort_by_key(|(ticket, _)| (ticket.due, ticket.sequence));
        waiting.into_iter().map(|(_, task)| task).collect()
    }

    async fn list_running_tasks(&self) -> Vec<RunningTask> {
        let now = self.inner.journal.now();
        let state = self.inner.lock();
        let running = state.jobs.values().filter_map(|job| match &job.phase {
            Phase::Running(attempt) => Some(RunningTask {
                task: job.task.clone(),
                attempt: job.task.retry_count.saturating_add(1),
                started_at: attempt.since,
                deadline: attempt.deadline,
                worker_id: attempt.lane,
                lease_expires_at: now + attempt.lease_until.duration_since(Instant::now()),
                progress: None,
            }),
            Phase::Waiting { .. } | Phase::Ended(_) => None,
        });
        let mut running: Vec<RunningTask> = running.collect();
        running.sort_by_key(|running| (running.started_at, running.task.id));
        running
    }

    async fn get_scheduler_metrics(&self) -> SchedulerMetrics {
        let now = self.inner.journal.now();
        let mut state = self.inner.lock();
        state.queue.ripen(now);
        let counted = |counts: Vec<(Priority, usize)>| {
            let mut by_class = PriorityCounts::default();
            for (class, count) in counts {
                *by_class.of(class) += count;
            }
            by_class
        };
        let mut running = PriorityCounts::default();
        for job in state.jobs.values() {
            if let Phase::Running(_) = job.phase {
                *running.of(job.task.priority) += 1;
            }
        }
        SchedulerMetrics {
            pending: counted(state.queue.due_by_class()),
            running,
            delayed: counted(state.queue.later_by_class()),
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
        let update = async move {
            let now = inner.journal.now();
            {
                let mut guard = inner.lock();
                let state = &mut *guard;
                let job =
                    state.jobs.get_mut(&task_id).ok_or(SchedulerError::TaskNotFound { task_id })?;
                match &mut job.phase {
                    Phase::Ended(_) => return Err(SchedulerError::AlreadyFinished { task_id }),
                    Phase::Running(_) => {}
                    Phase::Waiting { ticket, .. } => {
                        state.queue.remove(job.task.agent_id, task_id, *ticket);
                        ticket.priority = priority;
                        state.queue.push(task_id, *ticket, now);
                    }
                }
                job.task.priority = priority;
            }
            let saved = inner.save(task_id, None).await;
            inner.wake.notify_one();
            saved
        };
        self.inner.detached(update).await
    }

    async fn pause_scheduling(&self) -> Result<(), SchedulerError> {
        self.inner.set_paused(true).await
    }

    async fn resume_scheduling(&self) -> Result<(), SchedulerError> {
        self.inner.set_paused(false).await
    }

    async fn shutdown(&self) -> Result<(), SchedulerError> {
        self.inner.lock().closed = true;
        self.inner.tasks.stop(DRAIN).await;
        self.inner.lock().waiters.clear();
        Ok(())
    }
}

impl Inner {
    async fn set_paused(&self, paused: bool) -> Result<(), SchedulerError> {
        if self.lock().closed {
            return Err(SchedulerError::ShuttingDown);
        }
        let change = if paused {
            Change::new().put(SETTINGS, PAUSED, &true)
        } else {
            Change::new().remove(SETTINGS, PAUSED)
        };
        self.journal.commit(change).await.map_err(storage)?;
        self.lock().paused = paused;
        self.wake.notify_one();
        Ok(())
    }
}

#[async_trait]
impl WorkPort for Inner {
    fn agent_changed(&self, id: AgentId) {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        self.wake.notify_one();
    }

    async fn agent_gone(&self, id: AgentId, _at: SystemTime) {
        let waiting: Vec<TaskId> = {
            let state = self.lock();
            state.open.get(&id).map(|open| open.iter().copied().collect()).unwrap_or_default()
        };
        for task in waiting {
            // One that ended meanwhile is as gone as it can be.
            let _ = self.cancel(task, "the agent has terminated").await;
        }
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scheduler").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Whether two tasks are one, their times as exact as they are kept.
fn is_same(one: &ScheduledTask, other: &ScheduledTask) -> bool {
    let kept = |task: &ScheduledTask| ScheduledTask {
        scheduled_time: from_micros(micros(task.scheduled_time)),
        ..task.clone()
    };
    kept(one) == kept(other)
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
