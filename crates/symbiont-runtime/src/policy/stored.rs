//! Policies as they are kept.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use symbiont_types as types;

/// A kept policy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Policy {
    id: String,
    name: String,
    description: String,
    rules: Vec<Rule>,
    priority: u32,
    enabled: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Rule {
    id: String,
    effect: Effect,
    operations: Vec<String>,
    principals: Vec<Principal>,
    resources: Vec<String>,
    conditions: Vec<Condition>,
    obligations: Vec<Obligation>,
    reason: String,
    overridable: bool,
    cedar: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Effect {
    Allow,
    Deny,
    RequireApproval { approvers: Vec<String>, quorum: u32, ttl: Duration },
    Audit,
    Shadow(Box<Effect>),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Principal {
    Id(types::AgentId),
    Name(String),
    Metadata { key: String, value: String },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Value {
    Null,
    Bool(bool),
    Int(i64),
    /// By its bits: JSON has no NaN.
    Float(u64),
    String(String),
    List(Vec<Value>),
    Record(BTreeMap<String, Value>),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Operand {
    Literal(Value),
    Attribute(Vec<String>),
    Formula(String),
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
    Is(Operand),
    Compare { left: Operand, op: Comparison, right: Operand },
    In { value: Operand, set: Operand },
    Like { value: Operand, pattern: String },
    TierAtLeast(types::SecurityTier),
    Has(Vec<String>),
    Inexpressible(String),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Obligation {
    RateLimit { count: u32, per: Duration },
    Timeout(Duration),
    LogLevel(String),
    Redact(Vec<String>),
    Notify(String),
}

/// Conversions of enums whose variants carry the same on both sides.
macro_rules! mirror {
    ($here:ident, $there:ident { $($variant:ident $(($($inner:ident),*))? $({$($field:ident),*})?),* $(,)? }) => {
        impl From<&types::$there> for $here {
            fn from(value: &types::$there) -> Self {
                use types::$there as There;
                match value {
                    $(There::$variant $(($($inner),*))? $({$($field),*})? =>
                        Self::$variant $(($(Keep::keep($inner)),*))? $({$($field: Keep::keep($field)),*})?,)*
                }
            }
        }

        impl From<$here> for types::$there {
            fn from(value: $here) -> Self {
                match value {
                    $($here::$variant $(($($inner),*))? $({$($field),*})? =>
                        Self::$variant $(($(Restore::restore($inner)),*))? $({$($field: Restore::restore($field)),*})?,)*
                }
            }
        }

        impl Keep<$here> for types::$there {
            fn keep(&self) -> $here {
                self.into()
            }
        }

        impl Restore<types::$there> for $here {
            fn restore(self) -> types::$there {
                self.into()
            }
        }
    };
}

/// What a value is kept as.
trait Keep<T> {
    fn keep(&self) -> T;
}

/// What a kept value was.
trait Restore<T> {
    fn restore(self) -> T;
}

macro_rules! plain {
    ($($ty:ty),*) => {$(
        impl Keep<$ty> for $ty { fn keep(&self) -> $ty { self.clone() } }
        impl Restore<$ty> for $ty { fn restore(self) -> $ty { self } }
    )*};
}

plain!(bool, u32, i64, String, Duration, types::AgentId, types::SecurityTier);

impl Keep<u64> for f64 {
    fn keep(&self) -> u64 {
        self.to_bits()
    }
}

impl Restore<f64> for u64 {
    fn restore(self) -> f64 {
        f64::from_bits(self)
    }
}

impl<A: Keep<B>, B> Keep<Vec<B>> for Vec<A> {
    fn keep(&self) -> Vec<B> {
        self.iter().map(Keep::keep).collect()
    }
}

impl<A, B: Restore<A>> Restore<Vec<A>> for Vec<B> {
    fn restore(self) -> Vec<A> {
        self.into_iter().map(Restore::restore).collect()
    }
}

impl<A: Keep<B>, B> Keep<Box<B>> for Box<A> {
    fn keep(&self) -> Box<B> {
        Box::new((**self).keep())
    }
}

impl<A, B: Restore<A>> Restore<Box<A>> for Box<B> {
    fn restore(self) -> Box<A> {
        Box::new((*self).restore())
    }
}

impl<A: Keep<B>, B> Keep<BTreeMap<String, B>> for BTreeMap<String, A> {
    fn keep(&self) -> BTreeMap<String, B> {
        self.iter().map(|(key, value)| (key.clone(), value.keep())).collect()
    }
}

impl<A, B: Restore<A>> Restore<BTreeMap<String, A>> for BTreeMap<String, B> {
    fn restore(self) -> BTreeMap<String, A> {
        self.into_iter().map(|(key, value)| (key, value.restore())).collect()
    }
}

mirror!(Effect, PolicyEffect {
    Allow, Deny, RequireApproval { approvers, quorum, ttl }, Audit, Shadow(inner),
});
mirror!(Principal, PrincipalSelector { Id(id), Name(name), Metadata { key, value } });
mirror!(Value, PolicyValue {
    Null, Bool(value), Int(value), Float(value), String(value), List(values), Record(values),
});
mirror!(Operand, Operand { Literal(value), Attribute(path), Formula(text) });
mirror!(Comparison, Comparison { Equal, NotEqual, Less, LessOrEqual, Greater, GreaterOrEqual });
mirror!(Condition, Condition {
    All(all), Any(any), Not(inner), Is(operand), Compare { left, op, right }, In { value, set },
    Like { value, pattern }, TierAtLeast(tier), Has(path), Inexpressible(text),
});
mirror!(Obligation, Obligation {
    RateLimit { count, per }, Timeout(after), LogLevel(level), Redact(fields), Notify(channel),
});

impl Keep<Rule> for types::PolicyRule {
    fn keep(&self) -> Rule {
        Rule {
            id: self.id.clone(),
            effect: self.effect.keep(),
            operations: self.operations.clone(),
            principals: self.principals.keep(),
            resources: self.resources.clone(),
            conditions: self.conditions.keep(),
            obligations: self.obligations.keep(),
            reason: self.reason.clone(),
            overridable: self.overridable,
            cedar: self.cedar.clone(),
        }
    }
}

impl Restore<types::PolicyRule> for Rule {
    fn restore(self) -> types::PolicyRule {
        types::PolicyRule {
            id: self.id,
            effect: self.effect.restore(),
            operations: self.operations,
            principals: self.principals.restore(),
            resources: self.resources,
            conditions: self.conditions.restore(),
            obligations: self.obligations.restore(),
            reason: self.reason,
            overridable: self.overridable,
            cedar: self.cedar,
        }
    }
}

impl From<&types::Policy> for Policy {
    fn from(policy: &types::Policy) -> Self {
        Self {
            id: policy.id.clone(),
            name: policy.name.clone(),
            description: policy.description.clone(),
            rules: policy.rules.keep(),
            priority: policy.priority,
            enabled: policy.enabled,
        }
    }
}

impl From<Policy> for types::Policy {
    fn from(policy: Policy) -> Self {
        Self {
            id: policy.id,
            name: policy.name,
            description: policy.description,
            rules: policy.rules.restore(),
            priority: policy.priority,
            enabled: policy.enabled,
        }
    }
}
