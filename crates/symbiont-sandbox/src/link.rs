//! The connection to a guest: requests out, answers and output in.
//!
//! Whoever has something to say writes it, and never waits: what the socket does not take at once
//! is left to a task. That is bounded by what callers may have under way: a window of input for
//! each command, one request for each transfer. The reader never waits for anyone either: output
//! goes where its command wants it, and no more of it arrives than the guest has credit for, so no
//! command holds another one up.
//! Whatever the guest says that does not fit ends the connection.

use std::collections::{HashMap, VecDeque};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use symbiont_guest::protocol::{Decoder, Event, Exec, LEFT_IN_PIPE, Output, Request, WINDOW};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, oneshot, watch};

/// What a guest may say that it does without: so many things, in so many characters each.
const MAX_DEGRADED: usize = 8;
const MAX_DEGRADED_TEXT: usize = 256;
/// The stream of the ping that is sent before there is a [`Link`].
pub(crate) const FIRST_PING: u32 = 1;

/// A connection to a guest.
#[derive(Debug)]
pub(crate) struct Link {
    outgoing: Arc<Outgoing>,
    table: Arc<Mutex<Table>>,
    next: AtomicU32,
    lost: watch::Receiver<Option<String>>,
}

/// The way to the guest.
#[derive(Debug)]
struct Outgoing {
    socket: OwnedWriteHalf,
    waiting: Mutex<Waiting>,
    more: Notify,
}

/// What the socket did not take at once.
#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// The task has not yet written all that was left to it.
    busy: bool,
    closed: bool,
}

/// A command that was begun.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) stream: u32,
    /// Where its end will be told.
    pub(crate) ended: oneshot::Receiver<Ended>,
}

/// Who waits for what.
#[derive(Debug, Default)]
struct Table {
    hello: Option<oneshot::Sender<Event>>,
    answers: HashMap<u32, oneshot::Sender<Event>>,
    commands: HashMap<u32, Slot>,
    degraded: Vec<String>,
    /// The version of the protocol that the guest has chosen, or 0.
    version: u32,
    /// The version that the guest's commands are under, or 0.
    landlock: u32,
    lost: Option<String>,
}

/// A command that runs.
#[derive(Debug)]
struct Slot {
    stdout: Outlet,
    stderr: Outlet,
    /// Bytes of input that the guest may still be sent.
    credit: usize,
    /// Who waits for that.
    writer: Option<Waker>,
    /// `None` once its caller gave up.
    outcome: Option<oneshot::Sender<Ended>>,
    /// Something to hold until it is over.
    _held: Box<dyn std::fmt::Debug + Send + Sync>,
}

impl Slot {
    fn outlet(&mut self, output: Output) -> &mut Outlet {
        match output {
            Output::Stdout => &mut self.stdout,
            Output::Stderr => &mut self.stderr,
        }
    }
}

/// One of a command's output streams, on this side.
#[derive(Debug)]
struct Outlet {
    fate: Fate,
    /// Bytes that may still arrive.
    allowed: usize,
    /// Bytes that were taken, and the guest does not know that yet.
    owed: usize,
}

impl Outlet {
    fn new(fate: Fate) -> Self {
        Self { fate, allowed: WINDOW + LEFT_IN_PIPE, owed: 0 }
    }

    /// Takes in what arrived; gives the credit that the guest is to get.
    fn arrive(&mut self, bytes: &[u8]) -> Result<Option<u32>, String> {
        let over = || "the guest sent more output than it may".to_owned();
        self.allowed = self.allowed.checked_sub(bytes.len()).ok_or_else(over)?;
        let taken = match &mut self.fate {
            Fate::Kept(kept) => {
                kept.push(bytes);
                bytes.len()
            }
            Fate::Piped(pipe) => {
                pipe.push(bytes);
                0
            }
            Fate::Dropped => bytes.len(),
        };
        Ok(self.taken(taken))
    }

    /// So much was taken; gives the credit that the guest is to get, once it is worth a frame.
    fn taken(&mut self, count: usize) -> Option<u32> {
        self.owed += count;
        let credit = if self.owed < WINDOW / 2 { 0 } else { std::mem::take(&mut self.owed) };
        self.allowed += credit;
        u32::try_from(credit).ok().filter(|credit| *credit > 0)
    }

    fn finish(self, end: End) -> (Vec<u8>, bool) {
        match self.fate {
            Fate::Kept(kept) => kept.take(),
            Fate::Piped(pipe) => {
                pipe.finish(end);
                (Vec::new(), false)
            }
            Fate::Dropped => (Vec::new(), false),
        }
    }
}

/// What becomes of a command's output.
#[derive(Debug)]
pub(crate) enum Fate {
    /// The beginning and the end are kept.
    Kept(Kept),
    /// Somebody reads it.
    Piped(Arc<Pipe>),
    /// Nobody wants it.
    Dropped,
}

/// Output between the guest and whoever reads it. What it holds is bounded by the credit.
#[derive(Debug, Default)]
pub(crate) struct Pipe(Mutex<Piped>);

#[derive(Debug, Default)]
struct Piped {
    bytes: VecDeque<u8>,
    end: Option<End>,
    reader: Option<Waker>,
}

/// Why no more output comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// That was all.
    Whole,
    /// The guest has gone.
    Lost,
}

impl Pipe {
    fn push(&self, bytes: &[u8]) {
        let mut piped = lock(&self.0);
        piped.bytes.extend(bytes);
        if let Some(reader) = piped.reader.take() {
            reader.wake();
        }
    }

    fn finish(&self, end: End) {
        let mut piped = lock(&self.0);
        piped.end = Some(end);
        if let Some(reader) = piped.reader.take() {
            reader.wake();
        }
    }

    /// Fills `buffer` with what there is, or says that there will be nothing more.
    pub(crate) fn poll(&self, cx: &Context<'_>, buffer: &mut [u8]) -> Poll<Result<usize, End>> {
        let mut piped = lock(&self.0);
        let (first, second) = piped.bytes.as_slices();
        let from_first = first.len().min(buffer.len());
        let from_second = second.len().min(buffer.len() - from_first);
        buffer[..from_first].copy_from_slice(&first[..from_first]);
        buffer[from_first..from_first + from_second].copy_from_slice(&second[..from_second]);
        let count = from_first + from_second;
        piped.bytes.drain(..count);
        match piped.end {
            _ if count > 0 || buffer.is_empty() => Poll::Ready(Ok(count)),
            Some(end) => Poll::Ready(Err(end)),
            None => {
                piped.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
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
    /// A link over a connected socket, the guest's first word when it comes, and its answer to
    /// [`FIRST_PING`].
    pub(crate) fn new(
        socket: UnixStream,
    ) -> (Self, oneshot::Receiver<Event>, oneshot::Receiver<Event>) {
        let (hello, first) = oneshot::channel();
        let (answer, pong) = oneshot::channel();
        let answers = HashMap::from([(FIRST_PING, answer)]);
        let table = Table { hello: Some(hello), answers, ..Table::default() };
        let table = Arc::new(Mutex::new(table));
        let (tell_lost, lost) = watch::channel(None);
        let (reader, writer) = socket.into_split();
        let outgoing = Outgoing { socket: writer, waiting: Mutex::default(), more: Notify::new() };
        let outgoing = Arc::new(outgoing);
        // Both end with the socket: the writer when the link is dropped, the reader when the
        // guest, which then sees the end, has closed its side.
        tokio::spawn(write(Arc::clone(&outgoing)));
        tokio::spawn(read(reader, Arc::clone(&table), Arc::downgrade(&outgoing), tell_lost));
        (Self { outgoing, table, next: AtomicU32::new(FIRST_PING + 1), lost }, first, pong)
    }

    /// Sends something that has no answer. That the guest has gone shows elsewhere.
    pub(crate) fn send(&self, stream: u32, request: &Request) {
        let mut frame = Vec::new();
        request.encode(stream, &mut frame);
        self.outgoing.push(&frame);
    }

    /// A name for a new command or transfer.
    pub(crate) fn stream(&self) -> u32 {
        // Nothing lives through four thousand million others; 0 is the connection's own.
        self.next.fetch_add(1, Ordering::Relaxed).max(FIRST_PING)
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
        self.send(stream, request);
        answered.await.map_err(|_| self.why())
    }

    /// Begins a command, which holds `held` until it is over. One step, so that no caller can give
    /// up between keeping a place for it and asking the guest for it.
    pub(crate) fn begin(
        &self,
        exec: Exec,
        has_input: bool,
        [stdout, stderr]: [Fate; 2],
        held: Box<dyn std::fmt::Debug + Send + Sync>,
    ) -> Result<Begun, Lost> {
        let stream = self.stream();
        let (outcome, ended) = oneshot::channel();
        let slot = Slot {
            stdout: Outlet::new(stdout),
            stderr: Outlet::new(stderr),
            credit: WINDOW,
            writer: None,
            outcome: Some(outcome),
            _held: held,
        };
        {
            let mut table = lock(&self.table);
            if let Some(reason) = &table.lost {
                return Err(Lost(reason.clone()));
            }
            table.commands.insert(stream, slot);
        }
        let mut frames = Vec::new();
        Request::Exec(exec).encode(stream, &mut frames);
        if !has_input {
            Request::StdinEnd.encode(stream, &mut frames);
        }
        self.outgoing.push(&frames);
        Ok(Begun { stream, ended })
    }

    /// Takes credit for input, at most `wanted`; `None` when the command is over.
    pub(crate) fn poll_credit(
        &self,
        cx: &Context<'_>,
        stream: u32,
        wanted: usize,
    ) -> Poll<Option<usize>> {
        let mut table = lock(&self.table);
        let Some(slot) = table.commands.get_mut(&stream) else { return Poll::Ready(None) };
        let taken = slot.credit.min(wanted);
        slot.credit -= taken;
        if taken == 0 && wanted > 0 {
            slot.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Some(taken))
    }

    /// Whoever reads a command's output has taken so much of it.
    pub(crate) fn taken(&self, stream: u32, output: Output, count: usize) {
        let credit = {
            let mut table = lock(&self.table);
            table.commands.get_mut(&stream).and_then(|slot| slot.outlet(output).taken(count))
        };
        if let Some(count) = credit {
            self.send(stream, &Request::OutputTaken { output, count });
        }
    }

    /// Nobody reads this output any more: what comes, and what has come, is dropped.
    pub(crate) fn drop_output(&self, stream: u32, output: Output, pipe: &Pipe) {
        if let Some(slot) = lock(&self.table).commands.get_mut(&stream) {
            slot.outlet(output).fate = Fate::Dropped;
        }
        let unread = std::mem::take(&mut lock(&pipe.0).bytes).len();
        self.taken(stream, output, unread);
    }

    /// Nobody waits for the command any more: what it still writes is dropped.
    pub(crate) fn abandon(&self, stream: u32) {
        if let Some(slot) = lock(&self.table).commands.get_mut(&stream) {
            (slot.stdout.fate, slot.stderr.fate) = (Fate::Dropped, Fate::Dropped);
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

    /// Which version of the protocol is spoken.
    pub(crate) fn version(&self) -> u32 {
        lock(&self.table).version
    }

    /// The version of Landlock that commands are under, if they are.
    pub(crate) fn landlock(&self) -> Option<u32> {
        Some(lock(&self.table).landlock).filter(|version| *version > 0)
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

impl Drop for Link {
    fn drop(&mut self) {
        lock(&self.outgoing.waiting).closed = true;
        self.outgoing.more.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outgoing {
    /// Writes whole frames, after those that wait.
    fn push(&self, frames: &[u8]) {
        let mut waiting = lock(&self.waiting);
        let mut rest = frames;
        while !waiting.busy && !rest.is_empty() {
            match self.socket.try_write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return, // The reader sees it too, and tells everyone.
            }
        }
        if !rest.is_empty() {
            waiting.bytes.extend_from_slice(rest);
            waiting.busy = true;
            self.more.notify_one();
        }
    }

    /// What the task is to write, and whether it is the last.
    fn take(&self) -> (Vec<u8>, bool) {
        let mut waiting = lock(&self.waiting);
        let bytes = std::mem::take(&mut waiting.bytes);
        waiting.busy = !bytes.is_empty();
        (bytes, waiting.closed)
    }
}

/// Writes what callers could not. When this is dropped the guest sees the end of the socket.
async fn write(outgoing: Arc<Outgoing>) {
    loop {
        let (bytes, closed) = outgoing.take();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            if outgoing.socket.writable().await.is_err() {
                return;
            }
            match outgoing.socket.try_write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
        if bytes.is_empty() {
            if closed {
                return;
            }
            outgoing.more.notified().await;
        }
    }
}

async fn read(
    mut socket: OwnedReadHalf,
    table: Arc<Mutex<Table>>,
    outgoing: Weak<Outgoing>,
    tell_lost: watch::Sender<Option<String>>,
) {
    let mut decoder = Decoder::before_hello();
    let mut buffer = vec![0; 64 << 10];
    let reason = loop {
        match socket.read(&mut buffer).await {
            Ok(0) => break "the guest ended".to_owned(),
            Err(error) => break format!("the connection broke: {error}"),
            Ok(count) => decoder.push(&buffer[..count]),
        }
        if let Err(reason) = take_in(&mut decoder, &table, &outgoing) {
            break reason;
        }
    };
    {
        let mut table = lock(&table);
        table.lost = Some(reason.clone());
        // Whoever waits sees that nobody will answer.
        table.hello = None;
        table.answers.clear();
        for (_, slot) in table.commands.drain() {
            slot.over(End::Lost);
        }
    }
    tell_lost.send_replace(Some(reason));
}

fn take_in(
    decoder: &mut Decoder,
    table: &Mutex<Table>,
    outgoing: &Weak<Outgoing>,
) -> Result<(), String> {
    while let Some(frame) = decoder.next_frame().map_err(|error| error.to_string())? {
        let Some(event) = Event::decode(&frame).map_err(|error| error.to_string())? else {
            continue;
        };
        if matches!(event, Event::Hello { .. }) {
            decoder.greeted();
        }
        let answer = lock(table).take_in(frame.stream, event)?;
        // Without a link nobody reads, and nobody misses the credit.
        if let (Some(answer), Some(outgoing)) = (answer, outgoing.upgrade()) {
            let mut bytes = Vec::new();
            answer.encode(frame.stream, &mut bytes);
            outgoing.push(&bytes);
        }
    }
    Ok(())
}

impl Slot {
    /// The command is over: whoever reads or writes sees that. Gives what was kept of its output.
    fn over(self, end: End) -> [(Vec<u8>, bool); 2] {
        if let Some(writer) = self.writer {
            writer.wake();
        }
        [self.stdout.finish(end), self.stderr.finish(end)]
    }
}

impl Table {
    /// What an event changes, and what the guest is to be told because of it; an event that nobody
    /// can be waiting for is a broken guest's.
    fn take_in(&mut self, stream: u32, event: Event) -> Result<Option<Request>, String> {
        let unasked = |what: &str| format!("the guest sent {what} that nobody asked for");
        match event {
            Event::Hello { .. } | Event::SetupFailed { .. } => {
                if let Event::Hello { version, landlock, .. } = event {
                    (self.version, self.landlock) = (version, landlock);
                }
                let hello = self.hello.take().ok_or_else(|| unasked("a greeting"))?;
                let _given_up = hello.send(event);
            }
            Event::Degraded(what) => {
                if self.hello.is_none() || self.degraded.len() >= MAX_DEGRADED {
                    return Err(unasked("a complaint"));
                }
                self.degraded.push(what.chars().take(MAX_DEGRADED_TEXT).collect());
            }
            Event::Stdout(bytes) => return self.output(stream, Output::Stdout, &bytes),
            Event::Stderr(bytes) => return self.output(stream, Output::Stderr, &bytes),
            Event::StdinTaken(count) => {
                let slot = self.command(stream)?;
                let credit =
                    slot.credit.saturating_add(usize::try_from(count).unwrap_or(usize::MAX));
                if credit > WINDOW {
                    return Err(unasked("credit"));
                }
                slot.credit = credit;
                if let Some(writer) = slot.writer.take() {
                    writer.wake();
                }
            }
            Event::Exit(_) | Event::NotStarted { .. } => {
                let mut slot = self.commands.remove(&stream).ok_or_else(|| unasked("an end"))?;
                let outcome = slot.outcome.take();
                let [stdout, stderr] = slot.over(End::Whole);
                if let Some(outcome) = outcome {
                    let _given_up = outcome.send(Ended { event, stdout, stderr });
                }
            }
            Event::Pong
            | Event::Done
            | Event::Opened(_)
            | Event::Data(_)
            | Event::Stat(_)
            | Event::List { .. }
            | Event::Nodes(_)
            | Event::Refused(_) => {
                // An answer may come after its caller gave up, or to a request that is sent on
                // the way out; neither is anyone's fault.
                if let Some(answer) = self.answers.remove(&stream) {
                    let _given_up = answer.send(event);
                }
            }
        }
        Ok(None)
    }

    fn output(
        &mut self,
        stream: u32,
        output: Output,
        bytes: &[u8],
    ) -> Result<Option<Request>, String> {
        let credit = self.command(stream)?.outlet(output).arrive(bytes)?;
        Ok(credit.map(|count| Request::OutputTaken { output, count }))
    }

    fn command(&mut self, stream: u32) -> Result<&mut Slot, String> {
        self.commands
            .get_mut(&stream)
            .ok_or_else(|| "the guest sent output of a command that does not run".to_owned())
    }
}

/// A command with nothing to it.
#[cfg(any(test, feature = "fuzzing"))]
fn some_command() -> Exec {
    Exec {
        arguments: Vec::new(),
        environment: Vec::new(),
        directory: Vec::new(),
        timeout_ms: 0,
        grace_ms: 0,
        processor_seconds: 0,
        terminal: None,
    }
}

/// What a host makes of anything that a guest may say: with commands and requests under way, all of it
/// is heard by the reader itself, and everyone who waits learns that there is an end.
#[cfg(any(test, feature = "fuzzing"))]
pub fn hears(said: &[u8]) {
    use tokio::io::AsyncWriteExt;

    const CAP: usize = 100;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    runtime.expect("there is memory for one").block_on(async {
        let (ours, mut theirs) = UnixStream::pair().expect("there are descriptors for two");
        let (link, hello, pong) = Link::new(ours);
        let pipe = Arc::new(Pipe::default());
        let kept = [Fate::Kept(Kept::new(CAP)), Fate::Dropped];
        let piped = [Fate::Piped(Arc::clone(&pipe)), Fate::Kept(Kept::new(CAP))];
        let [first, second] = [kept, piped].map(|fates| {
            link.begin(some_command(), true, fates, Box::new(())).expect("nothing was said yet")
        });
        let stream = link.stream();
        let answer = link.ask(stream, &Request::More);
        let say = async {
            let _hung_up = theirs.write_all(said).await;
            let _hung_up = theirs.shutdown().await;
        };
        let (answer, ()) = tokio::join!(answer, say);
        let mut lost = link.lost();
        assert!(lost.wait_for(Option::is_some).await.is_ok(), "the reader tells its end");
        if let Ok(Event::Nodes(nodes)) = answer {
            let bounds = symbiont_guest::tree::Bounds::of(1 << 10);
            let mut course = symbiont_guest::tree::Course::new(bounds);
            let _either = nodes.iter().try_for_each(|node| course.take(node).map(drop));
        }
        if let Ok(event) = hello.await {
            assert!(matches!(event, Event::Hello { .. } | Event::SetupFailed { .. }));
        }
        let _either = pong.await;
        for ended in [first.ended, second.ended] {
            if let Ok(Ended { event, stdout, stderr }) = ended.await {
                assert!(matches!(event, Event::Exit(_) | Event::NotStarted { .. }));
                assert!(stdout.0.len() <= CAP && stderr.0.len() <= CAP);
            }
        }
        {
            let held = lock(&pipe.0);
            assert!(held.bytes.len() <= WINDOW + LEFT_IN_PIPE && held.end.is_some());
        }
        assert!(link.running().is_empty() && link.degraded().len() <= MAX_DEGRADED);
        assert!(link.ask(stream, &Request::More).await.is_err(), "nobody is asked any more");
    });
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

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
    fn what_does_not_fit_at_once_is_written_later_and_in_order() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let (link, _hello, _pong) = Link::new(ours);
            let mut want = Vec::new();
            for n in 0..64_u8 {
                let request = Request::Stdin(vec![n; 64 << 10]);
                request.encode(n.into(), &mut want);
                link.send(n.into(), &request);
                if n % 8 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            drop(link);
            let mut got = Vec::new();
            theirs.read_to_end(&mut got).await.unwrap();
            assert!(got == want, "{} bytes of {}", got.len(), want.len());
        });
    }

    /// What a link says, command by command, when its guest sends `output` of one, in pieces; and
    /// whether it has given the guest up.
    fn answers(fate: Fate, output: usize) -> (Vec<Request>, bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let (link, _hello, _pong) = Link::new(ours);
            let begun =
                link.begin(some_command(), true, [fate, Fate::Dropped], Box::new(())).unwrap();
            let mut bytes = Vec::new();
            Event::Hello { version: 2, token: [0; 32], landlock: 0 }.encode(0, &mut bytes);
            for piece in vec![7; output].chunks(64 << 10) {
                Event::Stdout(piece.to_vec()).encode(begun.stream, &mut bytes);
            }
            // Whether all was taken in shows in the answer to a last word, or in the end.
            Event::Degraded(String::new()).encode(0, &mut bytes);
            let mut lost = link.lost();
            let _given_up = theirs.write_all(&bytes).await;
            lost.wait_for(Option::is_some).await.unwrap();
            let gave_up = lost.borrow().as_ref().is_some_and(|why| why.contains("output"));
            drop(link);
            let (mut got, mut decoder) = (Vec::new(), Decoder::default());
            theirs.read_to_end(&mut got).await.unwrap();
            decoder.push(&got);
            let mut requests = Vec::new();
            while let Some(frame) = decoder.next_frame().unwrap() {
                requests.extend(Request::decode(&frame).unwrap());
            }
            (requests.split_off(1), gave_up)
        })
    }

    #[test]
    fn a_guest_gets_credit_for_what_was_taken_and_sends_no_more() {
        let credit = |count| Request::OutputTaken { output: Output::Stdout, count };
        let kept = || Fate::Kept(Kept::new(100));
        let piped = || Fate::Piped(Arc::default());
        // A little is worth no frame.
        assert_eq!(answers(kept(), 100_000), (vec![], false));
        assert_eq!(answers(kept(), 300_000), (vec![credit(128 << 10); 2], false));
        assert_eq!(answers(Fate::Dropped, 300_000), (vec![credit(128 << 10); 2], false));
        // What is kept for a reader earns none until it is read.
        assert_eq!(answers(piped(), WINDOW + LEFT_IN_PIPE), (vec![], false));
        assert_eq!(answers(piped(), WINDOW + LEFT_IN_PIPE + 1), (vec![], true));
    }

    #[test]
    fn whatever_a_guest_says_is_heard_to_its_end() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/guest_protocol");
        let mut heard = 0;
        for seed in std::fs::read_dir(folder).unwrap() {
            hears(&std::fs::read(seed.unwrap().path()).unwrap());
            heard += 1;
        }
        assert!(heard > 0, "there are seeds");
    }

    #[test]
    fn what_nobody_asked_for_ends_the_connection() {
        let events = [
            Event::Hello { version: 1, token: [0; 32], landlock: 0 },
            Event::Stdout(vec![1]),
            Event::StdinTaken(1),
            Event::Degraded(String::new()),
            Event::Exit(symbiont_guest::protocol::Exit::default()),
        ];
        for event in events {
            assert!(Table::default().take_in(7, event.clone()).is_err(), "{event:?}");
        }
        // An answer that comes too late does not.
        assert_eq!(Table::default().take_in(7, Event::Done), Ok(None));
    }
}
