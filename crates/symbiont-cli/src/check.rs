//! `symbiont check`: what is wrong with programs, without running them.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use clap::ValueEnum;
use serde_json::{Value, json};
use symbiont_dsl::definition::{Checked, SourceKind, check, check_with_tools, classify};
use symbiont_dsl::diagnostic::sarif::{Source, to_sarif};
use symbiont_dsl::diagnostic::{Diagnostic, Severity, render, to_json};
use symbiont_runtime::{ToolFolder, Tools};

use crate::run::read;
use crate::screen::{self, CARE, DIM, styled};
use crate::{Exit, Failure, text, tool};

const EXAMPLES: &str = "\
Examples:
  symbiont check agents/lockfile_audit.symbi
  symbiont check -o json agents/lockfile_audit.symbi agents/primes.symbi
  symbiont check -o sarif agents/*.symbi > symbiont.sarif
  symbiont check --tools tools agents/fingerprints.symbi

Exit codes:
  0  no errors; warnings are told and stop nothing
  1  some program, or some manifest of a tool, has errors
  2  a file can't be read";

/// Checks programs without running them.
///
/// Each fault is shown with its place, and with a change that would mend it where one is known.
/// Warnings stop neither `check` nor `run`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The programs, `.symbi` files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The folder of the tools that the programs may call: calls of others are then warnings, and
    /// arguments that a tool does not take are errors.
    #[arg(long, value_name = "DIR")]
    tools: Option<PathBuf>,
    /// `text` for people; `json` for an object with `files`, `errors`, `warnings`, `instructions` and
    /// `diagnostics`; `sarif` for a SARIF 2.1.0 log, which code hosts show beside the source.
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

/// The form of what was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
    Sarif,
}

/// A source, checked against the tools that it may call, if those are known.
pub(crate) fn checked(source: &str, tools: Option<&Tools>) -> Checked {
    match tools {
        Some(tools) => check_with_tools(source, tools),
        None => check(source),
    }
}

/// What was found in all files.
#[derive(Default)]
struct Found {
    /// The files that are no programs, but instructions in plain words.
    instructions: Vec<String>,
    programs: Vec<Program>,
}

/// A program or a manifest, and what was found in it.
struct Program {
    name: String,
    uri: String,
    source: String,
    diagnostics: Vec<Diagnostic>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let mut found = Found::default();
    let tools = match (&arguments.tools, arguments.output) {
        (None, _) => None,
        (Some(folder), Format::Text) => Some(tool::load(folder)?),
        (Some(folder), Format::Json | Format::Sarif) => found.tools(tool::read(folder)?),
    };
    let mut unread = None;
    for path in &arguments.files {
        match read(path) {
            Ok(source) => found.add(source, path, tools.as_ref()),
            // The other files are looked at all the same.
            Err(failure) => {
                screen::say(&failure);
                unread = Some(failure.exit);
            }
        }
    }
    match arguments.output {
        Format::Text if found.files() == 0 => {}
        Format::Text => screen::report(&found.text())?,
        Format::Json => screen::result(format!("{}\n", found.json()).as_bytes())?,
        Format::Sarif => {
            let log = found.sarif(unread.is_none());
            screen::result(format!("{log}\n").as_bytes())?;
        }
    }
    Ok(match unread {
        Some(exit) => exit,
        None if found.count(Severity::Error) > 0 => Exit::Failed,
        None => Exit::Success,
    })
}

impl Found {
    fn add(&mut self, source: String, path: &Path, tools: Option<&Tools>) {
        let name = text::line(&path.display().to_string());
        if classify(&source) == SourceKind::Instruction {
            return self.instructions.push(name);
        }
        let diagnostics = checked(&source, tools).diagnostics;
        self.programs.push(Program { name, uri: uri(path), source, diagnostics });
    }

    /// Adds what was found in manifests; the tools, if no manifest has an error.
    fn tools(&mut self, folder: ToolFolder) -> Option<Tools> {
        for file in folder.files.into_iter().filter(|file| !file.diagnostics.is_empty()) {
            let name = text::line(&file.path.display().to_string());
            let (uri, diagnostics) = (uri(&file.path), file.diagnostics);
            self.programs.push(Program { name, uri, source: file.source, diagnostics });
        }
        (self.count(Severity::Error) == 0).then_some(folder.tools)
    }

    fn files(&self) -> u64 {
        (self.instructions.len() + self.programs.len()) as u64
    }

    fn diagnostics(&self) -> impl Iterator<Item = &Diagnostic> {
        self.programs.iter().flat_map(|program| &program.diagnostics)
    }

    fn count(&self, severity: Severity) -> u64 {
        self.diagnostics().filter(|found| found.severity == severity).count() as u64
    }

    fn text(&self) -> String {
        let mut out = String::new();
        for name in &self.instructions {
            let note = styled(CARE, "note");
            let words = "is an instruction in plain words, not a program: only a language model can \
                         follow it, and none can be configured yet";
            out.push_str(&format!("{note}: `{name}` {words}\n"));
        }
        for Program { name, source, diagnostics, .. } in &self.programs {
            let rendered = render(diagnostics, source, name, true);
            if !rendered.is_empty() {
                out.push_str(&rendered);
                out.push('\n');
            }
        }
        let (errors, warnings) = (self.count(Severity::Error), self.count(Severity::Warning));
        let summary = screen::summary(self.files(), "file", errors, warnings);
        out.push_str(&format!("{summary}\n"));
        if let Some(code) = self.diagnostics().map(|found| found.code).min() {
            let codes: BTreeSet<&str> = self.diagnostics().map(|found| found.code).collect();
            let what = if codes.len() == 1 { "it" } else { "a code" };
            let more = format!("for more about {what}, try `symbiont explain {code}`");
            out.push_str(&format!("{}\n", styled(DIM, &more)));
        }
        out
    }

    fn json(&self) -> Value {
        let told =
            |program: &Program| match to_json(&program.diagnostics, &program.source, &program.name)
            {
                Value::Array(all) => all,
                one => vec![one],
            };
        json!({
            "files": self.files(),
            "errors": self.count(Severity::Error),
            "warnings": self.count(Severity::Warning),
            "instructions": self.instructions,
            "diagnostics": self.programs.iter().flat_map(told).collect::<Vec<_>>(),
        })
    }

    fn sarif(&self, whole: bool) -> Value {
        let sources: Vec<Source<'_>> = (self.programs.iter())
            .map(|program| Source {
                uri: &program.uri,
                text: &program.source,
                diagnostics: &program.diagnostics,
            })
            .collect();
        to_sarif(&sources, env!("CARGO_PKG_VERSION"), whole)
    }
}

/// The file as a URI: relative to where the command runs if it is below that.
fn uri(path: &Path) -> String {
    let below = path.is_relative() && !path.components().any(|part| part == Component::ParentDir);
    let (scheme, path) = match below {
        true => ("", path.components().filter(|part| *part != Component::CurDir).collect()),
        false => ("file://", path.canonicalize().unwrap_or_else(|_| path.to_owned())),
    };
    let mut uri = scheme.to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => {
                uri.push(char::from(*byte));
            }
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri
}
