//! How it ended: a command, or what was asked of a sandbox, as an exit code and in words.
//!
//! # What holds
//!
//! - Whatever fails has one of the codes of [`code`], whichever subcommand it was. 2 is for words that
//!   are wrong wherever they are said; what is right elsewhere and not here is 125.
//! - With `-o json` what fails is one line of JSON on standard error, of one shape.

use std::ffi::OsString;

use serde_json::{Value, json};
use symbiont_runtime::{CommandResult, Control, Duration, SandboxError};

use crate::{Exit, Failure, text};

const TIMED_OUT: u8 = 124;
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;
const KILLED: u8 = 137;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    pub(super) exit: Exit,
    /// What ended it, if that was one of its limits.
    pub(super) limit: Option<Limit>,
}

/// A limit that ends commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    Time,
    Memory,
}

impl Limit {
    const ALL: [Self; 2] = [Self::Time, Self::Memory];

    /// What it is called between a keeper and who asks it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Memory => "memory",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|limit| limit.name() == name)
    }
}

impl End {
    /// Nobody knows how the command ends: this one was ended before.
    pub(super) fn signal(number: u8) -> Self {
        Self { exit: Exit::Signal(number), limit: None }
    }

    /// The end as it is told to whoever ran the command under these limits, who may want nothing but its
    /// exit code.
    pub(super) fn told(
        self,
        quiet: bool,
        timeout: Duration,
        memory_mb: Option<u64>,
        option: &str,
    ) -> Result<Exit, Failure> {
        let (what, help) = match self.limit {
            _ if quiet => return Ok(self.exit),
            None => return Ok(self.exit),
            Some(Limit::Time) => {
                let after = text::duration(timeout);
                let what = format!("the command was ended, as it ran for {after}");
                (what, "--timeout gives it more, up to 24h".to_owned())
            }
            Some(Limit::Memory) => {
                let all = memory_mb.map_or_else(String::new, |mb| format!(", {mb} MiB,"));
                let what = format!(
                    "the command was killed, as the memory of its sandbox{all} was used up"
                );
                (what, format!("{option} gives it more"))
            }
        };
        Err(Failure::new(self.exit, what).help(help))
    }
}

/// How a command ended, by its result.
pub(super) fn of(result: &CommandResult) -> End {
    let low = |number: i32| u8::try_from(number & 0xff).unwrap_or(u8::MAX);
    let limit = match result {
        CommandResult { timed_out: true, .. } => Some(Limit::Time),
        CommandResult { oom_killed: true, .. } => Some(Limit::Memory),
        _ => None,
    };
    let code = match (limit, result.exit_code, result.signal) {
        (Some(Limit::Time), _, _) => TIMED_OUT,
        (Some(Limit::Memory), _, _) => KILLED,
        (None, Some(code), _) => low(code),
        (None, None, Some(signal)) => 128 + low(signal & 0x7f),
        (None, None, None) => Exit::NoSandbox.code(),
    };
    End { exit: Exit::Command(code), limit }
}

/// Why there is no command that could end.
pub(super) fn failure(error: SandboxError) -> Failure {
    let exit = match &error {
        SandboxError::ExecFailed { missing: true, .. } => Exit::Command(NOT_FOUND),
        SandboxError::ExecFailed { missing: false, .. } => Exit::Command(NOT_EXECUTABLE),
        SandboxError::InvalidArgument { .. } => Exit::Usage,
        _ => Exit::NoSandbox,
    };
    let limit = match &error {
        SandboxError::IsolationUnavailable { control, .. } => control.parse::<Control>().ok(),
        _ => None,
    };
    let what = match error {
        SandboxError::InvalidArgument { what } => what,
        other => other.to_string(),
    };
    let failure = Failure::new(exit, text::block(&what));
    match limit {
        Some(limit) => failure.help(format!("--allow-degraded={:?} does without it", limit.name())),
        None => failure,
    }
}

/// Why a file was not copied: its words were looked at before.
pub(super) fn of_files(error: SandboxError) -> Failure {
    Failure { exit: Exit::NoSandbox, ..failure(error) }
}

/// The one word for a failure with this exit code.
fn code(exit: Exit) -> &'static str {
    match exit.code() {
        2 => "usage",
        TIMED_OUT => "timed_out",
        NOT_EXECUTABLE => "not_executable",
        NOT_FOUND => "not_found",
        KILLED => "out_of_memory",
        _ => "failed",
    }
}

/// A failure for programs, a line of JSON.
pub(super) fn described(failure: &Failure) -> String {
    let error: Value = json!({
        "code": code(failure.exit),
        "exit": failure.exit.code(),
        "message": failure.message,
        "help": failure.help,
    });
    text::json(&format!("{}\n", json!({ "error": error })))
}

/// Arguments that clap refuses, for programs, if that is what they ask for.
pub(crate) fn refused(
    arguments: impl IntoIterator<Item = OsString>,
    error: &clap::Error,
) -> Option<String> {
    let mut words = arguments.into_iter().skip(1);
    if words.next()? != "sandbox" {
        return None;
    }
    let words: Vec<_> = words.take_while(|word| word != "--").collect();
    let asks =
        |word: &OsString| ["-ojson", "-o=json", "--output=json"].iter().any(|form| word == form);
    let pair = |pair: &[OsString]| (pair[0] == "-o" || pair[0] == "--output") && pair[1] == "json";
    if !words.iter().any(asks) && !words.windows(2).any(pair) {
        return None;
    }
    let told = error.render().to_string();
    let (what, _) = told.split_once("\n\n").unwrap_or((&told, ""));
    let what = text::block(what.trim().trim_start_matches("error: "));
    Some(described(&Failure::new(Exit::Usage, what).help("--help shows what can be said")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_s_end_is_an_exit_code() {
        let ended = CommandResult::default;
        let code = |code| CommandResult { exit_code: Some(code), ..ended() };
        let signal = |signal| CommandResult { signal: Some(signal), ..ended() };
        for (result, want, limit) in [
            (code(0), 0, None),
            (code(3), 3, None),
            (code(255), 255, None),
            (signal(9), 137, None),
            (signal(15), 143, None),
            (signal(64), 192, None),
            (CommandResult { timed_out: true, ..signal(15) }, 124, Some(Limit::Time)),
            (CommandResult { timed_out: true, ..code(0) }, 124, Some(Limit::Time)),
            (CommandResult { oom_killed: true, ..signal(9) }, 137, Some(Limit::Memory)),
            (CommandResult { oom_killed: true, ..code(137) }, 137, Some(Limit::Memory)),
            (ended(), 125, None),
        ] {
            let end = of(&result);
            assert_eq!((end.exit.code(), end.limit), (want, limit), "{result:?}");
            let told = end.told(false, Duration::from_secs(1), Some(64), "--memory");
            assert_eq!(told.is_err(), limit.is_some(), "{result:?}");
            let told = end.told(true, Duration::from_secs(1), Some(64), "--memory");
            assert_eq!(told.expect("nothing is told").code(), want);
        }
        let failed = |missing| SandboxError::ExecFailed {
            command: "x".to_owned(),
            reason: "r".to_owned(),
            missing,
        };
        let wrong = SandboxError::InvalidArgument { what: "w".to_owned() };
        for (error, want, files) in [
            (failed(true), 127, 125),
            (failed(false), 126, 125),
            (wrong, 2, 125),
            (SandboxError::StorageFull, 125, 125),
        ] {
            assert_eq!(failure(error.clone()).exit.code(), want);
            assert_eq!(of_files(error).exit.code(), files);
        }
    }

    #[test]
    fn programs_that_say_nonsense_are_told_so_as_programs() {
        use clap::Parser;
        for (arguments, want) in [
            (&["s", "sandbox", "run", "-o", "json", "--tier", "9", "--", "x"][..], true),
            (&["s", "sandbox", "run", "-ojson"], true),
            (&["s", "sandbox", "list", "--output=json", "--bogus"], true),
            (&["s", "sandbox", "run", "--tier", "9", "--", "x", "-o", "json"], false),
            (&["s", "check", "-o", "json", "--bogus"], false),
            (&["s"], false),
        ] {
            let words = || arguments.iter().map(OsString::from);
            let error = crate::Arguments::try_parse_from(words()).expect_err("it makes no sense");
            let told = refused(words(), &error);
            assert_eq!(told.is_some(), want, "{arguments:?}");
            if let Some(told) = told {
                let told: Value = serde_json::from_str(&told).expect("JSON");
                assert_eq!(
                    (&told["error"]["code"], &told["error"]["exit"]),
                    (&"usage".into(), &2.into())
                );
            }
        }
    }
}
