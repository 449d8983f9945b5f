//! Keeping time, and the dead: letters that expired or were tried too often, mailboxes that close.
//!
//! # What holds
//!
//! - A letter leaves its mailbox for the dead letters, with its receipt and the event that tells of it,
//!   in one commit.
//! - Nobody looks around: each letter and each mailbox that closes has a timer.

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use symbiont_types::{AgentId, AuditEventType, MessageId};

use super::mailbox::{DeadCause, Letter, Office, Slot};
use super::stored::{self, Aspect};
use super::{Inner, MOST_BYTES, MOST_MESSAGES};
use crate::clock::{Clock, FAR};
use crate::journal::{Change, DEAD, MAIL, MAILBOXES, RECEIPTS, SETTINGS, TOPICS, WINDOWS};

/// The key of the last epoch that was given to keys.
pub(super) const EPOCH: &[u8] = b"bus.epoch";

/// A letter that was taken out of its mailbox, to be put among the dead ones.
pub(super) struct Burial {
    pub(super) slot: Slot,
    pub(super) letter: Letter,
    pub(super) cause: DeadCause,
    /// What is wrong with it, when its receiver has to know: that is a security event.
    pub(super) why: Option<String>,
}

/// What is due.
#[derive(Default)]
struct Due {
    dead: Vec<Burial>,
    /// Agents whose grace is over.
    gone: Vec<AgentId>,
    /// Agents whose keys need not be kept any more.
    forgotten: Vec<AgentId>,
    /// Agents for which a message waits again.
    back: Vec<AgentId>,
}

/// Looks at each letter and mailbox when its time has come.
pub(super) async fn keep_time(this: Weak<Inner>, stop: tokio_util::sync::CancellationToken) {
    loop {
        let Some(inner) = this.upgrade() else { return };
        let now = inner.journal.now();
        let due = inner.lock().timers.first().map(|(at, _, _)| *at);
        let wait = match due {
            Some(at) if at <= now => {
                inner.ring(now).await;
                continue;
            }
            Some(at) => inner.journal.clock().instant_of(at),
            None => Clock::instant_in(FAR),
        };
        let timers = Arc::clone(&inner.timers);
        drop(inner); // Whoever waits here keeps nobody alive.
        let changed = timers.notified();
        // A timer set between the look and this line has left its notice.
        tokio::select! {
            () = stop.cancelled() => return,
            () = changed => {}
            () = tokio::time::sleep_until(wait) => {}
        }
    }
}

impl Office {
    fn due(&mut self, now: SystemTime, retry_attempts: u32, ttl: Duration) -> Due {
        let mut due = Due::default();
        while let Some(&(at, agent, slot)) = self.timers.first() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            let Some(slot) = slot else {
                let left = self.boxes.get(&agent).and_then(|mailbox| mailbox.leaves_at);
                // Its keys stay for as long as mail that it sent may wait somewhere.
                let forget = left.map(|at| at + ttl);
                match (left, forget) {
                    (Some(_), Some(forget)) if forget <= now => due.forgotten.push(agent),
                    // It came back since, and left again: another timer tells when.
                    (Some(left), _) if left > now => {}
                    (_, Some(forget)) => {
                        self.timers.insert((forget, agent, None));
                        due.gone.push(agent);
                    }
                    (_, None) => {}
                }
                continue;
            };
            let letter =
                self.boxes.get_mut(&agent).and_then(|mailbox| mailbox.letters.get_mut(&slot));
            let Some(letter) = letter else { continue };
            let in_hand = letter.away_until.is_some_and(|until| now < until);
            let cause = if letter.identity.expires_at <= now && !in_hand {
                DeadCause::Expired
            } else if letter.away_until.is_some_and(|until| until <= now) {
                letter.away_until = None;
                if letter.attempts <= retry_attempts {
                    due.back.push(agent);
                    continue;
                }
                DeadCause::AttemptsExhausted
            } else {
                continue;
            };
            let letter = self.take(agent, slot).expect("it was there a few lines ago");
            due.dead.push(Burial { slot, letter, cause, why: None });
        }
        due
    }
}

impl Inner {
    /// Does what is due at `now`.
    async fn ring(&self, now: SystemTime) {
        let Due { dead, gone, forgotten, back } =
            self.lock().due(now, self.settings.retry_attempts, self.settings.message_ttl);
        self.bury(dead, now).await;
        for agent in gone {
            self.close_mailbox(agent, now).await;
        }
        for agent in forgotten {
            self.close_mailbox(agent, now).await;
            self.forget_mailbox(agent, now).await;
        }
        for agent in back {
            if let Some(port) = self.directory.agent(agent) {
                port.mail_waiting(agent);
            }
        }
    }

    /// Buries what is left in the mailbox of an agent that does not come back.
    async fn close_mailbox(&self, agent_id: AgentId, now: SystemTime) {
        let _turn = self.turn(agent_id).await;
        let dead: Vec<Burial> = {
            let mut office = self.lock();
            let Some(mailbox) = office.boxes.get(&agent_id) else { return };
            if mailbox.leaves_at.is_none_or(|at| at > now) {
                return; // It came back.
            }
            let slots: Vec<Slot> = mailbox.letters.keys().copied().collect();
            let out = |slot| {
                let letter = office.take(agent_id, slot)?;
                Some(Burial { slot, letter, cause: DeadCause::ReceiverGone, why: None })
            };
            slots.into_iter().filter_map(out).collect()
        };
        self.bury(dead, now).await;
        self.directory.clear_mail(agent_id);
    }

    /// Forgets the keys of an agent that left long ago.
    async fn forget_mailbox(&self, agent_id: AgentId, now: SystemTime) {
        let _turn = self.turn(agent_id).await;
        let (left, pairs, epoch) = {
            let mut office = self.lock();
            let Some(mailbox) = office.boxes.get(&agent_id) else { return };
            if mailbox.leaves_at.is_none_or(|at| at > now) {
                return; // It came back.
            }
            if mailbox.promised > 0 {
                // A letter to it is being sealed at this moment: look again a little later.
                office.timers.insert((now + Duration::from_secs(1), agent_id, None));
                return;
            }
            let about = |pair: &&(AgentId, AgentId)| pair.0 == agent_id || pair.1 == agent_id;
            let pairs: Vec<_> = office.windows.keys().filter(about).copied().collect();
            (office.topics.leave(agent_id), pairs, office.epoch)
        };
        // Keys that are not kept any more had an epoch that is not to be used again.
        let mut change = Change::new().put(SETTINGS, EPOCH, &epoch);
        for aspect in Aspect::ALL {
            change = change.remove(MAILBOXES, aspect.key(agent_id));
        }
        for (receiver, sender) in &pairs {
            change = change.remove(WINDOWS, stored::window_key(*receiver, *sender));
        }
        for topic in left {
            change = change.remove(TOPICS, stored::topic_key(&topic, Some(agent_id)));
        }
        if let Err(error) = self.journal.commit(change).await {
            tracing::error!(%agent_id, %error, "a mailbox could not be removed");
        }
        let mut office = self.lock();
        office.boxes.remove(&agent_id);
        for pair in pairs {
            office.windows.remove(&pair);
        }
    }

    /// Puts letters among the dead ones and records that, some at a time.
    pub(super) async fn bury(&self, dead: Vec<Burial>, now: SystemTime) {
        let mut dead = dead.into_iter().peekable();
        while dead.peek().is_some() {
            let (mut some, mut bytes) = (Vec::new(), 0);
            while some.len() < MOST_MESSAGES
                && bytes < MOST_BYTES
                && let Some(burial) = dead.next()
            {
                let sealed = &burial.letter.sealed;
                bytes += sealed.encrypted_payload.len() + sealed.message.payload.len();
                some.push(burial);
            }
            if let Err(error) = self.journal.commit(self.entomb(some, now)).await {
                tracing::error!(%error, "dead letters could not be recorded");
            }
        }
    }

    /// Puts a letter that waits among the dead ones, since the run that dealt with it can't be made
    /// again; what is to be recorded of that.
    pub(super) fn give_up_on(&self, id: MessageId) -> Change {
        let taken = {
            let mut office = self.lock();
            let place = office
                .receipts
                .get(id)
                .and_then(|receipt| receipt.place.map(|slot| (receipt.identity.to, slot)));
            place.and_then(|(to, slot)| Some((slot, office.take(to, slot)?)))
        };
        let Some((slot, letter)) = taken else { return Change::new() };
        let burial = Burial { slot, letter, cause: DeadCause::OutcomeUnknown, why: None };
        self.entomb(vec![burial], self.journal.now())
    }

    /// Puts letters among the dead ones; what is to be recorded of that.
    ///
    /// They are dead whether or not it can be recorded: what could not be is found again, and judged
    /// again, at the next start.
    pub(super) fn entomb(&self, dead: Vec<Burial>, now: SystemTime) -> Change {
        let mut change = Change::new();
        let room = self.settings.dead_letter_queue_size;
        for Burial { slot, letter, cause, why } in dead {
            let (id, identity, attempts) = (letter.id(), letter.identity, letter.attempts);
            let to = identity.to;
            let sealed = Arc::clone(&letter.sealed);
            let (order, dropped) = self.lock().bury(letter, cause, now, room);
            let receipt = stored::Receipt::of(identity, cause.status(), now, attempts);
            change = change.remove(MAIL, stored::mail_key(to, slot.1)).put(
                RECEIPTS,
                *id.as_uuid().as_bytes(),
                &receipt,
            );
            if room > 0 {
                let bytes = stored::encode(&sealed, identity.print, Some((cause, now)));
                change = change.put_bytes(DEAD, order.to_be_bytes(), bytes);
            }
            if let Some(why) = why {
                let event = self
                    .journal
                    .event(AuditEventType::SecurityEvent, "message.rejected")
                    .agent(to)
                    .details(why)
                    .with("message", id)
                    .with("from", identity.from);
                change = change.record(event);
            }
            let event = self
                .journal
                .event(AuditEventType::ErrorOccurred, "message.dead")
                .agent(to)
                .details(format!("{cause:?}"))
                .with("message", id);
            change = change.record(event);
            for gone in dropped {
                let event = self
                    .journal
                    .event(AuditEventType::ErrorOccurred, "message.dropped")
                    .agent(gone.message.message.to)
                    .details("the oldest dead letter made room")
                    .with("message", gone.message.message.id);
                change = change.remove(DEAD, gone.order.to_be_bytes()).record(event);
            }
        }
        change
    }
}
