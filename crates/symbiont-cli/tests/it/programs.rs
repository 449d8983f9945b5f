//! `run`, `check`, `doctor` and what `--help` says.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::{Ran, program, ran, root, symbiont};

/// What this repository's lock file really locks, read without the agent's help.
struct Locked {
    lines: usize,
    crates: usize,
    checksums: usize,
    sources: BTreeSet<String>,
    duplicates: BTreeMap<String, Vec<String>>,
}

fn locked() -> Locked {
    let text = std::fs::read_to_string(root().join("Cargo.lock")).expect("the lock file");
    let value = |line: &str, key: &str| {
        let rest = line.strip_prefix(key)?.strip_prefix(" = \"")?;
        rest.strip_suffix('"').map(str::to_owned)
    };
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let (mut sources, mut checksums, mut name) = (BTreeSet::new(), 0, String::new());
    for line in text.lines() {
        if let Some(found) = value(line, "name") {
            name = found;
        } else if let Some(version) = value(line, "version") {
            versions.entry(name.clone()).or_default().push(version);
        } else if let Some(source) = value(line, "source") {
            sources.insert(source);
        } else if value(line, "checksum").is_some() {
            checksums += 1;
        }
    }
    Locked {
        lines: text.lines().count(),
        crates: versions.values().map(Vec::len).sum(),
        checksums,
        sources,
        duplicates: versions.into_iter().filter(|(_, versions)| versions.len() > 1).collect(),
    }
}

const README: [&str; 4] = ["run", "agents/lockfile_audit.symbi", "--file", "Cargo.lock"];

#[test]
fn the_readme_s_command_says_what_the_lock_file_locks() {
    let Ran { code, out, err } = ran(README.into_iter().chain(["--output", "json"]));
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(out.matches('\n').count(), 1, "one line of JSON: {out}");
    let report: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let keys: Vec<_> = report.as_object().expect("a record").keys().collect();
    let want = ["lines", "sha256", "crates", "with_checksum", "sources", "duplicates", "denied"];
    assert_eq!(keys, want);

    let locked = locked();
    assert!(locked.crates > 100 && !locked.duplicates.is_empty(), "the lock file is a real one");
    assert_eq!(report["lines"], locked.lines);
    assert_eq!(report["crates"], locked.crates);
    assert_eq!(report["with_checksum"], locked.checksums);
    let sources = report["sources"].as_array().expect("an array");
    let sources: BTreeSet<_> =
        sources.iter().map(|source| source.as_str().expect("text").to_owned()).collect();
    assert_eq!(sources, locked.sources);
    assert_eq!(report["duplicates"], serde_json::json!(locked.duplicates));
    let digest = Command::new("sha256sum").arg(root().join("Cargo.lock")).output();
    let digest = String::from_utf8(digest.expect("it starts").stdout).expect("text");
    assert_eq!(report["sha256"].as_str(), digest.split_whitespace().next());
    let denied = report["denied"].as_str().expect("the denial is reported");
    assert!(denied.contains("fs.read:/etc/passwd"), "{denied}");
}

#[test]
fn the_readme_s_command_is_good_to_read() {
    let Ran { code, out, err } = ran(README);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.starts_with("{\n  \"lines\": "), "{out}");
    // What happened is told in its order.
    let mut rest = err.as_str();
    for part in [
        "state    Created > Initializing > Ready > Running\n",
        "exec     wc -l Cargo.lock",
        "sandbox  Tier1",
        "exit 0",
        "exec     sha256sum Cargo.lock",
        "-> exit 0",
        "file     fs.read(Cargo.lock)",
        "log      info: ",
        "DENIED   nothing allows `fs.read:/etc/passwd`",
        "log      warn: ",
        "run      returned a value",
        "state    Completed",
        "sandbox  destroyed\n",
        "Terminated\n",
    ] {
        let at = rest.find(part);
        let at = at.unwrap_or_else(|| panic!("`{part}` is not told, or not in its place:\n{err}"));
        rest = &rest[at + part.len()..];
    }
    assert!(!err.contains('\u{1b}'), "colours are for terminals: {err:?}");
}

#[test]
fn every_agent_of_the_repository_is_without_fault() {
    let mut files: Vec<_> = std::fs::read_dir(root().join("agents"))
        .expect("the agents")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    assert!(files.len() >= 4);
    let mut command = symbiont();
    let Ran { code, out, err } =
        command.arg("check").args(&files).output().expect("it starts").into();
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(out, format!("{} files: 0 errors, 0 warnings\n", files.len()));
}

#[test]
fn the_exit_code_says_how_it_ended() {
    #[track_caller]
    fn check(source: &str, arguments: &[&str], code: i32, told: &str) {
        let (_directory, path) = program(source);
        let ran = ran(["run", &path].into_iter().chain(arguments.iter().copied()));
        assert_eq!(ran.code, Some(code), "{}", ran.err);
        assert!(ran.err.contains(told), "`{told}` is not told:\n{}", ran.err);
        assert_eq!(ran.out.is_empty(), code != 0, "only a result is printed: {}", ran.out);
    }
    check("agent a { with { return 1; } }", &[], 0, "returned a value");
    check(
        "agent a { policy p { deny: exec } with { try { exec(\"id\"); } catch (e) { return e.kind; } } }",
        &[],
        0,
        "DENIED",
    );
    check("agent a { with { return 1 / 0; } }", &[], 1, "error[ArithmeticError]");
    check("agent a { with { return error(\"no good\"); } }", &[], 1, "no good");
    check("agent a { with { return unknown_name; } }", &[], 1, "error[E0201]");
    check("type T = int", &[], 1, "declares no agent");
    check("Please count the crates.", &[], 1, "language model");
    check("agent a(n: int) { with { return n; } }", &[], 1, "--input '{\"n\": ...}'");
    check("agent a", &["--input", "{"], 2, "--input is no JSON");
    check("agent a", &["--agent", "b"], 2, "it has: a");
    check("agent a", &["--file", "/missing"], 2, "`/missing` can't be read");
    check("agent a", &["--file", "/tmp"], 2, "no regular file");
    check(
        "agent a",
        &["--file", "Cargo.lock", "--file", "crates/../Cargo.lock"],
        2,
        "/workspace/Cargo.lock",
    );
    check("agent a", &["--colour"], 2, "--colour");
    check(
        "agent a { policy p { deny: exec } with { exec(\"id\"); } }",
        &[],
        3,
        "error[PolicyDenied]",
    );
    check("agent a { with sandbox = \"tier3\" { exec(\"id\"); } }", &[], 4, "symbiont doctor");
    check("agent a { with sandbox = \"e2b\" { exec(\"id\"); } }", &[], 4, "error[TierUnavailable]");
    check("agent a", &["--file", "/proc/self/status"], 2, "copy it first");
    check("agent a", &["--data", "Cargo.lock"], 2, "--data `Cargo.lock` is no directory");
    check("agent a", &["--data", "/proc/1/mine"], 2, "can't be made");
    check("agent a", &["--input", "@/missing"], 2, "--input @/missing");
    check("agent a", &["--input", "@/dev/zero"], 2, "more than 1,048,576 bytes");
    check("agent a", &["--input", "@Cargo.lock"], 2, "--input is no JSON");
}

/// What is no program is refused at once, by its name, and nothing waits for it.
#[test]
fn only_a_file_of_text_is_a_program() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name);
    let made = Command::new("mkfifo").arg(path("pipe")).status().expect("mkfifo starts");
    assert!(made.success());
    let sparse = std::fs::File::create(path("sparse")).expect("it is made");
    sparse.set_len(3 << 30).expect("it is long");
    std::fs::write(path("binary"), [b'a', 0xff]).expect("it is written");
    let cases = [
        (path("missing"), "No such file"),
        (path("pipe"), "it is no regular file"),
        ("/dev/zero".into(), "it is no regular file"),
        (directory.path().to_owned(), "it is no regular file"),
        (path("sparse"), "it has more than 1,048,576 bytes"),
        (path("binary"), "it is not a text file"),
    ];
    for (path, reason) in cases {
        for command in ["run", "check"] {
            let Ran { code, out, err } = ran([command.as_ref(), path.as_os_str()]);
            assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
            let want = format!("`{}` can't be read: {reason}", path.display());
            assert!(err.contains(&want), "{err}");
        }
    }
}

#[test]
fn the_input_comes_from_where_it_is_said() {
    let (directory, path) = program("agent a(n: int) { with { return n; } }");
    let input = directory.path().join("input.json");
    std::fs::write(&input, "{\"n\": 7}").expect("it is written");
    let at = format!("@{}", input.display());
    let Ran { code, out, err } = ran(["run", &path, "--input", &at]);
    assert_eq!((code, out.as_str()), (Some(0), "7\n"), "{err}");
    let mut command = symbiont();
    command
        .args(["run", &path, "--input", "-"])
        .stdin(std::fs::File::open(&input).expect("it opens"));
    let Ran { code, out, err } = command.output().expect("it starts").into();
    assert_eq!((code, out.as_str()), (Some(0), "7\n"), "{err}");
    let Ran { code, out, err } = ran(["run", &path, "--input", "-3"]);
    assert_eq!((code, out.as_str()), (Some(0), "-3\n"), "{err}");
}

#[test]
fn an_instruction_is_no_program() {
    let (_directory, path) = program("Please count the crates.");
    let Ran { code, out, err } = ran(["check", &path]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("is an instruction in plain words, not a program"), "{out}");
    let Ran { out, .. } = ran(["check", "-o", "json", &path]);
    let found: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(found["instructions"][0], path);
}

/// Those who wait for mail are there before anyone sends, and one that waits for the lead's first
/// message as it starts keeps nobody waiting.
#[test]
fn agents_can_get_mail_before_any_of_them_runs() {
    let source = "
        agent lead { with {
            send(\"late\", \"go\");
            let first = receive(10s); let second = receive(10s);
            return [first.payload, second.payload];
        } }
        agent early {
            on start { send(\"lead\", \"early\"); }
            on message(topic, payload) { }
        }
        agent late {
            on start { let go = receive(10s); send(\"lead\", go.payload); }
            on message(topic, payload) { }
        }";
    let (_directory, path) = program(source);
    let Ran { code, out, err } = ran(["run", &path, "-o", "json"]);
    assert_eq!((code, out.as_str()), (Some(0), "[\"early\",\"go\"]\n"), "{err}");
}

#[test]
fn json_is_the_value_byte_for_byte() {
    #[track_caller]
    fn check(value: &str, want: &str) {
        let (_directory, path) = program(&format!("agent a {{ with {{ return {value}; }} }}"));
        let Ran { code, out, err } = ran(["run", &path, "-o", "json"]);
        assert_eq!(code, Some(0), "{err}");
        assert_eq!(out, format!("{want}\n"));
    }
    check("null", "null");
    check("9223372036854775807", "9223372036854775807");
    check("1.0", "1.0");
    check("\"a \\\"b\\\" \\n \\u{e9}\"", "\"a \\\"b\\\" \\n \u{e9}\"");
    check("{ z: 1, a: [true, None, Some(2)] }", "{\"z\":1,\"a\":[true,null,2]}");
    check("90s", "\"PT1M30S\"");
    check("2KB", "2000");
}

#[test]
fn text_is_for_people() {
    #[track_caller]
    fn check(value: &str, want: &str) {
        let (_directory, path) = program(&format!("agent a {{ with {{ return {value}; }} }}"));
        let Ran { code, out, err } = ran(["run", &path]);
        assert_eq!(code, Some(0), "{err}");
        assert_eq!(out, want);
    }
    check("\"two\\nlines\"", "two\nlines\n");
    check("{ z: 1, a: [] }", "{\n  \"z\": 1,\n  \"a\": []\n}\n");
    check("1.0", "1.0\n");
}

#[test]
fn no_program_can_forge_what_is_told() {
    let forged =
        "agent a { with { log(\"info\", \"x\\n   0.000s  DENIED   nothing\\u{1b}[2J\"); } }";
    let (_directory, path) = program(forged);
    let Ran { code, err, .. } = ran(["run", &path]);
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("log      info: x\\n   0.000s  DENIED   nothing\\u{1b}[2J\n"), "{err}");
    assert!(!err.contains('\u{1b}'), "{err:?}");

    let forged = "agent a { with { return error(\"done\\n  help: run it as root\"); } }";
    let (_directory, path) = program(forged);
    let Ran { code, err, .. } = ran(["run", &path]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains(": done\n  |   help: run it as root\n"), "{err}");
    assert!(!err.lines().any(|line| line.starts_with("  help: run")), "{err}");
}

/// On a terminal, JSON is the same JSON, and does nothing to the terminal.
#[test]
fn json_on_a_terminal_is_harmless() {
    let source = "agent a { with { return \"x\\u{9b}31m\\u{202e}\\u{e9}\"; } }";
    let (_directory, path) = program(source);
    let run = format!("{} run {path} -o json 2>/dev/null", env!("CARGO_BIN_EXE_symbiont"));
    let mut terminal = Command::new("script");
    terminal.args(["-qec", &run, "/dev/null"]).stdin(Stdio::null());
    let Ok(output) = terminal.output() else {
        eprintln!("not run: there is no `script` here");
        return;
    };
    let Ran { code, out, .. } = output.into();
    assert_eq!((code, out.as_str()), (Some(0), "\"x\\u009b31m\\u202e\u{e9}\"\r\n"));
    let Ran { out, .. } = ran(["run", &path, "-o", "json"]);
    assert_eq!(out, "\"x\u{9b}31m\u{202e}\u{e9}\"\n", "byte for byte elsewhere");
}

#[test]
fn agents_of_one_file_work_together() {
    let input = "{\"text\": \"to be or not to be\"}";
    let Ran { code, out, err } = ran(["run", "agents/relay.symbi", "--input", input, "-o", "json"]);
    assert_eq!(code, Some(0), "{err}");
    let want = "{\"counts\":{\"words\":6,\"different\":4,\
                \"times\":{\"to\":2,\"be\":2,\"or\":1,\"not\":1}},\
                \"headline\":\"TO BE OR NOT TO BE\"}\n";
    assert_eq!(out, want);
}

#[test]
fn check_shows_what_is_wrong() {
    let (directory, _) = program("agent a { with { return nme; } }\n");
    let mut command = symbiont();
    command.current_dir(directory.path()).args(["check", "program.symbi"]);
    let Ran { code, out, err } = command.output().expect("it starts").into();
    assert_eq!((code, err.as_str()), (Some(1), ""));
    let want = "\
error[E0201]: nobody defined `nme`
 --> program.symbi:1:25
  |
1 | agent a { with { return nme; } }
  |                         ^^^ not known here

1 file: 1 error, 0 warnings
for more about it, try `symbiont explain E0201`
";
    assert_eq!(out, want);

    let mut command = symbiont();
    command.current_dir(directory.path()).args([
        "check",
        "-o",
        "json",
        "program.symbi",
        "gone.symbi",
    ]);
    let Ran { code, out, err } = command.output().expect("it starts").into();
    assert_eq!(code, Some(2));
    assert!(err.contains("`gone.symbi` can't be read"), "{err}");
    let found: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&found["files"], &found["errors"]), (&1.into(), &1.into()));
    assert_eq!(found["diagnostics"][0]["code"], "E0201");
    assert_eq!(found["diagnostics"][0]["file"], "program.symbi");
}

#[test]
fn doctor_tells_what_this_host_has() {
    let text = ran(["doctor"]);
    let Ran { code, out, err } = ran(["doctor", "-o", "json"]);
    let found: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let works = found["tiers"][0]["available"].as_bool().expect("a bool");
    let want = if works { Some(0) } else { Some(1) };
    assert_eq!((code, text.code, found["fit"].as_bool()), (want, want, Some(works)), "{err}");
    assert_eq!(found["tiers"].as_array().map(Vec::len), Some(3));
    for part in ["Tier1", "Tier2", "Tier3", "user namespaces", "control groups", "memory", "cores"]
    {
        assert!(text.out.contains(part), "`{part}` is not told:\n{}", text.out);
    }
}

/// Every example of every help page, run in the order of the pages.
#[test]
fn the_examples_of_the_help_pages_work() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for name in ["agents", "tools", "Cargo.lock"] {
        std::os::unix::fs::symlink(root().join(name), directory.path().join(name)).expect("a link");
    }
    let binary = Path::new(env!("CARGO_BIN_EXE_symbiont")).parent().expect("a directory");
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap_or_default());
    let pages: [&[&str]; 12] = [
        &[],
        &["run"],
        &["check"],
        &["explain"],
        &["fmt"],
        &["policy", "show"],
        &["doctor"],
        &["audit"],
        &["audit", "verify"],
        &["audit", "show"],
        &["audit", "export"],
        &["tool"],
    ];
    for page in pages {
        let help = ran(page.iter().copied().chain(["--help"]));
        assert_eq!((help.code, help.err.as_str()), (Some(0), ""), "{page:?}");
        let (_, examples) = help.out.split_once("Examples:\n").expect("it has examples");
        let examples: Vec<_> = examples.lines().map_while(|line| line.strip_prefix("  ")).collect();
        assert!(!examples.is_empty(), "{page:?} has no example:\n{}", help.out);
        for example in examples {
            let mut shell = Command::new("sh");
            shell.args(["-c", example]);
            let output = shell.env("PATH", &path).current_dir(directory.path()).output();
            let Ran { code, out, err } = output.expect("a shell").into();
            assert_eq!(code, Some(0), "{example}\n{out}\n{err}");
        }
    }
    let full = std::fs::File::options().write(true).open("/dev/full").expect("it is there");
    let unread = symbiont().arg("--help").stdout(full).status().expect("it starts");
    assert_eq!(unread.code(), Some(1), "help that nobody got");
    let version = ran(["--version"]);
    assert_eq!(version.out, format!("symbiont {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_closed_pipe_is_no_panic() {
    for stream in ["1", "2"] {
        let script =
            format!("\"$0\" run agents/primes.symbi --input '{{\"limit\": 5000}}' {stream}>&-");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_symbiont")]).current_dir(root());
        let Ran { code, out, err } = shell.output().expect("a shell").into();
        assert!(!out.contains("panicked") && !err.contains("panicked"), "{out}{err}");
        assert_eq!(code, Some(0), "{stream} closed: {out}{err}");
    }
    // A reader that goes away while it is written to.
    for redirect in ["| true", "2>&1 >/dev/null | true"] {
        let script =
            format!("\"$0\" run agents/primes.symbi --input '{{\"limit\": 50000}}' {redirect}");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_symbiont")]).current_dir(root());
        let Ran { out, err, .. } = shell.output().expect("a shell").into();
        assert!(!out.contains("panicked") && !err.contains("panicked"), "{out}{err}");
    }
    // A result that nobody got is a failure.
    let full = std::fs::File::options().write(true).open("/dev/full").expect("it is there");
    let mut command = symbiont();
    command.args(["run", "agents/primes.symbi", "--input", "{\"limit\": 5}"]).stdout(full);
    let Ran { code, err, .. } = command.output().expect("it starts").into();
    assert_eq!(code, Some(1));
    assert!(err.contains("could not be written"), "{err}");
}

/// The processes whose arguments contain `marker`.
fn processes(marker: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").expect("/proc");
    entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let arguments = std::fs::read(path.join("cmdline")).ok()?;
            let arguments = String::from_utf8_lossy(&arguments).into_owned();
            let is_marked = arguments.split('\0').any(|argument| argument == marker);
            is_marked.then(|| format!("{}: {arguments}", path.display()))
        })
        .collect()
}

#[test]
fn a_signal_ends_the_run_and_leaves_nothing() {
    for (signal, name, code) in [("TERM", "31536001", 143), ("INT", "31536002", 130)] {
        let source = format!("agent a {{ with {{ exec(\"sleep\", [\"{name}\"]); }} }}");
        let (directory, path) = program(&source);
        let data = directory.path().join("data");
        let mut command = symbiont();
        command
            .args(["run", &path, "--data"])
            .arg(&data)
            .stderr(Stdio::piped())
            .stdout(Stdio::null());
        // A group of its own, so that nobody else hears the signal.
        let mut child = command.process_group(0).spawn().expect("it starts");
        let mut told = child.stderr.take().expect("it is piped");
        while processes(name).is_empty() {
            assert!(child.try_wait().expect("it is asked").is_none(), "it ended early");
            std::thread::yield_now();
        }
        let killed = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
        assert!(killed.expect("kill starts").success());
        let mut rest = String::new();
        told.read_to_string(&mut rest).expect("text");
        let status = child.wait().expect("it ends");
        assert_eq!(status.code(), Some(code), "{rest}");
        assert!(rest.contains("sandbox  destroyed"), "{rest}");
        assert_eq!(processes(name), Vec::<String>::new());
        let left: Vec<_> = walk(&data.join("sandbox"));
        assert_eq!(left, Vec::<String>::new(), "files of a sandbox are left");
        let verified = symbiont().args(["audit", "verify", "--data"]).arg(&data).output();
        let verified: Ran = verified.expect("it starts").into();
        assert_eq!(verified.code, Some(0), "{}", verified.out);
    }
}

/// Whether a process handles this signal itself.
fn catches(process: u32, signal: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0");
    u64::from_str_radix(caught.trim(), 16).is_ok_and(|caught| caught & (1 << (signal - 1)) != 0)
}

/// Waits until the command handles SIGTERM, and sends it these signals.
fn send(child: &mut std::process::Child, signals: &[&str]) {
    while !catches(child.id(), 15) {
        assert!(child.try_wait().expect("it is asked").is_none(), "it ended early");
        std::thread::yield_now();
    }
    for signal in signals {
        let killed = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
        assert!(killed.expect("kill starts").success());
    }
}

#[test]
fn a_signal_ends_whatever_the_command_waits_for() {
    // Its input, and whoever reads its result.
    let long = "agent a { with { return range(0, 200000); } }";
    for arguments in [["--input", "-"], ["--input", "{}"]] {
        let (_directory, path) = program(long);
        let mut command = symbiont();
        command.args(["run", &path]).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.process_group(0).spawn().expect("it starts");
        let held = (child.stdin.take(), child.stdout.take());
        let mut told = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut line = String::new();
        while arguments[1] != "-" && !line.contains("Terminated") {
            line.clear();
            assert!(told.read_line(&mut line).expect("text") > 0, "it ended early");
        }
        send(&mut child, &["TERM"]);
        assert_eq!(child.wait().expect("it ends").code(), Some(143), "{arguments:?}");
        drop(held);
    }
}

#[test]
fn a_second_signal_ends_the_command_where_it_stands() {
    // Nobody reads what it tells, so that it never ends by itself.
    let (reader, mut full) = std::io::pipe().expect("a pipe");
    full.write_all(&[b'x'; 64 << 10]).expect("it has room for so much");
    let (_directory, path) = program("agent a { with { while true { } } }");
    let mut command = symbiont();
    command.args(["run", &path]).stdout(Stdio::null()).stderr(full);
    let mut child = command.process_group(0).spawn().expect("it starts");
    send(&mut child, &["TERM", "INT"]);
    let code = child.wait().expect("it ends").code();
    assert!(matches!(code, Some(130 | 143)), "{code:?}");
    drop(reader);
}

/// All directories and files below `path`.
fn walk(path: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(path) else { return Vec::new() };
    let mut all = Vec::new();
    for entry in entries.flatten() {
        all.push(entry.path().display().to_string());
        all.extend(walk(&entry.path()));
    }
    all
}
