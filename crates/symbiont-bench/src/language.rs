//! Reading, checking and running programs.

mod evaluator;

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use symbiont_dsl::definition::check;
use symbiont_dsl::diagnostic::Severity;
use symbiont_dsl::syntax::{MAX_SOURCE, parse};
use symbiont_runtime::{ExecutionMode, LifecycleController, RunOutcome};

use crate::agents::config;
use crate::table::{Peer, Rows};
use crate::{Scale, close, median, millis, rounds, runtime};

/// Times round the loop.
const LOOP: usize = 10_000_000;

pub(crate) async fn measure(scale: Scale, rows: &mut Rows<'_>) {
    let outcome = programs();
    let (corpus, programs) = match outcome {
        Ok(programs) => (corpus(&programs), programs),
        Err(error) => {
            for name in ["parse", "check"] {
                rows.add(name, "MB/s", "", Err(anyhow::anyhow!("{error:#}")));
            }
            (String::new(), Vec::new())
        }
    };
    if !corpus.is_empty() {
        let n = || format!("{:.2} MB", megabytes(corpus.len()));
        let json = json_of(corpus.len());
        let peer = "serde_json to a Value";
        let bare = async || {
            let began = Instant::now();
            let value: serde_json::Value = serde_json::from_str(&json)?;
            let took = began.elapsed();
            ensure!(value.is_array(), "serde_json read something else");
            Ok(megabytes(json.len()) / took.as_secs_f64())
        };
        let bare = rounds(scale.rounds() * 2, bare).await;
        let parsed = rounds(scale.rounds() * 2, async || parsed(&corpus)).await;
        let outcome = parsed.and_then(|value| match &bare {
            Ok(bare) => Ok((value, Some(Peer::new(peer, *bare)))),
            Err(error) => Err(anyhow::anyhow!("{error:#}")),
        });
        rows.add("parse", "MB/s", n(), outcome);
        let checked = rounds(scale.rounds() * 2, async || checked(&programs, corpus.len())).await;
        let outcome = checked.and_then(|value| Ok((value, Some(Peer::new(peer, bare?)))));
        rows.add("check", "MB/s", n(), outcome);
    }

    let count = LOOP / scale.of(1, 1000);
    let name = if scale.quick { "loop of 10 k" } else { "loop of 10 M" };
    let n = format!("{} runs", scale.rounds());
    let outcome = rounds(scale.rounds(), async || looped(count).await).await;
    rows.add(name, "ms", n, outcome.map(|value| (value, python(count, scale.rounds()))));

    evaluator::measure(scale, rows).await;
}

/// The programs that the language's own tests read.
fn programs() -> Result<Vec<String>> {
    let directory =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../symbiont-dsl/test_data/programs");
    let mut paths = Vec::new();
    for entry in directory.read_dir().with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "symbi") {
            paths.push(path);
        }
    }
    paths.sort();
    ensure!(!paths.is_empty(), "there are no programs in {}", directory.display());
    paths.iter().map(|path| Ok(std::fs::read_to_string(path)? + "\n")).collect()
}

/// The programs again and again, as one source of nearly the greatest size.
fn corpus(programs: &[String]) -> String {
    let mut corpus = String::new();
    for program in programs.iter().cycle() {
        if corpus.len() + program.len() > MAX_SOURCE {
            break;
        }
        corpus.push_str(program);
    }
    corpus
}

fn parsed(corpus: &str) -> Result<f64> {
    let began = Instant::now();
    let parsed = parse(corpus);
    let took = began.elapsed();
    let error = parsed.diagnostics.iter().find(|found| found.severity == Severity::Error);
    ensure!(error.is_none(), "the programs do not parse: {error:?}");
    ensure!(parsed.program.agents.len() > 100, "the programs have lost their agents");
    Ok(megabytes(corpus.len()) / took.as_secs_f64())
}

/// Checks each program by itself until `bytes` have been checked.
fn checked(programs: &[String], bytes: usize) -> Result<f64> {
    let mut done = 0;
    let mut agents = 0;
    let began = Instant::now();
    for program in programs.iter().cycle() {
        let checked = check(program);
        let error = checked.diagnostics.iter().find(|found| found.severity == Severity::Error);
        ensure!(error.is_none(), "a program does not pass the checker: {error:?}");
        agents += checked.program.map_or(0, |program| program.agents.len());
        done += program.len();
        if done >= bytes {
            break;
        }
    }
    let took = began.elapsed();
    ensure!(agents > 100, "the programs have lost their agents");
    Ok(megabytes(done) / took.as_secs_f64())
}

/// JSON text of `bytes` bytes, of objects like those that people send to agents.
fn json_of(bytes: usize) -> String {
    let mut text = "[".to_owned();
    for number in 0.. {
        let object = format!(
            "{{\"id\":{number},\"service\":\"app-{}\",\"level\":\"error\",\"ok\":false,\"tags\":\
             [\"a\",\"b\"],\"text\":\"connection reset by peer, attempt {number}\"}}",
            number % 17
        );
        if text.len() + object.len() + 1 > bytes {
            break;
        }
        if number > 0 {
            text.push(',');
        }
        text.push_str(&object);
    }
    text + "]"
}

/// Milliseconds that an agent's loop of `count` takes.
async fn looped(count: usize) -> Result<f64> {
    let runtime = runtime(None).await?;
    let lifecycle = runtime.lifecycle();
    let source = format!(
        "agent looper() -> int {{ with {{
            let i = 0;
            let sum = 0;
            while i < {count} {{ sum += i; i += 1; }}
            return sum;
        }} }}"
    );
    let mut config = config(&source, ExecutionMode::Ephemeral);
    // With less it would be held to less.
    config.resource_limits.cpu_cores = 1.0;
    let id = lifecycle.create_agent(config).await?.id;
    lifecycle.initialize_agent(id).await?;
    lifecycle.start_agent(id).await?;
    let run = lifecycle.settled(id).await?.context("the agent has not run")?;
    let sum = (count as u64 * (count as u64 - 1) / 2).to_string();
    ensure!(run.outcome == RunOutcome::Returned(sum.into()), "the loop gave {:?}", run.outcome);
    close(runtime).await?;
    Ok(millis(run.duration))
}

/// The same of Python, if it is there, with the start of its process.
fn python(count: usize, times: usize) -> Option<Peer> {
    let program = format!(
        "def f():\n i = 0\n s = 0\n while i < {count}:\n  s += i\n  i += 1\n return s\nprint(f())"
    );
    let mut values = Vec::new();
    for _ in 0..times {
        let began = Instant::now();
        let output = Command::new("python3").args(["-c", &program]).output().ok()?;
        values.push(millis(began.elapsed()));
        if !output.status.success() {
            return None;
        }
    }
    Some(Peer::new("python3", median(&mut values)))
}

#[expect(clippy::cast_precision_loss, reason = "no text comes near 2^52 bytes")]
fn megabytes(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}
