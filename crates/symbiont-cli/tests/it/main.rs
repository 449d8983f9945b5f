//! The command as people use it: the built binary, driven from outside.
//!
//! Tests that make a sandbox need a host that allows one; `symbiont doctor` says why it does not.

mod checks;
mod formatting;
mod language;
mod lsp;
mod policy;
mod programs;
mod readme;
mod repl;
mod sandbox;
mod tools;
mod trail;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The root of the repository, where the README's commands are given.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

/// The command, in the root of the repository.
fn symbiont() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_symbiont"));
    command.current_dir(root());
    command
}

/// What a command did.
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).expect("results are UTF-8"),
            err: String::from_utf8(output.stderr).expect("what is told is UTF-8"),
        }
    }
}

fn ran<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(arguments: I) -> Ran {
    symbiont().args(arguments).output().expect("the command starts").into()
}

/// The same with something on its standard input.
fn fed(arguments: &[&str], input: &str) -> Ran {
    let mut command = symbiont();
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the command starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    child.wait_with_output().expect("it ends").into()
}

/// A directory with a program in it.
fn program(source: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("program.symbi");
    std::fs::write(&path, source).expect("it is written");
    let path = path.to_str().expect("temporary paths are text").to_owned();
    (directory, path)
}
