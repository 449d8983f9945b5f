//! The system calls that no program in a sandbox may make.
//!
//! What is refused widens what a program can reach in the kernel and is of no use to it here. All
//! of it is one filter that looks a call's number up in a tree: every command installs it, and the
//! kernel walks it once for each number then, so that a chain would cost as much as a fork.

use std::collections::BTreeMap;

/// A system call: its name, as the filters of engines have it, and its number.
type Call = (&'static str, i64);

/// Calls of the table that are refused whatever their arguments are.
#[rustfmt::skip]
const DENIED: &[Call] = &[
    ("io_uring_setup", libc::SYS_io_uring_setup), ("io_uring_enter", libc::SYS_io_uring_enter),
    ("io_uring_register", libc::SYS_io_uring_register), ("bpf", libc::SYS_bpf),
    ("perf_event_open", libc::SYS_perf_event_open), ("userfaultfd", libc::SYS_userfaultfd),
    ("keyctl", libc::SYS_keyctl), ("add_key", libc::SYS_add_key),
    ("request_key", libc::SYS_request_key), ("ptrace", libc::SYS_ptrace),
    ("process_vm_readv", libc::SYS_process_vm_readv),
    ("process_vm_writev", libc::SYS_process_vm_writev), ("kcmp", libc::SYS_kcmp),
    ("pidfd_getfd", libc::SYS_pidfd_getfd), ("process_madvise", libc::SYS_process_madvise),
    ("mount", libc::SYS_mount), ("umount2", libc::SYS_umount2), ("fsopen", libc::SYS_fsopen),
    ("fsconfig", libc::SYS_fsconfig), ("fsmount", libc::SYS_fsmount), ("fspick", libc::SYS_fspick),
    ("open_tree", libc::SYS_open_tree), ("move_mount", libc::SYS_move_mount),
    ("mount_setattr", libc::SYS_mount_setattr), ("unshare", libc::SYS_unshare),
    ("setns", libc::SYS_setns), ("pivot_root", libc::SYS_pivot_root), ("chroot", libc::SYS_chroot),
    ("open_by_handle_at", libc::SYS_open_by_handle_at),
    ("name_to_handle_at", libc::SYS_name_to_handle_at), ("kexec_load", libc::SYS_kexec_load),
    ("kexec_file_load", libc::SYS_kexec_file_load), ("init_module", libc::SYS_init_module),
    ("finit_module", libc::SYS_finit_module), ("delete_module", libc::SYS_delete_module),
    ("reboot", libc::SYS_reboot), ("swapon", libc::SYS_swapon), ("swapoff", libc::SYS_swapoff),
    ("syslog", libc::SYS_syslog), ("acct", libc::SYS_acct), ("quotactl", libc::SYS_quotactl),
    ("quotactl_fd", libc::SYS_quotactl_fd), ("memfd_secret", libc::SYS_memfd_secret),
    ("settimeofday", libc::SYS_settimeofday), ("clock_settime", libc::SYS_clock_settime),
    ("clock_adjtime", libc::SYS_clock_adjtime), ("adjtimex", libc::SYS_adjtimex),
    ("fanotify_init", libc::SYS_fanotify_init), ("lookup_dcookie", libc::SYS_lookup_dcookie),
    ("vhangup", libc::SYS_vhangup), ("nfsservctl", libc::SYS_nfsservctl),
    ("move_pages", libc::SYS_move_pages), ("migrate_pages", libc::SYS_migrate_pages),
    ("mbind", libc::SYS_mbind), ("set_mempolicy", libc::SYS_set_mempolicy),
    ("sethostname", libc::SYS_sethostname), ("setdomainname", libc::SYS_setdomainname),
];

/// Calls that only this architecture has.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const DENIED_HERE: &[Call] = &[
    ("modify_ldt", libc::SYS_modify_ldt), ("iopl", libc::SYS_iopl), ("ioperm", libc::SYS_ioperm),
    ("_sysctl", libc::SYS__sysctl), ("uselib", libc::SYS_uselib), ("ustat", libc::SYS_ustat),
    ("sysfs", libc::SYS_sysfs),
];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_HERE: &[Call] = &[];

/// What the guest itself needs of that, to build its walls within a container.
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

/// What the filter does, in a line.
pub(crate) const SUMMARY: &str =
    "deny list 1: kernel interfaces, mounts, namespaces, tracing, foreign architectures";

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
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

const ALLOW: Instruction = (RETURN, 0, 0, libc::SECCOMP_RET_ALLOW);
const KILL: Instruction = (RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS);
const fn refuse(errno: i32) -> Instruction {
    (RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | errno.cast_unsigned())
}

/// The filters, each an array of `sock_filter` in bytes.
///
/// `affinity` says whether a program may choose its processors: not where the choice of them is
/// all that limits its processor time.
pub(crate) fn filters(affinity: bool) -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    for (code, if_true, if_false, value) in program(affinity) {
        bytes.extend(code.to_ne_bytes());
        bytes.extend([if_true, if_false]);
        bytes.extend(value.to_ne_bytes());
    }
    vec![bytes]
}

/// The filter around a container, as an engine reads it: what neither the guest nor any command needs.
pub(crate) fn engine_profile() -> serde_json::Value {
    let names: Vec<&str> = DENIED
        .iter()
        .chain(DENIED_HERE)
        .map(|(name, _)| *name)
        .filter(|name| !BUILDING.contains(name))
        .collect();
    serde_json::json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EPERM }],
    })
}

fn program(affinity: bool) -> Vec<Instruction> {
    // From each number on, until the next.
    let mut from = BTreeMap::from([
        (0, vec![ALLOW]),
        (LAST_KNOWN + 1, vec![refuse(libc::ENOSYS)]),
        (X32, vec![KILL]),
    ]);
    for (call, answer) in answers(affinity) {
        if let Ok(number @ ..=LAST_KNOWN) = u32::try_from(call) {
            from.insert(number, answer);
            from.entry(number + 1).or_insert_with(|| vec![ALLOW]);
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

/// The calls that are not simply allowed, and what is done with each.
fn answers(affinity: bool) -> Vec<(i64, Vec<Instruction>)> {
    let denied = || vec![refuse(libc::EPERM)];
    let denied_calls = DENIED.iter().chain(DENIED_HERE).map(|&(_, call)| (call, denied()));
    let mut answers: Vec<(i64, Vec<Instruction>)> = denied_calls.collect();
    let namespaces = libc::CLONE_NEWUSER
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWCGROUP;
    let none_of = |argument: u32, bits: u32| {
        vec![(LOAD, 0, 0, argument), (JUMP_IF_ANY, 0, 1, bits), refuse(libc::EPERM), ALLOW]
    };
    answers.push((libc::SYS_clone, none_of(argument(0), namespaces.cast_unsigned())));
    // The C library falls back to `clone`, whose flags a filter can see.
    answers.push((libc::SYS_clone3, vec![refuse(libc::ENOSYS)]));
    let listener = u32::try_from(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER).unwrap_or(u32::MAX);
    answers.push((libc::SYS_seccomp, none_of(argument(1), listener)));
    // Pushing characters into a terminal's input.
    let [push, other] = [libc::TIOCSTI, libc::TIOCLINUX].map(|c| u32::try_from(c).unwrap_or(0));
    answers.push((
        libc::SYS_ioctl,
        vec![
            (LOAD, 0, 0, argument(1)),
            (JUMP_IF_EQUAL, 1, 0, push),
            (JUMP_IF_EQUAL, 0, 1, other),
            refuse(libc::EPERM),
            ALLOW,
        ],
    ));
    // Only the ordinary one, and asking.
    answers.push((
        libc::SYS_personality,
        vec![
            (LOAD, 0, 0, argument(0)),
            (JUMP_IF_EQUAL, 1, 0, 0),
            (JUMP_IF_EQUAL, 0, 1, u32::MAX),
            ALLOW,
            refuse(libc::EPERM),
        ],
    ));
    // Those between processes and for the internet.
    let family = |family: i32| family.cast_unsigned();
    answers.push((
        libc::SYS_socket,
        vec![
            (LOAD, 0, 0, argument(0)),
            (JUMP_IF_EQUAL, 5, 0, family(libc::AF_UNIX)),
            (JUMP_IF_EQUAL, 4, 0, family(libc::AF_INET)),
            (JUMP_IF_EQUAL, 3, 0, family(libc::AF_INET6)),
            (JUMP_IF_EQUAL, 0, 3, family(libc::AF_NETLINK)),
            (LOAD, 0, 0, argument(2)),
            (JUMP_IF_EQUAL, 0, 1, family(libc::NETLINK_ROUTE)),
            ALLOW,
            refuse(libc::EAFNOSUPPORT),
        ],
    ));
    if !affinity {
        answers.push((libc::SYS_sched_setaffinity, denied()));
    }
    answers
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do with a call, and after how many instructions.
    fn judge(program: &[Instruction], arch: u32, number: u32, arguments: [u32; 3]) -> (u32, usize) {
        let (mut at, mut value, mut steps) = (0, 0, 0);
        loop {
            let (code, if_true, if_false, constant) = program[at];
            (at, steps) = (at + 1, steps + 1);
            let skip = |holds: bool| usize::from(if holds { if_true } else { if_false });
            match code {
                LOAD if constant == NUMBER => value = number,
                LOAD if constant == ARCHITECTURE => value = arch,
                LOAD => value = arguments[((constant - 16) / 8) as usize],
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
        for affinity in [true, false] {
            let program = program(affinity);
            assert!(program.len() <= 4096, "the kernel takes no more");
            let of_table: BTreeMap<u32, Vec<Instruction>> = answers(affinity)
                .into_iter()
                .map(|(call, answer)| (u32::try_from(call).unwrap(), answer))
                .collect();
            for number in (0..2000).chain([X32 - 1, X32, X32 + 39, u32::MAX]) {
                let (got, steps) = judge(&program, ARCH, number, [0; 3]);
                let want = match of_table.get(&number).map(Vec::as_slice) {
                    _ if number >= X32 => libc::SECCOMP_RET_KILL_PROCESS,
                    _ if number > LAST_KNOWN => refuse(libc::ENOSYS).3,
                    None => libc::SECCOMP_RET_ALLOW,
                    Some(answer) => judge(answer, ARCH, number, [0; 3]).0,
                };
                assert_eq!(got, want, "call {number}");
                assert!(steps < 24, "call {number} takes {steps} steps");
                assert_eq!(judge(&program, 1, number, [0; 3]).0, libc::SECCOMP_RET_KILL_PROCESS);
            }
        }
    }

    /// What becomes of a call with these arguments: an error number, or 0.
    #[track_caller]
    fn check(affinity: bool, call: i64, arguments: [u32; 3], want: i32) {
        let number = u32::try_from(call).unwrap();
        let want = if want == 0 { ALLOW.3 } else { refuse(want).3 };
        assert_eq!(judge(&program(affinity), ARCH, number, arguments).0, want, "{call}");
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
        for family in [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6] {
            check(true, libc::SYS_socket, [bits(family), 0, 0], 0);
        }
        check(true, libc::SYS_socket, [bits(libc::AF_NETLINK), 0, 0], 0);
        check(true, libc::SYS_socket, [bits(libc::AF_NETLINK), 0, 9], libc::EAFNOSUPPORT);
        check(true, libc::SYS_socket, [bits(libc::AF_VSOCK), 0, 0], libc::EAFNOSUPPORT);
        check(true, libc::SYS_sched_setaffinity, [0; 3], 0);
        check(false, libc::SYS_sched_setaffinity, [0; 3], libc::EPERM);
        check(false, libc::SYS_sched_getaffinity, [0; 3], 0);
    }
}
