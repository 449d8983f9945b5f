//! What was acknowledged is there after `kill -9`.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use symbiont_store::{Batch, RecordQuery, SqliteStore, Store, StoreError};

use crate::support::{AGENTS, check_chain, look, open, options, record};

/// Tells a child which directory is its own.
const DIRECTORY: &str = "SYMBIONT_STORE_TEST_DIRECTORY";

/// Tells a child which number to begin with.
const FIRST: &str = "SYMBIONT_STORE_TEST_FIRST";

const ROUNDS: usize = 8;

/// The child: commits numbered batches until it is killed, and prints each number once its batch is
/// acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it is the child of `what_was_acknowledged_survives_kill_9`, which kills it"]
async fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let first = std::env::var(FIRST).expect("a first number").parse().expect("a number");
    let store = Arc::new(open(Path::new(&directory)));
    let next = Arc::new(AtomicU64::new(first));
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (store, next) = (Arc::clone(&store), Arc::clone(&next));
        callers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let value = vec![7; usize::try_from(number % 5_000).expect("it is small")];
                let batch = Batch::new()
                    .put(AGENTS, number.to_be_bytes(), value)
                    .record(record(u128::from(number)));
                store.commit(batch).await.expect("a commit");
                let mut out = std::io::stdout().lock();
                writeln!(out, "acknowledged {number}").expect("the parent listens");
                out.flush().expect("the parent listens");
            }
        });
    }
    callers.join_all().await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut acknowledged = BTreeSet::new();
    let mut first = 0_u64;
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().expect("this test has a file"))
            .args(["--ignored", "--exact", "kill::child", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .env(FIRST, first.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the child starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        // The moment is a random number of acknowledgements, at some point of the next transaction.
        let enough = 1 + uuid::Uuid::new_v4().as_u128() % 300;
        let mut seen = 0;
        let mut lock_seen = false;
        for line in lines {
            let line = line.expect("the child's output");
            // The test runner may have written the beginning of the first line.
            let Some((_, number)) = line.split_once("acknowledged ") else { continue };
            let number: u64 = number.parse().expect("a number");
            acknowledged.insert(number);
            seen += 1;
            if !lock_seen {
                lock_seen = true;
                let refused = SqliteStore::open(directory.path(), options());
                let Err(StoreError::Locked { holder, .. }) = refused else {
                    panic!("the child does not hold the directory: {refused:?}");
                };
                assert!(holder.starts_with(&format!("process {} since ", child.id())), "{holder}");
            }
            if seen == enough {
                child.kill().expect("the child is killed");
            }
        }
        let status = child.wait().expect("the child ends");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{status}");

        // A reader sees everything, though nobody has opened the store for writing since.
        if round % 2 == 0 {
            check(&look(directory.path()), &acknowledged).await;
        }
        let store = open(directory.path());
        first = check(&store, &acknowledged).await;
        assert_eq!(store.status().await.expect("a status").epoch, 2 * (round as u64 + 1));
        // The directory is usable again, by the same process.
        store.commit(Batch::new()).await.expect("a commit");
        store.close().await.expect("it closes");
    }
    assert!(acknowledged.len() >= ROUNDS);
}

/// Checks that all of `acknowledged` is there, that each batch is there whole or not at all, and
/// that the log is consistent. Returns the number after the last.
async fn check(store: &dyn Store, acknowledged: &BTreeSet<u64>) -> u64 {
    let rows = store.scan(AGENTS, b"", None, usize::MAX).await.expect("a scan");
    let keys: BTreeSet<u64> = rows
        .iter()
        .map(|(key, value)| {
            let number = u64::from_be_bytes(key.as_slice().try_into().expect("eight bytes"));
            assert_eq!(value.len() as u64, number % 5_000);
            number
        })
        .collect();
    let head = store.status().await.expect("a status").head;
    let log = check_chain(store, head).await;
    let ids: BTreeSet<u64> = log
        .iter()
        .map(|stored| u64::try_from(stored.record.id.as_u128()).expect("a small number"))
        .collect();
    assert_eq!(keys, ids);
    assert!(acknowledged.is_subset(&keys), "{:?}", acknowledged.difference(&keys));
    let newest = RecordQuery { limit: 1, ..RecordQuery::default() };
    let newest = store.records(&newest).await.expect("a query");
    assert_eq!(newest.first().map(|stored| stored.sequence), log.last().map(|it| it.sequence));
    keys.last().map_or(0, |last| last + 1)
}
