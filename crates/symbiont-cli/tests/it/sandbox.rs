//! `sandbox`: commands of people in sandboxes.

use std::io::{Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::{root, symbiont};

/// Where an engine listens that was started for the tests, or the host's own.
fn engine() -> PathBuf {
    std::env::var_os("SYMBIONT_TEST_DOCKER").unwrap_or("/var/run/docker.sock".into()).into()
}

/// `sandbox run`, with these options and this command.
fn begin(options: &[&str], command: &[&str]) -> Command {
    let mut begun = symbiont();
    begun.args(["sandbox", "run"]).args(options).arg("--").args(command);
    begun.stdin(Stdio::null());
    begun
}

fn ran(options: &[&str], command: &[&str]) -> Output {
    begin(options, command).output().expect("it starts")
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// How a command in a shell ends, and what it writes.
#[track_caller]
fn check(options: &[&str], script: &str, code: i32, out: &str) {
    let output = ran(options, &["sh", "-c", script]);
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!((output.status.code(), &*told), (Some(code), out), "{script}: {}", err(&output));
}

/// The names of drivers that work here, as options; what does not is said.
fn drivers() -> Vec<Vec<String>> {
    let engine = engine();
    let engine = engine.to_str().expect("text");
    let doctor = symbiont()
        .args(["sandbox", "doctor", "-o", "json", "--engine", engine])
        .output()
        .expect("it starts");
    let found: serde_json::Value = serde_json::from_slice(&doctor.stdout).expect("JSON");
    let mut names = Vec::new();
    for driver in found["drivers"].as_array().expect("drivers") {
        let name = driver["driver"].as_str().expect("a name");
        match driver["available"] == true {
            true => names.push(["--engine", engine, "--driver", name].map(str::to_owned).into()),
            false => eprintln!("not run: {name}: {}", driver["detail"]),
        }
    }
    assert_eq!(doctor.status.code(), Some(i32::from(names.is_empty())));
    names
}

/// Does the same with every driver that works here.
fn each(test: impl Fn(&[&str])) {
    for driver in drivers() {
        test(&driver.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

#[test]
fn it_ends_as_its_command_ends() {
    each(|driver| {
        for (script, code, out) in [
            ("exit 3", 3, ""),
            ("echo out; echo err >&2", 0, "out\n"),
            ("kill -TERM $$", 143, ""),
            ("kill -9 $$", 137, ""),
            ("pwd; nproc", 0, "/workspace\n1\n"),
            ("echo a > /workspace/a && echo b > /tmp/b && cat /workspace/a /tmp/b", 0, "a\nb\n"),
            ("{ echo x > /usr/x; } 2>/dev/null || echo sealed", 0, "sealed\n"),
        ] {
            let output = ran(driver, &["sh", "-c", script]);
            let told = String::from_utf8_lossy(&output.stdout);
            assert_eq!((output.status.code(), &*told), (Some(code), out), "{driver:?} {script}");
        }
        let ends = |command: &[&str], code: i32| {
            let output = ran(driver, command);
            assert_eq!(output.status.code(), Some(code), "{driver:?} {command:?}: {output:?}");
            assert!(output.stdout.is_empty(), "{output:?}");
            err(&output)
        };
        assert!(ends(&["no-such-command"], 127).contains("not found"));
        assert!(ends(&["/etc/passwd"], 126).contains("can't be executed"));
        let late = ran(&[driver, &["--timeout", "500ms"]].concat(), &["sleep", "60"]);
        assert_eq!(late.status.code(), Some(124), "{late:?}");
        let told = err(&late);
        assert!(told.contains("500 ms\n  help: --timeout") && told.lines().count() == 2, "{told}");
        let late = ran(&[driver, &["--timeout", "500ms", "--quiet"]].concat(), &["sleep", "60"]);
        assert_eq!((late.status.code(), err(&late).as_str()), (Some(124), ""));
    });
}

#[test]
fn a_command_that_takes_too_much_memory_is_killed() {
    each(|driver| {
        let hog = ["dd", "if=/dev/zero", "of=/dev/null", "bs=300M", "count=1"];
        let output = ran(&[driver, &["--memory", "64"]].concat(), &hog);
        // A kernel of its own goes with it, which is the same to whoever looks.
        assert_eq!(output.status.code(), Some(137), "{driver:?} {output:?}");
        let told = err(&output);
        assert!(
            told.contains("64 MiB, was used up\n") && told.contains("--memory gives"),
            "{told}"
        );
        let quiet = ran(&[driver, &["--memory", "64", "-q"]].concat(), &hog);
        assert_eq!((quiet.status.code(), err(&quiet).as_str()), (Some(137), ""));
        // Killed by itself is not killed for lack of memory.
        let output = ran(driver, &["sh", "-c", "kill -9 $$"]);
        assert_eq!((output.status.code(), err(&output).as_str()), (Some(137), ""));
    });
}

/// What is told to programs of a failure, help included, and the exit code of it all.
#[track_caller]
fn failed(arguments: &[&str]) -> (i32, String, String) {
    let output = asked(arguments);
    assert!(output.stdout.is_empty(), "{arguments:?}: {output:?}");
    let told = err(&output);
    assert_eq!(told.lines().count(), 1, "{arguments:?}: {told}");
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    let mut names: Vec<_> = told["error"].as_object().expect("an error").keys().collect();
    names.sort_unstable();
    assert_eq!(names, ["code", "exit", "help", "message"], "{told}");
    let word = |name: &str| told["error"][name].as_str().expect("text").to_owned();
    let code = output.status.code().expect("it ends by itself");
    assert_eq!(told["error"]["exit"], code, "{told}");
    let help = told["error"]["help"].as_str().map(|help| format!("; {help}"));
    (code, word("code"), word("message") + &help.unwrap_or_default())
}

#[test]
fn what_fails_is_told_to_programs_in_one_shape() {
    let kept = Kept::new(&["--memory", "64"]);
    let id = kept.0.as_str();
    let inside = format!("{id}:x");
    let etc = format!("{id}:/etc/x");
    let absent = "0190b6a4-7c3e-7d6a-9b1f-2f6f3a1c5d4e";
    let hog = ["--", "dd", "if=/dev/zero", "of=/dev/null", "bs=300M", "count=1"];
    let run = |rest: &[&str]| failed(&[&["run", "-o", "json"], rest].concat());
    let exec = |rest: &[&str]| failed(&[&["exec", "-o", "json", id], rest].concat());
    for ((code, word, message), want) in [
        (run(&["--tier", "9", "--", "true"]), (2, "usage", "1..=3")),
        (run(&["--env", "A", "--", "true"]), (2, "usage", "has no value")),
        (run(&["--", ""]), (2, "usage", "empty")),
        (run(&[]), (2, "usage", "COMMAND")),
        (run(&["--timeout", "300ms", "--", "sleep", "60"]), (124, "timed_out", "--timeout")),
        (run(&["--tier", "3", "--", "true"]), (125, "failed", "Tier2")),
        (run(&["--file", "/nowhere/x", "--", "true"]), (125, "failed", "/nowhere/x")),
        (run(&["--", "/etc/passwd"]), (126, "not_executable", "can't be executed")),
        (run(&["--", "no-such-command"]), (127, "not_found", "not found")),
        (run(&[&["--memory", "64"], &hog[..]].concat()), (137, "out_of_memory", "--memory")),
        (exec(&["--env", "=", "--", "true"]), (2, "usage", "name of a variable")),
        (exec(&["--timeout", "300ms", "--", "sleep", "60"]), (124, "timed_out", "--timeout")),
        (exec(&["--", "/etc/passwd"]), (126, "not_executable", "can't be executed")),
        (exec(&["--", "no-such-command"]), (127, "not_found", "not found")),
        (exec(&hog), (137, "out_of_memory", "64 MiB, was used up; --memory of `create`")),
        (failed(&["exec", "-ojson", absent, "--", "true"]), (125, "failed", "no sandbox")),
        (failed(&["create", "--output", "json", "--pids", "1"]), (2, "usage", "--pids")),
        (failed(&["create", "--output=json", "--tier", "3"]), (125, "failed", "Tier2")),
        (failed(&["cp", "-o", "json", "a", "b"]), (2, "usage", "on the host")),
        (failed(&["cp", "-o", "json", "Cargo.toml", &etc]), (2, "usage", "/workspace or /tmp")),
        (failed(&["cp", "-o", "json", "/nowhere/x", &inside]), (125, "failed", "No such file")),
        (failed(&["cp", "-o", "json", &inside, "/tmp"]), (125, "failed", "No such file")),
        (failed(&["destroy", "-o", "json", "x"]), (2, "usage", "UUID")),
        (failed(&["list", "-o", "json", "x"]), (2, "usage", "unexpected")),
        (failed(&["doctor", "-o", "json", "--bogus"]), (2, "usage", "--bogus")),
    ] {
        assert_eq!((code, word.as_str()), (want.0, want.1), "{message}");
        assert!(message.contains(want.2), "{message}");
    }
}

/// Each of the words that are no text arrives as it is, and so do files of such names.
#[test]
fn words_are_bytes() {
    let word = |bytes: &[u8]| std::ffi::OsString::from_vec(bytes.to_vec());
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join(word(b"n\xff"));
    std::fs::write(&file, "content").expect("written");
    let script = "printf %s \"$A$1\"; cat /workspace/n*";
    each(|driver| {
        let mut begun = symbiont();
        begun.args(["sandbox", "run"]).args(driver).arg("--file").arg(&file);
        begun.arg("--env").arg(word(b"A=\xfe=\xc3"));
        let output = begun.args(["--", "sh", "-c", script, "sh"]).arg(word(b"\x80 ")).output();
        let output = output.expect("it starts");
        assert_eq!(output.stdout, b"\xfe=\xc3\x80 content", "{driver:?}: {output:?}");
    });
    let mut begun = symbiont();
    begun.args(["sandbox", "create", "--env"]).arg(word(b"A=\xfe"));
    let kept = Kept::begun(&mut begun);
    let cp = |from: &std::ffi::OsStr, to: &std::ffi::OsStr| {
        let output = symbiont().args(["sandbox", "cp"]).args([from, to]).output().expect("starts");
        assert_eq!((output.status.code(), err(&output).as_str()), (Some(0), ""));
    };
    let back = directory.path().join(word(b"back\xff"));
    cp(file.as_os_str(), format!("{}:", kept.0).as_ref());
    let inside = [kept.0.as_bytes(), b":n\xff"].concat();
    cp(&word(&inside), back.as_os_str());
    assert_eq!(std::fs::read(&back).expect("it is there"), b"content");
    let mut begun = symbiont();
    begun.args(["sandbox", "exec", &kept.0, "--env"]).arg(word(b"B=\xfd"));
    begun.args(["--", "sh", "-c", "printf %s \"$A$B$1\"; cat n*", "sh"]).arg(word(b"\x80"));
    let output = begun.output().expect("it starts");
    assert_eq!(output.stdout, b"\xfe\xfd\x80content", "{output:?}");
}

/// Whoever writes for nobody is not waited for: neither for the time it may run, nor until it takes
/// notice of a reader that has gone.
#[test]
fn a_command_that_writes_for_nobody_ends() {
    let patience = ["--timeout", "600s"];
    each(|driver| {
        let begun = std::time::Instant::now();
        let full = std::fs::File::options().write(true).open("/dev/full").expect("it is there");
        let mut child = begin(&[driver, &patience].concat(), &["yes"]);
        let output = child.stdout(full).stderr(Stdio::piped()).output().expect("it starts");
        assert_eq!(output.status.code(), Some(125), "{driver:?}: {output:?}");
        assert!(err(&output).contains("No space left"), "{}", err(&output));
        let deaf = "trap '' PIPE; while :; do echo x; done";
        for (command, code) in [(&["yes"][..], 141), (&["sh", "-c", deaf], 137)] {
            let mut child = begin(&[driver, &patience].concat(), command)
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .expect("it starts");
            let mut out = child.stdout.take().expect("a pipe");
            out.read_exact(&mut [0; 2]).expect("it writes");
            drop(out);
            assert_eq!(child.wait().expect("it ends").code(), Some(code), "{driver:?} {command:?}");
        }
        assert!(begun.elapsed().as_secs() < 100, "{driver:?}: it was waited for");
    });
}

/// What a shell can say of whoever it starts: a mask, limits, signals that are not told, how urgent it is.
#[test]
fn what_a_caller_is_changes_no_sandbox() {
    each(|driver| {
        let umask = (&["sh", "-c", "umask; exit 3"][..], 3, "0022\n");
        let none = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n";
        let signals = (&["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"][..], 0, none);
        // Who may not be in a hurry is not.
        let hurry = "chrt --fifo --pid 1 $$ 2>/dev/null || :";
        let policy = (&["cut", "-d", " ", "-f", "41", "/proc/self/stat"][..], 0, "0\n");
        let traps = "umask 027; trap '' CHLD HUP INT USR1 RTMIN+3";
        for before in ["umask 077", "trap '' CHLD", traps, hurry] {
            for (command, code, out) in [umask, signals, policy] {
                if driver[3] == "gvisor" && command == signals.0 {
                    continue; // Its /proc tells nothing of signals.
                }
                let run = begin(&[driver, &["--timeout", "20s"]].concat(), command);
                let mut shell = Command::new("bash");
                shell.env_clear().args(["-c", &format!("{before}; exec \"$0\" \"$@\"")]);
                shell.arg(run.get_program()).args(run.get_args()).stdin(Stdio::null());
                let output = shell.output().expect("bash is there");
                let told = String::from_utf8_lossy(&output.stdout);
                let got = (output.status.code(), &*told);
                let err = err(&output);
                assert_eq!(got, (Some(code), out), "{driver:?} {before} {command:?}: {err}");
            }
        }
    });
    for limit in ["ulimit -n", "ulimit -f"] {
        let mut shell = Command::new("bash");
        shell.args(["-c", &format!("{limit} 20; exec \"$0\" sandbox run -- true")]);
        let output = shell.arg(symbiont().get_program()).output().expect("bash is there");
        // It is our affair, and no fault of the command's.
        assert_eq!(output.status.code(), Some(125), "{}", err(&output));
        assert!(err(&output).contains(limit), "{}", err(&output));
    }
}

/// A sandbox whose id nobody could learn is not kept: on a full disk, and where nobody reads.
#[test]
fn one_whose_id_is_not_told_is_not_kept() {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("it is there");
    let (reader, gone) = std::io::pipe().expect("a pipe");
    drop(reader);
    for (number, out) in [Stdio::from(full), Stdio::from(gone)].into_iter().enumerate() {
        let marker = format!("MARK=untold-{}-{number}", std::process::id());
        let mut create = symbiont();
        create.args(["sandbox", "create", "--lease", "10m", "--env", &marker]).stdout(out);
        let output = create.stderr(Stdio::piped()).output().expect("it starts");
        assert_eq!(output.status.code(), Some(125), "{}", err(&output));
        assert!(err(&output).contains("destroyed"), "{}", err(&output));
        let begun = std::time::Instant::now();
        while !lines_with(&marker).is_empty() {
            assert!(begun.elapsed().as_secs() < 20, "its keeper is still there");
        }
    }
}

/// A command that has this terminal, as one that a person sits at.
struct Seat {
    child: Child,
    terminal: std::fs::File,
    seen: Vec<u8>,
}

impl Seat {
    /// `sandbox` with these arguments, and a script to run.
    fn new(arguments: &[&str], script: &str) -> Self {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&terminal).and_then(|()| unlockpt(&terminal)).expect("it is ours");
        let name = ptsname(&terminal, Vec::new()).expect("it has a name");
        let path = Path::new(name.to_str().expect("text"));
        let open = || std::fs::File::options().read(true).write(true).open(path).expect("it opens");
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait", env!("CARGO_BIN_EXE_symbiont"), "sandbox"]);
        command.args(arguments).args(["--", "sh", "-c", script]);
        command.stdin(open()).stdout(open()).stderr(open());
        let child = command.spawn().expect("setsid starts");
        Self { child, terminal: terminal.into(), seen: Vec::new() }
    }

    fn until(&mut self, word: &str) {
        let mut buffer = [0; 256];
        while !self.seen.windows(word.len()).any(|part| part == word.as_bytes()) {
            let count = self.terminal.read(&mut buffer).expect("it goes on");
            self.seen.extend_from_slice(&buffer[..count]);
        }
    }

    fn types(&mut self, bytes: &[u8]) {
        self.terminal.write_all(bytes).expect("it is typed");
    }

    fn sizes(&self, rows: u16, columns: u16) {
        let size =
            rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&self.terminal, size).expect("it has a size");
    }

    fn ends(mut self) -> Option<i32> {
        self.child.wait().expect("it ends").code()
    }
}

#[test]
fn a_person_at_a_terminal_ends_and_resizes_commands() {
    each(|driver| {
        let run = [&["run"], driver].concat();
        let kept = Kept::new(driver);
        let exec = ["exec", &kept.0];
        for (typed, code) in [(&b"\x03"[..], 130), (b"\x1c", 131), (b"\x1a\x03", 130)] {
            for arguments in [&run[..], &exec] {
                // What answers is no longer the shell, which ignores some of the keys itself.
                let mut seat = Seat::new(arguments, "echo there; exec cat");
                seat.until("there\r\n");
                seat.types(b"begun\r");
                seat.until("begun\r\nbegun\r\n");
                seat.types(typed);
                assert_eq!(seat.ends(), Some(code), "{driver:?} {typed:?}");
            }
        }
        if driver[3] == "gvisor" {
            return eprintln!("not run: gvisor: its terminals tell nobody of another size");
        }
        let script = "trap 'stty size' WINCH; echo begun; until read x; do :; done; exit 9";
        let mut seat = Seat::new(&run, script);
        seat.until("begun");
        seat.sizes(33, 77);
        seat.until("33 77");
        seat.types(b"over\r");
        assert_eq!(seat.ends(), Some(9), "{driver:?}");
    });
}

#[test]
fn help_tells_the_ranges_that_are_held() {
    let help = asked(&["run", "--help"]);
    let help = String::from_utf8(help.stdout).expect("text");
    for (option, low, high) in
        [("--memory", "8", "4194304"), ("--cpus", "0.01", "4096"), ("--pids", "16", "4096")]
    {
        let (_, about) = help.split_once(&format!("{option} <")).expect("it is there");
        let about = about.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(about.contains(&format!("from {low} to {high}")), "{option}: {help}");
        for value in ["-1", "0", "x", "99999999999999999999999"] {
            let output = ran(&[option, value], &["true"]);
            assert_eq!(output.status.code(), Some(2), "{option} {value}: {output:?}");
            let told = err(&output);
            assert!(told.contains(&format!("'{option} <")), "{option} {value}: {told}");
        }
    }
}

#[test]
fn bytes_pass_as_they_are() {
    let bytes: Vec<u8> =
        (0..3_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
    each(|driver| {
        let mut child = begin(driver, &["sh", "-c", "cat; echo done >&2"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        let input = bytes.clone();
        let feed = std::thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().expect("it ends");
        feed.join().expect("no panic").expect("it is all read");
        assert_eq!((output.status.code(), err(&output).as_str()), (Some(0), "done\n"));
        assert!(output.stdout == bytes, "{driver:?}: {} bytes", output.stdout.len());
    });
    // A reader that has gone ends the command as a broken pipe does.
    let mut child = begin(&[], &["yes"]).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut out = child.stdout.take().expect("a pipe");
    out.read_exact(&mut [0; 4]).expect("it writes");
    drop(out);
    assert_eq!(child.wait().expect("it ends").code(), Some(141));
}

#[test]
fn nothing_of_this_environment_passes() {
    each(|driver| {
        let output = begin(driver, &["env"])
            .env("CANARY", "leaked")
            .env("TERM", "canary")
            .output()
            .expect("it starts");
        let text = String::from_utf8(output.stdout).expect("text");
        let mut names: Vec<_> = text.lines().filter_map(|line| line.split('=').next()).collect();
        names.sort_unstable();
        assert_eq!(names, ["HOME", "LANG", "PATH", "TMPDIR"], "{driver:?}");
    });
    check(&["--env", "A=1=2", "--env", "B="], "echo $A-$B-", 0, "1=2--\n");
}

#[test]
fn files_come_with_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("a:b");
    std::fs::write(&file, "content").expect("written");
    let file = file.to_str().expect("text");
    std::fs::create_dir(directory.path().join("sub")).expect("made");
    std::fs::write(directory.path().join("sub/deep"), "deep").expect("written");
    std::os::unix::fs::symlink("deep", directory.path().join("sub/near")).expect("linked");
    each(|driver| {
        let elsewhere = format!("{file}:/tmp/x/y");
        let options = [driver, &["--file", file, "--file", &elsewhere]].concat();
        check(&options, "cat a:b /workspace/a:b /tmp/x/y", 0, "contentcontentcontent");
        let whole = format!("{}:/tmp/all", directory.path().display());
        let options = [driver, &["--file", &whole]].concat();
        check(&options, "cd /tmp/all && cat a:b sub/deep && test -h sub/near", 0, "contentdeep");
    });
    for (given, why) in [("/nowhere/x", "No such file"), ("/dev/null", "no regular file")] {
        let output = ran(&["--file", given], &["true"]);
        assert_eq!(output.status.code(), Some(125), "{output:?}");
        assert!(err(&output).contains(why), "{}", err(&output));
    }
    for (guest, why) in [("/etc/x", "beneath"), ("../x", "`..`"), ("", "follows the colon")] {
        let output = ran(&["--file", &format!("{file}:{guest}")], &["true"]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(err(&output).contains(why), "{}", err(&output));
    }
    let output = ran(&["--file", ""], &["true"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn what_makes_no_sense_is_told_at_once() {
    for (options, command, code, why) in [
        (&["--tier", "4"][..], &["true"][..], 2, "4 is not in 1..=3"),
        (&["--tier", "2", "--driver", "process"], &["true"], 2, "does not serve tier 2"),
        (&["--driver", "docker", "--rootfs", "host"], &["true"], 2, "built-in busybox"),
        (&["--rootfs", "./nowhere"], &["true"], 125, "No such file"),
        (&["--driver", "process", "--rootfs", "image"], &["true"], 2, "serves no images"),
        (&["--memory", "0"], &["true"], 2, "--memory"),
        (&["--cpus", "0"], &["true"], 2, "--cpus"),
        (&["--pids", "1"], &["true"], 2, "--pids"),
        (&["--timeout", "25h"], &["true"], 2, "24h"),
        (&["--timeout", "0"], &["true"], 2, "above zero"),
        (&["--env", "PATH"], &["true"], 2, "has no value"),
        (&["--env", "LD_PRELOAD=x"], &["true"], 2, "LD_PRELOAD"),
        (&["--allow-degraded", "sleep"], &["true"], 2, "no limit is called"),
        (&["--bogus"], &["true"], 2, "--bogus"),
        (&[], &[], 2, "COMMAND"),
        (&["--tier", "3"], &["true"], 125, "ask for Tier2"),
        (
            &["--engine", "/nowhere/socket", "--rootfs", "image"],
            &["true"],
            125,
            "is dockerd running",
        ),
    ] {
        let output = ran(options, command);
        assert_eq!(output.status.code(), Some(code), "{options:?}: {output:?}");
        assert!(err(&output).contains(why), "{options:?}: {}", err(&output));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_directory_can_be_its_root() {
    let busybox = Path::new("/bin/busybox");
    if !busybox.is_file() {
        return eprintln!("not run: there is no static busybox");
    }
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(directory.path().join("bin")).expect("made");
    std::fs::copy(busybox, directory.path().join("bin/sh")).expect("copied");
    let root = directory.path().to_str().expect("text");
    check(
        &["--rootfs", root],
        "echo /bin/*; { echo x > /bin/y; } 2>/dev/null || echo sealed",
        0,
        "/bin/sh\nsealed\n",
    );
}

#[test]
fn it_tells_which_walls_stand() {
    each(|driver| {
        let output =
            ran(&[driver, &["--report", "-o", "json", "--pids", "64"]].concat(), &["true"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let report: serde_json::Value = serde_json::from_slice(&output.stderr).expect("JSON");
        assert_eq!(report["driver"], driver[3]);
        assert_eq!(
            (&report["no_new_privileges"], &report["network"]),
            (&true.into(), &"none".into())
        );
        assert!(report["limits"].to_string().contains("processes 64"), "{report}");
        assert!(report["limits"].to_string().contains("memory 512 MiB"), "{report}");
        let output = ran(&[driver, &["--report"]].concat(), &["true"]);
        let told = err(&output);
        for part in ["driver", "limits", "memory 512 MiB", "network", "none"] {
            assert!(told.contains(part), "{part}: {told}");
        }
    });
}

/// A command that has begun in a sandbox, with what it wrote so far.
fn begun(driver: &[&str], script: &str) -> Child {
    let mut child = begin(driver, &["sh", "-c", script])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let out = child.stdout.as_mut().expect("a pipe");
    let mut first = [0; 6];
    out.read_exact(&mut first).expect("it begins");
    assert_eq!(&first, b"begun\n");
    child
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    let told = Command::new("kill").args(["-s", name, &pid]).status().expect("kill starts");
    assert!(told.success());
}

#[test]
fn signals_are_the_command_s() {
    each(|driver| {
        for (name, code) in [("TERM", 143), ("INT", 130), ("HUP", 129)] {
            let child = begun(driver, "echo begun; exec sleep 600");
            signal(&child, name);
            let output = child.wait_with_output().expect("it ends");
            assert_eq!(output.status.code(), Some(code), "{driver:?} {name}: {output:?}");
        }
        let script = "trap 'echo asked; exit 7' TERM; echo begun; while :; do sleep 0.1; done";
        let child = begun(driver, script);
        signal(&child, "TERM");
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(7), "{driver:?}: {output:?}");
        assert_eq!(output.stdout, b"asked\n");
    });
}

/// The processes of this host that have a word in their command line.
fn processes(word: &str) -> usize {
    // Not the command of ours that carries it as well.
    lines_with(word).iter().filter(|line| !has_name(line)).count()
}

/// The command lines on this host that have a word in them.
fn lines_with(word: &str) -> Vec<Vec<u8>> {
    let all = std::fs::read_dir("/proc").expect("/proc").flatten();
    let lines = all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.windows(word.len()).any(|part| part == word.as_bytes())).collect()
}

fn has_name(line: &[u8]) -> bool {
    line.windows(7).any(|part| part == b"sandbox")
}

#[test]
fn nothing_is_left_of_one_that_is_killed() {
    let marker = format!("marker-{}", std::process::id());
    for (name, driver) in drivers().iter().map(|driver| (driver[3].clone(), driver)) {
        if name != "process" {
            continue; // What runs in others is no process of this host, or has another command line.
        }
        let driver: Vec<&str> = driver.iter().map(String::as_str).collect();
        let mut child = begun(&driver, &format!("echo begun; : {marker}; setsid sleep 600; :"));
        assert!(processes(&marker) > 0);
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        let begun = std::time::Instant::now();
        while processes(&marker) > 0 {
            assert!(begun.elapsed().as_secs() < 10, "something of it still runs");
            std::thread::yield_now();
        }
    }
}

/// The commands that `--help` shows do what it says.
#[test]
fn the_examples_of_help_run() {
    let help = symbiont().args(["sandbox", "run", "--help"]).output().expect("it starts");
    let help = String::from_utf8(help.stdout).expect("text");
    let (_, examples) = help.split_once("Examples:\n").expect("there are examples");
    let examples: Vec<_> =
        examples.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
    let want = ["Linux\n", "HELLO\n", "", "you\n1\n", ""];
    assert_eq!(examples.len(), want.len());
    let folder = Path::new(env!("CARGO_BIN_EXE_symbiont")).parent().expect("a folder");
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
    for (example, want) in examples.into_iter().zip(want) {
        let output = Command::new("sh")
            .args(["-c", example])
            .current_dir(root())
            .env("PATH", &path)
            .output()
            .expect("sh starts");
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{example}: {}", err(&output));
        match example.contains("wc -l") {
            true => assert!(told.ends_with(" Cargo.lock\n"), "{told}"),
            false => assert_eq!(told, want, "{example}"),
        }
    }
}

/// A sandbox that is kept, destroyed when the test is over.
struct Kept(String);

impl Kept {
    fn new(options: &[&str]) -> Self {
        Self::begun(symbiont().args(["sandbox", "create", "--lease", "10m"]).args(options))
    }

    fn begun(create: &mut Command) -> Self {
        let output = create.output().expect("it starts");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        Self(String::from_utf8(output.stdout).expect("text").trim().to_owned())
    }

    fn exec(&self, script: &str) -> Command {
        let mut command = symbiont();
        command.args(["sandbox", "exec", &self.0, "--", "sh", "-c", script]).stdin(Stdio::null());
        command
    }

    fn says(&self, script: &str) -> (Option<i32>, String) {
        let output = self.exec(script).output().expect("it starts");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned() + &err(&output))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _gone_already = symbiont().args(["sandbox", "destroy", &self.0]).output();
    }
}

fn asked(arguments: &[&str]) -> Output {
    symbiont().arg("sandbox").args(arguments).output().expect("it starts")
}

fn listed(id: &str) -> Option<serde_json::Value> {
    let output = asked(&["list", "-o", "json"]);
    let all: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    all.into_iter().find(|status| status["id"] == id)
}

#[test]
fn a_sandbox_is_kept_until_it_is_destroyed() {
    each(|driver| {
        let kept = Kept::new(&[driver, &["--env", "A=b", "--pids", "64"]].concat());
        assert_eq!(kept.says("echo $A > note; exit 3"), (Some(3), String::new()));
        assert_eq!(kept.says("cat note; echo x >&2"), (Some(0), "b\nx\n".to_owned()));
        let status = listed(&kept.0).expect("it is there");
        assert_eq!((&status["status"], &status["driver"]), (&"running".into(), &driver[3].into()));
        let text = asked(&["list"]);
        assert!(String::from_utf8_lossy(&text.stdout).contains(&kept.0), "{text:?}");
        let gone = asked(&["destroy", &kept.0]);
        assert_eq!((gone.status.code(), err(&gone).as_str()), (Some(0), ""));
        assert!(listed(&kept.0).is_none());
        let (code, told) = kept.says("true");
        assert!(code == Some(125) && told.contains("no sandbox"), "{told}");
        assert_eq!(asked(&["destroy", &kept.0]).status.code(), Some(0), "it is gone, as is wanted");
    });
}

#[test]
fn a_kept_one_s_commands_are_talked_to_as_one_s_own() {
    let kept = Kept::new(&[]);
    let bytes: Vec<u8> =
        (0..1_500_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    let mut child =
        kept.exec("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = bytes.clone();
    let feed = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("it ends");
    feed.join().expect("no panic").expect("it is all read");
    assert!(output.status.success() && output.stdout == bytes, "{} bytes", output.stdout.len());
    // A signal is not behind what the command does not read.
    let mut child = kept
        .exec("trap 'exit 7' TERM; echo begun; while :; do sleep 0.1; done")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut first = [0; 6];
    child.stdout.as_mut().expect("a pipe").read_exact(&mut first).expect("it begins");
    let mut stdin = child.stdin.take().expect("a pipe");
    let feed = std::thread::spawn(move || stdin.write_all(&vec![0; 4 << 20]));
    signal(&child, "TERM");
    assert_eq!(child.wait().expect("it ends").code(), Some(7));
    assert!(feed.join().expect("no panic").is_err(), "nobody read it");
    // One whose caller is killed is killed.
    let marker = format!("kept-{}", std::process::id());
    let mut child = kept
        .exec(&format!("echo begun; : {marker}; sleep 600; :"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    child.stdout.as_mut().expect("a pipe").read_exact(&mut first).expect("it begins");
    assert!(processes(&marker) > 0);
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    let begun = std::time::Instant::now();
    while processes(&marker) > 0 {
        assert!(begun.elapsed().as_secs() < 10, "it still runs");
        std::thread::yield_now();
    }
    for (script, code) in [("kill -9 $$", 137), ("exec nothing-like-it", 127)] {
        assert_eq!(kept.says(script).0, Some(code), "{script}");
    }
    let absent = asked(&["exec", &kept.0, "--", "no-such-command"]);
    assert_eq!(absent.status.code(), Some(127), "{absent:?}");
    let late = asked(&["exec", "--timeout", "300ms", &kept.0, "--", "sleep", "60"]);
    assert_eq!(late.status.code(), Some(124), "{late:?}");
}

#[test]
fn files_go_in_and_come_out() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name).to_str().expect("text").to_owned();
    std::fs::write(at("in"), "content").expect("written");
    let kept = Kept::new(&[]);
    let inside = |path: &str| format!("{}:{path}", kept.0);
    let copied = |from: &str, to: &str| {
        let output = asked(&["cp", from, to]);
        (output.status.code(), err(&output))
    };
    assert_eq!(copied(&at("in"), &inside("sub/x")), (Some(0), String::new()));
    assert_eq!(kept.says("cat sub/x"), (Some(0), "content".to_owned()));
    assert_eq!(copied(&inside("/workspace/sub/x"), &at("out")), (Some(0), String::new()));
    assert_eq!(std::fs::read_to_string(at("out")).expect("it is there"), "content");
    assert_eq!(copied(&inside("sub/x"), &at("")), (Some(0), String::new()));
    assert_eq!(std::fs::read_to_string(at("x")).expect("it is there"), "content");
    // Directories, into those that are there; what leads out of them stays behind.
    std::fs::create_dir_all(at("tree/leaf")).expect("made");
    std::fs::write(at("tree/leaf/file"), "leaf").expect("written");
    std::os::unix::fs::symlink("/etc/passwd", at("tree/out")).expect("linked");
    let out = "left out: `out` is a link that leads out of the directory\n";
    assert_eq!(copied(&at("tree"), &inside("")), (Some(0), out.to_owned()));
    assert_eq!(copied(&at("tree"), &inside("sub/")), (Some(0), out.to_owned()));
    assert_eq!(
        kept.says("cat tree/leaf/file sub/tree/leaf/file"),
        (Some(0), "leafleaf".to_owned())
    );
    std::fs::create_dir(at("here")).expect("made");
    assert_eq!(copied(&inside("sub"), &at("here")), (Some(0), String::new()));
    assert_eq!(
        std::fs::read_to_string(at("here/sub/tree/leaf/file")).expect("it is there"),
        "leaf"
    );
    assert_eq!(copied(&inside(""), &at("all")), (Some(0), String::new()));
    assert_eq!(std::fs::read_to_string(at("all/sub/x")).expect("it is there"), "content");
    // What a link leads to is replaced, and nothing but files is.
    std::os::unix::fs::symlink(at("out"), at("link")).expect("linked");
    std::fs::write(at("in"), "newer").expect("written");
    assert_eq!(copied(&at("in"), &inside("sub/x")), (Some(0), String::new()));
    assert_eq!(copied(&inside("sub/x"), &at("link")), (Some(0), String::new()));
    assert_eq!(std::fs::read_to_string(at("out")).expect("it is there"), "newer");
    assert!(std::fs::read_link(at("link")).is_ok());
    let socket = std::os::unix::net::UnixListener::bind(at("socket")).expect("bound");
    std::os::unix::fs::symlink(at("none"), at("broken")).expect("linked");
    for (from, to, code, why) in [
        (inside("sub/x"), at("socket"), 125, "no regular file"),
        (inside("sub/x"), at("broken"), 125, "leads nowhere"),
        (at("tree"), inside("sub/x"), 125, "sub/x"),
        ("/dev/null".to_owned(), inside("x"), 125, "no regular file"),
        (at("nothing"), inside("x"), 125, "No such file"),
        (at("in"), at("y"), 2, "ID:PATH"),
        (inside("sub"), at("in"), 125, "Not a directory"),
        (inside("nothing"), at("y"), 125, "No such file"),
        (at("in"), inside("/etc/x"), 2, "beneath /workspace or /tmp"),
        (at("in"), inside("../x"), 2, "`..` is not followed"),
        (inside("../x"), at("y"), 2, "`..` is not followed"),
    ] {
        let (got, told) = copied(&from, &to);
        assert!(told.contains(why), "{from} {to}: {told}");
        assert_eq!(got, Some(code), "{from} {to}: {told}");
    }
    drop(socket);
}

#[test]
fn a_lease_ends_and_a_keeper_that_is_killed_is_gone() {
    let output = asked(&["create", "--lease", "2s"]);
    let id = String::from_utf8(output.stdout).expect("text").trim().to_owned();
    assert!(listed(&id).is_some(), "it is there for two seconds");
    let begun = std::time::Instant::now();
    while listed(&id).is_some() {
        assert!(begun.elapsed().as_secs() < 20, "its lease is over");
    }
    // The keeper of another is killed, and its sandbox with it.
    let kept = Kept::new(&[]);
    let marker = format!("of-a-keeper-{}", std::process::id());
    let script = format!("echo begun; : {marker}; sleep 600; :");
    let mut running = kept.exec(&script).stdout(Stdio::piped()).spawn().expect("it starts");
    running.stdout.as_mut().expect("a pipe").read_exact(&mut [0; 6]).expect("it begins");
    let keeper = listed(&kept.0).expect("it is there")["keeper"].to_string();
    let environment = std::fs::read(format!("/proc/{keeper}/environ")).expect("it runs");
    assert!(environment.is_empty(), "it has nothing of this environment");
    let killed = Command::new("kill").args(["-9", &keeper]).status().expect("kill starts");
    assert!(killed.success());
    assert_eq!(running.wait().expect("it ends").code(), Some(125));
    // Whoever destroys it removes what the killed one could not.
    let name = format!("sbx-{}", kept.0.replace('-', ""));
    assert_eq!(asked(&["destroy", &kept.0]).status.code(), Some(0));
    let find = Command::new("find").args(["/sys/fs/cgroup", "-name", &name]).output();
    assert_eq!(String::from_utf8_lossy(&find.expect("find starts").stdout), "");
    let begun = std::time::Instant::now();
    while processes(&marker) > 0 {
        assert!(begun.elapsed().as_secs() < 10, "something of it still runs");
    }
    assert!(listed(&kept.0).is_none());
    // What is wrong is told by the command that was asked.
    let wrong = asked(&["create", "--memory", "1"]);
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    assert!(err(&wrong).contains("--memory"), "{}", err(&wrong));
    let third = asked(&["create", "--tier", "3"]);
    assert_eq!((third.status.code(), third.stdout.as_slice()), (Some(125), &b""[..]), "{third:?}");
    assert!(err(&third).contains("ask for Tier2"), "{}", err(&third));
}
