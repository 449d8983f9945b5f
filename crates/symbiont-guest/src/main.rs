//! The program inside every sandbox.
//!
//! The host starts it with one end of a socket as its standard input and the description of the
//! sandbox already waiting there. It becomes three kinds of process:
//!
//! - the *launcher* ([`setup`]) makes the namespaces and waits for the agent to end;
//! - the *agent* ([`agent`]) is the first process of the sandbox: it builds the root, then runs
//!   commands and moves files as the host asks;
//! - each command has a *keeper* ([`command`]), the first process of a process namespace of the
//!   command's own: when it ends, the kernel ends everything the command started.
//!
//! With arguments it is a fourth kind, outside: it enters control groups and becomes the program that
//! makes a sandbox for us ([`setup::become_member`]).
//!
//! # What holds
//!
//! - There is one thread in each of them.
//! - When the host goes away the socket ends, the agent exits, and the kernel ends the rest.
//! - Where the walls stand already, as inside gVisor, there is no launcher: the agent is the first
//!   process that was started, and builds nothing.
//! - A command starts only after every wall stands; a step that fails is reported by name, and
//!   nothing runs.

mod agent;
mod channel;
mod command;
mod files;
mod kernel;
mod landlock;
mod setup;
#[expect(unsafe_code, reason = "clone, execve, signals, filters: what `rustix` leaves unsafe")]
mod sys;

use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;

fn main() {
    let arguments: Vec<CString> =
        std::env::args_os().skip(1).filter_map(|word| CString::new(word.into_vec()).ok()).collect();
    sys::exit(if arguments.is_empty() {
        setup::launch()
    } else {
        setup::become_member(&arguments)
    });
}
