//! Every chore longer than one cargo command.
//!
//! Reports go to stderr; stdout is left to what is run (the numbers of `bench --json`).

mod editors;
mod engine;
mod fuzz;
mod needs;
mod omitted;
mod steps;
mod test;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::steps::Steps;

const HELP: &str = "\
Every chore longer than one cargo command.

usage: cargo xtask test [--locked] [-- RUNNER_ARGUMENT...]
       cargo xtask ci
       cargo xtask editors
       cargo xtask bench [GROUP...] [--json] [--quick] [--strict]
       cargo xtask fuzz [TARGET...] [--seconds N]

test    all tests: installs the Debian packages that they need when it may, starts an engine of its
        own for those of the docker driver (SYMBIONT_TEST_DOCKER names another one's socket), then
        runs cargo-nextest (cargo test where that is missing), the doctests and the tests of what
        editors use, and names what was left out.
        Arguments after `--` go to the runner: `cargo xtask test -- -p symbiont-store kill`
ci      all that a change has to pass: format, lints, documentation, tests, a small turn of each
        benchmark
editors what editors use: whether the committed parser is the grammar's, and the extension, built,
        tested and packed; needs Node.js
bench   measures, beside a peer or a bare primitive in the same run
        groups: agents bus policy audit sandbox language scheduler resources (default: all)
        --json    an array of objects on stdout instead of the table
        --quick   little of everything: shows that it works, not how fast
        --strict  a row that could not be measured is an error, unless a program is missing
fuzz    looks for inputs that break what has to hold for any; needs a nightly toolchain and cargo-fuzz
        targets: lexer parser checker formatter evaluator restore (default: all)
        --seconds N  how long each target runs (default: 60)";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    match words.first().copied() {
        Some("test") => match test::options(&words[1..]) {
            Ok(options) => chore("test", |steps| test::run(&options, steps)),
            Err(message) => usage(&message),
        },
        Some("ci") if arguments.len() == 1 => chore("ci", ci),
        Some("editors") if arguments.len() == 1 => chore("editors", editors::run),
        Some("fuzz") => match fuzz::options(&words[1..]) {
            Ok(options) => chore("fuzz", |steps| fuzz::run(&options, steps)),
            Err(message) => usage(&message),
        },
        Some("bench") => bench(&arguments[1..]),
        Some("help" | "--help" | "-h") => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        Some(word) => usage(&format!("`{word}` is no chore, or takes no arguments")),
        None => usage("which chore?"),
    }
}

fn usage(message: &str) -> ExitCode {
    eprintln!("{message}\n\n{HELP}");
    ExitCode::from(2)
}

/// Does the work step by step, and says how it went.
fn chore(name: &'static str, work: impl FnOnce(&mut Steps) -> Result<()>) -> ExitCode {
    let mut steps = Steps::new(name);
    let outcome = work(&mut steps);
    steps.report(&outcome);
    if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn ci(steps: &mut Steps) -> Result<()> {
    steps.run("format", cargo(["fmt", "--all", "--check"]))?;
    // All but the examples of the runtime: one of them is the reference's own text, byte for byte.
    #[rustfmt::skip]
    let clippy = [
        "clippy", "--workspace", "--lib", "--bins", "--tests", "--locked", "--", "-D", "warnings",
    ];
    steps.run("lints", cargo(clippy))?;
    #[rustfmt::skip]
    let clippy = [
        "clippy", "-p", "symbiont-policy", "-p", "symbiont-sandbox", "--examples", "--locked",
        "--", "-D", "warnings",
    ];
    steps.run("lints of the examples", cargo(clippy))?;
    let mut doc = cargo(["doc", "--workspace", "--no-deps", "--locked"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    steps.run("documentation", doc)?;
    test::run(&test::Options { locked: true, runner: Vec::new() }, steps)?;
    // Not optimized: it shows that each benchmark still measures correct work, and the build that
    // the tests have made serves.
    let bench = ["run", "--quiet", "--locked", "-p", "symbiont-bench", "--", "--quick", "--strict"];
    steps.run("benchmarks, a small turn", cargo(bench))
}

fn bench(arguments: &[OsString]) -> ExitCode {
    let mut command = cargo(["run", "--release", "--quiet", "-p", "symbiont-bench", "--"]);
    let status = command.args(arguments).status();
    match status {
        Ok(status) => {
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            code.map_or(ExitCode::FAILURE, ExitCode::from)
        }
        Err(error) => {
            eprintln!("failed: `{}` could not be run: {error}", steps::shown(&command));
            ExitCode::FAILURE
        }
    }
}

/// Cargo, in the root of the workspace.
fn cargo<const N: usize>(arguments: [&str; N]) -> Command {
    // Cargo says which one it is to what it runs.
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    command
}

/// The root of the workspace.
fn root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}
