//! Resources: what is promised to agents, what they use, and what is done when they use more.
//!
//! # What holds
//!
//! - Promises are exact, all or nothing, and together never more than there is less the reserve.
//! - Usage comes from the kernel for what runs in a sandbox, and from the evaluator's own
//!   accounting for what runs in this process. What could not be measured is an error, not a zero.
//! - A violation names what was done about it, and that was done.
//!
//! # What is not here
//!
//! The walls themselves: a sandbox's control group and the evaluator hold an agent to its limits at
//! every moment; this component sees to what changes over time.

mod ledger;
mod probe;

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use symbiont_store::StoreError;
use symbiont_types::{
    AgentId, AuditEventType, ErrorAction, KindStatus, ResourceAllocation, ResourceError,
    ResourceKind, ResourceLimits, ResourceSnapshot, ResourceThresholds, ResourceUsage,
    ResourceViolation, SystemResourceStatus, UsageSource, ViolationAction, ViolationSeverity,
};
use tokio::sync::Notify;
use tokio::time::Instant;

pub(crate) use self::ledger::WORKSPACE_MB;
use self::ledger::{Amounts, Ledger, Promise, Refusal};
use crate::clock::{Clock, FAR, from_micros, micros};
use crate::directory::{Directory, LedgerPort, Usage};
use crate::journal::{ALLOCATIONS, Change, Journal, StoredLimits, rows};
use crate::tasks::Tasks;

/// Promises resources to agents, and watches what they use.
#[async_trait]
pub trait ResourceManager: Send + Sync {
    /// Promises all of `limits` to the agent, or nothing. The same again is fine.
    ///
    /// # Errors
    ///
    /// `InsufficientResources` with what was asked and what is available; `AllocationFailed` when
    /// the agent holds other limits, or these are no numbers that can be promised (zero memory, no
    /// cores, NaN); `MonitoringFailed` when it can't be recorded or the manager is shutting down.
    async fn allocate_resources(
        &self,
        agent_id: AgentId,
        limits: ResourceLimits,
    ) -> Result<ResourceAllocation, ResourceError>;

    /// Takes the promise back. Again is fine.
    ///
    /// # Errors
    ///
    /// `DeallocationFailed` for an id that never had one.
    async fn deallocate_resources(&self, agent_id: AgentId) -> Result<(), ResourceError>;

    /// Promises other limits. Below what is used is accepted; the agent then has three samples of
    /// time before anything is done about it.
    ///
    /// # Errors
    ///
    /// As [`ResourceManager::allocate_resources`].
    async fn update_resource_limits(
        &self,
        agent_id: AgentId,
        limits: ResourceLimits,
    ) -> Result<(), ResourceError>;

    /// What the agent uses now.
    ///
    /// # Errors
    ///
    /// `MonitoringFailed` for an agent without a promise, or when a source of figures failed.
    async fn get_resource_usage(&self, agent_id: AgentId) -> Result<ResourceUsage, ResourceError>;

    /// What there is, and what is promised and used of it.
    async fn get_system_resources(&self) -> SystemResourceStatus;

    /// Who uses more than was promised, as last sampled, and what was done about it.
    async fn check_resource_violations(&self) -> Vec<ResourceViolation>;

    /// When to raise alerts about the agent.
    ///
    /// # Errors
    ///
    /// `MonitoringFailed` for an agent without a promise or thresholds that make no sense.
    async fn set_resource_alerts(
        &self,
        agent_id: AgentId,
        thresholds: ResourceThresholds,
    ) -> Result<(), ResourceError>;

    /// The samples of the last `duration`, the oldest first; at most 3,600 are kept.
    ///
    /// # Errors
    ///
    /// `MonitoringFailed` for an agent that never had a promise.
    async fn get_resource_history(
        &self,
        agent_id: AgentId,
        duration: Duration,
    ) -> Result<Vec<ResourceSnapshot>, ResourceError>;

    /// Stops watching and takes nothing more. Promises stay. Again is fine.
    ///
    /// # Errors
    ///
    /// None at present.
    async fn shutdown(&self) -> Result<(), ResourceError>;
}

/// Settings of the resource manager.
#[derive(Debug, Clone, PartialEq)]
pub struct ResourceManagerConfig {
    /// Bytes of memory to promise; zero is what the host has.
    pub total_memory: usize,
    /// Cores to promise; zero is what the host has.
    pub total_cpu_cores: u32,
    /// Bytes of disk space to promise, of which each agent gets 256 MiB of workspace; zero is what
    /// is free where the data is kept.
    pub total_disk_space: usize,
    /// Bytes/s of network traffic to promise; zero is the speed of the host's links.
    pub total_network_bandwidth: usize,
    /// Whether something is done about violations, or they are only listed.
    pub enforcement_enabled: bool,
    /// Whether an agent's share floats between a quarter of its limits and all of them, following
    /// what it uses.
    pub auto_scaling_enabled: bool,
    /// The share of everything that is held back from agents: 0.1 is a tenth.
    pub resource_reservation_percentage: f32,
    /// Time between samples.
    pub monitoring_interval: Duration,
}

impl Default for ResourceManagerConfig {
    /// What the host has less a tenth, enforced, not scaled, a sample a second.
    fn default() -> Self {
        Self {
            total_memory: 0,
            total_cpu_cores: 0,
            total_disk_space: 0,
            total_network_bandwidth: 0,
            enforcement_enabled: true,
            auto_scaling_enabled: false,
            resource_reservation_percentage: 0.1,
            monitoring_interval: Duration::from_secs(1),
        }
    }
}

/// Samples kept of each agent.
const SAMPLES: usize = 3600;
/// Samples over a limit before anything is done about it.
const GRACE: u32 = 3;
/// Samples over a limit before an agent that could not be suspended is ended.
const PATIENCE: u32 = 10;
/// How far a rate may be over its limit and still count as held to it: the kernel accounts in
/// slices that do not line up with samples.
const SLACK: f64 = 1.1;
/// Agents that are remembered after their promise ended, so that ending it twice is fine.
const REMEMBERED: usize = 100_000;
/// The shortest time between samples that rates are computed over.
const SHORTEST: Duration = Duration::from_millis(10);

/// The resource manager over a journal.
#[derive(Debug, Clone)]
pub struct DefaultResourceManager {
    inner: Arc<Inner>,
}

struct Inner {
    enforcing: bool,
    interval: Duration,
    degraded: Vec<String>,
    backend: String,
    journal: Journal,
    directory: Arc<Directory>,
    books: Mutex<Books>,
    /// Told when there is someone to watch.
    watch: Arc<Notify>,
    tasks: Tasks,
    this: Weak<Self>,
}

#[derive(Debug)]
struct Books {
    ledger: Ledger,
    watched: HashMap<AgentId, Watched>,
    /// Who had a promise once, the oldest first.
    known: HashSet<AgentId>,
    known_order: VecDeque<AgentId>,
    sampled_at: Option<SystemTime>,
    closed: bool,
}

/// What is known of an agent that has, or had, a promise.
#[derive(Debug)]
struct Watched {
    history: VecDeque<ResourceSnapshot>,
    last: Option<(Instant, Usage)>,
    usage: ResourceUsage,
    thresholds: Option<ResourceThresholds>,
    violations: HashMap<ResourceKind, ResourceViolation>,
    alerts: HashMap<ResourceKind, Alert>,
}

/// How far one kind of one agent is from an alert.
#[derive(Debug, Default)]
struct Alert {
    samples: u32,
    raised_at: Option<Instant>,
    active: bool,
}

impl Watched {
    fn new() -> Self {
        Self {
            history: VecDeque::new(),
            last: None,
            usage: ResourceUsage::default(),
            thresholds: None,
            violations: HashMap::new(),
            alerts: HashMap::new(),
        }
    }
}

/// Builds a [`DefaultResourceManager`].
#[derive(Debug)]
pub struct ResourceManagerBuilder {
    config: ResourceManagerConfig,
    directory: Arc<Directory>,
    journal: Journal,
    data: PathBuf,
}

impl DefaultResourceManager {
    /// A manager in memory, which meets the process's other components in their directory.
    ///
    /// # Errors
    ///
    /// `MonitoringFailed` for settings that make no sense.
    pub async fn new(config: ResourceManagerConfig) -> Result<Self, ResourceError> {
        Self::builder(config).directory(Directory::process()).build().await
    }

    /// A manager with a directory of its own, in memory, unless the builder is told otherwise.
    pub fn builder(config: ResourceManagerConfig) -> ResourceManagerBuilder {
        ResourceManagerBuilder {
            config,
            directory: Directory::new(),
            journal: Journal::in_memory(Clock::system()),
            data: std::env::temp_dir(),
        }
    }

    /// What could still be promised to one agent: memory in MiB, cores, MB/s of network.
    pub fn ceilings(&self) -> ResourceLimits {
        let books = self.inner.lock();
        let available = |kind| books.ledger.available(kind);
        #[expect(clippy::cast_precision_loss, reason = "no host has 2^52 cores")]
        let cpu_cores = available(ResourceKind::Cpu) as f64 / 1000.0;
        ResourceLimits {
            memory_mb: available(ResourceKind::Memory) / ledger::MIB,
            cpu_cores,
            network_io_mbps: match books.ledger.total(ResourceKind::Network) {
                Some(_) => available(ResourceKind::Network) / 1_000_000,
                None => 0,
            },
            ..ResourceLimits::default()
        }
    }
}

impl ResourceManagerBuilder {
    /// Meets other components in `directory`.
    #[must_use]
    pub fn directory(self, directory: Arc<Directory>) -> Self {
        Self { directory, ..self }
    }

    /// Uses `journal`; promises that are kept there hold again.
    #[must_use]
    pub fn journal(self, journal: Journal) -> Self {
        Self { journal, ..self }
    }

    /// Measures disk space where `path` is.
    #[must_use]
    pub fn data(self, path: &Path) -> Self {
        Self { data: path.to_owned(), ..self }
    }

    /// The manager.
    ///
    /// # Errors
    ///
    /// `MonitoringFailed` for settings that make no sense, or promises that can't be read.
    pub async fn build(self) -> Result<DefaultResourceManager, ResourceError> {
        let config = self.config;
        let share = config.resource_reservation_percentage;
        if !(0.0..1.0).contains(&share) {
            return Err(failed(format!(
                "`resource_reservation_percentage` is {share}, and has to be at least 0 and below \
                 1: it is a fraction, so that a tenth is 0.1"
            )));
        }
        if config.monitoring_interval < SHORTEST {
            return Err(failed("`monitoring_interval` must be at least 10 ms".to_owned()));
        }
        let detected = probe::totals(&self.data);
        let chosen = [
            config.total_memory as u64,
            u64::from(config.total_cpu_cores) * 1000,
            config.total_disk_space as u64,
            config.total_network_bandwidth as u64,
        ];
        let mut totals = [None; 4];
        let mut degraded = Vec::new();
        for kind in ResourceKind::ALL {
            let at = kind as usize;
            totals[at] = if chosen[at] == 0 { detected[at] } else { Some(chosen[at]) };
            if totals[at].is_none() {
                degraded.push(format!(
                    "the host does not tell its total of {kind}: promises of it are not checked"
                ));
            }
        }
        let mut ledger = Ledger::new(totals, f64::from(share), config.auto_scaling_enabled);
        let kept = rows::<Stored>(self.journal.store(), ALLOCATIONS, &[]).await;
        for (key, stored) in kept.map_err(|error| failed(error.to_string()))? {
            if let Ok(uuid) = uuid::Uuid::from_slice(&key)
                && ledger
                    .allocate(uuid.into(), &stored.limits.into(), from_micros(stored.since))
                    .is_err()
            {
                degraded.push(format!(
                    "the promise to agent {uuid} does not fit what there is any more, and is not held"
                ));
            }
        }
        let promised: Vec<AgentId> = ledger.iter().map(|(agent, _)| *agent).collect();
        let inner = Arc::new_cyclic(|this| Inner {
            enforcing: config.enforcement_enabled,
            interval: config.monitoring_interval.min(FAR),
            degraded,
            backend: format!(
                "/proc and the control groups of this host; {} chosen in the configuration",
                chosen.iter().filter(|amount| **amount > 0).count()
            ),
            journal: self.journal,
            directory: self.directory,
            books: Mutex::new(Books {
                ledger,
                watched: HashMap::new(),
                known: HashSet::new(),
                known_order: VecDeque::new(),
                sampled_at: None,
                closed: false,
            }),
            watch: Arc::default(),
            tasks: Tasks::default(),
            this: Weak::clone(this),
        });
        for agent in promised {
            inner.lock().remember(agent);
            inner.take_place(agent)?;
        }
        inner.tasks.spawn(watch(Weak::clone(&inner.this), inner.tasks.stopping()));
        Ok(DefaultResourceManager { inner })
    }
}

impl Books {
    fn remember(&mut self, agent: AgentId) {
        self.watched.entry(agent).or_insert_with(Watched::new);
        if self.known.insert(agent) {
            self.known_order.push_back(agent);
        }
        while self.known.len() > REMEMBERED
            && let Some(oldest) = self.known_order.pop_front()
        {
            if self.ledger.get(oldest).is_some() {
                self.known_order.push_back(oldest);
                break;
            }
            self.known.remove(&oldest);
            self.watched.remove(&oldest);
        }
    }
}

/// A promise as it is kept.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Stored {
    since: i64,
    limits: StoredLimits,
}

/// Samples everyone once in an interval, for as long as there is someone.
async fn watch(this: Weak<Inner>, stop: tokio_util::sync::CancellationToken) {
    loop {
        let Some(inner) = this.upgrade() else { return };
        let anyone = inner.lock().ledger.len() > 0;
        let until = Clock::instant_in(if anyone { inner.interval } else { FAR });
        let watch = Arc::clone(&inner.watch);
        drop(inner); // Whoever waits here keeps nobody alive.
        tokio::select! {
            () = stop.cancelled() => return,
            () = watch.notified(), if !anyone => continue,
            () = tokio::time::sleep_until(until) => {}
        }
        let Some(inner) = this.upgrade() else { return };
        inner.sample_all().await;
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<MutexGuard<'_, Books>, ResourceError> {
        let books = self.lock();
        if books.closed {
            Err(failed("the resource manager is shutting down".to_owned()))
        } else {
            Ok(books)
        }
    }

    fn take_place(&self, agent_id: AgentId) -> Result<(), ResourceError> {
        let port: Arc<dyn LedgerPort> = self.this.upgrade().expect("`self` is alive");
        self.directory.set_ledger(agent_id, &port).map_err(|_| {
            failed(format!("another resource manager has promised to agent `{agent_id}`"))
        })
    }

    async fn detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, ResourceError>> + Send + 'static,
    ) -> Result<T, ResourceError> {
        match self.tasks.detached(work).await {
            Ok(Some(outcome)) => outcome,
            Ok(None) | Err(_) => Err(failed("the resource manager is shutting down".to_owned())),
        }
    }

    async fn allocate(
        &self,
        agent_id: AgentId,
        limits: ResourceLimits,
    ) -> Result<ResourceAllocation, ResourceError> {
        let now = from_micros(micros(self.journal.now()));
        let (promise, is_new) = {
            let mut books = self.open()?;
            let is_new = books.ledger.get(agent_id).is_none();
            let promise =
                books.ledger.allocate(agent_id, &limits, now).map_err(|r| refusal(agent_id, r))?;
            books.remember(agent_id);
            (promise, is_new)
        };
        if is_new {
            let recorded = match self.take_place(agent_id) {
                Ok(()) => self.record(agent_id, Some(&promise), "resources.allocated").await,
                Err(error) => Err(error),
            };
            if let Err(error) = recorded {
                self.lock().ledger.put_back(agent_id, None);
                return Err(error);
            }
            self.watch.notify_one();
        }
        let current_usage =
            self.lock().watched.get(&agent_id).map(|w| w.usage.clone()).unwrap_or_default();
        Ok(ResourceAllocation {
            agent_id,
            allocated_at: promise.since,
            limits: promise.limits,
            current_usage,
        })
    }

    async fn update(&self, agent_id: AgentId, limits: ResourceLimits) -> Result<(), ResourceError> {
        let (before, after) = {
            let mut books = self.open()?;
            let before = books.ledger.get(agent_id).cloned();
            let after = books.ledger.update(agent_id, &limits).map_err(|r| refusal(agent_id, r))?;
            if let Some(watched) = books.watched.get_mut(&agent_id) {
                watched.violations.clear(); // The grace begins anew.
            }
            (before, after)
        };
        let recorded = self.record(agent_id, Some(&after), "resources.updated").await;
        if recorded.is_err() {
            self.lock().ledger.put_back(agent_id, before);
        }
        recorded
    }

    async fn release(&self, agent_id: AgentId) -> Result<(), ResourceError> {
        let before = {
            let mut books = self.lock();
            if !books.known.contains(&agent_id) {
                return Err(ResourceError::DeallocationFailed { agent_id });
            }
            books.ledger.release(agent_id)
        };
        let Some(before) = before else { return Ok(()) };
        let recorded = self.record(agent_id, None, "resources.deallocated").await;
        if recorded.is_err() {
            self.lock().ledger.put_back(agent_id, Some(before));
        }
        recorded
    }

    async fn record(
        &self,
        agent_id: AgentId,
        promise: Option<&Promise>,
        kind: &'static str,
    ) -> Result<(), ResourceError> {
        let event_type = match promise {
            Some(_) => AuditEventType::ResourceAllocated,
            None => AuditEventType::ResourceDeallocated,
        };
        let mut entry = self.journal.event(event_type, kind).agent(agent_id);
        let key = *agent_id.as_uuid().as_bytes();
        let change = match promise {
            Some(promise) => {
                let limits = &promise.limits;
                entry = entry.details(format!(
                    "{} MiB, {} cores, {} MB/s disk, {} MB/s network",
                    limits.memory_mb, limits.cpu_cores, limits.disk_io_mbps, limits.network_io_mbps
                ));
                Change::new().put(
                    ALLOCATIONS,
                    key,
                    &Stored { since: micros(promise.since), limits: StoredLimits::from(limits) },
                )
            }
            None => Change::new().remove(ALLOCATIONS, key),
        };
        self.journal.commit(change.record(entry)).await.map(|_| ()).map_err(|error| match error {
            StoreError::Closed => failed("the resource manager is shutting down".to_owned()),
            error => failed(format!("not recorded: {error}")),
        })
    }

    /// Measures one agent and takes the sample into its history.
    async fn sample(&self, agent_id: AgentId) -> Result<ResourceUsage, ResourceError> {
        let measured = match self.directory.agent(agent_id) {
            Some(port) => match port.usage(agent_id).await {
                Ok(usage) => Some(usage),
                Err(reason) => return Err(failed(reason)),
            },
            None => None,
        };
        let at = self.journal.now();
        let now = Instant::now();
        let mut books = self.lock();
        let limits = books.ledger.get(agent_id).map(|promise| promise.limits.clone());
        let watched = books.watched.get_mut(&agent_id).ok_or_else(|| never(agent_id))?;
        let Some(measured) = measured else {
            // Nobody runs the agent: it can't use anything.
            let uptime = watched.usage.uptime;
            watched.usage = ResourceUsage { uptime, ..ResourceUsage::default() };
            return Ok(watched.usage.clone());
        };
        let mut usage = ResourceUsage {
            memory_used: measured.memory,
            uptime: measured.uptime,
            ..watched.usage.clone()
        };
        let due = match &watched.last {
            None => true,
            Some((before, _)) => now.duration_since(*before) >= SHORTEST,
        };
        if due {
            // Before the first sample rates are over the agent's whole life.
            let (elapsed, base) = match &watched.last {
                Some((before, last)) => (
                    now.duration_since(*before),
                    (last.cpu_nanos, last.disk_bytes, last.network_bytes),
                ),
                None => (measured.uptime.max(SHORTEST), (0, 0, 0)),
            };
            let seconds = elapsed.as_secs_f64();
            #[expect(clippy::cast_precision_loss, reason = "a rate is an estimate")]
            let rate = |total: u64, before: u64| total.saturating_sub(before) as f64 / seconds;
            usage.cpu_usage = rate(measured.cpu_nanos, base.0) / 1e9;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "never negative"
            )]
            {
                usage.disk_io_rate = rate(measured.disk_bytes, base.1) as u64;
                usage.network_io_rate = rate(measured.network_bytes, base.2) as u64;
            }
            watched.last = Some((now, measured.clone()));
            if let Some(limits) = limits {
                watched.history.push_back(ResourceSnapshot {
                    at,
                    usage: usage.clone(),
                    limits,
                    source: measured.source,
                    throttled: measured.throttled,
                    oom_kills: measured.oom_kills,
                });
                if watched.history.len() > SAMPLES {
                    watched.history.pop_front();
                }
            }
        }
        watched.usage = usage.clone();
        books.sampled_at = Some(at);
        Ok(usage)
    }

    async fn sample_all(&self) {
        let agents: Vec<AgentId> = self.lock().ledger.iter().map(|(agent, _)| *agent).collect();
        for agent in agents {
            if self.tasks.is_stopping() {
                return;
            }
            match self.sample(agent).await {
                Ok(usage) => {
                    self.follow(agent, &usage).await;
                    self.judge(agent, &usage).await;
                    self.alert(agent, &usage).await;
                }
                Err(error) => tracing::warn!(agent_id = %agent, %error, "usage is not known"),
            }
        }
    }

    /// Lets a floating share follow what is used.
    async fn follow(&self, agent_id: AgentId, usage: &ResourceUsage) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "usage is never negative"
        )]
        let used = Amounts {
            memory: usage.memory_used,
            cpu: (usage.cpu_usage * 1000.0) as u64,
            disk: 0,
            network: usage.network_io_rate,
        };
        let Some(share) = self.lock().ledger.follow(agent_id, used) else { return };
        let entry = self
            .journal
            .event(AuditEventType::ResourceAllocated, "resources.scaled")
            .agent(agent_id)
            .details(format!(
                "{} MiB and {} thousandths of a core are set aside",
                share.memory / ledger::MIB,
                share.cpu
            ));
        self.note(Change::new().record(entry)).await;
    }

    /// Compares what is used with what was promised, and climbs the ladder.
    async fn judge(&self, agent_id: AgentId, usage: &ResourceUsage) {
        let now = self.journal.now();
        let mut to_do = Vec::new();
        {
            let mut books = self.lock();
            let Some(limits) = books.ledger.get(agent_id).map(|promise| promise.limits.clone())
            else {
                return;
            };
            let Some(watched) = books.watched.get_mut(&agent_id) else { return };
            let kernel = watched.history.back().is_some_and(|s| s.source == UsageSource::Kernel);
            for (kind, used, limit, slack) in compared(usage, &limits) {
                if used <= limit * slack {
                    watched.violations.remove(&kind);
                    continue;
                }
                let violation = watched.violations.entry(kind).or_insert(ResourceViolation {
                    agent_id,
                    kind,
                    used,
                    limit,
                    ratio: 0.0,
                    since: now,
                    samples: 0,
                    severity: ViolationSeverity::Warning,
                    action: ViolationAction::Observed,
                });
                violation.samples += 1;
                violation.used = used;
                violation.limit = limit;
                violation.ratio = used / limit.max(f64::MIN_POSITIVE);
                if violation.samples > GRACE {
                    violation.severity = ViolationSeverity::Critical;
                }
                let action = ladder(self.enforcing, violation.samples, kernel, violation.action);
                if action != violation.action || violation.samples == 1 {
                    violation.action = action;
                    to_do.push(violation.clone());
                }
            }
        }
        for violation in to_do {
            self.act(violation).await;
        }
    }

    async fn act(&self, violation: ResourceViolation) {
        let agent_id = violation.agent_id;
        let reason = format!(
            "uses {:.3} of {} where {:.3} were promised",
            violation.used, violation.kind, violation.limit
        );
        let action = match violation.action {
            ViolationAction::Observed | ViolationAction::Notified | ViolationAction::Throttled => {
                None
            }
            ViolationAction::Suspended => Some(ErrorAction::Suspend),
            ViolationAction::Terminated => Some(ErrorAction::Terminate),
        };
        let mut failure = None;
        if let Some(action) = action {
            let done = match self.directory.agent(agent_id) {
                Some(port) => {
                    port.control(agent_id, &action, &reason).await.map_err(|e| e.to_string())
                }
                None => Err("nobody runs the agent".to_owned()),
            };
            if let Err(error) = done {
                // What could not be done is not reported as done.
                failure = Some(error);
                if let Some(watched) = self.lock().watched.get_mut(&agent_id)
                    && let Some(there) = watched.violations.get_mut(&violation.kind)
                {
                    there.action = ViolationAction::Notified;
                }
            }
        }
        let entry = self
            .journal
            .event(AuditEventType::ErrorOccurred, "resources.violation")
            .agent(agent_id)
            .details(reason)
            .with("resource", violation.kind)
            .with("action", format!("{:?}", violation.action))
            .with_some("failed", failure);
        self.note(Change::new().record(entry)).await;
    }

    /// Raises an alert when usage crosses a threshold, and tells when it is over.
    async fn alert(&self, agent_id: AgentId, usage: &ResourceUsage) {
        let now = Instant::now();
        let mut news = Vec::new();
        {
            let mut books = self.lock();
            let Some(limits) = books.ledger.get(agent_id).map(|promise| promise.limits.clone())
            else {
                return;
            };
            let Some(watched) = books.watched.get_mut(&agent_id) else { return };
            let Some(thresholds) = watched.thresholds.clone() else { return };
            for (kind, used, limit, _) in compared(usage, &limits) {
                let Some((_, threshold)) = thresholds.kinds.iter().find(|(k, _)| *k == kind) else {
                    continue;
                };
                let ratio = used / limit.max(f64::MIN_POSITIVE);
                let alert = watched.alerts.entry(kind).or_default();
                if ratio >= threshold.warn {
                    alert.samples += 1;
                    let quiet = alert.raised_at.is_none_or(|at| now - at >= thresholds.cooldown);
                    if alert.samples >= thresholds.consecutive_samples && !alert.active && quiet {
                        alert.active = true;
                        alert.raised_at = Some(now);
                        let level =
                            if ratio >= threshold.critical { "critical" } else { "warning" };
                        news.push((kind, level, ratio));
                    }
                } else {
                    alert.samples = 0;
                    // Five hundredths below, so that one at the threshold does not flicker.
                    if alert.active && ratio < threshold.warn - 0.05 {
                        alert.active = false;
                        news.push((kind, "recovered", ratio));
                    }
                }
            }
        }
        for (kind, level, ratio) in news {
            let entry = self
                .journal
                .event(AuditEventType::ErrorOccurred, "resources.alert")
                .agent(agent_id)
                .details(format!("{kind} at {:.0} % of the limit", ratio * 100.0))
                .with("resource", kind)
                .with("level", level);
            self.note(Change::new().record(entry)).await;
        }
    }

    async fn note(&self, change: Change) {
        if let Err(error) = self.journal.commit(change).await {
            tracing::error!(%error, "a resource event could not be recorded");
        }
    }
}

/// What is used of each kind, its limit and the slack that measuring it needs.
fn compared(usage: &ResourceUsage, limits: &ResourceLimits) -> [(ResourceKind, f64, f64, f64); 4] {
    #[expect(clippy::cast_precision_loss, reason = "compared with a slack")]
    let of = |amount: u64| amount as f64;
    [
        (ResourceKind::Memory, of(usage.memory_used), of(limits.memory_mb) * of(ledger::MIB), 1.0),
        (ResourceKind::Cpu, usage.cpu_usage, limits.cpu_cores, SLACK),
        (ResourceKind::Disk, of(usage.disk_io_rate), of(limits.disk_io_mbps) * 1e6, SLACK),
        (ResourceKind::Network, of(usage.network_io_rate), of(limits.network_io_mbps) * 1e6, SLACK),
    ]
}

/// What is done about a violation that was seen in so many samples.
fn ladder(enforcing: bool, samples: u32, kernel: bool, before: ViolationAction) -> ViolationAction {
    match (enforcing, samples) {
        (false, _) => ViolationAction::Observed,
        (true, ..=GRACE) => ViolationAction::Notified,
        // The kernel holds a sandbox to its limits; give that some time.
        (true, ..=6) if kernel => ViolationAction::Throttled,
        (true, ..=PATIENCE) => ViolationAction::Suspended.max(before),
        (true, _) => ViolationAction::Terminated,
    }
}

#[async_trait]
impl ResourceManager for DefaultResourceManager {
    async fn allocate_resources(
        &self,
        agent_id: AgentId,
        limits: ResourceLimits,
    ) -> Result<ResourceAllocation, ResourceError> {
        let inner = Arc::clone(&self.inner);
        self.inner.detached(async move { inner.allocate(agent_id, limits).await }).await
    }

    async fn deallocate_resources(&self, agent_id: AgentId) -> Result<(), ResourceError> {
        let inner = Arc::clone(&self.inner);
        self.inner.detached(async move { inner.release(agent_id).await }).await
    }

    async fn update_resource_limits(
        &self,
        agent_id: AgentId,
        limits: ResourceLimits,
    ) -> Result<(), ResourceError> {
        let inner = Arc::clone(&self.inner);
        self.inner.detached(async move { inner.update(agent_id, limits).await }).await
    }

    async fn get_resource_usage(&self, agent_id: AgentId) -> Result<ResourceUsage, ResourceError> {
        drop(self.inner.open()?);
        if !self.inner.lock().known.contains(&agent_id) {
            return Err(never(agent_id));
        }
        self.inner.sample(agent_id).await
    }

    async fn get_system_resources(&self) -> SystemResourceStatus {
        let books = self.inner.lock();
        #[expect(clippy::cast_precision_loss, reason = "figures for people")]
        let shown = |kind: ResourceKind, amount: u64| match kind {
            ResourceKind::Cpu => amount as f64 / 1000.0,
            ResourceKind::Memory | ResourceKind::Disk | ResourceKind::Network => amount as f64,
        };
        let promised = |agent: &AgentId| books.ledger.get(*agent).is_some();
        let mut overcommitted = false;
        let kinds = ResourceKind::ALL
            .into_iter()
            .map(|kind| {
                let used = books
                    .watched
                    .iter()
                    .filter(|(agent, _)| promised(agent))
                    .map(|(_, watched)| {
                        compared(&watched.usage, &ResourceLimits::default())[kind as usize].1
                    })
                    .sum();
                let total = books.ledger.total(kind);
                overcommitted |= total.is_some_and(|total| used > shown(kind, total));
                KindStatus {
                    kind,
                    total: total.map_or(0.0, |total| shown(kind, total)),
                    reserved: shown(kind, books.ledger.reserved(kind)),
                    allocated: shown(kind, books.ledger.promised(kind)),
                    available: total.map_or(0.0, |_| shown(kind, books.ledger.available(kind))),
                    used,
                }
            })
            .collect();
        SystemResourceStatus {
            kinds,
            allocations: books.ledger.len(),
            pressure: probe::pressure(),
            overcommitted,
            sampled_at: books.sampled_at,
            backend: self.inner.backend.clone(),
            degraded: self.inner.degraded.clone(),
        }
    }

    async fn check_resource_violations(&self) -> Vec<ResourceViolation> {
        let books = self.inner.lock();
        let mut violations: Vec<_> = books
            .watched
            .iter()
            .filter(|(agent, _)| books.ledger.get(**agent).is_some())
            .flat_map(|(_, watched)| watched.violations.values().cloned())
            .collect();
        violations.sort_by_key(|violation| (violation.agent_id, violation.kind));
        violations
    }

    async fn set_resource_alerts(
        &self,
        agent_id: AgentId,
        thresholds: ResourceThresholds,
    ) -> Result<(), ResourceError> {
        let sound = |share: f64| share.is_finite() && share > 0.0 && share <= 1.0;
        let fine = thresholds
            .kinds
            .iter()
            .all(|(_, t)| sound(t.warn) && sound(t.critical) && t.warn <= t.critical);
        let once: HashSet<ResourceKind> = thresholds.kinds.iter().map(|(kind, _)| *kind).collect();
        if !fine || thresholds.consecutive_samples == 0 || once.len() != thresholds.kinds.len() {
            return Err(failed(
                "thresholds are shares above 0 and up to 1, `warn` not above `critical`, each kind \
                 once, and `consecutive_samples` at least 1"
                    .to_owned(),
            ));
        }
        let mut books = self.inner.open()?;
        if books.ledger.get(agent_id).is_none() {
            return Err(never(agent_id));
        }
        let watched = books.watched.get_mut(&agent_id).ok_or_else(|| never(agent_id))?;
        watched.thresholds = Some(thresholds);
        watched.alerts.clear();
        Ok(())
    }

    async fn get_resource_history(
        &self,
        agent_id: AgentId,
        duration: Duration,
    ) -> Result<Vec<ResourceSnapshot>, ResourceError> {
        let now = self.inner.journal.now();
        let books = self.inner.lock();
        let watched = books.watched.get(&agent_id).ok_or_else(|| never(agent_id))?;
        let recent = |sample: &&ResourceSnapshot| {
            now.duration_since(sample.at).unwrap_or_default() <= duration
        };
        Ok(watched.history.iter().filter(recent).cloned().collect())
    }

    async fn shutdown(&self) -> Result<(), ResourceError> {
        self.inner.lock().closed = true;
        self.inner.tasks.stop(Duration::from_secs(30)).await;
        Ok(())
    }
}

#[async_trait]
impl LedgerPort for Inner {
    fn enforces(&self) -> bool {
        self.enforcing
    }

    fn holds(&self, id: AgentId) -> bool {
        self.lock().ledger.get(id).is_some()
    }

    async fn agent_gone(&self, id: AgentId) {
        if let Err(error) = self.release(id).await {
            tracing::error!(agent_id = %id, %error, "what was promised could not be taken back");
        }
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resources").field("interval", &self.interval).finish_non_exhaustive()
    }
}

fn refusal(agent_id: AgentId, refusal: Refusal) -> ResourceError {
    match refusal {
        Refusal::HoldsAnother | Refusal::NotANumber => ResourceError::AllocationFailed { agent_id },
        Refusal::HoldsNone => never(agent_id),
        Refusal::NotEnough(lacking) => {
            #[expect(clippy::cast_precision_loss, reason = "figures for people")]
            let shown = |kind: ResourceKind, amount: u64| match kind {
                ResourceKind::Memory | ResourceKind::Disk => {
                    format!("{} MiB", amount / ledger::MIB)
                }
                ResourceKind::Cpu => format!("{} cores", amount as f64 / 1000.0),
                ResourceKind::Network => format!("{} MB/s", amount / 1_000_000),
            };
            let requirements: Vec<String> = lacking
                .into_iter()
                .map(|(kind, asked, available)| {
                    format!(
                        "{kind}: {} asked, {} available",
                        shown(kind, asked),
                        shown(kind, available)
                    )
                })
                .collect();
            ResourceError::InsufficientResources { requirements: requirements.join("; ") }
        }
    }
}

fn never(agent_id: AgentId) -> ResourceError {
    failed(format!("agent `{agent_id}` has no allocation (use allocate_resources)"))
}

fn failed(reason: String) -> ResourceError {
    ResourceError::MonitoringFailed { reason }
}
