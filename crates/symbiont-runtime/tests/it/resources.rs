//! Resources: promises, what is known of them after a restart, and what is told of use.

use std::path::Path;
use std::sync::Arc;

use symbiont_runtime::*;

use crate::support::{config, records, started};

const MIB: f64 = 1_048_576.0;

/// A manager of 1,000 MiB, 4 cores and the default reserve of a tenth, in memory or over `data`.
async fn manager(data: Option<&Path>, total_memory_mb: usize) -> DefaultResourceManager {
    let config = ResourceManagerConfig {
        total_memory: total_memory_mb << 20,
        total_cpu_cores: 4,
        total_disk_space: 100 << 30,
        ..ResourceManagerConfig::default()
    };
    let builder = DefaultResourceManager::builder(config);
    let builder = match data {
        Some(data) => builder.journal(Journal::open(data, Clock::system()).expect("a journal")),
        None => builder,
    };
    builder.build().await.expect("the settings are fine")
}

fn limits(memory_mb: u64) -> ResourceLimits {
    ResourceLimits { memory_mb, cpu_cores: 0.01, network_io_mbps: 0, ..ResourceLimits::default() }
}

async fn memory(resources: &DefaultResourceManager) -> KindStatus {
    let status = resources.get_system_resources().await;
    status.kind(ResourceKind::Memory).expect("it is known").clone()
}

#[tokio::test]
async fn a_promise_is_all_or_nothing_and_the_same_again_is_fine() {
    let resources = manager(None, 1000).await;
    let [one, two] = [AgentId::new(), AgentId::new()];
    let first = resources.allocate_resources(one, limits(600)).await.expect("there is room");
    let again = resources.allocate_resources(one, limits(600)).await.expect("the same again");
    assert_eq!(first, again);
    let other = resources.allocate_resources(one, limits(500)).await;
    assert_eq!(other, Err(ResourceError::AllocationFailed { agent_id: one }));
    let refused = resources.allocate_resources(two, limits(301)).await;
    let Err(ResourceError::InsufficientResources { requirements }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(requirements, "memory: 301 MiB asked, 300 MiB available");
    let status = memory(&resources).await;
    let mib = |mib: f64| mib * MIB;
    assert_eq!((status.total, status.reserved), (Some(mib(1000.0)), mib(100.0)));
    assert_eq!((status.allocated, status.available), (mib(600.0), Some(mib(300.0))));
    resources.update_resource_limits(one, limits(900)).await.expect("there is room");
    let more = resources.update_resource_limits(one, limits(901)).await;
    assert!(matches!(more, Err(ResourceError::InsufficientResources { .. })), "{more:?}");
    resources.update_resource_limits(one, limits(10)).await.expect("less always fits");
    resources.allocate_resources(two, limits(890)).await.expect("what was given back is there");
    for _ in 0..2 {
        resources.deallocate_resources(one).await.expect("again is fine");
        resources.deallocate_resources(two).await.expect("again is fine");
    }
    assert_eq!(memory(&resources).await.allocated, 0.0);
    let never = resources.deallocate_resources(AgentId::new()).await;
    assert!(matches!(never, Err(ResourceError::DeallocationFailed { .. })), "{never:?}");
}

/// A number that follows from the one before.
fn next(seed: &mut u64) -> u32 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    u32::try_from(*seed >> 33).expect("31 bits are left")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_many_callers_are_told_is_what_is_on_record() {
    let directory = tempfile::tempdir().expect("a directory");
    let resources = Arc::new(manager(Some(directory.path()), 1000).await);
    let agents: Arc<Vec<AgentId>> = Arc::new((0..6).map(|_| AgentId::new()).collect());
    let callers: Vec<_> = (1..=4_u64)
        .map(|caller| {
            let (resources, agents) = (Arc::clone(&resources), Arc::clone(&agents));
            tokio::spawn(async move {
                let mut seed = caller;
                for _ in 0..60 {
                    let agent = agents[next(&mut seed) as usize % agents.len()];
                    let limits = limits(100 + u64::from(next(&mut seed) % 4) * 100);
                    let _ = match next(&mut seed) % 4 {
                        0 | 1 => resources.allocate_resources(agent, limits).await.map(drop),
                        2 => resources.update_resource_limits(agent, limits).await,
                        _ => resources.deallocate_resources(agent).await,
                    };
                    let status = memory(&resources).await;
                    let most = status.total.expect("it is set") - status.reserved;
                    assert!(status.allocated <= most, "{status:?}");
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.expect("the promises hold");
    }
    let before = resources.get_system_resources().await;
    // What each agent holds, as the same request again tells.
    let mut held = Vec::new();
    for agent in agents.iter() {
        for mib in [100, 200, 300, 400] {
            if before.allocations == 0 {
                break;
            }
            let there = resources.update_resource_limits(*agent, limits(mib)).await.is_ok();
            if there {
                held.push(*agent);
                break;
            }
        }
    }
    let after = resources.get_system_resources().await;
    assert_eq!(held.len(), after.allocations);
    resources.shutdown().await.expect("it closes");
    drop(resources);
    let again = manager(Some(directory.path()), 1000).await;
    let there = again.get_system_resources().await;
    let figures = |status: &SystemResourceStatus| {
        status.kinds.iter().map(|kind| kind.allocated).collect::<Vec<_>>()
    };
    assert_eq!(there.allocations, after.allocations);
    assert_eq!(figures(&there), figures(&after), "the order on record is the order in memory");
}

#[tokio::test]
async fn what_was_promised_holds_after_a_restart_with_less() {
    let directory = tempfile::tempdir().expect("a directory");
    let agents = [AgentId::new(), AgentId::new()];
    let first = manager(Some(directory.path()), 1000).await;
    for agent in agents {
        first.allocate_resources(agent, limits(400)).await.expect("there is room");
    }
    assert!(!first.get_system_resources().await.overcommitted);
    first.shutdown().await.expect("it closes");
    drop(first);
    let second = manager(Some(directory.path()), 500).await;
    let status = second.get_system_resources().await;
    assert_eq!((status.allocations, status.overcommitted), (2, true));
    assert_eq!(memory(&second).await.available, Some(0.0));
    let refused = second.allocate_resources(AgentId::new(), limits(1)).await;
    assert!(matches!(refused, Err(ResourceError::InsufficientResources { .. })), "{refused:?}");
    second.update_resource_limits(agents[0], limits(50)).await.expect("less always fits");
    assert!(!second.get_system_resources().await.overcommitted);
}

#[tokio::test]
async fn ending_a_promise_again_is_fine_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let open = async || {
        crate::support::runtime(|config| config.data_dir = Some(directory.path().to_owned())).await
    };
    let first = open().await;
    let agent = started(&first, config("a", "agent a", ExecutionMode::Persistent)).await;
    first.lifecycle().terminate_agent(agent).await.expect("it ends");
    first.resources().deallocate_resources(agent).await.expect("again is fine");
    assert!(first.shutdown().await.is_empty());
    drop(first);
    let second = open().await;
    second.resources().deallocate_resources(agent).await.expect("again is fine");
    assert_eq!(records(&second, "resources.deallocated").await.len(), 1);
    second.shutdown().await;
}

#[tokio::test]
async fn a_place_that_is_left_can_be_taken_by_another_manager() {
    let directory = Directory::new();
    let build = async || {
        let builder = DefaultResourceManager::builder(ResourceManagerConfig::default());
        builder.directory(Arc::clone(&directory)).build().await.expect("the defaults are fine")
    };
    let (one, two) = (build().await, build().await);
    let agent = AgentId::new();
    one.allocate_resources(agent, limits(10)).await.expect("there is room");
    let refused = two.allocate_resources(agent, limits(10)).await;
    assert!(matches!(refused, Err(ResourceError::MonitoringFailed { .. })), "{refused:?}");
    one.deallocate_resources(agent).await.expect("it holds one");
    two.allocate_resources(agent, limits(10)).await.expect("the place is free");
    one.deallocate_resources(agent).await.expect("again is fine");
    let taken = one.allocate_resources(agent, limits(10)).await;
    assert!(taken.is_err(), "a release by one does not take the place of the other");
}

#[tokio::test]
async fn the_status_has_figures_of_one_unit_and_says_what_nothing_holds_back() {
    let resources = manager(None, 1000).await;
    resources.allocate_resources(AgentId::new(), limits(10)).await.expect("there is room");
    let status = resources.get_system_resources().await;
    let disk = status.kind(ResourceKind::Disk).expect("it is known");
    assert_eq!((disk.allocated, disk.used), (256.0 * MIB, None));
    for limit in ["disk_io_mbps", "network_io_mbps"] {
        assert!(status.degraded.iter().any(|line| line.contains(limit)), "{limit}");
    }
}
