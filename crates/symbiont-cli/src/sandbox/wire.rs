//! What passes between a keeper and whoever asks it for something.
//!
//! A connection carries one request, a line of JSON, and then frames: a kind, a length of four bytes,
//! and so many bytes. The last frame of each connection is the answer.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt;

use serde_json::{Value, json};
use symbiont_runtime::{CommandResult, SandboxError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::end::{self, End, Limit};
use crate::{Exit, Failure};

/// The longest request, and the longest frame.
const LONGEST: usize = 1 << 20;

/// Kinds of frames to a keeper.
pub(super) const INPUT: u8 = 0;
pub(super) const INPUT_END: u8 = 1;
pub(super) const SIGNAL: u8 = 2;
pub(super) const RESIZE: u8 = 3;
/// Kinds of frames from a keeper.
pub(super) const OUTPUT: u8 = 10;
pub(super) const ERROR_OUTPUT: u8 = 11;
pub(super) const ANSWER: u8 = 12;
/// So many bytes of its input the command has taken.
pub(super) const TAKEN: u8 = 13;
/// The most input that may be sent and not yet taken.
pub(super) const WINDOW: usize = 64 << 10;

pub(super) async fn send(
    to: &mut (impl AsyncWrite + Unpin),
    kind: u8,
    payload: &[u8],
) -> io::Result<()> {
    let length = u32::try_from(payload.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut frame = Vec::with_capacity(5 + payload.len());
    frame.push(kind);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(payload);
    to.write_all(&frame).await
}

/// The next frame; none when the other side has ended between frames.
pub(super) async fn receive(
    from: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<(u8, Vec<u8>)>> {
    let mut kind = [0];
    if from.read(&mut kind).await? == 0 {
        return Ok(None);
    }
    let length = from.read_u32().await? as usize;
    if length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut payload = vec![0; length];
    from.read_exact(&mut payload).await?;
    Ok(Some((kind[0], payload)))
}

pub(super) async fn send_request(
    to: &mut (impl AsyncWrite + Unpin),
    request: &Value,
) -> io::Result<()> {
    to.write_all(format!("{request}\n").as_bytes()).await
}

/// A line of JSON, read no further than its end.
pub(super) async fn receive_request(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Value> {
    let mut line = Vec::new();
    loop {
        match from.read_u8().await? {
            b'\n' => return serde_json::from_slice(&line).map_err(io::Error::from),
            byte if line.len() < LONGEST => line.push(byte),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// A word of a command or a path: text, or the number of each of its bytes in hexadecimal digits.
pub(super) fn word(word: &OsStr) -> Value {
    match word.to_str() {
        Some(text) => json!(text),
        None => {
            let digits = word.as_encoded_bytes().iter().map(|byte| format!("{byte:02x}"));
            json!({ "hex": digits.collect::<String>() })
        }
    }
}

/// The word that [`word`] has written.
pub(super) fn read_word(value: &Value) -> Option<OsString> {
    if let Some(text) = value.as_str() {
        return Some(text.into());
    }
    let digits = value["hex"].as_str()?.as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    digits.chunks(2).map(byte).collect::<Option<Vec<u8>>>().map(OsString::from_vec)
}

/// How a command ended in a sandbox of so much memory, or why there is none.
pub(super) fn ended(result: &Result<CommandResult, SandboxError>, memory_mb: u64) -> Value {
    match result {
        Ok(result) => {
            let End { exit, limit } = end::of(result);
            let limit = limit.map(Limit::name);
            json!({ "exit": exit.code(), "limit": limit, "memory_mb": memory_mb })
        }
        Err(error) => refused(&end::failure(error.clone())),
    }
}

/// What such an answer says: the end, and how much memory there was.
pub(super) fn end(answer: &Value) -> (End, Option<u64>) {
    let limit = answer["limit"].as_str().and_then(Limit::named);
    (End { exit: exit(answer), limit }, answer["memory_mb"].as_u64())
}

/// Why something was not done.
pub(super) fn refused(failure: &Failure) -> Value {
    json!({ "refused": failure.message, "exit": failure.exit.code(), "help": failure.help })
}

/// What an answer says: a refusal is the failure that it was.
pub(super) fn understood(answer: &Value) -> Result<&Value, Failure> {
    match answer["refused"].as_str() {
        None => Ok(answer),
        Some(message) => {
            let failure = Failure::new(exit(answer), message);
            Err(Failure { help: answer["help"].as_str().map(str::to_owned), ..failure })
        }
    }
}

/// The exit code of an answer.
fn exit(answer: &Value) -> Exit {
    let code = answer["exit"].as_u64().and_then(|code| u8::try_from(code).ok());
    code.map_or(Exit::NoSandbox, Exit::Command)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn words_are_the_same_bytes_on_the_other_side() {
        for bytes in [&b"text"[..], b"", b"\xff", b"a\xc3b\n\"", "\u{e9}".as_bytes()] {
            let there = OsStr::from_bytes(bytes);
            let line = word(there).to_string();
            let back = read_word(&serde_json::from_str(&line).expect("JSON"));
            assert_eq!(back.as_deref(), Some(there), "{line}");
        }
        for nonsense in [json!(null), json!(7), json!({ "hex": "zz" }), json!({ "text": "00" })] {
            assert_eq!(read_word(&nonsense), None, "{nonsense}");
        }
    }
}
