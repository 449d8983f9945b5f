//! The audit trail: what happened, and whether the record of it is whole.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::{AgentId, AuditId};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvent {
    /// The record's id.
    pub id: AuditId,
    /// When it happened, by whoever reports it; the trail orders by its own sequence.
    pub timestamp: SystemTime,
    /// What kind of thing.
    pub event_type: AuditEventType,
    /// Which agent it is about, if one.
    pub agent_id: Option<AgentId>,
    /// What happened, in words or as JSON.
    pub details: String,
    /// Further facts. `kind` is the finer type, such as `policy.decision`.
    pub metadata: HashMap<String, String>,
}

/// Kinds of audit event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AuditEventType {
    /// An agent was created.
    AgentCreated,
    /// An agent started, or a run of it did.
    AgentStarted,
    /// An agent stopped, or a run of it ended.
    AgentStopped,
    /// An agent ended for good.
    AgentTerminated,
    /// Resources were promised.
    ResourceAllocated,
    /// Resources were given back.
    ResourceDeallocated,
    /// A message was accepted.
    MessageSent,
    /// A message was handed over.
    MessageReceived,
    /// Something failed.
    ErrorOccurred,
    /// A policy denied something.
    PolicyViolation,
    /// Keys, trust, sandboxes and decisions.
    SecurityEvent,
}

impl AuditEventType {
    /// Every type.
    pub const ALL: [Self; 11] = [
        Self::AgentCreated,
        Self::AgentStarted,
        Self::AgentStopped,
        Self::AgentTerminated,
        Self::ResourceAllocated,
        Self::ResourceDeallocated,
        Self::MessageSent,
        Self::MessageReceived,
        Self::ErrorOccurred,
        Self::PolicyViolation,
        Self::SecurityEvent,
    ];
}

/// In which order a query answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum AuditOrder {
    /// The newest record first.
    #[default]
    NewestFirst,
    /// The oldest record first.
    OldestFirst,
}

/// Which records are wanted. Empty lists and `None` mean no restriction; the default asks for the
/// newest 1,000.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditQuery {
    /// Not before this event time.
    pub from: Option<SystemTime>,
    /// Before this event time.
    pub to: Option<SystemTime>,
    /// Of these types.
    pub event_types: Vec<AuditEventType>,
    /// About these agents.
    pub agent_ids: Vec<AgentId>,
    /// With one of these as `metadata["kind"]`; a `*` at the end stands for any text.
    pub kinds: Vec<String>,
    /// By this actor.
    pub actor: Option<String>,
    /// With this id among its correlations (run, task, message).
    pub correlation: Option<String>,
    /// With this text in its details, whatever the case.
    pub text: Option<String>,
    /// With these values in its metadata.
    pub metadata: HashMap<String, String>,
    /// From this sequence number.
    pub first_sequence: Option<u64>,
    /// Up to this sequence number, inclusive.
    pub last_sequence: Option<u64>,
    /// In which order.
    pub order: AuditOrder,
    /// At most so many; `None` is 1,000, the most is 100,000.
    pub limit: Option<usize>,
}

/// The outcome of verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Verdict {
    /// Every record is what it was when it was written, and none is missing.
    Intact,
    /// Some record was changed, removed or moved.
    Tampered,
    /// Some records could not be looked at.
    Incomplete,
    /// There is nothing to verify against.
    Unverifiable,
}

/// What is wrong at one place of the trail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FindingKind {
    /// The record is not what was hashed.
    HashMismatch,
    /// The record is not there.
    MissingSequence,
    /// The record does not follow the one before it.
    Reordered,
    /// A checkpoint's signature is wrong.
    BadCheckpointSignature,
    /// The tree's root is not what the checkpoint says.
    RootMismatch,
    /// Records at the end are gone.
    TruncatedTail,
    /// The record was written at an earlier time than the one before it.
    ClockRegression,
    /// A signature is by a key that nobody knows.
    UnknownKey,
    /// No anchor outside the trail vouches for its end.
    UnanchoredTail,
    /// Records were removed by retention, with a proof.
    PrunedRange,
}

impl FindingKind {
    /// Whether it says that the trail is not what was written. The others are only to be known.
    pub fn is_damage(self) -> bool {
        match self {
            Self::HashMismatch
            | Self::MissingSequence
            | Self::Reordered
            | Self::BadCheckpointSignature
            | Self::RootMismatch
            | Self::TruncatedTail
            | Self::ClockRegression
            | Self::UnknownKey => true,
            Self::UnanchoredTail | Self::PrunedRange => false,
        }
    }
}

/// One finding of verification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub sequence: u64,
    /// What.
    pub kind: FindingKind,
    /// In words.
    pub detail: String,
}

/// What verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntegrityReport {
    /// The range asked for, from.
    pub from: SystemTime,
    /// The range asked for, to.
    pub to: SystemTime,
    /// The first record looked at.
    pub first_sequence: Option<u64>,
    /// The last record looked at.
    pub last_sequence: Option<u64>,
    /// How many were looked at.
    pub events_checked: u64,
    /// The outcome.
    pub verdict: Verdict,
    /// What is wrong or worth knowing, at most 1,000 of each verification.
    pub findings: Vec<Finding>,
    /// Records in the whole trail.
    pub tree_size: u64,
    /// The hash that vouches for all of them, in hexadecimal.
    pub root_hash: String,
    /// Anchors outside the trail that were checked, in words.
    pub anchors: Vec<String>,
    /// Where the trail is, in words.
    pub origin: String,
    /// How long it took.
    pub duration: Duration,
}

/// A format for exported records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ExportFormat {
    /// One JSON document.
    Json,
    /// A JSON object a line, closed by a receipt.
    JsonLines,
    /// RFC 4180, guarded against formulas, closed by a receipt.
    Csv,
    /// ArcSight's Common Event Format.
    Cef,
    /// Open Cybersecurity Schema Framework.
    Ocsf,
    /// CNCF CloudEvents.
    CloudEvents,
    /// JSON Lines with proofs, checkpoints and keys, verifiable by itself.
    Bundle,
}
