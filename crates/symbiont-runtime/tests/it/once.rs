//! What must not be done twice, what must not be lost, and whom a change reaches: across stops,
//! restarts and ends of the process.

use std::path::Path;

use symbiont_runtime::*;

use crate::support::{config, message, records, run, runtime, started, task};

fn ephemeral(name: &str, source: &str) -> AgentConfig {
    config(name, source, ExecutionMode::Ephemeral)
}

fn persistent(name: &str, source: &str) -> AgentConfig {
    config(name, source, ExecutionMode::Persistent)
}

/// A runtime over `directory`, which a process may have left in whatever way.
async fn open(directory: &Path) -> Runtime {
    runtime(|c| {
        c.data_dir = Some(directory.join("data"));
        c.lifecycle.enable_auto_recovery = false;
        c.lifecycle.termination_timeout = Duration::from_millis(200);
    })
    .await
}

/// What a process does on `directory` before it ends without a farewell.
fn process<T: Send + 'static>(
    directory: &Path,
    life: impl AsyncFnOnce(&Runtime) -> T + Send + 'static,
) -> T {
    let directory = directory.to_owned();
    let process = std::thread::spawn(move || {
        let mut tokio = tokio::runtime::Builder::new_multi_thread();
        let tokio = tokio.worker_threads(2).enable_all().build().expect("it starts");
        tokio.block_on(async { life(&open(&directory).await).await })
    });
    process.join().expect("no panic")
}

/// A scheduler over `directory`, and the controller that is to come after it.
async fn scheduler_first(directory: &Path) -> (DefaultScheduler, LifecycleBuilder) {
    let journal = Journal::open(&directory.join("data"), Clock::system()).expect("it opens");
    let places = Directory::new();
    let scheduler = DefaultScheduler::builder(SchedulerConfig::default())
        .directory(std::sync::Arc::clone(&places))
        .journal(journal.clone());
    let lifecycle = DefaultLifecycleController::builder(LifecycleConfig::default())
        .directory(places)
        .journal(journal);
    (scheduler.build().await.expect("it builds"), lifecycle)
}

/// Waits for a record of this kind.
async fn seen(feed: &mut tokio::sync::broadcast::Receiver<std::sync::Arc<AuditEvent>>, kind: &str) {
    while feed.recv().await.expect("it is told").metadata["kind"] != kind {}
}

// Effects that must not be repeated.

/// Runs `true`, and then waits or goes on for ever.
fn has_an_effect(then: &str) -> String {
    format!("agent a(go: bool) {{ with {{ exec(\"true\"); log(\"info\", \"done\"); {then} }} }}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_was_stopped_after_an_effect_is_unknown_and_not_done_again() {
    let runtime = runtime(|_| {}).await;
    let (lifecycle, scheduler) = (runtime.lifecycle(), runtime.scheduler());
    let agent = started(&runtime, persistent("a", &has_an_effect("while true { }"))).await;
    let mut feed = runtime.watch();
    let task = task(agent);
    scheduler.schedule_task_with_input(task.clone(), "true").await.expect("it is accepted");
    seen(&mut feed, "log").await;
    lifecycle.stop_agent(agent).await.expect("it stops");
    let end = scheduler.ended(task.id).await.expect("it ends");
    assert_eq!(end, TaskStatus::Unknown { attempt: 1 });
    lifecycle.start_agent(agent).await.expect("it starts again");
    lifecycle.settled(agent).await.expect("it rests");
    let begun = records(&runtime, "sandbox.exec").await;
    assert_eq!(begun.iter().filter(|event| event.metadata["phase"] == "begin").count(), 1);
    assert!(runtime.shutdown().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_agent_did_for_a_task_is_not_done_again() {
    // What the helper does, what the task does afterwards, and how the task ends.
    let cases = [
        ("sleep(1h);", "", "unknown"), // Cut off in the middle: nobody knows.
        ("exec(\"true\");", "while true { }", "failed, tried once"),
        ("return 1;", "while true { }", "timed out, tried twice"),
    ];
    for (work, then, want) in cases {
        let runtime = runtime(|c| {
            c.scheduler.retry_attempts = 1;
            c.lifecycle.termination_timeout = Duration::from_millis(200);
        })
        .await;
        let helper = format!("agent helper {{ with {{ {work} }} }}");
        let helper = ephemeral("helper", &helper);
        runtime.lifecycle().create_agent(helper).await.expect("it is created");
        let source =
            format!(r#"agent a(go: bool) {{ with {{ delegate("helper", {{}}); {then} }} }}"#);
        let agent = started(&runtime, persistent("a", &source)).await;
        let task = ScheduledTask { timeout: Duration::from_millis(500), ..task(agent) };
        let scheduler = runtime.scheduler();
        scheduler.schedule_task_with_input(task.clone(), "true").await.expect("it is accepted");
        let end = match scheduler.ended(task.id).await.expect("it ends") {
            TaskStatus::Unknown { attempt: 1 } => "unknown",
            TaskStatus::Failed { attempts: 1, .. } => "failed, tried once",
            TaskStatus::TimedOut { attempts: 2 } => "timed out, tried twice",
            other => panic!("{other:?}"),
        };
        assert_eq!(end, want);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_was_stopped_before_any_effect_waits_and_is_done() {
    let runtime = runtime(|_| {}).await;
    let (lifecycle, scheduler) = (runtime.lifecycle(), runtime.scheduler());
    let source = r#"agent a(go: bool) { with {
        log("info", "begun");
        if memory.get("again") == null { memory.set("again", 1); while true { } }
        return 7;
    } }"#;
    let agent = started(&runtime, persistent("a", source)).await;
    let mut feed = runtime.watch();
    let task = task(agent);
    scheduler.schedule_task_with_input(task.clone(), "true").await.expect("it is accepted");
    seen(&mut feed, "memory.write").await;
    seen(&mut feed, "memory.write").await;
    lifecycle.stop_agent(agent).await.expect("it stops");
    let status = scheduler.get_task_status(task.id).await.expect("it is known");
    assert!(matches!(status, TaskStatus::Pending { .. }), "{status:?}");
    lifecycle.start_agent(agent).await.expect("it starts again");
    let end = scheduler.ended(task.id).await.expect("it ends");
    assert!(matches!(end, TaskStatus::Completed { .. }), "{end:?}");
    assert_eq!(scheduler.result(task.id).await, Ok(Some("7".to_owned())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_had_an_effect_is_not_made_again_by_recovery() {
    let runtime = runtime(|_| {}).await;
    let source = r#"agent a { with { exec("true"); delegate("nobody", {}); } }"#;
    let agent = started(&runtime, ephemeral("a", source)).await;
    runtime.lifecycle().until(agent, &[AgentState::Failed]).await.expect("it fails");
    let mut feed = runtime.watch();
    let handled = async {
        loop {
            let handled = records(&runtime, "error.handled").await;
            if let Some(event) = handled.first() {
                return event.metadata["action"].clone();
            }
            feed.recv().await.expect("it is told");
        }
    };
    assert_eq!(handled.await, "Suspend");
    assert_eq!(records(&runtime, "run.started").await.len(), 1);
}

// The end of the process.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_that_waited_when_the_process_ended_say_so() {
    let directory = tempfile::tempdir().expect("a directory");
    let [waits, rests, holds] = process(directory.path(), async |first| {
        let sleeps = "agent sleeper { with { sleep(1h); return 1; } }";
        let waits = started(first, ephemeral("waits", sleeps)).await;
        let rests = started(first, persistent("rests", "agent rests")).await;
        let holds = started(first, ephemeral("holds", sleeps)).await;
        let lifecycle = first.lifecycle();
        for agent in [waits, rests, holds] {
            lifecycle.until(agent, &[AgentState::Waiting]).await.expect("it waits");
        }
        lifecycle.suspend_agent(holds).await.expect("it holds still");
        [waits, rests, holds]
    });

    let second = open(directory.path()).await;
    let lifecycle = second.lifecycle();
    let state = async |agent| lifecycle.get_agent_state(agent).await.expect("it is there");
    assert_eq!(state(waits).await, AgentState::Failed);
    let failure = lifecycle.failure(waits).expect("it is there").expect("it says why");
    assert!(failure.contains("the process ended during the run"), "{failure}");
    assert_eq!(state(rests).await, AgentState::Waiting, "nothing of it was under way");
    assert_eq!(state(holds).await, AgentState::Suspended);
    let told = records(&second, "agent.interrupted").await;
    let agents: Vec<_> = told.iter().filter_map(|event| event.agent_id).collect();
    assert_eq!(agents, [waits, holds]);
    lifecycle.resume_agent(holds).await.expect("it goes on");
    assert_eq!(state(holds).await, AgentState::Ready);
    assert!(second.shutdown().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_handled_again_after_the_process_ended_unless_it_had_an_effect() {
    for (effect, again) in [("", true), ("exec(\"true\");", false)] {
        let directory = tempfile::tempdir().expect("a directory");
        let source = format!(
            r#"agent a {{ on message(topic, payload) {{
                if memory.get("again") != null {{ return 1; }}
                {effect} memory.set("again", 1); log("info", "begun"); sleep(1h);
            }} }}"#
        );
        let (agent, sent) = process(directory.path(), async move |first| {
            let agent = started(first, persistent("a", &source)).await;
            first.lifecycle().settled(agent).await.expect("it rests");
            let mut feed = first.watch();
            let message = message(agent, agent, b"hello");
            let sent = first.bus().send_message(message).await.expect("it is sent");
            seen(&mut feed, "log").await;
            (agent, sent)
        });
        let second = open(directory.path()).await;
        // The agent is found failed; what is left for it is there once it runs again.
        second.lifecycle().restart_agent(agent).await.expect("it starts anew");
        while again && second.bus().get_message_status(sent).await != Ok(DeliveryStatus::Delivered)
        {
            tokio::task::yield_now().await;
        }
        let dead: Vec<_> = second.bus().dead_letters().iter().map(|letter| letter.cause).collect();
        let want: &[DeadCause] = if again { &[] } else { &[DeadCause::OutcomeUnknown] };
        assert_eq!(dead, want);
        assert!(second.shutdown().await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orderly_end_costs_a_task_nothing_unless_it_had_an_effect() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = open(directory.path()).await;
    let harmless = "agent a(go: bool) { with { log(\"info\", \"begun\"); while true { } } }";
    let mut tasks = Vec::new();
    for source in [harmless, &has_an_effect("while true { }")] {
        let agent = started(&first, persistent("a", source)).await;
        let mut feed = first.watch();
        let task = task(agent);
        first.scheduler().schedule_task_with_input(task.clone(), "true").await.expect("accepted");
        seen(&mut feed, "log").await;
        tasks.push(task);
    }
    first.scheduler().pause_scheduling().await.expect("it pauses");
    assert!(first.shutdown().await.is_empty());
    drop(first);

    let second = open(directory.path()).await;
    let scheduler = second.scheduler();
    let stopped = records(&second, "runtime.stopped").await;
    assert!(stopped[0].details.contains("2 agents, 1 tasks"), "{stopped:?}");
    let had_an_effect = scheduler.get_task_status(tasks[1].id).await.expect("it is known");
    assert_eq!(had_an_effect, TaskStatus::Unknown { attempt: 1 });
    let [waiting] = &scheduler.list_pending_tasks().await[..] else { panic!() };
    assert_eq!((waiting.id, waiting.retry_count), (tasks[0].id, 0));
    assert!(second.shutdown().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_cancelled_stays_cancelled() {
    let directory = tempfile::tempdir().expect("a directory");
    let tasks = process(directory.path(), async |first| {
        let scheduler = first.scheduler();
        let source = "agent a(go: bool) { with { while true { } } }";
        let agent = started(first, persistent("a", source)).await;
        let (runs, waits) = (task(agent), task(agent));
        scheduler.schedule_task_with_input(runs.clone(), "true").await.expect("it is accepted");
        while !matches!(
            scheduler.get_task_status(runs.id).await,
            Ok(TaskStatus::Running { .. } | TaskStatus::Waiting { .. })
        ) {
            tokio::task::yield_now().await;
        }
        scheduler.schedule_task_with_input(waits.clone(), "true").await.expect("it is accepted");
        for task in [&runs, &waits] {
            scheduler.cancel_task(task.id).await.expect("it has not ended");
        }
        [runs, waits] // The run may still be under way.
    });
    let second = open(directory.path()).await;
    for task in &tasks {
        let status = second.scheduler().get_task_status(task.id).await.expect("it is known");
        assert_eq!(status, TaskStatus::Cancelled { by: "cancel_task".to_owned() });
    }
    assert!(second.shutdown().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduler_that_comes_first_waits_for_whoever_runs_the_agents() {
    let directory = tempfile::tempdir().expect("a directory");
    let waits = process(directory.path(), async |first| {
        let agent = started(first, persistent("a", "agent a")).await;
        first.lifecycle().settled(agent).await.expect("it rests");
        first.lifecycle().suspend_agent(agent).await.expect("it is put aside");
        let waits = task(agent);
        first.scheduler().schedule_task(waits.clone()).await.expect("it is accepted");
        waits
    });
    let (scheduler, lifecycle) = scheduler_first(directory.path()).await;
    loop {
        let status = scheduler.get_task_status(waits.id).await.expect("it is known");
        let TaskStatus::Pending { reason, .. } = status else { panic!("{status:?}") };
        if reason.contains("nobody runs the agent here") {
            break;
        }
        tokio::task::yield_now().await; // The dispatcher looks at it soon.
    }
    let lifecycle = lifecycle.build().await.expect("it builds");
    lifecycle.resume_agent(waits.agent_id).await.expect("it goes on");
    let end = scheduler.ended(waits.id).await.expect("it ends");
    assert!(matches!(end, TaskStatus::Completed { .. }), "{end:?}");
    scheduler.shutdown().await.expect("it closes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_comes_last_is_noticed() {
    let directory = tempfile::tempdir().expect("a directory");
    let waits = process(directory.path(), async |first| {
        first.scheduler().pause_scheduling().await.expect("it pauses");
        let agent = started(first, persistent("a", "agent a")).await;
        first.lifecycle().settled(agent).await.expect("it rests");
        let waits = task(agent);
        first.scheduler().schedule_task(waits.clone()).await.expect("it is accepted");
        waits
    });
    let (scheduler, lifecycle) = scheduler_first(directory.path()).await;
    scheduler.resume_scheduling().await.expect("it goes on");
    let _lifecycle = lifecycle.build().await.expect("it builds");
    let end = scheduler.ended(waits.id).await.expect("it ends");
    assert!(matches!(end, TaskStatus::Completed { .. }), "{end:?}");
    scheduler.shutdown().await.expect("it closes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_waits_for_an_agent_that_recovers() {
    let directory = tempfile::tempdir().expect("a directory");
    let source = r#"agent a { on message(topic, payload) {
        if memory.get("again") != null { return 1; }
        memory.set("again", 1); log("info", "begun"); sleep(1h);
    } }"#;
    let sent = process(directory.path(), async move |first| {
        let agent = started(first, persistent("a", source)).await;
        first.lifecycle().settled(agent).await.expect("it rests");
        let mut feed = first.watch();
        let message = message(agent, agent, b"hello");
        let sent = first.bus().send_message(message).await.expect("it is sent");
        seen(&mut feed, "log").await;
        sent
    });
    // Its run is found interrupted, and the agent is initialized again by itself.
    let second = runtime(|c| c.data_dir = Some(directory.path().join("data"))).await;
    while second.bus().get_message_status(sent).await != Ok(DeliveryStatus::Delivered) {
        tokio::task::yield_now().await;
    }
    assert!(second.shutdown().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mark_says_nothing_of_other_runs() {
    let directory = tempfile::tempdir().expect("a directory");
    let source = r#"agent a {
        on stop { exec("true"); }
        on message(topic, payload) {
            if memory.get("again") != null { return 1; }
            memory.set("again", 1); log("info", "begun"); sleep(1h);
        }
    }"#;
    let (agent, sent) = process(directory.path(), async move |first| {
        let agent = started(first, persistent("a", source)).await;
        let lifecycle = first.lifecycle();
        lifecycle.settled(agent).await.expect("it rests");
        lifecycle.stop_agent(agent).await.expect("it says goodbye");
        lifecycle.start_agent(agent).await.expect("it starts again");
        lifecycle.settled(agent).await.expect("it rests");
        let mut feed = first.watch();
        let message = message(agent, agent, b"hello");
        let sent = first.bus().send_message(message).await.expect("it is sent");
        seen(&mut feed, "log").await;
        (agent, sent)
    });
    let second = open(directory.path()).await;
    second.lifecycle().restart_agent(agent).await.expect("it starts anew");
    while second.bus().get_message_status(sent).await != Ok(DeliveryStatus::Delivered) {
        tokio::task::yield_now().await;
    }
    assert!(second.bus().dead_letters().is_empty());
    assert!(second.shutdown().await.is_empty());
}

// Restarts and changes.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_gives_an_agent_what_it_was_started_with() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = open(directory.path()).await;
    let echo = ephemeral("echo", "agent echo(n: int) { with { return n; } }");
    let id = echo.id;
    first.lifecycle().create_agent(echo).await.expect("it is created");
    first.lifecycle().initialize_agent(id).await.expect("it initializes");
    first.lifecycle().start_agent_with_input(id, r#"{"n": 5}"#).await.expect("it starts");
    let result = async |runtime: &Runtime| {
        let report = runtime.lifecycle().settled(id).await.expect("it is there");
        report.expect("it has run").outcome.clone()
    };
    assert_eq!(result(&first).await, RunOutcome::Returned("5".into()));
    first.lifecycle().restart_agent(id).await.expect("it starts anew");
    assert_eq!(result(&first).await, RunOutcome::Returned("5".into()));
    assert!(first.shutdown().await.is_empty());
    drop(first);
    let second = open(directory.path()).await;
    second.lifecycle().restart_agent(id).await.expect("it starts anew");
    assert_eq!(result(&second).await, RunOutcome::Returned("5".into()));
    assert!(second.shutdown().await.is_empty());
}

#[tokio::test]
async fn a_program_that_can_not_be_read_can_be_mended() {
    let runtime = runtime(|c| c.lifecycle.enable_auto_recovery = false).await;
    let lifecycle = runtime.lifecycle();
    let broken = ephemeral("a", "agent a { with { return 1 + ; } }");
    let id = broken.id;
    lifecycle.create_agent(broken.clone()).await.expect("it is created");
    let refused = lifecycle.initialize_agent(id).await;
    assert!(matches!(refused, Err(LifecycleError::InitializationFailed { .. })), "{refused:?}");
    let mended = AgentConfig { dsl_source: "agent a { with { return 2; } }".to_owned(), ..broken };
    lifecycle.update_agent_config(id, mended).await.expect("it is taken");
    lifecycle.initialize_agent(id).await.expect("it initializes");
    lifecycle.start_agent(id).await.expect("it starts");
    let report = lifecycle.settled(id).await.expect("it is there").expect("it has run");
    assert_eq!(report.outcome, RunOutcome::Returned("2".into()));
}

#[tokio::test]
async fn an_agent_among_several_is_found_by_its_name() {
    let runtime = runtime(|c| c.lifecycle.enable_auto_recovery = false).await;
    let lifecycle = runtime.lifecycle();
    let source = "agent a { with { return \"a\"; } } agent b { with { return \"b\"; } }";
    let misspelt = ephemeral("c", source);
    let id = misspelt.id;
    lifecycle.create_agent(misspelt).await.expect("it is created");
    let refused = lifecycle.initialize_agent(id).await;
    let Err(LifecycleError::InitializationFailed { reason, .. }) = refused else {
        panic!("{refused:?}")
    };
    assert!(reason.contains("several agents (a, b), and none is called `c`"), "{reason}");

    let b = ephemeral("b", source);
    let id = b.id;
    lifecycle.create_agent(b.clone()).await.expect("it is created");
    lifecycle.initialize_agent(id).await.expect("it initializes");
    let renamed = AgentConfig { name: "a".to_owned(), ..b };
    lifecycle.update_agent_config(id, renamed).await.expect("it is taken");
    lifecycle.start_agent(id).await.expect("it starts");
    let outcome = async || {
        let report = lifecycle.settled(id).await.expect("it is there");
        report.expect("it has run").outcome.clone()
    };
    assert_eq!(outcome().await, RunOutcome::Returned("\"b\"".into()), "it is what it was");
    lifecycle.restart_agent(id).await.expect("it starts anew");
    assert_eq!(outcome().await, RunOutcome::Returned("\"a\"".into()));
    assert_eq!(lifecycle.get_agent(id).await.expect("it is there").config.name, "a");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_taken_from_an_agent_is_taken_from_its_run() {
    let runtime = runtime(|_| {}).await;
    let source = r#"agent a { with {
        receive(1h);
        try { exec("true"); return "ran"; } catch (CapabilityDenied e) { return "refused"; }
    } }"#;
    let config = ephemeral("a", source);
    let id = started(&runtime, config.clone()).await;
    let lifecycle = runtime.lifecycle();
    lifecycle.until(id, &[AgentState::Waiting]).await.expect("it waits");
    let less = AgentConfig { capabilities: vec![Capability::FileSystem], ..config };
    lifecycle.update_agent_config(id, less).await.expect("it is taken");
    runtime.bus().send_message(message(id, id, b"go")).await.expect("it is sent");
    let report = lifecycle.settled(id).await.expect("it is there").expect("it has run");
    assert_eq!(report.outcome, RunOutcome::Returned("\"refused\"".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_and_looks_at_everyone_do_not_wait_for_each_other() {
    let runtime = std::sync::Arc::new(runtime(|_| {}).await);
    let mut agents = Vec::new();
    for n in 0..4 {
        let config = persistent(&format!("agent {n}"), "agent a");
        started(&runtime, config.clone()).await;
        agents.push(config);
    }
    let change = |config: AgentConfig| {
        let runtime = std::sync::Arc::clone(&runtime);
        async move {
            for round in 0..200 {
                let (id, name) = (config.id, format!("{} {round}", config.name));
                let config = AgentConfig { name, ..config.clone() };
                runtime.lifecycle().update_agent_config(id, config).await.expect("it is taken");
                runtime.lifecycle().restart_agent(id).await.expect("it starts anew");
                assert_eq!(runtime.lifecycle().get_system_status().await.agents_total, 4);
            }
        }
    };
    let changing: Vec<_> = agents.into_iter().map(|config| tokio::spawn(change(config))).collect();
    for changing in changing {
        changing.await.expect("no panic");
    }
}

// Rests, ends and other agents.

#[tokio::test]
async fn an_agent_that_says_hello_still_waits_for_its_input() {
    let runtime = runtime(|_| {}).await;
    let source = "agent a(n: int) { on start { log(\"info\", \"hello\"); } with { return n; } }";
    let id = started(&runtime, ephemeral("a", source)).await;
    runtime.lifecycle().settled(id).await.expect("it rests");
    assert_eq!(runtime.lifecycle().get_agent_state(id).await, Ok(AgentState::Waiting));
    let task = task(id);
    runtime.scheduler().schedule_task_with_input(task.clone(), "3").await.expect("accepted");
    runtime.scheduler().ended(task.id).await.expect("it ends");
    assert_eq!(runtime.scheduler().result(task.id).await, Ok(Some("3".to_owned())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_stop_does_not_cut_the_farewell_short() {
    let runtime = std::sync::Arc::new(runtime(|_| {}).await);
    let source = r#"agent a { on stop { log("info", "bye"); exec("sleep", ["0.3"]); log("info", "gone"); } }"#;
    let id = started(&runtime, persistent("a", source)).await;
    runtime.lifecycle().settled(id).await.expect("it rests");
    let mut feed = runtime.watch();
    let first = {
        let runtime = std::sync::Arc::clone(&runtime);
        tokio::spawn(async move { runtime.lifecycle().stop_agent(id).await })
    };
    seen(&mut feed, "log").await;
    runtime.lifecycle().stop_agent(id).await.expect("it is stopped");
    let said: Vec<_> = records(&runtime, "log").await.into_iter().map(|e| e.details).collect();
    assert_eq!(said, ["bye", "gone"]);
    assert_eq!(first.await.expect("no panic"), Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_farewell_is_not_put_aside() {
    let runtime = std::sync::Arc::new(runtime(|_| {}).await);
    let source = r#"agent a { on stop { log("info", "bye"); exec("sleep", ["0.3"]); log("info", "gone"); } }"#;
    let id = started(&runtime, persistent("a", source)).await;
    let lifecycle = runtime.lifecycle();
    lifecycle.settled(id).await.expect("it rests");
    let mut feed = runtime.watch();
    let stopping = {
        let runtime = std::sync::Arc::clone(&runtime);
        tokio::spawn(async move { runtime.lifecycle().stop_agent(id).await })
    };
    seen(&mut feed, "log").await;
    lifecycle.suspend_agent(id).await.expect("it is put aside");
    lifecycle.resume_agent(id).await.expect("it comes back");
    assert_eq!(stopping.await.expect("no panic"), Ok(()));
    assert_eq!(lifecycle.get_agent_state(id).await, Ok(AgentState::Ready));
    assert_eq!(records(&runtime, "log").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_that_rely_on_each_other_are_told() {
    let runtime = runtime(|_| {}).await;
    let source = r#"
        agent a { with { return delegate("b", {}); } }
        agent b { with { return delegate("c", {}); } }
        agent c { with { return delegate("a", {}); } }"#;
    for name in ["b", "c"] {
        runtime.lifecycle().create_agent(ephemeral(name, source)).await.expect("it is created");
    }
    let id = started(&runtime, ephemeral("a", source)).await;
    let report = runtime.lifecycle().settled(id).await.expect("it is there").expect("it has run");
    let RunOutcome::Failed(failure) = &report.outcome else { panic!("{report:?}") };
    assert_eq!(failure.kind, "AgentError");
    assert!(failure.message.contains("wait for itself"), "{failure}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_starts_an_agent_that_its_operator_has_stopped() {
    let runtime = runtime(|_| {}).await;
    let lifecycle = runtime.lifecycle();
    let helper = persistent("helper", "agent helper { with { return 1; } }");
    let helper = started(&runtime, helper).await;
    lifecycle.settled(helper).await.expect("it rests");
    lifecycle.stop_agent(helper).await.expect("it stops");
    let source = r#"agent a { with timeout = 200ms { return delegate("helper", {}); } }"#;
    let id = started(&runtime, ephemeral("a", source)).await;
    let report = lifecycle.settled(id).await.expect("it is there").expect("it has run");
    let RunOutcome::Failed(failure) = &report.outcome else { panic!("{report:?}") };
    assert_eq!(failure.kind, "Timeout");
    let before = lifecycle.get_agent(helper).await.expect("it is there").execution_count;
    // What nobody waits for any more is not done later either.
    lifecycle.start_agent(helper).await.expect("it starts");
    lifecycle.settled(helper).await.expect("it rests");
    let after = lifecycle.get_agent(helper).await.expect("it is there").execution_count;
    assert_eq!(after, before + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_does_nothing_but_call_ends_at_its_deadline() {
    let runtime = runtime(|_| {}).await;
    for call in ["now()", "sleep(0s)", "log(\"info\", \"x\")", "memory.set(\"k\", 1)", "uuid()"] {
        let source = format!("agent a {{ with timeout = 100ms {{ while true {{ {call}; }} }} }}");
        let outcome = run(&runtime, &source, "{}").await;
        let RunOutcome::Failed(failure) = outcome else { panic!("{call}: {outcome:?}") };
        assert_eq!(failure.kind, "Timeout", "{call}");
    }
}

#[tokio::test]
async fn work_is_one_schedulers_affair() {
    let directory = Directory::new();
    let lifecycle = DefaultLifecycleController::builder(LifecycleConfig::default())
        .directory(std::sync::Arc::clone(&directory));
    let lifecycle = lifecycle.build().await.expect("it builds");
    let config = persistent("a", "agent a");
    let id = config.id;
    lifecycle.create_agent(config).await.expect("it is created");
    let mut schedulers = Vec::new();
    for _ in 0..2 {
        let scheduler = DefaultScheduler::builder(SchedulerConfig::default())
            .directory(std::sync::Arc::clone(&directory));
        schedulers.push(scheduler.build().await.expect("it builds"));
    }
    schedulers[0].schedule_task(task(id)).await.expect("it is accepted");
    let refused = schedulers[1].schedule_task(task(id)).await;
    let Err(SchedulerError::InvalidTask { reason }) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("another scheduler"), "{reason}");
    assert_eq!(schedulers[1].list_pending_tasks().await, []);
}
