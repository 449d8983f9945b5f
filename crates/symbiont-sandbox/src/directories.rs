//! Directories on their way in or out, on this side: where they come from, and what becomes of them.
//!
//! What a guest sends is a row of nodes that it may have made up: [`Course`](symbiont_guest::tree::Course)
//! judges it before anything is made of it, and names are never looked up as paths.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use symbiont_guest::protocol::{MAX_DEPTH, MAX_NODES, MAX_PATH, Node};
use symbiont_guest::tree::{Bounds, Course, Fault, Planting, Transferred, Walk};
use symbiont_types::SandboxError;
use tar::{Builder, EntryType, Header};

use crate::files::{local, replaceable, temporary};

/// The length of a name in the head of an entry.
const SHORT_NAME: usize = 100;
/// What the contents of archives are multiples of.
const BLOCK: usize = 512;

/// What becomes of a directory that comes out of a sandbox.
pub(crate) trait Harvest: Send + Sized + 'static {
    /// Makes what a node says.
    fn take(&mut self, node: &Node) -> Result<(), Fault>;

    /// The path of the directory that it has come to, in the one that is carried.
    fn place(&self) -> Vec<u8>;

    /// All of it was there: it gets its name.
    fn finish(self) -> Result<Transferred, Fault>;
}

impl Harvest for Planting {
    fn take(&mut self, node: &Node) -> Result<(), Fault> {
        Self::take(self, node)
    }

    fn place(&self) -> Vec<u8> {
        Self::place(self)
    }

    fn finish(self) -> Result<Transferred, Fault> {
        Self::finish(self)
    }
}

/// A directory of this host to be read.
pub(crate) fn walk(path: &Path) -> Result<Walk, SandboxError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(Fault::from)
        .and_then(Walk::begin)
        .map_err(|fault| here(path, fault))
}

/// A directory of this host to be made.
pub(crate) fn planting(path: &Path, mode: u32, bytes: u64) -> Result<Planting, SandboxError> {
    let (parent, name) = parent(path)?;
    let name = name.as_os_str().as_bytes().to_vec();
    Planting::begin(parent, temporary().into_bytes(), name, mode, Bounds::of(bytes))
        .map_err(|fault| here(path, fault))
}

fn parent(path: &Path) -> Result<(OwnedFd, PathBuf), SandboxError> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(local(path, &"it has no name"));
    };
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = rustix::fs::open(directory, flags, Mode::empty())
        .map_err(|errno| local(path, &io::Error::from(errno)))?;
    Ok((parent, name.into()))
}

/// What a fault on this side, in a directory of ours, is to the caller.
pub(crate) fn here(path: &Path, fault: Fault) -> SandboxError {
    match fault {
        Fault::Kernel(errno) => local(path, &io::Error::from(errno)),
        Fault::Nonsense(what) => local(path, &what),
        fault => bound(path, fault),
    }
}

/// What a directory that is more than is carried is to the caller.
pub(crate) fn bound(path: &Path, fault: Fault) -> SandboxError {
    let path = path.display();
    let limit = |what: String| SandboxError::ResourceLimit {
        kind: format!(
            "{what}, at `{path}`: copy its parts one by one, or pack it with `tar` first"
        ),
    };
    match fault {
        Fault::TooMany => limit(format!("{MAX_NODES} entries in a directory that is copied")),
        Fault::TooDeep => limit(format!("{MAX_DEPTH} directories within each other")),
        Fault::PathTooLong => limit(format!("{MAX_PATH} bytes of a path in what is copied")),
        Fault::Short => SandboxError::InvalidArgument {
            what: format!("`{path}`: a file in it became shorter while it was read"),
        },
        Fault::TooLarge(_) | Fault::Kernel(_) | Fault::Nonsense(_) => {
            SandboxError::InvalidArgument { what: format!("`{path}`: {fault:?}") }
        }
    }
}

/// A directory as an archive (`tar`), whose names are relative and lead nowhere else.
///
/// Everything in it belongs to user 0 and is of 1970, as those who make things in a sandbox and when
/// they do is nothing that is carried.
pub(crate) struct Archive {
    course: Course,
    builder: Builder<BufWriter<File>>,
    /// Bytes of the last file that were written.
    written: usize,
    part: PathBuf,
    path: PathBuf,
    whole: bool,
}

impl Archive {
    pub(crate) fn begin(path: &Path, bytes: u64) -> Result<Self, SandboxError> {
        let (place, mode) = replaceable(path)?;
        let part = place.with_file_name(temporary());
        let made = || {
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
            file.set_permissions(Permissions::from_mode(mode)).map(|()| file)
        };
        let file = made().map_err(|error| local(path, &error))?;
        let builder = Builder::new(BufWriter::new(file));
        let course = Course::new(Bounds::of(bytes));
        Ok(Self { course, builder, written: 0, part, path: place, whole: false })
    }

    /// The head of an entry, after what does not fit into one.
    fn head(&mut self, path: &[u8], header: &mut Header, target: &[u8]) -> io::Result<()> {
        for (kind, text) in [(EntryType::GNULongName, path), (EntryType::GNULongLink, target)] {
            if text.len() > SHORT_NAME {
                let mut long = Header::new_gnu();
                name(&mut long, b"././@LongLink", b"");
                long.set_entry_type(kind);
                long.set_size(text.len() as u64 + 1);
                long.set_cksum();
                self.builder.append(&long, &[text, b"\0"].concat()[..])?;
            }
        }
        name(header, path, target);
        header.set_cksum();
        self.builder.get_mut().write_all(header.as_bytes())
    }

    /// Fills the last block of a file.
    fn pad(&mut self) -> io::Result<()> {
        let over = std::mem::take(&mut self.written) % BLOCK;
        let missing = if over == 0 { 0 } else { BLOCK - over };
        self.builder.get_mut().write_all(&[0; BLOCK][..missing])
    }

    fn put(&mut self, node: &Node) -> io::Result<()> {
        let mut header = Header::new_gnu();
        let (kind, mode, size) = match node {
            Node::Data(bytes) => {
                self.written += bytes.len();
                return self.builder.get_mut().write_all(bytes);
            }
            Node::Leave | Node::Omitted { .. } => return self.pad(),
            Node::Enter { mode, .. } => (EntryType::Directory, mode & 0o777 | 0o700, 0),
            Node::File { mode, size, .. } => (EntryType::Regular, mode & 0o777, *size),
            Node::Link { .. } => (EntryType::Symlink, 0o777, 0),
        };
        self.pad()?;
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        match node {
            // It was entered already.
            Node::Enter { .. } => self.head(&self.course.path_of(b""), &mut header, b""),
            Node::File { name, .. } => self.head(&self.course.path_of(name), &mut header, b""),
            Node::Link { name, target } => {
                self.head(&self.course.path_of(name), &mut header, target)
            }
            Node::Data(_) | Node::Leave | Node::Omitted { .. } => Ok(()),
        }
    }

    fn close(&mut self) -> io::Result<()> {
        self.pad()?;
        self.builder.finish()?;
        self.builder.get_mut().flush()?;
        std::fs::rename(&self.part, &self.path)
    }
}

/// Writes a name and a link's target, as much of them as fits.
fn name(header: &mut Header, path: &[u8], target: &[u8]) {
    let old = header.as_old_mut();
    for (field, text) in [(&mut old.name, path), (&mut old.linkname, target)] {
        let count = text.len().min(SHORT_NAME);
        field[..count].copy_from_slice(&text[..count]);
    }
}

fn fault(error: &io::Error) -> Fault {
    Fault::Kernel(Errno::from_io_error(error).unwrap_or(Errno::IO))
}

impl Harvest for Archive {
    fn take(&mut self, node: &Node) -> Result<(), Fault> {
        if self.course.take(node)? {
            self.put(node).map_err(|error| fault(&error))?;
        }
        Ok(())
    }

    fn place(&self) -> Vec<u8> {
        self.course.path_of(b"")
    }

    fn finish(mut self) -> Result<Transferred, Fault> {
        let course = std::mem::replace(&mut self.course, Course::new(Bounds::of(0)));
        let done = course.finish()?;
        self.close().map_err(|error| fault(&error))?;
        self.whole = true;
        Ok(done)
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        if !self.whole {
            let _never_made = std::fs::remove_file(&self.part);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use super::*;

    fn archive(path: &Path, row: &[Node]) -> Result<Transferred, Fault> {
        let mut archive = Archive::begin(path, 1 << 20).unwrap();
        row.iter().try_for_each(|node| archive.take(node))?;
        archive.finish()
    }

    #[test]
    fn an_archive_has_what_was_carried() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("it.tar");
        let long = "n".repeat(200);
        let file = |name: &str, size| Node::File { name: name.into(), mode: 0o4644, size };
        let link =
            |name: &str, target: &str| Node::Link { name: name.into(), target: target.into() };
        let enter = |name: &str| Node::Enter { name: name.into(), mode: 0o555 };
        let row = [
            file("a", 700),
            Node::Data(vec![b'x'; 600]),
            Node::Data(vec![b'y'; 100]),
            enter("d"),
            file(&long, 1),
            Node::Data(b"z".to_vec()),
            link("out", "/etc/passwd"),
            link("so", &format!("../d/{long}")),
            Node::Leave,
            file("e", 0),
        ];
        let done = archive(&path, &row).unwrap();
        assert_eq!((done.files, done.directories, done.links, done.bytes), (3, 1, 1, 701));
        assert_eq!(done.omitted.len(), 1);
        let mut got = BTreeMap::new();
        let mut read = tar::Archive::new(File::open(&path).unwrap());
        for entry in read.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            let name = entry.path().unwrap().display().to_string();
            let target = entry.link_name().unwrap().map(|it| it.display().to_string());
            let mode = entry.header().mode().unwrap();
            got.insert(name, (entry.header().entry_type(), mode, content.len(), target));
        }
        let regular = |len| (EntryType::Regular, 0o644, len, None);
        let want = [
            ("a".to_owned(), regular(700)),
            ("d/".to_owned(), (EntryType::Directory, 0o755, 0, None)),
            (format!("d/{long}"), regular(1)),
            ("d/so".to_owned(), (EntryType::Symlink, 0o777, 0, Some(format!("../d/{long}")))),
            ("e".to_owned(), regular(0)),
        ];
        assert_eq!(got, BTreeMap::from(want));
    }

    #[test]
    fn what_is_no_row_leaves_no_archive() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("it.tar");
        let short = Node::File { name: b"a".to_vec(), mode: 0, size: 2 };
        for row in [vec![Node::Leave], vec![short, Node::Data(vec![1])]] {
            archive(&path, &row).unwrap_err();
            assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
        }
    }
}
