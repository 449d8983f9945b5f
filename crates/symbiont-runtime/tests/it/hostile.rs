//! Hostile arguments: every method answers with a typed error that says what to do, nothing panics,
//! and nothing changes.

use std::sync::Arc;

use proptest::prelude::*;
use symbiont_runtime::*;

use crate::support::{config, message, runtime, started, task};

/// Far away, and still a time that the host can express.
const FAR: Duration = Duration::from_secs(1 << 40);

fn times() -> [SystemTime; 4] {
    let zero = SystemTime::UNIX_EPOCH;
    [zero, zero - FAR, zero + FAR, SystemTime::now()]
}

fn texts() -> Vec<String> {
    let plain = ["", " ", "\0", "\u{1b}[2J", "\u{202e}x", "a\nb", "'; DROP TABLE agents; --", "*"];
    let mut texts: Vec<String> = plain.map(str::to_owned).to_vec();
    texts.extend(["x".repeat(2 << 20), "é".repeat(257), "../".repeat(100)]);
    texts
}

/// Says something that a person can use, in one piece.
#[track_caller]
fn useful(error: &impl std::fmt::Display) {
    let text = error.to_string();
    assert!(text.len() > 8 && text.chars().count() < 4096, "{} bytes: {text:.300}", text.len());
}

/// What may not change when a call is refused.
async fn state(runtime: &Runtime) -> String {
    let agents = runtime.lifecycle().list_agents().await;
    let resources = runtime.resources().get_system_resources().await;
    let kinds: Vec<_> = resources.kinds.iter().map(|k| (k.kind, k.allocated)).collect();
    format!(
        "{agents:?} {} {kinds:?} {} {} {:?} {}",
        resources.allocations,
        runtime.bus().pending(),
        runtime.bus().dead_letters().len(),
        runtime.scheduler().list_pending_tasks().await,
        runtime.policy().digest(),
    )
}

#[tokio::test]
async fn an_agent_that_nobody_knows() {
    let runtime = runtime(|_| {}).await;
    let known = started(&runtime, config("known", "agent known", ExecutionMode::Persistent)).await;
    runtime.lifecycle().settled(known).await.expect("it rests");
    let before = state(&runtime).await;
    let id = AgentId::new();
    let lifecycle: &dyn LifecycleController = &**runtime.lifecycle();
    let unknown = LifecycleError::AgentNotFound { agent_id: id };
    let stray = AgentConfig { id, ..config("x", "agent x", ExecutionMode::Persistent) };
    for outcome in [
        lifecycle.initialize_agent(id).await,
        lifecycle.start_agent(id).await,
        lifecycle.stop_agent(id).await,
        lifecycle.suspend_agent(id).await,
        lifecycle.resume_agent(id).await,
        lifecycle.terminate_agent(id).await,
        lifecycle.restart_agent(id).await,
        lifecycle.update_agent_config(id, stray).await,
        lifecycle.get_agent_state(id).await.map(drop),
        lifecycle.get_agent(id).await.map(drop),
    ] {
        assert_eq!(outcome, Err(unknown.clone()));
    }
    let resources: &dyn ResourceManager = &**runtime.resources();
    let limits = ResourceLimits::default;
    for outcome in [
        resources.deallocate_resources(id).await,
        resources.update_resource_limits(id, limits()).await,
        resources.get_resource_usage(id).await.map(drop),
        resources.set_resource_alerts(id, ResourceThresholds::default()).await,
        resources.get_resource_history(id, Duration::MAX).await.map(drop),
    ] {
        let error = outcome.expect_err("it never had a promise");
        assert!(error.to_string().contains(&id.to_string()), "{error}");
        useful(&error);
    }
    let bus: &dyn CommunicationBus = &**runtime.bus();
    let stranger = CommunicationError::AgentNotRegistered { agent_id: id };
    for outcome in [
        bus.unregister_agent(id).await,
        bus.receive_messages(id).await.map(drop),
        bus.send_message(message(id, known, b"")).await.map(drop),
        bus.send_message(message(known, id, b"")).await.map(drop),
        bus.subscribe_to_topic(id, "t".to_owned()).await,
        bus.unsubscribe_from_topic(id, "t".to_owned()).await,
        bus.broadcast_message("t".to_owned(), message(id, id, b"")).await.map(drop),
        bus.get_agent_topics(id).await.map(drop),
    ] {
        assert_eq!(outcome, Err(stranger.clone()));
    }
    let status = bus.get_message_status(MessageId::new()).await;
    assert!(matches!(status, Err(CommunicationError::DeliveryFailed { .. })), "{status:?}");
    let scheduler: &dyn Scheduler = &**runtime.scheduler();
    let refused = scheduler.schedule_task(task(id)).await;
    assert_eq!(refused, Err(SchedulerError::AgentNotFound { agent_id: id }));
    let task_id = TaskId::new();
    for outcome in [
        scheduler.cancel_task(task_id).await,
        scheduler.get_task_status(task_id).await.map(drop),
        scheduler.update_task_priority(task_id, Priority::High).await,
    ] {
        assert_eq!(outcome, Err(SchedulerError::TaskNotFound { task_id }));
    }
    let errors: &dyn ErrorHandler = &**runtime.errors();
    let internal = || RuntimeError::Internal("x".to_owned());
    for outcome in [
        errors.handle_error(id, internal()).await.map(drop),
        errors.get_error_stats(id).await.map(drop),
        errors.set_error_thresholds(id, ErrorThresholds::default()).await,
        errors.clear_error_history(id).await,
    ] {
        assert_eq!(outcome, Err(ErrorHandlerError::AgentNotFound { agent_id: id }));
    }
    let policy: &dyn PolicyEngine = &**runtime.policy();
    let context = context(id, "fs.read:/a");
    for outcome in [
        policy.get_agent_policies(id).await.map(drop),
        policy.delete_policy("none".to_owned()).await,
        policy.evaluate_policy("none".to_owned(), &context).await.map(drop),
    ] {
        assert!(matches!(outcome, Err(PolicyError::NotFound { .. })), "{outcome:?}");
    }
    let sandbox: &dyn SandboxOrchestrator = &**runtime.sandbox();
    let sandbox_id = SandboxId::new();
    for outcome in [
        sandbox.start_sandbox(sandbox_id).await,
        sandbox.stop_sandbox(sandbox_id).await,
        sandbox.destroy_sandbox(sandbox_id).await,
        sandbox.get_sandbox_status(sandbox_id).await.map(drop),
        sandbox.execute_command(sandbox_id, "true", vec![]).await.map(drop),
        sandbox.upload_file(sandbox_id, "/etc/hostname", "a").await,
        sandbox.download_file(sandbox_id, "a", "/nowhere/a").await,
    ] {
        assert_eq!(outcome, Err(SandboxError::NotFound { sandbox_id }));
    }
    assert_eq!(state(&runtime).await, before);
}

fn context(agent_id: AgentId, operation: &str) -> PolicyContext {
    PolicyContext {
        agent_id,
        operation: operation.to_owned(),
        resource_requirements: None,
        security_context: SecurityContext::default(),
        metadata: HashMap::new(),
    }
}

#[tokio::test]
async fn configs_of_agents_that_are_not_fit() {
    let runtime = runtime(|_| {}).await;
    let good = config("good", "agent good", ExecutionMode::Persistent);
    let known = started(&runtime, good.clone()).await;
    runtime.lifecycle().settled(known).await.expect("it rests");
    let before = state(&runtime).await;
    let with = |change: fn(&mut AgentConfig)| {
        let mut config = config("bad", "agent bad", ExecutionMode::Persistent);
        change(&mut config);
        config
    };
    let cases: [(&str, AgentConfig); 17] = [
        ("name", with(|c| c.name.clear())),
        ("name", with(|c| c.name = "x".repeat(129))),
        ("name", with(|c| c.name = "a\0b".to_owned())),
        ("dsl_source", with(|c| c.dsl_source.clear())),
        ("dsl_source", with(|c| c.dsl_source = " \n ".to_owned())),
        ("dsl_source", with(|c| c.dsl_source = "x".repeat((1 << 20) + 1))),
        (
            "interval",
            with(|c| c.execution_mode = ExecutionMode::Scheduled { interval: Duration::ZERO }),
        ),
        ("memory_mb", with(|c| c.resource_limits.memory_mb = 0)),
        ("memory_mb", with(|c| c.resource_limits.memory_mb = u64::MAX)),
        ("cpu_cores", with(|c| c.resource_limits.cpu_cores = 0.0)),
        ("cpu_cores", with(|c| c.resource_limits.cpu_cores = f64::NAN)),
        ("cpu_cores", with(|c| c.resource_limits.cpu_cores = f64::INFINITY)),
        ("cpu_cores", with(|c| c.resource_limits.cpu_cores = -1.0)),
        ("execution_timeout", with(|c| c.resource_limits.execution_timeout = Duration::ZERO)),
        ("idle_timeout", with(|c| c.resource_limits.idle_timeout = Duration::ZERO)),
        (
            "metadata",
            with(|c| c.metadata = (0..65).map(|n| (n.to_string(), String::new())).collect()),
        ),
        ("capabilities", with(|c| c.capabilities = vec![Capability::Network; 257])),
    ];
    for (field, bad) in cases {
        let refused = runtime.lifecycle().create_agent(bad.clone()).await;
        let Err(LifecycleError::ConfigurationInvalid { reason }) = refused else {
            panic!("{field}: {refused:?}")
        };
        assert!(reason.contains(field), "{reason}");
        let same = AgentConfig { id: known, ..bad.clone() };
        let refused = runtime.lifecycle().update_agent_config(known, same).await;
        assert!(matches!(refused, Err(LifecycleError::ConfigurationInvalid { .. })), "{refused:?}");
        let verdict = runtime.policy().validate_agent_config(&bad).await.expect("an answer");
        assert!(!verdict.valid && verdict.errors.iter().any(|e| e.path.contains(field)), "{field}");
    }
    let twice = runtime.lifecycle().create_agent(good.clone()).await;
    let Err(LifecycleError::ConfigurationInvalid { reason }) = twice else { panic!("{twice:?}") };
    assert!(reason.contains("exists already"), "{reason}");
    let other = AgentConfig { id: AgentId::new(), ..good };
    let refused = runtime.lifecycle().update_agent_config(known, other).await;
    assert!(matches!(refused, Err(LifecycleError::ConfigurationInvalid { .. })), "{refused:?}");
    assert_eq!(state(&runtime).await, before);
}

#[tokio::test]
async fn limits_that_can_not_be_promised() {
    let runtime = runtime(|config| config.resources.total_memory = 1 << 30).await;
    let resources = runtime.resources();
    let agent = AgentId::new();
    let modest = ResourceLimits {
        memory_mb: 1,
        cpu_cores: 0.1,
        network_io_mbps: 0,
        ..ResourceLimits::default()
    };
    resources.allocate_resources(agent, modest.clone()).await.expect("it fits");
    let before = state(&runtime).await;
    let with = |change: fn(&mut ResourceLimits)| {
        let mut limits = modest.clone();
        change(&mut limits);
        limits
    };
    let bad = [
        with(|l| l.memory_mb = 0),
        with(|l| l.memory_mb = u64::MAX),
        with(|l| l.cpu_cores = 0.0),
        with(|l| l.cpu_cores = -1.0),
        with(|l| l.cpu_cores = f64::NAN),
        with(|l| l.cpu_cores = f64::NEG_INFINITY),
        with(|l| l.cpu_cores = f64::MAX),
        with(|l| l.network_io_mbps = u64::MAX),
        with(|l| l.disk_io_mbps = u64::MAX),
        with(|l| l.execution_timeout = Duration::ZERO),
        with(|l| l.idle_timeout = Duration::ZERO),
    ];
    for limits in bad {
        let new = AgentId::new();
        let refused = resources.allocate_resources(new, limits.clone()).await;
        assert_eq!(refused, Err(ResourceError::AllocationFailed { agent_id: new }), "{limits:?}");
        let refused = resources.update_resource_limits(agent, limits.clone()).await;
        assert_eq!(refused, Err(ResourceError::AllocationFailed { agent_id: agent }), "{limits:?}");
    }
    let huge = with(|l| l.memory_mb = 1 << 40);
    let refused = resources.allocate_resources(AgentId::new(), huge.clone()).await;
    let Err(ResourceError::InsufficientResources { requirements }) = refused else {
        panic!("{refused:?}")
    };
    assert!(requirements.contains("asked") && requirements.contains("available"), "{requirements}");
    let refused = resources.update_resource_limits(agent, huge).await;
    assert!(matches!(refused, Err(ResourceError::InsufficientResources { .. })), "{refused:?}");
    let shares = [0.0, -1.0, 1.5, f64::NAN, f64::INFINITY];
    for warn in shares {
        let thresholds = ResourceThresholds {
            kinds: vec![(ResourceKind::Memory, Threshold { warn, critical: 1.0 })],
            ..ResourceThresholds::default()
        };
        let refused = resources.set_resource_alerts(agent, thresholds).await;
        assert!(matches!(refused, Err(ResourceError::MonitoringFailed { .. })), "{refused:?}");
    }
    for duration in [Duration::ZERO, Duration::MAX] {
        resources.get_resource_history(agent, duration).await.expect("any span is fine");
    }
    let forever =
        ResourceLimits { execution_timeout: Duration::MAX, idle_timeout: Duration::MAX, ..modest };
    resources.allocate_resources(AgentId::new(), forever).await.expect("long is fine");
    assert_ne!(state(&runtime).await, before);
}

#[tokio::test]
async fn messages_at_and_beyond_their_bounds() {
    let runtime = runtime(|config| config.bus.max_message_size = 1000).await;
    let bus = runtime.bus();
    let agent = AgentId::new();
    bus.register_agent(agent, vec![]).await.expect("it registers");
    bus.subscribe_to_topic(agent, "t".to_owned()).await.expect("it subscribes");
    let before = state(&runtime).await;
    let large = message(agent, agent, &[0; 1001]);
    let refusal = CommunicationError::MessageTooLarge { size: 1001, max_size: 1000 };
    assert_eq!(bus.send_message(large.clone()).await, Err(refusal.clone()));
    assert_eq!(bus.broadcast_message("t".to_owned(), large).await, Err(refusal));
    let accepted = [" ", "\u{202e}x", "'; DROP TABLE agents; --", "*"];
    for topic in texts().into_iter().filter(|topic| !accepted.contains(&topic.as_str())) {
        let mail = Message { topic: topic.clone(), ..message(agent, agent, b"") };
        for outcome in [
            bus.send_message(mail.clone()).await.map(drop),
            bus.broadcast_message(topic.clone(), mail).await.map(drop),
            bus.subscribe_to_topic(agent, topic.clone()).await,
            bus.unsubscribe_from_topic(agent, topic.clone()).await,
        ] {
            useful(&outcome.expect_err(&topic));
        }
    }
    assert_eq!(state(&runtime).await, before);
    for ttl in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        let mail = Message { ttl, ..message(agent, agent, &[7; 1000]) };
        bus.send_message(mail).await.expect("any time to live is accepted");
    }
    let taken = bus.receive_leased(agent, usize::MAX).await.expect("mail");
    assert!(!taken.is_empty() && taken.len() <= 3);
    bus.nack(&taken[0], Duration::MAX).expect("the longest pause is bounded");
    assert_eq!(bus.receive_leased(agent, 0).await, Ok(vec![]));
}

#[tokio::test]
async fn tasks_of_strange_times_and_counts() {
    let runtime = runtime(|_| {}).await;
    let agent = started(&runtime, config("a", "agent a", ExecutionMode::Persistent)).await;
    let scheduler = runtime.scheduler();
    let far = SystemTime::UNIX_EPOCH + FAR;
    for scheduled_time in times() {
        for timeout in [Duration::ZERO, Duration::from_secs(5), Duration::MAX] {
            for retry_count in [0, u32::MAX] {
                let task = ScheduledTask { scheduled_time, timeout, retry_count, ..task(agent) };
                scheduler.schedule_task(task.clone()).await.expect("it is accepted");
                if scheduled_time == far {
                    let status = scheduler.get_task_status(task.id).await;
                    assert_eq!(status, Ok(TaskStatus::Scheduled { due: far }));
                    scheduler.cancel_task(task.id).await.expect("it waits");
                } else {
                    let end = scheduler.ended(task.id).await.expect("it ends");
                    assert!(matches!(end, TaskStatus::Completed { .. }), "{task:?} {end:?}");
                }
            }
        }
    }
    let metrics = scheduler.get_scheduler_metrics().await;
    assert_eq!(
        (metrics.pending.total(), metrics.running.total(), metrics.delayed.total()),
        (0, 0, 0)
    );
}

#[tokio::test]
async fn operations_and_policies_that_make_no_sense() {
    let runtime = runtime(|_| {}).await;
    let agent = started(&runtime, config("a", "agent a", ExecutionMode::Persistent)).await;
    let policy = runtime.policy();
    let digest = policy.digest();
    for operation in texts() {
        let context = context(agent, &operation);
        let answer = policy.check_operation_allowed(agent, &operation, &context).await;
        match (operation.is_empty() || operation.len() > 8192, answer) {
            (true, Err(PolicyError::Invalid { errors })) => assert!(!errors.is_empty()),
            (false, Ok(_)) => {}
            (_, answer) => panic!("{answer:?}"),
        }
        let missing = policy.delete_policy(operation).await.expect_err("there is none");
        useful(&missing);
    }
    let other = context(AgentId::new(), "fs.read:/a");
    let refused = policy.check_operation_allowed(agent, "fs.read:/a", &other).await;
    assert!(matches!(refused, Err(PolicyError::Invalid { .. })), "another agent's context");
    let reading = context(agent, "fs.read:/a");
    let refused = policy.check_operation_allowed(agent, "fs.write:/a", &reading);
    assert!(matches!(refused.await, Err(PolicyError::Invalid { .. })), "another operation");
    let rule = |rule: PolicyRule| Policy {
        id: "p".to_owned(),
        name: "p".to_owned(),
        description: String::new(),
        rules: vec![rule],
        priority: 0,
        enabled: true,
    };
    let allow = PolicyEffect::Allow;
    let bad = [
        Policy { id: String::new(), ..rule(PolicyRule::new("r", allow.clone(), ["fs.read"])) },
        rule(PolicyRule::new("r", allow.clone(), [""])),
        rule(PolicyRule::cedar("r", allow.clone(), "permit(")),
        rule(PolicyRule::cedar("r", allow, "x".repeat(2 << 20))),
    ];
    for policy_ in bad {
        let refused = policy.update_policy(policy_.clone()).await;
        let Err(PolicyError::Invalid { errors }) = refused else { panic!("{refused:?}") };
        assert!(!errors.is_empty() && errors.iter().all(|e| !e.message.is_empty()));
    }
    assert_eq!(policy.digest(), digest);
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused_at_the_beginning() {
    macro_rules! refuses {
        ($component:ident, $config:ident, $($change:expr),* $(,)?) => {$(
            let mut config = $config::default();
            let change: fn(&mut $config) = $change;
            change(&mut config);
            let refused = $component::new(config.clone()).await;
            useful(&refused.err().unwrap_or_else(|| panic!("{config:?}")));
        )*};
    }
    let zero = Duration::ZERO;
    assert_eq!(zero, Duration::default());
    refuses!(
        DefaultLifecycleController,
        LifecycleConfig,
        |c| c.initialization_timeout = Duration::ZERO,
        |c| c.state_check_interval = Duration::ZERO,
        |c| c.max_agents = 0
    );
    refuses!(
        DefaultResourceManager,
        ResourceManagerConfig,
        |c| c.resource_reservation_percentage = 10.0,
        |c| c.resource_reservation_percentage = 1.0,
        |c| c.resource_reservation_percentage = -0.1,
        |c| c.resource_reservation_percentage = f32::NAN,
        |c| c.monitoring_interval = Duration::ZERO
    );
    refuses!(
        DefaultScheduler,
        SchedulerConfig,
        |c| c.max_concurrent_tasks = 0,
        |c| c.task_timeout = Duration::ZERO,
        |c| c.task_queue_size = 0,
        |c| c.health_check_interval = Duration::ZERO
    );
    refuses!(
        DefaultCommunicationBus,
        CommunicationConfig,
        |c| c.message_ttl = Duration::ZERO,
        |c| c.max_queue_size = 0,
        |c| c.delivery_timeout = Duration::ZERO,
        |c| c.max_message_size = 0,
        |c| c.max_message_size = usize::MAX
    );
    refuses!(
        DefaultErrorHandler,
        ErrorHandlerConfig,
        |c| c.max_error_history = 0,
        |c| c.error_aggregation_window = Duration::ZERO,
        |c| c.escalation_threshold = 0,
        |c| c.escalation_threshold = 1001,
        |c| c.circuit_breaker_threshold = 0,
        |c| c.circuit_breaker_threshold = 1001,
        |c| c.circuit_breaker_timeout = Duration::ZERO,
        |c| c.recovery_backoff_multiplier = 0.5,
        |c| c.recovery_backoff_multiplier = f32::NAN
    );
}

#[tokio::test]
async fn the_largest_settings_do_not_overflow() {
    let most = Duration::MAX;
    let runtime = runtime(|c| {
        c.lifecycle.initialization_timeout = most;
        c.lifecycle.termination_timeout = most;
        c.lifecycle.state_check_interval = most;
        c.lifecycle.max_restart_attempts = u32::MAX;
        c.resources.monitoring_interval = most;
        c.scheduler.task_timeout = most;
        c.scheduler.retry_attempts = u32::MAX;
        c.scheduler.health_check_interval = most;
        c.bus.message_ttl = most;
        c.bus.delivery_timeout = most;
        c.bus.retry_attempts = u32::MAX;
        c.errors.error_aggregation_window = most;
        c.errors.circuit_breaker_timeout = most;
        c.errors.circuit_breaker_threshold = 1;
        c.errors.recovery_backoff_multiplier = 1000.0;
    })
    .await;
    let mut forever = config("a", "agent a", ExecutionMode::Scheduled { interval: most });
    forever.resource_limits.execution_timeout = most;
    forever.resource_limits.idle_timeout = most;
    let agent = started(&runtime, forever).await;
    runtime.lifecycle().settled(agent).await.expect("it rests");
    let task = ScheduledTask { timeout: most, ..task(agent) };
    runtime.scheduler().schedule_task(task.clone()).await.expect("it is accepted");
    let end = runtime.scheduler().ended(task.id).await.expect("it ends");
    assert!(matches!(end, TaskStatus::Completed { .. }), "{end:?}");
    let mail = Message { ttl: most, ..message(agent, agent, b"x") };
    runtime.bus().send_message(mail).await.expect("it is accepted");
    let thresholds = ErrorThresholds { window: most, ..ErrorThresholds::default() };
    runtime.errors().set_error_thresholds(agent, thresholds).await.expect("it is known");
    for _ in 0..3 {
        let error = RuntimeError::Internal("x".to_owned());
        runtime.errors().handle_error(agent, error).await.expect("it is handled");
    }
    runtime.lifecycle().terminate_agent(agent).await.expect("it ends");
    assert!(runtime.shutdown().await.is_empty());
}

/// One call with arguments of somebody who means harm.
#[derive(Debug, Clone)]
enum Call {
    Create(u8, u64),
    Move(u8, u8),
    Task(u8, u8, u32, u8),
    Cancel(u8),
    Send(u8, u8, usize, u8),
    Receive(u8),
    Register(u8),
    Unregister(u8),
    Allocate(u8, u64, f64),
    Limits(u8, u64),
    Deallocate(u8),
    Error(u8, u8),
    Record(u8, usize),
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let agent = || 0..6_u8;
    let memory = || prop_oneof![Just(0), 1..64_u64, Just(u64::MAX)];
    let cores = prop_oneof![Just(f64::NAN), Just(0.0), 0.001..0.5_f64, Just(f64::INFINITY)];
    let call = prop_oneof![
        3 => (agent(), memory()).prop_map(|(a, m)| Call::Create(a, m)),
        6 => (agent(), 0..8_u8).prop_map(|(a, m)| Call::Move(a, m)),
        2 => (agent(), 0..4_u8, any::<u32>(), 0..4_u8).prop_map(|(a, w, r, p)| Call::Task(a, w, r, p)),
        1 => any::<u8>().prop_map(Call::Cancel),
        3 => (agent(), agent(), 95..106_usize, 0..4_u8).prop_map(|(a, b, s, p)| Call::Send(a, b, s, p)),
        1 => agent().prop_map(Call::Receive),
        2 => agent().prop_map(Call::Register),
        1 => agent().prop_map(Call::Unregister),
        2 => (agent(), memory(), cores).prop_map(|(a, m, c)| Call::Allocate(a, m, c)),
        1 => (agent(), memory()).prop_map(|(a, m)| Call::Limits(a, m)),
        1 => agent().prop_map(Call::Deallocate),
        1 => (agent(), 0..3_u8).prop_map(|(a, e)| Call::Error(a, e)),
        1 => (any::<u8>(), 0..70_000_usize).prop_map(|(i, s)| Call::Record(i, s)),
    ];
    prop::collection::vec(call, 1..60)
}

async fn play(runtime: &Runtime, ids: &[AgentId], tasks: &mut Vec<TaskId>, call: Call) {
    let id = |at: u8| ids[usize::from(at) % ids.len()];
    let limits = |memory_mb, cpu_cores| ResourceLimits {
        memory_mb,
        cpu_cores,
        network_io_mbps: 0,
        ..ResourceLimits::default()
    };
    let (lifecycle, bus) = (runtime.lifecycle(), runtime.bus());
    match call {
        Call::Create(agent, memory) => {
            let mut config = config("hostile", "agent hostile", ExecutionMode::Persistent);
            config.id = id(agent);
            config.resource_limits.memory_mb = memory;
            let _ = lifecycle.create_agent(config).await;
        }
        Call::Move(agent, how) => {
            let agent = id(agent);
            let _ = match how {
                0 => lifecycle.initialize_agent(agent).await,
                1 => lifecycle.start_agent(agent).await,
                2 => lifecycle.stop_agent(agent).await,
                3 => lifecycle.suspend_agent(agent).await,
                4 => lifecycle.resume_agent(agent).await,
                5 => lifecycle.restart_agent(agent).await,
                6 => lifecycle.terminate_agent(agent).await,
                _ => lifecycle.settled(agent).await.map(drop),
            };
        }
        Call::Task(agent, when, retry_count, priority) => {
            let scheduled_time = times()[usize::from(when)];
            let priority = Priority::ALL[usize::from(priority)];
            let task = ScheduledTask { scheduled_time, retry_count, priority, ..task(id(agent)) };
            tasks.push(task.id);
            let _ = runtime.scheduler().schedule_task(task).await;
        }
        Call::Cancel(at) => {
            if let Some(task) = tasks.get(usize::from(at) % tasks.len().max(1)) {
                let _ = runtime.scheduler().cancel_task(*task).await;
            }
        }
        Call::Send(from, to, size, priority) => {
            let priority = Priority::ALL[usize::from(priority)];
            let mail = Message { priority, ..message(id(from), id(to), &vec![0; size]) };
            let _ = bus.send_message(mail).await;
        }
        Call::Receive(agent) => drop(bus.receive_messages(id(agent)).await),
        Call::Register(agent) => drop(bus.register_agent(id(agent), vec![]).await),
        Call::Unregister(agent) => drop(bus.unregister_agent(id(agent)).await),
        Call::Allocate(agent, memory, cores) => {
            let _ = runtime.resources().allocate_resources(id(agent), limits(memory, cores)).await;
        }
        Call::Limits(agent, memory) => {
            let _ =
                runtime.resources().update_resource_limits(id(agent), limits(memory, 0.1)).await;
        }
        Call::Deallocate(agent) => {
            let _ = runtime.resources().deallocate_resources(id(agent)).await;
        }
        Call::Error(agent, kind) => {
            let error = match kind {
                0 => RuntimeError::Internal("\0".repeat(1000)),
                1 => SecurityError::KeyNotFound { key_id: String::new() }.into(),
                _ => CommunicationError::TopicNotFound { topic: String::new() }.into(),
            };
            let _ = runtime.errors().handle_error(id(agent), error).await;
        }
        Call::Record(which, size) => {
            let event = AuditEvent {
                id: AuditId::new(),
                timestamp: times()[usize::from(which) % 4],
                event_type: AuditEventType::ALL[usize::from(which) % 11],
                agent_id: None,
                details: "\0".repeat(size),
                metadata: HashMap::new(),
            };
            let _ = runtime.audit().record_event(event).await;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_called_the_promises_hold(sequence in calls()) {
        let executor = tokio::runtime::Builder::new_current_thread().enable_all().build();
        executor.expect("an executor").block_on(async {
            let runtime = runtime(|config| {
                config.lifecycle.max_agents = 4;
                config.resources.total_memory = 256 << 20;
                config.resources.total_cpu_cores = 1;
                config.bus.max_queue_size = 3;
                config.bus.max_message_size = 100;
                config.bus.dead_letter_queue_size = 4;
                config.scheduler.task_queue_size = 5;
            })
            .await;
            let ids: Vec<AgentId> = (0..6).map(|_| AgentId::new()).collect();
            let mut tasks = Vec::new();
            for call in sequence {
                play(&runtime, &ids, &mut tasks, call).await;
                let agents = runtime.lifecycle().list_agents().await;
                let living = agents.iter().filter(|a| a.state != AgentState::Terminated).count();
                assert!(living <= 4, "{living} agents live");
                for kind in runtime.resources().get_system_resources().await.kinds {
                    let fits = |total| kind.allocated <= total - kind.reserved;
                    assert!(kind.total.is_none_or(fits), "{kind:?}");
                }
                assert!(runtime.bus().pending() <= 3 * ids.len());
                assert!(runtime.bus().dead_letters().len() <= 4);
                assert!(runtime.scheduler().list_pending_tasks().await.len() <= 5);
            }
            for id in &ids {
                let ended = runtime.lifecycle().terminate_agent(*id).await;
                let unknown = LifecycleError::AgentNotFound { agent_id: *id };
                assert!(ended == Ok(()) || ended == Err(unknown), "{ended:?}");
            }
            let to = SystemTime::UNIX_EPOCH + FAR;
            let from = SystemTime::UNIX_EPOCH - FAR;
            let report = runtime.audit().verify_integrity(from, to).await.expect("a report");
            assert_eq!(report.verdict, Verdict::Intact, "{:?}", report.findings);
            assert!(runtime.shutdown().await.is_empty());
        });
    }
}

/// A pseudo-random number, the same for the same seed.
fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_hands_on_few_agents_leave_none_stuck() {
    let runtime = Arc::new(runtime(|config| config.errors.enable_auto_recovery = false).await);
    let source = r#"agent mixed {
        on message(topic, payload) { sleep(1ms); }
        with { let n = 0; while n < 2000 { n += 1; } sleep(1ms); return n; }
    }"#;
    let mut ids = Vec::new();
    for mode in [ExecutionMode::Persistent, ExecutionMode::Ephemeral, ExecutionMode::EventDriven] {
        ids.push(started(&runtime, config("mixed", source, mode)).await);
    }
    let mode = ExecutionMode::Scheduled { interval: Duration::from_millis(3) };
    ids.push(started(&runtime, config("mixed", source, mode)).await);
    let mut hands = tokio::task::JoinSet::new();
    for hand in 0..8_u64 {
        let (runtime, ids) = (Arc::clone(&runtime), ids.clone());
        hands.spawn(async move {
            let mut seed = 0x9e37_79b9_7f4a_7c15 ^ (hand + 1);
            for _ in 0..300 {
                let id = ids[(next(&mut seed) % 4) as usize];
                let lifecycle = runtime.lifecycle();
                let outcome = match next(&mut seed) % 8 {
                    0 => lifecycle.initialize_agent(id).await,
                    1 | 2 => lifecycle.start_agent(id).await,
                    3 => lifecycle.stop_agent(id).await,
                    4 => lifecycle.suspend_agent(id).await,
                    5 => lifecycle.resume_agent(id).await,
                    6 => runtime.scheduler().schedule_task(task(id)).await.map_err(|error| {
                        LifecycleError::ConfigurationInvalid { reason: error.to_string() }
                    }),
                    _ => {
                        let sent = runtime.bus().send_message(message(id, id, b"x")).await;
                        sent.map(drop).map_err(|error| LifecycleError::ConfigurationInvalid {
                            reason: error.to_string(),
                        })
                    }
                };
                match outcome {
                    Ok(())
                    | Err(
                        LifecycleError::InvalidStateTransition { .. }
                        | LifecycleError::ConfigurationInvalid { .. },
                    ) => {}
                    Err(other) => panic!("{other:?}"),
                }
            }
        });
    }
    while let Some(hand) = hands.join_next().await {
        hand.expect("no hand panics");
    }
    for id in &ids {
        runtime.lifecycle().terminate_agent(*id).await.expect("it ends");
        let state = runtime.lifecycle().get_agent_state(*id).await;
        assert_eq!(state, Ok(AgentState::Terminated));
    }
    let metrics = runtime.scheduler().get_scheduler_metrics().await;
    assert_eq!((metrics.pending.total(), metrics.delayed.total()), (0, 0), "{metrics:?}");
    let status = runtime.status().await;
    assert_eq!((status.runs_active, status.runs_waiting), (0, 0));
    // No two runs of an agent overlap on record.
    let mut open: HashMap<AgentId, String> = HashMap::new();
    let query = AuditQuery {
        kinds: vec!["run.*".to_owned()],
        order: AuditOrder::OldestFirst,
        limit: Some(100_000),
        ..AuditQuery::default()
    };
    for event in runtime.audit().query_events(query).await.expect("the trail can be read") {
        let (Some(agent), Some(run)) = (event.agent_id, event.metadata.get("run")) else {
            continue;
        };
        match event.metadata["kind"].as_str() {
            "run.started" => {
                let before = open.insert(agent, run.clone());
                assert_eq!(before, None, "{run} began before {before:?} was over");
            }
            "run.completed" | "run.failed" | "run.cancelled" => {
                assert_eq!(open.remove(&agent).as_ref(), Some(run));
            }
            _ => {}
        }
    }
    assert!(open.is_empty(), "{open:?}");
    assert!(runtime.shutdown().await.is_empty());
}

#[tokio::test]
async fn stopping_an_agent_with_mail_stops_it() {
    let runtime = runtime(|_| {}).await;
    let source = r#"agent slow { on message(topic, payload) { while true { } } }"#;
    let id = started(&runtime, config("slow", source, ExecutionMode::EventDriven)).await;
    for _ in 0..3 {
        runtime.bus().send_message(message(id, id, b"x")).await.expect("it is accepted");
    }
    runtime.lifecycle().until(id, &[AgentState::Running]).await.expect("it runs");
    runtime.lifecycle().stop_agent(id).await.expect("it stops");
    assert_eq!(runtime.lifecycle().get_agent_state(id).await, Ok(AgentState::Ready));
    assert_eq!(runtime.status().await.runs_active, 0, "nothing of it runs on");
    // What the run that was cut off had in hand waits again too: it was not dealt with.
    assert_eq!(runtime.bus().pending(), 3, "its mail waits for the next start");
}

#[tokio::test]
async fn a_runtime_that_is_dropped_leaves_nothing_running() {
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let open = runtime(|_| {}).await;
    let every = ExecutionMode::Scheduled { interval: Duration::from_secs(1) };
    let regular = started(&open, config("regular", "agent regular", every)).await;
    open.lifecycle().settled(regular).await.expect("it rests");
    let source = "agent busy { with { while true { } } }";
    started(&open, config("busy", source, ExecutionMode::Persistent)).await;
    let source = "agent sleeper { with { sleep(1h); } }";
    let sleeper = started(&open, config("sleeper", source, ExecutionMode::Persistent)).await;
    open.lifecycle().until(sleeper, &[AgentState::Waiting]).await.expect("it sleeps");
    let metrics = tokio::runtime::Handle::current().metrics();
    assert!(metrics.num_alive_tasks() > before);
    drop(open);
    // Each has to be polled once more to end.
    for _ in 0..10_000 {
        if metrics.num_alive_tasks() == before {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("{} tasks are left", metrics.num_alive_tasks() - before);
}
