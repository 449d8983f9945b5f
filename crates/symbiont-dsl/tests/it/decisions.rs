//! What the engine decides over compiled policy blocks, next to what the page of the language says.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use symbiont_dsl::definition::check;
use symbiont_dsl::formula::fact;
use symbiont_dsl::machine::{Entry, HostCall};
use symbiont_dsl::operations::{self, Arguments};
use symbiont_policy::{PolicySet, Profile, Request, decide};
use symbiont_types::{AgentId, Condition, PolicyEffect, PolicyValue, SecurityTier};

use super::world::World;

/// The arguments of a call as policies see them.
struct Facts(Vec<Option<PolicyValue>>, BTreeMap<String, PolicyValue>);

impl Arguments for Facts {
    fn slot(&self, index: usize) -> Option<std::borrow::Cow<'_, str>> {
        self.0.get(index)?.as_ref().map(text_of)
    }

    fn option(&self, name: &str) -> Option<std::borrow::Cow<'_, str>> {
        self.1.get(name).map(text_of)
    }
}

fn text_of(value: &PolicyValue) -> std::borrow::Cow<'_, str> {
    match value {
        PolicyValue::String(text) => text.into(),
        PolicyValue::Int(number) => number.to_string().into(),
        other => panic!("no text: {other:?}"),
    }
}

fn facts(call: &HostCall) -> Facts {
    let mut args: Vec<PolicyValue> = call.args.iter().map(fact).collect();
    if call.name.starts_with("fs.")
        && let Some(PolicyValue::String(path)) = args.first_mut()
    {
        *path = operations::absolute(path);
    }
    let mut named: BTreeMap<String, PolicyValue> =
        call.named.iter().map(|(name, value)| (name.to_string(), fact(value))).collect();
    if let Some(PolicyValue::Record(options)) = args.get(operations::options_slot(&call.name)) {
        named.extend(options.clone());
    }
    let slots = operations::slots(&call.name);
    named.extend(slots.filter_map(|(at, name)| Some((name.to_owned(), args.get(at)?.clone()))));
    Facts(args.into_iter().map(Some).collect(), named)
}

/// What the engine decides of the first call that an agent under the policy makes: the verdict for
/// each of its operations, and the rule that decided.
fn decided(policy: &str, call: &str) -> Vec<(&'static str, Option<String>)> {
    let source = format!("agent scribe {{ policy p {{ {policy} }} with {{ {call} }} }}");
    let checked = check(&source);
    let program = checked.program.unwrap_or_else(|| panic!("{source}\n{:?}", checked.diagnostics));
    let code = symbiont_dsl::machine::compile(&program.hir, 0).expect("it compiles");
    let mut world = World::new();
    // What becomes of the call does not matter.
    let _ = world.run(Arc::new(code), Entry::With, vec![], vec![]);
    let (call, _) = world.log.first().unwrap_or_else(|| panic!("{source} makes no call"));
    let facts = facts(&operations::canonical(call).unwrap_or_else(|_| call.clone()));
    let operation = operations::operation(&call.name, &facts);
    let own = PolicySet::compile(&program.agents[0].policies).expect("the policy compiles");
    let global = PolicySet::compile(&[]).expect("nothing compiles");
    let nothing = HashMap::new();
    let ambient = BTreeMap::from([
        (
            "user".to_owned(),
            PolicyValue::Record(
                [("role".to_owned(), PolicyValue::String("releaser".into()))].into(),
            ),
        ),
        ("context".to_owned(), PolicyValue::Null),
    ]);
    let decide_one = |name: &String| {
        let request = Request {
            agent_id: "00000000-0000-0000-0000-000000000001".parse::<AgentId>().expect("an id"),
            agent_name: "scribe",
            agent_metadata: &nothing,
            tier: SecurityTier::Tier1,
            operation: name,
            arguments: &facts.0,
            named: &facts.1,
            limits: None,
            metadata: &nothing,
            ambient: &ambient,
            // Tuesday, the 14th of November 2023, 22:13:20.
            now_unix: 1_700_000_000,
        };
        let decision = decide(&global, Some(&own), Profile::Dev, &request);
        let verdict = match &decision.effect {
            Some(PolicyEffect::Allow) => "allow",
            Some(PolicyEffect::RequireApproval { .. }) => "approval",
            _ => "deny",
        };
        let rule = decision.matched_rules.first().and_then(|rule| rule.strip_prefix("p/"));
        (verdict, rule.map(str::to_owned))
    };
    operation.names.iter().map(decide_one).collect()
}

/// A table: under the policy, each call is decided as said: `allow`, `deny` or `approval`, and by
/// which rule, if any.
#[track_caller]
fn table(policy: &str, cases: &[(&str, &str)]) {
    for (call, want) in cases {
        let got: Vec<String> = decided(policy, call)
            .into_iter()
            .map(|(verdict, rule)| match rule {
                Some(rule) => format!("{verdict} {rule}"),
                None => verdict.to_owned(),
            })
            .collect();
        assert_eq!(got.join(", "), *want, "{call} under {policy}");
    }
}

#[test]
fn names_are_bound_by_position_and_literals_have_to_be_equal() {
    table(
        r#"allow: read_logs(service, count) if service == "web" && count < 10
           allow: pay("EUR", amount) if amount <= 5
           allow: move(_, any, to) if to in ["x", "y"]"#,
        &[
            ("read_logs(\"web\", 5)", "allow allow-1"),
            ("read_logs(\"db\", 5)", "deny"),
            ("read_logs(\"web\", 10)", "deny"),
            ("read_logs(\"web\")", "deny"),
            ("pay(\"EUR\", 5)", "allow allow-2"),
            ("pay(\"USD\", 5)", "deny"),
            ("pay(\"EUR\", \"five\")", "deny"),
            ("pay(\"EUR\", 5.00001)", "deny"),
            ("pay(\"EUR\", 4.99999)", "allow allow-2"),
            ("move(1, 2, \"x\")", "allow allow-3"),
            ("move(1, 2, \"z\")", "deny"),
            ("other()", "deny"),
        ],
    );
}

#[test]
fn an_operation_covers_what_stands_behind_its_colon() {
    table(
        r#"allow: fs.read, allow: "fs.write:/workspace/out/*", deny: "fs.read:/etc/*", deny: fs.read("secret.txt")"#,
        &[
            ("fs.read(\"a\")", "allow allow-1"),
            ("fs.read(\"/a\")", "allow allow-1"),
            ("fs.read(\"/etc/passwd\")", "deny deny-3"),
            ("fs.read(\"./secret.txt\")", "deny deny-4"),
            ("fs.read(\"//workspace//secret.txt\")", "deny deny-4"),
            ("fs.list(\"/\")", "allow allow-1"),
            ("fs.write(\"out/a\", 1)", "allow allow-2"),
            ("fs.write(\"a\", 1)", "deny"),
        ],
    );
}

/// However an operation is spelled in a rule, and whatever of it is left out.
#[test]
fn a_rule_speaks_of_an_operation_as_people_write_it() {
    for (rule, calls) in [
        (
            "\"http.GET\"",
            &["http.get(\"http://x.org/\")", "http.request(\"get\", \"http://x.org/\")"][..],
        ),
        ("\"http.GET:http://X.org/a*\"", &["http.get(\"http://x.org/ab\")"]),
        (
            "\"net.connect:X.org\"",
            &["http.get(\"http://x.org/\")", "http.put(\"https://x.org:8443/\")"],
        ),
        ("\"net.connect:*.x.org\"", &["http.get(\"http://a.x.org/\")"]),
        (
            "\"sandbox.exec:rm\"",
            &["exec(\"rm\")", "exec(\"/bin/rm\")", "exec(\"/bin//rm\")", "exec(\"../bin/rm\")"],
        ),
        (
            "exec(\"rm\")",
            &["exec(\"rm\")", "exec(\"/bin/rm\")", "exec(\"./rm\")", "exec(\"rm\", [\"x\"])"],
        ),
        ("exec(command = \"rm\")", &["exec(command = \"/bin/rm\")"]),
        ("\"exec:rm\"", &["exec(\"/usr/bin/rm\")"]),
        ("\"sandbox.exec:/bin/rm\"", &["exec(\"/bin//rm\")", "exec(\"/bin/./rm\")"]),
        (
            "\"fs.read:secret.txt\"",
            &["fs.read(\"secret.txt\")", "fs.read(\"/workspace//secret.txt\")"],
        ),
        ("\"fs.list:/etc//x\"", &["fs.read(\"/etc/x\")"]),
    ] {
        // A call over HTTP is a connection, and then a request.
        let want = match rule {
            _ if rule.contains("http") => "allow allow-1, deny deny-2",
            _ if rule.contains("connect") => "deny deny-2, allow allow-1",
            _ => "deny deny-2",
        };
        let denied: Vec<_> = calls.iter().map(|call| (*call, want)).collect();
        table(&format!("allow: any, deny: {rule}"), &denied);
    }
    // What is allowed by its name alone is that name.
    table(
        r#"allow: "sandbox.exec:wc", allow: exec("ls")"#,
        &[
            ("exec(\"wc\")", "allow allow-1"),
            ("exec(\"./wc\")", "deny"),
            ("exec(\"ls\")", "allow allow-2"),
            ("exec(\"/tmp/ls\")", "deny"),
        ],
    );
    // What nobody has narrows nothing.
    table(
        r#"allow: any, require: approval("fs.delete:/x")"#,
        &[("fs.write(\"/x\", 1)", "approval require-2")],
    );
}

#[test]
fn deny_beats_approval_beats_allow() {
    table(
        r#"allow: exec
           require: approval(exec) if metadata.stage == null || true
           deny: exec(command) if command == "rm""#,
        &[
            ("exec(\"ls\")", "approval require-2"),
            ("exec(\"rm\")", "deny deny-3"),
            ("fs.read(\"a\")", "deny"),
        ],
    );
    table("require: approval(exec), allow: exec", &[("exec(\"ls\")", "approval require-1")]);
    // Who approves is no operation, and narrows nothing.
    for demand in
        ["approval(\"manager\")", "approval(\"manager\", ttl: 5m)", "approval(\"exec\", \"lead\")"]
    {
        table(
            &format!("allow: exec, require: {demand}"),
            &[("exec(\"ls\")", "approval require-2")],
        );
    }
    table("allow: exec, require: { approval: false }", &[("exec(\"ls\")", "allow allow-1")]);
}

#[test]
fn what_cannot_be_expressed_fails_closed() {
    table("allow: read(x) if lookup(x) == 1", &[("read(1)", "deny")]);
    table("allow: read, deny: read(x) if lookup(x) == 1", &[("read(1)", "deny deny-2")]);
    table(
        "allow: read, require: { approval: true, operations: [\"tool.call:read\"] } if lookup(1)",
        &[("read(1)", "approval require-2")],
    );
    // Even beside what holds, or fails to.
    table("allow: read(x) if lookup(x) == 1 || true", &[("read(1)", "deny")]);
    table("allow: read, deny: read(x) if lookup(x) == 1 && false", &[("read(1)", "deny deny-2")]);
    // What is not there compares with nothing.
    table("allow: read, deny: read(a, b) if b == 1", &[("read(1)", "deny deny-2")]);
}

#[test]
fn a_key_is_in_a_record() {
    table(
        r#"allow: a(opts) if "k" in opts
           allow: b(opts) if "k" not in opts
           allow: c(opts) if opts.contains("k")
           allow: d(opts, key) if key in opts
           allow: e(key) if key in { k: 1, "l m": 2 }
           allow: f if "role" in user && "name" not in user
           allow: g, deny: g(opts) if "k" in opts
           allow: h(key) if key in zip(["k", "l"], [1, 2])"#,
        &[
            ("a({ k: null })", "allow allow-1"),
            ("a({ l: 1 })", "deny"),
            ("a({})", "deny"),
            ("a([\"k\"])", "allow allow-1"),
            ("a(\"a key\")", "allow allow-1"),
            ("a(7)", "deny"),
            ("b({ l: 1 })", "allow allow-2"),
            ("b({ k: 1 })", "deny"),
            ("b(7)", "deny"),
            ("c({ k: 1 })", "allow allow-3"),
            ("c({ l: 1 })", "deny"),
            ("d({ k: 1 }, \"k\")", "allow allow-4"),
            ("d({ k: 1 }, \"l\")", "deny"),
            ("d({ k: 1 }, 1)", "deny"),
            ("d([1, 2], 2)", "allow allow-4"),
            ("e(\"l m\")", "allow allow-5"),
            ("e(\"m\")", "deny"),
            ("f()", "allow allow-6"),
            ("g({ k: 1 })", "deny deny-8"),
            ("g({ l: 1 })", "allow allow-7"),
            ("g(7)", "deny deny-8"),
            ("h([\"k\", 1])", "allow allow-9"),
            ("h([\"k\", 2])", "deny"),
        ],
    );
}

/// What a condition computes is computed as a program would.
#[test]
fn conditions_compute() {
    for (condition, yes, no) in [
        ("x.is_empty()", "\"\"", "\"a\""),
        ("x.is_empty", "[]", "[1]"),
        ("len(x) < 3", "[1, 2]", "[1, 2, 3]"),
        ("x.length >= 2", "\"äö\"", "\"ä\""),
        ("x.len() == 1", "{ k: 1 }", "{}"),
        ("length(x) in [1, 2]", "[1]", "[]"),
        ("x.lower() == \"rm\"", "\"RM\"", "\"rmdir\""),
        ("x.upper() == \"É\"", "\"é\"", "\"e\""),
        ("x.trim().starts_with(\"a\")", "\"  ab\"", "\" ba\""),
        ("x.starts_with(\"a*\")", "\"a*b\"", "\"ab\""),
        ("x.ends_with(\"*\\\"\")", "\"a*\\\"\"", "\"ab\""),
        ("regex_match(x, \"^v[0-9]+$\")", "\"v12\"", "\"v\""),
        ("x.contains_pattern(\"b+\")", "\"abb\"", "\"a\""),
        ("\"b\" in x.split(\",\")", "\"a,b\"", "\"ab\""),
        ("x.replace(\"-\", \"\") == \"ab\"", "\"a-b\"", "\"a.b\""),
        ("x.split(\"@\").last == Some(\"a.example\")", "\"me@a.example\"", "\"me@b\""),
        ("x in range(1024, 1000000)", "8080", "80"),
        ("x not in range(0, 1024)", "8080", "80"),
        ("range(1024, 1000000).contains(x)", "65535", "1023"),
        ("x[-1] == 3", "[1, 3]", "[3, 1]"),
        ("x % 2 == 0 && x * 10 < 100", "8", "10"),
        ("x + 1 > 2", "2", "1"),
        ("x in range(1, 4)", "3", "4"),
        ("max(x, 2) == 2", "1", "3"),
        ("abs(x) <= 1", "-1", "-2"),
        ("parse_json(x).role == \"admin\"", "\"{\\\"role\\\": \\\"admin\\\"}\"", "\"{}\""),
        ("format(\"{}-{}\", x, user.role) == \"1-releaser\"", "1", "2"),
        ("x.keys() == [\"a\"]", "{ a: 1 }", "{ b: 1 }"),
        ("sum(x) < 10", "[4, 5]", "[4, 6]"),
        ("type_of(x) == \"int\"", "1", "1.0"),
        ("x < \"2.0\"", "\"1.9\"", "\"2.1\""),
        // Tuesday, 22:13:20.
        ("now().hour == x", "22", "21"),
        ("now().minute == x && current_time.minute == x", "13", "14"),
        ("current_time.year == x", "2023", "2024"),
        ("now().unix - x < 1h", "1699999000", "1699990000"),
        ("time_since(x) < 1h", "1699999000", "1699990000"),
        ("(now() - 1h).hour == x", "21", "22"),
        ("time.hour + x == 24", "2", "3"),
        ("user.role.upper() == x", "\"RELEASER\"", "\"releaser\""),
        ("user.role.length == x", "8", "7"),
    ] {
        let policy = format!("allow: a(x) if {condition}, allow: d, deny: d(x) if {condition}");
        table(
            &policy,
            &[
                (&format!("a({yes})"), "allow allow-1"),
                (&format!("a({no})"), "deny"),
                (&format!("d({yes})"), "deny deny-3"),
                (&format!("d({no})"), "allow allow-2"),
                // What is missing is not told, whatever is asked of it.
                ("a()", "deny"),
                ("d()", "deny deny-3"),
            ],
        );
    }
}

/// What ends in an error is not told.
#[test]
fn what_goes_wrong_fails_closed() {
    for (condition, argument) in [
        ("x.lower() == \"a\"", "7"),
        ("len(x) < 3", "7"),
        ("x.k.l == 1", "{ k: 1 }"),
        ("x[3] == 1", "[1]"),
        ("x / 0 == 1", "1"),
        ("x + 9223372036854775807 > 0", "1"),
        ("regex_match(x, \"(\")", "\"a\""),
        ("parse_json(x) == 1", "\"{\""),
        ("error(x) == 1", "\"a\""),
        ("context.name.lower() == x", "\"a\""),
        // More than a formula may take, in steps and in memory.
        ("!regex_match(x.repeat(1000000), \"b?b?b?b?b?b?b?b?b?b?$\")", "\"a\""),
        ("x.repeat(1000000).length > 0", "\"a long text, many times\""),
        // A number is no truth value.
        ("len(x)", "\"a\""),
    ] {
        table(
            &format!("allow: a(x) if {condition}, allow: d, deny: d(x) if {condition}"),
            &[(&format!("a({argument})"), "deny"), (&format!("d({argument})"), "deny deny-3")],
        );
    }
    // What is beside it is told all the same.
    table(
        "allow: a(x) if len(x) < 3 || x == 7, allow: b, deny: b(x) if len(x) < 3 && x == 8",
        &[("a(7)", "allow allow-1"), ("b(7)", "allow allow-2")],
    );
}

/// What never can hold is told, and fails closed; what may hold is not told.
#[test]
fn what_never_holds_is_told() {
    let told = |condition: &str| {
        let source = format!(
            "agent a(input) {{ policy p {{ allow: pay(x, y) if {condition} }} with {{ pay(1, 2); }} }}"
        );
        let checked = check(&source);
        let codes: Vec<&str> = checked.diagnostics.iter().map(|found| found.code).collect();
        let rule = &checked.program.unwrap().agents[0].policies[0].rules[0];
        let closed = rule.conditions.iter().any(|part| matches!(part, Condition::Inexpressible(_)));
        assert_eq!(closed, !codes.is_empty(), "{condition}: {codes:?}");
        codes
    };
    for condition in [
        "x.seconds() > 5",
        "x.megabytes() > 5",
        "x.unix() > 5",
        "x.is_some()",
        "x.unwrap() > 5",
        "x.upper() > 5",
        "x.upper() == 5",
        "x.upper()",
        "len(x)",
        "now().hours > 5",
        "now() - x > 5",
        "now() > \"a\"",
        "x in 5",
        "agent",
        "agent == \"a\"",
        "agent.nmae == \"a\"",
        "time > 5",
        "x.frobnicate() == 1",
        // What a call does not take.
        "x.lower(1) == \"a\"",
        "x.starts_with()",
        "x.starts_with(1)",
        "len(x, y) > 1",
        "len() > 1",
        "regex_match(x, \"(\")",
        "x.contains_pattern(\"(\")",
        // What is never among others.
        "len(x) in [\"5\"]",
        "len(x) not in [\"5\", \"6\"]",
        "x.lower() in [1, 2]",
        "len(x) in \"5\"",
        // `not` is of what stands behind it.
        "not x in [\"a\"]",
        "!x == \"a\"",
        "not len(x) < 5",
        // Facts that are always of one kind.
        "time.hour == \"5\"",
        "now().hour > \"5\"",
        "agent.tier == \"tier2\"",
        "operation > 5",
        "agent.metadata.level == 5",
    ] {
        assert_eq!(told(condition), ["W0308"], "{condition}");
    }
    for condition in [
        "x",
        "x > 5s",
        "x > y",
        "x.k.l == 1",
        "x.seconds > 5",
        "x + y > 3",
        "x + y == \"ab\"",
        "time_since(x).hours() > 5",
        "time_since(time.unix - 60) < 2m",
        "(now() - 1h).hour > 3",
        "now() - 1h > x",
        "x.lower() in y",
        "x.split(\",\").first() == y",
        "x.keys().contains(\"a\")",
        "x.to_string() == \"1\"",
        "agent.name == \"a\" || agent.metadata.team == x",
        "x == null",
        "x.lower() != null",
        "regex_match(x, \"a\") && len(y) < 3 * 2",
        "max(x, 3) > 2",
        "(x - 1).abs() < 2.5",
        "x.length == \"5\"",
        "x in [\"a\", 1]",
        "x in [y, 1]",
        "len(x) in [\"5\", null]",
        "!(x in [\"a\"])",
        "!x == true",
        "not x in [true, y]",
        "x.slice(1) == \"b\"",
        "x.get(y) == 1",
        "x.contains(1)",
        "agent.tier >= 2 && time.hour < 6",
        "agent.metadata.level == \"5\"",
    ] {
        assert_eq!(told(condition), [] as [&str; 0], "{condition}");
    }
}

/// What calls of the host take is known where a rule speaks of nothing else.
#[test]
fn what_hosts_never_take_is_told() {
    for (rule, told) in [
        ("allow: exec(x) if x.length > \"5\"", true),
        ("allow: exec(x) if x.length == \"5\"", true),
        ("deny: exec(x) if x == 5", true),
        ("deny: exec(x, args) if args.length == \"1\"", true),
        ("deny: fs.read(path) if path == 5", true),
        ("deny: send(to) if to > 5", true),
        ("allow: exec(x, args) if x.length > 5 && args.length == 1", false),
        ("allow: exec(x, args) if args == null || \"-l\" in args", false),
        ("allow: fs.read(path) if path.starts_with(\"/a\") && path.length < 9", false),
        // A tool may be given whatever there is.
        ("allow: [exec(x), pay(x)] if x != 5", true),
        ("allow: pay(x) if x.length == \"5\"", false),
    ] {
        let source = format!("agent a(input) {{ policy p {{ {rule} }} with {{ 1 }} }}");
        let closed = check(&source).diagnostics.iter().any(|found| found.code == "W0308");
        assert_eq!(closed, told, "{rule}");
    }
}

/// A policy does not see what the file names alike.
#[test]
fn what_hides_a_name_is_not_taken_for_it() {
    let decides = |around: &str, rule: &str| {
        let source = format!(
            "function len(x) {{ return 0; }} memory notes {{ store \"n\" }}
             agent a(user, limit) {{ function lower(x) {{ return x; }}
             policy p {{ {rule} }} with {{ {around} }} }}"
        );
        let checked = check(&source);
        let program = checked.program.unwrap_or_else(|| panic!("{:?}", checked.diagnostics));
        let rule = program.agents[0].policies[0].rules[0].clone();
        let closed = checked.diagnostics.iter().any(|found| found.code == "W0308");
        assert_eq!(
            closed,
            rule.conditions.iter().any(|part| matches!(part, Condition::Inexpressible(_))),
            "{rule:?}"
        );
        closed
    };
    for rule in [
        "deny: a(x) if len(x) > 3",
        "deny: a(x) if lower(x) == \"a\"",
        "deny: a if user.role == \"guest\"",
        "deny: a(x) if x < limit",
        "deny: a(x) if x in notes",
    ] {
        assert!(decides("a(1);", rule), "{rule}");
    }
    for rule in ["deny: a(x) if x.len() > 3", "deny: a(user, limit) if user < limit"] {
        assert!(!decides("a(1);", rule), "{rule}");
    }
}

#[test]
fn conditions_know_ambient_names_and_the_time() {
    table(
        r#"allow: a if user.role == "releaser", allow: b if user.role != "releaser"
           allow: c if time.hour >= 22 && current_time.weekday == 2, deny: d if time.hour >= 18, allow: d
           allow: e if context == null, allow: f if agent.name == "scribe" && agent.tier <= 1"#,
        &[
            ("a()", "allow allow-1"),
            ("b()", "deny"),
            ("c()", "allow allow-3"),
            ("d()", "deny deny-4"),
            ("e()", "allow allow-6"),
            ("f()", "allow allow-7"),
        ],
    );
}

#[test]
fn a_call_over_http_is_a_connection_as_well() {
    table(
        r#"allow: http.get(url) if url.starts_with("https://a.example/"), deny: "net.connect:*:8080""#,
        &[
            ("http.get(\"https://a.example/x\")", "allow allow-1, allow allow-1"),
            ("http.get(\"https://b.example/x\")", "deny, deny"),
            ("http.post(\"https://a.example/x\")", "allow allow-1, deny"),
            ("http.get(\"http://a.example:8080/\")", "deny deny-2, deny"),
        ],
    );
    table(
        "allow: network_access(any)",
        &[("http.delete(\"http://a\")", "allow allow-1, allow allow-1")],
    );
}

/// Every synonym allows what it says it means.
#[test]
fn synonyms_cover_what_the_table_says() {
    for (synonym, meanings) in operations::SYNONYMS {
        for (call, names) in [
            ("fs.read(\"a\")", &["fs.read:/workspace/a"][..]),
            ("fs.write(\"a\", 1)", &["fs.write:/workspace/a"]),
            ("exec(\"ls\")", &["sandbox.exec:ls"]),
            ("http.get(\"http://a/\")", &["net.connect:a:80", "http.get:http://a/"]),
            ("send(\"b\", \"t\", 1)", &["message.send:b"]),
            ("memory.get(\"k\")", &["memory.read"]),
            ("memory.set(\"k\", 1)", &["memory.write"]),
            ("reason(\"p\")", &["model.call:default"]),
            ("delegate(\"b\", 1)", &["agent.spawn:b"]),
            ("request_approval({ action: \"a\" })", &["approval.request"]),
            ("read_file(\"a\")", &["tool.call:read_file"]),
        ] {
            for ((verdict, _), name) in
                decided(&format!("allow: {synonym}"), call).iter().zip(names)
            {
                let covered = meanings.iter().any(|glob| operations::glob_covers(glob, name));
                assert_eq!(*verdict == "allow", covered, "{synonym} and {name}");
            }
        }
    }
}

// ---- Random policies, and section 4 read aloud.

/// A condition of section 4.
#[derive(Debug, Clone)]
enum If {
    Compare(usize, &'static str, Literal),
    In(usize, Vec<Literal>),
    StartsWith(usize, &'static str),
    /// Whether a key is in an argument, or in the record that is one's option.
    HasKey(usize, &'static str),
    /// `len(name) < 2`, in one of its spellings.
    Length(usize, usize, &'static str, i64),
    IsEmpty(usize),
    /// `lower(name) == "ab"`
    Lower(usize, &'static str),
    /// `name.starts_with("a*")`, where the star stands for itself.
    Starred(usize),
    Matches(usize),
    /// `name + 1 < 3`
    Sum(usize, i64, &'static str, i64),
    /// Whether it is among the parts of another.
    AmongParts(usize, usize),
    Hour(&'static str, i64),
    Not(Box<If>),
    And(Box<If>, Box<If>),
    Or(Box<If>, Box<If>),
    /// A call of a tool.
    Unknown,
}

#[derive(Debug, Clone, PartialEq)]
enum Literal {
    Text(&'static str),
    Int(i64),
}

/// An argument of a call.
#[derive(Debug, Clone, PartialEq)]
enum Given {
    Plain(Literal),
    List(Vec<Literal>),
    Record(Vec<&'static str>),
}

#[derive(Debug, Clone)]
enum Part {
    Bound,
    Any,
    Literal(Literal),
}

#[derive(Debug, Clone)]
struct Rule {
    verb: &'static str,
    operation: &'static str,
    parts: Vec<Part>,
    condition: Option<If>,
}

impl Literal {
    fn text(&self) -> String {
        match self {
            Literal::Text(text) => format!("{text:?}"),
            Literal::Int(number) => number.to_string(),
        }
    }
}

const NAMES: [&str; 3] = ["p", "q", "r"];

/// The hour of every request here.
const HOUR: i64 = 22;

impl Given {
    fn text(&self) -> String {
        match self {
            Given::Plain(literal) => literal.text(),
            Given::List(items) => {
                format!("[{}]", items.iter().map(Literal::text).collect::<Vec<_>>().join(", "))
            }
            Given::Record(keys) => {
                let fields: Vec<String> = keys.iter().map(|key| format!("{key}: 1")).collect();
                format!("{{ {} }}", fields.join(", "))
            }
        }
    }

    fn length(&self) -> Option<usize> {
        match self {
            Given::Plain(Literal::Text(text)) => Some(text.chars().count()),
            Given::Plain(Literal::Int(_)) => None,
            Given::List(items) => Some(items.len()),
            Given::Record(keys) => Some(keys.len()),
        }
    }

    fn as_text(&self) -> Option<&'static str> {
        match self {
            Given::Plain(Literal::Text(text)) => Some(text),
            Given::Plain(Literal::Int(_)) | Given::List(_) | Given::Record(_) => None,
        }
    }

    fn as_int(&self) -> Option<i64> {
        match self {
            Given::Plain(Literal::Int(number)) => Some(*number),
            Given::Plain(Literal::Text(_)) | Given::List(_) | Given::Record(_) => None,
        }
    }
}

fn compared(a: i64, op: &str, b: i64) -> bool {
    match op {
        "==" => a == b,
        "!=" => a != b,
        "<" => a < b,
        _ => a >= b,
    }
}

/// Whether a value is among others: not to be told if one of another kind is among them.
fn among(value: &Literal, others: &[Literal]) -> Option<bool> {
    let same_kind =
        |other: &Literal| std::mem::discriminant(value) == std::mem::discriminant(other);
    match others.contains(value) {
        true => Some(true),
        false => others.iter().all(same_kind).then_some(false),
    }
}

impl If {
    fn text(&self) -> String {
        match self {
            If::Compare(at, op, literal) => format!("{} {op} {}", NAMES[*at], literal.text()),
            If::In(at, literals) => {
                let each: Vec<String> = literals.iter().map(Literal::text).collect();
                format!("{} in [{}]", NAMES[*at], each.join(", "))
            }
            If::StartsWith(at, text) => format!("{}.starts_with({text:?})", NAMES[*at]),
            If::HasKey(at, key) => format!("{key:?} in {}", NAMES[*at]),
            If::Length(at, spelling, op, number) => {
                let name = NAMES[*at];
                let length = match spelling {
                    0 => format!("len({name})"),
                    1 => format!("{name}.length"),
                    _ => format!("{name}.len()"),
                };
                format!("{length} {op} {number}")
            }
            If::IsEmpty(at) => format!("{}.is_empty()", NAMES[*at]),
            If::Lower(at, text) => format!("{}.lower() == {text:?}", NAMES[*at]),
            If::Starred(at) => format!("{}.starts_with(\"a*\")", NAMES[*at]),
            If::Matches(at) => format!("regex_match({}, \"^a.?$\")", NAMES[*at]),
            If::Sum(at, more, op, number) => format!("{} + {more} {op} {number}", NAMES[*at]),
            If::AmongParts(at, of) => format!("{} in {}.split(\",\")", NAMES[*at], NAMES[*of]),
            If::Hour(op, hour) => format!("now().hour {op} {hour}"),
            If::Not(part) => format!("!({})", part.text()),
            If::And(a, b) => format!("({}) && ({})", a.text(), b.text()),
            If::Or(a, b) => format!("({}) || ({})", a.text(), b.text()),
            If::Unknown => "lookup(1)".to_owned(),
        }
    }

    /// The names that it speaks of.
    fn names(&self) -> Vec<usize> {
        match self {
            If::Compare(at, ..)
            | If::In(at, _)
            | If::StartsWith(at, _)
            | If::HasKey(at, _)
            | If::Length(at, ..)
            | If::IsEmpty(at)
            | If::Lower(at, _)
            | If::Starred(at)
            | If::Matches(at)
            | If::Sum(at, ..) => vec![*at],
            If::AmongParts(at, of) => vec![*at, *of],
            If::Not(part) => part.names(),
            If::And(a, b) | If::Or(a, b) => [a.names(), b.names()].concat(),
            If::Hour(..) | If::Unknown => Vec::new(),
        }
    }

    /// Whether all in it can be decided by a policy: what cannot takes the rest with it.
    fn is_expressible(&self) -> bool {
        match self {
            If::Not(part) => part.is_expressible(),
            If::And(a, b) | If::Or(a, b) => a.is_expressible() && b.is_expressible(),
            If::Unknown => false,
            _ => true,
        }
    }

    /// True, false, or not to be told: an argument that is missing or of another kind.
    fn truth(&self, args: &[Given]) -> Option<bool> {
        match self {
            If::Compare(at, op, literal) => match (args.get(*at)?, literal) {
                (Given::Plain(Literal::Text(a)), Literal::Text(b)) => match *op {
                    "==" => Some(a == b),
                    "!=" => Some(a != b),
                    "<" => Some(a < b),
                    _ => Some(a >= b),
                },
                (Given::Plain(Literal::Int(a)), Literal::Int(b)) => Some(compared(*a, op, *b)),
                _ => None,
            },
            If::In(at, literals) => match args.get(*at)? {
                Given::Plain(value) => among(value, literals),
                Given::List(_) | Given::Record(_) => None,
            },
            If::StartsWith(at, text) => Some(args.get(*at)?.as_text()?.starts_with(text)),
            If::HasKey(at, key) => match args.get(*at)? {
                Given::Plain(Literal::Text(text)) => Some(text.contains(key)),
                Given::Plain(Literal::Int(_)) => None,
                Given::List(items) => among(&Literal::Text(key), items),
                Given::Record(keys) => Some(keys.contains(key)),
            },
            If::Length(at, _, op, number) => {
                let length = i64::try_from(args.get(*at)?.length()?).expect("it is short");
                Some(compared(length, op, *number))
            }
            If::IsEmpty(at) => Some(args.get(*at)?.length()? == 0),
            If::Lower(at, text) => Some(args.get(*at)?.as_text()?.to_lowercase() == *text),
            If::Starred(at) => Some(args.get(*at)?.as_text()?.starts_with("a*")),
            If::Matches(at) => {
                let text = args.get(*at)?.as_text()?;
                Some(text.starts_with('a') && text.chars().count() <= 2)
            }
            If::Sum(at, more, op, number) => {
                Some(compared(args.get(*at)?.as_int()? + more, op, *number))
            }
            If::AmongParts(at, of) => {
                let parts: Vec<Literal> =
                    args.get(*of)?.as_text()?.split(',').map(Literal::Text).collect();
                match args.get(*at)? {
                    Given::Plain(value) => among(value, &parts),
                    Given::List(_) | Given::Record(_) => None,
                }
            }
            If::Hour(op, hour) => Some(compared(HOUR, op, *hour)),
            If::Not(part) => part.truth(args).map(|truth| !truth),
            If::And(a, b) => match (a.truth(args), b.truth(args)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            If::Or(a, b) => match (a.truth(args), b.truth(args)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            If::Unknown => None,
        }
    }
}

impl Rule {
    fn text(&self) -> String {
        let parts: Vec<String> = (self.parts.iter().zip(NAMES))
            .map(|(part, name)| match part {
                Part::Bound => name.to_owned(),
                Part::Any => "any".to_owned(),
                Part::Literal(literal) => literal.text(),
            })
            .collect();
        let pattern = match parts.as_slice() {
            [] => self.operation.to_owned(),
            parts => format!("{}({})", self.operation, parts.join(", ")),
        };
        let condition = self.condition.as_ref().map(|c| format!(" if {}", c.text()));
        format!("{}: {pattern}{}", self.verb, condition.unwrap_or_default())
    }

    fn matches(&self, operation: &str, args: &[Given]) -> bool {
        if self.operation != operation {
            return false;
        }
        let literals = self.parts.iter().enumerate().filter_map(|(at, part)| match part {
            Part::Literal(literal) => Some(If::Compare(at, "==", literal.clone())),
            Part::Bound | Part::Any => None,
        });
        let condition = self.condition.clone();
        if condition.as_ref().is_some_and(|condition| !condition.is_expressible()) {
            return self.verb == "deny";
        }
        let whole = literals.chain(condition).reduce(|a, b| If::And(Box::new(a), Box::new(b)));
        let truth = whole.map_or(Some(true), |whole| whole.truth(args));
        if self.verb == "allow" { truth == Some(true) } else { truth != Some(false) }
    }
}

fn literal() -> impl Strategy<Value = Literal> {
    prop_oneof![
        select(vec!["a", "ab", "b", "", "A", "a*", "a,b"]).prop_map(Literal::Text),
        (0i64..3).prop_map(Literal::Int),
    ]
}

fn given() -> impl Strategy<Value = Given> {
    prop_oneof![
        4 => literal().prop_map(Given::Plain),
        1 => vec(literal(), 0..3).prop_map(Given::List),
        1 => subsequence(vec!["a", "b"], 0..=2).prop_map(Given::Record),
    ]
}

fn condition() -> impl Strategy<Value = If> {
    let op = || select(vec!["==", "!=", "<", ">="]);
    let key = || select(vec!["a", "b"]);
    let plain = prop_oneof![
        4 => (0usize..3, op(), literal())
            .prop_map(|(at, op, literal)| If::Compare(at, op, literal)),
        2 => (0usize..3, vec(literal(), 1..3)).prop_map(|(at, all)| If::In(at, all)),
        2 => (0usize..3, key()).prop_map(|(at, text)| If::StartsWith(at, text)),
        2 => (0usize..3, key()).prop_map(|(at, key)| If::HasKey(at, key)),
        2 => (0usize..3, 0usize..3, op(), 0i64..3)
            .prop_map(|(at, spelling, op, number)| If::Length(at, spelling, op, number)),
        1 => (0usize..3).prop_map(If::IsEmpty),
        1 => (0usize..3, key()).prop_map(|(at, text)| If::Lower(at, text)),
        1 => (0usize..3).prop_map(If::Starred),
        1 => (0usize..3).prop_map(If::Matches),
        1 => (0usize..3, 0i64..3, op(), 0i64..4)
            .prop_map(|(at, more, op, number)| If::Sum(at, more, op, number)),
        2 => (0usize..3, 0usize..3).prop_map(|(at, of)| If::AmongParts(at, of)),
        1 => (op(), 21i64..24).prop_map(|(op, hour)| If::Hour(op, hour)),
        1 => Just(If::Unknown),
    ];
    plain.prop_recursive(2, 6, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|part| If::Not(Box::new(part))),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| If::And(Box::new(a), Box::new(b))),
            (inner.clone(), inner).prop_map(|(a, b)| If::Or(Box::new(a), Box::new(b))),
        ]
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    let part = prop_oneof![
        4 => Just(Part::Bound),
        1 => Just(Part::Any),
        1 => literal().prop_map(Part::Literal),
    ];
    let verb = select(vec!["allow", "allow", "allow", "deny", "audit"]);
    (verb, select(vec!["fetch", "store"]), vec(part, 0..4), prop::option::of(condition())).prop_map(
        |(verb, operation, mut parts, condition)| {
            // A name that the pattern lacks would be an error.
            for at in condition.iter().flat_map(If::names) {
                while parts.len() <= at {
                    parts.push(Part::Any);
                }
                parts[at] = Part::Bound;
            }
            Rule { verb, operation, parts, condition }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn compiled_blocks_decide_as_the_page_says(
        rules in vec(rule(), 0..5),
        operation in select(vec!["fetch", "store"]),
        args in vec(given(), 0..4),
    ) {
        let policy: Vec<String> = rules.iter().map(Rule::text).collect();
        let call: Vec<String> = args.iter().map(Given::text).collect();
        let got = decided(&policy.join("\n"), &format!("{operation}({})", call.join(", ")));
        let matches = |verb: &str| rules.iter().any(|rule| rule.verb == verb && rule.matches(operation, &args));
        let want = if !matches("deny") && matches("allow") { "allow" } else { "deny" };
        prop_assert_eq!(got[0].0, want, "{}", policy.join("\n"));
    }
}

/// What is worked out compares as facts do: only what is of one kind, or null.
#[test]
fn what_is_worked_out_is_not_compared_with_another_kind() {
    for (condition, of_its_kind, of_another) in [
        ("!(p in r.split(\",\"))", "\"c\"", ["1", "[]", "[\"a\"]", "{}", "true"]),
        ("p not in r.split(\",\")", "\"c\"", ["1", "[]", "[\"a\"]", "{}", "true"]),
        ("!r.split(\",\").contains(p)", "\"c\"", ["1", "[]", "[\"a\"]", "{}", "true"]),
        ("!(p in range(0, 9 - 4))", "7", ["\"1\"", "[1]", "{}", "[]", "false"]),
        ("(p == r.upper()) == false", "\"c\"", ["1", "[]", "[\"A\"]", "{}", "true"]),
        ("(p in [r.upper(), \"x\"]) == false", "\"c\"", ["1", "[]", "[\"A\"]", "{}", "true"]),
    ] {
        for (verb, told, untold) in
            [("allow", "allow", "deny"), ("allow: fetch deny", "deny", "deny")]
        {
            let policy = format!("{verb}: fetch(p, any, r) if {condition}")
                .replace("fetch deny", "fetch\ndeny");
            let of = |p: &str| decided(&policy, &format!("fetch({p}, 1, \"a,b\")"))[0].0;
            assert_eq!(of(of_its_kind), told, "{policy} of {of_its_kind}");
            for p in of_another {
                assert_eq!(of(p), untold, "{policy} of {p}");
            }
        }
    }
    // What is in an option is not the option.
    for policy in [
        "allow: fetch(p) if p == Some(1)",
        "allow: fetch\ndeny: fetch(p) if p == Some(1)",
        "allow: fetch(p) if Some(p) in [1]",
        "allow: fetch(p) if p in [Some(1)]",
        "allow: fetch\ndeny: fetch(p) if Some(p) not in [1]",
        // Which of two parts a name is, nobody can tell.
        "allow: fetch(p, p) if p == 1",
    ] {
        assert_eq!(decided(policy, "fetch(1)")[0].0, "deny", "{policy}");
    }
}
