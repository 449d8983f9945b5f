//! Runs: begun, carried to their end, concluded, and what follows them.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use symbiont_types::{AgentId, AgentState, AuditEventType, ExecutionMode, LifecycleError};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::fleet::Member;
use super::machine::{Event, Rest};
use super::port::readiness;
use super::{Inner, STABLE, invalid, stored};
use crate::bus::LeasedMessage;
use crate::clock::Clock;
use crate::directory::{AttemptOutcome, Errand, FailedRun, MailPort, Readiness};
use crate::journal::{Change, INPUTS, Journal, RUNS};
use crate::run::{
    ActiveRun, Cause, Definition, Input, Run, RunFailure, RunOutcome, RunReport, Wish,
};
use crate::tasks::Tasks;

/// What a run begins with.
pub(super) struct Beginning {
    pub(super) definition: Arc<Definition>,
    pub(super) cause: Cause,
    pub(super) input: Input,
    pub(super) event: Event,
    /// The most time it gets, beside the agent's own limits.
    pub(super) timeout: Option<Duration>,
    /// When the recurrence that begins with it ticks first.
    pub(super) first_tick: Option<i64>,
    pub(super) errand: Option<Arc<dyn Errand>>,
}

impl Beginning {
    /// Of a run by which an operator starts the agent.
    pub(super) fn start(definition: Arc<Definition>, input: Input) -> Self {
        Self {
            definition,
            cause: Cause::Start,
            input,
            event: Event::Start,
            timeout: None,
            first_tick: None,
            errand: None,
        }
    }

    /// Of a run that a started agent does.
    pub(super) fn work(definition: Arc<Definition>, cause: Cause, input: Input) -> Self {
        Self { cause, event: Event::Run, ..Self::start(definition, input) }
    }
}

/// A run that has begun: where its end will be told, and how to reach it.
type Begun = (oneshot::Receiver<Arc<RunReport>>, ActiveRun);

/// Work that somebody asks of an agent.
pub(super) struct Work {
    pub(super) cause: Cause,
    pub(super) input: Input,
    pub(super) timeout: Option<Duration>,
    /// Cancelled when nobody wants it any more; the run ends at its next step.
    pub(super) cancel: CancellationToken,
    pub(super) errand: Option<Arc<dyn Errand>>,
}

impl Inner {
    /// Begins a run. The caller holds the agent's turn.
    pub(super) async fn begin(
        &self,
        member: &Arc<Member>,
        beginning: Beginning,
    ) -> Result<Begun, LifecycleError> {
        let Beginning { definition, cause, input, event, timeout, first_tick, errand } = beginning;
        let active = ActiveRun::new();
        let entry = self
            .entry(member, AuditEventType::AgentStarted, "run.started")
            .details(cause.to_string())
            .with("run", active.id);
        let (entry, message) = match cause {
            Cause::Task(task) => (entry.with("task", task), None),
            Cause::Message(message) => (entry.with("message", message), Some(message)),
            Cause::Start | Cause::Tick | Cause::Agent(_) | Cause::Console | Cause::Stop => {
                (entry, None)
            }
        };
        let mut also = match &errand {
            None => Change::new(),
            Some(errand) => errand.begins(active.id).ok_or_else(|| {
                invalid("whoever asked for this run does not wait for it any more")
            })?,
        };
        if cause == Cause::Start {
            // A restart gives the agent the same again.
            let key = *member.id.as_uuid().as_bytes();
            let before = member.cell().start_input.clone();
            also = match (&input, before) {
                (Input::Json(text), _) => also.put_bytes(INPUTS, key, text.as_bytes().to_vec()),
                (_, Input::Json(_)) => also.remove(INPUTS, key),
                (_, _) => also,
            };
        }
        let id = active.id;
        let shifted = self.shift(member, event, entry, also, |record| {
            record.execution_count += 1;
            record.run = Some(stored::OpenRun { id, message });
            if event == Event::Start {
                record.started = true;
                record.first_tick = first_tick;
            }
        });
        if let Err(error) = shifted.await {
            if let Some(errand) = errand {
                errand.settled(false);
            }
            return Err(error);
        }
        {
            let mut cell = member.cell();
            cell.run = Some(active.clone());
            cell.errand = errand;
            if cause == Cause::Start {
                cell.start_input = input.clone();
            }
        }
        if self.fleet.is_closed() {
            // The shutdown may have looked for runs before this one was there.
            active.wish.send_replace(Wish::Stop);
        }
        let run = self.run_of(member, definition, cause, input, active.clone(), timeout);
        let (tell, told) = oneshot::channel();
        let (inner, member) = (self.me(), Arc::clone(member));
        self.tasks.spawn(async move {
            let report = inner.carry(&member, run).await;
            let _ = tell.send(report); // Nobody may be waiting.
            inner.after(&member).await;
        });
        Ok((told, active))
    }

    /// Carries a run to its end and records how it ended.
    async fn carry(&self, member: &Arc<Member>, run: Run) -> Arc<RunReport> {
        let (cause, active, tier) = (run.cause, run.active.clone(), run.definition.tier);
        let mode = run.definition.mode.clone();
        let started_at = self.journal.now();
        let began = Instant::now();
        let (outcome, tally) = run.drive().await;
        let report = Arc::new(RunReport {
            run_id: active.id,
            agent_id: member.id,
            cause,
            started_at,
            duration: began.elapsed(),
            steps: tally.steps,
            host_calls: tally.host_calls,
            effects: tally.effects,
            unfinished: tally.unfinished,
            outcome,
        });
        let failed = self.conclude(member, &report, &active, &mode).await;
        let Some(supervisor) = &self.supervisor else { return report };
        match &report.outcome {
            // Whoever typed it is told, and decides what comes next.
            RunOutcome::Failed(_) if cause == Cause::Console => {}
            RunOutcome::Failed(failure) => {
                // A task's failure is the scheduler's to retry, another agent's the other agent's to
                // catch.
                let failed = FailedRun {
                    run: Some(report.run_id),
                    error: failure.as_error(member.id, tier),
                    effects: report.effects || report.unfinished,
                    rests: !failed || matches!(cause, Cause::Task(_) | Cause::Agent(_)),
                };
                let (supervisor, id) = (Arc::clone(supervisor), member.id);
                self.tasks.spawn(async move { supervisor.run_failed(id, failed).await });
            }
            RunOutcome::Returned(_) => supervisor.run_succeeded(member.id),
            RunOutcome::Cancelled(_) => {}
        }
        report
    }

    /// Records the end of a run and puts the agent to rest. Whether the agent has failed.
    async fn conclude(
        &self,
        member: &Arc<Member>,
        report: &Arc<RunReport>,
        active: &ActiveRun,
        mode: &ExecutionMode,
    ) -> bool {
        let _turn = self.turn_to_conclude(member, active).await;
        let rest = match mode {
            ExecutionMode::Persistent | ExecutionMode::EventDriven => Rest::Waiting,
            ExecutionMode::Scheduled { .. } => Rest::Ready,
            // It waits for its first task if the start did not run its behaviour.
            ExecutionMode::Ephemeral if lacks_input(member, report) => Rest::Waiting,
            ExecutionMode::Ephemeral => Rest::Completed,
        };
        let entry = |event_type, kind| {
            self.entry(member, event_type, kind)
                .with("run", report.run_id)
                .with("cause", report.cause)
                .with("steps", report.steps)
                .with("host_calls", report.host_calls)
                .with("duration_us", report.duration.as_micros())
        };
        let lasting = !matches!(mode, ExecutionMode::Ephemeral) && report.cause != Cause::Start;
        let (entry, event, fails) = match &report.outcome {
            RunOutcome::Returned(json) => {
                let shown: String = json.chars().take(4096).collect();
                (
                    entry(AuditEventType::AgentStopped, "run.completed").details(shown),
                    Event::Finish(rest),
                    false,
                )
            }
            RunOutcome::Failed(failure) => {
                let entry = entry(AuditEventType::ErrorOccurred, "run.failed")
                    .details(failure.to_string())
                    .with("error", &failure.kind);
                // A lasting agent survives the failure of one piece of work.
                let event = if lasting { Event::Finish(rest) } else { Event::Fail };
                (entry, event, !lasting)
            }
            RunOutcome::Cancelled(by) => (
                entry(AuditEventType::AgentStopped, "run.cancelled").details(by.clone()),
                Event::Stop,
                false,
            ),
        };
        let errand = member.cell().errand.clone();
        let outcome = attempt_outcome(report);
        let mut also = errand.as_ref().map_or_else(Change::new, |errand| errand.ends(&outcome));
        if report.effects {
            also = also.remove(RUNS, report.cause.mark_of(member.id));
        }
        let failure = match &report.outcome {
            RunOutcome::Failed(failure) => Some(failure.to_string()),
            RunOutcome::Returned(_) | RunOutcome::Cancelled(_) => None,
        };
        let stable = member.cell().stable_since.elapsed() >= STABLE;
        let adjust = |record: &mut stored::Agent| {
            record.run = None;
            record.error_count = record.error_count.saturating_add(u32::from(failure.is_some()));
            if fails {
                record.failure.clone_from(&failure);
            }
            if stable {
                record.restart_count = 0;
            }
        };
        let state = member.state();
        let event = match (state, event) {
            (AgentState::Waiting, Event::Finish(Rest::Ready)) => Event::Stop,
            (_, event) => event,
        };
        let moved = match state {
            // Whoever ends or stops the agent moves it on; the run's own end is recorded beside.
            AgentState::Terminating | AgentState::Suspended | AgentState::Ready => {
                self.amend(member, entry.with("state", state), also, adjust).await
            }
            // Its deadline came while it waited: it rests as it is, or comes to rest as if stopped.
            AgentState::Waiting if event == Event::Finish(Rest::Waiting) => {
                self.amend(member, entry.with("state", state), also, adjust).await
            }
            AgentState::Created
            | AgentState::Initializing
            | AgentState::Running
            | AgentState::Waiting
            | AgentState::Completed
            | AgentState::Failed
            | AgentState::Terminated => {
                self.shift(member, event, entry, also, adjust).await.map(|_| ())
            }
        };
        {
            let mut cell = member.cell();
            cell.run = None;
            cell.errand = None;
            cell.blocked_on = None;
            cell.relies_on = None;
            cell.cpu_nanos += active.meter.cpu_nanos.load(Ordering::Relaxed);
            cell.last_run = Some(Arc::clone(report));
            if stable {
                cell.restarts.clear();
            }
        }
        if let Err(error) = &moved {
            // The agent is not at rest on record. It is found interrupted after a restart, and is
            // failed here so that nobody waits for it.
            self.fall_back(member, Event::Fail, error);
        }
        if let Some(errand) = errand {
            errand.settled(moved.is_ok());
        }
        self.tell(member);
        fails
    }

    /// The agent's turn, once its run is not to hold still any more.
    async fn turn_to_conclude<'a>(
        &self,
        member: &'a Member,
        active: &ActiveRun,
    ) -> tokio::sync::MutexGuard<'a, ()> {
        let mut wish = active.wish.subscribe();
        loop {
            while *wish.borrow_and_update() == Wish::Pause && !active.cancel.is_cancelled() {
                tokio::select! {
                    changed = wish.changed() => if changed.is_err() { break },
                    () = active.cancel.cancelled() => {}
                }
            }
            let turn = member.turn.lock().await;
            if *wish.borrow_and_update() != Wish::Pause || active.cancel.is_cancelled() {
                return turn;
            }
        }
    }

    // What follows.

    /// What follows a run: the next message, if one waits. Boxed, since that begins a run in turn.
    pub(super) fn after<'a>(
        &'a self,
        member: &'a Arc<Member>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            if let Err(error) = self.next_message(member).await {
                tracing::warn!(agent_id = %member.id, %error, "a message could not be taken");
            }
        })
    }

    /// Begins a run for the next message that waits, if the agent takes messages now.
    async fn next_message(&self, member: &Arc<Member>) -> Result<(), LifecycleError> {
        let Some(mail) = self.directory.mail(member.id) else { return Ok(()) };
        if self.fleet.is_closed() || !mail.has_mail(member.id) {
            return Ok(());
        }
        let _turn = member.turn.lock().await;
        let resting = {
            let cell = member.cell();
            let at_rest = matches!(cell.record.state, AgentState::Waiting | AgentState::Ready);
            cell.record.started && cell.run.is_none() && at_rest
        };
        if !resting {
            return Ok(());
        }
        let definition = self.definition(member).map_err(|reason| {
            LifecycleError::InitializationFailed { agent_id: member.id, reason }
        })?;
        if !definition.takes_messages() {
            return Ok(());
        }
        let lent = mail.lend(member.id).await.map_err(|error| invalid(&error.to_string()))?;
        let Some(lent) = lent else { return Ok(()) };
        let cause = Cause::Message(lent.message.message.id);
        let input = Input::Message(Box::new(lent.message.clone()));
        let errand: Arc<dyn Errand> = Arc::new(Letter {
            mail,
            lent,
            dealt_with: AtomicBool::new(false),
            journal: self.journal.clone(),
            tasks: Arc::downgrade(&self.tasks),
        });
        let beginning =
            Beginning { errand: Some(errand), ..Beginning::work(definition, cause, input) };
        self.begin(member, beginning).await.map(|_| ())
    }

    // Work on somebody's behalf.

    /// Runs the agent's behaviour once on behalf of somebody, and gives the run's report if one was
    /// begun.
    pub(super) async fn work(
        &self,
        member: &Arc<Member>,
        work: Work,
    ) -> (AttemptOutcome, Option<Arc<RunReport>>) {
        let Work { cause, input, timeout, cancel, errand } = work;
        let cancelled = |by: &str| AttemptOutcome::Cancelled { by: by.to_owned() };
        let begun = {
            let _turn = member.turn.lock().await;
            if cancel.is_cancelled() {
                return (cancelled("nobody wants it any more"), None);
            }
            match self.readiness_of(member) {
                Readiness::Ready => {}
                Readiness::NotNow(reason) => return (AttemptOutcome::NotNow(reason), None),
                Readiness::Gone => return (AttemptOutcome::Gone, None),
            }
            self.begin_work(member, cause, input, timeout, errand).await
        };
        let (mut told, active) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                let error = error.to_string();
                return (AttemptOutcome::Failed { error, retryable: true }, None);
            }
        };
        let report = tokio::select! {
            report = &mut told => report,
            () = cancel.cancelled() => {
                active.wish.send_replace(Wish::Stop);
                let grace = Clock::instant_in(self.settings.termination_timeout);
                tokio::select! {
                    report = &mut told => report,
                    () = tokio::time::sleep_until(grace) => {
                        active.cancel.cancel();
                        told.await
                    }
                }
            }
        };
        match report {
            Ok(report) => (attempt_outcome(&report), Some(report)),
            Err(_) => (cancelled("the runtime is shutting down"), None),
        }
    }

    /// Begins a run for work, initializing an ephemeral agent anew first. The caller holds the
    /// agent's turn.
    async fn begin_work(
        &self,
        member: &Arc<Member>,
        cause: Cause,
        input: Input,
        timeout: Option<Duration>,
        errand: Option<Arc<dyn Errand>>,
    ) -> Result<Begun, LifecycleError> {
        if matches!(member.state(), AgentState::Completed | AgentState::Failed) {
            self.initialize_in_turn(member, Event::Initialize).await?;
        }
        let definition = self.definition(member).map_err(|reason| {
            LifecycleError::InitializationFailed { agent_id: member.id, reason }
        })?;
        let beginning = Beginning { timeout, errand, ..Beginning::work(definition, cause, input) };
        self.begin(member, beginning).await
    }

    /// Whether the agent would take work now.
    pub(super) fn readiness_of(&self, member: &Member) -> Readiness {
        // Of a controller that was dropped nothing runs any more, though who holds it may still ask.
        if self.fleet.is_closed() || self.tasks.is_stopping() {
            return Readiness::NotNow("the lifecycle controller is shutting down".to_owned());
        }
        readiness(&member.cell())
    }

    /// Has another agent do something for a run, and gives what it returned, and whether it had an
    /// effect that must not be repeated blindly. When the caller stops waiting, so does the work.
    pub(super) async fn delegate_to(
        &self,
        from: AgentId,
        member: &Arc<Member>,
        input: Arc<str>,
    ) -> (RunOutcome, bool) {
        let cancel = CancellationToken::new();
        let _until_the_caller_leaves = cancel.clone().drop_guard();
        let mut changes = member.changes.subscribe();
        loop {
            changes.borrow_and_update();
            if let Err(error) = self.make_ready(member).await {
                return (failed("AgentError", error.to_string()), false);
            }
            let work = Work {
                cause: Cause::Agent(from),
                input: Input::Json(Arc::clone(&input)),
                timeout: None,
                cancel: cancel.clone(),
                errand: None,
            };
            let (inner, worker) = (self.me(), Arc::clone(member));
            let worked = self.tasks.finish(async move { inner.work(&worker, work).await }).await;
            let Some((outcome, report)) = worked else {
                // Whatever it had begun was cut off.
                let by = "the runtime is shutting down".to_owned();
                return (RunOutcome::Cancelled(by), true);
            };
            if let Some(report) = report {
                return (report.outcome.clone(), report.effects || report.unfinished);
            }
            let outcome = match outcome {
                AttemptOutcome::NotNow(_) => match changes.changed().await {
                    Ok(()) => continue,
                    Err(_) => failed("AgentError", "the agent is gone".to_owned()),
                },
                AttemptOutcome::Failed { error, .. } => failed("AgentError", error),
                AttemptOutcome::Gone => failed("AgentError", "the agent has terminated".to_owned()),
                AttemptOutcome::Cancelled { by } => RunOutcome::Cancelled(by),
                // These come with a report.
                AttemptOutcome::Completed(json) => RunOutcome::Returned(json),
                AttemptOutcome::TimedOut | AttemptOutcome::Unknown => {
                    failed("AgentError", "the agent's run was cut off".to_owned())
                }
            };
            return (outcome, false); // No run was begun.
        }
    }

    /// Initializes and admits an agent that was only created, so that it can work for another. One
    /// that an operator has started or stopped is left as it is.
    async fn make_ready(&self, member: &Arc<Member>) -> Result<(), LifecycleError> {
        let is_new = |member: &Member| {
            let cell = member.cell();
            let record = &cell.record;
            !record.started
                && record.execution_count == 0
                && matches!(record.state, AgentState::Created | AgentState::Ready)
        };
        if !is_new(member) {
            return Ok(());
        }
        let _turn = member.turn.lock().await;
        if !is_new(member) {
            return Ok(());
        }
        if member.state() == AgentState::Created {
            self.initialize_in_turn(member, Event::Initialize).await?;
        }
        let definition = self.definition(member).map_err(|reason| invalid(&reason))?;
        self.may_start(member, &definition)?;
        self.admit(member, &definition).await?;
        let entry = self
            .entry(member, AuditEventType::AgentStarted, "agent.admitted")
            .details("it works for another agent")
            .with("state", member.state());
        self.amend(member, entry, Change::new(), |record| record.started = true).await?;
        self.tell(member);
        Ok(())
    }

    /// Says that the agent relies on another until the guard is dropped, or why it must not: the
    /// other relies on it, perhaps through others, and all of them would wait for ever.
    pub(super) fn rely<'a>(
        &self,
        member: &'a Arc<Member>,
        on: AgentId,
    ) -> Result<Reliance<'a>, String> {
        member.cell().relies_on = Some(on);
        let reliance = Reliance { member };
        let mut next = Some(on);
        // There may be a circle further on that this agent is no part of.
        let mut seen = std::collections::HashSet::new();
        while let Some(id) = next
            && seen.insert(id)
        {
            if id == member.id {
                let name = |id| self.fleet.find(id).map(|other| other.cell().config.name.clone());
                let other = name(on).unwrap_or_else(|| on.to_string());
                return Err(format!(
                    "`{other}` waits for this agent, which would then wait for itself"
                ));
            }
            next = self.fleet.find(id).and_then(|other| other.cell().relies_on);
        }
        Ok(reliance)
    }
}

/// While this is there, the agent's run relies on another agent.
pub(super) struct Reliance<'a> {
    member: &'a Arc<Member>,
}

impl Drop for Reliance<'_> {
    fn drop(&mut self) {
        self.member.cell().relies_on = None;
    }
}

/// Whether a start ran nothing because the agent needs an input first.
fn lacks_input(member: &Member, report: &RunReport) -> bool {
    let cell = member.cell();
    report.cause == Cause::Start
        && matches!(report.outcome, RunOutcome::Returned(_))
        && matches!(cell.start_input, Input::None)
        && cell.definition.as_ref().is_some_and(|definition| definition.needs_input())
}

fn failed(kind: &str, message: String) -> RunOutcome {
    RunOutcome::Failed(RunFailure::new(kind, message))
}

/// How a run ended, for whoever had asked for it.
fn attempt_outcome(report: &RunReport) -> AttemptOutcome {
    match &report.outcome {
        RunOutcome::Returned(json) => AttemptOutcome::Completed(Arc::clone(json)),
        RunOutcome::Failed(_) if report.unfinished => AttemptOutcome::Unknown,
        RunOutcome::Failed(failure)
            if failure.kind == "Timeout" && failure.operation.is_none() && !report.effects =>
        {
            AttemptOutcome::TimedOut
        }
        RunOutcome::Failed(failure) => AttemptOutcome::Failed {
            error: failure.to_string(),
            // What it did before it failed would be done again.
            retryable: !failure.is_final() && !report.effects,
        },
        RunOutcome::Cancelled(_) if report.effects || report.unfinished => AttemptOutcome::Unknown,
        RunOutcome::Cancelled(by) => AttemptOutcome::Cancelled { by: by.clone() },
    }
}

/// A message, as the run sees it that deals with it.
struct Letter {
    mail: Arc<dyn MailPort>,
    lent: LeasedMessage,
    dealt_with: AtomicBool,
    journal: Journal,
    tasks: Weak<Tasks>,
}

/// The pause before it is tried again to record that a message was dealt with; it doubles.
const RECEIPT_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_RECEIPT_BACKOFF: Duration = Duration::from_secs(60);

impl Errand for Letter {
    /// The message counts as handed over from the same step on.
    fn begins(&self, _run: Uuid) -> Option<Change> {
        Some(self.mail.lent(&self.lent))
    }

    /// The message leaves the mailbox in the same step in which the run's end is recorded. A run
    /// that was cut off before it had any effect has dealt with nothing.
    fn ends(&self, outcome: &AttemptOutcome) -> Change {
        let dealt_with = !matches!(outcome, AttemptOutcome::Cancelled { .. });
        self.dealt_with.store(dealt_with, Ordering::Relaxed);
        if dealt_with { self.mail.receipt(&self.lent) } else { Change::new() }
    }

    fn settled(&self, recorded: bool) {
        match (self.dealt_with.load(Ordering::Relaxed), recorded) {
            (false, _) => self.mail.give_back(&self.lent),
            (true, true) => self.mail.settle(&self.lent),
            // It has been dealt with, and nobody gets it again while that is being recorded.
            (true, false) => {
                let Some(tasks) = self.tasks.upgrade() else { return };
                let (mail, lent) = (Arc::clone(&self.mail), self.lent.clone());
                let (journal, stop) = (self.journal.clone(), tasks.stopping());
                tasks.spawn(async move {
                    let mut pause = RECEIPT_BACKOFF;
                    loop {
                        tokio::select! {
                            () = stop.cancelled() => return,
                            () = tokio::time::sleep(pause) => {}
                        }
                        pause = pause.saturating_mul(2).min(LONGEST_RECEIPT_BACKOFF);
                        if journal.commit(mail.receipt(&lent)).await.is_ok() {
                            return mail.settle(&lent);
                        }
                    }
                });
            }
        }
    }
}

impl std::fmt::Debug for Letter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Letter({})", self.lent.message.message.id)
    }
}
