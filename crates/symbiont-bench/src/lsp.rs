//! What an editor waits for: diagnostics and completion in a large file.

use std::time::Instant;

use anyhow::{Result, ensure};
use lsp_server::{Message, Notification, Request};
use serde_json::{Value, json};
use symbiont_lsp::Server;

use crate::table::{Peer, Rows};
use crate::{Scale, median, millis};

/// The lines of the file.
const LINES: usize = 5_000;

const URI: &str = "file:///large.symbi";

/// A part of the file, as people write one; `N` is its number.
const PART: &str = "\
// Looks after the logs of one service.
agent watcher_N(service: String, limits: Map<String, int>) -> Array<String> {
    capabilities = [\"fs.read\", \"send\"]
    policy logs { allow: fs.read if service.starts_with(\"a\") allow: message.send }
    function worst_N(lines: Array<String>, most: int) -> Array<String> {
        let found = lines.filter(line => line.contains(\"ERROR\") || line.contains(\"FATAL\"));
        return found.slice(0, min(found.length, most));
    }
    with sandbox = tier1, timeout = 30s {
        let lines = fs.read(\"logs/\" + service + \".log\").lines();
        let worst = worst_N(lines, limits.get(\"lines\").unwrap_or(10));
        for line in worst {
            if line.contains(\"FATAL\") { send(\"watcher_N\", \"fatal\", { service: service, line: line }); }
        }
        worst
    }
}

";

/// A large file: the parts up to the last line.
fn file() -> String {
    let parts = LINES / PART.lines().count();
    (0..=parts).map(|number| PART.replace("_N", &format!("_{number}"))).collect()
}

/// A server with the file open.
struct Editor {
    server: Server,
    version: i32,
    /// Where a statement may begin, in the middle of the file.
    line: usize,
}

impl Editor {
    fn new() -> Result<Self> {
        let text = file();
        let lines = text.lines().count();
        ensure!(lines >= LINES, "the file has {lines} lines");
        let half = text.lines().enumerate().skip(lines / 2);
        let line =
            half.into_iter().find(|(_, line)| line.trim() == "worst").map_or(0, |(at, _)| at);
        let mut editor = Self { server: Server::default(), version: 1, line };
        let document = json!({ "uri": URI, "languageId": "symbi", "version": 1, "text": text });
        editor.ask("initialize", json!({ "capabilities": {} }))?;
        editor.tell("textDocument/didOpen", json!({ "textDocument": document }));
        editor.work()?;
        Ok(editor)
    }

    fn tell(&mut self, method: &str, params: Value) {
        self.server.take(Notification { method: method.to_owned(), params }.into());
    }

    fn ask(&mut self, method: &str, params: Value) -> Result<Vec<Message>> {
        self.server.take(Request { id: 1.into(), method: method.to_owned(), params }.into());
        self.work()
    }

    fn work(&mut self) -> Result<Vec<Message>> {
        let mut said = Vec::new();
        while !self.server.is_idle() {
            said.extend(self.server.work());
        }
        ensure!(!said.is_empty(), "the server says nothing");
        Ok(said)
    }

    /// Types a letter, or takes it away again.
    fn type_letter(&mut self) {
        self.version += 1;
        let at = |character: u32| json!({ "line": self.line, "character": character });
        let (to, text) = if self.version % 2 == 0 { (8, "w") } else { (9, "") };
        let changes = json!([{ "range": { "start": at(8), "end": at(to) }, "text": text }]);
        let document = json!({ "uri": URI, "version": self.version });
        self.tell(
            "textDocument/didChange",
            json!({ "textDocument": document, "contentChanges": changes }),
        );
    }
}

pub(crate) fn measure(scale: Scale, rows: &mut Rows<'_>) {
    let count = scale.of(200, 10).max(20);
    let n = || format!("{count} keystrokes, {LINES} lines");
    match completions(count) {
        Ok(mut times) => {
            times.sort_by(f64::total_cmp);
            let at = |percent: usize| times[(times.len() - 1) * percent / 100];
            rows.add("lsp completion p50", "ms", n(), Ok((at(50), None::<Peer>)));
            rows.add("lsp completion p99", "ms", n(), Ok((at(99), None)));
        }
        Err(error) => rows.add("lsp completion p50", "ms", n(), Err(error)),
    }
    let typed = diagnostics(count).map(|mut times| (median(&mut times), None));
    rows.add("lsp diagnostics after a keystroke", "ms", n(), typed);
}

/// A keystroke and the list after it, in milliseconds, without the diagnostics, which come later.
fn completions(count: usize) -> Result<Vec<f64>> {
    let mut editor = Editor::new()?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let position = json!({ "line": editor.line, "character": 9 });
        let params = json!({ "textDocument": { "uri": URI }, "position": position });
        editor.type_letter();
        let began = Instant::now();
        editor.server.take(
            Request { id: 1.into(), method: "textDocument/completion".to_owned(), params }.into(),
        );
        let said = loop {
            let said = editor.server.work();
            if !said.is_empty() {
                break said;
            }
        };
        times.push(millis(began.elapsed()));
        let Some(Message::Response(response)) = said.into_iter().next() else {
            anyhow::bail!("the answer is none")
        };
        let items =
            response.response_result.map_err(|error| anyhow::anyhow!("{}", error.message))?;
        ensure!(items.as_array().is_some_and(|items| items.len() > 50), "too few items");
        editor.work()?;
    }
    Ok(times)
}

/// A keystroke and the diagnostics after it, in milliseconds.
fn diagnostics(count: usize) -> Result<Vec<f64>> {
    let mut editor = Editor::new()?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        editor.type_letter();
        let began = Instant::now();
        let said = editor.work()?;
        times.push(millis(began.elapsed()));
        ensure!(said.len() == 1, "one change has one list of diagnostics");
    }
    Ok(times)
}
