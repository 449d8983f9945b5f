//! Names in bodies: those that nobody defined, those that nobody uses, and calls of functions.
//!
//! What each name means was found by the resolver; here it is only told.

use std::collections::{HashMap, HashSet};

use crate::diagnostic::{Diagnostic, Severity, Sink, nearest};
use crate::foreign::{self, Instead};
use crate::formula::FACTS;
use crate::hir::{Arg, Block, ExprKind, Function, Literal, Program, Span, StmtKind};
use crate::operations::{self, AMBIENT, BUILTINS, Given, Misplaced, Place, Shape};
use crate::resolve::{Binding, Call, Callee, Resolution, SymbolKind, Undefined};
use crate::syntax::literal::short;
use crate::tools::Tools;
use crate::types::BUILTIN_TYPES;

/// How many names of tools are compared with those of functions, in one file.
const HINTS: usize = 1000;

/// Tells what is wrong with the names of a program, which may call these tools, if that is known.
pub(super) fn check(
    program: &Program,
    source: &str,
    names: &Resolution<'_>,
    broken: &Broken,
    tools: Option<&Tools>,
    sink: &mut Sink,
) {
    let is_function = |id: &usize| names.bindings[*id].kind == SymbolKind::Function;
    let functions = (0..names.bindings.len()).filter(is_function).collect();
    let said = HashSet::new();
    let mut report = Report {
        program,
        source,
        names,
        broken,
        lost: None,
        tools,
        functions,
        said,
        hints: HINTS,
        sink,
    };
    names.undefined.iter().for_each(|undefined| report.undefined(undefined));
    names.opaque.iter().for_each(|(name, span)| report.opaque(name, span));
    for (name, span, most, given) in &names.overfull {
        report.overfull(name, span, *most, *given);
    }
    names.bindings.iter().for_each(|binding| report.unused(binding));
    names.calls.iter().for_each(|call| report.call(call));
}

/// What could not be read whole. What is missing there may be what defines a name.
pub(super) struct Broken {
    /// Functions and bodies.
    items: Vec<Span>,
    /// Where the names of functions begin whose parameters could not be read whole.
    heads: HashSet<usize>,
    /// The statements in them, and in the loops in them, that faults are in, with what was skipped behind
    /// them.
    statements: Vec<Span>,
}

impl Broken {
    pub(super) fn of(program: &Program, sink: &Sink) -> Self {
        let mut faults = sink.syntax_faults();
        faults.sort_unstable_by_key(|span| span.start);
        let is_broken = |span: &Span| {
            let first = faults.partition_point(|fault| fault.start < span.start);
            faults.get(first).is_some_and(|fault| fault.start < span.end)
        };
        let (mut items, mut statements, mut heads) = (Vec::new(), Vec::new(), HashSet::new());
        let of_agents = program.agents.iter().flat_map(|agent| &agent.functions);
        for function in program.functions.iter().chain(of_agents) {
            let item = function.name.span.start..function.body.span.end;
            if is_broken(&item) {
                faulty(&function.body, &is_broken, &mut statements);
                if is_broken(&(item.start..function.body.span.start)) {
                    heads.insert(item.start);
                }
                items.push(item);
            }
        }
        for agent in &program.agents {
            let handlers = agent.handlers.iter().map(|handler| (&handler.span, &handler.body));
            let bodies = handlers.chain(agent.with.iter().map(|with| (&with.span, &with.body)));
            let starts = (bodies.clone().map(|(span, _)| span.start))
                .chain(agent.policies.iter().map(|policy| policy.span.start));
            let header = is_broken(&(agent.span.start..starts.min().unwrap_or(agent.span.end)));
            for (span, body) in bodies.filter(|(span, _)| header || is_broken(span)) {
                faulty(body, &is_broken, &mut statements);
                items.push(span.clone());
            }
        }
        items.sort_unstable_by_key(|item| item.start);
        statements.sort_unstable_by_key(|statement| statement.start);
        Self { items, heads, statements }
    }

    /// Whether this place is in an item that could not be read whole.
    pub(super) fn holds(&self, offset: usize) -> bool {
        is_in(offset, &self.items)
    }

    /// Whether this place is in a statement that could not be read whole.
    pub(super) fn in_statement(&self, offset: usize) -> bool {
        is_in(offset, &self.statements)
    }
}

/// Whether a place is in one of these, which are in order and apart.
fn is_in(offset: usize, spans: &[Span]) -> bool {
    let after = spans.partition_point(|span| span.start <= offset);
    spans[..after].last().is_some_and(|span| offset < span.end)
}

/// Adds the statements of a block that are broken, each up to the next one.
fn faulty(block: &Block, is_broken: &impl Fn(&Span) -> bool, found: &mut Vec<Span>) {
    let starts = block.statements.iter().map(|statement| statement.span.start);
    let value = block.value.iter().map(|value| value.span.start);
    let starts: Vec<usize> = starts.chain(value).chain([block.span.end]).collect();
    for (at, pair) in starts.windows(2).enumerate() {
        let place = pair[0]..pair[1];
        if !is_broken(&place) {
            continue;
        }
        let inner: Vec<&Block> = match block.statements.get(at).map(|statement| &statement.kind) {
            Some(StmtKind::For { body, .. } | StmtKind::While { body, .. }) => vec![body],
            Some(StmtKind::Try { body, catches }) => {
                [body].into_iter().chain(catches.iter().map(|catch| &catch.body)).collect()
            }
            _ => Vec::new(),
        };
        // What is wrong around its blocks may be the whole of it.
        let behind = std::iter::once(pair[1]..pair[1]);
        let ends = inner.iter().map(|block| block.span.clone()).chain(behind);
        let mut from = pair[0];
        let mut around = false;
        for end in ends {
            around |= is_broken(&(from..end.start));
            from = end.end;
        }
        match around {
            true => found.push(place),
            false => inner.into_iter().for_each(|block| faulty(block, is_broken, found)),
        }
    }
}

/// The undefined names that what could not be read may define. A name that stands once in a file is no one's
/// but a mistake's.
fn lost<'a>(names: &Resolution<'a>, source: &str) -> HashSet<&'a str> {
    let mut counts: HashMap<&str, u64> =
        names.undefined.iter().map(|undefined| (undefined.name, 0)).collect();
    for word in source.split(|c: char| !c.is_alphanumeric() && c != '_') {
        if let Some(count) = counts.get_mut(word) {
            *count += 1;
        }
    }
    counts.into_iter().filter(|(_, count)| *count > 1).map(|(name, _)| name).collect()
}

struct Report<'a, 'r> {
    program: &'a Program,
    source: &'r str,
    names: &'r Resolution<'a>,
    broken: &'r Broken,
    /// The undefined names that are not told of in broken items, once that is known.
    lost: Option<HashSet<&'a str>>,
    /// The tools that there are, if that is known.
    tools: Option<&'r Tools>,
    functions: Vec<usize>,
    /// The opaque types that were told of.
    said: HashSet<String>,
    /// How many more names of tools are compared with those of functions.
    hints: usize,
    sink: &'r mut Sink,
}

impl<'a> Report<'a, '_> {
    fn undefined(&mut self, undefined: &Undefined<'_>) {
        let Undefined { name, span, in_rule, member } = undefined;
        if self.sink.is_full(Severity::Error) {
            return;
        }
        if self.broken.in_statement(span.start) {
            return;
        }
        if self.broken.holds(span.start) {
            let (names, source) = (self.names, self.source);
            if self.lost.get_or_insert_with(|| lost(names, source)).contains(name) {
                return;
            }
        }
        let called = member.as_ref().and_then(|member| {
            let whole = format!("{name}.{}", member.node);
            let instead = Instead::of(foreign::NAMES, &whole)?;
            Some((instead, whole, span.start..member.span.end))
        });
        if let Some((instead, name, span)) = called {
            let message = format!("nobody defined `{name}`");
            let diagnostic = Diagnostic::error("E0201", message, span).label("not known here");
            self.sink.push(instead.tell(diagnostic));
            return;
        }
        let message = format!("nobody defined `{}`", short(name));
        let diagnostic = Diagnostic::error("E0201", message, span.clone()).label("not known here");
        let diagnostic = if self.program.agents.iter().any(|agent| agent.name.node == *name) {
            let text = format!("\"{name}\"");
            diagnostic.fix(span.clone(), text, "an agent is named by a text")
        } else if let Some(instead) = Instead::of(foreign::NAMES, name) {
            instead.tell(diagnostic)
        } else {
            let visible = self.names.visible_at(span.start);
            let values = visible.iter().map(|id| &self.names.bindings[*id]).filter(|binding| {
                use SymbolKind::{Function, Parameter, Part, Variable};
                match binding.kind {
                    Part => true,
                    // Policies see nothing else of the file.
                    Function | Parameter | Variable => !in_rule,
                    _ => false,
                }
            });
            let facts: &[&str] = if *in_rule { &FACTS } else { &[] };
            let known = values.map(|binding| binding.name).chain(AMBIENT.iter().copied());
            let known = known.chain(facts.iter().copied());
            diagnostic.did_you_mean(nearest(name, known))
        };
        self.sink.push(diagnostic);
    }

    fn unused(&mut self, binding: &Binding<'_>) {
        let name = binding.name;
        if binding.reads > 0 || name.is_empty() || name.starts_with('_') {
            return;
        }
        let span = binding.span.clone();
        if binding.kind == SymbolKind::Function {
            let message = format!("nothing calls the function `{}`", short(name));
            self.sink.push(Diagnostic::warning("W0301", message, span).label("never called"));
        } else if binding.stored && !self.broken.holds(span.start) {
            let message = format!("nothing uses `{}`", short(name));
            self.sink.push(
                Diagnostic::warning("W0301", message, span)
                    .label("never used")
                    .note("a name that begins with `_` may stay unused"),
            );
        }
    }

    fn opaque(&mut self, name: &str, span: &Span) {
        if self.sink.is_full(Severity::Warning) || !self.said.insert(name.to_owned()) {
            return;
        }
        let message = format!("nobody defined the type `{}`", short(name));
        let declared = self.program.types.iter().map(|ty| ty.name.node.as_str());
        let known = || BUILTIN_TYPES.iter().copied().chain(declared.clone());
        let foreign = |name: &str| {
            let name = name.to_lowercase();
            foreign::TYPES.iter().find(|(foreign, _)| *foreign == name).map(|(_, meant)| *meant)
        };
        // A name that differs in its capitals only is nearer than what others call something else.
        let meant = known()
            .find(|known| known.eq_ignore_ascii_case(name))
            .or_else(|| foreign(name))
            .or_else(|| nearest(name, known()));
        self.sink.push(
            Diagnostic::warning("W0310", message, span.clone())
                .label("anything fits")
                .did_you_mean(meant),
        );
    }

    fn overfull(&mut self, name: &str, span: &Span, most: usize, given: usize) {
        let plural = if most == 1 { "" } else { "s" };
        let are = if given == 1 { "is" } else { "are" };
        let message = format!("`{name}` takes {most} type{plural}, and {given} {are} given");
        self.sink.push(
            Diagnostic::warning("W0322", message, span.clone())
                .label("what is too much means nothing"),
        );
    }

    fn call(&mut self, call: &Call<'a>) {
        match &call.callee {
            Callee::Function(id, function) => self.arity(*id, function, call),
            Callee::Host(name) => {
                self.host_call(name, call.args, call.span);
                if let ("tool", Some(tools)) = (&**name, self.tools) {
                    super::tools::named_call(call.args, tools, self.sink);
                }
            }
            Callee::Tool(name) => self.tool(name, call.args, &call.name),
        }
    }

    /// What a host call is given and does not take.
    fn host_call(&mut self, call: &str, args: &[Arg], span: &Span) {
        let Some(arranged) = operations::arrange(call, &given(args)) else { return };
        let places = match arranged {
            Ok(arranged) => arranged.places,
            Err(Misplaced { argument, message, nearest }) => {
                let place = args.get(argument).map_or(span, |arg| match &arg.name {
                    Some(name) => &name.span,
                    None => &arg.value.span,
                });
                self.refused(message, place, nearest);
                return;
            }
        };
        for (arg, place) in args.iter().zip(&places) {
            let (Place::Options, ExprKind::Record { fields, .. }) = (place, &arg.value.kind) else {
                continue;
            };
            for (key, _) in fields {
                if let Err((message, nearest)) = operations::option(call, &key.node) {
                    self.refused(message, &key.span, nearest);
                }
            }
        }
    }

    fn refused(&mut self, message: String, span: &Span, nearest: Option<&str>) {
        self.sink.push(
            Diagnostic::warning("W0313", message, span.clone())
                .label("will fail with `TypeError`")
                .did_you_mean(nearest),
        );
    }

    fn arity(&mut self, id: usize, function: &Function, call: &Call<'_>) {
        let takes = function.params.len();
        let params = || function.params.iter().map(|param| param.name.node.as_str());
        let unknown = (call.args.iter().filter_map(|arg| arg.name.as_ref()))
            .find(|name| self.names.parameter(id, &name.node).is_none());
        if let Some(name) = unknown {
            let message = format!(
                "`{}` has no parameter `{}`",
                short(&function.name.node),
                short(&name.node)
            );
            self.sink.push(
                Diagnostic::error("E0203", message, name.span.clone())
                    .label("no such parameter")
                    .did_you_mean(nearest(&name.node, params())),
            );
        } else if call.args.len() != takes && !self.broken.heads.contains(&function.name.span.start)
        {
            let plural = if takes == 1 { "" } else { "s" };
            let message = format!(
                "`{}` takes {takes} argument{plural}, and {} {} given",
                short(&function.name.node),
                call.args.len(),
                if call.args.len() == 1 { "is" } else { "are" }
            );
            let names = params().collect::<Vec<_>>().join(", ");
            self.sink.push(
                Diagnostic::error("E0203", message, call.span.clone())
                    .label(format!("expected ({names})")),
            );
        }
    }

    /// A call of a name that is nothing in the file is a tool; it may be a misspelling.
    fn tool(&mut self, name: &str, args: &[Arg], span: &Span) {
        if self.sink.is_full(Severity::Warning) {
            return;
        }
        if let Some((namespace, member)) = name.split_once('.') {
            if member.is_empty() {
                return;
            }
            let message = format!("`{}` is called as a tool", short(name));
            let known = operations::host_calls().filter(|call| call.starts_with(namespace));
            self.sink.push(
                Diagnostic::warning("W0312", message, span.clone())
                    .label("no such host call")
                    .did_you_mean(nearest(name, known)),
            );
            return;
        }
        let bindings = &self.names.bindings;
        let here = |id: &&usize| {
            let scope = &self.names.scopes[bindings[**id].scope].span;
            scope.start <= span.start && span.end <= scope.end
        };
        let functions = self.functions.iter().filter(here).map(|id| bindings[*id].name);
        if let Some(tools) = self.tools {
            return super::tools::call(name, args, span, tools, functions, self.sink);
        }
        if let Some(instead) = Instead::of(foreign::CALLS, name) {
            let message = format!("`{name}` is called as a tool");
            let diagnostic = Diagnostic::warning("W0312", message, span.clone())
                .label("no function of this file, no builtin");
            self.sink.push(instead.tell(diagnostic));
            return;
        }
        let Some(hints) = self.hints.checked_sub(1) else { return };
        self.hints = hints;
        let fixed = BUILTINS.iter().copied().chain(operations::host_calls());
        let known = functions.chain(fixed.map(|name| -> &'a str { name }));
        let known = known.filter(|known| known.len() > 3);
        if let Some(meant) = nearest(name, known) {
            let message = format!("`{}` is called as a tool", short(name));
            self.sink.push(
                Diagnostic::warning("W0312", message, span.clone())
                    .label("no function of this file, no builtin")
                    .did_you_mean(Some(meant)),
            );
        }
    }
}

/// The arguments of a call, as far as their places depend on them.
pub(crate) fn given(args: &[Arg]) -> Vec<Given<'_>> {
    args.iter()
        .map(|arg| Given {
            name: arg.name.as_ref().map(|name| name.node.as_str()),
            shape: match &arg.value.kind {
                ExprKind::Record { .. } => Shape::Record,
                ExprKind::Literal(Literal::Null) | ExprKind::None | ExprKind::Missing => {
                    Shape::Open
                }
                ExprKind::Literal(_)
                | ExprKind::Array(_)
                | ExprKind::Lambda { .. }
                | ExprKind::Secret(_)
                | ExprKind::Some(_)
                | ExprKind::Ok(_)
                | ExprKind::Err(_)
                | ExprKind::Unary(..)
                | ExprKind::Binary(..) => Shape::Other,
                ExprKind::Name(_)
                | ExprKind::Member(..)
                | ExprKind::Index(..)
                | ExprKind::Call { .. }
                | ExprKind::If { .. }
                | ExprKind::Match { .. } => Shape::Open,
            },
        })
        .collect()
}
