//! Tools: what agents call by name, declared by manifests.
//!
//! A manifest (`tools/NAME.toml`) says what a tool takes and what a call of it does: a command in the
//! agent's sandbox, or a request over HTTP. [`read`] makes a [`Tool`] of its text, or diagnostics;
//! [`Tool::arguments`] puts the arguments of a call into the one form in which policies, the trail
//! and the host see them; [`Tool::prepare`] says what is then to be done.
//!
//! # What holds
//!
//! - A value never leaves the place that the manifest gives it: it is a part of one argument of a
//!   command, one component of a URL, the value of one header or a value in a document.
//! - What a call does is a function of its manifest and its arguments, and both are bounded.
//! - A manifest that is not understood whole is no tool: a key that nobody knows might be a limit.
//!
//! # What is not here
//!
//! Files and effects: the runtime loads folders and carries out what was prepared.

mod arguments;
mod manifest;
mod template;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use regex::Regex;

pub use self::arguments::{Given, Refusal};
pub use self::manifest::{LARGEST_MANIFEST, Reading, header_name, read};
use self::template::{Body, Group, Template};
pub use self::template::{Prepared, Request};
use crate::diagnostic::{Diagnostic, Severity, nearest};
use crate::hir::Span;
use crate::operations::EffectClass;
use crate::value::Value;

/// How much harm a call can do, in the words of whoever declared it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Risk {
    /// A mistake costs nothing.
    Low,
    /// A mistake is a nuisance.
    Medium,
    /// A mistake does harm.
    High,
    /// A mistake does harm that can't be undone.
    Critical,
}

impl fmt::Display for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        })
    }
}

/// A tool, as its manifest declares it.
#[derive(Debug, Clone)]
pub struct Tool {
    /// What it is called.
    pub name: String,
    /// What it is good for.
    pub description: String,
    /// What it takes, in the order of arguments without names.
    pub parameters: Vec<Parameter>,
    /// What happens to a call whose outcome was lost.
    pub class: EffectClass,
    /// How much harm it can do.
    pub risk: Risk,
    /// What an agent with a list of capabilities has to have in it to call the tool.
    pub capability: Option<String>,
    /// What a call gives.
    pub output: Output,
    /// How long a call may take.
    pub timeout: Duration,
    /// Bytes of output, or of an answer, that a call may have.
    pub max_output: usize,
    /// The SHA-256 of its manifest, in hexadecimal.
    pub digest: String,
    /// The exit codes, or statuses, that are no errors; none means 0, or 200 to 299.
    success: Vec<i64>,
    /// The kinds of the errors that the others are.
    errors: BTreeMap<i64, String>,
    action: Action,
    name_span: Span,
}

/// What a call of a tool gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// The text, without the line end that closes it.
    Text,
    /// The lines of the text.
    Lines,
    /// What the text means as JSON.
    Json,
}

/// What a call of a tool does.
#[derive(Debug, Clone)]
enum Action {
    /// It runs a command in the agent's sandbox.
    Exec { program: String, args: Vec<Group>, stdin: Option<Template> },
    /// It asks a host over HTTP.
    Http {
        method: String,
        /// The scheme and the host, which no argument can change.
        origin: String,
        /// The parts of the path.
        path: Vec<Template>,
        query: Vec<(String, Template)>,
        headers: Vec<(String, Template)>,
        body: Option<Body>,
    },
}

/// A parameter of a tool.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// What it is called.
    pub name: String,
    /// What it means.
    pub description: String,
    /// Whether a call without it is refused.
    pub required: bool,
    /// What it is in a call without it.
    pub default: Option<Value>,
    /// The only values that it may have; empty allows all that fit the rest.
    pub allowed: Vec<Value>,
    /// What it is, or what each of its elements is.
    kind: Kind,
    /// How many elements it may have, if it is an array.
    items: Option<(usize, usize)>,
    /// Whether a value may be taken for an option of a command.
    leading_dash: bool,
}

/// What a value is.
#[derive(Debug, Clone)]
enum Kind {
    /// Text with this many characters, all of which fit the pattern.
    Text {
        min: usize,
        max: usize,
        pattern: Option<Regex>,
    },
    Int {
        min: i64,
        max: i64,
    },
    Float {
        min: f64,
        max: f64,
    },
    Bool,
}

impl Kind {
    fn word(&self) -> &'static str {
        match self {
            Self::Text { .. } => "string",
            Self::Int { .. } => "int",
            Self::Float { .. } => "float",
            Self::Bool => "bool",
        }
    }
}

impl Parameter {
    /// Its type as manifests write it.
    pub fn type_name(&self) -> String {
        match self.items {
            None => self.kind.word().to_owned(),
            Some(_) => format!("array<{}>", self.kind.word()),
        }
    }
}

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.type_name())?;
        match &self.default {
            Some(Value::String(text)) => write!(f, " = {:?}", &**text),
            Some(value) => write!(f, " = {value}"),
            None if self.required => Ok(()),
            None => f.write_str("?"),
        }
    }
}

/// The tool as a signature: `count(path: string, what: string = "lines")`.
impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parameters: Vec<_> = self.parameters.iter().map(ToString::to_string).collect();
        write!(f, "{}({})", self.name, parameters.join(", "))
    }
}

impl Tool {
    /// What a call does, in a few words.
    pub fn does(&self) -> String {
        match &self.action {
            Action::Exec { program, .. } => format!("runs `{program}` in the sandbox"),
            Action::Http { method, origin, .. } => format!("sends {method} to {origin}"),
        }
    }

    /// Whether an exit code, or a status, is a success.
    pub fn succeeds(&self, code: i64) -> bool {
        match (self.success.is_empty(), &self.action) {
            (false, _) => self.success.contains(&code),
            (true, Action::Exec { .. }) => code == 0,
            (true, Action::Http { .. }) => (200..300).contains(&code),
        }
    }

    /// The kind of the error that an exit code, or a status, is.
    pub fn error_kind(&self, code: i64) -> &str {
        self.errors.get(&code).map_or("ToolError", String::as_str)
    }
}

/// The tools that a runtime knows, each under one name.
#[derive(Debug, Clone, Default)]
pub struct Tools {
    by_name: Arc<BTreeMap<String, Arc<Tool>>>,
}

impl Tools {
    /// The most that are known at once.
    pub const MOST: usize = 1000;

    /// These tools.
    ///
    /// # Errors
    ///
    /// A name that two of them have, or too many of them, in words.
    pub fn new(tools: impl IntoIterator<Item = Tool>) -> Result<Self, String> {
        let mut by_name = BTreeMap::new();
        for tool in tools {
            let name = tool.name.clone();
            if by_name.insert(name.clone(), Arc::new(tool)).is_some() {
                return Err(format!("there are two tools `{name}`"));
            }
        }
        if by_name.len() > Self::MOST {
            return Err(format!("there are more than {} tools", Self::MOST));
        }
        Ok(Self { by_name: Arc::new(by_name) })
    }

    /// The tool of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Tool>> {
        self.by_name.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Tool>> {
        self.by_name.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The name among theirs that `name` was probably meant to be.
    pub fn nearest(&self, name: &str) -> Option<&str> {
        nearest(name, self.by_name.keys().map(String::as_str))
    }
}

/// What was found in some manifests together.
#[derive(Debug, Default)]
pub struct Gathered {
    /// The tools of those that are without fault.
    pub tools: Tools,
    /// What is wrong with each of them, in their order.
    pub diagnostics: Vec<Vec<Diagnostic>>,
}

impl Gathered {
    /// Whether some manifest is no tool.
    pub fn has_errors(&self) -> bool {
        let is_error = |found: &Diagnostic| found.severity == Severity::Error;
        self.diagnostics.iter().flatten().any(is_error)
    }
}

/// Reads manifests, among which no two may have one name.
pub fn gather<'a>(manifests: impl IntoIterator<Item = &'a str>) -> Gathered {
    let mut gathered = Gathered::default();
    let mut by_name: BTreeMap<String, Arc<Tool>> = BTreeMap::new();
    for manifest in manifests {
        let Reading { mut diagnostics, tool } = read(manifest);
        if let Some(tool) = tool {
            let span = tool.name_span.clone();
            if by_name.contains_key(&tool.name) {
                let message = format!("there are two tools `{}`", tool.name);
                diagnostics
                    .push(Diagnostic::error("E0406", message, span).label("this is the second"));
            } else if by_name.len() == Tools::MOST {
                let message = format!("there are more than {} tools", Tools::MOST);
                diagnostics.push(Diagnostic::error("E0406", message, span).label("one too many"));
            } else {
                by_name.insert(tool.name.clone(), Arc::new(tool));
            }
        }
        gathered.diagnostics.push(diagnostics);
    }
    gathered.tools = Tools { by_name: Arc::new(by_name) };
    gathered
}
