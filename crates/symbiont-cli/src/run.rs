//! `symbiont run`: one agent, from its source to its result.
//!
//! # What holds
//!
//! - Standard output gets the returned value and nothing else; a run that returned none prints none.
//! - However it ends, by itself or by a signal, the sandbox is destroyed before the command exits; a
//!   second signal ends the command at once, whatever it waits for.
//! - A file that the arguments name is looked at before anything is done with any of them.

use std::collections::HashSet;
use std::fs::{DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Value;
use symbiont_dsl::definition::{AgentDefinition, Checked, SourceKind, classify};
use symbiont_dsl::diagnostic::{Severity, render};
use symbiont_dsl::syntax::MAX_SOURCE;
use symbiont_runtime::{
    AddressRange, AgentConfig, AgentId, AgentState, AuditEvent, Control, Duration,
    ErrorHandlerConfig, ExecutionMode, HashMap, HttpConfig, LifecycleConfig, LifecycleController,
    LifecycleError, Priority, Profile, REMEMBERS_AS, ResourceLimits, RunFailure, RunOutcome,
    RunReport, Runtime, RuntimeConfig, SandboxOrchestratorConfig, SecurityTier, Tools,
};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{oneshot, watch};

use crate::check::checked;
use crate::screen::{self, BAD, BOLD, NAME, styled};
use crate::timeline::Timeline;
use crate::{Exit, Failure, Output, text, tool};

const EXAMPLES: &str = "\
Examples:
  symbiont run agents/lockfile_audit.symbi --file Cargo.lock
  symbiont run agents/primes.symbi --input '{\"limit\": 50}'
  symbiont run agents/primes.symbi --input '{\"limit\": 50}' --output json 2>/dev/null
  symbiont run agents/relay.symbi --agent counter --input '{\"text\": \"one two\"}'
  echo '{\"limit\": 20}' | symbiont run agents/primes.symbi --input -
  symbiont run agents/notebook.symbi --data ./data && symbiont audit verify --data ./data
  symbiont run agents/fingerprints.symbi --tools tools --file Cargo.lock --input '[\"Cargo.lock\"]'

Exit codes:
  0  the run returned a value, whatever was denied on the way
  1  the run failed, or the program has errors
  2  the arguments make no sense, or a file that they name can't be read
  3  the run ended with a PolicyDenied that its program did not catch
  4  the run ended with a TierUnavailable that its program did not catch
  130, 143, 129  ended by Ctrl-C, SIGTERM or SIGHUP: the sandbox is gone, the data directory whole;
                 a second signal ends the command where it stands";

/// Runs an agent once and prints what it returns.
///
/// The program in FILE is checked, its first agent (or the one named by --agent) is created and
/// started with the input, and what it does is told on standard error as it happens: its states, its
/// commands and files, what its policy allowed or denied, and its log. The returned value goes to
/// standard output.
///
/// The commands that the agent runs and the files that it uses are in a sandbox of its own, without a
/// network, that sees the host's programs and nothing else of the host but the files given by --file.
/// The sandbox is made when it is first needed and gone when the command ends. What the agent asks
/// over HTTP (`http.get` and the like) is asked by this command, of public addresses only.
///
/// The other agents of FILE are there too: `delegate` finds them, and those with an `on message`
/// are started and wait for mail.
///
/// An agent with a policy may do what that allows. One without any may do whatever its sandbox allows,
/// call every tool and ask every public host: this command runs the `dev` profile of the runtime.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The program, a `.symbi` file.
    file: PathBuf,
    /// The run's input, as JSON: each key of an object gives the parameter of that name. `@FILE` reads
    /// it from a file, `-` from standard input.
    #[arg(
        long,
        value_name = "JSON",
        allow_hyphen_values = true,
        default_value = "{}",
        hide_default_value = true
    )]
    input: String,
    /// A file of the host that the agent gets a copy of, as /workspace/NAME. May be repeated.
    #[arg(long = "file", value_name = "HOST_PATH")]
    files: Vec<PathBuf>,
    /// Where state and the audit trail are kept. Made if it is not there; without it, they are
    /// kept in memory and gone afterwards. What an agent remembers is there for the next run of an
    /// agent of its name.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The folder of the tools that the agents may call, as far as their policies allow them. Without
    /// it there are none.
    #[arg(long, value_name = "DIR")]
    tools: Option<PathBuf>,
    /// An address, or a range of them, that may be asked over HTTP although it is not public, such as
    /// 127.0.0.1 or 10.0.0.0/8. May be repeated.
    #[arg(long = "allow-address", value_name = "ADDRESS")]
    addresses: Vec<AddressRange>,
    /// Which agent of the file to run, if not the first.
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// How to print the result: `text` for people, `json` for the value on one line.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Marks agents that this command made, so that a later one clears away what it left in a data
/// directory when it was killed.
const MADE_BY: (&str, &str) = ("made_by", "symbiont run");

pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let signals = Signals::listen()?;
    let source = read(&arguments.file)?;
    let name = text::line(&arguments.file.display().to_string());
    let files = provided(&arguments.files)?;
    let tools = arguments.tools.as_deref().map(tool::load).transpose()?;
    if let Some(data) = &arguments.data {
        make(data)?;
    }
    let input = tokio::select! {
        input = input(arguments.input.clone()) => input?,
        number = signals.first() => return Ok(Exit::Signal(number)),
    };
    let wanted = arguments.agent.as_deref();
    let Some(cast) = Cast::choose(&source, &name, wanted, tools.as_ref())? else {
        return Ok(Exit::Failed);
    };

    let config = RuntimeConfig {
        data_dir: arguments.data.clone(),
        tools: tools.unwrap_or_default(),
        http: HttpConfig { allowed_private: arguments.addresses, ..HttpConfig::default() },
        ..RuntimeConfig::default()
    };
    let runtime = tokio::select! {
        runtime = open(config) => runtime?,
        number = signals.first() => return Ok(Exit::Signal(number)),
    };
    let is_kept = arguments.data.is_some();
    let stage = Stage { runtime: &runtime, source: &source, files: &files, is_kept };
    let played = stage.play(&cast, &input, &signals).await;
    let left = runtime.shutdown().await;
    let (ended, telling) = played;
    if let Some(telling) = telling {
        telling.finish(&signals).await;
    }
    for error in left {
        screen::say(&Failure::failed(error));
    }
    match ended? {
        Ended::Signal(number) => Ok(Exit::Signal(number)),
        Ended::Run(report) => {
            // On a thread of its own: a reader that does not read keeps nobody.
            let output = arguments.output;
            let concluded = tokio::task::spawn_blocking(move || {
                conclude(&report, output, &name, &source, &cast)
            });
            tokio::select! {
                biased;
                number = signals.first() => Ok(Exit::Signal(number)),
                exit = concluded => exit.map_err(Failure::failed)?,
            }
        }
    }
}

/// Prints the result, or says why there is none.
fn conclude(
    report: &RunReport,
    output: Output,
    name: &str,
    source: &str,
    cast: &Cast,
) -> Result<Exit, Failure> {
    match &report.outcome {
        RunOutcome::Returned(json) => {
            let shown = match output {
                Output::Json => format!("{json}\n"),
                Output::Text => pretty(json, screen::is_watched()),
            };
            screen::result(shown.as_bytes())?;
            Ok(Exit::Success)
        }
        RunOutcome::Failed(failure) => {
            screen::tell(&explain(failure, name, source, cast));
            Ok(match failure.kind.as_str() {
                "PolicyDenied" => Exit::PolicyDenied,
                "TierUnavailable" => Exit::TierUnavailable,
                _ => Exit::Failed,
            })
        }
        RunOutcome::Cancelled(by) => Err(Failure::failed(format!("the run was ended: {by}"))),
    }
}

// Before the run.

/// The text of a program that the arguments name.
pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    let unreadable = |reason: &dyn std::fmt::Display| {
        Failure::usage(format!("`{}` can't be read: {reason}", path.display()))
    };
    // Before it is opened: opening a pipe waits for whoever writes to it.
    let metadata = std::fs::metadata(path).map_err(|error| unreadable(&error))?;
    if !metadata.is_file() {
        return Err(unreadable(&"it is no regular file"));
    }
    let file = File::open(path).map_err(|error| unreadable(&error))?;
    text_of(file, MAX_SOURCE as u64).map_err(|reason| unreadable(&reason))
}

/// The program that comes from standard input.
pub(crate) fn source_from_stdin() -> Result<String, Failure> {
    text_of(io::stdin(), MAX_SOURCE as u64)
        .map_err(|reason| Failure::usage(format!("standard input: {reason}")))
}

/// The text that `reader` gives, if it is text and has no more than so many bytes.
fn text_of(reader: impl Read, most: u64) -> Result<String, String> {
    let mut bytes = Vec::new();
    reader.take(most + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > most {
        return Err(format!("it has more than {} bytes", text::count(most)));
    }
    String::from_utf8(bytes).map_err(|_not_utf8| "it is not a text file".to_owned())
}

/// The largest input of a run, in bytes.
const LARGEST_INPUT: u64 = 1 << 20;

/// The run's input, from where the argument says.
async fn input(argument: String) -> Result<String, Failure> {
    let read = tokio::task::spawn_blocking(move || {
        let unreadable = |reason: String| {
            Failure::usage(format!("--input {}: {reason}", text::short(&argument, 100)))
        };
        let input = match (argument.as_str(), argument.strip_prefix('@')) {
            ("-", _) => text_of(io::stdin(), LARGEST_INPUT).map_err(unreadable)?,
            (_, Some(path)) => {
                let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
                text_of(file, LARGEST_INPUT).map_err(unreadable)?
            }
            (_, None) => argument,
        };
        serde_json::from_str::<Value>(&input).map_err(|error| {
            Failure::usage(format!("--input is no JSON: {error}"))
                .help("quote it for the shell, such as --input '{\"name\": \"value\"}'")
        })?;
        Ok(input)
    });
    read.await.map_err(Failure::failed)?
}

/// Makes the data directory, for its owner alone, unless it is there.
fn make(data: &Path) -> Result<(), Failure> {
    let shown = data.display();
    if std::fs::metadata(data).is_ok_and(|metadata| !metadata.is_dir()) {
        return Err(Failure::usage(format!("--data `{shown}` is no directory")));
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .map_err(|error| Failure::usage(format!("--data `{shown}` can't be made: {error}")))
}

/// The largest file that is copied into a sandbox: its workspace holds no more.
const LARGEST_FILE: u64 = 256 << 20;

/// The host's files, each with where it goes.
fn provided(files: &[PathBuf]) -> Result<Vec<(PathBuf, String)>, Failure> {
    let mut taken = HashSet::new();
    let mut provided = Vec::new();
    for path in files {
        let shown = path.display();
        usable(path).map_err(|reason| Failure::usage(format!("--file `{shown}` {reason}")))?;
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(|| Failure::usage(format!("--file `{shown}` has no name that is text")))?;
        if !taken.insert(name.to_owned()) {
            return Err(Failure::usage(format!("two files would both be /workspace/{name}"))
                .help("give one of them another name first"));
        }
        let path = std::path::absolute(path).map_err(Failure::usage)?;
        provided.push((path, format!("/workspace/{name}")));
    }
    Ok(provided)
}

/// Why a file can't be copied into a sandbox later, if that is known now.
fn usable(path: &Path) -> Result<(), String> {
    let unreadable = |error: io::Error| format!("can't be read: {error}");
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err("is no regular file".to_owned());
    }
    let mut file = File::open(path).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    if size > LARGEST_FILE {
        let (size, most) = (text::count(size), text::count(LARGEST_FILE));
        return Err(format!("has {size} bytes, and a sandbox's workspace holds {most}"));
    }
    let some = file.read(&mut [0]).map_err(unreadable)?;
    if size == 0 && some > 0 {
        return Err("does not say how long it is, as files in /proc: copy it first".to_owned());
    }
    Ok(())
}

/// The agents of a source: who is run, and who else is there.
struct Cast {
    lead: String,
    /// What the lead takes, in order.
    params: Vec<String>,
    others: Vec<Other>,
}

struct Other {
    name: String,
    takes_mail: bool,
}

impl Cast {
    /// Checks the source, shows what was found, and chooses. `None` when there are errors.
    fn choose(
        source: &str,
        file: &str,
        wanted: Option<&str>,
        tools: Option<&Tools>,
    ) -> Result<Option<Self>, Failure> {
        if classify(source) == SourceKind::Instruction {
            let name = wanted.unwrap_or("instruction").to_owned();
            return Ok(Some(Self { lead: name, params: Vec::new(), others: Vec::new() }));
        }
        let Checked { diagnostics, program } = checked(source, tools);
        screen::tell(&render(&diagnostics, source, file, screen::has_colours()));
        let Some(program) = program else {
            let errors = diagnostics.iter().filter(|one| one.severity == Severity::Error).count();
            let errors = text::counted(errors as u64, "error");
            return Err(Failure::failed(format!("`{file}` has {errors}; nothing was run")));
        };
        let names = || {
            let names: Vec<_> = program.agents.iter().map(|agent| agent.name.as_str()).collect();
            names.join(", ")
        };
        let lead = match wanted {
            None => program.agents.first().ok_or_else(|| {
                Failure::failed(format!("`{file}` declares no agent"))
                    .help("`agent name` is the shortest one")
            })?,
            Some(wanted) => {
                program.agents.iter().find(|agent| agent.name == wanted).ok_or_else(|| {
                    Failure::usage(format!("`{file}` has no agent `{wanted}`"))
                        .help(format!("it has: {}", names()))
                })?
            }
        };
        let others = program.agents.iter().filter(|agent| agent.name != lead.name);
        let other = |agent: &AgentDefinition| Other {
            name: agent.name.clone(),
            takes_mail: agent.has_on_message,
        };
        Ok(Some(Self {
            lead: lead.name.clone(),
            params: lead.params.iter().map(|param| param.name.clone()).collect(),
            others: others.map(other).collect(),
        }))
    }
}

async fn open(config: RuntimeConfig) -> Result<Runtime, Failure> {
    let config = RuntimeConfig {
        profile: Profile::Dev,
        // What the host can't hold is told with the sandbox.
        sandbox: SandboxOrchestratorConfig {
            allow_degraded: vec![Control::Memory, Control::Processes, Control::ProcessorTime],
            ..Default::default()
        },
        // A person is watching: what fails is shown, and not tried again behind their back.
        errors: ErrorHandlerConfig { enable_auto_recovery: false, ..Default::default() },
        lifecycle: LifecycleConfig {
            enable_auto_recovery: false,
            termination_timeout: Duration::from_secs(2),
            ..Default::default()
        },
        ..config
    };
    Runtime::open(config).await.map_err(Failure::failed)
}

// The run.

/// How a run ended.
enum Ended {
    Run(Arc<RunReport>),
    Signal(u8),
}

struct Stage<'a> {
    runtime: &'a Runtime,
    source: &'a str,
    files: &'a [(PathBuf, String)],
    /// Whether there is a data directory, so that what agents remember has a next run.
    is_kept: bool,
}

impl Stage<'_> {
    /// Creates the agents, runs the lead and terminates them all.
    async fn play(
        &self,
        cast: &Cast,
        input: &str,
        signals: &Signals,
    ) -> (Result<Ended, Failure>, Option<Telling>) {
        if let Err(failure) = self.clear().await {
            return (Err(failure), None);
        }
        let lead = AgentId::new();
        let mut agents = vec![(lead, cast.lead.clone())];
        agents.extend(cast.others.iter().map(|other| (AgentId::new(), other.name.clone())));
        let telling =
            Telling::begin(Timeline::new(SystemTime::now(), &agents), self.runtime.watch());
        let ended = tokio::select! {
            ended = self.act(cast, &agents, input) => ended.map(Ended::Run),
            number = signals.first() => Ok(Ended::Signal(number)),
        };
        for (id, _) in &agents {
            // An agent that was never created has nothing to end.
            if self.runtime.lifecycle().get_agent_state(*id).await.is_ok()
                && let Err(error) = self.runtime.lifecycle().terminate_agent(*id).await
            {
                screen::say(&Failure::failed(error));
            }
        }
        (ended, Some(telling))
    }

    async fn act(
        &self,
        cast: &Cast,
        agents: &[(AgentId, String)],
        input: &str,
    ) -> Result<Arc<RunReport>, Failure> {
        let lifecycle = self.runtime.lifecycle();
        let limits = self.share(agents.len());
        let mut listeners = Vec::new();
        for (at, (id, name)) in agents.iter().enumerate() {
            let takes_mail = at > 0 && cast.others[at - 1].takes_mail;
            let mode =
                if takes_mail { ExecutionMode::EventDriven } else { ExecutionMode::Ephemeral };
            if takes_mail {
                listeners.push(*id);
            }
            let mut metadata = HashMap::from([(MADE_BY.0.to_owned(), MADE_BY.1.to_owned())]);
            if self.is_kept {
                metadata.insert(REMEMBERS_AS.to_owned(), name.clone());
            }
            lifecycle
                .create_agent(AgentConfig {
                    id: *id,
                    name: name.clone(),
                    dsl_source: self.source.to_owned(),
                    execution_mode: mode,
                    security_tier: SecurityTier::Tier1,
                    resource_limits: limits.clone(),
                    capabilities: Vec::new(),
                    policies: Vec::new(),
                    metadata,
                    priority: Priority::Normal,
                })
                .await
                .map_err(|error| refused(error, agents.len()))?;
        }
        let (lead, _) = agents[0];
        for (local, remote) in self.files {
            lifecycle.provide_file(lead, local.clone(), remote.clone()).map_err(Failure::failed)?;
        }
        // Everyone can get mail before anyone runs, and those who wait for it run before the lead.
        for id in listeners.iter().chain([&lead]) {
            lifecycle.initialize_agent(*id).await.map_err(|error| refused(error, agents.len()))?;
        }
        for id in &listeners {
            lifecycle.start_agent(*id).await.map_err(|error| refused(error, agents.len()))?;
        }
        for id in &listeners {
            // One that waits for the lead's mail as it starts waits like the others.
            let at_rest = AgentState::ALL.into_iter().filter(|state| *state != AgentState::Running);
            let at_rest: Vec<_> = at_rest.collect();
            lifecycle.until(*id, &at_rest).await.map_err(Failure::failed)?;
        }
        lifecycle
            .start_agent_with_input(lead, input)
            .await
            .map_err(|error| refused(error, agents.len()))?;
        let report = lifecycle.settled(lead).await.map_err(Failure::failed)?;
        report.ok_or_else(|| Failure::failed("the agent came to rest without a run"))
    }

    /// What each of so many agents may use: the host's ceilings, divided.
    fn share(&self, agents: usize) -> ResourceLimits {
        let ceilings = self.runtime.resources().ceilings();
        let agents = u32::try_from(agents).unwrap_or(u32::MAX);
        ResourceLimits {
            memory_mb: ceilings.memory_mb / u64::from(agents),
            // Cores are exact to a thousandth; what does not divide is left over.
            cpu_cores: (ceilings.cpu_cores * 1000.0 / f64::from(agents)).floor() / 1000.0,
            network_io_mbps: ceilings.network_io_mbps / u64::from(agents),
            execution_timeout: Duration::from_secs(3600),
            ..ceilings
        }
    }

    /// Terminates what earlier commands left in the data directory when they were killed.
    async fn clear(&self) -> Result<(), Failure> {
        let lifecycle = self.runtime.lifecycle();
        for agent in lifecycle.list_agents().await {
            let ours = agent.config.metadata.get(MADE_BY.0).is_some_and(|by| by == MADE_BY.1);
            if ours && agent.state != AgentState::Terminated {
                lifecycle.terminate_agent(agent.id).await.map_err(Failure::failed)?;
            }
        }
        Ok(())
    }
}

/// What an agent that could not be started was refused.
fn refused(error: LifecycleError, agents: usize) -> Failure {
    let failure = Failure::failed(&error);
    if !error.to_string().contains("not enough resources") {
        return failure;
    }
    match agents {
        1 => failure.help("free some of it, or give the run a --data directory with more room"),
        _ => failure.help("put fewer agents in one file: what the host has is divided among them"),
    }
}

/// The signals that end a run: the first is heeded, a second ends the process where it stands.
struct Signals(watch::Receiver<Option<u8>>);

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Failure::failed(format!("no signal can be caught: {error}")))
        };
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut terminate = listen(SignalKind::terminate())?;
        let mut hang_up = listen(SignalKind::hangup())?;
        let (heard, first) = watch::channel(None);
        tokio::spawn(async move {
            loop {
                let number = tokio::select! {
                    _ = interrupt.recv() => 2,
                    _ = terminate.recv() => 15,
                    _ = hang_up.recv() => 1,
                };
                if heard.send_replace(Some(number)).is_some() {
                    std::process::exit(i32::from(Exit::Signal(number).code()));
                }
            }
        });
        Ok(Self(first))
    }

    /// Resolves when the first one comes from now on; whoever sends a second waits for nothing.
    async fn next(&self) {
        let mut heard = self.0.clone();
        heard.mark_unchanged();
        if heard.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The number of the first one, also if it has come already.
    async fn first(&self) -> u8 {
        match self.0.clone().wait_for(Option::is_some).await.map(|number| *number) {
            Ok(Some(number)) => number,
            // Nobody listens any more: the process is ending.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }
}

// What is told meanwhile.

/// The timeline being written, on a thread of its own: a reader that is slow holds up nothing else.
struct Telling {
    /// Says that nothing more is recorded.
    over: oneshot::Sender<()>,
    /// Answers once everything is written.
    written: oneshot::Receiver<()>,
}

impl Telling {
    fn begin(mut timeline: Timeline, mut feed: Receiver<Arc<AuditEvent>>) -> Self {
        let (over, mut is_over) = oneshot::channel();
        let (done, written) = oneshot::channel();
        let tokio = Handle::current();
        std::thread::spawn(move || {
            loop {
                let next = tokio.block_on(async {
                    tokio::select! {
                        biased;
                        next = feed.recv() => next,
                        // All that was recorded came first.
                        _ = &mut is_over => Err(RecvError::Closed),
                    }
                });
                let told = match next {
                    Ok(event) => timeline.tell(&event),
                    Err(RecvError::Lagged(records)) => timeline.missed(records),
                    Err(RecvError::Closed) => break,
                };
                if !told.is_empty() && !screen::tell(&told) {
                    break; // Nobody reads it any more.
                }
            }
            screen::tell(&timeline.close());
            let _ = done.send(()); // Nobody may be waiting.
        });
        Self { over, written }
    }

    /// Waits until everything is written, or a signal says that nobody wants it.
    async fn finish(self, signals: &Signals) {
        let _ = self.over.send(()); // It may have ended by itself.
        tokio::select! {
            _ = self.written => {}
            () = signals.next() => {}
        }
    }
}

// After the run.

/// The columns that a result may take where it can be broken.
const WIDEST: usize = 80;

/// The value as people like to read it: text raw, the rest as JSON with what is short on one line.
fn pretty(json: &str, to_terminal: bool) -> String {
    let shown = match serde_json::from_str::<Value>(json) {
        Ok(Value::String(text)) => text,
        Ok(value) => {
            let mut shown = String::new();
            lay_out(&value, 0, &mut shown);
            shown
        }
        // Numbers that this reader can't hold are shown as they are.
        Err(_) => json.to_owned(),
    };
    let shown = if to_terminal { text::lines(&shown) } else { shown };
    if shown.ends_with('\n') { shown } else { format!("{shown}\n") }
}

/// Writes `value`, whose line is indented by `depth` steps.
fn lay_out(value: &Value, depth: usize, out: &mut String) {
    let here = "  ".repeat(depth);
    match value {
        Value::Array(items) if items.is_empty() => out.push_str("[]"),
        Value::Array(items) if items.iter().all(|item| !item.is_array() && !item.is_object()) => {
            let words: Vec<_> = items.iter().map(Value::to_string).collect();
            let inline = format!("[{}]", words.join(", "));
            let used = out[out.rfind('\n').map_or(0, |at| at + 1)..].chars().count();
            if used + inline.chars().count() < WIDEST {
                return out.push_str(&inline);
            }
            // As many as fit on each line.
            let mut column = WIDEST;
            out.push('[');
            for (at, word) in words.iter().enumerate() {
                let length = word.chars().count() + 2;
                if column + length > WIDEST {
                    out.push_str(&format!("\n{here}  "));
                    column = here.len() + 2;
                } else {
                    out.push(' ');
                }
                out.push_str(word);
                out.push_str(if at + 1 < words.len() { "," } else { "" });
                column += length;
            }
            out.push_str(&format!("\n{here}]"));
        }
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(&format!("{}\n{here}  ", if at > 0 { "," } else { "" }));
                lay_out(item, depth + 1, out);
            }
            out.push_str(&format!("\n{here}]"));
        }
        Value::Object(entries) if entries.is_empty() => out.push_str("{}"),
        Value::Object(entries) => {
            out.push('{');
            for (at, (key, item)) in entries.iter().enumerate() {
                let key = Value::from(key.as_str());
                out.push_str(&format!("{}\n{here}  {key}: ", if at > 0 { "," } else { "" }));
                lay_out(item, depth + 1, out);
            }
            out.push_str(&format!("\n{here}}}"));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            out.push_str(&value.to_string());
        }
    }
}

/// Why a run failed, where, and what to do.
fn explain(failure: &RunFailure, file: &str, source: &str, cast: &Cast) -> String {
    let mut out = format!(
        "{}{}\n",
        styled(BAD, &format!("error[{}]", text::line(&failure.kind))),
        styled(BOLD, &format!(": {}", text::block(&failure.message)))
    );
    if let Some(line) = failure.line
        && let Some(words) = source.lines().nth(line - 1)
    {
        let margin = " ".repeat(line.to_string().len());
        let (arrow, bar) = (styled(NAME, "-->"), styled(NAME, "|"));
        let number = styled(NAME, &line.to_string());
        let words = text::short(words, 160);
        out.push_str(&format!("{margin}{arrow} {}:{line}\n", text::line(file)));
        out.push_str(&format!("{margin} {bar}\n{number} {bar} {words}\n{margin} {bar}\n"));
    }
    if let Some(help) = help(failure, cast) {
        out.push_str(&format!("  {} {help}\n", styled(NAME, "help:")));
    }
    out
}

fn help(failure: &RunFailure, cast: &Cast) -> Option<String> {
    Some(match failure.kind.as_str() {
        "PolicyDenied" => "allow it in a policy of the agent, or `catch (PolicyDenied e)` and go on without".to_owned(),
        "ApprovalDenied" => "no approval can be given yet: leave the rule out, or `catch (ApprovalDenied e)`".to_owned(),
        "CapabilityDenied" => "add it to the agent's `capabilities`, or leave the list out".to_owned(),
        "TierUnavailable" => "`symbiont doctor` says which tiers this host has and what the others need".to_owned(),
        "ModelError" => "agents that need a language model can't run yet: write what it does as a program (`agent name { with { ... } }`)".to_owned(),
        "ToolNotFound" => "give the folder of its manifest with --tools, declare a function of that name, or correct the name".to_owned(),
        "ParseError" if failure.line.is_none() && !cast.params.is_empty() => {
            let params: Vec<_> = cast.params.iter().map(|name| format!("\"{name}\": ...")).collect();
            format!("give the input with --input '{{{}}}'", params.join(", "))
        }
        "Timeout" => "raise `timeout` in the agent's `with`, or do less".to_owned(),
        _ => return None,
    })
}
