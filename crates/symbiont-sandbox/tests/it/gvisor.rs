//! The gvisor driver: a kernel of its own for each sandbox.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use symbiont_sandbox::{
    Command, Driver, EntryKind, GvisorDriver, GvisorOptions, Sandbox, TerminalSize,
};
use symbiont_types::{
    FilesystemConfig, Mount, RootFilesystem, SandboxConfig, SandboxError, SandboxId, SandboxStatus,
    SecurityTier,
};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};

use super::{
    ENDS, group_name, groups_of, has, marker, processes_with, run, sandbox_of, shell, told,
    try_each, until,
};

fn config() -> SandboxConfig {
    SandboxConfig { security_tier: SecurityTier::Tier2, ..super::config() }
}

/// The driver; nothing where there is no `runsc`.
async fn driver() -> Option<GvisorDriver> {
    match GvisorDriver::new(Some(&super::state()), GvisorOptions::default()).await {
        Ok(driver) => Some(driver),
        Err(SandboxError::BackendUnavailable { reason }) if reason.contains("no `runsc`") => {
            eprintln!("not run: {reason}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

async fn sandbox(driver: &GvisorDriver) -> Arc<dyn Sandbox> {
    sandbox_of(driver, &config()).await
}

/// Runs scripts in one sandbox, one after the other.
#[track_caller]
fn check(cases: &[(&str, &str)]) {
    run(async {
        let Some(driver) = driver().await else { return };
        let sandbox = sandbox(&driver).await;
        try_each(&sandbox, cases).await;
        sandbox.destroy().await.unwrap();
    });
}

/// What a sandbox is on this host's disk.
fn directory_of(sandbox: &Arc<dyn Sandbox>) -> Option<PathBuf> {
    let name = group_name(sandbox);
    let all = symbiont_directory().join("gvisor");
    let instances = std::fs::read_dir(all).into_iter().flatten().flatten();
    instances.map(|instance| instance.path().join(&name)).find(|path| path.exists())
}

fn symbiont_directory() -> PathBuf {
    if super::is_root() { PathBuf::from("/run/symbiont") } else { super::state() }
}

#[test]
fn a_command_tells_how_it_ended() {
    check(&ENDS);
    check(&[("test -d /proc/self/fd && echo there", "0:there")]);
}

#[test]
fn walls_hold_from_inside() {
    let python = |code: &str| format!("python3 -c '{code}' 2>&1 | tail -1");
    let call = |number: &str, arguments: &str| {
        python(&format!(
            "import ctypes,os; c=ctypes.CDLL(None,use_errno=True); r=c.syscall({number},{arguments}); \
             print(r, os.strerror(ctypes.get_errno()))"
        ))
    };
    let cases: Vec<(String, &str)> = vec![
        ("uname -r | cut -d. -f1,2".to_owned(), "0:4.4"), // Which kernel answers.
        ("env | sort | cut -d= -f1 | tr '\\n' ' '".to_owned(), "0:HOME LANG PATH PWD TMPDIR"),
        (
            "for p in /root /home /etc/shadow /run /var /work; do test -e $p && echo $p; done"
                .to_owned(),
            "1:",
        ),
        (
            "cat /proc/1/environ /proc/1/mem /proc/1/cmdline 2>/dev/null; cd /proc/1 2>/dev/null || echo no"
                .to_owned(),
            "0:no",
        ),
        ("cd /proc/self/fd && echo *".to_owned(), "0:0 1 2 3"),
        (
            "test -w / || test -w /usr || test -w /etc || test -w /dev || echo sealed".to_owned(),
            "0:sealed",
        ),
        ("touch /workspace/a /tmp/a /dev/shm/a && echo ok".to_owned(), "0:ok"),
        (
            "grep -h 'Cap[EPB]' /proc/self/status | sort -u | cut -f2 | uniq".to_owned(),
            "0:0000000000000000",
        ),
        (call("165", "b\"none\",b\"/tmp\",b\"tmpfs\",0,0"), "0:-1 Operation not permitted"), // mount
        (call("272", "0x10000000"), "0:-1 Operation not permitted"), // unshare
        (call("161", "b\"/tmp\""), "0:-1 Operation not permitted"),  // chroot
        (call("425", "1,0"), "0:-1 Operation not permitted"),        // io_uring_setup
        (call("101", "16,1,0,0"), "0:-1 Operation not permitted"),   // ptrace
        (call("310", "1,0,0,0,0,0"), "0:-1 Operation not permitted"), // process_vm_readv
        (call("56", "0x10000011,0,0,0,0"), "0:-1 Operation not permitted"), // clone(NEWUSER)
        (call("62", "1,9"), "0:-1 Operation not permitted"), // kill its keeper
        ("python3 -c 'import os; os.setuid(0)' 2>/dev/null || echo no".to_owned(), "0:no"),
        (
            "cp /usr/bin/id /workspace/id; chmod 6755 /workspace/id; /workspace/id -u".to_owned(),
            "0:1000",
        ),
        (
            python(
                "import socket; s=socket.socket(); s.settimeout(2); s.connect((\"169.254.169.254\",80))",
            ),
            "0:OSError: [Errno 113] No route to host",
        ),
        (
            python("import socket; socket.socket(socket.AF_ALG)"),
            "0:OSError: [Errno 97] Address family not supported by protocol",
        ),
    ];
    let cases: Vec<(&str, &str)> = cases.iter().map(|(a, b)| (a.as_str(), *b)).collect();
    check(&cases);
}

#[test]
fn nothing_of_a_command_outlives_it() {
    run(async {
        let Some(driver) = driver().await else { return };
        let sandbox = sandbox(&driver).await;
        // They hold the output, or do not; they are of the same session, or of their own.
        for script in [
            "sleep 3600 & sleep 3600 & echo started",
            "setsid sh -c 'sleep 3600 & sleep 3600' >/dev/null 2>&1 </dev/null & echo started",
        ] {
            let began = Instant::now();
            assert_eq!(told(&sandbox.exec(shell(script)).await), "0:started\n", "{script}");
            assert!(began.elapsed() < Duration::from_secs(60));
        }
        for script in [
            "setsid sleep 3600 & sleep 3600",
            "trap '' TERM INT HUP; (trap '' TERM; setsid sleep 3600) & while :; do sleep 3600; done",
        ] {
            let mut command = shell(script);
            command.timeout = Duration::from_millis(300);
            command.grace = Duration::from_millis(200);
            let got = told(&sandbox.exec(command).await);
            assert!(got.starts_with("timeout:"), "{script}: {got}");
        }
        let left = shell("grep -l 'slee[p]' /proc/[0-9]*/cmdline 2>/dev/null | wc -l");
        assert_eq!(told(&sandbox.exec(left).await), "0:0\n");
        sandbox.destroy().await.unwrap();
    });
}

#[test]
fn a_caller_that_gives_up_has_its_command_killed() {
    run(async {
        let Some(driver) = driver().await else { return };
        let sandbox = sandbox(&driver).await;
        for _ in 0..40 {
            let command = sandbox.exec(shell("sleep 3600"));
            assert!(tokio::time::timeout(Duration::from_millis(20), command).await.is_err());
        }
        // Each place is free again, so that all can be taken.
        let all = (0..8).map(|_| sandbox.exec(shell("echo hi"))).collect::<Vec<_>>();
        for command in all {
            assert_eq!(told(&command.await), "0:hi\n");
        }
        sandbox.destroy().await.unwrap();
    });
}

#[test]
fn input_and_output_of_any_size() {
    run(async {
        let Some(driver) = driver().await else { return };
        let sandbox = sandbox(&driver).await;
        let input: Vec<u8> = (0..1 << 20).map(|n: u32| n.to_le_bytes()[(n % 3) as usize]).collect();
        let mut cat = Command { stdin: Some(input.clone()), ..Command::new("cat") };
        cat.output_cap = 2 << 20;
        let result = sandbox.exec(cat).await.unwrap();
        assert!(result.stdout == input && !result.stdout_truncated);
        // Nobody reads it, or not all.
        for script in ["true", "head -c 10 >/dev/null", "exec <&-; sleep 0.1"] {
            let command = Command { stdin: Some(input.clone()), ..shell(script) };
            assert_eq!(told(&sandbox.exec(command).await), "0:", "{script}");
        }
        let mut much = shell("head -c 20000000 /dev/zero; exit 7");
        much.output_cap = 1000;
        let result = sandbox.exec(much).await.unwrap();
        assert_eq!(
            (result.exit_code, result.stdout.len(), result.stdout_truncated),
            (Some(7), 1000, true)
        );
        sandbox.destroy().await.unwrap();
    });
}

#[test]
fn files_go_in_and_out() {
    run(async {
        let Some(driver) = driver().await else { return };
        let sandbox = sandbox(&driver).await;
        let content: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
        sandbox.write_file("a/b/file", &content, 0o6755).await.unwrap();
        assert_eq!(sandbox.read_file("/workspace/a/b/file", 4_000_000).await.unwrap(), content);
        let stat = sandbox.stat("a/b/file").await.unwrap().unwrap();
        assert_eq!((stat.kind, stat.size, stat.mode), (EntryKind::File, 3_000_000, 0o755));
        assert_eq!(sandbox.stat("none").await.unwrap(), None);
        let prepared = "cd /workspace; echo x >f; ln -s /etc out; ln -s /etc/passwd file; ln -s f near; \
                        ln -s loop loop; mkfifo pipe; ln f hard; ln -s a/../f round; mkdir d; \
                        mkdir /tmp/t; echo t >/tmp/t/f; find a/b/file -printf '%U:%m\\n'";
        assert_eq!(told(&sandbox.exec(shell(prepared)).await), "0:1000:755\n");
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("got");
        for (path, want) in [
            ("f", Ok("x\n")),
            ("/tmp/t/f", Ok("t\n")),
            ("near", Ok("x\n")),
            ("round", Ok("x\n")),
            ("file", Err("leads out of")),
            ("out/passwd", Err("leads out of")),
            ("/etc/passwd", Err("leads out of")),
            ("loop", Err("a link in it is not followed")),
            ("pipe", Err("not a regular file")),
            ("d", Err("not a regular file")),
            ("none", Err("o such file")),
            ("f/x", Err("ot a directory")),
        ] {
            let got = sandbox.download(path, &target).await;
            match (got, want) {
                (Ok(_), Ok(want)) => assert_eq!(std::fs::read_to_string(&target).unwrap(), want),
                (Err(error), Err(want)) => {
                    assert!(error.to_string().contains(want), "{path}: {error}");
                }
                (got, want) => panic!("{path}: {got:?} is not {want:?}"),
            }
        }
        // By their own names only: no link, and none that has another.
        for path in ["near", "round", "out/passwd", "hard"] {
            assert!(sandbox.read_file(path, 100).await.is_err(), "{path}");
        }
        for path in ["out/x", "near", "/etc/x", "../x", "a/../../x", "/usr/x", "d"] {
            assert!(sandbox.write_file(path, b"new", 0o644).await.is_err(), "{path}");
        }
        assert_eq!(
            told(&sandbox.exec(shell("cat /workspace/f; cd /workspace/a/b && echo .* *")).await),
            "0:x\n. .. file\n"
        );
        let names: Vec<_> =
            sandbox.list("/tmp").await.unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["t"]);
        sandbox.remove("f").await.unwrap();
        assert_eq!(sandbox.stat("f").await.unwrap(), None);
        // Larger than there is room for.
        let big = vec![1; 100 << 20];
        assert_eq!(
            sandbox.write_file("/tmp/big", &big, 0o644).await,
            Err(SandboxError::StorageFull)
        );
        assert_eq!(sandbox.stat("/tmp/big").await.unwrap(), None);
        sandbox.destroy().await.unwrap();
    });
}

#[test]
fn sandboxes_do_not_see_each_other() {
    run(async {
        let Some(driver) = driver().await else { return };
        let (one, other) = (sandbox(&driver).await, sandbox(&driver).await);
        let mark = marker();
        let begin = shell(&format!("echo {mark} | tee /workspace/m /tmp/m /dev/shm/m; sleep 3600"));
        let (first, rest) = mark.split_at(10);
        let look = format!(
            "cat /workspace/m /tmp/m /dev/shm/m 2>/dev/null; \
             grep -l '[{}]{}{rest}' /proc/[0-9]*/cmdline 2>/dev/null | wc -l",
            &first[..1],
            &first[1..],
        );
        tokio::select! {
            ended = one.exec(begin) => panic!("{ended:?}"),
            got = other.exec(shell(&look)) => assert_eq!(told(&got), "0:0\n"),
        }
        one.destroy().await.unwrap();
        assert_eq!(told(&other.exec(shell("echo on")).await), "0:on\n");
        other.destroy().await.unwrap();
    });
}

#[test]
fn no_more_processes_than_there_may_be() {
    run(async {
        let Some(driver) = driver().await else { return };
        let mut config = config();
        config.resource_limits.memory_mb = 2048;
        let sandbox = sandbox_of(&driver, &config).await;
        // Of a command and of all of its children.
        let forks = "python3 -c 'import os,time\nn=0\ntry:\n while n<1000:\n  if os.fork()==0: time.sleep(60); os._exit(0)\n  n+=1\nexcept BlockingIOError: print(\"no more\", 200<n<256)'";
        for _ in 0..2 {
            assert_eq!(told(&sandbox.exec(shell(forks)).await), "0:no more True\n");
        }
        eprintln!("{:?}", sandbox.usage().await);
        sandbox.destroy().await.unwrap();
    });
}

#[test]
fn limits_hold() {
    run(async {
        let Some(driver) = driver().await else { return };
        let sandbox = sandbox(&driver).await;
        let files = "python3 -c 'import os\ntry:\n for n in range(100000): os.open(\"/\",0)\nexcept OSError as e: print(e.strerror)'";
        assert_eq!(told(&sandbox.exec(shell(files)).await), "0:Too many open files\n");
        let full = "head -c 200000000 /dev/zero >/workspace/full 2>/dev/null || echo full; rm /workspace/full";
        assert_eq!(told(&sandbox.exec(shell(full)).await), "0:full\n");
        if has(&sandbox, "memory") {
            let eater = "import time; b=bytearray(); \nwhile True: b.extend(bytes([1])*(1<<20))";
            let result = sandbox.exec(Command::new("python3").args(["-c", eater])).await.unwrap();
            assert!(result.oom_killed, "{result:?}");
            assert_eq!(result.signal, Some(9));
            until(|| matches!(sandbox.status(), SandboxStatus::Failed { .. })).await;
            let SandboxStatus::Failed { reason } = sandbox.status() else { panic!() };
            assert!(reason.contains("for lack of memory"), "{reason}");
            assert!(matches!(
                sandbox.exec(shell("true")).await,
                Err(SandboxError::InvalidState { .. })
            ));
        }
        sandbox.destroy().await.unwrap();
        assert_eq!(groups_of(&group_name(&sandbox)), Vec::<PathBuf>::new());
        assert_eq!(directory_of(&sandbox), None);
    });
}

#[test]
fn what_a_sandbox_can_not_be_is_refused() {
    run(async {
        let Some(driver) = driver().await else { return };
        let with = |files: FilesystemConfig| SandboxConfig { filesystem_config: files, ..config() };
        let mount = |target: &str, read_only| {
            with(FilesystemConfig {
                mounts: vec![Mount {
                    source: "/usr/share".into(),
                    target: target.to_owned(),
                    read_only,
                }],
                ..config().filesystem_config
            })
        };
        let image = RootFilesystem::Image("busybox".to_owned());
        for (config, want) in [
            (mount("/data", false), "mounts that can be written"),
            (mount("/usr/local/x", true), "within what is the host's"),
            (mount("/bin/x", true), "within what is the host's"),
            (with(FilesystemConfig { rootfs: image, ..config().filesystem_config }), "busybox"),
            (super::config(), "tier"),
        ] {
            let error = driver.create(SandboxId::new(), &config).await.unwrap_err().to_string();
            assert!(error.to_lowercase().contains(want), "{error}");
        }
        let seen = sandbox_of(&driver, &mount("/data/in", true)).await;
        let script = shell("test -d /data/in/doc && touch /data/in/x 2>/dev/null || echo sealed");
        assert_eq!(told(&seen.exec(script).await), "0:sealed\n");
        seen.destroy().await.unwrap();
        let none = GvisorOptions { program: Some("/bin/true".into()), ..GvisorOptions::default() };
        let error = GvisorDriver::new(Some(&super::state()), none).await.unwrap_err().to_string();
        assert!(error.contains("was not tried"), "{error}");
        let none = GvisorOptions { platform: Some("none".into()), ..GvisorOptions::default() };
        let broken = GvisorDriver::new(Some(&super::state()), none).await.unwrap();
        let sandbox = broken.create(SandboxId::new(), &config()).await.unwrap();
        let error = sandbox.start().await.unwrap_err().to_string();
        assert!(error.contains("runsc says"), "{error}");
        assert_eq!(directory_of(&sandbox), None);
    });
}

#[test]
fn rounds_leave_nothing() {
    run(async {
        let Some(driver) = driver().await else { return };
        let count = |path: &str| std::fs::read_dir(path).unwrap().count();
        let mounts =
            || std::fs::read_to_string("/proc/self/mountinfo").unwrap().matches("sbx-").count();
        let mut descriptors = Vec::new();
        for _ in 0..50 {
            let sandbox = sandbox(&driver).await;
            assert_eq!(told(&sandbox.exec(shell("echo hi")).await), "0:hi\n");
            let name = group_name(&sandbox);
            assert!(!processes_with(&name).is_empty());
            sandbox.destroy().await.unwrap();
            assert_eq!(processes_with(&name), Vec::<String>::new());
            assert_eq!(groups_of(&name), Vec::<PathBuf>::new());
            assert_eq!(directory_of(&sandbox), None);
            descriptors.push(count("/proc/self/fd"));
        }
        assert_eq!(mounts(), 0);
        assert!(descriptors[49] <= descriptors[4] + 2, "{descriptors:?}");
    });
}

/// Makes a sandbox, says its name, and waits to be killed.
#[test]
fn a_command_is_talked_to_and_paused() {
    run(async {
        let Some(driver) = driver().await else { return };
        let sandbox = sandbox(&driver).await;
        let script = "trap 'echo asked; exit 3' USR1; echo begun; read x; echo got $x; \
                      while :; do sleep 60; done";
        let mut process = sandbox.spawn(shell(script)).await.unwrap();
        let mut stdout = tokio::io::BufReader::new(process.stdout.take().unwrap()).lines();
        assert_eq!(stdout.next_line().await.unwrap().as_deref(), Some("begun"));
        match sandbox.pause().await {
            Ok(()) => {
                let refused = sandbox.exec(Command::new("true")).await;
                assert!(matches!(refused, Err(SandboxError::InvalidState { .. })), "{refused:?}");
                sandbox.resume().await.unwrap();
            }
            // An ordinary user has no groups.
            Err(error) => eprintln!("not run: {error}"),
        }
        process.stdin.as_mut().unwrap().write_all(b"it\n").await.unwrap();
        assert_eq!(stdout.next_line().await.unwrap().as_deref(), Some("got it"));
        process.signal(10).unwrap();
        assert_eq!(stdout.next_line().await.unwrap().as_deref(), Some("asked"));
        assert_eq!(told(&process.wait().await), "3:");
        sandbox.destroy().await.unwrap();
    });
}

#[test]
fn a_paused_sandbox_can_be_ended() {
    run(async {
        let Some(driver) = driver().await else { return };
        let sandbox = sandbox(&driver).await;
        if let Err(error) = sandbox.pause().await {
            eprintln!("not run: {error}");
        }
        sandbox.destroy().await.unwrap();
        assert_eq!(groups_of(&group_name(&sandbox)), Vec::<PathBuf>::new());
    });
}

#[test]
fn a_terminal_is_refused() {
    run(async {
        let Some(driver) = driver().await else { return };
        let sandbox = sandbox(&driver).await;
        assert!(sandbox.report().degraded.iter().any(|line| line.starts_with("terminals: ")));
        let terminal = Some(TerminalSize { rows: 24, columns: 80 });
        let mut process =
            sandbox.spawn(Command { terminal, ..Command::new("true") }).await.unwrap();
        let got = told(&process.wait().await);
        assert!(got.starts_with("error `true` could not be run: make a terminal: "), "{got}");
        assert_eq!(told(&sandbox.exec(shell("echo fine")).await), "0:fine\n");
        sandbox.destroy().await.unwrap();
    });
}

#[test]
#[ignore = "a part of `a_killed_host_leaves_nothing`"]
fn a_host_that_will_be_killed() {
    let Some(file) = std::env::var_os("SYMBIONT_TEST_GVISOR_HOST") else { return };
    run(async {
        let driver = driver().await.unwrap();
        let sandbox = sandbox(&driver).await;
        std::fs::write(Path::new(&file), group_name(&sandbox)).unwrap();
        let _never = sandbox.exec(shell("setsid sleep 3600 & sleep 3600")).await;
    });
}

#[test]
fn a_killed_host_leaves_nothing() {
    run(async {
        if driver().await.is_none() {
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("name");
        let mut host = std::process::Command::new(std::env::current_exe().unwrap());
        let mut host = host
            .args(["--ignored", "--exact", "gvisor::a_host_that_will_be_killed", "--nocapture"])
            .env("SYMBIONT_TEST_GVISOR_HOST", &file)
            .spawn()
            .unwrap();
        until(|| std::fs::read_to_string(&file).is_ok_and(|name| name.len() == 36)).await;
        let name = std::fs::read_to_string(&file).unwrap();
        assert!(!processes_with(&name).is_empty());
        host.kill().unwrap();
        host.wait().unwrap();
        until(|| processes_with(&name).is_empty()).await;
        // The next one to come removes what is left.
        let next = driver().await.unwrap();
        assert_eq!(groups_of(&name), Vec::<PathBuf>::new());
        let all = std::fs::read_dir(symbiont_directory().join("gvisor")).unwrap().flatten();
        assert!(all.map(|instance| instance.path().join(&name)).all(|path| !path.exists()));
        drop(next);
    });
}

#[test]
fn the_probe_tells_what_works() {
    run(async {
        let Some(driver) = driver().await else { return };
        let probe = driver.probe().await;
        assert!(probe.available, "{}", probe.detail);
        assert!(probe.detail.contains("gVisor"), "{}", probe.detail);
    });
}
