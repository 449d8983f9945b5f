//! Commands whose streams are used while they run.

use std::time::{Duration, Instant};

use symbiont_sandbox::{Command, Process, TerminalSize};
use symbiont_types::{CommandResult, SandboxError, SandboxStatus};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{driver, marker, processes_with, resident, run, sandbox, shell, told, until};

/// Runs `body` with a command in a sandbox of its own, and gives how the command ended.
fn with<F: Future>(command: Command, body: impl FnOnce(Process) -> F) -> F::Output {
    run(async {
        let driver = driver();
        let sandbox = sandbox(&driver).await;
        let output = body(sandbox.spawn(command).await.unwrap()).await;
        sandbox.destroy().await.unwrap();
        output
    })
}

/// All output of both streams, and the end.
async fn rest(mut process: Process) -> (String, String, Result<CommandResult, SandboxError>) {
    drop(process.stdin.take());
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let (out, err) = (process.stdout.take(), process.stderr.take());
    let read_out = async {
        if let Some(mut out) = out {
            out.read_to_end(&mut stdout).await.unwrap();
        }
    };
    let read_err = async {
        if let Some(mut err) = err {
            err.read_to_end(&mut stderr).await.unwrap();
        }
    };
    tokio::join!(read_out, read_err);
    let end = process.wait().await;
    (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap(), end)
}

/// What a command writes, and how it ends.
#[track_caller]
fn check(command: Command, want: &str) {
    let (stdout, stderr, end) = with(command, rest);
    assert_eq!(format!("{}{stdout}|{stderr}", told(&end)), want);
}

#[test]
fn output_and_end_arrive_apart() {
    check(shell("echo out; echo err >&2; exit 3"), "3:out\n|err\n");
    check(shell("kill -9 $$"), "signal 9:|");
    check(Command::new("/nonexistent"), "error `/nonexistent` could not be run: not found|");
    let timeout = Duration::from_millis(300);
    check(Command { timeout, ..shell("echo a; sleep 60") }, "timeout:a\n|");
    let time = Some(Duration::from_millis(500));
    check(Command { processor_time: time, ..shell("while :; do :; done") }, "signal 24:|");
}

#[test]
fn a_conversation_goes_back_and_forth() {
    with(
        shell("while read line; do echo \"got $line\"; done; echo over"),
        |mut process| async move {
            let (mut stdin, mut stdout) =
                (process.stdin.take().unwrap(), process.stdout.take().unwrap());
            for n in 0..20 {
                stdin.write_all(format!("{n}\n").as_bytes()).await.unwrap();
                let want = format!("got {n}\n");
                let mut got = vec![0; want.len()];
                stdout.read_exact(&mut got).await.unwrap();
                assert_eq!(String::from_utf8(got).unwrap(), want);
            }
            stdin.shutdown().await.unwrap();
            let mut last = String::new();
            stdout.read_to_string(&mut last).await.unwrap();
            assert_eq!(last, "over\n");
            assert_eq!(told(&process.wait().await), "0:");
            // Asking again gives the same.
            assert_eq!(told(&process.wait().await), "0:");
        },
    );
}

/// Output that nobody reads stays in the sandbox, and keeps nobody else from theirs.
#[test]
fn whoever_does_not_read_holds_up_their_own_command_only() {
    run(async {
        let driver = driver();
        let sandbox = sandbox(&driver).await;
        let mut held = sandbox
            .spawn(shell("head -c 50000000 /dev/zero; echo done > /workspace/done"))
            .await
            .unwrap();
        let before = resident();
        // The others go on meanwhile, and see that it has come to no end.
        for _ in 0..20 {
            let seen = sandbox.exec(shell("head -c 500000 /dev/zero | wc -c; ls")).await;
            assert_eq!(told(&seen), "0:500000\n");
        }
        assert!(resident() < before + (8 << 20), "{} of {before}", resident());
        let mut stdout = held.stdout.take().unwrap();
        let mut sink = tokio::io::sink();
        assert_eq!(tokio::io::copy(&mut stdout, &mut sink).await.unwrap(), 50_000_000);
        assert_eq!(told(&held.wait().await), "0:");
        // Output that is dropped holds up nobody.
        let mut held = sandbox.spawn(shell("head -c 50000000 /dev/zero; exit 5")).await.unwrap();
        held.stdout = None;
        assert_eq!(told(&held.wait().await), "5:");
        sandbox.destroy().await.unwrap();
    });
}

/// The end is told at once, though nobody has read what the command left in its pipes.
#[test]
fn an_end_needs_no_reader() {
    let size = (256 << 10) + 60_000;
    with(shell(&format!("head -c {size} /dev/zero")), |mut process| async move {
        assert_eq!(told(&process.wait().await), "0:");
        let mut left = Vec::new();
        process.stdout.take().unwrap().read_to_end(&mut left).await.unwrap();
        assert_eq!(left.len(), size);
    });
}

#[test]
fn input_that_is_not_read_waits_and_a_closed_one_breaks() {
    with(shell("exec sleep 60"), |mut process| async move {
        let mut stdin = process.stdin.take().unwrap();
        let mut written = 0;
        let chunk = vec![7; 64 << 10];
        // What the window and the pipe hold, and then no more.
        let write = async {
            while written < 64 << 20 {
                written += stdin.write(&chunk).await.unwrap();
            }
        };
        assert!(tokio::time::timeout(Duration::from_millis(500), write).await.is_err());
        assert!((256 << 10..=512 << 10).contains(&written), "{written}");
        process.kill();
        assert_eq!(told(&process.wait().await), "signal 9:");
        let broken = stdin.write_all(&chunk).await.unwrap_err();
        assert_eq!(broken.kind(), std::io::ErrorKind::BrokenPipe);
    });
}

#[test]
fn signals_reach_the_command() {
    let script = "trap 'echo usr1' USR1; trap 'echo term; exit 7' TERM; echo ready
                  while :; do sleep 0.01; done";
    with(shell(script), |mut process| async move {
        let mut stdout = process.stdout.take().unwrap();
        let mut expect = async |want: &str| {
            let mut got = vec![0; want.len()];
            stdout.read_exact(&mut got).await.unwrap();
            assert_eq!(String::from_utf8(got).unwrap(), want);
        };
        expect("ready\n").await;
        process.signal(libc::SIGUSR1).unwrap();
        expect("usr1\n").await;
        // One that is stopped takes no other until it goes on.
        process.signal(libc::SIGSTOP).unwrap();
        process.signal(libc::SIGUSR1).unwrap();
        process.signal(libc::SIGCONT).unwrap();
        expect("usr1\n").await;
        process.signal(libc::SIGTERM).unwrap();
        expect("term\n").await;
        assert_eq!(told(&process.wait().await), "7:");
        process.signal(libc::SIGTERM).unwrap();
        for number in [0, -1, 65, 1000] {
            assert!(process.signal(number).is_err());
        }
    });
}

/// Another command's lack of memory is not the end of one that was wanted killed.
#[test]
fn whoever_is_killed_on_demand_lacked_no_memory() {
    run(async {
        let driver = driver();
        let sandbox = sandbox(&driver).await;
        let mut waiting = sandbox.spawn(shell("exec sleep 600")).await.unwrap();
        let eater = sandbox.exec(shell("tail -c 400m /dev/zero")).await.unwrap();
        if sandbox.usage().await.unwrap().oom_kills.is_none_or(|kills| kills == 0) {
            return eprintln!("not run: the host does not tell of kills for lack of memory");
        }
        assert!(eater.oom_killed, "{eater:?}");
        waiting.signal(9).unwrap();
        let killed = waiting.wait().await.unwrap();
        assert_eq!((killed.signal, killed.oom_killed), (Some(9), false), "{killed:?}");
        sandbox.destroy().await.unwrap();
    });
}

#[test]
fn a_terminal_is_one() {
    let terminal = Some(TerminalSize { rows: 24, columns: 80 });
    let script = "test -t 0 && test -t 1 && test -t 2 && tty; stty size
                  trap 'stty size; exit 4' WINCH; echo ready; while :; do sleep 0.01; done";
    with(Command { terminal, ..shell(script) }, |mut process| async move {
        assert!(process.stderr.is_none());
        let mut stdout = process.stdout.take().unwrap();
        let mut seen = String::new();
        while !seen.ends_with("ready\r\n") {
            seen.push(char::from(stdout.read_u8().await.unwrap()));
        }
        assert_eq!(seen, "/dev/pts/0\r\n24 80\r\nready\r\n");
        process.resize(TerminalSize { rows: 50, columns: 132 });
        let mut last = String::new();
        stdout.read_to_string(&mut last).await.unwrap();
        assert_eq!(last, "50 132\r\n");
        assert_eq!(told(&process.wait().await), "4:");
    });
    // What is typed is seen, Control-C interrupts, and the end of the input is typed as well.
    with(Command { terminal, ..Command::new("cat") }, |mut process| async move {
        let mut stdin = process.stdin.take().unwrap();
        stdin.write_all(b"hi\n").await.unwrap();
        drop(stdin);
        let (stdout, _, end) = rest(process).await;
        assert_eq!((stdout.as_str(), told(&end).as_str()), ("hi\r\nhi\r\n", "0:"));
    });
    with(Command { terminal, ..shell("echo ready; exec cat") }, |mut process| async move {
        let mut stdin = process.stdin.take().unwrap();
        let mut ready = [0; 7];
        process.stdout.as_mut().unwrap().read_exact(&mut ready).await.unwrap();
        stdin.write_all(b"\x03").await.unwrap();
        assert_eq!(told(&process.wait().await), "signal 2:");
    });
}

#[test]
fn a_process_that_is_dropped_is_killed() {
    run(async {
        let driver = driver();
        let sandbox = sandbox(&driver).await;
        let marker = marker();
        let script = format!("sh -c 'sleep 100; : {marker}' & echo ready; wait; : {marker}");
        let mut process = sandbox.spawn(shell(&script)).await.unwrap();
        let mut ready = [0; 6];
        process.stdout.as_mut().unwrap().read_exact(&mut ready).await.unwrap();
        assert!(!processes_with(&marker).is_empty());
        drop(process);
        until(|| processes_with(&marker).is_empty()).await;
        // And has given back its place, as all of them do.
        let begun = Instant::now();
        let mut all = Vec::new();
        while begun.elapsed() < Duration::from_secs(10) && all.len() < 32 {
            match sandbox.spawn(Command::new("cat")).await {
                Ok(process) => all.push(process),
                Err(SandboxError::ResourceLimit { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(all.len(), 32);
        drop(all);
        sandbox.destroy().await.unwrap();
    });
}

/// A paused sandbox does nothing, says so, and goes on where it was.
#[test]
fn a_pause_stops_everything_and_no_more() {
    run(async {
        let driver = driver();
        let sandbox = sandbox(&driver).await;
        let script = "n=0; while :; do n=$((n+1)); echo $n; sleep 0.01; done";
        let mut process = sandbox.spawn(shell(script)).await.unwrap();
        let mut stdout = process.stdout.take().unwrap();
        stdout.read_u8().await.unwrap();
        match sandbox.pause().await {
            Err(SandboxError::Unsupported { reason, .. }) => {
                eprintln!("not run: {reason}");
                assert_eq!(sandbox.status(), SandboxStatus::Running);
                assert_eq!(told(&sandbox.exec(shell("echo on")).await), "0:on\n");
                return sandbox.destroy().await.unwrap();
            }
            paused => paused.unwrap(),
        }
        assert_eq!(sandbox.status(), SandboxStatus::Paused);
        sandbox.pause().await.unwrap();
        let refused = [
            sandbox.exec(shell("true")).await.map(drop),
            sandbox.spawn(shell("true")).await.map(drop),
            sandbox.write_file("x", b"x", 0o644).await,
            sandbox.list(".").await.map(drop),
            sandbox.start().await,
        ];
        for result in refused {
            let Err(SandboxError::InvalidState { from, .. }) = result else { panic!("{result:?}") };
            assert_eq!(from, "paused");
        }
        // Nothing of it has moved between two looks at it.
        let time = sandbox.usage().await.unwrap().cpu_time;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(sandbox.usage().await.unwrap().cpu_time, time);
        sandbox.resume().await.unwrap();
        sandbox.resume().await.unwrap();
        assert_eq!(sandbox.status(), SandboxStatus::Running);
        assert_eq!(told(&sandbox.exec(shell("echo on")).await), "0:on\n");
        stdout.read_u8().await.unwrap();

        // One whose time is up meanwhile is ended when it goes on.
        let timeout = Duration::from_millis(100);
        let mut short = sandbox
            .spawn(Command { timeout, grace: Duration::ZERO, ..shell("sleep 60") })
            .await
            .unwrap();
        sandbox.pause().await.unwrap();
        assert!(tokio::time::timeout(timeout * 3, short.wait()).await.is_err());
        sandbox.resume().await.unwrap();
        assert_eq!(told(&short.wait().await), "timeout:");

        // A stop and an end need no resuming.
        sandbox.pause().await.unwrap();
        sandbox.stop().await.unwrap();
        assert_eq!(sandbox.status(), SandboxStatus::Stopped);
        assert!(process.wait().await.unwrap().signal.is_some());
        assert!(matches!(sandbox.pause().await, Err(SandboxError::InvalidState { .. })));
        sandbox.start().await.unwrap();
        sandbox.pause().await.unwrap();
        let begun = Instant::now();
        sandbox.destroy().await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert!(matches!(sandbox.resume().await, Err(SandboxError::InvalidState { .. })));
    });
}

/// Readers, writers and waiters learn that the sandbox has gone.
#[test]
fn a_sandbox_that_goes_takes_its_streams_with_it() {
    run(async {
        let driver = driver();
        let sandbox = sandbox(&driver).await;
        let mut process = sandbox.spawn(shell("echo before; sleep 100")).await.unwrap();
        let mut stdout = process.stdout.take().unwrap();
        let mut before = [0; 7];
        stdout.read_exact(&mut before).await.unwrap();
        sandbox.destroy().await.unwrap();
        let error = stdout.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
        assert!(matches!(process.wait().await, Err(SandboxError::AgentLost { .. })));
        assert!(matches!(
            sandbox.spawn(Command::new("true")).await,
            Err(SandboxError::InvalidState { .. })
        ));
    });
}
