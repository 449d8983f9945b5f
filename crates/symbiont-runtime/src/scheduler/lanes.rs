//! Where attempts run: lanes with slots, and the strategy that deals attempts out to them.

use std::cmp::Reverse;

use symbiont_types::{LoadBalancingStrategy, ResourceLimits};

/// A share of the attempts that may run at a time.
#[derive(Debug, Clone, Default)]
struct Lane {
    slots: usize,
    running: usize,
    /// Thousandths of cores, and MiB, of the limits of the agents that run in it.
    cpu: u64,
    memory: u64,
    /// For the weighted round: what the lane has saved up.
    credit: i64,
}

/// What an agent takes of a lane while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Load {
    cpu: u64,
    memory: u64,
}

impl Load {
    pub(crate) fn of(limits: Option<&ResourceLimits>) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
        limits.map_or_else(Self::default, |limits| Self {
            cpu: (limits.cpu_cores.clamp(0.0, 1e6) * 1000.0) as u64,
            memory: limits.memory_mb,
        })
    }
}

/// The lanes, and who is next.
#[derive(Debug)]
pub(crate) struct Lanes {
    lanes: Vec<Lane>,
    strategy: LoadBalancingStrategy,
    slots: usize,
    running: usize,
    /// Slots that only critical tasks may use.
    reserved: usize,
    turn: usize,
}

impl Lanes {
    /// `slots` attempts at a time over `lanes` lanes, as evenly as they divide.
    pub(crate) fn new(lanes: usize, slots: usize, strategy: LoadBalancingStrategy) -> Self {
        let lanes = lanes.clamp(1, slots.max(1));
        let share = |lane| slots / lanes + usize::from(lane < slots % lanes);
        Self {
            lanes: (0..lanes).map(|lane| Lane { slots: share(lane), ..Lane::default() }).collect(),
            strategy,
            slots,
            running: 0,
            reserved: slots / 20,
            turn: 0,
        }
    }

    /// Whether a slot is free for any task; and if not, whether one is for a critical task.
    pub(crate) fn free(&self) -> (bool, bool) {
        let free = self.slots - self.running;
        (free > self.reserved, free > 0)
    }

    /// Takes a slot in the lane that the strategy chooses.
    pub(crate) fn acquire(&mut self, load: Load) -> Option<usize> {
        let has_room = |lane: &Lane| lane.running < lane.slots;
        let count = self.lanes.len();
        let from_turn = (0..count).map(|step| (self.turn + step) % count);
        let chosen = match self.strategy {
            LoadBalancingStrategy::RoundRobin => {
                let chosen = from_turn.into_iter().find(|at| has_room(&self.lanes[*at]))?;
                self.turn = (chosen + 1) % count;
                chosen
            }
            LoadBalancingStrategy::LeastConnections => (0..count)
                .filter(|at| has_room(&self.lanes[*at]))
                .min_by_key(|at| self.lanes[*at].running)?,
            LoadBalancingStrategy::ResourceBased => {
                (0..count).filter(|at| has_room(&self.lanes[*at])).min_by_key(|at| {
                    let lane = &self.lanes[*at];
                    // Cores and memory weigh alike: a core goes with 4 GiB.
                    lane.cpu * 4096 / 1000 + lane.memory
                })?
            }
            LoadBalancingStrategy::WeightedRoundRobin => {
                // Smooth weighted round robin, as nginx does it: each lane saves its weight, the
                // richest goes and pays the sum.
                let mut sum = 0;
                for lane in self.lanes.iter_mut().filter(|lane| has_room(lane)) {
                    let weight = i64::try_from(lane.slots).unwrap_or(i64::MAX);
                    lane.credit = lane.credit.saturating_add(weight);
                    sum += weight;
                }
                let chosen = (0..count)
                    .filter(|at| has_room(&self.lanes[*at]))
                    .max_by_key(|at| (self.lanes[*at].credit, Reverse(*at)))?;
                self.lanes[chosen].credit -= sum;
                chosen
            }
        };
        self.running += 1;
        let lane = &mut self.lanes[chosen];
        lane.running += 1;
        lane.cpu += load.cpu;
        lane.memory += load.memory;
        Some(chosen)
    }

    pub(crate) fn release(&mut self, lane: usize, load: Load) {
        self.running -= 1;
        let lane = &mut self.lanes[lane];
        lane.running -= 1;
        lane.cpu -= load.cpu;
        lane.memory -= load.memory;
    }

    pub(crate) fn utilisation(&self) -> Vec<f64> {
        #[expect(clippy::cast_precision_loss, reason = "figures for people")]
        let share = |lane: &Lane| lane.running as f64 / lane.slots.max(1) as f64;
        self.lanes.iter().map(share).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lanes that `count` tasks go to, of lanes with the slots 3, 2 and 2.
    fn lanes(strategy: LoadBalancingStrategy, loads: &[u64]) -> Vec<usize> {
        let mut lanes = Lanes::new(3, 7, strategy);
        let mut acquire = |memory: &u64| lanes.acquire(Load { cpu: 0, memory: *memory });
        loads.iter().map_while(&mut acquire).collect()
    }

    #[test]
    fn each_strategy_chooses_in_its_way() {
        use LoadBalancingStrategy::*;
        let loads = [100, 10, 10, 10, 10, 10, 10, 10];
        assert_eq!(lanes(RoundRobin, &loads), [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(lanes(LeastConnections, &loads), [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(lanes(ResourceBased, &loads), [0, 1, 2, 1, 2, 0, 0]);
        assert_eq!(lanes(WeightedRoundRobin, &loads), [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn critical_tasks_have_slots_of_their_own() {
        let mut lanes = Lanes::new(2, 40, LoadBalancingStrategy::RoundRobin);
        let mut taken = 0;
        while lanes.free().0 {
            lanes.acquire(Load::default()).unwrap();
            taken += 1;
        }
        assert_eq!((taken, lanes.free()), (38, (false, true)));
        lanes.acquire(Load::default()).unwrap();
        let last = lanes.acquire(Load::default()).unwrap();
        assert_eq!(lanes.acquire(Load::default()), None);
        lanes.release(last, Load::default());
        assert_eq!(lanes.free(), (false, true));
    }
}
