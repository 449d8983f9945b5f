//! The audit trail: recording, asking, verifying and exporting, in memory and in a directory, and
//! that tampering with the file is found.

use std::path::Path;

use rusqlite::Connection;
use symbiont_runtime::*;

const FAR: Duration = Duration::from_secs(1 << 36);

fn event(details: &str) -> AuditEvent {
    AuditEvent {
        id: AuditId::new(),
        timestamp: SystemTime::now(),
        event_type: AuditEventType::SecurityEvent,
        agent_id: None,
        details: details.to_owned(),
        metadata: [("kind".to_owned(), "test.event".to_owned())].into(),
    }
}

async fn verify(trail: &DefaultAuditTrail) -> IntegrityReport {
    let (from, to) = (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + FAR);
    trail.verify_integrity(from, to).await.expect("damage is no error")
}

/// What is damaged, without what is only to be known.
fn damage(report: &IntegrityReport) -> Vec<FindingKind> {
    let kinds = report.findings.iter().map(|finding| finding.kind);
    kinds.filter(|kind| *kind != FindingKind::UnanchoredTail).collect()
}

/// Plays the same on a trail in memory and on one in a directory.
async fn on_both(check: impl AsyncFn(&DefaultAuditTrail)) {
    let directory = tempfile::tempdir().expect("a directory");
    let durable = Journal::open(&directory.path().join("data"), Clock::system()).expect("opens");
    for journal in [Journal::in_memory(Clock::system()), durable] {
        let trail = DefaultAuditTrail::builder(AuditTrailConfig::default()).journal(journal);
        check(&trail.build().expect("it builds")).await;
    }
}

#[tokio::test]
async fn what_is_recorded_is_found_again() {
    on_both(async |trail| {
        let agent = AgentId::new();
        let mut first = event("the first");
        first.agent_id = Some(agent);
        first.metadata.insert("task".to_owned(), "17".to_owned());
        let second = AuditEvent { event_type: AuditEventType::AgentCreated, ..event("a second") };
        for event in [&first, &second] {
            assert_eq!(trail.record_event(event.clone()).await, Ok(event.id));
        }
        let micros = |event: &AuditEvent| {
            event.timestamp.duration_since(SystemTime::UNIX_EPOCH).expect("now").as_micros()
        };
        let there = trail.get_event(first.id).await.expect("it is there");
        assert_eq!(micros(&there), micros(&first));
        assert_eq!(AuditEvent { timestamp: first.timestamp, ..there }, first);

        let of = |adjust: fn(&mut AuditQuery)| {
            let mut query = AuditQuery::default();
            adjust(&mut query);
            query
        };
        let both = vec![second.id, first.id];
        let cases: [(&str, AuditQuery, Vec<AuditId>); 12] = [
            ("everything", AuditQuery::default(), both.clone()),
            ("oldest", of(|q| q.order = AuditOrder::OldestFirst), vec![first.id, second.id]),
            ("limit", of(|q| q.limit = Some(1)), vec![second.id]),
            ("none", of(|q| q.limit = Some(0)), vec![]),
            ("kind", of(|q| q.kinds = vec!["test.*".to_owned()]), both.clone()),
            ("other kind", of(|q| q.kinds = vec!["other".to_owned()]), vec![]),
            ("type", of(|q| q.event_types = vec![AuditEventType::AgentCreated]), vec![second.id]),
            (
                "agent",
                AuditQuery { agent_ids: vec![agent], ..AuditQuery::default() },
                vec![first.id],
            ),
            ("text", of(|q| q.text = Some("the fir".to_owned())), vec![first.id]),
            ("correlation", of(|q| q.correlation = Some("task:17".to_owned())), vec![first.id]),
            ("sequence", of(|q| q.first_sequence = Some(2)), vec![second.id]),
            ("future", of(|q| q.from = Some(SystemTime::UNIX_EPOCH + FAR)), vec![]),
        ];
        for (name, query, want) in cases {
            let found = trail.query_events(query).await.expect(name);
            assert_eq!(found.iter().map(|event| event.id).collect::<Vec<_>>(), want, "{name}");
        }
        let report = verify(trail).await;
        assert_eq!((report.verdict, report.events_checked), (Verdict::Intact, 2));
        assert_eq!((report.first_sequence, report.last_sequence), (Some(1), Some(2)));
        assert_eq!(damage(&report), []);
        let unanchored = report.findings.iter().any(|f| f.kind == FindingKind::UnanchoredTail);
        assert!(unanchored, "no anchor vouches for the trail, and the report says so");
        assert!(trail.last_verified().is_some());
        // A range that holds none of them.
        let then = SystemTime::UNIX_EPOCH;
        let report = trail.verify_integrity(then, then).await.expect("a range");
        assert_eq!((report.events_checked, report.first_sequence), (0, None));
    })
    .await;
}

#[tokio::test]
async fn an_id_names_one_event() {
    on_both(async |trail| {
        let first = event("one");
        trail.record_event(first.clone()).await.expect("it is recorded");
        assert_eq!(trail.record_event(first.clone()).await, Ok(first.id), "the same again");
        let changes: [fn(&mut AuditEvent); 5] = [
            |event| event.details.push('!'),
            |event| event.timestamp += Duration::from_secs(1),
            |event| event.event_type = AuditEventType::AgentStopped,
            |event| event.agent_id = Some(AgentId::new()),
            |event| drop(event.metadata.insert("more".to_owned(), String::new())),
        ];
        for change in changes {
            let mut other = first.clone();
            change(&mut other);
            let refused = Err(AuditError::DuplicateId { audit_id: first.id });
            assert_eq!(trail.record_event(other.clone()).await, refused, "{other:?}");
        }
        assert_eq!(verify(trail).await.events_checked, 1);
        let id = AuditId::new();
        assert_eq!(trail.get_event(id).await, Err(AuditError::NotFound { audit_id: id }));
    })
    .await;
}

#[tokio::test]
async fn exports_carry_hashes_and_a_receipt_and_no_formulas() {
    on_both(async |trail| {
        let formulas = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "plain, \"quoted\"\nline"];
        for details in formulas {
            trail.record_event(event(details)).await.expect("it is recorded");
        }
        let root = verify(trail).await.root_hash;
        let export = async |format| {
            let bytes = trail.export_events(AuditQuery::default(), format).await.expect("served");
            String::from_utf8(bytes).expect("text")
        };
        let lines = export(ExportFormat::JsonLines).await;
        let lines: Vec<serde_json::Value> =
            lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines.len(), formulas.len() + 1);
        let mut before = "0".repeat(64);
        for (line, details) in lines.iter().zip(formulas) {
            assert_eq!(line["details"], details, "JSON needs no guard");
            assert_eq!(line["prev_hash"], before);
            before = line["leaf_hash"].as_str().expect("a hash").to_owned();
        }
        let receipt = &lines[formulas.len()]["receipt"];
        assert_eq!(receipt["records"], formulas.len());
        assert_eq!((&receipt["first_sequence"], &receipt["last_sequence"]), (&1.into(), &7.into()));
        assert_eq!(receipt["head"], root);

        let document: serde_json::Value =
            serde_json::from_str(&export(ExportFormat::Json).await).expect("JSON");
        assert_eq!(document["events"].as_array().expect("events").len(), formulas.len());
        assert_eq!(document["receipt"]["head"], root);

        let table = export(ExportFormat::Csv).await;
        assert!(table.contains("\r\n"), "RFC 4180 ends lines so");
        for guarded in ["'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\tx", "\"plain, \"\"quoted\"\""] {
            assert!(table.contains(guarded), "{guarded}: {table}");
        }
        let starts_formula = |cell: &str| cell.starts_with(['=', '+', '-', '@']);
        assert!(!table.lines().flat_map(|line| line.split(',')).any(starts_formula), "{table}");
        assert!(table.contains(&root), "the receipt is in it");

        let not_yet = [
            ExportFormat::Cef,
            ExportFormat::Ocsf,
            ExportFormat::CloudEvents,
            ExportFormat::Bundle,
        ];
        for format in not_yet {
            let refused = trail.export_events(AuditQuery::default(), format).await;
            let Err(AuditError::ExportFailed { reason }) = refused else { panic!("{refused:?}") };
            assert!(reason.contains("JsonLines"), "{reason}");
        }
    })
    .await;
}

/// Writes ten records, changes the file by `tamper`, and says what verification finds.
async fn after(tamper: &str) -> (Verdict, Vec<(u64, FindingKind)>) {
    let (_directory, data, trail) = ten_records().await;
    assert_eq!(verify(&trail).await.verdict, Verdict::Intact);
    drop(trail);
    change_file(&data, tamper);
    let trail = open_trail(&data).await.expect("a damaged trail can still be opened");
    let report = verify(&trail).await;
    let found = report.findings.iter().map(|finding| (finding.sequence, finding.kind));
    (report.verdict, found.filter(|(_, kind)| *kind != FindingKind::UnanchoredTail).collect())
}

fn change_file(data: &Path, sql: &str) {
    let file = Connection::open(data.join("symbiont.db")).expect("the file opens");
    file.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tampering_with_the_file_is_found() {
    use FindingKind::*;
    let set = |column: &str, value: &str| {
        format!("UPDATE audit_events SET {column} = {value} WHERE sequence = 4")
    };
    let cases: Vec<(String, Vec<(u64, FindingKind)>)> = vec![
        ("SELECT 1".to_owned(), vec![]),
        (set("details", "'nothing happened'"), vec![(4, HashMismatch)]),
        (set("at", "at + 1"), vec![(4, HashMismatch)]),
        // A record that claims a time outside every range is looked at all the same.
        (
            set("details", "'forged', ingested_at = -9000000000000000000"),
            vec![(4, HashMismatch), (4, ClockRegression)],
        ),
        (set("event_type", "'AgentCreated'"), vec![(4, HashMismatch)]),
        (set("kind", "'other'"), vec![(4, HashMismatch)]),
        (set("actor", "'someone'"), vec![(4, HashMismatch)]),
        (set("correlation", "'task:1'"), vec![(4, HashMismatch)]),
        (set("metadata", "'{}'"), vec![(4, HashMismatch)]),
        (set("agent_id", "'00000000-0000-0000-0000-000000000001'"), vec![(4, HashMismatch)]),
        (set("id", "'00000000-0000-0000-0000-000000000001'"), vec![(4, HashMismatch)]),
        // Rows that can't even be read are findings too, and what follows is still looked at.
        (set("metadata", "'no JSON'"), vec![(4, HashMismatch)]),
        (set("id", "'no id'"), vec![(4, HashMismatch)]),
        (set("leaf_hash", "x'00'"), vec![(4, HashMismatch)]),
        (
            format!(
                "{}; {}",
                set("metadata", "'no JSON'"),
                "DELETE FROM audit_events WHERE sequence = 8"
            ),
            vec![(4, HashMismatch), (8, MissingSequence)],
        ),
        (
            format!(
                "{}; DELETE FROM audit_events WHERE sequence = 3",
                set("metadata", "'no JSON'")
            ),
            vec![(3, MissingSequence), (4, HashMismatch)],
        ),
        ("DELETE FROM audit_events WHERE sequence = 4".to_owned(), vec![(4, MissingSequence)]),
        ("DELETE FROM audit_events WHERE sequence = 1".to_owned(), vec![(1, MissingSequence)]),
        ("DELETE FROM audit_events WHERE sequence > 8".to_owned(), vec![(9, TruncatedTail)]),
        ("DELETE FROM audit_events".to_owned(), vec![(1, TruncatedTail)]),
        // Text that says the same and is another text hides a record from queries.
        (set("agent_id", "upper(agent_id)"), vec![(4, HashMismatch)]),
        (set("agent_id", "replace(agent_id, '-', '')"), vec![(4, HashMismatch)]),
        (set("id", "upper(id)"), vec![(4, HashMismatch)]),
        (set("id", "'{' || id || '}'"), vec![(4, HashMismatch)]),
        (
            set("metadata", r#"replace(metadata, '{', '{"kind":"forged",')"#),
            vec![(4, HashMismatch)],
        ),
        (set("metadata", "metadata || ' '"), vec![(4, HashMismatch)]),
        (set("agent_id", "''"), vec![(4, HashMismatch)]),
        (set("agent_id", "NULL"), vec![(4, HashMismatch)]),
        (set("prev_hash", "zeroblob(32)"), vec![(4, Reordered), (4, HashMismatch)]),
        (
            set("ingested_at", "ingested_at - 9000000000"),
            vec![(4, HashMismatch), (4, ClockRegression)],
        ),
        (set("details", "CAST(x'ff' AS TEXT)"), vec![(4, HashMismatch)]),
        // Records that nobody wrote, wherever they are put.
        (copy_to("11"), vec![(11, RootMismatch)]),
        (copy_to("12"), vec![(12, RootMismatch)]),
        (copy_to("9223372036854775807"), vec![(9_223_372_036_854_775_807, RootMismatch)]),
        (copy_to("0"), vec![(0, RootMismatch)]),
        (copy_to("-7"), vec![(0, RootMismatch)]),
        (copy_to("-9223372036854775808"), vec![(0, RootMismatch)]),
        (
            format!(
                "{}; {}",
                copy_to("12"),
                "UPDATE audit_events SET id = 'x' WHERE sequence = 12"
            ),
            vec![(12, RootMismatch)],
        ),
        // Moved out of the way.
        (
            "UPDATE audit_events SET sequence = -4 WHERE sequence = 4".to_owned(),
            vec![(0, RootMismatch), (4, MissingSequence)],
        ),
        (
            "UPDATE audit_events SET sequence = 40 WHERE sequence = 4".to_owned(),
            vec![(4, MissingSequence), (40, RootMismatch)],
        ),
        ("UPDATE store_state SET sequence = 12".to_owned(), vec![(11, TruncatedTail)]),
        ("UPDATE store_state SET hash = zeroblob(32)".to_owned(), vec![(10, RootMismatch)]),
        // What comes next would be dated by it.
        (
            "UPDATE store_state SET ingested_at = ingested_at + 1".to_owned(),
            vec![(10, RootMismatch)],
        ),
        // Numbers that nobody gave are passed over, however many there are.
        (
            format!("{}; UPDATE store_state SET sequence = {}", copy_to(FAR_OFF), FAR_OFF),
            vec![
                (11, MissingSequence),
                (FAR_OFF_NUMBER, HashMismatch),
                (FAR_OFF_NUMBER, ClockRegression),
                (FAR_OFF_NUMBER, RootMismatch),
            ],
        ),
        // An index that hides a record from queries by it, and says nothing of that.
        (
            "DROP INDEX audit_events_kind;
             CREATE INDEX audit_events_kind ON audit_events (kind) WHERE sequence <> 4;
             PRAGMA writable_schema = ON;
             UPDATE sqlite_schema SET sql = 'CREATE INDEX audit_events_kind ON audit_events (kind)'
             WHERE name = 'audit_events_kind'"
                .to_owned(),
            vec![(0, RootMismatch), (0, RootMismatch)],
        ),
    ];
    for (tamper, want) in cases {
        let verdict = if want.is_empty() { Verdict::Intact } else { Verdict::Tampered };
        assert_eq!(after(&tamper).await, (verdict, want), "{tamper}");
    }
    let swap = "UPDATE audit_events SET sequence = -4 WHERE sequence = 4;
                UPDATE audit_events SET sequence = 4 WHERE sequence = 5;
                UPDATE audit_events SET sequence = 5 WHERE sequence = -4;";
    let (verdict, found) = after(swap).await;
    assert_eq!(verdict, Verdict::Tampered);
    assert!(found.iter().any(|(sequence, _)| *sequence == 4), "{found:?}");
    // The tail is cut off, and the head is made to fit.
    let cut = "DELETE FROM audit_events WHERE sequence > 8;
               UPDATE store_state SET sequence = 8";
    let (verdict, found) = after(cut).await;
    assert_eq!((verdict, found), (Verdict::Tampered, vec![(8, RootMismatch)]));
}

/// 2^62.
const FAR_OFF: &str = "4611686018427387904";
const FAR_OFF_NUMBER: u64 = 1 << 62;

/// A record with the content of the fourth and another id, under this number.
fn copy_to(sequence: &str) -> String {
    format!(
        "INSERT INTO audit_events
         SELECT {sequence}, '00000000-0000-7000-8000-000000000001', ingested_at, at, event_type,
                kind, agent_id, actor, correlation, 'never happened', metadata, prev_hash, leaf_hash
         FROM audit_events WHERE sequence = 4"
    )
}

/// A trail in a new directory, with ten records.
async fn ten_records() -> (tempfile::TempDir, std::path::PathBuf, DefaultAuditTrail) {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let journal = Journal::open(&data, Clock::system()).expect("it opens");
    let trail = DefaultAuditTrail::builder(AuditTrailConfig::default()).journal(journal);
    let trail = trail.build().expect("it builds");
    let agent_id = Some("0192aaaa-0000-7000-8000-00000000abcd".parse().expect("an id"));
    for n in 0..10 {
        let event = AuditEvent { agent_id, ..event(&format!("event {n}")) };
        trail.record_event(event).await.expect("it is recorded");
    }
    (directory, data, trail)
}

/// Cuts off what follows record 8, with all in the file that knows of it.
const CUT: &str = "DELETE FROM audit_events WHERE sequence > 8;
    UPDATE store_state SET sequence = 8,
        hash = (SELECT leaf_hash FROM audit_events WHERE sequence = 8),
        ingested_at = (SELECT ingested_at FROM audit_events WHERE sequence = 8)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_added_is_neither_shown_nor_exported() {
    for place in ["-7", "0", "11", "12"] {
        let (_directory, data, trail) = ten_records().await;
        drop(trail);
        change_file(&data, &copy_to(place));
        let trail = open_trail(&data).await.expect("it opens");
        let shown = trail.query_events(AuditQuery::default()).await.expect("it can be read");
        assert_eq!(shown.len(), 10, "{place}");
        let export = trail.export_events(AuditQuery::default(), ExportFormat::Csv).await;
        let export = String::from_utf8(export.expect("it is exported")).expect("text");
        assert!(!export.contains("never happened"), "{place}: {export}");
        let id = "00000000-0000-7000-8000-000000000001".parse().expect("an id");
        let missing = Err(AuditError::NotFound { audit_id: id });
        assert_eq!(trail.get_event(id).await, missing, "{place}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_can_not_be_read_is_named() {
    let (_directory, data, trail) = ten_records().await;
    let fourth =
        AuditQuery { first_sequence: Some(4), last_sequence: Some(4), ..AuditQuery::default() };
    let event = trail.query_events(fourth.clone()).await.expect("it can be read").remove(0);
    drop(trail);
    change_file(&data, "UPDATE audit_events SET metadata = 'no JSON' WHERE sequence = 4");
    let trail = open_trail(&data).await.expect("it opens");
    let corrupted = AuditError::Corrupted { sequence: 4 };
    assert_eq!(trail.query_events(fourth).await, Err(corrupted.clone()));
    assert_eq!(trail.get_event(event.id).await, Err(corrupted.clone()));
    let exported = trail.export_events(AuditQuery::default(), ExportFormat::Csv).await;
    assert_eq!(exported, Err(corrupted));

    // Whoever wants all that there is gets it, and is told of what is not.
    let rows = trail.rows(&AuditQuery::default()).await.expect("rows");
    let unread: Vec<_> = rows.iter().filter_map(|row| row.event().err()).collect();
    assert_eq!((rows.len(), unread), (10, vec!["it has no sensible `metadata`"]));
    for format in [ExportFormat::Json, ExportFormat::JsonLines, ExportFormat::Csv] {
        let mut export = trail.export(format).await.expect("served");
        let mut all = Vec::new();
        while let Some(piece) = export.piece().await.expect("a piece") {
            all.extend(piece);
        }
        assert_eq!((export.records(), export.unreadable()), (9, 1));
        let text = String::from_utf8(all).expect("text");
        let want = match format {
            ExportFormat::Csv => "4,,,,,,,,,unreadable: it has no sensible `metadata`,,,",
            _ => r#"{"sequence":4,"unreadable":"it has no sensible `metadata`"}"#,
        };
        assert!(text.contains(want), "{text}");
        let receipt = Receipt::read(&text).expect("a receipt");
        assert_eq!((receipt.records, receipt.last_sequence), (9, Some(10)));
    }
}

/// A trail is in use while it is verified: what is appended meanwhile is no damage, also when it is the
/// first that there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trail_in_use_is_no_damage() {
    let directory = tempfile::tempdir().expect("a directory");
    for round in 0..20 {
        let data = directory.path().join(round.to_string());
        let journal = Journal::open(&data, Clock::system()).expect("it opens");
        let trail = DefaultAuditTrail::builder(AuditTrailConfig::default()).journal(journal);
        let trail = std::sync::Arc::new(trail.build().expect("it builds"));
        let reader = open_trail(&data).await.expect("it opens");
        let writer = tokio::spawn({
            let trail = std::sync::Arc::clone(&trail);
            async move {
                for n in 0..50 {
                    trail.record_event(event(&format!("event {n}"))).await.expect("recorded");
                }
            }
        });
        let mut looks = 0;
        while !writer.is_finished() || looks == 0 {
            let report = verify(&reader).await;
            assert_eq!(report.verdict, Verdict::Intact, "{:?}", report.findings);
            looks += 1;
        }
        writer.await.expect("it writes");
        assert_eq!(verify(&reader).await.events_checked, 50);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_trail_vouches_for_nothing() {
    let (_directory, data, trail) = ten_records().await;
    drop(trail);
    change_file(&data, "UPDATE store_state SET epoch = 3");
    let empty = format!(
        "DELETE FROM audit_events; UPDATE store_state SET sequence = 0, hash = zeroblob(32),
         ingested_at = {}",
        i64::MIN
    );
    change_file(&data, &empty);
    let report = verify(&open_trail(&data).await.expect("it opens")).await;
    assert_eq!((report.verdict, report.events_checked), (Verdict::Unverifiable, 0));
    assert_eq!(report.findings.len(), 1);
    assert_eq!(report.findings[0].kind, FindingKind::UnanchoredTail);
    // One that was just made is as it was made.
    let journal = Journal::open(&data.join("new"), Clock::system()).expect("it opens");
    let trail = DefaultAuditTrail::builder(AuditTrailConfig::default()).journal(journal);
    let report = verify(&trail.build().expect("it builds")).await;
    assert_eq!((report.verdict, report.findings.len()), (Verdict::Intact, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_of_findings_says_how_many_it_leaves_out() {
    let (_directory, data, trail) = ten_records().await;
    drop(trail);
    let rows = "WITH RECURSIVE n(i) AS (SELECT 20 UNION ALL SELECT i + 1 FROM n WHERE i < 2019)
         INSERT INTO audit_events
         SELECT i, 'x' || i, ingested_at, at, event_type, kind, agent_id, actor, correlation, details,
                metadata, prev_hash, leaf_hash FROM audit_events, n WHERE sequence = 4";
    change_file(&data, rows);
    let report = verify(&open_trail(&data).await.expect("it opens")).await;
    assert_eq!((report.verdict, report.findings.len()), (Verdict::Tampered, 1000));
    let [.., unlisted, note] = &report.findings[..] else { panic!("there are many") };
    assert_eq!(unlisted.detail, "and 1002 more findings, which are not listed");
    assert_eq!(
        (unlisted.kind, note.kind),
        (FindingKind::RootMismatch, FindingKind::UnanchoredTail)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_cut_off_with_all_that_names_it_is_missed_by_who_saw_it() {
    // By the process that wrote it, and by one that verified it before.
    for reopen in [false, true] {
        let (_directory, data, mut trail) = ten_records().await;
        if reopen {
            drop(trail);
            trail = open_trail(&data).await.expect("it opens");
            assert_eq!(verify(&trail).await.verdict, Verdict::Intact);
        }
        change_file(&data, CUT);
        let report = verify(&trail).await;
        assert_eq!(report.verdict, Verdict::Tampered, "{:?}", report.findings);
        assert!(damage(&report).iter().all(|kind| *kind == FindingKind::TruncatedTail));
        // Whoever has not seen it can't tell.
        let other = open_trail(&data).await.expect("it opens");
        assert_eq!(verify(&other).await.verdict, Verdict::Intact);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_kept_elsewhere_vouches_for_what_it_covers() {
    let (_directory, data, trail) = ten_records().await;
    let (from, to) = (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + FAR);
    let receipt = async |last| {
        let query = AuditQuery { last_sequence: Some(last), ..AuditQuery::default() };
        let mut receipts = Vec::new();
        for format in [ExportFormat::Json, ExportFormat::JsonLines, ExportFormat::Csv] {
            let export = trail.export_events(query.clone(), format).await.expect("it is exported");
            let text = String::from_utf8(export).expect("text");
            receipts.push(Receipt::read(&text).expect("an export has a receipt"));
        }
        assert_eq!(receipts[0], receipts[1]);
        assert_eq!(receipts[0], receipts[2]);
        receipts.remove(0)
    };
    let (some, all) = (receipt(6).await, receipt(10).await);
    assert_eq!((some.records, some.first_sequence, some.last_sequence), (6, Some(1), Some(6)));
    drop(trail);
    let unanchored = |report: &IntegrityReport| {
        let mut notes = report.findings.iter();
        notes.find(|f| f.kind == FindingKind::UnanchoredTail).map(|f| f.detail.clone())
    };
    let trail = open_trail(&data).await.expect("it opens");
    let report =
        trail.verify_against(from, to, std::slice::from_ref(&all)).await.expect("a report");
    assert_eq!((report.verdict, report.anchors.len()), (Verdict::Intact, 1));
    assert_eq!(unanchored(&report), None, "the receipt covers all of it");
    let report =
        trail.verify_against(from, to, std::slice::from_ref(&some)).await.expect("a report");
    assert_eq!((report.verdict, report.anchors.len()), (Verdict::Intact, 1));
    let note = unanchored(&report).expect("it covers a part");
    assert!(note.contains("what follows record 6"), "{note}");

    // Cut off, and computed anew: what each receipt says of it.
    let nothing = Receipt::default();
    let refused = trail.verify_against(from, to, &[nothing]).await;
    assert!(matches!(refused, Err(AuditError::InvalidQuery { .. })), "{refused:?}");
    change_file(&data, CUT);
    for (receipt, verdict) in [(&some, Verdict::Intact), (&all, Verdict::Tampered)] {
        let trail = open_trail(&data).await.expect("it opens");
        let report = trail.verify_against(from, to, std::slice::from_ref(receipt)).await;
        let report = report.expect("a report");
        assert_eq!(report.verdict, verdict, "{:?}", report.findings);
    }
    let (_directory, data, trail) = ten_records().await;
    let report = trail.verify_against(from, to, &[some]).await.expect("a report");
    assert_eq!(damage(&report), [FindingKind::RootMismatch], "another trail of as many records");
    assert_eq!(report.anchors, [] as [String; 0]);
    drop((trail, data));
}

#[tokio::test]
async fn an_export_has_what_the_query_means_in_the_order_of_the_trail() {
    on_both(async |trail| {
        for n in 0..5 {
            trail.record_event(event(&n.to_string())).await.expect("it is recorded");
        }
        for (order, want) in [(AuditOrder::NewestFirst, [4, 5]), (AuditOrder::OldestFirst, [1, 2])]
        {
            let query = AuditQuery { order, limit: Some(2), ..AuditQuery::default() };
            let export = trail.export_events(query, ExportFormat::Json).await.expect("served");
            let document: serde_json::Value = serde_json::from_slice(&export).expect("JSON");
            let numbers = document["events"].as_array().expect("events").iter();
            let numbers: Vec<_> = numbers.map(|event| event["sequence"].as_u64()).collect();
            assert_eq!(numbers, want.map(Some), "{order:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn bounds_are_refusals() {
    on_both(async |trail| {
        let config = AuditTrailConfig::default();
        let many = |n: usize| (0..n).map(|n| (format!("key {n}"), String::new())).collect();
        let of_kind = |kind: &str| AuditEvent {
            metadata: [("kind".to_owned(), kind.to_owned())].into(),
            ..event("")
        };
        let cases: [(&str, AuditEvent, bool); 12] = [
            ("kind", of_kind("a"), true),
            ("kind", of_kind("A-1_b.c"), true),
            ("kind", of_kind(""), false),
            ("kind", of_kind("a*"), false),
            ("kind", of_kind("a b"), false),
            ("kind", of_kind(&"k".repeat(129)), false),
            ("details", event(&"x".repeat(config.max_details)), true),
            ("details", event(&"x".repeat(config.max_details + 1)), false),
            ("metadata", AuditEvent { metadata: many(64), ..event("") }, true),
            ("metadata", AuditEvent { metadata: many(65), ..event("") }, false),
            (
                "metadata",
                AuditEvent {
                    metadata: [("k".to_owned(), "v".repeat(config.max_details))].into(),
                    ..event("")
                },
                false,
            ),
            ("control characters", event("\0\u{1b}[31m\u{202e}"), true),
        ];
        for (name, event, accepted) in cases {
            let outcome = trail.record_event(event.clone()).await;
            match (&outcome, accepted) {
                (Ok(id), true) => assert_eq!(*id, event.id),
                (Err(AuditError::InvalidEvent { reason }), false) => {
                    assert!(reason.contains(name), "{reason}");
                    assert!(
                        reason.contains("the most is") || reason.contains("1 to 128"),
                        "{reason}"
                    );
                    let missing = AuditError::NotFound { audit_id: event.id };
                    assert_eq!(trail.get_event(event.id).await, Err(missing));
                }
                _ => panic!("{name}: {outcome:?}"),
            }
        }
        let queries = [
            AuditQuery { limit: Some(100_001), ..AuditQuery::default() },
            AuditQuery {
                from: Some(SystemTime::UNIX_EPOCH + FAR),
                to: Some(SystemTime::UNIX_EPOCH - FAR),
                ..AuditQuery::default()
            },
            AuditQuery { first_sequence: Some(2), last_sequence: Some(1), ..AuditQuery::default() },
            AuditQuery { kinds: vec!["a*b".to_owned()], ..AuditQuery::default() },
        ];
        for query in queries {
            let refused = trail.query_events(query.clone()).await;
            assert!(matches!(refused, Err(AuditError::InvalidQuery { .. })), "{refused:?}");
            let refused = trail.export_events(query, ExportFormat::Csv).await;
            assert!(matches!(refused, Err(AuditError::InvalidQuery { .. })), "{refused:?}");
        }
        let now = SystemTime::now();
        let refused = trail.verify_integrity(now, now - Duration::from_secs(1)).await;
        assert!(matches!(refused, Err(AuditError::InvalidQuery { .. })), "{refused:?}");
    })
    .await;
}

#[tokio::test]
async fn strange_times_are_kept_and_marked() {
    on_both(async |trail| {
        let strange = [
            SystemTime::UNIX_EPOCH - Duration::from_micros(1),
            SystemTime::UNIX_EPOCH - FAR,
            SystemTime::UNIX_EPOCH + FAR,
        ];
        for timestamp in strange {
            let event = AuditEvent { timestamp, ..event("a strange time") };
            trail.record_event(event.clone()).await.expect("it is recorded");
            assert_eq!(trail.record_event(event.clone()).await, Ok(event.id), "{timestamp:?}");
            let there = trail.get_event(event.id).await.expect("it is there");
            assert_eq!(there.timestamp, timestamp);
            assert!(there.metadata.contains_key("skew"), "{timestamp:?}");
        }
        let export = trail.export_events(AuditQuery::default(), ExportFormat::JsonLines).await;
        assert!(export.is_ok(), "{export:?}");
        assert_eq!(verify(trail).await.verdict, Verdict::Intact);
    })
    .await;
}
