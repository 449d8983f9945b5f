//! The process that holds a sandbox between commands.
//!
//! # What holds
//!
//! - It is in a session of its own, and holds nothing of whoever started it once it has said that the
//!   sandbox is there.
//! - Only its own user reaches it: its socket is in a folder that is that user's alone.
//! - The sandbox goes when it is destroyed, when its lease is over, and with the keeper in any case.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use symbiont_runtime::{
    Command, DefaultSandboxOrchestrator, Duration, EntryKind, Process, ProcessInput, ProcessOutput,
    SandboxError, SandboxExt, SandboxId, SandboxOrchestrator, Stat, SystemTime, TerminalSize,
    Transferred, kept_sandboxes,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::OwnedReadHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::end::{failure, of_files};
use super::kept::Create;
use super::streams::{Signals, Typed};
use super::{wanted, wire};
use crate::{Exit, Failure};

/// What is passed on at once.
const CHUNK: usize = 64 << 10;

/// What every connection needs.
struct Held {
    orchestrator: DefaultSandboxOrchestrator,
    id: SandboxId,
    since: SystemTime,
    lease: Duration,
    memory_mb: u64,
    /// What each of its commands is given.
    environment: Vec<(OsString, OsString)>,
}

/// Holds a sandbox. Started by `create`.
pub(super) async fn run(arguments: Create) -> Result<Exit, Failure> {
    // Whoever started it is not its leader any more, whatever happens to them.
    let _leads_one_already = rustix::process::setsid();
    let mut signals = Signals::listen()?;
    let request = arguments.wanted.read(arguments.lease)?;
    let orchestrator = request.orchestrator().await?;
    let mut id = None;
    let made = tokio::select! {
        made = request.make(&orchestrator, &mut id) => made,
        number = signals.next() => return wanted::cleared(&orchestrator, id, Ok(Exit::Signal(number))).await,
    };
    let id = match (made, id) {
        (Ok(omitted), Some(id)) => {
            wanted::left_out(&omitted, arguments.output);
            id
        }
        (made, id) => {
            return wanted::cleared(&orchestrator, id, made.map(|_| Exit::NoSandbox)).await;
        }
    };
    let place = kept_sandboxes().map_err(failure)?.join(format!("{id}.sock"));
    let held = Arc::new(Held {
        orchestrator,
        id,
        since: SystemTime::now(),
        lease: arguments.lease,
        memory_mb: request.memory_mb(),
        environment: request.environment(),
    });
    let kept = match listen(&place) {
        Ok(listener) => {
            println!("{id}");
            let_go().map_err(unkept)?;
            keep(&held, &listener, &mut signals).await
        }
        Err(error) => Err(unkept(error)),
    };
    let ended = wanted::cleared(&held.orchestrator, Some(id), kept.map(|_| Exit::Success)).await;
    // The last thing: who finds it gone finds nothing of the sandbox.
    let _nobody_was_told_of_it = fs::remove_file(&place);
    ended
}

fn unkept(error: std::io::Error) -> Failure {
    Failure::new(Exit::NoSandbox, format!("the sandbox can't be kept: {error}"))
}

fn listen(place: &std::path::Path) -> std::io::Result<UnixListener> {
    let listener = UnixListener::bind(place)?;
    fs::set_permissions(place, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Lets go of the streams and the directory of whoever started it.
fn let_go() -> std::io::Result<()> {
    std::env::set_current_dir("/")?;
    let nothing = fs::File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&nothing)?;
    rustix::stdio::dup2_stderr(&nothing)?;
    Ok(())
}

/// Serves until the sandbox is to go. Whoever asked for that is told when this is dropped.
async fn keep(
    held: &Arc<Held>,
    listener: &UnixListener,
    signals: &mut Signals,
) -> Result<Option<UnixStream>, Failure> {
    let (over, mut is_over) = mpsc::channel(1);
    let mut served = JoinSet::new();
    let lease = tokio::time::sleep(held.lease);
    let mut lease = std::pin::pin!(lease);
    loop {
        tokio::select! {
            () = &mut lease => return Ok(None),
            _ = signals.next() => return Ok(None),
            asked = is_over.recv() => {
                // It answers once the sandbox is gone.
                served.abort_all();
                return Ok(asked);
            }
            accepted = listener.accept() => {
                let (stream, _) = accepted.map_err(unkept)?;
                let (held, over) = (Arc::clone(held), over.clone());
                served.spawn(async move { serve(&held, stream, over).await });
            }
            Some(_) = served.join_next() => {}
        }
    }
}

/// Answers one connection. One that breaks is nobody's failure but its own.
async fn serve(held: &Held, mut stream: UnixStream, over: mpsc::Sender<UnixStream>) {
    let Ok(request) = wire::receive_request(&mut stream).await else { return };
    let path = |name: &str| PathBuf::from(wire::read_word(&request[name]).unwrap_or_default());
    let (orchestrator, id) = (&held.orchestrator, held.id);
    let answer = match request["do"].as_str().unwrap_or_default() {
        "status" => status(held).await,
        "upload" => copied(upload(orchestrator, id, &path("from"), path("to")).await),
        "download" => copied(download(orchestrator, id, &path("from"), &path("to")).await),
        "exec" => return exec(held, stream, &request).await,
        "destroy" => {
            let destroyed = orchestrator.destroy_sandbox(id).await;
            let is_gone = destroyed.is_ok();
            let answer = done(destroyed).to_string();
            let _whoever_asked_has_gone =
                wire::send(&mut stream, wire::ANSWER, answer.as_bytes()).await;
            if is_gone {
                let _ending_already = over.send(stream).await;
            }
            return;
        }
        other => wire::refused(&Failure::usage(format!("this keeper can't `{other}`"))),
    };
    let answer = answer.to_string();
    let _whoever_asked_has_gone = wire::send(&mut stream, wire::ANSWER, answer.as_bytes()).await;
}

/// Copies a file or a directory in: to a path, or into the directory that is there.
async fn upload(
    orchestrator: &DefaultSandboxOrchestrator,
    id: SandboxId,
    from: &Path,
    to: PathBuf,
) -> Result<Transferred, SandboxError> {
    let name = from.file_name().unwrap_or_default();
    let to = match to.as_os_str().is_empty() {
        true => name.into(),
        false => {
            let to: PathBuf = to.components().collect(); // Without slashes at its end.
            match orchestrator.stat(id, &to).await? {
                Some(Stat { kind: EntryKind::Directory, .. }) => to.join(name),
                Some(_) | None => to,
            }
        }
    };
    if from.is_dir() {
        return orchestrator.upload_directory(id, from, &to).await;
    }
    orchestrator.upload(id, from, &to).await.map(one)
}

/// One file of so many bytes.
fn one(bytes: u64) -> Transferred {
    Transferred { files: 1, bytes, ..Transferred::default() }
}

async fn download(
    orchestrator: &DefaultSandboxOrchestrator,
    id: SandboxId,
    from: &Path,
    to: &Path,
) -> Result<Transferred, SandboxError> {
    let there = match from.parent() {
        None => None, // The root is a directory.
        Some(_) => Some(orchestrator.stat(id, from).await?),
    };
    let mode = match there {
        Some(Some(there)) if there.kind == EntryKind::Directory => None,
        Some(there) => Some(there.map_or(0o600, |there| there.mode)),
        None => None,
    };
    let Some(mode) = mode else {
        return orchestrator.download_directory(id, from, to).await;
    };
    let bytes = orchestrator.download(id, from, to).await?;
    // As `cp` does: whoever copies decides for others.
    let mask = rustix::process::umask(rustix::fs::Mode::empty());
    rustix::process::umask(mask);
    let mode = fs::Permissions::from_mode(mode & 0o777 & !mask.bits());
    let told = |error: std::io::Error| SandboxError::InvalidArgument {
        what: format!("the local file `{}`: {error}", to.display()),
    };
    fs::set_permissions(to, mode).map_err(told)?;
    Ok(one(bytes))
}

fn copied(result: Result<Transferred, SandboxError>) -> Value {
    match result {
        Ok(carried) => {
            let omitted = wanted::omissions(&carried.omitted);
            let Transferred { files, directories, links, bytes, .. } = carried;
            json!({
                "files": files,
                "directories": directories,
                "links": links,
                "bytes": bytes,
                "omitted": omitted,
            })
        }
        Err(error) => wire::refused(&of_files(error)),
    }
}

fn done(result: Result<(), SandboxError>) -> Value {
    match result {
        Ok(()) => json!({ "exit": 0 }),
        Err(error) => wire::refused(&failure(error)),
    }
}

async fn status(held: &Held) -> Value {
    let seconds = |time: SystemTime| {
        time.duration_since(SystemTime::UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or_default()
    };
    let told = async {
        let status = held.orchestrator.get_sandbox_status(held.id).await?;
        let report = held.orchestrator.isolation(held.id).await?;
        // A sandbox that is lost uses nothing that could be known.
        let usage = held.orchestrator.usage(held.id).await.unwrap_or_default();
        Ok(json!({
            "id": held.id.to_string(),
            "status": format!("{status:?}").to_lowercase(),
            "driver": report.driver,
            "keeper": std::process::id(),
            "created": seconds(held.since),
            "ends": seconds(held.since + held.lease),
            "memory_mb": held.memory_mb,
            "memory_bytes": usage.memory_bytes,
            "processes": usage.processes,
            "isolation": wanted::described(&report),
        }))
    };
    told.await.unwrap_or_else(|error| wire::refused(&failure(error)))
}

/// Runs a command whose streams are frames.
async fn exec(held: &Held, stream: UnixStream, request: &Value) {
    let words = request["command"].as_array().into_iter().flatten();
    let mut words = words.filter_map(wire::read_word);
    let mut command = Command::new(words.next().unwrap_or_default()).args(words);
    command.env.clone_from(&held.environment);
    let pair = |pair: &Value| wire::read_word(&pair[0]).zip(wire::read_word(&pair[1]));
    for (name, value) in request["env"].as_array().into_iter().flatten().filter_map(pair) {
        command.env.retain(|(there, _)| *there != name);
        command.env.push((name, value));
    }
    command.timeout = Duration::from_millis(request["timeout_ms"].as_u64().unwrap_or_default());
    command.terminal = size(&request["rows"], &request["columns"]);
    let walls = held.orchestrator.isolation(held.id).await.unwrap_or_default();
    let means = Typed::of(&walls, command.terminal.is_some());
    let (from, mut to) = stream.into_split();
    let mut incoming = incoming(from);
    let (frames, mut queue) = mpsc::channel::<(u8, Vec<u8>)>(4);
    let writer = async move {
        while let Some((kind, payload)) = queue.recv().await {
            if wire::send(&mut to, kind, &payload).await.is_err() {
                return;
            }
        }
    };
    let work = async {
        let result = match held.orchestrator.spawn(held.id, command).await {
            Err(error) => Err(error),
            Ok(mut process) => {
                let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
                let (typed, input) = mpsc::unbounded_channel();
                let streams = async {
                    tokio::join!(
                        outward(stdout, wire::OUTPUT, &frames),
                        outward(stderr, wire::ERROR_OUTPUT, &frames),
                    )
                };
                let feed = feed(process.stdin.take(), input, &frames);
                let (mut streams, mut feed) = (std::pin::pin!(streams), std::pin::pin!(feed));
                let (mut typed, mut is_fed, mut result) = (Some(typed), false, None);
                loop {
                    tokio::select! {
                        _ = &mut streams => break,
                        () = &mut feed, if !is_fed => is_fed = true,
                        ended = process.wait(), if result.is_none() => {
                            result = Some(ended);
                            // It reads no more.
                            typed = None;
                        }
                        frame = incoming.recv() => match frame {
                            Some((kind, payload)) => take(kind, &payload, &process, &mut typed, means),
                            // The command goes with whoever wanted it.
                            None => return,
                        },
                    }
                }
                match result {
                    Some(result) => result,
                    None => process.wait().await,
                }
            }
        };
        let answer = wire::ended(&result, held.memory_mb).to_string().into_bytes();
        let _it_has_gone = frames.send((wire::ANSWER, answer)).await;
        drop(frames);
    };
    tokio::join!(writer, work);
}

/// The frames that come in, until there are no more. They are read apart from what waits for them, so
/// that none is read by half.
fn incoming(mut from: OwnedReadHalf) -> mpsc::Receiver<(u8, Vec<u8>)> {
    let (found, incoming) = mpsc::channel(4);
    tokio::spawn(async move {
        while let Ok(Some(frame)) = wire::receive(&mut from).await {
            if found.send(frame).await.is_err() {
                return;
            }
        }
    });
    incoming
}

fn size(rows: &Value, columns: &Value) -> Option<TerminalSize> {
    let number = |value: &Value| value.as_u64().and_then(|number| u16::try_from(number).ok());
    Some(TerminalSize { rows: number(rows)?, columns: number(columns)? })
}

/// Takes what is typed, a signal, or another size. What is typed is bounded by what was written, which
/// whoever sends it waits for, so that a signal is never behind it.
fn take(
    kind: u8,
    payload: &[u8],
    process: &Process,
    typed: &mut Option<mpsc::UnboundedSender<Vec<u8>>>,
    means: Typed,
) {
    match (kind, payload) {
        (wire::INPUT, bytes) => {
            for number in means.signals(bytes) {
                let _over_already = process.signal(number.into());
            }
            if let Some(typed) = typed {
                let _it_reads_no_more = typed.send(bytes.to_vec());
            }
        }
        (wire::INPUT_END, _) => *typed = None,
        (wire::SIGNAL, [number]) => {
            let _over_already = process.signal((*number).into());
        }
        (wire::RESIZE, [a, b, c, d]) => process.resize(TerminalSize {
            rows: u16::from_be_bytes([*a, *b]),
            columns: u16::from_be_bytes([*c, *d]),
        }),
        (_, _) => {}
    }
}

/// Gives a command its input, and says what it has taken.
async fn feed(
    stdin: Option<ProcessInput>,
    mut typed: mpsc::UnboundedReceiver<Vec<u8>>,
    frames: &mpsc::Sender<(u8, Vec<u8>)>,
) {
    let Some(mut stdin) = stdin else { return };
    while let Some(bytes) = typed.recv().await {
        if stdin.write_all(&bytes).await.is_err() {
            return; // It reads no more, and nobody is told that it may type more.
        }
        let count = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
        let _it_has_gone = frames.send((wire::TAKEN, count.to_vec())).await;
    }
}

/// Passes an output on as frames.
async fn outward(output: Option<ProcessOutput>, kind: u8, frames: &mpsc::Sender<(u8, Vec<u8>)>) {
    let Some(mut output) = output else { return };
    let mut buffer = vec![0; CHUNK];
    while let Ok(count @ 1..) = output.read(&mut buffer).await {
        if frames.send((kind, buffer[..count].to_vec())).await.is_err() {
            return;
        }
    }
}
