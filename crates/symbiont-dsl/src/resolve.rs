//! Which name means what: every binding of a program, and every place that names something.
//!
//! One walk knows the scopes of the language. The checker reports from what it found
//! ([`crate::check`]), inference looks names up in it ([`crate::infer`]), and editors ask it through
//! [`crate::analysis`].
//!
//! # What holds
//!
//! - Any program is taken, faulty ones too. Names without letters are left out.
//! - A variable that is assigned without `let` belongs to the whole body of its function, handler,
//!   `with` block or lambda, and is known there from its first assignment on.
//! - A lambda that assigns a name of the body around it means that name, though its change stays its
//!   own: it captured the value.
//! - Time is linear but for the logarithm of looking names up: each expression is walked at most
//!   twice, once to find what its body assigns and once to resolve it.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::formula::FACTS;
use crate::hir::{
    Agent, Arg, Block, BlockDecl, BlockKind, Condition, Expr, ExprKind, Function, Literal, Param,
    Pattern, PatternKind, PolicyBlock, Program, Rule, Span, Spanned, Stmt, StmtKind, Type,
    TypeKind,
};
use crate::operations::{self, AMBIENT, BUILTINS, NAMESPACES};
use crate::types::{arity, is_builtin};

/// A map with names in its keys; nothing depends on its order.
pub(crate) type Names<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// The methods that change what they are called on.
const MUTATORS: [&str; 4] = ["append", "push", "remove", "merge"];

/// What kind of thing a name is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SymbolKind {
    /// `agent`
    Agent,
    /// `function`
    Function,
    /// A parameter of an agent, a function, a handler or a lambda.
    Parameter,
    /// A variable: of `let`, an assignment, `for`, `catch` or a pattern.
    Variable,
    /// A named part of a pattern in a policy rule.
    Part,
    /// `type`
    Type,
    /// `policy`
    Policy,
    /// `memory`
    Memory,
    /// `channel`
    Channel,
    /// `schedule`
    Schedule,
    /// `webhook`
    Webhook,
}

/// What a name means where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Meaning {
    /// Something of the file: the number of its symbol.
    Symbol(usize),
    /// A builtin function.
    Builtin,
    /// A host call, with its namespace where it has one: `fs.read`.
    HostCall,
    /// A namespace of host calls, alone.
    Namespace,
    /// A name that the runtime fills.
    Ambient,
    /// `any`, whatever.
    Any,
    /// A type that everybody knows.
    KnownType,
    /// A type that nobody defined.
    OpaqueType,
    /// A tool, by its being called.
    Tool,
    /// Nothing that anybody defined.
    Undefined,
}

/// What is done to a name where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// It is bound.
    Definition,
    /// It is read, called or referred to.
    Read,
    /// It is assigned a value.
    Write,
    /// It is assigned a value made from its own.
    Update,
}

/// A place where a name stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Occurrence {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) meaning: Meaning,
    pub(crate) role: Role,
}

/// What a symbol was made by, as far as its type depends on it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Origin<'a> {
    /// A value that it is bound to where it is defined.
    Value,
    /// The values that are assigned to it without a `let`.
    Assigned,
    /// A value of this written type.
    Typed(&'a Type),
    /// A function.
    Function(&'a Function),
    /// Anything else.
    Other,
}

/// Something that has a name.
#[derive(Debug)]
pub(crate) struct Binding<'a> {
    pub(crate) name: &'a str,
    pub(crate) span: Span,
    pub(crate) kind: SymbolKind,
    pub(crate) origin: Origin<'a>,
    /// Where it can be named.
    pub(crate) scope: usize,
    /// From which byte on.
    pub(crate) from: usize,
    /// How often it is read.
    pub(crate) reads: u32,
    /// How often it is assigned to or changed in place, its `let` apart.
    pub(crate) writes: u32,
    /// Whether a `let` or an assignment made it: it is for nothing if nobody reads it.
    pub(crate) stored: bool,
}

/// A part of the program in which names are visible.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    pub(crate) span: Span,
    pub(crate) parent: usize,
    /// The bindings in it, in order.
    pub(crate) bindings: Vec<usize>,
}

/// What is called, where that is known.
#[derive(Debug)]
pub(crate) enum Callee<'a> {
    /// A function of the file.
    Function(usize, &'a Function),
    /// A host call, by its whole name.
    Host(Cow<'a, str>),
    /// A tool.
    Tool(Cow<'a, str>),
}

/// A call in a body.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) callee: Callee<'a>,
    /// Where what is called stands.
    pub(crate) name: Span,
    pub(crate) args: &'a [Arg],
    pub(crate) span: &'a Span,
}

/// A name that nobody defined.
#[derive(Debug)]
pub(crate) struct Undefined<'a> {
    pub(crate) name: &'a str,
    pub(crate) span: Span,
    /// Whether it stands in the condition of a rule, where other names are known.
    pub(crate) in_rule: bool,
    /// What of it is called or read, if it stands before a dot.
    pub(crate) member: Option<&'a Spanned<String>>,
}

/// What a program's names mean.
#[derive(Debug, Default)]
pub(crate) struct Resolution<'a> {
    pub(crate) bindings: Vec<Binding<'a>>,
    /// In the order of the source.
    pub(crate) occurrences: Vec<Occurrence>,
    pub(crate) scopes: Vec<Scope>,
    pub(crate) calls: Vec<Call<'a>>,
    /// The names in bodies and conditions that nobody defined.
    pub(crate) undefined: Vec<Undefined<'a>>,
    /// The types that nobody defined.
    pub(crate) opaque: Vec<(&'a str, Span)>,
    /// Types with more arguments than they take: how many they take, and how many they have.
    pub(crate) overfull: Vec<(&'a str, Span, usize, usize)>,
    /// The parameters of functions, by the number of the function and their name.
    parameters: Names<(usize, &'a str), usize>,
}

impl<'a> Resolution<'a> {
    pub(crate) fn of(program: &'a Program) -> Self {
        let mut resolver = Resolver::default();
        resolver.program(program);
        let mut found = resolver.found;
        found.occurrences.sort_by_key(|occurrence| occurrence.start);
        found
    }

    /// The parameter of that name of a function.
    pub(crate) fn parameter(&self, function: usize, name: &str) -> Option<usize> {
        self.parameters.get(&(function, name)).copied()
    }

    /// What the name that begins at `start` means.
    pub(crate) fn starting_at(&self, start: usize) -> Option<Meaning> {
        let at = self.occurrences.binary_search_by_key(&start, |place| place.start).ok()?;
        Some(self.occurrences[at].meaning)
    }

    /// What can be named at `offset`, innermost first.
    pub(crate) fn visible_at(&self, offset: usize) -> Vec<usize> {
        visible(&self.scopes, offset, |id| (self.bindings[id].name, self.bindings[id].from))
    }
}

/// What can be named at `offset`, innermost first. What is hidden by another of its name is left out.
/// `binding` gives the name of a binding, and from which byte on it is known.
pub(crate) fn visible<'a>(
    scopes: &[Scope],
    offset: usize,
    binding: impl Fn(usize) -> (&'a str, usize),
) -> Vec<usize> {
    let holds = |scope: &Scope| scope.span.start <= offset && offset <= scope.span.end;
    let mut next = (scopes.iter().enumerate())
        .filter(|(_, scope)| holds(scope))
        .max_by_key(|(at, scope)| (scope.span.start, *at))
        .map(|(at, _)| at);
    let mut seen: Names<&str, ()> = Names::default();
    let mut visible = Vec::new();
    while let Some(at) = next {
        let Scope { bindings, parent, .. } = &scopes[at];
        for &id in bindings.iter().rev() {
            let (name, from) = binding(id);
            if from <= offset && seen.insert(name, ()).is_none() {
                visible.push(id);
            }
        }
        next = (*parent != at).then_some(*parent);
    }
    visible
}

/// A scope that is open: its number, and what its names meant before it.
type Open<'a> = (usize, Vec<(&'a str, Option<usize>)>);

/// The walk.
#[derive(Default)]
struct Resolver<'a> {
    found: Resolution<'a>,
    /// The innermost value of each name: variables, then functions, then memories.
    visible: Names<&'a str, usize>,
    /// The scopes that are open.
    open: Vec<Open<'a>>,
    agents: Names<&'a str, usize>,
    types: Names<&'a str, usize>,
    shared_policies: Names<&'a str, usize>,
    /// While it is looked for what a body assigns without a `let`: what was found.
    hoisting: Option<Vec<&'a Expr>>,
    /// Whether this is a policy rule, about whose calls the policy compiler speaks.
    in_rule: bool,
    /// Whether this is what a rule speaks of, where any name may stand.
    in_target: bool,
}

impl<'a> Resolver<'a> {
    fn program(&mut self, program: &'a Program) {
        self.enter(0..usize::MAX);
        for ty in &program.types {
            let id = self.define(&ty.name, SymbolKind::Type, Origin::Typed(&ty.ty), 0);
            self.types.insert(&ty.name.node, id);
        }
        for policy in &program.policies {
            let id = self.define(&policy.name, SymbolKind::Policy, Origin::Other, 0);
            self.shared_policies.insert(&policy.name.node, id);
        }
        for agent in &program.agents {
            let id = self.define(&agent.name, SymbolKind::Agent, Origin::Other, 0);
            self.agents.insert(&agent.name.node, id);
        }
        for block in &program.blocks {
            let kind = match block.kind {
                BlockKind::Schedule => SymbolKind::Schedule,
                BlockKind::Channel => SymbolKind::Channel,
                BlockKind::Memory => SymbolKind::Memory,
                BlockKind::Webhook => SymbolKind::Webhook,
            };
            let id = self.define(&block.name, kind, Origin::Other, 0);
            if kind == SymbolKind::Memory {
                self.show(id);
            }
        }
        program.types.iter().for_each(|ty| self.ty(&ty.ty));
        self.functions(&program.functions);
        program.policies.iter().for_each(|policy| self.policy(policy));
        program.blocks.iter().for_each(|block| self.settings(block));
        program.agents.iter().for_each(|agent| self.agent(agent));
    }

    fn agent(&mut self, agent: &'a Agent) {
        self.enter(agent.span.clone());
        self.functions(&agent.functions);
        let mut own: Names<&str, usize> = Names::default();
        for policy in &agent.policies {
            let id = self.define(&policy.name, SymbolKind::Policy, Origin::Other, 0);
            own.insert(&policy.name.node, id);
        }
        for name in &agent.uses {
            let used = own.get(name.node.as_str()).or(self.shared_policies.get(name.node.as_str()));
            let meaning = used.map_or(Meaning::Undefined, |id| Meaning::Symbol(*id));
            self.note(&name.node, &name.span, meaning, Role::Read);
        }
        // Functions of an agent do not see its parameters; all else in it does.
        self.enter(agent.span.clone());
        self.params(&agent.params);
        self.ty_of(agent.result.as_ref());
        agent.policies.iter().for_each(|policy| self.policy(policy));
        for handler in &agent.handlers {
            self.enter(handler.span.clone());
            self.params(&handler.params);
            self.body(&handler.body);
            self.leave();
        }
        if let Some(with) = &agent.with {
            self.enter(with.span.clone());
            self.body(&with.body);
            self.leave();
        }
        self.leave();
        self.leave();
    }

    /// The functions of the file or of an agent. All of them and their parameters are known before
    /// the bodies, which call each other and name the parameters.
    fn functions(&mut self, functions: &'a [Function]) {
        let mut ids = Vec::with_capacity(functions.len());
        for function in functions {
            let origin = Origin::Function(function);
            let id = self.define(&function.name, SymbolKind::Function, origin, 0);
            self.show(id);
            ids.push(id);
        }
        let mut inside = Vec::with_capacity(functions.len());
        for (function, id) in functions.iter().zip(ids) {
            self.enter(function.name.span.start..function.body.span.end);
            inside.push(self.scope());
            for param in &function.params {
                let number = self.param(param);
                self.found.parameters.insert((id, &param.name.node), number);
            }
            self.leave();
        }
        for (function, scope) in functions.iter().zip(inside) {
            self.open.push((scope, Vec::new()));
            for at in 0..self.found.scopes[scope].bindings.len() {
                self.show(self.found.scopes[scope].bindings[at]);
            }
            self.ty_of(function.result.as_ref());
            self.body(&function.body);
            self.leave();
        }
    }

    // Settings and policies.

    fn settings(&mut self, block: &'a BlockDecl) {
        for entry in &block.entries {
            if matches!(entry.key.node.as_str(), "agent" | "default_agent") {
                self.agent_name(&entry.value);
            }
        }
        block.policies.iter().for_each(|policy| {
            self.define(&policy.name, SymbolKind::Policy, Origin::Other, 0);
            self.policy(policy);
        });
    }

    /// A name or a text that names an agent, if it is one of this file.
    fn agent_name(&mut self, value: &'a Expr) {
        let (name, span) = match &value.kind {
            ExprKind::Name(name) => (name, value.span.clone()),
            // A text with escapes is longer than what it says.
            ExprKind::Literal(Literal::String(name)) if value.span.len() == name.len() + 2 => {
                (name, value.span.start + 1..value.span.end - 1)
            }
            _ => return,
        };
        if let Some(&id) = self.agents.get(name.as_str()) {
            self.note(name, &span, Meaning::Symbol(id), Role::Read);
        }
    }

    fn policy(&mut self, policy: &'a PolicyBlock) {
        self.in_rule = true;
        policy.rules.iter().for_each(|rule| self.rule(rule));
        self.in_rule = false;
    }

    fn rule(&mut self, rule: &'a Rule) {
        self.enter(rule.span.clone());
        self.in_target = true;
        self.target(&rule.what);
        self.in_target = false;
        if let Some(condition) = &rule.condition {
            self.expr(condition);
        }
        self.leave();
    }

    /// What a rule speaks of. The names in its parentheses stand for the call's arguments.
    fn target(&mut self, what: &'a Expr) {
        match &what.kind {
            ExprKind::Call { callee, args } => {
                self.target(callee);
                for arg in args {
                    match &arg.value.kind {
                        ExprKind::Name(name) if !matches!(name.as_str(), "any" | "_") => {
                            self.bind(name, &arg.value.span, SymbolKind::Part, Origin::Value, 0);
                        }
                        _ => self.expr(&arg.value),
                    }
                }
            }
            ExprKind::Array(items) => items.iter().for_each(|item| self.target(item)),
            ExprKind::Name(name) => {
                let meaning = match known(name) {
                    Meaning::Undefined => Meaning::Tool,
                    known => known,
                };
                self.note(name, &what.span, meaning, Role::Read);
            }
            ExprKind::Member(of, member) => {
                if let ExprKind::Name(first) = &of.kind {
                    let name = format!("{first}.{}", member.node);
                    if operations::is_host_call(&name) {
                        self.note(&name, &what.span, Meaning::HostCall, Role::Read);
                    }
                }
            }
            _ => {}
        }
    }

    // Types.

    fn ty_of(&mut self, ty: Option<&'a Type>) {
        if let Some(ty) = ty {
            self.ty(ty);
        }
    }

    fn ty(&mut self, ty: &'a Type) {
        match &ty.kind {
            TypeKind::Record(fields) => fields.iter().for_each(|(_, ty)| self.ty(ty)),
            TypeKind::Named(name, arguments) => {
                let span = ty.span.start..(ty.span.start + name.len()).min(ty.span.end);
                self.type_name(name, &span);
                let most = arity(name);
                if arguments.len() > most
                    && self.hoisting.is_none()
                    && !self.types.contains_key(name.as_str())
                {
                    self.found.overfull.push((name, ty.span.clone(), most, arguments.len()));
                }
                arguments.iter().for_each(|ty| self.ty(ty));
            }
        }
    }

    fn type_name(&mut self, name: &'a str, span: &Span) {
        let meaning = match self.types.get(name) {
            Some(&id) => Meaning::Symbol(id),
            None if is_builtin(name) => Meaning::KnownType,
            None => Meaning::OpaqueType,
        };
        if meaning == Meaning::OpaqueType && self.hoisting.is_none() && !name.is_empty() {
            self.found.opaque.push((name, span.clone()));
        }
        self.note(name, span, meaning, Role::Read);
    }

    // Scopes and bindings.

    fn scope(&self) -> usize {
        self.open.last().map_or(0, |(scope, _)| *scope)
    }

    fn enter(&mut self, span: Span) {
        let id = self.found.scopes.len();
        let parent = self.open.last().map_or(id, |(scope, _)| *scope);
        self.found.scopes.push(Scope { span, parent, bindings: Vec::new() });
        self.open.push((id, Vec::new()));
    }

    fn leave(&mut self) {
        let Some((_, hidden)) = self.open.pop() else { return };
        for (name, before) in hidden.into_iter().rev() {
            match before {
                Some(id) => self.visible.insert(name, id),
                None => self.visible.remove(name),
            };
        }
    }

    /// Gives a number to what is named here; [`Resolver::show`] makes it a value that can be read.
    fn define(
        &mut self,
        name: &'a Spanned<String>,
        kind: SymbolKind,
        origin: Origin<'a>,
        from: usize,
    ) -> usize {
        self.add(&name.node, &name.span, kind, origin, from)
    }

    fn add(
        &mut self,
        name: &'a str,
        span: &Span,
        kind: SymbolKind,
        origin: Origin<'a>,
        from: usize,
    ) -> usize {
        let (id, scope) = (self.found.bindings.len(), self.scope());
        let (span, at) = (span.clone(), span);
        self.note(name, at, Meaning::Symbol(id), Role::Definition);
        let (reads, writes, stored) = (0, 0, false);
        let binding = Binding { name, span, kind, origin, scope, from, reads, writes, stored };
        self.found.bindings.push(binding);
        if !name.is_empty() {
            self.found.scopes[scope].bindings.push(id);
        }
        id
    }

    fn show(&mut self, id: usize) {
        let name = self.found.bindings[id].name;
        let before = self.visible.insert(name, id);
        if let Some((_, hidden)) = self.open.last_mut() {
            hidden.push((name, before));
        }
    }

    fn bind(
        &mut self,
        name: &'a str,
        span: &Span,
        kind: SymbolKind,
        origin: Origin<'a>,
        from: usize,
    ) -> usize {
        let id = self.add(name, span, kind, origin, from);
        self.show(id);
        id
    }

    fn param(&mut self, param: &'a Param) -> usize {
        self.ty_of(param.ty.as_ref());
        let origin = param.ty.as_ref().map_or(Origin::Value, Origin::Typed);
        self.define(&param.name, SymbolKind::Parameter, origin, 0)
    }

    fn params(&mut self, params: &'a [Param]) {
        for param in params {
            let id = self.param(param);
            self.show(id);
        }
    }

    // Places.

    fn note(&mut self, name: &str, span: &Span, meaning: Meaning, role: Role) {
        if self.hoisting.is_some() || name.is_empty() {
            return;
        }
        if let Meaning::Symbol(id) = meaning
            && let Some(binding) = self.found.bindings.get_mut(id)
        {
            binding.reads += u32::from(matches!(role, Role::Read | Role::Update));
            binding.writes += u32::from(matches!(role, Role::Write | Role::Update));
        }
        let occurrence = Occurrence { start: span.start, end: span.end, meaning, role };
        self.found.occurrences.push(occurrence);
    }

    /// The value that a name stands for, if it is one of this file.
    fn value(&self, name: &str) -> Option<usize> {
        let id = *self.visible.get(name)?;
        // The runtime's names come before memories.
        let hidden = self.found.bindings[id].kind == SymbolKind::Memory && AMBIENT.contains(&name);
        (!hidden).then_some(id)
    }

    fn is_variable(&self, name: &str) -> bool {
        let kind = self.visible.get(name).map(|id| self.found.bindings[*id].kind);
        matches!(kind, Some(SymbolKind::Parameter | SymbolKind::Variable | SymbolKind::Part))
    }

    fn read(&mut self, name: &'a str, span: &Span) {
        self.read_for(name, span, None);
    }

    /// What a member is taken of.
    fn owner(&mut self, of: &'a Expr, member: &'a Spanned<String>) {
        match &of.kind {
            ExprKind::Name(name) => self.read_for(name, &of.span, Some(member)),
            _ => self.expr(of),
        }
    }

    fn read_for(&mut self, name: &'a str, span: &Span, member: Option<&'a Spanned<String>>) {
        if self.hoisting.is_some() {
            return;
        }
        let known = || match known(name) {
            Meaning::Undefined if self.in_rule && FACTS.contains(&name) => Meaning::Ambient,
            known => known,
        };
        let meaning = self.value(name).map_or_else(known, Meaning::Symbol);
        if meaning == Meaning::Undefined && !self.in_target && !name.is_empty() {
            let (span, in_rule) = (span.clone(), self.in_rule);
            self.found.undefined.push(Undefined { name, span, in_rule, member });
        }
        self.note(name, span, meaning, Role::Read);
    }

    /// Something changes a part of the variable that the expression begins with.
    fn changes(&mut self, mut place: &'a Expr) {
        while let ExprKind::Member(inner, _) | ExprKind::Index(inner, _) = &place.kind {
            place = inner;
        }
        if let ExprKind::Name(name) = &place.kind
            && self.hoisting.is_none()
            && let Some(id) = self.value(name)
        {
            self.found.bindings[id].writes += 1;
        }
    }

    // Bodies.

    /// The body of a function, handler, `with` block or lambda, whose scope is open.
    fn body(&mut self, body: &'a Block) {
        let lengths = (self.found.bindings.len(), self.found.scopes.len());
        let scope = self.scope();
        self.hoisting = Some(Vec::new());
        let bound = self.found.scopes[scope].bindings.len();
        self.block(body);
        self.found.bindings.truncate(lengths.0);
        self.found.scopes.truncate(lengths.1);
        self.found.scopes[scope].bindings.truncate(bound);
        for target in self.hoisting.take().unwrap_or_default() {
            if let ExprKind::Name(name) = &target.kind
                && !self.is_variable(name)
            {
                // Its place is noted where it is assigned.
                let (span, from) = (target.span.clone(), target.span.start);
                let (id, kind) = (self.found.bindings.len(), SymbolKind::Variable);
                let (origin, reads, writes) = (Origin::Assigned, 0, 0);
                let stored = true;
                let binding =
                    Binding { name, span, kind, origin, scope, from, reads, writes, stored };
                self.found.bindings.push(binding);
                self.found.scopes[scope].bindings.push(id);
                self.show(id);
            }
        }
        self.block(body);
    }

    fn block(&mut self, block: &'a Block) {
        self.enter(block.span.clone());
        block.statements.iter().for_each(|statement| self.statement(statement));
        if let Some(value) = &block.value {
            self.expr(value);
        }
        self.leave();
    }

    fn variable(&mut self, name: &'a Spanned<String>, from: usize) -> usize {
        self.bind(&name.node, &name.span, SymbolKind::Variable, Origin::Value, from)
    }

    fn statement(&mut self, statement: &'a Stmt) {
        match &statement.kind {
            StmtKind::Let { name, ty, value } => {
                self.expr(value);
                self.ty_of(ty.as_ref());
                let id = self.variable(name, statement.span.end);
                self.found.bindings[id].stored = true;
                if let Some(ty) = ty {
                    self.found.bindings[id].origin = Origin::Typed(ty);
                }
            }
            StmtKind::Assign { target, op, value } => {
                self.expr(value);
                self.assign(target, op.is_some());
            }
            StmtKind::Expr(value) => self.expr(value),
            StmtKind::For { name, iterable, body } => {
                self.expr(iterable);
                self.enter(name.span.start..body.span.end);
                self.variable(name, 0);
                self.block(body);
                self.leave();
            }
            StmtKind::While { condition, body } => {
                self.expr(condition);
                self.block(body);
            }
            StmtKind::Try { body, catches } => {
                self.block(body);
                for catch in catches {
                    let name = catch.name.as_ref();
                    let start = name.map_or(catch.body.span.start, |name| name.span.start);
                    self.enter(start..catch.body.span.end);
                    if let Some(name) = name {
                        self.variable(name, 0);
                    }
                    self.block(&catch.body);
                    self.leave();
                }
            }
            StmtKind::Return(value) => {
                if let Some(value) = value {
                    self.expr(value);
                }
            }
            StmtKind::Break | StmtKind::Continue => {}
        }
    }

    fn assign(&mut self, target: &'a Expr, reads: bool) {
        let ExprKind::Name(name) = &target.kind else {
            self.expr(target);
            self.changes(target);
            return;
        };
        if self.hoisting.is_some() {
            let known = self.is_variable(name);
            if let (false, Some(assigned)) = (known, &mut self.hoisting) {
                assigned.push(target);
            }
            return;
        }
        let Some(id) = self.value(name) else { return };
        let first = self.found.bindings[id].span == target.span;
        let role = match (first, reads) {
            (true, false) => Role::Definition,
            (_, true) => Role::Update,
            (false, false) => Role::Write,
        };
        self.note(name, &target.span, Meaning::Symbol(id), role);
    }

    fn expr(&mut self, expr: &'a Expr) {
        match &expr.kind {
            ExprKind::Name(name) => self.read(name, &expr.span),
            ExprKind::Member(of, member) => self.owner(of, member),
            ExprKind::Record { name, .. } => {
                if let Some(name) = name {
                    self.type_name(&name.node, &name.span);
                }
                expr.each_part(|part| self.expr(part));
            }
            ExprKind::Literal(_)
            | ExprKind::Array(_)
            | ExprKind::Unary(..)
            | ExprKind::Binary(..)
            | ExprKind::Index(..)
            | ExprKind::Some(_)
            | ExprKind::None
            | ExprKind::Ok(_)
            | ExprKind::Err(_)
            | ExprKind::Secret(_)
            | ExprKind::Missing => expr.each_part(|part| self.expr(part)),
            ExprKind::Call { callee, args } => {
                self.call(callee, args, &expr.span);
                args.iter().for_each(|arg| self.expr(&arg.value));
            }
            ExprKind::Lambda { params, body } => {
                // What a lambda assigns is no variable of the body around it.
                if self.hoisting.is_none() {
                    self.enter(expr.span.clone());
                    self.params(params);
                    self.body(body);
                    self.leave();
                }
            }
            ExprKind::If { condition, then, otherwise } => {
                match &**condition {
                    Condition::Expr(condition) => {
                        self.expr(condition);
                        self.block(then);
                    }
                    Condition::Let(pattern, value) => {
                        self.expr(value);
                        self.enter(pattern.span.start..then.span.end);
                        self.pattern(pattern);
                        self.block(then);
                        self.leave();
                    }
                }
                if let Some(otherwise) = otherwise {
                    self.block(otherwise);
                }
            }
            ExprKind::Match { subject, arms } => {
                self.expr(subject);
                for arm in arms {
                    self.enter(arm.pattern.span.start..arm.body.span.end);
                    self.pattern(&arm.pattern);
                    self.block(&arm.body);
                    self.leave();
                }
            }
        }
    }

    fn pattern(&mut self, pattern: &'a Pattern) {
        match &pattern.kind {
            PatternKind::Wildcard | PatternKind::Literal(_) | PatternKind::None => {}
            PatternKind::Name(name) => {
                self.bind(name, &pattern.span, SymbolKind::Variable, Origin::Value, 0);
            }
            PatternKind::Some(inner) | PatternKind::Ok(inner) | PatternKind::Err(inner) => {
                self.pattern(inner);
            }
            PatternKind::Record(fields) => {
                fields.iter().for_each(|(_, pattern)| self.pattern(pattern));
            }
        }
    }

    // Calls.

    fn call(&mut self, callee: &'a Expr, args: &'a [Arg], span: &'a Span) {
        if self.hoisting.is_some() {
            return self.expr(callee);
        }
        match &callee.kind {
            ExprKind::Name(name) => self.call_name(name, callee, args, span),
            ExprKind::Member(of, member) => {
                if MUTATORS.contains(&member.node.as_str()) {
                    self.changes(of);
                }
                let ExprKind::Name(root) = &of.kind else { return self.expr(of) };
                let name = || Cow::Owned(format!("{root}.{}", member.node));
                let place = of.span.start..member.span.end;
                match self.value(root) {
                    Some(id) if self.found.bindings[id].kind == SymbolKind::Memory => {
                        self.read(root, &of.span);
                        let host = Cow::Owned(format!("memory.{}", member.node));
                        self.called(Callee::Host(host), &place, args, span);
                    }
                    None if NAMESPACES.contains(&root.as_str()) => {
                        let name = name();
                        let (callee, meaning) = if operations::is_host_call(&name) {
                            (Callee::Host(name), Meaning::HostCall)
                        } else {
                            (Callee::Tool(name), Meaning::Tool)
                        };
                        self.note(root, &place, meaning, Role::Read);
                        self.called(callee, &place, args, span);
                    }
                    Some(_) | None => self.owner(of, member),
                }
            }
            _ => self.expr(callee),
        }
    }

    fn call_name(&mut self, name: &'a str, callee: &'a Expr, args: &'a [Arg], span: &'a Span) {
        let value = self.value(name);
        let value = value.filter(|id| self.found.bindings[*id].kind != SymbolKind::Memory);
        let meaning = match (value, known(name)) {
            (Some(id), _) => Meaning::Symbol(id),
            (None, meaning @ (Meaning::HostCall | Meaning::Builtin)) => meaning,
            (None, _) => Meaning::Tool,
        };
        self.note(name, &callee.span, meaning, Role::Read);
        let callee_of = match meaning {
            Meaning::Symbol(id) => match self.found.bindings[id].origin {
                Origin::Function(function) => Callee::Function(id, function),
                Origin::Value | Origin::Assigned | Origin::Typed(_) | Origin::Other => return,
            },
            Meaning::HostCall => Callee::Host(Cow::Borrowed(name)),
            Meaning::Tool => Callee::Tool(Cow::Borrowed(name)),
            _ => return,
        };
        self.called(callee_of, &callee.span, args, span);
    }

    fn called(&mut self, callee: Callee<'a>, name: &Span, args: &'a [Arg], span: &'a Span) {
        match &callee {
            Callee::Function(id, _) => {
                for name in args.iter().filter_map(|arg| arg.name.as_ref()) {
                    if let Some(param) = self.found.parameter(*id, &name.node) {
                        self.note(&name.node, &name.span, Meaning::Symbol(param), Role::Read);
                    }
                }
            }
            Callee::Host(host) => {
                let slot = match &**host {
                    "spawn" | "delegate" | "schedule" => "agent",
                    "send" | "ask" => "to",
                    _ => "",
                };
                let named = |arg: &&Arg| arg.name.as_ref().is_some_and(|name| name.node == slot);
                let first = args.first().filter(|arg| arg.name.is_none());
                if let Some(arg) = args.iter().find(named).or(first)
                    && !slot.is_empty()
                    && matches!(arg.value.kind, ExprKind::Literal(_))
                {
                    self.agent_name(&arg.value);
                }
            }
            Callee::Tool(_) => {}
        }
        if !self.in_rule {
            self.found.calls.push(Call { callee, name: name.clone(), args, span });
        }
    }
}

/// What a name means that nothing in the file defines.
fn known(name: &str) -> Meaning {
    if name == "any" {
        Meaning::Any
    } else if AMBIENT.contains(&name) {
        Meaning::Ambient
    } else if BUILTINS.contains(&name) {
        Meaning::Builtin
    } else if NAMESPACES.contains(&name) {
        Meaning::Namespace
    } else if operations::is_host_call(name) {
        Meaning::HostCall
    } else {
        Meaning::Undefined
    }
}
