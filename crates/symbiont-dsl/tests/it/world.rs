//! A host for programs and examples that is honest about the little it has: files, memories, a clock
//! that moves when somebody sleeps, and whatever answers a test gives for other calls.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use symbiont_dsl::machine::{Code, Entry, HostCall, Limits, Machine, Step};
use symbiont_dsl::operations::{self, absolute};
use symbiont_dsl::value::{ErrorValue, Secret, Value, to_json_text};

const LIMITS: Limits = Limits { steps: 2_000_000, memory: 4 << 20, depth: 200, output: 1 << 20 };

/// What a call comes to.
pub(crate) type Answer = Result<Value, ErrorValue>;

/// The host.
#[derive(Default)]
pub(crate) struct World {
    /// The answers to calls that a test gives, by name; the last one stays.
    pub(crate) answers: BTreeMap<String, VecDeque<Answer>>,
    files: BTreeMap<String, Value>,
    memory: BTreeMap<(String, String), Value>,
    slept: Duration,
    ids: usize,
    /// Every call with its answer, as they came.
    pub(crate) log: Vec<(HostCall, Answer)>,
}

impl World {
    /// A world with one file that is no text.
    pub(crate) fn new() -> Self {
        let picture = Value::Bytes(Arc::from(&b"hi!"[..]));
        Self { files: [("/workspace/picture.png".to_owned(), picture)].into(), ..Self::default() }
    }

    /// Puts a file there.
    pub(crate) fn put_file(&mut self, path: &str, content: Value) {
        self.files.insert(absolute(path), content);
    }

    /// Runs an entry to its end.
    pub(crate) fn run(
        &mut self,
        code: Arc<Code>,
        entry: Entry,
        input: Vec<(String, Value)>,
        ambient: Vec<(String, Value)>,
    ) -> Answer {
        let mut machine = Machine::start(code, entry, input, ambient, LIMITS)?;
        loop {
            match machine.run(1_000) {
                Step::Call(call) => {
                    let (call, answer) = match operations::canonical(&call) {
                        Ok(call) => {
                            let answer = self.answer(&call);
                            (call, answer)
                        }
                        Err(error) => (call, Err(error)),
                    };
                    machine.resume(answer.clone());
                    self.log.push((call, answer));
                }
                Step::Done(value) => return Ok(value),
                Step::Failed(error) => return Err(error),
                Step::Yielded => {}
            }
        }
    }

    fn answer(&mut self, call: &HostCall) -> Answer {
        if let Some(answers) = self.answers.get_mut(&*call.name) {
            let next =
                if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
            return next.expect("there is an answer");
        }
        let given = |value: &&Value| !matches!(value, Value::None);
        let slot = |at: usize| call.args.get(at).filter(given).cloned().unwrap_or_default();
        let text = |at: usize| slot(at).to_string();
        let path = || absolute(&text(0));
        let id = |world: &mut Self| {
            world.ids += 1;
            Value::from(format!("id-{}", world.ids))
        };
        Ok(match &*call.name {
            "fs.read" => match self.files.get(&path()) {
                Some(content) => content.clone(),
                None => return fails("NotFound", format!("there is no `{}`", path())),
            },
            "fs.write" => {
                let content = match slot(1) {
                    text @ (Value::String(_) | Value::Bytes(_)) => text,
                    other => Value::from(to_json_text(&other, 1 << 20)?),
                };
                self.files.insert(path(), content);
                Value::Null
            }
            "fs.remove" => {
                self.files.remove(&path());
                Value::Null
            }
            "fs.exists" => Value::Bool(self.files.contains_key(&path())),
            "fs.list" => {
                let folder =
                    if call.args.is_empty() { "/workspace".to_owned() } else { path() } + "/";
                let names = self.files.keys().filter_map(|file| file.strip_prefix(&folder));
                Value::array(names.filter(|name| !name.contains('/')).map(Value::from))
            }
            "memory.get" => self.memory.get(&(text(2), text(0))).cloned().unwrap_or_default(),
            "memory.set" => {
                self.memory.insert((text(2), text(0)), slot(1));
                Value::Null
            }
            "memory.remove" => {
                self.memory.remove(&(text(2), text(0)));
                Value::Null
            }
            "memory.keys" => {
                let of_store = self.memory.keys().filter(|(store, _)| *store == text(2));
                Value::array(of_store.map(|(_, key)| Value::from(&**key)))
            }
            "memory.search" => {
                let found = |(store, key): &(String, String), value: &Value| {
                    *store == text(2) && format!("{key} {value}").contains(&text(0))
                };
                let found = self.memory.iter().filter(|(key, value)| found(key, value));
                Value::array(found.map(|((_, key), value)| {
                    Value::map([("key", Value::from(&**key)), ("value", value.clone())])
                }))
            }
            // It knows two programs: one that says what it is told, and one that fails.
            "exec" => {
                let words = match slot(1) {
                    Value::Array(words) => words.iter().map(ToString::to_string).collect(),
                    _ => Vec::new(),
                };
                let (code, out) = match &*text(0) {
                    "echo" => (0, words.join(" ") + "\n"),
                    "cat" => (0, option(call, "stdin").map_or_else(String::new, |s| s.to_string())),
                    "false" => (1, String::new()),
                    other => return fails("SandboxError", format!("no program `{other}`")),
                };
                Value::map([
                    ("exit_code", Value::Int(code)),
                    ("signal", Value::Null),
                    ("stdout", Value::from(out)),
                    ("stderr", Value::from("")),
                    ("timed_out", Value::Bool(false)),
                    ("truncated", Value::Bool(false)),
                ])
            }
            "secret.read" => {
                Value::Secret(Arc::new(Secret { path: text(0).into(), text: "open sesame".into() }))
            }
            "now" => Value::Time(self.now()),
            "time_since" => match slot(0) {
                Value::Time(then) => {
                    let passed = u64::try_from(self.now() - then).expect("no time of the future");
                    Value::Duration(Duration::from_nanos(passed))
                }
                _ => return fails("TypeError", "`time_since` needs a time"),
            },
            "sleep" => {
                if let Value::Duration(duration) = slot(0) {
                    self.slept += duration;
                }
                Value::Null
            }
            "random" => Value::Float(0.5),
            "uuid" | "generate_id" | "send" => id(self),
            "broadcast" => Value::array([id(self)]),
            "receive" | "log" | "print" | "emit" | "checkpoint" => Value::Null,
            name => return fails("ToolNotFound", format!("no tool `{name}`")),
        })
    }

    fn now(&self) -> i64 {
        // The 14th of November 2023, 22:13:20 UTC, a Tuesday.
        let slept = i64::try_from(self.slept.as_nanos()).expect("no test sleeps for long");
        1_700_000_000_000_000_000 + slept
    }
}

/// An option of a call.
fn option(call: &HostCall, name: &str) -> Option<Value> {
    match call.args.get(operations::options_slot(&call.name)) {
        Some(Value::Map(map)) => map.get(name).cloned(),
        _ => None,
    }
}

fn fails(kind: &str, message: impl Into<String>) -> Answer {
    Err(ErrorValue::new(kind, message.into()))
}
