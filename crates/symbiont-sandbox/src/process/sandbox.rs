//! One sandbox of the process driver.

use std::ffi::OsString;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use rustix::fs::FileType;
use symbiont_guest::protocol::{
    Attributes, Event, MAX_CHUNK, MAX_COMMANDS, MAX_FILES, Refusal, Request, Setup, VERSION,
};
use symbiont_types::{CommandResult, SandboxConfig, SandboxError, SandboxId, SandboxStatus};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Child;
use tokio::sync::Semaphore;

use crate::api::{Command, DirEntry, EntryKind, IsolationReport, Sandbox, SandboxUsage, Stat};
use crate::process::cgroup::{Group, MAX_PROCESSES};
use crate::process::instance::Range;
use crate::process::link::{Begun, Ended, FIRST_PING, Link, Lost};
use crate::process::{END, Host, START, TRANSFER, layout, seccomp};

/// How long after a command's time is up its end may take to be told.
const PATIENCE: Duration = Duration::from_secs(10);
/// When an empty control group can mostly be removed, and when it must be.
const SOON: Duration = Duration::from_micros(300);
const REMOVAL: Duration = Duration::from_millis(500);
/// The longest set-up: it has to fit into the socket before anyone reads.
const MAX_SETUP: usize = 128 << 10;

/// A sandbox of the process driver.
#[derive(Debug)]
pub(crate) struct ProcessSandbox(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    host: Arc<Host>,
    id: SandboxId,
    name: String,
    config: SandboxConfig,
    setup: Setup,
    state: Mutex<State>,
    /// Held by whoever starts, stops or destroys it.
    changing: tokio::sync::Mutex<()>,
    commands: Arc<Semaphore>,
    transfers: Semaphore,
}

#[derive(Debug)]
struct State {
    status: SandboxStatus,
    guest: Option<Arc<Guest>>,
    report: IsolationReport,
}

impl State {
    fn session(&self, operation: &str) -> Result<Session, SandboxError> {
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
struct Guest {
    /// `None` once it was asked to end, which it sees as the end of its socket.
    link: Mutex<Option<Arc<Link>>>,
    body: Mutex<Option<Body>>,
    group: Mutex<Group>,
}

/// A guest that was ready when it was asked for, and the connection to it.
#[derive(Debug)]
struct Session {
    guest: Arc<Guest>,
    link: Arc<Link>,
}

/// What is left to be cleaned up when the guest has ended.
#[derive(Debug)]
struct Body {
    child: Child,
    ids: Option<Range>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ProcessSandbox {
    pub(crate) fn new(
        host: Arc<Host>,
        id: SandboxId,
        config: SandboxConfig,
        mut setup: Setup,
    ) -> Result<Self, SandboxError> {
        let name = format!("sbx-{}", id.as_uuid().simple());
        setup.token[..16].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        setup.token[16..].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        setup.groups = host
            .cgroups
            .to_enter(&name)
            .into_iter()
            .map(|path| path.into_os_string().into_vec())
            .collect();
        setup.processors = processors(&host.processors, config.resource_limits.cpu_cores);
        let mut encoded = Vec::new();
        Request::Setup(Box::new(setup.clone())).encode(0, &mut encoded);
        if encoded.len() > MAX_SETUP {
            return Err(SandboxError::InvalidArgument {
                what: "the root or the mounts have too many entries".to_owned(),
            });
        }
        let report = planned_report(&host, &config);
        Ok(Self(Arc::new(Inner {
            host,
            id,
            name,
            config,
            setup,
            state: Mutex::new(State { status: SandboxStatus::Created, guest: None, report }),
            changing: tokio::sync::Mutex::default(),
            commands: Arc::new(Semaphore::new(MAX_COMMANDS)),
            transfers: Semaphore::new(MAX_FILES),
        })))
    }
}

/// So many processors as the limit fills, beginning with ours: then programs see no more.
fn processors(ours: &[u32], cores: f64) -> Vec<u32> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be from 0.01 to 4096"
    )]
    let count = cores.ceil() as usize;
    if count >= ours.len() {
        return Vec::new();
    }
    // Not the same ones for every sandbox.
    let start = usize::from(uuid::Uuid::new_v4().as_bytes()[0]) % ours.len();
    ours.iter().cycle().skip(start).take(count).copied().collect()
}

/// What will be in force, as far as it is known before the guest has said so.
fn planned_report(host: &Host, config: &SandboxConfig) -> IsolationReport {
    let limits = &config.resource_limits;
    let mut in_force = Vec::new();
    if host.cgroups.has("memory") {
        in_force.push(format!("memory {} MiB", limits.memory_mb));
    }
    if host.cgroups.has("pids") {
        in_force.push(format!("processes {MAX_PROCESSES}"));
    }
    if host.cgroups.has("cpu") {
        in_force.push(format!("processor cores {}", limits.cpu_cores));
    }
    let room = layout::room(config);
    let workspace = room.workspace >> 20;
    in_force.push(format!("workspace {workspace} MiB"));
    in_force.push(format!("/tmp {} MiB", room.temporary >> 20));
    let mut degraded = host.cgroups.missing.clone();
    let asked = config.filesystem_config.scratch_mb;
    if room.workspace < asked << 20 {
        degraded.push(format!(
            "workspace: {workspace} MiB of the {asked} that were asked for, as its files are part \
             of the {} MiB of memory",
            limits.memory_mb
        ));
    }
    degraded.push("disk and network traffic: not limited by this driver".to_owned());
    degraded.push("Landlock: not applied by this driver yet".to_owned());
    degraded.extend(host.lowest_score());
    IsolationReport {
        driver: "process".to_owned(),
        cgroup: host.cgroups.layout(),
        limits: in_force,
        degraded,
        ..IsolationReport::default()
    }
}

impl Inner {
    fn status(&self) -> SandboxStatus {
        lock(&self.state).status.clone()
    }

    fn set(&self, status: SandboxStatus) {
        lock(&self.state).status = status;
    }

    /// The connection, if the sandbox is ready for `operation`.
    fn ready(&self, operation: &str) -> Result<Session, SandboxError> {
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
        match self.bring_up().await {
            Ok(Session { guest, link }) => {
                let mut state = lock(&self.state);
                state.status = SandboxStatus::Running;
                let ids = lock(&guest.body).as_ref().and_then(|b| b.ids.as_ref().map(|r| r.first));
                let report = &mut state.report;
                report.namespaces =
                    ["user", "mnt", "pid", "ipc", "uts", "net", "cgroup"].map(String::from).into();
                report.user_mapping = match ids {
                    Some(first) => format!("65536 ids from {first}"),
                    None => "one id".to_owned(),
                };
                report.no_new_privileges = true;
                report.capabilities_dropped = true;
                report.network = "none".to_owned();
                report.rootfs = format!("{:?}, read-only", self.config.filesystem_config.rootfs);
                report.seccomp = Some(seccomp::SUMMARY.to_owned());
                report.degraded.extend(link.degraded());
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

    /// Starts the guest and waits until it has answered.
    async fn bring_up(&self) -> Result<Session, SandboxError> {
        let failed = |step: &str, error: &dyn std::fmt::Display| SandboxError::CreateFailed {
            reason: format!("{step}: {error}"),
        };
        let ids = if self.host.root {
            Some(self.host.instance.take_ids().map_err(|e| failed("take user ids", &e))?)
        } else {
            None
        };
        let mut setup = self.setup.clone();
        setup.first_id = ids.as_ref().map(|range| range.first);
        let mut first = Vec::new();
        Request::Setup(Box::new(setup)).encode(0, &mut first);

        let (ours, theirs) =
            std::os::unix::net::UnixStream::pair().map_err(|e| failed("make a socket", &e))?;
        // It is there when the guest looks, which spares a wait.
        std::io::Write::write_all(&mut &ours, &first).map_err(|e| failed("send the set-up", &e))?;
        ours.set_nonblocking(true).map_err(|e| failed("make a socket", &e))?;

        let program = format!("/proc/self/fd/{}", self.host.guest.as_raw_fd());
        let child = tokio::process::Command::new(program)
            .arg0("symbiont-guest")
            .env_clear()
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // What a terminal sends to all of its foreground is for us, not for the sandbox.
            .process_group(0)
            .spawn()
            .map_err(|e| failed("run the guest", &e))?;
        let pid = child.id();
        // While the guest gets going.
        let group = self.host.cgroups.create(&self.name, &self.config.resource_limits);
        let mut guest = Guest {
            link: Mutex::default(),
            body: Mutex::new(Some(Body { child, ids })),
            group: Mutex::default(),
        };
        let result = async {
            let group = group.map_err(|e| failed("make the control groups", &e))?;
            let placed = pid.map_or(Ok(()), |pid| group.add(pid));
            guest.group = Mutex::new(group);
            placed.map_err(|e| failed("enter the control groups", &e))?;
            // The ping is under way before the guest has said anything, which spares a round trip.
            let mut frames = Vec::new();
            Request::Go.encode(0, &mut frames);
            Request::Ping.encode(FIRST_PING, &mut frames);
            std::io::Write::write_all(&mut &ours, &frames).map_err(|e| failed("begin", &e))?;
            let socket =
                tokio::net::UnixStream::from_std(ours).map_err(|e| failed("make a socket", &e))?;
            let (link, hello, pong) = Link::new(socket);
            let link = Arc::new(link);
            let gone = |Lost(reason)| failed("start the guest", &reason);
            let answers = async { tokio::join!(hello, pong) };
            let Ok((hello, pong)) = tokio::time::timeout(START, answers).await else {
                return Err(SandboxError::Timeout { operation: "start".to_owned(), after: START });
            };
            match hello {
                Err(_) => return Err(gone(link.why())),
                Ok(Event::SetupFailed { step, errno }) => return Err(not_set_up(&step, errno)),
                Ok(Event::Hello { version, token })
                    if version == VERSION && token == self.setup.token => {}
                Ok(_) => return Err(failed("greet the guest", &"it is not ours")),
            }
            match pong {
                Err(_) => Err(gone(link.why())),
                Ok(Event::Pong) => Ok(link),
                Ok(_) => Err(failed("greet the guest", &"it did not answer a ping")),
            }
        };
        match result.await {
            Ok(link) => {
                guest.link = Mutex::new(Some(Arc::clone(&link)));
                Ok(Session { guest: Arc::new(guest), link })
            }
            Err(error) => {
                if let Err(left) = self.end(&guest).await {
                    tracing::warn!(sandbox_id = %self.id, %left, "a sandbox left something behind");
                }
                Err(error)
            }
        }
    }

    /// Notes when the guest goes without having been asked to.
    fn watch(self: &Arc<Self>, guest: &Arc<Guest>, link: &Arc<Link>) {
        let (inner, guest) = (Arc::downgrade(self), Arc::downgrade(guest));
        let mut lost = link.lost();
        tokio::spawn(async move {
            let reason = match lost.wait_for(Option::is_some).await {
                Ok(reason) => reason.clone().unwrap_or_default(),
                Err(_) => return,
            };
            if let Some(inner) = inner.upgrade() {
                let mut state = lock(&inner.state);
                if matches!(state.status, SandboxStatus::Running | SandboxStatus::Stopped) {
                    let kills = guest.upgrade().and_then(|guest| lock(&guest.group).oom_kills());
                    let memory = match kills {
                        Some(1..) => " (the kernel killed something in it for lack of memory)",
                        Some(0) | None => "",
                    };
                    state.status = SandboxStatus::Failed { reason: format!("{reason}{memory}") };
                }
            }
        });
    }

    /// Ends a guest and removes what belongs to it. May be called again after it failed.
    async fn end(&self, guest: &Guest) -> Result<(), SandboxError> {
        let left = |what: String| SandboxError::BackendUnavailable { reason: what };
        if let Some(link) = lock(&guest.link).take() {
            link.send(0, &Request::Shutdown);
        }
        let body = lock(&guest.body).take();
        if let Some(mut body) = body {
            if tokio::time::timeout(END, body.child.wait()).await.is_err() {
                // What may hardly run may hardly end.
                lock(&guest.group).unthrottle();
                // The agent has asked for its parent's death, and everything else for the agent's.
                let _ended_meanwhile = body.child.start_kill();
                lock(&guest.group).kill();
                if tokio::time::timeout(END, body.child.wait()).await.is_err() {
                    *lock(&guest.body) = Some(body);
                    return Err(left("the guest can't be killed".to_owned()));
                }
            }
            if let Some(range) = body.ids {
                self.host.instance.return_ids(range);
            }
        }
        // The kernel tells when a process has ended, but not when its group has noticed. It mostly
        // has within some microseconds, which no timer can wait.
        let start = Instant::now();
        loop {
            let error = match lock(&guest.group).remove() {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let waited = start.elapsed();
            if waited >= REMOVAL {
                return Err(left(format!("a control group can't be removed: {error}")));
            }
            if waited < SOON {
                tokio::task::yield_now().await;
            } else {
                lock(&guest.group).kill();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
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
            match tokio::time::timeout(END, ended)
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
    async fn give_up(self: &Arc<Self>, guest: &Arc<Guest>, cause: &str) -> SandboxError {
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
        if let Some(guest) = guest {
            self.end(&guest).await?;
        }
        let mut state = lock(&self.state);
        state.guest = None;
        state.status = SandboxStatus::Destroyed;
        Ok(())
    }

    async fn exec(self: &Arc<Self>, command: Command) -> Result<CommandResult, SandboxError> {
        let exec = layout::command(&command, &self.config)?;
        let patience = Duration::from_millis(exec.timeout_ms.saturating_add(exec.grace_ms))
            .saturating_add(PATIENCE);
        let input = command.stdin.as_deref().unwrap_or_default();
        let (Session { guest, link }, kills_before, begun) = {
            // Whoever stops the sandbox comes before, or finds the command among those that run.
            let state = lock(&self.state);
            let session = state.session("run a command")?;
            let place = Arc::clone(&self.commands).try_acquire_owned().map_err(|_| {
                SandboxError::ResourceLimit { kind: format!("{MAX_COMMANDS} commands at once") }
            })?;
            let kills = lock(&session.guest.group).oom_kills();
            let begun =
                session.link.begin(exec, !input.is_empty(), command.output_cap, Box::new(place));
            (session, kills, begun.map_err(|Lost(cause)| SandboxError::AgentLost { cause })?)
        };
        let ended = match tokio::time::timeout(patience, run(&link, begun, input)).await {
            Ok(result) => result?,
            Err(_) => {
                let cause = "the guest did not end a command whose time was up";
                return Err(self.give_up(&guest, cause).await);
            }
        };
        let exit = match ended.event {
            Event::Exit(exit) => exit,
            Event::NotStarted { step, errno } => return Err(not_started(&command, &step, errno)),
            other => unreachable!("the table passes on no other end: {other:?}"),
        };
        let killed = exit.signal == Some(libc::SIGKILL) || exit.code == Some(128 + libc::SIGKILL);
        let kills = lock(&guest.group).oom_kills();
        let peak = Some(exit.peak_memory).filter(|bytes| *bytes > 0);
        Ok(CommandResult {
            exit_code: exit.code,
            signal: exit.signal,
            stdout_truncated: ended.stdout.1,
            stdout: ended.stdout.0,
            stderr_truncated: ended.stderr.1,
            stderr: ended.stderr.0,
            timed_out: exit.timed_out,
            oom_killed: killed && !exit.timed_out && kills > kills_before,
            duration: Duration::from_nanos(exit.nanoseconds),
            peak_memory: peak,
        })
    }

    /// Asks something about files.
    async fn ask(
        self: &Arc<Self>,
        session: &Session,
        stream: u32,
        path: &str,
        request: &Request,
    ) -> Result<Event, SandboxError> {
        let answer = tokio::time::timeout(TRANSFER, session.link.ask(stream, request)).await;
        match answer {
            Err(_) => {
                let cause = format!("the guest did not answer about `{path}` for {TRANSFER:?}");
                Err(self.give_up(&session.guest, &cause).await)
            }
            Ok(Err(Lost(cause))) => Err(SandboxError::AgentLost { cause }),
            Ok(Ok(Event::Refused(refusal))) => Err(refused(path, refusal)),
            Ok(Ok(event)) => Ok(event),
        }
    }

    async fn place_for_transfer(&self) -> Result<tokio::sync::SemaphorePermit<'_>, SandboxError> {
        self.transfers.acquire().await.map_err(|_| SandboxError::ShuttingDown)
    }

    /// Writes a file of `size` bytes that come from `next`.
    async fn write<S: Source>(
        self: &Arc<Self>,
        path: &str,
        mode: u32,
        size: u64,
        source: &mut S,
    ) -> Result<u64, SandboxError> {
        layout::path(path)?;
        if path.ends_with('/') {
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
        let create = Request::Create { path: path.as_bytes().to_vec(), mode, size };
        self.ask(&session, stream, path, &create).await?;
        let mut left = size;
        while left > 0 {
            let wanted = MAX_CHUNK.min(usize::try_from(left).unwrap_or(MAX_CHUNK));
            let chunk = source.next(wanted).await?;
            left -= chunk.len() as u64;
            self.ask(&session, stream, path, &Request::Write(chunk)).await?;
        }
        self.ask(&session, stream, path, &Request::Commit).await?;
        open.over = true;
        Ok(size)
    }

    /// Reads a file of at most `limit` bytes into `sink`.
    async fn read(
        self: &Arc<Self>,
        path: &str,
        open: fn(Vec<u8>) -> Request,
        limit: u64,
        sink: &mut impl Sink,
    ) -> Result<u64, SandboxError> {
        layout::path(path)?;
        let session = self.ready("give a file")?;
        let _place = self.place_for_transfer().await?;
        let stream = session.link.stream();
        let _open = Transfer { link: &session.link, stream, over: false };
        let broken = || SandboxError::AgentLost { cause: "the guest answered nonsense".to_owned() };
        let opened = self.ask(&session, stream, path, &open(path.as_bytes().to_vec())).await?;
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

/// Where a file's bytes come from.
#[async_trait]
trait Source: Send {
    /// Some bytes, at least one and at most `wanted`.
    async fn next(&mut self, wanted: usize) -> Result<Vec<u8>, SandboxError>;
}

/// Where a file's bytes go to.
#[async_trait]
trait Sink: Send {
    async fn take(&mut self, bytes: &[u8]) -> Result<(), SandboxError>;
}

struct Bytes<'a>(&'a [u8]);

#[async_trait]
impl Source for Bytes<'_> {
    async fn next(&mut self, wanted: usize) -> Result<Vec<u8>, SandboxError> {
        let (chunk, rest) = self.0.split_at(wanted.min(self.0.len()));
        self.0 = rest;
        Ok(chunk.to_vec())
    }
}

#[async_trait]
impl Sink for Vec<u8> {
    async fn take(&mut self, bytes: &[u8]) -> Result<(), SandboxError> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// A file of the host, with the name it has for its user.
struct Local<'a>(tokio::fs::File, &'a Path);

#[async_trait]
impl Source for Local<'_> {
    async fn next(&mut self, wanted: usize) -> Result<Vec<u8>, SandboxError> {
        let mut chunk = vec![0; wanted];
        let count = self.0.read(&mut chunk).await.map_err(|error| local(self.1, &error))?;
        if count == 0 {
            return Err(local(self.1, &"it became shorter while it was read"));
        }
        chunk.truncate(count);
        Ok(chunk)
    }
}

#[async_trait]
impl Sink for Local<'_> {
    async fn take(&mut self, bytes: &[u8]) -> Result<(), SandboxError> {
        self.0.write_all(bytes).await.map_err(|error| local(self.1, &error))
    }
}

fn local(path: &Path, error: &dyn std::fmt::Display) -> SandboxError {
    SandboxError::InvalidArgument { what: format!("the local file `{}`: {error}", path.display()) }
}

fn forbidden(path: &str, reason: &str) -> SandboxError {
    SandboxError::PathForbidden { path: path.to_owned(), reason: reason.to_owned() }
}

fn invalid_state(from: &SandboxStatus, operation: &str) -> SandboxError {
    let from = match from {
        SandboxStatus::Failed { reason } => format!("failed ({reason})"),
        other => format!("{other:?}").to_lowercase(),
    };
    SandboxError::InvalidState { from, operation: operation.to_owned() }
}

fn errno_text(errno: i32) -> String {
    std::io::Error::from_raw_os_error(errno).to_string()
}

/// Why the guest could not build the sandbox.
fn not_set_up(step: &str, errno: i32) -> SandboxError {
    let text = errno_text(errno);
    match missing(step, errno) {
        Some((control, remedy)) => SandboxError::IsolationUnavailable {
            control: control.to_owned(),
            reason: format!("{step}: {text}; {remedy}"),
        },
        None => SandboxError::CreateFailed { reason: format!("{step}: {text}") },
    }
}

/// The wall that a host refuses by failing this step with this error, and what to do about it.
fn missing(step: &str, errno: i32) -> Option<(&'static str, &'static str)> {
    const FORBIDDEN: [i32; 2] = [libc::EPERM, libc::EACCES];
    // None are left, or the kernel was built without them.
    const EXHAUSTED: [i32; 3] = [libc::ENOSPC, libc::EUSERS, libc::EINVAL];
    if errno == libc::ENOSYS {
        let control = if step == "make the namespaces" { "user namespaces" } else { "mounts" };
        return Some((
            control,
            "the kernel is older than 5.12, or the system call filter of a container hides its \
             calls (`clone3`, `open_tree`, `mount_setattr`): use a newer one, or a filter that \
             lets them through",
        ));
    }
    let forbidden = FORBIDDEN.contains(&errno);
    match step {
        "make the namespaces" if forbidden || EXHAUSTED.contains(&errno) => Some((
            "user namespaces",
            "allow them with `sysctl user.max_user_namespaces=16384` and, where they exist, \
             `kernel.unprivileged_userns_clone=1` and \
             `kernel.apparmor_restrict_unprivileged_userns=0`, or leave the container that \
             forbids them",
        )),
        "make mounts private" if forbidden => Some((
            "mount namespaces",
            "a security module keeps them from us: where AppArmor does, set \
             `kernel.apparmor_restrict_unprivileged_userns=0` with sysctl",
        )),
        "write setgroups" | "write uid_map" | "write gid_map" if forbidden => Some((
            "user namespaces",
            "the users of a sandbox can't be mapped: where AppArmor forbids it, set \
             `kernel.apparmor_restrict_unprivileged_userns=0` with sysctl; in a container, give it \
             CAP_SETUID and CAP_SETGID or run as an ordinary user",
        )),
        "make `/proc`" | "mount /proc" if forbidden => Some((
            "process namespaces",
            "a part of /proc is covered, as containers do, and then the kernel shows no other: \
             leave the container, or run it with an uncovered /proc (of Docker: \
             `--security-opt systempaths=unconfined`)",
        )),
        _ => None,
    }
}

/// Why a command could not be started.
fn not_started(command: &Command, step: &str, errno: i32) -> SandboxError {
    if matches!(step, "make a process" | "fork") && errno == libc::EAGAIN {
        return SandboxError::ResourceLimit { kind: format!("{MAX_PROCESSES} processes") };
    }
    if step == "mount /proc" && missing(step, errno).is_some() {
        return not_set_up(step, errno);
    }
    let reason = match (step, errno) {
        ("execute", libc::ENOENT) => "not found".to_owned(),
        ("execute", libc::EACCES) => "it can't be executed".to_owned(),
        ("execute", libc::ENOEXEC) => "it is no program that this machine can run".to_owned(),
        ("enter its directory", _) => {
            let directory = command.cwd.as_deref().unwrap_or("the working directory");
            format!("`{directory}`: {}", errno_text(errno))
        }
        _ => format!("{step}: {}", errno_text(errno)),
    };
    SandboxError::ExecFailed { command: command.program.clone(), reason }
}

/// Why a request about files was refused.
fn refused(path: &str, refusal: Refusal) -> SandboxError {
    match refusal {
        Refusal::NotRegular => SandboxError::NotRegular { path: path.to_owned() },
        Refusal::WrongSize => SandboxError::InvalidArgument {
            what: format!("`{path}`: not so many bytes came as were announced"),
        },
        Refusal::TooMany => {
            SandboxError::ResourceLimit { kind: format!("{MAX_FILES} transfers at once") }
        }
        Refusal::NoSuchStream => {
            SandboxError::AgentLost { cause: "the guest has forgotten the transfer".to_owned() }
        }
        Refusal::Errno(errno) => match errno {
            libc::ENOSPC | libc::EDQUOT | libc::ENOMEM => SandboxError::StorageFull,
            libc::EISDIR => SandboxError::NotRegular { path: path.to_owned() },
            libc::EXDEV => forbidden(path, "it leads out of /workspace and /tmp"),
            libc::ELOOP => forbidden(path, "a link in it is not followed"),
            libc::EMLINK => forbidden(path, "the file has another name as well (a hard link)"),
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

    let Begun { stream, mut ended, more_credit } = begun;
    let mut attended = Attended { link, stream, ended: false };
    let feed = async {
        let mut input = input;
        if input.is_empty() {
            return; // The guest knows.
        }
        while !input.is_empty() {
            let credit = link.take_credit(stream, input.len().min(MAX_CHUNK / 4));
            if credit == 0 {
                more_credit.notified().await;
                continue;
            }
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
impl Sandbox for ProcessSandbox {
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

    async fn upload(&self, path: &Path, remote: &str) -> Result<u64, SandboxError> {
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let mut options = std::fs::OpenOptions::new();
        let file =
            options.read(true).custom_flags(flags).open(path).map_err(|e| local(path, &e))?;
        let metadata = file.metadata().map_err(|error| local(path, &error))?;
        if !metadata.is_file() {
            return Err(SandboxError::NotRegular { path: path.display().to_string() });
        }
        let mut source = Local(tokio::fs::File::from_std(file), path);
        let mode = metadata.permissions().mode();
        self.0.write(remote, mode, metadata.len(), &mut source).await
    }

    async fn download(&self, remote: &str, path: &Path) -> Result<u64, SandboxError> {
        let (Some(directory), Some(_)) = (path.parent(), path.file_name()) else {
            return Err(local(path, &"it names no file"));
        };
        // Not made of its name, which may be as long as names can be.
        let part = format!(".symbiont-{}", uuid::Uuid::new_v4().simple());
        let mut part = Unfinished { path: directory.join(part), whole: false };
        let file = tokio::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&part.path)
            .await
            .map_err(|error| local(path, &error))?;
        let mut sink = Local(file, path);
        let limit = self.0.config.filesystem_config.scratch_mb << 20;
        let size = self.0.read(remote, Request::Open, limit, &mut sink).await?;
        sink.0.flush().await.map_err(|error| local(path, &error))?;
        tokio::fs::rename(&part.path, path).await.map_err(|error| local(path, &error))?;
        part.whole = true;
        Ok(size)
    }

    async fn read_file(&self, path: &str, max: u64) -> Result<Vec<u8>, SandboxError> {
        let mut bytes = Vec::new();
        self.0.read(path, Request::OpenPlain, max, &mut bytes).await?;
        Ok(bytes)
    }

    async fn write_file(&self, path: &str, content: &[u8], mode: u32) -> Result<(), SandboxError> {
        let size = content.len() as u64;
        self.0.write(path, mode, size, &mut Bytes(content)).await.map(drop)
    }

    async fn list(&self, path: &str) -> Result<Vec<DirEntry>, SandboxError> {
        layout::path(path)?;
        let session = self.0.ready("list a directory")?;
        let request = Request::List(path.as_bytes().to_vec());
        match self.0.ask(&session, session.link.stream(), path, &request).await? {
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

    async fn stat(&self, path: &str) -> Result<Option<Stat>, SandboxError> {
        layout::path(path)?;
        let session = self.0.ready("look at a file")?;
        let request = Request::Stat(path.as_bytes().to_vec());
        match self.0.ask(&session, session.link.stream(), path, &request).await? {
            Event::Stat(found) => Ok(found.map(stat)),
            _ => Err(SandboxError::AgentLost { cause: "the guest answered nonsense".to_owned() }),
        }
    }

    async fn remove(&self, path: &str) -> Result<(), SandboxError> {
        layout::path(path)?;
        let session = self.0.ready("remove a file")?;
        let request = Request::Remove(path.as_bytes().to_vec());
        self.0.ask(&session, session.link.stream(), path, &request).await.map(drop)
    }

    async fn stop(&self) -> Result<(), SandboxError> {
        let inner = Arc::clone(&self.0);
        finished(tokio::spawn(async move { inner.stop().await })).await
    }

    async fn destroy(&self) -> Result<(), SandboxError> {
        let inner = Arc::clone(&self.0);
        finished(tokio::spawn(async move { inner.destroy().await })).await
    }

    fn status(&self) -> SandboxStatus {
        self.0.status()
    }

    async fn usage(&self) -> Result<SandboxUsage, SandboxError> {
        let state = lock(&self.0.state);
        match &state.guest {
            Some(guest) => Ok(lock(&guest.group).usage()),
            None => Err(invalid_state(&state.status, "be measured")),
        }
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

/// A local file that goes unless it becomes whole.
struct Unfinished {
    path: std::path::PathBuf,
    whole: bool,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.whole {
            let _never_made = std::fs::remove_file(&self.path);
        }
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
