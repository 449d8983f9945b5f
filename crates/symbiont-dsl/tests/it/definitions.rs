//! What the runtime learns of an agent, and how inputs fit its parameters.

use std::time::Duration;

use serde_json::{Value, json};
use symbiont_dsl::definition::{Attributes, MemoryMode, SourceKind, bind_input, check, classify};
use symbiont_dsl::value as language;
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
                memory: "session", concurrency = 4, model = small { return x + y; }
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
            memory: Some(MemoryMode::Session),
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
        ("1.5.seconds", 1_500),
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

/// Binds `input` to the parameters; `want` is the values and what is not used, or the refusal.
#[track_caller]
fn bound(params: &str, input: Value, want: &str) {
    let source = format!(
        "agent a({params}) {{}}
         type Point = {{ x: int, y: Option<int> }} type Points = Array<Point> type Perhaps = Maybe<int>
         type Round = Option<Round>"
    );
    let program = check(&source).program.unwrap();
    let got = match bind_input(&program.hir, &program.hir.agents[0], &input) {
        Ok(bound) => {
            let mut words: Vec<String> = bound
                .values
                .iter()
                .map(|(name, value)| match value {
                    language::Value::String(text) => format!("{name}={:?}", text.as_str()),
                    value => format!("{name}={value}"),
                })
                .collect();
            words.extend(bound.unused);
            words.join(" ")
        }
        Err(refusal) => refusal,
    };
    assert_eq!(got, want, "{params} <- {input}");
}

#[test]
fn inputs_fit_parameters() {
    bound(
        "x, y: int",
        json!({ "x": 1, "y": 2, "z": 3 }),
        "x=1 y=2 the input has keys that no parameter takes: z",
    );
    bound("x", json!({ "x": 1 }), "x=1");
    bound("x", json!({ "z": 1 }), r#"x={"z":1}"#);
    bound("x", json!(5), "x=5");
    bound("x: String", json!("text"), r#"x="text""#);
    bound("x: Option<int>", json!({}), "x=None");
    bound("x: Perhaps", json!({}), "x=None");
    bound("x: Option<int>", Value::Null, "x=None");
    bound("x: Option<int>", json!({ "x": null }), "x=None");
    bound("x: Option<int>", json!(7), "x=Some(7)");
    bound(
        "x: Option<int>",
        json!({ "z": 1 }),
        "x=None the input has keys that no parameter takes: z",
    );
    bound("x: Map<String, int>", Value::Null, "x={}");
    bound("", json!({ "x": 1 }), "the input has keys that no parameter takes: x");
    bound("", json!(5), "the agent has no parameters, and was given the number 5");
    bound("", Value::Null, "");
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
        "count: int",
        json!({ "cuont": 1 }),
        "agent `a` needs the parameter `count`, which the input does not give; the input has `cuont`",
    );
    bound(
        "x, y",
        json!([1]),
        "agent `a` has 2 parameters: the input must be an object with their names",
    );
}

#[test]
fn inputs_have_the_types_that_are_written() {
    let takes = |what: &str, came: &str| {
        format!("agent `a` takes {what} as `x`, and the input gives {came}")
    };
    for (ty, input, want) in [
        ("int", json!(5), "x=5"),
        ("int", json!(5.5), &*takes("an int", "the number 5.5")),
        ("int", json!("5"), &takes("an int", "the string \"5\"")),
        ("int", json!(u64::MAX), &takes("an int", "the number 18446744073709551615")),
        ("float", json!(5), "x=5.0"),
        ("float", json!(0.5), "x=0.5"),
        ("bool", json!(true), "x=true"),
        ("bool", json!(1), &takes("a bool", "the number 1")),
        ("String", json!(1), &takes("a string", "the number 1")),
        ("String", json!(null), &takes("a string", "null")),
        ("duration", json!("30s"), "x=PT30S"),
        ("duration", json!("2 hours"), "x=PT2H"),
        ("duration", json!("P1DT2H0.5S"), "x=P1DT2H0.5S"),
        ("duration", json!("P1M"), "x=P30D"),
        ("duration", json!(1500), "x=PT1.5S"),
        (
            "duration",
            json!("soon"),
            &takes(
                "a duration (such as \"30s\" or \"PT30S\", or a number of milliseconds)",
                "the string \"soon\"",
            ),
        ),
        ("duration", json!("-PT5S"), "! duration"),
        ("size", json!("2KiB"), "x=2048"),
        ("size", json!(12), "x=12"),
        ("time", json!("2023-11-14T22:13:20Z"), "x=2023-11-14T22:13:20Z"),
        ("time", json!("yesterday"), "! time"),
        ("bytes", json!("aGkh"), r#"x="aGkh""#),
        ("Array<int>", json!([1, 2]), "x=[1,2]"),
        ("Array<int>", json!([1, "b"]), "! an int as `x[1]`, and the input gives the string \"b\""),
        ("Array<duration>", json!(["5s"]), r#"x=["PT5S"]"#),
        ("Array<String>", json!("a"), &takes("an array", "the string \"a\"")),
        ("Map<String, duration>", json!({ "a": "5s" }), r#"x={"a":"PT5S"}"#),
        ("Point", json!({ "x": 1, "y": 2 }), "! a record as `x`, and the input gives the number 1"),
        ("any", json!([1, null]), "x=[1,null]"),
        ("Widget", json!("w"), r#"x="w""#),
        ("Round", json!(1), "! nested"),
        ("Result<int>", json!(1), "x=1"),
    ] {
        let input = match input {
            // Of a lone parameter the whole input may be the value, or an object with its key.
            Value::Null => json!({ "x": null }),
            other => other,
        };
        match want.strip_prefix("! ") {
            None => bound(&format!("x: {ty}"), input, want),
            Some(part) => {
                let program = check(&format!(
                    "agent a(x: {ty}) {{}} type Point = {{ x: int }} type Round = Option<Round>"
                ));
                let program = program.program.unwrap();
                let refusal = bind_input(&program.hir, &program.hir.agents[0], &input).unwrap_err();
                assert!(refusal.contains(part), "{ty} <- {input}: {refusal}");
            }
        }
    }
    bound("p: Point", json!({ "x": 1 }), r#"p={"x":1,"y":null}"#);
    bound("p: Point", json!({ "x": 1, "y": 2, "z": 3 }), r#"p={"x":1,"y":2,"z":3}"#);
    bound(
        "p: Point",
        json!({ "x": "1" }),
        "agent `a` takes an int as `p.x`, and the input gives the string \"1\"",
    );
    bound(
        "ps: Points, n: Option<int>",
        json!({ "ps": [{ "x": 1 }, { "y": 1 }] }),
        "agent `a` takes an int as `ps[1].x`, and the input gives nothing",
    );
}

/// Whatever checks can also be initialized.
#[test]
fn what_cannot_be_compiled_is_a_diagnostic() {
    for (body, told) in [
        ("let m = memory; return m;", "E0209 `memory` is no value"),
        ("let f = exec; return f;", "E0209 `exec` is no value"),
        ("return fs;", "E0209 `fs` is no value"),
        (
            &format!("return max({}1);", "1, ".repeat(70_000)),
            "E0209 a call has more than 65534 arguments",
        ),
    ] {
        let source = format!("agent a {{ with {{ {body} }} }}");
        let checked = check(&source);
        let shown: Vec<String> =
            checked.diagnostics.iter().map(|d| format!("{} {}", d.code, d.message)).collect();
        assert!(checked.program.is_none(), "{body:.60}");
        assert!(shown.iter().any(|shown| shown.starts_with(told)), "{body:.60}: {shown:?}");
    }
}
