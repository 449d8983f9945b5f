//! Requests and policies for tests.

use std::collections::{BTreeMap, HashMap};

use symbiont_policy::{PolicySet, Request};
use symbiont_types::{
    AgentId, Comparison, Condition, Operand, Policy, PolicyRule, PolicyValue, ResourceLimits,
    SecurityTier,
};

/// The facts of a request, owned.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) agent: AgentId,
    pub(crate) name: String,
    pub(crate) agent_metadata: HashMap<String, String>,
    pub(crate) tier: SecurityTier,
    pub(crate) operation: String,
    pub(crate) arguments: Vec<Option<PolicyValue>>,
    pub(crate) named: BTreeMap<String, PolicyValue>,
    pub(crate) limits: Option<ResourceLimits>,
    pub(crate) metadata: HashMap<String, String>,
    pub(crate) ambient: BTreeMap<String, PolicyValue>,
    pub(crate) now: i64,
}

pub(crate) fn agent(number: u8) -> AgentId {
    format!("00000000-0000-0000-0000-0000000000{number:02x}").parse().expect("it is a UUID")
}

impl Facts {
    pub(crate) fn of(operation: &str) -> Self {
        Self {
            agent: agent(1),
            name: "scribe".to_owned(),
            agent_metadata: HashMap::from([("team".to_owned(), "red".to_owned())]),
            tier: SecurityTier::Tier2,
            operation: operation.to_owned(),
            arguments: Vec::new(),
            named: BTreeMap::new(),
            limits: None,
            metadata: HashMap::new(),
            ambient: BTreeMap::new(),
            // Thursday, the first of January 1970, 10:00.
            now: 36_000,
        }
    }

    pub(crate) fn named(mut self, name: &str, value: PolicyValue) -> Self {
        self.named.insert(name.to_owned(), value);
        self
    }

    pub(crate) fn request(&self) -> Request<'_> {
        Request {
            agent_id: self.agent,
            agent_name: &self.name,
            agent_metadata: &self.agent_metadata,
            tier: self.tier,
            operation: &self.operation,
            arguments: &self.arguments,
            named: &self.named,
            limits: self.limits.as_ref(),
            metadata: &self.metadata,
            ambient: &self.ambient,
            now_unix: self.now,
        }
    }
}

pub(crate) fn policy(id: &str, priority: u32, rules: impl Into<Vec<PolicyRule>>) -> Policy {
    Policy {
        id: id.to_owned(),
        name: String::new(),
        description: String::new(),
        rules: rules.into(),
        priority,
        enabled: true,
    }
}

#[track_caller]
pub(crate) fn compile(policies: &[Policy]) -> PolicySet {
    PolicySet::compile(policies).unwrap_or_else(|issues| panic!("{issues:#?}"))
}

pub(crate) fn text(text: &str) -> PolicyValue {
    PolicyValue::String(text.to_owned())
}

pub(crate) fn path(path: &str) -> Vec<String> {
    path.split('.').map(str::to_owned).collect()
}

pub(crate) fn fact(at: &str) -> Operand {
    Operand::Attribute(path(at))
}

pub(crate) fn compare(at: &str, op: Comparison, value: PolicyValue) -> Condition {
    Condition::Compare { left: fact(at), op, right: Operand::Literal(value) }
}
