//! A document that the client has open.

use std::cell::OnceCell;

use lsp_types::Uri;
use symbiont_dsl::analysis::Analysis;
use symbiont_dsl::definition::{SourceKind, check, classify};
use symbiont_dsl::diagnostic::Diagnostic;
use symbiont_dsl::hir::Program;
use symbiont_dsl::syntax::{SyntaxNode, parse, tree};

use crate::text::{Encoding, Text};

/// The text of one version of a document, and what is known of it. Each part is computed when
/// somebody first asks.
#[derive(Debug)]
pub struct Document {
    /// Where the client keeps it.
    pub uri: Uri,
    /// Which version this is.
    pub version: i32,
    /// The text.
    pub text: Text,
    tree: OnceCell<SyntaxNode>,
    names: OnceCell<Names>,
    diagnostics: OnceCell<Vec<Diagnostic>>,
}

/// The program, and what its names and expressions mean.
#[derive(Debug)]
pub struct Names {
    /// The program.
    pub program: Program,
    /// What its names and expressions mean.
    pub analysis: Analysis,
}

impl Document {
    /// A document as the client opened it.
    pub fn new(uri: Uri, version: i32, text: String, encoding: Encoding) -> Self {
        Self::with(uri, version, Text::new(text, encoding))
    }

    /// A version of a document.
    pub(crate) fn with(uri: Uri, version: i32, text: Text) -> Self {
        Self {
            uri,
            version,
            text,
            tree: OnceCell::new(),
            names: OnceCell::new(),
            diagnostics: OnceCell::new(),
        }
    }

    /// The source.
    pub fn source(&self) -> &str {
        self.text.as_str()
    }

    /// The syntax tree.
    pub fn tree(&self) -> &SyntaxNode {
        self.tree.get_or_init(|| tree(self.source()))
    }

    /// The program, and what its names and expressions mean.
    pub fn names(&self) -> &Names {
        self.names.get_or_init(|| {
            let program = parse(self.source()).program;
            let analysis = Analysis::of(self.source(), &program);
            Names { program, analysis }
        })
    }

    /// What the checker found. A text in plain words is no program, and has nothing wrong with it.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        self.diagnostics.get_or_init(|| match classify(self.source()) {
            SourceKind::Instruction => Vec::new(),
            SourceKind::Program | SourceKind::Empty => check(self.source()).diagnostics,
        })
    }
}
