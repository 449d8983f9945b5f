//! A program that grows by inputs, as somebody types them.
//!
//! Each input is either declarations or statements; a statement sees the variables, functions and
//! types of all inputs before it. Code only ever grows, so that closures which variables hold keep
//! meaning the functions that they were made of.
//!
//! # What holds
//!
//! - An input with errors changes nothing.
//! - One that ends leaves its variables to the next. One that fails leaves those that it assigned as
//!   they were by then, and none that it declared with `let`.
//! - A function that is declared again is another one for all functions and inputs after it; what
//!   holds the earlier one as a value keeps it.
//! - Places in what a machine says are places in [`Session::source`].
//!
//! # What is not here
//!
//! No policies and no capabilities: host calls surface from the machine like any others.

use std::collections::HashMap;
use std::sync::Arc;

use super::code::Code;
use super::compile::{self, Input};
use super::{Entry, Limits, Machine, Status};
use crate::check;
use crate::diagnostic::{Diagnostic, Severity, Sink};
use crate::hir::{Agent, Block, BlockKind, Function, Param, Program, Spanned, StmtKind, Type};
use crate::syntax::{self, MAX_SOURCE, SyntaxKind};
use crate::value::{ErrorValue, Value};

/// What stands around statements, so that they can be read as an agent's behaviour.
const AROUND: [&str; 2] = ["agent session { with {\n", "\n} }"];

/// What an input may declare.
const DECLARATIONS: [&str; 3] = ["function", "type", "memory"];

/// Variables, functions and types of all inputs so far.
#[derive(Debug)]
pub struct Session {
    code: Arc<Code>,
    /// What was declared, without agents.
    declared: Program,
    /// Where in the source each function was read, in the order of those declared.
    shifts: Vec<u32>,
    numbers: HashMap<String, u32>,
    variables: Vec<(Arc<str>, Value)>,
    /// The types of variables for which one is written.
    types: HashMap<Arc<str>, Type>,
    /// What the input that runs declares.
    lets: Vec<(Arc<str>, Option<Type>)>,
    source: String,
    limits: Limits,
}

impl Session {
    /// A session in which nothing has been entered. Each input may use as much as `limits` say.
    pub fn new(limits: Limits) -> Self {
        Session {
            code: Arc::new(Code::empty()),
            declared: Program::default(),
            shifts: Vec::new(),
            numbers: HashMap::new(),
            variables: Vec::new(),
            types: HashMap::new(),
            lets: Vec::new(),
            source: String::new(),
            limits,
        }
    }

    /// All inputs that were taken, each ended by a line break.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The variables and what they hold, in the order in which they came.
    pub fn variables(&self) -> &[(Arc<str>, Value)] {
        &self.variables
    }

    /// Takes an input in, and gives the machine that runs it, for [`Session::finish`] to end. What
    /// is found is about the input by itself.
    pub fn enter(&mut self, input: &str) -> Result<Machine, Vec<Diagnostic>> {
        let mut sink = Sink::default();
        if self.source.len() + input.len() >= MAX_SOURCE {
            let message = format!("a session takes at most {MAX_SOURCE} bytes of input");
            sink.push(Diagnostic::error("E0108", message, 0..input.len()).label("too much"));
            return Err(sink.finish());
        }
        // What stands around an input would seem to close what is open in it.
        if let Some(open) = syntax::unclosed(input) {
            return Err(vec![open]);
        }
        let declares = begins_declaration(input);
        let before = if declares { 0 } else { AROUND[0].len() };
        let read = if declares {
            syntax::parse_into(input, &mut sink)
        } else {
            let whole = format!("{}{input}{}", AROUND[0], AROUND[1]);
            syntax::parse_within(&whole, before + input.len(), &mut sink)
        };
        let taken = self.take(read, declares, input, before, &mut sink);
        match taken.filter(|_| !sink.has_errors()) {
            Some(taken) => Ok(self.accept(taken, input)),
            None => Err(within(sink.finish(), before, input.len())),
        }
    }

    /// Checks and compiles what was read of an input.
    fn take(
        &self,
        read: Program,
        declares: bool,
        input: &str,
        before: usize,
        sink: &mut Sink,
    ) -> Option<Taken> {
        let shift = shift_of(self.source.len(), before);
        let mut program = self.declared.clone();
        let mut shifts = self.shifts.clone();
        let mut agent = if declares {
            only_declarations(&read, sink);
            for function in &read.functions {
                let known =
                    program.functions.iter().position(|f| f.name.node == function.name.node);
                if let Some(known) = known {
                    program.functions.remove(known);
                    shifts.remove(known);
                }
            }
            shifts.extend(read.functions.iter().map(|_| shift));
            replace(&mut program.functions, read.functions, |f: &Function| &f.name);
            replace(&mut program.types, read.types, |ty| &ty.name);
            replace(&mut program.blocks, read.blocks, |block| &block.name);
            syntax::parse("agent session { with { } }").program.agents.pop()?
        } else {
            match <[Agent; 1]>::try_from(read.agents) {
                Ok([agent]) if agent.handlers.is_empty() && agent.functions.is_empty() => agent,
                _ => {
                    let whole = before..before + input.len();
                    sink.push(
                        Diagnostic::error("E0101", "this is no statement", whole)
                            .label("a bracket too many closes more than it opened"),
                    );
                    return None;
                }
            }
        };
        let name = |name: &Arc<str>| Spanned { node: name.to_string(), span: 0..0 };
        agent.params = (self.variables.iter())
            .map(|(known, _)| Param { name: name(known), ty: self.types.get(known).cloned() })
            .collect();
        let lets = match &agent.with {
            Some(with) => lets(&with.body),
            None => Vec::new(),
        };
        program.agents = vec![agent];
        if !sink.has_errors() {
            // The only check that reads the source is of schedules, and none may be declared here.
            check::check(&program, &[], "", None, sink);
        }
        if sink.has_errors() {
            return None;
        }
        let compiled = compile::extend(
            &self.code,
            &program,
            &Input { functions: declares.then_some(&shifts), numbers: &self.numbers, shift },
        );
        match compiled {
            Ok((code, numbers)) => {
                program.agents.clear();
                Some(Taken { code, numbers, declared: program, shifts, lets })
            }
            Err(error) => {
                let found = Diagnostic::error("E0209", error.message, error.span);
                sink.push(found.label("cannot be compiled"));
                None
            }
        }
    }

    fn accept(&mut self, taken: Taken, input: &str) -> Machine {
        self.code = Arc::new(taken.code);
        self.numbers = taken.numbers;
        self.declared = taken.declared;
        self.shifts = taken.shifts;
        self.lets = taken.lets;
        self.source.push_str(input);
        self.source.push('\n');
        let arguments =
            self.variables.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
        let code = Arc::clone(&self.code);
        match Machine::start(Arc::clone(&code), Entry::With, arguments, Vec::new(), self.limits) {
            Ok(machine) => machine,
            // Nothing is missing; what is left is that the variables are too much for the limits.
            Err(error) => Machine::new(code, Status::Ended(Err(error), 0..0), self.limits),
        }
    }

    /// Takes the variables of the machine of the last input back, and gives how it ended.
    pub fn finish(&mut self, machine: Machine) -> Result<Value, ErrorValue> {
        if !Arc::ptr_eq(&machine.code, &self.code) {
            return Err(ErrorValue::new("TypeError", "this is not the run of the last input"));
        }
        let Status::Ended(result, _) = machine.status else {
            return Err(ErrorValue::new("Cancelled", "the input was not run to its end"));
        };
        for (name, slot, declared) in &self.code.variables {
            let Some(value) = machine.values.get(usize::from(*slot)) else { continue };
            if *declared && result.is_err() {
                continue;
            }
            match self.variables.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => *known = value.clone(),
                None => self.variables.push((Arc::clone(name), value.clone())),
            }
        }
        if result.is_ok() {
            for (name, ty) in std::mem::take(&mut self.lets) {
                match ty {
                    Some(ty) => _ = self.types.insert(name, ty),
                    None => _ = self.types.remove(&name),
                }
            }
        }
        result
    }
}

/// The variables that a body declares and leaves, with the types that are written.
fn lets(body: &Block) -> Vec<(Arc<str>, Option<Type>)> {
    let declared = body.statements.iter().filter_map(|statement| match &statement.kind {
        StmtKind::Let { name, ty, .. } => Some((Arc::from(name.node.as_str()), ty.clone())),
        _ => None,
    });
    declared.collect()
}

/// What becomes of a session by an input.
struct Taken {
    code: Code,
    numbers: HashMap<String, u32>,
    declared: Program,
    shifts: Vec<u32>,
    lets: Vec<(Arc<str>, Option<Type>)>,
}

/// Whether the input declares something: a keyword of declarations before a name.
fn begins_declaration(input: &str) -> bool {
    let tokens = syntax::lex_first(input, 2).tokens;
    match &tokens[..] {
        [word, name, ..] => {
            let word = &input[word.start as usize..word.end as usize];
            (syntax::KEYWORDS.contains(&word) || syntax::is_function(word))
                && name.kind == SyntaxKind::Name
        }
        _ => false,
    }
}

fn only_declarations(read: &Program, sink: &mut Sink) {
    let others = (read.agents.iter().map(|agent| &agent.span))
        .chain(read.policies.iter().map(|policy| &policy.span))
        .chain(read.metadata.iter().map(|entry| &entry.key.span))
        .chain(read.blocks.iter().filter(|b| b.kind != BlockKind::Memory).map(|b| &b.span));
    for span in others {
        let words = DECLARATIONS.map(|word| format!("`{word}`")).join(", ");
        sink.push(
            Diagnostic::error("E0101", "this cannot be declared in a session", span.clone())
                .label(format!("what can be is {words}")),
        );
    }
}

/// Puts new ones in the place of those of the same name, and the others at the end.
fn replace<T>(known: &mut Vec<T>, new: Vec<T>, name: impl Fn(&T) -> &Spanned<String>) {
    known.retain(|known| new.iter().all(|new| name(new).node != name(known).node));
    known.extend(new);
}

/// What makes a place in the text that was read one in the session's source.
#[expect(clippy::cast_possible_truncation, reason = "sources are far below 4 GiB")]
fn shift_of(source: usize, before: usize) -> u32 {
    (source as u32).wrapping_sub(before as u32)
}

/// The errors among them, as what they say of the input.
fn within(found: Vec<Diagnostic>, before: usize, length: usize) -> Vec<Diagnostic> {
    let place = |at: usize| at.saturating_sub(before).min(length);
    found
        .into_iter()
        .filter(|found| found.severity == Severity::Error)
        .map(|mut found| {
            found.span = place(found.span.start)..place(found.span.end);
            if let Some(fix) = &mut found.fix {
                fix.span = place(fix.span.start)..place(fix.span.end);
            }
            found
        })
        .collect()
}
