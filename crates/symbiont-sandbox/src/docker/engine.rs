//! The Engine API, as far as sandboxes need it: HTTP over a unix socket, one connection a call.
//!
//! # What holds
//!
//! - Every call has a deadline, and no answer is read further than [`MAX_ANSWER`].
//! - What an engine answers is data of another program: it is looked up, never trusted to be there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use symbiont_types::SandboxError;
use tokio::net::UnixStream;

/// The version of the API that all of this is in; engines from 20.10 on speak it.
const API: &str = "v1.41";
/// How long a call may take that only looks or begins something.
pub(crate) const SHORT: Duration = Duration::from_secs(30);
/// How long a call may take that makes an image.
pub(crate) const LONG: Duration = Duration::from_secs(300);
/// The longest answer that is read.
const MAX_ANSWER: usize = 16 << 20;

/// A way to an engine.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    socket: PathBuf,
}

/// What an engine answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Answer {
    /// As JSON; null where it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// What the engine says that was wrong.
    pub(crate) fn message(&self) -> String {
        match self.json()["message"].as_str() {
            Some(message) => message.chars().take(500).collect(),
            None => format!("the engine answered {}", self.status),
        }
    }
}

/// What a request carries.
pub(crate) enum Content<'a> {
    Nothing,
    Json(&'a Value),
    Tar(Vec<u8>),
}

impl Engine {
    pub(crate) fn at(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Asks, and reads the whole answer, whatever its status is. `what` says in words what this is for.
    pub(crate) async fn ask(
        &self,
        what: &str,
        method: Method,
        path: &str,
        content: Content<'_>,
        within: Duration,
    ) -> Result<Answer, SandboxError> {
        let asked = async {
            let response = self.send(method, path, content, false).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            Ok::<_, String>(Answer { status, body })
        };
        match tokio::time::timeout(within, asked).await {
            Ok(answer) => answer.map_err(|error| self.unavailable(what, &error)),
            Err(_) => {
                Err(SandboxError::Timeout { operation: format!("docker: {what}"), after: within })
            }
        }
    }

    /// The same where only success will do.
    pub(crate) async fn must(
        &self,
        what: &str,
        method: Method,
        path: &str,
        content: Content<'_>,
    ) -> Result<Answer, SandboxError> {
        let answer = self.ask(what, method, path, content, SHORT).await?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        Err(SandboxError::CreateFailed { reason: format!("docker: {what}: {}", answer.message()) })
    }

    /// Takes a connection over: bytes both ways, no HTTP any more.
    pub(crate) async fn hijack(
        &self,
        what: &str,
        path: &str,
    ) -> Result<TokioIo<hyper::upgrade::Upgraded>, SandboxError> {
        let taken = async {
            let response = self.send(Method::POST, path, Content::Nothing, true).await?;
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                return Err(format!("the engine answered {}", response.status()));
            }
            hyper::upgrade::on(response).await.map_err(|error| error.to_string())
        };
        match tokio::time::timeout(SHORT, taken).await {
            Ok(Ok(connection)) => Ok(TokioIo::new(connection)),
            Ok(Err(error)) => Err(self.unavailable(what, &error)),
            Err(_) => {
                Err(SandboxError::Timeout { operation: format!("docker: {what}"), after: SHORT })
            }
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content: Content<'_>,
        upgrade: bool,
    ) -> Result<Response<Incoming>, String> {
        let socket = UnixStream::connect(&self.socket).await.map_err(|error| error.to_string())?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(socket)).await.map_err(|error| error.to_string())?;
        tokio::spawn(connection.with_upgrades());
        let mut request =
            Request::builder().method(method).uri(format!("/{API}{path}")).header(HOST, "docker");
        if upgrade {
            request = request.header(CONNECTION, "Upgrade").header(UPGRADE, "tcp");
        }
        let (kind, body) = match content {
            Content::Nothing => (None, Bytes::new()),
            Content::Json(value) => (Some("application/json"), Bytes::from(value.to_string())),
            Content::Tar(bytes) => (Some("application/x-tar"), Bytes::from(bytes)),
        };
        if let Some(kind) = kind {
            request = request.header(CONTENT_TYPE, kind);
        }
        let request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
        sender.send_request(request).await.map_err(|error| error.to_string())
    }

    fn unavailable(&self, what: &str, error: &str) -> SandboxError {
        SandboxError::BackendUnavailable {
            reason: format!(
                "docker: {what}: {error} (at {}; is dockerd running, and may this user reach it?)",
                self.socket.display()
            ),
        }
    }
}

/// A value as a part of a query.
pub(crate) fn quoted(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(byte.into());
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}
