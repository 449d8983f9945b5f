//! What kinds of values a formula can have, whatever the request says.
//!
//! # What holds
//!
//! - A kind that is not among those found is never there.
//! - What is found to be in vain fails whatever the facts are: no fact is a duration, a size, a time or an
//!   option, since requests state what is in those.

use super::{Fault, Root, is_fact, path};
use crate::diagnostic::nearest;
use crate::hir::{Arg, BinaryOp, Expr, ExprKind, Literal, UnaryOp};
use crate::machine::is_pattern;
use crate::signatures::{self, Receiver, Signature};
use crate::syntax::literal::short;
use crate::value::Value;

/// Some kinds of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kinds(u16);

/// The kinds, what they are called, and whose methods they have.
const KINDS: [(Kinds, &str, Receiver); 13] = [
    (Kinds::NULL, "null", Receiver::Other),
    (Kinds::BOOL, "a bool", Receiver::Other),
    (Kinds::NUMBER, "a number", Receiver::Number),
    (Kinds::STRING, "a text", Receiver::String),
    (Kinds::ARRAY, "an array", Receiver::Array),
    (Kinds::MAP, "a map", Receiver::Map),
    (Kinds::BYTES, "bytes", Receiver::Bytes),
    (Kinds::DURATION, "a duration", Receiver::Duration),
    (Kinds::SIZE, "a size", Receiver::Size),
    (Kinds::TIME, "a time", Receiver::Time),
    (Kinds::OPTION, "an option", Receiver::Option),
    (Kinds::RESULT, "a result", Receiver::Result),
    (Kinds::ERROR, "an error", Receiver::Error),
];

impl Kinds {
    pub(crate) const NULL: Self = Self(1);
    pub(crate) const BOOL: Self = Self(1 << 1);
    const NUMBER: Self = Self(1 << 2);
    pub(crate) const STRING: Self = Self(1 << 3);
    pub(crate) const ARRAY: Self = Self(1 << 4);
    const MAP: Self = Self(1 << 5);
    const BYTES: Self = Self(1 << 6);
    const DURATION: Self = Self(1 << 7);
    const SIZE: Self = Self(1 << 8);
    const TIME: Self = Self(1 << 9);
    const OPTION: Self = Self(1 << 10);
    const RESULT: Self = Self(1 << 11);
    const ERROR: Self = Self(1 << 12);
    const NONE: Self = Self(0);
    const ALL: Self = Self((1 << 13) - 1);
    /// What a request can say.
    const FACT: Self = Self((1 << 6) - 1);
    /// What has members under `in`.
    const HOLDERS: Self = Self(Self::STRING.0 | Self::ARRAY.0 | Self::MAP.0);

    fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(crate) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether a value can be of both.
    pub(crate) fn meets(self, other: Self) -> bool {
        self.and(other) != Self::NONE
    }

    fn each(self) -> impl Iterator<Item = Self> {
        KINDS.into_iter().map(|(kind, ..)| kind).filter(move |kind| self.meets(*kind))
    }

    fn of(value: &Value) -> Self {
        match value {
            Value::Null | Value::None => Self::NULL,
            Value::Bool(_) => Self::BOOL,
            Value::Int(_) | Value::Float(_) => Self::NUMBER,
            Value::String(_) => Self::STRING,
            Value::Bytes(_) => Self::BYTES,
            Value::Duration(_) => Self::DURATION,
            Value::Size(_) => Self::SIZE,
            Value::Time(_) => Self::TIME,
            Value::Array(_) | Value::Range(..) => Self::ARRAY,
            Value::Map(_) => Self::MAP,
            Value::Some(_) => Self::OPTION,
            Value::Ok(_) | Value::Err(_) => Self::RESULT,
            Value::Error(_) => Self::ERROR,
            Value::Function(_) | Value::Any | Value::Secret(_) | Value::Memory(_) => Self::NONE,
        }
    }

    /// Those of what a request says under a path.
    pub(crate) fn of_fact(path: &[String]) -> Self {
        match path.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["time" | "limits", ..] | ["agent", "tier"] => Self::NUMBER,
            ["operation"]
            | ["agent", "id" | "name"]
            | ["agent", "metadata", _]
            | ["metadata", _] => Self::STRING,
            _ => Self::FACT,
        }
    }

    fn of_literal(literal: &Literal) -> Self {
        match literal {
            Literal::Null => Self::NULL,
            Literal::Bool(_) => Self::BOOL,
            Literal::Int(_) | Literal::Float(_) => Self::NUMBER,
            Literal::String(_) => Self::STRING,
            Literal::Duration(_) => Self::DURATION,
            Literal::Size(_) => Self::SIZE,
        }
    }

    /// What a parameter of this type takes, as a signature writes it.
    fn taken(wanted: &str) -> Self {
        match wanted.split(['<', ' ']).next().unwrap_or_default() {
            "String" => Self::STRING,
            "int" | "float" => Self::NUMBER,
            "bytes" => Self::BYTES,
            "duration" => Self::DURATION,
            // A request states times as numbers.
            "time" => Self::TIME.or(Self::NUMBER),
            "Array" => Self::ARRAY,
            "Map" => Self::MAP,
            _ => Self::ALL,
        }
    }

    /// As policies tell them apart: times, durations and sizes are numbers, errors and bytes are texts.
    fn told(self) -> Self {
        let mut told = self;
        if self.meets(Self::DURATION.or(Self::SIZE).or(Self::TIME)) {
            told = told.or(Self::NUMBER);
        }
        if self.meets(Self::ERROR.or(Self::BYTES)) {
            told = told.or(Self::STRING);
        }
        told.and(Self::FACT.or(Self::OPTION).or(Self::RESULT))
    }

    /// As policies see them: [told](Self::told), and an option as what is in it.
    fn seen(self) -> Self {
        match self.meets(Self::OPTION.or(Self::RESULT)) {
            true => Self::FACT,
            false => self.told(),
        }
    }

    fn of_result(row: &Signature, of: Self) -> Self {
        if !row.always {
            return Self::ALL;
        }
        match row.result {
            "int" | "float" => Self::NUMBER,
            "String" => Self::STRING,
            "bool" => Self::BOOL,
            // A request states times as numbers.
            "time" => Self::TIME.or(Self::NUMBER),
            "duration" => Self::DURATION,
            "null" => Self::NULL,
            "error" => Self::ERROR,
            "Self" => of,
            result if result.starts_with("Array") => Self::ARRAY,
            result if result.starts_with("Option") => Self::OPTION,
            _ => Self::ALL,
        }
    }
}

impl std::fmt::Display for Kinds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if *self == Self::FACT {
            return f.write_str("what a request says");
        }
        let names = KINDS.iter().filter(|(kind, ..)| self.meets(*kind)).map(|(_, name, _)| *name);
        f.write_str(&names.collect::<Vec<_>>().join(" or "))
    }
}

/// Whether a policy can say of two values that they are equal or not: those of one kind, and null with any.
pub(super) fn told_apart(a: &Value, b: &Value) -> bool {
    let (a, b) = (Kinds::of(a).told(), Kinds::of(b).told());
    a.meets(b) || a.or(b).meets(Kinds::NULL)
}

/// What two values have to be for an engine's comparison, or for `in`, to say anything.
pub(crate) fn comparable(
    op: BinaryOp,
    (left, a): (&Expr, Kinds),
    (right, b): (&Expr, Kinds),
) -> Result<(), Fault> {
    let (a, b) = (a.seen(), b.seen());
    let span = left.span.start..right.span.end;
    match op {
        BinaryOp::Equal | BinaryOp::NotEqual if !a.meets(b) && !a.or(b).meets(Kinds::NULL) => {
            Err(Fault::new(&span, format!("{a} and {b} are never compared")))
        }
        BinaryOp::Less | BinaryOp::LessOrEqual | BinaryOp::Greater | BinaryOp::GreaterOrEqual => {
            let ordered = Kinds::NUMBER.or(Kinds::STRING);
            match a.and(b).meets(ordered) {
                true => Ok(()),
                false => Err(Fault::new(&span, format!("{a} and {b} have no order"))),
            }
        }
        BinaryOp::In | BinaryOp::NotIn if !b.meets(Kinds::HOLDERS) => {
            Err(Fault::new(&right.span, format!("nothing is in {b}")))
        }
        BinaryOp::In | BinaryOp::NotIn => match elements(right, b) {
            Some(of) if !a.or(of).meets(Kinds::NULL) && !a.meets(of) => {
                Err(Fault::new(&span, format!("{a} is never among what is {of}")))
            }
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

/// What there can be in what is of kinds `b`, where that is known: in a text and under the keys of a map
/// texts, in an array what is written in it.
fn elements(right: &Expr, b: Kinds) -> Option<Kinds> {
    match &right.kind {
        ExprKind::Array(elements) if !elements.is_empty() => {
            let kinds = elements.iter().map(|element| match &element.kind {
                ExprKind::Literal(literal) => Some(Kinds::of_literal(literal).seen()),
                _ => None,
            });
            kinds.reduce(|a, b| Some(a?.or(b?))).flatten()
        }
        _ => (b == Kinds::STRING).then_some(Kinds::STRING),
    }
}

/// The kinds that the value of a formula can be of, or what in it is in vain whatever the request says;
/// `fact` has those of what is under a path.
pub(crate) fn kinds(
    expr: &Expr,
    names: &dyn Fn(&str) -> Root,
    fact: &dyn Fn(&[String]) -> Kinds,
) -> Result<Kinds, Fault> {
    let inner = |expr: &Expr| kinds(expr, names, fact);
    if let Some(path) = path(expr, names)
        && is_fact(&path)
    {
        let now = matches!(expr.kind, ExprKind::Name(_) | ExprKind::Call { .. })
            && path == ["time", "unix"];
        return Ok(if now { Kinds::TIME } else { fact(&path) });
    }
    Ok(match &expr.kind {
        ExprKind::Literal(literal) => Kinds::of_literal(literal),
        ExprKind::Array(_) => Kinds::ARRAY,
        ExprKind::Record { .. } => Kinds::MAP,
        ExprKind::Some(_) | ExprKind::None => Kinds::OPTION,
        ExprKind::Ok(_) | ExprKind::Err(_) => Kinds::RESULT,
        ExprKind::Unary(UnaryOp::Not, of) => inner(of).map(|_| Kinds::BOOL)?,
        ExprKind::Unary(UnaryOp::Negate, of) => inner(of).map(|_| Kinds::NUMBER)?,
        ExprKind::Binary(op, left, right) => {
            let (a, b) = (inner(left)?, inner(right)?);
            match op {
                BinaryOp::Add
                | BinaryOp::Subtract
                | BinaryOp::Multiply
                | BinaryOp::Divide
                | BinaryOp::Remainder => computed(*op, a, b, expr)?,
                op => comparable(*op, (left, a), (right, b)).map(|()| Kinds::BOOL)?,
            }
        }
        ExprKind::Member(of, name) => {
            let of = inner(of)?;
            // A key of a record comes before a method.
            match of.meets(Kinds::MAP) {
                true => Kinds::ALL,
                false => method(of, &name.node, None, expr)?,
            }
        }
        ExprKind::Call { callee, args } => {
            let given = args.iter().map(|arg| inner(&arg.value)).collect::<Result<Vec<_>, _>>()?;
            let given = Given { args, kinds: &given };
            match &callee.kind {
                ExprKind::Member(of, name) => method(inner(of)?, &name.node, Some(given), expr)?,
                ExprKind::Name(name) => match signatures::function(name) {
                    Some(row) => {
                        given.suit(row, expr)?;
                        let first = given.kinds.first().copied().unwrap_or(Kinds::ALL);
                        Kinds::of_result(row, first)
                    }
                    None => Kinds::ALL,
                },
                _ => Kinds::ALL,
            }
        }
        ExprKind::Name(_)
        | ExprKind::Index(..)
        | ExprKind::Secret(_)
        | ExprKind::Lambda { .. }
        | ExprKind::If { .. }
        | ExprKind::Match { .. }
        | ExprKind::Missing => Kinds::ALL,
    })
}

/// What a call is given.
#[derive(Clone, Copy)]
struct Given<'e> {
    args: &'e [Arg],
    kinds: &'e [Kinds],
}

impl Given<'_> {
    /// Whether a function or a method can take this, whatever the request says.
    fn suit(self, row: &Signature, expr: &Expr) -> Result<(), Fault> {
        if let Some(why) = row.refuses(self.args.len()) {
            return Err(Fault::new(&expr.span, why));
        }
        // What gives something as a rule only takes more than its row says.
        let params = row.each_param().filter(|_| row.always);
        for (given, wanted) in self.kinds.iter().zip(params) {
            let taken = wanted.split(" | ").map(Kinds::taken).fold(Kinds::NULL, Kinds::or);
            if !given.meets(taken) {
                let why = format!("`{}` takes `{wanted}`, and never {given}", row.name);
                return Err(Fault::new(&expr.span, why));
            }
        }
        let pattern = match row.name {
            "regex_match" => self.args.get(1),
            "contains_pattern" => self.args.first(),
            _ => None,
        };
        if let Some(Arg { value, .. }) = pattern
            && let ExprKind::Literal(Literal::String(text)) = &value.kind
            && !is_pattern(text)
        {
            let why = format!("`{}` is no pattern", short(text));
            return Err(Fault::new(&expr.span, why));
        }
        Ok(())
    }
}

/// What a method gives on a value of one of these kinds, called with this or read without parentheses.
fn method(of: Kinds, name: &str, given: Option<Given<'_>>, expr: &Expr) -> Result<Kinds, Fault> {
    // Everything has a text.
    if name == "to_string" {
        return Ok(Kinds::STRING);
    }
    let rows = || {
        let row = |(kind, _, receiver)| signatures::method(receiver, name).map(|row| (kind, row));
        KINDS.into_iter().filter_map(row)
    };
    let able: Vec<_> = rows().filter(|(kind, _)| of.meets(*kind)).collect();
    if let (Some(given), false) = (given, able.is_empty()) {
        // A record may hold a function of that name, but no request does.
        let mut refused = able.iter().map(|(_, row)| given.suit(row, expr));
        if refused.clone().all(|suits| suits.is_err()) {
            refused.next().unwrap_or(Ok(()))?;
        }
    }
    let gives = able.iter().map(|(kind, row)| Kinds::of_result(row, *kind));
    if let Some(gives) = gives.reduce(Kinds::or) {
        return Ok(gives);
    }
    let having = rows().map(|(kind, _)| kind).fold(Kinds::NONE, Kinds::or);
    if having == Kinds::NONE {
        // That nothing has it is told of the call.
        return Ok(Kinds::ALL);
    }
    let name_shown = short(name);
    Err(Fault::new(
        &expr.span,
        match of {
            Kinds::FACT if having.meets(Kinds::OPTION.or(Kinds::RESULT)) => {
                format!(
                    "`{name_shown}` is a method of options, and a request states what is in them"
                )
            }
            Kinds::FACT if having == Kinds::SIZE => {
                format!(
                    "`{name_shown}` is a method of {having}, which a request states as a number of bytes"
                )
            }
            Kinds::FACT => format!(
                "`{name_shown}` is a method of {having}, which a request states as a number of seconds"
            ),
            of => {
                let known = KINDS.into_iter().filter(|(kind, ..)| of.meets(*kind));
                let known = known.flat_map(|(.., receiver)| receiver.methods());
                match nearest(name, known.map(|row| row.name)) {
                    Some(meant) => format!("{of} has no `{name_shown}`; did you mean `{meant}`?"),
                    None => format!("{of} has no `{name_shown}`"),
                }
            }
        },
    ))
}

/// What an operator that computes gives.
fn computed(op: BinaryOp, a: Kinds, b: Kinds, expr: &Expr) -> Result<Kinds, Fault> {
    let pairs = a.each().flat_map(|a| b.each().map(move |b| one(op, a, b)));
    match pairs.fold(Kinds::NONE, Kinds::or) {
        Kinds::NONE => Err(Fault::new(&expr.span, format!("{a} and {b} do not go together"))),
        found => Ok(found),
    }
}

/// What an operator gives on values of one kind each.
fn one(op: BinaryOp, a: Kinds, b: Kinds) -> Kinds {
    use BinaryOp::{Add, Divide, Multiply, Remainder, Subtract};
    let text = Kinds::BOOL
        .or(Kinds::NUMBER)
        .or(Kinds::STRING)
        .or(Kinds::DURATION)
        .or(Kinds::SIZE)
        .or(Kinds::TIME);
    match (op, a, b) {
        (_, Kinds::NUMBER, Kinds::NUMBER) => Kinds::NUMBER,
        (Add, Kinds::STRING, other) | (Add, other, Kinds::STRING) if text.meets(other) => {
            Kinds::STRING
        }
        (Add, Kinds::ARRAY, Kinds::ARRAY) => Kinds::ARRAY,
        (Add | Subtract | Remainder, Kinds::DURATION, Kinds::DURATION) => Kinds::DURATION,
        (Add | Subtract | Remainder, Kinds::SIZE, Kinds::SIZE) => Kinds::SIZE,
        (Divide, Kinds::DURATION, Kinds::DURATION) | (Divide, Kinds::SIZE, Kinds::SIZE) => {
            Kinds::NUMBER
        }
        (Multiply | Divide, Kinds::DURATION, Kinds::NUMBER)
        | (Multiply, Kinds::NUMBER, Kinds::DURATION) => Kinds::DURATION,
        (Multiply | Divide, Kinds::SIZE, Kinds::NUMBER)
        | (Multiply, Kinds::NUMBER, Kinds::SIZE) => Kinds::SIZE,
        (Add | Subtract, Kinds::TIME, Kinds::DURATION) | (Add, Kinds::DURATION, Kinds::TIME) => {
            Kinds::TIME
        }
        (Subtract, Kinds::TIME, Kinds::TIME) => Kinds::DURATION,
        _ => Kinds::NONE,
    }
}
