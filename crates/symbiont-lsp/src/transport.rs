//! Messages over a pair of byte streams.
//!
//! # What holds
//!
//! - What is no message is answered with an error, and reading goes on behind it; only a broken
//!   header ends it, since nobody can tell where the next message would begin.
//! - A message larger than [`MOST`] is passed over and takes no memory.

use std::io::{self, BufRead, Read, Write};

use lsp_server::{ErrorCode, Message};
use serde_json::{Value, json};

/// How many bytes a message may have: 64 MiB.
const MOST: u64 = 64 << 20;

/// How many bytes a line of a header may have.
const LONGEST_HEADER: u64 = 8 << 10;

/// What came in.
#[derive(Debug)]
pub(crate) enum Received {
    /// A message.
    Message(Message),
    /// Something else, and the error for whoever sent it.
    Malformed(Value),
    /// Nothing more will come.
    End,
    /// The client's process has ended.
    Gone,
}

/// Reads the next message.
pub(crate) fn receive(input: &mut impl BufRead) -> io::Result<Received> {
    let Some(length) = header(input)? else { return Ok(Received::End) };
    if length > MOST {
        let passed = io::copy(&mut input.by_ref().take(length), &mut io::sink())?;
        if passed < length {
            return Ok(Received::End);
        }
        let words = format!("the message has {length} bytes, and at most {MOST} are read");
        return Ok(malformed(ErrorCode::InvalidRequest, &Value::Null, &words));
    }
    let mut body = Vec::new();
    if input.by_ref().take(length).read_to_end(&mut body)? as u64 != length {
        return Ok(Received::End);
    }
    let value: Value = match serde_json::from_slice(&body) {
        Ok(value) => value,
        Err(error) => {
            return Ok(malformed(ErrorCode::ParseError, &Value::Null, &error.to_string()));
        }
    };
    let id = value.get("id").cloned().unwrap_or_default();
    Ok(match serde_json::from_value(value) {
        Ok(message) => Received::Message(message),
        Err(_) => malformed(ErrorCode::InvalidRequest, &id, "this is no message of the protocol"),
    })
}

fn malformed(code: ErrorCode, id: &Value, message: &str) -> Received {
    let error = json!({ "code": code as i32, "message": message });
    Received::Malformed(json!({ "jsonrpc": "2.0", "id": id, "error": error }))
}

/// Reads a header; how long its body is.
fn header(input: &mut impl BufRead) -> io::Result<Option<u64>> {
    let broken = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut length = None;
    loop {
        let mut line = Vec::new();
        input.by_ref().take(LONGEST_HEADER).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(None);
        }
        let Ok(line) = std::str::from_utf8(&line) else {
            return Err(broken("the header is no text"));
        };
        if !line.ends_with('\n') {
            return Err(broken("a line of the header has no end"));
        }
        let line = line.trim_end();
        if line.is_empty() {
            let length = length.ok_or_else(|| broken("the header has no `Content-Length`"))?;
            return Ok(Some(length));
        }
        let Some((name, value)) = line.split_once(':') else {
            return Err(broken("a line of the header has no `:`"));
        };
        if name.trim().eq_ignore_ascii_case("content-length") {
            let value =
                value.trim().parse().map_err(|_| broken("`Content-Length` is no number"))?;
            length = Some(value);
        }
    }
}

/// Writes an answer to what was no message.
pub(crate) fn send_value(output: &mut impl Write, value: &Value) -> io::Result<()> {
    let body = value.to_string();
    write!(output, "Content-Length: {}\r\n\r\n{body}", body.len())?;
    output.flush()
}
