//! Ends: by time, by callers, and of what commands leave behind.

use std::time::{Duration, Instant};

use serde_json::Value;
use symbiont_sandbox::Command;
use symbiont_types::{RootFilesystem, SandboxError, SandboxId, SandboxStatus};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use super::place::{Ground, NotHere, Place, Told, how, within};
use crate::docker::engine;
use crate::{shell, until};

const SECOND: Duration = Duration::from_secs(1);
/// How long commands have that begin something first: no machine is so busy that they don't get to it.
const ENOUGH: Duration = Duration::from_secs(5);
/// How long a removal may take: 5 seconds, and as much again thrice for a busy machine.
const IN_TIME: Duration = Duration::from_secs(20);
const HALF: Duration = Duration::from_millis(500);

pub(super) async fn case_01_a_minute_in_a_second(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let grace = Duration::from_secs(2);
    let begun = Instant::now();
    let ended = place.exec(within(Command::new("sleep").args(["60"]), SECOND, grace)).await;
    let in_time = if begun.elapsed() < IN_TIME { "in time" } else { "late" };
    place.end().await;
    Ok(format!("{}, {in_time}", how(&ended)))
}

/// How a command that takes a lock and stays ended at the end of its time, and what it left.
async fn at_its_time(place: Place, verb: &str) -> Told {
    let ended = place.exec(within(place.command(&[verb, "lock"]), ENOUGH, HALF)).await;
    let left = place.left("lock").await;
    place.end().await;
    Ok(format!("{}, {left}", how(&ended)))
}

pub(super) async fn case_02_a_daemon_with_nothing_open(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let command = within(place.command(&["daemon", "lock"]), ENOUGH, HALF);
    let ended = place.exec(command).await;
    let begun = ended.as_ref().is_ok_and(|ended| ended.stdout == b"held\n");
    let left = place.left("lock").await;
    place.end().await;
    Ok(format!("{} after it had begun: {begun}, {left}", how(&ended)))
}

pub(super) async fn case_03_a_command_that_takes_no_signal(ground: &Ground) -> Told {
    at_its_time(ground.place().await?, "stubborn").await
}

pub(super) async fn case_04_a_fork_bomb(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let mut bomb = place.spawn(place.command(&["bomb", "60"])).await.unwrap();
    let mut said = BufReader::new(bomb.stdout.take().unwrap()).lines();
    let refused = said.next_line().await.unwrap().unwrap_or_default();
    drop(said);
    bomb.kill();
    let ended = how(&bomb.wait().await);
    let next = how(&place.exec(Command::new("true")).await);
    let begun = Instant::now();
    place.end().await;
    let gone = if begun.elapsed() < IN_TIME { "gone in time" } else { "slow to go" };
    Ok(format!("{refused}, then {ended}; the next: {next}; {gone}"))
}

pub(super) async fn case_05_a_command_that_stops_itself(ground: &Ground) -> Told {
    at_its_time(ground.place().await?, "stopped").await
}

pub(super) async fn case_06_a_child_that_keeps_the_output(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let begun = Instant::now();
    let ended = place.exec(place.command(&["background", "lock"])).await;
    let in_time = if begun.elapsed() < 10 * SECOND { "at once" } else { "late" };
    let left = place.left("lock").await;
    place.end().await;
    Ok(format!("{} {in_time}, {left}", how(&ended)))
}

pub(super) async fn case_07_a_caller_that_gives_up(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let mut held = place.spawn(place.command(&["hold", "lock"])).await.unwrap();
    let mut said = [0; 5];
    held.stdout.as_mut().unwrap().read_exact(&mut said).await.unwrap();
    assert_eq!(place.probe(&["free", "lock"]).await, "held");
    drop(held);
    for _ in 0..20 {
        let command = place.exec(shell("sleep 600"));
        assert!(tokio::time::timeout(Duration::from_millis(20), command).await.is_err());
    }
    let begun = Instant::now();
    while place.probe(&["free", "lock"]).await == "held" {
        assert!(begun.elapsed() < 10 * SECOND, "it lives");
    }
    let left = place.left("lock").await;
    // Every place for a command is free again.
    let mut all = Vec::new();
    while all.len() < 32 && begun.elapsed() < 10 * SECOND {
        all.extend(place.spawn(Command::new("cat")).await);
    }
    let places = all.len();
    drop(all);
    place.end().await;
    Ok(format!("{left}, {places} of 32 places are free"))
}

pub(super) async fn case_105_a_command_that_kills_all_it_can(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let mut other = place.spawn(place.command(&["hold", "lock"])).await.unwrap();
    let mut said = [0; 5];
    other.stdout.as_mut().unwrap().read_exact(&mut said).await.unwrap();
    let killed = place.probe(&["kill", "1", "-1"]).await.replace('\n', ", ");
    let lock = place.probe(&["free", "lock"]).await;
    drop(other);
    place.end().await;
    Ok(format!("{killed}; another command's lock is {lock}"))
}

pub(super) async fn case_106_children_that_nobody_waits_for(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let mut last = String::new();
    // More than there may be at once, if they stayed.
    for _ in 0..4 {
        last = place.probe(&["zombies", "100"]).await;
    }
    let next = place.shell("echo fine").await;
    place.end().await;
    Ok(format!("{last}, the next: {next}"))
}

pub(super) async fn case_65_a_pause(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let timeout = Duration::from_millis(300);
    let mut short = place.spawn(within(shell("sleep 60"), timeout, Duration::ZERO)).await.unwrap();
    if let Err(error) = place.pause().await {
        place.end().await;
        return Err(NotHere(error.to_string()));
    }
    let refused = [
        place.exec(shell("true")).await.map(drop),
        place.write_file("x", b"x", 0o644).await,
        place.list(".").await.map(drop),
    ];
    let refused: Vec<String> = refused.into_iter().map(super::place::ok).collect();
    assert!(tokio::time::timeout(3 * timeout, short.wait()).await.is_err(), "it ended in a pause");
    place.resume().await.unwrap();
    let ended = how(&short.wait().await);
    place.pause().await.unwrap();
    let begun = Instant::now();
    place.end().await;
    let gone = if begun.elapsed() < IN_TIME { "gone in time" } else { "slow to go" };
    Ok(format!(
        "paused: {}; the command whose time was up meanwhile: {ended}; destroyed while paused: {gone}",
        refused.join(" ")
    ))
}

pub(super) async fn case_64_a_command_in_every_state(ground: &Ground) -> Told {
    let sandbox = ground.driver.create(SandboxId::new(), &ground.config()).await.unwrap();
    let tried = async || how(&sandbox.exec(Command::new("true")).await);
    let mut told = vec![format!("created {}", tried().await)];
    match sandbox.start().await {
        Err(SandboxError::ImageMissing { image }) => return Err(NotHere(image)),
        started => started.unwrap(),
    }
    sandbox.start().await.unwrap();
    told.push(format!("running {}", tried().await));
    sandbox.write_file("kept", b"kept", 0o644).await.unwrap();
    let mut running = sandbox.spawn(shell("echo on; sleep 600")).await.unwrap();
    let mut said = [0; 3];
    running.stdout.as_mut().unwrap().read_exact(&mut said).await.unwrap();
    sandbox.stop().await.unwrap();
    told.push(format!("stopped {}, what ran {}", tried().await, how(&running.wait().await)));
    sandbox.start().await.unwrap();
    assert_eq!(sandbox.read_file("kept", 9).await, Ok(b"kept".to_vec()));
    told.push(format!("again {} with its files", tried().await));
    sandbox.destroy().await.unwrap();
    sandbox.destroy().await.unwrap();
    told.push(format!("destroyed {}", tried().await));
    assert_eq!(sandbox.status(), SandboxStatus::Destroyed);
    for refused in [
        sandbox.start().await,
        sandbox.pause().await,
        sandbox.resume().await,
        sandbox.usage().await.map(drop),
        sandbox.read_file("kept", 9).await.map(drop),
    ] {
        assert!(matches!(refused, Err(SandboxError::InvalidState { .. })), "{refused:?}");
    }
    Ok(told.join(", "))
}

pub(super) async fn case_120_a_command_that_ends_when_asked(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let script = shell("trap 'echo asked; exit 5' TERM; sleep 600 & wait");
    let ended = place.exec(within(script, ENOUGH, 10 * SECOND)).await;
    let said = ended.as_ref().map(|ended| String::from_utf8_lossy(&ended.stdout).into_owned());
    place.end().await;
    Ok(format!("{} and said {}", how(&ended), said.unwrap_or_default().trim_end()))
}

pub(super) async fn case_58_what_it_is_made_of_goes(ground: &Ground) -> Told {
    let ask = |method: &str, path: &str| engine(method, path, &Value::Null);
    let place = ground.place().await?;
    let container = crate::group_name(&place.sandbox);
    // An image of its own: others use the built-in one meanwhile.
    let name = crate::marker();
    ask("POST", &format!("/commit?container={container}&repo={name}"));
    ask("DELETE", &format!("/containers/{container}?force=1"));
    until(|| place.status() != SandboxStatus::Running).await;
    let status = format!("{:?}", place.status());
    let next = how(&place.exec(Command::new("true")).await);
    place.end().await;

    let mut config = ground.config();
    config.filesystem_config.rootfs = RootFilesystem::Image(name.clone());
    let mut made = Vec::new();
    for gone in [false, true] {
        if gone {
            let image = made.last().cloned().unwrap_or_default();
            ask("DELETE", &format!("/images/{image}?force=1"));
        }
        let place = ground.place_of(&config).await?;
        let container = crate::group_name(&place.sandbox);
        let inspected = ask("GET", &format!("/containers/{container}/json"));
        made.push(inspected["Config"]["Image"].as_str().unwrap().to_owned());
        place.end().await;
    }
    assert_eq!(made[0], made[1]);
    ask("DELETE", &format!("/images/{}?force=1", made[0]));
    ask("DELETE", &format!("/images/{name}?force=1"));
    let sandbox = ground.driver.create(SandboxId::new(), &config).await.unwrap();
    let missing = super::place::ok(sandbox.start().await);
    Ok(format!(
        "{status}, a command: {next}; its image goes: made again; the image's base goes: {missing}"
    ))
}
