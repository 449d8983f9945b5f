//! All tasks of a scheduler, as plain state: what waits, what runs, how each ended.
//!
//! # What holds
//!
//! - An attempt that has ended is first decided, then recorded, and only then does the task's state
//!   change: nobody is told of an end that a crash could take back.
//! - A slot and an agent are free again when the end of their attempt is settled, recorded or not.
//! - A late attempt cannot end a task that was given to another: each attempt carries a fence.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use symbiont_types::{AgentId, ResourceLimits, ScheduledTask, SchedulerError, TaskId, TaskStatus};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::lanes::{Lanes, Load};
use super::meter::{Throughput, Timings};
use super::queue::{Queue, Ticket};
use super::stored::{End, How, Progress};
use super::{MOST_REMEMBERED, REMEMBERED};
use crate::clock::{from_micros, micros};
use crate::directory::AttemptOutcome;

/// Inputs up to this size are kept in memory while their task waits; larger ones are read again.
const SMALL_INPUT: usize = 4 * 1024;
/// The pause before the first retry; it doubles with each.
const BACKOFF: Duration = Duration::from_millis(500);
/// The longest pause before a retry.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) queue: Queue,
    pub(crate) lanes: Lanes,
    pub(crate) jobs: HashMap<TaskId, Job>,
    /// Tasks that have not ended, by agent.
    pub(crate) open: HashMap<AgentId, HashSet<TaskId>>,
    /// Tasks that have an attempt.
    pub(crate) running: HashSet<TaskId>,
    /// Agents that run a task: one at a time each.
    busy: HashSet<AgentId>,
    ended: VecDeque<(SystemTime, TaskId)>,
    waiters: HashMap<TaskId, Vec<oneshot::Sender<TaskStatus>>>,
    /// Tasks whose place in the queue is promised while they are being recorded.
    accepting: HashSet<TaskId>,
    /// Tasks whose end could not be recorded yet.
    unrecorded: HashSet<TaskId>,
    pub(crate) counts: Counts,
    pub(crate) wait_time: Timings,
    pub(crate) run_time: Timings,
    pub(crate) throughput: Throughput,
    pub(crate) sequence: u64,
    fence: u64,
    /// Counts decisions.
    ending: u64,
    pub(crate) paused: bool,
    pub(crate) closed: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) completed: u64,
    pub(crate) failed: u64,
    pub(crate) timed_out: u64,
    pub(crate) cancelled: u64,
    pub(crate) unknown: u64,
    pub(crate) retries: u64,
    pub(crate) lease_losses: u64,
}

#[derive(Debug)]
pub(crate) struct Job {
    /// As it was handed in.
    pub(crate) submitted: ScheduledTask,
    /// With what has changed since.
    pub(crate) task: ScheduledTask,
    pub(crate) input: KeptInput,
    pub(crate) accepted_at: SystemTime,
    pub(crate) sequence: u64,
    /// By whom or by what it is being cancelled; that is on record.
    pub(crate) cancelled_by: Option<String>,
    /// There are rows of what operators asked for.
    pub(crate) wished: bool,
    pub(crate) phase: Phase,
}

impl Job {
    pub(crate) fn ticket(&self) -> Ticket {
        Ticket {
            priority: self.task.priority,
            due: self.task.scheduled_time.max(self.accepted_at),
            sequence: self.sequence,
        }
    }

    /// The attempt that is under way, or that comes next, from 1.
    pub(crate) fn attempt(&self) -> u32 {
        self.task.retry_count.saturating_add(1)
    }

    /// The row that says what attempts have made of it.
    pub(crate) fn progress(&self, run: Option<Uuid>) -> Progress {
        Progress {
            run,
            retries: self.task.retry_count,
            due: micros(self.task.scheduled_time),
            last_error: None,
            end: None,
        }
    }
}

/// What a run of the task is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeptInput {
    /// Of the text; `None` is no input.
    digest: Option<[u8; 32]>,
    text: Option<Arc<str>>,
}

impl KeptInput {
    pub(crate) fn of(text: Option<&Arc<str>>) -> Self {
        let digest = text.map(|text| {
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
            digest.as_ref().try_into().expect("SHA-256 gives 32 bytes")
        });
        Self { digest, text: text.filter(|text| text.len() <= SMALL_INPUT).cloned() }
    }

    /// The text, `Some(None)` if there is none, or `None` if it has to be read from the record.
    pub(crate) fn text(&self) -> Option<Option<Arc<str>>> {
        match (&self.digest, &self.text) {
            (None, _) => Some(None),
            (Some(_), Some(text)) => Some(Some(Arc::clone(text))),
            (Some(_), None) => None,
        }
    }
}

#[derive(Debug)]
pub(crate) enum Phase {
    Waiting {
        last_error: Option<String>,
    },
    Running(Attempt),
    /// What follows has been decided, and is being recorded.
    Ending {
        /// Which decision: only its own record settles it.
        number: u64,
        /// Holds its slot until then; none if it was not running.
        attempt: Option<Attempt>,
        next: Next,
        at: SystemTime,
    },
    Ended(End),
}

#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) fence: u64,
    pub(crate) lane: usize,
    load: Load,
    pub(crate) since: SystemTime,
    pub(crate) deadline: SystemTime,
    /// On the timers' scale: the time of day may jump.
    pub(crate) lease_until: Instant,
    pub(crate) cancel: CancellationToken,
    /// The run of the agent that has begun for it, or was about to.
    pub(crate) run: Option<Uuid>,
}

/// An attempt that got its slot.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) task_id: TaskId,
    pub(crate) agent_id: AgentId,
    pub(crate) fence: u64,
    pub(crate) attempt: u32,
    pub(crate) input: KeptInput,
    pub(crate) timeout: Duration,
    pub(crate) cancel: CancellationToken,
}

/// What follows from the end of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Next {
    /// The task has ended, with this result.
    End(How, Option<Arc<str>>),
    /// The same again, when it is due.
    Retry { error: String, due: SystemTime },
    /// The attempt counts for nothing: the task waits again.
    Again,
}

/// What an attempt leaves to be recorded.
#[derive(Debug)]
pub(crate) struct Leaves {
    /// The decision that this records.
    pub(crate) number: u64,
    pub(crate) progress: Progress,
    pub(crate) result: Option<Arc<str>>,
    /// There are rows of what operators asked for, which nobody needs any more.
    pub(crate) wished: bool,
}

/// Whether a task may come in.
#[derive(Debug, PartialEq)]
pub(crate) enum Admission {
    /// The very same has been accepted before.
    Known,
    /// Another call has a task of this id in hand: what becomes of it there decides.
    Busy,
    /// It has a place, and this number in the order of acceptance.
    New(u64),
}

impl State {
    pub(crate) fn new(queue: Queue, lanes: Lanes, paused: bool) -> Self {
        Self {
            queue,
            lanes,
            jobs: HashMap::new(),
            open: HashMap::new(),
            running: HashSet::new(),
            busy: HashSet::new(),
            ended: VecDeque::new(),
            waiters: HashMap::new(),
            accepting: HashSet::new(),
            unrecorded: HashSet::new(),
            counts: Counts::default(),
            wait_time: Timings::default(),
            run_time: Timings::default(),
            throughput: Throughput::new(),
            sequence: 0,
            fence: 0,
            ending: 0,
            paused,
            closed: false,
        }
    }

    // Coming in.

    /// Promises a place to the task, unless it is known, or there is none left of `capacity`.
    pub(crate) fn admit(
        &mut self,
        task: &ScheduledTask,
        input: &KeptInput,
        capacity: usize,
    ) -> Result<Admission, SchedulerError> {
        if let Some(there) = self.jobs.get(&task.id) {
            let same = is_same(&there.submitted, task) && there.input.digest == input.digest;
            let task_id = task.id;
            return if same {
                Ok(Admission::Known)
            } else {
                Err(SchedulerError::DuplicateTask { task_id })
            };
        }
        if self.accepting.contains(&task.id) {
            return Ok(Admission::Busy);
        }
        if self.queue.len() + self.accepting.len() >= capacity {
            return Err(SchedulerError::QueueFull { capacity });
        }
        self.accepting.insert(task.id);
        self.sequence += 1;
        Ok(Admission::New(self.sequence))
    }

    /// Gives a promised place back, taken or not.
    pub(crate) fn admitted(&mut self, id: TaskId) {
        self.accepting.remove(&id);
    }

    /// Takes in a task that is on record.
    pub(crate) fn add(&mut self, job: Job, now: SystemTime) {
        let (id, agent) = (job.task.id, job.task.agent_id);
        self.accepting.remove(&id);
        match &job.phase {
            Phase::Ended(end) => self.ended.push_back((from_micros(end.at), id)),
            Phase::Waiting { .. } | Phase::Running(_) | Phase::Ending { .. } => {
                self.queue.push(agent, id, job.ticket(), now);
                self.open.entry(agent).or_default().insert(id);
            }
        }
        self.sequence = self.sequence.max(job.sequence);
        self.jobs.insert(id, job);
    }

    /// Brings the tasks that ended into the order in which they did.
    pub(crate) fn sort_ended(&mut self) {
        self.ended.make_contiguous().sort_unstable();
    }

    // Attempts.

    /// Whether the agent runs a task now.
    pub(crate) fn is_busy(&self, agent: AgentId) -> bool {
        self.busy.contains(&agent)
    }

    /// Gives a task that waits a slot. There has to be a free one.
    pub(crate) fn start(
        &mut self,
        agent: AgentId,
        id: TaskId,
        limits: Option<&ResourceLimits>,
        most: Duration,
        lease_until: Instant,
        now: SystemTime,
    ) -> Start {
        let job = self.jobs.get_mut(&id).expect("what is queued is known");
        self.queue.remove(agent, id, job.ticket());
        let load = Load::of(limits);
        let lane = self.lanes.acquire(load).expect("a free slot was seen");
        self.busy.insert(agent);
        self.running.insert(id);
        self.fence += 1;
        let own = job.task.timeout;
        let timeout = if own.is_zero() { most } else { own.min(most) };
        let timeout = limits.map_or(timeout, |limits| timeout.min(limits.execution_timeout));
        let cancel = CancellationToken::new();
        self.wait_time.add(now.duration_since(job.ticket().due).unwrap_or_default());
        job.phase = Phase::Running(Attempt {
            fence: self.fence,
            lane,
            load,
            since: now,
            deadline: now + timeout,
            lease_until,
            cancel: cancel.clone(),
            run: None,
        });
        Start {
            task_id: id,
            agent_id: agent,
            fence: self.fence,
            attempt: job.attempt(),
            input: job.input.clone(),
            timeout,
            cancel,
        }
    }

    /// The attempt of this fence, if it is under way.
    pub(crate) fn attempt(&mut self, id: TaskId, fence: u64) -> Option<&mut Attempt> {
        match &mut self.jobs.get_mut(&id)?.phase {
            Phase::Running(attempt) if attempt.fence == fence => Some(attempt),
            Phase::Running(_) | Phase::Waiting { .. } | Phase::Ending { .. } | Phase::Ended(_) => {
                None
            }
        }
    }

    /// Cancels attempts whose lease has run out, and returns those that no run has begun for. Where
    /// one has, its end decides: until then it may still do something.
    pub(crate) fn lost_leases(&mut self, now: Instant) -> Vec<(TaskId, u64)> {
        let mut lost = Vec::new();
        for id in &self.running {
            let Some(job) = self.jobs.get_mut(id) else { continue };
            let Phase::Running(attempt) = &mut job.phase else { continue };
            if attempt.lease_until >= now || attempt.cancel.is_cancelled() {
                continue;
            }
            attempt.cancel.cancel();
            self.counts.lease_losses += 1;
            if attempt.run.is_none() {
                lost.push((*id, attempt.fence));
            }
        }
        lost
    }

    /// Decides what follows from the end of the attempt, which is then to be recorded. `None` if the
    /// attempt is not the one that runs.
    pub(crate) fn decide(
        &mut self,
        id: TaskId,
        fence: u64,
        outcome: &AttemptOutcome,
        budget: u32,
        now: SystemTime,
    ) -> Option<Leaves> {
        self.attempt(id, fence)?;
        let job = self.jobs.get_mut(&id)?;
        let next = next(outcome, job.cancelled_by.as_deref(), job.task.retry_count, budget, now);
        let Phase::Running(attempt) =
            std::mem::replace(&mut job.phase, Phase::Waiting { last_error: None })
        else {
            unreachable!("the attempt was seen a line ago")
        };
        self.run_time.add(now.duration_since(attempt.since).unwrap_or_default());
        self.ending += 1;
        job.phase = Phase::Ending { number: self.ending, attempt: Some(attempt), next, at: now };
        self.leaves(id)
    }

    /// Ends a task that waits, which is then to be recorded.
    pub(crate) fn end_waiting(&mut self, id: TaskId, by: &str, now: SystemTime) -> Option<Leaves> {
        let job = self.jobs.get_mut(&id)?;
        let Phase::Waiting { .. } = job.phase else { return None };
        let next = Next::End(How::Cancelled { by: by.to_owned() }, None);
        self.queue.remove(job.task.agent_id, id, job.ticket());
        self.ending += 1;
        job.phase = Phase::Ending { number: self.ending, attempt: None, next, at: now };
        self.leaves(id)
    }

    /// What a task that is ending leaves to be recorded.
    pub(crate) fn leaves(&self, id: TaskId) -> Option<Leaves> {
        let job = self.jobs.get(&id)?;
        let Phase::Ending { number, next, at, .. } = &job.phase else { return None };
        let number = *number;
        let progress = job.progress(None);
        Some(match next {
            Next::End(how, result) => Leaves {
                number,
                progress: Progress {
                    end: Some(End { at: micros(*at), how: how.clone() }),
                    ..progress
                },
                result: result.clone(),
                wished: job.wished,
            },
            Next::Retry { error, due } => Leaves {
                number,
                progress: Progress {
                    retries: progress.retries.saturating_add(1),
                    due: micros(*due),
                    last_error: Some(error.clone()),
                    ..progress
                },
                result: None,
                wished: false,
            },
            Next::Again => Leaves { number, progress, result: None, wished: false },
        })
    }

    /// Does what was decided, once that very decision is recorded. What could not be recorded stays
    /// as it is, and is recorded later; its slot is free either way.
    pub(crate) fn settle(&mut self, id: TaskId, decision: u64, recorded: bool, now: SystemTime) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let agent = job.task.agent_id;
        let phase = std::mem::replace(&mut job.phase, Phase::Waiting { last_error: None });
        let (attempt, next, at) = match phase {
            Phase::Ending { number, attempt, next, at } if number == decision => {
                (attempt, next, at)
            }
            other => {
                job.phase = other;
                return;
            }
        };
        if let Some(attempt) = &attempt {
            self.lanes.release(attempt.lane, attempt.load);
            self.running.remove(&id);
            self.busy.remove(&agent);
            self.queue.open(agent);
        }
        if !recorded {
            job.phase = Phase::Ending { number: decision, attempt: None, next, at };
            self.unrecorded.insert(id);
            return;
        }
        self.unrecorded.remove(&id);
        match next {
            Next::End(how, _) => self.end(id, End { at: micros(at), how }),
            Next::Retry { error, due } => {
                job.task.retry_count = job.task.retry_count.saturating_add(1);
                job.task.scheduled_time = due;
                job.phase = Phase::Waiting { last_error: Some(error) };
                self.counts.retries += 1;
                self.queue.push(agent, id, job.ticket(), now);
            }
            Next::Again => self.queue.push(agent, id, job.ticket(), now),
        }
    }

    /// Puts a task that was to be ended back to where it waited.
    pub(crate) fn take_back(&mut self, id: TaskId, decision: u64, now: SystemTime) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if let Phase::Ending { attempt: None, number, .. } = job.phase
            && number == decision
        {
            job.phase = Phase::Waiting { last_error: None };
            self.queue.push(job.task.agent_id, id, job.ticket(), now);
        }
    }

    /// Tasks whose end is still to be recorded.
    pub(crate) fn unrecorded(&self) -> Vec<TaskId> {
        self.unrecorded.iter().copied().collect()
    }

    fn end(&mut self, id: TaskId, end: End) {
        let count = match &end.how {
            How::Completed { .. } => &mut self.counts.completed,
            How::Failed { .. } => &mut self.counts.failed,
            How::TimedOut { .. } => &mut self.counts.timed_out,
            How::Cancelled { .. } => &mut self.counts.cancelled,
            How::Unknown { .. } => &mut self.counts.unknown,
        };
        *count += 1;
        self.throughput.add();
        self.ended.push_back((from_micros(end.at), id));
        let status = end.status(id);
        if let Some(job) = self.jobs.get_mut(&id) {
            let agent = job.task.agent_id;
            tracing::info!(task_id = %id, agent_id = %agent, outcome = ?end.how, "task ended");
            job.phase = Phase::Ended(end);
            job.input.text = None;
            if let Some(open) = self.open.get_mut(&agent) {
                open.remove(&id);
                if open.is_empty() {
                    self.open.remove(&agent);
                }
            }
        }
        for waiter in self.waiters.remove(&id).unwrap_or_default() {
            let _ = waiter.send(status.clone()); // Who does not wait any more needs no answer.
        }
    }

    // Asking.

    /// Tells when the task has ended, or how it did.
    pub(crate) fn wait_for(
        &mut self,
        id: TaskId,
    ) -> Result<Result<TaskStatus, oneshot::Receiver<TaskStatus>>, SchedulerError> {
        let job = self.jobs.get(&id).ok_or(SchedulerError::TaskNotFound { task_id: id })?;
        if let Phase::Ended(end) = &job.phase {
            return Ok(Ok(end.status(id)));
        }
        if self.closed {
            return Err(SchedulerError::ShuttingDown);
        }
        let (tell, told) = oneshot::channel();
        let waiters = self.waiters.entry(id).or_default();
        waiters.retain(|waiter| !waiter.is_closed());
        waiters.push(tell);
        Ok(Err(told))
    }

    /// Takes nothing more, and asks what runs to come to its end.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        for id in &self.running {
            if let Some(Job { phase: Phase::Running(attempt), .. }) = self.jobs.get(id) {
                attempt.cancel.cancel();
            }
        }
    }

    /// Nobody will be told anything any more.
    pub(crate) fn dismiss(&mut self) {
        self.waiters.clear();
    }

    /// Forgets what ended long ago; a few at a time, so that nobody waits for it.
    pub(crate) fn forget_old(&mut self, now: SystemTime) -> Vec<TaskId> {
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

/// What follows from how an attempt ended.
fn next(
    outcome: &AttemptOutcome,
    cancelled_by: Option<&str>,
    consumed: u32,
    budget: u32,
    now: SystemTime,
) -> Next {
    let attempts = consumed.saturating_add(1);
    let again = consumed < budget;
    let end = |how| Next::End(how, None);
    let retry = |error: &str| Next::Retry { error: error.to_owned(), due: now + backoff(consumed) };
    match (outcome, cancelled_by) {
        (AttemptOutcome::Completed(json), _) => {
            let result = (&**json != "null").then(|| Arc::clone(json));
            Next::End(How::Completed { has_result: result.is_some() }, result)
        }
        // Whoever cancelled it knows that it may have got anywhere; it is not done again.
        (
            AttemptOutcome::Failed { .. }
            | AttemptOutcome::TimedOut
            | AttemptOutcome::Cancelled { .. }
            | AttemptOutcome::Unknown
            | AttemptOutcome::NotNow(_)
            | AttemptOutcome::Gone,
            Some(by),
        ) => end(How::Cancelled { by: by.to_owned() }),
        (AttemptOutcome::Unknown, None) => end(How::Unknown { attempt: attempts }),
        (AttemptOutcome::Failed { error, retryable: true }, None) if again => retry(error),
        (AttemptOutcome::Failed { error, .. }, None) => {
            end(How::Failed { error: error.clone(), attempts })
        }
        (AttemptOutcome::TimedOut, None) if again => retry("the attempt timed out"),
        (AttemptOutcome::TimedOut, None) => end(How::TimedOut { attempts }),
        // Its agent was stopped, or is: what was accepted waits until it is started again.
        (AttemptOutcome::Cancelled { .. } | AttemptOutcome::NotNow(_), None) => Next::Again,
        (AttemptOutcome::Gone, None) => end(How::Cancelled { by: super::TERMINATED.to_owned() }),
    }
}

/// The pause before a retry: doubled with each, half of it by chance, so that tasks that failed
/// together do not come back together.
fn backoff(consumed: u32) -> Duration {
    let most = BACKOFF.saturating_mul(1 << consumed.min(16)).min(LONGEST_BACKOFF);
    most / 2 + (most / 2).mul_f64(crate::chance())
}

/// Whether two tasks are one, their times as exact as they are kept.
fn is_same(one: &ScheduledTask, other: &ScheduledTask) -> bool {
    let kept = |task: &ScheduledTask| ScheduledTask {
        scheduled_time: from_micros(micros(task.scheduled_time)),
        ..task.clone()
    };
    kept(one) == kept(other)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn what_follows_is_a_table() {
        let failed = |retryable| AttemptOutcome::Failed { error: "e".to_owned(), retryable };
        let stopped = || AttemptOutcome::Cancelled { by: "stop".to_owned() };
        let not_now = || AttemptOutcome::NotNow("busy".to_owned());
        let done = || AttemptOutcome::Completed("7".into());
        #[rustfmt::skip]
        let cases = [
            // outcome, cancelled, consumed of 2, what follows
            (done(),                  None,       0, "completed 7"),
            (done(),                  Some("me"), 0, "completed 7"),
            (AttemptOutcome::Completed("null".into()), None, 0, "completed -"),
            (failed(true),            None,       0, "retry e"),
            (failed(true),            None,       1, "retry e"),
            (failed(true),            None,       2, "failed 3"),
            (failed(false),           None,       0, "failed 1"),
            (failed(true),            Some("me"), 0, "cancelled me"),
            (AttemptOutcome::TimedOut, None,      1, "retry the attempt timed out"),
            (AttemptOutcome::TimedOut, None,      2, "timed out 3"),
            (AttemptOutcome::Unknown, None,       0, "unknown 1"),
            (AttemptOutcome::Unknown, Some("me"), 0, "cancelled me"),
            (stopped(),               None,       2, "again"),
            (stopped(),               Some("me"), 0, "cancelled me"),
            (not_now(),               None,       2, "again"),
            (AttemptOutcome::Gone,    None,       0, "cancelled the agent has terminated"),
        ];
        for (outcome, cancelled_by, consumed, want) in cases {
            let told = match next(&outcome, cancelled_by, consumed, 2, UNIX_EPOCH) {
                Next::End(How::Completed { .. }, result) => {
                    format!("completed {}", result.as_deref().unwrap_or("-"))
                }
                Next::End(How::Failed { attempts, .. }, None) => format!("failed {attempts}"),
                Next::End(How::TimedOut { attempts }, None) => format!("timed out {attempts}"),
                Next::End(How::Cancelled { by }, None) => format!("cancelled {by}"),
                Next::End(How::Unknown { attempt }, None) => format!("unknown {attempt}"),
                Next::End(how, result) => format!("{how:?} {result:?}"),
                Next::Retry { error, .. } => format!("retry {error}"),
                Next::Again => "again".to_owned(),
            };
            assert_eq!(told, want, "{outcome:?} {cancelled_by:?} {consumed}");
        }
    }
}
