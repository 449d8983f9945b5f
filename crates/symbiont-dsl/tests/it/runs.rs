//! What the programs of `test_data/programs` do: beside each, `*.json` says how it is run and what
//! its host answers, and `*.txt` which calls it made and what it came to.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::Value as Json;
use symbiont_dsl::definition::{bind_input, check};
use symbiont_dsl::machine::{Entry, HostCall, compile};
use symbiont_dsl::value::{ErrorValue, Value, from_json, to_json_text};

use super::world::{Answer, World};
use super::{expect, name, programs};

#[test]
fn programs_do_what_they_should() {
    for (path, source) in programs("programs") {
        let given = std::fs::read_to_string(path.with_extension("json"))
            .unwrap_or_else(|error| panic!("{} is never run: {error}", path.display()));
        let given: Json = serde_json::from_str(&given)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let runs = given.as_array().expect("an array of runs");
        assert!(!runs.is_empty(), "{} is never run", path.display());
        let mut world = World::new();
        let mut shown = String::new();
        for run in runs {
            shown += &play(&source, run, &mut world).replace("\n\n", "\n");
            shown.push('\n');
        }
        assert!(shown.contains("returns"), "{} never ends well:\n{shown}", name(&path));
        expect(&path.with_extension("txt"), &shown);
    }
}

/// One run. What it writes and remembers is there in the next one.
fn play(source: &str, run: &Json, world: &mut World) -> String {
    let checked = check(source);
    let program = checked.program.unwrap_or_else(|| panic!("{:?}", checked.diagnostics));
    let agent = match run["agent"].as_str() {
        None => 0,
        Some(name) => {
            let named = |agent: &symbiont_dsl::hir::Agent| agent.name.node == name;
            program.hir.agents.iter().position(named).expect("there is such an agent")
        }
    };
    let code = compile(&program.hir, agent).unwrap_or_else(|error| panic!("{error}"));
    let entry = match run["entry"].as_str() {
        None => Entry::With,
        Some("start") => Entry::OnStart,
        Some("stop") => Entry::OnStop,
        Some("message") => Entry::OnMessage,
        Some(other) => panic!("no entry `{other}`"),
    };
    let pairs = |json: &Json| -> Vec<(String, Value)> {
        let fields = json.as_object().into_iter().flatten();
        fields.map(|(key, value)| (key.clone(), value_of(value))).collect()
    };
    let input = match entry {
        Entry::With => {
            let hir = &program.hir;
            bind_input(hir, &hir.agents[agent], &run["input"]).expect("the input fits").values
        }
        Entry::OnStart | Entry::OnStop | Entry::OnMessage => pairs(&run["input"]),
    };
    world.answers.clear();
    for (call, answers) in run["answers"].as_object().into_iter().flatten() {
        let answers = answers.as_array().expect("an array of answers").iter().map(answer_of);
        world.answers.insert(call.clone(), answers.collect());
    }
    for (path, content) in pairs(&run["files"]) {
        world.put_file(&path, content);
    }
    let end = world.run(Arc::new(code), entry, input, pairs(&run["ambient"]));
    let mut shown = format!("run {run}\n");
    for (call, answer) in world.log.drain(..) {
        writeln!(shown, "  {} -> {}", call_text(&call), answer_text(&answer)).unwrap();
    }
    let verb = if end.is_ok() { "returns" } else { "fails" };
    writeln!(shown, "{verb} {}", answer_text(&end)).unwrap();
    shown
}

fn value_of(json: &Json) -> Value {
    from_json(json).expect("a value")
}

/// An answer; `{ "error": [kind, message] }` is an error.
fn answer_of(json: &Json) -> Answer {
    match json["error"].as_array().map(Vec::as_slice) {
        Some([Json::String(kind), Json::String(message)]) => {
            Err(ErrorValue::new(kind.as_str(), message.as_str()))
        }
        _ => Ok(value_of(json)),
    }
}

fn call_text(call: &HostCall) -> String {
    let positional = call.args.iter().map(value_text);
    let named = call.named.iter().map(|(name, value)| format!("{name}: {}", value_text(value)));
    let all: Vec<String> = positional.chain(named).collect();
    format!("{}({})", call.name, all.join(", "))
}

fn answer_text(answer: &Answer) -> String {
    match answer {
        Ok(value) => value_text(value),
        Err(error) => format!("{}: {}", error.kind, error.message),
    }
}

/// JSON, or what it shows as where it has none.
fn value_text(value: &Value) -> String {
    to_json_text(value, 1 << 20).unwrap_or_else(|_| value.to_string())
}
