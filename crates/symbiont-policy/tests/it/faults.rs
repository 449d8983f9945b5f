//! What is refused, with its code and place.

use std::time::Duration;

use symbiont_policy::{MAX_RULES, Profile, decide, validate};
use symbiont_types::{Condition, Policy, PolicyEffect, PolicyRule};

use crate::given::{Facts, compile, policy};

/// `want` is each issue as `code path`.
#[track_caller]
fn check(policies: &[Policy], want: &[&str]) {
    let issues = validate(policies);
    let got: Vec<_> = issues.iter().map(|issue| format!("{} {}", issue.code, issue.path)).collect();
    assert_eq!(got, want, "{issues:#?}");
}

fn rule(id: &str) -> PolicyRule {
    PolicyRule::new(id, PolicyEffect::Allow, ["x"])
}

#[track_caller]
fn check_rule(rule: PolicyRule, want: &[&str]) {
    check(&[policy("p", 0, [rule])], want);
}

#[test]
fn ids_and_bounds() {
    check(&[policy("", 0, [])], &["P0101 policies[0].id"]);
    check(&[policy("p", 0, []), policy("p", 0, [])], &["P0102 policies[1].id"]);
    check(&[policy("p", 0, [rule("r"), rule("r")])], &["P0102 policies[0].rules[1].id"]);
    let many: Vec<_> = (0..=MAX_RULES).map(|at| rule(&format!("r{at}"))).collect();
    check(&[policy("p", 0, many)], &["P0103 policies"]);
    check_rule(
        PolicyRule { reason: "x".repeat(70_000), ..rule("r") },
        &["P0104 policies[0].rules[0]"],
    );
    check_rule(
        PolicyRule { operations: vec!["x".repeat(1_025)], ..rule("r") },
        &["P0106 policies[0].rules[0].operations[0]"],
    );
    check_rule(
        PolicyRule { operations: Vec::new(), ..rule("r") },
        &["P0109 policies[0].rules[0].operations"],
    );
}

#[test]
fn conditions_nest_so_deep_and_no_deeper() {
    let deep = |depth: usize| {
        let start = Condition::All(Vec::new());
        let condition = (1..depth).fold(start, |part, _| Condition::Not(Box::new(part)));
        PolicyRule { conditions: vec![condition], ..rule("r") }
    };
    check_rule(deep(64), &[]);
    check_rule(deep(65), &["P0107 policies[0].rules[0].conditions[0]"]);
    check_rule(deep(5_000), &["P0107 policies[0].rules[0].conditions[0]"]);
    let wide = Condition::Any(vec![Condition::Has(vec!["user".to_owned()]); 1_500]);
    check_rule(PolicyRule { conditions: vec![wide.clone()], ..rule("r") }, &[]);
    check_rule(
        PolicyRule { conditions: vec![wide.clone(), wide], ..rule("r") },
        &["P0108 policies[0].rules[0].conditions"],
    );
    let wider = Condition::Any(vec![Condition::All(Vec::new()); 5_000]);
    check_rule(
        PolicyRule { conditions: vec![wider], ..rule("r") },
        &["P0108 policies[0].rules[0].conditions"],
    );
}

#[test]
fn effects_that_cannot_be_carried_out() {
    let approval = |approvers: &[&str], quorum, seconds| {
        let approvers = approvers.iter().map(|&name| name.to_owned()).collect();
        let ttl = Duration::from_secs(seconds);
        PolicyRule { effect: PolicyEffect::RequireApproval { approvers, quorum, ttl }, ..rule("r") }
    };
    let place = ["P0112 policies[0].rules[0].effect"];
    check_rule(approval(&[], 3, 1), &[]);
    check_rule(approval(&[], 0, 1), &place);
    check_rule(approval(&["ann"], 2, 1), &place);
    check_rule(approval(&["ann"], 1, 0), &place);
    let shadow = |effect| PolicyEffect::Shadow(Box::new(effect));
    check_rule(
        PolicyRule { effect: shadow(shadow(PolicyEffect::Deny)), ..rule("r") },
        &["P0113 policies[0].rules[0].effect"],
    );
}

#[test]
fn cedar_text_has_to_be_one_sound_policy() {
    let cedar = |text: &str| PolicyRule::cedar("r", PolicyEffect::Allow, text);
    let place = ["P0110 policies[0].rules[0].cedar"];
    check_rule(cedar("permit (principal, action, resource);"), &[]);
    check_rule(cedar("forbid (principal, action, resource);"), &place);
    check_rule(cedar("permit (principal, action, resource) when { context == {} };"), &place);
    check_rule(cedar("permit (principal == ?principal, action, resource);"), &place);
    check_rule(cedar(&"permit (principal, action, resource);".repeat(2)), &place);
    check_rule(
        PolicyRule {
            operations: vec!["x".to_owned()],
            ..cedar("permit (principal, action, resource);")
        },
        &["P0111 policies[0].rules[0]"],
    );
    let issues = validate(&[policy("p", 0, [cedar("permit (principal, action, resourc);")])]);
    assert_eq!(
        issues[0].span.map(|(from, to)| &"permit (principal, action, resourc);"[from..to]),
        Some("resourc")
    );
    for hostile in
        ["(", "!", "-", "a.", "[", "{a:", "if ", "// \"\n(", "1+", "a&&", "a has ", "\"\\\"\"+("]
    {
        let body = hostile.repeat(60_000 / hostile.len());
        let text = format!("permit (principal, action, resource) when {{ {body}");
        check_rule(cedar(&text), &place);
        // As deep as it may be.
        let text =
            format!("permit (principal, action, resource) when {{ {} true", hostile.repeat(180));
        assert!(
            validate(&[policy("p", 0, [cedar(&text)])]).iter().all(|issue| issue.code == "P0110")
        );
    }
    // Sound, and as deep as it may be.
    let (open, close) = ("(true && ".repeat(60), ")".repeat(60));
    let text = format!("permit (principal, action, resource) when {{ {open}true{close} }};");
    let set = compile(&[policy("p", 0, [cedar(&text)])]);
    let facts = Facts::of("x");
    assert!(decide(&set, None, Profile::Production, &facts.request()).is_allowed());
    let sum = "1 + ".repeat(180);
    check_rule(
        cedar(&format!("permit (principal, action, resource) when {{ {sum}1 == 181 }};")),
        &[],
    );
}
