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
const LONG: [(&str, &str); 52] = [
    ("sort", "range(0, n).map(i => i * 7919 % 1000003).sort()[0]"),
    (
        "sort of long texts",
        "let s = \"a\".repeat(n / 13); let a = range(0, 100).map(i => s + i); a.sort().length",
    ),
    (
        "sort of equal texts",
        "let s = \"abcdefgh\".repeat(200); let a = range(0, 5000).map(i => s + i % 2); a.sort().length",
    ),
    (
        "least of long texts",
        "let s = \"a\".repeat(n / 13); let a = range(0, 100).map(i => s + i); min(a.map(t => t)).length",
    ),
    ("join", "range(0, n).map(i => i * 7919 % 1000003).join(\",\").split(\",\").length"),
    ("split", "\"a,\".repeat(n).split(\",\").length"),
    ("split at what is nowhere", "\"aaaaaaab\".repeat(2 * n).split(\"aaaaaaac\").length"),
    ("replace", "\"abcdefgh \".repeat(n).replace(\"abc\", \"x\").length"),
    ("replace all", "\"ab\".repeat(4 * n).replace(\"a\", \"\").length"),
    (
        "contains",
        "let s = \"aaaaaaab\".repeat(2 * n); if s.contains(\"aaaaaaaab\") { 1 } else { 0 }",
    ),
    (
        "contains much",
        "let s = \"ab\".repeat(8 * n); let p = \"ab\".repeat(n / 2) + \"b\"; if p in s { 1 } else { 0 }",
    ),
    (
        "regex",
        "let text = \"abcdefgh \".repeat(n / 10); if regex_match(text, \"[a-z]+z\") { 1 } else { 0 }",
    ),
    (
        "large regex",
        "let text = \"ab\".repeat(n / 2); if regex_match(text, \"(a|b)*a(a|b){200}c\") { 1 } else { 0 }",
    ),
    (
        "regex with words",
        "let text = \"ab é \".repeat(n / 48); if regex_match(text, \"\\\\b(a|b|é)+\\\\b\\\\wz\") { 1 } else { 0 }",
    ),
    ("lower", "\"ABCDÉ FGH\".repeat(n).lower().length"),
    ("upper", "\"éàèùßtuvw\".repeat(n).upper().length"),
    ("reverse of a text", "\"éàèùßtuvw\".repeat(n).reverse().length"),
    ("trim", "(\" \".repeat(15 * n) + \"x\").trim().length"),
    ("slice of a text", "\"éàèùßtuvw\".repeat(n).slice(10, 5 * n).length"),
    ("chars", "\"é\".repeat(n).chars.length"),
    ("lines", "\"a\n\".repeat(n).lines.length"),
    ("number of digits", "let s = \" \".repeat(15 * n) + \"1\"; s.to_int()"),
    ("repeat", "\"abcdefghijklmno\".repeat(n).length"),
    ("text and number", "let s = \"a\".repeat(15 * n); let b = s + 1; b.length"),
    (
        "less",
        "let s = \"a\".repeat(15 * n); let t = s + \"b\"; let u = s + \"a\"; if u < t { 1 } else { 0 }",
    ),
    ("hash", "hash(\"abcdefghijklmno\".repeat(n)).length"),
    ("base64", "base64(\"abcdefghij\".repeat(n)).length"),
    ("zip", "zip(range(0, n), range(0, n)).length"),
    (
        "equal arrays",
        "let a = range(0, n).reverse(); let b = a; b.push(1); if a == b { 1 } else { 0 }",
    ),
    (
        "equal nested arrays",
        "let a = zip(range(0, n), range(0, n)); let b = a; if a == b { 1 } else { 0 }",
    ),
    ("contains in an array", "let a = range(0, n).reverse(); if \"x\" in a { 1 } else { 0 }"),
    (
        "contains long texts",
        "let s = \"a\".repeat(8 * n); let t = s + \"b\"; let u = s + \"c\"; let a = range(0, 20).map(i => t); if u in a { 1 } else { 0 }",
    ),
    ("to_json of ints", "to_json(range(0, n).map(i => i)).length"),
    ("to_json of floats", "to_json(range(0, n * 2 / 3).map(i => i / 7.0)).length"),
    ("to_json of texts", "to_json(range(0, n / 4).map(i => \"text\" + i)).length"),
    ("to_json of a text", "let s = \"a\nb\".repeat(3 * n); to_json(s).length"),
    ("parse_json of numbers", "parse_json(to_json(range(0, n).map(i => i))).length"),
    (
        "parse_json of a map",
        "parse_json(\"{\" + range(0, n / 4).map(i => \"\\\"k\" + i + \"\\\":\" + i).join(\",\") + \"}\").length",
    ),
    ("parse_json of a text", "parse_json(\"\\\"\" + \"\\\\n\".repeat(8 * n) + \"\\\"\").length"),
    ("parse_json of empties", "parse_json(\"[\" + \"[],\".repeat(n - 1) + \"[]]\").length"),
    ("parse_csv", "parse_csv(\"a,b,c\n\" + \"1,2,3\n\".repeat(n / 4)).length"),
    (
        "merge",
        "let m = {}; for i in range(0, n / 8) { m[\"k\" + i] = i } let o = {}; for i in range(0, n / 8) { o[\"o\" + i] = i } m.merge(o); m.length",
    ),
    ("grow a map", "let m = {}; for i in range(0, n / 4) { m[\"k\" + i] = i } m.length"),
    ("copy an array", "let a = range(0, n).map(i => \"x\"); let b = a; b.push(1); b.length"),
    (
        "copy a map",
        "let m = {}; for i in range(0, n / 4) { m[\"k\" + i] = i } let o = m; o.x = 1; o.length",
    ),
    ("add arrays", "let a = range(0, n / 2).map(i => \"x\"); let b = a + a; b.length"),
    (
        "keys",
        "let m = {}; for i in range(0, n / 4) { m[\"k\" + i] = i } m.keys.length + m.values.length + m.entries.length",
    ),
    ("free arrays", "let a = zip(range(0, n), range(0, n)); a = 1; a"),
    (
        "free maps",
        "let m = range(0, n / 4).map(i => ({ a: i })); m = 1; let k = {}; for i in range(0, n / 4) { k[\"k\" + i] = i } k = 1; k",
    ),
    (
        "remove",
        "let a = range(0, n).map(i => \"x\"); a.remove(0); let m = {}; for i in range(0, n / 4) { m[\"k\" + i] = i } m.remove(\"k0\"); m.length",
    ),
    ("sum", "let a = range(0, n).reverse(); sum(a) + max(a) + min(a) + a.slice(1).length"),
    ("call of the host", "let a = zip(range(0, n), range(0, n)); let b = host(a); b.length"),
];

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
