//! What an agent does, against what its capabilities and its policies let it do, and against the
//! tier that it does it in.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use symbiont_types::{Condition as PolicyCondition, PolicyEffect, PolicyRule, SecurityTier};

use crate::definition::AgentDefinition;
use crate::diagnostic::{Diagnostic, Sink};
use crate::hir::{
    Agent, Arg, Block, Condition, Expr, ExprKind, Function, Literal, Param, Program, Span, Stmt,
    StmtKind,
};
use crate::operations::{self, Arguments, BUILTINS, Operation, Place, covers, glob_covers};
use crate::syntax::literal::short;

/// How many expressions are walked and rules compared before the rest goes without: agents may share
/// functions and policies, and a file of agents that all do must not take quadratic time.
pub(super) const BUDGET: usize = 1_000_000;

/// What stands for an argument that only the run will know.
const UNKNOWN: &str = "\0";

/// Checks what an agent does.
pub(super) fn check(
    program: &Program,
    agent: &Agent,
    definition: &AgentDefinition,
    budget: &mut usize,
    sink: &mut Sink,
) {
    let capabilities = definition.capabilities.as_deref().unwrap_or_default();
    let weak = definition.attributes.tier == Some(SecurityTier::Tier1);
    if capabilities.is_empty() && definition.policies.is_empty() && !weak {
        return;
    }
    let mut said: HashSet<(&'static str, String)> = HashSet::new();
    let rule_count: usize = definition.policies.iter().map(|policy| policy.rules.len()).sum();
    for call in calls(program, agent, budget) {
        let Some(rest) = budget.checked_sub(capabilities.len() + rule_count) else { return };
        *budget = rest;
        let operation = &call.operation;
        let lacks = operation.capability_checked
            && !capabilities.is_empty()
            && !operation
                .names
                .iter()
                .any(|name| capabilities.iter().any(|capability| covers(capability, name)));
        if lacks && said.insert(("W0306", call.name.clone())) {
            sink.push(
                Diagnostic::warning(
                    "W0306",
                    format!(
                        "no capability of `{}` covers `{}`",
                        short(&agent.name.node),
                        call.name
                    ),
                    call.span.clone(),
                )
                .label("will fail with `CapabilityDenied`")
                .note(format!("add `\"{}\"` to `capabilities`", call.name)),
            );
        }
        // A command that the source names is one that its author chose.
        let chosen = |name: &String| !name.contains(UNKNOWN);
        if weak
            && call.name == "exec"
            && !operation.names.iter().all(chosen)
            && said.insert(("W0335", call.name.clone()))
        {
            sink.push(
                Diagnostic::warning(
                    "W0335",
                    "`tier1` is weak for a command that only the run knows",
                    call.span.clone(),
                )
                .label("shares the host's kernel with whatever this turns out to be")
                .note("`sandbox = tier2` or `tier3` puts a kernel of its own between them"),
            );
        }
        if definition.policies.is_empty() || !operation.governed {
            continue;
        }
        let rules = || definition.policies.iter().flat_map(|policy| &policy.rules);
        let denied = operation.names.iter().find(|name| !may_be_allowed(name, rules));
        if let Some(name) = denied
            && said.insert(("W0307", base(name).to_owned()))
        {
            let shown = if name.contains(UNKNOWN) { base(name) } else { name };
            sink.push(
                Diagnostic::warning(
                    "W0307",
                    format!("the agent's own policy never allows `{}`", short(shown)),
                    call.span.clone(),
                )
                .label("will fail with `PolicyDenied`")
                .note(format!("a rule such as `allow: {}` would allow it", call.name)),
            );
        }
    }
}

/// Whether there can be a call of this operation that the rules allow, or would if all their conditions
/// could be decided.
fn may_be_allowed<'a, I: Iterator<Item = &'a PolicyRule>>(
    name: &str,
    rules: impl Fn() -> I,
) -> bool {
    let unknown = name.contains(UNKNOWN);
    let may_cover = |glob: &String| match glob.split_once(':') {
        Some((glob, _)) if unknown => glob_covers(glob, base(name)),
        Some(_) => glob_covers(glob, name),
        None => glob_covers(glob, base(name)) || glob_covers(glob, name),
    };
    let always_covers = |glob: &String| match glob.contains(':') {
        true => !unknown && glob_covers(glob, name),
        false => glob_covers(glob, base(name)),
    };
    // Of a condition that fails closed it was told where it stands.
    let never = |condition: &PolicyCondition| match condition {
        PolicyCondition::Any(parts) => parts.is_empty(),
        _ => false,
    };
    let allowed = rules().any(|rule| {
        matches!(rule.effect, PolicyEffect::Allow | PolicyEffect::RequireApproval { .. })
            && rule.operations.iter().any(may_cover)
            && !rule.conditions.iter().any(never)
    });
    let denied = rules().any(|rule| {
        rule.effect == PolicyEffect::Deny
            && rule.operations.iter().any(always_covers)
            && rule.conditions.is_empty()
    });
    allowed && !denied
}

/// An operation without its part after the colon.
fn base(operation: &str) -> &str {
    operation.split_once(':').map_or(operation, |(base, _)| base)
}

/// A host call in a body.
struct Call {
    /// What was called: `fs.read`.
    name: String,
    operation: Operation,
    span: Span,
}

/// The host calls that an agent may make: in its behaviour, its handlers, and the functions that
/// they call.
fn calls(program: &Program, agent: &Agent, budget: &mut usize) -> Vec<Call> {
    let functions = || program.functions.iter().chain(&agent.functions);
    let Some(rest) = budget.checked_sub(functions().count()) else { return Vec::new() };
    *budget = rest;
    // An agent's own functions come last, and hide those of the file.
    let functions: HashMap<&str, &Function> =
        functions().map(|function| (function.name.node.as_str(), function)).collect();
    let mut walk = Walk { found: Vec::new(), named: Vec::new(), bound: HashSet::new(), budget };
    walk.params(&agent.params);
    for handler in &agent.handlers {
        walk.params(&handler.params);
        walk.block(&handler.body);
    }
    if let Some(with) = &agent.with {
        walk.block(&with.body);
    }
    let mut seen: HashSet<String> = HashSet::new();
    let mut calls = Vec::new();
    while let Some((name, call)) = walk.named.pop() {
        match functions.get(name.as_str()) {
            Some(function) => {
                if seen.insert(name) {
                    walk.params(&function.params);
                    walk.block(&function.body);
                }
            }
            None => calls.extend(call),
        }
    }
    // What a variable holds is no host call.
    calls.retain(|call| !walk.bound.contains(&call.name));
    calls.extend(walk.found);
    calls.sort_by_key(|call| call.span.start);
    calls
}

/// Gathers the calls in a body.
struct Walk<'a> {
    /// Calls of what can only be host calls: `fs.read`, `vault://`.
    found: Vec<Call>,
    /// Calls by a bare name, which may be a function, with what they are if they are none. Names
    /// that are only mentioned are here as well.
    named: Vec<(String, Option<Call>)>,
    /// The names of variables and parameters.
    bound: HashSet<String>,
    budget: &'a mut usize,
}

impl Walk<'_> {
    fn params(&mut self, params: &[Param]) {
        self.bound.extend(params.iter().map(|param| param.name.node.clone()));
    }

    fn block(&mut self, block: &Block) {
        block.statements.iter().for_each(|statement| self.statement(statement));
        if let Some(value) = &block.value {
            self.expr(value);
        }
    }

    fn statement(&mut self, statement: &Stmt) {
        match &statement.kind {
            StmtKind::Expr(value) => self.expr(value),
            StmtKind::Let { name, value, .. } => {
                self.bound.insert(name.node.clone());
                self.expr(value);
            }
            StmtKind::Assign { target, value, .. } => {
                if let ExprKind::Name(name) = &target.kind {
                    self.bound.insert(name.clone());
                }
                self.expr(target);
                self.expr(value);
            }
            StmtKind::For { iterable: head, body, .. }
            | StmtKind::While { condition: head, body } => {
                self.expr(head);
                self.block(body);
            }
            StmtKind::Try { body, catches } => {
                self.block(body);
                catches.iter().for_each(|catch| self.block(&catch.body));
            }
            StmtKind::Return(value) => value.iter().for_each(|value| self.expr(value)),
            StmtKind::Break | StmtKind::Continue => {}
        }
    }

    fn expr(&mut self, expr: &Expr) {
        let Some(rest) = self.budget.checked_sub(1) else { return };
        *self.budget = rest;
        match &expr.kind {
            ExprKind::Name(name) => self.named.push((name.clone(), None)),
            ExprKind::Secret(path) => {
                let operation = operations::operation("secret.read", &Texts::Path(path));
                let name = "secret.read".to_owned();
                self.found.push(Call { name, operation, span: expr.span.clone() });
            }
            ExprKind::Call { callee, args } => self.call(callee, args, &expr.span),
            ExprKind::Lambda { params, body } => {
                self.params(params);
                self.block(body);
            }
            ExprKind::If { condition, then, otherwise } => {
                let (Condition::Expr(head) | Condition::Let(_, head)) = &**condition;
                self.expr(head);
                self.block(then);
                otherwise.iter().for_each(|block| self.block(block));
            }
            ExprKind::Match { subject, arms } => {
                self.expr(subject);
                arms.iter().for_each(|arm| self.block(&arm.body));
            }
            ExprKind::Literal(_)
            | ExprKind::Array(_)
            | ExprKind::Record { .. }
            | ExprKind::Unary(..)
            | ExprKind::Binary(..)
            | ExprKind::Member(..)
            | ExprKind::Index(..)
            | ExprKind::Some(_)
            | ExprKind::None
            | ExprKind::Ok(_)
            | ExprKind::Err(_)
            | ExprKind::Missing => expr.each_part(|part| self.expr(part)),
        }
    }

    fn call(&mut self, callee: &Expr, args: &[Arg], span: &Span) {
        args.iter().for_each(|arg| self.expr(&arg.value));
        match &callee.kind {
            ExprKind::Name(name) if BUILTINS.contains(&name.as_str()) => {
                self.named.push((name.clone(), None));
            }
            ExprKind::Name(name) => {
                let operation = operations::operation(name, &Texts::of(name, args));
                let call = Call { name: name.clone(), operation, span: span.clone() };
                self.named.push((name.clone(), Some(call)));
            }
            ExprKind::Member(of, member) => {
                if let ExprKind::Name(namespace) = &of.kind {
                    let name = format!("{namespace}.{}", member.node);
                    if operations::is_host_call(&name) {
                        let operation = operations::operation(&name, &Texts::of(&name, args));
                        self.found.push(Call { name, operation, span: span.clone() });
                        return;
                    }
                }
                self.expr(of);
            }
            _ => self.expr(callee),
        }
    }
}

/// The arguments of a call as far as the source tells them.
enum Texts<'a> {
    Args(&'a [Arg], Vec<Place>),
    /// Those of a call that will be refused for them, of which nothing more is said.
    Misplaced,
    Path(&'a str),
}

fn text(value: &Expr) -> Cow<'_, str> {
    match &value.kind {
        ExprKind::Literal(Literal::String(text)) => Cow::Borrowed(text),
        _ => Cow::Borrowed(UNKNOWN),
    }
}

impl<'a> Texts<'a> {
    fn of(call: &str, args: &'a [Arg]) -> Self {
        match operations::arrange(call, &super::names::given(args)) {
            Some(Ok(arranged)) => Self::Args(args, arranged.places),
            Some(Err(_)) | None => Self::Misplaced,
        }
    }
}

impl Arguments for Texts<'_> {
    fn slot(&self, index: usize) -> Option<Cow<'_, str>> {
        match self {
            Self::Path(path) => (index == 0).then_some(Cow::Borrowed(*path)),
            Self::Misplaced => Some(Cow::Borrowed(UNKNOWN)),
            Self::Args(args, places) => {
                let at = places.iter().position(|place| *place == Place::Slot(index))?;
                Some(text(&args[at].value))
            }
        }
    }

    fn option(&self, name: &str) -> Option<Cow<'_, str>> {
        let (args, places) = match self {
            Self::Args(args, places) => (args, places),
            Self::Path(_) => return None,
            Self::Misplaced => return Some(Cow::Borrowed(UNKNOWN)),
        };
        // Which model answers where none is named is not the program's to say.
        let mut unsaid = name == "model";
        for (arg, place) in args.iter().zip(places) {
            match (place, &arg.value.kind, &arg.name) {
                (Place::Option, _, Some(given)) if given.node == name => {
                    return Some(text(&arg.value));
                }
                (Place::Options, ExprKind::Record { fields, .. }, _) => {
                    if let Some((_, value)) = fields.iter().find(|(key, _)| key.node == name) {
                        return Some(text(value));
                    }
                    unsaid = false;
                }
                (Place::Options, _, _) => return Some(Cow::Borrowed(UNKNOWN)),
                (Place::Slot(_) | Place::Option | Place::Rest, _, _) => {}
            }
        }
        unsaid.then_some(Cow::Borrowed(UNKNOWN))
    }
}
