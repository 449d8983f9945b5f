//! `symbiont sandbox`: commands of people in the sandboxes of agents.
//!
//! # What holds
//!
//! - A command's own bytes pass in both directions as they are; what is said about it is on standard
//!   error, and never mixed with its standard output.
//! - Nothing of the host's environment is passed on, and no file but those that are named.
//! - When `run` returns, nothing of its sandbox is left. One that `create` made is held by a keeper, a
//!   process of its own (`keeper.rs`), and goes with it.

mod doctor;
mod keeper;
mod kept;
mod run;
mod streams;
mod wanted;
mod wire;

use clap::Subcommand;
use symbiont_runtime::{CommandResult, SandboxError};

use crate::{Exit, Failure, text};

/// Runs commands in sandboxes.
///
/// A command in a sandbox sees no network, none of the host's processes and none of its files but its
/// programs, read-only; what it may use is limited, and nothing of it stays.
#[derive(Debug, clap::Args)]
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
    #[command(hide = true)]
    Keep(keeper::Arguments),
}

pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    match arguments.command {
        Subcommands::Run(arguments) => run::run(arguments).await,
        Subcommands::Create(arguments) => kept::create(arguments).await,
        Subcommands::List(arguments) => kept::list(&arguments).await,
        Subcommands::Exec(arguments) => kept::exec(arguments).await,
        Subcommands::Cp(arguments) => kept::copy(&arguments).await,
        Subcommands::Destroy(arguments) => kept::destroy(&arguments).await,
        Subcommands::Keep(arguments) => keeper::run(arguments).await,
        Subcommands::Doctor(arguments) => doctor::run(&arguments).await,
    }
}

/// How a command ended, as an exit code.
fn exit(result: &CommandResult) -> Exit {
    const TIMED_OUT: u8 = 124;
    const KILLED: u8 = 137;
    let low = |number: i32| u8::try_from(number & 0xff).unwrap_or(u8::MAX);
    Exit::Command(match (result.exit_code, result.signal) {
        _ if result.timed_out => TIMED_OUT,
        _ if result.oom_killed => KILLED,
        (Some(code), _) => low(code),
        (None, Some(signal)) => 128 + low(signal & 0x7f),
        (None, None) => Exit::NoSandbox.code(),
    })
}

/// Why there is no command that could end.
fn failure(error: SandboxError) -> Failure {
    let exit = match &error {
        SandboxError::ExecFailed { missing: true, .. } => Exit::Command(127),
        SandboxError::ExecFailed { missing: false, .. } => Exit::Command(126),
        SandboxError::InvalidArgument { .. } => Exit::Usage,
        _ => Exit::NoSandbox,
    };
    Failure::new(exit, text::block(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_s_end_is_an_exit_code() {
        let ended = CommandResult::default;
        let code = |code| CommandResult { exit_code: Some(code), ..ended() };
        let signal = |signal| CommandResult { signal: Some(signal), ..ended() };
        for (result, want) in [
            (code(0), 0),
            (code(3), 3),
            (code(255), 255),
            (signal(9), 137),
            (signal(15), 143),
            (signal(64), 192),
            (CommandResult { timed_out: true, ..signal(15) }, 124),
            (CommandResult { timed_out: true, ..code(0) }, 124),
            (CommandResult { oom_killed: true, ..signal(9) }, 137),
            (CommandResult { oom_killed: true, ..code(137) }, 137),
            (ended(), 125),
        ] {
            assert_eq!(exit(&result).code(), want, "{result:?}");
        }
        let failed = |missing| SandboxError::ExecFailed {
            command: "x".to_owned(),
            reason: "r".to_owned(),
            missing,
        };
        let wrong = SandboxError::InvalidArgument { what: "w".to_owned() };
        for (error, want) in [
            (failed(true), 127),
            (failed(false), 126),
            (wrong, 2),
            (SandboxError::StorageFull, 125),
        ] {
            assert_eq!(failure(error).exit.code(), want);
        }
    }
}
