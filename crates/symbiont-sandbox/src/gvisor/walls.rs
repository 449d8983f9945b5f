//! The walls of the gvisor driver: `runsc` around the guest, control groups around that.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use symbiont_guest::protocol::{Entry, Request, Setup};
use symbiont_types::{SandboxConfig, SandboxError, SandboxId};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::api::{IsolationReport, Options, SandboxUsage};
use crate::family::{Family, First};
use crate::gvisor::{Host, OLDEST, remove, spec};
use crate::layout;
use crate::link::FIRST_PING;
use crate::sandbox::{Raised, Walls, errno_text, greet, lock, token};
use crate::seccomp;

/// How long `runsc` may take for anything that is no sandbox.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Memory that the sandbox's own kernel takes, beside what is in the sandbox.
const OVERHEAD_MB: u64 = 96;
/// Threads of the host that the sandbox's own kernel may have for each process within. It has some for
/// each of them, and falls when it gets no more.
const THREADS: u64 = 16;
/// The end of what `runsc` complains about that is kept.
const MAX_COMPLAINT: usize = 4096;

/// What one sandbox is built from.
#[derive(Debug)]
pub(crate) struct GvisorWalls {
    host: Arc<Host>,
    name: String,
    config: SandboxConfig,
    options: Options,
    entries: Vec<Entry>,
    setup: Setup,
}

/// `runsc` and all it started, and the sandbox's directory.
#[derive(Debug)]
pub(crate) struct Body {
    family: Family,
    directory: PathBuf,
    complaint: Arc<Mutex<Vec<u8>>>,
}

impl GvisorWalls {
    pub(crate) fn new(
        host: Arc<Host>,
        id: SandboxId,
        config: SandboxConfig,
        options: &Options,
        mut setup: Setup,
    ) -> Result<Self, SandboxError> {
        // The guest finds them there.
        let entries = std::mem::take(&mut setup.entries);
        spec::check(&entries)?;
        setup.token = token();
        let cores = config.resource_limits.cpu_cores;
        setup.processors = layout::processors(&host.processors, cores);
        let name = format!("sbx-{}", id.as_uuid().simple());
        Ok(Self { host, name, config, options: options.clone(), entries, setup })
    }

    /// What will be in force, as far as it is known before there is a sandbox.
    pub(crate) fn planned(&self) -> IsolationReport {
        let limits = &self.config.resource_limits;
        let has = |controller: &str| self.host.cgroups.has(controller);
        let room = layout::room(&self.config);
        let mut in_force = Vec::new();
        if has("memory") {
            let memory = limits.memory_mb;
            in_force.push(format!("memory {memory} MiB, and {OVERHEAD_MB} for its own kernel"));
        }
        in_force.push(format!("processes {}", self.options.processes));
        if has("cpu") {
            in_force.push(format!("processor cores {}", limits.cpu_cores));
        }
        in_force.push(format!("workspace {} MiB", room.workspace >> 20));
        in_force.push(format!("/tmp {} MiB", room.temporary >> 20));
        let mut degraded = self.host.cgroups.missing.clone();
        if has("memory") {
            degraded.push(
                "memory: who takes more than there is ends the whole sandbox and not itself alone"
                    .to_owned(),
            );
        }
        degraded.extend(
            [
                "processes: commands of one sandbox see each other in /proc, and have other numbers \
                 there than they see themselves",
                "Landlock: commands are not under it, which gVisor's kernel does not have",
                "files: their number is not limited, only their size",
                "users: files of the host that it shows are read with the rights of this host's user 1000",
                "disk and network traffic: not limited by this driver",
            ]
            .map(str::to_owned),
        );
        if self.host.date.is_none_or(|date| date <= OLDEST) {
            degraded.extend(
                [
                    "programs: `ls` and `stat` of coreutils 9 fail, as this version of gVisor refuses the flag \
                     AT_NO_AUTOMOUNT that they pass to `statx` and `newfstatat`",
                    "terminals: Control-C and the end of the input have no effect when they are typed; \
                     signals do",
                ]
                .map(str::to_owned),
            );
        }
        IsolationReport {
            driver: "gvisor".to_owned(),
            cgroup: self.host.cgroups.layout(),
            limits: in_force,
            degraded,
            ..IsolationReport::default()
        }
    }

    /// What is in force.
    fn report(&self) -> IsolationReport {
        let Host { version, platform, .. } = &*self.host;
        IsolationReport {
            namespaces: vec![
                format!("a kernel of its own (gVisor {version}, {platform})"),
                "pid (one for each command)".to_owned(),
            ],
            user_mapping: "none of this host: users are the sandbox's own kernel's".to_owned(),
            no_new_privileges: true,
            capabilities_dropped: true,
            network: "none".to_owned(),
            rootfs: format!("{}, read-only", self.config.filesystem_config.rootfs),
            seccomp: Some(format!(
                "{} (by its own kernel)",
                seccomp::summary(self.options.profile)
            )),
            ..self.planned()
        }
    }

    /// `runsc`, by way of our own program, which enters the groups first.
    fn command(&self, directory: &Path) -> tokio::process::Command {
        let program = format!("/proc/self/fd/{}", self.host.guest.as_raw_fd());
        let mut command = tokio::process::Command::new(program);
        command.arg0("symbiont-guest").args(self.host.cgroups.members(&self.name)).arg("--");
        command.arg(&self.host.runsc).arg("--root").arg(directory.join("state"));
        command.args([
            &format!("--platform={}", self.host.platform),
            "--network=none",
            "--ignore-cgroups",
            "--overlay2=none",
            // A pipe, which keeps no more of it than we do.
            "--log=/dev/stderr",
        ]);
        if !self.host.root {
            command.arg("--rootless");
        }
        command.arg("run").arg("--bundle").arg(directory).arg(&self.name);
        command.env_clear();
        command
    }

    /// Starts `runsc`, which has the other end of `ours` as its input.
    fn spawn(&self, directory: &Path, theirs: OwnedFd) -> std::io::Result<tokio::process::Child> {
        // `runsc` gives what it has for its output to the user of its sandbox: that must be nothing of the
        // host's, as `/dev/null` is. Nobody writes to it.
        let (_, nowhere) = std::io::pipe()?;
        self.command(directory)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::from(nowhere))
            .stderr(Stdio::piped())
            // What a terminal sends to all of its foreground is for us, not for the sandbox.
            .process_group(0)
            .spawn()
    }
}

#[async_trait]
impl Walls for GvisorWalls {
    type Body = Body;

    async fn raise(&self) -> Result<Raised<Body>, SandboxError> {
        let failed = |step: &str, error: &dyn std::fmt::Display| SandboxError::CreateFailed {
            reason: format!("{step}: {error}"),
        };
        let directory = self.host.directory.join(&self.name);
        let cleared = |error: SandboxError| {
            let _swept_later = remove(&directory);
            error
        };
        let guest = self.host.directory.join(spec::GUEST_FILE);
        spec::make(&directory, &guest, &self.entries, &self.setup.hostname)
            .map_err(|e| cleared(failed("make the sandbox's directory", &e)))?;
        step!("it has a directory", self.name);
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()
            .and_then(|(ours, theirs)| ours.set_nonblocking(true).map(|()| (ours, theirs)))
            .map_err(|e| cleared(failed("make a socket", &e)))?;
        let mut limits = self.config.resource_limits.clone();
        limits.memory_mb += OVERHEAD_MB;
        let mut group = self
            .host
            .cgroups
            .create(&self.name, &limits, THREADS * self.options.processes)
            .map_err(|e| cleared(failed("make the control groups", &e)))?;
        step!("it has control groups", self.name);
        let mut child = match self.spawn(&directory, theirs.into()) {
            Ok(child) => child,
            Err(error) => {
                let _swept_later = group.remove();
                return Err(cleared(failed("run runsc", &error)));
            }
        };
        step!("runsc is there", self.name);
        let complaint = Arc::default();
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(keep_the_end(stderr, Arc::clone(&complaint)));
        }
        let body = Body { family: Family::new(First::Child(child), group), directory, complaint };
        let result = async {
            let mut frames = Vec::new();
            Request::Setup(Box::new(self.setup.clone())).encode(0, &mut frames);
            Request::Go.encode(0, &mut frames);
            Request::Ping.encode(FIRST_PING, &mut frames);
            let mut socket =
                tokio::net::UnixStream::from_std(ours).map_err(|e| failed("make a socket", &e))?;
            tokio::io::AsyncWriteExt::write_all(&mut socket, &frames)
                .await
                .map_err(|e| failed("send the set-up", &e))?;
            step!("the guest begins", self.name);
            greet(socket, self.setup.token, not_set_up).await
        };
        match result.await {
            Ok(link) => Ok(Raised { body, link, report: self.report() }),
            Err(error) => {
                if let Err(left) = self.raze(&body).await {
                    tracing::warn!(sandbox = %self.name, %left, "a sandbox left something behind");
                }
                Err(self.explain(error, &lock(&body.complaint)))
            }
        }
    }

    async fn raze(&self, body: &Body) -> Result<(), SandboxError> {
        body.family.end().await?;
        step!("its processes and groups are gone", self.name);
        remove(&body.directory).map_err(|error| SandboxError::BackendUnavailable {
            reason: format!("`{}` can't be removed: {error}", body.directory.display()),
        })
    }

    fn oom_kills(&self, body: &Body) -> Option<u64> {
        body.family.oom_kills()
    }

    async fn usage(&self, body: &Body) -> Result<SandboxUsage, SandboxError> {
        // The processes of the host that serve it say nothing about those within.
        Ok(SandboxUsage { processes: None, ..body.family.usage() })
    }

    async fn pause(&self, body: &Body) -> Result<(), SandboxError> {
        body.family.pause().await
    }

    async fn resume(&self, body: &Body) -> Result<(), SandboxError> {
        body.family.resume()
    }

    fn refusal(&self, _step: &str, _errno: i32) -> Option<SandboxError> {
        None
    }
}

impl GvisorWalls {
    /// Why there is no sandbox, with what `runsc` said about it last.
    fn explain(&self, error: SandboxError, complaint: &[u8]) -> SandboxError {
        let text = String::from_utf8_lossy(complaint);
        let Some(last) = text.lines().rfind(|line| !line.trim().is_empty()) else { return error };
        let said = serde_json::from_str::<serde_json::Value>(last).ok();
        let said = said.as_ref().and_then(|line| line["msg"].as_str()).unwrap_or(last);
        let error = match error {
            SandboxError::CreateFailed { reason } => reason,
            other => other.to_string(),
        };
        let reason = format!("{error}; runsc says: {}", said.trim());
        if self.host.root {
            return SandboxError::CreateFailed { reason };
        }
        SandboxError::IsolationUnavailable {
            control: "gVisor for an ordinary user".to_owned(),
            reason: format!("{reason}; run as root, or allow user namespaces"),
        }
    }
}

/// Why the guest could not begin.
fn not_set_up(step: &str, errno: i32) -> SandboxError {
    SandboxError::CreateFailed { reason: format!("{step}: {}", errno_text(errno)) }
}

/// Reads to the end and keeps what came last.
async fn keep_the_end(mut from: impl AsyncRead + Unpin, kept: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = vec![0; MAX_COMPLAINT];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let mut kept = lock(&kept);
        kept.extend(&buffer[..count]);
        let over = kept.len().saturating_sub(MAX_COMPLAINT);
        kept.drain(..over);
    }
}
