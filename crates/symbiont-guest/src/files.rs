//! Files that go in and out, touched as the commands' user.
//!
//! # What holds
//!
//! - A path is looked up beneath `/workspace` or `/tmp` and can't lead out, by `..` or by a link.
//! - Only [`Request::Open`] follows links. Whatever else is asked of a path is asked of what has
//!   that name and no other, as rules are about names.
//! - Only regular files are read or written; a pipe or a device is refused without waiting for it.
//! - A file, and a directory with all that is in it, appears whole under its name, or not at all.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, StatVfsMountFlags, fstat, fstatvfs,
    statat,
};
use rustix::io::{Errno, fcntl_dupfd_cloexec, pread};
use symbiont_guest::protocol::{
    Attributes, Event, MAX_CHUNK, MAX_ENTRIES, MAX_FILES, Node, Refusal, Request,
};
use symbiont_guest::tree::{Bounds, Fault, Planting, Walk};

use crate::kernel::{self, FileUser};
use crate::setup::{DIRECTORY, Failure, open_root, write_all};
use crate::sys;
use crate::upload::Upload;

/// The directories that can be reached, and the files that are open.
#[derive(Debug)]
pub(crate) struct Files {
    workspace: OwnedFd,
    temporary: OwnedFd,
    open: BTreeMap<u32, Open>,
    user: FileUser,
}

#[derive(Debug)]
enum Open {
    Reading(OwnedFd),
    Writing { upload: Upload, left: u64 },
    Walking(Walk),
    Planting(Box<Planting>),
}

/// Why something is not done.
#[derive(Debug, PartialEq, Eq)]
struct No(Refusal);

impl From<Errno> for No {
    fn from(errno: Errno) -> Self {
        No(Refusal::Errno(errno.raw_os_error()))
    }
}

impl From<Fault> for No {
    fn from(fault: Fault) -> Self {
        No(match fault {
            Fault::Kernel(errno) => Refusal::Errno(errno.raw_os_error()),
            Fault::Nonsense(_) => Refusal::Errno(Errno::PROTO.raw_os_error()),
            Fault::TooMany => Refusal::TooManyNodes,
            Fault::TooDeep => Refusal::TooDeep,
            Fault::PathTooLong => Refusal::Errno(Errno::NAMETOOLONG.raw_os_error()),
            Fault::TooLarge(_) => Refusal::Errno(Errno::FBIG.raw_os_error()),
            Fault::Short => Refusal::WrongSize,
        })
    }
}

/// What is done, or why it is not.
type Answer = Result<Event, No>;

impl Files {
    pub(crate) fn new(user: FileUser) -> Result<Self, Failure> {
        Ok(Self {
            workspace: open_root(Path::new("/workspace"))?,
            temporary: open_root(Path::new("/tmp"))?,
            open: BTreeMap::new(),
            user,
        })
    }

    /// Does what is asked; `None` if the request is not about files.
    pub(crate) fn answer(&mut self, stream: u32, request: Request) -> Option<Event> {
        let _as_user = match self.user.enter() {
            Ok(entered) => entered,
            Err(errno) => return Some(Event::Refused(Refusal::Errno(errno.raw_os_error()))),
        };
        let answer = match request {
            Request::Open(path) => self.open(stream, &path, true),
            Request::OpenPlain(path) => self.open(stream, &path, false),
            Request::Read { offset, len } => self.read(stream, offset, len),
            Request::Create { path, mode, size } => self.create(stream, &path, mode, size),
            Request::Write(bytes) => self.write(stream, &bytes),
            Request::Commit => self.commit(stream),
            Request::Close => {
                self.close(stream);
                Ok(Event::Done)
            }
            Request::Stat(path) => self.stat(&path),
            Request::List(path) => self.list(&path),
            Request::Remove(path) => self.remove(&path),
            Request::Walk(path) => self.walk(stream, &path),
            Request::More => self.more(stream),
            Request::Plant { path, mode } => self.plant(stream, &path, mode),
            Request::Nodes(nodes) => self.nodes(stream, &nodes),
            Request::Setup(_)
            | Request::Go
            | Request::Ping
            | Request::Exec(_)
            | Request::Stdin(_)
            | Request::StdinEnd
            | Request::Kill
            | Request::OutputTaken { .. }
            | Request::Signal(_)
            | Request::Resize(_)
            | Request::Shutdown => return None,
        };
        Some(answer.unwrap_or_else(|No(refusal)| Event::Refused(refusal)))
    }

    /// The directory that a path starts from, and the rest of the path.
    fn start<'a>(&self, path: &'a [u8]) -> Result<(&OwnedFd, &'a [u8]), No> {
        let beneath = |root: &[u8]| {
            let rest = path.strip_prefix(root)?;
            match rest.first() {
                None => Some(rest),
                Some(b'/') => Some(&rest[rest.iter().take_while(|b| **b == b'/').count()..]),
                Some(_) => None,
            }
        };
        let (root, rest) = if let Some(rest) = beneath(b"/workspace") {
            (&self.workspace, rest)
        } else if let Some(rest) = beneath(b"/tmp") {
            (&self.temporary, rest)
        } else if path.first() == Some(&b'/') {
            return Err(Errno::XDEV.into());
        } else {
            (&self.workspace, path)
        };
        Ok((root, if rest.is_empty() { b"." } else { rest }))
    }

    fn look_up(&self, path: &[u8], flags: OFlags, links: bool) -> Result<OwnedFd, No> {
        let (root, rest) = self.start(path)?;
        let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        if !links {
            resolve |= ResolveFlags::NO_SYMLINKS;
        }
        Ok(kernel::open(root, rest, flags, resolve)?)
    }

    /// The directory that a path is in, by no link, and the path's last part.
    fn parent<'a>(&self, path: &'a [u8], make: bool) -> Result<(OwnedFd, &'a [u8]), No> {
        let (root, rest) = self.start(path)?;
        let (parent, name) = match rest.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&rest[..at], &rest[at + 1..]),
            None => (&b"."[..], rest),
        };
        if name.is_empty() || name == b"." || name == b".." {
            return Err(Errno::ISDIR.into());
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
        match kernel::open(root, parent, flags, resolve) {
            Err(Errno::NOENT) if make => {
                let mut at = kernel::open(root, b".", flags, resolve)?;
                for part in parent.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
                    match rustix::fs::mkdirat(&at, part, Mode::from_raw_mode(0o755)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(errno) => return Err(errno.into()),
                    }
                    at = kernel::open(&at, part, flags, resolve)?;
                }
                Ok((at, name))
            }
            result => Ok((result?, name)),
        }
    }

    fn may_open(&self, stream: u32) -> Result<(), No> {
        if self.open.len() >= MAX_FILES {
            Err(No(Refusal::TooMany))
        } else if self.open.contains_key(&stream) {
            Err(No(Refusal::NoSuchStream))
        } else {
            Ok(())
        }
    }

    fn open(&mut self, stream: u32, path: &[u8], links: bool) -> Answer {
        self.may_open(stream)?;
        // Not to wait for the other end of a pipe.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match self.look_up(path, flags, links) {
            Err(refused) if refused == Errno::NXIO.into() => {
                return Err(No(Refusal::NotRegular)); // A socket.
            }
            result => result?,
        };
        let stat = regular(&file)?;
        // Commands can't link what the host put there to be read only.
        let sealed = || Ok(fstatvfs(&file)?.f_flag.contains(StatVfsMountFlags::RDONLY));
        if !links && stat.st_nlink != 1 && !sealed().map_err(|errno: Errno| No::from(errno))? {
            return Err(Errno::MLINK.into());
        }
        self.open.insert(stream, Open::Reading(file));
        Ok(Event::Opened(attributes(&stat).size))
    }

    fn read(&self, stream: u32, offset: u64, len: u32) -> Answer {
        let Some(Open::Reading(file)) = self.open.get(&stream) else {
            return Err(No(Refusal::NoSuchStream));
        };
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(MAX_CHUNK).min(MAX_CHUNK)];
        let count = pread(file, &mut bytes, offset)?;
        bytes.truncate(count);
        Ok(Event::Data(bytes))
    }

    fn create(&mut self, stream: u32, path: &[u8], mode: u32, size: u64) -> Answer {
        self.may_open(stream)?;
        let (directory, name) = self.parent(path, true)?;
        if let Ok(there) = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            match FileType::from_raw_mode(there.st_mode) {
                FileType::RegularFile => {}
                FileType::Symlink => return Err(Errno::LOOP.into()),
                _ => return Err(No(Refusal::NotRegular)),
            }
        }
        let upload = Upload::begin(directory, name.to_vec())?;
        rustix::fs::fchmod(upload.file(), Mode::from_raw_mode(mode & 0o777))?;
        self.open.insert(stream, Open::Writing { upload, left: size });
        Ok(Event::Done)
    }

    fn write(&mut self, stream: u32, bytes: &[u8]) -> Answer {
        let Some(Open::Writing { upload, left }) = self.open.get_mut(&stream) else {
            return Err(No(Refusal::NoSuchStream));
        };
        let result = match left.checked_sub(bytes.len() as u64) {
            None => Err(No(Refusal::WrongSize)),
            Some(rest) => {
                *left = rest;
                write_all(upload.file(), bytes).map(|()| Event::Done).map_err(No::from)
            }
        };
        if result.is_err() {
            self.close(stream);
        }
        result
    }

    fn walk(&mut self, stream: u32, path: &[u8]) -> Answer {
        self.may_open(stream)?;
        let directory = self.look_up(path, OFlags::RDONLY | OFlags::DIRECTORY, false)?;
        let found = attributes(&fstat(&directory)?);
        self.open.insert(stream, Open::Walking(Walk::begin(directory)?));
        Ok(Event::Stat(Some(found)))
    }

    fn more(&mut self, stream: u32) -> Answer {
        match self.open.get_mut(&stream) {
            Some(Open::Walking(walk)) => Ok(Event::Nodes(walk.next(MAX_CHUNK)?)),
            Some(_) | None => Err(No(Refusal::NoSuchStream)),
        }
    }

    fn plant(&mut self, stream: u32, path: &[u8], mode: u32) -> Answer {
        self.may_open(stream)?;
        let (directory, name) = self.parent(path, true)?;
        // How much the host sends is bounded by the room that there is.
        let bounds = Bounds::of(u64::MAX);
        let planting = loop {
            let (parent, temporary) = (fcntl_dupfd_cloexec(&directory, 0)?, sys::unguessable()?);
            match Planting::begin(parent, temporary, name.to_vec(), mode, bounds) {
                Err(Fault::Kernel(Errno::EXIST)) => {}
                begun => break begun?,
            }
        };
        self.open.insert(stream, Open::Planting(Box::new(planting)));
        Ok(Event::Done)
    }

    fn nodes(&mut self, stream: u32, nodes: &[Node]) -> Answer {
        let Some(Open::Planting(planting)) = self.open.get_mut(&stream) else {
            return Err(No(Refusal::NoSuchStream));
        };
        let result = nodes.iter().try_for_each(|node| planting.take(node));
        if result.is_err() {
            self.close(stream);
        }
        result?;
        Ok(Event::Done)
    }

    fn commit(&mut self, stream: u32) -> Answer {
        match self.open.remove(&stream) {
            Some(Open::Planting(planting)) => drop(planting.finish()?),
            Some(Open::Writing { left: 0, upload }) => upload.finish()?,
            Some(Open::Writing { .. }) => return Err(No(Refusal::WrongSize)),
            Some(Open::Reading(_) | Open::Walking(_)) | None => {
                return Err(No(Refusal::NoSuchStream));
            }
        }
        Ok(Event::Done)
    }

    /// Forgets an open file; what was begun goes with it.
    fn close(&mut self, stream: u32) {
        self.open.remove(&stream);
    }

    fn stat(&self, path: &[u8]) -> Answer {
        let found = self.look_up(path, OFlags::PATH | OFlags::NOFOLLOW, false);
        match found {
            Ok(file) => Ok(Event::Stat(Some(attributes(&fstat(file)?)))),
            Err(refused) if is_missing(&refused) => Ok(Event::Stat(None)),
            Err(refused) => Err(refused),
        }
    }

    fn list(&self, path: &[u8]) -> Answer {
        let directory = self.look_up(path, OFlags::RDONLY | OFlags::DIRECTORY, false)?;
        let mut entries = Vec::new();
        let (mut more, mut room) = (false, symbiont_guest::protocol::MAX_FRAME / 2);
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let needed = name.len() + 32;
            if entries.len() >= MAX_ENTRIES || room < needed {
                more = true;
                break;
            }
            // One that has gone meanwhile is not in the directory.
            if let Ok(stat) = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                room -= needed;
                entries.push((name.to_vec(), attributes(&stat)));
            }
        }
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Event::List { entries, more })
    }

    fn remove(&self, path: &[u8]) -> Answer {
        let (directory, name) = match self.parent(path, false) {
            Err(refused) if is_missing(&refused) => return Ok(Event::Done),
            result => result?,
        };
        let result = match rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => rustix::fs::unlinkat(&directory, name, DIRECTORY),
            result => result,
        };
        match result {
            Ok(()) | Err(Errno::NOENT) => Ok(Event::Done),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn is_missing(refused: &No) -> bool {
    *refused == Errno::NOENT.into() || *refused == Errno::NOTDIR.into()
}

fn regular(file: &OwnedFd) -> Result<Stat, No> {
    let stat = fstat(file)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
        Ok(stat)
    } else {
        Err(No(Refusal::NotRegular))
    }
}

fn attributes(stat: &Stat) -> Attributes {
    Attributes {
        mode: stat.st_mode,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        modified: stat.st_mtime,
    }
}
