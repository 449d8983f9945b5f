//! Resources: what is promised to agents, what they use, and what is done when they use more.
//!
//! # What holds
//!
//! - Promises are exact, all or nothing, and together never more than there is less the reserve. Only
//!   a restart with less than before can leave more promised: what was promised still holds, and the
//!   status says so.
//! - An agent's promises change one at a time, and an answer says what is on record.
//! - Usage comes from the kernel for what runs in a sandbox, and from the evaluator's own
//!   accounting for what runs in this process. What could not be measured is an error, not a zero.
//! - A violation names what was done about it, and that was done. An agent is suspended before it is
//!   ended, and ended only if it could not be suspended.
//! - Of each agent at most 3,600 samples are kept, of all together a million (about 80 MB), shared
//!   equally: 100 each of 10,000 agents. A minute after a promise ended its samples are gone.
//!
//! # What is not here
//!
//! The walls themselves: a sandbox's control group and the evaluator hold an agent to its limits at
//! every moment; this component sees to what changes over time.

mod history;
mod ladder;
mod ledger;
mod probe;
mod promises;
mod reading;
mod watch;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use symbiont_types::{
    AgentId, KindStatus, ResourceAllocation, ResourceError, ResourceKind, ResourceLimits,
    ResourceSnapshot, ResourceThresholds, ResourceUsage, ResourceViolation, SystemResourceStatus,
    UsageDetail,
};
use tokio::sync::Notify;

use self::ledger::Ledger;
pub(crate) use self::ledger::WORKSPACE_MB;
use self::promises::{Stored, never};
use self::reading::{Reading, SHORTEST};
use self::watch::Books;
use crate::clock::{Clock, FAR, from_micros};
use crate::directory::{Directory, LedgerPort};
use crate::journal::{ALLOCATIONS, Journal, rows};
use crate::tasks::Tasks;
use crate::turns::Turns;

/// Promises resources to agents, and watches what they use.
#[async_trait]
pub trait ResourceManager: Send + Sync {
    /// Promises all of `limits` to the agent, or nothing. The same again is fine. No disk or network
    /// traffic is what zero of it promises.
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
    /// `DeallocationFailed` for an id that never had one; `MonitoringFailed` when it can't be
    /// recorded, and the promise stays.
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
    /// `MonitoringFailed` for an agent without a promise, or when a figure can't be measured here
    /// (see [`DefaultResourceManager::usage_detail`]).
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

    /// The samples of the last `duration`, the oldest first; at most 3,600 are kept, fewer of each
    /// agent when there are many, and none from a minute after the promise ended.
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
    /// Held while an agent's promise is changed and that is recorded.
    turns: Turns,
    /// Told when there is someone to watch.
    watch: Arc<Notify>,
    tasks: Tasks,
    this: Weak<Self>,
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
            data: PathBuf::from("/tmp"),
        }
    }

    /// What the agent uses now, each figure with its source; `None` where nobody can tell.
    ///
    /// # Errors
    ///
    /// `MonitoringFailed` for an agent without a promise, or when a source of figures failed.
    pub async fn usage_detail(&self, agent_id: AgentId) -> Result<UsageDetail, ResourceError> {
        Ok(self.inner.read(agent_id).await?.detail())
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

    /// Measures disk space where `path` is, and not in `/tmp`.
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
        let kept = rows::<Stored>(self.journal.store(), ALLOCATIONS, &[]).await;
        let kept = kept.map_err(|error| failed(error.to_string()))?;
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
        degraded.extend(UNENFORCED.map(str::to_owned));
        if chosen[ResourceKind::Disk as usize] == 0
            && let Some(free) = &mut totals[ResourceKind::Disk as usize]
        {
            // Space that agents hold is no longer free, and theirs all the same.
            let held = kept.iter().filter(|(_, stored)| stored.limits.is_some()).count();
            *free = free.saturating_add(held as u64 * WORKSPACE_MB * ledger::MIB);
        }
        // A tenth in the configuration is a tenth here, and not the nearest fraction of two.
        let share = share.to_string().parse().unwrap_or(f64::from(share));
        let mut ledger = Ledger::new(totals, share, config.auto_scaling_enabled);
        let mut ended = Vec::new();
        for (key, stored) in kept {
            let agent = uuid::Uuid::from_slice(&key).ok().map(AgentId::from);
            let since = from_micros(stored.since);
            let is_sound = match (agent, stored.limits) {
                (Some(agent), Some(limits)) => ledger.restore(agent, limits.into(), since),
                (Some(agent), None) => {
                    ended.push((since, agent));
                    true
                }
                (None, _) => false,
            };
            if !is_sound {
                return Err(failed(format!(
                    "the promise in row `{}` of `allocations` makes no sense",
                    key.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
                )));
            }
        }
        ended.sort_unstable();
        let mut books = Books::new(ledger);
        let forgotten: Vec<AgentId> =
            ended.into_iter().filter_map(|(_, agent)| books.remember(agent)).collect();
        let promised: Vec<AgentId> = books.ledger.iter().map(|(agent, _)| *agent).collect();
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
            books: Mutex::new(books),
            turns: Turns::default(),
            watch: Arc::default(),
            tasks: Tasks::default(),
            this: Weak::clone(this),
        });
        for agent in promised {
            inner.take_place(agent)?;
        }
        for agent in forgotten {
            inner.forget_row(agent);
        }
        inner.tasks.spawn(watch::watch(Weak::clone(&inner.this), inner.tasks.stopping()));
        Ok(DefaultResourceManager { inner })
    }
}

/// What no driver holds agents to, whatever the host.
const UNENFORCED: [&str; 2] = [
    "disk traffic is compared with `disk_io_mbps`, and nothing slows an agent down to it",
    "sandboxes have no network, so that `network_io_mbps` is promised and has nothing to bound",
];

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<MutexGuard<'_, Books>, ResourceError> {
        let books = self.lock();
        if books.closed { Err(closing()) } else { Ok(books) }
    }

    /// Runs `work` to its end, whether or not the caller waits for it.
    async fn finish<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, ResourceError>> + Send + 'static,
    ) -> Result<T, ResourceError> {
        self.tasks.finish(work).await.unwrap_or_else(|| Err(closing()))
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
        self.inner.finish(async move { inner.allocate(agent_id, limits).await }).await
    }

    async fn deallocate_resources(&self, agent_id: AgentId) -> Result<(), ResourceError> {
        let inner = Arc::clone(&self.inner);
        self.inner.finish(async move { inner.release(agent_id).await }).await
    }

    async fn update_resource_limits(
        &self,
        agent_id: AgentId,
        limits: ResourceLimits,
    ) -> Result<(), ResourceError> {
        let inner = Arc::clone(&self.inner);
        self.inner.finish(async move { inner.update(agent_id, limits).await }).await
    }

    async fn get_resource_usage(&self, agent_id: AgentId) -> Result<ResourceUsage, ResourceError> {
        self.inner.read(agent_id).await?.usage().map_err(|kind| {
            failed(format!(
                "what agent `{agent_id}` uses of {kind} can't be measured on this host (the rest: \
                 usage_detail)"
            ))
        })
    }

    async fn get_system_resources(&self) -> SystemResourceStatus {
        let pressure = probe::pressure();
        let books = self.inner.lock();
        #[expect(clippy::cast_precision_loss, reason = "figures for people")]
        let shown = |kind: ResourceKind, amount: u64| match kind {
            ResourceKind::Cpu => amount as f64 / 1000.0,
            ResourceKind::Memory | ResourceKind::Disk | ResourceKind::Network => amount as f64,
        };
        let readings = || {
            let holders = books.ledger.iter().filter_map(|(agent, _)| books.watched.get(agent));
            holders.filter_map(|watched| watched.reading.as_ref())
        };
        let used = |kind: ResourceKind| match kind {
            // What is measured of disks is traffic, and what is promised is space.
            ResourceKind::Disk => None,
            ResourceKind::Memory | ResourceKind::Cpu | ResourceKind::Network => {
                readings().map(|reading: &Reading| reading.of(kind)).sum()
            }
        };
        let mut overcommitted = false;
        let kinds = ResourceKind::ALL
            .into_iter()
            .map(|kind| {
                let total = books.ledger.total(kind).map(|total| shown(kind, total));
                let used: Option<f64> = used(kind);
                overcommitted |= books.ledger.is_overcommitted(kind)
                    || used.zip(total).is_some_and(|(used, total)| used > total);
                KindStatus {
                    kind,
                    total,
                    reserved: shown(kind, books.ledger.reserved(kind)),
                    allocated: shown(kind, books.ledger.promised(kind)),
                    available: total.map(|_| shown(kind, books.ledger.available(kind))),
                    used,
                }
            })
            .collect();
        SystemResourceStatus {
            kinds,
            allocations: books.ledger.len(),
            pressure,
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
            .flat_map(|(_, watched)| watched.ongoing.iter().map(|there| there.violation.clone()))
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
        watched.watch_for(thresholds);
        Ok(())
    }

    async fn get_resource_history(
        &self,
        agent_id: AgentId,
        duration: Duration,
    ) -> Result<Vec<ResourceSnapshot>, ResourceError> {
        let now = self.inner.journal.now();
        if let Some(watched) = self.inner.lock().watched.get(&agent_id) {
            return Ok(watched.history.last(now, duration));
        }
        if self.inner.is_known(agent_id) { Ok(Vec::new()) } else { Err(never(agent_id)) }
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

fn closing() -> ResourceError {
    failed("the resource manager is shutting down".to_owned())
}

fn failed(reason: String) -> ResourceError {
    ResourceError::MonitoringFailed { reason }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use symbiont_types::{ErrorAction, UsageSource};

    use super::*;
    use crate::directory::{AgentPort, Usage};
    use crate::faulty::{FaultyStore, Witness};

    struct Bench {
        resources: DefaultResourceManager,
        directory: Arc<Directory>,
        store: Arc<FaultyStore>,
        witness: Arc<Witness>,
    }

    /// A manager of 1,000 MiB without a reserve, over a store that can be told to fail, with
    /// somebody who runs whatever agents it is given.
    async fn bench() -> Bench {
        let (directory, store) = (Directory::new(), FaultyStore::new());
        let config = ResourceManagerConfig {
            total_memory: 1000 << 20,
            total_cpu_cores: 100,
            resource_reservation_percentage: 0.0,
            ..ResourceManagerConfig::default()
        };
        let resources = DefaultResourceManager::builder(config)
            .directory(Arc::clone(&directory))
            .journal(Journal::reading(Arc::clone(&store) as _, Clock::system()))
            .build()
            .await
            .expect("the settings are fine");
        Bench { resources, directory, store, witness: Witness::new() }
    }

    impl Bench {
        fn run(&self, agent: AgentId, usage: &Usage) {
            let port: Arc<dyn AgentPort> = Arc::clone(&self.witness) as Arc<dyn AgentPort>;
            self.directory.set_agent(agent, &port).expect("the place is free");
            self.witness.uses(usage.clone());
        }

        async fn promised(&self) -> (usize, f64) {
            let status = self.resources.get_system_resources().await;
            let memory = status.kind(ResourceKind::Memory).expect("it is known").allocated;
            (status.allocations, memory / f64::from(1 << 20))
        }
    }

    fn limits(memory_mb: u64) -> ResourceLimits {
        ResourceLimits { memory_mb, network_io_mbps: 0, ..ResourceLimits::default() }
    }

    fn usage() -> Usage {
        Usage {
            memory: Some(1),
            cpu_nanos: Some(0),
            disk_bytes: Some(0),
            network_bytes: Some(0),
            throttled: None,
            oom_kills: None,
            source: UsageSource::Kernel,
            uptime: Duration::from_secs(1),
        }
    }

    #[tokio::test]
    async fn what_cannot_be_recorded_changes_nothing() {
        let bench = bench().await;
        let (resources, agent) = (&bench.resources, AgentId::new());
        bench.store.fail(true);
        let (one, two) = tokio::join!(
            resources.allocate_resources(agent, limits(100)),
            resources.allocate_resources(agent, limits(100)),
        );
        assert!(one.is_err() && two.is_err(), "nobody is told of a promise that is not there");
        assert_eq!(bench.promised().await, (0, 0.0));
        assert!(bench.directory.ledger(agent).is_none());
        bench.store.fail(false);
        resources.allocate_resources(agent, limits(500)).await.expect("there is room");
        bench.store.fail(true);
        for to in [900, 100] {
            let refused = resources.update_resource_limits(agent, limits(to)).await;
            assert!(matches!(refused, Err(ResourceError::MonitoringFailed { .. })), "{refused:?}");
            assert_eq!(bench.promised().await, (1, 500.0));
        }
        resources.deallocate_resources(agent).await.expect_err("it can't be recorded");
        assert_eq!(bench.promised().await, (1, 500.0));
        bench.store.fail(false);
        resources.deallocate_resources(agent).await.expect("it is recorded");
        assert_eq!(bench.promised().await, (0, 0.0));
        assert!(bench.directory.ledger(agent).is_none(), "its place is free for another manager");
    }

    #[tokio::test(start_paused = true)]
    async fn one_agent_that_resists_stops_nobody_from_being_watched() {
        let bench = bench().await;
        let agents = [AgentId::new(), AgentId::new()];
        bench.witness.stuck.store(true, Ordering::SeqCst);
        for agent in agents {
            bench.run(agent, &Usage { memory: Some(200 << 20), ..usage() });
            bench.resources.allocate_resources(agent, limits(100)).await.expect("there is room");
        }
        tokio::time::sleep(Duration::from_secs(20)).await;
        for agent in agents {
            let history = bench.resources.get_resource_history(agent, Duration::MAX).await;
            assert!(history.expect("it has one").len() >= 19);
        }
        assert_eq!(bench.witness.told(), [ErrorAction::Suspend, ErrorAction::Suspend]);
        let violations = bench.resources.check_resource_violations().await;
        for violation in &violations {
            assert_eq!(violation.action, symbiont_types::ViolationAction::Notified);
        }
        assert_eq!(violations.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_known_is_an_error_and_no_zero_and_asking_leaves_no_sample() {
        let bench = bench().await;
        let (resources, agent) = (&bench.resources, AgentId::new());
        bench.run(agent, &Usage { disk_bytes: None, ..usage() });
        resources.allocate_resources(agent, limits(100)).await.expect("there is room");
        for _ in 0..200 {
            tokio::time::advance(Duration::from_millis(10)).await;
            let refused = resources.get_resource_usage(agent).await;
            let Err(ResourceError::MonitoringFailed { reason }) = refused else {
                panic!("{refused:?}")
            };
            assert!(reason.contains("disk"), "{reason}");
            let detail = resources.usage_detail(agent).await.expect("the rest is known");
            assert_eq!(detail.memory_used.map(|memory| memory.value), Some(1));
            assert_eq!(detail.disk_io_rate, None);
        }
        let history = resources.get_resource_history(agent, Duration::MAX).await.expect("one");
        assert!((1..=3).contains(&history.len()), "{}", history.len());
        assert!(history.iter().all(|sample| sample.unmeasured == [ResourceKind::Disk]));
        resources.deallocate_resources(agent).await.expect("it is known");
        tokio::time::sleep(Duration::from_secs(63)).await;
        let history = resources.get_resource_history(agent, Duration::MAX).await;
        assert_eq!(history, Ok(Vec::new()), "the samples go soon after the promise");
        assert!(!resources.inner.lock().watched.contains_key(&agent));
        resources.deallocate_resources(agent).await.expect("the id is remembered");
    }
}
