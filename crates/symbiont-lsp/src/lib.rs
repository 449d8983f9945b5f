//! The language server of the Symbiont agent language.
//!
//! [`serve`] speaks the protocol over any pair of byte streams. Whatever it answers is computed by a
//! plain function from a [`Document`] and a place in it: [`answers`] is the list of them.
//!
//! # What holds
//!
//! - No message ends the server but `exit`; the end of the stream and the end of the client's
//!   process do.
//! - An answer is about the text as the client last told it. Where a later change is already
//!   waiting, the answer is refused with `ContentModified`, and diagnostics wait for the last change.
//! - A file is always analysed whole: reading and checking 5,000 lines takes a few milliseconds, so
//!   that nothing needs to be kept from one version to the next. What one version needs twice is
//!   computed once.
//!
//! # What is not here
//!
//! The language: tree, names, types, diagnostics, layout and reference are `symbiont-dsl`'s. Files
//! are never opened: the client sends what it shows.

#![warn(missing_docs)]

pub mod answers;
mod document;
mod parent;
mod server;
mod text;
mod transport;

use std::io::{self, BufRead, Write};
use std::sync::mpsc;

pub use document::Document;
pub use server::Server;
pub use text::{Encoding, Text};

use transport::{Received, receive, send_value};

/// How the conversation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The client asked to shut down and to exit.
    Exit,
    /// The client asked to exit, or went away, without having asked to shut down.
    Abrupt,
}

/// Serves a client until it leaves.
///
/// # Errors
///
/// The streams' own, a header that nobody can read, and that no thread could be started.
pub fn serve(input: impl BufRead + Send + 'static, output: &mut impl Write) -> io::Result<Ended> {
    let (sender, inbox) = mpsc::sync_channel(server::MOST_WAITING);
    let gone = sender.clone();
    std::thread::Builder::new().name("lsp-reader".to_owned()).spawn(move || {
        let mut input = input;
        loop {
            let received = receive(&mut input);
            let last = matches!(received, Ok(Received::End) | Err(_));
            if sender.send(received).is_err() || last {
                return;
            }
        }
    })?;
    let mut gone = Some(gone);
    let mut server = Server::default();
    // What came before the end of the stream is still done.
    let mut closed = false;
    loop {
        // Everything that is there already is looked at before anything of it is answered, and
        // nobody is waited for as long as there is work.
        let received = match (server.is_idle(), server.is_full()) {
            (true, _) if closed => return Ok(Ended::Abrupt),
            (true, _) => inbox.recv().ok(),
            (false, false) => inbox.try_recv().ok(),
            (false, true) => None,
        };
        match received {
            Some(Ok(Received::Message(message))) => server.take(message),
            Some(Ok(Received::Malformed(answer))) => send_value(output, &answer)?,
            Some(Ok(Received::End)) => closed = true,
            Some(Ok(Received::Gone)) => return Ok(Ended::Abrupt),
            Some(Err(error)) => return Err(error),
            None => {
                let said = server.work();
                if let Some(client) = server.client()
                    && let Some(gone) = gone.take()
                {
                    parent::watch(client, move || {
                        // Nobody listens any more if the server ended first.
                        let _ended = gone.send(Ok(Received::Gone));
                    });
                }
                for message in said {
                    message.write(output)?;
                }
                if let Some(ended) = server.ended() {
                    return Ok(ended);
                }
            }
        }
    }
}
