//! `symbiont fmt`: programs in their one form.
//!
//! # What holds
//!
//! - A file is replaced whole or not at all, and keeps its permissions; a link stays one, and what
//!   it leads to is replaced.
//! - Nothing is written where a program has syntax errors, where it has its one form already, or with
//!   `--check`.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use symbiont_dsl::definition::{SourceKind, classify};
use symbiont_dsl::diagnostic::{render, to_json};
use symbiont_dsl::format::{edits, format};

use crate::run::{read, source_from_stdin};
use crate::screen::{self, BAD, BOLD, CARE, GOOD, styled};
use crate::{Exit, Failure, Output, text};

const EXAMPLES: &str = "\
Examples:
  symbiont fmt --check agents
  symbiont fmt - < agents/primes.symbi

Exit codes:
  0  every program has its one form now; with --check, had it before
  1  some program has syntax errors, could not be written, or, with --check, would change
  2  a file can't be read";

/// Lines that are shown of what would change in a file.
const MOST_SHOWN: usize = 60;

/// Formats programs, in place.
///
/// There is one form and no options: it keeps every comment and the program's meaning. A program
/// with syntax errors is left as it is, and its errors are told.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Programs, and folders in which all `.symbi` and `.dsl` files are meant; `-` reads a program
    /// from standard input and writes it to standard output.
    #[arg(required_unless_present = "stdin")]
    files: Vec<PathBuf>,
    /// The same as `-`.
    #[arg(long, conflicts_with = "files")]
    stdin: bool,
    /// Write nothing: show what would change, and exit with 1 if anything would.
    #[arg(long)]
    check: bool,
    /// `text` for people; `json` for an object with `files`, `changed`, `errors`, `instructions` and
    /// `diagnostics`.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// What became of all files.
#[derive(Default)]
struct Report {
    files: u64,
    errors: u64,
    /// Those that have changed, or would.
    changed: Vec<String>,
    /// The files that are no programs, but instructions in plain words.
    instructions: Vec<String>,
    /// For people.
    rendered: String,
    /// For programs.
    diagnostics: Vec<Value>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    if arguments.stdin || arguments.files.iter().any(|file| file.as_os_str() == "-") {
        if arguments.files.len() > 1 {
            return Err(Failure::usage("`-` stands alone: its program goes to standard output"));
        }
        return standard_input(arguments);
    }
    let mut report = Report::default();
    let mut failed = None;
    let mut fail = |failure: Failure| {
        screen::say(&failure);
        failed = Some(failed.map_or(failure.exit, |exit: Exit| exit.max(failure.exit)));
    };
    for given in &arguments.files {
        // The other files are looked at all the same.
        match programs(given) {
            Err(failure) => fail(failure),
            Ok(paths) => {
                for path in paths {
                    if let Err(failure) = report.file(&path, arguments.check) {
                        fail(failure);
                    }
                }
            }
        }
    }
    if report.files > 0 {
        report.show(arguments)?;
    }
    Ok(failed.unwrap_or(report.exit(arguments.check)))
}

fn standard_input(arguments: &Arguments) -> Result<Exit, Failure> {
    let source = source_from_stdin()?;
    let mut report = Report::default();
    let formatted = report.formatted(&source, "standard input", arguments.check);
    if arguments.check {
        report.show(arguments)?;
    } else if arguments.output == Output::Json {
        return Err(Failure::usage("`-o json` tells of files, or of what `--check` finds"));
    } else {
        screen::tell(&report.rendered);
        // What is no program goes through as it is; what has errors does not.
        if report.errors == 0 {
            screen::result(formatted.unwrap_or(source).as_bytes())?;
        }
    }
    Ok(report.exit(arguments.check))
}

/// The programs that are meant by a path: the file, or what is in the folder, in order.
fn programs(given: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |path: &Path, error: io::Error| {
        Failure::usage(format!("`{}` can't be read: {error}", path.display()))
    };
    if !given.is_dir() {
        return Ok(vec![given.to_owned()]);
    }
    let (mut folders, mut found) = (vec![given.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).map_err(|error| unreadable(&folder, error))?;
        for entry in entries {
            let entry = entry.map_err(|error| unreadable(&folder, error))?;
            // A link is not followed: it may lead out of the folder, or in a circle.
            let kind = entry.file_type().map_err(|error| unreadable(&entry.path(), error))?;
            let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            let path = entry.path();
            let program = path.extension().is_some_and(|end| end == "symbi" || end == "dsl");
            if kind.is_dir() && !hidden {
                folders.push(path);
            } else if kind.is_file() && program {
                found.push(path);
            }
        }
    }
    found.sort();
    if found.is_empty() {
        let message = format!("`{}` has no `.symbi` or `.dsl` files", given.display());
        return Err(Failure::usage(message));
    }
    Ok(found)
}

impl Report {
    /// Formats a file, or looks at what that would change.
    fn file(&mut self, path: &Path, check: bool) -> Result<(), Failure> {
        let source = read(path)?;
        let name = text::line(&path.display().to_string());
        if let Some(formatted) = self.formatted(&source, &name, check)
            && formatted != source
            && !check
        {
            replace(path, &formatted).map_err(|error| {
                self.changed.pop();
                Failure::failed(format!("`{}` could not be written: {error}", path.display()))
            })?;
            self.rendered.push_str(&format!("{name}\n"));
        }
        Ok(())
    }

    /// The one form of a source, if it has one. What there is to say about it is noted.
    fn formatted(&mut self, source: &str, name: &str, check: bool) -> Option<String> {
        self.files += 1;
        if classify(source) == SourceKind::Instruction {
            let note = styled(CARE, "note");
            let words = "is an instruction in plain words, not a program: it is left as it is";
            self.rendered.push_str(&format!("{note}: `{name}` {words}\n"));
            self.instructions.push(name.to_owned());
            return None;
        }
        match format(source) {
            Ok(formatted) => {
                if formatted != source {
                    self.changed.push(name.to_owned());
                    if check {
                        self.rendered.push_str(&difference(source, &formatted, name));
                    }
                }
                Some(formatted)
            }
            Err(errors) => {
                self.errors += errors.len() as u64;
                self.rendered.push_str(&render(&errors, source, name, true));
                self.rendered.push('\n');
                if let Value::Array(all) = to_json(&errors, source, name) {
                    self.diagnostics.extend(all);
                }
                None
            }
        }
    }

    fn exit(&self, check: bool) -> Exit {
        match self.errors > 0 || (check && !self.changed.is_empty()) {
            true => Exit::Failed,
            false => Exit::Success,
        }
    }

    fn show(&self, arguments: &Arguments) -> Result<(), Failure> {
        if arguments.output == Output::Json {
            let json = json!({
                "files": self.files,
                "changed": self.changed,
                "errors": self.errors,
                "instructions": self.instructions,
                "diagnostics": self.diagnostics,
            });
            return screen::result(format!("{json}\n").as_bytes());
        }
        let style = match (self.errors, self.changed.len()) {
            (0, 0) => GOOD,
            (0, _) => CARE,
            (_, _) => BAD,
        };
        let changed = match (self.changed.len(), arguments.check) {
            (0, _) => "nothing to change".to_owned(),
            (count, false) => format!("{count} changed"),
            (count, true) => format!("{count} would change"),
        };
        let errors = match self.errors {
            0 => String::new(),
            errors => format!(", {}", text::counted(errors, "error")),
        };
        let summary = format!("{}: {changed}{errors}", text::counted(self.files, "file"));
        screen::report(&format!("{}{}\n", self.rendered, styled(style, &summary)))
    }
}

/// Puts `content` in the place of the file's own, at once.
fn replace(path: &Path, content: &str) -> io::Result<()> {
    let path = path.canonicalize()?;
    let permissions = std::fs::metadata(&path)?.permissions();
    if permissions.readonly() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is read-only"));
    }
    // Beside it, since a file moves at once only within its file system.
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::Builder::new().prefix(".symbiont-fmt-").tempfile_in(folder)?;
    file.write_all(content.as_bytes())?;
    file.as_file().set_permissions(permissions)?;
    file.as_file().sync_all()?;
    file.persist(&path)?;
    Ok(())
}

/// The lines that differ, as they are and as they would be.
fn difference(source: &str, formatted: &str, name: &str) -> String {
    let mut shown = Vec::new();
    for (line, old, new) in hunks(source) {
        shown.push(styled(BOLD, &format!("{name}:{line}")));
        shown.extend(old.lines().map(|line| styled(BAD, &format!("-{}", text::line(line)))));
        shown.extend(new.lines().map(|line| styled(GOOD, &format!("+{}", text::line(line)))));
    }
    // Only the end of the file is another, which is no line of its own.
    if shown.is_empty() && source != formatted {
        shown.push(styled(BOLD, &format!("{name}: line endings")));
    }
    let more = shown.len().saturating_sub(MOST_SHOWN);
    shown.truncate(MOST_SHOWN);
    if more > 0 {
        shown.push(format!("... and {}", text::counted(more as u64, "more line")));
    }
    shown.join("\n") + "\n"
}

/// The places that formatting changes: the number of the first line, the lines there, and what they
/// become.
fn hunks(source: &str) -> Vec<(usize, &str, String)> {
    let edits = edits(source).unwrap_or_default();
    let line_start = |at: usize| source[..at].rfind('\n').map_or(0, |end| end + 1);
    let line_end = |at: usize| source[at..].find('\n').map_or(source.len(), |end| at + end + 1);
    let mut hunks: Vec<(std::ops::Range<usize>, String)> = Vec::new();
    // Up to where the last hunk's new lines have been written.
    let mut written = 0;
    for (span, replacement) in edits {
        match hunks.last_mut() {
            Some((lines, new)) if span.start <= lines.end => {
                new.push_str(&source[written..span.start]);
                new.push_str(&replacement);
                // Its end is searched once for each line, however many changes are in it.
                if span.end >= lines.end {
                    lines.end = line_end(span.end);
                }
            }
            last => {
                if let Some((lines, new)) = last {
                    new.push_str(&source[written..lines.end]);
                }
                let start = line_start(span.start);
                let new = format!("{}{replacement}", &source[start..span.start]);
                hunks.push((start..line_end(span.end), new));
            }
        }
        written = span.end;
    }
    if let Some((lines, new)) = hunks.last_mut() {
        new.push_str(&source[written..lines.end]);
    }
    let (mut number, mut counted) = (1, 0);
    let numbered = hunks.into_iter().map(|(lines, new)| {
        number += source[counted..lines.start].matches('\n').count();
        counted = lines.start;
        (number, &source[lines], new)
    });
    numbered.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_lines_that_change_are_shown() {
        let check = |source: &str, want: &[(usize, &str, &str)]| {
            let hunks = hunks(source);
            let got: Vec<_> =
                hunks.iter().map(|(line, old, new)| (*line, *old, new.as_str())).collect();
            assert_eq!(got, want, "{source:?}");
        };
        check("agent a\n", &[]);
        check("agent a", &[(1, "agent a", "agent a\n")]);
        check("agent  a\nagent b\n", &[(1, "agent  a\nagent b\n", "agent a\n\nagent b\n")]);
        check(
            "agent a {\n    with {\n        f(1,2);\n        g(3);\n        h( );\n    }\n}\n",
            &[
                (3, "        f(1,2);\n", "        f(1, 2);\n"),
                (5, "        h( );\n", "        h();\n"),
            ],
        );
    }
}
