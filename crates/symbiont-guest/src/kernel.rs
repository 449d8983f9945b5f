//! What the kernel that runs us may lack, and what does instead.
//!
//! A sandbox's kernel need not be the host's: gVisor brings one of its own, which has not all the
//! calls of Linux. Each call is tried, and where there is no such call something slower takes its
//! place. The walls are the same either way: what leads out of a directory is refused with the same
//! error.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    CWD, FileType, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, fstat, fstatfs, openat, readlinkat,
};
use rustix::io::{Errno, Result};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process, pidfd_send_signal, waitid,
    waitpid,
};
use rustix::pty::OpenptFlags;
use rustix::thread::{Gid, Uid, set_thread_res_gid, set_thread_res_uid};

use crate::sys::{self, Clone};

/// The links that a path may lead over, as Linux has it.
const MAX_LINKS: u32 = 40;

/// A child that was not waited for yet.
#[derive(Debug)]
pub(crate) enum Child {
    /// By a descriptor that becomes readable when it ends.
    Descriptor(OwnedFd),
    /// By its number, which is nobody else's as long as nobody has waited for it.
    Number(Pid),
}

/// In which process one is after a fork.
pub(crate) enum Fork {
    /// In the new one.
    Child,
    /// In the old one.
    Parent(Pid, Child),
}

/// Forks, with new namespaces for the child as `namespaces` says.
pub(crate) fn fork(namespaces: u64) -> Result<Fork> {
    match sys::clone(namespaces) {
        Ok(Clone::Child) => Ok(Fork::Child),
        Ok(Clone::Parent(pid, descriptor)) => Ok(Fork::Parent(pid, Child::Descriptor(descriptor))),
        Err(Errno::NOSYS) => Ok(match sys::clone_by_number(namespaces)? {
            None => Fork::Child,
            Some(pid) => Fork::Parent(pid, Child::Number(pid)),
        }),
        Err(errno) => Err(errno),
    }
}

impl Child {
    /// Sends it a signal; if it has ended, to nobody.
    pub(crate) fn signal(&self, signal: Signal) {
        let _gone_already = match self {
            Self::Descriptor(descriptor) => pidfd_send_signal(descriptor, signal),
            Self::Number(pid) => kill_process(*pid, signal),
        };
    }

    /// Has it, a keeper, pass on a signal to its command.
    pub(crate) fn pass_on(&self, number: u32) {
        let _gone_already = match self {
            Self::Descriptor(descriptor) => sys::pass_on(descriptor, number),
            Self::Number(pid) => sys::pass_on_by_number(*pid, number),
        };
    }

    /// Waits for its end, which is there or near.
    pub(crate) fn reap(&self) {
        let _reaped = match self {
            Self::Descriptor(descriptor) => {
                waitid(WaitId::PidFd(descriptor.as_fd()), WaitIdOptions::EXITED).map(drop)
            }
            Self::Number(pid) => waitpid(Some(*pid), WaitOptions::empty()).map(drop),
        };
    }
}

/// How files are touched as another user, without giving up our own powers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileUser {
    /// It was said once, for all that follows.
    Always(u32),
    /// We become that user for a while.
    Borrowed(u32),
}

impl FileUser {
    /// From now on, or, where the kernel can't have that, within each [`FileUser::enter`].
    pub(crate) fn choose(id: u32) -> Self {
        sys::set_file_ids(id);
        if sys::file_user() == id.cast_signed() { Self::Always(id) } else { Self::Borrowed(id) }
    }

    /// Becomes the user until the guard goes.
    pub(crate) fn enter(self) -> Result<Entered> {
        let Self::Borrowed(id) = self else { return Ok(Entered(None)) };
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        let entered = Entered(Some((user, group)));
        effective(None, Some(Gid::from_raw(id)))?;
        effective(Some(Uid::from_raw(id)), None)?;
        Ok(entered)
    }
}

/// We are another user while this is there.
#[must_use]
pub(crate) struct Entered(Option<(Uid, Gid)>);

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some((user, group)) = self.0
            && effective(Some(user), None).and_then(|()| effective(None, Some(group))).is_err()
        {
            // Without our powers there is nothing that we may go on with.
            sys::exit(75);
        }
    }
}

/// Changes only the effective ids: the saved ones are the way back.
fn effective(user: Option<Uid>, group: Option<Gid>) -> Result<()> {
    let (same_user, same_group) = (Uid::from_raw(u32::MAX), Gid::from_raw(u32::MAX));
    if let Some(group) = group {
        set_thread_res_gid(same_group, group, same_group)?;
    }
    if let Some(user) = user {
        set_thread_res_uid(same_user, user, same_user)?;
    }
    Ok(())
}

/// The side of a terminal that programs are on, of one of this process's own mount of them.
pub(crate) fn other_side(master: impl AsFd) -> Result<OwnedFd> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    match rustix::pty::ioctl_tiocgptpeer(&master, flags) {
        Err(Errno::NOTTY) => {
            let name = rustix::pty::ptsname(&master, Vec::new())?;
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(CWD, name, flags, Mode::empty())
        }
        result => result,
    }
}

/// Opens a path beneath a directory by rules of [`ResolveFlags`]; of those, `BENEATH`,
/// `NO_SYMLINKS` and `NO_MAGICLINKS` are used here.
pub(crate) fn open(
    root: impl AsFd,
    path: &[u8],
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    match rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve) {
        Err(Errno::NOSYS) => walk(root.as_fd(), path, flags, resolve),
        result => result,
    }
}

/// The same, one name at a time.
///
/// Every directory on the way is held open, so that nothing that is renamed meanwhile leads out. A
/// path that need not stay beneath `root` starts at the root of all, where this process is.
fn walk(root: impl AsFd, path: &[u8], flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd> {
    let beneath = resolve.contains(ResolveFlags::BENEATH);
    let place = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if path.is_empty() {
        return Err(Errno::NOENT);
    }
    let mut left: VecDeque<Vec<u8>> = split(path);
    let mut links = 0;
    if beneath && path.first() == Some(&b'/') {
        return Err(Errno::XDEV);
    }
    let mut way = vec![openat(&root, if beneath { "." } else { "/" }, place, Mode::empty())?];
    while let Some(name) = left.pop_front() {
        let here = way.last().ok_or(Errno::XDEV)?;
        let last = left.is_empty();
        match name.as_slice() {
            b"" | b"." if last => return finish(here, b".", flags),
            b"" | b"." => continue,
            b".." if way.len() > 1 => {
                way.pop();
            }
            b".." if beneath => return Err(Errno::XDEV),
            b".." => {}
            name => {
                let found = openat(here, name, place, Mode::empty())?;
                let kind = FileType::from_raw_mode(fstat(&found)?.st_mode);
                let link_itself = flags.contains(OFlags::PATH | OFlags::NOFOLLOW);
                if kind != FileType::Symlink || last && link_itself {
                    if last {
                        return finish(here, name, flags);
                    }
                    if kind != FileType::Directory {
                        return Err(Errno::NOTDIR);
                    }
                    way.push(found);
                    continue;
                }
                links += 1;
                let refused = resolve.contains(ResolveFlags::NO_SYMLINKS)
                    || last && flags.contains(OFlags::NOFOLLOW);
                if refused || links > MAX_LINKS {
                    return Err(Errno::LOOP);
                }
                let target = readlinkat(here, name, Vec::new())?.into_bytes();
                if target.first() == Some(&b'/') {
                    if beneath {
                        return Err(Errno::XDEV);
                    }
                    // Those of /proc that are no names but lead to what a process has open.
                    if fstatfs(here)?.f_type == PROC_SUPER_MAGIC {
                        return Err(Errno::LOOP);
                    }
                    way = vec![openat(&root, "/", place, Mode::empty())?];
                }
                for part in split(&target).into_iter().rev() {
                    left.push_front(part);
                }
                continue;
            }
        }
        if last {
            return finish(way.last().ok_or(Errno::XDEV)?, b".", flags);
        }
    }
    Err(Errno::NOENT)
}

fn split(path: &[u8]) -> VecDeque<Vec<u8>> {
    path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect()
}

/// Opens the last name, which is no link that may be followed.
fn finish(here: &OwnedFd, name: &[u8], flags: OFlags) -> Result<OwnedFd> {
    openat(here, name, flags | OFlags::NOFOLLOW, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use proptest::prelude::*;

    /// What the rules of this crate are made of.
    const RULES: [(ResolveFlags, OFlags); 4] = [
        (BENEATH, OFlags::RDONLY.union(OFlags::NONBLOCK)),
        (BENEATH.union(ResolveFlags::NO_SYMLINKS), OFlags::PATH.union(OFlags::NOFOLLOW)),
        (BENEATH.union(ResolveFlags::NO_SYMLINKS), OFlags::PATH.union(OFlags::DIRECTORY)),
        (ResolveFlags::NO_MAGICLINKS, OFlags::PATH.union(OFlags::DIRECTORY)),
    ];
    const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

    /// Which file it is, or why there is none.
    fn told(result: Result<OwnedFd>) -> Result<(u64, u64)> {
        result.and_then(fstat).map(|stat| (stat.st_dev, stat.st_ino))
    }

    fn names() -> impl Strategy<Value = String> {
        let name = prop::sample::select(vec!["a", "b", "l", "m", "f", "..", ".", "", "none"]);
        prop::collection::vec(name, 1..5).prop_map(|names| names.join("/"))
    }

    proptest! {
        #[test]
        fn a_walk_finds_what_the_kernel_finds(
            path in names(), one in names(), other in names(), third in names(),
        ) {
            let place = tempfile::tempdir().unwrap();
            let root = place.path().join("root");
            fs::create_dir_all(root.join("a/b/a")).unwrap();
            fs::write(place.path().join("f"), "out").unwrap();
            fs::write(root.join("f"), "x").unwrap();
            fs::write(root.join("a/b/f"), "y").unwrap();
            for (link, target) in [("l", &one), ("a/m", &other), ("a/b/l", &third)] {
                if !target.is_empty() {
                    symlink(target, root.join(link)).unwrap();
                }
            }
            let open = rustix::fs::open(&root, OFlags::PATH, Mode::empty()).unwrap();
            for (resolve, flags) in RULES {
                // A path that may lead anywhere starts at the root of all.
                let path = match resolve.contains(ResolveFlags::BENEATH) {
                    true => path.clone(),
                    false => format!("{}/{path}", root.display()),
                };
                let flags = flags | OFlags::CLOEXEC;
                let want = rustix::fs::openat2(&open, &path, flags, Mode::empty(), resolve);
                let got = walk(&open, path.as_bytes(), flags, resolve);
                prop_assert_eq!(told(got), told(want), "{} by {:?} {:?}", path, resolve, flags);
            }
        }
    }

    #[test]
    fn a_walk_follows_no_link_to_what_a_process_has_open() {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        for (path, want) in [
            ("/proc/self/cwd", Err(Errno::LOOP)),
            ("/proc/self/root", Err(Errno::LOOP)),
            ("/proc/self/task/..", Ok(())),
            ("/proc/thread-self", Ok(())),
            ("/proc/self/fd/..", Ok(())),
        ] {
            let got = walk(CWD, path.as_bytes(), flags, ResolveFlags::NO_MAGICLINKS);
            assert_eq!(got.map(drop), want, "{path}");
        }
    }
}
