//! What the checker says, as its reader sees it: `test_data/faults/*.symbi` beside `*.txt`.

use std::fmt::Write as _;

use symbiont_dsl::definition::check;
use symbiont_dsl::diagnostic::{render, to_json};

use super::{expect, folder, name, programs};

#[test]
fn faults_are_explained() {
    for (path, source) in programs("faults") {
        let checked = check(&source);
        let shown = render(&checked.diagnostics, &source, &name(&path), false);
        assert!(!shown.is_empty(), "{} has no fault", path.display());
        for diagnostic in &checked.diagnostics {
            let kind = if diagnostic.code.starts_with('E') { "error" } else { "warning" };
            let first = format!("{kind}[{}]: {}\n", diagnostic.code, diagnostic.message);
            assert!(shown.contains(&first), "{first:?} is no line of its own in {shown}");
        }
        expect(&path.with_extension("txt"), &shown);
    }
}

#[test]
fn every_fault_gives_one_message() {
    let path = folder("faults").join("many.symbi");
    let source = std::fs::read_to_string(path).unwrap();
    let errors =
        check(&source).diagnostics.iter().filter(|found| found.code.starts_with('E')).count();
    assert_eq!(errors, 13);
}

/// Real programs have no errors; what they are warned of is in one file.
#[test]
fn real_programs_check() {
    let (mut shown, mut faulty) = (String::new(), String::new());
    for (path, source) in programs("programs") {
        let checked = check(&source);
        let rendered = render(&checked.diagnostics, &source, &name(&path), false);
        match checked.program {
            Some(_) => writeln!(shown, "{rendered}").unwrap(),
            None => faulty += &rendered,
        }
    }
    assert!(faulty.is_empty(), "{faulty}");
    expect(&folder("programs").join("warnings.txt"), &shown);
}

#[test]
fn machines_get_the_same() {
    let source = "agent a {\n  with tiemout = 5s {}\n}";
    let checked = check(source);
    assert_eq!(
        to_json(&checked.diagnostics, source, "a.symbi"),
        serde_json::json!([{
            "code": "W0302",
            "severity": "warning",
            "message": "there is no attribute `tiemout`",
            "label": "has no effect",
            "file": "a.symbi",
            "start": { "offset": 17, "line": 2, "column": 8 },
            "end": { "offset": 24, "line": 2, "column": 15 },
            "notes": [],
            "fix": {
                "message": "did you mean `timeout`?",
                "start": { "offset": 17, "line": 2, "column": 8 },
                "end": { "offset": 24, "line": 2, "column": 15 },
                "replacement": "timeout",
            },
        }])
    );
}
