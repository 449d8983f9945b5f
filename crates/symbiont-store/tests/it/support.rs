//! What the tests share.

use std::collections::BTreeMap;
use std::path::Path;

use symbiont_store::{
    Batch, Hash, Head, MemoryStore, Micros, Record, RecordQuery, Seal, SqliteReader, SqliteStore,
    Store, StoreOptions, StoredRecord, Table,
};
use tempfile::TempDir;
use uuid::Uuid;

pub(crate) const AGENTS: Table = Table("agents");
pub(crate) const TASKS: Table = Table("task_queue");

/// A seal in which every input counts: FNV-1a over all of it, four times with different starts.
/// It only has to tell inputs apart, not to resist anyone.
pub(crate) fn seal(prev: &Hash, sequence: u64, ingested_at: Micros, record: &Record) -> Hash {
    let content = format!("{prev:?} {sequence} {ingested_at} {record:?}");
    let mut hash = [0; 32];
    for (lane, bytes) in (0_u64..).zip(hash.chunks_mut(8)) {
        let mut state = 0xcbf2_9ce4_8422_2325 ^ lane;
        for byte in content.bytes() {
            state = (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        bytes.copy_from_slice(&state.to_be_bytes());
    }
    hash
}

pub(crate) fn options() -> StoreOptions {
    StoreOptions {
        tables: vec![AGENTS, TASKS],
        seal: seal as Seal,
        queue: 64,
        kept_records: usize::MAX,
    }
}

pub(crate) fn open(directory: &Path) -> SqliteStore {
    SqliteStore::open(directory, options()).expect("the store opens")
}

pub(crate) fn look(directory: &Path) -> SqliteReader {
    SqliteReader::open(directory).expect("the store opens for reading")
}

/// A store of each kind, with the directory it may need.
pub(crate) fn backends() -> Vec<(&'static str, Option<TempDir>, Box<dyn Store>)> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let sqlite = open(directory.path());
    vec![
        ("memory", None, Box::new(MemoryStore::new(options()))),
        ("sqlite", Some(directory), Box::new(sqlite)),
    ]
}

/// A record with the id `number` and plain content.
pub(crate) fn record(number: u128) -> Record {
    Record {
        id: Uuid::from_u128(number),
        at: 0,
        event_type: "AgentCreated".to_owned(),
        kind: "agent.created".to_owned(),
        agent_id: None,
        actor: "system".to_owned(),
        correlation: String::new(),
        details: String::new(),
        metadata: BTreeMap::new(),
    }
}

pub(crate) fn records(numbers: impl IntoIterator<Item = u128>) -> Batch {
    numbers.into_iter().fold(Batch::new(), |batch, number| batch.record(record(number)))
}

/// All records, the oldest first.
pub(crate) fn everything() -> RecordQuery {
    RecordQuery { oldest_first: true, limit: usize::MAX, ..RecordQuery::default() }
}

/// Checks that the log is numbered from 1 without gaps, that each record vouches for the one before
/// it, that time never goes backwards, and that the end is where `head` says. Returns the log.
pub(crate) async fn check_chain(store: &dyn Store, head: Head) -> Vec<StoredRecord> {
    let log = store.records(&everything()).await.expect("the log can be read");
    let mut before = Head::default();
    let mut time = Micros::MIN;
    for stored in &log {
        assert_eq!(stored.sequence, before.sequence + 1);
        assert_eq!(stored.prev_hash, before.hash, "record {}", stored.sequence);
        let hash = seal(&before.hash, stored.sequence, stored.ingested_at, &stored.record);
        assert_eq!(stored.leaf_hash, hash, "record {}", stored.sequence);
        assert!(stored.ingested_at >= time, "record {}", stored.sequence);
        time = stored.ingested_at;
        before = Head { sequence: stored.sequence, hash };
    }
    assert_eq!(before, head);
    assert_eq!(store.status().await.expect("a status").head, head);
    log
}
