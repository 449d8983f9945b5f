//! The agents of a journal, at start-up. What the process left half done when it died is decided
//! here: a run that was under way is not replayed, and its agent says so.

use std::sync::{Arc, Weak};

use symbiont_types::{AgentConfig, AgentState, AuditEventType, ExecutionMode, LifecycleError};

use super::fleet::Member;
use super::machine::{Event, transition};
use super::watch::{due_after, recur};
use super::{Inner, storage, stored};
use crate::clock::from_micros;
use crate::journal::{AGENTS, CONFIGS, Change, INPUTS, RUNS, rows};
use crate::run::Input;
use crate::scheduler::RunMark;

/// What the end of the process did to an agent.
struct Interruption {
    event: Option<Event>,
    why: &'static str,
}

/// Whether the process ended in the middle of something of the agent's.
fn interruption(record: &stored::Agent) -> Option<Interruption> {
    let run = "the process ended during the run, which is not replayed";
    match (record.state, &record.run) {
        (AgentState::Initializing, _) => Some(Interruption {
            event: Some(Event::Rewind),
            why: "the process ended while it was being initialized",
        }),
        (AgentState::Running, _) | (AgentState::Waiting, Some(_)) => {
            Some(Interruption { event: Some(Event::Fail), why: run })
        }
        // It stays where its operator, or its end, has put it.
        (AgentState::Suspended | AgentState::Ready | AgentState::Terminating, Some(_)) => {
            Some(Interruption { event: None, why: run })
        }
        (
            AgentState::Created
            | AgentState::Ready
            | AgentState::Suspended
            | AgentState::Waiting
            | AgentState::Completed
            | AgentState::Failed
            | AgentState::Terminating
            | AgentState::Terminated,
            _,
        ) => None,
    }
}

impl Inner {
    /// Takes in the agents of a journal.
    pub(super) async fn restore(self: &Arc<Self>) -> Result<(), LifecycleError> {
        let store = self.journal.store();
        let configs = rows::<stored::Configs>(store, CONFIGS, &[]).await.map_err(storage)?;
        let mut change = Change::new();
        let mut again = Vec::new();
        for (key, stored::Configs { now: config, next }) in configs {
            let found =
                crate::journal::row::<stored::Agent>(store, AGENTS, &key).await.map_err(storage)?;
            let Some(mut record) = found else { continue };
            let config = AgentConfig::from(config);
            let before = record.state;
            if let Some(Interruption { event, why }) = interruption(&record) {
                if let Some(event) = event {
                    record.state = transition(before, event)?;
                }
                if let Some(run) = record.run.take() {
                    record.error_count = record.error_count.saturating_add(1);
                    let mark = crate::journal::row::<RunMark>(store, RUNS, &key).await;
                    let effects = mark.map_err(storage)?.is_some_and(|mark| mark.run == run.id);
                    let mail = self.directory.mail(config.id);
                    if let (Some(message), Some(mail), true) = (run.message, mail, effects) {
                        change = change.and(mail.give_up_on(message));
                    }
                    change = change.remove(RUNS, key.clone());
                }
                if before == AgentState::Suspended {
                    record.suspended_from = Some(AgentState::Ready);
                }
                if record.state == AgentState::Failed {
                    record.failure = Some(why.to_owned());
                    record.recovering = self.settings.enable_auto_recovery;
                }
                let entry = self
                    .journal
                    .event(AuditEventType::ErrorOccurred, "agent.interrupted")
                    .agent(config.id)
                    .details(why)
                    .with("from", before)
                    .with("state", record.state);
                change = change.put(AGENTS, key.clone(), &record).record(entry);
            }
            let ended = record.state == AgentState::Terminated;
            // Those whose recovery was under way, or begins now.
            let recovers = record.recovering || before == AgentState::Initializing;
            let member = Member::new(config, record);
            member.cell().next_config = next.map(|next| Arc::new(next.into()));
            self.fleet.restore(Arc::clone(&member));
            if ended {
                continue;
            }
            if let Some(input) = store.get(INPUTS, &key).await.map_err(storage)? {
                let text = String::from_utf8_lossy(&input).into_owned();
                member.cell().start_input = Input::Json(text.into());
            }
            self.welcome(&member)?;
            if recovers {
                again.push(member);
            }
        }
        if !change.is_empty() {
            self.journal.commit(change).await.map_err(storage)?;
        }
        for member in again {
            self.recover_later(&member);
        }
        for member in self.fleet.all() {
            // A scheduler that was there before has looked for whoever runs the agent.
            self.tell(&member);
            let on_duty = {
                let cell = member.cell();
                let at_rest = matches!(cell.record.state, AgentState::Waiting | AgentState::Ready);
                at_rest && cell.record.started
            };
            if on_duty {
                let inner = Arc::clone(self);
                self.tasks.spawn(async move { inner.after(&member).await });
            }
        }
        Ok(())
    }

    /// Gives an agent that was kept its places, and its recurrence if it has one.
    fn welcome(&self, member: &Arc<Member>) -> Result<(), LifecycleError> {
        self.take_place(member)?;
        let config = Arc::clone(&member.cell().config);
        match self.definition(member) {
            Ok(definition) => {
                self.tell_policy(&config, &definition.policies, definition.tier)?;
            }
            // A program that this version refuses fails when it is initialized or run.
            Err(_) => self.tell_policy(&config, &config.policies, config.security_tier)?,
        }
        let (first_tick, started, updated_at) = {
            let cell = member.cell();
            let record = &cell.record;
            (record.first_tick, record.started, from_micros(record.updated_at))
        };
        if let (Some(first), true, ExecutionMode::Scheduled { interval }) =
            (first_tick, started, &config.execution_mode)
        {
            let first = from_micros(first);
            let due = due_after(first, *interval, updated_at, self.journal.now());
            self.tasks.spawn(recur(Weak::clone(&self.this), member.id, first, due, *interval));
        }
        Ok(())
    }
}
