//! A run as bytes, and back.
//!
//! # The form
//!
//! A version, the digest of the code, the numbers of the meter, the values, the frames, the status.
//! Work in progress is not written, only how far it has come: it is done again.
//! Numbers are LEB128, signed ones zigzag; a value is a tag and what belongs to it. Everything that
//! values can share is numbered in the order in which it ends; the second time it is only named by
//! its number, so that what was one thing stays one thing, and no more is written than there is.
//! Texts of the code are named by their number in it. The form is our own because it is a graph:
//! a general one would still need all of this, and its bytes around it.
//!
//! # What holds
//!
//! - A restored run goes on exactly as the saved one would have: same results, steps, memory. Saved
//!   again at once, it gives the same bytes, if secrets are sealed to the same ones.
//! - No bytes make a machine that panics. What follows from the code (where frames begin, which
//!   `try` blocks are open) is not written but found out again; everything else is checked.
//! - A secret's text is written only as its host seals it, and opened by it.
//!
//! # What is not here
//!
//! No protection against whoever can write the bytes: they may hold other values than the run had.
//! Limits are not written: whoever restores a run says what it may use.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::builtins::Patterns;
use super::code::{Code, Op, Target};
use super::heights::{Stands, stands};
use super::meter::Meter;
use super::{Attempt, Frame, Limits, Machine, Status, compile, small};
use crate::value::{
    Array, Closure, ErrorValue, Form, Garbage, MAX_DEPTH, Map, Secret, Text, Value,
};

/// The first bytes: what this is, and which version of it.
const HEAD: &[u8; 8] = b"symbrun\x02";

/// Beyond any charge that a run can have: a sum with it cannot overflow.
const MOST_CHARGED: u64 = 1 << 62;

/// Why a run cannot be restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The bytes are of another version, or of something else.
    #[error("this is no saved run of this version")]
    OtherVersion,

    /// The run is one of other code.
    #[error("the saved run belongs to another program, or to another version of it")]
    OtherCode,

    /// The run has used more than it may use now.
    #[error("the saved run has used more than it may: {what}")]
    BeyondLimits {
        /// Steps, or calls within calls.
        what: &'static str,
    },

    /// Nobody opened a secret that the run holds.
    #[error("the secret `{path}`, which the saved run holds, could not be opened")]
    Secret {
        /// Where it came from.
        path: Arc<str>,
    },

    /// The bytes are damaged.
    #[error("the saved run is damaged at byte {at}: {what}")]
    Damaged {
        /// How far they could be read.
        at: usize,
        /// What is wrong there.
        what: &'static str,
    },
}

/// Tags of values.
mod tag {
    pub(super) const NULL: u8 = 0;
    pub(super) const FALSE: u8 = 1;
    pub(super) const TRUE: u8 = 2;
    pub(super) const INT: u8 = 3;
    pub(super) const FLOAT: u8 = 4;
    pub(super) const FIXED: u8 = 5;
    pub(super) const GROWN: u8 = 6;
    pub(super) const BYTES: u8 = 7;
    pub(super) const DURATION: u8 = 8;
    pub(super) const SIZE: u8 = 9;
    pub(super) const TIME: u8 = 10;
    pub(super) const ARRAY: u8 = 11;
    pub(super) const MAP: u8 = 12;
    pub(super) const SOME: u8 = 13;
    pub(super) const NONE: u8 = 14;
    pub(super) const OK: u8 = 15;
    pub(super) const ERR: u8 = 16;
    pub(super) const ERROR: u8 = 17;
    pub(super) const RANGE: u8 = 18;
    pub(super) const FUNCTION: u8 = 19;
    pub(super) const ANY: u8 = 20;
    pub(super) const SECRET: u8 = 21;
    pub(super) const MEMORY: u8 = 22;
    /// One that was written before.
    pub(super) const AGAIN: u8 = 23;
}

/// How a run stands.
mod stage {
    pub(super) const READY: u8 = 0;
    pub(super) const WAITING: u8 = 1;
    pub(super) const ANSWERED: u8 = 2;
    pub(super) const REFUSED: u8 = 3;
    pub(super) const DONE: u8 = 4;
    pub(super) const FAILED: u8 = 5;
}

// Writing.

struct Writer<'a> {
    out: Vec<u8>,
    /// Numbers of texts by address, those of the code first.
    texts: HashMap<usize, u64>,
    text_count: u64,
    /// Numbers of shared values by address and tag.
    shared: HashMap<(usize, u8), u64>,
    shared_count: u64,
    seal: &'a mut dyn FnMut(&Secret) -> Vec<u8>,
}

/// The bytes of a run.
pub(super) fn save(machine: &Machine, seal: &mut dyn FnMut(&Secret) -> Vec<u8>) -> Vec<u8> {
    let texts: HashMap<usize, u64> = (machine.code.texts()).map(address).zip(0..).collect();
    let text_count = machine.code.texts().count() as u64;
    let mut writer = Writer {
        out: HEAD.to_vec(),
        texts,
        text_count,
        shared: HashMap::new(),
        shared_count: 0,
        seal,
    };
    writer.out.extend_from_slice(machine.code.digest());
    writer.number(machine.meter.steps);
    writer.number(machine.meter.charged);
    writer.number(machine.meter.spent());
    writer.number(machine.owed);
    writer.values(&machine.values);
    writer.values(&machine.ambient);
    writer.number(machine.frames.len() as u64);
    for frame in &machine.frames {
        writer.number(frame.function.into());
        writer.number(frame.pc.into());
    }
    match &machine.status {
        Status::Ready => writer.out.push(stage::READY),
        Status::Waiting => writer.out.push(stage::WAITING),
        Status::Answered(Ok(value)) => {
            writer.out.push(stage::ANSWERED);
            writer.value(value);
        }
        Status::Answered(Err(error)) => {
            writer.out.push(stage::REFUSED);
            writer.error(error);
        }
        Status::Ended(result, span) => {
            match result {
                Ok(value) => {
                    writer.out.push(stage::DONE);
                    writer.value(value);
                }
                Err(error) => {
                    writer.out.push(stage::FAILED);
                    writer.error(error);
                }
            }
            writer.number(span.start as u64);
            writer.number(span.end as u64);
        }
    }
    writer.out
}

fn address<T: ?Sized>(shared: &Arc<T>) -> usize {
    Arc::as_ptr(shared).cast::<u8>().addr()
}

/// Where a value's shared part is, and how many hold it. Texts that cannot be changed are shared
/// with keys and names, and have numbers of their own.
fn shared_part(value: &Value) -> Option<(usize, usize)> {
    fn part<T: ?Sized>(shared: &Arc<T>) -> Option<(usize, usize)> {
        Some((address(shared), Arc::strong_count(shared)))
    }
    match value {
        Value::String(text) => match text.form() {
            Form::Fixed(_) => None,
            Form::Grown(text) => part(text),
        },
        Value::Bytes(bytes) => part(bytes),
        Value::Array(array) => part(array),
        Value::Map(map) => part(map),
        Value::Some(inner) | Value::Ok(inner) | Value::Err(inner) => part(inner),
        Value::Error(error) => part(error),
        Value::Function(closure) => part(closure),
        Value::Secret(secret) => part(secret),
        Value::Null
        | Value::Bool(_)
        | Value::Int(_)
        | Value::Float(_)
        | Value::Duration(_)
        | Value::Size(_)
        | Value::Time(_)
        | Value::None
        | Value::Range(..)
        | Value::Any
        | Value::Memory(_) => None,
    }
}

impl Writer<'_> {
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.out.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.out.push((number & 0x7f) as u8);
    }

    #[expect(clippy::cast_sign_loss, reason = "zigzag keeps all bits")]
    fn signed(&mut self, number: i64) {
        self.number(((number << 1) ^ (number >> 63)) as u64);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    /// A text: 0 and what it is, or one more than its number.
    fn text(&mut self, text: &Arc<str>) {
        match self.texts.get(&address(text)) {
            Some(&known) => self.number(known + 1),
            None => {
                self.number(0);
                self.bytes(text.as_bytes());
                self.texts.insert(address(text), self.text_count);
                self.text_count += 1;
            }
        }
    }

    fn error(&mut self, error: &ErrorValue) {
        self.text(&error.kind);
        self.text(&error.message);
        self.out.push(u8::from(error.operation.is_some()) | u8::from(error.retryable) << 1);
        if let Some(operation) = &error.operation {
            self.text(operation);
        }
    }

    fn values(&mut self, values: &[Value]) {
        self.number(values.len() as u64);
        values.iter().for_each(|value| self.value(value));
    }

    fn array(&mut self, array: &Array) {
        self.number(array.deepest().into());
        self.values(array);
    }

    /// A value. It recurses no deeper than values are nested, which is bounded.
    fn value(&mut self, value: &Value) {
        let (part, tag) = (shared_part(value), tag_of(value));
        if let Some((address, _)) = part
            && let Some(&known) = self.shared.get(&(address, tag))
        {
            self.out.push(tag::AGAIN);
            return self.number(known);
        }
        self.out.push(tag);
        match value {
            Value::Null | Value::Bool(_) | Value::None | Value::Any => {}
            Value::Int(number) | Value::Time(number) => self.signed(*number),
            Value::Float(number) => self.out.extend_from_slice(&number.to_bits().to_le_bytes()),
            Value::String(text) => match text.form() {
                Form::Fixed(text) => self.text(text),
                Form::Grown(text) => self.bytes(text.as_bytes()),
            },
            Value::Bytes(bytes) => self.bytes(bytes),
            Value::Duration(duration) => {
                self.number(duration.as_secs());
                self.number(duration.subsec_nanos().into());
            }
            Value::Size(bytes) => self.number(*bytes),
            Value::Array(array) => self.array(array),
            Value::Map(map) => {
                self.number(map.deepest().into());
                self.number(map.len() as u64);
                for (key, value) in map.iter() {
                    self.text(key);
                    self.value(value);
                }
            }
            Value::Some(inner) | Value::Ok(inner) | Value::Err(inner) => self.value(inner),
            Value::Error(error) => self.error(error),
            Value::Range(from, to) => {
                self.signed(*from);
                self.signed(*to);
            }
            Value::Function(closure) => {
                self.number(closure.function.into());
                self.array(&closure.captured);
            }
            Value::Secret(secret) => {
                self.text(&secret.path);
                let sealed = (self.seal)(secret);
                self.bytes(&sealed);
            }
            Value::Memory(name) => self.text(name),
        }
        if let Some((address, holders)) = part {
            if holders > 1 {
                self.shared.insert((address, tag), self.shared_count);
            }
            self.shared_count += 1;
        }
    }
}

fn tag_of(value: &Value) -> u8 {
    match value {
        Value::Null => tag::NULL,
        Value::Bool(false) => tag::FALSE,
        Value::Bool(true) => tag::TRUE,
        Value::Int(_) => tag::INT,
        Value::Float(_) => tag::FLOAT,
        Value::String(text) => match text.form() {
            Form::Fixed(_) => tag::FIXED,
            Form::Grown(_) => tag::GROWN,
        },
        Value::Bytes(_) => tag::BYTES,
        Value::Duration(_) => tag::DURATION,
        Value::Size(_) => tag::SIZE,
        Value::Time(_) => tag::TIME,
        Value::Array(_) => tag::ARRAY,
        Value::Map(_) => tag::MAP,
        Value::Some(_) => tag::SOME,
        Value::None => tag::NONE,
        Value::Ok(_) => tag::OK,
        Value::Err(_) => tag::ERR,
        Value::Error(_) => tag::ERROR,
        Value::Range(..) => tag::RANGE,
        Value::Function(_) => tag::FUNCTION,
        Value::Any => tag::ANY,
        Value::Secret(_) => tag::SECRET,
        Value::Memory(_) => tag::MEMORY,
    }
}

// Reading.

struct Reader<'a, 'o> {
    bytes: &'a [u8],
    at: usize,
    code: &'a Code,
    texts: Vec<Arc<str>>,
    shared: Vec<Value>,
    open: &'a mut Open<'o>,
}

type Read<T> = Result<T, RestoreError>;

/// Gives a secret's text for its path and what it was sealed to.
type Open<'a> = dyn FnMut(&str, &[u8]) -> Option<Arc<str>> + 'a;

/// The run that bytes tell of.
pub(super) fn restore(
    code: Arc<Code>,
    bytes: &[u8],
    limits: Limits,
    open: &mut Open<'_>,
) -> Read<Machine> {
    let Some(rest) = bytes.strip_prefix(HEAD) else { return Err(RestoreError::OtherVersion) };
    if !rest.starts_with(code.digest()) {
        return Err(RestoreError::OtherCode);
    }
    let at = HEAD.len() + code.digest().len();
    let texts = code.texts().cloned().collect();
    let mut reader = Reader { bytes, at, code: &code, texts, shared: Vec::new(), open };
    let steps = reader.number()?;
    let charged = reader.number()?;
    let spent = reader.number()?;
    let owed = reader.number()?;
    if steps > limits.steps {
        return Err(RestoreError::BeyondLimits { what: "steps" });
    }
    if charged > MOST_CHARGED || owed > steps.saturating_add(spent) {
        return reader.damaged("numbers that no run has");
    }
    let values = reader.values(MAX_DEPTH)?;
    let ambient = reader.values(MAX_DEPTH)?;
    if ambient.len() != compile::AMBIENT.len() || u32::try_from(values.len()).is_err() {
        return reader.damaged("a number of values that no run has");
    }
    let mut places = Vec::new();
    for _ in 0..reader.length()? {
        places.push((reader.small()?, reader.small()?));
    }
    let status = reader.status()?;
    if reader.at != bytes.len() {
        return reader.damaged("more than a run");
    }
    if places.len() > limits.depth as usize {
        return Err(RestoreError::BeyondLimits { what: "calls within calls" });
    }
    let consistent = match &status {
        Status::Ended(..) => {
            (places.is_empty() && values.len() <= code.kept()).then(|| (Vec::new(), Vec::new()))
        }
        Status::Ready => frames(&code, &places, values.len(), false),
        Status::Waiting | Status::Answered(_) => frames(&code, &places, values.len(), true),
    };
    let Some((frames, attempts)) = consistent else {
        return reader.damaged("calls that do not fit the program");
    };
    drop(reader);
    let mut meter = Meter::new(limits.steps, limits.memory);
    (meter.steps, meter.charged) = (steps, charged);
    let mut machine = Machine {
        code,
        values,
        frames,
        attempts,
        ambient,
        meter,
        depth_limit: limits.depth,
        output_limit: limits.output,
        owed,
        status,
        patterns: Patterns::default(),
        garbage: Garbage::default(),
        output: None,
    };
    if !machine.catch_up(spent) {
        return Err(RestoreError::Damaged { at: bytes.len(), what: "work that no run does" });
    }
    Ok(machine)
}

/// The calls in progress, from which instruction of which function each has come to, and the open
/// `try` blocks. `None` if the program cannot stand there with so many values.
fn frames(
    code: &Code,
    places: &[(u32, u32)],
    values: usize,
    calling: bool,
) -> Option<(Vec<Frame>, Vec<Attempt>)> {
    let mut known: HashMap<u32, Stands> = HashMap::new();
    let (mut frames, mut attempts) = (Vec::new(), Vec::new());
    // Where the next frame's slots begin, and what is left of the values when it returns.
    let (mut base, mut floor) = (0_usize, 0_usize);
    for (number, &(index, pc)) in places.iter().enumerate() {
        let function = code.functions.get(index as usize)?;
        if let std::collections::hash_map::Entry::Vacant(vacant) = known.entry(index) {
            vacant.insert(stands(code, function)?);
        }
        let stands = &known[&index];
        let stand = |pc: u32| *stands.get(pc as usize)?;
        frames.push(Frame {
            function: index,
            pc,
            base: small(base),
            floor: small(floor),
            attempts: small(attempts.len()),
        });
        let slots = base + function.slots as usize;
        // A frame that has called something stands behind its call, as if before it.
        let innermost = number + 1 == places.len();
        let here = if innermost && !calling { stand(pc)? } else { stand(pc.checked_sub(1)?)? };
        let mut open = Vec::new();
        let mut attempt = here.attempt;
        while let Some(start) = attempt {
            let outer = stand(start)?;
            let Op::Try(target) = function.ops[start as usize] else { return None };
            let height = small(slots + outer.height as usize);
            open.push(Attempt { frames: small(number + 1), height, pc: target });
            attempt = outer.attempt;
        }
        attempts.extend(open.into_iter().rev());

        let top = slots + here.height as usize;
        if innermost && !calling {
            return (top == values).then_some((frames, attempts));
        }
        let op = function.ops[pc as usize - 1];
        let site = |site: u32| &code.sites[site as usize];
        if innermost {
            let calls_host = match op {
                Op::CallSite(number) | Op::CallVariable(_, number) => {
                    site(number).target == Target::Host
                }
                Op::Method(_) | Op::Mutate { wanted: true, .. } => true,
                _ => false,
            };
            let after = slots + stand(pc)?.height as usize;
            return (calls_host && after == values + 1).then_some((frames, attempts));
        }
        let callee = code.functions.get(places[number + 1].0 as usize)?;
        let given = match op {
            Op::Call(function) => code.functions[function as usize].params.len(),
            Op::CallSite(number)
            | Op::CallVariable(_, number)
            | Op::CallValue(number)
            | Op::Method(number) => site(number).arguments(),
            Op::Member(_) => 0,
            _ => return None,
        };
        (base, floor) = match op {
            Op::CallValue(_) => (top - given, top - given - 1),
            Op::Method(_) | Op::Member(_) if callee.prelude => (top - given - 1, top - given - 1),
            Op::Method(_) | Op::Member(_) => (top - given, top - given - 1),
            _ => (top - given, top - given),
        };
        // What the program leaves out is given to the prelude by the machine.
        let given = top - base;
        if callee.params.len() < given || (!callee.prelude && callee.params.len() > given) {
            return None;
        }
    }
    None
}

impl Reader<'_, '_> {
    fn damaged<T>(&self, what: &'static str) -> Read<T> {
        Err(RestoreError::Damaged { at: self.at, what })
    }

    fn take(&mut self, length: usize) -> Read<&[u8]> {
        match self.bytes[self.at..].split_at_checked(length) {
            Some((taken, _)) => {
                self.at += length;
                Ok(taken)
            }
            None => self.damaged("it ends in the middle"),
        }
    }

    fn byte(&mut self) -> Read<u8> {
        Ok(self.take(1)?[0])
    }

    fn number(&mut self) -> Read<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if part << shift >> shift != part {
                break;
            }
            number |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        self.damaged("a number of more than 64 bits")
    }

    #[expect(clippy::cast_possible_wrap, reason = "zigzag keeps all bits")]
    fn signed(&mut self) -> Read<i64> {
        let number = self.number()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    fn small(&mut self) -> Read<u32> {
        let number = self.number()?;
        u32::try_from(number).or_else(|_| self.damaged("a number of more than 32 bits"))
    }

    /// How many of something follow, each of which takes a byte at least.
    fn length(&mut self) -> Read<usize> {
        match usize::try_from(self.number()?) {
            Ok(length) if length <= self.bytes.len() - self.at => Ok(length),
            _ => self.damaged("more than there can be"),
        }
    }

    fn bytes(&mut self) -> Read<&[u8]> {
        let length = self.length()?;
        self.take(length)
    }

    fn str(&mut self) -> Read<&str> {
        let at = self.at;
        let damaged = RestoreError::Damaged { at, what: "a text that is no UTF-8" };
        std::str::from_utf8(self.bytes()?).map_err(|_| damaged)
    }

    fn text(&mut self) -> Read<Arc<str>> {
        match self.number()?.checked_sub(1) {
            None => {
                let text: Arc<str> = Arc::from(self.str()?);
                self.texts.push(Arc::clone(&text));
                Ok(text)
            }
            Some(known) => {
                let text = usize::try_from(known).ok().and_then(|known| self.texts.get(known));
                text.cloned().map_or_else(|| self.damaged("a text that was not there"), Ok)
            }
        }
    }

    fn error(&mut self) -> Read<ErrorValue> {
        let (kind, message) = (self.text()?, self.text()?);
        let marks = self.byte()?;
        if marks > 3 {
            return self.damaged("an error of no known form");
        }
        let operation = if marks & 1 == 1 { Some(self.text()?) } else { None };
        Ok(ErrorValue { kind, message, operation, retryable: marks & 2 == 2 })
    }

    fn values(&mut self, below: u32) -> Read<Vec<Value>> {
        (0..self.length()?).map(|_| self.value(below)).collect()
    }

    /// How deep a container has been: no less than it is, and no more than it may be.
    fn deepest(&self, said: u32, really: u32, below: u32) -> Read<u32> {
        if really <= said && said <= below { Ok(said) } else { self.damaged("a wrong depth") }
    }

    fn array(&mut self, below: u32) -> Read<Array> {
        let said = self.small()?;
        let items = self.values(below.saturating_sub(1))?;
        let really = items.iter().map(|item| item.depth() + 1).max().unwrap_or(0);
        let deepest = self.deepest(said, really, below)?;
        Ok(Array::with_deepest(items, deepest))
    }

    /// A value of at most this depth.
    fn value(&mut self, below: u32) -> Read<Value> {
        let tag = self.byte()?;
        if tag == tag::AGAIN {
            let known = self.number()?;
            let value = usize::try_from(known).ok().and_then(|known| self.shared.get(known));
            return match value.filter(|value| value.depth() <= below) {
                Some(value) => Ok(value.clone()),
                None => self.damaged("a value that was not there"),
            };
        }
        let inside = below.saturating_sub(1);
        if below == 0
            && matches!(
                tag,
                tag::ARRAY | tag::RANGE | tag::MAP | tag::SOME | tag::OK | tag::ERR | tag::FUNCTION
            )
        {
            return self.damaged("values nested too deeply");
        }
        let value = match tag {
            tag::NULL => Value::Null,
            tag::FALSE => Value::Bool(false),
            tag::TRUE => Value::Bool(true),
            tag::INT => Value::Int(self.signed()?),
            tag::FLOAT => {
                let bits =
                    self.take(8)?.iter().rev().fold(0, |bits, byte| bits << 8 | u64::from(*byte));
                Value::Float(f64::from_bits(bits))
            }
            tag::FIXED => Value::from(self.text()?),
            tag::GROWN => Value::String(Text::from(self.str()?.to_owned())),
            tag::BYTES => Value::Bytes(Arc::from(self.bytes()?)),
            tag::DURATION => {
                let (seconds, nanoseconds) = (self.number()?, self.small()?);
                if nanoseconds >= 1_000_000_000 {
                    return self.damaged("a duration with too many nanoseconds");
                }
                Value::Duration(Duration::new(seconds, nanoseconds))
            }
            tag::SIZE => Value::Size(self.number()?),
            tag::TIME => Value::Time(self.signed()?),
            tag::ARRAY => Value::Array(Arc::new(self.array(below)?)),
            tag::MAP => {
                let said = self.small()?;
                let (mut map, mut really) = (Map::new(), 0);
                for _ in 0..self.length()? {
                    let (key, value) = (self.text()?, self.value(inside)?);
                    really = really.max(value.depth() + 1);
                    if map.insert(key, value).is_some() {
                        return self.damaged("a key that is there twice");
                    }
                }
                Value::Map(Arc::new(map.with_deepest(self.deepest(said, really, below)?)))
            }
            tag::SOME => Value::Some(Arc::new(self.value(inside)?)),
            tag::NONE => Value::None,
            tag::OK => Value::Ok(Arc::new(self.value(inside)?)),
            tag::ERR => Value::Err(Arc::new(self.value(inside)?)),
            tag::ERROR => Value::Error(Arc::new(self.error()?)),
            tag::RANGE => Value::Range(self.signed()?, self.signed()?),
            tag::FUNCTION => {
                let function = self.small()?;
                let captured = self.array(below)?;
                match self.code.functions.get(function as usize) {
                    Some(known) if known.captures(captured.len()) => {}
                    _ => return self.damaged("a function that the program does not have"),
                }
                Value::Function(Arc::new(Closure { function, captured }))
            }
            tag::ANY => Value::Any,
            tag::SECRET => {
                let path = self.text()?;
                let length = self.length()?;
                let sealed = &self.bytes[self.at..self.at + length];
                self.at += length;
                match (self.open)(&path, sealed) {
                    Some(text) => Value::Secret(Arc::new(Secret { path, text })),
                    None => return Err(RestoreError::Secret { path }),
                }
            }
            tag::MEMORY => Value::Memory(self.text()?),
            _ => return self.damaged("a value of no known kind"),
        };
        if shared_part(&value).is_some() {
            self.shared.push(value.clone());
        }
        Ok(value)
    }

    fn status(&mut self) -> Read<Status> {
        let stage = self.byte()?;
        Ok(match stage {
            stage::READY => Status::Ready,
            stage::WAITING => Status::Waiting,
            stage::ANSWERED => Status::Answered(Ok(self.value(MAX_DEPTH)?)),
            stage::REFUSED => Status::Answered(Err(self.error()?)),
            stage::DONE | stage::FAILED => {
                let result = match stage {
                    stage::DONE => Ok(self.value(MAX_DEPTH)?),
                    _ => Err(self.error()?),
                };
                let span = (self.small()?, self.small()?);
                let known =
                    self.code.functions.iter().any(|function| function.spans.contains(&span));
                if span != (0, 0) && !known {
                    return self.damaged("a place that the program does not have");
                }
                Status::Ended(result, span.0 as usize..span.1 as usize)
            }
            _ => return self.damaged("a status of no known kind"),
        })
    }
}
