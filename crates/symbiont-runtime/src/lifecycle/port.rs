//! What other components ask of an agent: to run, to tell what it uses, to carry out a decision.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use symbiont_types::{
    AgentId, AgentState, AuditEventType, ErrorAction, ExecutionMode, LifecycleError,
    ResourceLimits, UsageSource,
};
use uuid::Uuid;

use super::Inner;
use super::fleet::{Cell, Member};
use super::machine::Event;
use super::runs::Work;
use crate::clock::from_micros;
use crate::directory::{Activation, AgentPort, AttemptOutcome, Readiness, Usage};
use crate::journal::Change;
use crate::run::{Blocking, Cause, Definition, Input, RunOutcome, SandboxSeat};

#[async_trait]
impl AgentPort for Inner {
    fn state(&self, id: AgentId) -> Option<AgentState> {
        self.fleet.find(id).map(|member| member.state())
    }

    fn limits(&self, id: AgentId) -> Option<ResourceLimits> {
        let member = self.fleet.find(id)?;
        let cell = member.cell();
        let definition = cell.definition.as_ref().map(|definition| definition.limits.clone());
        Some(definition.unwrap_or_else(|| cell.config.resource_limits.clone()))
    }

    fn is_ephemeral(&self, id: AgentId) -> bool {
        self.fleet
            .find(id)
            .is_some_and(|member| member.cell().config.execution_mode == ExecutionMode::Ephemeral)
    }

    fn readiness(&self, id: AgentId) -> Readiness {
        self.fleet.find(id).map_or(Readiness::Gone, |member| self.readiness_of(&member))
    }

    fn waits_for(&self, id: AgentId) -> Option<String> {
        self.fleet.find(id)?.cell().blocked_on.clone()
    }

    async fn run_task(&self, id: AgentId, activation: Activation) -> AttemptOutcome {
        let Some(member) = self.fleet.find(id) else { return AttemptOutcome::Gone };
        let Activation { task_id, input, timeout, cancel, errand } = activation;
        let work = Work {
            cause: Cause::Task(task_id),
            input: input.map_or(Input::None, Input::Json),
            timeout: Some(timeout),
            cancel,
            errand: Some(errand),
        };
        let inner = self.me();
        match self.tasks.finish(async move { inner.work(&member, work).await }).await {
            Some((outcome, _report)) => outcome,
            None => AttemptOutcome::Cancelled { by: "the runtime is shutting down".to_owned() },
        }
    }

    fn mail_waiting(&self, id: AgentId) {
        let Some(member) = self.fleet.find(id) else { return };
        let run = member.cell().run.clone();
        match run {
            Some(run) => run.mail.notify_one(),
            None => {
                let inner = self.me();
                self.tasks.spawn(async move { inner.after(&member).await });
            }
        }
    }

    async fn usage(&self, id: AgentId) -> Result<Usage, String> {
        let member = self.fleet.get(id).map_err(|error| error.to_string())?;
        let (memory, cpu_nanos, created_at, ended_at) = {
            let cell = member.cell();
            let (memory, cpu) = cell.run.as_ref().map_or((0, 0), |run| {
                let load = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
                (load(&run.meter.memory), load(&run.meter.cpu_nanos))
            });
            let ended =
                (cell.record.state == AgentState::Terminated).then_some(cell.record.updated_at);
            (memory, cell.cpu_nanos + cpu, cell.record.created_at, ended)
        };
        let until = ended_at.map_or_else(|| self.journal.now(), from_micros);
        let mut usage = Usage {
            memory: Some(memory),
            cpu_nanos: Some(cpu_nanos),
            // The evaluator reaches neither, and a sandbox has no network.
            disk_bytes: Some(0),
            network_bytes: Some(0),
            throttled: None,
            oom_kills: None,
            source: UsageSource::Evaluator,
            uptime: until.duration_since(from_micros(created_at)).unwrap_or_default(),
        };
        let seat: Arc<SandboxSeat> = Arc::clone(&member.seat);
        let current = *seat.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(sandbox), Some(id)) = (&self.sandbox, current) {
            let measured = sandbox.usage(id).await.map_err(|error| error.to_string())?;
            let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            usage = Usage {
                memory: measured.memory_bytes.map(|there| there.saturating_add(memory)),
                cpu_nanos: measured.cpu_time.map(|time| nanos(time).saturating_add(cpu_nanos)),
                disk_bytes: measured
                    .io_read_bytes
                    .zip(measured.io_write_bytes)
                    .map(|(read, written)| read.saturating_add(written)),
                throttled: measured.throttled,
                oom_kills: measured.oom_kills,
                source: UsageSource::Kernel,
                ..usage
            };
        }
        Ok(usage)
    }

    async fn control(
        &self,
        id: AgentId,
        run: Option<Uuid>,
        action: &ErrorAction,
        reason: &str,
    ) -> Result<(), LifecycleError> {
        let (action, reason) = (action.clone(), reason.to_owned());
        let carry_out = move |inner: Arc<Self>, member: Arc<Member>| async move {
            let has_gone_on = run.is_some_and(|run| {
                let cell = member.cell();
                cell.run.is_some() || cell.last_run.as_ref().is_some_and(|last| last.run_id != run)
            });
            if has_gone_on {
                return Ok(());
            }
            inner.carry_out(&member, action, &reason).await
        };
        self.act(id, carry_out).await
    }
}

/// Whether the agent would take a task now.
pub(super) fn readiness(cell: &Cell) -> Readiness {
    let not_now = |why: &str| Readiness::NotNow(why.to_owned());
    let ephemeral = cell.config.execution_mode == ExecutionMode::Ephemeral;
    match cell.record.state {
        AgentState::Created | AgentState::Initializing => not_now("the agent is not initialized"),
        AgentState::Ready if !cell.record.started => not_now("the agent is not started"),
        AgentState::Ready | AgentState::Waiting | AgentState::Running if cell.run.is_some() => {
            not_now("the agent is busy with another run")
        }
        AgentState::Ready | AgentState::Waiting => Readiness::Ready,
        AgentState::Running => not_now("the agent is busy with another run"),
        AgentState::Suspended => not_now("the agent is suspended"),
        AgentState::Completed | AgentState::Failed if ephemeral && cell.record.started => {
            Readiness::Ready
        }
        AgentState::Completed => not_now("the agent is not started"),
        AgentState::Failed => not_now("the agent has failed: initialize and start it again"),
        AgentState::Terminating | AgentState::Terminated => Readiness::Gone,
    }
}

impl Inner {
    /// Does what was decided about an error or a violation.
    async fn carry_out(
        &self,
        member: &Arc<Member>,
        action: ErrorAction,
        reason: &str,
    ) -> Result<(), LifecycleError> {
        let failed = |reason: &str| {
            Err(LifecycleError::InitializationFailed {
                agent_id: member.id,
                reason: reason.to_owned(),
            })
        };
        match action {
            ErrorAction::Retry { backoff, .. } => {
                if member.state() != AgentState::Failed {
                    return Ok(()); // It goes on by itself.
                }
                let (this, id) = (Weak::clone(&self.this), member.id);
                let stop = self.tasks.stopping();
                self.tasks.spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(backoff) => {}
                    }
                    let Some(inner) = this.upgrade() else { return };
                    let Some(member) = inner.fleet.find(id) else { return };
                    if member.state() == AgentState::Failed
                        && let Err(error) = inner.restart(&member).await
                    {
                        tracing::warn!(agent_id = %id, %error, "a retry could not begin");
                    }
                });
                Ok(())
            }
            ErrorAction::Restart => {
                if !self.take_restart(member) {
                    return failed(
                        "its restarts in five minutes are used up (see max_restart_attempts)",
                    );
                }
                self.restart(member).await
            }
            ErrorAction::Suspend => match member.state() {
                AgentState::Ready | AgentState::Running | AgentState::Waiting => {
                    self.suspend(member, reason).await
                }
                // It does nothing as it is.
                AgentState::Created
                | AgentState::Initializing
                | AgentState::Suspended
                | AgentState::Completed
                | AgentState::Failed
                | AgentState::Terminating
                | AgentState::Terminated => Ok(()),
            },
            ErrorAction::Terminate => self.terminate(member).await,
            ErrorAction::Failover => failed("taking over by a backup agent is not served yet"),
        }
    }
}

#[async_trait]
impl Blocking for Inner {
    async fn block(&self, agent_id: AgentId, run: Uuid, on: &str) {
        let Some(member) = self.fleet.find(agent_id) else { return };
        let _turn = member.turn.lock().await;
        {
            let mut cell = member.cell();
            if cell.run.as_ref().is_none_or(|there| there.id != run) {
                return;
            }
            cell.blocked_on = Some(on.to_owned());
        }
        if member.state() == AgentState::Running {
            let entry = self
                .entry(&member, AuditEventType::AgentStopped, "run.waiting")
                .details(format!("waits for {on}"));
            if let Err(error) =
                self.shift(&member, Event::Block, entry, Change::new(), |_| {}).await
            {
                tracing::warn!(%agent_id, %error, "a wait could not be recorded");
            }
        }
    }

    async fn unblock(&self, agent_id: AgentId, run: Uuid) {
        let Some(member) = self.fleet.find(agent_id) else { return };
        let _turn = member.turn.lock().await;
        {
            let mut cell = member.cell();
            if cell.run.as_ref().is_none_or(|there| there.id != run) {
                return;
            }
            cell.blocked_on = None;
        }
        if member.state() == AgentState::Waiting {
            let entry = self.entry(&member, AuditEventType::AgentStarted, "run.resumed");
            if let Err(error) = self.shift(&member, Event::Run, entry, Change::new(), |_| {}).await
            {
                tracing::warn!(%agent_id, %error, "the end of a wait could not be recorded");
            }
        }
    }

    fn named(&self, name: &str) -> Option<AgentId> {
        self.fleet.named(name)
    }

    fn name_of(&self, id: AgentId) -> Option<String> {
        self.fleet.find(id).map(|member| member.cell().config.name.clone())
    }

    fn definition(&self, id: AgentId) -> Option<Arc<Definition>> {
        self.fleet.find(id)?.cell().definition.clone()
    }

    async fn delegate(
        &self,
        from: AgentId,
        run: Uuid,
        to: AgentId,
        input: Arc<str>,
    ) -> Result<(RunOutcome, bool), String> {
        let gone = || "the agent is gone".to_owned();
        let me = self.fleet.find(from).ok_or_else(gone)?;
        let worker = self.fleet.find(to).ok_or_else(gone)?;
        let _while_it_works = self.rely(&me, to)?;
        self.block(from, run, "another agent").await;
        let outcome = self.delegate_to(from, &worker, input).await;
        self.unblock(from, run).await;
        Ok(outcome)
    }
}
