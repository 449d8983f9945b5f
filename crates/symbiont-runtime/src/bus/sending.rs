//! Sending: a place in the mailbox is reserved, the message sealed and signed, recorded, delivered.
//!
//! # What holds
//!
//! - A message is in its mailbox only once it is recorded, and never twice: a call with an id that
//!   another call has in hand waits for what becomes of it there.
//! - What one call sends to several receivers is one commit and one signature per 256 copies.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::SystemTime;

use symbiont_types::{
    AgentId, AuditEventType, CommunicationError, DeliveryStatus, Message, MessageId,
};

use super::mailbox::{Identity, Letter, MOST_REMEMBERED, Office, Print, Slot};
use super::seal::{self, AgentKeys, Sealing, Stamp};
use super::stored::{self, Aspect};
use super::{Inner, check_topic, refused};
use crate::clock::{from_micros, micros};
use crate::journal::{Change, Entry, MAIL, MAILBOXES, RECEIPTS, WINDOWS};

/// The number of the block of sequence numbers that an agent uses is kept when it changes.
pub(super) const SEQUENCE_BLOCK: u64 = 1 << 20;
/// The most copies and bytes of payloads in one commit.
const MOST_COPIES: usize = 256;
const MOST_COMMITTED: usize = 16 * 1024 * 1024;

/// What is to be done about a message that is to be sent.
enum Answer<'a> {
    Go(Reserved<'a>),
    /// It was sent before.
    Seen,
    /// Another call has it in hand.
    Busy,
}

/// A place in a mailbox that was promised to a message being sent.
struct Reserved<'a> {
    inner: &'a Inner,
    id: MessageId,
    identity: Identity,
    slot: Slot,
    receiver: Arc<AgentKeys>,
    delivered: bool,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let mut office = self.inner.lock();
        office.sealing.remove(&self.id);
        if !self.delivered {
            office.withdraw(self.identity);
        }
        if let Some(mailbox) = office.boxes.get_mut(&self.identity.to) {
            mailbox.promised = mailbox.promised.saturating_sub(1);
        }
        drop(office);
        self.inner.sent.notify_waiters();
    }
}

impl Inner {
    pub(super) async fn send(&self, mut message: Message) -> Result<MessageId, CommunicationError> {
        let id = message.id;
        self.fit(&mut message)?;
        let hash = seal::payload_hash(&message.payload);
        // Times are kept to the microsecond, and signed as they are kept.
        let now = from_micros(micros(self.journal.now()));
        let reserved = loop {
            let sent = self.sent.notified();
            let answer = {
                let mut office = self.open()?;
                self.reserve(&mut office, &message, &hash, now)?
            };
            match answer {
                Answer::Go(reserved) => break reserved,
                Answer::Seen => return Ok(id),
                Answer::Busy => sent.await,
            }
        };
        self.dispatch(message.from, vec![(message, reserved)], hash, now).await?;
        Ok(id)
    }

    /// Sends a copy to each subscriber; the ids of the copies.
    pub(super) async fn publish_copies(
        &self,
        topic: String,
        mut message: Message,
    ) -> Result<Vec<MessageId>, CommunicationError> {
        message.topic = topic;
        self.fit(&mut message)?;
        let subscribers = {
            let office = self.open()?;
            office.mailbox(message.from)?;
            office
                .topics
                .subscribers(&message.topic)
                .ok_or_else(|| CommunicationError::TopicNotFound { topic: message.topic.clone() })?
        };
        let hash = seal::payload_hash(&message.payload);
        let copies = (MOST_COMMITTED / (message.payload.len() + 1)).clamp(1, MOST_COPIES);
        let mut sent = Vec::new();
        let mut last_error = None;
        for some in subscribers.chunks(copies) {
            let now = from_micros(micros(self.journal.now()));
            let mut mail = Vec::with_capacity(some.len());
            {
                let mut office = self.open()?;
                for to in some {
                    let copy = Message { id: MessageId::new(), to: *to, ..message.clone() };
                    match self.reserve(&mut office, &copy, &hash, now) {
                        Ok(Answer::Go(reserved)) => mail.push((copy, reserved)),
                        // Its id is new.
                        Ok(Answer::Seen | Answer::Busy) => {}
                        // A subscriber that left is no reason to fail.
                        Err(CommunicationError::AgentNotRegistered { agent_id })
                            if agent_id == *to => {}
                        Err(error) => last_error = Some(error),
                    }
                }
            }
            if mail.is_empty() {
                continue;
            }
            let ids: Vec<MessageId> = mail.iter().map(|(copy, _)| copy.id).collect();
            match self.dispatch(message.from, mail, hash, now).await {
                Ok(()) => sent.extend(ids),
                Err(error) => last_error = Some(error),
            }
        }
        match last_error {
            Some(error) if sent.is_empty() => Err(error),
            _ => Ok(sent),
        }
    }

    /// Refuses what no mailbox takes, and gives the message the time to live that it gets.
    fn fit(&self, message: &mut Message) -> Result<(), CommunicationError> {
        check_topic(message.id, &message.topic)?;
        if message.payload.len() > self.settings.max_message_size {
            return Err(CommunicationError::MessageTooLarge {
                size: message.payload.len(),
                max_size: self.settings.max_message_size,
            });
        }
        if message.ttl.is_zero() || message.ttl > self.settings.message_ttl {
            message.ttl = self.settings.message_ttl;
        }
        Ok(())
    }

    fn reserve<'a>(
        &'a self,
        office: &mut Office,
        message: &Message,
        payload_hash: &[u8; 32],
        now: SystemTime,
    ) -> Result<Answer<'a>, CommunicationError> {
        let Message { id, from, to, priority, ttl, .. } = *message;
        let print = print(from, to, payload_hash);
        if let Some(receipt) = office.receipts.get(id) {
            if receipt.identity.print == print {
                return Ok(Answer::Seen);
            }
            let reason = "another message was sent under this id: it had another sender, receiver or \
                          payload (give each message an id of its own)";
            return Err(refused(id, reason.to_owned()));
        }
        if office.sealing.contains(&id) {
            return Ok(Answer::Busy);
        }
        office.mailbox(from)?;
        let there = office.mailbox(to)?;
        let waiting = there.letters.len() + there.promised;
        if waiting >= self.settings.max_queue_size {
            let reason = format!(
                "the mailbox of agent `{to}` is full: it holds {waiting} messages (try again later, or \
                 raise max_queue_size)"
            );
            return Err(refused(id, reason));
        }
        let slot = (Reverse(priority), office.next_order());
        let mailbox = office.boxes.get_mut(&from).expect("it was there a few lines ago");
        mailbox.sequence += 1;
        let sequence = mailbox.sequence;
        let mailbox = office.boxes.get_mut(&to).expect("it was there a few lines ago");
        mailbox.promised += 1;
        let receiver = Arc::clone(&mailbox.keys);
        let identity = Identity { from, to, sequence, print, expires_at: now + ttl };
        office.windows.entry((to, from)).or_default().wait(sequence);
        office.sealing.insert(id);
        Ok(Answer::Go(Reserved { inner: self, id, identity, slot, receiver, delivered: false }))
    }

    /// Seals, records and delivers what one agent sends at one moment.
    async fn dispatch(
        &self,
        from: AgentId,
        mail: Vec<(Message, Reserved<'_>)>,
        payload_hash: [u8; 32],
        now: SystemTime,
    ) -> Result<(), CommunicationError> {
        let sealing = Sealing {
            algorithm: self.settings.enable_encryption.then_some(self.algorithm),
            compress: self.settings.enable_compression,
        };
        let (sender, listed, mut change) = {
            let mut office = self.lock();
            let change = forget_receipts(&mut office, now);
            let mailbox = office.boxes.get(&from);
            let mailbox =
                mailbox.ok_or(CommunicationError::AgentNotRegistered { agent_id: from })?;
            (Arc::clone(&mailbox.keys), mailbox.listed, change)
        };
        let id = mail.first().map_or_else(MessageId::new, |(message, _)| message.id);
        if !listed {
            change = change
                .put(MAILBOXES, Aspect::Listed.key(from), &sender.epoch)
                .record(self.key_listed(&sender)?);
        }
        let mut places = Vec::with_capacity(mail.len());
        let mut unsigned = Vec::with_capacity(mail.len());
        for (message, reserved) in mail {
            let sequence = reserved.identity.sequence;
            if sequence.is_multiple_of(SEQUENCE_BLOCK) {
                let block = sequence / SEQUENCE_BLOCK;
                change = change.put(MAILBOXES, Aspect::Numbers.key(from), &block);
            }
            let event = self
                .journal
                .event(AuditEventType::MessageSent, "message.sent")
                .agent(from)
                .details(message.topic.clone())
                .with("message", message.id)
                .with("to", message.to)
                .with("size", message.payload.len());
            change = change.record(event);
            let stamp = Stamp { sequence, timestamp: now, payload_hash };
            unsigned.push(seal::seal(message, stamp, &sender, &reserved.receiver, sealing)?);
            places.push(reserved);
        }
        let sealed = seal::sign(unsigned, &sender)?;
        let mut letters = Vec::with_capacity(places.len());
        for (sealed, reserved) in sealed.into_iter().zip(places) {
            let identity = reserved.identity;
            let key = stored::mail_key(identity.to, reserved.slot.1);
            change = change.put_bytes(MAIL, key, stored::encode(&sealed, identity.print, None));
            let sealed = Arc::new(sealed);
            letters.push((reserved, Letter { sealed, identity, attempts: 0, away_until: None }));
        }
        self.commit(id, change).await?;
        let mut receivers = Vec::with_capacity(letters.len());
        let mut late = Vec::new();
        {
            let mut office = self.lock();
            if let Some(mailbox) = office.boxes.get_mut(&from)
                && mailbox.keys.epoch == sender.epoch
            {
                mailbox.listed = true;
            }
            for (reserved, letter) in &mut letters {
                let to = letter.identity.to;
                reserved.delivered = true;
                match office.deliver(reserved.slot, letter.clone()) {
                    Ok(()) => receivers.push(to),
                    // A mailbox is not taken away while places in it are promised.
                    Err(letter) => late.push(letter),
                }
            }
        }
        debug_assert!(late.is_empty(), "a promise keeps a mailbox");
        drop(letters); // The places are not promised any more: they are taken.
        self.timers.notify_one();
        for to in receivers {
            if let Some(agent) = self.directory.agent(to) {
                agent.mail_waiting(to);
            }
        }
        Ok(())
    }

    /// Lists a public key in the trail, where anyone who verifies a message can find it.
    fn key_listed(&self, keys: &AgentKeys) -> Result<Entry, CommunicationError> {
        let public = crate::audit::hex(&keys.public_key()?);
        Ok(self
            .journal
            .event(AuditEventType::SecurityEvent, "key.listed")
            .agent(keys.agent_id)
            .details("Ed25519 public key of the agent's messages")
            .with("epoch", keys.epoch)
            .with("public_key", public))
    }
}

/// Forgets some receipts that need not be remembered; what is to be recorded of that.
fn forget_receipts(office: &mut Office, now: SystemTime) -> Change {
    let (forgotten, folded) = office.forget_old(now, MOST_REMEMBERED);
    let mut change = Change::new();
    for id in forgotten {
        change = change.remove(RECEIPTS, *id.as_uuid().as_bytes());
    }
    for (receiver, sender) in folded {
        if let Some(window) = office.windows.get(&(receiver, sender)) {
            let ended = window.ranges().to_vec();
            let row = stored::Window { ended, until: micros(window.until()) };
            change = change.put(WINDOWS, stored::window_key(receiver, sender), &row);
        }
    }
    change
}

/// What tells a message from another one with the same id.
fn print(from: AgentId, to: AgentId, payload_hash: &[u8; 32]) -> Print {
    let parts = [&from.as_uuid().as_bytes()[..], to.as_uuid().as_bytes(), payload_hash];
    let hash = seal::payload_hash(&parts.concat());
    let (words, _) = hash.as_chunks::<8>();
    [u64::from_be_bytes(words[0]), u64::from_be_bytes(words[1])]
}

/// The receipt of a message that was delivered.
pub(super) fn delivered(letter: &Letter, now: SystemTime) -> stored::Receipt {
    let status = DeliveryStatus::Delivered;
    stored::Receipt::of(letter.identity, status, now, letter.attempts)
}
