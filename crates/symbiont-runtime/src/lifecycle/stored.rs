//! Agents as they are kept: what changes with each step in one row, the config in another.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use symbiont_types::{
    AgentConfig, AgentId, AgentState, Capability, ExecutionMode, Priority, ResourceLimits,
    SecurityTier,
};

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
}

/// What an agent is made from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Config {
    id: AgentId,
    name: String,
    dsl_source: String,
    execution_mode: ExecutionMode,
    security_tier: SecurityTier,
    memory_mb: u64,
    /// By its bits.
    cpu_cores: u64,
    disk_io_mbps: u64,
    network_io_mbps: u64,
    execution_timeout: Duration,
    idle_timeout: Duration,
    capabilities: Vec<Capability>,
    policies: Vec<Policy>,
    metadata: HashMap<String, String>,
    priority: Priority,
}

impl From<&AgentConfig> for Config {
    fn from(config: &AgentConfig) -> Self {
        let limits = &config.resource_limits;
        Self {
            id: config.id,
            name: config.name.clone(),
            dsl_source: config.dsl_source.clone(),
            execution_mode: config.execution_mode.clone(),
            security_tier: config.security_tier,
            memory_mb: limits.memory_mb,
            cpu_cores: limits.cpu_cores.to_bits(),
            disk_io_mbps: limits.disk_io_mbps,
            network_io_mbps: limits.network_io_mbps,
            execution_timeout: limits.execution_timeout,
            idle_timeout: limits.idle_timeout,
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
            resource_limits: ResourceLimits {
                memory_mb: config.memory_mb,
                cpu_cores: f64::from_bits(config.cpu_cores),
                disk_io_mbps: config.disk_io_mbps,
                network_io_mbps: config.network_io_mbps,
                execution_timeout: config.execution_timeout,
                idle_timeout: config.idle_timeout,
            },
            capabilities: config.capabilities,
            policies: config.policies.into_iter().map(Into::into).collect(),
            metadata: config.metadata,
            priority: config.priority,
        }
    }
}
