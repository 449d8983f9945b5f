//! The compiled policies of one layer, and which of their rules match a request.
//!
//! # What holds
//!
//! - Whether a rule matches is Cedar's word. The index only leaves out rules that cannot match
//!   because they name other operations or other agents.
//! - A rule on which Cedar errs matches if it restricts, and does not match if it allows.
//! - Rules are kept in the order of their weight: greater priority first, then by policy and rule
//!   id. The numbers of rules are places in that order.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap, HashSet};

use cedar_policy::pst;
use cedar_policy::{
    AuthorizationError, Authorizer, Context, Entities, Entity, EntityId, EntityTypeName, EntityUid,
    PolicyId, RestrictedExpression,
};
use symbiont_dsl::formula;
use symbiont_types::{
    AgentId, Policy, PolicyDecision, PolicyEffect, PolicyIssue, PolicyRule, PrincipalSelector,
};

use crate::compile::{self, Demands, Reading};
use crate::fact::Build as _;
use crate::glob::{self, Pattern};
use crate::handwritten::Handwritten;
use crate::{Request, check, decide, digest};

/// The steps that all formulas of a layer may take for one request.
const MAX_STEPS: u64 = 5 * formula::MAX_STEPS;

/// The compiled policies of one layer.
#[derive(Debug, Clone)]
pub struct PolicySet {
    policies: Vec<Policy>,
    digest: String,
    /// The rules of enabled policies, by weight.
    rules: Vec<Rule>,
    shelves: Shelves,
    coverage: Coverage,
    /// The rules that allow, by the name of the operations that they name.
    allows: HashMap<String, Vec<usize>>,
    machine: Machine,
}

/// One rule of an enabled policy.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    /// `policy/rule`.
    pub(crate) label: String,
    policy: usize,
    rule: usize,
    pub(crate) priority: u32,
    /// The operations that it covers, as globs.
    operations: Vec<String>,
    handwritten: Option<Handwritten>,
}

/// Buckets of rules, by what an operation has to be for them to match.
#[derive(Debug, Clone, Default)]
struct Shelves {
    exact: HashMap<String, Shelf>,
    named: HashMap<String, Shelf>,
    general: Shelf,
}

#[derive(Debug, Clone, Default)]
struct Shelf {
    any: Bucket,
    by_agent: HashMap<AgentId, Bucket>,
}

/// Rules that are put to Cedar together.
#[derive(Debug, Clone, Default)]
struct Bucket {
    rules: BTreeSet<usize>,
    cedar: cedar_policy::PolicySet,
    demands: Demands,
    /// Whether a rule may look at the attributes of the principal and the resource.
    entities: bool,
}

/// The operations that rules with a say cover.
#[derive(Debug, Clone, Default)]
struct Coverage {
    every: bool,
    exact: HashSet<String>,
    named: HashSet<String>,
    under: HashMap<String, Vec<String>>,
    general: Vec<String>,
}

/// What it takes to ask Cedar.
#[derive(Debug, Clone)]
struct Machine {
    authorizer: Authorizer,
    agent: EntityTypeName,
    action: EntityTypeName,
    resource: EntityTypeName,
    nothing: Entities,
}

/// The rules that match a request, by weight.
#[derive(Debug, Default)]
pub(crate) struct Matches {
    pub(crate) rules: BTreeSet<usize>,
    pub(crate) evaluated: usize,
}

impl PolicySet {
    /// Compiles `policies`, or says everything that is wrong with them.
    pub fn compile(policies: &[Policy]) -> Result<Self, Vec<PolicyIssue>> {
        let (issues, read) = check::policies(policies);
        if !issues.0.is_empty() {
            return Err(issues.0);
        }
        let mut rules = Vec::new();
        for (at, (policy, read)) in policies.iter().zip(read).enumerate() {
            for (number, (rule, handwritten)) in policy.rules.iter().zip(read).enumerate() {
                if policy.enabled {
                    rules.push(Rule {
                        label: format!("{}/{}", policy.id, rule.id),
                        policy: at,
                        rule: number,
                        priority: policy.priority,
                        operations: match &handwritten {
                            Some(text) => text.operations.clone().unwrap_or(vec!["*".to_owned()]),
                            None => rule.operations.clone(),
                        },
                        handwritten,
                    });
                }
            }
        }
        let weight = |rule: &Rule| {
            let policy = &policies[rule.policy];
            (std::cmp::Reverse(policy.priority), &policy.id, &policy.rules[rule.rule].id)
        };
        rules.sort_by(|a, b| weight(a).cmp(&weight(b)));
        let mut set = Self {
            policies: policies.to_vec(),
            digest: digest::of(policies),
            rules,
            shelves: Shelves::default(),
            coverage: Coverage::default(),
            allows: HashMap::new(),
            machine: Machine::new(),
        };
        set.index()?;
        Ok(set)
    }

    /// The SHA-256 of the policies in a canonical form, in hexadecimal digits. The order of the
    /// policies and of their rules does not matter to it.
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

    /// The whole set as readable text of the Cedar policy language, the heaviest rule first.
    ///
    /// It is what is evaluated, except that a satisfied policy says that its rule matches; what
    /// follows from that is in the annotation `@effect`.
    pub fn cedar_text(&self) -> String {
        self.cedar_rules().map(|(_, text)| text).collect::<Vec<_>>().join("\n\n")
    }

    /// Each rule of the enabled policies, the heaviest first, with what of [`cedar_text`] it is.
    ///
    /// [`cedar_text`]: Self::cedar_text
    pub fn cedar_rules(&self) -> impl Iterator<Item = (&PolicyRule, String)> {
        (0..self.rules.len()).map(|at| {
            let text = self.shown(at).map_or_else(
                // A hand-written rule is shown in its own words, and others always have a text.
                || self.rule(at).cedar.clone().unwrap_or_default(),
                |policy| policy.to_string(),
            );
            (self.rule(at), text)
        })
    }

    /// What one policy says by itself; `None` if there is no such policy, and a decision without
    /// effect if none of its rules applies or it is not enabled.
    pub fn evaluate_one(&self, policy_id: &str, request: &Request<'_>) -> Option<PolicyDecision> {
        let policy = self.policies.iter().position(|policy| policy.id == policy_id)?;
        let mut matches = self.matches(request);
        matches.rules.retain(|&at| self.rules[at].policy == policy);
        Some(decide::one(self, policy_id, &matches, request))
    }

    /// The rule at `at` in the order of weight.
    pub(crate) fn rule(&self, at: usize) -> &PolicyRule {
        let rule = &self.rules[at];
        &self.policies[rule.policy].rules[rule.rule]
    }

    pub(crate) fn entry(&self, at: usize) -> &Rule {
        &self.rules[at]
    }

    pub(crate) fn policy_id(&self, at: usize) -> &str {
        &self.policies[self.rules[at].policy].id
    }

    /// Whether a rule that allows, denies or asks for approval names `operation`, whoever asks.
    pub(crate) fn covers(&self, operation: &str) -> bool {
        let coverage = &self.coverage;
        let name = glob::name_of(operation);
        coverage.every
            || coverage.exact.contains(operation)
            || coverage.named.contains(name)
            || coverage
                .under
                .get(name)
                .is_some_and(|globs| globs.iter().any(|glob| glob::matches(glob, operation)))
            || coverage.general.iter().any(|glob| Pattern::new(glob).covers(operation))
    }

    /// The rules that allow some operations of that name, by weight.
    pub(crate) fn allows_of(&self, name: &str) -> &[usize] {
        self.allows.get(name).map_or(&[], Vec::as_slice)
    }

    /// The rules that allow `operation` and whose other demands were not met, given that the rules
    /// `matched` are all that match; by weight.
    pub(crate) fn near_misses(
        &self,
        request: &Request<'_>,
        matched: &BTreeSet<usize>,
    ) -> BTreeSet<usize> {
        let covers = |&at: &usize| {
            let some = &self.rules[at].operations;
            some.iter().any(|glob| Pattern::new(glob).covers(request.operation))
        };
        let allows = |&at: &usize| match self.rule(at).effect {
            PolicyEffect::Allow | PolicyEffect::RequireApproval { .. } => true,
            PolicyEffect::Deny | PolicyEffect::Audit | PolicyEffect::Shadow(_) => false,
        };
        self.shelves
            .of(request.operation)
            .flat_map(|shelf| &shelf.any.rules)
            .copied()
            .filter(|at| !matched.contains(at))
            .filter(allows)
            .filter(covers)
            .collect()
    }

    /// Asks Cedar which rules match.
    pub(crate) fn matches(&self, request: &Request<'_>) -> Matches {
        let mut matches = Matches::default();
        let mut parties = None;
        let shelves = self.shelves.of(request.operation);
        for bucket in shelves.flat_map(|shelf| {
            [Some(&shelf.any), shelf.by_agent.get(&request.agent_id)].into_iter().flatten()
        }) {
            if bucket.rules.is_empty() {
                continue;
            }
            matches.evaluated += bucket.rules.len();
            let parties = parties.get_or_insert_with(|| self.machine.parties(request));
            let Some(question) = parties.question(bucket, request) else {
                matches.rules.extend(bucket.rules.iter().filter(|&&at| self.restricts(at)));
                continue;
            };
            let own;
            let entities = if bucket.entities {
                own = parties.entities(request);
                &own
            } else {
                &self.machine.nothing
            };
            let answer = self.machine.authorizer.is_authorized(&question, &bucket.cedar, entities);
            matches.rules.extend(answer.diagnostics().reason().filter_map(number_of));
            for error in answer.diagnostics().errors() {
                match error {
                    AuthorizationError::PolicyEvaluationError(error) => {
                        let at = number_of(error.policy_id());
                        matches.rules.extend(at.filter(|&at| self.restricts(at)));
                    }
                }
            }
        }
        matches
    }

    /// Whether the rule matches when nobody can tell whether it does.
    fn restricts(&self, at: usize) -> bool {
        reading(&self.rule(at).effect) == Reading::NotFalse
    }

    fn index(&mut self) -> Result<(), Vec<PolicyIssue>> {
        let mut issues = Vec::new();
        for at in 0..self.rules.len() {
            let mut demands = Demands::new();
            let template = self.template(at, &at.to_string(), &mut demands);
            let policy = match policy(template) {
                Ok(policy) => policy,
                Err(message) => {
                    let Rule { policy, rule, .. } = self.rules[at];
                    issues.push(PolicyIssue {
                        code: "P0116".to_owned(),
                        path: format!("policies[{policy}].rules[{rule}]"),
                        message,
                        span: None,
                        suggestion: None,
                    });
                    continue;
                }
            };
            let rule = &self.policies[self.rules[at].policy].rules[self.rules[at].rule];
            let entry = &self.rules[at];
            for glob in &entry.operations {
                let pattern = Pattern::new(glob);
                let shelf = self.shelves.for_pattern(pattern);
                shelf.for_principals(&rule.principals, |bucket| {
                    bucket.add(at, &policy, &demands, entry.handwritten.is_some());
                });
                match rule.effect {
                    PolicyEffect::Allow
                    | PolicyEffect::Deny
                    | PolicyEffect::RequireApproval { .. } => self.coverage.add(pattern),
                    PolicyEffect::Audit | PolicyEffect::Shadow(_) => {}
                }
            }
            match rule.effect {
                PolicyEffect::Allow | PolicyEffect::RequireApproval { .. } => {
                    let names: BTreeSet<_> =
                        entry.operations.iter().map(|glob| glob::name_of(glob)).collect();
                    for name in names {
                        self.allows.entry(name.to_owned()).or_default().push(at);
                    }
                }
                PolicyEffect::Deny | PolicyEffect::Audit | PolicyEffect::Shadow(_) => {}
            }
        }
        if issues.is_empty() { Ok(()) } else { Err(issues) }
    }

    fn template(&self, at: usize, id: &str, demands: &mut Demands) -> pst::Template {
        match &self.rules[at].handwritten {
            Some(text) => text.permit(id, demands),
            None => {
                let rule = self.rule(at);
                compile::rule(id, rule, reading(&rule.effect), demands)
            }
        }
    }

    fn shown(&self, at: usize) -> Option<cedar_policy::Policy> {
        let rule = self.rule(at);
        if rule.cedar.is_some() {
            return None;
        }
        let annotations = [
            ("id".to_owned(), self.rules[at].label.as_str().into()),
            ("effect".to_owned(), effect_text(&rule.effect).into()),
        ];
        let template = self.template(at, &at.to_string(), &mut Demands::new());
        policy(template.with_annotations(annotations.into())).ok()
    }
}

fn effect_text(effect: &PolicyEffect) -> String {
    match effect {
        PolicyEffect::Shadow(inner) => format!("shadow of {}", crate::words::effect(inner)),
        other => crate::words::effect(other).to_owned(),
    }
}

fn policy(template: pst::Template) -> Result<cedar_policy::Policy, String> {
    let policy = pst::StaticPolicy::try_from(template).map_err(|error| error.to_string())?;
    cedar_policy::Policy::from_pst(policy.into()).map_err(|error| error.to_string())
}

/// How the conditions of a rule with this effect are read.
fn reading(effect: &PolicyEffect) -> Reading {
    match effect {
        PolicyEffect::Allow => Reading::True,
        PolicyEffect::Deny | PolicyEffect::RequireApproval { .. } | PolicyEffect::Audit => {
            Reading::NotFalse
        }
        PolicyEffect::Shadow(inner) => reading(inner),
    }
}

/// The number that was made a policy's id when it was compiled.
fn number_of(id: &PolicyId) -> Option<usize> {
    AsRef::<str>::as_ref(id).parse().ok()
}

impl Shelves {
    /// The shelves on which rules for `operation` lie.
    fn of(&self, operation: &str) -> impl Iterator<Item = &Shelf> {
        let exact = self.exact.get(operation);
        let named = self.named.get(glob::name_of(operation));
        exact.into_iter().chain(named).chain([&self.general])
    }

    fn for_pattern(&mut self, pattern: Pattern<'_>) -> &mut Shelf {
        match pattern {
            Pattern::Exact(operation) => self.exact.entry(operation.to_owned()).or_default(),
            Pattern::Name(name) | Pattern::Under(name, _) => {
                self.named.entry(name.to_owned()).or_default()
            }
            Pattern::Every | Pattern::NameLike(_) | Pattern::Like(_) => &mut self.general,
        }
    }
}

impl Shelf {
    /// Visits the buckets for a rule of these principals: their own if all are given by id.
    fn for_principals(
        &mut self,
        selectors: &[PrincipalSelector],
        mut visit: impl FnMut(&mut Bucket),
    ) {
        let ids: Option<HashSet<AgentId>> = selectors
            .iter()
            .map(|selector| match selector {
                PrincipalSelector::Id(id) => Some(*id),
                PrincipalSelector::Name(_) | PrincipalSelector::Metadata { .. } => None,
            })
            .collect();
        match ids {
            Some(ids) if !ids.is_empty() => {
                for id in ids {
                    visit(self.by_agent.entry(id).or_default());
                }
            }
            Some(_) | None => visit(&mut self.any),
        }
    }
}

impl Bucket {
    fn add(&mut self, at: usize, policy: &cedar_policy::Policy, demands: &Demands, entities: bool) {
        if self.rules.insert(at) {
            self.cedar.add(policy.clone()).expect("the number of a rule is in a bucket once");
            self.demands.extend(demands.iter().map(|(key, demand)| (key.clone(), demand.clone())));
            self.entities |= entities;
        }
    }
}

impl Coverage {
    fn add(&mut self, pattern: Pattern<'_>) {
        match pattern {
            Pattern::Every => self.every = true,
            Pattern::Exact(operation) => {
                self.exact.insert(operation.to_owned());
            }
            Pattern::Name(name) => {
                self.named.insert(name.to_owned());
            }
            Pattern::Under(name, glob) => {
                self.under.entry(name.to_owned()).or_default().push(glob.to_owned());
            }
            Pattern::NameLike(glob) | Pattern::Like(glob) => self.general.push(glob.to_owned()),
        }
    }
}

impl Machine {
    fn new() -> Self {
        let name = |text: &str| text.parse().expect("the entity types are identifiers");
        Self {
            authorizer: Authorizer::new(),
            agent: name(compile::AGENT),
            action: name(compile::ACTION),
            resource: name(compile::RESOURCE),
            nothing: Entities::empty(),
        }
    }

    fn parties(&self, request: &Request<'_>) -> Parties {
        let uid = |kind: &EntityTypeName, id: &str| {
            EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
        };
        Parties {
            principal: uid(&self.agent, &request.agent_id.to_string()),
            action: uid(&self.action, glob::name_of(request.operation)),
            resource: uid(&self.resource, glob::resource_of(request.operation).unwrap_or_default()),
            steps: Cell::new(MAX_STEPS),
        }
    }
}

/// Who asks for what, in Cedar's terms.
struct Parties {
    principal: EntityUid,
    action: EntityUid,
    resource: EntityUid,
    /// What formulas may still take.
    steps: Cell<u64>,
}

impl Parties {
    /// The request in Cedar's terms; `None` if Cedar can't take it.
    fn question(&self, bucket: &Bucket, request: &Request<'_>) -> Option<cedar_policy::Request> {
        let context = if bucket.demands.is_empty() {
            Context::empty()
        } else {
            let answers = bucket.demands.iter().filter_map(|(key, demand)| {
                Some((key.clone(), demand.answer(request, &self.steps)?))
            });
            Context::from_pairs(answers).ok()?
        };
        let (principal, action) = (self.principal.clone(), self.action.clone());
        cedar_policy::Request::new(principal, action, self.resource.clone(), context, None).ok()
    }

    /// The agent and the resource with their attributes, for rules written by hand.
    fn entities(&self, request: &Request<'_>) -> Entities {
        let text = RestrictedExpression::text;
        let metadata = request.agent_metadata.iter().map(|(key, value)| (key.clone(), text(value)));
        let agent = HashMap::from([
            ("name".to_owned(), text(request.agent_name)),
            ("tier".to_owned(), RestrictedExpression::long(request.tier as i64)),
            ("metadata".to_owned(), RestrictedExpression::record(metadata)),
        ]);
        let name = glob::resource_of(request.operation).unwrap_or_default();
        let resource = HashMap::from([("name".to_owned(), text(name))]);
        let built = [(self.principal.clone(), agent), (self.resource.clone(), resource)]
            .into_iter()
            .map(|(uid, attributes)| Entity::new(uid, attributes, HashSet::new()).ok())
            .collect::<Option<Vec<_>>>()
            .and_then(|entities| Entities::from_entities(entities, None).ok());
        // Without attributes a rule that asks for them errs, and an error fails closed.
        built.unwrap_or_default()
    }
}
