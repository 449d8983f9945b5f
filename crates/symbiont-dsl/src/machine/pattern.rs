//! Looking for a pattern in a text, a stride at a time.
//!
//! A pattern becomes a machine of states, and a text is gone through once with all the states that its
//! letters so far can have led to. That takes time in proportion to the text whatever the pattern is,
//! can be left after any letter, and costs the same steps wherever it was left. Faster ways to look
//! for patterns guess at the text, and begin again in another way where the guess was wrong: what they
//! take is known only afterwards.
//!
//! # What holds
//!
//! - Each state that is visited is paid for.
//! - Before a match has begun, bytes with which none can begin are passed by.

use std::sync::Arc;

use regex_automata::nfa::thompson::{self, NFA, State, WhichCaptures};
use regex_automata::util::primitives::StateID;
use regex_automata::util::syntax;

use super::long::Job;
use super::meter::{Meter, Result, raise};
use crate::value::{Text, Value};

/// The longest pattern, in bytes.
const LONGEST: usize = 4_096;

/// The most classes of letters in a pattern. Each may be thousands of letters long, and takes as long
/// to read.
const MOST_CLASSES: usize = 100;

/// The most bytes of a pattern's states.
const LARGEST: usize = 1 << 18;

/// How many states are visited in one go; it takes about ten nanoseconds to visit one.
const VISITS: usize = 16 << 10;

/// How many bytes are passed by in one go.
const BYTES: usize = 128 << 10;

/// A pattern that texts can be searched for.
#[derive(Debug)]
pub(super) struct Pattern {
    nfa: NFA,
    /// With which bytes a match can begin, where the bytes tell.
    first: Option<Box<[bool; 256]>>,
}

impl Pattern {
    /// Reads a pattern.
    pub(super) fn new(pattern: &str) -> Result<Pattern> {
        let escapes = pattern.as_bytes().windows(2);
        let escapes = escapes.filter(|two| two[0] == b'\\' && b"pPwWdDsS".contains(&two[1]));
        let classes = escapes.count() + pattern.bytes().filter(|byte| *byte == b'[').count();
        if pattern.len() > LONGEST || classes > MOST_CLASSES {
            let message = format!(
                "a pattern has at most {LONGEST} bytes and {MOST_CLASSES} classes of letters"
            );
            return Err(raise("LimitExceeded", message));
        }
        let wrong =
            |error: &dyn std::fmt::Display| raise("ParseError", format!("no pattern: {error}"));
        let config = syntax::Config::new().nest_limit(64);
        let tree = syntax::parse_with(pattern, &config).map_err(|error| wrong(&error))?;
        let config = thompson::Config::new()
            .which_captures(WhichCaptures::None)
            .nfa_size_limit(Some(LARGEST));
        let nfa = thompson::Compiler::new().configure(config).build_from_hir(&tree);
        let nfa = nfa.map_err(|error| wrong(&error))?;
        let first = first(&nfa);
        Ok(Pattern { nfa, first })
    }
}

/// The bytes with which a match can begin. `None` if it depends on what stands around them, or if a
/// match can be empty.
fn first(nfa: &NFA) -> Option<Box<[bool; 256]>> {
    let mut first = Box::new([false; 256]);
    let (mut open, mut seen) = (vec![nfa.start_anchored()], vec![false; nfa.states().len()]);
    while let Some(id) = open.pop() {
        if std::mem::replace(&mut seen[id.as_usize()], true) {
            continue;
        }
        match nfa.state(id) {
            State::Look { .. } | State::Match { .. } => return None,
            State::Union { alternates } => open.extend_from_slice(alternates),
            State::BinaryUnion { alt1, alt2 } => open.extend([*alt1, *alt2]),
            State::Capture { next, .. } => open.push(*next),
            state
            @ (State::ByteRange { .. } | State::Sparse(_) | State::Dense(_) | State::Fail) => {
                for byte in 0..=u8::MAX {
                    first[usize::from(byte)] |= onward(state, byte).is_some();
                }
            }
        }
    }
    Some(first)
}

/// The state that a byte leads to.
fn onward(state: &State, byte: u8) -> Option<StateID> {
    match state {
        State::ByteRange { trans } => trans.matches_byte(byte).then_some(trans.next),
        State::Sparse(transitions) => transitions.matches_byte(byte),
        State::Dense(transitions) => transitions.matches_byte(byte),
        State::Look { .. }
        | State::Union { .. }
        | State::BinaryUnion { .. }
        | State::Capture { .. }
        | State::Fail
        | State::Match { .. } => None,
    }
}

/// Finds out whether a pattern matches anywhere in a text.
#[derive(Debug)]
pub(super) struct Search {
    pattern: Arc<Pattern>,
    text: Text,
    at: usize,
    /// The states that a byte may lead on from here, each once.
    here: Vec<StateID>,
    /// Those of the byte before; only its room is kept.
    before: Vec<StateID>,
    /// Which position each state was last met at, counted from 1.
    met: Vec<u32>,
    /// States that are still to be followed.
    open: Vec<StateID>,
}

impl Search {
    pub(super) fn new(pattern: &Arc<Pattern>, text: &Text) -> Search {
        Search {
            pattern: Arc::clone(pattern),
            text: text.clone(),
            at: 0,
            here: Vec::new(),
            before: Vec::new(),
            met: vec![0; pattern.nfa.states().len()],
            open: Vec::new(),
        }
    }

    /// Takes in all states that one leads to without a byte. Whether the match is complete.
    fn follow(&mut self, state: StateID, visits: &mut usize) -> bool {
        let nfa = &self.pattern.nfa;
        let position = u32::try_from(self.at + 1).unwrap_or(u32::MAX);
        self.open.push(state);
        while let Some(id) = self.open.pop() {
            *visits += 1;
            if std::mem::replace(&mut self.met[id.as_usize()], position) == position {
                continue;
            }
            match nfa.state(id) {
                State::Match { .. } => return true,
                State::ByteRange { .. } | State::Sparse(_) | State::Dense(_) => self.here.push(id),
                State::Look { look, next } => {
                    if nfa.look_matcher().matches(*look, self.text.as_bytes(), self.at) {
                        self.open.push(*next);
                    }
                }
                State::Union { alternates } => self.open.extend_from_slice(alternates),
                State::BinaryUnion { alt1, alt2 } => self.open.extend([*alt1, *alt2]),
                State::Capture { next, .. } => self.open.push(*next),
                State::Fail => {}
            }
        }
        false
    }

    /// Goes on for about so many visits. `None`: there is more.
    fn go_on(&mut self, visits: &mut usize) -> Option<bool> {
        let pattern = Arc::clone(&self.pattern);
        let text = self.text.clone();
        let bytes = text.as_bytes();
        let stop = self.at.saturating_add(BYTES).min(bytes.len());
        let anchored = pattern.nfa.is_always_start_anchored();
        while *visits < VISITS {
            if self.here.is_empty() {
                if anchored && self.at > 0 {
                    return Some(false);
                }
                if let Some(first) = &pattern.first {
                    let rest = &bytes[self.at..stop];
                    let passed = rest.iter().position(|byte| first[usize::from(*byte)]);
                    self.at += passed.unwrap_or(rest.len());
                }
            }
            if !(anchored && self.at > 0) && self.follow(pattern.nfa.start_anchored(), visits) {
                return Some(true);
            }
            let Some(&byte) = bytes.get(self.at) else { return Some(false) };
            if self.at >= stop {
                return None;
            }
            self.at += 1;
            std::mem::swap(&mut self.here, &mut self.before);
            for at in 0..self.before.len() {
                *visits += 1;
                if let Some(next) = onward(pattern.nfa.state(self.before[at]), byte)
                    && self.follow(next, visits)
                {
                    return Some(true);
                }
            }
            self.before.clear();
        }
        None
    }
}

impl Job for Search {
    fn stride(&mut self, meter: &mut Meter) -> Result<Option<Value>> {
        let (start, mut visits) = (self.at, 0);
        let found = self.go_on(&mut visits);
        meter.work(visits as u64 / 8)?;
        meter.bulk((self.at - start) / 2)?;
        Ok(found.map(Value::Bool))
    }
}

/// Whether a text is a pattern that can be looked for.
pub(crate) fn is_pattern(text: &str) -> bool {
    Pattern::new(text).is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(pattern: &str, text: &str) -> Option<bool> {
        let pattern = Arc::new(Pattern::new(pattern).ok()?);
        let mut search = Search::new(&pattern, &text.into());
        loop {
            if let Some(found) = search.go_on(&mut 0) {
                return Some(found);
            }
        }
    }

    fn pattern() -> impl Strategy<Value = String> {
        let leaf = prop::sample::select(vec![
            "a",
            "b",
            "é",
            ".",
            "\\w",
            "\\d",
            "[ab]",
            "[^a]",
            "\\b",
            "\\B",
            "^",
            "$",
            "\\A",
            "\\z",
            "",
            "\\s",
            "(?m:^)",
            "(?m:$)",
            "(?i:É)",
            "(?-u:\\b)",
            "\\b{start}",
            "\\b{end}",
        ])
        .prop_map(str::to_owned);
        leaf.prop_recursive(5, 20, 3, |inner| {
            let times = prop::sample::select(vec!["*", "+", "?", "{2}", "{1,3}", "*?"]);
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| parts.concat()),
                prop::collection::vec(inner.clone(), 2..4)
                    .prop_map(|parts| format!("(?:{})", parts.join("|"))),
                (inner, times).prop_map(|(part, times)| format!("(?:{part}){times}")),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_finds_what_the_crate_regex_finds(
            pattern in pattern(),
            texts in prop::collection::vec("[abé 1\n]{0,12}", 1..8),
        ) {
            let regex = regex::Regex::new(&pattern).unwrap();
            for text in texts {
                prop_assert_eq!(found(&pattern, &text), Some(regex.is_match(&text)), "{} in {:?}", pattern, text);
            }
        }
    }

    #[test]
    fn a_stride_ends_soon_whatever_the_pattern() {
        let text = "ab".repeat(2_000);
        let pattern = Arc::new(Pattern::new("[ab]*a[ab]{1000}[^ab]").expect("a pattern"));
        let mut search = Search::new(&pattern, &text.as_str().into());
        let (mut all, mut strides) = (0, 0);
        loop {
            let mut visits = 0;
            let found = search.go_on(&mut visits);
            // What is begun with a byte is done with it.
            assert!(visits <= VISITS + 2 * pattern.nfa.states().len(), "{visits}");
            (all, strides) = (all + visits, strides + 1);
            if found.is_some() {
                assert_eq!(found, Some(false));
                break;
            }
        }
        assert!(strides > all / (2 * VISITS) && strides > 50, "{strides} strides for {all} visits");
    }
}
