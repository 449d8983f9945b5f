//! Each record vouches for the one before it.
//!
//! A record's hash is SHA-256 over a domain tag, the hash of the record before it, its number, the
//! time at which it was taken in, and every field of its content, each with its length in front.
//! Changing, removing or moving a record changes every hash after it.

use aws_lc_rs::digest::{Context, SHA256};
use symbiont_store::{Hash, Micros, Record, StoredRecord};
use symbiont_types::AuditEvent;

use crate::clock::micros;

/// Names what is hashed and the version of its layout.
const DOMAIN: &[u8] = b"symbiont audit record v1\0";

/// The hash of a record. The store calls this for each record that it appends.
pub(crate) fn seal(prev: &Hash, sequence: u64, ingested_at: Micros, record: &Record) -> Hash {
    let mut hasher = Fields(Context::new(&SHA256));
    hasher.raw(DOMAIN);
    hasher.raw(prev);
    hasher.raw(&sequence.to_be_bytes());
    hasher.raw(&ingested_at.to_be_bytes());
    hasher.raw(record.id.as_bytes());
    hasher.raw(&record.at.to_be_bytes());
    hasher.text(&record.event_type);
    hasher.text(&record.kind);
    match record.agent_id {
        Some(agent_id) => hasher.field(agent_id.as_bytes()),
        None => hasher.field(&[]),
    }
    hasher.text(&record.actor);
    hasher.text(&record.correlation);
    hasher.text(&record.details);
    hasher.raw(&(record.metadata.len() as u64).to_be_bytes());
    for (key, value) in &record.metadata {
        hasher.text(key);
        hasher.text(value);
    }
    hasher.0.finish().as_ref().try_into().expect("SHA-256 gives 32 bytes")
}

/// Whether the record is what was hashed when it was appended.
pub(crate) fn is_whole(stored: &StoredRecord) -> bool {
    seal(&stored.prev_hash, stored.sequence, stored.ingested_at, &stored.record) == stored.leaf_hash
}

struct Fields(Context);

impl Fields {
    fn raw(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn field(&mut self, bytes: &[u8]) {
        self.raw(&(bytes.len() as u64).to_be_bytes());
        self.raw(bytes);
    }

    fn text(&mut self, text: &str) {
        self.field(text.as_bytes());
    }
}

/// Keys of an event's metadata that become the record's correlation.
const CORRELATED: [&str; 5] = ["run", "task", "message", "sandbox", "request"];

/// The record of an event: `kind`, `actor` and the ids in its metadata get fields of their own.
pub(crate) fn record(event: &AuditEvent) -> Record {
    let text = |key: &str| event.metadata.get(key).cloned().unwrap_or_default();
    let correlation: Vec<String> = CORRELATED
        .iter()
        .filter_map(|key| event.metadata.get(*key).map(|id| format!("{key}:{id}")))
        .collect();
    Record {
        id: event.id.into(),
        at: micros(event.timestamp),
        event_type: format!("{:?}", event.event_type),
        kind: text("kind"),
        agent_id: event.agent_id.map(Into::into),
        actor: event.metadata.get("actor").cloned().unwrap_or_else(|| {
            event.agent_id.map_or_else(|| "system".to_owned(), |id| format!("agent:{id}"))
        }),
        correlation: correlation.join(" "),
        details: event.details.clone(),
        metadata: event.metadata.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
    }
}
