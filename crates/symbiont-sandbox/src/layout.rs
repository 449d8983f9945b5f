//! From what a sandbox should be to what the guest is told to build.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use symbiont_guest::protocol::{Entry, Setup, VERSIONS};
use symbiont_types::{FilesystemConfig, Mount, RootFilesystem, SandboxConfig, SandboxError};

use crate::api::Options;
use crate::request::{invalid, path};

const MAX_MOUNTS: usize = 64;

/// What reports call the namespaces that a sandbox has of its own.
pub(crate) const NAMESPACES: [&str; 7] = ["user", "mnt", "pid", "ipc", "uts", "net", "cgroup"];

/// The most bytes of `/tmp` and of `/dev/shm`.
const MEMORY: u64 = 64 << 20;
/// Memory that files may not take, as the agent and the kernel's own books need it.
const RESERVE: u64 = 16 << 20;
/// What a file takes of memory beside what is in it, with the longest name that there is: 1,483 bytes of
/// Linux 6.18.
const OF_A_FILE: u64 = 1536;
/// For so many bytes there may be a file, as a power of two: of the workspace, `/tmp` and `/dev/shm`.
const PER_FILE: [u32; 3] = [13, 12, 16];
/// What of a host's root the host's programs need.
const PROGRAMS: [&str; 7] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"];
/// Of `/etc/ssl` what is public: a host keeps its keys there as well.
const SETTINGS: [&str; 6] = [
    "etc/ssl/certs",
    "etc/ssl/cert.pem",
    "etc/ssl/openssl.cnf",
    "etc/alternatives",
    "etc/ld.so.cache",
    "etc/ld.so.conf.d",
];
/// What a sandbox makes for itself, and nothing of the host may cover.
const OWN: [&str; 9] = ["proc", "sys", "dev", "run", "tmp", "workspace", "home", "root", "var"];
/// What of that comes from the root, if it has a root of its own.
const OF_A_ROOT: [&str; 3] = ["home", "root", "var"];
/// What an engine and we put into a container.
const OF_AN_ENGINE: [&str; 2] = [".dockerenv", ".symbiont-guest"];
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "tty", "urandom"];

/// Bytes that files may take, in memory that counts towards the sandbox's limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) workspace: u64,
    pub(crate) temporary: u64,
    pub(crate) shared: u64,
}

impl Room {
    /// What was asked for as far as it fits: files alone never reach the limit, where the kernel
    /// would end the sandbox and take all of them.
    pub(crate) fn within(memory_mb: u64, scratch_mb: u64) -> Self {
        let memory = memory_mb << 20;
        let all = memory - RESERVE.min(memory / 2);
        let (temporary, shared) = (MEMORY.min(all / 6), MEMORY.min(all / 8));
        let [of_workspace, of_temporary, of_shared] = PER_FILE;
        let left = all - taken(temporary, of_temporary) - taken(shared, of_shared);
        // With its files it is to fit.
        let fits = (left / taken(1 << of_workspace, of_workspace)) << of_workspace;
        let workspace = (scratch_mb << 20).min(fits);
        // The kernel counts in pages, and takes zero for no limit.
        Self { workspace, temporary, shared }
    }

    /// How many files there may be, of the workspace, `/tmp` and `/dev/shm`.
    fn files(self) -> [u64; 3] {
        let of = |size: u64, per_file: u32| (size >> per_file).max(1);
        let [of_workspace, of_temporary, of_shared] = PER_FILE;
        [
            of(self.workspace, of_workspace),
            of(self.temporary, of_temporary),
            of(self.shared, of_shared),
        ]
    }
}

/// The memory that is taken where all is taken: by so many bytes, and by the files that they may be in.
fn taken(size: u64, per_file: u32) -> u64 {
    size + (size >> per_file) * OF_A_FILE
}

/// What the guest is told, but for what differs from sandbox to sandbox of one shape.
pub(crate) fn plan(
    config: &SandboxConfig,
    options: &Options,
    root: Root<'_>,
    whole_limits: bool,
    filters: Vec<Vec<u8>>,
) -> Result<Setup, SandboxError> {
    let files = &config.filesystem_config;
    let mut limits = vec![
        (libc::RLIMIT_NOFILE, 1024),
        // None, and not to a program of the host's either, which gets them at 0 too.
        (libc::RLIMIT_CORE, 1),
        // Counted for the user within the sandbox, beside the control group.
        (libc::RLIMIT_NPROC, options.processes),
        // Counted for the user outside who made the sandbox as well, who must not run short of them.
        (libc::RLIMIT_SIGPENDING, 4096),
        (libc::RLIMIT_MSGQUEUE, 256 << 10),
        // Whatever this process may, commands go first for nobody.
        (libc::RLIMIT_NICE, 0),
        (libc::RLIMIT_RTPRIO, 0),
    ];
    if !whole_limits {
        limits.push((libc::RLIMIT_DATA, config.resource_limits.memory_mb << 20));
    }
    Ok(Setup {
        versions: VERSIONS,
        token: [0; 32],
        groups: Vec::new(),
        hostname: "sandbox".to_owned(),
        first_id: None,
        entries: entries(files, root, room(config))?,
        root_size: 4 << 20,
        limits,
        processors: Vec::new(),
        filters,
    })
}

/// The room for a sandbox's files.
pub(crate) fn room(config: &SandboxConfig) -> Room {
    Room::within(config.resource_limits.memory_mb, config.filesystem_config.scratch_mb)
}

/// The processors that this process may use.
pub(crate) fn our_processors() -> Vec<u32> {
    rustix::thread::sched_getaffinity(None)
        .map(|set| (0..1024_u16).filter(|n| set.is_set((*n).into())).map(u32::from).collect())
        .unwrap_or_default()
}

/// So many processors as the limit fills, beginning with ours: then programs see no more.
pub(crate) fn processors(ours: &[u32], cores: f64) -> Vec<u32> {
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

/// What a sandbox's root is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Root<'a> {
    /// The host's files.
    Host(&'a HostFiles),
    /// What is in the container that the guest is started in.
    Container,
}

/// What of the host's own files its sandboxes see, looked up once.
#[derive(Debug)]
pub(crate) struct HostFiles {
    programs: Vec<Entry>,
    devices: Vec<Entry>,
}

impl HostFiles {
    pub(crate) fn look_up() -> Self {
        let devices = devices(|source| fs::canonicalize(&source).unwrap_or(source));
        Self { programs: host_programs(), devices }
    }
}

fn devices(source: impl Fn(PathBuf) -> PathBuf) -> Vec<Entry> {
    let device = |name: &&str| Entry::Bind {
        source: source(Path::new("/dev").join(name)).into_os_string().into_vec(),
        path: format!("dev/{name}"),
        read_only: true,
        device: true,
    };
    DEVICES.iter().map(device).collect()
}

fn entries(
    files: &FilesystemConfig,
    root: Root<'_>,
    room: Room,
) -> Result<Vec<Entry>, SandboxError> {
    let (mut entries, devices) = match (root, &files.rootfs) {
        (Root::Host(host), RootFilesystem::Host) => (host.programs.clone(), host.devices.clone()),
        (Root::Host(host), RootFilesystem::Dir(directory)) => {
            (directory_entries(directory)?, host.devices.clone())
        }
        (Root::Host(_), RootFilesystem::Image(image)) => {
            return Err(SandboxError::ImageMissing {
                image: format!("`{image}`: this driver serves none"),
            });
        }
        (Root::Container, _) => {
            let except = OWN.iter().filter(|name| !OF_A_ROOT.contains(name)).chain(&OF_AN_ENGINE);
            let except = except.map(|name| (*name).to_owned()).collect();
            (vec![Entry::Own { except }], devices(|source| source))
        }
    };
    let text = |path: &str, content: &str| Entry::File {
        path: path.to_owned(),
        content: content.as_bytes().to_vec(),
    };
    if matches!((root, &files.rootfs), (Root::Host(_), RootFilesystem::Host)) {
        entries.push(text(
            "etc/passwd",
            "root:x:0:0:root:/workspace:/bin/sh\nagent:x:1000:1000:agent:/workspace:/bin/sh\n\
             nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
        ));
        entries.push(text("etc/group", "root:x:0:\nagent:x:1000:\nnogroup:x:65534:\n"));
        entries.push(text("etc/hosts", "127.0.0.1 localhost sandbox\n::1 localhost\n"));
        entries.push(text("etc/resolv.conf", "nameserver 127.0.0.1\n"));
        entries.push(text("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n"));
    }
    entries.extend(devices);
    let links = [
        ("dev/fd", "/proc/self/fd"),
        ("dev/stdin", "/proc/self/fd/0"),
        ("dev/stdout", "/proc/self/fd/1"),
        ("dev/stderr", "/proc/self/fd/2"),
        ("dev/ptmx", "pts/ptmx"),
    ];
    for (path, target) in links {
        entries.push(Entry::Link { path: path.to_owned(), target: target.as_bytes().to_vec() });
    }
    let memory = |path: &str, size: u64, files: u64, mode: u32, executable: bool| Entry::Memory {
        path: path.to_owned(),
        size,
        files,
        mode,
        executable,
    };
    let Room { workspace, temporary, shared } = room;
    let [in_workspace, in_temporary, in_shared] = room.files();
    entries.push(Entry::Processes);
    entries.push(Entry::Terminals);
    entries.push(memory("dev/shm", shared, in_shared, 0o1777, false));
    entries.push(memory("tmp", temporary, in_temporary, 0o1777, true));
    entries.push(memory("workspace", workspace, in_workspace, 0o755, true));
    entries.extend(mounts(&files.mounts)?);
    Ok(entries)
}

/// The host's programs and libraries, and nothing else of it.
fn host_programs() -> Vec<Entry> {
    PROGRAMS
        .iter()
        .chain(&SETTINGS)
        .filter_map(|name| of_the_host(&Path::new("/").join(name), name))
        .collect()
}

/// All that is in a directory, but for what a sandbox makes itself.
fn directory_entries(directory: &Path) -> Result<Vec<Entry>, SandboxError> {
    let unusable = |error: std::io::Error| {
        invalid(format!("the root `{}` can't be read: {error}", directory.display()))
    };
    if !directory.is_absolute() {
        return Err(invalid(format!("the root `{}` is not absolute", directory.display())));
    }
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory).map_err(unusable)? {
        let name = entry.map_err(unusable)?.file_name();
        let Some(name) = name.to_str() else {
            return Err(invalid("the names in a root must be UTF-8"));
        };
        if OWN.contains(&name) && !OF_A_ROOT.contains(&name) {
            continue;
        }
        entries.extend(of_the_host(&directory.join(name), name));
    }
    Ok(entries)
}

/// A file or directory of the host as it is there; a link stays a link.
fn of_the_host(source: &Path, path: &str) -> Option<Entry> {
    let kind = fs::symlink_metadata(source).ok()?.file_type();
    let path = path.to_owned();
    if kind.is_symlink() {
        let target = fs::read_link(source).ok()?.into_os_string().as_bytes().to_vec();
        return Some(Entry::Link { path, target });
    }
    let source = fs::canonicalize(source).ok()?.into_os_string().into_vec();
    (kind.is_dir() || kind.is_file()).then_some(Entry::Bind {
        source,
        path,
        read_only: true,
        device: false,
    })
}

fn mounts(mounts: &[Mount]) -> Result<Vec<Entry>, SandboxError> {
    if mounts.len() > MAX_MOUNTS {
        return Err(invalid(format!("{} mounts; the most is {MAX_MOUNTS}", mounts.len())));
    }
    let mut seen: Vec<PathBuf> = Vec::new();
    let mut entries = Vec::new();
    for mount in mounts {
        let forbidden = |reason: &str| SandboxError::PathForbidden {
            path: mount.target.clone(),
            reason: reason.to_owned(),
        };
        path(mount.target.as_ref())?;
        let target = Path::new(&mount.target);
        if !target.is_absolute() {
            return Err(forbidden("the target of a mount must be absolute"));
        }
        // Normal components only: `path` refused `..`, and `.` and doubled slashes go here.
        let parts: Vec<&OsStr> = target
            .components()
            .filter_map(|part| if let Component::Normal(name) = part { Some(name) } else { None })
            .collect();
        let clean: PathBuf = parts.iter().collect();
        let first = parts.first().and_then(|name| name.to_str()).unwrap_or_default();
        let within_own = parts.len() > 1 && ["workspace", "tmp", "home", "var"].contains(&first);
        let covers = PROGRAMS.contains(&first) && parts.len() == 1;
        if parts.is_empty() || (OWN.contains(&first) && !within_own) || covers || first == "etc" {
            return Err(forbidden("the sandbox needs that place for itself"));
        }
        if seen.iter().any(|other| clean.starts_with(other) || other.starts_with(&clean)) {
            return Err(forbidden("another mount is there"));
        }
        if !mount.source.is_absolute() {
            let source = mount.source.display();
            return Err(invalid(format!("the source `{source}` of a mount is not absolute")));
        }
        let source = fs::canonicalize(&mount.source).map_err(|error| {
            invalid(format!("the source `{}` of a mount: {error}", mount.source.display()))
        })?;
        let kind = fs::metadata(&source).map(|m| m.is_dir() || m.is_file()).unwrap_or(false);
        if !kind || ["/proc", "/sys", "/dev"].iter().any(|control| source.starts_with(control)) {
            let source = source.display();
            return Err(invalid(format!(
                "the source `{source}` of a mount is no ordinary file or directory"
            )));
        }
        entries.push(Entry::Bind {
            source: source.into_os_string().into_vec(),
            path: clean.to_string_lossy().into_owned(),
            read_only: mount.read_only,
            device: false,
        });
        seen.push(clean);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_never_fill_the_whole_memory() {
        let mib = |bytes: u64| bytes >> 20;
        for (memory, scratch, want) in [
            (8, 1024, (2, 0, 0)),
            (64, 256, (25, 8, 6)),
            (256, 128, (128, 40, 30)),
            (512, 1024, (290, 64, 62)),
            (4096, 256, (256, 64, 64)),
            (4096, 4096, (3306, 64, 64)),
            (1 << 22, 1 << 20, (1 << 20, 64, 64)),
        ] {
            let room = Room::within(memory, scratch);
            let got = (mib(room.workspace), mib(room.temporary), mib(room.shared));
            assert_eq!(got, want, "{memory} MiB of memory, {scratch} MiB of workspace");
            assert!(room.workspace > 0 && room.temporary > 0 && room.shared > 0);
            let files: u64 = room.files().iter().sum();
            let all = room.workspace + room.temporary + room.shared + files * OF_A_FILE;
            assert!(all < memory << 20, "{all} of {memory} MiB");
        }
    }

    #[track_caller]
    fn check_mount(source: &str, target: &str, allowed: bool) {
        let mount = Mount { source: source.into(), target: target.to_owned(), read_only: true };
        assert_eq!(mounts(&[mount]).is_ok(), allowed, "{source} at {target}");
    }

    #[test]
    fn nothing_is_mounted_over_what_the_sandbox_needs() {
        for target in ["/data", "/opt/tool", "/workspace/in", "/tmp/x", "/usr/local/x"] {
            check_mount("/usr/share", target, true);
        }
        for target in [
            "/",
            "//",
            "data",
            "/proc",
            "/proc/1",
            "/./proc",
            "/dev/null",
            "/sys/x",
            "/workspace",
            "/workspace/",
            "/tmp",
            "/usr",
            "/bin",
            "/etc",
            "/etc/passwd",
            "/run/x",
            "/a/../proc",
        ] {
            check_mount("/usr/share", target, false);
        }
        for source in ["usr", "/nonexistent-path", "/proc/self", "/dev/null", "/sys"] {
            check_mount(source, "/data", false);
        }
    }
}
