//! `symbiont sandbox run`: one command in a sandbox of its own.
//!
//! # What holds
//!
//! - It ends as the command ends, and nothing of the sandbox is left then, whatever ended it.
//! - A signal goes to the command once there is one; before that, it ends what is being made.

use std::ffi::OsString;

use symbiont_runtime::{Duration, SandboxExt};

use super::end::{End, failure};
use super::streams::{self, Signals, Terminal, Typed};
use super::wanted::{self, Wanted};
use crate::{Exit, Failure, Output, screen};

const EXAMPLES: &str = "\
Examples:
  symbiont sandbox run -- uname -s
  echo hello | symbiont sandbox run -- tr a-z A-Z
  symbiont sandbox run --file Cargo.lock -- wc -l Cargo.lock
  symbiont sandbox run --timeout 5s --memory 256 --env NAME=you -- sh -c 'echo $NAME; nproc'
  symbiont sandbox run --report -o json -- true

Exit codes:
  the command's own; 128 and the number of the signal that ended it
  2    the words are wrong in themselves, wherever they are said
  124  it ran into --timeout, which is told
  125  it can't be done here and now: there is no such sandbox, a file that is named can't be
       had, the command's output can't be written, something of the sandbox is left; why is told
  126  the command is there and can't be executed
  127  there is no such command
  137  it was killed; when that was because it took more memory than --memory, this is told

Standard error is the command's. What is said about it is there as well, before it begins and after
it has ended; with --quiet nothing is said of limits that it ran into. When a reader of its output
goes, it gets SIGPIPE, and is killed if it goes on writing; output that can't be written has it
killed as well. For -o json see `symbiont sandbox --help`.";

/// Runs a command in a sandbox of its own, and ends as it ends.
///
/// Its input is this command's input, and its output this command's output, byte for byte; it has a
/// terminal where this command has one for both. Signals are passed on to it. It starts in /workspace,
/// which is empty but for what --file brings; that and /tmp can be written, and are gone afterwards.
/// It has no network, and nothing of this environment.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    wanted: Wanted,
    /// How long it may run, such as `90`, `500ms`, `2m` or `1h`; above zero, 24h at most.
    #[arg(long, value_name = "DURATION", value_parser = wanted::duration, default_value = "60s")]
    #[arg(allow_negative_numbers = true)]
    timeout: Duration,
    /// Tells on standard error which walls stand, before the command begins.
    #[arg(long)]
    report: bool,
    /// Says nothing of limits that the command ran into: the exit code tells.
    #[arg(short, long)]
    quiet: bool,
    /// How to tell what is told: `text` for people, `json` for programs, a line for each thing.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(super) output: Output,
    /// The command and its arguments, after `--`.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(super) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let Arguments { wanted, timeout, report, quiet, output, command } = arguments;
    let mut signals = Signals::listen()?;
    let request = wanted.read(timeout)?;
    // With its terminal as it will be, whose turn comes when there is a sandbox.
    streams::command(command.clone(), None).check().map_err(failure)?;
    let orchestrator = request.orchestrator().await?;
    let mut id = None;
    let ended = async {
        tokio::select! {
            made = screen::patiently("making the sandbox", request.make(&orchestrator, &mut id)) => {
                let made = made?;
                wanted::left_out(&made, output);
            }
            number = signals.next() => return Ok(End::signal(number)),
        }
        let id = id.expect("it was made");
        if report {
            let walls = orchestrator.isolation(id).await.map_err(failure)?;
            screen::tell(&match output {
                Output::Text => wanted::told(&walls),
                Output::Json => format!("{}\n", wanted::described(&walls)),
            });
        }
        let terminal = Terminal::open();
        let walls = orchestrator.isolation(id).await.map_err(failure)?;
        let typed = Typed::of(&walls, terminal.is_some());
        let mut command = streams::command(command, terminal.as_ref());
        command.timeout = timeout;
        command.env.splice(0..0, request.environment());
        let mut process = orchestrator.spawn(id, command).await.map_err(failure)?;
        streams::attach(&mut process, &mut signals, terminal, typed).await
    };
    let ended = ended.await;
    let end = wanted::cleared(&orchestrator, id, ended).await?;
    end.told(quiet, timeout, Some(request.memory_mb()), "--memory")
}
