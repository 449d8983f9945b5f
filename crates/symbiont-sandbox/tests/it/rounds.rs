//! Sandboxes made and destroyed again and again: all is afterwards as it was before.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use symbiont_sandbox::Driver;
use symbiont_types::{SandboxConfig, SandboxId};

use super::directories::drivers;
use super::{again, config, is_root, passed, resident, run, shell, started, state, told};

/// Says which driver, to the process that does it.
const DRIVER: &str = "SYMBIONT_TEST_ROUNDS_OF";
/// How often, if not as often as the tests do.
const COUNT: &str = "SYMBIONT_TEST_ROUNDS_COUNT";
/// What a driver keeps for itself comes with the first of them.
const WARM: usize = 10;
/// How long what is closed by tasks of their own may be open still.
const SETTLED: std::time::Duration = std::time::Duration::from_secs(5);

/// In a process of its own, as others open descriptors meanwhile.
fn rounds(driver: &str, count: usize) {
    let mut command = again(&[], "rounds::of_one_driver", DRIVER);
    command.env(DRIVER, driver);
    if std::env::var_os(COUNT).is_none() {
        command.env(COUNT, count.to_string());
    }
    passed(command);
}

#[test]
fn of_the_process_driver_leave_nothing() {
    rounds("process", 200);
}

#[test]
fn of_the_docker_driver_leave_nothing() {
    rounds("docker", 10);
}

#[test]
fn of_the_gvisor_driver_leave_nothing() {
    rounds("gvisor", 10);
}

/// Only the others start it so that it does something.
#[test]
fn of_one_driver() {
    let Ok(name) = std::env::var(DRIVER) else { return };
    let count: usize = std::env::var(COUNT).unwrap().parse().unwrap();
    run(async {
        let Some(driver) = drivers().await.into_iter().find(|driver| driver.name() == name) else {
            return; // It has said why.
        };
        let (mut before, mut names) = (None, Vec::new());
        for number in 0..WARM + count {
            if number == WARM {
                before = Some((settled().await, resident()));
            }
            let Some(made) = round(&*driver).await else { return };
            names.push(made);
        }
        let (held_before, resident_before) = before.unwrap();
        // A connection's own task closes it, a moment after the sandbox has gone. What is still there
        // when nothing changes any more has stayed.
        let begun = std::time::Instant::now();
        while held() != held_before && begun.elapsed() < SETTLED {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert_eq!(held(), held_before, "descriptors and children after {count} rounds");
        // Others on this machine mount what they like.
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let ours = |line: &&str| names.iter().any(|name| line.contains(name.as_str()));
        assert_eq!(mounts.lines().find(ours), None, "a mount after {count} rounds");
        let grown = resident().saturating_sub(resident_before);
        assert!(grown < 8 << 20, "{grown} bytes of memory after {count} rounds");
        assert_eq!(left_of(&names), Vec::<PathBuf>::new());
        if name == "docker" {
            let containers = containers();
            assert!(!names.iter().any(|name| containers.contains(name)), "{containers}");
        }
        eprintln!("{count} rounds of {name}: {grown} bytes more, nothing left");
    });
}

/// From nothing over a command that leaves something behind to nothing; the sandbox's name.
async fn round(driver: &dyn Driver) -> Option<String> {
    let config = SandboxConfig { security_tier: driver.tier(), ..config() };
    let sandbox = started(driver.create(SandboxId::new(), &config).await.unwrap()).await?;
    let result = sandbox.exec(shell("sleep 600 & echo hi > f; cat f")).await;
    assert_eq!(told(&result), "0:hi\n");
    sandbox.destroy().await.unwrap();
    Some(super::group_name(&sandbox))
}

/// What this process holds once it is the same twice.
async fn settled() -> BTreeMap<String, usize> {
    let mut last = held();
    loop {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let now = held();
        if now == last {
            return now;
        }
        last = now;
    }
}

/// What this process holds, of each kind how much.
fn held() -> BTreeMap<String, usize> {
    let mut held = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        // Which socket or pipe it is changes; that there is one does not.
        let kind = target.display().to_string().split(":[").next().unwrap_or_default().to_owned();
        *held.entry(kind).or_default() += 1;
    }
    let own = std::process::id().to_string();
    let is_child = |status: String| {
        status.lines().any(|line| line.strip_prefix("PPid:").is_some_and(|it| it.trim() == own))
    };
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let children = processes
        .filter_map(|entry| fs::read_to_string(entry.path().join("status")).ok())
        .filter(|status| is_child(status.clone()))
        .count();
    held.insert("children".to_owned(), children);
    held
}

/// Whatever bears one of these names: control groups, and files where drivers keep theirs.
fn left_of(names: &[String]) -> Vec<PathBuf> {
    let mut places = vec![PathBuf::from("/sys/fs/cgroup"), state()];
    if is_root() {
        places.push("/run/symbiont".into());
    }
    let mut found = Vec::new();
    while let Some(place) = places.pop() {
        for entry in fs::read_dir(&place).into_iter().flatten().flatten() {
            let file = entry.file_name();
            if names.iter().any(|name| file.to_string_lossy().contains(name)) {
                found.push(entry.path());
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                places.push(entry.path());
            }
        }
    }
    found
}

/// What the engine says about all of its containers.
fn containers() -> String {
    let socket = std::env::var_os("SYMBIONT_TEST_DOCKER");
    let socket = socket.unwrap_or_else(|| "/var/run/docker.sock".into());
    let mut stream = UnixStream::connect(Path::new(&socket)).unwrap();
    stream.write_all(b"GET /v1.41/containers/json?all=1 HTTP/1.0\r\nHost: engine\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("200 OK"), "{answer}");
    answer
}
