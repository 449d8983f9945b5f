//! Every field of the reference's configs makes a difference: each test tries two values and sees
//! two behaviours. [`FIELDS`] names the test of each field, and is itself checked.

use symbiont_runtime::*;
use tokio::time::Instant;

use crate::support::{config, message, records, runtime, started, task};

/// Which test shows what a field does.
const FIELDS: [(&str, &str, &str); 38] = [
    ("LifecycleConfig", "initialization_timeout", "initialization_timeout_bounds_it"),
    ("LifecycleConfig", "termination_timeout", "termination_timeout_is_the_grace_of_a_stop"),
    ("LifecycleConfig", "state_check_interval", "state_check_interval_forgets_the_ended"),
    ("LifecycleConfig", "enable_auto_recovery", "failed_initializations_are_tried_again"),
    ("LifecycleConfig", "max_restart_attempts", "failed_initializations_are_tried_again"),
    ("LifecycleConfig", "max_agents", "max_agents_bounds_the_living"),
    ("ResourceManagerConfig", "total_memory", "totals_bound_promises"),
    ("ResourceManagerConfig", "total_cpu_cores", "totals_bound_promises"),
    ("ResourceManagerConfig", "total_disk_space", "totals_bound_promises"),
    ("ResourceManagerConfig", "total_network_bandwidth", "totals_bound_promises"),
    ("ResourceManagerConfig", "enforcement_enabled", "enforcement_suspends_what_uses_too_much"),
    ("ResourceManagerConfig", "auto_scaling_enabled", "auto_scaling_lets_shares_follow_use"),
    ("ResourceManagerConfig", "resource_reservation_percentage", "totals_bound_promises"),
    ("ResourceManagerConfig", "monitoring_interval", "monitoring_interval_spaces_samples"),
    ("SchedulerConfig", "max_concurrent_tasks", "max_concurrent_tasks_bounds_what_runs"),
    ("SchedulerConfig", "task_timeout", "task_timeout_ends_an_attempt"),
    ("SchedulerConfig", "retry_attempts", "scheduler_retry_attempts_follow_the_first"),
    ("SchedulerConfig", "load_balancing_strategy", "load_balancing_strategy_chooses_the_lane"),
    ("SchedulerConfig", "enable_priority_scheduling", "priority_scheduling_orders_by_urgency"),
    ("SchedulerConfig", "task_queue_size", "task_queue_size_bounds_what_waits"),
    ("SchedulerConfig", "worker_threads", "worker_threads_are_lanes"),
    ("SchedulerConfig", "health_check_interval", "health_check_interval_is_a_third_of_a_lease"),
    ("CommunicationConfig", "message_ttl", "message_ttl_ends_what_names_none"),
    ("CommunicationConfig", "max_queue_size", "max_queue_size_bounds_a_mailbox"),
    ("CommunicationConfig", "delivery_timeout", "leases_and_their_number"),
    ("CommunicationConfig", "retry_attempts", "leases_and_their_number"),
    ("CommunicationConfig", "enable_encryption", "encryption_and_compression_shape_what_is_sent"),
    ("CommunicationConfig", "enable_compression", "encryption_and_compression_shape_what_is_sent"),
    ("CommunicationConfig", "max_message_size", "max_message_size_bounds_a_payload"),
    ("CommunicationConfig", "dead_letter_queue_size", "dead_letter_queue_size_keeps_the_newest"),
    ("ErrorHandlerConfig", "max_error_history", "error_history_and_window"),
    ("ErrorHandlerConfig", "error_aggregation_window", "error_history_and_window"),
    ("ErrorHandlerConfig", "escalation_threshold", "escalation_threshold_tells_somebody"),
    ("ErrorHandlerConfig", "circuit_breaker_threshold", "breakers_open_and_let_a_probe_through"),
    ("ErrorHandlerConfig", "circuit_breaker_timeout", "breakers_open_and_let_a_probe_through"),
    ("ErrorHandlerConfig", "enable_auto_recovery", "auto_recovery_of_errors"),
    ("ErrorHandlerConfig", "max_recovery_attempts", "max_recovery_attempts_is_a_budget"),
    ("ErrorHandlerConfig", "recovery_backoff_multiplier", "recovery_backoff_grows"),
];

/// The names of the public fields of a struct in a source file.
fn fields_of(source: &'static str, name: &str) -> Vec<&'static str> {
    let head = format!("pub struct {name} {{");
    let (_, body) = source.split_once(&head).unwrap_or_else(|| panic!("no {name}"));
    let (body, _) = body.split_once("\n}").expect("the struct ends");
    let fields = body.lines().filter_map(|line| line.trim().strip_prefix("pub "));
    fields.filter_map(|field| Some(field.split_once(':')?.0)).collect()
}

#[test]
fn the_table_has_every_field_and_every_test() {
    let sources = [
        ("LifecycleConfig", include_str!("../../src/lifecycle.rs")),
        ("ResourceManagerConfig", include_str!("../../src/resources.rs")),
        ("SchedulerConfig", include_str!("../../src/scheduler.rs")),
        ("CommunicationConfig", include_str!("../../src/bus.rs")),
        ("ErrorHandlerConfig", include_str!("../../src/error_handler.rs")),
    ];
    let mut there = Vec::new();
    for (config, source) in sources {
        there.extend(fields_of(source, config).into_iter().map(|field| (config, field)));
    }
    let table: Vec<_> = FIELDS.iter().map(|(config, field, _)| (*config, *field)).collect();
    assert_eq!(table, there);
    let tests = include_str!("config_fields.rs");
    for (_, field, test) in FIELDS {
        assert!(tests.contains(&format!("\nasync fn {test}()")), "{field}: no test `{test}`");
    }
}

/// A runtime on a clock that goes with the timers.
async fn timed(adjust: impl FnOnce(&mut RuntimeConfig)) -> Runtime {
    runtime(|config| {
        config.clock = Clock::anchored(SystemTime::now());
        adjust(config);
    })
    .await
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn persistent(source: &str) -> AgentConfig {
    config("a", source, ExecutionMode::Persistent)
}

// Life cycle.

#[tokio::test]
async fn initialization_timeout_bounds_it() {
    for (timeout, fits) in [(Duration::from_nanos(1), false), (seconds(30), true)] {
        let runtime = runtime(|c| {
            c.lifecycle.initialization_timeout = timeout;
            c.lifecycle.enable_auto_recovery = false;
        })
        .await;
        // So large that it is read on a thread of its own.
        let functions: Vec<_> = (0..10_000).map(|n| format!("function f{n}() {{ {n} }}")).collect();
        let config = persistent(&format!("agent a\n{}", functions.join("\n")));
        let id = config.id;
        runtime.lifecycle().create_agent(config).await.expect("it is created");
        match runtime.lifecycle().initialize_agent(id).await {
            Ok(()) => assert!(fits),
            Err(LifecycleError::InitializationFailed { reason, .. }) => {
                assert!(!fits && reason.contains("initialization_timeout"), "{reason}");
            }
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn termination_timeout_is_the_grace_of_a_stop() {
    for grace in [Duration::from_millis(300), Duration::from_millis(1500)] {
        let runtime = runtime(|c| c.lifecycle.termination_timeout = grace).await;
        let mut feed = runtime.watch();
        let source = r#"agent a { with { exec("sleep", ["60"]); } }"#;
        let agent = started(&runtime, persistent(source)).await;
        while feed.recv().await.expect("a record").metadata["kind"] != "sandbox.exec" {}
        let began = Instant::now();
        runtime.lifecycle().stop_agent(agent).await.expect("it stops");
        let took = began.elapsed();
        assert!(took >= grace && took < grace + seconds(1), "{grace:?} {took:?}");
        runtime.lifecycle().terminate_agent(agent).await.expect("it ends");
    }
}

#[tokio::test(start_paused = true)]
async fn state_check_interval_forgets_the_ended() {
    let hour = seconds(3600);
    for (interval, left) in [(hour, 0), (hour * 200, 1)] {
        let runtime = timed(|c| c.lifecycle.state_check_interval = interval).await;
        let config = persistent("agent a");
        let id = config.id;
        runtime.lifecycle().create_agent(config).await.expect("it is created");
        runtime.lifecycle().terminate_agent(id).await.expect("it ends");
        tokio::time::sleep(hour * 26).await;
        assert_eq!(runtime.lifecycle().list_agents().await.len(), left, "{interval:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn failed_initializations_are_tried_again() {
    for (recovery, most, restarts) in [(false, 3, 0), (true, 1, 1), (true, 3, 3)] {
        let runtime = timed(|c| {
            c.lifecycle.enable_auto_recovery = recovery;
            c.lifecycle.max_restart_attempts = most;
        })
        .await;
        let config = persistent("agent a { with { let } }");
        let id = config.id;
        runtime.lifecycle().create_agent(config).await.expect("it is created");
        runtime.lifecycle().initialize_agent(id).await.expect_err("it has a fault");
        tokio::time::sleep(seconds(120)).await;
        let agent = runtime.lifecycle().get_agent(id).await.expect("it is there");
        assert_eq!((agent.restart_count, agent.state), (restarts, AgentState::Failed));
        assert_eq!(agent.error_count, restarts + 1);
    }
}

#[tokio::test]
async fn max_agents_bounds_the_living() {
    for most in [1, 2] {
        let runtime = runtime(|c| c.lifecycle.max_agents = most).await;
        for count in 0..3 {
            let created = runtime.lifecycle().create_agent(persistent("agent a")).await;
            assert_eq!(created.is_ok(), count < most, "{created:?}");
        }
    }
}

// Resources.

#[tokio::test]
async fn totals_bound_promises() {
    const MIB: usize = 1 << 20;
    type Set = fn(&mut ResourceManagerConfig, usize);
    let sets: [(&str, Set); 4] = [
        ("memory", |c, scale| c.total_memory = 100 * MIB * scale),
        ("cpu", |c, scale| c.total_cpu_cores = 2 * u32::try_from(scale).expect("small")),
        ("disk", |c, scale| c.total_disk_space = 300 * MIB * scale),
        ("network", |c, scale| c.total_network_bandwidth = 10_000_000 * scale),
    ];
    let limits = ResourceLimits {
        memory_mb: 80,
        cpu_cores: 1.5,
        network_io_mbps: 8,
        ..ResourceLimits::default()
    };
    for (kind, set) in sets {
        // Twice of everything is enough for one with half of it held back.
        for (scale, reserve, fits) in [(1, 0.0, 1), (2, 0.0, 2), (2, 0.5, 1), (1, 0.5, 0)] {
            let mut config = ResourceManagerConfig {
                total_memory: 1000 * MIB,
                total_cpu_cores: 20,
                total_disk_space: 3000 * MIB,
                total_network_bandwidth: 100_000_000,
                resource_reservation_percentage: reserve,
                ..ResourceManagerConfig::default()
            };
            set(&mut config, scale);
            let resources = DefaultResourceManager::new(config).await.expect("it builds");
            for count in 0..3 {
                let promised = resources.allocate_resources(AgentId::new(), limits.clone()).await;
                assert_eq!(promised.is_ok(), count < fits, "{kind} {scale} {reserve} {promised:?}");
                if let Err(error) = promised {
                    assert!(error.to_string().contains(kind), "{error}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn enforcement_suspends_what_uses_too_much() {
    // It holds several MiB, which are within its limit until that is lowered.
    let source = "agent a { with { let xs = range(0, 200000).map(x => x); while true { } } }";
    for enforced in [true, false] {
        let runtime = runtime(|c| {
            c.resources.enforcement_enabled = enforced;
            c.resources.monitoring_interval = Duration::from_millis(20);
        })
        .await;
        let config = persistent(source);
        let limits = ResourceLimits { memory_mb: 1, ..config.resource_limits.clone() };
        let agent = started(&runtime, config).await;
        let resources = runtime.resources();
        resources.update_resource_limits(agent, limits).await.expect("it is accepted");
        if enforced {
            runtime
                .lifecycle()
                .until(agent, &[AgentState::Suspended])
                .await
                .expect("it is put aside");
            let noted = records(&runtime, "resources.violation").await;
            assert!(noted.iter().any(|event| event.metadata["resource"] == "memory"), "{noted:?}");
        } else {
            loop {
                let violations = resources.check_resource_violations().await;
                if let Some(violation) = violations.iter().find(|v| v.samples > 11) {
                    assert_eq!(violation.action, ViolationAction::Observed);
                    assert!(violation.ratio > 1.1 && violation.used > violation.limit);
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await; // A sample.
            }
            let state = runtime.lifecycle().get_agent_state(agent).await;
            assert_eq!(state, Ok(AgentState::Running));
        }
        runtime.lifecycle().terminate_agent(agent).await.expect("it ends");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn enforcement_holds_an_evaluator_to_its_share_of_a_core() {
    for enforced in [true, false] {
        let runtime = runtime(|c| {
            c.resources.enforcement_enabled = enforced;
            c.resources.monitoring_interval = Duration::from_millis(200);
        })
        .await;
        let mut config = persistent("agent a { with { while true { } } }");
        config.resource_limits.cpu_cores = 0.05;
        let agent = started(&runtime, config).await;
        let resources = runtime.resources();
        // What it may be ahead by is spent after a few samples.
        let samples = loop {
            let history = resources.get_resource_history(agent, Duration::from_secs(60)).await;
            let history = history.expect("it is known");
            if history.len() >= 8 {
                break history;
            }
            tokio::time::sleep(Duration::from_millis(200)).await; // A sample.
        };
        let last = samples[4..].iter().map(|sample| sample.usage.cpu_usage).sum::<f64>()
            / (samples.len() - 4) as f64;
        // Unheld it uses whatever the host has to spare for it.
        assert_eq!(last < 0.1, enforced, "{last} cores");
        runtime.lifecycle().terminate_agent(agent).await.expect("it ends");
    }
}

#[tokio::test(start_paused = true)]
async fn auto_scaling_lets_shares_follow_use() {
    for (scaled, kept) in [(false, 64), (true, 16)] {
        let runtime = timed(|c| c.resources.auto_scaling_enabled = scaled).await;
        let agent = started(&runtime, persistent("agent a")).await;
        runtime.lifecycle().settled(agent).await.expect("it rests");
        tokio::time::sleep(seconds(10)).await;
        let there = runtime.resources().get_system_resources().await;
        let memory = there.kind(ResourceKind::Memory).expect("it is known").allocated;
        assert_eq!(memory, f64::from(kept << 20), "scaled: {scaled}");
    }
}

#[tokio::test(start_paused = true)]
async fn monitoring_interval_spaces_samples() {
    for (interval, samples) in [(1, 55..=65), (10, 5..=7)] {
        let runtime = timed(|c| c.resources.monitoring_interval = seconds(interval)).await;
        let agent = started(&runtime, persistent("agent a")).await;
        tokio::time::sleep(seconds(60)).await;
        let history = runtime.resources().get_resource_history(agent, Duration::MAX).await;
        let count = history.expect("it has one").len();
        assert!(samples.contains(&count), "{interval}: {count}");
    }
}

// Scheduler.

#[tokio::test(start_paused = true)]
async fn max_concurrent_tasks_bounds_what_runs() {
    for most in [1, 2] {
        let runtime = timed(|c| c.scheduler.max_concurrent_tasks = most).await;
        for _ in 0..3 {
            let source = "agent a(x: int) { with { sleep(x); } }";
            let agent = started(&runtime, persistent(source)).await;
            let (scheduler, task) = (runtime.scheduler(), task(agent));
            scheduler.schedule_task_with_input(task, "10000").await.expect("it is accepted");
        }
        tokio::time::sleep(seconds(1)).await;
        assert_eq!(runtime.scheduler().list_running_tasks().await.len(), most);
    }
}

#[tokio::test(start_paused = true)]
async fn task_timeout_ends_an_attempt() {
    for timeout in [seconds(2), seconds(20)] {
        let runtime = timed(|c| {
            c.scheduler.task_timeout = timeout;
            c.scheduler.retry_attempts = 0;
        })
        .await;
        let agent = started(&runtime, persistent("agent a(x: int) { with { sleep(x); } }")).await;
        let (scheduler, task) = (runtime.scheduler(), task(agent));
        let began = Instant::now();
        scheduler.schedule_task_with_input(task.clone(), "3600000").await.expect("accepted");
        let end = scheduler.ended(task.id).await;
        assert_eq!(end, Ok(TaskStatus::TimedOut { attempts: 1 }));
        assert_eq!(began.elapsed().as_secs(), timeout.as_secs());
    }
}

#[tokio::test(start_paused = true)]
async fn scheduler_retry_attempts_follow_the_first() {
    for retries in [0, 2] {
        let runtime = timed(|c| c.scheduler.retry_attempts = retries).await;
        let agent = started(&runtime, persistent("agent a(x: int) { with { 1 / x } }")).await;
        let (scheduler, task) = (runtime.scheduler(), task(agent));
        scheduler.schedule_task_with_input(task.clone(), "0").await.expect("it is accepted");
        let end = scheduler.ended(task.id).await.expect("it ends");
        let TaskStatus::Failed { attempts, .. } = end else { panic!("{end:?}") };
        assert_eq!(attempts, retries + 1);
    }
}

#[tokio::test]
async fn load_balancing_strategy_chooses_the_lane() {
    let lanes = async |strategy| {
        let runtime = runtime(|c| {
            c.scheduler.worker_threads = 2;
            c.scheduler.load_balancing_strategy = strategy;
        })
        .await;
        let agent =
            started(&runtime, persistent("agent a(x: int) { with { while true { } } }")).await;
        runtime.lifecycle().settled(agent).await.expect("it waits for its input");
        let scheduler = runtime.scheduler();
        let mut lanes = Vec::new();
        for _ in 0..4 {
            let task = task(agent);
            scheduler.schedule_task_with_input(task.clone(), "1").await.expect("accepted");
            runtime.lifecycle().until(agent, &[AgentState::Running]).await.expect("it runs");
            let [running] = &scheduler.list_running_tasks().await[..] else { panic!() };
            lanes.push(running.worker_id);
            scheduler.cancel_task(task.id).await.expect("it runs");
            scheduler.ended(task.id).await.expect("it ends");
        }
        lanes
    };
    let in_turn = lanes(LoadBalancingStrategy::RoundRobin).await;
    assert!(in_turn == [0, 1, 0, 1] || in_turn == [1, 0, 1, 0], "{in_turn:?}");
    let least = lanes(LoadBalancingStrategy::LeastConnections).await;
    assert!(least.iter().all(|lane| *lane == least[0]), "all are free each time: {least:?}");
}

#[tokio::test(start_paused = true)]
async fn priority_scheduling_orders_by_urgency() {
    for by_priority in [true, false] {
        let runtime = timed(|c| c.scheduler.enable_priority_scheduling = by_priority).await;
        let agent = started(&runtime, persistent("agent a")).await;
        let scheduler = runtime.scheduler();
        scheduler.pause_scheduling().await.expect("it pauses");
        let due = SystemTime::now() - seconds(5);
        let low = ScheduledTask { scheduled_time: due, priority: Priority::Low, ..task(agent) };
        let high = ScheduledTask { scheduled_time: due, priority: Priority::High, ..task(agent) };
        for task in [&low, &high] {
            scheduler.schedule_task(task.clone()).await.expect("it is accepted");
        }
        scheduler.resume_scheduling().await.expect("it goes on");
        for task in [&low, &high] {
            scheduler.ended(task.id).await.expect("it ends");
        }
        let started = records(&runtime, "run.started").await;
        let first = started.iter().find_map(|event| event.metadata.get("task")).expect("one");
        let want = if by_priority { high.id } else { low.id };
        assert_eq!(*first, want.to_string());
    }
}

#[tokio::test]
async fn task_queue_size_bounds_what_waits() {
    for size in [1, 2] {
        let runtime = runtime(|c| c.scheduler.task_queue_size = size).await;
        let agent = started(&runtime, persistent("agent a")).await;
        runtime.scheduler().pause_scheduling().await.expect("it pauses");
        for count in 0..3 {
            let accepted = runtime.scheduler().schedule_task(task(agent)).await;
            let full = Err(SchedulerError::QueueFull { capacity: size });
            assert_eq!(accepted, if count < size { Ok(()) } else { full });
        }
    }
}

#[tokio::test]
async fn worker_threads_are_lanes() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for (threads, lanes) in [(1, 1), (3, 3), (0, cores)] {
        let config = SchedulerConfig { worker_threads: threads, ..SchedulerConfig::default() };
        let scheduler = DefaultScheduler::new(config).await.expect("it builds");
        let metrics = scheduler.get_scheduler_metrics().await;
        assert_eq!(metrics.lane_utilisation.len(), lanes);
    }
}

#[tokio::test]
async fn health_check_interval_is_a_third_of_a_lease() {
    for interval in [seconds(10), seconds(100)] {
        let runtime = runtime(|c| c.scheduler.health_check_interval = interval).await;
        let agent =
            started(&runtime, persistent("agent a(x: int) { with { while true { } } }")).await;
        runtime.lifecycle().settled(agent).await.expect("it waits for its input");
        let scheduler = runtime.scheduler();
        scheduler.schedule_task_with_input(task(agent), "1").await.expect("it is accepted");
        runtime.lifecycle().until(agent, &[AgentState::Running]).await.expect("it runs");
        let [running] = &scheduler.list_running_tasks().await[..] else { panic!() };
        let lease = running.lease_expires_at.duration_since(running.started_at);
        assert_eq!(lease.expect("it is later").as_secs(), interval.as_secs() * 3);
        runtime.lifecycle().terminate_agent(agent).await.expect("it ends");
    }
}

// Bus.

/// A bus on a clock that goes with the timers, with one agent.
async fn bus(adjust: impl FnOnce(&mut CommunicationConfig)) -> (DefaultCommunicationBus, AgentId) {
    let mut config = CommunicationConfig::default();
    adjust(&mut config);
    let journal = Journal::in_memory(Clock::anchored(SystemTime::now()));
    let bus = DefaultCommunicationBus::builder(config).journal(journal).build().await;
    let (bus, agent) = (bus.expect("the bus builds"), AgentId::new());
    bus.register_agent(agent, vec![]).await.expect("it registers");
    (bus, agent)
}

#[tokio::test(start_paused = true)]
async fn message_ttl_ends_what_names_none() {
    for (most, status) in [(5, DeliveryStatus::Expired), (50, DeliveryStatus::Pending)] {
        let (bus, agent) = bus(|c| c.message_ttl = seconds(most)).await;
        for ttl in [Duration::ZERO, seconds(3600)] {
            let mail = Message { ttl, ..message(agent, agent, b"x") };
            let id = bus.send_message(mail).await.expect("it is accepted");
            tokio::time::sleep(seconds(10)).await;
            assert_eq!(bus.get_message_status(id).await, Ok(status));
        }
    }
}

#[tokio::test]
async fn max_queue_size_bounds_a_mailbox() {
    for most in [1, 2] {
        let (bus, agent) = bus(|c| c.max_queue_size = most).await;
        for count in 0..3 {
            let sent = bus.send_message(message(agent, agent, b"x")).await;
            assert_eq!(sent.is_ok(), count < most, "{sent:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn leases_and_their_number() {
    for (timeout, retries) in [(5, 0), (50, 0), (5, 2)] {
        let (bus, agent) = bus(|c| {
            c.delivery_timeout = seconds(timeout);
            c.retry_attempts = retries;
        })
        .await;
        let mail = Message { ttl: seconds(3600), ..message(agent, agent, b"x") };
        let id = bus.send_message(mail).await.expect("it is accepted");
        for attempt in 1..=retries + 1 {
            let [leased] = &bus.receive_leased(agent, 1).await.expect("mail")[..] else { panic!() };
            assert_eq!(leased.attempt, attempt);
            tokio::time::sleep(seconds(timeout - 1)).await;
            assert_eq!(bus.get_message_status(id).await, Ok(DeliveryStatus::Pending));
            tokio::time::sleep(seconds(2)).await;
        }
        assert_eq!(bus.get_message_status(id).await, Ok(DeliveryStatus::Failed));
    }
}

#[tokio::test]
async fn encryption_and_compression_shape_what_is_sent() {
    let payload = vec![b'x'; 10_000];
    let mut sizes = Vec::new();
    for (encrypted, compressed) in [(false, false), (true, false), (true, true)] {
        let (bus, agent) = bus(|c| {
            c.enable_encryption = encrypted;
            c.enable_compression = compressed;
        })
        .await;
        bus.send_message(message(agent, agent, &payload)).await.expect("it is accepted");
        let [mail] = &bus.receive_messages(agent).await.expect("mail")[..] else { panic!() };
        assert_eq!(mail.message.payload, payload);
        sizes.push(mail.encrypted_payload.len());
    }
    assert_eq!(sizes[0], 0);
    assert!(sizes[1] > 10_000 && sizes[2] > 0 && sizes[2] < 1000, "{sizes:?}");
}

#[tokio::test]
async fn max_message_size_bounds_a_payload() {
    for most in [10, 20] {
        let (bus, agent) = bus(|c| c.max_message_size = most).await;
        let sent = bus.send_message(message(agent, agent, &vec![0; most])).await;
        assert!(sent.is_ok(), "{sent:?}");
        let sent = bus.send_message(message(agent, agent, &vec![0; most + 1])).await;
        let large = CommunicationError::MessageTooLarge { size: most + 1, max_size: most };
        assert_eq!(sent, Err(large));
    }
}

#[tokio::test(start_paused = true)]
async fn dead_letter_queue_size_keeps_the_newest() {
    for most in [0, 1, 2] {
        let (bus, agent) = bus(|c| c.dead_letter_queue_size = most).await;
        let mut sent = Vec::new();
        for ttl in 1..=3 {
            let mail = Message { ttl: seconds(ttl), ..message(agent, agent, b"x") };
            sent.push(bus.send_message(mail).await.expect("it is accepted"));
        }
        tokio::time::sleep(seconds(5)).await;
        let kept: Vec<_> = bus.dead_letters().iter().map(|l| l.message.message.id).collect();
        assert_eq!(kept, sent[3 - most..]);
    }
}

// Errors.

fn internal() -> RuntimeError {
    RuntimeError::Internal("it broke".to_owned())
}

fn network() -> RuntimeError {
    let reason = "it broke".to_owned();
    CommunicationError::DeliveryFailed { message_id: MessageId::new(), reason }.into()
}

/// A runtime with these settings of its error handler, and an agent that rests.
async fn troubled(adjust: impl FnOnce(&mut ErrorHandlerConfig)) -> (Runtime, AgentId) {
    let runtime = timed(|config| adjust(&mut config.errors)).await;
    let agent = started(&runtime, persistent("agent a")).await;
    runtime.lifecycle().settled(agent).await.expect("it rests");
    (runtime, agent)
}

async fn fail(runtime: &Runtime, agent: AgentId, error: RuntimeError) -> ErrorAction {
    runtime.errors().handle_error(agent, error).await.expect("the action is carried out")
}

#[tokio::test(start_paused = true)]
async fn error_history_and_window() {
    for (most, window, now, later) in [(2, 300, 2, 2), (10, 300, 4, 4), (10, 5, 4, 0)] {
        let (runtime, agent) = troubled(|c| {
            c.max_error_history = most;
            c.escalation_threshold = 2;
            c.circuit_breaker_threshold = 2;
            c.error_aggregation_window = seconds(window);
        })
        .await;
        for _ in 0..4 {
            fail(&runtime, agent, network()).await;
        }
        let counted = async || {
            let stats = runtime.errors().get_error_stats(agent).await.expect("it is known");
            assert_eq!(stats.total, 4);
            stats.in_window.values().sum::<u64>()
        };
        assert_eq!(counted().await, now);
        tokio::time::sleep(seconds(10)).await;
        assert_eq!(counted().await, later);
    }
}

#[tokio::test(start_paused = true)]
async fn escalation_threshold_tells_somebody() {
    for (threshold, told) in [(1, 1), (2, 1), (3, 0)] {
        let (runtime, agent) = troubled(|c| c.escalation_threshold = threshold).await;
        for _ in 0..2 {
            fail(&runtime, agent, network()).await;
        }
        assert_eq!(records(&runtime, "error.escalated").await.len(), told, "{threshold}");
    }
}

#[tokio::test(start_paused = true)]
async fn breakers_open_and_let_a_probe_through() {
    for (threshold, timeout, first, second) in [
        (1, 5, BreakerState::Open, BreakerState::HalfOpen),
        (1, 50, BreakerState::Open, BreakerState::Open),
        (3, 5, BreakerState::Closed, BreakerState::Closed),
    ] {
        let (runtime, agent) = troubled(|c| {
            c.circuit_breaker_threshold = threshold;
            c.circuit_breaker_timeout = seconds(timeout);
        })
        .await;
        let state = async || {
            let stats = runtime.errors().get_error_stats(agent).await.expect("it is known");
            stats.breakers[0].state
        };
        fail(&runtime, agent, network()).await;
        assert_eq!(state().await, first);
        tokio::time::sleep(seconds(10)).await;
        fail(&runtime, agent, network()).await;
        assert_eq!(state().await, second);
    }
}

#[tokio::test(start_paused = true)]
async fn auto_recovery_of_errors() {
    for recovery in [true, false] {
        let (runtime, agent) = troubled(|c| c.enable_auto_recovery = recovery).await;
        let action = fail(&runtime, agent, internal()).await;
        let state = runtime.lifecycle().get_agent_state(agent).await.expect("it is known");
        assert_eq!(action, if recovery { ErrorAction::Restart } else { ErrorAction::Suspend });
        assert_eq!(state == AgentState::Suspended, !recovery, "{state}");
    }
}

#[tokio::test(start_paused = true)]
async fn max_recovery_attempts_is_a_budget() {
    for most in [1, 2] {
        let (runtime, agent) = troubled(|c| c.max_recovery_attempts = most).await;
        for count in 0..3 {
            let action = fail(&runtime, agent, internal()).await;
            let want = if count < most { ErrorAction::Restart } else { ErrorAction::Suspend };
            assert_eq!(action, want);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn recovery_backoff_grows() {
    // A pause is anything up to its bound; of so many, one beyond a second is as good as certain
    // where the bound grows, and impossible where it does not.
    for (multiplier, grows) in [(1.0, false), (20.0, true)] {
        let (runtime, agent) = troubled(|c| {
            c.recovery_backoff_multiplier = multiplier;
            c.circuit_breaker_threshold = 1000;
        })
        .await;
        let strategy = RecoveryStrategy::Retry { max_attempts: 40, backoff: seconds(1) };
        let kind = ErrorType::NetworkError;
        runtime.errors().register_strategy(kind, strategy).await.expect("it makes sense");
        let mut longest = Duration::ZERO;
        for left in (1..=40).rev() {
            let action = fail(&runtime, agent, network()).await;
            let ErrorAction::Retry { max_attempts, backoff } = action else { panic!("{action:?}") };
            assert_eq!(max_attempts, left);
            longest = longest.max(backoff);
        }
        assert_eq!(longest > seconds(1), grows, "{multiplier}: {longest:?}");
        assert!(longest <= seconds(60));
    }
}
