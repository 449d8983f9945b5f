//! What is left of a process that was killed, at every step that leaves something on the host; and
//! engines that go and come back.

use std::collections::{BTreeSet, HashMap};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use symbiont_sandbox::{
    Command, DockerDriver, Driver, GvisorDriver, GvisorOptions, ProcessDriver, reap,
};
use symbiont_types::{
    AgentId, FilesystemConfig, NetworkConfig, ResourceLimits, SandboxConfig, SandboxError,
    SandboxId, SecurityTier,
};
use tracing::field::{Field, Visit};

const STEP: &str = "SYMBIONT_TEST_STEP";
const DRIVER: &str = "SYMBIONT_TEST_STEP_DRIVER";
const ENGINE: &str = "SYMBIONT_TEST_STEP_ENGINE";

fn config(tier: SecurityTier) -> SandboxConfig {
    SandboxConfig {
        agent_id: AgentId::new(),
        security_tier: tier,
        resource_limits: ResourceLimits { memory_mb: 128, ..ResourceLimits::default() },
        network_config: NetworkConfig::default(),
        filesystem_config: FilesystemConfig { scratch_mb: 16, ..FilesystemConfig::default() },
        environment_variables: HashMap::new(),
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(future)
}

/// Ends this process as `kill -9` does when a step of this number is told of.
struct Killer {
    at: usize,
    told: AtomicUsize,
}

/// What a step is about.
#[derive(Default)]
struct Told {
    of: String,
    what: String,
}

impl Visit for Told {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        match field.name() {
            "of" => self.of = format!("{value:?}"),
            "message" => self.what = format!("{value:?}"),
            _ => {}
        }
    }
}

impl tracing::Subscriber for Killer {
    fn enabled(&self, about: &tracing::Metadata<'_>) -> bool {
        about.target() == "symbiont_sandbox::step"
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let mut told = Told::default();
        event.record(&mut told);
        println!("\ntold: {}: {}", told.of, told.what);
        if self.told.fetch_add(1, Ordering::SeqCst) + 1 == self.at {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
                .unwrap();
        }
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

async fn driver(name: &str, engine: Option<PathBuf>) -> Result<Arc<dyn Driver>, SandboxError> {
    let state = super::state();
    Ok(match name {
        "process" => Arc::new(ProcessDriver::new(Some(&state))?),
        "gvisor" => Arc::new(GvisorDriver::new(Some(&state), GvisorOptions::default()).await?),
        _ => Arc::new(DockerDriver::new(Some(&state), engine).await?),
    })
}

/// Only the tests below start it so that it does something.
#[test]
fn a_host_that_is_killed_at_a_step() {
    let Ok(at) = std::env::var(STEP) else { return };
    let killer = Killer { at: at.parse().unwrap(), told: AtomicUsize::new(0) };
    tracing::subscriber::set_global_default(killer).unwrap();
    let name = std::env::var(DRIVER).unwrap();
    let engine = std::env::var_os(ENGINE).map(PathBuf::from);
    wait(async {
        let driver = driver(&name, engine).await.unwrap();
        let sandbox = driver.create(SandboxId::new(), &config(driver.tier())).await.unwrap();
        sandbox.start().await.unwrap();
        let result = sandbox.exec(Command::new("true")).await.unwrap();
        assert!(result.is_success(), "{result:?}");
        sandbox.destroy().await.unwrap();
    });
    println!("over");
}

/// Runs that host, to be killed at a step; gives the names that it told of, and how many steps it took.
fn host(driver: &str, engine: Option<&Path>, at: usize) -> (BTreeSet<String>, usize) {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "journal::a_host_that_is_killed_at_a_step", "--nocapture"])
        .env(STEP, at.to_string())
        .env(DRIVER, driver)
        .stderr(Stdio::inherit());
    if let Some(engine) = engine {
        command.env(ENGINE, engine);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    match at {
        0 => assert!(output.status.success() && text.contains("over"), "{text}"),
        _ => assert_eq!(output.status.signal(), Some(9), "{text}"),
    }
    let steps = text.lines().filter_map(|line| line.strip_prefix("told: "));
    let names: Vec<_> = steps.map(|step| step.split_once(": ").unwrap().0.to_owned()).collect();
    let count = names.len();
    (names.into_iter().collect(), count)
}

/// The directories of this name in the hierarchies of control groups.
fn groups(name: &str) -> Vec<PathBuf> {
    fn within(directory: &Path, depth: usize, name: &str, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                match entry.file_name() == *name {
                    true => found.push(entry.path()),
                    false if depth > 0 => within(&entry.path(), depth - 1, name, found),
                    false => {}
                }
            }
        }
    }
    let mut found = Vec::new();
    within(Path::new("/sys/fs/cgroup"), 5, name, &mut found);
    found
}

/// What there is of this name besides control groups.
fn files(name: &str) -> Vec<PathBuf> {
    let meeting = match super::is_root() {
        true => PathBuf::from("/run/symbiont"),
        false => super::state(),
    };
    let all = std::fs::read_dir(meeting.join("gvisor")).into_iter().flatten().flatten();
    let all = all.flat_map(|entry| [entry.path(), entry.path().join(name)]);
    all.filter(|path| path.ends_with(name) && path.exists()).collect()
}

/// Asks an engine, past the driver.
fn ask(socket: &Path, method: &str, path: &str) -> Option<String> {
    use std::io::{Read, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    let head = format!("{method} /v1.41{path} HTTP/1.0\r\nHost: engine\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}

fn containers(socket: &Path) -> Vec<serde_json::Value> {
    let text = ask(socket, "GET", "/containers/json?all=1").expect("the engine answers");
    serde_json::from_str(&text).unwrap()
}

/// Kills a host at each of its steps in turn; after the next start, nothing of it is left.
fn killed_at_every_step(driver: &str, engine: Option<&Path>) {
    // Groups that are named like ours, which no record of ours has.
    let decoy = format!("symbiont-{}", &uuid::Uuid::new_v4().simple().to_string()[..16]);
    let inner = format!("sbx-{}", uuid::Uuid::new_v4().simple());
    let decoys: Vec<PathBuf> = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"]
        .map(|top| Path::new(top).join(&decoy))
        .into_iter()
        .filter(|group| std::fs::create_dir_all(group.join(&inner)).is_ok())
        .collect();
    let (names, steps) = host(driver, engine, 0);
    assert!(steps >= 5 && names.iter().any(|name| name.starts_with("sbx-")), "{names:?}");
    for at in 1..=steps {
        let (names, told) = host(driver, engine, at);
        assert_eq!(told, at);
        let begun = Instant::now();
        loop {
            // The next start.
            let left = wait(reap(Some(&super::state()))).unwrap();
            let of_it: Vec<_> =
                left.iter().filter(|what| names.iter().any(|name| what.contains(name))).collect();
            let remains: Vec<PathBuf> =
                names.iter().flat_map(|name| [groups(name), files(name)].concat()).collect();
            let there = engine.map_or(Vec::new(), containers);
            let there: Vec<_> = there
                .iter()
                .filter(|one| names.iter().any(|name| one.to_string().contains(name.as_str())))
                .collect();
            if of_it.is_empty() && remains.is_empty() && there.is_empty() {
                break;
            }
            let late = begun.elapsed() > Duration::from_secs(20);
            assert!(!late, "{driver}, step {at} of {steps}: {of_it:?} {remains:?} {there:?}");
        }
    }
    for group in &decoys {
        assert!(group.join(&inner).is_dir(), "{} is another's", group.display());
        std::fs::remove_dir(group.join(&inner)).unwrap();
        std::fs::remove_dir(group).unwrap();
    }
}

#[test]
fn a_host_of_processes_that_is_killed_at_any_step_leaves_nothing() {
    killed_at_every_step("process", None);
}

#[test]
fn a_host_of_gvisor_that_is_killed_at_any_step_leaves_nothing() {
    match wait(driver("gvisor", None)) {
        Err(SandboxError::BackendUnavailable { reason }) => eprintln!("not run: {reason}"),
        Err(error) => panic!("{error}"),
        Ok(_) => killed_at_every_step("gvisor", None),
    }
}

/// An engine of our own, with nothing in it.
struct Own {
    directory: tempfile::TempDir,
    dockerd: Child,
}

impl Own {
    /// Started, where that can be.
    fn start() -> Option<Self> {
        let missing = ["dockerd", "containerd"].into_iter().find(|name| {
            let path = std::env::var("PATH").unwrap_or_default();
            !path.split(':').any(|folder| Path::new(folder).join(name).is_file())
        });
        if let Some(name) = missing.filter(|_| super::is_root()) {
            eprintln!("not run: there is no `{name}`");
            return None;
        }
        if !super::is_root() {
            eprintln!("not run: only root can start an engine");
            return None;
        }
        let directory = tempfile::Builder::new().prefix("sbx-engine").tempdir().unwrap();
        let dockerd = Self::spawn(directory.path());
        let mut own = Self { directory, dockerd };
        match own.answers() {
            true => Some(own),
            false => {
                let log = std::fs::read_to_string(own.directory.path().join("log"));
                let log = log.unwrap_or_default();
                eprintln!("not run: dockerd does not start here: {:?}", log.lines().last());
                None
            }
        }
    }

    fn spawn(directory: &Path) -> Child {
        let log = std::fs::File::create(directory.join("log")).unwrap();
        std::process::Command::new("dockerd")
            .args(["--iptables=false", "--bridge=none", "--data-root"])
            .arg(directory.join("data"))
            .arg("--exec-root")
            .arg(directory.join("exec"))
            .arg("--pidfile")
            .arg(directory.join("pid"))
            .arg("-H")
            .arg(format!("unix://{}", directory.join("socket").display()))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// Waits until it answers, or has ended.
    fn answers(&mut self) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(60) {
            if ask(&self.socket(), "GET", "/_ping").is_some_and(|answer| answer.contains("OK")) {
                return true;
            }
            if self.dockerd.try_wait().unwrap().is_some() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(50)); // It tells nobody.
        }
        false
    }

    fn stop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.dockerd);
        let _gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        self.dockerd.wait().unwrap();
    }

    fn start_again(&mut self) {
        self.dockerd = Self::spawn(self.directory.path());
        assert!(self.answers(), "it was there before");
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.stop();
    }
}

#[test]
fn engines_go_and_come_back_and_nothing_is_left_in_them() {
    let Some(mut engine) = Own::start() else { return };
    let socket = engine.socket();
    let of = |id: SandboxId| {
        let id = id.as_uuid().simple().to_string();
        containers(&socket).iter().filter(|one| one["Names"].to_string().contains(&id)).count()
    };
    wait(async {
        let driver = driver("docker", Some(socket.clone())).await.unwrap();
        let config = config(SecurityTier::Tier1);
        let begin = async || {
            let sandbox = driver.create(SandboxId::new(), &config).await.unwrap();
            sandbox.start().await.map(|()| sandbox)
        };
        let first = match begin().await {
            Err(SandboxError::ImageMissing { image }) => return eprintln!("not run: {image}"),
            first => first.unwrap(),
        };

        // It stops while a command runs, and the sandbox is to be destroyed while it is away.
        let running = tokio::spawn({
            let first = Arc::clone(&first);
            async move { first.exec(Command::new("sleep").args(["600"])).await }
        });
        engine.stop();
        let lost = running.await.unwrap().unwrap_err();
        assert!(matches!(lost, SandboxError::AgentLost { .. }), "{lost:?}");
        let away = first.destroy().await.unwrap_err();
        assert!(matches!(away, SandboxError::BackendUnavailable { .. }), "{away:?}");

        // None can be made meanwhile.
        let away = begin().await.unwrap_err();
        assert!(matches!(away, SandboxError::BackendUnavailable { .. }), "{away:?}");

        // It comes back: what could not be destroyed can be, and there is one container for each.
        engine.start_again();
        first.destroy().await.unwrap();
        assert_eq!(of(first.id()), 0);
        let second = begin().await.unwrap();
        assert_eq!(of(second.id()), 1);
        second.destroy().await.unwrap();
        assert_eq!(of(second.id()), 0);
    });
    killed_at_every_step("docker", Some(&engine.socket()));
    assert_eq!(containers(&engine.socket()), [] as [serde_json::Value; 0]);
}

/// In a namespace of its own, whose disk is small; only the test below starts it so.
#[test]
fn where_the_disk_is_small() {
    if std::env::var_os("SYMBIONT_TEST_SMALL").is_none() {
        return;
    }
    // Where root's instances meet; this process alone sees another disk there.
    let place = PathBuf::from("/run/symbiont");
    std::fs::create_dir_all(&place).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k,nr_inodes=64,mode=0755", "tmpfs"])
        .arg(&place)
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("nothing can be mounted here");
        std::process::exit(77);
    }
    let filler = place.join("filler");
    let fill = || {
        // What is left of it, to the last block and the last name.
        let _until_it_is_full = std::fs::write(&filler, vec![0; 1 << 20]);
        (0..64).for_each(|n| drop(std::fs::write(place.join(format!("name-{n}")), "")));
    };
    let free = || {
        std::fs::remove_file(&filler).unwrap();
        (0..64).for_each(|n| drop(std::fs::remove_file(place.join(format!("name-{n}")))));
    };
    wait(async {
        fill();
        let error = ProcessDriver::new(Some(&place)).map(drop).unwrap_err();
        assert!(matches!(error, SandboxError::BackendUnavailable { .. }), "{error:?}");
        assert!(error.to_string().contains("No space left"), "{error}");
        free();
        let driver = ProcessDriver::new(Some(&place)).unwrap();
        let make = async || {
            let sandbox = driver.create(SandboxId::new(), &config(SecurityTier::Tier1)).await?;
            sandbox.start().await?;
            Ok::<_, SandboxError>(sandbox)
        };
        let first = make().await.unwrap();
        fill();
        // What is there goes on; for another its user ids can't be set down, or those of one that
        // is gone are taken again.
        let told = first.exec(Command::new("echo").args(["on"])).await.unwrap();
        assert_eq!(told.stdout, b"on\n");
        match make().await {
            Ok(second) => second.destroy().await.unwrap(),
            Err(error) => {
                assert!(matches!(error, SandboxError::CreateFailed { .. }), "{error:?}");
                assert!(error.to_string().contains("No space left"), "{error}");
            }
        }
        free();
        let third = make().await.unwrap();
        for sandbox in [first, third] {
            sandbox.destroy().await.unwrap();
        }
        drop(driver);
        assert_eq!(reap(Some(&place)).await.unwrap(), Vec::<String>::new());
    });
}

#[test]
fn a_disk_that_is_full_is_told_and_what_is_there_goes_on() {
    if !super::is_root() {
        eprintln!("not run: an ordinary user mounts nothing");
        return;
    }
    let test = "journal::where_the_disk_is_small";
    super::passed(super::again(&["unshare", "-m"], test, "SYMBIONT_TEST_SMALL"));
}
