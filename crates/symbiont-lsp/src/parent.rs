//! Knowing when the client is gone though its end of the stream is still open.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Calls `gone` when the process of this number has ended. Nothing is known of a process that can't
/// be looked at, such as one behind another namespace; then the end of the stream has to do.
pub(crate) fn watch(pid: u32, gone: impl FnOnce() + Send + 'static) {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    std::thread::spawn(move || {
        let mut waited = [PollFd::new(&process, PollFlags::IN)];
        loop {
            match poll(&mut waited, None) {
                Ok(_) => return gone(),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    });
}
