//! What holds for any input, target by target.
//!
//! An input is program text; bytes that are no text are replaced. What an evaluator's host answers
//! stands after a null byte, a line for each argument and then for each call: JSON, or `!` and the
//! kind of an error. When the lines are used up, all further answers are `null`. Damages to a saved
//! run stand after a second null byte, three bytes each: two say where, one what is put there.

use std::sync::Arc;

use symbiont_dsl::definition::{ParamInfo, check, classify};
use symbiont_dsl::diagnostic::{Diagnostic, Severity, render};
use symbiont_dsl::format::{edits, format};
use symbiont_dsl::machine::{Code, Entry, Limits, Machine, RestoreError, Step, compile};
use symbiont_dsl::syntax::{parse, tree};
use symbiont_dsl::value::{ErrorValue, Value, from_json_text};

/// Every byte is in one token, in order.
pub fn lexer(input: &[u8]) {
    let source = String::from_utf8_lossy(input);
    let mut at = 0;
    for token in tree(&source).descendants_with_tokens().filter_map(|part| part.into_token()) {
        assert_eq!(usize::from(token.text_range().start()), at);
        assert_eq!(source.get(at..at + token.text().len()), Some(token.text()));
        at += token.text().len();
    }
    assert_eq!(at, source.len());
    classify(&source);
}

/// Every source gives a program and diagnostics that can be shown, the same each time.
pub fn parser(input: &[u8]) {
    let source = String::from_utf8_lossy(input);
    let parsed = parse(&source);
    shown(&parsed.diagnostics, &source);
    if !has_errors(&parsed.diagnostics) {
        assert!(!format!("{:?}", parsed.program).contains("Missing"));
    }
    let again = parse(&source);
    // Not compared as programs: a NaN is not equal to itself.
    assert_eq!(format!("{:?}", again.program), format!("{:?}", parsed.program));
    assert_eq!(again.diagnostics, parsed.diagnostics);
}

/// What checks clean compiles, each agent of it.
pub fn checker(input: &[u8]) {
    let source = String::from_utf8_lossy(input);
    let checked = check(&source);
    shown(&checked.diagnostics, &source);
    assert_eq!(checked.program.is_none(), has_errors(&checked.diagnostics));
    if let Some(program) = checked.program {
        assert_eq!(program.agents.len(), program.hir.agents.len());
        for number in 0..program.agents.len() {
            compile(&program.hir, number).expect("what checks compiles");
        }
    }
}

/// The one form of a program is the same program, and its own one form; the edits give it too.
pub fn formatter(input: &[u8]) {
    let source = String::from_utf8_lossy(input);
    let once = match format(&source) {
        Ok(once) => once,
        Err(errors) => {
            assert!(has_errors(&errors));
            return shown(&errors, &source);
        }
    };
    assert_eq!(meaning(&once), meaning(&source), "another program:\n{once}");
    assert_eq!(format(&once).as_deref(), Ok(once.as_str()), "not settled");
    let mut edited = source.to_string();
    for (span, text) in edits(&source).expect("it was formatted").into_iter().rev() {
        edited.replace_range(span, &text);
    }
    assert_eq!(edited, once, "the edits give something else");
}

/// A run ends within its limits, and is the same run however it is sliced.
pub fn evaluator(input: &[u8]) {
    each_run(input, |run, _| {
        let whole = run.end(u64::MAX, |machine| machine);
        for fuel in [1, 13] {
            assert_eq!(run.end(fuel, |machine| machine), whole, "sliced, it is another run");
        }
    });
}

/// A run that is saved and restored at every stop is the same run; a saved run that was damaged is
/// refused, or is a run that ends within its limits.
pub fn restore(input: &[u8]) {
    each_run(input, |run, damages| {
        let whole = run.end(u64::MAX, |machine| machine);
        let mut saved = Vec::new();
        let restored = run.end(97, |machine| {
            saved = save(&machine);
            let restored = self::restored(&run.code, &saved).expect("it was saved");
            assert!(save(&restored) == saved, "saved again, it is another run");
            restored
        });
        assert_eq!(restored, whole, "restored, it is another run");
        for damage in damages.chunks_exact(3) {
            let at = usize::from(u16::from_le_bytes([damage[0], damage[1]]));
            if let Some(byte) = saved.get_mut(at) {
                *byte = damage[2];
            }
        }
        if let Ok(mut machine) = self::restored(&run.code, &saved) {
            // It may be one that waits for an answer.
            machine.resume(Ok(Value::Null));
            finish(machine, run.answers(), 97, |machine| machine);
        }
    });
}

fn save(machine: &Machine) -> Vec<u8> {
    machine.save(|secret| secret.text.as_bytes().to_vec())
}

fn restored(code: &Arc<Code>, bytes: &[u8]) -> Result<Machine, RestoreError> {
    let open = |_: &str, sealed: &[u8]| Some(Arc::from(String::from_utf8_lossy(sealed)));
    Machine::restore(Arc::clone(code), bytes, LIMITS, open)
}

const LIMITS: Limits = Limits { steps: 20_000, memory: 1 << 20, depth: 30, output: 1 << 16 };

/// One entry of one agent, with what its host answers.
struct Run<'a> {
    code: Arc<Code>,
    entry: Entry,
    params: &'a [ParamInfo],
    answers: &'a str,
}

/// Tries every entry of the first agents, with the damages that the input names.
fn each_run(input: &[u8], mut property: impl FnMut(&Run<'_>, &[u8])) {
    let mut parts = input.splitn(3, |byte| *byte == 0);
    let mut next = || parts.next().unwrap_or_default();
    let (source, answers, damages) = (next(), next(), next());
    let Some(program) = check(&String::from_utf8_lossy(source)).program else { return };
    let answers = &String::from_utf8_lossy(answers);
    for (number, agent) in program.agents.iter().enumerate().take(4) {
        let code = Arc::new(compile(&program.hir, number).expect("what checks compiles"));
        for entry in [Entry::With, Entry::OnStart, Entry::OnStop, Entry::OnMessage] {
            property(
                &Run { code: Arc::clone(&code), entry, params: &agent.params, answers },
                damages,
            );
        }
    }
}

impl Run<'_> {
    /// How the run ends, what it asks for on the way, and how many steps it takes. Whenever it
    /// stops, `between` gives the machine that goes on.
    fn end(&self, fuel: u64, between: impl FnMut(Machine) -> Machine) -> String {
        let mut answers = self.answers();
        let arguments = self.params.iter().map(|param| {
            (param.name.clone(), answers.next().and_then(Result::ok).unwrap_or_default())
        });
        let arguments = arguments.collect();
        let code = Arc::clone(&self.code);
        match Machine::start(code, self.entry, arguments, Vec::new(), LIMITS) {
            Ok(machine) => finish(machine, answers, fuel, between),
            Err(error) => format!("{error:?}"),
        }
    }

    /// The answers to all that is asked for, without end.
    fn answers(&self) -> impl Iterator<Item = Result<Value, ErrorValue>> {
        self.answers.lines().map(answer).chain(std::iter::repeat(Ok(Value::Null)))
    }
}

fn finish(
    mut machine: Machine,
    mut answers: impl Iterator<Item = Result<Value, ErrorValue>>,
    fuel: u64,
    mut between: impl FnMut(Machine) -> Machine,
) -> String {
    let mut said = String::new();
    loop {
        let step = machine.run(fuel);
        assert!(machine.steps() <= LIMITS.steps);
        match step {
            Step::Yielded => machine = between(machine),
            Step::Call(call) => {
                assert!(machine.memory() <= LIMITS.memory);
                said.push_str(&format!("{} {:?}\n", call.name, call.args));
                machine = between(machine);
                machine.resume(answers.next().unwrap_or(Ok(Value::Null)));
            }
            Step::Done(_) | Step::Failed(_) => {
                return format!("{said}{step:?} after {} steps", machine.steps());
            }
        }
    }
}

fn answer(line: &str) -> Result<Value, ErrorValue> {
    match line.strip_prefix('!') {
        Some(kind) => Err(ErrorValue::new(kind, "as the input says")),
        None => Ok(from_json_text(line).unwrap_or_default()),
    }
}

/// The program without the places of its parts.
fn meaning(source: &str) -> String {
    let shown = format!("{:?}", parse(source).program);
    let mut pieces = shown.split("span: ");
    let mut meaning = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        meaning.push_str(piece.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.'));
    }
    meaning
}

fn has_errors(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|found| found.severity == Severity::Error)
}

/// Each has a place in the source, and can be shown.
fn shown(diagnostics: &[Diagnostic], source: &str) {
    for found in diagnostics {
        assert!(source.get(found.span.clone()).is_some(), "{found:?}");
        if let Some(fix) = &found.fix {
            assert!(source.get(fix.span.clone()).is_some(), "{found:?}");
        }
    }
    assert_eq!(render(diagnostics, source, "input", false).is_empty(), diagnostics.is_empty());
}
