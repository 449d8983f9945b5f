//! What is where: mailboxes, receipts and dead letters, as plain state.
//!
//! Nothing here waits, signs or touches a disk; time is an argument.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use symbiont_types::{AgentId, Capability, DeliveryStatus, MessageId, Priority, SecureMessage};

use super::seal::{AgentKeys, payload_len};
use super::window::Window;

/// How long it is remembered what became of a message.
pub(crate) const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// The most messages whose end is remembered; the oldest goes.
pub(crate) const MOST_REMEMBERED: usize = 500_000;

/// A letter's place in its mailbox: the most urgent first, then the oldest.
pub(crate) type Slot = (Reverse<Priority>, u64);

/// Tells a message from every other one, also from one with the same id: a part of a SHA-256.
pub(crate) type Print = [u64; 2];

/// What is remembered of a message beside its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) from: AgentId,
    pub(crate) to: AgentId,
    /// The number that its sender gave it.
    pub(crate) sequence: u64,
    pub(crate) print: Print,
    pub(crate) expires_at: SystemTime,
}

/// A message that waits, or is in somebody's hands for a while.
#[derive(Debug, Clone)]
pub(crate) struct Letter {
    pub(crate) sealed: Arc<SecureMessage>,
    pub(crate) identity: Identity,
    /// Hand-overs so far.
    pub(crate) attempts: u32,
    /// Until when it is in somebody's hands, or put off.
    pub(crate) away_until: Option<SystemTime>,
}

impl Letter {
    pub(crate) fn id(&self) -> MessageId {
        self.sealed.message.id
    }
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
    /// Whether the trail has its public key.
    pub(crate) listed: bool,
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
            listed: false,
        }
    }

    pub(crate) fn is_registered(&self) -> bool {
        self.leaves_at.is_none()
    }

    /// The first letters that can be handed over now, in order: at most `most`, and at most `bytes`
    /// of payloads unless the first alone has more.
    pub(crate) fn first(&self, now: SystemTime, most: usize, bytes: usize) -> Vec<Slot> {
        let mut total = 0;
        self.ready(now)
            .take(most)
            .enumerate()
            .take_while(|(index, (_, letter))| {
                total += payload_len(&letter.sealed);
                *index == 0 || total <= bytes
            })
            .map(|(_, (slot, _))| *slot)
            .collect()
    }

    /// Letters that can be handed over now, in order.
    pub(crate) fn ready(&self, now: SystemTime) -> impl Iterator<Item = (&Slot, &Letter)> {
        self.letters
            .iter()
            .filter(move |(_, letter)| letter.away_until.is_none_or(|until| until <= now))
            .filter(move |(_, letter)| now < letter.identity.expires_at)
    }
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) status: DeliveryStatus,
    pub(crate) identity: Identity,
    /// Where it waits, while it does.
    pub(crate) place: Option<Slot>,
    /// When its status became final.
    pub(crate) ended_at: Option<SystemTime>,
}

/// What became of the messages of the last day, and of those that have not expired.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    by_id: HashMap<MessageId, Receipt>,
    /// By the time from which they need not be remembered.
    ended: BTreeSet<(SystemTime, MessageId)>,
}

impl Receipts {
    pub(crate) fn get(&self, id: MessageId) -> Option<&Receipt> {
        self.by_id.get(&id)
    }

    fn wait(&mut self, id: MessageId, identity: Identity, slot: Slot) {
        let status = DeliveryStatus::Pending;
        let receipt = Receipt { status, identity, place: Some(slot), ended_at: None };
        self.put(id, receipt);
    }

    fn end(&mut self, id: MessageId, identity: Identity, status: DeliveryStatus, at: SystemTime) {
        self.put(id, Receipt { status, identity, place: None, ended_at: Some(at) });
        self.ended.insert((kept_until(identity, at), id));
    }

    fn put(&mut self, id: MessageId, receipt: Receipt) {
        if let Some(Receipt { identity, ended_at: Some(at), .. }) = self.by_id.insert(id, receipt) {
            self.ended.remove(&(kept_until(identity, at), id));
        }
    }

    /// A receipt that need not be kept any more, or for which there is no room among `most`.
    fn pop_old(&mut self, now: SystemTime, most: usize) -> Option<(MessageId, Identity)> {
        let &(until, id) = self.ended.first()?;
        if until > now && self.ended.len() <= most {
            return None;
        }
        self.ended.pop_first();
        self.by_id.remove(&id).map(|receipt| (id, receipt.identity))
    }
}

fn kept_until(identity: Identity, ended_at: SystemTime) -> SystemTime {
    identity.expires_at.max(ended_at + REMEMBERED)
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
    /// The process ended while a run dealt with it that had begun an effect which must not be
    /// repeated blindly: an operator has to look.
    OutcomeUnknown,
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
    pub(crate) fn subscribe(&mut self, topic: &str, agent: AgentId) {
        self.by_name.entry(topic.to_owned()).or_default().insert(agent);
    }

    pub(crate) fn create(&mut self, topic: &str) {
        self.by_name.entry(topic.to_owned()).or_default();
    }

    pub(crate) fn unsubscribe(&mut self, topic: &str, agent: AgentId) {
        if let Some(agents) = self.by_name.get_mut(topic) {
            agents.remove(&agent);
        }
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

    pub(crate) fn is_subscribed(&self, topic: &str, agent: AgentId) -> bool {
        self.by_name.get(topic).is_some_and(|agents| agents.contains(&agent))
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
    /// By receiver and sender.
    pub(crate) windows: HashMap<(AgentId, AgentId), Window>,
    pub(crate) dead: VecDeque<DeadLetter>,
    /// When to look at which letter again; `None` is the mailbox as a whole.
    pub(crate) timers: BTreeSet<(SystemTime, AgentId, Option<Slot>)>,
    /// Messages that are being sealed and recorded.
    pub(crate) sealing: HashSet<MessageId>,
    /// Numbers letters and dead letters.
    pub(crate) order: u64,
    /// The last epoch that was given to keys: every pair of them has another.
    pub(crate) epoch: u32,
    pub(crate) closed: bool,
}

impl Office {
    pub(crate) fn next_order(&mut self) -> u64 {
        self.order += 1;
        self.order
    }

    /// An epoch that no key ever had.
    pub(crate) fn next_epoch(&mut self) -> u32 {
        self.epoch = self.epoch.saturating_add(1);
        self.epoch
    }

    /// Puts a letter into its mailbox; it comes back if there is none.
    pub(crate) fn deliver(&mut self, slot: Slot, letter: Letter) -> Result<(), Letter> {
        let to = letter.identity.to;
        let Some(mailbox) = self.boxes.get_mut(&to) else { return Err(letter) };
        self.timers.insert((letter.identity.expires_at, to, Some(slot)));
        self.receipts.wait(letter.id(), letter.identity, slot);
        self.windows.entry((to, letter.identity.from)).or_default().wait(letter.identity.sequence);
        mailbox.letters.insert(slot, letter);
        Ok(())
    }

    /// Takes a letter out of its mailbox.
    pub(crate) fn take(&mut self, to: AgentId, slot: Slot) -> Option<Letter> {
        let letter = self.boxes.get_mut(&to)?.letters.remove(&slot)?;
        self.timers.remove(&(letter.identity.expires_at, to, Some(slot)));
        if let Some(until) = letter.away_until {
            self.timers.remove(&(until, to, Some(slot)));
        }
        Some(letter)
    }

    /// Remembers how a message ended.
    pub(crate) fn end(
        &mut self,
        id: MessageId,
        identity: Identity,
        status: DeliveryStatus,
        at: SystemTime,
    ) {
        self.receipts.end(id, identity, status, at);
        self.withdraw(identity);
    }

    /// The message does not wait any more, or never came to.
    pub(crate) fn withdraw(&mut self, identity: Identity) {
        let pair = (identity.to, identity.from);
        if let Some(window) = self.windows.get_mut(&pair) {
            window.leave(identity.sequence);
            if window.is_empty() {
                self.windows.remove(&pair);
            }
        }
    }

    /// Forgets receipts that need not be remembered; a few at a time, so that nobody waits for it.
    /// Those that would still be needed, but for which there is no room among `most`, go into the
    /// windows, which come back too.
    pub(crate) fn forget_old(
        &mut self,
        now: SystemTime,
        most: usize,
    ) -> (Vec<MessageId>, HashSet<(AgentId, AgentId)>) {
        let mut forgotten = Vec::new();
        let mut folded = HashSet::new();
        while forgotten.len() < 16
            && let Some((id, identity)) = self.receipts.pop_old(now, most)
        {
            forgotten.push(id);
            if now < identity.expires_at {
                let pair = (identity.to, identity.from);
                let window = self.windows.entry(pair).or_default();
                window.fold(identity.sequence, identity.expires_at);
                folded.insert(pair);
            }
        }
        (forgotten, folded)
    }

    /// Puts a letter among the dead ones; its number there, and the letters that had to make room.
    pub(crate) fn bury(
        &mut self,
        letter: Letter,
        cause: DeadCause,
        now: SystemTime,
        room: usize,
    ) -> (u64, Vec<DeadLetter>) {
        self.end(letter.id(), letter.identity, cause.status(), now);
        let order = self.next_order();
        self.dead.push_back(DeadLetter { message: letter.sealed, cause, at: now, order });
        let excess = self.dead.len().saturating_sub(room);
        (order, self.dead.drain(..excess).collect())
    }

    pub(crate) fn waiting(&self) -> usize {
        self.boxes.values().map(|mailbox| mailbox.letters.len()).sum()
    }
}

impl DeadCause {
    pub(crate) fn status(self) -> DeliveryStatus {
        match self {
            Self::Expired => DeliveryStatus::Expired,
            Self::ReceiverGone
            | Self::AttemptsExhausted
            | Self::BadSignature
            | Self::OutcomeUnknown => DeliveryStatus::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = REMEMBERED;

    fn identity(from: AgentId, to: AgentId, sequence: u64, ttl: Duration) -> Identity {
        let expires_at = SystemTime::UNIX_EPOCH + ttl;
        Identity { from, to, sequence, print: [sequence, 0], expires_at }
    }

    /// Ends `count` messages at the beginning of time, which live for `ttl`; how many of them are
    /// remembered at `now`, with room for `most`, and the ranges of the window.
    #[track_caller]
    fn check(count: u64, ttl: Duration, now: Duration, most: usize, want: (usize, &[(u64, u64)])) {
        let (from, to) = (AgentId::new(), AgentId::new());
        let mut office = Office::default();
        for sequence in 1..=count {
            let identity = identity(from, to, sequence, ttl);
            office.windows.entry((to, from)).or_default().wait(sequence);
            let (at, status) = (SystemTime::UNIX_EPOCH, DeliveryStatus::Delivered);
            office.end(MessageId::new(), identity, status, at);
        }
        office.forget_old(SystemTime::UNIX_EPOCH + now, most);
        let remembered = office.receipts.by_id.len();
        assert_eq!(remembered, office.receipts.ended.len());
        let window = office.windows.get(&(to, from));
        assert_eq!((remembered, window.map_or(&[][..], Window::ranges)), want);
    }

    #[test]
    fn a_receipt_is_kept_for_a_day_and_until_its_message_would_have_expired() {
        check(3, DAY / 2, DAY / 2, 10, (3, &[]));
        check(3, DAY / 2, DAY, 10, (0, &[]));
        check(3, DAY * 7, DAY * 2, 10, (3, &[]));
        check(3, DAY * 7, DAY * 7, 10, (0, &[]));
    }

    #[test]
    fn a_receipt_without_room_goes_into_the_window_while_its_message_could_still_be_copied() {
        check(5, DAY * 7, DAY, 2, (2, &[(0, 3)]));
        check(5, DAY / 2, DAY * 3 / 4, 2, (2, &[]));
        check(40, DAY * 7, DAY, 2, (24, &[(0, 16)]));
    }

    #[test]
    fn a_message_that_waits_again_is_not_forgotten_with_its_old_receipt() {
        let (from, to) = (AgentId::new(), AgentId::new());
        let (id, identity) = (MessageId::new(), identity(from, to, 1, DAY));
        let mut office = Office::default();
        office.end(id, identity, DeliveryStatus::Delivered, SystemTime::UNIX_EPOCH);
        office.receipts.wait(id, identity, (Reverse(Priority::Normal), 1));
        let (forgotten, _) = office.forget_old(SystemTime::UNIX_EPOCH + DAY * 9, 0);
        assert_eq!((forgotten.len(), office.receipts.ended.len()), (0, 0));
        assert_eq!(office.receipts.get(id).map(|it| it.status), Some(DeliveryStatus::Pending));
    }
}
