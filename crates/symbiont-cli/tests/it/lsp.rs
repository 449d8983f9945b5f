//! The language server as an editor uses it: the built binary, over its standard streams.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::{Value, json};

use crate::{fed, symbiont};

const URI: &str = "file:///work/agent.symbi";

/// An editor with a server of its own.
struct Editor {
    server: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    asked: i32,
}

impl Editor {
    fn new() -> Self {
        let mut server = symbiont()
            .args(["lsp", "--stdio"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let input = server.stdin.take().expect("a pipe");
        let output = BufReader::new(server.stdout.take().expect("a pipe"));
        Self { server, input, output, asked: 0 }
    }

    fn write(&mut self, message: &Value) {
        let body = message.to_string();
        write!(self.input, "Content-Length: {}\r\n\r\n{body}", body.len()).expect("it listens");
        self.input.flush().expect("it listens");
    }

    fn tell(&mut self, method: &str, params: Value) {
        self.write(&json!({ "jsonrpc": "2.0", "method": method, "params": params }));
    }

    /// Asks, and gives the answer; what is told on the way is passed over.
    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.asked += 1;
        let id = self.asked;
        self.write(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        loop {
            let message = self.read();
            if message["id"] == id {
                assert_eq!(message["error"], Value::Null, "{method}");
                return message["result"].clone();
            }
        }
    }

    fn read(&mut self) -> Value {
        let mut length = 0;
        loop {
            let mut line = String::new();
            assert_ne!(self.output.read_line(&mut line).expect("it answers"), 0, "it is there");
            match line.trim_end().strip_prefix("Content-Length: ") {
                Some(value) => length = value.parse().expect("a number"),
                None if line.trim_end().is_empty() => break,
                None => {}
            }
        }
        let mut body = vec![0; length];
        self.output.read_exact(&mut body).expect("a whole message");
        serde_json::from_slice(&body).expect("JSON")
    }

    /// The codes of the next diagnostics.
    fn diagnostics(&mut self, version: i32) -> Vec<String> {
        loop {
            let message = self.read();
            if message["params"]["version"] == version {
                let found = message["params"]["diagnostics"].as_array().expect("a list");
                let codes = found.iter().filter_map(|it| it["code"].as_str());
                return codes.map(str::to_owned).collect();
            }
        }
    }

    fn at(&mut self, method: &str, line: u32, character: u32, more: Value) -> Value {
        let position = json!({ "line": line, "character": character });
        let mut params = json!({ "textDocument": { "uri": URI }, "position": position });
        if let (Some(params), Value::Object(more)) = (params.as_object_mut(), more) {
            params.extend(more);
        }
        self.ask(method, params)
    }
}

#[test]
fn an_editor_is_served_from_its_start_to_its_end() {
    let mut editor = Editor::new();
    let capabilities = json!({
        "general": { "positionEncodings": ["utf-16"] },
        "workspace": { "workspaceEdit": { "documentChanges": true } },
    });
    let process = std::process::id();
    let hello =
        editor.ask("initialize", json!({ "processId": process, "capabilities": capabilities }));
    assert_eq!(hello["serverInfo"]["name"], "symbiont");
    assert_eq!(hello["capabilities"]["positionEncoding"], "utf-16");
    editor.tell("initialized", json!({}));

    let text = "agent worker(text: String) { with { len(text) } }\n\
                agent main { with { let count=len(\"\u{1f600}\"); print(count); count + delegate(\"worker\", 1) } }\n";
    let document = json!({ "uri": URI, "languageId": "symbi", "version": 1, "text": text });
    editor.tell("textDocument/didOpen", json!({ "textDocument": document }));
    assert_eq!(editor.diagnostics(1), <[String; 0]>::default());

    // A change in the middle of a line that has a wide character before it.
    let change = |version: i32, from: u32, to: u32, text: &str| {
        let at = |character: u32| json!({ "line": 1, "character": character });
        let changes = json!([{ "range": { "start": at(from), "end": at(to) }, "text": text }]);
        let document = json!({ "uri": URI, "version": version });
        json!({ "textDocument": document, "contentChanges": changes })
    };
    editor.tell("textDocument/didChange", change(2, 47, 52, "cuont"));
    assert_eq!(editor.diagnostics(2), ["E0201"]);
    editor.tell("textDocument/didChange", change(3, 47, 52, "count"));
    assert_eq!(editor.diagnostics(3), <[String; 0]>::default());

    let hover = editor.at("textDocument/hover", 1, 31, json!({}));
    assert!(
        hover["contents"]["value"].as_str().is_some_and(|text| text.contains("len(")),
        "{hover}"
    );

    let items = editor.at("textDocument/completion", 1, 56, json!({}));
    let labels: Vec<&str> =
        items.as_array().expect("a list").iter().filter_map(|it| it["label"].as_str()).collect();
    assert!(
        ["count", "let", "len", "fs"].iter().all(|wanted| labels.contains(wanted)),
        "{labels:?}"
    );

    let definition = editor.at("textDocument/definition", 1, 48, json!({}));
    assert_eq!(definition["range"]["start"], json!({ "line": 1, "character": 24 }));
    let declared = json!({ "context": { "includeDeclaration": true } });
    let references = editor.at("textDocument/references", 1, 48, declared);
    assert_eq!(references.as_array().map(Vec::len), Some(3));

    let renamed = editor.at("textDocument/rename", 0, 7, json!({ "newName": "helper" }));
    let edits = &renamed["documentChanges"][0]["edits"];
    assert_eq!(edits.as_array().map(Vec::len), Some(2), "{renamed}");
    assert_eq!(edits[1]["newText"], "helper");

    let whole = json!({ "textDocument": { "uri": URI } });
    let options = json!({ "tabSize": 4, "insertSpaces": true });
    let formatting = json!({ "textDocument": { "uri": URI }, "options": options });
    let edits = editor.ask("textDocument/formatting", formatting);
    assert!(edits.as_array().is_some_and(|edits| !edits.is_empty()), "{edits}");
    let tokens = editor.ask("textDocument/semanticTokens/full", whole.clone());
    assert!(tokens["data"].as_array().is_some_and(|data| data.len() > 50), "{tokens}");
    let symbols = editor.ask("textDocument/documentSymbol", whole);
    assert_eq!(
        symbols[1]["containerName"], "worker",
        "without nesting an agent's items follow it: {symbols}"
    );

    editor.ask("shutdown", Value::Null);
    editor.tell("exit", Value::Null);
    assert_eq!(editor.server.wait().expect("it ends").code(), Some(0));
}

#[test]
fn an_editor_that_goes_away_ends_the_server() {
    let editor = Editor::new();
    let Editor { mut server, input, output, .. } = editor;
    drop(input);
    assert_eq!(server.wait().expect("it ends").code(), Some(1));
    drop(output);
}

#[test]
fn what_is_no_message_is_told_apart_from_what_can_not_be_written() {
    let ran = fed(&["lsp"], "hello\n\n");
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    assert!(ran.err.contains("what came is no message"), "{}", ran.err);
}
