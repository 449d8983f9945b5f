//! Directories with all that is in them, on their way into a sandbox or out of it.
//!
//! What travels is a row of [`Node`]s, in the order in which a walk meets them. A node has one name and
//! no path: where it belongs follows from the directories that were entered before it. So there is
//! nothing to resolve, and nothing that could lead elsewhere. Both ends use this module; whoever
//! receives takes the other end for an attacker.
//!
//! # What holds
//!
//! - A row that no walk gives is refused ([`Course`]): names that are none or that come twice, more
//!   entries, bytes or depth than there may be, files that are longer or shorter than was said.
//! - Nothing is written through a link, neither one that was there nor one that was made.
//! - A directory appears whole under its name ([`Planting`]), or not at all.
//! - Links are kept as links, and only those that stay within what travels. No device, pipe or socket
//!   travels; what is left out is listed.
//!
//! # What is not here
//!
//! Owners, times, extended attributes and hard links: a file with two names arrives as two files.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Stat, fchmod, fstat, mkdirat, openat, readlinkat,
    renameat, statat, symlinkat, unlinkat,
};
use rustix::io::{Errno, read, write};

use crate::protocol::{MAX_DEPTH, MAX_NODES, MAX_PATH, Node, Omission};

/// The longest name.
const MAX_NAME: usize = 255;
/// The most nodes of one turn of a [`Walk`], so that nobody waits long for it.
const TURN: usize = 512;
/// What a node takes beside its name, about.
const OVERHEAD: usize = 32;
/// How deep what somebody has put among a half-made directory is removed as well.
const REMOVED: usize = 4 * MAX_DEPTH;

/// What was carried from one side to the other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transferred {
    /// Regular files.
    pub files: u64,
    /// Directories, the outermost not counted.
    pub directories: u64,
    /// Symbolic links.
    pub links: u64,
    /// Bytes in the files.
    pub bytes: u64,
    /// What was left out, in the order in which it was met.
    pub omitted: Vec<Omitted>,
}

/// Something that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Omitted {
    /// Where it is, from the directory that was carried.
    pub path: PathBuf,
    /// Why it was not carried.
    pub why: Omission,
}

/// Why a directory can't be carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The kernel refused something.
    Kernel(Errno),
    /// A row that no walk gives.
    Nonsense(&'static str),
    /// More entries than there may be.
    TooMany,
    /// Directories in more directories than there may be.
    TooDeep,
    /// A path longer than there may be.
    PathTooLong,
    /// More bytes than there may be; so many were announced.
    TooLarge(u64),
    /// A file became shorter while it was read.
    Short,
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        Self::Kernel(errno)
    }
}

/// How much may be carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Files, directories, links and what is left out, together.
    pub entries: u64,
    /// Bytes in all files.
    pub bytes: u64,
    /// Directories in directories.
    pub depth: usize,
    /// Bytes of a path.
    pub path: usize,
}

impl Bounds {
    /// The protocol's, with so many bytes.
    pub fn of(bytes: u64) -> Self {
        Self { entries: MAX_NODES, bytes, depth: MAX_DEPTH, path: MAX_PATH }
    }
}

/// Follows a row of nodes and refuses what can't be one. Plain memory: it touches no file.
#[derive(Debug)]
pub struct Course {
    bounds: Bounds,
    entries: u64,
    /// The path of the directory that was entered last.
    path: Vec<u8>,
    /// For each directory on the way, the outermost first: how long the path is without it, and the
    /// name that came last in it.
    levels: Vec<(usize, Vec<u8>)>,
    /// Bytes of the last file that are still to come.
    left: u64,
    done: Transferred,
}

impl Course {
    /// At the beginning of a row.
    pub fn new(bounds: Bounds) -> Self {
        let levels = vec![(0, Vec::new())];
        let (path, done) = (Vec::new(), Transferred::default());
        Self { bounds, entries: 0, path, levels, left: 0, done }
    }

    /// Takes note of a node: whether it is to be carried, or was noted to be left out.
    pub fn take(&mut self, node: &Node) -> Result<bool, Fault> {
        if self.left > 0 && !matches!(node, Node::Data(_)) {
            return Err(Fault::Short);
        }
        match node {
            Node::Data(bytes) => {
                let more = Fault::Nonsense("more of a file than was announced");
                let count = u64::try_from(bytes.len()).ok().filter(|count| *count > 0);
                self.left = self.left.checked_sub(count.ok_or(more)?).ok_or(more)?;
            }
            Node::Leave => match self.levels.pop() {
                Some((before, _)) if !self.levels.is_empty() => self.path.truncate(before),
                Some(_) | None => {
                    return Err(Fault::Nonsense("a directory is left that was not entered"));
                }
            },
            Node::Enter { name, .. } => {
                self.entry(name)?;
                if self.levels.len() > self.bounds.depth {
                    return Err(Fault::TooDeep);
                }
                self.levels.push((self.path.len(), Vec::new()));
                self.path = self.path_of(name);
                self.done.directories += 1;
            }
            Node::File { name, size, .. } => {
                self.entry(name)?;
                let all = self.done.bytes.saturating_add(*size);
                if all > self.bounds.bytes {
                    return Err(Fault::TooLarge(all));
                }
                (self.done.bytes, self.left) = (all, *size);
                self.done.files += 1;
            }
            Node::Link { name, target } => {
                self.entry(name)?;
                if target.is_empty() || target.len() > MAX_PATH || target.contains(&0) {
                    return Err(Fault::Nonsense("a link to what can't be a path"));
                }
                if !self.stays(target) {
                    self.omit(name, Omission::LeadsOut);
                    return Ok(false);
                }
                self.done.links += 1;
            }
            Node::Omitted { name, why } => {
                self.entry(name)?;
                self.omit(name, *why);
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The row is over.
    pub fn finish(self) -> Result<Transferred, Fault> {
        match (self.left, self.levels.len()) {
            (0, 1) => Ok(self.done),
            (0, _) => Err(Fault::Nonsense("a directory is not left")),
            _ => Err(Fault::Short),
        }
    }

    /// The path of what has this name in the directory that was entered last.
    pub fn path_of(&self, name: &[u8]) -> Vec<u8> {
        let mut path = self.path.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        path
    }

    /// One more entry of that name.
    fn entry(&mut self, name: &[u8]) -> Result<(), Fault> {
        let no_name = name.is_empty() || name == b"." || name == b"..";
        if no_name || name.len() > MAX_NAME || name.contains(&b'/') || name.contains(&0) {
            return Err(Fault::Nonsense("a name that is none"));
        }
        if self.path.len() + 1 + name.len() > self.bounds.path {
            return Err(Fault::PathTooLong);
        }
        self.entries += 1;
        if self.entries > self.bounds.entries {
            return Err(Fault::TooMany);
        }
        // Ascending, which shows without memory that none comes twice.
        match self.levels.last_mut() {
            Some((_, last)) if name > last.as_slice() => *last = name.to_vec(),
            _ => return Err(Fault::Nonsense("a name that comes twice, or too late")),
        }
        Ok(())
    }

    fn omit(&mut self, name: &[u8], why: Omission) {
        let path = PathBuf::from(OsString::from_vec(self.path_of(name)));
        self.done.omitted.push(Omitted { path, why });
    }

    /// Whether a link in the directory that was entered last stays within what is carried.
    ///
    /// It goes up first, from a directory that is none of links, and then only down. As that holds for
    /// each link, it also holds for one that leads over others.
    fn stays(&self, target: &[u8]) -> bool {
        let mut above = self.levels.len() - 1;
        let mut down = false;
        for part in target.split(|byte| *byte == b'/') {
            match part {
                b".." if down || above == 0 => return false,
                b".." => above -= 1,
                b"" | b"." => {}
                _ => down = true,
            }
        }
        target.first() != Some(&b'/')
    }
}

/// Reads a directory of ours as a row of nodes, names in ascending order. Links are not followed.
#[derive(Debug)]
pub struct Walk {
    levels: Vec<Level>,
    /// What is read, and how much of it is left.
    file: Option<(OwnedFd, u64)>,
    mode: u32,
    /// What ended the walk, and is not told yet.
    fault: Option<Fault>,
}

#[derive(Debug)]
struct Level {
    directory: OwnedFd,
    names: std::vec::IntoIter<Vec<u8>>,
}

impl Level {
    fn new(directory: OwnedFd) -> Result<Self, Fault> {
        let names = names(&directory)?.into_iter();
        Ok(Self { directory, names })
    }
}

impl Walk {
    /// From this directory on, which must be open for reading.
    pub fn begin(directory: OwnedFd) -> Result<Self, Fault> {
        let mode = fstat(&directory)?.st_mode;
        Ok(Self { levels: vec![Level::new(directory)?], file: None, mode, fault: None })
    }

    /// The type and permissions of the outermost directory.
    pub fn mode(&self) -> u32 {
        self.mode
    }

    /// The next nodes, with about so many bytes in them; none at the end. Those before a fault come
    /// before it, so that who follows them knows where it is.
    pub fn next(&mut self, room: usize) -> Result<Vec<Node>, Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let (mut nodes, mut used) = (Vec::new(), 0);
        while used < room && nodes.len() < TURN {
            let node = match self.one(room - used) {
                Ok(Some(node)) => node,
                Ok(None) => break,
                Err(fault) if nodes.is_empty() => return Err(fault),
                Err(fault) => {
                    self.fault = Some(fault);
                    break;
                }
            };
            used += OVERHEAD + node.weight();
            nodes.push(node);
        }
        Ok(nodes)
    }

    /// The next node, of at most so many bytes if it is a part of a file; nothing at the end.
    fn one(&mut self, room: usize) -> Result<Option<Node>, Fault> {
        match &mut self.file {
            Some((file, left @ 1..)) => {
                let wanted = usize::try_from(*left).unwrap_or(room).min(room);
                let bytes = some_of(file, wanted)?;
                *left -= bytes.len() as u64;
                Ok(Some(Node::Data(bytes)))
            }
            Some((_, 0)) | None => {
                self.file = None;
                self.step()
            }
        }
    }

    /// The next node that is no part of a file; nothing at the end.
    fn step(&mut self) -> Result<Option<Node>, Fault> {
        loop {
            let Some(level) = self.levels.last_mut() else { return Ok(None) };
            let Some(name) = level.names.next() else {
                self.levels.pop();
                return Ok(if self.levels.is_empty() { None } else { Some(Node::Leave) });
            };
            let directory = &level.directory;
            // One that has gone meanwhile is not in the directory.
            let stat = match statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                result => result?,
            };
            let node = match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    match openat(directory, &name, AS_DIRECTORY, Mode::empty()) {
                        Ok(entered) => {
                            if self.levels.len() > MAX_DEPTH {
                                return Err(Fault::TooDeep);
                            }
                            self.levels.push(Level::new(entered)?);
                            Node::Enter { name, mode: permissions(&stat) }
                        }
                        Err(errno) => unreadable(name, errno)?,
                    }
                }
                FileType::RegularFile => match open_regular(directory, &name) {
                    Ok(Some((file, stat))) => {
                        let size = u64::try_from(stat.st_size).unwrap_or(0);
                        self.file = Some((file, size));
                        Node::File { name, mode: permissions(&stat), size }
                    }
                    Ok(None) => Node::Omitted { name, why: Omission::Special },
                    Err(errno) => unreadable(name, errno)?,
                },
                FileType::Symlink => match readlinkat(directory, &name, Vec::new()) {
                    Ok(target) => Node::Link { name, target: target.into_bytes() },
                    Err(errno) => unreadable(name, errno)?,
                },
                _ => Node::Omitted { name, why: Omission::Special },
            };
            return Ok(Some(node));
        }
    }
}

const AS_DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A file that is still one when it is open; not to wait for the other end of a pipe.
fn open_regular(directory: &OwnedFd, name: &[u8]) -> Result<Option<(OwnedFd, Stat)>, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = openat(directory, name, flags | OFlags::CLOEXEC, Mode::empty())?;
    let stat = fstat(&file)?;
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    Ok(regular.then_some((file, stat)))
}

/// Something that may not be read, or became something else meanwhile, is left out.
fn unreadable(name: Vec<u8>, errno: Errno) -> Result<Node, Fault> {
    const LEFT_OUT: [Errno; 7] = [
        Errno::ACCESS,
        Errno::INVAL,
        Errno::LOOP,
        Errno::NOENT,
        Errno::NOTDIR,
        Errno::NXIO,
        Errno::PERM,
    ];
    if LEFT_OUT.contains(&errno) {
        Ok(Node::Omitted { name, why: Omission::Unreadable })
    } else {
        Err(errno.into())
    }
}

fn permissions(stat: &Stat) -> u32 {
    stat.st_mode & 0o777
}

/// What is in a directory, in ascending order.
fn names(directory: &OwnedFd) -> Result<Vec<Vec<u8>>, Fault> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
        if names.len() as u64 > MAX_NODES {
            return Err(Fault::TooMany);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Some bytes of a file, which has some.
fn some_of(file: &OwnedFd, wanted: usize) -> Result<Vec<u8>, Fault> {
    let mut bytes = vec![0; wanted];
    loop {
        match read(file, &mut bytes) {
            Ok(0) => return Err(Fault::Short),
            Ok(count) => {
                bytes.truncate(count);
                return Ok(bytes);
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Makes a directory out of a row of nodes, under another name until it is whole.
#[derive(Debug)]
pub struct Planting {
    parent: OwnedFd,
    temporary: Vec<u8>,
    name: Vec<u8>,
    /// The directories on the way, with the permissions that they get when they are left.
    directories: Vec<(OwnedFd, u32)>,
    file: Option<OwnedFd>,
    course: Option<Course>,
}

impl Planting {
    /// It will be `name` in the directory `parent`, where nothing or an empty directory may be, and is
    /// `temporary` until then.
    pub fn begin(
        parent: OwnedFd,
        temporary: Vec<u8>,
        name: Vec<u8>,
        mode: u32,
        bounds: Bounds,
    ) -> Result<Self, Fault> {
        mkdirat(&parent, &temporary, Mode::RWXU)?;
        // From here on it is removed if it does not become whole.
        let (directories, course) = (Vec::new(), Some(Course::new(bounds)));
        let mut planting = Self { parent, temporary, name, directories, file: None, course };
        let flags = AS_DIRECTORY;
        let root = openat(&planting.parent, &planting.temporary, flags, Mode::empty())?;
        planting.directories.push((root, mode));
        Ok(planting)
    }

    /// Makes what a node says.
    pub fn take(&mut self, node: &Node) -> Result<(), Fault> {
        let over = Fault::Nonsense("more after a fault");
        // Whoever goes on after a fault gets no further.
        let mut course = self.course.take().ok_or(over)?;
        if course.take(node)? {
            let (here, _) = self.directories.last().ok_or(over)?;
            match node {
                Node::Data(bytes) => write_all(self.file.as_ref().ok_or(over)?, bytes)?,
                Node::Leave => {
                    self.file = None;
                    let (left, mode) = self.directories.pop().ok_or(over)?;
                    settle(&left, mode)?;
                }
                Node::Enter { name, mode } => {
                    self.file = None;
                    mkdirat(here, name, Mode::RWXU)?;
                    let entered = openat(here, name, AS_DIRECTORY, Mode::empty())?;
                    self.directories.push((entered, *mode));
                }
                Node::File { name, mode, .. } => {
                    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
                    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let file = openat(here, name, flags, Mode::RUSR | Mode::WUSR)?;
                    fchmod(&file, Mode::from_raw_mode(mode & 0o777))?;
                    self.file = Some(file);
                }
                Node::Link { name, target } => symlinkat(target, here, name)?,
                Node::Omitted { .. } => {}
            }
        }
        self.course = Some(course);
        Ok(())
    }

    /// The path of the directory that is filled.
    pub fn place(&self) -> Vec<u8> {
        self.course.as_ref().map(|course| course.path_of(b"")).unwrap_or_default()
    }

    /// Gives it its name.
    pub fn finish(mut self) -> Result<Transferred, Fault> {
        let over = Fault::Nonsense("an end after a fault");
        let done = self.course.take().ok_or(over)?.finish()?;
        let (root, mode) = self.directories.first().ok_or(over)?;
        settle(root, *mode)?;
        // Whoever else may write there may have put something of theirs in its place.
        let expect = |name: &[u8]| match is_named(&self.parent, name, root)? {
            true => Ok(()),
            false => Err(Errno::STALE),
        };
        expect(&self.temporary)?;
        renameat(&self.parent, &self.temporary, &self.parent, &self.name)?;
        self.temporary.clear();
        expect(&self.name)?;
        Ok(done)
    }
}

impl Drop for Planting {
    fn drop(&mut self) {
        if self.temporary.is_empty() {
            return;
        }
        let _what_stays_is_its_owners = match self.directories.first() {
            // It was not even opened, and has nothing in it.
            None => unlinkat(&self.parent, &self.temporary, AtFlags::REMOVEDIR),
            Some((root, _)) => match is_named(&self.parent, &self.temporary, root) {
                Ok(true) => remove(&self.parent, &self.temporary),
                Ok(false) | Err(_) => Ok(()),
            },
        };
    }
}

/// Whether this is what has a name in a directory.
pub fn is_named(directory: impl AsFd, name: &[u8], what: impl AsFd) -> Result<bool, Errno> {
    let (there, what) = (statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?, fstat(what)?);
    Ok((there.st_dev, there.st_ino) == (what.st_dev, what.st_ino))
}

/// A directory is full: it gets its permissions. Its owner can always use and remove it.
fn settle(directory: &OwnedFd, mode: u32) -> Result<(), Errno> {
    fchmod(directory, Mode::from_raw_mode(mode & 0o777 | 0o700))
}

fn write_all(file: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match write(file, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Removes what has this name in a directory, with all that is in it. No link is followed.
pub fn remove(parent: impl AsFd, name: &[u8]) -> Result<(), Errno> {
    fn within(parent: &impl AsFd, name: &[u8], depth: usize) -> Result<(), Errno> {
        match unlinkat(parent, name, AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) if depth > 0 => {}
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(errno),
        }
        let directory = openat(parent, name, AS_DIRECTORY, Mode::empty())?;
        for entry in Dir::read_from(&directory)?.collect::<Result<Vec<_>, _>>()? {
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                within(&directory, name, depth - 1)?;
            }
        }
        unlinkat(parent, name, AtFlags::REMOVEDIR)
    }
    within(&parent, name, REMOVED)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    use proptest::prelude::*;
    use rustix::fs::{CWD, mkfifoat};

    use super::*;

    const SMALL: Bounds = Bounds { entries: 4, bytes: 10, depth: 2, path: 20 };

    fn enter(name: &str) -> Node {
        Node::Enter { name: name.into(), mode: 0o755 }
    }

    fn file(name: &str, size: u64) -> Node {
        Node::File { name: name.into(), mode: 0o6644, size }
    }

    fn link(name: &str, target: &str) -> Node {
        Node::Link { name: name.into(), target: target.into() }
    }

    fn data(text: &str) -> Node {
        Node::Data(text.into())
    }

    /// How a row ends within [`SMALL`] bounds.
    #[track_caller]
    fn check(row: &[Node], want: &str) {
        let mut course = Course::new(SMALL);
        let walked = row.iter().try_for_each(|node| course.take(node).map(drop));
        let got = match walked.and_then(|()| course.finish()) {
            Err(Fault::Nonsense(what)) => what.to_owned(),
            Err(fault) => format!("{fault:?}"),
            Ok(done) => {
                let Transferred { files, directories, links, bytes, omitted } = done;
                let omitted: Vec<_> = omitted
                    .iter()
                    .map(|it| format!(" -{} {:?}", it.path.display(), it.why))
                    .collect();
                format!("{files} {directories} {links} {bytes}{}", omitted.concat())
            }
        };
        assert_eq!(got, want, "{row:?}");
    }

    #[test]
    fn a_row_that_no_walk_gives_is_refused() {
        check(&[], "0 0 0 0");
        check(&[enter("a"), file("b", 3), data("x"), data("yz"), Node::Leave], "1 1 0 3");
        check(&[file("a", 0), file("b", 0)], "2 0 0 0");
        let long = "n".repeat(256);
        for name in ["", ".", "..", "/", "a/b", "../a", "/etc", "a\0", &long] {
            for node in [enter(name), file(name, 0), link(name, "x")] {
                check(&[node], "a name that is none");
            }
        }
        for name in ["...", "..a", "a..", " ", "-", "\n", "\\", "C:\\x"] {
            check(&[file(name, 0)], "1 0 0 0");
        }
        let twice = "a name that comes twice, or too late";
        check(&[link("a", "b"), enter("a")], twice);
        check(&[file("b", 0), file("a", 0)], twice);
        check(&[enter("a"), Node::Leave, enter("a")], twice);
        check(&[enter("a"), file("a", 0), Node::Leave, file("b", 0)], "2 1 0 0");
        check(&[Node::Leave], "a directory is left that was not entered");
        check(&[enter("a"), Node::Leave, Node::Leave], "a directory is left that was not entered");
        check(&[enter("a")], "a directory is not left");
        let more = "more of a file than was announced";
        check(&[data("x")], more);
        check(&[file("a", 1), data("xy")], more);
        check(&[file("a", 1), data("")], more);
        check(&[file("a", 1), data("x"), data("x")], more);
        check(&[file("a", 2), data("x"), file("b", 0)], "Short");
        check(&[file("a", 2), data("x")], "Short");
        let empty = Node::Link { name: b"a".to_vec(), target: Vec::new() };
        check(&[empty], "a link to what can't be a path");
        check(&[link("a", "b\0c")], "a link to what can't be a path");
    }

    #[test]
    fn there_is_a_bound_for_everything() {
        let names = ["a", "b", "c", "d", "e"];
        let files: Vec<Node> = names.iter().map(|name| file(name, 0)).collect();
        check(&files[..4], "4 0 0 0");
        check(&files, "TooMany");
        let omitted = |name: &str| Node::Omitted { name: name.into(), why: Omission::Special };
        check(&names.map(omitted), "TooMany");
        check(&[file("a", 11)], "TooLarge(11)");
        check(&[file("a", 1 << 40)], "TooLarge(1099511627776)");
        check(&[file("a", 1), data("x"), file("b", u64::MAX)], "TooLarge(18446744073709551615)");
        check(&[enter("a"), enter("b"), Node::Leave, Node::Leave], "0 2 0 0");
        check(&[enter("a"), enter("b"), enter("c")], "TooDeep");
        check(&[enter("0123456789"), enter("0123456789")], "PathTooLong");
    }

    #[test]
    fn links_are_carried_that_stay_within() {
        let within = |target: &str| {
            let mut course = Course::new(SMALL);
            course.take(&enter("a")).unwrap();
            course.take(&link("l", target)).unwrap()
        };
        for target in ["x", "./x", "x/y", "..", "../x", "../b/c/", ".././x", "l", "a//b"] {
            assert!(within(target), "{target}");
        }
        for target in ["/", "/etc/passwd", "../..", "../../x", "x/..", "x/../../y", "../b/../../c"]
        {
            assert!(!within(target), "{target}");
        }
        check(&[link("l", "../x"), link("m", "/x")], "0 0 0 0 -l LeadsOut -m LeadsOut");
    }

    fn opened(path: &Path) -> OwnedFd {
        openat(CWD, path, AS_DIRECTORY, Mode::empty()).unwrap()
    }

    fn all_of(path: &Path, room: usize) -> Result<Vec<Node>, Fault> {
        let mut walk = Walk::begin(opened(path))?;
        let mut row = Vec::new();
        loop {
            match walk.next(room)? {
                nodes if nodes.is_empty() => return Ok(row),
                nodes => row.extend(nodes),
            }
        }
    }

    fn plant(parent: &Path, row: &[Node]) -> Result<Transferred, Fault> {
        let (temporary, name) = (b".part".to_vec(), b"it".to_vec());
        let bounds = Bounds::of(1 << 20);
        let mut planting = Planting::begin(opened(parent), temporary, name, 0o750, bounds)?;
        row.iter().try_for_each(|node| planting.take(node))?;
        planting.finish()
    }

    /// The names in a directory, and nothing of what is in them.
    fn listed(path: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_walked_is_planted_as_it_was() {
        let place = tempfile::tempdir().unwrap();
        let from = place.path().join("from");
        fs::create_dir_all(from.join("a/b/empty")).unwrap();
        fs::write(from.join("a/one"), "1".repeat(100_000)).unwrap();
        fs::write(from.join("a/b/none"), "").unwrap();
        fs::write(from.join("odd \n\u{1f980}"), "x").unwrap();
        symlink("b/none", from.join("a/near")).unwrap();
        symlink("/etc/passwd", from.join("a/far")).unwrap();
        mkfifoat(CWD, from.join("pipe"), Mode::RWXU).unwrap();
        fs::set_permissions(from.join("a/one"), fs::Permissions::from_mode(0o4751)).unwrap();
        fs::set_permissions(from.join("a/b"), fs::Permissions::from_mode(0o2555)).unwrap();

        let row = all_of(&from, 1000).unwrap();
        let to = place.path().join("to");
        fs::create_dir(&to).unwrap();
        let done = plant(&to, &row).unwrap();
        assert_eq!((done.files, done.directories, done.links, done.bytes), (3, 3, 1, 100_001));
        let omitted: Vec<_> =
            done.omitted.iter().map(|it| (it.path.to_str().unwrap(), it.why)).collect();
        assert_eq!(omitted, [("a/far", Omission::LeadsOut), ("pipe", Omission::Special)]);
        // The same again is the same, but for what was left out.
        let again = all_of(&to.join("it"), 1 << 20).unwrap();
        let text = |row: &[Node]| -> Vec<u8> {
            row.iter()
                .flat_map(|node| match node {
                    Node::Data(bytes) => bytes.clone(),
                    _ => Vec::new(),
                })
                .collect()
        };
        assert!(text(&row) == text(&again));
        let mode = |path: &str| {
            fs::symlink_metadata(to.join("it").join(path)).unwrap().permissions().mode() & 0o7777
        };
        assert_eq!([mode("a/one"), mode("a/b"), mode("")], [0o751, 0o755, 0o750]);
        assert_eq!(fs::read_link(to.join("it/a/near")).unwrap(), Path::new("b/none"));
        assert_eq!(listed(&to), ["it"]);
    }

    #[test]
    fn what_is_there_stays_and_what_was_begun_goes() {
        let place = tempfile::tempdir().unwrap();
        let row = [enter("d"), file("f", 2), data("hi"), Node::Leave];
        plant(place.path(), &row).unwrap();
        // A directory with something in it, and a file.
        assert_eq!(plant(place.path(), &row), Err(Fault::Kernel(Errno::NOTEMPTY)));
        assert_eq!(fs::read(place.path().join("it/d/f")).unwrap(), b"hi");
        fs::remove_dir_all(place.path().join("it")).unwrap();
        fs::write(place.path().join("it"), "x").unwrap();
        assert_eq!(plant(place.path(), &row), Err(Fault::Kernel(Errno::NOTDIR)));
        fs::remove_file(place.path().join("it")).unwrap();
        // A link is no place either.
        let elsewhere = tempfile::tempdir().unwrap();
        symlink(elsewhere.path(), place.path().join("it")).unwrap();
        assert_eq!(plant(place.path(), &row), Err(Fault::Kernel(Errno::NOTDIR)));
        assert_eq!(listed(elsewhere.path()), [""; 0]);
        assert_eq!(listed(place.path()), ["it"]);
        fs::remove_file(place.path().join("it")).unwrap();
        for cut in 0..row.len() {
            let mut part = row[..cut].to_vec();
            part.push(Node::Data(vec![0; 3]));
            assert!(plant(place.path(), &part).is_err());
            assert_eq!(listed(place.path()), [""; 0], "after {cut} nodes");
        }
        fs::create_dir(place.path().join("it")).unwrap();
        plant(place.path(), &row).unwrap();
        assert_eq!(listed(place.path()), ["it"]);
    }

    #[test]
    fn what_stands_in_its_place_is_not_taken_for_it() {
        let place = tempfile::tempdir().unwrap();
        let there = |name: &str| place.path().join(name);
        for finish in [true, false] {
            let (temporary, name) = (b".part".to_vec(), b"it".to_vec());
            let planting =
                Planting::begin(opened(place.path()), temporary, name, 0o755, SMALL).unwrap();
            fs::rename(there(".part"), there("aside")).unwrap();
            fs::create_dir(there(".part")).unwrap();
            fs::write(there(".part/kept"), "x").unwrap();
            if finish {
                assert_eq!(planting.finish(), Err(Fault::Kernel(Errno::STALE)));
            } else {
                drop(planting);
            }
            assert_eq!(listed(place.path()), [".part", "aside"]);
            assert_eq!(listed(&there(".part")), ["kept"]);
            fs::remove_dir_all(there(".part")).unwrap();
            fs::remove_dir(there("aside")).unwrap();
        }
    }

    #[test]
    fn a_fault_is_the_end_of_a_planting() {
        let place = tempfile::tempdir().unwrap();
        let (temporary, name) = (b".part".to_vec(), b"it".to_vec());
        let mut planting =
            Planting::begin(opened(place.path()), temporary, name, 0o755, SMALL).unwrap();
        planting.take(&data("x")).unwrap_err();
        assert_eq!(planting.take(&file("a", 0)), Err(Fault::Nonsense("more after a fault")));
        assert_eq!(planting.finish(), Err(Fault::Nonsense("an end after a fault")));
        assert_eq!(listed(place.path()), [""; 0]);
    }

    /// Nodes that a guest might send to lead its host astray.
    fn hostile() -> impl Strategy<Value = Node> {
        let name = prop::sample::select(vec!["a", "b", "l", "..", ".", "a/b", "/tmp", "", "z"]);
        let target =
            prop::sample::select(vec!["a", "..", "../out", "/out", "l", "b/..", "../../out"]);
        let size = 0_u64..4;
        prop_oneof![
            name.clone().prop_map(enter),
            (name.clone(), size).prop_map(|(name, size)| file(name, size)),
            (name, target).prop_map(|(name, target)| link(name, target)),
            Just(Node::Leave),
            (0_usize..4).prop_map(|count| Node::Data(vec![b'x'; count])),
        ]
    }

    proptest! {
        #[test]
        fn no_row_writes_anywhere_else(row in prop::collection::vec(hostile(), 0..12)) {
            let place = tempfile::tempdir().unwrap();
            let within = place.path().join("within");
            fs::create_dir(&within).unwrap();
            fs::create_dir(place.path().join("out")).unwrap();
            let planted = plant(&within, &row);
            prop_assert_eq!(listed(place.path()), ["out", "within"]);
            prop_assert_eq!(listed(&place.path().join("out")), [""; 0]);
            match planted {
                Err(_) => prop_assert_eq!(listed(&within), [""; 0]),
                Ok(_) => {
                    prop_assert_eq!(listed(&within), ["it"]);
                    // Whatever is in it, each link included, is within it.
                    let root = within.join("it").canonicalize().unwrap();
                    let mut left = vec![root.clone()];
                    while let Some(directory) = left.pop() {
                        for entry in fs::read_dir(directory).unwrap() {
                            let entry = entry.unwrap();
                            if entry.file_type().unwrap().is_dir() {
                                left.push(entry.path());
                            }
                            if let Ok(real) = entry.path().canonicalize() {
                                prop_assert!(real.starts_with(&root), "{}", real.display());
                            }
                        }
                    }
                }
            }
        }
    }
}
