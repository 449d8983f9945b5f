//! Values made into what a written type says.
//!
//! Where somebody wrote a type, more is accepted than is of that type: an `int` for a `float`, a
//! value for an `Option` or a `Result` of it, a record without its optional fields. What is accepted
//! becomes what was written, so that whoever reads it can rely on the type. What does not fit is left
//! as it is: the checker speaks of what it can know before a run, and the use of it fails.
//!
//! # What holds
//!
//! - What fits already stays the same value, and costs a look.
//! - An error is never wrapped as if it were a value: a `Result` takes it as its `Err`, and an `Option`
//!   that is not one of results leaves it.
//! - A type that speaks of itself is followed as deeply as the value goes.

use std::collections::HashMap;
use std::sync::Arc;

use super::code::Wrapper;
use super::long::Job;
use super::meter::{ARRAY, ENTRY, MAP, Meter, Result, VALUE};
use super::operators::check_depth;
use super::work::{element, length};
use crate::hir::{BinaryOp, Spanned, Type, TypeKind};
use crate::types::{Types, is_option};
use crate::value::{Map, Value};

/// How many elements are gone through in one go.
const STRIDE: usize = 2_048;

/// How many options and results are made around one value; types that have more are left as they
/// are.
const MOST_AROUND: usize = 32;

/// What has to be done to a value for a type; other types ask for nothing. Types are numbers, so that
/// they may speak of themselves.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Fit {
    Float,
    Option(Option<u32>),
    Result(Option<u32>, Option<u32>),
    Array(u32),
    /// All values of a map.
    Map(u32),
    /// The fields with something to do, in the order of their names.
    Record(Box<[(Arc<str>, u32)]>),
    /// Nothing: a place for what turned out to need nothing.
    Nothing,
}

/// What a part of a value needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Nothing,
    Needs(u32),
    /// Which part it is shows only when the program runs.
    Unknown,
}

/// The fits of a program, made as they are asked for.
#[derive(Debug, Default)]
pub(super) struct Fits {
    pub(super) all: Vec<Fit>,
    /// Those of declared types.
    named: HashMap<String, Option<u32>>,
    /// Types that are written again have the number that they had.
    numbers: HashMap<Fit, u32>,
}

impl Fits {
    /// Fits that go on from those of earlier code.
    pub(super) fn after(all: Vec<Fit>) -> Fits {
        let numbers = all.iter().cloned().zip(0..).collect();
        Fits { all, named: HashMap::new(), numbers }
    }

    /// What a value needs to be of a type.
    pub(super) fn of(&mut self, types: &Types<'_>, ty: &Type) -> Option<u32> {
        let (name, arguments) = match &ty.kind {
            TypeKind::Record(fields) => return self.record(types, fields),
            TypeKind::Named(name, arguments) => (name.as_str(), arguments),
        };
        if types.is_declared(name) {
            return self.declared(types, name);
        }
        let mut argument = |at: usize| arguments.get(at).and_then(|ty| self.of(types, ty));
        let fit = match name {
            "float" => Fit::Float,
            "Array" | "List" => Fit::Array(argument(0)?),
            "Map" => Fit::Map(argument(1)?),
            "Result" => Fit::Result(argument(0), argument(1)),
            name if is_option(name) => Fit::Option(argument(0)),
            _ => return None,
        };
        Some(self.add(fit))
    }

    fn add(&mut self, fit: Fit) -> u32 {
        if let Some(known) = self.numbers.get(&fit) {
            return *known;
        }
        let number = self.place();
        self.all[number as usize] = fit.clone();
        self.numbers.insert(fit, number);
        number
    }

    /// A number for what is yet to be found out.
    fn place(&mut self) -> u32 {
        self.all.push(Fit::Nothing);
        u32::try_from(self.all.len() - 1).unwrap_or(0)
    }

    fn record(&mut self, types: &Types<'_>, fields: &[(Spanned<String>, Type)]) -> Option<u32> {
        let fitted = fields
            .iter()
            .filter_map(|(name, ty)| Some((Arc::from(name.node.as_str()), self.of(types, ty)?)));
        let mut fitted: Vec<(Arc<str>, u32)> = fitted.collect();
        if fitted.is_empty() {
            return None;
        }
        fitted.sort();
        Some(self.add(Fit::Record(fitted.into())))
    }

    /// The same by the name of a declared type.
    pub(super) fn declared(&mut self, types: &Types<'_>, name: &str) -> Option<u32> {
        if let Some(known) = self.named.get(name) {
            return *known;
        }
        let meant = types.meant(name)?;
        // Whoever asks for it while it is made gets its number.
        let number = self.place();
        self.named.insert(name.to_owned(), Some(number));
        match self.of(types, meant) {
            Some(made) => self.all[number as usize] = self.all[made as usize].clone(),
            // Within itself it asked for nothing either.
            None => _ = self.named.insert(name.to_owned(), None),
        }
        self.named.get(name).copied().flatten()
    }

    /// What a part of a value with this fit needs: of a member or of an element.
    pub(super) fn part(&self, fit: u32, key: Option<&str>) -> Part {
        match (&self.all[fit as usize], key) {
            (Fit::Array(inner), None) | (Fit::Map(inner), _) => Part::Needs(*inner),
            (Fit::Record(fields), Some(key)) => {
                field(fields, key).map_or(Part::Nothing, Part::Needs)
            }
            (Fit::Record(_), None) => Part::Unknown,
            _ => Part::Nothing,
        }
    }

    /// Whether it is that of a record.
    pub(super) fn is_record(&self, fit: u32) -> bool {
        matches!(self.all[fit as usize], Fit::Record(_))
    }

    /// What the one argument of a method needs that changes a value with this fit.
    pub(super) fn taken(&self, fit: u32, method: &str) -> Option<u32> {
        match (&self.all[fit as usize], method) {
            (Fit::Array(inner), "append" | "push") => Some(*inner),
            (Fit::Map(_), "merge") => Some(fit),
            _ => None,
        }
    }

    /// Whether a value is fitted before it is put in the place of one with this fit, or joined with
    /// it by an operator: arrays are joined with arrays, and whatever else an operator makes of a
    /// value with a fit has it.
    pub(super) fn joins(&self, fit: u32, op: Option<BinaryOp>) -> bool {
        match op {
            None => true,
            Some(BinaryOp::Add) => matches!(self.all[fit as usize], Fit::Array(_)),
            Some(_) => false,
        }
    }
}

fn field(fields: &[(Arc<str>, u32)], key: &str) -> Option<u32> {
    let at = fields.binary_search_by(|(name, _)| (**name).cmp(key)).ok()?;
    Some(fields[at].1)
}

/// A value without the options and results around it.
struct Core {
    /// What stands around it, the outermost first.
    around: Vec<Wrapper>,
    value: Value,
    /// What is to be done inside of it.
    inside: Option<u32>,
    /// Whether it is another value than was given.
    changed: bool,
}

impl Core {
    fn of(fits: &[Fit], fit: u32, value: Value) -> Core {
        let mut core = Core { around: Vec::new(), value, inside: Some(fit), changed: false };
        while let Some(fit) = core.inside.take()
            && core.around.len() < MOST_AROUND
        {
            let (wrapper, inner, inside) = match (&fits[fit as usize], &core.value) {
                (Fit::Float, Value::Int(number)) => {
                    #[expect(clippy::cast_precision_loss, reason = "as everywhere in arithmetic")]
                    let number = *number as f64;
                    core.value = Value::Float(number);
                    core.changed = true;
                    break;
                }
                (Fit::Option(_), Value::Null) => {
                    core.value = Value::None;
                    core.changed = true;
                    break;
                }
                (Fit::Option(_), Value::None) => break,
                (Fit::Option(inside), Value::Error(_) | Value::Err(_))
                    if !inside.is_some_and(|inside| takes_errors(fits, inside)) =>
                {
                    break;
                }
                (Fit::Option(inside), Value::Some(inner)) => (Wrapper::Some, Some(inner), inside),
                (Fit::Option(inside), _) => (Wrapper::Some, None, inside),
                (Fit::Result(inside, _), Value::Ok(inner)) => (Wrapper::Ok, Some(inner), inside),
                (Fit::Result(_, inside), Value::Err(inner)) => (Wrapper::Err, Some(inner), inside),
                (Fit::Result(_, inside), Value::Error(_)) => (Wrapper::Err, None, inside),
                (Fit::Result(inside, _), _) => (Wrapper::Ok, None, inside),
                (Fit::Array(_), Value::Array(_) | Value::Range(..))
                | (Fit::Map(_) | Fit::Record(_), Value::Map(_)) => {
                    core.inside = Some(fit);
                    break;
                }
                _ => break,
            };
            core.around.push(wrapper);
            core.inside = *inside;
            match inner {
                Some(inner) => core.value = Value::clone(inner),
                None => core.changed = true,
            }
        }
        core
    }
}

/// Whether an error is a value of a type: it is a result, or an option of one.
fn takes_errors(fits: &[Fit], mut fit: u32) -> bool {
    for _ in 0..MOST_AROUND {
        match &fits[fit as usize] {
            Fit::Result(..) => return true,
            Fit::Option(Some(inside)) => fit = *inside,
            _ => return false,
        }
    }
    false
}

/// Puts back what stood around a value.
fn around(wrappers: Vec<Wrapper>, value: Value) -> Value {
    wrappers.into_iter().rev().fold(value, |value, wrapper| match wrapper {
        Wrapper::Some => Value::Some(Arc::new(value)),
        Wrapper::Ok => Value::Ok(Arc::new(value)),
        Wrapper::Err => Value::Err(Arc::new(value)),
    })
}

/// Makes a value one of a type. All of it is looked through first, and made anew only if something
/// has to become another value.
pub(super) fn fit(
    fits: &Arc<[Fit]>,
    number: u32,
    value: &Value,
    meter: &mut Meter,
) -> Result<Option<Value>> {
    match (&fits[number as usize], value) {
        (Fit::Float, Value::Float(_)) => return Ok(None),
        (Fit::Array(_), Value::Array(_) | Value::Range(..))
        | (Fit::Map(_) | Fit::Record(_), Value::Map(_)) => {}
        (Fit::Array(_) | Fit::Map(_) | Fit::Record(_) | Fit::Nothing, _) => return Ok(None),
        _ => {
            let core = Core::of(fits, number, value.clone());
            if core.inside.is_none() {
                if !core.changed {
                    return Ok(None);
                }
                meter.allocate(VALUE * core.around.len() as u64)?;
                let made = around(core.around, core.value);
                check_depth(made.depth())?;
                return Ok(Some(made));
            }
        }
    }
    let looked = meter.long(|| Fitting::new(fits, number, value, false))?;
    if looked == Value::Bool(true) {
        return Ok(None);
    }
    let made = meter.long(|| Fitting::new(fits, number, value, true))?;
    check_depth(made.depth())?;
    Ok(Some(made))
}

/// A value that is looked through, or made anew.
#[derive(Debug)]
struct Fitting {
    fits: Arc<[Fit]>,
    /// The containers in which it stands, the innermost last.
    open: Vec<Open>,
    /// Whether values are made, or it is only looked whether any has to be.
    makes: bool,
    /// Whether one has to be.
    changed: bool,
}

/// A container that is gone through.
#[derive(Debug)]
struct Open {
    /// Its key in the one around it.
    key: Option<Arc<str>>,
    around: Vec<Wrapper>,
    whole: Value,
    fit: u32,
    at: usize,
    made: Value,
}

/// What is next in a container.
struct Next {
    key: Option<Arc<str>>,
    value: Value,
    fit: Option<u32>,
}

impl Fitting {
    fn new(fits: &Arc<[Fit]>, fit: u32, value: &Value, makes: bool) -> Fitting {
        let core = Core::of(fits, fit, value.clone());
        let changed = core.changed;
        let mut fitting = Fitting { fits: Arc::clone(fits), open: Vec::new(), makes, changed };
        if let Some(fit) = core.inside {
            fitting.open.push(Open::new(None, core.around, core.value, fit));
        }
        fitting
    }
}

impl Job for Fitting {
    fn stride(&mut self, meter: &mut Meter) -> Result<Option<Value>> {
        for _ in 0..STRIDE {
            if self.changed && !self.makes {
                return Ok(Some(Value::Bool(false)));
            }
            let Some(open) = self.open.last_mut() else { return Ok(Some(Value::Bool(true))) };
            if self.makes && open.at == 0 {
                open.pay(meter)?;
            }
            let Some(Next { key, value, fit }) = open.next(&self.fits, self.makes) else {
                let Some(Open { key, around: wrappers, made, .. }) = self.open.pop() else {
                    continue;
                };
                let made = around(wrappers, made);
                match self.open.last_mut() {
                    Some(outer) if self.makes => outer.put(key, made),
                    Some(_) => {}
                    None if self.makes => return Ok(Some(made)),
                    None => return Ok(Some(Value::Bool(true))),
                }
                continue;
            };
            meter.work(1)?;
            let core = match fit {
                Some(fit) => Core::of(&self.fits, fit, value),
                None => Core { around: Vec::new(), value, inside: None, changed: false },
            };
            self.changed |= core.changed;
            if self.makes {
                meter.allocate(VALUE * core.around.len() as u64)?;
            }
            match core.inside {
                Some(fit) => self.open.push(Open::new(key, core.around, core.value, fit)),
                None if self.makes => open.put(key, around(core.around, core.value)),
                None => {}
            }
        }
        Ok(None)
    }
}

impl Open {
    fn new(key: Option<Arc<str>>, around: Vec<Wrapper>, whole: Value, fit: u32) -> Open {
        Open { key, around, whole, fit, at: 0, made: Value::Null }
    }

    /// Pays for what is made of it, and makes room.
    fn pay(&mut self, meter: &mut Meter) -> Result {
        self.made = match &self.whole {
            Value::Map(map) => {
                meter.entries(map.len())?;
                meter.allocate(MAP + ENTRY * map.len() as u64)?;
                Value::from(Map::with_capacity(map.len()))
            }
            list => {
                let length = length(list);
                meter.list(length)?;
                meter.allocate(ARRAY + VALUE * length as u64)?;
                Value::from(Vec::with_capacity(length))
            }
        };
        Ok(())
    }

    /// What is next in it: of a record that is only looked at, what its type speaks of.
    fn next(&mut self, fits: &[Fit], makes: bool) -> Option<Next> {
        loop {
            let at = self.at;
            self.at += 1;
            let map = match (&fits[self.fit as usize], &self.whole) {
                (Fit::Array(inner), list) if at < length(list) => {
                    let value = element(list, at);
                    return Some(Next { key: None, value, fit: Some(*inner) });
                }
                (_, Value::Map(map)) => map,
                _ => return None,
            };
            let entry = |(key, value): (&Arc<str>, &Value), fit| {
                Some(Next { key: Some(Arc::clone(key)), value: value.clone(), fit })
            };
            let fields = match &fits[self.fit as usize] {
                Fit::Record(fields) => fields,
                Fit::Map(inner) => return entry(map.get_index(at)?, Some(*inner)),
                _ => return None,
            };
            let entries = if makes { map.len() } else { 0 };
            if let Some((key, value)) = map.get_index(at).filter(|_| at < entries) {
                return entry((key, value), field(fields, key));
            }
            // What is missing and may be, is nothing.
            let (name, fit) = fields.get(at - entries)?;
            match map.get(name) {
                Some(value) if !makes => return entry((name, value), Some(*fit)),
                None if matches!(fits[*fit as usize], Fit::Option(_)) => {
                    return entry((name, &Value::Null), Some(*fit));
                }
                _ => {}
            }
        }
    }

    /// Takes in what has been made of a part.
    fn put(&mut self, key: Option<Arc<str>>, value: Value) {
        match (&mut self.made, key) {
            (Value::Array(array), _) => Arc::make_mut(array).push(value),
            (Value::Map(map), Some(key)) => _ = Arc::make_mut(map).insert(key, value),
            _ => {}
        }
    }
}
