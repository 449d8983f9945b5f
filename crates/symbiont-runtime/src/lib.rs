//! A runtime for AI agents: life cycle, scheduling, messages, resources, error recovery, policy,
//! sandboxes and a verifiable audit trail.
//!
//! An agent is a program in a small language. The runtime leads it through its life, decides each
//! effect by policy, makes it in a sandbox, and records it in a trail that shows whether it is
//! whole. Eight components do that, each behind a trait with a `Default*` that works by itself;
//! [`Runtime`] builds and joins them all over one data directory.
//!
//! ```
//! use symbiont_runtime::*;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let runtime = Runtime::open(RuntimeConfig { profile: Profile::Dev, ..Default::default() }).await?;
//! let source = "agent adder(a: int, b: int) -> int { with { return a + b; } }";
//! let agent = runtime.lifecycle().create_agent(AgentConfig {
//!     id: AgentId::new(),
//!     name: "adder".to_owned(),
//!     dsl_source: source.to_owned(),
//!     execution_mode: ExecutionMode::Ephemeral,
//!     security_tier: SecurityTier::Tier1,
//!     resource_limits: ResourceLimits { memory_mb: 64, ..Default::default() },
//!     capabilities: vec![],
//!     policies: vec![],
//!     metadata: HashMap::new(),
//!     priority: Priority::Normal,
//! }).await?;
//! runtime.lifecycle().initialize_agent(agent.id).await?;
//! runtime.lifecycle().start_agent_with_input(agent.id, r#"{"a": 2, "b": 40}"#).await?;
//! let run = runtime.lifecycle().settled(agent.id).await?.expect("it has run");
//! assert_eq!(run.outcome, RunOutcome::Returned("42".into()));
//! runtime.shutdown().await;
//! # Ok(())
//! # }
//! ```

#![warn(missing_docs)]

mod audit;
mod bus;
mod clock;
mod directory;
mod error_handler;
#[cfg(test)]
mod faulty;
mod http;
mod journal;
mod lifecycle;
mod policy;
mod resources;
mod run;
mod runtime;
mod sandbox;
mod scheduler;
mod tasks;
mod tools;
mod turns;

pub use std::collections::HashMap;
pub use std::time::{Duration, SystemTime};

pub use symbiont_types::*;

pub use audit::{
    AuditTrail, AuditTrailBuilder, AuditTrailConfig, DefaultAuditTrail, Export, Receipt, TrailRow,
};
pub use bus::{
    BusBuilder, CommunicationBus, CommunicationConfig, DeadCause, DeadLetter,
    DefaultCommunicationBus, LeasedMessage, verify_message,
};
pub use clock::Clock;
pub use directory::Directory;
pub use error_handler::{
    DefaultErrorHandler, ErrorHandler, ErrorHandlerBuilder, ErrorHandlerConfig,
};
pub use http::{
    AddressRange, DefaultHttpClient, HttpClient, HttpConfig, HttpError, HttpRequest, HttpResponse,
};
pub use journal::Journal;
pub use lifecycle::machine::{Event as LifecycleEvent, Rest, transition};
pub use lifecycle::{
    DefaultLifecycleController, Evaluation, LifecycleBuilder, LifecycleConfig, LifecycleController,
};
pub use policy::{
    AgentFacts, DefaultPolicyEngine, PolicyEngine, PolicyEngineBuilder, PolicyEngineConfig,
    PolicyGate, Profile, Question,
};
pub use resources::{
    DefaultResourceManager, ResourceManager, ResourceManagerBuilder, ResourceManagerConfig,
};
pub use run::{Cause, REMEMBERS_AS, RunFailure, RunOutcome, RunReport};
pub use runtime::{Runtime, RuntimeConfig, open_trail};
pub use sandbox::{
    CPU_CORES, CgroupLayout, Command, Control, DefaultSandboxOrchestrator, DirEntry, DriverStatus,
    EntryKind, IsolationReport, MEMORY_MB, Omission, Omitted, PROCESSES, Process, ProcessInput,
    ProcessOutput, SandboxExt, SandboxOptions, SandboxOrchestrator, SandboxOrchestratorBuilder,
    SandboxOrchestratorConfig, SandboxUsage, Stat, TerminalSize, Tier1, Transferred,
    kept_sandboxes, reap_sandboxes,
};
pub use scheduler::{DefaultScheduler, Scheduler, SchedulerBuilder, SchedulerConfig};
pub use symbiont_dsl::tools::{Risk, Tool, Tools};
pub use symbiont_dsl::url::Url;
pub use symbiont_store::StoreError;
pub use tools::{ToolFile, ToolFolder, load_tools};

/// A number from 0 up to and without 1, from the system's randomness.
fn chance() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness pauses are all the same, which is no reason to fail.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    f64::from(u32::from_be_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}
