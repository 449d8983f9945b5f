//! `tool`, and `--tools` of `run` and `check`.

use crate::{Ran, program, ran, root};

#[test]
fn the_repository_s_tools_are_listed_shown_and_without_fault() {
    let Ran { code, out, err } = ran(["tool", "check"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(out, "3 manifests: 0 errors, 0 warnings\n");
    let Ran { code, out, .. } = ran(["tool", "list"]);
    assert_eq!(code, Some(0));
    let names: Vec<_> = out.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["count_lines", "file_sizes", "sha256_file"]);
    let Ran { code, out, .. } = ran(["tool", "show", "sha256_file"]);
    assert_eq!(code, Some(0));
    for part in
        ["sha256_file(path: string)\n", "runs `sha256sum` in the sandbox", "tool.call:sha256_file"]
    {
        assert!(out.contains(part), "{part}: {out}");
    }
    let Ran { code, err, .. } = ran(["tool", "show", "sha256_fil"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("did you mean `sha256_file`?"), "{err}");
    let Ran { code, err, .. } = ran(["tool", "list", "--tools", "nowhere"]);
    assert!(code == Some(2) && err.contains("manifests of the tools by --tools"), "{err}");
    let Ran { code, err, .. } = ran(["tool", "show", "nothing_like_it"]);
    assert!(code == Some(2) && err.contains("`symbiont tool list`"), "{err}");
}

#[test]
fn a_call_is_checked_against_the_tools_that_are_given() {
    let (_directory, path) = program("agent a { with { return sha256_fil(5); } }");
    let Ran { code, out, .. } = ran(["check", "--tools", "tools", &path]);
    assert_eq!(code, Some(0), "an unknown tool is a warning");
    assert!(out.contains("warning[W0410]: there is no tool `sha256_fil`"), "{out}");
    let (_directory, path) = program("agent a { with { return sha256_file(5); } }");
    let Ran { code, out, .. } = ran(["check", "--tools", "tools", &path]);
    assert_eq!(code, Some(1));
    assert!(out.contains("error[E0411]: `sha256_file` takes a string and no int"), "{out}");
}

#[test]
fn a_manifest_with_errors_stops_a_run() {
    let (_program, path) = program("agent a");
    let folder = tempfile::tempdir().expect("a directory");
    std::fs::write(folder.path().join("x.toml"), "name = \"x\"\nrisc = \"low\"\n")
        .expect("written");
    let folder = folder.path().to_str().expect("text");
    let Ran { code, err, .. } = ran(["run", &path, "--tools", folder]);
    assert_eq!(code, Some(1));
    assert!(err.contains("error[E0402]: a tool has no key `risc`"), "{err}");
    assert!(err.contains("did you mean `risk`?"), "{err}");
}

#[test]
fn faults_of_manifests_are_told_in_every_form() {
    let (directory, path) = program("agent a { with { return 1 + ; } }");
    let folder = directory.path().join("tools");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("bad.toml"), "name = \"bad\"\nrisk = \"none\"\n").unwrap();
    let folder = folder.display().to_string();
    let Ran { code, out, .. } = ran(["check", "--tools", &folder, "-o", "json", &path]);
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    let diagnostics = told["diagnostics"].as_array().unwrap();
    let of = |file: &str| {
        let of = |told: &&serde_json::Value| told["file"].as_str().unwrap().ends_with(file);
        diagnostics.iter().filter(of).count()
    };
    assert_eq!((code, of("bad.toml"), of("program.symbi")), (Some(1), 3, 1), "{out}");
    let Ran { code, out, .. } = ran(["check", "--tools", &folder, "-o", "sarif", &path]);
    let log: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, log["runs"][0]["results"].as_array().unwrap().len()), (Some(1), 4), "{out}");
}

#[test]
fn the_agent_with_tools_says_what_is_in_a_file() {
    let run = [
        "run",
        "agents/fingerprints.symbi",
        "--tools",
        "tools",
        "--file",
        "Cargo.lock",
        "--input",
        "[\"Cargo.lock\"]",
        "-o",
        "json",
    ];
    let Ran { code, out, err } = ran(run);
    assert_eq!(code, Some(0), "{err}");
    let report: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let text = std::fs::read_to_string(root().join("Cargo.lock")).expect("the lock file");
    assert_eq!(report["Cargo.lock"]["lines"], text.lines().count());
    assert_eq!(report["Cargo.lock"]["bytes"], text.len());
    assert!(err.contains("tool     sha256_file(path = Cargo.lock)"), "{err}");
}
