//! The store in memory.
//!
//! Everything sits behind one mutex, and a commit is done inside the call: there is no task to
//! wake and nothing to wait for. A query that walks the log lets others in between.
//!
//! # What holds
//!
//! - The log keeps the newest [`StoreOptions::kept_records`], and of those as many as fit 256 MiB;
//!   the newest one is always kept.
//! - Where the log begins, the number and the hash of the record before are remembered, so that the
//!   chain can still be followed to its end.
//!
//! # What is not here
//!
//! The ids of records that are gone: one of them may come again. Nor a bound on the tables, which
//! hold what their owners put there and leave there; [`StoreStatus::size`] says how much it is.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use uuid::Uuid;

use crate::durations::Durations;
use crate::log::{self, End};
use crate::matcher::Matcher;
use crate::rules;
use crate::{
    Batch, Head, LogPage, LogRow, Record, RecordQuery, Seal, Store, StoreError, StoreOptions,
    StoreStatus, StoredRecord, Table,
};

/// How many records a query looks at before it lets others in.
const STEP: usize = 2_048;

/// Most bytes of records that are kept.
const MOST_BYTES: usize = 256 << 20;

/// A store that lives as long as its process.
#[derive(Debug)]
pub struct MemoryStore {
    seal: Seal,
    kept_records: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    closed: bool,
    tables: HashMap<&'static str, BTreeMap<Vec<u8>, Vec<u8>>>,
    /// The last record that is no longer kept. The one after it is the first in `log`.
    gone: Head,
    log: VecDeque<StoredRecord>,
    /// The numbers of the kept records by their ids.
    by_id: HashMap<Uuid, u64>,
    /// The numbers of the kept records about each agent, in order.
    by_agent: HashMap<Uuid, VecDeque<u64>>,
    end: End,
    /// Bytes of all tables.
    table_size: usize,
    /// Bytes of all kept records.
    log_size: usize,
    durations: Durations,
}

impl MemoryStore {
    /// An empty store. It has no queue, so `options.queue` means nothing here.
    pub fn new(options: StoreOptions) -> Self {
        let tables = options.tables.iter().filter(|table| rules::is_table_name(table.0));
        Self {
            seal: options.seal,
            kept_records: options.kept_records.max(1),
            state: Mutex::new(State {
                closed: false,
                tables: tables.map(|table| (table.0, BTreeMap::new())).collect(),
                gone: Head::default(),
                log: VecDeque::new(),
                by_id: HashMap::new(),
                by_agent: HashMap::new(),
                end: End::EMPTY,
                table_size: 0,
                log_size: 0,
                durations: Durations::default(),
            }),
        }
    }

    /// The state, unless the store is closed. Only the seal could panic while the state is held, and
    /// as half a batch may be in it then, the store counts as closed.
    fn open_state(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.state.lock().map_err(|_poisoned| StoreError::Closed)?;
        if state.closed { Err(StoreError::Closed) } else { Ok(state) }
    }
}

impl State {
    fn table(&self, table: Table) -> Result<&BTreeMap<Vec<u8>, Vec<u8>>, StoreError> {
        self.tables.get(table.0).ok_or(StoreError::UnknownTable { table: table.0 })
    }

    fn commit(
        &mut self,
        batch: Batch,
        seal: Seal,
        kept_records: usize,
    ) -> Result<Head, StoreError> {
        rules::check_shape(&batch, |table| self.tables.contains_key(table.0))?;
        let refusal = rules::refusal(
            &batch,
            |table, key| Ok(self.table(table)?.contains_key(key)),
            |id| Ok(self.by_id.contains_key(&id)),
        )?;
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        for (table, key, value) in batch.changes {
            self.change(table, key, value)?;
        }
        let now = log::now();
        for record in batch.records {
            let link = self.end.append(&record, seal, now);
            self.by_id.insert(record.id, link.sequence);
            if let Some(agent) = record.agent_id {
                self.by_agent.entry(agent).or_default().push_back(link.sequence);
            }
            self.log_size += held_by(&record);
            self.log.push_back(StoredRecord {
                sequence: link.sequence,
                ingested_at: link.ingested_at,
                prev_hash: link.prev_hash,
                leaf_hash: link.leaf_hash,
                record,
            });
        }
        while self.log.len() > kept_records || (self.log_size > MOST_BYTES && self.log.len() > 1) {
            self.drop_oldest();
        }
        Ok(self.end.head)
    }

    fn drop_oldest(&mut self) {
        let Some(oldest) = self.log.pop_front() else { return };
        self.gone = Head { sequence: oldest.sequence, hash: oldest.leaf_hash };
        self.log_size -= held_by(&oldest.record);
        self.by_id.remove(&oldest.record.id);
        if let Some(agent) = oldest.record.agent_id
            && let Some(numbers) = self.by_agent.get_mut(&agent)
        {
            // They are in order, and all before it are gone.
            numbers.pop_front();
            if numbers.is_empty() {
                self.by_agent.remove(&agent);
            }
        }
    }

    /// The record with this number, if it is kept.
    fn numbered(&self, sequence: u64) -> Option<&StoredRecord> {
        let position = sequence.checked_sub(self.gone.sequence)?.checked_sub(1)?;
        self.log.get(usize::try_from(position).ok()?)
    }

    fn change(
        &mut self,
        table: Table,
        key: Vec<u8>,
        value: Option<Vec<u8>>,
    ) -> Result<(), StoreError> {
        let rows =
            self.tables.get_mut(table.0).ok_or(StoreError::UnknownTable { table: table.0 })?;
        let key_size = key.len();
        let old = match value {
            Some(value) => {
                self.table_size += key_size + value.len();
                rows.insert(key, value)
            }
            None => rows.remove(&key),
        };
        if let Some(old) = old {
            self.table_size -= key_size + old.len();
        }
        Ok(())
    }

    /// The numbers of the kept records that `query` may ask for.
    fn candidates(&self, query: &RecordQuery) -> Candidates {
        let last = query.last_sequence.unwrap_or(u64::MAX).min(self.end.head.sequence);
        let first = query.first_sequence.unwrap_or(1).max(self.gone.sequence + 1);
        if query.agent_ids.is_empty() {
            return Candidates::All { first, last };
        }
        let lists = query.agent_ids.iter().filter_map(|agent| self.by_agent.get(agent));
        let mut numbers: Vec<u64> =
            lists.flatten().copied().filter(|number| (first..=last).contains(number)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        Candidates::Some(numbers)
    }
}

/// Bytes that a record takes.
fn held_by(record: &Record) -> usize {
    rules::record_size(record) + size_of::<StoredRecord>()
}

/// Numbers of records, in order.
enum Candidates {
    All { first: u64, last: u64 },
    Some(Vec<u64>),
}

impl Candidates {
    fn into_walk(self, oldest_first: bool) -> Box<dyn Iterator<Item = u64> + Send> {
        match (self, oldest_first) {
            (Self::All { first, last }, true) => Box::new(first..=last),
            (Self::All { first, last }, false) => Box::new((first..=last).rev()),
            (Self::Some(numbers), true) => Box::new(numbers.into_iter()),
            (Self::Some(numbers), false) => Box::new(numbers.into_iter().rev()),
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn commit(&self, batch: Batch) -> Result<Head, StoreError> {
        let started = Instant::now();
        let mut state = self.open_state()?;
        let head = state.commit(batch, self.seal, self.kept_records)?;
        state.durations.add(started.elapsed());
        Ok(head)
    }

    async fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.open_state()?.table(table)?.get(key).cloned())
    }

    async fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        let state = self.open_state()?;
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            Some(_) | None => Bound::Included(prefix),
        };
        let rows = state.table(table)?.range::<[u8], _>((from, Bound::Unbounded));
        let rows = rows.take_while(|(key, _)| key.starts_with(prefix)).take(limit);
        Ok(rows.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    async fn rows(&self, query: &RecordQuery) -> Result<Vec<LogRow>, StoreError> {
        let matcher = Matcher::new(query);
        let mut walk = self.open_state()?.candidates(query).into_walk(query.oldest_first);
        let mut found = Vec::new();
        // What has a number keeps it; the oldest may go between two steps.
        loop {
            {
                let state = self.open_state()?;
                for _ in 0..STEP {
                    if found.len() == query.limit {
                        return Ok(found);
                    }
                    let Some(number) = walk.next() else { return Ok(found) };
                    if let Some(stored) = state.numbered(number)
                        && matcher.matches(stored)
                    {
                        found.push(row(stored));
                    }
                }
            }
            tokio::task::yield_now().await;
        }
    }

    async fn record(&self, id: Uuid) -> Result<Option<StoredRecord>, StoreError> {
        let state = self.open_state()?;
        let number = state.by_id.get(&id);
        Ok(number.and_then(|number| state.numbered(*number)).cloned())
    }

    async fn log(&self, from: i64, limit: usize) -> Result<LogPage, StoreError> {
        let state = self.open_state()?;
        let first = u64::try_from(from).unwrap_or(0).max(state.gone.sequence + 1);
        let kept = (first..=state.end.head.sequence).map_while(|number| state.numbered(number));
        let rows = kept.take(limit.min(STEP)).map(row).collect();
        Ok(LogPage {
            gone: state.gone,
            head: state.end.head,
            head_ingested_at: state.end.ingested_at,
            rows,
        })
    }

    async fn faults(&self) -> Result<Vec<String>, StoreError> {
        self.open_state().map(|_| Vec::new())
    }

    async fn status(&self) -> Result<StoreStatus, StoreError> {
        let state = self.open_state()?;
        Ok(StoreStatus {
            backend: "memory",
            location: "the memory of this process".to_owned(),
            size: (state.table_size + state.log_size) as u64,
            commit_p99: state.durations.p99(),
            transactions: state.durations.count(),
            head: state.end.head,
            epoch: 1,
        })
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        Ok(())
    }
}

fn row(stored: &StoredRecord) -> LogRow {
    LogRow {
        // Memory ends long before the numbers do.
        number: i64::try_from(stored.sequence).unwrap_or(i64::MAX),
        record: Ok(stored.clone()),
    }
}
