//! Control groups: limits and books that the kernel keeps for a set of processes.
//!
//! A host has them in one hierarchy (v2), in one for each controller (v1), or both. Which
//! controller is where is read from `/proc/self/mountinfo` and `/proc/self/cgroup`; each sandbox
//! gets one directory in every hierarchy that has a controller we use, beneath one directory of
//! this instance.
//!
//! # What holds
//!
//! - Nothing is written outside directories that this instance made, but for turning controllers
//!   on where v2 asks for it.
//! - Neither 0, nor 1, nor our own process is ever moved: 0 would mean us.
//! - A limit that can't be set is named in [`Cgroups::missing`].

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use symbiont_types::ResourceLimits;

use crate::api::{CgroupLayout, SandboxUsage};

/// The controllers that hold a limit.
const LIMITING: [&str; 3] = ["memory", "pids", "cpu"];
/// What the file systems of control groups say they are, version 1 and 2.
const CGROUP_MAGIC: [i128; 2] = [0x0027_e0eb, 0x6367_7270];
/// How long a processor limit looks back.
const CPU_PERIOD_US: u64 = 100_000;

/// A hierarchy as it was found: its version, its controllers, and our own directory in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) v2: bool,
    pub(crate) controllers: Vec<String>,
    pub(crate) own: PathBuf,
}

/// The hierarchies in the text of `/proc/self/mountinfo` and `/proc/self/cgroup`.
///
/// The controllers of v2 are in a file of its own and are left empty here.
pub(crate) fn find(mountinfo: &str, cgroup: &str) -> Vec<Found> {
    let own_path = |controllers: &[&str]| {
        cgroup.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (_, names, path) = (fields.next()?, fields.next()?, fields.next()?);
            let same = if controllers.is_empty() {
                names.is_empty()
            } else {
                names.split(',').any(|name| controllers.contains(&name))
            };
            same.then_some(path)
        })
    };
    let mut found: Vec<Found> = Vec::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let left: Vec<&str> = left.split(' ').collect();
        let right: Vec<&str> = right.split(' ').collect();
        let (Some(&root), Some(&point), Some(&kind)) = (left.get(3), left.get(4), right.first())
        else {
            continue;
        };
        let options = right.get(2).copied().unwrap_or_default();
        let controllers: Vec<&str> = match kind {
            "cgroup2" => Vec::new(),
            "cgroup" => {
                let useful = |o: &&str| LIMITING.contains(o) || ["cpuacct", "freezer"].contains(o);
                options.split(',').filter(useful).collect()
            }
            _ => continue,
        };
        if kind == "cgroup" && controllers.is_empty() {
            continue;
        }
        let Some(path) = own_path(&controllers) else { continue };
        let Ok(beneath) = Path::new(path).strip_prefix(root) else { continue };
        let entry = Found {
            v2: kind == "cgroup2",
            controllers: controllers.iter().map(|&c| c.to_owned()).collect(),
            own: Path::new(point).join(beneath),
        };
        // Mounted twice is still one.
        if !found.iter().any(|f| f.v2 == entry.v2 && f.controllers == entry.controllers) {
            found.push(entry);
        }
    }
    found
}

/// A hierarchy with this instance's directory in it.
#[derive(Debug)]
struct Hierarchy {
    v2: bool,
    controllers: Vec<String>,
    base: PathBuf,
}

/// What this instance has of control groups.
#[derive(Debug)]
pub(crate) struct Cgroups {
    hierarchies: Vec<Hierarchy>,
    /// Limits that can't be set, and why.
    pub(crate) missing: Vec<String>,
}

impl Cgroups {
    /// Makes this instance's directories where that is possible.
    pub(crate) fn new(name: &str, found: &[Found]) -> Self {
        let mut hierarchies = Vec::new();
        let mut reasons = Vec::new();
        for found in found {
            match prepare(found, name) {
                Ok(Some(hierarchy)) => hierarchies.push(hierarchy),
                Ok(None) => {}
                Err(error) => reasons.push((found, error)),
            }
        }
        let mut cgroups = Self { hierarchies, missing: Vec::new() };
        for controller in LIMITING {
            // Each limit with what stands in its own way.
            let why: Vec<String> = reasons
                .iter()
                .filter(|(found, _)| found.controllers.iter().any(|c| c == controller))
                .map(|(found, error)| format!("{}: {error}", found.own.display()))
                .collect();
            let why = if why.is_empty() {
                "no control group hierarchy offers it".to_owned()
            } else {
                why.join(", ")
            };
            if !cgroups.has(controller) {
                cgroups.missing.push(match controller {
                    "memory" => format!(
                        "memory: not limited as a whole, only the data of each process \
                         (RLIMIT_DATA, which is not the memory it holds); {why}"
                    ),
                    "pids" => format!("processes: limited for the user (RLIMIT_NPROC) only; {why}"),
                    _ => format!(
                        "processor time: limited to whole processors only, which programs can't \
                         choose then; {why}"
                    ),
                });
            }
        }
        cgroups
    }

    /// Whether a controller is ours to use.
    pub(crate) fn has(&self, controller: &str) -> bool {
        self.hierarchies.iter().any(|h| h.controllers.iter().any(|c| c == controller))
    }

    pub(crate) fn layout(&self) -> CgroupLayout {
        let v2 = self.hierarchies.iter().any(|h| h.v2);
        let v1 = self.hierarchies.iter().any(|h| !h.v2);
        match (v1, v2) {
            (false, false) => CgroupLayout::None,
            (true, false) => CgroupLayout::V1,
            (false, true) => CgroupLayout::V2,
            (true, true) => CgroupLayout::Hybrid,
        }
    }

    /// The directories of version 1 that a sandbox of this name will have. Its guest enters them
    /// by itself, which is far cheaper for the kernel than being moved.
    pub(crate) fn to_enter(&self, name: &str) -> Vec<PathBuf> {
        self.hierarchies.iter().filter(|h| !h.v2).map(|h| h.base.join(name)).collect()
    }

    /// The lists of members of all the groups that a sandbox of this name will have. Whoever writes
    /// a zero to each is in them.
    pub(crate) fn members(&self, name: &str) -> Vec<PathBuf> {
        let list = |h: &Hierarchy| if h.v2 { "cgroup.procs" } else { "tasks" };
        self.hierarchies.iter().map(|h| h.base.join(name).join(list(h))).collect()
    }

    /// A group for one sandbox, with its limits set, that of processes among them, and nobody in it.
    pub(crate) fn create(
        &self,
        name: &str,
        limits: &ResourceLimits,
        processes: u64,
    ) -> io::Result<Group> {
        let mut group = Group { directories: Vec::new() };
        for hierarchy in &self.hierarchies {
            let path = hierarchy.base.join(name);
            let result = fs::create_dir(&path).and_then(|()| {
                group.directories.push(Directory {
                    v2: hierarchy.v2,
                    controllers: hierarchy.controllers.clone(),
                    path: path.clone(),
                });
                limit(hierarchy, &path, limits, processes)
            });
            if let Err(error) = result {
                let _best_effort = group.remove();
                return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display())));
            }
        }
        Ok(group)
    }
}

/// Where an instance's directories may be: in our own group, or beside it.
pub(crate) fn bases(found: &[Found], name: &str) -> Vec<PathBuf> {
    let useful = found.iter().filter(|found| !found.controllers.is_empty());
    useful
        .flat_map(|found| {
            let beside = found.own.parent().filter(|_| found.v2);
            [Some(found.own.as_path()), beside]
        })
        .flatten()
        .map(|parent| parent.join(name))
        .collect()
}

/// Removes what a dead instance of this name has in these directories, its last processes
/// included, and says whether nothing is left.
///
/// Whatever the list says, only groups that have the instance's own name are touched.
pub(crate) fn sweep(name: &str, bases: &[PathBuf]) -> bool {
    let mut clean = true;
    for base in bases.iter().filter(|base| is_base(base, name)) {
        for entry in fs::read_dir(base).into_iter().flatten().flatten() {
            let ours = entry.file_name().to_str().is_some_and(is_group);
            if ours && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                clear(&entry.path());
            }
        }
        let _in_use = fs::remove_dir(base);
        clean &= !base.exists();
    }
    clean
}

/// Whether this is an instance's directory in a control group hierarchy.
fn is_base(base: &Path, name: &str) -> bool {
    let plain =
        base.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    plain
        && base.is_absolute()
        && base.file_name().is_some_and(|last| last == name)
        && rustix::fs::open(base, flags, Mode::empty())
            .and_then(rustix::fs::fstatfs)
            .is_ok_and(|of| CGROUP_MAGIC.iter().any(|magic| i128::from(of.f_type) == *magic))
}

/// Whether a directory is one of a sandbox.
fn is_group(name: &str) -> bool {
    name.strip_prefix("sbx-")
        .is_some_and(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Kills whoever is in a group and removes it. Without the switch of version 2 a process may be born between
/// a look at who is there and their end, so that there are several looks; whoever calls sees what stays.
fn clear(group: &Path) {
    for _ in 0..LOOKS {
        if fs::remove_dir(group).is_ok() {
            return;
        }
        await_end(&kill(group));
    }
    let _in_use = fs::remove_dir(group);
}

/// Kills whoever is in a group, and gives what tells of their end.
fn kill(group: &Path) -> Vec<OwnedFd> {
    let members = || {
        let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        let numbers = text.lines().filter_map(|line| line.parse::<i32>().ok());
        let ours = std::process::id();
        numbers.filter(|pid| *pid > 1 && pid.cast_unsigned() != ours).collect::<Vec<_>>()
    };
    let open: Vec<(i32, OwnedFd)> = members()
        .into_iter()
        .filter_map(|pid| {
            let process = Pid::from_raw(pid)?;
            Some((pid, pidfd_open(process, PidfdFlags::empty()).ok()?))
        })
        .collect();
    // Version 2 has a switch for it, which no fork escapes.
    if fs::write(group.join("cgroup.kill"), "1").is_err() {
        // Whose number is still there now is the one that the descriptor means.
        let still = members();
        for (_, process) in open.iter().filter(|(pid, _)| still.contains(pid)) {
            let _gone = pidfd_send_signal(process, Signal::KILL);
        }
    }
    open.into_iter().map(|(_, process)| process).collect()
}

/// How often a group is looked at whose processes don't end.
const LOOKS: usize = 10;

/// Waits a moment for the end of processes that were killed.
fn await_end(processes: &[OwnedFd]) {
    let end = Instant::now() + Duration::from_millis(200);
    for process in processes {
        let left = Timespec::try_from(end.saturating_duration_since(Instant::now()));
        if let Ok(left) = left {
            let _late = poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&left));
        }
    }
}

/// The hierarchies that this process is in.
pub(crate) fn read_found() -> Vec<Found> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let mut found = find(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
    for hierarchy in found.iter_mut().filter(|h| h.v2) {
        let there = fs::read_to_string(hierarchy.own.join("cgroup.controllers"));
        hierarchy.controllers = there
            .unwrap_or_default()
            .split_whitespace()
            .filter(|c| LIMITING.contains(c) || *c == "io")
            .map(str::to_owned)
            .collect();
    }
    found
}

/// This instance's directory in a hierarchy, unless the hierarchy has nothing for us.
fn prepare(found: &Found, name: &str) -> io::Result<Option<Hierarchy>> {
    if found.controllers.is_empty() {
        return Ok(None);
    }
    let mut own = found.own.clone();
    if found.v2 && enable(&own, &found.controllers).is_err() {
        // A group that holds processes can't pass controllers on; then ours stands beside it.
        own = own.parent().map(Path::to_owned).unwrap_or(own);
        enable(&own, &found.controllers)?;
    }
    let base = own.join(name);
    fs::create_dir(&base)?;
    step!("an instance has a control group", name);
    if found.v2
        && let Err(error) = enable(&base, &found.controllers)
    {
        let _best_effort = fs::remove_dir(&base);
        return Err(error);
    }
    Ok(Some(Hierarchy { v2: found.v2, controllers: found.controllers.clone(), base }))
}

/// Passes controllers on to the groups beneath, unless they are already.
fn enable(group: &Path, controllers: &[String]) -> io::Result<()> {
    let file = group.join("cgroup.subtree_control");
    let there = fs::read_to_string(&file)?;
    for controller in controllers {
        if !there.split_whitespace().any(|c| c == controller) {
            fs::write(&file, format!("+{controller}"))?;
        }
    }
    Ok(())
}

fn limit(
    hierarchy: &Hierarchy,
    path: &Path,
    limits: &ResourceLimits,
    processes: u64,
) -> io::Result<()> {
    let write = |file: &str, value: String| fs::write(path.join(file), value);
    let memory = limits.memory_mb.saturating_mul(1 << 20);
    let quota = cpu_quota_us(limits.cpu_cores);
    for controller in &hierarchy.controllers {
        match (controller.as_str(), hierarchy.v2) {
            ("memory", false) => {
                write("memory.limit_in_bytes", memory.to_string())?;
                let swap = "memory.memsw.limit_in_bytes";
                if path.join(swap).exists() {
                    write(swap, memory.to_string())?;
                }
            }
            ("memory", true) => {
                write("memory.max", memory.to_string())?;
                if path.join("memory.swap.max").exists() {
                    write("memory.swap.max", "0".to_owned())?;
                }
            }
            ("pids", _) => write("pids.max", processes.to_string())?,
            ("cpu", false) => {
                write("cpu.cfs_period_us", CPU_PERIOD_US.to_string())?;
                write("cpu.cfs_quota_us", quota.to_string())?;
            }
            ("cpu", true) => write("cpu.max", format!("{quota} {CPU_PERIOD_US}"))?,
            _ => {}
        }
    }
    Ok(())
}

/// The part of a period that so many cores are; the kernel takes no less than a millisecond.
fn cpu_quota_us(cores: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to what fits; a cast of NaN is zero"
    )]
    let thousandths = (cores * 1000.0).round().clamp(0.0, 1e9) as u64;
    (thousandths * CPU_PERIOD_US / 1000).max(1000)
}

/// One sandbox's directory in one hierarchy.
#[derive(Debug)]
struct Directory {
    v2: bool,
    controllers: Vec<String>,
    path: PathBuf,
}

/// One sandbox's directories.
#[derive(Debug, Default)]
pub(crate) struct Group {
    directories: Vec<Directory>,
}

impl Group {
    /// The groups that an engine has made for a container, to be read, if the first process of the
    /// container is one of this host and they are told apart by the container's id.
    pub(crate) fn of_container(pid: u32, id: &str) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let directories: Vec<Directory> = find(&mounts, &groups)
            .into_iter()
            .filter(|found| found.own.to_string_lossy().contains(id) && found.own.is_dir())
            .map(|found| Directory {
                controllers: match fs::read_to_string(found.own.join("cgroup.controllers")) {
                    Ok(controllers) if found.v2 => {
                        controllers.split_whitespace().map(str::to_owned).collect()
                    }
                    Ok(_) | Err(_) => found.controllers,
                },
                v2: found.v2,
                path: found.own,
            })
            .collect();
        (!directories.is_empty()).then_some(Self { directories })
    }

    /// Which hierarchies it is in.
    pub(crate) fn layout(&self) -> CgroupLayout {
        let limiting = |v2: bool| {
            let of = self.directories.iter().filter(|directory| directory.v2 == v2);
            of.flat_map(|directory| &directory.controllers)
                .any(|controller| LIMITING.contains(&controller.as_str()))
        };
        match (limiting(false), limiting(true)) {
            (true, true) => CgroupLayout::Hybrid,
            (true, false) => CgroupLayout::V1,
            (false, true) => CgroupLayout::V2,
            (false, false) => CgroupLayout::None,
        }
    }

    /// Moves a process into the group of version 2, if there is one.
    pub(crate) fn add(&self, pid: u32) -> io::Result<()> {
        if pid <= 1 || pid == std::process::id() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("process {pid} must not be moved"),
            ));
        }
        for directory in self.directories.iter().filter(|directory| directory.v2) {
            fs::write(directory.path.join("cgroup.procs"), pid.to_string())?;
        }
        Ok(())
    }

    /// Lets it use all the processor time there is.
    pub(crate) fn unthrottle(&self) {
        if let Some(Directory { v2, path, .. }) = self.with("cpu") {
            let (file, all) = if *v2 { ("cpu.max", "max") } else { ("cpu.cfs_quota_us", "-1") };
            let _stays_slow = fs::write(path.join(file), all);
        }
    }

    /// Stops all that runs in it, or lets it go on. Whether that has happened shows in
    /// [`Group::is_frozen`].
    pub(crate) fn freeze(&self, freeze: bool) -> io::Result<()> {
        let (v2, path) = self.freezer().ok_or_else(|| {
            let why = "no control group of it can stop processes";
            io::Error::new(io::ErrorKind::Unsupported, why)
        })?;
        let (file, value) = match (v2, freeze) {
            (true, true) => ("cgroup.freeze", "1"),
            (true, false) => ("cgroup.freeze", "0"),
            (false, true) => ("freezer.state", "FROZEN"),
            (false, false) => ("freezer.state", "THAWED"),
        };
        fs::write(path.join(file), value)
    }

    /// Whether all that is in it stands still.
    pub(crate) fn is_frozen(&self) -> bool {
        match self.freezer() {
            Some((true, path)) => field(&path.join("cgroup.events"), "frozen") == Some(1),
            Some((false, path)) => fs::read_to_string(path.join("freezer.state"))
                .is_ok_and(|state| state.trim() == "FROZEN"),
            None => false,
        }
    }

    /// The directory that can stop it, and whether that is of version 2.
    fn freezer(&self) -> Option<(bool, &Path)> {
        let v2 = self.directories.iter().find(|directory| directory.v2);
        v2.or_else(|| self.with("freezer"))
            .map(|directory| (directory.v2, directory.path.as_path()))
    }

    /// Kills whoever is in it.
    pub(crate) fn kill(&self) {
        for directory in &self.directories {
            let _ending = kill(&directory.path);
        }
    }

    /// Removes the directories; those that were removed are forgotten.
    pub(crate) fn remove(&mut self) -> io::Result<()> {
        let mut result = Ok(());
        self.directories.retain(|directory| match fs::remove_dir(&directory.path) {
            Ok(()) => false,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => {
                result = Err(error);
                true
            }
        });
        result
    }

    /// How often the kernel killed a process in it for lack of memory.
    pub(crate) fn oom_kills(&self) -> Option<u64> {
        let directory = self.with("memory")?;
        let file = if directory.v2 { "memory.events" } else { "memory.oom_control" };
        field(&directory.path.join(file), "oom_kill")
    }

    pub(crate) fn usage(&self) -> SandboxUsage {
        let mut usage = SandboxUsage { oom_kills: self.oom_kills(), ..SandboxUsage::default() };
        if let Some(Directory { v2, path, .. }) = self.with("memory") {
            let (now, peak) = if *v2 {
                ("memory.current", "memory.peak")
            } else {
                ("memory.usage_in_bytes", "memory.max_usage_in_bytes")
            };
            usage.memory_bytes = number(&path.join(now));
            usage.memory_peak_bytes = number(&path.join(peak));
        }
        if let Some(directory) = self.with("pids") {
            usage.processes = number(&directory.path.join("pids.current"));
        }
        if let Some(Directory { v2, path, .. }) = self.with("cpu") {
            let stat = path.join("cpu.stat");
            if *v2 {
                usage.cpu_time = field(&stat, "usage_usec").map(Duration::from_micros);
                usage.throttled = field(&stat, "throttled_usec").map(Duration::from_micros);
            } else {
                usage.throttled = field(&stat, "throttled_time").map(Duration::from_nanos);
            }
        }
        if let Some(directory) = self.with("cpuacct") {
            let time = number(&directory.path.join("cpuacct.usage"));
            usage.cpu_time = time.map(Duration::from_nanos);
        }
        if let Some(directory) = self.with("io")
            && let Ok(text) = fs::read_to_string(directory.path.join("io.stat"))
        {
            let sum = |key: &str| {
                let values = text.split_whitespace().filter_map(|w| w.strip_prefix(key));
                values.filter_map(|value| value.parse::<u64>().ok()).sum()
            };
            usage.io_read_bytes = Some(sum("rbytes="));
            usage.io_write_bytes = Some(sum("wbytes="));
        }
        usage
    }

    fn with(&self, controller: &str) -> Option<&Directory> {
        self.directories.iter().find(|d| d.controllers.iter().any(|c| c == controller))
    }
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn field(file: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each hierarchy as `version controllers directory`.
    #[track_caller]
    fn check(mountinfo: &str, cgroup: &str, want: &[&str]) {
        let found: Vec<String> = find(mountinfo, cgroup)
            .iter()
            .map(|f| {
                let version = if f.v2 { "v2" } else { "v1" };
                format!("{version} {} {}", f.controllers.join(","), f.own.display())
            })
            .collect();
        assert_eq!(found, want);
    }

    #[test]
    fn hierarchies_are_found_where_they_are() {
        // Only v2.
        check(
            "31 23 0:28 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
            "0::/user.slice/a.scope\n",
            &["v2  /sys/fs/cgroup/user.slice/a.scope"],
        );
        // One for each controller, beside an empty v2.
        check(
            "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
             35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
             40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
            "4:memory:/a/b\n2:cpu,cpuacct:/\n1:name=systemd:/x\n0::/\n",
            &[
                "v1 cpu,cpuacct /sys/fs/cgroup/cpu/",
                "v1 memory /sys/fs/cgroup/memory/a/b",
                "v2  /sys/fs/cgroup/unified/",
            ],
        );
        // In a container the mount begins at our own group.
        check(
            "35 31 0:32 /docker/1 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
            "4:memory:/docker/1\n",
            &["v1 memory /sys/fs/cgroup/memory/"],
        );
        // Nonsense is no hierarchy.
        check("", "", &[]);
        check("1 2 3\n - cgroup2\nx - cgroup y\n", "::\n:\n", &[]);
    }

    #[test]
    fn fractions_of_a_core_are_exact_to_a_thousandth() {
        let cases =
            [(1.0, 100_000), (0.5, 50_000), (2.25, 225_000), (0.001, 1000), (f64::NAN, 1000)];
        for (cores, want) in cases {
            assert_eq!(cpu_quota_us(cores), want, "{cores}");
        }
    }

    #[test]
    fn only_an_instance_s_own_groups_are_swept() {
        let name = "symbiont-0123456789abcdef";
        let elsewhere = tempfile::tempdir().unwrap();
        let look_alike = elsewhere.path().join(name);
        let inside = look_alike.join("sbx-0123456789abcdef0123456789abcdef");
        fs::create_dir_all(&inside).unwrap();
        for base in [look_alike.as_path(), Path::new("/sys/fs/cgroup"), Path::new(name)] {
            assert!(!is_base(base, name), "{}", base.display());
            assert!(sweep(name, &[base.to_owned()]));
        }
        assert!(inside.exists());
        for (name, want) in [
            ("sbx-0123456789abcdef0123456789abcdef", true),
            ("sbx-0123456789abcdef0123456789abcde", false),
            ("sbx-0123456789abcdef0123456789abcdeg", false),
            ("docker", false),
            ("sbx-", false),
        ] {
            assert_eq!(is_group(name), want, "{name}");
        }
    }

    #[test]
    fn we_never_move_ourselves() {
        let group = Group::default();
        for pid in [0, 1, std::process::id()] {
            assert_eq!(group.add(pid).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{pid}");
        }
    }
}
