//! Whole lives of agents, and the memory of one that waits.

use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use symbiont_runtime::{
    AgentConfig, AgentId, AgentState, DefaultLifecycleController, ExecutionMode, HashMap,
    LifecycleController, Priority, ResourceLimits, RunOutcome, SecurityTier,
};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::table::{Peer, Rows};
use crate::{Scale, all, close, per_second, rounds, runtime};

/// Asks this program to measure memory in a process of its own, where nothing else was before.
pub(crate) const RESIDENT: &str = "--resident";

/// Callers at a time: a caller waits for its agent, and meanwhile others go on.
const CALLERS: usize = 64;

pub(crate) async fn measure(scale: Scale, rows: &mut Rows<'_>) {
    let count = scale.of(10_000, 200);
    let lives = rounds(scale.rounds(), async || lives(count).await).await;
    let bare = rounds(scale.rounds(), async || bare(count).await).await;
    let outcome =
        lives.and_then(|lives| Ok((lives, Some(Peer::new("tokio spawn + oneshot", bare?)))));
    rows.add("create to completed", "agents/s", format!("{count} agents"), outcome);

    let memory = (|| {
        let agents = in_child("agents", count)?;
        let tasks = in_child("tasks", count)?;
        Ok((agents, Some(Peer::new("tokio task + mpsc mailbox", tasks))))
    })();
    rows.add("resident memory", "KiB/agent", format!("{count} agents"), memory);
}

/// A small agent that does what `source` says.
pub(crate) fn config(source: &str, execution_mode: ExecutionMode) -> AgentConfig {
    AgentConfig {
        id: AgentId::new(),
        name: "bench".to_owned(),
        dsl_source: source.to_owned(),
        execution_mode,
        security_tier: SecurityTier::Tier1,
        resource_limits: ResourceLimits {
            memory_mb: 1,
            cpu_cores: 0.001,
            disk_io_mbps: 1,
            network_io_mbps: 1,
            ..ResourceLimits::default()
        },
        capabilities: Vec::new(),
        policies: Vec::new(),
        metadata: HashMap::new(),
        priority: Priority::Normal,
    }
}

/// Agents per second from creation to their end, each seen to return what it has to.
async fn lives(count: usize) -> Result<f64> {
    let runtime = runtime(None).await?;
    let began = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let lifecycle = Arc::clone(runtime.lifecycle());
        callers.spawn(async move {
            for number in (caller..count).step_by(CALLERS) {
                life(&lifecycle, number).await?;
            }
            anyhow::Ok(())
        });
    }
    all(callers).await?;
    let took = began.elapsed();
    let list = runtime.lifecycle().list_agents().await;
    let ended = list.iter().filter(|agent| agent.state == AgentState::Terminated).count();
    ensure!(ended == count, "{ended} of {count} agents are terminated");
    close(runtime).await?;
    Ok(per_second(count, took))
}

async fn life(lifecycle: &DefaultLifecycleController, number: usize) -> Result<()> {
    let source = format!("agent adder() -> int {{ with {{ return 40 + {}; }} }}", number % 10);
    let id = lifecycle.create_agent(config(&source, ExecutionMode::Ephemeral)).await?.id;
    lifecycle.initialize_agent(id).await?;
    lifecycle.start_agent(id).await?;
    let state = lifecycle.until(id, &[AgentState::Completed, AgentState::Failed]).await?;
    ensure!(state == AgentState::Completed, "an agent ended {state}: {:?}", lifecycle.failure(id));
    let run = lifecycle.settled(id).await?.context("an agent completed without a run")?;
    let want = RunOutcome::Returned((40 + number % 10).to_string().into());
    ensure!(run.outcome == want, "{:?} instead of {want:?}", run.outcome);
    lifecycle.terminate_agent(id).await?;
    let state = lifecycle.get_agent_state(id).await?;
    ensure!(state == AgentState::Terminated, "an agent is {state} after its end");
    Ok(())
}

/// The same number of bare tasks, by as many callers, each answering once.
pub(crate) async fn bare(count: usize) -> Result<f64> {
    let began = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        callers.spawn(async move {
            for number in (caller..count).step_by(CALLERS) {
                let (tell, told) = oneshot::channel();
                tokio::spawn(async move { tell.send(40 + number % 10) });
                ensure!(told.await? == 40 + number % 10, "a task answered something else");
            }
            Ok(())
        });
    }
    all(callers).await?;
    Ok(per_second(count, began.elapsed()))
}

fn in_child(what: &str, count: usize) -> Result<f64> {
    let output = Command::new(std::env::current_exe()?)
        .args([RESIDENT, what, &count.to_string()])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(text.trim().parse()?)
}

/// What one of `words[1]` agents or tasks (`words[0]`) adds to this process, in KiB.
pub(crate) async fn resident(words: &[String]) -> Result<f64> {
    let [what, count] = words else { bail!("`{RESIDENT}` needs a kind and a count") };
    let count: usize = count.parse()?;
    match what.as_str() {
        "agents" => resident_agents(count).await,
        "tasks" => resident_tasks(count).await,
        what => bail!("`{what}` is neither `agents` nor `tasks`"),
    }
}

async fn resident_agents(count: usize) -> Result<f64> {
    let runtime = runtime(None).await?;
    let begin = |lifecycle: Arc<DefaultLifecycleController>| async move {
        let source = "agent waiter() { with { return 1; } }";
        let id = lifecycle.create_agent(config(source, ExecutionMode::Persistent)).await?.id;
        lifecycle.initialize_agent(id).await?;
        lifecycle.start_agent(id).await?;
        let state = lifecycle.until(id, &[AgentState::Waiting, AgentState::Failed]).await?;
        ensure!(state == AgentState::Waiting, "an agent is {state}");
        Ok(())
    };
    // What the first one needs, it shares with all others.
    begin(Arc::clone(runtime.lifecycle())).await?;
    let before = memory_kib()?;
    let mut callers = JoinSet::new();
    for caller in 1..CALLERS {
        let lifecycle = Arc::clone(runtime.lifecycle());
        callers.spawn(async move {
            for _ in (caller..count).step_by(CALLERS - 1) {
                begin(Arc::clone(&lifecycle)).await?;
            }
            anyhow::Ok(())
        });
    }
    all(callers).await?;
    let after = memory_kib()?;
    let list = runtime.lifecycle().list_agents().await;
    let waiting = list.iter().filter(|agent| agent.state == AgentState::Waiting).count();
    ensure!(waiting == count, "{waiting} of {count} agents wait");
    Ok(each(after - before, count))
}

async fn resident_tasks(count: usize) -> Result<f64> {
    let mut mailboxes = Vec::with_capacity(count);
    let before = memory_kib()?;
    for _ in 0..count {
        let (sender, mut mailbox) = mpsc::channel::<Vec<u8>>(64);
        tokio::spawn(async move { while mailbox.recv().await.is_some() {} });
        mailboxes.push(sender);
    }
    let after = memory_kib()?;
    ensure!(mailboxes.iter().all(|mailbox| !mailbox.is_closed()), "a task has ended");
    Ok(each(after - before, count))
}

#[expect(clippy::cast_precision_loss, reason = "no count comes near 2^52")]
fn each(kib: f64, count: usize) -> f64 {
    kib / count as f64
}

/// What this process holds in memory.
fn memory_kib() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib.context("the kernel does not tell the memory of this process")?.trim().parse()?)
}
