//! The one thread that writes, and the queue before it.
//!
//! While a transaction waits for its fsync, the batches of other callers gather in the queue; the
//! next transaction takes them together. So nobody waits on purpose, and the busier the store is,
//! the more batches share an fsync.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use rusqlite::{CachedStatement, Connection, ErrorCode, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use crate::durations::Durations;
use crate::log::{self, End, Link};
use crate::sqlite::failure;
use crate::sqlite::format::sql_name;
use crate::sqlite::lock::DirectoryLock;
use crate::sqlite::rows;
use crate::{Batch, Head, Record, Seal, StoreError, StoreOptions, Table, rules};

/// Most batches in one transaction.
const MOST_BATCHES: usize = 1_024;

/// A transaction takes no further batch when it has so many bytes.
const ENOUGH_BYTES: usize = 8 << 20;

/// How many pages may wait in the write-ahead log before they are moved into the file.
const MOST_PAGES: i64 = 4_000;

/// The write-ahead log is looked at after so many transactions, or so many bytes in them.
const LOOK_AFTER: (u32, usize) = (64, 4 << 20);

/// What the thread is told.
enum Order {
    Commit(Commit),
    /// Take nothing more.
    Close,
}

struct Commit {
    batch: Batch,
    /// The metadata of each record as it is kept: written by the callers, who are many.
    metadata: Vec<String>,
    size: usize,
    answer: oneshot::Sender<Result<Head, StoreError>>,
}

/// The other end of the thread's queue.
#[derive(Debug)]
pub(super) struct Writer {
    /// Gone only while this is dropped.
    queue: Option<mpsc::Sender<Order>>,
    thread: Option<JoinHandle<()>>,
    /// How it ended, once it has.
    ended: watch::Receiver<Option<Result<(), StoreError>>>,
}

impl Writer {
    pub(super) fn start(
        connection: Connection,
        lock: DirectoryLock,
        options: &StoreOptions,
        durations: Arc<Mutex<Durations>>,
    ) -> Result<Self, StoreError> {
        let (queue, orders) =
            mpsc::channel(options.queue.clamp(1, tokio::sync::Semaphore::MAX_PERMITS));
        let (report, ended) = watch::channel(None);
        let committer = Committer::new(connection, &options.tables, options.seal, durations)?;
        let thread = std::thread::Builder::new()
            .name("symbiont-store".to_owned())
            .spawn(move || {
                // Whoever learns of the end may open the store again, so the lock goes first, in a
                // panic as well.
                let report = report;
                let lock = lock;
                let result = committer.run(orders);
                drop(lock);
                report.send_replace(Some(result));
            })
            .map_err(|error| StoreError::Io {
                context: "start the thread that writes the store".to_owned(),
                reason: error.to_string(),
            })?;
        Ok(Self { queue: Some(queue), thread: Some(thread), ended })
    }

    pub(super) async fn commit(&self, batch: Batch, size: usize) -> Result<Head, StoreError> {
        let (answer, answered) = oneshot::channel();
        let metadata = written(&batch)?;
        self.send(Order::Commit(Commit { batch, metadata, size, answer })).await?;
        answered.await.unwrap_or_else(|_dropped| Err(ended_early()))
    }

    /// Waits until everything before it is committed and the file is closed.
    pub(super) async fn close(&self) -> Result<(), StoreError> {
        match self.send(Order::Close).await {
            // When it is closed already, the end has been reported or will be.
            Ok(()) | Err(_) => {}
        }
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(result) => result.clone().unwrap_or(Ok(())),
            Err(_dropped) => Err(ended_early()),
        }
    }

    async fn send(&self, order: Order) -> Result<(), StoreError> {
        let queue = self.queue.as_ref().ok_or(StoreError::Closed)?;
        queue.send(order).await.map_err(|_closed| StoreError::Closed)
    }
}

impl Drop for Writer {
    /// Lets the thread commit what waits and end, so that the directory is free afterwards.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes the store panicked");
        }
    }
}

/// The metadata of each record of `batch` as text.
fn written(batch: &Batch) -> Result<Vec<String>, StoreError> {
    let texts = batch.records.iter().map(|record| serde_json::to_string(&record.metadata));
    texts.collect::<Result<_, _>>().map_err(|error| StoreError::Io {
        context: "write the metadata of a record".to_owned(),
        reason: error.to_string(),
    })
}

fn ended_early() -> StoreError {
    StoreError::Io {
        context: "write to the store".to_owned(),
        reason: "its thread ended before it answered".to_owned(),
    }
}

/// The thread's side: a connection, and where the log ends.
struct Committer {
    connection: Connection,
    tables: HashMap<Table, TableWrites>,
    seal: Seal,
    end: End,
    durations: Arc<Mutex<Durations>>,
    /// Transactions, and bytes in them, since the write-ahead log was looked at.
    unlooked: (u32, usize),
}

/// The statements that change one table.
struct TableWrites {
    has: String,
    put: String,
    remove: String,
}

impl TableWrites {
    fn of(table: Table) -> Self {
        let name = sql_name(table.0);
        Self {
            has: format!("SELECT 1 FROM {name} WHERE key = ?1"),
            put: format!("REPLACE INTO {name} (key, value) VALUES (?1, ?2)"),
            remove: format!("DELETE FROM {name} WHERE key = ?1"),
        }
    }
}

impl Committer {
    fn new(
        connection: Connection,
        tables: &[Table],
        seal: Seal,
        durations: Arc<Mutex<Durations>>,
    ) -> Result<Self, StoreError> {
        connection.set_prepared_statement_cache_capacity(tables.len() * 3 + 8);
        let tables = tables.iter().map(|table| (*table, TableWrites::of(*table))).collect();
        let end = rows::read_state(&connection)?.end;
        check_end(end, rows::last_row(&connection)?)?;
        Ok(Self { connection, tables, seal, end, durations, unlooked: (0, 0) })
    }

    /// Carries out orders until the queue is closed and empty; then closes the file.
    fn run(mut self, mut orders: mpsc::Receiver<Order>) -> Result<(), StoreError> {
        while let Some(order) = orders.blocking_recv() {
            let mut waiting = Vec::new();
            let mut size = 0_usize;
            let mut next = Some(order);
            while let Some(order) = next {
                match order {
                    Order::Commit(commit) => {
                        size = size.saturating_add(commit.size);
                        waiting.push(commit);
                    }
                    Order::Close => orders.close(),
                }
                let has_room = waiting.len() < MOST_BATCHES && size < ENOUGH_BYTES;
                next = if has_room { orders.try_recv().ok() } else { None };
            }
            if !waiting.is_empty() {
                self.commit(waiting);
                let (transactions, bytes) = self.unlooked;
                self.unlooked = (transactions + 1, bytes.saturating_add(size));
                if self.unlooked.0 >= LOOK_AFTER.0 || self.unlooked.1 >= LOOK_AFTER.1 {
                    self.unlooked = (0, 0);
                    self.move_pages();
                }
            }
        }
        self.finish()
    }

    /// Commits all that is waiting in one transaction, and answers each.
    fn commit(&mut self, waiting: Vec<Commit>) {
        let started = Instant::now();
        // That a record is there already is rare, and the index says so too: who looks first pays for
        // it at every record. Only then is each batch judged before anything of it is kept.
        let outcomes = match self.transact(&waiting, Judge::ByIndex) {
            Err(Failed::Constraint) => self.transact(&waiting, Judge::Before),
            other => other,
        };
        match outcomes.map_err(Failed::into_error) {
            Ok(outcomes) => {
                let took = started.elapsed();
                self.durations.lock().unwrap_or_else(PoisonError::into_inner).add(took);
                for (commit, outcome) in waiting.into_iter().zip(outcomes) {
                    answer(commit, outcome);
                }
            }
            // Perhaps one of them is large, and there is room for the others.
            Err(StoreError::Full) if waiting.len() > 1 => {
                for commit in waiting {
                    self.commit(vec![commit]);
                }
            }
            Err(error) => {
                for commit in waiting {
                    answer(commit, Err(error.clone()));
                }
            }
        }
    }

    /// One transaction, with the outcome of each batch. An error means that nothing was kept.
    fn transact(
        &mut self,
        waiting: &[Commit],
        judge: Judge,
    ) -> Result<Vec<Result<Head, StoreError>>, Failed> {
        let failed = |error: rusqlite::Error| failure("commit", &error);
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        let mut changes = Changes {
            transaction: &transaction,
            tables: &self.tables,
            seal: self.seal,
            end: self.end,
        };
        let mut outcomes = Vec::with_capacity(waiting.len());
        for commit in waiting {
            outcomes.push(changes.apply(commit, judge)?);
        }
        let end = changes.end;
        if end != self.end {
            write_end(&transaction, end)?;
        }
        transaction.commit().map_err(failed)?;
        self.end = end;
        Ok(outcomes)
    }

    /// Moves pages from the write-ahead log into the file when there are many, as far as readers
    /// allow. The callers have been answered, so none of them waits for this.
    fn move_pages(&self) {
        let moved = self.checkpoint("NOOP").and_then(|waiting| {
            if waiting < MOST_PAGES { Ok(0) } else { self.checkpoint("PASSIVE") }
        });
        if let Err(error) = moved {
            // What is committed is safe in the log; it is tried again after the next transaction.
            tracing::warn!(%error, "the write-ahead log could not be moved into the store's file");
        }
    }

    /// Runs a checkpoint, and returns how many pages are in the log only.
    fn checkpoint(&self, mode: &str) -> rusqlite::Result<i64> {
        self.connection
            .prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?
            .query_row([], |row| Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?))
    }

    fn finish(self) -> Result<(), StoreError> {
        let failed = |error: &rusqlite::Error| failure("close the store", error);
        // A reader in another process may still look at the log: then it stays, and nothing is lost.
        self.connection
            .busy_timeout(std::time::Duration::ZERO)
            .and_then(|()| self.checkpoint("TRUNCATE"))
            .map_err(|error| failed(&error))?;
        self.connection.close().map_err(|(_connection, error)| failed(&error))
    }
}

/// Refuses an end of the log that is not the one of its last record: what is appended would follow
/// something that was never there, or be dated by it.
fn check_end(end: End, last: Option<rows::LastRow>) -> Result<(), StoreError> {
    let content = last.as_ref().and_then(|row| row.content);
    let last = last.and_then(|row| u64::try_from(row.number).ok()).unwrap_or(0);
    let expected = end.head.sequence;
    let reason = if last > expected {
        format!("the log ends at {expected}, but record {last} is in it")
    } else if last < expected {
        tracing::warn!(
            last_present = last,
            expected,
            "records are missing from the end of the log; their numbers stay unused"
        );
        return Ok(());
    } else {
        let named = (end.head.hash, end.ingested_at);
        let there = match last {
            0 => Some((End::EMPTY.head.hash, End::EMPTY.ingested_at)),
            _ => content,
        };
        if there == Some(named) {
            return Ok(());
        }
        format!("record {last} is not the one at which the log is said to end")
    };
    Err(StoreError::Corrupted { reason })
}

/// When it is found that a record is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judge {
    /// By the index, when the record is appended.
    ByIndex,
    /// Before anything is changed.
    Before,
}

/// Why a transaction was not made.
enum Failed {
    /// A row with that number or that id is there.
    Constraint,
    Store(StoreError),
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Failed {
    fn into_error(self) -> StoreError {
        match self {
            // Every id was looked for, so it is the number of a record that was not appended here.
            Self::Constraint => StoreError::Corrupted {
                reason: "a record lies beyond the end of the log".to_owned(),
            },
            Self::Store(error) => error,
        }
    }
}

/// Answers a caller, who may have stopped waiting.
fn answer(commit: Commit, outcome: Result<Head, StoreError>) {
    match commit.answer.send(outcome) {
        Ok(()) | Err(_) => {}
    }
}

/// A transaction in the making.
struct Changes<'writer> {
    transaction: &'writer Transaction<'writer>,
    tables: &'writer HashMap<Table, TableWrites>,
    seal: Seal,
    end: End,
}

impl Changes<'_> {
    /// Makes the changes of `batch`, or says why it is refused. It is judged before anything is
    /// changed, so a refusal leaves its neighbours alone.
    fn apply(&mut self, commit: &Commit, judge: Judge) -> Result<Result<Head, StoreError>, Failed> {
        let Commit { batch, metadata, .. } = commit;
        let refusal = rules::refusal(
            batch,
            |table, key| self.has_key(table, key),
            |id| match judge {
                Judge::ByIndex => Ok(false),
                Judge::Before => self.has_record(id),
            },
        )?;
        if let Some(refusal) = refusal {
            return Ok(Err(refusal));
        }
        for (table, key, value) in &batch.changes {
            let writes = self.writes(*table)?;
            let changed = match value {
                Some(value) => self.statement(&writes.put)?.execute((key, value)),
                None => self.statement(&writes.remove)?.execute([key]),
            };
            changed.map_err(|error| failure(&format!("write to `{}`", table.0), &error))?;
        }
        let now = log::now();
        for (record, metadata) in batch.records.iter().zip(metadata) {
            let link = self.end.append(record, self.seal, now);
            self.insert(record, metadata, &link)?;
        }
        Ok(Ok(self.end.head))
    }

    fn writes(&self, table: Table) -> Result<&TableWrites, StoreError> {
        self.tables.get(&table).ok_or(StoreError::UnknownTable { table: table.0 })
    }

    fn statement(&self, sql: &str) -> Result<CachedStatement<'_>, StoreError> {
        self.transaction.prepare_cached(sql).map_err(|error| failure("commit", &error))
    }

    fn has_key(&self, table: Table, key: &[u8]) -> Result<bool, StoreError> {
        self.statement(&self.writes(table)?.has)?
            .exists([key])
            .map_err(|error| failure(&format!("read from `{}`", table.0), &error))
    }

    fn has_record(&self, id: Uuid) -> Result<bool, StoreError> {
        self.statement("SELECT 1 FROM audit_events WHERE id = ?1")?
            .exists([&*id.hyphenated().encode_lower(&mut Uuid::encode_buffer())])
            .map_err(|error| failure("read a record by its id", &error))
    }

    fn insert(&self, record: &Record, metadata: &str, link: &Link) -> Result<(), Failed> {
        let sequence = number(link.sequence)?;
        let mut id = Uuid::encode_buffer();
        let mut agent = Uuid::encode_buffer();
        let mut statement = self.statement(
            "INSERT INTO audit_events (sequence, id, ingested_at, at, event_type, kind, agent_id, \
             actor, correlation, details, metadata, prev_hash, leaf_hash)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?;
        statement
            .execute((
                sequence,
                &*record.id.hyphenated().encode_lower(&mut id),
                link.ingested_at,
                record.at,
                &record.event_type,
                &record.kind,
                record.agent_id.map(|id| &*id.hyphenated().encode_lower(&mut agent)),
                &record.actor,
                &record.correlation,
                &record.details,
                metadata,
                &link.prev_hash,
                &link.leaf_hash,
            ))
            .map_err(|error| match error.sqlite_error_code() {
                Some(ErrorCode::ConstraintViolation) => Failed::Constraint,
                Some(_) | None => failure(&format!("append record {sequence}"), &error).into(),
            })?;
        Ok(())
    }
}

fn write_end(transaction: &Transaction<'_>, end: End) -> Result<(), StoreError> {
    let sequence = number(end.head.sequence)?;
    transaction
        .prepare_cached(
            "UPDATE store_state SET sequence = ?1, hash = ?2, ingested_at = ?3 WHERE id = 1",
        )
        .and_then(|mut statement| statement.execute((sequence, &end.head.hash, end.ingested_at)))
        .map_err(|error| failure("write the end of the log", &error))?;
    Ok(())
}

/// A record's number as SQLite keeps it.
fn number(sequence: u64) -> Result<i64, StoreError> {
    i64::try_from(sequence).map_err(|_too_large| StoreError::Corrupted {
        reason: format!("the log ends at {sequence}, which leaves no number for a further record"),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::sqlite::format;

    const TABLE: Table = Table("blobs");

    fn record(number: u128) -> Record {
        Record {
            id: Uuid::from_u128(number),
            at: 0,
            event_type: String::new(),
            kind: String::new(),
            agent_id: None,
            actor: String::new(),
            correlation: String::new(),
            details: String::new(),
            metadata: BTreeMap::new(),
        }
    }

    #[test]
    fn a_batch_for_which_there_is_no_room_costs_only_itself() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = crate::file_in(directory.path());
        let connection = format::open_for_writing(&file, &[TABLE]).expect("it opens");
        let pages: i64 = connection
            .pragma_query_value(None, "page_count", |row| row.get(0))
            .expect("a number of pages");
        connection.pragma_update(None, "max_page_count", pages + 8).expect("a limit");
        let seal: Seal = |_, sequence, _, _| [u8::try_from(sequence).unwrap_or(0); 32];
        let durations = Arc::new(Mutex::new(Durations::default()));
        let mut committer =
            Committer::new(connection, &[TABLE], seal, Arc::clone(&durations)).expect("it starts");

        let sizes = [10, 100_000, 20, 100_000, 30];
        let (waiting, answers): (Vec<_>, Vec<_>) = (1_u128..)
            .zip(sizes)
            .map(|(number, size)| {
                let (answer, answered) = oneshot::channel();
                let batch = Batch::new().record(record(number)).put(TABLE, vec![1], vec![1; size]);
                let metadata = written(&batch).expect("it is text");
                (Commit { batch, metadata, size, answer }, answered)
            })
            .unzip();
        committer.commit(waiting);
        let outcomes: Vec<_> = answers
            .into_iter()
            .map(|answered| answered.blocking_recv().expect("an answer").map(|it| it.sequence))
            .collect();
        let full = StoreError::Full;
        assert_eq!(outcomes, [Ok(1), Err(full.clone()), Ok(2), Err(full), Ok(3)]);

        let end = rows::read_state(&committer.connection).expect("a state").end;
        assert_eq!(end, committer.end);
        assert_eq!(end.head, Head { sequence: 3, hash: [3; 32] });
        let last = rows::last_row(&committer.connection).expect("a row");
        let content = Some((end.head.hash, end.ingested_at));
        assert_eq!(last, Some(rows::LastRow { number: 3, content }));
        assert_eq!(durations.lock().expect("it is whole").count(), 3);
        committer.finish().expect("it closes");
    }
}
