//! The store in one SQLite file.
//!
//! ```text
//! commit() -> bounded queue -> writer thread -> one transaction for all that waits -> one fsync
//! get(), scan(), records() -> a few read-only connections, on blocking threads
//! ```
//!
//! # What holds
//!
//! - `commit` returns after the fsync that made its batch durable (`synchronous=FULL`, WAL).
//! - A read that starts after a commit returned sees it.
//! - The directory belongs to one process, by a lock that the kernel gives back when it dies.
//! - The end of the log is kept in a row of its own, in the same transaction as the records. Records
//!   that someone took off the end are therefore missed, and a new one never takes their number.
//! - The tables and indexes of a store are the ones that it made, and nothing else is done to them: a
//!   view in the place of a table may answer for ever, a trigger changes what is written, an index
//!   decides what is found. A file in which they are others is damaged.
//! - [`SqliteReader`] needs no lock, changes nothing, and reads through the same code as the store.
//!
//! The log is the table `audit_events`, with a column for each field, for people with `sqlite3`.

mod format;
mod lock;
mod readers;
mod rows;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use uuid::Uuid;

use crate::durations::Durations;
use crate::rules;
use crate::{
    Batch, Head, LogPage, LogRow, RecordQuery, Store, StoreError, StoreOptions, StoreStatus,
    StoredRecord, Table, file_in,
};
use lock::DirectoryLock;
use readers::Readers;
use writer::Writer;

/// A store in one SQLite file, in a directory that this process holds.
#[derive(Debug)]
pub struct SqliteStore {
    file: PathBuf,
    tables: Vec<Table>,
    durations: Arc<Mutex<Durations>>,
    readers: Readers,
    writer: Writer,
}

impl SqliteStore {
    /// Opens the store in `directory`, which is made if it is not there, as is the store.
    ///
    /// # Errors
    ///
    /// `Locked` when another process (or another store of this one) holds the directory,
    /// `NewerFormat`, `InvalidTable`, `Corrupted`, `Full`, `Io`.
    pub fn open(directory: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        for table in &options.tables {
            if !rules::is_table_name(table.0) {
                return Err(StoreError::InvalidTable { table: table.0 });
            }
        }
        format::make_directory(directory)?;
        let lock = DirectoryLock::take(directory)?;
        let file = file_in(directory);
        let connection = format::open_for_writing(&file, &options.tables)?;
        let readers = Readers::open(&file, Some(&options.tables))?;
        let durations = Arc::new(Mutex::new(Durations::default()));
        let writer = Writer::start(connection, lock, &options, Arc::clone(&durations))?;
        Ok(Self { file, tables: options.tables, durations, readers, writer })
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn commit(&self, batch: Batch) -> Result<Head, StoreError> {
        let size = rules::check_shape(&batch, |table| self.tables.contains(&table))?;
        self.writer.commit(batch, size).await
    }

    async fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.readers.get(table, key).await
    }

    async fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        self.readers.scan(table, prefix, after, limit).await
    }

    async fn rows(&self, query: &RecordQuery) -> Result<Vec<LogRow>, StoreError> {
        self.readers.rows(query).await
    }

    async fn faults(&self) -> Result<Vec<String>, StoreError> {
        self.readers.faults().await
    }

    async fn log(&self, from: i64, limit: usize) -> Result<LogPage, StoreError> {
        self.readers.log(from, limit).await
    }

    async fn record(&self, id: Uuid) -> Result<Option<StoredRecord>, StoreError> {
        self.readers.record(id).await
    }

    async fn status(&self) -> Result<StoreStatus, StoreError> {
        let status = status_of(&self.file, &self.readers).await?;
        let durations = self.durations.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(StoreStatus { commit_p99: durations.p99(), transactions: durations.count(), ..status })
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.readers.close().await;
        self.writer.close().await
    }
}

/// A look at a store that another process may hold. It takes no lock on the directory and changes
/// nothing in the store, so [`Store::commit`] answers [`StoreError::ReadOnly`].
#[derive(Debug)]
pub struct SqliteReader {
    file: PathBuf,
    readers: Readers,
}

impl SqliteReader {
    /// Opens the store in `directory` for reading. It knows the tables that are there now.
    ///
    /// # Errors
    ///
    /// `NotThere`, `NewerFormat`, `Corrupted`, `Io`.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let file = file_in(directory);
        Ok(Self { readers: Readers::open(&file, None)?, file })
    }

    /// The end of the log, as the store keeps it apart from the records.
    ///
    /// # Errors
    ///
    /// `Closed`, `Io`, `Corrupted`.
    pub async fn head(&self) -> Result<Head, StoreError> {
        Ok(self.readers.state().await?.end.head)
    }
}

#[async_trait]
impl Store for SqliteReader {
    async fn commit(&self, _batch: Batch) -> Result<Head, StoreError> {
        Err(StoreError::ReadOnly)
    }

    async fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.readers.get(table, key).await
    }

    async fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        self.readers.scan(table, prefix, after, limit).await
    }

    async fn rows(&self, query: &RecordQuery) -> Result<Vec<LogRow>, StoreError> {
        self.readers.rows(query).await
    }

    async fn faults(&self) -> Result<Vec<String>, StoreError> {
        self.readers.faults().await
    }

    async fn log(&self, from: i64, limit: usize) -> Result<LogPage, StoreError> {
        self.readers.log(from, limit).await
    }

    async fn record(&self, id: Uuid) -> Result<Option<StoredRecord>, StoreError> {
        self.readers.record(id).await
    }

    async fn status(&self) -> Result<StoreStatus, StoreError> {
        status_of(&self.file, &self.readers).await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.readers.close().await;
        Ok(())
    }
}

/// What the file itself says of the store.
async fn status_of(file: &Path, readers: &Readers) -> Result<StoreStatus, StoreError> {
    let state = readers.state().await?;
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    Ok(StoreStatus {
        backend: "sqlite",
        location: file.display().to_string(),
        size: size(file) + size(&format::beside(file, "-wal")),
        commit_p99: None,
        transactions: 0,
        head: state.end.head,
        epoch: state.epoch,
    })
}

/// What went wrong in SQLite, for those who call the store.
fn failure(context: &str, error: &rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode;
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StoreError::Corrupted { reason: format!("{context}: {error}") }
        }
        Some(_) | None => StoreError::Io { context: context.to_owned(), reason: error.to_string() },
    }
}

/// What went wrong with a file.
fn file_failure(context: String, error: &std::io::Error) -> StoreError {
    if error.kind() == std::io::ErrorKind::StorageFull {
        return StoreError::Full;
    }
    StoreError::Io { context, reason: error.to_string() }
}
