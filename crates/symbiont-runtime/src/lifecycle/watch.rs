//! What happens by the clock: ticks, recoveries, and the look around.

use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use symbiont_types::{AgentId, AgentState, AuditEventType, SandboxStatus};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::fleet::Member;
use super::machine::Event;
use super::runs::Beginning;
use super::{Inner, RECOVERY_BACKOFF, invalid};
use crate::clock::{Clock, micros};
use crate::journal::Change;
use crate::run::{Cause, Input};

/// Compares what is recorded with what is there, once in a while, beside events.
pub(super) async fn sweep(this: Weak<Inner>, stop: CancellationToken) {
    loop {
        let Some(inner) = this.upgrade() else { return };
        let until = Clock::instant_in(inner.settings.state_check_interval);
        drop(inner);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep_until(until) => {}
        }
        let Some(inner) = this.upgrade() else { return };
        inner.check_all().await;
    }
}

/// Waits for an agent's ticks and runs it at each.
pub(super) async fn recur(
    this: Weak<Inner>,
    id: AgentId,
    first: SystemTime,
    mut due: SystemTime,
    interval: Duration,
) {
    // Ticks in a row for which the agent was not ready; the first of them is on record.
    let mut skipped = 0_u64;
    loop {
        let Some(inner) = this.upgrade() else { return };
        let clock = inner.journal.clock();
        let stop = inner.tasks.stopping();
        drop(inner);
        while clock.now() < due {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep_until(clock.instant_of(due)) => {}
            }
        }
        let Some(inner) = this.upgrade() else { return };
        let Some(member) = inner.fleet.find(id) else { return };
        let still = {
            let cell = member.cell();
            let same = cell.record.first_tick == Some(micros(first));
            same && cell.record.started
                && !matches!(cell.record.state, AgentState::Terminating | AgentState::Terminated)
        };
        if !still {
            return;
        }
        if inner.tick(&member, due, skipped).await {
            skipped = 0;
        } else {
            skipped = skipped.saturating_add(1);
        }
        // The latest of the ticks that were missed meanwhile has just been run; the others are
        // skipped.
        let behind = clock.now().duration_since(due).unwrap_or_default();
        let missed = u32::try_from(behind.as_nanos() / interval.as_nanos()).unwrap_or(u32::MAX);
        let Some(next) = due.checked_add(interval.saturating_mul(missed.saturating_add(1))) else {
            return; // No clock will ever show it.
        };
        due = next;
    }
}

/// The tick that a recurrence which was interrupted goes on with: the latest one that came after its
/// agent was last seen, if one did, otherwise the next.
pub(super) fn due_after(
    first: SystemTime,
    interval: Duration,
    seen: SystemTime,
    now: SystemTime,
) -> SystemTime {
    let behind = now.duration_since(first).unwrap_or_default();
    let passed = u32::try_from(behind.as_nanos() / interval.as_nanos()).unwrap_or(u32::MAX);
    let latest = first.checked_add(interval.saturating_mul(passed)).unwrap_or(first);
    if now < first || latest > seen {
        latest
    } else {
        latest.checked_add(interval).unwrap_or(latest)
    }
}

impl Inner {
    /// Runs the agent at its tick, if it is ready; whether it was. Of a row of skipped ticks the first
    /// is recorded at once, and how many there were when the row ends.
    async fn tick(&self, member: &Arc<Member>, due: SystemTime, skipped: u64) -> bool {
        let _turn = member.turn.lock().await;
        if self.fleet.is_closed() {
            return false;
        }
        let (ready, why) = {
            let cell = member.cell();
            let ready = cell.record.state == AgentState::Ready && cell.run.is_none();
            (ready, cell.record.state)
        };
        let note = match (ready, skipped) {
            (false, 0) => Some(format!("the agent is {why}")),
            (true, 2..) => Some(format!("{skipped} ticks in a row")),
            (false, _) | (true, _) => None,
        };
        if let Some(note) = note {
            let entry = self
                .entry(member, AuditEventType::AgentStopped, "tick.skipped")
                .details(note)
                .with("due", crate::clock::rfc3339(due));
            if let Err(error) = self.journal.commit(Change::new().record(entry)).await {
                tracing::warn!(agent_id = %member.id, %error, "a skipped tick could not be recorded");
            }
        }
        if !ready {
            return false;
        }
        let begun = match self.definition(member) {
            Ok(definition) => {
                let beginning = Beginning::work(definition, Cause::Tick, Input::None);
                self.begin(member, beginning).await.map(|_| ())
            }
            Err(reason) => Err(invalid(&reason)),
        };
        if let Err(error) = begun {
            tracing::warn!(agent_id = %member.id, %error, "a tick could not run");
        }
        true
    }

    pub(super) async fn check_all(&self) {
        let now = self.journal.now();
        let forgotten = self.fleet.forget_old(now);
        self.forget(forgotten).await;
        for member in self.fleet.all() {
            if self.tasks.is_stopping() {
                return;
            }
            match member.state() {
                AgentState::Terminating => {
                    if let Err(error) = self.clean_up(&member).await {
                        tracing::warn!(agent_id = %member.id, %error, "still not terminated");
                    }
                }
                AgentState::Waiting => self.park(&member),
                AgentState::Created
                | AgentState::Initializing
                | AgentState::Ready
                | AgentState::Running
                | AgentState::Suspended
                | AgentState::Completed
                | AgentState::Failed
                | AgentState::Terminated => {}
            }
            self.check_sandbox(&member).await;
        }
    }

    /// Frees the memory of an agent that has waited for longer than its `idle_timeout`; its program
    /// is read again when there is something to do.
    pub(super) fn park(&self, member: &Member) {
        let mut cell = member.cell();
        let idle = cell.resting_since.elapsed();
        let parked = cell.run.is_none()
            && cell.definition.is_some()
            && idle >= cell.config.resource_limits.idle_timeout;
        if parked {
            cell.definition = None;
            tracing::debug!(agent_id = %member.id, "parked");
        }
    }

    /// An idle agent's sandbox that has gone without our doing is forgotten, so that the next
    /// effect gets a new one.
    pub(super) async fn check_sandbox(&self, member: &Member) {
        let Some(sandbox) = &self.sandbox else { return };
        let Ok(mut seat) = member.seat.id.try_lock() else { return };
        let Some(id) = *seat else { return };
        let status = sandbox.get_sandbox_status(id).await;
        if matches!(status, Ok(SandboxStatus::Running)) {
            return;
        }
        // What is left of it is taken away, or it would count as one for ever.
        if let Err(error) = sandbox.destroy_sandbox(id).await {
            tracing::warn!(agent_id = %member.id, sandbox_id = %id, %error, "a lost sandbox could not be removed");
            return;
        }
        *seat = None;
        *member.seat.current.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let entry = self
            .entry(member, AuditEventType::SecurityEvent, "sandbox.lost")
            .details(format!("{status:?}"))
            .with("sandbox", id);
        if let Err(error) = self.journal.commit(Change::new().record(entry)).await {
            tracing::error!(agent_id = %member.id, %error, "a lost sandbox could not be recorded");
        }
    }

    /// Takes one of the automatic restarts that the agent may have.
    pub(super) fn take_restart(&self, member: &Member) -> bool {
        let now = self.journal.now();
        let mut cell = member.cell();
        cell.restarts
            .retain(|at| now.duration_since(*at).unwrap_or_default() <= self.restart_window);
        if cell.restarts.len() >= self.settings.max_restart_attempts as usize {
            return false;
        }
        cell.restarts.push_back(now);
        cell.stable_since = Instant::now();
        cell.record.restart_count = cell.record.restart_count.saturating_add(1);
        true
    }

    /// Initializes a failed agent again by itself, with growing pauses, within its budget.
    pub(super) fn recover_later(&self, member: &Member) {
        if !self.settings.enable_auto_recovery {
            return;
        }
        let (this, id) = (Weak::clone(&self.this), member.id);
        self.tasks.spawn(async move {
            let mut pause = RECOVERY_BACKOFF;
            loop {
                let Some(inner) = this.upgrade() else { return };
                let stop = inner.tasks.stopping();
                drop(inner);
                tokio::select! {
                    () = stop.cancelled() => return,
                    // Half of it by chance, so that what failed together does not come back together.
                    () = tokio::time::sleep(pause / 2 + (pause / 2).mul_f64(crate::chance())) => {}
                }
                pause = pause.saturating_mul(2).min(Duration::from_secs(60));
                let Some(inner) = this.upgrade() else { return };
                let Some(member) = inner.fleet.find(id) else { return };
                // One that was being initialized when the process ended is only created again.
                if !matches!(member.state(), AgentState::Failed | AgentState::Created) {
                    return;
                }
                if !inner.take_restart(&member) {
                    inner.give_up(&member).await;
                    return;
                }
                if inner.initialize(&member, Event::Initialize).await.is_ok() {
                    inner.after(&member).await; // Mail may have waited for it.
                    return;
                }
            }
        });
    }

    /// The automatic restarts are used up: somebody has to look.
    async fn give_up(&self, member: &Member) {
        let _turn = member.turn.lock().await;
        let entry = self
            .entry(member, AuditEventType::ErrorOccurred, "agent.recovery_spent")
            .details("its automatic restarts are used up (see max_restart_attempts)")
            .with("state", member.state());
        let amended =
            self.amend(member, entry, Change::new(), |record| record.recovering = false).await;
        if let Err(error) = amended {
            tracing::error!(agent_id = %member.id, %error, "a spent recovery could not be recorded");
        }
    }
}
