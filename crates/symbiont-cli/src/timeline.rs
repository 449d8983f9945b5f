//! What happens in a run, told line by line as it is recorded.
//!
//! Every audit record becomes a piece of text: when, what kind of thing, what happened. The result
//! of a call follows on the line of the call, and the next state of an agent on the line of the one
//! before, unless something else came between.
//!
//! # What holds
//!
//! - What is told is on record already.
//! - Every text of a program or of a command passes through [`text`], so that none can pretend to be
//!   a line of this timeline.
//! - A kind of record that this file does not know is told as it is, and nothing is left out silently.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use anstyle::Style;
use symbiont_runtime::{AgentId, AuditEvent, AuditEventType};

use crate::screen::{BAD, BOLD, CARE, DIM, GOOD, NAME, styled};
use crate::text;

/// The most characters of a call that are shown.
const LONGEST_CALL: usize = 100;

/// The kinds that tell nothing that another line does not.
const QUIET: [&str; 7] = [
    "error.handled",
    "sandbox.created",
    "resources.allocated",
    "resources.deallocated",
    "message.sent",
    "key.listed",
    "runtime.stopped",
];

/// Tells records in words.
#[derive(Debug)]
pub(crate) struct Timeline {
    began: SystemTime,
    /// Whose run it is: the first of the agents.
    lead: Option<AgentId>,
    /// The names of agents, where there are several to tell apart.
    names: HashMap<AgentId, String>,
    /// How wide the column of names is; 0 leaves it out.
    width: usize,
    states: HashMap<AgentId, String>,
    /// What the last line could go on with.
    open: Open,
    /// The rule that allowed a call that has no result yet.
    allowed: HashMap<Call, String>,
    /// The words of calls that have no result yet.
    pending: HashMap<Call, String>,
    /// Whether it was said that no policy speaks of something.
    said_ungoverned: bool,
    /// The driver and tier of sandboxes that are being made.
    making: HashMap<AgentId, String>,
}

/// A call, as its records name it.
type Call = (Option<AgentId>, String);

#[derive(Debug, PartialEq)]
enum Open {
    /// Nothing: the last line has ended.
    Nothing,
    /// The result of this call.
    Call(Call),
    /// The next state of this agent.
    States(AgentId),
}

impl Timeline {
    /// The timeline of a run that began at `began`, with the agents that take part.
    pub(crate) fn new(began: SystemTime, agents: &[(AgentId, String)]) -> Self {
        let width = match agents {
            [] | [_] => 0,
            several => {
                several.iter().map(|(_, name)| name.chars().count()).max().unwrap_or(0).min(24)
            }
        };
        Self {
            began,
            lead: agents.first().map(|(id, _)| *id),
            names: agents.iter().cloned().collect(),
            width,
            states: HashMap::new(),
            open: Open::Nothing,
            allowed: HashMap::new(),
            pending: HashMap::new(),
            said_ungoverned: false,
            making: HashMap::new(),
        }
    }

    /// What is to be written when `event` has been recorded.
    pub(crate) fn tell(&mut self, event: &AuditEvent) -> String {
        let kind = field(event, "kind");
        if let Some(told) = self.call(event, kind) {
            return told;
        }
        let details = text::line(&event.details);
        let mut told = match kind {
            "policy.decision" => self.decision(event),
            "capability.denied" => {
                let text = format!("{}  {details}", text::line(field(event, "operation")));
                self.line(event, "DENIED", BAD, &styled(BAD, &text))
            }
            "log" => {
                let level = text::line(field(event, "level"));
                let style = match level.as_str() {
                    "error" => BAD,
                    "warn" | "warning" => CARE,
                    _ => BOLD,
                };
                let level = if level.is_empty() { level } else { format!("{level}: ") };
                self.line(event, "log", style, &format!("{}{details}", styled(style, &level)))
            }
            "print" | "emit" | "checkpoint" => self.line(event, kind, BOLD, &details),
            "sandbox.created" if !field(event, "failed").is_empty() => {
                self.line(event, "sandbox", BAD, &styled(BAD, &details))
            }
            "sandbox.created" => {
                if let Some(agent) = event.agent_id {
                    self.making.insert(agent, details.clone());
                }
                String::new()
            }
            "sandbox.started" => {
                let made = event.agent_id.and_then(|agent| self.making.remove(&agent));
                let mut text = made.unwrap_or_else(|| "started".to_owned());
                // The trail has all of its walls; `doctor` tells what is missing and why.
                let missing = text::line(field(event, "degraded"));
                if !missing.is_empty() {
                    let note =
                        format!("; not limited or applied here: {missing} (see `symbiont doctor`)");
                    text.push_str(&styled(DIM, &note));
                }
                self.line(event, "sandbox", NAME, &text)
            }
            "sandbox.destroyed" => self.line(event, "sandbox", NAME, "destroyed"),
            // A start that only makes ready for mail is told by the states.
            "run.completed" if field(event, "steps") == "0" => String::new(),
            "run.completed" => {
                let text = format!("returned a value after {}", effort(event));
                self.line(event, "run", GOOD, &styled(GOOD, &text))
            }
            "run.failed" => {
                // Why the lead's run failed is explained when all is over.
                let why = match event.agent_id == self.lead {
                    true => text::line(field(event, "error")),
                    false => details.clone(),
                };
                let text = format!("{why}, after {}", effort(event));
                self.line(event, "run", BAD, &format!("{} {text}", styled(BAD, "FAILED")))
            }
            "run.cancelled" => {
                let text = format!("ended: {details}, after {}", effort(event));
                self.line(event, "run", CARE, &styled(CARE, &text))
            }
            "message.received" => self.line(event, "mail", NAME, &format!("received {details}")),
            kind if QUIET.contains(&kind) || !field(event, "state").is_empty() => String::new(),
            kind => {
                let style = match event.event_type {
                    AuditEventType::ErrorOccurred | AuditEventType::PolicyViolation => BAD,
                    _ => NAME,
                };
                self.line(event, &text::short(kind, 24), style, &details)
            }
        };
        told.push_str(&self.state(event, kind, &details));
        told
    }

    /// What is to be written when so many records were not seen.
    pub(crate) fn missed(&mut self, records: u64) -> String {
        let end = self.close();
        let text = format!(
            "{} not shown: standard error is read too slowly",
            text::counted(records, "record")
        );
        format!("{end}{}\n", styled(CARE, &format!("{:>9}  {text}", "...")))
    }

    /// Ends the last line.
    pub(crate) fn close(&mut self) -> String {
        match std::mem::replace(&mut self.open, Open::Nothing) {
            Open::Nothing => String::new(),
            Open::Call(_) | Open::States(_) => "\n".to_owned(),
        }
    }

    /// A call of the program that begins or ends.
    fn call(&mut self, event: &AuditEvent, kind: &str) -> Option<String> {
        let call = (event.agent_id, field(event, "operation").to_owned());
        let (label, style) = (label(kind), NAME);
        match field(event, "phase") {
            "begin" => {
                let words = text::short(&event.details, LONGEST_CALL);
                let told = self.head(event, label, style, &styled(BOLD, &words));
                self.pending.insert(call.clone(), words);
                self.open = Open::Call(call);
                Some(told)
            }
            "end" => {
                let words = self.pending.remove(&call);
                let failed = !field(event, "error").is_empty();
                let rule = styled(DIM, &self.allowed.remove(&call).unwrap_or_default());
                let note = text::line(&event.details);
                let note = match (failed, note.starts_with("exit ") && !note.starts_with("exit 0"))
                {
                    (true, _) => styled(BAD, &note),
                    (false, true) => styled(CARE, &note),
                    (false, false) => styled(GOOD, &note),
                };
                if self.open == Open::Call(call) {
                    self.open = Open::Nothing;
                    return Some(format!(" -> {note}{rule}\n"));
                }
                let words = words.unwrap_or_default();
                Some(self.line(event, label, style, &format!("{words} -> {note}{rule}")))
            }
            _ => None,
        }
    }

    fn decision(&mut self, event: &AuditEvent) -> String {
        let operation = field(event, "operation");
        let details = text::line(&event.details);
        if field(event, "decision") != "allow" {
            // Most reasons name the operation themselves.
            let text = match details.contains(&format!("`{}`", text::line(operation))) {
                true => details,
                false => format!("{}: {details}", text::short(operation, LONGEST_CALL)),
            };
            return self.line(event, "DENIED", BAD, &styled(BAD, &text));
        }
        let rules = field(event, "rules");
        if rules.is_empty() {
            if std::mem::replace(&mut self.said_ungoverned, true) {
                return String::new();
            }
            return self.line(event, "policy", CARE, &styled(CARE, &details));
        }
        let call = (event.agent_id, operation.to_owned());
        self.allowed.insert(call, format!("  allowed by {}", text::short(rules, 60)));
        String::new()
    }

    /// The agent's state, where it is a new one.
    fn state(&mut self, event: &AuditEvent, kind: &str, details: &str) -> String {
        let (Some(agent), state) = (event.agent_id, field(event, "state")) else {
            return String::new();
        };
        if state.is_empty() || self.states.get(&agent).is_some_and(|before| before == state) {
            return String::new();
        }
        self.states.insert(agent, state.to_owned());
        let state = text::line(state);
        let shown = match kind {
            "run.waiting" | "agent.interrupted" | "agent.initialization_failed" => {
                format!("{state} ({details})")
            }
            _ => state,
        };
        let shown = match shown.as_str() {
            failed if failed.starts_with("Failed") => styled(BAD, failed),
            _ => shown,
        };
        if self.open == Open::States(agent) {
            return format!(" > {shown}");
        }
        let told = self.head(event, "state", DIM, &shown);
        self.open = Open::States(agent);
        told
    }

    /// A whole line.
    fn line(&mut self, event: &AuditEvent, label: &str, style: Style, text: &str) -> String {
        let mut line = self.head(event, label, style, text);
        line.push('\n');
        line
    }

    /// A line that may go on, after the end of the one before.
    fn head(&mut self, event: &AuditEvent, label: &str, style: Style, text: &str) -> String {
        let end = self.close();
        let at = event.timestamp.duration_since(self.began).unwrap_or_default();
        let at = styled(DIM, &format!("{:>8.3}s", at.as_secs_f64()));
        let label = styled(style, &format!("{label:<8}"));
        if self.width == 0 {
            return format!("{end}{at}  {label} {text}");
        }
        let name = event.agent_id.and_then(|agent| self.names.get(&agent));
        let name = name.map(|name| text::short(name, 24)).unwrap_or_default();
        format!("{end}{at}  {} {label} {text}", styled(DIM, &format!("{name:<0$}", self.width)))
    }
}

/// The word for a kind of call.
fn label(kind: &str) -> &str {
    match kind {
        "sandbox.exec" => "exec",
        "fs.read" | "fs.write" => "file",
        "memory.read" | "memory.write" => "memory",
        "message.send" => "send",
        "message.publish" => "publish",
        "agent.spawn" => "delegate",
        "tool.call" => "tool",
        "net.connect" => "http",
        other => other.rsplit('.').next().unwrap_or(other),
    }
}

/// What a run took.
fn effort(event: &AuditEvent) -> String {
    let number = |name| field(event, name).parse::<u64>().unwrap_or_default();
    let took = text::duration(Duration::from_micros(number("duration_us")));
    let calls = text::counted(number("host_calls"), "host call");
    format!("{took}, {calls}, {}", text::counted(number("steps"), "step"))
}

fn field<'a>(event: &'a AuditEvent, name: &str) -> &'a str {
    event.metadata.get(name).map_or("", String::as_str)
}
