//! What can be wrong with policies, each with a stable code.

use std::collections::HashSet;

use symbiont_types::{
    Condition, Obligation, Operand, Policy, PolicyEffect, PolicyIssue, PolicyRule,
    PrincipalSelector,
};

use symbiont_dsl::formula::Formula;

use crate::compile;
use crate::fact::MAX_DEPTH;
use crate::handwritten::{Handwritten, NO_FORMULA};

/// Rules in one set.
pub const MAX_RULES: usize = 10_000;
/// Bytes of text in one rule, all its texts together.
pub const MAX_RULE_BYTES: usize = 64 * 1024;
/// Bytes of one glob.
pub const MAX_GLOB_BYTES: usize = 1_024;
/// Conditions within conditions.
pub const MAX_CONDITION_DEPTH: usize = MAX_DEPTH;
/// Conditions and values in one rule.
pub const MAX_CONDITION_PARTS: usize = 4_096;
/// Operations, principals and resources in one rule.
pub const MAX_SELECTORS: usize = 1_024;
const MAX_ID_BYTES: usize = 128;

/// Gathers what is wrong.
#[derive(Default)]
pub(crate) struct Issues(pub(crate) Vec<PolicyIssue>);

impl Issues {
    fn add(&mut self, code: &str, path: &str, message: impl Into<String>, suggestion: &str) {
        self.0.push(PolicyIssue {
            code: code.to_owned(),
            path: path.to_owned(),
            message: message.into(),
            span: None,
            suggestion: (!suggestion.is_empty()).then(|| suggestion.to_owned()),
        });
    }

    fn id(&mut self, id: &str, path: &str) {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:/".contains(&byte);
        if id.is_empty() || id.len() > MAX_ID_BYTES || !id.bytes().all(plain) {
            self.add(
                "P0101",
                path,
                "this is no id",
                "an id is 1 to 128 of letters, digits, `_`, `-`, `.`, `:` and `/`",
            );
        }
    }

    fn glob(&mut self, glob: &str, path: &str) {
        if glob.len() > MAX_GLOB_BYTES {
            let message = format!("the glob has {} bytes, more than {MAX_GLOB_BYTES}", glob.len());
            self.add("P0106", path, message, "shorten it");
        }
    }
}

/// Everything that is wrong with `policies`, and what was read of hand-written rules on the way.
pub(crate) fn policies(policies: &[Policy]) -> (Issues, Vec<Vec<Option<Handwritten>>>) {
    let mut issues = Issues::default();
    let count: usize = policies.iter().map(|policy| policy.rules.len()).sum();
    if count > MAX_RULES || policies.len() > MAX_RULES {
        let message = format!("{count} rules in {} policies: too many", policies.len());
        issues.add("P0103", "policies", message, "at most 10000 of either make a set");
        return (issues, Vec::new());
    }
    let mut ids = HashSet::new();
    let mut read = Vec::new();
    for (at, policy) in policies.iter().enumerate() {
        let path = format!("policies[{at}]");
        issues.id(&policy.id, &format!("{path}.id"));
        if !ids.insert(&policy.id) {
            issues.add(
                "P0102",
                &format!("{path}.id"),
                "another policy of the set has this id",
                "give each policy an id of its own",
            );
        }
        if policy.name.len() > MAX_RULE_BYTES || policy.description.len() > MAX_RULE_BYTES {
            issues.add("P0104", &path, "the name or description is too long", "keep it to 64 KiB");
        }
        let mut rule_ids = HashSet::new();
        let mut read_rules = Vec::new();
        for (at, rule) in policy.rules.iter().enumerate() {
            let path = format!("{path}.rules[{at}]");
            if !rule_ids.insert(&rule.id) {
                issues.add(
                    "P0102",
                    &format!("{path}.id"),
                    "another rule of the policy has this id",
                    "give each rule an id of its own",
                );
            }
            read_rules.push(self::rule(&mut issues, rule, &path));
        }
        read.push(read_rules);
    }
    (issues, read)
}

fn rule(issues: &mut Issues, rule: &PolicyRule, path: &str) -> Option<Handwritten> {
    issues.id(&rule.id, &format!("{path}.id"));
    effect(issues, &rule.effect, &format!("{path}.effect"));
    // The nesting comes first: what comes after may walk the conditions.
    let mut parts = Some(0);
    for (at, condition) in rule.conditions.iter().enumerate() {
        let size = compile::size(condition, MAX_CONDITION_DEPTH);
        if size.is_none() {
            issues.add(
                "P0107",
                &format!("{path}.conditions[{at}]"),
                format!("the condition nests deeper than {MAX_CONDITION_DEPTH}"),
                "flatten it, or split the rule",
            );
        }
        parts = parts.zip(size).map(|(parts, size): (usize, usize)| parts + size);
    }
    let parts = parts?;
    if parts > MAX_CONDITION_PARTS {
        let message = format!("the conditions have {parts} parts, more than {MAX_CONDITION_PARTS}");
        issues.add("P0108", &format!("{path}.conditions"), message, "split the rule");
        return None;
    }
    let selectors = rule.operations.len() + rule.principals.len() + rule.resources.len();
    if selectors > MAX_SELECTORS || rule.obligations.len() > MAX_SELECTORS {
        let message = format!(
            "the rule has {selectors} operations, principals and resources and {} obligations: \
             too many",
            rule.obligations.len()
        );
        issues.add("P0105", path, message, "at most 1024 of either make a rule; split it");
        return None;
    }
    let bytes = bytes(rule);
    if bytes > MAX_RULE_BYTES {
        let message = format!("the rule's texts have {bytes} bytes, more than {MAX_RULE_BYTES}");
        issues.add("P0104", path, message, "shorten or split the rule");
        return None;
    }
    for (at, glob) in rule.operations.iter().enumerate() {
        let path = format!("{path}.operations[{at}]");
        issues.glob(glob, &path);
        if glob.is_empty() {
            issues.add("P0109", &path, "the operation is empty", "`*` stands for every operation");
        }
    }
    for (at, glob) in rule.resources.iter().enumerate() {
        issues.glob(glob, &format!("{path}.resources[{at}]"));
    }
    for (at, selector) in rule.principals.iter().enumerate() {
        match selector {
            PrincipalSelector::Name(glob) => {
                issues.glob(glob, &format!("{path}.principals[{at}]"));
            }
            PrincipalSelector::Id(_) | PrincipalSelector::Metadata { .. } => {}
        }
    }
    for (at, part) in rule.conditions.iter().enumerate() {
        condition(issues, part, &format!("{path}.conditions[{at}]"));
    }
    for (at, obligation) in rule.obligations.iter().enumerate() {
        self::obligation(issues, obligation, &format!("{path}.obligations[{at}]"));
    }
    let Some(text) = &rule.cedar else {
        if rule.operations.is_empty() {
            issues.add(
                "P0109",
                &format!("{path}.operations"),
                "the rule names no operation",
                "`*` stands for every operation",
            );
        }
        return None;
    };
    if selectors > 0 || !rule.conditions.is_empty() {
        issues.add(
            "P0111",
            path,
            "a rule in Cedar has selectors or conditions beside its text",
            "say it in the text; operations, principals, resources and conditions stay empty",
        );
    }
    match Handwritten::read(text, &rule.effect) {
        Ok(read) => Some(read),
        Err(fault) => {
            issues.0.push(PolicyIssue {
                code: fault.code.to_owned(),
                path: format!("{path}.cedar"),
                message: fault.message,
                span: fault.span,
                suggestion: fault.suggestion,
            });
            None
        }
    }
}

fn effect(issues: &mut Issues, effect: &PolicyEffect, path: &str) {
    match effect {
        PolicyEffect::Allow | PolicyEffect::Deny | PolicyEffect::Audit => {}
        PolicyEffect::RequireApproval { approvers, quorum, ttl } => {
            if *quorum == 0 {
                issues.add("P0112", path, "an approval by nobody", "the quorum is at least 1");
            }
            if !approvers.is_empty()
                && usize::try_from(*quorum).map_or(true, |q| q > approvers.len())
            {
                issues.add(
                    "P0112",
                    path,
                    format!("{quorum} have to approve, and only {} may", approvers.len()),
                    "name more approvers, or none so that anyone may",
                );
            }
            if ttl.is_zero() {
                issues.add("P0112", path, "the request for approval stands for no time", "");
            }
        }
        PolicyEffect::Shadow(inner) => match **inner {
            PolicyEffect::Shadow(_) => {
                issues.add("P0113", path, "a shadow of a shadow", "one shadow is enough");
            }
            PolicyEffect::Allow
            | PolicyEffect::Deny
            | PolicyEffect::Audit
            | PolicyEffect::RequireApproval { .. } => self::effect(issues, inner, path),
        },
    }
}

fn obligation(issues: &mut Issues, obligation: &Obligation, path: &str) {
    match obligation {
        Obligation::RateLimit { per, .. } if per.is_zero() => {
            issues.add("P0114", path, "a rate limit in no time", "name a time such as a minute");
        }
        Obligation::Timeout(time) if time.is_zero() => {
            issues.add("P0114", path, "a timeout of no time", "deny the operation instead");
        }
        Obligation::RateLimit { .. }
        | Obligation::Timeout(_)
        | Obligation::LogLevel(_)
        | Obligation::Redact(_)
        | Obligation::Notify(_) => {}
    }
}

fn condition(issues: &mut Issues, part: &Condition, path: &str) {
    let mut operand = |operand: &Operand| match operand {
        Operand::Attribute(segments) if segments.is_empty() => {
            issues.add("P0115", path, "a fact without a path", "name one, such as `agent.tier`");
        }
        Operand::Attribute(_) | Operand::Literal(_) => {}
        Operand::Formula(text) => {
            if let Err(error) = Formula::read(text) {
                let message = format!("`{}` is no formula: {error}", crate::words::shown(text));
                issues.add(NO_FORMULA, path, message, "a formula computes, and calls nobody");
            }
        }
    };
    match part {
        Condition::All(parts) | Condition::Any(parts) => {
            for part in parts {
                condition(issues, part, path);
            }
        }
        Condition::Not(part) => condition(issues, part, path),
        Condition::Is(value) => operand(value),
        Condition::Compare { left, right, .. } | Condition::In { value: left, set: right } => {
            operand(left);
            operand(right);
        }
        Condition::Like { value, pattern } => {
            operand(value);
            issues.glob(pattern, path);
        }
        Condition::Has(segments) => {
            if segments.is_empty() {
                issues.add("P0115", path, "a fact without a path", "name one, such as `user.id`");
            }
        }
        Condition::TierAtLeast(_) | Condition::Inexpressible(_) => {}
    }
}

/// The bytes of all texts of a rule whose conditions are known not to nest too deep.
fn bytes(rule: &PolicyRule) -> usize {
    let mut writer = crate::digest::Counter::default();
    crate::digest::write_rule(rule, &mut writer);
    writer.bytes
}
