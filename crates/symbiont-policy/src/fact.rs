//! Facts: what a request says under a path, and how Cedar gets to see it.
//!
//! Cedar has no way to ask for the type of a value, and an operator that meets a wrong type is an
//! error which skips the whole policy. So each fact becomes a record with one member, which is
//! named for the kind of value it holds; `has` then asks for presence and type at once.
//!
//! # What holds
//!
//! - Different paths have different keys.
//! - Equal facts have equal records, and different facts different ones.
//! - A value that can't be compared soundly (not a number, infinite, beyond 64 bits, too deep, too
//!   large) becomes a record without members: it is there, and nothing is true of it.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use cedar_policy::RestrictedExpression;
use symbiont_dsl::formula::{Formula, FormulaError};
use symbiont_types::PolicyValue;

use crate::{Request, glob};

/// Values within values, and segments of a path.
pub(crate) const MAX_DEPTH: usize = 64;
/// Values in one fact, itself included.
const MAX_NODES: usize = 10_000;
const SECONDS_PER_DAY: i64 = 86_400;
/// What the attributes begin with that are worked out by a formula.
pub(crate) const FORMULA: &str = "= ";

/// A value that can be compared.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fact {
    Null,
    Flag(bool),
    /// `whole` is the number without its fraction, and `part` the fraction: 0 for none, and for others such
    /// that they are in order. So numbers are in the order of both, and equal where both are.
    Number {
        whole: i64,
        part: i64,
    },
    Text(String),
    List(Vec<Fact>),
    Record(BTreeMap<String, Fact>),
}

/// The kinds of facts; different kinds don't compare, except that nothing else equals null.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Null,
    Flag,
    Number,
    Text,
    List,
    Record,
}

impl Kind {
    pub(crate) const ALL: [Self; 6] =
        [Self::Null, Self::Flag, Self::Number, Self::Text, Self::List, Self::Record];

    /// The member that says that a fact is of this kind.
    pub(crate) fn member(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Flag => "flag",
            Self::Number => "whole",
            Self::Text => "text",
            Self::List => "list",
            Self::Record => "record",
        }
    }
}

impl Fact {
    /// `None` if the value can't be compared.
    pub(crate) fn of(value: &PolicyValue) -> Option<Self> {
        Self::within(value, MAX_DEPTH, &mut { MAX_NODES })
    }

    fn within(value: &PolicyValue, depth: usize, nodes: &mut usize) -> Option<Self> {
        let depth = depth.checked_sub(1)?;
        *nodes = nodes.checked_sub(1)?;
        Some(match value {
            PolicyValue::Null => Self::Null,
            PolicyValue::Bool(flag) => Self::Flag(*flag),
            PolicyValue::Int(whole) => Self::Number { whole: *whole, part: 0 },
            PolicyValue::Float(number) => Self::number(*number)?,
            PolicyValue::String(text) => Self::Text(text.clone()),
            PolicyValue::List(values) => Self::List(
                values
                    .iter()
                    .map(|value| Self::within(value, depth, nodes))
                    .collect::<Option<_>>()?,
            ),
            PolicyValue::Record(members) => Self::Record(
                members
                    .iter()
                    .map(|(name, value)| Some((name.clone(), Self::within(value, depth, nodes)?)))
                    .collect::<Option<_>>()?,
            ),
        })
    }

    /// The number, exactly; `None` if it is not finite or beyond 64 bits.
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked before the cast")]
    fn number(number: f64) -> Option<Self> {
        const BOUND: f64 = 9_223_372_036_854_775_808.0;
        let whole = number.trunc();
        // Not-a-number is in no range.
        if !(-BOUND..BOUND).contains(&whole) {
            return None;
        }
        // A number's fraction is a number too, so that nothing is rounded. The bits of numbers from 0 on are
        // in the order of the numbers (IEEE 754, the interchange formats), and below 1 they fit.
        let fraction = number - whole;
        let bits = i64::try_from(fraction.abs().to_bits()).ok()?;
        Some(Self::Number { whole: whole as i64, part: if fraction < 0.0 { -bits } else { bits } })
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Null => Kind::Null,
            Self::Flag(_) => Kind::Flag,
            Self::Number { .. } => Kind::Number,
            Self::Text(_) => Kind::Text,
            Self::List(_) => Kind::List,
            Self::Record(_) => Kind::Record,
        }
    }

    /// The fact as a value that `build` makes.
    pub(crate) fn encode<B: Build>(&self) -> B {
        match self {
            Self::Null => B::record([("null".to_owned(), B::flag(true))]),
            Self::Flag(flag) => B::record([("flag".to_owned(), B::flag(*flag))]),
            Self::Number { whole, part } => B::record([
                ("part".to_owned(), B::long(*part)),
                ("whole".to_owned(), B::long(*whole)),
            ]),
            Self::Text(text) => B::record([("text".to_owned(), B::text(text))]),
            // Cedar's own sets forget order and repetition.
            Self::List(facts) => B::record([(
                "list".to_owned(),
                B::record(
                    facts.iter().enumerate().map(|(at, fact)| (at.to_string(), fact.encode())),
                ),
            )]),
            Self::Record(members) => B::record([(
                "record".to_owned(),
                B::record(members.iter().map(|(name, fact)| (name.clone(), fact.encode()))),
            )]),
        }
    }
}

/// Makes values of Cedar, be it for a policy's text or for a request.
pub(crate) trait Build: Sized {
    fn flag(flag: bool) -> Self;
    fn long(number: i64) -> Self;
    fn text(text: &str) -> Self;
    fn set(values: impl Iterator<Item = Self>) -> Self;
    fn record(members: impl IntoIterator<Item = (String, Self)>) -> Self;
}

impl Build for RestrictedExpression {
    fn flag(flag: bool) -> Self {
        Self::new_bool(flag)
    }

    fn long(number: i64) -> Self {
        Self::new_long(number)
    }

    fn text(text: &str) -> Self {
        Self::new_string(text.to_owned())
    }

    fn set(values: impl Iterator<Item = Self>) -> Self {
        Self::new_set(values)
    }

    fn record(members: impl IntoIterator<Item = (String, Self)>) -> Self {
        Self::new_record(members).expect("the members come from a map or a count, so none repeats")
    }
}

/// Where a value comes from when the request is there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Source {
    /// It is the fact under a path.
    Path(Vec<String>),
    /// It is worked out of facts.
    Formula(Formula),
}

impl Source {
    fn key(&self) -> String {
        match self {
            Self::Path(path) => key(path),
            // No path has such a key, in which a space has a backslash before it.
            Self::Formula(formula) => format!("{FORMULA}{}", formula.text()),
        }
    }

    /// `None` if a path leads nowhere or a formula ends in an error, which is also what becomes of
    /// one that needs more than `steps`.
    fn value<'a>(&self, request: &Request<'a>, steps: &Cell<u64>) -> Option<Cow<'a, PolicyValue>> {
        match self {
            Self::Path(path) => look_up(path, request),
            Self::Formula(formula) => {
                let reads = formula.reads().iter().map(|path| look_up(path, request));
                let facts: Vec<_> = reads.collect::<Option<_>>()?;
                let mut left = steps.get();
                let facts = facts.iter().map(|fact| &**fact);
                let value = formula.value(facts, request.now_unix, &mut left);
                steps.set(left);
                value.ok().map(Cow::Owned)
            }
        }
    }
}

/// One of two texts, of which one may be part of the other.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Term {
    /// It is written in the rule.
    Written(PolicyValue),
    Read(Source),
}

impl Term {
    fn key(&self) -> String {
        match self {
            Self::Written(value) => format!("{value:?}"),
            Self::Read(source) => source.key(),
        }
    }

    fn value<'a>(
        &'a self,
        request: &Request<'a>,
        steps: &Cell<u64>,
    ) -> Option<Cow<'a, PolicyValue>> {
        match self {
            Self::Written(value) => Some(Cow::Borrowed(value)),
            Self::Read(source) => source.value(request, steps),
        }
    }
}

/// What a compiled rule reads from the context.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Demand {
    /// A value.
    Fact(Source),
    /// The elements of a list, as `items`, and their common kind, as `of`.
    Items(Source),
    /// Whether one text is part of another, which Cedar can't say of two unknown texts, or the key of
    /// a record, if it is not written in the rule: of one that is Cedar can tell.
    Part { needle: Term, haystack: Term },
}

impl Demand {
    /// The context's attribute that answers it.
    pub(crate) fn key(&self) -> String {
        match self {
            Self::Fact(source) => source.key(),
            Self::Items(source) => source.key() + "[]",
            Self::Part { needle, haystack } => {
                format!("part({} in {})", needle.key(), haystack.key())
            }
        }
    }

    /// What the attribute `key` of a hand-written rule asks for.
    ///
    /// # Errors
    ///
    /// It asks for a formula that is none.
    pub(crate) fn of_key(key: &str) -> Result<Self, FormulaError> {
        if let Some(text) = key.strip_prefix(FORMULA) {
            return match text.strip_suffix("[]").map(Formula::read) {
                Some(Ok(formula)) => Ok(Self::Items(Source::Formula(formula))),
                Some(Err(_)) | None => Formula::read(text).map(Source::Formula).map(Self::Fact),
            };
        }
        let (key, items) = match key.strip_suffix("[]") {
            Some(key) => (key, true),
            None => (key, false),
        };
        let mut path = vec![String::new()];
        let mut rest = key.chars();
        while let Some(next) = rest.next() {
            match next {
                '.' => path.push(String::new()),
                '\\' => path.last_mut().expect("it starts with one").extend(rest.next()),
                other => path.last_mut().expect("it starts with one").push(other),
            }
        }
        let path = Source::Path(path);
        Ok(if items { Self::Items(path) } else { Self::Fact(path) })
    }

    /// What `request` answers; `None` if there is no value. What working it out takes goes off
    /// `steps`.
    pub(crate) fn answer(
        &self,
        request: &Request<'_>,
        steps: &Cell<u64>,
    ) -> Option<RestrictedExpression> {
        match self {
            Self::Fact(source) => {
                let value = source.value(request, steps)?;
                Some(match Fact::of(&value) {
                    Some(fact) => fact.encode(),
                    None => RestrictedExpression::record([]),
                })
            }
            Self::Items(source) => {
                let value = source.value(request, steps)?;
                let Some(Fact::List(facts)) = Fact::of(&value) else {
                    return None;
                };
                Some(RestrictedExpression::record([
                    ("items".to_owned(), RestrictedExpression::set(facts.iter().map(Fact::encode))),
                    ("of".to_owned(), RestrictedExpression::text(common_kind(&facts))),
                ]))
            }
            Self::Part { needle, haystack } => {
                let written = matches!(needle, Term::Written(_));
                let whole = haystack.value(request, steps)?;
                let part = needle.value(request, steps)?;
                let found = match (&*part, &*whole) {
                    (PolicyValue::String(part), PolicyValue::String(text)) => text.contains(part),
                    (PolicyValue::String(key), PolicyValue::Record(members)) if !written => {
                        // One that can't be compared has no keys either.
                        Fact::of(&whole).map(|_| members.contains_key(key))?
                    }
                    _ => return None,
                };
                let flag = RestrictedExpression::flag(found);
                Some(RestrictedExpression::record([("flag".to_owned(), flag)]))
            }
        }
    }
}

/// The member of the kind that all elements have which are not null; `any` if there is none, and
/// `mixed` if there are several.
pub(crate) fn common_kind(facts: &[Fact]) -> &'static str {
    let mut kinds = facts.iter().map(Fact::kind).filter(|&kind| kind != Kind::Null);
    match kinds.next() {
        None => "any",
        Some(first) if kinds.all(|kind| kind == first) => first.member(),
        Some(_) => "mixed",
    }
}

/// The segments joined by dots; what could be taken for something else has a backslash before it.
pub(crate) fn key(path: &[String]) -> String {
    let mut key = String::new();
    for (at, segment) in path.iter().enumerate() {
        if at > 0 {
            key.push('.');
        }
        for next in segment.chars() {
            if matches!(next, '.' | '\\' | '[' | '(' | ' ') {
                key.push('\\');
            }
            key.push(next);
        }
    }
    key
}

/// The value under `path`; `None` if it leads nowhere.
pub(crate) fn look_up<'a>(path: &[String], request: &Request<'a>) -> Option<Cow<'a, PolicyValue>> {
    let owned = |value: PolicyValue| Some(Cow::Owned(value));
    let text = |text: &str| owned(PolicyValue::String(text.to_owned()));
    let whole = |number: u64| {
        // One that is out of range is there, and can't be compared.
        owned(i64::try_from(number).map_or(PolicyValue::Float(f64::INFINITY), PolicyValue::Int))
    };
    let segments: Vec<&str> = path.iter().map(String::as_str).collect();
    let day = request.now_unix.div_euclid(SECONDS_PER_DAY);
    match segments.as_slice() {
        ["operation"] => text(request.operation),
        ["action"] => text(glob::name_of(request.operation)),
        ["resource"] => text(glob::resource_of(request.operation)?),
        ["argument", index, ..] => {
            descend(request.arguments.get(position(index)?)?.as_ref()?, &path[2..])
        }
        ["named", name, ..] => descend(request.named.get(*name)?, &path[2..]),
        ["agent", "id"] => text(&request.agent_id.to_string()),
        ["agent", "name"] => text(request.agent_name),
        ["agent", "tier"] => owned(PolicyValue::Int(request.tier as i64)),
        ["agent", "metadata", key] => text(request.agent_metadata.get(*key)?),
        ["metadata", key] => text(request.metadata.get(*key)?),
        ["limits", "memory_mb"] => whole(request.limits?.memory_mb),
        ["limits", "cpu_cores"] => owned(PolicyValue::Float(request.limits?.cpu_cores)),
        ["limits", "disk_io_mbps"] => whole(request.limits?.disk_io_mbps),
        ["limits", "network_io_mbps"] => whole(request.limits?.network_io_mbps),
        ["time", "unix"] => owned(PolicyValue::Int(request.now_unix)),
        ["time", "hour"] => {
            owned(PolicyValue::Int(request.now_unix.rem_euclid(SECONDS_PER_DAY) / 3_600))
        }
        // The first day of 1970 was a Thursday.
        ["time", "weekday"] => owned(PolicyValue::Int((day + 3).rem_euclid(7) + 1)),
        [
            "operation" | "action" | "argument" | "named" | "agent" | "metadata" | "limits"
            | "time",
            ..,
        ]
        | [] => None,
        [root, ..] => descend(request.ambient.get(*root)?, &path[1..]),
    }
}

fn descend<'a>(value: &'a PolicyValue, path: &[String]) -> Option<Cow<'a, PolicyValue>> {
    let mut value = value;
    for segment in path {
        value = match value {
            PolicyValue::Record(members) => members.get(segment)?,
            PolicyValue::List(values) => values.get(position(segment)?)?,
            PolicyValue::Null
            | PolicyValue::Bool(_)
            | PolicyValue::Int(_)
            | PolicyValue::Float(_)
            | PolicyValue::String(_) => return None,
        };
    }
    Some(Cow::Borrowed(value))
}

/// A position in decimal digits, without sign.
fn position(segment: &str) -> Option<usize> {
    if segment.bytes().all(|byte| byte.is_ascii_digit()) { segment.parse().ok() } else { None }
}

/// A path as people write it.
pub(crate) fn show_path(path: &[String]) -> String {
    let mut text = String::new();
    for (at, segment) in path.iter().enumerate() {
        let dot = if at > 0 { "." } else { "" };
        let plain = segment.chars().all(|next| next.is_alphanumeric() || matches!(next, '_' | '-'));
        // Writing to a string does not fail.
        let _ = if plain { write!(text, "{dot}{segment}") } else { write!(text, "[{segment:?}]") };
    }
    text
}
