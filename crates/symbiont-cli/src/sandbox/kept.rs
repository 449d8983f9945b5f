//! `symbiont sandbox create`, and what is done with the sandboxes that it made.
//!
//! # What holds
//!
//! - What is told of a sandbox comes from the process that holds it; one without such a process is gone,
//!   and what is left of its socket is removed.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};
use symbiont_runtime::{Duration, SandboxId, SystemTime, TerminalSize, kept_sandboxes};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use super::streams::{self, Running, Signals, Terminal};
use super::wanted::{self, Wanted};
use super::{failure, wire};
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
  2    the arguments make no sense, or a file that they name can't be read
  125  there is no such sandbox here; why is told";

const EXEC: &str = "\
Exit codes:
  the command's own; 128 and the number of the signal that ended it
  124  it ran into --timeout
  125  the sandbox is not there, or was lost
  126  the command is there and can't be executed
  127  there is no such command
  137  it was killed, as it is when it takes more memory than the sandbox may";

/// Makes a sandbox that stays, and prints its id.
///
/// A process of its own holds it, until `destroy` or the end of its lease: what its commands leave in
/// /workspace and /tmp is there for the next one.
#[derive(Debug, clap::Args)]
#[command(after_help = CREATE)]
pub(crate) struct Create {
    #[command(flatten)]
    wanted: Wanted,
    /// How long it stays, such as `90`, `10m` or `24h`, which is the longest.
    #[arg(long, value_name = "DURATION", value_parser = wanted::duration, default_value = "1h")]
    lease: Duration,
}

/// Lists the sandboxes that `create` has made and that are there.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// `text` for people, `json` for programs.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Runs a command in a sandbox that `create` has made, as `run` does in one of its own.
#[derive(Debug, clap::Args)]
#[command(after_help = EXEC)]
pub(crate) struct Exec {
    /// The id that `create` has printed.
    id: SandboxId,
    /// How long it may run, such as `90`, `500ms`, `2m` or `1h`; no longer than the sandbox stays.
    #[arg(long, value_name = "DURATION", value_parser = wanted::duration, default_value = "60s")]
    timeout: Duration,
    /// A variable of its environment, beside those of the sandbox. May be repeated.
    #[arg(long = "env", value_name = "K=V")]
    environment: Vec<String>,
    /// The command and its arguments, after `--`.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Copies a file or a directory into a sandbox that `create` has made, or out of it.
///
/// The side in the sandbox is written ID:PATH. A relative path there starts in /workspace; one that is
/// written must lie beneath /workspace or /tmp. Where a directory is already, the copy goes into it. A
/// directory is copied whole or not at all, with at most 64 within each other; pipes, devices, links that
/// lead out of it, and what may not be read are left out, and told.
#[derive(Debug, clap::Args)]
pub(crate) struct Copy {
    /// What is copied: a path of the host, or ID:PATH.
    from: String,
    /// Where to: ID:PATH, or a path of the host.
    to: String,
}

/// Destroys a sandbox that `create` has made. When this returns, nothing of it is left; one that is gone
/// already may be destroyed again.
#[derive(Debug, clap::Args)]
pub(crate) struct Destroy {
    /// The id that `create` has printed.
    id: SandboxId,
}

pub(super) async fn create(arguments: Create) -> Result<Exit, Failure> {
    // What is wrong with the arguments is told by this command, not by the keeper.
    arguments.wanted.clone().read(arguments.lease)?;
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
        ready = ready => {
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
    screen::result(format!("{id}\n").as_bytes())?;
    Ok(Exit::Success)
}

/// The sockets of the sandboxes that are held, or were.
fn sockets() -> Result<Vec<(SandboxId, PathBuf)>, Failure> {
    let folder = kept_sandboxes().map_err(failure)?;
    let unread = |error| Failure::failed(format!("`{}`: {error}", folder.display()));
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
async fn reach(id: SandboxId, exit: Exit) -> Result<UnixStream, Failure> {
    let path = kept_sandboxes().map_err(failure)?.join(format!("{id}.sock"));
    let held = holder(&path).await;
    held.map_err(|error| Failure::new(exit, format!("the keeper of `{id}`: {error}")))?.ok_or_else(
        || {
            Failure::new(exit, format!("no sandbox `{id}`"))
                .help("`symbiont sandbox list` shows those that are there")
        },
    )
}

/// Asks who holds a sandbox, and waits for the answer.
async fn ask(stream: &mut UnixStream, request: &Value, exit: Exit) -> Result<Value, Failure> {
    let answer = answer(stream, request)
        .await
        .map_err(|error| Failure::new(exit, format!("the sandbox's keeper has gone: {error}")))?;
    understood(answer, exit)
}

async fn answer(stream: &mut UnixStream, request: &Value) -> std::io::Result<Value> {
    wire::send_request(stream, request).await?;
    match wire::receive(stream).await? {
        Some((wire::ANSWER, answer)) => Ok(serde_json::from_slice(&answer)?),
        Some(_) | None => Err(std::io::Error::from(ErrorKind::UnexpectedEof)),
    }
}

/// What an answer says, its failures as those of what was asked.
fn understood(answer: Value, exit: Exit) -> Result<Value, Failure> {
    match wire::understood(&answer) {
        // What the sandbox refuses is a failure of what was asked.
        Err(refused) if refused.exit.code() == Exit::NoSandbox.code() => {
            return Err(Failure { exit, ..refused });
        }
        understood => understood?,
    };
    Ok(answer)
}

pub(super) async fn list(arguments: &List) -> Result<Exit, Failure> {
    let mut all = Vec::new();
    for (_, path) in sockets()? {
        let held = holder(&path).await.map_err(Failure::failed)?;
        let Some(mut stream) = held else { continue };
        // One that goes meanwhile is one less.
        if let Ok(status) = ask(&mut stream, &json!({ "do": "status" }), Exit::Failed).await {
            all.push(status);
        }
    }
    all.sort_by_key(|status| status["created"].as_u64());
    if arguments.output == Output::Json {
        screen::result(format!("{}\n", json!(all)).as_bytes())?;
        return Ok(Exit::Success);
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut out = String::new();
    for status in &all {
        let word = |name: &str| text::line(status[name].as_str().unwrap_or_default());
        let left = status["ends"].as_u64().unwrap_or_default().saturating_sub(now.as_secs());
        out.push_str(&format!(
            "{}  {:<8} {:<8} {}\n",
            word("id"),
            word("driver"),
            word("status"),
            styled(DIM, &format!("{} left", text::duration(Duration::from_secs(left))))
        ));
    }
    screen::report(&out)?;
    Ok(Exit::Success)
}

pub(super) async fn destroy(arguments: &Destroy) -> Result<Exit, Failure> {
    let path = kept_sandboxes().map_err(failure)?.join(format!("{}.sock", arguments.id));
    loop {
        let held = holder(&path).await.map_err(|error| {
            Failure::failed(format!("the keeper of `{}`: {error}", arguments.id))
        })?;
        // Whoever wants it gone has it gone, also when another was faster.
        let Some(mut stream) = held else { return Ok(Exit::Success) };
        // One that is going already does not answer, and ends the connection when it has gone.
        if let Ok(answer) = answer(&mut stream, &json!({ "do": "destroy" })).await {
            understood(answer, Exit::Failed)?;
            // It closes the connection when it has removed the last of it.
            let _it_has_ended = stream.read(&mut [0]).await;
            return Ok(Exit::Success);
        }
    }
}

pub(super) async fn copy(arguments: &Copy) -> Result<Exit, Failure> {
    let inside = |given: &str| -> Option<(SandboxId, String)> {
        let (id, path) = given.split_once(':')?;
        Some((id.parse().ok()?, path.to_owned()))
    };
    let whole = |given: &str| {
        let path =
            std::path::absolute(given).map_err(|e| Failure::usage(format!("`{given}`: {e}")))?;
        path.to_str()
            .map(str::to_owned)
            .ok_or_else(|| Failure::usage(format!("the path `{given}` is no text")))
    };
    let (id, request) = match (inside(&arguments.from), inside(&arguments.to)) {
        (None, Some((id, to))) => {
            let from = whole(&arguments.from)?;
            let about = fs::metadata(&from)
                .map_err(|error| Failure::usage(format!("`{}`: {error}", arguments.from)))?;
            if !about.is_file() && !about.is_dir() {
                let what = "is no regular file and no directory";
                return Err(Failure::usage(format!("`{}` {what}", arguments.from)));
            }
            (id, json!({ "do": "upload", "from": from, "to": to }))
        }
        (Some((id, from)), None) => {
            let mut to = whole(&arguments.to)?;
            if Path::new(&to).is_dir() {
                let name = from.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
                to = format!("{to}/{}", if name.is_empty() { "workspace" } else { name });
            }
            let from = if from.is_empty() { "/workspace".to_owned() } else { from };
            (id, json!({ "do": "download", "from": from, "to": to }))
        }
        (_, _) => {
            return Err(Failure::usage("one side must be in a sandbox, and the other on the host")
                .help("write the side in the sandbox as ID:PATH"));
        }
    };
    let mut stream = reach(id, Exit::Failed).await?;
    let answer = ask(&mut stream, &request, Exit::Failed).await?;
    let omitted: Vec<String> =
        serde_json::from_value(answer["omitted"].clone()).unwrap_or_default();
    wanted::left_out(omitted.into_iter());
    Ok(Exit::Success)
}

pub(super) async fn exec(arguments: Exec) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    let mut environment = wanted::variables(&arguments.environment)?;
    let mut stream = reach(arguments.id, Exit::NoSandbox).await?;
    let terminal = Terminal::open();
    let command = streams::command(arguments.command, terminal.as_ref());
    environment.extend(command.env);
    let words = [vec![command.program], command.args].concat();
    let mut request = json!({
        "do": "exec",
        "command": words,
        "env": environment,
        "timeout_ms": u64::try_from(arguments.timeout.as_millis()).unwrap_or(u64::MAX),
    });
    if let Some(TerminalSize { rows, columns }) = command.terminal {
        (request["rows"], request["columns"]) = (rows.into(), columns.into());
    }
    let lost = |error| Failure::new(Exit::NoSandbox, format!("the sandbox's keeper: {error}"));
    wire::send_request(&mut stream, &request).await.map_err(lost)?;
    let mut remote = Remote::new(stream);
    streams::attach(&mut remote, &mut signals, terminal).await
}

/// A command that a keeper runs.
struct Remote {
    stdin: Option<DuplexStream>,
    outputs: [Option<DuplexStream>; 2],
    frames: mpsc::UnboundedSender<(u8, Vec<u8>)>,
    end: Option<oneshot::Receiver<Result<Exit, Failure>>>,
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
                        break wire::understood(&answer).map(wire::exit);
                    }
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => {
                        let what = "the sandbox was lost: its keeper has gone";
                        break Err(Failure::new(Exit::NoSandbox, what));
                    }
                }
            };
            let _nobody_waits = ended.send(result);
        });
        Self { stdin: Some(stdin), outputs: [Some(stdout), Some(stderr)], frames, end: Some(end) }
    }
}

impl Running for Remote {
    type Input = DuplexStream;
    type Output = DuplexStream;

    fn streams(&mut self) -> (Option<DuplexStream>, [Option<DuplexStream>; 2]) {
        (self.stdin.take(), std::mem::take(&mut self.outputs))
    }

    async fn wait(&mut self) -> Result<Exit, Failure> {
        let Some(end) = &mut self.end else { return std::future::pending().await };
        let gone = || Err(Failure::new(Exit::NoSandbox, "nobody waits for the keeper any more"));
        let result = end.await.unwrap_or_else(|_| gone());
        self.end = None;
        result
    }

    fn signal(&self, number: u8) {
        let _over_already = self.frames.send((wire::SIGNAL, vec![number]));
    }

    fn resize(&self, TerminalSize { rows, columns }: TerminalSize) {
        let size = [rows.to_be_bytes(), columns.to_be_bytes()].concat();
        let _over_already = self.frames.send((wire::RESIZE, size));
    }
}
