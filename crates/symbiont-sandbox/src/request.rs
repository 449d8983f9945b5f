//! What callers ask, checked before anything is started.
//!
//! What is wrong in itself is refused here; what lies behind a path or a program's name is known
//! only inside the sandbox, and refused there.

use std::ffi::OsStr;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use symbiont_guest::protocol::{Exec, MAX_ARGUMENTS};
use symbiont_types::{NetworkMode, ResourceLimits, SandboxConfig, SandboxError, SecurityTier};

use crate::api::{CPU_CORES, Command, Control, MEMORY_MB, Options, PROCESSES};

/// What the environment always has. Callers may set other values, but not unset them.
const DEFAULTS: [(&str, &str); 4] = [
    ("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"),
    ("HOME", "/workspace"),
    ("LANG", "C.UTF-8"),
    ("TMPDIR", "/tmp"),
];
/// Variables that make a program load or run something before it does its own work.
const LOADING: [&str; 12] = [
    "BASH_ENV",
    "ENV",
    "GCONV_PATH",
    "GLIBC_TUNABLES",
    "JAVA_TOOL_OPTIONS",
    "NODE_OPTIONS",
    "PERL5LIB",
    "PERL5OPT",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "RUBYLIB",
    "RUBYOPT",
];
/// Processes of one sandbox unless something else is asked, our own few included.
pub(crate) const MAX_PROCESSES: u64 = 256;
const MAX_VARIABLES: usize = 128;
const MAX_VALUE: usize = 4096;
const MAX_PATH: usize = 4095;
const MAX_NAME: usize = 255;

/// Refuses a sandbox that can't be, or that no driver serves yet.
///
/// `missing` are the lines that tell what limits this host can't hold.
pub(crate) fn sandbox(
    config: &SandboxConfig,
    options: &Options,
    missing: &[String],
    driver: &str,
    tier: SecurityTier,
) -> Result<(), SandboxError> {
    if config.security_tier != tier {
        let asked = config.security_tier;
        return Err(invalid(format!("the {driver} driver serves {tier}, not {asked}")));
    }
    network(&config.network_config.mode, driver)?;
    resources(&config.resource_limits)?;
    let files = &config.filesystem_config;
    if files.scratch_mb == 0 || files.scratch_mb > 1 << 20 {
        return Err(invalid("scratch_mb must be from 1 to 1048576"));
    }
    if !files.read_only {
        return Err(invalid(
            "a root that can be written is not served yet; /workspace and /tmp always can be",
        ));
    }
    path(files.workdir.as_ref())?;
    if !files.workdir.starts_with('/') {
        return Err(invalid(format!("the working directory `{}` is not absolute", files.workdir)));
    }
    environment(&config.environment_variables.iter().collect::<Vec<_>>())?;
    within("the limit of processes", &PROCESSES, &options.processes)?;
    held(options, missing)
}

/// Refuses a sandbox whose limits this host can't hold, unless it may be without them.
fn held(options: &Options, missing: &[String]) -> Result<(), SandboxError> {
    for control in Control::ALL {
        let why = missing.iter().find_map(|line| {
            line.strip_prefix(control.name()).and_then(|rest| rest.strip_prefix(": "))
        });
        if let Some(why) = why
            && !options.allow_degraded.contains(&control)
        {
            return Err(SandboxError::IsolationUnavailable {
                control: control.name().to_owned(),
                reason: why.to_owned(),
            });
        }
    }
    Ok(())
}

pub(crate) fn invalid(what: impl Into<String>) -> SandboxError {
    SandboxError::InvalidArgument { what: what.into() }
}

fn network(mode: &NetworkMode, driver: &str) -> Result<(), SandboxError> {
    let mode = match mode {
        NetworkMode::None => return Ok(()),
        NetworkMode::Proxy { .. } => "proxy",
        NetworkMode::Open { .. } => "open",
        NetworkMode::Host => "host",
    };
    Err(SandboxError::IsolationUnavailable {
        control: format!("network mode {mode}"),
        reason: format!("the {driver} driver serves mode none only, so far"),
    })
}

/// Refuses a number that is out of its range.
fn within<T: PartialOrd + Display>(
    name: &str,
    range: &RangeInclusive<T>,
    number: &T,
) -> Result<(), SandboxError> {
    match range.contains(number) {
        true => Ok(()),
        false => Err(invalid(format!("{name} must be from {} to {}", range.start(), range.end()))),
    }
}

fn resources(limits: &ResourceLimits) -> Result<(), SandboxError> {
    within("memory_mb", &MEMORY_MB, &limits.memory_mb)?;
    within("cpu_cores", &CPU_CORES, &limits.cpu_cores)?;
    if limits.execution_timeout.is_zero() {
        return Err(invalid("execution_timeout must not be zero"));
    }
    Ok(())
}

/// A path for the guest: what is wrong in itself is refused here, what lies behind it there.
pub(crate) fn path(path: &Path) -> Result<(), SandboxError> {
    let shown = path.to_string_lossy();
    let forbidden = |reason: String| {
        Err(SandboxError::PathForbidden { path: shown.chars().take(256).collect(), reason })
    };
    let path = path.as_os_str().as_bytes();
    if path.is_empty() {
        return forbidden("it is empty".to_owned());
    }
    if path.len() > MAX_PATH {
        return forbidden(format!("it is longer than {MAX_PATH} bytes"));
    }
    if path.contains(&0) {
        return forbidden("it contains NUL".to_owned());
    }
    for part in path.split(|byte| *byte == b'/') {
        if part == b".." {
            return forbidden("`..` is not followed".to_owned());
        }
        if part.len() > MAX_NAME {
            return forbidden(format!("a name in it is longer than {MAX_NAME} bytes"));
        }
    }
    Ok(())
}

/// Refuses variables that can't be, or that would run something else first.
fn environment<N: AsRef<OsStr>, V: AsRef<OsStr>>(variables: &[(N, V)]) -> Result<(), SandboxError> {
    if variables.len() > MAX_VARIABLES {
        let count = variables.len();
        return Err(invalid(format!("{count} variables; the most is {MAX_VARIABLES}")));
    }
    for (name, value) in variables {
        let shown: String = name.as_ref().to_string_lossy().chars().take(64).collect();
        let (name, value) = (name.as_ref().as_bytes(), value.as_ref().as_bytes());
        if name.is_empty() || name.contains(&b'=') || name.contains(&0) {
            return Err(invalid(format!("`{shown}` can't be the name of a variable")));
        }
        if value.contains(&0) {
            return Err(invalid(format!("the value of `{shown}` contains NUL")));
        }
        if name.len() > MAX_NAME || value.len() > MAX_VALUE {
            return Err(invalid(format!(
                "the variable `{shown}` is too long: a name may have {MAX_NAME} bytes, a value \
                 {MAX_VALUE}"
            )));
        }
        let git = name.starts_with(b"GIT_CONFIG") || name.starts_with(b"GIT_SSH");
        let loads = LOADING.iter().any(|loading| loading.as_bytes() == name);
        if name.starts_with(b"LD_") || git || loads {
            return Err(invalid(format!(
                "the variable `{shown}` would load or run something before the command"
            )));
        }
    }
    Ok(())
}

/// Refuses a command that can't be, in whichever sandbox.
pub(crate) fn check(command: &Command) -> Result<(), SandboxError> {
    if command.program.is_empty() {
        return Err(invalid("the program is empty"));
    }
    for argument in std::iter::once(&command.program).chain(&command.args) {
        if argument.as_bytes().contains(&0) {
            return Err(invalid("an argument contains NUL"));
        }
    }
    if command.output_cap > MAX_OUTPUT {
        return Err(invalid(format!("output_cap may be {MAX_OUTPUT} bytes at most")));
    }
    if command.timeout.is_zero() {
        return Err(invalid("the timeout must not be zero"));
    }
    if command.grace > MAX_GRACE {
        return Err(invalid(format!("the grace may be {MAX_GRACE:?} at most")));
    }
    if let Some(cwd) = &command.cwd {
        path(cwd.as_ref())?;
    }
    environment(&command.env)?;
    let words = || std::iter::once(&command.program).chain(&command.args);
    let longest = words().map(|word| word.len()).max().unwrap_or(0);
    if longest > MAX_ARGUMENT {
        return Err(invalid(format!(
            "an argument has {longest} bytes; the most that Linux passes on is {MAX_ARGUMENT} (pass \
             data in a file or on standard input)"
        )));
    }
    let variables = command.env.iter().map(|(name, value)| name.len() + value.len() + 2);
    together(words().map(|word| word.len() + 1).chain(variables).sum())
}

/// Refuses more than a command may be given.
fn together(size: usize) -> Result<(), SandboxError> {
    if size > MAX_ARGUMENTS {
        return Err(invalid(format!(
            "arguments and environment have {size} bytes; the most is {MAX_ARGUMENTS} (pass data \
             in a file or on standard input)"
        )));
    }
    Ok(())
}

/// What the guest is told to run.
pub(crate) fn command(command: &Command, config: &SandboxConfig) -> Result<Exec, SandboxError> {
    check(command)?;
    let mut variables: Vec<(&OsStr, &OsStr)> =
        DEFAULTS.iter().map(|(name, value)| (OsStr::new(name), OsStr::new(value))).collect();
    let own = config.environment_variables.iter().map(|(n, v)| (OsStr::new(n), OsStr::new(v)));
    for (name, value) in own.chain(command.env.iter().map(|(n, v)| (&**n, &**v))) {
        variables.retain(|(there, _)| *there != name);
        variables.push((name, value));
    }
    let workdir = &config.filesystem_config.workdir;
    let directory = match &command.cwd {
        None => workdir.clone(),
        Some(cwd) => Path::new(workdir).join(cwd).to_string_lossy().into_owned(),
    };
    if ["/proc", "/dev"].iter().any(|control| Path::new(&directory).starts_with(control)) {
        return Err(SandboxError::PathForbidden {
            path: directory,
            reason: "a command can't start there".to_owned(),
        });
    }
    let exec = Exec {
        arguments: std::iter::once(&command.program)
            .chain(&command.args)
            .map(|argument| argument.as_bytes().to_vec())
            .collect(),
        environment: variables
            .iter()
            .map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat())
            .collect(),
        directory: directory.into_bytes(),
        timeout_ms: milliseconds(command.timeout.min(config.resource_limits.execution_timeout)),
        grace_ms: milliseconds(command.grace),
        processor_seconds: command.processor_time.map_or(0, |time| {
            time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0)).max(1)
        }),
        terminal: command.terminal.map(Into::into),
    };
    together(exec.arguments.iter().chain(&exec.environment).map(|word| word.len() + 1).sum())?;
    Ok(exec)
}

/// The longest argument: the kernel takes 32 pages, the byte that ends it included.
const MAX_ARGUMENT: usize = (128 << 10) - 1;
/// The longest time between asking a command to end and killing it.
const MAX_GRACE: std::time::Duration = std::time::Duration::from_secs(60);
/// The most that is kept of one output stream.
const MAX_OUTPUT: usize = 64 << 20;

/// Rounded up: a command that may run for a moment may run for a millisecond.
fn milliseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_path(text: &str, allowed: bool) {
        assert_eq!(path(text.as_ref()).is_ok(), allowed, "{text:?}");
    }

    #[test]
    fn paths_that_climb_are_refused_and_odd_names_are_names() {
        for text in
            ["", "../x", "a/../../x", "/tmp/..", "a\0b", &"x".repeat(256), &"x/".repeat(2100)]
        {
            check_path(text, false);
        }
        for text in ["x", "..x", "..\\x", "%2e%2e/x", "/tmp/a b\n", &"x".repeat(255), "…/emoji🦀"]
        {
            check_path(text, true);
        }
    }

    #[test]
    fn a_limit_that_is_not_held_is_one_that_may_be_done_without() {
        let lines = ["memory: why", "processes: why", "processor time: why", "disk: why"];
        let lines = lines.map(str::to_owned);
        let named = |result: Result<(), SandboxError>| match result {
            Ok(()) => "held".to_owned(),
            Err(SandboxError::IsolationUnavailable { control, .. }) => control,
            Err(other) => panic!("{other}"),
        };
        use Control::{Memory, Processes, ProcessorTime};
        for (missing, allowed, want) in [
            (&lines[..0], vec![], "held"),
            (&lines[3..], vec![], "held"),
            (&lines[..], vec![], "memory"),
            (&lines[..], vec![Memory], "processes"),
            (&lines[..], vec![Processes, Memory], "processor time"),
            (&lines[..], vec![Processes, Memory, ProcessorTime], "held"),
            (&lines[1..2], vec![Memory, ProcessorTime], "processes"),
        ] {
            let options = Options { allow_degraded: allowed, ..Options::default() };
            assert_eq!(named(held(&options, missing)), want, "{missing:?} {options:?}");
        }
    }

    #[test]
    fn variables_that_load_code_are_refused() {
        for name in
            ["LD_PRELOAD", "GLIBC_TUNABLES", "BASH_ENV", "GIT_CONFIG_COUNT", "", "A=B", "\0"]
        {
            assert!(environment(&[(name, "x")]).is_err(), "{name:?}");
        }
        for value in ["\0", &"x".repeat(4097)] {
            assert!(environment(&[("A", value)]).is_err());
        }
        assert_eq!(environment(&[("A", "line\nand \"quotes\"")]), Ok(()));
        assert!(environment(&vec![("A", "x"); 129]).is_err());
    }
}
