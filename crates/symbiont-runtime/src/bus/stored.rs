//! Mail as it is kept: a JSON head with its length in front, the signature, the sealed payload.
//!
//! When a letter expires is not kept: it follows from its time and its time to live, which are signed.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use symbiont_store::StoreError;
use symbiont_types::{
    AgentId, Capability, DeliveryStatus, Message, MessageId, Priority, SecureMessage,
};

use super::mailbox::{DeadCause, Identity, Print};
use crate::clock::{from_micros, micros};

/// The head of a kept message.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    id: MessageId,
    from: AgentId,
    to: AgentId,
    topic: String,
    priority: Priority,
    ttl: Duration,
    at: i64,
    print: Print,
    /// Among the dead letters: why, and since when.
    dead: Option<(DeadCause, i64)>,
    signature: usize,
    /// The plain payload of a message that is not encrypted.
    plain: usize,
}

/// A message as it was kept.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) sealed: SecureMessage,
    pub(crate) print: Print,
    pub(crate) dead: Option<(DeadCause, SystemTime)>,
}

/// The bytes of a message.
pub(crate) fn encode(
    sealed: &SecureMessage,
    print: Print,
    dead: Option<(DeadCause, SystemTime)>,
) -> Vec<u8> {
    let Message { id, from, to, ref topic, ref payload, priority, ttl } = sealed.message;
    let head = Head {
        id,
        from,
        to,
        topic: topic.clone(),
        priority,
        ttl,
        at: micros(sealed.timestamp),
        print,
        dead: dead.map(|(cause, at)| (cause, micros(at))),
        signature: sealed.signature.len(),
        plain: payload.len(),
    };
    let head = serde_json::to_vec(&head).expect("a head is plain data");
    let length = u32::try_from(head.len()).expect("a topic has at most 1 KiB");
    [&length.to_be_bytes()[..], &head, &sealed.signature, payload, &sealed.encrypted_payload]
        .concat()
}

/// The message of these bytes.
pub(crate) fn decode(bytes: &[u8]) -> Result<Kept, StoreError> {
    let damaged = || StoreError::Corrupted { reason: "a kept message is cut short".to_owned() };
    let (length, rest) = bytes.split_at_checked(4).ok_or_else(damaged)?;
    let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
    let (head, rest) = rest.split_at_checked(length).ok_or_else(damaged)?;
    let head: Head = serde_json::from_slice(head)
        .map_err(|error| StoreError::Corrupted { reason: format!("a kept message: {error}") })?;
    let (signature, rest) = rest.split_at_checked(head.signature).ok_or_else(damaged)?;
    let (payload, encrypted_payload) = rest.split_at_checked(head.plain).ok_or_else(damaged)?;
    Ok(Kept {
        sealed: SecureMessage {
            message: Message {
                id: head.id,
                from: head.from,
                to: head.to,
                topic: head.topic,
                payload: payload.to_vec(),
                priority: head.priority,
                ttl: head.ttl,
            },
            signature: signature.to_vec(),
            encrypted_payload: encrypted_payload.to_vec(),
            timestamp: from_micros(head.at),
        },
        print: head.print,
        dead: head.dead.map(|(cause, at)| (cause, from_micros(at))),
    })
}

/// Who is registered.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Registration {
    pub(crate) capabilities: Vec<Capability>,
    pub(crate) epoch: u32,
    pub(crate) sealed_keys: Vec<u8>,
    pub(crate) leaves_at: Option<i64>,
}

/// What is known of a message: while it waits, how often it was handed over; then, how it ended.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Receipt {
    pub(crate) status: DeliveryStatus,
    pub(crate) at: i64,
    pub(crate) attempts: u32,
    from: AgentId,
    to: AgentId,
    sequence: u64,
    print: Print,
    expires_at: i64,
}

impl Receipt {
    pub(crate) fn of(
        identity: Identity,
        status: DeliveryStatus,
        at: SystemTime,
        attempts: u32,
    ) -> Self {
        let Identity { from, to, sequence, print, expires_at } = identity;
        let (at, expires_at) = (micros(at), micros(expires_at));
        Self { status, at, attempts, from, to, sequence, print, expires_at }
    }

    pub(crate) fn identity(&self) -> Identity {
        let &Self { from, to, sequence, print, .. } = self;
        Identity { from, to, sequence, print, expires_at: from_micros(self.expires_at) }
    }
}

/// Ranges of the numbers of messages that have ended; the first and the last of each.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Window {
    pub(crate) ended: Vec<(u64, u64)>,
    pub(crate) until: i64,
}

/// The key of a window: the receiver, then the sender.
pub(crate) fn window_key(receiver: AgentId, sender: AgentId) -> Vec<u8> {
    [&receiver.as_uuid().as_bytes()[..], sender.as_uuid().as_bytes()].concat()
}

/// The receiver and the sender in the key of a window.
pub(crate) fn pair_of(key: &[u8]) -> Option<(AgentId, AgentId)> {
    let (receiver, sender) = key.split_at_checked(16)?;
    let agent = |bytes| uuid::Uuid::from_slice(bytes).ok().map(AgentId::from);
    Some((agent(receiver)?, agent(sender)?))
}

/// What is kept about a mailbox, each in a row of its own because they change independently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aspect {
    /// Its [`Registration`].
    Registration,
    /// The epoch of its key that the trail has.
    Listed,
    /// The block of sequence numbers that its owner uses.
    Numbers,
}

impl Aspect {
    pub(crate) const ALL: [Self; 3] = [Self::Registration, Self::Listed, Self::Numbers];

    pub(crate) fn key(self, agent: AgentId) -> Vec<u8> {
        let agent = agent.as_uuid().as_bytes();
        let suffix: &[u8] = match self {
            Self::Registration => b"",
            Self::Listed => b"l",
            Self::Numbers => b"n",
        };
        [&agent[..], suffix].concat()
    }

    /// Of whom a row is, and which.
    pub(crate) fn of(key: &[u8]) -> Option<(AgentId, Self)> {
        let (agent, _) = key.split_at_checked(16)?;
        let agent = AgentId::from(uuid::Uuid::from_slice(agent).ok()?);
        Self::ALL.into_iter().find(|aspect| aspect.key(agent) == key).map(|aspect| (agent, aspect))
    }
}

/// The key of a letter: its receiver, then its order.
pub(crate) fn mail_key(to: AgentId, order: u64) -> Vec<u8> {
    [&to.as_uuid().as_bytes()[..], &order.to_be_bytes()].concat()
}

/// The order in a letter's key.
pub(crate) fn order_of(key: &[u8]) -> u64 {
    key.last_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The key of a subscription: the topic, a zero byte, the subscriber.
pub(crate) fn topic_key(topic: &str, agent: Option<AgentId>) -> Vec<u8> {
    let mut key = topic.as_bytes().to_vec();
    key.push(0);
    if let Some(agent) = agent {
        key.extend_from_slice(agent.as_uuid().as_bytes());
    }
    key
}

/// The topic and the subscriber in a key.
pub(crate) fn topic_of(key: &[u8]) -> Option<(String, Option<AgentId>)> {
    let end = key.iter().position(|byte| *byte == 0)?;
    let topic = String::from_utf8(key[..end].to_vec()).ok()?;
    let agent = uuid::Uuid::from_slice(&key[end + 1..]).ok().map(AgentId::from);
    Some((topic, agent))
}
