//! Policies and requests, and what is decided of them in which words.

use std::time::Duration;

use symbiont_policy::{Profile, decide};
use symbiont_types::{
    Comparison, Condition, Obligation, Operand, Policy, PolicyEffect, PolicyRule, PolicyValue,
};

use crate::given::{Facts, compare, compile, fact, policy, text};

fn allow<const N: usize>(id: &str, operations: [&str; N]) -> PolicyRule {
    PolicyRule::new(id, PolicyEffect::Allow, operations)
}

fn deny<const N: usize>(id: &str, operations: [&str; N]) -> PolicyRule {
    PolicyRule::new(id, PolicyEffect::Deny, operations)
}

fn approval(id: &str, approvers: &[&str], quorum: u32, ttl: u64, operation: &str) -> PolicyRule {
    let approvers = approvers.iter().map(|&name| name.to_owned()).collect();
    let ttl = Duration::from_secs(ttl);
    PolicyRule::new(id, PolicyEffect::RequireApproval { approvers, quorum, ttl }, [operation])
}

fn when(rule: PolicyRule, condition: Condition) -> PolicyRule {
    PolicyRule { conditions: vec![condition], ..rule }
}

/// Decides for an agent with the policies `own`, empty for none, under the production profile;
/// `want` is the effect, the reason, and what is missing, a line each.
#[track_caller]
fn check(global: &[Policy], own: &[Policy], facts: &Facts, want: &str) {
    let (global, own) = (compile(global), compile(own));
    let decision = decide(&global, Some(&own), Profile::Production, &facts.request());
    let effect = match &decision.effect {
        Some(PolicyEffect::RequireApproval { approvers, quorum, ttl }) => {
            format!("approval of {quorum} of {approvers:?} in {ttl:?}")
        }
        other => format!("{other:?}"),
    };
    let got: Vec<_> = [effect, decision.reason].into_iter().chain(decision.missing).collect();
    assert_eq!(got.join("\n"), want);
}

#[test]
fn deny_beats_approval_beats_allow() {
    let read = Facts::of("fs.read:/a");
    let all = [
        allow("a", ["fs.read"]),
        approval("q", &["ann", "bob"], 1, 60, "fs.read:*"),
        PolicyRule { reason: "no `/a`".to_owned(), ..deny("d", ["*:/a"]) },
    ];
    let of = |count: usize| [policy("p", 0, &all[..count])];
    check(&of(1), &[], &read, "Some(Allow)\nallowed by rule `p/a`");
    check(
        &of(2),
        &[],
        &read,
        "approval of 1 of [\"ann\", \"bob\"] in 60s\nleft to approval by rule `p/q`\napproval by 1 of ann, bob",
    );
    check(
        &of(3),
        &[],
        &read,
        "Some(Deny)\ndenied by rule `p/d`: no \\u{60}/a\\u{60}\nrule `p/d` denies it whatever else holds",
    );
}

#[test]
fn a_lower_layer_narrows_and_never_widens() {
    let read = Facts::of("fs.read:/a");
    let global = [policy("g", 0, [allow("r", ["fs.read:/b*"]), allow("w", ["fs.write"])])];
    let own = [policy("o", 9, [allow("r", ["fs.read"])])];
    check(&global, &own, &read, "Some(Allow)\nallowed by rule `o/r`");
    let covered =
        [policy("g", 0, [when(allow("r", ["fs.read"]), Condition::Has(vec!["user".into()]))])];
    check(
        &covered,
        &own,
        &read,
        "Some(Deny)\nthe global policies cover `fs.read:/a` and do not allow it; \
         of `fs.read` the global policies allow what rule `g/r` says\n\
         rule `g/r` would allow it when `has user`",
    );
    let asked = [policy("g", 0, [approval("q", &["ann", "bob"], 1, 60, "fs.read")])];
    let harder = [policy("o", 9, [approval("q", &["eve", "joe"], 2, 30, "fs.read")])];
    check(
        &asked,
        &harder,
        &read,
        "approval of 2 of [\"ann\", \"bob\"] in 30s\nleft to approval by rule `g/q`\napproval by 2 of ann, bob",
    );
    check(
        &[],
        &own,
        &Facts::of("fs.write:/a"),
        "Some(Deny)\nnothing allows `fs.write:/a`; of `fs.write` the policies allow nothing\n\
         a rule that allows `fs.write:/a`",
    );
}

#[test]
fn only_an_overridable_deny_yields_to_priority() {
    let read = Facts::of("fs.read");
    for (overridable, priority, want) in
        [(false, 9, false), (true, 9, true), (true, 5, false), (true, 1, false)]
    {
        let low = policy("low", 5, [PolicyRule { overridable, ..deny("d", ["fs.read"]) }]);
        let set = compile(&[policy("high", priority, [allow("a", ["fs.read"])]), low.clone()]);
        let decision = decide(&set, None, Profile::Dev, &read.request());
        assert_eq!(decision.is_allowed(), want, "{overridable} {priority}");
        // Not across layers.
        let own = compile(&[policy("high", priority, [allow("a", ["fs.read"])])]);
        let decision = decide(&compile(&[low]), Some(&own), Profile::Dev, &read.request());
        assert!(!decision.is_allowed());
    }
}

#[test]
fn what_no_policy_speaks_of_is_the_profiles_affair() {
    let facts = Facts::of("agent.start");
    let empty = compile(&[]);
    let dev = decide(&empty, None, Profile::Dev, &facts.request());
    assert!(dev.is_allowed());
    assert_eq!(dev.reason, "no policy speaks of `agent.start`, and the dev profile allows that");
    check(
        &[],
        &[],
        &facts,
        "Some(Deny)\nno policy speaks of `agent.start`, and the production profile denies that\n\
         a rule that allows `agent.start`",
    );
    let audit = PolicyRule::new("a", PolicyEffect::Audit, ["*"]);
    let audited =
        decide(&compile(&[policy("g", 0, [audit])]), None, Profile::Dev, &facts.request());
    assert!(audited.is_allowed(), "an audit rule says nothing of whether it may be");
    assert_eq!(audited.matched_rules, ["g/a"]);
}

#[test]
fn numbers_compare_across_kinds_and_exactly() {
    use Comparison::{Equal, Greater, Less};
    let int = PolicyValue::Int;
    let float = PolicyValue::Float;
    for (given, op, bound, want) in [
        (int(3), Greater, float(2.5), true),
        (float(2.5), Less, int(3), true),
        (float(-0.5), Less, int(0), true),
        (float(-0.5), Greater, int(-1), true),
        (float(-0.0), Equal, int(0), true),
        (float(0.1 + 0.2), Equal, float(0.3), false),
        (float(0.1 + 0.2), Greater, float(0.3), true),
        (float(100.00001), Greater, int(100), true),
        (float(100.00001), Equal, int(100), false),
        (float(1.99999), Less, int(2), true),
        (float(2.0_f64.next_down()), Less, int(2), true),
        (float(5e-324), Greater, int(0), true),
        (float(-5e-324), Less, int(0), true),
        (float(-1.5), Less, float(-1.25), true),
        (float(-1.5), Greater, int(-2), true),
        (float(9_007_199_254_740_992.0), Less, int(9_007_199_254_740_993), true),
        (int(i64::MAX), Equal, int(i64::MAX - 1), false),
        (int(i64::MAX), Greater, int(i64::MAX - 1), true),
        (float(f64::NAN), Less, int(1), false),
        (float(f64::INFINITY), Greater, int(1), false),
        (text("3"), Greater, int(2), false),
        (text("2"), Equal, int(2), false),
    ] {
        let rule = when(allow("r", ["x"]), compare("named.n", op, bound.clone()));
        let set = compile(&[policy("p", 0, [rule])]);
        let facts = Facts::of("x").named("n", given.clone());
        let decision = decide(&set, None, Profile::Dev, &facts.request());
        assert_eq!(decision.is_allowed(), want, "{given:?} {op:?} {bound:?}");
    }
}

#[test]
fn what_cannot_be_told_fails_closed() {
    let unknown = [
        Condition::Is(fact("named.missing")),
        Condition::Not(Box::new(Condition::Is(fact("named.missing")))),
        compare("named.t", Comparison::Less, PolicyValue::Int(1)),
        compare("named.t", Comparison::GreaterOrEqual, PolicyValue::Int(1)),
        compare("named.nan", Comparison::NotEqual, PolicyValue::Int(1)),
        Condition::Inexpressible("f(x)".to_owned()),
        Condition::Not(Box::new(Condition::Inexpressible("f(x)".to_owned()))),
    ];
    let facts = Facts::of("x").named("t", text("t")).named("nan", PolicyValue::Float(f64::NAN));
    for condition in unknown {
        for rule in [allow("r", ["x"]), deny("r", ["x"])] {
            let set = compile(&[policy("p", 0, [when(rule, condition.clone())])]);
            let decision = decide(&set, None, Profile::Dev, &facts.request());
            assert!(!decision.is_allowed(), "{condition:?}");
        }
    }
}

#[test]
fn cedar_text_decides_as_written_and_its_errors_fail_closed() {
    let forbid = r#"forbid (principal, action == Action::"sandbox.exec", resource == Resource::"wc")
        when { context["argument.0"].text like "/etc/*" } unless { principal.tier >= 3 };"#;
    let rules = [
        PolicyRule::cedar("f", PolicyEffect::Deny, forbid),
        PolicyRule::cedar(
            "p",
            PolicyEffect::Allow,
            r#"permit (principal, action == Action::"sandbox.exec", resource) when { resource.name like "w*" && context["time.hour"].whole >= 9 };"#,
        ),
    ];
    let set = compile(&[policy("c", 0, rules)]);
    let facts = |argument: Option<PolicyValue>| Facts {
        arguments: vec![argument],
        ..Facts::of("sandbox.exec:wc")
    };
    for (argument, want) in [
        (Some(text("/tmp/a")), true),
        (Some(text("/etc/a")), false),
        (Some(PolicyValue::Int(1)), false),
        (None, false),
    ] {
        let decision = decide(&set, None, Profile::Production, &facts(argument.clone()).request());
        assert_eq!(decision.is_allowed(), want, "{argument:?}: {}", decision.reason);
    }
}

#[test]
fn obligations_are_gathered_and_the_stricter_kept() {
    let rate = |count, per| Obligation::RateLimit { count, per: Duration::from_secs(per) };
    let with = |rule: PolicyRule, obligations: Vec<Obligation>| PolicyRule { obligations, ..rule };
    let log = |level: &str| Obligation::LogLevel(level.to_owned());
    let seconds = |count| Obligation::Timeout(Duration::from_secs(count));
    let set = compile(&[policy(
        "p",
        0,
        [
            with(allow("a", ["x"]), vec![rate(9, 60), rate(99, 3_600), seconds(9), log("info")]),
            with(
                PolicyRule::new("b", PolicyEffect::Audit, ["x"]),
                vec![rate(5, 60), seconds(20), log("debug")],
            ),
            PolicyRule::new("s", PolicyEffect::Shadow(Box::new(PolicyEffect::Deny)), ["x"]),
        ],
    )]);
    let decision = decide(&set, None, Profile::Production, &Facts::of("x").request());
    assert_eq!(decision.obligations, [rate(5, 60), rate(99, 3_600), seconds(9), log("debug")]);
    assert_eq!(decision.matched_rules, ["p/a", "p/b"]);
    assert_eq!(decision.shadow_results, ["p/s: deny"]);
    assert_eq!(decision.evaluated_rules, 3);
}

#[test]
fn a_formula_is_worked_out_and_shown() {
    let formula = |text: &str| Operand::Formula(text.to_owned());
    let rule = when(
        allow("a", ["x"]),
        Condition::All(vec![
            Condition::Compare {
                left: formula("named.name.lower()"),
                op: Comparison::Equal,
                right: Operand::Literal(text("rm")),
            },
            Condition::In { value: fact("named.flag"), set: formula("named.flags.split(\",\")") },
        ]),
    );
    assert_eq!(
        symbiont_policy::when(&rule),
        "`(named.name.lower() == \"rm\") and (named.flag in named.flags.split(\",\"))`"
    );
    let set = compile(&[policy("p", 0, [rule])]);
    let shown = set.cedar_text();
    assert!(shown.contains("(context[\"= named.name.lower()\"] == {text: \"rm\"})"), "{shown}");
    let facts = |name: &str, flag: &str| {
        let facts = Facts::of("x").named("name", text(name)).named("flag", text(flag));
        facts.named("flags", text("f,r"))
    };
    // One that may be part of a text or among a list asks for what Cedar can't tell alone.
    let by_hand = "permit (principal, action, resource) when { context has \"= named.name.lower()\" && \
                   context[\"= named.name.lower()\"].text == \"rm\" && \
                   context[\"= named.flags.split(\\\",\\\")[]\"].items.contains({ text: \"f\" }) };";
    let by_hand = PolicyRule::cedar("a", PolicyEffect::Allow, by_hand);
    let by_hand = compile(&[policy("p", 0, [by_hand])]);
    for (facts, want) in [
        (facts("RM", "f"), true),
        (facts("rmdir", "f"), false),
        (facts("rm", "v"), false),
        (Facts::of("x"), false),
    ] {
        let decision = decide(&set, None, Profile::Production, &facts.request());
        assert_eq!(decision.is_allowed(), want, "{facts:?}");
    }
    for (facts, want) in [(facts("RM", "f"), true), (facts("rmdir", "f"), false)] {
        let decision = decide(&by_hand, None, Profile::Production, &facts.request());
        assert_eq!(decision.is_allowed(), want, "{facts:?}");
    }
}

/// What all formulas of a layer take for one request is bounded, and going beyond it fails closed.
#[test]
fn formulas_have_a_bound_together() {
    let long = text(&"a".repeat(1 << 18));
    let facts = Facts::of("x").named("x", long);
    let rule = |at: usize, effect| {
        let upper = Condition::Compare {
            left: Operand::Formula(format!("named.x.upper().length + {at}")),
            op: Comparison::Greater,
            right: Operand::Literal(PolicyValue::Int(0)),
        };
        when(PolicyRule::new(format!("r{at}"), effect, ["x"]), upper)
    };
    let allowed = |count: usize| {
        let rules: Vec<_> = (0..count).map(|at| rule(at, PolicyEffect::Allow)).collect();
        let set = compile(&[policy("p", 0, rules)]);
        decide(&set, None, Profile::Production, &facts.request()).matched_rules.len()
    };
    assert_eq!(allowed(1), 1);
    let most = allowed(1_000);
    assert!((2..1_000).contains(&most), "{most}");
    // A denial whose condition does not hold, and can no longer be told.
    let spent: Vec<_> = (0..1_000).map(|at| rule(at, PolicyEffect::Audit)).collect();
    let last = Condition::Is(Operand::Formula("zip([named.x], []) != []".to_owned()));
    let denied = |rules: Vec<PolicyRule>| {
        let set = compile(&[policy("p", 0, rules)]);
        decide(&set, None, Profile::Dev, &facts.request()).effect == Some(PolicyEffect::Deny)
    };
    let deny = when(deny("d", ["x"]), last);
    let rules = vec![allow("w", ["x"]), deny];
    assert!(!denied(rules.clone()));
    assert!(denied([spent, rules].concat()));
}

#[test]
fn a_decision_looks_at_the_rules_that_can_match() {
    let rules: Vec<_> = (0..1_000)
        .map(|at| PolicyRule::new(format!("r{at}"), PolicyEffect::Allow, [format!("t:{at}")]))
        .collect();
    let set = compile(&[policy("p", 0, rules)]);
    let decision = decide(&set, None, Profile::Production, &Facts::of("t:7").request());
    assert_eq!((decision.is_allowed(), decision.evaluated_rules), (true, 1));
}

#[test]
fn one_policy_is_evaluated_by_itself() {
    let off = Policy { enabled: false, ..policy("off", 0, [allow("a", ["x"])]) };
    let set =
        compile(&[policy("a", 0, [allow("a", ["x"])]), policy("d", 0, [deny("d", ["x"])]), off]);
    let facts = Facts::of("x");
    let effect = |id| set.evaluate_one(id, &facts.request()).map(|decision| decision.effect);
    assert_eq!(effect("a"), Some(Some(PolicyEffect::Allow)));
    assert_eq!(effect("d"), Some(Some(PolicyEffect::Deny)));
    assert_eq!(effect("off"), Some(None));
    assert_eq!(effect("none"), None);
}

#[test]
fn the_digest_is_of_what_is_said_and_not_of_its_order() {
    let (a, b) = (policy("a", 0, [allow("x", ["x"]), deny("y", ["y"])]), policy("b", 0, []));
    let turned = policy("a", 0, [deny("y", ["y"]), allow("x", ["x"])]);
    let first = compile(&[a.clone(), b.clone()]);
    assert_eq!(first.digest().len(), 64);
    assert_eq!(first.digest(), compile(&[b.clone(), turned]).digest());
    assert_ne!(first.digest(), compile(&[Policy { priority: 1, ..a }, b]).digest());
}
