//! Each record vouches for the one before it.
//!
//! A record's hash is SHA-256 over a domain tag, the hash of the record before it, its number, the
//! time at which it was taken in, and every field of its content, each with its length in front.
//! Changing, removing or moving a record changes every hash after it.

use aws_lc_rs::digest::{SHA256, digest};
use symbiont_store::{Hash, Micros, Record, StoredRecord};
use symbiont_types::AuditEvent;

use crate::clock::micros;

/// Names what is hashed and the version of its layout.
const DOMAIN: &[u8] = b"symbiont audit record v1\0";

/// The hash of a record. The store calls this for each record that it appends.
pub(crate) fn seal(prev: &Hash, sequence: u64, ingested_at: Micros, record: &Record) -> Hash {
    let texts =
        [&record.event_type, &record.kind, &record.actor, &record.correlation, &record.details];
    let metadata = &record.metadata;
    let size: usize = texts.into_iter().map(String::len).sum::<usize>()
        + metadata.iter().map(|(key, value)| key.len() + value.len() + 16).sum::<usize>();
    // All that has one size, with room to spare; one call hashes faster than many.
    let mut fields = Fields(Vec::with_capacity(size + 256));
    fields.raw(DOMAIN);
    fields.raw(prev);
    fields.raw(&sequence.to_be_bytes());
    fields.raw(&ingested_at.to_be_bytes());
    fields.raw(record.id.as_bytes());
    fields.raw(&record.at.to_be_bytes());
    fields.text(&record.event_type);
    fields.text(&record.kind);
    match record.agent_id {
        Some(agent_id) => fields.field(agent_id.as_bytes()),
        None => fields.field(&[]),
    }
    fields.text(&record.actor);
    fields.text(&record.correlation);
    fields.text(&record.details);
    fields.raw(&(metadata.len() as u64).to_be_bytes());
    for (key, value) in metadata {
        fields.text(key);
        fields.text(value);
    }
    digest(&SHA256, &fields.0).as_ref().try_into().expect("SHA-256 gives 32 bytes")
}

/// Whether the record is what was hashed when it was appended.
pub(crate) fn is_whole(stored: &StoredRecord) -> bool {
    seal(&stored.prev_hash, stored.sequence, stored.ingested_at, &stored.record) == stored.leaf_hash
}

struct Fields(Vec<u8>);

impl Fields {
    fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
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
pub(crate) fn record(event: AuditEvent) -> Record {
    let correlation: Vec<String> = CORRELATED
        .iter()
        .filter_map(|key| event.metadata.get(*key).map(|id| format!("{key}:{id}")))
        .collect();
    Record {
        id: event.id.into(),
        at: micros(event.timestamp),
        event_type: format!("{:?}", event.event_type),
        kind: event.metadata.get("kind").cloned().unwrap_or_default(),
        agent_id: event.agent_id.map(Into::into),
        actor: event.metadata.get("actor").cloned().unwrap_or_else(|| {
            event.agent_id.map_or_else(|| "system".to_owned(), |id| format!("agent:{id}"))
        }),
        correlation: correlation.join(" "),
        details: event.details,
        metadata: event.metadata.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::audit::hex;

    #[test]
    fn the_hash_is_the_one_that_kept_trails_have() {
        let record = Record {
            id: uuid::Uuid::from_u128(7),
            at: -5,
            event_type: "SecurityEvent".to_owned(),
            kind: "test.event".to_owned(),
            agent_id: Some(uuid::Uuid::from_u128(8)),
            actor: "system".to_owned(),
            correlation: "run:1 task:2".to_owned(),
            details: "ö".to_owned(),
            metadata: BTreeMap::from([("kind".to_owned(), "test.event".to_owned())]),
        };
        let bare = Record { agent_id: None, metadata: BTreeMap::new(), ..record.clone() };
        assert_eq!(
            [seal(&[1; 32], 3, 4, &record), seal(&[1; 32], 3, 4, &bare)].map(|hash| hex(&hash)),
            [
                "9d7cbacd119953ebb01f60e913a037c2e055f3d3ce68b4e780336ab17a197278",
                "7ae9922b6600937a69d551cd07cba4bd1aa625d7b7da0b97b3595a82fe098838",
            ]
        );
    }
}
