//! What programs mean: source in, JSON or an error out.

use std::sync::Arc;
use std::time::Duration;

use symbiont_dsl::diagnostic::Severity;
use symbiont_dsl::machine::{Code, Entry, HostCall, Limits, Machine, Step, compile};
use symbiont_dsl::syntax::parse;
use symbiont_dsl::value::{ErrorValue, Secret, Value, from_json_text, to_json_text};

use super::saving;

const LIMITS: Limits = Limits { steps: 2_000_000, memory: 4 << 20, depth: 200, output: 1 << 20 };

/// Compiles a whole source, whose first agent is meant.
#[track_caller]
pub(crate) fn code(source: &str) -> Arc<Code> {
    let parsed = parse(source);
    let errors: Vec<_> =
        parsed.diagnostics.iter().filter(|d| d.severity == Severity::Error).collect();
    assert!(errors.is_empty(), "{source}\n{errors:?}");
    match compile(&parsed.program, 0) {
        Ok(code) => Arc::new(code),
        Err(error) => panic!("{source}\n{error} at {:?}", error.span),
    }
}

/// The source of an agent whose behaviour is `body`. What stands before a line `---` is outside it.
fn agent(body: &str) -> String {
    let (outside, body) = body.split_once("---").unwrap_or(("", body));
    format!("{outside}\nagent test {{ with {{ {body} }} }}")
}

/// A host that is honest about the little it can do.
pub(crate) fn answer(call: &HostCall) -> Result<Value, ErrorValue> {
    let first = || call.args.first().cloned().unwrap_or_default();
    match &*call.name {
        "echo" => Ok(first()),
        "ones" => match first() {
            Value::Int(count) => Ok(Value::array((0..count).map(|_| Value::Int(1)))),
            other => Ok(other),
        },
        "time" => Ok(Value::Time(1_700_000_000_123_456_789)),
        "bytes" => Ok(Value::Bytes(Arc::from(&b"hi!"[..]))),
        "describe" | "fs.read" | "memory.get" | "a.b.c" => {
            let mut text = format!("{}(", call.name);
            for (number, arg) in call.args.iter().enumerate() {
                text += if number > 0 { ", " } else { "" };
                text += &arg.to_string();
            }
            for (name, value) in &call.named {
                text += &format!("; {name}={value}");
            }
            Ok(Value::from(text + ")"))
        }
        "secret.read" => {
            let text = r#"{"user":"ann"}"#.into();
            Ok(Value::Secret(Arc::new(Secret { path: Arc::from(first().to_string()), text })))
        }
        "fail" => Err(ErrorValue::new(first().to_string(), "it failed").with_operation("fail")),
        other => Err(ErrorValue::new("ToolNotFound", format!("no tool `{other}`"))),
    }
}

/// Runs to the end with the honest host; each turn gets `fuel`.
fn drive(machine: &mut Machine, fuel: u64) -> Result<Value, ErrorValue> {
    loop {
        match machine.run(fuel) {
            Step::Call(call) => machine.resume(answer(&call)),
            Step::Done(value) => return Ok(value),
            Step::Failed(error) => return Err(error),
            Step::Yielded => {}
        }
    }
}

fn show(result: Result<Value, ErrorValue>) -> String {
    match result {
        Ok(value) => to_json_text(&value, 1 << 20).expect("checked at the end of the run"),
        Err(error) => format!("! {error}"),
    }
}

fn started(
    source: &str,
    input: Vec<(String, Value)>,
    limits: Limits,
) -> Result<Machine, ErrorValue> {
    let ambient = vec![("user".to_owned(), Value::from("ann"))];
    Machine::start(code(source), Entry::With, input, ambient, limits)
}

fn run(source: &str, input: Vec<(String, Value)>, limits: Limits, fuel: u64) -> (String, u64) {
    match started(source, input, limits) {
        Ok(mut machine) => (show(drive(&mut machine, fuel)), machine.steps()),
        Err(error) => (format!("! {error}"), 0),
    }
}

/// The result of a body is `want` as JSON, or `! Kind...` of which `want` is the beginning.
#[track_caller]
fn check(body: &str, want: &str) {
    check_within(LIMITS, body, want);
}

#[track_caller]
fn check_within(limits: Limits, body: &str, want: &str) {
    let source = agent(body);
    let (got, steps) = run(&source, vec![], limits, u64::MAX);
    let fits = if want.starts_with('!') { got.starts_with(want) } else { got == want };
    assert!(fits, "{body}\n  gives {got}\n  not   {want}");
    // However the fuel is sliced, it is the same run.
    assert_eq!(run(&source, vec![], limits, 1), (got.clone(), steps), "{body}");
    assert_eq!(run(&source, vec![], limits, 7), (got.clone(), steps), "{body}");
    // And wherever it is saved and restored.
    let every = 1 + steps / 3;
    let mut machine = started(&source, vec![], limits).expect("it has no parameters");
    let moved = show(saving::drive(&mut machine, &code(&source), every, limits));
    assert_eq!((moved, machine.steps()), (got, steps), "{body}");
}

#[track_caller]
fn table(cases: &[(&str, &str)]) {
    for (body, want) in cases {
        check(body, want);
    }
}

#[test]
fn literals_are_what_they_say() {
    table(&[
        ("", "null"),
        ("1", "1"),
        ("return 1", "1"),
        ("return 1;", "1"),
        ("1;", "null"),
        ("1_000_000", "1000000"),
        ("1.0", "1.0"),
        ("-1.5", "-1.5"),
        ("-9223372036854775807", "-9223372036854775807"),
        ("1.0e300 * 10.0", "1e301"),
        (r#""a\n\t\"\\\u{e9}""#, r#""a\n\t\"\\é""#),
        ("true", "true"),
        ("null", "null"),
        ("return None", "null"),
        ("return Some(1)", "1"),
        ("return Ok([1])", "[1]"),
        ("return 90m", "\"PT1H30M\""),
        ("return 250ms", "\"PT0.25S\""),
        ("return 2d", "\"P2D\""),
        ("return 1KB", "1000"),
        ("return 1KiB", "1024"),
        ("return [1, \"a\", null, [2.0]]", r#"[1,"a",null,[2.0]]"#),
        ("return { b: 1, \"a c\": 2 }", r#"{"b":1,"a c":2}"#),
        ("return Point { x: 1 }", r#"{"x":1}"#),
        ("return range(1, 4)", "[1,2,3]"),
        ("return any", "\"any\""),
        ("return x => x", "! TypeError"),
        ("return time()", "\"2023-11-14T22:13:20.123456789Z\""),
        ("return bytes()", "\"aGkh\""),
    ]);
}

#[test]
fn operators_follow_the_page() {
    table(&[
        ("1 + 2 * 3 - 4", "3"),
        ("7 / 2", "3"),
        ("-7 / 2", "-3"),
        ("-7 % 3", "-1"),
        ("7.0 / 2", "3.5"),
        ("1 + 0.5", "1.5"),
        ("9223372036854775807 + 1", "! ArithmeticError"),
        ("let x = 9223372036854775807; x += 1; x", "! ArithmeticError"),
        ("let x = 9223372036854775807; let y = 2; x * y", "! ArithmeticError"),
        ("1 / 0", "! ArithmeticError: division by zero"),
        ("1 % 0", "! ArithmeticError: division by zero"),
        ("1.0 / 0.0", "! ArithmeticError: division by zero"),
        ("let a = -9223372036854775807 - 1; a / -1", "! ArithmeticError"),
        ("let a = -9223372036854775807 - 1; a % -1", "! ArithmeticError"),
        ("let a = -9223372036854775807 - 1; -a", "! ArithmeticError"),
        ("1.0e308 * 10.0", "! ArithmeticError"),
        ("1 == 1.0", "true"),
        ("9007199254740993 == 9007199254740992.0", "false"),
        ("9007199254740993 > 9007199254740992.0", "true"),
        ("[1, {a: 2}] == [1.0, {a: 2}]", "true"),
        ("return {a: 1, b: 2} == {b: 2, a: 1}", "true"),
        ("\"a\" < \"b\"", "true"),
        ("1 < \"a\"", "! TypeError"),
        ("1KB == 1000", "true"),
        ("2KB > 1000", "true"),
        ("1s < 1m", "true"),
        ("null == None", "true"),
        ("\"a\" + 1", "\"a1\""),
        ("1.5 + \"a\"", "\"1.5a\""),
        ("\"a\" + null", "! TypeError"),
        ("\"a\" + [1]", "! TypeError"),
        ("[1] + [2]", "[1,2]"),
        ("\"a\" - \"b\"", "! TypeError"),
        ("1m + 30s", "\"PT1M30S\""),
        ("2m * 3", "\"PT6M\""),
        ("1m / 2", "\"PT30S\""),
        ("1m / 30s", "2.0"),
        ("30s - 1m", "! ArithmeticError"),
        ("[1m * 1.5, 0.1 * 1s, 1m / 1.5]", r#"["PT1M30S","PT0.1S","PT40S"]"#),
        ("[1MB * 1.5, 0.29 * 100B, 1KB / 3.0, 10B * 0.26, 10B * 0.04]", "[1500000,29,333,3,0]"),
        (
            "[type_of(1MB * 1.5), type_of(1.5 * 1MB), type_of(1MB / 1.5), type_of(1m / 1.5)]",
            r#"["size","size","size","duration"]"#,
        ),
        ("1KB * -0.5", "! ArithmeticError: a size can't be negative"),
        ("1m * -0.5", "! ArithmeticError: a duration can't be negative"),
        ("1GB * 1e300", "! ArithmeticError: `*` overflows"),
        ("1KB / 0.0", "! ArithmeticError: division by zero"),
        ("1m / 0.0", "! ArithmeticError: division by zero"),
        ("1.5 / 1KB", "! TypeError"),
        ("1KB + 0.5", "! TypeError"),
        ("1KB + 1KB", "2000"),
        ("time() - time()", "\"PT0S\""),
        ("(time() + 1d).day", "15"),
        ("2 in [1, 2]", "true"),
        ("2 not in [1, 2]", "false"),
        ("5 in range(0, 5)", "false"),
        ("\"a\" in {a: 1}", "true"),
        ("\"ell\" in \"hello\"", "true"),
        ("1 in 1", "! TypeError"),
        ("true && 1", "true"),
        ("false || null", "false"),
        ("false && nothing()", "false"),
        ("true || nothing()", "true"),
        ("not null", "true"),
        ("!0", "false"),
        ("1 < 2 && 2 < 3 || false", "true"),
        ("-\"a\"", "! TypeError"),
    ]);
}

#[test]
fn conditions_know_four_falsehoods() {
    for (value, want) in [
        ("false", "0"),
        ("null", "0"),
        ("None", "0"),
        ("Err(1)", "0"),
        ("0", "1"),
        ("\"\"", "1"),
        ("[]", "1"),
        ("Some(false)", "1"),
        ("Ok(null)", "1"),
        ("error(\"x\")", "1"),
    ] {
        check(&format!("let v = {value}; if v {{ 1 }} else {{ 0 }}"), want);
        check(&format!("let v = {value}; let n = 0; while v {{ n = 1; break }} n"), want);
        check(&format!("let v = {value}; if !v {{ 0 }} else {{ 1 }}"), want);
    }
}

#[test]
fn variables_belong_where_they_are_declared() {
    table(&[
        ("let x = 1; if true { let x = 2; } x", "1"),
        ("if true { x = 2 } x", "2"),
        ("let y = x; x = 1; y", "null"),
        ("x = 1; let x = 2; x", "2"),
        ("for i in [1, 2] { last = i } last", "2"),
        ("let f = () => { y = 5; y }; [f(), 1]", "[5,1]"),
        ("let n = 1; let f = () => { n += 1; n }; [f(), f(), n]", "[2,2,1]"),
        ("let a = [1]; let b = a; b.push(2); [a, b]", "[[1],[1,2]]"),
        ("let a = {x: {y: 1}}; let b = a; b.x.y = 2; [a.x.y, b.x.y]", "[1,2]"),
        ("let a = [[1], [2]]; a[0][0] = 9; a[-1].push(3); a", "[[9],[2,3]]"),
        ("let m = {}; m.a = 1; m[\"b\"] = 2; m.a += 5; m[\"b\"] *= 4; m", r#"{"a":6,"b":8}"#),
        ("let m = {}; m.a.b = 1", "! TypeError: `a` is null: there is no such key"),
        ("let m = {}; m.a += 1", "! TypeError: `a` is null: there is no such key"),
        ("let m = { a: null }; m.a += 1", "! TypeError"),
        ("let m = {}; m[\"a\"] += 1", "! KeyError: no key `a`"),
        ("let m = {}; m[\"a\"].b = 1", "! KeyError: no key `a`"),
        ("let m = {a: null}; m.a.b = 1", "! TypeError"),
        ("let a = [1]; a[1] = 1", "! IndexError"),
        ("let a = [1]; a[-2] = 1", "! IndexError"),
        ("let a = [1]; a[\"x\"] = 1", "! TypeError"),
        ("let s = \"a\"; s += \"b\"; let t = s; t += \"c\"; [s, t]", r#"["ab","abc"]"#),
        ("let s = \"a\"; s = s + \"b\"; s = s + s; s", "\"abab\""),
        ("let x = 10; x -= 3; x *= 2; x /= 4; x %= 2; x", "1"),
        ("user", "\"ann\""),
        ("context", "null"),
        ("context.x", "! TypeError"),
    ]);
}

#[test]
fn control_goes_where_it_should() {
    table(&[
        (
            "let s = 0; for i in range(0, 5) { if i == 1 { continue } if i == 4 { break } s += i } s",
            "5",
        ),
        ("let s = \"\"; for c in \"aé\" { s = c + s } s", "\"éa\""),
        ("let s = []; for k in ({a: 1, b: 2}) { s.push(k) } s", r#"["a","b"]"#),
        ("let a = [1, 2]; for x in a { a.push(x) } a", "[1,2,1,2]"),
        ("for x in 5 { }", "! TypeError"),
        ("let n = 0; while n < 10 { n += 1; if n == 7 { return n } } 0", "7"),
        ("if 1 > 2 { 1 } else if 2 > 1 { 2 } else { 3 }", "2"),
        ("let x = if false { 1 }; x", "null"),
        ("1 + if true { 2 } else { 3 }", "3"),
        ("if let Some(x) = Some(3) { x } else { 0 }", "3"),
        ("if let Some(x) = None { x } else { 0 }", "0"),
        ("match 2 { 1 => \"a\", 2 => \"b\", _ => \"c\" }", "\"b\""),
        ("match 3 { 1 => \"a\" }", "null"),
        ("match Ok(Some(1)) { Ok(None) => 0, Ok(Some(x)) => x + 1 }", "2"),
        ("match Err(\"no\") { Ok(x) => x, Err(e) => e }", "\"no\""),
        ("match ({a: 1, b: {c: 2}}) { { z } => 0, { a, b: { c: 2 } } => a }", "1"),
        ("match \"x\" { \"y\" => 1, other => other + \"!\" }", "\"x!\""),
        ("match null { null => 1, _ => 2 }", "1"),
        ("match -1 { -1 => 1, _ => 2 }", "1"),
        ("for i in [1] { for j in [1, 2, 3] { if j == 2 { break } n = j } m = i } [n, m]", "[1,1]"),
        (
            "let r = []; for i in range(0, 3) { try { if i == 1 { continue } r.push(i) } catch (e) { } } r",
            "[0,2]",
        ),
        (
            "let r = []; for i in range(0, 3) { try { if i == 1 { break } r.push(i) } catch (e) { } } try { 1 / 0 } catch (e) { r.push(e.kind) } r",
            r#"[0,"ArithmeticError"]"#,
        ),
        (
            "function f() { try { return 1 } catch (e) { return 2 } }\n---\n let x = f(); try { y = x / 0 } catch (e) { y = 9 } [x, y]",
            "[1,9]",
        ),
    ]);
}

#[test]
fn errors_are_values_that_can_be_caught() {
    table(&[
        ("try { 1 / 0 } catch (e) { return e.kind }", "\"ArithmeticError\""),
        (
            "try { [1][5] } catch (KeyError e) { return 1 } catch (IndexError e) { return e.message }",
            "\"no element 5 among 1\"",
        ),
        ("try { [1][5] } catch (KeyError e) { return 1 }", "! IndexError"),
        (
            "try { fail(\"PolicyDenied\") } catch (PolicyDenied e) { return [e.operation, e.retryable] }",
            r#"["fail",false]"#,
        ),
        ("nothing(1)", "! ToolNotFound: no tool `nothing`"),
        ("try { nothing(1) } catch (ToolNotFound e) { return 2 }", "2"),
        ("try { try { 1 / 0 } catch (TypeError e) { } } catch (e) { return 3 }", "3"),
        ("try { try { 1 / 0 } catch (e) { null.x } } catch (e) { return e.kind }", "\"TypeError\""),
        (
            "function f(n) { if n == 0 { return 1 / 0 } return f(n - 1) }\n---\n try { f(50) } catch (e) { return e.kind }",
            "\"ArithmeticError\"",
        ),
        ("[1, 2].map(x => x / 0)", "! ArithmeticError"),
        ("try { [1, 2].map(x => x / 0) } catch (e) { return 4 }", "4"),
        ("return error(\"bad\")", "! Error: bad"),
        ("return error(\"bad\", \"Mine\")", "! Mine: bad"),
        ("return Err(\"bad\")", "! Error: bad"),
        ("return Err(error(\"bad\", \"Mine\"))", "! Mine: bad"),
        (
            "let e = error(\"bad\"); return [e.kind, e.message, e.operation]",
            r#"["Error","bad",null]"#,
        ),
        ("assert(1 == 1); assert(false, \"no\")", "! AssertionFailed: no"),
        ("{a: 1}[\"b\"]", "! KeyError: no key `b`"),
        ("let m = {a: 1}; m.b", "null"),
        ("let m = {a: 1}; m[1]", "! TypeError"),
        ("null.x", "! TypeError"),
        ("null[0]", "! TypeError"),
        ("let x = null; x.foo()", "! TypeError"),
        (
            "[1].lenght",
            "! TypeError: array has no member or method `lenght`; did you mean `length`?",
        ),
        (
            "\"a\".uper()",
            "! TypeError: string has no member or method `uper`; did you mean `upper`?",
        ),
    ]);
}

#[test]
fn calls_find_what_they_mean() {
    table(&[
        (
            "function f(a, b) { return a - b }\n---\n [f(3, 1), f(b = 3, a = 1), f(5, b = 1)]",
            "[2,-2,4]",
        ),
        ("function f(a) { a }\n---\n f(c = 1)", "! TypeError"),
        ("function f(a) { a }\n---\n f(1, a = 1)", "! TypeError"),
        ("function len(x) { return 99 }\n---\n len(\"a\")", "99"),
        ("let len = x => 98; len(\"a\")", "98"),
        ("let len = 5; len(\"abc\")", "3"),
        ("function f() { 7 }\n---\n let f = 5; f()", "7"),
        (
            "function fib(n) { if n < 2 { n } else { fib(n - 1) + fib(n - 2) } }\n---\n fib(15)",
            "610",
        ),
        (
            "function twice(f, x) { return f(f(x)) }\n function inc(x) { x + 1 }\n---\n twice(inc, 1)",
            "3",
        ),
        ("let add = a => b => a + b; add(1)(2)", "3"),
        ("let m = { f: x => x * 2 }; m.f(4)", "8"),
        ("let m = { f: x => x * 2 }; m.g(4)", "! TypeError"),
        ("let fs = [x => x + 1]; fs[0](1)", "2"),
        ("5(1)", "! TypeError"),
        ("[\"a\", \"bcd\"].map(len)", "[1,3]"),
        ("describe(1, b = 2, \"c\")", "\"describe(1, c; b=2)\""),
        ("fs.read(\"/x\")", "\"fs.read(/x)\""),
        ("a.b.c(1)", "\"a.b.c(1)\""),
        (
            "memory notes { }\n---\n [notes, notes.get(\"k\"), memory.get(\"j\")]",
            r#"["notes","memory.get(k; store=notes)","memory.get(j)"]"#,
        ),
        ("let fs = {read: x => \"mine\"}; fs.read(1)", "\"mine\""),
        ("echo([1, {a: 2}])", r#"[1,{"a":2}]"#),
        ("let x = [1]; let y = echo(x); y.push(2); [x, y]", "[[1],[1,2]]"),
        ("[1, 2].map(x => echo(x) + 1)", "[2,3]"),
        ("let k = 10; [1, 2].map(x => x + k)", "[11,12]"),
        ("len(1, 2)", "! TypeError: `len` takes 1 argument, not 2"),
        ("len(x = 1)", "! TypeError"),
    ]);
}

/// A function that a record holds comes before the method of that name; what else it holds does not.
#[test]
fn a_records_own_function_is_called_before_a_method() {
    table(&[
        ("{ keys: x => x + 1 }.keys(2)", "3"),
        ("let r = { length: () => 7, b: 1 }; [r.length(), r.get(\"b\").unwrap()]", "[7,1]"),
        ("let r = { get: x => x }; r.get(\"none\")", "\"none\""),
        ("{ keys: [1] }.keys()", "[\"keys\"]"),
        ("{ keys: [1] }.keys", "[1]"),
        ("{ keys: () => 1 }.values().length", "1"),
        // Those that change what they are called on are always the methods.
        ("let r = { remove: x => 5, a: 1 }; r.remove(\"a\"); r.keys()", "[\"remove\"]"),
    ]);
}

#[test]
fn what_can_not_be_is_said_in_words() {
    table(&[
        ("null < 1", "! TypeError: null is neither less nor greater than int"),
        ("1 >= null", "! TypeError: null is neither less nor greater than int"),
        ("null < null", "! TypeError: null is neither less nor greater than null"),
        ("[1] < [2]", "! TypeError: array has no order"),
        ("1 < \"a\"", "! TypeError: int and string have no order"),
        ("max(1, null)", "! TypeError: null is neither less nor greater than int"),
        ("[null, null].sort()", "! TypeError: null is neither less nor greater than null"),
        ("5s - 10s", "! ArithmeticError: a duration can't be negative"),
        ("5s * -1", "! ArithmeticError: a duration can't be negative"),
        ("5s * -0.5", "! ArithmeticError: a duration can't be negative"),
        ("5s / -1", "! ArithmeticError: a duration can't be negative"),
        ("-(5s)", "! TypeError: a duration can't be negative"),
        ("1KB - 2KB", "! ArithmeticError: a size can't be negative"),
        ("1KB * -1", "! ArithmeticError: a size can't be negative"),
        ("5s * 9223372036854775807 * 9223372036854775807", "! ArithmeticError: `*` overflows"),
        ("10s - 10s", "\"PT0S\""),
    ]);
}

#[test]
fn secrets_are_used_and_never_shown() {
    table(&[
        ("return vault://a/b", "\"[redacted]\""),
        ("secret.read(\"a/b\")", "\"[redacted]\""),
        ("secret.read(path = \"a/\" + \"b\")[\"user\"] == vault://a/b[\"user\"]", "true"),
        ("let secret = { read: x => x }; secret.read(1)", "1"),
        ("\"x\" + vault://a/b", "\"[redacted]\""),
        ("format(\"Bearer {}\", vault://a/b)", "\"[redacted]\""),
        ("describe(vault://a/b)", "\"describe([redacted])\""),
        ("return vault://a/b[\"user\"]", "\"[redacted]\""),
        ("return vault://a/b[\"none\"]", "! KeyError"),
        ("return [vault://a/b].join(\",\")", "\"[redacted]\""),
        ("to_json({s: vault://a/b})", r#""{\"s\":\"[redacted]\"}""#),
        ("hash(vault://a/b)", "! TypeError"),
        ("base64(vault://a/b)", "! TypeError"),
        ("(vault://a/b).length", "! TypeError"),
    ]);
}

#[test]
fn builtins_do_their_work() {
    table(&[
        ("[len(\"aé\"), len([1]), len({a: 1}), len(range(0, 9)), length(\"x\")]", "[2,1,1,9,1]"),
        ("len(5)", "! TypeError"),
        ("format(\"a {} b {}\", 1, [2])", "\"a 1 b [2]\""),
        ("format(\"{}\")", "! TypeError"),
        ("format(\"\", 1)", "! TypeError"),
        (r#"parse_json("{\"b\":1,\"a\":[1.0,null]}")"#, r#"{"b":1,"a":[1.0,null]}"#),
        ("parse_json(\"{\")", "! ParseError"),
        ("parse_json(\"18446744073709551615\")", "1.8446744073709552e19"),
        (
            "let zeros = parse_json(\"[-0, -0.0, -0e0, 0]\"); [zeros, zeros.map(type_of)]",
            r#"[[0,-0.0,-0.0,0],["int","float","float","int"]]"#,
        ),
        ("to_json({b: 1, a: [1.0, 2s]})", r#""{\"b\":1,\"a\":[1.0,\"PT2S\"]}""#),
        ("parse_csv(\"a,b\\n1,\\\"x,y\\\"\\n\")", r#"[{"a":"1","b":"x,y"}]"#),
        ("parse_csv(\"a,b\\n1\\n\")", "! ParseError"),
        (
            "[type_of(1), type_of(1.0), type_of(\"\"), type_of(null), type_of(1s), type_of(1KB), type_of([]), type_of({a: 1}), type_of(None), type_of(Ok(1)), type_of(x => x)]",
            r#"["int","float","string","null","duration","size","array","map","option","result","function"]"#,
        ),
        ("range(3)", "[0,1,2]"),
        ("range(3, 1)", "[]"),
        (
            "[range(0, 1000000000000000000)[5], range(0, 10)[-1], range(2, 5).contains(4)]",
            "[5,9,true]",
        ),
        ("range(0, 3)[3]", "! IndexError"),
        ("[min(2, 1), max([1, 3.5, 2]), min(\"b\", \"a\")]", r#"[1,3.5,"a"]"#),
        ("max([])", "! TypeError"),
        ("max(1, \"a\")", "! TypeError"),
        (
            "[abs(-2), abs(-2.5), round(2.5), round(-2.5), floor(-2.5), ceil(2.1), round(2.456, 2)]",
            "[2,2.5,3,-3,-3,3,2.46]",
        ),
        ("round(1.0e300)", "! ArithmeticError"),
        (
            "[sum([1, 2]), sum([1, 2.5]), sum([]), sum([1s, 2s]), sum(range(0, 101))]",
            r#"[3,3.5,0,"PT3S",5050]"#,
        ),
        ("sum([\"a\"])", "! TypeError"),
        (
            "[sort([3, 1, 2.5]), reverse([1, 2]), sort([\"b\", \"a\"])]",
            r#"[[1,2.5,3],[2,1],["a","b"]]"#,
        ),
        ("sort([1, \"a\"])", "! TypeError"),
        ("zip([1, 2], [\"a\", \"b\", \"c\"])", r#"[[1,"a"],[2,"b"]]"#),
        ("[keys({a: 1}), values({a: 1}), entries({a: 1})]", r#"[["a"],[1],[["a",1]]]"#),
        ("hash(\"abc\")", "\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\""),
        ("[base64(\"hi\"), base64(bytes())]", r#"["aGk=","aGkh"]"#),
        ("[regex_match(\"abc123\", \"[0-9]+\"), regex_match(\"abc\", \"^b\")]", "[true,false]"),
        ("regex_match(\"a\", \"(\")", "! ParseError"),
        ("regex_match(\"a\", \"(a{1000}){1000}\")", "! ParseError"),
        ("regex_match(\"a\", \"a\".repeat(5000))", "! LimitExceeded: a pattern has at most"),
        ("regex_match(\"a\", \"[a]\".repeat(200))", "! LimitExceeded: a pattern has at most"),
        (
            "[regex_match(\"ab\".repeat(300000) + \"c\", \"(ab)*c$\"), regex_match(\"é \".repeat(100000), \"\\\\bé\\\\b é$\")]",
            "[true,false]",
        ),
        (
            "[regex_match(\"\", \"\"), regex_match(\"\", \"^$\"), regex_match(\"a\", \"^$\"), regex_match(\"b a\", \"^a\"), regex_match(\"b\na\", \"(?m)^a\")]",
            "[true,true,false,false,true]",
        ),
    ]);
}

#[test]
fn methods_of_strings_do_their_work() {
    table(&[
        ("\"a,b,,c\".split(\",\")", r#"["a","b","","c"]"#),
        ("\"a\".split(\"\")", "! TypeError"),
        (
            "[\"\".split(\",\"), \",\".split(\",\"), \"aaaa\".split(\"aa\"), \"aaa\".split(\"aa\")]",
            r#"[[""],["",""],["","",""],["","a"]]"#,
        ),
        (
            "[\" a \".trim(), \"aÉ\".lower(), \"aé\".upper(), \"é\".length, \"\".is_empty]",
            r#"["a","aé","AÉ",1,true]"#,
        ),
        (
            "[\"abc\".contains(\"b\"), \"abc\".starts_with(\"a\"), \"abc\".ends_with(\"a\")]",
            "[true,true,false]",
        ),
        (
            "[\"aXbX\".replace(\"X\", \"-\"), \"a\\nb\".lines(), \"ab1\".contains_pattern(\"[0-9]\")]",
            r#"["a-b-",["a","b"],true]"#,
        ),
        (
            "[\"héllo\"[1], \"hello\"[-1], \"héllo\".slice(1, 3), \"abc\".slice(-2)]",
            r#"["é","o","él","bc"]"#,
        ),
        ("\"abc\"[3]", "! IndexError"),
        (
            "[\"ab\".chars, \"ab\".reverse(), \"ab\".repeat(2), \"42\".to_int(), \" 1.5\".to_float(), \"x\".to_string()]",
            r#"[["a","b"],"ba","abab",42,1.5,"x"]"#,
        ),
        ("\"x\".to_int()", "! ParseError"),
        ("\"x\".to_float()", "! ParseError"),
        ("\"abc\".contains(1)", "! TypeError"),
        ("\"abc\".trim(1)", "! TypeError"),
        ("[1.5.to_string(), 3.to_string(), 1s.to_string()]", r#"["1.5","3","PT1S"]"#),
    ]);
}

#[test]
fn methods_of_arrays_and_maps_do_their_work() {
    table(&[
        (
            "[[1, 2, 3].map(x => x * 2), [1, 2, 3].filter(x => x > 1), [1, 2, 3].reduce((a, b) => a + b, 10)]",
            "[[2,4,6],[2,3],16]",
        ),
        (
            "[[1, 2].find(x => x > 1), [1].find(x => x > 1), [1, 2].any(x => x > 1), [1, 2].all(x => x > 1), [].all(x => false)]",
            "[2,null,true,false,true]",
        ),
        ("match [1, 2].find(x => x > 1) { Some(x) => x, None => 0 }", "2"),
        ("range(0, 3).map(x => x + 1)", "[1,2,3]"),
        ("[1].map(5)", "! TypeError"),
        ("[1].map()", "! TypeError"),
        ("[1].map((a, b) => a)", "! TypeError"),
        (
            "let a = [1]; let b = a.append(2); let c = a.push(3); [a, b, c]",
            "[[1,2,3],[1,2],[1,2,3]]",
        ),
        (
            "[[3, 1].sort(), [3, 1].length, [1].contains(1.0), [].is_empty, [1, 2, 3].slice(1), [1, 2].join(\"-\"), [\"a\", \"b\"].join()]",
            r#"[[1,3],2,true,true,[2,3],"1-2","ab"]"#,
        ),
        (
            "[[1, 2].first(), [1, 2].last, [].first(), [1].get(0), [1].get(5), [1].get(5, 9), [1, 2].reverse(), [1, 2].sum()]",
            "[1,2,null,1,null,9,[2,1],3]",
        ),
        ("let a = [1, 2, 3]; a.remove(0); a.remove(-1); a", "[2]"),
        ("[1].remove(1)", "! IndexError"),
        ("[1, 2].remove(0)", "[2]"),
        (
            "let m = {a: 1}; m.get(\"a\") == Some(1) && m.get(\"b\") == None && m.get(\"b\", 2) == 2",
            "true",
        ),
        (
            "let m = {a: 1, b: 2}; m.remove(\"a\"); m.remove(\"z\"); m.merge({c: 3, b: 4}); m",
            r#"{"b":4,"c":3}"#,
        ),
        (
            "let m = {a: 1}; [m.contains(\"a\"), m.keys, m.values(), m.entries, m.length, m.is_empty]",
            r#"[true,["a"],[1],[["a",1]],1,false]"#,
        ),
        ("let m = {length: 9}; [m.length, m.length()]", "[9,1]"),
        (
            "let m = {list: []}; m.list.push(1); m.list.push(2); m[\"list\"].remove(0); m",
            r#"{"list":[2]}"#,
        ),
        ("let o = {n: [{x: []}]}; o.n[0].x.append({y: 1}); o", r#"{"n":[{"x":[{"y":1}]}]}"#),
        ("let m = {}; m.list.push(1)", "! TypeError: `list` is null"),
        ("let m = {x: null}; m.x.push(1)", "! TypeError"),
        ("let r = range(0, 2); r.push(5); r", "[0,1,5]"),
        ("{a: 1}.merge(5)", "! TypeError"),
        ("let x = 5; x.push(1)", "! TypeError"),
    ]);
}

#[test]
fn methods_of_other_values_do_their_work() {
    table(&[
        (
            "[90m.hours, 90m.minutes, 90m.seconds, 1500ms.milliseconds, 3d.days, 1500ms.as_seconds]",
            "[1,90,5400,1500,3,1.5]",
        ),
        (
            "let t = time(); [t.year, t.month, t.day, t.hour, t.minute, t.second, t.weekday, t.unix, t.unix_ms]",
            "[2023,11,14,22,13,20,2,1700000000,1700000000123]",
        ),
        (
            "let t = time(); [t.plus(1h).hour, t.minus(1h).hour, t.plus(2s).since(t), t.to_string()]",
            r#"[23,21,"PT2S","2023-11-14T22:13:20.123456789Z"]"#,
        ),
        ("let s = 2MB; [s.bytes, s.kilobytes, s.megabytes, s.gigabytes]", "[2000000,2000,2,0]"),
        (
            "let x = -2.5; [x.abs, x.round(), x.floor, x.ceil(), x.to_int(), x.is_nan]",
            "[2.5,-3,-3,-2,-2,false]",
        ),
        (
            "let x = 9; [x.sqrt, x.pow(2), x.to_float, x.min(3), x.max(10, 11), x.pow(0.5)]",
            "[3.0,81,9.0,3,11,3.0]",
        ),
        ("let x = -1; x.sqrt", "! ArithmeticError"),
        ("let x = 10; x.pow(100)", "! ArithmeticError"),
        (
            "[Some(1).is_some, None.is_none(), Some(1).unwrap(), None.unwrap_or(2), Ok(3).unwrap_or(4), Err(5).is_err, Ok(1).is_ok, Err(6).error]",
            "[true,true,1,2,3,true,true,6]",
        ),
        ("None.unwrap()", "! TypeError"),
        ("Err(\"bad\").unwrap()", "! Error: bad"),
        ("[bytes().length, bytes().base64, bytes().is_empty]", r#"[3,"aGkh",false]"#),
        ("true.to_string()", "\"true\""),
    ]);
}

#[test]
fn limits_end_a_run() {
    let limits = Limits { steps: 50_000, memory: 128 << 10, ..LIMITS };
    for (body, want) in [
        ("while true { }", "! LimitExceeded: the run has used its 50000 steps"),
        ("while true { try { while true { } } catch (e) { } }", "! LimitExceeded"),
        ("function f() { f() }\n---\n f()", "! LimitExceeded: more than 200 calls"),
        ("function f() { f() }\n---\n try { f() } catch (LimitExceeded e) { return 1 }", "1"),
        ("let s = \"0123456789\"; while true { s += s }", "! LimitExceeded: the run needs more"),
        ("let a = [0]; while true { a = a + a }", "! LimitExceeded: the run needs more"),
        (
            "let a = []; while true { a.push([1, 2, 3, 4, 5, 6, 7, 8]) }",
            "! LimitExceeded: the run needs more",
        ),
        ("\"x\".repeat(1000000000000)", "! LimitExceeded"),
        ("range(0, 1000000000000000000).sort()", "! LimitExceeded"),
        ("range(0, 1000000000000000000)", "! LimitExceeded"),
        ("to_json(range(0, 1000000000000000000))", "! LimitExceeded"),
        ("range(0, 1000000000000000000).length", "1000000000000000000"),
        ("sum(range(0, 1000000000))", "499999999500000000"),
        ("let x = [1]; while true { x = [x] }", "! LimitExceeded: values nested"),
        ("let x = 1; while true { x = Some(x) }", "! LimitExceeded: values nested"),
        ("let x = {}; while true { let y = {}; y.x = x; x = y }", "! LimitExceeded: values nested"),
        ("let x = 1; while true { let y = x; x = () => y }", "! LimitExceeded: values nested"),
        // A small value that stands for an enormous tree.
        ("let x = [1]; for i in range(0, 100) { x = [x, x] } return x", "! LimitExceeded"),
        ("let x = [1]; for i in range(0, 100) { x = [x, x] } to_json(x)", "! LimitExceeded"),
        (
            "let x = [1]; for i in range(0, 100) { x = [x, x] } \"a\" + x.join(\"\")",
            "! LimitExceeded",
        ),
        (
            "let x = [1]; let y = [1]; for i in range(0, 100) { x = [x, x]; y = [y, y] } x == y",
            "! LimitExceeded",
        ),
        (
            "let x = [1]; for i in range(0, 100) { x = [x, x] } describe(x.length); echo(x).length",
            "2",
        ),
        ("let s = \"\"; for i in range(0, 5000) { s += \"x\" } s.length", "5000"),
        // Catching an error does not make the work before it free.
        (
            "let x = [1]; for i in range(0, 100) { x = [x, x] } let n = 0; while true { try { to_json(x) } catch (e) { n += 1; if n > 20 { return n } } }",
            "! LimitExceeded: the run has used",
        ),
        (
            "let x = [1, y => y]; for i in range(0, 15) { x = [x, x] } let n = 0; while true { try { \"\" + [x].join(\"\") } catch (e) { n += 1 } }",
            "! LimitExceeded: the run has used",
        ),
        // What is let go does not count.
        ("for i in range(0, 30) { let s = \"x\".repeat(10000); n = s.length } n", "10000"),
    ] {
        check_within(limits, body, want);
    }
}

#[test]
fn a_declared_memory_is_a_value() {
    table(&[
        ("memory n { }\n---\n let m = n; m.get(\"x\", 1)", r#""memory.get(x, 1; store=n)""#),
        ("memory n { }\n---\n n.get(\"x\")", r#""memory.get(x; store=n)""#),
        (
            "memory n { }\nfunction f(m, k) { return m.get(key = k) }\n---\n f(n, \"a\")",
            r#""memory.get(; key=a; store=n)""#,
        ),
        ("memory n { }\n---\n let r = { m: n }; r.m.get(1)", r#""memory.get(1; store=n)""#),
        (
            "memory n { }\n---\n let m = n; m.remove(\"x\")",
            "! ToolNotFound: no tool `memory.remove`",
        ),
        (
            "memory n { }\n---\n let m = n; try { m.remove(\"x\"); } catch (e) { } let y = [1]; y.remove(0); return y",
            "[]",
        ),
        ("memory n { }\n---\n let m = n; m.nothing()", "! TypeError"),
        ("memory n { }\n---\n let m = n; [type_of(m), m == n, m]", r#"["memory",true,"n"]"#),
    ]);
}

#[test]
fn one_step_makes_no_more_than_one_text() {
    let limits = Limits { memory: 4 << 30, steps: 1 << 32, ..LIMITS };
    for (body, want, most) in [
        (
            "let s = \"0123456789abcdef\"; while true { s += s }",
            "! LimitExceeded: a text has at most 16 MiB",
            1 << 24,
        ),
        ("\"x\".repeat(100000000)", "! LimitExceeded: a text has at most 16 MiB", 100),
        ("to_json(range(0, 4000000000))", "! LimitExceeded: JSON of more", 100),
        ("hash(range(0, 4000000000))", "! LimitExceeded: JSON of more", 100),
        ("hash([range(0, 4000000000)])", "! LimitExceeded: JSON of more", 100),
        (
            "let n = 0; while n < 1000 { try { hash(range(0, 4000000000)) } catch (e) { n += 1 } } n",
            "1000",
            100_000,
        ),
        // Writing is paid for by its length.
        ("to_json(range(0, 1000000)).length", "6888891", 3_000_000),
    ] {
        let (got, steps) = run(&agent(body), vec![], limits, 1_000);
        assert!(got.starts_with(want), "{body}\n  gives {got}\n  not   {want}");
        assert!(steps <= most, "{body} takes {steps} steps");
    }
    let (_, steps) = run(&agent("to_json(range(0, 1000000))"), vec![], limits, 1_000);
    assert!(steps > 6_888_891 / 4, "{steps} steps are too few");
}

/// What is long is done piece by piece, and comes out as if it were done at once.
#[test]
fn long_work_gives_what_short_work_gives() {
    let numbers: Vec<i64> = (0..10_000).map(|i| i * 7_919 % 1_009).collect();
    let sorted = {
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        sorted
    };
    let json = |numbers: &[i64]| format!("{numbers:?}").replace(' ', "");
    let a = "let a = range(0, 10000).map(i => i * 7919 % 1009); ";
    let reversed: Vec<i64> = numbers.iter().rev().copied().collect();
    table(&[
        (&format!("{a} a.sort()"), &json(&sorted)),
        (&format!("{a} sort(a)"), &json(&sorted)),
        (&format!("{a} let s = a.sort; s"), &json(&sorted)),
        (&format!("{a} a.reverse()"), &json(&reversed)),
        (&format!("{a} reverse(a).length"), "10000"),
        ("range(0, 10000).reverse()[0]", "9999"),
        ("range(0, 10000).sort() == range(0, 10000).reverse().reverse()", "true"),
        (
            &format!("{a} let z = zip(a, range(0, 20000)); [z.length, z[9999]]"),
            "[10000,[806,9999]]",
        ),
        (&format!("{a} a.zip(a)"), "! TypeError: array has no member or method `zip`"),
        (&format!("{a} a.join(\",\").split(\",\").map(x => x.to_int()) == a"), "true"),
        (&format!("{a} a.join() == a.join(\"\")"), "true"),
        (&format!("{a} ((a.join(\"é\n\") + \"\n\").lines).length"), "10000"),
        ("(\"a\r\n\".repeat(9000)).lines()[8999]", "\"a\""),
        ("(\"é,\".repeat(9000)).split(\",\").length", "9001"),
        ("(\"ab\".repeat(200000)).split(\"bb\").length", "1"),
        (
            "let s = \"é\".repeat(70000) + \"--\"; let p = (s + s + \"x\").split(\"--\"); [p.length, p[0] == p[1], p[0].length, p[2]]",
            r#"[3,true,70000,"x"]"#,
        ),
        // What is looked for lies across where one stride ends.
        (
            "let s = \"a\".repeat(131071) + \"bc\"; [s.split(\"bc\").length, s.split(\"abc\")[0].length, s.contains(\"abc\"), s.replace(\"abc\", \"\").length, s.contains_pattern(\"abc$\")]",
            "[2,131070,true,131070,true]",
        ),
        ("(\"é,\".repeat(9000)).chars.length", "18000"),
        ("let s = \"aé\".repeat(4000); s.chars().join() == s", "true"),
        (
            "let m = {}; for i in range(0, 6000) { m[\"k\" + i] = i } let e = m.entries; [e.length, e[5999]]",
            "[6000,[\"k5999\",5999]]",
        ),
        ("let m = {entries: 7}; for i in range(0, 6000) { m[\"k\" + i] = i } m.entries", "7"),
        // Sorting is stable, and NaN comes last.
        ("range(0, 9000).map(i => if i % 2 == 0 { 1 } else { 1.0 }).sort()[8999]", "1.0"),
        (
            "let inf = 1.0e308 * 10.0; let a = range(0, 9000).map(i => 0 - i); a[3] = inf - inf; let s = a.sort(); [s[8999].is_nan, s[8998]]",
            "[true,0]",
        ),
        (
            "let a = range(0, 9000).map(i => i); a.push(\"x\"); a.sort()",
            "! TypeError: int and string have no order",
        ),
        ("let a = range(0, 9000).map(i => i); a[0] = \"x\"; sort(a)", "! TypeError"),
        (
            "let a = range(0, 9000).map(i => i); a[0] = 1.5; a[8999] = 1KB; sort(a)",
            "! TypeError: float and size",
        ),
        ("range(0, 9000).map(i => [i]).sort()", "! TypeError"),
        ("try { range(0, 9000).map(i => null).sort() } catch (TypeError e) { return 1 }", "1"),
        // An order that is none is refused, however few they are.
        ("[1.5, 1KB].sort()", "! TypeError: size and float have no order"),
        ("[2, 1KB, 1].sort()", "[1,2,1000]"),
        ("[[1]].sort()", "[[1]]"),
        ("[null, null].sort()", "! TypeError"),
        ("let m = {join: x => x}; m.join(3)", "3"),
    ]);
}

#[test]
fn lists_are_bounded_as_texts_are() {
    let limits = Limits { memory: 1 << 30, steps: 1 << 32, ..LIMITS };
    for body in [
        "let a = [1]; while true { a = a + a }",
        "let a = range(0, 1000000).reverse(); while true { a.push(1) }",
        "range(0, 1048577).map(x => x)",
        "range(0, 1048577).sort()",
        "(\"a,\".repeat(1048577)).split(\",\")",
        "let m = {}; for i in range(0, 2000000) { m[\"k\" + i] = i }",
        "let s = \"[\" + \"1,\".repeat(1048576) + \"1]\"; parse_json(s)",
        "parse_json(\"{\" + range(0, 262145).map(i => \"\\\"\" + i + \"\\\":1\").join(\",\") + \"}\")",
        "parse_csv(\"a\n\" + \"1\n\".repeat(1048577))",
        "ones(1048577)",
    ] {
        let (got, _) = run(&agent(body), vec![], limits, 1_000_000);
        let fits = ["an array", "a map"]
            .iter()
            .any(|what| got.starts_with(&format!("! LimitExceeded: {what} has at most")));
        assert!(fits, "{body}: {got}");
    }
}

#[test]
fn entries_take_their_arguments() {
    let source = "agent test(name: String, level: Option<int>) {
        on message(topic, payload) { return [topic, payload.x, name] }
        on start { return 1 }
        with { return [name, level.is_some, level] }
    }";
    let check = |entry, input: &[(&str, &str)], want: &str| {
        let input = input
            .iter()
            .map(|(name, json)| ((*name).to_owned(), from_json_text(json).expect("JSON")))
            .collect();
        let got = match Machine::start(code(source), entry, input, vec![], LIMITS) {
            Ok(mut machine) => show(drive(&mut machine, 100)),
            Err(error) => format!("! {error}"),
        };
        assert_eq!(got, want, "{entry:?}");
    };
    check(Entry::With, &[("name", "\"a\"")], r#"["a",false,null]"#);
    check(Entry::With, &[("level", "3"), ("name", "\"a\"")], r#"["a",true,3]"#);
    check(Entry::With, &[("level", "null"), ("name", "\"a\"")], r#"["a",false,null]"#);
    check(Entry::With, &[], "! KeyError: the run's input has no `name`, which the agent needs");
    check(Entry::OnStart, &[], "1");
    check(Entry::OnStop, &[], "null");
    let message = [("topic", "\"t\""), ("anything", "{\"x\":1}"), ("name", "\"n\"")];
    check(Entry::OnMessage, &message, r#"["t",1,"n"]"#);
}

#[test]
fn a_machine_says_where_it_stands() {
    let source = agent("let x = 1; describe(x); let y = [1].map(v => v / 0)");
    let mut machine =
        Machine::start(code(&source), Entry::With, vec![], vec![], LIMITS).expect("starts");
    let Step::Call(call) = machine.run(1_000) else { panic!("no call") };
    assert_eq!(&source[call.span], "describe(x)");
    // Without an answer nothing happens.
    assert_eq!(machine.run(1_000), Step::Yielded);
    machine.resume(Ok(Value::Null));
    assert!(matches!(machine.run(1_000), Step::Failed(_)));
    assert_eq!(&source[machine.span()], "v / 0");
    // An ended machine stays as it ended.
    machine.resume(Ok(Value::Null));
    assert!(matches!(machine.run(1_000), Step::Failed(_)));
    assert_eq!(machine.depth(), 0);
}

#[test]
fn who_else_holds_a_value_is_not_seen_in_the_steps() {
    let source = agent(
        "let x = echo([1, 2, 3]); let s = echo(\"0123456789abcdef\"); \
         for i in range(0, 100) { x.push(i); s += \"y\" } describe(x, s); x.push(1); s += \"z\"; x",
    );
    let run = |keep: bool| {
        let mut machine =
            Machine::start(code(&source), Entry::With, vec![], vec![], LIMITS).expect("starts");
        let mut kept = Vec::new();
        loop {
            match machine.run(50) {
                Step::Call(call) => {
                    let result = answer(&call);
                    if keep {
                        kept.push((call, result.clone()));
                    }
                    machine.resume(result);
                }
                Step::Yielded => {}
                end => return (end, machine.steps(), machine.memory()),
            }
        }
    };
    assert_eq!(run(true), run(false));
}

#[test]
fn a_run_is_no_slower_to_yield_than_its_fuel() {
    let source = agent("let a = range(0, 10000).reverse(); a.sort().length");
    let mut machine =
        Machine::start(code(&source), Entry::With, vec![], vec![], LIMITS).expect("starts");
    let mut turns = 0;
    while machine.run(10) == Step::Yielded {
        turns += 1;
    }
    // Each turn pays for ten steps, those of the long instructions included.
    assert!(turns + 1 >= machine.steps() / 10, "{turns} turns for {} steps", machine.steps());
    assert!(machine.steps() > 1_000);
}

/// However much there is of it, an instruction does not hold its host for long.
#[test]
fn long_work_yields_between_its_strides() {
    const FUEL: u64 = 1_000;
    let limits = Limits { memory: 256 << 20, steps: 1 << 32, ..LIMITS };
    let a = "let a = range(0, 100000).map(i => i); ";
    let m = "let m = {}; for i in range(0, 60000) { m[\"k\" + i] = i } ";
    for body in [
        format!("{a} to_json(a).length"),
        format!("{a} parse_json(to_json(a)).length"),
        format!("{a} parse_csv(a.join(\"\n\")).length"),
        format!("{a} let b = a; b.push(1); b.length"),
        format!("{a} let b = a + a; b.length"),
        format!("{a} let z = zip(a, a); let y = z; y.push(1); z.push(1); y == z"),
        format!("{a} zip(a, a) in [zip(a, a)]"),
        format!("{a} \"x\" in a"),
        format!("{a} describe(zip(a, a)).length; echo(zip(a, a)).length"),
        format!("{a} hash(a)"),
        format!("{a} a.reverse()"),
        format!("{m} let o = m; o.x = 1; o.merge(m); o.length"),
    ] {
        let mut machine = started(&agent(&body), vec![], limits).expect("it starts");
        let mut before = 0;
        loop {
            let step = machine.run(FUEL);
            let done = machine.steps() - before;
            assert!(done <= FUEL + 30_000, "{body} takes {done} steps in one go");
            before = machine.steps();
            match step {
                Step::Yielded => {}
                Step::Call(call) => machine.resume(answer(&call)),
                Step::Done(_) => break,
                Step::Failed(error) => panic!("{body}: {error}"),
            }
        }
        assert!(before > 100_000, "{body} takes {before} steps");
    }
}

/// The same of all that does much in one instruction. What copies or compares texts as they are does so
/// at once, and pays for all that it copies; a text is bounded.
#[test]
fn no_slice_does_more_than_its_fuel_and_a_stride() {
    const FUEL: u64 = 1_000;
    const WORK: &[(&str, &str)] = &include!("../../test_data/long_work.rs");
    const COPIES: [&str; 8] =
        ["repeat", " + ", "trim", "slice", " < ", "to_int", "format", "texts"];
    let limits = Limits { steps: u64::MAX, ..Limits::default() };
    let n = 100_000;
    let mut faults = Vec::new();
    for (name, body) in WORK {
        let source = format!("agent test(n: int) {{ with {{ {body} }} }}");
        let input = vec![("n".to_owned(), Value::Int(n))];
        let mut machine = started(&source, input, limits).expect("it starts");
        let (mut before, mut turns) = (0, 0);
        loop {
            let step = machine.run(FUEL);
            let (done, at) = (machine.steps() - before, &source[machine.span()]);
            let copies = COPIES.iter().any(|copies| at.contains(copies) || name.contains(copies));
            if done > FUEL + if copies { 400_000 } else { 30_000 } {
                faults.push(format!("{name}: {done} steps in one go at `{at}`"));
            }
            (before, turns) = (machine.steps(), turns + 1);
            match step {
                Step::Yielded => {}
                Step::Call(call) => {
                    machine.resume(Ok(call.args.into_iter().next().unwrap_or_default()));
                }
                Step::Done(Value::Int(_)) => break,
                end => panic!("{name}: {end:?}"),
            }
        }
        assert!(before > 2_000 && turns > 2, "{name}: {before} steps in {turns} turns");
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn deep_programs_do_not_overflow_the_stack() {
    let deep = |open: &str, middle: &str, close: &str, depth: usize| {
        agent(&format!("{}{middle}{}", open.repeat(depth), close.repeat(depth)))
    };
    for depth in [50, 120, 250, 1_000, 20_000] {
        for source in [
            deep("[", "1", "]", depth),
            deep("(", "1", ")", depth),
            deep("1 + ", "1", "", depth),
            deep("-", "1", "", depth),
            deep("if true { ", "1", " } else { 2 }", depth),
            deep("while true { ", "", " }", depth),
            deep("x => ", "1", "", depth),
            deep("match 1 { _ => { ", "", " } }", depth),
            deep("Some(", "1", ")", depth),
            deep("f(", "1", ")", depth),
            deep("a.b", ".c", "", depth),
            deep("try { ", "", " } catch (e) { }", depth),
        ] {
            let parsed = parse(&source);
            if parsed.diagnostics.iter().all(|d| d.severity != Severity::Error) {
                let _ = compile(&parsed.program, 0);
            }
        }
    }
}

#[test]
fn json_goes_both_ways() {
    for text in [
        "null",
        "true",
        "1",
        "-1",
        "1.0",
        "1e100",
        "\"\\u0001é\"",
        "[]",
        "{}",
        "{\"b\":[1,{}],\"a\":null}",
    ] {
        let value = from_json_text(text).expect("JSON");
        assert_eq!(to_json_text(&value, 1 << 20).as_deref(), Ok(text));
        let tree = symbiont_dsl::value::to_json(&value).expect("a tree");
        assert_eq!(symbiont_dsl::value::from_json(&tree), Ok(value));
    }
    let deep = format!("{}{}", "[".repeat(127), "]".repeat(127));
    assert!(from_json_text(&deep).is_ok());
    let deeper = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(from_json_text(&deeper).map_err(|error| error.kind), Err("ParseError".into()));
    assert!(to_json_text(&Value::Float(f64::NAN), 100).is_err());
    assert_eq!(
        to_json_text(&Value::from(Duration::from_secs(90)), 100).as_deref(),
        Ok("\"PT1M30S\"")
    );
}

#[test]
fn whatever_checks_also_compiles() {
    for (path, source) in super::programs("programs") {
        let program = parse(&source).program;
        for agent in 0..program.agents.len() {
            let compiled = compile(&program, agent);
            assert!(compiled.is_ok(), "{path:?}, agent {agent}: {:?}", compiled.err());
        }
    }
}

/// Of whatever the checker says that it will fail with `TypeError`, it does.
#[test]
fn what_is_told_of_calls_comes_true() {
    use symbiont_dsl::definition::check;
    use symbiont_dsl::docs::{self, Kind};
    const VALUES: [&str; 12] = [
        "1",
        "1.5",
        "\"a\"",
        "true",
        "[1]",
        "{ a: 1 }",
        "5s",
        "1KB",
        "now()",
        "[1].first()",
        "Ok(1)",
        "(x => x)",
    ];
    const GIVEN: [&str; 9] =
        ["", "1", "\"a\"", "[1]", "{ a: 1 }", "5s", "x => x", "1, 2", "\"a\", \"b\", 3"];
    let (mut told, mut calls, mut wrong) = (0, Vec::new(), Vec::new());
    for page in docs::all() {
        for given in GIVEN {
            match page.kind {
                Kind::Builtin => calls.push(format!("{}({given})", page.name)),
                Kind::Method => {
                    let on = |value| format!("({value}).{}({given})", page.name);
                    calls.extend(VALUES.map(on));
                }
                Kind::Call | Kind::Keyword => {}
            }
        }
    }
    for call in calls {
        let source = agent(&format!("return {call};"));
        if check(&source).diagnostics.iter().any(|found| found.code == "W0313") {
            told += 1;
            let mut machine =
                Machine::start(code(&source), Entry::With, Vec::new(), Vec::new(), LIMITS).unwrap();
            let outcome = loop {
                match machine.run(100_000) {
                    Step::Call(_) => machine.resume(Ok(Value::Time(1))),
                    Step::Done(value) => break format!("{value}"),
                    Step::Failed(error) => break error.kind.to_string(),
                    Step::Yielded => {}
                }
            };
            if outcome != "TypeError" {
                wrong.push(format!("{call} gives {outcome}"));
            }
        }
    }
    assert_eq!(wrong, [] as [String; 0]);
    assert!(told > 1000, "{told}");
}
