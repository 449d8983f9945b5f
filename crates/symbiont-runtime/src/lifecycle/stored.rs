//! Agents as they are kept: what changes with each step in one row, the config in another.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use symbiont_types::{
    AgentConfig, AgentId, AgentState, Capability, ExecutionMode, MessageId, Priority, SecurityTier,
};

use uuid::Uuid;

use crate::journal::StoredLimits;
use crate::policy::stored::Policy;

/// What changes with each step.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Agent {
    pub(crate) state: AgentState,
    pub(crate) started: bool,
    pub(crate) suspended_from: Option<AgentState>,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
    pub(crate) execution_count: u64,
    pub(crate) error_count: u32,
    pub(crate) restart_count: u32,
    pub(crate) first_tick: Option<i64>,
    pub(crate) failure: Option<String>,
    /// The run that is under way, whatever the agent's state: one that waits or holds still is one.
    pub(crate) run: Option<OpenRun>,
    /// It has failed, and is to be initialized again by itself.
    pub(crate) recovering: bool,
}

impl Agent {
    /// One that is created now.
    pub(crate) fn new(now: i64) -> Self {
        Self {
            state: AgentState::Created,
            started: false,
            suspended_from: None,
            created_at: now,
            updated_at: now,
            execution_count: 0,
            error_count: 0,
            restart_count: 0,
            first_tick: None,
            failure: None,
            run: None,
            recovering: false,
        }
    }
}

/// A run that has begun and not ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OpenRun {
    pub(crate) id: Uuid,
    /// The message that it deals with.
    pub(crate) message: Option<MessageId>,
}

/// The config in force, and the one that the next initialization takes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Configs {
    pub(crate) now: Config,
    pub(crate) next: Option<Config>,
}

impl Configs {
    pub(crate) fn of(now: &AgentConfig, next: Option<&AgentConfig>) -> Self {
        Self { now: now.into(), next: next.map(Config::from) }
    }
}

/// What an agent is made from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Config {
    id: AgentId,
    name: String,
    dsl_source: String,
    execution_mode: ExecutionMode,
    security_tier: SecurityTier,
    limits: StoredLimits,
    capabilities: Vec<Capability>,
    policies: Vec<Policy>,
    metadata: HashMap<String, String>,
    priority: Priority,
}

impl From<&AgentConfig> for Config {
    fn from(config: &AgentConfig) -> Self {
        Self {
            id: config.id,
            name: config.name.clone(),
            dsl_source: config.dsl_source.clone(),
            execution_mode: config.execution_mode.clone(),
            security_tier: config.security_tier,
            limits: StoredLimits::from(&config.resource_limits),
            capabilities: config.capabilities.clone(),
            policies: config.policies.iter().map(Policy::from).collect(),
            metadata: config.metadata.clone(),
            priority: config.priority,
        }
    }
}

impl From<Config> for AgentConfig {
    fn from(config: Config) -> Self {
        Self {
            id: config.id,
            name: config.name,
            dsl_source: config.dsl_source,
            execution_mode: config.execution_mode,
            security_tier: config.security_tier,
            resource_limits: config.limits.into(),
            capabilities: config.capabilities,
            policies: config.policies.into_iter().map(Into::into).collect(),
            metadata: config.metadata,
            priority: config.priority,
        }
    }
}
