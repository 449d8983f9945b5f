//! What several of us on one host share: who is alive, and which user ids are taken.
//!
//! Both are files that are locked for as long as their owner lives, so that the kernel gives them
//! back whatever happens to it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::thread::CapabilitySet;

use crate::process::cgroup;

/// The first user id of the host that is given to sandboxes, and how many each gets.
const FIRST_ID: u32 = 1 << 30;
const IDS: u32 = 1 << 16;
/// Sandboxes of one host that may have ids at once.
const MAX_RANGES: u32 = 4096;

/// This instance among others.
#[derive(Debug)]
pub(crate) struct Instance {
    /// Its name, which is also that of its control groups.
    pub(crate) name: String,
    directory: PathBuf,
    lock: PathBuf,
    _held: File,
    free: Mutex<Vec<Range>>,
}

/// User ids of the host that belong to one sandbox.
#[derive(Debug)]
pub(crate) struct Range {
    pub(crate) first: u32,
    _held: File,
}

impl Instance {
    /// Joins the others in `directory`, and removes what dead ones left behind.
    pub(crate) fn join(directory: &Path) -> io::Result<Self> {
        let instances = directory.join("instances");
        fs::create_dir_all(&instances)?;
        fs::create_dir_all(directory.join("ids"))?;
        for entry in fs::read_dir(&instances)?.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| is_ours(name)) else { continue };
            let Ok(file) = File::open(entry.path()) else { continue };
            match file.try_lock() {
                // What is not empty yet is left to whoever comes next.
                Ok(()) if cgroup::sweep(name) => {
                    let _someone_was_faster = fs::remove_file(entry.path());
                }
                Ok(()) => {}
                Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
            }
        }
        let random = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("symbiont-{}", &random[..16]);
        let lock = instances.join(&name);
        // Locked before it has its name: nobody may take it for a dead one's.
        let hidden = instances.join(format!(".{name}"));
        let held = File::create_new(&hidden)?;
        held.lock()?;
        fs::rename(&hidden, &lock)?;
        let directory = directory.to_owned();
        Ok(Self { name, directory, lock, _held: held, free: Mutex::default() })
    }

    /// Ids that no other sandbox of this host has.
    pub(crate) fn take_ids(&self) -> io::Result<Range> {
        if let Some(range) = self.lock_free().pop() {
            return Ok(range);
        }
        for number in 0..MAX_RANGES {
            let path = self.directory.join(format!("ids/{number}"));
            let file = File::options().create(true).append(true).open(path)?;
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
        if cgroup::sweep(&self.name) {
            let _swept_later = fs::remove_file(&self.lock);
        }
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

fn is_ours(name: &str) -> bool {
    name.strip_prefix("symbiont-")
        .is_some_and(|rest| rest.len() == 16 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

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
