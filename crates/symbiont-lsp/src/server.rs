//! The conversation: which documents are open, what is waiting, and who answers what.
//!
//! # What holds
//!
//! - Messages are worked on in the order in which they came, one at a time.
//! - Every request gets exactly one answer, whatever happens while it is computed.
//! - Diagnostics are computed when no message waits, and for the last version only.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};

use lsp_server::{ErrorCode, Message, Notification, Request, RequestId, Response};
use lsp_types::notification::{
    Cancel, DidChangeTextDocument, DidCloseTextDocument, DidOpenTextDocument, Exit,
    Notification as _, PublishDiagnostics,
};
use lsp_types::request::{self, Request as Method};
use lsp_types::{
    DidChangeTextDocumentParams, DidCloseTextDocumentParams, DidOpenTextDocumentParams,
    InitializeParams, InitializeResult, PublishDiagnosticsParams, SemanticTokensFullDeltaResult,
    SemanticTokensRangeResult, SemanticTokensResult, ServerInfo, TextDocumentPositionParams, Uri,
};
use serde_json::Value;

use crate::Ended;
use crate::answers::{self, Client, Tokens};
use crate::document::Document;
use crate::text::Text;

/// How many messages wait here at most; the others wait in the stream.
pub(crate) const MOST_WAITING: usize = 1024;

/// How many documents may be open.
const MOST_DOCUMENTS: usize = 10_000;

/// Why a request has no answer.
#[derive(Debug)]
pub(crate) struct Refusal {
    code: ErrorCode,
    message: String,
}

impl Refusal {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// What was asked for makes no sense; the client shows the words to whoever asked.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::RequestFailed, message)
    }
}

type Answer<T> = Result<T, Refusal>;

/// A document and the colours that its client was last told.
struct Open {
    document: Document,
    tokens: Option<(u64, Tokens)>,
}

/// The state of the conversation.
#[derive(Default)]
pub struct Server {
    inbox: VecDeque<Message>,
    /// The requests in the inbox, and whether the client still wants them.
    waiting: HashMap<RequestId, bool>,
    /// How many changes of each document are in the inbox.
    changes: HashMap<String, usize>,
    client: Option<Client>,
    process: Option<u32>,
    documents: HashMap<String, Open>,
    /// Those whose diagnostics the client has not got yet.
    stale: BTreeSet<String>,
    told: u64,
    shut_down: bool,
    ended: Option<Ended>,
}

impl Server {
    /// Takes a message, to work on it later.
    pub fn take(&mut self, message: Message) {
        match &message {
            Message::Request(request) => {
                self.waiting.insert(request.id.clone(), true);
            }
            Message::Notification(Notification { method, params }) => match method.as_str() {
                DidChangeTextDocument::METHOD => {
                    *self.changes.entry(document_of(params).to_owned()).or_default() += 1;
                }
                Cancel::METHOD => {
                    let id = serde_json::from_value(params["id"].clone());
                    if let Ok(id) = id
                        && let Some(wanted) = self.waiting.get_mut(&id)
                    {
                        *wanted = false;
                    }
                    return;
                }
                _ => {}
            },
            Message::Response(_) => return,
        }
        self.inbox.push_back(message);
    }

    /// Whether so much waits that no more should be taken before some of it is done.
    pub fn is_full(&self) -> bool {
        self.inbox.len() >= MOST_WAITING
    }

    /// Whether there is nothing to do.
    pub fn is_idle(&self) -> bool {
        self.inbox.is_empty() && self.stale.is_empty()
    }

    /// How the conversation ended, once it has.
    pub fn ended(&self) -> Option<Ended> {
        self.ended
    }

    /// The client's process, once that is known.
    pub fn client(&self) -> Option<u32> {
        self.process
    }

    /// Does the next piece of work: the first message, or the diagnostics of one document.
    pub fn work(&mut self) -> Vec<Message> {
        match self.inbox.pop_front() {
            Some(Message::Request(request)) => vec![self.request(request).into()],
            Some(Message::Notification(notification)) => {
                self.notification(notification).into_iter().collect()
            }
            // Nothing is ever asked of the client.
            Some(Message::Response(_)) => Vec::new(),
            None => self.diagnostics().into_iter().collect(),
        }
    }

    fn diagnostics(&mut self) -> Option<Message> {
        let uri = self.stale.pop_first()?;
        let document = &self.documents.get(&uri)?.document;
        let diagnostics =
            catch_unwind(AssertUnwindSafe(|| answers::diagnostics(document))).unwrap_or_default();
        Some(publish(document.uri.clone(), diagnostics, Some(document.version)))
    }

    // Notifications.

    fn notification(&mut self, notification: Notification) -> Option<Message> {
        let Notification { method, params } = notification;
        match method.as_str() {
            Exit::METHOD => {
                self.ended = Some(if self.shut_down { Ended::Exit } else { Ended::Abrupt });
            }
            // A notification that cannot be read has nobody who waits for an answer.
            DidOpenTextDocument::METHOD => {
                self.open(serde_json::from_value(params).ok()?);
            }
            DidChangeTextDocument::METHOD => {
                let key = document_of(&params);
                if let Some(changes) = self.changes.get_mut(key) {
                    *changes -= 1;
                    if *changes == 0 {
                        self.changes.remove(key);
                    }
                }
                self.change(serde_json::from_value(params).ok()?);
            }
            DidCloseTextDocument::METHOD => {
                return self.close(serde_json::from_value(params).ok()?);
            }
            // The rest is not for us.
            _ => {}
        }
        None
    }

    fn open(&mut self, params: DidOpenTextDocumentParams) {
        let Some(client) = &self.client else { return };
        let item = params.text_document;
        let key = item.uri.to_string();
        if self.documents.len() >= MOST_DOCUMENTS && !self.documents.contains_key(&key) {
            return;
        }
        let document = Document::new(item.uri, item.version, item.text, client.encoding);
        self.documents.insert(key.clone(), Open { document, tokens: None });
        self.stale.insert(key);
    }

    fn change(&mut self, params: DidChangeTextDocumentParams) {
        let key = params.text_document.uri.to_string();
        let Some(open) = self.documents.get_mut(&key) else { return };
        let empty = Text::new(String::new(), open.document.text.encoding());
        let mut text = std::mem::replace(&mut open.document.text, empty);
        text.change(params.content_changes);
        open.document =
            Document::with(params.text_document.uri, params.text_document.version, text);
        self.stale.insert(key);
    }

    fn close(&mut self, params: DidCloseTextDocumentParams) -> Option<Message> {
        let uri = params.text_document.uri;
        let key = uri.to_string();
        self.documents.remove(&key)?;
        self.stale.remove(&key);
        Some(publish(uri, Vec::new(), None))
    }

    // Requests.

    fn request(&mut self, request: Request) -> Response {
        let Request { id, method, params } = request;
        let answer = match self.unwanted(&id, &params) {
            Some(refusal) => Err(refusal),
            None => catch_unwind(AssertUnwindSafe(|| self.answer(&method, params))).unwrap_or_else(
                |_| {
                    let words = format!("`{method}` could not be computed: please report it");
                    Err(Refusal::new(ErrorCode::InternalError, words))
                },
            ),
        };
        match answer {
            Ok(value) => Response { id, response_result: Ok(value) },
            Err(Refusal { code, message }) => Response::new_err(id, code as i32, message),
        }
    }

    /// Why nobody wants the answer any more, if so: later messages say.
    fn unwanted(&mut self, id: &RequestId, params: &Value) -> Option<Refusal> {
        if self.waiting.remove(id) == Some(false) {
            return Some(Refusal::new(ErrorCode::RequestCanceled, "cancelled"));
        }
        let words = "the document has changed since";
        let changed = self.changes.contains_key(document_of(params));
        changed.then(|| Refusal::new(ErrorCode::ContentModified, words))
    }

    fn answer(&mut self, method: &str, params: Value) -> Answer<Value> {
        if self.shut_down {
            let words = "the server has been asked to shut down";
            return Err(Refusal::new(ErrorCode::InvalidRequest, words));
        }
        if method == request::Initialize::METHOD {
            return on::<request::Initialize>(params, |params| self.initialize(&params));
        }
        let Some(client) = self.client.clone() else {
            let words = "the first request is `initialize`";
            return Err(Refusal::new(ErrorCode::ServerNotInitialized, words));
        };
        match method {
            request::Shutdown::METHOD => {
                self.shut_down = true;
                Ok(Value::Null)
            }
            request::HoverRequest::METHOD => on::<request::HoverRequest>(params, |params| {
                let (document, offset) = self.at(&params.text_document_position_params)?;
                Ok(answers::hover(document, offset))
            }),
            request::Completion::METHOD => on::<request::Completion>(params, |params| {
                let (document, offset) = self.at(&params.text_document_position)?;
                Ok(Some(answers::completion(document, offset, &client).into()))
            }),
            request::ResolveCompletionItem::METHOD => {
                on::<request::ResolveCompletionItem>(params, |item| Ok(answers::resolve(item)))
            }
            request::SignatureHelpRequest::METHOD => {
                on::<request::SignatureHelpRequest>(params, |params| {
                    let (document, offset) = self.at(&params.text_document_position_params)?;
                    Ok(answers::signature(document, offset))
                })
            }
            request::GotoDefinition::METHOD => on::<request::GotoDefinition>(params, |params| {
                let (document, offset) = self.at(&params.text_document_position_params)?;
                Ok(answers::definition(document, offset).map(Into::into))
            }),
            request::References::METHOD => on::<request::References>(params, |params| {
                let (document, offset) = self.at(&params.text_document_position)?;
                let declared = params.context.include_declaration;
                Ok(answers::references(document, offset, declared))
            }),
            request::DocumentHighlightRequest::METHOD => {
                on::<request::DocumentHighlightRequest>(params, |params| {
                    let (document, offset) = self.at(&params.text_document_position_params)?;
                    Ok(answers::highlight(document, offset))
                })
            }
            request::PrepareRenameRequest::METHOD => {
                on::<request::PrepareRenameRequest>(params, |params| {
                    let (document, offset) = self.at(&params)?;
                    answers::prepare_rename(document, offset).map(Some).map_err(Refusal::failed)
                })
            }
            request::Rename::METHOD => on::<request::Rename>(params, |params| {
                let (document, offset) = self.at(&params.text_document_position)?;
                let renamed = answers::rename(document, offset, &params.new_name, &client);
                renamed.map(Some).map_err(Refusal::failed)
            }),
            request::Formatting::METHOD => on::<request::Formatting>(params, |params| {
                let document = self.document(&params.text_document.uri)?;
                Ok(answers::formatting(document))
            }),
            request::DocumentSymbolRequest::METHOD => {
                on::<request::DocumentSymbolRequest>(params, |params| {
                    let document = self.document(&params.text_document.uri)?;
                    Ok(Some(answers::symbols(document, &client)))
                })
            }
            request::FoldingRangeRequest::METHOD => {
                on::<request::FoldingRangeRequest>(params, |params| {
                    let document = self.document(&params.text_document.uri)?;
                    Ok(Some(answers::folding(document)))
                })
            }
            request::SelectionRangeRequest::METHOD => {
                on::<request::SelectionRangeRequest>(params, |params| {
                    let document = self.document(&params.text_document.uri)?;
                    Ok(Some(answers::selection(document, &params.positions)))
                })
            }
            request::CodeActionRequest::METHOD => {
                on::<request::CodeActionRequest>(params, |params| {
                    let document = self.document(&params.text_document.uri)?;
                    Ok(Some(answers::actions(document, &params, &client)))
                })
            }
            request::SemanticTokensFullRequest::METHOD => {
                on::<request::SemanticTokensFullRequest>(params, |params| {
                    let (id, open) = self.coloured(&params.text_document.uri)?;
                    let tokens = answers::tokens(&open.document, None);
                    let told = tokens.told(id);
                    open.tokens = Some((id, tokens));
                    Ok(Some(SemanticTokensResult::Tokens(told)))
                })
            }
            request::SemanticTokensFullDeltaRequest::METHOD => on::<
                request::SemanticTokensFullDeltaRequest,
            >(params, |params| {
                let (id, open) = self.coloured(&params.text_document.uri)?;
                let tokens = answers::tokens(&open.document, None);
                let before = open.tokens.take();
                let before = before.filter(|(id, _)| id.to_string() == params.previous_result_id);
                let told = match before {
                    Some((_, before)) => tokens.since(&before, id),
                    None => SemanticTokensFullDeltaResult::Tokens(tokens.told(id)),
                };
                open.tokens = Some((id, tokens));
                Ok(Some(told))
            }),
            request::SemanticTokensRangeRequest::METHOD => {
                on::<request::SemanticTokensRangeRequest>(params, |params| {
                    let document = self.document(&params.text_document.uri)?;
                    let span = document.text.span(params.range);
                    let told = answers::tokens(document, Some(span)).plain();
                    Ok(Some(SemanticTokensRangeResult::Tokens(told)))
                })
            }
            other => {
                let words = format!("there is no method `{other}` here");
                Err(Refusal::new(ErrorCode::MethodNotFound, words))
            }
        }
    }

    fn initialize(&mut self, params: &InitializeParams) -> Answer<InitializeResult> {
        if self.client.is_some() {
            let words = "`initialize` was asked already";
            return Err(Refusal::new(ErrorCode::InvalidRequest, words));
        }
        let client = Client::of(&params.capabilities);
        let capabilities = answers::capabilities(&client);
        self.client = Some(client);
        self.process = params.process_id;
        let name = "symbiont".to_owned();
        let version = Some(env!("CARGO_PKG_VERSION").to_owned());
        Ok(InitializeResult { capabilities, server_info: Some(ServerInfo { name, version }) })
    }

    // Documents.

    fn document(&self, uri: &Uri) -> Answer<&Document> {
        self.documents.get(uri.as_str()).map(|open| &open.document).ok_or_else(|| unopened(uri))
    }

    fn at(&self, place: &TextDocumentPositionParams) -> Answer<(&Document, usize)> {
        let document = self.document(&place.text_document.uri)?;
        Ok((document, document.text.offset(place.position)))
    }

    fn coloured(&mut self, uri: &Uri) -> Answer<(u64, &mut Open)> {
        self.told += 1;
        let open = self.documents.get_mut(uri.as_str()).ok_or_else(|| unopened(uri))?;
        Ok((self.told, open))
    }
}

/// The document that parameters speak of; empty where they speak of none.
fn document_of(params: &Value) -> &str {
    params["textDocument"]["uri"].as_str().unwrap_or_default()
}

fn unopened(uri: &Uri) -> Refusal {
    Refusal::new(ErrorCode::InvalidParams, format!("`{}` is not open", uri.as_str()))
}

/// Answers a method whose parameters can be read.
fn on<M: Method>(
    params: Value,
    answer: impl FnOnce(M::Params) -> Answer<M::Result>,
) -> Answer<Value> {
    let invalid = |error: serde_json::Error| {
        Refusal::new(ErrorCode::InvalidParams, format!("`{}`: {error}", M::METHOD))
    };
    let params = serde_json::from_value(params).map_err(invalid)?;
    serde_json::to_value(answer(params)?)
        .map_err(|error| Refusal::new(ErrorCode::InternalError, error.to_string()))
}

fn publish(uri: Uri, diagnostics: Vec<lsp_types::Diagnostic>, version: Option<i32>) -> Message {
    let params = PublishDiagnosticsParams { uri, diagnostics, version };
    Notification::new(PublishDiagnostics::METHOD.to_owned(), params).into()
}
