//! One run of an agent: its program evaluated step by step, its host calls made one by one.
//!
//! # What holds
//!
//! - A run is deterministic between host calls, and every effect is a host call.
//! - Every governed host call is decided before it is made, and decision, intent and result are
//!   recorded; a result that could not be recorded ends the run.
//! - A run can be stopped at every step, and is ended at its deadline wherever it is.

mod host;
mod program;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use symbiont_dsl::definition::Bound;
use symbiont_dsl::machine::{Entry, Limits, Machine, Step};
use symbiont_dsl::tools::Tools;
use symbiont_dsl::value::{ErrorValue, Value, to_json_text};
use symbiont_types::{
    AgentId, CommunicationError, LifecycleError, MessageId, PolicyDecision, PolicyEffect,
    PolicyError, ResourceError, RuntimeError, SandboxError, SandboxId, SecureMessage,
    SecurityError, SecurityTier, TaskId,
};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) use self::host::Rates;
pub use self::program::REMEMBERS_AS;
pub(crate) use self::program::{Behaviour, Definition, Programs};
use crate::directory::Directory;
use crate::http::HttpClient;
use crate::journal::Journal;
use crate::policy::PolicyGate;
use crate::sandbox::SandboxExt;
use crate::tasks::Tasks;

/// Steps between two looks at whether the run should go on: about a millisecond.
const SLICE: u64 = 20_000;
/// Slices between two counts of the memory that a run without host calls holds.
const COUNT_EVERY: u32 = 32;
/// Steps of one run. Time is bounded by the agent's limits; this bounds a clock that stands still.
const MOST_STEPS: u64 = 100_000_000_000;
/// Bytes of one program's values in this process, whatever its limits say: an array that grows needs
/// up to three times its size for a moment, and this process serves others too.
const MOST_MEMORY: u64 = 4 << 30;
/// Calls within calls.
const MOST_DEPTH: u32 = 1_000;
/// Bytes of a result as JSON.
const LARGEST_RESULT: u64 = 16 << 20;

/// Why a run began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The agent was started.
    Start,
    /// A scheduled task.
    Task(TaskId),
    /// A message arrived.
    Message(MessageId),
    /// A tick of its recurrence.
    Tick,
    /// Another agent asked for it.
    Agent(AgentId),
    /// Somebody at a console had the agent evaluate something.
    Console,
    /// The agent is being stopped.
    Stop,
}

impl Cause {
    /// Whose mark a run of this agent leaves when it begins an effect that must not be repeated
    /// blindly: the task's, since the scheduler looks for it there, or else the agent's.
    pub(crate) fn mark_of(&self, agent: AgentId) -> [u8; 16] {
        match self {
            Self::Task(task) => *task.as_uuid().as_bytes(),
            Self::Start
            | Self::Message(_)
            | Self::Tick
            | Self::Agent(_)
            | Self::Console
            | Self::Stop => *agent.as_uuid().as_bytes(),
        }
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Start => f.write_str("start"),
            Self::Task(id) => write!(f, "task {id}"),
            Self::Message(id) => write!(f, "message {id}"),
            Self::Tick => f.write_str("tick"),
            Self::Agent(id) => write!(f, "agent {id}"),
            Self::Console => f.write_str("console"),
            Self::Stop => f.write_str("stop"),
        }
    }
}

/// Why a run did not return a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFailure {
    /// The kind of the error, such as `PolicyDenied`.
    pub kind: String,
    /// What happened, in words.
    pub message: String,
    /// The operation that failed, if one did.
    pub operation: Option<String>,
    /// Whether the same again might succeed.
    pub retryable: bool,
    /// The line of the program where it happened, from 1.
    pub line: Option<usize>,
}

impl std::fmt::Display for RunFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)?;
        match self.line {
            Some(line) => write!(f, " (line {line})"),
            None => Ok(()),
        }
    }
}

impl RunFailure {
    pub(crate) fn new(kind: &str, message: impl Into<String>) -> Self {
        Self {
            kind: kind.to_owned(),
            message: message.into(),
            operation: None,
            retryable: false,
            line: None,
        }
    }

    fn of(error: &ErrorValue, line: Option<usize>) -> Self {
        Self {
            kind: error.kind.to_string(),
            message: error.message.to_string(),
            operation: error.operation.as_ref().map(ToString::to_string),
            retryable: error.retryable,
            line,
        }
    }

    /// Whether trying again can't help, whoever tries.
    pub(crate) fn is_final(&self) -> bool {
        matches!(
            self.kind.as_str(),
            "PolicyDenied"
                | "CapabilityDenied"
                | "ApprovalDenied"
                | "ToolNotFound"
                | "TierUnavailable"
                | "Unsupported"
                | "ModelError"
        ) && !self.retryable
    }

    /// The failure in the words of the error handler.
    pub(crate) fn as_error(&self, agent_id: AgentId, tier: SecurityTier) -> RuntimeError {
        let reason = self.to_string();
        match self.kind.as_str() {
            "PolicyDenied" | "ApprovalDenied" => RuntimeError::Policy(PolicyError::Denied {
                decision: Box::new(PolicyDecision {
                    effect: Some(PolicyEffect::Deny),
                    policy_id: None,
                    matched_rules: Vec::new(),
                    reason,
                    missing: Vec::new(),
                    obligations: Vec::new(),
                    bundle_digest: String::new(),
                    evaluated_rules: 0,
                    duration: Duration::ZERO,
                    shadow_results: Vec::new(),
                    decision_id: None,
                    valid_until: None,
                }),
            }),
            "CapabilityDenied" => {
                let capability = self.operation.clone().unwrap_or(reason);
                SecurityError::CapabilityDenied { capability }.into()
            }
            "TierUnavailable" => SandboxError::TierUnavailable { tier, reason }.into(),
            "SandboxError" => SandboxError::BackendUnavailable { reason }.into(),
            "LimitExceeded" | "Timeout" => {
                ResourceError::UsageExceeded { agent_id, resource: reason }.into()
            }
            "NetworkError" | "MessageError" => {
                CommunicationError::DeliveryFailed { message_id: MessageId::new(), reason }.into()
            }
            _ if self.retryable => RuntimeError::Internal(reason),
            // The program itself is at fault: running it again gives the same.
            _ => LifecycleError::ConfigurationInvalid { reason }.into(),
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunOutcome {
    /// It returned this value, as JSON text.
    Returned(Arc<str>),
    /// It failed.
    Failed(RunFailure),
    /// It was ended from outside, by this.
    Cancelled(String),
}

/// A run that has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct RunReport {
    /// The run's id, which its audit records carry.
    pub run_id: Uuid,
    /// Whose run it was.
    pub agent_id: AgentId,
    /// Why it began.
    pub cause: Cause,
    /// When it began.
    pub started_at: SystemTime,
    /// How long it took.
    pub duration: Duration,
    /// Steps of the evaluator.
    pub steps: u64,
    /// Host calls that were made or refused.
    pub host_calls: u64,
    /// Whether it began an effect that must not be repeated blindly.
    pub effects: bool,
    /// Whether it ended in the middle of one.
    pub unfinished: bool,
    /// How it ended.
    pub outcome: RunOutcome,
}

/// What a run is given.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    /// Nothing.
    None,
    /// JSON text.
    Json(Arc<str>),
    /// A message.
    Message(Box<SecureMessage>),
    /// A machine that stands at its beginning; it is put back when the run has ended.
    Machine(Arc<Mutex<Option<Machine>>>),
}

/// What whoever owns a run tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    Go,
    /// Hold still at the next step.
    Pause,
    /// End at the next step.
    Stop,
}

/// What a run uses, for whoever asks meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// Bytes of live values.
    pub(crate) memory: AtomicU64,
    /// Nanoseconds of evaluation.
    pub(crate) cpu_nanos: AtomicU64,
    /// Steps of the evaluator, and host calls.
    pub(crate) steps: AtomicU64,
    pub(crate) host_calls: AtomicU64,
    /// Whether an effect has begun that must not be repeated blindly, and whether one is under way.
    pub(crate) effects: AtomicBool,
    pub(crate) in_effect: AtomicBool,
}

/// A run that is under way, as its owner sees it.
#[derive(Debug, Clone)]
pub(crate) struct ActiveRun {
    pub(crate) id: Uuid,
    pub(crate) wish: watch::Sender<Wish>,
    /// Ends it wherever it is.
    pub(crate) cancel: CancellationToken,
    pub(crate) meter: Arc<Meter>,
    /// Told when mail arrives.
    pub(crate) mail: Arc<Notify>,
}

impl ActiveRun {
    pub(crate) fn new() -> Self {
        Self {
            id: Uuid::now_v7(),
            wish: watch::Sender::new(Wish::Go),
            cancel: CancellationToken::new(),
            meter: Arc::default(),
            mail: Arc::default(),
        }
    }
}

/// The sandbox of an agent, made when it is first needed.
#[derive(Debug, Default)]
pub(crate) struct SandboxSeat {
    pub(crate) id: tokio::sync::Mutex<Option<SandboxId>>,
    /// The same, for who only wants to look.
    pub(crate) current: Mutex<Option<SandboxId>>,
    /// Files of the host that are copied into it when it is made.
    pub(crate) files: Mutex<Vec<(PathBuf, String)>>,
}

/// Tells the agent's owner that its run waits, or goes on.
#[async_trait::async_trait]
pub(crate) trait Blocking: Send + Sync {
    async fn block(&self, agent_id: AgentId, run: Uuid, on: &str);
    async fn unblock(&self, agent_id: AgentId, run: Uuid);
    /// The agent of this name, among those of the same controller.
    fn named(&self, name: &str) -> Option<AgentId>;
    fn name_of(&self, id: AgentId) -> Option<String>;
    /// What the agent is now, which may be less than when its run began.
    fn definition(&self, id: AgentId) -> Option<Arc<Definition>>;
    /// Has another agent work on an input for a run, and gives how that ended, and whether it had an
    /// effect that must not be repeated blindly; or why it can't.
    async fn delegate(
        &self,
        from: AgentId,
        run: Uuid,
        to: AgentId,
        input: Arc<str>,
    ) -> Result<(RunOutcome, bool), String>;
}

/// Everything that a run can reach.
pub(crate) struct Services {
    pub(crate) journal: Journal,
    pub(crate) directory: Arc<Directory>,
    pub(crate) policy: Arc<dyn PolicyGate>,
    pub(crate) sandbox: Option<Arc<dyn SandboxExt>>,
    /// What programs call by name.
    pub(crate) tools: Tools,
    pub(crate) http: Option<Arc<dyn HttpClient>>,
    pub(crate) owner: std::sync::Weak<dyn Blocking>,
    /// For what has to be finished although the run may be cut off.
    pub(crate) tasks: Arc<Tasks>,
    /// What agents did lately, for rules that limit how often.
    pub(crate) rates: Rates,
}

/// One run.
pub(crate) struct Run {
    pub(crate) services: Arc<Services>,
    pub(crate) agent_id: AgentId,
    pub(crate) agent_name: String,
    pub(crate) definition: Arc<Definition>,
    pub(crate) seat: Arc<SandboxSeat>,
    pub(crate) cause: Cause,
    pub(crate) input: Input,
    /// Active time that it may take.
    pub(crate) timeout: Duration,
    pub(crate) active: ActiveRun,
}

/// What is counted while a run goes on.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) steps: u64,
    pub(crate) host_calls: u64,
    pub(crate) effects: bool,
    pub(crate) unfinished: bool,
}

impl Run {
    /// Runs to the end, to the deadline or until it is told to stop.
    pub(crate) async fn drive(self) -> (RunOutcome, Tally) {
        let deadline = self.out_of_time();
        let cancel = self.active.cancel.clone();
        let outcome = tokio::select! {
            biased;
            () = cancel.cancelled() => RunOutcome::Cancelled("the agent was stopped or ended".to_owned()),
            () = deadline => RunOutcome::Failed(RunFailure {
                retryable: true,
                ..RunFailure::new("Timeout", format!("the run took longer than {:?}", self.timeout))
            }),
            outcome = self.entries() => outcome,
        };
        let meter = &self.active.meter;
        meter.memory.store(0, Ordering::Relaxed);
        let tally = Tally {
            steps: meter.steps.load(Ordering::Relaxed),
            host_calls: meter.host_calls.load(Ordering::Relaxed),
            effects: meter.effects.load(Ordering::Relaxed),
            unfinished: meter.in_effect.load(Ordering::Relaxed),
        };
        (outcome, tally)
    }

    /// Resolves when the run has been active for as long as it may; while it holds still, its time
    /// does too.
    async fn out_of_time(&self) {
        let mut left = self.timeout;
        let mut wish = self.active.wish.subscribe();
        loop {
            if *wish.borrow_and_update() == Wish::Pause {
                if wish.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let began = Instant::now();
            tokio::select! {
                () = tokio::time::sleep_until(crate::clock::Clock::instant_in(left)) => {}
                changed = wish.changed() => if changed.is_err() { return },
            }
            // A timer reaches only so far: a longer time is waited for in steps.
            left = left.saturating_sub(began.elapsed());
            if left.is_zero() {
                return;
            }
        }
    }

    /// The entries of the program that this cause runs, one after the other; the last one's value
    /// is the run's.
    async fn entries(&self) -> RunOutcome {
        if let Input::Machine(seat) = &self.input {
            return self.evaluate(seat).await;
        }
        let Behaviour::Program(program) = &self.definition.behaviour else {
            let message = "this agent is an instruction in plain words, which only a language model \
                           can follow, and no model provider is configured";
            return RunOutcome::Failed(RunFailure::new("ModelError", message));
        };
        let agent = program.agent();
        let mut plan: Vec<(Entry, Vec<(String, Value)>)> = Vec::new();
        let bound = match (self.cause, &self.input) {
            (Cause::Stop, _) => {
                plan.push((Entry::OnStop, Vec::new()));
                Ok(None)
            }
            (Cause::Message(_), Input::Message(message)) if agent.has_on_message => {
                let payload = payload(&message.message.payload);
                let topic = Value::from(message.message.topic.as_str());
                plan.push((
                    Entry::OnMessage,
                    vec![("topic".to_owned(), topic), ("payload".to_owned(), payload)],
                ));
                Ok(None)
            }
            (Cause::Message(_), Input::Message(message)) => {
                let text = String::from_utf8_lossy(&message.message.payload).into_owned();
                let json = serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text));
                program.bind(&json).map(Some)
            }
            (Cause::Start, input) => {
                if agent.has_on_start {
                    plan.push((Entry::OnStart, Vec::new()));
                }
                match input {
                    // Without an input it waits for its first task, unless it needs none.
                    Input::None if !self.definition.runs_at_start() => Ok(None),
                    input => program.bind_text(input).map(Some),
                }
            }
            (_, input) => program.bind_text(input).map(Some),
        };
        match bound {
            Err(message) => return RunOutcome::Failed(RunFailure::new("ParseError", message)),
            Ok(None) => {}
            Ok(Some(Bound { values, unused })) => {
                if let Some(text) = unused {
                    host::note(self, "input.ignored", &text).await;
                }
                plan.push((Entry::With, values));
            }
        }
        let mut last: Arc<str> = "null".into();
        for (entry, arguments) in plan {
            match self.play(program, entry, arguments).await {
                RunOutcome::Returned(json) => last = json,
                ended => return ended,
            }
        }
        RunOutcome::Returned(last)
    }

    async fn play(
        &self,
        program: &program::Program,
        entry: Entry,
        arguments: Vec<(String, Value)>,
    ) -> RunOutcome {
        let limits = Limits {
            steps: MOST_STEPS,
            memory: (self.definition.limits.memory_mb << 20).min(MOST_MEMORY),
            depth: MOST_DEPTH,
            output: LARGEST_RESULT,
        };
        let ambient = self.ambient();
        let started = Machine::start(Arc::clone(&program.code), entry, arguments, ambient, limits);
        let mut machine = match started {
            Ok(machine) => machine,
            Err(error) => return RunOutcome::Failed(RunFailure::of(&error, None)),
        };
        match self.advance(&mut machine, |span| Some(program.line(span.start))).await {
            // The run has written it, unless there was nothing to run.
            Ok(value) => match machine.output().map_or_else(
                || to_json_text(&value, LARGEST_RESULT),
                |written| Ok(written.to_owned()),
            ) {
                Ok(json) => RunOutcome::Returned(json.into()),
                Err(error) => RunOutcome::Failed(RunFailure::of(&error, None)),
            },
            Err(ended) => ended,
        }
    }

    /// Runs a machine that somebody else has prepared and takes back. What it gives is a value, which
    /// need not be one that JSON can say.
    async fn evaluate(&self, seat: &Mutex<Option<Machine>>) -> RunOutcome {
        let lock = || seat.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut machine) = lock().take() else {
            return RunOutcome::Failed(RunFailure::new(
                "TypeError",
                "there is nothing to evaluate",
            ));
        };
        let ended = self.advance(&mut machine, |_| None).await;
        *lock() = Some(machine);
        match ended {
            Ok(_) => RunOutcome::Returned("null".into()),
            Err(ended) => ended,
        }
    }

    /// Runs a machine to its end and makes its host calls. `line` tells where in its source
    /// something stands, if there is one.
    async fn advance(
        &self,
        machine: &mut Machine,
        line: impl Fn(Range<usize>) -> Option<usize>,
    ) -> Result<Value, RunOutcome> {
        let mut wish = self.active.wish.subscribe();
        let mut slices = 0_u32;
        let mut counted = 0_u64;
        let ledger = self.services.directory.ledger(self.agent_id);
        let held_to_it = ledger.is_some_and(|ledger| ledger.enforces());
        let mut pace = held_to_it.then(|| Pace::new(self.definition.limits.cpu_cores));
        let meter = &self.active.meter;
        loop {
            if let Some(ended) = hold(&mut wish).await {
                return Err(ended);
            }
            let began = Instant::now();
            let step = machine.run(SLICE);
            let spent = began.elapsed();
            let nanos = u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX);
            meter.cpu_nanos.fetch_add(nanos, Ordering::Relaxed);
            meter.steps.fetch_add(machine.steps() - counted, Ordering::Relaxed);
            counted = machine.steps();
            slices += 1;
            if let Some(rest) = pace.as_mut().and_then(|pace| pace.spend(spent)) {
                tokio::select! {
                    () = tokio::time::sleep(rest) => {}
                    _ = wish.changed() => {}
                }
            }
            match step {
                Step::Yielded => {
                    if slices.is_multiple_of(COUNT_EVERY) {
                        meter.memory.store(machine.memory(), Ordering::Relaxed);
                    }
                    tokio::task::yield_now().await;
                }
                Step::Call(call) => {
                    meter.memory.store(machine.memory(), Ordering::Relaxed);
                    meter.host_calls.fetch_add(1, Ordering::Relaxed);
                    let line = line(machine.span());
                    // Boxed: what a call needs while it is made would be part of every run.
                    match Box::pin(host::call(self, &call, line)).await {
                        Ok(answer) => machine.resume(answer),
                        // What can't be recorded does not go on.
                        Err(failure) => return Err(RunOutcome::Failed(failure)),
                    }
                    // A call that is answered at once must not keep the deadline, or whoever ends
                    // the run, from being heard.
                    tokio::task::yield_now().await;
                }
                Step::Done(value) => return Ok(value),
                Step::Failed(error) => {
                    let line = line(machine.span());
                    return Err(RunOutcome::Failed(RunFailure::of(&error, line)));
                }
            }
        }
    }

    /// Resolves when the run is to end at its next step: a call that only waits need not wait on.
    async fn asked_to_stop(&self) {
        let mut wish = self.active.wish.subscribe();
        // An owner that is gone has no wish any more; the run is cut off then.
        if wish.wait_for(|wish| *wish == Wish::Stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The names that are there without having been declared.
    fn ambient(&self) -> Vec<(String, Value)> {
        let agent = Value::map([
            ("id", Value::from(self.agent_id.to_string().as_str())),
            ("name", Value::from(self.agent_name.as_str())),
        ]);
        vec![("agent".to_owned(), agent), ("any".to_owned(), Value::Any)]
    }
}

/// Holds an evaluator to its share of a core: what it spends is refilled with time, up to a tenth of
/// a second that it may be ahead.
struct Pace {
    cores: f64,
    /// Seconds of evaluation that it may spend before it has to rest.
    credit: f64,
    refilled_at: Instant,
}

impl Pace {
    /// How far ahead an evaluator may be, in seconds of evaluation.
    const AHEAD: f64 = 0.1;
    /// Shorter rests than this are put together.
    const SHORTEST: Duration = Duration::from_millis(2);

    fn new(cores: f64) -> Self {
        Self { cores, credit: Self::AHEAD, refilled_at: Instant::now() }
    }

    /// How long the evaluator has to rest after it spent so much, if it has to.
    fn spend(&mut self, spent: Duration) -> Option<Duration> {
        // It never uses more than one core.
        if self.cores >= 1.0 {
            return None;
        }
        let now = Instant::now();
        let refill = now.duration_since(self.refilled_at).as_secs_f64() * self.cores;
        self.refilled_at = now;
        self.credit = (self.credit + refill).min(Self::AHEAD) - spent.as_secs_f64();
        let rest = Duration::try_from_secs_f64(-self.credit / self.cores).unwrap_or_default();
        (rest >= Self::SHORTEST).then_some(rest)
    }
}

/// Waits while the run is to hold still; how it ends, if it is to.
async fn hold(wish: &mut watch::Receiver<Wish>) -> Option<RunOutcome> {
    loop {
        match *wish.borrow_and_update() {
            Wish::Go => return None,
            Wish::Stop => return Some(RunOutcome::Cancelled("the agent was stopped".to_owned())),
            Wish::Pause => {}
        }
        if wish.changed().await.is_err() {
            return Some(RunOutcome::Cancelled("nobody waits for the run any more".to_owned()));
        }
    }
}

/// Makes the agent's sandbox now rather than when it is first needed.
pub(crate) async fn open_sandbox(run: &Run) -> Result<(), ErrorValue> {
    host::sandbox(run).await.map(|_| ())
}

/// A message's content as a program sees it: JSON as what it says, text as text, bytes as bytes.
pub(crate) fn payload(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Err(_) => Value::Bytes(bytes.into()),
        Ok(text) => match symbiont_dsl::value::from_json_text(text) {
            Ok(value) => value,
            Err(_) => Value::from(text),
        },
    }
}

/// Facts of a host call for conditions of policies.
pub(crate) type Named = BTreeMap<String, symbiont_types::PolicyValue>;
