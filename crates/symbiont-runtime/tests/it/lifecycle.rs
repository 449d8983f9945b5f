//! The life of agents, seen from outside.

use std::sync::Arc;

use symbiont_runtime::*;

use crate::support::{config, message, records, run, runtime, started, task};

const LOOP: &str = "agent busy { with { while true { } } }";

#[tokio::test]
async fn each_transition_of_the_table_is_driven_from_outside() {
    let runtime = runtime(|_| {}).await;
    let lifecycle = runtime.lifecycle();
    let mut walk = Vec::new();
    let agent = config("walker", "agent walker", ExecutionMode::Persistent);
    let id = agent.id;
    let controller = std::sync::Arc::clone(runtime.lifecycle());
    let state = || async { controller.get_agent_state(id).await.unwrap() };
    lifecycle.create_agent(agent).await.unwrap();
    walk.push(state().await);
    lifecycle.initialize_agent(id).await.unwrap();
    walk.push(state().await);
    lifecycle.start_agent(id).await.unwrap();
    lifecycle.settled(id).await.unwrap();
    walk.push(state().await);
    lifecycle.suspend_agent(id).await.unwrap();
    walk.push(state().await);
    lifecycle.resume_agent(id).await.unwrap();
    walk.push(state().await);
    lifecycle.stop_agent(id).await.unwrap();
    walk.push(state().await);
    lifecycle.restart_agent(id).await.unwrap();
    lifecycle.settled(id).await.unwrap();
    walk.push(state().await);
    lifecycle.terminate_agent(id).await.unwrap();
    walk.push(state().await);
    use AgentState::{Created, Ready, Suspended, Terminated, Waiting};
    assert_eq!(walk, [Created, Ready, Waiting, Suspended, Waiting, Ready, Waiting, Terminated]);
}

#[tokio::test]
async fn what_may_not_follow_is_refused_with_both_states() {
    let runtime = runtime(|_| {}).await;
    let lifecycle = runtime.lifecycle();
    let agent = config("strict", "agent strict", ExecutionMode::Ephemeral);
    let id = agent.id;
    lifecycle.create_agent(agent).await.unwrap();
    let refused = lifecycle.start_agent(id).await.unwrap_err();
    assert_eq!(refused.to_string(), "an agent cannot go from Created to Running");
    assert!(lifecycle.suspend_agent(id).await.is_err());
    assert!(lifecycle.resume_agent(id).await.is_err());
    assert!(lifecycle.stop_agent(id).await.is_err());
    assert!(lifecycle.restart_agent(id).await.is_err(), "there is nothing to restart");
    assert_eq!(lifecycle.get_agent_state(id).await.unwrap(), AgentState::Created);
    lifecycle.terminate_agent(id).await.unwrap();
    assert!(lifecycle.restart_agent(id).await.is_err());
    assert!(lifecycle.initialize_agent(id).await.is_err());
}

#[tokio::test]
async fn a_hundred_callers_create_exactly_as_many_agents_as_there_may_be() {
    let runtime = Arc::new(runtime(|config| config.lifecycle.max_agents = 50).await);
    let barrier = Arc::new(tokio::sync::Barrier::new(100));
    let mut callers = tokio::task::JoinSet::new();
    for number in 0..100 {
        let (runtime, barrier) = (Arc::clone(&runtime), Arc::clone(&barrier));
        callers.spawn(async move {
            let agent = config(&format!("agent-{number}"), "agent a", ExecutionMode::Ephemeral);
            barrier.wait().await;
            runtime.lifecycle().create_agent(agent).await
        });
    }
    let outcomes = callers.join_all().await;
    let (created, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!((created.len(), refused.len()), (50, 50));
    for error in refused {
        let error = error.unwrap_err();
        assert!(
            matches!(&error, LifecycleError::ConfigurationInvalid { reason } if reason.contains("max_agents"))
        );
    }
    // A terminated one makes room.
    let one = created.into_iter().next().unwrap().unwrap().id;
    runtime.lifecycle().terminate_agent(one).await.unwrap();
    let another = config("another", "agent a", ExecutionMode::Ephemeral);
    runtime.lifecycle().create_agent(another).await.unwrap();
}

#[tokio::test]
async fn an_ephemeral_agent_completes_and_a_task_runs_it_again() {
    let runtime = runtime(|_| {}).await;
    let source = "agent square(x: int) { with { return x * x; } }";
    let agent = config("square", source, ExecutionMode::Ephemeral);
    let id = agent.id;
    runtime.lifecycle().create_agent(agent).await.unwrap();
    runtime.lifecycle().initialize_agent(id).await.unwrap();
    runtime.lifecycle().start_agent_with_input(id, r#"{"x": 7}"#).await.unwrap();
    let report = runtime.lifecycle().settled(id).await.unwrap().unwrap();
    assert_eq!(report.outcome, RunOutcome::Returned("49".into()));
    assert_eq!(runtime.lifecycle().get_agent_state(id).await.unwrap(), AgentState::Completed);

    let again = task(id);
    runtime.scheduler().schedule_task_with_input(again.clone(), "12").await.unwrap();
    let status = runtime.scheduler().ended(again.id).await.unwrap();
    assert!(matches!(status, TaskStatus::Completed { .. }), "{status:?}");
    assert_eq!(runtime.scheduler().result(again.id).await.unwrap().as_deref(), Some("144"));
    assert_eq!(runtime.lifecycle().get_agent(id).await.unwrap().execution_count, 2);
}

#[tokio::test]
async fn an_agent_that_lacks_its_input_waits_for_its_first_task() {
    let runtime = runtime(|_| {}).await;
    for mode in [ExecutionMode::Ephemeral, ExecutionMode::Persistent] {
        let source = "agent needy(x: int) { with { return x; } }";
        let id = started(&runtime, config("needy", source, mode)).await;
        runtime.lifecycle().settled(id).await.unwrap();
        assert_eq!(runtime.lifecycle().get_agent_state(id).await.unwrap(), AgentState::Waiting);
    }
}

#[tokio::test]
async fn a_persistent_agent_runs_its_handlers_on_start_message_and_stop() {
    let runtime = runtime(|_| {}).await;
    let source = r#"
        agent host {
            on start { log("info", "started"); }
            on message(topic, payload) { log("info", "got " + payload.text + " on " + topic); }
            on stop { log("info", "stopped"); }
        }"#;
    let id = started(&runtime, config("host", source, ExecutionMode::Persistent)).await;
    runtime.lifecycle().settled(id).await.unwrap();
    let mut feed = runtime.watch();
    let sent = runtime.bus().send_message(message(id, id, br#"{"text": "hello"}"#)).await.unwrap();
    loop {
        let event = feed.recv().await.unwrap();
        if event.metadata["kind"] == "run.completed" {
            break;
        }
    }
    runtime.lifecycle().settled(id).await.unwrap();
    assert_eq!(runtime.bus().get_message_status(sent).await.unwrap(), DeliveryStatus::Delivered);
    runtime.lifecycle().stop_agent(id).await.unwrap();
    let logs: Vec<String> =
        records(&runtime, "log").await.into_iter().map(|event| event.details).collect();
    assert_eq!(logs, ["started", "got hello on test", "stopped"]);
}

#[tokio::test]
async fn an_event_driven_agent_runs_once_for_each_message_in_order() {
    let runtime = runtime(|_| {}).await;
    let source = "agent counter(n: int) { with { log(\"info\", \"saw {}\".length); print(n); } }";
    let id = started(&runtime, config("counter", source, ExecutionMode::EventDriven)).await;
    runtime.lifecycle().settled(id).await.unwrap();
    let mut feed = runtime.watch();
    for number in 0..20 {
        let payload = number.to_string();
        runtime.bus().send_message(message(id, id, payload.as_bytes())).await.unwrap();
    }
    let mut seen = Vec::new();
    while seen.len() < 20 {
        let event = feed.recv().await.unwrap();
        if event.metadata["kind"] == "print" {
            seen.push(event.details.clone());
        }
    }
    let want: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    assert_eq!(seen, want);
}

#[tokio::test(start_paused = true)]
async fn a_scheduled_agent_runs_at_its_interval_until_it_is_stopped() {
    let runtime = runtime(|config| config.clock = Clock::anchored(SystemTime::now())).await;
    let interval = Duration::from_secs(60);
    let source = "agent ticker { with { log(\"info\", \"tick\"); } }";
    let id =
        started(&runtime, config("ticker", source, ExecutionMode::Scheduled { interval })).await;
    let mut feed = runtime.watch();
    let mut at = Vec::new();
    while at.len() < 3 {
        let event = feed.recv().await.unwrap();
        if event.metadata["kind"] == "log" {
            at.push(event.timestamp);
        }
    }
    let created = runtime.lifecycle().get_agent(id).await.unwrap().created_at;
    for (number, at) in at.iter().enumerate() {
        let expected = interval * u32::try_from(number + 1).unwrap();
        let late = at.duration_since(created).unwrap().abs_diff(expected);
        assert!(late < Duration::from_secs(1), "tick {number} was {late:?} off");
    }
    runtime.lifecycle().stop_agent(id).await.unwrap();
    let before = runtime.lifecycle().get_agent(id).await.unwrap().execution_count;
    tokio::time::advance(interval * 3).await;
    assert_eq!(runtime.lifecycle().get_agent(id).await.unwrap().execution_count, before);
}

/// One instruction may be most of a run, and is left in its middle like any other.
#[tokio::test]
async fn a_run_is_cancelled_in_the_middle_of_an_instruction() {
    // A thousand states for each of sixteen million letters.
    let source = r#"agent searcher { with {
        let text = "ab".repeat(8000000);
        log("info", "now");
        regex_match(text, "[ab]*a[ab]{2000}[^ab]")
    } }"#;
    let runtime = runtime(|config| config.resources.enforcement_enabled = false).await;
    let lifecycle = runtime.lifecycle();
    let mut watch = runtime.watch();
    let id = started(&runtime, config("searcher", source, ExecutionMode::Persistent)).await;
    while watch.recv().await.expect("the runtime is there").metadata["kind"] != "log" {}
    // The run has a turn between two of this test's.
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    let began = std::time::Instant::now();
    lifecycle.stop_agent(id).await.unwrap();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(2), "stopping took {took:?}");
    let report = lifecycle.settled(id).await.unwrap().unwrap();
    assert!(matches!(report.outcome, RunOutcome::Cancelled(_)), "{:?}", report.outcome);
    // Making the text is a sixteenth of a step for each byte; the search would use all there are.
    let steps = report.steps;
    assert!((1_200_000..50_000_000).contains(&steps), "{steps} steps");
}

#[tokio::test]
async fn a_busy_agent_is_suspended_resumed_stopped_and_ended_at_a_step() {
    let runtime = runtime(|_| {}).await;
    let lifecycle = runtime.lifecycle();
    let id = started(&runtime, config("busy", LOOP, ExecutionMode::Persistent)).await;
    assert_eq!(lifecycle.get_agent_state(id).await.unwrap(), AgentState::Running);
    lifecycle.suspend_agent(id).await.unwrap();
    assert_eq!(lifecycle.get_agent_state(id).await.unwrap(), AgentState::Suspended);
    lifecycle.resume_agent(id).await.unwrap();
    assert_eq!(lifecycle.get_agent_state(id).await.unwrap(), AgentState::Running);
    lifecycle.stop_agent(id).await.unwrap();
    assert_eq!(lifecycle.get_agent_state(id).await.unwrap(), AgentState::Ready);
    let report = lifecycle.settled(id).await.unwrap().unwrap();
    assert!(matches!(report.outcome, RunOutcome::Cancelled(_)), "{:?}", report.outcome);

    let id = started(&runtime, config("busy", LOOP, ExecutionMode::Persistent)).await;
    lifecycle.suspend_agent(id).await.unwrap();
    lifecycle.terminate_agent(id).await.unwrap();
    assert_eq!(lifecycle.get_agent_state(id).await.unwrap(), AgentState::Terminated);
}

#[tokio::test]
async fn a_run_that_takes_too_long_is_ended_and_the_agent_has_failed() {
    let runtime = runtime(|config| config.errors.enable_auto_recovery = false).await;
    let mut agent = config("slow", LOOP, ExecutionMode::Ephemeral);
    agent.resource_limits.execution_timeout = Duration::from_millis(50);
    let id = started(&runtime, agent).await;
    let report = runtime.lifecycle().settled(id).await.unwrap().unwrap();
    let RunOutcome::Failed(failure) = &report.outcome else { panic!("{:?}", report.outcome) };
    assert_eq!(failure.kind, "Timeout");
    assert_eq!(runtime.lifecycle().get_agent_state(id).await.unwrap(), AgentState::Failed);
    assert!(runtime.lifecycle().failure(id).unwrap().unwrap().contains("took longer"));
}

#[tokio::test]
async fn a_program_with_faults_does_not_initialize_and_says_why() {
    let runtime = runtime(|config| config.lifecycle.enable_auto_recovery = false).await;
    let agent = config("faulty", "agent faulty { with { return 1 +; } }", ExecutionMode::Ephemeral);
    let id = agent.id;
    runtime.lifecycle().create_agent(agent).await.unwrap();
    let error = runtime.lifecycle().initialize_agent(id).await.unwrap_err();
    let LifecycleError::InitializationFailed { reason, .. } = &error else { panic!("{error}") };
    assert!(reason.contains("error[E"), "{reason}");
    assert_eq!(runtime.lifecycle().get_agent_state(id).await.unwrap(), AgentState::Failed);
}

#[tokio::test]
async fn an_instruction_fails_for_want_of_a_model() {
    let runtime = runtime(|config| config.errors.enable_auto_recovery = false).await;
    let outcome = run(&runtime, "Summarise the news of the day.", "{}").await;
    let RunOutcome::Failed(failure) = outcome else { panic!("{outcome:?}") };
    assert_eq!(failure.kind, "ModelError");
    assert!(failure.message.contains("no model provider is configured"), "{failure}");
}

#[tokio::test]
async fn a_changed_config_applies_now_or_at_the_next_initialization() {
    let runtime = runtime(|_| {}).await;
    let lifecycle = runtime.lifecycle();
    let agent = config("changing", "agent a { with { return 1; } }", ExecutionMode::Persistent);
    let id = agent.id;
    started(&runtime, agent.clone()).await;
    lifecycle.settled(id).await.unwrap();
    let changed = AgentConfig {
        dsl_source: "agent a { with { return 2; } }".to_owned(),
        priority: Priority::High,
        ..agent.clone()
    };
    lifecycle.update_agent_config(id, changed).await.unwrap();
    let now = lifecycle.get_agent(id).await.unwrap().config;
    assert_eq!((now.priority, now.dsl_source), (Priority::High, agent.dsl_source.clone()));
    lifecycle.restart_agent(id).await.unwrap();
    let report = lifecycle.settled(id).await.unwrap().unwrap();
    assert_eq!(report.outcome, RunOutcome::Returned("2".into()));

    let other = AgentConfig { id: AgentId::new(), ..agent };
    let refused = lifecycle.update_agent_config(id, other).await.unwrap_err();
    assert!(matches!(refused, LifecycleError::ConfigurationInvalid { .. }));
}

#[tokio::test]
async fn an_agent_that_blocks_is_seen_waiting() {
    let runtime = runtime(|_| {}).await;
    let source = "agent sleeper { with { sleep(1h); } }";
    let id = started(&runtime, config("sleeper", source, ExecutionMode::Persistent)).await;
    let state = runtime.lifecycle().until(id, &[AgentState::Waiting]).await.unwrap();
    assert_eq!(state, AgentState::Waiting);
    let status = runtime.status().await;
    assert_eq!((status.runs_active, status.runs_waiting), (0, 1));
    runtime.lifecycle().terminate_agent(id).await.unwrap();
}

#[tokio::test]
async fn shutdown_lets_runs_come_to_a_step_and_refuses_what_comes_after() {
    let runtime = runtime(|_| {}).await;
    let id = started(&runtime, config("busy", LOOP, ExecutionMode::Persistent)).await;
    assert!(runtime.shutdown().await.is_empty());
    assert!(runtime.shutdown().await.is_empty());
    let refused = runtime.lifecycle().start_agent(id).await.unwrap_err();
    assert!(refused.to_string().contains("shutting down"), "{refused}");
    let agent = config("late", "agent late", ExecutionMode::Ephemeral);
    let refused = runtime.lifecycle().create_agent(agent).await.unwrap_err();
    assert!(refused.to_string().contains("shutting down"), "{refused}");
}

/// Ten thousand agents through their whole lives, in one process, through the traits.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_agents_live_and_none_is_stuck() {
    const AGENTS: usize = 10_000;
    let controller = DefaultLifecycleController::builder(LifecycleConfig::default());
    let controller = Arc::new(controller.build().await.unwrap());
    let mut lives = tokio::task::JoinSet::new();
    for number in 0..AGENTS {
        let controller = Arc::clone(&controller);
        lives.spawn(async move {
            let agent =
                config("one", "agent one { with { return 6 * 7; } }", ExecutionMode::Ephemeral);
            let id = agent.id;
            controller.create_agent(agent).await.unwrap();
            controller.initialize_agent(id).await.unwrap();
            controller.start_agent(id).await.unwrap();
            let report = controller.settled(id).await.unwrap().unwrap();
            assert_eq!(report.outcome, RunOutcome::Returned("42".into()), "agent {number}");
            assert_eq!(controller.get_agent_state(id).await.unwrap(), AgentState::Completed);
            controller.terminate_agent(id).await.unwrap();
            controller.get_agent_state(id).await.unwrap()
        });
    }
    let ends = lives.join_all().await;
    assert_eq!(ends, vec![AgentState::Terminated; AGENTS]);
    let counts = controller.get_system_status().await.agents_by_state;
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), [(AgentState::Terminated, AGENTS)]);
}
