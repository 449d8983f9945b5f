//! What editors use: the generated parser is the grammar's, and the extension builds, passes its
//! tests and can be packed.
//!
//! The Rust tests read programs with the committed parser and need none of this.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::root;
use crate::steps::Steps;

/// The oldest Node.js that what packs the extension runs on; the grammar is JavaScript as well.
const NODE: u32 = 20;

/// The version of tree-sitter's command that made the committed parser: others may make another.
const GENERATOR: &str = "0.27.1";

/// What `tree-sitter generate` writes.
const GENERATED: [&str; 3] = ["parser.c", "grammar.json", "node-types.json"];

/// Checks both, as far as the programs for it are there.
pub(crate) fn run(steps: &mut Steps) -> Result<()> {
    if let Err(why) = node(output_of("node", "--version").as_deref()) {
        steps.left_out.push(format!("editors: the generated parser and the extension: {why}"));
        return Ok(());
    }
    match generator(output_of("tree-sitter", "--version").as_deref()) {
        Ok(()) => grammar(steps)?,
        Err(why) => steps.left_out.push(format!(
            "editors/tree-sitter-symbi: whether the committed parser is the grammar's: {why}"
        )),
    }
    extension(steps)
}

/// Whether this version of tree-sitter's command will do; if not, why.
fn generator(version: Option<&str>) -> Result<(), String> {
    let install = format!("cargo install tree-sitter-cli --version {GENERATOR}");
    let Some(version) = version else {
        return Err(format!("there is no `tree-sitter` ({install})"));
    };
    // `tree-sitter 0.27.1`, perhaps with a commit in parentheses.
    if version.split_whitespace().nth(1) == Some(GENERATOR) {
        return Ok(());
    }
    Err(format!("`{}` is another version ({install})", version.trim()))
}

/// Generates the parser again, beside the committed one, and compares them.
fn grammar(steps: &mut Steps) -> Result<()> {
    let folder = root().join("editors/tree-sitter-symbi");
    let fresh = root().join("target/tree-sitter-symbi");
    std::fs::create_dir_all(&fresh)?;
    let mut generate = Command::new("tree-sitter");
    generate.arg("generate").arg("--output").arg(&fresh).current_dir(&folder);
    steps.run("parser for editors", generate)?;
    for name in GENERATED {
        let read = |path: &Path| {
            std::fs::read(path).with_context(|| format!("`{}` can't be read", path.display()))
        };
        if read(&fresh.join(name))? != read(&folder.join("src").join(name))? {
            bail!(
                "editors/tree-sitter-symbi/src/{name} is not what the grammar gives: run \
                 `tree-sitter generate` there, and commit what it writes"
            );
        }
    }
    Ok(())
}

/// Whether this version of Node.js will do; if not, why.
fn node(version: Option<&str>) -> Result<(), String> {
    let Some(version) = version else {
        return Err(format!("there is no `node` (Node.js {NODE} or later)"));
    };
    let major = version.trim().trim_start_matches('v').split('.').next().unwrap_or_default();
    match major.parse::<u32>() {
        Ok(major) if major >= NODE => Ok(()),
        _ => Err(format!("Node.js {NODE} or later is needed, and {} is here", version.trim())),
    }
}

/// Builds, tests and packs the extension.
fn extension(steps: &mut Steps) -> Result<()> {
    let installed = steps.run("packages of the extension", npm(&["ci", "--prefer-offline"]));
    if let Err(error) = installed {
        if output_of("npm", "ping").is_some() {
            return Err(error);
        }
        steps.left_out.push("editors/vscode: npm reaches no registry".to_owned());
        return Ok(());
    }
    steps.run("extension, built", npm(&["run", "build"]))?;
    steps.run("extension, tested", npm(&["test"]))?;
    steps.run("extension, packed", npm(&["run", "package"]))
}

fn npm(words: &[&str]) -> Command {
    let mut command = Command::new("npm");
    command.args(words).current_dir(root().join("editors/vscode"));
    command
}

/// What a program writes, if it is there and does well.
fn output_of(program: &str, word: &str) -> Option<String> {
    let output = Command::new(program).arg(word).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_new_enough_node_will_do() {
        let told = |version| node(version).err().unwrap_or_default();
        assert_eq!(told(Some("v20.11.0\n")), "");
        assert_eq!(told(Some("v104.0.0\n")), "");
        assert_eq!(told(Some("v18.20.4\n")), "Node.js 20 or later is needed, and v18.20.4 is here");
        assert_eq!(told(None), "there is no `node` (Node.js 20 or later)");
    }

    #[test]
    fn only_the_generator_that_made_the_parser_will_do() {
        assert_eq!(generator(Some("tree-sitter 0.27.1 (abc)\n")), Ok(()));
        let install = "cargo install tree-sitter-cli --version 0.27.1";
        let old = format!("`tree-sitter 0.20.8` is another version ({install})");
        assert_eq!(generator(Some("tree-sitter 0.20.8\n")), Err(old));
        assert_eq!(generator(None), Err(format!("there is no `tree-sitter` ({install})")));
    }
}
