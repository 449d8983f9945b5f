//! The system calls that a program in a sandbox may make.
//!
//! Whatever is not in the table is refused, so that what a kernel learns later is refused too. It is
//! one filter that looks a call's number up in a tree: every command installs it, and the kernel
//! walks it once for each number then, so that a chain would cost as much as a fork.
//!
//! The table is what ordinary programs, interpreters, compilers and databases use. What it leaves out
//! widens what a program can reach in the kernel and is of no use here: mounts, namespaces, tracing
//! and other processes' memory, keys, modules, clocks, `io_uring`, `bpf`, `perf`, `userfaultfd`; and
//! what takes from an account that the whole host shares, whatever the control groups say: slots of
//! asynchronous input and output, pages of the huge kinds, space for programs that filter, memory for lists
//! of rights.
//!
//! Some calls have the kernel look for a module that does what it was asked for, whoever asks, and load
//! it for the whole host. What they may ask for is what is there.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use sha2::{Digest, Sha256};
use symbiont_guest::protocol::NAMESPACES;

use crate::api::Profile;

/// A system call: its name, as the filters of engines have it, and its number.
type Call = (&'static str, i64);

macro_rules! calls {
    ($($call:ident)*) => { &[$((stringify!($call), libc::$call)),*] };
}

/// Calls that are allowed whatever their arguments are.
const ALLOWED: &[Call] = calls! {
    SYS_accept SYS_accept4 SYS_bind SYS_brk SYS_capget SYS_capset SYS_chdir SYS_clock_getres
    SYS_clock_gettime SYS_clock_nanosleep SYS_close SYS_close_range SYS_connect SYS_copy_file_range
    SYS_dup SYS_dup3 SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2 SYS_eventfd2
    SYS_execve SYS_execveat SYS_exit SYS_exit_group SYS_faccessat SYS_faccessat2 SYS_fadvise64
    SYS_fallocate SYS_fchdir SYS_fchmod SYS_fchmodat SYS_fchmodat2 SYS_fchown SYS_fchownat SYS_fcntl
    SYS_fdatasync SYS_fgetxattr SYS_flistxattr SYS_flock SYS_fremovexattr SYS_fstat
    SYS_fstatfs SYS_fsync SYS_ftruncate SYS_futex SYS_futex_waitv SYS_get_mempolicy
    SYS_get_robust_list SYS_getcpu SYS_getcwd SYS_getdents64 SYS_getegid SYS_geteuid SYS_getgid
    SYS_getgroups SYS_getitimer SYS_getpeername SYS_getpgid SYS_getpid SYS_getppid SYS_getpriority
    SYS_getrandom SYS_getresgid SYS_getresuid SYS_getrlimit SYS_getrusage SYS_getsid SYS_getsockname
    SYS_getsockopt SYS_gettid SYS_gettimeofday SYS_getuid SYS_getxattr SYS_inotify_add_watch
    SYS_inotify_init1 SYS_inotify_rm_watch SYS_ioprio_get SYS_kill SYS_landlock_add_rule
    SYS_landlock_create_ruleset SYS_landlock_restrict_self SYS_lgetxattr SYS_linkat SYS_listen
    SYS_listxattr SYS_llistxattr SYS_lremovexattr SYS_lseek SYS_madvise SYS_membarrier
    SYS_mincore SYS_mkdirat SYS_mprotect SYS_mremap SYS_mseal SYS_msync
    SYS_munmap SYS_nanosleep SYS_newfstatat SYS_openat SYS_openat2 SYS_pidfd_open
    SYS_pidfd_send_signal SYS_pipe2 SYS_ppoll SYS_pread64 SYS_preadv SYS_preadv2
    SYS_prlimit64 SYS_process_mrelease SYS_pselect6 SYS_pwrite64 SYS_pwritev SYS_pwritev2 SYS_read
    SYS_readahead SYS_readlinkat SYS_readv SYS_recvfrom SYS_recvmmsg SYS_recvmsg SYS_removexattr
    SYS_renameat SYS_renameat2 SYS_restart_syscall SYS_rseq SYS_rt_sigaction SYS_rt_sigpending
    SYS_rt_sigprocmask SYS_rt_sigqueueinfo SYS_rt_sigreturn SYS_rt_sigsuspend SYS_rt_sigtimedwait
    SYS_rt_tgsigqueueinfo SYS_sched_get_priority_max SYS_sched_get_priority_min
    SYS_sched_getaffinity SYS_sched_getattr SYS_sched_getparam SYS_sched_getscheduler
    SYS_sched_rr_get_interval SYS_sched_yield SYS_sendfile SYS_sendmmsg SYS_sendmsg SYS_sendto
    SYS_set_robust_list SYS_set_tid_address SYS_setfsgid SYS_setfsuid SYS_setgid SYS_setgroups
    SYS_setitimer SYS_setpgid SYS_setregid SYS_setresgid SYS_setresuid SYS_setreuid SYS_setrlimit
    SYS_setsid SYS_setuid SYS_shutdown SYS_sigaltstack SYS_signalfd4
    SYS_splice SYS_statfs SYS_statx SYS_symlinkat SYS_sync SYS_sync_file_range
    SYS_syncfs SYS_sysinfo SYS_tee SYS_tgkill SYS_timer_create SYS_timer_delete SYS_timer_getoverrun
    SYS_timer_gettime SYS_timer_settime SYS_timerfd_create SYS_timerfd_gettime SYS_timerfd_settime
    SYS_times SYS_tkill SYS_truncate SYS_umask SYS_uname SYS_unlinkat SYS_utimensat SYS_wait4
    SYS_waitid SYS_write SYS_writev
};

/// Calls that the strict profile lacks.
const NOT_STRICT: &[Call] = calls! {
    SYS_ioprio_set SYS_mlock SYS_mlock2 SYS_mlockall SYS_mq_getsetattr SYS_mq_notify SYS_mq_open
    SYS_mq_timedreceive SYS_mq_timedsend SYS_mq_unlink SYS_msgctl SYS_msgget SYS_msgrcv SYS_msgsnd
    SYS_munlock SYS_munlockall SYS_pkey_alloc SYS_pkey_free SYS_pkey_mprotect SYS_remap_file_pages
    SYS_sched_setattr SYS_sched_setparam SYS_sched_setscheduler SYS_semctl SYS_semget SYS_semop
    SYS_semtimedop SYS_setpriority SYS_shmat SYS_shmctl SYS_shmdt SYS_vmsplice
};

/// Calls that only the profile for debuggers and the like has.
const COMPAT: &[Call] = calls! {
    SYS_mbind SYS_process_vm_readv SYS_process_vm_writev SYS_ptrace SYS_set_mempolicy
};

/// Calls that only this architecture has: older forms of others, mostly.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[Call] = calls! {
    SYS_access SYS_alarm SYS_arch_prctl SYS_chmod SYS_chown SYS_creat SYS_dup2 SYS_epoll_create
    SYS_epoll_wait SYS_eventfd SYS_fork SYS_futimesat SYS_getdents SYS_getpgrp SYS_inotify_init
    SYS_lchown SYS_link SYS_lstat SYS_mkdir SYS_open SYS_pause SYS_pipe SYS_poll
    SYS_readlink SYS_rename SYS_rmdir SYS_select SYS_signalfd SYS_stat SYS_symlink SYS_time
    SYS_unlink SYS_utime SYS_utimes SYS_vfork
};
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[Call] = &[];

/// Calls that make nodes: all but devices, where any are made.
#[cfg(target_arch = "x86_64")]
const NODES: &[Call] = calls! { SYS_mknod SYS_mknodat };
#[cfg(not(target_arch = "x86_64"))]
const NODES: &[Call] = calls! { SYS_mknodat };

/// Calls that are the same everywhere, and too new for the library that has the other numbers.
const ALLOWED_NEW: &[Call] =
    &[("cachestat", 451), ("futex_wake", 454), ("futex_wait", 455), ("futex_requeue", 456)];

/// Calls that are allowed with some arguments; [`answers`] says with which.
const JUDGED: &[Call] = calls! {
    SYS_clone SYS_clone3 SYS_ioctl SYS_memfd_create SYS_mmap SYS_personality SYS_prctl
    SYS_sched_setaffinity SYS_seccomp SYS_setsockopt SYS_socket SYS_socketpair
};

/// The same, of those that the strict profile lacks.
const JUDGED_NOT_STRICT: &[Call] = calls! { SYS_shmget };

fn allowed(profile: Profile) -> impl Iterator<Item = Call> {
    let lists: &[&[Call]] = match profile {
        Profile::Strict => &[],
        Profile::Default => &[NOT_STRICT],
        Profile::Compat => &[NOT_STRICT, COMPAT],
    };
    [ALLOWED, ALLOWED_HERE, ALLOWED_NEW].iter().chain(lists).copied().flatten().copied()
}

/// The calls that are allowed with some arguments; the strict profile makes no nodes at all.
fn judged(profile: Profile) -> impl Iterator<Item = Call> {
    let more: [&[Call]; 2] =
        if profile == Profile::Strict { [&[]; 2] } else { [NODES, JUDGED_NOT_STRICT] };
    JUDGED.iter().chain(more.into_iter().flatten()).copied()
}

/// What the guest itself needs beside that, to build its walls within a container.
const BUILDING: [&str; 10] = [
    "mount",
    "umount2",
    "fsopen",
    "fsconfig",
    "fsmount",
    "open_tree",
    "move_mount",
    "mount_setattr",
    "pivot_root",
    "sethostname",
];

/// The highest number that this table was written for; above it calls do not exist.
const LAST_KNOWN: u32 = 462;

/// As the kernel names this architecture.
#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;
/// Where the numbers of the x32 interface begin.
const X32: u32 = 0x4000_0000;

/// What the filter of a profile does, in a line, with the beginning of the hash of its narrower form.
pub(crate) fn summary(profile: Profile) -> String {
    static SUMMARIES: LazyLock<[String; 3]> = LazyLock::new(|| {
        Profile::ALL.map(|profile| {
            let hash = Sha256::digest(encoded(profile, false));
            let hash: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            format!(
                "{}: allow list of {} system calls, {} of them by their arguments (sha256 {hash})",
                profile.name(),
                allowed(profile).count() + judged(profile).count(),
                judged(profile).count()
            )
        })
    });
    SUMMARIES[profile as usize].clone()
}

// Where `seccomp_data` has them; of arguments the lower half, on a little-endian machine.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const fn argument(index: u32) -> u32 {
    16 + 8 * index
}

/// An instruction: its code, how many to leave out if its test holds or not, and its constant.
type Instruction = (u16, u8, u8, u32);

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_IF_GE: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const JUMP_IF_ANY: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

const ALLOW: Instruction = (RETURN, 0, 0, libc::SECCOMP_RET_ALLOW);
const KILL: Instruction = (RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS);
const fn refuse(errno: i32) -> Instruction {
    (RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | errno.cast_unsigned())
}

/// The filter of each profile, an array of `sock_filter` in bytes.
#[derive(Debug)]
pub(crate) struct Filters([Vec<u8>; 3]);

impl Filters {
    /// `affinity` says whether a program may choose its processors: not where the choice of them is
    /// all that limits its processor time.
    pub(crate) fn new(affinity: bool) -> Self {
        Self(Profile::ALL.map(|profile| encoded(profile, affinity)))
    }

    /// What the guest is told for a profile.
    pub(crate) fn of(&self, profile: Profile) -> Vec<Vec<u8>> {
        vec![self.0[profile as usize].clone()]
    }
}

fn encoded(profile: Profile, affinity: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (code, if_true, if_false, value) in program(profile, affinity) {
        bytes.extend(code.to_ne_bytes());
        bytes.extend([if_true, if_false]);
        bytes.extend(value.to_ne_bytes());
    }
    bytes
}

/// The filter around a container, as an engine reads it: what commands may call, and what the guest
/// needs for its walls. Arguments are judged by the guest's own filter, which commands are under too.
pub(crate) fn engine_profile(profile: Profile) -> serde_json::Value {
    let calls = allowed(profile).chain(judged(profile));
    let names: Vec<&str> =
        calls.map(|(name, _)| name.strip_prefix("SYS_").unwrap_or(name)).chain(BUILDING).collect();
    serde_json::json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": libc::EPERM,
        "syscalls": [{ "names": names, "action": "SCMP_ACT_ALLOW" }],
    })
}

fn program(profile: Profile, affinity: bool) -> Vec<Instruction> {
    // From each number on, until the next.
    let mut from = BTreeMap::from([
        (0, vec![refuse(libc::EPERM)]),
        (LAST_KNOWN + 1, vec![refuse(libc::ENOSYS)]),
        (X32, vec![KILL]),
    ]);
    for (call, answer) in answers(profile, affinity) {
        if let Ok(number @ ..=LAST_KNOWN) = u32::try_from(call) {
            from.insert(number, answer);
            from.entry(number + 1).or_insert_with(|| vec![refuse(libc::EPERM)]);
        }
    }
    let mut ranges: Vec<(u32, Vec<Instruction>)> = from.into_iter().collect();
    ranges.dedup_by(|next, before| next.1 == before.1);
    let mut program =
        vec![(LOAD, 0, 0, ARCHITECTURE), (JUMP_IF_EQUAL, 1, 0, ARCH), KILL, (LOAD, 0, 0, NUMBER)];
    program.extend(tree(&ranges));
    program
}

/// Finds the range that a number is in, and does what is to be done there.
fn tree(ranges: &[(u32, Vec<Instruction>)]) -> Vec<Instruction> {
    let (below, above) = match ranges {
        [] => return vec![KILL],
        [(_, answer)] => return answer.clone(),
        _ => ranges.split_at(ranges.len() / 2),
    };
    let (start, below, above) = (above[0].0, tree(below), tree(above));
    let mut program = match u8::try_from(below.len()) {
        Ok(length) => vec![(JUMP_IF_GE, length, 0, start)],
        // Further than a test can jump.
        Err(_) => {
            let length = u32::try_from(below.len()).unwrap_or(u32::MAX);
            vec![(JUMP_IF_GE, 0, 1, start), (JUMP, 0, 0, length)]
        }
    };
    program.extend(below);
    program.extend(above);
    program
}

/// Allows a call whose argument is one of these.
fn one_of(argument: u32, values: &[u32], errno: i32) -> Vec<Instruction> {
    let mut program = vec![(LOAD, 0, 0, argument)];
    for (value, further) in values.iter().zip((1..=values.len()).rev()) {
        let further = u8::try_from(further).expect("there are a few of them");
        program.push((JUMP_IF_EQUAL, further, 0, *value));
    }
    program.extend([refuse(errno), ALLOW]);
    program
}

/// Allows a call whose argument is none of these.
fn none_of_these(argument: u32, values: &[u32], errno: i32) -> Vec<Instruction> {
    let mut program = vec![(LOAD, 0, 0, argument)];
    for (value, further) in values.iter().zip((1..=values.len()).rev()) {
        let further = u8::try_from(further).expect("there are a few of them");
        program.push((JUMP_IF_EQUAL, further, 0, *value));
    }
    program.extend([ALLOW, refuse(errno)]);
    program
}

/// Requests to devices and sockets that are refused: to type for others (`TIOCSTI`, `TIOCLINUX`), and
/// what looks for a module: another discipline for a terminal's lines (`TIOCSETD`), and what of sockets is
/// about bridges, VLANs and DLCIs.
const REQUESTS: [u32; 13] = [
    0x5412, 0x541c, 0x5423, 0x8940, 0x8941, 0x8980, 0x8981, 0x8982, 0x8983, 0x89a0, 0x89a1, 0x89a2,
    0x89a3,
];

/// Options by which a socket gets a program, one by one or for a group.
const ATTACH: [u32; 4] = [26, 50, 51, 52];
/// An option of TCP, too new for the library.
const TCP_AO_ADD_KEY: u32 = 38;

/// What a process is asked of with `prctl`, too new for the library as well.
const SCHED_CORE: u32 = 62;

const fn family(family: i32) -> u32 {
    family.cast_unsigned()
}

/// What sockets may be made: any between processes; TCP and UDP, to which no other protocol leads; and for
/// routes.
fn sockets() -> Vec<Instruction> {
    let netlink = [
        (LOAD, 0, 0, argument(2)),
        (JUMP_IF_EQUAL, 0, 1, family(libc::NETLINK_ROUTE)),
        ALLOW,
        refuse(libc::EAFNOSUPPORT),
    ];
    let protocol = |number: i32| {
        [
            (LOAD, 0, 0, argument(2)),
            (JUMP_IF_EQUAL, 1, 0, 0),
            (JUMP_IF_EQUAL, 0, 1, number.cast_unsigned()),
            ALLOW,
            refuse(libc::EPROTONOSUPPORT),
        ]
    };
    let kind = [
        (LOAD, 0, 0, argument(1)),
        (AND, 0, 0, 0xf), // The rest are flags.
        (JUMP_IF_EQUAL, 2, 0, libc::SOCK_STREAM.cast_unsigned()),
        (JUMP_IF_EQUAL, 6, 0, libc::SOCK_DGRAM.cast_unsigned()),
        refuse(libc::EPROTONOSUPPORT),
    ];
    let families = [
        (LOAD, 0, 0, argument(0)),
        // Past the part for routes, which comes next.
        (JUMP_IF_EQUAL, 9, 0, family(libc::AF_INET)),
        (JUMP_IF_EQUAL, 8, 0, family(libc::AF_INET6)),
        (JUMP_IF_EQUAL, 3, 0, family(libc::AF_NETLINK)),
        (JUMP_IF_EQUAL, 1, 0, family(libc::AF_UNIX)),
        refuse(libc::EAFNOSUPPORT),
        ALLOW,
    ];
    let [tcp, udp] = [libc::IPPROTO_TCP, libc::IPPROTO_UDP].map(protocol);
    [&families[..], &netlink, &kind, &tcp, &udp].concat()
}

/// The calls that are not simply refused, and what is done with each.
fn answers(profile: Profile, affinity: bool) -> Vec<(i64, Vec<Instruction>)> {
    let mut answers: Vec<(i64, Vec<Instruction>)> =
        allowed(profile).map(|(_, call)| (call, vec![ALLOW])).collect();
    let none_with = |argument: u32, bits: u32, errno: i32| {
        vec![(LOAD, 0, 0, argument), (JUMP_IF_ANY, 0, 1, bits), refuse(errno), ALLOW]
    };
    let none_of = |argument: u32, bits: u32| none_with(argument, bits, libc::EPERM);
    answers.push((libc::SYS_clone, none_of(argument(0), NAMESPACES.cast_unsigned())));
    // Devices, of characters and of blocks, which not every kernel keeps to itself.
    let devices = libc::S_IFCHR & libc::S_IFBLK;
    if profile != Profile::Strict {
        answers.push((libc::SYS_mknodat, none_of(argument(2), devices)));
        #[cfg(target_arch = "x86_64")]
        answers.push((libc::SYS_mknod, none_of(argument(1), devices)));
    }
    // The C library falls back to `clone`, whose flags a filter can see.
    answers.push((libc::SYS_clone3, vec![refuse(libc::ENOSYS)]));
    let listener = u32::try_from(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER).unwrap_or(u32::MAX);
    answers.push((libc::SYS_seccomp, none_of(argument(1), listener)));
    answers.push((libc::SYS_ioctl, none_of_these(argument(1), &REQUESTS, libc::EPERM)));
    // Pages that are set aside on the host, and count towards nobody's limit.
    let huge = libc::MAP_HUGETLB.cast_unsigned();
    answers.push((libc::SYS_mmap, none_with(argument(3), huge, libc::ENOMEM)));
    answers.push((libc::SYS_memfd_create, none_with(argument(1), libc::MFD_HUGETLB, libc::ENOMEM)));
    if profile != Profile::Strict {
        let huge = libc::SHM_HUGETLB.cast_unsigned();
        answers.push((libc::SYS_shmget, none_with(argument(2), huge, libc::ENOMEM)));
    }
    // As a kernel answers that has none of it: programs do without.
    answers.push((libc::SYS_io_setup, vec![refuse(libc::ENOSYS)]));
    // As of a file system that has none. Memory for lists of who may do what to a file counts towards
    // nobody's limit, and is there as long as the file.
    for call in [libc::SYS_setxattr, libc::SYS_lsetxattr, libc::SYS_fsetxattr] {
        answers.push((call, vec![refuse(libc::EOPNOTSUPP)]));
    }
    // Programs for the kernel to filter with, for which all of the host has one space; and signatures of
    // segments, by an algorithm of any name.
    let of_sockets = none_of_these(argument(2), &ATTACH, libc::EPERM);
    let of_tcp = none_of_these(argument(2), &[TCP_AO_ADD_KEY], libc::ENOPROTOOPT);
    let further = u8::try_from(1 + of_sockets.len()).expect("there are a few of them");
    let levels = [
        (LOAD, 0, 0, argument(1)),
        (JUMP_IF_EQUAL, 2, 0, libc::SOL_SOCKET.cast_unsigned()),
        (JUMP_IF_EQUAL, further, 0, libc::IPPROTO_TCP.cast_unsigned()),
        ALLOW,
    ];
    let options = [&levels[..], &of_sockets, &of_tcp].concat();
    answers.push((libc::SYS_setsockopt, options));
    // Keeping others' threads from the other half of a core, as a kernel answers that can't.
    let core = none_of_these(argument(0), &[SCHED_CORE], libc::EINVAL);
    answers.push((libc::SYS_prctl, core));
    // Only the ordinary one, and asking; debuggers want addresses that are the same each time.
    let fixed = libc::ADDR_NO_RANDOMIZE.cast_unsigned();
    let persons: &[u32] = match profile {
        Profile::Strict | Profile::Default => &[0, u32::MAX],
        Profile::Compat => &[0, u32::MAX, fixed],
    };
    answers.push((libc::SYS_personality, one_of(argument(0), persons, libc::EPERM)));
    // Those between processes and for the internet.
    let unix = one_of(argument(0), &[family(libc::AF_UNIX)], libc::EAFNOSUPPORT);
    answers.push((libc::SYS_socketpair, unix.clone()));
    let socket = match profile {
        Profile::Strict => unix,
        Profile::Default | Profile::Compat => sockets(),
    };
    answers.push((libc::SYS_socket, socket));
    let choice = if affinity { ALLOW } else { refuse(libc::EPERM) };
    answers.push((libc::SYS_sched_setaffinity, vec![choice]));
    answers
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What the kernel would do with a call, and after how many instructions.
    fn judge(program: &[Instruction], arch: u32, number: u32, arguments: [u32; 4]) -> (u32, usize) {
        let (mut at, mut value, mut steps) = (0, 0, 0);
        loop {
            let (code, if_true, if_false, constant) = program[at];
            (at, steps) = (at + 1, steps + 1);
            let skip = |holds: bool| usize::from(if holds { if_true } else { if_false });
            match code {
                LOAD if constant == NUMBER => value = number,
                LOAD if constant == ARCHITECTURE => value = arch,
                LOAD => value = arguments[((constant - 16) / 8) as usize],
                AND => value &= constant,
                JUMP => at += constant as usize,
                JUMP_IF_EQUAL => at += skip(value == constant),
                JUMP_IF_GE => at += skip(value >= constant),
                JUMP_IF_ANY => at += skip(value & constant != 0),
                RETURN => return (constant, steps),
                other => panic!("{other}"),
            }
        }
    }

    #[test]
    fn every_call_is_answered_as_the_table_says() {
        for (profile, affinity) in
            Profile::ALL.into_iter().flat_map(|profile| [(profile, true), (profile, false)])
        {
            let program = program(profile, affinity);
            assert!(program.len() <= 4096, "the kernel takes no more");
            let of_table: BTreeMap<u32, Vec<Instruction>> = answers(profile, affinity)
                .into_iter()
                .map(|(call, answer)| (u32::try_from(call).unwrap(), answer))
                .collect();
            for number in (0..2000).chain([X32 - 1, X32, X32 + 39, u32::MAX]) {
                let (got, steps) = judge(&program, ARCH, number, [0; 4]);
                let want = match of_table.get(&number).map(Vec::as_slice) {
                    _ if number >= X32 => libc::SECCOMP_RET_KILL_PROCESS,
                    _ if number > LAST_KNOWN => refuse(libc::ENOSYS).3,
                    None => refuse(libc::EPERM).3,
                    Some(answer) => judge(answer, ARCH, number, [0; 4]).0,
                };
                assert_eq!(got, want, "call {number}");
                assert!(steps < 32, "call {number} takes {steps} steps");
                assert_eq!(judge(&program, 1, number, [0; 4]).0, libc::SECCOMP_RET_KILL_PROCESS);
            }
        }
    }

    /// What becomes of a call with these arguments: an error number, or 0.
    #[track_caller]
    fn check(affinity: bool, call: i64, arguments: [u32; 3], want: i32) {
        check_in(Profile::Default, affinity, call, arguments, want);
    }

    #[track_caller]
    fn check_in(profile: Profile, affinity: bool, call: i64, arguments: [u32; 3], want: i32) {
        let number = u32::try_from(call).unwrap();
        let want = if want == 0 { ALLOW.3 } else { refuse(want).3 };
        let [first, second, third] = arguments;
        // The fourth is that of `mmap`, and another call's is not looked at.
        let arguments = [first, second, third, third];
        let got = judge(&program(profile, affinity), ARCH, number, arguments).0;
        assert_eq!(got, want, "{call} {arguments:x?}");
    }

    #[test]
    fn arguments_decide_where_they_must() {
        let bits = |flags: i32| flags.cast_unsigned();
        check(true, libc::SYS_clone, [bits(libc::SIGCHLD), 0, 0], 0);
        check(
            true,
            libc::SYS_clone,
            [bits(libc::CLONE_NEWUSER | libc::SIGCHLD), 0, 0],
            libc::EPERM,
        );
        check(true, libc::SYS_clone, [bits(libc::CLONE_NEWNET), 0, 0], libc::EPERM);
        check(true, libc::SYS_clone3, [0; 3], libc::ENOSYS);
        check(true, libc::SYS_seccomp, [1, 0, 0], 0);
        check(true, libc::SYS_seccomp, [1, 8, 0], libc::EPERM);
        check(true, libc::SYS_ioctl, [0, 0x5401, 0], 0);
        check(true, libc::SYS_ioctl, [0, 0x5412, 0], libc::EPERM);
        check(true, libc::SYS_ioctl, [0, 0x541c, 0], libc::EPERM);
        check(true, libc::SYS_personality, [0, 0, 0], 0);
        check(true, libc::SYS_personality, [u32::MAX, 0, 0], 0);
        check(true, libc::SYS_personality, [0x0040_0000, 0, 0], libc::EPERM);
        check(true, libc::SYS_sched_setaffinity, [0; 3], 0);
        check(false, libc::SYS_sched_setaffinity, [0; 3], libc::EPERM);
        check(false, libc::SYS_sched_getaffinity, [0; 3], 0);
    }

    #[test]
    fn sockets_are_of_kinds_that_are_there() {
        let bits = |flags: i32| flags.cast_unsigned();
        let (no, family) = (libc::EPROTONOSUPPORT, libc::EAFNOSUPPORT);
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        for inet in [libc::AF_INET, libc::AF_INET6] {
            for kind in 0..16 {
                for protocol in 0..300 {
                    let want = match (kind, protocol) {
                        (libc::SOCK_STREAM, 0 | libc::IPPROTO_TCP) => 0,
                        (libc::SOCK_DGRAM, 0 | libc::IPPROTO_UDP) => 0,
                        _ => no,
                    };
                    for kind in [kind, kind | flags] {
                        let arguments = [bits(inet), bits(kind), bits(protocol)];
                        check(true, libc::SYS_socket, arguments, want);
                    }
                }
            }
        }
        for other in 0..64 {
            let unix = if other == libc::AF_UNIX { 0 } else { family };
            check(true, libc::SYS_socketpair, [bits(other), 1, 0], unix);
            check_in(Profile::Strict, true, libc::SYS_socketpair, [bits(other), 1, 0], unix);
            if ![libc::AF_INET, libc::AF_INET6].contains(&other) {
                let route = if other == libc::AF_NETLINK { 0 } else { unix };
                check(true, libc::SYS_socket, [bits(other), 3, 0], route);
                check(true, libc::SYS_socket, [bits(other), 3, 9], unix);
            }
        }
    }

    #[test]
    fn nothing_that_all_of_the_host_shares_is_taken() {
        let huge = libc::MAP_HUGETLB.cast_unsigned();
        check(true, libc::SYS_mmap, [0, 0, 0x22], 0);
        check(true, libc::SYS_mmap, [0, 0, 0x22 | huge], libc::ENOMEM);
        check(true, libc::SYS_memfd_create, [0, libc::MFD_CLOEXEC, 0], 0);
        check(true, libc::SYS_memfd_create, [0, libc::MFD_HUGETLB, 0], libc::ENOMEM);
        check(true, libc::SYS_shmget, [0, 0, 0o1600], 0);
        check(true, libc::SYS_shmget, [0, 0, 0o5600], libc::ENOMEM);
        check(true, libc::SYS_io_setup, [0; 3], libc::ENOSYS);
        check(true, libc::SYS_prctl, [62, 1, 0], libc::EINVAL);
        check(true, libc::SYS_prctl, [15, 1, 0], 0);
        check(true, libc::SYS_io_submit, [0; 3], libc::EPERM);
        check(true, libc::SYS_fsetxattr, [0; 3], libc::EOPNOTSUPP);
        check(true, libc::SYS_setsockopt, [3, 1, 8], 0);
        for option in ATTACH {
            check(true, libc::SYS_setsockopt, [3, 1, option], libc::EPERM);
        }
    }

    #[test]
    fn no_module_is_looked_for() {
        for request in REQUESTS {
            check(true, libc::SYS_ioctl, [0, request, 0], libc::EPERM);
            check(true, libc::SYS_ioctl, [0, request + 0x100, 0], 0);
        }
        // What terminals and sockets are asked every day.
        for request in [0x5401, 0x5413, 0x5414, 0x5421, 0x8912, 0x8913, 0x8927, 0x8933] {
            check(true, libc::SYS_ioctl, [0, request, 0], 0);
        }
        check(true, libc::SYS_setsockopt, [3, 6, 1], 0);
        check(true, libc::SYS_setsockopt, [3, 1, 38], 0);
        check(true, libc::SYS_setsockopt, [3, 6, 26], 0);
        check(true, libc::SYS_setsockopt, [3, 0, 50], 0);
        check(true, libc::SYS_setsockopt, [3, 6, 38], libc::ENOPROTOOPT);
    }

    #[test]
    fn profiles_differ_in_what_they_allow() {
        use Profile::{Compat, Default, Strict};
        let calls = |profile| allowed(profile).map(|(_, call)| call).collect::<BTreeSet<_>>();
        assert!(
            calls(Strict).is_subset(&calls(Default)) && calls(Default).is_subset(&calls(Compat))
        );
        let fixed = libc::ADDR_NO_RANDOMIZE.cast_unsigned();
        let [unix, inet] = [libc::AF_UNIX, libc::AF_INET].map(family);
        let (no, unknown) = (libc::EPERM, libc::EAFNOSUPPORT);
        for (call, first, want) in [
            (libc::SYS_read, 0, [0, 0, 0]),
            (libc::SYS_shmget, 0, [no, 0, 0]),
            (libc::SYS_mknodat, 0, [no, 0, 0]),
            (libc::SYS_socket, unix, [0, 0, 0]),
            (libc::SYS_socket, inet, [unknown, libc::EPROTONOSUPPORT, libc::EPROTONOSUPPORT]),
            (libc::SYS_ptrace, 0, [no, no, 0]),
            (libc::SYS_process_vm_readv, 0, [no, no, 0]),
            (libc::SYS_personality, 0, [0, 0, 0]),
            (libc::SYS_personality, fixed, [no, no, 0]),
            (libc::SYS_personality, fixed | 1, [no, no, no]),
            (libc::SYS_unshare, 0, [no, no, no]),
            (libc::SYS_clone, NAMESPACES.cast_unsigned(), [no, no, no]),
        ] {
            for (profile, want) in Profile::ALL.into_iter().zip(want) {
                check_in(profile, true, call, [first, 0, 0], want);
            }
        }
        let summaries = Profile::ALL.map(summary);
        assert!(
            summaries[0].starts_with("strict: ") && summaries[0] != summaries[1],
            "{summaries:?}"
        );
        let hash = |text: &str| text.split("sha256 ").nth(1).map(str::to_owned);
        assert!(hash(&summaries[1]) != hash(&summaries[2]), "{summaries:?}");
    }

    #[test]
    fn what_reaches_into_the_kernel_is_in_no_list() {
        for call in [
            libc::SYS_io_uring_setup,
            libc::SYS_io_uring_enter,
            libc::SYS_io_uring_register,
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_userfaultfd,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_request_key,
            libc::SYS_ptrace,
            libc::SYS_kcmp,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_pidfd_getfd,
            libc::SYS_process_madvise,
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_fsopen,
            libc::SYS_fsconfig,
            libc::SYS_fsmount,
            libc::SYS_fspick,
            libc::SYS_open_tree,
            libc::SYS_move_mount,
            libc::SYS_mount_setattr,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_pivot_root,
            libc::SYS_chroot,
            libc::SYS_open_by_handle_at,
            libc::SYS_name_to_handle_at,
            libc::SYS_kexec_load,
            libc::SYS_kexec_file_load,
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_delete_module,
            libc::SYS_reboot,
            libc::SYS_swapon,
            libc::SYS_swapoff,
            libc::SYS_syslog,
            libc::SYS_acct,
            libc::SYS_quotactl,
            libc::SYS_quotactl_fd,
            libc::SYS_memfd_secret,
            libc::SYS_settimeofday,
            libc::SYS_clock_settime,
            libc::SYS_clock_adjtime,
            libc::SYS_adjtimex,
            libc::SYS_fanotify_init,
            libc::SYS_lookup_dcookie,
            libc::SYS_vhangup,
            libc::SYS_move_pages,
            libc::SYS_migrate_pages,
            libc::SYS_mbind,
            libc::SYS_set_mempolicy,
            libc::SYS_sethostname,
            libc::SYS_setdomainname,
        ] {
            check(true, call, [0; 3], libc::EPERM);
            let traces = COMPAT.iter().any(|(_, traced)| *traced == call);
            check_in(Profile::Compat, true, call, [0; 3], if traces { 0 } else { libc::EPERM });
        }
        #[cfg(target_arch = "x86_64")]
        for call in [libc::SYS_modify_ldt, libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_uselib] {
            check(true, call, [0; 3], libc::EPERM);
        }
    }

    #[test]
    fn an_engine_allows_what_commands_and_the_guest_need() {
        let profile = engine_profile(Profile::Default);
        let names: Vec<&str> = profile["syscalls"][0]["names"]
            .as_array()
            .unwrap()
            .iter()
            .map(|name| name.as_str().unwrap())
            .collect();
        for needed in ["read", "clone3", "seccomp", "mount_setattr", "futex_waitv", "cachestat"] {
            assert!(names.contains(&needed), "{needed}");
        }
        for refused in ["bpf", "ptrace", "unshare", "setns", "SYS_read", "io_uring_setup"] {
            assert!(!names.contains(&refused), "{refused}");
        }
        let mut once = names.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), names.len(), "none twice");
    }
}
