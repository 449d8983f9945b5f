//! `check` for machines, and `explain`.

use serde_json::Value;
use symbiont_dsl::diagnostic::codes::pages;

use super::{Ran, program, ran, symbiont};

#[test]
fn codes_are_explained() {
    let Ran { code, out, err } = ran(["explain", "w307"]);
    assert_eq!((code, &*err), (Some(0), ""));
    assert!(
        out.starts_with("warning[W0307]: the agent's own policy never allows this\n\n"),
        "{out}"
    );
    assert!(out.contains("\n    agent reader {\n"), "{out}");
    assert!(!out.contains("```"), "{out}");

    let Ran { code, out, .. } = ran(["explain"]);
    assert_eq!(code, Some(0));
    assert_eq!(out.lines().count(), pages().len());
    for (line, page) in out.lines().zip(pages()) {
        assert_eq!(line, format!("{}  {}", page.code, page.title()));
    }

    let Ran { out, .. } = ran(["explain", "E0101", "-o", "json"]);
    let one: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&one["code"], &one["severity"]), (&"E0101".into(), &"error".into()));
    assert_eq!(one["examples"].as_array().unwrap().len(), 2);
    let Ran { out, .. } = ran(["explain", "-o", "json"]);
    let all: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(all.as_array().unwrap().len(), pages().len());
    assert!(all.as_array().unwrap().contains(&one));

    let Ran { code, out, .. } = ran(["explain", "split"]);
    assert!(code == Some(0) && out.contains("split("), "{out}");
    for (written, told) in [
        ("E0304", "did you mean `W0304`?"),
        ("hello", "`symbiont explain` lists all"),
        ("\u{1b}[31m", "no code or name `\\u{1b}[31m`"),
    ] {
        let Ran { code, out, err } = ran(["explain", written]);
        assert_eq!((code, &*out), (Some(2), ""));
        assert!(err.contains(told), "{err}");
    }
}

#[test]
fn pages_are_no_wider_than_a_terminal() {
    for page in pages() {
        let Ran { out, .. } = ran(["explain", page.code]);
        let program: Vec<&str> = page.examples().flat_map(str::lines).collect();
        for line in out.lines().skip(1) {
            let free = line.starts_with("    ");
            assert!(free || line.chars().count() <= 80, "{}: {line}", page.code);
        }
        assert!(program.iter().all(|line| out.contains(line)), "{out}");
    }
}

#[test]
fn what_is_found_leads_to_its_explanation() {
    let more = |source: &str| {
        let (_directory, path) = program(source);
        ran(["check", &path]).out.lines().last().unwrap_or_default().to_owned()
    };
    assert_eq!(
        more("agent a { with { return x; } }"),
        "for more about it, try `symbiont explain E0201`"
    );
    assert_eq!(
        more("agent a { with tiemout = 5s { return x; } }"),
        "for more about a code, try `symbiont explain E0201`"
    );
    assert_eq!(more("agent a"), "1 file: 0 errors, 0 warnings");
}

#[test]
fn code_hosts_find_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let inner = directory.path().join("in here");
    std::fs::create_dir(&inner).unwrap();
    std::fs::write(inner.join("\u{e9}: 100%.symbi"), "agent a { with { return x; } }").unwrap();
    let sarif = |from: &std::path::Path, file: &str| {
        let mut command = symbiont();
        let output = command.current_dir(from).args(["check", "-o", "sarif", file]).output();
        let Ran { code, out, .. } = output.unwrap().into();
        assert_eq!(code, Some(1));
        let log: Value = serde_json::from_str(&out).unwrap();
        let run = &log["runs"][0];
        assert_eq!(run["results"][0]["ruleId"], "E0201");
        assert_eq!(run["invocations"][0]["executionSuccessful"], true);
        let place = &run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"];
        assert_eq!(place["uri"], run["artifacts"][0]["location"]["uri"]);
        (place["uri"].as_str().unwrap().to_owned(), place["uriBaseId"].clone())
    };
    let relative = "in%20here/%C3%A9%3A%20100%25.symbi";
    let root = Value::from("%SRCROOT%");
    assert_eq!(
        sarif(directory.path(), "in here/\u{e9}: 100%.symbi"),
        (relative.into(), root.clone())
    );
    assert_eq!(sarif(directory.path(), "./in here/\u{e9}: 100%.symbi"), (relative.into(), root));
    let (absolute, base) = sarif(&inner, "../in here/\u{e9}: 100%.symbi");
    assert!(absolute.starts_with("file:///") && absolute.ends_with(relative), "{absolute}");
    assert!(!absolute.contains("..") && base.is_null(), "{absolute}");

    let Ran { code, out, .. } = ran(["check", "-o", "sarif", "/missing"]);
    assert_eq!(code, Some(2));
    let log: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(log["runs"][0]["invocations"][0]["executionSuccessful"], false);
}
