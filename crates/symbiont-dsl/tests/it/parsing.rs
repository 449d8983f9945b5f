//! Whatever the language page allows parses; whatever else comes gives diagnostics and no panic.

use std::fmt::Write as _;

use symbiont_dsl::definition::check;
use symbiont_dsl::diagnostic::{Diagnostic, Severity, render};
use symbiont_dsl::format::format;
use symbiont_dsl::machine::compile;
use symbiont_dsl::syntax::{parse, tree};

use super::{name, programs};

#[test]
fn real_programs_parse() {
    let mut faults = String::new();
    for (path, source) in programs("programs") {
        let parsed = parse(&source);
        let name = name(&path);
        write!(faults, "{}", render(&parsed.diagnostics, &source, &name, false)).unwrap();
        assert_eq!(tree(&source).text().to_string(), source, "the tree of {name} lost something");
    }
    assert_eq!(faults, "");
}

fn is_error(found: &Diagnostic) -> bool {
    found.severity == Severity::Error
}

/// Parses `source` on a stack of 2 MiB, what threads get by default; gives the codes of what was found, each once.
fn codes_on_a_small_stack(source: String) -> Vec<&'static str> {
    std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(move || {
            let parsed = parse(&source);
            // These walk what the parser let through, and must survive it as well.
            check(&source);
            let formatted = format(&source);
            assert_eq!(
                formatted.is_err(),
                parsed.diagnostics.iter().any(is_error),
                "{formatted:?}"
            );
            for number in 0..parsed.program.agents.len() {
                let _ = compile(&parsed.program, number);
            }
            assert_eq!(tree(&source).text().to_string(), source);
            let mut codes: Vec<_> = parsed.diagnostics.iter().map(|found| found.code).collect();
            codes.sort_unstable();
            codes.dedup();
            codes
        })
        .unwrap()
        .join()
        .unwrap()
}

#[test]
fn nesting_is_bounded() {
    const DEEP: usize = 200_000;
    let within = |head: &str, body: &str, tail: &str| {
        format!("agent deep {{ with {{ {head}{body}{tail} }} }}")
    };
    for (open, close) in [
        ("(", ")"),
        ("[", "]"),
        ("f(", ")"),
        ("{ a: ", "}"),
        ("!", ""),
        ("- ", ""),
        ("x => ", ""),
        ("Some(", ")"),
        ("a[", "]"),
        ("if x { ", "}"),
        ("if x {} else ", ""),
        ("match x { _ => ", "}"),
        ("x => { ", "}"),
        ("1 + ", ""),
        ("1 == (", ")"),
        ("a.", ""),
        ("a || b && ", ""),
        ("for x in y { ", "}"),
        ("try { ", "} catch {}"),
        ("let x: Array<", ""),
        ("match x { Some(", ""),
        ("match x { { a: ", ""),
    ] {
        let source = within("return ", &open.repeat(DEEP / open.len()), "1");
        let closed = within("", &open.repeat(5000), &format!("1{}", close.repeat(5000)));
        for source in [source, closed] {
            let codes = codes_on_a_small_stack(source);
            assert!(
                codes.contains(&"E0107")
                    || open.starts_with("let")
                    || open == "match x { Some("
                    || open.starts_with("for")
                    || open.starts_with("try")
                    || open.starts_with("match x { {"),
                "{open:?}: {codes:?}"
            );
        }
    }
    // Chains lean to the left, and are as deep as they are long.
    for link in [" + 1", ".a", "[0]", "()", " && a"] {
        let codes = codes_on_a_small_stack(within("let x = a", &link.repeat(5000), ";"));
        assert!(codes.contains(&"E0107"), "{link:?}: {codes:?}");
        let codes = codes_on_a_small_stack(within("let x = a", &link.repeat(200), ";"));
        assert_eq!(codes, [] as [&str; 0], "{link:?}");
    }
}

/// What is as deep as may be is read, and all that walks it has stack enough.
#[test]
fn the_deepest_nesting_is_survived() {
    for (open, close, levels) in [
        ("(", ")", 240),
        ("[", "]", 240),
        ("f(", ")", 120),
        ("({ a: ", "})", 80),
        ("!", "", 240),
        ("x => ", "", 120),
        ("Some(", ")", 240),
        ("if x { ", "}", 120),
        ("if x {} else { ", "}", 120),
        ("match x { _ => ", "}", 80),
        ("f(x => { ", "})", 60),
        ("for y in x { ", "}", 120),
        ("try { ", "} catch {}", 120),
        ("1 + (", ")", 80),
        ("x[f(a).b(", ")]", 60),
    ] {
        let body = format!("{}x{}", open.repeat(levels), close.repeat(levels));
        let codes = codes_on_a_small_stack(format!("agent deep {{ with {{ {body} }} }}"));
        assert!(!codes.iter().any(|code| code.starts_with('E')), "{open:?}: {codes:?}");
    }
    let types = format!("type T = {}x{}", "Array<".repeat(250), ">".repeat(250));
    assert_eq!(codes_on_a_small_stack(types), [] as [&str; 0]);
}

/// 200 KB of whatever opens something, where it may stand and where it may not.
#[test]
fn what_only_opens_is_a_fault() {
    const STATEMENT: &str = "agent a { with { ";
    const RULE: &str = "agent a { policy p { allow: ";
    #[rustfmt::skip]
    let cases: [(&str, &[&str]); 5] = [
        ("", &["(", "{", "/*", "\"", "agent a {", "policy p {", "metadata {", "function f(", "->"]),
        (STATEMENT, &[
            "(", "[", "{", "{ a: ", "if x {", "a => ", "a => {", "!", "-", "not ", "f(", "x.", "x[",
            "Some(", "match x { ", "match x { { a: ", "else ", "try {", "x + ", "a, ", "/*", "\"",
            "(a, b) => ", "if x {} else if ", "if let Some(", "match x { Some(",
        ]),
        (RULE, &["(", "[", "{", "f(", "x.", "if ", "a => "]),
        ("type T = ", &["Array<", "{ x: ", "A, ", "Option<{ x: "]),
        ("memory m { ", &["a {", "a ", "policy p {", "["]),
    ];
    for (head, openers) in cases {
        for open in openers {
            let source = format!("{head}{}", open.repeat(200_000 / open.len()));
            let codes = codes_on_a_small_stack(source);
            assert!(codes.iter().any(|code| code.starts_with("E01")), "{head}{open}: {codes:?}");
        }
    }
}

#[test]
fn a_source_that_is_too_large_is_not_read() {
    let source = format!("agent large {{}}{}", " ".repeat(1 << 20));
    assert_eq!(codes_on_a_small_stack(source), ["E0108"]);
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    /// Pieces that programs are made of, and pieces that they are not made of.
    const PIECES: &[&str] = &[
        "agent ",
        "policy ",
        "function ",
        "with ",
        "let ",
        "if ",
        "else ",
        "match ",
        "for ",
        "in ",
        "x",
        " y",
        "(",
        ")",
        "{",
        "}",
        "[",
        "]",
        ",",
        ";",
        ":",
        "=",
        "=>",
        "->",
        "==",
        "<",
        ">=",
        "+",
        "-",
        "!",
        ".",
        "1",
        "30s",
        "30.seconds",
        "12abc",
        "1.5",
        "\"",
        "\"a\"",
        "\"\"\"",
        "\\",
        "'",
        "#",
        "\n",
        "//",
        "/*",
        "*/",
        "vault://a",
        "Some(",
        "None",
        "try ",
        "catch ",
        "return ",
        "not ",
        "memory ",
        "capabilities = ",
        "on ",
        "allow: ",
        "é",
        "🦀",
        "\u{feff}",
        "@",
        "&",
        "|",
        "\0",
    ];

    fn survives(source: &str) -> Result<(), TestCaseError> {
        let parsed = check(source);
        let rebuilt = tree(source).text().to_string();
        prop_assert_eq!(&rebuilt, source);
        for diagnostic in &parsed.diagnostics {
            prop_assert!(source.get(diagnostic.span.clone()).is_some(), "{:?}", diagnostic);
            if let Some(fix) = &diagnostic.fix {
                prop_assert!(source.get(fix.span.clone()).is_some(), "{:?}", diagnostic);
            }
        }
        let shown = render(&parsed.diagnostics, source, "x.symbi", false);
        prop_assert_eq!(shown.is_empty(), parsed.diagnostics.is_empty());
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_text_is_survived(source in any::<String>()) {
            survives(&source)?;
        }

        #[test]
        fn any_pieces_are_survived(
            pieces in prop::collection::vec(prop::sample::select(PIECES), 0..200),
        ) {
            survives(&pieces.concat())?;
        }

        #[test]
        fn damaged_programs_are_survived(
            which in any::<prop::sample::Index>(),
            damages in prop::collection::vec(
                (any::<prop::sample::Index>(), 0_usize..20, prop::sample::select(PIECES)),
                1..8,
            ),
        ) {
            let programs = programs("programs");
            let mut source: Vec<char> = which.get(&programs).1.chars().collect();
            for (at, length, piece) in damages {
                let at = at.index(source.len() + 1);
                let end = (at + length).min(source.len());
                source.splice(at..end, piece.chars());
            }
            survives(&source.into_iter().collect::<String>())?;
        }
    }
}
