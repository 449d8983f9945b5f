//! What host calls take: each argument of a call has one place, however it was written.
//!
//! `send("bob", "news", text)` and `send(to = "bob", payload = text, topic = "news")` are the same
//! call. [`arrange`] says where each argument belongs, so that policies, the trail and the host all
//! see the call in one form: the slots in order, then a record of its options.
//!
//! # What holds
//!
//! - An argument that belongs nowhere is refused with the name that was nearest; none is dropped.
//! - Two arguments never have the same slot.
//!
//! # What is not here
//!
//! Tools: what they take is known where they are declared.

use crate::diagnostic::nearest;
use crate::syntax::literal::short;

/// A row of the table.
#[derive(Debug)]
struct Parameters {
    /// What the call is named where it is written.
    call: &'static str,
    /// What everyone else calls it: two calls of the same name do the same.
    name: &'static str,
    /// The parameters in the order in which a program gives them.
    order: &'static [&'static str],
    /// The parameters in the order in which everyone else sees them, which is the same for all calls
    /// of an operation; an empty name is a slot that only other such calls fill.
    slots: &'static [&'static str],
    /// A parameter that is left out when one argument less than all is given.
    skipped: Option<&'static str>,
    options: Options,
    /// Whether it takes as many further arguments as the program likes, by name or not.
    variadic: bool,
}

/// What may be in the record behind the parameters.
#[derive(Debug, Clone, Copy)]
enum Options {
    None,
    Known(&'static [&'static str]),
    Any,
}

const fn takes(call: &'static str, order: &'static [&'static str]) -> Parameters {
    let options = Options::None;
    Parameters { call, name: call, order, slots: order, skipped: None, options, variadic: false }
}

impl Parameters {
    const fn options(self, names: &'static [&'static str]) -> Self {
        Self { options: Options::Known(names), ..self }
    }

    const fn skipping(self, name: &'static str) -> Self {
        Self { skipped: Some(name), ..self }
    }

    const fn seen_as(self, name: &'static str, slots: &'static [&'static str]) -> Self {
        Self { name, slots, ..self }
    }
}

/// The slot of the record of options; without one it is behind all slots.
const OPTIONS: &str = "{}";

const HTTP: &[&str] = &["query", "headers", "body", "timeout", "verify_tls", "idempotency_key"];

/// What every host call takes.
#[rustfmt::skip]
const PARAMETERS: &[Parameters] = &[
    takes("exec",             &["command", "args"]).options(&["stdin", "env", "timeout", "cwd"]),
    takes("fs.read",          &["path"]),
    takes("fs.exists",        &["path"]),
    takes("fs.list",          &["path"]),
    takes("fs.write",         &["path", "content"]),
    takes("fs.remove",        &["path"]),
    takes("http.get",         &["url"]).options(HTTP),
    takes("http.post",        &["url"]).options(HTTP),
    takes("http.put",         &["url"]).options(HTTP),
    takes("http.delete",      &["url"]).options(HTTP),
    takes("http.request",     &["method", "url"]).seen_as("http.request", &["url", OPTIONS, "method"]).options(HTTP),
    takes("secret.read",      &["path"]),
    takes("spawn",            &["agent", "input"]),
    takes("delegate",         &["agent", "input"]),
    takes("schedule",         &["agent", "when", "input"]).seen_as("schedule", &["agent", "input", "when"]),
    takes("send",             &["to", "topic", "payload"]).skipping("topic"),
    takes("ask",              &["to", "payload", "timeout"]).seen_as("ask", &["to", "", "payload", "timeout"]),
    takes("broadcast",        &["topic", "payload"]),
    takes("publish",          &["topic", "payload"]).seen_as("broadcast", &["topic", "payload"]),
    takes("memory.get",       &["key"]).seen_as("memory.get", &["key", "", "store"]),
    takes("memory.set",       &["key", "value"]).seen_as("memory.set", &["key", "value", "store"]),
    takes("memory.remove",    &["key"]).seen_as("memory.remove", &["key", "", "store"]),
    takes("memory.keys",      &[]).seen_as("memory.keys", &["", "", "store"]),
    takes("memory.search",    &["query"]).seen_as("memory.search", &["query", "", "store"]).options(&["limit"]),
    takes("memory_search",    &["store", "query"]).seen_as("memory.search", &["query", "", "store"]).options(&["limit"]),
    takes("memory_write",     &["store", "key", "value"]).seen_as("memory.set", &["key", "value", "store"]),
    takes("reason",           &["prompt"]).options(&["model", "system", "tools", "schema", "max_tokens"]),
    takes("tool",             &["name", "args"]),
    Parameters { options: Options::Any, ..takes("request_approval", &[]) },
    takes("receive",          &["timeout"]),
    takes("sleep",            &["duration"]),
    takes("now",              &[]),
    takes("random",           &[]),
    takes("uuid",             &[]),
    takes("generate_id",      &[]),
    takes("time_since",       &["t"]),
    Parameters { variadic: true, ..takes("log", &["level", "message"]).skipping("level") },
    Parameters { variadic: true, ..takes("print", &[]) },
    Parameters { variadic: true, ..takes("emit", &["name", "value"]) },
    Parameters { variadic: true, ..takes("checkpoint", &["value", "name"]) },
];

/// What a parameter or an option of host calls takes: whatever is of another type is refused by whoever
/// runs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Its name.
    pub(crate) parameter: &'static str,
    /// Its types, as a signature writes them.
    pub(crate) ty: &'static str,
    /// Whether the call fails without it.
    pub(crate) needed: bool,
}

const fn needs(parameter: &'static str, ty: &'static str) -> Taken {
    Taken { parameter, ty, needed: true }
}

const fn may(parameter: &'static str, ty: &'static str) -> Taken {
    Taken { parameter, ty, needed: false }
}

/// What a request takes, of which this comes first.
const fn http(first: Taken) -> [Taken; 7] {
    [
        first,
        needs("url", "String"),
        may("query", "Map"),
        may("headers", "Map"),
        may("timeout", "duration | int"),
        may("verify_tls", "bool"),
        may("idempotency_key", "String"),
    ]
}

/// What is taken, under the names that everyone sees.
#[rustfmt::skip]
const TAKEN: &[(&str, &[Taken])] = &[
    ("exec",          &[needs("command", "String"), may("args", "Array"), may("timeout", "duration | int"), may("env", "Map")]),
    ("fs.read",       &[needs("path", "String")]),
    ("fs.exists",     &[needs("path", "String")]),
    ("fs.list",       &[may("path", "String")]),
    ("fs.write",      &[needs("path", "String"), needs("content", "any")]),
    ("fs.remove",     &[needs("path", "String")]),
    ("http.get",      &http(may("body", "any"))),
    ("http.post",     &http(may("body", "any"))),
    ("http.put",      &http(may("body", "any"))),
    ("http.delete",   &http(may("body", "any"))),
    ("http.request",  &http(needs("method", "String"))),
    ("delegate",      &[needs("agent", "String")]),
    ("send",          &[needs("to", "String"), needs("payload", "any")]),
    ("broadcast",     &[needs("topic", "String")]),
    ("memory.get",    &[needs("key", "String")]),
    ("memory.set",    &[needs("key", "String")]),
    ("memory.remove", &[needs("key", "String")]),
    ("memory.search", &[needs("query", "String"), may("limit", "int")]),
    ("tool",          &[needs("name", "String")]),
    ("receive",       &[may("timeout", "duration | int")]),
    ("sleep",         &[needs("duration", "duration | int")]),
    ("time_since",    &[needs("t", "time")]),
];

/// An argument, as far as its place depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Given<'a> {
    /// The name it is given by.
    pub name: Option<&'a str>,
    /// What it is.
    pub shape: Shape,
}

/// What an argument is, as far as its place depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A record or map.
    Record,
    /// Anything else.
    Other,
    /// Nothing, or what only the run will know.
    Open,
}

/// Where an argument belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In this slot.
    Slot(usize),
    /// Among the options, by its name.
    Option,
    /// It is the record of options itself.
    Options,
    /// Behind all others.
    Rest,
}

/// A call whose arguments have their places.
#[derive(Debug)]
pub struct Arranged {
    parameters: &'static Parameters,
    /// The place of each argument.
    pub places: Vec<Place>,
}

impl Arranged {
    /// What the call is named in the form that everyone sees.
    pub fn name(&self) -> &'static str {
        self.parameters.name
    }

    /// The slot of a parameter of this name.
    pub(crate) fn slot(&self, parameter: &str) -> Option<usize> {
        self.parameters.slots.iter().position(|slot| is_filled(slot) && *slot == parameter)
    }

    /// What the call takes.
    pub(crate) fn takes(&self) -> &'static [Taken] {
        let row = TAKEN.iter().find(|(name, _)| *name == self.name());
        row.map_or(&[], |(_, taken)| *taken)
    }
}

/// An argument that belongs nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misplaced {
    /// Which one, from 0.
    pub argument: usize,
    /// What is wrong with it.
    pub message: String,
    /// The name that may have been meant.
    pub nearest: Option<&'static str>,
}

fn find(call: &str) -> Option<&'static Parameters> {
    PARAMETERS.iter().find(|parameters| parameters.call == call)
}

/// Whether an argument can be meant for a slot of this name.
fn is_filled(slot: &str) -> bool {
    !slot.is_empty() && slot != OPTIONS
}

/// The names of a call's slots with their numbers; none for a tool.
pub fn slots(call: &str) -> impl Iterator<Item = (usize, &'static str)> {
    let slots = find(call).map_or(&[][..], |parameters| parameters.slots);
    slots.iter().copied().enumerate().filter(|(_, slot)| is_filled(slot))
}

/// The names of a call's options; none for a tool.
pub fn options(call: &str) -> &'static [&'static str] {
    match find(call).map(|parameters| parameters.options) {
        Some(Options::Known(names)) => names,
        Some(Options::None | Options::Any) | None => &[],
    }
}

/// The number of the slot in which a call has the record of its options; 0 for a tool.
pub fn options_slot(call: &str) -> usize {
    let slots = find(call).map_or(&[][..], |parameters| parameters.slots);
    slots.iter().position(|slot| *slot == OPTIONS).unwrap_or(slots.len())
}

/// Where each argument of a call belongs; `None` for a tool.
///
/// # Errors
///
/// The first argument that belongs nowhere.
pub fn arrange(call: &str, given: &[Given<'_>]) -> Option<Result<Arranged, Misplaced>> {
    let parameters = find(call)?;
    Some(parameters.places(given).map(|places| Arranged { parameters, places }))
}

/// Whether a call has an option of this name.
///
/// # Errors
///
/// The words for whoever wrote it, and the name that may have been meant.
pub fn option(call: &str, key: &str) -> Result<(), (String, Option<&'static str>)> {
    let Some(Options::Known(known)) = find(call).map(|parameters| parameters.options) else {
        return Ok(());
    };
    match known.contains(&key) {
        true => Ok(()),
        false => {
            let message = format!("`{call}` has no option `{}`", short(key));
            Err((message, nearest(key, known.iter().copied())))
        }
    }
}

impl Parameters {
    fn places(&self, given: &[Given<'_>]) -> Result<Vec<Place>, Misplaced> {
        let by_name = |name: &str| given.iter().any(|argument| argument.name == Some(name));
        let positional = given.iter().filter(|argument| argument.name.is_none()).count();
        let named = self.order.iter().filter(|name| by_name(name)).count();
        let skipped = self
            .skipped
            .filter(|name| positional + named + 1 == self.order.len() && !by_name(name));
        let order: Vec<&str> =
            self.order.iter().copied().filter(|name| Some(*name) != skipped).collect();
        let mut places = Vec::with_capacity(given.len());
        let mut position = 0;
        for (argument, Given { name, shape }) in given.iter().enumerate() {
            let place = match name {
                Some(name) => self.named(name, argument)?,
                None => {
                    position += 1;
                    let last = position == positional;
                    self.positional(&order, position - 1, last, *shape, argument)?
                }
            };
            let twice = matches!(place, Place::Slot(_)) && places.contains(&place);
            let twice = twice
                || (place == Place::Option
                    && given[..argument].iter().any(|earlier| earlier.name == *name));
            if twice {
                let name = self.name_of(place).or(*name).unwrap_or_default();
                let message = format!("`{}` is given `{}` twice", self.call, short(name));
                return Err(Misplaced { argument, message, nearest: None });
            }
            places.push(place);
        }
        Ok(places)
    }

    fn name_of(&self, place: Place) -> Option<&'static str> {
        match place {
            Place::Slot(slot) => self.slots.get(slot).copied(),
            Place::Option | Place::Options | Place::Rest => None,
        }
    }

    fn slot(&self, name: &str) -> Option<Place> {
        let slot = self.slots.iter().position(|slot| is_filled(slot) && *slot == name)?;
        Some(Place::Slot(slot))
    }

    fn named(&self, name: &str, argument: usize) -> Result<Place, Misplaced> {
        if let Some(slot) = self.slot(name) {
            return Ok(slot);
        }
        let options = match self.options {
            Options::Any => return Ok(Place::Option),
            Options::Known(known) if known.contains(&name) => return Ok(Place::Option),
            Options::Known(known) => known,
            Options::None if self.variadic => return Ok(Place::Rest),
            Options::None => &[],
        };
        let slots = self.slots.iter().filter(|slot| is_filled(slot));
        let known = || slots.clone().chain(options).copied();
        let message = match known().next() {
            None => format!("`{}` takes no argument by name", self.call),
            Some(_) => format!("`{}` takes no argument `{}`", self.call, short(name)),
        };
        Err(Misplaced { argument, message, nearest: nearest(name, known()) })
    }

    fn positional(
        &self,
        order: &[&str],
        position: usize,
        last: bool,
        shape: Shape,
        argument: usize,
    ) -> Result<Place, Misplaced> {
        let has_options = !matches!(self.options, Options::None);
        // `exec("ls", { cwd: "/" })`: parameters in between may be left out.
        if has_options && last && position > 0 && shape == Shape::Record {
            return Ok(Place::Options);
        }
        if let Some(place) = order.get(position).and_then(|name| self.slot(name)) {
            return Ok(place);
        }
        if self.variadic {
            return Ok(Place::Rest);
        }
        let takes = match order {
            [] => "no arguments".to_owned(),
            [one] => format!("1 argument ({one})"),
            many => format!("{} arguments ({})", many.len(), many.join(", ")),
        };
        let message = match (has_options, position == order.len()) {
            (true, true) if shape != Shape::Other => return Ok(Place::Options),
            (true, true) if order.is_empty() => format!("`{}` takes a record", self.call),
            (true, true) => {
                format!("`{}` takes a record of options behind its arguments", self.call)
            }
            (true, false) => format!("`{}` takes {takes} and a record of options", self.call),
            (false, _) => format!("`{}` takes {takes}", self.call),
        };
        Err(Misplaced { argument, message, nearest: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Arranges arguments: `name=` is one by name, `{}` a record.
    #[track_caller]
    fn check(call: &str, given: &[&str], want: &str) {
        let given: Vec<Given<'_>> = given
            .iter()
            .map(|text| {
                let (name, value) = match text.split_once('=') {
                    Some((name, value)) => (Some(name), value),
                    None => (None, *text),
                };
                let shape = match value {
                    "{}" => Shape::Record,
                    "?" => Shape::Open,
                    _ => Shape::Other,
                };
                Given { name, shape }
            })
            .collect();
        let got = match arrange(call, &given).expect("a host call") {
            Ok(arranged) => {
                let words: Vec<String> = (arranged.places.iter())
                    .map(|place| match place {
                        Place::Slot(slot) => arranged.parameters.slots[*slot].to_owned(),
                        other => format!("{other:?}"),
                    })
                    .collect();
                format!("{}: {}", arranged.name(), words.join(" "))
            }
            Err(Misplaced { argument, message, nearest }) => {
                let hint = nearest.map(|name| format!(" ({name}?)")).unwrap_or_default();
                format!("{argument}: {message}{hint}")
            }
        };
        assert_eq!(got, want, "{call} {given:?}");
    }

    #[test]
    fn arguments_have_places() {
        check("exec", &["a", "b", "{}"], "exec: command args Options");
        check("exec", &["a", "{}"], "exec: command Options");
        check("exec", &["a", "b", "?"], "exec: command args Options");
        check("exec", &["a", "timeout=5"], "exec: command Option");
        check("exec", &["args=b", "command=a"], "exec: args command");
        check("exec", &["a", "timout=5"], "1: `exec` takes no argument `timout` (timeout?)");
        check("exec", &["a", "command=b"], "1: `exec` is given `command` twice");
        check("exec", &["a", "cwd=b", "cwd=c"], "2: `exec` is given `cwd` twice");
        check("exec", &["a", "b", "c"], "2: `exec` takes a record of options behind its arguments");
        check("send", &["b", "t", "p"], "send: to topic payload");
        check("send", &["b", "p"], "send: to payload");
        check("send", &["b", "payload=p"], "send: to payload");
        check("send", &["t", "p", "to=b"], "2: `send` is given `to` twice");
        check("send", &["b", "t", "p", "x"], "3: `send` takes 3 arguments (to, topic, payload)");
        check("memory.set", &["k", "v", "store=s"], "memory.set: key value store");
        check("memory_write", &["s", "k", "v"], "memory.set: store key value");
        check("memory_search", &["s", "q", "limit=5"], "memory.search: store query Option");
        check("memory.get", &["k", "0"], "1: `memory.get` takes 1 argument (key)");
        check("memory.get", &["k", "value=1"], "1: `memory.get` takes no argument `value`");
        check("log", &["m"], "log: message");
        check("log", &["l", "m", "x", "y"], "log: level message Rest Rest");
        check("print", &["{}", "x"], "print: Rest Rest");
        check("print", &["text=x"], "print: Rest");
        check("emit", &["a", "b", "for=x"], "emit: name value Rest");
        check("sleep", &["1", "x=x"], "1: `sleep` takes no argument `x`");
        check("now", &["x=x"], "0: `now` takes no argument by name");
        check("request_approval", &["{}"], "request_approval: Options");
        check("request_approval", &["x"], "0: `request_approval` takes a record");
        check("request_approval", &["reason=x"], "request_approval: Option");
        check("now", &["x"], "0: `now` takes no arguments");
        check("delegate", &["a", "{}"], "delegate: agent input");
    }

    #[test]
    fn every_host_call_says_what_it_takes() {
        for call in super::super::host_calls() {
            assert!(find(call).is_some(), "{call}");
        }
        assert_eq!(PARAMETERS.len(), super::super::host_calls().count());
    }

    #[test]
    fn every_parameter_has_a_slot() {
        for parameters in PARAMETERS {
            for name in parameters.order.iter().chain(&parameters.skipped) {
                assert!(parameters.slot(name).is_some(), "{} {name}", parameters.call);
            }
        }
    }
}
