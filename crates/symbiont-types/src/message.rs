//! Messages between agents, plain and sealed.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::{AgentId, MessageId, Priority};

/// What one agent says to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The message's id. One that was seen before is acknowledged and not delivered again.
    pub id: MessageId,
    /// Who says it; must be registered with the bus.
    pub from: AgentId,
    /// To whom; must be registered with the bus.
    pub to: AgentId,
    /// What it is about: 1 to 256 characters, no control characters.
    pub topic: String,
    /// The content, in whatever form the two have agreed on.
    pub payload: Vec<u8>,
    /// How urgent it is among the receiver's mail.
    pub priority: Priority,
    /// For how long it is worth delivering. Zero takes the bus's own time to live, which is also
    /// the most that any message gets.
    pub ttl: Duration,
}

/// A message as the bus keeps and delivers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecureMessage {
    /// The message. Its payload is there only in its receiver's hands; where an encrypted message
    /// is kept, it is empty.
    pub message: Message,
    /// A format byte and the sender's Ed25519 signature over the canonical header.
    pub signature: Vec<u8>,
    /// The payload encrypted for the receiver; empty when encryption is off.
    pub encrypted_payload: Vec<u8>,
    /// When the bus accepted it.
    pub timestamp: SystemTime,
}

/// How far a message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DeliveryStatus {
    /// Accepted, and in the receiver's mailbox.
    Pending,
    /// In the receiver's hands.
    Delivered,
    /// Not deliverable; it is among the dead letters with the cause.
    Failed,
    /// Its time to live passed before it was delivered; it is among the dead letters.
    Expired,
}
