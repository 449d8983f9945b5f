//! `symbiont repl`, fed through its standard input and at a terminal.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use crate::{Ran, fed};

/// What becomes of these lines, typed one after the other.
fn typed(input: &str) -> Ran {
    fed(&["repl"], input)
}

/// The lines give this on standard output, and nothing fails.
#[track_caller]
fn check(input: &str, want: &str) {
    let ran = typed(input);
    assert_eq!((ran.out.as_str(), ran.code), (want, Some(0)), "{}", ran.err);
}

#[test]
fn what_was_entered_lasts() {
    check("", "");
    check("1 + 1", "2\n");
    check("let x = [3, 1, 2]\nx.sort()\nx", "[1,2,3]\n[3,1,2]\n");
    check("function twice(x) {\n  x * 2\n}\ntwice(21)\n", "42\n");
    let ran = typed("def twice(x) { x * 2 }\n");
    assert!(ran.err.contains("did you mean `function`?"), "{}", ran.err);
    check("let n = 1\nlet add = x => x + n\nn = 10\nadd(1)\nn\n", "2\n10\n");
    check("x = 1\nx += 1\nx\n", "2\n");
    check("\"a \\u{1b} b\"\nnull\n", "\"a \\u001b b\"\n");
    check(":help\n:quit\n1\n", &typed(":help").out);
}

#[test]
fn effects_are_made_in_a_sandbox() {
    check(
        "fs.write(\"a.txt\", \"hello\")\nlet told = exec(\"cat\", [\"a.txt\"])\ntold.stdout\n",
        "\"hello\"\n",
    );
}

#[test]
fn what_fails_is_told_and_the_rest_goes_on() {
    let ran = typed("1 / 0\nnobody\nlet = \n2\n");
    assert_eq!((ran.out.as_str(), ran.code), ("2\n", Some(1)), "{}", ran.err);
    for told in ["ArithmeticError: ", "error[E0201]: nobody defined `nobody`", "error[E01"] {
        assert!(ran.err.contains(told), "{told}: {}", ran.err);
    }
    // However often that is: nobody but who types decides what comes next.
    let ran = typed(&format!("{}\"alive\"\n", "1 / 0\nexec(\"false\", 1)\n".repeat(20)));
    assert_eq!((ran.out.as_str(), ran.code), ("\"alive\"\n", Some(1)), "{}", ran.err);
    // What is open at the end is told of what was typed.
    for open in ["sleep(", "function f(x) {\n  x\n", "let x = \"abc"] {
        let ran = typed(open);
        assert!(ran.err.contains("is not closed"), "{open}: {}", ran.err);
        assert_eq!((ran.err.matches("error").count(), ran.code), (1, Some(1)), "{}", ran.err);
    }
    let ran = typed(":nonsense\n:doc nonsense\n");
    assert_eq!(ran.code, Some(1));
    let ran = typed(":doc len\n");
    assert!(ran.out.contains("len(") && ran.code == Some(0), "{}{}", ran.out, ran.err);
    let ran = typed("print(\"hi\")\nlog(\"info\", \"there\")\n");
    assert!(ran.err.contains("hi\n") && ran.err.contains("there"), "{}", ran.err);
}

#[test]
fn at_a_terminal_it_prompts_and_remembers() {
    let directory = tempfile::tempdir().expect("a directory");
    let history = directory.path().join("history");
    let command = format!(
        "{} repl --history {}",
        env!("CARGO_BIN_EXE_symbiont"),
        history.to_str().expect("a path")
    );
    let mut child = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("util-linux has `script`");
    let mut stdin = child.stdin.take().expect("a pipe");
    let mut stdout = child.stdout.take().expect("a pipe");
    let mut shown = String::new();
    // Each line is typed once there is a prompt for it.
    for (after, typed) in [("", "20 + 22\r"), ("42", "[1,\r2].len()\r"), ("2\r\n", ":quit\r")] {
        let mut seen = String::new();
        while !seen.split_once(after).is_some_and(|(_, rest)| rest.contains("> ")) {
            let mut bytes = [0; 4096];
            let count = stdout.read(&mut bytes).expect("it writes");
            assert!(count > 0, "it ended: {shown}{seen}");
            seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
        shown.push_str(&seen);
        stdin.write_all(typed.as_bytes()).expect("it reads");
    }
    assert!(child.wait().expect("it ends").success(), "{shown}");
    let kept = std::fs::read_to_string(&history).expect("it was kept");
    assert!(kept.contains("20 + 22"), "{kept}");
}
