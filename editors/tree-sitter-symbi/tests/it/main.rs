//! The grammar against the language's own parser.

use std::path::{Path, PathBuf};

use symbiont_dsl::diagnostic::Severity;
use tree_sitter::{Node, Parser, Tree};

mod agreement;
mod corpus;
mod queries;

/// Reads a source with the grammar.
fn parse(source: &str) -> Tree {
    parse_again(source, None)
}

/// Reads a source of which an older version was read.
fn parse_again(source: &str, older: Option<&Tree>) -> Tree {
    let mut parser = Parser::new();
    parser.set_language(&tree_sitter_symbi::LANGUAGE.into()).unwrap();
    parser.parse(source, older).unwrap()
}

/// Whether the language's own parser finds no error.
fn accepted(source: &str) -> bool {
    let parsed = symbiont_dsl::syntax::parse(source);
    parsed.diagnostics.iter().all(|diagnostic| diagnostic.severity != Severity::Error)
}

/// The first place that the grammar could not read, if there is one.
fn fault(tree: &Tree) -> Option<String> {
    let mut cursor = tree.walk();
    loop {
        let node = cursor.node();
        if node.is_error() || node.is_missing() {
            let place = node.start_position();
            return Some(format!("line {}, column {}: {node:?}", place.row + 1, place.column + 1));
        }
        let deeper = node.has_error() && cursor.goto_first_child();
        while !deeper && !cursor.goto_next_sibling() {
            if !cursor.goto_parent() {
                return None;
            }
        }
    }
}

/// The text of a node.
fn text<'a>(node: Node<'_>, source: &'a str) -> &'a str {
    &source[node.byte_range()]
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The programs in a folder of the repository, by path.
fn programs(folder: &str) -> Vec<(PathBuf, String)> {
    let mut paths = files(&root().join(folder), "symbi");
    paths.sort();
    assert!(!paths.is_empty(), "no programs in {folder}");
    paths.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

/// The files with this extension in a folder and the folders in it.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries =
        std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found
}
