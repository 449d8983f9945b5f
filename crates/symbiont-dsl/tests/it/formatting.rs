//! The formatter: one form, the same program, nothing lost.

use std::path::Path;

use symbiont_dsl::diagnostic::render;
use symbiont_dsl::format::{edits, format};

use super::fuzzed::properties::formatter;
use super::{expect, programs};

/// The one form of a source, after it was asked whether it is one.
#[track_caller]
fn formatted(source: &str) -> String {
    let once = format(source).unwrap_or_else(|errors| {
        panic!("{source}\n{}", render(&errors, source, "refused", false));
    });
    if let Err(errors) = format(&once) {
        panic!("{source}\n---\n{}", render(&errors, &once, "broken", false));
    }
    formatter(source.as_bytes());
    once
}

#[test]
fn programs_have_one_form() {
    for (path, source) in programs("format") {
        expect(&path.with_extension("txt"), &formatted(&source));
    }
}

#[test]
fn programs_keep_their_meaning() {
    for (_, source) in programs("programs").into_iter().chain(programs("policies")) {
        formatted(&source);
        formatted(&source.replace('\n', "\r\n"));
    }
}

/// Each of these is its own form.
#[test]
fn what_people_read_is_formatted() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let agents: Vec<_> = std::fs::read_dir(root.join("agents"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "symbi"))
        .collect();
    assert!(!agents.is_empty());
    for path in agents {
        expect(&path, &formatted(&std::fs::read_to_string(&path).unwrap()));
    }
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let blocks: Vec<_> = readme.split("```symbi\n").skip(1).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        let program = block.split("```").next().unwrap();
        assert_eq!(formatted(program), program);
    }
}

/// Forms that could be read as something else if they were printed as usual.
#[test]
fn what_would_be_read_differently_stays_apart() {
    let within = |line: &str| format!("agent a {{ with {{\n{line}\n}} }}");
    for (source, want) in [
        // A suffix that would become part of the literal before it.
        ("x = 1 .seconds;", "x = 1 .seconds;"),
        ("x = vault://a .b;", "x = vault://a .b;"),
        ("x = 30.seconds.abs;", "x = 30.seconds.abs;"),
        ("x = a >= b;", "x = a >= b;"),
        ("x = - -1;", "x = - -1;"),
        ("- -y;", "- -y;"),
        ("x = y --\n z;", "x = y - -z;"),
        ("x = !!y;", "x = !!y;"),
        ("x = not not y;", "x = not not y;"),
        // The value of the block, and no value.
        ("if x { 1 };", "if x { 1 };"),
        ("if x { 1 }", "if x { 1 }"),
        ("match x { _ => 1 };", "match x { _ => 1 };"),
        ("f();", "f();"),
        ("f()", "f()"),
        ("if x { 1 };; f()", "if x { 1 }\n        f()"),
        ("if x { 1 }; else = 2", "if x { 1 };\n        else = 2;"),
        ("try { 1 } catch {}; catch = 2", "try { 1 } catch {};\n        catch = 2;"),
        // A block and a record.
        ("f(x => { a = 1 })", "f(x => { a = 1; })"),
        ("f(x => { a: 1, b = 2 })", "f(x => { a: 1, b: 2 })"),
        ("f(x => {})", "f(x => {})"),
        ("({ a = 1 })", "({ a: 1 })"),
        ("x = {\n}", "x = {};"),
        ("x = y => {}\n(z)", "x = y => {};\n        (z)"),
    ] {
        let want = format!("agent a {{\n    with {{\n        {want}\n    }}\n}}\n");
        assert_eq!(formatted(&within(source)), want);
    }
    for (source, want) in [
        ("", ""),
        (" \n ", ""),
        ("// only this  \r\n", "// only this\n"),
        ("agent a;\nagent b", "agent a\n\nagent b\n"),
        ("/* a */ agent /* b */ c /* d */", "/* a */ agent /* b */ c /* d */\n"),
        ("metadata { a = 1, in = 2 }", "metadata { a = 1, in = 2 }\n"),
        (
            "metadata {\na = 1, in = 2, b = 3 }",
            "metadata {\n    a = 1,\n    in = 2\n    b = 3\n}\n",
        ),
        ("memory m { a -1 b [c] }", "memory m { a = -1, b = [c] }\n"),
        ("memory m { a \"x\"; s { k v } }", "memory m { a = \"x\", s { k = v } }\n"),
        ("type T = Map<A, B,>", "type T = Map<A, B>\n"),
        ("policy p { deny: [a, \"b.c\"] }", "policy p { deny: [a, \"b.c\"] }\n"),
    ] {
        assert_eq!(formatted(source), want);
    }
}

#[test]
fn a_source_with_errors_is_refused() {
    for source in ["agent", "agent a { with { f( } }", "agent a { with { x = 'y'; } }", "\"", "/*"]
    {
        let errors = format(source).expect_err(source);
        assert!(!errors.is_empty());
        assert_eq!(edits(source), Err(errors));
    }
    // A warning is no error, and names are not the formatter's affair.
    formatted("agent a { with { return nobody_knows(this) } }");
}

#[test]
fn edits_leave_what_is_right_alone() {
    let source = "agent a {\n    with {\n        f(1,2);\n        g(3);\n    }\n}\n";
    assert_eq!(edits(source), Ok(vec![(33..33, " ".to_owned())]));
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    const LAYOUT: &[&str] = &[
        " ",
        "\n",
        "\n\n\n",
        "  \t",
        "// c\n",
        "# d\n",
        "/* e */",
        "/* f\n */",
        "\r\n",
        " /* g */ // h\n",
    ];

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Layout and comments between any tokens are survived, and no comment is lost.
        #[test]
        fn any_layout_has_its_one_form(
            which in any::<prop::sample::Index>(),
            places in prop::collection::vec(
                (any::<prop::sample::Index>(), prop::sample::select(LAYOUT)), 0..12,
            ),
        ) {
            let programs: Vec<_> = programs("programs").into_iter().chain(programs("format")).collect();
            let source = &which.get(&programs).1;
            let tree = symbiont_dsl::syntax::tree(source);
            let tokens: Vec<_> =
                tree.descendants_with_tokens().filter_map(|part| part.into_token()).collect();
            let mut added = vec![""; tokens.len() + 1];
            for (at, layout) in places {
                added[at.index(tokens.len())] = layout;
            }
            let mut changed = String::new();
            for (token, before) in tokens.iter().zip(added) {
                changed.push_str(before);
                changed.push_str(token.text());
            }
            // What was put there may have cut an operator in two, or changed where a statement ends.
            prop_assume!(format(&changed).is_ok());
            let once = formatted(&changed);
            let comments = |text: &str| -> Vec<String> {
                symbiont_dsl::syntax::tree(text)
                    .descendants_with_tokens()
                    .filter_map(|part| part.into_token())
                    .filter(|token| token.kind().is_trivia() && !token.text().trim().is_empty())
                    .map(|token| token.text().lines().map(str::trim_end).collect::<Vec<_>>().join("\n"))
                    .collect()
            };
            prop_assert_eq!(comments(&once), comments(&changed));
        }
    }
}
