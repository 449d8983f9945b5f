//! The way to the host: a socket on standard input, or, inside a container, standard input and output.
//!
//! What it is shows in what it is, so nobody has to say so. Waiting for it is the caller's affair:
//! it blocks until [`never_block`], and never after that.

use std::os::fd::BorrowedFd;
use std::sync::OnceLock;

use rustix::fs::{FileType, OFlags, fcntl_getfl, fcntl_setfl, fstat};
use rustix::io::{Result, read, write};

/// Where requests come from.
pub(crate) fn incoming() -> BorrowedFd<'static> {
    rustix::stdio::stdin()
}

/// Where events go to.
pub(crate) fn outgoing() -> BorrowedFd<'static> {
    static BOTH_WAYS: OnceLock<bool> = OnceLock::new();
    let both = *BOTH_WAYS.get_or_init(|| {
        let kind = fstat(incoming()).map(|stat| FileType::from_raw_mode(stat.st_mode));
        kind == Ok(FileType::Socket)
    });
    if both { incoming() } else { rustix::stdio::stdout() }
}

/// From now on reading and writing take what there is.
pub(crate) fn never_block() -> Result<()> {
    for end in [incoming(), outgoing()] {
        fcntl_setfl(end, fcntl_getfl(end)? | OFlags::NONBLOCK)?;
    }
    Ok(())
}

/// Some bytes from the host; none when it has gone.
pub(crate) fn receive(buffer: &mut [u8]) -> Result<usize> {
    read(incoming(), buffer)
}

/// Writes some of the bytes, and says how many. A host that has gone is an error and no signal, which
/// the standard library sees to before `main`.
pub(crate) fn send(bytes: &[u8]) -> Result<usize> {
    write(outgoing(), bytes)
}
