//! The components joined: by a runtime, by the process's directory, and over a restart.

use std::path::Path;

use symbiont_runtime::*;

use crate::support::{config, message, records, run, runtime, started, task};

#[tokio::test]
async fn two_runtimes_never_answer_for_each_others_agents() {
    let (one, two) = (runtime(|_| {}).await, runtime(|_| {}).await);
    let id = started(&one, config("mine", "agent mine", ExecutionMode::Persistent)).await;
    let unknown = two.lifecycle().get_agent(id).await.unwrap_err();
    assert_eq!(unknown, LifecycleError::AgentNotFound { agent_id: id });
    let unknown = two.scheduler().schedule_task(task(id)).await.unwrap_err();
    assert_eq!(unknown, SchedulerError::AgentNotFound { agent_id: id });
    let unknown = two.bus().get_agent_topics(id).await.unwrap_err();
    assert_eq!(unknown, CommunicationError::AgentNotRegistered { agent_id: id });
    let error = RuntimeError::Internal("x".to_owned());
    let unknown = two.errors().handle_error(id, error).await.unwrap_err();
    assert_eq!(unknown, ErrorHandlerError::AgentNotFound { agent_id: id });
    // The same id may live in both, apart.
    let twin = AgentConfig { id, ..config("yours", "agent yours", ExecutionMode::Persistent) };
    two.lifecycle().create_agent(twin).await.unwrap();
    one.lifecycle().terminate_agent(id).await.unwrap();
    assert_eq!(two.lifecycle().get_agent_state(id).await.unwrap(), AgentState::Created);
}

#[tokio::test]
async fn components_built_by_new_meet_in_the_process_and_two_sets_stay_apart() {
    let one = DefaultLifecycleController::new(LifecycleConfig::default()).await.unwrap();
    let two = DefaultLifecycleController::new(LifecycleConfig::default()).await.unwrap();
    let scheduler = DefaultScheduler::new(SchedulerConfig::default()).await.unwrap();
    let bus = DefaultCommunicationBus::new(CommunicationConfig::default()).await.unwrap();
    let agent = config("met", "agent met", ExecutionMode::Persistent);
    let id = agent.id;
    one.create_agent(agent.clone()).await.unwrap();
    let taken = two.create_agent(agent).await.unwrap_err();
    assert!(taken.to_string().contains("another lifecycle controller"), "{taken}");
    bus.register_agent(id, vec![]).await.unwrap();
    one.initialize_agent(id).await.unwrap();
    one.start_agent(id).await.unwrap();
    let task = task(id);
    scheduler.schedule_task(task.clone()).await.unwrap();
    let status = scheduler.ended(task.id).await.unwrap();
    assert!(matches!(status, TaskStatus::Completed { .. }), "{status:?}");
    assert_eq!(one.get_agent(id).await.unwrap().execution_count, 2);
    assert!(two.get_agent(id).await.is_err());
}

#[tokio::test]
async fn a_program_runs_commands_in_its_sandbox_and_each_is_on_record() {
    let runtime = runtime(|_| {}).await;
    let source = r#"
        agent worker(name: String) {
            policy work { allow: exec("tr", args) allow: fs }
            with sandbox = "tier1" {
                fs.write("in/greeting.txt", "hello " + name);
                let result = exec("tr", ["a-z", "A-Z"], { stdin: fs.read("in/greeting.txt") });
                let denied = "";
                try { exec("cat", ["/etc/passwd"]) } catch (PolicyDenied e) { denied = e.message; }
                return { shout: result.stdout, code: result.exit_code, denied: denied,
                         files: fs.list("in"), missing: fs.exists("nowhere") };
            }
        }"#;
    let outcome = run(&runtime, source, r#"{"name": "symbiont"}"#).await;
    let RunOutcome::Returned(json) = outcome else { panic!("{outcome:?}") };
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["shout"], "HELLO SYMBIONT");
    assert_eq!(value["code"], 0);
    assert_eq!(value["files"], serde_json::json!(["greeting.txt"]));
    assert_eq!(value["missing"], false);
    assert!(value["denied"].as_str().unwrap().contains("work/"), "{}", value["denied"]);

    let decisions = records(&runtime, "policy.decision").await;
    let denied: Vec<_> = decisions.iter().filter(|e| e.metadata["decision"] == "deny").collect();
    assert_eq!(denied.len(), 1);
    assert_eq!(denied[0].event_type, AuditEventType::PolicyViolation);
    assert_eq!(denied[0].metadata["operation"], "sandbox.exec:cat");
    let commands = records(&runtime, "sandbox.exec").await;
    let phases: Vec<&str> = commands.iter().map(|e| e.metadata["phase"].as_str()).collect();
    assert_eq!(phases, ["begin", "end"], "what was denied was never begun");
    assert_eq!(commands[0].details, "tr a-z A-Z");
    let report = runtime
        .audit()
        .verify_integrity(SystemTime::UNIX_EPOCH, SystemTime::now() + Duration::from_secs(60))
        .await
        .unwrap();
    assert_eq!(report.verdict, Verdict::Intact, "{:?}", report.findings);
}

/// Runs a program with a policy; what it returned.
async fn under(policy: &str, body: &str) -> serde_json::Value {
    let runtime = runtime(|config| config.errors.enable_auto_recovery = false).await;
    let bob =
        config("bob", "agent bob { on message(topic, payload) { } }", ExecutionMode::Persistent);
    let id = started(&runtime, bob).await;
    let body = body.replace("BOB_ID", &id.to_string());
    let source = format!("agent probe {{ policy rules {{ {policy} }} with {{ {body} }} }}");
    match run(&runtime, &source, "{}").await {
        RunOutcome::Returned(json) => serde_json::from_str(&json).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_rule_about_a_command_sees_the_texts_that_the_command_gets() {
    let policy = r#"allow: exec("echo", args) deny: exec("echo", args) if args == ["9"]"#;
    for argument in ["\"9\"", "9"] {
        let body = format!(
            r#"try {{ return exec("echo", [{argument}]).stdout; }} catch (PolicyDenied e) {{ return "denied"; }}"#
        );
        assert_eq!(under(policy, &body).await, "denied", "{argument}");
    }
}

#[tokio::test]
async fn a_rule_about_a_receiver_holds_for_its_id_too() {
    let policy = r#"allow: send(any, any, any) deny: send("bob")"#;
    for to in ["bob", "BOB_ID"] {
        let body = format!(
            r#"try {{ send("{to}", "t", "x"); return "sent"; }} catch (PolicyDenied e) {{ return "denied"; }}"#
        );
        assert_eq!(under(policy, &body).await, "denied", "{to}");
    }
    let only_bob = r#"allow: send("bob", any, any)"#;
    let body = r#"send("BOB_ID", "t", "x"); return "sent";"#;
    assert_eq!(under(only_bob, body).await, "sent");
}

#[tokio::test]
async fn what_a_policy_demands_along_with_a_call_is_carried_out() {
    let policy = r#"allow: memory_read allow: "memory.*" require: { rate_limit: "2/hour" }"#;
    let body = r#"
        let done = 0;
        try { while done < 9 { memory.get("k"); done += 1; } } catch (PolicyDenied e) { }
        return done;"#;
    assert_eq!(under(policy, body).await, 2);
    let policy = r#"allow: "sandbox.exec" require: { timeout: 100ms }"#;
    let body =
        r#"try { exec("sleep", ["20"]); return "slept"; } catch (Timeout e) { return e.kind; }"#;
    assert_eq!(under(policy, body).await, "Timeout");
}

#[tokio::test]
async fn a_task_whose_agent_is_stopped_waits_until_it_is_started_again() {
    let runtime = runtime(|_| {}).await;
    let source = r#"agent slow { with { if memory.get("again") { return 1; } memory.set("again", true); sleep(1h); } }"#;
    let slow = config("slow", source, ExecutionMode::EventDriven);
    let id = started(&runtime, slow).await;
    runtime.lifecycle().settled(id).await.unwrap();
    let waiting = task(id);
    let mut feed = runtime.watch();
    runtime.scheduler().schedule_task(waiting.clone()).await.unwrap();
    while feed.recv().await.unwrap().metadata["kind"] != "run.waiting" {}
    runtime.lifecycle().stop_agent(id).await.unwrap();
    runtime.lifecycle().start_agent(id).await.unwrap();
    let status = runtime.scheduler().ended(waiting.id).await.unwrap();
    assert!(matches!(status, TaskStatus::Completed { .. }), "{status:?}");
}

#[tokio::test]
async fn one_id_is_accepted_for_one_task_whoever_asks_at_the_same_moment() {
    let data = tempfile::tempdir().unwrap();
    let runtime = on_disk(data.path()).await;
    let id = started(&runtime, config("a", "agent a", ExecutionMode::Persistent)).await;
    let later = SystemTime::now() + Duration::from_secs(3600);
    let one = ScheduledTask { scheduled_time: later, ..task(id) };
    let other = ScheduledTask { priority: Priority::High, ..one.clone() };
    let scheduler = runtime.scheduler();
    let (first, second, again) = tokio::join!(
        scheduler.schedule_task(one.clone()),
        scheduler.schedule_task(other),
        scheduler.schedule_task(one.clone()),
    );
    assert_eq!((first, again), (Ok(()), Ok(())));
    assert_eq!(second, Err(SchedulerError::DuplicateTask { task_id: one.id }));
    assert_eq!(scheduler.list_pending_tasks().await[0].priority, Priority::Normal);
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_task_that_began_an_effect_is_not_attempted_again() {
    let runtime = runtime(|_| {}).await;
    let source =
        r#"agent once(fails: bool) { with { exec("true"); if fails { return error("no"); } } }"#;
    let id = started(&runtime, config("once", source, ExecutionMode::Persistent)).await;
    runtime.lifecycle().settled(id).await.unwrap();
    let fails = task(id);
    runtime.scheduler().schedule_task_with_input(fails.clone(), "true").await.unwrap();
    let status = runtime.scheduler().ended(fails.id).await.unwrap();
    assert!(matches!(status, TaskStatus::Failed { attempts: 1, .. }), "{status:?}");
}

#[tokio::test]
async fn usage_of_a_sandbox_comes_from_the_kernel() {
    for (driver, tier1, tier) in [
        ("process", Tier1::Process, "tier1"),
        ("docker", Tier1::Docker, "tier1"),
        ("gvisor", Tier1::Auto, "tier2"),
    ] {
        let runtime = runtime(|config| {
            config.sandbox.tier1 = tier1;
            config.sandbox.engine_socket =
                std::env::var_os("SYMBIONT_TEST_DOCKER").map(std::path::PathBuf::from);
        })
        .await;
        let drivers = runtime.sandbox().drivers().await;
        let tried = drivers.iter().find(|tried| tried.driver == driver).expect("it is known");
        match tried.available {
            true => uses_what_the_kernel_counts(&runtime, driver, tier).await,
            false => eprintln!("not run: {driver}: {}", tried.detail),
        }
        runtime.shutdown().await;
    }
}

/// An agent whose sandbox is made by `driver`, and what its resources are known to be.
async fn uses_what_the_kernel_counts(runtime: &Runtime, driver: &str, tier: &str) {
    let source = r#"agent hog { with sandbox = "TIER" {
        exec("true");
        exec("sleep", ["600"]);
    } }"#;
    let source = source.replace("TIER", tier);
    let mut feed = runtime.watch();
    let id = started(runtime, config("hog", &source, ExecutionMode::Persistent)).await;
    // The agent has the sandbox when the first command in it has ended, at the latest.
    let (detail, memory) = loop {
        feed.recv().await.unwrap();
        let detail = runtime.resources().usage_detail(id).await.unwrap();
        let memory = detail.memory_used.expect("every host counts memory");
        if memory.source == UsageSource::Kernel {
            break (detail, memory);
        }
    };
    let created = records(runtime, "sandbox.created").await;
    assert_eq!(created[0].metadata["driver"], driver);
    assert!(memory.value > 0, "{driver}: {memory:?}");
    // A kernel of its own and its gofer are charged with the rest, within what was promised.
    assert!(memory.value <= 64 << 20, "{driver}: {memory:?}");
    // A host that does not count disk traffic has no figure for all, and no zero either.
    let usage = runtime.resources().get_resource_usage(id).await;
    assert_eq!(usage.is_ok(), detail.disk_io_rate.is_some(), "{driver}: {usage:?}");
    runtime.lifecycle().terminate_agent(id).await.unwrap();
    let left = runtime.resources().get_system_resources().await;
    assert_eq!(left.allocations, 0, "{driver}: what was promised is free again");
}

#[tokio::test]
async fn a_tier_that_this_host_lacks_fails_the_effect_and_not_the_start() {
    let runtime = runtime(|config| config.errors.enable_auto_recovery = false).await;
    let source = r#"agent strong { with sandbox = "tier3" { exec("true"); } }"#;
    let outcome = run(&runtime, source, "{}").await;
    let RunOutcome::Failed(failure) = outcome else { panic!("{outcome:?}") };
    assert_eq!(failure.kind, "TierUnavailable");
    assert!(failure.message.contains("Tier3"), "{failure}");
    let source = r#"agent harmless { with sandbox = "tier3" { return 1; } }"#;
    assert_eq!(run(&runtime, source, "{}").await, RunOutcome::Returned("1".into()));
}

#[tokio::test]
async fn an_eager_sandbox_is_there_before_the_start_or_the_agent_does_not_initialize() {
    let runtime = runtime(|config| config.lifecycle.enable_auto_recovery = false).await;
    let eager = |tier| {
        let mut agent = config("eager", "agent eager", ExecutionMode::Ephemeral);
        agent.metadata.insert("sandbox".to_owned(), "eager".to_owned());
        AgentConfig { security_tier: tier, ..agent }
    };
    let agent = eager(SecurityTier::Tier1);
    let id = agent.id;
    runtime.lifecycle().create_agent(agent).await.unwrap();
    runtime.lifecycle().initialize_agent(id).await.unwrap();
    assert_eq!(records(&runtime, "sandbox.started").await.len(), 1);
    runtime.lifecycle().terminate_agent(id).await.unwrap();
    assert_eq!(records(&runtime, "sandbox.destroyed").await.len(), 1);

    let agent = eager(SecurityTier::Tier3);
    let id = agent.id;
    runtime.lifecycle().create_agent(agent).await.unwrap();
    let error = runtime.lifecycle().initialize_agent(id).await.unwrap_err();
    assert!(error.to_string().contains("Tier3 is not available"), "{error}");
}

#[tokio::test]
async fn agents_talk_to_each_other_by_name() {
    let runtime = runtime(|_| {}).await;
    let listener = r#"agent listener { on message(topic, payload) { log("info", topic + ": " + payload.word); } }"#;
    started(&runtime, config("listener", listener, ExecutionMode::Persistent)).await;
    let mut feed = runtime.watch();
    let speaker =
        r#"agent speaker { with { return send("listener", "greetings", { word: "hello" }); } }"#;
    let outcome = run(&runtime, speaker, "{}").await;
    assert!(matches!(outcome, RunOutcome::Returned(_)), "{outcome:?}");
    loop {
        let event = feed.recv().await.unwrap();
        if event.metadata["kind"] == "log" {
            assert_eq!(event.details, "greetings: hello");
            break;
        }
    }
}

#[tokio::test]
async fn an_agent_delegates_to_another_and_gets_what_it_returned() {
    let runtime = runtime(|_| {}).await;
    let double = config(
        "double",
        "agent double(x: int) { with { return x * 2; } }",
        ExecutionMode::Ephemeral,
    );
    runtime.lifecycle().create_agent(double).await.unwrap();
    let boss = r#"agent boss { with { return delegate("double", { x: 21 }) + delegate("double", { x: 1 }); } }"#;
    assert_eq!(run(&runtime, boss, "{}").await, RunOutcome::Returned("44".into()));
    let lost =
        r#"agent boss { with { try { delegate("nobody", {}) } catch (e) { return e.message; } } }"#;
    let outcome = run(&runtime, lost, "{}").await;
    assert_eq!(outcome, RunOutcome::Returned("\"no agent `nobody` is known here\"".into()));
}

#[tokio::test]
async fn what_an_agent_remembers_outlasts_its_runs_and_ends_with_it() {
    let runtime = runtime(|_| {}).await;
    let source = r#"
        agent counter { with {
            let count = memory.get("count");
            if count == null { count = 0; }
            memory.set("count", count + 1);
            return { count: count + 1, keys: memory.keys() };
        } }"#;
    let id = started(&runtime, config("counter", source, ExecutionMode::Persistent)).await;
    for expected in 2..5 {
        let next = task(id);
        runtime.scheduler().schedule_task(next.clone()).await.unwrap();
        runtime.scheduler().ended(next.id).await.unwrap();
        let result = runtime.scheduler().result(next.id).await.unwrap().unwrap();
        assert_eq!(result, format!(r#"{{"count":{expected},"keys":["count"]}}"#));
    }
}

/// A runtime over a directory.
async fn on_disk(directory: &Path) -> Runtime {
    runtime(|config| {
        config.data_dir = Some(directory.to_owned());
        config.errors.enable_auto_recovery = false;
    })
    .await
}

#[tokio::test]
async fn everything_that_was_accepted_is_there_again() {
    let data = tempfile::tempdir().unwrap();
    let keeper = config(
        "keeper",
        "agent keeper(x: int) { with { return x + 1; } }",
        ExecutionMode::Persistent,
    );
    let id = keeper.id;
    let later =
        ScheduledTask { scheduled_time: SystemTime::now() + Duration::from_secs(3600), ..task(id) };
    let sent;
    {
        let runtime = on_disk(data.path()).await;
        started(&runtime, keeper.clone()).await;
        runtime.lifecycle().settled(id).await.unwrap();
        runtime.lifecycle().suspend_agent(id).await.unwrap();
        runtime.scheduler().schedule_task_with_input(later.clone(), r#"{"x": 1}"#).await.unwrap();
        sent = runtime.bus().send_message(message(id, id, b"remember me")).await.unwrap();
        let error = Runtime::open(RuntimeConfig {
            data_dir: Some(data.path().to_owned()),
            ..RuntimeConfig::default()
        })
        .await
        .unwrap_err();
        assert!(error.to_string().contains("in use by"), "{error}");
        assert!(runtime.shutdown().await.is_empty());
    }
    let runtime = on_disk(data.path()).await;
    let agent = runtime.lifecycle().get_agent(id).await.unwrap();
    assert_eq!((agent.state, &agent.config), (AgentState::Suspended, &keeper));
    assert_eq!(agent.execution_count, 1);
    let waiting = runtime.scheduler().list_pending_tasks().await;
    assert_eq!(waiting.iter().map(|task| task.id).collect::<Vec<_>>(), [later.id]);
    assert_eq!(runtime.bus().get_message_status(sent).await.unwrap(), DeliveryStatus::Pending);
    let mail = runtime.bus().receive_messages(id).await.unwrap();
    assert_eq!(mail[0].message.payload, b"remember me");
    assert!(verify_message(&mail[0], &runtime.bus().public_key(id).unwrap()));
    let promised = runtime.resources().get_system_resources().await;
    assert_eq!(promised.allocations, 1);
    runtime.lifecycle().resume_agent(id).await.unwrap();
    let now = task(id);
    runtime.scheduler().schedule_task_with_input(now.clone(), r#"{"x": 41}"#).await.unwrap();
    runtime.scheduler().ended(now.id).await.unwrap();
    assert_eq!(runtime.scheduler().result(now.id).await.unwrap().as_deref(), Some("42"));
    let report = runtime
        .audit()
        .verify_integrity(SystemTime::UNIX_EPOCH, SystemTime::now() + Duration::from_secs(60))
        .await
        .unwrap();
    assert_eq!(report.verdict, Verdict::Intact, "{:?}", report.findings);
    runtime.shutdown().await;
}

#[tokio::test]
async fn in_production_nothing_starts_that_no_policy_allows() {
    let runtime = runtime(|config| config.profile = Profile::Production).await;
    let agent =
        config("eager", "agent eager { policy own { allow: \"*\" } }", ExecutionMode::Ephemeral);
    let id = agent.id;
    runtime.lifecycle().create_agent(agent).await.unwrap();
    runtime.lifecycle().initialize_agent(id).await.unwrap();
    let refused = runtime.lifecycle().start_agent(id).await.unwrap_err();
    assert!(refused.to_string().contains("`agent.start` was refused"), "{refused}");
    let policy = Policy {
        id: "operators".to_owned(),
        name: "operators".to_owned(),
        description: String::new(),
        rules: vec![PolicyRule::new("start", PolicyEffect::Allow, ["agent.start"])],
        priority: 0,
        enabled: true,
    };
    runtime.policy().update_policy(policy).await.unwrap();
    runtime.lifecycle().start_agent(id).await.unwrap();
}
