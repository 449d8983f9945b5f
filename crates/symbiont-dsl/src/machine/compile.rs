//! From the program as data to instructions.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use super::builtins::{Builtin, MUTATORS};
use super::code::{Code, Function, FunctionFits, Op, Part, Place, Site, Target, Wrapper};
use super::fit::{self, Fits};
use super::names::Names;
use super::prelude;
use crate::hir::{
    self, Arg, Arm, BinaryOp, Block, BlockKind, Condition, Event, Expr, ExprKind, Literal, Param,
    Pattern, PatternKind, Program, Span, Stmt, StmtKind, Type, UnaryOp,
};
use crate::operations::{self, NAMESPACES};
use crate::types::Types;
use crate::value::Value;

/// The names that the runtime may fill in.
pub(super) const AMBIENT: [&str; 8] =
    ["agent", "context", "request", "resource", "user", "recipient", "workflow", "current_time"];

/// How deeply expressions and blocks may be nested.
const MAX_NESTING: u32 = 800;

/// Why a program cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CompileError {
    /// What is wrong.
    pub message: String,
    /// Where.
    pub span: Span,
}

/// Compiles the behaviour of one agent of a program that has no errors.
pub fn compile(program: &Program, agent: usize) -> Result<Code, CompileError> {
    compile_upon(program, agent, &Arc::new(Around::of(program)), Code::empty())
}

/// Whether one compiles, among the names of a program, which its agents share.
pub(crate) fn compiles_among(
    program: &Program,
    agent: usize,
    around: &Arc<Around<'_>>,
) -> Result<(), CompileError> {
    compile_upon(program, agent, around, Code::hollow()).map(drop)
}

fn compile_upon(
    program: &Program,
    agent: usize,
    around: &Arc<Around<'_>>,
    base: Code,
) -> Result<Code, CompileError> {
    let agent = program.agents.get(agent).ok_or_else(|| CompileError {
        message: format!("the program has no agent number {agent}"),
        span: 0..0,
    })?;
    let mut compiler = Compiler::new(Arc::clone(around), base);

    // Functions are numbered before any is compiled, so that they can call each other. Those of
    // the agent hide those of the file.
    let sources: Vec<_> = program.functions.iter().chain(&agent.functions).collect();
    for source in &sources {
        let number = compiler.reserve();
        compiler.callable.insert(&source.name.node, number);
        compiler.announce(number, source);
    }
    for (index, source) in sources.iter().enumerate() {
        let number = prelude::COUNT + index;
        compiler.function(number, &Source::of(source))?;
    }

    let mut entries = [None; 4];
    if let Some(with) = &agent.with {
        let number = compiler.reserve();
        entries[0] = Some(number);
        let result = agent.result.as_ref();
        let (params, body, span) = (&agent.params, &with.body, &with.span);
        let source = Source { name: "with", params, captured: &[], result, body, span };
        compiler.function(number as usize, &source)?;
        let function = &mut compiler.functions[number as usize];
        function.optional = agent
            .params
            .iter()
            .map(|param| compiler.around.types.is_optional(param.ty.as_ref()))
            .collect();
    }
    for handler in &agent.handlers {
        let (entry, name) = match handler.event {
            Event::Start => (1, "on start"),
            Event::Stop => (2, "on stop"),
            Event::Message => (3, "on message"),
        };
        let number = compiler.reserve();
        entries[entry] = Some(number);
        // A handler sees the agent's parameters too, behind its own.
        let hidden = |param: &&Param| handler.params.iter().all(|p| p.name.node != param.name.node);
        let mut params = handler.params.clone();
        params.extend(agent.params.iter().filter(hidden).cloned());
        let (body, span) = (&handler.body, &handler.span);
        let source = Source { name, params: &params, captured: &[], result: None, body, span };
        compiler.function(number as usize, &source)?;
        let function = &mut compiler.functions[number as usize];
        function.positional = handler.params.len();
        function.optional = params
            .iter()
            .map(|param| compiler.around.types.is_optional(param.ty.as_ref()))
            .collect();
    }
    Ok(compiler.code(entries, Vec::new()))
}

/// What an input of a session is compiled with.
pub(super) struct Input<'a> {
    /// Where each function of the program was read, if they are compiled with this input.
    pub(super) functions: Option<&'a Vec<u32>>,
    /// The numbers of those that were compiled before.
    pub(super) numbers: &'a HashMap<String, u32>,
    /// Where the input was read.
    pub(super) shift: u32,
}

/// Adds the only agent of a program to code, as its entry, whose variables are left at the end.
/// Gives the numbers of the functions as well.
pub(super) fn extend(
    base: &Code,
    program: &Program,
    input: &Input<'_>,
) -> Result<(Code, HashMap<String, u32>), CompileError> {
    let base = Code {
        functions: base.functions.clone(),
        constants: base.constants.clone(),
        names: base.names.clone(),
        shapes: base.shapes.clone(),
        places: base.places.clone(),
        sites: base.sites.clone(),
        fits: Arc::clone(&base.fits),
        ..Code::empty()
    };
    let mut compiler = Compiler::new(Arc::new(Around::of(program)), base);
    match input.functions {
        Some(shifts) => {
            for source in &program.functions {
                let number = compiler.reserve();
                compiler.callable.insert(&source.name.node, number);
                compiler.announce(number, source);
            }
            for (source, shift) in program.functions.iter().zip(shifts) {
                compiler.shift = *shift;
                let number = compiler.callable[source.name.node.as_str()] as usize;
                compiler.function(number, &Source::of(source))?;
            }
        }
        None => {
            let known = input.numbers.iter().map(|(name, number)| (name.as_str(), *number));
            compiler.callable.extend(known);
        }
    }
    compiler.shift = input.shift;
    let number = compiler.reserve();
    let mut variables = Vec::new();
    if let Some(agent) = program.agents.first()
        && let Some(with) = &agent.with
    {
        variables = compiler.lasting(number as usize, &agent.params, &with.body, &with.span)?;
    }
    let numbers =
        compiler.callable.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect();
    Ok((compiler.code([Some(number), None, None, None], variables), numbers))
}

fn names_of(params: &[Param]) -> Box<[Arc<str>]> {
    params.iter().map(|param| Arc::from(param.name.node.as_str())).collect()
}

/// The names of a program that stand around every agent of it.
pub(crate) struct Around<'a> {
    types: Types<'a>,
    /// Declarations whose names may be used as values: their own names as text.
    declared: HashMap<&'a str, Option<BlockKind>>,
}

impl<'a> Around<'a> {
    pub(crate) fn of(program: &'a Program) -> Self {
        let agents = program.agents.iter().map(|agent| (agent.name.node.as_str(), None));
        let blocks =
            program.blocks.iter().map(|block| (block.name.node.as_str(), Some(block.kind)));
        Self { types: Types::of(program), declared: agents.chain(blocks).collect() }
    }
}

/// What is being compiled.
struct Compiler<'a> {
    around: Arc<Around<'a>>,
    /// Functions by name.
    callable: HashMap<&'a str, u32>,
    functions: Vec<Function>,
    constants: Vec<Value>,
    texts: HashMap<String, u32>,
    names: Vec<Arc<str>>,
    name_numbers: HashMap<Arc<str>, u32>,
    shapes: Vec<Box<[Arc<str>]>>,
    places: Vec<Place>,
    sites: Vec<Site>,
    /// The function at work, and those around it.
    frame: Frame,
    outer: Vec<Frame>,
    nesting: u32,
    /// What is added to places in the source, wrapping around.
    shift: u32,
    fits: Fits,
}

/// A function at work.
#[derive(Default)]
struct Frame {
    ops: Vec<Op>,
    spans: Vec<(u32, u32)>,
    /// The slots of a name, the innermost last.
    slots: HashMap<String, Vec<u16>>,
    scopes: Vec<Scope>,
    next: u16,
    most: u16,
    /// Values on the stack above the slots.
    height: u32,
    loops: Vec<Loop>,
    /// Open `try` blocks.
    tries: u32,
    /// What is known of variables by the types that are written.
    typed: HashMap<u16, Typed>,
    /// What the result becomes.
    result: Option<u32>,
    /// Where its body begins.
    body: u32,
}

/// What a variable holds, by a type that is written.
#[derive(Clone, Copy)]
struct Typed {
    fit: u32,
    /// Whether the type is the variable's own, and not only that of what it was given first.
    whole: bool,
}

/// What is needed of a value that is put somewhere.
#[derive(Clone, Copy, Default)]
struct Needs {
    fit: Option<u32>,
    /// The variable around that place, and what all of it needs. Without a fit, which of its parts is
    /// changed shows only when the program runs.
    around: Option<(u16, u32)>,
}

/// What a function is compiled from.
struct Source<'s> {
    name: &'s str,
    params: &'s [Param],
    captured: &'s [String],
    result: Option<&'s Type>,
    body: &'s Block,
    span: &'s Span,
}

impl<'s> Source<'s> {
    fn of(function: &'s hir::Function) -> Self {
        let hir::Function { name, params, result, body, .. } = function;
        let result = result.as_ref();
        Source { name: &name.node, params, captured: &[], result, body, span: &name.span }
    }
}

#[derive(Default)]
struct Scope {
    names: Vec<String>,
    first: u16,
}

struct Loop {
    start: u32,
    height: u32,
    tries: u32,
    /// Jumps to be pointed at the end.
    breaks: Vec<usize>,
}

type Done<T = ()> = Result<T, CompileError>;

fn failure<T>(message: impl Into<String>, span: &Span) -> Done<T> {
    Err(CompileError { message: message.into(), span: span.clone() })
}

#[expect(clippy::cast_possible_truncation, reason = "sources are far below 4 GiB")]
fn packed(span: &Span, shift: u32) -> (u32, u32) {
    ((span.start as u32).wrapping_add(shift), (span.end as u32).wrapping_add(shift))
}

#[expect(clippy::cast_possible_truncation, reason = "there is less code than source")]
fn number(length: usize) -> u32 {
    length as u32
}

impl<'a> Compiler<'a> {
    /// A compiler that adds to what is there.
    fn new(around: Arc<Around<'a>>, base: Code) -> Self {
        Compiler {
            around,
            callable: HashMap::new(),
            functions: base.functions,
            constants: base.constants,
            texts: HashMap::new(),
            names: base.names,
            name_numbers: HashMap::new(),
            shapes: base.shapes,
            places: base.places,
            sites: base.sites,
            frame: Frame::default(),
            outer: Vec::new(),
            nesting: 0,
            shift: 0,
            fits: Fits::after(base.fits.to_vec()),
        }
    }

    fn code(self, entries: [Option<u32>; 4], variables: Vec<(Arc<str>, u16, bool)>) -> Code {
        Code {
            functions: self.functions,
            constants: self.constants,
            names: self.names,
            shapes: self.shapes,
            places: self.places,
            sites: self.sites,
            fits: self.fits.all.into(),
            entries,
            variables,
            digest: OnceLock::new(),
        }
    }

    fn reserve(&mut self) -> u32 {
        self.functions.push(Function::default());
        number(self.functions.len() - 1)
    }

    /// Makes known what a function takes and gives, before it is compiled.
    fn announce(&mut self, number: u32, source: &hir::Function) {
        let params = source.params.iter().map(|param| self.fit(param.ty.as_ref())).collect();
        let result = self.fit(source.result.as_ref());
        let function = &mut self.functions[number as usize];
        function.params = names_of(&source.params);
        function.fits = FunctionFits { params, result, ..FunctionFits::default() };
    }

    /// Compiles a body into the reserved number.
    fn function(&mut self, function: usize, source: &Source<'_>) -> Done {
        self.begin(source)?;
        self.block(source.body, true)?;
        self.end(function, source);
        Ok(())
    }

    /// Compiles a body whose variables are left when it ends, and says where they stand.
    fn lasting(
        &mut self,
        function: usize,
        params: &[Param],
        body: &Block,
        span: &Span,
    ) -> Done<Vec<(Arc<str>, u16, bool)>> {
        let source = Source { name: "input", params, captured: &[], result: None, body, span };
        self.begin(&source)?;
        let early = self.frame.next;
        body.statements.iter().try_for_each(|statement| self.statement(statement))?;
        match &body.value {
            Some(value) => self.expr(value)?,
            None => {
                self.emit(Op::Null, 1, span);
            }
        }
        let last = |(name, slots): (&String, &Vec<u16>)| {
            slots.last().map(|slot| (Arc::from(name.as_str()), *slot, *slot >= early))
        };
        let mut variables: Vec<_> = self.frame.slots.iter().filter_map(last).collect();
        variables.sort_by_key(|(_, slot, _)| *slot);
        self.end(function, &source);
        Ok(variables)
    }

    /// Begins a function: its parameters, what it captured, and what it assigns have slots.
    fn begin(&mut self, source: &Source<'_>) -> Done {
        let around = std::mem::take(&mut self.frame);
        self.outer.push(around);
        self.open();
        self.frame.result = self.fit(source.result);
        let mut typed = Vec::new();
        for param in source.params {
            let slot = self.declare(&param.name.node, source.span)?;
            if let Some(fit) = self.fit(param.ty.as_ref()) {
                self.frame.typed.insert(slot, Typed { fit, whole: true });
                typed.push((slot, fit, &param.name.span));
            }
        }
        for name in source.captured {
            self.declare(name, source.span)?;
        }
        for name in Names::of(source.body).assigned {
            if self.slot(name).is_none() {
                self.declare(name, source.span)?;
            }
        }
        for (slot, fit, span) in typed {
            self.emit(Op::Load(slot), 1, span);
            self.emit(Op::Fit(fit), 0, span);
            self.emit(Op::Store(slot), -1, span);
        }
        self.frame.body = self.here();
        Ok(())
    }

    fn end(&mut self, function: usize, source: &Source<'_>) {
        let Source { name, params, span, .. } = source;
        match (self.frame.result, &source.body.value) {
            (fit, Some(value)) => self.emit_fit(fit, value),
            (Some(fit), None) => _ = self.emit(Op::Fit(fit), 0, span),
            (None, None) => {}
        }
        self.emit(Op::Return, -1, span);
        let done = std::mem::replace(&mut self.frame, self.outer.pop().unwrap_or_default());
        let target = &mut self.functions[function];
        target.name = Arc::from(*name);
        target.params = names_of(params);
        target.slots = u32::from(done.most);
        target.ops = done.ops;
        target.spans = done.spans;
        target.fits.body = done.body;
    }

    // Written types.

    /// What a value needs to be of a type, if it needs anything.
    fn fit(&mut self, ty: Option<&Type>) -> Option<u32> {
        self.fits.of(&self.around.types, ty?)
    }

    /// Makes the top, which this expression gave, what a type says, unless it is that already.
    fn emit_fit(&mut self, fit: Option<u32>, given: &Expr) {
        if let Some(fit) = fit.filter(|fit| self.fitted(given) != Some(*fit)) {
            self.emit(Op::Fit(fit), 0, &given.span);
        }
    }

    /// What the value of an expression has become already, by a type that is written.
    fn fitted(&self, expr: &Expr) -> Option<u32> {
        match &expr.kind {
            ExprKind::Name(name) => {
                let typed = self.typed(self.slot(name)?)?;
                typed.whole.then_some(typed.fit)
            }
            ExprKind::Call { callee, .. } => match &callee.kind {
                ExprKind::Name(name) if self.slot(name).is_none() => {
                    let function = self.callable.get(name.as_str())?;
                    self.functions[*function as usize].fits.result
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// What is known of a variable by its type.
    fn typed(&self, slot: u16) -> Option<Typed> {
        self.frame.typed.get(&slot).copied()
    }

    /// What a value needs that is put where `target` says, by the type of the variable around it.
    fn fit_at(&self, target: &Expr) -> Needs {
        let mut keys = Vec::new();
        let mut expr = target;
        let (slot, whole) = loop {
            match &expr.kind {
                ExprKind::Member(inner, name) => {
                    keys.push(Some(name.node.as_str()));
                    expr = inner;
                }
                ExprKind::Index(inner, index) => {
                    keys.push(match &index.kind {
                        ExprKind::Literal(Literal::String(key)) => Some(key.as_str()),
                        _ => None,
                    });
                    expr = inner;
                }
                ExprKind::Name(name) => {
                    let Some(slot) = self.slot(name) else { return Needs::default() };
                    let Some(typed) = self.typed(slot) else { return Needs::default() };
                    break (slot, typed.fit);
                }
                _ => return Needs::default(),
            }
        };
        let mut fit = whole;
        for key in keys.into_iter().rev() {
            fit = match self.fits.part(fit, key) {
                fit::Part::Needs(inside) => inside,
                fit::Part::Nothing => return Needs::default(),
                fit::Part::Unknown => return Needs { fit: None, around: Some((slot, whole)) },
            };
        }
        Needs { fit: Some(fit), around: Some((slot, whole)) }
    }

    /// Makes all of a variable what its type says.
    fn refit(&mut self, (slot, fit): (u16, u32), span: &Span) {
        self.emit(Op::Load(slot), 1, span);
        self.emit(Op::Fit(fit), 0, span);
        self.emit(Op::Store(slot), -1, span);
    }

    // Variables.

    fn open(&mut self) {
        let first = self.frame.next;
        self.frame.scopes.push(Scope { names: Vec::new(), first });
    }

    fn close(&mut self) {
        let scope = self.frame.scopes.pop().unwrap_or_default();
        for name in scope.names {
            if let Some(slots) = self.frame.slots.get_mut(&name) {
                slots.pop();
            }
        }
        self.frame.next = scope.first;
    }

    /// New slots without a name.
    fn hidden(&mut self, count: u16, span: &Span) -> Done<u16> {
        let slot = self.frame.next;
        let Some(next) = slot.checked_add(count) else {
            return failure("a function has more than 65535 variables", span);
        };
        self.frame.next = next;
        self.frame.most = self.frame.most.max(next);
        if !self.frame.typed.is_empty() {
            (slot..next).for_each(|slot| _ = self.frame.typed.remove(&slot));
        }
        Ok(slot)
    }

    fn declare(&mut self, name: &str, span: &Span) -> Done<u16> {
        let slot = self.hidden(1, span)?;
        self.name_slot(name, slot);
        Ok(slot)
    }

    fn name_slot(&mut self, name: &str, slot: u16) {
        self.frame.slots.entry(name.to_owned()).or_default().push(slot);
        if let Some(scope) = self.frame.scopes.last_mut() {
            scope.names.push(name.to_owned());
        }
    }

    fn slot(&self, name: &str) -> Option<u16> {
        self.frame.slots.get(name)?.last().copied()
    }

    /// The slot of an expression that is a variable.
    fn slot_of(&self, expr: &Expr) -> Option<u16> {
        match &expr.kind {
            ExprKind::Name(name) => self.slot(name),
            _ => None,
        }
    }

    // Instructions.

    fn emit(&mut self, op: Op, effect: i64, span: &Span) -> usize {
        self.frame.ops.push(op);
        self.frame.spans.push(packed(span, self.shift));
        let height = i64::from(self.frame.height) + effect;
        self.frame.height = u32::try_from(height).unwrap_or(0);
        self.frame.ops.len() - 1
    }

    fn here(&self) -> u32 {
        number(self.frame.ops.len())
    }

    /// Points a jump at the next instruction.
    fn land(&mut self, jump: usize) {
        let here = self.here();
        match &mut self.frame.ops[jump] {
            Op::Jump(target)
            | Op::JumpIfFalse(target)
            | Op::JumpIfTrue(target)
            | Op::JumpUnlessLocals(_, _, _, target)
            | Op::JumpUnlessLocalInt(_, _, _, target)
            | Op::ForNext(_, target)
            | Op::Try(target)
            | Op::UnlessKind(_, target)
            | Op::Unwrap(_, target)
            | Op::UnlessNone(target)
            | Op::Field(_, target) => *target = here,
            _ => {}
        }
    }

    fn land_all(&mut self, jumps: Vec<usize>) {
        for jump in jumps {
            self.land(jump);
        }
    }

    fn constant(&mut self, value: Value) -> u32 {
        self.constants.push(value);
        number(self.constants.len() - 1)
    }

    fn text(&mut self, text: &str) -> u32 {
        if let Some(&known) = self.texts.get(text) {
            return known;
        }
        let constant = self.constant(Value::from(text));
        self.texts.insert(text.to_owned(), constant);
        constant
    }

    fn name(&mut self, name: &str) -> u32 {
        if let Some(&known) = self.name_numbers.get(name) {
            return known;
        }
        let name: Arc<str> = Arc::from(name);
        self.names.push(Arc::clone(&name));
        let new = number(self.names.len() - 1);
        self.name_numbers.insert(name, new);
        new
    }

    fn literal(&mut self, literal: &Literal, span: &Span) {
        let op = match literal {
            Literal::Null => Op::Null,
            Literal::Bool(value) => Op::Bool(*value),
            Literal::Int(value) => match i32::try_from(*value) {
                Ok(small) => Op::Int(small),
                Err(_) => Op::Const(self.constant(Value::Int(*value))),
            },
            Literal::Float(value) => Op::Const(self.constant(Value::Float(*value))),
            Literal::String(text) => Op::Const(self.text(text)),
            Literal::Duration(value) => Op::Const(self.constant(Value::Duration(*value))),
            Literal::Size(value) => Op::Const(self.constant(Value::Size(*value))),
        };
        self.emit(op, 1, span);
    }

    // Blocks and statements.

    /// A block; with `wanted` it leaves its value on the stack.
    fn block(&mut self, block: &Block, wanted: bool) -> Done {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return failure(format!("nested more than {MAX_NESTING} deep"), &block.span);
        }
        self.open();
        for statement in &block.statements {
            self.statement(statement)?;
        }
        match (&block.value, wanted) {
            (Some(value), true) => self.expr(value)?,
            (Some(value), false) => self.effect(value)?,
            (None, true) => {
                self.emit(Op::Null, 1, &block.span);
            }
            (None, false) => {}
        }
        self.close();
        self.nesting -= 1;
        Ok(())
    }

    fn statement(&mut self, statement: &Stmt) -> Done {
        let span = &statement.span;
        match &statement.kind {
            StmtKind::Let { name, ty, value } => {
                self.expr(value)?;
                let written = self.fit(ty.as_ref());
                self.emit_fit(written, value);
                let slot = self.declare(&name.node, span)?;
                self.emit(Op::Store(slot), -1, span);
                // A record behind the name of its type is of that type as long as it is there.
                let fit = match (ty, &value.kind) {
                    (None, ExprKind::Record { name: Some(name), .. }) => {
                        self.fits.declared(&self.around.types, &name.node)
                    }
                    _ => written,
                };
                if let Some(fit) = fit {
                    self.frame.typed.insert(slot, Typed { fit, whole: ty.is_some() });
                }
            }
            StmtKind::Assign { target, op, value } => self.assign(target, *op, value, span)?,
            StmtKind::Expr(expr) => self.effect(expr)?,
            StmtKind::For { name, iterable, body } => {
                self.expr(iterable)?;
                self.open();
                let slot = self.hidden(3, span)?;
                self.name_slot(&name.node, slot + 2);
                self.emit(Op::ForStart(slot), -1, &iterable.span);
                let start = self.here();
                let end = self.emit(Op::ForNext(slot, 0), 0, &iterable.span);
                self.repeat(start, body)?;
                self.emit(Op::Jump(start), 0, span);
                self.land(end);
                self.leave();
                // What was walked through is let go on every way out.
                self.emit(Op::Null, 1, span);
                self.emit(Op::Store(slot), -1, span);
                self.close();
            }
            StmtKind::While { condition, body } => {
                let start = self.here();
                let end = self.unless(condition)?;
                self.repeat(start, body)?;
                self.emit(Op::Jump(start), 0, span);
                self.land_all(end);
                self.leave();
            }
            StmtKind::Try { body, catches } => {
                let attempt = self.emit(Op::Try(0), 0, span);
                self.frame.tries += 1;
                self.block(body, false)?;
                self.frame.tries -= 1;
                self.emit(Op::EndTry, 0, span);
                let mut ends = vec![self.emit(Op::Jump(0), 0, span)];
                self.land(attempt);
                self.frame.height += 1; // The error.
                let height = self.frame.height;
                for catch in catches {
                    let other = catch.kind.as_ref().map(|kind| {
                        let name = self.name(&kind.node);
                        self.emit(Op::UnlessKind(name, 0), 0, &kind.span)
                    });
                    self.open();
                    match &catch.name {
                        Some(name) => {
                            let slot = self.declare(&name.node, &name.span)?;
                            self.emit(Op::Store(slot), -1, &name.span);
                        }
                        None => {
                            self.emit(Op::Pop(1), -1, span);
                        }
                    }
                    self.block(&catch.body, false)?;
                    self.close();
                    ends.push(self.emit(Op::Jump(0), 0, span));
                    self.frame.height = height;
                    if let Some(other) = other {
                        self.land(other);
                    }
                }
                self.emit(Op::Raise, -1, span);
                self.land_all(ends);
            }
            StmtKind::Return(value) => {
                match value {
                    Some(value) => {
                        self.expr(value)?;
                        self.emit_fit(self.frame.result, value);
                    }
                    None => {
                        self.emit(Op::Null, 1, span);
                        if let Some(fit) = self.frame.result {
                            self.emit(Op::Fit(fit), 0, span);
                        }
                    }
                }
                self.emit(Op::Return, -1, span);
            }
            StmtKind::Break | StmtKind::Continue => {
                let Some(innermost) = self.frame.loops.last() else {
                    return failure("`break` and `continue` belong in a loop", span);
                };
                let (start, tries) = (innermost.start, self.frame.tries - innermost.tries);
                let extra = self.frame.height.saturating_sub(innermost.height);
                if extra > 0 {
                    self.emit(Op::Pop(extra), 0, span);
                }
                for _ in 0..tries {
                    self.emit(Op::EndTry, 0, span);
                }
                let jump = self.emit(Op::Jump(start), 0, span);
                if let (StmtKind::Break, Some(innermost)) =
                    (&statement.kind, self.frame.loops.last_mut())
                {
                    innermost.breaks.push(jump);
                }
            }
        }
        Ok(())
    }

    /// The body of a loop.
    fn repeat(&mut self, start: u32, body: &Block) -> Done {
        let (height, tries) = (self.frame.height, self.frame.tries);
        self.frame.loops.push(Loop { start, height, tries, breaks: Vec::new() });
        self.block(body, false)
    }

    /// The end of a loop: where `break` goes.
    fn leave(&mut self) {
        if let Some(innermost) = self.frame.loops.pop() {
            self.land_all(innermost.breaks);
        }
    }

    fn assign(&mut self, target: &Expr, op: Option<BinaryOp>, value: &Expr, span: &Span) -> Done {
        let Some(slot) = self.slot_of(target) else {
            let Some(place) = self.place(target)? else {
                return failure(
                    "only a variable, or a member or an element of one, can be assigned to",
                    &target.span,
                );
            };
            self.expr(value)?;
            let needs = self.fit_at(target);
            let fit = needs.fit.filter(|fit| self.fits.joins(*fit, op));
            self.emit_fit(fit, value);
            let effect = -1 - i64::from(self.places[place as usize].indexes);
            let op = op.map_or(Op::Assign(place), |op| Op::UpdatePlace(op, place));
            self.emit(op, effect, span);
            if let Needs { fit: None, around: Some(around) } = needs {
                self.refit(around, span);
            }
            return Ok(());
        };
        // `x = x + e` changes `x` where it is, as `x += e` does, if `e` cannot change it first.
        let (op, value) = match (op, &value.kind) {
            (None, ExprKind::Binary(op, left, right))
                if updates(*op) && self.slot_of(left) == Some(slot) && is_quiet(right, 0) =>
            {
                (Some(*op), &**right)
            }
            _ => (op, value),
        };
        match (op, small_int(value)) {
            (Some(op), Some(small)) => {
                self.emit(Op::UpdateInt(op, slot, small), 0, span);
            }
            (op, _) => {
                self.expr(value)?;
                let typed = self.typed(slot).filter(|typed| typed.whole);
                let fit = typed.map(|typed| typed.fit).filter(|fit| self.fits.joins(*fit, op));
                self.emit_fit(fit, value);
                self.emit(op.map_or(Op::Store(slot), |op| Op::Update(op, slot)), -1, span);
            }
        }
        Ok(())
    }

    /// The place that an expression names, if it does. Its indexes are left on the stack.
    fn place(&mut self, target: &Expr) -> Done<Option<u32>> {
        let mut parts = Vec::new();
        let mut expr = target;
        let slot = loop {
            match &expr.kind {
                ExprKind::Member(inner, name) => {
                    parts.push((Part::Key(Arc::from(name.node.as_str())), None));
                    expr = inner;
                }
                ExprKind::Index(inner, index) => {
                    parts.push((Part::Index, Some(&**index)));
                    expr = inner;
                }
                ExprKind::Name(name) => match self.slot(name) {
                    Some(slot) => break slot,
                    None => return Ok(None),
                },
                _ => return Ok(None),
            }
        };
        parts.reverse();
        let mut indexes = 0;
        for (_, index) in &parts {
            if let Some(index) = index {
                self.expr(index)?;
                indexes += 1;
            }
        }
        let parts = parts.into_iter().map(|(part, _)| part).collect();
        self.places.push(Place { slot, parts, indexes });
        Ok(Some(number(self.places.len() - 1)))
    }

    // Expressions.

    /// An expression for its effect.
    fn effect(&mut self, expr: &Expr) -> Done {
        match &expr.kind {
            ExprKind::If { condition, then, otherwise } => {
                self.branch(condition, then, otherwise.as_ref(), false, &expr.span)
            }
            ExprKind::Match { subject, arms } => self.choose(subject, arms, false, &expr.span),
            ExprKind::Call { callee, args } => {
                if !self.mutate(callee, args, false, &expr.span)? {
                    self.call(callee, args, &expr.span)?;
                    self.emit(Op::Pop(1), -1, &expr.span);
                }
                Ok(())
            }
            _ => {
                self.expr(expr)?;
                self.emit(Op::Pop(1), -1, &expr.span);
                Ok(())
            }
        }
    }

    fn expr(&mut self, expr: &Expr) -> Done {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return failure(format!("nested more than {MAX_NESTING} deep"), &expr.span);
        }
        let span = &expr.span;
        match &expr.kind {
            ExprKind::Literal(literal) => self.literal(literal, span),
            ExprKind::Name(name) => self.read(name, span)?,
            ExprKind::Array(items) => {
                for item in items {
                    self.expr(item)?;
                }
                let count = items.len();
                self.emit(Op::Array(number(count)), 1 - i64::from(number(count)), span);
            }
            ExprKind::Record { name, fields } => {
                for (_, value) in fields {
                    self.expr(value)?;
                }
                let keys = fields.iter().map(|(key, _)| Arc::from(key.node.as_str())).collect();
                self.shapes.push(keys);
                let shape = number(self.shapes.len() - 1);
                self.emit(Op::Record(shape), 1 - i64::from(number(fields.len())), span);
                let named = name.as_ref();
                let fit = named.and_then(|name| self.fits.declared(&self.around.types, &name.node));
                if let Some(fit) = fit {
                    self.emit(Op::Fit(fit), 0, span);
                }
            }
            ExprKind::Unary(UnaryOp::Negate, inner) => match &inner.kind {
                ExprKind::Literal(Literal::Int(value)) if *value > i64::MIN => {
                    self.literal(&Literal::Int(-*value), span);
                }
                ExprKind::Literal(Literal::Float(value)) => {
                    self.literal(&Literal::Float(-*value), span);
                }
                _ => {
                    self.expr(inner)?;
                    self.emit(Op::Negate, 0, span);
                }
            },
            ExprKind::Unary(UnaryOp::Not, inner) => {
                self.expr(inner)?;
                self.emit(Op::Not, 0, span);
            }
            ExprKind::Binary(..) => self.binary(expr)?,
            ExprKind::Member(inner, name) => {
                self.expr(inner)?;
                let name = self.name(&name.node);
                self.emit(Op::Member(name), 0, span);
            }
            ExprKind::Index(inner, index) => match (self.slot_of(inner), self.slot_of(index)) {
                (Some(inner), Some(index)) => {
                    self.emit(Op::IndexLocals(inner, index), 1, span);
                }
                _ => {
                    self.expr(inner)?;
                    self.expr(index)?;
                    self.emit(Op::Index, -1, span);
                }
            },
            ExprKind::Call { callee, args } => {
                if !self.mutate(callee, args, true, span)? {
                    self.call(callee, args, span)?;
                }
            }
            ExprKind::Lambda { params, body } => self.lambda(params, body, span)?,
            ExprKind::If { condition, then, otherwise } => {
                self.branch(condition, then, otherwise.as_ref(), true, span)?;
            }
            ExprKind::Match { subject, arms } => self.choose(subject, arms, true, span)?,
            ExprKind::Some(inner) => self.wrap(Wrapper::Some, inner, span)?,
            ExprKind::Ok(inner) => self.wrap(Wrapper::Ok, inner, span)?,
            ExprKind::Err(inner) => self.wrap(Wrapper::Err, inner, span)?,
            ExprKind::None => {
                self.emit(Op::None, 1, span);
            }
            ExprKind::Secret(path) => {
                let path = self.text(path);
                self.emit(Op::Const(path), 1, span);
                let site = self.site("secret.read", 1, Box::new([]), Target::Host);
                self.emit(Op::CallSite(site), 0, span);
            }
            ExprKind::Missing => {
                return failure("the program has syntax errors and cannot run", span);
            }
        }
        self.nesting -= 1;
        Ok(())
    }

    fn wrap(&mut self, wrapper: Wrapper, inner: &Expr, span: &Span) -> Done {
        self.expr(inner)?;
        self.emit(Op::Wrap(wrapper), 0, span);
        Ok(())
    }

    /// A name as a value.
    fn read(&mut self, name: &str, span: &Span) -> Done {
        let op = if let Some(slot) = self.slot(name) {
            Op::Load(slot)
        } else if let Some(&function) = self.callable.get(name) {
            Op::Closure { function, captured: 0 }
        } else if let Some(kind) = self.around.declared.get(name)
            && !AMBIENT.contains(&name)
        {
            match kind {
                Some(BlockKind::Memory) => Op::Const(self.constant(Value::Memory(name.into()))),
                Some(BlockKind::Schedule | BlockKind::Channel | BlockKind::Webhook) | None => {
                    Op::Const(self.text(name))
                }
            }
        } else if let Some(index) = AMBIENT.iter().position(|ambient| *ambient == name) {
            Op::Ambient(u8::try_from(index).unwrap_or(0))
        } else if name == "any" {
            Op::Any
        } else if let Some(builtin) = Builtin::named(name) {
            Op::Closure { function: self.builtin_value(name, builtin, span), captured: 0 }
        } else {
            let message = if NAMESPACES.contains(&name) {
                format!("`{name}` is no value: it is the first half of calls such as `{name}.get`")
            } else if operations::is_host_call(name) {
                format!("`{name}` is no value: it can only be called, if need be in a lambda")
            } else {
                format!("nothing is called `{name}`")
            };
            return failure(message, span);
        };
        self.emit(op, 1, span);
        Ok(())
    }

    /// A builtin as a value: a function of one parameter.
    fn builtin_value(&mut self, name: &str, builtin: Builtin, span: &Span) -> u32 {
        let site = self.site(name, 1, Box::new([]), Target::Builtin(builtin));
        let function = self.reserve();
        self.functions[function as usize] = Function {
            name: Arc::from(name),
            params: Box::new([Arc::from("value")]),
            slots: 1,
            ops: vec![Op::Load(0), Op::CallSite(site), Op::Return],
            spans: vec![packed(span, self.shift); 3],
            ..Function::default()
        };
        function
    }

    fn binary(&mut self, expr: &Expr) -> Done {
        // A long sum leans to the left: down that side first, then up again, without recursion.
        let mut spine = Vec::new();
        let mut left = expr;
        while let ExprKind::Binary(op, inner, right) = &left.kind {
            spine.push((*op, &**right, &left.span));
            left = inner;
        }
        let mut started = false;
        if let (Some(slot), Some((op, right, span))) = (self.slot_of(left), spine.last())
            && updates_or_compares(*op)
        {
            let fused = match (self.slot_of(right), small_int(right)) {
                (Some(right), _) => Some(Op::BinaryLocals(*op, slot, right)),
                (None, Some(small)) => Some(Op::BinaryLocalInt(*op, slot, small)),
                (None, None) => None,
            };
            if let Some(fused) = fused {
                self.emit(fused, 1, span);
                spine.pop();
                started = true;
            }
        }
        if !started {
            self.expr(left)?;
        }
        while let Some((op, right, span)) = spine.pop() {
            match (op, small_int(right)) {
                (BinaryOp::And | BinaryOp::Or, _) => {
                    let skip = if op == BinaryOp::And {
                        self.emit(Op::JumpIfFalse(0), -1, span)
                    } else {
                        self.emit(Op::JumpIfTrue(0), -1, span)
                    };
                    self.expr(right)?;
                    self.emit(Op::Truth, 0, span);
                    let end = self.emit(Op::Jump(0), -1, span);
                    self.land(skip);
                    self.emit(Op::Bool(op == BinaryOp::Or), 1, span);
                    self.land(end);
                }
                (op, Some(small)) if updates_or_compares(op) => {
                    self.emit(Op::BinaryInt(op, small), 0, span);
                }
                (op, _) => {
                    self.expr(right)?;
                    self.emit(Op::Binary(op), -1, span);
                }
            }
        }
        Ok(())
    }

    /// Jumps, to be landed, that are taken when a condition does not hold.
    fn unless(&mut self, condition: &Expr) -> Done<Vec<usize>> {
        let span = &condition.span;
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return failure(format!("nested more than {MAX_NESTING} deep"), span);
        }
        let jumps = match &condition.kind {
            ExprKind::Binary(BinaryOp::And, left, right) => {
                let mut jumps = self.unless(left)?;
                jumps.extend(self.unless(right)?);
                jumps
            }
            ExprKind::Unary(UnaryOp::Not, inner) => {
                self.expr(inner)?;
                vec![self.emit(Op::JumpIfTrue(0), -1, span)]
            }
            ExprKind::Binary(op, left, right) if compares(*op) => {
                match (self.slot_of(left), self.slot_of(right), small_int(right)) {
                    (Some(left), Some(right), _) => {
                        vec![self.emit(Op::JumpUnlessLocals(*op, left, right, 0), 0, span)]
                    }
                    (Some(left), None, Some(small)) => {
                        vec![self.emit(Op::JumpUnlessLocalInt(*op, left, small, 0), 0, span)]
                    }
                    _ => {
                        self.binary(condition)?;
                        vec![self.emit(Op::JumpIfFalse(0), -1, span)]
                    }
                }
            }
            _ => {
                self.expr(condition)?;
                vec![self.emit(Op::JumpIfFalse(0), -1, span)]
            }
        };
        self.nesting -= 1;
        Ok(jumps)
    }

    fn branch(
        &mut self,
        condition: &Condition,
        then: &Block,
        otherwise: Option<&Block>,
        wanted: bool,
        span: &Span,
    ) -> Done {
        self.open();
        let others = match condition {
            Condition::Expr(expr) => self.unless(expr)?,
            Condition::Let(pattern, expr) => {
                self.expr(expr)?;
                let mut others = Vec::new();
                self.pattern(pattern, &mut others)?;
                others
            }
        };
        let height = self.frame.height;
        self.block(then, wanted)?;
        self.close();
        if otherwise.is_none() && !wanted {
            self.land_all(others);
            return Ok(());
        }
        let end = self.emit(Op::Jump(0), 0, span);
        self.frame.height = height;
        self.land_all(others);
        match otherwise {
            Some(block) => self.block(block, wanted)?,
            None => {
                self.emit(Op::Null, 1, span);
            }
        }
        self.land(end);
        Ok(())
    }

    fn choose(&mut self, subject: &Expr, arms: &[Arm], wanted: bool, span: &Span) -> Done {
        self.expr(subject)?;
        self.open();
        let slot = self.hidden(1, span)?;
        self.emit(Op::Store(slot), -1, &subject.span);
        let height = self.frame.height;
        let mut ends = Vec::new();
        for arm in arms {
            self.open();
            let mut others = Vec::new();
            self.emit(Op::Load(slot), 1, &arm.pattern.span);
            self.pattern(&arm.pattern, &mut others)?;
            self.block(&arm.body, wanted)?;
            self.close();
            ends.push(self.emit(Op::Jump(0), 0, span));
            self.frame.height = height;
            self.land_all(others);
        }
        if wanted {
            self.emit(Op::Null, 1, span);
        }
        self.land_all(ends);
        self.close();
        Ok(())
    }

    /// Takes the top of the stack apart; `others` are the jumps taken when it does not fit.
    fn pattern(&mut self, pattern: &Pattern, others: &mut Vec<usize>) -> Done {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return failure(format!("nested more than {MAX_NESTING} deep"), &pattern.span);
        }
        let span = &pattern.span;
        match &pattern.kind {
            PatternKind::Wildcard => {
                self.emit(Op::Pop(1), -1, span);
            }
            PatternKind::Name(name) => {
                let slot = self.declare(name, span)?;
                self.emit(Op::Store(slot), -1, span);
            }
            PatternKind::Literal(literal) => {
                self.literal(literal, span);
                self.emit(Op::Binary(BinaryOp::Equal), -1, span);
                others.push(self.emit(Op::JumpIfFalse(0), -1, span));
            }
            PatternKind::None => others.push(self.emit(Op::UnlessNone(0), -1, span)),
            PatternKind::Some(inner) => self.inside(Wrapper::Some, inner, others)?,
            PatternKind::Ok(inner) => self.inside(Wrapper::Ok, inner, others)?,
            PatternKind::Err(inner) => self.inside(Wrapper::Err, inner, others)?,
            PatternKind::Record(fields) => {
                let slot = self.hidden(1, span)?;
                self.emit(Op::Store(slot), -1, span);
                if fields.is_empty() {
                    // `{}` takes any map: the empty name is asked for nothing.
                    let site =
                        self.site("type_of", 1, Box::new([]), Target::Builtin(Builtin::TypeOf));
                    let map = self.text("map");
                    self.emit(Op::Load(slot), 1, span);
                    self.emit(Op::CallSite(site), 0, span);
                    self.emit(Op::Const(map), 1, span);
                    self.emit(Op::Binary(BinaryOp::Equal), -1, span);
                    others.push(self.emit(Op::JumpIfFalse(0), -1, span));
                }
                for (key, inner) in fields {
                    let name = self.name(&key.node);
                    self.emit(Op::Load(slot), 1, &key.span);
                    others.push(self.emit(Op::Field(name, 0), 0, &key.span));
                    self.pattern(inner, others)?;
                }
            }
        }
        self.nesting -= 1;
        Ok(())
    }

    fn inside(&mut self, wrapper: Wrapper, inner: &Pattern, others: &mut Vec<usize>) -> Done {
        others.push(self.emit(Op::Unwrap(wrapper, 0), 0, &inner.span));
        self.pattern(inner, others)
    }

    fn lambda(&mut self, params: &[Param], body: &Block, span: &Span) -> Done {
        let captured: Vec<String> = {
            let names = Names::of(body);
            let is_param = |name: &str| params.iter().any(|param| param.name.node == name);
            let mut captured: Vec<String> = Vec::new();
            for name in names.used {
                if !is_param(name) && self.slot(name).is_some() {
                    captured.push(name.to_owned());
                }
            }
            captured
        };
        for name in &captured {
            if let Some(slot) = self.slot(name) {
                self.emit(Op::Load(slot), 1, span);
            }
        }
        let function = self.reserve();
        let source =
            Source { name: "lambda", params, captured: &captured, result: None, body, span };
        self.function(function as usize, &source)?;
        let Ok(count) = u16::try_from(captured.len()) else {
            return failure("a lambda uses more than 65535 variables", span);
        };
        self.emit(Op::Closure { function, captured: count }, 1 - i64::from(count), span);
        Ok(())
    }

    // Calls.

    fn site(&mut self, name: &str, positional: u16, names: Box<[Arc<str>]>, target: Target) -> u32 {
        self.sites.push(Site { name: Arc::from(name), positional, names, target });
        number(self.sites.len() - 1)
    }

    /// Pushes arguments: those by position, then those by name.
    fn arguments(&mut self, args: &[Arg], span: &Span) -> Done<(u16, Box<[Arc<str>]>)> {
        for arg in args.iter().filter(|arg| arg.name.is_none()) {
            self.expr(&arg.value)?;
        }
        let mut names = Vec::new();
        for arg in args {
            if let Some(name) = &arg.name {
                self.expr(&arg.value)?;
                names.push(Arc::from(name.node.as_str()));
            }
        }
        match u16::try_from(args.len() - names.len()) {
            Ok(positional) if args.len() < usize::from(u16::MAX) => {
                Ok((positional, names.into_boxed_slice()))
            }
            _ => failure("a call has more than 65534 arguments", span),
        }
    }

    fn call(&mut self, callee: &Expr, args: &[Arg], span: &Span) -> Done {
        match &callee.kind {
            ExprKind::Name(name) => self.call_name(name, args, span),
            ExprKind::Member(receiver, name) => match self.host_name(callee) {
                Some(host) => {
                    let (positional, mut names) = self.arguments(args, span)?;
                    if let ExprKind::Name(root) = &receiver.kind
                        && self.around.declared.get(root.as_str()) == Some(&Some(BlockKind::Memory))
                    {
                        let store = self.text(root);
                        self.emit(Op::Const(store), 1, span);
                        let mut with_store = names.into_vec();
                        with_store.push(Arc::from("store"));
                        names = with_store.into_boxed_slice();
                    }
                    self.finish_call(&host, positional, names, Target::Host, None, span);
                    Ok(())
                }
                None => {
                    self.expr(receiver)?;
                    let (positional, names) = self.arguments(args, span)?;
                    let taken = i64::from(positional) + i64::from(number(names.len()));
                    let site = self.site(&name.node, positional, names, Target::Value);
                    self.emit(Op::Method(site), -taken, span);
                    Ok(())
                }
            },
            _ => {
                self.expr(callee)?;
                let (positional, names) = self.arguments(args, span)?;
                let taken = i64::from(positional) + i64::from(number(names.len()));
                let site = self.site("value", positional, names, Target::Value);
                self.emit(Op::CallValue(site), -taken, span);
                Ok(())
            }
        }
    }

    fn call_name(&mut self, name: &str, args: &[Arg], span: &Span) -> Done {
        let variable = self.slot(name);
        if let (None, Some(&function)) = (variable, self.callable.get(name))
            && self.functions[function as usize].params.len() == args.len()
            && args.iter().all(|arg| arg.name.is_none())
        {
            for (at, arg) in args.iter().enumerate() {
                self.expr(&arg.value)?;
                let fit = self.functions[function as usize].fits.params.get(at).copied().flatten();
                self.emit_fit(fit, &arg.value);
            }
            self.emit(Op::Call(function), 1 - i64::from(number(args.len())), span);
            return Ok(());
        }
        let (positional, names) = self.arguments(args, span)?;
        let target = if let Some(&function) = self.callable.get(name) {
            Target::Function(function)
        } else if let Some(builtin) = Builtin::named(name) {
            Target::Builtin(builtin)
        } else {
            Target::Host
        };
        self.finish_call(name, positional, names, target, variable, span);
        Ok(())
    }

    fn finish_call(
        &mut self,
        name: &str,
        positional: u16,
        names: Box<[Arc<str>]>,
        target: Target,
        variable: Option<u16>,
        span: &Span,
    ) {
        let effect = 1 - i64::from(positional) - i64::from(number(names.len()));
        let op = match (variable, target) {
            (None, _) => Op::CallSite(self.site(name, positional, names, target)),
            (Some(slot), _) => Op::CallVariable(slot, self.site(name, positional, names, target)),
        };
        self.emit(op, effect, span);
    }

    /// The dotted name of a callee that begins with a name that nothing here holds.
    fn host_name(&self, callee: &Expr) -> Option<String> {
        let mut parts = Vec::new();
        let mut expr = callee;
        while let ExprKind::Member(inner, name) = &expr.kind {
            parts.push(name.node.as_str());
            expr = inner;
        }
        let ExprKind::Name(root) = &expr.kind else { return None };
        if self.slot(root).is_some() || self.callable.contains_key(root.as_str()) {
            return None;
        }
        match self.around.declared.get(root.as_str()) {
            Some(Some(BlockKind::Memory)) if parts.len() == 1 => parts.push("memory"),
            None if AMBIENT.contains(&root.as_str()) || root == "any" => return None,
            Some(_) | None => parts.push(root),
        }
        parts.reverse();
        Some(parts.join("."))
    }

    /// A method that changes its receiver where that stands, if the call is one.
    fn mutate(&mut self, callee: &Expr, args: &[Arg], wanted: bool, span: &Span) -> Done<bool> {
        let ExprKind::Member(receiver, name) = &callee.kind else { return Ok(false) };
        if !MUTATORS.contains(&name.node.as_str()) || self.host_name(callee).is_some() {
            return Ok(false);
        }
        let Some(place) = self.place(receiver)? else { return Ok(false) };
        let (positional, names) = self.arguments(args, span)?;
        let needs = self.fit_at(receiver);
        if let ([arg], Some(fit)) = (args, needs.fit) {
            self.emit_fit(self.fits.taken(fit, &name.node), &arg.value);
        }
        let taken = i64::from(positional)
            + i64::from(number(names.len()))
            + i64::from(self.places[place as usize].indexes);
        let site = self.site(&name.node, positional, names, Target::Value);
        // A memory has a `remove` too, which the host answers.
        let answered = wanted || name.node == "remove";
        let effect = i64::from(answered) - taken;
        self.emit(Op::Mutate { place, site, wanted: answered }, effect, span);
        // What is merged into a record is a part of one.
        let merged = needs.fit.filter(|fit| name.node == "merge" && self.fits.is_record(*fit));
        if let (Some(fit), true) = (merged, answered) {
            self.emit(Op::Fit(fit), 0, span);
        }
        if let Some(around) = needs.around.filter(|_| merged.is_some() || needs.fit.is_none()) {
            self.refit(around, span);
        }
        if answered && !wanted {
            self.emit(Op::Pop(1), -1, span);
        }
        Ok(true)
    }
}

/// Whether the machine has short forms for an operator beside a variable.
fn updates_or_compares(op: BinaryOp) -> bool {
    updates(op) || compares(op)
}

fn updates(op: BinaryOp) -> bool {
    use BinaryOp::{Add, Divide, Multiply, Remainder, Subtract};
    matches!(op, Add | Subtract | Multiply | Divide | Remainder)
}

fn compares(op: BinaryOp) -> bool {
    use BinaryOp::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
    matches!(op, Equal | NotEqual | Less | Greater | LessOrEqual | GreaterOrEqual)
}

fn small_int(expr: &Expr) -> Option<i32> {
    match &expr.kind {
        ExprKind::Literal(Literal::Int(value)) => i32::try_from(*value).ok(),
        _ => None,
    }
}

/// Whether an expression certainly changes no variable.
fn is_quiet(expr: &Expr, depth: u32) -> bool {
    let quiet = |expr: &Expr| is_quiet(expr, depth + 1);
    depth < 16
        && match &expr.kind {
            ExprKind::Literal(_) | ExprKind::Name(_) | ExprKind::None => true,
            ExprKind::Unary(_, inner) | ExprKind::Member(inner, _) => quiet(inner),
            ExprKind::Binary(_, left, right) | ExprKind::Index(left, right) => {
                quiet(left) && quiet(right)
            }
            ExprKind::Array(items) => items.iter().all(quiet),
            ExprKind::Call { callee, args } => {
                let callee_is_quiet = match &callee.kind {
                    ExprKind::Name(_) => true,
                    ExprKind::Member(inner, name) => {
                        !MUTATORS.contains(&name.node.as_str()) && quiet(inner)
                    }
                    _ => false,
                };
                callee_is_quiet && args.iter().all(|arg| quiet(&arg.value))
            }
            _ => false,
        }
}
