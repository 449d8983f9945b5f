//! `symbiont tool`: the tools of a folder, and what is wrong with their manifests.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use symbiont_dsl::diagnostic::{Severity, render, to_json};
use symbiont_dsl::operations::EffectClass::{
    Checkable, Idempotent, NonRepeatable, Pure, Read, Recorded,
};
use symbiont_runtime::{Tool, ToolFolder, Tools, load_tools};

use crate::screen::{self, BOLD, DIM, styled};
use crate::{Exit, Failure, Output, text};

const EXAMPLES: &str = "\
Examples:
  symbiont tool list
  symbiont tool show sha256_file
  symbiont tool check --tools ./tools -o json

Exit codes:
  0  no errors; warnings are told and stop nothing
  1  some manifest has errors
  2  the folder or a manifest can't be read, or no tool has that name";

/// Lists, shows and checks tools.
///
/// A tool is declared by a manifest, a `.toml` file: what it takes, and the command in the agent's
/// sandbox or the request over HTTP that a call of it is. `symbiont run --tools DIR` lets an agent
/// call the tools of a folder, as far as its policy allows them.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Debug, clap::Subcommand)]
enum Subcommands {
    /// The tools of a folder, in a line each.
    List(Folder),
    /// All that a tool takes and does.
    Show {
        /// The tool's name.
        name: String,
        #[command(flatten)]
        folder: Folder,
    },
    /// What is wrong with the manifests of a folder.
    Check(Folder),
}

#[derive(Debug, clap::Args)]
struct Folder {
    /// The folder with the manifests.
    #[arg(long, value_name = "DIR", default_value = "tools")]
    tools: PathBuf,
    /// The form of the answer.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    match &arguments.command {
        Subcommands::List(folder) => list(&load(&folder.tools)?, folder.output),
        Subcommands::Show { name, folder } => show(&load(&folder.tools)?, name, folder.output),
        Subcommands::Check(folder) => check(&read(&folder.tools)?, folder.output),
    }
}

pub(crate) fn read(folder: &Path) -> Result<ToolFolder, Failure> {
    load_tools(folder).map_err(|error| {
        Failure::usage(error).help("name the folder with the manifests of the tools by --tools")
    })
}

/// The tools of a folder whose manifests are all without errors; what is wrong is told.
pub(crate) fn load(folder: &Path) -> Result<Tools, Failure> {
    let read = read(folder)?;
    let (rendered, errors, _) = faults(&read, screen::has_colours());
    screen::tell(&rendered);
    match errors {
        0 => Ok(read.tools),
        _ => {
            let errors = text::counted(errors, "error");
            let message = format!("the manifests in `{}` have {errors}", folder.display());
            Err(Failure::failed(message))
        }
    }
}

/// What is wrong with manifests, and how many errors and warnings that is.
fn faults(folder: &ToolFolder, colours: bool) -> (String, u64, u64) {
    let mut rendered = String::new();
    let (mut errors, mut warnings) = (0, 0);
    for file in &folder.files {
        let name = text::line(&file.path.display().to_string());
        rendered.push_str(&render(&file.diagnostics, &file.source, &name, colours));
        for diagnostic in &file.diagnostics {
            match diagnostic.severity {
                Severity::Error => errors += 1,
                Severity::Warning => warnings += 1,
            }
        }
    }
    (rendered, errors, warnings)
}

fn check(folder: &ToolFolder, output: Output) -> Result<Exit, Failure> {
    let (rendered, errors, warnings) = faults(folder, true);
    let files = folder.files.len() as u64;
    match output {
        Output::Text => {
            let summary = screen::summary(files, "manifest", errors, warnings);
            screen::report(&format!("{rendered}{summary}\n"))?;
        }
        Output::Json => {
            let mut diagnostics = Vec::new();
            for file in &folder.files {
                let name = file.path.display().to_string();
                if let Value::Array(all) = to_json(&file.diagnostics, &file.source, &name) {
                    diagnostics.extend(all);
                }
            }
            print(&json!({
                "manifests": files,
                "errors": errors,
                "warnings": warnings,
                "diagnostics": diagnostics,
            }))?;
        }
    }
    Ok(if errors > 0 { Exit::Failed } else { Exit::Success })
}

fn print(value: &Value) -> Result<(), Failure> {
    screen::result(format!("{value}\n").as_bytes())
}

fn list(tools: &Tools, output: Output) -> Result<Exit, Failure> {
    match output {
        Output::Json => print(&tools.iter().map(|tool| described(tool)).collect())?,
        Output::Text if tools.is_empty() => screen::report("no tools\n")?,
        Output::Text => {
            let width = tools.iter().map(|tool| tool.name.len()).max().unwrap_or_default();
            let line = |tool: &Tool| {
                let name = styled(BOLD, &format!("{:<width$}", tool.name));
                let risk = format!("{:<8}", tool.risk.to_string());
                let words = tool.description.lines().next().unwrap_or_default();
                format!("{name}  {}  {}\n", styled(DIM, &risk), text::short(words, 100))
            };
            screen::report(&tools.iter().map(|tool| line(tool)).collect::<String>())?;
        }
    }
    Ok(Exit::Success)
}

fn show(tools: &Tools, name: &str, output: Output) -> Result<Exit, Failure> {
    let Some(tool) = tools.get(name) else {
        let failure = Failure::usage(format!("there is no tool `{}`", text::short(name, 40)));
        return Err(match tools.nearest(name) {
            Some(nearest) => failure.help(format!("did you mean `{nearest}`?")),
            None => failure.help("`symbiont tool list` names those of the folder"),
        });
    };
    if output == Output::Json {
        print(&described(tool))?;
        return Ok(Exit::Success);
    }
    let mut out = format!("{}\n", styled(BOLD, &text::line(&tool.to_string())));
    out.push_str(&format!("{}\n\n", text::lines(&tool.description)));
    for parameter in &tool.parameters {
        let words = text::line(&parameter.description);
        out.push_str(&format!("  {}\n", styled(BOLD, &text::line(&parameter.to_string()))));
        if !words.is_empty() {
            out.push_str(&format!("      {words}\n"));
        }
    }
    let facts = [
        ("does", tool.does()),
        ("effect", effect(tool).to_owned()),
        ("risk", tool.risk.to_string()),
        ("capability", tool.capability.clone().unwrap_or_else(|| "none".to_owned())),
        ("timeout", text::duration(tool.timeout)),
        (
            "output",
            format!("{}, at most {} bytes", form(tool), text::count(tool.max_output as u64)),
        ),
        ("operation", format!("tool.call:{}", tool.name)),
        ("manifest", tool.digest.clone()),
    ];
    if !tool.parameters.is_empty() {
        out.push('\n');
    }
    for (name, fact) in facts {
        out.push_str(&format!("{}  {}\n", styled(DIM, &format!("{name:<10}")), text::line(&fact)));
    }
    screen::report(&out)?;
    Ok(Exit::Success)
}

fn effect(tool: &Tool) -> &'static str {
    match tool.class {
        Read | Pure | Recorded => "read",
        Idempotent => "idempotent",
        Checkable | NonRepeatable => "non_repeatable",
    }
}

fn form(tool: &Tool) -> &'static str {
    use symbiont_dsl::tools::Output::{Json, Lines, Text};
    match tool.output {
        Text => "text",
        Lines => "lines",
        Json => "json",
    }
}

/// A tool, for programs.
fn described(tool: &Tool) -> Value {
    let parameters: Vec<Value> = tool
        .parameters
        .iter()
        .map(|parameter| {
            json!({
                "name": parameter.name,
                "type": parameter.type_name(),
                "description": parameter.description,
                "required": parameter.required,
            })
        })
        .collect();
    json!({
        "name": tool.name,
        "description": tool.description,
        "parameters": parameters,
        "does": tool.does(),
        "effect": effect(tool),
        "risk": tool.risk.to_string(),
        "capability": tool.capability,
        "output": form(tool),
        "manifest": tool.digest,
    })
}
