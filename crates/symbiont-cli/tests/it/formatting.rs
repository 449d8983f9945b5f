//! `symbiont fmt`.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use crate::{Ran, fed, ran, symbiont};

const MESS: &str = "agent a{\nwith{\nf(1,2)}}";
const NEAT: &str = "agent a {\n    with {\n        f(1, 2)\n    }\n}\n";
const BROKEN: &str = "agent a { with { f( } }\n";

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary directory");
    for (name, content) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("it is in the folder")).expect("a folder");
        fs::write(path, content).expect("it is written");
    }
    folder
}

fn content(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).expect("it is there")
}

fn fmt(folder: &Path, arguments: &[&str]) -> Ran {
    let mut command = symbiont();
    command.current_dir(folder).arg("fmt").args(arguments);
    command.output().expect("the command starts").into()
}

fn fmt_with_input(arguments: &[&str], input: &str) -> Ran {
    fed(&[&["fmt"], arguments].concat(), input)
}

#[test]
fn files_and_folders_are_formatted_in_place() {
    let files = [
        ("one.symbi", MESS),
        ("in/two.dsl", MESS),
        ("in/neat.symbi", NEAT),
        ("in/other.txt", MESS),
        ("in/.hidden/three.symbi", MESS),
    ];
    let folder = folder(&files);
    let folder = folder.path();
    symlink("..", folder.join("in/circle")).expect("a link");
    fs::set_permissions(folder.join("one.symbi"), fs::Permissions::from_mode(0o640)).expect("ours");

    let Ran { code, out, err } = fmt(folder, &["one.symbi", "in"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(out, "one.symbi\nin/two.dsl\n3 files: 2 changed\n");
    for (name, want) in
        [("one.symbi", NEAT), ("in/two.dsl", NEAT), ("in/neat.symbi", NEAT), ("in/other.txt", MESS)]
    {
        assert_eq!(content(folder, name), want, "{name}");
    }
    assert_eq!(content(folder, "in/.hidden/three.symbi"), MESS);
    let mode = fs::metadata(folder.join("one.symbi")).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o640);
    assert_eq!(fs::read_dir(folder).expect("a folder").count(), 2, "nothing is left behind");

    let again = fmt(folder, &["."]);
    assert_eq!((again.code, again.out.as_str()), (Some(0), "3 files: nothing to change\n"));
}

#[test]
fn a_link_stays_one() {
    let folder = folder(&[("real/program.symbi", MESS)]);
    symlink("real/program.symbi", folder.path().join("link.symbi")).expect("a link");
    assert_eq!(fmt(folder.path(), &["link.symbi"]).code, Some(0));
    assert_eq!(content(folder.path(), "real/program.symbi"), NEAT);
    assert!(folder.path().join("link.symbi").is_symlink());
}

#[test]
fn check_shows_what_would_change_and_changes_nothing() {
    let folder = folder(&[("a.symbi", "agent a {\n    with {\n        f(1,2);\n    }\n}\n")]);
    let before = content(folder.path(), "a.symbi");
    let Ran { code, out, .. } = fmt(folder.path(), &["--check", "a.symbi"]);
    assert_eq!(code, Some(1));
    assert_eq!(out, "a.symbi:3\n-        f(1,2);\n+        f(1, 2);\n1 file: 1 would change\n");
    assert_eq!(content(folder.path(), "a.symbi"), before);

    let Ran { code, out, .. } = fmt(folder.path(), &["--check", "-o", "json", "a.symbi"]);
    assert_eq!(code, Some(1));
    let want = r#"{"files":1,"changed":["a.symbi"],"errors":0,"instructions":[],"diagnostics":[]}"#;
    assert_eq!(out, format!("{want}\n"));

    assert_eq!(fmt(folder.path(), &["a.symbi"]).code, Some(0));
    assert_eq!(fmt(folder.path(), &["--check", "a.symbi"]).code, Some(0));
}

#[test]
fn what_can_t_be_formatted_is_left_as_it_is() {
    let files = [("broken.symbi", BROKEN), ("mess.symbi", MESS), ("words.symbi", "Be nice.\n")];
    let folder = folder(&files);
    let folder = folder.path();
    let Ran { code, out, err } = fmt(folder, &["broken.symbi", "mess.symbi", "words.symbi"]);
    assert_eq!((code, err.as_str()), (Some(1), ""));
    assert!(out.starts_with("error[E01"), "{out}");
    assert!(out.contains("\nmess.symbi\nnote: `words.symbi` is an instruction"), "{out}");
    assert_eq!(content(folder, "broken.symbi"), BROKEN);
    assert_eq!(content(folder, "mess.symbi"), NEAT);
    assert_eq!(content(folder, "words.symbi"), "Be nice.\n");

    fs::write(folder.join("mess.symbi"), MESS).expect("it is written");
    let read_only = fs::Permissions::from_mode(0o444);
    fs::set_permissions(folder.join("mess.symbi"), read_only).expect("ours");
    let Ran { code, out, err } = fmt(folder, &["mess.symbi"]);
    assert_eq!((code, out.as_str()), (Some(1), "1 file: nothing to change\n"));
    assert!(err.contains("`mess.symbi` could not be written: it is read-only"), "{err}");
    assert_eq!(content(folder, "mess.symbi"), MESS);

    fs::create_dir(folder.join("empty")).expect("a folder");
    for (given, why) in [("nowhere.symbi", "can't be read"), ("empty", "has no `.symbi`")] {
        let Ran { code, err, .. } = fmt(folder, &[given]);
        assert_eq!(code, Some(2), "{err}");
        assert!(err.contains(why), "{err}");
    }
}

#[test]
fn standard_input_goes_to_standard_output() {
    for dash in ["-", "--stdin"] {
        let Ran { code, out, err } = fmt_with_input(&[dash], MESS);
        assert_eq!((code, out.as_str(), err.as_str()), (Some(0), NEAT, ""));
    }
    let Ran { code, out, err } = fmt_with_input(&["-"], BROKEN);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.starts_with("error[E01"), "{err}");
    let Ran { code, out, .. } = fmt_with_input(&["-", "--check"], MESS);
    assert_eq!(code, Some(1));
    assert!(out.ends_with("1 file: 1 would change\n"), "{out}");
    assert_eq!(fmt_with_input(&["-", "--check"], NEAT).code, Some(0));
    assert_eq!(ran(["fmt"]).code, Some(2), "something has to be named");
    assert_eq!(ran(["fmt", "-", "agents"]).code, Some(2));
}
