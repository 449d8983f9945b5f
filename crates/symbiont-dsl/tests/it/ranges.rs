//! A range is the array of its numbers: whatever a program does with it, it can't tell which it has.

use std::sync::Arc;

use symbiont_dsl::docs::{self, Kind};
use symbiont_dsl::machine::{Entry, Limits, Machine, Step};
use symbiont_dsl::value::{Value, to_json_text};

use super::machine::{answer, code};
use super::saving;

const LIMITS: Limits = Limits { steps: 50_000_000, memory: 64 << 20, depth: 200, output: 16 << 20 };

/// What stands beside a range in calls and operations; `y` is a range as well.
const OTHERS: [&str; 15] = [
    "0",
    "1",
    "-1",
    "2.0",
    "\"a\"",
    "null",
    "None",
    "[1]",
    "[0, 1.0, 2]",
    "({ a: 1 })",
    "x",
    "y",
    "n => n",
    "1KB",
    "30s",
];

const OPERATORS: [&str; 15] =
    ["+", "-", "*", "/", "%", "==", "!=", "<", ">", "<=", ">=", "in", "not in", "&&", "||"];

/// Something of each type that has methods.
const RECEIVERS: [&str; 11] = [
    "\"a,b\"",
    "[[0, 1, 2]]",
    "({ a: 1 })",
    "bytes()",
    "5",
    "1h",
    "1KB",
    "time()",
    "Some(1)",
    "Ok(1)",
    "error(\"e\")",
];

/// What is done with `x`, as statements and what they come to.
const STATEMENTS: &[(&str, &str)] = &[
    ("x[0] = 9", "x"),
    ("x[-1] += 1", "x"),
    ("x[7] = 1", "x"),
    ("x[\"a\"] = 1", "x"),
    ("x[0][0] = 1", "x"),
    ("x.a = 1", "x"),
    ("x.a.b = 1", "x"),
    ("x += [1]", "x"),
    ("x += x", "x"),
    ("x += y", "x"),
    ("x -= 1", "x"),
    ("let z = x; z.push(1); z[0] = 5", "[x, z]"),
    (
        "let m = { x: x, list: [x, y] }; m.x.push(1); m.x[0] = 7; m.list[1].push(2); m.list[0] += [1]",
        "m",
    ),
    ("let m = { x: x }; m.x.remove(0); m.x.merge(1)", "m"),
    ("let m = { }; m[x] = 1", "m"),
    ("let m = { a: 1 }", "m[x]"),
    ("let a = [1]; a[x] = 1", "a"),
    ("let a = [1]; a += x; a.push(x)", "a"),
    ("let s = \"a\"; s += x", "s"),
    ("let n = 0; for i in x { n = n * 10 + i; x.push(i) }", "[n, x]"),
    ("let n = 0; for i in x { for j in x { if j == i { continue } n += j } }", "n"),
    ("let n = 0; while x { n += 1; x = null }", "n"),
    ("let v = x; for i in [1, 2, 3] { v = [v, Some(v)] }", "v"),
    ("let v = x; for i in \"a\".repeat(127) { v = [v] }", "1"),
    ("let v = [x]; for i in \"a\".repeat(127) { v = Some(v) }", "1"),
    ("let v = { x: x }; for i in \"a\".repeat(126) { v = [v] } v.y = 1", "1"),
    ("", "match x { null => 0, 1 => 1, { length } => 2, Some(z) => 3, y => 4 }"),
    ("", "match Some(x) { Some(y) => y, None => 0 }"),
    ("", "if x { 1 } else { 2 }"),
    ("", "!x"),
    ("", "-x"),
    ("", "x(1)"),
    ("", "x.nothing"),
    ("", "x.lenght()"),
    ("", "x[0]"),
    ("", "x[-1]"),
    ("", "x[3]"),
    ("", "x[1.0]"),
    ("", "[x, [x]] == [y, [y]]"),
    ("", "{ a: x } == { a: [0.0, 1.0, 2.0] }"),
    ("", "Some(x) == Some([0, 1, 2])"),
    ("", "x == [0, 1.0, 2KB]"),
    ("", "[0.0, 1.0, 2.0] == x"),
    ("", "x in [[0, 1, 2], [2, 3]]"),
    ("", "[0, 1, 2] in [x]"),
    ("", "[x, y].contains([0, 1, 2])"),
    ("", "[-1.0 in x, 0.5 in x, 9.3e18 in x, -9.3e18 in x, 9223372036854775806.0 in x, 3B in x]"),
    ("", "[x, y].sort()"),
    ("", "[x, y].join(\"-\")"),
    ("", "[x, x, y].map(z => z.length)"),
    ("", "zip(x, [1, 2, 3])"),
    ("", "zip([1, 2, 3], x)"),
    ("", "[max(x), min(x)]"),
    ("", "max(x, y)"),
    ("", "x.map(n => n * 2).filter(n => n in x).reduce((sum, n) => sum + n, 0)"),
    ("", "x.reduce((all, n) => all + [n], x)"),
    ("", "x.slice(1).slice(-2, -1)"),
    ("", "parse_json(to_json({ x: x }))"),
    ("", "describe(x, [x], named = { x: x })"),
    ("let back = echo(x); back.push(1)", "[x, back]"),
    ("", "fs.read(x)"),
    ("", "error(x)"),
    ("", "Err(x)"),
    ("assert(false, x)", "1"),
    ("let f = () => x + [1]", "[f(), f()]"),
    ("try { fail(x) } catch (e) { x = e.kind }", "x"),
];

/// Every way to do something with `x` and with what stands beside it.
fn everything() -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = STATEMENTS
        .iter()
        .map(|(before, value)| ((*before).to_owned(), (*value).to_owned()))
        .collect();
    let mut add = |value: String| all.push((String::new(), value));
    for page in docs::all() {
        let name = page.name;
        match page.kind {
            Kind::Builtin => {
                add(format!("{name}(x)"));
                for other in OTHERS {
                    add(format!("{name}(x, {other})"));
                    add(format!("{name}({other}, x)"));
                }
                add(format!("{name}(x, 1, 2)"));
                add(format!("{name}(\"{{}} {{}}\", x, x)"));
            }
            Kind::Method => {
                for receiver in RECEIVERS {
                    add(format!("({receiver}).{name}(x)"));
                    add(format!("({receiver}).{name}(1, x)"));
                }
                add(format!("x.{name}"));
                add(format!("x.{name}()"));
                for other in OTHERS {
                    add(format!("x.{name}({other})"));
                    add(format!("x.{name}({other}, 2)"));
                    add(format!("x.{name}(n => n, {other})"));
                }
                add(format!("x.{name}(1, 2, 3)"));
            }
            Kind::Call | Kind::Keyword => {}
        }
    }
    for operator in OPERATORS {
        for other in OTHERS {
            add(format!("x {operator} ({other})"));
            add(format!("({other}) {operator} x"));
        }
    }
    all
}

/// A program that does all that, and says of each what came of it and what `x` is then.
fn program(x: &str, y: &str, all: &[(String, String)], shown: &str) -> String {
    let mut source =
        format!("agent t {{ with {{ let seen = []; let first = {x}; let second = {y};\n");
    for (before, value) in all {
        let before = if before.is_empty() { String::new() } else { format!("{before};") };
        source.push_str(&format!(
            "if true {{ let x = first; let y = second; try {{ {before} let r = {value}; \
             seen.push({shown}(format(\"{{}} {{}} {{}}\", type_of(r), r, x))) }} \
             catch (e) {{ seen.push({shown}(format(\"{{}}: {{}} {{}}\", e.kind, e.message, x))) }} }}\n"
        ));
    }
    source + "return seen } }"
}

/// The array that says what the range does.
fn written_out(from: i64, to: i64) -> String {
    let numbers: Vec<String> = (from..to).map(|number| number.to_string()).collect();
    format!("[{}]", numbers.join(", "))
}

/// What a program has seen; saved and restored after each so many steps.
fn seen(source: &str, every: Option<u64>) -> Vec<Value> {
    let code = code(source);
    let begin = || Machine::start(Arc::clone(&code), Entry::With, vec![], vec![], LIMITS);
    let mut machine = begin().expect("it starts");
    let seen = match every {
        Some(every) => saving::drive(&mut machine, &code, every, LIMITS),
        None => loop {
            match machine.run(u64::MAX) {
                Step::Call(call) => machine.resume(answer(&call)),
                Step::Done(value) => break Ok(value),
                Step::Failed(error) => break Err(error),
                Step::Yielded => {}
            }
        },
    };
    match seen {
        Ok(Value::Array(seen)) => seen.to_vec(),
        other => panic!("{other:?}"),
    }
}

/// That a range and its numbers come to the same.
#[track_caller]
fn same((from, to): (i64, i64), all: &[(String, String)], shown: &str, every: Option<u64>) {
    let range = format!("range({from}, {to})");
    let (lazy, written) = (
        program(&range, "range(1, 3)", all, shown),
        program(&written_out(from, to), "[1, 2]", all, shown),
    );
    let (lazy, written) = (seen(&lazy, every), seen(&written, None));
    assert_eq!(lazy.len(), all.len());
    for ((lazy, written), (before, value)) in lazy.iter().zip(&written).zip(all) {
        assert_eq!(lazy.as_str(), written.as_str(), "{before}; {value} with {range}");
    }
}

#[test]
fn nothing_tells_a_range_from_an_array() {
    let all = everything();
    assert!(all.len() > 5_000, "{} ways", all.len());
    for ends in [(0, 3), (2, 2), (4, 1), (-2, 2), (1, 2), (i64::MAX - 3, i64::MAX)] {
        for some in all.chunks(500) {
            same(ends, some, "", None);
        }
    }
    // And wherever the run is saved and restored.
    let statements: Vec<_> = all[..STATEMENTS.len()].to_vec();
    for every in [3, 40] {
        same((0, 3), &statements, "", Some(every));
    }
}

/// What is long is done piece by piece, in other code.
#[test]
fn nothing_tells_a_long_range_from_an_array() {
    let mut all: Vec<(String, String)> = Vec::new();
    for (before, value) in STATEMENTS {
        // Those that take as many steps as there are pairs, or make as many values.
        if !before.contains("for j in x") && !value.contains("all + [n]") {
            all.push(((*before).to_owned(), (*value).to_owned()));
        }
    }
    for page in docs::all() {
        let name = page.name;
        let values: &[String] = match page.kind {
            Kind::Builtin => {
                &[format!("{name}(x)"), format!("{name}(x, x)"), format!("{name}([1, 2], x)")]
            }
            Kind::Method if page.receiver == "array" => &[
                format!("x.{name}"),
                format!("x.{name}()"),
                format!("x.{name}(2)"),
                format!("x.{name}(\",\")"),
                format!("x.{name}(n => n % 3)"),
                format!("x.{name}((a, b) => a + b, 0)"),
                format!("x.{name}(4, -5)"),
            ],
            _ => &[],
        };
        all.extend(values.iter().map(|value| (String::new(), value.clone())));
    }
    for operator in OPERATORS {
        for value in
            [format!("x {operator} [1]"), format!("[1] {operator} x"), format!("x {operator} x")]
        {
            all.push((String::new(), value));
        }
    }
    for some in all.chunks(100) {
        same((-5, 20_000), some, "hash", None);
    }
    for some in all.chunks(20) {
        same((7, 5_000), some, "hash", Some(80_011));
    }
}

/// A range that no array could be is as good as one as long as no array is needed, and then it is
/// refused before any of it is there.
#[test]
fn a_huge_range_costs_nothing_until_it_is_needed() {
    let outcome = |body: &str| {
        let source = format!("agent t {{ with {{ let x = range(0, 1000000000000000); {body} }} }}");
        let code = code(&source);
        let mut machine =
            Machine::start(code, Entry::With, vec![], vec![], LIMITS).expect("it starts");
        let end = loop {
            match machine.run(u64::MAX) {
                Step::Call(call) => machine.resume(answer(&call)),
                Step::Done(value) => break to_json_text(&value, 1 << 10).expect("it is short"),
                Step::Failed(error) => break format!("! {}", error.kind),
                Step::Yielded => {}
            }
        };
        assert!(machine.steps() < 500, "{body} takes {} steps", machine.steps());
        assert!(machine.memory() < 10_000, "{body} takes {} bytes", machine.memory());
        end
    };
    for (body, want) in [
        (
            "[len(x), x.length, x[-1], x[500], x.first, x.last(), x.get(7), x.is_empty]",
            "[1000000000000000,1000000000000000,999999999999999,500,0,999999999999999,7,false]",
        ),
        (
            "[5 in x, 5.0 in x, 5.5 in x, -1 in x, x.contains(99), \"a\" in x]",
            "[true,true,false,false,true,false]",
        ),
        ("let n = 0; for i in x { if i == 9 { break } n += i } n", "36"),
        (
            "[min(x), max(x), x == [1], [1] == x, x == range(0, 1000000000000000), x in [x]]",
            "[0,999999999999999,false,false,true,true]",
        ),
        ("x.slice(10, 13)", "[10,11,12]"),
        ("let z = x.slice(5); [z[0], z.length]", "[5,999999999999995]"),
        ("zip([\"a\"], x)", "[[\"a\",0]]"),
        ("x.find(n => n > 2)", "3"),
        ("let z = x; [z][0][1]", "1"),
        ("x[0] = 1", "! LimitExceeded"),
        ("x[5] += 1", "! LimitExceeded"),
        ("x.push(1)", "! LimitExceeded"),
        ("x.remove(0)", "! LimitExceeded"),
        ("x + [1]", "! LimitExceeded"),
        ("[1] + x", "! LimitExceeded"),
        ("x + x", "! LimitExceeded"),
        ("x += [1]", "! LimitExceeded"),
        ("x.sort()", "! LimitExceeded"),
        ("sort(x)", "! LimitExceeded"),
        ("x.reverse", "! LimitExceeded"),
        ("zip(x, x)", "! LimitExceeded"),
        ("x.join()", "! LimitExceeded"),
        ("to_json(x)", "! LimitExceeded"),
        ("hash([x])", "! LimitExceeded"),
        ("format(\"{}\", x)", "! LimitExceeded"),
        ("describe(x)", "! LimitExceeded"),
        ("describe(a = { b: x })", "! LimitExceeded"),
        ("return x", "! LimitExceeded"),
    ] {
        assert_eq!(outcome(body), want, "{body}");
    }
}

/// Hosts know of no ranges; what one stands for is paid for, however often it is there.
#[test]
fn a_host_is_given_arrays() {
    let call = |body: &str| {
        let source = format!("agent t {{ with {{ {body} }} }}");
        let mut machine =
            Machine::start(code(&source), Entry::With, vec![], vec![], LIMITS).expect("it starts");
        machine.run(u64::MAX)
    };
    let Step::Call(call_of) = call("tool(range(0, 3), a = { b: [range(1, 2)] })") else {
        panic!("no call")
    };
    let numbers = |from: i64, to| (from..to).map(Value::Int).collect::<Vec<_>>();
    assert!(matches!(&call_of.args[..], [Value::Array(items)] if items[..] == numbers(0, 3)));
    let Value::Map(named) = &call_of.named[0].1 else { panic!("no map") };
    let Value::Array(b) = &named["b"] else { panic!("no array") };
    assert!(matches!(&b[0], Value::Array(items) if items[..] == numbers(1, 2)));
    // A thousand times what fits.
    let many = "let all = [range(0, 1000000)]; for i in range(0, 10) { all = all + all } tool(all)";
    assert!(matches!(call(many), Step::Failed(error) if &*error.kind == "LimitExceeded"));
}
