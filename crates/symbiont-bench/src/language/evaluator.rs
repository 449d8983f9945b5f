//! The evaluator beside that of the `rhai` crate: the same programs, the same results.
//!
//! Ours runs as in a runtime: metered, and in slices of fuel. Rhai has its limits off, its optimizer
//! at its fullest and its `sync` feature off, and both have compiled the program before.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, ensure};
use symbiont_dsl::machine::{Code, Entry, Limits, Machine, Step, compile};
use symbiont_dsl::syntax::parse;
use symbiont_dsl::value::Value;

use crate::table::{Peer, Rows};
use crate::{Scale, median_micros, millis, rounds};

/// Steps between two looks of the runtime at what else there is to do.
const SLICE: u64 = 20_000;

/// A program in both languages, which gives an integer, and how large its work is.
struct Program {
    name: &'static str,
    ours: &'static str,
    rhai: &'static str,
    full: usize,
    quick: usize,
}

const PROGRAMS: [Program; 5] = [
    Program {
        name: "evaluate loops",
        ours: "let sum = 0;
            for i in range(0, n) { for j in range(0, 1000) { sum += i * j % 7 } }
            sum",
        rhai: "let sum = 0;
            for i in 0..n { for j in 0..1000 { sum += i * j % 7; } }
            sum",
        full: 2_000,
        quick: 10,
    },
    Program {
        name: "evaluate recursion",
        ours: "fib(n)",
        rhai: "fn fib(n) { if n < 2 { n } else { fib(n - 1) + fib(n - 2) } } fib(n)",
        full: 27,
        quick: 10,
    },
    Program {
        name: "evaluate strings",
        ours: "let text = \"\";
            for i in range(0, n) { text += \"item \" + i + \",\" }
            let parts = text.replace(\"item\", \"thing\").split(\",\");
            let sevens = 0;
            for part in parts { if part.ends_with(\"7\") { sevens += 1 } }
            text.length + parts.length + sevens",
        rhai: "let text = \"\";
            for i in 0..n { text += \"item \" + i + \",\"; }
            let changed = text;
            changed.replace(\"item\", \"thing\");
            let parts = changed.split(\",\");
            let sevens = 0;
            for part in parts { if part.ends_with(\"7\") { sevens += 1; } }
            text.len() + parts.len() + sevens",
        full: 100_000,
        quick: 100,
    },
    Program {
        name: "evaluate maps",
        ours: "let counts = {};
            for i in range(0, n) {
                let word = \"word\" + i * i % 1009;
                if word in counts { counts[word] += 1 } else { counts[word] = 1 }
            }
            let sum = 0;
            for word in counts.keys() { if counts[word] > 1 { sum += counts[word] } }
            sum * 10000 + counts.length",
        rhai: "let counts = #{};
            for i in 0..n {
                let word = \"word\" + i * i % 1009;
                if word in counts { counts[word] += 1; } else { counts[word] = 1; }
            }
            let sum = 0;
            for word in counts.keys() { if counts[word] > 1 { sum += counts[word]; } }
            sum * 10000 + counts.len()",
        full: 200_000,
        quick: 100,
    },
    Program {
        name: "evaluate closures",
        ours: "let items = [];
            for i in range(0, n) { items.push(i) }
            items.map(x => x * 3).filter(x => x % 2 == 0).reduce((sum, x) => sum + x, 0)",
        rhai: "let items = [];
            for i in 0..n { items.push(i); }
            items.map(|x| x * 3).filter(|x| x % 2 == 0).reduce(|sum, x| sum + x, 0)",
        full: 100_000,
        quick: 100,
    },
];

/// What does much in one instruction, at the sizes that the limits admit, to see how long a host
/// may have to wait for a run to yield.
const LONG: &[(&str, &str)] = &include!("../../../symbiont-dsl/test_data/long_work.rs");

pub(super) async fn measure(scale: Scale, rows: &mut Rows<'_>) {
    for program in &PROGRAMS {
        let n = scale.of(program.full, program.quick);
        let outcome = compared(program, n, scale.rounds()).await;
        rows.add(program.name, "ms", format!("n = {n}"), outcome);
    }
    let count = scale.of(10_000, 100);
    rows.add("run of a trivial program", "us", format!("{count} runs"), trivial(count));
    let n = scale.of(1_000_000, 1_000);
    match longest(n) {
        Ok((ms, name)) => {
            let n = format!("n = {n}, the worst is: {name}");
            rows.add("longest time to yield", "ms", n, Ok((ms, None)));
        }
        Err(error) => rows.add("longest time to yield", "ms", format!("n = {n}"), Err(error)),
    }
}

/// Milliseconds that both take, which have to give the same.
async fn compared(program: &Program, n: usize, times: usize) -> Result<(f64, Option<Peer>)> {
    let size = i64::try_from(n)?;
    let code = compiled(program.ours)?;
    let (engine, ast) = theirs(program.rhai)?;
    let want = evaluated(&engine, &ast, size)?;
    let value = rounds(times, async || {
        let mut machine = started(&code, size)?;
        let began = Instant::now();
        let got = finished(&mut machine)?;
        let took = began.elapsed();
        ensure!(got == want, "{} gives {got:?} here and {want:?} in rhai", program.name);
        Ok(millis(took))
    })
    .await?;
    let peer = rounds(times, async || {
        let began = Instant::now();
        let got = evaluated(&engine, &ast, size)?;
        let took = began.elapsed();
        ensure!(got == want, "rhai gives {got:?} and {want:?}");
        Ok(millis(took))
    })
    .await?;
    Ok((value, Some(Peer::new("rhai", peer))))
}

/// Microseconds from the beginning to the end of a run that does next to nothing.
fn trivial(count: usize) -> Result<(f64, Option<Peer>)> {
    let code = compiled("n + 1")?;
    let (engine, ast) = theirs("n + 1")?;
    let value = median_micros(count, || {
        let got = finished(&mut started(&code, 1)?)?;
        ensure!(got == Value::Int(2), "a trivial program gives {got:?}");
        Ok(())
    })?;
    let peer = median_micros(count, || {
        let got = evaluated(&engine, &ast, 1)?;
        ensure!(got == Value::Int(2), "rhai gives {got:?}");
        Ok(())
    })?;
    Ok((value, Some(Peer::new("rhai", peer))))
}

/// The longest that a slice took, in milliseconds of the processor, and what took it. A host call is
/// answered with its first argument.
fn longest(n: usize) -> Result<(f64, &'static str)> {
    let mut longest = (0.0, "nothing");
    for (name, body) in LONG {
        let mut machine = started(&compiled(body)?, i64::try_from(n)?)?;
        loop {
            let began = processor_time();
            let step = machine.run(SLICE);
            let took = processor_time() - began;
            if took > longest.0 {
                longest = (took, name);
            }
            match step {
                Step::Yielded => {}
                Step::Call(call) => {
                    machine.resume(Ok(call.args.into_iter().next().unwrap_or_default()));
                }
                Step::Done(Value::Int(_)) => break,
                other => return Err(anyhow!("`{body}` ended with {other:?}")),
            }
        }
    }
    Ok(longest)
}

/// Milliseconds that this thread has had of the processor.
#[expect(clippy::cast_precision_loss, reason = "no thread runs for 2^52 nanoseconds here")]
fn processor_time() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

fn compiled(body: &str) -> Result<Arc<Code>> {
    let source = format!(
        "function fib(n) {{ if n < 2 {{ n }} else {{ fib(n - 1) + fib(n - 2) }} }}
         agent bench(n: int) {{ with {{ {body} }} }}"
    );
    let parsed = parse(&source);
    ensure!(parsed.diagnostics.is_empty(), "{source}: {:?}", parsed.diagnostics);
    Ok(Arc::new(compile(&parsed.program, 0)?))
}

fn started(code: &Arc<Code>, n: i64) -> Result<Machine> {
    let limits = Limits { steps: u64::MAX, ..Limits::default() };
    let input = vec![("n".to_owned(), Value::Int(n))];
    Machine::start(Arc::clone(code), Entry::With, input, Vec::new(), limits)
        .map_err(|error| anyhow!("{error}"))
}

/// Runs to the end without a host.
fn finished(machine: &mut Machine) -> Result<Value> {
    loop {
        match machine.run(SLICE) {
            Step::Yielded => {}
            Step::Done(value) => return Ok(value),
            other => return Err(anyhow!("the program ended with {other:?}")),
        }
    }
}

fn theirs(source: &str) -> Result<(rhai::Engine, rhai::AST)> {
    let mut engine = rhai::Engine::new();
    engine.set_optimization_level(rhai::OptimizationLevel::Full);
    // Without optimization it allows so few calls within calls that it could not take part.
    engine.set_max_call_levels(64);
    let ast = engine.compile(source).context("rhai does not compile it")?;
    Ok((engine, ast))
}

fn evaluated(engine: &rhai::Engine, ast: &rhai::AST, n: i64) -> Result<Value> {
    let mut scope = rhai::Scope::new();
    scope.push("n", n);
    let value: i64 =
        engine.eval_ast_with_scope(&mut scope, ast).map_err(|error| anyhow!("rhai: {error}"))?;
    Ok(Value::Int(value))
}
