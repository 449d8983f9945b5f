//! What a journal has of a bus: mailboxes, topics, receipts, mail and dead letters.
//!
//! # What holds
//!
//! - A kept letter waits again only if nothing on record says that it ended: a copy of one that was
//!   delivered is thrown away, with a security event.
//! - When a letter expires follows from what its sender signed.
//! - Mail that can't be delivered is a dead letter: its receiver has no mailbox, or the secrets to open
//!   it can't be read. An agent whose secrets can't be read gets new ones, in a new epoch.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use symbiont_store::{Store, StoreError, Table};
use symbiont_types::{AgentId, AuditEventType, CommunicationError, DeliveryStatus, MessageId};

use super::keeping::{Burial, EPOCH};
use super::keystore::Keystore;
use super::mailbox::{DeadCause, DeadLetter, Identity, Letter, Mailbox, Office};
use super::membership::registration;
use super::refused;
use super::seal::{self, AgentKeys};
use super::sending::SEQUENCE_BLOCK;
use super::stored::{self, Aspect};
use super::window::Window;
use crate::clock::from_micros;
use crate::journal::{
    Change, DEAD, Journal, MAIL, MAILBOXES, RECEIPTS, SETTINGS, TOPICS, WINDOWS, row, rows,
};

/// The state of a bus, and what is to be done before it is used.
pub(super) struct Restored {
    pub(super) office: Office,
    pub(super) change: Change,
    pub(super) dead: Vec<Burial>,
}

struct Restoring<'a> {
    journal: &'a Journal,
    office: Office,
    change: Change,
    /// Agents whose mail can't be opened any more.
    locked_out: HashSet<AgentId>,
    /// How often the messages that wait were handed over.
    attempts: HashMap<MessageId, u32>,
    dead: Vec<Burial>,
}

pub(super) async fn restore(
    journal: &Journal,
    keystore: &Keystore,
) -> Result<Restored, CommunicationError> {
    let mut restoring = Restoring {
        journal,
        office: Office::default(),
        change: Change::new(),
        locked_out: HashSet::new(),
        attempts: HashMap::new(),
        dead: Vec::new(),
    };
    restoring.mailboxes(keystore).await?;
    restoring.topics().await.map_err(unreadable)?;
    restoring.receipts().await.map_err(unreadable)?;
    restoring.mail().await.map_err(unreadable)?;
    restoring.dead_letters().await.map_err(unreadable)?;
    let Restoring { office, change, dead, .. } = restoring;
    Ok(Restored { office, change, dead })
}

impl Restoring<'_> {
    async fn mailboxes(&mut self, keystore: &Keystore) -> Result<(), CommunicationError> {
        let store = self.journal.store();
        let mut kept: Vec<(AgentId, stored::Registration)> = Vec::new();
        let mut listed: HashMap<AgentId, u32> = HashMap::new();
        let mut blocks: HashMap<AgentId, u64> = HashMap::new();
        each_row(store, MAILBOXES, |key, bytes| {
            match Aspect::of(key) {
                Some((agent, Aspect::Registration)) => kept.push((agent, read(MAILBOXES, bytes)?)),
                Some((agent, Aspect::Listed)) => {
                    listed.insert(agent, read(MAILBOXES, bytes)?);
                }
                Some((agent, Aspect::Numbers)) => {
                    blocks.insert(agent, read(MAILBOXES, bytes)?);
                }
                None => {}
            }
            Ok(())
        })
        .await
        .map_err(unreadable)?;
        let last = row::<u32>(store, SETTINGS, EPOCH).await.map_err(unreadable)?;
        let epochs = kept.iter().map(|(_, registration)| registration.epoch);
        self.office.epoch = epochs.chain(last).max().unwrap_or_default();
        for (agent_id, kept) in kept {
            let opened = keystore.open_keys(agent_id, kept.epoch, &kept.sealed_keys);
            let keys = match opened {
                Ok(keys) => keys,
                Err(error) => self.replace_keys(agent_id, &kept, keystore, &error)?,
            };
            let mut mailbox = Mailbox::new(Arc::new(keys), kept.capabilities);
            mailbox.listed = listed.get(&agent_id) == Some(&mailbox.keys.epoch);
            if mailbox.listed {
                // Numbers that were given out and not kept are skipped, those too that belong to the
                // next block because its first message was overtaken.
                let block = blocks.get(&agent_id).copied().unwrap_or_default() + 2;
                mailbox.sequence = block * SEQUENCE_BLOCK;
                let change = std::mem::take(&mut self.change);
                self.change = change.put(MAILBOXES, Aspect::Numbers.key(agent_id), &block);
            }
            mailbox.leaves_at = kept.leaves_at.map(from_micros);
            if let Some(at) = mailbox.leaves_at {
                self.office.timers.insert((at, agent_id, None));
            }
            self.office.boxes.insert(agent_id, mailbox);
        }
        Ok(())
    }

    /// New secrets for an agent whose own can't be read.
    fn replace_keys(
        &mut self,
        agent_id: AgentId,
        kept: &stored::Registration,
        keystore: &Keystore,
        error: &CommunicationError,
    ) -> Result<AgentKeys, CommunicationError> {
        let keys = AgentKeys::generate(agent_id, self.office.next_epoch())?;
        let row = registration(keystore, &keys, &kept.capabilities, kept.leaves_at)?;
        let event = self
            .journal
            .event(AuditEventType::SecurityEvent, "key.lost")
            .agent(agent_id)
            .details(format!("{error}: it gets new keys, and mail for the old ones is given up"))
            .with("epoch", kept.epoch)
            .with("next_epoch", keys.epoch);
        let change = std::mem::take(&mut self.change);
        self.change = change.put(MAILBOXES, Aspect::Registration.key(agent_id), &row).record(event);
        self.locked_out.insert(agent_id);
        Ok(keys)
    }

    async fn topics(&mut self) -> Result<(), StoreError> {
        let topics = &mut self.office.topics;
        each_row(self.journal.store(), TOPICS, |key, _| {
            match stored::topic_of(key) {
                Some((topic, Some(agent))) => topics.subscribe(&topic, agent),
                Some((topic, None)) => topics.create(&topic),
                None => {}
            }
            Ok(())
        })
        .await
    }

    async fn receipts(&mut self) -> Result<(), StoreError> {
        let store = self.journal.store();
        for (key, kept) in rows::<stored::Receipt>(store, RECEIPTS, &[]).await? {
            let Ok(uuid) = uuid::Uuid::from_slice(&key) else { continue };
            if kept.status == DeliveryStatus::Pending {
                self.attempts.insert(uuid.into(), kept.attempts);
            } else {
                let at = from_micros(kept.at);
                self.office.end(uuid.into(), kept.identity(), kept.status, at);
            }
        }
        let now = self.journal.now();
        for (key, kept) in rows::<stored::Window>(store, WINDOWS, &[]).await? {
            let until = from_micros(kept.until);
            match stored::pair_of(&key) {
                Some(pair) if now < until => {
                    self.office.windows.insert(pair, Window::of(kept.ended, until));
                }
                // Whatever is in it has expired.
                Some(_) | None => {
                    let change = std::mem::take(&mut self.change);
                    self.change = change.remove(WINDOWS, key);
                }
            }
        }
        Ok(())
    }

    async fn mail(&mut self) -> Result<(), StoreError> {
        let journal = self.journal;
        each_row(journal.store(), MAIL, |key, bytes| {
            let kept = stored::decode(bytes)?;
            let order = stored::order_of(key);
            self.office.order = self.office.order.max(order);
            let message = &kept.sealed.message;
            let (id, from, to) = (message.id, message.from, message.to);
            let identity = Identity {
                from,
                to,
                sequence: seal::sequence(&kept.sealed).unwrap_or_default(),
                print: kept.print,
                expires_at: kept.sealed.timestamp + message.ttl,
            };
            let ended = self.office.receipts.get(id).is_some()
                || self
                    .office
                    .windows
                    .get(&(to, from))
                    .is_some_and(|window| window.has_ended(identity.sequence));
            if ended || key != stored::mail_key(to, order) {
                let event = journal
                    .event(AuditEventType::SecurityEvent, "message.replayed")
                    .agent(to)
                    .details("a copy of a message that is known was among the mail that waits")
                    .with("message", id)
                    .with("from", from);
                let change = std::mem::take(&mut self.change);
                self.change = change.remove(MAIL, key).record(event);
                return Ok(());
            }
            let slot = (Reverse(message.priority), order);
            let attempts = self.attempts.get(&id).copied().unwrap_or_default();
            let sealed = Arc::new(kept.sealed);
            let letter = Letter { sealed, identity, attempts, away_until: None };
            if self.locked_out.contains(&to) {
                let (cause, why) = (DeadCause::BadSignature, "its receiver's key was lost");
                self.dead.push(Burial { slot, letter, cause, why: Some(why.to_owned()) });
            } else if let Err(letter) = self.office.deliver(slot, letter) {
                let cause = DeadCause::ReceiverGone;
                self.dead.push(Burial { slot, letter, cause, why: None });
            }
            Ok(())
        })
        .await
    }

    async fn dead_letters(&mut self) -> Result<(), StoreError> {
        let office = &mut self.office;
        each_row(self.journal.store(), DEAD, |key, bytes| {
            let kept = stored::decode(bytes)?;
            let order = stored::order_of(key);
            office.order = office.order.max(order);
            if let Some((cause, at)) = kept.dead {
                let message = Arc::new(kept.sealed);
                office.dead.push_back(DeadLetter { message, cause, at, order });
            }
            Ok(())
        })
        .await
    }
}

/// Calls `each` with every row of `table`, read in pages.
async fn each_row(
    store: &dyn Store,
    table: Table,
    mut each: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    const PAGE: usize = 256;
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = store.scan(table, &[], after.as_deref(), PAGE).await?;
        for (key, bytes) in &page {
            each(key, bytes)?;
        }
        match page.last() {
            Some((key, _)) => after = Some(key.clone()),
            None => return Ok(()),
        }
    }
}

fn read<T: DeserializeOwned>(table: Table, bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| StoreError::Corrupted {
        reason: format!("a row of `{}`: {error}", table.0),
    })
}

fn unreadable(error: StoreError) -> CommunicationError {
    refused(MessageId::new(), format!("the kept mail can't be read: {error}"))
}
