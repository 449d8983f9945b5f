//! `symbiont sandbox`: commands of people in the sandboxes of agents.
//!
//! # What holds
//!
//! - A command's own bytes pass in both directions as they are; what is said about it is on standard
//!   error, and never mixed with its standard output.
//! - Nothing of the host's environment is passed on, and no file but those that are named.
//! - When `run` returns, nothing of its sandbox is left. One that `create` made is held by a keeper, a
//!   process of its own (`keeper.rs`), and goes with it.
//! - Exit codes and the JSON of failures are the same for all subcommands (`end.rs`).

mod doctor;
mod end;
mod keeper;
mod kept;
mod run;
mod streams;
mod wanted;
mod wire;

use clap::Subcommand;

pub(crate) use end::refused;

use crate::{Exit, Failure, Output, screen};

const AFTER: &str = "\
Exit codes, of all of them but for what a command of `run` and `exec` ends with:
  0    done
  2    the words are wrong in themselves, wherever they are said
  125  it can't be done here and now; why is told
  `doctor` ends with 1 where no driver works

With -o json results are JSON on standard output, and what failed is a line on standard error:
  {\"error\":{\"code\":\"timed_out\",\"exit\":124,\"message\":\"...\",\"help\":null}}
  code  usage 2, timed_out 124, failed 125, not_executable 126, not_found 127, out_of_memory 137
  exit  the exit code; message and help are for people, and help may be null";

/// Runs commands in sandboxes.
///
/// A command in a sandbox sees no network, none of the host's processes and none of its files but its
/// programs, read-only; what it may use is limited, and nothing of it stays.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    Run(run::Arguments),
    Create(kept::Create),
    List(kept::List),
    Exec(kept::Exec),
    Cp(kept::Copy),
    Destroy(kept::Destroy),
    Doctor(doctor::Arguments),
    /// Holds a sandbox. Started by `create`.
    #[command(hide = true)]
    Keep(kept::Create),
}

impl Subcommands {
    fn output(&self) -> Output {
        match self {
            Self::Run(arguments) => arguments.output,
            Self::Create(arguments) | Self::Keep(arguments) => arguments.output,
            Self::List(arguments) => arguments.output,
            Self::Exec(arguments) => arguments.output,
            Self::Cp(arguments) => arguments.output,
            Self::Destroy(arguments) => arguments.output,
            Self::Doctor(arguments) => arguments.output,
        }
    }
}

pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let output = arguments.command.output();
    let ended = match arguments.command {
        Subcommands::Run(arguments) => run::run(arguments).await,
        Subcommands::Create(arguments) => kept::create(arguments).await,
        Subcommands::List(arguments) => kept::list(&arguments).await,
        Subcommands::Exec(arguments) => kept::exec(arguments).await,
        Subcommands::Cp(arguments) => kept::copy(&arguments).await,
        Subcommands::Destroy(arguments) => kept::destroy(&arguments).await,
        Subcommands::Keep(arguments) => keeper::run(arguments).await,
        Subcommands::Doctor(arguments) => doctor::run(&arguments).await,
    };
    // What could not be written is a failure like any other here.
    let ended = ended.map_err(|failure| match failure.exit {
        Exit::Failed => Failure { exit: Exit::NoSandbox, ..failure },
        _ => failure,
    });
    match (ended, output) {
        (Err(failure), Output::Json) => {
            screen::tell(&end::described(&failure));
            Ok(failure.exit)
        }
        (ended, _) => ended,
    }
}
