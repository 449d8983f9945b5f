//! `symbiont explain`: what a code of a diagnostic means, and how to mend what gave it; and the pages of
//! the reference.

use serde_json::{Value, json};
use symbiont_dsl::diagnostic::codes::{Page, nearest_code, page, pages};
use symbiont_dsl::docs;

use crate::screen::{self, BAD, BOLD, CARE, NAME, styled};
use crate::{Exit, Failure, Output, text};

const EXAMPLES: &str = "\
Examples:
  symbiont explain W0307
  symbiont explain 307
  symbiont explain split
  symbiont explain

Exit codes:
  0  explained
  2  there is no such code or name";

/// Explains the codes that `check` names, and the names of the language.
///
/// The page of a code says what it means, shows a program that gives it, and the same program mended. Every
/// builtin, method, host call and keyword has a page too.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The code, such as `E0101`, whose letter and zeros may be left out, or a name, such as `fs.read`.
    /// Without one all codes are listed.
    code: Option<String>,
    /// `text` for people; `json` for an object with `code`, `severity`, `title`, `text` and
    /// `examples`, or an array of them; of a name an array of objects with `name`, `of` and `text`.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let (shown, value) = match &arguments.code {
        None => (list(), pages().iter().map(as_json).collect()),
        Some(code) => match page(code) {
            Some(page) => (shown(page), as_json(page)),
            None => named(code).ok_or_else(|| unknown(code))?,
        },
    };
    match arguments.output {
        Output::Text => screen::report(&shown)?,
        Output::Json => screen::result(format!("{value}\n").as_bytes())?,
    }
    Ok(Exit::Success)
}

/// What the reference says of a name, for people and as JSON.
pub(crate) fn named(name: &str) -> Option<(String, Value)> {
    let pages: Vec<_> = docs::named(name).collect();
    let shown: Vec<String> = pages.iter().map(|page| markdown(page.text)).collect();
    let value = pages
        .iter()
        .map(|page| json!({ "name": page.name, "of": page.receiver, "text": page.text }))
        .collect();
    (!pages.is_empty()).then(|| (shown.join("\n"), value))
}

fn unknown(code: &str) -> Failure {
    let failure = Failure::usage(format!("there is no code or name `{}`", text::short(code, 40)));
    failure.help(match nearest_code(code) {
        Some(meant) => format!("did you mean `{meant}`? `symbiont explain` lists all codes"),
        None => "`symbiont explain` lists all codes".to_owned(),
    })
}

/// `error` or `warning`, and how it is shown.
fn severity(page: &Page) -> (&'static str, anstyle::Style) {
    match page.code.starts_with('E') {
        true => ("error", BAD),
        false => ("warning", CARE),
    }
}

fn as_json(page: &Page) -> Value {
    json!({
        "code": page.code,
        "severity": severity(page).0,
        "title": page.title(),
        "text": page.text,
        "examples": page.examples().collect::<Vec<_>>(),
    })
}

fn list() -> String {
    let mut out = String::new();
    for page in pages() {
        let code = styled(severity(page).1, page.code);
        out.push_str(&format!("{code}  {}\n", page.title()));
    }
    out
}

fn shown(page: &Page) -> String {
    let (word, style) = severity(page);
    let head = styled(style, &format!("{word}[{}]", page.code));
    let title = styled(BOLD, &format!(": {}", page.title()));
    format!("{head}{title}\n\n{}", markdown(page.body()))
}

/// How wide prose is shown.
const WIDTH: usize = 80;

/// Markdown for a terminal: prose in lines of a readable width, programs and tables set in.
///
/// What pages are written in is understood: paragraphs, items that begin with `- `, tables, and
/// programs between fences.
fn markdown(text: &str) -> String {
    let mut out = String::new();
    let mut prose = String::new();
    let mut table: Vec<Vec<String>> = Vec::new();
    let mut in_program = false;
    for line in text.lines().chain([""]) {
        let fence = line.starts_with("```");
        if !line.starts_with('|') || in_program {
            out.push_str(&columns(&std::mem::take(&mut table)));
        }
        if fence || line.is_empty() || line.starts_with("- ") || line.starts_with('|') {
            out.push_str(&wrapped(&std::mem::take(&mut prose)));
        }
        match line {
            _ if fence => in_program = !in_program,
            line if in_program && line.is_empty() => out.push('\n'),
            line if in_program => out.push_str(&format!("    {}\n", styled(NAME, line))),
            line if line.starts_with('|') => table.extend(cells(line)),
            "" => out.push('\n'),
            line => {
                prose.push_str(line.trim_start());
                prose.push(' ');
            }
        }
    }
    format!("{}\n", out.trim_end())
}

/// A paragraph or an item in lines of [`WIDTH`].
fn wrapped(prose: &str) -> String {
    let margin = if prose.starts_with("- ") { "\n  " } else { "\n" };
    let mut out = String::new();
    let mut width = 0;
    for word in prose.split_whitespace() {
        let length = word.chars().count();
        if width > 0 && width + 1 + length > WIDTH {
            out.push_str(margin);
            width = margin.len() - 1;
        } else if width > 0 {
            out.push(' ');
            width += 1;
        }
        out.push_str(word);
        width += length;
    }
    if !out.is_empty() {
        out.push('\n');
    }
    out
}

/// The cells of a row of a table; `None` of the line below its head.
fn cells(line: &str) -> Option<Vec<String>> {
    const ESCAPED: char = '\u{0}';
    let line = line.replace("\\|", &ESCAPED.to_string());
    let inner = line.trim().trim_matches('|');
    let cell = |cell: &str| cell.trim().replace(ESCAPED, "|");
    (!inner.starts_with("---")).then(|| inner.split('|').map(cell).collect())
}

/// The rows of a table, its columns one below the other.
fn columns(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let of_row = |row: &Vec<String>| row.get(column).map_or(0, |cell| cell.chars().count());
        rows.iter().map(of_row).max().unwrap_or(0)
    };
    let mut out = String::new();
    for (at, row) in rows.iter().enumerate() {
        let line: String = (row.iter().enumerate())
            .map(|(column, cell)| format!("    {cell:0$}", width(column)))
            .collect();
        let line = line.trim_end();
        out.push_str(&if at == 0 { styled(BOLD, line) } else { line.to_owned() });
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::markdown;

    #[test]
    fn pages_fit_into_a_terminal() {
        let text = format!(
            "One {}\nend.\n\n- an item\n  of two lines\n- {}\n\n| a | b |\n|---|---|\n| `x \\| y` | z |\n\n```symbi\nagent a {{\n\n}}\n```\n",
            "word ".repeat(20),
            "item ".repeat(20)
        );
        let plain = anstream::adapter::strip_str(&markdown(&text)).to_string();
        assert_eq!(
            plain,
            format!(
                "One {}word\n{}end.\n\n- an item of two lines\n- {}item\n  {}item\n\n    a          b\n    `x | y`    z\n\n    agent a {{\n\n    }}\n",
                "word ".repeat(14),
                "word ".repeat(5),
                "item ".repeat(14),
                "item ".repeat(4),
            )
        );
    }
}
