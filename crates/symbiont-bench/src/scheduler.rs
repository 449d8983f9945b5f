//! Tasks from being accepted to their end.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use rusqlite::Connection;
use symbiont_runtime::{
    AgentId, AgentState, Duration, ExecutionMode, LifecycleController, Priority, Runtime,
    ScheduledTask, Scheduler, SystemTime, TaskId, TaskStatus,
};
use tokio::task::JoinSet;

use crate::agents::{bare, config};
use crate::table::{Peer, Rows};
use crate::{Scale, all, close, directory, per_second, rounds, runtime};

/// Agents that the tasks are for; each runs one at a time.
const AGENTS: usize = 64;
/// Callers at a time, each waiting for the end of its task.
const CALLERS: usize = 256;

pub(crate) async fn measure(scale: Scale, rows: &mut Rows<'_>) {
    let count = scale.of(10_240, 256);
    let n = || format!("{count} tasks");
    let outcome = rounds(scale.rounds(), async || tasks(None, count).await).await;
    let bare = rounds(scale.rounds(), async || bare(count).await).await;
    let outcome = outcome.and_then(|v| Ok((v, Some(Peer::new("tokio spawn + oneshot", bare?)))));
    rows.add("in memory, tasks completed", "tasks/s", n(), outcome);

    let outcome = rounds(scale.rounds(), async || {
        let directory = directory()?;
        tasks(Some(directory.path()), count).await
    })
    .await;
    let bare = rounds(scale.rounds(), async || {
        tokio::task::spawn_blocking(move || commits(count)).await?
    })
    .await;
    let peer = format!("SQLite, {AGENTS} tasks a commit, 3 commits");
    let outcome = outcome.and_then(|value| Ok((value, Some(Peer::new(peer, bare?)))));
    rows.add("durable, tasks completed", "tasks/s", n(), outcome);
}

/// Tasks per second that agents complete.
async fn tasks(data: Option<&Path>, count: usize) -> Result<f64> {
    let runtime = runtime(data).await?;
    let agents = agents(&runtime).await?;
    let began = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let scheduler = Arc::clone(runtime.scheduler());
        let agents = agents.clone();
        callers.spawn(async move {
            for number in (caller..count).step_by(CALLERS) {
                let task = task(agents[number % AGENTS]);
                let id = task.id;
                scheduler.schedule_task(task).await?;
                let status = scheduler.ended(id).await?;
                let completed = matches!(status, TaskStatus::Completed { .. });
                ensure!(completed, "a task ended as {status:?}");
                ensure!(scheduler.result(id).await?.as_deref() == Some("1"), "another result");
            }
            Ok(())
        });
    }
    all(callers).await?;
    let took = began.elapsed();
    let metrics = runtime.scheduler().get_scheduler_metrics().await;
    ensure!(metrics.completed == count as u64, "{} of {count} completed", metrics.completed);
    close(runtime).await?;
    Ok(per_second(count, took))
}

async fn agents(runtime: &Runtime) -> Result<Vec<AgentId>> {
    let lifecycle = runtime.lifecycle();
    let mut agents = Vec::with_capacity(AGENTS);
    for _ in 0..AGENTS {
        let source = "agent worker() -> int { with { return 1; } }";
        let id = lifecycle.create_agent(config(source, ExecutionMode::Persistent)).await?.id;
        lifecycle.initialize_agent(id).await?;
        lifecycle.start_agent(id).await?;
        let state = lifecycle.until(id, &[AgentState::Waiting, AgentState::Failed]).await?;
        ensure!(state == AgentState::Waiting, "an agent is {state}");
        agents.push(id);
    }
    Ok(agents)
}

fn task(agent_id: AgentId) -> ScheduledTask {
    ScheduledTask {
        id: TaskId::new(),
        agent_id,
        priority: Priority::Normal,
        scheduled_time: SystemTime::now(),
        timeout: Duration::ZERO,
        retry_count: 0,
    }
}

/// What being durable costs a task at the least: that it was accepted, started and ended, each with
/// a row of 256 bytes that is on the disk before the next.
fn commits(count: usize) -> Result<f64> {
    let directory = directory()?;
    let mut connection = Connection::open(directory.path().join("bare.db"))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch(
        "CREATE TABLE tasks (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL)
         STRICT, WITHOUT ROWID",
    )?;
    let ids: Vec<TaskId> = (0..count).map(|_| TaskId::new()).collect();
    let began = Instant::now();
    for batch in ids.chunks(AGENTS) {
        for state in 0..3 {
            let transaction = connection.transaction()?;
            for id in batch {
                let row = (&id.as_uuid().as_bytes()[..], vec![state; 256]);
                transaction.prepare_cached("REPLACE INTO tasks VALUES (?1, ?2)")?.execute(row)?;
            }
            transaction.commit()?;
        }
    }
    let took = began.elapsed();
    let ended: i64 = connection.query_row(
        "SELECT count(*) FROM tasks WHERE value = ?1",
        [vec![2_u8; 256]],
        |row| row.get(0),
    )?;
    ensure!(usize::try_from(ended)? == count, "{ended} of {count} rows are there");
    Ok(per_second(count, took))
}
