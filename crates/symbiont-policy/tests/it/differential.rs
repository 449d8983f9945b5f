//! Random policies and requests, decided by Cedar and by a second opinion that never heard of it.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use symbiont_policy::{PolicySet, Profile, decide};
use symbiont_types::{
    Comparison, Condition, Operand, Policy, PolicyEffect, PolicyRule, PolicyValue,
    PrincipalSelector, ResourceLimits, SecurityTier,
};

use crate::given::{Facts, agent, fact, path, policy};

// ---- The second opinion: straight over the conditions, with `None` for unknown.

fn glob(pattern: &[char], text: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('*', rest)) => (0..=text.len()).any(|from| glob(rest, &text[from..])),
        Some((next, rest)) => text.first() == Some(next) && glob(rest, &text[1..]),
    }
}

fn like(pattern: &str, text: &str) -> bool {
    glob(&pattern.chars().collect::<Vec<_>>(), &text.chars().collect::<Vec<_>>())
}

fn find(path: &[String], facts: &Facts) -> Option<PolicyValue> {
    let text = |text: &str| Some(PolicyValue::String(text.to_owned()));
    let joined = path.join(".");
    match joined.as_str() {
        "operation" => text(&facts.operation),
        "resource" => text(facts.operation.split_once(':')?.1),
        "agent.name" => text(&facts.name),
        "agent.tier" => Some(PolicyValue::Int(facts.tier as i64)),
        "limits.cpu_cores" => Some(PolicyValue::Float(facts.limits.as_ref()?.cpu_cores)),
        "time.hour" => Some(PolicyValue::Int(facts.now.rem_euclid(86_400) / 3_600)),
        _ => match path[0].as_str() {
            "argument" => facts.arguments.get(path[1].parse::<usize>().ok()?)?.clone(),
            "named" => match path.len() {
                2 => facts.named.get(&path[1]).cloned(),
                _ => match facts.named.get(&path[1])? {
                    PolicyValue::Record(members) => members.get(&path[2]).cloned(),
                    _ => None,
                },
            },
            "agent" => text(facts.agent_metadata.get(&path[2])?),
            "metadata" => text(facts.metadata.get(&path[1])?),
            root => match facts.ambient.get(root)? {
                PolicyValue::Record(members) => members.get(&path[1]).cloned(),
                _ => None,
            },
        },
    }
}

/// How two numbers compare, exactly; nothing for what is beyond 64 bits, or no number.
fn order(left: &PolicyValue, right: &PolicyValue) -> Option<Ordering> {
    let within =
        |number: f64| (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&number);
    let mixed = |whole: i64, number: f64| {
        let next: i128 = format!("{:.0}", number.trunc()).parse().expect("it is whole");
        i128::from(whole)
            .cmp(&next)
            .then(0.0_f64.partial_cmp(&number.fract()).expect("it is finite"))
    };
    match (left, right) {
        (PolicyValue::Int(left), PolicyValue::Int(right)) => Some(left.cmp(right)),
        (PolicyValue::Float(left), PolicyValue::Float(right))
            if within(*left) && within(*right) =>
        {
            left.partial_cmp(right)
        }
        (PolicyValue::Int(left), PolicyValue::Float(right)) if within(*right) => {
            Some(mixed(*left, *right))
        }
        (PolicyValue::Float(left), PolicyValue::Int(right)) if within(*left) => {
            Some(mixed(*right, *left).reverse())
        }
        _ => None,
    }
}

fn sound(value: &PolicyValue) -> bool {
    match value {
        PolicyValue::Float(_) => order(value, value).is_some(),
        PolicyValue::List(values) => values.iter().all(sound),
        PolicyValue::Record(members) => members.values().all(sound),
        _ => true,
    }
}

fn kind(value: &PolicyValue) -> u8 {
    match value {
        PolicyValue::Null => 0,
        PolicyValue::Bool(_) => 1,
        PolicyValue::Int(_) | PolicyValue::Float(_) => 2,
        PolicyValue::String(_) => 3,
        PolicyValue::List(_) => 4,
        PolicyValue::Record(_) => 5,
    }
}

fn same(a: &PolicyValue, b: &PolicyValue) -> bool {
    match (a, b) {
        (PolicyValue::List(a), PolicyValue::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (PolicyValue::Record(a), PolicyValue::Record(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && same(a.1, b.1))
        }
        _ if kind(a) == 2 && kind(b) == 2 => order(a, b) == Some(Ordering::Equal),
        _ => a == b,
    }
}

fn equal(a: &PolicyValue, b: &PolicyValue) -> Option<bool> {
    if !sound(a) || !sound(b) {
        return None;
    }
    match (kind(a), kind(b)) {
        (0, _) | (_, 0) => Some(kind(a) == kind(b)),
        (left, right) if left == right => Some(same(a, b)),
        _ => None,
    }
}

fn any_of(parts: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut known = Some(false);
    for part in parts {
        match part {
            Some(true) => return Some(true),
            Some(false) => {}
            None => known = None,
        }
    }
    known
}

/// The formulas that are drawn.
const FORMULAS: [&str; 5] =
    ["named.a", "len(named.a)", "argument[0].x", "user.x.upper()", "[named.a, now().minute]"];

fn computed(text: &str, facts: &Facts) -> Option<PolicyValue> {
    match text {
        "named.a" => find(&path("named.a"), facts),
        "len(named.a)" => {
            let length = match find(&path("named.a"), facts)? {
                PolicyValue::String(text) => text.chars().count(),
                PolicyValue::List(values) => values.len(),
                PolicyValue::Record(members) => members.len(),
                _ => return None,
            };
            Some(PolicyValue::Int(i64::try_from(length).expect("it is short")))
        }
        "argument[0].x" => match facts.arguments.first()?.as_ref()? {
            PolicyValue::Record(members) => members.get("x").cloned(),
            _ => None,
        },
        "user.x.upper()" => match find(&path("user.x"), facts)? {
            PolicyValue::String(text) => Some(PolicyValue::String(text.to_uppercase())),
            _ => None,
        },
        _ => {
            // A time is counted in nanoseconds, and far from now there are none.
            facts.now.checked_mul(1_000_000_000)?;
            let minute = PolicyValue::Int(facts.now.rem_euclid(3_600) / 60);
            Some(PolicyValue::List(vec![find(&path("named.a"), facts)?, minute]))
        }
    }
}

fn truth(condition: &Condition, facts: &Facts) -> Option<bool> {
    let value = |operand: &Operand| match operand {
        Operand::Literal(value) => Some(value.clone()),
        Operand::Attribute(path) => find(path, facts),
        Operand::Formula(text) => computed(text, facts),
    };
    match condition {
        Condition::All(parts) => {
            any_of(parts.iter().map(|part| truth(part, facts).map(|t| !t))).map(|t| !t)
        }
        Condition::Any(parts) => any_of(parts.iter().map(|part| truth(part, facts))),
        Condition::Not(part) => truth(part, facts).map(|truth| !truth),
        Condition::Is(operand) => match value(operand)? {
            PolicyValue::Bool(flag) => Some(flag),
            _ => None,
        },
        Condition::Compare { left, op, right } => {
            let (left, right) = (value(left)?, value(right)?);
            match op {
                Comparison::Equal => equal(&left, &right),
                Comparison::NotEqual => equal(&left, &right).map(|same| !same),
                Comparison::Less => Some(order(&left, &right)?.is_lt()),
                Comparison::LessOrEqual => Some(order(&left, &right)?.is_le()),
                Comparison::Greater => Some(order(&left, &right)?.is_gt()),
                Comparison::GreaterOrEqual => Some(order(&left, &right)?.is_ge()),
            }
        }
        Condition::In { value: needle, set } => match (value(needle)?, value(set)?) {
            (needle, PolicyValue::List(values)) => {
                let list = PolicyValue::List(values.clone());
                if !sound(&needle) || !sound(&list) {
                    return None;
                }
                any_of(values.iter().map(|value| equal(&needle, value)))
            }
            (PolicyValue::String(needle), PolicyValue::String(text)) => {
                Some(text.contains(&needle))
            }
            (PolicyValue::String(needle), PolicyValue::Record(members)) => {
                let whole = PolicyValue::Record(members.clone());
                sound(&whole).then(|| members.contains_key(&needle))
            }
            _ => None,
        },
        Condition::Like { value: operand, pattern } => match value(operand)? {
            PolicyValue::String(text) => Some(like(pattern, &text)),
            _ => None,
        },
        Condition::TierAtLeast(tier) => Some(facts.tier >= *tier),
        Condition::Has(path) => Some(find(path, facts).is_some()),
        Condition::Inexpressible(_) => None,
    }
}

fn names(rule: &PolicyRule, operation: &str) -> bool {
    rule.operations.iter().any(|pattern| {
        if pattern.contains(':') {
            like(pattern, operation)
        } else {
            like(pattern, operation.split(':').next().unwrap_or_default())
        }
    })
}

fn applies(rule: &PolicyRule, facts: &Facts) -> bool {
    let principal = rule.principals.is_empty()
        || rule.principals.iter().any(|selector| match selector {
            PrincipalSelector::Id(id) => *id == facts.agent,
            PrincipalSelector::Name(pattern) => like(pattern, &facts.name),
            PrincipalSelector::Metadata { key, value } => {
                facts.agent_metadata.get(key) == Some(value)
            }
        });
    let resource = rule.resources.is_empty()
        || facts.operation.split_once(':').is_some_and(|(_, resource)| {
            rule.resources.iter().any(|pattern| like(pattern, resource))
        });
    let inner = match &rule.effect {
        PolicyEffect::Shadow(inner) => inner,
        other => other,
    };
    let all = truth(&Condition::All(rule.conditions.clone()), facts);
    let holds = if *inner == PolicyEffect::Allow { all == Some(true) } else { all != Some(false) };
    names(rule, &facts.operation) && principal && resource && holds
}

/// How the layers weigh: what each has of denies, approvals and allows.
fn opinion(
    global: &[Policy],
    own: Option<&[Policy]>,
    profile: Profile,
    facts: &Facts,
) -> &'static str {
    let own = own.filter(|own| own.iter().any(|policy| policy.enabled));
    let (mut deny, mut approval, mut allow) = (false, false, false);
    let (mut global_says, mut covered) = (false, false);
    for (layer, policies) in [Some(global), own].into_iter().enumerate() {
        let rules: Vec<_> = policies
            .unwrap_or_default()
            .iter()
            .filter(|policy| policy.enabled)
            .flat_map(|policy| policy.rules.iter().map(move |rule| (policy.priority, rule)))
            .collect();
        for &(priority, rule) in &rules {
            let speaks = matches!(
                rule.effect,
                PolicyEffect::Allow | PolicyEffect::Deny | PolicyEffect::RequireApproval { .. }
            );
            covered |= layer == 0 && speaks && names(rule, &facts.operation);
            let overridden = rule.overridable
                && rules.iter().any(|&(other, allow)| {
                    other > priority && allow.effect == PolicyEffect::Allow && applies(allow, facts)
                });
            if !speaks || !applies(rule, facts) {
                continue;
            }
            match rule.effect {
                PolicyEffect::Deny if overridden => {}
                PolicyEffect::Deny => deny = true,
                PolicyEffect::Allow => allow = true,
                _ => approval = true,
            }
            global_says |= layer == 0 && !(rule.effect == PolicyEffect::Deny && overridden);
        }
    }
    if deny || (covered && !global_says) {
        "deny"
    } else if approval {
        "approval"
    } else if allow || (own.is_none() && profile == Profile::Dev) {
        "allow"
    } else {
        "deny"
    }
}

fn verdict(effect: Option<&PolicyEffect>) -> &'static str {
    match effect {
        Some(PolicyEffect::Allow) => "allow",
        Some(PolicyEffect::Deny) => "deny",
        Some(PolicyEffect::RequireApproval { .. }) => "approval",
        other => panic!("a decision with {other:?}"),
    }
}

// ---- What is drawn.

fn value() -> impl Strategy<Value = PolicyValue> {
    let plain = prop_oneof![
        Just(PolicyValue::Null),
        any::<bool>().prop_map(PolicyValue::Bool),
        (-2i64..3).prop_map(PolicyValue::Int),
        prop_oneof![Just(i64::MAX), Just(i64::MAX - 1), Just(i64::MIN)].prop_map(PolicyValue::Int),
        prop_oneof![
            Just(1.0),
            Just(-0.0),
            Just(0.5),
            Just(-0.5),
            Just(0.1 + 0.2),
            Just(0.3),
            Just(1.999_99),
            Just(f64::NAN),
            Just(f64::INFINITY),
            Just(1e300),
            Just(-9.2e18),
            Just(5e-324),
            Just(-1e-300),
            Just(1.0_f64.next_up()),
            Just(1.0_f64.next_down()),
            Just(-0.5_f64.next_up()),
            Just(0.300_01),
            Just(9_223_372_036_854_774_784.0),
            Just(-9_223_372_036_854_775_808.0)
        ]
        .prop_map(PolicyValue::Float),
        prop_oneof![Just("a"), Just("ab"), Just(""), Just("x"), Just("b\"*\\\n\u{0}é"), Just("10")]
            .prop_map(|text| PolicyValue::String(text.to_owned())),
    ];
    plain.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(PolicyValue::List),
            inner.prop_map(|value| PolicyValue::Record(BTreeMap::from([("x".to_owned(), value)]))),
        ]
    })
}

fn operand() -> impl Strategy<Value = Operand> {
    prop_oneof![
        2 => value().prop_map(Operand::Literal),
        3 => attribute().prop_map(Operand::Attribute),
        1 => prop::sample::select(FORMULAS.to_vec())
            .prop_map(|text| Operand::Formula(text.to_owned())),
    ]
}

fn attribute() -> impl Strategy<Value = Vec<String>> {
    prop_oneof![
        6 => prop::sample::select(vec!["named.a", "named.b", "argument.0", "named.a.x"]),
        1 => prop::sample::select(vec![
            "operation", "resource", "agent.name", "agent.tier", "agent.metadata.team",
            "metadata.k", "limits.cpu_cores", "time.hour", "user.x", "user.y",
        ]),
    ]
    .prop_map(path)
}

fn pattern() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["*", "a*", "*b", "a", "", "*\\*", "b\"*é"]).prop_map(str::to_owned)
}

fn condition() -> impl Strategy<Value = Condition> {
    let comparison = prop::sample::select(vec![
        Comparison::Equal,
        Comparison::NotEqual,
        Comparison::Less,
        Comparison::LessOrEqual,
        Comparison::Greater,
        Comparison::GreaterOrEqual,
    ]);
    let plain = prop_oneof![
        1 => operand().prop_map(Condition::Is),
        4 => (operand(), comparison, operand())
            .prop_map(|(left, op, right)| Condition::Compare { left, op, right }),
        3 => (operand(), operand()).prop_map(|(value, set)| Condition::In { value, set }),
        1 => (operand(), pattern()).prop_map(|(value, pattern)| Condition::Like { value, pattern }),
        1 => prop::sample::select(SecurityTier::ALL.to_vec()).prop_map(Condition::TierAtLeast),
        1 => attribute().prop_map(Condition::Has),
        1 => Just(Condition::Inexpressible("f(x)".to_owned())),
    ];
    plain.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Condition::All),
            vec(inner.clone(), 0..3).prop_map(Condition::Any),
            inner.prop_map(|part| Condition::Not(Box::new(part))),
        ]
    })
}

fn effect() -> impl Strategy<Value = PolicyEffect> {
    let approval = PolicyEffect::RequireApproval {
        approvers: Vec::new(),
        quorum: 1,
        ttl: Duration::from_secs(1),
    };
    prop_oneof![
        3 => Just(PolicyEffect::Allow),
        2 => Just(PolicyEffect::Deny),
        1 => Just(approval),
        1 => Just(PolicyEffect::Audit),
        1 => Just(PolicyEffect::Shadow(Box::new(PolicyEffect::Deny))),
    ]
}

fn rule() -> impl Strategy<Value = PolicyRule> {
    let operations = prop::sample::select(vec![
        "fs.read",
        "fs.read:/a",
        "fs.read:*",
        "fs.*",
        "*",
        "*:/a",
        "fs.write",
        "fs.read:",
        "*.read",
    ]);
    let principal = prop_oneof![
        Just(PrincipalSelector::Id(agent(1))),
        Just(PrincipalSelector::Id(agent(2))),
        Just(PrincipalSelector::Name("s*".to_owned())),
        prop::sample::select(vec!["red", "blue"]).prop_map(|value| PrincipalSelector::Metadata {
            key: "team".to_owned(),
            value: value.to_owned()
        }),
    ];
    let resource = prop::sample::select(vec!["/a", "/*", "*"]).prop_map(str::to_owned);
    (
        effect(),
        vec(operations, 1..3),
        prop_oneof![2 => Just(Vec::new()), 1 => vec(principal, 1..3)],
        prop_oneof![3 => Just(Vec::new()), 1 => vec(resource, 1..3)],
        vec(condition(), 0..3),
        any::<bool>(),
    )
        .prop_map(|(effect, operations, principals, resources, conditions, overridable)| {
            PolicyRule {
                principals,
                resources,
                conditions,
                overridable,
                ..PolicyRule::new("r", effect, operations)
            }
        })
}

fn policies(prefix: &'static str) -> impl Strategy<Value = Vec<Policy>> {
    let one = (vec(rule(), 0..4), 0u32..3, prop::bool::weighted(0.9));
    vec(one, 0..4).prop_map(move |drawn| {
        let make = |(at, (mut rules, priority, enabled)): (usize, (Vec<PolicyRule>, u32, bool))| {
            for (number, rule) in rules.iter_mut().enumerate() {
                rule.id = format!("r{number}");
            }
            Policy { enabled, ..policy(&format!("{prefix}{at}"), priority, rules) }
        };
        drawn.into_iter().enumerate().map(make).collect()
    })
}

fn facts() -> impl Strategy<Value = Facts> {
    let operation =
        prop::sample::select(vec!["fs.read", "fs.read:/a", "fs.read:", "fs.write:/b", "x"]);
    (
        operation,
        option::of(value()),
        option::of(value()),
        option::of(value()),
        option::of(prop::sample::select(vec![0.5, 2.0, f64::NAN])),
        option::of(Just("a")),
        prop::sample::select(SecurityTier::ALL.to_vec()),
        any::<bool>(),
        prop_oneof![Just(0), Just(1_700_000_000), Just(i64::MIN), Just(i64::MAX), any::<i64>()],
    )
        .prop_map(|(operation, a, b, argument, cores, metadata, tier, team, now)| {
            let mut facts = Facts { tier, now, ..Facts::of(operation) };
            let note = |name: &str, value: PolicyValue| (name.to_owned(), value);
            facts.named.extend(a.map(|a| note("a", a)));
            facts.named.extend(b.clone().map(|b| note("b", b)));
            facts.arguments.push(argument);
            facts.limits =
                cores.map(|cpu_cores| ResourceLimits { cpu_cores, ..Default::default() });
            facts.metadata.extend(metadata.map(|text| ("k".to_owned(), text.to_owned())));
            if let Some(b) = b {
                facts
                    .ambient
                    .insert("user".to_owned(), PolicyValue::Record(BTreeMap::from([note("x", b)])));
            }
            if !team {
                facts.agent_metadata = HashMap::new();
            }
            facts
        })
}

fn profile() -> impl Strategy<Value = Profile> {
    prop::sample::select(vec![Profile::Production, Profile::Dev])
}

fn compiled(policies: &[Policy]) -> PolicySet {
    PolicySet::compile(policies).unwrap_or_else(|issues| panic!("{issues:#?}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cedar_and_a_second_opinion_agree(
        global in policies("g"),
        own in option::of(policies("o")),
        profile in profile(),
        facts in facts(),
    ) {
        let (set, own_set) = (compiled(&global), own.as_deref().map(compiled));
        let decision = decide(&set, own_set.as_ref(), profile, &facts.request());
        let want = opinion(&global, own.as_deref(), profile, &facts);
        prop_assert_eq!(verdict(decision.effect.as_ref()), want, "{:#?}\n{}", decision, set.cedar_text());
        prop_assert!(!decision.reason.is_empty());
    }

    #[test]
    fn one_condition_is_read_the_same_by_both(condition in condition(), facts in facts()) {
        let truth = truth(&condition, &facts);
        for (effect, want) in [
            (PolicyEffect::Allow, truth == Some(true)),
            (PolicyEffect::Deny, truth != Some(false)),
        ] {
            let rule = PolicyRule {
                conditions: vec![condition.clone()],
                ..PolicyRule::new("r", effect, ["*"])
            };
            let set = compiled(&[policy("p", 0, [rule])]);
            let decision = set.evaluate_one("p", &facts.request()).expect("the policy is there");
            prop_assert_eq!(decision.effect.is_some(), want, "{}", set.cedar_text());
        }
    }

    #[test]
    fn an_unrelated_policy_changes_nothing(
        global in policies("g"), own in policies("o"), profile in profile(), facts in facts(),
    ) {
        let unrelated = |id| {
            let effects = [PolicyEffect::Deny, PolicyEffect::Allow];
            let rules = effects.map(|effect| {
                PolicyRule::new(format!("r{}", effect == PolicyEffect::Deny), effect, ["other.thing"])
            });
            policy(id, 9, rules)
        };
        // An own set that decides nothing would begin to.
        let own = [own, vec![policy("own", 0, [])]].concat();
        let before = decide(&compiled(&global), Some(&compiled(&own)), profile, &facts.request());
        let global = [global, vec![unrelated("u")]].concat();
        let own = [own, vec![unrelated("v")]].concat();
        let mut after = decide(&compiled(&global), Some(&compiled(&own)), profile, &facts.request());
        after.bundle_digest.clone_from(&before.bundle_digest);
        prop_assert_eq!(before, after);
    }

    #[test]
    fn a_further_deny_never_allows(
        global in policies("g"), own in option::of(policies("o")), profile in profile(),
        facts in facts(), mut deny in rule(), in_global in any::<bool>(),
    ) {
        deny.effect = PolicyEffect::Deny;
        let rank = |policies: &[Policy], own: Option<&[Policy]>| {
            let own = own.map(compiled);
            let decision = decide(&compiled(policies), own.as_ref(), profile, &facts.request());
            ["deny", "approval", "allow"].iter().position(|&one| one == verdict(decision.effect.as_ref()))
        };
        let before = rank(&global, own.as_deref());
        let more = vec![policy("more", 1, [deny])];
        let after = if in_global {
            rank(&[global, more].concat(), own.as_deref())
        } else {
            rank(&global, Some(&[own.unwrap_or_default(), more].concat()))
        };
        prop_assert!(after <= before);
    }

    #[test]
    fn the_own_layer_never_widens(
        global in policies("g"), own in policies("o"), facts in facts(),
    ) {
        let (global, own) = (compiled(&global), compiled(&own));
        let alone = decide(&global, None, Profile::Dev, &facts.request());
        let both = decide(&global, Some(&own), Profile::Dev, &facts.request());
        let rank = |effect: &Option<PolicyEffect>| {
            ["deny", "approval", "allow"].iter().position(|&one| one == verdict(effect.as_ref()))
        };
        prop_assert!(rank(&both.effect) <= rank(&alone.effect));
    }

    #[test]
    fn a_literal_is_data(text in any::<String>(), other in any::<String>()) {
        let equals = |literal: &str| PolicyRule {
            conditions: vec![Condition::Compare {
                left: fact("named.x"),
                op: Comparison::Equal,
                right: Operand::Literal(PolicyValue::String(literal.to_owned())),
            }],
            ..PolicyRule::new("r", PolicyEffect::Allow, ["*"])
        };
        let set = compiled(&[policy("p", 0, [equals(&text)])]);
        for given in [&text, &other] {
            let facts = Facts::of("x").named("x", PolicyValue::String(given.clone()));
            let decision = set.evaluate_one("p", &facts.request()).expect("the policy is there");
            prop_assert_eq!(decision.is_allowed(), *given == text);
        }
        // What is shown is one policy and says the same.
        let shown = set.cedar_text();
        let again = PolicyRule::cedar("r", PolicyEffect::Allow, shown.clone());
        let again = compiled(&[policy("p", 0, [again])]);
        for given in [&text, &other] {
            let facts = Facts::of("x").named("x", PolicyValue::String(given.clone()));
            let decision = again.evaluate_one("p", &facts.request()).expect("the policy is there");
            prop_assert_eq!(decision.is_allowed(), *given == text, "{}", shown);
        }
    }

    #[test]
    fn compile_takes_any_text(
        text in any::<String>(), mut rule in rule(),
        cedar in prop::sample::select(vec!["", "permit(principal, action, resource)", "permit(principal, action, resource) when {"]),
    ) {
        rule.id.clone_from(&text);
        rule.operations.push(text.clone());
        rule.resources.push(text.clone());
        let cedar = PolicyRule::cedar("c", PolicyEffect::Allow, format!("{cedar}{text}"));
        let given = [policy(&text, 0, [rule.clone(), cedar])];
        drop(PolicySet::compile(&given).map(|set| set.cedar_text()));
        rule.id = "r".to_owned();
        let given = [policy("p", 0, [rule])];
        let facts = Facts::of(&text);
        if let Ok(set) = PolicySet::compile(&given) {
            decide(&set, None, Profile::Dev, &facts.request());
        }
    }
}
