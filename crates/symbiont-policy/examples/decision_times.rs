//! Measures decisions: `cargo run --release -p symbiont-policy --example decision_times`.

use std::collections::{BTreeMap, HashMap};
use std::hint::black_box;
use std::time::{Duration, Instant};

use symbiont_policy::{PolicySet, Profile, Request, decide};
use symbiont_types::{
    AgentId, Comparison, Condition, Operand, Policy, PolicyEffect, PolicyRule, PolicyValue,
    SecurityTier,
};

const ROUNDS: usize = 20_000;

fn main() {
    let rule = |at: usize, operation: String| PolicyRule {
        conditions: vec![Condition::Compare {
            left: Operand::Attribute(vec!["named".to_owned(), "size".to_owned()]),
            op: Comparison::Less,
            right: Operand::Literal(PolicyValue::Int(100)),
        }],
        ..PolicyRule::new(format!("r{at}"), PolicyEffect::Allow, [operation])
    };
    let bare =
        |at: usize, operation: String| PolicyRule { conditions: Vec::new(), ..rule(at, operation) };
    let set = |rules: Vec<PolicyRule>| {
        let policy = Policy {
            id: "p".to_owned(),
            name: String::new(),
            description: String::new(),
            rules,
            priority: 0,
            enabled: true,
        };
        let begin = Instant::now();
        let set = PolicySet::compile(&[policy]).expect("the rules are sound");
        println!("{:>44} {:?}", "compiled in", begin.elapsed());
        set
    };
    let distinct =
        |count: usize| (0..count).map(|at| rule(at, format!("tool.call:t{at}"))).collect();
    let same = |count: usize| (0..count).map(|at| rule(at, "tool.call:t0".to_owned())).collect();
    measure("1 rule, no condition", &set(vec![bare(0, "tool.call".to_owned())]), None);
    let computing = |left: &str| PolicyRule {
        conditions: vec![Condition::Compare {
            left: Operand::Formula(left.to_owned()),
            op: Comparison::Less,
            right: Operand::Literal(PolicyValue::Int(100)),
        }],
        ..rule(0, "tool.call:t0".to_owned())
    };
    for formula in ["named.size + 1", "format(\"{}\", named.size).upper().length", "now().minute"] {
        measure(&format!("1 rule, `{formula}`"), &set(vec![computing(formula)]), None);
    }
    measure("1 rule, 1 condition", &set(distinct(1)), None);
    measure("1,000 rules, distinct operations", &set(distinct(1_000)), None);
    measure("10,000 rules, distinct operations", &set(distinct(10_000)), None);
    measure("1,000 rules, all on one operation", &set(same(1_000)), None);
    let (global, own) = (set(distinct(1_000)), set(distinct(1_000)));
    measure("two layers of 1,000 rules", &global, Some(&own));
    authorizer();
}

fn measure(name: &str, global: &PolicySet, own: Option<&PolicySet>) {
    let (agent_metadata, metadata, ambient) = (HashMap::new(), HashMap::new(), BTreeMap::new());
    let named = BTreeMap::from([("size".to_owned(), PolicyValue::Int(7))]);
    let request = Request {
        agent_id: AgentId::new(),
        agent_name: "scribe",
        agent_metadata: &agent_metadata,
        tier: SecurityTier::Tier1,
        operation: "tool.call:t0",
        arguments: &[],
        named: &named,
        limits: None,
        metadata: &metadata,
        ambient: &ambient,
        now_unix: 0,
    };
    assert!(decide(global, own, Profile::Production, &request).is_allowed());
    report(name, || {
        black_box(decide(global, own, Profile::Production, black_box(&request)));
    });
    let denied = Request { operation: "tool.call:none", ..request };
    report(&format!("{name}, unmatched"), || {
        black_box(decide(global, own, Profile::Production, black_box(&denied)));
    });
}

/// The bare authorizer over one such policy, its request made beforehand.
fn authorizer() {
    let policies: cedar_policy::PolicySet =
        r#"permit(principal, action == Action::"tool.call", resource)
        when { context.operation.text == "tool.call:t0" && context has "named.size"
               && context["named.size"] has whole && context["named.size"].whole < 100 };"#
            .parse()
            .expect("it is Cedar");
    let record = |text: &str| text.parse().expect("it is an expression");
    let context = cedar_policy::Context::from_pairs([
        ("operation".to_owned(), record(r#"{"text": "tool.call:t0"}"#)),
        ("named.size".to_owned(), record(r#"{"whole": 7, "part": 0}"#)),
    ])
    .expect("the keys differ");
    let uid = |text: &str| text.parse().expect("it is an entity");
    let request = cedar_policy::Request::new(
        uid("Agent::\"a\""),
        uid("Action::\"tool.call\""),
        uid("Resource::\"t0\""),
        context,
        None,
    )
    .expect("there is no schema to offend");
    let (authorizer, nothing) = (cedar_policy::Authorizer::new(), cedar_policy::Entities::empty());
    report("bare authorizer, 1 policy, request made", || {
        black_box(authorizer.is_authorized(black_box(&request), &policies, &nothing));
    });
}

fn report(name: &str, mut act: impl FnMut()) {
    let rounds = if name.contains("all on one") { ROUNDS / 40 } else { ROUNDS };
    let mut times: Vec<Duration> = (0..rounds)
        .map(|_| {
            let begin = Instant::now();
            act();
            begin.elapsed()
        })
        .collect();
    times.sort();
    println!("{name:>44} p50 {:?} p99 {:?}", times[rounds / 2], times[rounds * 99 / 100]);
}
