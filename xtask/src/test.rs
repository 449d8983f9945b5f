//! All tests, and what they could not test here.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::steps::{Steps, expect_success, shown};
use crate::{cargo, editors, engine, needs, omitted, root};

/// How to run the tests.
pub(crate) struct Options {
    pub(crate) locked: bool,
    /// Arguments for the runner; with any, the doctests and what editors use are left out.
    pub(crate) runner: Vec<String>,
}

/// Reads the options, or says what is wrong with them.
pub(crate) fn options(words: &[&str]) -> Result<Options, String> {
    let own = words.iter().position(|word| *word == "--").unwrap_or(words.len());
    let mut locked = false;
    for word in &words[..own] {
        match *word {
            "--locked" => locked = true,
            word => {
                return Err(format!("`{word}` is no option; the runner's come after `--`"));
            }
        }
    }
    let runner = words.iter().skip(own + 1).map(|word| (*word).to_owned()).collect();
    Ok(Options { locked, runner })
}

/// Provides what the tests need, and runs them.
pub(crate) fn run(options: &Options, steps: &mut Steps) -> Result<()> {
    needs::provide(steps)?;
    // It ends with this.
    let engine = engine::start(steps);
    let socket = engine.as_ref().map(engine::Engine::socket);
    let nextest = cargo(["nextest", "--version"]).output();
    let omitted = if nextest.is_ok_and(|output| output.status.success()) {
        with_nextest(options, socket.as_deref(), steps)?
    } else {
        eprintln!(
            "\n`cargo nextest` is not there: `cargo test` runs the tests, one crate at a time"
        );
        with_cargo_test(options, socket.as_deref(), steps)?
    };
    steps.left_out.extend(omitted);
    if options.runner.is_empty() {
        let mut doctests = cargo(["test", "--doc", "--workspace"]);
        doctests.args(locked(options));
        steps.run("doctests", doctests)?;
        editors::run(steps)?;
    } else {
        let rest = "doctests, what editors use, and tests that the runner's arguments leave out";
        steps.left_out.push(rest.to_owned());
    }
    Ok(())
}

fn with_nextest(
    options: &Options,
    engine: Option<&Path>,
    steps: &mut Steps,
) -> Result<Vec<String>> {
    let mut command = cargo(["nextest", "run", "--no-fail-fast"]);
    // As a tool's, the settings give way to the repository's own, should it have any.
    let settings = root().join("xtask/nextest.toml");
    command.arg("--tool-config-file").arg(format!("xtask:{}", settings.display()));
    command.args(workspace(options)).args(locked(options)).args(&options.runner);
    command.envs(engine.map(|socket| (engine::VARIABLE, socket)));
    // Wherever the target directory is, the runner keeps this here.
    let report = root().join("target/nextest/default/junit.xml");
    match std::fs::remove_file(&report) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).context(format!("the old `{}` is in the way", report.display()));
        }
        Ok(()) | Err(_) => {}
    }
    steps.run("tests", command)?;
    Ok(match std::fs::read_to_string(&report) {
        Ok(text) => omitted::in_junit(&text),
        Err(error) => vec![format!(
            "perhaps more, which is not known: no report in `{}` ({error})",
            report.display()
        )],
    })
}

fn with_cargo_test(
    options: &Options,
    engine: Option<&Path>,
    steps: &mut Steps,
) -> Result<Vec<String>> {
    let mut command = cargo(["test", "--no-fail-fast", "--all-targets"]);
    command.args(workspace(options)).args(locked(options)).args(&options.runner);
    command.envs(engine.map(|socket| (engine::VARIABLE, socket)));
    // What passing tests print is shown only when asked for; a caller who has something to say to
    // the tests themselves asks alone.
    if !options.runner.iter().any(|argument| argument == "--") {
        command.args(["--", "--show-output"]);
    }
    let text = shown(&command);
    steps
        .act("tests", &text, || passed_on(command, &text))
        .map(|output| omitted::in_output(&output))
}

/// Runs the command, and returns what it wrote to stdout after passing it on.
fn passed_on(mut command: Command, text: &str) -> Result<String> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut output = String::new();
    let stdout = child.stdout.take().context("the command has no stdout")?;
    for line in BufReader::new(stdout).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned() + "\n";
        std::io::stdout().write_all(line.as_bytes())?;
        output.push_str(&line);
    }
    expect_success("tests", text, child.wait()?)?;
    Ok(output)
}

/// Everything, unless the caller chooses packages.
fn workspace(options: &Options) -> Option<&'static str> {
    let chooses = |argument: &String| {
        argument.starts_with("-p") || argument.starts_with("--package") || argument == "--workspace"
    };
    (!options.runner.iter().take_while(|argument| *argument != "--").any(chooses))
        .then_some("--workspace")
}

fn locked(options: &Options) -> Option<&'static str> {
    options.locked.then_some("--locked")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(words: &[&str], want: &str) {
        let told = match options(words) {
            Ok(options) => format!(
                "{} {} {}",
                workspace(&options).unwrap_or("-"),
                locked(&options).unwrap_or("-"),
                options.runner.join(" ")
            ),
            Err(message) => format!("! {message}"),
        };
        assert_eq!(told.trim_end(), want);
    }

    #[test]
    fn arguments_after_two_dashes_are_the_runners() {
        check(&[], "--workspace -");
        check(&["--locked"], "--workspace --locked");
        check(&["--", "kill"], "--workspace - kill");
        check(&["--locked", "--", "-p", "a", "kill"], "- --locked -p a kill");
        check(&["--", "kill", "--", "-p"], "--workspace - kill -- -p");
        check(&["kill"], "! `kill` is no option; the runner's come after `--`");
    }
}
