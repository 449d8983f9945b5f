//! The checker: what the parser cannot know.
//!
//! Names, declarations that come twice, the arity of functions, keys of blocks, and what an agent
//! does against what its capabilities and policies let it do.
//!
//! # What holds
//!
//! - An undefined name is an error; a call of one is a tool, and at most a warning.
//! - Where an item could not be read whole, nothing is said about the names in it: what is missing
//!   there may be what defines them.
//!
//! # What is not here
//!
//! Attributes are checked where they are read ([`crate::definition`]), policy rules where they are
//! compiled ([`crate::policy`]). Types are not compared yet: inference belongs beside [`names`], and
//! opaque types are all that is said about them.

mod access;
mod flow;
mod names;

use std::collections::HashSet;

use crate::definition::AgentDefinition;
use crate::diagnostic::{Diagnostic, Severity, Sink, nearest};
use crate::hir::{BlockDecl, BlockKind, Entry, Event, Function, Param, Program, Span, Spanned};
use crate::infer;
use crate::resolve::Resolution;
use crate::syntax::literal::short;

/// Checks a program; `agents` are the definitions of its agents.
pub(crate) fn check(program: &Program, agents: &[AgentDefinition], sink: &mut Sink) {
    duplicates(program, sink);
    for block in &program.blocks {
        keys(block, sink);
    }
    used_policies(program, sink);
    let broken = names::Broken::of(program, sink);
    let names = Resolution::of(program);
    names::check(program, &names, &broken, sink);
    infer::check(program, &names, &|at| broken.holds(at), sink);
    flow::check(program, &broken, sink);
    let mut budget = access::BUDGET;
    for (agent, definition) in program.agents.iter().zip(agents) {
        access::check(program, agent, definition, &mut budget, sink);
    }
}

// Declarations that come twice.

fn duplicates(program: &Program, sink: &mut Sink) {
    let functions = |functions: &[Function], sink: &mut Sink| {
        unique("function", functions.iter().map(|function| &function.name), sink);
        for function in functions {
            params(&function.params, sink);
        }
    };
    unique("agent", program.agents.iter().map(|agent| &agent.name), sink);
    unique("type", program.types.iter().map(|ty| &ty.name), sink);
    unique("policy", program.policies.iter().map(|policy| &policy.name), sink);
    functions(&program.functions, sink);
    for kind in [BlockKind::Schedule, BlockKind::Channel, BlockKind::Memory, BlockKind::Webhook] {
        let blocks = program.blocks.iter().filter(|block| block.kind == kind);
        unique(block_word(kind), blocks.map(|block| &block.name), sink);
    }
    for agent in &program.agents {
        params(&agent.params, sink);
        unique("policy", agent.policies.iter().map(|policy| &policy.name), sink);
        functions(&agent.functions, sink);
        if let Some(with) = &agent.with {
            unique("attribute", with.attributes.iter().map(|entry| &entry.key), sink);
        }
        for event in [Event::Message, Event::Start, Event::Stop] {
            let handlers = agent.handlers.iter().filter(|handler| handler.event == event);
            for handler in handlers.skip(1) {
                sink.push(
                    Diagnostic::error(
                        "E0202",
                        format!("the agent `{}` handles this event twice", agent.name.node),
                        handler.span.start..handler.span.start + "on".len(),
                    )
                    .label("here is another handler of it"),
                );
            }
        }
    }
}

fn params(params: &[Param], sink: &mut Sink) {
    unique("parameter", params.iter().map(|param| &param.name), sink);
}

fn unique<'a>(what: &str, names: impl Iterator<Item = &'a Spanned<String>>, sink: &mut Sink) {
    let mut seen: HashSet<&str> = HashSet::new();
    for name in names.filter(|name| !name.node.is_empty()) {
        if !seen.insert(&name.node) {
            let message = format!("there are two of the {what} `{}`", short(&name.node));
            sink.push(
                Diagnostic::error("E0202", message, name.span.clone()).label("this is the second"),
            );
        }
    }
}

// Keys of blocks.

fn block_word(kind: BlockKind) -> &'static str {
    match kind {
        BlockKind::Schedule => "schedule",
        BlockKind::Channel => "channel",
        BlockKind::Memory => "memory",
        BlockKind::Webhook => "webhook",
    }
}

fn known_keys(kind: BlockKind) -> (&'static [&'static str], &'static [&'static str]) {
    match kind {
        BlockKind::Schedule => (
            &[
                "cron", "every", "at", "timezone", "agent", "gap", "fold", "overlap", "catch_up",
                "jitter", "input",
            ],
            &["input"],
        ),
        BlockKind::Channel => (
            &[
                "platform",
                "workspace",
                "channels",
                "topic",
                "default_agent",
                "dlp_profile",
                "audit_level",
                "default_deny",
            ],
            &["data_classification"],
        ),
        BlockKind::Memory => (&["store", "path", "retention"], &["search"]),
        BlockKind::Webhook => (&["path", "provider", "secret", "agent"], &["filter"]),
    }
}

fn all_keys(kind: BlockKind) -> impl Iterator<Item = &'static str> {
    let (keys, inner) = known_keys(kind);
    keys.iter().chain(inner).copied()
}

/// The keys of an inner block; `None` where they are the author's.
fn inner_keys(name: &str) -> Option<&'static [&'static str]> {
    match name {
        "search" => Some(&["vector_weight", "keyword_weight"]),
        "filter" => Some(&["json_path", "equals", "contains"]),
        _ => None,
    }
}

/// Says that something is understood and does nothing.
pub(crate) fn unserved(what: &str, span: &Span, sink: &mut Sink) {
    sink.push(
        Diagnostic::warning("W0314", format!("{what} is not served by this version"), span.clone())
            .label("has no effect"),
    );
}

fn keys(block: &BlockDecl, sink: &mut Sink) {
    let (_, inner) = known_keys(block.kind);
    let word = block_word(block.kind);
    match block.kind {
        BlockKind::Schedule | BlockKind::Channel | BlockKind::Webhook => {
            unserved(&format!("a `{word}`"), &block.name.span, sink);
        }
        // A store in itself is served; how and where it is kept can't be chosen.
        BlockKind::Memory => {
            let keys = block.entries.iter().map(|entry| &entry.key);
            for key in keys.chain(block.inner.iter().map(|(name, _)| name)) {
                if all_keys(block.kind).any(|known| known == key.node) {
                    unserved(&format!("`{}` of a memory", key.node), &key.span, sink);
                }
            }
        }
    }
    let all = || all_keys(block.kind);
    for Entry { key, .. } in &block.entries {
        if !all().any(|known| known == key.node) {
            unknown_key(key, word, all(), sink);
        }
    }
    for (name, entries) in &block.inner {
        if !inner.contains(&name.node.as_str()) {
            unknown_key(name, word, all(), sink);
        }
        let Some(known) = inner_keys(&name.node) else { continue };
        for Entry { key, .. } in entries {
            if !known.contains(&key.node.as_str()) {
                unknown_key(key, &name.node, known.iter().copied(), sink);
            }
        }
    }
    unique("key", block.entries.iter().map(|entry| &entry.key), sink);
}

fn unknown_key(
    key: &Spanned<String>,
    block: &str,
    known: impl Iterator<Item = &'static str>,
    sink: &mut Sink,
) {
    let message = format!("a {block} has no key `{}`", short(&key.node));
    sink.push(
        Diagnostic::warning("W0304", message, key.span.clone())
            .label("has no effect")
            .did_you_mean(nearest(&key.node, known)),
    );
}

// Policies.

fn used_policies(program: &Program, sink: &mut Sink) {
    let shared: HashSet<&str> =
        program.policies.iter().map(|policy| policy.name.node.as_str()).collect();
    let mut used: HashSet<&str> = HashSet::new();
    for agent in &program.agents {
        let own: HashSet<&str> =
            agent.policies.iter().map(|policy| policy.name.node.as_str()).collect();
        for name in &agent.uses {
            let name_text = name.node.as_str();
            used.insert(name_text);
            if !own.contains(name_text)
                && !shared.contains(name_text)
                && !sink.is_full(Severity::Error)
            {
                let message = format!("there is no policy `{}`", short(&name.node));
                sink.push(
                    Diagnostic::error("E0205", message, name.span.clone())
                        .label("not declared in this file")
                        .did_you_mean(nearest(&name.node, shared.iter().copied())),
                );
            }
        }
    }
    // Policies alone in a file are there for others.
    for policy in program.policies.iter().filter(|_| !program.agents.is_empty()) {
        if !used.contains(policy.name.node.as_str()) && !policy.name.node.starts_with('_') {
            let message = format!("no agent uses the policy `{}`", short(&policy.name.node));
            sink.push(
                Diagnostic::warning("W0301", message, policy.name.span.clone())
                    .label("decides nothing"),
            );
        }
    }
}
