//! The driver that gives a sandbox a kernel of its own: gVisor's, by its program `runsc`.
//!
//! What a command asks of its kernel is answered by a program, and little of it reaches the host's.
//! The guest is the first process inside: it speaks over the socket that is its standard input, so
//! that a command costs frames and no start of `runsc`. There is nothing for it to build: the root
//! is made by `runsc`, out of the same parts as that of any driver.
//!
//! # What holds
//!
//! - `runsc` and all it starts are in control groups of ours from their first instruction: what the
//!   sandbox uses is counted there, its own kernel included, and it is killed there.
//! - When this process ends in whatever way, the guest's socket ends, and the sandbox with it. What
//!   is left of it, groups and a directory, is removed by the next instance that meets there.
//! - Nothing is removed that something is mounted on.
//!
//! # What is not here
//!
//! Checkpoints, which gVisor has, and a network. No filter in the description either: `runsc` passes over
//! the calls in it whose names it does not know, and would then refuse them in a way that programs do
//! not take for "not there". Commands are under the guest's own, in the sandbox's kernel. A version of `runsc` older than any that was tried
//! is refused.

mod spec;
mod walls;

use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use symbiont_types::{RootFilesystem, SandboxConfig, SandboxError, SandboxId, SecurityTier};

use crate::api::{self, Driver, Options, Probe, Sandbox};
use crate::cgroup::{self, Cgroups};
use crate::instance::{self, Instance};
use crate::layout::{self, Root};
use crate::process::guest_in_memory;
use crate::sandbox::Seat;
use crate::{GUEST, request, seccomp};
use walls::GvisorWalls;

/// Where `runsc` is looked for.
const PLACES: [&str; 5] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/bin"];
/// Which way of catching system calls a version has: the date of the first one, and its name.
const PLATFORMS: [(u32, &str); 2] = [(20_230_911, "systrap"), (OLDEST, "ptrace")];
/// The oldest version that was tried.
const OLDEST: u32 = 20_221_219;
/// The longest answer to the question what version it is.
const MAX_ANSWER: usize = 4096;

/// What differs from host to host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GvisorOptions {
    /// Where `runsc` is; looked for among the host's programs if it is not given.
    pub program: Option<PathBuf>,
    /// How gVisor catches system calls, such as `ptrace`, `systrap` or `kvm`; what its version does
    /// best if it is not given.
    pub platform: Option<String>,
    /// Whether to run a version that is older than any that was tried, or that can't be read.
    pub any_version: bool,
}

/// Makes sandboxes with a kernel of their own.
#[derive(Debug)]
pub struct GvisorDriver {
    host: Arc<Host>,
}

/// What all sandboxes of one driver share.
#[derive(Debug)]
struct Host {
    runsc: PathBuf,
    version: String,
    /// The day that the version is of.
    date: Option<u32>,
    platform: String,
    guest: OwnedFd,
    /// This instance's directory, with the guest in it as a file. It goes with the instance.
    directory: PathBuf,
    _instance: Instance,
    cgroups: Cgroups,
    filters: seccomp::Filters,
    files: layout::HostFiles,
    root: bool,
    processors: Vec<u32>,
}

impl GvisorDriver {
    /// A driver that keeps what it must remember in `state_dir`, as
    /// [`ProcessDriver`](crate::ProcessDriver::new) does, and its sandboxes' directories as well.
    ///
    /// Removes what instances that are dead have left.
    ///
    /// # Errors
    ///
    /// `BackendUnavailable` when there is no `runsc`, or none of a version that is known to work.
    pub async fn new(
        state_dir: Option<&Path>,
        options: GvisorOptions,
    ) -> Result<Self, SandboxError> {
        let failed = |what: String| {
            move |error: io::Error| SandboxError::BackendUnavailable {
                reason: format!("{what}: {error}"),
            }
        };
        let GvisorOptions { program, platform, any_version } = options;
        let (runsc, answer) = ask_version(program).await?;
        let date = version_date(&answer);
        if date.is_none_or(|date| date < OLDEST) && !any_version {
            return Err(SandboxError::BackendUnavailable {
                reason: format!(
                    "`{}` is `{answer}`, which was not tried with this driver; {OLDEST} and newer \
                     ones are known to work",
                    runsc.display()
                ),
            });
        }
        let best = |date| PLATFORMS.iter().find(|(from, _)| date >= *from).map(|(_, name)| *name);
        let platform =
            platform.unwrap_or_else(|| date.and_then(best).unwrap_or("ptrace").to_owned());

        let found = cgroup::read_found();
        let (instance, meeting) =
            Instance::meet(state_dir, None, |name| cgroup::bases(&found, name))?;
        let all = meeting.join("gvisor");
        let directory = all.join(&instance.name);
        prepare(&directory).map_err(failed(format!("the directory `{}`", directory.display())))?;
        step!("an instance has a directory", instance.name);
        let guest = guest_in_memory().map_err(failed("the guest can't be kept".to_owned()))?;
        let cgroups = Cgroups::new(&instance.name, &found);
        let filters = seccomp::Filters::new(cgroups.has("cpu"));
        let host = Host {
            runsc,
            version: answer,
            date,
            platform,
            guest,
            directory,
            _instance: instance,
            cgroups,
            filters,
            files: layout::HostFiles::look_up(),
            root: instance::gives_ids(),
            processors: layout::our_processors(),
        };
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
        let files = &config.filesystem_config;
        if let RootFilesystem::Image(image) = &files.rootfs {
            return Err(SandboxError::ImageMissing {
                image: format!("`{image}`: the gvisor driver serves none"),
            });
        }
        if let Some(mount) = files.mounts.iter().find(|mount| !mount.read_only) {
            return Err(SandboxError::IsolationUnavailable {
                control: "mounts that can be written".to_owned(),
                reason: format!(
                    "what a sandbox writes to `{}` would belong to this host's user 1000; copy files \
                     in and out instead",
                    mount.target
                ),
            });
        }
        let whole = self.host.cgroups.has("memory");
        let filters = self.host.filters.of(options.profile);
        let setup = layout::plan(config, options, Root::Host(&self.host.files), whole, filters)?;
        let host = Arc::clone(&self.host);
        let walls = GvisorWalls::new(host, id, config.clone(), options, setup)?;
        let report = walls.planned();
        Ok(Arc::new(Seat::new(walls, id, config.clone(), report, false)))
    }
}

#[async_trait]
impl Driver for GvisorDriver {
    fn name(&self) -> &'static str {
        "gvisor"
    }

    fn tier(&self) -> SecurityTier {
        SecurityTier::Tier2
    }

    async fn probe(&self) -> Probe {
        api::probe(self.tier(), |id, config| self.plan(id, config, &Options::lenient())).await
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

/// Where `runsc` is, and what it says it is.
async fn ask_version(program: Option<PathBuf>) -> Result<(PathBuf, String), SandboxError> {
    let unavailable = |reason: String| SandboxError::BackendUnavailable { reason };
    let runsc = program
        .or_else(|| PLACES.iter().map(|p| Path::new(p).join("runsc")).find(|path| path.is_file()))
        .ok_or_else(|| {
            unavailable("there is no `runsc` among this host's programs: install it".to_owned())
        })?;
    let asked = tokio::process::Command::new(&runsc)
        .arg("--version")
        .env_clear()
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    let answer = match tokio::time::timeout(walls::PATIENCE, asked).await {
        Ok(Ok(output)) if output.status.success() => output.stdout,
        Ok(Ok(output)) => {
            return Err(unavailable(format!("`{}`: {}", runsc.display(), output.status)));
        }
        Ok(Err(error)) => return Err(unavailable(format!("`{}`: {error}", runsc.display()))),
        Err(_) => return Err(unavailable(format!("`{}` does not answer", runsc.display()))),
    };
    let answer = String::from_utf8_lossy(&answer[..answer.len().min(MAX_ANSWER)]);
    let first = answer.lines().next().unwrap_or_default();
    Ok((runsc, first.strip_prefix("runsc version ").unwrap_or(first).to_owned()))
}

/// The day that a version is of, as in `release-20221212.0` and in `0.0~20221219.0`.
fn version_date(version: &str) -> Option<u32> {
    let parts = version.split(|c: char| !c.is_ascii_digit());
    parts.filter(|part| part.len() == 8).find_map(|part| part.parse().ok())
}

/// A directory of ours alone, with the guest in it.
fn prepare(directory: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let mut options = fs::OpenOptions::new();
    let mut file =
        options.write(true).create_new(true).mode(0o500).open(directory.join(spec::GUEST_FILE))?;
    file.write_all(GUEST)?;
    // Whatever the mask of this process is.
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o555))
}

/// Removes a directory of an instance or a sandbox with all that is in it, unless something is mounted there: that is not
/// ours to empty. That it is gone already is no failure.
pub(crate) fn remove(directory: &Path) -> io::Result<()> {
    if !directory.exists() {
        return Ok(());
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let within = |line: &str| {
        line.split(' ').nth(4).is_some_and(|point| Path::new(point).starts_with(directory))
    };
    if mounts.lines().any(within) {
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, "something is mounted in it"));
    }
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_has_a_day() {
        for (version, want) in [
            ("0.0~20221219.0", Some(20_221_219)),
            ("release-20240930.0", Some(20_240_930)),
            ("release-20240930.0-12-g0123456789ab", Some(20_240_930)),
            ("VERSION_MISSING", None),
            ("1.2.3", None),
            ("", None),
        ] {
            assert_eq!(version_date(version), want, "{version}");
        }
    }
}
