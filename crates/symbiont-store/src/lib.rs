//! The disk of the runtime: what is committed here survives `kill -9`.
//!
//! A [`Store`] holds tables of keys and values, and one chained log. A [`Batch`] changes both in
//! one step: all of it is there afterwards, or none of it. Two implementations pass the same
//! conformance tests: [`SqliteStore`], which keeps everything in one SQLite file, and
//! [`MemoryStore`], which keeps it for as long as the process lives.
//!
//! # What holds
//!
//! - `commit` returns when the batch is durable (in SQLite: fsynced), in the order of the calls.
//! - Batches that wait at the same moment share one transaction and one fsync (group commit).
//! - Log records are numbered from 1 without gaps, and each is sealed over the one before it by the
//!   [`Seal`] that the store was opened with.
//! - One process holds a directory; a reader may look on without the lock.
//!
//! # What is not here
//!
//! No meaning: which tables there are, what their values say and what a record is about is decided
//! by the caller.

#![warn(missing_docs)]

mod durations;
mod error;
mod log;
mod matcher;
mod memory;
mod rules;
mod sqlite;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

pub use error::StoreError;
pub use memory::MemoryStore;
pub use sqlite::{SqliteReader, SqliteStore};

/// A table, by name: lowercase letters and `_`. The tables of a store are named when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(pub &'static str);

/// Microseconds since 1970, UTC; negative before.
pub type Micros = i64;

/// A hash of 32 bytes.
pub type Hash = [u8; 32];

/// Computes the hash of a record from the hash of the record before it (zeros before the first),
/// its number, the time at which the store takes it in, and its content.
pub type Seal = fn(prev: &Hash, sequence: u64, ingested_at: Micros, record: &Record) -> Hash;

/// What goes into the log. The store keeps every field as it is given, in a column of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The record's id; the log has each once.
    pub id: Uuid,
    /// When it happened.
    pub at: Micros,
    /// What kind of thing happened.
    pub event_type: String,
    /// The finer kind; may be empty.
    pub kind: String,
    /// The subject, if there is one.
    pub agent_id: Option<Uuid>,
    /// Who did it.
    pub actor: String,
    /// Ids that this record shares with others, as JSON; may be empty.
    pub correlation: String,
    /// What happened.
    pub details: String,
    /// Further facts, sorted by key.
    pub metadata: BTreeMap<String, String>,
}

/// A record in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its number, from 1.
    pub sequence: u64,
    /// When the store took it in.
    pub ingested_at: Micros,
    /// The hash of the record before it.
    pub prev_hash: Hash,
    /// Its own hash.
    pub leaf_hash: Hash,
    /// Its content.
    pub record: Record,
}

/// The end of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// The number of the last record; 0 when there is none.
    pub sequence: u64,
    /// Its hash; zeros when there is none.
    pub hash: Hash,
}

/// A part of the log as it lies there, for whoever asks whether it is what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPage {
    /// The last of the oldest records that are no longer kept; number 0 when all of them are.
    pub gone: Head,
    /// The end of the log at the same moment.
    pub head: Head,
    /// When the record at the end was taken in, by what the store keeps apart from the records; the
    /// lowest time when there is none.
    pub head_ingested_at: Micros,
    /// The rows in the order of their numbers, those among them that nobody wrote here included.
    pub rows: Vec<LogRow>,
}

/// A row of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRow {
    /// Its number, which may be one that the store never gives: records are numbered from 1.
    pub number: i64,
    /// The record, or why it is none.
    pub record: Result<StoredRecord, String>,
}

/// Changes that happen together or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Conditions that have to hold, or the whole batch is refused with [`StoreError::Conflict`].
    pub absent: Vec<(Table, Vec<u8>)>,
    /// Changes of tables, in order: a value to set, or `None` to remove the key.
    pub changes: Vec<(Table, Vec<u8>, Option<Vec<u8>>)>,
    /// Records to append, in order.
    pub records: Vec<Record>,
}

impl Batch {
    /// No changes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to `value`.
    #[must_use]
    pub fn put(mut self, table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        self.changes.push((table, key.into(), Some(value.into())));
        self
    }

    /// Removes `key`; one that is not there is fine.
    #[must_use]
    pub fn remove(mut self, table: Table, key: impl Into<Vec<u8>>) -> Self {
        self.changes.push((table, key.into(), None));
        self
    }

    /// Requires that `key` is not there before this batch.
    #[must_use]
    pub fn require_absent(mut self, table: Table, key: impl Into<Vec<u8>>) -> Self {
        self.absent.push((table, key.into()));
        self
    }

    /// Appends `record`.
    #[must_use]
    pub fn record(mut self, record: Record) -> Self {
        self.records.push(record);
        self
    }

    /// Everything of `other` after everything of this one.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.absent.extend(other.absent);
        self.changes.extend(other.changes);
        self.records.extend(other.records);
        self
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.absent.is_empty() && self.changes.is_empty() && self.records.is_empty()
    }
}

/// Which records are wanted. Empty lists and `None` mean no restriction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordQuery {
    /// From this number.
    pub first_sequence: Option<u64>,
    /// Up to this number, inclusive.
    pub last_sequence: Option<u64>,
    /// Not before this time of the event.
    pub from: Option<Micros>,
    /// Before this time of the event.
    pub to: Option<Micros>,
    /// Of these types.
    pub event_types: Vec<String>,
    /// Of these kinds; a `*` at the end stands for any text.
    pub kinds: Vec<String>,
    /// About these subjects.
    pub agent_ids: Vec<Uuid>,
    /// By this actor.
    pub actor: Option<String>,
    /// With this text in `correlation`, to the letter.
    pub correlation: Option<String>,
    /// With this text in `details`, ASCII case aside.
    pub text: Option<String>,
    /// With these values in `metadata`.
    pub metadata: BTreeMap<String, String>,
    /// The oldest first, rather than the newest.
    pub oldest_first: bool,
    /// At most so many.
    pub limit: usize,
}

/// How a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreStatus {
    /// `sqlite` or `memory`.
    pub backend: &'static str,
    /// Where it is, in words.
    pub location: String,
    /// Bytes on disk, or held.
    pub size: u64,
    /// The 99th percentile of the time that the last 1,024 transactions took to be durable, once
    /// there were some.
    pub commit_p99: Option<Duration>,
    /// How many transactions were committed since it was opened. Batches that waited together share
    /// one, so this grows more slowly than the number of commits when the store is busy.
    pub transactions: u64,
    /// The end of the log, as the store keeps it apart from the records: a record that is missing
    /// before it was taken away.
    pub head: Head,
    /// How often the store has been opened for writing.
    pub epoch: u64,
}

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The tables it has.
    pub tables: Vec<Table>,
    /// How log records are sealed.
    pub seal: Seal,
    /// Most commits that may wait for the writer; a further one waits for room.
    pub queue: usize,
    /// Most records that a store in memory keeps, one at least: the oldest go. A store on disk
    /// keeps all.
    pub kept_records: usize,
}

/// Where state is kept.
#[async_trait]
pub trait Store: std::fmt::Debug + Send + Sync + 'static {
    /// Makes all changes of `batch`, or none. Returns the end of the log after its last record.
    ///
    /// Dropping the future does not take back a batch that is waiting for the writer.
    ///
    /// # Errors
    ///
    /// `Conflict` when a key that must be absent is there, `DuplicateRecord` when a record's id is
    /// in the log already, `TooLarge`, `Full`, `Closed`, `UnknownTable`, `ReadOnly`, `Io`,
    /// `Corrupted`.
    async fn commit(&self, batch: Batch) -> Result<Head, StoreError>;

    /// The value of `key`.
    ///
    /// # Errors
    ///
    /// `Closed`, `UnknownTable`, `Io`, `Corrupted`.
    async fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Up to `limit` keys of `table` that begin with `prefix`, in order of their bytes, after
    /// `after` if it is given, with their values.
    ///
    /// # Errors
    ///
    /// `Closed`, `UnknownTable`, `Io`, `Corrupted`.
    async fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError>;

    /// The rows of the records that `query` asks for, up to the end of the log, and of those that can't
    /// be read and may be among them. What lies elsewhere is no record; [`Store::log`] shows it.
    ///
    /// # Errors
    ///
    /// `Closed`, `Io`, `Corrupted`.
    async fn rows(&self, query: &RecordQuery) -> Result<Vec<LogRow>, StoreError>;

    /// [`Store::rows`], all of which have to be records.
    ///
    /// # Errors
    ///
    /// `DamagedRecord` when one that is looked at can't be read; `Closed`, `Io`, `Corrupted`.
    async fn records(&self, query: &RecordQuery) -> Result<Vec<StoredRecord>, StoreError> {
        let damaged = |number: i64, reason| StoreError::DamagedRecord {
            sequence: u64::try_from(number).unwrap_or(0),
            reason,
        };
        let rows = self.rows(query).await?.into_iter();
        rows.map(|row| row.record.map_err(|reason| damaged(row.number, reason))).collect()
    }

    /// Up to `limit` rows of the log from number `from` on, whatever their numbers and whatever is
    /// in them, and the log's ends at the same moment. There may be fewer when they are large; when
    /// there are none, there are no more.
    ///
    /// # Errors
    ///
    /// `Closed`, `Io`, `Corrupted`.
    async fn log(&self, from: i64, limit: usize) -> Result<LogPage, StoreError>;

    /// The record with this id.
    ///
    /// # Errors
    ///
    /// `DamagedRecord` when it can't be read; `Closed`, `Io`, `Corrupted`.
    async fn record(&self, id: Uuid) -> Result<Option<StoredRecord>, StoreError>;

    /// What is wrong with the log apart from its rows, in words: an index that does not have all of
    /// them, so that a query by it would leave records out. It reads the whole log.
    ///
    /// # Errors
    ///
    /// `Closed`, `Io`, `Corrupted`.
    async fn faults(&self) -> Result<Vec<String>, StoreError>;

    /// How the store is.
    ///
    /// # Errors
    ///
    /// `Closed`, `Io`, `Corrupted`.
    async fn status(&self) -> Result<StoreStatus, StoreError>;

    /// Commits what is waiting, then takes nothing more. May be called twice.
    ///
    /// # Errors
    ///
    /// `Io`.
    async fn close(&self) -> Result<(), StoreError>;
}

/// Where a directory's store file is.
pub fn file_in(directory: &std::path::Path) -> PathBuf {
    directory.join("symbiont.db")
}
