//! The reference says what is there, and its examples give what they say.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use symbiont_dsl::definition::check;
use symbiont_dsl::diagnostic::{Severity, render};
use symbiont_dsl::docs::{self, Kind, Page};
use symbiont_dsl::machine::{Entry, compile};
use symbiont_dsl::operations;
use symbiont_dsl::syntax::parse;
use symbiont_dsl::value::{from_json_text, to_json_text};

use super::expect;
use super::world::{Answer, World};

/// The fenced blocks of a text whose fence says `language`, each with the number of its first line.
pub(crate) fn blocks<'t>(text: &'t str, language: &str) -> Vec<(usize, Vec<&'t str>)> {
    let mut blocks = Vec::new();
    let mut open: Option<(bool, usize, Vec<&str>)> = None;
    for (number, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(fence)) => open = Some((fence == language, number + 2, Vec::new())),
            (Some(_), Some(_)) => {
                let (wanted, number, lines) = open.take().expect("it is open");
                if wanted {
                    blocks.push((number, lines));
                }
            }
            (Some((.., lines)), None) => lines.push(line),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a fence is not closed");
    blocks
}

/// What a body comes to. What stands before a line `---` is outside of the agent.
fn value(body: &str) -> Result<Answer, String> {
    let (outside, body) = body.split_once("---\n").unwrap_or(("", body));
    let source = format!("{outside}\nagent example {{ with {{\n{body}\n}} }}");
    let parsed = parse(&source);
    let errors: Vec<_> =
        parsed.diagnostics.into_iter().filter(|found| found.severity == Severity::Error).collect();
    if !errors.is_empty() {
        return Err(render(&errors, &source, "example", false));
    }
    let code = compile(&parsed.program, 0).map_err(|error| format!("{source}\n{error}"))?;
    let ambient = vec![("user".to_owned(), "ann".into())];
    Ok(World::new().run(Arc::new(code), Entry::With, vec![], ambient))
}

/// Runs a block of examples: of each line with `// =>`, what stands before it gives what stands
/// behind, as JSON or as `! Kind` of an error. A line that fails is left out of what follows.
pub(crate) fn examples(lines: &[&str]) -> Result<usize, String> {
    let (mut so_far, mut count) = (String::new(), 0);
    for line in lines {
        let Some((code, want)) = line.split_once("// =>") else {
            so_far += line;
            so_far.push('\n');
            continue;
        };
        count += 1;
        let (code, want) = (code.trim_end(), want.trim());
        let got = value(&format!("{so_far}{code}"))?;
        let fits = match (&got, want.strip_prefix("! ")) {
            (Err(error), Some(kind)) => &*error.kind == kind,
            (Ok(got), None) => {
                let json = |value| to_json_text(value, 1 << 20).expect("JSON");
                let want = from_json_text(want).map_err(|error| format!("{line}: {error}"))?;
                json(got) == json(&want)
            }
            _ => false,
        };
        if !fits {
            let got = match &got {
                Ok(value) => to_json_text(value, 1 << 20).expect("JSON"),
                Err(error) => format!("! {error}"),
            };
            return Err(format!("{line}\n  gives {got}"));
        }
        if got.is_ok() {
            so_far += code;
            so_far += if code.ends_with([';', '}']) { "\n" } else { ";\n" };
        }
    }
    Ok(count)
}

fn title(page: &Page) -> String {
    format!("{:?} {} {}", page.kind, page.receiver, page.name)
}

#[test]
fn every_example_gives_what_it_says() {
    let mut faults = String::new();
    for page in docs::all() {
        for (number, lines) in blocks(page.text, "symbi") {
            match examples(&lines) {
                // A block without results is a program or a part of one, and checks.
                Ok(0) => {
                    let source = lines.join("\n");
                    let checked = check(&source);
                    if checked.program.is_none() {
                        faults += &render(&checked.diagnostics, &source, &title(page), false);
                    }
                }
                Ok(_) => {}
                Err(fault) => faults += &format!("{}, line {number}: {fault}\n", title(page)),
            }
        }
    }
    assert!(faults.is_empty(), "{faults}");
}

#[test]
fn pages_have_one_form() {
    let mut seen = BTreeSet::new();
    for page in docs::all() {
        let title = title(page);
        assert!(seen.insert(title.clone()), "{title} is there twice");
        assert!(page.text.starts_with('`'), "{title} begins with its signature");
        assert!(page.signature().len() < 120, "{title}: {}", page.signature());
        assert!(page.summary().ends_with(['.', ':']), "{title}: {}", page.summary());
        assert!(page.text.contains("```symbi\n"), "{title} has no example");
        assert!(page.text.ends_with('\n') && !page.text.ends_with("\n\n"), "{title}");
        let named = match page.kind {
            Kind::Method => page.signature().contains(&format!(".{}(", page.name)),
            Kind::Builtin | Kind::Call => page.signature().starts_with(&format!("{}(", page.name)),
            Kind::Keyword => page.signature().contains(page.name),
        };
        assert!(named, "{title}: {}", page.signature());
        let found = match page.kind {
            Kind::Method => docs::method(page.receiver, page.name),
            kind => docs::find(kind, page.name),
        };
        assert_eq!(found, Some(page));
    }
}

#[test]
fn every_builtin_and_every_call_has_a_page() {
    let pages = |kind| -> BTreeSet<&str> {
        docs::all().iter().filter(|page| page.kind == kind).map(|page| page.name).collect()
    };
    assert_eq!(pages(Kind::Builtin), operations::BUILTINS.iter().copied().collect());
    assert_eq!(pages(Kind::Call), operations::host_calls().collect());
}

/// The language's page: its examples hold, and its tables say what the data says.
#[test]
fn the_page_of_the_language_holds() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/language.md");
    let text = std::fs::read_to_string(&path).expect("there is a page");
    let mut faults = String::new();
    let all = blocks(&text, "symbi");
    assert!(all.len() > 5);
    for (number, lines) in &all {
        match examples(lines) {
            Ok(0) => {
                let source = lines.join("\n");
                let checked = check(&source);
                faults += &render(&checked.diagnostics, &source, &format!("line {number}"), false);
            }
            Ok(_) => {}
            Err(fault) => faults += &format!("the block at line {number}: {fault}\n"),
        }
    }
    assert!(faults.is_empty(), "{faults}");
    let mut written = text;
    for (name, table) in [
        ("builtins", pages_table(Kind::Builtin)),
        ("methods", methods_table()),
        ("calls", pages_table(Kind::Call)),
        ("synonyms", synonyms_table()),
    ] {
        let (open, close) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
        let (before, rest) = written.split_once(&open).expect("there is a place for the table");
        let (_, after) = rest.split_once(&close).expect("its place ends");
        written = format!("{before}{open}{table}{close}{after}");
    }
    expect(&path, &written);
}

fn row(cells: [&str; 2]) -> String {
    format!("| {} | {} |\n", cells[0].replace('|', "\\|"), cells[1].replace('|', "\\|"))
}

fn pages_table(kind: Kind) -> String {
    let pages = docs::all().iter().filter(|page| page.kind == kind);
    let rows = pages.map(|page| row([page.signatures(), page.summary()]));
    format!("| call | what it does |\n|---|---|\n{}", rows.collect::<String>())
}

fn methods_table() -> String {
    let mut rows: Vec<(&str, Vec<String>)> = Vec::new();
    for page in docs::all().iter().filter(|page| page.kind == Kind::Method) {
        let name = format!("`{}`", page.name);
        match rows.last_mut() {
            Some((receiver, names)) if *receiver == page.receiver => names.push(name),
            _ => rows.push((page.receiver, vec![name])),
        }
    }
    let rows = rows.into_iter().map(|(receiver, names)| row([receiver, &names.join(" ")]));
    format!("| of | methods |\n|---|---|\n{}", rows.collect::<String>())
}

fn synonyms_table() -> String {
    let rows = operations::SYNONYMS.iter().map(|(name, meanings)| {
        let meanings: Vec<String> = meanings.iter().map(|glob| format!("`{glob}`")).collect();
        row([&format!("`{name}`"), &meanings.join(" ")])
    });
    format!("| name | means |\n|---|---|\n{}", rows.collect::<String>())
}
