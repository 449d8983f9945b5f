//! Who answers for an agent: where components that were built apart find each other.
//!
//! A directory maps an [`AgentId`] to ports: the lifecycle controller that runs the agent, the bus
//! that keeps its mail, the resource manager that promised it something, the scheduler that has
//! work for it. [`Directory::process`] is the one that `Default*::new` uses; a
//! [`Runtime`](crate::Runtime) gives its components one of their own.
//!
//! # What holds
//!
//! - It is keyed by agent: two runtimes in one process never answer for each other's agents.
//! - It holds its ends weakly: a component that is dropped has left.
//! - A place that is taken, by a component that is still there, is refused to another.
//! - No lock is held while a port is called.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use symbiont_types::{
    AgentId, AgentState, CommunicationError, ErrorAction, LifecycleError, Message, MessageId,
    Priority, ResourceLimits, RuntimeError, SecureMessage, TaskId, UsageSource,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::bus::LeasedMessage;
use crate::journal::Change;

/// The process's own directory.
static PROCESS: LazyLock<Arc<Directory>> = LazyLock::new(|| Arc::new(Directory::default()));

/// Who answers for which agent.
#[derive(Default)]
pub struct Directory {
    agents: Mutex<Agents>,
}

#[derive(Default)]
struct Agents {
    by_id: HashMap<AgentId, Places>,
    /// At this size the map is looked through for agents that nobody answers for any more.
    prune_at: usize,
}

impl Agents {
    /// Forgets agents whose components are all gone. Looking through the map when it has doubled
    /// costs each entry a few looks in its life.
    fn prune(&mut self) {
        if self.by_id.len() >= self.prune_at {
            self.by_id.retain(|_, places| !places.is_empty());
            self.prune_at = (self.by_id.len() * 2).max(1024);
        }
    }
}

/// The places beside one agent.
#[derive(Default)]
struct Places {
    agent: Option<Weak<dyn AgentPort>>,
    mail: Option<Weak<dyn MailPort>>,
    ledger: Option<Weak<dyn LedgerPort>>,
    work: Option<Weak<dyn WorkPort>>,
}

/// The place is taken by another component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken;

macro_rules! places {
    ($($(#[$doc:meta])* $set:ident $get:ident $field:ident $port:ident;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $set(&self, id: AgentId, port: &Arc<dyn $port>) -> Result<(), Taken> {
            let mut agents = self.lock();
            agents.prune();
            let place = &mut agents.by_id.entry(id).or_default().$field;
            if let Some(holder) = place.as_ref().and_then(Weak::upgrade)
                && !Arc::ptr_eq(&holder, port)
            {
                return Err(Taken);
            }
            *place = Some(Arc::downgrade(port));
            Ok(())
        }

        pub(crate) fn $get(&self, id: AgentId) -> Option<Arc<dyn $port>> {
            self.lock().by_id.get(&id)?.$field.as_ref()?.upgrade()
        }
    )*};
}

impl Directory {
    /// A directory of its own.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The process's own, which only `Default*::new` reads.
    pub fn process() -> Arc<Self> {
        Arc::clone(&PROCESS)
    }

    places! {
        /// Takes the place of the controller that runs the agent.
        set_agent agent agent AgentPort;
        /// Takes the place of the bus that keeps the agent's mail.
        set_mail mail mail MailPort;
        /// Takes the place of the manager that promised the agent resources.
        set_ledger ledger ledger LedgerPort;
        /// Takes the place of the scheduler that has work for the agent.
        set_work work work WorkPort;
    }

    /// Forgets the agent and all who answered for it.
    pub(crate) fn forget(&self, id: AgentId) {
        self.lock().by_id.remove(&id);
    }

    /// Leaves the place of the controller.
    pub(crate) fn clear_agent(&self, id: AgentId) {
        self.leave(id, |places| places.agent = None);
    }

    /// Leaves the mail place.
    pub(crate) fn clear_mail(&self, id: AgentId) {
        self.leave(id, |places| places.mail = None);
    }

    /// Leaves the ledger's place, if it is this port's.
    pub(crate) fn clear_ledger(&self, id: AgentId, port: &Arc<dyn LedgerPort>) {
        self.leave(id, |places| {
            let holder = places.ledger.as_ref().and_then(Weak::upgrade);
            if holder.is_none_or(|holder| Arc::ptr_eq(&holder, port)) {
                places.ledger = None;
            }
        });
    }

    /// Leaves a place, and forgets the whole entry if nobody else is left.
    fn leave(&self, id: AgentId, clear: impl FnOnce(&mut Places)) {
        let agents = &mut self.lock().by_id;
        if let Some(places) = agents.get_mut(&id) {
            clear(places);
            if places.is_empty() {
                agents.remove(&id);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Agents> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    fn is_empty(&self) -> bool {
        fn gone<T: ?Sized>(place: Option<&Weak<T>>) -> bool {
            place.is_none_or(|weak| weak.strong_count() == 0)
        }
        gone(self.agent.as_ref())
            && gone(self.mail.as_ref())
            && gone(self.ledger.as_ref())
            && gone(self.work.as_ref())
    }
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directory").field("agents", &self.lock().by_id.len()).finish()
    }
}

/// Whether an agent would take a task now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// It would.
    Ready,
    /// Not now, for this reason; the scheduler is told when that changes.
    NotNow(String),
    /// Never again.
    Gone,
}

/// What a run is done for. What it records goes into the commits of the run's own beginning and end,
/// so that neither is on record without the other.
pub(crate) trait Errand: std::fmt::Debug + Send + Sync {
    /// What is recorded together with the beginning of this run; `None` if nobody waits for it any
    /// more, and it must not begin.
    fn begins(&self, run: Uuid) -> Option<Change>;
    /// What is recorded together with the run's end.
    fn ends(&self, outcome: &AttemptOutcome) -> Change;
    /// Whether that has been recorded; after [`Errand::begins`] alone, that it could not begin. The
    /// agent is free for the next run by now.
    fn settled(&self, recorded: bool);
}

/// One attempt at a task, as the scheduler hands it to the agent's controller.
#[derive(Clone)]
pub(crate) struct Activation {
    pub(crate) task_id: TaskId,
    /// Input as JSON text; `None` is no input.
    pub(crate) input: Option<Arc<str>>,
    pub(crate) timeout: Duration,
    /// Cancelled when the task is; the run ends at its next step.
    pub(crate) cancel: CancellationToken,
    pub(crate) errand: Arc<dyn Errand>,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum AttemptOutcome {
    /// The program returned this JSON.
    Completed(Arc<str>),
    /// It failed; whether the same again might succeed.
    Failed { error: String, retryable: bool },
    /// It ran out of time.
    TimedOut,
    /// It was cut off after an effect had begun that must not be repeated blindly.
    Unknown,
    /// It was cancelled: by the task's own token, or because the agent stopped or ended.
    Cancelled { by: String },
    /// The agent would not take it after all.
    NotNow(String),
    /// The agent is gone.
    Gone,
}

/// What an agent uses, and where the figures come from. What nobody can tell is `None`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Usage {
    /// Bytes held now.
    pub(crate) memory: Option<u64>,
    /// Processor time used so far, in nanoseconds.
    pub(crate) cpu_nanos: Option<u64>,
    /// Bytes read from and written to disks so far.
    pub(crate) disk_bytes: Option<u64>,
    /// Bytes sent and received so far.
    pub(crate) network_bytes: Option<u64>,
    pub(crate) throttled: Option<Duration>,
    pub(crate) oom_kills: Option<u64>,
    pub(crate) source: UsageSource,
    /// Since the agent was created, up to its end.
    pub(crate) uptime: Duration,
}

/// Answers for the life of an agent.
#[async_trait]
pub(crate) trait AgentPort: Send + Sync {
    fn state(&self, id: AgentId) -> Option<AgentState>;
    fn limits(&self, id: AgentId) -> Option<ResourceLimits>;
    fn is_ephemeral(&self, id: AgentId) -> bool;
    fn readiness(&self, id: AgentId) -> Readiness;
    /// What the agent's run waits for, if it waits.
    fn waits_for(&self, id: AgentId) -> Option<String>;
    async fn run_task(&self, id: AgentId, activation: Activation) -> AttemptOutcome;
    /// Mail has arrived. Returns at once.
    fn mail_waiting(&self, id: AgentId);
    async fn usage(&self, id: AgentId) -> Result<Usage, String>;
    /// Carries out what was decided about an error or a violation. What was decided about a run
    /// that another one has followed is void.
    async fn control(
        &self,
        id: AgentId,
        run: Option<Uuid>,
        action: &ErrorAction,
        reason: &str,
    ) -> Result<(), LifecycleError>;
}

/// A message as a program sends it.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) priority: Priority,
    pub(crate) ttl: Duration,
}

/// Answers for the mail of an agent.
#[async_trait]
pub(crate) trait MailPort: Send + Sync {
    async fn send(&self, message: Message) -> Result<MessageId, CommunicationError>;
    async fn publish(
        &self,
        from: AgentId,
        outgoing: Outgoing,
    ) -> Result<Vec<MessageId>, CommunicationError>;
    /// Takes the oldest waiting message, if there is one.
    async fn take(&self, id: AgentId) -> Result<Option<SecureMessage>, CommunicationError>;
    /// Puts the oldest waiting message into a run's hands, if there is one.
    async fn lend(&self, id: AgentId) -> Result<Option<LeasedMessage>, CommunicationError>;
    /// What is to be recorded together with the start of the run that is lent the message: that it was.
    fn lent(&self, lent: &LeasedMessage) -> Change;
    /// What is to be recorded together with the end of the run that dealt with the message.
    fn receipt(&self, lent: &LeasedMessage) -> Change;
    /// That has been recorded.
    fn settle(&self, lent: &LeasedMessage);
    /// The run did not deal with the message: it waits again.
    fn give_back(&self, lent: &LeasedMessage);
    /// The process ended while a run dealt with the message that can't be made again: it is a dead
    /// letter, by what this returns.
    fn give_up_on(&self, message: MessageId) -> Change;
    /// Whether a message waits.
    fn has_mail(&self, id: AgentId) -> bool;
    /// The agent has ended: its mail goes to the dead letters.
    async fn agent_gone(&self, id: AgentId);
}

/// Answers for the resources promised to an agent.
#[async_trait]
pub(crate) trait LedgerPort: Send + Sync {
    /// Whether agents are held to their limits.
    fn enforces(&self) -> bool;
    /// Whether the agent holds a promise now.
    fn holds(&self, id: AgentId) -> bool;
    /// The agent has ended: what was promised to it is free again.
    async fn agent_gone(&self, id: AgentId);
}

/// Answers for the work that waits for an agent.
#[async_trait]
pub(crate) trait WorkPort: Send + Sync {
    /// The agent's readiness may have changed. Returns at once.
    fn agent_changed(&self, id: AgentId);
    /// The agent has ended: what waits for it is cancelled.
    async fn agent_gone(&self, id: AgentId, at: SystemTime);
}

/// A run that failed, for whoever decides what follows.
#[derive(Debug, Clone)]
pub(crate) struct FailedRun {
    /// Which one; `None` if somebody else than the agent's controller tells of the error.
    pub(crate) run: Option<Uuid>,
    pub(crate) error: RuntimeError,
    /// It began an effect that must not be repeated blindly, so that running it again is out of
    /// the question.
    pub(crate) effects: bool,
    /// The agent rests and takes more work; what failed was one piece of it.
    pub(crate) rests: bool,
}

/// Told of runs that ended, to decide what follows.
#[async_trait]
pub(crate) trait Supervisor: Send + Sync {
    async fn run_failed(&self, id: AgentId, failed: FailedRun);
    fn run_succeeded(&self, id: AgentId);
}
