//! `symbiont lsp`: the language server, for editors.

use std::io::{self, BufReader, IsTerminal};

use symbiont_lsp::Ended;

use crate::{Exit, Failure, screen};

const HELP: &str = "\
An editor starts it and speaks the Language Server Protocol with it over standard input and output.
It opens no files and no connections.

Exit codes:
  0  the editor asked to shut down, then to exit
  1  the editor went away without asking, or wrote what is no message";

/// Serves an editor: diagnostics, completion, hover, renaming, formatting and so on.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Arguments {
    /// Standard input and output, which is the only way there is; editors like to say it.
    #[arg(long)]
    stdio: bool,
}

pub(crate) fn run(_arguments: &Arguments) -> Result<Exit, Failure> {
    let input = io::stdin();
    if input.is_terminal() {
        let help = "set it as the language server of `.symbi` files in your editor";
        return Err(
            Failure::usage("`symbiont lsp` is started by an editor, not by hand").help(help)
        );
    }
    match symbiont_lsp::serve(BufReader::new(input), &mut io::stdout().lock()) {
        Ok(Ended::Exit) => Ok(Exit::Success),
        Ok(Ended::Abrupt) => Ok(Exit::Failed),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            let help = "it speaks the Language Server Protocol: start it from an editor";
            Err(Failure::failed(format!("what came is no message: {error}")).help(help))
        }
        // An editor that stopped reading has gone.
        Err(error) => screen::written(Err(error)).map(|_| Exit::Failed),
    }
}
