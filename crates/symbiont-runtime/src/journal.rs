//! What every component writes through: changes and the audit records that tell of them, together.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use symbiont_store::{
    Batch, Head, MemoryStore, SqliteStore, Store, StoreError, StoreOptions, Table,
};
use symbiont_types::{AgentId, AuditEvent, AuditEventType, AuditId, ResourceLimits};
use tokio::sync::broadcast;

use crate::audit::{Milestone, chain, query};
use crate::clock::Clock;

/// States of agents.
pub(crate) const AGENTS: Table = Table("agents");
/// Configs of agents.
pub(crate) const CONFIGS: Table = Table("agent_configs");
/// What agents were started with.
pub(crate) const INPUTS: Table = Table("agent_inputs");
/// What agents remember: their `memory.*`.
pub(crate) const MEMORY: Table = Table("agent_memory");
/// Marks of runs that have begun an effect that must not be repeated blindly, by task or by agent.
pub(crate) const RUNS: Table = Table("runs");
/// Scheduled tasks, as they were accepted.
pub(crate) const TASKS: Table = Table("tasks");
/// What attempts have made of tasks.
pub(crate) const PROGRESS: Table = Table("task_progress");
/// What operators ask for of tasks.
pub(crate) const WISHES: Table = Table("task_wishes");
/// Results of tasks.
pub(crate) const RESULTS: Table = Table("results");
/// Mail that waits.
pub(crate) const MAIL: Table = Table("mail");
/// Mail that could not be delivered.
pub(crate) const DEAD: Table = Table("dead_letters");
/// What became of messages.
pub(crate) const RECEIPTS: Table = Table("receipts");
/// Which messages have ended whose receipts were forgotten.
pub(crate) const WINDOWS: Table = Table("message_windows");
/// Who is registered with the bus, with sealed keys.
pub(crate) const MAILBOXES: Table = Table("mailboxes");
/// Who is subscribed to what.
pub(crate) const TOPICS: Table = Table("topics");
/// Policies of the whole runtime.
pub(crate) const POLICIES: Table = Table("policies");
/// Promises of resources.
pub(crate) const ALLOCATIONS: Table = Table("allocations");
/// Single settings that survive a restart.
pub(crate) const SETTINGS: Table = Table("settings");

const TABLES: [Table; 18] = [
    AGENTS,
    CONFIGS,
    INPUTS,
    MEMORY,
    RUNS,
    TASKS,
    PROGRESS,
    WISHES,
    RESULTS,
    MAIL,
    DEAD,
    RECEIPTS,
    WINDOWS,
    MAILBOXES,
    TOPICS,
    POLICIES,
    ALLOCATIONS,
    SETTINGS,
];

/// The most records that someone who looks on may fall behind.
const FEED: usize = 4096;

/// The most records that a journal in memory keeps: as many as one query may ask for.
const KEPT_RECORDS: usize = 100_000;

pub(crate) fn options() -> StoreOptions {
    StoreOptions {
        tables: TABLES.to_vec(),
        seal: chain::seal,
        queue: 1024,
        kept_records: KEPT_RECORDS,
    }
}

/// A store, the clock that dates what goes into it, and those who look on.
#[derive(Debug, Clone)]
pub struct Journal {
    store: Arc<dyn Store>,
    clock: Clock,
    feed: broadcast::Sender<Arc<AuditEvent>>,
    witness: Arc<Mutex<Witness>>,
}

/// What this process saw of the log, which no later state of it can lack.
#[derive(Debug, Default)]
struct Witness {
    committed: Head,
    verified: Head,
}

impl Journal {
    /// A journal in memory, which lasts as long as the process. It keeps the newest 100,000 records,
    /// or fewer where they take more than 256 MiB; what it no longer keeps, verification names.
    pub fn in_memory(clock: Clock) -> Self {
        Self::over(Arc::new(MemoryStore::new(options())), clock)
    }

    /// A journal in `directory`, which is created if it is not there and held alone.
    ///
    /// # Errors
    ///
    /// `Locked` when another process holds the directory, `NewerFormat`, `Corrupted`, `Full`, `Io`.
    pub fn open(directory: &Path, clock: Clock) -> Result<Self, StoreError> {
        Ok(Self::over(Arc::new(SqliteStore::open(directory, options())?), clock))
    }

    /// A journal that is only read.
    pub(crate) fn reading(store: Arc<dyn Store>, clock: Clock) -> Self {
        Self::over(store, clock)
    }

    fn over(store: Arc<dyn Store>, clock: Clock) -> Self {
        Self { store, clock, feed: broadcast::Sender::new(FEED), witness: Arc::default() }
    }

    /// The store itself, for reading.
    pub(crate) fn store(&self) -> &dyn Store {
        &*self.store
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    pub(crate) fn now(&self) -> SystemTime {
        self.clock.now()
    }

    /// What is recorded from now on, as it is recorded. Someone who falls more than 4,096 records
    /// behind loses the oldest, and is told how many.
    pub fn watch(&self) -> broadcast::Receiver<Arc<AuditEvent>> {
        self.feed.subscribe()
    }

    /// Makes the change and appends its records in one step, then tells those who look on.
    pub(crate) async fn commit(&self, change: Change) -> Result<Head, StoreError> {
        let Change { mut batch, events } = change;
        let watched = self.feed.receiver_count() > 0;
        let mut told = if watched { events.clone() } else { Vec::new() };
        let ids: Vec<AuditId> = events.iter().map(|event| event.id).collect();
        batch.records.extend(events.into_iter().map(chain::record));
        let head = self.store.commit(batch).await?;
        {
            let mut seen = self.witness.lock().unwrap_or_else(PoisonError::into_inner);
            keep_later(&mut seen.committed, head);
        }
        if !watched && self.feed.receiver_count() > 0 {
            // Someone began to look on meanwhile, and may have read the log before this was in it.
            for id in ids {
                if let Ok(Some(stored)) = self.store.record(id.into()).await {
                    told.push(query::event(&stored.record));
                }
            }
        }
        for event in told {
            // Nobody looking on is fine.
            let _ = self.feed.send(Arc::new(event));
        }
        Ok(head)
    }

    /// The records that this process knows to be in the log.
    pub(crate) fn milestones(&self) -> Vec<Milestone> {
        let seen = self.witness.lock().unwrap_or_else(PoisonError::into_inner);
        [(seen.committed, "this process wrote"), (seen.verified, "this process has verified")]
            .into_iter()
            .filter(|(at, _)| at.sequence > 0)
            .map(|(at, known)| Milestone { at, known: known.to_owned(), is_anchor: false })
            .collect()
    }

    /// Notes that the log was intact up to `head`.
    pub(crate) fn verified(&self, head: Head) {
        let mut seen = self.witness.lock().unwrap_or_else(PoisonError::into_inner);
        keep_later(&mut seen.verified, head);
    }

    /// An event of this moment.
    pub(crate) fn event(&self, event_type: AuditEventType, kind: &'static str) -> Entry {
        Entry {
            event: AuditEvent {
                id: AuditId::new(),
                timestamp: self.now(),
                event_type,
                agent_id: None,
                details: String::new(),
                metadata: [("kind".to_owned(), kind.to_owned())].into(),
            },
        }
    }
}

/// Commits may be told of in another order than they were made in.
fn keep_later(kept: &mut Head, head: Head) {
    if head.sequence > kept.sequence {
        *kept = head;
    }
}

/// An audit event being written.
#[derive(Debug)]
pub(crate) struct Entry {
    event: AuditEvent,
}

impl Entry {
    pub(crate) fn agent(mut self, agent_id: AgentId) -> Self {
        self.event.agent_id = Some(agent_id);
        self
    }

    pub(crate) fn details(mut self, details: impl Into<String>) -> Self {
        self.event.details = details.into();
        self
    }

    pub(crate) fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.event.metadata.insert(key.to_owned(), value.to_string());
        self
    }

    pub(crate) fn with_some(self, key: &str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }
}

/// A change of tables and the events that tell of it.
#[derive(Debug, Default)]
pub(crate) struct Change {
    batch: Batch,
    events: Vec<AuditEvent>,
}

impl Change {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn put(
        mut self,
        table: Table,
        key: impl Into<Vec<u8>>,
        value: &impl serde::Serialize,
    ) -> Self {
        let bytes = serde_json::to_vec(value).expect("stored forms are plain data with text keys");
        self.batch = self.batch.put(table, key, bytes);
        self
    }

    pub(crate) fn put_bytes(
        mut self,
        table: Table,
        key: impl Into<Vec<u8>>,
        value: Vec<u8>,
    ) -> Self {
        self.batch = self.batch.put(table, key, value);
        self
    }

    pub(crate) fn remove(mut self, table: Table, key: impl Into<Vec<u8>>) -> Self {
        self.batch = self.batch.remove(table, key);
        self
    }

    /// Everything of `other` after everything of this one.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.batch = self.batch.and(other.batch);
        self.events.extend(other.events);
        self
    }

    pub(crate) fn record(mut self, entry: Entry) -> Self {
        self.events.push(entry.event);
        self
    }

    pub(crate) fn record_event(mut self, event: AuditEvent) -> Self {
        self.events.push(event);
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batch.is_empty() && self.events.is_empty()
    }
}

/// Limits as they are kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StoredLimits {
    memory_mb: u64,
    /// By its bits: JSON has no NaN, and a core is a thousand thousandths.
    cpu_cores: u64,
    disk_io_mbps: u64,
    network_io_mbps: u64,
    execution_timeout: Duration,
    idle_timeout: Duration,
}

impl From<&ResourceLimits> for StoredLimits {
    fn from(limits: &ResourceLimits) -> Self {
        Self {
            memory_mb: limits.memory_mb,
            cpu_cores: limits.cpu_cores.to_bits(),
            disk_io_mbps: limits.disk_io_mbps,
            network_io_mbps: limits.network_io_mbps,
            execution_timeout: limits.execution_timeout,
            idle_timeout: limits.idle_timeout,
        }
    }
}

impl From<StoredLimits> for ResourceLimits {
    fn from(limits: StoredLimits) -> Self {
        Self {
            memory_mb: limits.memory_mb,
            cpu_cores: f64::from_bits(limits.cpu_cores),
            disk_io_mbps: limits.disk_io_mbps,
            network_io_mbps: limits.network_io_mbps,
            execution_timeout: limits.execution_timeout,
            idle_timeout: limits.idle_timeout,
        }
    }
}

/// Every row of `table` that begins with `prefix`, read in pages.
pub(crate) async fn rows<T: serde::de::DeserializeOwned>(
    store: &dyn Store,
    table: Table,
    prefix: &[u8],
) -> Result<Vec<(Vec<u8>, T)>, StoreError> {
    const PAGE: usize = 1000;
    let mut all = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = store.scan(table, prefix, after.as_deref(), PAGE).await?;
        let last_page = page.len() < PAGE;
        after = page.last().map(|(key, _)| key.clone());
        for (key, bytes) in page {
            let value = decode(table, &bytes)?;
            all.push((key, value));
        }
        if last_page {
            return Ok(all);
        }
    }
}

/// The row under `key`, if there is one.
pub(crate) async fn row<T: serde::de::DeserializeOwned>(
    store: &dyn Store,
    table: Table,
    key: &[u8],
) -> Result<Option<T>, StoreError> {
    store.get(table, key).await?.map(|bytes| decode(table, &bytes)).transpose()
}

fn decode<T: serde::de::DeserializeOwned>(table: Table, bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| StoreError::Corrupted {
        reason: format!("a row of `{}`: {error}", table.0),
    })
}
