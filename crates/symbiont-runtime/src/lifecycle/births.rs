//! How an agent begins: created, initialized, started.

use std::sync::Arc;
use std::time::Duration;

use symbiont_types::{
    AgentConfig, AgentInstance, AgentState, AuditEventType, ExecutionMode, LifecycleError, Policy,
    ResourceError, SecurityTier,
};

use super::fleet::Member;
use super::machine::{Event, transition};
use super::runs::Beginning;
use super::{Inner, config, invalid, storage, stored, watch};
use crate::clock::{from_micros, micros};
use crate::directory::AgentPort;
use crate::journal::{AGENTS, CONFIGS, Change};
use crate::policy::{AgentFacts, Question};
use crate::run::{ActiveRun, Cause, Definition, Input, Run};

/// Sources above this are read on a thread of their own.
const LARGE_SOURCE: usize = 64 * 1024;

impl Inner {
    pub(super) async fn create(
        &self,
        config: AgentConfig,
    ) -> Result<AgentInstance, LifecycleError> {
        let mut issues = config::issues(&config);
        issues.extend(symbiont_policy::validate(&config.policies));
        if !issues.is_empty() {
            return Err(invalid(&config::line(&issues)));
        }
        let id = config.id;
        let record = stored::Agent::new(micros(self.journal.now()));
        let member = Member::new(config, record.clone());
        self.fleet.add(Arc::clone(&member))?;
        let outcome = self.announce(&member, &record).await;
        if outcome.is_err() {
            self.fleet.undo(id);
            self.policy.forget_agent(id);
        }
        outcome.map(|()| member.instance())
    }

    async fn announce(
        &self,
        member: &Member,
        record: &stored::Agent,
    ) -> Result<(), LifecycleError> {
        self.take_place(member)?;
        let outcome = self.record_creation(member, record).await;
        if outcome.is_err() {
            // Others may have places beside it: they came for the id, and stay.
            self.directory.clear_agent(member.id);
        }
        outcome
    }

    async fn record_creation(
        &self,
        member: &Member,
        record: &stored::Agent,
    ) -> Result<(), LifecycleError> {
        let config = Arc::clone(&member.cell().config);
        self.tell_policy(&config, &config.policies, config.security_tier)?;
        let key = *member.id.as_uuid().as_bytes();
        let entry = self
            .entry(member, AuditEventType::AgentCreated, "agent.created")
            .details(config.name.clone())
            .with("state", AgentState::Created);
        let change = Change::new()
            .put(AGENTS, key, record)
            .put(CONFIGS, key, &stored::Configs::of(&config, None))
            .record(entry);
        self.journal.commit(change).await.map(|_| ()).map_err(storage)
    }

    pub(super) fn take_place(&self, member: &Member) -> Result<(), LifecycleError> {
        let port: Arc<dyn AgentPort> = self.me();
        self.directory.set_agent(member.id, &port).map_err(|_| {
            let id = member.id;
            invalid(&format!("another lifecycle controller of this process has an agent `{id}`"))
        })
    }

    pub(super) fn tell_policy(
        &self,
        config: &AgentConfig,
        policies: &[Policy],
        tier: SecurityTier,
    ) -> Result<(), LifecycleError> {
        let facts = AgentFacts {
            name: config.name.clone(),
            tier,
            metadata: config.metadata.clone(),
            policies: policies.to_vec(),
        };
        self.policy.set_agent(config.id, facts).map_err(|issues| invalid(&config::line(&issues)))
    }

    /// The agent's definition; read again if it was parked.
    pub(super) fn definition(&self, member: &Member) -> Result<Arc<Definition>, String> {
        let config = {
            let cell = member.cell();
            if let Some(definition) = &cell.definition {
                return Ok(Arc::clone(definition));
            }
            Arc::clone(&cell.config)
        };
        let definition = Arc::new(self.programs.define(&config)?);
        member.cell().definition = Some(Arc::clone(&definition));
        Ok(definition)
    }

    // Initializing.

    pub(super) async fn initialize(
        &self,
        member: &Arc<Member>,
        event: Event,
    ) -> Result<(), LifecycleError> {
        let _turn = member.turn.lock().await;
        self.initialize_in_turn(member, event).await
    }

    /// The caller holds the agent's turn.
    pub(super) async fn initialize_in_turn(
        &self,
        member: &Arc<Member>,
        event: Event,
    ) -> Result<(), LifecycleError> {
        let entry = self.entry(member, AuditEventType::AgentCreated, "agent.initializing");
        let mut also = Change::new();
        let next = member.cell().next_config.clone();
        if let Some(next) = &next {
            let key = *member.id.as_uuid().as_bytes();
            also = also.put(CONFIGS, key, &stored::Configs::of(next, None));
        }
        self.shift(member, event, entry, also, |record| {
            record.failure = None;
            record.suspended_from = None;
        })
        .await?;
        if let Some(next) = next {
            let before = std::mem::replace(&mut member.cell().config, Arc::clone(&next));
            self.fleet.rename(member.id, &before.name, &next.name);
            member.cell().next_config = None;
        }
        member.cell().definition = None;
        let limit = self.settings.initialization_timeout;
        let prepared = match tokio::time::timeout(limit, self.prepare(member)).await {
            Ok(prepared) => prepared,
            Err(_) => Err(format!("it took longer than {limit:?} (see initialization_timeout)")),
        };
        let shifted = match &prepared {
            Ok(()) => {
                let entry = self.entry(member, AuditEventType::AgentCreated, "agent.initialized");
                self.shift(member, Event::Initialized, entry, Change::new(), |record| {
                    record.recovering = false;
                })
                .await
            }
            Err(reason) => {
                let entry = self
                    .entry(member, AuditEventType::ErrorOccurred, "agent.initialization_failed")
                    .details(reason.clone());
                let recovering = self.settings.enable_auto_recovery;
                self.shift(member, Event::Fail, entry, Change::new(), |record| {
                    record.error_count = record.error_count.saturating_add(1);
                    record.failure = Some(reason.clone());
                    record.recovering = recovering;
                })
                .await
            }
        };
        if let Err(error) = shifted {
            // What is on record is that it was being initialized, which a restart of the process
            // takes back; so does this one.
            self.fall_back(member, Event::Rewind, &error);
            return Err(error);
        }
        prepared
            .map_err(|reason| LifecycleError::InitializationFailed { agent_id: member.id, reason })
    }

    /// What has to be there before an agent is ready.
    async fn prepare(&self, member: &Arc<Member>) -> Result<(), String> {
        let config = Arc::clone(&member.cell().config);
        let definition = if config.dsl_source.len() > LARGE_SOURCE {
            // Reading it takes a while; others want to run meanwhile.
            let (inner, member) = (self.me(), Arc::clone(member));
            let read = tokio::task::spawn_blocking(move || inner.definition(&member));
            read.await.map_err(|_| "its source could not be read".to_owned())??
        } else {
            self.definition(member)?
        };
        self.tell_policy(&config, &definition.policies, definition.tier)
            .map_err(|error| error.to_string())?;
        if let Some(bus) = &self.bus {
            let capabilities = config.capabilities.clone();
            bus.register_agent(member.id, capabilities).await.map_err(|error| error.to_string())?;
        }
        if config.metadata.get("sandbox").is_some_and(|value| value == "eager") {
            self.eager_sandbox(member, &definition).await?;
        }
        Ok(())
    }

    async fn eager_sandbox(
        &self,
        member: &Member,
        definition: &Arc<Definition>,
    ) -> Result<(), String> {
        let active = ActiveRun::new();
        let run =
            self.run_of(member, Arc::clone(definition), Cause::Start, Input::None, active, None);
        crate::run::open_sandbox(&run).await.map_err(|error| error.to_string())
    }

    pub(super) fn run_of(
        &self,
        member: &Member,
        definition: Arc<Definition>,
        cause: Cause,
        input: Input,
        active: ActiveRun,
        timeout: Option<Duration>,
    ) -> Run {
        let (limit, name) = {
            let cell = member.cell();
            (cell.config.resource_limits.execution_timeout, cell.config.name.clone())
        };
        let most = definition.limits.execution_timeout.min(limit);
        Run {
            services: Arc::clone(&self.services),
            agent_id: member.id,
            agent_name: name,
            definition,
            seat: Arc::clone(&member.seat),
            cause,
            input,
            timeout: timeout.map_or(most, |timeout| timeout.min(most)),
            active,
        }
    }

    // Starting.

    pub(super) async fn start(
        &self,
        member: &Arc<Member>,
        input: Input,
    ) -> Result<(), LifecycleError> {
        let _turn = member.turn.lock().await;
        self.start_in_turn(member, input).await
    }

    /// The caller holds the agent's turn.
    pub(super) async fn start_in_turn(
        &self,
        member: &Arc<Member>,
        input: Input,
    ) -> Result<(), LifecycleError> {
        transition(member.state(), Event::Start)?;
        if member.cell().run.is_some() {
            return Err(invalid("the agent is still being stopped: start it when that is done"));
        }
        let definition = self.definition(member).map_err(|reason| {
            LifecycleError::InitializationFailed { agent_id: member.id, reason }
        })?;
        self.may_start(member, &definition)?;
        self.admit(member, &definition).await?;
        let interval = match definition.mode {
            ExecutionMode::Scheduled { interval } => Some(interval),
            ExecutionMode::Persistent | ExecutionMode::Ephemeral | ExecutionMode::EventDriven => {
                None
            }
        };
        // A tick that no clock will ever show is at the end of time.
        let first_tick = interval
            .map(|interval| self.journal.now().checked_add(interval).map_or(i64::MAX, micros));
        let beginning = Beginning { first_tick, ..Beginning::start(definition, input) };
        self.begin(member, beginning).await?;
        if let (Some(interval), Some(first)) = (interval, first_tick) {
            let first = from_micros(first);
            self.tasks.spawn(watch::recur(self.this.clone(), member.id, first, first, interval));
        }
        Ok(())
    }

    /// Has what the agent may use promised to it, exactly.
    pub(super) async fn admit(
        &self,
        member: &Member,
        definition: &Definition,
    ) -> Result<(), LifecycleError> {
        let Some(resources) = &self.resources else { return Ok(()) };
        let limits = definition.limits.clone();
        let promised = match resources.allocate_resources(member.id, limits.clone()).await {
            // It holds another promise: that of an earlier start, or one made by hand.
            Err(ResourceError::AllocationFailed { .. }) => {
                resources.update_resource_limits(member.id, limits).await
            }
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        };
        promised.map_err(|error| invalid(&error.to_string()))
    }

    pub(super) fn may_start(
        &self,
        member: &Member,
        definition: &Definition,
    ) -> Result<(), LifecycleError> {
        let nothing = std::collections::BTreeMap::new();
        let no_metadata = std::collections::HashMap::new();
        let decision = self.policy.decide(&Question {
            agent_id: member.id,
            operation: "agent.start",
            arguments: &[],
            named: &nothing,
            limits: Some(&definition.limits),
            metadata: &no_metadata,
            ambient: &nothing,
            own_policies: false,
        });
        match crate::policy::refusal(&decision, "agent.start") {
            None => Ok(()),
            Some(refusal) => {
                Err(invalid(&format!("`agent.start` was refused: {}", refusal.reason)))
            }
        }
    }
}
