//! The connections that read.
//!
//! A read waits for one of a few connections, then runs on one of tokio's blocking threads: SQLite
//! reads from the disk, and a query may look at every record. In WAL mode neither the writer nor
//! another reader is in its way.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::sqlite::failure;
use crate::sqlite::format::{open_for_reading, sql_name};
use crate::sqlite::rows::{self, State};
use crate::{LogPage, LogRow, RecordQuery, StoreError, StoredRecord, Table};

/// How many reads run at the same moment.
const CONNECTIONS: u32 = 4;

/// A few connections, and who may use them.
#[derive(Debug)]
pub(super) struct Readers {
    idle: Arc<Mutex<Vec<Connection>>>,
    /// As many as there are connections in `idle`.
    permits: Arc<Semaphore>,
    tables: HashMap<String, TableReads>,
}

/// The statements that read one table.
#[derive(Debug, Clone)]
struct TableReads {
    get: Arc<str>,
    scan: Arc<str>,
}

impl Readers {
    /// Opens `file`, to read its log and the tables that are named, or all that it has.
    pub(super) fn open(file: &Path, named: Option<&[Table]>) -> Result<Self, StoreError> {
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(open_for_reading(file)?);
        }
        let mut names = match connections.first() {
            Some(connection) => table_names(connection)
                .map_err(|error| failure(&format!("open `{}`", file.display()), &error))?,
            None => Vec::new(),
        };
        if let Some(named) = named {
            names.retain(|name| named.iter().any(|table| table.0 == name));
        }
        for connection in &connections {
            connection.set_prepared_statement_cache_capacity(names.len() * 2 + 8);
        }
        let tables = names.into_iter().map(|name| {
            let sql = sql_name(&name);
            let get = format!("SELECT value FROM {sql} WHERE key = ?1").into();
            let scan =
                format!("SELECT key, value FROM {sql} WHERE key >= ?1 ORDER BY key LIMIT ?2");
            (name, TableReads { get, scan: scan.into() })
        });
        Ok(Self {
            tables: tables.collect(),
            permits: Arc::new(Semaphore::new(connections.len())),
            idle: Arc::new(Mutex::new(connections)),
        })
    }

    pub(super) async fn get(
        &self,
        table: Table,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = Arc::clone(&self.reads(table)?.get);
        let key = key.to_vec();
        let context = format!("read from `{}`", table.0);
        self.read(move |connection| {
            connection
                .prepare_cached(&sql)
                .and_then(|mut statement| statement.query_row([key], |row| row.get(0)).optional())
                .map_err(|error| failure(&context, &error))
        })
        .await
    }

    pub(super) async fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        let sql = Arc::clone(&self.reads(table)?.scan);
        let context = format!("read from `{}`", table.0);
        let prefix = prefix.to_vec();
        // The first key after a key is that key with a zero.
        let first =
            after.map(|after| [after, &[0]].concat()).unwrap_or_default().max(prefix.clone());
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read(move |connection| {
            let failed = |error: rusqlite::Error| failure(&context, &error);
            let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
            let mut rows = statement.query((first, limit)).map_err(failed)?;
            let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
            while let Some(row) = rows.next().map_err(failed)? {
                let key: Vec<u8> = row.get(0).map_err(failed)?;
                if !key.starts_with(&prefix) {
                    break;
                }
                found.push((key, row.get(1).map_err(failed)?));
            }
            Ok(found)
        })
        .await
    }

    pub(super) async fn rows(&self, query: &RecordQuery) -> Result<Vec<LogRow>, StoreError> {
        let query = query.clone();
        self.read(move |connection| rows::rows(connection, &query)).await
    }

    pub(super) async fn faults(&self) -> Result<Vec<String>, StoreError> {
        self.read(rows::faults).await
    }

    pub(super) async fn log(&self, from: i64, limit: usize) -> Result<LogPage, StoreError> {
        self.read(move |connection| rows::log(connection, from, limit)).await
    }

    pub(super) async fn record(&self, id: Uuid) -> Result<Option<StoredRecord>, StoreError> {
        self.read(move |connection| rows::record(connection, id)).await
    }

    pub(super) async fn state(&self) -> Result<State, StoreError> {
        self.read(rows::read_state).await
    }

    /// Waits for the reads that run, then closes the connections. May be called twice.
    pub(super) async fn close(&self) {
        // Fails only when it is closed already.
        let all = self.permits.acquire_many(CONNECTIONS).await;
        self.permits.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        drop(all);
    }

    fn reads(&self, table: Table) -> Result<&TableReads, StoreError> {
        if self.permits.is_closed() {
            return Err(StoreError::Closed);
        }
        self.tables.get(table.0).ok_or(StoreError::UnknownTable { table: table.0 })
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permits = Arc::clone(&self.permits);
        let permit = permits.acquire_owned().await.map_err(|_closed| StoreError::Closed)?;
        let idle = Arc::clone(&self.idle);
        let read = tokio::task::spawn_blocking(move || {
            let taken = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(connection) = taken else { return Err(StoreError::Closed) };
            let result = work(&connection);
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            drop(permit);
            result
        });
        read.await.unwrap_or_else(|error| {
            Err(StoreError::Io {
                context: "read from the store".to_owned(),
                reason: error.to_string(),
            })
        })
    }
}

/// The names of the tables of keys and values that are in the file.
fn table_names(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(
        "SELECT substr(name, 4) FROM sqlite_schema WHERE type = 'table' AND name GLOB 'kv_*'",
    )?;
    let names = statement.query_map([], |row| row.get(0))?;
    let names: Vec<String> = names.collect::<rusqlite::Result<_>>()?;
    Ok(names.into_iter().filter(|name| crate::rules::is_table_name(name)).collect())
}
