//! The reference, name by name: a struct literal for each struct that the reference shows, a match
//! without `_` for each enum, a call of every method through `dyn`. None of it can drift unnoticed.

use std::collections::HashSet;
use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::str::FromStr;
use std::sync::Arc;

use symbiont_runtime::*;

use crate::support::{config, message, task};

/// What every id can do.
fn check_id<T>(make: fn() -> T)
where
    T: Copy + Eq + Ord + Hash + Debug + Display + FromStr + Send + Sync + 'static,
    <T as FromStr>::Err: Debug,
{
    let id = make();
    assert_eq!(id.to_string().parse::<T>().unwrap(), id);
    assert_ne!(make(), make());
}

#[test]
fn every_id_is_there() {
    check_id(AgentId::new);
    check_id(TaskId::new);
    check_id(MessageId::new);
    check_id(RequestId::new);
    check_id(AuditId::new);
    check_id(SandboxId::new);
    check_id(SnapshotId::new);
}

/// The derives that the reference shows.
fn check_derives<T: Debug + Clone + PartialEq + Eq>(value: &T) {
    assert_eq!(value, &value.clone());
}

fn check_clone<T: Debug + Clone>(value: &T) {
    assert!(!format!("{:?}", value.clone()).is_empty());
}

#[test]
fn every_enum_has_the_variants_of_the_reference() {
    for state in AgentState::ALL {
        check_derives(&state);
        match state {
            AgentState::Created
            | AgentState::Initializing
            | AgentState::Ready
            | AgentState::Running
            | AgentState::Suspended
            | AgentState::Waiting
            | AgentState::Completed
            | AgentState::Failed
            | AgentState::Terminating
            | AgentState::Terminated => {}
        }
    }
    for mode in [
        ExecutionMode::Persistent,
        ExecutionMode::Ephemeral,
        ExecutionMode::Scheduled { interval: Duration::from_secs(1) },
        ExecutionMode::EventDriven,
    ] {
        check_derives(&mode);
        match mode {
            ExecutionMode::Persistent
            | ExecutionMode::Ephemeral
            | ExecutionMode::Scheduled { interval: _ }
            | ExecutionMode::EventDriven => {}
        }
    }
    let discriminants = Priority::ALL.map(|priority| {
        check_derives(&priority);
        match priority {
            Priority::Critical | Priority::High | Priority::Normal | Priority::Low => {
                priority as i32
            }
        }
    });
    assert_eq!(discriminants, [4, 3, 2, 1]);
    assert!(Priority::Critical > Priority::Low);
    for capability in [
        Capability::FileSystem,
        Capability::Network,
        Capability::Database,
        Capability::Custom("x".to_owned()),
    ] {
        check_derives(&capability);
        match capability {
            Capability::FileSystem
            | Capability::Network
            | Capability::Database
            | Capability::Custom(_) => {}
        }
    }
    let tiers = SecurityTier::ALL.map(|tier| {
        check_derives(&tier);
        match tier {
            SecurityTier::Tier1 | SecurityTier::Tier2 | SecurityTier::Tier3 => tier as i32,
        }
    });
    assert_eq!(tiers, [1, 2, 3]);
    assert!(SecurityTier::Tier1 < SecurityTier::Tier3);
    for level in [
        IsolationLevel::None,
        IsolationLevel::Low,
        IsolationLevel::Medium,
        IsolationLevel::High,
        IsolationLevel::Maximum,
    ] {
        let copied = level;
        check_derives(&copied);
        match level {
            IsolationLevel::None
            | IsolationLevel::Low
            | IsolationLevel::Medium
            | IsolationLevel::High
            | IsolationLevel::Maximum => {}
        }
    }
    for algorithm in [EncryptionAlgorithm::Aes256Gcm, EncryptionAlgorithm::ChaCha20Poly1305] {
        check_derives(&algorithm);
        match algorithm {
            EncryptionAlgorithm::Aes256Gcm | EncryptionAlgorithm::ChaCha20Poly1305 => {}
        }
    }
    for status in [
        DeliveryStatus::Pending,
        DeliveryStatus::Delivered,
        DeliveryStatus::Failed,
        DeliveryStatus::Expired,
    ] {
        check_derives(&status);
        match status {
            DeliveryStatus::Pending
            | DeliveryStatus::Delivered
            | DeliveryStatus::Failed
            | DeliveryStatus::Expired => {}
        }
    }
    for strategy in [
        LoadBalancingStrategy::RoundRobin,
        LoadBalancingStrategy::LeastConnections,
        LoadBalancingStrategy::ResourceBased,
        LoadBalancingStrategy::WeightedRoundRobin,
    ] {
        check_derives(&strategy);
        match strategy {
            LoadBalancingStrategy::RoundRobin
            | LoadBalancingStrategy::LeastConnections
            | LoadBalancingStrategy::ResourceBased
            | LoadBalancingStrategy::WeightedRoundRobin => {}
        }
    }
    let backoff = Duration::from_secs(1);
    for action in [
        ErrorAction::Retry { max_attempts: 1, backoff },
        ErrorAction::Restart,
        ErrorAction::Suspend,
        ErrorAction::Terminate,
        ErrorAction::Failover,
    ] {
        check_clone(&action);
        match action {
            ErrorAction::Retry { max_attempts: _, backoff: _ }
            | ErrorAction::Restart
            | ErrorAction::Suspend
            | ErrorAction::Terminate
            | ErrorAction::Failover => {}
        }
    }
    for strategy in [
        RecoveryStrategy::Retry { max_attempts: 1, backoff },
        RecoveryStrategy::Restart { preserve_state: true },
        RecoveryStrategy::Failover { backup_agent: None },
        RecoveryStrategy::Terminate { cleanup: true },
        RecoveryStrategy::Manual { reason: String::new() },
        RecoveryStrategy::None,
    ] {
        check_clone(&strategy);
        match strategy {
            RecoveryStrategy::Retry { max_attempts: _, backoff: _ }
            | RecoveryStrategy::Restart { preserve_state: _ }
            | RecoveryStrategy::Failover { backup_agent: _ }
            | RecoveryStrategy::Terminate { cleanup: _ }
            | RecoveryStrategy::Manual { reason: _ }
            | RecoveryStrategy::None => {}
        }
    }
    let types: HashSet<ErrorType> = ErrorType::ALL.into_iter().collect();
    assert_eq!(types.len(), 6);
    for error_type in types {
        check_derives(&error_type);
        match error_type {
            ErrorType::ResourceExhaustion
            | ErrorType::NetworkError
            | ErrorType::SecurityViolation
            | ErrorType::PolicyViolation
            | ErrorType::SystemError
            | ErrorType::ValidationError => {}
        }
    }
    for event_type in AuditEventType::ALL {
        check_derives(&event_type);
        match event_type {
            AuditEventType::AgentCreated
            | AuditEventType::AgentStarted
            | AuditEventType::AgentStopped
            | AuditEventType::AgentTerminated
            | AuditEventType::ResourceAllocated
            | AuditEventType::ResourceDeallocated
            | AuditEventType::MessageSent
            | AuditEventType::MessageReceived
            | AuditEventType::ErrorOccurred
            | AuditEventType::PolicyViolation
            | AuditEventType::SecurityEvent => {}
        }
    }
}

#[test]
fn every_error_has_the_variants_of_the_reference() {
    let agent_id = AgentId::new();
    let resource = ResourceError::UsageExceeded { agent_id, resource: "memory".to_owned() };
    match &resource {
        ResourceError::InsufficientResources { requirements: _ }
        | ResourceError::AllocationFailed { agent_id: _ }
        | ResourceError::DeallocationFailed { agent_id: _ }
        | ResourceError::UsageExceeded { agent_id: _, resource: _ }
        | ResourceError::MonitoringFailed { reason: _ } => check_clone(&resource),
    }
    let lifecycle = LifecycleError::AgentNotFound { agent_id };
    match &lifecycle {
        LifecycleError::AgentNotFound { agent_id: _ }
        | LifecycleError::InvalidStateTransition { from: _, to: _ }
        | LifecycleError::InitializationFailed { agent_id: _, reason: _ }
        | LifecycleError::TerminationFailed { agent_id: _, reason: _ }
        | LifecycleError::ConfigurationInvalid { reason: _ } => check_clone(&lifecycle),
    }
    let communication = CommunicationError::MessageTooLarge { size: 2, max_size: 1 };
    match &communication {
        CommunicationError::AgentNotRegistered { agent_id: _ }
        | CommunicationError::MessageTooLarge { size: _, max_size: _ }
        | CommunicationError::DeliveryFailed { message_id: _, reason: _ }
        | CommunicationError::EncryptionFailed { reason: _ }
        | CommunicationError::TopicNotFound { topic: _ } => check_clone(&communication),
    }
    let runtime = RuntimeError::Resource(resource);
    match &runtime {
        RuntimeError::Resource(_)
        | RuntimeError::Communication(_)
        | RuntimeError::Security(_)
        | RuntimeError::Scheduler(_)
        | RuntimeError::Lifecycle(_)
        | RuntimeError::ErrorHandler(_)
        | RuntimeError::Configuration(_)
        | RuntimeError::Policy(_)
        | RuntimeError::Sandbox(_)
        | RuntimeError::Audit(_)
        | RuntimeError::Internal(_) => check_clone(&runtime),
    }
    // The errors that the reference names gather in it.
    let gathered: [RuntimeError; 6] = [
        SecurityError::KeyNotFound { key_id: "k".to_owned() }.into(),
        SchedulerError::SchedulingPaused.into(),
        ErrorHandlerError::ShuttingDown.into(),
        ConfigurationError::Missing { key: "k".to_owned() }.into(),
        SandboxError::StorageFull.into(),
        AuditError::StorageFull.into(),
    ];
    assert!(gathered.iter().all(|error| !error.to_string().is_empty()));
}

#[test]
fn every_struct_has_exactly_the_fields_of_the_reference() {
    let now = SystemTime::now();
    let agent_id = AgentId::new();
    let limits = ResourceLimits {
        memory_mb: 512,
        cpu_cores: 1.0,
        disk_io_mbps: 50,
        network_io_mbps: 10,
        execution_timeout: Duration::from_secs(3600),
        idle_timeout: Duration::from_secs(300),
    };
    let usage = ResourceUsage {
        memory_used: 1,
        cpu_usage: 0.5,
        disk_io_rate: 0,
        network_io_rate: 0,
        uptime: Duration::ZERO,
    };
    let config = AgentConfig {
        id: agent_id,
        name: "a".to_owned(),
        dsl_source: "agent a".to_owned(),
        execution_mode: ExecutionMode::Persistent,
        security_tier: SecurityTier::Tier1,
        resource_limits: limits.clone(),
        capabilities: vec![],
        policies: vec![Policy {
            id: "p".to_owned(),
            name: String::new(),
            description: String::new(),
            rules: vec![],
            priority: 0,
            enabled: true,
        }],
        metadata: HashMap::new(),
        priority: Priority::Normal,
    };
    let _ = AgentInstance {
        id: agent_id,
        config,
        state: AgentState::Created,
        created_at: now,
        last_updated: now,
        execution_count: 0_u64,
        error_count: 0_u32,
        restart_count: 0_u32,
    };
    let _ = ResourceAllocation {
        agent_id,
        allocated_at: now,
        limits: limits.clone(),
        current_usage: usage,
    };
    let security_context = SecurityContext {
        tier: SecurityTier::Tier1,
        isolation_level: IsolationLevel::Medium,
        encryption_algorithm: EncryptionAlgorithm::Aes256Gcm,
        signing_key: Some(vec![77]),
        encryption_key: None,
    };
    assert!(!format!("{security_context:?}").contains("77"), "keys are never shown");
    let message = Message {
        id: MessageId::new(),
        from: agent_id,
        to: agent_id,
        topic: "t".to_owned(),
        payload: vec![],
        priority: Priority::Normal,
        ttl: Duration::ZERO,
    };
    let _ = SecureMessage { message, signature: vec![], encrypted_payload: vec![], timestamp: now };
    let _ = ScheduledTask {
        id: TaskId::new(),
        agent_id,
        priority: Priority::Normal,
        scheduled_time: now,
        timeout: Duration::ZERO,
        retry_count: 0_u32,
    };
    let _ = PolicyContext {
        agent_id,
        operation: "fs.read".to_owned(),
        resource_requirements: Some(limits.clone()),
        security_context,
        metadata: HashMap::new(),
    };
    let _ = SandboxConfig {
        agent_id,
        security_tier: SecurityTier::Tier1,
        resource_limits: limits,
        network_config: NetworkConfig::default(),
        filesystem_config: FilesystemConfig::default(),
        environment_variables: HashMap::new(),
    };
    let _ = AuditEvent {
        id: AuditId::new(),
        timestamp: now,
        event_type: AuditEventType::AgentCreated,
        agent_id: Some(agent_id),
        details: String::new(),
        metadata: HashMap::new(),
    };
    let _ = LifecycleConfig {
        initialization_timeout: Duration::ZERO,
        termination_timeout: Duration::ZERO,
        state_check_interval: Duration::ZERO,
        enable_auto_recovery: true,
        max_restart_attempts: 0_u32,
        max_agents: 0_usize,
    };
    let _ = ResourceManagerConfig {
        total_memory: 0_usize,
        total_cpu_cores: 0_u32,
        total_disk_space: 0_usize,
        total_network_bandwidth: 0_usize,
        enforcement_enabled: true,
        auto_scaling_enabled: true,
        resource_reservation_percentage: 0.0_f32,
        monitoring_interval: Duration::ZERO,
    };
    let _ = SchedulerConfig {
        max_concurrent_tasks: 0_usize,
        task_timeout: Duration::ZERO,
        retry_attempts: 0_u32,
        load_balancing_strategy: LoadBalancingStrategy::RoundRobin,
        enable_priority_scheduling: true,
        task_queue_size: 0_usize,
        worker_threads: 0_usize,
        health_check_interval: Duration::ZERO,
    };
    let _ = CommunicationConfig {
        message_ttl: Duration::ZERO,
        max_queue_size: 0_usize,
        delivery_timeout: Duration::ZERO,
        retry_attempts: 0_u32,
        enable_encryption: true,
        enable_compression: true,
        max_message_size: 0_usize,
        dead_letter_queue_size: 0_usize,
    };
    let _ = ErrorHandlerConfig {
        max_error_history: 0_usize,
        error_aggregation_window: Duration::ZERO,
        escalation_threshold: 0_u32,
        circuit_breaker_threshold: 0_u32,
        circuit_breaker_timeout: Duration::ZERO,
        enable_auto_recovery: true,
        max_recovery_attempts: 0_u32,
        recovery_backoff_multiplier: 0.0_f32,
    };
}

#[tokio::test]
async fn every_method_answers_through_its_trait_object() {
    let lifecycle: Arc<dyn LifecycleController> =
        Arc::new(DefaultLifecycleController::new(LifecycleConfig::default()).await.unwrap());
    let resources: Arc<dyn ResourceManager> =
        Arc::new(DefaultResourceManager::new(ResourceManagerConfig::default()).await.unwrap());
    let scheduler: Arc<dyn Scheduler> =
        Arc::new(DefaultScheduler::new(SchedulerConfig::default()).await.unwrap());
    let bus: Arc<dyn CommunicationBus> =
        Arc::new(DefaultCommunicationBus::new(CommunicationConfig::default()).await.unwrap());
    let errors: Arc<dyn ErrorHandler> =
        Arc::new(DefaultErrorHandler::new(ErrorHandlerConfig::default()).await.unwrap());

    // Lifecycle: fourteen methods.
    let agent_config = config("reference", "agent logic", ExecutionMode::Persistent);
    let agent: AgentInstance = lifecycle.create_agent(agent_config.clone()).await.unwrap();
    let id = agent.id;
    let () = lifecycle.initialize_agent(id).await.unwrap();
    let () = lifecycle.start_agent(id).await.unwrap();
    let () = lifecycle.suspend_agent(id).await.unwrap();
    let () = lifecycle.resume_agent(id).await.unwrap();
    let () = lifecycle.update_agent_config(id, agent_config.clone()).await.unwrap();
    let () = lifecycle.restart_agent(id).await.unwrap();
    let _: AgentState = lifecycle.get_agent_state(id).await.unwrap();
    let list: Vec<AgentInstance> = lifecycle.list_agents().await;
    assert!(list.iter().any(|instance| instance.id == id));
    assert_eq!(lifecycle.get_agent(id).await.unwrap().config.name, "reference");
    let status: SystemStatus = lifecycle.get_system_status().await;
    assert_eq!(status.phase, Phase::Running);

    // Resources: nine.
    let limits = agent_config.resource_limits.clone();
    let _: ResourceAllocation = resources.allocate_resources(id, limits.clone()).await.unwrap();
    let () = resources.update_resource_limits(id, limits).await.unwrap();
    let _: ResourceUsage = resources.get_resource_usage(id).await.unwrap();
    let system: SystemResourceStatus = resources.get_system_resources().await;
    assert_eq!(system.allocations, 1);
    assert!(resources.check_resource_violations().await.is_empty());
    let () = resources.set_resource_alerts(id, ResourceThresholds::default()).await.unwrap();
    let _: Vec<ResourceSnapshot> =
        resources.get_resource_history(id, Duration::from_secs(60)).await.unwrap();

    // The bus: ten.
    let () = bus.register_agent(id, vec![Capability::FileSystem]).await.unwrap();
    let () = bus.subscribe_to_topic(id, "topic".to_owned()).await.unwrap();
    assert_eq!(bus.get_agent_topics(id).await.unwrap(), ["topic"]);
    let sent: MessageId = bus.send_message(message(id, id, b"hello")).await.unwrap();
    let _: DeliveryStatus = bus.get_message_status(sent).await.unwrap();
    let copies: Vec<MessageId> =
        bus.broadcast_message("topic".to_owned(), message(id, id, b"all")).await.unwrap();
    assert_eq!(copies.len(), 1);
    let _: Vec<SecureMessage> = bus.receive_messages(id).await.unwrap();
    let () = bus.unsubscribe_from_topic(id, "topic".to_owned()).await.unwrap();

    // The scheduler: ten.
    let mut later = task(id);
    later.scheduled_time += Duration::from_secs(3600);
    let () = scheduler.schedule_task(later.clone()).await.unwrap();
    let _: TaskStatus = scheduler.get_task_status(later.id).await.unwrap();
    assert_eq!(scheduler.list_pending_tasks().await, [later.clone()]);
    let running: Vec<RunningTask> = scheduler.list_running_tasks().await;
    assert!(running.is_empty());
    let () = scheduler.update_task_priority(later.id, Priority::High).await.unwrap();
    let () = scheduler.pause_scheduling().await.unwrap();
    let metrics: SchedulerMetrics = scheduler.get_scheduler_metrics().await;
    assert!(metrics.paused);
    let () = scheduler.resume_scheduling().await.unwrap();
    let () = scheduler.cancel_task(later.id).await.unwrap();

    // The error handler: seven.
    let strategy = RecoveryStrategy::Manual { reason: "look at it".to_owned() };
    let () = errors.register_strategy(ErrorType::SystemError, strategy).await.unwrap();
    let () = errors.set_error_thresholds(id, ErrorThresholds::default()).await.unwrap();
    let error = RuntimeError::Internal("boom".to_owned());
    let action: ErrorAction = errors.handle_error(id, error).await.unwrap();
    assert_eq!(action, ErrorAction::Suspend);
    let statistics: ErrorStatistics = errors.get_error_stats(id).await.unwrap();
    assert_eq!(statistics.total, 1);
    let all: SystemErrorStatistics = errors.get_system_error_stats().await;
    assert_eq!(all.agents_affected, 1);
    let () = errors.clear_error_history(id).await.unwrap();

    // Ends, in the order of the reference's example; each is fine twice.
    for _ in 0..2 {
        let () = lifecycle.terminate_agent(id).await.unwrap();
        let () = resources.deallocate_resources(id).await.unwrap();
        let () = bus.unregister_agent(id).await.unwrap();
    }
    let refused = lifecycle.stop_agent(id).await.unwrap_err();
    assert!(matches!(refused, LifecycleError::InvalidStateTransition { .. }), "{refused}");
    for _ in 0..2 {
        let () = scheduler.shutdown().await.unwrap();
        let () = errors.shutdown().await.unwrap();
        let () = lifecycle.shutdown().await.unwrap();
        let () = bus.shutdown().await.unwrap();
        let () = resources.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn the_three_integrations_answer_through_their_trait_objects() {
    let engine = PolicyEngineConfig { profile: Profile::Dev, ..PolicyEngineConfig::default() };
    let policy: Arc<dyn PolicyEngine> = Arc::new(DefaultPolicyEngine::new(engine).await.unwrap());
    let audit: Arc<dyn AuditTrail> =
        Arc::new(DefaultAuditTrail::new(AuditTrailConfig::default()).await.unwrap());
    let sandbox: Arc<dyn SandboxOrchestrator> = Arc::new(
        DefaultSandboxOrchestrator::new(SandboxOrchestratorConfig::default()).await.unwrap(),
    );

    // Policy: six methods.
    let agent_config = config("reference", "agent logic", ExecutionMode::Persistent);
    let result: PolicyValidationResult = policy.validate_agent_config(&agent_config).await.unwrap();
    assert!(result.valid, "{:?}", result.errors);
    let id = agent_config.id;
    let context = PolicyContext {
        agent_id: id,
        operation: "fs.read:/a".to_owned(),
        resource_requirements: None,
        security_context: SecurityContext::default(),
        metadata: HashMap::new(),
    };
    assert!(policy.check_operation_allowed(id, "fs.read:/a", &context).await.unwrap());
    let unknown = policy.get_agent_policies(id).await.unwrap_err();
    assert!(matches!(unknown, PolicyError::NotFound { .. }));
    let own = Policy {
        id: "no-reading".to_owned(),
        name: "no reading".to_owned(),
        description: String::new(),
        rules: vec![PolicyRule::new("deny", PolicyEffect::Deny, ["fs.read"])],
        priority: 1,
        enabled: true,
    };
    let () = policy.update_policy(own).await.unwrap();
    assert!(!policy.check_operation_allowed(id, "fs.read:/a", &context).await.unwrap());
    let decision: PolicyDecision =
        policy.evaluate_policy("no-reading".to_owned(), &context).await.unwrap();
    assert_eq!(decision.effect, Some(PolicyEffect::Deny));
    let () = policy.delete_policy("no-reading".to_owned()).await.unwrap();
    assert!(policy.check_operation_allowed(id, "fs.read:/a", &context).await.unwrap());

    // The audit trail: five.
    let event = AuditEvent {
        id: AuditId::new(),
        timestamp: SystemTime::now(),
        event_type: AuditEventType::SecurityEvent,
        agent_id: Some(id),
        details: "seen".to_owned(),
        metadata: HashMap::new(),
    };
    let recorded: AuditId = audit.record_event(event.clone()).await.unwrap();
    assert_eq!(recorded, event.id);
    assert_eq!(audit.get_event(recorded).await.unwrap().details, "seen");
    let found: Vec<AuditEvent> = audit.query_events(AuditQuery::default()).await.unwrap();
    assert_eq!(found.len(), 1);
    let report: IntegrityReport =
        audit.verify_integrity(SystemTime::UNIX_EPOCH, SystemTime::now()).await.unwrap();
    assert_eq!((report.verdict, report.events_checked), (Verdict::Intact, 1));
    let lines: Vec<u8> =
        audit.export_events(AuditQuery::default(), ExportFormat::JsonLines).await.unwrap();
    assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), 2, "a record and the receipt");

    // The sandbox orchestrator: eight.
    let unknown = SandboxId::new();
    let refused = sandbox.get_sandbox_status(unknown).await.unwrap_err();
    assert_eq!(refused, SandboxError::NotFound { sandbox_id: unknown });
    let sandbox_config = SandboxConfig {
        agent_id: id,
        security_tier: SecurityTier::Tier1,
        resource_limits: agent_config.resource_limits,
        network_config: NetworkConfig::default(),
        filesystem_config: FilesystemConfig { scratch_mb: 16, ..FilesystemConfig::default() },
        environment_variables: HashMap::new(),
    };
    let weaker = SandboxConfig { security_tier: SecurityTier::Tier3, ..sandbox_config.clone() };
    let refused = sandbox.create_sandbox(weaker).await.unwrap_err();
    assert!(matches!(refused, SandboxError::TierUnavailable { tier: SecurityTier::Tier3, .. }));
    let made: SandboxId = sandbox.create_sandbox(sandbox_config).await.unwrap();
    let () = sandbox.start_sandbox(made).await.unwrap();
    assert_eq!(sandbox.get_sandbox_status(made).await.unwrap(), SandboxStatus::Running);
    let result: CommandResult =
        sandbox.execute_command(made, "echo", vec!["hello".to_owned()]).await.unwrap();
    assert_eq!((result.stdout.as_slice(), result.exit_code), (&b"hello\n"[..], Some(0)));
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("in"), "content").unwrap();
    let () = sandbox.upload_file(made, &path("in"), "/workspace/copy").await.unwrap();
    let () = sandbox.download_file(made, "/workspace/copy", &path("out")).await.unwrap();
    assert_eq!(std::fs::read_to_string(path("out")).unwrap(), "content");
    let () = sandbox.stop_sandbox(made).await.unwrap();
    let () = sandbox.destroy_sandbox(made).await.unwrap();
    let () = sandbox.destroy_sandbox(made).await.unwrap();
}

/// `Send + Sync`, object-safe, and shareable: what a service needs of a component.
#[test]
fn components_can_be_shared() {
    fn shareable<T: ?Sized + Send + Sync>() {}
    shareable::<dyn LifecycleController>();
    shareable::<dyn ResourceManager>();
    shareable::<dyn Scheduler>();
    shareable::<dyn CommunicationBus>();
    shareable::<dyn ErrorHandler>();
    shareable::<dyn PolicyEngine>();
    shareable::<dyn SandboxOrchestrator>();
    shareable::<dyn AuditTrail>();
    shareable::<Runtime>();
}

/// Whether to ask again, and whether that may do something twice.
#[test]
fn a_failure_of_a_sandbox_says_what_asking_again_means() {
    let text = || "x".to_owned();
    let lost = SandboxError::AgentLost { cause: text() };
    let silent = SandboxError::BackendUnavailable { reason: text() };
    let late = SandboxError::Timeout { operation: text(), after: Duration::from_secs(1) };
    let busy = SandboxError::ResourceLimit { kind: text() };
    let wrong = SandboxError::InvalidArgument { what: text() };
    let missing = SandboxError::ExecFailed { command: text(), reason: text(), missing: true };
    for (error, retryable, known) in [
        (lost, false, false),
        (silent, true, false),
        (late, true, false),
        (busy, true, true),
        (wrong, false, true),
        (missing, false, true),
        (SandboxError::StorageFull, false, true),
        (SandboxError::ShuttingDown, false, false),
    ] {
        assert_eq!((error.retryable(), error.outcome_known()), (retryable, known), "{error:?}");
    }
}
