//! That the programs of `test_data` use everything that the language has: what none of them uses,
//! nobody has seen working as people write it.

use std::collections::BTreeSet;

use symbiont_dsl::docs::{self, Kind};
use symbiont_dsl::operations;
use symbiont_dsl::syntax::{SyntaxKind, tree};

use super::programs;

/// The tokens of a program but for layout, and the kinds of its tokens and nodes.
fn read(source: &str, kinds: &mut BTreeSet<SyntaxKind>) -> Vec<(SyntaxKind, String)> {
    let mut tokens = Vec::new();
    for element in tree(source).descendants_with_tokens() {
        kinds.insert(element.kind());
        if let Some(token) = element.into_token().filter(|token| !token.kind().is_trivia()) {
            tokens.push((token.kind(), token.text().to_owned()));
        }
    }
    tokens
}

/// The keys that a page lists.
fn listed(page: &docs::Page) -> impl Iterator<Item = &'static str> {
    let lines = page.text.lines();
    lines.filter_map(|line| line.strip_prefix("- `")?.split_once("`: ").map(|(key, _)| key))
}

#[test]
fn every_construct_is_used_by_some_program() {
    let mut kinds = BTreeSet::new();
    // Names as they stand, names behind a dot, names that are called, and both.
    let (mut words, mut members) = (BTreeSet::new(), BTreeSet::new());
    let (mut called, mut namespaced) = (BTreeSet::new(), BTreeSet::new());
    for (_, source) in programs("programs").into_iter().chain(programs("policies")) {
        let tokens = read(&source, &mut kinds);
        for (at, (kind, text)) in tokens.iter().enumerate() {
            if *kind != SyntaxKind::Name {
                continue;
            }
            let before = |by: usize| at.checked_sub(by).map(|at| &tokens[at]);
            let behind_dot = before(1).is_some_and(|(kind, _)| *kind == SyntaxKind::Dot);
            let is_called =
                tokens.get(at + 1).is_some_and(|(kind, _)| *kind == SyntaxKind::LeftParen);
            words.insert(text.clone());
            if behind_dot {
                members.insert(text.clone());
                if let Some((_, namespace)) = before(2) {
                    namespaced.insert(format!("{namespace}.{text}"));
                }
            } else if is_called {
                called.insert(text.clone());
            }
        }
    }
    let mut lacking: Vec<String> = SyntaxKind::ALL
        .iter()
        .filter(|kind| {
            // A question mark is read only to say that it means nothing here.
            use SyntaxKind::{End, Error, Question, Unknown};
            !matches!(kind, Unknown | End | Error | Question) && !kinds.contains(kind)
        })
        .map(|kind| format!("{kind:?}"))
        .collect();
    for page in docs::all() {
        let used = match page.kind {
            Kind::Builtin => called.contains(page.name),
            Kind::Method => members.contains(page.name),
            // Secrets are written as `vault://path`.
            Kind::Call if page.name == "secret.read" => kinds.contains(&SyntaxKind::Secret),
            Kind::Call if page.name.contains('.') => namespaced.contains(page.name),
            Kind::Call => called.contains(page.name),
            Kind::Keyword if page.name == "vault" => kinds.contains(&SyntaxKind::Secret),
            Kind::Keyword => words.contains(page.name),
        };
        if !used {
            lacking.push(format!("{:?} {} {}", page.kind, page.receiver, page.name));
        }
        if page.kind == Kind::Keyword {
            let keys = listed(page).filter(|key| !words.contains(*key));
            lacking.extend(keys.map(|key| format!("{key} of {}", page.name)));
        }
    }
    lacking.extend(
        operations::AMBIENT.iter().filter(|name| !words.contains(**name)).map(|n| (*n).to_owned()),
    );
    assert!(lacking.is_empty(), "no program uses {lacking:#?}");
}
