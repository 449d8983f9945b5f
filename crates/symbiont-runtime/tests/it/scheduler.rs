//! The scheduler: order, due times, attempts, cancelling, pausing, bounds and what it tells.

use std::sync::Arc;

use symbiont_runtime::*;

use crate::support::{config, records, runtime, started, task};

/// Adds one to what it remembers; returns the count.
const COUNTS: &str = r#"agent counter { with {
    let n = memory.get("n");
    let n = if n == null { 1 } else { n + 1 };
    memory.set("n", n);
    return n;
} }"#;
const SLEEPS: &str = "agent sleeper(t: int) { with { sleep(t); } }";
const BUSY: &str = "agent busy(go: bool) { with { while true { } } }";

fn persistent(name: &str, source: &str) -> AgentConfig {
    config(name, source, ExecutionMode::Persistent)
}

/// A runtime on a clock that goes with the timers.
async fn timed(adjust: impl FnOnce(&mut RuntimeConfig)) -> Runtime {
    runtime(|config| {
        config.clock = Clock::anchored(SystemTime::now());
        adjust(config);
    })
    .await
}

async fn status(runtime: &Runtime, id: TaskId) -> TaskStatus {
    runtime.scheduler().get_task_status(id).await.expect("the task is known")
}

#[tokio::test(start_paused = true)]
async fn urgent_tasks_run_first_and_equal_ones_in_order() {
    for (by_priority, want) in [
        (true, [Priority::Critical, Priority::High, Priority::Normal, Priority::Low]),
        (false, [Priority::Low, Priority::Normal, Priority::High, Priority::Critical]),
    ] {
        let runtime = timed(|config| {
            config.scheduler.max_concurrent_tasks = 1;
            config.scheduler.enable_priority_scheduling = by_priority;
        })
        .await;
        let agent = started(&runtime, persistent("a", "agent a")).await;
        let scheduler = runtime.scheduler();
        scheduler.pause_scheduling().await.expect("it pauses");
        let now = SystemTime::now() - Duration::from_secs(5);
        let mut ids = Vec::new();
        for priority in [Priority::Low, Priority::Normal, Priority::High, Priority::Critical] {
            for _ in 0..2 {
                let task = ScheduledTask { priority, scheduled_time: now, ..task(agent) };
                ids.push((priority, task.id));
                scheduler.schedule_task(task).await.expect("it is accepted");
            }
        }
        scheduler.resume_scheduling().await.expect("it goes on");
        for (_, id) in &ids {
            let end = scheduler.ended(*id).await.expect("it ends");
            assert!(matches!(end, TaskStatus::Completed { .. }), "{end:?}");
        }
        let started = records(&runtime, "run.started").await;
        let order: Vec<String> =
            started.iter().filter_map(|event| event.metadata.get("task").cloned()).collect();
        let mut expected = Vec::new();
        for class in want {
            let of_class = ids.iter().filter(|(priority, _)| *priority == class);
            expected.extend(of_class.map(|(_, id)| id.to_string()));
        }
        assert_eq!(order, expected, "by priority: {by_priority}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_waits_until_it_is_due() {
    let runtime = timed(|_| {}).await;
    let agent = started(&runtime, persistent("a", "agent a")).await;
    let scheduler = runtime.scheduler();
    let now = runtime.status().await.started_at.duration_since(SystemTime::UNIX_EPOCH);
    let now = Duration::from_micros(
        u64::try_from(now.expect("it is later").as_micros()).expect("it fits"),
    );
    let due = SystemTime::UNIX_EPOCH + now + Duration::from_secs(3600);
    let later = ScheduledTask { scheduled_time: due, ..task(agent) };
    scheduler.schedule_task(later.clone()).await.expect("it is accepted");
    assert_eq!(status(&runtime, later.id).await, TaskStatus::Scheduled { due });
    let metrics = scheduler.get_scheduler_metrics().await;
    assert_eq!((metrics.delayed.normal, metrics.pending.total()), (1, 0));
    assert_eq!(scheduler.list_pending_tasks().await, std::slice::from_ref(&later));
    let TaskStatus::Completed { at, result_ref: None } =
        scheduler.ended(later.id).await.expect("it ends")
    else {
        panic!()
    };
    assert!(at >= due && at < due + Duration::from_secs(1), "{:?}", at.duration_since(due));
}

#[tokio::test(start_paused = true)]
async fn a_failing_task_is_tried_again_until_its_retries_are_used_up() {
    let runtime = timed(|config| config.scheduler.retry_attempts = 2).await;
    let source = r#"agent fails(go: bool) { with { error("no luck"); return 1 / 0; } }"#;
    let agent = started(&runtime, persistent("fails", source)).await;
    let scheduler = runtime.scheduler();
    let first = task(agent);
    scheduler.schedule_task_with_input(first.clone(), "true").await.expect("it is accepted");
    let mut seen = false;
    loop {
        match status(&runtime, first.id).await {
            TaskStatus::Retrying { attempt, last_error, next_at } => {
                assert!(attempt == 2 || attempt == 3, "{attempt}");
                assert!(last_error.contains("ArithmeticError"), "{last_error}");
                assert!(next_at > SystemTime::UNIX_EPOCH);
                seen = true;
            }
            TaskStatus::Failed { error, attempts } => {
                assert_eq!(attempts, 3);
                assert!(error.contains("ArithmeticError"), "{error}");
                break;
            }
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(seen, "it was seen between two attempts");
    let metrics = scheduler.get_scheduler_metrics().await;
    assert_eq!((metrics.failed, metrics.retries, metrics.completed), (1, 2, 0));
    // What was consumed before it came counts.
    for (consumed, attempts) in [(2, 3), (7, 8), (u32::MAX, u32::MAX)] {
        let spent = ScheduledTask { retry_count: consumed, ..task(agent) };
        scheduler.schedule_task_with_input(spent.clone(), "true").await.expect("it is accepted");
        let end = scheduler.ended(spent.id).await.expect("it ends");
        let TaskStatus::Failed { attempts: made, .. } = end else { panic!("{end:?}") };
        assert_eq!(made, attempts);
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_ends_at_the_shortest_of_three_timeouts() {
    let second = Duration::from_secs(1);
    for (own, most, agents) in [(2, 60, 60), (60, 2, 60), (60, 60, 2), (0, 2, 60)] {
        let runtime = timed(|config| {
            config.scheduler.task_timeout = second * most;
            config.scheduler.retry_attempts = 0;
        })
        .await;
        let mut config = persistent("sleeper", SLEEPS);
        config.resource_limits.execution_timeout = second * agents;
        let agent = started(&runtime, config).await;
        let task = ScheduledTask { timeout: second * own, ..task(agent) };
        let scheduler = runtime.scheduler();
        let began = tokio::time::Instant::now();
        scheduler.schedule_task_with_input(task.clone(), "3600000").await.expect("accepted");
        let end = scheduler.ended(task.id).await.expect("it ends");
        let took = began.elapsed();
        assert_eq!(end, TaskStatus::TimedOut { attempts: 1 }, "{own} {most} {agents}");
        assert!(took >= second * 2 && took < second * 3, "{took:?}");
        assert_eq!(scheduler.get_scheduler_metrics().await.timed_out, 1);
    }
}

#[tokio::test]
async fn a_task_is_cancelled_while_it_waits_and_while_it_runs() {
    let runtime = runtime(|_| {}).await;
    let agent = started(&runtime, persistent("busy", BUSY)).await;
    runtime.lifecycle().settled(agent).await.expect("it waits for its input");
    let scheduler = runtime.scheduler();
    let (runs, waits) = (task(agent), task(agent));
    scheduler.schedule_task_with_input(runs.clone(), "true").await.expect("it is accepted");
    runtime.lifecycle().until(agent, &[AgentState::Running]).await.expect("it runs");
    scheduler.schedule_task_with_input(waits.clone(), "true").await.expect("it is accepted");
    let [running] = &scheduler.list_running_tasks().await[..] else { panic!() };
    assert_eq!((running.task.id, running.attempt), (runs.id, 1));
    assert!(running.deadline > running.started_at && running.lease_expires_at > running.started_at);

    scheduler.cancel_task(waits.id).await.expect("it waits");
    assert!(matches!(status(&runtime, waits.id).await, TaskStatus::Cancelled { .. }));
    scheduler.cancel_task(runs.id).await.expect("it runs");
    let end = scheduler.ended(runs.id).await.expect("it ends");
    assert_eq!(end, TaskStatus::Cancelled { by: "cancel_task".to_owned() });
    for id in [waits.id, runs.id] {
        let again = scheduler.cancel_task(id).await;
        assert_eq!(again, Err(SchedulerError::AlreadyFinished { task_id: id }));
        let again = scheduler.update_task_priority(id, Priority::High).await;
        assert_eq!(again, Err(SchedulerError::AlreadyFinished { task_id: id }));
    }
    let metrics = scheduler.get_scheduler_metrics().await;
    assert_eq!((metrics.cancelled, metrics.running.total(), metrics.completed), (2, 0, 0));
    assert_eq!(scheduler.list_running_tasks().await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_and_what_waits_survive_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let open = async || runtime(|c| c.data_dir = Some(directory.path().join("data"))).await;
    let first = open().await;
    let agent = started(&first, persistent("counter", COUNTS)).await;
    first.lifecycle().settled(agent).await.expect("it rests");
    let scheduler = first.scheduler();
    scheduler.pause_scheduling().await.expect("it pauses");
    scheduler.pause_scheduling().await.expect("again is fine");
    let waits = task(agent);
    scheduler.schedule_task_with_input(waits.clone(), "{}").await.expect("it is accepted");
    let TaskStatus::Pending { reason, .. } = status(&first, waits.id).await else { panic!() };
    assert!(reason.contains("paused"), "{reason}");
    let refused = scheduler.run_now(task(agent)).await;
    assert_eq!(refused, Err(SchedulerError::SchedulingPaused));
    assert!(first.shutdown().await.is_empty());
    drop(first);

    let second = open().await;
    let scheduler = second.scheduler();
    assert!(scheduler.get_scheduler_metrics().await.paused);
    assert!(matches!(status(&second, waits.id).await, TaskStatus::Pending { .. }));
    // The same task again is the same task, whatever happened in between.
    let again = scheduler.schedule_task_with_input(waits.clone(), "{}").await;
    assert_eq!(again, Ok(()));
    scheduler.resume_scheduling().await.expect("it goes on");
    let end = scheduler.ended(waits.id).await.expect("it ends");
    assert!(matches!(end, TaskStatus::Completed { .. }), "{end:?}");
    assert_eq!(scheduler.result(waits.id).await, Ok(Some("2".to_owned())));
    assert!(second.shutdown().await.is_empty());
    drop(second);

    let third = open().await;
    assert!(!third.scheduler().get_scheduler_metrics().await.paused);
    let end = status(&third, waits.id).await;
    assert!(matches!(end, TaskStatus::Completed { result_ref: Some(_), .. }), "{end:?}");
    assert_eq!(third.scheduler().result(waits.id).await, Ok(Some("2".to_owned())));
    assert!(third.shutdown().await.is_empty());
}

#[tokio::test]
async fn what_can_not_be_accepted_is_refused() {
    let runtime = runtime(|config| config.scheduler.task_queue_size = 2).await;
    let agent = started(&runtime, persistent("a", "agent a")).await;
    let scheduler = runtime.scheduler();
    scheduler.pause_scheduling().await.expect("it pauses");
    let stranger = AgentId::new();
    let unknown = Err(SchedulerError::AgentNotFound { agent_id: stranger });
    assert_eq!(scheduler.schedule_task(task(stranger)).await, unknown);

    let first = task(agent);
    scheduler.schedule_task(first.clone()).await.expect("it is accepted");
    scheduler.schedule_task(first.clone()).await.expect("the same again is one task");
    assert_eq!(scheduler.list_pending_tasks().await.len(), 1);
    let other = ScheduledTask { priority: Priority::Low, ..first.clone() };
    let duplicate = Err(SchedulerError::DuplicateTask { task_id: first.id });
    assert_eq!(scheduler.schedule_task(other).await, duplicate);
    let input = scheduler.schedule_task_with_input(first.clone(), "1").await;
    assert_eq!(input, duplicate, "with another input it is another task");

    scheduler.schedule_task(task(agent)).await.expect("it is accepted");
    let full = Err(SchedulerError::QueueFull { capacity: 2 });
    assert_eq!(scheduler.schedule_task(task(agent)).await, full);
    scheduler.cancel_task(first.id).await.expect("it waits");
    scheduler.schedule_task(task(agent)).await.expect("there is room again");

    for input in ["", "{", "no json", &"1".repeat(1024 * 1024 + 1)] {
        let refused = scheduler.schedule_task_with_input(task(agent), input).await;
        assert!(matches!(refused, Err(SchedulerError::InvalidTask { .. })), "{refused:?}");
    }
    scheduler.shutdown().await.expect("it closes");
    scheduler.shutdown().await.expect("again is fine");
    for refused in [
        scheduler.schedule_task(task(agent)).await,
        scheduler.pause_scheduling().await,
        scheduler.resume_scheduling().await,
    ] {
        assert_eq!(refused, Err(SchedulerError::ShuttingDown));
    }
}

#[tokio::test]
async fn work_waits_for_an_agent_that_can_not_take_it_and_ends_with_it() {
    let runtime = runtime(|_| {}).await;
    let (scheduler, lifecycle) = (runtime.scheduler(), runtime.lifecycle());
    let config = persistent("a", "agent a");
    let agent = config.id;
    lifecycle.create_agent(config).await.expect("it is created");
    let mut settled = Vec::new();
    let pending = async |id: TaskId, why: &str| {
        // The dispatcher looks at the task soon after it was accepted.
        loop {
            let TaskStatus::Pending { reason, .. } = status(&runtime, id).await else { panic!() };
            if reason.contains(why) {
                return;
            }
            assert_eq!(reason, "its turn");
            tokio::task::yield_now().await;
        }
    };
    let early = task(agent);
    scheduler.schedule_task(early.clone()).await.expect("it is accepted");
    pending(early.id, "not initialized").await;
    lifecycle.initialize_agent(agent).await.expect("it initializes");
    let ready = task(agent);
    scheduler.schedule_task(ready.clone()).await.expect("it is accepted");
    pending(ready.id, "not started").await;
    lifecycle.start_agent(agent).await.expect("it starts");
    settled.extend([early.id, ready.id]);
    for id in settled {
        let end = scheduler.ended(id).await.expect("it ends");
        assert!(matches!(end, TaskStatus::Completed { .. }), "{end:?}");
    }
    lifecycle.suspend_agent(agent).await.expect("it rests");
    let held = task(agent);
    scheduler.schedule_task(held.clone()).await.expect("it is accepted");
    pending(held.id, "suspended").await;
    lifecycle.resume_agent(agent).await.expect("it goes on");
    let end = scheduler.ended(held.id).await.expect("it ends");
    assert!(matches!(end, TaskStatus::Completed { .. }), "{end:?}");

    lifecycle.suspend_agent(agent).await.expect("it rests");
    let last = task(agent);
    scheduler.schedule_task(last.clone()).await.expect("it is accepted");
    lifecycle.terminate_agent(agent).await.expect("it ends");
    let end = scheduler.ended(last.id).await.expect("it ends");
    let TaskStatus::Cancelled { by } = end else { panic!("{end:?}") };
    assert!(by.contains("terminated"), "{by}");
    let refused = scheduler.schedule_task(task(agent)).await;
    let Err(SchedulerError::InvalidTask { reason }) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("terminated"), "{reason}");
}

#[tokio::test]
async fn another_priority_changes_the_turn() {
    let runtime = runtime(|config| config.scheduler.max_concurrent_tasks = 1).await;
    let agent = started(&runtime, persistent("counter", COUNTS)).await;
    runtime.lifecycle().settled(agent).await.expect("it rests");
    let scheduler = runtime.scheduler();
    scheduler.pause_scheduling().await.expect("it pauses");
    let (first, second) = (task(agent), task(agent));
    for task in [&first, &second] {
        scheduler.schedule_task(task.clone()).await.expect("it is accepted");
    }
    scheduler.update_task_priority(second.id, Priority::High).await.expect("it waits");
    let [.., moved] = &scheduler.list_pending_tasks().await[..] else { panic!() };
    assert_eq!((moved.id, moved.priority), (second.id, Priority::High));
    let metrics = scheduler.get_scheduler_metrics().await;
    assert_eq!((metrics.pending.high, metrics.pending.normal), (1, 1));
    assert!(metrics.oldest_pending.is_some() && metrics.paused);
    scheduler.resume_scheduling().await.expect("it goes on");
    for (task, result) in [(&first, "3"), (&second, "2")] {
        scheduler.ended(task.id).await.expect("it ends");
        assert_eq!(scheduler.result(task.id).await, Ok(Some(result.to_owned())));
    }
    let metrics = scheduler.get_scheduler_metrics().await;
    assert_eq!((metrics.completed, metrics.pending.total()), (2, 0));
    assert!(metrics.run_time.max > Duration::ZERO);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_tasks_from_many_callers_all_run_once() {
    let runtime = Arc::new(runtime(|config| config.scheduler.max_concurrent_tasks = 8).await);
    let mut agents = Vec::new();
    for n in 0..10 {
        let agent = started(&runtime, persistent(&format!("counter {n}"), COUNTS)).await;
        runtime.lifecycle().settled(agent).await.expect("it rests");
        agents.push(agent);
    }
    let callers: Vec<_> = agents
        .iter()
        .map(|agent| {
            let (runtime, agent) = (Arc::clone(&runtime), *agent);
            tokio::spawn(async move {
                let mut ids = Vec::new();
                for _ in 0..100 {
                    let task = task(agent);
                    ids.push(task.id);
                    runtime.scheduler().schedule_task(task).await.expect("it is accepted");
                }
                ids
            })
        })
        .collect();
    for caller in callers {
        let mut counts = Vec::new();
        for id in caller.await.expect("no panic") {
            let end = runtime.scheduler().ended(id).await.expect("it ends");
            assert!(matches!(end, TaskStatus::Completed { .. }), "{end:?}");
            let result = runtime.scheduler().result(id).await.expect("it is there");
            counts.push(result.expect("a count").parse::<u32>().expect("a number"));
        }
        assert_eq!(counts, (2..102).collect::<Vec<_>>(), "each once, in order");
    }
    let metrics = runtime.scheduler().get_scheduler_metrics().await;
    assert_eq!((metrics.completed, metrics.failed), (1000, 0));
    assert!(metrics.lane_utilisation.iter().all(|lane| *lane == 0.0), "every slot is free");
}
