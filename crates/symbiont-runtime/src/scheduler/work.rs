//! The scheduler at work: taking tasks in, starting them, and recording how they end.
//!
//! An attempt is an errand of one run of its agent. The run records the errand's beginning and end
//! in the commits of its own; what this module records by itself is what no run was begun for, and
//! what operators ask for.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::SystemTime;

use async_trait::async_trait;
use symbiont_types::{AgentId, Priority, ScheduledTask, SchedulerError, TaskId, TaskStatus};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::state::{Admission, Job, KeptInput, Leaves, Next, Phase, Start, State};
use super::stored::{RunMark, Task, Wish};
use super::{PAUSED, SchedulerConfig, TERMINATED, invalid, storage};
use crate::clock::{Clock, FAR, from_micros, micros};
use crate::directory::{Activation, AttemptOutcome, Directory, Errand, Readiness, WorkPort};
use crate::journal::{Change, Journal, PROGRESS, RESULTS, RUNS, SETTINGS, TASKS, WISHES, row};
use crate::tasks::Tasks;

/// Locks that wishes about tasks share, by the tasks' ids.
const STRIPES: usize = 64;
/// Ends that are recorded in one commit.
const TOGETHER: usize = 1000;

pub(super) struct Inner {
    pub(super) settings: SchedulerConfig,
    pub(super) journal: Journal,
    pub(super) directory: Arc<Directory>,
    pub(super) state: Mutex<State>,
    /// Told when the time of the next task may have changed.
    pub(super) wake: Arc<Notify>,
    /// Told when a task that was being recorded has been accepted or refused.
    pub(super) accepted: Notify,
    /// Held while a wish about a task is being recorded, so that wishes take effect in that order.
    pub(super) wishes: Vec<tokio::sync::Mutex<()>>,
    /// The same for a pause.
    pub(super) pausing: tokio::sync::Mutex<()>,
    pub(super) tasks: Tasks,
    pub(super) this: Weak<Self>,
}

pub(super) fn stripes() -> Vec<tokio::sync::Mutex<()>> {
    (0..STRIPES).map(|_| tokio::sync::Mutex::default()).collect()
}

/// Starts tasks when they become due, and looks after leases.
pub(super) async fn dispatch(this: Weak<Inner>, stop: CancellationToken) {
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
                inner.look_around();
            }
        }
    }
}

impl Inner {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn me(&self) -> Arc<Self> {
        self.this.upgrade().expect("`self` is alive")
    }

    pub(super) fn take_place(&self, agent_id: AgentId) -> Result<(), SchedulerError> {
        let port: Arc<dyn WorkPort> = self.me();
        self.directory.set_work(agent_id, &port).map_err(|_| {
            invalid(&format!("another scheduler of this process has work for agent `{agent_id}`"))
        })
    }

    pub(super) async fn detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, SchedulerError>> + Send + 'static,
    ) -> Result<T, SchedulerError> {
        self.tasks.finish(work).await.unwrap_or(Err(SchedulerError::ShuttingDown))
    }

    // Coming in.

    pub(super) async fn accept(
        &self,
        task: ScheduledTask,
        input: Option<Arc<str>>,
        now_only: bool,
    ) -> Result<(), SchedulerError> {
        let this = self.me();
        self.detached(async move { this.take_in(task, input, now_only).await }).await
    }

    async fn take_in(
        &self,
        submitted: ScheduledTask,
        text: Option<Arc<str>>,
        now_only: bool,
    ) -> Result<(), SchedulerError> {
        let ScheduledTask { id, agent_id, .. } = submitted;
        let input = KeptInput::of(text.as_ref());
        let sequence = loop {
            let accepted = self.accepted.notified();
            let admission = {
                let mut state = self.lock();
                if state.closed {
                    return Err(SchedulerError::ShuttingDown);
                }
                if now_only && state.paused {
                    return Err(SchedulerError::SchedulingPaused);
                }
                state.admit(&submitted, &input, self.settings.task_queue_size)?
            };
            match admission {
                Admission::Known => return Ok(()),
                Admission::Busy => accepted.await,
                Admission::New(sequence) => break sequence,
            }
        };
        let place = Place { inner: self, id };
        let port =
            self.directory.agent(agent_id).ok_or(SchedulerError::AgentNotFound { agent_id })?;
        match port.readiness(agent_id) {
            Readiness::Gone if port.state(agent_id).is_none() => {
                return Err(SchedulerError::AgentNotFound { agent_id });
            }
            Readiness::Gone => return Err(invalid("its agent has terminated")),
            Readiness::Ready | Readiness::NotNow(_) => {}
        }
        self.take_place(agent_id)?;
        let now = from_micros(micros(self.journal.now()));
        let mut row = Task::of(&submitted, text, micros(now), sequence);
        let mut task = submitted.clone();
        if now_only && task.scheduled_time > now {
            task.scheduled_time = now;
            row.advance(now);
        }
        let change = Change::new().put(TASKS, *id.as_uuid().as_bytes(), &row);
        self.journal.commit(change).await.map_err(storage)?;
        let job = Job {
            submitted,
            task,
            input,
            accepted_at: now,
            sequence,
            cancelled_by: None,
            wished: false,
            phase: Phase::Waiting { last_error: None },
        };
        let later = job.task.scheduled_time > now;
        self.lock().add(job, now);
        drop(place);
        if later {
            self.wake.notify_one();
        } else {
            self.start_all();
        }
        Ok(())
    }

    // Starting.

    /// Starts every task that can start.
    pub(super) fn start_all(&self) {
        let now = self.journal.now();
        let mut starts = Vec::new();
        let mut gone = Vec::new();
        let forgotten = {
            let mut state = self.lock();
            state.queue.ripen(now);
            let forgotten = state.forget_old(now);
            while !state.paused && !state.closed {
                let (any, critical) = state.lanes.free();
                if !critical {
                    break;
                }
                let Some((agent, id)) = state.queue.first(now, !any) else { break };
                match self.readiness(&state, agent) {
                    Readiness::Ready => {}
                    Readiness::NotNow(reason) => {
                        state.queue.shut(agent, reason);
                        continue;
                    }
                    Readiness::Gone => {
                        state.queue.shut(agent, TERMINATED.to_owned());
                        gone.push(agent);
                        continue;
                    }
                }
                let limits = self.directory.agent(agent).and_then(|port| port.limits(agent));
                let most = self.settings.task_timeout;
                starts.push(state.start(agent, id, limits.as_ref(), most, self.lease(), now));
            }
            forgotten
        };
        for start in starts {
            self.tasks.spawn(self.me().attempt(start));
        }
        for agent in gone {
            let this = self.me();
            self.tasks.spawn(async move { this.end_all(agent, TERMINATED).await });
        }
        if !forgotten.is_empty() {
            let this = self.me();
            self.tasks.spawn(async move { this.forget(forgotten).await });
        }
    }

    fn readiness(&self, state: &State, agent: AgentId) -> Readiness {
        if state.is_busy(agent) {
            return Readiness::NotNow("the agent is running another task".to_owned());
        }
        match self.directory.agent(agent) {
            Some(port) => port.readiness(agent),
            // Its controller may be about to come, or have left without a farewell.
            None => Readiness::NotNow("nobody runs the agent here".to_owned()),
        }
    }

    /// Runs one attempt. Its end is recorded by the run that was begun for it, if one was.
    async fn attempt(self: Arc<Self>, start: Start) {
        let (id, fence) = (start.task_id, start.fence);
        let outcome = self.run(start).await;
        let begun = match self.lock().attempt(id, fence) {
            Some(attempt) => attempt.run,
            None => return,
        };
        match begun {
            Some(run) => self.abandoned(id, fence, run).await,
            None => self.end_attempt(id, fence, &outcome).await,
        }
    }

    async fn run(&self, start: Start) -> AttemptOutcome {
        let Start { task_id, agent_id, fence, attempt, input, timeout, cancel } = start;
        let key = *task_id.as_uuid().as_bytes();
        let input = match input.text() {
            Some(text) => text,
            None => match row::<Task>(self.journal.store(), TASKS, &key).await {
                Ok(kept) => kept.and_then(|kept| kept.input),
                Err(error) => {
                    let error = format!("its input can't be read: {error}");
                    return AttemptOutcome::Failed { error, retryable: true };
                }
            },
        };
        let Some(port) = self.directory.agent(agent_id) else {
            return AttemptOutcome::NotNow("nobody runs the agent here".to_owned());
        };
        let errand = Arc::new(TaskErrand {
            scheduler: Weak::clone(&self.this),
            id: task_id,
            fence,
            decision: AtomicU64::new(0),
        });
        let activation = Activation { task_id, input, timeout, cancel, errand };
        let run = port.run_task(agent_id, activation);
        tokio::pin!(run);
        let outcome = loop {
            let beat = Clock::instant_in(self.settings.health_check_interval);
            tokio::select! {
                outcome = &mut run => break outcome,
                () = tokio::time::sleep_until(beat) => self.renew(task_id, fence),
            }
        };
        tracing::debug!(%task_id, %agent_id, attempt, ?outcome, "attempt ended");
        outcome
    }

    /// A heartbeat: the attempt is being driven.
    fn renew(&self, id: TaskId, fence: u64) {
        let until = self.lease();
        if let Some(attempt) = self.lock().attempt(id, fence) {
            attempt.lease_until = until;
        }
    }

    /// When a lease that is given now ends.
    fn lease(&self) -> Instant {
        Clock::instant_in(self.settings.health_check_interval.saturating_mul(3))
    }

    // Ends.

    /// What is recorded of a task that is ending. The mark of its run is the run's own affair.
    fn change(change: Change, id: TaskId, leaves: Leaves) -> Change {
        let key = *id.as_uuid().as_bytes();
        let mut change = change.put(PROGRESS, key, &leaves.progress);
        if let Some(result) = leaves.result {
            change = change.put_bytes(RESULTS, key, result.as_bytes().to_vec());
        }
        if leaves.wished {
            for wish in Wish::keys(id) {
                change = change.remove(WISHES, wish);
            }
        }
        change
    }

    /// Decides and records the end of an attempt that no run records.
    async fn end_attempt(&self, id: TaskId, fence: u64, outcome: &AttemptOutcome) {
        let now = self.journal.now();
        let budget = self.settings.retry_attempts;
        let Some(leaves) = self.lock().decide(id, fence, outcome, budget, now) else {
            tracing::warn!(task_id = %id, "a late attempt ended and changes nothing");
            return;
        };
        let changes = leaves.progress.end.is_some() || leaves.progress.last_error.is_some();
        if changes {
            let _ = self.record([(id, leaves)]).await; // What failed is in the log, and tried again.
        } else {
            // It counts for nothing, and nothing of it is on record.
            self.settle(&[(id, leaves.number)], true);
        }
    }

    /// The run of an attempt is gone and has not recorded its end: it was cut off. What it had begun
    /// decides what follows.
    async fn abandoned(&self, id: TaskId, fence: u64, run: Uuid) {
        let key = *id.as_uuid().as_bytes();
        let outcome = match row::<RunMark>(self.journal.store(), RUNS, &key).await {
            Ok(mark) if mark.as_ref().is_none_or(|mark| mark.run != run) => {
                let error = "the run was cut off before its end was recorded".to_owned();
                AttemptOutcome::Failed { error, retryable: true }
            }
            // Without knowing, the worse is assumed. The mark stays, and says nothing of other runs.
            Ok(_) | Err(_) => AttemptOutcome::Unknown,
        };
        self.end_attempt(id, fence, &outcome).await;
    }

    /// Records ends, and settles them.
    async fn record(
        &self,
        ends: impl IntoIterator<Item = (TaskId, Leaves)>,
    ) -> Result<(), SchedulerError> {
        let mut ids = Vec::new();
        let mut change = Change::new();
        for (id, leaves) in ends {
            ids.push((id, leaves.number));
            change = Self::change(change, id, leaves);
        }
        let recorded = self.journal.commit(change).await;
        if let Err(error) = &recorded {
            tracing::error!(tasks = ids.len(), %error, "the end of tasks could not be recorded");
        }
        self.settle(&ids, recorded.is_ok());
        recorded.map(|_| ()).map_err(storage)
    }

    /// Does what was decided about tasks that are ending, and starts what can start then.
    fn settle(&self, ids: &[(TaskId, u64)], recorded: bool) {
        let now = self.journal.now();
        let mut cancelled = Vec::new();
        {
            let mut state = self.lock();
            for (id, decision) in ids {
                state.settle(*id, *decision, recorded, now);
                // It was cancelled while it was decided that it waits again.
                let by = state.jobs.get(id).and_then(|job| job.cancelled_by.clone());
                if let Some(by) = by
                    && let Some(leaves) = state.end_waiting(*id, &by, now)
                {
                    cancelled.push((*id, leaves));
                }
            }
        }
        if !cancelled.is_empty() {
            let this = self.me();
            self.tasks.spawn(async move {
                let _ = this.record(cancelled).await; // What failed is in the log, and tried again.
            });
        }
        self.start_all();
        self.wake.notify_one();
    }

    /// Looks for attempts whose lease is lost, and for ends that could not be recorded.
    fn look_around(&self) {
        let lost = self.lock().lost_leases(Instant::now());
        for (id, fence) in lost {
            let this = self.me();
            self.tasks.spawn(async move {
                let error = "its lease was lost: the attempt gave no sign of life".to_owned();
                let outcome = AttemptOutcome::Failed { error, retryable: true };
                this.end_attempt(id, fence, &outcome).await;
            });
        }
        let late: Vec<(TaskId, Leaves)> = {
            let state = self.lock();
            let ids = state.unrecorded().into_iter();
            ids.filter_map(|id| Some((id, state.leaves(id)?))).take(TOGETHER).collect()
        };
        if !late.is_empty() {
            let this = self.me();
            self.tasks.spawn(async move {
                let _ = this.record(late).await; // What failed is in the log, and tried again.
            });
        }
    }

    /// Ends all tasks of an agent.
    async fn end_all(&self, agent: AgentId, by: &str) {
        let now = self.journal.now();
        let mut waiting = Vec::new();
        {
            let mut state = self.lock();
            let open: Vec<TaskId> = match state.open.get(&agent) {
                Some(open) => open.iter().copied().collect(),
                None => return,
            };
            for id in open {
                if let Some(leaves) = state.end_waiting(id, by, now) {
                    waiting.push((id, leaves));
                } else if let Some(job) = state.jobs.get_mut(&id) {
                    job.cancelled_by.get_or_insert_with(|| by.to_owned());
                    if let Phase::Running(attempt) = &job.phase {
                        attempt.cancel.cancel();
                    }
                }
            }
        }
        while !waiting.is_empty() {
            let rest = waiting.split_off(waiting.len().min(TOGETHER));
            let together = std::mem::replace(&mut waiting, rest);
            let _ = self.record(together).await; // What failed is in the log, and tried again.
        }
    }

    async fn forget(&self, ids: Vec<TaskId>) {
        let mut change = Change::new();
        for id in ids {
            let key = *id.as_uuid().as_bytes();
            for table in [TASKS, PROGRESS, RESULTS, RUNS] {
                change = change.remove(table, key);
            }
            for wish in Wish::keys(id) {
                change = change.remove(WISHES, wish);
            }
        }
        if let Err(error) = self.journal.commit(change).await {
            tracing::error!(%error, "old tasks could not be removed");
        }
    }

    // What operators ask for.

    fn stripe(&self, id: TaskId) -> &tokio::sync::Mutex<()> {
        // The last bytes of an id are its random ones.
        let [.., last] = *id.as_uuid().as_bytes();
        &self.wishes[usize::from(last) % STRIPES]
    }

    /// The task's phase may still be changed by a wish.
    fn open_job<'a>(
        &self,
        state: &'a mut State,
        task_id: TaskId,
    ) -> Result<&'a mut Job, SchedulerError> {
        if state.closed {
            return Err(SchedulerError::ShuttingDown);
        }
        let job = state.jobs.get_mut(&task_id).ok_or(SchedulerError::TaskNotFound { task_id })?;
        match &job.phase {
            Phase::Ended(_) | Phase::Ending { next: Next::End(..), .. } => {
                Err(SchedulerError::AlreadyFinished { task_id })
            }
            Phase::Waiting { .. } | Phase::Running(_) | Phase::Ending { .. } => Ok(job),
        }
    }

    pub(super) async fn cancel(&self, id: TaskId, by: &str) -> Result<(), SchedulerError> {
        let _one_at_a_time = self.stripe(id).lock().await;
        let leaves = {
            let mut state = self.lock();
            self.open_job(&mut state, id)?;
            state.end_waiting(id, by, self.journal.now())
        };
        if let Some(leaves) = leaves {
            let decision = leaves.number;
            let change = Self::change(Change::new(), id, leaves);
            let recorded = self.journal.commit(change).await.map_err(storage);
            if recorded.is_ok() {
                self.settle(&[(id, decision)], true);
            } else {
                self.lock().take_back(id, decision, self.journal.now());
                // Its agent, or its time, may have come meanwhile.
                self.start_all();
                self.wake.notify_one();
            }
            return recorded.map(|_| ());
        }
        let wish = Wish::Cancel { by: by.to_owned() };
        let change = Change::new().put(WISHES, wish.key(id), &wish);
        self.journal.commit(change).await.map_err(storage)?;
        let leaves = {
            let mut state = self.lock();
            // It may have come to its end meanwhile, by itself.
            let Ok(job) = self.open_job(&mut state, id) else { return Ok(()) };
            job.wished = true;
            job.cancelled_by = Some(by.to_owned());
            if let Phase::Running(attempt) = &job.phase {
                attempt.cancel.cancel();
            }
            state.end_waiting(id, by, self.journal.now())
        };
        match leaves {
            None => Ok(()),
            Some(leaves) => self.record([(id, leaves)]).await,
        }
    }

    pub(super) async fn reprioritize(
        &self,
        id: TaskId,
        priority: Priority,
    ) -> Result<(), SchedulerError> {
        let _one_at_a_time = self.stripe(id).lock().await;
        self.open_job(&mut self.lock(), id)?;
        let wish = Wish::Priority(priority);
        let change = Change::new().put(WISHES, wish.key(id), &wish);
        self.journal.commit(change).await.map_err(storage)?;
        {
            let mut guard = self.lock();
            let state = &mut *guard;
            let Ok(job) = self.open_job(state, id) else { return Ok(()) };
            let before = job.ticket();
            job.wished = true;
            job.task.priority = priority;
            let (agent, after, waits) =
                (job.task.agent_id, job.ticket(), matches!(job.phase, Phase::Waiting { .. }));
            if waits {
                state.queue.reorder(agent, id, before, after, self.journal.now());
            }
        }
        self.start_all();
        Ok(())
    }

    pub(super) async fn set_paused(&self, paused: bool) -> Result<(), SchedulerError> {
        let _one_at_a_time = self.pausing.lock().await;
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
        self.start_all();
        self.wake.notify_one();
        Ok(())
    }

    pub(super) fn status(&self, task_id: TaskId) -> Result<TaskStatus, SchedulerError> {
        let now = self.journal.now();
        let (running, agent) = {
            let state = self.lock();
            let job = state.jobs.get(&task_id).ok_or(SchedulerError::TaskNotFound { task_id })?;
            match &job.phase {
                Phase::Ended(end) => return Ok(end.status(task_id)),
                Phase::Waiting { last_error } => {
                    return Ok(waiting_status(&state, job, last_error.as_deref(), now));
                }
                Phase::Running(_) | Phase::Ending { .. } if job.cancelled_by.is_some() => {
                    return Ok(TaskStatus::Cancelling);
                }
                // Decided, and not on record yet: what is told does not run ahead of the record.
                Phase::Ending { attempt: None, .. } => {
                    return Ok(TaskStatus::Waiting { on: "the record of its end".to_owned() });
                }
                Phase::Running(attempt) | Phase::Ending { attempt: Some(attempt), .. } => (
                    TaskStatus::Running {
                        attempt: job.attempt(),
                        worker: attempt.lane,
                        since: attempt.since,
                    },
                    job.task.agent_id,
                ),
            }
        };
        // The agent runs this task and nothing else.
        let waits_for = self.directory.agent(agent).and_then(|port| port.waits_for(agent));
        Ok(waits_for.map_or(running, |on| TaskStatus::Waiting { on }))
    }
}

fn waiting_status(
    state: &State,
    job: &Job,
    last_error: Option<&str>,
    now: SystemTime,
) -> TaskStatus {
    let ticket = job.ticket();
    let later = ticket.due > now;
    match last_error {
        Some(error) if later => TaskStatus::Retrying {
            attempt: job.attempt(),
            next_at: ticket.due,
            last_error: error.to_owned(),
        },
        _ if later => TaskStatus::Scheduled { due: ticket.due },
        _ => {
            let (agent, id) = (job.task.agent_id, job.task.id);
            let reason = match state.queue.shut_reason(agent) {
                Some(reason) => reason.to_owned(),
                None if state.paused => "scheduling is paused".to_owned(),
                None => "its turn".to_owned(),
            };
            TaskStatus::Pending { reason, position: state.queue.position(agent, id, ticket) }
        }
    }
}

/// A place that was promised to a task while it is being recorded.
struct Place<'a> {
    inner: &'a Inner,
    id: TaskId,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.inner.lock().admitted(self.id);
        self.inner.accepted.notify_waiters();
    }
}

/// One attempt at a task, as the run that is done for it sees it.
#[derive(Debug)]
struct TaskErrand {
    scheduler: Weak<Inner>,
    id: TaskId,
    fence: u64,
    /// What was decided when the run ended; zero is nothing.
    decision: AtomicU64,
}

impl Errand for TaskErrand {
    fn begins(&self, run: Uuid) -> Option<Change> {
        let inner = self.scheduler.upgrade()?;
        let mut state = inner.lock();
        let attempt = state.attempt(self.id, self.fence)?;
        attempt.run = Some(run);
        let progress = state.jobs[&self.id].progress(Some(run));
        Some(Change::new().put(PROGRESS, *self.id.as_uuid().as_bytes(), &progress))
    }

    fn ends(&self, outcome: &AttemptOutcome) -> Change {
        let Some(inner) = self.scheduler.upgrade() else { return Change::new() };
        let now = inner.journal.now();
        let budget = inner.settings.retry_attempts;
        let leaves = inner.lock().decide(self.id, self.fence, outcome, budget, now);
        // A late attempt changes nothing: its task has been given to another.
        let Some(leaves) = leaves else { return Change::new() };
        self.decision.store(leaves.number, Ordering::Relaxed);
        Inner::change(Change::new(), self.id, leaves)
    }

    fn settled(&self, recorded: bool) {
        let decision = self.decision.load(Ordering::Relaxed);
        if let Some(inner) = self.scheduler.upgrade()
            && decision != 0
        {
            inner.settle(&[(self.id, decision)], recorded);
        }
    }
}

#[async_trait]
impl WorkPort for Inner {
    fn agent_changed(&self, id: AgentId) {
        let opened = {
            let mut state = self.lock();
            // While it runs a task for us, its changes are that task's.
            !state.is_busy(id) && state.queue.open(id)
        };
        if opened {
            self.start_all();
        }
    }

    async fn agent_gone(&self, id: AgentId, _at: SystemTime) {
        self.end_all(id, TERMINATED).await;
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scheduler").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::super::DefaultScheduler;
    use super::*;
    use crate::directory::AgentPort;
    use crate::faulty::{FaultyStore, Witness};

    /// A scheduler over a store that can fail, with an agent whose attempts end as the test says.
    struct Scene {
        store: Arc<FaultyStore>,
        journal: Journal,
        scheduler: DefaultScheduler,
        stage: Arc<Witness>,
        agent: AgentId,
        /// The directory holds it weakly.
        _port: Arc<dyn AgentPort>,
    }

    impl Scene {
        async fn set(end: Option<oneshot::Receiver<AttemptOutcome>>) -> Self {
            let store = FaultyStore::new();
            let clock = Clock::anchored(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000));
            let journal = Journal::reading(Arc::clone(&store) as _, clock);
            let directory = Directory::new();
            let stage = Witness::new();
            if let Some(end) = end {
                stage.ends(end);
            }
            let port: Arc<dyn AgentPort> = Arc::clone(&stage) as _;
            let agent = AgentId::new();
            directory.set_agent(agent, &port).unwrap();
            let config = SchedulerConfig { retry_attempts: 1, ..SchedulerConfig::default() };
            let scheduler = DefaultScheduler::builder(config)
                .directory(directory)
                .journal(journal.clone())
                .build()
                .await
                .unwrap();
            Self { store, journal, scheduler, stage, agent, _port: port }
        }

        /// A task with an attempt under way.
        async fn under_way(&self) -> TaskId {
            let id = TaskId::new();
            let task = ScheduledTask {
                id,
                agent_id: self.agent,
                priority: Priority::Normal,
                scheduled_time: self.journal.now(),
                timeout: Duration::ZERO,
                retry_count: 0,
            };
            self.scheduler.inner.accept(task, None, false).await.unwrap();
            self.stage.began.subscribe().wait_for(|count| *count == 1).await.unwrap();
            id
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_that_is_not_on_record_is_not_told_until_it_is() {
        let (end, ends) = oneshot::channel();
        let scene = Scene::set(Some(ends)).await;
        let id = scene.under_way().await;
        scene.store.fail(true);
        end.send(AttemptOutcome::Completed("7".into())).unwrap();
        let waiting = loop {
            let status = scene.scheduler.inner.status(id).unwrap();
            if !matches!(status, TaskStatus::Running { .. }) {
                break status;
            }
            tokio::task::yield_now().await;
        };
        assert!(matches!(waiting, TaskStatus::Waiting { .. }), "{waiting:?}");
        let metrics = scene.scheduler.inner.lock().lanes.utilisation();
        assert!(metrics.iter().all(|lane| *lane == 0.0), "its slot is free: {metrics:?}");
        scene.store.fail(false);
        let end = scene.scheduler.ended(id).await.unwrap();
        assert!(matches!(end, TaskStatus::Completed { result_ref: Some(_), .. }), "{end:?}");
        assert_eq!(scene.scheduler.result(id).await, Ok(Some("7".to_owned())));
    }

    #[tokio::test(start_paused = true)]
    async fn what_can_not_be_recorded_is_not_cancelled() {
        let scene = Scene::set(None).await;
        let runs = scene.under_way().await;
        let waits = TaskId::new();
        let later = scene.journal.now() + Duration::from_secs(3600);
        let task = ScheduledTask {
            id: waits,
            scheduled_time: later,
            ..scene.scheduler.inner.lock().jobs[&runs].task.clone()
        };
        scene.scheduler.inner.accept(task, None, false).await.unwrap();
        scene.store.fail(true);
        for id in [runs, waits] {
            let refused = scene.scheduler.inner.cancel(id, "me").await;
            assert!(matches!(refused, Err(SchedulerError::Storage { .. })), "{refused:?}");
            let refused = scene.scheduler.inner.reprioritize(id, Priority::High).await;
            assert!(matches!(refused, Err(SchedulerError::Storage { .. })), "{refused:?}");
        }
        let status = |id| scene.scheduler.inner.status(id).unwrap();
        assert!(matches!(status(runs), TaskStatus::Running { .. }));
        assert_eq!(status(waits), TaskStatus::Scheduled { due: later });
        let priorities: Vec<_> =
            scene.scheduler.inner.lock().jobs.values().map(|job| job.task.priority).collect();
        assert_eq!(priorities, [Priority::Normal; 2]);
        scene.store.fail(false);
        scene.scheduler.inner.cancel(waits, "me").await.unwrap();
        assert_eq!(status(waits), TaskStatus::Cancelled { by: "me".to_owned() });
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_lost_its_lease_is_cancelled_and_its_end_decides() {
        let stopped = AttemptOutcome::Cancelled { by: "its lease".to_owned() };
        for (outcome, again) in [(stopped, true), (AttemptOutcome::Unknown, false)] {
            let (end, ends) = oneshot::channel();
            let scene = Scene::set(Some(ends)).await;
            let id = scene.under_way().await;
            let lapsed = Instant::now();
            tokio::time::advance(Duration::from_secs(1)).await;
            let cancel = {
                let mut state = scene.scheduler.inner.lock();
                let job = state.jobs.get_mut(&id).unwrap();
                let Phase::Running(attempt) = &mut job.phase else { panic!() };
                attempt.lease_until = lapsed;
                attempt.cancel.clone()
            };
            for _ in 0..2 {
                scene.scheduler.inner.look_around();
            }
            assert!(cancel.is_cancelled());
            // It may still be in the middle of something: nothing is done again before its end.
            assert_eq!(*scene.stage.began.borrow(), 1);
            assert_eq!(scene.scheduler.inner.lock().counts.lease_losses, 1);
            end.send(outcome).unwrap();
            if again {
                scene.stage.began.subscribe().wait_for(|count| *count == 2).await.unwrap();
                assert_eq!(scene.scheduler.inner.lock().jobs[&id].task.retry_count, 0);
            } else {
                let end = scene.scheduler.ended(id).await;
                assert_eq!(end, Ok(TaskStatus::Unknown { attempt: 1 }));
            }
        }
    }
}
