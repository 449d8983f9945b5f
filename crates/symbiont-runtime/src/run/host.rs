//! Host calls: what a program asks of the world, decided, made and recorded.
//!
//! Every governed call goes the same way: capability, policy, intent on record, effect, result on
//! record. A refusal is an error that the program can catch; a record that can't be written is not.

mod http;
mod tools;

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use symbiont_dsl::formula::fact;
use symbiont_dsl::machine::HostCall;
use symbiont_dsl::operations::{self, Arguments, EffectClass, Operation};
use symbiont_dsl::value::{ErrorValue, Value, from_json_text, to_json_text};
use symbiont_types::{
    AgentId, AuditEventType, FilesystemConfig, Message, MessageId, NetworkConfig, Obligation,
    PolicyDecision, PolicyEffect, PolicyValue, Priority, SandboxConfig, SandboxError, SandboxId,
    SandboxStatus,
};

use tokio::time::Instant;

use self::tools::ToolCall;
use super::{Definition, Named, Run, RunFailure, RunOutcome, SandboxSeat};
use crate::clock::{Clock, micros};
use crate::directory::Outgoing;
use crate::journal::{Change, Entry, MEMORY, RUNS};
use crate::policy::{self, Question};
use crate::resources::WORKSPACE_MB;
use crate::sandbox::{Command, SandboxExt};
use crate::scheduler::RunMark;

/// The largest file that a program reads or writes in one call.
const LARGEST_FILE: usize = 16 << 20;
/// The largest value that an agent remembers, as JSON, and the longest key.
const LARGEST_MEMORY: u64 = 1 << 20;
const LONGEST_KEY: usize = 1024;
/// The most keys that one call lists or searches.
const MOST_KEYS: usize = 10_000;
/// The most of one argument, written out, in bytes.
const LARGEST_ARGUMENT: u64 = 32 << 20;
/// The longest operation that is decided; a longer one is refused.
const LONGEST_OPERATION: usize = 8 * 1024;
/// What is kept of a text in the trail.
const LONGEST_NOTE: usize = 4096;
/// What the loss of a sandbox means to a program.
const GONE: &str = "its files are lost, and the next call gets an empty one";
/// The longest that a program sleeps in one call.
const LONGEST_SLEEP: Duration = Duration::from_secs(366 * 24 * 3600);

/// The answer of a call, or what ends the run.
type Answer = Result<Result<Value, ErrorValue>, RunFailure>;

/// Decides, makes and records one call.
pub(super) async fn call(run: &Run, call: &HostCall, line: Option<usize>) -> Answer {
    let seen = canonical(call).and_then(|call| tools::resolved(run, addressed(run, call)));
    let (call, tool) = match &seen {
        Ok((call, tool)) => (call, tool.as_ref()),
        Err(refusal) => return Ok(Err(refusal.clone())),
    };
    let operation = match tool {
        Some(tool) => tool.operation(),
        None => operations::operation(&call.name, &Texts(call)),
    };
    if !operation.governed {
        return free(run, call, line).await;
    }
    let shown = cut(operation.names.last().map_or("", String::as_str));
    if let Some(long) = operation.names.iter().find(|name| name.len() > LONGEST_OPERATION) {
        let message = format!(
            "`{}` was given {} bytes to act on, which is more than any policy looks at",
            call.name,
            long.len()
        );
        return Ok(Err(ErrorValue::new("LimitExceeded", message).with_operation(shown)));
    }
    if operation.capability_checked
        && let Some(refusal) = uncovered(run, &operation, tool.and_then(ToolCall::capability))
    {
        let entry = run
            .entry(AuditEventType::SecurityEvent, "capability.denied", line)
            .details(refusal.clone())
            .with("operation", &shown);
        run.commit(Change::new().record(entry)).await?;
        return Ok(Err(ErrorValue::new("CapabilityDenied", refusal).with_operation(shown)));
    }
    let facts = facts(call);
    let mut change = Change::new();
    let mut terms = Terms::default();
    let mut denial = None;
    for name in &operation.names {
        let decided = decide(run, call, &facts, name, line);
        change = change.record(tools::about(decided.entry, tool));
        terms.add(decided.obligations);
        if decided.refusal.is_some() {
            denial = decided.refusal;
            break;
        }
    }
    denial = denial
        .or_else(|| denied_by_id(run, call))
        .or_else(|| tool.and_then(|tool| tool.denied(run)))
        .or_else(|| terms.refusal(run));
    if let Some((kind, reason)) = denial {
        run.commit(change).await?;
        return Ok(Err(ErrorValue::new(kind, reason).with_operation(shown)));
    }
    let kind = head(&operation);
    let veil = |text: String| if terms.redact { "[redacted]".to_owned() } else { text };
    let begin = tools::about(run.entry(AuditEventType::SecurityEvent, kind, line), tool)
        .details(veil(tool.map_or_else(|| describe(call), ToolCall::describe)))
        .with_some("does", tool.map(|tool| veil(tool.does())))
        .with("operation", &shown)
        .with("phase", "begin")
        .with_some("level", terms.level.as_ref());
    change = change.record(begin);
    let effect = operation.class == EffectClass::NonRepeatable;
    // What another agent does for this run can be told again by nobody: it is as repeatable as that
    // agent's own effects are, which are known when it has ended.
    let delegates = &*call.name == "delegate";
    let whose = run.cause.mark_of(run.agent_id);
    if effect || delegates {
        change = change.put(RUNS, whose, &RunMark { run: run.active.id });
    }
    run.commit(change).await?;
    let meter = &run.active.meter;
    if effect {
        meter.effects.store(true, Ordering::Relaxed);
    }
    meter.in_effect.store(effect || delegates, Ordering::Relaxed);
    let made = async {
        match tool {
            Some(tool) => tool.perform(run).await,
            None => perform(run, call, &shown).await,
        }
    };
    let done = match terms.timeout {
        None => made.await,
        Some(limit) => tokio::time::timeout(limit, made).await.unwrap_or_else(|_| {
            meter.effects.fetch_or(delegates, Ordering::Relaxed);
            let message = format!("a policy gives it {limit:?}, and it took longer");
            Err(ErrorValue::new("Timeout", message).with_retryable(true))
        }),
    };
    let (answer, settled) = match done {
        Ok(Done { value, change, note }) => (Ok(value), (change, note, None)),
        Err(error) => {
            let error = if error.operation.is_none() {
                error.with_operation(shown.as_str())
            } else {
                error
            };
            let note = error.to_string();
            (Err(error.clone()), (Change::new(), note, Some(error.kind)))
        }
    };
    meter.in_effect.store(false, Ordering::Relaxed);
    let (mut change, note, failed) = settled;
    if delegates && !meter.effects.load(Ordering::Relaxed) {
        change = change.remove(RUNS, whose);
    }
    let event_type = match failed {
        Some(_) => AuditEventType::ErrorOccurred,
        None => AuditEventType::SecurityEvent,
    };
    let end = tools::about(run.entry(event_type, kind, line), tool)
        .details(veil(cut(&note)))
        .with("operation", &shown)
        .with("phase", "end")
        .with_some("error", failed);
    run.commit(change.record(end)).await?;
    Ok(answer)
}

/// The call in the one form in which policies, the trail and the host see it.
fn canonical(call: &HostCall) -> Result<HostCall, ErrorValue> {
    let mut call = operations::canonical(call)?;
    // What is written is text.
    if let ("fs.write", [_, content, ..]) = (&*call.name, call.args.as_mut_slice())
        && !matches!(content, Value::String(_) | Value::Bytes(_) | Value::Secret(_))
    {
        *content = Value::from(to_json_text(content, LARGEST_FILE as u64)?);
    }
    bounded(&call)?;
    match (&*call.name, call.args.as_mut_slice()) {
        // What is sent without a topic has this one.
        ("send", [_, topic @ (Value::Null | Value::None), _]) => *topic = Value::from("message"),
        (name, args) if name.starts_with("http.") => http::spell(name, args)?,
        _ => {}
    }
    Ok(call)
}

/// Refuses arguments that nobody could look at in time: policies see all of them, the trail their
/// beginning, and none of that is metered.
fn bounded(call: &HostCall) -> Result<(), ErrorValue> {
    let all = call.args.iter().chain(call.named.iter().map(|(_, value)| value));
    match all.into_iter().any(|value| value.is_written_beyond(LARGEST_ARGUMENT)) {
        false => Ok(()),
        true => {
            let most = LARGEST_ARGUMENT >> 20;
            let message = format!("`{}` was given a value of more than {most} MiB", call.name);
            Err(ErrorValue::new("LimitExceeded", message))
        }
    }
}

/// The call with its receiver by name: policies speak of names, and an id must be no way around
/// them.
fn addressed(run: &Run, mut call: HostCall) -> HostCall {
    if !matches!(&*call.name, "send" | "ask" | "delegate" | "spawn" | "schedule") {
        return call;
    }
    let Some(first) = call.args.first_mut() else { return call };
    let Ok(id) = first.to_string().parse::<AgentId>() else { return call };
    let Some(owner) = run.services.owner.upgrade() else { return call };
    // The same agent has to be meant by the name.
    if let Some(name) = owner.name_of(id).filter(|name| owner.named(name) == Some(id)) {
        *first = Value::from(name);
    }
    call
}

/// Whether a rule denies the receiver of a message by its id.
fn denied_by_id(run: &Run, call: &HostCall) -> Option<(&'static str, String)> {
    if &*call.name != "send" {
        return None;
    }
    let owner = run.services.owner.upgrade()?;
    let to = call.args.first()?.to_string();
    // By name in the program: is the id denied? By id, of one whose name means another: is the name?
    let other = match owner.named(&to) {
        Some(id) => id.to_string(),
        None => owner.name_of(to.parse().ok()?)?,
    };
    let mut facts = facts(call);
    *facts.first_mut()? = Some(PolicyValue::String(other.clone()));
    let operation = format!("message.send:{other}");
    let decision = ask(run, call, &facts, &operation);
    let denied =
        matches!(decision.effect, Some(PolicyEffect::Deny)) && decision.policy_id.is_some();
    denied.then_some(("PolicyDenied", decision.reason))
}

/// What the rules that allow a call demand along with it.
#[derive(Debug, Default)]
struct Terms {
    rates: Vec<(u32, Duration)>,
    timeout: Option<Duration>,
    level: Option<String>,
    redact: bool,
}

impl Terms {
    fn add(&mut self, obligations: Vec<Obligation>) {
        for obligation in obligations {
            match obligation {
                Obligation::RateLimit { count, per } => self.rates.push((count, per)),
                Obligation::Timeout(limit) => {
                    self.timeout = Some(self.timeout.map_or(limit, |least| least.min(limit)));
                }
                Obligation::LogLevel(level) => self.level = Some(cut(&level)),
                Obligation::Redact(_) => self.redact = true,
                // A decision that demands it is a refusal.
                Obligation::Notify(_) => {}
            }
        }
    }

    /// Why the call may not be made now although rules allow it.
    fn refusal(&self, run: &Run) -> Option<(&'static str, String)> {
        let over = run.services.rates.take(run.agent_id, &self.rates)?;
        let reason = format!(
            "a policy allows {} of these calls in {:?}, and they are used up",
            over.0, over.1
        );
        Some(("PolicyDenied", reason))
    }
}

/// When each agent made calls whose number rules limit.
#[derive(Debug, Default)]
pub(crate) struct Rates(Mutex<HashMap<Limited, VecDeque<Instant>>>);

/// An agent under a limit. Rules with equal limits count together, which is the stricter reading.
type Limited = (AgentId, u32, Duration);

/// Agents under a limit that are kept count of; beyond it those whose time has passed are dropped.
const MOST_LIMITED: usize = 10_000;

impl Rates {
    /// Counts one call against all limits, or names the one that is used up and counts nothing.
    fn take(&self, agent: AgentId, limits: &[(u32, Duration)]) -> Option<(u32, Duration)> {
        if limits.is_empty() {
            return None;
        }
        let now = Instant::now();
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if made.len() > MOST_LIMITED {
            made.retain(|(_, _, per), times| times.back().is_some_and(|at| now - *at <= *per));
        }
        for (count, per) in limits {
            let times = made.entry((agent, *count, *per)).or_default();
            while times.front().is_some_and(|at| now - *at > *per) {
                times.pop_front();
            }
            if times.len() >= *count as usize {
                return Some((*count, *per));
            }
        }
        for (count, per) in limits {
            made.entry((agent, *count, *per)).or_default().push_back(now);
        }
        None
    }
}

/// Records a remark of the runtime's about the run.
pub(super) async fn note(run: &Run, kind: &'static str, text: &str) {
    let entry = run.journal_entry(AuditEventType::SecurityEvent, kind).details(cut(text));
    if let Err(error) = run.services.journal.commit(Change::new().record(entry)).await {
        tracing::warn!(%error, "a remark could not be recorded");
    }
}

impl Run {
    fn journal_entry(&self, event_type: AuditEventType, kind: &'static str) -> Entry {
        self.services
            .journal
            .event(event_type, kind)
            .agent(self.agent_id)
            .with("run", self.active.id)
    }

    fn entry(&self, event_type: AuditEventType, kind: &'static str, line: Option<usize>) -> Entry {
        self.journal_entry(event_type, kind).with_some("line", line)
    }

    async fn commit(&self, change: Change) -> Result<(), RunFailure> {
        self.services.journal.commit(change).await.map(|_| ()).map_err(|error| RunFailure {
            retryable: true,
            ..RunFailure::new("StorageError", format!("the run could not be recorded: {error}"))
        })
    }
}

/// What a call did.
struct Done {
    value: Value,
    /// What is to be recorded together with the result.
    change: Change,
    /// The result in a few words.
    note: String,
}

impl Done {
    fn new(value: Value, note: impl Into<String>) -> Self {
        Self { value, change: Change::new(), note: note.into() }
    }
}

// Deciding.

/// Why no capability covers the operation, if none does.
/// `needed` is the capability that a tool declares.
fn uncovered(run: &Run, operation: &Operation, needed: Option<&str>) -> Option<String> {
    // What is taken away from an agent is taken away from the run that is under way.
    let now = run.services.owner.upgrade().and_then(|owner| owner.definition(run.agent_id));
    let now = now.as_ref().unwrap_or(&run.definition);
    let lists = [&run.definition.capabilities, &run.definition.granted, &now.granted];
    let lacking = lists.into_iter().filter(|list| !list.is_empty()).find(|list| {
        let covered =
            |name: &String| list.iter().any(|capability| operations::covers(capability, name));
        let granted = |needed| list.iter().any(|capability| tools::grants(capability, needed));
        !operation.names.iter().any(covered) && !needed.is_some_and(granted)
    })?;
    let name = operation.names.first().map_or("", String::as_str);
    let bare = needed.unwrap_or_else(|| name.split(':').next().unwrap_or(name));
    Some(format!(
        "the agent's capabilities ({}) do not cover `{bare}`: add it to `capabilities`",
        lacking.join(", ")
    ))
}

/// A decision: its record, why it is a refusal if it is one, and what goes along with it.
struct Decided {
    entry: Entry,
    refusal: Option<(&'static str, String)>,
    obligations: Vec<Obligation>,
}

fn ask(run: &Run, call: &HostCall, facts: &Facts, operation: &str) -> PolicyDecision {
    let named = named(call, facts);
    run.services.policy.decide(&Question {
        agent_id: run.agent_id,
        operation,
        arguments: facts,
        named: &named,
        limits: Some(&run.definition.limits),
        metadata: &HashMap::new(),
        ambient: &AMBIENT,
        own_policies: true,
    })
}

/// The names that the runtime may fill, of which it has nothing yet.
static AMBIENT: LazyLock<Named> = LazyLock::new(|| {
    operations::AMBIENT.iter().map(|name| ((*name).to_owned(), PolicyValue::Null)).collect()
});

fn decide(
    run: &Run,
    call: &HostCall,
    facts: &Facts,
    operation: &str,
    line: Option<usize>,
) -> Decided {
    let decision = ask(run, call, facts, operation);
    let refusal = policy::refusal(&decision, operation);
    let (event_type, word, reason) = match &refusal {
        None => (AuditEventType::SecurityEvent, "allow", &decision.reason),
        Some(refusal) => (AuditEventType::PolicyViolation, refusal.word, &refusal.reason),
    };
    let several = |words: &[String]| (!words.is_empty()).then(|| words.join(" "));
    let entry = run
        .entry(event_type, "policy.decision", line)
        .details(cut(reason))
        .with("operation", cut(operation))
        .with("decision", word)
        .with("bundle", &decision.bundle_digest)
        .with_some("rules", several(&decision.matched_rules))
        .with_some("shadow", several(&decision.shadow_results));
    let refusal = refusal.map(|refusal| (refusal.error, refusal.reason));
    Decided { entry, refusal, obligations: decision.obligations }
}

/// A call's arguments as policies see them; `None` for those that are left out.
type Facts = [Option<PolicyValue>];

/// The call's arguments as policies see them: what the call will act on. A path is the one in the
/// sandbox, and what a command or a file gets is text, so that another spelling is no way around a
/// rule. Nothing is known of what is `None`, which is nothing that is given: a rule that asks for it can't
/// be told.
fn facts(call: &HostCall) -> Vec<Option<PolicyValue>> {
    let text = |value: &Value| PolicyValue::String(value.to_string());
    let mut facts: Vec<PolicyValue> = call.args.iter().map(fact).collect();
    match (&*call.name, call.args.as_slice(), facts.as_mut_slice()) {
        ("exec", [program, rest @ ..], [first, others @ ..]) => {
            *first = text(program);
            for (value, fact) in rest.iter().zip(others) {
                match (value, fact) {
                    (Value::Array(items), PolicyValue::List(facts)) => {
                        *facts = items.iter().map(text).collect();
                    }
                    (Value::Map(options), PolicyValue::Record(facts)) => {
                        for (key, value) in options.iter() {
                            match (&**key, value) {
                                ("stdin", value) => {
                                    facts.insert("stdin".to_owned(), written(value));
                                }
                                ("cwd", value) => {
                                    facts.insert("cwd".to_owned(), text(value));
                                }
                                ("env", Value::Map(env)) => {
                                    let env = env.iter().map(|(k, v)| (k.to_string(), text(v)));
                                    let env = PolicyValue::Record(env.collect());
                                    facts.insert("env".to_owned(), env);
                                }
                                _ => {}
                            }
                        }
                    }
                    _ => {}
                }
            }
        }
        ("fs.write", [path, content], [first, second]) => {
            *first = PolicyValue::String(operations::absolute(&path.to_string()));
            *second = written(content);
        }
        (name, [path, ..], [first, ..]) if name.starts_with("fs.") => {
            *first = PolicyValue::String(operations::absolute(&path.to_string()));
        }
        _ => {}
    }
    let given = call.args.iter().map(|value| !matches!(value, Value::None));
    facts.into_iter().zip(given).map(|(fact, given)| given.then_some(fact)).collect()
}

/// What a value is where it is written as bytes, as far as it is text. A secret is not shown.
fn written(value: &Value) -> PolicyValue {
    match value {
        Value::Bytes(bytes) => PolicyValue::String(String::from_utf8_lossy(bytes).into_owned()),
        Value::String(_) | Value::Secret(_) => PolicyValue::String(value.to_string()),
        other => bytes(other).map_or(PolicyValue::Null, |bytes| {
            PolicyValue::String(String::from_utf8_lossy(&bytes).into_owned())
        }),
    }
}

/// The arguments by name: those in slots, the options, and whatever a tool is given.
fn named(call: &HostCall, facts: &Facts) -> Named {
    let given = call.named.iter().filter(|(_, value)| !matches!(value, Value::None));
    let mut named: Named = given.map(|(name, value)| (name.to_string(), fact(value))).collect();
    if operations::is_host_call(&call.name)
        && let Some(Some(PolicyValue::Record(options))) =
            facts.get(operations::options_slot(&call.name))
    {
        named.extend(options.iter().map(|(name, fact)| (name.clone(), fact.clone())));
    }
    let slots = operations::slots(&call.name);
    named.extend(slots.filter_map(|(at, name)| Some((name.to_owned(), facts.get(at)?.clone()?))));
    named
}

/// The operation without its part after the colon: the kind of the call's records.
fn head(operation: &Operation) -> &'static str {
    let name = operation.names.first().map_or("", String::as_str);
    let head = name.split(':').next().unwrap_or(name);
    operations::OPERATIONS.iter().copied().find(|kind| *kind == head).unwrap_or("host.call")
}

/// The call in a line, for the trail and for people.
fn describe(call: &HostCall) -> String {
    let texts: Vec<String> = if &*call.name == "exec" {
        let mut words = vec![call.args.first().map(ToString::to_string).unwrap_or_default()];
        if let Some(Value::Array(args)) = call.args.get(1) {
            words.extend(args.iter().map(ToString::to_string));
        }
        return cut(&words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "));
    } else if call.name.starts_with("http.") {
        return cut(&http::describe(call));
    } else {
        let positional = call.args.iter().map(ToString::to_string);
        let named = call.named.iter().map(|(name, value)| format!("{name} = {value}"));
        positional.chain(named).map(|text| text.chars().take(256).collect()).collect()
    };
    cut(&format!("{}({})", call.name, texts.join(", ")))
}

/// A word as a shell would need it, so that a line tells arguments apart.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST_NOTE) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}...", &text[..at]),
    }
}

/// A call's arguments as the table of operations reads them.
struct Texts<'a>(&'a HostCall);

impl Arguments for Texts<'_> {
    fn slot(&self, index: usize) -> Option<Cow<'_, str>> {
        self.0.args.get(index).map(|value| Cow::Owned(value.to_string()))
    }

    fn option(&self, name: &str) -> Option<Cow<'_, str>> {
        let value = option(self.0, name)?;
        Some(Cow::Owned(value.to_string()))
    }
}

/// An entry of the options.
fn option<'a>(call: &'a HostCall, name: &str) -> Option<&'a Value> {
    match call.args.get(operations::options_slot(&call.name))? {
        Value::Map(map) => map.get(name),
        _ => None,
    }
}

/// What is in a slot, unless it was left out.
fn argument(call: &HostCall, index: usize) -> Option<&Value> {
    call.args.get(index)
}

fn text(call: &HostCall, index: usize, name: &str) -> Result<String, ErrorValue> {
    match argument(call, index) {
        Some(value @ Value::String(_)) => Ok(value.to_string()),
        Some(other) => Err(type_error(call, name, "a string", other)),
        None => Err(ErrorValue::new(
            "TypeError",
            format!("`{}` needs its argument `{name}`", call.name),
        )),
    }
}

fn type_error(call: &HostCall, name: &str, wanted: &str, got: &Value) -> ErrorValue {
    let message =
        format!("`{}` takes {wanted} as `{name}`, and got {}", call.name, got.type_name());
    ErrorValue::new("TypeError", message)
}

fn duration(call: &HostCall, name: &str, value: &Value) -> Result<Duration, ErrorValue> {
    match value {
        Value::Duration(duration) => Ok(*duration),
        Value::Int(millis) => u64::try_from(*millis)
            .map(Duration::from_millis)
            .map_err(|_| ErrorValue::new("TypeError", format!("`{name}` is negative"))),
        other => Err(type_error(call, name, "a duration (or milliseconds)", other)),
    }
}

/// A value as bytes: text and bytes as they are, the rest as JSON.
fn bytes(value: &Value) -> Result<Vec<u8>, ErrorValue> {
    match value {
        Value::String(_) => Ok(value.to_string().into_bytes()),
        Value::Bytes(bytes) => Ok(bytes.to_vec()),
        Value::Secret(secret) => Ok(secret.text.as_bytes().to_vec()),
        other => Ok(to_json_text(other, LARGEST_FILE as u64)?.into_bytes()),
    }
}

// Calls that policies do not govern.

async fn free(run: &Run, call: &HostCall, line: Option<usize>) -> Answer {
    Ok(match &*call.name {
        "log" | "print" | "emit" | "checkpoint" => return say(run, call, line).await,
        "now" => now(run),
        "time_since" => match (argument(call, 0), now(run)) {
            (Some(Value::Time(then)), Ok(Value::Time(now))) => Ok(Value::Duration(
                Duration::from_nanos(now.saturating_sub(*then).max(0).unsigned_abs()),
            )),
            (Some(other), _) => Err(type_error(call, "t", "a time", other)),
            (None, _) => Err(ErrorValue::new("TypeError", "`time_since` needs a time")),
        },
        "random" => Ok(Value::Float(crate::chance())),
        "uuid" | "generate_id" => Ok(Value::from(uuid::Uuid::now_v7().to_string())),
        "sleep" => sleep(run, call).await,
        "receive" => receive(run, call).await,
        other => Err(unserved(other)),
    })
}

fn now(run: &Run) -> Result<Value, ErrorValue> {
    Ok(Value::Time(micros(run.services.journal.now()).saturating_mul(1000)))
}

async fn say(run: &Run, call: &HostCall, line: Option<usize>) -> Answer {
    let (level, rest) = match (&*call.name, call.args.as_slice()) {
        ("log", [Value::Null | Value::None, rest @ ..]) => (None, rest),
        ("log", [level, rest @ ..]) => (Some(level.to_string().to_lowercase()), rest),
        (_, all) => (None, all),
    };
    let named = call.named.iter().map(|(name, value)| format!("{name} = {value}"));
    let message: Vec<String> = rest.iter().map(ToString::to_string).chain(named).collect();
    let message = message.join(" ");
    let kind = match &*call.name {
        "log" => "log",
        "print" => "print",
        "emit" => "emit",
        _ => "checkpoint",
    };
    let entry = run
        .entry(AuditEventType::SecurityEvent, kind, line)
        .details(cut(&message))
        .with_some("level", level.map(|level| level.chars().take(32).collect::<String>()));
    run.commit(Change::new().record(entry)).await?;
    Ok(Ok(Value::Null))
}

async fn sleep(run: &Run, call: &HostCall) -> Result<Value, ErrorValue> {
    let Some(value) = argument(call, 0) else {
        return Err(ErrorValue::new("TypeError", "`sleep` needs a duration"));
    };
    let duration = duration(call, "duration", value)?;
    if duration > LONGEST_SLEEP {
        return Err(ErrorValue::new("LimitExceeded", "`sleep` takes at most 366 days"));
    }
    if !duration.is_zero() {
        let until = run.services.journal.now() + duration;
        let owner = run.services.owner.upgrade();
        if let Some(owner) = &owner {
            owner.block(run.agent_id, run.active.id, "a timer").await;
        }
        loop {
            let clock = run.services.journal.clock();
            if clock.now() >= until {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep_until(clock.instant_of(until)) => {}
                () = run.asked_to_stop() => break,
            }
        }
        if let Some(owner) = &owner {
            owner.unblock(run.agent_id, run.active.id).await;
        }
    }
    Ok(Value::Null)
}

async fn receive(run: &Run, call: &HostCall) -> Result<Value, ErrorValue> {
    let timeout = argument(call, 0).map(|value| duration(call, "timeout", value)).transpose()?;
    let mail = run.services.directory.mail(run.agent_id).ok_or_else(no_bus)?;
    let until = timeout.map(Clock::instant_in);
    let mut blocked = false;
    let outcome = loop {
        let arrived = run.active.mail.notified();
        match mail.take(run.agent_id).await {
            Err(error) => break Err(ErrorValue::new("MessageError", error.to_string())),
            Ok(Some(received)) => {
                let message = received.message;
                break Ok(Value::map([
                    ("id", Value::from(message.id.to_string())),
                    ("from", Value::from(message.from.to_string())),
                    ("topic", Value::from(message.topic)),
                    ("payload", super::payload(&message.payload)),
                ]));
            }
            Ok(None) => {}
        }
        let Some(until) = until else { break Ok(Value::Null) };
        if !blocked && let Some(owner) = run.services.owner.upgrade() {
            blocked = true;
            owner.block(run.agent_id, run.active.id, "mail").await;
        }
        tokio::select! {
            () = arrived => {}
            () = tokio::time::sleep_until(until) => break Ok(Value::Null),
            () = run.asked_to_stop() => break Ok(Value::Null),
        }
    };
    if blocked && let Some(owner) = run.services.owner.upgrade() {
        owner.unblock(run.agent_id, run.active.id).await;
    }
    outcome
}

// Calls that policies govern.

async fn perform(run: &Run, call: &HostCall, operation: &str) -> Result<Done, ErrorValue> {
    match &*call.name {
        "exec" => exec(run, call).await,
        "fs.read" | "fs.list" => match files(run, call).await {
            Err(error) if &*error.kind == "SandboxError" => {
                Err(missing(run, call).await.unwrap_or(error))
            }
            made => made,
        },
        "fs.exists" | "fs.write" | "fs.remove" => files(run, call).await,
        "send" => send(run, call).await,
        "broadcast" | "publish" => publish(run, call).await,
        "memory.get" | "memory.set" | "memory.remove" | "memory.keys" | "memory.search" => {
            remember(run, call).await
        }
        "delegate" => delegate(run, call).await,
        "reason" => Err(ErrorValue::new(
            "ModelError",
            "no model provider is configured, so nothing can answer `reason`",
        )),
        "request_approval" => {
            Err(ErrorValue::new("ApprovalDenied", "asking a person for approval is not served yet"))
        }
        "tool" => Err(tools::unknown(run, &text(call, 0, "name")?)),
        name if name.starts_with("http.") => http::ask(run, call).await,
        name if operations::is_host_call(name) => Err(unserved(name)),
        name => Err(tools::unknown(run, name).with_operation(operation)),
    }
}

fn unserved(name: &str) -> ErrorValue {
    ErrorValue::new("Unsupported", format!("`{name}` is not served yet by this version"))
}

fn no_bus() -> ErrorValue {
    ErrorValue::new("MessageError", "the agent is not registered with a bus")
}

fn sandbox_error(error: &SandboxError) -> ErrorValue {
    match error {
        SandboxError::TierUnavailable { .. } => {
            ErrorValue::new("TierUnavailable", error.to_string())
        }
        SandboxError::BackendUnavailable { .. }
        | SandboxError::AgentLost { .. }
        | SandboxError::Timeout { .. } => {
            ErrorValue::new("SandboxError", error.to_string()).with_retryable(true)
        }
        error => ErrorValue::new("SandboxError", error.to_string()),
    }
}

/// The agent's sandbox, made if it is not there. What was begun is finished although the run may be
/// cut off, so that no sandbox is without an owner.
pub(super) async fn sandbox(run: &Run) -> Result<(SandboxId, Arc<dyn SandboxExt>), ErrorValue> {
    if let Some(tier) = &run.definition.unserved_tier {
        let message = format!("`{tier}` is not available: this runtime does not serve it");
        return Err(ErrorValue::new("TierUnavailable", message));
    }
    let orchestrator = run.services.sandbox.clone().ok_or_else(|| {
        ErrorValue::new(
            "SandboxError",
            "this lifecycle controller was built without a sandbox orchestrator (use `Runtime`, or \
             `builder().sandbox(...)`)",
        )
    })?;
    let (seat, definition) = (Arc::clone(&run.seat), Arc::clone(&run.definition));
    let (agent_id, maker) = (run.agent_id, Arc::clone(&orchestrator));
    let seated = async move { seated(&seat, agent_id, &definition, &*maker).await };
    match run.services.tasks.finish(seated).await {
        Some(Ok(id)) => Ok((id, orchestrator)),
        Some(Err(error)) => Err(sandbox_error(&error)),
        None => Err(ErrorValue::new("Cancelled", "the runtime is shutting down")),
    }
}

async fn seated(
    seat: &SandboxSeat,
    agent_id: AgentId,
    definition: &Definition,
    orchestrator: &dyn SandboxExt,
) -> Result<SandboxId, SandboxError> {
    let mut place = seat.id.lock().await;
    if let Some(id) = *place {
        match orchestrator.get_sandbox_status(id).await {
            Ok(SandboxStatus::Running) => return Ok(id),
            status => {
                // Its files are gone with it, which nobody has told the program yet. Its successor
                // is a new one, and is in the trail.
                let cause = match status {
                    Ok(SandboxStatus::Failed { reason }) => reason,
                    Ok(_) | Err(_) => "it was taken away".to_owned(),
                };
                empty(seat, &mut place, orchestrator).await;
                return Err(SandboxError::AgentLost { cause: format!("{cause}; {GONE}") });
            }
        }
    }
    let files = seat.files.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let id = make_sandbox(agent_id, definition, files, orchestrator).await?;
    *place = Some(id);
    *seat.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(id);
    Ok(id)
}

/// Removes what is left of the sandbox of a seat, so that the next call gets a new one.
async fn empty(seat: &SandboxSeat, place: &mut Option<SandboxId>, orchestrator: &dyn SandboxExt) {
    if let Some(id) = place.take()
        && let Err(error) = orchestrator.destroy_sandbox(id).await
    {
        tracing::error!(sandbox_id = %id, %error, "a broken sandbox could not be destroyed");
    }
    *seat.current.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// What a call in a sandbox failed with. One that tells of the sandbox's loss is the only one that
/// does: the next call gets a new one.
async fn refused(run: &Run, id: SandboxId, error: SandboxError) -> ErrorValue {
    let SandboxError::AgentLost { cause } = error else { return sandbox_error(&error) };
    if let Some(orchestrator) = run.services.sandbox.clone() {
        let seat = Arc::clone(&run.seat);
        let emptied = async move {
            let mut place = seat.id.lock().await;
            if *place == Some(id) {
                empty(&seat, &mut place, &*orchestrator).await;
            }
        };
        let _closing_does_it_as_well = run.services.tasks.finish(emptied).await;
    }
    sandbox_error(&SandboxError::AgentLost { cause: format!("{cause}; {GONE}") })
}

async fn make_sandbox(
    agent_id: AgentId,
    definition: &Definition,
    files: Vec<(PathBuf, String)>,
    orchestrator: &dyn SandboxExt,
) -> Result<SandboxId, SandboxError> {
    if let Some(name) = &definition.unserved_tier {
        return Err(SandboxError::TierUnavailable {
            tier: definition.tier,
            reason: format!("the program asks for `{name}`, which this runtime does not serve"),
        });
    }
    let config = SandboxConfig {
        agent_id,
        security_tier: definition.tier,
        resource_limits: definition.limits.clone(),
        network_config: NetworkConfig::default(),
        filesystem_config: FilesystemConfig {
            scratch_mb: WORKSPACE_MB,
            ..FilesystemConfig::default()
        },
        environment_variables: HashMap::new(),
    };
    let id = orchestrator.create_sandbox(config).await?;
    let prepared = async {
        orchestrator.start_sandbox(id).await?;
        for (local, remote) in files {
            orchestrator.upload(id, &local, remote.as_ref()).await?;
        }
        Ok(())
    };
    let prepared = prepared.await;
    if let Err(error) = prepared {
        // What failed is told; that it could not be cleaned up either is in the log.
        if let Err(left) = orchestrator.destroy_sandbox(id).await {
            tracing::error!(sandbox_id = %id, error = %left, "a sandbox could not be destroyed");
        }
        return Err(error);
    }
    Ok(id)
}

async fn exec(run: &Run, call: &HostCall) -> Result<Done, ErrorValue> {
    let program = text(call, 0, "command")?;
    let mut command = Command::new(program);
    match argument(call, 1) {
        None | Some(Value::Null | Value::None) => {}
        Some(Value::Array(args)) => {
            for arg in args.iter() {
                let arg = match arg {
                    Value::Secret(secret) => secret.text.to_string(),
                    other => other.to_string(),
                };
                command.args.push(arg.into());
            }
        }
        Some(other) => return Err(type_error(call, "args", "an array", other)),
    }
    command.timeout = run.definition.limits.execution_timeout;
    if let Some(value) = option(call, "timeout") {
        command.timeout = command.timeout.min(duration(call, "timeout", value)?);
    }
    if let Some(value) = option(call, "stdin") {
        command.stdin = Some(bytes(value)?);
    }
    if let Some(value) = option(call, "cwd") {
        command.cwd = Some(value.to_string());
    }
    match option(call, "env") {
        None | Some(Value::Null | Value::None) => {}
        Some(Value::Map(map)) => {
            for (name, value) in map.iter() {
                let value = match value {
                    Value::Secret(secret) => secret.text.to_string(),
                    other => other.to_string(),
                };
                command.env.push((name.to_string().into(), value.into()));
            }
        }
        Some(other) => return Err(type_error(call, "env", "a map", other)),
    }
    let (id, orchestrator) = sandbox(run).await?;
    let result = match orchestrator.execute(id, command).await {
        Ok(result) => result,
        Err(error) => return Err(refused(run, id, error).await),
    };
    let mut note = match (result.exit_code, result.signal) {
        (Some(code), _) => format!("exit {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no exit status".to_owned(),
    };
    for (flag, word) in [
        (result.timed_out, "timed out"),
        (result.oom_killed, "out of memory"),
        (result.stdout_truncated || result.stderr_truncated, "output cut"),
    ] {
        if flag {
            note = format!("{note}, {word}");
        }
    }
    note = format!(
        "{note}, {} bytes in {:?}",
        result.stdout.len() + result.stderr.len(),
        // A tenth of a millisecond is as much as anyone reads.
        Duration::from_micros(micros_of(result.duration) / 100 * 100)
    );
    let code = |code: Option<i32>| code.map_or(Value::Null, |code| Value::Int(code.into()));
    let lossy = |bytes: &[u8]| Value::from(String::from_utf8_lossy(bytes).into_owned());
    let value = Value::map([
        ("exit_code", code(result.exit_code)),
        ("signal", code(result.signal)),
        ("stdout", lossy(&result.stdout)),
        ("stderr", lossy(&result.stderr)),
        ("timed_out", Value::Bool(result.timed_out)),
        ("truncated", Value::Bool(result.stdout_truncated || result.stderr_truncated)),
    ]);
    Ok(Done::new(value, note))
}

fn micros_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

async fn files(run: &Run, call: &HostCall) -> Result<Done, ErrorValue> {
    let path = match (&*call.name, argument(call, 0)) {
        ("fs.list", None) => "/workspace".to_owned(),
        _ => operations::absolute(&text(call, 0, "path")?),
    };
    let content = match (&*call.name, argument(call, 1)) {
        ("fs.write", Some(value)) => bytes(value)?,
        ("fs.write", None) => {
            return Err(ErrorValue::new("TypeError", "`fs.write` needs its content"));
        }
        _ => Vec::new(),
    };
    if content.len() > LARGEST_FILE {
        return Err(ErrorValue::new("LimitExceeded", "a file may have 16 MiB in one call"));
    }
    let (id, sandbox) = sandbox(run).await?;
    match touch(&*sandbox, id, &call.name, &path, &content).await {
        Ok(done) => Ok(done),
        Err(error) => Err(refused(run, id, error).await),
    }
}

/// One call about a file.
async fn touch(
    sandbox: &dyn SandboxExt,
    id: SandboxId,
    call: &str,
    path: &str,
    content: &[u8],
) -> Result<Done, SandboxError> {
    match call {
        "fs.read" => {
            let content = sandbox.read_file(id, path, LARGEST_FILE as u64).await?;
            let note = format!("{} bytes", content.len());
            let value = match String::from_utf8(content) {
                Ok(text) => Value::from(text),
                Err(error) => Value::Bytes(error.into_bytes().into()),
            };
            Ok(Done::new(value, note))
        }
        "fs.exists" => {
            let there = sandbox.stat(id, path.as_ref()).await?.is_some();
            Ok(Done::new(Value::Bool(there), there.to_string()))
        }
        "fs.list" => {
            let entries = sandbox.list_dir(id, path).await?;
            let note = format!("{} entries", entries.len());
            let names =
                entries.iter().map(|entry| Value::from(entry.name.to_string_lossy().into_owned()));
            Ok(Done::new(Value::array(names), note))
        }
        "fs.write" => {
            sandbox.write_file(id, path, content).await?;
            Ok(Done::new(Value::Null, format!("{} bytes", content.len())))
        }
        _ => {
            sandbox.remove_file(id, path).await?;
            Ok(Done::new(Value::Null, "removed"))
        }
    }
}

/// What to say of a file that could not be had because it is not there. A sandbox has one error for
/// whatever is wrong with a path, so this is asked for.
async fn missing(run: &Run, call: &HostCall) -> Option<ErrorValue> {
    let path = operations::absolute(&argument(call, 0)?.to_string());
    let (id, sandbox) = sandbox(run).await.ok()?;
    let there = sandbox.stat(id, path.as_ref()).await.ok()?;
    there.is_none().then(|| ErrorValue::new("NotFound", format!("there is no `{path}`")))
}

async fn send(run: &Run, call: &HostCall) -> Result<Done, ErrorValue> {
    let to = text(call, 0, "to")?;
    let (Some(topic), Some(payload)) = (argument(call, 1), argument(call, 2)) else {
        return Err(ErrorValue::new("TypeError", "`send` needs a topic and a payload"));
    };
    let (topic, payload) = (topic.to_string(), bytes(payload)?);
    let owner = run.services.owner.upgrade();
    let receiver = owner
        .and_then(|owner| owner.named(&to))
        .or_else(|| to.parse::<AgentId>().ok())
        .ok_or_else(|| ErrorValue::new("MessageError", format!("no agent `{to}` is known here")))?;
    let mail = run.services.directory.mail(run.agent_id).ok_or_else(no_bus)?;
    let message = Message {
        id: MessageId::new(),
        from: run.agent_id,
        to: receiver,
        topic,
        payload,
        priority: Priority::Normal,
        ttl: Duration::ZERO,
    };
    let id = mail
        .send(message)
        .await
        .map_err(|error| ErrorValue::new("MessageError", error.to_string()))?;
    Ok(Done::new(Value::from(id.to_string()), format!("message {id}")))
}

async fn publish(run: &Run, call: &HostCall) -> Result<Done, ErrorValue> {
    let topic = text(call, 0, "topic")?;
    let payload = argument(call, 1).map_or(Ok(Vec::new()), bytes)?;
    let mail = run.services.directory.mail(run.agent_id).ok_or_else(no_bus)?;
    let outgoing = Outgoing { topic, payload, priority: Priority::Normal, ttl: Duration::ZERO };
    let ids = mail
        .publish(run.agent_id, outgoing)
        .await
        .map_err(|error| ErrorValue::new("MessageError", error.to_string()))?;
    let note = format!("{} copies", ids.len());
    Ok(Done::new(Value::array(ids.iter().map(|id| Value::from(id.to_string()))), note))
}

/// The key of something remembered: whose, in which store, under which name.
fn memory_key(run: &Run, store: &str, key: &str) -> Result<Vec<u8>, ErrorValue> {
    if store.len() > 128 || store.contains('\0') {
        return Err(ErrorValue::new("KeyError", "a store's name has at most 128 bytes and no NUL"));
    }
    if key.len() > LONGEST_KEY {
        return Err(ErrorValue::new("KeyError", "a key has at most 1,024 bytes"));
    }
    let mut bytes = run.definition.memory_of(run.agent_id).as_bytes().to_vec();
    bytes.extend_from_slice(store.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(key.as_bytes());
    Ok(bytes)
}

async fn remember(run: &Run, call: &HostCall) -> Result<Done, ErrorValue> {
    let storage = |error: symbiont_store::StoreError| {
        ErrorValue::new("StorageError", error.to_string()).with_retryable(true)
    };
    let journal = &run.services.journal;
    let store = match argument(call, 2) {
        None | Some(Value::Null | Value::None) => String::new(),
        Some(store) => store.to_string(),
    };
    match &*call.name {
        "memory.get" => {
            let key = memory_key(run, &store, &text(call, 0, "key")?)?;
            let kept = journal.store().get(MEMORY, &key).await.map_err(storage)?;
            let Some(kept) = kept else { return Ok(Done::new(Value::Null, "nothing")) };
            Ok(Done::new(
                from_json_text(&String::from_utf8_lossy(&kept))?,
                format!("{} bytes", kept.len()),
            ))
        }
        "memory.set" => {
            let key = memory_key(run, &store, &text(call, 0, "key")?)?;
            let value = argument(call, 1).unwrap_or(&Value::Null);
            let json = to_json_text(value, LARGEST_MEMORY)?;
            let note = format!("{} bytes", json.len());
            let change = Change::new().put_bytes(MEMORY, key, json.into_bytes());
            Ok(Done { value: Value::Null, change, note })
        }
        "memory.remove" => {
            let key = memory_key(run, &store, &text(call, 0, "key")?)?;
            Ok(Done {
                value: Value::Null,
                change: Change::new().remove(MEMORY, key),
                note: "removed".to_owned(),
            })
        }
        _ => {
            let wanted = match &*call.name {
                "memory.keys" => None,
                _ => Some(text(call, 0, "query")?.to_lowercase()),
            };
            let prefix = memory_key(run, &store, "")?;
            let rows =
                journal.store().scan(MEMORY, &prefix, None, MOST_KEYS).await.map_err(storage)?;
            let limit = match option(call, "limit") {
                None | Some(Value::Null | Value::None) => MOST_KEYS,
                Some(Value::Int(limit)) => usize::try_from(*limit).unwrap_or(0),
                Some(other) => return Err(type_error(call, "limit", "a whole number", other)),
            };
            let mut found = Vec::new();
            for (key, json) in rows {
                if found.len() >= limit {
                    break;
                }
                let key = String::from_utf8_lossy(&key[prefix.len()..]).into_owned();
                let json = String::from_utf8_lossy(&json).into_owned();
                match &wanted {
                    None => found.push(Value::from(key)),
                    Some(wanted)
                        if key.to_lowercase().contains(wanted)
                            || json.to_lowercase().contains(wanted) =>
                    {
                        let value = from_json_text(&json)?;
                        found.push(Value::map([("key", Value::from(key)), ("value", value)]));
                    }
                    Some(_) => {}
                }
            }
            let note = format!("{} found", found.len());
            Ok(Done::new(Value::array(found), note))
        }
    }
}

async fn delegate(run: &Run, call: &HostCall) -> Result<Done, ErrorValue> {
    let name = text(call, 0, "agent")?;
    let owner = run
        .services
        .owner
        .upgrade()
        .ok_or_else(|| ErrorValue::new("Cancelled", "the runtime is shutting down"))?;
    let to = owner
        .named(&name)
        .ok_or_else(|| ErrorValue::new("KeyError", format!("no agent `{name}` is known here")))?;
    if to == run.agent_id {
        return Err(ErrorValue::new(
            "TypeError",
            "an agent can't delegate to itself: it is busy with this run",
        ));
    }
    let input = match argument(call, 1) {
        None => "{}".to_owned(),
        Some(value) => to_json_text(value, LARGEST_MEMORY)?,
    };
    let (outcome, effects) = owner
        .delegate(run.agent_id, run.active.id, to, input.into())
        .await
        .map_err(|reason| ErrorValue::new("AgentError", reason))?;
    run.active.meter.effects.fetch_or(effects, Ordering::Relaxed);
    match outcome {
        RunOutcome::Returned(json) => {
            Ok(Done::new(from_json_text(&json)?, format!("agent `{name}` returned")))
        }
        RunOutcome::Failed(failure) => {
            Err(ErrorValue::new(failure.kind, failure.message).with_retryable(failure.retryable))
        }
        RunOutcome::Cancelled(by) => Err(ErrorValue::new("Cancelled", by)),
    }
}
