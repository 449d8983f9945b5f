//! What comes next: an order over tasks, as plain state.
//!
//! Each agent has a line of its own, since it runs one task at a time. The order over all agents
//! holds only the first of each class of each line that is open; a line whose agent can't take
//! anything is shut as a whole, however long it is.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

use symbiont_types::{AgentId, Priority, TaskId};

/// A task that waits this long counts as one class more urgent.
const AGING: Duration = Duration::from_secs(60);

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) priority: Priority,
    /// Since when it could run: when it says, or when it was accepted if that was later.
    pub(crate) due: SystemTime,
    /// In the order of acceptance.
    pub(crate) sequence: u64,
}

/// A place in the order of one class: due first, then first come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    due: SystemTime,
    sequence: u64,
    id: TaskId,
}

impl Place {
    fn of(id: TaskId, ticket: Ticket) -> Self {
        let Ticket { due, sequence, .. } = ticket;
        Self { due, sequence, id }
    }
}

type Class = Reverse<Priority>;

/// Due tasks of one agent.
#[derive(Debug, Default)]
struct Line {
    classes: BTreeMap<Class, BTreeSet<Place>>,
    /// Why the agent can't take any of them, if it can't.
    shut: Option<String>,
}

/// Tasks that wait.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    lines: HashMap<AgentId, Line>,
    /// The first of each class of each line that is open.
    heads: BTreeMap<Class, BTreeSet<(Place, AgentId)>>,
    later: BTreeSet<(Place, Class, AgentId)>,
    size: usize,
    by_priority: bool,
}

impl Queue {
    pub(crate) fn new(by_priority: bool) -> Self {
        Self { by_priority, ..Self::default() }
    }

    /// How many wait, in whatever way.
    pub(crate) fn len(&self) -> usize {
        self.size
    }

    pub(crate) fn push(&mut self, agent: AgentId, id: TaskId, ticket: Ticket, now: SystemTime) {
        self.size += 1;
        let (place, class) = (Place::of(id, ticket), Reverse(ticket.priority));
        if ticket.due > now {
            self.later.insert((place, class, agent));
        } else {
            self.line_up(agent, class, place);
        }
    }

    fn line_up(&mut self, agent: AgentId, class: Class, place: Place) {
        let line = self.lines.entry(agent).or_default();
        let tasks = line.classes.entry(class).or_default();
        let first = tasks.first().copied();
        tasks.insert(place);
        if line.shut.is_none() && first.is_none_or(|first| place < first) {
            let heads = self.heads.entry(class).or_default();
            if let Some(first) = first {
                heads.remove(&(first, agent));
            }
            heads.insert((place, agent));
        }
    }

    /// Takes a task out, wherever it waits.
    pub(crate) fn remove(&mut self, agent: AgentId, id: TaskId, ticket: Ticket) -> bool {
        let (place, class) = (Place::of(id, ticket), Reverse(ticket.priority));
        let found = self.later.remove(&(place, class, agent)) || self.step_out(agent, class, place);
        self.size -= usize::from(found);
        found
    }

    /// Gives a task that waits another place.
    pub(crate) fn reorder(
        &mut self,
        agent: AgentId,
        id: TaskId,
        before: Ticket,
        after: Ticket,
        now: SystemTime,
    ) {
        let shut = self.lines.get(&agent).and_then(|line| line.shut.clone());
        self.remove(agent, id, before);
        self.push(agent, id, after, now);
        if let Some(reason) = shut {
            self.shut(agent, reason); // The line may have emptied in between.
        }
    }

    fn step_out(&mut self, agent: AgentId, class: Class, place: Place) -> bool {
        let Some(line) = self.lines.get_mut(&agent) else { return false };
        let Some(tasks) = line.classes.get_mut(&class) else { return false };
        if !tasks.remove(&place) {
            return false;
        }
        let next = tasks.first().copied();
        if tasks.is_empty() {
            line.classes.remove(&class);
        }
        if let Some(heads) = self.heads.get_mut(&class)
            && heads.remove(&(place, agent))
            && let Some(next) = next
        {
            heads.insert((next, agent));
        }
        if line.classes.is_empty() {
            self.lines.remove(&agent);
        }
        true
    }

    /// Lets no task of the agent come up until its line is opened again.
    pub(crate) fn shut(&mut self, agent: AgentId, reason: String) {
        let Some(line) = self.lines.get_mut(&agent) else { return };
        if line.shut.replace(reason).is_some() {
            return;
        }
        for (class, tasks) in &line.classes {
            if let (Some(first), Some(heads)) = (tasks.first(), self.heads.get_mut(class)) {
                heads.remove(&(*first, agent));
            }
        }
    }

    /// Lets the tasks of the agent come up again; whether there are any that could not.
    pub(crate) fn open(&mut self, agent: AgentId) -> bool {
        let Some(line) = self.lines.get_mut(&agent) else { return false };
        if line.shut.take().is_none() {
            return false;
        }
        for (class, tasks) in &line.classes {
            if let Some(first) = tasks.first() {
                self.heads.entry(*class).or_default().insert((*first, agent));
            }
        }
        true
    }

    /// Moves what has become due into its line.
    pub(crate) fn ripen(&mut self, now: SystemTime) {
        while let Some(&(place, class, agent)) = self.later.first()
            && place.due <= now
        {
            self.later.pop_first();
            self.line_up(agent, class, place);
        }
    }

    /// When the next task becomes due.
    pub(crate) fn next_due(&self) -> Option<SystemTime> {
        self.later.first().map(|(place, ..)| place.due)
    }

    /// The task whose turn it is, among all classes or among the critical ones alone.
    ///
    /// Within a class the first has waited the longest, so that comparing the first of each class is
    /// enough.
    pub(crate) fn first(&self, now: SystemTime, critical_only: bool) -> Option<(AgentId, TaskId)> {
        let heads = self.heads.iter().filter_map(|(class, line)| Some((class.0, line.first()?)));
        let best = heads
            .filter(|(class, _)| !critical_only || *class == Priority::Critical)
            .min_by_key(|(class, (place, _))| {
                let urgency = if self.by_priority { urgency(*class, place.due, now) } else { 0 };
                (Reverse(urgency), *place)
            });
        best.map(|(_, (place, agent))| (*agent, place.id))
    }

    /// How many due tasks of agents that could take them come before this one, where age has not
    /// changed the order.
    pub(crate) fn position(&self, agent: AgentId, id: TaskId, ticket: Ticket) -> Option<usize> {
        let (place, class) = (Place::of(id, ticket), Reverse(ticket.priority));
        let line = self.lines.get(&agent).filter(|line| line.shut.is_none())?;
        if !line.classes.get(&class)?.contains(&place) {
            return None;
        }
        let before = |(there, tasks): (&Class, &BTreeSet<Place>)| {
            if *there == class || !self.by_priority {
                tasks.range(..place).count()
            } else if *there < class {
                tasks.len()
            } else {
                0
            }
        };
        let open = self.lines.values().filter(|line| line.shut.is_none());
        Some(open.flat_map(|line| &line.classes).map(before).sum())
    }

    /// Why none of the agent's due tasks can come up, if none can.
    pub(crate) fn shut_reason(&self, agent: AgentId) -> Option<&str> {
        self.lines.get(&agent)?.shut.as_deref()
    }

    /// How many tasks of each class wait, those that are due at `now` and those that are not.
    pub(crate) fn counts(&self, now: SystemTime) -> [BTreeMap<Priority, usize>; 2] {
        let [mut due, mut later] = [BTreeMap::new(), BTreeMap::new()];
        for (class, tasks) in self.lines.values().flat_map(|line| &line.classes) {
            *due.entry(class.0).or_default() += tasks.len();
        }
        for (place, class, _) in &self.later {
            let counts = if place.due <= now { &mut due } else { &mut later };
            *counts.entry(class.0).or_default() += 1;
        }
        [due, later]
    }

    /// When the task became due that has been due the longest.
    pub(crate) fn oldest_due(&self) -> Option<SystemTime> {
        let classes = self.lines.values().flat_map(|line| line.classes.values());
        classes.filter_map(|tasks| tasks.first()).map(|place| place.due).min()
    }
}

/// A class with the age of what waits in it: one class for each minute, never above critical.
fn urgency(class: Priority, due: SystemTime, now: SystemTime) -> u64 {
    let waited = now.duration_since(due).unwrap_or_default();
    (class as u64 + waited.as_secs() / AGING.as_secs()).min(Priority::Critical as u64)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use Priority::{Critical, High, Low, Normal};

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn ticket(priority: Priority, due: u64, sequence: u64) -> Ticket {
        Ticket { priority, due: at(due), sequence }
    }

    /// Pushes `tasks`, each for an agent of its own or all for one, and drains the queue at `now`;
    /// `want` names them in the order they come.
    #[track_caller]
    fn check(by_priority: bool, tasks: &[(&str, Priority, u64)], now: u64, want: &str) {
        for one_agent in [false, true] {
            let mut queue = Queue::new(by_priority);
            let only = AgentId::new();
            let mut known = Vec::new();
            for (sequence, (name, priority, due)) in (0..).zip(tasks) {
                let (id, ticket) = (TaskId::new(), ticket(*priority, *due, sequence));
                let agent = if one_agent { only } else { AgentId::new() };
                queue.push(agent, id, ticket, at(0));
                known.push((id, *name, ticket));
            }
            queue.ripen(at(now));
            let mut came = Vec::new();
            while let Some((agent, id)) = queue.first(at(now), false) {
                let (id, name, ticket) = known.iter().find(|(there, ..)| *there == id).unwrap();
                assert!(queue.position(agent, *id, *ticket).is_some());
                assert!(queue.remove(agent, *id, *ticket));
                came.push(*name);
            }
            assert_eq!(came.join(" "), want, "one agent: {one_agent}");
        }
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
    fn a_line_that_is_shut_keeps_its_places() {
        let mut queue = Queue::new(true);
        let (agent, other) = (AgentId::new(), AgentId::new());
        let [first, second, third] = [TaskId::new(), TaskId::new(), TaskId::new()];
        let [one, two, three] = [1, 2, 3].map(|sequence| ticket(Normal, 1, sequence));
        queue.push(agent, first, one, at(1));
        queue.shut(agent, "busy".to_owned());
        queue.push(other, second, two, at(1));
        queue.push(agent, third, three, at(1));
        assert_eq!(queue.first(at(1), false), Some((other, second)));
        assert_eq!((queue.shut_reason(agent), queue.shut_reason(other)), (Some("busy"), None));
        assert_eq!(queue.position(agent, first, one), None);
        assert_eq!(queue.counts(at(1)), [[(Normal, 3)].into(), [].into()]);
        assert!(queue.open(agent) && !queue.open(agent));
        assert_eq!(queue.first(at(1), false), Some((agent, first)));
        let positions = [(agent, first, one), (other, second, two), (agent, third, three)];
        let positions = positions.map(|(agent, id, ticket)| queue.position(agent, id, ticket));
        assert_eq!(positions, [Some(0), Some(1), Some(2)]);
        assert!(queue.remove(agent, first, one) && !queue.remove(agent, first, one));
        queue.shut(agent, "busy".to_owned());
        assert!(queue.remove(agent, third, three));
        // A line that has emptied is forgotten with its reason.
        assert_eq!((queue.len(), queue.shut_reason(agent)), (1, None));
    }
}
