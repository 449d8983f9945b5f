//! The users of a sandbox: inside, and which of the host's they are.

use std::fs;
use std::io;

/// The user and the group of all commands, inside.
pub const USER: u32 = 1000;
/// How many user ids a sandbox of root's has, and as many of groups.
pub const IDS: u32 = 1 << 16;

/// Says who the users in a process's new user namespace are outside: from its 0 on, those from `first_id`
/// on; or, where nobody can give ids out, its [`USER`] the one that we are.
///
/// Fails with the name of the file of `/proc` that could not be written.
pub fn map(process: u32, first_id: Option<u32>) -> Result<(), (&'static str, io::Error)> {
    let write = |name: &'static str, text: String| {
        fs::write(format!("/proc/{process}/{name}"), text).map_err(|error| (name, error))
    };
    match first_id {
        Some(first) => {
            write("uid_map", format!("0 {first} {IDS}"))?;
            write("gid_map", format!("0 {first} {IDS}"))
        }
        None => {
            // Without this an ordinary user may not map a group.
            write("setgroups", "deny".to_owned())?;
            let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
            write("uid_map", format!("{USER} {} 1", user.as_raw()))?;
            write("gid_map", format!("{USER} {} 1", group.as_raw()))
        }
    }
}
