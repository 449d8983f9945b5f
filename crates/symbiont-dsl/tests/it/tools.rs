//! Manifests and calls of tools: `test_data/tools/*.toml` beside `*.txt`.

use std::path::Path;

use proptest::prelude::*;
use symbiont_dsl::definition::check_with_tools;
use symbiont_dsl::diagnostic::render;
use symbiont_dsl::tools::{Given, Prepared, Request, Tool, Tools, gather, read};
use symbiont_dsl::value::{Value, from_json_text};

use super::{expect, files, name, programs};

/// What is said of a manifest, and what it is.
fn shown(source: &str, name: &str) -> String {
    let reading = read(source);
    let mut shown = render(&reading.diagnostics, source, name, false);
    if let Some(tool) = reading.tool {
        shown.push_str(&format!(
            "{tool}\n  {}\n  {}\n  {:?}, risk {}, {:?}, {} bytes, {:?}, capability {:?}\n",
            tool.description,
            tool.does(),
            tool.class,
            tool.risk,
            tool.timeout,
            tool.max_output,
            tool.output,
            tool.capability,
        ));
    }
    shown
}

#[test]
fn manifests_are_read_whole() {
    for (path, source) in files("tools", "toml") {
        expect(&path.with_extension("txt"), &shown(&source, &name(&path)));
    }
}

fn tool(source: &str) -> Tool {
    let reading = read(source);
    let shown = render(&reading.diagnostics, source, "tool.toml", false);
    reading.tool.unwrap_or_else(|| panic!("{shown}"))
}

/// What a call with these arguments does, in a line. The arguments are JSON: an array gives them in
/// order, an object by name.
fn call(tool: &Tool, arguments: &str) -> String {
    let arguments = from_json_text(arguments).expect("JSON");
    let given: Vec<Given<'_>> = match &arguments {
        Value::Array(items) => {
            items.iter().map(|value| Given { name: None, value: Some(value) }).collect()
        }
        Value::Map(map) => {
            map.iter().map(|(name, value)| Given { name: Some(name), value: Some(value) }).collect()
        }
        other => panic!("{other}"),
    };
    let done = tool.arguments(&given).and_then(|values| tool.prepare(&values));
    match done {
        Ok(Prepared::Exec { program, args, stdin }) => {
            let stdin = stdin.map(|text| format!(" < {text:?}")).unwrap_or_default();
            format!("{program} {args:?}{stdin}")
        }
        Ok(Prepared::Http(Request { method, url, headers, body })) => {
            let headers: Vec<_> =
                headers.iter().map(|(name, value)| format!(" {name}={value}")).collect();
            let body = body.map(|body| format!(" < {body}")).unwrap_or_default();
            format!("{method} {url}{}{body}", headers.concat())
        }
        Err(refusal) => {
            let nearest = refusal.nearest.map(|name| format!("; {name}?")).unwrap_or_default();
            format!("{}: {}{nearest}", refusal.kind, refusal.message)
        }
    }
}

#[track_caller]
fn check(tool: &Tool, cases: &[(&str, &str)]) {
    for (arguments, want) in cases {
        assert_eq!(call(tool, arguments), *want, "{arguments}");
    }
}

#[test]
fn what_begins_an_argument_is_what_is_not_empty() {
    let manifest = |dash: &str| {
        format!(
            "name = \"words\"\ndescription = \"d\"\nrisk = \"low\"\n\
             [[parameters]]\nname = \"q\"\ntype = \"string\"\n{dash}\
             [[parameters]]\nname = \"r\"\ntype = \"string\"\n\
             [exec]\ncommand = [\"echo\", \"{{q}}{{r}}\"]\n"
        )
    };
    let refused =
        |name: &str| format!("ToolArgumentError: `words`: `{name}` may not begin with `-`");
    check(
        &tool(&manifest("")),
        &[
            ("[\"\", \"a\"]", "echo [\"a\"]"),
            ("[\"a\", \"-b\"]", "echo [\"a-b\"]"),
            ("[\"\", \"-b\"]", &refused("r")),
            ("[\"-a\", \"\"]", &refused("q")),
        ],
    );
    check(
        &tool(&manifest("allow_leading_dash = true\n")),
        &[("[\"-a\", \"\"]", "echo [\"-a\"]"), ("[\"\", \"-b\"]", &refused("r"))],
    );
}

#[test]
fn patterns_match_the_whole() {
    for (pattern, fits, unfit) in [
        ("a|ab", "ab", "abc"),
        ("(?x) a+ # some letters", "aa", "aab"),
        ("(?x) a+ # (", "aa", "a\n"),
        ("(?i)a", "A", "AB"),
        ("(?m)^a$", "a", "a\na"),
        ("a\\n", "a\n", "a"),
    ] {
        let source = format!(
            "name = \"words\"\ndescription = \"d\"\nrisk = \"low\"\n[[parameters]]\nname = \"q\"\n\
             type = \"string\"\npattern = '''{pattern}'''\n[exec]\ncommand = [\"echo\", \"{{q}}\"]\n"
        );
        let tool = tool(&source);
        for (text, want) in [(fits, true), (unfit, false)] {
            let value = Value::from(text);
            let taken = tool.arguments(&[Given { name: None, value: Some(&value) }]);
            assert_eq!(taken.is_ok(), want, "{pattern}: {taken:?}");
            if let Err(refusal) = taken {
                assert!(refusal.message.contains(&format!("`{pattern}`")), "{}", refusal.message);
            }
        }
    }
}

const GREP: &str = r#"
name = "grep"
description = "Lines that match."
effect = "read"
risk = "low"
[[parameters]]
name = "pattern"
type = "string"
max_length = 10
[[parameters]]
name = "files"
type = "array<string>"
max_items = 2
[[parameters]]
name = "context"
type = "int"
required = false
min = 0
max = 9
[[parameters]]
name = "input"
type = "string"
default = ""
[[parameters]]
name = "mode"
type = "enum"
allowed = ["fixed", "extended"]
required = false
[exec]
command = ["grep", "--{mode}", ["-C", "{context}"], "-e{pattern}", "{{}}", "{files}"]
stdin = "{input}"
"#;

#[test]
fn a_value_stays_in_its_argument() {
    check(
        &tool(GREP),
        &[
            (
                r#"["a b; rm -rf /", ["x"]]"#,
                "ToolArgumentError: `grep` takes 0 to 10 characters as `pattern`",
            ),
            (r#"["$(x) 'y'", ["f"]]"#, r#"grep ["-e$(x) 'y'", "{}", "f"] < """#),
            (r#"["--x", ["a b", "c"], 2]"#, r#"grep ["-C", "2", "-e--x", "{}", "a b", "c"] < """#),
            (r#"["x", []]"#, r#"grep ["-ex", "{}"] < """#),
            (
                r#"{"files":["f"],"pattern":"x","mode":"fixed","input":"{files}"}"#,
                r#"grep ["--fixed", "-ex", "{}", "f"] < "{files}""#,
            ),
            (r#"["x", ["-f"]]"#, "ToolArgumentError: `grep`: `files` may not begin with `-`"),
            (
                r#"["x", ["a", "b", "c"]]"#,
                "ToolArgumentError: `grep` takes 0 to 2 elements and not 3 as `files`",
            ),
            (r#"["x", "f"]"#, "TypeError: `grep` takes an array<string> and no string as `files`"),
            (r#"["x", [1]]"#, "TypeError: `grep` takes a string and no int as `files`"),
            (
                r#"["x", ["f"], 10]"#,
                "ToolArgumentError: `grep` takes 0 to 9 and not 10 as `context`",
            ),
            (r#"["x", ["f"], 1.0]"#, "TypeError: `grep` takes an int and no float as `context`"),
            (
                r#"["x", ["f"], null, null, "perl"]"#,
                "ToolArgumentError: `grep` takes `fixed`, `extended` and not `perl` as `mode`",
            ),
            (
                r#"["x"]"#,
                "TypeError: a call is `grep(pattern: string, files: array<string>, context: int?, input: string = \"\", mode: string?)`, and this one has no `files`",
            ),
            (
                r#"{"pattern":"x","file":["f"]}"#,
                "TypeError: `grep` has no parameter `file`; files?",
            ),
            (
                "[1,2,3,4,5,6]",
                "TypeError: a call is `grep(pattern: string, files: array<string>, context: int?, input: string = \"\", mode: string?)`, and this one has more arguments",
            ),
            (
                "[\"x\", [\"a\\u0000b\"]]",
                "ToolArgumentError: `grep`: an argument of a command can't hold a NUL character",
            ),
        ],
    );
}

const HTTP: &str = r#"
name = "issues"
description = "Opens an issue."
risk = "medium"
[[parameters]]
name = "owner"
type = "string"
pattern = "[^@]*"
[[parameters]]
name = "title"
type = "string"
[[parameters]]
name = "labels"
type = "array<string>"
required = false
[[parameters]]
name = "weight"
type = "float"
required = false
min = 0
[http]
method = "POST"
url = "https://API.example.org:443/repos/{owner}/x-{title}"
query = { label = "{labels}", q = "a {title}" }
headers = { accept = "application/json", x-title = "{title}" }
json = { title = "{title}!", labels = "{labels}", weight = "{weight}", nested = ["{owner}", 1, true] }
"#;

#[test]
fn a_value_stays_in_its_component() {
    check(
        &tool(HTTP),
        &[
            (
                r#"["a/../b", "t?&=#"]"#,
                "POST https://api.example.org/repos/a%2F..%2Fb/x-t%3F%26%3D%23?q=a%20t%3F%26%3D%23 accept=application/json x-title=t?&=# content-type=application/json < {\"nested\":[\"a/../b\",1,true],\"title\":\"t?&=#!\"}",
            ),
            (
                r#"["a", "t", ["l 1", "l2"], 3]"#,
                "POST https://api.example.org/repos/a/x-t?label=l%201&label=l2&q=a%20t accept=application/json x-title=t content-type=application/json < {\"labels\":[\"l 1\",\"l2\"],\"nested\":[\"a\",1,true],\"title\":\"t!\",\"weight\":3.0}",
            ),
            (
                r#"["..", "t"]"#,
                "ToolArgumentError: `issues`: a part of the path can't be empty, `.` or `..`",
            ),
            (
                r#"["", "t"]"#,
                "ToolArgumentError: `issues`: a part of the path can't be empty, `.` or `..`",
            ),
            (
                r#"["a", "t\r\nhost: evil"]"#,
                "ToolArgumentError: `issues`: the header `x-title` holds visible ASCII only",
            ),
            (
                r#"["x@evil.org", "t"]"#,
                "ToolArgumentError: `issues` takes what matches `[^@]*` and not `x@evil.org` as `owner`",
            ),
            (
                r#"["a", "t", [], -0.5]"#,
                "ToolArgumentError: `issues` takes at least 0 and not -0.5 as `weight`",
            ),
        ],
    );
}

/// The tools of the repository.
fn shipped() -> Tools {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools");
    let entries = std::fs::read_dir(folder).expect("the tools");
    let sources: Vec<String> = entries
        .map(|entry| std::fs::read_to_string(entry.expect("an entry").path()).expect("text"))
        .collect();
    let gathered = gather(sources.iter().map(String::as_str));
    assert!(gathered.diagnostics.iter().all(Vec::is_empty), "{:?}", gathered.diagnostics);
    gathered.tools
}

/// Calls of tools in programs, against the tools of the repository.
#[test]
fn calls_are_checked_against_manifests() {
    let tools = shipped();
    for (path, source) in programs("tools") {
        let checked = check_with_tools(&source, &tools);
        let shown = render(&checked.diagnostics, &source, &name(&path), false);
        expect(&path.with_extension("calls.txt"), &shown);
    }
}

#[test]
fn two_tools_of_one_name_are_none() {
    let gathered = gather([GREP, HTTP, GREP]);
    assert!(gathered.has_errors());
    let counts: Vec<usize> = gathered.diagnostics.iter().map(Vec::len).collect();
    assert_eq!((counts, gathered.tools.len()), (vec![0, 0, 1], 2));
    assert_eq!(gathered.tools.nearest("greb"), Some("grep"));
    assert!(Tools::new([tool(GREP), tool(GREP)]).is_err());
}

/// The manifests of the page about them are manifests.
#[test]
fn the_page_s_manifests_are_tools() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/tools.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let mut seen = 0;
    let mut sources = Vec::new();
    for block in page.split("```toml\n").skip(1) {
        let (source, _) = block.split_once("```").expect("it ends");
        seen += 1;
        let reading = read(source);
        let shown = render(&reading.diagnostics, source, "docs/tools.md", false);
        assert!(shown.is_empty() && reading.tool.is_some(), "{shown}");
        sources.push(source);
    }
    assert!(seen >= 2, "the page has its manifests");
    let tools = gather(sources).tools;
    for block in page.split("```symbi\n").skip(1) {
        let (source, _) = block.split_once("```").expect("it ends");
        let checked = check_with_tools(source, &tools);
        assert!(checked.diagnostics.is_empty(), "{:?}", checked.diagnostics);
    }
}

proptest! {
    /// Whatever a value is, the command has the arguments that the template gives it.
    #[test]
    fn no_value_makes_another_argument(pattern in "[^\0]{0,10}", file in "[^-\0].{0,8}") {
        prop_assume!(!file.contains('\0'));
        let tool = tool(GREP);
        let (pattern_value, files) =
            (Value::from(pattern.clone()), Value::array([Value::from(file.clone())]));
        let given = [&pattern_value, &files].map(|value| Given { name: None, value: Some(value) });
        let values = tool.arguments(&given).unwrap();
        let Ok(Prepared::Exec { args, .. }) = tool.prepare(&values) else { panic!("it is fit") };
        prop_assert_eq!(args, vec![format!("-e{pattern}"), "{}".to_owned(), file]);
    }

    /// Whatever a value is, the URL leads where the manifest says, by the parts that it says.
    #[test]
    fn no_value_leads_elsewhere(owner in "[^@]{1,12}", title in "[ -~]{0,12}") {
        let tool = tool(HTTP);
        let (owner, title) = (Value::from(owner), Value::from(title));
        let given = [&owner, &title].map(|value| Given { name: None, value: Some(value) });
        let Ok(values) = tool.arguments(&given) else { return Ok(()) };
        if let Ok(Prepared::Http(request)) = tool.prepare(&values) {
            prop_assert_eq!(&request.url.host, "api.example.org");
            let (path, query) = request.url.target.split_once('?').unwrap();
            prop_assert_eq!(path.matches('/').count(), 3);
            prop_assert_eq!(query.matches(['&', '=']).count(), 1);
        }
    }

    /// Nothing that stands in a manifest brings the reader down.
    #[test]
    fn any_text_is_a_manifest_or_not(at in 0..GREP.len(), text in "[\\[\\]{}=\"'\n#a-z0-9.,-]{0,6}") {
        let mut source = GREP.to_owned();
        source.insert_str(at, &text);
        let reading = read(&source);
        prop_assert!(reading.tool.is_some() || !reading.diagnostics.is_empty());
        render(&reading.diagnostics, &source, "x", false);
    }
}
