//! What is promised, in whole numbers: bytes, thousandths of a core, bytes/s.

use std::collections::HashMap;
use std::time::SystemTime;

use symbiont_types::{AgentId, ResourceKind, ResourceLimits};

/// Bytes in a MiB, the unit of limits.
pub(crate) const MIB: u64 = 1024 * 1024;
/// The room in its sandbox's `/workspace` that every agent is promised, in MiB.
pub(crate) const WORKSPACE_MB: u64 = 256;
/// The least share of its limits that an agent keeps when shares float, in percent.
const FLOOR_PERCENT: u64 = 25;
/// Room beyond what an agent uses that its share keeps when shares float, in percent.
const HEADROOM_PERCENT: u64 = 25;

/// An amount of each kind of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Amounts {
    /// Bytes.
    pub(crate) memory: u64,
    /// Thousandths of a core.
    pub(crate) cpu: u64,
    /// Bytes of disk space.
    pub(crate) disk: u64,
    /// Bytes/s.
    pub(crate) network: u64,
}

impl Amounts {
    pub(crate) fn of(&self, kind: ResourceKind) -> u64 {
        match kind {
            ResourceKind::Memory => self.memory,
            ResourceKind::Cpu => self.cpu,
            ResourceKind::Disk => self.disk,
            ResourceKind::Network => self.network,
        }
    }

    fn map(self, f: impl Fn(ResourceKind, u64) -> u64) -> Self {
        Self {
            memory: f(ResourceKind::Memory, self.memory),
            cpu: f(ResourceKind::Cpu, self.cpu),
            disk: f(ResourceKind::Disk, self.disk),
            network: f(ResourceKind::Network, self.network),
        }
    }

    fn plus(self, other: Self) -> Self {
        self.map(|kind, amount| amount.saturating_add(other.of(kind)))
    }

    fn minus(self, other: Self) -> Self {
        self.map(|kind, amount| amount.saturating_sub(other.of(kind)))
    }

    /// What `limits` promise; `None` when they are no numbers that can be promised.
    pub(crate) fn promised_by(limits: &ResourceLimits) -> Option<Self> {
        let cores = limits.cpu_cores;
        if !cores.is_finite() || !(0.001..=1_000_000.0).contains(&cores) {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked above"
        )]
        let cpu = (cores * 1000.0).round() as u64;
        let memory = limits.memory_mb.checked_mul(MIB).filter(|bytes| *bytes > 0)?;
        // Zero of disk or network traffic is none at all, and needs no special case.
        let network = limits.network_io_mbps.checked_mul(1_000_000)?;
        limits.disk_io_mbps.checked_mul(1_000_000)?;
        if limits.execution_timeout.is_zero() || limits.idle_timeout.is_zero() {
            return None;
        }
        Some(Self { memory, cpu, disk: WORKSPACE_MB * MIB, network })
    }
}

/// One promise.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Promise {
    pub(crate) limits: ResourceLimits,
    pub(crate) since: SystemTime,
    /// The most that it may ever be.
    pub(crate) ceiling: Amounts,
    /// What is set aside for it.
    pub(crate) share: Amounts,
    /// Whether it is on record; while it is not, its share does not float.
    pub(crate) settled: bool,
}

/// Why a promise was not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The agent holds a promise of other limits.
    HoldsAnother,
    /// The limits are no numbers that can be promised.
    NotANumber,
    /// There is no promise to change.
    HoldsNone,
    /// There is not enough: of what, asked, available.
    NotEnough(Vec<(ResourceKind, u64, u64)>),
}

/// Everything that is promised.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// What there is; `None` of what the host does not tell.
    totals: [Option<u64>; 4],
    /// What is held back.
    reserved: Amounts,
    promised: Amounts,
    promises: HashMap<AgentId, Promise>,
    floating: bool,
}

impl Ledger {
    /// `reserve` is the share of everything that is held back, from 0 up to and without 1.
    pub(crate) fn new(totals: [Option<u64>; 4], reserve: f64, floating: bool) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a share of a total fits where the total fits"
        )]
        let reserved = Amounts::default().map(|kind, _| {
            totals[kind as usize].map_or(0, |total| (total as f64 * reserve).ceil() as u64)
        });
        Self { totals, reserved, promised: Amounts::default(), promises: HashMap::new(), floating }
    }

    pub(crate) fn total(&self, kind: ResourceKind) -> Option<u64> {
        self.totals[kind as usize]
    }

    pub(crate) fn reserved(&self, kind: ResourceKind) -> u64 {
        self.reserved.of(kind)
    }

    pub(crate) fn promised(&self, kind: ResourceKind) -> u64 {
        self.promised.of(kind)
    }

    /// What could still be promised; everything where there is no total.
    pub(crate) fn available(&self, kind: ResourceKind) -> u64 {
        match self.total(kind) {
            None => u64::MAX,
            Some(total) => {
                total.saturating_sub(self.reserved.of(kind)).saturating_sub(self.promised.of(kind))
            }
        }
    }

    pub(crate) fn get(&self, agent: AgentId) -> Option<&Promise> {
        self.promises.get(&agent)
    }

    /// Whether more is promised of `kind` than may be.
    pub(crate) fn is_overcommitted(&self, kind: ResourceKind) -> bool {
        self.total(kind).is_some_and(|total| {
            self.promised.of(kind) > total.saturating_sub(self.reserved.of(kind))
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&AgentId, &Promise)> {
        self.promises.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.promises.len()
    }

    /// Sets all of `limits` aside, or nothing, until [`Ledger::settle`] or [`Ledger::release`]. The
    /// same again changes nothing.
    pub(crate) fn allocate(
        &mut self,
        agent: AgentId,
        limits: &ResourceLimits,
        now: SystemTime,
    ) -> Result<Promise, Refusal> {
        let ceiling = Amounts::promised_by(limits).ok_or(Refusal::NotANumber)?;
        if let Some(there) = self.promises.get(&agent) {
            return if there.limits == *limits {
                Ok(there.clone())
            } else {
                Err(Refusal::HoldsAnother)
            };
        }
        let share = if self.floating { floor(ceiling) } else { ceiling };
        self.take(Amounts::default(), share)?;
        let promise =
            Promise { limits: limits.clone(), since: now, ceiling, share, settled: false };
        self.promises.insert(agent, promise.clone());
        Ok(promise)
    }

    /// Holds a promise that was made before, whether or not it still fits. Whether its limits could
    /// be promised at all.
    pub(crate) fn restore(
        &mut self,
        agent: AgentId,
        limits: ResourceLimits,
        since: SystemTime,
    ) -> bool {
        let Some(ceiling) = Amounts::promised_by(&limits) else { return false };
        let share = if self.floating { floor(ceiling) } else { ceiling };
        self.settle(agent, Promise { limits, since, ceiling, share, settled: true });
        true
    }

    /// Sets aside what both the present promise and one of `limits` need, or changes nothing; the
    /// promise as it was and as it is to be. Until one of them is settled, nobody else can take
    /// what the other needs.
    pub(crate) fn reserve(
        &mut self,
        agent: AgentId,
        limits: &ResourceLimits,
    ) -> Result<(Promise, Promise), Refusal> {
        let ceiling = Amounts::promised_by(limits).ok_or(Refusal::NotANumber)?;
        let before = self.promises.get(&agent).ok_or(Refusal::HoldsNone)?.clone();
        let share = if self.floating {
            let least = floor(ceiling);
            ceiling.map(|kind, most| before.share.of(kind).clamp(least.of(kind), most))
        } else {
            ceiling
        };
        let both = share.map(|kind, amount| amount.max(before.share.of(kind)));
        self.take(before.share, both)?;
        let there = self.promises.get_mut(&agent).expect("it was there a line ago");
        there.share = both;
        there.settled = false;
        let after = Promise { limits: limits.clone(), ceiling, share, ..before.clone() };
        Ok((before, after))
    }

    /// The agent's promise is this one, which is on record: what was set aside beyond it is free.
    pub(crate) fn settle(&mut self, agent: AgentId, promise: Promise) {
        self.release(agent);
        self.promised = self.promised.plus(promise.share);
        self.promises.insert(agent, Promise { settled: true, ..promise });
    }

    /// Takes the promise back; what it was, if there was one.
    pub(crate) fn release(&mut self, agent: AgentId) -> Option<Promise> {
        let promise = self.promises.remove(&agent)?;
        self.promised = self.promised.minus(promise.share);
        Some(promise)
    }

    /// Lets a floating share follow what is used; what is not known stays as it is, and so does
    /// disk space, whose use is not measured. The new share, if it changed by more than a
    /// twentieth.
    pub(crate) fn follow(&mut self, agent: AgentId, used: [Option<u64>; 4]) -> Option<Amounts> {
        if !self.floating {
            return None;
        }
        let promise = self.promises.get(&agent).filter(|promise| promise.settled)?;
        let (before, ceiling) = (promise.share, promise.ceiling);
        let least = floor(ceiling);
        let share = before.map(|kind, held| {
            let Some(used) = used[kind as usize].filter(|_| kind != ResourceKind::Disk) else {
                return held;
            };
            let wanted = used.saturating_add(used / 100 * HEADROOM_PERCENT);
            let wanted = wanted.clamp(least.of(kind), ceiling.of(kind));
            let can_have = held.saturating_add(self.available(kind));
            let wanted = wanted.min(can_have);
            if wanted.abs_diff(held) > held / 20 { wanted } else { held }
        });
        if share == before {
            return None;
        }
        self.promised = self.promised.minus(before).plus(share);
        self.promises.get_mut(&agent).expect("it was there a line ago").share = share;
        Some(share)
    }

    fn take(&mut self, before: Amounts, after: Amounts) -> Result<(), Refusal> {
        let lacking: Vec<_> = ResourceKind::ALL
            .into_iter()
            .map(|kind| {
                (kind, after.of(kind), self.available(kind).saturating_add(before.of(kind)))
            })
            .filter(|(_, asked, available)| asked > available)
            .collect();
        if !lacking.is_empty() {
            return Err(Refusal::NotEnough(lacking));
        }
        self.promised = self.promised.minus(before).plus(after);
        Ok(())
    }
}

/// The least share that floats under this ceiling. Disk space does not float.
fn floor(ceiling: Amounts) -> Amounts {
    ceiling.map(|kind, amount| match kind {
        ResourceKind::Disk => amount,
        ResourceKind::Memory | ResourceKind::Cpu | ResourceKind::Network => {
            amount / 100 * FLOOR_PERCENT + amount % 100 * FLOOR_PERCENT / 100
        }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn limits(memory_mb: u64, cpu_cores: f64) -> ResourceLimits {
        ResourceLimits { memory_mb, cpu_cores, ..ResourceLimits::default() }
    }

    fn ledger(floating: bool) -> Ledger {
        Ledger::new([Some(1000 * MIB), Some(4000), None, None], 0.1, floating)
    }

    #[test]
    fn half_a_core_is_half_a_core() {
        let mut ledger = ledger(false);
        for _ in 0..7 {
            ledger.allocate(AgentId::new(), &limits(1, 0.5), SystemTime::now()).unwrap();
        }
        assert_eq!(ledger.available(ResourceKind::Cpu), 100);
        let refusal = ledger.allocate(AgentId::new(), &limits(1, 0.5), SystemTime::now());
        assert_eq!(refusal, Err(Refusal::NotEnough(vec![(ResourceKind::Cpu, 500, 100)])));
    }

    #[test]
    fn limits_that_are_no_numbers_are_refused() {
        let mut ledger = ledger(false);
        let cases = [
            limits(1, f64::NAN),
            limits(1, f64::INFINITY),
            limits(1, -1.0),
            limits(1, 0.0),
            limits(0, 1.0),
            limits(u64::MAX, 1.0),
            ResourceLimits { network_io_mbps: u64::MAX, ..limits(1, 1.0) },
            ResourceLimits { disk_io_mbps: u64::MAX, ..limits(1, 1.0) },
            ResourceLimits { execution_timeout: Duration::ZERO, ..limits(1, 1.0) },
        ];
        for case in cases {
            let refusal = ledger.allocate(AgentId::new(), &case, SystemTime::now());
            assert_eq!(refusal, Err(Refusal::NotANumber), "{case:?}");
        }
        assert_eq!(ledger.len(), 0);
    }

    #[test]
    fn floating_shares_begin_at_the_floor_and_follow_what_is_used() {
        let mut ledger = ledger(true);
        let agent = AgentId::new();
        let promise = ledger.allocate(agent, &limits(400, 2.0), SystemTime::now()).unwrap();
        assert_eq!(ledger.promised(ResourceKind::Memory), 100 * MIB);
        assert_eq!(ledger.promised(ResourceKind::Disk), WORKSPACE_MB * MIB, "no part of the space");
        let memory = |mib: u64| [Some(mib * MIB), Some(0), Some(0), Some(0)];
        assert_eq!(ledger.follow(agent, memory(200)), None, "not before it is on record");
        ledger.settle(agent, promise);
        assert_eq!(ledger.follow(agent, memory(200)).unwrap().memory / MIB, 250);
        let all = ledger.follow(agent, memory(4000)).unwrap();
        assert_eq!(all.memory, 400 * MIB, "never above the ceiling");
        assert_eq!(all.disk, WORKSPACE_MB * MIB);
        assert_eq!(ledger.follow(agent, [None, Some(0), None, None]), None, "nobody knows");
    }

    #[test]
    fn what_is_kept_holds_though_it_does_not_fit() {
        let mut ledger = ledger(false);
        let agents = [AgentId::new(), AgentId::new()];
        for agent in agents {
            assert!(ledger.restore(agent, limits(600, 1.0), SystemTime::now()));
        }
        assert!(ledger.is_overcommitted(ResourceKind::Memory));
        assert!(!ledger.is_overcommitted(ResourceKind::Cpu));
        assert_eq!((ledger.len(), ledger.available(ResourceKind::Memory)), (2, 0));
        ledger.release(agents[0]);
        assert!(!ledger.is_overcommitted(ResourceKind::Memory));
        assert_eq!(ledger.available(ResourceKind::Memory), 300 * MIB);
    }

    #[test]
    fn until_a_change_is_settled_both_ends_of_it_are_set_aside() {
        for (to, lasting) in [(300, 300), (700, 700)] {
            for succeeds in [true, false] {
                let mut ledger = ledger(false);
                let agent = AgentId::new();
                let promise = ledger.allocate(agent, &limits(500, 1.0), SystemTime::now()).unwrap();
                ledger.settle(agent, promise);
                let (before, after) = ledger.reserve(agent, &limits(to, 1.0)).unwrap();
                assert_eq!(ledger.promised(ResourceKind::Memory), to.max(500) * MIB);
                ledger.settle(agent, if succeeds { after } else { before });
                let want = if succeeds { lasting } else { 500 };
                assert_eq!(ledger.promised(ResourceKind::Memory), want * MIB);
                assert_eq!(ledger.get(agent).unwrap().limits.memory_mb, want);
            }
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Allocate(usize, u64, u32),
        Update(usize, u64, u32),
        Release(usize),
        Follow(usize, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..8_usize, 0..600_u64, 0..5000_u32).prop_map(|(a, m, c)| Step::Allocate(a, m, c)),
            (0..8_usize, 0..600_u64, 0..5000_u32).prop_map(|(a, m, c)| Step::Update(a, m, c)),
            (0..8_usize).prop_map(Step::Release),
            (0..8_usize, 0..2000_u64).prop_map(|(a, m)| Step::Follow(a, m)),
        ]
    }

    proptest! {
        #[test]
        fn promises_are_what_the_shares_add_up_to_and_never_more_than_there_is(
            steps in proptest::collection::vec(step(), 0..100),
            floating: bool,
        ) {
            let mut ledger = ledger(floating);
            let agents: Vec<AgentId> = (0..8).map(|_| AgentId::new()).collect();
            for step in steps {
                match step {
                    Step::Allocate(a, m, c) => {
                        let limits = limits(m, f64::from(c) / 1000.0);
                        if let Ok(promise) =
                            ledger.allocate(agents[a], &limits, SystemTime::now())
                        {
                            ledger.settle(agents[a], promise);
                        }
                    }
                    Step::Update(a, m, c) => {
                        // Every other one could not be recorded.
                        if let Ok((before, after)) =
                            ledger.reserve(agents[a], &limits(m, f64::from(c) / 1000.0))
                        {
                            ledger.settle(agents[a], if c % 2 == 0 { after } else { before });
                        }
                    }
                    Step::Release(a) => {
                        ledger.release(agents[a]);
                    }
                    Step::Follow(a, m) => {
                        ledger.follow(agents[a], [Some(m * MIB), Some(0), None, Some(0)]);
                    }
                }
                for kind in ResourceKind::ALL {
                    let sum: u64 = ledger.iter().map(|(_, promise)| promise.share.of(kind)).sum();
                    prop_assert_eq!(ledger.promised(kind), sum);
                    if let Some(total) = ledger.total(kind) {
                        prop_assert!(sum + ledger.reserved(kind) <= total);
                    }
                }
            }
        }
    }
}
