//! Decides what agents may do: policies and a request in, a decision with its reasons out.
//!
//! Policies are compiled once into a [`PolicySet`]; [`decide`] then says of one request what a
//! global set and the agent's own come to. Cedar's authorizer says which rules match, over an index
//! that leaves out the rules which name other operations or other agents. What follows from the
//! rules that match is plain code in `decide.rs`, because Cedar knows permit and forbid and our
//! rules have more to say.
//!
//! # What holds
//!
//! - Same policies, same request, same decision: no clock, no files, no randomness.
//! - What can't be told fails closed. A fact that is missing, a comparison of what doesn't compare
//!   and an error of Cedar's make an allowing rule not match and any other rule match.
//! - Values of different kinds don't compare, except that nothing but null equals null. Numbers
//!   compare exactly, whole ones and others. What is not finite or beyond 64 bits, or
//!   nests deeper than 64, compares with nothing.
//! - A rule's texts are data: they reach Cedar as literals of a syntax tree.
//! - What a condition computes ([`Operand::Formula`](symbiont_types::Operand::Formula)) is worked out by
//!   the agent language's own evaluator before Cedar is asked. All formulas of a layer have a bound in
//!   steps for one request; one that goes beyond it, or ends in an error, can't be told.
//! - Selectors (operations, principals, resources) are no conditions: an agent without a label is
//!   not of that label, and an operation without a part after the colon is on no resource.
//!
//! # Rules in Cedar's own words
//!
//! A rule may be the text of one static Cedar policy. It speaks of:
//!
//! - `principal`: `Agent::"<agent id>"`, with `principal.name`, `principal.tier` (1 to 3) and
//!   `principal.metadata`, a record of texts;
//! - `action`: `Action::"<the operation's name>"`, what stands before its first colon;
//! - `resource`: `Resource::"<the rest>"`, with the same text as `resource.name`; empty if the
//!   operation has no colon;
//! - `context`: the facts that [`Operand::Attribute`](symbiont_types::Operand::Attribute) lists,
//!   each an attribute named by its whole path, and `action`, the operation's name. In a path, a
//!   backslash stands before a dot, backslash, bracket, parenthesis or space within a segment. The
//!   value is a record with one member that is named for its kind: `text`, `flag` (true or false),
//!   `whole` together with `part` (ten-thousandths), `list` (its elements by position), `record`
//!   or `null`. For a list, the attribute with `[]` after its path has the set of elements as
//!   `items`. The attribute `= argument[0].lower()` has the value of the formula behind `= `.
//!
//! ```cedar
//! forbid (principal, action == Action::"sandbox.exec", resource == Resource::"wc")
//! when { context has "argument.0" && context["argument.0"].text like "/etc/*" }
//! unless { principal.tier >= 2 || context["time.hour"].whole < 6 };
//! ```
//!
//! `context` can't be used as a whole, since it only holds the facts that the rules name. A text
//! whose scope names no action covers every operation. An entity equals one of that very name only,
//! and is in no group: a text that names one which no request has (of another type, an agent's name
//! for its id, an action with a colon, a `*`) is refused, as a `forbid` of it would deny nothing.
//!
//! # What is not here
//!
//! No rate is counted, nothing is logged and nobody is asked: obligations and approvals are for the
//! runtime to carry out. The time of a request is one of its facts.

#![warn(missing_docs)]

mod check;
mod compile;
mod decide;
mod digest;
mod fact;
mod glob;
mod handwritten;
mod set;
mod words;

use std::collections::{BTreeMap, HashMap};

use symbiont_types::{AgentId, Policy, PolicyIssue, PolicyValue, ResourceLimits, SecurityTier};

pub use check::{
    MAX_CONDITION_DEPTH, MAX_CONDITION_PARTS, MAX_GLOB_BYTES, MAX_RULE_BYTES, MAX_RULES,
    MAX_SELECTORS,
};
pub use decide::decide;
pub use set::PolicySet;
pub use words::when;

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
    /// The call's arguments by position; `None` stands for one that is left out before others.
    pub arguments: &'a [Option<PolicyValue>],
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

/// Everything that is wrong with `policies`; nothing is if they compile.
pub fn validate(policies: &[Policy]) -> Vec<PolicyIssue> {
    PolicySet::compile(policies).err().unwrap_or_default()
}
