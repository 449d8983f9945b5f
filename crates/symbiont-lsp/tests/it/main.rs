//! The language server through its public face: what each answer says, and the conversation.

use std::path::{Path, PathBuf};

use symbiont_lsp::answers::Client;
use symbiont_lsp::{Document, Encoding};

mod answers;
mod conversation;
mod random;

/// A document, and the place in it that `$0` marks.
#[track_caller]
fn marked(text: &str) -> (Document, usize) {
    let at = text.find("$0").expect("`$0` marks the place");
    (document(&text.replacen("$0", "", 1)), at)
}

fn document(text: &str) -> Document {
    let uri = "file:///agent.symbi".parse().expect("a URI");
    Document::new(uri, 1, text.to_owned(), Encoding::Utf16)
}

fn client() -> Client {
    Client {
        encoding: Encoding::Utf16,
        snippets: true,
        nested_symbols: true,
        versioned_edits: true,
    }
}

/// The programs that the language's own tests read.
fn programs() -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../symbiont-dsl/test_data/programs");
    let entries = std::fs::read_dir(folder).expect("the programs");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "symbi"));
    paths.sort();
    paths
        .into_iter()
        .map(|path| (path.clone(), std::fs::read_to_string(path).expect("text")))
        .collect()
}
