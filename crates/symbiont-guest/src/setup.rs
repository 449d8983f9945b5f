//! From a fresh process to an agent that serves.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::{Errno, read, write};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount,
    mount_change, move_mount, open_tree, unmount,
};
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::thread::{CapabilitySet, CapabilitySets, Gid, Uid};
use symbiont_guest::protocol::{
    Decoder, Entry, Event, NAMESPACES, Request, Setup, VERSIONS, agree,
};
use symbiont_guest::users::{self, USER};

use crate::agent::Agent;
use crate::channel;
use crate::kernel::FileUser;
use crate::landlock::Rules;
use crate::sys::{self, Clone};

/// A step that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    step: String,
    errno: Errno,
}

/// Names the step that a result belongs to.
pub(crate) trait Step<T> {
    fn step(self, name: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T> Step<T> for rustix::io::Result<T> {
    fn step(self, name: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|errno| Failure { step: name(), errno })
    }
}

/// A [`Step`] whose name is a constant.
pub(crate) fn at(name: &str) -> impl FnOnce() -> String + '_ {
    || name.to_owned()
}

/// The life of the first process in a container, or inside gVisor; what it returns is its exit code.
///
/// Where the walls stand already it is the agent, else it makes one and waits for its end.
pub(crate) fn start() -> i32 {
    // Whatever the host forgot to close is not for us.
    if sys::close_range(3, sys::LAST_DESCRIPTOR).is_err() {
        return 70;
    }
    let degraded = take_score();
    told_of(|| {
        let plan = Plan::read()?;
        if plan.setup.is_given() {
            plan.settle(degraded)?.serve();
            return Ok(0);
        }
        let Some(agent) = plan.launch(degraded)? else { return Ok(0) };
        // Only the agent may hold the socket: its end must be the end of the socket.
        let _closed = sys::close_range(0, 2);
        loop {
            match rustix::process::waitpid(Some(agent), WaitOptions::empty()) {
                Ok(Some((_, status))) => return Ok(status.exit_status().unwrap_or(71)),
                Err(Errno::INTR) => {}
                Ok(None) | Err(_) => return Ok(71),
            }
        }
    })
}

/// The life of an agent that was forked with most namespaces of its own; what it returns is its exit code.
pub(crate) fn live(degraded: Vec<String>) -> i32 {
    let network = sys::unshare(libc::CLONE_NEWNET);
    told_of(|| {
        // Before it has come the host expects nothing to be said.
        let plan = Plan::read()?;
        network.step(at("make the namespaces"))?;
        // Its root is the group that one is in when one makes it.
        sys::unshare(libc::CLONE_NEWCGROUP).step(at("make the namespaces"))?;
        plan.build(degraded)?.serve();
        Ok(0)
    })
}

/// Does what gives an exit code, and tells the host if that fails.
fn told_of(life: impl FnOnce() -> Result<i32, Failure>) -> i32 {
    life().unwrap_or_else(|failure| {
        let mut out = Vec::new();
        let errno = failure.errno.raw_os_error();
        Event::SetupFailed { step: failure.step, errno }.encode(0, &mut out);
        let _told = channel::send(&out);
        72
    })
}

/// Takes the place among processes to be killed that an agent has, before it has any memory; says why if
/// that can't be.
///
/// Not lower: what a privileged process writes is also as low as anything it starts may go, and commands,
/// which begin higher, are the kernel's first choice as it is.
pub(crate) fn take_score() -> Vec<String> {
    let degraded = std::fs::write("/proc/self/oom_score_adj", "0").err().map(|error| {
        format!(
            "memory killer: the agent keeps the score it was started with, so that it may end \
             before its commands ({error})"
        )
    });
    degraded.into_iter().collect()
}

/// What an agent is to be, in the control groups that the host chose.
struct Plan {
    setup: Setup,
    version: u32,
    /// What came after it.
    decoder: Decoder,
}

impl Plan {
    /// Waits until the host has told it, and enters the control groups: from here on every process is in
    /// them.
    fn read() -> Result<Self, Failure> {
        let mut decoder = Decoder::default();
        let Request::Setup(setup) = next_request(&mut decoder)? else {
            return Err(Errno::PROTO).step(at("read the set-up"));
        };
        let Some(version) = agree(VERSIONS, setup.versions) else {
            return Err(Errno::PROTONOSUPPORT).step(at("agree on a protocol version"));
        };
        let Request::Go = next_request(&mut decoder)? else {
            return Err(Errno::PROTO).step(at("wait for the control groups"));
        };
        for group in &setup.groups {
            enter_group(group)?;
        }
        Ok(Self { setup: *setup, version, decoder })
    }

    /// Makes this process the agent of a place that stands.
    fn settle(self, degraded: Vec<String>) -> Result<Agent, Failure> {
        choose_processors(&self.setup)?;
        // All commands have one /proc there, and who runs them is none of their business.
        let flags =
            MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("tmpfs", "/proc/1", "tmpfs", flags, c"size=4096,mode=0")
            .step(at("hide the agent"))?;
        let user = confine()?;
        // What of that place is to be written, only the host knows, which says what that costs.
        Agent::new(self.decoder, self.setup, None, self.version, degraded, user)
    }

    /// Builds the sandbox around this process, which is in namespaces of its own, and makes it the agent.
    fn build(self, mut degraded: Vec<String>) -> Result<Agent, Failure> {
        build(&self.setup, &mut degraded)?;
        choose_processors(&self.setup)?;
        let user = confine()?;
        let rules = Rules::new(&self.setup.entries)?.map_err(|why| {
            degraded.push(format!("Landlock: commands are not under it; {why}"));
        });
        Agent::new(self.decoder, self.setup, rules.ok(), self.version, degraded, user)
    }

    /// Makes the agent: its id here, `None` in the agent once it has ended.
    fn launch(self, degraded: Vec<String>) -> Result<Option<Pid>, Failure> {
        let (mapped, map) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).step(at("make a pipe"))?;
        match sys::clone(NAMESPACES.cast_unsigned().into()).step(at("make the namespaces"))? {
            Clone::Parent(pid, _pidfd) => {
                drop(mapped);
                let process = pid.as_raw_nonzero().get().cast_unsigned();
                if let Err((name, error)) = users::map(process, self.setup.first_id) {
                    return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO))
                        .step(|| format!("write {name}"));
                }
                write(&map, b"1").step(at("release the agent"))?;
                if let Some(first) = self.setup.first_id {
                    drop_root(first)?;
                }
                Ok(Some(pid))
            }
            Clone::Child => {
                drop(map);
                // Nothing to read means that the other one failed; it has said so itself.
                if !matches!(read(&mapped, &mut [0; 1]), Ok(1)) {
                    sys::exit(73);
                }
                drop(mapped);
                let mut agent = self.build(degraded)?;
                // Last: each change of who we are makes the kernel forget it.
                rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
                    .step(at("end with who made it"))?;
                agent.serve();
                Ok(None)
            }
        }
    }
}

/// Who only waits needs no power for that.
fn drop_root(first: u32) -> Result<(), Failure> {
    rustix::thread::set_thread_groups(&[]).step(at("drop root"))?;
    become_user(first, first).step(at("drop root"))?;
    rustix::thread::set_no_new_privs(true).step(at("drop root"))
}

fn next_request(decoder: &mut Decoder) -> Result<Request, Failure> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let frame = decoder.next_frame().map_err(|_| Errno::PROTO).step(at("read the set-up"))?;
        if let Some(frame) = frame {
            if let Some(request) =
                Request::decode(&frame).map_err(|_| Errno::PROTO).step(at("read the set-up"))?
            {
                return Ok(request);
            }
            continue;
        }
        match channel::receive(&mut buffer) {
            Ok(0) => sys::exit(74), // The host has gone.
            Ok(count) => decoder.push(&buffer[..count]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).step(at("read the set-up")),
        }
    }
}

/// Moves this process into a control group of version 1.
///
/// Zero means whoever writes it. A single thread that moves itself is the one case in which the
/// kernel need not stop all forks of the machine first, which takes it many milliseconds; that is
/// why the host does not do it for us.
fn enter_group(group: &[u8]) -> Result<(), Failure> {
    let name = || format!("enter the control group `{}`", String::from_utf8_lossy(group));
    let tasks = [group, b"/tasks"].concat();
    enter(&tasks).step(name)
}

/// Writes to a file of a control group that this process is to be in it.
fn enter(members: &[u8]) -> rustix::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    write_all(rustix::fs::openat(CWD, members, flags, Mode::empty())?, b"0")
}

/// Enters control groups on the host and becomes another program there, so that all of that one is
/// in them from its first instruction: `FILE... -- PROGRAM ARGUMENT...`, each file the list of a
/// group's members. What it returns is an exit code.
pub(crate) fn become_member(arguments: &[CString]) -> i32 {
    let mut parts = arguments.splitn(2, |argument| argument.as_bytes() == b"--");
    let (groups, program) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    sys::share_processors();
    if sys::close_range(3, sys::LAST_DESCRIPTOR).is_err()
        || groups.iter().any(|members| enter(members.as_bytes()).is_err())
    {
        return 70;
    }
    let environment: Vec<CString> = std::env::vars_os()
        .filter_map(|(name, value)| {
            CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok()
        })
        .collect();
    if let Some(name) = program.first() {
        sys::execute(name, program, &environment);
    }
    71
}

/// Becomes a user and a group for good.
pub(crate) fn become_user(user: u32, group: u32) -> rustix::io::Result<()> {
    let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
    rustix::thread::set_thread_res_gid(group, group, group)?;
    rustix::thread::set_thread_res_uid(user, user, user)
}

/// Builds the sandbox around this process.
fn build(setup: &Setup, degraded: &mut Vec<String>) -> Result<(), Failure> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .step(at("make mounts private"))?;
    degraded.extend(share_watches().err().map(|error| {
        format!(
            "watches: commands may take all of the instances of inotify that the owner of the sandbox \
             has on the host ({error})"
        )
    }));
    let entries = with_own_root(&setup.entries)?;
    // The host's files are looked up as the user who asked for them, before we become another.
    let mut binds = Vec::new();
    for entry in &entries {
        if let Entry::Bind { source, read_only, device, .. } = entry {
            binds.push(host_tree(source, *read_only, *device)?);
        }
    }
    if setup.first_id.is_some() {
        rustix::thread::set_thread_groups(&[]).step(at("become the agent"))?;
        become_user(0, 0).step(at("become the agent"))?;
    }
    let root = memory(setup.root_size, 4096, 0o755, MountAttrFlags::empty(), None)
        .step(at("make the root"))?;
    // Any directory will do to attach it to; this one is always there.
    move_mount(&root, "", CWD, "/tmp", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .step(at("attach the root"))?;
    let mut binds = binds.into_iter();
    for entry in &entries {
        match place(&root, entry, &mut binds) {
            // Commands do without terminals, as they mostly do anyway.
            Err(Failure { step, errno }) if *entry == Entry::Terminals => {
                degraded.push(format!("terminals: none can be made here ({step}: {errno})"));
            }
            placed => placed?,
        }
    }
    rustix::process::fchdir(&root).step(at("enter the root"))?;
    // Both in one place: the old root ends up beneath the new one, and goes.
    rustix::process::pivot_root(".", ".").step(at("change the root"))?;
    unmount(".", UnmountFlags::DETACH).step(at("detach the host's root"))?;
    rustix::process::chdir("/").step(at("enter the root"))?;
    seal_root(&root).step(at("seal the root"))?;

    rustix::system::sethostname(setup.hostname.as_bytes()).step(at("name the host"))
}

/// Leaves others their part of what a user of the host has to watch files with: an eighth is for this
/// sandbox. The kernel counts what is watched here for its owner outside as well, who may be an ordinary user
/// with things of their own; and what it takes, it counts as nobody's memory.
fn share_watches() -> std::io::Result<()> {
    for what in ["instances", "watches"] {
        let all = std::fs::read_to_string(format!("/proc/sys/fs/inotify/max_user_{what}"))?;
        let all: u32 = all.trim().parse().map_err(std::io::Error::other)?;
        let own = format!("/proc/sys/user/max_inotify_{what}");
        std::fs::write(own, (all / 8).max(1).to_string())?;
    }
    Ok(())
}

/// Keeps to the processors that were chosen, if they were.
fn choose_processors(setup: &Setup) -> Result<(), Failure> {
    if !setup.processors.is_empty() {
        let mut set = rustix::thread::CpuSet::new();
        for &number in &setup.processors {
            if let Ok(number) = usize::try_from(number)
                && number < rustix::thread::CpuSet::MAX_CPU
            {
                set.set(number);
            }
        }
        rustix::thread::sched_setaffinity(None, &set).step(at("choose processors"))?;
    }
    Ok(())
}

/// The entries, with what stands for the root that this process has now taken apart.
fn with_own_root(entries: &[Entry]) -> Result<Vec<Entry>, Failure> {
    let mut all = Vec::new();
    for entry in entries {
        let Entry::Own { except } = entry else {
            all.push(entry.clone());
            continue;
        };
        let root = rustix::fs::openat(CWD, "/", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .step(at("look around"))?;
        for found in rustix::fs::Dir::read_from(&root).step(at("look around"))? {
            let found = found.step(at("look around"))?;
            let Ok(name) = found.file_name().to_str() else { continue };
            if [".", ".."].contains(&name) || except.iter().any(|other| other == name) {
                continue;
            }
            let path = name.to_owned();
            match rustix::fs::readlinkat(&root, name, Vec::new()) {
                Ok(target) => all.push(Entry::Link { path, target: target.into_bytes() }),
                Err(_) => all.push(Entry::Bind {
                    source: format!("/{name}").into_bytes(),
                    path,
                    read_only: true,
                    device: false,
                }),
            }
        }
    }
    Ok(all)
}

/// Gives up what the agent itself does not need, and says how it touches files.
fn confine() -> Result<FileUser, Failure> {
    for number in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            Err(Errno::INVAL) => break, // The kernel has no more of them.
            Err(errno) => return Err(errno).step(at("drop capabilities")),
        }
    }
    // To make a command's namespaces, to become its user, and to end it. Not to see past
    // permissions: the agent touches files as the command's user.
    let kept = CapabilitySet::SYS_ADMIN
        | CapabilitySet::SETUID
        | CapabilitySet::SETGID
        | CapabilitySet::KILL;
    set_capabilities(kept).step(at("drop capabilities"))?;
    let user = FileUser::choose(USER);
    // Where we must be that user for it, that we can shows here.
    drop(user.enter().step(at("use files as the command's user"))?);
    rustix::thread::set_no_new_privs(true).step(at("forbid new privileges"))?;
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .step(at("hide memory"))?;
    Ok(user)
}

/// Keeps no capability but these.
pub(crate) fn set_capabilities(kept: CapabilitySet) -> rustix::io::Result<()> {
    match rustix::thread::clear_ambient_capability_set() {
        // A kernel that knows no such set has none to be cleared.
        Ok(()) | Err(Errno::INVAL) => {}
        Err(errno) => return Err(errno),
    }
    let sets =
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets)
}

/// A copy of the host's mounts at `source`, not attached to anything yet.
fn host_tree(source: &[u8], read_only: bool, device: bool) -> Result<OwnedFd, Failure> {
    let name = || format!("open `{}` of the host", String::from_utf8_lossy(source));
    // The host has resolved its links: one that is there now was put there since.
    let place = OFlags::PATH | OFlags::CLOEXEC;
    let place = openat2(CWD, source, place, Mode::empty(), ResolveFlags::NO_SYMLINKS).step(name)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(&place, "", flags).step(name)?;
    let mut attributes = libc::MOUNT_ATTR_NOSUID;
    attributes |= if device { libc::MOUNT_ATTR_NOEXEC } else { libc::MOUNT_ATTR_NODEV };
    if read_only {
        attributes |= libc::MOUNT_ATTR_RDONLY;
    }
    sys::set_mount(&tree, attributes).step(name)?;
    Ok(tree)
}

/// Memory as a file system, not attached to anything yet.
fn memory(
    size: u64,
    files: u64,
    mode: u32,
    attributes: MountAttrFlags,
    owner: Option<u32>,
) -> rustix::io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let set = |key: &str, value: String| fsconfig_set_string(context.as_fd(), key, value);
    set("size", size.to_string())?;
    set("nr_inodes", files.to_string())?;
    set("mode", format!("{mode:o}"))?;
    if let Some(owner) = owner {
        set("uid", owner.to_string())?;
        set("gid", owner.to_string())?;
    }
    fsconfig_create(context.as_fd())?;
    let always = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, always | attributes)
}

/// A view of this process namespace, not attached to anything yet.
fn processes() -> rustix::io::Result<OwnedFd> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    // Nothing of the machine, and of other users' processes not even that they are there.
    fsconfig_set_string(context.as_fd(), "subset", "pid")?;
    fsconfig_set_string(context.as_fd(), "hidepid", "2")?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Terminals, not attached to anything yet.
fn terminals() -> rustix::io::Result<OwnedFd> {
    let context = fsopen("devpts", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in [("mode", "0620"), ("ptmxmode", "0666"), ("max", "64")] {
        fsconfig_set_string(context.as_fd(), key, value)?;
    }
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Puts this process namespace's own `/proc` over the one that is there.
pub(crate) fn renew_processes() -> rustix::io::Result<()> {
    move_mount(processes()?, "", CWD, "/proc", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// Only the root itself: what is mounted beneath has its own rules.
fn seal_root(_root: &OwnedFd) -> rustix::io::Result<()> {
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount_remount("/", flags, "")
}

fn place(
    root: &OwnedFd,
    entry: &Entry,
    binds: &mut impl Iterator<Item = OwnedFd>,
) -> Result<(), Failure> {
    let mkdir = |path: &str| directory(root, path).step(|| format!("make `/{path}`"));
    let attach = |mount: &OwnedFd, target: &OwnedFd, path: &str| {
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(mount, "", target, "", flags).step(|| format!("mount `/{path}`"))
    };
    match entry {
        Entry::Directory(path) => mkdir(path).map(drop),
        Entry::Link { path, target } => {
            let (parent, name) = split(path);
            rustix::fs::symlinkat(target.as_slice(), mkdir(parent)?, name)
                .step(|| format!("link `/{path}`"))
        }
        Entry::File { path, content } => {
            let file = file(root, path).step(|| format!("make `/{path}`"))?;
            write_all(&file, content).step(|| format!("write `/{path}`"))
        }
        Entry::Bind { path, .. } => {
            let tree = binds.next().ok_or(Errno::INVAL).step(|| format!("mount `/{path}`"))?;
            let what = fstat(&tree).step(|| format!("mount `/{path}`"))?;
            let target = if FileType::from_raw_mode(what.st_mode) == FileType::Directory {
                mkdir(path)?
            } else {
                match open_beneath(root, path, OFlags::PATH) {
                    Ok(there) => there,
                    Err(_) => {
                        file(root, path).step(|| format!("make `/{path}`"))?;
                        open_beneath(root, path, OFlags::PATH).step(|| format!("make `/{path}`"))?
                    }
                }
            };
            attach(&tree, &target, path)
        }
        Entry::Memory { path, size, files, mode, executable } => {
            let attributes = if *executable {
                MountAttrFlags::empty()
            } else {
                MountAttrFlags::MOUNT_ATTR_NOEXEC
            };
            let mount = memory(*size, *files, *mode, attributes, Some(USER))
                .step(|| format!("make memory for `/{path}`"))?;
            attach(&mount, &mkdir(path)?, path)
        }
        // It was taken apart.
        Entry::Own { .. } => Ok(()),
        Entry::Processes => {
            let mount = processes().step(at("make `/proc`"))?;
            attach(&mount, &mkdir("proc")?, "proc")
        }
        Entry::Terminals => {
            let mount = terminals().step(at("make terminals"))?;
            attach(&mount, &mkdir("dev/pts")?, "dev/pts")
        }
    }
}

/// Looks a path up as if `root` were the root, so that no link leads out of it.
fn open_beneath(root: &OwnedFd, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { "." } else { path };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// The directory at a path, which is made if it is missing.
fn directory(root: &OwnedFd, path: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    match open_beneath(root, path, flags) {
        Err(Errno::NOENT) if !path.is_empty() => {
            let (parent, name) = split(path);
            match rustix::fs::mkdirat(directory(root, parent)?, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => open_beneath(root, path, flags),
                Err(errno) => Err(errno),
            }
        }
        result => result,
    }
}

/// A new, empty file.
fn file(root: &OwnedFd, path: &str) -> rustix::io::Result<OwnedFd> {
    let (parent, name) = split(path);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory(root, parent)?, name, flags, Mode::from_raw_mode(0o644))
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// Writes all of it.
pub(crate) fn write_all(file: impl AsFd, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match write(&file, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Opens a place in the finished sandbox.
pub(crate) fn open_root(path: &Path) -> Result<OwnedFd, Failure> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty())
        .step(|| format!("open `{}`", path.display()))
}

/// Removing, with the flags that say whether a directory is meant.
pub(crate) const DIRECTORY: AtFlags = AtFlags::REMOVEDIR;
