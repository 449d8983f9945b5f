//! `symbiont sandbox create`, and what is done with the sandboxes that it made.
//!
//! # What holds
//!
//! - What is told of a sandbox comes from the process that holds it; one without such a process is gone,
//!   and what is left of its socket is removed.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};
use symbiont_runtime::{
    Duration, SandboxId, SystemTime, TerminalSize, kept_sandboxes, reap_sandboxes,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use super::end::{End, failure};
use super::streams::{self, Running, Signals, Terminal, Typed};
use super::wanted::{self, Wanted};
use super::wire;
use crate::screen::{self, DIM, styled};
use crate::{Exit, Failure, Output, text};

const CREATE: &str = "\
Examples:
  id=$(symbiont sandbox create --lease 10m)
  symbiont sandbox exec $id -- sh -c 'echo kept > note'
  symbiont sandbox exec $id -- cat note
  symbiont sandbox cp $id:note /tmp/note
  symbiont sandbox destroy $id

Exit codes:
  0    it is there, and its id is on standard output
  2    the words are wrong in themselves, wherever they are said
  125  there is no such sandbox here, or a file that is named can't be had; why is told

-o json: {\"id\":\"...\"}; what fails as `symbiont sandbox --help` tells.";

const EXEC: &str = "\
Exit codes:
  the command's own; 128 and the number of the signal that ended it
  2    the words are wrong in themselves, wherever they are said
  124  it ran into --timeout, which is told
  125  the sandbox is not there, or was lost, or the command's output can't be written
  126  the command is there and can't be executed
  127  there is no such command
  137  it was killed; when that was because it took more memory than the sandbox may, this is told

What this command says, and what --quiet leaves out, is as for `run`.";

const COPY: &str = "\
Exit codes:
  0    it is there, but for what is told to be left out
  2    the words are wrong in themselves, wherever they are said
  125  it could not be copied: there is no such sandbox or file, or it is too much; why is told

-o json: {\"files\":1,\"directories\":0,\"links\":0,\"bytes\":7,\"omitted\":[{\"path\":\"...\",\"why\":\"...\"}]};
what fails as `symbiont sandbox --help` tells.";

/// Makes a sandbox that stays, and prints its id.
///
/// A process of its own holds it, until `destroy` or the end of its lease: what its commands leave in
/// /workspace and /tmp is there for the next one.
#[derive(Debug, clap::Args)]
#[command(after_help = CREATE)]
pub(crate) struct Create {
    #[command(flatten)]
    pub(super) wanted: Wanted,
    /// How long it stays, such as `90`, `10m` or `24h`, which is the longest.
    #[arg(long, value_name = "DURATION", value_parser = wanted::duration, default_value = "1h")]
    #[arg(allow_negative_numbers = true)]
    pub(super) lease: Duration,
    /// `text` for people, `json` for programs.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(super) output: Output,
}

/// Lists the sandboxes that `create` has made and that are there.
///
/// With -o json each has its id, status, driver, the process that keeps it, when it was made and when its
/// lease ends (seconds since 1970), what it uses and may use, and the walls that stand.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// `text` for people, `json` for programs.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(super) output: Output,
}

/// Runs a command in a sandbox that `create` has made, as `run` does in one of its own.
#[derive(Debug, clap::Args)]
#[command(after_help = EXEC)]
pub(crate) struct Exec {
    /// The id that `create` has printed.
    id: SandboxId,
    /// How long it may run, such as `90`, `500ms`, `2m` or `1h`; no longer than the sandbox stays.
    #[arg(long, value_name = "DURATION", value_parser = wanted::duration, default_value = "60s")]
    #[arg(allow_negative_numbers = true)]
    timeout: Duration,
    /// A variable of its environment, beside those of the sandbox. May be repeated.
    #[arg(long = "env", value_name = "K=V")]
    environment: Vec<OsString>,
    /// Says nothing of limits that the command ran into: the exit code tells.
    #[arg(short, long)]
    quiet: bool,
    /// How to tell what is told: `text` for people, `json` for programs.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(super) output: Output,
    /// The command and its arguments, after `--`.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Copies a file or a directory into a sandbox that `create` has made, or out of it.
///
/// The side in the sandbox is written ID:PATH. A relative path there starts in /workspace; one that is
/// written must lie beneath /workspace or /tmp. Where a directory is already, the copy goes into it. A
/// directory is copied whole or not at all, with at most 64 within each other; pipes, devices, links that
/// lead out of it, and what may not be read are left out, and told.
#[derive(Debug, clap::Args)]
#[command(after_help = COPY)]
pub(crate) struct Copy {
    /// What is copied: a path of the host, or ID:PATH.
    from: OsString,
    /// Where to: ID:PATH, or a path of the host.
    to: OsString,
    /// `text` for people, `json` for programs.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(super) output: Output,
}

/// Destroys a sandbox that `create` has made. When this returns, nothing of it is left; one that is gone
/// already may be destroyed again.
#[derive(Debug, clap::Args)]
pub(crate) struct Destroy {
    /// The id that `create` has printed.
    id: SandboxId,
    /// `text` for people, `json` for programs: {"id":"..."}.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(super) output: Output,
}

pub(super) async fn create(arguments: Create) -> Result<Exit, Failure> {
    // What is wrong with the arguments is told by this command, not by the keeper.
    let Create { wanted, lease, output } = arguments;
    wanted.read(lease)?;
    let mut signals = Signals::listen()?;
    let cannot = |error: std::io::Error| {
        Failure::new(Exit::NoSandbox, format!("no keeper could be started: {error}"))
    };
    let itself = std::env::current_exe().map_err(cannot)?;
    // As they were given: the keeper reads them as this command does.
    let given = std::env::args_os().skip_while(|word| word != "create").skip(1);
    let mut keeper = tokio::process::Command::new(itself)
        .args(["sandbox", "keep"])
        .args(given)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env_clear()
        .spawn()
        .map_err(cannot)?;
    let pid = keeper.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()));
    let mut told = BufReader::new(keeper.stdout.take().expect("a pipe"));
    let mut complaint = keeper.stderr.take().expect("a pipe");
    let mut id = String::new();
    let ready = async {
        let (mut said, mut last) = (String::new(), String::new());
        // Both end when it has let go of them, or has ended.
        let both = tokio::join!(told.read_line(&mut said), complaint.read_to_string(&mut last));
        both.0.and(both.1).map(|_| (said, last))
    };
    let last = tokio::select! {
        ready = screen::patiently("making the sandbox", ready) => {
            let (said, last) = ready.map_err(cannot)?;
            id.push_str(said.trim());
            last
        }
        number = signals.next() => {
            // It clears away what it has made so far, as for any signal.
            if let Some(pid) = pid {
                let _ended_meanwhile = rustix::process::kill_process(pid, Signal::TERM);
            }
            let _ends = keeper.wait().await;
            return Ok(Exit::Signal(number));
        }
    };
    if id.is_empty() {
        let status = keeper.wait().await.map_err(cannot)?;
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        // It has said why as this command would.
        screen::tell(&last);
        return Ok(code.map_or(Exit::NoSandbox, Exit::Command));
    }
    screen::tell(&last); // What was left out of directories.
    let told = match output {
        Output::Text => format!("{id}\n"),
        Output::Json => format!("{}\n", json!({ "id": id })),
    };
    let Err(error) = screen::put(told.as_bytes()) else { return Ok(Exit::Success) };
    if let Ok(id) = id.parse() {
        // Nobody would know of it.
        gone(id).await?;
    }
    Err(unreached(&format!("the sandbox was destroyed, as its id could not be written: {error}")))
}

/// The sockets of the sandboxes that are held, or were.
fn sockets() -> Result<Vec<(SandboxId, PathBuf)>, Failure> {
    let folder = kept_sandboxes().map_err(failure)?;
    let unread = |error| unreached(&format!("`{}`: {error}", folder.display()));
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).map_err(unread)? {
        let path = entry.map_err(unread)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(id) = name.strip_suffix(".sock").and_then(|id| id.parse().ok()) {
            found.push((id, path));
        }
    }
    Ok(found)
}

/// Why who holds a sandbox, or what it holds, is out of reach.
fn unreached(what: &str) -> Failure {
    Failure::new(Exit::NoSandbox, text::block(what))
}

/// Connects to who holds a sandbox; nothing if nobody does any more.
async fn holder(path: &Path) -> std::io::Result<Option<UnixStream>> {
    loop {
        return match UnixStream::connect(path).await {
            Ok(stream) => Ok(Some(stream)),
            Err(error) => match error.kind() {
                // It was closed at this very moment: the next answer says for good.
                ErrorKind::ConnectionReset => {
                    tokio::task::yield_now().await;
                    continue;
                }
                ErrorKind::ConnectionRefused => {
                    let _someone_was_faster = fs::remove_file(path);
                    Ok(None)
                }
                ErrorKind::NotFound => Ok(None),
                _ => Err(error),
            },
        };
    }
}

/// Connects to who holds the sandbox of this id.
async fn reach(id: SandboxId) -> Result<UnixStream, Failure> {
    let path = kept_sandboxes().map_err(failure)?.join(format!("{id}.sock"));
    let held = holder(&path).await;
    held.map_err(|error| unreached(&format!("the keeper of `{id}`: {error}")))?.ok_or_else(|| {
        unreached(&format!("no sandbox `{id}`"))
            .help("`symbiont sandbox list` shows those that are there")
    })
}

/// Asks who holds a sandbox, and waits for the answer.
async fn ask(stream: &mut UnixStream, request: &Value) -> Result<Value, Failure> {
    let answer = answer(stream, request)
        .await
        .map_err(|error| unreached(&format!("the sandbox's keeper has gone: {error}")))?;
    wire::understood(&answer)?;
    Ok(answer)
}

async fn answer(stream: &mut UnixStream, request: &Value) -> std::io::Result<Value> {
    wire::send_request(stream, request).await?;
    match wire::receive(stream).await? {
        Some((wire::ANSWER, answer)) => Ok(serde_json::from_slice(&answer)?),
        Some(_) | None => Err(std::io::Error::from(ErrorKind::UnexpectedEof)),
    }
}

pub(super) async fn list(arguments: &List) -> Result<Exit, Failure> {
    let mut all = Vec::new();
    for (_, path) in sockets()? {
        let held = holder(&path).await.map_err(|error| unreached(&error.to_string()))?;
        let Some(mut stream) = held else { continue };
        // One that goes meanwhile is one less.
        if let Ok(status) = ask(&mut stream, &json!({ "do": "status" })).await {
            all.push(status);
        }
    }
    all.sort_by_key(|status| status["created"].as_u64());
    if arguments.output == Output::Json {
        screen::result(format!("{}\n", json!(all)).as_bytes())?;
        return Ok(Exit::Success);
    }
    if all.is_empty() {
        screen::tell("no sandbox is kept; `symbiont sandbox create` makes one\n");
        return Ok(Exit::Success);
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let head = format!(
        "{:<36}  {:<8} {:<8} {:>12} {:>12}  {:>9}  {}",
        "ID", "DRIVER", "STATUS", "AGE", "LEFT", "PROCESSES", "MEMORY"
    );
    let mut out = format!("{}\n", styled(DIM, &head));
    for status in &all {
        let word = |name: &str| text::line(status[name].as_str().unwrap_or_default());
        let number = |name: &str| status[name].as_u64();
        let time = |from: u64, to: u64| match Duration::from_secs(to.saturating_sub(from)) {
            Duration::ZERO => "0 s".to_owned(),
            short if short.as_secs() < 60 => format!("{} s", short.as_secs()),
            long => text::duration(long),
        };
        let now = now.as_secs();
        let used = number("memory_bytes")
            .map_or_else(|| "?".to_owned(), |b| b.div_ceil(1 << 20).to_string());
        out.push_str(&format!(
            "{:<36}  {:<8} {:<8} {:>12} {:>12}  {:>9}  {used} of {} MiB\n",
            word("id"),
            word("driver"),
            word("status"),
            time(number("created").unwrap_or(now), now),
            time(now, number("ends").unwrap_or(now)),
            number("processes").map_or_else(|| "?".to_owned(), |count| count.to_string()),
            number("memory_mb").unwrap_or_default(),
        ));
    }
    screen::report(&out)?;
    Ok(Exit::Success)
}

pub(super) async fn destroy(arguments: &Destroy) -> Result<Exit, Failure> {
    gone(arguments.id).await?;
    if arguments.output == Output::Json {
        let told = json!({ "id": arguments.id.to_string() });
        screen::result(format!("{told}\n").as_bytes())?;
    }
    Ok(Exit::Success)
}

/// Has a sandbox destroyed, if it is there.
async fn gone(id: SandboxId) -> Result<(), Failure> {
    let path = kept_sandboxes().map_err(failure)?.join(format!("{id}.sock"));
    loop {
        let held = holder(&path).await;
        let held = held.map_err(|error| unreached(&format!("the keeper of `{id}`: {error}")))?;
        // Whoever wants it gone has it gone, also when another was faster.
        let Some(mut stream) = held else {
            // It may have been killed, and have left what nobody else will come for.
            let left = reap_sandboxes(None).await.map_err(failure)?;
            return match left.as_slice() {
                [] => Ok(()),
                left => Err(unreached(&format!("something is left: {}", left.join("; ")))),
            };
        };
        // One that is going already does not answer, and ends the connection when it has gone.
        if let Ok(answer) = answer(&mut stream, &json!({ "do": "destroy" })).await {
            wire::understood(&answer)?;
            // It closes the connection when it has removed the last of it.
            let _it_has_ended = stream.read(&mut [0]).await;
            return Ok(());
        }
    }
}

/// A path on its way to a keeper.
fn word(path: &Path) -> Value {
    wire::word(path.as_os_str())
}

pub(super) async fn copy(arguments: &Copy) -> Result<Exit, Failure> {
    let inside = |given: &OsStr| -> Option<(SandboxId, PathBuf)> {
        let at = given.as_bytes().iter().position(|byte| *byte == b':')?;
        let (id, path) = (&given.as_bytes()[..at], &given.as_bytes()[at + 1..]);
        Some((str::from_utf8(id).ok()?.parse().ok()?, OsStr::from_bytes(path).into()))
    };
    let whole = |given: &OsStr| {
        std::path::absolute(given)
            .map_err(|error| Failure::usage(format!("`{}`: {error}", given.display())))
    };
    // Of the sandbox's side: what no sandbox has.
    let fit = |path: &Path, check: fn(&Path) -> Result<(), String>| {
        check(path).map_err(|why| Failure::usage(format!("`{}`: {why}", path.display())))
    };
    let (id, request) = match (inside(&arguments.from), inside(&arguments.to)) {
        (None, Some((id, to))) => {
            let from = whole(&arguments.from)?;
            fit(&to, wanted::writable)?;
            wanted::copied(&from, |why| format!("`{}`: {why}", arguments.from.display()))?;
            (id, json!({ "do": "upload", "from": word(&from), "to": word(&to) }))
        }
        (Some((id, from)), None) => {
            let mut to = whole(&arguments.to)?;
            fit(&from, wanted::climbs_not)?;
            if to.is_dir() {
                to.push(from.file_name().unwrap_or(OsStr::new("workspace")));
            }
            let from = if from.as_os_str().is_empty() { "/workspace".into() } else { from };
            (id, json!({ "do": "download", "from": word(&from), "to": word(&to) }))
        }
        (_, _) => {
            return Err(Failure::usage("one side must be in a sandbox, and the other on the host")
                .help("write the side in the sandbox as ID:PATH"));
        }
    };
    let mut stream = reach(id).await?;
    let answer = ask(&mut stream, &request).await?;
    match arguments.output {
        Output::Text => {
            wanted::tell_left_out(answer["omitted"].as_array().map_or(&[], Vec::as_slice));
        }
        Output::Json => screen::result(format!("{answer}\n").as_bytes())?,
    }
    Ok(Exit::Success)
}

pub(super) async fn exec(arguments: Exec) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    let mut environment = wanted::variables(&arguments.environment)?;
    // With its terminal as it will be, whose turn comes when the sandbox is known to be there.
    streams::command(arguments.command.clone(), None).check().map_err(failure)?;
    let mut stream = reach(arguments.id).await?;
    let terminal = Terminal::open();
    let command = streams::command(arguments.command, terminal.as_ref());
    environment.extend(command.env);
    let words = std::iter::once(&command.program).chain(&command.args);
    let pair = |(name, value): &(OsString, OsString)| [wire::word(name), wire::word(value)];
    let mut request = json!({
        "do": "exec",
        "command": words.map(|it| wire::word(it)).collect::<Vec<_>>(),
        "env": environment.iter().map(pair).collect::<Vec<_>>(),
        "timeout_ms": u64::try_from(arguments.timeout.as_millis()).unwrap_or(u64::MAX),
    });
    if let Some(TerminalSize { rows, columns }) = command.terminal {
        (request["rows"], request["columns"]) = (rows.into(), columns.into());
    }
    let lost = |error| Failure::new(Exit::NoSandbox, format!("the sandbox's keeper: {error}"));
    wire::send_request(&mut stream, &request).await.map_err(lost)?;
    let mut remote = Remote::new(stream);
    let end = streams::attach(&mut remote, &mut signals, terminal, Typed::Passed).await?;
    end.told(arguments.quiet, arguments.timeout, remote.memory_mb, "--memory of `create`")
}

/// How a command ended that a keeper has run, and how much memory there was.
type Ended = Result<(End, Option<u64>), Failure>;

/// A command that a keeper runs.
struct Remote {
    stdin: Option<DuplexStream>,
    outputs: [Option<DuplexStream>; 2],
    frames: mpsc::UnboundedSender<(u8, Vec<u8>)>,
    end: Option<oneshot::Receiver<Ended>>,
    /// How much memory its sandbox has, once it has ended.
    memory_mb: Option<u64>,
}

/// What is under way of each stream.
const UNDER_WAY: usize = 64 << 10;

impl Remote {
    fn new(stream: UnixStream) -> Self {
        let (mut from, mut to) = stream.into_split();
        // Few and small: what is typed is not among them.
        let (frames, mut queue) = mpsc::unbounded_channel::<(u8, Vec<u8>)>();
        let (stdin, mut typed) = duplex(UNDER_WAY);
        tokio::spawn(async move {
            let (mut buffer, mut is_open) = (vec![0; wire::WINDOW], true);
            let mut window = wire::WINDOW;
            loop {
                let (kind, payload) = tokio::select! {
                    frame = queue.recv() => match frame {
                        Some((wire::TAKEN, count)) => {
                            let count = count.try_into().map_or(0, u32::from_be_bytes);
                            window = wire::WINDOW.min(window + count as usize);
                            continue;
                        }
                        Some(frame) => frame,
                        None => return,
                    },
                    read = typed.read(&mut buffer[..window]), if is_open && window > 0 => match read {
                        Ok(count @ 1..) => {
                            window -= count;
                            (wire::INPUT, buffer[..count].to_vec())
                        }
                        Ok(0) | Err(_) => {
                            is_open = false;
                            (wire::INPUT_END, Vec::new())
                        }
                    },
                };
                if wire::send(&mut to, kind, &payload).await.is_err() {
                    return; // Its end is told, or is the keeper's.
                }
            }
        });
        let ((mut out, stdout), (mut err, stderr)) = (duplex(UNDER_WAY), duplex(UNDER_WAY));
        let (ended, end) = oneshot::channel();
        let taken = frames.clone();
        tokio::spawn(async move {
            let result = loop {
                match wire::receive(&mut from).await {
                    // Whoever has no reader has told the command so.
                    Ok(Some((wire::OUTPUT, bytes))) => drop(out.write_all(&bytes).await),
                    Ok(Some((wire::ERROR_OUTPUT, bytes))) => drop(err.write_all(&bytes).await),
                    Ok(Some((wire::TAKEN, count))) => drop(taken.send((wire::TAKEN, count))),
                    Ok(Some((wire::ANSWER, answer))) => {
                        let answer = serde_json::from_slice(&answer).unwrap_or_default();
                        break wire::understood(&answer).map(wire::end);
                    }
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => {
                        let what = "the sandbox was lost: it was destroyed, its lease ended, or its \
                                    keeper was killed";
                        break Err(Failure::new(Exit::NoSandbox, what));
                    }
                }
            };
            let _nobody_waits = ended.send(result);
        });
        let outputs = [Some(stdout), Some(stderr)];
        Self { stdin: Some(stdin), outputs, frames, end: Some(end), memory_mb: None }
    }
}

impl Running for Remote {
    type Input = DuplexStream;
    type Output = DuplexStream;

    fn streams(&mut self) -> (Option<DuplexStream>, [Option<DuplexStream>; 2]) {
        (self.stdin.take(), std::mem::take(&mut self.outputs))
    }

    async fn wait(&mut self) -> Result<End, Failure> {
        let Some(end) = &mut self.end else { return std::future::pending().await };
        let gone = || Err(Failure::new(Exit::NoSandbox, "nobody waits for the keeper any more"));
        let result = end.await.unwrap_or_else(|_| gone());
        self.end = None;
        let (end, memory_mb) = result?;
        self.memory_mb = memory_mb;
        Ok(end)
    }

    fn signal(&self, number: u8) {
        let _over_already = self.frames.send((wire::SIGNAL, vec![number]));
    }

    fn resize(&self, TerminalSize { rows, columns }: TerminalSize) {
        let size = [rows.to_be_bytes(), columns.to_be_bytes()].concat();
        let _over_already = self.frames.send((wire::RESIZE, size));
    }
}
