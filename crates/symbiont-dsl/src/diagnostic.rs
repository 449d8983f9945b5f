//! What the reader of a program is told about it.
//!
//! The parser and the checker collect [`Diagnostic`]s; [`render`] shows them to people in the
//! manner of rustc, [`to_json`] and [`sarif`] to machines. [`codes`] has a page about each code.
//!
//! # What holds
//!
//! - Every diagnostic has a stable code with a page, a message in the reader's words and a place.
//! - The first line of each is exactly `error[E0103]: message` or `warning[W0207]: message`.
//! - A fix, where there is one, is a text that can be put in the place of its span as it is.

pub mod codes;
pub mod sarif;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Level, Patch, Renderer, Snippet};
use serde_json::json;

use crate::hir::Span;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// The program does not run.
    Error,
    /// The program runs, and its reader should look.
    Warning,
}

/// A change that would mend the program, or that would at least be worth a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fix {
    /// What is replaced; empty where something is only added.
    pub span: Span,
    /// What stands there afterwards.
    pub replacement: String,
    /// The change in words, such as "did you mean `timeout`?".
    pub message: String,
}

/// Something that the reader of a program should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// A stable code, `E` or `W` and four digits.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// Where.
    pub span: Span,
    /// What stands beside the place; may be empty.
    pub label: String,
    /// What else helps.
    pub notes: Vec<String>,
    /// What would mend it, if that is known.
    pub fix: Option<Fix>,
}

impl Diagnostic {
    /// An error at `span`.
    pub fn error(code: &'static str, message: impl Into<String>, span: Span) -> Self {
        Self::new(code, Severity::Error, message.into(), span)
    }

    /// A warning at `span`.
    pub fn warning(code: &'static str, message: impl Into<String>, span: Span) -> Self {
        Self::new(code, Severity::Warning, message.into(), span)
    }

    fn new(code: &'static str, severity: Severity, message: String, span: Span) -> Self {
        Self { code, severity, message, span, label: String::new(), notes: Vec::new(), fix: None }
    }

    /// The same, with `label` beside the place.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// The same, with one more note.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// The same, with a fix.
    #[must_use]
    pub fn fix(
        mut self,
        span: Span,
        replacement: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        let (replacement, message) = (replacement.into(), message.into());
        self.fix = Some(Fix { span, replacement, message });
        self
    }

    /// The same, with the fix "did you mean `nearest`?" for the place, if there is a nearest name.
    #[must_use]
    pub fn did_you_mean(self, nearest: Option<&str>) -> Self {
        match nearest {
            Some(nearest) => {
                let span = self.span.clone();
                self.fix(span, nearest, format!("did you mean `{nearest}`?"))
            }
            None => self,
        }
    }
}

/// The diagnostics of one source text, in the order in which they were found.
///
/// At most [`Sink::LIMIT`] errors and as many warnings are kept, so that no input makes more of
/// them than anyone could read; that there was an error is never forgotten.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    kept: Vec<Diagnostic>,
    errors: usize,
    warnings: usize,
    /// Where something was not read that a fix would bring.
    lost: Vec<Span>,
}

/// How much was told up to some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    kept: usize,
    errors: usize,
    warnings: usize,
}

impl Sink {
    /// How many of each severity are kept.
    pub(crate) const LIMIT: usize = 200;

    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        let count = match diagnostic.severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        *count += 1;
        if *count <= Self::LIMIT {
            self.kept.push(diagnostic);
        }
    }

    /// How much was told so far.
    pub(crate) fn told(&self) -> Told {
        Told { kept: self.kept.len(), errors: self.errors, warnings: self.warnings }
    }

    /// Forgets what was told since then.
    pub(crate) fn forget(&mut self, since: Told) {
        self.kept.truncate(since.kept);
        (self.errors, self.warnings) = (since.errors, since.warnings);
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Where the parser found errors around which something may be lost.
    pub(crate) fn syntax_faults(&self) -> Vec<Span> {
        // What only lacks its end may have taken what follows with it. Around everything else that has
        // a fix the program was read as it would be with that.
        let unclosed = |code| matches!(code, "E0103" | "E0104" | "E0105");
        let loses = |found: &&Diagnostic| {
            found.code.starts_with("E01") && (found.fix.is_none() || unclosed(found.code))
        };
        let faults = self.kept.iter().filter(loses).map(|found| &found.span);
        faults.chain(&self.lost).cloned().collect()
    }

    /// Notes that what stands here was not read as it would be with its fix.
    pub(crate) fn lost(&mut self, span: Span) {
        self.lost.push(span);
    }

    /// Whether the parser found an error in this place.
    pub(crate) fn is_faulty(&self, place: &Span) -> bool {
        self.is_told("E01", place)
    }

    /// Whether something with a code that begins so was told of this place.
    pub(crate) fn is_told(&self, code: &str, place: &Span) -> bool {
        self.kept.iter().any(|found| {
            found.code.starts_with(code)
                && place.start <= found.span.start
                && found.span.end <= place.end
        })
    }

    /// Whether there is no point in finding more of this severity.
    pub(crate) fn is_full(&self, severity: Severity) -> bool {
        match severity {
            Severity::Error => self.errors >= Self::LIMIT,
            Severity::Warning => self.warnings >= Self::LIMIT,
        }
    }

    /// What was kept, in the order of the source.
    pub(crate) fn finish(mut self) -> Vec<Diagnostic> {
        self.kept.sort_by_key(|diagnostic| (diagnostic.span.start, diagnostic.span.end));
        self.kept
    }
}

/// The diagnostics as text for people.
///
/// `color` asks for terminal colours. Diagnostics are separated by an empty line; no diagnostics
/// give the empty text.
pub fn render(diagnostics: &[Diagnostic], source: &str, file_name: &str, color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let renderer = renderer.decor_style(DecorStyle::Ascii);
    let mut lines = Lines { source, counted: 0, line: 1 };
    let mut out = String::new();
    for diagnostic in diagnostics {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&renderer.render(&report(diagnostic, &mut lines, file_name)));
        out.push('\n');
    }
    out
}

/// A fix in a line longer than this is told and not shown: the line would be shown twice, whole.
const LONGEST_SHOWN: usize = 1000;

fn report<'a>(
    diagnostic: &'a Diagnostic,
    lines: &mut Lines<'a>,
    file_name: &'a str,
) -> Vec<annotate_snippets::Group<'a>> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let place = lines.around(&diagnostic.span);
    let annotation = AnnotationKind::Primary.span(place.span);
    let annotation = match diagnostic.label.as_str() {
        "" => annotation,
        label => annotation.label(label),
    };
    let mut group = level.primary_title(diagnostic.message.as_str()).id(diagnostic.code).element(
        Snippet::source(place.text).line_start(place.line).path(file_name).annotation(annotation),
    );
    for note in &diagnostic.notes {
        group = group.element(Level::NOTE.message(note.as_str()));
    }
    let Some(fix) = &diagnostic.fix else { return vec![group] };
    let place = lines.around(&fix.span);
    if place.text.len() > LONGEST_SHOWN {
        return vec![group.element(Level::HELP.message(fix.message.as_str()))];
    }
    let patch = Patch::new(place.span, fix.replacement.as_str());
    let snippet = Snippet::source(place.text).line_start(place.line).path(file_name).patch(patch);
    vec![group, Level::HELP.secondary_title(fix.message.as_str()).element(snippet)]
}

/// Whole lines of a source around a span.
struct Place<'a> {
    text: &'a str,
    /// The number of the first of them.
    line: usize,
    /// The span within them.
    span: Span,
}

/// Finds lines. Places in ascending order cost one walk through the source together.
struct Lines<'a> {
    source: &'a str,
    /// The number of the line at byte `counted` is `line`.
    counted: usize,
    line: usize,
}

impl<'a> Lines<'a> {
    fn around(&mut self, span: &Span) -> Place<'a> {
        let span = within(span, self.source);
        let start = self.source[..span.start].rfind('\n').map_or(0, |at| at + 1);
        let end = self.source[span.end..].find('\n').map_or(self.source.len(), |at| span.end + at);
        if start < self.counted {
            (self.counted, self.line) = (0, 1);
        }
        self.line += self.source[self.counted..start].matches('\n').count();
        self.counted = start;
        Place {
            text: &self.source[start..end],
            line: self.line,
            span: span.start - start..span.end - start,
        }
    }
}

/// The span, made to lie within the source and on its character boundaries.
fn within(span: &Span, source: &str) -> Span {
    let boundary = |mut at: usize| {
        at = at.min(source.len());
        while !source.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let (start, end) = (boundary(span.start), boundary(span.end));
    start..end.max(start)
}

/// The diagnostics as JSON: an array of objects with `code`, `severity`, `message`, `label`,
/// `file`, `start` and `end` (each with `offset` in bytes, `line` and `column` from 1, the column
/// in characters), `notes` and `fix` (or null).
pub fn to_json(diagnostics: &[Diagnostic], source: &str, file_name: &str) -> serde_json::Value {
    let position = |offset: usize| {
        let (line, column) = line_and_column(source, offset);
        json!({ "offset": offset, "line": line, "column": column })
    };
    diagnostics
        .iter()
        .map(|diagnostic| {
            let span = within(&diagnostic.span, source);
            let fix = diagnostic.fix.as_ref().map(|fix| {
                let span = within(&fix.span, source);
                json!({
                    "message": fix.message,
                    "start": position(span.start),
                    "end": position(span.end),
                    "replacement": fix.replacement,
                })
            });
            json!({
                "code": diagnostic.code,
                "severity": match diagnostic.severity {
                    Severity::Error => "error",
                    Severity::Warning => "warning",
                },
                "message": diagnostic.message,
                "label": diagnostic.label,
                "file": file_name,
                "start": position(span.start),
                "end": position(span.end),
                "notes": diagnostic.notes,
                "fix": fix,
            })
        })
        .collect()
}

/// The line and the column of a byte, both from 1, the column in characters.
pub fn line_and_column(source: &str, offset: usize) -> (usize, usize) {
    let before = &source[..within(&(offset..offset), source).start];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The name among `known` that `name` was probably meant to be.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Longer texts are no misspelt names, and the comparison takes the product of the lengths.
    const LONGEST: usize = 64;
    // A file with more names than this gets along without hints about the rest.
    const MOST: usize = 256;
    if name.len() > LONGEST {
        return None;
    }
    let length = name.chars().count();
    let mut allowed = (length / 3).max(1);
    let mut distances = Distances::from(name);
    let mut found = None;
    for known in known.into_iter().take(MOST) {
        let count = known.chars().count();
        if known.len() > LONGEST || known == name || count.abs_diff(length) > allowed {
            continue;
        }
        match distances.to(known, allowed.min(count.saturating_sub(1))) {
            Some(0) => return Some(known),
            Some(distance) => {
                found = Some(known);
                // Of those that are as near the first is taken.
                allowed = distance - 1;
            }
            None => {}
        }
    }
    found
}

/// How far names are from one: how many characters have to be added, removed, replaced or swapped with
/// their neighbour, letters' case apart (the optimal string alignment distance). The memory is used
/// again from name to name.
struct Distances {
    from: Vec<char>,
    to: Vec<char>,
    /// The rows of the table that the next one needs, the newest last.
    rows: [Vec<usize>; 3],
}

impl Distances {
    fn from(name: &str) -> Self {
        let from = name.chars().flat_map(char::to_lowercase).collect();
        Self { from, to: Vec::new(), rows: Default::default() }
    }

    /// The distance to a name, unless it is more than `limit`.
    fn to(&mut self, name: &str, limit: usize) -> Option<usize> {
        let Self { from, to, rows: [before, last, row] } = self;
        to.clear();
        to.extend(name.chars().flat_map(char::to_lowercase));
        last.clear();
        last.extend(0..=to.len());
        let mut nearest = 0;
        for i in 0..from.len() {
            row.clear();
            row.push(i + 1);
            for j in 0..to.len() {
                let replace = last[j] + usize::from(from[i] != to[j]);
                let mut best = replace.min(last[j + 1] + 1).min(row[j] + 1);
                if i > 0 && j > 0 && from[i] == to[j - 1] && from[i - 1] == to[j] {
                    best = best.min(before[j - 1] + 1);
                }
                row.push(best);
            }
            // Nothing gets nearer than the two rows that it comes from.
            let least = row.iter().copied().min().unwrap_or(0);
            if nearest.min(least) > limit {
                return None;
            }
            nearest = least;
            std::mem::swap(before, last);
            std::mem::swap(last, row);
        }
        last.last().copied().filter(|distance| *distance <= limit)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The distance by its definition.
    fn distance(a: &[char], b: &[char]) -> usize {
        let ([x, a_rest @ ..], [y, b_rest @ ..]) = (a, b) else { return a.len() + b.len() };
        let mut best = (distance(a_rest, b_rest) + usize::from(x != y))
            .min(distance(a_rest, b) + 1)
            .min(distance(a, b_rest) + 1);
        if let ([x2, a_rest @ ..], [y2, b_rest @ ..]) = (a_rest, b_rest)
            && (x, x2) == (y2, y)
        {
            best = best.min(distance(a_rest, b_rest) + 1);
        }
        best
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn names_are_as_far_apart_as_the_definition_says(
            name in "[abC]{0,6}",
            known in prop::collection::vec("[aBc]{0,6}", 1..6),
        ) {
            let letters = |text: &str| text.to_lowercase().chars().collect::<Vec<_>>();
            let far = |known: &str| distance(&letters(&name), &letters(known));
            let mut distances = Distances::from(&name);
            for known in &known {
                for limit in 0..7 {
                    let want = Some(far(known)).filter(|far| *far <= limit);
                    prop_assert_eq!(distances.to(known, limit), want, "{} {} {}", name, known, limit);
                }
            }
            let allowed = (name.len() / 3).max(1);
            let want = (known.iter())
                .filter(|known| **known != name && known.len().abs_diff(name.len()) <= allowed)
                .filter(|known| far(known) <= allowed && far(known) < known.len())
                .min_by_key(|known| far(known));
            prop_assert_eq!(nearest(&name, known.iter().map(String::as_str)), want.map(String::as_str));
        }
    }
}
