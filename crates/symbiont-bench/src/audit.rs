//! The durable audit trail, beside SQLite with the same rows, indexes and sizes of transaction.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::digest::{Context as Sha256, SHA256};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OpenFlags, params_from_iter};
use symbiont_runtime::{
    AgentId, AuditEvent, AuditEventType, AuditId, AuditTrail, AuditTrailConfig, Clock,
    DefaultAuditTrail, Journal, SystemTime, Verdict, open_trail,
};
use tokio::task::JoinSet;

use crate::table::{Peer, Rows};
use crate::{Scale, all, directory, median, per_second};

/// Callers at a time, which is what a transaction of the trail has in it while they all wait.
pub(crate) const CALLERS: usize = 256;

pub(crate) async fn measure(scale: Scale, rows: &mut Rows<'_>) {
    let count = scale.of(20_480, 512);
    let n = || format!("{count} records");
    match both(scale.rounds(), count).await {
        Ok([append, bare_append, verify, bare_verify]) => {
            let peer = Peer::new(format!("SQLite, {CALLERS} such rows a commit"), bare_append);
            rows.add("append durable, batched", "records/s", n(), Ok((append, Some(peer))));
            let peer = Peer::new("SQLite SELECT + SHA-256", bare_verify);
            rows.add("verify", "records/s", n(), Ok((verify, Some(peer))));
        }
        Err(error) => {
            let again = anyhow::anyhow!("{error:#}");
            rows.add("append durable, batched", "records/s", n(), Err(error));
            rows.add("verify", "records/s", n(), Err(again));
        }
    }
}

/// Medians of appending and verifying, each with its peer's.
async fn both(rounds: usize, count: usize) -> Result<[f64; 4]> {
    let mut values = [const { Vec::new() }; 4];
    for round in 0..=rounds {
        let directory = directory()?;
        let append = append(directory.path(), count).await?;
        let verify = verify(directory.path(), count).await?;
        let trail = directory.path().join("symbiont.db");
        let copy = directory.path().join("bare.db");
        let place = (trail, copy.clone());
        let bare_append =
            tokio::task::spawn_blocking(move || bare_append(&place.0, &place.1, count)).await??;
        let bare_verify = tokio::task::spawn_blocking(move || bare_verify(&copy, count)).await??;
        // The first round is for warmth.
        if round > 0 {
            for (values, value) in values.iter_mut().zip([append, bare_append, verify, bare_verify])
            {
                values.push(value);
            }
        }
    }
    Ok(values.map(|mut values| median(&mut values)))
}

async fn append(directory: &Path, count: usize) -> Result<f64> {
    let journal = Journal::open(directory, Clock::system())?;
    let trail = DefaultAuditTrail::builder(AuditTrailConfig::default()).journal(journal).build()?;
    let trail = Arc::new(trail);
    let agent = AgentId::new();
    let began = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let trail = Arc::clone(&trail);
        callers.spawn(async move {
            for number in (caller..count).step_by(CALLERS) {
                let event = event(agent, number);
                let id = event.id;
                ensure!(trail.record_event(event).await? == id, "another id was acknowledged");
            }
            Ok(())
        });
    }
    all(callers).await?;
    Ok(per_second(count, began.elapsed()))
}

fn event(agent: AgentId, number: usize) -> AuditEvent {
    AuditEvent {
        id: AuditId::new(),
        timestamp: SystemTime::now(),
        event_type: AuditEventType::SecurityEvent,
        agent_id: Some(agent),
        details: format!("allowed fs.read:/workspace/file-{number} by the policy `bench`"),
        metadata: [("kind".to_owned(), "policy.decision".to_owned())].into(),
    }
}

/// Records verified per second, read anew from the disk.
async fn verify(directory: &Path, count: usize) -> Result<f64> {
    let trail = open_trail(directory).await?;
    let began = Instant::now();
    let report =
        trail.verify_integrity(UNIX_EPOCH, SystemTime::now() + Duration::from_secs(60)).await?;
    let took = began.elapsed();
    ensure!(report.verdict == Verdict::Intact, "the trail is {:?}", report.findings);
    ensure!(
        report.events_checked == count as u64,
        "{} of {count} records were verified",
        report.events_checked
    );
    Ok(per_second(count, took))
}

const COLUMNS: usize = 13;

/// Writes the rows of `trail` into a new file with the same tables and indexes.
fn bare_append(trail: &Path, copy: &Path, count: usize) -> Result<f64> {
    let source = Connection::open_with_flags(trail, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let layout: Vec<String> = source
        .prepare(
            "SELECT sql FROM sqlite_schema WHERE tbl_name = 'audit_events' AND sql IS NOT NULL
             ORDER BY type = 'index'",
        )?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    ensure!(layout.len() > 1, "the trail's table is not where it is looked for");
    let mut rows: Vec<Vec<Value>> = Vec::with_capacity(count);
    let mut select = source.prepare("SELECT * FROM audit_events ORDER BY sequence")?;
    let mut found = select.query([])?;
    while let Some(row) = found.next()? {
        rows.push((0..COLUMNS).map(|column| row.get(column)).collect::<Result<_, _>>()?);
    }
    ensure!(rows.len() == count, "the trail has {} of {count} records", rows.len());

    let mut copy = Connection::open(copy)?;
    copy.pragma_update(None, "journal_mode", "WAL")?;
    copy.pragma_update(None, "synchronous", "FULL")?;
    copy.execute_batch(&layout.join(";"))?;
    let began = Instant::now();
    for batch in rows.chunks(CALLERS) {
        let transaction = copy.transaction()?;
        let places = vec!["?"; COLUMNS].join(", ");
        let insert = format!("INSERT INTO audit_events VALUES ({places})");
        for row in batch {
            transaction.prepare_cached(&insert)?.execute(params_from_iter(row))?;
        }
        transaction.commit()?;
    }
    Ok(per_second(count, began.elapsed()))
}

/// Reads every row and hashes what is in it.
fn bare_verify(copy: &Path, count: usize) -> Result<f64> {
    let source = Connection::open_with_flags(copy, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let began = Instant::now();
    let mut select = source.prepare("SELECT * FROM audit_events ORDER BY sequence")?;
    let mut found = select.query([])?;
    let mut number = 0;
    let mut last = None;
    while let Some(row) = found.next()? {
        let mut hash = Sha256::new(&SHA256);
        for column in 0..COLUMNS {
            match row.get_ref(column)? {
                ValueRef::Null => {}
                ValueRef::Integer(integer) => hash.update(&integer.to_be_bytes()),
                ValueRef::Real(real) => hash.update(&real.to_be_bytes()),
                ValueRef::Text(bytes) | ValueRef::Blob(bytes) => hash.update(bytes),
            }
        }
        last = Some(hash.finish());
        number += 1;
    }
    let took = began.elapsed();
    last.context("no row was read")?;
    ensure!(number == count, "{number} of {count} rows were read");
    Ok(per_second(count, took))
}
