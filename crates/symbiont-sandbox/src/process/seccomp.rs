//! The system calls that no program in a sandbox may make.
//!
//! What is refused widens what a program can reach in the kernel and is of no use to it here. The
//! library's filters have one answer each, so what is answered otherwise is in one written by hand;
//! each filter costs every command some time.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// Calls of the table that are refused whatever their arguments are.
#[rustfmt::skip]
const DENIED: &[i64] = &[
    libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register,
    libc::SYS_bpf, libc::SYS_perf_event_open, libc::SYS_userfaultfd,
    libc::SYS_keyctl, libc::SYS_add_key, libc::SYS_request_key,
    libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev, libc::SYS_kcmp,
    libc::SYS_pidfd_getfd, libc::SYS_process_madvise,
    libc::SYS_mount, libc::SYS_umount2, libc::SYS_fsopen, libc::SYS_fsconfig, libc::SYS_fsmount,
    libc::SYS_fspick, libc::SYS_open_tree, libc::SYS_move_mount, libc::SYS_mount_setattr,
    libc::SYS_unshare, libc::SYS_setns, libc::SYS_pivot_root, libc::SYS_chroot,
    libc::SYS_open_by_handle_at, libc::SYS_name_to_handle_at,
    libc::SYS_kexec_load, libc::SYS_kexec_file_load,
    libc::SYS_init_module, libc::SYS_finit_module, libc::SYS_delete_module,
    libc::SYS_reboot, libc::SYS_swapon, libc::SYS_swapoff, libc::SYS_syslog, libc::SYS_acct,
    libc::SYS_quotactl, libc::SYS_quotactl_fd, libc::SYS_memfd_secret,
    libc::SYS_settimeofday, libc::SYS_clock_settime, libc::SYS_clock_adjtime, libc::SYS_adjtimex,
    libc::SYS_fanotify_init, libc::SYS_lookup_dcookie, libc::SYS_vhangup, libc::SYS_nfsservctl,
    libc::SYS_move_pages, libc::SYS_migrate_pages, libc::SYS_mbind, libc::SYS_set_mempolicy,
    libc::SYS_sethostname, libc::SYS_setdomainname,
];

/// Calls that only this architecture has.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const DENIED_HERE: &[i64] = &[
    libc::SYS_modify_ldt, libc::SYS_iopl, libc::SYS_ioperm, libc::SYS__sysctl, libc::SYS_uselib,
    libc::SYS_ustat, libc::SYS_sysfs,
];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_HERE: &[i64] = &[];

/// The highest number that this table was written for; above it calls do not exist.
const LAST_KNOWN: u32 = 462;

#[cfg(target_arch = "x86_64")]
const ARCH: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCH: TargetArch = TargetArch::aarch64;

/// What the filters do, in a line.
pub(crate) const SUMMARY: &str =
    "deny list 1: kernel interfaces, mounts, namespaces, tracing, foreign architectures";

/// The filters, each an array of `sock_filter` in bytes.
pub(crate) fn filters() -> Result<Vec<Vec<u8>>, String> {
    let compile = |rules: Vec<(i64, Vec<SeccompRule>)>, errno: i32| -> Result<Vec<u8>, String> {
        let filter = SeccompFilter::new(
            rules.into_iter().collect::<BTreeMap<_, _>>(),
            SeccompAction::Allow,
            SeccompAction::Errno(errno.cast_unsigned()),
            ARCH,
        );
        let program: BpfProgram =
            filter.and_then(TryInto::try_into).map_err(|error| error.to_string())?;
        let mut bytes = Vec::with_capacity(program.len() * 8);
        for instruction in program {
            bytes.extend(instruction.code.to_ne_bytes());
            bytes.extend([instruction.jt, instruction.jf]);
            bytes.extend(instruction.k.to_ne_bytes());
        }
        Ok(bytes)
    };
    Ok(vec![compile(refused().map_err(|e| e.to_string())?, libc::EPERM)?, rest()])
}

fn refused() -> Result<Vec<(i64, Vec<SeccompRule>)>, seccompiler::BackendError> {
    let mut rules: Vec<(i64, Vec<SeccompRule>)> =
        DENIED.iter().chain(DENIED_HERE).map(|&number| (number, Vec::new())).collect();
    let namespaces = libc::CLONE_NEWUSER
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWCGROUP;
    let mut any_namespace = Vec::new();
    for bit in (0..32).map(|n| 1_u32 << n).filter(|bit| namespaces.cast_unsigned() & bit != 0) {
        any_namespace.push(rule(&[(0, SeccompCmpOp::MaskedEq(bit.into()), bit.into())])?);
    }
    rules.push((libc::SYS_clone, any_namespace));
    let listener = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    rules
        .push((libc::SYS_seccomp, vec![rule(&[(1, SeccompCmpOp::MaskedEq(listener), listener)])?]));
    // Pushing characters into a terminal's input.
    let pushes = [libc::TIOCSTI, libc::TIOCLINUX];
    let pushes = pushes.map(|request| rule(&[(1, SeccompCmpOp::Eq, request)]));
    rules.push((libc::SYS_ioctl, pushes.into_iter().collect::<Result<_, _>>()?));
    // Only asking, and the ordinary one.
    let others = [(0, SeccompCmpOp::Ne, 0), (0, SeccompCmpOp::Ne, 0xffff_ffff)];
    rules.push((libc::SYS_personality, vec![rule(&others)?]));
    Ok(rules)
}

/// A rule that applies where all of these arguments are so.
fn rule(conditions: &[(u8, SeccompCmpOp, u64)]) -> Result<SeccompRule, seccompiler::BackendError> {
    let conditions = conditions.iter().map(|(index, operator, value)| {
        SeccompCondition::new(*index, SeccompCmpArgLen::Dword, operator.clone(), *value)
    });
    SeccompRule::new(conditions.collect::<Result<_, _>>()?)
}

/// What is answered otherwise than with a plain refusal.
///
/// Calls above the table do not exist, and those of the x32 interface end the process. Neither
/// does `clone3`: the C library falls back to `clone`, whose flags a filter can see. Sockets are
/// those between processes and for the internet. Foreign architectures are the other filter's.
fn rest() -> Vec<u8> {
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const JUMP_IF_GE: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const X32: u32 = 0x4000_0000;
    // Where `seccomp_data` has the number, and the lower halves of two arguments.
    const NUMBER: u32 = 0;
    const FAMILY: u32 = 16;
    const PROTOCOL: u32 = 32;
    let number = |call: i64| u32::try_from(call).unwrap_or(u32::MAX);
    let family = |family: i32| family.cast_unsigned();
    let errno = |errno: i32| libc::SECCOMP_RET_ERRNO | errno.cast_unsigned();
    // Jumps count the instructions that are left out.
    let instructions: [(u16, u8, u8, u32); 16] = [
        (LOAD, 0, 0, NUMBER),
        (JUMP_IF_GE, 13, 0, X32),
        (JUMP_IF_GE, 11, 0, LAST_KNOWN + 1),
        (JUMP_IF_EQUAL, 10, 0, number(libc::SYS_clone3)),
        (JUMP_IF_EQUAL, 0, 7, number(libc::SYS_socket)),
        (LOAD, 0, 0, FAMILY),
        (JUMP_IF_EQUAL, 5, 0, family(libc::AF_UNIX)),
        (JUMP_IF_EQUAL, 4, 0, family(libc::AF_INET)),
        (JUMP_IF_EQUAL, 3, 0, family(libc::AF_INET6)),
        (JUMP_IF_EQUAL, 0, 3, family(libc::AF_NETLINK)),
        (LOAD, 0, 0, PROTOCOL),
        (JUMP_IF_EQUAL, 0, 1, family(libc::NETLINK_ROUTE)),
        (RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
        (RETURN, 0, 0, errno(libc::EAFNOSUPPORT)),
        (RETURN, 0, 0, errno(libc::ENOSYS)),
        (RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
    ];
    let mut bytes = Vec::new();
    for (code, if_true, if_false, value) in instructions {
        bytes.extend(code.to_ne_bytes());
        bytes.extend([if_true, if_false]);
        bytes.extend(value.to_ne_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_compile_to_whole_instructions() {
        let filters = filters().unwrap();
        assert_eq!(filters.len(), 2);
        for filter in filters {
            assert!(!filter.is_empty() && filter.len().is_multiple_of(8), "{}", filter.len());
            assert!(filter.len() / 8 <= 4096, "the kernel takes no more");
        }
    }
}
