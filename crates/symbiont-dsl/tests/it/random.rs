//! Random programs: none makes the machine panic, and each is the same run however it is sliced.

use std::sync::Arc;

use proptest::prelude::*;
use symbiont_dsl::machine::{Code, Entry, Limits, Machine, Step, compile};
use symbiont_dsl::syntax::parse;
use symbiont_dsl::value::{ErrorValue, Value};

use super::saving;

fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        prop::sample::select(vec![
            "a",
            "b",
            "c",
            "0",
            "1",
            "-1",
            "7",
            "2.5",
            "null",
            "true",
            "None",
            "\"é\"",
            "\"ab\"",
            "30s",
            "1KB",
            "[]",
            "user",
            "any",
            "9223372036854775807",
            "vault://p",
            "range(0, 5)",
        ])
        .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let op = prop::sample::select(vec![
            "+", "-", "*", "/", "%", "==", "!=", "<", ">=", "&&", "||", "in", "not in",
        ]);
        let call = prop::sample::select(vec![
            "len",
            "to_json",
            "type_of",
            "sum",
            "sort",
            "reverse",
            "keys",
            "abs",
            "round",
            "hash",
            "base64",
            "error",
            "max",
            "f",
            "tool",
            "parse_json",
            "parse_csv",
            "range",
        ]);
        let method = prop::sample::select(vec![
            "push",
            "append",
            "remove",
            "merge",
            "split",
            "contains",
            "get",
            "join",
            "slice",
            "repeat",
            "map",
            "filter",
            "any",
            "find",
            "unwrap_or",
            "pow",
            "plus",
            "starts_with",
        ]);
        let read = prop::sample::select(vec![
            "x", "length", "first", "keys", "sort", "trim", "seconds", "unwrap", "chars", "message",
        ]);
        prop_oneof![
            (inner.clone(), op, inner.clone()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            (call, inner.clone()).prop_map(|(name, a)| format!("{name}({a})")),
            (inner.clone(), method, inner.clone()).prop_map(|(a, m, b)| format!("({a}).{m}({b})")),
            (inner.clone(), read).prop_map(|(a, name)| format!("({a}).{name}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a})[{b}]")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("[{a}, {b}]")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({{x: {a}, y: {b}}})")),
            inner.clone().prop_map(|a| format!("Some({a})")),
            inner.clone().prop_map(|a| format!("(z => {a})")),
            (inner.clone(), inner.clone(), inner)
                .prop_map(|(a, b, c)| format!("(if {a} {{ {b} }} else {{ {c} }})")),
        ]
    })
}

/// Written types that change what is accepted for them.
const TYPES: [&str; 4] = ["float", "Option<float>", "Result<Array<Option<float>>>", "T"];

fn statements() -> impl Strategy<Value = String> {
    let name = || prop::sample::select(vec!["a", "b", "c"]);
    let leaf = prop_oneof![
        (name(), expression()).prop_map(|(n, e)| format!("{n} = {e};")),
        (name(), expression()).prop_map(|(n, e)| format!("let {n} = {e};")),
        (name(), prop::sample::select(TYPES.to_vec()), expression())
            .prop_map(|(n, ty, e)| format!("let {n}: {ty} = {e};")),
        (name(), expression()).prop_map(|(n, e)| format!("{n} = T {{ x: {e} }};")),
        (name(), prop::sample::select(vec!["+=", "-=", "*="]), expression())
            .prop_map(|(n, op, e)| format!("{n} {op} {e};")),
        (name(), expression()).prop_map(|(n, e)| format!("{n}.push({e});")),
        (name(), expression()).prop_map(|(n, e)| format!("{n}.x = {e};")),
        (name(), expression(), expression()).prop_map(|(n, i, e)| format!("{n}[{i}] = {e};")),
        expression().prop_map(|e| format!("{e};")),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let block = prop::collection::vec(inner, 0..4).prop_map(|lines| lines.join(" "));
        prop_oneof![
            block.clone(),
            block.clone().prop_map(|b| format!("for c in range(0, 4) {{ {b} }}")),
            expression().prop_map(|e| format!("if a == b {{ return {e} }}")),
            (expression(), block.clone()).prop_map(|(e, b)| format!("if ({e}) {{ {b} }}")),
            (expression(), block.clone())
                .prop_map(|(e, b)| format!("for c in ({e}) {{ {b} if c {{ break }} }}")),
            (expression(), block.clone())
                .prop_map(|(e, b)| format!("while ({e}) {{ {b} continue }}")),
            (block.clone(), block.clone())
                .prop_map(|(a, b)| format!("try {{ {a} }} catch (TypeError e) {{ {b} }}")),
            (block.clone(), block.clone())
                .prop_map(|(a, b)| format!("try {{ {a} }} catch (e) {{ {b} }}")),
            (expression(), block).prop_map(|(e, b)| format!(
                "match ({e}) {{ Some(c) => {{ {b} }}, 1 => 2, _ => 3 }}"
            )),
        ]
    })
}

const LIMITS: Limits = Limits { steps: 20_000, memory: 1 << 20, depth: 30, output: 1 << 16 };

/// The end of a run, its steps, and the most memory that was seen at a host call.
pub(super) fn run(source: &str, fuel: u64) -> (String, u64, u64) {
    run_moved(source, fuel, |_, _| {})
}

/// The same, with something done to the machine wherever it stops.
fn run_moved(
    source: &str,
    fuel: u64,
    moved: impl Fn(&mut Machine, &Arc<Code>),
) -> (String, u64, u64) {
    let parsed = parse(source);
    // Compiling refuses what the checker would have refused; that is an end too.
    let code = match compile(&parsed.program, 0) {
        Ok(code) => Arc::new(code),
        Err(error) => return (error.to_string(), 0, 0),
    };
    let mut machine = Machine::start(Arc::clone(&code), Entry::With, vec![], vec![], LIMITS)
        .expect("no parameters");
    let mut most = 0;
    loop {
        let step = machine.run(fuel);
        moved(&mut machine, &code);
        match step {
            Step::Call(call) => {
                most = most.max(machine.memory());
                assert!(most <= LIMITS.memory, "{most} bytes");
                let first = call.args.into_iter().next().unwrap_or_default();
                machine.resume(match first {
                    Value::Null => Err(ErrorValue::new("ToolNotFound", "none")),
                    value => Ok(value),
                });
            }
            // Values in passing are not charged; a frame has few.
            Step::Yielded if fuel > 1 => {
                let live = machine.memory();
                assert!(live <= LIMITS.memory + 4_096, "{live} bytes");
            }
            Step::Yielded => {}
            end => {
                assert!(machine.steps() <= LIMITS.steps);
                return (format!("{end:?}"), machine.steps(), most);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_run_ends_and_is_the_same_run_in_any_slices(
        lines in prop::collection::vec(statements(), 1..8),
        fuel in 200_u64..4_000,
    ) {
        // Most random expressions are errors; caught, they do not hide what comes after them.
        let caught = |line: &String| format!("try {{ {line} }} catch (e) {{ seen = e.kind }}");
        let body = lines.iter().map(caught).collect::<Vec<_>>().join("\n");
        let source = format!(
            "type T = {{ x: float, y: Option<T> }}\nfunction f(x) -> Option<any> {{ if x {{ return f(null) }} x }}\nagent t {{ with {{ a = [1]; b = {{x: 1}}; c = 3; for i in range(0, 4) {{ {body} }} return [a, b, c, seen] }} }}"
        );
        let whole = run(&source, u64::MAX);
        prop_assert_eq!(&run(&source, 1), &whole);
        prop_assert_eq!(&run(&source, 13), &whole);
        let moved = |machine: &mut Machine, code: &Arc<Code>| saving::moved(machine, code, LIMITS);
        // What the host gives back is shared with the state only in the process in which it was asked.
        let (end, steps, _) = run_moved(&source, fuel, moved);
        prop_assert_eq!((&end, steps), (&whole.0, whole.1));
    }

    /// What the checker refuses as a value of a written type is no such value when it is run.
    #[test]
    fn what_is_refused_is_never_of_the_type(
        value in expression(),
        lines in prop::collection::vec(statements(), 0..3),
        (ty, name) in prop::sample::select(vec![
            ("String", "string"), ("int", "int"), ("bool", "bool"), ("duration", "duration"),
            ("size", "size"), ("Array", "array"), ("Map", "map"), ("Option", "option"),
        ]),
    ) {
        // Of an `if` each branch has to fit, also one that is never taken.
        prop_assume!(!value.contains("(if "));
        let source = |end: &str| format!(
            "function f(x) {{ x }}\nagent t {{ with {{ let a = [1]; let b = {{x: 1}}; let c = \"é\"; {} {end} }} }}",
            lines.join(" ")
        );
        let typed = source(&format!("let typed: {ty} = {value}; return type_of(typed)"));
        let checked = symbiont_dsl::definition::check(&typed);
        let refused = checked.diagnostics.iter().any(|found| {
            found.code == "E0221" && found.message.starts_with("`typed`")
        });
        if refused {
            let (end, _, _) = run(&typed, u64::MAX);
            prop_assert!(!end.contains(&format!("\"{name}\"")), "{typed}: {end}");
        }
    }

    /// Checking and analysing a program leave what runs as it was, whatever the program.
    #[test]
    fn whatever_is_written_is_analysed(
        lines in prop::collection::vec(statements(), 1..8),
        from in 0_usize..400,
        length in 0_usize..40,
    ) {
        let mut source = format!("agent t(a: Array<int>, b: T) -> int {{ with {{ {} }} }} type T = {{ x: Option<T> }}", lines.join("\n"));
        let parsed = parse(&source);
        if let Some(program) = symbiont_dsl::definition::check(&source).program {
            prop_assert_eq!(&program.hir, &parsed.program);
        }
        // And with a piece cut out.
        let boundary = |at: usize| (at..).find(|at| source.is_char_boundary(*at)).unwrap_or(0);
        let (from, to) = (from.min(source.len()), (from + length).min(source.len()));
        let range = boundary(from)..boundary(to);
        source.replace_range(range, "");
        let program = parse(&source).program;
        let analysis = symbiont_dsl::analysis::Analysis::of(&source, &program);
        for symbol in analysis.symbols() {
            let references = analysis.references(symbol);
            for place in references {
                prop_assert_eq!(source.get(place.clone()), Some(symbol.name.as_str()));
            }
            prop_assert!(references.contains(&symbol.span) || symbol.name.is_empty());
        }
        for at in 0..=source.len() {
            analysis.type_at(at);
            analysis.members_at(at);
            analysis.symbol_at(at);
        }
    }
}
