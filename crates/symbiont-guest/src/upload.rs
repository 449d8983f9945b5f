//! A file on its way into the sandbox, which has its name only when it is whole.
//!
//! Commands run meanwhile, as the user that it belongs to. Where the file system can, it has no name at all
//! until then, so that none of them can open it; elsewhere it has one that nobody guesses, and a command
//! that looks for it can write to it as to any file of its own.
//!
//! # What holds
//!
//! - Nothing is removed that was not made here.
//! - Whatever commands do with names, what is under the file's own name at the end is that file, or the
//!   upload fails.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, openat, renameat, unlinkat};
use rustix::io::{Errno, Result};
use symbiont_guest::tree;

use crate::sys;

/// A file that was begun. It goes when this does, unless it is finished.
#[derive(Debug)]
pub(crate) struct Upload {
    file: OwnedFd,
    directory: OwnedFd,
    name: Vec<u8>,
    /// The name that it has meanwhile.
    temporary: Option<Vec<u8>>,
}

impl Upload {
    /// Will be `name` in the directory.
    pub(crate) fn begin(directory: OwnedFd, name: Vec<u8>) -> Result<Self> {
        let mode = Mode::RUSR | Mode::WUSR;
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        // Where there are none without a name the next call says what else may be wrong.
        if let Ok(file) = openat(&directory, ".", flags | OFlags::TMPFILE, mode) {
            return Ok(Self { file, directory, name, temporary: None });
        }
        let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let (file, temporary) =
            under_a_name(|temporary| openat(&directory, temporary, flags, mode))?;
        Ok(Self { file, directory, name, temporary: Some(temporary) })
    }

    /// What is written to.
    pub(crate) fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// Gives it its name. What was there goes.
    pub(crate) fn finish(mut self) -> Result<()> {
        let temporary = match self.temporary.clone() {
            Some(temporary) => temporary,
            None => self.link()?,
        };
        self.temporary = Some(temporary.clone());
        // What stands in its place is somebody else's, and no reason to take away what is there.
        self.expect(&temporary)?;
        renameat(&self.directory, &temporary, &self.directory, &self.name)?;
        self.temporary = None;
        self.expect(&self.name)
    }

    /// Gives a file without a name one that is new.
    fn link(&self) -> Result<Vec<u8>> {
        let open = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let link = |name: &[u8]| linkat(CWD, &open, &self.directory, name, AtFlags::SYMLINK_FOLLOW);
        Ok(under_a_name(link)?.1)
    }

    /// That a name is this file's.
    fn expect(&self, name: &[u8]) -> Result<()> {
        let is_ours = tree::is_named(&self.directory, name, &self.file)?;
        if is_ours { Ok(()) } else { Err(Errno::STALE) }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary
            && self.expect(temporary).is_ok()
        {
            let _gone_already = unlinkat(&self.directory, temporary, AtFlags::empty());
        }
    }
}

/// Makes something under a name that is new.
fn under_a_name<T>(mut make: impl FnMut(&[u8]) -> Result<T>) -> Result<(T, Vec<u8>)> {
    loop {
        let name = sys::unguessable()?;
        match make(&name) {
            Err(Errno::EXIST) => {}
            made => return made.map(|made| (made, name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use rustix::io::write;

    use super::*;

    fn begun(place: &Path) -> Upload {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, place, flags, Mode::empty()).unwrap();
        let upload = Upload::begin(directory, b"it".to_vec()).unwrap();
        write(upload.file(), b"new").unwrap();
        upload
    }

    /// As where no file is without a name.
    fn named(mut upload: Upload) -> (Upload, String) {
        let name = upload.temporary.clone().unwrap_or_else(|| upload.link().unwrap());
        upload.temporary = Some(name.clone());
        (upload, String::from_utf8(name).unwrap())
    }

    fn listed(place: &Path) -> Vec<(String, String)> {
        let mut all: Vec<_> = fs::read_dir(place)
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let content = fs::read_to_string(entry.path()).unwrap();
                (entry.file_name().into_string().unwrap(), content)
            })
            .collect();
        all.sort();
        all
    }

    fn pair(name: &str, content: &str) -> (String, String) {
        (name.to_owned(), content.to_owned())
    }

    #[test]
    fn it_is_there_whole_or_not_at_all() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("it"), "old").unwrap();
        drop(begun(place.path()));
        drop(named(begun(place.path())));
        assert_eq!(listed(place.path()), [pair("it", "old")]);
        begun(place.path()).finish().unwrap();
        assert_eq!(listed(place.path()), [pair("it", "new")]);
        fs::write(place.path().join("it"), "old").unwrap();
        named(begun(place.path())).0.finish().unwrap();
        assert_eq!(listed(place.path()), [pair("it", "new")]);
    }

    #[test]
    fn what_stands_in_its_place_is_not_taken_for_it() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("it"), "old").unwrap();
        for finish in [true, false] {
            let (upload, name) = named(begun(place.path()));
            fs::write(place.path().join("other"), "other").unwrap();
            fs::rename(place.path().join("other"), place.path().join(&name)).unwrap();
            if finish {
                assert_eq!(upload.finish(), Err(Errno::STALE));
            } else {
                drop(upload);
            }
            assert_eq!(listed(place.path()), [pair(&name, "other"), pair("it", "old")]);
            fs::remove_file(place.path().join(&name)).unwrap();
        }
        let (upload, name) = named(begun(place.path()));
        fs::remove_file(place.path().join(&name)).unwrap();
        assert_eq!(upload.finish(), Err(Errno::NOENT));
        assert_eq!(listed(place.path()), [pair("it", "old")]);
    }
}
