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
    let cases: [(ErrorType, Option<RecoveryStrategy>, &str, AgentState); 9] = [
        (ErrorType::NetworkError, None, "Retry", Waiting),
        (ErrorType::ResourceExhaustion, None, "Retry", Waiting),
        (ErrorType::SystemError, None, "Restart", Waiting),
        (ErrorType::ValidationError, None, "Suspend", Suspended),
        (ErrorType::PolicyViolation, None, "Suspend", Suspended),
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
