//! Calls of tools.

use std::sync::Arc;
use std::time::Duration;

use symbiont_dsl::machine::HostCall;
use symbiont_dsl::operations::{self, EffectClass, Operation};
use symbiont_dsl::tools::{Given, Output, Prepared, Refusal, Request, Tool};
use symbiont_dsl::value::{ErrorValue, Value, from_json_text};
use symbiont_types::PolicyEffect;

use super::{Done, Run, Texts, ask, cut, facts, http, quoted, refused, sandbox};
use crate::http::HttpRequest;
use crate::journal::Entry;
use crate::sandbox::Command;

/// Bytes of what a command says on standard error that its error tells.
const LONGEST_COMPLAINT: usize = 1000;

/// A call of a tool that the runtime knows, with arguments that fit.
#[derive(Debug)]
pub(super) struct ToolCall {
    tool: Arc<Tool>,
    prepared: Prepared,
    /// The call in a line.
    shown: String,
}

/// The call as policies, the trail and the host see it. A tool that nobody knows stays what was
/// called: what is said of it is said after the decision.
pub(super) fn resolved(
    run: &Run,
    call: HostCall,
) -> Result<(HostCall, Option<ToolCall>), ErrorValue> {
    let known = |name: &str| run.services.tools.get(name).map(Arc::clone);
    let by_name: Vec<Value>;
    let (tool, given): (_, Vec<Given<'_>>) = match (&*call.name, call.args.as_slice()) {
        ("tool", [name, rest @ ..]) => {
            let Some(tool) = name.as_str().and_then(known) else { return Ok((call, None)) };
            let given = match rest.first() {
                None | Some(Value::Null | Value::None) => Vec::new(),
                Some(Value::Map(map)) => map
                    .iter()
                    .map(|(name, value)| Given { name: Some(name), value: Some(value) })
                    .collect(),
                Some(Value::Array(items)) => {
                    items.iter().map(|value| Given { name: None, value: Some(value) }).collect()
                }
                Some(other) => {
                    let got = other.type_name();
                    let message =
                        format!("`tool` takes a record or an array as `args`, and got {got}");
                    return Err(ErrorValue::new("TypeError", message));
                }
            };
            (tool, given)
        }
        (name, _) if operations::is_host_call(name) => return Ok((call, None)),
        (name, args) => {
            let Some(tool) = known(name) else { return Ok((call, None)) };
            let positional = args.iter().map(|value| Given { name: None, value: Some(value) });
            let named = call
                .named
                .iter()
                .map(|(name, value)| Given { name: Some(name), value: Some(value) });
            (tool, positional.chain(named).collect())
        }
    };
    let values = tool.arguments(&given).map_err(unfit)?;
    let prepared = tool.prepare(&values).map_err(unfit)?;
    // `None` is what was left out.
    by_name = values.into_iter().map(|value| value.unwrap_or(Value::None)).collect();
    let named: Vec<(Arc<str>, Value)> = tool
        .parameters
        .iter()
        .zip(&by_name)
        .map(|(parameter, value)| (Arc::from(parameter.name.as_str()), value.clone()))
        .collect();
    let shown: Vec<String> = named
        .iter()
        .filter(|(_, value)| !matches!(value, Value::None))
        .map(|(name, value)| {
            format!("{name} = {}", value.to_string().chars().take(256).collect::<String>())
        })
        .collect();
    let shown = cut(&format!("{}({})", tool.name, shown.join(", ")));
    let name = Arc::from(tool.name.as_str());
    let call = HostCall { name, args: by_name, named, span: call.span.clone() };
    Ok((call, Some(ToolCall { tool, prepared, shown })))
}

fn unfit(refusal: Refusal) -> ErrorValue {
    let hint = refusal.nearest.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
    ErrorValue::new(refusal.kind, refusal.message + &hint)
}

/// What is said of a tool that the runtime does not know.
pub(super) fn unknown(run: &Run, name: &str) -> ErrorValue {
    let tools = &run.services.tools;
    let hint = tools.nearest(name).map(|near| format!("; did you mean `{near}`?"));
    let message = format!(
        "no tool `{name}` is known to this runtime, and the file has no function of that name{}",
        hint.unwrap_or_default()
    );
    ErrorValue::new("ToolNotFound", message)
}

/// Whether a listed capability is the one that a tool needs.
pub(super) fn grants(capability: &str, needed: &str) -> bool {
    capability == needed
        || match needed {
            "FileSystem" => operations::covers(capability, "fs.read"),
            "Network" => operations::covers(capability, "net.connect"),
            _ => false,
        }
}

/// The entry, with the tool that it is about.
pub(super) fn about(entry: Entry, tool: Option<&ToolCall>) -> Entry {
    match tool {
        None => entry,
        Some(ToolCall { tool, .. }) => {
            entry.with("tool", &tool.name).with("manifest", &tool.digest).with("risk", tool.risk)
        }
    }
}

impl ToolCall {
    pub(super) fn operation(&self) -> Operation {
        Operation {
            names: vec![format!("tool.call:{}", self.tool.name)],
            class: self.tool.class,
            governed: true,
            capability_checked: self.tool.capability.is_some(),
        }
    }

    pub(super) fn capability(&self) -> Option<&str> {
        self.tool.capability.as_deref()
    }

    pub(super) fn describe(&self) -> String {
        self.shown.clone()
    }

    /// The command or the request that it is.
    pub(super) fn does(&self) -> String {
        match &self.prepared {
            Prepared::Exec { program, args, .. } => {
                let words: Vec<String> =
                    std::iter::once(program).chain(args).map(|word| quoted(word)).collect();
                cut(&words.join(" "))
            }
            Prepared::Http(Request { method, url, .. }) => cut(&format!("{method} {url}")),
        }
    }

    /// Why a rule denies what the tool does, if one does. That nothing allows it is no reason: who
    /// allows the tool allows what it does.
    pub(super) fn denied(&self, run: &Run) -> Option<(&'static str, String)> {
        let (name, args) = match &self.prepared {
            Prepared::Exec { program, args, .. } => {
                let args = Value::array(args.iter().map(|arg| Value::from(arg.as_str())));
                ("exec", vec![Value::from(program.as_str()), args])
            }
            Prepared::Http(Request { method, url, .. }) => {
                let (url, method) = (Value::from(url.to_string()), Value::from(method.as_str()));
                ("http.request", vec![url, Value::None, method])
            }
        };
        let below = HostCall { name: Arc::from(name), args, named: Vec::new(), span: 0..0 };
        let facts = facts(&below);
        let operation = operations::operation(name, &Texts(&below));
        operation.names.iter().find_map(|name| {
            let decision = ask(run, &below, &facts, name);
            let denied =
                matches!(decision.effect, Some(PolicyEffect::Deny)) && decision.policy_id.is_some();
            denied.then(|| {
                let (tool, reason) = (&self.tool.name, decision.reason);
                ("PolicyDenied", format!("`{tool}` would do what a rule denies: {reason}"))
            })
        })
    }

    pub(super) async fn perform(&self, run: &Run) -> Result<Done, ErrorValue> {
        match &self.prepared {
            Prepared::Exec { program, args, stdin } => {
                let mut command =
                    Command::new(program.as_str()).args(args.iter().map(String::as_str));
                command.stdin = stdin.as_ref().map(|text| text.as_bytes().to_vec());
                command.timeout = self.timeout(run);
                command.output_cap = self.tool.max_output;
                self.exec(run, command).await
            }
            Prepared::Http(request) => self.request(run, request).await,
        }
    }

    fn timeout(&self, run: &Run) -> Duration {
        self.tool.timeout.min(run.definition.limits.execution_timeout)
    }

    /// Whether a call that came to nothing may be made again.
    fn is_repeatable(&self) -> bool {
        matches!(self.tool.class, EffectClass::Read | EffectClass::Idempotent)
    }

    fn failed(&self, kind: &str, message: String) -> ErrorValue {
        ErrorValue::new(kind, format!("`{}` {message}", self.tool.name))
    }

    async fn exec(&self, run: &Run, command: Command) -> Result<Done, ErrorValue> {
        let timeout = command.timeout;
        let (id, orchestrator) = sandbox(run).await?;
        let result = match orchestrator.execute(id, command).await {
            Ok(result) => result,
            Err(error) => return Err(refused(run, id, error).await),
        };
        if result.timed_out {
            let error = self.failed("Timeout", format!("had not ended after {timeout:?}"));
            return Err(error.with_retryable(self.is_repeatable()));
        }
        if result.oom_killed {
            let message = "needed more memory than its sandbox has".to_owned();
            return Err(self.failed("LimitExceeded", message));
        }
        let complaint = String::from_utf8_lossy(&result.stderr);
        let complaint = match complaint.trim() {
            "" => String::new(),
            text => format!(": {}", text.chars().take(LONGEST_COMPLAINT).collect::<String>()),
        };
        let Some(code) = result.exit_code.map(i64::from) else {
            let signal = result.signal.map(|signal| format!(" {signal}")).unwrap_or_default();
            return Err(
                self.failed("ToolError", format!("was ended by a signal{signal}{complaint}"))
            );
        };
        if !self.tool.succeeds(code) {
            let message = format!("exited with {code}{complaint}");
            return Err(self.failed(self.tool.error_kind(code), message));
        }
        let value = self.value(&result.stdout, result.stdout_truncated)?;
        Ok(Done::new(value, format!("exit {code}, {} bytes", result.stdout.len())))
    }

    async fn request(&self, run: &Run, request: &Request) -> Result<Done, ErrorValue> {
        let request = HttpRequest {
            method: request.method.clone(),
            url: request.url.clone(),
            headers: request.headers.clone(),
            body: request.body.clone().unwrap_or_default().into_bytes(),
            timeout: Some(self.timeout(run)),
            max_bytes: Some(self.tool.max_output),
            verify_tls: true,
        };
        let response = http::send(run, request, self.is_repeatable()).await?;
        let code = i64::from(response.status);
        if !self.tool.succeeds(code) {
            let told = String::from_utf8_lossy(&response.body);
            let told: String = told.trim().chars().take(LONGEST_COMPLAINT).collect();
            let told = if told.is_empty() { told } else { format!(": {told}") };
            let passes = matches!(response.status, 408 | 429 | 500 | 502 | 503 | 504);
            let error =
                self.failed(self.tool.error_kind(code), format!("was answered {code}{told}"));
            return Err(error.with_retryable(passes && self.is_repeatable()));
        }
        let value = self.value(&response.body, response.truncated)?;
        let note = format!("{code} from {}, {} bytes", response.address, response.body.len());
        Ok(Done::new(value, note))
    }

    /// What the output means.
    fn value(&self, output: &[u8], truncated: bool) -> Result<Value, ErrorValue> {
        if truncated {
            let most = self.tool.max_output;
            return Err(self.failed("LimitExceeded", format!("gave more than {most} bytes")));
        }
        let text = String::from_utf8_lossy(output);
        Ok(match self.tool.output {
            Output::Text => {
                let text = text.strip_suffix('\n').unwrap_or(&text);
                Value::from(text.strip_suffix('\r').unwrap_or(text).to_owned())
            }
            Output::Lines => Value::array(text.lines().map(Value::from)),
            Output::Json => from_json_text(&text)
                .map_err(|error| self.failed("ParseError", format!("gave {}", error.message)))?,
        })
    }
}
