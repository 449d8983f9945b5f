//! Steps of a chore: named, timed, and stopped at the first that fails.

use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// What has been done so far, and how long it took.
pub(crate) struct Steps {
    chore: &'static str,
    began: Instant,
    done: Vec<(String, Duration)>,
    /// What was left out, a line each.
    pub(crate) left_out: Vec<String>,
}

impl Steps {
    pub(crate) fn new(chore: &'static str) -> Self {
        Self { chore, began: Instant::now(), done: Vec::new(), left_out: Vec::new() }
    }

    /// Runs `command`, with its output going where ours goes.
    pub(crate) fn run(&mut self, name: &str, mut command: Command) -> Result<()> {
        let text = shown(&command);
        self.act(name, &text, || {
            let status = command.status().with_context(|| format!("`{text}` could not be run"))?;
            expect_success(name, &text, status)
        })
    }

    /// Does `work`, which is what `command` says.
    pub(crate) fn act<T>(
        &mut self,
        name: &str,
        command: &str,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        eprintln!("\n==> {name}: {command}");
        let began = Instant::now();
        let outcome = work();
        let took = began.elapsed();
        eprintln!("    {name}: {:.1} s", took.as_secs_f64());
        let value = outcome?;
        self.done.push((name.to_owned(), took));
        Ok(value)
    }

    /// Says what was done, what was left out, and, last, how it ended.
    pub(crate) fn report(&self, outcome: &Result<()>) {
        let Self { chore, .. } = self;
        eprintln!("\ncargo xtask {chore}, step by step:");
        for (name, took) in &self.done {
            eprintln!("  {:>7.1} s  {name}", took.as_secs_f64());
        }
        if !self.left_out.is_empty() {
            eprintln!("\nLEFT OUT, so this says nothing about it:");
            for line in &self.left_out {
                eprintln!("  - {line}");
            }
        }
        let total = self.began.elapsed().as_secs_f64();
        match outcome {
            Ok(()) => eprintln!("\ncargo xtask {chore}: passed in {total:.1} s"),
            Err(error) => eprintln!("\ncargo xtask {chore}: FAILED after {total:.1} s: {error:#}"),
        }
    }
}

/// An error that says how to repeat the step, unless it went well.
pub(crate) fn expect_success(name: &str, command: &str, status: ExitStatus) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    bail!("{name} did not pass ({status}); to repeat it: {command}")
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| {
        Some(format!("{}={}", name.to_string_lossy(), quoted(&value?.to_string_lossy())))
    });
    let program = command.get_program().to_string_lossy();
    let program = program.rsplit('/').next().unwrap_or_default().to_owned();
    let arguments = command.get_args().map(|argument| quoted(&argument.to_string_lossy()));
    variables.chain([program]).chain(arguments).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let mut command = Command::new("/opt/rust/bin/cargo");
        command.args(["doc", "it's", ""]).env("RUSTDOCFLAGS", "-D warnings").env_remove("X");
        assert_eq!(shown(&command), r"RUSTDOCFLAGS='-D warnings' cargo doc 'it'\''s' ''");
    }
}
