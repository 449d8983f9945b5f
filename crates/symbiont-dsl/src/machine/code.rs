//! Compiled programs: instructions, and the tables that they speak of.
//!
//! Code holds no addresses: a place in it is the number of a function and of an instruction, so
//! that the state of a run is data that can be written down and read back.

use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use sha2::{Digest as _, Sha256};

use super::builtins::Builtin;
use super::fit::Fit;
use super::prelude;
use super::work::Work;
use crate::hir::{BinaryOp, Span};
use crate::value::{Form, Value};

/// The behaviour of one agent, compiled. It is shared between runs.
#[derive(Debug)]
pub struct Code {
    pub(super) functions: Vec<Function>,
    pub(super) constants: Vec<Value>,
    /// Names of members and of kinds of errors.
    pub(super) names: Vec<Arc<str>>,
    /// The keys of records, in order.
    pub(super) shapes: Vec<Box<[Arc<str>]>>,
    pub(super) places: Vec<Place>,
    pub(super) sites: Vec<Site>,
    /// What values become for the types that are written.
    pub(super) fits: Arc<[Fit]>,
    /// Entries by number: `with`, `on start`, `on stop`, `on message`.
    pub(super) entries: [Option<u32>; 4],
    /// The variables that are left when a run of a session ends: where they stand, and whether they
    /// are there only from a `let` on. Otherwise there are none.
    pub(super) variables: Vec<(Arc<str>, u16, bool)>,
    /// Found out when it is first asked for.
    pub(super) digest: OnceLock<[u8; 32]>,
}

impl Code {
    /// What is in all code.
    pub(super) fn empty() -> Code {
        Code::upon(prelude::functions(), prelude::sites())
    }

    /// What nothing can run, for whoever only wants to know whether a program compiles: places for
    /// what is in all code.
    pub(super) fn hollow() -> Code {
        Code::upon(vec![Function::default(); prelude::COUNT], Vec::new())
    }

    fn upon(functions: Vec<Function>, sites: Vec<Site>) -> Code {
        Code {
            functions,
            constants: Vec::new(),
            names: Vec::new(),
            shapes: Vec::new(),
            places: Vec::new(),
            sites,
            fits: Arc::new([]),
            entries: [None; 4],
            variables: Vec::new(),
            digest: OnceLock::new(),
        }
    }

    /// How many values are left when a run ends.
    pub(super) fn kept(&self) -> usize {
        self.variables.iter().map(|(_, slot, _)| usize::from(*slot) + 1).max().unwrap_or(0)
    }

    /// A digest of all that the code says, the same in every process: what a saved run belongs to.
    ///
    /// It is taken of the form that code is debugged in, which tells of every instruction and table.
    pub fn digest(&self) -> &[u8; 32] {
        self.digest.get_or_init(|| {
            let Code {
                functions,
                constants,
                names,
                shapes,
                places,
                sites,
                fits,
                entries,
                variables,
                digest: _,
            } = self;
            let all =
                (functions, constants, names, shapes, places, sites, fits, entries, variables);
            let mut hash = Hashing(Sha256::new());
            write!(hash, "{all:?}").expect("hashing takes whatever it is given");
            hash.0.finalize().into()
        })
    }

    /// The texts that values of a run may share with the code.
    pub(super) fn texts(&self) -> impl Iterator<Item = &Arc<str>> {
        let constants = self.constants.iter().filter_map(|constant| match constant {
            Value::String(text) => match text.form() {
                Form::Fixed(text) => Some(text),
                Form::Grown(_) => None,
            },
            Value::Memory(name) => Some(name),
            _ => None,
        });
        let shapes = self.shapes.iter().flat_map(|shape| shape.iter());
        let keys = self.places.iter().flat_map(|place| place.parts.iter());
        let keys = keys.filter_map(|part| match part {
            Part::Key(key) => Some(key),
            Part::Index => None,
        });
        constants.chain(shapes).chain(keys)
    }
}

/// Takes text in for a digest.
struct Hashing(Sha256);

impl std::fmt::Write for Hashing {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.update(text);
        Ok(())
    }
}

/// One function, lambda, handler or `with` block.
#[derive(Debug, Clone, Default)]
pub(super) struct Function {
    pub(super) name: Arc<str>,
    /// Its parameters; they take the first slots. What it captured takes the next ones.
    pub(super) params: Box<[Arc<str>]>,
    /// Which parameters are optional by their type. Only entries look at it.
    pub(super) optional: Box<[bool]>,
    /// How many of the parameters of a handler are given by position.
    pub(super) positional: usize,
    /// How many slots it needs for parameters, captured values and variables.
    pub(super) slots: u32,
    pub(super) fits: FunctionFits,
    pub(super) ops: Vec<Op>,
    /// Where each instruction comes from.
    pub(super) spans: Vec<(u32, u32)>,
    /// Made by the compiler: messages point at its caller.
    pub(super) prelude: bool,
}

/// What its parameters and its result become by the types that are written.
#[derive(Debug, Clone, Default)]
pub(super) struct FunctionFits {
    pub(super) params: Box<[Option<u32>]>,
    pub(super) result: Option<u32>,
    /// Where the body begins, behind what fits the parameters: whoever calls the function by its name
    /// has fitted them.
    pub(super) body: u32,
}

impl Function {
    /// Whether it can have captured so many values.
    pub(super) fn captures(&self, count: usize) -> bool {
        self.params.len() + count <= self.slots as usize
    }

    /// Where an instruction comes from.
    pub(super) fn span(&self, pc: usize) -> Span {
        self.spans.get(pc).map_or(0..0, |&(start, end)| start as usize..end as usize)
    }
}

/// Something that can be assigned to or changed where it is: a variable and a way into it.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) slot: u16,
    pub(super) parts: Box<[Part]>,
    /// How many of the parts are on the stack.
    pub(super) indexes: u16,
}

/// One step of the way into a variable.
#[derive(Debug, Clone)]
pub(super) enum Part {
    /// `.name`
    Key(Arc<str>),
    /// `[i]`, where `i` is on the stack.
    Index,
}

/// A call as it stands in the source.
#[derive(Debug, Clone)]
pub(super) struct Site {
    /// What is called, for messages and for the host.
    pub(super) name: Arc<str>,
    /// How many arguments are given by position.
    pub(super) positional: u16,
    /// The names of the arguments after those.
    pub(super) names: Box<[Arc<str>]>,
    pub(super) target: Target,
}

impl Site {
    /// How many values the call takes from the stack.
    pub(super) fn arguments(&self) -> usize {
        usize::from(self.positional) + self.names.len()
    }
}

/// What a call means, as far as it is known before the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// A function of the program.
    Function(u32),
    /// A builtin.
    Builtin(Builtin),
    /// The host.
    Host,
    /// A value below the arguments: what is called, or whose method is called.
    Value,
}

/// What a pattern takes apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrapper {
    Some,
    Ok,
    Err,
}

/// One instruction. Each is one step of the run, and pays for more where it does more.
#[derive(Debug, Clone, Copy)]
pub(super) enum Op {
    /// Pushes a constant.
    Const(u32),
    Int(i32),
    Null,
    Bool(bool),
    None,
    Any,
    Pop(u32),
    /// Pushes a variable.
    Load(u16),
    /// Pops into a variable.
    Store(u16),
    Ambient(u8),
    /// Pushes a function; its captured values are popped.
    Closure {
        function: u32,
        captured: u16,
    },
    Array(u32),
    /// Pops as many values as the shape has keys.
    Record(u32),
    Wrap(Wrapper),
    /// Makes the top what a written type says.
    Fit(u32),
    Not,
    Negate,
    /// Turns the top into true or false.
    Truth,
    Binary(BinaryOp),
    BinaryInt(BinaryOp, i32),
    BinaryLocals(BinaryOp, u16, u16),
    BinaryLocalInt(BinaryOp, u16, i32),
    /// `slot op= pop`
    Update(BinaryOp, u16),
    UpdateInt(BinaryOp, u16, i32),
    Jump(u32),
    JumpIfFalse(u32),
    JumpIfTrue(u32),
    JumpUnlessLocals(BinaryOp, u16, u16, u32),
    JumpUnlessLocalInt(BinaryOp, u16, i32, u32),
    Member(u32),
    Index,
    /// `slot[slot]`
    IndexLocals(u16, u16),
    Assign(u32),
    UpdatePlace(BinaryOp, u32),
    /// A method that changes its receiver, at a place; whether the result is wanted.
    Mutate {
        place: u32,
        site: u32,
        wanted: bool,
    },
    /// A call of a function with exactly its parameters on the stack, fitted.
    Call(u32),
    /// A call whose target the site knows.
    CallSite(u32),
    /// A call of a variable if it holds a function, otherwise as the site says.
    CallVariable(u16, u32),
    /// A call of the value below the arguments.
    CallValue(u32),
    /// A method of the value below the arguments.
    Method(u32),
    Return,
    /// Pops what is walked through into `slot`, and starts at its beginning (`slot + 1`).
    ForStart(u16),
    /// Puts the next one into `slot + 2`, or clears `slot` and jumps.
    ForNext(u16, u32),
    /// Pops a value and appends it to the array in a slot.
    AppendTo(u16),
    /// Errors from here to [`Op::EndTry`] go to the target, with the error on the stack.
    Try(u32),
    EndTry,
    /// Jumps unless the error on the stack is of the kind.
    UnlessKind(u32, u32),
    /// Pops an error and raises it.
    Raise,
    /// Pops; pushes what is in the wrapper, or jumps.
    Unwrap(Wrapper, u32),
    /// Pops; jumps unless it is `None` or `null`.
    UnlessNone(u32),
    /// Pops a map; pushes the field of that name, or jumps.
    Field(u32, u32),
    /// Does a stride of work in the frame's slots, and is done again until it can push the result.
    Work(Work),
}
