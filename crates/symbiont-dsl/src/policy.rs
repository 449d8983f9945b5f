//! Policy blocks to policies.
//!
//! Each rule of a block becomes one or a few rules of the runtime's own shape. The names of a
//! pattern such as `read_logs(service)` stand for the call's arguments, by position.
//!
//! # What holds
//!
//! - What a condition computes is a [`formula`]; what compares is left to the engine.
//! - Nothing is widened: a condition that cannot be expressed makes an `allow` never match, and a
//!   `deny`, a demanded approval and a limit always hold. The compiler says so, but for a name that
//!   nobody defined, which is the checker's to report.
//! - A file has one spelling: a path in a rule is compared as the sandbox will see it, which is how a
//!   request states it.
//! - Nothing under `require` is silently accepted: a setting that nobody enforces is reported.
//!
//! # What is not here
//!
//! Deciding: that is the policy engine's. What a name means as an operation is in
//! [`operations`].

use std::collections::HashMap;
use std::time::Duration;

use symbiont_types::{
    Comparison, Condition, Obligation, Operand, Policy, PolicyEffect, PolicyRule, PolicyValue,
};

use crate::diagnostic::{Diagnostic, Sink, nearest};
use crate::formula::{self, Fault, Formula, Kinds, Root};
use crate::hir::{
    Agent, Arg, BinaryOp, BlockKind, Expr, ExprKind, Function, Literal, PolicyBlock, Program, Rule,
    Span, Spanned, UnaryOp, Verb,
};
use crate::negation;
use crate::operations;
use crate::syntax::MAX_SOURCE;
use crate::syntax::literal::{parse_duration, short};

/// How long a demanded approval stands open unless the block says otherwise.
const APPROVAL_TTL: Duration = Duration::from_secs(60 * 60);

/// Compiles a block of the program that was read from `source`.
pub fn compile(block: &PolicyBlock, program: &Program, source: &str) -> (Policy, Vec<Diagnostic>) {
    let mut sink = Sink::default();
    let file = Scope::of(program);
    let holds = |agent: &&Agent| agent.policies.iter().any(|own| own.span == block.span);
    let policy = match program.agents.iter().find(holds) {
        Some(agent) => compile_into(block, &file.within(agent), source, &mut sink),
        None => compile_into(block, &file, source, &mut sink),
    };
    (policy, sink.finish())
}

/// What around a block has names that policies don't see. They hide what a request says under them.
pub(crate) struct Scope<'a> {
    hidden: HashMap<&'a str, &'static str>,
    memories: Vec<&'a str>,
    around: Option<&'a Scope<'a>>,
}

impl<'a> Scope<'a> {
    pub(crate) fn of(program: &'a Program) -> Self {
        let memories = program.blocks.iter().filter(|block| block.kind == BlockKind::Memory);
        Self {
            hidden: functions(&program.functions, "a function of the file").collect(),
            memories: memories.map(|block| block.name.node.as_str()).collect(),
            around: None,
        }
    }

    pub(crate) fn within(&'a self, agent: &'a Agent) -> Self {
        let parameters =
            agent.params.iter().map(|param| (param.name.node.as_str(), "a parameter of the agent"));
        let functions = functions(&agent.functions, "a function of the agent");
        Self {
            hidden: functions.chain(parameters).collect(),
            memories: Vec::new(),
            around: Some(self),
        }
    }

    fn root(&self, name: &str) -> Root {
        if let Some(what) = self.hidden.get(name) {
            return Root::Hidden(what);
        }
        match (self.around, formula::well_known(name)) {
            (Some(around), _) => around.root(name),
            // What the runtime fills comes before memories.
            (None, Root::Unknown) if self.memories.contains(&name) => Root::Hidden("a memory"),
            (None, known) => known,
        }
    }
}

fn functions<'a>(
    functions: &'a [Function],
    what: &'static str,
) -> impl Iterator<Item = (&'a str, &'static str)> {
    functions.iter().map(move |function| (function.name.node.as_str(), what))
}

pub(crate) fn compile_into(
    block: &PolicyBlock,
    scope: &Scope<'_>,
    source: &str,
    sink: &mut Sink,
) -> Policy {
    let mut rules = Vec::new();
    for (at, rule) in block.rules.iter().enumerate() {
        let number = at + 1;
        let mut compiler = Compiler {
            source,
            scope,
            rule,
            sink,
            number,
            pushed: 0,
            reported: None,
            rules: &mut rules,
        };
        compiler.rule();
    }
    Policy {
        id: block.name.node.clone(),
        name: block.name.node.clone(),
        description: String::new(),
        rules,
        priority: 0,
        enabled: true,
    }
}

/// What a rule speaks of, in part or in whole.
#[derive(Debug, Default, PartialEq)]
struct Target {
    operations: Vec<String>,
    /// What the pattern's literals ask for.
    conditions: Vec<Condition>,
    /// The pattern's names, and the facts that they stand for.
    names: Vec<(String, Vec<String>)>,
    /// A part of the pattern that cannot be expressed.
    inexpressible: Option<Fault>,
    /// Whether it speaks of files only, so that the first argument is a path.
    files: bool,
}

impl Target {
    /// The kinds of what a request says under a path, as far as all that the pattern speaks of takes no
    /// others there.
    fn kinds(&self, fact: &[String]) -> Kinds {
        let whatever = Kinds::of_fact(fact);
        let [kind, at] = fact else { return whatever };
        if kind != "argument" {
            return whatever;
        }
        let at = at.parse::<usize>().ok();
        let of = |name: &String| {
            let name = name.split(':').next().unwrap_or_default();
            match (name, at) {
                ("sandbox.exec" | "fs.read" | "fs.write" | "message.send", Some(0)) => {
                    Kinds::STRING
                }
                ("sandbox.exec", Some(1)) => Kinds::ARRAY.or(Kinds::NULL),
                _ => whatever,
            }
        };
        self.operations.iter().map(of).reduce(Kinds::or).unwrap_or(whatever)
    }

    /// Whether this fact is the path of a file.
    fn is_path(&self, fact: &[String]) -> bool {
        self.files && (fact == ["argument", "0"] || fact == ["named", "path"])
    }
}

struct Compiler<'a> {
    source: &'a str,
    scope: &'a Scope<'a>,
    rule: &'a Rule,
    sink: &'a mut Sink,
    number: usize,
    /// How many rules came of this one so far.
    pushed: usize,
    /// What of the condition was last said to be inexpressible: several rules may come of it.
    reported: Option<Span>,
    rules: &'a mut Vec<PolicyRule>,
}

impl Compiler<'_> {
    fn rule(&mut self) {
        let rule = self.rule;
        match rule.verb {
            Verb::Allow => self.targets(PolicyEffect::Allow),
            Verb::Deny => self.targets(PolicyEffect::Deny),
            Verb::Audit => match &rule.what.kind {
                ExprKind::Record { fields, .. } => self.settings(fields),
                _ => self.targets(PolicyEffect::Audit),
            },
            Verb::Require => match &rule.what.kind {
                ExprKind::Record { fields, .. } => self.settings(fields),
                _ => self.requirement(&rule.what),
            },
        }
    }

    fn text(&self, span: &Span) -> &str {
        self.source.get(span.clone()).unwrap_or_default()
    }

    fn verb(&self) -> &'static str {
        match self.rule.verb {
            Verb::Allow => "allow",
            Verb::Deny => "deny",
            Verb::Require => "require",
            Verb::Audit => "audit",
        }
    }

    fn push(
        &mut self,
        effect: PolicyEffect,
        operations: Vec<String>,
        conditions: Vec<Condition>,
        obligations: Vec<Obligation>,
    ) {
        let (verb, number) = (self.verb(), self.number);
        self.pushed += 1;
        let id = match self.pushed {
            1 => format!("{verb}-{number}"),
            pushed => format!("{verb}-{number}.{pushed}"),
        };
        let mut compiled = PolicyRule::new(id, effect, operations);
        compiled.conditions = conditions;
        compiled.obligations = obligations;
        compiled.reason =
            self.text(&self.rule.span).split_whitespace().collect::<Vec<_>>().join(" ");
        self.rules.push(compiled);
    }

    /// A rule that speaks of operations.
    fn targets(&mut self, effect: PolicyEffect) {
        let mut targets = Vec::new();
        self.target(&self.rule.what, &mut targets);
        // Targets that bind and ask for nothing are one rule; each of the others is its own.
        let mut merged: Vec<Target> = Vec::new();
        for target in targets {
            let plain = |target: &Target| {
                target.conditions.is_empty()
                    && target.names.is_empty()
                    && target.inexpressible.is_none()
            };
            match merged.last_mut() {
                Some(last) if plain(last) && plain(&target) => {
                    last.operations.extend(target.operations);
                }
                Some(_) | None => merged.push(target),
            }
        }
        // Each repeats the rule's condition and text.
        if merged.len().saturating_mul(self.rule.span.len()) > MAX_SOURCE {
            self.sink.push(
                Diagnostic::error("E0108", "the rule is too large", self.rule.span.clone())
                    .label("too many patterns for a rule of this length")
                    .note("make several rules of it"),
            );
            return;
        }
        for mut target in merged {
            // A call over HTTP is also a connection, and both have to be allowed.
            if effect == PolicyEffect::Allow
                && target.operations.iter().any(|name| name.starts_with("http."))
                && !target.operations.iter().any(|name| name.starts_with("net."))
            {
                target.operations.push("net.connect".to_owned());
            }
            let conditions = match self.conditions(&target) {
                Ok(conditions) => conditions,
                Err(fault) => {
                    self.fails_closed(&fault);
                    match effect {
                        // What is audited without need hurts nobody.
                        PolicyEffect::Audit => Vec::new(),
                        PolicyEffect::Allow
                        | PolicyEffect::Deny
                        | PolicyEffect::RequireApproval { .. }
                        | PolicyEffect::Shadow(_) => {
                            vec![Condition::Inexpressible(self.text(&fault.span).to_owned())]
                        }
                    }
                }
            };
            self.push(effect.clone(), target.operations, conditions, Vec::new());
        }
    }

    /// The conditions of the rule for a target, or what in them cannot be expressed.
    fn conditions(&self, target: &Target) -> Result<Vec<Condition>, Fault> {
        if let Some(fault) = &target.inexpressible {
            return Err(fault.clone());
        }
        let mut conditions = target.conditions.clone();
        if let Some(condition) = &self.rule.condition {
            match self.condition(condition, target)? {
                Condition::All(parts) => conditions.extend(parts),
                condition => conditions.push(condition),
            }
        }
        Ok(conditions)
    }

    fn fails_closed(&mut self, fault: &Fault) {
        let Some(why) = fault.why.as_ref().filter(|_| self.reported.as_ref() != Some(&fault.span))
        else {
            return;
        };
        self.reported = Some(fault.span.clone());
        let outcome = match self.rule.verb {
            Verb::Allow => "this rule never allows anything",
            Verb::Deny => "this rule always denies",
            Verb::Require => "what it requires is always required",
            Verb::Audit => "it always audits",
        };
        let message = format!(
            "the condition `{}` cannot be decided by a policy: {outcome}",
            short(self.text(&fault.span))
        );
        self.sink.push(
            Diagnostic::warning("W0308", message, fault.span.clone()).label(why).note(
                "conditions may use the pattern's names, the ambient names, operators, and builtins and \
                 methods that only compute; let the program work out the rest, and pass it as an \
                 argument",
            ),
        );
    }

    fn target(&mut self, what: &Expr, targets: &mut Vec<Target>) {
        // What is missing has been reported where it should stand.
        if what.kind == ExprKind::Missing {
            return;
        }
        if let ExprKind::Array(elements) = &what.kind {
            for element in elements {
                self.target(element, targets);
            }
            return;
        }
        let (callee, args) = match &what.kind {
            ExprKind::Call { callee, args } => (&**callee, args.as_slice()),
            _ => (what, &[] as &[Arg]),
        };
        let Some(name) = dotted(callee) else {
            self.sink.push(
                Diagnostic::error(
                    "E0208",
                    format!("`{}` speaks of no operation", self.verb()),
                    what.span.clone(),
                )
                .label("expected a name, a call with named parts, a text or an array of them"),
            );
            return;
        };
        self.nobodys(&name, &callee.span);
        let denies = self.rule.verb == Verb::Deny;
        let operations = operations::meant_by(&name);
        let operations = if denies { operations::wherever(operations) } else { operations };
        let parts: Vec<(&Arg, Vec<String>)> = args
            .iter()
            .enumerate()
            .map(|(at, arg)| {
                let fact = match &arg.name {
                    Some(name) => vec!["named".to_owned(), name.node.clone()],
                    None => vec!["argument".to_owned(), at.to_string()],
                };
                (arg, fact)
            })
            .collect();
        let whatever =
            |arg: &Arg| matches!(&arg.value.kind, ExprKind::Name(name) if is_whatever(name));
        for mut target in apart(operations, !args.iter().all(whatever)) {
            for (arg, fact) in &parts {
                pattern_part(arg, fact.clone(), &mut target);
            }
            if denies {
                target.programs_wherever();
            }
            targets.push(target);
        }
    }

    /// Says that no operation is called so.
    fn nobodys(&mut self, name: &str, span: &Span) {
        let Some(nearest) = operations::nobodys(name) else { return };
        let what = match self.rule.verb {
            Verb::Allow => "allows nothing",
            Verb::Deny => "denies nothing",
            Verb::Require | Verb::Audit => "speaks of nothing",
        };
        let message = format!("no operation is called `{}`: this {what}", short(name));
        let mut diagnostic = Diagnostic::warning("W0337", message, span.clone()).label(what);
        if let Some(nearest) = nearest {
            diagnostic = diagnostic.note(format!("`{nearest}` is one"));
        }
        self.sink.push(diagnostic);
    }

    // What is required.

    /// `require: approval(...)`, and what else may stand there.
    fn requirement(&mut self, what: &Expr) {
        match &what.kind {
            ExprKind::Array(elements) => {
                return elements.iter().for_each(|element| self.requirement(element));
            }
            ExprKind::Record { fields, .. } => return self.settings(fields),
            ExprKind::Missing => return,
            _ => {}
        }
        let (callee, args) = match &what.kind {
            ExprKind::Call { callee, args } => (&**callee, args.as_slice()),
            _ => (what, &[] as &[Arg]),
        };
        let Some(name) = dotted(callee).filter(|name| is_approval(name)) else {
            self.not_enforced(&what.span);
            return;
        };
        let mut demand = Approval::default();
        let mut operations = Vec::new();
        let mut everything = args.is_empty();
        if let Some(role) = name.strip_prefix("approval.") {
            demand.approvers.push(role.to_owned());
        }
        for arg in args {
            match &arg.name {
                Some(key) => {
                    if !demand.setting(&key.node, &arg.value) {
                        self.unknown_setting(key, APPROVAL_SETTINGS);
                    }
                }
                // Only what names an operation narrows what needs approval: a name may as well be a
                // parameter, and a text the one who approves.
                None => match dotted(&arg.value) {
                    Some(name)
                        if matches!(
                            arg.value.kind,
                            ExprKind::Literal(_) | ExprKind::Member(..)
                        ) && operations::is_meant(&name)
                            || operations::is_host_call(&name) =>
                    {
                        operations.extend(operations::wherever(operations::meant_by(&name)));
                    }
                    name => {
                        everything = true;
                        if let (Some(name), ExprKind::Literal(_)) = (name, &arg.value.kind) {
                            self.approves_all(&name, &arg.value.span);
                        }
                    }
                },
            }
        }
        if everything || operations.is_empty() {
            operations = vec!["*".to_owned()];
        }
        let conditions = self.settings_conditions();
        let effect = self.demanded(demand);
        self.push(effect, operations, conditions, Vec::new());
    }

    /// Says that a text narrows nothing.
    fn approves_all(&mut self, name: &str, span: &Span) {
        let name = short(name);
        let message = format!("`{name}` is no operation, so that everything needs approval");
        self.sink.push(
            Diagnostic::warning("W0336", message, span.clone())
                .label("narrows nothing")
                .note(format!(
                    "`\"tool.call:{name}\"` is the tool of that name; `approvers: [\"{name}\"]` says who \
                     approves"
                )),
        );
    }

    /// The effect of a demand, which somebody has to be able to meet.
    fn demanded(&mut self, demand: Approval) -> PolicyEffect {
        let named = demand.approvers.len();
        if let Some(span) = &demand.quorum_span
            && named > 0
            && usize::try_from(demand.quorum).is_ok_and(|quorum| quorum > named)
        {
            let message = format!("{} have to approve, and only {named} may", demand.quorum);
            self.sink.push(
                Diagnostic::error("E0208", message, span.clone())
                    .label("nobody can reach this")
                    .note("name more approvers, or none so that anyone may"),
            );
        }
        demand.effect()
    }

    /// A record of settings under `require` or `audit`.
    fn settings(&mut self, fields: &[(Spanned<String>, Expr)]) {
        let mut demand: Option<Approval> = None;
        let mut obligations = Vec::new();
        let mut operations: Vec<String> = Vec::new();
        for (key, value) in fields {
            match key.node.as_str() {
                "operations" | "operation" | "for" | "actions" => {
                    operations
                        .extend(texts(value).iter().flat_map(|name| operations::meant_by(name)));
                    continue;
                }
                _ => {}
            }
            if self.rule.verb == Verb::Require && is_approval(&key.node) {
                if value.kind != ExprKind::Literal(Literal::Bool(false)) {
                    let demand = demand.get_or_insert_default();
                    if let ExprKind::Record { fields, .. } = &value.kind {
                        for (key, value) in fields {
                            if !demand.setting(&key.node, value) {
                                self.unknown_setting(key, APPROVAL_SETTINGS);
                            }
                        }
                    } else {
                        demand.setting(&key.node, value);
                    }
                }
                continue;
            }
            if self.rule.verb == Verb::Require
                && APPROVAL_SETTINGS.contains(&key.node.as_str())
                && fields.iter().any(|(key, _)| is_approval(&key.node))
                && demand.get_or_insert_default().setting(&key.node, value)
            {
                continue;
            }
            match obligation(&key.node, value) {
                Setting::Enforced(obligation) => obligations.push(obligation),
                Setting::Malformed(expected) => self.sink.push(
                    Diagnostic::error(
                        "E0208",
                        format!("`{}` is no {expected}", short(self.text(&value.span))),
                        value.span.clone(),
                    )
                    .label(format!("expected {expected}")),
                ),
                Setting::Unknown => self.unknown_setting(key, SETTINGS),
            }
        }
        if operations.is_empty() {
            operations = vec!["*".to_owned()];
        }
        let conditions = self.settings_conditions();
        if let Some(demand) = demand {
            let effect = self.demanded(demand);
            self.push(effect, operations, conditions, obligations);
        } else if !obligations.is_empty() || self.rule.verb == Verb::Audit {
            self.push(PolicyEffect::Audit, operations, conditions, obligations);
        }
    }

    /// The conditions under which something is required. One that cannot be expressed leaves it
    /// always required.
    fn settings_conditions(&mut self) -> Vec<Condition> {
        match self.conditions(&Target::default()) {
            Ok(conditions) => conditions,
            Err(fault) => {
                self.fails_closed(&fault);
                Vec::new()
            }
        }
    }

    fn not_enforced(&mut self, span: &Span) {
        let message = format!("`{}` is not enforced", short(self.text(span)));
        self.sink.push(
            Diagnostic::warning("W0309", message, span.clone())
                .label("nothing here enforces this")
                .note("what is enforced: `approval`, `rate_limit`, `timeout`, `log_level`, `redact`, `notify`"),
        );
    }

    fn unknown_setting(&mut self, key: &Spanned<String>, known: &[&str]) {
        let message = format!("the setting `{}` is not enforced", short(&key.node));
        self.sink.push(
            Diagnostic::warning("W0309", message, key.span.clone())
                .label("nothing here enforces this")
                .did_you_mean(nearest(&key.node, known.iter().copied())),
        );
    }

    // Conditions.

    fn condition(&self, expr: &Expr, target: &Target) -> Result<Condition, Fault> {
        let inner = |expr: &Expr| self.condition(expr, target);
        // The two sides of a comparison, with a path as requests state it.
        let sides = |op, left: &Expr, right: &Expr| -> Result<(Operand, Operand), Fault> {
            let kinds = (self.kinds(left, target)?, self.kinds(right, target)?);
            formula::comparable(op, (left, kinds.0), (right, kinds.1)).map_err(|fault| {
                match negation::of_whole(self.source, op, left, right) {
                    Some(meant) => {
                        let why = "`not` is read first, as of what stands right behind it";
                        Fault::new(&expr.span, format!("{why}; did you mean `{}`?", short(&meant)))
                    }
                    None => fault,
                }
            })?;
            let (mut left, mut right) = (self.operand(left, target)?, self.operand(right, target)?);
            target.compare_paths(&mut left, &mut right);
            Ok((left, right))
        };
        let no_truth = || Err(Fault::new(&expr.span, "neither true nor false"));
        match &expr.kind {
            ExprKind::Literal(Literal::Bool(true)) => Ok(Condition::All(Vec::new())),
            ExprKind::Literal(Literal::Bool(false)) => Ok(Condition::Any(Vec::new())),
            ExprKind::Unary(UnaryOp::Not, of) => Ok(Condition::Not(Box::new(inner(of)?))),
            ExprKind::Binary(op, left, right) => {
                let compare = |by| -> Result<Condition, Fault> {
                    let (left, right) = sides(*op, left, right)?;
                    Ok(Condition::Compare { left, op: by, right })
                };
                // The engine orders numbers only.
                let order = |by| match (&left.kind, &right.kind) {
                    (ExprKind::Literal(Literal::String(_)), _)
                    | (_, ExprKind::Literal(Literal::String(_))) => {
                        Ok(Condition::Is(self.formula(expr, target)?))
                    }
                    _ => compare(by),
                };
                match op {
                    BinaryOp::And => {
                        Ok(Condition::All(both(inner(left)?, inner(right)?, |part| match part {
                            Condition::All(parts) => Ok(parts),
                            part => Err(part),
                        })))
                    }
                    BinaryOp::Or => {
                        Ok(Condition::Any(both(inner(left)?, inner(right)?, |part| match part {
                            Condition::Any(parts) => Ok(parts),
                            part => Err(part),
                        })))
                    }
                    // The engine knows no options, and would take what is in one.
                    BinaryOp::Equal | BinaryOp::NotEqual if wraps(left) || wraps(right) => {
                        Ok(Condition::Is(self.formula(expr, target)?))
                    }
                    BinaryOp::Equal => compare(Comparison::Equal),
                    BinaryOp::NotEqual => compare(Comparison::NotEqual),
                    BinaryOp::Less => order(Comparison::Less),
                    BinaryOp::LessOrEqual => order(Comparison::LessOrEqual),
                    BinaryOp::Greater => order(Comparison::Greater),
                    BinaryOp::GreaterOrEqual => order(Comparison::GreaterOrEqual),
                    BinaryOp::In | BinaryOp::NotIn => {
                        let (value, set) = sides(*op, left, right)?;
                        // What is worked out is asked where it is: a range is not made for it. And the
                        // engine would take what is in an option.
                        let options = match &right.kind {
                            ExprKind::Array(elements) => elements.iter().any(wraps),
                            _ => false,
                        };
                        if matches!(set, Operand::Formula(_)) || options || wraps(left) {
                            return Ok(Condition::Is(self.formula(expr, target)?));
                        }
                        let is_in = Condition::In { value, set };
                        Ok(match op {
                            BinaryOp::In => is_in,
                            _ => Condition::Not(Box::new(is_in)),
                        })
                    }
                    BinaryOp::Add
                    | BinaryOp::Subtract
                    | BinaryOp::Multiply
                    | BinaryOp::Divide
                    | BinaryOp::Remainder => no_truth(),
                }
            }
            ExprKind::Call { callee, args } => match self.text_condition(callee, args, target)? {
                Some(condition) => Ok(condition),
                None => self.truth(expr, target),
            },
            ExprKind::Literal(_)
            | ExprKind::Array(_)
            | ExprKind::Record { .. }
            | ExprKind::Unary(UnaryOp::Negate, _)
            | ExprKind::Some(_)
            | ExprKind::None
            | ExprKind::Ok(_)
            | ExprKind::Err(_) => no_truth(),
            ExprKind::Name(_)
            | ExprKind::Member(..)
            | ExprKind::Index(..)
            | ExprKind::Lambda { .. }
            | ExprKind::If { .. }
            | ExprKind::Match { .. }
            | ExprKind::Secret(_)
            | ExprKind::Missing => self.truth(expr, target),
        }
    }

    /// `x.starts_with("a")`, `x.ends_with("a")` and `x.contains(y)`, which the engine knows.
    fn text_condition(
        &self,
        callee: &Expr,
        args: &[Arg],
        target: &Target,
    ) -> Result<Option<Condition>, Fault> {
        let ExprKind::Member(of, method) = &callee.kind else { return Ok(None) };
        let [Arg { name: None, value: argument }] = args else { return Ok(None) };
        if !matches!(method.node.as_str(), "contains" | "starts_with" | "ends_with") {
            return Ok(None);
        }
        let value = self.operand(of, target)?;
        if method.node == "contains" && matches!(value, Operand::Formula(_)) {
            return Ok(None);
        }
        let literal = match (method.node.as_str(), self.operand(argument, target)?) {
            ("contains", item) => return Ok(Some(Condition::In { value: item, set: value })),
            (_, Operand::Literal(PolicyValue::String(text))) => text,
            _ => return Ok(None),
        };
        let begins = method.node == "starts_with";
        let text = match &value {
            Operand::Attribute(fact) if begins && !literal.is_empty() && target.is_path(fact) => {
                let slash = if literal.ends_with('/') && literal != "/" { "/" } else { "" };
                operations::absolute(&literal) + slash
            }
            _ => literal,
        };
        // In a form `*` stands for any text, and there is no way to say that it does not.
        if text.contains('*') {
            let of = self.formula_text(of, target)?;
            let text = text.replace('\\', "\\\\").replace('"', "\\\"");
            let formula = format!("({of}).{}(\"{text}\")", method.node);
            return Ok(Some(Condition::Is(Operand::Formula(formula))));
        }
        let pattern = if begins { format!("{text}*") } else { format!("*{text}") };
        Ok(Some(Condition::Like { value, pattern }))
    }

    /// The kinds that a value can be of.
    fn kinds(&self, expr: &Expr, target: &Target) -> Result<Kinds, Fault> {
        formula::kinds(expr, &|name| self.root(name, target), &|fact| target.kinds(fact))
    }

    /// A value that is a condition by itself.
    fn truth(&self, expr: &Expr, target: &Target) -> Result<Condition, Fault> {
        let operand = self.operand(expr, target)?;
        match self.kinds(expr, target)?.meets(Kinds::BOOL) {
            true => Ok(Condition::Is(operand)),
            false => Err(Fault::new(&expr.span, "neither true nor false")),
        }
    }

    /// A value, a fact about the request, or what is worked out of such.
    fn operand(&self, expr: &Expr, target: &Target) -> Result<Operand, Fault> {
        if let Some(value) = value(expr) {
            return Ok(Operand::Literal(value));
        }
        match formula::path(expr, &|name| self.root(name, target)) {
            Some(path) if formula::is_fact(&path) => Ok(Operand::Attribute(path)),
            _ => self.formula(expr, target),
        }
    }

    /// An expression as a formula.
    fn formula(&self, expr: &Expr, target: &Target) -> Result<Operand, Fault> {
        let text = self.formula_text(expr, target)?;
        match Formula::read(&text) {
            Ok(_) => self.kinds(expr, target).map(|_| Operand::Formula(text)),
            Err(error) => Err(Fault::new(&expr.span, error.message)),
        }
    }

    /// The text of an expression, with facts for the names of the pattern.
    fn formula_text(&self, expr: &Expr, target: &Target) -> Result<String, Fault> {
        let mut places = Vec::new();
        formula::walk(expr, &|name| self.root(name, target), &mut |place| {
            let ExprKind::Name(name) = &place.root.kind else { return };
            if let Some((_, fact)) = target.names.iter().find(|(known, _)| known == name) {
                let instead = match fact.as_slice() {
                    [kind, at] if kind == "argument" => format!("argument[{at}]"),
                    [_, name] => format!("named.{name}"),
                    _ => return,
                };
                places.push((place.root.span.clone(), instead));
            }
        })?;
        Ok(formula::replaced(self.text(&expr.span), expr.span.start, places))
    }

    /// What a name stands for in a condition.
    fn root(&self, name: &str, target: &Target) -> Root {
        match target.names.iter().find(|(known, _)| known == name) {
            Some((_, path)) => Root::Path(path.clone()),
            None => self.scope.root(name),
        }
    }
}

/// The operations as targets. Where their arguments matter, those on files are apart from the
/// others: of a glob that covers both, each half has a condition that says so.
fn apart(operations: Vec<String>, by_argument: bool) -> Vec<Target> {
    const FILES: &str = "fs.";
    if !by_argument {
        return vec![Target { operations, ..Target::default() }];
    }
    let (files, rest): (Vec<_>, Vec<_>) =
        operations.into_iter().partition(|name| name.starts_with(FILES));
    let (both, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(|name| {
        name.split_once('*').is_some_and(|(before, _)| FILES.starts_with(before))
    });
    let on_files = Condition::Like {
        value: Operand::Attribute(vec!["operation".to_owned()]),
        pattern: format!("{FILES}*"),
    };
    let not_on_files = Condition::Not(Box::new(on_files.clone()));
    [
        (others, false, None),
        (files, true, None),
        (both.clone(), true, Some(on_files)),
        (both, false, Some(not_on_files)),
    ]
    .into_iter()
    .filter(|(operations, ..)| !operations.is_empty())
    .map(|(operations, files, condition)| Target {
        operations,
        conditions: condition.into_iter().collect(),
        files,
        ..Target::default()
    })
    .collect()
}

/// Whether a part of a pattern matches all and binds nothing.
fn is_whatever(name: &str) -> bool {
    matches!(name, "any" | "_")
}

/// A part of a pattern: a name to bind, `any`, or a literal that the argument has to equal.
fn pattern_part(arg: &Arg, fact: Vec<String>, target: &mut Target) {
    if let ExprKind::Name(name) = &arg.value.kind {
        if target.names.iter().any(|(known, _)| known == name) {
            let why = format!("a second part called `{}`", short(name));
            target.inexpressible = Some(Fault::new(&arg.value.span, why));
        } else if !is_whatever(name) {
            target.names.push((name.clone(), fact));
        }
        return;
    }
    let Some(value) = value(&arg.value) else {
        let why = (arg.value.kind != ExprKind::Missing)
            .then(|| "neither a name nor a literal, which the parts of a pattern are".to_owned());
        target.inexpressible = Some(Fault { span: arg.value.span.clone(), why });
        return;
    };
    let (mut left, mut right) = (Operand::Attribute(fact), Operand::Literal(value));
    target.compare_paths(&mut left, &mut right);
    // One path is part of the operation's name, unless a star in it could stand for others.
    if let (Operand::Attribute(fact), Operand::Literal(PolicyValue::String(path))) = (&left, &right)
        && target.is_path(fact)
        && !path.contains('*')
        && target.operations.iter().all(|name| matches!(name.as_str(), "fs.read" | "fs.write"))
    {
        for operation in &mut target.operations {
            *operation = format!("{operation}:{path}");
        }
        return;
    }
    target.conditions.push(Condition::Compare { left, op: Comparison::Equal, right });
}

impl Target {
    /// Has a program that is named by its name alone be the program of that name wherever it is.
    fn programs_wherever(&mut self) {
        if !self.operations.iter().all(|name| name.starts_with("sandbox.exec")) {
            return;
        }
        for condition in &mut self.conditions {
            let Condition::Compare { left: Operand::Attribute(fact), op: Comparison::Equal, right } =
                condition
            else {
                continue;
            };
            let Operand::Literal(PolicyValue::String(program)) = right else { continue };
            let first = *fact == ["argument", "0"] || *fact == ["named", "command"];
            if first && !program.contains(['/', '*']) && !program.is_empty() {
                let pattern = format!("*/{program}");
                let elsewhere =
                    Condition::Like { value: Operand::Attribute(fact.clone()), pattern };
                *condition = Condition::Any(vec![condition.clone(), elsewhere]);
            }
        }
    }

    /// Makes the paths that one side is compared with absolute, if the other is a path.
    fn compare_paths(&self, left: &mut Operand, right: &mut Operand) {
        match (left, right) {
            (Operand::Attribute(fact), Operand::Literal(value))
            | (Operand::Literal(value), Operand::Attribute(fact))
                if self.is_path(fact) =>
            {
                absolute(value);
            }
            _ => {}
        }
    }
}

/// The path, or each of the paths, as the sandbox will see it.
fn absolute(value: &mut PolicyValue) {
    match value {
        PolicyValue::String(path) => *path = operations::absolute(path),
        PolicyValue::List(paths) => paths.iter_mut().for_each(absolute),
        PolicyValue::Null
        | PolicyValue::Bool(_)
        | PolicyValue::Int(_)
        | PolicyValue::Float(_)
        | PolicyValue::Record(_) => {}
    }
}

/// Whether an option or a result is written out.
fn wraps(expr: &Expr) -> bool {
    matches!(expr.kind, ExprKind::Some(_) | ExprKind::Ok(_) | ExprKind::Err(_))
}

/// Two conditions as one list; those that `open` gives the parts of are taken apart.
fn both(
    left: Condition,
    right: Condition,
    open: impl Fn(Condition) -> Result<Vec<Condition>, Condition>,
) -> Vec<Condition> {
    let mut parts = open(left).unwrap_or_else(|one| vec![one]);
    parts.extend(open(right).unwrap_or_else(|one| vec![one]));
    parts
}

/// The value of a literal, an array or a record of them.
fn value(expr: &Expr) -> Option<PolicyValue> {
    Some(match &expr.kind {
        ExprKind::Literal(Literal::Null) | ExprKind::None => PolicyValue::Null,
        ExprKind::Literal(Literal::Bool(value)) => PolicyValue::Bool(*value),
        ExprKind::Literal(Literal::Int(value)) => PolicyValue::Int(*value),
        ExprKind::Literal(Literal::Float(value)) => PolicyValue::Float(*value),
        ExprKind::Literal(Literal::String(value)) => PolicyValue::String(value.clone()),
        // Seconds, as a request states them.
        ExprKind::Literal(Literal::Duration(duration)) => {
            PolicyValue::Float(duration.as_secs_f64())
        }
        ExprKind::Literal(Literal::Size(bytes)) => PolicyValue::Int(i64::try_from(*bytes).ok()?),
        ExprKind::Unary(UnaryOp::Negate, of) => match value(of)? {
            PolicyValue::Int(value) => PolicyValue::Int(value.checked_neg()?),
            PolicyValue::Float(value) => PolicyValue::Float(-value),
            PolicyValue::Null
            | PolicyValue::Bool(_)
            | PolicyValue::String(_)
            | PolicyValue::List(_)
            | PolicyValue::Record(_) => return None,
        },
        ExprKind::Array(elements) => {
            PolicyValue::List(elements.iter().map(value).collect::<Option<_>>()?)
        }
        ExprKind::Record { fields, .. } => PolicyValue::Record(
            fields
                .iter()
                .map(|(key, field)| Some((key.node.clone(), value(field)?)))
                .collect::<Option<_>>()?,
        ),
        _ => return None,
    })
}

/// `name`, `dotted.name` or `"text"` as text.
fn dotted(expr: &Expr) -> Option<String> {
    match &expr.kind {
        ExprKind::Name(name) | ExprKind::Literal(Literal::String(name)) => Some(name.clone()),
        ExprKind::Member(of, name) => Some(format!("{}.{}", dotted(of)?, name.node)),
        _ => None,
    }
}

/// The names and texts of an array, or the one that stands alone.
fn texts(expr: &Expr) -> Vec<String> {
    match &expr.kind {
        ExprKind::Array(elements) => elements.iter().filter_map(dotted).collect(),
        _ => dotted(expr).into_iter().collect(),
    }
}

// Settings.

/// The keys that say how something is approved.
const APPROVAL_SETTINGS: &[&str] = &[
    "approvers",
    "approver",
    "quorum",
    "ttl",
    "approval_timeout",
    "approval_ttl",
    "approval_quorum",
];

/// The keys that the runtime enforces.
const SETTINGS: &[&str] =
    &["approval", "rate_limit", "timeout", "log_level", "log", "redact", "notify", "operations"];

fn is_approval(key: &str) -> bool {
    key.starts_with("approval") || matches!(key, "require_approval" | "human_approval")
}

/// How something is to be approved.
struct Approval {
    approvers: Vec<String>,
    quorum: u32,
    /// Where the quorum is written, if it is.
    quorum_span: Option<Span>,
    ttl: Duration,
}

impl Default for Approval {
    fn default() -> Self {
        Self { approvers: Vec::new(), quorum: 1, quorum_span: None, ttl: APPROVAL_TTL }
    }
}

impl Approval {
    /// Takes a setting; false if it is none of these or its value does not fit.
    fn setting(&mut self, key: &str, value: &Expr) -> bool {
        match key {
            "approvers" | "approver" => {
                let approvers = texts(value);
                let found = !approvers.is_empty();
                self.approvers.extend(approvers);
                found
            }
            "quorum" | "approval_quorum" => match value.kind {
                ExprKind::Literal(Literal::Int(quorum)) if quorum > 0 => {
                    self.quorum_span = Some(value.span.clone());
                    u32::try_from(quorum).map(|quorum| self.quorum = quorum).is_ok()
                }
                _ => false,
            },
            "ttl" | "approval_timeout" | "approval_ttl" => {
                duration(value).map(|ttl| self.ttl = ttl).is_some()
            }
            // `approval: "lead"` names who approves.
            _ => match &value.kind {
                ExprKind::Literal(Literal::String(who)) => {
                    self.approvers.push(who.clone());
                    true
                }
                ExprKind::Array(_) => {
                    self.approvers.extend(texts(value));
                    true
                }
                _ => true,
            },
        }
    }

    fn effect(self) -> PolicyEffect {
        let Self { approvers, quorum, ttl, quorum_span: _ } = self;
        PolicyEffect::RequireApproval { approvers, quorum, ttl }
    }
}

/// What a setting turned out to be.
enum Setting {
    Enforced(Obligation),
    /// It is known, and its value is not what is given here.
    Malformed(&'static str),
    Unknown,
}

fn obligation(key: &str, value: &Expr) -> Setting {
    let found = match key {
        "rate_limit" => rate(value).map(|(count, per)| Obligation::RateLimit { count, per }),
        "timeout" => duration(value).map(Obligation::Timeout),
        "log_level" | "log" => dotted(value).map(Obligation::LogLevel),
        "redact" | "redactions" => {
            Some(texts(value)).filter(|fields| !fields.is_empty()).map(Obligation::Redact)
        }
        "notify" => dotted(value).map(Obligation::Notify),
        _ => return Setting::Unknown,
    };
    match (found, key) {
        (Some(obligation), _) => Setting::Enforced(obligation),
        (None, "rate_limit") => Setting::Malformed("rate such as \"1000/hour\""),
        (None, "timeout") => Setting::Malformed("duration greater than nothing"),
        (None, _) => Setting::Malformed("name or text"),
    }
}

/// `"1000/hour"`, `"10/5m"`, `"3 per second"`
fn rate(value: &Expr) -> Option<(u32, Duration)> {
    let ExprKind::Literal(Literal::String(text)) = &value.kind else { return None };
    let (count, per) = text.split_once('/').or_else(|| text.split_once(" per "))?;
    let count = count.trim().replace('_', "").parse().ok()?;
    let per = per.trim();
    // `hour` is one of them; a bare number is no time.
    let per = match per.starts_with(|c: char| c.is_ascii_digit()) {
        true if per.ends_with(|c: char| c.is_alphabetic()) => parse_duration(per)?,
        true => return None,
        false => parse_duration(&format!("1{per}")).filter(|_| !per.is_empty())?,
    };
    if per.is_zero() {
        return None;
    }
    Some((count, per))
}

/// A duration, a number of milliseconds, or either as text; more than nothing.
pub(crate) fn duration(value: &Expr) -> Option<Duration> {
    let duration = match &value.kind {
        ExprKind::Literal(Literal::Duration(duration)) => *duration,
        ExprKind::Literal(Literal::Int(milliseconds)) => {
            Duration::from_millis(u64::try_from(*milliseconds).ok()?)
        }
        ExprKind::Literal(Literal::String(text)) => parse_duration(text)?,
        _ => return None,
    };
    (!duration.is_zero()).then_some(duration)
}
