//! The digest of policies, over a form in which every value says how long it is.

use aws_lc_rs::digest::{Context, SHA256};
use symbiont_types::{
    Condition, Obligation, Operand, Policy, PolicyEffect, PolicyRule, PolicyValue,
    PrincipalSelector,
};

/// Takes the canonical form, piece by piece.
pub(crate) trait Sink {
    /// What comes next, or how many.
    fn number(&mut self, number: u64);
    fn bytes(&mut self, bytes: &[u8]);

    fn text(&mut self, text: &str) {
        self.count(text.len());
        self.bytes(text.as_bytes());
    }

    fn count(&mut self, count: usize) {
        self.number(u64::try_from(count).expect("a length fits 64 bits"));
    }
}

impl Sink for Context {
    fn number(&mut self, number: u64) {
        self.update(&number.to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }
}

/// Counts the bytes of texts.
#[derive(Default)]
pub(crate) struct Counter {
    pub(crate) bytes: usize,
}

impl Sink for Counter {
    fn number(&mut self, _: u64) {}

    fn bytes(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
    }
}

/// The digest of `policies`, whose order and whose rules' order do not matter.
pub(crate) fn of(policies: &[Policy]) -> String {
    let mut context = Context::new(&SHA256);
    context.text("symbiont policies 1");
    let mut sorted: Vec<_> = policies.iter().collect();
    sorted.sort_by(|a, b| a.id.cmp(&b.id));
    context.count(sorted.len());
    for policy in sorted {
        context.text(&policy.id);
        context.text(&policy.name);
        context.text(&policy.description);
        context.number(u64::from(policy.priority));
        context.number(u64::from(policy.enabled));
        let mut rules: Vec<_> = policy.rules.iter().collect();
        rules.sort_by(|a, b| a.id.cmp(&b.id));
        context.count(rules.len());
        for rule in rules {
            write_rule(rule, &mut context);
        }
    }
    hex(context)
}

/// The digest of the policies of two layers.
pub(crate) fn of_layers(global: &str, own: &str) -> String {
    let mut context = Context::new(&SHA256);
    context.text("symbiont policy layers 1");
    context.text(global);
    context.text(own);
    hex(context)
}

fn hex(context: Context) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    let digest = context.finish();
    digest.as_ref().iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

pub(crate) fn write_rule(rule: &PolicyRule, to: &mut impl Sink) {
    to.text(&rule.id);
    write_effect(&rule.effect, to);
    texts(&rule.operations, to);
    to.count(rule.principals.len());
    for selector in &rule.principals {
        match selector {
            PrincipalSelector::Id(id) => {
                to.number(1);
                to.bytes(id.as_uuid().as_bytes());
            }
            PrincipalSelector::Name(glob) => {
                to.number(2);
                to.text(glob);
            }
            PrincipalSelector::Metadata { key, value } => {
                to.number(3);
                to.text(key);
                to.text(value);
            }
        }
    }
    texts(&rule.resources, to);
    conditions(&rule.conditions, to);
    to.count(rule.obligations.len());
    for obligation in &rule.obligations {
        match obligation {
            Obligation::RateLimit { count, per } => {
                to.number(1);
                to.number(u64::from(*count));
                time(*per, to);
            }
            Obligation::Timeout(after) => {
                to.number(2);
                time(*after, to);
            }
            Obligation::LogLevel(level) => {
                to.number(3);
                to.text(level);
            }
            Obligation::Redact(fields) => {
                to.number(4);
                texts(fields, to);
            }
            Obligation::Notify(channel) => {
                to.number(5);
                to.text(channel);
            }
        }
    }
    to.text(&rule.reason);
    to.number(u64::from(rule.overridable));
    to.number(u64::from(rule.cedar.is_some()));
    to.text(rule.cedar.as_deref().unwrap_or_default());
}

fn write_effect(effect: &PolicyEffect, to: &mut impl Sink) {
    // Shadows in shadows are refused elsewhere, which may be later.
    let mut effect = effect;
    while let PolicyEffect::Shadow(inner) = effect {
        to.number(5);
        effect = inner;
    }
    match effect {
        PolicyEffect::Allow => to.number(1),
        PolicyEffect::Deny => to.number(2),
        PolicyEffect::RequireApproval { approvers, quorum, ttl } => {
            to.number(3);
            texts(approvers, to);
            to.number(u64::from(*quorum));
            time(*ttl, to);
        }
        PolicyEffect::Audit => to.number(4),
        PolicyEffect::Shadow(_) => unreachable!("the loop above ends at another effect"),
    }
}

fn time(time: std::time::Duration, to: &mut impl Sink) {
    to.number(time.as_secs());
    to.number(u64::from(time.subsec_nanos()));
}

fn texts(texts: &[String], to: &mut impl Sink) {
    to.count(texts.len());
    for text in texts {
        to.text(text);
    }
}

fn conditions(parts: &[Condition], to: &mut impl Sink) {
    to.count(parts.len());
    for part in parts {
        condition(part, to);
    }
}

fn condition(part: &Condition, to: &mut impl Sink) {
    match part {
        Condition::All(parts) => {
            to.number(1);
            conditions(parts, to);
        }
        Condition::Any(parts) => {
            to.number(2);
            conditions(parts, to);
        }
        Condition::Not(part) => {
            to.number(3);
            condition(part, to);
        }
        Condition::Is(value) => {
            to.number(4);
            operand(value, to);
        }
        Condition::Compare { left, op, right } => {
            to.number(5);
            to.number(*op as u64);
            operand(left, to);
            operand(right, to);
        }
        Condition::In { value, set } => {
            to.number(6);
            operand(value, to);
            operand(set, to);
        }
        Condition::Like { value, pattern } => {
            to.number(7);
            operand(value, to);
            to.text(pattern);
        }
        Condition::TierAtLeast(tier) => {
            to.number(8);
            to.number(*tier as u64);
        }
        Condition::Has(path) => {
            to.number(9);
            texts(path, to);
        }
        Condition::Inexpressible(text) => {
            to.number(10);
            to.text(text);
        }
    }
}

fn operand(operand: &Operand, to: &mut impl Sink) {
    match operand {
        Operand::Literal(literal) => {
            to.number(1);
            value(literal, to);
        }
        Operand::Attribute(path) => {
            to.number(2);
            texts(path, to);
        }
        Operand::Formula(text) => {
            to.number(3);
            to.text(text);
        }
    }
}

fn value(literal: &PolicyValue, to: &mut impl Sink) {
    match literal {
        PolicyValue::Null => to.number(1),
        PolicyValue::Bool(flag) => {
            to.number(2);
            to.number(u64::from(*flag));
        }
        PolicyValue::Int(number) => {
            to.number(3);
            to.number(number.cast_unsigned());
        }
        PolicyValue::Float(number) => {
            to.number(4);
            to.number(number.to_bits());
        }
        PolicyValue::String(text) => {
            to.number(5);
            to.text(text);
        }
        PolicyValue::List(values) => {
            to.number(6);
            to.count(values.len());
            for each in values {
                value(each, to);
            }
        }
        PolicyValue::Record(members) => {
            to.number(7);
            to.count(members.len());
            for (name, each) in members {
                to.text(name);
                value(each, to);
            }
        }
    }
}
