//! `symbiont check`: what is wrong with programs, without running them.

use std::path::PathBuf;

use serde_json::{Value, json};
use symbiont_dsl::definition::{Checked, SourceKind, check, check_with_tools, classify};
use symbiont_dsl::diagnostic::{Severity, render, to_json};
use symbiont_runtime::Tools;

use crate::run::read;
use crate::screen::{self, BAD, CARE, GOOD, styled};
use crate::{Exit, Failure, Output, text, tool};

const EXAMPLES: &str = "\
Examples:
  symbiont check agents/lockfile_audit.symbi
  symbiont check -o json agents/lockfile_audit.symbi agents/primes.symbi
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
    /// `diagnostics`.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
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
    files: u64,
    errors: u64,
    warnings: u64,
    /// The files that are no programs, but instructions in plain words.
    instructions: Vec<String>,
    /// For people.
    rendered: String,
    /// For programs.
    diagnostics: Vec<Value>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let tools = arguments.tools.as_deref().map(tool::load).transpose()?;
    let mut found = Found::default();
    let mut unread = None;
    for path in &arguments.files {
        match read(path) {
            Ok(source) => {
                found.add(&source, &text::line(&path.display().to_string()), tools.as_ref());
            }
            // The other files are looked at all the same.
            Err(failure) => {
                screen::say(&failure);
                unread = Some(failure.exit);
            }
        }
    }
    match arguments.output {
        Output::Text if found.files == 0 => {}
        Output::Text => screen::report(&found.text())?,
        Output::Json => screen::result(format!("{}\n", found.json()).as_bytes())?,
    }
    Ok(match unread {
        Some(exit) => exit,
        None if found.errors > 0 => Exit::Failed,
        None => Exit::Success,
    })
}

impl Found {
    fn add(&mut self, source: &str, name: &str, tools: Option<&Tools>) {
        self.files += 1;
        if classify(source) == SourceKind::Instruction {
            let note = styled(CARE, "note");
            let words = "is an instruction in plain words, not a program: only a language model can \
                         follow it, and none can be configured yet";
            self.rendered.push_str(&format!("{note}: `{name}` {words}\n"));
            return self.instructions.push(name.to_owned());
        }
        let diagnostics = checked(source, tools).diagnostics;
        let count =
            |severity| diagnostics.iter().filter(|found| found.severity == severity).count() as u64;
        self.errors += count(Severity::Error);
        self.warnings += count(Severity::Warning);
        let rendered = render(&diagnostics, source, name, true);
        if !rendered.is_empty() {
            self.rendered.push_str(&rendered);
            self.rendered.push('\n');
        }
        if let Value::Array(all) = to_json(&diagnostics, source, name) {
            self.diagnostics.extend(all);
        }
    }

    fn text(&self) -> String {
        let style = match (self.errors, self.warnings) {
            (0, 0) => GOOD,
            (0, _) => CARE,
            (_, _) => BAD,
        };
        let summary = format!(
            "{}: {}, {}",
            text::counted(self.files, "file"),
            text::counted(self.errors, "error"),
            text::counted(self.warnings, "warning")
        );
        format!("{}{}\n", self.rendered, styled(style, &summary))
    }

    fn json(&self) -> Value {
        json!({
            "files": self.files,
            "errors": self.errors,
            "warnings": self.warnings,
            "instructions": self.instructions,
            "diagnostics": self.diagnostics,
        })
    }
}
