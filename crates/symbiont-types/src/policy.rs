//! Policies: what may be done, by whom, under which conditions, and what was decided.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use crate::{AgentId, ResourceLimits, SecurityContext, SecurityTier};

/// A named set of rules.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// The policy's id: 1 to 128 of letters, digits, `_`, `-`, `.`, `:` and `/`.
    pub id: String,
    /// A name for people.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Its rules; the order does not matter.
    pub rules: Vec<PolicyRule>,
    /// Breaks ties between rules of one layer; the greater wins.
    pub priority: u32,
    /// A policy that is not enabled decides nothing.
    pub enabled: bool,
}

/// What a rule says about the operations that it matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyEffect {
    /// They may happen.
    Allow,
    /// They may not.
    Deny,
    /// They may happen once a person has approved.
    RequireApproval {
        /// Who may approve; empty means any approver.
        approvers: Vec<String>,
        /// How many have to.
        quorum: u32,
        /// How long the request stands.
        ttl: Duration,
    },
    /// They are recorded with this rule's name; whether they may happen is for others to say.
    Audit,
    /// What the rule would have said is recorded, and has no effect.
    Shadow(Box<PolicyEffect>),
}

/// Which agents a rule speaks of. A rule with several speaks of those that match any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrincipalSelector {
    /// The agent with this id.
    Id(AgentId),
    /// Agents of this name; `*` stands for any text.
    Name(String),
    /// Agents whose metadata has this value under this key.
    Metadata {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
}

/// A value that a condition compares.
#[derive(Debug, Clone, PartialEq)]
pub enum PolicyValue {
    /// No value.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number with a fraction; compared to four decimal places.
    Float(f64),
    /// Text.
    String(String),
    /// Several values.
    List(Vec<PolicyValue>),
    /// Values by name.
    Record(BTreeMap<String, PolicyValue>),
}

/// What a condition speaks of.
#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    /// A value written in the rule.
    Literal(PolicyValue),
    /// A fact about the request, by its path:
    ///
    /// - `operation` the whole operation, such as `fs.read:/workspace/a`; `resource` its part after
    ///   the first colon
    /// - `argument.N` the call's argument at position N, from 0; `named.X` its argument named X. Each
    ///   argument of a host call has both, however it was written, and a path is the absolute one in
    ///   the sandbox
    /// - `agent.id`, `agent.name`, `agent.tier` (1 to 3), `agent.metadata.K`
    /// - `metadata.K` of the [`PolicyContext`]
    /// - `limits.memory_mb`, `limits.cpu_cores`, `limits.disk_io_mbps`, `limits.network_io_mbps`
    ///   of `resource_requirements`
    /// - `context.X`, `request.X`, `resource.X`, `user.X`: the program's ambient names
    /// - `time.hour` (0 to 23), `time.weekday` (1 Monday to 7 Sunday), `time.unix` (seconds), UTC
    ///
    /// A path that leads nowhere makes an allowing rule not match and a denying rule match.
    Attribute(Vec<String>),
    /// A value that is worked out of such facts: an expression of the agent language without effects,
    /// such as `argument[0].lower()` or `now() - 1h`. One that ends in an error is as a path that leads
    /// nowhere.
    Formula(String),
}

/// How two values are compared. Ordering is defined between numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// Equal.
    Equal,
    /// Not equal.
    NotEqual,
    /// Less.
    Less,
    /// Less or equal.
    LessOrEqual,
    /// Greater.
    Greater,
    /// Greater or equal.
    GreaterOrEqual,
}

/// A condition over the facts of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// Every one of them holds; true when empty.
    All(Vec<Condition>),
    /// One of them holds; false when empty.
    Any(Vec<Condition>),
    /// It does not hold.
    Not(Box<Condition>),
    /// A truth value.
    Is(Operand),
    /// Two values compare so.
    Compare {
        /// The left one.
        left: Operand,
        /// How.
        op: Comparison,
        /// The right one.
        right: Operand,
    },
    /// A value is among others, or a text is part of another.
    In {
        /// The value.
        value: Operand,
        /// The list, or the text.
        set: Operand,
    },
    /// A text has this form; `*` stands for any text.
    Like {
        /// The text.
        value: Operand,
        /// The form.
        pattern: String,
    },
    /// The agent's tier is at least this.
    TierAtLeast(SecurityTier),
    /// The fact is there at all.
    Has(Vec<String>),
    /// Something that can't be expressed, in the words it was written in. It fails closed: a rule
    /// that allows never matches, a rule that denies always does.
    Inexpressible(String),
}

/// What has to happen along with an allowed operation.
#[derive(Debug, Clone, PartialEq)]
pub enum Obligation {
    /// At most `count` such operations by this agent in any `per`.
    RateLimit {
        /// How many.
        count: u32,
        /// In which time.
        per: Duration,
    },
    /// The operation may take no longer.
    Timeout(Duration),
    /// It is recorded at this level.
    LogLevel(String),
    /// These fields are not shown.
    Redact(Vec<String>),
    /// Someone is told, by name of a channel.
    Notify(String),
}

/// One rule of a policy.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyRule {
    /// The rule's id, unique in its policy.
    pub id: String,
    /// What it says.
    pub effect: PolicyEffect,
    /// Of which operations: `fs.read`, `tool.call:git.*`, `net.connect:*:443`. `*` stands for any
    /// text. An operation named without its part after the colon covers every such operation.
    pub operations: Vec<String>,
    /// By which agents; empty means any.
    pub principals: Vec<PrincipalSelector>,
    /// On which resources, the operation's part after the first colon, `*` standing for any text;
    /// empty means any.
    pub resources: Vec<String>,
    /// Under which conditions; all have to hold.
    pub conditions: Vec<Condition>,
    /// What has to happen along with it.
    pub obligations: Vec<Obligation>,
    /// Why, for whoever is told of the decision.
    pub reason: String,
    /// Whether an allowing rule of a greater priority beats this denying one.
    pub overridable: bool,
    /// The rule as text of the Cedar policy language. It is then the whole rule: the selectors and
    /// conditions above are empty, and `effect` is that of the text.
    pub cedar: Option<String>,
}

impl PolicyRule {
    /// A rule that says `effect` of `operations`, by any agent, unconditionally.
    pub fn new<S: Into<String>>(
        id: impl Into<String>,
        effect: PolicyEffect,
        operations: impl IntoIterator<Item = S>,
    ) -> Self {
        Self {
            id: id.into(),
            effect,
            operations: operations.into_iter().map(Into::into).collect(),
            principals: Vec::new(),
            resources: Vec::new(),
            conditions: Vec::new(),
            obligations: Vec::new(),
            reason: String::new(),
            overridable: false,
            cedar: None,
        }
    }

    /// A rule in Cedar's own words; `effect` must be what `text` says (`permit` is
    /// [`PolicyEffect::Allow`], `forbid` is [`PolicyEffect::Deny`]).
    pub fn cedar(id: impl Into<String>, effect: PolicyEffect, text: impl Into<String>) -> Self {
        Self { cedar: Some(text.into()), ..Self::new(id, effect, [] as [String; 0]) }
    }
}

/// The facts of a request that the caller knows.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyContext {
    /// Who asks.
    pub agent_id: AgentId,
    /// What for, such as `fs.read:/workspace/a`.
    pub operation: String,
    /// What it would take, where that matters.
    pub resource_requirements: Option<ResourceLimits>,
    /// The security it would run under.
    pub security_context: SecurityContext,
    /// Further facts, for conditions on `metadata.K`.
    pub metadata: HashMap<String, String>,
}

/// What was decided, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyDecision {
    /// `Some` is the effect; `None` says that no rule applies.
    pub effect: Option<PolicyEffect>,
    /// The policy that decided, if one did.
    pub policy_id: Option<String>,
    /// The rules that decided, as `policy/rule`.
    pub matched_rules: Vec<String>,
    /// Why, in words.
    pub reason: String,
    /// What would have changed the decision, in words.
    pub missing: Vec<String>,
    /// What has to happen along with it.
    pub obligations: Vec<Obligation>,
    /// A digest of all policies that were in force.
    pub bundle_digest: String,
    /// How many rules were looked at.
    pub evaluated_rules: usize,
    /// How long it took.
    pub duration: Duration,
    /// What shadow rules would have said, as `policy/rule: effect`.
    pub shadow_results: Vec<String>,
    /// The record of this decision in the audit trail, for one that is handed on after it was
    /// recorded. A decision just made has none: whoever acts on it records it, together with what
    /// comes of it.
    pub decision_id: Option<crate::AuditId>,
    /// Until when it may be reused, if it may.
    pub valid_until: Option<SystemTime>,
}

impl PolicyDecision {
    /// Whether the rules allow the operation. It may go ahead if `obligations` can be carried out.
    pub fn is_allowed(&self) -> bool {
        matches!(self.effect, Some(PolicyEffect::Allow))
    }
}

/// A fault or a doubt that validation found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyIssue {
    /// A stable code, such as `P0103`.
    pub code: String,
    /// Where, such as `policies[0].rules[2].operations[0]`.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// The bytes of the source that it is about, where there is a source.
    pub span: Option<(usize, usize)>,
    /// What would mend it.
    pub suggestion: Option<String>,
}

/// Two rules of which one makes the other pointless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleConflict {
    /// One, as `policy/rule`.
    pub rule_a: String,
    /// The other.
    pub rule_b: String,
    /// An operation that both speak of.
    pub witness: String,
}

/// What validation found of an agent's config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyValidationResult {
    /// Whether there are no errors.
    pub valid: bool,
    /// What has to be mended.
    pub errors: Vec<PolicyIssue>,
    /// What should be looked at.
    pub warnings: Vec<PolicyIssue>,
    /// What the agent may do in effect, in words, a line each.
    pub effective_permissions: Vec<String>,
    /// Operations that need a person's approval.
    pub required_approvals: Vec<String>,
    /// Rules in conflict.
    pub conflicts: Vec<RuleConflict>,
    /// A digest of all policies that were in force.
    pub bundle_digest: String,
}
