//! The walls of the process driver: namespaces around the guest, control groups around those.

use std::os::unix::ffi::OsStringExt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use symbiont_guest::protocol::{MAX_FRAME, Request, Setup};
use symbiont_guest::users::{self, IDS};
use symbiont_types::{SandboxConfig, SandboxError, SandboxId};

use crate::api::{IsolationReport, Options, SandboxUsage};
use crate::cgroup::Group;
use crate::family::{Family, First};
use crate::instance::Range;
use crate::layout::{self, NAMESPACES};
use crate::link::FIRST_PING;
use crate::process::Host;
use crate::process::fork_server::Unborn;
use crate::sandbox::{Raised, Walls, errno_text, greet, lock, token};
use crate::seccomp;

/// What one sandbox is built from.
#[derive(Debug)]
pub(crate) struct ProcessWalls {
    host: Arc<Host>,
    name: String,
    config: SandboxConfig,
    options: Options,
    setup: Setup,
}

/// The guest and all it started, and the user ids that they have.
#[derive(Debug)]
pub(crate) struct Body {
    family: Family,
    ids: Mutex<Option<Range>>,
}

impl ProcessWalls {
    pub(crate) fn new(
        host: Arc<Host>,
        id: SandboxId,
        config: SandboxConfig,
        options: &Options,
        mut setup: Setup,
    ) -> Result<Self, SandboxError> {
        let name = format!("sbx-{}", id.as_uuid().simple());
        setup.token = token();
        setup.groups = host
            .cgroups
            .to_enter(&name)
            .into_iter()
            .map(|path| path.into_os_string().into_vec())
            .collect();
        setup.processors = layout::processors(&host.processors, config.resource_limits.cpu_cores);
        let mut encoded = Vec::new();
        Request::Setup(Box::new(setup.clone())).encode(0, &mut encoded);
        if encoded.len() > MAX_FRAME {
            return Err(SandboxError::InvalidArgument {
                what: "the root or the mounts have too many entries".to_owned(),
            });
        }
        Ok(Self { host, name, config, options: options.clone(), setup })
    }

    /// What will be in force, as far as it is known before the guest has said so.
    pub(crate) fn planned(&self) -> IsolationReport {
        planned_report(&self.host, &self.config, self.options.processes)
    }

    /// What is in force.
    fn report(&self, first_id: Option<u32>) -> IsolationReport {
        IsolationReport {
            namespaces: NAMESPACES.map(String::from).into(),
            user_mapping: match first_id {
                Some(first) => format!("{IDS} ids from {first}"),
                None => "one id".to_owned(),
            },
            no_new_privileges: true,
            capabilities_dropped: true,
            network: "none".to_owned(),
            rootfs: format!("{}, read-only", self.config.filesystem_config.rootfs),
            seccomp: Some(seccomp::summary(self.options.profile)),
            ..self.planned()
        }
    }
}

#[async_trait]
impl Walls for ProcessWalls {
    type Body = Body;

    async fn raise(&self) -> Result<Raised<Body>, SandboxError> {
        let failed = |step: &str, error: &dyn std::fmt::Display| SandboxError::CreateFailed {
            reason: format!("{step}: {error}"),
        };
        let ids = if self.host.root {
            Some(self.host.instance.take_ids().map_err(|e| failed("take user ids", &e))?)
        } else {
            None
        };
        step!("ids are taken", self.name);
        let first_id = ids.as_ref().map(|range| range.first);
        let limits = &self.config.resource_limits;
        let cgroups = &self.host.cgroups;
        // The one is made while the other is.
        let (agent, group) = tokio::join!(self.host.agents.agent(first_id), async {
            cgroups.create(&self.name, limits, self.options.processes)
        });
        let (agent, socket) = match agent {
            Ok(made) => made,
            Err(why) => {
                let _swept_later = group.and_then(|mut group| group.remove());
                return Err(match why {
                    Unborn::Refused(errno) => not_set_up("make the namespaces", errno),
                    Unborn::Gone => failed(
                        "make the agent",
                        &"what makes it ends, or does not answer, again and again",
                    ),
                    Unborn::Failed(error) => failed("make the agent", &error),
                });
            }
        };
        step!("the guest is there", self.name);
        let (group, made) = match group {
            Ok(group) => (group, Ok(())),
            Err(error) => (Group::default(), Err(failed("make the control groups", &error))),
        };
        let placed = group.add(agent.id());
        let mapped = users::map(agent.id(), first_id);
        step!("the guest is placed", self.name);
        let family = Family::new(First::Agent(agent), group);
        let body = Body { family, ids: Mutex::new(ids) };
        let result = async {
            made?;
            placed.map_err(|e| failed("enter the control groups", &e))?;
            mapped.map_err(|(name, e)| {
                not_set_up(&format!("write {name}"), e.raw_os_error().unwrap_or(libc::EIO))
            })?;
            // The ping is under way before the guest has said anything, which spares a round trip.
            let mut frames = Vec::new();
            let setup = Setup { first_id, ..self.setup.clone() };
            Request::Setup(Box::new(setup)).encode(0, &mut frames);
            Request::Go.encode(0, &mut frames);
            Request::Ping.encode(FIRST_PING, &mut frames);
            let mut socket = socket;
            tokio::io::AsyncWriteExt::write_all(&mut socket, &frames)
                .await
                .map_err(|e| failed("send the set-up", &e))?;
            step!("the guest begins", self.name);
            greet(socket, self.setup.token, not_set_up).await
        };
        match result.await {
            Ok(link) => {
                let report = self.report(first_id);
                Ok(Raised { body, link, report })
            }
            Err(error) => {
                if let Err(left) = self.raze(&body).await {
                    tracing::warn!(sandbox = %self.name, %left, "a sandbox left something behind");
                }
                Err(error)
            }
        }
    }

    async fn raze(&self, body: &Body) -> Result<(), SandboxError> {
        // The agent ends with its socket, and the kernel ends everything else with the agent.
        body.family.end().await?;
        step!("it is gone", self.name);
        if let Some(range) = lock(&body.ids).take() {
            self.host.instance.return_ids(range);
        }
        Ok(())
    }

    fn oom_kills(&self, body: &Body) -> Option<u64> {
        body.family.oom_kills()
    }

    async fn usage(&self, body: &Body) -> Result<SandboxUsage, SandboxError> {
        Ok(body.family.usage())
    }

    async fn pause(&self, body: &Body) -> Result<(), SandboxError> {
        body.family.pause().await
    }

    async fn resume(&self, body: &Body) -> Result<(), SandboxError> {
        body.family.resume()
    }

    fn refusal(&self, step: &str, errno: i32) -> Option<SandboxError> {
        (step == "mount /proc" && missing(step, errno).is_some()).then(|| not_set_up(step, errno))
    }
}

/// What will be in force, as far as it is known before the guest has said so.
fn planned_report(host: &Host, config: &SandboxConfig, processes: u64) -> IsolationReport {
    let limits = &config.resource_limits;
    let mut in_force = Vec::new();
    if host.cgroups.has("memory") {
        in_force.push(format!("memory {} MiB", limits.memory_mb));
    }
    if host.cgroups.has("pids") {
        in_force.push(format!("processes {processes}"));
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
    degraded.extend(host.lowest_score());
    degraded.extend(host.kept_groups());
    IsolationReport {
        driver: "process".to_owned(),
        cgroup: host.cgroups.layout(),
        limits: in_force,
        degraded,
        ..IsolationReport::default()
    }
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
