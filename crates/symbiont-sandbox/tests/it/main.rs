//! Sandboxes as callers see them, on this machine's kernel.

mod agents;
mod conformance;
mod directories;
mod docker;
mod gvisor;
mod journal;
mod landlock;
mod profiles;
mod programs;
mod rounds;
mod streams;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use symbiont_sandbox::{Command, Driver, EntryKind, ProcessDriver, Sandbox};
use symbiont_types::{
    AgentId, CommandResult, FilesystemConfig, Mount, NetworkConfig, NetworkMode, ResourceLimits,
    RootFilesystem, SandboxConfig, SandboxError, SandboxId, SandboxStatus, SecurityTier,
};

fn config() -> SandboxConfig {
    SandboxConfig {
        agent_id: AgentId::new(),
        security_tier: SecurityTier::Tier1,
        resource_limits: ResourceLimits { memory_mb: 256, ..ResourceLimits::default() },
        network_config: NetworkConfig::default(),
        filesystem_config: FilesystemConfig { scratch_mb: 128, ..FilesystemConfig::default() },
        environment_variables: HashMap::new(),
    }
}

fn driver() -> ProcessDriver {
    ProcessDriver::new(Some(&state())).unwrap()
}

/// Where the engine listens that the docker driver is tried with: one that was started for the tests,
/// or the host's own.
fn docker_socket() -> std::path::PathBuf {
    let given = std::env::var_os("SYMBIONT_TEST_DOCKER");
    given.unwrap_or_else(|| "/var/run/docker.sock".into()).into()
}

/// A directory for an ordinary user's state; root's is elsewhere.
fn state() -> std::path::PathBuf {
    // In a namespace of users our own has another number.
    if let Some(directory) = std::env::var_os("SYMBIONT_TEST_STATE") {
        return directory.into();
    }
    let user = rustix::process::geteuid().as_raw();
    let directory = std::env::temp_dir().join(format!("symbiont-sandbox-tests-{user}"));
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

/// A sandbox that stands; `None`, and why, where there is no image to make it of.
async fn started(sandbox: Arc<dyn Sandbox>) -> Option<Arc<dyn Sandbox>> {
    match sandbox.start().await {
        Ok(()) => Some(sandbox),
        Err(SandboxError::ImageMissing { image }) => {
            eprintln!("not run: {image}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

async fn sandbox(driver: &ProcessDriver) -> Arc<dyn Sandbox> {
    sandbox_of(driver, &config()).await
}

async fn sandbox_of(driver: &dyn Driver, config: &SandboxConfig) -> Arc<dyn Sandbox> {
    let sandbox = driver.create(SandboxId::new(), config).await.unwrap();
    sandbox.start().await.unwrap();
    sandbox
}

fn shell(script: &str) -> Command {
    Command::new("sh").args(["-c", script])
}

/// `code:standard output`, or what else happened.
fn told(result: &Result<CommandResult, SandboxError>) -> String {
    match result {
        Ok(r) => {
            let how = match (r.timed_out, r.oom_killed, r.exit_code, r.signal) {
                (true, ..) => "timeout".to_owned(),
                (_, true, ..) => "oom".to_owned(),
                (_, _, Some(code), _) => code.to_string(),
                (_, _, None, Some(signal)) => format!("signal {signal}"),
                (_, _, None, None) => "nothing".to_owned(),
            };
            let mut text = format!("{how}:{}", String::from_utf8_lossy(&r.stdout));
            if !r.stderr.is_empty() {
                text += &format!(" err:{}", String::from_utf8_lossy(&r.stderr));
            }
            text
        }
        Err(error) => format!("error {error}"),
    }
}

/// Runs scripts in a sandbox, one after the other.
async fn try_each(sandbox: &Arc<dyn Sandbox>, cases: &[(&str, &str)]) {
    for (script, want) in cases {
        let got = told(&sandbox.exec(shell(script)).await);
        assert_eq!(got.trim_end(), *want, "{script}");
    }
}

/// The same in one sandbox of the process driver.
#[track_caller]
fn check(cases: &[(&str, &str)]) {
    run(async {
        let driver = driver();
        let sandbox = sandbox(&driver).await;
        try_each(&sandbox, cases).await;
        sandbox.destroy().await.unwrap();
    });
}

#[track_caller]
fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(future)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether the kernel limits memory here; if not, the caller is told so and not passed.
fn has(sandbox: &Arc<dyn Sandbox>, limit: &str) -> bool {
    let has = sandbox.report().limits.iter().any(|line| line.starts_with(limit));
    if !has {
        eprintln!("not run: no control group limits {limit} here");
    }
    has
}

/// Processes of the host whose command line has this in it.
fn processes_with(marker: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let ourselves = entry.file_name().to_str() == Some(&std::process::id().to_string());
        if line.contains(marker) && !ourselves {
            found.push(line);
        }
    }
    found
}

/// Directories of sandboxes in any control group hierarchy.
fn groups_of(name: &str) -> Vec<std::path::PathBuf> {
    let mut left = vec![std::path::PathBuf::from("/sys/fs/cgroup")];
    let mut found = Vec::new();
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy().contains(name) {
                    found.push(entry.path());
                }
                left.push(entry.path());
            }
        }
    }
    found
}

fn group_name(sandbox: &Arc<dyn Sandbox>) -> String {
    format!("sbx-{}", sandbox.id().as_uuid().simple())
}

fn marker() -> String {
    format!("marker{}", uuid::Uuid::new_v4().simple())
}

/// Memory that this process holds, in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Waits for what the kernel does not announce to bystanders.
async fn until(done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(30), "it did not come to pass");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn a_part_of_a_processor_is_a_part_of_its_time() {
    const PART: f64 = 0.1;
    run(async {
        let driver = driver();
        let mut config = config();
        config.resource_limits.cpu_cores = PART;
        let sandbox = sandbox_of(&driver, &config).await;
        if has(&sandbox, "processor") {
            let before = sandbox.usage().await.unwrap();
            let start = Instant::now();
            let spin = shell("while :; do :; done & while :; do :; done");
            let spinning = sandbox.spawn(spin).await.unwrap();
            // A busy machine takes longer for this, which proves the same.
            let (used, after) = loop {
                let after = sandbox.usage().await.unwrap();
                let used = after.cpu_time.unwrap() - before.cpu_time.unwrap();
                if used > Duration::from_millis(200) && after.throttled > before.throttled {
                    break (used, after);
                }
                assert!(start.elapsed() < Duration::from_secs(60), "not held back: {after:?}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            };
            let most = start.elapsed().mul_f64(PART) + Duration::from_millis(100);
            assert!(used <= most, "{used:?} of {most:?}: {after:?}");
            spinning.kill();
        }
        sandbox.destroy().await.unwrap();
    });
}

#[test]
fn where_only_the_choice_of_processors_limits_it_can_not_be_undone() {
    run(async {
        let driver = driver();
        let sandbox = sandbox(&driver).await;
        let choose =
            "python3 -c 'import os; os.sched_setaffinity(0, range(64))' 2>/dev/null; nproc";
        let limited = has(&sandbox, "processor");
        let got = told(&sandbox.exec(shell(choose)).await);
        assert!(limited || got == "0:1\n", "{got}");
        sandbox.destroy().await.unwrap();
    });
}

#[test]
fn commands_go_first_when_memory_is_short() {
    let adjust = "cat /proc/self/oom_score_adj; for lower in 0 -1 -1000; do sh -c \"echo $lower > /proc/self/oom_score_adj\" \
                  2>/dev/null && echo $lower; done; true";
    if is_root() {
        let needed = rustix::thread::CapabilitySet::SYS_RESOURCE;
        if !rustix::thread::capabilities(None).unwrap().effective.contains(needed) {
            eprintln!("not run: root lacks CAP_SYS_RESOURCE, so that nobody could go below 0");
        }
        // Under Landlock they write nothing there.
        let landlock = run(async {
            let driver = driver();
            let sandbox = sandbox(&driver).await;
            let landlock = sandbox.report().landlock;
            sandbox.destroy().await.unwrap();
            landlock
        });
        check(&[(adjust, if landlock.is_some() { "0:500" } else { "0:500\n0" })]);
    } else {
        check(&[("cat /proc/self/oom_score_adj", "0:500")]);
    }
}

#[test]
fn files_that_fill_the_memory_are_refused_and_those_there_stay() {
    run(async {
        let driver = driver();
        let mut config = config();
        config.resource_limits.memory_mb = 64;
        config.filesystem_config.scratch_mb = 256;
        let sandbox = sandbox_of(&driver, &config).await;
        if !has(&sandbox, "memory") {
            return sandbox.destroy().await.unwrap();
        }
        let chunk = vec![b'x'; 1 << 20];
        for directory in ["/workspace", "/tmp"] {
            let mut written = 0;
            let refused = loop {
                match sandbox.write_file(&format!("{directory}/{written}"), &chunk, 0o644).await {
                    Ok(()) => written += 1,
                    Err(error) => break error,
                }
            };
            assert_eq!(refused, SandboxError::StorageFull, "{directory} after {written} MiB");
            for n in 0..written {
                let read = sandbox.read_file(&format!("{directory}/{n}"), 1 << 20).await;
                assert!(read.unwrap() == chunk, "{directory}/{n}");
            }
            assert!(written >= 8, "{written} MiB in {directory}");
        }
        let fill = shell("head -c 256M /dev/zero > /dev/shm/x; echo $?");
        assert!(told(&sandbox.exec(fill).await).starts_with("0:1\n"));
        // A command that wants more than what is left loses, and the files do not.
        let hog = Command::new("python3").args(["-c", "bytearray(64 << 20)"]);
        assert_eq!(told(&sandbox.exec(hog).await), "oom:");
        assert_eq!(sandbox.read_file("/workspace/0", 1 << 20).await.unwrap().len(), 1 << 20);
        let report = sandbox.report();
        assert!(
            report.degraded.iter().any(|line| line.starts_with("workspace: 25 MiB of the 256"))
        );
        sandbox.destroy().await.unwrap();
    });
}

#[test]
fn a_name_is_the_name_of_one_file() {
    run(async {
        let driver = driver();
        let local = tempfile::tempdir().unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(local.path(), open).unwrap();
        std::fs::write(local.path().join("one"), "host").unwrap();
        std::fs::hard_link(local.path().join("one"), local.path().join("two")).unwrap();
        let mut config = config();
        config.filesystem_config.mounts = vec![Mount {
            source: local.path().to_owned(),
            target: "/workspace/in".to_owned(),
            read_only: true,
        }];
        let sandbox = sandbox_of(&driver, &config).await;
        let prepare = "mkdir dir; echo secret > dir/secret; ln -s secret dir/soft; ln -s dir way; \
                       ln dir/secret hard; echo plain > plain; ln -s /nowhere broken";
        assert_eq!(told(&sandbox.exec(shell(prepare)).await), "0:");
        let refused = |error: SandboxError| matches!(error, SandboxError::PathForbidden { .. });
        for path in ["dir/soft", "way/secret", "dir/secret", "hard", "broken"] {
            let error = sandbox.read_file(path, 99).await.unwrap_err();
            assert!(refused(error.clone()), "{path}: {error:?}");
        }
        for path in ["plain", "in/one"] {
            assert!(sandbox.read_file(path, 99).await.is_ok(), "{path}");
        }
        assert!(refused(sandbox.list("way").await.unwrap_err()));
        assert!(refused(sandbox.stat("way/secret".as_ref()).await.unwrap_err()));
        for (path, kind) in
            [("way", EntryKind::Link), ("broken", EntryKind::Link), ("hard", EntryKind::File)]
        {
            assert_eq!(sandbox.stat(path.as_ref()).await.unwrap().unwrap().kind, kind, "{path}");
        }
        assert!(refused(sandbox.write_file("way/secret", b"x", 0o644).await.unwrap_err()));
        assert!(refused(sandbox.write_file("dir/soft", b"x", 0o644).await.unwrap_err()));
        assert!(refused(sandbox.remove("way/secret").await.unwrap_err()));
        // What replaces or removes one name leaves the other as it was.
        sandbox.write_file("hard", b"new", 0o644).await.unwrap();
        sandbox.remove("dir/soft").await.unwrap();
        assert_eq!(sandbox.read_file("dir/secret", 99).await.unwrap(), b"secret\n");
        sandbox.remove("way").await.unwrap();
        assert_eq!(sandbox.list("dir").await.unwrap().len(), 1);
        // A local name as long as there are.
        let long = local.path().join("n".repeat(255));
        assert_eq!(sandbox.download("plain".as_ref(), &long).await, Ok(6));
        sandbox.destroy().await.unwrap();
    });
}

#[test]
fn what_a_sandbox_can_not_be_is_refused_before_it_is_made() {
    run(async {
        let driver = driver();
        type Change = fn(&mut SandboxConfig);
        let cases: Vec<(Change, &str)> = vec![
            (|c| c.network_config.mode = NetworkMode::Host, "IsolationUnavailable"),
            (
                |c| c.network_config.mode = NetworkMode::Open { deny_private: true },
                "IsolationUnavailable",
            ),
            (
                |c| c.network_config.mode = NetworkMode::Proxy { allow: vec![] },
                "IsolationUnavailable",
            ),
            (
                |c| c.filesystem_config.rootfs = RootFilesystem::Image("debian".into()),
                "ImageMissing",
            ),
            (
                |c| c.filesystem_config.rootfs = RootFilesystem::Dir("/nonexistent".into()),
                "InvalidArgument",
            ),
            (|c| c.filesystem_config.read_only = false, "InvalidArgument"),
            (|c| c.filesystem_config.scratch_mb = 0, "InvalidArgument"),
            (|c| c.filesystem_config.workdir = "x".into(), "InvalidArgument"),
            (|c| c.resource_limits.memory_mb = 0, "InvalidArgument"),
            (|c| c.resource_limits.cpu_cores = f64::NAN, "InvalidArgument"),
            (|c| c.security_tier = SecurityTier::Tier2, "InvalidArgument"),
            (
                |c| drop(c.environment_variables.insert("LD_PRELOAD".into(), "x".into())),
                "InvalidArgument",
            ),
            (
                |c| {
                    c.filesystem_config.mounts.push(Mount {
                        source: "/usr".into(),
                        target: "/proc".into(),
                        read_only: true,
                    });
                },
                "PathForbidden",
            ),
            (
                |c| {
                    c.filesystem_config.mounts.push(Mount {
                        source: "/missing".into(),
                        target: "/data".into(),
                        read_only: true,
                    });
                },
                "InvalidArgument",
            ),
        ];
        for (change, want) in cases {
            let mut config = config();
            change(&mut config);
            let error =
                format!("{:?}", driver.create(SandboxId::new(), &config).await.unwrap_err());
            assert!(error.starts_with(want), "{error} is not {want}");
        }
    });
}

#[test]
fn mounts_and_directories_of_the_host_appear_where_they_were_asked_for() {
    run(async {
        let driver = driver();
        let local = tempfile::tempdir().unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode;
        std::fs::set_permissions(local.path(), open(0o777)).unwrap();
        std::fs::write(local.path().join("file"), "text").unwrap();
        let mount = |target: &str, read_only| Mount {
            source: local.path().to_owned(),
            target: target.to_owned(),
            read_only,
        };
        let mut config = config();
        config.filesystem_config.mounts =
            vec![mount("/data/in", true), mount("/workspace/out", false)];
        let sandbox = sandbox_of(&driver, &config).await;
        let script = "cat /data/in/file; touch /data/in/x 2>/dev/null || echo ' sealed'; echo y > out/y; cat /data/in/y";
        assert_eq!(told(&sandbox.exec(shell(script)).await), "0:text sealed\ny\n");
        assert_eq!(std::fs::read(local.path().join("y")).unwrap(), b"y\n");
        sandbox.destroy().await.unwrap();

        // What becomes a link after it was looked at is not followed.
        let place = local.path().join("place");
        std::fs::create_dir(&place).unwrap();
        config.filesystem_config.mounts =
            vec![Mount { source: place.clone(), target: "/data".to_owned(), read_only: true }];
        let sandbox = driver.create(SandboxId::new(), &config).await.unwrap();
        std::fs::remove_dir(&place).unwrap();
        std::os::unix::fs::symlink("/etc", &place).unwrap();
        let error = sandbox.start().await.unwrap_err();
        assert!(error.to_string().contains("symbolic links"), "{error}");
        sandbox.destroy().await.unwrap();

        // A root of its own: the host's programs by links in it, and a file of its own.
        let root = tempfile::tempdir().unwrap();
        std::fs::set_permissions(root.path(), open(0o755)).unwrap();
        for directory in ["opt", "bin", "proc", "data"] {
            std::fs::create_dir(root.path().join(directory)).unwrap();
        }
        std::fs::write(root.path().join("data/own"), "own").unwrap();
        std::os::unix::fs::symlink("/opt/usr/lib64", root.path().join("lib64")).unwrap();
        let mut config = self::config();
        config.filesystem_config.rootfs = RootFilesystem::Dir(root.path().to_owned());
        config.filesystem_config.mounts =
            vec![Mount { source: "/usr".into(), target: "/usr2".into(), read_only: true }];
        let sandbox = sandbox_of(&driver, &config).await;
        assert_eq!(
            sandbox.exec(Command::new("sh")).await.unwrap_err().to_string(),
            "`sh` could not be run: not found"
        );
        sandbox.destroy().await.unwrap();
    });
}

#[test]
fn a_stop_ends_commands_that_begin_at_the_same_time() {
    run(async {
        let driver = driver();
        let sandbox = sandbox(&driver).await;
        for _ in 0..30 {
            let marker = marker();
            let script = format!("sleep 600; : {marker}");
            let running: Vec<_> = (0..4)
                .map(|_| {
                    let (sandbox, script) = (Arc::clone(&sandbox), script.clone());
                    tokio::spawn(async move { sandbox.exec(shell(&script)).await })
                })
                .collect();
            sandbox.stop().await.unwrap();
            assert_eq!(sandbox.status(), SandboxStatus::Stopped);
            assert_eq!(processes_with(&marker), Vec::<String>::new());
            for one in running {
                match one.await.unwrap() {
                    Ok(result) => assert_eq!(told(&Ok(result)), "signal 9:"),
                    Err(error) => {
                        assert!(matches!(error, SandboxError::InvalidState { .. }), "{error:?}");
                    }
                }
            }
            sandbox.start().await.unwrap();
        }
        sandbox.destroy().await.unwrap();
    });
}

#[test]
fn a_caller_that_gives_up_takes_no_place_with_it() {
    run(async {
        let driver = driver();
        let sandbox = sandbox(&driver).await;
        for n in 0..200_u64 {
            // At any moment of the beginning, the very first included.
            let moment = Duration::from_micros(n % 4 * 300);
            let _given_up = tokio::time::timeout(moment, sandbox.exec(shell("sleep 600"))).await;
        }
        let start = Instant::now();
        loop {
            let all: Vec<_> = (0..32)
                .map(|_| {
                    let sandbox = Arc::clone(&sandbox);
                    tokio::spawn(async move { sandbox.exec(shell("sleep 0.2")).await.is_ok() })
                })
                .collect();
            let mut at_once = 0;
            for one in all {
                at_once += usize::from(one.await.unwrap());
            }
            if at_once == 32 {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "only {at_once} at once");
        }
        sandbox.destroy().await.unwrap();
    });
}

#[test]
fn an_agent_that_does_not_answer_is_given_up() {
    // By whoever waits for a command, and by whoever stops the sandbox.
    for (timeout, stops) in [(1, false), (60, true)] {
        run(async {
            let driver = driver();
            let sandbox = sandbox(&driver).await;
            let groups = groups_of(&group_name(&sandbox));
            if groups.is_empty() {
                eprintln!("not run: no control groups to find the agent by");
                return sandbox.destroy().await.unwrap();
            }
            let marker = marker();
            let script = format!("sleep 600; : {marker}");
            let command = Command { timeout: Duration::from_secs(timeout), ..shell(&script) };
            let running = {
                let sandbox = Arc::clone(&sandbox);
                tokio::spawn(async move { sandbox.exec(command).await })
            };
            until(|| !processes_with(&marker).is_empty()).await;
            for pid in members(&groups) {
                rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
            }
            if stops {
                let error = sandbox.stop().await.unwrap_err();
                assert!(matches!(error, SandboxError::BackendUnavailable { .. }), "{error:?}");
            }
            let error = running.await.unwrap().unwrap_err();
            assert!(matches!(error, SandboxError::AgentLost { .. }), "{error:?}");
            assert_eq!(processes_with(&marker), Vec::<String>::new());
            assert!(matches!(sandbox.status(), SandboxStatus::Failed { .. }));
            assert_eq!(groups_of(&group_name(&sandbox)), Vec::<std::path::PathBuf>::new());
            sandbox.destroy().await.unwrap();
        });
    }
}

#[test]
fn an_agent_that_dies_is_noticed() {
    run(async {
        let driver = driver();
        for _ in 0..5 {
            let sandbox = sandbox(&driver).await;
            let groups = groups_of(&group_name(&sandbox));
            if groups.is_empty() {
                eprintln!("not run: no control groups to find the agent by");
                return sandbox.destroy().await.unwrap();
            }
            for pid in members(&groups) {
                let _with_the_other =
                    rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            until(|| matches!(sandbox.status(), SandboxStatus::Failed { .. })).await;
            sandbox.destroy().await.unwrap();
        }
    });
}

#[test]
fn commands_run_beside_each_other() {
    run(async {
        let driver = driver();
        let sandbox = sandbox(&driver).await;
        let start = Instant::now();
        let mut running = Vec::new();
        for n in 0..32 {
            let sandbox = Arc::clone(&sandbox);
            running.push(tokio::spawn(async move {
                told(&sandbox.exec(shell(&format!("sleep 1; echo {n}"))).await)
            }));
        }
        for (n, one) in running.into_iter().enumerate() {
            assert_eq!(one.await.unwrap(), format!("0:{n}\n"));
        }
        assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
        sandbox.destroy().await.unwrap();
    });
}

/// Plays the part of a host that is killed; only [`a_killed_host_leaves_nothing`] starts it so.
#[test]
fn a_host_that_will_be_killed() {
    let Ok(marker) = std::env::var("SYMBIONT_TEST_MARKER") else { return };
    run(async {
        let driver = driver();
        let sandbox = sandbox(&driver).await;
        println!("group {}", group_name(&sandbox));
        let script = format!("(setsid sleep 600 &); trap '' TERM; sleep 600; : {marker}");
        let _never =
            sandbox.exec(Command { timeout: Duration::from_secs(600), ..shell(&script) }).await;
    });
}

/// Only [`a_killed_host_leaves_nothing`] starts it so that it does something.
#[test]
fn the_next_instance() {
    if std::env::var_os("SYMBIONT_TEST_NEXT").is_some() {
        drop(driver());
    }
}

/// A group beside and beneath those that the host is in, for a process to be in another place.
struct Elsewhere(Vec<std::path::PathBuf>);

impl Elsewhere {
    fn new(groups: &[std::path::PathBuf]) -> Self {
        let name = marker();
        let beside = |group: &std::path::PathBuf| {
            let host = group.parent().unwrap().parent().unwrap();
            let deep = host.join(&name).join("deep");
            std::fs::create_dir_all(&deep).unwrap();
            deep
        };
        Self(groups.iter().map(beside).collect())
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        for group in &self.0 {
            let _gone = std::fs::remove_dir(group);
            let _gone = std::fs::remove_dir(group.parent().unwrap());
        }
    }
}

#[test]
fn a_killed_host_leaves_nothing() {
    for wedged in [false, true] {
        let marker = marker();
        let mut host = again(&[], "a_host_that_will_be_killed", "SYMBIONT_TEST_UNUSED")
            .env("SYMBIONT_TEST_MARKER", &marker)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let out = std::io::BufReader::new(host.stdout.take().unwrap());
        let name = std::io::BufRead::lines(out)
            .find_map(|line| line.unwrap().split_once("group ").map(|(_, name)| name.to_owned()))
            .unwrap();
        run(until(|| !processes_with(&marker).is_empty()));
        let groups = groups_of(&name);
        if wedged && groups.is_empty() {
            eprintln!("not run: no control groups here");
        }
        if wedged {
            // An agent that does not notice that its host has gone.
            for pid in members(&groups) {
                rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
            }
        }
        host.kill().unwrap();
        host.wait().unwrap();
        if !wedged {
            run(until(|| processes_with(&marker).is_empty()));
        }
        // The next instance runs in another group, and finds what is left all the same.
        let elsewhere = Elsewhere::new(&groups);
        let enter = "for group; do case $group in /sys/*) echo $$ > \"$group/cgroup.procs\" ;; \
                     *) break ;; esac; shift; done; exec \"$@\"";
        let mut before = vec!["sh", "-c", enter, "sh"];
        before.extend(elsewhere.0.iter().map(|group| group.to_str().unwrap()));
        run(until(|| {
            passed(again(&before, "the_next_instance", "SYMBIONT_TEST_NEXT"));
            groups_of(&name).is_empty()
        }));
        run(until(|| processes_with(&marker).is_empty()));
    }
}

/// The processes in these groups.
fn members(groups: &[std::path::PathBuf]) -> Vec<rustix::process::Pid> {
    let text = |group: &std::path::PathBuf| {
        std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default()
    };
    let numbers = groups.first().map(text).unwrap_or_default();
    let pids = numbers.lines().filter_map(|line| line.parse().ok());
    pids.filter_map(rustix::process::Pid::from_raw).collect()
}

#[test]
fn the_probe_tells_what_works() {
    run(async {
        let driver = driver();
        let probe = driver.probe().await;
        assert!(probe.available, "{probe:?}");
        assert_eq!((driver.name(), driver.tier()), ("process", SecurityTier::Tier1));
        let sandbox = sandbox(&driver).await;
        let report = sandbox.report();
        assert!(report.no_new_privileges && report.capabilities_dropped, "{report:?}");
        assert_eq!(report.namespaces.len(), 7);
        assert_eq!(report.user_mapping.starts_with("65536 ids"), is_root());
        sandbox.destroy().await.unwrap();
    });
}

/// Starts one of the tests again, in another process that may be under another program.
fn again(before: &[&str], test: &str, variable: &str) -> std::process::Command {
    let own = std::env::current_exe().unwrap();
    let mut command = match before {
        [] => std::process::Command::new(own),
        [program, arguments @ ..] => {
            let mut command = std::process::Command::new(program);
            command.args(arguments).arg(own);
            command
        }
    };
    command.args(["--exact", test, "--nocapture"]).env(variable, "1");
    command.env("SYMBIONT_TEST_STATE", state());
    command
}

/// That a test which was started [`again`] passed; with code 77 it says that it can't be run.
#[track_caller]
fn passed(mut command: std::process::Command) {
    match command.output() {
        Err(error) => eprintln!("not run: {:?}: {error}", command.get_program()),
        Ok(output) if output.status.code() == Some(77) => {
            eprintln!("not run: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(output) => assert!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
    }
}

/// That nothing can be made, for want of a control that is described so.
async fn nothing_is_made(why: &str) {
    let driver = driver();
    let probe = driver.probe().await;
    assert!(!probe.available && probe.detail.contains(why), "{probe:?}");
    let sandbox = driver.create(SandboxId::new(), &config()).await.unwrap();
    let error = sandbox.start().await.unwrap_err();
    assert!(matches!(error, SandboxError::IsolationUnavailable { .. }), "{error:?}");
    assert!(matches!(sandbox.status(), SandboxStatus::Failed { .. }));
    assert!(sandbox.exec(shell("true")).await.is_err());
    sandbox.destroy().await.unwrap();
    assert_eq!(groups_of(&group_name(&sandbox)), Vec::<std::path::PathBuf>::new());
}

/// Only [`without_user_namespaces_nothing_is_made`] starts it so that it does something.
#[test]
fn where_user_namespaces_are_forbidden() {
    if std::env::var_os("SYMBIONT_TEST_FORBIDDEN").is_some() {
        run(nothing_is_made("max_user_namespaces"));
    }
}

#[test]
fn without_user_namespaces_nothing_is_made() {
    // The limit is one of a namespace of our own: the host's stays as it is.
    let forbid = "echo 0 > /proc/sys/user/max_user_namespaces || exit 77; exec \"$@\"";
    let before = ["unshare", "--user", "--map-root-user", "sh", "-c", forbid, "sh"];
    passed(again(&before, "where_user_namespaces_are_forbidden", "SYMBIONT_TEST_FORBIDDEN"));
}

/// Only [`a_hidden_system_call_is_told`] starts it so that it does something.
#[test]
fn where_clone3_is_hidden() {
    if std::env::var_os("SYMBIONT_TEST_HIDDEN").is_none() {
        return;
    }
    let filter = seccompiler::SeccompFilter::new(
        [(libc::SYS_clone3, Vec::new())].into_iter().collect(),
        seccompiler::SeccompAction::Allow,
        seccompiler::SeccompAction::Errno(libc::ENOSYS.cast_unsigned()),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: seccompiler::BpfProgram = filter.unwrap().try_into().unwrap();
    // Before there are other threads.
    seccompiler::apply_filter(&program).unwrap();
    run(nothing_is_made("clone3"));
}

#[test]
fn a_hidden_system_call_is_told() {
    passed(again(&[], "where_clone3_is_hidden", "SYMBIONT_TEST_HIDDEN"));
}

/// Only [`root_of_one_user_makes_sandboxes_like_that_user`] starts it so that it does something.
#[test]
fn where_root_is_one_user() {
    if std::env::var_os("SYMBIONT_TEST_ONE_USER").is_none() {
        return;
    }
    assert!(is_root());
    run(async {
        let driver = driver();
        let probe = driver.probe().await;
        assert!(probe.available, "{probe:?}");
        let sandbox = sandbox(&driver).await;
        assert_eq!(sandbox.report().user_mapping, "one id");
        assert_eq!(told(&sandbox.exec(shell("id -u")).await), "0:1000\n");
        sandbox.destroy().await.unwrap();
    });
}

#[test]
fn root_of_one_user_makes_sandboxes_like_that_user() {
    let before = ["unshare", "--user", "--map-root-user"];
    passed(again(&before, "where_root_is_one_user", "SYMBIONT_TEST_ONE_USER"));
}

/// Only [`groups_that_commands_keep_are_told`] starts it so that it does something.
#[test]
fn where_a_user_has_groups() {
    let Some(kept) = std::env::var_os("SYMBIONT_TEST_GROUPS") else { return };
    run(async {
        let driver = driver();
        let sandbox = sandbox(&driver).await;
        let told_of = |degraded: Vec<String>| {
            let line = degraded.into_iter().find(|line| line.starts_with("groups: "));
            line.map_or("nothing".to_owned(), |line| line[line.find('(').unwrap()..].to_owned())
        };
        for degraded in [sandbox.report().degraded, driver.probe().await.degraded] {
            let told = told_of(degraded);
            assert!(told.starts_with(kept.to_str().unwrap()), "{told}");
        }
        // What is told is so: those that are not mapped all have one number inside.
        let inside = told(&sandbox.exec(shell("id -G")).await);
        assert_eq!(inside.contains("65534"), kept != "nothing", "{inside}");
        sandbox.destroy().await.unwrap();
    });
}

#[test]
fn groups_that_commands_keep_are_told() {
    if !is_root() {
        return eprintln!("not run: only root can become someone else");
    }
    let directory = tempfile::tempdir().unwrap();
    let program = for_everyone(&directory);
    for (groups, kept) in [
        ("--groups=70004,65534,70002", "(70002, 70004)"),
        ("--groups=65534", "nothing"),
        ("--clear-groups", "nothing"),
    ] {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", groups]).arg(&program);
        command.args(["--exact", "where_a_user_has_groups", "--nocapture"]).current_dir("/");
        command.env("SYMBIONT_TEST_GROUPS", kept);
        passed(command);
    }
}

/// This program, where an ordinary user can read it.
fn for_everyone(directory: &tempfile::TempDir) -> std::path::PathBuf {
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(directory.path(), open).unwrap();
    let program = directory.path().join("it");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    program
}

/// Only [`a_terminal_ends_no_sandbox`] starts it so that it does something.
#[test]
fn where_a_terminal_interrupts() {
    if std::env::var_os("SYMBIONT_TEST_TERMINAL").is_none() {
        return;
    }
    run(async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut signals = [SignalKind::interrupt(), SignalKind::quit(), SignalKind::hangup()]
            .map(|kind| signal(kind).unwrap());
        let driver = driver();
        let sandbox = sandbox(&driver).await;
        for signal in &mut signals {
            println!("ready");
            signal.recv().await;
            assert_eq!(told(&sandbox.exec(shell("echo fine")).await), "0:fine\n");
        }
        sandbox.destroy().await.unwrap();
        // The terminal may be gone.
        let file = std::env::var_os("SYMBIONT_TEST_TERMINAL").unwrap();
        std::fs::write(file, "all fine").unwrap();
    });
}

#[test]
fn a_terminal_ends_no_sandbox() {
    use std::io::{BufRead, BufReader, Write};
    use std::process::Stdio;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("result");
    let own = std::env::current_exe().unwrap();
    let inner = format!("{} --exact where_a_terminal_interrupts --nocapture", own.display());
    let script = std::process::Command::new("script")
        .args(["--quiet", "--command", &inner, "/dev/null"])
        .env("SYMBIONT_TEST_TERMINAL", &file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut script = match script {
        Ok(script) => script,
        Err(error) => return eprintln!("not run: script: {error}"),
    };
    let mut keys = script.stdin.take().unwrap();
    let mut lines = BufReader::new(script.stdout.take().unwrap()).lines();
    for key in [Some(b"\x03"), Some(b"\x1c"), None] {
        let ready = lines.by_ref().any(|line| line.is_ok_and(|line| line.contains("ready")));
        assert!(ready, "it ended too early");
        match key {
            Some(key) => keys.write_all(key).unwrap(),
            // It closes the terminal when it ends.
            None => script.kill().unwrap(),
        }
    }
    script.wait().unwrap();
    run(until(|| std::fs::read(&file).is_ok_and(|text| text == b"all fine")));
}

/// All of the above once more, as a user without any power over the host: each test in a process of
/// its own, as it is for root, since some weigh their process.
#[test]
fn the_same_for_an_ordinary_user() {
    if !is_root() {
        eprintln!("not run: only root can become someone else");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let program = for_everyone(&directory);
    let probe = directory.path().join("probe");
    std::fs::copy(conformance::probe_program(), &probe).unwrap();
    let as_user = |arguments: &[&str]| {
        std::process::Command::new("setpriv")
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .arg(&program)
            .args(arguments)
            .env("SYMBIONT_TEST_PROBE", &probe)
            .current_dir("/")
            .output()
    };
    // Of the table only what differs for a user: an engine is root's, and gVisor's kernel is the same.
    let skipped =
        ["--skip", "the_same_for_an_ordinary_user", "--skip", "::docker", "--skip", "::gvisor"];
    let list = match as_user(&[&["--list", "--format", "terse"], &skipped[..]].concat()) {
        Ok(output) => String::from_utf8(output.stdout).unwrap(),
        Err(error) => return eprintln!("not run: setpriv: {error}"),
    };
    let tests: Vec<&str> = list.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    assert!(tests.len() > 100, "{list}");

    let left = std::sync::Mutex::new(tests.into_iter());
    let worker = || {
        let mut failed = String::new();
        while let Some(test) = { left.lock().unwrap().next() } {
            let output = as_user(&["--exact", test, "--nocapture"]).unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            if !output.status.success() {
                failed +=
                    &format!("{test}:\n{}{errors}\n", String::from_utf8_lossy(&output.stdout));
            }
            for line in errors.lines().filter(|line| line.starts_with("not run: ")) {
                eprintln!("{line} (as an ordinary user)");
            }
        }
        failed
    };
    let failed = std::thread::scope(|scope| {
        let workers = [scope.spawn(worker), scope.spawn(worker)];
        workers.map(|worker| worker.join().unwrap()).concat()
    });
    assert!(failed.is_empty(), "{failed}");
}
