//! Makes the agents of the process driver: a program that has started once, and forks for each of them.
//!
//! What a start costs (finding the program, the C library's look at the processor, which inside a
//! virtual machine alone takes most of a millisecond) is paid once. The host sends one end of a socket
//! for each agent that it wants; the agent is a child of the host's, in namespaces of its own, and reads
//! from that socket what it is to be. Before that the host is told on the same socket, in a [`Born`],
//! who it is.
//!
//! The server itself is told nothing about any sandbox but whose its namespaces are to be, so that no agent
//! begins with what belongs to another one. What all agents of one server share is the layout of their
//! memory.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, IoSliceMut};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::geteuid;
use rustix::thread::{
    CapabilitiesSecureBits, Uid, set_capabilities_secure_bits, set_thread_res_uid,
};
use symbiont_guest::protocol::{Born, NAMESPACES};

use crate::setup;
use crate::sys::{self, Clone};

/// The namespaces that an agent is born into. The one of networks takes the kernel longer than all others
/// together, and is made while the host hears of the agent ([`setup::live`]).
const AT_BIRTH: u64 =
    (NAMESPACES & !libc::CLONE_NEWCGROUP & !libc::CLONE_NEWNET).cast_unsigned() as u64;

/// The server's life, until the host closes its end, and each agent's; what it returns is an exit code.
pub(crate) fn serve() -> i32 {
    // Whatever the host forgot to close is not for us.
    if sys::close_range(3, sys::LAST_DESCRIPTOR).is_err() {
        return 70;
    }
    sys::share_processors();
    let degraded = setup::take_score();
    // Where this is not allowed, whoever owns a namespace has no rights when it is made: that is the
    // ordinary case of user namespaces, which a host allows or does not.
    let _kept = set_capabilities_secure_bits(CapabilitiesSecureBits::NO_SETUID_FIXUP);
    let ours = geteuid();
    loop {
        let (socket, owner) = match next() {
            Ok(Some(next)) => next,
            Ok(None) => return 0,
            Err(Errno::INTR) => continue,
            Err(_) => return 74,
        };
        let owner = owner.map_or(ours, Uid::from_raw);
        let (born, process) = match clone_owned_by(owner, ours) {
            Ok(Clone::Child) => {
                let ours = sys::place(&socket, 0);
                drop(socket);
                return match ours.and_then(|()| sys::close_range(3, sys::LAST_DESCRIPTOR)) {
                    Ok(()) => setup::live(degraded),
                    Err(_) => 70,
                };
            }
            Ok(Clone::Parent(pid, descriptor)) => {
                (Born(Ok(pid.as_raw_nonzero().get().cast_unsigned())), Some(descriptor))
            }
            Err(errno) => (Born(Err(errno.raw_os_error())), None),
        };
        // Where nobody is there to be told, the agent will find nobody either, and end.
        let _told = tell(&socket, born, process.as_ref());
    }
}

/// Makes an agent whose namespaces are `owner`'s, and which finds files as we do.
///
/// What a user namespace uses of the kernel (instances of `inotify`, timers, namespaces) counts for its
/// owner as well, so that one that is ours would let a sandbox use up what is ours.
fn clone_owned_by(owner: Uid, ours: Uid) -> rustix::io::Result<Clone> {
    if owner == ours {
        return sys::clone_for_parent(AT_BIRTH);
    }
    // Saved as well: a control group of version 1 is entered by whoever has the id of who enters.
    set_thread_res_uid(ours, owner, owner)?;
    sys::look_up_files_as(ours);
    let made = sys::clone_for_parent(AT_BIRTH);
    if !matches!(made, Ok(Clone::Child)) {
        set_thread_res_uid(ours, ours, ours)?;
    }
    made
}

/// The socket of the next agent, and whose its namespaces are to be if not ours; `None` when no more are
/// wanted.
fn next() -> rustix::io::Result<Option<(OwnedFd, Option<u32>)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut attached = RecvAncillaryBuffer::new(&mut space);
    let mut owner = [0; 4];
    let received = recvmsg(
        rustix::stdio::stdin(),
        &mut [IoSliceMut::new(&mut owner)],
        &mut attached,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let owner = Some(u32::from_le_bytes(owner)).filter(|owner| *owner != 0);
    let cut = received.flags.contains(ReturnFlags::CTRUNC) || received.bytes < 4;
    let socket = attached.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    let next = socket.filter(|_| !cut).map(|socket| (socket, owner));
    next.map(Some).ok_or(Errno::PROTO)
}

/// Tells the host who was born, and gives it a descriptor of that process.
fn tell(socket: &OwnedFd, born: Born, process: Option<&OwnedFd>) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut attached = SendAncillaryBuffer::new(&mut space);
    let processes: Vec<BorrowedFd<'_>> = process.map(AsFd::as_fd).into_iter().collect();
    if !processes.is_empty() && !attached.push(SendAncillaryMessage::ScmRights(&processes)) {
        return Err(Errno::NOBUFS);
    }
    let bytes = born.to_bytes();
    sendmsg(socket, &[IoSlice::new(&bytes)], &mut attached, SendFlags::NOSIGNAL).map(drop)
}
