//! The error handler: what is decided is carried out, counted and on record.

use symbiont_runtime::*;

use crate::support::{config, records, runtime, started};

async fn resting(runtime: &Runtime) -> AgentId {
    let agent = started(runtime, config("a", "agent a", ExecutionMode::Persistent)).await;
    runtime.lifecycle().settled(agent).await.expect("it rests");
    agent
}

fn of(kind: ErrorType) -> RuntimeError {
    match kind {
        ErrorType::ResourceExhaustion => SchedulerError::QueueFull { capacity: 1 }.into(),
        ErrorType::NetworkError => {
            let (message_id, reason) = (MessageId::new(), "lost".to_owned());
            CommunicationError::DeliveryFailed { message_id, reason }.into()
        }
        ErrorType::SecurityViolation => {
            SecurityError::KeyNotFound { key_id: "k".to_owned() }.into()
        }
        ErrorType::PolicyViolation => PolicyError::NotFound { policy_id: "p".to_owned() }.into(),
        ErrorType::SystemError => RuntimeError::Internal("broken".to_owned()),
        ErrorType::ValidationError => ConfigurationError::Missing { key: "k".to_owned() }.into(),
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_decided_is_done() {
    use AgentState::{Suspended, Terminated, Waiting};
    let retry = RecoveryStrategy::Retry { max_attempts: 2, backoff: Duration::from_secs(1) };
    let cases: [(ErrorType, Option<RecoveryStrategy>, &str, AgentState); 8] = [
        (ErrorType::NetworkError, None, "Retry", Waiting),
        (ErrorType::ResourceExhaustion, None, "Retry", Waiting),
        (ErrorType::SystemError, None, "Restart", Waiting),
        (ErrorType::ValidationError, None, "Suspend", Suspended),
        (ErrorType::SecurityViolation, None, "Terminate", Terminated),
        (ErrorType::SecurityViolation, Some(retry), "Retry", Waiting),
        (ErrorType::SystemError, Some(RecoveryStrategy::None), "Suspend", Suspended),
        (
            ErrorType::NetworkError,
            Some(RecoveryStrategy::Terminate { cleanup: true }),
            "Terminate",
            Terminated,
        ),
    ];
    for (kind, strategy, action, state) in cases {
        let runtime = runtime(|_| {}).await;
        let agent = resting(&runtime).await;
        let before = runtime.lifecycle().get_agent(agent).await.expect("it is there");
        if let Some(strategy) = strategy {
            runtime.errors().register_strategy(kind, strategy).await.expect("it makes sense");
        }
        let done = runtime.errors().handle_error(agent, of(kind)).await.expect("it is done");
        assert!(format!("{done:?}").starts_with(action), "{kind:?}: {done:?}");
        runtime.lifecycle().settled(agent).await.expect("it rests");
        let after = runtime.lifecycle().get_agent(agent).await.expect("it is there");
        assert_eq!(after.state, state, "{kind:?}");
        let restarted = after.execution_count - before.execution_count;
        assert_eq!(restarted, u64::from(action == "Restart"), "{kind:?}");
        let [noted] = &records(&runtime, "error.handled").await[..] else { panic!("{kind:?}") };
        assert_eq!(noted.metadata["action"], action);
        assert_eq!(noted.metadata["error_type"], format!("{kind:?}"));
        let stats = runtime.errors().get_error_stats(agent).await.expect("it is known");
        assert_eq!((stats.total, stats.by_type[&kind], stats.actions[action]), (1, 1, 1));
        let all = runtime.errors().get_system_error_stats().await;
        assert_eq!((all.total, all.agents_affected, &all.worst[..]), (1, 1, &[(agent, 1)][..]));
    }
}

#[tokio::test]
async fn thresholds_of_an_agent_come_first() {
    let runtime = runtime(|_| {}).await;
    let agent = resting(&runtime).await;
    let thresholds = ErrorThresholds {
        max_errors: 3,
        action_on_breach: ErrorAction::Terminate,
        ..ErrorThresholds::default()
    };
    for bad in [
        ErrorThresholds { max_errors: 0, ..thresholds.clone() },
        ErrorThresholds { max_consecutive: 0, ..thresholds.clone() },
        ErrorThresholds { window: Duration::ZERO, ..thresholds.clone() },
        ErrorThresholds { per_type: [(ErrorType::SystemError, 0)].into(), ..thresholds.clone() },
    ] {
        let refused = runtime.errors().set_error_thresholds(agent, bad).await;
        assert!(matches!(refused, Err(ErrorHandlerError::InvalidThreshold { .. })), "{refused:?}");
    }
    runtime.errors().set_error_thresholds(agent, thresholds).await.expect("it makes sense");
    for count in 1..=3 {
        let error = of(ErrorType::NetworkError);
        let done = runtime.errors().handle_error(agent, error).await.expect("it is done");
        assert_eq!(done == ErrorAction::Terminate, count == 3, "{count}: {done:?}");
    }
    assert_eq!(runtime.lifecycle().get_agent_state(agent).await, Ok(AgentState::Terminated));
    let gone = runtime.errors().handle_error(agent, of(ErrorType::NetworkError)).await;
    assert_eq!(gone, Err(ErrorHandlerError::AgentNotFound { agent_id: agent }));
}

#[tokio::test]
async fn a_cleared_history_is_empty_and_a_closed_handler_says_so() {
    let runtime = runtime(|_| {}).await;
    let agent = resting(&runtime).await;
    let errors = runtime.errors();
    errors.handle_error(agent, of(ErrorType::NetworkError)).await.expect("it is done");
    errors.clear_error_history(agent).await.expect("it is known");
    let stats = errors.get_error_stats(agent).await.expect("it is known");
    assert_eq!((stats.total, stats.breakers.len()), (0, 0));
    for strategy in [
        RecoveryStrategy::Retry { max_attempts: 0, backoff: Duration::ZERO },
        RecoveryStrategy::Retry { max_attempts: u32::MAX, backoff: Duration::MAX },
        RecoveryStrategy::Manual { reason: " ".to_owned() },
        RecoveryStrategy::Failover { backup_agent: Some(AgentId::new()) },
    ] {
        let refused = errors.register_strategy(ErrorType::NetworkError, strategy).await;
        assert!(matches!(refused, Err(ErrorHandlerError::InvalidStrategy { .. })), "{refused:?}");
    }
    errors.shutdown().await.expect("it closes");
    errors.shutdown().await.expect("again is fine");
    let refused = errors.handle_error(agent, of(ErrorType::NetworkError)).await;
    assert_eq!(refused, Err(ErrorHandlerError::ShuttingDown));
}

/// `count` errors of a kind in a row; what was done about the last one.
async fn fails(runtime: &Runtime, agent: AgentId, kind: ErrorType, count: usize) -> ErrorAction {
    let mut last = None;
    for _ in 0..count {
        let done = runtime.errors().handle_error(agent, of(kind)).await;
        last = Some(done.expect("it is done"));
    }
    last.expect("there was one")
}

async fn breaker(runtime: &Runtime, agent: AgentId) -> BreakerStatus {
    let stats = runtime.errors().get_error_stats(agent).await.expect("it is known");
    let [breaker] = &stats.breakers[..] else { panic!("{:?}", stats.breakers) };
    breaker.clone()
}

#[tokio::test]
async fn denials_are_a_normal_result_until_they_repeat() {
    let counted = ErrorAction::Retry { max_attempts: 0, backoff: Duration::ZERO };
    let runtime = runtime(|config| config.errors.escalation_threshold = 4).await;
    let agent = resting(&runtime).await;
    for count in 1..=3 {
        let done = fails(&runtime, agent, ErrorType::PolicyViolation, 1).await;
        assert_eq!(done, counted, "{count}");
    }
    assert_eq!(runtime.lifecycle().get_agent_state(agent).await, Ok(AgentState::Waiting));
    let done = fails(&runtime, agent, ErrorType::PolicyViolation, 1).await;
    assert_eq!(done, ErrorAction::Suspend);
    assert_eq!(runtime.lifecycle().get_agent_state(agent).await, Ok(AgentState::Suspended));
    let stats = runtime.errors().get_error_stats(agent).await.expect("it is known");
    assert_eq!((stats.total, stats.actions["None"], stats.actions["Suspend"]), (4, 3, 1));
    assert_eq!(records(&runtime, "error.escalated").await.len(), 1);
}

#[tokio::test]
async fn the_defaults_reach_every_retry_and_then_put_the_agent_aside() {
    for (kind, retries) in [(ErrorType::NetworkError, 5), (ErrorType::ResourceExhaustion, 3)] {
        let runtime = runtime(|_| {}).await;
        let agent = resting(&runtime).await;
        for left in (1..=retries).rev() {
            let done = fails(&runtime, agent, kind, 1).await;
            let ErrorAction::Retry { max_attempts, .. } = done else { panic!("{kind:?} {done:?}") };
            assert_eq!(max_attempts, left, "{kind:?}");
        }
        assert_eq!(fails(&runtime, agent, kind, 1).await, ErrorAction::Suspend, "{kind:?}");
    }
}

#[tokio::test]
async fn what_had_an_effect_is_put_aside_for_a_person_and_not_run_again() {
    let runtime = runtime(|_| {}).await;
    let source = r#"agent once() {
        policy work { allow: exec("true", args) }
        with sandbox = "tier1" { exec("true", []); exec("no such program", []); }
    }"#;
    let strategy = RecoveryStrategy::Restart { preserve_state: true };
    for kind in ErrorType::ALL {
        runtime.errors().register_strategy(kind, strategy.clone()).await.expect("it makes sense");
    }
    let mut feed = runtime.watch();
    let outcome = crate::support::run(&runtime, source, "{}").await;
    assert!(matches!(outcome, RunOutcome::Failed(_)), "{outcome:?}");
    let handled = loop {
        let event = feed.recv().await.expect("the feed goes on");
        if event.metadata["kind"] == "error.handled" {
            break event;
        }
    };
    if records(&runtime, "sandbox.exec").await.is_empty() {
        println!("not run: this host has no tier 1");
        return;
    }
    assert_eq!(handled.metadata["action"], "Suspend");
    assert_eq!(handled.metadata["outcome"], "unknown");
    assert!(handled.details.contains("an operator has to look"), "{}", handled.details);
    assert_eq!(records(&runtime, "run.started").await.len(), 1);
}

#[tokio::test]
async fn a_breach_that_asks_for_a_backup_puts_the_agent_aside() {
    let runtime = runtime(|_| {}).await;
    let agent = resting(&runtime).await;
    let thresholds = ErrorThresholds {
        max_errors: 1,
        action_on_breach: ErrorAction::Failover,
        ..ErrorThresholds::default()
    };
    runtime.errors().set_error_thresholds(agent, thresholds.clone()).await.expect("it fits");
    assert_eq!(fails(&runtime, agent, ErrorType::NetworkError, 1).await, ErrorAction::Suspend);
    assert_eq!(runtime.lifecycle().get_agent_state(agent).await, Ok(AgentState::Suspended));
    for bad in [
        ErrorThresholds { max_errors: 1001, ..thresholds.clone() },
        ErrorThresholds {
            per_type: [(ErrorType::NetworkError, 1001)].into(),
            ..thresholds.clone()
        },
        ErrorThresholds {
            action_on_breach: ErrorAction::Retry { max_attempts: 0, backoff: Duration::ZERO },
            ..thresholds
        },
    ] {
        let refused = runtime.errors().set_error_thresholds(agent, bad).await;
        assert!(matches!(refused, Err(ErrorHandlerError::InvalidThreshold { .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn an_open_breaker_outlives_the_process_and_is_half_open_in_time() {
    let directory = tempfile::tempdir().expect("a directory");
    let now = SystemTime::now();
    let open = async |now| {
        runtime(|config| {
            config.data_dir = Some(directory.path().to_owned());
            config.clock = Clock::anchored(now);
            config.errors.circuit_breaker_threshold = 2;
        })
        .await
    };
    let first = open(now).await;
    let agent = resting(&first).await;
    assert_eq!(fails(&first, agent, ErrorType::NetworkError, 2).await, ErrorAction::Suspend);
    let before = breaker(&first, agent).await;
    assert_eq!(before.state, BreakerState::Open);
    assert!(first.shutdown().await.is_empty());
    drop(first);
    let second = open(now + Duration::from_secs(1)).await;
    let there = breaker(&second, agent).await;
    assert_eq!(there.state, BreakerState::Open);
    let drift = before.retry_at.expect("it is open").duration_since(there.retry_at.expect("open"));
    assert!(drift.expect("not later") < Duration::from_micros(1));
    assert_eq!(second.errors().get_system_error_stats().await.breakers_open, 1);
    assert!(second.shutdown().await.is_empty());
    drop(second);
    let third = open(now + Duration::from_secs(120)).await;
    let there = breaker(&third, agent).await;
    assert_eq!((there.state, there.retry_at), (BreakerState::HalfOpen, None));
    third.errors().clear_error_history(agent).await.expect("it is known");
    assert!(third.shutdown().await.is_empty());
    drop(third);
    let fourth = open(now + Duration::from_secs(121)).await;
    assert_eq!(fourth.errors().get_system_error_stats().await.breakers_open, 0);
    fourth.shutdown().await;
}
