//! Tools as programs call them: what is decided, done and recorded.

use std::path::Path;

use symbiont_runtime::*;

use crate::support::{config, records, run, runtime, told};

/// The tools of the repository, and some that only these tests have.
fn tools() -> Tools {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools");
    for entry in std::fs::read_dir(shipped).expect("the tools") {
        let path = entry.expect("an entry").path();
        std::fs::copy(&path, directory.path().join(path.file_name().expect("a name")))
            .expect("it is copied");
    }
    let own = [
        ("say", "effect = \"non_repeatable\"", r#"["printf", "%s", "{text}"]"#),
        ("weigh", "effect = \"read\"\noutput = \"json\"", r#"["printf", "%s", "{text}"]"#),
        ("query", "effect = \"read\"\ncapability = \"Database\"", r#"["printf", "%s", "{text}"]"#),
        ("much", "effect = \"read\"\nmax_output = 10", r#"["printf", "%s", "{text}"]"#),
        ("fail", "effect = \"read\"", r#"["sh", "-c", "echo why >&2; exit 3", "{text}"]"#),
        ("wait", "effect = \"read\"\ntimeout = \"100ms\"", r#"["sleep", "60", "{text}"]"#),
        (
            "echo",
            "effect = \"read\"",
            r#"["cat"]
stdin = "{text}""#,
        ),
    ];
    for (name, keys, command) in own {
        let manifest = format!(
            "name = \"{name}\"\ndescription = \"A test's.\"\nrisk = \"high\"\n{keys}\n\
             [[parameters]]\nname = \"text\"\ntype = \"string\"\nmax_length = 20\ndefault = \"0\"\n\
             [exec]\ncommand = {command}\n[errors]\n3 = \"Refusal\"\n"
        );
        std::fs::write(directory.path().join(format!("{name}.toml")), manifest).expect("written");
    }
    let pay = "name = \"pay\"\ndescription = \"A test's.\"\nrisk = \"high\"\neffect = \"read\"\n\
        [[parameters]]\nname = \"amount\"\ntype = \"float\"\nrequired = false\n\
        [[parameters]]\nname = \"to\"\ntype = \"string\"\nrequired = false\n\
        [[parameters]]\nname = \"tags\"\ntype = \"array<string>\"\nrequired = false\n\
        [exec]\ncommand = [\"true\"]\n";
    std::fs::write(directory.path().join("pay.toml"), pay).expect("written");
    let folder = load_tools(directory.path()).expect("it can be read");
    assert!(folder.files.iter().all(|file| file.diagnostics.is_empty()), "{folder:?}");
    folder.tools
}

async fn with_tools() -> Runtime {
    runtime(|config| config.tools = tools()).await
}

/// What a body returns, or how it fails, under these items of an agent.
async fn outcome(runtime: &Runtime, items: &str, body: &str) -> String {
    let source = format!("agent test {{ {items} with {{ {body} }} }}");
    told(run(runtime, &source, "{}").await)
}

#[tokio::test]
async fn a_call_gives_what_its_command_says() {
    let runtime = with_tools().await;
    for (body, want) in [
        (r#"return say("a b; $(x)");"#, r#""a b; $(x)""#),
        (r#"return say(text = "x");"#, r#""x""#),
        (r#"return tool("say", { text: "x" });"#, r#""x""#),
        (r#"return tool("say", ["x"]);"#, r#""x""#),
        (r#"return [say(), tool("say")];"#, r#"["0","0"]"#),
        (r#"return weigh("{\"a\": [1]}").a;"#, "[1]"),
        (r#"return echo("line");"#, r#""line""#),
        (
            r#"return weigh("{");"#,
            "ParseError: `weigh` gave no JSON: EOF while parsing an object at line 1 column 1 [false]",
        ),
        (r#"return fail();"#, "Refusal: `fail` exited with 3: why [false]"),
        (r#"try { fail(); } catch (Refusal e) { return e.operation; }"#, r#""tool.call:fail""#),
        (r#"return much("12345678901");"#, "LimitExceeded: `much` gave more than 10 bytes [false]"),
        (r#"return wait();"#, "Timeout: `wait` had not ended after 100ms [true]"),
        (
            r#"return say("123456789012345678901");"#,
            "ToolArgumentError: `say` takes 0 to 20 characters as `text` [false]",
        ),
        (r#"return say(1);"#, "TypeError: `say` takes a string and no int as `text` [false]"),
        (
            r#"return say(txt = "x");"#,
            "TypeError: `say` has no parameter `txt`; did you mean `text`? [false]",
        ),
        (
            r#"return says("x");"#,
            "ToolNotFound: no tool `says` is known to this runtime, and the file has no function of \
             that name; did you mean `say`? [false]",
        ),
        (
            r#"return sha256_file("none");"#,
            "NotFound: `sha256_file` exited with 1: sha256sum: none: No such file or directory [false]",
        ),
    ] {
        assert_eq!(outcome(&runtime, "", body).await, want, "{body}");
    }
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_call_is_decided_by_its_name_and_its_arguments() {
    for (items, call, denied) in [
        ("policy p { allow: say(text) if text == \"x\" }", "say(\"x\");", ""),
        ("policy p { allow: say(text) if text == \"x\" }", "tool(\"say\", { text: \"x\" });", ""),
        ("policy p { allow: say(text) if text == \"x\" }", "say(\"y\");", "PolicyDenied"),
        ("policy p { allow: say(text) if text == \"0\" }", "say();", ""),
        ("policy p { allow: \"tool.call:say\" }", "say();", ""),
        ("policy p { allow: tools }", "say();", ""),
        ("policy p { allow: exec }", "say();", "PolicyDenied"),
        ("policy p { allow: any deny: \"sandbox.exec:printf\" }", "say();", "PolicyDenied"),
        (
            "policy p { allow: any deny: exec(c, args) if \"x\" in args }",
            "say(\"x\");",
            "PolicyDenied",
        ),
        ("policy p { allow: any deny: exec(c, args) if \"x\" in args }", "say(\"y\");", ""),
        // Numbers are exact, whatever they are compared with.
        ("policy p { allow: pay(a) if a <= 100 }", "pay(100.0);", ""),
        ("policy p { allow: pay(a) if a <= 100 }", "pay(100.00001);", "PolicyDenied"),
        ("policy p { allow: pay(a) if !(a > 100) }", "pay(100.00001);", "PolicyDenied"),
        ("policy p { allow: pay(a) if a * 2 <= 200 }", "pay(100.00001);", "PolicyDenied"),
        ("policy p { allow: pay(a) if a in [100.0] }", "pay(100.00001);", "PolicyDenied"),
        ("policy p { allow: pay(0.0) }", "pay(0.00001);", "PolicyDenied"),
        ("policy p { allow: any deny: pay(a) if a > 100.4 }", "pay(100.40001);", "PolicyDenied"),
        ("policy p { allow: any deny: pay(a) if a != 100 }", "pay(100.00001);", "PolicyDenied"),
        // What is left out can't be told.
        ("policy p { allow: pay(a, to) if to != \"bad\" }", "pay(1.0);", "PolicyDenied"),
        ("policy p { allow: pay(a, to) if to != \"bad\" }", "pay(to = null);", "PolicyDenied"),
        ("policy p { allow: pay(a, to) if to != \"bad\" }", "pay(to = \"x\");", ""),
        ("policy p { allow: pay(a, to) if to not in [\"a\"] }", "pay();", "PolicyDenied"),
        ("policy p { allow: pay(a, to) if !(to == \"bad\") }", "pay(tags = []);", "PolicyDenied"),
        ("policy p { allow: pay(amount = a) if a != 5.0 }", "pay(to = \"x\");", "PolicyDenied"),
        ("policy p { allow: pay(a) if a == null }", "pay();", "PolicyDenied"),
        ("policy p { allow: any deny: pay(a, to) if to == \"x\" }", "pay(1.0);", "PolicyDenied"),
        ("policy p { allow: any deny: pay(any, any, []) }", "pay(1.0);", "PolicyDenied"),
        ("policy p { allow: any deny: pay(any, any, []) }", "pay(tags = [\"a\"]);", ""),
        ("policy p { allow: pay(a, any) }", "pay();", ""),
        ("capabilities = [\"memory\"]", "say();", ""),
        ("capabilities = [\"memory\"]", "query();", "CapabilityDenied"),
        ("capabilities = [\"Database\"]", "query();", ""),
        ("capabilities = [\"query\"]", "query();", ""),
        ("", "query();", ""),
    ] {
        let runtime = with_tools().await;
        let shown = outcome(
            &runtime,
            items,
            &format!("try {{ {call} }} catch (e) {{ return e.kind; }} return \"made\";"),
        )
        .await;
        match denied {
            "" => assert_eq!(shown, "\"made\"", "{items} {call}"),
            kind => assert_eq!(shown, format!("{kind:?}"), "{items} {call}"),
        }
        runtime.shutdown().await;
    }
}

#[tokio::test]
async fn the_trail_names_the_tool_and_what_it_did() {
    let runtime = with_tools().await;
    let manifest = runtime_digest("say");
    outcome(&runtime, "policy p { allow: say }", "say(\"a b\"); try { say(5); } catch (e) {}")
        .await;
    let decisions = records(&runtime, "policy.decision").await;
    let decisions: Vec<_> =
        decisions.iter().filter(|event| event.metadata["operation"] == "tool.call:say").collect();
    // Arguments that don't fit are refused before anyone decides.
    assert_eq!(decisions.len(), 1, "{decisions:?}");
    let calls = records(&runtime, "tool.call").await;
    assert_eq!(calls.len(), 2, "{calls:?}");
    for event in decisions.into_iter().chain(&calls) {
        for (key, want) in [("tool", "say"), ("risk", "high"), ("manifest", &manifest)] {
            assert_eq!(event.metadata[key], want, "{event:?}");
        }
    }
    assert_eq!(calls[0].details, "say(text = a b)");
    assert_eq!(calls[0].metadata["does"], "printf %s 'a b'");
    assert_eq!(calls[1].details, "exit 0, 3 bytes");
    runtime.shutdown().await;
}

fn runtime_digest(name: &str) -> String {
    tools().get(name).expect("it is there").digest.clone()
}

#[tokio::test]
async fn its_effect_says_whether_a_call_may_be_repeated() {
    for (call, effects) in [("say()", true), ("echo()", false)] {
        let runtime = with_tools().await;
        let source = format!("agent test {{ with {{ return {call}; }} }}");
        let config = config("test", &source, ExecutionMode::Ephemeral);
        let (id, lifecycle) = (config.id, runtime.lifecycle());
        lifecycle.create_agent(config).await.expect("created");
        lifecycle.initialize_agent(id).await.expect("initialized");
        lifecycle.start_agent(id).await.expect("started");
        let report = lifecycle.settled(id).await.expect("there").expect("it has run");
        assert_eq!(report.effects, effects, "{call}: {report:?}");
        runtime.shutdown().await;
    }
}

#[tokio::test]
async fn the_shipped_agent_uses_the_shipped_tools() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../agents/fingerprints.symbi");
    let source = std::fs::read_to_string(path).expect("the agent");
    let runtime = with_tools().await;
    let config = config("fingerprints", &source, ExecutionMode::Ephemeral);
    let (id, lifecycle) = (config.id, runtime.lifecycle());
    lifecycle.create_agent(config).await.expect("created");
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("a.txt");
    std::fs::write(&file, "one\nchecksum = 2\n").expect("written");
    lifecycle.provide_file(id, file, "/workspace/a.txt".to_owned()).expect("it is a file");
    lifecycle.initialize_agent(id).await.expect("initialized");
    lifecycle.start_agent_with_input(id, r#"["a.txt", "b.txt"]"#).await.expect("started");
    let report = lifecycle.settled(id).await.expect("there").expect("it has run");
    let RunOutcome::Returned(json) = &report.outcome else { panic!("{report:?}") };
    let report: serde_json::Value = serde_json::from_str(json).expect("JSON");
    let sum = "aca4698dbea26eef607f31d89a7e3edf2ab15c6142d1ee74c4ecde1975b61794";
    assert_eq!(report["b.txt"], serde_json::Value::Null, "{json}");
    assert_eq!(report["a.txt"]["lines"], 2, "{json}");
    assert_eq!(report["a.txt"]["checksums"], 1, "{json}");
    assert_eq!(report["a.txt"]["bytes"], 17, "{json}");
    assert_eq!(report["a.txt"]["sha256"], sum, "{json}");
    runtime.shutdown().await;
}

#[test]
fn a_folder_that_is_none_is_told() {
    assert!(matches!(
        load_tools(Path::new("/nonexistent/tools")),
        Err(ConfigurationError::Io { .. })
    ));
}
