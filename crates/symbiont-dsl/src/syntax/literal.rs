//! What the text of a literal means.
//!
//! A month is 30 days and a year 365. `MB` is a million bytes and `MiB` is 1024 times 1024.

use std::time::Duration;

use crate::diagnostic::{Diagnostic, Sink, nearest};
use crate::hir::{Literal, Span};

/// The units that may follow a whole number and a dot: `30.seconds`.
pub(crate) const DURATION_WORDS: &[&str] = &[
    "nanosecond",
    "nanoseconds",
    "microsecond",
    "microseconds",
    "millisecond",
    "milliseconds",
    "second",
    "seconds",
    "minute",
    "minutes",
    "hour",
    "hours",
    "day",
    "days",
    "week",
    "weeks",
    "month",
    "months",
    "year",
    "years",
    "ms",
    "s",
    "m",
    "h",
    "d",
    "w",
    "y",
];

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * SECOND;

/// The nanoseconds of a unit of time.
fn duration_unit(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" | "nanosecond" | "nanoseconds" => 1,
        "us" | "µs" | "microsecond" | "microseconds" => 1_000,
        "ms" | "millisecond" | "milliseconds" => 1_000_000,
        "s" | "sec" | "secs" | "second" | "seconds" => SECOND,
        "m" | "min" | "mins" | "minute" | "minutes" => 60 * SECOND,
        "h" | "hour" | "hours" => 3_600 * SECOND,
        "d" | "day" | "days" => DAY,
        "w" | "week" | "weeks" => 7 * DAY,
        "month" | "months" => 30 * DAY,
        "y" | "year" | "years" => 365 * DAY,
        _ => return None,
    })
}

/// The bytes of a unit of size, in any case.
fn size_unit(unit: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 11] = [
        ("B", 1),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("PB", 1_000_000_000_000_000),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("PiB", 1 << 50),
    ];
    UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|(_, bytes)| *bytes)
}

/// A duration in words that stand in a text rather than in the program: `5s`, `30.seconds`,
/// `2 hours`, and a bare number of milliseconds.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let (number, unit) = split_quantity(text);
    let unit = unit.trim();
    let nanoseconds = if unit.is_empty() { 1_000_000 } else { duration_unit(unit)? };
    scaled(number, nanoseconds).and_then(from_nanoseconds)
}

/// A size in words that stand in a text: `512MB`, `1.5 GiB`, and a bare number of bytes.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_quantity(text.trim());
    let unit = unit.trim();
    let bytes = if unit.is_empty() { 1 } else { size_unit(unit)? };
    scaled(number, bytes).and_then(|bytes| u64::try_from(bytes).ok())
}

fn from_nanoseconds(nanoseconds: u128) -> Option<Duration> {
    let seconds = u64::try_from(nanoseconds / u128::from(SECOND)).ok()?;
    let rest = u32::try_from(nanoseconds % u128::from(SECOND)).ok()?;
    Some(Duration::new(seconds, rest))
}

/// The number and the unit of `30s`, `30.seconds`, `1.5h`.
fn split_quantity(text: &str) -> (&str, &str) {
    let unit = text
        .char_indices()
        .find(|(_, c)| c.is_alphabetic() || c.is_whitespace())
        .map_or(text.len(), |(at, _)| at);
    (text[..unit].trim_end_matches('.'), &text[unit..])
}

/// A decimal number times `unit`, rounded down; `None` where it is no number or too great.
fn scaled(number: &str, unit: u64) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.replace('_', "");
    let whole: u64 = match whole {
        "" if !fraction.is_empty() => 0,
        whole => digits(whole).parse().ok()?,
    };
    let mut total = u128::from(whole) * u128::from(unit);
    let mut share = u128::from(unit);
    for digit in digits(fraction).chars() {
        share /= 10;
        total += share * u128::from(digit.to_digit(10)?);
    }
    Some(total)
}

/// `42`, which may be too great.
pub(crate) fn int(text: &str, negative: bool) -> Option<i64> {
    let digits = text.replace('_', "");
    if negative { format!("-{digits}").parse().ok() } else { digits.parse().ok() }
}

/// The value of an [`Int`](super::SyntaxKind::Int) token.
pub(crate) fn int_literal(text: &str, span: Span, sink: &mut Sink) -> Literal {
    Literal::Int(int(text, false).unwrap_or_else(|| {
        sink.push(
            Diagnostic::error("E0109", format!("`{}` does not fit into an int", short(text)), span)
                .label("too great")
                .note(format!("an int is at most {}", i64::MAX)),
        );
        0
    }))
}

/// The value of a [`Float`](super::SyntaxKind::Float) token.
pub(crate) fn float_literal(text: &str, span: Span, sink: &mut Sink) -> Literal {
    let value: f64 = text.replace('_', "").parse().unwrap_or(f64::INFINITY);
    if !value.is_finite() {
        sink.push(
            Diagnostic::error(
                "E0109",
                format!("`{}` does not fit into a float", short(text)),
                span,
            )
            .label("too great"),
        );
        return Literal::Float(0.0);
    }
    Literal::Float(value)
}

/// Whether a word is a unit of time or size that means nothing else behind a number: one letter may be
/// the name of something.
pub(crate) fn is_unit(word: &str) -> bool {
    word.len() > 1 && (duration_unit(word).is_some() || size_unit(word).is_some())
}

/// A number and its unit as they are written.
pub(crate) fn together(number: &str, unit: &str) -> String {
    let dot = if DURATION_WORDS.contains(&unit) && unit.len() > 2 { "." } else { "" };
    format!("{number}{dot}{unit}")
}

/// A number as other languages write it, and its message and fix: `0x1f`, `10L`, `1.5f`.
fn foreign_number(number: &str, unit: &str, sign: &str) -> Option<(&'static str, String)> {
    const SUFFIXES: [&str; 16] = [
        "L", "l", "n", "f", "F", "u", "U", "i32", "i64", "u8", "u16", "u32", "u64", "usize", "f32",
        "f64",
    ];
    if SUFFIXES.contains(&unit) {
        return Some(("a number has no letters behind it", number.to_owned()));
    }
    let radix = match (number, unit.get(..1)?) {
        ("0", "x" | "X") => 16,
        ("0", "o" | "O") => 8,
        ("0", "b" | "B") => 2,
        _ => return None,
    };
    let digits = sign.get(2..)?.replace('_', "");
    let value = i64::from_str_radix(&digits, radix).ok()?;
    Some(("numbers are written with decimal digits", value.to_string()))
}

/// The value of a [`Quantity`](super::SyntaxKind::Quantity) token.
pub(crate) fn quantity_literal(text: &str, span: Span, sink: &mut Sink) -> Literal {
    let (number, unit) = split_quantity(text);
    if size_unit(unit).is_none()
        && let Some((message, meant)) = foreign_number(number, unit, text)
    {
        let diagnostic = Diagnostic::error("E0115", message, span.clone());
        sink.push(diagnostic.did_you_mean(Some(&meant)));
        return match meant.contains('.') {
            true => float_literal(&meant, span, sink),
            false => int_literal(&meant, span, sink),
        };
    }
    let value = if let Some(nanoseconds) = duration_unit(unit) {
        scaled(number, nanoseconds).and_then(from_nanoseconds).map(Literal::Duration)
    } else if let Some(bytes) = size_unit(unit) {
        scaled(number, bytes).and_then(|bytes| u64::try_from(bytes).ok()).map(Literal::Size)
    } else {
        let known = DURATION_WORDS.iter().copied().chain(["KB", "MB", "GB", "KiB", "MiB", "GiB"]);
        let message = format!("there is no unit `{}`", short(unit));
        let diagnostic = Diagnostic::error("E0110", message, span.clone()).label("unknown unit");
        sink.push(match nearest(unit, known) {
            Some(unit) => {
                let meant = format!("{number}{unit}");
                diagnostic.did_you_mean(Some(&meant))
            }
            None => diagnostic.note("units are ms s m h d w months y, and B KB MB GB KiB MiB GiB"),
        });
        return Literal::Null;
    };
    value.unwrap_or_else(|| {
        let message = format!("`{}` is too much", short(text));
        sink.push(Diagnostic::error("E0109", message, span).label("too great"));
        Literal::Null
    })
}

/// The text of a string token, whose `quotes` (one or three) are still on it.
pub(crate) fn string_value(token: &str, quotes: usize, start: usize, sink: &mut Sink) -> String {
    let closed = token.len() >= 2 * quotes
        && token.as_bytes()[token.len() - quotes..]
            .iter()
            .all(|byte| matches!(byte, b'"' | b'\'' | b'`'));
    let inner = &token[quotes..if closed { token.len() - quotes } else { token.len() }];
    if !inner.contains('\\') {
        return inner.to_owned();
    }
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let place = start + quotes + (inner.len() - rest.len()) + at;
        rest = &rest[at + 1..];
        let Some(c) = rest.chars().next() else { break };
        rest = &rest[c.len_utf8()..];
        match c {
            'n' => text.push('\n'),
            't' => text.push('\t'),
            'r' => text.push('\r'),
            '0' => text.push('\0'),
            '\\' | '"' | '\'' | '/' => text.push(c),
            'u' => {
                let escape = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
                let value = escape.and_then(|(digits, after)| {
                    let value = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32)?;
                    Some((value, after))
                });
                if let Some((value, after)) = value {
                    text.push(value);
                    rest = after;
                } else {
                    sink.push(
                        Diagnostic::error(
                            "E0117",
                            "the escape names no character",
                            place..place + 2,
                        )
                        .label("expected `\\u{...}` with a code point in hexadecimal"),
                    );
                }
            }
            c => {
                let span = place..place + 1 + c.len_utf8();
                let message =
                    format!("there is no escape `\\{}`; the backslash is kept", c.escape_debug());
                sink.push(Diagnostic::warning("W0118", message, span).fix(
                    place..place,
                    "\\",
                    "write the backslash twice",
                ));
                text.push('\\');
                text.push(c);
            }
        }
    }
    text.push_str(rest);
    text
}

/// A call of `format` for a text that other languages fill by themselves, with expressions between `open`
/// and `}`; nothing where one of them is more than an expression.
pub(crate) fn filled(inner: &str, open: &str, quotes: &str) -> Option<String> {
    let (mut text, mut values, mut rest) = (String::new(), Vec::new(), inner);
    while let Some((before, after)) = rest.split_once(open) {
        let (value, after) = after.split_once('}')?;
        let more = ['{', '}', '"', '\'', '`', ':', '!', '='];
        if before.contains(['{', '}']) || value.trim().is_empty() || value.contains(more) {
            return None;
        }
        text += before;
        text += "{}";
        values.push(value.trim());
        rest = after;
    }
    if rest.contains(['{', '}']) {
        return None;
    }
    text += rest;
    match values.as_slice() {
        [] => Some(format!("{quotes}{text}{quotes}")),
        values => Some(format!("format({quotes}{text}{quotes}, {})", values.join(", "))),
    }
}

/// A text token in whose text a backslash is one.
pub(crate) fn raw(token: &str) -> String {
    token.replace('\\', "\\\\")
}

/// As much of a text as fits into a message, with what cannot be seen made visible.
pub(crate) fn short(text: &str) -> String {
    const MOST: usize = 40;
    let mut out = String::new();
    for (at, c) in text.chars().enumerate() {
        match c {
            _ if at == MOST => {
                out.push_str("...");
                break;
            }
            '"' | '\'' | '\\' => out.push(c),
            c => out.extend(c.escape_debug()),
        }
    }
    out
}
