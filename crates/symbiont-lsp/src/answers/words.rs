//! The words that may stand in each place of a program, for completion.
//!
//! What each means is on its page of the reference; here is what to insert. `$1`, `${1:text}` and
//! `$0` are the places that a client with snippets walks through.

use symbiont_dsl::definition::setting_words;
use symbiont_dsl::docs::{self, Kind};
use symbiont_dsl::syntax::SyntaxKind;

/// A word, and what to insert for it where that is more than the word.
pub(super) struct Word {
    pub(super) word: &'static str,
    pub(super) snippet: &'static str,
}

const fn word(word: &'static str, snippet: &'static str) -> Word {
    Word { word, snippet }
}

/// What begins a declaration.
#[rustfmt::skip]
pub(super) const DECLARATIONS: &[Word] = &[
    word("agent",    "agent ${1:name}(${2:input}: ${3:String}) {\n    with sandbox = ${4:tier1}, timeout = ${5:30s} {\n        $0\n    }\n}"),
    word("function", "function ${1:name}(${2:value}: ${3:any}) -> ${4:any} {\n    $0\n}"),
    word("policy",   "policy ${1:name} {\n    allow: $0\n}"),
    word("type",     "type ${1:Name} = { ${2:field}: ${3:String} }$0"),
    word("schedule", "schedule ${1:name} { cron: \"${2:0 9 * * *}\", agent: ${3:agent} }$0"),
    word("channel",  "channel ${1:name} {\n    topic: \"${2:topic}\"\n    default_agent: ${3:agent}\n}$0"),
    word("memory",   "memory ${1:name} { $0 }"),
    word("webhook",  "webhook ${1:name} { path \"${2:/path}\" agent ${3:agent} }$0"),
    word("metadata", "metadata {\n    version = \"${1:1.0}\"\n    description = \"$2\"\n}$0"),
];

/// What begins an item of an agent.
#[rustfmt::skip]
pub(super) const ITEMS: &[Word] = &[
    word("capabilities", "capabilities = [$0]"),
    word("policy",       "policy ${1:name} {\n    allow: $0\n}"),
    word("use",          "use policy $0"),
    word("function",     "function ${1:name}(${2:value}: ${3:any}) -> ${4:any} {\n    $0\n}"),
    word("on",           "on ${1|message,start,stop|} {\n    $0\n}"),
    word("with",         "with sandbox = ${1:tier1}, timeout = ${2:30s} {\n    $0\n}"),
];

/// What begins a statement and no expression.
#[rustfmt::skip]
pub(super) const STATEMENTS: &[Word] = &[
    word("let",      "let ${1:name} = $0;"),
    word("for",      "for ${1:item} in ${2:items} {\n    $0\n}"),
    word("while",    "while ${1:condition} {\n    $0\n}"),
    word("try",      "try {\n    $1\n} catch (${2:e}) {\n    $0\n}"),
    word("return",   "return $0;"),
    word("break",    "break;"),
    word("continue", "continue;"),
];

/// What begins an expression.
#[rustfmt::skip]
pub(super) const EXPRESSIONS: &[Word] = &[
    word("if",    "if ${1:condition} {\n    $0\n}"),
    word("match", "match ${1:value} {\n    ${2:pattern} => $3,\n    _ => $0,\n}"),
    word("not",   "not $0"),
];

/// What is a value, or a pattern.
pub(super) const CONSTANTS: &[Word] = &[
    word("true", ""),
    word("false", ""),
    word("null", ""),
    word("None", ""),
    word("Some", "Some($0)"),
    word("Ok", "Ok($0)"),
    word("Err", "Err($0)"),
];

/// What begins a rule.
pub(super) const VERBS: &[Word] = &[
    word("allow", "allow: $0"),
    word("deny", "deny: $0"),
    word("require", "require: $0"),
    word("audit", "audit: $0"),
];

/// The events that an agent handles.
pub(super) const EVENTS: &[Word] = &[
    word("message", "message(${1:topic}, ${2:payload}) {\n    $0\n}"),
    word("start", "start {\n    $0\n}"),
    word("stop", "stop {\n    $0\n}"),
];

/// The types that everybody knows; those of several names under the first.
pub(super) const TYPES: &[Word] = &[
    word("String", ""),
    word("int", ""),
    word("float", ""),
    word("bool", ""),
    word("duration", ""),
    word("size", ""),
    word("bytes", ""),
    word("time", ""),
    word("any", ""),
    word("Array", "Array<${1:any}>$0"),
    word("Map", "Map<${1:String}, ${2:any}>$0"),
    word("Option", "Option<${1:any}>$0"),
    word("Result", "Result<${1:any}>$0"),
    word("JSON", ""),
];

/// The kinds of errors that programs catch by name.
pub(super) const ERROR_KINDS: &[&str] = &[
    "ArithmeticError",
    "TypeError",
    "IndexError",
    "KeyError",
    "ParseError",
    "LimitExceeded",
    "Timeout",
    "Cancelled",
    "PolicyDenied",
    "CapabilityDenied",
    "ApprovalDenied",
    "ToolNotFound",
    "SandboxError",
    "NetworkError",
    "MessageError",
    "ModelError",
    "TierUnavailable",
];

/// A block of keys: `with`, a declaration of settings, or a block inside one.
pub(super) struct Keys {
    /// The keyword or the key that opens it, which also names its page.
    pub(super) block: &'static str,
    pub(super) node: SyntaxKind,
    /// Each key with values to offer, where the table of the checker has none: [`values`] has both.
    pub(super) keys: &'static [(&'static str, &'static [&'static str])],
    pub(super) inner: &'static [&'static str],
}

/// What stands between two keys' names and values in each block.
#[rustfmt::skip]
pub(super) const KEYS: &[Keys] = &[
    Keys { block: "with", node: SyntaxKind::With, inner: &[], keys: &[
        ("sandbox", &["tier1", "tier2", "tier3", "docker", "gvisor", "firecracker"]),
        ("timeout", &["30s", "5m", "1h"]),
        ("max_memory_mb", &["256", "512", "1024"]),
        ("max_cpu_cores", &["0.5", "1", "2"]),
        ("memory", &["session", "persistent", "ephemeral"]),
        ("network_policy", &[]), ("security", &[]), ("privacy", &[]), ("concurrency", &[]), ("model", &[]),
    ] },
    Keys { block: "metadata", node: SyntaxKind::Metadata, inner: &[], keys: &[
        ("version", &[]), ("author", &[]), ("description", &[]), ("tags", &[]),
    ] },
    Keys { block: "schedule", node: SyntaxKind::Schedule, inner: &["input"], keys: &[
        ("cron", &[]), ("every", &["30s", "5m", "1h", "1d"]), ("at", &[]), ("timezone", &["\"UTC\""]), ("agent", &[]),
        ("gap", &[]), ("fold", &[]), ("overlap", &[]), ("catch_up", &[]), ("jitter", &["30s", "5m"]),
    ] },
    Keys { block: "channel", node: SyntaxKind::Channel, inner: &["data_classification"], keys: &[
        ("platform", &[]), ("workspace", &[]), ("channels", &[]), ("topic", &[]), ("default_agent", &[]),
        ("dlp_profile", &[]), ("audit_level", &[]), ("default_deny", &[]),
    ] },
    Keys { block: "memory", node: SyntaxKind::Memory, inner: &["search"], keys: &[
        ("store", &[]), ("path", &[]), ("retention", &["\"30d\"", "\"90d\""]),
    ] },
    Keys { block: "webhook", node: SyntaxKind::Webhook, inner: &["filter"], keys: &[
        ("path", &[]), ("provider", &[]), ("secret", &["vault://"]), ("agent", &[]),
    ] },
    Keys { block: "search", node: SyntaxKind::InnerBlock, inner: &[], keys: &[
        ("vector_weight", &["0.5"]), ("keyword_weight", &["0.5"]),
    ] },
    Keys { block: "filter", node: SyntaxKind::InnerBlock, inner: &[], keys: &[
        ("json_path", &[]), ("equals", &[]), ("contains", &[]),
    ] },
];

/// The keys of a block that is named by its keyword or key.
pub(super) fn keys(block: &str, node: SyntaxKind) -> Option<&'static Keys> {
    KEYS.iter().find(|keys| keys.node == node && keys.block == block)
}

/// The values of a key that can be listed: all that there are, or some that are often meant.
pub(super) fn values(keys: &Keys, key: &str) -> &'static [&'static str] {
    match setting_words(keys.block, key) {
        [] => keys.keys.iter().find(|(name, _)| *name == key).map_or(&[], |(_, values)| values),
        known => known,
    }
}

/// What the reference says of a key.
pub(super) fn key_docs(block: &str, key: &str) -> Option<&'static str> {
    docs::find(Kind::Keyword, block)?.item(key)
}
