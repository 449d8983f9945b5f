//! The conversation: messages over byte streams, in the order in which they come.

use std::io::{BufReader, Cursor, PipeWriter, Read, Write};
use std::thread::JoinHandle;

use serde_json::{Value, json};
use symbiont_lsp::{Ended, Server, serve};

const URI: &str = "file:///agent.symbi";

fn framed(message: &Value) -> String {
    let body = message.to_string();
    format!("Content-Length: {}\r\n\r\n{body}", body.len())
}

fn request(id: i32, method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

fn notification(method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "method": method, "params": params })
}

fn initialize() -> Value {
    request(1, "initialize", json!({ "capabilities": {} }))
}

fn open(text: &str) -> Value {
    let document = json!({ "uri": URI, "languageId": "symbi", "version": 1, "text": text });
    notification("textDocument/didOpen", json!({ "textDocument": document }))
}

fn replace(version: i32, text: &str) -> Value {
    let document = json!({ "uri": URI, "version": version });
    let changes = json!([{ "text": text }]);
    notification(
        "textDocument/didChange",
        json!({ "textDocument": document, "contentChanges": changes }),
    )
}

fn hover(id: i32) -> Value {
    let place =
        json!({ "textDocument": { "uri": URI }, "position": { "line": 0, "character": 1 } });
    request(id, "textDocument/hover", place)
}

fn exit() -> Value {
    notification("exit", Value::Null)
}

/// Plays a whole conversation; how it ended, and what was said.
#[track_caller]
fn play(input: &str) -> (Ended, Vec<Value>) {
    let mut output = Vec::new();
    let input = BufReader::new(Cursor::new(input.to_owned().into_bytes()));
    let ended = serve(input, &mut output).expect("the streams hold");
    (ended, said(&output))
}

/// The messages in what was written.
fn said(mut output: &[u8]) -> Vec<Value> {
    let mut said = Vec::new();
    while !output.is_empty() {
        let text = std::str::from_utf8(output).expect("messages are text");
        let (header, rest) = text.split_once("\r\n\r\n").expect("a header");
        let length: usize =
            header.strip_prefix("Content-Length: ").expect("a length").parse().unwrap();
        said.push(serde_json::from_str(&rest[..length]).expect("JSON"));
        output = &output[header.len() + 4 + length..];
    }
    said
}

fn conversation(messages: &[Value]) -> String {
    messages.iter().map(framed).collect()
}

/// The answers in short: a result, or the number of the error.
fn short(said: &[Value]) -> Vec<String> {
    let one = |message: &Value| match (&message["method"], &message["error"]["code"]) {
        (Value::String(method), _) => {
            let found = message["params"]["diagnostics"].as_array().map_or(0, Vec::len);
            format!("{method} v{} {found}", message["params"]["version"])
        }
        (_, Value::Null) => format!("{} ok", message["id"]),
        (_, code) => format!("{} {code}", message["id"]),
    };
    said.iter().map(one).collect()
}

#[test]
fn a_conversation_has_a_beginning_and_an_end() {
    let check = |messages: &[Value], ended: Ended, want: &[&str]| {
        let (how, said) = play(&conversation(messages));
        assert_eq!((how, short(&said)), (ended, want.iter().map(|it| (*it).to_owned()).collect()));
    };
    let shutdown = request(2, "shutdown", Value::Null);
    check(&[initialize(), shutdown.clone(), exit()], Ended::Exit, &["1 ok", "2 ok"]);
    check(&[initialize(), exit()], Ended::Abrupt, &["1 ok"]);
    check(&[exit()], Ended::Abrupt, &[]);
    check(&[], Ended::Abrupt, &[]);
    check(&[hover(3), exit()], Ended::Abrupt, &["3 -32002"]);
    check(&[initialize(), shutdown, hover(3), exit()], Ended::Exit, &["1 ok", "2 ok", "3 -32600"]);
    check(&[initialize(), initialize(), exit()], Ended::Abrupt, &["1 ok", "1 -32600"]);
    check(&[initialize(), hover(3), exit()], Ended::Abrupt, &["1 ok", "3 -32602"]);
    let unknown = request(3, "textDocument/unknown", json!({}));
    check(&[initialize(), unknown, exit()], Ended::Abrupt, &["1 ok", "3 -32601"]);
}

#[test]
fn places_are_counted_as_the_client_can() {
    let agreed = |offered: Value| {
        let capabilities =
            json!({ "capabilities": { "general": { "positionEncodings": offered } } });
        let (_, said) = play(&conversation(&[request(1, "initialize", capabilities), exit()]));
        said[0]["result"]["capabilities"]["positionEncoding"].as_str().map(str::to_owned)
    };
    assert_eq!(agreed(json!(["utf-16", "utf-8"])).as_deref(), Some("utf-8"));
    assert_eq!(agreed(json!(["utf-32", "utf-16"])).as_deref(), Some("utf-16"));
    assert_eq!(agreed(Value::Null).as_deref(), Some("utf-16"));
}

#[test]
fn what_is_no_message_is_answered_and_passed_over() {
    let large = (64 << 20) + 1;
    let mut input = conversation(&[initialize()]);
    input.push_str("Content-Length: 3\r\n\r\n{,}");
    input.push_str(&framed(&json!([1, 2])));
    input.push_str(&framed(&json!({ "id": 9, "method": 5 })));
    input.push_str(&format!("Content-Length: {large}\r\n\r\n{}", " ".repeat(large)));
    input.push_str(&conversation(&[notification("textDocument/didOpen", json!({ "a": 1 }))]));
    input.push_str(&conversation(&[request(3, "textDocument/hover", json!({ "a": 1 })), exit()]));
    let (_, said) = play(&input);
    let mut told = short(&said);
    told.sort();
    assert_eq!(told, ["1 ok", "3 -32602", "9 -32600", "null -32600", "null -32600", "null -32700"]);
}

#[test]
fn a_header_that_nobody_can_read_is_an_error() {
    for header in ["Content-Length: x\r\n\r\n", "nonsense\r\n\r\n", "A: 1\r\n\r\n", "\u{1}\n"] {
        let outcome = serve(BufReader::new(Cursor::new(header.to_owned())), &mut Vec::new());
        assert!(outcome.is_err(), "{header}");
    }
}

#[test]
fn a_document_larger_than_a_source_may_be_is_said_to_be_so() {
    let text = format!("agent a {{ }} // {}", "x".repeat(2 << 20));
    let (_, said) = play(&conversation(&[initialize(), open(&text), hover(2), exit()]));
    assert_eq!(short(&said), ["1 ok", "2 ok"]);
    let mut server = Server::default();
    for message in [initialize(), open(&text)] {
        server.take(serde_json::from_value(message).expect("a message"));
    }
    let said = worked(&mut server);
    assert_eq!(said[1]["params"]["diagnostics"][0]["code"], "E0108");
}

/// Works until nothing is left to do.
fn worked(server: &mut Server) -> Vec<Value> {
    let mut said = Vec::new();
    while !server.is_idle() {
        said.extend(server.work().iter().map(|it| serde_json::to_value(it).expect("JSON")));
    }
    said
}

/// The server with all of these messages waiting.
fn waiting(messages: &[Value]) -> Server {
    let mut server = Server::default();
    for message in messages {
        server.take(serde_json::from_value(message.clone()).expect("a message"));
    }
    server
}

#[test]
fn of_a_burst_of_changes_the_last_is_analysed() {
    let good = "agent a";
    let mut messages = vec![initialize(), open("agent {")];
    messages.extend((2..100).map(|version| replace(version, "agent {")));
    messages.push(replace(100, good));
    let said = worked(&mut waiting(&messages));
    assert_eq!(
        short(&said),
        ["1 ok", "\"textDocument/publishDiagnostics\" v100 0"].map(|it| it.replace('"', ""))
    );
}

#[test]
fn an_answer_about_an_old_version_is_dropped() {
    let other = notification(
        "textDocument/didChange",
        json!({ "textDocument": { "uri": "file:///b", "version": 2 }, "contentChanges": [] }),
    );
    let messages =
        [initialize(), open("agent a"), hover(2), replace(2, "agent b"), hover(3), other];
    let said = worked(&mut waiting(&messages));
    assert_eq!(short(&said)[..3], ["1 ok", "2 -32801", "3 ok"]);
}

#[test]
fn a_cancelled_request_is_answered_with_its_cancellation() {
    let cancel = |id: i32| notification("$/cancelRequest", json!({ "id": id }));
    let messages = [initialize(), open("agent a"), hover(2), hover(3), cancel(2), cancel(99)];
    let mut server = waiting(&messages);
    let said = worked(&mut server);
    assert_eq!(short(&said)[..3], ["1 ok", "2 -32800", "3 ok"]);
    // A cancellation that comes too late is for nothing, also for a later request of that number.
    for message in [cancel(3), hover(3)] {
        server.take(serde_json::from_value(message).expect("a message"));
    }
    assert_eq!(short(&worked(&mut server)), ["3 ok"]);
}

#[test]
fn changes_of_parts_are_made_in_their_order() {
    let part = |start: u32, end: u32, text: &str| {
        let at = |character: u32| json!({ "line": 0, "character": character });
        json!({ "range": { "start": at(start), "end": at(end) }, "text": text })
    };
    let change = notification(
        "textDocument/didChange",
        json!({
            "textDocument": { "uri": URI, "version": 2 },
            "contentChanges": [part(6, 7, "\u{1f600}b"), part(8, 9, "name"), part(6, 8, "")],
        }),
    );
    let symbols =
        request(2, "textDocument/documentSymbol", json!({ "textDocument": { "uri": URI } }));
    let said = worked(&mut waiting(&[initialize(), open("agent a"), change, symbols]));
    assert_eq!(said[1]["result"][0]["name"], "name");
}

#[test]
fn a_closed_document_has_no_diagnostics_any_more() {
    let close = notification("textDocument/didClose", json!({ "textDocument": { "uri": URI } }));
    let mut server = waiting(&[initialize(), open("agent {")]);
    let said = worked(&mut server);
    assert_eq!(said[1]["params"]["diagnostics"].as_array().map(Vec::len), Some(1));
    for message in [close, hover(2)] {
        server.take(serde_json::from_value(message).expect("a message"));
    }
    let told: Vec<String> = short(&worked(&mut server));
    assert_eq!(told, ["textDocument/publishDiagnostics vnull 0", "2 -32602"]);
}

#[test]
fn colours_are_told_as_changes_to_whoever_has_the_last() {
    let document = json!({ "uri": URI });
    let full = request(2, "textDocument/semanticTokens/full", json!({ "textDocument": document }));
    let since = |id: i32, last: &str| {
        let params = json!({ "textDocument": document, "previousResultId": last });
        request(id, "textDocument/semanticTokens/full/delta", params)
    };
    let mut server = waiting(&[initialize(), open("agent a { with { 1 } }"), full]);
    let told = worked(&mut server);
    let id = told[1]["result"]["resultId"].as_str().expect("a number").to_owned();
    // A change of the text empties nothing that the client still has.
    let said = {
        for message in [replace(2, "agent a { with { 1 + 1 } }"), since(3, &id), since(4, "0")] {
            server.take(serde_json::from_value(message).expect("a message"));
        }
        worked(&mut server)
    };
    assert!(said[0]["result"]["edits"].is_array(), "{}", said[0]);
    assert!(said[1]["result"]["data"].is_array(), "{}", said[1]);
}

/// A server that has greeted a client with its own process.
fn served(process: u32) -> (PipeWriter, JoinHandle<Ended>) {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let (mut answers, mut output) = std::io::pipe().expect("a pipe");
    let serving = std::thread::spawn(move || {
        serve(BufReader::new(reader), &mut output).expect("the streams hold")
    });
    let hello = request(1, "initialize", json!({ "processId": process, "capabilities": {} }));
    writer.write_all(framed(&hello).as_bytes()).expect("it listens");
    answers.read_exact(&mut [0]).expect("it answers");
    std::thread::spawn(move || std::io::copy(&mut answers, &mut std::io::sink()));
    (writer, serving)
}

#[test]
fn the_end_of_the_clients_process_ends_the_server() {
    let mut client = std::process::Command::new("cat")
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("a process");
    let (writer, serving) = served(client.id());
    drop(client.stdin.take());
    client.wait().expect("it ends");
    assert_eq!(serving.join().expect("no panic"), Ended::Abrupt);
    drop(writer);
}

#[test]
fn the_end_of_the_stream_ends_the_server() {
    let (writer, serving) = served(std::process::id());
    drop(writer);
    assert_eq!(serving.join().expect("no panic"), Ended::Abrupt);
}
