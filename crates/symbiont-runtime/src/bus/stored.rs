//! Mail as it is kept: a JSON head with its length in front, the signature, the sealed payload.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use symbiont_store::StoreError;
use symbiont_types::{
    AgentId, Capability, DeliveryStatus, Message, MessageId, Priority, SecureMessage,
};

use super::mailbox::DeadCause;
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
    expires_at: i64,
    attempts: u32,
    cause: Option<DeadCause>,
    signature: usize,
    /// The plain payload of a message that is not encrypted.
    plain: usize,
}

/// A message as it was kept.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) sealed: SecureMessage,
    pub(crate) expires_at: SystemTime,
    pub(crate) attempts: u32,
    pub(crate) cause: Option<DeadCause>,
}

/// The bytes of a message.
pub(crate) fn encode(
    sealed: &SecureMessage,
    expires_at: SystemTime,
    attempts: u32,
    cause: Option<DeadCause>,
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
        expires_at: micros(expires_at),
        attempts,
        cause,
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
        expires_at: from_micros(head.expires_at),
        attempts: head.attempts,
        cause: head.cause,
    })
}

/// Who is registered.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Registration {
    pub(crate) capabilities: Vec<Capability>,
    pub(crate) epoch: u32,
    pub(crate) sealed_keys: Vec<u8>,
    pub(crate) sequence: u64,
    pub(crate) leaves_at: Option<i64>,
}

/// What became of a message.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) status: DeliveryStatus,
    pub(crate) at: i64,
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
