//! Policies in words, for reasons and for what is missing.

use std::fmt::Write as _;

use symbiont_types::{
    Comparison, Condition, Operand, PolicyEffect, PolicyRule, PolicyValue, PrincipalSelector,
};

use crate::fact;

/// Characters of foreign text that get into a reason.
const MAX_SHOWN: usize = 256;

/// `text` on one line, cut where it is long, with escapes for what can't be seen.
pub(crate) fn shown(text: &str) -> String {
    let mut shown = String::new();
    for (at, next) in text.chars().enumerate() {
        if at == MAX_SHOWN {
            shown.push('…');
            break;
        }
        match next {
            '"' | '\'' => shown.push(next),
            '`' => shown.push_str("\\u{60}"),
            next if next.is_ascii() || next.is_alphanumeric() => shown.extend(next.escape_debug()),
            next => shown.extend(next.escape_unicode()),
        }
    }
    shown
}

pub(crate) fn effect(effect: &PolicyEffect) -> &'static str {
    match effect {
        PolicyEffect::Allow => "allow",
        PolicyEffect::Deny => "deny",
        PolicyEffect::RequireApproval { .. } => "require approval",
        PolicyEffect::Audit => "audit",
        PolicyEffect::Shadow(_) => "shadow",
    }
}

/// When a rule applies to an operation that it covers; empty if always.
pub fn when(rule: &PolicyRule) -> String {
    let mut parts = Vec::new();
    if rule.cedar.is_some() {
        parts.push("its Cedar text holds".to_owned());
    }
    if !rule.principals.is_empty() {
        let each: Vec<_> = rule.principals.iter().take(8).map(selector).collect();
        parts.push(format!("the agent has {}", each.join(" or ")));
    }
    if !rule.resources.is_empty() {
        let each: Vec<_> =
            rule.resources.iter().take(8).map(|glob| format!("`{}`", shown(glob))).collect();
        parts.push(format!("the resource is {}", each.join(" or ")));
    }
    for part in rule.conditions.iter().take(8) {
        let mut text = String::new();
        condition(part, &mut text);
        parts.push(format!("`{}`", shown(&text)));
    }
    parts.join(" and ")
}

fn selector(selector: &PrincipalSelector) -> String {
    match selector {
        PrincipalSelector::Id(id) => format!("the id `{id}`"),
        PrincipalSelector::Name(glob) => format!("the name `{}`", shown(glob)),
        PrincipalSelector::Metadata { key, value } => {
            format!("the metadata `{}` = `{}`", shown(key), shown(value))
        }
    }
}

/// Writes `condition` as an expression, as far as there is room for it.
fn condition(condition: &Condition, text: &mut String) {
    if text.len() > MAX_SHOWN * 4 {
        return;
    }
    match condition {
        Condition::All(parts) => several(parts, " and ", "true", text),
        Condition::Any(parts) => several(parts, " or ", "false", text),
        Condition::Not(part) => {
            text.push_str("not ");
            nested(part, text);
        }
        Condition::Is(value) => operand(value, text),
        Condition::Compare { left, op, right } => {
            operand(left, text);
            text.push_str(match op {
                Comparison::Equal => " == ",
                Comparison::NotEqual => " != ",
                Comparison::Less => " < ",
                Comparison::LessOrEqual => " <= ",
                Comparison::Greater => " > ",
                Comparison::GreaterOrEqual => " >= ",
            });
            operand(right, text);
        }
        Condition::In { value, set } => {
            operand(value, text);
            text.push_str(" in ");
            operand(set, text);
        }
        Condition::Like { value, pattern } => {
            operand(value, text);
            let _ = write!(text, " like {pattern:?}");
        }
        Condition::TierAtLeast(tier) => {
            let _ = write!(text, "agent.tier >= {}", *tier as i64);
        }
        Condition::Has(path) => {
            let _ = write!(text, "has {}", fact::show_path(path));
        }
        Condition::Inexpressible(source) => {
            let _ = write!(text, "(not expressible: {source})");
        }
    }
}

fn several(parts: &[Condition], between: &str, empty: &str, text: &mut String) {
    if parts.is_empty() {
        text.push_str(empty);
    }
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            text.push_str(between);
        }
        nested(part, text);
    }
}

fn nested(part: &Condition, text: &mut String) {
    let brackets = match part {
        Condition::All(parts) | Condition::Any(parts) => !parts.is_empty(),
        Condition::Compare { .. } | Condition::In { .. } | Condition::Like { .. } => true,
        Condition::Not(_)
        | Condition::Is(_)
        | Condition::TierAtLeast(_)
        | Condition::Has(_)
        | Condition::Inexpressible(_) => false,
    };
    if brackets {
        text.push('(');
    }
    condition(part, text);
    if brackets {
        text.push(')');
    }
}

fn operand(operand: &Operand, text: &mut String) {
    match operand {
        Operand::Literal(literal) => value(literal, text),
        Operand::Attribute(path) => text.push_str(&fact::show_path(path)),
        Operand::Formula(formula) => text.push_str(formula),
    }
}

fn value(literal: &PolicyValue, text: &mut String) {
    if text.len() > MAX_SHOWN * 4 {
        return;
    }
    // Writing to a string does not fail.
    let _ = match literal {
        PolicyValue::Null => write!(text, "null"),
        PolicyValue::Bool(flag) => write!(text, "{flag}"),
        PolicyValue::Int(number) => write!(text, "{number}"),
        PolicyValue::Float(number) => write!(text, "{number:?}"),
        PolicyValue::String(string) => write!(text, "\"{string}\""),
        PolicyValue::List(values) => {
            text.push('[');
            for (at, each) in values.iter().enumerate() {
                text.push_str(if at > 0 { ", " } else { "" });
                value(each, text);
            }
            write!(text, "]")
        }
        PolicyValue::Record(members) => {
            text.push('{');
            for (at, (name, each)) in members.iter().enumerate() {
                let _ = write!(text, "{}{name}: ", if at > 0 { ", " } else { "" });
                value(each, text);
            }
            write!(text, "}}")
        }
    };
}
