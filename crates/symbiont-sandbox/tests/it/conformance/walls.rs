//! What can't be reached, tried from inside.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use symbiont_sandbox::{Command, TerminalSize};
use tokio::io::AsyncReadExt;

use super::place::{Ground, Kind, NotHere, Told, grouped, how, output};
use crate::marker;

/// What the probe says, one answer after the other.
async fn probed(ground: &Ground, words: &[&str]) -> Told {
    let place = ground.place().await?;
    let told = place.probe(words).await;
    place.end().await;
    Ok(told.replace('\n', ", "))
}

/// The same by answers.
async fn answers(ground: &Ground, words: &[&str]) -> Told {
    let place = ground.place().await?;
    let told = grouped(&place.probe(words).await);
    place.end().await;
    Ok(told)
}

pub(super) async fn case_21_the_environment_of_the_host(ground: &Ground) -> Told {
    assert!(std::env::vars().any(|(name, _)| name.starts_with("CARGO_")), "the canary");
    probed(ground, &["environment"]).await
}

pub(super) async fn case_31_files_that_command_the_kernel(ground: &Ground) -> Told {
    #[rustfmt::skip]
    let files = [
        "write", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/vm/drop_caches",
        "/proc/sysrq-trigger", "/sys/kernel/uevent_helper", "/sys/fs/cgroup/release_agent",
        "/sys/fs/cgroup/memory/release_agent", "/sys/power/state",
    ];
    answers(ground, &files).await
}

pub(super) async fn case_32_other_roots_and_namespaces(ground: &Ground) -> Told {
    #[rustfmt::skip]
    let calls = [
        "calls", "mount", "umount2", "pivot_root", "chroot", "unshare", "setns", "clone_newuser", "fsopen",
        "open_tree", "move_mount", "mount_setattr", "name_to_handle_at", "open_by_handle_at", "mknod",
    ];
    answers(ground, &calls).await
}

pub(super) async fn case_33_doors_of_the_kernel(ground: &Ground) -> Told {
    #[rustfmt::skip]
    let calls = [
        "calls", "io_uring_setup", "bpf", "userfaultfd", "keyctl", "add_key", "request_key",
        "perf_event_open", "ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp",
        "init_module", "finit_module", "delete_module", "kexec_load", "reboot", "swapon", "syslog", "acct",
        "quotactl", "fanotify_init", "memfd_secret", "personality", "clone3", "unknown",
    ];
    answers(ground, &calls).await
}

pub(super) async fn case_34_other_interfaces_of_the_kernel(ground: &Ground) -> Told {
    if cfg!(not(target_arch = "x86_64")) {
        return Err(NotHere("this processor has no other interfaces".to_owned()));
    }
    probed(ground, &["interfaces"]).await
}

pub(super) async fn case_35_the_guest_itself(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let files = ["environ", "mem", "maps", "fd/0", "exe", "cwd/x", "root/etc/passwd"];
    let files = files.map(|name| format!("/proc/1/{name}"));
    let words: Vec<&str> = ["read"].into_iter().chain(files.iter().map(String::as_str)).collect();
    let told = grouped(&place.probe(&words).await);
    place.end().await;
    Ok(told)
}

pub(super) async fn case_36_a_program_that_is_roots(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let who = format!("./suid {} who", place.token);
    let told = place.shell(&format!("cp probe suid && chmod 6755 suid && {who}")).await;
    // Which error it is depends on whether there is such a user in its namespace.
    let set = place.probe(&["calls", "setuid"]).await;
    let refused = ["setuid EPERM", "setuid EINVAL"].contains(&set.as_str());
    let su = place.shell("su -c id root </dev/null >/dev/null 2>&1 && echo root || echo no").await;
    place.end().await;
    Ok(format!("{told}; setuid refused: {refused}; su: {su}"))
}

pub(super) async fn case_37_typing_for_others(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let without = place.probe(&["type"]).await;
    let terminal = Some(TerminalSize { rows: 24, columns: 80 });
    let with = output(&place.exec(Command { terminal, ..place.command(&["type"]) }).await);
    place.end().await;
    Ok(format!("without a terminal: {without}; at one: {with}"))
}

pub(super) async fn case_38_what_is_open(ground: &Ground) -> Told {
    probed(ground, &["open"]).await
}

pub(super) async fn case_40_what_the_host_has(ground: &Ground) -> Told {
    let place = ground.place().await?;
    #[rustfmt::skip]
    let places = [
        "there", "/etc/ssl/private", "/root", "/root/.ssh", "/home", "/etc/shadow", "/etc/ssh", "/var/run/docker.sock",
        "/run/docker.sock", "/run", "/var", "/sys", "/boot", "/oldroot", "/dev/sda", "/dev/vda", "/dev/kmsg",
        "/dev/mem", "/dev/kvm", "/dev/fuse", "/.dockerenv", "/proc/kcore", "/proc/kallsyms", "/proc/keys",
    ];
    let told = grouped(&place.probe(&places).await);
    let processes = place.probe(&["processes"]).await;
    place.end().await;
    Ok(format!("{told}; processes: {processes}"))
}

pub(super) async fn case_41_sockets_and_processes_of_the_host(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let name = marker();
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listens = UnixListener::bind_addr(&address).unwrap();
    let met = place.probe(&["meet", &name]).await;
    let ours = std::process::id().to_string();
    let killed = place.probe(&["kill", &ours]).await.replace(&ours, "its number");
    place.end().await;
    Ok(format!("{met}; {killed}"))
}

pub(super) async fn case_42_two_sandboxes(ground: &Ground) -> Told {
    let (one, other) = (ground.place().await?, ground.place().await?);
    let name = marker();
    assert_eq!(one.shell(&format!("touch /tmp/{name} /dev/shm/{name} {name}")).await, "");
    let mut listens = one.spawn(one.command(&["listen", &name])).await.unwrap();
    let mut ready = [0; 6];
    listens.stdout.as_mut().unwrap().read_exact(&mut ready).await.unwrap();
    let files = [format!("/tmp/{name}"), format!("/dev/shm/{name}"), format!("/workspace/{name}")];
    let words: Vec<&str> = ["there"].into_iter().chain(files.iter().map(String::as_str)).collect();
    let there = other.probe(&words).await;
    let there = grouped(&there).replace(&name, "file");
    let met = other.probe(&["meet", &name]).await;
    let processes = other.probe(&["processes"]).await;
    one.end().await;
    let lost = how(&listens.wait().await);
    let next = how(&other.exec(Command::new("true")).await);
    other.end().await;
    Ok(format!(
        "{there}; a socket: {met}; processes: {processes}; one goes, its command: {lost}, \
         the other sandbox: {next}"
    ))
}

pub(super) async fn case_43_no_network(ground: &Ground) -> Told {
    answers(ground, &["network"]).await
}

pub(super) async fn case_52_the_guest_listens_nowhere(ground: &Ground) -> Told {
    probed(ground, &["listeners"]).await
}

pub(super) async fn case_101_kinds_of_sockets(ground: &Ground) -> Told {
    answers(ground, &["families"]).await
}

pub(super) async fn case_127_what_all_of_the_host_shares(ground: &Ground) -> Told {
    answers(ground, &["shared"]).await
}

pub(super) async fn case_111_clocks_and_names(ground: &Ground) -> Told {
    let calls =
        ["calls", "settimeofday", "clock_settime", "adjtimex", "sethostname", "setdomainname"];
    answers(ground, &calls).await
}

pub(super) async fn case_112_its_own_program(ground: &Ground) -> Told {
    let place = ground.place().await?;
    // Of a program that runs, and of one that the host has.
    let own = place.probe(&["write", "/proc/self/exe"]).await;
    let shell = place.shell("(echo x > /proc/self/exe) 2>/dev/null || echo refused").await;
    place.end().await;
    Ok(format!("{own}; of a shell: {shell}"))
}

pub(super) async fn case_113_what_is_sealed(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let script = "for d in / /bin /usr /etc /lib /dev /proc; do (: > $d/new) 2>/dev/null && echo $d; done; \
                  for f in /etc/passwd /etc/hosts /bin/sh; do (: >> $f) 2>/dev/null && echo $f; done; \
                  for d in /workspace /tmp /dev/shm; do : > $d/new && echo $d can be written; done";
    let told = place.shell(script).await;
    place.end().await;
    Ok(told.replace('\n', ", "))
}

pub(super) async fn case_114_signals_as_a_new_program_has_them(ground: &Ground) -> Told {
    probed(ground, &["signals"]).await
}

pub(super) async fn case_115_commands_of_one_sandbox(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let secret = marker();
    let env = vec![("SECRET".into(), secret.clone().into())];
    let held = Command { env, ..place.command(&["hold", "lock"]) };
    let mut held = place.spawn(held).await.unwrap();
    let mut said = [0; 5];
    held.stdout.as_mut().unwrap().read_exact(&mut said).await.unwrap();
    let processes = place.probe(&["processes"]).await;
    let read = place.shell("cat /proc/[0-9]*/environ 2>/dev/null").await.contains(&secret);
    drop(held);
    place.end().await;
    Ok(format!("others: {processes}, the other's environment is read: {read}"))
}

pub(super) async fn case_117_its_own_number(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let told = place
        .shell("read n rest < /proc/self/stat; test $n = $$ && echo its own || echo another")
        .await;
    let own = place.shell("test -d /proc/self/fd && echo there").await;
    place.end().await;
    Ok(format!("in /proc: {told}; /proc/self: {own}"))
}

pub(super) async fn case_118_devices(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let told = place.shell("cd /dev && echo *").await;
    let work = "echo x > /dev/null && head -c 4 /dev/zero | wc -c && head -c 4 /dev/urandom | wc -c && \
                (echo x > /dev/full) 2>/dev/null || echo full";
    let work = place.shell(work).await.replace('\n', " ");
    place.end().await;
    Ok(format!("{told}; {work}"))
}

pub(super) async fn case_124_what_a_sandbox_says_of_itself(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let report = place.report();
    let limits = ["memory", "processes", "processor"];
    if report.limits.len() < limits.len() {
        return Err(NotHere("there are not all control groups here".to_owned()));
    }
    let limits = limits.map(|limit| report.limits.iter().any(|line| line.starts_with(limit)));
    place.end().await;
    Ok(format!(
        "{}, network {}, no new privileges {}, no capability {}, a system call filter {}, limits {limits:?}",
        report.driver,
        report.network,
        report.no_new_privileges,
        report.capabilities_dropped,
        report.seccomp.is_some(),
    ))
}

pub(super) async fn case_125_ls_and_stat(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let told = place.shell("ls -d /workspace && stat -c %F /workspace").await;
    let works = told == "/workspace\ndirectory";
    let denied = place.report().degraded.iter().any(|line| line.starts_with("programs: "));
    place.end().await;
    if ground.kind == Kind::Gvisor && works && !denied {
        return Err(NotHere(
            "this `runsc` is newer than the one that has no such calls".to_owned(),
        ));
    }
    Ok(format!("they work: {works}, the report says that they do not: {denied}"))
}
