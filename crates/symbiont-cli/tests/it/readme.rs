//! What the README shows is what happens.

use crate::{program, ran, root};

fn readme() -> String {
    std::fs::read_to_string(root().join("README.md")).expect("there is a README")
}

/// The fenced blocks of a language, in order.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    text.split(&fence)
        .skip(1)
        .map(|rest| rest.split("\n```").next().expect("a fence is closed").to_owned() + "\n")
        .collect()
}

#[test]
fn the_first_program_of_the_readme_checks_clean_and_runs() {
    let programs = blocks(&readme(), "symbi");
    assert_eq!(programs.len(), 1);
    let (_directory, path) = program(&programs[0]);
    let checked = ran(["check", &path]);
    assert_eq!(checked.code, Some(0), "{}", checked.err);
    assert!(
        checked.err.contains("0 errors, 0 warnings")
            || checked.out.contains("0 errors, 0 warnings"),
        "{}{}",
        checked.out,
        checked.err
    );
    let run = ran(["run", &path, "--input", r#"{"name": "you"}"#, "-o", "json"]);
    assert_eq!((run.code, run.out.as_str()), (Some(0), "\"HELLO, YOU\"\n"), "{}", run.err);
    assert!(run.err.contains("DENIED"), "{}", run.err);
    assert!(run.err.contains("as expected: "), "{}", run.err);
}

/// The first two commands are all the set-up there is; the first one's agent and file exist, and
/// the second is an alias of this repository's.
#[test]
fn the_first_two_commands_of_the_readme_are_what_they_say() {
    let commands = blocks(&readme(), "sh");
    assert_eq!(
        commands[0],
        "cargo run --release -- run agents/lockfile_audit.symbi --file Cargo.lock\n"
    );
    assert_eq!(commands[1], "cargo xtask test\n");
    for file in ["agents/lockfile_audit.symbi", "Cargo.lock"] {
        assert!(root().join(file).is_file(), "{file}");
    }
    let aliases = std::fs::read_to_string(root().join(".cargo/config.toml")).expect("aliases");
    assert!(aliases.contains("xtask = "), "{aliases}");
}

/// Every subcommand that the README names is one.
#[test]
fn the_readme_names_commands_that_exist() {
    let help = ran(["--help"]).out;
    for line in blocks(&readme(), "sh").concat().lines() {
        let Some(rest) = line.strip_prefix("symbiont ") else { continue };
        let word = rest.split_whitespace().next().expect("a subcommand");
        assert!(help.contains(word), "`{word}` is not in the help:\n{help}");
    }
}
