//! Random batches on both backends, beside a model that anyone can check by eye.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use symbiont_store::{Batch, RecordQuery, Store, StoreError, StoreOptions, Table};
use uuid::Uuid;

use crate::support::{AGENTS, TASKS, backends, check_chain, open, options, record};

/// What a store should hold.
#[derive(Default)]
struct Model {
    rows: BTreeMap<(&'static str, Vec<u8>), Vec<u8>>,
    ids: Vec<Uuid>,
}

impl Model {
    fn commit(&mut self, batch: &Batch) -> Result<u64, StoreError> {
        for (table, key) in &batch.absent {
            if self.rows.contains_key(&(table.0, key.clone())) {
                let key = String::from_utf8(key.clone()).expect("the keys here are letters");
                return Err(StoreError::Conflict { table: table.0, key });
            }
        }
        let mut ids = self.ids.clone();
        for record in &batch.records {
            if ids.contains(&record.id) {
                return Err(StoreError::DuplicateRecord { id: record.id });
            }
            ids.push(record.id);
        }
        self.ids = ids;
        for (table, key, value) in batch.changes.clone() {
            match value {
                Some(value) => self.rows.insert((table.0, key), value),
                None => self.rows.remove(&(table.0, key)),
            };
        }
        Ok(self.ids.len() as u64)
    }

    fn rows_of(&self, table: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
        let rows = self.rows.iter().filter(|((name, _), _)| *name == table.0);
        rows.map(|((_, key), value)| (key.clone(), value.clone())).collect()
    }
}

fn table() -> impl Strategy<Value = Table> {
    prop_oneof![Just(AGENTS), Just(TASKS)]
}

/// Few keys, so that batches meet.
fn key() -> impl Strategy<Value = Vec<u8>> {
    "[ab]{0,2}".prop_map(String::into_bytes)
}

fn batch() -> impl Strategy<Value = Batch> {
    let absent = vec((table(), key()), 0..2);
    let changes = vec((table(), key(), proptest::option::of(vec(any::<u8>(), 0..4))), 0..4);
    let records = vec((0..60_u128).prop_map(record), 0..3);
    (absent, changes, records).prop_map(|(absent, changes, records)| Batch {
        absent,
        changes,
        records,
    })
}

async fn check(store: &dyn Store, model: &Model) {
    for table in [AGENTS, TASKS] {
        let rows = store.scan(table, b"", None, usize::MAX).await.expect("a scan");
        assert_eq!(rows, model.rows_of(table));
        let with_a: Vec<_> = rows.into_iter().filter(|(key, _)| key.starts_with(b"a")).collect();
        let found = store.scan(table, b"a", None, usize::MAX).await.expect("a scan");
        assert_eq!(found, with_a);
    }
    let head = store.status().await.expect("a status").head;
    let log = check_chain(store, head).await;
    let ids: Vec<Uuid> = log.iter().map(|stored| stored.record.id).collect();
    assert_eq!(ids, model.ids);
    let newest = RecordQuery { limit: 3, ..RecordQuery::default() };
    let newest = store.records(&newest).await.expect("a query");
    assert!(newest.iter().eq(log.iter().rev().take(3)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_store_does_what_the_model_does(batches in vec(batch(), 1..40), together in any::<bool>()) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            for (backend, directory, store) in backends() {
                let mut model = Model::default();
                let expected: Vec<_> = batches.iter().map(|batch| model.commit(batch)).collect();
                let mut outcomes = Vec::new();
                if together {
                    // All in the queue at once, in this order: they share transactions.
                    outcomes.extend(join_in_order(&*store, &batches).await);
                } else {
                    for batch in &batches {
                        outcomes.push(store.commit(batch.clone()).await);
                    }
                }
                let outcomes: Vec<_> =
                    outcomes.into_iter().map(|outcome| outcome.map(|head| head.sequence)).collect();
                assert_eq!(outcomes, expected, "{backend}");
                check(&*store, &model).await;
                if let Some(directory) = directory {
                    drop(store);
                    check(&open(directory.path()), &model).await;
                }
            }
        });
    }

    #[test]
    fn no_name_of_a_table_does_harm(name in "\\PC{0,80}|[a-z_]{1,70}") {
        let table = Table(Box::leak(name.into_boxed_str()));
        let allowed = (1..=64).contains(&table.0.len())
            && table.0.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        let directory = tempfile::tempdir().expect("a temporary directory");
        let options = StoreOptions { tables: vec![table], ..options() };
        match symbiont_store::SqliteStore::open(directory.path(), options) {
            Ok(_) => prop_assert!(allowed),
            Err(error) => {
                prop_assert!(!allowed);
                prop_assert_eq!(error, StoreError::InvalidTable { table: table.0 });
            }
        }
    }
}

/// Commits all of `batches` at the same time, their calls in order.
async fn join_in_order(
    store: &dyn Store,
    batches: &[Batch],
) -> Vec<Result<symbiont_store::Head, StoreError>> {
    use std::task::Poll;
    let mut calls: Vec<_> = batches.iter().map(|batch| store.commit(batch.clone())).collect();
    let mut outcomes: Vec<_> = calls.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (call, outcome) in calls.iter_mut().zip(&mut outcomes) {
            if outcome.is_none()
                && let Poll::Ready(ready) = call.as_mut().poll(context)
            {
                *outcome = Some(ready);
            }
        }
        if outcomes.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outcomes.into_iter().flatten().collect()
}
