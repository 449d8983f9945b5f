//! What several of us on one host share: who is alive, and which user ids are taken.
//!
//! Both are files that are locked for as long as their owner lives, so that the kernel gives them
//! back whatever happens to it. An instance's file says where its control groups are.
//!
//! # What holds
//!
//! - The directory is ours alone: another user's is refused, and so is one that others can write.
//! - What is in it is opened through it, by no link, and only if it is a regular file of ours.
//! - An instance's file goes when nothing of the instance is left.

use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, fchmod, fstat, linkat, mkdirat, openat, renameat,
    unlinkat,
};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;
use symbiont_types::SandboxError;

use crate::cgroup;

/// The first user id of the host that is given to sandboxes, and how many each gets.
const FIRST_ID: u32 = 1 << 30;
const IDS: u32 = 1 << 16;
/// Sandboxes of one host that may have ids at once.
const MAX_RANGES: u32 = 4096;
/// The longest file of an instance.
const MAX_RECORD: u64 = 64 << 10;
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
    instances: OwnedFd,
    ids: OwnedFd,
    _held: File,
    free: Mutex<Vec<Range>>,
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
    /// Joins the others at their meeting place, and says where that is.
    pub(crate) fn meet(
        state_dir: Option<&Path>,
        bases: impl Fn(&str) -> Vec<PathBuf>,
    ) -> Result<(Self, PathBuf), SandboxError> {
        let directory = meeting_place(state_dir, gives_ids());
        match Self::join(&directory, bases) {
            Ok(instance) => Ok((instance, directory)),
            Err(error) => Err(SandboxError::BackendUnavailable {
                reason: format!("the state directory `{}`: {error}", directory.display()),
            }),
        }
    }

    /// Joins the others in `directory`, and removes what dead ones left behind.
    ///
    /// `bases` says where the control groups of an instance of a name may be; that is written down
    /// before there are any.
    pub(crate) fn join(directory: &Path, bases: impl Fn(&str) -> Vec<PathBuf>) -> io::Result<Self> {
        if let Some(parent) = directory.parent() {
            fs::create_dir_all(parent)?;
        }
        let top = private(CWD, directory.as_os_str())?;
        let instances = private(&top, OsStr::new("instances"))?;
        let ids = private(&top, OsStr::new("ids"))?;
        let place = place(&top)?;
        for entry in Dir::read_from(&instances)?.flatten() {
            let Some(name) = entry.file_name().to_str().ok().filter(|name| is_ours(name)) else {
                continue;
            };
            let Ok(file) = own_file(&instances, name, OFlags::RDONLY) else { continue };
            if file.try_lock().is_err() {
                continue;
            }
            let written = read_bases(&file);
            // Where nothing is written, what it left can only be looked for around ourselves.
            let left = if written.is_empty() { bases(name) } else { written };
            // What is not empty yet is left to whoever comes next.
            if cgroup::sweep(name, &left) {
                let _someone_was_faster = unlinkat(&instances, name, AtFlags::empty());
            }
        }
        let random = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("symbiont-{}", &random[..16]);
        let bases = bases(&name);
        // Locked and written before it has its name: nobody may take it for a dead one's.
        let hidden = format!(".{name}");
        let mut held =
            own_file(&instances, &hidden, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?;
        held.lock()?;
        let lines: Vec<&[u8]> = bases.iter().map(|base| base.as_os_str().as_bytes()).collect();
        held.write_all(&lines.join(&0))?;
        renameat(&instances, &hidden, &instances, &name)?;
        Ok(Self { name, place, bases, instances, ids, _held: held, free: Mutex::default() })
    }

    /// Whether an instance of this name, of the same directory, is alive.
    pub(crate) fn is_alive(&self, name: &str) -> bool {
        name == self.name
            || is_ours(name)
                && own_file(&self.instances, name, OFlags::RDONLY)
                    .is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
    }

    /// Ids that no other sandbox of this host has.
    pub(crate) fn take_ids(&self) -> io::Result<Range> {
        if let Some(range) = self.lock_free().pop() {
            return Ok(range);
        }
        for number in 0..MAX_RANGES {
            let file = own_file(&self.ids, &number.to_string(), OFlags::WRONLY | OFlags::CREATE)?;
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
        // A file that stays tells the next instance that there is something to remove.
        if cgroup::sweep(&self.name, &self.bases) {
            let _swept_later = unlinkat(&self.instances, &self.name, AtFlags::empty());
        }
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

/// What an instance wrote down; of one that was cut off, nothing.
fn read_bases(file: &File) -> Vec<PathBuf> {
    let mut bytes = Vec::new();
    match file.take(MAX_RECORD).read_to_end(&mut bytes) {
        Ok(_) => {
            let paths = bytes.split(|byte| *byte == 0).filter(|path| !path.is_empty());
            paths.map(|path| OsStr::from_bytes(path).into()).collect()
        }
        Err(_) => Vec::new(),
    }
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
        match (Instance::join(&place, |_| Vec::new()).map(drop), want) {
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
