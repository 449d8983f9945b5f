//! The first process of a sandbox: runs commands and moves files until the host is done.

use std::collections::BTreeMap;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use symbiont_guest::protocol::{
    Decoder, Event, MAX_CHUNK, MAX_COMMANDS, OUTPUT_BACKLOG, Output, Request, Setup,
};

use crate::channel;
use crate::command::Running;
use crate::files::Files;
use crate::kernel::FileUser;
use crate::landlock::Rules;
use crate::setup::{Failure, Step, at};
use crate::sys;

/// The agent's whole state.
pub(crate) struct Agent {
    setup: Setup,
    /// None where the kernel has no Landlock.
    rules: Option<Rules>,
    decoder: Decoder,
    files: Files,
    commands: BTreeMap<u32, Running>,
    out: Vec<u8>,
    sent: usize,
    buffer: Vec<u8>,
}

/// What a descriptor that is ready belongs to.
#[derive(Clone, Copy)]
enum Ready {
    Host,
    /// It is written to at the beginning of each turn.
    Outgoing,
    Keeper(u32),
    Input(u32),
    Output(u32, Output),
}

/// The connection is over: the host has gone, is done, or speaks nonsense.
struct Over;

impl Agent {
    pub(crate) fn new(
        decoder: Decoder,
        setup: Setup,
        rules: Option<Rules>,
        version: u32,
        degraded: Vec<String>,
        user: FileUser,
    ) -> Result<Self, Failure> {
        channel::never_block().step(at("reach the host"))?;
        // For keepers, which are told what to do by them from their first moment on.
        sys::hold_signals();
        let mut out = Vec::new();
        for what in degraded {
            Event::Degraded(what).encode(0, &mut out);
        }
        let landlock = rules.as_ref().map_or(0, |rules| rules.version);
        Event::Hello { version, token: setup.token, landlock }.encode(0, &mut out);
        Ok(Self {
            setup,
            rules,
            decoder,
            files: Files::new(user)?,
            commands: BTreeMap::new(),
            out,
            sent: 0,
            buffer: vec![0; MAX_CHUNK],
        })
    }

    /// Serves until the host is done. Then the caller exits, and the kernel ends all commands.
    pub(crate) fn serve(&mut self) {
        // Whatever came together with the set-up is still to be done.
        let mut result = self.handle_received();
        while result.is_ok() {
            result = self.turn();
        }
    }

    fn turn(&mut self) -> Result<(), Over> {
        self.send()?;
        for ready in self.wait()? {
            match ready {
                Ready::Host => self.receive()?,
                Ready::Outgoing => {}
                Ready::Keeper(id) => {
                    if let Some(command) = self.commands.get_mut(&id) {
                        command.keeper_told();
                    }
                }
                Ready::Input(id) => self.pass_input(id),
                Ready::Output(id, which) => self.pass_output(id, which),
            }
        }
        let now = Instant::now();
        let ids: Vec<u32> = self.commands.keys().copied().collect();
        for id in ids {
            let Some(command) = self.commands.get_mut(&id) else { continue };
            command.check_time(now);
            if let Some(event) = command.outcome() {
                event.encode(id, &mut self.out);
                self.commands.remove(&id);
            }
        }
        Ok(())
    }

    /// Waits until something can be done, and says what.
    fn wait(&self) -> Result<Vec<Ready>, Over> {
        let pending = self.out.len() - self.sent;
        let (incoming, outgoing) = (channel::incoming(), channel::outgoing());
        let mut polled = vec![PollFd::new(&incoming, PollFlags::IN)];
        let mut what = vec![Ready::Host];
        if pending > 0 {
            polled.push(PollFd::new(&outgoing, PollFlags::OUT));
            what.push(Ready::Outgoing);
        }
        for (&id, command) in &self.commands {
            if let Some(keeper) = command.keeper() {
                polled.push(PollFd::new(keeper, PollFlags::IN));
                what.push(Ready::Keeper(id));
            }
            if let Some(stdin) = &command.stdin
                && command.wants_input()
            {
                polled.push(PollFd::new(stdin, PollFlags::OUT));
                what.push(Ready::Input(id));
            }
            if pending < OUTPUT_BACKLOG {
                for which in [Output::Stdout, Output::Stderr] {
                    if let Some(stream) = command.readable(which) {
                        polled.push(PollFd::new(stream, PollFlags::IN));
                        what.push(Ready::Output(id, which));
                    }
                }
            }
        }
        // A command whose processes are gone may have a pipe that someone else holds: it will not
        // become ready, and is read once more to see that nothing is left.
        let left = self.commands.values().any(|c| c.keeper().is_none()) && pending < OUTPUT_BACKLOG;
        let timeout = if left {
            Some(Timespec { tv_sec: 0, tv_nsec: 0 })
        } else {
            let next = self.commands.values().filter_map(Running::deadline).min();
            next.map(|at| at.saturating_duration_since(Instant::now()))
                .and_then(|left| Timespec::try_from(left).ok())
        };
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return Err(Over),
        }
        let mut ready: Vec<Ready> = polled
            .iter()
            .zip(what)
            .filter(|(polled, _)| !polled.revents().is_empty())
            .map(|(_, what)| what)
            .collect();
        if left {
            for (&id, command) in &self.commands {
                if command.keeper().is_none() {
                    ready.push(Ready::Output(id, Output::Stdout));
                    ready.push(Ready::Output(id, Output::Stderr));
                }
            }
        }
        Ok(ready)
    }

    fn send(&mut self) -> Result<(), Over> {
        while self.sent < self.out.len() {
            match channel::send(&self.out[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.out.drain(..self.sent);
                    self.sent = 0;
                    return Ok(());
                }
                Err(_) => return Err(Over),
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(())
    }

    fn receive(&mut self) -> Result<(), Over> {
        match channel::receive(&mut self.buffer) {
            Ok(0) => Err(Over),
            Ok(count) => {
                self.decoder.push(&self.buffer[..count]);
                self.handle_received()
            }
            Err(Errno::INTR | Errno::AGAIN) => Ok(()),
            Err(_) => Err(Over),
        }
    }

    fn handle_received(&mut self) -> Result<(), Over> {
        while let Some(frame) = self.decoder.next_frame().map_err(|_| Over)? {
            if let Some(request) = Request::decode(&frame).map_err(|_| Over)? {
                self.handle(frame.stream, request)?;
            }
        }
        Ok(())
    }

    fn handle(&mut self, id: u32, request: Request) -> Result<(), Over> {
        match request {
            Request::Ping => Event::Pong.encode(id, &mut self.out),
            Request::Exec(exec) => self.start(id, &exec),
            Request::Stdin(bytes) => {
                let known = self.commands.get_mut(&id);
                if known.is_some_and(|command| !command.take_input(&bytes)) {
                    return Err(Over);
                }
                self.pass_input(id);
            }
            Request::StdinEnd => {
                if let Some(command) = self.commands.get_mut(&id) {
                    command.end_input();
                }
                self.pass_input(id);
            }
            Request::Kill => {
                if let Some(command) = self.commands.get_mut(&id) {
                    command.kill();
                }
            }
            Request::OutputTaken { output, count } => {
                if let Some(command) = self.commands.get_mut(&id) {
                    command.output_taken(output, count);
                }
            }
            Request::Signal(number) => {
                if let Some(command) = self.commands.get(&id) {
                    command.signal(number.into());
                }
            }
            Request::Resize(size) => {
                if let Some(command) = self.commands.get(&id) {
                    command.resize(size);
                }
            }
            Request::Setup(_) | Request::Go | Request::Shutdown => return Err(Over),
            Request::Open(_)
            | Request::OpenPlain(_)
            | Request::Read { .. }
            | Request::Create { .. }
            | Request::Write(_)
            | Request::Commit
            | Request::Close
            | Request::Stat(_)
            | Request::List(_)
            | Request::Remove(_)
            | Request::Walk(_)
            | Request::More
            | Request::Plant { .. }
            | Request::Nodes(_) => {
                if let Some(event) = self.files.answer(id, request) {
                    event.encode(id, &mut self.out);
                }
            }
        }
        Ok(())
    }

    fn start(&mut self, id: u32, exec: &symbiont_guest::protocol::Exec) {
        let result = if self.commands.len() >= MAX_COMMANDS || self.commands.contains_key(&id) {
            Err(("find a place for it", Errno::AGAIN))
        } else {
            Running::start(exec, &self.setup, self.rules.as_ref())
        };
        match result {
            Ok(running) => drop(self.commands.insert(id, running)),
            Err((step, errno)) => {
                let errno = errno.raw_os_error();
                Event::NotStarted { step: step.to_owned(), errno }.encode(id, &mut self.out);
            }
        }
    }

    fn pass_input(&mut self, id: u32) {
        if let Some(command) = self.commands.get_mut(&id) {
            let taken = command.pass_input();
            if taken > 0 {
                Event::StdinTaken(taken).encode(id, &mut self.out);
            }
        }
    }

    fn pass_output(&mut self, id: u32, which: Output) {
        let Some(command) = self.commands.get_mut(&id) else { return };
        if let Some(count) = command.take_output(which, &mut self.buffer) {
            let bytes = self.buffer[..count].to_vec();
            let event = match which {
                Output::Stdout => Event::Stdout(bytes),
                Output::Stderr => Event::Stderr(bytes),
            };
            event.encode(id, &mut self.out);
        }
    }
}
