//! The methods that call functions, as instructions: `map filter reduce find any all`; and those
//! whose work is done piece by piece.
//!
//! They run on the machine's own frames like any function of the program, so that a function that
//! they call can wait for the host, and what they have done so far is part of the state.

use std::sync::Arc;

use super::code::{Function, Op, Site, Target, Wrapper};
use super::work::Work;

/// How many functions there are; they have the first numbers.
pub(super) const COUNT: usize = 6 + Work::ALL.len();

/// The function that does a work.
pub(super) fn function_of(work: Work) -> u32 {
    6 + work as u32
}

/// The function behind a method of arrays and ranges, and how many arguments the method takes.
pub(super) fn method(name: &str) -> Option<(u32, usize)> {
    Some(match name {
        "map" => (0, 1),
        "filter" => (1, 1),
        "find" => (2, 1),
        "any" => (3, 1),
        "all" => (4, 1),
        "reduce" => (5, 2),
        _ => return None,
    })
}

/// The sites that the functions call at: one argument, two arguments.
pub(super) fn sites() -> Vec<Site> {
    [1, 2]
        .map(|positional| Site {
            name: Arc::from("function"),
            positional,
            names: Box::new([]),
            target: Target::Value,
        })
        .into()
}

// Slots: the receiver, the function, the three of the walk, the result.
const FUNCTION: u16 = 1;
const WALK: u16 = 2;
const ITEM: u16 = 4;
const RESULT: u16 = 5;

/// The functions by number.
pub(super) fn functions() -> Vec<Function> {
    // Every walk begins `Load(0), ForStart(WALK)` and has its `ForNext` at 4.
    let begin = |first: Op| vec![Op::Load(0), Op::ForStart(WALK), first, Op::Store(RESULT)];
    let next = |end: u32| Op::ForNext(WALK, end);
    let call = [Op::Load(FUNCTION), Op::Load(ITEM), Op::CallValue(0)];

    let mut map = begin(Op::Array(0));
    map.push(next(10));
    map.extend(call);
    map.extend([Op::AppendTo(RESULT), Op::Jump(4), Op::Load(RESULT), Op::Return]);

    let mut filter = begin(Op::Array(0));
    filter.push(next(12));
    filter.extend(call);
    filter.extend([Op::JumpIfFalse(4), Op::Load(ITEM), Op::AppendTo(RESULT), Op::Jump(4)]);
    filter.extend([Op::Load(RESULT), Op::Return]);

    let mut find = begin(Op::None);
    find.push(next(12));
    find.extend(call);
    find.extend([Op::JumpIfFalse(4), Op::Load(ITEM), Op::Wrap(Wrapper::Some), Op::Return]);
    find.extend([Op::Load(RESULT), Op::Return]);

    let mut any = begin(Op::Bool(false));
    any.push(next(11));
    any.extend(call);
    any.extend([Op::JumpIfFalse(4), Op::Bool(true), Op::Return, Op::Load(RESULT), Op::Return]);

    let mut all = begin(Op::Bool(true));
    all.push(next(11));
    all.extend(call);
    all.extend([Op::JumpIfTrue(4), Op::Bool(false), Op::Return, Op::Load(RESULT), Op::Return]);

    // `reduce` has one more parameter, and so its slots lie one higher.
    let reduce = vec![
        Op::Load(0),
        Op::ForStart(WALK + 1),
        Op::ForNext(WALK + 1, 8),
        Op::Load(FUNCTION),
        Op::Load(2),
        Op::Load(ITEM + 1),
        Op::CallValue(1),
        Op::Jump(10),
        Op::Load(2),
        Op::Return,
        Op::Store(2),
        Op::Jump(2),
    ];

    let named = [("map", map), ("filter", filter), ("find", find), ("any", any), ("all", all)];
    let mut functions: Vec<_> =
        named.map(|(name, ops)| function(name, &["items", "f"], ops)).into();
    functions.push(function("reduce", &["items", "f", "start"], reduce));
    // Slots: what is given, or nothing, the position, the result, and what sorting needs beside.
    functions.extend(Work::ALL.map(|work| {
        let (name, values) = work.face();
        let params = &["items", "other"][..values];
        Function { slots: 5, ..function(name, params, vec![Op::Work(work), Op::Return]) }
    }));
    functions
}

fn function(name: &str, params: &[&str], ops: Vec<Op>) -> Function {
    Function {
        name: Arc::from(name),
        params: params.iter().map(|param| Arc::from(*param)).collect(),
        slots: 6,
        spans: vec![(0, 0); ops.len()],
        ops,
        prelude: true,
        ..Function::default()
    }
}
