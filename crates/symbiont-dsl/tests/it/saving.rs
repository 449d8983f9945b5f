//! Runs that are saved and restored: they go on as if nothing had been, and no bytes do harm.

use std::sync::Arc;

use proptest::prelude::*;
use symbiont_dsl::machine::{Code, Entry, Limits, Machine, RestoreError, Step, compile};
use symbiont_dsl::syntax::parse;
use symbiont_dsl::value::{ErrorValue, Secret, Value};

use super::machine::{answer, code};

const LIMITS: Limits = Limits { steps: 2_000_000, memory: 4 << 20, depth: 200, output: 1 << 20 };

/// Turned around, so that a test finds the text nowhere.
fn seal(secret: &Secret) -> Vec<u8> {
    secret.text.bytes().rev().collect()
}

fn open(_: &str, sealed: &[u8]) -> Option<Arc<str>> {
    String::from_utf8(sealed.iter().rev().copied().collect()).ok().map(Arc::from)
}

/// Puts what is restored from the machine's bytes in its place.
#[track_caller]
pub(crate) fn moved(machine: &mut Machine, code: &Arc<Code>, limits: Limits) {
    let bytes = machine.save(seal);
    let restored = Machine::restore(Arc::clone(code), &bytes, limits, open);
    let restored = restored.unwrap_or_else(|error| panic!("{error}: {machine:?}"));
    assert_eq!(restored.save(seal), bytes, "{machine:?}");
    assert_eq!(restored.steps(), machine.steps());
    assert_eq!(restored.memory(), machine.memory());
    assert_eq!(restored.depth(), machine.depth());
    assert_eq!(restored.span(), machine.span());
    *machine = restored;
}

/// Runs to the end with the honest host, moved at every stop, and before every answer is taken.
pub(crate) fn drive(
    machine: &mut Machine,
    code: &Arc<Code>,
    fuel: u64,
    limits: Limits,
) -> Result<Value, ErrorValue> {
    loop {
        let step = machine.run(fuel);
        moved(machine, code, limits);
        match step {
            Step::Call(call) => {
                machine.resume(answer(&call));
                moved(machine, code, limits);
            }
            Step::Done(value) => return Ok(value),
            Step::Failed(error) => return Err(error),
            Step::Yielded => {}
        }
    }
}

fn start(code: &Arc<Code>) -> Machine {
    Machine::start(Arc::clone(code), Entry::With, vec![], vec![], LIMITS).expect("it starts")
}

/// The run that waits for its first host call.
fn waiting(code: &Arc<Code>) -> Machine {
    let mut machine = start(code);
    loop {
        match machine.run(1_000) {
            Step::Call(_) => return machine,
            Step::Yielded => {}
            end => panic!("it ended before a call: {end:?}"),
        }
    }
}

/// Deep inside: a loop in a function in a closure in a method in a `try`, with much that is shared.
const NESTED: &str = "
    function slow(x, d) {
        let total = 0;
        for i in [1, 2, 3] { for c in \"ab\" { try { total += x * i; echo(d) } catch (KeyError e) { } } }
        return total
    }
    agent t { with {
        let row = { a: 1, b: [1, 2.5, 30s, 1KB, None, Some(true), Ok(null), Err(\"x\"), error(\"e\")] };
        let grid = [row, row, [row]];
        let key = vault://a/b;
        let head = format(\"Bearer {}\", key);
        let text = \"\";
        for i in range(0, 5) { text += \"x\" }
        let twice = [text, text, row.keys(), row.keys(), range(3, 9), time(), bytes(), head];
        let f = n => n + row.a;
        try {
            let all = [3, 4].map(x => { grid.push(x); slow(f(x), grid) });
            grid[0].a = all[1];
            return [all, grid, twice, key, text + \"y\"]
        } catch (TypeError e) { return e.message }
    } }";

#[test]
fn a_run_moves_from_anywhere() {
    let code = code(NESTED);
    let mut whole = start(&code);
    let want = loop {
        match whole.run(u64::MAX) {
            Step::Call(call) => whole.resume(answer(&call)),
            Step::Done(value) => break value,
            other => panic!("{other:?}"),
        }
    };
    for fuel in [1, 2, 3, 5, 50] {
        let mut machine = start(&code);
        assert_eq!(drive(&mut machine, &code, fuel, LIMITS), Ok(want.clone()), "{fuel}");
        assert_eq!(machine.steps(), whole.steps(), "{fuel}");
    }
}

#[test]
fn the_programs_move_at_every_call() {
    let mut moves = 0;
    for (path, source) in super::programs("programs") {
        let program = parse(&source).program;
        for agent in 0..program.agents.len() {
            let code = Arc::new(compile(&program, agent).expect("it compiles"));
            for entry in [Entry::With, Entry::OnStart, Entry::OnStop, Entry::OnMessage] {
                let input: Vec<(String, Value)> = (program.agents[agent].params.iter())
                    .map(|param| (param.name.node.clone(), Value::from("text")))
                    .collect();
                let begin =
                    || Machine::start(Arc::clone(&code), entry, input.clone(), vec![], LIMITS);
                let (Ok(mut whole), Ok(mut machine)) = (begin(), begin()) else { continue };
                loop {
                    let (step, other) = (whole.run(50), machine.run(50));
                    moved(&mut machine, &code, LIMITS);
                    moves += 1;
                    assert_eq!(step, other, "{path:?}");
                    assert_eq!(whole.memory(), machine.memory(), "{path:?}");
                    match step {
                        Step::Call(call) => {
                            // What nobody knows is a record in which much is found.
                            let answer = answer(&call).or_else(|error| match &*call.name {
                                "sleep" => Err(error),
                                _ => Ok(Value::map([("stdout", Value::from("a\nb"))])),
                            });
                            whole.resume(answer.clone());
                            machine.resume(answer);
                        }
                        Step::Yielded if whole.steps() < 20_000 => {}
                        Step::Yielded | Step::Done(_) | Step::Failed(_) => break,
                    }
                }
            }
        }
    }
    assert!(moves > 50, "only {moves} moves");
}

#[test]
fn a_small_state_that_stands_for_an_enormous_tree_stays_small() {
    let code = code(
        "agent t { with { let x = [1]; for i in range(0, 100) { x = [x, x, Some(x)] } \
         tool(); return x == x } }",
    );
    let machine = {
        let mut machine = start(&code);
        while !matches!(machine.run(10), Step::Call(_) | Step::Failed(_)) {}
        machine
    };
    let bytes = machine.save(seal);
    assert!(bytes.len() < 4_000, "{} bytes", bytes.len());
    assert!(Machine::restore(code, &bytes, LIMITS, open).is_ok());
}

#[test]
fn a_secret_is_written_as_its_host_seals_it() {
    let code =
        code("agent t { with { let s = vault://a/b; let h = format(\"B {}\", s); tool(h) } }");
    let mut machine = waiting(&code);
    machine.resume(Ok(Value::Secret(Arc::new(Secret {
        path: Arc::from("a/b"),
        text: Arc::from("hunter2"),
    }))));
    assert!(matches!(machine.run(1_000), Step::Call(_)));
    let holds = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|w| w == text.as_bytes());
    let bytes = machine.save(seal);
    assert!(!holds(&bytes, "hunter2") && holds(&bytes, "2retnuh") && holds(&bytes, "a/b"));
    let restored = Machine::restore(code.clone(), &bytes, LIMITS, open).expect("it opens");
    assert_eq!(restored.save(|secret| secret.text.as_bytes().to_vec()).len(), bytes.len());

    // A host that writes nothing of them is asked for them by path.
    let bytes = machine.save(|_| Vec::new());
    assert!(!holds(&bytes, "hunter2") && !holds(&bytes, "2retnuh"));
    let closed = Machine::restore(code, &bytes, LIMITS, |_, _| None);
    assert_eq!(closed.err(), Some(RestoreError::Secret { path: Arc::from("a/b") }));
}

#[test]
fn bytes_belong_to_their_code_and_limits() {
    let ours = code("agent t { with { let n = 1; tool(n) } }");
    let other = code("agent t { with { let n = 2; tool(n) } }");
    let same = code("agent t { with { let n = 1; tool(n) } }");
    assert_eq!(ours.digest(), same.digest());
    assert_ne!(ours.digest(), other.digest());
    let bytes = waiting(&ours).save(seal);
    let restored = |code: &Arc<Code>, bytes: &[u8], limits| {
        Machine::restore(Arc::clone(code), bytes, limits, open).map(|_| ())
    };
    assert_eq!(restored(&same, &bytes, LIMITS), Ok(()));
    assert_eq!(restored(&other, &bytes, LIMITS), Err(RestoreError::OtherCode));
    assert_eq!(restored(&ours, b"anything", LIMITS), Err(RestoreError::OtherVersion));
    let limits = Limits { steps: 1, ..LIMITS };
    assert!(matches!(restored(&ours, &bytes, limits), Err(RestoreError::BeyondLimits { .. })));
    let limits = Limits { depth: 0, ..LIMITS };
    assert!(matches!(restored(&ours, &bytes, limits), Err(RestoreError::BeyondLimits { .. })));
    for end in 0..bytes.len() {
        assert!(restored(&ours, &bytes[..end], LIMITS).is_err(), "{end} bytes");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_do_harm(
        fuel in 1_u64..400,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4), 1..4),
    ) {
        let code = code(NESTED);
        let mut machine = start(&code);
        for _ in 0..3 {
            if let Step::Call(call) = machine.run(fuel) {
                machine.resume(answer(&call));
            }
        }
        let mut bytes = machine.save(seal);
        let head = 40;
        for (at, byte, how) in changes {
            let at = head + at.index(bytes.len() - head);
            match how {
                0 => bytes[at] = byte,
                1 => bytes[at] ^= 1 << (byte % 8),
                2 => bytes.insert(at, byte % 24),
                _ => drop(bytes.remove(at)),
            }
        }
        if let Ok(mut machine) = Machine::restore(code.clone(), &bytes, LIMITS, open) {
            machine.memory();
            machine.span();
            let _ = Machine::restore(code, &machine.save(seal), LIMITS, open).expect("it is sound");
            let (mut calls, mut turns) = (0, 0);
            loop {
                match machine.run(20_000) {
                    Step::Call(call) if calls < 100 => machine.resume(answer(&call)),
                    // One that waits for an answer to a call that was never made.
                    Step::Yielded if turns < 200 => machine.resume(Ok(Value::Null)),
                    _ => break,
                }
                (calls, turns) = (calls + 1, turns + 1);
            }
        }
    }
}
