//! Host calls as policies and the trail see them: one form, however they are written.

use symbiont_runtime::*;

use crate::support::{config, records, run, runtime, started};

/// Runs `body` under the rules of a policy, beside an agent `b`; what it returns or fails with.
async fn under(rules: &str, body: &str) -> (Runtime, String) {
    let runtime = runtime(|_| {}).await;
    let to = started(&runtime, config("b", "agent b", ExecutionMode::EventDriven)).await;
    let body = body.replace("ID_OF_B", &to.to_string());
    let source = format!(
        "agent a {{ policy p {{ {rules} }} with {{ try {{ {body} }} catch (e) {{ return e.kind; }} return \"made\"; }} }}"
    );
    let outcome = run(&runtime, &source, "{}").await;
    (runtime, format!("{outcome:?}"))
}

/// Whether each spelling of a call is denied by the rules; a call that is not denied may fail in any
/// other way.
async fn check(rules: &str, denied: bool, spellings: &[&str]) {
    for body in spellings {
        let (runtime, outcome) = under(rules, body).await;
        assert_eq!(outcome.contains("PolicyDenied"), denied, "{rules}: {body}: {outcome}");
        assert!(!outcome.contains("TypeError"), "{rules}: {body}: {outcome}");
        runtime.shutdown().await;
    }
}

#[tokio::test]
async fn a_rule_holds_however_the_arguments_are_given() {
    let sends = [
        "send(\"b\", \"t\", 1);",
        "send(\"b\", 1);",
        "send(to = \"b\", topic = \"t\", payload = 1);",
        "send(payload = 1, to = \"ID_OF_B\");",
        "send(\"ID_OF_B\", \"t\", 1);",
    ];
    check("allow: any deny: \"message.send:b\"", true, &sends).await;
    check("allow: any deny: message.send(to) if to == \"b\"", true, &sends).await;
    check("allow: any deny: message.send(to = name) if name == \"b\"", true, &sends).await;
    check("allow: message.send(to, topic, payload) if payload == 1", false, &sends).await;
    let writes = [
        "memory.set(\"k\", 1);",
        "memory.set(value = 1, key = \"k\");",
        "memory_write(\"\", \"k\", 1);",
        "memory_write(key = \"k\", store = \"s\", value = 1);",
        "memory.remove(key = \"k\");",
    ];
    check("allow: any deny: memory.write(key) if key == \"k\"", true, &writes).await;
    check("allow: any deny: memory.write(key) if key == \"other\"", false, &writes).await;
    check(
        "allow: any deny: memory.read(key, value, store) if store == \"s\"",
        true,
        &[
            "memory.get(\"k\", store = \"s\");",
            "memory_search(\"s\", \"q\");",
            "memory.keys(store = \"s\");",
        ],
    )
    .await;
    let echoes = [
        "exec(\"echo\", [\"x\"]);",
        "exec(args = [\"x\"], command = \"echo\");",
        "exec(command = \"echo\", args = [\"x\"], timeout = 5000);",
        "exec(\"echo\", [\"x\"], { timeout: 5s });",
    ];
    check("allow: exec(command, args) if command == \"echo\" && \"x\" in args", false, &echoes)
        .await;
    check("allow: exec(command, args) if command == \"rm\"", true, &echoes).await;
    check("allow: exec deny: exec(args = given) if \"x\" in given", true, &echoes).await;
    let limited = ["exec(\"echo\", { timeout: 60s });", "exec(\"echo\", timeout = 60000);"];
    check("allow: exec(c, a, opts) if opts.timeout < 10s", true, &limited).await;
    check("allow: exec(c, a, opts) if opts.timeout <= 1m", false, &limited).await;
}

#[tokio::test]
async fn a_rule_about_a_file_holds_however_its_path_is_spelt() {
    let reads = [
        "fs.read(\"/workspace/secret\");",
        "fs.read(\"secret\");",
        "fs.read(\"./secret\");",
        "fs.read(\"/workspace//./secret\");",
        "fs.read(path = \"secret\");",
        "fs.list(\"secret/\");",
    ];
    for rule in [
        "fs.read(\"secret\")",
        "fs.read(\"/workspace/secret\")",
        "fs.read(path = \"./secret\")",
        "read(\"secret\")",
        "files(\"secret\")",
        "fs(\"/workspace//secret\")",
        "\"fs.*\"(\"secret\")",
        "any(\"secret\")",
        "fs.read(path) if path == \"secret\"",
        "fs.read(path) if path in [\"x\", \"/workspace/./secret\"]",
        "fs.read(path) if path.starts_with(\"./sec\")",
        "read(path) if path == \"secret\"",
    ] {
        check(&format!("allow: any deny: {rule}"), true, &reads).await;
        check(&format!("allow: {rule}"), false, &reads).await;
        check(&format!("allow: any deny: {rule}"), false, &["fs.read(\"other\");"]).await;
        check(&format!("allow: {rule}"), true, &["fs.read(\"other\");"]).await;
    }
    // A literal is equal or not; it is no glob.
    check("allow: fs.read(\"a*\")", true, &["fs.read(\"abc\");"]).await;
    check("allow: fs.read(\"a*\")", false, &["fs.read(\"a*\");"]).await;
    // What is written is text by the time that a rule sees it.
    let content = [
        "fs.write(\"x\", \"12\");",
        "fs.write(\"x\", 12);",
        "fs.write(content = 12, path = \"x\");",
    ];
    check("allow: any deny: fs.write(path, content) if content == \"12\"", true, &content).await;
}

#[tokio::test]
async fn conditions_may_ask_for_what_nobody_has() {
    let write = ["memory.set(\"k\", 1);"];
    check("allow: memory.write if user == null && recipient == null", false, &write).await;
    check("allow: memory.write if user != null", true, &write).await;
    check(
        "allow: memory.write if current_time.hour < 24 && current_time > 1000000000",
        false,
        &write,
    )
    .await;
}

#[tokio::test]
async fn conditions_may_compute() {
    let write = ["memory.set(\"k\", { a: 1 });"];
    check("allow: memory.write(key) if key.length < 5", false, &write).await;
    check("allow: memory.write(key) if key.length > 5", true, &write).await;
    check("allow: any deny: memory.write(key) if key.upper() == \"K\"", true, &write).await;
    check("allow: memory.write(key, value) if \"a\" in value", false, &write).await;
    check("allow: memory.write(key, value) if \"b\" in value", true, &write).await;
    check("allow: memory.write if now().year > 2000 && now() - 1h < now()", false, &write).await;
}

#[tokio::test]
async fn an_approval_among_other_requirements_is_demanded() {
    let (runtime, outcome) =
        under("allow: any require: [approval, encryption]", "memory.set(\"k\", 1);").await;
    assert!(outcome.contains("ApprovalDenied") || outcome.contains("PolicyDenied"), "{outcome}");
    runtime.shutdown().await;
}

#[tokio::test]
async fn an_argument_that_a_call_does_not_take_is_refused() {
    for (body, told) in [
        ("exec(\"true\", timout = 5s);", "no argument `timout`; did you mean `timeout`?"),
        ("exec(\"true\", [], { timout: 5s });", "no option `timout`; did you mean `timeout`?"),
        ("exec(\"true\", [], { timeout: 5s }, 1);", "takes 2 arguments (command, args)"),
        ("exec(\"true\", timeout = 5s, command = \"rm\");", "`command` twice"),
        ("memory.get(\"k\", 0);", "takes 1 argument (key)"),
        ("now(zone = \"x\");", "no argument by name"),
        ("send(\"b\", \"t\", payload = 1, ttl = 5);", "no argument `ttl`"),
    ] {
        let runtime = runtime(|_| {}).await;
        let outcome = run(&runtime, &format!("agent a {{ with {{ {body} }} }}"), "{}").await;
        let shown = format!("{outcome:?}");
        assert!(shown.contains("TypeError") && shown.contains(told), "{body}: {shown}");
        runtime.shutdown().await;
    }
}

/// Of whatever the checker says of a call of the host that it will fail with `TypeError`, it does.
#[tokio::test]
async fn what_is_told_of_calls_comes_true() {
    const VALUES: [&str; 11] = [
        "1",
        "1.5",
        "\"b\"",
        "true",
        "[1]",
        "{ a: 1 }",
        "5s",
        "1KB",
        "now()",
        "None",
        "[\"b\"].first()",
    ];
    let mut calls = Vec::new();
    for call in symbiont_dsl::operations::host_calls() {
        calls.push(format!("{call}()"));
        for value in VALUES {
            calls.push(format!("{call}({value})"));
            calls.push(format!("{call}(\"b\", {value})"));
            calls.push(format!("{call}({value}, \"b\", 1)"));
            for option in symbiont_dsl::operations::options(call) {
                calls.push(format!("{call}(\"b\", {{ {option}: {value} }})"));
                calls.push(format!("{call}(\"b\", {option} = {value})"));
            }
            for (_, parameter) in symbiont_dsl::operations::slots(call) {
                calls.push(format!("{call}({parameter} = {value})"));
            }
        }
    }
    calls.retain(|call| {
        let checked = symbiont_dsl::definition::check(&format!("agent a {{ with {{ {call}; }} }}"));
        checked.diagnostics.iter().any(|found| found.code == "W0313")
    });
    assert!(calls.len() > 500, "{}", calls.len());
    let mut wrong = Vec::new();
    for some in calls.chunks(200) {
        let runtime = runtime(|_| {}).await;
        started(&runtime, config("b", "agent b", ExecutionMode::EventDriven)).await;
        let tries: String = (some.iter().map(|call| {
            let kind = "out.push(e.kind);";
            format!("try {{ {call}; out.push(\"made\"); }} catch (e) {{ {kind} }}\n")
        }))
        .collect();
        let source = format!("agent a {{ with {{ let out = [];\n{tries}return out; }} }}");
        let RunOutcome::Returned(kinds) = run(&runtime, &source, "{}").await else {
            panic!("{some:?}");
        };
        let kinds = kinds.trim_matches(['[', ']']).split(',');
        let pairs = some.iter().zip(kinds).filter(|(_, kind)| *kind != "\"TypeError\"");
        wrong.extend(pairs.map(|(call, kind)| format!("{call} gives {kind}")));
        runtime.shutdown().await;
    }
    assert_eq!(wrong, [] as [String; 0]);
}

#[tokio::test]
async fn the_trail_shows_arguments_that_were_given_by_name() {
    let runtime = runtime(|_| {}).await;
    let source = "agent a { with {
        memory.set(value = 41, key = \"answer\");
        log(message = \"hello\", level = \"WARN\");
        log(\"alone\");
        emit(value = 7, name = \"metric\");
        checkpoint(name = \"half\", value = 8);
        print(\"p\", 9, by = \"n\");
    } }";
    let outcome = run(&runtime, source, "{}").await;
    assert!(matches!(outcome, RunOutcome::Returned(_)), "{outcome:?}");
    let mut shown = Vec::new();
    for kind in ["memory.write", "log", "emit", "checkpoint", "print"] {
        for event in records(&runtime, kind).await {
            shown.push(format!("{kind}: {}", event.details));
        }
    }
    assert_eq!(
        shown,
        [
            "memory.write: memory.set(answer, 41)",
            "memory.write: 2 bytes",
            "log: hello",
            "log: alone",
            "emit: metric 7",
            "checkpoint: 8 half",
            "print: p 9 by = n",
        ]
    );
    runtime.shutdown().await;
}

#[tokio::test]
async fn an_error_says_what_is_wrong_with_a_file_or_a_tier() {
    for (with, body, kind, told) in [
        ("", "fs.read(\"nope\");", "NotFound", "there is no `/workspace/nope`"),
        ("", "fs.list(\"nope/x\");", "NotFound", "there is no `/workspace/nope/x`"),
        ("", "fs.read(\"/etc/passwd\");", "SandboxError", "`/etc/passwd` can't be used"),
        ("", "fs.read(\"../x\");", "SandboxError", "can't be used"),
        ("sandbox = \"e2b\"", "exec(\"id\");", "TierUnavailable", "`e2b` is not available"),
    ] {
        let runtime = runtime(|_| {}).await;
        let outcome = run(&runtime, &format!("agent a {{ with {with} {{ {body} }} }}"), "{}").await;
        let RunOutcome::Failed(failure) = &outcome else { panic!("{body}: {outcome:?}") };
        assert_eq!(failure.kind, kind, "{body}: {failure:?}");
        assert!(failure.message.contains(told), "{body}: {failure:?}");
        runtime.shutdown().await;
    }
}

#[tokio::test]
async fn a_declared_memory_can_be_handed_on() {
    let runtime = runtime(|_| {}).await;
    let source = "memory n {}
        function keep(store, key, value) { store.set(key, value); }
        agent a { with {
            let m = n;
            keep(m, \"x\", 1);
            m.set(\"y\", 2);
            m.remove(\"y\");
            return [n.get(\"x\"), m.keys(), memory.get(\"x\"), memory_search(n, \"x\").len()];
        } }";
    let outcome = run(&runtime, source, "{}").await;
    let RunOutcome::Returned(json) = &outcome else { panic!("{outcome:?}") };
    assert_eq!(&**json, r#"[1,["x"],null,1]"#);
    runtime.shutdown().await;
}

/// What shares its parts is much more written out than it is: forty arrays are a million million values.
#[tokio::test]
async fn arguments_that_share_their_parts_are_refused_before_anybody_looks_at_them() {
    let shared = "let s = []; let n = 0; while n < 40 { s = [s, s]; n += 1 } \
        let t = \"x\"; n = 0; while n < 23 { t = t + t; n += 1 } let many = [t, t, t, t, t];";
    for rules in ["allow: any", "allow: any deny: memory.write(k, v) if v.x == 1", "deny: any"] {
        for call in [
            "memory.set(\"k\", s);",
            "memory.set(\"k\", many);",
            "memory_write(\"\", \"k\", { x: s });",
            "send(\"b\", \"t\", s);",
            "exec(\"echo\", s);",
            "exec(\"cat\", [], { stdin: s });",
            "fs.write(\"f\", s);",
            "http.post(\"http://a.test/\", { body: s });",
            "delegate(\"b\", s);",
            "tool(\"x\", s);",
            "unknown(s);",
            "unknown(a = s);",
            "unknown(range(0, 1000000000));",
            "emit(\"e\", s);",
            "checkpoint(s);",
            "log(s);",
        ] {
            let (runtime, outcome) = under(rules, &format!("{shared} {call}")).await;
            assert!(outcome.contains("LimitExceeded"), "{rules}: {call}: {outcome}");
            runtime.shutdown().await;
        }
    }
}
