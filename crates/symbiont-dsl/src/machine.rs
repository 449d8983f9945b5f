//! The machine: runs one entry of an agent, step by step.

use std::sync::Arc;

use crate::hir::{Program, Span};
use crate::value::{ErrorValue, Value};

/// The behaviour of one agent, compiled.
#[derive(Debug)]
pub struct Code {}

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
    let _ = (program, agent);
    Err(CompileError { message: "the compiler is not built yet".to_owned(), span: 0..0 })
}

/// What of an agent runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Entry {
    /// The `with` block.
    With,
    /// `on start`
    OnStart,
    /// `on stop`
    OnStop,
    /// `on message`
    OnMessage,
}

/// What a run may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Steps of the whole run.
    pub steps: u64,
    /// Bytes of live values.
    pub memory: u64,
    /// Calls within calls.
    pub depth: u32,
    /// Bytes of the result as JSON.
    pub output: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { steps: 100_000_000, memory: 256 << 20, depth: 1_000, output: 16 << 20 }
    }
}

/// Why a machine stopped running.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// It wants something from the host; [`Machine::resume`] brings the answer.
    Call(HostCall),
    /// It has ended with this value.
    Done(Value),
    /// It has ended with this error.
    Failed(ErrorValue),
    /// The fuel is used up; [`Machine::run`] goes on.
    Yielded,
}

/// What a program asks of its host.
#[derive(Debug, Clone, PartialEq)]
pub struct HostCall {
    /// `exec`, `fs.read`, `send`, `secret.read`, or the name of a tool.
    pub name: Arc<str>,
    /// Its arguments by position.
    pub args: Vec<Value>,
    /// Its arguments by name.
    pub named: Vec<(Arc<str>, Value)>,
    /// Where the call stands in the source.
    pub span: Span,
}

/// A run: everything it knows is data.
#[derive(Debug)]
pub struct Machine {}

impl Machine {
    /// A machine at the beginning of an entry.
    pub fn start(
        code: Arc<Code>,
        entry: Entry,
        arguments: Vec<(String, Value)>,
        ambient: Vec<(String, Value)>,
        limits: Limits,
    ) -> Result<Machine, ErrorValue> {
        let _ = (code, entry, arguments, ambient, limits);
        Err(ErrorValue::new("NotBuilt", "the machine is not built yet"))
    }

    /// Runs for at most `fuel` steps.
    pub fn run(&mut self, fuel: u64) -> Step {
        let _ = fuel;
        Step::Failed(ErrorValue::new("NotBuilt", "the machine is not built yet"))
    }

    /// Brings the answer to the last host call.
    pub fn resume(&mut self, result: Result<Value, ErrorValue>) {
        drop(result);
    }

    /// Steps used so far.
    pub fn steps(&self) -> u64 {
        0
    }

    /// Bytes of live values.
    pub fn memory(&self) -> u64 {
        0
    }

    /// Calls within calls at the moment.
    pub fn depth(&self) -> u32 {
        0
    }

    /// Where in the source the machine stands; after a failure, where it failed.
    pub fn span(&self) -> Span {
        0..0
    }
}
