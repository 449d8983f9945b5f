//! What the tests put in a component's way: a store that fails when it is told to, and an agent's
//! port that remembers what was asked of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use symbiont_store::{
    Batch, Head, LogPage, LogRow, MemoryStore, RecordQuery, Store, StoreError, StoreStatus,
    StoredRecord, Table,
};
use symbiont_types::{AgentId, AgentState, ErrorAction, LifecycleError, ResourceLimits};
use tokio::sync::{Notify, oneshot, watch};

use crate::directory::{Activation, AgentPort, AttemptOutcome, Readiness, Usage};
use crate::journal::options;

/// A store in memory whose commits can be made to fail.
#[derive(Debug)]
pub(crate) struct FaultyStore {
    store: MemoryStore,
    failing: AtomicBool,
}

impl FaultyStore {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { store: MemoryStore::new(options()), failing: AtomicBool::new(false) })
    }

    pub(crate) fn fail(&self, failing: bool) {
        self.failing.store(failing, Ordering::SeqCst);
    }
}

#[async_trait]
impl Store for FaultyStore {
    async fn commit(&self, batch: Batch) -> Result<Head, StoreError> {
        // Others come in between, as they do while a disk is written to.
        tokio::task::yield_now().await;
        if self.failing.load(Ordering::SeqCst) {
            return Err(StoreError::Full);
        }
        self.store.commit(batch).await
    }

    async fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.get(table, key).await
    }

    async fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        self.store.scan(table, prefix, after, limit).await
    }

    async fn rows(&self, query: &RecordQuery) -> Result<Vec<LogRow>, StoreError> {
        self.store.rows(query).await
    }

    async fn faults(&self) -> Result<Vec<String>, StoreError> {
        self.store.faults().await
    }

    async fn log(&self, from: i64, limit: usize) -> Result<LogPage, StoreError> {
        self.store.log(from, limit).await
    }

    async fn record(&self, id: uuid::Uuid) -> Result<Option<StoredRecord>, StoreError> {
        self.store.record(id).await
    }

    async fn status(&self) -> Result<StoreStatus, StoreError> {
        self.store.status().await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.store.close().await
    }
}

/// Runs agents that do nothing, says of them what it was given, and remembers what it was told.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    /// How many attempts at tasks have begun.
    pub(crate) began: watch::Sender<u32>,
    /// How the next attempt ends, once it does; without it, never.
    ends: Mutex<Option<oneshot::Receiver<AttemptOutcome>>>,
    told: Mutex<Vec<ErrorAction>>,
    usage: Mutex<Option<Usage>>,
    /// Set: what is asked of it never ends.
    pub(crate) stuck: AtomicBool,
    pub(crate) asked: Notify,
}

impl Witness {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn told(&self) -> Vec<ErrorAction> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How the next attempt at a task ends; the record of that end fails.
    pub(crate) fn ends(&self, end: oneshot::Receiver<AttemptOutcome>) {
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
    }

    /// What its agents use from now on.
    pub(crate) fn uses(&self, usage: Usage) {
        *self.usage.lock().unwrap_or_else(PoisonError::into_inner) = Some(usage);
    }
}

#[async_trait]
impl AgentPort for Witness {
    fn state(&self, _id: AgentId) -> Option<AgentState> {
        Some(AgentState::Waiting)
    }

    fn limits(&self, _id: AgentId) -> Option<ResourceLimits> {
        None
    }

    fn is_ephemeral(&self, _id: AgentId) -> bool {
        false
    }

    fn readiness(&self, _id: AgentId) -> Readiness {
        Readiness::Ready
    }

    fn waits_for(&self, _id: AgentId) -> Option<String> {
        None
    }

    async fn run_task(&self, _id: AgentId, activation: Activation) -> AttemptOutcome {
        let errand = activation.errand;
        let Some(_recorded) = errand.begins(uuid::Uuid::now_v7()) else {
            return AttemptOutcome::NotNow("nobody waits for it".to_owned());
        };
        let end = self.ends.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.began.send_modify(|count| *count += 1);
        let Some(end) = end else { return std::future::pending().await };
        let outcome = end.await.expect("the test says how it ends");
        let _unrecorded = errand.ends(&outcome);
        errand.settled(false);
        outcome
    }

    fn mail_waiting(&self, _id: AgentId) {}

    async fn usage(&self, _id: AgentId) -> Result<Usage, String> {
        let usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner).clone();
        usage.ok_or_else(|| "nobody looked".to_owned())
    }

    async fn control(
        &self,
        _id: AgentId,
        _run: Option<uuid::Uuid>,
        action: &ErrorAction,
        _reason: &str,
    ) -> Result<(), LifecycleError> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).push(action.clone());
        self.asked.notify_one();
        if self.stuck.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}
