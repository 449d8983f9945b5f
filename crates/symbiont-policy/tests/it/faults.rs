//! What is refused, with its code and place.

use std::time::Duration;

use symbiont_policy::{MAX_RULES, Profile, decide, validate};
use symbiont_types::{Condition, Operand, Policy, PolicyEffect, PolicyRule};

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
fn formulas_compute_and_call_nobody() {
    let formula = |text: &str| PolicyRule {
        conditions: vec![Condition::Not(Box::new(Condition::Is(Operand::Formula(
            text.to_owned(),
        ))))],
        ..rule("r")
    };
    for text in ["argument[0].lower()", "now().hour > 3", "named.x.y in [1, 2]", "// one\n1 + 1"] {
        check_rule(formula(text), &[]);
    }
    for text in [
        "",
        "1 +",
        "1; 2",
        "x",
        "argument",
        "named.f()",
        "lookup(1)",
        "fs.read(\"a\")",
        "random()",
        "agent.mood",
        "named.x.any(y => y == 1)",
        "if named.x { 1 } else { 2 }",
        "vault://a",
        "1)} } agent other { with {(1",
    ] {
        check_rule(formula(text), &["P0118 policies[0].rules[0].conditions[0]"]);
    }
    let cedar = |key: &str| {
        let text = format!("permit (principal, action, resource) when {{ context has {key:?} }};");
        PolicyRule::cedar("r", PolicyEffect::Allow, text)
    };
    check_rule(cedar("= len(named.x)"), &[]);
    check_rule(cedar("= named.x.split(\"a\")[]"), &[]);
    check_rule(cedar("= lookup(named.x)"), &["P0118 policies[0].rules[0].cedar"]);
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

#[test]
fn a_scope_that_nothing_is_in_is_refused_and_the_suggestion_works() {
    let id = "0192aaaa-0000-7000-8000-00000000abcd";
    let capitals = id.to_uppercase();
    // The scope and the conditions, and what the suggestion has to contain.
    let cases = [
        (r#"principal, action == Action::"sandbox.exec:rm", resource"#, "", r#"Resource::"rm""#),
        (r#"principal, action == Action::"fs.*", resource"#, "", "context.action.text like"),
        (r#"principal, action == Action::"fs.read:/etc/*", resource"#, "", "resource.name like"),
        (r#"principal, action == Action::"fs.read:", resource"#, "", r#"Action::"fs.read""#),
        (r#"principal, action in [Action::"a", Action::"b:c"], resource"#, "", r#"Resource::"c""#),
        (r#"principal, action in [], resource"#, "", "`action` alone"),
        (r#"principal == User::"ann", action, resource"#, "", "Agent::"),
        (r#"principal == Agent::"scribe", action, resource"#, "", "principal.name =="),
        (r#"principal in Group::"staff", action, resource"#, "", "Agent::"),
        ("principal is User, action, resource", "", "Agent::"),
        (r#"principal is Agent in Group::"staff", action, resource"#, "", "Agent::"),
        (r#"principal, action, resource == File::"/etc/passwd""#, "", "Resource::"),
        (r#"principal, action, resource in Folder::"/etc""#, "", "Resource::"),
        ("principal, action, resource is File", "", "Resource::"),
        (r#"principal, action, resource == Resource::"/etc/*""#, "", "resource.name like"),
        ("principal, action, resource", r#"action == Action::"fs.*""#, "context.action.text like"),
        ("principal, action, resource", r#"principal == User::"ann""#, "nothing is a `User`"),
        ("principal, action, resource", r#"[Resource::"*"].contains(resource)"#, "resource.name"),
    ];
    let capital = format!(r#"principal == Agent::"{capitals}", action, resource"#);
    let all = cases.into_iter().chain([(capital.as_str(), "", id)]);
    for (scope, when, suggestion) in all {
        let when = if when.is_empty() { String::new() } else { format!(" when {{ {when} }}") };
        for (verb, effect) in [("forbid", PolicyEffect::Deny), ("permit", PolicyEffect::Allow)] {
            let text = format!("{verb} ({scope}){when};");
            let issues = validate(&[policy("p", 0, [PolicyRule::cedar("r", effect, &text)])]);
            let [issue] = issues.as_slice() else { panic!("{text}: {issues:?}") };
            assert_eq!((issue.code.as_str(), issue.span), ("P0117", None), "{text}");
            let suggested = issue.suggestion.as_deref().unwrap_or_default();
            assert!(suggested.contains(suggestion), "{text}: {suggested}");
        }
    }
    // What is suggested, and what else can match, does deny.
    let can = [
        (r#"principal, action == Action::"sandbox.exec", resource == Resource::"rm""#, ""),
        (r#"principal, action in [Action::"x", Action::"sandbox.exec"], resource"#, ""),
        (r#"principal, action in Action::"sandbox.exec", resource in Resource::"rm""#, ""),
        ("principal is Agent, action, resource is Resource", ""),
        (r#"principal in Agent::"00000000-0000-0000-0000-000000000001", action, resource"#, ""),
        (
            "principal, action, resource",
            r#"context has "action" && context.action.text like "sandbox.*""#,
        ),
        (r#"principal, action == Action::"sandbox.exec", resource"#, r#"resource.name like "r*""#),
        ("principal, action, resource", r#"principal.name == "scribe""#),
    ];
    let facts = Facts::of("sandbox.exec:rm");
    for (scope, when) in can {
        let when = if when.is_empty() { String::new() } else { format!(" when {{ {when} }}") };
        let text = format!("forbid ({scope}){when};");
        let set = compile(&[policy("p", 0, [PolicyRule::cedar("r", PolicyEffect::Deny, &text)])]);
        let decision = decide(&set, None, Profile::Dev, &facts.request());
        assert_eq!(decision.effect, Some(PolicyEffect::Deny), "{text}");
    }
}
