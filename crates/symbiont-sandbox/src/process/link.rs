//! The connection to a guest: requests out, answers and output in.
//!
//! One task writes and one reads. The reader never waits for anyone: output goes into buffers that
//! keep no more than a command's cap, so no command holds another one up and memory is bounded by
//! what callers asked for. Whatever the guest says that does not fit ends the connection.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use symbiont_guest::protocol::{Decoder, Event, Request, STDIN_WINDOW};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc, oneshot, watch};

/// What a guest may say that it does without: so many things, in so many characters each.
const MAX_DEGRADED: usize = 8;
const MAX_DEGRADED_TEXT: usize = 256;
/// Frames that wait to be written.
const QUEUE: usize = 16;

/// A connection to a guest.
#[derive(Debug)]
pub(crate) struct Link {
    requests: mpsc::Sender<Vec<u8>>,
    table: Arc<Mutex<Table>>,
    next: AtomicU32,
    lost: watch::Receiver<Option<String>>,
}

/// Who waits for what.
#[derive(Debug, Default)]
struct Table {
    hello: Option<oneshot::Sender<Event>>,
    answers: HashMap<u32, oneshot::Sender<Event>>,
    commands: HashMap<u32, Slot>,
    degraded: Vec<String>,
    lost: Option<String>,
}

/// A command that runs.
#[derive(Debug)]
struct Slot {
    stdout: Kept,
    stderr: Kept,
    /// Bytes of input that the guest may still be sent.
    credit: usize,
    more_credit: Arc<Notify>,
    /// `None` once its caller gave up.
    outcome: Option<oneshot::Sender<Ended>>,
    /// Something to hold until it is over.
    _held: Box<dyn std::fmt::Debug + Send + Sync>,
}

/// How a command ended, with its output.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) event: Event,
    pub(crate) stdout: (Vec<u8>, bool),
    pub(crate) stderr: (Vec<u8>, bool),
}

/// The beginning and the end of a stream.
#[derive(Debug)]
pub(crate) struct Kept {
    head: Vec<u8>,
    head_cap: usize,
    tail: VecDeque<u8>,
    tail_cap: usize,
    truncated: bool,
}

impl Kept {
    /// Keeps `cap` bytes: three quarters of them from the beginning, the rest from the end.
    pub(crate) fn new(cap: usize) -> Self {
        let tail_cap = cap / 4;
        let (head, tail) = (Vec::new(), VecDeque::new());
        Self { head, head_cap: cap - tail_cap, tail, tail_cap, truncated: false }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let (head, rest) = bytes.split_at(bytes.len().min(self.head_cap - self.head.len()));
        self.head.extend_from_slice(head);
        let over = (self.tail.len() + rest.len()).saturating_sub(self.tail_cap);
        self.truncated |= over > 0;
        let from_tail = over.min(self.tail.len());
        self.tail.drain(..from_tail);
        self.tail.extend(&rest[over - from_tail..]);
    }

    /// What was kept, and whether something was not.
    pub(crate) fn take(self) -> (Vec<u8>, bool) {
        let mut bytes = self.head;
        let (first, second) = self.tail.as_slices();
        bytes.reserve_exact(first.len() + second.len());
        bytes.extend_from_slice(first);
        bytes.extend_from_slice(second);
        (bytes, self.truncated)
    }
}

/// The guest is gone, with the reason as far as it is known.
#[derive(Debug, Clone)]
pub(crate) struct Lost(pub(crate) String);

impl Link {
    /// A link over a connected socket, and the guest's first word when it comes.
    pub(crate) fn new(socket: UnixStream) -> (Self, oneshot::Receiver<Event>) {
        let (hello, first) = oneshot::channel();
        let table = Arc::new(Mutex::new(Table { hello: Some(hello), ..Table::default() }));
        let (requests, queue) = mpsc::channel(QUEUE);
        let (tell_lost, lost) = watch::channel(None);
        let (reader, writer) = socket.into_split();
        // Both end with the socket: the writer when the link is dropped, the reader when the
        // guest, which then sees the end, has closed its side.
        tokio::spawn(write(writer, queue));
        tokio::spawn(read(reader, Arc::clone(&table), tell_lost));
        (Self { requests, table, next: AtomicU32::new(1), lost }, first)
    }

    /// Sends something that has no answer.
    pub(crate) async fn send(&self, stream: u32, request: &Request) -> Result<(), Lost> {
        let mut frame = Vec::new();
        request.encode(stream, &mut frame);
        self.requests.send(frame).await.map_err(|_| self.why())
    }

    /// Sends something without waiting, from where waiting is not possible.
    pub(crate) fn send_later(&self, stream: u32, request: &Request) {
        let mut frame = Vec::new();
        request.encode(stream, &mut frame);
        if let Err(mpsc::error::TrySendError::Full(frame)) = self.requests.try_send(frame)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let requests = self.requests.clone();
            runtime.spawn(async move { requests.send(frame).await });
        }
    }

    /// A name for a new command or transfer.
    pub(crate) fn stream(&self) -> u32 {
        // Nothing lives through four thousand million others; 0 is the connection's own.
        self.next.fetch_add(1, Ordering::Relaxed).max(1)
    }

    /// Asks, and waits for the answer.
    pub(crate) async fn ask(&self, stream: u32, request: &Request) -> Result<Event, Lost> {
        let (answer, answered) = oneshot::channel();
        {
            let mut table = lock(&self.table);
            if let Some(reason) = &table.lost {
                return Err(Lost(reason.clone()));
            }
            table.answers.insert(stream, answer);
        }
        self.send(stream, request).await?;
        answered.await.map_err(|_| self.why())
    }

    /// Begins a command, and says where its end will be told.
    pub(crate) fn begin(
        &self,
        stream: u32,
        output_cap: usize,
        held: Box<dyn std::fmt::Debug + Send + Sync>,
    ) -> Result<(oneshot::Receiver<Ended>, Arc<Notify>), Lost> {
        let mut table = lock(&self.table);
        if let Some(reason) = &table.lost {
            return Err(Lost(reason.clone()));
        }
        let (outcome, ended) = oneshot::channel();
        let more_credit = Arc::new(Notify::new());
        let slot = Slot {
            stdout: Kept::new(output_cap),
            stderr: Kept::new(output_cap),
            credit: STDIN_WINDOW,
            more_credit: Arc::clone(&more_credit),
            outcome: Some(outcome),
            _held: held,
        };
        table.commands.insert(stream, slot);
        Ok((ended, more_credit))
    }

    /// Takes credit for input, at most `wanted`; 0 if there is none now.
    pub(crate) fn take_credit(&self, stream: u32, wanted: usize) -> usize {
        let mut table = lock(&self.table);
        let Some(slot) = table.commands.get_mut(&stream) else { return 0 };
        let taken = slot.credit.min(wanted);
        slot.credit -= taken;
        taken
    }

    /// Nobody waits for the command any more: what it still writes is dropped.
    pub(crate) fn abandon(&self, stream: u32) {
        if let Some(slot) = lock(&self.table).commands.get_mut(&stream) {
            (slot.stdout, slot.stderr) = (Kept::new(0), Kept::new(0));
            slot.outcome = None;
        }
    }

    /// The commands that run.
    pub(crate) fn running(&self) -> Vec<u32> {
        lock(&self.table).commands.keys().copied().collect()
    }

    /// What the guest does without, as far as it has said so.
    pub(crate) fn degraded(&self) -> Vec<String> {
        lock(&self.table).degraded.clone()
    }

    /// Why the guest is gone.
    pub(crate) fn why(&self) -> Lost {
        Lost(lock(&self.table).lost.clone().unwrap_or_else(|| "the connection ended".to_owned()))
    }

    /// Becomes `Some` when the guest is gone.
    pub(crate) fn lost(&self) -> watch::Receiver<Option<String>> {
        self.lost.clone()
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn write(mut socket: OwnedWriteHalf, mut queue: mpsc::Receiver<Vec<u8>>) {
    while let Some(frame) = queue.recv().await {
        if socket.write_all(&frame).await.is_err() {
            return; // The reader sees it too, and tells everyone.
        }
    }
}

async fn read(
    mut socket: OwnedReadHalf,
    table: Arc<Mutex<Table>>,
    tell_lost: watch::Sender<Option<String>>,
) {
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; 64 << 10];
    let reason = loop {
        match socket.read(&mut buffer).await {
            Ok(0) => break "the guest ended".to_owned(),
            Err(error) => break format!("the connection broke: {error}"),
            Ok(count) => decoder.push(&buffer[..count]),
        }
        if let Err(reason) = take_in(&mut decoder, &table) {
            break reason;
        }
    };
    {
        let mut table = lock(&table);
        table.lost = Some(reason.clone());
        // Whoever waits sees that nobody will answer.
        table.hello = None;
        table.answers.clear();
        table.commands.clear();
    }
    tell_lost.send_replace(Some(reason));
}

fn take_in(decoder: &mut Decoder, table: &Mutex<Table>) -> Result<(), String> {
    while let Some(frame) = decoder.next_frame().map_err(|error| error.to_string())? {
        if let Some(event) = Event::decode(&frame).map_err(|error| error.to_string())? {
            lock(table).take_in(frame.stream, event)?;
        }
    }
    Ok(())
}

impl Table {
    /// What an event changes; an event that nobody can be waiting for is a broken guest's.
    fn take_in(&mut self, stream: u32, event: Event) -> Result<(), String> {
        let unasked = |what: &str| format!("the guest sent {what} that nobody asked for");
        match event {
            Event::Hello { .. } | Event::SetupFailed { .. } => {
                let hello = self.hello.take().ok_or_else(|| unasked("a greeting"))?;
                let _given_up = hello.send(event);
            }
            Event::Degraded(what) => {
                if self.hello.is_none() || self.degraded.len() >= MAX_DEGRADED {
                    return Err(unasked("a complaint"));
                }
                self.degraded.push(what.chars().take(MAX_DEGRADED_TEXT).collect());
            }
            Event::Stdout(bytes) => self.command(stream)?.stdout.push(&bytes),
            Event::Stderr(bytes) => self.command(stream)?.stderr.push(&bytes),
            Event::StdinTaken(count) => {
                let slot = self.command(stream)?;
                let credit =
                    slot.credit.saturating_add(usize::try_from(count).unwrap_or(usize::MAX));
                if credit > STDIN_WINDOW {
                    return Err(unasked("credit"));
                }
                slot.credit = credit;
                slot.more_credit.notify_one();
            }
            Event::Exit(_) | Event::NotStarted { .. } => {
                let slot = self.commands.remove(&stream).ok_or_else(|| unasked("an end"))?;
                let (stdout, stderr) = (slot.stdout.take(), slot.stderr.take());
                if let Some(outcome) = slot.outcome {
                    let _given_up = outcome.send(Ended { event, stdout, stderr });
                }
            }
            Event::Pong
            | Event::Done
            | Event::Opened(_)
            | Event::Data(_)
            | Event::Stat(_)
            | Event::List { .. }
            | Event::Refused(_) => {
                // An answer may come after its caller gave up, or to a request that is sent on
                // the way out; neither is anyone's fault.
                if let Some(answer) = self.answers.remove(&stream) {
                    let _given_up = answer.send(event);
                }
            }
        }
        Ok(())
    }

    fn command(&mut self, stream: u32) -> Result<&mut Slot, String> {
        self.commands
            .get_mut(&stream)
            .ok_or_else(|| "the guest sent output of a command that does not run".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is kept of a stream that arrives in these pieces.
    #[track_caller]
    fn check(cap: usize, pieces: &[&str], want: &str, truncated: bool) {
        let mut kept = Kept::new(cap);
        for piece in pieces {
            kept.push(piece.as_bytes());
        }
        let (bytes, was) = kept.take();
        assert_eq!((String::from_utf8(bytes).unwrap().as_str(), was), (want, truncated));
    }

    #[test]
    fn the_beginning_and_the_end_are_kept() {
        check(8, &["12345678"], "12345678", false);
        check(8, &["1", "2345", "678"], "12345678", false);
        check(8, &["123456789"], "12345689", true);
        check(8, &["123456", "7", "8", "9", "ab"], "123456ab", true);
        check(8, &["123456", "abcdefghijkl"], "123456kl", true);
        check(0, &["x"], "", true);
        check(0, &[], "", false);
        check(1, &["xyz"], "x", true);
    }

    #[test]
    fn what_nobody_asked_for_ends_the_connection() {
        let events = [
            Event::Hello { version: 1, token: [0; 32] },
            Event::Stdout(vec![1]),
            Event::StdinTaken(1),
            Event::Degraded(String::new()),
            Event::Exit(symbiont_guest::protocol::Exit::default()),
        ];
        for event in events {
            assert!(Table::default().take_in(7, event.clone()).is_err(), "{event:?}");
        }
        // An answer that comes too late does not.
        assert_eq!(Table::default().take_in(7, Event::Done), Ok(()));
    }
}
