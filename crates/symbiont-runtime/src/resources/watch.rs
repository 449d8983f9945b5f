//! Looking at what agents use, once in an interval, and seeing to what follows.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use symbiont_types::{
    AgentId, AgentState, AuditEventType, ResourceError, ResourceKind, ResourceThresholds,
    ResourceViolation, UsageSource, ViolationAction,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::history::{self, History};
use super::ladder::{self, Alert, Deed, Ongoing, Seen};
use super::ledger::{self, Amounts, Ledger};
use super::promises::never;
use super::reading::Reading;
use super::{Inner, failed};
use crate::clock::{Clock, FAR};
use crate::directory::Usage;
use crate::journal::{Change, Entry};

/// Agents that are remembered after their promise ended, so that ending it twice is fine.
const REMEMBERED: usize = 100_000;
/// Agents whose history is kept after their promise ended, and for how long.
const HISTORIES: usize = 64;
const KEPT: Duration = Duration::from_secs(60);

/// Everything that is promised, and what is known of those who hold promises.
#[derive(Debug)]
pub(super) struct Books {
    pub(super) ledger: Ledger,
    pub(super) watched: HashMap<AgentId, Watched>,
    /// Who had a promise once, the oldest first.
    pub(super) past: HashSet<AgentId>,
    past_order: VecDeque<AgentId>,
    /// Whose history goes next, and when.
    leaving: VecDeque<(Instant, AgentId)>,
    pub(super) sampled_at: Option<SystemTime>,
    pub(super) closed: bool,
}

/// What is known of an agent that has, or had, a promise.
#[derive(Debug, Default)]
pub(super) struct Watched {
    pub(super) history: History,
    /// What it had used at the last sample, which rates are computed since.
    last: Option<(Instant, Usage)>,
    pub(super) reading: Option<Reading>,
    pub(super) ongoing: Vec<Ongoing>,
    thresholds: Option<ResourceThresholds>,
    alerts: [Alert; 4],
}

impl Watched {
    pub(super) fn begin_grace(&mut self) {
        self.ongoing.clear();
    }

    pub(super) fn watch_for(&mut self, thresholds: ResourceThresholds) {
        self.thresholds = Some(thresholds);
        self.alerts = Default::default();
    }
}

impl Books {
    pub(super) fn new(ledger: Ledger) -> Self {
        let watched = ledger.iter().map(|(agent, _)| (*agent, Watched::default())).collect();
        Self {
            ledger,
            watched,
            past: HashSet::new(),
            past_order: VecDeque::new(),
            leaving: VecDeque::new(),
            sampled_at: None,
            closed: false,
        }
    }

    /// Remembers that the agent once had a promise; who is forgotten for that.
    pub(super) fn remember(&mut self, agent: AgentId) -> Option<AgentId> {
        if self.past.insert(agent) {
            self.past_order.push_back(agent);
        }
        if self.past_order.len() <= REMEMBERED {
            return None;
        }
        let oldest = self.past_order.pop_front()?;
        self.past.remove(&oldest);
        Some(oldest)
    }

    /// The agent's promise has ended. Its id is remembered, its history for a while. Who is
    /// forgotten for that.
    pub(super) fn forget_later(&mut self, agent: AgentId) -> Option<AgentId> {
        let forgotten = self.remember(agent);
        match self.watched.get_mut(&agent) {
            Some(watched) if !watched.history.is_empty() => {
                watched.begin_grace();
                self.leaving.push_back((Instant::now(), agent));
                self.forget_histories();
            }
            Some(_) => drop(self.watched.remove(&agent)),
            None => {}
        }
        forgotten
    }

    fn forget_histories(&mut self) {
        while let Some((since, agent)) = self.leaving.front().copied()
            && (self.leaving.len() > HISTORIES || since.elapsed() > KEPT)
        {
            self.leaving.pop_front();
            if self.ledger.get(agent).is_none() {
                self.watched.remove(&agent);
            }
        }
    }
}

/// Samples everyone once in an interval, for as long as there is someone.
pub(super) async fn watch(this: Weak<Inner>, stop: CancellationToken) {
    loop {
        let Some(inner) = this.upgrade() else { return };
        let anyone = {
            let mut books = inner.lock();
            books.forget_histories();
            books.ledger.len() > 0 || !books.leaving.is_empty()
        };
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
    /// What the agent uses now, and whether it is suspended. `None`: nobody runs it.
    async fn measure(&self, agent_id: AgentId) -> Result<Option<(Usage, bool)>, ResourceError> {
        let Some(port) = self.directory.agent(agent_id) else { return Ok(None) };
        let usage = port.usage(agent_id).await.map_err(failed)?;
        Ok(Some((usage, port.state(agent_id) == Some(AgentState::Suspended))))
    }

    /// What the agent uses now, with rates since the last sample. Changes nothing.
    pub(super) async fn read(&self, agent_id: AgentId) -> Result<Reading, ResourceError> {
        drop(self.open()?);
        if !self.is_known(agent_id) {
            return Err(never(agent_id));
        }
        let measured = self.measure(agent_id).await?;
        let now = Instant::now();
        let books = self.lock();
        let watched = books.watched.get(&agent_id);
        let last = watched.and_then(|watched| watched.last.as_ref());
        Ok(match measured {
            // Too soon for a rate: it is what it was.
            Some((usage, _)) => match (last, watched.and_then(|w| w.reading.as_ref())) {
                (Some((at, _)), Some(reading)) if now - *at < super::reading::SHORTEST => {
                    Reading { memory: usage.memory, uptime: usage.uptime, ..reading.clone() }
                }
                (last, _) => Reading::of_usage(last, now, &usage),
            },
            None => Reading::nothing(
                watched
                    .and_then(|w| w.reading.as_ref())
                    .map_or(Duration::ZERO, |reading| reading.uptime),
            ),
        })
    }

    async fn sample_all(&self) {
        let agents: Vec<AgentId> = self.lock().ledger.iter().map(|(agent, _)| *agent).collect();
        for agent in agents {
            if self.tasks.is_stopping() {
                return;
            }
            match self.measure(agent).await {
                Ok(measured) => {
                    let (notes, deeds) = self.observe(agent, measured);
                    self.see_to(notes, deeds);
                }
                Err(error) => tracing::warn!(agent_id = %agent, %error, "usage is not known"),
            }
        }
    }

    /// Takes a sample into the agent's history, and compares it with what was promised. What is to
    /// be put on record, and what is to be done.
    fn observe(
        &self,
        agent_id: AgentId,
        measured: Option<(Usage, bool)>,
    ) -> (Vec<Entry>, Vec<Deed>) {
        let (at, now) = (self.journal.now(), Instant::now());
        let mut books = self.lock();
        let Books { ledger, watched, sampled_at, .. } = &mut *books;
        let most = history::share(watched.len());
        let Some(there) = watched.get_mut(&agent_id) else { return Default::default() };
        let Some(limits) = ledger.get(agent_id).map(|promise| promise.limits.clone()) else {
            return Default::default();
        };
        *sampled_at = Some(at);
        let (reading, suspended) = match measured {
            Some((usage, suspended)) => {
                let reading = Reading::of_usage(there.last.as_ref(), now, &usage);
                there.last = Some((now, usage));
                there.history.push(at, &reading, &limits, most);
                (reading, suspended)
            }
            None => {
                let uptime = there.reading.as_ref().map_or(Duration::ZERO, |last| last.uptime);
                (Reading::nothing(uptime), false)
            }
        };
        let mut notes = Vec::new();
        if let Some(share) = ledger.follow(agent_id, amounts(&reading)) {
            notes.push(self.scaled(agent_id, share));
        }
        let seen = Seen {
            agent_id,
            reading: &reading,
            limits: &limits,
            now: at,
            enforcing: self.enforcing,
            suspended,
        };
        let deeds = ladder::judge(&mut there.ongoing, seen);
        if let Some(thresholds) = &there.thresholds {
            for (kind, threshold) in &thresholds.kinds {
                let Some(used) = reading.of(*kind) else { continue };
                let limit = ladder::limit(&limits, *kind);
                let news = there.alerts[*kind as usize].sample(
                    ladder::ratio(used, limit),
                    *threshold,
                    thresholds.consecutive_samples,
                    thresholds.cooldown,
                    now,
                );
                if let Some(level) = news {
                    notes.push(self.alert(agent_id, *kind, level, used, limit));
                }
            }
        }
        if reading.source != UsageSource::NothingRuns || there.reading.is_none() {
            there.reading = Some(reading);
        } else if let Some(last) = &mut there.reading {
            *last = Reading::nothing(last.uptime);
        }
        (notes, deeds)
    }

    /// Sees to it in the background: nobody else waits for an agent that resists.
    fn see_to(&self, notes: Vec<Entry>, deeds: Vec<Deed>) {
        if notes.is_empty() && deeds.is_empty() {
            return;
        }
        let Some(inner) = self.this.upgrade() else { return };
        self.tasks.spawn(async move {
            for entry in notes {
                inner.note(entry).await;
            }
            for deed in deeds {
                inner.do_it(deed).await;
            }
        });
    }

    async fn do_it(&self, deed: Deed) {
        let (violation, failure) = match deed {
            Deed::Note(violation) => (violation, None),
            Deed::Act(violation, action) => {
                let agent_id = violation.agent_id;
                let done = match self.directory.agent(agent_id) {
                    Some(port) => port
                        .control(agent_id, None, &action, &reason(&violation))
                        .await
                        .map_err(|error| error.to_string()),
                    None => Err("nobody runs the agent".to_owned()),
                };
                if let Some(watched) = self.lock().watched.get_mut(&agent_id)
                    && let Some(there) =
                        watched.ongoing.iter_mut().find(|o| o.violation.kind == violation.kind)
                {
                    there.asked = false;
                    // What could not be done is not reported as done.
                    there.violation.action = match &done {
                        Ok(()) => violation.action,
                        Err(_) => ViolationAction::Notified,
                    };
                }
                (violation, done.err())
            }
        };
        let entry = self
            .journal
            .event(AuditEventType::ErrorOccurred, "resources.violation")
            .agent(violation.agent_id)
            .details(reason(&violation))
            .with("resource", violation.kind)
            .with("action", format!("{:?}", violation.action))
            .with_some("failed", failure);
        self.note(entry).await;
    }

    fn scaled(&self, agent_id: AgentId, share: Amounts) -> Entry {
        self.journal
            .event(AuditEventType::ResourceAllocated, "resources.scaled")
            .agent(agent_id)
            .details(format!(
                "{} MiB and {} thousandths of a core are set aside",
                share.memory / ledger::MIB,
                share.cpu
            ))
    }

    fn alert(
        &self,
        agent_id: AgentId,
        kind: ResourceKind,
        level: &str,
        used: f64,
        limit: f64,
    ) -> Entry {
        let entry = self.journal.event(AuditEventType::ErrorOccurred, "resources.alert");
        entry
            .agent(agent_id)
            .details(format!("uses {used:.3} of {kind} where {limit:.3} were promised"))
            .with("resource", kind)
            .with("level", level)
    }

    async fn note(&self, entry: Entry) {
        if let Err(error) = self.journal.commit(Change::new().record(entry)).await {
            tracing::error!(%error, "a resource event could not be recorded");
        }
    }
}

fn reason(violation: &ResourceViolation) -> String {
    format!(
        "uses {:.3} of {} where {:.3} were promised",
        violation.used, violation.kind, violation.limit
    )
}

/// What is used of each kind, in the units of the ledger.
fn amounts(reading: &Reading) -> [Option<u64>; 4] {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "usage is never negative"
    )]
    let cpu = reading.cpu.map(|cores| (cores * 1000.0) as u64);
    [reading.memory, cpu, None, reading.network]
}
