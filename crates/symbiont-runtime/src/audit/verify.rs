//! Is the trail what was written?

use std::time::SystemTime;

use symbiont_store::{Head, RecordQuery, Store, StoreError, StoredRecord};
use symbiont_types::{Finding, FindingKind, IntegrityReport, Verdict};
use tokio::time::Instant;

use super::chain;
use crate::clock::micros;

/// Records read at a time.
const PAGE: usize = 4096;
/// The most findings that a report lists.
const MOST_FINDINGS: usize = 1_000;

/// Walks the trail in order and compares each record with its hash, and with the one before it.
///
/// Every link is followed from the first record, whatever the range, since a record vouches only
/// for those before it; the range chooses which records' findings are reported.
pub(crate) async fn verify(
    store: &dyn Store,
    from: SystemTime,
    to: SystemTime,
) -> Result<IntegrityReport, StoreError> {
    let began = Instant::now();
    let status = store.status().await?;
    let mut walk = Walk { from: micros(from), to: micros(to), ..Walk::default() };
    let mut next = Some(1);
    while let Some(first) = next {
        // What is appended meanwhile is for the next verification.
        let page = read(store, first, status.head.sequence.max(first)).await?;
        for found in &page.records {
            match found {
                Ok(stored) => walk.step(stored),
                Err((sequence, reason)) => walk.skip(*sequence, reason),
            }
        }
        next = page.next;
    }
    walk.finish(status.head);
    let beyond = read(store, status.head.sequence + 1, status.head.sequence + 1).await?;
    if !beyond.records.is_empty() {
        // A record is written together with the head that names it: one that was appended
        // meanwhile is known to the head as it is now.
        let head = store.status().await?.head;
        if head.sequence == status.head.sequence {
            let detail = format!("the trail ends at record {}: this one was added", head.sequence);
            walk.find(head.sequence + 1, FindingKind::RootMismatch, detail);
        }
    }
    let tampered = walk.findings.iter().any(|finding| is_damage(finding.kind));
    Ok(IntegrityReport {
        from,
        to,
        first_sequence: walk.first,
        last_sequence: walk.last_in_range,
        events_checked: walk.checked,
        verdict: if tampered { Verdict::Tampered } else { Verdict::Intact },
        findings: walk.findings,
        tree_size: status.head.sequence,
        root_hash: hex(&status.head.hash),
        anchors: Vec::new(),
        origin: status.location,
        duration: began.elapsed(),
    })
}

/// Some records in their order.
struct Page {
    /// Each, or its number and why it can't be read.
    records: Vec<Result<StoredRecord, (u64, String)>>,
    /// Where the next page begins, if there may be one.
    next: Option<u64>,
}

/// Records from `first` up to `last`, at most a page of them.
async fn read(store: &dyn Store, first: u64, last: u64) -> Result<Page, StoreError> {
    let query = |first, last| RecordQuery {
        first_sequence: Some(first),
        last_sequence: Some(last),
        oldest_first: true,
        limit: PAGE,
        ..RecordQuery::default()
    };
    match store.records(&query(first, last)).await {
        Ok(found) => {
            let end = found.last().filter(|_| found.len() == PAGE).map(|last| last.sequence + 1);
            Ok(Page { records: found.into_iter().map(Ok).collect(), next: end })
        }
        // Something among them is no record any more, which must not hide the others.
        Err(StoreError::Corrupted { .. }) => {
            let end = last.min(first.saturating_add(PAGE as u64 - 1));
            let mut records = Vec::new();
            for sequence in first..=end {
                match store.records(&query(sequence, sequence)).await {
                    Ok(found) => records.extend(found.into_iter().map(Ok)),
                    Err(StoreError::Corrupted { reason }) => records.push(Err((sequence, reason))),
                    Err(error) => return Err(error),
                }
            }
            Ok(Page { records, next: (end < last).then_some(end + 1) })
        }
        Err(error) => Err(error),
    }
}

#[derive(Default)]
struct Walk {
    from: i64,
    to: i64,
    previous: Head,
    /// Whether the record before could not be read, so that nothing is known of its hash.
    after_a_skip: bool,
    previous_intake: Option<i64>,
    first: Option<u64>,
    last_in_range: Option<u64>,
    checked: u64,
    findings: Vec<Finding>,
}

impl Walk {
    fn step(&mut self, stored: &StoredRecord) {
        let in_range = (self.from..=self.to).contains(&stored.ingested_at);
        let expected = self.previous.sequence + 1;
        if stored.sequence != expected {
            // A gap concerns the range if either side of it does; time tells nothing certain of
            // records that are not there.
            self.find(
                expected,
                FindingKind::MissingSequence,
                format!("records {expected} to {} are not there", stored.sequence - 1),
            );
        } else if stored.prev_hash != self.previous.hash && !self.after_a_skip {
            self.find(
                stored.sequence,
                FindingKind::Reordered,
                "the record does not follow the one before it".to_owned(),
            );
        }
        // A record's own time says nothing until its hash has been compared, so that the range
        // never decides whether a record is looked at.
        if !chain::is_whole(stored) {
            self.find(
                stored.sequence,
                FindingKind::HashMismatch,
                "the record is not what was written".to_owned(),
            );
        }
        if self.previous_intake.is_some_and(|before| stored.ingested_at < before) {
            self.find(
                stored.sequence,
                FindingKind::ClockRegression,
                "taken in at an earlier time than the record before it".to_owned(),
            );
        }
        if in_range {
            self.first.get_or_insert(stored.sequence);
            self.last_in_range = Some(stored.sequence);
            self.checked += 1;
        }
        self.previous = Head { sequence: stored.sequence, hash: stored.leaf_hash };
        self.previous_intake = Some(stored.ingested_at);
        self.after_a_skip = false;
    }

    /// A record that can't be read. Nothing tells its time, so it concerns every range.
    fn skip(&mut self, sequence: u64, reason: &str) {
        let expected = self.previous.sequence + 1;
        if sequence > expected {
            let detail = format!("records {expected} to {} are not there", sequence - 1);
            self.find(expected, FindingKind::MissingSequence, detail);
        }
        self.find(sequence, FindingKind::HashMismatch, reason.to_owned());
        self.previous.sequence = sequence;
        self.after_a_skip = true;
        self.checked += 1;
    }

    fn finish(&mut self, head: Head) {
        if self.previous.sequence < head.sequence {
            let first = self.previous.sequence + 1;
            let detail = format!("records {first} to {} at the end are not there", head.sequence);
            self.find(first, FindingKind::TruncatedTail, detail);
        } else if self.previous.sequence > head.sequence
            || (self.previous.hash != head.hash && !self.after_a_skip)
        {
            let detail = "the last record is not the one that the trail's head names".to_owned();
            self.find(self.previous.sequence, FindingKind::RootMismatch, detail);
        }
        if head.sequence > 0 {
            let detail = "no anchor outside this trail vouches for it: whoever may rewrite all of \
                          it could have done so (keep an exported receipt elsewhere)";
            self.find(head.sequence, FindingKind::UnanchoredTail, detail.to_owned());
        }
    }

    fn find(&mut self, sequence: u64, kind: FindingKind, detail: String) {
        if self.findings.len() < MOST_FINDINGS {
            self.findings.push(Finding { sequence, kind, detail });
        }
    }
}

fn is_damage(kind: FindingKind) -> bool {
    match kind {
        FindingKind::HashMismatch
        | FindingKind::MissingSequence
        | FindingKind::Reordered
        | FindingKind::BadCheckpointSignature
        | FindingKind::RootMismatch
        | FindingKind::TruncatedTail
        | FindingKind::ClockRegression
        | FindingKind::UnknownKey => true,
        FindingKind::UnanchoredTail | FindingKind::PrunedRange => false,
    }
}

/// Lowercase hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
