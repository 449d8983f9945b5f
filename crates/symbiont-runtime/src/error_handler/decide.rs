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
            | SandboxError::Unsupported { .. }
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
    /// Whether the error is one to act on by itself (see [`is_grave`] and [`acts`]).
    pub(crate) acts: bool,
    /// Whether somebody registered the strategy, rather than its being the default.
    pub(crate) registered: bool,
    /// The agent began an effect that must not be repeated blindly.
    pub(crate) effects: bool,
    /// The agent rests and takes more work: what failed was one piece of it.
    pub(crate) rests: bool,
    /// Whether the breaker lets recovery through.
    pub(crate) breaker_allows: bool,
    /// Restarts in the window so far, and the most there may be.
    pub(crate) recoveries: u32,
    pub(crate) max_recoveries: u32,
    /// Retries in a row so far, which the pause grows with.
    pub(crate) retries: u32,
    pub(crate) multiplier: f32,
    pub(crate) ephemeral: bool,
    /// A number from 0 up to 1 that spreads pauses.
    pub(crate) chance: f64,
}

/// What is to be done about an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    /// `None`: it is counted, and nothing is done about it.
    pub(crate) action: Option<ErrorAction>,
    /// The agent would run again, but for an effect whose outcome nobody knows.
    pub(crate) unknown: bool,
}

/// Whether an error calls for action however much else the agent still does: a violation of
/// security, or denials that come as often as escalation is set to. A single denial is a normal
/// result, which the agent has already been given.
pub(crate) fn is_grave(error_type: ErrorType, denials_repeat: bool) -> bool {
    match error_type {
        ErrorType::SecurityViolation => true,
        ErrorType::PolicyViolation => denials_repeat,
        ErrorType::ResourceExhaustion
        | ErrorType::NetworkError
        | ErrorType::SystemError
        | ErrorType::ValidationError => false,
    }
}

/// Whether an error is acted on by itself. One piece of work of an agent that goes on is not, unless
/// it is grave; nor is a single denial, unless somebody registered what to do about it.
pub(crate) fn acts(error_type: ErrorType, grave: bool, registered: bool, rests: bool) -> bool {
    let normal = error_type == ErrorType::PolicyViolation && !registered;
    grave || !(rests || normal)
}

/// The decision, in the order of selection: thresholds, breaker, strategy, what its effects allow,
/// budget; without auto recovery everything that is done is a suspension.
///
/// `on_breach` is what the agent's thresholds ask for, once they are passed. An agent that goes on
/// is never run again for one piece of its work: whoever asked for the work does that.
pub(crate) fn decide(
    strategy: &RecoveryStrategy,
    on_breach: Option<&ErrorAction>,
    situation: Situation,
) -> Decision {
    let wanted = match on_breach {
        Some(action) => chosen(&as_strategy(action), Situation { registered: true, ..situation }),
        None if !situation.breaker_allows => match strategy {
            // What ends the agent is no attempt to recover.
            RecoveryStrategy::Terminate { .. } => ErrorAction::Terminate,
            RecoveryStrategy::Retry { .. }
            | RecoveryStrategy::Restart { .. }
            | RecoveryStrategy::Failover { .. }
            | RecoveryStrategy::Manual { .. }
            | RecoveryStrategy::None => ErrorAction::Suspend,
        },
        None if !situation.acts => return Decision { action: None, unknown: false },
        None => chosen(strategy, situation),
    };
    let again = matches!(wanted, ErrorAction::Retry { .. } | ErrorAction::Restart);
    let put_aside = again && (situation.effects || situation.rests) || !situation.recovering;
    Decision {
        action: Some(if put_aside { ErrorAction::Suspend } else { wanted }),
        unknown: again && situation.effects,
    }
}

/// The action of a strategy. Nobody can take over from an agent yet, so that a failover is the
/// suspension that comes after it.
fn chosen(strategy: &RecoveryStrategy, situation: Situation) -> ErrorAction {
    let spent = situation.recoveries >= situation.max_recoveries;
    match strategy {
        RecoveryStrategy::Retry { max_attempts, backoff } if situation.retries < *max_attempts => {
            ErrorAction::Retry {
                max_attempts: max_attempts - situation.retries,
                backoff: pause(*backoff, situation),
            }
        }
        // What is retried by default is not mended by beginning anew.
        RecoveryStrategy::Retry { .. } if situation.registered && !spent => ErrorAction::Restart,
        RecoveryStrategy::Restart { .. } if !spent => ErrorAction::Restart,
        RecoveryStrategy::Terminate { .. } => ErrorAction::Terminate,
        RecoveryStrategy::None if situation.ephemeral => ErrorAction::Terminate,
        RecoveryStrategy::Retry { .. }
        | RecoveryStrategy::Restart { .. }
        | RecoveryStrategy::Failover { .. }
        | RecoveryStrategy::Manual { .. }
        | RecoveryStrategy::None => ErrorAction::Suspend,
    }
}

/// The strategy that an action asked for by thresholds stands for, so that it has the same budget.
fn as_strategy(action: &ErrorAction) -> RecoveryStrategy {
    match action {
        ErrorAction::Retry { max_attempts, backoff } => {
            RecoveryStrategy::Retry { max_attempts: *max_attempts, backoff: *backoff }
        }
        ErrorAction::Restart => RecoveryStrategy::Restart { preserve_state: true },
        ErrorAction::Suspend => {
            RecoveryStrategy::Manual { reason: "the agent's thresholds were passed".to_owned() }
        }
        ErrorAction::Terminate => RecoveryStrategy::Terminate { cleanup: true },
        ErrorAction::Failover => RecoveryStrategy::Failover { backup_agent: None },
    }
}

/// The pause before a retry: anything up to a bound that the multiplier raises with each retry, so
/// that those that failed together do not come back together. At most a minute.
fn pause(base: Duration, situation: Situation) -> Duration {
    let growth =
        f64::from(situation.multiplier).powi(i32::try_from(situation.retries).unwrap_or(i32::MAX));
    let most = (base.as_secs_f64() * growth).min(LONGEST_BACKOFF.as_secs_f64());
    Duration::from_secs_f64(most * situation.chance)
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
        acts: true,
        registered: true,
        effects: false,
        rests: false,
        breaker_allows: true,
        recoveries: 0,
        max_recoveries: 3,
        retries: 0,
        multiplier: 2.0,
        ephemeral: false,
        chance: 1.0,
    };
    const RESTS: Situation = Situation { rests: true, acts: false, ..CALM };
    const OPEN: Situation = Situation { breaker_allows: false, ..CALM };
    const EFFECTS: Situation = Situation { effects: true, ..CALM };
    const DEFAULT: Situation = Situation { registered: false, ..CALM };

    /// `None` in words, so that the tables below read.
    fn words(decision: &Decision) -> String {
        let action = match &decision.action {
            None => "count".to_owned(),
            Some(ErrorAction::Retry { max_attempts, backoff }) => {
                format!("retry {max_attempts} in {}s", backoff.as_secs())
            }
            Some(action) => format!("{action:?}").to_lowercase(),
        };
        if decision.unknown { format!("{action}, unknown") } else { action }
    }

    #[test]
    fn an_action_follows_from_the_strategy_and_the_situation() {
        let retry = &RecoveryStrategy::Retry { max_attempts: 2, backoff: Duration::from_secs(1) };
        let restart = &RecoveryStrategy::Restart { preserve_state: true };
        let manual = &RecoveryStrategy::Manual { reason: "x".to_owned() };
        let terminate = &RecoveryStrategy::Terminate { cleanup: true };
        let failover = &RecoveryStrategy::Failover { backup_agent: None };
        let none = &RecoveryStrategy::None;
        let cases = [
            (retry, CALM, "retry 2 in 1s"),
            (retry, Situation { retries: 1, ..CALM }, "retry 1 in 2s"),
            (retry, Situation { retries: 2, ..CALM }, "restart"),
            (retry, Situation { retries: 2, ..DEFAULT }, "suspend"),
            (retry, Situation { retries: 2, recoveries: 3, ..CALM }, "suspend"),
            (retry, EFFECTS, "suspend, unknown"),
            (restart, CALM, "restart"),
            (restart, EFFECTS, "suspend, unknown"),
            (restart, Situation { recoveries: 3, ..CALM }, "suspend"),
            (restart, Situation { recoveries: 3, ..EFFECTS }, "suspend"),
            (restart, OPEN, "suspend"),
            (restart, Situation { recovering: false, ..CALM }, "suspend"),
            (restart, RESTS, "count"),
            (restart, Situation { breaker_allows: false, ..RESTS }, "suspend"),
            (restart, Situation { acts: true, ..RESTS }, "suspend"),
            (restart, Situation { recovering: false, ..RESTS }, "count"),
            (none, CALM, "suspend"),
            (none, Situation { ephemeral: true, ..CALM }, "terminate"),
            (terminate, CALM, "terminate"),
            (terminate, OPEN, "terminate"),
            (terminate, EFFECTS, "terminate"),
            (terminate, RESTS, "count"),
            (terminate, Situation { acts: true, ..RESTS }, "terminate"),
            (manual, CALM, "suspend"),
            (manual, Situation { acts: false, ..CALM }, "count"),
            (failover, CALM, "suspend"),
        ];
        for (strategy, situation, want) in cases {
            let decision = decide(strategy, None, situation);
            assert_eq!(words(&decision), want, "{strategy:?} {situation:?}");
        }
    }

    #[test]
    fn what_thresholds_ask_for_comes_before_breaker_and_strategy() {
        let second = Duration::from_secs(1);
        let retry = &ErrorAction::Retry { max_attempts: 2, backoff: second };
        let cases = [
            (&ErrorAction::Terminate, CALM, "terminate"),
            (&ErrorAction::Terminate, OPEN, "terminate"),
            (&ErrorAction::Terminate, RESTS, "terminate"),
            (&ErrorAction::Terminate, Situation { recovering: false, ..CALM }, "suspend"),
            (&ErrorAction::Failover, CALM, "suspend"),
            (&ErrorAction::Restart, CALM, "restart"),
            (&ErrorAction::Restart, Situation { recoveries: 3, ..CALM }, "suspend"),
            (&ErrorAction::Restart, EFFECTS, "suspend, unknown"),
            (&ErrorAction::Restart, RESTS, "suspend"),
            (retry, CALM, "retry 2 in 1s"),
            (retry, Situation { retries: 2, ..CALM }, "restart"),
        ];
        for (action, situation, want) in cases {
            let decision = decide(&RecoveryStrategy::None, Some(action), situation);
            assert_eq!(words(&decision), want, "{action:?} {situation:?}");
        }
    }

    #[test]
    fn one_denial_and_one_failed_piece_of_work_are_no_reason_to_act() {
        use ErrorType::{NetworkError, PolicyViolation, SecurityViolation};
        let cases = [
            // The kind, whether denials repeat, registered, rests: whether it is acted on.
            (PolicyViolation, false, false, false, false),
            (PolicyViolation, true, false, false, true),
            (PolicyViolation, false, true, false, true),
            (PolicyViolation, false, true, true, false),
            (PolicyViolation, true, false, true, true),
            (NetworkError, false, false, false, true),
            (NetworkError, false, true, true, false),
            (SecurityViolation, false, false, true, true),
        ];
        for case @ (kind, repeat, registered, rests, want) in cases {
            assert_eq!(acts(kind, is_grave(kind, repeat), registered, rests), want, "{case:?}");
        }
    }

    #[test]
    fn a_pause_is_anything_up_to_its_bound() {
        let retry = RecoveryStrategy::Retry { max_attempts: 9, backoff: Duration::from_secs(1) };
        for (retries, chance, millis) in [(0, 0.0, 0), (0, 0.5, 500), (3, 0.5, 4000), (3, 0.0, 0)] {
            let decision = decide(&retry, None, Situation { retries, chance, ..CALM });
            let Some(ErrorAction::Retry { backoff, .. }) = decision.action else { panic!() };
            assert_eq!(backoff, Duration::from_millis(millis), "{retries} {chance}");
        }
    }

    #[test]
    fn a_pause_never_exceeds_a_minute() {
        let retry = RecoveryStrategy::Retry { max_attempts: u32::MAX, backoff: Duration::MAX };
        for retries in [0, 1, 100, u32::MAX - 1] {
            let decision = decide(&retry, None, Situation { retries, ..CALM });
            let Some(ErrorAction::Retry { backoff, .. }) = decision.action else { panic!() };
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
