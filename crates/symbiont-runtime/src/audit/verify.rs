//! Is the trail what was written?

use std::time::SystemTime;

use symbiont_store::{Head, LogRow, Store, StoreError, StoredRecord};
use symbiont_types::{Finding, FindingKind, IntegrityReport, Verdict};
use tokio::time::Instant;

use super::chain;
use crate::clock::micros;

/// Rows read at a time.
const PAGE: usize = 2048;
/// The most findings that a report lists: the last two places are kept for how many more there are,
/// and for what no anchor vouches for.
const MOST_FINDINGS: usize = 1_000 - 2;

/// A record that is known from elsewhere, which the trail has to contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Milestone {
    /// Its number and its hash.
    pub(crate) at: Head,
    /// Who knows it, in words.
    pub(crate) known: String,
    /// Whether it is known outside this process, so that it vouches for the trail up to it.
    pub(crate) is_anchor: bool,
}

/// Walks the trail in order and compares each record with its hash, and with the one before it.
///
/// Every row of the log is looked at, whatever its number, since one that was added is damage as
/// well. Every link is followed from the first record, whatever the range, since a record vouches
/// only for those before it; the range chooses which records are counted. What is appended meanwhile
/// is verified too, and so is whether the indexes by which records are found have all of them. The
/// report, and the end that it goes up to.
pub(crate) async fn verify(
    store: &dyn Store,
    milestones: Vec<Milestone>,
    from: SystemTime,
    to: SystemTime,
) -> Result<(IntegrityReport, Head), StoreError> {
    let began = Instant::now();
    let status = store.status().await?;
    let mut walk = Walk::new(milestones, micros(from), micros(to));
    let (faults, walked) = tokio::join!(store.faults(), walk_through(store, &mut walk));
    let (head, ended_at) = walked?;
    for fault in faults? {
        walk.find(0, FindingKind::RootMismatch, format!("queries may leave records out: {fault}"));
    }
    walk.finish(head, ended_at);
    // A trail that has been in use has records; one without any says nothing of what was.
    let is_emptied = head.sequence == 0 && status.epoch > 1;
    let tampered = walk.findings.iter().any(|finding| finding.kind.is_damage());
    let verdict = match (tampered, is_emptied) {
        (true, _) => Verdict::Tampered,
        (false, true) => Verdict::Unverifiable,
        (false, false) => Verdict::Intact,
    };
    let report = IntegrityReport {
        from,
        to,
        first_sequence: walk.first,
        last_sequence: walk.last_in_range,
        events_checked: walk.checked,
        verdict,
        findings: walk.findings,
        tree_size: head.sequence,
        root_hash: hex(&head.hash),
        anchors: walk.anchors,
        origin: status.location,
        duration: began.elapsed(),
    };
    Ok((report, head))
}

/// Walks over every row; the end of the log and when its last record was taken in, as the store keeps
/// them apart from the records.
async fn walk_through(store: &dyn Store, walk: &mut Walk) -> Result<(Head, i64), StoreError> {
    let mut page = store.log(i64::MIN, PAGE).await?;
    loop {
        walk.begin(page.gone);
        let following = page.rows.last().and_then(|last| last.number.checked_add(1));
        let (end, rows) = (page.head, page.rows);
        let step = async { rows.iter().for_each(|row| walk.row(row, end)) };
        let Some(following) = following else {
            step.await;
            return Ok((end, page.head_ingested_at));
        };
        // The next page is read while this one is hashed.
        let (next, ()) = tokio::join!(store.log(following, PAGE), step);
        page = next?;
    }
}

struct Walk {
    from: i64,
    to: i64,
    /// Those that are still to come, the last one first.
    milestones: Vec<Milestone>,
    previous: Head,
    /// Whether the record before could not be read, so that nothing is known of its hash.
    after_a_skip: bool,
    previous_intake: Option<i64>,
    first: Option<u64>,
    last_in_range: Option<u64>,
    checked: u64,
    findings: Vec<Finding>,
    /// How many findings there was no room for, and the kind of the first of them.
    unlisted: Option<(u64, FindingKind)>,
    anchors: Vec<String>,
    /// The last record that an anchor vouches for.
    anchored: u64,
}

impl Walk {
    fn new(mut milestones: Vec<Milestone>, from: i64, to: i64) -> Self {
        milestones.sort_by_key(|milestone| std::cmp::Reverse(milestone.at.sequence));
        Self {
            from,
            to,
            milestones,
            previous: Head::default(),
            after_a_skip: false,
            previous_intake: None,
            first: None,
            last_in_range: None,
            checked: 0,
            findings: Vec::new(),
            unlisted: None,
            anchors: Vec::new(),
            anchored: 0,
        }
    }

    /// Goes on after the records that are gone, if that is not behind.
    fn begin(&mut self, gone: Head) {
        if gone.sequence <= self.previous.sequence {
            return;
        }
        let first = self.previous.sequence + 1;
        let detail = format!(
            "records {first} to {} are no longer kept; the chain begins after them",
            gone.sequence
        );
        self.find(first, FindingKind::PrunedRange, detail);
        self.previous = gone;
        self.after_a_skip = false;
        // What is known of those that are gone can't be compared any more, but for the last.
        while self.milestones.last().is_some_and(|next| next.at.sequence < gone.sequence) {
            self.milestones.pop();
        }
        self.pass(gone);
    }

    fn row(&mut self, row: &LogRow, end: Head) {
        match u64::try_from(row.number) {
            Ok(sequence @ 1..) if sequence <= end.sequence => match &row.record {
                Ok(stored) => self.step(stored),
                Err(reason) => self.skip(sequence, reason),
            },
            // A record is written together with the head that names it.
            Ok(sequence @ 1..) => {
                let detail =
                    format!("the trail ends at record {}: this one was added", end.sequence);
                self.find(sequence, FindingKind::RootMismatch, detail);
            }
            Ok(_) | Err(_) => {
                let detail = format!(
                    "the trail begins at record 1: the one numbered {} was added",
                    row.number
                );
                self.find(0, FindingKind::RootMismatch, detail);
            }
        }
    }

    fn step(&mut self, stored: &StoredRecord) {
        let in_range = (self.from..=self.to).contains(&stored.ingested_at);
        let expected = self.previous.sequence + 1;
        if stored.sequence < expected {
            let detail = "its number was there before".to_owned();
            self.find(stored.sequence, FindingKind::Reordered, detail);
        } else if stored.sequence > expected {
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
        self.pass(self.previous);
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

    /// Compares what is known of the record `at` with the record. One that is known and was never
    /// passed lies in a gap, could not be read, or is beyond the end: each is a finding already or
    /// becomes one in [`Walk::finish`].
    fn pass(&mut self, at: Head) {
        while let Some(next) = self.milestones.pop_if(|next| next.at.sequence <= at.sequence) {
            if next.at.sequence < at.sequence {
                continue;
            }
            if next.at.hash != at.hash {
                let detail = format!("the record is not the one that {}", next.known);
                self.find(at.sequence, FindingKind::RootMismatch, detail);
            } else if next.is_anchor && !self.findings.iter().any(|f| f.kind.is_damage()) {
                self.anchors.push(format!("{}: records up to {}", next.known, at.sequence));
                self.anchored = at.sequence;
            }
        }
    }

    fn finish(&mut self, head: Head, ended_at: i64) {
        if self.previous.sequence < head.sequence {
            let first = self.previous.sequence + 1;
            let detail = format!("records {first} to {} at the end are not there", head.sequence);
            self.find(first, FindingKind::TruncatedTail, detail);
        } else if self.previous.hash != head.hash && !self.after_a_skip {
            let detail = "the last record is not the one that the trail's head names".to_owned();
            self.find(self.previous.sequence, FindingKind::RootMismatch, detail);
        } else if !self.after_a_skip && self.previous_intake.is_some_and(|at| at != ended_at) {
            let detail = "the trail's head has another time than the last record".to_owned();
            self.find(self.previous.sequence, FindingKind::RootMismatch, detail);
        }
        for beyond in std::mem::take(&mut self.milestones) {
            if beyond.at.sequence > head.sequence {
                let detail = format!(
                    "the trail ends at record {}, and there was a record {} that {}",
                    head.sequence, beyond.at.sequence, beyond.known
                );
                self.find(head.sequence + 1, FindingKind::TruncatedTail, detail);
            }
        }
        if let Some((unlisted, kind)) = self.unlisted {
            let detail = format!("and {unlisted} more findings, which are not listed");
            self.findings.push(Finding { sequence: 0, kind, detail });
        }
        if head.sequence == 0 {
            let detail =
                "there is no record: whether there were any, only an exported receipt shows";
            let (kind, detail) = (FindingKind::UnanchoredTail, detail.to_owned());
            self.findings.push(Finding { sequence: 0, kind, detail });
        } else if head.sequence > self.anchored {
            let whose = match self.anchored {
                0 => "it".to_owned(),
                anchored => format!("what follows record {anchored}"),
            };
            let detail = format!(
                "no anchor outside this trail vouches for {whose}: whoever may rewrite all of it \
                 could have done so (keep an exported receipt elsewhere, and verify with it)"
            );
            let (sequence, kind) = (head.sequence, FindingKind::UnanchoredTail);
            self.findings.push(Finding { sequence, kind, detail });
        }
    }

    fn find(&mut self, sequence: u64, kind: FindingKind, detail: String) {
        if self.findings.len() < MOST_FINDINGS {
            self.findings.push(Finding { sequence, kind, detail });
        } else {
            self.unlisted.get_or_insert((0, kind)).0 += 1;
        }
    }
}

/// Lowercase hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digits = |byte: &u8| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    bytes.iter().flat_map(digits).collect()
}

#[cfg(test)]
mod tests {
    use symbiont_store::{Batch, MemoryStore, StoreOptions};
    use symbiont_types::{AuditEvent, AuditEventType, AuditId};

    use super::*;

    #[tokio::test]
    async fn what_memory_no_longer_keeps_is_named_and_is_no_damage() {
        let options = StoreOptions { kept_records: 4, ..crate::journal::options() };
        let store = MemoryStore::new(options);
        let mut heads = Vec::new();
        for _ in 0..10 {
            let record = chain::record(AuditEvent {
                id: AuditId::new(),
                timestamp: SystemTime::now(),
                event_type: AuditEventType::SecurityEvent,
                agent_id: None,
                details: String::new(),
                metadata: [].into(),
            });
            heads.push(store.commit(Batch::new().record(record)).await.expect("a commit"));
        }
        let known = |at| Milestone { at, known: "is known".to_owned(), is_anchor: true };
        let of_other = Head { hash: [1; 32], ..heads[5] };
        let cases = [
            (vec![], Verdict::Intact, 0),
            // Of those that are gone only the last can still be compared.
            (vec![known(heads[1]), known(heads[5]), known(heads[9])], Verdict::Intact, 2),
            (vec![known(of_other)], Verdict::Tampered, 0),
            (vec![known(Head { sequence: 11, ..of_other })], Verdict::Tampered, 0),
        ];
        for (milestones, verdict, anchors) in cases {
            let (from, to) = (SystemTime::UNIX_EPOCH, SystemTime::now());
            let report = verify(&store, milestones, from, to).await.expect("a report").0;
            assert_eq!((report.verdict, report.anchors.len()), (verdict, anchors));
            assert_eq!((report.events_checked, report.first_sequence), (4, Some(7)));
            let pruned = report.findings.iter().find(|it| it.kind == FindingKind::PrunedRange);
            let detail = &pruned.expect("it is named").detail;
            assert!(detail.contains("records 1 to 6"), "{detail}");
        }
    }
}
