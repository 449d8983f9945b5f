//! What several of us on one host share: who is alive, and which user ids are taken.
//!
//! Both are files that are locked for as long as their owner lives, so that the kernel gives them
//! back whatever happens to it. An instance's file is its record: it says, before anything of it is
//! there, where everything of it can be. All that belongs to a sandbox has a name that is made of the
//! sandbox's id, within what has the instance's name, so that a look at these places finds it.
//!
//! # What holds
//!
//! - The directory is ours alone: another user's is refused, and so is one that others can write.
//! - What is in it is opened through it, by no link, and only if it is a regular file of ours.
//! - An instance's record goes when nothing of the instance is left, and what it may have asked an
//!   engine for can't appear any more.

use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, fchmod, fstat, linkat, mkdirat, openat, renameat,
    unlinkat,
};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;
use symbiont_guest::users::IDS;
use symbiont_types::SandboxError;

use crate::{cgroup, docker, gvisor};

/// The first user id of the host that is given to sandboxes, and how many each gets.
const FIRST_ID: u32 = 1 << 30;
/// Sandboxes of one host that may have ids at once.
const MAX_RANGES: u32 = 4096;
/// The longest file of an instance.
const MAX_RECORD: u64 = 64 << 10;
/// How long after an instance has last asked an engine for something that may still appear; an engine
/// is asked for no longer than this.
const UNSETTLED: Duration = Duration::from_secs(60);
/// How long an engine may take to say what dead instances have left in it.
const ENGINE: Duration = Duration::from_secs(5);
/// Where instances that run as root meet, whatever their state directories are.
const SHARED: &str = "/run/symbiont";

/// This instance among others.
#[derive(Debug)]
pub(crate) struct Instance {
    /// Its name, which is also that of its control groups.
    pub(crate) name: String,
    /// The name of the directory in which it meets others, which no two directories share.
    pub(crate) place: String,
    /// Where its control groups may be.
    bases: Vec<PathBuf>,
    meeting: Meeting,
    /// How many things an engine was asked for that are not known to be gone.
    pending: AtomicUsize,
    held: File,
    free: Mutex<Vec<Range>>,
}

/// Where instances meet.
#[derive(Debug)]
struct Meeting {
    directory: PathBuf,
    instances: OwnedFd,
    ids: OwnedFd,
    /// Its name.
    place: String,
}

/// What an instance wrote down before there was anything of it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Record {
    /// The boot of the host that it was of: with that, all that the kernel had of it is gone.
    boot: Option<String>,
    /// Where its control groups may be.
    bases: Vec<PathBuf>,
    /// The socket of the engine that has its containers.
    engine: Option<PathBuf>,
}

/// An instance that has ended and left something, held so that nobody else clears it away meanwhile.
#[derive(Debug)]
struct Dead {
    name: String,
    record: Record,
    /// What could not be removed.
    left: Vec<String>,
    held: File,
}

/// Removes what instances that have ended, in whatever way, have left on this host, and says what can't
/// be removed: that is tried again by whoever starts next. `state_dir` is that of the drivers.
///
/// Nothing is touched that has not both the name of such an instance and its place in the record that it
/// wrote before it made anything.
///
/// # Errors
///
/// `BackendUnavailable` when the state directory can't be used.
pub async fn reap(state_dir: Option<&Path>) -> Result<Vec<String>, SandboxError> {
    let directory = meeting_place(state_dir, gives_ids());
    if !directory.exists() {
        return Ok(Vec::new()); // Nobody was ever here.
    }
    let unusable = |error: io::Error| SandboxError::BackendUnavailable {
        reason: format!("the state directory `{}`: {error}", directory.display()),
    };
    let found = cgroup::read_found();
    let meeting = Meeting::open(&directory).map_err(unusable)?;
    let dead = meeting.sweep(|name| cgroup::bases(&found, name)).map_err(unusable)?;
    let mut left = Vec::new();
    for mut dead in dead {
        if let Some(socket) = &dead.record.engine {
            let swept = docker::sweep(socket, &meeting.place, &dead.name);
            let swept = tokio::time::timeout(ENGINE, swept).await;
            match swept {
                Ok(Ok(())) => {}
                Ok(Err(error)) => dead.left.push(format!("containers: {error}")),
                Err(_) => dead.left.push(format!("containers: no answer for {ENGINE:?}")),
            }
        }
        left.extend(dead.left.iter().map(|what| format!("of {}: {what}", dead.name)));
        meeting.settle(&dead);
    }
    Ok(left)
}

/// The folder for the sockets of sandboxes that are kept between commands, ours alone, within the state
/// directory that processes share.
///
/// # Errors
///
/// `BackendUnavailable` when it can't be used.
pub fn kept() -> Result<PathBuf, SandboxError> {
    let directory = meeting_place(None, gives_ids());
    let made = || {
        if let Some(parent) = directory.parent() {
            fs::create_dir_all(parent)?;
        }
        let top = private(CWD, directory.as_os_str())?;
        private(&top, OsStr::new("kept")).map(|_| directory.join("kept"))
    };
    made().map_err(|error| SandboxError::BackendUnavailable {
        reason: format!("the state directory `{}`: {error}", directory.display()),
    })
}

/// A state directory that one process has for itself.
#[derive(Debug)]
pub struct Claim {
    directory: OwnedFd,
    _held: File,
}

/// The file that whoever has a state directory holds locked, with its number in it.
const HOLDER: &str = "holder";

impl Claim {
    /// Takes a state directory, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` when another process has it, with which; `BackendUnavailable` when it can't be
    /// used.
    pub fn take(directory: &Path) -> Result<Self, SandboxError> {
        Self::hold(directory).map_err(|error| SandboxError::BackendUnavailable {
            reason: format!("the state directory `{}`: {error}", directory.display()),
        })?
    }

    fn hold(directory: &Path) -> io::Result<Result<Self, SandboxError>> {
        if let Some(parent) = directory.parent() {
            fs::create_dir_all(parent)?;
        }
        let top = private(CWD, directory.as_os_str())?;
        loop {
            let mut file = own_file(&top, HOLDER, OFlags::RDWR | OFlags::CREATE)?;
            match file.try_lock() {
                // Its last holder has removed it meanwhile: another one counts.
                Ok(()) if file.metadata()?.nlink() == 0 => {}
                Ok(()) => {
                    file.set_len(0)?;
                    file.write_all(format!("{}\n", std::process::id()).as_bytes())?;
                    return Ok(Ok(Self { directory: top, _held: file }));
                }
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) => {
                    let mut holder = String::new();
                    let _it_says_nothing_yet = (&file).take(32).read_to_string(&mut holder);
                    let holder = if holder.is_empty() { "another one" } else { holder.trim() };
                    return Ok(Err(SandboxError::InvalidArgument {
                        what: format!(
                            "the state directory `{}` is in use by process {holder}: end that, or \
                             choose another directory",
                            directory.display()
                        ),
                    }));
                }
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // While it is still locked.
        let _a_later_one_takes_it_as_it_is = unlinkat(&self.directory, HOLDER, AtFlags::empty());
    }
}

/// User ids of the host that belong to one sandbox.
#[derive(Debug)]
pub(crate) struct Range {
    pub(crate) first: u32,
    _held: File,
}

/// Where instances meet: for root in one place, for a user where `given` says or in the user's own
/// directory for what lives as long as the machine runs, if the host has such directories.
pub(crate) fn meeting_place(given: Option<&Path>, root: bool) -> PathBuf {
    if root {
        return PathBuf::from(SHARED);
    }
    if let Some(given) = given {
        return given.to_owned();
    }
    let user = rustix::process::geteuid().as_raw();
    let of_the_user = Path::new("/run/user").join(user.to_string());
    if fs::metadata(&of_the_user).is_ok_and(|there| there.is_dir() && there.uid() == user) {
        of_the_user.join("symbiont")
    } else {
        Path::new("/tmp").join(format!("symbiont-{user}"))
    }
}

impl Instance {
    /// Joins the others at their meeting place, and says where that is. `engine` is the socket of the
    /// engine that will have its containers.
    pub(crate) fn meet(
        state_dir: Option<&Path>,
        engine: Option<&Path>,
        bases: impl Fn(&str) -> Vec<PathBuf>,
    ) -> Result<(Self, PathBuf), SandboxError> {
        let directory = meeting_place(state_dir, gives_ids());
        match Self::join(&directory, engine, bases) {
            Ok(instance) => Ok((instance, directory)),
            Err(error) => Err(SandboxError::BackendUnavailable {
                reason: format!("the state directory `{}`: {error}", directory.display()),
            }),
        }
    }

    /// Joins the others in `directory`, and removes what dead ones left behind, but for what is in an
    /// engine.
    ///
    /// `bases` says where the control groups of an instance of a name may be; that is written down
    /// before there are any.
    pub(crate) fn join(
        directory: &Path,
        engine: Option<&Path>,
        bases: impl Fn(&str) -> Vec<PathBuf>,
    ) -> io::Result<Self> {
        let meeting = Meeting::open(directory)?;
        for dead in meeting.sweep(&bases)? {
            meeting.settle(&dead);
        }
        let random = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("symbiont-{}", &random[..16]);
        let bases = bases(&name);
        let record =
            Record { boot: boot(), bases: bases.clone(), engine: engine.map(Path::to_owned) };
        let held = meeting.enter(&name, &record)?;
        Ok(Self {
            name,
            place: meeting.place.clone(),
            bases,
            meeting,
            pending: AtomicUsize::new(0),
            held,
            free: Mutex::default(),
        })
    }

    /// Writes down that the engine is about to be asked for something.
    pub(crate) fn intend(&self) -> io::Result<()> {
        self.pending.fetch_add(1, Ordering::Relaxed);
        self.held.set_modified(SystemTime::now())?;
        self.held.sync_all()
    }

    /// Takes note that what the engine was asked for is gone.
    pub(crate) fn done(&self) {
        self.pending.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether an instance of this name, of the same directory, is alive.
    pub(crate) fn is_alive(&self, name: &str) -> bool {
        name == self.name
            || is_ours(name)
                && own_file(&self.meeting.instances, name, OFlags::RDONLY)
                    .is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
    }

    /// Ids that no other sandbox of this host has.
    pub(crate) fn take_ids(&self) -> io::Result<Range> {
        if let Some(range) = self.lock_free().pop() {
            return Ok(range);
        }
        for number in 0..MAX_RANGES {
            let file =
                own_file(&self.meeting.ids, &number.to_string(), OFlags::WRONLY | OFlags::CREATE)?;
            match file.try_lock() {
                Ok(()) => return Ok(Range { first: FIRST_ID + number * IDS, _held: file }),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Err(io::Error::other(format!("all {MAX_RANGES} ranges of user ids are taken")))
    }

    /// Gives ids back, to be used again by this instance.
    pub(crate) fn return_ids(&self, range: Range) {
        self.lock_free().push(range);
    }

    fn lock_free(&self) -> std::sync::MutexGuard<'_, Vec<Range>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // A record that stays tells the next instance that there may be something to remove. Nobody asks
        // an engine here: it is asked by whoever comes next.
        let swept = cgroup::sweep(&self.name, &self.bases);
        let cleared = gvisor::remove(&self.meeting.gvisor(&self.name)).is_ok();
        if swept && cleared && *self.pending.get_mut() == 0 {
            let _swept_later = unlinkat(&self.meeting.instances, &self.name, AtFlags::empty());
        }
    }
}

impl Meeting {
    fn open(directory: &Path) -> io::Result<Self> {
        if let Some(parent) = directory.parent() {
            fs::create_dir_all(parent)?;
        }
        let top = private(CWD, directory.as_os_str())?;
        let instances = private(&top, OsStr::new("instances"))?;
        let ids = private(&top, OsStr::new("ids"))?;
        let place = place(&top)?;
        Ok(Self { directory: directory.to_owned(), instances, ids, place })
    }

    /// Writes the record of an instance, which is there whole when this returns, also after the host
    /// has lost its power. Gives the file, locked.
    fn enter(&self, name: &str, record: &Record) -> io::Result<File> {
        // Locked and written before it has its name: nobody may take it for a dead one's.
        let hidden = format!(".{name}");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let mut held = own_file(&self.instances, &hidden, flags)?;
        held.lock()?;
        held.write_all(&record.encode())?;
        held.sync_all()?;
        step!("a record is written", name);
        renameat(&self.instances, &hidden, &self.instances, name)?;
        rustix::fs::fsync(&self.instances)?;
        step!("a record is in its place", name);
        Ok(held)
    }

    /// Removes what dead instances have left in the kernel and in directories, and gives those of them
    /// that are not done with.
    fn sweep(&self, bases: impl Fn(&str) -> Vec<PathBuf>) -> io::Result<Vec<Dead>> {
        let mut all = Vec::new();
        for entry in Dir::read_from(&self.instances)?.flatten() {
            let Ok(name) = entry.file_name().to_str() else { continue };
            if name.strip_prefix('.').is_some_and(is_ours) {
                self.clear_unfinished(name);
            }
            if !is_ours(name) {
                continue;
            }
            let Ok(held) = own_file(&self.instances, name, OFlags::RDONLY) else { continue };
            if held.try_lock().is_err() {
                continue;
            }
            let record = Record::read(&held);
            let mut left = Vec::new();
            if record.boot.is_none() || record.boot == boot() {
                // Where nothing is written, what it left can only be looked for around ourselves.
                let written = &record.bases;
                let around = if written.is_empty() { bases(name) } else { Vec::new() };
                if !cgroup::sweep(name, if written.is_empty() { &around } else { written }) {
                    left.push("control groups with something in them".to_owned());
                }
            }
            if let Err(error) = gvisor::remove(&self.gvisor(name)) {
                left.push(format!("its directory: {error}"));
            }
            all.push(Dead { name: name.to_owned(), record, left, held });
        }
        Ok(all)
    }

    /// The directory that an instance may have for sandboxes of gVisor.
    fn gvisor(&self, name: &str) -> PathBuf {
        self.directory.join("gvisor").join(name)
    }

    /// Forgets a dead instance if nothing of it is left or can appear.
    fn settle(&self, dead: &Dead) {
        if dead.left.is_empty() && (dead.record.engine.is_none() || is_old(&dead.held)) {
            let _someone_was_faster = unlinkat(&self.instances, &dead.name, AtFlags::empty());
        }
    }

    /// Removes a record that was never finished. One that is being written is younger.
    fn clear_unfinished(&self, name: &str) {
        let unfinished = own_file(&self.instances, name, OFlags::RDONLY);
        if unfinished.is_ok_and(|file| file.try_lock().is_ok() && is_old(&file)) {
            let _someone_was_faster = unlinkat(&self.instances, name, AtFlags::empty());
        }
    }
}

/// Whether nobody has touched a file for so long that nothing can follow.
fn is_old(file: &File) -> bool {
    let modified = file.metadata().and_then(|about| about.modified());
    modified.is_ok_and(|then| then.elapsed().is_ok_and(|age| age > UNSETTLED))
}

/// What the kernel calls the time since it was started.
fn boot() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

impl Record {
    /// Fields of `name=value`, each followed by a zero byte, which is in no path.
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut field = |name: &str, value: &[u8]| {
            for part in [name.as_bytes(), b"=", value, b"\0"] {
                bytes.extend_from_slice(part);
            }
        };
        if let Some(boot) = &self.boot {
            field("boot", boot.as_bytes());
        }
        for base in &self.bases {
            field("group", base.as_os_str().as_bytes());
        }
        if let Some(engine) = &self.engine {
            field("engine", engine.as_os_str().as_bytes());
        }
        bytes
    }

    /// What is written there; of what was cut off, or of another's, nothing.
    fn read(file: &File) -> Self {
        let mut bytes = Vec::new();
        let mut record = Self::default();
        if file.take(MAX_RECORD).read_to_end(&mut bytes).is_err() {
            return record;
        }
        for field in bytes.split(|byte| *byte == 0) {
            let Some(at) = field.iter().position(|byte| *byte == b'=') else { continue };
            let (name, value) = (&field[..at], OsStr::from_bytes(&field[at + 1..]));
            match name {
                b"boot" => record.boot = value.to_str().map(str::to_owned),
                b"group" => record.bases.push(value.into()),
                b"engine" => record.engine = Some(value.into()),
                _ => {}
            }
        }
        record
    }
}

/// The directory of this name in another, made if it is missing, that is ours alone.
fn private(parent: impl std::os::fd::AsFd + Copy, name: &OsStr) -> io::Result<OwnedFd> {
    let mine = Mode::from_raw_mode(0o700);
    match mkdirat(parent, name, mine) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(parent, name, flags, Mode::empty())?;
    let stat = fstat(&directory)?;
    let (owner, us) = (stat.st_uid, rustix::process::geteuid().as_raw());
    let refuse = |why: String| {
        let what = format!("`{}` {why}: remove it, or choose another", name.display());
        Err(io::Error::new(io::ErrorKind::PermissionDenied, what))
    };
    if owner != us {
        return refuse(format!("belongs to user {owner} and not to us ({us})"));
    }
    if stat.st_mode & 0o022 != 0 {
        return refuse("can be written by others".to_owned());
    }
    if stat.st_mode & 0o077 != 0 {
        fchmod(&directory, mine)?;
    }
    Ok(directory)
}

/// A regular file of ours, without waiting for anyone.
fn own_file(directory: &OwnedFd, name: &str, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(directory, name, flags, Mode::from_raw_mode(0o600))?;
    let stat = fstat(&file)?;
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if !regular || stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("`{name}` is no regular file of ours"),
        ));
    }
    Ok(File::from(file))
}

/// The name of a directory of instances, given when it is first used.
fn place(top: &OwnedFd) -> io::Result<String> {
    let hidden = format!(".place-{}", uuid::Uuid::new_v4().simple());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    own_file(top, &hidden, flags)?
        .write_all(uuid::Uuid::new_v4().simple().to_string().as_bytes())?;
    // Whole, and only if nobody was faster.
    let given = linkat(top, &hidden, top, "place", AtFlags::empty());
    unlinkat(top, &hidden, AtFlags::empty())?;
    match given {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut text = String::new();
    own_file(top, "place", OFlags::RDONLY)?.take(64).read_to_string(&mut text)?;
    let whole = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "`place` holds no name: remove it");
    whole.then_some(text).ok_or_else(broken)
}

/// Whether this process may give every id of [`MAX_RANGES`] to others: root of the host, or of a
/// container that has them, but not the root of a namespace that maps one user.
pub(crate) fn gives_ids() -> bool {
    let map = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID;
    rustix::process::geteuid().is_root()
        && covers(&map("uid_map"))
        && covers(&map("gid_map"))
        && rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(needed))
}

/// Whether a map of ids has all that are given out, in one piece.
fn covers(map: &str) -> bool {
    let end = u64::from(FIRST_ID) + u64::from(IDS) * u64::from(MAX_RANGES);
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().filter_map(|word| word.parse::<u64>().ok());
        match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(inside), Some(_), Some(count)) => {
                inside <= FIRST_ID.into() && inside.saturating_add(count) >= end
            }
            _ => false,
        }
    })
}

/// Whether this is the name of an instance.
pub(crate) fn is_ours(name: &str) -> bool {
    name.strip_prefix("symbiont-")
        .is_some_and(|rest| rest.len() == 16 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// What becomes of joining in a directory that was prepared.
    #[track_caller]
    fn check(prepare: impl FnOnce(&Path), want: Result<u32, &str>) {
        let parent = tempfile::tempdir().unwrap();
        let place = parent.path().join("place");
        prepare(&place);
        match (Instance::join(&place, None, |_| Vec::new()).map(drop), want) {
            (Ok(()), Ok(mode)) => {
                assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o777, mode);
                let left = fs::read_dir(place.join("instances")).unwrap().flatten();
                let left: Vec<_> = left.filter(|e| e.file_type().unwrap().is_file()).collect();
                assert!(left.is_empty(), "{left:?}");
            }
            (Err(error), Err(want)) => assert!(error.to_string().contains(want), "{error}"),
            (got, want) => panic!("{got:?} is not {want:?}"),
        }
    }

    #[test]
    fn only_a_directory_of_our_own_is_used() {
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        };
        check(|_| (), Ok(0o700));
        check(|place| fs::create_dir_all(place).map(|()| mode(place, 0o755)).unwrap(), Ok(0o700));
        check(
            |place| fs::create_dir_all(place).map(|()| mode(place, 0o777)).unwrap(),
            Err("can be written by others"),
        );
        check(|place| symlink("/tmp", place).unwrap(), Err("os error"));
        check(|place| fs::write(place, "x").unwrap(), Err("os error"));
        if rustix::process::geteuid().is_root() {
            let other = |place: &Path| {
                fs::create_dir(place).unwrap();
                std::os::unix::fs::chown(place, Some(12345), None).unwrap();
            };
            check(other, Err("belongs to user 12345"));
        } else {
            eprintln!("not run: only root can give a directory away");
        }
        // Entries that are no files are no instances, and nobody waits for them.
        check(
            |place| {
                let instances = place.join("instances");
                fs::create_dir_all(&instances).unwrap();
                let named = |n: u32| instances.join(format!("symbiont-000000000000000{n}"));
                symlink("/etc/hostname", named(1)).unwrap();
                let fifo = rustix::fs::FileType::Fifo;
                rustix::fs::mknodat(CWD, named(2), fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
                fs::write(named(3), "/sys/fs/cgroup/../../tmp/symbiont-0000000000000003").unwrap();
            },
            Ok(0o700),
        );
    }

    #[test]
    fn a_record_says_again_what_was_written() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let read = |bytes: &[u8]| {
            fs::write(path.path(), bytes).unwrap();
            Record::read(&File::open(path.path()).unwrap())
        };
        let whole = Record {
            boot: Some("b".to_owned()),
            bases: vec!["/a=b\n".into(), "/c".into()],
            engine: Some("/run/x".into()),
        };
        assert_eq!(read(&whole.encode()), whole);
        assert_eq!(read(&Record::default().encode()), Record::default());
        assert_eq!(read(b"boot"), Record::default());
        assert_eq!(
            read(b"other=x\0group=/g"),
            Record { bases: vec!["/g".into()], ..Record::default() }
        );
    }

    #[test]
    fn a_dead_one_s_record_stays_while_something_of_it_can_appear() {
        let parent = tempfile::tempdir().unwrap();
        let place = parent.path().join("place");
        let engine = Some(Path::new("/nowhere/engine"));
        let names = || {
            let all = fs::read_dir(place.join("instances")).unwrap().flatten();
            all.map(|entry| entry.file_name().into_string().unwrap()).collect::<Vec<_>>()
        };
        let age = |name: &str| {
            let file =
                File::options().write(true).open(place.join("instances").join(name)).unwrap();
            file.set_modified(SystemTime::now() - 2 * UNSETTLED).unwrap();
        };
        drop(Instance::join(&place, None, |_| Vec::new()).unwrap());
        assert_eq!(names(), [""; 0], "nothing of it can be left");
        let first = Instance::join(&place, engine, |_| Vec::new()).unwrap();
        let name = first.name.clone();
        first.intend().unwrap();
        drop(first);
        drop(Instance::join(&place, None, |_| Vec::new()).unwrap());
        assert_eq!(names(), [name.as_str()], "an engine may still make what it asked for");
        age(&name);
        // Whoever is alive is not cleared away, however old.
        let second = Instance::join(&place, engine, |_| Vec::new()).unwrap();
        second.intend().unwrap();
        second.done();
        assert_eq!(names(), [second.name.as_str()]);
        age(&second.name);
        drop(Instance::join(&place, None, |_| Vec::new()).unwrap());
        assert_eq!(names(), [second.name.as_str()]);
        // One that was cut off while it was being written.
        let unfinished = format!(".{}", name);
        fs::write(place.join("instances").join(&unfinished), "").unwrap();
        drop(Instance::join(&place, None, |_| Vec::new()).unwrap());
        assert_eq!(names().len(), 2);
        age(&unfinished);
        drop(Instance::join(&place, None, |_| Vec::new()).unwrap());
        assert_eq!(names(), [second.name.as_str()]);
        drop(second);
        assert_eq!(names(), [""; 0], "all that it asked for is known to be gone");
    }

    #[test]
    fn a_state_directory_has_one_holder() {
        let parent = tempfile::tempdir().unwrap();
        let place = parent.path().join("a/b");
        let first = Claim::take(&place).unwrap();
        let refused = Claim::take(&place).unwrap_err().to_string();
        let us = format!("is in use by process {}", std::process::id());
        assert!(refused.contains(&us), "{refused}");
        drop(first);
        assert_eq!(fs::read_dir(&place).unwrap().count(), 0, "nothing stays");
        // One whose holder was killed is taken over.
        fs::write(place.join(HOLDER), "123456").unwrap();
        drop(Claim::take(&place).unwrap());
        assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
    }

    #[test]
    fn ids_can_be_given_only_where_all_are_mapped() {
        for (map, want) in [
            ("         0          0 4294967295\n", true),
            ("0 100000 65536\n", false),
            ("0 0 1\n", false),
            ("0 1000 1\n1 100000 4000000000\n", true),
            ("0 0 1073741824\n1073741824 1073741824 1000\n", false),
            ("", false),
            ("x y z\n", false),
            ("0 0 18446744073709551615\n", true),
        ] {
            assert_eq!(covers(map), want, "{map:?}");
        }
    }
}
