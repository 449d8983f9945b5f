//! Writing to standard output and standard error.
//!
//! # What holds
//!
//! - A reader that has gone is no failure: what it did not want is not written.
//! - Any other result that could not be written is a failure, for nobody has it.
//! - What programs read reaches them byte for byte; on a terminal, what would act on it is written out.
//! - Colours are for terminals, and not where `NO_COLOR` is set.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use rustix::termios::tcgetwinsize;

use crate::{Exit, Failure, text};

pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const CARE: Style = AnsiColor::Yellow.on_default();
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(crate) const NAME: Style = AnsiColor::Cyan.on_default();

/// `text` in `style`. Streams that are no terminals drop the style again.
pub(crate) fn styled(style: Style, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{style}{text}{style:#}") }
}

/// How much of something was looked at and what is wrong with it, in a line.
pub(crate) fn summary(count: u64, noun: &str, errors: u64, warnings: u64) -> String {
    let style = match (errors, warnings) {
        (0, 0) => GOOD,
        (0, _) => CARE,
        (_, _) => BAD,
    };
    let summary = format!(
        "{}: {}, {}",
        text::counted(count, noun),
        text::counted(errors, "error"),
        text::counted(warnings, "warning")
    );
    styled(style, &summary)
}

/// Words that begin at a column, broken before the terminal's edge if they go `to` one.
pub(crate) fn wrapped(words: &str, column: usize, to: impl AsFd) -> String {
    let width = match tcgetwinsize(to) {
        Ok(size) if usize::from(size.ws_col) > column + 20 => usize::from(size.ws_col),
        Ok(_) | Err(_) => return words.to_owned(),
    };
    broken(words, column, width)
}

/// Words that begin at a column, broken before a width.
fn broken(words: &str, column: usize, width: usize) -> String {
    let (mut out, mut at) = (String::new(), column);
    for word in words.split(' ') {
        let length = word.chars().count();
        if at > column && at + 1 + length > width {
            out.push_str(&format!("\n{:column$}", ""));
            at = column;
        } else if at > column {
            out.push(' ');
            at += 1;
        }
        out.push_str(word);
        at += length;
    }
    out
}

/// Waits for something that is usually there at once, and tells a person if it is not.
pub(crate) async fn patiently<T>(what: &str, awaited: impl Future<Output = T>) -> T {
    const AT_ONCE: Duration = Duration::from_secs(1);
    let mut awaited = std::pin::pin!(awaited);
    if !io::stderr().is_terminal() {
        return awaited.await;
    }
    tokio::select! {
        biased;
        done = &mut awaited => return done,
        () = tokio::time::sleep(AT_ONCE) => {}
    }
    tell(&format!("{}\n", styled(DIM, &format!("{what} ..."))));
    awaited.await
}

/// Whether standard output is read by a person.
pub(crate) fn is_watched() -> bool {
    io::stdout().is_terminal()
}

/// Whether standard error shows colours.
pub(crate) fn has_colours() -> bool {
    anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never
}

/// Writes a result to standard output: as it is, or fit for a terminal if that is where it goes.
pub(crate) fn result(bytes: &[u8]) -> Result<(), Failure> {
    written(put(bytes)).map(|_| ())
}

/// Writes a part of a result to standard output.
pub(crate) fn put(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match is_watched() {
        true => out.write_all(text::json(&String::from_utf8_lossy(bytes)).as_bytes())?,
        false => out.write_all(bytes)?,
    }
    out.flush()
}

/// Writes a styled result to standard output.
pub(crate) fn report(text: &str) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush())).map(|_| ())
}

/// Whether the reader is still there; another failure is one.
pub(crate) fn written(outcome: io::Result<()>) -> Result<bool, Failure> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => {
            Err(Failure::new(Exit::Failed, format!("the result could not be written: {error}")))
        }
    }
}

/// Writes styled text to standard error; whether anyone reads it.
pub(crate) fn tell(text: &str) -> bool {
    let mut err = anstream::stderr().lock();
    err.write_all(text.as_bytes()).and_then(|()| err.flush()).is_ok()
}

/// Says why it did not work.
pub(crate) fn say(failure: &Failure) {
    let mut text =
        format!("{}{}\n", styled(BAD, "error"), styled(BOLD, &format!(": {}", failure.message)));
    if let Some(help) = &failure.help {
        text.push_str(&format!("  {} {help}\n", styled(NAME, "help:")));
    }
    tell(&text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_whole_and_begin_where_they_began() {
        assert_eq!(broken("one two three", 2, 10), "one two\n  three");
        assert_eq!(broken("one two three", 2, 40), "one two three");
        assert_eq!(broken("much-too-long for it", 4, 9), "much-too-long\n    for\n    it");
        assert_eq!(broken("", 4, 9), "");
    }
}
