//! What the tests share: configs, programs and a runtime that allows what no policy speaks of.

use symbiont_runtime::*;

/// A config of an agent with this program, of modest limits.
pub(crate) fn config(name: &str, source: &str, mode: ExecutionMode) -> AgentConfig {
    AgentConfig {
        id: AgentId::new(),
        name: name.to_owned(),
        dsl_source: source.to_owned(),
        execution_mode: mode,
        security_tier: SecurityTier::Tier1,
        resource_limits: ResourceLimits {
            memory_mb: 64,
            cpu_cores: 0.1,
            network_io_mbps: 0,
            ..ResourceLimits::default()
        },
        capabilities: vec![],
        policies: vec![],
        metadata: HashMap::new(),
        priority: Priority::Normal,
    }
}

/// A runtime in memory, in the dev profile, with `adjust`ed settings.
pub(crate) async fn runtime(adjust: impl FnOnce(&mut RuntimeConfig)) -> Runtime {
    let mut config = RuntimeConfig { profile: Profile::Dev, ..RuntimeConfig::default() };
    adjust(&mut config);
    Runtime::open(config).await.expect("the runtime opens")
}

/// Creates, initializes and starts an agent; its id.
pub(crate) async fn started(runtime: &Runtime, config: AgentConfig) -> AgentId {
    let id = config.id;
    let lifecycle = runtime.lifecycle();
    lifecycle.create_agent(config).await.expect("the agent is created");
    lifecycle.initialize_agent(id).await.expect("the agent initializes");
    lifecycle.start_agent(id).await.expect("the agent starts");
    id
}

/// Runs an ephemeral agent of this program once, with an input; how the run ended.
pub(crate) async fn run(runtime: &Runtime, source: &str, input: &str) -> RunOutcome {
    let config = config("test", source, ExecutionMode::Ephemeral);
    let id = config.id;
    let lifecycle = runtime.lifecycle();
    lifecycle.create_agent(config).await.expect("the agent is created");
    lifecycle.initialize_agent(id).await.expect("the agent initializes");
    lifecycle.start_agent_with_input(id, input).await.expect("the agent starts");
    let report = lifecycle.settled(id).await.expect("the agent exists").expect("it has run");
    report.outcome.clone()
}

/// A task for an agent, due now.
pub(crate) fn task(agent_id: AgentId) -> ScheduledTask {
    ScheduledTask {
        id: TaskId::new(),
        agent_id,
        priority: Priority::Normal,
        scheduled_time: SystemTime::now(),
        timeout: Duration::from_secs(60),
        retry_count: 0,
    }
}

/// A message between two agents.
pub(crate) fn message(from: AgentId, to: AgentId, payload: &[u8]) -> Message {
    Message {
        id: MessageId::new(),
        from,
        to,
        topic: "test".to_owned(),
        payload: payload.to_vec(),
        priority: Priority::Normal,
        ttl: Duration::from_secs(60),
    }
}

/// Every audit record of this kind, the oldest first.
pub(crate) async fn records(runtime: &Runtime, kind: &str) -> Vec<AuditEvent> {
    let query = AuditQuery {
        kinds: vec![kind.to_owned()],
        order: AuditOrder::OldestFirst,
        limit: Some(100_000),
        ..AuditQuery::default()
    };
    runtime.audit().query_events(query).await.expect("the trail can be read")
}

/// What a run returned, or how it failed and whether the same again might succeed.
pub(crate) fn told(outcome: RunOutcome) -> String {
    match outcome {
        RunOutcome::Returned(json) => json.to_string(),
        RunOutcome::Failed(failure) => {
            format!("{}: {} [{}]", failure.kind, failure.message, failure.retryable)
        }
        RunOutcome::Cancelled(by) => by,
    }
}
