//! What commands may do with files, beside what permissions and mounts say.
//!
//! The rules are made once, when the root stands: all of it may be read and executed, and only what
//! is the sandbox's own to write may be written. Each command takes them upon itself for good before
//! it becomes its program, and signals and abstract sockets end at its own processes then.
//!
//! A kernel without Landlock, or with one so old that nobody could move a file from one directory to
//! another, is told of and done without: mounts and namespaces say the same once already.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use symbiont_guest::protocol::Entry;

use crate::setup::{Failure, Step, at, open_root};
use crate::sys;

// Rights, as the kernel numbers them.
const EXECUTE: u64 = 1 << 0;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;
const OF_A_FILE: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;
const TO_READ: u64 = EXECUTE | READ_FILE | READ_DIR;
const OF_A_DEVICE: u64 = WRITE_FILE | TRUNCATE | IOCTL_DEV;

/// From which version on the kernel knows which rights: all from bit 0 up to this number.
const RIGHTS: [(u32, u32); 3] = [(2, 14), (3, 15), (5, 16)];
/// The version that can restrict signals and abstract sockets, and the bits that say so.
const SCOPES: (u32, u64) = (6, 0b11);

/// Rules for commands.
#[derive(Debug)]
pub(crate) struct Rules {
    rules: OwnedFd,
    /// The version of the kernel's interface.
    pub(crate) version: u32,
}

impl Rules {
    /// The rules of a root that stands, or why there are none.
    pub(crate) fn new(entries: &[Entry]) -> Result<Result<Self, String>, Failure> {
        let version = match sys::landlock_version() {
            Ok(version) => version,
            Err(errno) => return Ok(Err(format!("this kernel has none, or has it off ({errno})"))),
        };
        let Some(handled) = handled(version) else {
            return Ok(Err("this kernel's is too old to let files be moved".to_owned()));
        };
        let scopes = if version >= SCOPES.0 { SCOPES.1 } else { 0 };
        let rules = sys::landlock_rules(handled, scopes).step(at("make the rules for files"))?;
        let allow = |path: &str, rights: u64| {
            let place = open_root(Path::new(path))?;
            let name = || format!("allow `{path}`");
            let kind = FileType::from_raw_mode(fstat(&place).step(name)?.st_mode);
            let fitting = if kind == FileType::Directory { handled } else { handled & OF_A_FILE };
            sys::landlock_allow(&rules, &place, rights & fitting).step(name)
        };
        allow("/", TO_READ)?;
        allow("/dev", OF_A_DEVICE)?;
        for entry in entries {
            if let Entry::Memory { path, .. } | Entry::Bind { path, read_only: false, .. } = entry {
                allow(&format!("/{path}"), u64::MAX)?;
            }
        }
        Ok(Ok(Self { rules, version }))
    }

    /// Puts this process under the rules for good.
    pub(crate) fn enter(&self) -> Result<(), Errno> {
        sys::landlock_enter(&self.rules)
    }
}

/// The rights that a version of the kernel's interface judges.
fn handled(version: u32) -> Option<u64> {
    let (_, bits) = RIGHTS.iter().rev().find(|(since, _)| version >= *since)?;
    Some((1 << bits) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_judges_what_it_knows() {
        for (version, want) in
            [(0, None), (1, None), (2, Some(0x3fff)), (3, Some(0x7fff)), (4, Some(0x7fff))]
        {
            assert_eq!(handled(version), want, "{version}");
        }
        for version in [5, 6, 7, 100] {
            assert_eq!(handled(version), Some(0xffff), "{version}");
        }
    }
}
