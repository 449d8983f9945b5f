//! What the engine decides over compiled policy blocks, next to what the page of the language says.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use symbiont_dsl::definition::check;
use symbiont_dsl::machine::{Entry, HostCall};
use symbiont_dsl::operations::{self, Arguments};
use symbiont_dsl::value::Value;
use symbiont_policy::{PolicySet, Profile, Request, decide};
use symbiont_types::{AgentId, PolicyEffect, PolicyValue, SecurityTier};

use super::world::World;

/// The arguments of a call as policies see them.
struct Facts(Vec<PolicyValue>, BTreeMap<String, PolicyValue>);

impl Arguments for Facts {
    fn slot(&self, index: usize) -> Option<std::borrow::Cow<'_, str>> {
        self.0.get(index).map(text_of)
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

fn fact(value: &Value) -> PolicyValue {
    match value {
        Value::Null => PolicyValue::Null,
        Value::Bool(value) => PolicyValue::Bool(*value),
        Value::Int(value) => PolicyValue::Int(*value),
        Value::Float(value) => PolicyValue::Float(*value),
        Value::Duration(duration) => PolicyValue::Float(duration.as_secs_f64()),
        Value::String(text) => PolicyValue::String(text.to_string()),
        Value::Array(items) => PolicyValue::List(items.iter().map(fact).collect()),
        Value::Map(map) => PolicyValue::Record(
            map.iter().map(|(key, value)| (key.to_string(), fact(value))).collect(),
        ),
        other => panic!("no case has {other:?}"),
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
    Facts(args, named)
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

impl If {
    fn text(&self) -> String {
        match self {
            If::Compare(at, op, literal) => format!("{} {op} {}", NAMES[*at], literal.text()),
            If::In(at, literals) => {
                let each: Vec<String> = literals.iter().map(Literal::text).collect();
                format!("{} in [{}]", NAMES[*at], each.join(", "))
            }
            If::StartsWith(at, text) => format!("{}.starts_with({text:?})", NAMES[*at]),
            If::Not(part) => format!("!({})", part.text()),
            If::And(a, b) => format!("({}) && ({})", a.text(), b.text()),
            If::Or(a, b) => format!("({}) || ({})", a.text(), b.text()),
            If::Unknown => "lookup(1)".to_owned(),
        }
    }

    /// Whether anything in it cannot be decided by a policy: then all of it cannot.
    fn is_expressible(&self, bound: &[bool]) -> bool {
        match self {
            If::Compare(at, ..) | If::In(at, _) | If::StartsWith(at, _) => {
                bound.get(*at).copied().unwrap_or(false)
            }
            If::Not(part) => part.is_expressible(bound),
            If::And(a, b) | If::Or(a, b) => a.is_expressible(bound) && b.is_expressible(bound),
            If::Unknown => false,
        }
    }

    /// True, false, or not to be told: an argument that is missing or of another kind.
    fn truth(&self, args: &[Literal]) -> Option<bool> {
        match self {
            If::Compare(at, op, literal) => match (args.get(*at)?, literal) {
                (Literal::Text(a), Literal::Text(b)) => match *op {
                    "==" => Some(a == b),
                    "!=" => Some(a != b),
                    _ => None,
                },
                (Literal::Int(a), Literal::Int(b)) => Some(match *op {
                    "==" => a == b,
                    "!=" => a != b,
                    "<" => a < b,
                    _ => a >= b,
                }),
                _ => None,
            },
            If::In(at, literals) => {
                let value = args.get(*at)?;
                if literals.contains(value) {
                    return Some(true);
                }
                let same_kind = |other: &Literal| {
                    std::mem::discriminant(value) == std::mem::discriminant(other)
                };
                literals.iter().all(same_kind).then_some(false)
            }
            If::StartsWith(at, text) => match args.get(*at)? {
                Literal::Text(value) => Some(value.starts_with(text)),
                Literal::Int(_) => None,
            },
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

    fn matches(&self, operation: &str, args: &[Literal]) -> bool {
        if self.operation != operation {
            return false;
        }
        let bound: Vec<bool> = self.parts.iter().map(|p| matches!(p, Part::Bound)).collect();
        let literals = self.parts.iter().enumerate().filter_map(|(at, part)| match part {
            Part::Literal(literal) => Some(If::Compare(at, "==", literal.clone())),
            Part::Bound | Part::Any => None,
        });
        let condition = self.condition.clone();
        if condition.as_ref().is_some_and(|condition| !condition.is_expressible(&bound)) {
            return self.verb == "deny";
        }
        let whole = literals.chain(condition).reduce(|a, b| If::And(Box::new(a), Box::new(b)));
        let truth = whole.map_or(Some(true), |whole| whole.truth(args));
        if self.verb == "allow" { truth == Some(true) } else { truth != Some(false) }
    }
}

fn literal() -> impl Strategy<Value = Literal> {
    prop_oneof![
        select(vec!["a", "ab", "b"]).prop_map(Literal::Text),
        (0i64..3).prop_map(Literal::Int),
    ]
}

fn condition() -> impl Strategy<Value = If> {
    let plain = prop_oneof![
        4 => (0usize..3, select(vec!["==", "!=", "<", ">="]), literal())
            .prop_map(|(at, op, literal)| If::Compare(at, op, literal)),
        2 => (0usize..3, vec(literal(), 1..3)).prop_map(|(at, all)| If::In(at, all)),
        2 => (0usize..3, select(vec!["a", "b"])).prop_map(|(at, text)| If::StartsWith(at, text)),
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
    (verb, select(vec!["fetch", "store"]), vec(part, 0..4), prop::option::of(condition()))
        .prop_map(|(verb, operation, parts, condition)| Rule { verb, operation, parts, condition })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn compiled_blocks_decide_as_the_page_says(
        rules in vec(rule(), 0..5),
        operation in select(vec!["fetch", "store"]),
        args in vec(literal(), 0..4),
    ) {
        let policy: Vec<String> = rules.iter().map(Rule::text).collect();
        let call: Vec<String> = args.iter().map(Literal::text).collect();
        let got = decided(&policy.join("\n"), &format!("{operation}({})", call.join(", ")));
        let matches = |verb: &str| rules.iter().any(|rule| rule.verb == verb && rule.matches(operation, &args));
        let want = if !matches("deny") && matches("allow") { "allow" } else { "deny" };
        prop_assert_eq!(got[0].0, want, "{}", policy.join("\n"));
    }
}
