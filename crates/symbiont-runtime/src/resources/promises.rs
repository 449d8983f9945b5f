//! Making promises, changing them and taking them back: the ledger and the journal, in step.
//!
//! An agent's promises are changed one at a time, so that they are recorded in the order in which
//! they were decided, and an answer says what is on record. What a change needs is set aside before
//! it is recorded; what it frees is free after that.

use std::sync::Arc;

use symbiont_store::StoreError;
use symbiont_types::{
    AgentId, AuditEventType, ResourceAllocation, ResourceError, ResourceKind, ResourceLimits,
    ResourceUsage,
};

use super::ledger::{self, Promise, Refusal};
use super::watch::Watched;
use super::{Inner, failed};
use crate::clock::{from_micros, micros};
use crate::directory::LedgerPort;
use crate::journal::{ALLOCATIONS, Change, StoredLimits};

/// A promise as it is kept, or that there once was one.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Stored {
    /// When it was made, or when it ended.
    pub(super) since: i64,
    /// `None`: it has ended.
    pub(super) limits: Option<StoredLimits>,
}

impl Inner {
    pub(super) async fn allocate(
        &self,
        agent_id: AgentId,
        limits: ResourceLimits,
    ) -> Result<ResourceAllocation, ResourceError> {
        let _turn = self.turns.of(agent_id).await;
        let now = from_micros(micros(self.journal.now()));
        let (promise, current_usage) = {
            let mut books = self.open()?;
            let promise =
                books.ledger.allocate(agent_id, &limits, now).map_err(|r| refusal(agent_id, r))?;
            let watched = books.watched.entry(agent_id).or_insert_with(Watched::default);
            (promise, watched.current())
        };
        if !promise.settled {
            let recorded = match self.take_place(agent_id) {
                Ok(()) => self.record(agent_id, Some(&promise), "resources.allocated").await,
                Err(error) => Err(error),
            };
            let mut books = self.lock();
            if let Err(error) = recorded {
                books.ledger.release(agent_id);
                books.watched.remove(&agent_id);
                drop(books);
                self.leave_place(agent_id);
                return Err(error);
            }
            books.ledger.settle(agent_id, promise.clone());
            let first = books.ledger.len() == 1;
            drop(books);
            if first {
                self.watch.notify_one();
            }
        }
        Ok(ResourceAllocation {
            agent_id,
            allocated_at: promise.since,
            limits: promise.limits,
            current_usage,
        })
    }

    pub(super) async fn update(
        &self,
        agent_id: AgentId,
        limits: ResourceLimits,
    ) -> Result<(), ResourceError> {
        let _turn = self.turns.of(agent_id).await;
        let (before, after) =
            self.open()?.ledger.reserve(agent_id, &limits).map_err(|r| refusal(agent_id, r))?;
        let recorded = self.record(agent_id, Some(&after), "resources.updated").await;
        let mut books = self.lock();
        books.ledger.settle(agent_id, if recorded.is_ok() { after } else { before });
        if recorded.is_ok()
            && let Some(watched) = books.watched.get_mut(&agent_id)
        {
            watched.begin_grace();
        }
        recorded
    }

    pub(super) async fn release(&self, agent_id: AgentId) -> Result<(), ResourceError> {
        let _turn = self.turns.of(agent_id).await;
        if self.lock().ledger.get(agent_id).is_none() {
            return match self.is_known(agent_id) {
                true => Ok(()),
                false => Err(ResourceError::DeallocationFailed { agent_id }),
            };
        }
        self.record(agent_id, None, "resources.deallocated").await?;
        let mut books = self.lock();
        books.ledger.release(agent_id);
        let forgotten = books.forget_later(agent_id);
        drop(books);
        self.leave_place(agent_id);
        if let Some(forgotten) = forgotten {
            self.forget_row(forgotten);
        }
        Ok(())
    }

    /// Nobody remembers that the agent once had a promise; neither does the store.
    pub(super) fn forget_row(&self, agent_id: AgentId) {
        let Some(inner) = self.this.upgrade() else { return };
        self.tasks.spawn(async move {
            let _turn = inner.turns.of(agent_id).await;
            if inner.lock().ledger.get(agent_id).is_some() {
                return; // It has one again.
            }
            let change = Change::new().remove(ALLOCATIONS, *agent_id.as_uuid().as_bytes());
            if let Err(error) = inner.journal.commit(change).await {
                tracing::error!(%agent_id, %error, "a promise that ended could not be forgotten");
            }
        });
    }

    /// Whether the agent has, or once had, a promise, as far as this process knows or the agent's
    /// controller remembers the agent.
    pub(super) fn is_known(&self, agent_id: AgentId) -> bool {
        let remembered = {
            let books = self.lock();
            books.ledger.get(agent_id).is_some() || books.past.contains(&agent_id)
        };
        remembered
            || self.directory.agent(agent_id).is_some_and(|port| port.state(agent_id).is_some())
    }

    pub(super) fn take_place(&self, agent_id: AgentId) -> Result<(), ResourceError> {
        let port: Arc<dyn LedgerPort> = self.this.upgrade().expect("`self` is alive");
        self.directory.set_ledger(agent_id, &port).map_err(|_| {
            failed(format!("another resource manager has promised to agent `{agent_id}`"))
        })
    }

    /// Leaves the agent's place in the directory, if it is this manager's.
    fn leave_place(&self, agent_id: AgentId) {
        let port: Arc<dyn LedgerPort> = self.this.upgrade().expect("`self` is alive");
        self.directory.clear_ledger(agent_id, &port);
    }

    async fn record(
        &self,
        agent_id: AgentId,
        promise: Option<&Promise>,
        kind: &'static str,
    ) -> Result<(), ResourceError> {
        let event_type = match promise {
            Some(_) => AuditEventType::ResourceAllocated,
            None => AuditEventType::ResourceDeallocated,
        };
        let mut entry = self.journal.event(event_type, kind).agent(agent_id);
        let key = *agent_id.as_uuid().as_bytes();
        let (since, limits) = match promise {
            Some(promise) => {
                let limits = &promise.limits;
                entry = entry.details(format!(
                    "{} MiB, {} cores, {} MB/s disk, {} MB/s network",
                    limits.memory_mb, limits.cpu_cores, limits.disk_io_mbps, limits.network_io_mbps
                ));
                (micros(promise.since), Some(StoredLimits::from(limits)))
            }
            None => (micros(self.journal.now()), None),
        };
        let change = Change::new().put(ALLOCATIONS, key, &Stored { since, limits });
        self.journal.commit(change.record(entry)).await.map(|_| ()).map_err(|error| match error {
            StoreError::Closed => failed("the resource manager is shutting down".to_owned()),
            error => failed(format!("not recorded: {error}")),
        })
    }
}

impl Watched {
    /// What is used now, as far as it has been seen.
    fn current(&self) -> ResourceUsage {
        self.reading.as_ref().and_then(|reading| reading.usage().ok()).unwrap_or_default()
    }
}

fn refusal(agent_id: AgentId, refusal: Refusal) -> ResourceError {
    match refusal {
        Refusal::HoldsAnother | Refusal::NotANumber => ResourceError::AllocationFailed { agent_id },
        Refusal::HoldsNone => never(agent_id),
        Refusal::NotEnough(lacking) => {
            #[expect(clippy::cast_precision_loss, reason = "figures for people")]
            let shown = |kind: ResourceKind, amount: u64| match kind {
                ResourceKind::Memory | ResourceKind::Disk => {
                    format!("{} MiB", amount / ledger::MIB)
                }
                ResourceKind::Cpu => format!("{} cores", amount as f64 / 1000.0),
                ResourceKind::Network => format!("{} MB/s", amount / 1_000_000),
            };
            let requirements: Vec<String> = lacking
                .into_iter()
                .map(|(kind, asked, available)| {
                    format!(
                        "{kind}: {} asked, {} available",
                        shown(kind, asked),
                        shown(kind, available)
                    )
                })
                .collect();
            ResourceError::InsufficientResources { requirements: requirements.join("; ") }
        }
    }
}

pub(super) fn never(agent_id: AgentId) -> ResourceError {
    failed(format!("agent `{agent_id}` has no allocation (use allocate_resources)"))
}
