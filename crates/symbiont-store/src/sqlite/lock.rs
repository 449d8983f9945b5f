//! One process holds a directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::StoreError;
use crate::sqlite::file_failure;

/// Most bytes of a lock file that are read: anyone may have written it.
const MOST_READ: u64 = 128;

/// The lock on a directory. The kernel gives it back when the process ends, however it ends; the
/// file stays, and what it says counts only while it is locked.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    pub(super) fn take(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join("lock");
        let failed =
            |error: &std::io::Error| file_failure(format!("lock `{}`", path.display()), error);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).map_err(|error| failed(&error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let path = directory.display().to_string();
                return Err(StoreError::Locked { path, holder: holder(&file) });
            }
            Err(TryLockError::Error(error)) => return Err(failed(&error)),
        }
        let process = std::process::id();
        let now = jiff::Timestamp::now();
        file.set_len(0)
            .and_then(|()| writeln!(file, "process {process} since {now:.0}"))
            .map_err(|error| failed(&error))?;
        Ok(Self { _file: file })
    }
}

/// Who holds the lock, as far as the file says.
fn holder(file: &File) -> String {
    let mut text = String::new();
    let read = file.take(MOST_READ).read_to_string(&mut text);
    let text = text.trim();
    if read.is_err() || text.is_empty() || text.chars().any(char::is_control) {
        return "another process".to_owned();
    }
    text.to_owned()
}
