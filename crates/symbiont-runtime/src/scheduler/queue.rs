//! What comes next: an order over tasks, and lanes to run them in, as plain state.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

use symbiont_types::{AgentId, LoadBalancingStrategy, Priority, ResourceLimits, TaskId};

/// A task that waits this long counts as one class more urgent.
const AGING: Duration = Duration::from_secs(60);

/// A place in the order of one class: due first, then first come.
type Place = (SystemTime, u64, TaskId);

/// Tasks that could start now, tasks that are not due, and tasks whose agent can't take them.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// By class; the key of each is its place.
    due: BTreeMap<Reverse<Priority>, BTreeSet<Place>>,
    later: BTreeSet<(SystemTime, u64, Priority, TaskId)>,
    held: HashMap<AgentId, Vec<(Priority, Place, String)>>,
    size: usize,
    sequence: u64,
    by_priority: bool,
}

/// Where a task waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) priority: Priority,
    pub(crate) due: SystemTime,
    pub(crate) sequence: u64,
}

impl Queue {
    pub(crate) fn new(by_priority: bool) -> Self {
        Self { by_priority, ..Self::default() }
    }

    /// How many wait, in whatever way.
    pub(crate) fn len(&self) -> usize {
        self.size
    }

    pub(crate) fn ticket(&mut self, priority: Priority, due: SystemTime) -> Ticket {
        self.sequence += 1;
        Ticket { priority, due, sequence: self.sequence }
    }

    pub(crate) fn push(&mut self, id: TaskId, ticket: Ticket, now: SystemTime) {
        let Ticket { priority, due, sequence } = ticket;
        self.size += 1;
        if due > now {
            self.later.insert((due, sequence, priority, id));
        } else {
            self.due.entry(Reverse(priority)).or_default().insert((due, sequence, id));
        }
    }

    /// Puts a due task aside until its agent can take it.
    pub(crate) fn hold(&mut self, agent: AgentId, id: TaskId, ticket: Ticket, reason: String) {
        let Ticket { priority, due, sequence } = ticket;
        self.size += 1;
        self.held.entry(agent).or_default().push((priority, (due, sequence, id), reason));
    }

    /// Lets the tasks of an agent stand in line again.
    pub(crate) fn unhold(&mut self, agent: AgentId) -> bool {
        let Some(held) = self.held.remove(&agent) else { return false };
        for (priority, place, _) in held {
            self.due.entry(Reverse(priority)).or_default().insert(place);
        }
        true
    }

    /// Takes a task out, wherever it waits.
    pub(crate) fn remove(&mut self, agent: AgentId, id: TaskId, ticket: Ticket) -> bool {
        let Ticket { priority, due, sequence } = ticket;
        let place = (due, sequence, id);
        let found = self.later.remove(&(due, sequence, priority, id))
            || self.due.get_mut(&Reverse(priority)).is_some_and(|class| class.remove(&place))
            || self.held.get_mut(&agent).is_some_and(|held| {
                let before = held.len();
                held.retain(|(_, there, _)| *there != place);
                held.len() < before
            });
        if found {
            self.size -= 1;
        }
        found
    }

    /// Moves what has become due into its line.
    pub(crate) fn ripen(&mut self, now: SystemTime) {
        while let Some(&(due, sequence, priority, id)) = self.later.first()
            && due <= now
        {
            self.later.pop_first();
            self.due.entry(Reverse(priority)).or_default().insert((due, sequence, id));
        }
    }

    /// When the next task becomes due.
    pub(crate) fn next_due(&self) -> Option<SystemTime> {
        self.later.first().map(|(due, ..)| *due)
    }

    /// The task whose turn it is, among all classes or among the critical ones alone.
    ///
    /// Within a class the first has waited the longest, so that comparing the first of each class
    /// is enough.
    pub(crate) fn first(&self, now: SystemTime, critical_only: bool) -> Option<(Priority, TaskId)> {
        let heads = self.due.iter().filter_map(|(class, line)| Some((class.0, line.first()?)));
        let best = heads
            .filter(|(class, _)| !critical_only || *class == Priority::Critical)
            .min_by_key(|(class, (due, sequence, _))| {
                let urgency = if self.by_priority { urgency(*class, *due, now) } else { 0 };
                (Reverse(urgency), *due, *sequence)
            });
        best.map(|(class, (_, _, id))| (class, *id))
    }

    /// How many due tasks come before this one, where age has not changed the order.
    pub(crate) fn position(&self, id: TaskId, ticket: Ticket) -> Option<usize> {
        let place = (ticket.due, ticket.sequence, id);
        let line = self.due.get(&Reverse(ticket.priority))?;
        if !line.contains(&place) {
            return None;
        }
        let before = line.range(..place).count();
        let others: usize = if self.by_priority {
            self.due.range(..Reverse(ticket.priority)).map(|(_, line)| line.len()).sum()
        } else {
            let other = |(class, line): (&Reverse<Priority>, &BTreeSet<Place>)| {
                if *class == Reverse(ticket.priority) { 0 } else { line.range(..place).count() }
            };
            self.due.iter().map(other).sum()
        };
        Some(before + others)
    }

    pub(crate) fn held_reason(&self, agent: AgentId, id: TaskId) -> Option<&str> {
        let held = self.held.get(&agent)?;
        held.iter().find(|(_, (_, _, there), _)| *there == id).map(|(_, _, reason)| reason.as_str())
    }

    /// Due tasks by class, those that are held included.
    pub(crate) fn due_by_class(&self) -> Vec<(Priority, usize)> {
        let mut counts: BTreeMap<Priority, usize> = BTreeMap::new();
        for (class, line) in &self.due {
            *counts.entry(class.0).or_default() += line.len();
        }
        for (class, _, _) in self.held.values().flatten() {
            *counts.entry(*class).or_default() += 1;
        }
        counts.into_iter().collect()
    }

    pub(crate) fn later_by_class(&self) -> Vec<(Priority, usize)> {
        let mut counts: BTreeMap<Priority, usize> = BTreeMap::new();
        for (_, _, class, _) in &self.later {
            *counts.entry(*class).or_default() += 1;
        }
        counts.into_iter().collect()
    }

    pub(crate) fn oldest_due(&self) -> Option<SystemTime> {
        let lines = self.due.values().filter_map(|line| line.first()).map(|(due, ..)| *due);
        let held = self.held.values().flatten().map(|(_, (due, ..), _)| *due);
        lines.chain(held).min()
    }
}

/// A class with the age of what waits in it: one class for each minute, never above critical.
fn urgency(class: Priority, due: SystemTime, now: SystemTime) -> u64 {
    let waited = now.duration_since(due).unwrap_or_default();
    (class as u64 + waited.as_secs() / AGING.as_secs()).min(Priority::Critical as u64)
}

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
            reserved: slots / 20,
            turn: 0,
        }
    }

    fn running(&self) -> usize {
        self.lanes.iter().map(|lane| lane.running).sum()
    }

    fn slots(&self) -> usize {
        self.lanes.iter().map(|lane| lane.slots).sum()
    }

    /// Whether a slot is free for any task; and if not, whether one is for a critical task.
    pub(crate) fn free(&self) -> (bool, bool) {
        let free = self.slots() - self.running();
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
        let lane = &mut self.lanes[chosen];
        lane.running += 1;
        lane.cpu += load.cpu;
        lane.memory += load.memory;
        Some(chosen)
    }

    pub(crate) fn release(&mut self, lane: usize, load: Load) {
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
    use std::time::UNIX_EPOCH;

    use Priority::{Critical, High, Low, Normal};

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// Pushes `tasks` and drains the queue at `now`; `want` names them in the order they come.
    #[track_caller]
    fn check(by_priority: bool, tasks: &[(&str, Priority, u64)], now: u64, want: &str) {
        let mut queue = Queue::new(by_priority);
        let mut known = Vec::new();
        for (name, priority, due) in tasks {
            let ticket = queue.ticket(*priority, at(*due));
            let id = TaskId::new();
            queue.push(id, ticket, at(0));
            known.push((id, *name, ticket));
        }
        queue.ripen(at(now));
        let mut came = Vec::new();
        while let Some((_, id)) = queue.first(at(now), false) {
            let (id, name, ticket) = known.iter().find(|(there, ..)| *there == id).unwrap();
            assert!(queue.remove(AgentId::new(), *id, *ticket));
            came.push(*name);
        }
        assert_eq!(came.join(" "), want);
    }

    #[test]
    fn the_urgent_come_first_and_the_old_among_equals() {
        let tasks = [("a", Low, 1), ("b", Normal, 3), ("c", Normal, 2), ("d", Critical, 9)];
        check(true, &tasks, 10, "d c b a");
        check(false, &tasks, 10, "a c b d");
        check(true, &tasks, 2, "c a");
    }

    #[test]
    fn age_raises_a_class_a_minute_and_never_above_critical() {
        check(true, &[("old", Low, 0), ("new", Normal, 59)], 59, "new old");
        check(true, &[("old", Low, 0), ("new", Normal, 60)], 60, "old new");
        check(true, &[("old", Low, 0), ("new", High, 119)], 119, "new old");
        check(true, &[("old", Low, 0), ("new", High, 120)], 120, "old new");
        check(true, &[("old", Low, 5), ("new", Critical, 4)], 900, "new old");
    }

    #[test]
    fn a_held_task_waits_for_its_agent_and_keeps_its_place() {
        let mut queue = Queue::new(true);
        let (agent, first, second) = (AgentId::new(), TaskId::new(), TaskId::new());
        let ticket = queue.ticket(Normal, at(1));
        queue.hold(agent, first, ticket, "busy".to_owned());
        let later = queue.ticket(Normal, at(1));
        queue.push(second, later, at(1));
        assert_eq!(queue.first(at(1), false), Some((Normal, second)));
        assert_eq!(queue.held_reason(agent, first), Some("busy"));
        queue.unhold(agent);
        assert_eq!(queue.first(at(1), false), Some((Normal, first)));
        assert_eq!(
            (queue.position(first, ticket), queue.position(second, later)),
            (Some(0), Some(1))
        );
        assert!(queue.remove(agent, first, ticket) && !queue.remove(agent, first, ticket));
        assert_eq!(queue.len(), 1);
    }

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
