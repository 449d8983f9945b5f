//! `symbiont sandbox run`: one command in a sandbox of its own.
//!
//! # What holds
//!
//! - It ends as the command ends, and nothing of the sandbox is left then, whatever ended it.
//! - A signal goes to the command once there is one; before that, it ends what is being made.

use symbiont_runtime::{Duration, SandboxExt};

use super::streams::{self, Signals, Terminal};
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
  2    the arguments make no sense, or a file that they name can't be read
  124  it ran into --timeout
  125  there is no such sandbox here, or something of it could not be removed; why is told
  126  the command is there and can't be executed
  127  there is no such command
  137  it was killed, as it is when it takes more memory than it may";

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
    /// How long it may run, such as `90`, `500ms`, `2m` or `1h`; 24h at most.
    #[arg(long, value_name = "DURATION", value_parser = wanted::duration, default_value = "60s")]
    timeout: Duration,
    /// Tells on standard error which walls stand, before the command begins.
    #[arg(long)]
    report: bool,
    /// How to tell it: `text` for people, `json` for programs.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// The command and its arguments, after `--`.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(super) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let Arguments { wanted, timeout, report, output, command } = arguments;
    let mut signals = Signals::listen()?;
    let request = wanted.read(timeout)?;
    let orchestrator = request.orchestrator().await?;
    let mut id = None;
    let ended = async {
        tokio::select! {
            made = request.make(&orchestrator, &mut id) => made?,
            number = signals.next() => return Ok(Exit::Signal(number)),
        }
        let id = id.expect("it was made");
        if report {
            let walls = orchestrator.isolation(id).await.map_err(super::failure)?;
            screen::tell(&match output {
                Output::Text => wanted::told(&walls),
                Output::Json => format!("{}\n", wanted::described(&walls)),
            });
        }
        let terminal = Terminal::open();
        let mut command = streams::command(command, terminal.as_ref());
        command.timeout = timeout;
        let mut process = orchestrator.spawn(id, command).await.map_err(super::failure)?;
        streams::attach(&mut process, &mut signals, terminal).await
    };
    let ended = ended.await;
    wanted::cleared(&orchestrator, id, ended).await
}
