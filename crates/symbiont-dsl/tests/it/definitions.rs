//! What the runtime learns of an agent, and how inputs fit its parameters.

use std::time::Duration;

use serde_json::{Value, json};
use symbiont_dsl::definition::{Attributes, MemoryMode, SourceKind, bind_input, check, classify};
use symbiont_types::SecurityTier;

#[test]
fn texts_are_programs_or_instructions() {
    for (source, want) in [
        ("agent logic", SourceKind::Program),
        ("  // comment\n# another\n/* and */ metadata {}", SourceKind::Program),
        ("agnet foo {", SourceKind::Program),
        ("agnet foo(x)", SourceKind::Program),
        ("metdata {", SourceKind::Program),
        ("policy", SourceKind::Program),
        ("Summarise the text.", SourceKind::Instruction),
        ("summarise this text", SourceKind::Instruction),
        ("{ }", SourceKind::Instruction),
        ("12 monkeys", SourceKind::Instruction),
        ("@@", SourceKind::Instruction),
        ("\"quoted\"", SourceKind::Instruction),
        ("", SourceKind::Empty),
        (" \n// nothing\n", SourceKind::Empty),
    ] {
        assert_eq!(classify(source), want, "{source:?}");
    }
}

#[test]
fn attributes_are_read() {
    let checked = check(
        r#"agent a(x: Option<int>, y) {
            capabilities = [fs.read, "exec", http]
            policy own { allow: exec }
            use policy shared
            on message(topic, payload) { print(topic) }
            on start {}
            with sandbox = GVisor, timeout = "30.seconds", max_memory_mb = 256, max_cpu_cores = 1.5,
                memory: "encrypted", concurrency = 4, model = small { return x + y; }
        }
        policy shared { deny: network_access(any) }"#,
    );
    let program = checked.program.unwrap();
    let agent = &program.agents[0];
    assert_eq!(
        agent.attributes,
        Attributes {
            tier: Some(SecurityTier::Tier2),
            timeout: Some(Duration::from_secs(30)),
            max_memory_mb: Some(256),
            max_cpu_cores: Some(1.5),
            memory: Some(MemoryMode::Encrypted),
            concurrency: Some(4),
            model: Some("small".to_owned()),
            ..Attributes::default()
        }
    );
    assert_eq!(agent.capabilities.as_deref().unwrap(), ["fs.read", "exec", "http"]);
    assert_eq!(
        agent.policies.iter().map(|policy| &policy.id).collect::<Vec<_>>(),
        ["own", "shared"]
    );
    assert!(
        agent.has_behaviour && agent.has_on_message && agent.has_on_start && !agent.has_on_stop
    );
    assert_eq!(agent.params.iter().map(|param| param.optional).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn timeouts_are_written_in_many_ways() {
    for (written, want) in [
        ("5000", 5_000),
        ("\"5000\"", 5_000),
        ("5s", 5_000),
        ("\"5s\"", 5_000),
        ("30.seconds", 30_000),
        ("\"30.seconds\"", 30_000),
        ("250ms", 250),
        ("1.5h", 5_400_000),
        ("1d", 86_400_000),
        ("\"2 minutes\"", 120_000),
    ] {
        let checked = check(&format!("agent a {{ with timeout = {written} {{}} }}"));
        let timeout = checked.program.unwrap().agents[0].attributes.timeout.unwrap();
        assert_eq!(timeout, Duration::from_millis(want), "{written}");
    }
}

/// Binds `input` to the parameters; `want` is the values and the ignored keys, or the refusal.
#[track_caller]
fn bound(params: &str, input: Value, want: &str) {
    let program = check(&format!("agent a({params}) {{}}")).program.unwrap();
    let got = match bind_input(&program.hir.agents[0], &input) {
        Ok(bound) => {
            let mut words: Vec<String> = bound
                .values
                .iter()
                .map(|(name, value)| match value {
                    Some(value) => format!("{name}={value}"),
                    None => format!("{name}=None"),
                })
                .collect();
            words.extend(bound.ignored.iter().map(|key| format!("-{key}")));
            words.join(" ")
        }
        Err(refusal) => refusal,
    };
    assert_eq!(got, want);
}

#[test]
fn inputs_fit_parameters() {
    bound("x, y: int", json!({ "x": 1, "y": 2, "z": 3 }), "x=1 y=2 -z");
    bound("x", json!({ "x": 1 }), "x=1");
    bound("x", json!({ "z": 1 }), r#"x={"z":1}"#);
    bound("x", json!(5), "x=5");
    bound("x: String", json!("text"), r#"x="text""#);
    bound("x: Option<int>", json!({}), "x=None");
    bound("x: Option<int>", Value::Null, "x=None");
    bound("x: Option<int>", json!({ "x": null }), "x=None");
    bound("x: Map<String, int>", Value::Null, "x={}");
    bound("", json!({ "x": 1 }), "-x");
    bound("", json!(5), "");
    bound(
        "x: String",
        Value::Null,
        "agent `a` needs the parameter `x`, which the input does not give",
    );
    bound(
        "count, y: Option<int>",
        json!({ "cuont": 1 }),
        "agent `a` needs the parameter `count`, which the input does not give; the input has `cuont`",
    );
    bound(
        "x, y",
        json!([1]),
        "agent `a` has 2 parameters: the input must be an object with their names",
    );
}
