//! Host calls: what they are called where policies speak of them, and what repeating them costs.
//!
//! A call such as `fs.read("a.txt")` is the operation `fs.read:/workspace/a.txt`. The table here
//! says that for every host call; whatever is not in it is a tool. A second table says which
//! operations a name means that stands in a policy or in a list of capabilities.
//!
//! # What holds
//!
//! - Every call has at least one operation; a part that cannot be told is empty, so that only
//!   rules over all such operations cover it.
//! - Paths are absolute and without `.` and doubled slashes; `..` is kept for the sandbox to refuse.
//! - A name in a policy means at least one operation.

mod canonical;
mod parameters;

use std::borrow::Cow;

use crate::diagnostic::nearest;
use crate::url::Url;

pub use canonical::canonical;
pub(crate) use parameters::Taken;
pub use parameters::{
    Arranged, Given, Misplaced, Place, Shape, arrange, option, options, options_slot, slots,
};

/// What happens to a call whose outcome was lost in a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EffectClass {
    /// It has no effect and asks nobody.
    Pure,
    /// It changes nothing: repeated.
    Read,
    /// It carries a key by which a repetition is recognised: repeated.
    Idempotent,
    /// Whether it happened can be found out: looked at, then skipped or repeated.
    Checkable,
    /// Nobody knows whether it happened: left to an operator.
    NonRepeatable,
    /// Its outcome is recorded in the same step as its effect: happens exactly once.
    Recorded,
}

/// What the runtime needs to know of a call before it makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// What policies call it; each has to be allowed. A call over HTTP has two.
    pub names: Vec<String>,
    /// What happens if its outcome is lost.
    pub class: EffectClass,
    /// Whether policies decide it.
    pub governed: bool,
    /// Whether it is refused when the agent's list of capabilities covers none of its names.
    pub capability_checked: bool,
}

/// The arguments of a call that was [arranged](arrange), as texts.
pub trait Arguments {
    /// What is in a slot, from 0.
    fn slot(&self, index: usize) -> Option<Cow<'_, str>>;
    /// An option, such as `idempotency_key` of a call over HTTP.
    fn option(&self, name: &str) -> Option<Cow<'_, str>>;
}

/// How the part after the colon is made from the arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// There is none.
    None,
    /// The first slot.
    First,
    /// The same, as a path in the sandbox.
    Path,
    /// The named option, or `default`.
    Option(&'static str),
    /// A URL in the first slot; the call is also a connection to its host. Where the name of the
    /// operation is not whole, its method is in this slot.
    Url(Option<usize>),
}

/// A row of the table of host calls.
struct HostCall {
    name: &'static str,
    operation: &'static str,
    part: Part,
    class: EffectClass,
    governed: bool,
    capability_checked: bool,
}

/// What is made in a sandbox, over the network, with secrets or with other agents: governed by
/// policies, and by capabilities.
const fn walled(
    name: &'static str,
    operation: &'static str,
    part: Part,
    class: EffectClass,
) -> HostCall {
    HostCall { name, operation, part, class, governed: true, capability_checked: true }
}

/// What is governed by policies only.
const fn governed(
    name: &'static str,
    operation: &'static str,
    part: Part,
    class: EffectClass,
) -> HostCall {
    HostCall { name, operation, part, class, governed: true, capability_checked: false }
}

/// What is always allowed, and recorded.
const fn free(name: &'static str) -> HostCall {
    HostCall {
        name,
        operation: name,
        part: Part::None,
        class: EffectClass::Recorded,
        governed: false,
        capability_checked: false,
    }
}

use EffectClass::{Checkable, Idempotent, NonRepeatable, Read, Recorded};

/// Every host call but the tools.
#[rustfmt::skip]
const HOST_CALLS: &[HostCall] = &[
    walled("exec",             "sandbox.exec",     Part::First,                  NonRepeatable),
    walled("fs.read",          "fs.read",          Part::Path,                   Read),
    walled("fs.exists",        "fs.read",          Part::Path,                   Read),
    walled("fs.list",          "fs.read",          Part::Path,                   Read),
    walled("fs.write",         "fs.write",         Part::Path,                   Checkable),
    walled("fs.remove",        "fs.write",         Part::Path,                   Checkable),
    walled("http.get",         "http.get",         Part::Url(None),              Read),
    walled("http.post",        "http.post",        Part::Url(None),              NonRepeatable),
    walled("http.put",         "http.put",         Part::Url(None),              NonRepeatable),
    walled("http.delete",      "http.delete",      Part::Url(None),              NonRepeatable),
    walled("http.request",     "http.",            Part::Url(Some(2)),           NonRepeatable),
    walled("secret.read",      "secret.read",      Part::First,                  Read),
    walled("spawn",            "agent.spawn",      Part::First,                  Idempotent),
    walled("delegate",         "agent.spawn",      Part::First,                  Idempotent),
    walled("schedule",         "agent.spawn",      Part::First,                  Idempotent),
    governed("send",           "message.send",     Part::First,                  Idempotent),
    governed("ask",            "message.send",     Part::First,                  Idempotent),
    governed("broadcast",      "message.publish",  Part::First,                  Idempotent),
    governed("publish",        "message.publish",  Part::First,                  Idempotent),
    governed("memory.get",     "memory.read",      Part::None,                   Recorded),
    governed("memory.keys",    "memory.read",      Part::None,                   Recorded),
    governed("memory.search",  "memory.read",      Part::None,                   Recorded),
    governed("memory.set",     "memory.write",     Part::None,                   Recorded),
    governed("memory.remove",  "memory.write",     Part::None,                   Recorded),
    governed("memory_search",  "memory.read",      Part::None,                   Recorded),
    governed("memory_write",   "memory.write",     Part::None,                   Recorded),
    governed("reason",         "model.call",       Part::Option("model"),        Read),
    governed("tool",           "tool.call",        Part::First,                  NonRepeatable),
    governed("request_approval", "approval.request", Part::None,                 Recorded),
    free("receive"),
    free("sleep"),
    free("now"),
    free("random"),
    free("uuid"),
    free("generate_id"),
    free("time_since"),
    free("log"),
    free("print"),
    free("emit"),
    free("checkpoint"),
];

/// Names that mean operations and are neither operations nor host calls. `*` stands for any text.
///
/// A name that is not here means the tool of that name, and every operation whose last part it is.
pub const SYNONYMS: &[(&str, &[&str])] = &[
    ("any", &["*"]),
    ("fs", &["fs.*"]),
    ("file", &["fs.*"]),
    ("files", &["fs.*"]),
    ("filesystem", &["fs.*"]),
    ("file_system", &["fs.*"]),
    ("file_access", &["fs.*"]),
    ("file_read", &["fs.read"]),
    ("read_file", &["fs.read", "tool.call:read_file"]),
    ("file_write", &["fs.write"]),
    ("write_file", &["fs.write", "tool.call:write_file"]),
    ("net", &["net.*", "http.*"]),
    ("network", &["net.*", "http.*"]),
    ("network_access", &["net.*", "http.*"]),
    ("internet", &["net.*", "http.*"]),
    ("http", &["http.*", "net.*"]),
    ("http_request", &["http.*", "net.*", "tool.call:http_request"]),
    ("command", &["sandbox.exec"]),
    ("execute", &["sandbox.exec"]),
    ("shell", &["sandbox.exec", "tool.call:shell"]),
    ("sandbox", &["sandbox.*"]),
    ("vault", &["secret.read"]),
    ("secret", &["secret.*"]),
    ("secrets", &["secret.*"]),
    ("spawn_agent", &["agent.spawn"]),
    ("message", &["message.*"]),
    ("messages", &["message.*"]),
    ("messaging", &["message.*"]),
    ("communication", &["message.*"]),
    ("memory", &["memory.*"]),
    ("memory_read", &["memory.read"]),
    ("model", &["model.call"]),
    ("llm", &["model.call"]),
    ("reasoning", &["model.call"]),
    ("approval", &["approval.request"]),
    ("tools", &["tool.call:*"]),
];

/// The functions that only compute.
pub const BUILTINS: &[&str] = &[
    "len",
    "length",
    "format",
    "parse_json",
    "to_json",
    "parse_csv",
    "type_of",
    "range",
    "min",
    "max",
    "abs",
    "round",
    "floor",
    "ceil",
    "sum",
    "sort",
    "reverse",
    "zip",
    "keys",
    "values",
    "entries",
    "hash",
    "base64",
    "regex_match",
    "error",
    "assert",
];

/// The names that the runtime fills.
pub const AMBIENT: &[&str] =
    &["agent", "context", "request", "resource", "user", "recipient", "workflow", "current_time"];

/// The namespaces of host calls: `fs` in `fs.read`.
pub const NAMESPACES: &[&str] = &["fs", "http", "memory", "secret"];

/// Whether this is a host call; anything else that is called by name is a tool.
pub fn is_host_call(name: &str) -> bool {
    find(name).is_some()
}

/// The names of all host calls but the tools.
pub fn host_calls() -> impl Iterator<Item = &'static str> {
    HOST_CALLS.iter().map(|call| call.name)
}

fn find(name: &str) -> Option<&'static HostCall> {
    HOST_CALLS.iter().find(|call| call.name == name)
}

/// What calling `name` is. A name that is no host call is a tool.
pub fn operation(name: &str, arguments: &dyn Arguments) -> Operation {
    let Some(call) = find(name) else {
        return Operation {
            names: vec![format!("tool.call:{name}")],
            class: NonRepeatable,
            governed: true,
            capability_checked: false,
        };
    };
    let slot = |index: usize| arguments.slot(index).unwrap_or_default();
    let option = |name: &str| arguments.option(name);
    let mut class = call.class;
    let names = match call.part {
        Part::None => vec![call.operation.to_owned()],
        Part::First => vec![format!("{}:{}", call.operation, slot(0))],
        Part::Path => vec![format!("{}:{}", call.operation, absolute(&slot(0)))],
        Part::Option(name) => {
            vec![format!("{}:{}", call.operation, option(name).as_deref().unwrap_or("default"))]
        }
        Part::Url(method) => {
            let url = slot(0);
            let method = method.map(|at| slot(at).to_ascii_lowercase()).unwrap_or_default();
            let operation = format!("{}{method}", call.operation);
            class = match operation.as_str() {
                "http.get" | "http.head" => Read,
                _ if option("idempotency_key").is_some() => Idempotent,
                _ => NonRepeatable,
            };
            // Where it leads nobody can tell, only rules over all connections cover it.
            let (host, port) = Url::parse(&url).map(|url| (url.host, url.port)).unwrap_or_default();
            vec![format!("net.connect:{host}:{port}"), format!("{operation}:{url}")]
        }
    };
    Operation { names, class, governed: call.governed, capability_checked: call.capability_checked }
}

/// The path as the sandbox will see it: absolute, relative ones from `/workspace`, without `.` and
/// doubled slashes. `..` is kept.
pub fn absolute(path: &str) -> String {
    let mut out = String::from(if path.starts_with('/') { "" } else { "/workspace" });
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        out.push('/');
        out.push_str(part);
    }
    if out.is_empty() { "/".to_owned() } else { out }
}

/// Which operations a name in a policy means, as globs. The name of an operation without its part
/// after the colon covers every such operation, and so does a host without its port.
pub fn meant_by(name: &str) -> Vec<String> {
    let Some((head, part)) = name.split_once(':') else { return heads(name) };
    let heads = if is_known(head) { heads(head) } else { vec![head.to_owned()] };
    heads.into_iter().map(|head| format!("{head}:{}", spelled(&head, part))).collect()
}

/// The same of what stands before the colon.
fn heads(name: &str) -> Vec<String> {
    let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    // Methods are told in small letters.
    if is_method(name) {
        return vec![name.to_ascii_lowercase()];
    }
    if name.contains('*') || is_operation(name) {
        return vec![name.to_owned()];
    }
    if let Some((_, names)) = SYNONYMS.iter().find(|(synonym, _)| *synonym == name) {
        return own(names);
    }
    match find(name) {
        Some(call) if call.name == "http.request" => own(&["http.*"]),
        Some(call) => own(&[call.operation]),
        None => {
            let last = OPERATIONS.iter().copied().filter(|operation| last_part(operation) == name);
            std::iter::once(format!("tool.call:{name}")).chain(last.map(str::to_owned)).collect()
        }
    }
}

/// The part after the colon as operations spell it.
fn spelled(head: &str, part: &str) -> String {
    match head {
        "net.connect" => {
            let host = part.to_ascii_lowercase();
            let bare = host.strip_prefix('[').map_or(host.as_str(), |address| {
                address.split_once(']').map_or(address, |(_, rest)| rest)
            });
            match bare.contains(':') || host.ends_with('*') || host.is_empty() {
                true => host,
                false => format!("{}:*", host.trim_end_matches('.')),
            }
        }
        _ if head.starts_with("http.") => {
            let authority = part.find("://").map_or(0, |at| at + 3);
            let end = part[authority..].find(['/', '?', '#', '*']);
            let end = end.map_or(part.len(), |at| authority + at);
            format!("{}{}", part[..end].to_ascii_lowercase(), &part[end..])
        }
        _ if head.starts_with("fs.") && !part.is_empty() && !part.starts_with('*') => {
            absolute(part)
        }
        _ => part.to_owned(),
    }
}

/// The methods of HTTP, which `http.request` may be given.
const METHODS: &[&str] =
    &["get", "head", "post", "put", "delete", "connect", "options", "trace", "patch"];

fn is_method(name: &str) -> bool {
    name.strip_prefix("http.")
        .is_some_and(|method| METHODS.iter().any(|known| known.eq_ignore_ascii_case(method)))
}

/// Whether what stands before the colon is one of an operation: its name or one that stands for it.
fn is_known(head: &str) -> bool {
    head.contains('*')
        || is_operation(head)
        || is_method(head)
        || is_host_call(head)
        || SYNONYMS.iter().any(|(synonym, _)| *synonym == head)
        || OPERATIONS.iter().any(|operation| last_part(operation) == head)
}

/// Whether a name in a policy means an operation by itself, and not only perhaps a tool of that name.
pub(crate) fn is_meant(name: &str) -> bool {
    is_known(name.split_once(':').map_or(name, |(head, _)| head))
}

/// What no operation is called, although it has the form of one, and what it may have been meant to be.
pub(crate) fn nobodys(name: &str) -> Option<Option<&'static str>> {
    let (head, part) = name.split_once(':').map_or((name, None), |(head, part)| (head, Some(part)));
    let family =
        |first: &str| OPERATIONS.iter().any(|known| known.split('.').next() == Some(first));
    let formed = part.is_some() || head.split_once('.').is_some_and(|(first, _)| family(first));
    if is_known(head) || !formed {
        return None;
    }
    Some(nearest(head, OPERATIONS.iter().copied().chain(host_calls())))
}

/// The same operations wherever a program is that they name by its name alone: what is not to be run is
/// not to be run by its path either.
pub(crate) fn wherever(operations: Vec<String>) -> Vec<String> {
    let elsewhere = |name: &String| {
        let program = name.strip_prefix("sandbox.exec:")?;
        let bare = !program.contains('/') && program.chars().any(|c| c != '*');
        bare.then(|| format!("sandbox.exec:*/{program}"))
    };
    operations
        .into_iter()
        .flat_map(|name| {
            let elsewhere = elsewhere(&name);
            std::iter::once(name).chain(elsewhere)
        })
        .collect()
}

/// The operations without their parts after the colon.
pub const OPERATIONS: &[&str] = &[
    "sandbox.exec",
    "fs.read",
    "fs.write",
    "http.get",
    "http.post",
    "http.put",
    "http.delete",
    "net.connect",
    "message.send",
    "message.publish",
    "memory.read",
    "memory.write",
    "model.call",
    "tool.call",
    "approval.request",
    "agent.spawn",
    "secret.read",
];

fn is_operation(name: &str) -> bool {
    OPERATIONS.contains(&name)
}

fn last_part(operation: &str) -> &str {
    operation.rsplit_once('.').map_or(operation, |(_, last)| last)
}

/// Whether a listed capability covers an operation: its name, its first part (`fs`), its last part
/// (`exec`), a synonym, a call of it, or a variant of `Capability`.
pub fn covers(capability: &str, operation: &str) -> bool {
    let (name, _) = operation.split_once(':').unwrap_or((operation, ""));
    let first = name.split_once('.').map_or(name, |(first, _)| first);
    match capability {
        "FileSystem" => return first == "fs",
        "Network" => return matches!(first, "http" | "net"),
        // Which tools reach a database is known where they are declared.
        "Database" => return false,
        _ => {}
    }
    capability == operation
        || capability == name
        || capability == first
        || capability == last_part(name)
        || meant_by(capability).iter().any(|glob| glob_covers(glob, operation))
}

/// Whether an operation glob covers an operation: `*` stands for any text, and a glob without a
/// part after the colon covers every such operation.
pub fn glob_covers(glob: &str, operation: &str) -> bool {
    let (name, _) = operation.split_once(':').unwrap_or((operation, ""));
    matches(glob, operation) || (!glob.contains(':') && matches(glob, name))
}

/// Whether `text` has the form `glob`, in time of at most the product of their lengths.
fn matches(glob: &str, text: &str) -> bool {
    let (glob, text) = (glob.as_bytes(), text.as_bytes());
    let (mut g, mut t) = (0, 0);
    // Where the last star was, and how much of the text it has taken.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if glob.get(g) == Some(&b'*') {
            star = Some((g, t));
            g += 1;
        } else if glob.get(g) == Some(&text[t]) {
            (g, t) = (g + 1, t + 1);
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            (g, t) = (at + 1, taken + 1);
        } else {
            return false;
        }
    }
    glob[g..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Texts<'a>(&'a [&'a str], &'a [(&'a str, &'a str)]);

    impl Arguments for Texts<'_> {
        fn slot(&self, index: usize) -> Option<Cow<'_, str>> {
            self.0.get(index).map(|text| Cow::Borrowed(*text))
        }

        fn option(&self, name: &str) -> Option<Cow<'_, str>> {
            self.1.iter().find(|(key, _)| *key == name).map(|(_, text)| Cow::Borrowed(*text))
        }
    }

    #[track_caller]
    fn check(name: &str, positional: &[&str], options: &[(&str, &str)], want: &str) {
        let got = operation(name, &Texts(positional, options));
        assert_eq!(format!("{} {:?}", got.names.join(" "), got.class), want);
    }

    #[test]
    fn calls_are_operations() {
        check("exec", &["tar"], &[], "sandbox.exec:tar NonRepeatable");
        check("exec", &[], &[], "sandbox.exec: NonRepeatable");
        check("fs.read", &["a/./b//c"], &[], "fs.read:/workspace/a/b/c Read");
        check("fs.list", &["/"], &[], "fs.read:/ Read");
        check("fs.remove", &["../x"], &[], "fs.write:/workspace/../x Checkable");
        check("send", &["bob", "t"], &[], "message.send:bob Idempotent");
        check("memory.set", &["k"], &[], "memory.write Recorded");
        check("reason", &["hello"], &[("model", "m")], "model.call:m Read");
        check("reason", &["hello"], &[], "model.call:default Read");
        check("read_logs", &["x"], &[], "tool.call:read_logs NonRepeatable");
        check("tool", &["x"], &[], "tool.call:x NonRepeatable");
        check("now", &[], &[], "now Recorded");
        let key = [("idempotency_key", "k")];
        check("http.post", &["http://a"], &key, "net.connect:a:80 http.post:http://a Idempotent");
        check(
            "http.request",
            &["http://a", "", "PUT"],
            &[],
            "net.connect:a:80 http.put:http://a NonRepeatable",
        );
    }

    #[test]
    fn every_governed_call_is_a_known_operation() {
        for call in HOST_CALLS.iter().filter(|call| call.governed && call.name != "http.request") {
            assert!(is_operation(call.operation), "{}", call.name);
        }
    }

    #[test]
    fn urls_lead_to_hosts() {
        for (url, want) in [
            ("https://Example.org/x?y", "net.connect:example.org:443"),
            ("http://a:8080", "net.connect:a:8080"),
            ("http://good.org@evil.org/", "net.connect::0"),
            ("http://evil.org\\@good.org/", "net.connect::0"),
            ("http://[::1]:80/", "net.connect:[::1]:80"),
            ("http://[::1]/", "net.connect:[::1]:80"),
            ("http://a:99999/", "net.connect::0"),
            ("file:///etc/passwd", "net.connect::0"),
            ("http://a\n.org/", "net.connect::0"),
            ("", "net.connect::0"),
        ] {
            assert_eq!(operation("http.get", &Texts(&[url], &[])).names[0], want, "{url:?}");
        }
    }

    #[test]
    fn names_mean_operations() {
        for (name, want) in [
            ("fs.read", "fs.read"),
            ("fs.list", "fs.read"),
            ("exec", "sandbox.exec"),
            ("fs", "fs.*"),
            ("read", "tool.call:read fs.read memory.read secret.read"),
            ("read_logs", "tool.call:read_logs"),
            ("network_access", "net.* http.*"),
            ("memory.get", "memory.read"),
            ("tool.call:git.*", "tool.call:git.*"),
            ("connect", "tool.call:connect net.connect"),
            ("net.connect", "net.connect"),
            ("net.connect:Example.org", "net.connect:example.org:*"),
            ("net.connect:example.org.", "net.connect:example.org:*"),
            ("net.connect:*.example.org", "net.connect:*.example.org:*"),
            ("net.connect:example.org:80", "net.connect:example.org:80"),
            ("net.connect:[::1]", "net.connect:[::1]:*"),
            ("net.connect:[::1]:80", "net.connect:[::1]:80"),
            ("net.connect:10.*", "net.connect:10.*"),
            ("http.GET", "http.get"),
            ("http.GET:HTTP://Example.org/A*", "http.get:http://example.org/A*"),
            ("http.patch:*", "http.patch:*"),
            ("exec:rm", "sandbox.exec:rm"),
            ("fs.list:/a", "fs.read:/a"),
            ("fs.read:a/./b", "fs.read:/workspace/a/b"),
            ("fs.read://etc//x*", "fs.read:/etc/x*"),
            ("fs.read:*", "fs.read:*"),
            ("file:/a", "fs.*:/a"),
            ("send:b", "message.send:b"),
            ("fs.delete:/a", "fs.delete:/a"),
        ] {
            assert_eq!(meant_by(name).join(" "), want, "{name}");
        }
    }

    #[test]
    fn capabilities_cover_operations() {
        for (capability, operation, want) in [
            ("fs", "fs.read:/a", true),
            ("fs.read", "fs.read:/a", true),
            ("fs.read", "fs.write:/a", false),
            ("FileSystem", "fs.write:/a", true),
            ("Network", "net.connect:a:80", true),
            ("http", "net.connect:a:80", true),
            ("http", "http.get:http://a", true),
            ("exec", "sandbox.exec:tar", true),
            ("shell", "sandbox.exec:tar", true),
            ("secrets", "secret.read:a", true),
            ("spawn", "agent.spawn:a", true),
            ("read_logs", "tool.call:read_logs", true),
            ("data_analysis", "fs.read:/a", false),
            ("Database", "fs.read:/a", false),
        ] {
            assert_eq!(covers(capability, operation), want, "{capability} {operation}");
        }
    }
}
