//! The machine: runs one entry of an agent, step by step.
//!
//! [`compile`] turns the program into [`Code`]; a [`Machine`] runs it until it wants something from
//! its host, has used the fuel it was given, or has ended. It never uses the host's stack for the
//! program's calls: frames, values and open `try` blocks are data.
//!
//! # What holds
//!
//! - Between host calls a run is deterministic: the same code, arguments and answers give the same
//!   results, steps and memory, however the fuel is sliced.
//! - Work is paid for in steps before it is done, in proportion to its size; bytes are charged
//!   before they are allocated. A charge is never less than what is live; when the charges pass the
//!   limit, what is live is counted, and the run fails only if that is too much.
//! - The state is data: code is addressed by the number of a function and of an instruction, and
//!   closures by the number of their function. Nothing that the host holds is shared with it.
//! - No program makes it panic or overflow the stack.
//!
//! # What is not here
//!
//! No effects and no policy: a host call is handed out with its arguments, and whatever the host
//! answers is taken. No clock: the host decides how much fuel to give, and how long to wait.

mod builtins;
mod code;
mod compile;
mod count;
mod fit;
mod heights;
mod jobs;
mod long;
mod meter;
mod methods;
mod names;
mod operators;
mod pattern;
mod prelude;
mod saved;
mod session;
mod work;

use std::sync::Arc;

use crate::hir::Span;
use crate::operations;
use crate::value::{Array, Closure, ErrorValue, Garbage, Map, Secret, Text, Value, Writer};

use builtins::{MUTATORS, Patterns};
pub use code::Code;
use code::{Function, Op, Place, Site, Target, Wrapper};
pub(crate) use compile::{Around, compiles_among};
pub use compile::{CompileError, compile};
use count::{Count, Detach};
use jobs::{Form, Write};
use meter::{Meter, Raise, TEXT, VALUE, raise, type_error};
#[cfg(test)]
pub(crate) use methods::known as methods_of;
pub(crate) use pattern::is_pattern;
pub use saved::RestoreError;
pub use session::Session;
use work::Work;

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
    /// Steps of the whole run. A run that has used them ends; nothing can catch that.
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
pub struct Machine {
    code: Arc<Code>,
    /// Slots and passing values of all frames, the innermost last.
    values: Vec<Value>,
    frames: Vec<Frame>,
    /// Open `try` blocks of all frames.
    attempts: Vec<Attempt>,
    ambient: Vec<Value>,
    meter: Meter,
    depth_limit: u32,
    output_limit: u64,
    /// Steps done beyond the fuel that was given, by an instruction that cost more than one.
    owed: u64,
    status: Status,
    /// Not part of the state: it can be lost at any time.
    patterns: Patterns,
    /// What was let go and is still to be freed. Not part of the state either.
    garbage: Garbage,
    /// The result as JSON, if the run has ended with one since it was started or restored.
    output: Option<Text>,
}

/// Whether and how a machine goes on.
#[derive(Debug)]
enum Status {
    Ready,
    /// For the host's answer.
    Waiting,
    /// With the host's answer.
    Answered(Result<Value, ErrorValue>),
    Ended(Result<Value, ErrorValue>, Span),
}

/// A call in progress.
#[derive(Debug, Clone, Copy)]
struct Frame {
    function: u32,
    /// The next instruction.
    pc: u32,
    /// Where its slots begin in the values.
    base: u32,
    /// What of the values is left when it returns.
    floor: u32,
    /// How many `try` blocks were open before it.
    attempts: u32,
}

/// An open `try` block.
#[derive(Debug, Clone, Copy)]
struct Attempt {
    frames: u32,
    height: u32,
    pc: u32,
}

/// How many values are freed in one go, for so many steps of fuel.
const FREED: usize = 1_024;

/// How often at most a run does that before it goes on.
const TURNS: u64 = 16;

/// Why the innermost loop was left.
enum Exit {
    Fuel,
    Call(HostCall),
    Done(Value),
}

#[expect(clippy::cast_possible_truncation, reason = "bounded by memory and depth limits")]
fn small(number: usize) -> u32 {
    number as u32
}

impl Machine {
    /// A machine at the beginning of an entry.
    ///
    /// Arguments are taken by name; for [`Entry::OnMessage`] the first ones are taken by position
    /// for the handler's own parameters. A parameter whose type is `Option` may be missing, and
    /// gets its value wrapped in `Some`. An entry that the agent does not have ends with `null`.
    pub fn start(
        code: Arc<Code>,
        entry: Entry,
        arguments: Vec<(String, Value)>,
        ambient: Vec<(String, Value)>,
        limits: Limits,
    ) -> Result<Machine, ErrorValue> {
        // Arguments and ambient values that share something go on sharing it.
        let (arguments, ambient) = detached(arguments, ambient)?;
        let mut surroundings = vec![Value::Null; compile::AMBIENT.len()];
        for (name, value) in ambient {
            if let Some(at) = compile::AMBIENT.iter().position(|known| *known == name) {
                surroundings[at] = value;
            }
        }
        let mut machine = Machine::new(Arc::clone(&code), Status::Ready, limits);
        machine.ambient = surroundings;
        let index = match entry {
            Entry::With => 0,
            Entry::OnStart => 1,
            Entry::OnStop => 2,
            Entry::OnMessage => 3,
        };
        let Some(function) = code.entries[index] else {
            machine.status = Status::Ended(Ok(Value::Null), 0..0);
            return Ok(machine);
        };
        let params = &code.functions[function as usize];
        let mut given: Vec<Option<(String, Value)>> = arguments.into_iter().map(Some).collect();
        for (number, name) in params.params.iter().enumerate() {
            let by_position = entry == Entry::OnMessage && number < params.positional;
            let found = if by_position {
                given.get_mut(number).and_then(Option::take)
            } else {
                given
                    .iter_mut()
                    .find(|slot| slot.as_ref().is_some_and(|(given, _)| **given == **name))
                    .and_then(Option::take)
            };
            let optional = params.optional.get(number).copied().unwrap_or(false);
            let value = match found {
                Some((_, Value::Null)) if optional => Value::None,
                Some((_, value @ (Value::Some(_) | Value::None))) => value,
                Some((_, value)) if optional => Value::some(value),
                Some((_, value)) => value,
                None if optional => Value::None,
                None if entry != Entry::With => Value::Null,
                None => {
                    let message = format!("the run's input has no `{name}`, which the agent needs");
                    return Err(ErrorValue::new("KeyError", message));
                }
            };
            operators::check_depth(value.depth()).map_err(error_of)?;
            machine.values.push(value);
        }
        machine.enter(&code, function, None, 0, 0, &[]).map_err(error_of)?;
        machine.meter.charged = machine.count().whole();
        match machine.meter.charged > machine.meter.memory_limit {
            true => Err(error_of(machine.meter.out_of_memory())),
            false => Ok(machine),
        }
    }

    /// A machine in which nothing has been done.
    fn new(code: Arc<Code>, status: Status, limits: Limits) -> Machine {
        Machine {
            code,
            values: Vec::new(),
            frames: Vec::new(),
            attempts: Vec::new(),
            ambient: vec![Value::Null; compile::AMBIENT.len()],
            meter: Meter::new(limits.steps, limits.memory),
            depth_limit: limits.depth,
            output_limit: limits.output,
            owed: 0,
            status,
            patterns: Patterns::default(),
            garbage: Garbage::default(),
            output: None,
        }
    }

    /// Runs for at most `fuel` steps. What one instruction, or one stride of its work, costs beyond
    /// them is taken from the fuel that is given next.
    pub fn run(&mut self, fuel: u64) -> Step {
        let fuel = match fuel.checked_sub(self.owed) {
            Some(rest) => {
                self.owed = 0;
                rest
            }
            None => {
                self.owed -= fuel;
                return Step::Yielded;
            }
        };
        let mut garbage = std::mem::take(&mut self.garbage);
        let step = garbage.within(|| self.go(fuel));
        self.garbage = garbage;
        step
    }

    fn go(&mut self, fuel: u64) -> Step {
        match &self.status {
            Status::Ready | Status::Answered(_) => {}
            Status::Waiting => return Step::Yielded,
            Status::Ended(Ok(value), _) => return Step::Done(value.clone()),
            Status::Ended(Err(error), _) => return Step::Failed(error.clone()),
        }
        let code = Arc::clone(&self.code);
        let mut stop = self.steps().saturating_add(fuel);
        // Freeing is no part of the run, but takes time as well.
        let turns = usize::try_from(fuel.div_ceil(FREED as u64).min(TURNS)).unwrap_or(0);
        Garbage::free(turns * FREED);
        loop {
            if self.steps() >= stop {
                self.owed = self.steps() - stop;
                return Step::Yielded;
            }
            if self.meter.long.waits {
                if Garbage::free(FREED) {
                    self.meter.long.waits = false;
                }
                stop = stop.saturating_sub(FREED as u64).max(self.steps());
                continue;
            }
            let outcome = match self.advance(&code, stop) {
                Ok(Exit::Fuel) => continue,
                Ok(Exit::Call(call)) => {
                    self.owed = self.meter.steps.saturating_sub(stop);
                    self.status = Status::Waiting;
                    return Step::Call(call);
                }
                Ok(Exit::Done(value)) => {
                    self.release();
                    self.status = Status::Ended(Ok(value.clone()), 0..0);
                    return Step::Done(value);
                }
                Err(Raise::Unfinished) => continue,
                Err(Raise::Fatal(error)) => Err(*error),
                Err(Raise::Error(error)) => self.catch(*error),
            };
            if let Err(error) = outcome {
                return self.fail(error);
            }
        }
    }

    /// Does the work in progress again, so much of it as a saved run had done. Whether there was so
    /// much.
    fn catch_up(&mut self, spent: u64) -> bool {
        let code = Arc::clone(&self.code);
        let (steps, want) = (self.meter.steps, self.meter.steps.saturating_add(spent));
        let mut garbage = Garbage::default();
        let done = garbage.within(|| {
            while self.meter.steps == steps && self.steps() < want {
                let stop = if self.meter.retries() { want } else { steps + 1 };
                if !matches!(self.advance(&code, stop), Ok(Exit::Fuel) | Err(Raise::Unfinished)) {
                    return false;
                }
            }
            self.meter.steps == steps && self.steps() == want
        });
        self.garbage = garbage;
        done
    }

    /// Goes on with what comes next: work in progress, a count, an answer, or the program.
    fn advance(&mut self, code: &Code, stop: u64) -> Result<Exit, Raise> {
        if !self.meter.go_on(stop)? {
            return Ok(Exit::Fuel);
        }
        let retries = self.meter.retries();
        let answered = matches!(self.status, Status::Answered(_));
        if self.meter.charged > self.meter.memory_limit || answered {
            self.meter.begin();
            let outcome = match self.meter.charged > self.meter.memory_limit {
                true => self.recount(),
                false => self.take_answer(),
            };
            match outcome {
                Err(Raise::Unfinished) => self.meter.undo(),
                Ok(()) | Err(_) => self.meter.finish(),
            }
            return outcome.map(|()| Exit::Fuel);
        }
        if self.meter.steps >= self.meter.step_limit {
            return Err(self.meter.out_of_steps());
        }
        // An instruction that is done again is done by itself.
        let stop = if retries { self.meter.steps + 1 } else { stop.min(self.meter.step_limit) };
        let outcome = self.execute(code, stop);
        match &outcome {
            Err(Raise::Unfinished) => {
                self.meter.undo();
                if let Some(frame) = self.frames.last_mut() {
                    frame.pc -= 1;
                }
            }
            Ok(_) | Err(_) => self.meter.finish(),
        }
        outcome
    }

    /// Brings the answer to the last host call. Without one that waits, it is dropped.
    pub fn resume(&mut self, result: Result<Value, ErrorValue>) {
        if matches!(self.status, Status::Waiting) {
            let taken = result.and_then(|value| {
                operators::check_depth(value.depth()).map_err(error_of)?;
                Ok(value)
            });
            self.status = Status::Answered(taken);
        }
    }

    /// The run as bytes, from which [`Machine::restore`] makes it again, with the same code.
    ///
    /// The text of a secret is written as `seal` gives it. A host that must not write secrets gives
    /// nothing, and reads the secret again when it is asked to open it; what a program has put
    /// together from a secret has that secret's path, but another text.
    pub fn save(&self, mut seal: impl FnMut(&Secret) -> Vec<u8>) -> Vec<u8> {
        saved::save(self, &mut seal)
    }

    /// The run that was saved as these bytes, with what it may use from now on.
    ///
    /// It goes on exactly as the saved one would have. `open` gives a secret's text for its path and
    /// what `seal` has made of it.
    pub fn restore(
        code: Arc<Code>,
        bytes: &[u8],
        limits: Limits,
        mut open: impl FnMut(&str, &[u8]) -> Option<Arc<str>>,
    ) -> Result<Machine, RestoreError> {
        saved::restore(code, bytes, limits, &mut open)
    }

    /// From now on only these values are compared, or looked for among others; the rest is a `TypeError`.
    pub(crate) fn compare_only(&mut self, comparable: fn(&Value, &Value) -> bool) {
        self.meter.comparable = Some(comparable);
    }

    /// Steps used so far, those of the work in progress included.
    pub fn steps(&self) -> u64 {
        self.meter.steps.saturating_add(self.meter.spent())
    }

    /// Bytes of live values: what is shared counts once. It is counted now if there are few values;
    /// of many it is what has been charged since they were last counted, which is never less.
    pub fn memory(&self) -> u64 {
        self.count().soon().unwrap_or(self.meter.charged)
    }

    /// The result as JSON, once the run has ended with one. Writing it was a part of the run.
    pub fn output(&self) -> Option<&str> {
        self.output.as_deref()
    }

    /// Calls within calls at the moment.
    pub fn depth(&self) -> u32 {
        small(self.frames.len())
    }

    /// Where in the source the machine stands; after a failure, where it failed.
    pub fn span(&self) -> Span {
        if let Status::Ended(_, span) = &self.status {
            return span.clone();
        }
        for frame in self.frames.iter().rev() {
            let function = &self.code.functions[frame.function as usize];
            if !function.prelude {
                return function.span((frame.pc as usize).saturating_sub(1));
            }
        }
        0..0
    }

    // Beginnings and ends.

    fn take_answer(&mut self) -> meter::Result {
        let taken = match &self.status {
            Status::Answered(Ok(value)) => {
                let detached = self.meter.long(|| Detach::new(value.clone(), true));
                if matches!(detached, Err(Raise::Unfinished)) {
                    return Err(Raise::Unfinished);
                }
                detached
            }
            Status::Answered(Err(error)) => Err(Raise::Error(Box::new(error.clone()))),
            Status::Ready | Status::Waiting | Status::Ended(..) => return Ok(()),
        };
        self.status = Status::Ready;
        self.values.push(taken?);
        Ok(())
    }

    /// What a run that returns the value on top ends with.
    fn result(&mut self) -> meter::Result {
        let value = self.values.last().unwrap_or(&Value::Null);
        let failure = match value {
            Value::Err(inner) => failure_of(inner),
            Value::Error(error) => ErrorValue::clone(error),
            value => {
                let limit = usize::try_from(self.output_limit).unwrap_or(usize::MAX);
                match self.meter.long(|| Write::new(value, Form::Result, limit)) {
                    Ok(Value::String(text)) => {
                        self.output = Some(text);
                        return Ok(());
                    }
                    Ok(_) => return Ok(()),
                    Err(Raise::Error(error)) => return Err(Raise::Fatal(error)),
                    Err(other) => return Err(other),
                }
            }
        };
        Err(Raise::Fatal(Box::new(failure)))
    }

    fn fail(&mut self, error: ErrorValue) -> Step {
        let span = self.span();
        self.release();
        self.status = Status::Ended(Err(error.clone()), span);
        Step::Failed(error)
    }

    /// Lets everything go but what the code says is left.
    fn release(&mut self) {
        self.values.truncate(self.code.kept());
        self.frames.clear();
        self.attempts.clear();
    }

    /// Goes to the innermost open `try`, or gives the error back.
    fn catch(&mut self, error: ErrorValue) -> Result<(), ErrorValue> {
        let Some(attempt) = self.attempts.pop() else { return Err(error) };
        while self.frames.len() > attempt.frames as usize {
            self.leave();
        }
        self.values.truncate(attempt.height as usize);
        let bytes = 2 * TEXT + error.message.len() as u64;
        self.meter.charged = self.meter.charged.saturating_add(bytes);
        self.values.push(Value::from(error));
        if let Some(frame) = self.frames.last_mut() {
            frame.pc = attempt.pc;
        }
        Ok(())
    }

    // Memory.

    fn count(&self) -> Count {
        Count::of(self.values.iter().chain(&self.ambient).cloned())
    }

    /// Counts what is live where the charges say that it may be too much.
    fn recount(&mut self) -> meter::Result {
        self.meter.alone()?;
        let (values, ambient) = (&self.values, &self.ambient);
        let count = || Count::of(values.iter().chain(ambient).cloned());
        let Value::Size(bytes) = self.meter.long(count)? else { return Ok(()) };
        self.meter.charged = bytes;
        match bytes > self.meter.memory_limit {
            true => Err(self.meter.out_of_memory()),
            false => Ok(()),
        }
    }

    // Calls.

    /// Makes the values from `args_at` on the arguments of a function, and begins it.
    fn enter(
        &mut self,
        code: &Code,
        number: u32,
        closure: Option<&Closure>,
        floor: usize,
        args_at: usize,
        names: &[Arc<str>],
    ) -> meter::Result {
        let function = &code.functions[number as usize];
        if self.frames.len() >= self.depth_limit as usize {
            let message = format!("more than {} calls within calls", self.depth_limit);
            return Err(raise("LimitExceeded", message));
        }
        if !names.is_empty() {
            self.reorder(function, args_at, names)?;
        }
        let (given, wanted) = (self.values.len() - args_at, function.params.len());
        if given != wanted {
            let name = &function.name;
            return Err(type_error(format!("`{name}` takes {wanted} arguments, not {given}")));
        }
        if let Some(closure) = closure {
            self.values.extend_from_slice(&closure.captured);
        }
        self.values.resize(args_at + function.slots as usize, Value::Null);
        self.meter.charged += VALUE * u64::from(function.slots);
        self.frames.push(Frame {
            function: number,
            pc: 0,
            base: small(args_at),
            floor: small(floor),
            attempts: small(self.attempts.len()),
        });
        Ok(())
    }

    /// Puts named arguments where the function has its parameters.
    fn reorder(
        &mut self,
        function: &Function,
        args_at: usize,
        names: &[Arc<str>],
    ) -> meter::Result {
        let mut given = self.values.split_off(args_at);
        let named = given.split_off(given.len() - names.len());
        let mut slots: Vec<Option<Value>> = given.into_iter().map(Some).collect();
        slots.resize(slots.len().max(function.params.len()), None);
        for (name, value) in names.iter().zip(named) {
            match function.params.iter().position(|param| param == name) {
                Some(at) if slots[at].is_none() => slots[at] = Some(value),
                Some(_) => {
                    let message = format!("`{}` is given `{name}` twice", function.name);
                    return Err(type_error(message));
                }
                None => {
                    let message = format!("`{}` has no parameter `{name}`", function.name);
                    return Err(type_error(message));
                }
            }
        }
        for (at, slot) in slots.into_iter().enumerate() {
            let Some(value) = slot else {
                let (name, param) = (&function.name, &function.params[at]);
                return Err(type_error(format!("`{name}` needs its argument `{param}`")));
            };
            self.values.push(value);
        }
        Ok(())
    }

    /// Ends the innermost frame, and gives where the values were before it.
    #[inline]
    fn leave(&mut self) -> usize {
        let Some(frame) = self.frames.pop() else { return 0 };
        let slots = self.code.functions[frame.function as usize].slots;
        self.meter.charged = self.meter.charged.saturating_sub(VALUE * u64::from(slots));
        self.attempts.truncate(frame.attempts as usize);
        frame.floor as usize
    }

    /// A call as its site says. Functions are entered, builtins leave their result; what the host
    /// has to do is handed out.
    fn call(&mut self, code: &Code, site: &Site) -> Result<Option<HostCall>, Raise> {
        let args_at = self.values.len() - site.arguments();
        match site.target {
            Target::Function(function) => {
                self.enter(code, function, None, args_at, args_at, &site.names)?;
            }
            Target::Builtin(builtin) => {
                if let Some(name) = site.names.first() {
                    let message = format!("`{}` has no parameter `{name}`", site.name);
                    return Err(type_error(message));
                }
                let args = &self.values[args_at..];
                if let Some(work) = Work::of(&site.name, args) {
                    self.enter(code, prelude::function_of(work), None, args_at, args_at, &[])?;
                    return Ok(None);
                }
                let value = builtins::call(builtin, args, &mut self.patterns, &mut self.meter)?;
                self.values.truncate(args_at);
                self.values.push(value);
            }
            Target::Host => {
                let mut args = self.given(args_at)?;
                self.values.truncate(args_at);
                let named = args.split_off(usize::from(site.positional));
                return Ok(Some(HostCall {
                    name: Arc::clone(&site.name),
                    args,
                    named: site.names.iter().cloned().zip(named).collect(),
                    span: self.span(),
                }));
            }
            Target::Value => return Err(type_error("nothing to call")),
        }
        Ok(None)
    }

    /// The values from `args_at` on, for the host.
    fn given(&mut self, args_at: usize) -> Result<Vec<Value>, Raise> {
        let args = &self.values[args_at..];
        if args.iter().all(|arg| arg.depth() == 0 && !matches!(arg, Value::String(_))) {
            return Ok(args.to_vec());
        }
        let given = self.meter.long(|| Detach::given(Value::array(args.iter().cloned())))?;
        let Value::Array(given) = given else { return Ok(Vec::new()) };
        // The work that made it may still hold it.
        Ok(Arc::try_unwrap(given).map_or_else(|given| given.to_vec(), Array::into_items))
    }

    /// A call of a value, which must be a function.
    fn call_value(
        &mut self,
        code: &Code,
        callee: &Value,
        floor: usize,
        site: &Site,
    ) -> meter::Result {
        let args_at = self.values.len() - site.arguments();
        match callee {
            Value::Function(closure) => {
                self.enter(code, closure.function, Some(closure), floor, args_at, &site.names)
            }
            other => Err(type_error(format!("{} is no function", other.type_name()))),
        }
    }

    /// A method of the value below the arguments.
    fn method(&mut self, code: &Code, site: &Site) -> Result<Option<HostCall>, Raise> {
        let args_at = self.values.len() - site.arguments();
        let Some(at) = args_at.checked_sub(1) else { return Err(type_error("nothing to call")) };
        if let Value::Memory(store) = &self.values[at] {
            let store = Arc::clone(store);
            let call = self.memory_call(&store, site, args_at)?;
            self.values.truncate(at);
            return Ok(Some(call));
        }
        self.own_method(code, site, at, args_at).map(|()| None)
    }

    /// What is called of a declared memory, for the host.
    fn memory_call(
        &mut self,
        store: &Arc<str>,
        site: &Site,
        args_at: usize,
    ) -> Result<HostCall, Raise> {
        let name = format!("memory.{}", site.name);
        if !operations::is_host_call(&name) {
            return Err(methods::no_method(&Value::Memory(Arc::clone(store)), &site.name));
        }
        let mut args = self.given(args_at)?;
        let named = args.split_off(usize::from(site.positional));
        let mut named: Vec<_> = site.names.iter().cloned().zip(named).collect();
        named.push((Arc::from("store"), Value::from(&**store)));
        Ok(HostCall { name: Arc::from(name), args, named, span: self.span() })
    }

    fn own_method(&mut self, code: &Code, site: &Site, at: usize, args_at: usize) -> meter::Result {
        let name = &*site.name;
        if matches!(self.values[at], Value::Null) {
            return Err(type_error(format!("null has no method `{name}`")));
        }
        // What a record holds itself comes before what all records have.
        if let Value::Map(map) = &self.values[at]
            && let Some(callee @ Value::Function(_)) = map.get(name)
        {
            let callee = callee.clone();
            return self.call_value(code, &callee, at, site);
        }
        if site.names.is_empty() {
            if let Some((function, count)) = prelude::method(name)
                && self.values[at].list_length().is_some()
            {
                builtins::arity(name, &self.values[args_at..], count, count)?;
                return self.enter(code, function, None, at, at, &[]);
            }
            if name == "join"
                && self.values[at].list_length().is_some()
                && args_at == self.values.len()
            {
                self.values.push(Value::from(""));
            }
            // `zip` is no method.
            if let Some(work) = Work::of(name, &self.values[at..]).filter(|w| *w != Work::Zip) {
                return self.enter(code, prelude::function_of(work), None, at, at, &[]);
            }
            if MUTATORS.contains(&name) {
                let mut args = self.values.split_off(args_at);
                let result =
                    methods::mutate(&mut self.values[at], name, &mut args, &mut self.meter);
                if let Ok(true) = result {
                    return operators::check_depth(self.values[at].depth());
                }
                self.values.append(&mut args);
                result?;
            } else {
                let (receiver, args) = (&self.values[at], &self.values[args_at..]);
                let result =
                    methods::call(receiver, name, args, &mut self.patterns, &mut self.meter)?;
                if let Some(value) = result {
                    self.values.truncate(at);
                    self.values.push(value);
                    return Ok(());
                }
            }
        }
        Err(methods::no_method(&self.values[at], name))
    }

    /// A method that changes its receiver where that stands.
    fn mutate(
        &mut self,
        base: usize,
        place: &Place,
        site: &Site,
        wanted: bool,
    ) -> Result<Option<HostCall>, Raise> {
        if let Some(name) = site.names.first() {
            let message = format!("`{}` has no parameter `{name}`", site.name);
            return Err(type_error(message));
        }
        let args_at = self.values.len() - usize::from(site.positional);
        let mut args = self.values.split_off(args_at);
        let at = args_at - usize::from(place.indexes);
        let mut indexes = self.values.split_off(at);
        let depth = 1 + args.first().map_or(0, Value::depth);
        let slot = base + usize::from(place.slot);
        let mut root = std::mem::take(&mut self.values[slot]);
        let result = operators::reach(&mut root, place, &indexes, depth, false, &mut self.meter)
            .and_then(|target| {
                if matches!(target, Value::Null) {
                    return Err(type_error(format!("null has no method `{}`", site.name)));
                }
                if wanted && matches!(target, Value::Memory(_)) {
                    return Ok(target.clone());
                }
                if methods::mutate(target, &site.name, &mut args, &mut self.meter)? {
                    Ok(if wanted { target.clone() } else { Value::Null })
                } else {
                    Err(methods::no_method(target, &site.name))
                }
            });
        self.values[slot] = root;
        if let Ok(Value::Memory(store)) = &result {
            self.values.append(&mut indexes);
            self.values.append(&mut args);
            let call = self.memory_call(store, site, args_at)?;
            self.values.truncate(at);
            return Ok(Some(call));
        }
        if let Err(Raise::Unfinished) = result {
            self.values.append(&mut indexes);
            self.values.append(&mut args);
        }
        let value = result?;
        if wanted {
            self.values.push(value);
        }
        Ok(None)
    }

    /// Assigns to a place, or changes it by an operator.
    fn assign(
        &mut self,
        base: usize,
        place: &Place,
        op: Option<crate::hir::BinaryOp>,
    ) -> meter::Result {
        let mut value = self.pop();
        let mut indexes = self.values.split_off(self.values.len() - usize::from(place.indexes));
        let slot = base + usize::from(place.slot);
        let mut root = std::mem::take(&mut self.values[slot]);
        let depth = value.depth();
        let meter = &mut self.meter;
        let result = operators::reach(&mut root, place, &indexes, depth, op.is_none(), meter)
            .and_then(|target| match op {
                Some(op) => operators::apply(op, target, &value, meter),
                None => {
                    *target = std::mem::take(&mut value);
                    Ok(())
                }
            });
        self.values[slot] = root;
        if let Err(Raise::Unfinished) = result {
            self.values.append(&mut indexes);
            self.values.push(value);
        }
        result
    }

    /// Reads a member of the value on top.
    fn member(&mut self, name: &Arc<str>) -> meter::Result {
        let Some(at) = self.values.len().checked_sub(1) else { return Ok(()) };
        let receiver = &self.values[at];
        let value = match receiver {
            Value::Null => return Err(type_error(format!("null has no member `{name}`"))),
            Value::Map(map) if let Some(value) = map.get(&**name) => value.clone(),
            _ if methods::reads(receiver, name) => {
                match methods::call(receiver, name, &[], &mut self.patterns, &mut self.meter)? {
                    Some(value) => value,
                    None => return Err(methods::no_method(receiver, name)),
                }
            }
            Value::Map(_) => Value::Null,
            _ => return Err(methods::no_method(receiver, name)),
        };
        self.values[at] = value;
        Ok(())
    }

    #[inline(always)]
    fn pop(&mut self) -> Value {
        self.values.pop().unwrap_or_default()
    }

    /// Runs until the steps reach `stop`, or something happens.
    fn execute(&mut self, code: &Code, stop: u64) -> Result<Exit, Raise> {
        let Some(mut frame) = self.frames.last().copied() else {
            return Ok(Exit::Done(Value::Null));
        };
        let mut function = &code.functions[frame.function as usize];
        let mut base = frame.base as usize;
        let mut pc = frame.pc as usize;

        // The frame knows where it stands whenever something may look at it.
        macro_rules! save {
            () => {
                if let Some(frame) = self.frames.last_mut() {
                    frame.pc = small(pc);
                }
            };
        }
        macro_rules! reload {
            () => {
                match self.frames.last() {
                    Some(innermost) => frame = *innermost,
                    None => return Ok(Exit::Done(self.pop())),
                }
                function = &code.functions[frame.function as usize];
                base = frame.base as usize;
                pc = frame.pc as usize;
            };
        }
        macro_rules! attempt {
            ($result:expr) => {
                match $result {
                    Ok(value) => value,
                    Err(raise) => {
                        save!();
                        return Err(raise);
                    }
                }
            };
        }
        // Where the charges say that too much may be live, it is counted before the run goes on.
        macro_rules! settle {
            () => {
                if self.meter.charged > self.meter.memory_limit {
                    save!();
                    return Ok(Exit::Fuel);
                }
            };
        }
        macro_rules! slot {
            ($slot:expr) => {
                self.values[base + usize::from($slot)]
            };
        }

        loop {
            if self.meter.steps >= stop {
                save!();
                return Ok(Exit::Fuel);
            }
            self.meter.begin();
            self.meter.steps += 1;
            let op = function.ops[pc];
            pc += 1;
            match op {
                Op::Const(constant) => {
                    self.values.push(code.constants[constant as usize].clone());
                }
                Op::Int(number) => self.values.push(Value::Int(number.into())),
                Op::Null => self.values.push(Value::Null),
                Op::Bool(value) => self.values.push(Value::Bool(value)),
                Op::None => self.values.push(Value::None),
                Op::Any => self.values.push(Value::Any),
                Op::Pop(1) => drop(self.pop()),
                Op::Pop(count) => {
                    let height = self.values.len().saturating_sub(count as usize);
                    self.values.truncate(height);
                }
                Op::Load(slot) => {
                    let value = slot!(slot).clone();
                    self.values.push(value);
                }
                Op::Store(slot) => {
                    let value = self.pop();
                    slot!(slot) = value;
                }
                Op::Ambient(index) => self.values.push(self.ambient[usize::from(index)].clone()),
                Op::Closure { function, captured } => {
                    attempt!(self.meter.array(captured.into()));
                    let at = self.values.len() - usize::from(captured);
                    let captured = Array::new(self.values.split_off(at));
                    attempt!(operators::check_depth(
                        captured.iter().map(Value::depth).max().unwrap_or(0) + 1
                    ));
                    self.values.push(Value::Function(Arc::new(Closure { function, captured })));
                    settle!();
                }
                Op::Array(count) => {
                    attempt!(self.meter.array(count as usize));
                    let at = self.values.len() - count as usize;
                    let array = Array::new(self.values.split_off(at));
                    let array = attempt!(methods::finished(array));
                    self.values.push(array);
                    settle!();
                }
                Op::Record(shape) => {
                    let keys = &code.shapes[shape as usize];
                    attempt!(self.meter.map(keys.len()));
                    let at = self.values.len() - keys.len();
                    let mut map = Map::with_capacity(keys.len());
                    for (key, value) in keys.iter().zip(self.values.drain(at..)) {
                        map.insert(Arc::clone(key), value);
                    }
                    let map = Value::from(map);
                    attempt!(operators::check_depth(map.depth()));
                    self.values.push(map);
                    settle!();
                }
                Op::Wrap(wrapper) => {
                    attempt!(self.meter.allocate(TEXT));
                    let inner = self.pop();
                    attempt!(operators::check_depth(inner.depth() + 1));
                    let inner = Arc::new(inner);
                    self.values.push(match wrapper {
                        Wrapper::Some => Value::Some(inner),
                        Wrapper::Ok => Value::Ok(inner),
                        Wrapper::Err => Value::Err(inner),
                    });
                    settle!();
                }
                Op::Fit(number) => {
                    if let Some(value) = self.values.last_mut()
                        && let Some(made) =
                            attempt!(fit::fit(&code.fits, number, value, &mut self.meter))
                    {
                        *value = made;
                    }
                    settle!();
                }
                Op::Not => {
                    let value = self.pop();
                    self.values.push(Value::Bool(!value.is_true()));
                }
                Op::Truth => {
                    let value = self.pop();
                    self.values.push(Value::Bool(value.is_true()));
                }
                Op::Negate => {
                    let value = self.pop();
                    self.values.push(attempt!(operators::negate(&value)));
                }
                Op::Binary(op) => {
                    if let [.., left, right] = &mut self.values[..] {
                        attempt!(operators::apply(op, left, right, &mut self.meter));
                    }
                    drop(self.pop());
                    settle!();
                }
                Op::BinaryInt(op, right) => {
                    if let Some(left) = self.values.last_mut() {
                        let right = Value::Int(right.into());
                        attempt!(operators::apply(op, left, &right, &mut self.meter));
                    }
                    settle!();
                }
                Op::BinaryLocals(op, left, right) => {
                    if let (Value::Int(a), Value::Int(b)) = (&slot!(left), &slot!(right))
                        && let Some(value) = operators::integers(op, *a, *b)
                    {
                        self.values.push(value);
                        continue;
                    }
                    let mut value = slot!(left).clone();
                    attempt!(operators::apply(op, &mut value, &slot!(right), &mut self.meter));
                    self.values.push(value);
                    settle!();
                }
                Op::BinaryLocalInt(op, left, right) => {
                    if let Value::Int(a) = &slot!(left)
                        && let Some(value) = operators::integers(op, *a, right.into())
                    {
                        self.values.push(value);
                        continue;
                    }
                    let mut value = slot!(left).clone();
                    let right = Value::Int(right.into());
                    attempt!(operators::apply(op, &mut value, &right, &mut self.meter));
                    self.values.push(value);
                    settle!();
                }
                Op::Update(op, slot) => {
                    let at = base + usize::from(slot);
                    if let Some((right, values)) = self.values.split_last_mut() {
                        let left = &mut values[at];
                        attempt!(operators::apply(op, left, right, &mut self.meter));
                    }
                    drop(self.pop());
                    // An array may have taken in a deeper one.
                    settle!();
                }
                Op::UpdateInt(op, slot, right) => {
                    let right = Value::Int(right.into());
                    let at = base + usize::from(slot);
                    let left = &mut self.values[at];
                    attempt!(operators::apply(op, left, &right, &mut self.meter));
                    settle!();
                }
                Op::Jump(target) => pc = target as usize,
                Op::JumpIfFalse(target) => {
                    if !self.pop().is_true() {
                        pc = target as usize;
                    }
                }
                Op::JumpIfTrue(target) => {
                    if self.pop().is_true() {
                        pc = target as usize;
                    }
                }
                Op::JumpUnlessLocals(op, left, right, target) => {
                    let (left, right) = (&slot!(left), &slot!(right));
                    let holds = match (left, right) {
                        (Value::Int(a), Value::Int(b)) => operators::integers_compare(op, *a, *b),
                        _ => None,
                    };
                    let holds = match holds {
                        Some(holds) => holds,
                        None => {
                            let mut value = left.clone();
                            attempt!(operators::apply(op, &mut value, right, &mut self.meter));
                            value.is_true()
                        }
                    };
                    if !holds {
                        pc = target as usize;
                    }
                }
                Op::JumpUnlessLocalInt(op, left, right, target) => {
                    let left = &slot!(left);
                    let holds = match left {
                        Value::Int(a) => operators::integers_compare(op, *a, right.into()),
                        _ => None,
                    };
                    let holds = match holds {
                        Some(holds) => holds,
                        None => {
                            let mut value = left.clone();
                            let right = Value::Int(right.into());
                            attempt!(operators::apply(op, &mut value, &right, &mut self.meter));
                            value.is_true()
                        }
                    };
                    if !holds {
                        pc = target as usize;
                    }
                }
                Op::Member(name) => {
                    let name = &code.names[name as usize];
                    let at = self.values.len() - 1;
                    let own =
                        |value: &Value| matches!(value, Value::Map(map) if map.contains_key(name));
                    match Work::of(name, &self.values[at..]) {
                        Some(work) if !own(&self.values[at]) => {
                            save!();
                            self.enter(code, prelude::function_of(work), None, at, at, &[])?;
                            reload!();
                        }
                        _ => attempt!(self.member(name)),
                    }
                    settle!();
                }
                Op::Index => {
                    if let [.., whole, index] = &mut self.values[..] {
                        let value = attempt!(operators::index(whole, index, &mut self.meter));
                        *whole = value;
                    }
                    drop(self.pop());
                    settle!();
                }
                Op::IndexLocals(whole, index) => {
                    let (whole, index) = (&slot!(whole), &slot!(index));
                    let value = attempt!(operators::index(whole, index, &mut self.meter));
                    self.values.push(value);
                    settle!();
                }
                Op::Assign(place) => {
                    attempt!(self.assign(base, &code.places[place as usize], None));
                    settle!();
                }
                Op::UpdatePlace(op, place) => {
                    attempt!(self.assign(base, &code.places[place as usize], Some(op)));
                    settle!();
                }
                Op::Mutate { place, site, wanted } => {
                    let (place, site) = (&code.places[place as usize], &code.sites[site as usize]);
                    if let Some(call) = attempt!(self.mutate(base, place, site, wanted)) {
                        save!();
                        return Ok(Exit::Call(HostCall { span: self.span(), ..call }));
                    }
                    settle!();
                }
                Op::Call(number) => {
                    save!();
                    let args_at = self.values.len() - code.functions[number as usize].params.len();
                    self.enter(code, number, None, args_at, args_at, &[])?;
                    if let Some(frame) = self.frames.last_mut() {
                        frame.pc = code.functions[number as usize].fits.body;
                    }
                    reload!();
                    settle!();
                }
                Op::CallSite(site) => {
                    save!();
                    if let Some(call) = self.call(code, &code.sites[site as usize])? {
                        return Ok(Exit::Call(call));
                    }
                    reload!();
                    settle!();
                }
                Op::CallVariable(slot, site) => {
                    save!();
                    let site = &code.sites[site as usize];
                    if let Value::Function(_) = slot!(slot) {
                        let callee = slot!(slot).clone();
                        let floor = self.values.len() - site.arguments();
                        self.call_value(code, &callee, floor, site)?;
                    } else if let Some(call) = self.call(code, site)? {
                        return Ok(Exit::Call(call));
                    }
                    reload!();
                    settle!();
                }
                Op::CallValue(site) => {
                    save!();
                    let site = &code.sites[site as usize];
                    let floor = self.values.len() - site.arguments() - 1;
                    let callee = std::mem::take(&mut self.values[floor]);
                    self.call_value(code, &callee, floor, site)?;
                    reload!();
                    settle!();
                }
                Op::Method(site) => {
                    save!();
                    if let Some(call) = self.method(code, &code.sites[site as usize])? {
                        return Ok(Exit::Call(call));
                    }
                    reload!();
                    settle!();
                }
                Op::Return => {
                    if self.frames.len() == 1 {
                        attempt!(self.result());
                        save!();
                        return Ok(Exit::Done(self.pop()));
                    }
                    let value = self.pop();
                    let floor = self.leave();
                    self.values.truncate(floor);
                    self.values.push(value);
                    reload!();
                }
                Op::ForStart(slot) => {
                    let value = self.pop();
                    let walkable = matches!(
                        value,
                        Value::Array(_) | Value::Range(..) | Value::Map(_) | Value::String(_)
                    );
                    if !walkable {
                        let message = format!(
                            "`for` walks through an array, a map or a string, not {}",
                            value.type_name()
                        );
                        attempt!(Err(type_error(message)));
                    }
                    slot!(slot) = value;
                    slot!(slot + 1) = Value::Int(0);
                }
                Op::ForNext(slot, end) => {
                    let at = base + usize::from(slot);
                    let [walk, index, item] = &mut self.values[at..at + 3] else {
                        return Err(type_error("a walk without its slots"));
                    };
                    let position = match index {
                        Value::Int(index) => usize::try_from(*index).unwrap_or(usize::MAX),
                        _ => usize::MAX,
                    };
                    let mut advance = 1;
                    let next = match walk {
                        Value::Range(from, to) if *from < *to => {
                            *from += 1;
                            Some(Value::Int(*from - 1))
                        }
                        Value::Array(items) => items.get(position).cloned(),
                        Value::Map(map) => {
                            map.get_index(position).map(|(key, _)| Value::from(Arc::clone(key)))
                        }
                        Value::String(text) => {
                            text.get(position..).and_then(|rest| rest.chars().next()).map(|next| {
                                self.meter.charged += TEXT;
                                advance = next.len_utf8();
                                Value::from(&*next.encode_utf8(&mut [0; 4]))
                            })
                        }
                        _ => None,
                    };
                    match next {
                        Some(next) => {
                            *item = next;
                            if let Value::Int(index) = index {
                                *index = index.saturating_add(i64::try_from(advance).unwrap_or(1));
                            }
                        }
                        None => pc = end as usize,
                    }
                }
                Op::Work(work) => {
                    let slots = &mut self.values[base..base + 5];
                    match attempt!(work.stride(slots, &mut self.meter)) {
                        Some(value) => self.values.push(value),
                        None => pc -= 1,
                    }
                    settle!();
                }
                Op::AppendTo(slot) => {
                    let value = self.pop();
                    attempt!(self.meter.allocate(VALUE));
                    attempt!(operators::check_depth(value.depth() + 1));
                    if let Value::Array(array) = &mut slot!(slot) {
                        attempt!(self.meter.list(array.len() + 1));
                        Arc::make_mut(array).push(value);
                    }
                    settle!();
                }
                Op::Try(target) => self.attempts.push(Attempt {
                    frames: small(self.frames.len()),
                    height: small(self.values.len()),
                    pc: target,
                }),
                Op::EndTry => drop(self.attempts.pop()),
                Op::UnlessKind(name, target) => {
                    let fits = match self.values.last() {
                        Some(Value::Error(error)) => error.kind == code.names[name as usize],
                        _ => false,
                    };
                    if !fits {
                        pc = target as usize;
                    }
                }
                Op::Raise => {
                    if let Value::Error(error) = self.pop() {
                        save!();
                        return Err(Raise::Error(Box::new(ErrorValue::clone(&error))));
                    }
                }
                Op::Unwrap(wrapper, target) => {
                    let value = self.pop();
                    match (wrapper, &value) {
                        (Wrapper::Some, Value::Some(inner))
                        | (Wrapper::Ok, Value::Ok(inner))
                        | (Wrapper::Err, Value::Err(inner)) => {
                            self.values.push(Value::clone(inner));
                        }
                        _ => pc = target as usize,
                    }
                }
                Op::UnlessNone(target) => {
                    if !matches!(self.pop(), Value::None | Value::Null) {
                        pc = target as usize;
                    }
                }
                Op::Field(name, target) => {
                    let value = self.pop();
                    let field = match &value {
                        Value::Map(map) => map.get(&*code.names[name as usize]).cloned(),
                        _ => None,
                    };
                    match field {
                        Some(field) => self.values.push(field),
                        None => pc = target as usize,
                    }
                }
            }
        }
    }
}

/// The error of a run that ends with `Err(value)`.
pub(crate) fn failure_of(inner: &Value) -> ErrorValue {
    match inner {
        Value::Error(error) => ErrorValue::clone(error),
        other => {
            let mut writer = Writer::shown(other, 4096);
            let cut = !writer.go_on(4096).unwrap_or(false);
            let message = writer.into_text();
            ErrorValue::new("Error", if cut { operators::clipped(&message) } else { message })
        }
    }
}

/// A value by its name.
type Named = (String, Value);

/// Arguments and ambient values, copied together: what one shares with another goes on sharing it.
fn detached(
    arguments: Vec<Named>,
    ambient: Vec<Named>,
) -> Result<(Vec<Named>, Vec<Named>), ErrorValue> {
    let count = arguments.len();
    let (names, values): (Vec<String>, Vec<Value>) = arguments.into_iter().chain(ambient).unzip();
    for value in &values {
        operators::check_depth(value.depth()).map_err(error_of)?;
    }
    let Value::Array(copies) = Detach::new(Value::from(values), false).whole() else {
        return Ok((Vec::new(), Vec::new()));
    };
    let mut arguments: Vec<Named> = names.into_iter().zip(copies.iter().cloned()).collect();
    let ambient = arguments.split_off(count);
    Ok((arguments, ambient))
}

/// The error itself.
fn error_of(raise: Raise) -> ErrorValue {
    match raise {
        Raise::Error(error) | Raise::Fatal(error) => *error,
        Raise::Unfinished => ErrorValue::new("LimitExceeded", "more than can be done at once"),
    }
}
