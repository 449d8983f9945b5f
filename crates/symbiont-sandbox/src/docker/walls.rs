//! The walls of the docker driver: a container, and within it those that the guest builds everywhere.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use symbiont_guest::protocol::{Request, Setup};
use symbiont_types::{SandboxConfig, SandboxError, SandboxId};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::api::{CgroupLayout, IsolationReport, Options, SandboxUsage};
use crate::cgroup::Group;
use crate::docker::Host;
use crate::docker::engine::{Content, SHORT};
use crate::docker::image::{Base, GUEST_PATH};
use crate::instance::Range;
use crate::layout::NAMESPACES;
use crate::link::FIRST_PING;
use crate::sandbox::{Raised, Walls, errno_text, greet, lock, token};
use crate::seccomp;

/// How long a container may take to go.
const REMOVAL: Duration = Duration::from_secs(20);
/// The longest that is read of what the guest itself complains about.
const MAX_COMPLAINT: usize = 4096;
/// What a frame of an attached stream begins with.
const HEADER: usize = 8;

/// What one sandbox is built from.
#[derive(Debug)]
pub(crate) struct DockerWalls {
    host: Arc<Host>,
    name: String,
    id: SandboxId,
    config: SandboxConfig,
    options: Options,
    base: Base,
    setup: Setup,
    /// Whether the engine was asked for a container that is not known to be gone.
    intended: AtomicBool,
}

/// A container and what was taken for it.
#[derive(Debug)]
pub(crate) struct Body {
    /// Its control groups, where we see them.
    group: Option<Group>,
    ids: Mutex<Option<Range>>,
}

impl DockerWalls {
    pub(crate) fn new(
        host: Arc<Host>,
        id: SandboxId,
        config: SandboxConfig,
        options: &Options,
        base: Base,
        mut setup: Setup,
    ) -> Self {
        setup.token = token();
        let name = format!("sbx-{}", id.as_uuid().simple());
        let (options, intended) = (options.clone(), AtomicBool::new(false));
        Self { host, name, id, config, options, base, setup, intended }
    }

    /// What will be in force, as far as it is known before there is a container.
    pub(crate) fn planned(&self) -> IsolationReport {
        let limits = &self.config.resource_limits;
        IsolationReport {
            driver: "docker".to_owned(),
            limits: vec![
                format!("memory {} MiB", limits.memory_mb),
                format!("processes {}", self.options.processes),
                format!("processor cores {}", limits.cpu_cores),
            ],
            degraded: [
                self.host.missing.clone(),
                vec!["disk and network traffic: not limited by this driver".to_owned()],
            ]
            .concat(),
            ..IsolationReport::default()
        }
    }

    /// What is in force.
    fn report(&self, user: u32, group: Option<&Group>) -> IsolationReport {
        let mut report = IsolationReport {
            // Each its own, within those of the container.
            namespaces: NAMESPACES.map(String::from).into(),
            user_mapping: format!("one id, {user} of the container"),
            no_new_privileges: true,
            capabilities_dropped: true,
            cgroup: group.map_or(CgroupLayout::None, Group::layout),
            network: "none".to_owned(),
            rootfs: match &self.base {
                Base::Busybox => "built-in busybox, read-only".to_owned(),
                Base::Image(name) => format!("image {name}, read-only"),
            },
            seccomp: Some(seccomp::summary(self.options.profile)),
            ..self.planned()
        };
        if group.is_none() {
            let unseen = "usage and kills for lack of memory: the container's control groups can't be \
                          seen from here";
            report.degraded.push(unseen.to_owned());
        }
        report
    }

    /// What the engine is to make.
    fn container(&self, image: &str, user: u32) -> Value {
        let limits = &self.config.resource_limits;
        let memory = limits.memory_mb << 20;
        // The engine takes no more than the machine has, nor less than a hundredth of a core.
        let most = f64::from(u32::try_from(self.host.processors).unwrap_or(u32::MAX));
        #[expect(clippy::cast_possible_truncation, reason = "at most the machine's processors")]
        let nano_cpus = (limits.cpu_cores.clamp(0.01, most) * 1e9) as i64;
        json!({
            "Image": image,
            "Entrypoint": [GUEST_PATH],
            "Cmd": [],
            "Env": [],
            "User": format!("{user}:{user}"),
            "WorkingDir": "/",
            "Hostname": "sandbox",
            "Labels": self.host.labels(self.id),
            "OpenStdin": true,
            // When whoever is attached goes, the guest reads the end of its input, and ends.
            "StdinOnce": true,
            "AttachStdin": true,
            "AttachStdout": true,
            "AttachStderr": true,
            "Tty": false,
            "NetworkDisabled": true,
            "HostConfig": {
                "NetworkMode": "none",
                "ReadonlyRootfs": true,
                "CapDrop": ["ALL"],
                "SecurityOpt": [
                    "no-new-privileges",
                    // The guest builds walls of its own, which the engine's own filter and profile
                    // forbid; commands run under the guest's filter as well.
                    format!("seccomp={}", seccomp::engine_profile(self.options.profile)),
                    "apparmor=unconfined",
                ],
                // The kernel shows a new view of /proc only where no part of it is covered. Commands see
                // that one, which has nothing but their own processes.
                "MaskedPaths": [],
                "ReadonlyPaths": [],
                "Memory": memory,
                "MemorySwap": memory,
                "NanoCpus": nano_cpus,
                "CpusetCpus": self.processors(),
                "PidsLimit": self.options.processes,
                // Not 0, at which a program of the host's gets them still.
            "Ulimits": [{ "Name": "core", "Soft": 1, "Hard": 1 }],
                "IpcMode": "private",
                "LogConfig": { "Type": "none", "Config": {} },
                "AutoRemove": false,
                "Init": false,
                "Privileged": false,
            },
        })
    }

    /// So many processors as the limit fills, so that programs see no more.
    fn processors(&self) -> String {
        let cores = self.config.resource_limits.cpu_cores;
        let all = self.host.processors.max(1);
        // Not the same ones for every sandbox.
        let first = u64::from(self.id.as_uuid().as_bytes()[15]) % all;
        let used =
            (0..all).take_while(|&n| n == 0 || f64::from(u32::try_from(n).unwrap_or(0)) < cores);
        let numbers: Vec<String> = used.map(|n| ((first + n) % all).to_string()).collect();
        numbers.join(",")
    }

    fn path(&self, rest: &str) -> String {
        format!("/containers/{}{rest}", self.name)
    }

    /// Makes the container and starts the guest in it.
    async fn boot(&self, user: u32) -> Result<(UnixStream, Option<Group>), SandboxError> {
        let engine = &self.host.engine;
        let image = self.host.images.with_guest(engine, &self.base, crate::GUEST).await?;
        step!("it has an image", self.name);
        let container = self.container(&image, user);
        let path = format!("/containers/create?name={}", self.name);
        self.host.instance.intend().map_err(|error| SandboxError::CreateFailed {
            reason: format!("write down that there may be a container: {error}"),
        })?;
        self.intended.store(true, Ordering::Relaxed);
        step!("a container is intended", self.name);
        engine.must("make a container", Method::POST, &path, Content::Json(&container)).await?;
        step!("a container is there", self.name);
        let query = "/attach?stream=1&stdin=1&stdout=1&stderr=1";
        let attached = engine.hijack("attach to a container", &self.path(query)).await?;
        step!("it is attached to", self.name);
        let start = self.path("/start");
        engine.must("start a container", Method::POST, &start, Content::Nothing).await?;
        step!("it is started", self.name);
        let failed = |error: io::Error| SandboxError::CreateFailed {
            reason: format!("make a socket: {error}"),
        };
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        tokio::spawn(pump(attached, theirs));
        let mut frames = Vec::new();
        Request::Setup(Box::new(self.setup.clone())).encode(0, &mut frames);
        Request::Go.encode(0, &mut frames);
        Request::Ping.encode(FIRST_PING, &mut frames);
        let mut ours = ours;
        ours.write_all(&frames).await.map_err(failed)?;
        Ok((ours, self.group().await))
    }

    /// The container's control groups, if they are the host's that we see.
    async fn group(&self) -> Option<Group> {
        let path = self.path("/json");
        let answer = self
            .host
            .engine
            .ask("look at a container", Method::GET, &path, Content::Nothing, SHORT)
            .await
            .ok()?;
        let answer = answer.json();
        let pid = u32::try_from(answer["State"]["Pid"].as_u64()?).ok()?;
        Group::of_container(pid, answer["Id"].as_str()?)
    }

    /// Has the engine pause or unpause the container.
    async fn switch(&self, how: &str) -> Result<(), SandboxError> {
        let path = self.path(&format!("/{how}"));
        let what = format!("{how} a container");
        let answer =
            self.host.engine.ask(&what, Method::POST, &path, Content::Nothing, SHORT).await?;
        if answer.status.is_success() {
            return Ok(());
        }
        let reason = format!("docker: {what}: {}", answer.message());
        Err(SandboxError::BackendUnavailable { reason })
    }

    /// Removes the container, if there may be one.
    async fn remove(&self) -> Result<(), SandboxError> {
        if !self.intended.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.remove_container().await?;
        if self.intended.swap(false, Ordering::Relaxed) {
            self.host.instance.done();
        }
        step!("a container is gone", self.name);
        Ok(())
    }

    async fn remove_container(&self) -> Result<(), SandboxError> {
        let engine = &self.host.engine;
        let begun = tokio::time::Instant::now();
        let path = self.path("?force=1&v=1");
        loop {
            let answer = engine
                .ask("remove a container", Method::DELETE, &path, Content::Nothing, SHORT)
                .await?;
            match answer.status {
                StatusCode::NOT_FOUND => return Ok(()),
                status if status.is_success() => return Ok(()),
                // Somebody else is at it, or its mounts are busy for a moment: the engine tells nobody
                // when that is over.
                _ if begun.elapsed() < REMOVAL => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                _ => {
                    let reason = format!("docker: remove a container: {}", answer.message());
                    return Err(SandboxError::BackendUnavailable { reason });
                }
            }
        }
    }
}

#[async_trait]
impl Walls for DockerWalls {
    type Body = Body;

    async fn raise(&self) -> Result<Raised<Body>, SandboxError> {
        let ids = self.host.take_ids()?;
        let user = ids.as_ref().map_or(1000, |range| range.first + 1000);
        let raised = async {
            let (socket, group) = self.boot(user).await?;
            let link = greet(socket, self.setup.token, not_set_up).await?;
            Ok((link, group))
        };
        match raised.await {
            Ok((link, group)) => {
                let report = self.report(user, group.as_ref());
                Ok(Raised { body: Body { group, ids: Mutex::new(ids) }, link, report })
            }
            Err(error) => {
                match (self.remove().await, ids) {
                    (Ok(()), Some(range)) => self.host.instance.return_ids(range),
                    (Ok(()), None) => {}
                    // It may be there, or yet to come, and then its ids are not another's.
                    (Err(left), _) => {
                        tracing::warn!(sandbox = %self.name, %left, "a container was left behind");
                    }
                }
                Err(error)
            }
        }
    }

    async fn raze(&self, body: &Body) -> Result<(), SandboxError> {
        self.remove().await?;
        if let Some(range) = lock(&body.ids).take() {
            self.host.instance.return_ids(range);
        }
        Ok(())
    }

    async fn clear(&self) -> Result<(), SandboxError> {
        self.remove().await
    }

    fn oom_kills(&self, body: &Body) -> Option<u64> {
        body.group.as_ref()?.oom_kills()
    }

    async fn vanished(&self, _: &Body) -> bool {
        let engine = &self.host.engine;
        // One that is being removed is ended first.
        let path = self.path("/wait?condition=not-running");
        let _gone_already =
            engine.ask("await a container", Method::POST, &path, Content::Nothing, SHORT).await;
        let path = self.path("/json");
        let looked = engine.ask("look at a container", Method::GET, &path, Content::Nothing, SHORT);
        looked.await.is_ok_and(|answer| {
            let state = &answer.json()["State"]["Status"];
            answer.status == StatusCode::NOT_FOUND || *state == "removing" || *state == "dead"
        })
    }

    async fn usage(&self, body: &Body) -> Result<SandboxUsage, SandboxError> {
        Ok(body.group.as_ref().map(Group::usage).unwrap_or_default())
    }

    async fn pause(&self, _: &Body) -> Result<(), SandboxError> {
        self.switch("pause").await
    }

    async fn resume(&self, _: &Body) -> Result<(), SandboxError> {
        self.switch("unpause").await
    }

    fn refusal(&self, step: &str, errno: i32) -> Option<SandboxError> {
        (step == "mount /proc").then(|| not_set_up(step, errno))
    }
}

/// Why the guest could not build its walls within the container.
fn not_set_up(step: &str, errno: i32) -> SandboxError {
    let text = errno_text(errno);
    if step == "make the namespaces" || step == "make `/proc`" || step == "mount /proc" {
        return SandboxError::IsolationUnavailable {
            control: "namespaces within a container".to_owned(),
            reason: format!(
                "{step}: {text}; allow user namespaces on the engine's host (`sysctl \
                 user.max_user_namespaces=16384` and, where it exists, \
                 `kernel.unprivileged_userns_clone=1`)"
            ),
        };
    }
    SandboxError::CreateFailed { reason: format!("{step}: {text}") }
}

/// Carries bytes between the guest and whoever holds the other end, until one of them is done.
async fn pump(
    attached: impl AsyncRead + tokio::io::AsyncWrite + Send + 'static,
    socket: UnixStream,
) {
    let (mut from_guest, mut to_guest) = tokio::io::split(attached);
    let (mut from_us, mut to_us) = socket.into_split();
    let inward = async {
        let _ended = tokio::io::copy(&mut from_us, &mut to_guest).await;
        let _closed = to_guest.shutdown().await;
        // The guest has read the end of its input; what it still says is of no use.
    };
    let outward = async {
        if let Err(error) = split(&mut from_guest, &mut to_us).await {
            tracing::debug!(%error, "the stream of a container ended");
        }
    };
    tokio::select! {
        () = inward => {}
        () = outward => {}
    }
}

/// Passes on what is standard output in a stream that carries several.
async fn split(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let mut complaint = 0;
    loop {
        let mut header = [0; HEADER];
        match from.read_exact(&mut header).await {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
        let mut left = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        while left > 0 {
            let wanted = left.min(buffer.len());
            let count = from.read(&mut buffer[..wanted]).await?;
            if count == 0 {
                return Ok(());
            }
            left -= count;
            match header[0] {
                1 => to.write_all(&buffer[..count]).await?,
                _ if complaint < MAX_COMPLAINT => {
                    complaint += count;
                    let text = String::from_utf8_lossy(&buffer[..count]);
                    tracing::warn!(%text, "a guest complains");
                }
                _ => {}
            }
        }
    }
}
