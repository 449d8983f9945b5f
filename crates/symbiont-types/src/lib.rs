//! The vocabulary of the Symbiont agent runtime.
//!
//! Ids, agents, limits, messages, tasks, policies, sandboxes, audit events and the errors that go
//! with them: the public types of the API reference, and those that it names without defining.
//!
//! # What holds
//!
//! - Data only: no async, no clock, no files. Apart from an id's `new()`, same input, same output.
//! - The structs have exactly the reference's public fields and the enums exactly its variants.
//! - Ids and plain enums serialize; every other type converts at the edge that needs a format.

#![warn(missing_docs)]

mod agent;
mod audit;
mod error;
mod ids;
mod message;
mod policy;
mod recovery;
mod resource;
mod sandbox;
mod security;
mod status;
mod task;

pub use agent::{AgentConfig, AgentInstance, AgentState, Capability, ExecutionMode, Priority};
pub use audit::{
    AuditEvent, AuditEventType, AuditOrder, AuditQuery, ExportFormat, Finding, FindingKind,
    IntegrityReport, Verdict,
};
pub use error::{
    AuditError, CommunicationError, ConfigurationError, ErrorHandlerError, LifecycleError,
    PolicyError, ResourceError, RuntimeError, SandboxError, SchedulerError, SecurityError,
};
pub use ids::{AgentId, AuditId, IdError, MessageId, RequestId, SandboxId, SnapshotId, TaskId};
pub use message::{DeliveryStatus, Message, SecureMessage};
pub use policy::{
    Comparison, Condition, Obligation, Operand, Policy, PolicyContext, PolicyDecision,
    PolicyEffect, PolicyIssue, PolicyRule, PolicyValidationResult, PolicyValue, PrincipalSelector,
    RuleConflict,
};
pub use recovery::{
    BreakerState, BreakerStatus, ErrorAction, ErrorFingerprint, ErrorStatistics, ErrorThresholds,
    ErrorType, RecoveryStrategy, SystemErrorStatistics,
};
pub use resource::{
    KindStatus, Measured, ResourceAllocation, ResourceKind, ResourceLimits, ResourceSnapshot,
    ResourceThresholds, ResourceUsage, ResourceViolation, SystemResourceStatus, Threshold,
    UsageDetail, UsageSource, ViolationAction, ViolationSeverity,
};
pub use sandbox::{
    CommandResult, EgressRule, FilesystemConfig, Mount, NetworkConfig, NetworkMode, RootFilesystem,
    SandboxConfig, SandboxStatus,
};
pub use security::{EncryptionAlgorithm, IsolationLevel, SecurityContext, SecurityTier};
pub use status::{
    AuditHead, ComponentHealth, ComponentStatus, Health, Phase, StorageStatus, SystemStatus,
    TierStatus,
};
pub use task::{
    LoadBalancingStrategy, PriorityCounts, RunningTask, ScheduledTask, SchedulerMetrics,
    TaskStatus, TimingSummary,
};
