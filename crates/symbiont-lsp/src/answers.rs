//! What the server answers: one plain function for each question.
//!
//! # What holds
//!
//! - An answer depends on nothing but the document, the place and what the client said that it can
//!   show.
//! - Every question has an answer in every text, however faulty; nothing to say is an answer.

mod completion;
mod context;
mod diagnostics;
mod hover;
mod layout;
mod names;
mod role;
mod signature;
mod tokens;
mod words;

pub use completion::{completion, resolve};
pub use diagnostics::{actions, diagnostics};
pub use hover::hover;
pub use layout::{folding, formatting, selection, symbols};
pub use names::{definition, highlight, prepare_rename, references, rename};
pub use signature::signature;
pub use tokens::{Tokens, tokens};

use lsp_types::{
    ClientCapabilities, CodeActionKind, CodeActionOptions, CompletionOptions,
    FoldingRangeProviderCapability, HoverProviderCapability, OneOf, RenameOptions,
    SelectionRangeProviderCapability, SemanticTokensFullOptions, SemanticTokensOptions,
    ServerCapabilities, SignatureHelpOptions, TextDocumentSyncCapability, TextDocumentSyncKind,
    TextDocumentSyncOptions, TextEdit, WorkspaceEdit,
};

use crate::document::Document;
use crate::text::Encoding;

/// What the client can show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// What places are counted in.
    pub encoding: Encoding,
    /// Whether it knows snippets.
    pub snippets: bool,
    /// Whether it shows symbols inside symbols.
    pub nested_symbols: bool,
    /// Whether a change may say to which version of a document it belongs.
    pub versioned_edits: bool,
}

impl Client {
    /// What a client says of itself.
    pub fn of(capabilities: &ClientCapabilities) -> Self {
        let general = capabilities.general.as_ref();
        let offered = general.and_then(|general| general.position_encodings.as_deref());
        let document = capabilities.text_document.as_ref();
        let completion = document.and_then(|document| document.completion.as_ref());
        let item = completion.and_then(|completion| completion.completion_item.as_ref());
        let symbols = document.and_then(|document| document.document_symbol.as_ref());
        let workspace = capabilities.workspace.as_ref();
        let edits = workspace.and_then(|workspace| workspace.workspace_edit.as_ref());
        let yes = |said: Option<bool>| said.unwrap_or(false);
        Self {
            encoding: Encoding::agreed(offered.unwrap_or_default()),
            snippets: yes(item.and_then(|item| item.snippet_support)),
            nested_symbols: yes(symbols.and_then(|it| it.hierarchical_document_symbol_support)),
            versioned_edits: yes(edits.and_then(|edits| edits.document_changes)),
        }
    }
}

/// What the server can do.
pub fn capabilities(client: &Client) -> ServerCapabilities {
    let sync = TextDocumentSyncOptions {
        open_close: Some(true),
        change: Some(TextDocumentSyncKind::INCREMENTAL),
        ..TextDocumentSyncOptions::default()
    };
    let tokens = SemanticTokensOptions {
        legend: tokens::legend(),
        range: Some(true),
        full: Some(SemanticTokensFullOptions::Delta { delta: Some(true) }),
        ..SemanticTokensOptions::default()
    };
    ServerCapabilities {
        position_encoding: Some(client.encoding.kind()),
        text_document_sync: Some(TextDocumentSyncCapability::Options(sync)),
        hover_provider: Some(HoverProviderCapability::Simple(true)),
        completion_provider: Some(CompletionOptions {
            trigger_characters: Some(vec![".".to_owned(), "\"".to_owned(), ":".to_owned()]),
            resolve_provider: Some(true),
            ..CompletionOptions::default()
        }),
        signature_help_provider: Some(SignatureHelpOptions {
            trigger_characters: Some(vec!["(".to_owned(), ",".to_owned()]),
            ..SignatureHelpOptions::default()
        }),
        definition_provider: Some(OneOf::Left(true)),
        references_provider: Some(OneOf::Left(true)),
        document_highlight_provider: Some(OneOf::Left(true)),
        document_symbol_provider: Some(OneOf::Left(true)),
        document_formatting_provider: Some(OneOf::Left(true)),
        folding_range_provider: Some(FoldingRangeProviderCapability::Simple(true)),
        selection_range_provider: Some(SelectionRangeProviderCapability::Simple(true)),
        code_action_provider: Some(
            CodeActionOptions {
                code_action_kinds: Some(vec![CodeActionKind::QUICKFIX]),
                ..CodeActionOptions::default()
            }
            .into(),
        ),
        rename_provider: Some(OneOf::Right(RenameOptions {
            prepare_provider: Some(true),
            work_done_progress_options: lsp_types::WorkDoneProgressOptions::default(),
        })),
        semantic_tokens_provider: Some(tokens.into()),
        ..ServerCapabilities::default()
    }
}

/// Changes of one document, in the form that the client takes.
fn edit(document: &Document, edits: Vec<TextEdit>, client: &Client) -> WorkspaceEdit {
    let uri = document.uri.clone();
    if !client.versioned_edits {
        return WorkspaceEdit::new([(uri, edits)].into());
    }
    let text_document =
        lsp_types::OptionalVersionedTextDocumentIdentifier { uri, version: Some(document.version) };
    let edits = edits.into_iter().map(OneOf::Left).collect();
    let changed = lsp_types::TextDocumentEdit { text_document, edits };
    let changes = lsp_types::DocumentChanges::Edits(vec![changed]);
    WorkspaceEdit { document_changes: Some(changes), ..WorkspaceEdit::default() }
}
