//! Programs that grow by inputs.

use symbiont_dsl::machine::{Limits, Machine, Session, Step};
use symbiont_dsl::value::{ErrorValue, Value};

use super::machine::answer;

const LIMITS: Limits = Limits { steps: 2_000_000, memory: 4 << 20, depth: 200, output: 1 << 20 };

fn drive(machine: &mut Machine) -> Result<Value, ErrorValue> {
    loop {
        match machine.run(7) {
            Step::Call(call) => machine.resume(answer(&call)),
            Step::Done(value) => return Ok(value),
            Step::Failed(error) => return Err(error),
            Step::Yielded => {}
        }
    }
}

/// What the inputs give one after the other: a value, `! Kind: message`, or what was found.
#[track_caller]
fn check(inputs: &[(&str, &str)]) {
    let mut session = Session::new(LIMITS);
    for (input, want) in inputs {
        let got = match session.enter(input) {
            Ok(mut machine) => {
                let _ = drive(&mut machine);
                match session.finish(machine) {
                    Ok(value) => value.to_string(),
                    Err(error) => format!("! {error}"),
                }
            }
            Err(found) => {
                assert!(found.iter().all(|found| found.span.end <= input.len()), "{found:?}");
                format!("{} at {:?}", found[0].code, &input[found[0].span.clone()])
            }
        };
        assert!(
            got == *want || (want.starts_with('!') && got.starts_with(want)),
            "{input}\n  gives {got}\n  not   {want}"
        );
    }
}

/// What lacks at the end is told of what was entered, and of nothing around it.
#[test]
fn the_end_of_an_input_is_its_own() {
    for (input, want, place) in [
        ("sleep(", "`(` is not closed: expected `)`, found the end of the text", "("),
        ("let x = [1, { a: 2", "`{` is not closed: expected `}`, found the end of the text", "{"),
        ("if true {", "`{` is not closed: expected `}`, found the end of the text", "{"),
        ("function f(a) {", "`{` is not closed: expected `}`, found the end of the text", "{"),
        ("\"abc", "the text is not closed", "\""),
        ("1 /* two", "the comment is not closed", "/*"),
        ("1 +", "expected an expression, found the end of the text", ""),
        ("let x =", "expected an expression, found the end of the text", ""),
    ] {
        let found = Session::new(LIMITS).enter(input).expect_err(input);
        let told: Vec<_> =
            found.iter().map(|one| (one.message.as_str(), &input[one.span.clone()])).collect();
        assert_eq!(told, [(want, place)], "{input}");
    }
}

#[test]
fn variables_last() {
    check(&[
        ("let x = 1", "null"),
        ("x + 1", "2"),
        ("x += 5", "null"),
        ("y = [x]", "null"),
        ("y.push(x); y", "[6,6]"),
        ("let x = \"other\"; x", "other"),
        ("x", "other"),
        ("if true { let inner = 1; z = 2 }", "null"),
        ("z", "2"),
        ("for i in y { z += i } z", "14"),
        ("return z", "14"),
        ("", "null"),
        ("echo(z)", "14"),
        ("range(0, 10000).map(i => i).sort()[9999]", "9999"),
    ]);
}

#[test]
fn written_types_last_as_long_as_their_variables() {
    check(&[
        ("let x: float = 7", "null"),
        ("x = 9; x / 2", "4.5"),
        ("type P = { price: float }", "null"),
        ("let p: P = { price: 1 }", "null"),
        ("p.price = 3", "null"),
        ("p.price / 2", "1.5"),
        ("let x = 7", "null"),
        ("x / 2", "3"),
    ]);
}

#[test]
fn functions_and_closures_last() {
    check(&[
        ("function double(n) { n * 2 }", "null"),
        ("double(4)", "8"),
        ("let old = double", "null"),
        ("let add = a => b => a + double(b)", "null"),
        ("let three = add(3)", "null"),
        ("function four() { double(2) }", "null"),
        ("four()", "4"),
        ("function double(n) { n * 3 }", "null"),
        ("[double(4), four(), old(4), three(1)]", "[12,6,8,5]"),
        ("[1, 2].map(three).map(double)", "[15,21]"),
        (
            "function even(n) { if n == 0 { true } else { odd(n - 1) } }\nfunction odd(n) { if n == 0 { false } else { even(n - 1) } }",
            "null",
        ),
        ("[even(10), odd(10)]", "[true,false]"),
        ("type Point = { x: int }", "null"),
        ("Point { x: 1 }.x", "1"),
        ("memory notes { }", "null"),
        ("notes.get(\"k\")", "memory.get(k; store=notes)"),
        ("let memory = 5; memory", "5"),
    ]);
}

#[test]
fn what_fails_changes_little_and_what_is_wrong_nothing() {
    check(&[
        ("let a = 1", "null"),
        ("a = 2; let b = 3; a = 1 / 0", "! ArithmeticError"),
        ("a", "2"),
        ("b", "E0201 at \"b\""),
        ("a = 7; nothing + 1", "E0201 at \"nothing\""),
        ("a", "2"),
        ("1 +", "E0101 at \"\""),
        ("1 } } agent other { with { 2", "E0103 at \"{\""),
        ("agent x { }", "E0101 at \"agent x { }\""),
        ("function f() { g", "E0103 at \"{\""),
        ("f()", "! ToolNotFound"),
        ("while true { }", "! LimitExceeded"),
        ("a", "2"),
        ("return Err(\"no\")", "! Error: no"),
        ("let f = x => x; f", "! TypeError"),
    ]);
}

#[test]
fn places_are_those_of_the_session() {
    let mut session = Session::new(LIMITS);
    for input in ["let x = 0", "function f(n) { 1 / n }", "function g(n) { 2; f(n) }"] {
        let mut machine = session.enter(input).expect("it is right");
        drive(&mut machine).expect("it runs");
        session.finish(machine).expect("it ran");
    }
    let mut machine = session.enter("x; g(x)").expect("it is right");
    drive(&mut machine).expect_err("a division by zero");
    assert_eq!(&session.source()[machine.span()], "1 / n");
    let mut machine = session.enter("x / x").expect("it is right");
    drive(&mut machine).expect_err("a division by zero");
    assert_eq!(&session.source()[machine.span()], "x / x");
}

#[test]
fn a_run_that_is_not_the_last_gives_nothing_back() {
    let mut session = Session::new(LIMITS);
    let first = session.enter("let x = 1").expect("it is right");
    let second = session.enter("let y = 1").expect("it is right");
    assert!(session.finish(first).is_err());
    assert_eq!(session.finish(second).expect_err("it was not run").kind, "Cancelled".into());
    assert!(session.variables().is_empty());
}
