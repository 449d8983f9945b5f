//! How an agent comes to rest: stopped, suspended, restarted, terminated.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use symbiont_types::{AgentId, AgentState, AuditEventType, LifecycleError, SandboxError};
use tokio::time::Instant;

use super::fleet::Member;
use super::machine::{Event, transition};
use super::{END, Inner, storage};
use crate::clock::Clock;
use crate::journal::{AGENTS, CONFIGS, Change, INPUTS, MEMORY, RUNS};
use crate::run::{ActiveRun, Cause, Definition, Input, RunOutcome, Wish};

/// How a run is brought to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// At its next step; what is in the middle of something may finish that.
    Stop,
    /// At its next step; a command that is under way is ended.
    Terminate,
    /// Wherever it is.
    Cut,
}

/// The run that is under way, if it is one of the agent's work: a farewell is not put aside.
fn working_run(member: &Member) -> Option<ActiveRun> {
    let cell = member.cell();
    cell.run.clone().filter(|_| !cell.parting)
}

/// Wishes `to` of a run of which `from` was wished.
fn turn_wish(active: &ActiveRun, from: Wish, to: Wish) {
    active.wish.send_if_modified(|wish| {
        let turns = *wish == from;
        if turns {
            *wish = to;
        }
        turns
    });
}

impl Inner {
    /// Asks the run to come to its next step, and cuts it off after the grace. The caller does not
    /// hold the agent's turn: the run needs it to conclude.
    async fn end_run(&self, member: &Member, how: Ending) {
        let Some(active) = member.cell().run.clone() else { return };
        let mut changes = member.changes.subscribe();
        active.wish.send_replace(Wish::Stop);
        let mut cut = match how {
            Ending::Stop => false,
            // A command is told to end now, and has a grace of its own.
            Ending::Terminate => active.meter.in_effect.load(Ordering::Relaxed),
            Ending::Cut => true,
        };
        if cut {
            active.cancel.cancel();
        }
        let grace = Clock::instant_in(self.settings.termination_timeout);
        let over =
            |member: &Member| member.cell().run.as_ref().is_none_or(|run| run.id != active.id);
        let last = grace + Clock::instant_in(END).duration_since(Instant::now());
        loop {
            changes.borrow_and_update();
            if over(member) {
                return;
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(grace), if !cut => {
                    cut = true;
                    active.cancel.cancel();
                }
                // It was cut off and still did not end: whoever asked says so.
                () = tokio::time::sleep_until(last), if cut => return,
            }
        }
    }

    pub(super) async fn stop(&self, member: &Arc<Member>) -> Result<(), LifecycleError> {
        match member.state() {
            AgentState::Running | AgentState::Waiting => {}
            AgentState::Ready | AgentState::Completed | AgentState::Failed => {}
            from @ (AgentState::Created
            | AgentState::Initializing
            | AgentState::Suspended
            | AgentState::Terminating
            | AgentState::Terminated) => {
                return Err(LifecycleError::InvalidStateTransition { from, to: AgentState::Ready });
            }
        }
        if member.cell().parting {
            // It has been stopped already, and is saying goodbye.
            self.until_no_run(member).await;
            return Ok(());
        }
        let mut was_started = false;
        let turn = loop {
            was_started |= self.take_off_duty(member).await?;
            self.end_run(member, Ending::Stop).await;
            let turn = member.turn.lock().await;
            let is_off = {
                let cell = member.cell();
                cell.run.is_none() && !cell.record.started
            };
            // Somebody may have started it anew while the turn was free.
            if is_off {
                break turn;
            }
        };
        let state = member.state();
        let entry = self.entry(member, AuditEventType::AgentStopped, "agent.stopped");
        if matches!(state, AgentState::Running | AgentState::Waiting) {
            self.shift(member, Event::Stop, entry, Change::new(), |_| {}).await?;
        } else if was_started {
            let change = Change::new().record(entry.with("state", state));
            self.journal.commit(change).await.map_err(storage)?;
        }
        if !was_started {
            return Ok(());
        }
        // A program that can't be read any more has nothing to say.
        let Ok(definition) = self.definition(member) else { return Ok(()) };
        if !definition.has_on_stop() {
            return Ok(());
        }
        // The farewell is a run like any other: whoever terminates the agent ends it.
        let active = ActiveRun::new();
        {
            let mut cell = member.cell();
            cell.run = Some(active.clone());
            cell.parting = true;
        }
        drop(turn);
        self.say_goodbye(member, definition, active).await;
        Ok(())
    }

    /// From here on nothing begins a run of the agent. Whether something could have before.
    pub(super) async fn take_off_duty(&self, member: &Member) -> Result<bool, LifecycleError> {
        let _turn = member.turn.lock().await;
        let mut record = member.cell().record.clone();
        if !record.started {
            return Ok(false);
        }
        record.started = false;
        record.first_tick = None;
        let change = Change::new().put(AGENTS, *member.id.as_uuid().as_bytes(), &record);
        self.journal.commit(change).await.map_err(storage)?;
        member.cell().record = record;
        self.tell(member);
        Ok(true)
    }

    /// Runs `on stop`, for as long as the grace.
    pub(super) async fn say_goodbye(
        &self,
        member: &Arc<Member>,
        definition: Arc<Definition>,
        active: ActiveRun,
    ) {
        let timeout = Some(self.settings.termination_timeout.max(Duration::from_millis(1)));
        let run =
            self.run_of(member, definition, Cause::Stop, Input::None, active.clone(), timeout);
        let (outcome, _) = run.drive().await;
        if let RunOutcome::Failed(failure) = outcome {
            let entry = self
                .entry(member, AuditEventType::ErrorOccurred, "run.failed")
                .details(failure.to_string())
                .with("run", active.id)
                .with("cause", Cause::Stop);
            if let Err(error) = self.journal.commit(Change::new().record(entry)).await {
                tracing::error!(agent_id = %member.id, %error, "a failed `on stop` could not be recorded");
            }
        }
        {
            let mut cell = member.cell();
            if cell.run.as_ref().is_some_and(|run| run.id == active.id) {
                cell.run = None;
                cell.blocked_on = None;
            }
            cell.parting = false;
        }
        self.tell(member);
    }

    /// Waits until no run of the agent is under way.
    async fn until_no_run(&self, member: &Member) {
        let mut changes = member.changes.subscribe();
        loop {
            changes.borrow_and_update();
            if member.cell().run.is_none() || changes.changed().await.is_err() {
                return;
            }
        }
    }

    pub(super) async fn suspend(
        &self,
        member: &Arc<Member>,
        why: &str,
    ) -> Result<(), LifecycleError> {
        let _turn = member.turn.lock().await;
        let from = member.state();
        transition(from, Event::Suspend)?;
        let entry = self
            .entry(member, AuditEventType::AgentStopped, "agent.suspended")
            .details(why.to_owned());
        let active = working_run(member);
        if let Some(active) = &active {
            // One that is being stopped has nothing to hold still for.
            turn_wish(active, Wish::Go, Wish::Pause);
        }
        let shifted = self
            .shift(member, Event::Suspend, entry, Change::new(), |record| {
                record.suspended_from = Some(from);
            })
            .await;
        if shifted.is_err()
            && let Some(active) = &active
        {
            turn_wish(active, Wish::Pause, Wish::Go);
        }
        shifted.map(|_| ())
    }

    pub(super) async fn resume(&self, member: &Arc<Member>) -> Result<(), LifecycleError> {
        {
            let _turn = member.turn.lock().await;
            let back_to = member.cell().record.suspended_from.unwrap_or(AgentState::Ready);
            let active = working_run(member);
            // What its run waited for may have come meanwhile, and after a restart of the process
            // nothing of the run is left.
            let blocked = member.cell().blocked_on.is_some();
            let back_to = match (back_to, &active) {
                (_, Some(_)) if blocked => AgentState::Waiting,
                (_, Some(_)) => AgentState::Running,
                (AgentState::Running, None) => AgentState::Ready,
                (state, None) => state,
            };
            let entry = self.entry(member, AuditEventType::AgentStarted, "agent.resumed");
            self.shift(member, Event::Resume(back_to), entry, Change::new(), |record| {
                record.suspended_from = None;
            })
            .await?;
            if let Some(active) = active {
                // Who wants it to stop meanwhile still does.
                turn_wish(&active, Wish::Pause, Wish::Go);
            }
        }
        self.after(member).await;
        Ok(())
    }

    pub(super) async fn terminate(&self, member: &Arc<Member>) -> Result<(), LifecycleError> {
        {
            let _turn = member.turn.lock().await;
            match member.state() {
                AgentState::Terminated => return Ok(()),
                AgentState::Terminating => {}
                _ => {
                    let entry =
                        self.entry(member, AuditEventType::AgentStopped, "agent.terminating");
                    self.shift(member, Event::Terminate, entry, Change::new(), |record| {
                        record.started = false;
                        record.first_tick = None;
                    })
                    .await?;
                }
            }
        }
        self.end_run(member, Ending::Terminate).await;
        self.clean_up(member).await
    }

    /// Takes everything away that an agent has, and then calls it terminated.
    pub(super) async fn clean_up(&self, member: &Arc<Member>) -> Result<(), LifecycleError> {
        let _turn = member.turn.lock().await;
        if member.state() == AgentState::Terminated {
            return Ok(());
        }
        let ended = match member.cell().run {
            Some(_) => Err("its run did not end".to_owned()),
            None => Ok(()),
        };
        let ended = match ended {
            Ok(()) => self.take_sandbox(member).await,
            stuck => stuck,
        };
        if let Err(reason) = ended {
            let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
            stuck.retain(|(id, _)| *id != member.id);
            stuck.push((member.id, reason.clone()));
            return Err(LifecycleError::TerminationFailed { agent_id: member.id, reason });
        }
        let id = member.id;
        let now = self.journal.now();
        if let Some(work) = self.directory.work(id) {
            work.agent_gone(id, now).await;
        }
        if let Some(mail) = self.directory.mail(id) {
            mail.agent_gone(id).await;
        }
        if let Some(ledger) = self.directory.ledger(id) {
            ledger.agent_gone(id).await;
        }
        let key = *id.as_uuid().as_bytes();
        let mut also = Change::new().remove(INPUTS, key).remove(RUNS, key);
        for key in self.remembered(id).await? {
            also = also.remove(MEMORY, key);
        }
        let entry = self.entry(member, AuditEventType::AgentTerminated, "agent.terminated");
        self.shift(member, Event::Terminated, entry, also, |_| {}).await?;
        {
            let mut cell = member.cell();
            cell.definition = None;
            cell.next_config = None;
            cell.last_run = None;
            cell.start_input = Input::None;
        }
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner).retain(|(there, _)| *there != id);
        self.policy.forget_agent(id);
        let forgotten = self.fleet.terminated(id, now);
        self.forget(forgotten).await;
        Ok(())
    }

    /// The keys of everything that the agent remembers.
    pub(super) async fn remembered(&self, id: AgentId) -> Result<Vec<Vec<u8>>, LifecycleError> {
        const PAGE: usize = 1000;
        let prefix = id.as_uuid().as_bytes();
        let mut keys: Vec<Vec<u8>> = Vec::new();
        loop {
            let after = keys.last().map(Vec::as_slice);
            let page = self.journal.store().scan(MEMORY, prefix, after, PAGE).await;
            let page = page.map_err(storage)?;
            let last = page.len() < PAGE;
            keys.extend(page.into_iter().map(|(key, _)| key));
            if last {
                return Ok(keys);
            }
        }
    }

    pub(super) async fn take_sandbox(&self, member: &Member) -> Result<(), String> {
        let mut seat = member.seat.id.lock().await;
        let (Some(id), Some(sandbox)) = (*seat, &self.sandbox) else { return Ok(()) };
        match sandbox.destroy_sandbox(id).await {
            Ok(()) | Err(SandboxError::NotFound { .. }) => {
                *seat = None;
                *member.seat.current.lock().unwrap_or_else(PoisonError::into_inner) = None;
                Ok(())
            }
            Err(error) => Err(format!("its sandbox could not be destroyed: {error}")),
        }
    }

    pub(super) async fn forget(&self, ids: Vec<AgentId>) {
        for id in ids {
            self.directory.forget(id);
            let key = *id.as_uuid().as_bytes();
            let change = Change::new().remove(AGENTS, key).remove(CONFIGS, key);
            if let Err(error) = self.journal.commit(change).await {
                tracing::error!(agent_id = %id, %error, "an old record could not be removed");
            }
        }
    }

    /// Stops the agent, and initializes and starts it anew with what it was started with before.
    pub(super) async fn restart(&self, member: &Arc<Member>) -> Result<(), LifecycleError> {
        loop {
            match member.state() {
                AgentState::Running | AgentState::Waiting => self.stop(member).await?,
                AgentState::Suspended => self.end_run(member, Ending::Cut).await,
                AgentState::Created
                | AgentState::Initializing
                | AgentState::Ready
                | AgentState::Completed
                | AgentState::Failed
                | AgentState::Terminating
                | AgentState::Terminated => {}
            }
            let _turn = member.turn.lock().await;
            if matches!(member.state(), AgentState::Running | AgentState::Waiting) {
                continue; // It has taken up work while the turn was free.
            }
            let input = member.cell().start_input.clone();
            self.initialize_in_turn(member, Event::Reinitialize).await?;
            return self.start_in_turn(member, input).await;
        }
    }
}
