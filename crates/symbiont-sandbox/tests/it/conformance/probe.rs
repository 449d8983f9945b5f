//! A program that tries what it must not be able to do. It is built by the tests, and runs in a
//! sandbox only: elsewhere it would do the damage.
//!
//! `probe TOKEN VERB ARGUMENT...`; the token is that of `/workspace/.probe`.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

unsafe extern "C" {
    fn syscall(number: i64, ...) -> i64;
    fn fork() -> i32;
    fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
    fn setsid() -> i32;
    fn kill(pid: i32, signal: i32) -> i32;
    fn flock(fd: i32, operation: i32) -> i32;
    fn fcntl(fd: i32, command: i32, ...) -> i32;
    fn ioctl(fd: i32, request: u64, ...) -> i32;
    fn getuid() -> u32;
    fn geteuid() -> u32;
    fn getgid() -> u32;
    fn gethostname(name: *mut u8, length: usize) -> i32;
    fn socket(family: i32, kind: i32, protocol: i32) -> i32;
    fn socketpair(family: i32, kind: i32, protocol: i32, pair: *mut [i32; 2]) -> i32;
    fn setsockopt(fd: i32, level: i32, name: i32, value: *const [u8; 256], length: u32) -> i32;
    fn mmap(at: usize, length: usize, protection: i32, flags: i32, fd: i32, offset: i64) -> isize;
    fn shmget(key: i32, size: usize, flags: i32) -> i32;
    fn shmat(id: i32, at: usize, flags: i32) -> *mut u8;
    fn msgget(key: i32, flags: i32) -> i32;
    fn semget(key: i32, count: i32, flags: i32) -> i32;
    fn statfs(path: *const std::ffi::c_char, told: *mut [u64; 16]) -> i32;
    fn inotify_init1(flags: i32) -> i32;
    fn sigprocmask(how: i32, set: *const [u64; 16], old: *mut [u64; 16]) -> i32;
    fn signal(number: i32, handler: usize) -> usize;
    fn _exit(code: i32) -> !;
}

const LOCK: i32 = 2 | 4; // LOCK_EX | LOCK_NB
const SIGSTOP: i32 = 19;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [token, verb, rest @ ..] = words.as_slice() else { refuse() };
    if !is_sandbox(token) {
        refuse();
    }
    let number = |at: usize| -> u64 { rest[at].parse().unwrap() };
    match *verb {
        "calls" => calls(rest),
        "interfaces" => interfaces(),
        "hold" => hold(rest[0]),
        "daemon" => daemon(rest[0]),
        "stubborn" => {
            // SAFETY: the sets are longer than the C library's.
            unsafe { sigprocmask(0, &[u64::MAX; 16], std::ptr::null_mut()) };
            hold(rest[0]);
        }
        "stopped" => stopped(rest[0]),
        "background" => background(rest[0]),
        "free" => println!("{}", if take(rest[0]).is_some() { "free" } else { "held" }),
        "bomb" => bomb(Duration::from_secs(number(0))),
        "flood" => flood(number(0), number(1)),
        "alternate" => alternate(number(0)),
        "bytes" => io::stdout().write_all(&noise(number(0) as usize)).unwrap(),
        "eat" => eat(number(0)),
        "fill" => fill(rest[0]),
        "descriptors" => descriptors(number(0)),
        "spin" => spin(number(0), Duration::from_millis(number(1))),
        "write" => {
            each(rest, |path| fs::OpenOptions::new().write(true).open(path)?.write_all(b"1"))
        }
        "read" => each(rest, |path| File::open(path)?.read_exact(&mut [0; 1])),
        "enter" => each(rest, |path| std::env::set_current_dir(path)),
        "there" => each(rest, |path| fs::symlink_metadata(path).map(drop)),
        "who" => who(),
        "environment" => environment(),
        "open" => open(),
        "signals" => signals(),
        "type" => each(&["/dev/tty"], |path| {
            let terminal = File::open(path)?;
            // SAFETY: the request reads one byte.
            result(unsafe { ioctl(terminal.as_raw_fd(), 0x5412, c"x".as_ptr()) }.into())
        }),
        "meet" => {
            let met =
                SocketAddr::from_abstract_name(rest[0]).and_then(|a| UnixStream::connect_addr(&a));
            println!("{}", told(met.map(drop)));
        }
        "bind" => drop(UnixListener::bind(rest[0]).unwrap()),
        "listen" => {
            let name = SocketAddr::from_abstract_name(rest[0]).unwrap();
            let listener = UnixListener::bind_addr(&name).unwrap();
            println!("ready");
            let _met = listener.accept();
        }
        "kill" => {
            for pid in rest {
                // SAFETY: the call touches no memory.
                let killed = result(unsafe { kill(pid.parse().unwrap(), 9) }.into());
                println!("{pid} {}", told(killed));
            }
        }
        "network" => network(),
        "families" => families(),
        "shared" => shared(),
        "leave" => leave(),
        "hoard" => hoard(),
        "watches" => watches(),
        "queue" => queue(),
        "replace" => replace(rest[0]),
        "names" => names(),
        "used" => println!("{}", used(rest[0])),
        "processes" => processes(),
        "listeners" => listeners(),
        "swap" => swap(rest[0]),
        "zombies" => zombies(number(0)),
        "deep" => deep(number(0)),
        "many" => {
            for n in 0..number(0) {
                File::create(format!("{}/{n}", rest[1])).unwrap();
            }
        }
        _ => refuse(),
    }
}

fn refuse() -> ! {
    eprintln!("this is no sandbox, or nothing to do");
    std::process::exit(99);
}

fn is_sandbox(token: &str) -> bool {
    let mut name = [0; 8];
    // SAFETY: the array has the length that is passed.
    let named = unsafe { gethostname(name.as_mut_ptr(), name.len()) } == 0 && &name == b"sandbox\0";
    let marked = fs::read_to_string("/workspace/.probe").is_ok_and(|there| there == token);
    // SAFETY: the call touches no memory.
    let ours = unsafe { getuid() } == 1000;
    named && marked && ours && token.len() >= 16
}

fn result(value: i64) -> io::Result<()> {
    if value < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `ok`, or the name of what went wrong.
fn told(result: io::Result<()>) -> String {
    let Err(error) = result else { return "ok".to_owned() };
    let name = match error.raw_os_error() {
        Some(1) => "EPERM",
        Some(2) => "ENOENT",
        Some(3) => "ESRCH",
        Some(5) => "EIO",
        Some(6) => "ENXIO",
        Some(11) => "EAGAIN",
        Some(12) => "ENOMEM",
        Some(13) => "EACCES",
        Some(14) => "EFAULT",
        Some(16) => "EBUSY",
        Some(17) => "EEXIST",
        Some(18) => "EXDEV",
        Some(20) => "ENOTDIR",
        Some(21) => "EISDIR",
        Some(22) => "EINVAL",
        Some(24) => "EMFILE",
        Some(25) => "ENOTTY",
        Some(26) => "ETXTBSY",
        Some(28) => "ENOSPC",
        Some(30) => "EROFS",
        Some(38) => "ENOSYS",
        Some(92) => "ENOPROTOOPT",
        Some(93) => "EPROTONOSUPPORT",
        Some(95) => "EOPNOTSUPP",
        Some(97) => "EAFNOSUPPORT",
        Some(99) => "EADDRNOTAVAIL",
        Some(101) => "ENETUNREACH",
        Some(111) => "ECONNREFUSED",
        Some(113) => "EHOSTUNREACH",
        _ => return format!("{error}"),
    };
    name.to_owned()
}

/// Tries something with each, and says what came of it.
fn each(names: &[&str], attempt: impl Fn(&str) -> io::Result<()>) {
    for name in names {
        println!("{name} {}", told(attempt(name)));
    }
}

/// The numbers of system calls: here, and on the other architecture.
#[rustfmt::skip]
const CALLS: &[(&str, i64, i64)] = &[
    ("acct", 163, 89), ("add_key", 248, 217), ("adjtimex", 159, 171), ("bpf", 321, 280),
    ("chroot", 161, 51), ("clock_settime", 227, 112), ("clone3", 435, 435), ("clone_newuser", 56, 220),
    ("delete_module", 176, 106), ("fanotify_init", 300, 262), ("finit_module", 313, 273),
    ("fsopen", 430, 430), ("init_module", 175, 105), ("io_uring_setup", 425, 425),
    ("kcmp", 312, 272), ("kexec_load", 246, 104), ("keyctl", 250, 219), ("memfd_secret", 447, 447),
    ("mknod", 259, 33), ("mount", 165, 40), ("mount_setattr", 442, 442), ("move_mount", 429, 429),
    ("name_to_handle_at", 303, 264), ("open_by_handle_at", 304, 265), ("open_tree", 428, 428),
    ("perf_event_open", 298, 241), ("personality", 135, 92), ("pidfd_getfd", 438, 438),
    ("pivot_root", 155, 41), ("process_vm_readv", 310, 270), ("process_vm_writev", 311, 271),
    ("ptrace", 101, 117), ("quotactl", 179, 60), ("reboot", 169, 142), ("request_key", 249, 218),
    ("setdomainname", 171, 162), ("sethostname", 170, 161), ("setns", 308, 268),
    ("settimeofday", 164, 170), ("setuid", 105, 146), ("swapon", 167, 224), ("syslog", 103, 116),
    ("umount2", 166, 39), ("unshare", 272, 97), ("userfaultfd", 323, 282),
    ("unknown", 9999, 9999),
];

fn calls(names: &[&str]) {
    for name in names {
        let (_, here, there) = CALLS.iter().find(|(known, ..)| known == name).unwrap();
        let number = if cfg!(target_arch = "x86_64") { *here } else { *there };
        let (none, tmp, tmpfs) = (c"none".as_ptr(), c"/tmp".as_ptr(), c"tmpfs".as_ptr());
        // SAFETY: what is pointed at are constants; in a sandbox a call that is let through does what
        // it is to show.
        let value = unsafe {
            match *name {
                "mount" => syscall(number, none, tmp, tmpfs, 0, 0),
                "umount2" => syscall(number, tmp, 2),
                "pivot_root" => syscall(number, tmp, tmp),
                "chroot" => syscall(number, tmp),
                "unshare" => syscall(number, 0x1000_0000_i64),
                "setns" => {
                    let own = File::open("/proc/self/ns/mnt").map_or(0, IntoRawFd::into_raw_fd);
                    syscall(number, own, 0)
                }
                "clone_newuser" => syscall(number, 0x1000_0011_i64, 0, 0, 0, 0),
                "ptrace" => syscall(number, 16, 1, 0, 0), // PTRACE_ATTACH
                "process_vm_readv" | "process_vm_writev" => syscall(number, 1, 0, 0, 0, 0, 0),
                "io_uring_setup" => syscall(number, 1, [0_u64; 15].as_ptr()),
                "personality" => syscall(number, 0x0040_0000), // READ_IMPLIES_EXEC
                "mknod" => syscall(number, -100, c"/workspace/device".as_ptr(), 0o60666, 0x0800),
                "sethostname" | "setdomainname" => syscall(number, none, 4),
                "setuid" => syscall(number, 0),
                "kexec_load" | "reboot" | "swapon" => syscall(number, 0, 0, 0, 0),
                _ => syscall(number, 0, 0, 0, 0, 0, 0),
            }
        };
        if *name == "clone_newuser" && value == 0 {
            // SAFETY: the child ends at once.
            unsafe { _exit(0) };
        }
        println!("{name} {}", told(result(value)));
    }
}

/// Calls by other interfaces of the kernel than its own.
fn interfaces() {
    // Of the i386 interface `getpid` is 20, of the x32 one 39.
    #[cfg(target_arch = "x86_64")]
    for (name, foreign) in [("i386", true), ("x32", false)] {
        // SAFETY: the child does one thing and ends.
        let child = unsafe { fork() };
        if child == 0 {
            let value: i64 = if foreign {
                let value: i64;
                // SAFETY: the call has no arguments; it changes nothing but these registers.
                unsafe {
                    std::arch::asm!("int 0x80", inlateout("rax") 20_i64 => value,
                        out("r8") _, out("r9") _, out("r10") _, out("r11") _);
                }
                value
            } else {
                // SAFETY: the call has no arguments.
                unsafe { syscall(0x4000_0000 + 39) }
            };
            // SAFETY: it does not return.
            unsafe { _exit(if value >= 0 { 1 } else { 2 }) };
        }
        println!("{name} {}", end_of(child));
    }
}

fn end_of(child: i32) -> String {
    let mut status = 0;
    // SAFETY: the status lives until the call returns.
    unsafe { waitpid(child, &raw mut status, 0) };
    match (status & 0x7f, status >> 8 & 0xff) {
        (0, 1) => "answered".to_owned(),
        (0, 2) => "refused".to_owned(),
        (0, code) => format!("exit {code}"),
        (signal, _) => format!("signal {signal}"),
    }
}

/// Takes a lock, which whoever has it holds until the last process with it has gone.
fn take(name: &str) -> Option<File> {
    let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(name).unwrap();
    // SAFETY: the call touches no memory.
    (unsafe { flock(file.as_raw_fd(), LOCK) } == 0).then_some(file)
}

fn hold(name: &str) -> ! {
    let _held = take(name).unwrap();
    println!("held");
    loop {
        sleep(Duration::from_secs(600));
    }
}

/// Waits until somebody else has a lock.
fn await_lock(name: &str) {
    while take(name).is_some() {
        sleep(Duration::from_millis(5));
    }
}

/// Two forks, a session of its own, nothing open.
fn daemon(name: &str) -> ! {
    // SAFETY: there is one thread, and the children only hold the lock.
    unsafe {
        if fork() == 0 {
            setsid();
            if fork() == 0 {
                for fd in 0..64 {
                    syscall(if cfg!(target_arch = "x86_64") { 3 } else { 57 }, fd); // close
                }
                let _held = take(name);
                loop {
                    sleep(Duration::from_secs(600));
                }
            }
            _exit(0);
        }
    }
    await_lock(name);
    println!("held");
    loop {
        sleep(Duration::from_secs(600));
    }
}

fn stopped(name: &str) -> ! {
    // SAFETY: as above.
    unsafe {
        if fork() == 0 {
            let _held = take(name);
            loop {
                kill(std::process::id().cast_signed(), SIGSTOP);
            }
        }
        await_lock(name);
        loop {
            kill(std::process::id().cast_signed(), SIGSTOP);
        }
    }
}

fn background(name: &str) {
    // SAFETY: as above.
    unsafe {
        if fork() == 0 {
            let _held = take(name);
            loop {
                sleep(Duration::from_secs(600));
            }
        }
    }
    await_lock(name);
    println!("gone");
}

/// Each forks as fast as it can, and so do its children.
fn bomb(time: Duration) {
    let until = Instant::now() + time;
    let mut refusals = 0_u64;
    while Instant::now() < until {
        // SAFETY: all go on with the same loop.
        if unsafe { fork() } < 0 {
            if refusals == 0 {
                println!("fork {}", told(Err(io::Error::last_os_error())));
            }
            refusals += 1;
            sleep(Duration::from_millis(1));
        }
    }
    // SAFETY: it does not return.
    unsafe { _exit(0) };
}

fn flood(count: u64, code: u64) -> ! {
    let chunk = vec![0; 1 << 16];
    let mut out = io::stdout().lock();
    out.write_all(b"first").unwrap();
    let mut left = count;
    while left > 0 {
        let now = left.min(chunk.len() as u64);
        out.write_all(&chunk[..usize::try_from(now).unwrap()]).unwrap();
        left -= now;
    }
    out.write_all(b"last").unwrap();
    out.flush().unwrap();
    std::process::exit(i32::try_from(code).unwrap());
}

fn alternate(count: u64) {
    for n in 0..count {
        let byte = [b'a' + u8::try_from(n % 26).unwrap()];
        for fd in [1, 2] {
            // SAFETY: one byte is there.
            let written = unsafe {
                syscall(
                    if cfg!(target_arch = "x86_64") { 1 } else { 64 },
                    fd,
                    byte.as_ptr(),
                    1_usize,
                )
            };
            assert_eq!(written, 1);
        }
    }
}

fn eat(mib: u64) {
    let mut all = Vec::new();
    for _ in 0..mib {
        let mut block = vec![0_u8; 1 << 20];
        block.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        all.push(std::hint::black_box(block));
    }
    println!("ate {}", all.len());
}

fn fill(path: &str) {
    let mut file = File::create(path).unwrap();
    let chunk = vec![1; 1 << 20];
    let error = loop {
        if let Err(error) = file.write_all(&chunk) {
            break error;
        }
    };
    println!("{}", told(Err(error)));
}

fn descriptors(count: u64) {
    let mut all = Vec::new();
    let opened = (0..count).try_for_each(|_| File::open("/").map(|file| all.push(file)));
    println!("{}", told(opened));
}

fn spin(threads: u64, time: Duration) {
    let until = Instant::now() + time;
    let spinning = || while Instant::now() < until {};
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(spinning))));
}

fn who() {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name));
        value.map_or("unknown", str::trim).to_owned()
    };
    let none = ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:"]
        .iter()
        .all(|name| u64::from_str_radix(&line(name), 16) == Ok(0));
    // SAFETY: the calls touch no memory.
    let (user, effective, group) = unsafe { (getuid(), geteuid(), getgid()) };
    // SAFETY: PR_GET_NO_NEW_PRIVS takes nothing.
    let sealed =
        unsafe { syscall(if cfg!(target_arch = "x86_64") { 157 } else { 167 }, 39, 0, 0, 0, 0) };
    let capabilities = if none { "no capability" } else { "capabilities" };
    println!("{user} {effective} {group}, {capabilities}, no new privileges {sealed}");
}

fn environment() {
    let mut names: Vec<_> = std::env::vars_os().map(|(name, _)| name).collect();
    names.sort();
    let line: Vec<_> = names.iter().map(|name| name.to_string_lossy()).collect();
    println!("{}", line.join(" "));
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        if let Ok(bytes) = fs::read(entry.path().join("environ"))
            && bytes.windows(6).any(|part| part == b"CARGO_")
        {
            println!("the host's in {}", entry.path().display());
        }
    }
}

/// The descriptors that this process was started with.
fn open() {
    // SAFETY: F_GETFD takes nothing.
    let open = (0..4096).filter(|fd| unsafe { fcntl(*fd, 1) } >= 0);
    println!("{}", open.map(|fd| fd.to_string()).collect::<Vec<_>>().join(" "));
}

/// Whether signals are as a new program expects them. The runtime of this program ignores SIGPIPE.
fn signals() {
    let mut old = [0; 16];
    // SAFETY: the sets are longer than the C library's.
    unsafe { sigprocmask(0, std::ptr::null(), &raw mut old) };
    // SAFETY: nothing is to be handled.
    let changed =
        (1..32).filter(|n| ![9, 13, 19].contains(n)).filter(|n| unsafe { signal(*n, 0) } != 0);
    let changed: Vec<i32> = changed.filter(|n| *n != 11 && *n != 7).collect();
    println!("blocked {:x}, changed {changed:?}", old[0]);
}

fn network() {
    use std::net::{SocketAddr, TcpStream, UdpSocket};
    let began = Instant::now();
    let tcp = |address: &str| {
        let address: SocketAddr = address.parse().unwrap();
        TcpStream::connect_timeout(&address, Duration::from_secs(2)).map(drop)
    };
    let udp = |address: &str| {
        let any = if address.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
        UdpSocket::bind(any)?.send_to(b"x", address).map(drop)
    };
    each(&["1.1.1.1:80", "169.254.169.254:80", "10.0.0.1:22", "[2606:4700::1111]:80"], tcp);
    each(&["8.8.8.8:53", "[2001:4860:4860::8888]:53", "255.255.255.255:67"], udp);
    // SAFETY: the call touches no memory.
    println!("icmp {}", told(result(unsafe { socket(2, 3, 1) }.into())));
    println!("{} up", interfaces_up());
    println!("in time {}", began.elapsed() < Duration::from_secs(2));
}

/// The names of the interfaces that could carry anything.
fn interfaces_up() -> String {
    // `struct ifreq`: a name of 16 bytes, and what is asked for.
    let ask = |request: u64, interface: &mut [u8; 40]| -> bool {
        // SAFETY: the socket is one, and the structure is as long as the kernel's.
        unsafe { ioctl(socket(2, 2, 0), request, interface.as_mut_ptr()) == 0 }
    };
    let mut up = Vec::new();
    for index in 1..16_u32 {
        let mut interface = [0; 40];
        interface[16..20].copy_from_slice(&index.to_ne_bytes());
        let there = ask(0x8910, &mut interface); // SIOCGIFNAME
        interface[16..].fill(0);
        if there && ask(0x8913, &mut interface) && interface[16] & 1 != 0 {
            let name: Vec<u8> = interface.iter().copied().take_while(|byte| *byte != 0).collect();
            up.push(String::from_utf8_lossy(&name).into_owned());
        }
    }
    if up.is_empty() { "nothing".to_owned() } else { up.join("+") }
}

fn families() {
    #[rustfmt::skip]
    let all = [
        ("unix", 1, 1, 0), ("inet", 2, 1, 0), ("inet6", 10, 1, 0), ("netlink-route", 16, 3, 0),
        ("netlink-audit", 16, 3, 9), ("packet", 17, 3, 0), ("alg", 38, 5, 0), ("vsock", 40, 1, 0),
        ("bluetooth", 31, 3, 0), ("can", 29, 3, 1), ("tipc", 30, 1, 0),
        ("mptcp", 2, 1, 262), ("sctp", 2, 1, 132), ("sctp-packets", 2, 5, 132), ("dccp", 2, 6, 33),
        ("udp-lite", 2, 2, 136), ("raw", 2, 3, 255), ("tcp-datagrams", 2, 2, 6), ("l2tp", 2, 2, 115),
        ("mptcp6", 10, 1, 262), ("raw6", 10, 3, 58), ("tcp", 2, 1, 6), ("udp", 2, 2, 17),
        ("udp6", 10, 2 | 0o2_004_000, 17),
    ];
    for (name, family, kind, protocol) in all {
        // SAFETY: the call touches no memory.
        println!("{name} {}", told(result(unsafe { socket(family, kind, protocol) }.into())));
    }
    for (name, family) in [("two-unix", 1), ("two-inet", 2), ("two-tipc", 30), ("two-vsock", 40)] {
        // SAFETY: there is room for two descriptors.
        let made = result(unsafe { socketpair(family, 1, 0, &mut [0; 2]) }.into());
        println!("{name} {}", told(made));
    }
}

/// What loads a module of the kernel, or takes from what all of the host shares.
fn shared() {
    #[rustfmt::skip]
    let requests = [
        ("SIOCGIFBR", 0x8940), ("SIOCGIFVLAN", 0x8982), ("SIOCADDDLCI", 0x8980), ("SIOCBRADDBR", 0x89a0),
        ("TIOCSETD", 0x5423), ("TIOCSETD-with-more", 0xffff_ffff_0000_5423),
    ];
    // SAFETY: a request that is let through reads a few bytes of those that are there.
    unsafe {
        let inet = socket(2, 1, 0);
        for (name, request) in requests {
            let asked = ioctl(inet, request, [0_u8; 256].as_mut_ptr());
            println!("{name} {}", told(result(asked.into())));
        }
        let signed = setsockopt(inet, 6, 38, &[0; 256], 256);
        println!("TCP_AO_ADD_KEY {}", told(result(signed.into())));
        let attached = setsockopt(inet, 1, 26, &[0; 256], 16);
        println!("SO_ATTACH_FILTER {}", told(result(attached.into())));
        let (set, list) = (if cfg!(target_arch = "x86_64") { 188 } else { 5 }, [0_u8; 44]);
        let name = c"system.posix_acl_access".as_ptr();
        let listed = syscall(set, c"/workspace".as_ptr(), name, list.as_ptr(), 44_usize, 0);
        println!("setxattr {}", told(result(listed)));
        // Private, anonymous, huge.
        println!("MAP_HUGETLB {}", told(result(mmap(0, 2 << 20, 3, 0x4_0022, -1, 0) as i64)));
        let memfd = if cfg!(target_arch = "x86_64") { 319 } else { 279 };
        println!("MFD_HUGETLB {}", told(result(syscall(memfd, c"huge".as_ptr(), 4))));
        println!("SHM_HUGETLB {}", told(result(shmget(0, 2 << 20, 0o5600).into())));
        let setup = if cfg!(target_arch = "x86_64") { 206 } else { 0 };
        println!("io_setup {}", told(result(syscall(setup, 1024, [0_u64; 1].as_mut_ptr()))));
    }
}

/// Shared memory with something in it.
fn filled(key: i32, size: usize) -> io::Result<()> {
    // SAFETY: what is written to was mapped just now.
    unsafe {
        let id = shmget(key, size, 0o3600); // IPC_CREAT | IPC_EXCL
        result(id.into())?;
        let at = shmat(id, 0, 0);
        result(at as i64)?;
        for offset in (0..size).step_by(4096) {
            at.add(offset).write(1);
        }
    }
    Ok(())
}

/// One of each kind, under a name that must be free, which is left behind.
fn leave() {
    let key = 0x5359;
    println!("memory {}", told(filled(key, 32 << 20)));
    // SAFETY: the calls touch no memory but a constant.
    unsafe {
        println!("messages {}", told(result(msgget(key, 0o3600).into())));
        println!("semaphores {}", told(result(semget(key, 16, 0o3600).into())));
        let open = if cfg!(target_arch = "x86_64") { 240 } else { 180 };
        let none = std::ptr::null::<u8>();
        println!("queue {}", told(result(syscall(open, c"left".as_ptr(), 0o302, 0o600, none))));
    }
}

fn hoard() {
    loop {
        filled(0, 16 << 20).unwrap();
    }
}

/// How many instances there may be, and why no more.
fn watches() {
    let mut count = 0;
    // SAFETY: the call touches no memory.
    while let Ok(()) = result(unsafe { inotify_init1(0) }.into()) {
        count += 1;
    }
    println!("{count} {}", told(Err(io::Error::last_os_error())));
}

/// How many signals may wait, and why no more.
fn queue() {
    // SAFETY: the set is longer than the C library's; the call reads a structure of 128 bytes.
    unsafe {
        sigprocmask(0, &[u64::MAX; 16], std::ptr::null_mut());
        let send = if cfg!(target_arch = "x86_64") { 129 } else { 138 };
        let mut with = [0_i32; 32];
        with[2] = -1; // SI_QUEUE
        let mut count = 0;
        while count < 1 << 20 && syscall(send, std::process::id(), 40, with.as_ptr()) == 0 {
            count += 1;
        }
        println!("{count} {}", told(Err(io::Error::last_os_error())));
    }
}

/// As many files as there may be wherever there may be any, but for one in each directory.
fn names() {
    for directory in ["/workspace", "/tmp", "/dev/shm"] {
        let name = |n: u64| format!("{directory}/{}{n:08}", "n".repeat(240));
        let mut count = 0;
        while File::create(name(count)).is_ok() {
            count += 1;
        }
        fs::remove_file(name(0)).unwrap();
    }
    println!("made");
}

/// Blocks that files take.
fn used(directory: &str) -> u64 {
    let (name, mut told) = (CString::new(directory).unwrap(), [0; 16]);
    // SAFETY: the structure is no longer than what is there.
    result(unsafe { statfs(name.as_ptr(), &raw mut told) }.into()).unwrap();
    told[2] - told[3]
}

/// Puts a file of its own in the place of whatever is about to become one, for ever.
fn replace(directory: &str) -> ! {
    println!("ready");
    loop {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            if entry.file_name().as_bytes().starts_with(b".symbiont-") {
                let own = format!("{directory}/own");
                fs::write(&own, "own").unwrap();
                let _gone_already = fs::rename(own, entry.path());
            }
        }
    }
}

/// The processes that this one sees beside itself, and the first of its namespace.
fn processes() {
    let others = others();
    println!("{}", if others.is_empty() { "none".to_owned() } else { others.join(" ") });
}

/// The names of the programs that other processes run; of its own first one nothing is shown.
fn others() -> Vec<String> {
    let ours = own_name();
    let mut others = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let name = entry.file_name();
        let number = name.as_bytes().iter().all(u8::is_ascii_digit);
        if number && name.to_str() != Some(&ours) {
            others.extend(program_of(&entry.path()));
        }
    }
    others.sort();
    others
}

/// The name of this process in /proc, which may not be its number.
fn own_name() -> String {
    fs::read_link("/proc/self").unwrap().to_string_lossy().into_owned()
}

fn program_of(process: &Path) -> Option<String> {
    let line = fs::read(process.join("cmdline")).ok()?;
    let program = String::from_utf8_lossy(line.split(|byte| *byte == 0).next()?).into_owned();
    let name = program.rsplit('/').next()?.to_owned();
    (!name.is_empty()).then_some(name)
}

/// What listens anywhere, as far as this process is told, and whose descriptors it can look at.
fn listeners() {
    let tables = ["unix", "tcp", "tcp6"].map(|name| format!("/proc/net/{name}"));
    let lines = tables.iter().map(|path| {
        fs::read_to_string(path).map_or(0, |text| text.lines().count().saturating_sub(1))
    });
    println!("{} sockets", lines.sum::<usize>());
    let ours = own_name();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let own =
            [ours.as_str(), "self", "thread-self"].iter().any(|name| entry.file_name() == *name);
        for found in fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten() {
            let open = |options: &mut fs::OpenOptions| options.open(found.path()).is_ok();
            let mut options = fs::OpenOptions::new();
            if !own && (open(options.read(true)) || open(options.read(false).write(true))) {
                println!("a descriptor of {}", program_of(&entry.path()).unwrap_or_default());
            }
        }
    }
}

/// Turns a name from a directory into a link and back, for ever.
fn swap(name: &str) -> ! {
    println!("ready");
    let aside = format!("{name}.aside");
    let link = format!("{name}.link");
    symlink("/etc", &link).unwrap();
    loop {
        for (from, to) in [(name, aside.as_str()), (&link, name), (name, &link), (&aside, name)] {
            let _in_between = fs::rename(Path::new(from), Path::new(to));
            if to == name {
                sleep(Duration::from_micros(100));
            }
        }
    }
}

/// Children that end unnoticed, and children of those that are left alone.
fn zombies(count: u64) {
    for n in 0..count {
        // SAFETY: the children end at once.
        unsafe {
            if fork() == 0 {
                if n % 2 == 0 {
                    fork();
                }
                _exit(0);
            }
        }
    }
    println!("left");
}

fn deep(count: u64) {
    for _ in 0..count {
        fs::create_dir("d").unwrap();
        let name = CString::new("d").unwrap();
        // SAFETY: the name lives until the call returns.
        let entered =
            unsafe { syscall(if cfg!(target_arch = "x86_64") { 80 } else { 49 }, name.as_ptr()) };
        assert_eq!(entered, 0);
    }
    println!("made");
}
