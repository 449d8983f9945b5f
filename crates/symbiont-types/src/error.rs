//! Errors, one type for each component, and [`RuntimeError`] that gathers them.

use std::time::Duration;

use crate::{
    AgentId, AgentState, AuditId, ErrorAction, MessageId, PolicyIssue, SandboxId, SecurityTier,
    TaskId,
};

/// An error of any component.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RuntimeError {
    /// Of the resource manager.
    #[error(transparent)]
    Resource(#[from] ResourceError),
    /// Of the communication bus.
    #[error(transparent)]
    Communication(#[from] CommunicationError),
    /// Of keys, capabilities and tiers.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// Of the scheduler.
    #[error(transparent)]
    Scheduler(#[from] SchedulerError),
    /// Of the lifecycle controller.
    #[error(transparent)]
    Lifecycle(#[from] LifecycleError),
    /// Of the error handler.
    #[error(transparent)]
    ErrorHandler(#[from] ErrorHandlerError),
    /// Of settings.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// Of the policy engine.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Of the sandbox orchestrator.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// Of the audit trail.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// Of nothing that has a name.
    #[error("{0}")]
    Internal(String),
}

/// Why a resource request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResourceError {
    /// There is not enough left.
    #[error("not enough resources: {requirements}")]
    InsufficientResources {
        /// Kinds, what was asked and what is available.
        requirements: String,
    },
    /// The agent holds another allocation, or the limits can't be granted as they are.
    #[error(
        "no allocation for agent `{agent_id}`: its limits are not valid, or it already holds others (use update_resource_limits)"
    )]
    AllocationFailed {
        /// Who asked.
        agent_id: AgentId,
    },
    /// The agent never had an allocation.
    #[error("agent `{agent_id}` never had an allocation")]
    DeallocationFailed {
        /// Who asked.
        agent_id: AgentId,
    },
    /// The agent is over its limit.
    #[error("agent `{agent_id}` used more {resource} than it may")]
    UsageExceeded {
        /// Who.
        agent_id: AgentId,
        /// Of what, with the figures.
        resource: String,
    },
    /// What is used could not be found out, or the request can't be served.
    #[error("resources can't be reported: {reason}")]
    MonitoringFailed {
        /// Why.
        reason: String,
    },
}

/// Why a lifecycle request was refused, or began and did not finish.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LifecycleError {
    /// The id was never given out, or its agent has since been forgotten.
    #[error("no agent `{agent_id}`")]
    AgentNotFound {
        /// The id.
        agent_id: AgentId,
    },
    /// The agent exists, but `to` cannot be reached from where it is.
    #[error("an agent cannot go from {from} to {to}")]
    InvalidStateTransition {
        /// Where it is.
        from: AgentState,
        /// Where it was to go.
        to: AgentState,
    },
    /// The sandbox, or the agent's own code, failed before the agent was ready.
    #[error("agent `{agent_id}` did not initialize: {reason}")]
    InitializationFailed {
        /// Which agent.
        agent_id: AgentId,
        /// Why.
        reason: String,
    },
    /// Something of the agent could not be ended; the runtime goes on trying.
    #[error("agent `{agent_id}` did not terminate: {reason}")]
    TerminationFailed {
        /// Which agent.
        agent_id: AgentId,
        /// Why.
        reason: String,
    },
    /// The request itself can't be granted: a setting, a limit on agents, a policy, a shutdown.
    #[error("{reason}")]
    ConfigurationInvalid {
        /// Why, and what to do.
        reason: String,
    },
}

/// Why a message was refused or not delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommunicationError {
    /// The agent has no mailbox.
    #[error("agent `{agent_id}` is not registered with the bus (use register_agent)")]
    AgentNotRegistered {
        /// Which agent.
        agent_id: AgentId,
    },
    /// The payload is too large.
    #[error("a payload of {size} bytes is too large: the most is {max_size}")]
    MessageTooLarge {
        /// Its size in bytes.
        size: usize,
        /// The most there may be.
        max_size: usize,
    },
    /// The message was not accepted, or nothing is known of it.
    #[error("message `{message_id}`: {reason}")]
    DeliveryFailed {
        /// Which message.
        message_id: MessageId,
        /// Why.
        reason: String,
    },
    /// Sealing or opening failed.
    #[error("encryption failed: {reason}")]
    EncryptionFailed {
        /// Why.
        reason: String,
    },
    /// Nobody ever subscribed to the topic.
    #[error("no topic `{topic}`: the first subscriber creates it")]
    TopicNotFound {
        /// Which topic.
        topic: String,
    },
}

/// What went wrong with keys, identities, capabilities or tiers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecurityError {
    /// A signature does not fit what it signs.
    #[error("the signature of `{subject}` is not valid")]
    SignatureInvalid {
        /// What was signed.
        subject: String,
    },
    /// There is no such key.
    #[error("no key `{key_id}`")]
    KeyNotFound {
        /// Which key.
        key_id: String,
    },
    /// The key is no longer good.
    #[error("key `{key_id}` has expired")]
    KeyExpired {
        /// Which key.
        key_id: String,
    },
    /// What was encrypted can't be opened.
    #[error("decryption failed: {reason}")]
    DecryptionFailed {
        /// Why.
        reason: String,
    },
    /// It was seen before.
    #[error("`{subject}` was seen before")]
    ReplayDetected {
        /// What.
        subject: String,
    },
    /// The agent lacks the capability.
    #[error("the agent's capabilities do not include `{capability}`")]
    CapabilityDenied {
        /// Which one.
        capability: String,
    },
    /// This host does not have the tier.
    #[error("{tier} is not available: {reason}")]
    TierUnavailable {
        /// Which tier.
        tier: SecurityTier,
        /// Why, and what to install.
        reason: String,
    },
    /// Nobody vouches for who this is.
    #[error("the identity `{identity}` can't be verified")]
    IdentityUnverified {
        /// Who it claims to be.
        identity: String,
    },
    /// A person has to approve first.
    #[error("approval `{id}` is required")]
    ApprovalRequired {
        /// The pending approval.
        id: String,
    },
}

/// What is wrong with a setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigurationError {
    /// It is not there.
    #[error("the setting `{key}` is missing")]
    Missing {
        /// Which setting.
        key: String,
    },
    /// It makes no sense.
    #[error("the setting `{key}` is not valid: {reason}")]
    Invalid {
        /// Which setting.
        key: String,
        /// Why, and what would be.
        reason: String,
    },
    /// Nothing has that name.
    #[error("no setting `{key}`{}", .suggestion.as_ref().map(|s| format!(" (did you mean `{s}`?)")).unwrap_or_default())]
    Unknown {
        /// The name.
        key: String,
        /// The nearest one that exists.
        suggestion: Option<String>,
    },
    /// A file or directory could not be used.
    #[error("`{path}`: {reason}")]
    Io {
        /// Which one.
        path: String,
        /// Why.
        reason: String,
    },
    /// The project's settings are not trusted.
    #[error("the project `{path}` is not trusted")]
    UntrustedProject {
        /// Where it is.
        path: String,
    },
}

/// Why the scheduler refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchedulerError {
    /// Nobody answers for the agent.
    #[error("no agent `{agent_id}`")]
    AgentNotFound {
        /// Which agent.
        agent_id: AgentId,
    },
    /// There is no such task, or it ended more than a day ago.
    #[error("no task `{task_id}`")]
    TaskNotFound {
        /// Which task.
        task_id: TaskId,
    },
    /// Another task has the id.
    #[error("another task has the id `{task_id}`")]
    DuplicateTask {
        /// The id.
        task_id: TaskId,
    },
    /// No room for another task.
    #[error(
        "the queue is full: it holds {capacity} tasks (try again later, or raise task_queue_size)"
    )]
    QueueFull {
        /// How many there may be.
        capacity: usize,
    },
    /// The task makes no sense.
    #[error("the task is not valid: {reason}")]
    InvalidTask {
        /// Why.
        reason: String,
    },
    /// The task has ended.
    #[error("task `{task_id}` has already finished")]
    AlreadyFinished {
        /// Which task.
        task_id: TaskId,
    },
    /// Nothing is started at present.
    #[error("scheduling is paused (use resume_scheduling)")]
    SchedulingPaused,
    /// The scheduler is closing or closed.
    #[error("the scheduler is shutting down")]
    ShuttingDown,
    /// The change could not be recorded, so it was not made.
    #[error("the scheduler's state could not be saved: {reason}")]
    Storage {
        /// Why.
        reason: String,
    },
}

/// Why an error was not handled.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ErrorHandlerError {
    /// Nobody answers for the agent, or it has ended.
    #[error("no living agent `{agent_id}`")]
    AgentNotFound {
        /// Which agent.
        agent_id: AgentId,
    },
    /// The strategy makes no sense.
    #[error("the strategy is not valid: {reason}")]
    InvalidStrategy {
        /// Why.
        reason: String,
    },
    /// The thresholds make no sense.
    #[error("the thresholds are not valid: {reason}")]
    InvalidThreshold {
        /// Why.
        reason: String,
    },
    /// The decided action could not be carried out.
    #[error("{action:?} was decided and could not be carried out: {reason}")]
    RecoveryFailed {
        /// The action.
        action: ErrorAction,
        /// Why not.
        reason: String,
    },
    /// The handler is closing or closed.
    #[error("the error handler is shutting down")]
    ShuttingDown,
    /// The change could not be recorded.
    #[error("the error handler's state could not be saved: {reason}")]
    Storage {
        /// Why.
        reason: String,
    },
}

/// Why the policy engine refused, or could not decide.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PolicyError {
    /// There is no such policy.
    #[error("no policy `{policy_id}`")]
    NotFound {
        /// Which one.
        policy_id: String,
    },
    /// The policy makes no sense.
    #[error("the policy is not valid: {}", issues(.errors))]
    Invalid {
        /// What is wrong with it.
        errors: Vec<PolicyIssue>,
    },
    /// It can't be combined with what is there.
    #[error("the policy conflicts with another: {reason}")]
    Conflict {
        /// How.
        reason: String,
    },
    /// No decision could be made; the operation does not happen.
    #[error("the policy could not be evaluated: {reason}")]
    EvaluationFailed {
        /// Why.
        reason: String,
    },
    /// It was decided that it may not happen.
    #[error("{}", .decision.reason)]
    Denied {
        /// The decision.
        decision: Box<crate::PolicyDecision>,
    },
    /// The change could not be recorded, so it was not made.
    #[error("the policies could not be saved: {reason}")]
    Storage {
        /// Why.
        reason: String,
    },
    /// The engine is closing or closed.
    #[error("the policy engine is shutting down")]
    ShuttingDown,
}

fn issues(errors: &[PolicyIssue]) -> String {
    errors.iter().map(|e| format!("{}: {}", e.path, e.message)).collect::<Vec<_>>().join("; ")
}

/// Why a sandbox could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SandboxError {
    /// The id was never given out, or its sandbox has since been forgotten.
    #[error("no sandbox `{sandbox_id}`")]
    NotFound {
        /// Which sandbox.
        sandbox_id: SandboxId,
    },
    /// This host does not have the tier.
    #[error("{tier} is not available: {reason}")]
    TierUnavailable {
        /// Which tier.
        tier: SecurityTier,
        /// Why, and what to install.
        reason: String,
    },
    /// The image is not there.
    #[error("no image {image}")]
    ImageMissing {
        /// Which image, in backticks, and why or what to do, as far as that is known.
        image: String,
    },
    /// Not in this state.
    #[error("a sandbox that is {from} can't {operation}")]
    InvalidState {
        /// The state.
        from: String,
        /// What was asked of it.
        operation: String,
    },
    /// It could not be made.
    #[error("the sandbox could not be created: {reason}")]
    CreateFailed {
        /// At which step, and why.
        reason: String,
    },
    /// The command could not be started.
    #[error("`{command}` could not be run: {reason}")]
    ExecFailed {
        /// The command.
        command: String,
        /// Why.
        reason: String,
        /// Whether that is because there is no such program.
        missing: bool,
    },
    /// Creation, start or a transfer took too long.
    #[error("{operation} took longer than {after:?}")]
    Timeout {
        /// What took too long.
        operation: String,
        /// How long it may take.
        after: Duration,
    },
    /// The command wrote too much and was to be killed for it.
    #[error("the command wrote more than {limit} bytes")]
    OutputLimit {
        /// The most it may write.
        limit: u64,
    },
    /// The path leads where it must not.
    #[error("the path `{path}` can't be used: {reason}")]
    PathForbidden {
        /// The path.
        path: String,
        /// Why.
        reason: String,
    },
    /// Only regular files can be transferred.
    #[error("`{path}` is not a regular file")]
    NotRegular {
        /// The path.
        path: String,
    },
    /// The file is too large.
    #[error("a file of {size} bytes is too large: the most is {limit}")]
    TransferTooLarge {
        /// Its size in bytes.
        size: u64,
        /// The most there may be.
        limit: u64,
    },
    /// No room is left in the sandbox.
    #[error("no room is left in the sandbox")]
    StorageFull,
    /// It ran into a limit.
    #[error("the sandbox ran into its limit of {kind}")]
    ResourceLimit {
        /// Of what.
        kind: String,
    },
    /// A wall that was asked for can't be put up here.
    #[error("the isolation `{control}` is not available: {reason}")]
    IsolationUnavailable {
        /// Which one.
        control: String,
        /// Why, and what to do where that is not to allow the sandbox to be without it.
        reason: String,
    },
    /// This kind of sandbox, or this host, can't do that at all.
    #[error("the sandbox can't {operation}: {reason}")]
    Unsupported {
        /// What was asked of it.
        operation: String,
        /// Why, and what does instead.
        reason: String,
    },
    /// An argument makes no sense.
    #[error("not a valid argument: {what}")]
    InvalidArgument {
        /// Which one, and why.
        what: String,
    },
    /// The program inside the sandbox is gone.
    #[error("the sandbox was lost: {cause}")]
    AgentLost {
        /// Why, as far as it is known.
        cause: String,
    },
    /// The engine behind the driver does not answer.
    #[error("the sandbox engine does not answer: {reason}")]
    BackendUnavailable {
        /// Why.
        reason: String,
    },
    /// A policy said no.
    #[error("denied by policy: {reason}")]
    PolicyDenied {
        /// Why.
        reason: String,
    },
    /// The orchestrator is closing or closed.
    #[error("the sandbox orchestrator is shutting down")]
    ShuttingDown,
}

impl SandboxError {
    /// Whether the same call may succeed later although its caller changes nothing: what it wanted was
    /// busy, used up by others, or out of reach.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Timeout { .. }
            | Self::ResourceLimit { .. }
            | Self::CreateFailed { .. }
            | Self::BackendUnavailable { .. } => true,
            Self::NotFound { .. }
            | Self::TierUnavailable { .. }
            | Self::ImageMissing { .. }
            | Self::InvalidState { .. }
            | Self::ExecFailed { .. }
            | Self::OutputLimit { .. }
            | Self::PathForbidden { .. }
            | Self::NotRegular { .. }
            | Self::TransferTooLarge { .. }
            | Self::StorageFull
            | Self::IsolationUnavailable { .. }
            | Self::Unsupported { .. }
            | Self::InvalidArgument { .. }
            | Self::AgentLost { .. }
            | Self::PolicyDenied { .. }
            | Self::ShuttingDown => false,
        }
    }

    /// Whether it is certain that what was asked for did not happen. If not, a command may have run, wholly or
    /// in part, so that running it again may do twice what it does.
    pub fn outcome_known(&self) -> bool {
        !matches!(
            self,
            Self::Timeout { .. }
                | Self::OutputLimit { .. }
                | Self::AgentLost { .. }
                | Self::BackendUnavailable { .. }
                | Self::ShuttingDown
        )
    }
}

/// Why the audit trail refused, or could not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// There is no such record.
    #[error("no audit record `{audit_id}`")]
    NotFound {
        /// Which one.
        audit_id: AuditId,
    },
    /// Another event has the id.
    #[error("another event has the id `{audit_id}`")]
    DuplicateId {
        /// The id.
        audit_id: AuditId,
    },
    /// The query makes no sense.
    #[error("the query is not valid: {reason}")]
    InvalidQuery {
        /// Why.
        reason: String,
    },
    /// The event makes no sense.
    #[error("the event is not valid: {reason}")]
    InvalidEvent {
        /// Why.
        reason: String,
    },
    /// The trail is not what was written.
    #[error("the audit trail is damaged at record {sequence}")]
    Corrupted {
        /// Where.
        sequence: u64,
    },
    /// No room is left.
    #[error("no room is left for the audit trail")]
    StorageFull,
    /// The trail could not be read or written.
    #[error("the audit trail could not be reached: {reason}")]
    Storage {
        /// Why.
        reason: String,
    },
    /// No signature could be made.
    #[error("the audit trail could not be signed: {reason}")]
    SigningFailed {
        /// Why.
        reason: String,
    },
    /// The export could not be made.
    #[error("the export failed: {reason}")]
    ExportFailed {
        /// Why.
        reason: String,
    },
    /// The trail is closing or closed.
    #[error("the audit trail is shutting down")]
    ShuttingDown,
}
