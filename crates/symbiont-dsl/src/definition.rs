//! What the runtime needs to know of a program before it runs.
//!
//! [`classify`] says whether a text is a program at all, [`check`] reads and checks one, and
//! [`bind_input`] fits a run's input to an agent's parameters.
//!
//! # What holds
//!
//! - A [`CheckedProgram`] has no errors; its agents and their definitions are in the same order.
//! - Attributes are within their ranges; what is not is an error diagnostic.

mod input;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use symbiont_types::{Policy, SecurityTier};

use crate::check;
use crate::diagnostic::{Diagnostic, Severity, Sink, nearest};
use crate::hir::{self, Entry, Event, Expr, ExprKind, Literal, UnaryOp};
use crate::machine;
use crate::policy::{self, Scope};
use crate::syntax::literal::short;
use crate::syntax::{self, KEYWORDS, MAX_SOURCE, SyntaxKind};
use crate::tools::Tools;
use crate::types::Types;

pub use crate::check::blocks::setting_words;
pub use crate::operations::covers;
pub use input::{Bound, bind_input};

/// How many bytes of shared policies the agents of a file may use in all, each use counted.
const MOST_SHARED: usize = 16 * MAX_SOURCE;

/// How many bytes are compiled while a file is checked.
const MOST_COMPILED: usize = 4 * MAX_SOURCE;

/// What a source text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SourceKind {
    /// A program in the agent language, though perhaps a faulty one.
    Program,
    /// An instruction in plain words.
    Instruction,
    /// Nothing but layout and comments.
    Empty,
}

/// What a source text is: a program when its first word, after comments, is a declaration's
/// keyword, or is followed by `{`, or by a name and `{` or `(`.
pub fn classify(source: &str) -> SourceKind {
    let mut end = source.len().min(MAX_SOURCE);
    while !source.is_char_boundary(end) {
        end -= 1;
    }
    let syntax::Lexed { tokens, trivia } = syntax::lex_first(&source[..end], 3);
    let kind = |at: usize| tokens.get(at).map_or(SyntaxKind::End, |token| token.kind);
    if kind(0) == SyntaxKind::End {
        // What no token can be made of is still text.
        let unreadable =
            source.len() > end || trivia.iter().any(|trivia| trivia.kind == SyntaxKind::Unknown);
        return if unreadable { SourceKind::Instruction } else { SourceKind::Empty };
    }
    if kind(0) != SyntaxKind::Name {
        return SourceKind::Instruction;
    }
    let word = &source[tokens[0].start as usize..tokens[0].end as usize];
    let like_a_declaration = match kind(1) {
        SyntaxKind::LeftBrace => true,
        SyntaxKind::Name => matches!(kind(2), SyntaxKind::LeftBrace | SyntaxKind::LeftParen),
        _ => false,
    };
    if KEYWORDS.contains(&word) || like_a_declaration {
        SourceKind::Program
    } else {
        SourceKind::Instruction
    }
}

/// What checking a source gave.
#[derive(Debug, Clone)]
pub struct Checked {
    /// What was found, in the order of the source.
    pub diagnostics: Vec<Diagnostic>,
    /// The program; `None` when there are errors.
    pub program: Option<Arc<CheckedProgram>>,
}

/// A program without errors.
#[derive(Debug, Clone)]
pub struct CheckedProgram {
    /// The program itself.
    pub hir: hir::Program,
    /// What the runtime needs of its agents, in the order of `hir.agents`.
    pub agents: Vec<AgentDefinition>,
}

/// What the runtime needs of an agent.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentDefinition {
    /// Its name.
    pub name: String,
    /// Its parameters, in order.
    pub params: Vec<ParamInfo>,
    /// Its list of capabilities, if it has one.
    pub capabilities: Option<Vec<String>>,
    /// The attributes of its `with`.
    pub attributes: Attributes,
    /// Its own policies and those that it uses, compiled.
    pub policies: Vec<Policy>,
    /// Whether it has a `with` block.
    pub has_behaviour: bool,
    /// Whether it has an `on message`.
    pub has_on_message: bool,
    /// Whether it has an `on start`.
    pub has_on_start: bool,
    /// Whether it has an `on stop`.
    pub has_on_stop: bool,
}

/// A parameter of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamInfo {
    /// Its name.
    pub name: String,
    /// Whether it may be missing: its type is an `Option`.
    pub optional: bool,
}

/// The attributes of `with`. They tighten the config that the agent comes with.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Attributes {
    /// `sandbox`
    pub tier: Option<SecurityTier>,
    /// A `sandbox` that others serve and this runtime does not.
    pub unserved_tier: Option<String>,
    /// `timeout`, greater than zero
    pub timeout: Option<Duration>,
    /// `max_memory_mb`, greater than zero
    pub max_memory_mb: Option<u64>,
    /// `max_cpu_cores`, greater than zero
    pub max_cpu_cores: Option<f64>,
    /// `memory`
    pub memory: Option<MemoryMode>,
    /// `concurrency`, greater than zero
    pub concurrency: Option<u32>,
    /// `model`
    pub model: Option<String>,
    /// `network_policy`, as written
    pub network_policy: Option<String>,
    /// `security`, as written
    pub security: Option<String>,
    /// `privacy`, as written
    pub privacy: Option<String>,
}

/// What becomes of an agent's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MemoryMode {
    /// Gone after the run.
    Ephemeral,
    /// Kept between runs, gone with the agent.
    Session,
    /// Kept.
    Persistent,
    /// Kept, and encrypted where it is kept.
    Encrypted,
}

/// Reads and checks a source.
pub fn check(source: &str) -> Checked {
    check_calling(source, None)
}

/// Reads and checks a source whose programs may call these tools and no others.
pub fn check_with_tools(source: &str, tools: &Tools) -> Checked {
    check_calling(source, Some(tools))
}

fn check_calling(source: &str, tools: Option<&Tools>) -> Checked {
    let mut sink = Sink::default();
    if classify(source) == SourceKind::Empty {
        syntax::lex(source, &mut sink);
        if sink.has_errors() {
            // There is something after all, which can't be read: a comment that never ends.
            return Checked { diagnostics: sink.finish(), program: None };
        }
        sink.push(
            Diagnostic::error("E0114", "there is no program here", 0..0)
                .label("the text is empty")
                .note("`agent name` is the shortest program"),
        );
        return Checked { diagnostics: sink.finish(), program: None };
    }
    let hir = syntax::parse_into(source, &mut sink);
    let scope = Scope::of(&hir);
    let compiled: Vec<Policy> = (hir.policies.iter())
        .map(|block| policy::compile_into(block, &scope, source, &mut sink))
        .collect();
    let shared: HashMap<&str, (&Policy, usize)> = compiled
        .iter()
        .zip(&hir.policies)
        .map(|(policy, block)| (policy.id.as_str(), (policy, block.span.len())))
        .collect();
    let types = Types::of(&hir);
    let mut copied = 0;
    for block in hir.blocks.iter().flat_map(|block| &block.policies) {
        policy::compile_into(block, &scope, source, &mut sink);
    }
    let agents: Vec<AgentDefinition> = hir
        .agents
        .iter()
        .map(|agent| define(agent, &scope, &types, &shared, &mut copied, source, &mut sink))
        .collect();
    check::check(&hir, &agents, source, tools, &mut sink);
    if !sink.has_errors() {
        compile(&hir, &mut sink);
    }
    let faulty = sink.has_errors();
    let diagnostics = sink.finish();
    let program = (!faulty).then(|| Arc::new(CheckedProgram { hir, agents }));
    Checked { diagnostics, program }
}

/// Reports what can't be compiled: what checks also initializes.
fn compile(hir: &hir::Program, sink: &mut Sink) {
    // Each agent is compiled together with the functions of the file. What is beyond the bound is
    // left to the agent's initialization.
    let mut budget = MOST_COMPILED;
    let shared: usize = hir.functions.iter().map(|function| function.body.span.len()).sum();
    let mut said = HashSet::new();
    let around = Arc::new(machine::Around::of(hir));
    for (number, agent) in hir.agents.iter().enumerate() {
        let Some(rest) = budget.checked_sub(shared + agent.span.len()) else { return };
        budget = rest;
        if let Err(error) = machine::compiles_among(hir, number, &around)
            && said.insert(error.span.start)
        {
            sink.push(
                Diagnostic::error("E0209", error.message, error.span).label("cannot be compiled"),
            );
        }
    }
}

fn define(
    agent: &hir::Agent,
    file: &Scope<'_>,
    types: &Types<'_>,
    shared: &HashMap<&str, (&Policy, usize)>,
    copied: &mut usize,
    source: &str,
    sink: &mut Sink,
) -> AgentDefinition {
    let scope = file.within(agent);
    let mut policies: Vec<Policy> = (agent.policies.iter())
        .map(|block| policy::compile_into(block, &scope, source, sink))
        .collect();
    let mut used: HashSet<&str> = agent.policies.iter().map(|own| own.name.node.as_str()).collect();
    for name in &agent.uses {
        let Some((policy, length)) = shared.get(name.node.as_str()) else { continue };
        if !used.insert(&name.node) {
            continue;
        }
        *copied += length;
        if *copied > MOST_SHARED {
            let message = "the agents of this file share too much policy";
            sink.push(
                Diagnostic::error("E0108", message, name.span.clone())
                    .label(format!("more than {MOST_SHARED} bytes in all"))
                    .note("put agents with large policies into files of their own"),
            );
            break;
        }
        policies.push((*policy).clone());
    }
    let handles = |event| agent.handlers.iter().any(|handler| handler.event == event);
    AgentDefinition {
        name: agent.name.node.clone(),
        params: agent
            .params
            .iter()
            .map(|param| ParamInfo {
                name: param.name.node.clone(),
                optional: types.is_optional(param.ty.as_ref()),
            })
            .collect(),
        capabilities: agent
            .capabilities
            .as_ref()
            .map(|names| names.iter().map(|name| name.node.clone()).collect()),
        attributes: agent
            .with
            .as_ref()
            .map(|with| attributes(&with.attributes, sink))
            .unwrap_or_default(),
        policies,
        has_behaviour: agent.with.is_some(),
        has_on_message: handles(Event::Message),
        has_on_start: handles(Event::Start),
        has_on_stop: handles(Event::Stop),
    }
}

// Attributes.

const ATTRIBUTES: [&str; 10] = [
    "sandbox",
    "timeout",
    "max_memory_mb",
    "max_cpu_cores",
    "memory",
    "network_policy",
    "security",
    "privacy",
    "concurrency",
    "model",
];

/// Attributes that are read, and change nothing yet.
const UNSERVED: [&str; 5] = ["network_policy", "security", "privacy", "concurrency", "model"];

const TIERS: [(&str, SecurityTier); 6] = [
    ("tier1", SecurityTier::Tier1),
    ("docker", SecurityTier::Tier1),
    ("tier2", SecurityTier::Tier2),
    ("gvisor", SecurityTier::Tier2),
    ("tier3", SecurityTier::Tier3),
    ("firecracker", SecurityTier::Tier3),
];

/// Tiers that other implementations have.
const UNSERVED_TIERS: [&str; 1] = ["e2b"];

const MEMORY_MODES: [(&str, MemoryMode); 4] = [
    ("ephemeral", MemoryMode::Ephemeral),
    ("session", MemoryMode::Session),
    ("persistent", MemoryMode::Persistent),
    ("encrypted", MemoryMode::Encrypted),
];

/// 16 TiB.
const MOST_MEMORY_MB: u64 = 1 << 24;
const MOST_CORES: f64 = 4096.0;
const MOST_CONCURRENCY: u64 = 1024;

fn attributes(entries: &[Entry], sink: &mut Sink) -> Attributes {
    let mut found = Attributes::default();
    for entry in entries {
        if entry.value.kind == ExprKind::Missing {
            continue;
        }
        let value = &entry.value;
        if UNSERVED.contains(&entry.key.node.as_str()) {
            check::unserved(&format!("the attribute `{}`", entry.key.node), &entry.key.span, sink);
        }
        match entry.key.node.as_str() {
            "sandbox" => sandbox(value, &mut found, sink),
            "timeout" => {
                found.timeout = policy::duration(value).or_else(|| {
                    wrong(value, "timeout", "a duration greater than nothing, such as `30s`", sink)
                });
            }
            "max_memory_mb" => {
                let megabytes = match value.kind {
                    ExprKind::Literal(Literal::Size(bytes)) => Some(bytes >> 20),
                    _ => whole(value),
                };
                let megabytes = megabytes.filter(|mb| (1..=MOST_MEMORY_MB).contains(mb));
                found.max_memory_mb = megabytes.or_else(|| {
                    let range = format!("a number from 1 to {MOST_MEMORY_MB}");
                    wrong(value, "max_memory_mb", &range, sink)
                });
            }
            "max_cpu_cores" => {
                let cores = number(value).filter(|cores| *cores > 0.0 && *cores <= MOST_CORES);
                found.max_cpu_cores = cores.or_else(|| {
                    let range = format!("a number greater than 0, of at most {MOST_CORES}");
                    wrong(value, "max_cpu_cores", &range, sink)
                });
            }
            "memory" => found.memory = memory(value, sink),
            "concurrency" => {
                let runs = whole(value).filter(|runs| (1..=MOST_CONCURRENCY).contains(runs));
                found.concurrency = runs.and_then(|runs| u32::try_from(runs).ok()).or_else(|| {
                    let range = format!("a number from 1 to {MOST_CONCURRENCY}");
                    wrong(value, "concurrency", &range, sink)
                });
            }
            "model" => found.model = words(value, "model", sink),
            "network_policy" => found.network_policy = words(value, "network_policy", sink),
            "security" => found.security = words(value, "security", sink),
            "privacy" => found.privacy = words(value, "privacy", sink),
            unknown => sink.push(
                Diagnostic::warning(
                    "W0302",
                    format!("there is no attribute `{}`", short(unknown)),
                    entry.key.span.clone(),
                )
                .label("has no effect")
                .did_you_mean(nearest(unknown, ATTRIBUTES)),
            ),
        }
    }
    found
}

/// Reports a value of the wrong kind or out of range, unless it could not be read at all.
pub(crate) fn wrong<T>(value: &Expr, key: &str, expected: &str, sink: &mut Sink) -> Option<T> {
    if sink.is_full(Severity::Error) || sink.is_faulty(&value.span) {
        return None;
    }
    sink.push(
        Diagnostic::error("E0207", format!("`{key}` takes {expected}"), value.span.clone())
            .label(format!("expected {expected}")),
    );
    None
}

fn sandbox(value: &Expr, found: &mut Attributes, sink: &mut Sink) {
    let Some(name) = word(value) else {
        wrong::<()>(value, "sandbox", "the name of a tier, such as `tier2`", sink);
        return;
    };
    let lower = name.to_lowercase();
    if let Some((_, tier)) = TIERS.iter().find(|(known, _)| *known == lower) {
        found.tier = Some(*tier);
    } else if UNSERVED_TIERS.contains(&lower.as_str()) {
        sink.push(
            Diagnostic::warning(
                "W0305",
                format!("the tier `{lower}` is not served here"),
                value.span.clone(),
            )
            .label("what needs a sandbox will fail with `TierUnavailable`")
            .note("`tier1`, `tier2` and `tier3` are served where the host has them"),
        );
        found.unserved_tier = Some(lower);
    } else {
        sink.push(
            Diagnostic::error(
                "E0206",
                format!("there is no tier `{}`", short(name)),
                value.span.clone(),
            )
            .label("unknown tier")
            .note("tiers are `tier1` or `docker`, `tier2` or `gvisor`, `tier3` or `firecracker`")
            .did_you_mean(
                as_written(value, nearest(name, TIERS.iter().map(|(known, _)| *known))).as_deref(),
            ),
        );
    }
}

fn memory(value: &Expr, sink: &mut Sink) -> Option<MemoryMode> {
    let name = words(value, "memory", sink)?;
    let known = MEMORY_MODES.iter().find(|(known, _)| *known == name).map(|(_, mode)| *mode);
    match known {
        Some(MemoryMode::Encrypted) => sink.push(
            Diagnostic::error(
                "E0210",
                "memory that is encrypted where it is kept is not served by this version",
                value.span.clone(),
            )
            .label("it would be kept in clear text")
            .note("keep nothing secret in a memory, or leave this out and encrypt the disk"),
        ),
        Some(MemoryMode::Ephemeral) => {
            check::unserved("memory that is gone after the run", &value.span, sink);
        }
        Some(MemoryMode::Session | MemoryMode::Persistent) => {}
        None => sink.push(
            Diagnostic::warning(
                "W0303",
                format!("there is no memory `{}`", short(&name)),
                value.span.clone(),
            )
            .label("has no effect")
            .note("memory is `ephemeral`, `session`, `persistent` or `encrypted`")
            .did_you_mean(
                as_written(value, nearest(&name, MEMORY_MODES.iter().map(|(known, _)| *known)))
                    .as_deref(),
            ),
        ),
    }
    known
}

/// A name in the place of `value`: a text where that is one.
pub(crate) fn as_written(value: &Expr, name: Option<&str>) -> Option<String> {
    name.map(|name| match value.kind {
        ExprKind::Literal(_) => format!("\"{name}\""),
        _ => name.to_owned(),
    })
}

/// A name or a text.
fn words(value: &Expr, key: &str, sink: &mut Sink) -> Option<String> {
    match word(value) {
        Some(word) => Some(word.to_owned()),
        None => wrong(value, key, "a name or a text", sink),
    }
}

pub(crate) fn word(value: &Expr) -> Option<&str> {
    match &value.kind {
        ExprKind::Name(word) | ExprKind::Literal(Literal::String(word)) => Some(word),
        _ => None,
    }
}

fn whole(value: &Expr) -> Option<u64> {
    match value.kind {
        ExprKind::Literal(Literal::Int(value)) => u64::try_from(value).ok(),
        _ => None,
    }
}

pub(crate) fn number(value: &Expr) -> Option<f64> {
    match &value.kind {
        ExprKind::Literal(Literal::Float(value)) => Some(*value),
        ExprKind::Literal(Literal::Int(value)) => u32::try_from(*value).ok().map(f64::from),
        ExprKind::Unary(UnaryOp::Negate, _) => None,
        _ => None,
    }
}
