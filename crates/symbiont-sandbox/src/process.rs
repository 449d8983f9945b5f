//! The driver that needs nothing but a Linux kernel.
//!
//! The guest program is embedded in this library and runs from memory. It is started once, and forks a
//! child of ours into new namespaces for each sandbox ([`fork_server`]); that one builds a root of
//! read-only host programs and memory, and is the first process of the sandbox. Commands run beneath it
//! as an ordinary user without any power. It is in its control groups before it does anything, so every
//! process of the sandbox is counted.
//!
//! # What holds
//!
//! - Without user namespaces there is no sandbox: creation fails and says what to do.
//! - When this process ends in whatever way, the guest's socket ends, and the kernel ends every
//!   process of the sandbox with it. What is left of it in control groups is removed by the next
//!   instance, wherever that runs.
//! - The host opens no path that a sandbox controls.
//!
//! # What is not here
//!
//! It is a shared-kernel tier and no more: a hole in the kernel is a hole in it. Images, egress and
//! snapshots come with later pages.

mod fork_server;
mod walls;

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use symbiont_types::{SandboxConfig, SandboxError, SandboxId, SecurityTier};

use crate::api::{self, Control, Driver, Options, Probe, Sandbox};
use crate::cgroup::{self, Cgroups};
use crate::instance::{self, Instance};
use crate::layout::{self, Root};
use crate::sandbox::Seat;
use crate::{GUEST, request, seccomp};
use fork_server::ForkServer;
use walls::ProcessWalls;

/// Makes sandboxes out of namespaces, control groups and system call filters.
#[derive(Debug)]
pub struct ProcessDriver {
    host: Arc<Host>,
}

/// What all sandboxes of one driver share.
#[derive(Debug)]
struct Host {
    agents: ForkServer,
    instance: Instance,
    cgroups: Cgroups,
    filters: seccomp::Filters,
    files: layout::HostFiles,
    /// Whether user ids can be given out, which only root can.
    root: bool,
    processors: Vec<u32>,
}

impl Host {
    /// The groups of ours that commands keep.
    ///
    /// An ordinary user may map a group only after having forgone to change them.
    fn kept_groups(&self) -> Option<String> {
        let own = rustix::process::getegid();
        let groups = rustix::process::getgroups().unwrap_or_default();
        let mut kept: Vec<u32> =
            groups.into_iter().filter(|group| *group != own).map(|group| group.as_raw()).collect();
        kept.sort_unstable();
        kept.dedup();
        (!self.root && !kept.is_empty()).then(|| {
            let kept: Vec<String> = kept.iter().map(u32::to_string).collect();
            format!(
                "groups: commands keep the groups of this user beside the first ({}), as only root can \
                 give them up, and may read of the host's files that are shown to them what those may",
                kept.join(", ")
            )
        })
    }

    /// What commands can do to the kernel's choice of whom to end when memory is short.
    ///
    /// They begin at 500, the agent at 0, and nobody may go below what a privileged process last
    /// wrote. Only who holds `CAP_SYS_RESOURCE`, which root of a container may lack, can make that 0;
    /// otherwise it is at most what this process was given.
    fn lowest_score(&self) -> Option<String> {
        let ours: i32 =
            std::fs::read_to_string("/proc/self/oom_score_adj").ok()?.trim().parse().ok()?;
        let needed = rustix::thread::CapabilitySet::SYS_RESOURCE;
        let held =
            rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(needed));
        (!(self.root && held) && ours < 0).then(|| {
            format!(
                "memory killer: commands that are not under Landlock may lower their score to {ours}, \
                 as this process was started with it and has no right to take it from them"
            )
        })
    }
}

impl ProcessDriver {
    /// A driver that keeps what it must remember in `state_dir`, or, for root, where all
    /// instances of the host find it. Without one an ordinary user's is in `/run/user/UID`, or among
    /// the temporary files of the host.
    ///
    /// Removes what instances that are dead have left in control groups.
    pub fn new(state_dir: Option<&Path>) -> Result<Self, SandboxError> {
        let found = cgroup::read_found();
        let (instance, _) = Instance::meet(state_dir, None, |name| cgroup::bases(&found, name))?;
        let cgroups = Cgroups::new(&instance.name, &found);
        let guest = guest_in_memory().map_err(|error| SandboxError::BackendUnavailable {
            reason: format!(
                "the guest can't be kept in memory: {error}{}",
                match error.raw_os_error() {
                    Some(libc::EFBIG) => "; `ulimit -f` shows how large files may be: raise it",
                    _ => "",
                }
            ),
        })?;
        let filters = seccomp::Filters::new(cgroups.has("cpu"));
        let processors = layout::our_processors();
        let files = layout::HostFiles::look_up();
        let root = instance::gives_ids();
        let agents = ForkServer::new(guest);
        let host = Host { agents, instance, cgroups, filters, files, root, processors };
        Ok(Self { host: Arc::new(host) })
    }

    fn plan(
        &self,
        id: SandboxId,
        config: &SandboxConfig,
        options: &Options,
    ) -> Result<Arc<dyn Sandbox>, SandboxError> {
        let missing = &self.host.cgroups.missing;
        request::sandbox(config, options, missing, self.name(), self.tier())?;
        let whole = self.host.cgroups.has("memory");
        let root = Root::Host(&self.host.files);
        let setup =
            layout::plan(config, options, root, whole, self.host.filters.of(options.profile))?;
        let host = Arc::clone(&self.host);
        let walls = ProcessWalls::new(host, id, config.clone(), options, setup)?;
        let report = walls.planned();
        let landlock = !options.allow_degraded.contains(&Control::Landlock);
        Ok(Arc::new(Seat::new(walls, id, config.clone(), report, landlock)))
    }
}

#[async_trait]
impl Driver for ProcessDriver {
    fn name(&self) -> &'static str {
        "process"
    }

    fn tier(&self) -> SecurityTier {
        SecurityTier::Tier1
    }

    async fn probe(&self) -> Probe {
        let probe =
            api::probe(self.tier(), |id, config| self.plan(id, config, &Options::lenient())).await;
        match probe.available {
            true => probe,
            false => Probe { degraded: self.host.cgroups.missing.clone(), ..probe },
        }
    }

    async fn create_with(
        &self,
        id: SandboxId,
        config: &SandboxConfig,
        options: &Options,
    ) -> Result<Arc<dyn Sandbox>, SandboxError> {
        self.plan(id, config, options)
    }
}

/// The guest as a file without a name, that can only be read and executed.
pub(crate) fn guest_in_memory() -> std::io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = rustix::fs::memfd_create("symbiont-guest", flags)?;
    let mut file = File::from(memory);
    file.write_all(GUEST)?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(0o555))?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    // What is open for writing can't be executed, so it is opened again.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}
