//! The frames between a host and the guest inside a sandbox, and the messages in them.
//!
//! ```text
//! len u32 BE | type u8 | flags u8 | stream u32 BE | payload
//! ```
//!
//! `len` counts everything after itself. `stream` names the command or request that a message
//! belongs to; 0 is the connection. Numbers in payloads are big endian; strings and lists carry
//! their length first.
//!
//! # What holds
//!
//! - No frame is longer than [`MAX_FRAME`], and nothing is allocated for a length that was
//!   announced but not received.
//! - Decoding foreign bytes gives a message or a [`ProtocolError`], never a panic.
//! - A frame of an unknown type is passed over unless it is marked as one that must be understood.
//!
//! # Flow
//!
//! Each stream of a command has a window of [`WINDOW`] bytes. The host sends at most so much input
//! beyond what the guest has passed on ([`Event::StdinTaken`]), and the guest reads at most so much
//! output beyond what the host's reader has taken ([`Request::OutputTaken`]). Whoever is slow holds
//! up their own command and nobody else's, and neither side holds more than a fixed amount for any.
//! What a command that has ended left in its pipes needs no credit, so that its end is told at once:
//! [`LEFT_IN_PIPE`] bytes of each at most.
//!
//! # Versions
//!
//! The host says which versions it speaks, the guest chooses the newest that both do ([`agree`]) and
//! says which ([`Event::Hello`]). Within a version frames never change, which `test_data/frames`
//! shows; a later one only adds to it.

/// The versions that this code speaks, oldest and newest.
pub const VERSIONS: Versions = Versions { oldest: 2, newest: 3 };
/// The first version that carries directories.
pub const DIRECTORIES: u32 = 3;
/// The longest frame before and with [`Event::Hello`].
pub const MAX_HELLO: usize = 4096;
/// The kernel namespaces of a sandbox's own, which no command in it may make again.
pub const NAMESPACES: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP;
/// The argument with which the guest makes agents until its standard input, a socket, ends.
///
/// The host sends four bytes there for each, the lower byte first: the user who is to own its namespaces, or
/// 0 for who the guest is; and with them one end of a stream socket, on which comes a [`Born`].
pub const FORK_SERVER: &str = "fork-server";
/// The longest frame, without its length field.
pub const MAX_FRAME: usize = 1 << 20;
/// The longest payload of a frame that carries data.
pub const MAX_CHUNK: usize = 256 << 10;
/// Commands that may run at once in one sandbox.
pub const MAX_COMMANDS: usize = 32;
/// Files that may be open for transfer at once in one sandbox.
pub const MAX_FILES: usize = 16;
/// Arguments and environment of a command together, in bytes.
pub const MAX_ARGUMENTS: usize = 256 << 10;
/// Entries of a directory that are listed.
pub const MAX_ENTRIES: usize = 4096;
/// Entries of a directory that is carried whole, with all that is in it.
pub const MAX_NODES: u64 = 100_000;
/// Directories in directories in one that is carried.
pub const MAX_DEPTH: usize = 64;
/// The longest path, in bytes.
pub const MAX_PATH: usize = 4095;
/// Bytes of each of a command's streams that may be under way.
pub const WINDOW: usize = 256 << 10;
/// The most that the kernel keeps in a pipe of an ordinary user.
pub const LEFT_IN_PIPE: usize = 1 << 20;
/// Bytes that may wait to be sent before the guest stops reading its commands' output.
pub const OUTPUT_BACKLOG: usize = 512 << 10;

const HEADER: usize = 6;
const MUST_UNDERSTAND: u8 = 1;

/// Bytes that are no frame or no message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProtocolError {
    /// A frame shorter than its own header.
    TooShort(u32),
    /// A frame longer than may come now.
    TooLong {
        /// How long it was to be.
        len: u32,
        /// How long it may be.
        most: usize,
    },
    /// A type that must be understood and is not.
    UnknownType(u8),
    /// A payload that ends too early, goes on too long, or holds something that can't be.
    Malformed {
        /// The type of the frame.
        kind: u8,
    },
}

impl std::fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooShort(len) => write!(f, "a frame of {len} bytes is shorter than its header"),
            Self::TooLong { len, most } => {
                write!(f, "a frame of {len} bytes is longer than {most}")
            }
            Self::UnknownType(kind) => write!(f, "a frame of the unknown type {kind}"),
            Self::Malformed { kind } => write!(f, "a malformed frame of type {kind}"),
        }
    }
}

impl std::error::Error for ProtocolError {}

/// A frame as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: u8,
    /// Bit 0: must be understood.
    pub flags: u8,
    /// What it belongs to.
    pub stream: u32,
    /// The rest.
    pub payload: Vec<u8>,
}

/// A range of protocol versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// The oldest that is spoken.
    pub oldest: u32,
    /// The newest.
    pub newest: u32,
}

/// The newest version that both speak.
pub fn agree(ours: Versions, theirs: Versions) -> Option<u32> {
    let newest = ours.newest.min(theirs.newest);
    (newest >= ours.oldest.max(theirs.oldest)).then_some(newest)
}

/// What a [fork server](FORK_SERVER) tells of an agent that it was to make, before any frame.
///
/// On the wire two numbers of four bytes, the lower byte first: the id of the process, with which comes a
/// descriptor of it, and 0; or 0, and the error of the system call that was to make it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Born(pub Result<u32, i32>);

impl Born {
    /// The bytes on the wire.
    pub const LENGTH: usize = 8;

    /// As it is on the wire.
    pub fn to_bytes(self) -> [u8; Self::LENGTH] {
        let (process, errno) = match self.0 {
            Ok(process) => (process, 0),
            Err(errno) => (0, errno.cast_unsigned()),
        };
        let [a, b, c, d] = u32::to_le_bytes(process);
        let [e, f, g, h] = u32::to_le_bytes(errno);
        [a, b, c, d, e, f, g, h]
    }

    /// As it came.
    pub fn from_bytes([a, b, c, d, e, f, g, h]: [u8; Self::LENGTH]) -> Self {
        Self(match u32::from_le_bytes([a, b, c, d]) {
            0 => Err(i32::from_le_bytes([e, f, g, h])),
            process => Ok(process),
        })
    }
}

/// Puts received bytes together into frames.
#[derive(Debug)]
pub struct Decoder {
    bytes: Vec<u8>,
    read: usize,
    most: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { bytes: Vec::new(), read: 0, most: MAX_FRAME }
    }
}

impl Decoder {
    /// For what comes from a guest that has not yet greeted.
    pub fn before_hello() -> Self {
        Self { most: MAX_HELLO, ..Self::default() }
    }

    /// The guest has greeted: from now on its frames may be as long as any.
    pub fn greeted(&mut self) {
        self.most = MAX_FRAME;
    }

    /// Takes bytes in, as many as were received at once.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.read);
        self.read = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame, if there is one.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, ProtocolError> {
        let rest = &self.bytes[self.read..];
        let Some((len, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let announced = u32::from_be_bytes(*len);
        let len = usize::try_from(announced).unwrap_or(usize::MAX);
        if len < HEADER {
            return Err(ProtocolError::TooShort(announced));
        }
        if len > self.most {
            return Err(ProtocolError::TooLong { len: announced, most: self.most });
        }
        let Some(frame) = rest.get(..len) else { return Ok(None) };
        let (header, payload) = frame.split_at(HEADER);
        let stream = u32::from_be_bytes([header[2], header[3], header[4], header[5]]);
        let frame = Frame { kind: header[0], flags: header[1], stream, payload: payload.to_vec() };
        self.read += 4 + len;
        Ok(Some(frame))
    }
}

/// What the sandbox is to be. The first message, sent before the guest even runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// What the host speaks, [`VERSIONS`].
    pub versions: Versions,
    /// Comes back in [`Event::Hello`].
    pub token: [u8; 32],
    /// Control groups of version 1 that the guest is to enter, directories of the host.
    pub groups: Vec<Vec<u8>>,
    /// The sandbox's host name.
    pub hostname: String,
    /// The first of 65536 ids of the host, or `None` if only our own can be mapped.
    pub first_id: Option<u32>,
    /// What its files are made of, in this order; nothing where the walls stand already, and the
    /// guest is started within them as root.
    pub entries: Vec<Entry>,
    /// Bytes of the memory that holds the root directory itself.
    pub root_size: u64,
    /// Limits of each process: number, soft and hard value.
    pub limits: Vec<(u32, u64)>,
    /// Processors that may be used; empty for all.
    pub processors: Vec<u32>,
    /// System call filters, each an array of `sock_filter`.
    pub filters: Vec<Vec<u8>>,
}

impl Setup {
    /// Whether the walls stand already, so that there is nothing to build.
    pub fn is_given(&self) -> bool {
        self.entries.is_empty()
    }
}

/// A part of a sandbox's files. Paths are beneath its root and have no leading slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A directory.
    Directory(String),
    /// A symbolic link.
    Link {
        /// Where it is.
        path: String,
        /// What it says.
        target: Vec<u8>,
    },
    /// A file that can only be read.
    File {
        /// Where it is.
        path: String,
        /// What is in it.
        content: Vec<u8>,
    },
    /// A directory or file of the host, with all that is mounted beneath.
    Bind {
        /// Where it is on the host.
        source: Vec<u8>,
        /// Where it appears.
        path: String,
        /// Whether it can't be written.
        read_only: bool,
        /// Whether it is a device.
        device: bool,
    },
    /// Memory that can be written.
    Memory {
        /// Where it is.
        path: String,
        /// How much of it.
        size: u64,
        /// How many files.
        files: u64,
        /// Its permissions.
        mode: u32,
        /// Whether programs in it can be run.
        executable: bool,
    },
    /// The sandbox's own `/proc`.
    Processes,
    /// The sandbox's own terminals, where its kernel can make them.
    Terminals,
    /// What is in the root that the guest is started in, as inside a container, read-only.
    Own {
        /// The names that are left out.
        except: Vec<String>,
    },
}

/// A command for the guest to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// The program's name and its arguments.
    pub arguments: Vec<Vec<u8>>,
    /// The whole environment, `NAME=value`.
    pub environment: Vec<Vec<u8>>,
    /// Where it starts.
    pub directory: Vec<u8>,
    /// Milliseconds until it is asked to end.
    pub timeout_ms: u64,
    /// Milliseconds from then until it is killed.
    pub grace_ms: u64,
    /// Seconds of processor time that each of its processes may use; 0 for any.
    pub processor_seconds: u64,
    /// A terminal for its three streams, if it is to have one.
    pub terminal: Option<Size>,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// Which of a command's output streams. What is written to a terminal is all [`Output::Stdout`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What a host asks of a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Build the sandbox.
    Setup(Box<Setup>),
    /// The control groups are there: enter them, and go on.
    Go,
    /// Answer.
    Ping,
    /// Run a command; the stream names it from now on.
    Exec(Exec),
    /// Input for a command.
    Stdin(Vec<u8>),
    /// No more input for a command.
    StdinEnd,
    /// Kill a command at once.
    Kill,
    /// Open a file to be read.
    Open(Vec<u8>),
    /// Read from the opened file.
    Read {
        /// From where.
        offset: u64,
        /// How much at most.
        len: u32,
    },
    /// Begin a file.
    Create {
        /// Where it will be.
        path: Vec<u8>,
        /// Its permissions.
        mode: u32,
        /// How large it will be.
        size: u64,
    },
    /// More of the file that was begun.
    Write(Vec<u8>),
    /// The file is whole: put it where it belongs.
    Commit,
    /// Forget the opened or begun file.
    Close,
    /// What is at a path?
    Stat(Vec<u8>),
    /// What is in a directory?
    List(Vec<u8>),
    /// Remove a file or an empty directory.
    Remove(Vec<u8>),
    /// End everything.
    Shutdown,
    /// Open a file to be read, one that has no other name: by no link, and no hard link of one
    /// that can be written.
    OpenPlain(Vec<u8>),
    /// So much of a command's output was taken by whoever reads it, and as much more may come.
    OutputTaken {
        /// Of which stream.
        output: Output,
        /// Bytes.
        count: u32,
    },
    /// Send this signal to a command's process group.
    Signal(u8),
    /// The terminal of a command has another size now.
    Resize(Size),
    /// Begin to read a directory with all that is in it. The answer is what it is.
    Walk(Vec<u8>),
    /// The next nodes of the directory that is read.
    More,
    /// Begin a directory, to be filled with nodes.
    Plant {
        /// Where it will be; nothing or an empty directory may be there.
        path: Vec<u8>,
        /// Its permissions.
        mode: u32,
    },
    /// What is in the directory that was begun, in the order of a walk.
    Nodes(Vec<Node>),
}

/// A step of a walk through a directory: in each, names come in ascending order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A directory. What follows is in it, until it is left.
    Enter {
        /// Its name there.
        name: Vec<u8>,
        /// Its permissions.
        mode: u32,
    },
    /// Back to the directory around.
    Leave,
    /// A regular file. What is in it follows.
    File {
        /// Its name there.
        name: Vec<u8>,
        /// Its permissions.
        mode: u32,
        /// Its logical size.
        size: u64,
    },
    /// More of the file, at least a byte.
    Data(Vec<u8>),
    /// A symbolic link.
    Link {
        /// Its name there.
        name: Vec<u8>,
        /// What it says.
        target: Vec<u8>,
    },
    /// Something that is not carried.
    Omitted {
        /// Its name there.
        name: Vec<u8>,
        /// Why it is not.
        why: Omission,
    },
}

impl Node {
    /// How many bytes of names and content it has.
    pub fn weight(&self) -> usize {
        match self {
            Self::Enter { name, .. } | Self::File { name, .. } | Self::Omitted { name, .. } => {
                name.len()
            }
            Self::Leave => 0,
            Self::Data(bytes) => bytes.len(),
            Self::Link { name, target } => name.len() + target.len(),
        }
    }
}

/// Why something in a directory is not carried with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Omission {
    /// It is a pipe, a socket or a device.
    Special,
    /// It may not be read, or became something else meanwhile.
    Unreadable,
    /// It is a link that leads out of the directory, or might.
    LeadsOut,
}

/// What a guest says to its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The sandbox stands.
    Hello {
        /// What both speak.
        version: u32,
        /// The token of [`Setup`].
        token: [u8; 32],
        /// The version of the kernel's Landlock that commands are under, or 0.
        landlock: u32,
    },
    /// The sandbox can't be built.
    SetupFailed {
        /// At which step.
        step: String,
        /// The kernel's error number.
        errno: i32,
    },
    /// The answer to a ping.
    Pong,
    /// A command's standard output.
    Stdout(Vec<u8>),
    /// A command's standard error.
    Stderr(Vec<u8>),
    /// So many bytes of input were passed on, or dropped because nobody reads them.
    StdinTaken(u32),
    /// A command is over and everything it started is gone.
    Exit(Exit),
    /// A command could not be started.
    NotStarted {
        /// At which step.
        step: String,
        /// The kernel's error number.
        errno: i32,
    },
    /// The request was done.
    Done,
    /// A file was opened and has this size.
    Opened(u64),
    /// Bytes of a file; none at its end.
    Data(Vec<u8>),
    /// What is at a path, if anything.
    Stat(Option<Attributes>),
    /// What is in a directory.
    List {
        /// Names and what they are.
        entries: Vec<(Vec<u8>, Attributes)>,
        /// Whether there are more.
        more: bool,
    },
    /// The request could not be done.
    Refused(Refusal),
    /// A wall or a shelter that this host refused, and the sandbox does without. Said before
    /// [`Event::Hello`].
    Degraded(String),
    /// The next nodes of a directory; none at its end.
    Nodes(Vec<Node>),
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exit {
    /// Its code, if it exited.
    pub code: Option<i32>,
    /// The signal, if one ended it.
    pub signal: Option<i32>,
    /// Whether its time was up.
    pub timed_out: bool,
    /// From start to end.
    pub nanoseconds: u64,
    /// The most memory that one of its processes held, in bytes.
    pub peak_memory: u64,
}

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Type and permissions, as the kernel has them.
    pub mode: u32,
    /// Logical size.
    pub size: u64,
    /// Seconds since 1970.
    pub modified: i64,
}

/// Why a request about files was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The kernel's error number.
    Errno(i32),
    /// Not a regular file.
    NotRegular,
    /// More or less was sent than announced.
    WrongSize,
    /// Too many at once.
    TooMany,
    /// No such stream.
    NoSuchStream,
    /// More entries than are carried.
    TooManyNodes,
    /// Directories in more directories than are carried.
    TooDeep,
}

macro_rules! kinds {
    ($($name:ident = $value:literal)*) => { $(const $name: u8 = $value;)* };
}

kinds! {
    SETUP = 1 GO = 2 PING = 3 EXEC = 4 STDIN = 5 STDIN_END = 6 KILL = 7 OPEN = 8 READ = 9
    CREATE = 10 WRITE = 11 COMMIT = 12 CLOSE = 13 STAT = 14 LIST = 15 REMOVE = 16 SHUTDOWN = 17
    OPEN_PLAIN = 18 OUTPUT_TAKEN = 19 SIGNAL = 20 RESIZE = 21 WALK = 22 MORE = 23 PLANT = 24 NODES = 25
    HELLO = 64 SETUP_FAILED = 65 PONG = 66 STDOUT = 67 STDERR = 68 STDIN_TAKEN = 69 EXIT = 70
    NOT_STARTED = 71 DONE = 72 OPENED = 73 DATA = 74 STAT_IS = 75 LIST_IS = 76 REFUSED = 77
    DEGRADED = 78 NODES_ARE = 79
}

impl Request {
    /// Appends the message as a frame.
    pub fn encode(&self, stream: u32, out: &mut Vec<u8>) {
        frame(stream, out, |w| match self {
            Self::Setup(setup) => {
                w.u32(setup.versions.oldest).u32(setup.versions.newest).raw(&setup.token);
                w.list(&setup.groups, |w, path| {
                    w.bytes(path);
                });
                w.bytes(setup.hostname.as_bytes());
                w.u8(u8::from(setup.first_id.is_some())).u32(setup.first_id.unwrap_or(0));
                w.list(&setup.entries, |w, entry| entry.encode(w)).u64(setup.root_size);
                w.list(&setup.limits, |w, (number, value)| {
                    w.u32(*number).u64(*value);
                });
                w.list(&setup.processors, |w, number| {
                    w.u32(*number);
                });
                w.list(&setup.filters, |w, filter| {
                    w.bytes(filter);
                });
                SETUP
            }
            Self::Go => GO,
            Self::Ping => PING,
            Self::Exec(exec) => {
                w.list(&exec.arguments, |w, b| {
                    w.bytes(b);
                });
                w.list(&exec.environment, |w, b| {
                    w.bytes(b);
                });
                w.bytes(&exec.directory).u64(exec.timeout_ms).u64(exec.grace_ms);
                w.u64(exec.processor_seconds).u8(u8::from(exec.terminal.is_some()));
                if let Some(size) = &exec.terminal {
                    size.encode(w);
                }
                EXEC
            }
            Self::Stdin(bytes) => {
                w.raw(bytes);
                STDIN
            }
            Self::StdinEnd => STDIN_END,
            Self::Kill => KILL,
            Self::Open(path) => {
                w.raw(path);
                OPEN
            }
            Self::Read { offset, len } => {
                w.u64(*offset).u32(*len);
                READ
            }
            Self::Create { path, mode, size } => {
                w.bytes(path).u32(*mode).u64(*size);
                CREATE
            }
            Self::Write(bytes) => {
                w.raw(bytes);
                WRITE
            }
            Self::Commit => COMMIT,
            Self::Close => CLOSE,
            Self::Stat(path) => {
                w.raw(path);
                STAT
            }
            Self::List(path) => {
                w.raw(path);
                LIST
            }
            Self::Remove(path) => {
                w.raw(path);
                REMOVE
            }
            Self::Shutdown => SHUTDOWN,
            Self::OpenPlain(path) => {
                w.raw(path);
                OPEN_PLAIN
            }
            Self::OutputTaken { output, count } => {
                w.u8(match output {
                    Output::Stdout => 1,
                    Output::Stderr => 2,
                });
                w.u32(*count);
                OUTPUT_TAKEN
            }
            Self::Signal(number) => {
                w.u8(*number);
                SIGNAL
            }
            Self::Resize(size) => {
                size.encode(w);
                RESIZE
            }
            Self::Walk(path) => {
                w.raw(path);
                WALK
            }
            Self::More => MORE,
            Self::Plant { path, mode } => {
                w.bytes(path).u32(*mode);
                PLANT
            }
            Self::Nodes(nodes) => {
                w.list(nodes, |w, node| node.encode(w));
                NODES
            }
        });
    }

    /// The message in a frame, or `None` if it is of an unknown type that may be passed over.
    pub fn decode(frame: &Frame) -> Result<Option<Self>, ProtocolError> {
        decode(frame, |kind, r| {
            Some(match kind {
                SETUP => Self::Setup(Box::new(Setup {
                    versions: Versions { oldest: r.u32()?, newest: r.u32()? },
                    token: r.array()?,
                    groups: r.list(Reader::bytes)?,
                    hostname: r.string()?,
                    first_id: {
                        let some = r.flag()?;
                        let id = r.u32()?;
                        some.then_some(id)
                    },
                    entries: r.list(Entry::decode)?,
                    root_size: r.u64()?,
                    limits: r.list(|r| Some((r.u32()?, r.u64()?)))?,
                    processors: r.list(Reader::u32)?,
                    filters: r.list(Reader::bytes)?,
                })),
                GO => Self::Go,
                PING => Self::Ping,
                EXEC => Self::Exec(Exec {
                    arguments: r.list(Reader::bytes)?,
                    environment: r.list(Reader::bytes)?,
                    directory: r.bytes()?,
                    timeout_ms: r.u64()?,
                    grace_ms: r.u64()?,
                    processor_seconds: r.u64()?,
                    terminal: if r.flag()? { Some(Size::decode(r)?) } else { None },
                }),
                STDIN => Self::Stdin(r.rest()),
                STDIN_END => Self::StdinEnd,
                KILL => Self::Kill,
                OPEN => Self::Open(r.rest()),
                READ => Self::Read { offset: r.u64()?, len: r.u32()? },
                CREATE => Self::Create { path: r.bytes()?, mode: r.u32()?, size: r.u64()? },
                WRITE => Self::Write(r.rest()),
                COMMIT => Self::Commit,
                CLOSE => Self::Close,
                STAT => Self::Stat(r.rest()),
                LIST => Self::List(r.rest()),
                REMOVE => Self::Remove(r.rest()),
                SHUTDOWN => Self::Shutdown,
                OPEN_PLAIN => Self::OpenPlain(r.rest()),
                OUTPUT_TAKEN => Self::OutputTaken {
                    output: match r.u8()? {
                        1 => Output::Stdout,
                        2 => Output::Stderr,
                        _ => return None,
                    },
                    count: r.u32()?,
                },
                SIGNAL => Self::Signal(r.u8()?),
                RESIZE => Self::Resize(Size::decode(r)?),
                WALK => Self::Walk(r.rest()),
                MORE => Self::More,
                PLANT => Self::Plant { path: r.bytes()?, mode: r.u32()? },
                NODES => Self::Nodes(r.list(Node::decode)?),
                _ => return None,
            })
        })
    }
}

impl Event {
    /// Appends the message as a frame.
    pub fn encode(&self, stream: u32, out: &mut Vec<u8>) {
        frame(stream, out, |w| match self {
            Self::Hello { version, token, landlock } => {
                w.u32(*version).raw(token).u32(*landlock);
                HELLO
            }
            Self::SetupFailed { step, errno } => {
                w.bytes(step.as_bytes()).i32(*errno);
                SETUP_FAILED
            }
            Self::Pong => PONG,
            Self::Stdout(bytes) => {
                w.raw(bytes);
                STDOUT
            }
            Self::Stderr(bytes) => {
                w.raw(bytes);
                STDERR
            }
            Self::StdinTaken(count) => {
                w.u32(*count);
                STDIN_TAKEN
            }
            Self::Exit(exit) => {
                w.option(exit.code).option(exit.signal).u8(u8::from(exit.timed_out));
                w.u64(exit.nanoseconds).u64(exit.peak_memory);
                EXIT
            }
            Self::NotStarted { step, errno } => {
                w.bytes(step.as_bytes()).i32(*errno);
                NOT_STARTED
            }
            Self::Done => DONE,
            Self::Opened(size) => {
                w.u64(*size);
                OPENED
            }
            Self::Data(bytes) => {
                w.raw(bytes);
                DATA
            }
            Self::Stat(found) => {
                w.u8(u8::from(found.is_some()));
                if let Some(attributes) = found {
                    attributes.encode(w);
                }
                STAT_IS
            }
            Self::List { entries, more } => {
                w.list(entries, |w, (name, attributes)| {
                    w.bytes(name);
                    attributes.encode(w);
                });
                w.u8(u8::from(*more));
                LIST_IS
            }
            Self::Refused(refusal) => {
                let (code, errno) = match refusal {
                    Refusal::Errno(errno) => (0, *errno),
                    Refusal::NotRegular => (1, 0),
                    Refusal::WrongSize => (2, 0),
                    Refusal::TooMany => (3, 0),
                    Refusal::NoSuchStream => (4, 0),
                    Refusal::TooManyNodes => (5, 0),
                    Refusal::TooDeep => (6, 0),
                };
                w.u8(code).i32(errno);
                REFUSED
            }
            Self::Degraded(what) => {
                w.raw(what.as_bytes());
                DEGRADED
            }
            Self::Nodes(nodes) => {
                w.list(nodes, |w, node| node.encode(w));
                NODES_ARE
            }
        });
    }

    /// The message in a frame, or `None` if it is of an unknown type that may be passed over.
    pub fn decode(frame: &Frame) -> Result<Option<Self>, ProtocolError> {
        decode(frame, |kind, r| {
            Some(match kind {
                HELLO => Self::Hello { version: r.u32()?, token: r.array()?, landlock: r.u32()? },
                SETUP_FAILED => Self::SetupFailed { step: r.string()?, errno: r.i32()? },
                PONG => Self::Pong,
                STDOUT => Self::Stdout(r.rest()),
                STDERR => Self::Stderr(r.rest()),
                STDIN_TAKEN => Self::StdinTaken(r.u32()?),
                EXIT => Self::Exit(Exit {
                    code: r.option()?,
                    signal: r.option()?,
                    timed_out: r.flag()?,
                    nanoseconds: r.u64()?,
                    peak_memory: r.u64()?,
                }),
                NOT_STARTED => Self::NotStarted { step: r.string()?, errno: r.i32()? },
                DONE => Self::Done,
                OPENED => Self::Opened(r.u64()?),
                DATA => Self::Data(r.rest()),
                STAT_IS => Self::Stat(if r.flag()? { Some(Attributes::decode(r)?) } else { None }),
                LIST_IS => Self::List {
                    entries: r.list(|r| Some((r.bytes()?, Attributes::decode(r)?)))?,
                    more: r.flag()?,
                },
                REFUSED => {
                    let (code, errno) = (r.u8()?, r.i32()?);
                    Self::Refused(match code {
                        0 => Refusal::Errno(errno),
                        1 => Refusal::NotRegular,
                        2 => Refusal::WrongSize,
                        3 => Refusal::TooMany,
                        4 => Refusal::NoSuchStream,
                        5 => Refusal::TooManyNodes,
                        6 => Refusal::TooDeep,
                        _ => return None,
                    })
                }
                DEGRADED => Self::Degraded(String::from_utf8(r.rest()).ok()?),
                NODES_ARE => Self::Nodes(r.list(Node::decode)?),
                _ => return None,
            })
        })
    }
}

impl Entry {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::Directory(path) => {
                w.u8(0).bytes(path.as_bytes());
            }
            Self::Link { path, target } => {
                w.u8(1).bytes(path.as_bytes()).bytes(target);
            }
            Self::File { path, content } => {
                w.u8(2).bytes(path.as_bytes()).bytes(content);
            }
            Self::Bind { source, path, read_only, device } => {
                w.u8(3).bytes(source).bytes(path.as_bytes());
                w.u8(u8::from(*read_only)).u8(u8::from(*device));
            }
            Self::Memory { path, size, files, mode, executable } => {
                w.u8(4).bytes(path.as_bytes()).u64(*size).u64(*files).u32(*mode);
                w.u8(u8::from(*executable));
            }
            Self::Processes => {
                w.u8(5);
            }
            Self::Own { except } => {
                w.u8(6).list(except, |w, name| {
                    w.bytes(name.as_bytes());
                });
            }
            Self::Terminals => {
                w.u8(7);
            }
        }
    }

    fn decode(r: &mut Reader<'_>) -> Option<Self> {
        Some(match r.u8()? {
            0 => Self::Directory(r.string()?),
            1 => Self::Link { path: r.string()?, target: r.bytes()? },
            2 => Self::File { path: r.string()?, content: r.bytes()? },
            3 => Self::Bind {
                source: r.bytes()?,
                path: r.string()?,
                read_only: r.flag()?,
                device: r.flag()?,
            },
            4 => Self::Memory {
                path: r.string()?,
                size: r.u64()?,
                files: r.u64()?,
                mode: r.u32()?,
                executable: r.flag()?,
            },
            5 => Self::Processes,
            6 => Self::Own { except: r.list(Reader::string)? },
            7 => Self::Terminals,
            _ => return None,
        })
    }
}

impl Node {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::Enter { name, mode } => {
                w.u8(0).bytes(name).u32(*mode);
            }
            Self::Leave => {
                w.u8(1);
            }
            Self::File { name, mode, size } => {
                w.u8(2).bytes(name).u32(*mode).u64(*size);
            }
            Self::Data(bytes) => {
                w.u8(3).bytes(bytes);
            }
            Self::Link { name, target } => {
                w.u8(4).bytes(name).bytes(target);
            }
            Self::Omitted { name, why } => {
                w.u8(5).bytes(name).u8(match why {
                    Omission::Special => 0,
                    Omission::Unreadable => 1,
                    Omission::LeadsOut => 2,
                });
            }
        }
    }

    fn decode(r: &mut Reader<'_>) -> Option<Self> {
        Some(match r.u8()? {
            0 => Self::Enter { name: r.bytes()?, mode: r.u32()? },
            1 => Self::Leave,
            2 => Self::File { name: r.bytes()?, mode: r.u32()?, size: r.u64()? },
            3 => Self::Data(r.bytes()?),
            4 => Self::Link { name: r.bytes()?, target: r.bytes()? },
            5 => Self::Omitted {
                name: r.bytes()?,
                why: match r.u8()? {
                    0 => Omission::Special,
                    1 => Omission::Unreadable,
                    2 => Omission::LeadsOut,
                    _ => return None,
                },
            },
            _ => return None,
        })
    }
}

impl Size {
    fn encode(self, w: &mut Writer<'_>) {
        w.raw(&self.rows.to_be_bytes()).raw(&self.columns.to_be_bytes());
    }

    fn decode(r: &mut Reader<'_>) -> Option<Self> {
        let mut number = || r.array().map(u16::from_be_bytes);
        Some(Self { rows: number()?, columns: number()? })
    }
}

impl Attributes {
    fn encode(&self, w: &mut Writer<'_>) {
        w.u32(self.mode).u64(self.size).u64(self.modified.cast_unsigned());
    }

    fn decode(r: &mut Reader<'_>) -> Option<Self> {
        Some(Self { mode: r.u32()?, size: r.u64()?, modified: r.u64()?.cast_signed() })
    }
}

fn frame(stream: u32, out: &mut Vec<u8>, payload: impl FnOnce(&mut Writer<'_>) -> u8) {
    let start = out.len();
    out.extend_from_slice(&[0; 4 + HEADER]);
    let kind = payload(&mut Writer(out));
    let len = u32::try_from(out.len() - start - 4).expect("messages are far below 4 GiB");
    let header = &mut out[start..start + 4 + HEADER];
    header[..4].copy_from_slice(&len.to_be_bytes());
    header[4] = kind;
    header[5] = MUST_UNDERSTAND;
    header[6..].copy_from_slice(&stream.to_be_bytes());
}

fn decode<T>(
    frame: &Frame,
    message: impl FnOnce(u8, &mut Reader<'_>) -> Option<T>,
) -> Result<Option<T>, ProtocolError> {
    let kind = frame.kind;
    if !(SETUP..=NODES).contains(&kind) && !(HELLO..=NODES_ARE).contains(&kind) {
        return if frame.flags & MUST_UNDERSTAND == 0 {
            Ok(None)
        } else {
            Err(ProtocolError::UnknownType(kind))
        };
    }
    let mut reader = Reader(&frame.payload);
    match message(kind, &mut reader) {
        Some(message) if reader.0.is_empty() => Ok(Some(message)),
        Some(_) | None => Err(ProtocolError::Malformed { kind }),
    }
}

struct Writer<'a>(&'a mut Vec<u8>);

impl Writer<'_> {
    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u8(&mut self, value: u8) -> &mut Self {
        self.raw(&[value])
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    fn i32(&mut self, value: i32) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.u32(u32::try_from(bytes.len()).expect("messages are far below 4 GiB")).raw(bytes)
    }

    fn option(&mut self, value: Option<i32>) -> &mut Self {
        self.u8(u8::from(value.is_some())).i32(value.unwrap_or(0))
    }

    fn list<T>(&mut self, items: &[T], mut item: impl FnMut(&mut Writer<'_>, &T)) -> &mut Self {
        self.u32(u32::try_from(items.len()).expect("messages are far below 4 GiB"));
        for one in items {
            item(&mut Writer(self.0), one);
        }
        self
    }
}

/// Reads a payload; `None` where it does not hold what it should.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn bytes(&mut self) -> Option<Vec<u8>> {
        let len = usize::try_from(self.u32()?).ok()?;
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head.to_vec())
    }

    fn string(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?).ok()
    }

    fn option(&mut self) -> Option<Option<i32>> {
        let (some, value) = (self.flag()?, self.i32()?);
        Some(some.then_some(value))
    }

    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        // Grows as items arrive: an announced length alone reserves nothing.
        (0..self.u32()?).map(|_| item(self)).collect()
    }

    fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0).to_vec()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The one frame in these bytes, as a message.
    fn read<T>(bytes: &[u8], message: fn(&Frame) -> Result<Option<T>, ProtocolError>) -> (u32, T) {
        let mut decoder = Decoder::default();
        decoder.push(bytes);
        let frame = decoder.next_frame().unwrap().unwrap();
        assert_eq!(decoder.next_frame(), Ok(None));
        (frame.stream, message(&frame).unwrap().unwrap())
    }

    /// Each message of the protocol once.
    fn messages() -> (Vec<Request>, Vec<Event>) {
        let (path, text) = (|| b"a/b".to_vec(), || "a".to_owned());
        let setup = Setup {
            versions: Versions { oldest: 2, newest: 3 },
            token: [9; 32],
            groups: vec![b"/g".to_vec()],
            hostname: "sandbox".to_owned(),
            first_id: Some(5),
            entries: vec![
                Entry::Directory(text()),
                Entry::Link { path: text(), target: vec![0xff] },
                Entry::File { path: text(), content: vec![1, 2] },
                Entry::Bind { source: vec![3], path: text(), read_only: true, device: false },
                Entry::Memory { path: text(), size: 1, files: 2, mode: 3, executable: true },
                Entry::Processes,
                Entry::Own { except: vec!["proc".to_owned(), "sys".to_owned()] },
                Entry::Terminals,
            ],
            root_size: 7,
            limits: vec![(1, 2)],
            processors: vec![0, 3],
            filters: vec![vec![1; 8], vec![]],
        };
        let exec = Exec {
            arguments: vec![b"ls".to_vec()],
            environment: vec![b"A=b".to_vec()],
            directory: b"/".to_vec(),
            timeout_ms: 1000,
            grace_ms: 5,
            processor_seconds: 0,
            terminal: None,
        };
        let size = Size { rows: 24, columns: 80 };
        let attributes = Attributes { mode: 0o100_644, size: 3, modified: -1 };
        let requests = vec![
            Request::Setup(Box::new(setup)),
            Request::Go,
            Request::Ping,
            Request::Exec(exec.clone()),
            Request::Exec(Exec { processor_seconds: 9, terminal: Some(size), ..exec }),
            Request::Stdin(b"hi".to_vec()),
            Request::StdinEnd,
            Request::Kill,
            Request::Open(path()),
            Request::Read { offset: 1, len: 2 },
            Request::Create { path: path(), mode: 0o644, size: 9 },
            Request::Write(b"hi".to_vec()),
            Request::Commit,
            Request::Close,
            Request::Stat(path()),
            Request::List(path()),
            Request::Remove(path()),
            Request::Shutdown,
            Request::OpenPlain(path()),
            Request::OutputTaken { output: Output::Stdout, count: 7 },
            Request::OutputTaken { output: Output::Stderr, count: 7 },
            Request::Signal(15),
            Request::Resize(size),
        ];
        let exit =
            Exit { code: Some(3), signal: None, timed_out: true, nanoseconds: 1, peak_memory: 2 };
        let events = vec![
            Event::Hello { version: 2, token: [9; 32], landlock: 7 },
            Event::SetupFailed { step: text(), errno: 1 },
            Event::Pong,
            Event::Stdout(b"hi".to_vec()),
            Event::Stderr(b"hi".to_vec()),
            Event::StdinTaken(7),
            Event::Exit(exit),
            Event::NotStarted { step: text(), errno: 2 },
            Event::Done,
            Event::Opened(9),
            Event::Data(b"hi".to_vec()),
            Event::Stat(None),
            Event::Stat(Some(attributes)),
            Event::List { entries: vec![(b"x".to_vec(), attributes)], more: true },
            Event::Refused(Refusal::Errno(2)),
            Event::Refused(Refusal::NotRegular),
            Event::Refused(Refusal::WrongSize),
            Event::Refused(Refusal::TooMany),
            Event::Refused(Refusal::NoSuchStream),
            Event::Degraded("so".to_owned()),
        ];
        (requests, events)
    }

    /// What version 3 has added.
    fn messages_of_version_3() -> (Vec<Request>, Vec<Event>) {
        let name = || b"a".to_vec();
        let nodes = || {
            let omitted = |why| Node::Omitted { name: name(), why };
            vec![
                Node::Enter { name: name(), mode: 0o755 },
                Node::File { name: name(), mode: 0o644, size: 2 },
                Node::Data(b"hi".to_vec()),
                Node::Link { name: name(), target: b"../b".to_vec() },
                Node::Leave,
                omitted(Omission::Special),
                omitted(Omission::Unreadable),
                omitted(Omission::LeadsOut),
            ]
        };
        let requests = vec![
            Request::Walk(name()),
            Request::More,
            Request::Plant { path: name(), mode: 0o755 },
            Request::Nodes(nodes()),
        ];
        let events = vec![
            Event::Nodes(nodes()),
            Event::Nodes(Vec::new()),
            Event::Refused(Refusal::TooManyNodes),
            Event::Refused(Refusal::TooDeep),
        ];
        (requests, events)
    }

    #[test]
    fn frames_of_a_version_never_change() {
        check_frames("version-2.txt", messages());
        check_frames("version-3.txt", messages_of_version_3());
    }

    #[track_caller]
    fn check_frames(file: &str, (requests, events): (Vec<Request>, Vec<Event>)) {
        let path = format!("{}/test_data/frames/{file}", env!("CARGO_MANIFEST_DIR"));
        let mut text = String::new();
        let mut add = |name: String, bytes: &[u8]| {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let name = name.split([' ', '(', '{']).next().unwrap_or_default();
            text += &format!("{name} {hex}\n");
        };
        for request in requests {
            let mut bytes = Vec::new();
            request.encode(7, &mut bytes);
            assert_eq!(read(&bytes, Request::decode), (7, request.clone()));
            add(format!("{request:?}"), &bytes);
        }
        for event in events {
            let mut bytes = Vec::new();
            event.encode(7, &mut bytes);
            assert_eq!(read(&bytes, Event::decode), (7, event.clone()));
            add(format!("{event:?}"), &bytes);
        }
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(&path).unwrap());
    }

    #[test]
    fn the_newest_version_that_both_speak_is_spoken() {
        let check = |ours: (u32, u32), theirs: (u32, u32), want| {
            let versions = |(oldest, newest)| Versions { oldest, newest };
            assert_eq!(agree(versions(ours), versions(theirs)), want, "{ours:?} {theirs:?}");
            assert_eq!(agree(versions(theirs), versions(ours)), want, "{theirs:?} {ours:?}");
        };
        check((2, 2), (2, 2), Some(2));
        check((2, 5), (1, 3), Some(3));
        check((2, 5), (3, 4), Some(4));
        check((1, 1), (2, 5), None);
        check((5, 2), (1, 9), None);
    }

    /// What becomes of a frame with this length, type, flags and payload.
    #[track_caller]
    fn check(len: u32, kind: u8, flags: u8, payload: &[u8], want: &str) {
        let mut bytes = len.to_be_bytes().to_vec();
        bytes.extend([kind, flags, 0, 0, 0, 1]);
        bytes.extend(payload);
        let mut decoder = Decoder::default();
        decoder.push(&bytes);
        let got = match decoder.next_frame() {
            Err(error) => error.to_string(),
            Ok(None) => "incomplete".to_owned(),
            Ok(Some(frame)) => match Event::decode(&frame) {
                Err(error) => error.to_string(),
                Ok(None) => "passed over".to_owned(),
                Ok(Some(event)) => format!("{event:?}"),
            },
        };
        assert_eq!(got, want);
    }

    #[test]
    fn foreign_frames_are_refused_with_what_is_wrong() {
        check(0, 66, 1, b"", "a frame of 0 bytes is shorter than its header");
        check(5, 66, 1, b"", "a frame of 5 bytes is shorter than its header");
        check(u32::MAX, 66, 1, b"", "a frame of 4294967295 bytes is longer than 1048576");
        check(1 << 20, 66, 1, b"", "incomplete");
        let mut decoder = Decoder::before_hello();
        decoder.push(&4097_u32.to_be_bytes());
        let want = "a frame of 4097 bytes is longer than 4096";
        assert_eq!(decoder.next_frame().unwrap_err().to_string(), want);
        decoder.greeted();
        assert_eq!(decoder.next_frame(), Ok(None));
        check(6, 66, 1, b"", "Pong");
        check(7, 66, 1, b"x", "a malformed frame of type 66");
        check(6, 200, 1, b"", "a frame of the unknown type 200");
        check(6, 200, 0, b"", "passed over");
        check(6, 3, 1, b"", "a malformed frame of type 3"); // A request is no event.
        check(8, 70, 1, b"xy", "a malformed frame of type 70");
        // A list that announces more than there is.
        check(10, 76, 1, &[0xff; 4], "a malformed frame of type 76");
        check(11, 77, 1, &[9, 0, 0, 0, 0], "a malformed frame of type 77");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            while let Ok(Some(frame)) = decoder.next_frame() {
                let _either = (Event::decode(&frame), Request::decode(&frame));
            }
        }

        #[test]
        fn no_payload_makes_it_panic(
            kind in any::<u8>(),
            payload in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let frame = Frame { kind, flags: 1, stream: 1, payload };
            // What can be read is written as it was.
            if let Ok(Some(event)) = Event::decode(&frame) {
                let mut bytes = Vec::new();
                event.encode(1, &mut bytes);
                prop_assert_eq!(read(&bytes, Event::decode), (1, event));
            }
            if let Ok(Some(request)) = Request::decode(&frame) {
                let mut bytes = Vec::new();
                request.encode(1, &mut bytes);
                prop_assert_eq!(read(&bytes, Request::decode), (1, request));
            }
        }

        #[test]
        fn pieces_make_the_same_frames(
            outputs in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..20),
            size in 1_usize..64,
        ) {
            let mut bytes = Vec::new();
            for output in &outputs {
                Event::Stdout(output.clone()).encode(3, &mut bytes);
            }
            let mut decoder = Decoder::default();
            let mut got = Vec::new();
            for piece in bytes.chunks(size) {
                decoder.push(piece);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    match Event::decode(&frame).unwrap().unwrap() {
                        Event::Stdout(output) => got.push(output),
                        other => panic!("{other:?}"),
                    }
                }
            }
            prop_assert_eq!(got, outputs);
        }
    }
}
