//! What every driver must hold: one table, in which each case is written once.
//!
//! A case tries something in a sandbox and says what came of it. The table says what must have come
//! of it, for each driver in the same words where the drivers are the same; it is what the crate's
//! README shows. The numbers below 100 are those of the design, the others follow in its spirit.

mod files;
mod limits;
mod noise;
mod output;
mod place;
mod states;
mod time;
mod walls;

pub(crate) use place::probe_program;
use place::{Ground, Kind, NotHere, Told};

/// A case that is tried here.
struct Row {
    name: &'static str,
    what: &'static str,
    /// What must come of it, by the drivers that it is tried with.
    wants: &'static [(&'static str, &'static str)],
}

/// A case of the design that is not tried here.
struct Elsewhere {
    number: u32,
    what: &'static str,
    /// Why not, or where.
    why: &'static str,
    /// The tests that show it.
    tests: &'static [&'static str],
}

#[track_caller]
fn check(kind: &str, name: &str, case: impl AsyncFnOnce(&Ground) -> Told) {
    let row = TABLE.iter().find(|row| row.name == name).unwrap();
    let (_, want) = row.wants.iter().find(|(driver, _)| *driver == kind).unwrap();
    let told = crate::run(async {
        let ground = Ground::of(Kind::named(kind)).await?;
        case(&ground).await
    });
    match told {
        Ok(told) => assert_eq!(told, *want),
        Err(NotHere(why)) => eprintln!("not run: {why}"),
    }
}

macro_rules! table {
    ($($file:ident::$case:ident $what:literal $($driver:ident $want:literal)+;)*) => {
        const TABLE: &[Row] = &[$(Row {
            name: stringify!($case),
            what: $what,
            wants: wants!($($driver $want)+),
        }),*];
        $(mod $case { tests!($file $case $($driver $want)+); })*
    };
}

macro_rules! wants {
    (all $want:literal) => { &[("process", $want), ("docker", $want), ("gvisor", $want)] };
    ($($driver:ident $want:literal)+) => { &[$((stringify!($driver), $want)),+] };
}

macro_rules! tests {
    ($file:ident $case:ident all $want:literal) => {
        tests!($file $case process $want docker $want gvisor $want);
    };
    ($file:ident $case:ident $($driver:ident $want:literal)+) => {
        $(#[test]
        fn $driver() {
            super::check(stringify!($driver), stringify!($case), super::$file::$case);
        })+
    };
}

table! {
    time::case_01_a_minute_in_a_second "`sleep 60` with a second to run"
        all "timed out, in time";
    time::case_02_a_daemon_with_nothing_open "a daemon (two forks, a session of its own, nothing open) beside a command whose time ends"
        all "timed out after it had begun: true, nothing is left";
    time::case_03_a_command_that_takes_no_signal "a command that blocks every signal, at the end of its time"
        all "timed out, nothing is left";
    time::case_04_a_fork_bomb "a fork bomb, killed when it gets no more"
        all "fork EAGAIN, then signal 9; the next: exit 0; gone in time";
    time::case_05_a_command_that_stops_itself "a command and its child that stop themselves, at the end of their time"
        all "timed out, nothing is left";
    time::case_06_a_child_that_keeps_the_output "a command that ends and leaves a child with its output"
        all "exit 0 at once, nothing is left";
    time::case_07_a_caller_that_gives_up "callers that give up their commands"
        all "nothing is left, 32 of 32 places are free";
    output::case_08_a_gibibyte_of_output "1 GiB of output, then exit 7"
        all "exit 7, 1000 bytes kept with both ends: true, truncated: true, the host grew by less than 8 MiB: true";
    output::case_09_bytes_one_by_one "100,000 single bytes to each of both streams in turn"
        all "exit 0, each stream in its order: true";
    output::case_10_a_line_of_ten_mebibytes "10 MiB without a line's end, with NUL, ESC and what is no UTF-8"
        all "exit 0, the same bytes: true";
    output::case_11_input_that_nobody_reads "64 MiB of input for a command that reads none"
        all "timed out, no copy of it is made: true";
    output::case_12_input_that_is_closed "input for commands that close it early"
        all "exit 0, exit 0, exit 0";
    limits::case_13_twice_the_memory "a command that takes twice the memory that there is"
        process "out of memory, counted: true; the next: exit 0; the sandbox runs on"
        docker "out of memory, counted: true; the next: exit 0; the sandbox runs on"
        gvisor "out of memory, counted: true; the next: InvalidState; the sandbox has failed for lack of memory: true";
    limits::case_14_all_room_for_files "files that take all room"
        all "/workspace: ENOSPC inside, StorageFull from outside, nothing half: true, then ok; /tmp: ENOSPC inside, StorageFull from outside, nothing half: true, then ok";
    files::case_15_a_file_of_a_tebibyte "a file of a tebibyte with nothing in it, copied out"
        all "TransferTooLarge TransferTooLarge at once: true, a file here: false";
    limits::case_16_a_hundred_thousand_descriptors "100,000 open files"
        all "EMFILE; the next: exit 0";
    limits::case_17_four_threads_and_one_core "four threads that compute, and one core"
        all "exit 0, at most 1.15 cores: true";
    limits::case_18_as_many_processors_as_there_are "`nproc` with half a core"
        all "1";
    limits::case_19_commands_that_can_not_be "an empty program, NUL, too much, `=` in a name, variables that load code, no time"
        all "14 of 14 InvalidArgument, anything started: false";
    limits::case_20_a_value_with_everything_in_it "a variable with a line's end, quotes and escapes"
        all "intact: true";
    walls::case_21_the_environment_of_the_host "the environment, here and of every process that is seen"
        all "HOME LANG PATH TMPDIR";
    files::case_22_paths_that_climb "files written to paths that climb, and to names that only look so"
        all r#""../x" PathForbidden, "/etc/passwd" PathForbidden, "a/../../x" PathForbidden, "/workspacex/y" PathForbidden, "a\0b" PathForbidden, "" PathForbidden, "..\\x" ok, "%2e%2e/x" ok"#;
    files::case_23_a_link_on_the_way_in "files written through links"
        all "PathForbidden PathForbidden PathForbidden PathForbidden; /etc is as it was: true, and so is what was there: plain";
    files::case_24_links_on_the_way_out "files copied out through links: out, up, in chains and loops"
        all "out: it leads out of /workspace and /tmp; up: it leads out of /workspace and /tmp; chain: it leads out of /workspace and /tmp; directory/passwd: it leads out of /workspace and /tmp; loop: a link in it is not followed; near: followed; near by one name: a link in it is not followed; hard by one name: the file has another name as well (a hard link)";
    files::case_25_what_is_no_file "pipes, sockets, devices and directories copied out and in"
        all "fifo NotRegular, socket NotRegular, directory NotRegular, /dev/zero PathForbidden, zero PathForbidden, into fifo NotRegular, into socket NotRegular, into directory NotRegular";
    files::case_26_a_mode_that_gives_rights "a file written with mode 06777"
        all "777, the command's own: true";
    files::case_27_a_caller_that_goes_half_way "an upload whose caller goes half way"
        all "cut off: true, left: []";
    files::case_28_another_size_than_was_said "files of the host that have more or less in them than they say"
        all "more: InvalidArgument, less: InvalidArgument, left: []";
    walls::case_31_files_that_command_the_kernel "core_pattern, sysrq-trigger, release_agent and the like, written to"
        all "ENOENT: /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sys/vm/drop_caches /proc/sysrq-trigger /sys/kernel/uevent_helper /sys/fs/cgroup/release_agent /sys/fs/cgroup/memory/release_agent /sys/power/state";
    walls::case_32_other_roots_and_namespaces "mounts, other roots and namespaces, devices"
        process "EPERM: mount umount2 pivot_root chroot unshare setns clone_newuser fsopen open_tree move_mount mount_setattr name_to_handle_at open_by_handle_at mknod"
        docker "EPERM: mount umount2 pivot_root chroot unshare setns clone_newuser fsopen open_tree move_mount mount_setattr name_to_handle_at open_by_handle_at mknod"
        gvisor "EPERM: mount umount2 pivot_root chroot unshare setns clone_newuser fsopen open_tree move_mount mount_setattr name_to_handle_at open_by_handle_at mknod";
    walls::case_33_doors_of_the_kernel "io_uring, bpf, userfaultfd, keys, tracing, other memory, modules, a call that does not exist"
        all "ENOSYS: clone3 unknown; EPERM: io_uring_setup bpf userfaultfd keyctl add_key request_key perf_event_open ptrace process_vm_readv process_vm_writev pidfd_getfd kcmp init_module finit_module delete_module kexec_load reboot swapon syslog acct quotactl fanotify_init memfd_secret personality";
    walls::case_34_other_interfaces_of_the_kernel "calls by the i386 and x32 interfaces"
        process "i386 signal 31, x32 signal 31"
        docker "i386 signal 31, x32 signal 31"
        gvisor "i386 refused, x32 signal 31";
    walls::case_35_the_guest_itself "what /proc tells of the first process"
        process "ENOENT: /proc/1/environ /proc/1/mem /proc/1/maps /proc/1/fd/0 /proc/1/exe /proc/1/cwd/x /proc/1/root/etc/passwd"
        docker "ENOENT: /proc/1/environ /proc/1/mem /proc/1/maps /proc/1/fd/0 /proc/1/exe /proc/1/cwd/x /proc/1/root/etc/passwd"
        gvisor "EACCES: /proc/1/environ /proc/1/mem /proc/1/maps /proc/1/fd/0 /proc/1/exe /proc/1/cwd/x /proc/1/root/etc/passwd";
    walls::case_36_a_program_that_is_roots "a program with setuid and setgid, the call itself, and `su`"
        all "1000 1000 1000, no capability, no new privileges 1; setuid refused: true; su: no";
    walls::case_37_typing_for_others "TIOCSTI, without a terminal and at one"
        process "without a terminal: /dev/tty ENXIO; at one: /dev/tty EPERM"
        docker "without a terminal: /dev/tty ENXIO; at one: /dev/tty EPERM"
        gvisor "without a terminal: /dev/tty EIO; at one: /dev/tty EIO";
    walls::case_38_what_is_open "descriptors that a command starts with"
        all "0 1 2";
    files::case_39_where_a_command_starts "commands that are to start in what a process has open, or nowhere"
        all "12 refused; a link to a directory: /workspace/d";
    walls::case_40_what_the_host_has "shadow, keys, the engine's socket, disks, other processes"
        process "ENOENT: /etc/ssl/private /root /root/.ssh /home /etc/shadow /etc/ssh /var/run/docker.sock /run/docker.sock /run /var /sys /boot /oldroot /dev/sda /dev/vda /dev/kmsg /dev/mem /dev/kvm /dev/fuse /.dockerenv /proc/kcore /proc/kallsyms /proc/keys; processes: none"
        docker "ENOENT: /etc/ssl/private /root /root/.ssh /home /etc/shadow /etc/ssh /var/run/docker.sock /run/docker.sock /run /var /sys /boot /oldroot /dev/sda /dev/vda /dev/kmsg /dev/mem /dev/kvm /dev/fuse /.dockerenv /proc/kcore /proc/kallsyms /proc/keys; processes: none"
        gvisor "ENOENT: /etc/ssl/private /root /root/.ssh /home /etc/shadow /etc/ssh /var/run/docker.sock /run/docker.sock /run /var /boot /oldroot /dev/sda /dev/vda /dev/kmsg /dev/mem /dev/kvm /.dockerenv /proc/kcore /proc/kallsyms /proc/keys; ok: /sys /dev/fuse; processes: .symbiont-guest";
    walls::case_41_sockets_and_processes_of_the_host "a socket that the host listens at, and a process of the host"
        all "ECONNREFUSED; its number ESRCH";
    walls::case_42_two_sandboxes "another sandbox: its files, sockets and processes, and its end"
        process "ENOENT: /tmp/file /dev/shm/file /workspace/file; a socket: ECONNREFUSED; processes: none; one goes, its command: AgentLost, the other sandbox: exit 0"
        docker "ENOENT: /tmp/file /dev/shm/file /workspace/file; a socket: ECONNREFUSED; processes: none; one goes, its command: AgentLost, the other sandbox: exit 0"
        gvisor "ENOENT: /tmp/file /dev/shm/file /workspace/file; a socket: ECONNREFUSED; processes: .symbiont-guest; one goes, its command: AgentLost, the other sandbox: exit 0";
    walls::case_43_no_network "TCP, UDP, broadcast, DNS, IPv6, ICMP and the metadata address"
        process "EADDRNOTAVAIL: [2606:4700::1111]:80 [2001:4860:4860::8888]:53; ENETUNREACH: 1.1.1.1:80 169.254.169.254:80 10.0.0.1:22 8.8.8.8:53 255.255.255.255:67; EPROTONOSUPPORT: icmp; true: in time; up: nothing"
        docker "EADDRNOTAVAIL: [2606:4700::1111]:80 [2001:4860:4860::8888]:53; ENETUNREACH: 1.1.1.1:80 169.254.169.254:80 10.0.0.1:22 8.8.8.8:53 255.255.255.255:67; EPROTONOSUPPORT: icmp; true: in time; up: nothing"
        gvisor "EHOSTUNREACH: 1.1.1.1:80 169.254.169.254:80 10.0.0.1:22 [2606:4700::1111]:80 8.8.8.8:53 [2001:4860:4860::8888]:53; ENETUNREACH: 255.255.255.255:67; EPROTONOSUPPORT: icmp; true: in time; up: lo";
    walls::case_52_the_guest_listens_nowhere "what listens, and whose descriptors can be looked at"
        all "0 sockets";
    time::case_58_what_it_is_made_of_goes "a container removed behind our back, an image deleted"
        docker "Lost, a command: InvalidState; its image goes: made again; the image's base goes: ImageMissing";
    time::case_64_a_command_in_every_state "a command for a sandbox in every state"
        all "created InvalidState, running exit 0, stopped InvalidState, what ran signal 9, again exit 0 with its files, destroyed InvalidState";
    time::case_65_a_pause "commands and files while paused, a command whose time ends then, and an end while paused"
        all "paused: InvalidState InvalidState InvalidState; the command whose time was up meanwhile: timed out; destroyed while paused: gone in time";
    states::case_70_a_set_up_that_fails_at_each_step "a call of the kernel that fails, for each that the set-up needs"
        process "CreateFailed, at open_tree: open `/usr` of the host; mount_setattr: open `/usr` of the host; fsopen: make the root; fsconfig: make the root; fsmount: make the root; move_mount: attach the root; mount: make mounts private; pivot_root: change the root; umount2: detach the host's root; sethostname: name the host; setresuid: make the namespaces; setresgid: become the agent; capset: drop capabilities";
    files::case_72_names_of_all_kinds "files of every kind of name there and back: emoji, spaces, a line's end, 255 bytes"
        all "10 names there and back; one of 256 bytes: PathForbidden";
    walls::case_101_kinds_of_sockets "sockets of every family"
        all "EAFNOSUPPORT: netlink-audit packet alg vsock bluetooth can tipc two-inet two-tipc two-vsock; EPROTONOSUPPORT: mptcp sctp sctp-packets dccp udp-lite raw tcp-datagrams l2tp mptcp6 raw6; ok: unix inet inet6 netlink-route tcp udp udp6 two-unix";
    walls::case_127_what_all_of_the_host_shares "requests that load a module, huge pages, slots of asynchronous work, filters, lists of rights"
        all "ENOMEM: MAP_HUGETLB MFD_HUGETLB SHM_HUGETLB; ENOPROTOOPT: TCP_AO_ADD_KEY; ENOSYS: io_setup; EOPNOTSUPP: setxattr; EPERM: SIOCGIFBR SIOCGIFVLAN SIOCADDDLCI SIOCBRADDBR TIOCSETD TIOCSETD-with-more SO_ATTACH_FILTER";
    limits::case_128_what_commands_leave_in_the_kernel "commands that leave 32 MiB of shared memory, queues and semaphores"
        process "12 times EACCES: queue; ok: memory messages semaphores; the next: ate 64; the sandbox runs on: true"
        docker "12 times EACCES: queue; ok: memory messages semaphores; the next: ate 64; the sandbox runs on: true"
        gvisor "12 times ok: memory messages semaphores queue; the next: ate 64; the sandbox runs on: true";
    limits::case_129_memory_that_has_no_process "commands that take all memory as shared memory of System V"
        process "5 times out of memory, the next: ate 64; the sandbox runs on: true"
        docker "5 times out of memory, the next: ate 64; the sandbox runs on: true";
    limits::case_133_as_many_files_as_there_may_be "as many files as there may be, with long names, and all room filled"
        process "made; ENOSPC ENOSPC ENOSPC; the next: ate 1; the sandbox runs on: true"
        docker "made; ENOSPC ENOSPC ENOSPC; the next: ate 1; the sandbox runs on: true";
    limits::case_130_accounts_of_who_made_it "instances of inotify and signals that wait, which a user of the host has so many of, and core dumps"
        process "an eighth of the host's: true, the report denies it: false; 4,096 signals: true EAGAIN; Max core file size 1 1 bytes"
        docker "an eighth of the host's: true, the report denies it: false; 4,096 signals: true EAGAIN; Max core file size 1 1 bytes";
    files::case_131_what_is_beside_an_upload "files and directories that are called as an upload's beginning was"
        all "file ok, directory ok, left: 400";
    files::case_132_who_takes_the_place_of_an_upload "a command that puts its own file in the place of uploads"
        all "its own content or an error, 100 times";
    files::case_102_a_directory_that_becomes_a_link "files read and written while a directory on the way becomes a link to /etc and back"
        all "its own file or PathForbidden, nothing in /etc: true";
    files::case_103_two_thousand_directories_deep "2,000 directories in each other"
        all "made; stat ok, write ok, remove PathForbidden; the next: exit 0";
    files::case_104_more_names_than_are_listed "5,000 names in a directory that is listed"
        all "ResourceLimit, still a directory: true; the next: exit 0";
    time::case_105_a_command_that_kills_all_it_can "a command that kills the guest, and everyone"
        all "1 EPERM, -1 ESRCH; another command's lock is held";
    time::case_106_children_that_nobody_waits_for "400 children that nobody waits for, orphans among them"
        all "left, the next: fine";
    limits::case_107_one_command_too_many "33 commands at once"
        all "32 run, then ResourceLimit; one exit 0, and the next: exit 0";
    limits::case_108_limits_that_are_to_be_raised "limits of open files and of core dumps, raised"
        all "1024, 0";
    limits::case_109_programs_that_are_none "programs that are missing, a directory, a text, not executable"
        all "none: not found; /workspace/none: not found; /workspace: it can't be executed; ./text: it is no program that this machine can run; ./plain: it can't be executed; ./script: not found";
    files::case_110_files_of_others_by_another_name "links to files of others, and moving them"
        all "tried";
    walls::case_111_clocks_and_names "clocks and the host's name, set"
        all "EPERM: settimeofday clock_settime adjtimex sethostname setdomainname";
    walls::case_112_its_own_program "programs that run, written to by their link in /proc"
        process "/proc/self/exe ETXTBSY; of a shell: refused"
        docker "/proc/self/exe ETXTBSY; of a shell: refused"
        gvisor "/proc/self/exe ok; of a shell: refused";
    walls::case_113_what_is_sealed "files made and changed wherever there is a directory"
        all "/workspace can be written, /tmp can be written, /dev/shm can be written";
    walls::case_114_signals_as_a_new_program_has_them "signals that a command starts with"
        all "blocked 0, changed []";
    walls::case_115_commands_of_one_sandbox "another command of the same sandbox, and its environment"
        process "others: none, the other's environment is read: false"
        docker "others: none, the other's environment is read: false"
        gvisor "others: .symbiont-guest .symbiont-guest probe, the other's environment is read: true";
    output::case_116_how_commands_end "commands that exit, are killed, write, read nothing"
        all "10 commands end as they say";
    walls::case_117_its_own_number "a process's number, in /proc as well"
        process "in /proc: its own; /proc/self: there"
        docker "in /proc: its own; /proc/self: there"
        gvisor "in /proc: another; /proc/self: there";
    walls::case_118_devices "what is in /dev"
        process "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero; 4 4 full"
        docker "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero; 4 4 full"
        gvisor "fd full fuse net null ptmx pts random shm stderr stdin stdout tty urandom zero; 4 4 full";
    output::case_119_a_mebibyte_there_and_back "1 MiB through `cat`"
        all "the same bytes: true";
    time::case_120_a_command_that_ends_when_asked "a command that ends by itself when its time is up"
        all "timed out and said asked";
    files::case_121_what_is_removed "files, links and directories removed, and what must not be"
        all "file ok, link ok, d ok, missing ok, full PathForbidden, way/x PathForbidden, /etc/passwd PathForbidden, ../x PathForbidden; left: full way; an empty file is one: true";
    output::case_122_a_conversation "lines there and back, and a signal"
        all "begun, got it, asked, exit 3";
    output::case_123_a_terminal "a terminal: that it is one, its size, another size, what is typed"
        all "one, 24 80, it, 50 132, got it, exit 0";
    walls::case_124_what_a_sandbox_says_of_itself "the report of what isolates it"
        process "process, network none, no new privileges true, no capability true, a system call filter true, limits [true, true, true]"
        docker "docker, network none, no new privileges true, no capability true, a system call filter true, limits [true, true, true]"
        gvisor "gvisor, network none, no new privileges true, no capability true, a system call filter true, limits [true, true, true]";
    walls::case_125_ls_and_stat "`ls` and `stat` of the userland, which ask a kernel for new calls"
        process "they work: true, the report says that they do not: false"
        docker "they work: true, the report says that they do not: false"
        gvisor "they work: false, the report says that they do not: true";
    output::case_126_what_is_typed_to_end_it "Control-C and the end of the input, typed at a terminal"
        process "Control-C: signal 2; end of the input: exit 0"
        docker "Control-C: signal 2; end of the input: exit 0"
        gvisor "Control-C: timed out; end of the input: timed out";
}

/// Cases of the design that are not tried here.
const ELSEWHERE: &[Elsewhere] = &[
    Elsewhere {
        number: 29,
        what: "a hostile archive of files",
        why: "nothing on the host reads an archive that a sandbox made",
        tests: &[],
    },
    Elsewhere {
        number: 30,
        what: "a hostile image",
        why: "images are the engine's so far",
        tests: &[],
    },
    Elsewhere {
        number: 44,
        what: "cases 44 to 50: the proxy",
        why: "no network is served so far",
        tests: &[],
    },
    Elsewhere {
        number: 51,
        what: "hostile frames",
        why: "by tests of both sides of the connection",
        tests: &[
            "what_nobody_asked_for_ends_the_connection",
            "a_guest_gets_credit_for_what_was_taken_and_sends_no_more",
            "foreign_frames_are_refused_with_what_is_wrong",
            "no_bytes_make_it_panic",
            "no_payload_makes_it_panic",
        ],
    },
    Elsewhere {
        number: 53,
        what: "cases 53 to 56: microVMs and snapshots",
        why: "neither is there so far",
        tests: &[],
    },
    Elsewhere {
        number: 57,
        what: "an engine that stops meanwhile",
        why: "with an engine of its own, which is stopped and started",
        tests: &["engines_go_and_come_back_and_nothing_is_left_in_them"],
    },
    Elsewhere {
        number: 59,
        what: "an engine that tells a process's number as 0, 1 or our own",
        why: "no number of a container's process is ever written to a group: the guest ends commands itself",
        tests: &["we_never_move_ourselves"],
    },
    Elsewhere {
        number: 60,
        what: "a host that is killed",
        why: "at each step, by a test of each driver",
        tests: &[
            "a_host_of_processes_that_is_killed_at_any_step_leaves_nothing",
            "a_host_of_gvisor_that_is_killed_at_any_step_leaves_nothing",
            "engines_go_and_come_back_and_nothing_is_left_in_them",
        ],
    },
    Elsewhere {
        number: 61,
        what: "containers and groups that look like ours",
        why: "by tests of each driver",
        tests: &[
            "nothing_is_left_of_a_destroyed_one_and_others_are_not_touched",
            "only_an_instance_s_own_groups_are_swept",
        ],
    },
    Elsewhere {
        number: 62,
        what: "labels that only we may set",
        why: "nothing that a caller says becomes a label, and an image's are written over",
        tests: &["no_image_says_whose_a_container_is"],
    },
    Elsewhere {
        number: 63,
        what: "two orchestrators with one directory",
        why: "the second is told who holds it",
        tests: &["a_state_directory_has_one_holder"],
    },
    Elsewhere {
        number: 66,
        what: "a snapshot under load",
        why: "there are no snapshots so far",
        tests: &[],
    },
    Elsewhere {
        number: 67,
        what: "a disk that is full",
        why: "with a directory of its own for the records",
        tests: &["a_disk_that_is_full_is_told_and_what_is_there_goes_on"],
    },
    Elsewhere {
        number: 68,
        what: "members of a warm pool",
        why: "there is none so far",
        tests: &[],
    },
    Elsewhere {
        number: 69,
        what: "a host without user namespaces, or with a call hidden",
        why: "by tests that start themselves again on such a host",
        tests: &[
            "without_user_namespaces_nothing_is_made",
            "a_hidden_system_call_is_told",
            "without_landlock_there_is_no_sandbox",
        ],
    },
    Elsewhere {
        number: 71,
        what: "many rounds",
        why: "by tests of each driver, in processes of their own",
        tests: &[
            "of_the_process_driver_leave_nothing",
            "of_the_docker_driver_leave_nothing",
            "of_the_gvisor_driver_leave_nothing",
        ],
    },
];

/// The table as the README shows it.
fn shown() -> String {
    let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
    let mut lines: Vec<(u32, String)> = Vec::new();
    for row in TABLE {
        let (number, _) = row.name["case_".len()..].split_once('_').unwrap();
        let want = |kind: &str| row.wants.iter().find(|(driver, _)| *driver == kind);
        let process = want("process").map(|(_, want)| *want);
        let cells = ["process", "docker", "gvisor"].map(|kind| match want(kind) {
            None => "—".to_owned(),
            Some((_, want)) if kind != "process" && process == Some(want) => "the same".to_owned(),
            Some((_, want)) => cell(want),
        });
        let number: u32 = number.parse().unwrap();
        lines.push((number, format!("| {number} | {} | {} |", cell(row.what), cells.join(" | "))));
    }
    for Elsewhere { number, what, why, tests } in ELSEWHERE {
        let tests: Vec<String> = tests.iter().map(|test| format!("`{test}`")).collect();
        let tests =
            if tests.is_empty() { String::new() } else { format!(": {}", tests.join(", ")) };
        lines.push((
            *number,
            format!("| {number} | {} | *elsewhere*: {}{tests} | | |", cell(what), cell(why)),
        ));
    }
    lines.sort();
    let head =
        "| # | what is tried | process | Docker | gVisor |\n| --- | --- | --- | --- | --- |\n";
    let lines: Vec<String> = lines.into_iter().map(|(_, line)| line).collect();
    format!("{head}{}\n", lines.join("\n"))
}

fn file(path: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// `UPDATE_EXPECT=1` rewrites the table in the README instead.
#[test]
fn the_readme_shows_the_table() {
    const MARKS: [&str; 2] =
        ["<!-- the table of tests/it/conformance.rs -->\n", "<!-- its end -->\n"];
    if std::env::var_os("SYMBIONT_TEST_PROBE").is_some() {
        return; // Another user runs this again, who may not read it.
    }
    let path = file("README.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = text.split_once(MARKS[0]).unwrap();
    let (_, tail) = rest.split_once(MARKS[1]).unwrap();
    let want = format!("{head}{}{}{}{tail}", MARKS[0], shown(), MARKS[1]);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        return std::fs::write(&path, want).unwrap();
    }
    assert!(text == want, "the table in {} differs; UPDATE_EXPECT=1 rewrites it", path.display());
}

/// The names of tests in the table of what is elsewhere and in the threat model are names of tests.
#[test]
fn tests_that_are_named_exist() {
    if std::env::var_os("SYMBIONT_TEST_PROBE").is_some() {
        return;
    }
    let mut sources = String::new();
    for directory in
        ["src", "src/docker", "src/gvisor", "src/process", "tests/it", "../symbiont-guest/src"]
    {
        for entry in std::fs::read_dir(file(directory)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "rs") {
                sources += &std::fs::read_to_string(path).unwrap();
            }
        }
    }
    for test in ELSEWHERE.iter().flat_map(|elsewhere| elsewhere.tests) {
        assert!(sources.contains(&format!("fn {test}(")), "there is no test {test}");
    }
    let model = std::fs::read_to_string(file("../../docs/threat-model.md")).unwrap();
    let mut named = 0;
    for word in model.split('`').filter(|word| word.starts_with("case_")) {
        assert!(TABLE.iter().any(|row| row.name == word), "the threat model names {word}");
        named += 1;
    }
    assert!(named > 20, "the threat model names its tests");
}
