//! All agents of a controller: who there is, and who may be added.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use symbiont_types::{AgentConfig, AgentId, AgentInstance, AgentState, LifecycleError};
use tokio::sync::watch;
use tokio::time::Instant;

use super::stored;
use crate::clock::from_micros;
use crate::directory::Errand;
use crate::run::{ActiveRun, Definition, Input, RunReport, SandboxSeat};

/// Records of terminated agents stay for a day, and so many of them.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
const MOST_REMEMBERED: usize = 100_000;

/// One agent.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) id: AgentId,
    /// One change at a time.
    pub(crate) turn: tokio::sync::Mutex<()>,
    cell: Mutex<Cell>,
    pub(crate) seat: Arc<SandboxSeat>,
    /// Counts changes, for who waits for one.
    pub(crate) changes: watch::Sender<u64>,
}

/// What is known of an agent: its record, which is kept, and what lasts as long as the process.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) record: stored::Agent,
    pub(crate) config: Arc<AgentConfig>,
    /// The config that the next initialization takes, if it is another one.
    pub(crate) next_config: Option<Arc<AgentConfig>>,
    /// Gone while the agent is parked; read again when it is needed.
    pub(crate) definition: Option<Arc<Definition>>,
    pub(crate) run: Option<ActiveRun>,
    /// What the run that is under way is done for, if it is not the agent's own affair.
    pub(crate) errand: Option<Arc<dyn Errand>>,
    /// The run that is under way is the agent's `on stop`.
    pub(crate) parting: bool,
    /// What the run that is under way waits for.
    pub(crate) blocked_on: Option<String>,
    /// The agent that the run that is under way has asked to work for it.
    pub(crate) relies_on: Option<AgentId>,
    /// What the last start was given, for a restart.
    pub(crate) start_input: Input,
    pub(crate) last_run: Option<Arc<RunReport>>,
    /// Automatic restarts of the last while.
    pub(crate) restarts: VecDeque<SystemTime>,
    pub(crate) stable_since: Instant,
    pub(crate) resting_since: Instant,
    /// Evaluation by runs that have ended.
    pub(crate) cpu_nanos: u64,
}

impl Member {
    pub(crate) fn new(config: AgentConfig, record: stored::Agent) -> Arc<Self> {
        Arc::new(Self {
            id: config.id,
            turn: tokio::sync::Mutex::new(()),
            cell: Mutex::new(Cell {
                record,
                config: Arc::new(config),
                next_config: None,
                definition: None,
                run: None,
                errand: None,
                parting: false,
                blocked_on: None,
                relies_on: None,
                start_input: Input::None,
                last_run: None,
                restarts: VecDeque::new(),
                stable_since: Instant::now(),
                resting_since: Instant::now(),
                cpu_nanos: 0,
            }),
            seat: Arc::default(),
            changes: watch::Sender::new(0),
        })
    }

    pub(crate) fn cell(&self) -> MutexGuard<'_, Cell> {
        self.cell.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state(&self) -> AgentState {
        self.cell().record.state
    }

    pub(crate) fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    pub(crate) fn instance(&self) -> AgentInstance {
        let cell = self.cell();
        AgentInstance {
            id: self.id,
            config: AgentConfig::clone(&cell.config),
            state: cell.record.state,
            created_at: from_micros(cell.record.created_at),
            last_updated: from_micros(cell.record.updated_at),
            execution_count: cell.record.execution_count,
            error_count: cell.record.error_count,
            restart_count: cell.record.restart_count,
        }
    }
}

/// Everyone. Its lock comes before any member's cell; nobody asks it anything while holding a cell.
#[derive(Debug)]
pub(crate) struct Fleet {
    max_agents: usize,
    members: Mutex<Members>,
}

#[derive(Debug, Default)]
struct Members {
    by_id: HashMap<AgentId, Arc<Member>>,
    /// The living agents of each name; ids sort by age.
    by_name: HashMap<String, BTreeSet<AgentId>>,
    /// Those who are not terminated.
    living: usize,
    terminated: VecDeque<(SystemTime, AgentId)>,
    closed: bool,
}

impl Fleet {
    pub(crate) fn new(max_agents: usize) -> Self {
        Self { max_agents, members: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an agent if its id is free and there is room: one step, whoever else asks.
    pub(crate) fn add(&self, member: Arc<Member>) -> Result<(), LifecycleError> {
        let invalid = |reason: String| Err(LifecycleError::ConfigurationInvalid { reason });
        let mut members = self.lock();
        if members.closed {
            return invalid("the lifecycle controller is shutting down".to_owned());
        }
        if members.by_id.contains_key(&member.id) {
            return invalid(format!("an agent with the id `{}` exists already", member.id));
        }
        if members.living >= self.max_agents {
            return invalid(format!(
                "there are {} agents, which is the most: terminate some, or raise max_agents",
                self.max_agents
            ));
        }
        members.living += 1;
        let name = member.cell().config.name.clone();
        members.by_name.entry(name).or_default().insert(member.id);
        members.by_id.insert(member.id, member);
        Ok(())
    }

    /// Takes in an agent that was kept.
    pub(crate) fn restore(&self, member: Arc<Member>) {
        let mut members = self.lock();
        let (state, name, at) = {
            let cell = member.cell();
            (cell.record.state, cell.config.name.clone(), from_micros(cell.record.updated_at))
        };
        if state == AgentState::Terminated {
            members.terminated.push_back((at, member.id));
        } else {
            members.living += 1;
            members.by_name.entry(name).or_default().insert(member.id);
        }
        members.by_id.insert(member.id, member);
    }

    /// Takes back an agent whose creation could not be recorded.
    pub(crate) fn undo(&self, id: AgentId) {
        let mut members = self.lock();
        if let Some(member) = members.by_id.remove(&id) {
            members.living -= 1;
            let name = member.cell().config.name.clone();
            members.drop_name(&name, id);
        }
    }

    pub(crate) fn get(&self, id: AgentId) -> Result<Arc<Member>, LifecycleError> {
        let members = self.lock();
        members.by_id.get(&id).cloned().ok_or(LifecycleError::AgentNotFound { agent_id: id })
    }

    pub(crate) fn find(&self, id: AgentId) -> Option<Arc<Member>> {
        self.lock().by_id.get(&id).cloned()
    }

    /// The oldest living agent of this name.
    pub(crate) fn named(&self, name: &str) -> Option<AgentId> {
        self.lock().by_name.get(name)?.first().copied()
    }

    /// A living agent goes by another name from now on.
    pub(crate) fn rename(&self, id: AgentId, from: &str, to: &str) {
        let mut members = self.lock();
        members.drop_name(from, id);
        members.by_name.entry(to.to_owned()).or_default().insert(id);
    }

    pub(crate) fn all(&self) -> Vec<Arc<Member>> {
        let mut all: Vec<Arc<Member>> = self.lock().by_id.values().cloned().collect();
        all.sort_unstable_by_key(|member| member.id);
        all
    }

    /// Makes room: the agent has terminated. Those that ended long ago come back, forgotten.
    pub(crate) fn terminated(&self, id: AgentId, now: SystemTime) -> Vec<AgentId> {
        let mut members = self.lock();
        members.living -= 1;
        members.terminated.push_back((now, id));
        let name = members.by_id.get(&id).map(|member| member.cell().config.name.clone());
        if let Some(name) = name {
            members.drop_name(&name, id);
        }
        members.forget_old(now)
    }

    pub(crate) fn forget_old(&self, now: SystemTime) -> Vec<AgentId> {
        self.lock().forget_old(now)
    }

    pub(crate) fn counts(&self) -> BTreeMap<AgentState, usize> {
        let members: Vec<Arc<Member>> = self.lock().by_id.values().cloned().collect();
        let mut counts = BTreeMap::new();
        for member in members {
            *counts.entry(member.state()).or_default() += 1;
        }
        counts
    }

    pub(crate) fn close(&self) -> bool {
        std::mem::replace(&mut self.lock().closed, true)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }
}

impl Members {
    fn drop_name(&mut self, name: &str, id: AgentId) {
        if let Some(ids) = self.by_name.get_mut(name) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_name.remove(name);
            }
        }
    }

    fn forget_old(&mut self, now: SystemTime) -> Vec<AgentId> {
        let mut forgotten = Vec::new();
        while let Some(&(at, id)) = self.terminated.front()
            && (self.terminated.len() > MOST_REMEMBERED
                || now.duration_since(at).unwrap_or_default() > REMEMBERED)
        {
            self.terminated.pop_front();
            self.by_id.remove(&id);
            forgotten.push(id);
        }
        forgotten
    }
}
