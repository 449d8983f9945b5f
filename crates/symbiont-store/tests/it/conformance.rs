//! What every backend does in the same way.

use std::time::{SystemTime, UNIX_EPOCH};

use symbiont_store::{Batch, Head, Record, RecordQuery, Store, StoreError, Table};
use uuid::Uuid;

use crate::support::{AGENTS, TASKS, backends, check_chain, everything, record, records};

/// One step of a scenario: a batch, and what comes of it.
struct Step {
    batch: Batch,
    expected: Result<u64, StoreError>,
}

fn step(batch: Batch, expected: Result<u64, StoreError>) -> Step {
    Step { batch, expected }
}

fn conflict(key: &str) -> StoreError {
    StoreError::Conflict { table: "agents", key: key.to_owned() }
}

fn duplicate(number: u128) -> StoreError {
    StoreError::DuplicateRecord { id: Uuid::from_u128(number) }
}

/// Plays `steps` on each backend, and looks at `agents` and at the ids in the log afterwards.
async fn check(subject: &str, steps: &[Step], agents: &[(&[u8], &[u8])], log: &[u128]) {
    for (backend, _directory, store) in backends() {
        for (number, step) in steps.iter().enumerate() {
            let outcome = store.commit(step.batch.clone()).await;
            let outcome = outcome.map(|head| head.sequence);
            assert_eq!(outcome, step.expected, "{subject} on {backend}, step {number}");
        }
        let rows = store.scan(AGENTS, b"", None, usize::MAX).await.expect("a scan");
        let expected: Vec<(Vec<u8>, Vec<u8>)> =
            agents.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        assert_eq!(rows, expected, "{subject} on {backend}");
        let head = store.status().await.expect("a status").head;
        let kept = check_chain(&*store, head).await;
        let ids: Vec<u128> = kept.iter().map(|stored| stored.record.id.as_u128()).collect();
        assert_eq!(ids, log, "{subject} on {backend}");
    }
}

#[tokio::test]
async fn a_batch_is_kept_whole_or_not_at_all() {
    let put = |key: &str, value: &str| Batch::new().put(AGENTS, key, value);
    check("an empty batch", &[step(Batch::new(), Ok(0))], &[], &[]).await;
    check(
        "changes and records together",
        &[step(put("a", "1").record(record(1)).record(record(2)), Ok(2))],
        &[(b"a", b"1")],
        &[1, 2],
    )
    .await;
    check(
        "the last change of a key counts",
        &[
            step(put("a", "1").put(AGENTS, "a", "2"), Ok(0)),
            step(put("b", "1").remove(AGENTS, "b"), Ok(0)),
            step(put("c", "1"), Ok(0)),
            step(Batch::new().remove(AGENTS, "c").put(AGENTS, "c", "2"), Ok(0)),
        ],
        &[(b"a", b"2"), (b"c", b"2")],
        &[],
    )
    .await;
    check(
        "a key that is not there can be removed",
        &[step(Batch::new().remove(AGENTS, "a"), Ok(0))],
        &[],
        &[],
    )
    .await;
    check(
        "empty keys and values, and all bytes",
        &[step(put("", "").put(AGENTS, vec![0], vec![0]).put(AGENTS, vec![255], vec![255]), Ok(0))],
        &[(b"", b""), (&[0], &[0]), (&[255], &[255])],
        &[],
    )
    .await;
    check(
        "a key that must be absent",
        &[
            step(put("a", "1").require_absent(AGENTS, "a").record(record(1)), Ok(1)),
            step(put("b", "1").require_absent(AGENTS, "a").record(record(2)), Err(conflict("a"))),
            step(put("b", "2").require_absent(AGENTS, "b").record(record(3)), Ok(2)),
            // In another table it is another key.
            step(put("c", "1").require_absent(TASKS, "a"), Ok(2)),
            // It counts what was there before the batch.
            step(Batch::new().remove(AGENTS, "a").require_absent(AGENTS, "a"), Err(conflict("a"))),
        ],
        &[(b"a", b"1"), (b"b", b"2"), (b"c", b"1")],
        &[1, 3],
    )
    .await;
    check(
        "a record that is there already",
        &[
            step(records([1, 2]), Ok(2)),
            step(put("a", "1").record(record(3)).record(record(1)), Err(duplicate(1))),
            step(put("a", "1").record(record(4)).record(record(4)), Err(duplicate(4))),
            step(records([3, 4]), Ok(4)),
        ],
        &[],
        &[1, 2, 3, 4],
    )
    .await;
    check(
        "a table that the store does not have",
        &[
            step(
                put("a", "1").put(Table("others"), "a", "1"),
                Err(StoreError::UnknownTable { table: "others" }),
            ),
            step(
                put("a", "1").require_absent(Table("Agents"), "a"),
                Err(StoreError::UnknownTable { table: "Agents" }),
            ),
        ],
        &[],
        &[],
    )
    .await;
    let limit = 64 << 20;
    check(
        "a batch that is too large",
        &[
            step(
                put("a", "1").put(AGENTS, "b", vec![0; limit - 2]),
                Err(StoreError::TooLarge { size: limit as u64 + 1, limit: limit as u64 }),
            ),
            step(put("a", "1").remove(AGENTS, vec![0; limit - 2]), Ok(0)),
        ],
        &[(b"a", b"1")],
        &[],
    )
    .await;
}

#[tokio::test]
async fn a_scan_goes_through_the_keys_in_order() {
    let keys: [&[u8]; 9] =
        [b"", b"a", b"a/", b"a/1", b"a/1\0", b"a/2", b"b", &[0xff], &[0xff, 0xff]];
    type Scan<'bytes> = (&'bytes [u8], Option<&'bytes [u8]>, usize, &'bytes [&'bytes [u8]]);
    let cases: [Scan<'_>; 14] = [
        (b"", None, 99, &keys),
        (b"", None, 0, &[]),
        (b"", None, 2, &[b"", b"a"]),
        (b"", Some(b""), 2, &[b"a", b"a/"]),
        (b"a/", None, 99, &[b"a/", b"a/1", b"a/1\0", b"a/2"]),
        (b"a/", Some(b"a/"), 99, &[b"a/1", b"a/1\0", b"a/2"]),
        (b"a/", Some(b"a/1"), 99, &[b"a/1\0", b"a/2"]),
        (b"a/", Some(b"a/1"), 1, &[b"a/1\0"]),
        // `after` need not be a key, nor begin with the prefix.
        (b"a/", Some(b"a/15"), 99, &[b"a/2"]),
        (b"a/", Some(b"A"), 1, &[b"a/"]),
        (b"a/", Some(b"b"), 99, &[]),
        (&[0xff], None, 99, &[&[0xff], &[0xff, 0xff]]),
        (&[0xff], Some(&[0xff]), 99, &[&[0xff, 0xff]]),
        (b"c", None, usize::MAX, &[]),
    ];
    for (backend, _directory, store) in backends() {
        let batch = keys.iter().rev().fold(Batch::new(), |batch, key| batch.put(AGENTS, *key, "v"));
        store.commit(batch.put(TASKS, "a/3", "other")).await.expect("a commit");
        for (prefix, after, limit, expected) in cases {
            let found = store.scan(AGENTS, prefix, after, limit).await.expect("a scan");
            let found: Vec<&[u8]> = found.iter().map(|(key, _)| key.as_slice()).collect();
            assert_eq!(found, expected, "{prefix:?} after {after:?} on {backend}");
        }
        for key in keys {
            assert_eq!(store.get(AGENTS, key).await, Ok(Some(b"v".to_vec())), "{key:?}");
        }
        assert_eq!(store.get(AGENTS, b"a/3").await, Ok(None));
        assert_eq!(store.get(TASKS, b"a/3").await, Ok(Some(b"other".to_vec())));
        let unknown = StoreError::UnknownTable { table: "kv_agents" };
        assert_eq!(store.get(Table("kv_agents"), b"").await, Err(unknown.clone()));
        assert_eq!(store.scan(Table("kv_agents"), b"", None, 1).await, Err(unknown));
    }
}

#[tokio::test]
async fn a_record_is_kept_to_the_letter() {
    let agent = Uuid::from_u128(7);
    let odd = Record {
        at: -1,
        event_type: "a\0b".to_owned(),
        kind: "'; DROP TABLE audit_events; --".to_owned(),
        agent_id: Some(agent),
        actor: "\u{202e}operator\u{10ffff}".to_owned(),
        correlation: r#"{"run":"1"}"#.to_owned(),
        details: "line\nline\r\t\"quoted\" \\ é".to_owned(),
        metadata: [("b", "\0"), ("a", "\u{7f}"), ("", "")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        ..record(2)
    };
    let extreme = Record { at: i64::MIN, ..record(u128::MAX) };
    for (backend, _directory, store) in backends() {
        let before = micros();
        let batch = records([1]).record(odd.clone()).record(extreme.clone());
        let head = store.commit(batch).await.expect("a commit");
        let after = micros();
        let log = check_chain(&*store, head).await;
        for (stored, expected) in log.iter().zip([&record(1), &odd, &extreme]) {
            assert_eq!(&stored.record, expected, "{backend}");
            assert!((before..=after).contains(&stored.ingested_at), "{backend}");
            assert_eq!(store.record(expected.id).await, Ok(Some(stored.clone())), "{backend}");
        }
        assert_eq!(store.record(Uuid::from_u128(3)).await, Ok(None), "{backend}");
        assert_eq!(head, Head { sequence: 3, hash: log[2].leaf_hash });
    }
}

fn micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
    i64::try_from(since.as_micros()).expect("a time that fits")
}

#[tokio::test]
async fn a_query_finds_what_it_asks_for() {
    let agent = |number| Uuid::from_u128(100 + number);
    // Ten records: number n happens at -n, so that time and number run against each other.
    let log: Vec<Record> = (1..=10_u8)
        .map(|number| Record {
            at: -i64::from(number),
            event_type: ["Even", "Odd"][usize::from(number % 2)].to_owned(),
            kind: ["policy.decision", "policy.late", "task*"][usize::from(number % 3)].to_owned(),
            agent_id: (number > 2).then(|| agent(u128::from(number % 4))),
            actor: ["system", "operator"][usize::from(number > 5)].to_owned(),
            correlation: format!(r#"{{"run":"{number}"}}"#),
            details: format!("Details of NUMBER {number}"),
            metadata: [("n".to_owned(), number.to_string()), ("fixed".to_owned(), "x".to_owned())]
                .into(),
            ..record(u128::from(number))
        })
        .collect();
    let all = everything;
    let text = |text: &str| Some(text.to_owned());
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let many: Vec<String> = (0..2_000).map(|number| format!("k{number}")).collect();
    let strangers = (0..2_000).map(|number| agent(1_000 + number)).chain([agent(3)]).collect();
    #[rustfmt::skip]
    let cases: Vec<(RecordQuery, &[u64])> = vec![
        (all(), &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        (RecordQuery { limit: 3, ..all() }, &[1, 2, 3]),
        (RecordQuery { limit: 3, oldest_first: false, ..all() }, &[10, 9, 8]),
        (RecordQuery::default(), &[]),
        (RecordQuery { first_sequence: Some(8), ..all() }, &[8, 9, 10]),
        (RecordQuery { first_sequence: Some(0), last_sequence: Some(2), ..all() }, &[1, 2]),
        (RecordQuery { first_sequence: Some(3), last_sequence: Some(3), ..all() }, &[3]),
        (RecordQuery { first_sequence: Some(4), last_sequence: Some(3), ..all() }, &[]),
        (RecordQuery { first_sequence: Some(u64::MAX), ..all() }, &[]),
        (RecordQuery { last_sequence: Some(u64::MAX), ..all() }, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        (RecordQuery { last_sequence: Some(0), ..all() }, &[]),
        (RecordQuery { from: Some(-3), ..all() }, &[1, 2, 3]),
        (RecordQuery { to: Some(-8), ..all() }, &[9, 10]),
        (RecordQuery { from: Some(-5), to: Some(-3), oldest_first: false, ..all() }, &[5, 4]),
        (RecordQuery { from: Some(i64::MIN), to: Some(i64::MAX), limit: 1, ..all() }, &[1]),
        (RecordQuery { event_types: vec!["Odd".into()], ..all() }, &[1, 3, 5, 7, 9]),
        (RecordQuery { event_types: vec!["Odd".into(), "Even".into()], limit: 2, ..all() }, &[1, 2]),
        (RecordQuery { event_types: vec!["odd".into()], ..all() }, &[]),
        (RecordQuery { kinds: vec!["policy.late".into()], ..all() }, &[1, 4, 7, 10]),
        (RecordQuery { kinds: vec!["policy.*".into()], ..all() }, &[1, 3, 4, 6, 7, 9, 10]),
        (RecordQuery { kinds: vec!["policy.*".into()], limit: 2, oldest_first: false, ..all() }, &[10, 9]),
        (RecordQuery { kinds: vec!["policy.d*".into(), "task**".into()], ..all() }, &[2, 3, 5, 6, 8, 9]),
        (RecordQuery { kinds: vec!["*".into()], ..all() }, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        (RecordQuery { kinds: vec!["*late".into()], ..all() }, &[]),
        (RecordQuery { kinds: many.iter().cloned().chain(["policy.late".into()]).collect(), ..all() }, &[1, 4, 7, 10]),
        (RecordQuery { kinds: many, ..all() }, &[]),
        (RecordQuery { agent_ids: vec![agent(3)], ..all() }, &[3, 7]),
        (RecordQuery { agent_ids: vec![agent(3)], limit: 1, oldest_first: false, ..all() }, &[7]),
        (RecordQuery { agent_ids: vec![agent(3), agent(0), agent(3)], ..all() }, &[3, 4, 7, 8]),
        (RecordQuery { agent_ids: vec![agent(0), agent(3)], first_sequence: Some(4), last_sequence: Some(7), ..all() }, &[4, 7]),
        (RecordQuery { agent_ids: vec![agent(9)], ..all() }, &[]),
        (RecordQuery { agent_ids: strangers, ..all() }, &[3, 7]),
        (RecordQuery { actor: text("operator"), ..all() }, &[6, 7, 8, 9, 10]),
        (RecordQuery { actor: text("operator"), limit: 1, oldest_first: false, ..all() }, &[10]),
        (RecordQuery { actor: text("oper"), ..all() }, &[]),
        (RecordQuery { correlation: text(r#""run":"1"#), ..all() }, &[1, 10]),
        (RecordQuery { correlation: text("RUN"), ..all() }, &[]),
        (RecordQuery { text: text("number 1"), ..all() }, &[1, 10]),
        (RecordQuery { text: text("number 1"), limit: 1, oldest_first: false, ..all() }, &[10]),
        (RecordQuery { text: text("%"), ..all() }, &[]),
        (RecordQuery { text: text(""), limit: 1, ..all() }, &[1]),
        (RecordQuery { metadata: [pair("n", "4")].into(), ..all() }, &[4]),
        (RecordQuery { metadata: [pair("n", "4"), pair("fixed", "x")].into(), ..all() }, &[4]),
        (RecordQuery { metadata: [pair("n", "4"), pair("fixed", "y")].into(), ..all() }, &[]),
        (RecordQuery { metadata: [pair("other", "x")].into(), ..all() }, &[]),
        (RecordQuery { event_types: vec!["Odd".into()], kinds: vec!["policy.*".into()], actor: text("operator"), from: Some(-9), ..all() }, &[7, 9]),
    ];
    for (backend, _directory, store) in backends() {
        let batch = log.iter().cloned().fold(Batch::new(), Batch::record);
        store.commit(batch).await.expect("a commit");
        for (query, expected) in &cases {
            let found = store.records(query).await.expect("a query");
            let found: Vec<u64> = found.iter().map(|stored| stored.sequence).collect();
            assert_eq!(&found, expected, "{query:?} on {backend}");
        }
    }
}

#[tokio::test]
async fn a_closed_store_takes_nothing_more() {
    for (backend, _directory, store) in backends() {
        store.commit(records([1])).await.expect("a commit");
        for time in ["once", "twice"] {
            assert_eq!(store.close().await, Ok(()), "{backend}, {time}");
            let closed = StoreError::Closed;
            assert_eq!(store.commit(records([2])).await, Err(closed.clone()), "{backend}");
            assert_eq!(store.get(AGENTS, b"a").await, Err(closed.clone()), "{backend}");
            assert_eq!(store.scan(AGENTS, b"", None, 1).await, Err(closed.clone()), "{backend}");
            assert_eq!(store.records(&everything()).await, Err(closed.clone()), "{backend}");
            assert_eq!(store.record(Uuid::nil()).await, Err(closed.clone()), "{backend}");
            assert_eq!(store.status().await, Err(closed), "{backend}");
        }
    }
}

#[tokio::test]
async fn the_status_follows_the_store() {
    for (backend, _directory, store) in backends() {
        let empty = store.status().await.expect("a status");
        assert_eq!((empty.backend, empty.head), (backend, Head::default()));
        assert_eq!((empty.transactions, empty.commit_p99, empty.epoch), (0, None, 1));
        let large = Batch::new().put(AGENTS, "a", vec![1; 100_000]);
        let head = store.commit(large.and(records([1, 2]))).await.expect("a commit");
        let status = store.status().await.expect("a status");
        assert_eq!((status.head, status.transactions), (head, 1), "{backend}");
        assert!(status.commit_p99.is_some_and(|p99| !p99.is_zero()), "{backend}");
        assert!(status.size >= empty.size + 100_000, "{backend}: {}", status.size);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_at_the_same_time_get_numbers_without_gaps() {
    const CALLERS: u128 = 8;
    const BATCHES: u128 = 500;
    for (backend, _directory, store) in backends() {
        let store: std::sync::Arc<dyn Store> = store.into();
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let store = std::sync::Arc::clone(&store);
                tokio::spawn(async move {
                    for number in 0..BATCHES {
                        let id = caller * BATCHES + number;
                        let key = id.to_be_bytes();
                        let batch = records([id]).put(AGENTS, key, "v").require_absent(AGENTS, key);
                        let head = store.commit(batch).await.expect("a commit");
                        // Whoever was answered can read what was committed.
                        let stored = store.record(Uuid::from_u128(id)).await.expect("a read");
                        let stored = stored.expect("the record is there");
                        assert_eq!((stored.sequence, stored.leaf_hash), (head.sequence, head.hash));
                        // A refusal in the midst of others costs only itself.
                        let again = Batch::new().put(AGENTS, key, "w").require_absent(AGENTS, key);
                        let refused = store.commit(again).await;
                        assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await.expect("a caller is content");
        }
        let status = store.status().await.expect("a status");
        assert_eq!(u128::from(status.head.sequence), CALLERS * BATCHES, "{backend}");
        check_chain(&*store, status.head).await;
        let rows = store.scan(AGENTS, b"", None, usize::MAX).await.expect("a scan");
        assert_eq!(rows.len() as u128, CALLERS * BATCHES, "{backend}");
        assert!(rows.iter().all(|(_, value)| value == b"v"), "{backend}");
    }
}

#[tokio::test]
async fn the_log_is_read_in_pages() {
    for (backend, _directory, store) in backends() {
        let empty = store.log(i64::MIN, 10).await.expect("a page");
        assert_eq!(
            (empty.gone, empty.head, empty.rows),
            (Head::default(), Head::default(), vec![])
        );
        let head = store.commit(records(1..=5)).await.expect("a commit");
        let all = store.records(&everything()).await.expect("a query");
        let mut from = i64::MIN;
        let mut found = Vec::new();
        loop {
            let page = store.log(from, 2).await.expect("a page");
            assert_eq!((page.gone, page.head), (Head::default(), head), "{backend}");
            let Some(last) = page.rows.last() else { break };
            assert!(page.rows.len() <= 2, "{backend}");
            from = last.number + 1;
            found.extend(page.rows.into_iter().map(|row| row.record.expect("it is whole")));
        }
        assert_eq!(found, all, "{backend}");
        let beyond = store.log(i64::MAX, 2).await.expect("a page");
        assert_eq!(beyond.rows, [], "{backend}");
    }
}

#[tokio::test]
async fn memory_keeps_the_newest_records_and_where_they_begin() {
    let options = symbiont_store::StoreOptions { kept_records: 3, ..crate::support::options() };
    let store = symbiont_store::MemoryStore::new(options);
    let agent = Uuid::from_u128(77);
    let mut heads = Vec::new();
    for number in 1..=10 {
        let record = Record { agent_id: Some(agent), ..record(number) };
        heads.push(store.commit(Batch::new().record(record)).await.expect("a commit"));
    }
    let numbers = async |query: RecordQuery| {
        let found = store.records(&query).await.expect("a query");
        found.iter().map(|stored| stored.sequence).collect::<Vec<_>>()
    };
    assert_eq!(numbers(everything()).await, [8, 9, 10]);
    assert_eq!(
        numbers(RecordQuery { oldest_first: false, limit: 2, ..everything() }).await,
        [10, 9]
    );
    assert_eq!(numbers(RecordQuery { agent_ids: vec![agent], ..everything() }).await, [8, 9, 10]);
    assert_eq!(
        numbers(RecordQuery { last_sequence: Some(7), ..everything() }).await,
        [] as [u64; 0]
    );
    let page = store.log(i64::MIN, 10).await.expect("a page");
    assert_eq!((page.gone, page.head), (heads[6], heads[9]));
    let first = page.rows[0].record.as_ref().expect("it is whole");
    assert_eq!((page.rows[0].number, first.prev_hash), (8, heads[6].hash), "the chain goes on");
    assert_eq!(store.record(Uuid::from_u128(7)).await, Ok(None));
    assert!(store.record(Uuid::from_u128(8)).await.expect("an answer").is_some());
    // A batch larger than what is kept.
    let head = store.commit(records(11..=20)).await.expect("a commit");
    assert_eq!((head.sequence, numbers(everything()).await), (20, vec![18, 19, 20]));
    assert_eq!(
        numbers(RecordQuery { agent_ids: vec![agent], ..everything() }).await,
        [] as [u64; 0]
    );
    let size = store.status().await.expect("a status").size;
    store.commit(records(21..=30)).await.expect("a commit");
    assert_eq!(store.status().await.expect("a status").size, size, "it does not grow");
}
