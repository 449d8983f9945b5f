//! The audit trail: a record of everything that happened, which shows whether it is whole.
//!
//! Records are written by whoever makes the change that they tell of, in the same transaction; this
//! component adds records on request, reads them, verifies and exports them.
//!
//! # What holds
//!
//! - Records are numbered from 1 without gaps, and each one's hash covers the one before it.
//! - [`AuditTrail::verify_integrity`] finds every record that was changed, added, removed or moved. A
//!   tail that was cut off is found while the head still names it, by the process that wrote or
//!   verified it, and by whoever has a [`Receipt`] of it.
//! - An export carries the hashes and a receipt, so that whoever gets it can tell what is missing.
//!
//! # What is not here
//!
//! No anchor but the receipts that someone keeps elsewhere: whoever may rewrite the whole file can
//! compute a new chain, and a key beside it would sign that too. Each report says how far an anchor
//! reaches.

pub(crate) mod chain;
mod export;
pub(crate) mod query;
mod receipt;
mod verify;

use export::Exporter;
pub use receipt::Receipt;
pub(crate) use verify::{Milestone, hex};

use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use symbiont_store::{Head, LogRow, StoreError, StoredRecord};
use symbiont_types::{
    AuditError, AuditEvent, AuditId, AuditQuery, ExportFormat, IntegrityReport, Verdict,
};

use crate::clock::Clock;
use crate::journal::{Change, Journal};

/// A record of what happened.
#[async_trait]
pub trait AuditTrail: Send + Sync {
    /// Appends an event and returns its id. The same event again is accepted once.
    ///
    /// # Errors
    ///
    /// `InvalidEvent` for details over the bound, too much metadata or a `kind` that is no name (1
    /// to 128 of letters, digits, `_`, `-` and `.`);
    /// `DuplicateId` when another event has the id; `StorageFull`, `Storage`, `ShuttingDown`.
    async fn record_event(&self, event: AuditEvent) -> Result<AuditId, AuditError>;

    /// The events that `query` asks for; the newest 1,000 by default.
    ///
    /// # Errors
    ///
    /// `InvalidQuery` for a limit above 100,000, a range that ends before it begins or a pattern
    /// with a `*` that is not at its end; `Corrupted` when a record that is looked at can't be read;
    /// `Storage`, `ShuttingDown`. Whether records are what was written, verification tells.
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
    /// `NotFound`; `Corrupted` when its record is not what was written; `Storage`, `ShuttingDown`.
    async fn get_event(&self, audit_id: AuditId) -> Result<AuditEvent, AuditError>;

    /// The events that [`AuditTrail::query_events`] would answer with, the oldest first in whatever
    /// order the query chooses them, with their hashes and a receipt.
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

    /// What [`AuditTrail::query_events`] looks at, record by record: one that can't be read is no
    /// failure here, and may be among those that are asked for.
    ///
    /// # Errors
    ///
    /// `InvalidQuery` as there; `Storage`, `ShuttingDown`.
    pub async fn rows(&self, query: &AuditQuery) -> Result<Vec<TrailRow>, AuditError> {
        let query = query::checked(query)?;
        let rows = self.journal.store().rows(&query).await.map_err(storage)?;
        Ok(rows.into_iter().map(TrailRow).collect())
    }

    /// The whole trail up to this moment, to be written piece by piece.
    ///
    /// # Errors
    ///
    /// `ExportFailed` for a format that is not served yet; `Storage`, `ShuttingDown`.
    pub async fn export(&self, format: ExportFormat) -> Result<Export<'_>, AuditError> {
        let exporter = Exporter::new(format)?;
        let last = self.journal.store().status().await.map_err(storage)?.head.sequence;
        let last = i64::try_from(last).unwrap_or(i64::MAX);
        Ok(Export { trail: self, exporter, next: Some(1), last })
    }

    /// [`AuditTrail::verify_integrity`] of a trail that has to contain the last record of each
    /// receipt. Each that it does contain is among the report's anchors, and vouches for every record
    /// up to its last.
    ///
    /// # Errors
    ///
    /// As there; `InvalidQuery` for a receipt that names no record.
    pub async fn verify_against(
        &self,
        from_time: SystemTime,
        to_time: SystemTime,
        receipts: &[Receipt],
    ) -> Result<IntegrityReport, AuditError> {
        let invalid = |reason: &str| AuditError::InvalidQuery { reason: reason.to_owned() };
        if to_time < from_time {
            return Err(invalid("the range ends before it begins"));
        }
        // Before the trail is read: what is recorded meanwhile is not missed.
        let mut milestones = self.journal.milestones();
        for receipt in receipts {
            let (Some(sequence), Some(hash)) = (receipt.last_sequence, receipt.head) else {
                return Err(invalid("the receipt is of no records, so it vouches for none"));
            };
            milestones.push(Milestone {
                at: Head { sequence, hash },
                known: "a receipt names".to_owned(),
                is_anchor: true,
            });
        }
        let (report, head) = verify::verify(self.journal.store(), milestones, from_time, to_time)
            .await
            .map_err(storage)?;
        if report.verdict == Verdict::Intact {
            self.journal.verified(head);
        }
        *self.last_verified.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
            Some(self.journal.now());
        Ok(report)
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
                if query::event(&chain::record(kept)) == there {
                    Ok(id)
                } else {
                    Err(AuditError::DuplicateId { audit_id: id })
                }
            }
            Err(error) => Err(storage(error)),
        }
    }

    async fn query_events(&self, query: AuditQuery) -> Result<Vec<AuditEvent>, AuditError> {
        let records = self.read(&query).await?;
        Ok(records.iter().map(|stored| query::event(&stored.record)).collect())
    }

    async fn verify_integrity(
        &self,
        from_time: SystemTime,
        to_time: SystemTime,
    ) -> Result<IntegrityReport, AuditError> {
        self.verify_against(from_time, to_time, &[]).await
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
        let mut records = self.read(&query).await?;
        records.sort_unstable_by_key(|stored| stored.sequence);
        let row = |stored: StoredRecord| LogRow {
            number: i64::try_from(stored.sequence).unwrap_or(i64::MAX),
            record: Ok(stored),
        };
        let rows: Vec<_> = records.into_iter().map(row).collect();
        let (mut exporter, mut out) = (Exporter::new(format)?, Vec::new());
        exporter.add(&rows, &mut out)?;
        exporter.finish(&mut out)?;
        Ok(out)
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
        if let Some(kind) = event.metadata.get("kind")
            && !is_kind(kind)
        {
            return invalid(
                "`kind` is no name: it is 1 to 128 of letters, digits, `_`, `-` and `.`, such as \
                 `config.updated`"
                    .to_owned(),
            );
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

    async fn stored(&self, id: AuditId) -> Result<StoredRecord, AuditError> {
        let found = self.journal.store().record(id.into()).await.map_err(storage)?;
        found.ok_or(AuditError::NotFound { audit_id: id })
    }

    async fn read(&self, query: &AuditQuery) -> Result<Vec<StoredRecord>, AuditError> {
        let query = query::checked(query)?;
        self.journal.store().records(&query).await.map_err(storage)
    }
}

/// A record of the trail as it lies there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrailRow(LogRow);

impl TrailRow {
    /// Its number.
    pub fn sequence(&self) -> u64 {
        u64::try_from(self.0.number).unwrap_or(0)
    }

    /// The event that it tells of.
    ///
    /// # Errors
    ///
    /// Why it can't be read, in words.
    pub fn event(&self) -> Result<AuditEvent, &str> {
        match &self.0.record {
            Ok(stored) => Ok(query::event(&stored.record)),
            Err(reason) => Err(reason),
        }
    }

    /// The JSON object that exports have for it: all fields and hashes, or `sequence` and
    /// `unreadable`.
    pub fn to_json(&self) -> String {
        export::object(&self.0).to_string()
    }
}

/// The trail on its way out.
#[derive(Debug)]
pub struct Export<'trail> {
    trail: &'trail DefaultAuditTrail,
    exporter: Exporter,
    /// From where the next piece is read; `None` when all is written.
    next: Option<i64>,
    last: i64,
}

impl Export<'_> {
    /// Rows read at a time.
    const PAGE: usize = 2048;

    /// The next piece; `None` after the last, which has the receipt.
    ///
    /// # Errors
    ///
    /// `Storage`, `ShuttingDown`.
    pub async fn piece(&mut self) -> Result<Option<Vec<u8>>, AuditError> {
        let Some(from) = self.next else { return Ok(None) };
        let page = self.trail.journal.store().log(from, Self::PAGE).await.map_err(storage)?;
        let following = page.rows.last().and_then(|last| last.number.checked_add(1));
        self.next = following.filter(|next| *next <= self.last);
        let mut rows = page.rows;
        rows.retain(|row| row.number <= self.last);
        let mut out = Vec::new();
        self.exporter.add(&rows, &mut out)?;
        if self.next.is_none() {
            self.exporter.finish(&mut out)?;
        }
        Ok(Some(out))
    }

    /// How many records are in the pieces so far.
    pub fn records(&self) -> u64 {
        self.exporter.receipt.records
    }

    /// How many records could not be read; each stands in the export as `unreadable`.
    pub fn unreadable(&self) -> u64 {
        self.exporter.unreadable
    }
}

/// Whether a kind can be asked for by its name.
fn is_kind(kind: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    (1..=128).contains(&kind.len()) && kind.bytes().all(plain)
}

/// The trail's word for what the store says.
fn storage(error: StoreError) -> AuditError {
    match error {
        StoreError::Full => AuditError::StorageFull,
        StoreError::Closed => AuditError::ShuttingDown,
        StoreError::DamagedRecord { sequence, .. } => AuditError::Corrupted { sequence },
        error => AuditError::Storage { reason: error.to_string() },
    }
}
