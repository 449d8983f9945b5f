//! What there is no more of.

use std::time::{Duration, Instant};

use symbiont_sandbox::Command;
use symbiont_types::{SandboxError, SandboxStatus};

use super::place::{Ground, NotHere, Place, Told, grouped, how, name, ok};
use crate::shell;

/// Where a limit can't be set on this host, nothing is said about it.
fn needs(place: &Place, limit: &str) -> Result<(), NotHere> {
    if place.report().limits.iter().any(|line| line.starts_with(limit)) {
        return Ok(());
    }
    Err(NotHere(format!("no control group limits {limit} here")))
}

pub(super) async fn case_13_twice_the_memory(ground: &Ground) -> Told {
    let place = ground.place().await?;
    needs(&place, "memory")?;
    if place.usage().await.unwrap().oom_kills.is_none() {
        return Err(NotHere("the host does not tell of kills for lack of memory".to_owned()));
    }
    let ended = how(&place.exec(place.command(&["eat", "512"])).await);
    // Where the sandbox goes with it, it says why.
    let next = how(&place.exec(Command::new("true")).await);
    let why = match place.status() {
        SandboxStatus::Running => "the sandbox runs on".to_owned(),
        SandboxStatus::Failed { reason } => {
            format!(
                "the sandbox has failed for lack of memory: {}",
                reason.contains("lack of memory")
            )
        }
        other => format!("{other:?}"),
    };
    let counted = place.usage().await.unwrap().oom_kills.is_some_and(|kills| kills > 0);
    place.end().await;
    Ok(format!("{ended}, counted: {counted}; the next: {next}; {why}"))
}

pub(super) async fn case_14_all_room_for_files(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let mut told = Vec::new();
    for directory in ["/workspace", "/tmp"] {
        let filled = place.probe(&["fill", &format!("{directory}/full")]).await;
        let file = format!("{directory}/file");
        let stored = ok(place.write_file(&file, &vec![1; 1 << 20], 0o644).await);
        let nothing = place.stat(file.as_ref()).await.unwrap().is_none();
        place.remove(&format!("{directory}/full")).await.unwrap();
        let again = ok(place.write_file(&file, &vec![1; 1 << 20], 0o644).await);
        told.push(format!(
            "{directory}: {filled} inside, {stored} from outside, nothing half: {nothing}, then {again}"
        ));
    }
    place.end().await;
    Ok(told.join("; "))
}

pub(super) async fn case_16_a_hundred_thousand_descriptors(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let opened = place.probe(&["descriptors", "100000"]).await;
    let next = how(&place.exec(Command::new("true")).await);
    place.end().await;
    Ok(format!("{opened}; the next: {next}"))
}

pub(super) async fn case_17_four_threads_and_one_core(ground: &Ground) -> Told {
    let mut config = ground.config();
    config.resource_limits.cpu_cores = 1.0;
    let place = ground.place_of(&config).await?;
    needs(&place, "processor")?;
    let Some(before) = place.usage().await.unwrap().cpu_time else {
        return Err(NotHere("the host does not tell processor time".to_owned()));
    };
    let begun = Instant::now();
    let ended = how(&place.exec(place.command(&["spin", "4", "2000"])).await);
    let used = place.usage().await.unwrap().cpu_time.unwrap() - before;
    let took = begun.elapsed();
    assert!(used > Duration::from_millis(100), "nothing was counted: {used:?}");
    place.end().await;
    Ok(format!("{ended}, at most 1.15 cores: {}", used <= took.mul_f64(1.15)))
}

pub(super) async fn case_18_as_many_processors_as_there_are(ground: &Ground) -> Told {
    let mut config = ground.config();
    config.resource_limits.cpu_cores = 0.5;
    let place = ground.place_of(&config).await?;
    let told = place.shell("nproc").await;
    place.end().await;
    Ok(told)
}

pub(super) async fn case_19_commands_that_can_not_be(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let base = || Command::new("touch").args(["/workspace/started"]);
    let variable =
        |name: &str, value: &str| Command { env: vec![(name.into(), value.into())], ..base() };
    let many = (0..300).map(|n| (format!("V{n}").into(), "".into())).collect();
    let cases = [
        Command::new(""),
        base().args(["a\0b"]),
        base().args(["x".repeat(200 << 10)]),
        base().args(vec!["x".repeat(64 << 10); 4]),
        Command { env: many, ..base() },
        variable("A=B", "c"),
        variable("", "c"),
        variable("A", "\0"),
        variable("A", &"x".repeat(4097)),
        variable("LD_PRELOAD", "/workspace/x.so"),
        variable("GIT_CONFIG_COUNT", "1"),
        Command { timeout: Duration::ZERO, ..base() },
        Command { output_cap: usize::MAX, ..base() },
        Command { grace: Duration::from_secs(61), ..base() },
    ];
    let count = cases.len();
    let mut refused = 0;
    for command in cases {
        let text: String = format!("{command:?}").chars().take(200).collect();
        match place.exec(command).await {
            Err(SandboxError::InvalidArgument { .. }) => refused += 1,
            other => panic!("{text}: {other:?}"),
        }
    }
    let started = place.stat("started".as_ref()).await.unwrap().is_some();
    place.end().await;
    Ok(format!("{refused} of {count} InvalidArgument, anything started: {started}"))
}

pub(super) async fn case_20_a_value_with_everything_in_it(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let value = "line one\nline \"two\" '$x' \\ `y` \u{1b}[0m é";
    let env = vec![("ODD".into(), value.into())];
    let ended = place.exec(Command { env, ..shell("printf %s \"$ODD\"") }).await;
    let same = ended.is_ok_and(|ended| ended.stdout == value.as_bytes());
    place.end().await;
    Ok(format!("intact: {same}"))
}

pub(super) async fn case_128_what_commands_leave_in_the_kernel(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let rounds = 12;
    let mut told = Vec::new();
    for _ in 0..rounds {
        told.push(grouped(&place.probe(&["leave"]).await));
    }
    told.dedup();
    let next = place.probe(&["eat", "64"]).await;
    let runs = place.status() == SandboxStatus::Running;
    place.end().await;
    Ok(format!("{rounds} times {}; the next: {next}; the sandbox runs on: {runs}", told.join(", ")))
}

pub(super) async fn case_129_memory_that_has_no_process(ground: &Ground) -> Told {
    let place = ground.place().await?;
    needs(&place, "memory")?;
    let mut told = Vec::new();
    for _ in 0..5 {
        let ended = how(&place.exec(place.command(&["hoard"])).await);
        let next = place.probe(&["eat", "64"]).await;
        told.push(format!("{ended}, the next: {next}"));
    }
    told.dedup();
    let runs = place.status() == SandboxStatus::Running;
    place.end().await;
    Ok(format!("5 times {}; the sandbox runs on: {runs}", told.join("; ")))
}

pub(super) async fn case_133_as_many_files_as_there_may_be(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let made = place.probe(&["names"]).await;
    let mut filled = Vec::new();
    for directory in ["/workspace", "/tmp", "/dev/shm"] {
        filled.push(place.probe(&["fill", &format!("{directory}/full")]).await);
    }
    let next = place.probe(&["eat", "1"]).await;
    let runs = place.status() == SandboxStatus::Running;
    place.end().await;
    Ok(format!("{made}; {}; the next: {next}; the sandbox runs on: {runs}", filled.join(" ")))
}

pub(super) async fn case_130_accounts_of_who_made_it(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let path = "/proc/sys/fs/inotify/max_user_instances";
    let all: u64 = std::fs::read_to_string(path).unwrap().trim().parse().unwrap();
    let watches = place.probe(&["watches"]).await;
    let part = watches == format!("{} EMFILE", all / 8);
    // One or two are the kernel's own, of children that have ended.
    let signals = place.probe(&["queue"]).await;
    let (count, why) = signals.split_once(' ').unwrap();
    let signals = (4090..=4096).contains(&count.parse::<u32>().unwrap());
    let degraded = place.report().degraded.iter().any(|line| line.starts_with("watches: "));
    let core = place.shell("grep core /proc/self/limits | tr -s ' '").await;
    place.end().await;
    Ok(format!(
        "an eighth of the host's: {part}, the report denies it: {degraded}; 4,096 signals: {signals} {why}; {core}"
    ))
}

pub(super) async fn case_107_one_command_too_many(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let mut all = Vec::new();
    let refused = loop {
        match place.spawn(Command::new("cat")).await {
            Ok(process) => all.push(process),
            Err(error) => break name(&error),
        }
        assert!(all.len() < 100, "there is no end to it");
    };
    let count = all.len();
    let ended = {
        let mut first = all.remove(0);
        drop(first.stdin.take());
        how(&first.wait().await)
    };
    let next = how(&place.exec(Command::new("true")).await);
    drop(all);
    place.end().await;
    Ok(format!("{count} run, then {refused}; one {ended}, and the next: {next}"))
}

pub(super) async fn case_108_limits_that_are_to_be_raised(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let told = place
        .shell(
            "ulimit -n; (ulimit -n 4096) 2>/dev/null && echo raised; ulimit -c; \
             (ulimit -c 1) 2>/dev/null && echo raised; true",
        )
        .await;
    place.end().await;
    Ok(told.replace('\n', ", "))
}

pub(super) async fn case_109_programs_that_are_none(ground: &Ground) -> Told {
    let place = ground.place().await?;
    place.write_file("text", b"\x00\x01\x02 no program", 0o755).await.unwrap();
    place.write_file("plain", b"#!/bin/sh\n", 0o644).await.unwrap();
    place.write_file("script", b"#!/nonexistent\n", 0o755).await.unwrap();
    let mut told = Vec::new();
    for program in ["none", "/workspace/none", "/workspace", "./text", "./plain", "./script"] {
        let reason = match place.exec(Command::new(program)).await {
            Err(SandboxError::ExecFailed { reason, .. }) => reason,
            other => how(&other),
        };
        told.push(format!("{program}: {reason}"));
    }
    place.end().await;
    Ok(told.join("; "))
}
