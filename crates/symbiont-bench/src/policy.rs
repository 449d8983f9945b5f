//! Decisions, beside the bare Cedar authorizer over one policy with the same condition.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use cedar_policy::{Authorizer, Context, Decision, Entities, Request};
use symbiont_runtime::{
    AgentId, Comparison, Condition, DefaultPolicyEngine, HashMap, Operand, Policy, PolicyEffect,
    PolicyEngineConfig, PolicyGate, PolicyRule, PolicyValue, Profile, Question,
};

use crate::table::{Peer, Rows};
use crate::{Scale, median_micros};

pub(crate) async fn measure(scale: Scale, rows: &mut Rows<'_>) {
    let count = scale.of(20_000, 200);
    let size = || Operand::Attribute(vec!["named".to_owned(), "size".to_owned()]);
    let computed = || Operand::Formula("max(named.size, 1) + 1".to_owned());
    for (rules, left, name) in [
        (1, size(), "decision, 1 rule, p50"),
        (100, size(), "decision, 100 rules, p50"),
        (1000, size(), "decision, 1,000 rules, p50"),
        (1, computed(), "decision, 1 rule that computes, p50"),
    ] {
        let outcome = decisions(rules, &left, count).await;
        let outcome = outcome.and_then(|value| {
            Ok((value, Some(Peer::new("Cedar authorizer, 1 policy", bare(count)?))))
        });
        rows.add(name, "us", format!("{count} decisions"), outcome);
    }
}

/// The median time of a decision, in microseconds, among `rules` rules of which one speaks of the
/// operation and every one has a condition on `left`.
async fn decisions(rules: usize, left: &Operand, count: usize) -> Result<f64> {
    let rule = |at: usize| PolicyRule {
        conditions: vec![Condition::Compare {
            left: left.clone(),
            op: Comparison::Less,
            right: Operand::Literal(PolicyValue::Int(100)),
        }],
        ..PolicyRule::new(format!("r{at}"), PolicyEffect::Allow, [format!("tool.call:t{at}")])
    };
    let policy = Policy {
        id: "bench".to_owned(),
        name: String::new(),
        description: String::new(),
        rules: (0..rules).map(rule).collect(),
        priority: 0,
        enabled: true,
    };
    let engine = DefaultPolicyEngine::new(PolicyEngineConfig {
        profile: Profile::Production,
        policies: vec![policy],
        ..PolicyEngineConfig::default()
    })
    .await?;
    let sized = |size| BTreeMap::from([("size".to_owned(), PolicyValue::Int(size))]);
    let (small, large, nothing, metadata) = (sized(7), sized(700), BTreeMap::new(), HashMap::new());
    let operation = format!("tool.call:t{}", rules / 2);
    let question = |operation, named| Question {
        agent_id: AgentId::new(),
        operation,
        arguments: &[],
        named,
        limits: None,
        metadata: &metadata,
        ambient: &nothing,
        own_policies: true,
    };
    let (allowed, denied) = (question(&operation, &small), question(&operation, &large));
    ensure!(!engine.decide(&denied).is_allowed(), "a condition that does not hold was ignored");
    let unnamed = question("tool.call:none", &small);
    ensure!(!engine.decide(&unnamed).is_allowed(), "an operation that no rule names was allowed");
    median_micros(count, || {
        let decision = engine.decide(&allowed);
        ensure!(decision.is_allowed(), "denied: {}", decision.reason);
        Ok(())
    })
}

/// The same of the bare authorizer, its request made beforehand.
fn bare(count: usize) -> Result<f64> {
    let policies: cedar_policy::PolicySet =
        r#"permit(principal, action == Action::"tool.call", resource)
        when { context.operation == "tool.call:t0" && context has size && context.size < 100 };"#
            .parse()?;
    let context = Context::from_pairs([
        ("operation".to_owned(), r#""tool.call:t0""#.parse()?),
        ("size".to_owned(), "7".parse()?),
    ])?;
    let request = Request::new(
        r#"Agent::"a""#.parse()?,
        r#"Action::"tool.call""#.parse()?,
        r#"Resource::"t0""#.parse()?,
        context,
        None,
    )?;
    let (authorizer, nothing) = (Authorizer::new(), Entities::empty());
    median_micros(count, || {
        let answer = authorizer.is_authorized(&request, &policies, &nothing);
        ensure!(answer.decision() == Decision::Allow, "the bare authorizer denied");
        Ok(())
    })
}
