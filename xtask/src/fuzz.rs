//! Fuzzing: a target for each reader of foreign text or bytes, run for a while.
//!
//! What has to hold is in `fuzz/src/properties.rs`, and beside the readers of frames. A target begins with the programs of the
//! repository and what is in `fuzz/seeds`, and goes on in `fuzz/corpus`, which is not kept. An input
//! that breaks a property is left in `fuzz/artifacts`; once mended, it belongs in `fuzz/seeds`, whose
//! inputs the tests of the language go through as well.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::steps::Steps;

/// The targets, in the order in which they run.
pub(crate) const TARGETS: [&str; 8] = [
    "lexer",
    "parser",
    "checker",
    "formatter",
    "evaluator",
    "restore",
    "guest_protocol",
    "host_protocol",
];

/// Those that read frames and no programs.
const OF_FRAMES: [&str; 2] = ["guest_protocol", "host_protocol"];

/// How long each target runs unless somebody says otherwise, in seconds.
const SECONDS: u64 = 60;

/// The longest input, in bytes, and how long one may take, in seconds: nothing that is linear in
/// so little takes as long.
const LIMITS: [&str; 2] = ["-max_len=8192", "-timeout=60"];

/// Where programs to begin with are.
const PROGRAMS: [&str; 5] = [
    "agents",
    "crates/symbiont-dsl/test_data/faults",
    "crates/symbiont-dsl/test_data/format",
    "crates/symbiont-dsl/test_data/policies",
    "crates/symbiont-dsl/test_data/programs",
];

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    targets: Vec<&'static str>,
    seconds: u64,
}

/// Reads `[TARGET...] [--seconds N]`.
pub(crate) fn options(words: &[&str]) -> std::result::Result<Options, String> {
    let mut options = Options { targets: Vec::new(), seconds: SECONDS };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if *word == "--seconds" {
            let number = words.next().ok_or("`--seconds` needs a number")?;
            options.seconds = (number.parse().ok())
                .filter(|seconds| *seconds > 0)
                .ok_or_else(|| format!("`--seconds {number}` is no number of seconds"))?;
        } else {
            let target = TARGETS.iter().find(|target| *target == word);
            options.targets.push(target.ok_or_else(|| {
                format!("`{word}` is no target; there are `{}`", TARGETS.join("`, `"))
            })?);
        }
    }
    if options.targets.is_empty() {
        options.targets = TARGETS.to_vec();
    }
    Ok(options)
}

/// Builds and runs the targets, one after the other.
pub(crate) fn run(options: &Options, steps: &mut Steps) -> Result<()> {
    let root = crate::root();
    for (arguments, remedy) in [
        (["+nightly", "--version"], "rustup toolchain install nightly --profile minimal"),
        (["fuzz", "--version"], "cargo install cargo-fuzz --locked"),
    ] {
        let mut cargo = cargo();
        cargo.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        if !cargo.status().is_ok_and(|status| status.success()) {
            bail!("`cargo {}` does not work here: `{remedy}` installs it", arguments.join(" "));
        }
    }
    let fuzz = root.join("fuzz");
    for target in &options.targets {
        let corpus = fuzz.join("corpus").join(target);
        sow(&root, target, &corpus)
            .with_context(|| format!("`{}` could not be filled", corpus.display()))?;
        let mut cargo = cargo();
        cargo.current_dir(&fuzz).args(["+nightly", "fuzz", "run", target, "--"]);
        if !OF_FRAMES.contains(target) {
            cargo.arg("-dict=language.dict");
        }
        cargo.arg(format!("-max_total_time={}", options.seconds));
        cargo.args(LIMITS);
        steps.run(target, cargo)?;
    }
    Ok(())
}

/// Puts what a target begins with into its corpus.
fn sow(root: &Path, target: &str, corpus: &Path) -> Result<()> {
    std::fs::create_dir_all(corpus)?;
    let seeds = root.join("fuzz/seeds").join(target);
    let programs: &[&str] = if OF_FRAMES.contains(&target) { &[] } else { &PROGRAMS };
    let folders: Vec<PathBuf> =
        programs.iter().map(|folder| root.join(folder)).chain([seeds]).collect();
    for folder in folders {
        let source = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let path = entry?.path();
            // The expected text beside a program is no program.
            if path.extension().is_none_or(|extension| extension != "txt") {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                std::fs::copy(&path, corpus.join(format!("{source}-{name}")))?;
            }
        }
    }
    Ok(())
}

/// Rustup's cargo, which knows of toolchains; the one that runs this chore may be another.
fn cargo() -> Command {
    let mut cargo = Command::new("cargo");
    // Set for this chore's own toolchain, and in the way of the other.
    cargo.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO");
    cargo
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_say_which_targets_and_for_how_long() {
        let check = |words: &[&str], want: std::result::Result<(&[&'static str], u64), &str>| {
            let want =
                want.map(|(targets, seconds)| Options { targets: targets.to_vec(), seconds });
            assert_eq!(options(words), want.map_err(str::to_owned), "{words:?}");
        };
        check(&[], Ok((&TARGETS, 60)));
        check(&["parser", "lexer"], Ok((&["parser", "lexer"], 60)));
        check(&["--seconds", "5", "lexer"], Ok((&["lexer"], 5)));
        check(&["--seconds"], Err("`--seconds` needs a number"));
        check(&["--seconds", "0"], Err("`--seconds 0` is no number of seconds"));
        let want = "`x` is no target; there are `lexer`, `parser`, `checker`, `formatter`, `evaluator`, `restore`, \
                    `guest_protocol`, `host_protocol`";
        check(&["x"], Err(want));
    }

    /// Each target has its file, and each file is a target.
    #[test]
    fn the_targets_are_those_that_there_are() {
        let mut files: Vec<_> = std::fs::read_dir(crate::root().join("fuzz/targets"))
            .expect("they are there")
            .map(|entry| entry.expect("it can be read").path())
            .filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
            .collect();
        files.sort();
        let mut targets = TARGETS.to_vec();
        targets.sort_unstable();
        assert_eq!(files, targets);
        for folder in PROGRAMS {
            assert!(crate::root().join(folder).is_dir(), "{folder}");
        }
    }
}
