//! `symbiont repl`: the language at a prompt, line by line.
//!
//! What is typed is run as an agent's runs are: host calls are decided, made in a sandbox and recorded
//! by a runtime of the `dev` profile. Variables, functions and types last until the end.

use std::io::{self, BufRead, IsTerminal};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Config, Context, Editor, Helper, Highlighter, Hinter};
use symbiont_dsl::diagnostic::{Severity, render};
use symbiont_dsl::machine::{Limits, Session};
use symbiont_dsl::syntax;
use symbiont_dsl::value::{ErrorValue, Value};
use symbiont_runtime::{
    AgentConfig, AgentId, AuditEvent, ExecutionMode, LifecycleConfig, LifecycleController,
    Priority, Profile, ResourceLimits, RunOutcome, Runtime, RuntimeConfig, SecurityTier,
};
use tokio::sync::broadcast::{Receiver, error::TryRecvError};
use tokio_util::sync::CancellationToken;

use crate::screen::{self, BAD, DIM, NAME, styled};
use crate::{Exit, Failure, explain, text, tool};

const EXAMPLES: &str = "\
Examples:
  echo '[3, 1, 2].sort()' | symbiont repl
  printf 'let sum = exec(\"sha256sum\", [\"/usr/bin/env\"]);\\nsum.exit_code\\n' | symbiont repl

At the prompt:
  :help          what there is
  :vars          the variables and what they hold
  :doc NAME      the page of a builtin, method, host call or keyword
  :load FILE     runs the lines of a file as if they were typed
  :quit          ends it, as the end of the input does

Exit codes:
  0  the input ended, or :quit
  1  the input was no terminal, and something in it failed
  2  wrong usage";

const HELP: &str = "\
Type statements, or `function`, `type` and `memory` declarations; a bracket that is still open goes on in
the next line. An expression shows its value.

  :vars          the variables and what they hold
  :doc NAME      the page of a builtin, method, host call or keyword
  :load FILE     runs the lines of a file as if they were typed
  :quit          ends it, as Ctrl-D does; Ctrl-C ends what runs
";

/// The name of the agent whose runs the inputs are.
const AGENT: &str = "console";
/// The most characters of a value that are shown.
const LONGEST_SHOWN: usize = 20_000;
/// Lines of history that are kept.
const HISTORY: usize = 1000;

/// Runs the language line by line, with history and completion.
///
/// Commands (`exec`) and files (`fs.*`) are in a sandbox of the session's own, which is made when it is
/// first needed and gone at the end.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The folder of the tools that may be called.
    #[arg(long, value_name = "DIR")]
    tools: Option<PathBuf>,
    /// Where lines are kept for the next time. Without it they are gone at the end.
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
}

pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let tools = arguments.tools.as_deref().map(tool::load).transpose()?.unwrap_or_default();
    let config = RuntimeConfig {
        profile: Profile::Dev,
        tools,
        lifecycle: LifecycleConfig {
            enable_auto_recovery: false,
            termination_timeout: Duration::from_secs(2),
            ..LifecycleConfig::default()
        },
        ..RuntimeConfig::default()
    };
    let runtime = Runtime::open(config).await.map_err(Failure::failed)?;
    let ended = match Console::open(&runtime).await {
        Ok(console) if io::stdin().is_terminal() => console.converse(arguments.history).await,
        Ok(console) => console.read().await,
        Err(failure) => Err(failure),
    };
    for error in runtime.shutdown().await {
        screen::say(&Failure::failed(error));
    }
    ended
}

/// What completion knows of the session.
#[derive(Debug, Default)]
struct Known {
    /// Declarations, as they were typed.
    declared: String,
    /// Variables, each with a value of its kind as a program writes it.
    variables: Vec<(String, &'static str)>,
}

struct Console<'a> {
    runtime: &'a Runtime,
    agent: AgentId,
    session: Session,
    known: Arc<Mutex<Known>>,
    feed: Receiver<Arc<AuditEvent>>,
}

/// Whether there is more to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Went {
    Well,
    Wrong,
    Over,
}

impl<'a> Console<'a> {
    async fn open(runtime: &'a Runtime) -> Result<Self, Failure> {
        let agent = AgentId::new();
        let ceilings = runtime.resources().ceilings();
        let memory_mb = ceilings.memory_mb;
        let config = AgentConfig {
            id: agent,
            name: AGENT.to_owned(),
            dsl_source: format!("agent {AGENT}"),
            execution_mode: ExecutionMode::Persistent,
            security_tier: SecurityTier::Tier1,
            resource_limits: ResourceLimits {
                execution_timeout: Duration::from_secs(24 * 3600),
                ..ceilings
            },
            capabilities: Vec::new(),
            policies: Vec::new(),
            metadata: std::collections::HashMap::new(),
            priority: Priority::Normal,
        };
        let lifecycle = runtime.lifecycle();
        lifecycle.create_agent(config).await.map_err(Failure::failed)?;
        lifecycle.initialize_agent(agent).await.map_err(Failure::failed)?;
        lifecycle.start_agent(agent).await.map_err(Failure::failed)?;
        lifecycle.settled(agent).await.map_err(Failure::failed)?;
        let limits = Limits { memory: (memory_mb << 20).min(4 << 30), ..Limits::default() };
        Ok(Self {
            runtime,
            agent,
            session: Session::new(limits),
            known: Arc::default(),
            feed: runtime.watch(),
        })
    }

    /// Reads what a program or a file feeds in.
    async fn read(mut self) -> Result<Exit, Failure> {
        let mut input = String::new();
        let mut exit = Exit::Success;
        for line in io::stdin().lock().lines() {
            let line = line.map_err(|error| Failure::usage(format!("the input: {error}")))?;
            match self.line(&mut input, &line).await? {
                Went::Well => {}
                Went::Wrong => exit = Exit::Failed,
                Went::Over => return Ok(exit),
            }
        }
        match input.trim().is_empty() || self.enter(&input).await? == Went::Well {
            true => Ok(exit),
            false => Ok(Exit::Failed),
        }
    }

    /// Takes another line of an input, and runs the input if nothing in it is open any more.
    async fn line(&mut self, input: &mut String, line: &str) -> Result<Went, Failure> {
        input.push_str(line);
        input.push('\n');
        if !line.trim().is_empty() && is_open(input) {
            return Ok(Went::Well);
        }
        self.enter(&std::mem::take(input)).await
    }

    /// Talks with a person.
    async fn converse(mut self, history: Option<PathBuf>) -> Result<Exit, Failure> {
        screen::tell(&format!(
            "{}\n",
            styled(DIM, "the Symbiont language; :help says what there is, Ctrl-D ends")
        ));
        let failed = |error: ReadlineError| Failure::failed(format!("the terminal: {error}"));
        let config = Config::builder()
            .completion_type(CompletionType::List)
            .max_history_size(HISTORY)
            .map_err(failed)?
            .build();
        let mut editor = Editor::<Prompt, FileHistory>::with_config(config).map_err(failed)?;
        editor.set_helper(Some(Prompt(Arc::clone(&self.known))));
        if let Some(file) = &history {
            let _first_time = editor.load_history(file);
        }
        loop {
            // Reading a terminal waits, and holds up nobody where it does.
            let asked = tokio::task::spawn_blocking(move || {
                let line = editor.readline("> ");
                (editor, line)
            });
            let (mut back, line) = asked.await.map_err(Failure::failed)?;
            let went = match line {
                Ok(line) => {
                    let _kept = back.add_history_entry(line.as_str());
                    self.enter(&line).await?
                }
                Err(ReadlineError::Interrupted) => Went::Well,
                Err(ReadlineError::Eof) => Went::Over,
                Err(error) => return Err(failed(error)),
            };
            if went == Went::Over {
                if let Some(file) = &history {
                    back.save_history(file).map_err(failed)?;
                }
                return Ok(Exit::Success);
            }
            editor = back;
        }
    }

    /// Runs an input, or does what a line beginning with `:` says.
    async fn enter(&mut self, input: &str) -> Result<Went, Failure> {
        let input = input.trim();
        match input.split_once(char::is_whitespace).unwrap_or((input, "")) {
            ("", _) => Ok(Went::Well),
            (":quit" | ":q", _) => Ok(Went::Over),
            (":help" | ":h", _) => told(HELP),
            (":vars", _) => told(&self.variables()),
            (":doc", name) => document(name.trim()),
            (":load", path) => self.load(path.trim()).await,
            (word, _) if word.starts_with(':') => {
                let failure = Failure::usage(format!("there is no `{}`", text::short(word, 40)));
                screen::say(&failure.help(":help lists what there is"));
                Ok(Went::Wrong)
            }
            _ => self.evaluate(input).await,
        }
    }

    async fn load(&mut self, path: &str) -> Result<Went, Failure> {
        let source = match crate::run::read(std::path::Path::new(path)) {
            Ok(source) => source,
            Err(failure) => {
                screen::say(&failure);
                return Ok(Went::Wrong);
            }
        };
        let mut input = String::new();
        for line in source.lines().chain([""]) {
            input.push_str(line);
            input.push('\n');
            if is_open(&input) && !line.is_empty() {
                continue;
            }
            let whole = std::mem::take(&mut input);
            if !whole.trim().is_empty() && self.evaluate(whole.trim()).await? != Went::Well {
                return Ok(Went::Wrong);
            }
        }
        Ok(Went::Well)
    }

    async fn evaluate(&mut self, input: &str) -> Result<Went, Failure> {
        let machine = match self.session.enter(input) {
            Ok(machine) => machine,
            Err(found) => {
                // What is unused now may be used by the next line.
                let errors: Vec<_> =
                    found.into_iter().filter(|one| one.severity == Severity::Error).collect();
                screen::tell(&render(&errors, input, "input", screen::has_colours()));
                return Ok(Went::Wrong);
            }
        };
        let cancel = CancellationToken::new();
        let lifecycle = self.runtime.lifecycle();
        let evaluated = lifecycle.evaluate(self.agent, machine, cancel.clone());
        tokio::pin!(evaluated);
        let evaluation = tokio::select! {
            evaluation = &mut evaluated => evaluation,
            _ = tokio::signal::ctrl_c() => {
                cancel.cancel();
                evaluated.await
            }
        };
        let evaluation = evaluation.map_err(Failure::failed)?;
        self.say_what_was_told();
        let result = match (evaluation.machine, &evaluation.report.outcome) {
            (_, RunOutcome::Cancelled(_)) => {
                screen::tell(&format!("{}\n", styled(DIM, "ended; its variables are as before")));
                return Ok(Went::Wrong);
            }
            (Some(machine), _) => self.session.finish(machine),
            (None, RunOutcome::Failed(failure)) => {
                Err(ErrorValue::new(failure.kind.as_str(), failure.message.as_str()))
            }
            (None, RunOutcome::Returned(_)) => Ok(Value::Null),
        };
        self.learn(input);
        match result {
            Ok(Value::Null) => Ok(Went::Well),
            Ok(value) => told(&format!("{}\n", shown(&value))),
            Err(error) => {
                let line = format!("{}: {}", error.kind, text::lines(&error.message));
                screen::tell(&format!("{}\n", styled(BAD, &line)));
                Ok(Went::Wrong)
            }
        }
    }

    /// What the input printed, logged or was denied.
    fn say_what_was_told(&mut self) {
        loop {
            match self.feed.try_recv() {
                Ok(event) => {
                    let details = text::line(&event.details);
                    match event.metadata.get("kind").map(String::as_str) {
                        Some("print") => drop(screen::tell(&format!("{details}\n"))),
                        Some(kind @ ("log" | "emit" | "checkpoint")) => {
                            screen::tell(&format!("{} {details}\n", styled(DIM, kind)));
                        }
                        Some(_) | None => {}
                    }
                }
                Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    fn variables(&self) -> String {
        let lines = self.session.variables().iter().map(|(name, value)| {
            format!("{} = {}\n", styled(NAME, name), text::short(&shown(value), 200))
        });
        lines.collect()
    }

    /// Tells completion what there is now.
    fn learn(&self, input: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if ["function ", "type ", "memory "].iter().any(|word| input.starts_with(word)) {
            known.declared.push_str(input);
            known.declared.push('\n');
        }
        known.variables = (self.session.variables().iter())
            .map(|(name, value)| (name.to_string(), like(value)))
            .collect();
    }
}

fn told(text: &str) -> Result<Went, Failure> {
    screen::report(text)?;
    Ok(Went::Well)
}

/// Shows what the reference says of a name.
fn document(name: &str) -> Result<Went, Failure> {
    match explain::named(name) {
        Some((pages, _)) => told(&pages),
        None => {
            let failure =
                Failure::usage(format!("there is no page of `{}`", text::short(name, 40)));
            screen::say(&failure);
            Ok(Went::Wrong)
        }
    }
}

/// A value as a person reads it: text in quotes, and not more of anything than fits a few screens.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => serde_json::Value::from(&**text).to_string(),
        other => other.to_string(),
    };
    text::short(&text::lines(&text), LONGEST_SHOWN)
}

/// A value of the same kind, as a program writes it.
fn like(value: &Value) -> &'static str {
    match value.type_name() {
        "string" => "\"\"",
        "array" => "[]",
        "map" => "{ key: 0 }",
        "int" => "0",
        "float" => "0.0",
        "bool" => "true",
        "duration" => "1s",
        "size" => "1KB",
        "time" => "now()",
        "function" => "x => x",
        "range" => "range(0, 1)",
        _ => "null",
    }
}

/// Whether a bracket, a text or a comment is still open.
fn is_open(input: &str) -> bool {
    syntax::unclosed(input).is_some()
}

/// What helps at the prompt.
#[derive(Helper, Hinter, Highlighter)]
struct Prompt(Arc<Mutex<Known>>);

impl Validator for Prompt {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let input = context.input();
        // An empty line ends whatever is open.
        let goes_on = is_open(input) && !input.ends_with("\n\n") && !input.starts_with(':');
        Ok(if goes_on { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}

impl Completer for Prompt {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let before = {
            let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let variables: String = (known.variables.iter())
                .map(|(name, value)| format!("let {name} = {value};\n"))
                .collect();
            format!("{}agent {AGENT} {{ with {{\n{variables}", known.declared)
        };
        let source = format!("{before}{line}");
        let (start, words) = symbiont_lsp::words(&source, before.len() + at);
        let pairs =
            words.into_iter().map(|(label, text)| Pair { display: label, replacement: text });
        Ok((start.saturating_sub(before.len()), pairs.collect()))
    }
}

#[cfg(test)]
mod tests {
    use rustyline::history::DefaultHistory;

    use super::*;

    #[test]
    fn what_is_open_goes_on() {
        for (input, want) in [
            ("", false),
            ("1 + 1", false),
            ("function f(x) {", true),
            ("function f(x) {\n x }", false),
            ("[1, (2", true),
            ("\"a", true),
            ("\"a\"", false),
            ("\"{\"", false),
            ("\"\"\"a\"", true),
            ("/* a", true),
            ("// a {", false),
            ("}", false),
        ] {
            assert_eq!(is_open(input), want, "{input:?}");
        }
    }

    #[test]
    fn names_and_methods_are_completed() {
        let known = Known {
            declared: "function double(x) { x * 2 }\n".to_owned(),
            variables: vec![("alerts".to_owned(), "[]"), ("name".to_owned(), "\"\"")],
        };
        let prompt = Prompt(Arc::new(Mutex::new(known)));
        let history = DefaultHistory::new();
        for (line, start, want) in [
            ("ale", 0, "alerts"),
            ("dou", 0, "double"),
            ("let x = ale", 8, "alerts"),
            ("alerts.so", 7, "sort"),
            ("name.spl", 5, "split"),
            ("fs.re", 3, "read"),
        ] {
            let context = Context::new(&history);
            let (at, pairs) = prompt.complete(line, line.len(), &context).unwrap();
            let found: Vec<_> = pairs.iter().map(|pair| pair.display.as_str()).collect();
            assert!(found.contains(&want), "{line}: {found:?}");
            assert_eq!(at, start, "{line}");
        }
    }
}
