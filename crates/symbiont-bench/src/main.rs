//! Measures the runtime, beside a peer or a bare primitive in the same run.
//!
//! # What holds
//!
//! - Only completed, correct work counts: every result is compared with what it has to be.
//! - A throughput is the median of several rounds after one that is thrown away; a latency is the
//!   median (p50) of all calls.
//! - A peer does the same amount of the same work, on the same machine, in the same run.
//! - A row that could not be measured is not there, and stderr says why.

mod agents;
mod audit;
mod bus;
mod language;
mod lsp;
mod policy;
mod resources;
mod sandbox;
mod scheduler;
mod table;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use table::Table;

/// The groups, in the order in which they are measured.
const GROUPS: [&str; 8] =
    ["agents", "bus", "policy", "audit", "sandbox", "language", "scheduler", "resources"];

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Scale {
    quick: bool,
}

impl Scale {
    /// `full`, or `quick` in a small turn.
    fn of(self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }

    /// How often a throughput is measured.
    fn rounds(self) -> usize {
        self.of(5, 1)
    }
}

#[derive(Debug)]
struct Options {
    groups: Vec<String>,
    json: bool,
    strict: bool,
    scale: Scale,
}

fn main() -> ExitCode {
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    if words.first().is_some_and(|word| word == agents::RESIDENT) {
        return child(&words[1..]);
    }
    let options = match options(&words) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    let mut table = Table::new(options.json);
    let async_runtime = match async_runtime() {
        Ok(async_runtime) => async_runtime,
        Err(error) => {
            eprintln!("failed: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    if cfg!(debug_assertions) {
        eprintln!("not optimized: these numbers say nothing about speed");
    }
    async_runtime.block_on(async {
        for group in GROUPS.iter().filter(|group| options.groups.iter().any(|g| g == *group)) {
            let scale = options.scale;
            let mut rows = table.group(group);
            match *group {
                "agents" => agents::measure(scale, &mut rows).await,
                "bus" => bus::measure(scale, &mut rows).await,
                "policy" => policy::measure(scale, &mut rows).await,
                "audit" => audit::measure(scale, &mut rows).await,
                "sandbox" => sandbox::measure(scale, &mut rows).await,
                "language" => {
                    language::measure(scale, &mut rows).await;
                    lsp::measure(scale, &mut rows);
                }
                "scheduler" => scheduler::measure(scale, &mut rows).await,
                "resources" => resources::measure(scale, &mut rows).await,
                group => unreachable!("`{group}` is in the list and measured by nobody"),
            }
        }
    });
    table.print();
    if options.strict && table.failures > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn async_runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// A measurement of memory, which needs a process of its own.
fn child(words: &[String]) -> ExitCode {
    let outcome =
        async_runtime().and_then(|async_runtime| async_runtime.block_on(agents::resident(words)));
    match outcome {
        Ok(kib) => {
            println!("{kib}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn options(words: &[String]) -> Result<Options, String> {
    let mut options =
        Options { groups: Vec::new(), json: false, strict: false, scale: Scale { quick: false } };
    for word in words {
        match word.as_str() {
            "--json" => options.json = true,
            "--quick" => options.scale.quick = true,
            "--strict" => options.strict = true,
            group if GROUPS.contains(&group) => options.groups.push(group.to_owned()),
            other => {
                let what = if other.starts_with('-') { "option" } else { "group" };
                return Err(format!(
                    "there is no {what} `{other}`\n\nusage: cargo xtask bench [GROUP...] [--json] \
                     [--quick] [--strict]\ngroups: {}",
                    GROUPS.join(" ")
                ));
            }
        }
    }
    if options.groups.is_empty() {
        options.groups = GROUPS.map(str::to_owned).to_vec();
    }
    Ok(options)
}

/// The median.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

/// Does `work` once for warmth and then `rounds` times, and gives the median of what it measures.
async fn rounds<F: AsyncFnMut() -> Result<f64>>(rounds: usize, mut work: F) -> Result<f64> {
    work().await?;
    let mut values = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        values.push(work().await?);
    }
    Ok(median(&mut values))
}

/// The median time of `count` calls after a tenth as many for warmth, in microseconds.
fn median_micros(count: usize, mut call: impl FnMut() -> Result<()>) -> Result<f64> {
    for _ in 0..count / 10 {
        call()?;
    }
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let began = Instant::now();
        call()?;
        times.push(micros(began.elapsed()));
    }
    Ok(median(&mut times))
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// How many per second.
#[expect(clippy::cast_precision_loss, reason = "nothing is counted up to 2^52")]
fn per_second(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// Waits for all of them. The first that fails is the outcome, and the others are ended: they might
/// wait for what it can't do any more.
async fn all<T: Send + 'static>(mut work: tokio::task::JoinSet<Result<T>>) -> Result<()> {
    while let Some(ended) = work.join_next().await {
        ended??;
    }
    Ok(())
}

/// A directory on the disk that the program is on: temporary files are often in memory, where being
/// durable costs nothing.
fn directory() -> Result<tempfile::TempDir> {
    let program = std::env::current_exe()?;
    let place = program.parent().unwrap_or_else(|| std::path::Path::new("."));
    Ok(tempfile::Builder::new().prefix("bench-").tempdir_in(place)?)
}

/// A runtime in which nothing stands in the way of very many small agents.
async fn runtime(data: Option<&std::path::Path>) -> Result<symbiont_runtime::Runtime> {
    use symbiont_runtime::{Profile, ResourceManagerConfig, Runtime, RuntimeConfig};
    let resources = ResourceManagerConfig {
        total_memory: 1 << 50,
        total_cpu_cores: 1_000_000,
        total_disk_space: 1 << 50,
        total_network_bandwidth: 1 << 50,
        ..ResourceManagerConfig::default()
    };
    Ok(Runtime::open(RuntimeConfig {
        data_dir: data.map(Into::into),
        profile: Profile::Dev,
        resources,
        ..RuntimeConfig::default()
    })
    .await?)
}

/// Closes the runtime, and fails if something did not go well.
async fn close(runtime: symbiont_runtime::Runtime) -> Result<()> {
    let failed = runtime.shutdown().await;
    ensure!(failed.is_empty(), "the runtime did not close well: {failed:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_groups_and_switches() {
        let check = |words: &[&str], want: &str| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let told = match options(&words) {
                Ok(options) => format!(
                    "{} json={} quick={} strict={}",
                    options.groups.join(","),
                    options.json,
                    options.scale.quick,
                    options.strict
                ),
                Err(message) => message.lines().next().unwrap_or_default().to_owned(),
            };
            assert_eq!(told, want);
        };
        check(&["bus", "--json"], "bus json=true quick=false strict=false");
        check(&["--quick", "audit", "bus"], "audit,bus json=false quick=true strict=false");
        check(&["buses"], "there is no group `buses`");
        check(&["--fast"], "there is no option `--fast`");
        let all = format!("{} json=false quick=false strict=true", GROUPS.join(","));
        check(&["--strict"], &all);
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
