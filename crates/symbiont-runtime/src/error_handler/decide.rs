//! Which action: plain functions from an error and what is known to what is to be done.

use std::time::Duration;

use symbiont_types::{
    CommunicationError, ErrorAction, ErrorType, LifecycleError, PolicyError, RecoveryStrategy,
    ResourceError, RuntimeError, SandboxError, SchedulerError, SecurityError,
};

/// The longest pause before a retry.
pub(crate) const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// What kind of error this is.
pub(crate) fn classify(error: &RuntimeError) -> ErrorType {
    use ErrorType::*;
    match error {
        RuntimeError::Resource(error) => match error {
            ResourceError::MonitoringFailed { .. } => SystemError,
            ResourceError::InsufficientResources { .. }
            | ResourceError::AllocationFailed { .. }
            | ResourceError::DeallocationFailed { .. }
            | ResourceError::UsageExceeded { .. } => ResourceExhaustion,
        },
        RuntimeError::Communication(error) => match error {
            CommunicationError::MessageTooLarge { .. }
            | CommunicationError::TopicNotFound { .. }
            | CommunicationError::AgentNotRegistered { .. } => ValidationError,
            CommunicationError::EncryptionFailed { .. } => SecurityViolation,
            CommunicationError::DeliveryFailed { .. } => NetworkError,
        },
        RuntimeError::Security(error) => match error {
            SecurityError::SignatureInvalid { .. }
            | SecurityError::KeyNotFound { .. }
            | SecurityError::KeyExpired { .. }
            | SecurityError::DecryptionFailed { .. }
            | SecurityError::ReplayDetected { .. }
            | SecurityError::CapabilityDenied { .. }
            | SecurityError::TierUnavailable { .. }
            | SecurityError::IdentityUnverified { .. }
            | SecurityError::ApprovalRequired { .. } => SecurityViolation,
        },
        RuntimeError::Policy(error) => match error {
            PolicyError::EvaluationFailed { .. }
            | PolicyError::Storage { .. }
            | PolicyError::ShuttingDown => SystemError,
            PolicyError::NotFound { .. }
            | PolicyError::Invalid { .. }
            | PolicyError::Conflict { .. }
            | PolicyError::Denied { .. } => PolicyViolation,
        },
        RuntimeError::Sandbox(error) => match error {
            SandboxError::PathForbidden { .. } | SandboxError::PolicyDenied { .. } => {
                SecurityViolation
            }
            SandboxError::StorageFull
            | SandboxError::ResourceLimit { .. }
            | SandboxError::OutputLimit { .. } => ResourceExhaustion,
            SandboxError::NotFound { .. }
            | SandboxError::TierUnavailable { .. }
            | SandboxError::ImageMissing { .. }
            | SandboxError::InvalidState { .. }
            | SandboxError::CreateFailed { .. }
            | SandboxError::ExecFailed { .. }
            | SandboxError::Timeout { .. }
            | SandboxError::NotRegular { .. }
            | SandboxError::TransferTooLarge { .. }
            | SandboxError::IsolationUnavailable { .. }
            | SandboxError::InvalidArgument { .. }
            | SandboxError::AgentLost { .. }
            | SandboxError::BackendUnavailable { .. }
            | SandboxError::ShuttingDown => SystemError,
        },
        RuntimeError::Scheduler(error) => match error {
            SchedulerError::QueueFull { .. } => ResourceExhaustion,
            SchedulerError::AgentNotFound { .. }
            | SchedulerError::TaskNotFound { .. }
            | SchedulerError::DuplicateTask { .. }
            | SchedulerError::InvalidTask { .. }
            | SchedulerError::AlreadyFinished { .. }
            | SchedulerError::SchedulingPaused
            | SchedulerError::ShuttingDown
            | SchedulerError::Storage { .. } => SystemError,
        },
        RuntimeError::Lifecycle(error) => match error {
            LifecycleError::InitializationFailed { .. }
            | LifecycleError::TerminationFailed { .. } => SystemError,
            LifecycleError::AgentNotFound { .. }
            | LifecycleError::InvalidStateTransition { .. }
            | LifecycleError::ConfigurationInvalid { .. } => ValidationError,
        },
        RuntimeError::Configuration(_) => ValidationError,
        RuntimeError::Audit(_) | RuntimeError::ErrorHandler(_) | RuntimeError::Internal(_) => {
            SystemError
        }
    }
}

/// What is done about errors of a kind when nobody said otherwise.
pub(crate) fn default_strategy(error_type: ErrorType) -> RecoveryStrategy {
    let retry = |max_attempts, millis| RecoveryStrategy::Retry {
        max_attempts,
        backoff: Duration::from_millis(millis),
    };
    match error_type {
        ErrorType::NetworkError => retry(5, 500),
        ErrorType::ResourceExhaustion => retry(3, 1000),
        ErrorType::SystemError => RecoveryStrategy::Restart { preserve_state: true },
        ErrorType::ValidationError => RecoveryStrategy::Manual {
            reason: "what was asked makes no sense, and asking again won't help".to_owned(),
        },
        ErrorType::PolicyViolation => RecoveryStrategy::Manual {
            reason: "the agent keeps asking for what its policies deny".to_owned(),
        },
        // Keeping its sandbox as evidence is not served yet: it goes with the agent.
        ErrorType::SecurityViolation => RecoveryStrategy::Terminate { cleanup: false },
    }
}

/// What is known when an action is chosen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Situation {
    /// `enable_auto_recovery`
    pub(crate) recovering: bool,
    /// The agent's own thresholds were passed: what they say is to be done.
    pub(crate) breached: bool,
    /// Whether the breaker lets recovery through.
    pub(crate) breaker_allows: bool,
    /// Recovery actions in the window so far, and the most there may be.
    pub(crate) recoveries: u32,
    pub(crate) max_recoveries: u32,
    /// Retries in a row so far, which the pause grows with.
    pub(crate) retries: u32,
    pub(crate) multiplier: f32,
    /// Whether there is an agent that could take over.
    pub(crate) has_backup: bool,
    pub(crate) ephemeral: bool,
    /// A number from 0 up to 1 that spreads pauses.
    pub(crate) chance: f64,
}

/// The action, in the order of selection: thresholds, breaker, strategy, budget; without auto
/// recovery everything is a suspension.
pub(crate) fn decide(
    strategy: &RecoveryStrategy,
    on_breach: Option<&ErrorAction>,
    situation: Situation,
) -> ErrorAction {
    if !situation.recovering {
        return ErrorAction::Suspend;
    }
    if situation.breached
        && let Some(action) = on_breach
    {
        return action.clone();
    }
    let give_up = if situation.has_backup { ErrorAction::Failover } else { ErrorAction::Suspend };
    let spent = situation.recoveries >= situation.max_recoveries;
    match strategy {
        // What ends the agent, or puts it aside, is no attempt to recover.
        RecoveryStrategy::Terminate { .. } => ErrorAction::Terminate,
        RecoveryStrategy::Manual { .. } => ErrorAction::Suspend,
        RecoveryStrategy::None if situation.ephemeral => ErrorAction::Terminate,
        RecoveryStrategy::None => ErrorAction::Suspend,
        _ if !situation.breaker_allows => give_up,
        RecoveryStrategy::Retry { max_attempts, backoff } if situation.retries < *max_attempts => {
            ErrorAction::Retry {
                max_attempts: max_attempts - situation.retries,
                backoff: pause(*backoff, situation),
            }
        }
        RecoveryStrategy::Retry { .. } | RecoveryStrategy::Restart { .. } if !spent => {
            ErrorAction::Restart
        }
        RecoveryStrategy::Retry { .. }
        | RecoveryStrategy::Restart { .. }
        | RecoveryStrategy::Failover { .. } => give_up,
    }
}

/// The pause before a retry: grown by the multiplier with each, half of it by chance, at most a
/// minute.
fn pause(base: Duration, situation: Situation) -> Duration {
    let growth =
        f64::from(situation.multiplier).powi(i32::try_from(situation.retries).unwrap_or(i32::MAX));
    let seconds = (base.as_secs_f64() * growth).min(LONGEST_BACKOFF.as_secs_f64());
    Duration::from_secs_f64(seconds * (0.5 + situation.chance / 2.0))
}

/// The error's text with what changes from time to time left out.
pub(crate) fn fingerprint(error: &RuntimeError) -> String {
    let text = error.to_string();
    let mut pattern = String::new();
    for word in
        text.split_inclusive(|c: char| c.is_whitespace() || "`\"'():,;".contains(c)).take(40)
    {
        let varies = word.chars().any(|c| c.is_ascii_digit());
        pattern.push_str(if varies { "# " } else { word });
    }
    pattern.chars().take(160).collect()
}

#[cfg(test)]
mod tests {
    use symbiont_types::AgentId;

    use super::*;

    const CALM: Situation = Situation {
        recovering: true,
        breached: false,
        breaker_allows: true,
        recoveries: 0,
        max_recoveries: 3,
        retries: 0,
        multiplier: 2.0,
        has_backup: false,
        ephemeral: false,
        chance: 1.0,
    };

    #[test]
    fn an_action_follows_from_the_strategy_and_the_situation() {
        let retry = RecoveryStrategy::Retry { max_attempts: 2, backoff: Duration::from_secs(1) };
        let restart = RecoveryStrategy::Restart { preserve_state: true };
        let again = |left, secs| ErrorAction::Retry {
            max_attempts: left,
            backoff: Duration::from_secs(secs),
        };
        let cases = [
            (&retry, CALM, again(2, 1)),
            (&retry, Situation { retries: 1, ..CALM }, again(1, 2)),
            (&retry, Situation { retries: 2, ..CALM }, ErrorAction::Restart),
            (&retry, Situation { retries: 2, recoveries: 3, ..CALM }, ErrorAction::Suspend),
            (&restart, CALM, ErrorAction::Restart),
            (&restart, Situation { recoveries: 3, ..CALM }, ErrorAction::Suspend),
            (
                &restart,
                Situation { recoveries: 3, has_backup: true, ..CALM },
                ErrorAction::Failover,
            ),
            (&restart, Situation { breaker_allows: false, ..CALM }, ErrorAction::Suspend),
            (&restart, Situation { recovering: false, ..CALM }, ErrorAction::Suspend),
            (&restart, Situation { breached: true, ..CALM }, ErrorAction::Terminate),
            (&RecoveryStrategy::None, CALM, ErrorAction::Suspend),
            (
                &RecoveryStrategy::None,
                Situation { ephemeral: true, ..CALM },
                ErrorAction::Terminate,
            ),
            (&RecoveryStrategy::Terminate { cleanup: true }, CALM, ErrorAction::Terminate),
            (&RecoveryStrategy::Manual { reason: "x".to_owned() }, CALM, ErrorAction::Suspend),
            (&RecoveryStrategy::Failover { backup_agent: None }, CALM, ErrorAction::Suspend),
        ];
        for (strategy, situation, want) in cases {
            let action = decide(strategy, Some(&ErrorAction::Terminate), situation);
            assert_eq!(action, want, "{strategy:?} {situation:?}");
        }
    }

    #[test]
    fn a_pause_never_exceeds_a_minute() {
        let retry = RecoveryStrategy::Retry { max_attempts: u32::MAX, backoff: Duration::MAX };
        for retries in [0, 1, 100, u32::MAX - 1] {
            let action = decide(&retry, None, Situation { retries, ..CALM });
            let ErrorAction::Retry { backoff, .. } = action else { panic!("{action:?}") };
            assert!(backoff <= LONGEST_BACKOFF, "{backoff:?}");
        }
    }

    #[test]
    fn errors_are_classified_by_what_can_be_done_about_them() {
        let agent_id = AgentId::new();
        let reason = String::new;
        let cases: [(RuntimeError, ErrorType); 9] = [
            (ResourceError::AllocationFailed { agent_id }.into(), ErrorType::ResourceExhaustion),
            (ResourceError::MonitoringFailed { reason: reason() }.into(), ErrorType::SystemError),
            (
                CommunicationError::AgentNotRegistered { agent_id }.into(),
                ErrorType::ValidationError,
            ),
            (
                CommunicationError::EncryptionFailed { reason: reason() }.into(),
                ErrorType::SecurityViolation,
            ),
            (SecurityError::KeyNotFound { key_id: reason() }.into(), ErrorType::SecurityViolation),
            (PolicyError::EvaluationFailed { reason: reason() }.into(), ErrorType::SystemError),
            (SandboxError::StorageFull.into(), ErrorType::ResourceExhaustion),
            (SchedulerError::QueueFull { capacity: 1 }.into(), ErrorType::ResourceExhaustion),
            (LifecycleError::AgentNotFound { agent_id }.into(), ErrorType::ValidationError),
        ];
        for (error, want) in cases {
            assert_eq!(classify(&error), want, "{error:?}");
        }
    }

    #[test]
    fn a_fingerprint_leaves_out_what_varies() {
        let of = |reason: &str| fingerprint(&RuntimeError::Internal(reason.to_owned()));
        assert_eq!(of("agent `0190-ab` failed at 17"), of("agent `77-cd` failed at 4"));
        assert_ne!(of("disk full"), of("disk gone"));
    }
}
