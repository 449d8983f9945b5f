//! A sandbox with our guest in it, whatever walls its driver built around the guest.
//!
//! The guest speaks the same protocol behind all walls, so that what a sandbox does (states, commands,
//! files) is here once; a driver raises walls, razes them, and tells what is used within.
//!
//! # What holds
//!
//! - A sandbox is in one state, and one caller at a time starts, stops or destroys it.
//! - A caller that gives up has its command killed, and takes no place with it.
//! - What the guest says is hostile: an answer that does not fit ends the sandbox.

use std::ffi::OsString;
use std::future::poll_fn;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use rustix::fs::FileType;
use symbiont_guest::protocol::{
    Attributes, DIRECTORIES, Event, MAX_CHUNK, MAX_COMMANDS, MAX_FILES, Refusal, Request, VERSIONS,
};
use symbiont_guest::tree::{Bounds, Course, Fault, Transferred};
use symbiont_types::{CommandResult, SandboxConfig, SandboxError, SandboxId, SandboxStatus};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, watch};

use crate::api::{
    Command, Control, DirEntry, EntryKind, IsolationReport, Sandbox, SandboxUsage, Stat,
};
use crate::directories::{self, Archive, Harvest};
use crate::files::{Bytes, Local, Sink, Source, Unfinished, forbidden};
use crate::link::{Begun, Ended, Fate, Kept, Link, Lost, Pipe};
use crate::request;
use crate::running::Process;

/// How long the guest may take to stand.
pub(crate) const START: Duration = Duration::from_secs(20);
/// How long a step of a transfer may take.
const TRANSFER: Duration = Duration::from_secs(60);
/// How long the guest may take to end by itself.
pub(crate) const END: Duration = Duration::from_secs(2);
/// How long it may take to end all commands and nothing else, however busy the machine is.
const ENDED: Duration = Duration::from_secs(10);
/// How long after a command's time is up its end may take to be told.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many files' places a directory takes that is copied: it holds so much more.
const PLACES: u32 = 4;

/// What a driver builds around a guest.
#[async_trait]
pub(crate) trait Walls: std::fmt::Debug + Send + Sync + 'static {
    /// What has to be taken down again.
    type Body: std::fmt::Debug + Send + Sync;

    /// Builds them and starts the guest, which has [greeted](greet) when this returns. Nothing is left
    /// when it fails.
    async fn raise(&self) -> Result<Raised<Self::Body>, SandboxError>;

    /// Ends the guest, which has been asked to end, and removes all that belongs to it. May be called
    /// again after it failed.
    async fn raze(&self, body: &Self::Body) -> Result<(), SandboxError>;

    /// Tries again to remove what could not be removed when [`Walls::raise`] failed.
    async fn clear(&self) -> Result<(), SandboxError> {
        Ok(())
    }

    /// Stops all that runs within, the guest included; all of it stands still when this returns.
    async fn pause(&self, body: &Self::Body) -> Result<(), SandboxError>;

    /// Lets go on what was paused.
    async fn resume(&self, body: &Self::Body) -> Result<(), SandboxError>;

    /// How many processes were killed for lack of memory, if the host tells.
    fn oom_kills(&self, body: &Self::Body) -> Option<u64>;

    /// Whether somebody else has taken away what it is made of, asked when its guest has gone.
    async fn vanished(&self, _body: &Self::Body) -> bool {
        false
    }

    /// What is used within.
    async fn usage(&self, body: &Self::Body) -> Result<SandboxUsage, SandboxError>;

    /// What the failure of a step in the guest means, if it is the walls' affair.
    fn refusal(&self, step: &str, errno: i32) -> Option<SandboxError>;
}

/// Walls that stand, with a guest that has greeted.
#[derive(Debug)]
pub(crate) struct Raised<B> {
    pub(crate) body: B,
    pub(crate) link: Arc<Link>,
    pub(crate) report: IsolationReport,
}

/// Connects to a guest that was just started, and waits until it has greeted and answered a ping, which
/// the caller has sent as [`FIRST_PING`](crate::link::FIRST_PING). `refused` says what a step that failed
/// in it means.
pub(crate) async fn greet(
    socket: UnixStream,
    token: [u8; 32],
    refused: impl FnOnce(&str, i32) -> SandboxError,
) -> Result<Arc<Link>, SandboxError> {
    let failed =
        |step: &str, why: &str| SandboxError::CreateFailed { reason: format!("{step}: {why}") };
    let (link, hello, pong) = Link::new(socket);
    let answers = async { tokio::join!(hello, pong) };
    let Ok((hello, pong)) = tokio::time::timeout(START, answers).await else {
        return Err(SandboxError::Timeout { operation: "start".to_owned(), after: START });
    };
    let gone = |Lost(reason): Lost| failed("start the guest", &reason);
    match hello {
        Err(_) => return Err(gone(link.why())),
        Ok(Event::SetupFailed { step, errno }) => return Err(refused(&step, errno)),
        Ok(Event::Hello { version, token: theirs, .. })
            if (VERSIONS.oldest..=VERSIONS.newest).contains(&version) && theirs == token => {}
        Ok(_) => return Err(failed("greet the guest", "it is not ours")),
    }
    match pong {
        Err(_) => Err(gone(link.why())),
        Ok(Event::Pong) => Ok(Arc::new(link)),
        Ok(_) => Err(failed("greet the guest", "it did not answer a ping")),
    }
}

/// Something that nobody can guess.
pub(crate) fn token() -> [u8; 32] {
    let mut token = [0; 32];
    token[..16].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    token[16..].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    token
}

/// A sandbox behind walls.
#[derive(Debug)]
pub(crate) struct Seat<W: Walls>(Arc<Inner<W>>);

#[derive(Debug)]
struct Inner<W: Walls> {
    walls: W,
    id: SandboxId,
    config: SandboxConfig,
    /// Whether there is to be no sandbox without Landlock.
    landlock: bool,
    state: Mutex<State<W::Body>>,
    /// Held by whoever starts, stops or destroys it.
    changing: tokio::sync::Mutex<()>,
    /// Whether it is paused.
    paused: watch::Sender<bool>,
    commands: Arc<Semaphore>,
    transfers: Semaphore,
}

#[derive(Debug)]
struct State<B> {
    status: SandboxStatus,
    guest: Option<Arc<Guest<B>>>,
    report: IsolationReport,
}

impl<B> State<B> {
    fn session(&self, operation: &str) -> Result<Session<B>, SandboxError> {
        if self.status == SandboxStatus::Running
            && let Some(guest) = &self.guest
            && let Some(link) = lock(&guest.link).clone()
        {
            return Ok(Session { guest: Arc::clone(guest), link });
        }
        Err(invalid_state(&self.status, operation))
    }
}

/// A guest that runs.
#[derive(Debug)]
struct Guest<B> {
    /// `None` once it was asked to end, which it sees as the end of its socket.
    link: Mutex<Option<Arc<Link>>>,
    body: B,
}

/// A guest that was ready when it was asked for, and the connection to it.
#[derive(Debug)]
struct Session<B> {
    guest: Arc<Guest<B>>,
    link: Arc<Link>,
}

/// A command that was begun, and what is needed to tell how it ended.
#[derive(Debug)]
struct Attempt<B> {
    session: Session<B>,
    begun: Begun,
    /// How many processes had been killed for lack of memory before.
    kills_before: Option<u64>,
    /// Whether whoever runs it wanted it killed.
    killed: Arc<AtomicBool>,
    /// How long its end may take to be told.
    patience: Duration,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<W: Walls> Seat<W> {
    /// A sandbox that is yet to be started; `report` says what will be in force, as far as it is known,
    /// and `landlock` whether there is to be none without Landlock.
    pub(crate) fn new(
        walls: W,
        id: SandboxId,
        config: SandboxConfig,
        report: IsolationReport,
        landlock: bool,
    ) -> Self {
        Self(Arc::new(Inner {
            walls,
            id,
            config,
            landlock,
            state: Mutex::new(State { status: SandboxStatus::Created, guest: None, report }),
            changing: tokio::sync::Mutex::default(),
            paused: watch::Sender::new(false),
            commands: Arc::new(Semaphore::new(MAX_COMMANDS)),
            transfers: Semaphore::new(MAX_FILES),
        }))
    }
}

impl<W: Walls> Inner<W> {
    fn status(&self) -> SandboxStatus {
        lock(&self.state).status.clone()
    }

    fn set(&self, status: SandboxStatus) {
        lock(&self.state).status = status;
    }

    /// The connection, if the sandbox is ready for `operation`.
    fn ready(&self, operation: &str) -> Result<Session<W::Body>, SandboxError> {
        lock(&self.state).session(operation)
    }

    async fn start(self: &Arc<Self>) -> Result<(), SandboxError> {
        let _changing = self.changing.lock().await;
        {
            let mut state = lock(&self.state);
            match state.status {
                SandboxStatus::Created => state.status = SandboxStatus::Starting,
                SandboxStatus::Stopped => {
                    state.status = SandboxStatus::Running;
                    return Ok(());
                }
                SandboxStatus::Running => return Ok(()),
                SandboxStatus::Creating
                | SandboxStatus::Starting
                | SandboxStatus::Paused
                | SandboxStatus::Stopping
                | SandboxStatus::Snapshotting
                | SandboxStatus::Failed { .. }
                | SandboxStatus::Destroying
                | SandboxStatus::Destroyed
                | SandboxStatus::Lost => return Err(invalid_state(&state.status, "start")),
            }
        }
        match self.raise().await {
            Ok(Raised { body, link, report }) => {
                let guest = Arc::new(Guest { link: Mutex::new(Some(Arc::clone(&link))), body });
                let mut state = lock(&self.state);
                state.status = SandboxStatus::Running;
                state.report = report;
                state.report.degraded.extend(link.degraded());
                state.report.landlock = link.landlock();
                state.guest = Some(Arc::clone(&guest));
                drop(state);
                // Only now: one that has gone meanwhile is found to be gone.
                self.watch(&guest, &link);
                Ok(())
            }
            Err(error) => {
                self.set(SandboxStatus::Failed { reason: error.to_string() });
                Err(error)
            }
        }
    }

    /// Raises the walls, and takes them down again if one is missing that has to be there.
    async fn raise(&self) -> Result<Raised<W::Body>, SandboxError> {
        let raised = self.walls.raise().await?;
        if !self.landlock || raised.link.landlock().is_some() {
            return Ok(raised);
        }
        let Raised { body, link, .. } = raised;
        let name = Control::Landlock.name();
        let said = link.degraded().into_iter().find(|line| line.starts_with(name));
        link.send(0, &Request::Shutdown);
        drop(link);
        if let Err(left) = self.walls.raze(&body).await {
            tracing::warn!(sandbox_id = %self.id, %left, "a sandbox left something behind");
        }
        let why = said.unwrap_or_else(|| "the guest has none".to_owned());
        Err(SandboxError::IsolationUnavailable { control: name.to_owned(), reason: why })
    }

    /// Notes when the guest goes without having been asked to.
    fn watch(self: &Arc<Self>, guest: &Arc<Guest<W::Body>>, link: &Arc<Link>) {
        let (inner, guest) = (Arc::downgrade(self), Arc::downgrade(guest));
        let mut lost = link.lost();
        tokio::spawn(async move {
            let reason = match lost.wait_for(Option::is_some).await {
                Ok(reason) => reason.clone().unwrap_or_default(),
                Err(_) => return,
            };
            if let Some(inner) = inner.upgrade() {
                let vanished = match guest.upgrade() {
                    Some(guest) => {
                        let asked = inner.walls.vanished(&guest.body);
                        tokio::time::timeout(END, asked).await.unwrap_or(false)
                    }
                    None => false,
                };
                let mut state = lock(&inner.state);
                if matches!(
                    state.status,
                    SandboxStatus::Running | SandboxStatus::Paused | SandboxStatus::Stopped
                ) {
                    let kills =
                        guest.upgrade().and_then(|guest| inner.walls.oom_kills(&guest.body));
                    let memory = match kills {
                        Some(1..) => " (the kernel killed something in it for lack of memory)",
                        Some(0) | None => "",
                    };
                    state.status = if vanished {
                        SandboxStatus::Lost
                    } else {
                        SandboxStatus::Failed { reason: format!("{reason}{memory}") }
                    };
                }
            }
        });
    }

    /// Waits for something of the guest's, for so long; time in which it was paused does not count.
    async fn patiently<T>(&self, limit: Duration, awaited: impl Future<Output = T>) -> Option<T> {
        let mut awaited = std::pin::pin!(awaited);
        let mut paused = self.paused.subscribe();
        loop {
            if let Ok(done) = tokio::time::timeout(limit, &mut awaited).await {
                return Some(done);
            }
            let changed = paused.has_changed().unwrap_or(false);
            if !changed && !*paused.borrow() {
                return None;
            }
            // What is under way may be done while others are still paused, or lost.
            tokio::select! {
                done = &mut awaited => return Some(done),
                _ = paused.wait_for(|paused| !paused) => {}
            }
        }
    }

    async fn pause(&self) -> Result<(), SandboxError> {
        let _changing = self.changing.lock().await;
        let guest = {
            let mut state = lock(&self.state);
            if state.status == SandboxStatus::Paused {
                return Ok(());
            }
            let session = state.session("be paused")?;
            state.status = SandboxStatus::Paused;
            session.guest
        };
        self.paused.send_replace(true);
        let result = self.walls.pause(&guest.body).await;
        if result.is_err() {
            self.went_on();
        }
        result
    }

    async fn resume(&self) -> Result<(), SandboxError> {
        let _changing = self.changing.lock().await;
        let guest = {
            let state = lock(&self.state);
            match (&state.status, &state.guest) {
                (SandboxStatus::Running, _) => return Ok(()),
                (SandboxStatus::Paused, Some(guest)) => Arc::clone(guest),
                (from, _) => return Err(invalid_state(from, "be resumed")),
            }
        };
        self.walls.resume(&guest.body).await?;
        self.went_on();
        Ok(())
    }

    /// Takes note that it is paused no more.
    fn went_on(&self) {
        let mut state = lock(&self.state);
        if state.status == SandboxStatus::Paused {
            state.status = SandboxStatus::Running;
        }
        drop(state);
        self.paused.send_replace(false);
    }

    /// Lets a guest that is to end go on first: what stands still can't end.
    async fn thaw(&self, guest: &Guest<W::Body>) {
        if *self.paused.borrow() {
            if let Err(error) = self.walls.resume(&guest.body).await {
                tracing::warn!(sandbox_id = %self.id, %error, "a sandbox that ends stays paused");
            }
            self.paused.send_replace(false);
        }
    }

    /// Ends a guest and removes what belongs to it. May be called again after it failed.
    async fn end(&self, guest: &Guest<W::Body>) -> Result<(), SandboxError> {
        self.thaw(guest).await;
        if let Some(link) = lock(&guest.link).take() {
            link.send(0, &Request::Shutdown);
        }
        self.walls.raze(&guest.body).await
    }

    async fn stop(&self) -> Result<(), SandboxError> {
        let _changing = self.changing.lock().await;
        let guest = {
            let mut state = lock(&self.state);
            match state.status {
                SandboxStatus::Running | SandboxStatus::Paused => {
                    state.status = SandboxStatus::Stopping;
                    state.guest.clone()
                }
                SandboxStatus::Created
                | SandboxStatus::Creating
                | SandboxStatus::Starting
                | SandboxStatus::Stopping
                | SandboxStatus::Stopped
                | SandboxStatus::Snapshotting
                | SandboxStatus::Failed { .. }
                | SandboxStatus::Destroying
                | SandboxStatus::Destroyed
                | SandboxStatus::Lost => return Ok(()),
            }
        };
        let link = guest.as_ref().and_then(|guest| lock(&guest.link).clone());
        if let (Some(guest), Some(link)) = (guest, link) {
            self.thaw(&guest).await;
            for stream in link.running() {
                link.send(stream, &Request::Kill);
            }
            // Each of them gives its place back when it is over.
            let all = u32::try_from(MAX_COMMANDS).unwrap_or(u32::MAX);
            let mut lost = link.lost();
            let ended = async {
                tokio::select! {
                    _ = self.commands.acquire_many(all) => true,
                    _ = lost.wait_for(Option::is_some) => false,
                }
            };
            // The guest that goes gives all places back as well.
            match tokio::time::timeout(ENDED, ended)
                .await
                .map(|all| all && link.lost().borrow().is_none())
            {
                Ok(true) => {}
                Ok(false) => {
                    let Lost(reason) = link.why();
                    self.set(SandboxStatus::Failed { reason });
                    return Ok(());
                }
                Err(_) => {
                    // An agent that does not end them is ended with them.
                    let reason = "its commands could not be ended by themselves".to_owned();
                    self.set(SandboxStatus::Failed { reason: reason.clone() });
                    self.end(&guest).await?;
                    return Err(SandboxError::BackendUnavailable { reason });
                }
            }
        }
        self.set(SandboxStatus::Stopped);
        Ok(())
    }

    /// Ends a guest that does not answer any more, and says so.
    async fn give_up(self: &Arc<Self>, guest: &Arc<Guest<W::Body>>, cause: &str) -> SandboxError {
        let (inner, guest, reason) = (Arc::clone(self), Arc::clone(guest), cause.to_owned());
        let ended = tokio::spawn(async move {
            let _changing = inner.changing.lock().await;
            {
                let mut state = lock(&inner.state);
                match state.status {
                    SandboxStatus::Running | SandboxStatus::Stopped | SandboxStatus::Paused => {
                        state.status = SandboxStatus::Failed { reason };
                    }
                    // Somebody was faster.
                    SandboxStatus::Created
                    | SandboxStatus::Creating
                    | SandboxStatus::Starting
                    | SandboxStatus::Stopping
                    | SandboxStatus::Snapshotting
                    | SandboxStatus::Failed { .. }
                    | SandboxStatus::Destroying
                    | SandboxStatus::Destroyed
                    | SandboxStatus::Lost => return Ok(()),
                }
            }
            inner.end(&guest).await
        });
        if let Err(left) = finished(ended).await {
            tracing::warn!(sandbox_id = %self.id, %left, "a sandbox left something behind");
        }
        SandboxError::AgentLost { cause: cause.to_owned() }
    }

    async fn destroy(&self) -> Result<(), SandboxError> {
        let _changing = self.changing.lock().await;
        let guest = {
            let mut state = lock(&self.state);
            if state.status == SandboxStatus::Destroyed {
                return Ok(());
            }
            state.status = SandboxStatus::Destroying;
            state.guest.clone()
        };
        match guest {
            Some(guest) => self.end(&guest).await?,
            None => self.walls.clear().await?,
        }
        let mut state = lock(&self.state);
        state.guest = None;
        state.status = SandboxStatus::Destroyed;
        Ok(())
    }

    /// Begins a command whose output has these `fates`.
    fn begin(
        &self,
        command: &Command,
        has_input: bool,
        fates: [Fate; 2],
    ) -> Result<Attempt<W::Body>, SandboxError> {
        let exec = request::command(command, &self.config)?;
        let patience = Duration::from_millis(exec.timeout_ms.saturating_add(exec.grace_ms))
            .saturating_add(PATIENCE);
        // Whoever stops the sandbox comes before, or finds the command among those that run.
        let state = lock(&self.state);
        let session = state.session("run a command")?;
        let place = Arc::clone(&self.commands).try_acquire_owned().map_err(|_| {
            SandboxError::ResourceLimit { kind: format!("{MAX_COMMANDS} commands at once") }
        })?;
        let kills_before = self.walls.oom_kills(&session.guest.body);
        let begun = session.link.begin(exec, has_input, fates, Box::new(place));
        let begun = begun.map_err(|Lost(cause)| SandboxError::AgentLost { cause })?;
        Ok(Attempt { session, begun, kills_before, killed: Arc::default(), patience })
    }

    async fn exec(self: &Arc<Self>, command: Command) -> Result<CommandResult, SandboxError> {
        let input = command.stdin.as_deref().unwrap_or_default();
        let fate = || Fate::Kept(Kept::new(command.output_cap));
        let attempt = self.begin(&command, !input.is_empty(), [fate(), fate()])?;
        self.end_of(attempt, &command, input).await
    }

    fn spawn(self: &Arc<Self>, command: Command) -> Result<Process, SandboxError> {
        if command.stdin.is_some() {
            return Err(request::invalid("the input of a spawned command is written to it"));
        }
        let pipes = [Arc::new(Pipe::default()), Arc::new(Pipe::default())];
        let fates = pipes.clone().map(Fate::Piped);
        let attempt = self.begin(&command, true, fates)?;
        let (link, stream) = (Arc::clone(&attempt.session.link), attempt.begun.stream);
        let [stdout, stderr] = pipes.map(Some);
        let stderr = stderr.filter(|_| command.terminal.is_none());
        let (inner, killed) = (Arc::clone(self), Arc::clone(&attempt.killed));
        let end = tokio::spawn(async move { inner.end_of(attempt, &command, &[]).await });
        Ok(Process::new(link, stream, [stdout, stderr], killed, end))
    }

    /// Feeds a command its input, waits for its end, and says how it ended.
    async fn end_of(
        self: &Arc<Self>,
        attempt: Attempt<W::Body>,
        command: &Command,
        input: &[u8],
    ) -> Result<CommandResult, SandboxError> {
        let Attempt { session, begun, kills_before, killed, patience } = attempt;
        let Session { guest, link } = session;
        let began = Instant::now();
        let ended = match self.patiently(patience, run(&link, begun, input)).await {
            // Where walls and guest share their memory with commands, they go together.
            Some(Err(SandboxError::AgentLost { .. }))
                if self.walls.oom_kills(&guest.body) > kills_before =>
            {
                return Ok(CommandResult {
                    signal: Some(libc::SIGKILL),
                    stdout_truncated: true,
                    stderr_truncated: true,
                    oom_killed: true,
                    duration: began.elapsed(),
                    ..CommandResult::default()
                });
            }
            Some(result) => result?,
            None => {
                let cause = "the guest did not end a command whose time was up";
                return Err(self.give_up(&guest, cause).await);
            }
        };
        let exit = match ended.event {
            Event::Exit(exit) => exit,
            Event::NotStarted { step, errno } => {
                return Err(self.not_started(command, &step, errno));
            }
            other => unreachable!("the table passes on no other end: {other:?}"),
        };
        let ended_so = exit.signal == Some(libc::SIGKILL) || exit.code == Some(128 + libc::SIGKILL);
        let by_us = exit.timed_out || killed.load(Ordering::Relaxed);
        let kills = self.walls.oom_kills(&guest.body);
        let peak = Some(exit.peak_memory).filter(|bytes| *bytes > 0);
        Ok(CommandResult {
            exit_code: exit.code,
            signal: exit.signal,
            stdout_truncated: ended.stdout.1,
            stdout: ended.stdout.0,
            stderr_truncated: ended.stderr.1,
            stderr: ended.stderr.0,
            timed_out: exit.timed_out,
            oom_killed: ended_so && !by_us && kills > kills_before,
            duration: Duration::from_nanos(exit.nanoseconds),
            peak_memory: peak,
        })
    }

    /// Asks something about files.
    async fn ask(
        self: &Arc<Self>,
        session: &Session<W::Body>,
        stream: u32,
        path: &Path,
        request: &Request,
    ) -> Result<Event, SandboxError> {
        match self.patiently(TRANSFER, session.link.ask(stream, request)).await {
            None => {
                let cause =
                    format!("the guest did not answer about `{}` for {TRANSFER:?}", path.display());
                Err(self.give_up(&session.guest, &cause).await)
            }
            Some(Err(Lost(cause))) => Err(SandboxError::AgentLost { cause }),
            Some(Ok(Event::Refused(refusal))) => Err(refused(path, refusal)),
            Some(Ok(event)) => Ok(event),
        }
    }

    async fn place_for_transfer(&self) -> Result<tokio::sync::SemaphorePermit<'_>, SandboxError> {
        self.transfers.acquire().await.map_err(|_| SandboxError::ShuttingDown)
    }

    /// Writes a file of `size` bytes that come from `next`.
    async fn write<S: Source>(
        self: &Arc<Self>,
        path: &Path,
        mode: u32,
        size: u64,
        source: &mut S,
    ) -> Result<u64, SandboxError> {
        request::path(path)?;
        if path.as_os_str().as_bytes().ends_with(b"/") {
            return Err(forbidden(path, "it names a directory"));
        }
        let limit = self.config.filesystem_config.scratch_mb << 20;
        if size > limit {
            return Err(SandboxError::TransferTooLarge { size, limit });
        }
        let session = self.ready("take a file")?;
        let _place = self.place_for_transfer().await?;
        let stream = session.link.stream();
        let mut open = Transfer { link: &session.link, stream, over: false };
        let create = Request::Create { path: path.as_os_str().as_bytes().to_vec(), mode, size };
        self.ask(&session, stream, path, &create).await?;
        let mut left = size;
        while left > 0 {
            let wanted = MAX_CHUNK.min(usize::try_from(left).unwrap_or(MAX_CHUNK));
            let chunk = source.next(wanted).await?;
            left -= chunk.len() as u64;
            self.ask(&session, stream, path, &Request::Write(chunk)).await?;
        }
        source.end().await?;
        self.ask(&session, stream, path, &Request::Commit).await?;
        open.over = true;
        Ok(size)
    }

    /// Reads a file of at most `limit` bytes into `sink`.
    async fn read(
        self: &Arc<Self>,
        path: &Path,
        open: fn(Vec<u8>) -> Request,
        limit: u64,
        sink: &mut impl Sink,
    ) -> Result<u64, SandboxError> {
        request::path(path)?;
        let session = self.ready("give a file")?;
        let _place = self.place_for_transfer().await?;
        let stream = session.link.stream();
        let _open = Transfer { link: &session.link, stream, over: false };
        let broken = || SandboxError::AgentLost { cause: "the guest answered nonsense".to_owned() };
        let opened =
            self.ask(&session, stream, path, &open(path.as_os_str().as_bytes().to_vec())).await?;
        let Event::Opened(size) = opened else { return Err(broken()) };
        if size > limit {
            return Err(SandboxError::TransferTooLarge { size, limit });
        }
        let mut offset = 0;
        // One that shrinks meanwhile ends early; one that grows is read as it was.
        while offset < size {
            let len = u32::try_from((size - offset).min(MAX_CHUNK as u64)).unwrap_or(u32::MAX);
            let event = self.ask(&session, stream, path, &Request::Read { offset, len }).await?;
            let Event::Data(bytes) = event else { return Err(broken()) };
            if bytes.is_empty() {
                break;
            }
            if bytes.len() as u64 > u64::from(len) {
                return Err(broken());
            }
            offset += bytes.len() as u64;
            sink.take(&bytes).await?;
        }
        Ok(offset)
    }

    /// The connection for copying a directory, and a place for it.
    async fn ready_for_directory(
        &self,
        path: &Path,
        operation: &str,
    ) -> Result<(Session<W::Body>, tokio::sync::SemaphorePermit<'_>), SandboxError> {
        request::path(path)?;
        let session = self.ready(operation)?;
        if session.link.version() < DIRECTORIES {
            return Err(SandboxError::InvalidArgument {
                what: "the guest of this sandbox is too old to copy directories".to_owned(),
            });
        }
        let place = self.transfers.acquire_many(PLACES).await;
        Ok((session, place.map_err(|_| SandboxError::ShuttingDown)?))
    }

    /// Copies a directory of the sandbox to where its nodes go, which is known with its permissions.
    async fn harvest<H: Harvest>(
        self: &Arc<Self>,
        path: &Path,
        local: &Path,
        begin: impl FnOnce(u32, u64) -> Result<H, SandboxError> + Send,
    ) -> Result<Transferred, SandboxError> {
        let (session, _place) = self.ready_for_directory(path, "give a directory").await?;
        let stream = session.link.stream();
        let _open = Transfer { link: &session.link, stream, over: false };
        let limit = self.config.filesystem_config.scratch_mb << 20;
        let nonsense = "the guest answered nonsense";
        let walk = Request::Walk(path.as_os_str().as_bytes().to_vec());
        let Event::Stat(Some(root)) = self.ask(&session, stream, path, &walk).await? else {
            return Err(self.give_up(&session.guest, nonsense).await);
        };
        let mut harvest = begin(root.mode & 0o777, limit)?;
        let failed = loop {
            // What is refused now is refused where it has come to.
            let here = within(path, harvest.place());
            let Event::Nodes(nodes) = self.ask(&session, stream, &here, &Request::More).await?
            else {
                break Fault::Nonsense(nonsense);
            };
            let last = nodes.is_empty();
            // Files of the host are no affair of the threads that serve everyone.
            let taken =
                on_disk(move || match nodes.iter().try_for_each(|node| harvest.take(node)) {
                    Ok(()) if last => harvest.finish().map(Err),
                    Ok(()) => Ok(Ok(harvest)),
                    Err(fault) => Err(fault),
                });
            match taken.await? {
                Ok(Ok(more)) => harvest = more,
                Ok(Err(done)) => return Ok(done),
                Err(fault) => break fault,
            }
        };
        Err(match failed {
            Fault::Nonsense(what) => self.give_up(&session.guest, what).await,
            Fault::TooLarge(size) => SandboxError::TransferTooLarge { size, limit },
            Fault::Kernel(_) => directories::here(local, failed),
            fault => directories::bound(path, fault),
        })
    }

    /// Copies a directory of the host into the sandbox.
    async fn plant(
        self: &Arc<Self>,
        local: &Path,
        path: &Path,
    ) -> Result<Transferred, SandboxError> {
        let (session, _place) = self.ready_for_directory(path, "take a directory").await?;
        let limit = self.config.filesystem_config.scratch_mb << 20;
        let stream = session.link.stream();
        let mut open = Transfer { link: &session.link, stream, over: false };
        let local_path = local.to_owned();
        let mut walk = on_disk(move || directories::walk(&local_path)).await??;
        let mode = walk.mode() & 0o777;
        let bytes = path.as_os_str().as_bytes();
        let end = bytes.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
        let named = bytes[..end].to_vec();
        self.ask(&session, stream, path, &Request::Plant { path: named, mode }).await?;
        let mut course = Course::new(Bounds::of(limit));
        let failed = |(fault, place)| match fault {
            Fault::TooLarge(size) => SandboxError::TransferTooLarge { size, limit },
            fault => directories::here(&within(local, place), fault),
        };
        loop {
            let step = on_disk(move || {
                let nodes = walk.next(MAX_CHUNK).map_err(|fault| (fault, course.path_of(b"")))?;
                let (last, mut carried) = (nodes.is_empty(), Vec::new());
                for node in nodes {
                    if course.take(&node).map_err(|fault| (fault, course.path_of(b"")))? {
                        carried.push(node);
                    }
                }
                Ok((walk, course, carried, last))
            });
            let (more, course_so_far, nodes, last) = step.await?.map_err(failed)?;
            (walk, course) = (more, course_so_far);
            if last {
                break;
            }
            if !nodes.is_empty() {
                self.ask(&session, stream, path, &Request::Nodes(nodes)).await?;
            }
        }
        let done = course.finish().map_err(|fault| failed((fault, Vec::new())))?;
        self.ask(&session, stream, path, &Request::Commit).await?;
        open.over = true;
        Ok(done)
    }

    /// Why a command could not be started.
    fn not_started(&self, command: &Command, step: &str, errno: i32) -> SandboxError {
        if let Some(refusal) = self.walls.refusal(step, errno) {
            return refusal;
        }
        if matches!(step, "make a process" | "fork") && errno == libc::EAGAIN {
            return SandboxError::ResourceLimit { kind: "processes".to_owned() };
        }
        let missing = (step, errno) == ("execute", libc::ENOENT);
        let reason = match (step, errno) {
            ("execute", libc::ENOENT) => "not found".to_owned(),
            ("execute", libc::EACCES) => "it can't be executed".to_owned(),
            ("execute", libc::ENOEXEC) => "it is no program that this machine can run".to_owned(),
            ("enter its directory", _) => {
                let directory = command.cwd.as_deref().unwrap_or("the working directory");
                format!("`{directory}`: {}", errno_text(errno))
            }
            ("execute", _) => errno_text(errno),
            // Whatever else fails is no fault of the program's.
            (step, errno) => {
                let text = errno_text(errno);
                let hint = match (step, errno) {
                    ("set its limits", libc::EPERM) => {
                        "; this process may have fewer open files than a command gets, which \
                         `ulimit -n` shows: raise it"
                    }
                    _ => "",
                };
                let reason = format!("{text}{hint}");
                return SandboxError::IsolationUnavailable { control: step.to_owned(), reason };
            }
        };
        let command = command.program.to_string_lossy().into_owned();
        SandboxError::ExecFailed { command, reason, missing }
    }
}

/// A file that is open in the guest, and is closed when nobody cares for it any more.
struct Transfer<'a> {
    link: &'a Link,
    stream: u32,
    over: bool,
}

impl Drop for Transfer<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.link.send(self.stream, &Request::Close);
        }
    }
}

fn invalid_state(from: &SandboxStatus, operation: &str) -> SandboxError {
    let from = match from {
        SandboxStatus::Failed { reason } => format!("failed ({reason})"),
        other => format!("{other:?}").to_lowercase(),
    };
    SandboxError::InvalidState { from, operation: operation.to_owned() }
}

pub(crate) fn errno_text(errno: i32) -> String {
    std::io::Error::from_raw_os_error(errno).to_string()
}

/// What is at `place` beneath a directory.
fn within(directory: &Path, place: Vec<u8>) -> PathBuf {
    match place.is_empty() {
        true => directory.to_owned(),
        // Without the slash that it may end in.
        false => directory.join(OsString::from_vec(place)).components().collect(),
    }
}

/// Why a request about files was refused.
fn refused(path: &Path, refusal: Refusal) -> SandboxError {
    match refusal {
        Refusal::NotRegular => SandboxError::NotRegular { path: path.display().to_string() },
        Refusal::WrongSize => SandboxError::InvalidArgument {
            what: format!("`{}`: not so many bytes came as were announced", path.display()),
        },
        Refusal::TooMany => {
            SandboxError::ResourceLimit { kind: format!("{MAX_FILES} transfers at once") }
        }
        Refusal::TooManyNodes => directories::bound(path, Fault::TooMany),
        Refusal::TooDeep => directories::bound(path, Fault::TooDeep),
        Refusal::NoSuchStream => {
            SandboxError::AgentLost { cause: "the guest has forgotten the transfer".to_owned() }
        }
        Refusal::Errno(errno) => match errno {
            libc::ENOSPC | libc::EDQUOT | libc::ENOMEM => SandboxError::StorageFull,
            libc::EISDIR => SandboxError::NotRegular { path: path.display().to_string() },
            libc::EXDEV => forbidden(path, "it leads out of /workspace and /tmp"),
            libc::ELOOP => forbidden(path, "a link in it is not followed"),
            libc::EMLINK => forbidden(path, "the file has another name as well (a hard link)"),
            libc::ESTALE => forbidden(path, "a command has put something else in its place"),
            _ => forbidden(path, &errno_text(errno)),
        },
    }
}

/// Waits for the end of a command, or has it killed when its caller gives up.
async fn run(link: &Link, begun: Begun, input: &[u8]) -> Result<Ended, SandboxError> {
    /// A command that is killed unless it has ended by itself.
    struct Attended<'a> {
        link: &'a Link,
        stream: u32,
        ended: bool,
    }
    impl Drop for Attended<'_> {
        fn drop(&mut self) {
            if !self.ended {
                self.link.abandon(self.stream);
                self.link.send(self.stream, &Request::Kill);
            }
        }
    }

    let Begun { stream, mut ended } = begun;
    let mut attended = Attended { link, stream, ended: false };
    let feed = async {
        let mut input = input;
        if input.is_empty() {
            return; // The guest knows.
        }
        while !input.is_empty() {
            let wanted = input.len().min(MAX_CHUNK / 4);
            let credit = poll_fn(|cx| link.poll_credit(cx, stream, wanted)).await;
            let Some(credit) = credit else { return };
            let (chunk, rest) = input.split_at(credit);
            link.send(stream, &Request::Stdin(chunk.to_vec()));
            input = rest;
        }
        link.send(stream, &Request::StdinEnd);
    };
    let both = async {
        // The command may end before it has read everything; only its end matters.
        tokio::select! {
            biased;
            ended = &mut ended => return ended,
            () = feed => {}
        }
        ended.await
    };
    match both.await {
        Ok(ended) => {
            attended.ended = true;
            Ok(ended)
        }
        Err(_) => {
            let Lost(cause) = link.why();
            Err(SandboxError::AgentLost { cause })
        }
    }
}

#[async_trait]
impl<W: Walls> Sandbox for Seat<W> {
    fn id(&self) -> SandboxId {
        self.0.id
    }

    async fn start(&self) -> Result<(), SandboxError> {
        // A caller that gives up must not leave half a sandbox.
        let inner = Arc::clone(&self.0);
        finished(tokio::spawn(async move { inner.start().await })).await
    }

    async fn exec(&self, command: Command) -> Result<CommandResult, SandboxError> {
        self.0.exec(command).await
    }

    async fn spawn(&self, command: Command) -> Result<Process, SandboxError> {
        self.0.spawn(command)
    }

    async fn upload(&self, path: &Path, remote: &Path) -> Result<u64, SandboxError> {
        let (mut source, size, mode) = Local::open(path)?;
        self.0.write(remote, mode, size, &mut source).await
    }

    async fn download(&self, remote: &Path, path: &Path) -> Result<u64, SandboxError> {
        let mut unfinished = Unfinished::begin(path).await?;
        let limit = self.0.config.filesystem_config.scratch_mb << 20;
        let size = self.0.read(remote, Request::Open, limit, unfinished.sink()).await?;
        unfinished.finish().await?;
        Ok(size)
    }

    async fn upload_directory(
        &self,
        local: &Path,
        remote: &Path,
    ) -> Result<Transferred, SandboxError> {
        self.0.plant(local, remote).await
    }

    async fn download_directory(
        &self,
        remote: &Path,
        local: &Path,
    ) -> Result<Transferred, SandboxError> {
        let begin = |mode, bytes| directories::planting(local, mode, bytes);
        self.0.harvest(remote, local, begin).await
    }

    async fn export(&self, remote: &Path, archive: &Path) -> Result<Transferred, SandboxError> {
        self.0.harvest(remote, archive, |_, bytes| Archive::begin(archive, bytes)).await
    }

    async fn read_file(&self, path: &str, max: u64) -> Result<Vec<u8>, SandboxError> {
        let mut bytes = Vec::new();
        self.0.read(path.as_ref(), Request::OpenPlain, max, &mut bytes).await?;
        Ok(bytes)
    }

    async fn write_file(&self, path: &str, content: &[u8], mode: u32) -> Result<(), SandboxError> {
        let size = content.len() as u64;
        self.0.write(path.as_ref(), mode, size, &mut Bytes(content)).await.map(drop)
    }

    async fn list(&self, path: &str) -> Result<Vec<DirEntry>, SandboxError> {
        request::path(path.as_ref())?;
        let session = self.0.ready("list a directory")?;
        let request = Request::List(path.as_bytes().to_vec());
        match self.0.ask(&session, session.link.stream(), path.as_ref(), &request).await? {
            Event::List { entries, more: false } => Ok(entries
                .into_iter()
                .map(|(name, found)| DirEntry { name: OsString::from_vec(name), stat: stat(found) })
                .collect()),
            Event::List { more: true, .. } => Err(SandboxError::ResourceLimit {
                kind: "directory entries that are listed at once".to_owned(),
            }),
            _ => Err(SandboxError::AgentLost { cause: "the guest answered nonsense".to_owned() }),
        }
    }

    async fn stat(&self, path: &Path) -> Result<Option<Stat>, SandboxError> {
        request::path(path)?;
        let session = self.0.ready("look at a file")?;
        let request = Request::Stat(path.as_os_str().as_bytes().to_vec());
        match self.0.ask(&session, session.link.stream(), path, &request).await? {
            Event::Stat(found) => Ok(found.map(stat)),
            _ => Err(SandboxError::AgentLost { cause: "the guest answered nonsense".to_owned() }),
        }
    }

    async fn remove(&self, path: &str) -> Result<(), SandboxError> {
        request::path(path.as_ref())?;
        let session = self.0.ready("remove a file")?;
        let request = Request::Remove(path.as_bytes().to_vec());
        self.0.ask(&session, session.link.stream(), path.as_ref(), &request).await.map(drop)
    }

    async fn stop(&self) -> Result<(), SandboxError> {
        let inner = Arc::clone(&self.0);
        finished(tokio::spawn(async move { inner.stop().await })).await
    }

    async fn pause(&self) -> Result<(), SandboxError> {
        let inner = Arc::clone(&self.0);
        finished(tokio::spawn(async move { inner.pause().await })).await
    }

    async fn resume(&self) -> Result<(), SandboxError> {
        let inner = Arc::clone(&self.0);
        finished(tokio::spawn(async move { inner.resume().await })).await
    }

    async fn destroy(&self) -> Result<(), SandboxError> {
        let inner = Arc::clone(&self.0);
        finished(tokio::spawn(async move { inner.destroy().await })).await
    }

    fn status(&self) -> SandboxStatus {
        self.0.status()
    }

    async fn usage(&self) -> Result<SandboxUsage, SandboxError> {
        let guest = {
            let state = lock(&self.0.state);
            state.guest.clone().ok_or_else(|| invalid_state(&state.status, "be measured"))?
        };
        self.0.walls.usage(&guest.body).await
    }

    fn report(&self) -> IsolationReport {
        lock(&self.0.state).report.clone()
    }
}

/// What a task of ours came to.
async fn finished(
    task: tokio::task::JoinHandle<Result<(), SandboxError>>,
) -> Result<(), SandboxError> {
    match task.await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(SandboxError::ShuttingDown),
    }
}

/// Does something with files of the host.
pub(crate) async fn on_disk<T: Send + 'static>(
    act: impl FnOnce() -> T + Send + 'static,
) -> Result<T, SandboxError> {
    match tokio::task::spawn_blocking(act).await {
        Ok(done) => Ok(done),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(SandboxError::ShuttingDown),
    }
}

fn stat(found: Attributes) -> Stat {
    let seconds = Duration::from_secs(found.modified.unsigned_abs());
    let modified = if found.modified < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(seconds)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(seconds)
    };
    Stat {
        kind: match FileType::from_raw_mode(found.mode) {
            FileType::RegularFile => EntryKind::File,
            FileType::Directory => EntryKind::Directory,
            FileType::Symlink => EntryKind::Link,
            _ => EntryKind::Other,
        },
        size: found.size,
        mode: found.mode & 0o7777,
        modified: modified.unwrap_or(SystemTime::UNIX_EPOCH),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use symbiont_guest::protocol::{Decoder, Node};
    use symbiont_types::{AgentId, FilesystemConfig, NetworkConfig, ResourceLimits, SecurityTier};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::link::FIRST_PING;

    /// No walls, and a guest that answers about directories what it was told to.
    #[derive(Debug)]
    struct Scripted {
        version: u32,
        answers: Vec<Event>,
    }

    #[async_trait]
    impl Walls for Scripted {
        type Body = ();

        async fn raise(&self) -> Result<Raised<()>, SandboxError> {
            let (ours, theirs) = UnixStream::pair().unwrap();
            tokio::spawn(answer(theirs, self.version, self.answers.clone()));
            let link = greet(ours, [0; 32], |_, _| unreachable!("it greets")).await?;
            Ok(Raised { body: (), link, report: IsolationReport::default() })
        }

        async fn raze(&self, (): &()) -> Result<(), SandboxError> {
            Ok(())
        }

        async fn pause(&self, (): &()) -> Result<(), SandboxError> {
            Ok(())
        }

        async fn resume(&self, (): &()) -> Result<(), SandboxError> {
            Ok(())
        }

        fn oom_kills(&self, (): &()) -> Option<u64> {
            None
        }

        async fn usage(&self, (): &()) -> Result<SandboxUsage, SandboxError> {
            Ok(SandboxUsage::default())
        }

        fn refusal(&self, _: &str, _: i32) -> Option<SandboxError> {
            None
        }
    }

    /// A guest's life: a greeting, and the last of the answers again and again.
    async fn answer(mut socket: UnixStream, version: u32, answers: Vec<Event>) {
        let mut out = Vec::new();
        Event::Hello { version, token: [0; 32], landlock: 0 }.encode(0, &mut out);
        Event::Pong.encode(FIRST_PING, &mut out);
        let (mut decoder, mut buffer) = (Decoder::default(), vec![0; 1 << 16]);
        let mut next = 0;
        while socket.write_all(&out).await.is_ok() {
            out.clear();
            match socket.read(&mut buffer).await {
                Ok(count @ 1..) => decoder.push(&buffer[..count]),
                Ok(0) | Err(_) => return,
            }
            while let Some(frame) = decoder.next_frame().unwrap() {
                if !matches!(Request::decode(&frame), Ok(Some(Request::Close | Request::Shutdown)))
                {
                    answers[next.min(answers.len() - 1)].encode(frame.stream, &mut out);
                    next += 1;
                }
            }
        }
    }

    async fn scripted(version: u32, answers: Vec<Event>) -> Seat<Scripted> {
        let config = SandboxConfig {
            agent_id: AgentId::new(),
            security_tier: SecurityTier::Tier1,
            resource_limits: ResourceLimits::default(),
            network_config: NetworkConfig::default(),
            filesystem_config: FilesystemConfig { scratch_mb: 1, ..FilesystemConfig::default() },
            environment_variables: HashMap::new(),
        };
        let walls = Scripted { version, answers };
        let seat = Seat::new(walls, SandboxId::new(), config, IsolationReport::default(), false);
        seat.start().await.unwrap();
        seat
    }

    fn root() -> Event {
        Event::Stat(Some(Attributes { mode: 0o40_755, size: 0, modified: 0 }))
    }

    #[tokio::test]
    async fn a_guest_that_lies_about_a_directory_is_given_up_and_nothing_is_made() {
        let file = |name: &str, size| Node::File { name: name.into(), mode: 0o644, size };
        let enter = |name: &str| Node::Enter { name: name.into(), mode: 0o755 };
        let link = Node::Link { name: b"l".to_vec(), target: b"..".to_vec() };
        let row = |nodes: Vec<Node>| vec![root(), Event::Nodes(nodes), Event::Nodes(Vec::new())];
        let lies = [
            row(vec![file("../out", 0)]),
            row(vec![enter("a"), file("b/../../../out", 0), Node::Leave]),
            row(vec![file("/tmp/out", 0)]),
            row(vec![Node::Leave, file("out", 0)]),
            row(vec![link, enter("l"), file("out", 0)]),
            row(vec![enter("a")]),
            row(vec![file("a", 1), Node::Data(vec![0; 2])]),
            vec![Event::Done],
            vec![Event::Stat(None)],
            vec![root(), Event::Opened(7)],
        ];
        for answers in lies {
            for archive in [false, true] {
                let seat = scripted(3, answers.clone()).await;
                let place = tempfile::tempdir().unwrap();
                let local = place.path().join("it");
                let told = match archive {
                    false => seat.download_directory("x".as_ref(), &local).await,
                    true => seat.export("x".as_ref(), &local).await,
                };
                let lost = matches!(told, Err(SandboxError::AgentLost { .. }));
                assert!(lost, "{answers:?}: {told:?}");
                assert!(matches!(seat.status(), SandboxStatus::Failed { .. }), "{answers:?}");
                assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0, "{answers:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_guest_that_never_ends_comes_to_an_end() {
        let file = Node::File { name: b"a".to_vec(), mode: 0, size: 1 << 40 };
        let data = || Event::Nodes(vec![Node::Data(vec![0; 1000])]);
        let begun = Node::File { name: b"a".to_vec(), mode: 0, size: 1 << 20 };
        for (answers, want) in [
            (vec![root(), Event::Nodes(vec![file])], "TransferTooLarge"),
            (vec![root(), Event::Nodes(vec![begun]), data()], "AgentLost"),
            (vec![root(), Event::Refused(Refusal::TooDeep)], "ResourceLimit"),
            (vec![root(), Event::Refused(Refusal::TooManyNodes)], "ResourceLimit"),
            (vec![Event::Refused(Refusal::Errno(libc::ENOENT))], "PathForbidden"),
        ] {
            let seat = scripted(3, answers).await;
            let place = tempfile::tempdir().unwrap();
            let told = seat.download_directory("x".as_ref(), &place.path().join("it")).await;
            let told = format!("{:?}", told.unwrap_err());
            assert!(told.starts_with(want), "{told}");
            assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
        }
    }

    #[tokio::test]
    async fn a_guest_of_an_older_version_is_not_asked_for_directories() {
        let seat = scripted(2, vec![Event::Done]).await;
        let place = tempfile::tempdir().unwrap();
        let told =
            seat.download_directory("x".as_ref(), &place.path().join("it")).await.unwrap_err();
        assert!(told.to_string().contains("too old"), "{told}");
        let told = seat.upload_directory(place.path(), "x".as_ref()).await.unwrap_err();
        assert!(told.to_string().contains("too old"), "{told}");
        assert_eq!(seat.status(), SandboxStatus::Running);
    }
}
