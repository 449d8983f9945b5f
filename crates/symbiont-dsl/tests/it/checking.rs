//! What the checker says, as its reader sees it: `test_data/faults/*.symbi` beside `*.txt`.

use std::fmt::Write as _;

use symbiont_dsl::definition::check;
use symbiont_dsl::diagnostic::codes::pages;
use symbiont_dsl::diagnostic::sarif::{Source, to_sarif};
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

/// Eight times as much of anything takes about eight times as long to check, and not sixty-four times.
#[test]
fn checking_takes_linear_time() {
    // What stands before, what is there many times (`{}` is its number), and what stands behind.
    let shapes = [
        (
            "",
            "function f{}(a: int, b) { let c = a + {}; if c > b { return c } return f{}(c, b) }\n",
            "agent a { with { f0(1, 2) } }",
        ),
        (
            "",
            "agent a{}(x: String) { capabilities = [fs] policy p { allow: fs.read(path) if path == x } with { fs.read(x) } }\n",
            "",
        ),
        (
            "",
            "type T{} = { a: int, b: Array<T{}>, c: Option<String> }\nfunction g{}(t: T{}) { t.b.map(u => u.a) }\n",
            "agent a { with { 1 } }",
        ),
        (
            "agent a { with {\n",
            "let v{} = { a: {}, b: [v{}, \"x\"] }; v{}.a += 1;\n",
            "return 1 } }",
        ),
        (
            "agent a { with { let all = [];\n",
            "all.push({ k{}: all.length }); all[0].k{} = {};\n",
            "return all } }",
        ),
        (
            "agent a { with {\n",
            "if true { let x = {}; try { tool{}(x, y{}) } catch (E{} e) { print(e) } }\n",
            "} }",
        ),
        ("agent a { with { return [", "x => x + {}, ", "1] } }"),
        ("agent a { with { match tool() { ", "{} => { k{}: {} }, ", "_ => 1 } } }"),
        (
            "policy p {\n",
            "allow: tool{}(x) if x in [{}, \"a\"]\ndeny: \"tool.call:t{}\"\n",
            "} agent a { use policy p with { 1 } }",
        ),
        ("agent a { with {\n", "let x = unknwon{} + ; retrun {}\n", "} }"),
        ("agent a { with {\n", "print(\"{}\" - {}, nothing{}, len(1, {}));\n", "} }"),
    ];
    for (head, piece, tail) in shapes {
        let source = |count: usize| {
            let pieces = (0..count).map(|number| piece.replace("{}", &number.to_string()));
            format!("{head}{}{tail}", pieces.collect::<String>())
        };
        let (few, many) = (source(60), source(480));
        let took = |source: &str| {
            let began = std::time::Instant::now();
            let checked = check(source);
            let took = began.elapsed();
            // It has been read to its end.
            assert!(checked.diagnostics.iter().all(|found| found.code != "E0108"));
            took.as_secs_f64()
        };
        // A busy machine may spoil a measurement, but not all of them.
        let mut ratios = Vec::new();
        let linear = (0..5).any(|_| {
            let ratio = took(&many) / took(&few);
            ratios.push(ratio);
            ratio < 24.0
        });
        assert!(linear, "{piece}: {ratios:?}");
    }
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

/// What SARIF 2.1.0 requires of an object of this name, and what those under it are.
fn is_sarif(name: &str, value: &serde_json::Value) {
    const REQUIRED: &[(&str, &[&str])] = &[
        ("log", &["version", "runs"]),
        ("run", &["tool"]),
        ("tool", &["driver"]),
        ("driver", &["name"]),
        ("rule", &["id"]),
        ("invocation", &["executionSuccessful"]),
        ("result", &["message"]),
        ("message", &["text"]),
        ("fix", &["artifactChanges"]),
        ("artifactChange", &["artifactLocation", "replacements"]),
        ("replacement", &["deletedRegion"]),
    ];
    /// A property, what its value is, and whether it is an array of those.
    const UNDER: &[(&str, &str, bool)] = &[
        ("runs", "run", true),
        ("tool", "tool", false),
        ("driver", "driver", false),
        ("rules", "rule", true),
        ("shortDescription", "message", false),
        ("fullDescription", "message", false),
        ("help", "message", false),
        ("invocations", "invocation", true),
        ("results", "result", true),
        ("message", "message", false),
        ("description", "message", false),
        ("locations", "location", true),
        ("physicalLocation", "physicalLocation", false),
        ("region", "region", false),
        ("deletedRegion", "region", false),
        ("fixes", "fix", true),
        ("artifactChanges", "artifactChange", true),
        ("replacements", "replacement", true),
    ];
    let object = value.as_object().unwrap_or_else(|| panic!("{name} is no object: {value}"));
    for (_, keys) in REQUIRED.iter().filter(|(of, _)| *of == name) {
        assert!(keys.iter().all(|key| object.contains_key(*key)), "{name}: {value}");
    }
    if name == "region" {
        let at = |key: &str| object[key].as_u64().unwrap();
        let (start, end) = ((at("startLine"), at("startColumn")), (at("endLine"), at("endColumn")));
        assert!(start.0 > 0 && start.1 > 0 && start <= end, "{value}");
    }
    if name == "result" {
        assert!(matches!(object["level"].as_str(), Some("error" | "warning")), "{value}");
    }
    for (key, under, array) in UNDER {
        match object.get(*key) {
            None => {}
            Some(all) if *array => {
                all.as_array().unwrap().iter().for_each(|one| is_sarif(under, one));
            }
            Some(one) => is_sarif(under, one),
        }
    }
}

#[test]
fn code_hosts_get_the_same() {
    for (path, source) in programs("faults") {
        let diagnostics = check(&source).diagnostics;
        let uri = name(&path);
        let found = Source { uri: &uri, text: &source, diagnostics: &diagnostics };
        let log = to_sarif(&[found], "1.2.3", true);
        is_sarif("log", &log);
        let run = &log["runs"][0];
        assert_eq!(
            (&log["version"], &run["columnKind"]),
            (&"2.1.0".into(), &"unicodeCodePoints".into())
        );
        assert_eq!(run["tool"]["driver"]["rules"].as_array().unwrap().len(), pages().len());
        let results = run["results"].as_array().unwrap();
        assert_eq!(results.len(), diagnostics.len());
        for (result, diagnostic) in results.iter().zip(&diagnostics) {
            let rule = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
            assert_eq!(run["tool"]["driver"]["rules"][rule]["id"], diagnostic.code);
            assert_eq!(result["ruleId"], diagnostic.code);
            assert_eq!(result.get("fixes").is_some(), diagnostic.fix.is_some());
            assert_eq!(
                result["locations"][0]["physicalLocation"]["artifactLocation"],
                serde_json::json!({ "uri": uri, "uriBaseId": "%SRCROOT%", "index": 0 })
            );
        }
    }
    // Columns are characters, and the end is the first that is no longer part of it.
    let source = "agent a {\n  /* \u{e9}\u{1f600} */ with tiemout = 5s {}\n}";
    let diagnostics = check(source).diagnostics;
    let found = Source { uri: "file:///a.symbi", text: source, diagnostics: &diagnostics };
    let log = to_sarif(&[found], "1.2.3", false);
    let result = &log["runs"][0]["results"][0];
    let region =
        serde_json::json!({ "startLine": 2, "startColumn": 17, "endLine": 2, "endColumn": 24 });
    assert_eq!(result["locations"][0]["physicalLocation"]["region"], region);
    assert_eq!(
        result["locations"][0]["physicalLocation"]["artifactLocation"],
        serde_json::json!({ "uri": "file:///a.symbi", "index": 0 })
    );
    assert_eq!(
        result["fixes"][0]["artifactChanges"][0]["replacements"][0],
        serde_json::json!({ "deletedRegion": region, "insertedContent": { "text": "timeout" } })
    );
    assert_eq!(log["runs"][0]["invocations"][0]["executionSuccessful"], false);
}

#[test]
fn a_comment_that_never_ends_is_what_is_wrong() {
    for (source, code) in [("/* open\nagent a", "E0105"), ("", "E0114"), ("// nothing\n", "E0114")]
    {
        let found = symbiont_dsl::definition::check(source).diagnostics;
        let codes: Vec<_> = found.iter().map(|one| one.code).collect();
        assert_eq!(codes, [code], "{source:?}");
    }
}
