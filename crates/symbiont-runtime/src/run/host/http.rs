//! Calls over HTTP.
//!
//! A call's URL is brought into its one spelling, its query included, before anything is decided:
//! what a policy sees is what is sent.

use std::time::Duration;

use symbiont_dsl::machine::HostCall;
use symbiont_dsl::operations::{self, EffectClass};
use symbiont_dsl::tools::header_name;
use symbiont_dsl::url::Url;
use symbiont_dsl::value::{ErrorValue, Value};

use super::{Done, LARGEST_FILE, Run, Texts, argument, bytes, option};
use crate::http::{HttpError, HttpRequest, HttpResponse};

/// The methods of `http.request`.
const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Brings the arguments of a call into their one form.
///
/// # Errors
///
/// A URL, an entry of the query, a method or a header that can't be sent.
pub(super) fn spell(name: &str, args: &mut [Value]) -> Result<(), ErrorValue> {
    let refused = |message: String| ErrorValue::new("TypeError", format!("`{name}` {message}"));
    let Some(first) = args.first() else {
        return Err(refused("needs its argument `url`".to_owned()));
    };
    let Some(text) = first.as_str() else {
        return Err(refused(format!("takes a string as `url`, and got {}", first.type_name())));
    };
    let mut url = Url::parse(text)
        .map_err(|words| refused(format!("can't use `{}`: {words}", shown(text))))?;
    if let Some(Value::Map(options)) = args.get(1) {
        match options.get("query") {
            None | Some(Value::Null | Value::None) => {}
            Some(Value::Map(entries)) => {
                for (key, value) in entries.iter() {
                    let each = match value {
                        Value::Array(items) => &items[..],
                        value => std::slice::from_ref(value),
                    };
                    for value in each {
                        let Some(text) = plain(value) else {
                            let got = value.type_name();
                            return Err(refused(format!("can't send {got} as `{key}` in a URL")));
                        };
                        url.push_query(key, &text);
                    }
                }
                // Once more, for its length.
                url = Url::parse(&url.to_string()).map_err(|words| {
                    refused(format!("can't use its URL with the query: {words}"))
                })?;
            }
            Some(other) => {
                return Err(refused(format!(
                    "takes a record as `query`, and got {}",
                    other.type_name()
                )));
            }
        }
        match options.get("headers") {
            None | Some(Value::Null | Value::None) => {}
            Some(Value::Map(headers)) => {
                for (key, value) in headers.iter() {
                    header_name(key).map_err(|words| {
                        refused(format!("has the header `{}`, which {words}", shown(key)))
                    })?;
                    let text = header(value).ok_or_else(|| {
                        refused(format!("can't send {} as the header `{key}`", value.type_name()))
                    })?;
                    if !text.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte)) {
                        return Err(refused(format!(
                            "can't send the header `{key}`: it holds more than visible ASCII"
                        )));
                    }
                }
            }
            Some(other) => {
                return Err(refused(format!(
                    "takes a record as `headers`, and got {}",
                    other.type_name()
                )));
            }
        }
        if let Some(key) = options.get("idempotency_key")
            && !key
                .as_str()
                .is_some_and(|key| !key.is_empty() && key.bytes().all(|b| b.is_ascii_graphic()))
        {
            return Err(refused("takes a string of visible ASCII as `idempotency_key`".to_owned()));
        }
    }
    args[0] = Value::from(url.to_string());
    if let Some(method) = args.get_mut(2) {
        let name = method.to_string().to_uppercase();
        if !METHODS.contains(&name.as_str()) {
            return Err(refused(format!("takes one of {} as `method`", METHODS.join(", "))));
        }
        *method = Value::from(name);
    } else if name == "http.request" {
        return Err(refused("needs its argument `method`".to_owned()));
    }
    Ok(())
}

fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

/// A value as a part of a URL; a secret is none, since URLs are shown.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(_) | Value::Int(_) | Value::Float(_) | Value::Bool(_) => {
            Some(value.to_string())
        }
        _ => None,
    }
}

fn header(value: &Value) -> Option<String> {
    match value {
        Value::Secret(secret) => Some(secret.text.to_string()),
        value => plain(value),
    }
}

fn method(call: &HostCall) -> String {
    match &*call.name {
        "http.request" => call.args.get(2).map(ToString::to_string).unwrap_or_default(),
        name => name.trim_start_matches("http.").to_uppercase(),
    }
}

/// The call in a line. Of headers and what is sent along only the names and the size are told:
/// secrets are there.
pub(super) fn describe(call: &HostCall) -> String {
    let url = call.args.first().map(ToString::to_string).unwrap_or_default();
    let mut line = format!("{} {url}", method(call));
    if let Some(Value::Map(headers)) = option(call, "headers") {
        let names: Vec<&str> = headers.keys().map(|name| &**name).collect();
        line.push_str(&format!(", headers {}", names.join(" ")));
    }
    if let Some(Ok(body)) = option(call, "body").map(bytes) {
        line.push_str(&format!(", {} bytes", body.len()));
    }
    line
}

/// Makes a call.
pub(super) async fn ask(run: &Run, call: &HostCall) -> Result<Done, ErrorValue> {
    let url = argument(call, 0).map(ToString::to_string).unwrap_or_default();
    let url = Url::parse(&url).map_err(|words| ErrorValue::new("TypeError", words))?;
    let mut headers: Vec<(String, String)> = Vec::new();
    if let Some(Value::Map(given)) = option(call, "headers") {
        headers.extend(
            given.iter().filter_map(|(name, value)| Some((name.to_string(), header(value)?))),
        );
    }
    if let Some(key) = option(call, "idempotency_key") {
        headers.push(("idempotency-key".to_owned(), key.to_string()));
    }
    let has_type = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    let (body, of_type) = match option(call, "body") {
        None | Some(Value::Null | Value::None) => (Vec::new(), None),
        Some(value @ (Value::String(_) | Value::Secret(_))) => {
            (bytes(value)?, Some("text/plain; charset=utf-8"))
        }
        Some(value @ Value::Bytes(_)) => (bytes(value)?, Some("application/octet-stream")),
        Some(value) => (bytes(value)?, Some("application/json")),
    };
    if body.len() > LARGEST_FILE {
        return Err(ErrorValue::new("LimitExceeded", "a request may have 16 MiB"));
    }
    if let Some(of_type) = of_type.filter(|_| !has_type) {
        headers.push(("content-type".to_owned(), of_type.to_owned()));
    }
    let timeout = match option(call, "timeout") {
        None => None,
        Some(value) => Some(super::duration(call, "timeout", value)?),
    };
    let verify_tls = match option(call, "verify_tls") {
        None | Some(Value::Null | Value::None) => true,
        Some(Value::Bool(verify)) => *verify,
        Some(other) => return Err(super::type_error(call, "verify_tls", "a bool", other)),
    };
    let request = HttpRequest {
        method: method(call),
        url,
        headers,
        body,
        timeout: timeout.map(|limit: Duration| limit.min(run.definition.limits.execution_timeout)),
        max_bytes: None,
        verify_tls,
    };
    let class = operations::operation(&call.name, &Texts(call)).class;
    let repeatable = matches!(class, EffectClass::Read | EffectClass::Idempotent);
    let response = send(run, request, repeatable).await?;
    let note = format!(
        "{} from {}, {} bytes{}",
        response.status,
        response.address,
        response.body.len(),
        if response.truncated { ", cut" } else { "" }
    );
    Ok(Done::new(value(response), note))
}

/// Sends a request; `repeatable` is whether it may be sent again when nobody knows what became of
/// it.
pub(super) async fn send(
    run: &Run,
    request: HttpRequest,
    repeatable: bool,
) -> Result<HttpResponse, ErrorValue> {
    let client = run.services.http.clone().ok_or_else(|| {
        ErrorValue::new(
            "NetworkError",
            "this lifecycle controller was built without HTTP (use `Runtime`, or \
             `builder().http(...)`)",
        )
    })?;
    client.send(request).await.map_err(|error| {
        let (kind, retryable) = match &error {
            HttpError::Refused(_) => ("NetworkError", false),
            HttpError::Unreachable(_) => ("NetworkError", true),
            HttpError::Interrupted(_) => ("NetworkError", repeatable),
            HttpError::Timeout(_) => ("Timeout", repeatable),
        };
        ErrorValue::new(kind, error.to_string()).with_retryable(retryable)
    })
}

/// An answer as a program sees it.
fn value(response: HttpResponse) -> Value {
    let HttpResponse { status, headers, mut body, truncated, address: _ } = response;
    let mut named: Vec<(String, String)> = Vec::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(&value).into_owned();
        match named.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => {
                known.push_str(", ");
                known.push_str(&value);
            }
            None => named.push((name, value)),
        }
    }
    // What was cut in the middle of a character ends before it.
    if truncated
        && let Err(error) = std::str::from_utf8(&body)
        && error.error_len().is_none()
    {
        body.truncate(error.valid_up_to());
    }
    let body = match String::from_utf8(body) {
        Ok(text) => Value::from(text),
        Err(error) => Value::Bytes(error.into_bytes().into()),
    };
    Value::map([
        ("status", Value::Int(status.into())),
        ("headers", Value::map(named.into_iter().map(|(name, value)| (name, Value::from(value))))),
        ("body", body),
        ("truncated", Value::Bool(truncated)),
    ])
}
