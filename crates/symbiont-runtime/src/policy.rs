//! The policy engine: may this happen?
//!
//! Decisions are made by `symbiont-policy`, over Cedar; this component keeps the policies, swaps
//! them whole, and answers. There is one path to a decision, [`PolicyGate::decide`], and the
//! methods of the reference go through it like the runtime's own checks.
//!
//! # What holds
//!
//! - A policy is compiled once, when it comes; readers keep the set that they began with.
//! - What no policy allows is denied in production, and for every agent that has policies.
//! - A failure to decide is a refusal, and so is a demand that can't be carried out ([`refusal`]).
//! - A change that was begun is made to its end, whoever stops waiting for it: what is on record is in
//!   force.

pub(crate) mod stored;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
pub use symbiont_policy::Profile;
use symbiont_policy::{PolicySet, Request};
use symbiont_store::StoreError;
use symbiont_types::{
    AgentConfig, AgentId, AuditEventType, Obligation, Policy, PolicyContext, PolicyDecision,
    PolicyEffect, PolicyError, PolicyIssue, PolicyValidationResult, PolicyValue, ResourceLimits,
    SecurityTier,
};
use tokio::time::Instant;

use crate::clock::{Clock, micros};
use crate::journal::{Change, Journal, POLICIES, rows};
use crate::tasks::Tasks;

/// Decides what may happen.
#[async_trait]
pub trait PolicyEngine: Send + Sync {
    /// Whether the config's name, limits, metadata and policies are fit to run. Everything that is
    /// wrong is in the result.
    ///
    /// # Errors
    ///
    /// None from an engine in this process, which has all that it takes in memory.
    async fn validate_agent_config(
        &self,
        config: &AgentConfig,
    ) -> Result<PolicyValidationResult, PolicyError>;

    /// Whether the agent may do `operation` now, which is what `context.operation` must say too: the
    /// rules allow it, and what they demand along with it can be carried out. Whether a limited
    /// number of calls is used up shows when the call is made.
    ///
    /// What needs a person's approval is not allowed, and leaves a record (`policy.decision`). Of an
    /// agent that the engine does not know, the tier is that of `context.security_context`.
    ///
    /// # Errors
    ///
    /// `Invalid` when the operation is empty, too long or another one than the context's, or the
    /// agent is another one; `Storage`, `ShuttingDown` when what needs approval can't be recorded.
    async fn check_operation_allowed(
        &self,
        agent_id: AgentId,
        operation: &str,
        context: &PolicyContext,
    ) -> Result<bool, PolicyError>;

    /// The agent's own policies.
    ///
    /// # Errors
    ///
    /// `NotFound` when the engine never heard of the agent.
    async fn get_agent_policies(&self, agent_id: AgentId) -> Result<Vec<Policy>, PolicyError>;

    /// Adds the policy, or puts it in place of the one with its id, for all agents. Running agents
    /// see it at their next check.
    ///
    /// # Errors
    ///
    /// `Invalid` with everything that is wrong, and nothing changed; `Storage`, `ShuttingDown`.
    async fn update_policy(&self, policy: Policy) -> Result<(), PolicyError>;

    /// Removes the policy.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Storage`, `ShuttingDown`.
    async fn delete_policy(&self, policy_id: String) -> Result<(), PolicyError>;

    /// What this one policy would say, whatever the others do. `effect` is `None` when no rule of
    /// it applies.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    async fn evaluate_policy(
        &self,
        policy_id: String,
        context: &PolicyContext,
    ) -> Result<PolicyDecision, PolicyError>;
}

/// What the runtime asks the engine beside the reference's questions.
#[async_trait]
pub trait PolicyGate: PolicyEngine {
    /// Decides one request, and says why.
    fn decide(&self, question: &Question<'_>) -> PolicyDecision;

    /// Takes the agent's own policies in place of those it had.
    ///
    /// # Errors
    ///
    /// What is wrong with them; those it had stay in force.
    fn set_agent(&self, agent_id: AgentId, facts: AgentFacts) -> Result<(), Vec<PolicyIssue>>;

    /// Forgets the agent.
    fn forget_agent(&self, agent_id: AgentId);

    /// A digest of the policies that hold for all agents.
    fn digest(&self) -> String;
}

/// What the engine knows of an agent.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentFacts {
    /// Its name.
    pub name: String,
    /// Its tier.
    pub tier: SecurityTier,
    /// Its metadata.
    pub metadata: HashMap<String, String>,
    /// Its own policies.
    pub policies: Vec<Policy>,
}

/// A request of an agent.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// Who asks.
    pub agent_id: AgentId,
    /// What for, such as `fs.read:/workspace/a`.
    pub operation: &'a str,
    /// The call's arguments by position; `None` stands for one that is left out before others.
    pub arguments: &'a [Option<PolicyValue>],
    /// The call's arguments by name.
    pub named: &'a BTreeMap<String, PolicyValue>,
    /// What it would take.
    pub limits: Option<&'a ResourceLimits>,
    /// Further facts.
    pub metadata: &'a HashMap<String, String>,
    /// The program's ambient names.
    pub ambient: &'a BTreeMap<String, PolicyValue>,
    /// Whether the agent's own policies speak of it. They never do of `agent.start` and the like.
    pub own_policies: bool,
}

/// Settings of the policy engine.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyEngineConfig {
    /// What happens to what no policy speaks of.
    pub profile: Profile,
    /// Policies of the whole runtime that are there from the start.
    pub policies: Vec<Policy>,
    /// The most policies that there may be.
    pub max_policies: usize,
}

impl Default for PolicyEngineConfig {
    /// Production: what no policy allows is denied. No policies, at most 10,000.
    fn default() -> Self {
        Self { profile: Profile::Production, policies: Vec::new(), max_policies: 10_000 }
    }
}

/// The policy engine over a journal.
#[derive(Debug)]
pub struct DefaultPolicyEngine {
    inner: Arc<Inner>,
    /// Changes of the global policies that are being made.
    changes: Tasks,
}

#[derive(Debug)]
struct Inner {
    profile: Profile,
    max_policies: usize,
    journal: Journal,
    global: ArcSwap<PolicySet>,
    agents: papaya::HashMap<AgentId, Arc<KnownAgent>>,
    /// One change of the global policies at a time.
    changing: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct KnownAgent {
    facts: AgentFacts,
    own: Option<PolicySet>,
}

/// Builds a [`DefaultPolicyEngine`].
#[derive(Debug)]
pub struct PolicyEngineBuilder {
    config: PolicyEngineConfig,
    journal: Journal,
}

/// What it takes to start an agent, of which its own policies say nothing.
const START: &str = "agent.start";

/// The longest operation that is decided.
const LONGEST_OPERATION: usize = 8 * 1024;

impl DefaultPolicyEngine {
    /// An engine in memory.
    ///
    /// # Errors
    ///
    /// `Invalid` when a policy in the config is.
    pub async fn new(config: PolicyEngineConfig) -> Result<Self, PolicyError> {
        Self::builder(config).build().await
    }

    /// An engine over what [`PolicyEngineBuilder::journal`] says; in memory by default.
    pub fn builder(config: PolicyEngineConfig) -> PolicyEngineBuilder {
        PolicyEngineBuilder { config, journal: Journal::in_memory(Clock::system()) }
    }

    /// What happens to what no policy speaks of.
    pub fn profile(&self) -> Profile {
        self.inner.profile
    }

    fn over(profile: Profile, max_policies: usize, journal: Journal, global: PolicySet) -> Self {
        let inner = Inner {
            profile,
            max_policies,
            journal,
            global: ArcSwap::from_pointee(global),
            agents: papaya::HashMap::new(),
            changing: tokio::sync::Mutex::default(),
        };
        Self { inner: Arc::new(inner), changes: Tasks::default() }
    }

    fn question_of<'a>(
        context: &'a PolicyContext,
        operation: &'a str,
        named: &'a BTreeMap<String, PolicyValue>,
    ) -> Question<'a> {
        Question {
            agent_id: context.agent_id,
            operation,
            arguments: &[],
            named,
            limits: context.resource_requirements.as_ref(),
            metadata: &context.metadata,
            ambient: named,
            own_policies: operation != START,
        }
    }

    /// Makes a change to its end, although the caller may stop waiting for it.
    async fn change(
        &self,
        change: impl FnOnce(&mut Vec<Policy>) -> Result<Change, PolicyError> + Send + 'static,
        kind: &'static str,
        policy_id: String,
    ) -> Result<(), PolicyError> {
        let inner = Arc::clone(&self.inner);
        let made = self.changes.finish(async move { inner.change(change, kind, &policy_id).await });
        made.await.unwrap_or(Err(PolicyError::ShuttingDown))
    }
}

impl Inner {
    /// Asks about an agent that has `tier` unless the engine knows better.
    fn ask<T>(
        &self,
        question: &Question<'_>,
        tier: SecurityTier,
        answer: impl FnOnce(&PolicySet, Option<&PolicySet>, &Request<'_>) -> T,
    ) -> T {
        let agents = self.agents.pin();
        let known = agents.get(&question.agent_id);
        let nothing = HashMap::new();
        let request = Request {
            agent_id: question.agent_id,
            agent_name: known.map_or("", |agent| &agent.facts.name),
            agent_metadata: known.map_or(&nothing, |agent| &agent.facts.metadata),
            tier: known.map_or(tier, |agent| agent.facts.tier),
            operation: question.operation,
            arguments: question.arguments,
            named: question.named,
            limits: question.limits,
            metadata: question.metadata,
            ambient: question.ambient,
            now_unix: micros(self.journal.now()).div_euclid(1_000_000),
        };
        let own = known.and_then(|agent| agent.own.as_ref()).filter(|_| question.own_policies);
        answer(&self.global.load(), own, &request)
    }

    async fn change(
        &self,
        change: impl FnOnce(&mut Vec<Policy>) -> Result<Change, PolicyError> + Send,
        kind: &'static str,
        policy_id: &str,
    ) -> Result<(), PolicyError> {
        let _one_at_a_time = self.changing.lock().await;
        let before = self.global.load_full();
        let mut policies = before.policies().to_vec();
        let rows = change(&mut policies)?;
        if policies.len() > self.max_policies {
            let reason =
                format!("there are {} policies already, which is the most", self.max_policies);
            return Err(PolicyError::Conflict { reason });
        }
        let after =
            PolicySet::compile(&policies).map_err(|errors| PolicyError::Invalid { errors })?;
        let entry = self
            .journal
            .event(AuditEventType::SecurityEvent, kind)
            .details(format!("policy `{policy_id}`"))
            .with("policy", policy_id)
            .with("digest_before", before.digest())
            .with("digest_after", after.digest());
        self.journal.commit(rows.record(entry)).await.map_err(storage)?;
        self.global.store(Arc::new(after));
        Ok(())
    }

    fn decide(&self, question: &Question<'_>, tier: SecurityTier) -> PolicyDecision {
        let began = Instant::now();
        let mut decision = self.ask(question, tier, |global, own, request| {
            symbiont_policy::decide(global, own, self.profile, request)
        });
        decision.duration = began.elapsed();
        decision
    }
}

impl PolicyEngineBuilder {
    /// Uses `journal`; policies that are kept there are in force from the start.
    #[must_use]
    pub fn journal(self, journal: Journal) -> Self {
        Self { journal, ..self }
    }

    /// The engine. A policy of the config takes the place of a kept one with its id.
    ///
    /// # Errors
    ///
    /// `Invalid` when a policy is; `Storage` when those kept can't be read: an engine that does not
    /// know its policies does not come up.
    pub async fn build(mut self) -> Result<DefaultPolicyEngine, PolicyError> {
        let kept: Vec<(Vec<u8>, stored::Policy)> =
            rows(self.journal.store(), POLICIES, &[]).await.map_err(storage)?;
        let mut policies: BTreeMap<String, Policy> = kept
            .into_iter()
            .map(|(_, stored)| Policy::from(stored))
            .map(|p| (p.id.clone(), p))
            .collect();
        for policy in std::mem::take(&mut self.config.policies) {
            policies.insert(policy.id.clone(), policy);
        }
        let policies: Vec<Policy> = policies.into_values().collect();
        if policies.len() > self.config.max_policies {
            let reason = format!("{} policies are more than `max_policies`", policies.len());
            return Err(PolicyError::Conflict { reason });
        }
        let global =
            PolicySet::compile(&policies).map_err(|errors| PolicyError::Invalid { errors })?;
        let PolicyEngineConfig { profile, max_policies, .. } = self.config;
        Ok(DefaultPolicyEngine::over(profile, max_policies, self.journal, global))
    }
}

#[async_trait]
impl PolicyGate for DefaultPolicyEngine {
    fn decide(&self, question: &Question<'_>) -> PolicyDecision {
        self.inner.decide(question, SecurityTier::Tier1)
    }

    fn set_agent(&self, agent_id: AgentId, facts: AgentFacts) -> Result<(), Vec<PolicyIssue>> {
        let own = match facts.policies.is_empty() {
            true => None,
            false => Some(PolicySet::compile(&facts.policies)?),
        };
        self.inner.agents.pin().insert(agent_id, Arc::new(KnownAgent { facts, own }));
        Ok(())
    }

    fn forget_agent(&self, agent_id: AgentId) {
        self.inner.agents.pin().remove(&agent_id);
    }

    fn digest(&self) -> String {
        self.inner.global.load().digest().to_owned()
    }
}

#[async_trait]
impl PolicyEngine for DefaultPolicyEngine {
    async fn validate_agent_config(
        &self,
        config: &AgentConfig,
    ) -> Result<PolicyValidationResult, PolicyError> {
        let mut errors = crate::lifecycle::config::issues(config);
        errors.extend(
            symbiont_policy::validate(&config.policies)
                .into_iter()
                .map(|issue| PolicyIssue { path: format!("policies.{}", issue.path), ..issue }),
        );
        let allowed = |effect: &PolicyEffect| matches!(effect, PolicyEffect::Allow);
        let rules = || config.policies.iter().filter(|p| p.enabled).flat_map(|p| &p.rules);
        Ok(PolicyValidationResult {
            valid: errors.is_empty(),
            errors,
            warnings: Vec::new(),
            effective_permissions: rules()
                .filter(|rule| allowed(&rule.effect))
                .map(|rule| rule.operations.join(", "))
                .collect(),
            required_approvals: rules()
                .filter(|rule| matches!(rule.effect, PolicyEffect::RequireApproval { .. }))
                .flat_map(|rule| rule.operations.iter().cloned())
                .collect(),
            conflicts: Vec::new(),
            bundle_digest: self.digest(),
        })
    }

    async fn check_operation_allowed(
        &self,
        agent_id: AgentId,
        operation: &str,
        context: &PolicyContext,
    ) -> Result<bool, PolicyError> {
        if context.agent_id != agent_id {
            return Err(invalid("context.agent_id", "is another agent than the one asked about"));
        }
        if context.operation != operation {
            return Err(invalid(
                "context.operation",
                "is another operation than the one asked about",
            ));
        }
        well_formed(operation)?;
        let named = BTreeMap::new();
        let question = Self::question_of(context, operation, &named);
        let decision = self.inner.decide(&question, context.security_context.tier);
        let Some(refusal) = refusal(&decision, operation) else { return Ok(true) };
        if matches!(decision.effect, Some(PolicyEffect::RequireApproval { .. })) {
            let journal = &self.inner.journal;
            let rules = &decision.matched_rules;
            let entry = journal
                .event(AuditEventType::PolicyViolation, "policy.decision")
                .agent(agent_id)
                .details(refusal.reason)
                .with("operation", operation)
                .with("decision", refusal.word)
                .with("bundle", &decision.bundle_digest)
                .with_some("rules", (!rules.is_empty()).then(|| rules.join(" ")));
            journal.commit(Change::new().record(entry)).await.map_err(storage)?;
        }
        Ok(false)
    }

    async fn get_agent_policies(&self, agent_id: AgentId) -> Result<Vec<Policy>, PolicyError> {
        let agents = self.inner.agents.pin();
        let known = agents
            .get(&agent_id)
            .ok_or_else(|| PolicyError::NotFound { policy_id: format!("of agent {agent_id}") })?;
        Ok(known.facts.policies.clone())
    }

    async fn update_policy(&self, policy: Policy) -> Result<(), PolicyError> {
        let id = policy.id.clone();
        let change = move |policies: &mut Vec<Policy>| {
            let row =
                Change::new().put(POLICIES, policy.id.as_bytes(), &stored::Policy::from(&policy));
            match policies.iter_mut().find(|there| there.id == policy.id) {
                Some(there) => *there = policy,
                None => policies.push(policy),
            }
            Ok(row)
        };
        self.change(change, "policy.updated", id).await
    }

    async fn delete_policy(&self, policy_id: String) -> Result<(), PolicyError> {
        let id = policy_id.clone();
        let change = move |policies: &mut Vec<Policy>| {
            let at = policies
                .iter()
                .position(|there| there.id == policy_id)
                .ok_or_else(|| PolicyError::NotFound { policy_id: shown(&policy_id) })?;
            policies.remove(at);
            Ok(Change::new().remove(POLICIES, policy_id.as_bytes()))
        };
        self.change(change, "policy.deleted", id).await
    }

    async fn evaluate_policy(
        &self,
        policy_id: String,
        context: &PolicyContext,
    ) -> Result<PolicyDecision, PolicyError> {
        well_formed(&context.operation)?;
        let named = BTreeMap::new();
        let question = Self::question_of(context, &context.operation, &named);
        let began = Instant::now();
        let tier = context.security_context.tier;
        let decision = self
            .inner
            .ask(&question, tier, |global, _, request| global.evaluate_one(&policy_id, request));
        let mut decision =
            decision.ok_or_else(|| PolicyError::NotFound { policy_id: shown(&policy_id) })?;
        decision.duration = began.elapsed();
        Ok(decision)
    }
}

/// An engine without policies of the whole runtime, for a controller that was given none: agents
/// are held to their own.
pub(crate) fn own_policies_alone(journal: Journal) -> Arc<dyn PolicyGate> {
    let nothing = PolicySet::compile(&[]).expect("no policies are no faulty policies");
    Arc::new(DefaultPolicyEngine::over(Profile::Dev, 0, journal, nothing))
}

/// Why an operation can't go ahead.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// What the trail calls the decision.
    pub(crate) word: &'static str,
    /// The kind of the error that a program catches.
    pub(crate) error: &'static str,
    /// For people.
    pub(crate) reason: String,
}

/// Why `operation` can't go ahead after this decision, if it can't: the rules don't allow it, or they
/// demand along with it what can't be carried out. Everyone who acts on a decision asks here.
pub(crate) fn refusal(decision: &PolicyDecision, operation: &str) -> Option<Refusal> {
    let denied = |reason| Some(Refusal { word: "deny", error: "PolicyDenied", reason });
    match &decision.effect {
        Some(PolicyEffect::Allow) => {
            denied(decision.obligations.iter().find_map(|demand| uncarried(demand, operation))?)
        }
        Some(PolicyEffect::RequireApproval { .. }) => {
            let why = &decision.reason;
            let reason = format!(
                "{why}; asking a person for approval is not served yet, so none is pending"
            );
            Some(Refusal { word: "approval", error: "ApprovalDenied", reason })
        }
        Some(PolicyEffect::Deny | PolicyEffect::Audit | PolicyEffect::Shadow(_)) | None => {
            denied(decision.reason.clone())
        }
    }
}

/// Why a demand can't be carried out, if it can't.
fn uncarried(demand: &Obligation, operation: &str) -> Option<String> {
    // Nobody counts, times or redacts what is no call of a program.
    let of_calls = |what: &str| {
        (operation == START).then(|| {
            format!("a policy demands {what} of `{START}`, which is served for calls only")
        })
    };
    match demand {
        Obligation::Notify(channel) => {
            let channel = shown(channel);
            Some(format!("a policy demands that `{channel}` is told, which is not served yet"))
        }
        Obligation::RateLimit { count: 0, .. } => {
            Some("a policy allows none of these calls in any time".to_owned())
        }
        Obligation::RateLimit { .. } => of_calls("a limit on the rate"),
        Obligation::Timeout(_) => of_calls("a timeout"),
        Obligation::Redact(_) => of_calls("redaction"),
        Obligation::LogLevel(_) => of_calls("a level"),
    }
}

fn well_formed(operation: &str) -> Result<(), PolicyError> {
    if operation.is_empty() {
        return Err(invalid(
            "context.operation",
            "is empty: name one such as `fs.read:/workspace/a`",
        ));
    }
    if operation.len() > LONGEST_OPERATION {
        return Err(invalid("context.operation", "is longer than 8 KiB"));
    }
    Ok(())
}

fn invalid(path: &str, message: &str) -> PolicyError {
    PolicyError::Invalid {
        errors: vec![PolicyIssue {
            code: "P0001".to_owned(),
            path: path.to_owned(),
            message: message.to_owned(),
            span: None,
            suggestion: None,
        }],
    }
}

/// Foreign text, cut to what a message can bear.
fn shown(text: &str) -> String {
    text.chars().take(128).collect()
}

fn storage(error: StoreError) -> PolicyError {
    match error {
        StoreError::Closed => PolicyError::ShuttingDown,
        error => PolicyError::Storage { reason: error.to_string() },
    }
}
