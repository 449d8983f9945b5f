//! The end of the log, and how the next record is joined to it.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::{Hash, Head, Micros, Record, Seal};

/// Where the log ends: all that is needed to append to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) head: Head,
    /// When the last record was taken in.
    pub(crate) ingested_at: Micros,
}

/// What the store adds to a record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    pub(crate) sequence: u64,
    pub(crate) ingested_at: Micros,
    pub(crate) prev_hash: Hash,
    pub(crate) leaf_hash: Hash,
}

impl End {
    /// The end of a log without records.
    pub(crate) const EMPTY: Self =
        Self { head: Head { sequence: 0, hash: [0; 32] }, ingested_at: Micros::MIN };

    /// Joins `record`, which came at `now`, to the log. The times of records never go backwards,
    /// even when the clock does.
    pub(crate) fn append(&mut self, record: &Record, seal: Seal, now: Micros) -> Link {
        let prev_hash = self.head.hash;
        let sequence = self.head.sequence.saturating_add(1);
        let ingested_at = now.max(self.ingested_at);
        let leaf_hash = seal(&prev_hash, sequence, ingested_at, record);
        *self = Self { head: Head { sequence, hash: leaf_hash }, ingested_at };
        Link { sequence, ingested_at, prev_hash, leaf_hash }
    }
}

/// The time by the machine's clock.
pub(crate) fn now() -> Micros {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => Micros::try_from(since.as_micros()).unwrap_or(Micros::MAX),
        Err(before) => {
            Micros::try_from(before.duration().as_micros()).map_or(Micros::MIN, |micros| -micros)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use uuid::Uuid;

    use super::*;

    #[test]
    fn times_of_records_never_go_backwards() {
        let record = Record {
            id: Uuid::nil(),
            at: 0,
            event_type: String::new(),
            kind: String::new(),
            agent_id: None,
            actor: String::new(),
            correlation: String::new(),
            details: String::new(),
            metadata: BTreeMap::new(),
        };
        let seal: Seal = |prev, sequence, at, _| {
            let mut hash = *prev;
            hash[0] = hash[0].wrapping_add(1);
            hash[8..16].copy_from_slice(&sequence.to_be_bytes());
            hash[16..24].copy_from_slice(&at.to_be_bytes());
            hash
        };
        let mut end = End::EMPTY;
        let clock = [-5, 10, 7, 10, i64::MIN, 11];
        let links: Vec<Link> = clock.iter().map(|now| end.append(&record, seal, *now)).collect();
        let times: Vec<Micros> = links.iter().map(|link| link.ingested_at).collect();
        assert_eq!(times, [-5, 10, 10, 10, 10, 11]);
        for (before, after) in links.iter().zip(&links[1..]) {
            assert_eq!(after.prev_hash, before.leaf_hash);
            assert_eq!(after.sequence, before.sequence + 1);
        }
        assert_eq!(end.head, Head { sequence: 6, hash: links[5].leaf_hash });
    }
}
