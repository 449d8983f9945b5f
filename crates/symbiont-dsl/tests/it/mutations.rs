//! Programs with one token deleted, doubled or replaced: few messages, whatever it is.

use std::ops::Range;

use symbiont_dsl::definition::check;
use symbiont_dsl::diagnostic::{Diagnostic, Severity, render};
use symbiont_dsl::syntax::{SyntaxKind, tree};

use super::{name, programs};

/// How many mutations of each program are looked at.
const EACH: usize = 24;
/// What no mutation exceeds, and what nineteen of twenty don't.
const MOST: usize = 8;
const USUAL: usize = 3;

/// Numbers that are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("it has 31 bits") % limit
    }
}

/// Where the tokens of a program are that mean something.
fn tokens(source: &str) -> Vec<Range<usize>> {
    use SyntaxKind::{BlockComment, LineComment, Whitespace};
    let tokens = tree(source).descendants_with_tokens().filter_map(|element| element.into_token());
    let means = tokens.filter(|it| !matches!(it.kind(), Whitespace | LineComment | BlockComment));
    means
        .map(|it| usize::from(it.text_range().start())..usize::from(it.text_range().end()))
        .collect()
}

fn errors(source: &str) -> Vec<Diagnostic> {
    let mut found = check(source).diagnostics;
    found.retain(|one| one.severity == Severity::Error);
    found
}

#[test]
fn one_token_that_is_wrong_gives_few_messages() {
    let mut numbers = Numbers(7);
    let (mut all, mut many) = (0, Vec::new());
    for (path, source) in programs("programs") {
        let tokens = tokens(&source);
        if tokens.is_empty() || !errors(&source).is_empty() {
            continue;
        }
        for _ in 0..EACH {
            let place = tokens[numbers.below(tokens.len())].clone();
            let token = &source[place.clone()];
            let other = match numbers.below(3) {
                0 => String::new(),
                1 => format!("{token} {token}"),
                _ => source[tokens[numbers.below(tokens.len())].clone()].to_owned(),
            };
            let mut mutated = source.clone();
            mutated.replace_range(place, &other);
            let found = errors(&mutated);
            all += 1;
            if found.len() > USUAL {
                let shown = render(&found, &mutated, &name(&path), false);
                many.push((found.len(), format!("`{token}` becomes `{other}`\n{shown}")));
            }
        }
    }
    many.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    let (count, shown) = many.first().map_or((0, ""), |(count, shown)| (*count, shown));
    assert!(count <= MOST, "{count} messages: {shown}");
    assert!(many.len() * 20 <= all, "{} of {all} give more than {USUAL}: {shown}", many.len());
}
