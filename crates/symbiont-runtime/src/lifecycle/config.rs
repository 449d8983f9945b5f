//! Which configs are fit to make an agent from.

use std::time::Duration;

use symbiont_types::{AgentConfig, ExecutionMode, PolicyIssue, ResourceLimits};

/// The shortest time between two ticks.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);
/// The longest name, in characters.
const LONGEST_NAME: usize = 128;
/// The largest program.
const LARGEST_SOURCE: usize = 1024 * 1024;
/// The most entries of metadata, and bytes of them.
const MOST_METADATA: usize = 64;
const LARGEST_METADATA: usize = 64 * 1024;
/// The most capabilities and policies.
const MOST_CAPABILITIES: usize = 256;
const MOST_POLICIES: usize = 256;

/// Everything that is wrong with the config but its policies' rules.
pub(crate) fn issues(config: &AgentConfig) -> Vec<PolicyIssue> {
    let mut issues = Vec::new();
    let mut wrong = |path: &str, message: &str| {
        issues.push(PolicyIssue {
            code: "C0001".to_owned(),
            path: path.to_owned(),
            message: message.to_owned(),
            span: None,
            suggestion: None,
        });
    };
    let name = &config.name;
    if name.is_empty() || name.chars().count() > LONGEST_NAME || name.chars().any(char::is_control)
    {
        wrong("name", "has to have 1 to 128 characters, none of them a control character");
    }
    if config.dsl_source.trim().is_empty() {
        wrong("dsl_source", "is empty: an agent needs a program or an instruction");
    }
    if config.dsl_source.len() > LARGEST_SOURCE {
        wrong("dsl_source", "has more than 1 MiB");
    }
    if let ExecutionMode::Scheduled { interval } = config.execution_mode
        && interval < SHORTEST_INTERVAL
    {
        wrong(
            "execution_mode.interval",
            "is shorter than a millisecond: nobody can run that often",
        );
    }
    limits(&config.resource_limits, &mut wrong);
    if config.capabilities.len() > MOST_CAPABILITIES {
        wrong("capabilities", "has more than 256 entries");
    }
    if config.policies.len() > MOST_POLICIES {
        wrong("policies", "has more than 256 entries");
    }
    let size: usize = config.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
    if config.metadata.len() > MOST_METADATA || size > LARGEST_METADATA {
        wrong("metadata", "has more than 64 entries or 64 KiB");
    }
    match config.metadata.get("sandbox").map(String::as_str) {
        None | Some("eager" | "lazy") => {}
        Some(_) => wrong("metadata.sandbox", "has to be `eager` or `lazy`"),
    }
    match config.metadata.get("concurrency").map(String::as_str) {
        None | Some("1") => {}
        Some(_) => wrong(
            "metadata.concurrency",
            "has to be 1: more than one run of an agent at a time is not served yet",
        ),
    }
    issues
}

fn limits(limits: &ResourceLimits, wrong: &mut impl FnMut(&str, &str)) {
    if limits.memory_mb == 0 || limits.memory_mb > u64::MAX >> 20 {
        wrong("resource_limits.memory_mb", "has to be at least 1 and a number of MiB that exists");
    }
    if !limits.cpu_cores.is_finite() || !(0.001..=1_000_000.0).contains(&limits.cpu_cores) {
        wrong("resource_limits.cpu_cores", "has to be a number from 0.001 up");
    }
    if limits.execution_timeout.is_zero() {
        wrong("resource_limits.execution_timeout", "has to be longer than zero");
    }
    if limits.idle_timeout.is_zero() {
        wrong("resource_limits.idle_timeout", "has to be longer than zero");
    }
}

/// The same in one line, for an error that has only a reason.
pub(crate) fn line(issues: &[PolicyIssue]) -> String {
    let each = |issue: &PolicyIssue| format!("`{}` {}", issue.path, issue.message);
    issues.iter().map(each).collect::<Vec<_>>().join("; ")
}
