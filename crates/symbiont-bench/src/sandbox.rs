//! Sandboxes of every driver, beside other programs that make them.

mod tiers;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use symbiont_runtime::{
    AgentId, CommandResult, DefaultSandboxOrchestrator, FilesystemConfig, HashMap, NetworkConfig,
    ResourceLimits, SandboxConfig, SandboxError, SandboxExt, SandboxId, SandboxOrchestrator,
    SandboxOrchestratorConfig, SecurityTier,
};
use symbiont_sandbox::{Driver, GvisorDriver, GvisorOptions, Sandbox};

use crate::table::{Absent, Peer, Rows};
use crate::{Scale, directory, median, millis};

const WHOLE: &str = "process create+exec+destroy, p50";
const EXEC: &str = "process exec, p50";
const GVISOR_WHOLE: &str = "gvisor create+exec+destroy, p50";
const GVISOR_EXEC: &str = "gvisor exec, p50";

/// Prints a word, so that one can tell that it ran.
const PROGRAM: [&str; 2] = ["echo", "ran"];

pub(crate) async fn measure(scale: Scale, rows: &mut Rows<'_>) {
    let count = scale.of(100, 5);
    let n = || format!("{count} sandboxes");
    let runc_name = format!("{WHOLE} (runc)");
    let whole = whole(count).await;
    match whole {
        Ok(value) => {
            let outcome = Ok((value, peer("bwrap", bwrap(count), rows, WHOLE)));
            rows.add(WHOLE, "ms", n(), outcome);
            let beside_runc = runc(count).map(|peer| (value, Some(Peer::new("runc", peer))));
            rows.add(&runc_name, "ms", n(), beside_runc);
        }
        Err(error) => {
            let again = again(&error);
            rows.add(WHOLE, "ms", n(), Err(error));
            rows.add(&runc_name, "ms", n(), Err(again));
        }
    }
    let count = scale.of(500, 10);
    let outcome = exec(count).await.and_then(|value| {
        let bare = median_of(count, || on_host(Command::new(PROGRAM[0]).args(&PROGRAM[1..])))?;
        Ok((value, Some(Peer::new("fork + exec on the host", bare))))
    });
    rows.add(EXEC, "ms", format!("{count} commands"), outcome);
    gvisor(scale, rows).await;
    tiers::measure(scale, rows).await;
}

/// Both beside a `runsc run`, which is what a command costs where no guest is kept.
async fn gvisor(scale: Scale, rows: &mut Rows<'_>) {
    let (sandboxes, commands) = (scale.of(20, 2), scale.of(100, 5));
    let driver = match GvisorDriver::new(None, GvisorOptions::default()).await {
        Ok(driver) => driver,
        Err(error) => {
            let error = unavailable(error);
            rows.add(GVISOR_WHOLE, "ms", format!("{sandboxes} sandboxes"), Err(again(&error)));
            rows.add(GVISOR_EXEC, "ms", format!("{commands} commands"), Err(error));
            return;
        }
    };
    let whole = gvisor_whole(&driver, sandboxes).await;
    let whole = whole.map(|value| (value, peer("runsc run", runsc(sandboxes), rows, GVISOR_WHOLE)));
    rows.add(GVISOR_WHOLE, "ms", format!("{sandboxes} sandboxes"), whole);
    let exec = gvisor_exec(&driver, commands).await;
    let exec = exec.map(|value| (value, peer("runsc run", runsc(sandboxes), rows, GVISOR_EXEC)));
    rows.add(GVISOR_EXEC, "ms", format!("{commands} commands"), exec);
}

async fn gvisor_sandbox(driver: &GvisorDriver) -> Result<Arc<dyn Sandbox>> {
    let config = SandboxConfig { security_tier: SecurityTier::Tier2, ..config() };
    let sandbox = driver.create(SandboxId::new(), &config).await.map_err(unavailable)?;
    sandbox.start().await.map_err(unavailable)?;
    Ok(sandbox)
}

async fn gvisor_whole(driver: &GvisorDriver, count: usize) -> Result<f64> {
    let mut times = Vec::new();
    for number in 0..count + count / 10 {
        let began = Instant::now();
        let sandbox = gvisor_sandbox(driver).await?;
        let result = sandbox.exec(symbiont_sandbox::Command::new(PROGRAM[0]).args(arguments()));
        let result = result.await?;
        sandbox.destroy().await?;
        let took = began.elapsed();
        expect(&result)?;
        if number >= count / 10 {
            times.push(millis(took));
        }
    }
    Ok(median(&mut times))
}

async fn gvisor_exec(driver: &GvisorDriver, count: usize) -> Result<f64> {
    let sandbox = gvisor_sandbox(driver).await?;
    let mut times = Vec::new();
    for number in 0..count + count / 10 {
        let began = Instant::now();
        let result = sandbox.exec(symbiont_sandbox::Command::new(PROGRAM[0]).args(arguments()));
        let result = result.await?;
        let took = began.elapsed();
        expect(&result)?;
        if number >= count / 10 {
            times.push(millis(took));
        }
    }
    sandbox.destroy().await?;
    Ok(median(&mut times))
}

/// A peer that is measured if it is there.
fn peer(name: &'static str, value: Result<f64>, rows: &mut Rows<'_>, row: &str) -> Option<Peer> {
    match value {
        Ok(value) => Some(Peer::new(name, value)),
        Err(error) => {
            rows.without_peer(row, name, &error);
            None
        }
    }
}

/// The same error once more, as far as it matters.
fn again(error: &anyhow::Error) -> anyhow::Error {
    let text = format!("{error:#}");
    match error.downcast_ref::<Absent>() {
        Some(_) => Absent(text).into(),
        None => anyhow::anyhow!(text),
    }
}

/// The median time, in milliseconds, from nothing over a command to nothing.
async fn whole(count: usize) -> Result<f64> {
    let directory = directory()?;
    let orchestrator = orchestrator(directory.path()).await?;
    let mut times = Vec::new();
    for number in 0..count + count / 10 {
        let began = Instant::now();
        let id = orchestrator.create_sandbox(config()).await.map_err(unavailable)?;
        orchestrator.start_sandbox(id).await.map_err(unavailable)?;
        let result = orchestrator.execute_command(id, PROGRAM[0], arguments()).await?;
        orchestrator.destroy_sandbox(id).await?;
        let took = began.elapsed();
        expect(&result)?;
        if number >= count / 10 {
            times.push(millis(took));
        }
    }
    orchestrator.shutdown().await;
    Ok(median(&mut times))
}

/// The median time of a command in a sandbox that is there, in milliseconds.
async fn exec(count: usize) -> Result<f64> {
    let directory = directory()?;
    let orchestrator = orchestrator(directory.path()).await?;
    let id = orchestrator.create_sandbox(config()).await.map_err(unavailable)?;
    orchestrator.start_sandbox(id).await.map_err(unavailable)?;
    let mut times = Vec::new();
    for number in 0..count + count / 10 {
        let began = Instant::now();
        let result = orchestrator.execute_command(id, PROGRAM[0], arguments()).await?;
        let took = began.elapsed();
        expect(&result)?;
        if number >= count / 10 {
            times.push(millis(took));
        }
    }
    orchestrator.destroy_sandbox(id).await?;
    orchestrator.shutdown().await;
    Ok(median(&mut times))
}

async fn orchestrator(directory: &Path) -> Result<DefaultSandboxOrchestrator> {
    let config = SandboxOrchestratorConfig {
        state_directory: Some(directory.to_owned()),
        ..SandboxOrchestratorConfig::default()
    };
    Ok(DefaultSandboxOrchestrator::new(config).await?)
}

fn config() -> SandboxConfig {
    SandboxConfig {
        agent_id: AgentId::new(),
        security_tier: SecurityTier::Tier1,
        resource_limits: ResourceLimits { memory_mb: 128, ..ResourceLimits::default() },
        network_config: NetworkConfig::default(),
        filesystem_config: FilesystemConfig { scratch_mb: 64, ..FilesystemConfig::default() },
        environment_variables: HashMap::new(),
    }
}

fn arguments() -> Vec<String> {
    PROGRAM[1..].iter().map(|word| (*word).to_owned()).collect()
}

/// That a host has no walls to put up is no fault of what is measured.
fn unavailable(error: SandboxError) -> anyhow::Error {
    match error {
        SandboxError::TierUnavailable { .. }
        | SandboxError::BackendUnavailable { .. }
        | SandboxError::IsolationUnavailable { .. } => Absent(error.to_string()).into(),
        error => error.into(),
    }
}

fn expect(result: &CommandResult) -> Result<()> {
    ensure!(
        result.is_success() && result.stdout == b"ran\n",
        "the command did something else: {result:?}"
    );
    Ok(())
}

/// The median time of `call`, in milliseconds, after some for warmth.
fn median_of(count: usize, call: impl FnMut() -> Result<()>) -> Result<f64> {
    Ok(crate::median_micros(count, call)? / 1000.0)
}

fn on_host(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = match command.stdin(Stdio::null()).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Absent(format!("`{name}` is not installed")).into());
        }
        output => output.with_context(|| format!("`{name}` could not be run"))?,
    };
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Absent(format!("`{name}` does not work here: {error}")).into());
    }
    ensure!(output.stdout == b"ran\n", "`{name}` printed something else");
    Ok(())
}

fn bwrap(count: usize) -> Result<f64> {
    median_of(count, || on_host(&mut in_bwrap()))
}

/// A word out of bubblewrap.
fn in_bwrap() -> Command {
    let walls = "--unshare-all --die-with-parent --ro-bind /usr /usr --symlink usr/bin /bin \
                 --symlink usr/lib /lib --symlink usr/lib64 /lib64 --proc /proc --dev /dev \
                 --tmpfs /tmp --";
    let mut command = Command::new("bwrap");
    command.args(walls.split_whitespace()).args(PROGRAM);
    command
}

/// runc with its own default walls over the host's programs.
fn runc(count: usize) -> Result<f64> {
    median_of(count, bundle("runc", &[])?)
}

/// What our driver tells runsc.
const RUNSC: [&str; 3] = ["--platform=ptrace", "--network=none", "--ignore-cgroups"];

/// runsc over the same description.
fn runsc(count: usize) -> Result<f64> {
    median_of(count, bundle("runsc", &RUNSC)?)
}

/// A program that runs what `PROGRAM spec` describes, each time from nothing to nothing.
fn bundle<'a>(
    program: &'a str,
    told: &'a [&'a str],
) -> Result<impl FnMut() -> Result<()> + use<'a>> {
    let bundle = directory()?;
    let root = bundle.path().join("rootfs");
    for directory in ["usr", "proc", "dev", "sys", "tmp"] {
        std::fs::create_dir_all(root.join(directory))?;
    }
    for (link, target) in [("bin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")] {
        std::os::unix::fs::symlink(target, root.join(link))?;
    }
    let mut spec = Command::new(program);
    let status = spec.arg("spec").current_dir(bundle.path()).output();
    if !status.is_ok_and(|output| output.status.success()) {
        return Err(
            Absent(format!("`{program}` is not installed, or `{program} spec` fails")).into()
        );
    }
    let file = bundle.path().join("config.json");
    let mut settings: Value = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
    settings["process"]["terminal"] = json!(false);
    settings["process"]["args"] = json!(PROGRAM);
    let mounts = settings["mounts"].as_array_mut().context("the description names no mounts")?;
    mounts.push(json!({
        "destination": "/usr", "type": "bind", "source": "/usr", "options": ["bind", "ro"]
    }));
    std::fs::write(&file, settings.to_string())?;
    let state = bundle.path().join("state");
    let mut number = 0;
    Ok(move || {
        number += 1;
        let name = format!("symbiont-bench-{}-{number}", std::process::id());
        let mut command = Command::new(program);
        command
            .arg("--root")
            .arg(&state)
            .args(told)
            .arg("run")
            .arg("--bundle")
            .arg(bundle.path())
            .arg(name);
        on_host(&mut command)
    })
}
