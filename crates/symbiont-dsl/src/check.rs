//! The checker: what the parser cannot know.
//!
//! Names, declarations that come twice, the arity of functions, what blocks of settings say, what
//! nothing gets to, and what an agent does against what its capabilities, its policies and its tier
//! let it do.
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
//! compiled ([`crate::policy`]). What names mean is found by the resolver and types are compared by
//! inference, both of which editors ask as well.

mod access;
pub(crate) mod blocks;
mod flow;
pub(crate) mod names;
mod tools;

use std::collections::HashSet;

use crate::definition::AgentDefinition;
use crate::diagnostic::{Diagnostic, Severity, Sink, nearest};
use crate::hir::{BlockKind, Event, Function, Param, Program, Span, Spanned};
use crate::infer;
use crate::resolve::Resolution;
use crate::syntax::literal::short;
use crate::tools::Tools;
use crate::types;

/// Checks a program; `agents` are the definitions of its agents, `tools` those that it may call, if
/// that is known.
pub(crate) fn check(
    program: &Program,
    agents: &[AgentDefinition],
    source: &str,
    tools: Option<&Tools>,
    sink: &mut Sink,
) {
    duplicates(program, sink);
    endless_types(program, sink);
    blocks::check(program, source, sink);
    used_policies(program, sink);
    let broken = names::Broken::of(program, sink);
    let names = Resolution::of(program);
    names::check(program, source, &names, &broken, tools, sink);
    infer::check(program, &names, source, &|at| broken.in_statement(at), sink);
    flow::check(program, sink);
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
        unique(blocks::word(kind), blocks.map(|block| &block.name), sink);
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

/// Types that no value can be of.
fn endless_types(program: &Program, sink: &mut Sink) {
    for (ty, circle) in types::endless(program) {
        let name = short(&ty.name.node);
        let message = format!("the type `{name}` stands for itself");
        let mut way: Vec<String> =
            circle.iter().take(8).map(|name| format!("`{}`", short(name))).collect();
        if circle.len() > way.len() {
            way.push("...".to_owned());
        }
        way.push(format!("`{name}`"));
        sink.push(
            Diagnostic::error("E0224", message, ty.name.span.clone())
                .label("no value is of it")
                .note(way.join(" -> "))
                .note("an `Option`, an `Array` or a `Map` of it comes to an end"),
        );
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

/// Says that something is understood and does nothing.
pub(crate) fn unserved(what: &str, span: &Span, sink: &mut Sink) {
    sink.push(
        Diagnostic::warning("W0314", format!("{what} is not served by this version"), span.clone())
            .label("has no effect"),
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
