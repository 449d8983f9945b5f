//! What sandboxes of each driver cost, step by step, beside the programs that people use for the same.
//!
//! A step has two rows, the median (p50) and the 95th of 100 (p95), and so has its peer.

use std::path::PathBuf;
use std::process::Command as Program;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use symbiont_runtime::{SandboxConfig, SandboxId};
use symbiont_sandbox::{
    Command, DockerDriver, Driver, GvisorDriver, GvisorOptions, ProcessDriver, Sandbox,
};
use tokio::io::AsyncReadExt;

use super::{PROGRAM, again, arguments, config, expect, on_host, unavailable};
use crate::table::{Absent, Peer, Rows};
use crate::{Scale, millis};

/// What is carried up and down.
const CARGO: usize = 10 << 20;
/// The time of a command that is killed.
const SHORT: Duration = Duration::from_millis(50);

/// The steps, in the order in which they are shown.
const STEPS: [&str; 6] = [
    "create to first output",
    "create+exec+destroy",
    "exec in a running one",
    "kill a tree whose time is up",
    "destroy",
    "10 MiB up and down",
];

/// Times of one step, in milliseconds.
type Times = Vec<f64>;

pub(super) async fn measure(scale: Scale, rows: &mut Rows<'_>) {
    let count = scale.of(100, 3);
    let process = ProcessDriver::new(None).map(|it| Arc::new(it) as Arc<dyn Driver>);
    of("process", process.map_err(unavailable), count, rows).await;
    let docker = DockerDriver::new(None, docker_socket()).await;
    let docker = docker.map(|it| Arc::new(it) as Arc<dyn Driver>).map_err(unavailable);
    of("docker", docker, scale.of(20, 2), rows).await;
    let gvisor = GvisorDriver::new(None, GvisorOptions::default()).await;
    let gvisor = gvisor.map(|it| Arc::new(it) as Arc<dyn Driver>).map_err(unavailable);
    of("gvisor", gvisor, scale.of(20, 2), rows).await;
}

/// The rows of one driver.
async fn of(name: &str, driver: Result<Arc<dyn Driver>>, count: usize, rows: &mut Rows<'_>) {
    let measured = match driver {
        Ok(driver) => steps(&*driver, count).await,
        Err(error) => Err(error),
    };
    let measured = match measured {
        Ok(measured) => measured.map(Ok),
        Err(error) => STEPS.map(|_| Err(again(&error))),
    };
    for (step, own) in STEPS.into_iter().zip(measured) {
        // Only now: what a driver has made, such as images, is there for them.
        let peers = match &own {
            Ok(_) => peers(name, step, count),
            Err(_) => Vec::new(),
        };
        for (share, of) in [(50, "p50"), (95, "p95")] {
            let row = format!("{name}: {step}, {of}");
            let n = format!("{count} times");
            let value = match &own {
                Ok(times) => Ok(percentile(times, share)),
                Err(error) => Err(again(error)),
            };
            if peers.is_empty() {
                rows.add(&row, "ms", n, value.map(|value| (value, None)));
                continue;
            }
            let several = peers.len() > 1;
            for (peer, times) in &peers {
                let shown = if several { format!("{row} ({peer})") } else { row.clone() };
                let beside = match times {
                    Ok(times) => Some(Peer::new(*peer, percentile(times, share))),
                    Err(error) => {
                        rows.without_peer(&shown, peer, error);
                        None
                    }
                };
                let value = value.as_ref().map(|value| (*value, beside)).map_err(again);
                rows.add(&shown, "ms", n.clone(), value);
            }
        }
    }
}

async fn made(driver: &dyn Driver) -> Result<Arc<dyn Sandbox>> {
    let config = SandboxConfig { security_tier: driver.tier(), ..config() };
    let sandbox = driver.create(SandboxId::new(), &config).await.map_err(unavailable)?;
    sandbox.start().await.map_err(unavailable)?;
    Ok(sandbox)
}

fn word() -> Command {
    Command::new(PROGRAM[0]).args(arguments())
}

/// Every step, so many times.
async fn steps(driver: &dyn Driver, count: usize) -> Result<[Times; 6]> {
    let mut times: [Times; 6] = std::array::from_fn(|_| Vec::with_capacity(count));
    let [cold, whole, exec, kill, destroy, carry] = &mut times;
    for number in 0..=count {
        let began = Instant::now();
        let sandbox = made(driver).await?;
        let mut process = sandbox.spawn(word()).await?;
        let mut output = [0; 4];
        process.stdout.as_mut().context("it has no output")?.read_exact(&mut output).await?;
        let first = began.elapsed();
        ensure!(&output == b"ran\n", "the command said something else");
        let ended = process.wait().await?;
        ensure!(ended.is_success(), "the command failed");
        drop(process);
        let asked = Instant::now();
        sandbox.destroy().await?;
        let (gone, all) = (asked.elapsed(), began.elapsed());
        // The first is for warmth.
        if number > 0 {
            cold.push(millis(first));
            destroy.push(millis(gone));
            whole.push(millis(all));
        }
    }
    let sandbox = made(driver).await?;
    for number in 0..=count {
        let began = Instant::now();
        let result = sandbox.exec(word()).await?;
        let took = began.elapsed();
        expect(&result)?;
        if number > 0 {
            exec.push(millis(took));
        }
    }
    for _ in 0..count.min(20) {
        let tree = Command {
            timeout: SHORT,
            grace: Duration::ZERO,
            ..Command::new("sh").args(["-c", "sleep 60 & (sleep 60 & sleep 60) & sleep 60"])
        };
        let began = Instant::now();
        let result = sandbox.exec(tree).await?;
        let took = began.elapsed();
        ensure!(result.timed_out, "the command was not killed: {result:?}");
        kill.push(millis(took.saturating_sub(SHORT)));
    }
    let cargo: Vec<u8> = (0..CARGO).map(|n| n.to_le_bytes()[0]).collect();
    for _ in 0..count.min(20) {
        let began = Instant::now();
        sandbox.write_file("cargo", &cargo, 0o644).await?;
        let back = sandbox.read_file("cargo", CARGO as u64).await?;
        let took = began.elapsed();
        ensure!(back == cargo, "something else came back");
        carry.push(millis(took));
    }
    sandbox.destroy().await?;
    Ok(times)
}

/// The value below which so many of a hundred are.
fn percentile(times: &[f64], share: usize) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
        .get((sorted.len() * share / 100).min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or(f64::NAN)
}

/// Other programs that do the same as a step of a driver.
fn peers(driver: &str, step: &str, count: usize) -> Vec<(&'static str, Result<Times>)> {
    let whole = step == STEPS[0] || step == STEPS[1];
    match (driver, whole, step == STEPS[2]) {
        ("process", true, _) => vec![
            ("bwrap", several(count, || on_host(&mut super::in_bwrap()))),
            ("runc run", super::bundle("runc", &[]).and_then(|mut run| several(count, &mut run))),
        ],
        ("process", _, true) => {
            let bare = || on_host(Program::new(PROGRAM[0]).args(&PROGRAM[1..]));
            vec![("fork + exec on the host", several(count, bare))]
        }
        ("docker", true, _) => vec![("docker run", docker_run(count))],
        ("docker", _, true) => vec![("docker exec", docker_exec(count))],
        ("gvisor", true, _) => {
            let run = super::bundle("runsc", &super::RUNSC);
            vec![("runsc run", run.and_then(|mut run| several(count, &mut run)))]
        }
        _ => Vec::new(),
    }
}

/// So many times, after one for warmth.
fn several(count: usize, mut call: impl FnMut() -> Result<()>) -> Result<Times> {
    call()?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let began = Instant::now();
        call()?;
        times.push(millis(began.elapsed()));
    }
    Ok(times)
}

/// Where the engine listens, as its own client has it from the environment.
fn docker_socket() -> Option<PathBuf> {
    let host = std::env::var("DOCKER_HOST").ok()?;
    host.strip_prefix("unix://").map(PathBuf::from)
}

fn docker(words: &[&str]) -> Program {
    let mut program = Program::new("docker");
    program.args(words);
    program
}

/// What the command prints, without the end of its line.
fn said(program: &mut Program) -> Result<String> {
    let output = program.output().map_err(|error| Absent(format!("docker: {error}")))?;
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if !output.status.success() {
        return Err(Absent(format!("docker: {text}")).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The image that our driver has made.
fn image() -> Result<String> {
    let all = said(&mut docker(&["images", "-q", "--filter", "reference=symbiont-guest"]))?;
    let first = all.lines().next().context("our driver has made no image")?;
    Ok(first.to_owned())
}

fn docker_run(count: usize) -> Result<Times> {
    let image = image()?;
    let words = ["run", "--rm", "--network", "none", "--entrypoint", PROGRAM[0], &image];
    several(count, || on_host(docker(&words).args(&PROGRAM[1..])))
}

fn docker_exec(count: usize) -> Result<Times> {
    let image = image()?;
    let words = ["run", "-d", "--rm", "--network", "none", "--entrypoint", "sleep", &image, "600"];
    let container = said(&mut docker(&words))?;
    let times = several(count, || on_host(docker(&["exec", &container]).args(PROGRAM)));
    let removed = said(&mut docker(&["rm", "-f", &container]));
    let times = times?;
    removed?;
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_measured() {
        let times: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!([50, 95].map(|share| percentile(&times, share)), [51.0, 96.0]);
        assert_eq!(percentile(&[7.0], 95), 7.0);
        assert!(percentile(&[], 50).is_nan());
    }
}
