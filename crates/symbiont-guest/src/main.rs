//! The program inside every sandbox.
//!
//! It becomes four kinds of process:
//!
//! - the *agent* ([`agent`]) is the first process of the sandbox, with a socket to the host as its
//!   standard input: it reads there what the sandbox is to be and builds that ([`setup`]), then runs
//!   commands and moves files as the host asks;
//! - each command has a *keeper* ([`command`]), the first process of a process namespace of the
//!   command's own: when it ends, the kernel ends everything the command started;
//! - the *fork server* ([`fork_server`]), with the argument `fork-server`, is outside, one for each
//!   driver of processes: it makes the agents;
//! - with other arguments it is outside too: it enters control groups and becomes the program that makes
//!   a sandbox for us ([`setup::become_member`]).
//!
//! # What holds
//!
//! - There is one thread in each of them.
//! - When the host goes away the socket ends, the agent exits, and the kernel ends the rest.
//! - Where the walls stand already, as inside gVisor, the agent is the first process that was started,
//!   and builds nothing. In a container that process makes the agent and waits for its end.
//! - A command starts only after every wall stands; a step that fails is reported by name, and
//!   nothing runs.

mod agent;
mod channel;
mod command;
mod files;
mod fork_server;
mod kernel;
mod landlock;
mod setup;
#[expect(unsafe_code, reason = "clone, execve, signals, filters: what `rustix` leaves unsafe")]
mod sys;
mod upload;

use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;

use symbiont_guest::protocol::FORK_SERVER;

fn main() {
    let arguments: Vec<CString> =
        std::env::args_os().skip(1).filter_map(|word| CString::new(word.into_vec()).ok()).collect();
    // Whoever started the host may have said otherwise of both. Commands get them as well.
    sys::expect_signals();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    sys::exit(match &arguments[..] {
        [] => setup::start(),
        [one] if one.as_bytes() == FORK_SERVER.as_bytes() => fork_server::serve(),
        words => setup::become_member(words),
    });
}
