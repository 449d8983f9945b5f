//! Expressions of the language over the facts of a request.
//!
//! A policy compares facts: an argument, the agent's tier, the hour. Where a condition wants something
//! that has to be worked out of facts (`name.lower()`, `args.length`, `now() - 1h`), that part of it is a
//! formula, which the language's own evaluator works out when the request is there.
//!
//! # What holds
//!
//! - A formula has no effects: it is made of facts, literals, operators, pure builtins and methods. A call
//!   of a tool, of the host or of a function of the file is none, and neither is a lambda.
//! - The same facts give the same value. The only time is the request's, which `now()` gives.
//! - Values of two kinds are not compared, nor looked for among others: that has no value, whatever a
//!   program would make of it.
//! - It is bounded in steps and memory. What goes beyond, and whatever else is an error, has no value.
//! - The text of a formula is all of it. It names facts by their paths: `argument[0]`, `named.x`,
//!   `user.role`.
//!
//! # What is not here
//!
//! What a condition makes of the value, or of there being none, is the policy engine's.

mod kinds;

pub(crate) use kinds::{Kinds, comparable, kinds};

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use symbiont_types::PolicyValue;

use crate::diagnostic::{Severity, nearest};
use crate::hir::{Arg, Expr, ExprKind, Literal, Program, Span};
use crate::machine::{Code, Entry, HostCall, Limits, Machine, Step, compile};
use crate::operations::{AMBIENT, BUILTINS, NAMESPACES, is_host_call};
use crate::signatures::Receiver;
use crate::syntax::literal::short;
use crate::syntax::parse;
use crate::value::{ErrorValue, Value};

/// The steps that one formula may take.
pub const MAX_STEPS: u64 = 200_000;

/// The bytes that it may hold, the facts that it reads included.
pub const MAX_MEMORY: u64 = 8 << 20;

/// How deep the values of a fact nest.
const MAX_DEPTH: usize = 64;

/// The longest range that policies see as a list.
const LONGEST_RANGE: i64 = 10_000;

/// An expression over facts, ready to be worked out.
#[derive(Debug, Clone)]
pub struct Formula {
    text: Arc<str>,
    reads: Vec<Vec<String>>,
    code: Arc<Code>,
}

/// Why a text is no formula.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FormulaError {
    /// What is wrong.
    pub message: String,
    /// Which bytes of the text.
    pub span: Range<usize>,
}

impl PartialEq for Formula {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Formula {
    /// Reads a text such as `argument[0].lower()`.
    ///
    /// # Errors
    ///
    /// The text is no expression, or something in it is more than facts and what is worked out of
    /// them; the message says what.
    pub fn read(text: &str) -> Result<Self, FormulaError> {
        let (before, after) = ("agent formula { with {(\n", "\n)} }");
        let inside = |span: &Span| {
            let place = |at: usize| at.saturating_sub(before.len()).min(text.len());
            place(span.start)..place(span.end)
        };
        let error = |message: String, span: &Span| FormulaError { message, span: inside(span) };
        let parsed = parse(&format!("{before}{text}{after}"));
        if let Some(found) = parsed.diagnostics.iter().find(|it| it.severity == Severity::Error) {
            return Err(error(found.message.clone(), &found.span));
        }
        let whole = || FormulaError {
            message: "this is not one expression".to_owned(),
            span: 0..text.len(),
        };
        let expr = only_expression(&parsed.program).ok_or_else(whole)?;
        let mut reads: Vec<Vec<String>> = Vec::new();
        let mut places: Vec<(Span, String)> = Vec::new();
        walk(expr, &canonical, &mut |place| {
            let instead = match place.read {
                Read::Now => "now()".to_owned(),
                Read::Fact(path) => {
                    let known = reads.iter().position(|known| *known == path);
                    let number = known.unwrap_or(reads.len());
                    if known.is_none() {
                        reads.push(path);
                    }
                    fact_name(number)
                }
            };
            places.push((inside(&place.expr.span), instead));
        })
        .map_err(|fault| match fault.why {
            Some(why) => error(why, &fault.span),
            None => error("this is nothing that a request says".to_owned(), &fault.span),
        })?;
        // Each fact is a parameter, and the expression is the program.
        let params: Vec<String> = (0..reads.len()).map(fact_name).collect();
        let body = replaced(text, 0, places);
        let source = format!("agent formula({}) {{ with {{(\n{body}\n)}} }}", params.join(", "));
        let code = compile(&parse(&source).program, 0)
            .map_err(|error| FormulaError { message: error.message, span: 0..text.len() })?;
        Ok(Self { text: text.into(), reads, code: Arc::new(code) })
    }

    /// The text that it was read from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The paths of the facts that it is worked out of, each once.
    pub fn reads(&self) -> &[Vec<String>] {
        &self.reads
    }

    /// Its value, given its facts in the order of [`Formula::reads`] and the time of the request in
    /// seconds since 1970. What it takes goes off `steps`; with none left it has no value.
    ///
    /// # Errors
    ///
    /// As of a program: a `TypeError` for what does not fit, a `LimitExceeded` for too much, and so on.
    pub fn value<'v>(
        &self,
        facts: impl IntoIterator<Item = &'v PolicyValue>,
        now_unix: i64,
        steps: &mut u64,
    ) -> Result<PolicyValue, ErrorValue> {
        let most = MAX_STEPS.min(*steps);
        let mut left = most;
        let arguments: Option<Vec<_>> = (facts.into_iter().enumerate())
            .map(|(number, fact)| Some((fact_name(number), value_of(fact, MAX_DEPTH, &mut left)?)))
            .collect();
        *steps -= most - left;
        let arguments =
            arguments.ok_or_else(|| ErrorValue::new("LimitExceeded", "the facts are too large"))?;
        let limits = Limits { steps: left, memory: MAX_MEMORY, depth: 16, output: MAX_MEMORY };
        let code = Arc::clone(&self.code);
        let mut machine = Machine::start(code, Entry::With, arguments, Vec::new(), limits)?;
        machine.compare_only(kinds::told_apart);
        let result = loop {
            match machine.run(MAX_STEPS) {
                Step::Call(call) => machine.resume(time(&call, now_unix)),
                Step::Done(value) => break Ok(fact(&value)),
                Step::Failed(error) => break Err(error),
                Step::Yielded => {}
            }
        };
        *steps = steps.saturating_sub(machine.steps());
        result
    }
}

/// The parameter that stands for a fact.
fn fact_name(number: usize) -> String {
    format!("fact_{number}")
}

/// The expression that is all there is in the program.
fn only_expression(program: &Program) -> Option<&Expr> {
    let Program { metadata, types, functions, policies, agents, blocks } = program;
    let [agent] = agents.as_slice() else { return None };
    let alone = metadata.is_empty()
        && types.is_empty()
        && functions.is_empty()
        && policies.is_empty()
        && blocks.is_empty()
        && agent.functions.is_empty()
        && agent.handlers.is_empty()
        && agent.policies.is_empty();
    let body = &agent.with.as_ref().filter(|_| alone)?.body;
    body.value.as_deref().filter(|_| body.statements.is_empty())
}

/// The text with something else at these places, which are in its order; it begins at `start`.
pub(crate) fn replaced(text: &str, start: usize, places: Vec<(Span, String)>) -> String {
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    for (span, instead) in places {
        let (from, to) = (span.start - start, span.end - start);
        out.push_str(&text[at..from]);
        out.push_str(&instead);
        at = to;
    }
    out.push_str(&text[at..]);
    out
}

// What is a formula.

/// What a name stands for in a formula.
pub(crate) enum Root {
    /// What is under this path in a request.
    Path(Vec<String>),
    /// Something else of the file, which policies don't see.
    Hidden(&'static str),
    /// Nothing of the file, and nothing that a request says.
    Unknown,
}

/// The names of formulas as they are kept: all of what a request says.
fn canonical(name: &str) -> Root {
    match name {
        "argument" | "named" => Root::Path(vec![name.to_owned()]),
        _ => well_known(name),
    }
}

/// What of a request every policy may name.
pub(crate) const FACTS: [&str; 5] = ["operation", "time", "limits", "metadata", "context"];

/// What names stand for that nothing in the file defines.
pub(crate) fn well_known(name: &str) -> Root {
    if name == "current_time" {
        Root::Path(vec!["time".to_owned(), "unix".to_owned()])
    } else if AMBIENT.contains(&name) || FACTS.contains(&name) {
        Root::Path(vec![name.to_owned()])
    } else {
        Root::Unknown
    }
}

/// A part of a formula that a request answers.
pub(crate) struct Place<'e> {
    pub(crate) expr: &'e Expr,
    /// The name that it begins with.
    pub(crate) root: &'e Expr,
    pub(crate) read: Read,
}

/// What is read of a request.
pub(crate) enum Read {
    Fact(Vec<String>),
    /// Its time, as a time.
    Now,
}

/// What keeps an expression from being a formula, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) span: Span,
    /// `None` if somebody else says it.
    pub(crate) why: Option<String>,
}

impl Fault {
    pub(crate) fn new(span: &Span, why: impl Into<String>) -> Self {
        Self { span: span.clone(), why: Some(why.into()) }
    }
}

/// Gives what an expression reads of a request, in its order, or what in it makes it no formula.
pub(crate) fn walk<'e>(
    expr: &'e Expr,
    names: &dyn Fn(&str) -> Root,
    give: &mut dyn FnMut(Place<'e>),
) -> Result<(), Fault> {
    let span = &expr.span;
    if let Some(path) = path(expr, names)
        && is_fact(&path)
    {
        let root = root(expr);
        let now = std::ptr::eq(root, expr) && path == ["time", "unix"];
        let read = if now { Read::Now } else { Read::Fact(path) };
        give(Place { expr, root, read });
        return Ok(());
    }
    match &expr.kind {
        ExprKind::Missing => return Err(Fault { span: span.clone(), why: None }),
        ExprKind::Name(name) => {
            return Err(match names(name) {
                Root::Hidden(what) => Fault::new(span, format!("{what}, which policies don't see")),
                Root::Path(path) => {
                    Fault::new(span, format!("no fact by itself{}", members(&path)))
                }
                Root::Unknown if name == "any" => Fault::new(span, "no value, but whatever"),
                Root::Unknown if is_function(name) => Fault::new(span, "a function, and no value"),
                // The checker says that nobody defined it.
                Root::Unknown => Fault { span: span.clone(), why: None },
            });
        }
        ExprKind::Member(of, _) | ExprKind::Index(of, _) => {
            let nowhere = |of: &Expr| path(of, names).is_some_and(|path| !is_fact(&path));
            if path(expr, names).is_some() && nowhere(of) {
                let members = path(root(expr), names).map_or("", |path| members(&path));
                return Err(Fault::new(span, format!("no fact that a request has{members}")));
            }
        }
        ExprKind::Call { callee, args } => {
            called(expr, callee, args, names)?;
            if let ExprKind::Member(of, _) = &callee.kind {
                walk(of, names, give)?;
            }
            return args.iter().try_for_each(|arg| walk(&arg.value, names, give));
        }
        ExprKind::Lambda { .. } => return Err(Fault::new(span, "a lambda")),
        ExprKind::If { .. } | ExprKind::Match { .. } => {
            return Err(Fault::new(span, "a choice between blocks"));
        }
        ExprKind::Secret(_) => return Err(Fault::new(span, "a secret")),
        ExprKind::Literal(_)
        | ExprKind::Array(_)
        | ExprKind::Record { .. }
        | ExprKind::Unary(..)
        | ExprKind::Binary(..)
        | ExprKind::Some(_)
        | ExprKind::None
        | ExprKind::Ok(_)
        | ExprKind::Err(_) => {}
    }
    let mut parts = Vec::new();
    expr.each_part(|part| parts.push(part));
    parts.into_iter().try_for_each(|part| walk(part, names, give))
}

/// What a request says under a name, where that is known.
fn members(path: &[String]) -> &'static str {
    match path.first().map(String::as_str) {
        Some("agent") => {
            "; there are `agent.id`, `agent.name`, `agent.tier` and `agent.metadata.key`"
        }
        Some("time") => "; there are `time.hour`, `time.weekday` and `time.unix`",
        Some("limits") => "; there are `limits.memory_mb`, `limits.cpu_cores` and others",
        Some("metadata") => "; there is `metadata.key`",
        _ => "",
    }
}

fn is_function(name: &str) -> bool {
    BUILTINS.contains(&name) || NAMESPACES.contains(&name) || is_host_call(name)
}

fn is_method(name: &str) -> bool {
    Receiver::ALL.into_iter().any(|of| of.methods().iter().any(|method| method.name == name))
}

/// That what is called only computes.
fn called(
    expr: &Expr,
    callee: &Expr,
    args: &[Arg],
    names: &dyn Fn(&str) -> Root,
) -> Result<(), Fault> {
    let fault = |why: &str| Err(Fault::new(&expr.span, why));
    match &callee.kind {
        ExprKind::Name(name) => match names(name) {
            Root::Path(_) => return fault("a call of a fact"),
            Root::Hidden(what) => {
                return fault(&format!("a call of {what}, which policies don't see"));
            }
            Root::Unknown if BUILTINS.contains(&name.as_str()) => {}
            Root::Unknown if name == "now" && args.is_empty() => {}
            Root::Unknown if name == "time_since" && args.len() == 1 => {}
            Root::Unknown if is_host_call(name) => return fault("a call of the host"),
            Root::Unknown if is_method(name) => {
                return fault(&format!(
                    "a call of a tool: `{name}` is a method, as in `x.{name}()`"
                ));
            }
            Root::Unknown => return fault("a call of a tool"),
        },
        ExprKind::Member(of, method) => {
            if let ExprKind::Name(root) = &of.kind
                && NAMESPACES.contains(&root.as_str())
                && !matches!(names(root), Root::Path(_))
            {
                return fault("a call of the host");
            }
            if !is_method(&method.node) {
                let name = short(&method.node);
                let known = Receiver::ALL.into_iter().flat_map(Receiver::methods);
                let meant = nearest(&method.node, known.map(|row| row.name));
                let hint = meant.map(|meant| format!("; did you mean `{meant}`?"));
                return fault(&format!(
                    "a call of `{name}`, which is no method of anything{}",
                    hint.unwrap_or_default()
                ));
            }
        }
        _ => return fault("a call of what is worked out"),
    }
    match args.iter().any(|arg| arg.name.is_some()) {
        true => fault("a call with an argument by name"),
        false => Ok(()),
    }
}

/// The name that members and elements are taken of.
fn root(mut expr: &Expr) -> &Expr {
    while let ExprKind::Member(of, _) | ExprKind::Index(of, _) = &expr.kind {
        expr = of;
    }
    expr
}

/// What programs may read of a value without parentheses, and no fact has.
const COMPUTED: [&str; 11] = [
    "len", "length", "is_empty", "first", "last", "keys", "values", "lower", "upper", "trim",
    "lines",
];

/// The path of a fact, if the expression is one: a name, and members of it.
pub(crate) fn path(expr: &Expr, names: &dyn Fn(&str) -> Root) -> Option<Vec<String>> {
    match &expr.kind {
        ExprKind::Name(name) => match names(name) {
            Root::Path(path) => Some(path),
            Root::Hidden(_) | Root::Unknown => None,
        },
        // `now()` is `current_time`.
        ExprKind::Call { callee, args } => match &callee.kind {
            ExprKind::Name(name)
                if name == "now" && args.is_empty() && matches!(names(name), Root::Unknown) =>
            {
                Some(vec!["time".to_owned(), "unix".to_owned()])
            }
            _ => None,
        },
        ExprKind::Member(of, name) => {
            let mut path = path(of, names)?;
            match path.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
                // `current_time.hour`
                ["time", "unix"] if std::ptr::eq(root(of), &**of) => {
                    path.pop();
                }
                ["operation" | "time" | "limits" | "agent" | "metadata", ..] => {}
                _ if COMPUTED.contains(&name.node.as_str()) => return None,
                _ => {}
            }
            path.push(name.node.clone());
            Some(path)
        }
        ExprKind::Index(of, key) => {
            let mut path = path(of, names)?;
            match &key.kind {
                ExprKind::Literal(Literal::String(key)) => path.push(key.clone()),
                ExprKind::Literal(Literal::Int(at)) if *at >= 0 && path == ["argument"] => {
                    path.push(at.to_string());
                }
                _ => return None,
            }
            Some(path)
        }
        _ => None,
    }
}

/// Whether a request can have a fact under this path.
pub(crate) fn is_fact(path: &[String]) -> bool {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path.as_slice() {
        ["operation", rest @ ..] => rest.is_empty(),
        ["time", rest @ ..] => matches!(rest, ["unix" | "hour" | "weekday"]),
        ["limits", rest @ ..] => {
            matches!(rest, ["memory_mb" | "cpu_cores" | "disk_io_mbps" | "network_io_mbps"])
        }
        ["agent", rest @ ..] => matches!(rest, ["id" | "name" | "tier"] | ["metadata", _]),
        ["metadata", rest @ ..] => rest.len() == 1,
        ["argument" | "named", rest @ ..] => !rest.is_empty(),
        _ => true,
    }
}

// Values.

/// The answer to a call of `now` or `time_since`, which are all that a formula asks.
fn time(call: &HostCall, now_unix: i64) -> Result<Value, ErrorValue> {
    const NANOS: i64 = 1_000_000_000;
    let now = now_unix.checked_mul(NANOS);
    let now = now.ok_or_else(|| ErrorValue::new("ArithmeticError", "this time is out of range"))?;
    let since = |then: i64| {
        Value::Duration(Duration::from_nanos(now.saturating_sub(then).max(0).unsigned_abs()))
    };
    match (&*call.name, call.args.as_slice()) {
        ("now", []) => Ok(Value::Time(now)),
        ("time_since", [Value::Time(then)]) => Ok(since(*then)),
        // Facts state times in seconds.
        ("time_since", [Value::Int(then)]) => Ok(since(then.saturating_mul(NANOS))),
        (name, _) => Err(ErrorValue::new("TypeError", format!("`{name}` needs a time"))),
    }
}

/// The value that a fact is in a program, paid for in steps; `None` if it is too large.
fn value_of(fact: &PolicyValue, depth: usize, steps: &mut u64) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    let bytes = if let PolicyValue::String(text) = fact { text.len() as u64 } else { 0 };
    *steps = steps.checked_sub(1 + bytes / 16)?;
    Some(match fact {
        PolicyValue::Null => Value::Null,
        PolicyValue::Bool(value) => Value::Bool(*value),
        PolicyValue::Int(value) => Value::Int(*value),
        PolicyValue::Float(value) => Value::Float(*value),
        PolicyValue::String(text) => Value::from(text.as_str()),
        PolicyValue::List(items) => {
            let items = items.iter().map(|item| value_of(item, depth, steps));
            Value::array(items.collect::<Option<Vec<_>>>()?)
        }
        PolicyValue::Record(fields) => {
            let fields = (fields.iter())
                .map(|(key, field)| Some((key.as_str(), value_of(field, depth, steps)?)));
            Value::map(fields.collect::<Option<Vec<_>>>()?)
        }
    })
}

/// A value as policies see it: a time and a duration in seconds, a size in bytes; null for what
/// they have no word for.
pub fn fact(value: &Value) -> PolicyValue {
    match value {
        Value::Null | Value::None | Value::Any | Value::Function(_) => PolicyValue::Null,
        Value::Bool(value) => PolicyValue::Bool(*value),
        Value::Int(value) => PolicyValue::Int(*value),
        Value::Float(value) => PolicyValue::Float(*value),
        Value::Size(bytes) => i64::try_from(*bytes).map_or(PolicyValue::Null, PolicyValue::Int),
        Value::Time(nanos) => PolicyValue::Int(nanos / 1_000_000_000),
        Value::Duration(duration) => PolicyValue::Float(duration.as_secs_f64()),
        Value::Range(from, to) if to.saturating_sub(*from) <= LONGEST_RANGE => {
            PolicyValue::List((*from..*to).map(PolicyValue::Int).collect())
        }
        Value::Range(..) => PolicyValue::Null,
        Value::Some(inner) | Value::Ok(inner) => fact(inner),
        Value::Array(items) => PolicyValue::List(items.iter().map(fact).collect()),
        Value::Map(map) => {
            PolicyValue::Record(map.iter().map(|(k, v)| (k.to_string(), fact(v))).collect())
        }
        Value::String(_)
        | Value::Bytes(_)
        | Value::Error(_)
        | Value::Err(_)
        | Value::Secret(_)
        | Value::Memory(_) => PolicyValue::String(value.to_string()),
    }
}
