//! Every question at every place of every text has an answer, and no answer takes too long.

use lsp_types::{CodeActionContext, CodeActionParams, Range};
use proptest::prelude::*;
use symbiont_lsp::{Document, answers};

use crate::{client, document, programs};

/// Asks everything about a place.
fn ask(document: &Document, at: usize) {
    answers::hover(document, at);
    answers::completion(document, at, &client());
    answers::signature(document, at);
    answers::definition(document, at);
    answers::references(document, at, true);
    answers::highlight(document, at);
    if answers::prepare_rename(document, at).is_ok() {
        // A name that is nowhere else can always be given.
        let _refused_or_not = answers::rename(document, at, "entirely_new", &client());
    }
    answers::selection(document, &[document.text.position(at)]);
}

/// Asks everything about a document.
fn ask_all(document: &Document) {
    answers::diagnostics(document);
    answers::symbols(document, &client());
    answers::folding(document);
    answers::formatting(document);
    answers::tokens(document, None);
    let end = document.text.position(document.source().len());
    let params = CodeActionParams {
        text_document: lsp_types::TextDocumentIdentifier { uri: document.uri.clone() },
        range: Range { start: lsp_types::Position::default(), end },
        context: CodeActionContext::default(),
        work_done_progress_params: Default::default(),
        partial_result_params: Default::default(),
    };
    answers::actions(document, &params, &client());
}

#[test]
fn every_place_of_the_programs_has_answers() {
    for (path, source) in programs() {
        let document = document(&source);
        ask_all(&document);
        for (at, _) in source.char_indices().step_by(37) {
            ask(&document, at);
        }
        // A name that nothing else has never means anything else.
        for symbol in document.names().analysis.symbols().iter().take(30) {
            let renamed = answers::rename(&document, symbol.span.start, "entirely_new", &client());
            if let Err(words) = renamed {
                assert!(
                    words.contains("the key that a pattern looks for"),
                    "{}: {words}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn a_program_cut_off_anywhere_has_answers() {
    for (_, source) in programs() {
        for (at, _) in source.char_indices().step_by(101) {
            let document = document(&source[..at]);
            ask_all(&document);
            ask(&document, at);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_text_has_answers(
        words in prop::collection::vec(
            prop::sample::select(&[
                "agent", "a", "{", "}", "(", ")", "with", "policy", "allow", ":", "=", "x", ".", "fs",
                "\"", "let", "if", "match", "=>", ",", ";", "[", "]", "type", "<", ">", "use", "\u{e4}",
                "//", "/*", "\n", "for", "in", "catch", "try", "memory", "schedule", "vault://", "1s",
            ][..]),
            0..40,
        ),
        at in 0usize..200,
    ) {
        let text = words.join(" ");
        let document = document(&text);
        let mut at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        ask_all(&document);
        ask(&document, at);
    }
}

#[test]
fn what_nests_deeply_has_answers() {
    // In a thread with the stack that a test has, which is less than a program's.
    for (open, close) in [("(", ")"), ("[", "]"), ("{", "}"), ("!", ""), ("f(", ")"), ("x.", "y")] {
        let text =
            format!("agent a {{ with {{ {}1{} }} }}", open.repeat(50_000), close.repeat(50_000));
        let document = document(&text);
        ask_all(&document);
        ask(&document, text.len() / 2);
    }
}
