//! The agents of this repository, with inputs; `lockfile_audit` is run by the command's tests.

use symbiont_runtime::*;

use crate::support::{config, records, run, runtime};

/// Runs one agent of `agents/FILE` with an input; its result as JSON, or how it failed.
async fn result(file: &str, name: &str, input: &str) -> String {
    let path = format!("{}/../../agents/{file}", env!("CARGO_MANIFEST_DIR"));
    let source = std::fs::read_to_string(path).expect("the agent is there");
    let runtime = runtime(|_| {}).await;
    let config = config(name, &source, ExecutionMode::Ephemeral);
    let (id, lifecycle) = (config.id, runtime.lifecycle());
    lifecycle.create_agent(config).await.expect("the agent is created");
    lifecycle.initialize_agent(id).await.expect("the agent initializes");
    lifecycle.start_agent_with_input(id, input).await.expect("the agent starts");
    let report = lifecycle.settled(id).await.expect("the agent exists").expect("it has run");
    let shown = match &report.outcome {
        RunOutcome::Returned(json) => json.to_string(),
        RunOutcome::Failed(failure) => format!("{}: {}", failure.kind, failure.message),
        RunOutcome::Cancelled(by) => by.clone(),
    };
    runtime.shutdown().await;
    shown
}

#[tokio::test]
async fn the_shipped_agents_take_their_inputs() {
    for (file, name, input, want) in [
        (
            "notebook.symbi",
            "notebook",
            "{}",
            r#"{"keys":["note/1","note/2","note/3"],"about_milk":["buy milk","return the milk"]}"#,
        ),
        (
            "notebook.symbi",
            "notebook",
            r#"{"notes":["oat milk"]}"#,
            r#"{"keys":["note/1"],"about_milk":["oat milk"]}"#,
        ),
        ("notebook.symbi", "notebook", r#"["sleep"]"#, r#"{"keys":["note/1"],"about_milk":[]}"#),
        (
            "notebook.symbi",
            "notebook",
            r#"{"notes":[1]}"#,
            "ParseError: agent `notebook` takes a string as `notes[0]`, and the input gives the number 1",
        ),
        (
            "primes.symbi",
            "primes",
            r#"{"limit":10}"#,
            r#"{"limit":10,"count":4,"largest":7,"primes":[2,3,5,7]}"#,
        ),
        (
            "primes.symbi",
            "primes",
            r#"{"limit":"10"}"#,
            "ParseError: agent `primes` takes an int as `limit`, and the input gives the string \"10\"",
        ),
        (
            "relay.symbi",
            "counter",
            r#"{"text":"to be or not to be"}"#,
            r#"{"words":6,"different":4,"times":{"to":2,"be":2,"or":1,"not":1}}"#,
        ),
    ] {
        assert_eq!(result(file, name, input).await, want, "{file} {input}");
    }
}

#[tokio::test]
async fn input_that_nobody_takes_is_noted() {
    for (source, input, told) in [
        (
            "agent a { with { return 1; } }",
            "5",
            "the agent has no parameters, and was given the number 5",
        ),
        (
            "agent a(x) { with { return x; } }",
            r#"{"x":1,"y":2}"#,
            "the input has keys that no parameter takes: y",
        ),
    ] {
        let runtime = runtime(|_| {}).await;
        let outcome = run(&runtime, source, input).await;
        assert!(matches!(outcome, RunOutcome::Returned(_)), "{outcome:?}");
        let notes = records(&runtime, "input.ignored").await;
        let notes: Vec<_> = notes.iter().map(|event| event.details.as_str()).collect();
        assert_eq!(notes, [told]);
        runtime.shutdown().await;
    }
}
