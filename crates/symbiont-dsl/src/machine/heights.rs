//! What is on the stack at each instruction.
//!
//! A function's code alone decides how many values stand above its slots before each of its
//! instructions, and which `try` blocks are open there. So a saved run need not say so, and one
//! that was tampered with cannot lie about it.

use super::code::{Code, Function, Op};

/// What stands above a function's slots, and the `try` that is innermost, by its instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stand {
    pub(super) height: u32,
    pub(super) attempt: Option<u32>,
}

/// The stand before each instruction; `None` where no way leads.
pub(super) type Stands = Vec<Option<Stand>>;

/// What an instruction does to the stack.
struct Effect {
    pops: usize,
    pushes: u32,
    /// Where it may jump to, and what it pushes then.
    jump: Option<(u32, u32)>,
    /// Whether it may go on to the next one.
    falls: bool,
}

fn effect(code: &Code, op: Op) -> Effect {
    let plain = |pops, pushes| Effect { pops, pushes, jump: None, falls: true };
    let branch = |pops, pushes, target, then| Effect {
        pops,
        pushes,
        jump: Some((target, then)),
        falls: true,
    };
    let indexes = |place: u32| usize::from(code.places[place as usize].indexes);
    let arguments = |site: u32| code.sites[site as usize].arguments();
    match op {
        Op::Work(_) | Op::Const(_) | Op::Int(_) | Op::Null | Op::Bool(_) | Op::None | Op::Any => {
            plain(0, 1)
        }
        Op::Load(_) | Op::Ambient(_) | Op::IndexLocals(..) => plain(0, 1),
        Op::BinaryLocals(..) | Op::BinaryLocalInt(..) => plain(0, 1),
        Op::Pop(count) => plain(count as usize, 0),
        Op::Store(_) | Op::ForStart(_) | Op::AppendTo(_) | Op::Update(..) => plain(1, 0),
        Op::UpdateInt(..) | Op::EndTry => plain(0, 0),
        Op::Closure { captured, .. } => plain(captured.into(), 1),
        Op::Array(count) => plain(count as usize, 1),
        Op::Record(shape) => plain(code.shapes[shape as usize].len(), 1),
        Op::Wrap(_) | Op::Fit(_) | Op::Not | Op::Negate | Op::Truth | Op::BinaryInt(..) => {
            plain(1, 1)
        }
        Op::Member(_) => plain(1, 1),
        Op::Binary(_) | Op::Index => plain(2, 1),
        Op::Assign(place) | Op::UpdatePlace(_, place) => plain(1 + indexes(place), 0),
        Op::Mutate { place, site, wanted } => {
            plain(indexes(place) + arguments(site), u32::from(wanted))
        }
        Op::Call(function) => plain(code.functions[function as usize].params.len(), 1),
        Op::CallSite(site) | Op::CallVariable(_, site) => plain(arguments(site), 1),
        Op::CallValue(site) | Op::Method(site) => plain(arguments(site) + 1, 1),
        Op::Return => Effect { pops: 1, pushes: 0, jump: None, falls: false },
        // What is raised is always an error; the machine goes on otherwise.
        Op::Raise => plain(1, 0),
        Op::Jump(target) => Effect { pops: 0, pushes: 0, jump: Some((target, 0)), falls: false },
        Op::JumpIfFalse(target) | Op::JumpIfTrue(target) | Op::UnlessNone(target) => {
            branch(1, 0, target, 0)
        }
        Op::JumpUnlessLocals(.., target)
        | Op::JumpUnlessLocalInt(.., target)
        | Op::ForNext(_, target) => branch(0, 0, target, 0),
        Op::Try(target) => branch(0, 0, target, 1),
        Op::UnlessKind(_, target) => branch(1, 1, target, 1),
        Op::Unwrap(_, target) | Op::Field(_, target) => branch(1, 1, target, 0),
    }
}

/// The stands of a function, or nothing if its code does not agree with itself.
pub(super) fn stands(code: &Code, function: &Function) -> Option<Stands> {
    let mut stands: Stands = vec![None; function.ops.len()];
    let mut open = vec![(0_u32, Stand { height: 0, attempt: None })];
    while let Some((pc, stand)) = open.pop() {
        let known = stands.get_mut(pc as usize)?;
        match known {
            Some(known) if *known == stand => continue,
            Some(_) => return None,
            None => *known = Some(stand),
        }
        let op = function.ops[pc as usize];
        let effect = effect(code, op);
        let below = stand.height.checked_sub(u32::try_from(effect.pops).ok()?)?;
        if let Some((target, pushes)) = effect.jump {
            open.push((target, Stand { height: below + pushes, attempt: stand.attempt }));
        }
        if effect.falls {
            let attempt = match (op, stand.attempt) {
                (Op::Try(_), _) => Some(pc),
                (Op::EndTry, Some(innermost)) => stands[innermost as usize]?.attempt,
                (Op::EndTry, None) => return None,
                (_, attempt) => attempt,
            };
            open.push((pc + 1, Stand { height: below + effect.pushes, attempt }));
        }
    }
    Some(stands)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::compile;
    use crate::syntax::parse;

    #[test]
    fn all_code_agrees_with_itself() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/test_data/programs");
        let mut functions = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let source = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            let program = parse(&source).program;
            for agent in 0..program.agents.len() {
                let Ok(code) = compile(&program, agent) else { continue };
                for function in &code.functions {
                    assert!(stands(&code, function).is_some(), "{function:?} of {source}");
                    functions += 1;
                }
            }
        }
        assert!(functions > 100, "only {functions} functions");
    }
}
