//! Another config for an agent: what applies at once, and what waits for the next initialization.

use std::sync::Arc;

use symbiont_types::{AgentConfig, AgentState, AuditEventType, LifecycleError};

use super::fleet::Member;
use super::{Inner, config, invalid, storage, stored};
use crate::journal::{CONFIGS, Change};

impl Inner {
    pub(super) async fn update(
        &self,
        member: &Arc<Member>,
        config: AgentConfig,
    ) -> Result<(), LifecycleError> {
        if config.id != member.id {
            return Err(invalid("the config is of another agent: its `id` can't change"));
        }
        let mut issues = config::issues(&config);
        issues.extend(symbiont_policy::validate(&config.policies));
        if !issues.is_empty() {
            return Err(invalid(&config::line(&issues)));
        }
        let _turn = member.turn.lock().await;
        let (state, current) = {
            let cell = member.cell();
            (cell.record.state, Arc::clone(&cell.config))
        };
        if matches!(state, AgentState::Terminating | AgentState::Terminated) {
            return Err(LifecycleError::InvalidStateTransition { from: state, to: state });
        }
        let now_config = at_once(&current, &config);
        let later = (now_config != config).then(|| Arc::new(config));
        let definition = match self.programs.define(&now_config) {
            Ok(definition) => Some(Arc::new(definition)),
            // What it has can't be read, which may be just what this is to mend.
            Err(_) if matches!(state, AgentState::Created | AgentState::Failed) => None,
            Err(reason) => return Err(invalid(&reason)),
        };
        // All of it, or nothing: what was told before is taken back if it can't be recorded.
        self.tell_all(member, &now_config, definition.as_deref()).await?;
        let entry = self
            .entry(member, AuditEventType::SecurityEvent, "config.updated")
            .with("at_next_initialization", later.is_some());
        let key = *member.id.as_uuid().as_bytes();
        let configs = stored::Configs::of(&now_config, later.as_deref());
        let change = Change::new().put(CONFIGS, key, &configs).record(entry);
        if let Err(error) = self.journal.commit(change).await {
            let definition = member.cell().definition.clone();
            if let Err(error) = self.tell_all(member, &current, definition.as_deref()).await {
                tracing::error!(agent_id = %member.id, %error, "a config could not be taken back");
            }
            return Err(storage(error));
        }
        {
            let mut cell = member.cell();
            cell.config = Arc::new(now_config);
            cell.next_config = later;
            if state != AgentState::Created {
                cell.definition = definition;
            }
        }
        self.tell(member);
        Ok(())
    }

    /// Tells the ledger and the policy engine what the agent may do.
    async fn tell_all(
        &self,
        member: &Member,
        config: &AgentConfig,
        definition: Option<&crate::run::Definition>,
    ) -> Result<(), LifecycleError> {
        let (limits, policies, tier) = match definition {
            Some(definition) => (&definition.limits, &definition.policies, definition.tier),
            None => (&config.resource_limits, &config.policies, config.security_tier),
        };
        let ledger = self.directory.ledger(member.id);
        if let Some(resources) = &self.resources
            && ledger.is_some_and(|ledger| ledger.holds(member.id))
        {
            resources
                .update_resource_limits(member.id, limits.clone())
                .await
                .map_err(|error| invalid(&error.to_string()))?;
        }
        self.tell_policy(config, policies, tier)
    }
}

/// What of `wanted` applies at once. Another program, name, tier or mode, and more capabilities,
/// make a new generation, which the next initialization begins: a program is found by its name.
fn at_once(current: &AgentConfig, wanted: &AgentConfig) -> AgentConfig {
    let narrows = !wanted.capabilities.is_empty()
        && (current.capabilities.is_empty()
            || wanted.capabilities.iter().all(|c| current.capabilities.contains(c)));
    let capabilities =
        if narrows { wanted.capabilities.clone() } else { current.capabilities.clone() };
    AgentConfig {
        name: current.name.clone(),
        dsl_source: current.dsl_source.clone(),
        security_tier: current.security_tier,
        execution_mode: current.execution_mode.clone(),
        capabilities,
        ..wanted.clone()
    }
}
