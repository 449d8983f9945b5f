//! What the language's own parser accepts has no fault for the grammar.

use proptest::prelude::*;
use tree_sitter::{InputEdit, Point};

use crate::{accepted, fault, files, parse, parse_again, programs, root};

/// Folders of programs without a fault.
const GOOD: [&str; 3] =
    ["crates/symbiont-dsl/test_data/programs", "crates/symbiont-dsl/test_data/policies", "agents"];
const FAULTY: &str = "crates/symbiont-dsl/test_data/faults";

#[test]
fn every_program_has_a_whole_tree() {
    for (path, source) in GOOD.into_iter().flat_map(programs) {
        if let Some(fault) = fault(&parse(&source)) {
            panic!("{}: {fault}", path.display());
        }
    }
}

#[test]
fn every_program_in_a_document_has_a_whole_tree() {
    let root = root();
    let documents = [vec![root.join("README.md")], files(&root.join("docs"), "md")].concat();
    let mut seen = 0;
    for path in documents {
        let text = std::fs::read_to_string(&path).unwrap();
        for block in text.split("```symbi\n").skip(1) {
            let source = block.split("```").next().unwrap_or_default();
            seen += 1;
            agree(source, &path.display().to_string());
        }
    }
    assert!(seen > 0, "the README has a program");
}

#[test]
fn a_faulty_program_has_a_tree_of_all_its_bytes() {
    for (path, source) in programs(FAULTY) {
        let tree = parse(&source);
        assert_eq!(tree.root_node().end_byte(), source.len(), "{}", path.display());
        agree(&source, &path.display().to_string());
    }
}

/// Forms that are seldom written.
#[test]
fn rare_forms_have_whole_trees() {
    let behaviours = [
        "let if = 1; let in = [let]; x.if.match.let",
        "try(3); for.x = 5; try += 6",
        "f(if: 1, match = 2, not: 3, true: 4, None = 5, for: 6, let: 7)",
        "let let = 1; for for in xs { } for in in xs { }",
        "let /* a */ x = 1; try // b\n { } catch { }",
        "match v { 1 => a { b } => c }",
        "match v { 1 => a { b: c }, _ => { b: c } }",
        "match v { 1 => { }, 2 => { x = 1 }, 3 => { x } 4 => { \"x\": 1 } }",
        "match v { Some({ a: \"x\" }) => 1 }",
        "match v { Some(Some(-1.5)) => 1, { a, \"b\" = None; c: _ } => 2, -3 => 4 }",
        "let f = () => { }; let t = true => 1; let n = (null, if, not) => (None) => 1; let g = (a: Array<int>, b,) => { a: 1 }; let h = (a) => (a)",
        "if x { y } [1].map(z => z); if a { } -1; match x { } (2)",
        "if a { b; c } else if b { }",
        "if f(Foo { a: 1 }) == (Foo { }) && xs[{ a: 1 }.a] { }",
        "if n => 100 { 3 } else { 4 } for x in (a) => A { b: c } { } match x => { } { }",
        "while if a { true } else { false } { break }",
        "for x in match y { _ => z } { }",
        "if let Ok(x) = f(y => { y }) { x }",
        "let x: Array<Array<int>>= []; x >= 1; x <= { a: 1 }.a",
        "let x = { a: 1 } let y = Foo { b = 2; c: 3 \"d\": 4 } foo(y)",
        "return\nfoo()",
        "{ a: 1 }.a; x[{ a: 1 }].b = 2",
        "try { } catch e { } catch (Kind) { } catch () { } catch Kind e { }",
        "30.seconds + 30.max(1) + 3.abs + 5.m + 5.minute.x + 1_000.days",
        "1.5 + 1e9 + 1.5e-3 + 1_0.0_1 + 250ms + 1.5h + 2GiB + 5µs + 6months",
        "\"a // b\" + \"/* c\" + \"# d\" + \"\" + \"\\\"\" + \"\\u{1F600}\" + \"\n \"",
        "\"\"\"a \"b\" \"\"c\"\"\" + \"\"\"\"\"\" + \"\"\"\\\"\"\" \"\"\" + \"\"\"\"x\"\"\"",
        "/* a /* b */ c */ x /**/ + /***/ y // */ z\n# \"\n",
        "vault://a/b-c.d[\"e\"] + vault + vault://b // x\n",
        "not x in y && x not in y || !-x",
        "f(x)(y)[z].a(b,)[-1]",
        "let channel = type; agent = memory + policy; use(on, with, capabilities)",
        "größe + 名前 + _ + _1",
        ";;; x; ; y",
        "a.b.c -= d % e; a[0] *= 1; a /= 2; a %= 3",
        "xs.map(x => y => z).filter((a, b) => a => { b })",
        "let x = if a { 1 } else { 2 } - 1",
        "let x = y\n-1",
    ];
    let behaviours = behaviours.map(|behaviour| format!("agent a {{ with {{ {behaviour} }} }}"));
    let declarations = [
        "agent a agent b; agent c agent d(x: int,) -> { a: int; b: Foo<Bar<int>, { c: X }> }",
        "agent a -> T",
        "agent a { capabilities [x, \"y\", a.b], use policy p; on start() { } }",
        "agent a { on message(t, p) { } on stop { } with a = 1 \"b\": x.y(), c: [{ d: 1 }] { } }",
        "agent a { with { } policy p { } function f() { } function g(x) -> int { } }",
        "metadata { a = 1 \"b\": 2; c: [3], d = { e: 4 } }",
        "type A: B type C = { \"a\" = int }",
        "memory m { a 1 b: 2 c = 3 \"d\" [4] e x search { f 5 \"g\": { } } policy x }",
        "webhook w { f x => y a B { c = 1 } d E { } provider github not vault://a b not in c policy p { deny: x } policy: y filter { a \"b\" c { } \"d\" { e: 1 } } \"filter\" { } }",
        "channel c { policy p { } policy = 1; x: { a: 1 } }",
        "schedule s { cron: \"* * * * *\" agent: a input: { }, input: Foo { a = 1 } }",
        "policy p { allow: x if a in b deny = [y, z(any)], require: { a: 1 } audit: \"t\"; }",
        "policy p { allow: allow if deny deny: audit if if a { b } else { c } }",
        "# only\n// comments /* here */",
        "\u{feff}agent a\u{a0}{ }",
    ];
    let mut wrong = Vec::new();
    for source in behaviours.into_iter().chain(declarations.map(str::to_owned)) {
        if !accepted(&source) {
            wrong.push(format!("not accepted: {source}"));
        } else if let Some(fault) = fault(&parse(&source)) {
            wrong.push(format!("{fault}: {source}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// If the language's own parser accepts it, so does the grammar.
#[track_caller]
fn agree(source: &str, name: &str) {
    if accepted(source)
        && let Some(fault) = fault(&parse(source))
    {
        panic!("{name}: {fault}\n{source}");
    }
}

/// A program with parts taken out, doubled and exchanged: lines, or words and marks.
fn mutilated() -> impl Strategy<Value = String> {
    let sources: Vec<String> = GOOD
        .into_iter()
        .chain([FAULTY])
        .flat_map(programs)
        .map(|(_, source)| source)
        .filter(|source| source.len() < 8_000)
        .collect();
    let edit = (0..3_u8, any::<prop::sample::Index>(), any::<prop::sample::Index>());
    let edits = prop::collection::vec(edit, 1..6);
    (prop::sample::select(sources), any::<bool>(), edits).prop_map(|(source, lines, edits)| {
        let mut parts = if lines { in_lines(&source) } else { in_words(&source) };
        for (kind, at, other) in edits {
            if parts.is_empty() {
                break;
            }
            let (at, other) = (at.index(parts.len()), other.index(parts.len()));
            match kind {
                0 => drop(parts.remove(at)),
                1 => parts.insert(other, parts[at]),
                _ => parts.swap(at, other),
            }
        }
        parts.concat()
    })
}

fn in_lines(source: &str) -> Vec<&str> {
    source.split_inclusive('\n').collect()
}

/// Runs of letters and digits, runs of white space, and single characters of all other kinds.
fn in_words(source: &str) -> Vec<&str> {
    let kind = |c: char| match c {
        c if c.is_alphanumeric() || c == '_' => 1,
        c if c.is_whitespace() => 2,
        _ => 0,
    };
    let mut parts = Vec::new();
    let mut start = 0;
    let characters: Vec<(usize, char)> = source.char_indices().collect();
    for pair in characters.windows(2) {
        let ((_, one), (at, other)) = (pair[0], pair[1]);
        if kind(one) == 0 || kind(one) != kind(other) {
            parts.push(&source[start..at]);
            start = at;
        }
    }
    parts.push(&source[start..]);
    parts
}

fn point(source: &str, byte: usize) -> Point {
    let before = &source[..byte];
    let line = before.rfind('\n').map_or(0, |at| at + 1);
    Point { row: before.matches('\n').count(), column: byte - line }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_accepted_has_a_whole_tree(source in mutilated()) {
        if accepted(&source) {
            let fault = fault(&parse(&source));
            prop_assert!(fault.is_none(), "{}\n{}", fault.unwrap_or_default(), source);
        }
    }

    /// The scanner looks ahead; the tree has to know how far.
    #[test]
    fn a_tree_that_was_edited_is_the_tree_of_the_new_text(
        (old, new) in (mutilated(), any::<prop::sample::Index>(), any::<prop::sample::Index>())
            .prop_map(|(old, at, to)| {
                let mut parts = in_words(&old);
                if parts.is_empty() { return (old.clone(), old); }
                let (at, to) = (at.index(parts.len()), to.index(parts.len()));
                let part = parts.remove(at);
                parts.insert(to.min(parts.len()), part);
                let new = parts.concat();
                (old, new)
            })
    ) {
        let mut tree = parse(&old);
        let same = old.bytes().zip(new.bytes()).take_while(|(a, b)| a == b).count();
        let same = (0..=same).rev().find(|at| old.is_char_boundary(*at) && new.is_char_boundary(*at)).unwrap();
        tree.edit(&InputEdit {
            start_byte: same,
            old_end_byte: old.len(),
            new_end_byte: new.len(),
            start_position: point(&old, same),
            old_end_position: point(&old, old.len()),
            new_end_position: point(&new, new.len()),
        });
        let again = parse_again(&new, Some(&tree));
        let fresh = parse(&new);
        // Where there are faults, what recovery makes of them may differ.
        if fault(&fresh).is_none() {
            prop_assert_eq!(again.root_node().to_sexp(), fresh.root_node().to_sexp());
        }
    }
}
