//! Receiving: messages are taken for good, or into somebody's hands who has to acknowledge them.
//!
//! # What holds
//!
//! - A message is Delivered only when somebody has it: one that was taken for a caller who has gone
//!   waits again.
//! - Each hand-over is counted on record before the message leaves the bus, so that a message that
//!   brings the process down is undeliverable at last.
//! - A letter that is not what its sender signed goes to the dead letters, with its security event, in
//!   the same commit, and the mail behind it is handed over.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use symbiont_types::{
    AgentId, AuditEventType, CommunicationError, DeliveryStatus, MessageId, SecureMessage,
};

use super::keeping::Burial;
use super::mailbox::{DeadCause, Letter, Office, Slot};
use super::seal::{self, AgentKeys};
use super::sending::delivered;
use super::{Inner, LONGEST, LeasedMessage, MOST_BYTES, MOST_MESSAGES, refused, stored};
use crate::journal::{Change, Entry, MAIL, RECEIPTS};

/// A message that was taken out of its mailbox, with what it takes to put it back.
pub(super) struct Taken {
    pub(super) slot: Slot,
    pub(super) letter: Letter,
    pub(super) message: SecureMessage,
}

impl Inner {
    /// Takes messages for good.
    pub(super) async fn receive(
        &self,
        agent_id: AgentId,
        most: usize,
    ) -> Result<Vec<Taken>, CommunicationError> {
        loop {
            let now = self.journal.now();
            let (letters, receiver) = {
                let mut office = self.open()?;
                let mailbox = office.mailbox(agent_id)?;
                let receiver = Arc::clone(&mailbox.keys);
                let slots = mailbox.first(now, most.min(MOST_MESSAGES), MOST_BYTES);
                let take = |slot| Some((slot, office.take(agent_id, slot)?));
                (slots.into_iter().filter_map(take).collect::<Vec<_>>(), receiver)
            };
            if letters.is_empty() {
                return Ok(Vec::new());
            }
            let (mut good, mut bad) = (Vec::new(), Vec::new());
            for (slot, letter) in letters {
                match self.unseal(&letter, &receiver) {
                    Ok(message) => good.push(Taken { slot, letter, message }),
                    Err((cause, why)) => bad.push(Burial { slot, letter, cause, why }),
                }
            }
            let mut change = self.entomb(bad, now);
            for Taken { slot, letter, message } in &good {
                change = change
                    .remove(MAIL, stored::mail_key(agent_id, slot.1))
                    .put(RECEIPTS, *letter.id().as_uuid().as_bytes(), &delivered(letter, now))
                    .record(self.received(agent_id, message));
            }
            if let Err(error) = self.commit(MessageId::new(), change).await {
                self.put_back(good.into_iter().map(|taken| (taken.slot, taken.letter)));
                return Err(error);
            }
            {
                let mut office = self.lock();
                for Taken { letter, .. } in &good {
                    office.end(letter.id(), letter.identity, DeliveryStatus::Delivered, now);
                }
            }
            if !good.is_empty() {
                return Ok(good);
            }
        }
    }

    /// Takes back messages that nobody stayed to receive: they wait again, as if never taken.
    pub(super) async fn take_back(&self, taken: Vec<Taken>) {
        let mut change = Change::new();
        for Taken { slot, letter, .. } in &taken {
            let id = letter.id();
            let to = letter.identity.to;
            let row = stored::encode(&letter.sealed, letter.identity.print, None);
            let event = self
                .journal
                .event(AuditEventType::ErrorOccurred, "message.returned")
                .agent(to)
                .details("whoever asked for it had gone: it waits again")
                .with("message", id);
            change = change
                .put_bytes(MAIL, stored::mail_key(to, slot.1), row)
                .put(RECEIPTS, *id.as_uuid().as_bytes(), &counted(letter))
                .record(event);
        }
        if let Err(error) = self.journal.commit(change).await {
            tracing::error!(%error, "mail that nobody received could not be recorded as waiting");
        }
        self.put_back(taken.into_iter().map(|taken| (taken.slot, taken.letter)));
    }

    /// Puts letters back that were taken out and not handed over.
    fn put_back(&self, letters: impl Iterator<Item = (Slot, Letter)>) {
        let mut back = BTreeSet::new();
        {
            let mut office = self.lock();
            for (slot, letter) in letters {
                let (to, id) = (letter.identity.to, letter.id());
                match office.deliver(slot, letter) {
                    Ok(()) => drop(back.insert(to)),
                    Err(_) => tracing::error!(message_id = %id, "its mailbox was taken away"),
                }
            }
        }
        self.timers.notify_one();
        self.tell_waiting(back);
    }

    /// The message behind a letter, if it is what its sender signed and was not tried too often.
    fn unseal(
        &self,
        letter: &Letter,
        receiver: &AgentKeys,
    ) -> Result<SecureMessage, (DeadCause, Option<String>)> {
        if letter.attempts > self.settings.retry_attempts {
            return Err((DeadCause::AttemptsExhausted, None));
        }
        let from = letter.sealed.message.from;
        let sender = self.lock().boxes.get(&from).map(|mailbox| Arc::clone(&mailbox.keys));
        let opened = match sender {
            Some(sender) => seal::open(SecureMessage::clone(&letter.sealed), &sender, receiver),
            None => Err(CommunicationError::EncryptionFailed {
                reason: format!("the public key of `{from}` is not known any more"),
            }),
        };
        opened.map_err(|error| (DeadCause::BadSignature, Some(error.to_string())))
    }

    fn received(&self, agent_id: AgentId, message: &SecureMessage) -> Entry {
        self.journal
            .event(AuditEventType::MessageReceived, "message.received")
            .agent(agent_id)
            .details(message.message.topic.clone())
            .with("message", message.message.id)
            .with("from", message.message.from)
    }

    /// Takes messages into somebody's hands for `hold`. Unless `record`, whoever holds them records
    /// the hand-over.
    pub(super) async fn lease(
        &self,
        agent_id: AgentId,
        most: usize,
        hold: Duration,
        record: bool,
    ) -> Result<Vec<LeasedMessage>, CommunicationError> {
        loop {
            let now = self.journal.now();
            let until = now + hold;
            let (letters, receiver) = {
                let mut office = self.open()?;
                let mailbox = office.mailbox(agent_id)?;
                let receiver = Arc::clone(&mailbox.keys);
                let slots = mailbox.first(now, most.min(MOST_MESSAGES), MOST_BYTES);
                let lend = |slot| Some((slot, office.hold(agent_id, slot, until)?));
                (slots.into_iter().filter_map(lend).collect::<Vec<_>>(), receiver)
            };
            self.timers.notify_one();
            if letters.is_empty() {
                return Ok(Vec::new());
            }
            let (mut good, mut bad) = (Vec::new(), Vec::new());
            let mut change = Change::new();
            for (slot, letter) in letters {
                // This hand-over is none of those that were made before.
                let before = Letter { attempts: letter.attempts - 1, ..letter.clone() };
                match self.unseal(&before, &receiver) {
                    Ok(message) => {
                        if record {
                            let key = *letter.id().as_uuid().as_bytes();
                            change = change.put(RECEIPTS, key, &counted(&letter));
                        }
                        good.push(LeasedMessage { message, attempt: letter.attempts, until });
                    }
                    Err((cause, why)) => bad.push((slot, cause, why)),
                }
            }
            let bad: Vec<Burial> = {
                let mut office = self.lock();
                let out = |(slot, cause, why)| {
                    let letter = office.take(agent_id, slot)?;
                    Some(Burial { slot, letter, cause, why })
                };
                bad.into_iter().filter_map(out).collect()
            };
            let change = change.and(self.entomb(bad, now));
            if !change.is_empty()
                && let Err(error) = self.commit(MessageId::new(), change).await
            {
                self.release(&good);
                return Err(error);
            }
            if !good.is_empty() {
                return Ok(good);
            }
        }
    }

    /// Takes back leases that nobody came to hold: those were no hand-overs.
    pub(super) fn release(&self, leased: &[LeasedMessage]) {
        let mut back = BTreeSet::new();
        {
            let mut office = self.lock();
            for lease in leased {
                let held = in_hand(&office, lease.message.message.id, lease.attempt);
                let Ok((to, slot)) = held else { continue };
                let letter = office.boxes.get_mut(&to).and_then(|it| it.letters.get_mut(&slot));
                let Some(letter) = letter else { continue };
                letter.attempts -= 1;
                if let Some(until) = letter.away_until.take() {
                    office.timers.remove(&(until, to, Some(slot)));
                }
                back.insert(to);
            }
        }
        self.tell_waiting(back);
    }

    fn tell_waiting(&self, agents: BTreeSet<AgentId>) {
        for agent in agents {
            if let Some(port) = self.directory.agent(agent) {
                port.mail_waiting(agent);
            }
        }
    }

    pub(super) async fn ack(&self, id: MessageId, attempt: u32) -> Result<(), CommunicationError> {
        let now = self.journal.now();
        let (to, slot, letter) = {
            let mut office = self.open()?;
            let (to, slot) = in_hand(&office, id, attempt)?;
            let letter = office.take(to, slot).expect("it was there a line ago");
            (to, slot, letter)
        };
        let change = Change::new()
            .remove(MAIL, stored::mail_key(to, slot.1))
            .put(RECEIPTS, *id.as_uuid().as_bytes(), &delivered(&letter, now))
            .record(self.received(to, &letter.sealed));
        if let Err(error) = self.commit(id, change).await {
            let until = letter.away_until;
            self.put_back([(slot, letter)].into_iter());
            if let Some(until) = until {
                self.lock().timers.insert((until, to, Some(slot)));
                self.timers.notify_one();
            }
            return Err(error);
        }
        self.lock().end(id, letter.identity, DeliveryStatus::Delivered, now);
        Ok(())
    }

    pub(super) fn nack(
        &self,
        id: MessageId,
        attempt: u32,
        delay: Duration,
    ) -> Result<(), CommunicationError> {
        let at = self.journal.now() + delay.min(LONGEST);
        let mut office = self.open()?;
        let (to, slot) = in_hand(&office, id, attempt)?;
        let mailbox = office.boxes.get_mut(&to).expect("it was there a line ago");
        let letter = mailbox.letters.get_mut(&slot).expect("it was there a line ago");
        let before = letter.away_until.replace(at);
        if let Some(before) = before {
            office.timers.remove(&(before, to, Some(slot)));
        }
        office.timers.insert((at, to, Some(slot)));
        drop(office);
        self.timers.notify_one();
        Ok(())
    }

    /// What is to be recorded together with the start of a run that is lent the message.
    pub(super) fn lent(&self, id: MessageId, attempt: u32) -> Change {
        let office = self.lock();
        let Ok((to, slot)) = in_hand(&office, id, attempt) else { return Change::new() };
        let letter = office.boxes.get(&to).and_then(|mailbox| mailbox.letters.get(&slot));
        letter.map_or_else(Change::new, |letter| {
            Change::new().put(RECEIPTS, *id.as_uuid().as_bytes(), &counted(letter))
        })
    }

    /// What is to be recorded together with the end of a run that dealt with the message.
    pub(super) fn dealt_with(&self, lent: &LeasedMessage) -> Change {
        let id = lent.message.message.id;
        let office = self.lock();
        let Ok((to, slot)) = in_hand(&office, id, lent.attempt) else {
            return Change::new(); // It was buried meanwhile, with its agent.
        };
        let letter = office.boxes.get(&to).and_then(|mailbox| mailbox.letters.get(&slot));
        let Some(letter) = letter else { return Change::new() };
        Change::new()
            .remove(MAIL, stored::mail_key(to, slot.1))
            .put(RECEIPTS, *id.as_uuid().as_bytes(), &delivered(letter, self.journal.now()))
            .record(self.received(to, &lent.message))
    }

    /// That has been recorded.
    pub(super) fn settle_lent(&self, lent: &LeasedMessage) {
        let id = lent.message.message.id;
        let now = self.journal.now();
        let mut office = self.lock();
        let Ok((to, slot)) = in_hand(&office, id, lent.attempt) else { return };
        if let Some(letter) = office.take(to, slot) {
            office.end(id, letter.identity, DeliveryStatus::Delivered, now);
        }
        tracing::info!(agent_id = %to, message_id = %id, "message delivered");
    }
}

impl Office {
    /// Puts a letter into somebody's hands.
    fn hold(&mut self, agent_id: AgentId, slot: Slot, until: SystemTime) -> Option<Letter> {
        let letter = self.boxes.get_mut(&agent_id)?.letters.get_mut(&slot)?;
        letter.attempts = letter.attempts.saturating_add(1);
        letter.away_until = Some(until);
        let letter = letter.clone();
        self.timers.insert((until, agent_id, Some(slot)));
        Some(letter)
    }
}

/// Where a message is that is in the caller's hands by its newest hand-over.
fn in_hand(
    office: &Office,
    id: MessageId,
    attempt: u32,
) -> Result<(AgentId, Slot), CommunicationError> {
    let place = || {
        let receipt = office.receipts.get(id)?;
        let (to, slot) = (receipt.identity.to, receipt.place?);
        let letter = office.boxes.get(&to)?.letters.get(&slot)?;
        (letter.attempts == attempt && letter.away_until.is_some()).then_some((to, slot))
    };
    place().ok_or_else(|| refused(id, "this hand-over is over".to_owned()))
}

/// How often a message that waits was handed over.
fn counted(letter: &Letter) -> stored::Receipt {
    let (status, never) = (DeliveryStatus::Pending, SystemTime::UNIX_EPOCH);
    stored::Receipt::of(letter.identity, status, never, letter.attempts)
}
