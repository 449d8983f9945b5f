//! The store in memory.
//!
//! Everything sits behind one mutex, and a commit is done inside the call: there is no task to
//! wake and nothing to wait for. A query that walks the log lets others in between.
//!
//! # What is not here
//!
//! A bound on what is kept: the log only grows, as it does on disk. [`StoreStatus::size`] says how
//! large it has become.

use std::collections::{BTreeMap, HashMap};
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
    Batch, Head, RecordQuery, Seal, Store, StoreError, StoreOptions, StoreStatus, StoredRecord,
    Table,
};

/// How many records a query looks at before it lets others in.
const STEP: usize = 2_048;

/// A store that lives as long as its process.
#[derive(Debug)]
pub struct MemoryStore {
    seal: Seal,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    closed: bool,
    tables: HashMap<&'static str, BTreeMap<Vec<u8>, Vec<u8>>>,
    /// The record with number `n` is at `n - 1`.
    log: Vec<StoredRecord>,
    /// Where in `log` the record with an id is.
    by_id: HashMap<Uuid, usize>,
    /// Where in `log` the records about an agent are, in order.
    by_agent: HashMap<Uuid, Vec<usize>>,
    end: End,
    size: usize,
    durations: Durations,
}

impl MemoryStore {
    /// An empty store. It has no queue, so `options.queue` means nothing here.
    pub fn new(options: StoreOptions) -> Self {
        let tables = options.tables.iter().filter(|table| rules::is_table_name(table.0));
        Self {
            seal: options.seal,
            state: Mutex::new(State {
                closed: false,
                tables: tables.map(|table| (table.0, BTreeMap::new())).collect(),
                log: Vec::new(),
                by_id: HashMap::new(),
                by_agent: HashMap::new(),
                end: End::EMPTY,
                size: 0,
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

    fn commit(&mut self, batch: Batch, seal: Seal) -> Result<Head, StoreError> {
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
            let position = self.log.len();
            self.by_id.insert(record.id, position);
            if let Some(agent) = record.agent_id {
                self.by_agent.entry(agent).or_default().push(position);
            }
            self.size += rules::record_size(&record) + size_of::<StoredRecord>();
            self.log.push(StoredRecord {
                sequence: link.sequence,
                ingested_at: link.ingested_at,
                prev_hash: link.prev_hash,
                leaf_hash: link.leaf_hash,
                record,
            });
        }
        Ok(self.end.head)
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
                self.size += key_size + value.len();
                rows.insert(key, value)
            }
            None => rows.remove(&key),
        };
        if let Some(old) = old {
            self.size -= key_size + old.len();
        }
        Ok(())
    }

    /// Where in the log the records are that `query` may ask for.
    fn candidates(&self, query: &RecordQuery) -> Candidates {
        let last = query.last_sequence.unwrap_or(u64::MAX).min(self.log.len() as u64);
        let first = query.first_sequence.unwrap_or(1).max(1);
        let start = usize::try_from(first - 1).unwrap_or(usize::MAX);
        let end = usize::try_from(last).unwrap_or(usize::MAX);
        if query.agent_ids.is_empty() {
            return Candidates::All { start, end };
        }
        let lists = query.agent_ids.iter().filter_map(|agent| self.by_agent.get(agent));
        let mut positions: Vec<usize> =
            lists.flatten().copied().filter(|position| (start..end).contains(position)).collect();
        positions.sort_unstable();
        positions.dedup();
        Candidates::Some(positions)
    }
}

/// Positions in the log, in order.
enum Candidates {
    All { start: usize, end: usize },
    Some(Vec<usize>),
}

impl Candidates {
    fn into_walk(self, oldest_first: bool) -> Box<dyn Iterator<Item = usize> + Send> {
        match (self, oldest_first) {
            (Self::All { start, end }, true) => Box::new(start..end),
            (Self::All { start, end }, false) => Box::new((start..end).rev()),
            (Self::Some(positions), true) => Box::new(positions.into_iter()),
            (Self::Some(positions), false) => Box::new(positions.into_iter().rev()),
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn commit(&self, batch: Batch) -> Result<Head, StoreError> {
        let started = Instant::now();
        let mut state = self.open_state()?;
        let head = state.commit(batch, self.seal)?;
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

    async fn records(&self, query: &RecordQuery) -> Result<Vec<StoredRecord>, StoreError> {
        let matcher = Matcher::new(query);
        let mut walk = self.open_state()?.candidates(query).into_walk(query.oldest_first);
        let mut found = Vec::new();
        // The log only grows, so what stands at a position is the same at each step.
        loop {
            {
                let state = self.open_state()?;
                for _ in 0..STEP {
                    if found.len() == query.limit {
                        return Ok(found);
                    }
                    let Some(position) = walk.next() else { return Ok(found) };
                    let stored = &state.log[position];
                    if matcher.matches(stored) {
                        found.push(stored.clone());
                    }
                }
            }
            tokio::task::yield_now().await;
        }
    }

    async fn record(&self, id: Uuid) -> Result<Option<StoredRecord>, StoreError> {
        let state = self.open_state()?;
        Ok(state.by_id.get(&id).map(|position| state.log[*position].clone()))
    }

    async fn status(&self) -> Result<StoreStatus, StoreError> {
        let state = self.open_state()?;
        Ok(StoreStatus {
            backend: "memory",
            location: "the memory of this process".to_owned(),
            size: state.size as u64,
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
