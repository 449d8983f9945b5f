//! What only a store on disk can show.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;
use symbiont_store::{
    Batch, Head, Record, RecordQuery, Seal, SqliteReader, SqliteStore, Store, StoreError,
    StoreOptions, Table, file_in,
};
use tempfile::TempDir;

use crate::support::{
    AGENTS, TASKS, check_chain, everything, look, open, options, record, records,
};

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// Changes the file behind the store's back.
fn tamper(directory: &Path, sql: &str) {
    let connection = Connection::open(file_in(directory)).expect("the file opens");
    connection.execute_batch(sql).expect("the file can be changed");
}

fn refusal(directory: &Path) -> StoreError {
    SqliteStore::open(directory, options()).expect_err("it does not open")
}

#[tokio::test]
async fn a_store_is_as_it_was_when_it_is_opened_again() {
    let directory = directory();
    let mut head = Head::default();
    for (epoch, ending) in (1..).zip(["close", "drop", "close", "drop"]) {
        let store = open(directory.path());
        assert_eq!(check_chain(&store, head).await.len() as u64, head.sequence);
        assert_eq!(store.status().await.expect("a status").epoch, epoch);
        let batch = records([u128::from(epoch)]).put(AGENTS, epoch.to_string(), ending);
        head = store.commit(batch).await.expect("a commit");
        if ending == "close" {
            store.close().await.expect("it closes");
            let log = file_in(directory.path()).with_extension("db-wal");
            assert!(!log.exists(), "everything is in the one file");
        }
    }
    let store = open(directory.path());
    let rows = store.scan(AGENTS, b"", None, 9).await.expect("a scan");
    let values: Vec<&[u8]> = rows.iter().map(|(_, value)| value.as_slice()).collect();
    assert_eq!(values, [b"close".as_slice(), b"drop", b"close", b"drop"]);
}

#[tokio::test]
async fn tables_can_be_added_later() {
    let directory = directory();
    let later = Table("later");
    let store = open(directory.path());
    assert_eq!(store.get(later, b"").await, Err(StoreError::UnknownTable { table: "later" }));
    let reader = look(directory.path());
    drop(store);
    let options = StoreOptions { tables: vec![later], ..options() };
    let store = SqliteStore::open(directory.path(), options).expect("it opens");
    store.commit(Batch::new().put(later, "a", "1")).await.expect("a commit");
    assert_eq!(store.get(later, b"a").await, Ok(Some(b"1".to_vec())));
    // What the store was not opened with it does not have, for reads and writes alike.
    let unknown = StoreError::UnknownTable { table: "agents" };
    assert_eq!(store.get(AGENTS, b"a").await, Err(unknown.clone()));
    assert_eq!(store.commit(Batch::new().put(AGENTS, "a", "1")).await, Err(unknown));
    assert_eq!(reader.get(later, b"a").await, Err(StoreError::UnknownTable { table: "later" }));
    assert_eq!(look(directory.path()).get(later, b"a").await, Ok(Some(b"1".to_vec())));
}

#[tokio::test]
async fn one_store_holds_a_directory() {
    let directory = directory();
    let store = open(directory.path());
    let StoreError::Locked { path, holder } = refusal(directory.path()) else {
        panic!("it is not locked");
    };
    assert_eq!(path, directory.path().display().to_string());
    assert!(holder.starts_with(&format!("process {} since 20", std::process::id())), "{holder}");
    assert_eq!(holder, holder_in(directory.path()));

    // Others may have written anything into the lock file.
    for content in ["", "\u{1b}[2J", "\n\n"] {
        std::fs::write(directory.path().join("lock"), content).expect("it is writable");
        let StoreError::Locked { holder, .. } = refusal(directory.path()) else {
            panic!("it is not locked");
        };
        assert_eq!(holder, "another process", "{content:?}");
    }

    store.close().await.expect("it closes");
    let second = open(directory.path());
    drop(store);
    assert!(matches!(refusal(directory.path()), StoreError::Locked { .. }));
    drop(second);
    open(directory.path());
}

fn holder_in(directory: &Path) -> String {
    let content = std::fs::read_to_string(directory.join("lock")).expect("it is readable");
    content.trim().to_owned()
}

#[tokio::test]
async fn the_files_are_for_their_owner_alone() {
    let parent = directory();
    let directory = parent.path().join("a % new?").join("directory#");
    let store = open(&directory);
    store.commit(records([1])).await.expect("a commit");
    let mode =
        |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    let files: Vec<_> = std::fs::read_dir(&directory).expect("a list").flatten().collect();
    assert_eq!(files.len(), 4, "{files:?}");
    for file in files {
        assert_eq!(mode(&file.path()), 0o600, "{file:?}");
    }
}

#[tokio::test]
async fn a_file_that_is_not_ours_is_refused() {
    let newer = |path: String| StoreError::NewerFormat { path, found: 2, known: 1 };
    let foreign = |path: String| StoreError::Corrupted {
        reason: format!("`{path}` is a database, but not one of a Symbiont store"),
    };
    type Expected<'case> = &'case dyn Fn(String) -> StoreError;
    let cases: [(&str, Expected<'_>); 4] = [
        ("PRAGMA user_version = 2", &newer),
        ("PRAGMA user_version = 0", &foreign),
        ("PRAGMA user_version = -1", &foreign),
        ("PRAGMA application_id = 1", &foreign),
    ];
    for (sql, expected) in cases {
        let directory = directory();
        drop(open(directory.path()));
        tamper(directory.path(), sql);
        let path = file_in(directory.path());
        let before = std::fs::read(&path).expect("it is readable");
        let expected = expected(path.display().to_string());
        assert_eq!(refusal(directory.path()), expected, "{sql}");
        assert_eq!(SqliteReader::open(directory.path()).expect_err("refused"), expected, "{sql}");
        assert_eq!(std::fs::read(&path).expect("it is readable"), before, "{sql}");
    }
    let other = directory();
    tamper(other.path(), "CREATE TABLE notes (text TEXT)");
    let path = file_in(other.path());
    let before = std::fs::read(&path).expect("it is readable");
    assert_eq!(refusal(other.path()), foreign(path.display().to_string()));
    assert_eq!(std::fs::read(&path).expect("it is readable"), before);

    let directory = directory();
    std::fs::write(file_in(directory.path()), "not a database, but long enough for its header")
        .expect("it is writable");
    assert!(matches!(refusal(directory.path()), StoreError::Corrupted { .. }));
    let refused = SqliteReader::open(directory.path()).expect_err("refused");
    assert!(matches!(refused, StoreError::Corrupted { .. }), "{refused:?}");
}

#[tokio::test]
async fn damage_is_found() {
    let damaged = |reason: &str| StoreError::Corrupted { reason: reason.to_owned() };
    let set = |column: &str, value: &str| {
        format!("UPDATE audit_events SET {column} = {value} WHERE sequence = 2")
    };
    let cases = [
        ("id", "'x'"),
        ("id", "upper(id) || ' '"),
        ("metadata", "'[]'"),
        ("metadata", r#"'{"a":"1","a":"2"}'"#),
        ("leaf_hash", "x'00'"),
        ("prev_hash", "x''"),
        ("details", "CAST(x'ff' AS TEXT)"),
        ("agent_id", "'me'"),
        ("agent_id", "'00000000-0000-0000-0000-0000000000AB'"),
    ];
    for (column, value) in cases {
        let sql = set(column, value);
        let directory = directory();
        let store = open(directory.path());
        store.commit(records([1, 2, 3])).await.expect("a commit");
        tamper(directory.path(), &sql);
        let reason = format!("it has no sensible `{column}`");
        let refused = StoreError::DamagedRecord { sequence: 2, reason: reason.clone() };
        for store in [&store as &dyn Store, &look(directory.path())] {
            assert_eq!(store.records(&everything()).await, Err(refused.clone()), "{sql}");
            // What is whole can still be read, and the log can be looked at.
            let others = RecordQuery { first_sequence: Some(3), ..everything() };
            assert_eq!(store.records(&others).await.map(|found| found.len()), Ok(1), "{sql}");
            let page = store.log(i64::MIN, 10).await.expect("a page");
            let rows: Vec<_> =
                page.rows.iter().map(|row| (row.number, row.record.is_ok())).collect();
            assert_eq!(rows, [(1, true), (2, false), (3, true)], "{sql}");
            assert_eq!(page.rows[1].record, Err(reason.clone()), "{sql}");
        }
    }
    for place in ["-9223372036854775808", "-2", "0", "5", "9223372036854775807"] {
        let directory = directory();
        let store = open(directory.path());
        store.commit(records([1, 2, 3])).await.expect("a commit");
        tamper(directory.path(), &set("sequence", place));
        // It is no record there, and the log shows it.
        let log = store.records(&everything()).await.expect("a query");
        assert_eq!(log.iter().map(|it| it.sequence).collect::<Vec<_>>(), [1, 3], "{place}");
        assert_eq!(store.record(uuid::Uuid::from_u128(2)).await, Ok(None), "{place}");
        let page = store.log(i64::MIN, 10).await.expect("a page");
        let mut numbers = vec![1, 3, place.parse().expect("a number")];
        numbers.sort_unstable();
        assert_eq!(page.rows.iter().map(|row| row.number).collect::<Vec<_>>(), numbers);
    }
    let end = "the row for the end of the log does not make sense";
    let last = "record 3 is not the one at which the log is said to end";
    let none = "record 0 is not the one at which the log is said to end";
    for (sql, reason) in [
        ("DELETE FROM store_state", None),
        ("UPDATE store_state SET sequence = -1", Some(end)),
        ("UPDATE store_state SET hash = x'00'", Some(end)),
        ("UPDATE store_state SET sequence = 2", Some("the log ends at 2, but record 3 is in it")),
        ("UPDATE store_state SET epoch = 9223372036854775807", None),
        ("UPDATE store_state SET hash = zeroblob(32)", Some(last)),
        // What is appended later would be dated by it.
        ("UPDATE store_state SET ingested_at = 9223372036854775807", Some(last)),
        ("DELETE FROM audit_events; UPDATE store_state SET sequence = 0", Some(none)),
        ("UPDATE audit_events SET leaf_hash = x'00' WHERE sequence = 3", Some(last)),
    ] {
        let directory = directory();
        let store = open(directory.path());
        store.commit(records([1, 2, 3])).await.expect("a commit");
        drop(store);
        tamper(directory.path(), sql);
        let missing = format!(
            "`{}` has no row for the end of its log that counts how often it was opened",
            file_in(directory.path()).display()
        );
        assert_eq!(refusal(directory.path()), damaged(reason.unwrap_or(&missing)), "{sql}");
    }
}

#[tokio::test]
async fn records_taken_off_the_end_are_missed() {
    let directory = directory();
    let store = open(directory.path());
    let head = store.commit(records([1, 2, 3])).await.expect("a commit");
    drop(store);
    tamper(directory.path(), "DELETE FROM audit_events WHERE sequence > 1");
    assert_eq!(look(directory.path()).head().await, Ok(head));
    // Their numbers are not given to others, so the gap stays.
    let store = open(directory.path());
    assert_eq!(store.status().await.expect("a status").head, head);
    let later = store.commit(records([4])).await.expect("a commit");
    assert_eq!(later.sequence, 4);
    let log = store.records(&everything()).await.expect("a query");
    let numbers: Vec<u64> = log.iter().map(|stored| stored.sequence).collect();
    assert_eq!(numbers, [1, 4]);
    assert_eq!(log[1].prev_hash, head.hash);
}

#[tokio::test]
async fn the_last_number_is_not_given_twice() {
    let directory = directory();
    drop(open(directory.path()));
    tamper(directory.path(), &format!("UPDATE store_state SET sequence = {}", i64::MAX));
    let store = open(directory.path());
    let refused = store.commit(records([1])).await;
    assert!(matches!(refused, Err(StoreError::Corrupted { .. })), "{refused:?}");
    // The store is none the worse for it.
    store.commit(Batch::new().put(AGENTS, "a", "1")).await.expect("a commit");
    assert_eq!(store.records(&everything()).await, Ok(vec![]));
}

#[tokio::test]
async fn a_reader_looks_on() {
    let directory = directory();
    let store = open(directory.path());
    let reader = look(directory.path());
    let head = store
        .commit(records([1, 2]).put(AGENTS, "a", "1").put(AGENTS, "b", "2"))
        .await
        .expect("a commit");
    assert_eq!(reader.head().await, Ok(head));
    assert_eq!(reader.get(AGENTS, b"a").await, Ok(Some(b"1".to_vec())));
    assert_eq!(reader.scan(AGENTS, b"", None, 9).await.map(|rows| rows.len()), Ok(2));
    assert_eq!(reader.record(record(2).id).await, store.record(record(2).id).await);
    let log = check_chain(&reader, head).await;
    assert_eq!(store.records(&everything()).await, Ok(log));
    let status = reader.status().await.expect("a status");
    assert_eq!((status.backend, status.epoch, status.transactions), ("sqlite", 1, 0));
    assert_eq!(reader.commit(records([3])).await, Err(StoreError::ReadOnly));
    assert_eq!(reader.commit(Batch::new()).await, Err(StoreError::ReadOnly));

    // The store may end, and begin again, under the reader's eyes.
    store.close().await.expect("it closes, though someone looks on");
    check_chain(&reader, head).await;
    let store = open(directory.path());
    let head = store.commit(records([3])).await.expect("a commit");
    check_chain(&reader, head).await;

    reader.close().await.expect("it closes");
    reader.close().await.expect("it closes twice");
    assert_eq!(reader.head().await, Err(StoreError::Closed));
}

#[tokio::test]
async fn a_reader_makes_nothing() {
    let directory = directory();
    for path in [directory.path().to_owned(), directory.path().join("missing")] {
        let error = SqliteReader::open(&path).expect_err("there is nothing");
        assert_eq!(error, StoreError::NotThere { path: path.display().to_string() });
    }
    assert_eq!(std::fs::read_dir(directory.path()).expect("a list").count(), 0);
    std::fs::write(file_in(directory.path()), "").expect("it is writable");
    let error = SqliteReader::open(directory.path()).expect_err("it is empty");
    let path = directory.path().display().to_string();
    assert_eq!(error, StoreError::NotThere { path });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn batches_that_wait_together_share_a_transaction() {
    const CALLERS: u64 = 64;
    const BATCHES: u64 = 40;
    let directory = directory();
    let store = Arc::new(open(directory.path()));
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for number in 0..BATCHES {
                    let batch = records([u128::from(caller * BATCHES + number)]);
                    store.commit(batch).await.expect("a commit");
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.expect("a caller is content");
    }
    let status = store.status().await.expect("a status");
    check_chain(&*store, status.head).await;
    let batches = CALLERS * BATCHES;
    assert_eq!(status.head.sequence, batches);
    let transactions = status.transactions;
    assert!(transactions * 4 < batches, "{transactions} transactions for {batches} batches");
}

#[tokio::test]
async fn what_waits_is_committed_before_the_end() {
    for ending in ["close", "drop"] {
        let directory = directory();
        let store = Arc::new(open(directory.path()));
        // Calls that were made and not waited for: the queue is longer than what is sent here.
        for number in 0..50 {
            let mut call = store.commit(records([number]).put(TASKS, "k", number.to_string()));
            std::future::poll_fn(|context| {
                let _outcome = call.as_mut().poll(context);
                std::task::Poll::Ready(())
            })
            .await;
            drop(call);
        }
        if ending == "close" {
            store.close().await.expect("it closes");
        }
        drop(store);
        let store = open(directory.path());
        let head = store.status().await.expect("a status").head;
        assert_eq!(check_chain(&store, head).await.len(), 50, "{ending}");
        assert_eq!(store.get(TASKS, b"k").await, Ok(Some(b"49".to_vec())), "{ending}");
    }
}

#[tokio::test]
async fn a_seal_that_panics_ends_the_store_and_keeps_nothing_of_its_batch() {
    let directory = directory();
    let seal: Seal = |prev, sequence, ingested_at, record| {
        assert_ne!(record.actor, "panic", "the seal does not like it");
        crate::support::seal(prev, sequence, ingested_at, record)
    };
    let store = SqliteStore::open(directory.path(), StoreOptions { seal, ..options() });
    let store = store.expect("it opens");
    let head = store.commit(records([1])).await.expect("a commit");
    let bad = Record { actor: "panic".to_owned(), ..record(2) };
    let lost = store.commit(Batch::new().put(AGENTS, "a", "1").record(bad)).await;
    let expected = StoreError::Io {
        context: "write to the store".to_owned(),
        reason: "its thread ended before it answered".to_owned(),
    };
    assert_eq!(lost, Err(expected.clone()));
    assert_eq!(store.close().await, Err(expected));
    assert_eq!(store.commit(Batch::new()).await, Err(StoreError::Closed));
    let store = open(directory.path());
    check_chain(&store, head).await;
    assert_eq!(store.get(AGENTS, b"a").await, Ok(None));
}

#[tokio::test]
async fn a_person_can_read_the_log() {
    let directory = directory();
    let store = open(directory.path());
    let agent = uuid::Uuid::from_u128(7);
    let batch = Batch::new().record(Record {
        agent_id: Some(agent),
        details: "it began".to_owned(),
        metadata: [("b", "2"), ("a", "1")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        ..record(1)
    });
    store.commit(batch).await.expect("a commit");
    let connection = Connection::open(file_in(directory.path())).expect("the file opens");
    let row: (i64, String, String, String, String, String, i64, i64) = connection
        .query_row(
            "SELECT sequence, id, kind, agent_id, details, metadata, length(prev_hash),
                    length(leaf_hash) FROM audit_events",
            [],
            |row| row.try_into(),
        )
        .expect("the row is there");
    let expected = (1, record(1).id.to_string(), "agent.created", agent.to_string());
    assert_eq!((row.0, row.1, row.2.as_str(), row.3), expected);
    assert_eq!((row.4.as_str(), row.5.as_str()), ("it began", r#"{"a":"1","b":"2"}"#));
    assert_eq!((row.6, row.7), (32, 32));
    let plan = |sql: &str| -> String {
        connection
            .query_row(&format!("EXPLAIN QUERY PLAN SELECT * FROM audit_events {sql}"), [], |row| {
                row.get(3)
            })
            .expect("a plan")
    };
    // The common questions are answered from an index.
    for (sql, index) in [
        ("WHERE id = 'x'", "audit_events_id"),
        ("WHERE agent_id = 'x' ORDER BY sequence DESC", "audit_events_agent"),
        ("WHERE kind = 'x' ORDER BY sequence DESC", "audit_events_kind"),
        ("WHERE at >= 1 AND at < 2", "audit_events_at"),
    ] {
        assert!(plan(sql).contains(index), "{sql}: {}", plan(sql));
    }
}

#[tokio::test]
async fn a_record_that_is_there_costs_its_own_batch_only() {
    let directory = directory();
    let store = open(directory.path());
    store.commit(records([1])).await.expect("a commit");
    // They wait together: the refused ones leave nothing behind, the others all of theirs.
    let batch = |number: u128, key: &str| records([number]).put(AGENTS, key, "x");
    let (first, again, both, last) = tokio::join!(
        store.commit(batch(2, "a")),
        store.commit(batch(1, "b")),
        store.commit(records([3, 1]).put(AGENTS, "c", "x")),
        store.commit(batch(4, "d")),
    );
    let refused = Err(StoreError::DuplicateRecord { id: uuid::Uuid::from_u128(1) });
    assert_eq!([again, both], [refused.clone(), refused]);
    assert_eq!([first, last].map(|head| head.map(|it| it.sequence)), [Ok(2), Ok(3)]);
    let rows = store.scan(AGENTS, b"", None, 10).await.expect("a scan");
    let keys: Vec<_> = rows.into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, [b"a", b"d"]);
    let head = store.status().await.expect("a status").head;
    check_chain(&store, head).await;
    // A row that nobody appended here, where the next one belongs: said plainly, and nothing kept.
    let row = "INSERT INTO audit_events SELECT 4, 'x', ingested_at, at, event_type, kind, agent_id,
        actor, correlation, details, metadata, prev_hash, leaf_hash FROM audit_events
        WHERE sequence = 1";
    tamper(directory.path(), row);
    let refused = store.commit(batch(5, "e")).await;
    assert!(matches!(refused, Err(StoreError::Corrupted { .. })), "{refused:?}");
    assert_eq!(store.get(AGENTS, b"e").await, Ok(None));
}

#[tokio::test]
async fn a_store_is_laid_out_as_it_was_made() {
    let copy = "CREATE TABLE copy AS SELECT * FROM audit_events; DROP TABLE audit_events;";
    let again = "UPDATE sqlite_schema SET sql = replace(sql, ' STRICT', '') WHERE name =";
    let schema = "PRAGMA writable_schema = ON;";
    let endless = "CREATE VIEW audit_events AS WITH RECURSIVE n(i) AS
        (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT copy.* FROM copy, n";
    let cases = [
        ("SELECT 1".to_owned(), true),
        // What others keep in the same file is theirs.
        (
            "CREATE TABLE mine (a); CREATE VIEW theirs AS SELECT * FROM audit_events".to_owned(),
            true,
        ),
        ("ANALYZE".to_owned(), true),
        // In a table without a key a number can be there twice.
        (format!("{copy} ALTER TABLE copy RENAME TO audit_events"), false),
        (format!("{copy} CREATE VIEW audit_events AS SELECT * FROM copy"), false),
        (format!("{copy} {endless}"), false),
        ("ALTER TABLE audit_events ADD COLUMN more TEXT".to_owned(), false),
        ("ALTER TABLE store_state ADD COLUMN more TEXT".to_owned(), false),
        (format!("{schema} {again} 'audit_events'"), false),
        (format!("{schema} {again} 'store_state'"), false),
        (format!("{schema} {again} 'kv_agents'"), false),
        (
            "CREATE TRIGGER t AFTER INSERT ON Audit_Events BEGIN DELETE FROM audit_events; END"
                .to_owned(),
            false,
        ),
        (
            "CREATE TRIGGER t AFTER UPDATE ON KV_agents BEGIN DELETE FROM kv_agents; END"
                .to_owned(),
            false,
        ),
        ("DROP TABLE kv_agents; CREATE TABLE kv_agents (key, value)".to_owned(), false),
        ("DROP INDEX audit_events_id".to_owned(), false),
        ("DROP INDEX audit_events_kind".to_owned(), false),
        (
            "DROP INDEX audit_events_kind; CREATE INDEX audit_events_kind ON audit_events (kind) \
             WHERE sequence > 1"
                .to_owned(),
            false,
        ),
        ("CREATE INDEX mine ON audit_events (actor)".to_owned(), false),
    ];
    for (sql, whole) in cases {
        let directory = directory();
        let store = open(directory.path());
        store.commit(records([1, 2])).await.expect("a commit");
        // Who has it open notices too.
        let reader = look(directory.path());
        drop(store);
        tamper(directory.path(), &sql);
        let page = reader.log(i64::MIN, 10).await.map(|page| page.rows.len());
        let seen = SqliteReader::open(directory.path()).map(drop);
        let opened = SqliteStore::open(directory.path(), options()).map(drop);
        if whole {
            assert_eq!((page, seen, opened), (Ok(2), Ok(()), Ok(())), "{sql}");
        } else {
            let is_damage =
                |it: Option<StoreError>| matches!(it, Some(StoreError::Corrupted { .. }));
            assert!(is_damage(page.clone().err()), "{sql}: {page:?}");
            assert!(is_damage(seen.clone().err()), "{sql}: {seen:?}");
            assert!(is_damage(opened.clone().err()), "{sql}: {opened:?}");
        }
    }
}

#[tokio::test]
async fn an_index_that_leaves_records_out_is_a_fault() {
    let directory = directory();
    let store = open(directory.path());
    store.commit(records([1, 2, 3])).await.expect("a commit");
    assert_eq!(store.faults().await, Ok(vec![]));
    drop(store);
    // The index is made anew without a record, and its text says nothing of that.
    tamper(
        directory.path(),
        "DROP INDEX audit_events_kind;
         CREATE INDEX audit_events_kind ON audit_events (kind) WHERE sequence <> 2;
         PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = 'CREATE INDEX audit_events_kind ON audit_events (kind)'
         WHERE name = 'audit_events_kind'",
    );
    let reader = look(directory.path());
    let hidden = RecordQuery { kinds: vec![record(2).kind], ..everything() };
    assert_eq!(reader.records(&hidden).await.map(|found| found.len()), Ok(2));
    let faults = reader.faults().await.expect("it is looked for");
    assert!(
        faults.iter().any(|it| it.contains("missing from index audit_events_kind")),
        "{faults:?}"
    );
}

#[tokio::test]
async fn a_row_that_can_not_be_read_hides_no_other() {
    let directory = directory();
    let store = open(directory.path());
    store.commit(records([1, 2, 3])).await.expect("a commit");
    drop(store);
    tamper(directory.path(), "UPDATE audit_events SET metadata = 'x' WHERE sequence = 2");
    let reader = look(directory.path());
    for query in [everything(), RecordQuery { metadata: [].into(), ..everything() }] {
        let rows = reader.rows(&query).await.expect("rows");
        let found: Vec<_> = rows.iter().map(|row| (row.number, row.record.is_ok())).collect();
        assert_eq!(found, [(1, true), (2, false), (3, true)]);
        let refused = reader.records(&query).await;
        assert!(matches!(refused, Err(StoreError::DamagedRecord { sequence: 2, .. })));
    }
}
