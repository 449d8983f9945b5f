//! Promises of resources, and samples of what agents use.

use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Result, ensure};
use symbiont_runtime::{
    AgentId, AgentState, DefaultResourceManager, ExecutionMode, HashMap, LifecycleController,
    ResourceManager, ResourceManagerConfig,
};

use crate::agents::config;
use crate::table::{Peer, Rows};
use crate::{Scale, close, millis, per_second, rounds, runtime};

pub(crate) async fn measure(scale: Scale, rows: &mut Rows<'_>) {
    let count = scale.of(20_000, 200);
    let outcome = rounds(scale.rounds(), async || promises(count).await).await;
    let bare = rounds(scale.rounds(), async || entries(count)).await;
    let outcome = outcome
        .and_then(|value| Ok((value, Some(Peer::new("Mutex<HashMap> insert + remove", bare?)))));
    rows.add("allocate and release", "ops/s", format!("{count} promises"), outcome);

    let agents = scale.of(1_000, 50);
    let name = if scale.quick { "sample 50 agents" } else { "sample 1,000 agents" };
    let outcome = samples(agents, scale.of(20, 2)).await;
    let bare = rounds(scale.of(20, 2), async || files(agents)).await;
    let peer = format!("{agents} reads of /proc/self/stat");
    let outcome = outcome.and_then(|value| Ok((value, Some(Peer::new(peer, bare?)))));
    rows.add(name, "ms", format!("{agents} agents"), outcome);
}

/// Promises per second that one caller makes and takes back, in memory.
async fn promises(count: usize) -> Result<f64> {
    let manager = DefaultResourceManager::builder(ResourceManagerConfig::default()).build().await?;
    let limits = config("", ExecutionMode::Ephemeral).resource_limits;
    let began = Instant::now();
    for _ in 0..count {
        let agent = AgentId::new();
        let promise = manager.allocate_resources(agent, limits.clone()).await?;
        ensure!(promise.agent_id == agent && promise.limits == limits, "another promise");
        manager.deallocate_resources(agent).await?;
    }
    let took = began.elapsed();
    let left = manager.get_system_resources().await.allocations;
    ensure!(left == 0, "{left} promises are left");
    manager.shutdown().await?;
    Ok(per_second(count, took))
}

fn entries(count: usize) -> Result<f64> {
    let ledger = Mutex::new(HashMap::new());
    let limits = config("", ExecutionMode::Ephemeral).resource_limits;
    let began = Instant::now();
    for _ in 0..count {
        let agent = AgentId::new();
        let there = || ledger.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        ensure!(there().insert(agent, limits.clone()).is_none(), "an id came twice");
        ensure!(there().remove(&agent).is_some(), "an entry is gone");
    }
    Ok(per_second(count, began.elapsed()))
}

/// Milliseconds that it takes to ask what each of `count` agents uses.
async fn samples(count: usize, times: usize) -> Result<f64> {
    let runtime = runtime(None).await?;
    let lifecycle = runtime.lifecycle();
    let mut agents = Vec::with_capacity(count);
    for _ in 0..count {
        let source = "agent waiter() { with { return 1; } }";
        let id = lifecycle.create_agent(config(source, ExecutionMode::Persistent)).await?.id;
        lifecycle.initialize_agent(id).await?;
        lifecycle.start_agent(id).await?;
        let state = lifecycle.until(id, &[AgentState::Waiting, AgentState::Failed]).await?;
        ensure!(state == AgentState::Waiting, "an agent is {state}");
        agents.push(id);
    }
    let value = rounds(times, async || {
        let began = Instant::now();
        for agent in &agents {
            let usage = runtime.resources().get_resource_usage(*agent).await?;
            ensure!(!usage.uptime.is_zero(), "an agent has no age");
        }
        Ok(millis(began.elapsed()))
    })
    .await?;
    close(runtime).await?;
    Ok(value)
}

fn files(count: usize) -> Result<f64> {
    let began = Instant::now();
    for _ in 0..count {
        let text = std::fs::read_to_string("/proc/self/stat")?;
        ensure!(!text.is_empty(), "the kernel tells nothing");
    }
    Ok(millis(began.elapsed()))
}
