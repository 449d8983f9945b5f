//! The process that makes agents, and the agents as children of this process.

use std::os::fd::AsRawFd;
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process};
use symbiont_sandbox::{Driver, Sandbox};
use symbiont_types::SandboxId;

use super::{config, driver, run, sandbox, shell, told, until};

/// The children of this process, ended ones too: their ids and states.
fn children() -> Vec<(Pid, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // Another's may end meanwhile.
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let mut fields = stat[stat.rfind(')').unwrap() + 1..].split_whitespace();
        let (state, parent) = (fields.next().unwrap(), fields.next().unwrap());
        if parent == std::process::id().to_string() {
            found.push((Pid::from_raw(id).unwrap(), state.to_owned()));
        }
    }
    found
}

/// The one that makes agents, which is in our own namespaces.
fn server() -> Pid {
    let of = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/pid")).ok();
    let ours = of("self");
    let mut servers = children().into_iter().map(|child| child.0);
    servers.find(|pid| of(&pid.as_raw_nonzero().to_string()) == ours).unwrap()
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

async fn speaks(sandbox: &Arc<dyn Sandbox>) {
    assert_eq!(told(&sandbox.exec(shell("echo ran")).await), "0:ran\n");
}

#[test]
fn one_that_is_killed_is_replaced_and_its_agents_live() {
    run(async {
        let driver = driver();
        let older = sandbox(&driver).await;
        let first = server();
        for _ in 0..5 {
            let server = server();
            kill_process(server, Signal::KILL).unwrap();
            let newer = sandbox(&driver).await;
            speaks(&older).await;
            speaks(&newer).await;
            assert!(children().iter().all(|(pid, state)| *pid != server && state != "Z"));
            newer.destroy().await.unwrap();
        }
        assert!(children().iter().all(|child| child.0 != first));
        older.destroy().await.unwrap();
        assert_eq!(children().len(), 1, "{:?}", children());
        // It ends with the last who knows the driver.
        drop((older, driver));
        until(|| children().is_empty()).await;
    });
}

#[test]
fn one_that_does_not_answer_is_ended_and_replaced() {
    run(async {
        let driver = driver();
        let older = sandbox(&driver).await;
        let stopped = server();
        kill_process(stopped, Signal::STOP).unwrap();
        let newer = sandbox(&driver).await;
        speaks(&older).await;
        speaks(&newer).await;
        assert!(children().iter().all(|child| child.0 != stopped), "{:?}", children());
        for sandbox in [older, newer] {
            sandbox.destroy().await.unwrap();
        }
        assert_eq!(children().len(), 1, "{:?}", children());
    });
}

/// What a sandbox uses of the kernel counts for whoever owns its namespaces.
#[test]
#[expect(unsafe_code, reason = "`rustix` does not ask a namespace for its owner")]
fn no_two_sandboxes_and_none_of_root_s_share_an_owner() {
    const NS_GET_OWNER_UID: libc::Ioctl = 0xb704;
    if !rustix::process::geteuid().is_root() {
        return eprintln!("not run: an ordinary user has no other users to give");
    }
    let owner = |process: Pid| {
        let path = format!("/proc/{}/ns/user", process.as_raw_nonzero());
        let namespace = std::fs::File::open(path).unwrap();
        let mut owner = u32::MAX;
        // SAFETY: `owner` is what the kernel writes there, and lives until the call returns.
        let told = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_OWNER_UID, &raw mut owner) };
        assert_eq!(told, 0, "{}", std::io::Error::last_os_error());
        owner
    };
    run(async {
        let driver = driver();
        let sandboxes = [sandbox(&driver).await, sandbox(&driver).await];
        let server = server();
        let agents = children().into_iter().map(|child| child.0).filter(|pid| *pid != server);
        let mut owners: Vec<u32> = agents.map(owner).chain([0]).collect();
        owners.sort_unstable();
        owners.dedup();
        assert_eq!(owners.len(), 3, "{owners:?}");
        for sandbox in sandboxes {
            sandbox.destroy().await.unwrap();
        }
    });
}

#[test]
fn more_may_be_wanted_at_once_than_it_is_told_at_once() {
    const COUNT: usize = 320;
    run(async {
        let driver = Arc::new(driver());
        sandbox(&driver).await.destroy().await.unwrap();
        let server = server();
        kill_process(server, Signal::STOP).unwrap();
        let before = descriptors();
        let mut starting = Vec::new();
        for _ in 0..COUNT {
            let driver = Arc::clone(&driver);
            starting.push(tokio::spawn(async move {
                let sandbox = driver.create(SandboxId::new(), &config()).await.unwrap();
                sandbox.start().await.map(|()| sandbox)
            }));
        }
        // Each has its end of a socket: all have asked, or wait until they can.
        until(|| descriptors() >= before + COUNT).await;
        assert!(!starting.iter().any(tokio::task::JoinHandle::is_finished));
        kill_process(server, Signal::CONT).unwrap();
        for start in starting {
            let sandbox = start.await.unwrap().unwrap();
            speaks(&sandbox).await;
            sandbox.destroy().await.unwrap();
        }
        assert_eq!(children().len(), 1, "{:?}", children());
    });
}

#[test]
fn a_sandbox_that_is_dropped_stays_nobodys_child() {
    run(async {
        let driver = driver();
        for _ in 0..10 {
            drop(sandbox(&driver).await);
        }
        let server = server();
        until(|| children().iter().all(|(pid, state)| *pid == server || state == "Z")).await;
        // The next one takes note of their ends.
        sandbox(&driver).await.destroy().await.unwrap();
        assert_eq!(children().len(), 1, "{:?}", children());
    });
}
