//! Decides what agents may do: policies and a request in, a decision with its reasons out.

use std::collections::{BTreeMap, HashMap};

use symbiont_types::{
    AgentId, Policy, PolicyDecision, PolicyIssue, PolicyValue, ResourceLimits, SecurityTier,
};

/// The facts of a request; everything a condition may speak of.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Who asks.
    pub agent_id: AgentId,
    /// The agent's name.
    pub agent_name: &'a str,
    /// The agent's metadata.
    pub agent_metadata: &'a HashMap<String, String>,
    /// The tier that it runs under.
    pub tier: SecurityTier,
    /// What it wants to do, such as `sandbox.exec:wc`, `fs.read:/workspace/a` or `agent.start`.
    pub operation: &'a str,
    /// The call's arguments by position.
    pub arguments: &'a [PolicyValue],
    /// The call's arguments by name.
    pub named: &'a BTreeMap<String, PolicyValue>,
    /// What it would take, where that matters.
    pub limits: Option<&'a ResourceLimits>,
    /// Further facts, for conditions on `metadata.K`.
    pub metadata: &'a HashMap<String, String>,
    /// The program's ambient names: `context`, `request`, `resource`, `user`.
    pub ambient: &'a BTreeMap<String, PolicyValue>,
    /// The time of the request in seconds since 1970, UTC.
    pub now_unix: i64,
}

/// What happens to an operation that no policy speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Profile {
    /// It is denied.
    Production,
    /// It is allowed, and the reason says that this is why.
    Dev,
}

/// The compiled policies of one layer.
#[derive(Debug, Clone)]
pub struct PolicySet {
    policies: Vec<Policy>,
    digest: String,
}

impl PolicySet {
    /// Compiles `policies`, or says everything that is wrong with them.
    pub fn compile(policies: &[Policy]) -> Result<Self, Vec<PolicyIssue>> {
        Ok(Self { policies: policies.to_vec(), digest: String::new() })
    }

    /// The SHA-256 of the policies in a canonical form, in hexadecimal digits.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The policies, as they were given.
    pub fn policies(&self) -> &[Policy] {
        &self.policies
    }

    /// Whether no policy in it is enabled, so that it decides nothing.
    pub fn is_empty(&self) -> bool {
        !self.policies.iter().any(|policy| policy.enabled)
    }

    /// The whole set as readable text of the Cedar policy language.
    pub fn cedar_text(&self) -> String {
        String::new()
    }

    /// What one policy says by itself; `None` if there is no such policy, and a decision without
    /// effect if none of its rules applies.
    pub fn evaluate_one(&self, policy_id: &str, request: &Request<'_>) -> Option<PolicyDecision> {
        let _ = request;
        self.policies.iter().find(|policy| policy.id == policy_id).map(|_| refused())
    }
}

/// Decides over layers: the global one first, then the agent's own.
pub fn decide(
    global: &PolicySet,
    own: Option<&PolicySet>,
    profile: Profile,
    request: &Request<'_>,
) -> PolicyDecision {
    let _ = (global, own, profile, request);
    refused()
}

/// Everything that is wrong with `policies`.
pub fn validate(policies: &[Policy]) -> Vec<PolicyIssue> {
    PolicySet::compile(policies).err().unwrap_or_default()
}

fn refused() -> PolicyDecision {
    PolicyDecision {
        effect: Some(symbiont_types::PolicyEffect::Deny),
        policy_id: None,
        matched_rules: Vec::new(),
        reason: "policies cannot be evaluated in this build".into(),
        missing: Vec::new(),
        obligations: Vec::new(),
        bundle_digest: String::new(),
        evaluated_rules: 0,
        duration: std::time::Duration::ZERO,
        shadow_results: Vec::new(),
        decision_id: None,
        valid_until: None,
    }
}
