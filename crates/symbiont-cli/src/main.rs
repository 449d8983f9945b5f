//! The `symbiont` command: runs agents, checks, formats and explains programs, looks at the host and at
//! audit trails.
//!
//! Each subcommand is one file: it reads its arguments, calls the runtime and shows the answer.
//! This file chooses the subcommand and turns its outcome into an exit code.
//!
//! # What holds
//!
//! - Standard output carries results and nothing else; everything said about them is on standard
//!   error.
//! - Text that an agent wrote is shown with its control characters escaped wherever it stands among
//!   the command's own words.
//! - The exit code says how it ended, and [`Exit`] is the only list of them.

mod audit;
mod check;
mod doctor;
mod explain;
mod fmt;
mod lsp;
mod policy;
mod repl;
mod run;
mod sandbox;
mod screen;
mod text;
mod timeline;
mod tool;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    /// What was asked for was done.
    Success,
    /// The run failed, the program has errors, the trail is damaged, the host lacks what it needs.
    Failed,
    /// The arguments make no sense, or a file that they name can't be read.
    Usage,
    /// The run ended with a denial by policy that it did not catch.
    PolicyDenied,
    /// The run ended because no driver serves the tier that it asks for.
    TierUnavailable,
    /// A signal of this number ended the run.
    Signal(u8),
    /// A command in a sandbox ended with this code, or with what stands for how it ended.
    Command(u8),
    /// There is no sandbox for a command, or something of it could not be removed.
    NoSandbox,
}

impl Exit {
    fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::PolicyDenied => 3,
            Self::TierUnavailable => 4,
            Self::Signal(number) => 128 + number,
            Self::Command(code) => code,
            Self::NoSandbox => 125,
        }
    }
}

/// Why a subcommand could not do what it was asked for, in words.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// What happened and where; shown as it is, so that text of others has passed through [`text`].
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) help: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), help: None }
    }

    /// Something went wrong that the arguments are not to blame for.
    pub(crate) fn failed(message: impl std::fmt::Display) -> Self {
        Self::new(Exit::Failed, text::block(&message.to_string()))
    }

    /// The arguments are to blame.
    pub(crate) fn usage(message: impl std::fmt::Display) -> Self {
        Self::new(Exit::Usage, text::block(&message.to_string()))
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// The form of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done; a run that returned a value, whatever was denied on the way
  1  the run failed, a program has errors, a trail is damaged, the host lacks Tier1
  2  the arguments make no sense, or a file that they name can't be read
  3  the run ended with a PolicyDenied that its program did not catch
  4  the run ended with a TierUnavailable that its program did not catch
  130, 143, 129  ended by Ctrl-C, SIGTERM or SIGHUP: the sandbox is gone, the data directory whole;
                 a second signal ends the command where it stands
  `sandbox run` and `sandbox exec` end as the command does that they run, see their --help";

const EXAMPLES: &str = "\
Examples:
  symbiont doctor
  symbiont run agents/lockfile_audit.symbi --file Cargo.lock
  symbiont check agents/lockfile_audit.symbi agents/primes.symbi
  symbiont policy show agents/lockfile_audit.symbi";

/// Runs AI agents in sandboxes, under policies, with an audit trail.
///
/// An agent is a small program in a file that ends in `.symbi`. What it does beyond computing
/// (commands, files, messages, memory) is decided by its policy, done inside a sandbox, and recorded
/// in a trail that shows whether it is whole.
#[derive(Debug, Parser)]
#[command(name = "symbiont", version, after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
struct Arguments {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    Run(run::Arguments),
    Check(check::Arguments),
    Explain(explain::Arguments),
    Fmt(fmt::Arguments),
    Doctor(doctor::Arguments),
    Policy(policy::Arguments),
    Audit(audit::Arguments),
    Tool(tool::Arguments),
    Lsp(lsp::Arguments),
    Repl(repl::Arguments),
    Sandbox(sandbox::Arguments),
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            if let Some(told) = sandbox::refused(std::env::args_os(), &error) {
                screen::tell(&told);
                return ExitCode::from(Exit::Usage.code());
            }
            let told = error.print();
            let exit = match error.use_stderr() {
                true => Exit::Usage,
                // Whoever asked for help and closed the pipe has what they wanted.
                false => screen::written(told).map_or_else(
                    |failure| {
                        screen::say(&failure);
                        failure.exit
                    },
                    |_| Exit::Success,
                ),
            };
            return ExitCode::from(exit.code());
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            screen::say(&Failure::failed(format!("no thread could be started: {error}")));
            return ExitCode::from(Exit::Failed.code());
        }
    };
    let ended = runtime.block_on(async {
        // Whoever started us may have asked not to be told of children that end; we are to be.
        let _told = signal(SignalKind::child());
        // A file that may not grow further is a write that fails, and no end of ours.
        let _full = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()));
        match arguments.command {
            Subcommands::Run(arguments) => run::run(arguments).await,
            Subcommands::Check(arguments) => check::run(&arguments),
            Subcommands::Explain(arguments) => explain::run(&arguments),
            Subcommands::Fmt(arguments) => fmt::run(&arguments),
            Subcommands::Doctor(arguments) => doctor::run(&arguments).await,
            Subcommands::Policy(arguments) => policy::run(&arguments),
            Subcommands::Audit(arguments) => audit::run(arguments).await,
            Subcommands::Tool(arguments) => tool::run(&arguments),
            Subcommands::Lsp(arguments) => lsp::run(&arguments),
            Subcommands::Repl(arguments) => repl::run(arguments).await,
            Subcommands::Sandbox(arguments) => sandbox::run(arguments).await,
        }
    });
    // A reader of standard error that has stopped reading must not keep the process.
    runtime.shutdown_background();
    let exit = ended.unwrap_or_else(|failure| {
        screen::say(&failure);
        failure.exit
    });
    ExitCode::from(exit.code())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_arguments_make_sense_to_clap() {
        super::Arguments::command().debug_assert();
    }
}
