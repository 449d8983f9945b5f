//! What is where: mailboxes, receipts and dead letters, as plain state.
//!
//! Nothing here waits, signs or touches a disk; time is an argument.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use symbiont_types::{AgentId, Capability, DeliveryStatus, MessageId, Priority, SecureMessage};

use super::seal::AgentKeys;

/// How long it is remembered what became of a message.
pub(crate) const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// The most messages whose end is remembered; the oldest goes.
const MOST_REMEMBERED: usize = 500_000;

/// A letter's place in its mailbox: the most urgent first, then the oldest.
pub(crate) type Slot = (Reverse<Priority>, u64);

/// A message that waits, or is in somebody's hands for a while.
#[derive(Debug, Clone)]
pub(crate) struct Letter {
    pub(crate) sealed: Arc<SecureMessage>,
    pub(crate) expires_at: SystemTime,
    /// Hand-overs so far.
    pub(crate) attempts: u32,
    /// Until when it is in somebody's hands, or put off.
    pub(crate) away_until: Option<SystemTime>,
}

/// The mail of one agent.
#[derive(Debug)]
pub(crate) struct Mailbox {
    pub(crate) keys: Arc<AgentKeys>,
    pub(crate) capabilities: Vec<Capability>,
    /// Set when the agent unregistered: then its mail goes to the dead letters.
    pub(crate) leaves_at: Option<SystemTime>,
    pub(crate) letters: BTreeMap<Slot, Letter>,
    /// Places promised to messages that are being sealed.
    pub(crate) promised: usize,
    /// Numbers the messages that the agent sends.
    pub(crate) sequence: u64,
}

impl Mailbox {
    pub(crate) fn new(keys: Arc<AgentKeys>, capabilities: Vec<Capability>) -> Self {
        Self {
            keys,
            capabilities,
            leaves_at: None,
            letters: BTreeMap::new(),
            promised: 0,
            sequence: 0,
        }
    }

    pub(crate) fn is_registered(&self) -> bool {
        self.leaves_at.is_none()
    }

    /// Letters that can be handed over now, in order.
    pub(crate) fn ready(&self, now: SystemTime) -> impl Iterator<Item = (&Slot, &Letter)> {
        self.letters
            .iter()
            .filter(move |(_, letter)| letter.away_until.is_none_or(|until| until <= now))
            .filter(move |(_, letter)| now < letter.expires_at)
    }
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) status: DeliveryStatus,
    /// Where it waits, while it does.
    pub(crate) place: Option<(AgentId, Slot)>,
    /// When its status became final.
    pub(crate) ended_at: Option<SystemTime>,
}

/// What became of the messages of the last day.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    by_id: HashMap<MessageId, Receipt>,
    ended: VecDeque<(SystemTime, MessageId)>,
}

impl Receipts {
    pub(crate) fn get(&self, id: MessageId) -> Option<&Receipt> {
        self.by_id.get(&id)
    }

    pub(crate) fn wait(&mut self, id: MessageId, to: AgentId, slot: Slot) {
        let receipt =
            Receipt { status: DeliveryStatus::Pending, place: Some((to, slot)), ended_at: None };
        self.by_id.insert(id, receipt);
    }

    pub(crate) fn end(&mut self, id: MessageId, status: DeliveryStatus, at: SystemTime) {
        self.by_id.insert(id, Receipt { status, place: None, ended_at: Some(at) });
        self.ended.push_back((at, id));
    }

    /// Ids that need not be remembered any more; a few at a time, so that nobody waits for it.
    pub(crate) fn forget_old(&mut self, now: SystemTime) -> Vec<MessageId> {
        let mut forgotten = Vec::new();
        while forgotten.len() < 16
            && let Some(&(at, id)) = self.ended.front()
            && (self.ended.len() > MOST_REMEMBERED
                || now.duration_since(at).unwrap_or_default() > REMEMBERED)
        {
            self.ended.pop_front();
            self.by_id.remove(&id);
            forgotten.push(id);
        }
        forgotten
    }
}

/// Why a message is among the dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum DeadCause {
    /// Its time to live passed.
    Expired,
    /// Its receiver is gone.
    ReceiverGone,
    /// It was handed over too often without being acknowledged.
    AttemptsExhausted,
    /// Its signature or its seal is wrong.
    BadSignature,
}

/// A message that could not be delivered.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// The message, still sealed.
    pub message: Arc<SecureMessage>,
    /// Why.
    pub cause: DeadCause,
    /// Since when.
    pub at: SystemTime,
    pub(crate) order: u64,
}

/// Who is subscribed to what.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    by_name: BTreeMap<String, BTreeSet<AgentId>>,
}

impl Topics {
    /// Whether this is news.
    pub(crate) fn subscribe(&mut self, topic: &str, agent: AgentId) -> bool {
        self.by_name.entry(topic.to_owned()).or_default().insert(agent)
    }

    pub(crate) fn create(&mut self, topic: &str) {
        self.by_name.entry(topic.to_owned()).or_default();
    }

    /// Whether this is news; `None` when the topic was never created.
    pub(crate) fn unsubscribe(&mut self, topic: &str, agent: AgentId) -> Option<bool> {
        Some(self.by_name.get_mut(topic)?.remove(&agent))
    }

    /// The subscribers; `None` when the topic was never created.
    pub(crate) fn subscribers(&self, topic: &str) -> Option<Vec<AgentId>> {
        Some(self.by_name.get(topic)?.iter().copied().collect())
    }

    pub(crate) fn of(&self, agent: AgentId) -> Vec<String> {
        let has = |(_, agents): &(&String, &BTreeSet<AgentId>)| agents.contains(&agent);
        self.by_name.iter().filter(has).map(|(topic, _)| topic.clone()).collect()
    }

    /// Ends all subscriptions of an agent; to which topics they were.
    pub(crate) fn leave(&mut self, agent: AgentId) -> Vec<String> {
        let mut left = Vec::new();
        for (topic, agents) in &mut self.by_name {
            if agents.remove(&agent) {
                left.push(topic.clone());
            }
        }
        left
    }

    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }

    pub(crate) fn contains(&self, topic: &str) -> bool {
        self.by_name.contains_key(topic)
    }
}

/// All of the bus's state.
#[derive(Debug, Default)]
pub(crate) struct Office {
    pub(crate) boxes: HashMap<AgentId, Mailbox>,
    pub(crate) topics: Topics,
    pub(crate) receipts: Receipts,
    pub(crate) dead: VecDeque<DeadLetter>,
    /// When to look at which letter again; `None` is the mailbox as a whole.
    pub(crate) timers: BTreeSet<(SystemTime, AgentId, Option<Slot>)>,
    /// Messages that are being sealed and recorded.
    pub(crate) sealing: HashSet<MessageId>,
    /// Numbers letters and dead letters.
    pub(crate) order: u64,
    pub(crate) closed: bool,
}

impl Office {
    pub(crate) fn next_order(&mut self) -> u64 {
        self.order += 1;
        self.order
    }

    /// Puts a letter into its mailbox.
    pub(crate) fn deliver(&mut self, to: AgentId, slot: Slot, letter: Letter) {
        self.timers.insert((letter.expires_at, to, Some(slot)));
        self.receipts.wait(letter.sealed.message.id, to, slot);
        if let Some(mailbox) = self.boxes.get_mut(&to) {
            mailbox.letters.insert(slot, letter);
        }
    }

    /// Takes a letter out of its mailbox.
    pub(crate) fn take(&mut self, to: AgentId, slot: Slot) -> Option<Letter> {
        let letter = self.boxes.get_mut(&to)?.letters.remove(&slot)?;
        self.timers.remove(&(letter.expires_at, to, Some(slot)));
        if let Some(until) = letter.away_until {
            self.timers.remove(&(until, to, Some(slot)));
        }
        Some(letter)
    }

    /// Puts a letter among the dead ones; the letters that had to make room come back.
    pub(crate) fn bury(
        &mut self,
        letter: Letter,
        cause: DeadCause,
        now: SystemTime,
        room: usize,
    ) -> (u64, Vec<DeadLetter>) {
        let status = match cause {
            DeadCause::Expired => DeliveryStatus::Expired,
            DeadCause::ReceiverGone | DeadCause::AttemptsExhausted | DeadCause::BadSignature => {
                DeliveryStatus::Failed
            }
        };
        self.receipts.end(letter.sealed.message.id, status, now);
        let order = self.next_order();
        self.dead.push_back(DeadLetter { message: letter.sealed, cause, at: now, order });
        let mut dropped = Vec::new();
        while self.dead.len() > room {
            dropped.extend(self.dead.pop_front());
        }
        (order, dropped)
    }

    pub(crate) fn waiting(&self) -> usize {
        self.boxes.values().map(|mailbox| mailbox.letters.len()).sum()
    }
}
