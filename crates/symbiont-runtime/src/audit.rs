//! The audit trail: a record of everything that happened, which shows whether it is whole.
//!
//! Records are written by whoever makes the change that they tell of, in the same transaction; this
//! component adds records on request, reads them, verifies and exports them.
//!
//! # What holds
//!
//! - Records are numbered from 1 without gaps, and each one's hash covers the one before it.
//! - [`AuditTrail::verify_integrity`] finds every record that was changed, removed or moved, and a
//!   tail that was cut off while the head was left as it was.
//! - An export carries the hashes and a receipt, so that whoever gets it can tell what is missing.
//!
//! # What is not here
//!
//! No anchor: someone who may rewrite the whole file can compute a new chain. Each report says so.

pub(crate) mod chain;
mod export;
mod query;
mod verify;

pub(crate) use verify::hex;

use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use symbiont_store::StoreError;
use symbiont_types::{AuditError, AuditEvent, AuditId, AuditQuery, ExportFormat, IntegrityReport};

use crate::clock::Clock;
use crate::journal::{Change, Journal};

/// A record of what happened.
#[async_trait]
pub trait AuditTrail: Send + Sync {
    /// Appends an event and returns its id. The same event again is accepted once.
    ///
    /// # Errors
    ///
    /// `InvalidEvent` for details over the bound, too much metadata or a `kind` that is no name;
    /// `DuplicateId` when another event has the id; `StorageFull`, `Storage`, `ShuttingDown`.
    async fn record_event(&self, event: AuditEvent) -> Result<AuditId, AuditError>;

    /// The events that `query` asks for; the newest 1,000 by default.
    ///
    /// # Errors
    ///
    /// `InvalidQuery` for a limit above 100,000, a range that ends before it begins or a pattern
    /// with a `*` that is not at its end; `Storage`, `Corrupted`, `ShuttingDown`.
    async fn query_events(&self, query: AuditQuery) -> Result<Vec<AuditEvent>, AuditError>;

    /// Verifies the trail from its first record to its end: each record, its link to the one before
    /// it, and the end. The range says which records are counted in the report; damage outside it
    /// is reported too, since a changed record can claim any time.
    ///
    /// # Errors
    ///
    /// `InvalidQuery` when the range ends before it begins; `Storage`, `ShuttingDown`. Damage is a
    /// finding in the report and no error.
    async fn verify_integrity(
        &self,
        from_time: SystemTime,
        to_time: SystemTime,
    ) -> Result<IntegrityReport, AuditError>;

    /// The event with this id.
    ///
    /// # Errors
    ///
    /// `NotFound`, `Storage`, `Corrupted`, `ShuttingDown`.
    async fn get_event(&self, audit_id: AuditId) -> Result<AuditEvent, AuditError>;

    /// The events that `query` asks for, the oldest first, with their hashes and a receipt.
    ///
    /// # Errors
    ///
    /// As [`AuditTrail::query_events`]; `ExportFailed` for a format that is not served yet.
    async fn export_events(
        &self,
        query: AuditQuery,
        format: ExportFormat,
    ) -> Result<Vec<u8>, AuditError>;
}

/// Settings of the audit trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditTrailConfig {
    /// The most bytes that an event's details may have.
    pub max_details: usize,
    /// The most entries that an event's metadata may have.
    pub max_metadata: usize,
    /// How far an event's own time may be from the trail's before the record is marked with
    /// `skew`.
    pub skew_tolerance: Duration,
}

impl Default for AuditTrailConfig {
    /// 64 KiB of details, 64 entries of metadata, five minutes.
    fn default() -> Self {
        Self { max_details: 64 * 1024, max_metadata: 64, skew_tolerance: Duration::from_secs(300) }
    }
}

/// The audit trail over a journal.
#[derive(Debug)]
pub struct DefaultAuditTrail {
    settings: AuditTrailConfig,
    journal: Journal,
    last_verified: Mutex<Option<SystemTime>>,
}

/// Builds a [`DefaultAuditTrail`].
#[derive(Debug)]
pub struct AuditTrailBuilder {
    config: AuditTrailConfig,
    journal: Journal,
}

impl DefaultAuditTrail {
    /// A trail in memory.
    ///
    /// # Errors
    ///
    /// `InvalidEvent` when a bound in the config is zero.
    pub async fn new(config: AuditTrailConfig) -> Result<Self, AuditError> {
        Self::builder(config).build()
    }

    /// A trail over what [`AuditTrailBuilder::journal`] says; in memory by default.
    pub fn builder(config: AuditTrailConfig) -> AuditTrailBuilder {
        AuditTrailBuilder { config, journal: Journal::in_memory(Clock::system()) }
    }

    /// [`AuditTrail::query_events`], each event with its number in the trail.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn numbered_events(
        &self,
        query: &AuditQuery,
    ) -> Result<Vec<(u64, AuditEvent)>, AuditError> {
        let records = self.read(query).await?;
        Ok(records.iter().map(|stored| (stored.sequence, query::event(&stored.record))).collect())
    }

    /// When this trail was last verified.
    pub fn last_verified(&self) -> Option<SystemTime> {
        *self.last_verified.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl AuditTrailBuilder {
    /// Uses `journal`.
    #[must_use]
    pub fn journal(self, journal: Journal) -> Self {
        Self { journal, ..self }
    }

    /// The trail.
    ///
    /// # Errors
    ///
    /// `InvalidEvent` when a bound in the config is zero: no event would pass.
    pub fn build(self) -> Result<DefaultAuditTrail, AuditError> {
        if self.config.max_details == 0 || self.config.max_metadata == 0 {
            return Err(AuditError::InvalidEvent {
                reason: "`max_details` and `max_metadata` must be at least 1".to_owned(),
            });
        }
        Ok(DefaultAuditTrail {
            settings: self.config,
            journal: self.journal,
            last_verified: Mutex::default(),
        })
    }
}

#[async_trait]
impl AuditTrail for DefaultAuditTrail {
    async fn record_event(&self, event: AuditEvent) -> Result<AuditId, AuditError> {
        let id = event.id;
        let event = self.accept(event)?;
        let kept = event.clone();
        match self.journal.commit(Change::new().record_event(event)).await {
            Ok(_) => Ok(id),
            Err(StoreError::DuplicateRecord { .. }) => {
                let there = self.stored(id).await?;
                let mut there = query::event(&there.record);
                // What the trail added itself is no difference.
                there.metadata.remove("skew");
                let mut kept = kept;
                kept.metadata.remove("skew");
                if query::event(&chain::record(&kept)) == there {
                    Ok(id)
                } else {
                    Err(AuditError::DuplicateId { audit_id: id })
                }
            }
            Err(error) => Err(storage(error)),
        }
    }

    async fn query_events(&self, query: AuditQuery) -> Result<Vec<AuditEvent>, AuditError> {
        let numbered = self.numbered_events(&query).await?;
        Ok(numbered.into_iter().map(|(_, event)| event).collect())
    }

    async fn verify_integrity(
        &self,
        from_time: SystemTime,
        to_time: SystemTime,
    ) -> Result<IntegrityReport, AuditError> {
        if to_time < from_time {
            return Err(AuditError::InvalidQuery {
                reason: "the range ends before it begins".to_owned(),
            });
        }
        let report =
            verify::verify(self.journal.store(), from_time, to_time).await.map_err(storage)?;
        *self.last_verified.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
            Some(self.journal.now());
        Ok(report)
    }

    async fn get_event(&self, audit_id: AuditId) -> Result<AuditEvent, AuditError> {
        let stored = self.stored(audit_id).await?;
        if !chain::is_whole(&stored) {
            return Err(AuditError::Corrupted { sequence: stored.sequence });
        }
        Ok(query::event(&stored.record))
    }

    async fn export_events(
        &self,
        query: AuditQuery,
        format: ExportFormat,
    ) -> Result<Vec<u8>, AuditError> {
        let query = AuditQuery { order: symbiont_types::AuditOrder::OldestFirst, ..query };
        let records = self.read(&query).await?;
        export::export(&records, format)
    }
}

impl DefaultAuditTrail {
    fn accept(&self, mut event: AuditEvent) -> Result<AuditEvent, AuditError> {
        let invalid = |reason: String| Err(AuditError::InvalidEvent { reason });
        let AuditTrailConfig { max_details, max_metadata, skew_tolerance } = self.settings;
        if event.details.len() > max_details {
            return invalid(format!(
                "details of {} bytes are too long: the most is {max_details}",
                event.details.len()
            ));
        }
        if event.metadata.len() > max_metadata {
            return invalid(format!(
                "{} entries of metadata are too many: the most is {max_metadata}",
                event.metadata.len()
            ));
        }
        let size: usize = event.metadata.iter().map(|(k, v)| k.len() + v.len()).sum();
        if size > max_details {
            return invalid(format!(
                "metadata of {size} bytes is too long: the most is {max_details}"
            ));
        }
        let now = self.journal.now();
        let skew = event
            .timestamp
            .duration_since(now)
            .or_else(|_| now.duration_since(event.timestamp))
            .unwrap_or_default();
        if skew > skew_tolerance {
            event.metadata.insert("skew".to_owned(), format!("{}s", skew.as_secs()));
        }
        // Times are kept to the microsecond.
        event.timestamp = crate::clock::from_micros(crate::clock::micros(event.timestamp));
        Ok(event)
    }

    async fn stored(&self, id: AuditId) -> Result<symbiont_store::StoredRecord, AuditError> {
        let found = self.journal.store().record(id.into()).await.map_err(storage)?;
        found.ok_or(AuditError::NotFound { audit_id: id })
    }

    async fn read(
        &self,
        query: &AuditQuery,
    ) -> Result<Vec<symbiont_store::StoredRecord>, AuditError> {
        let query = query::checked(query)?;
        self.journal.store().records(&query).await.map_err(storage)
    }
}

/// The trail's word for what the store says.
fn storage(error: StoreError) -> AuditError {
    match error {
        StoreError::Full => AuditError::StorageFull,
        StoreError::Closed => AuditError::ShuttingDown,
        error => AuditError::Storage { reason: error.to_string() },
    }
}
