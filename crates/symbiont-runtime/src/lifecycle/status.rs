//! How the controller is.

use std::sync::PoisonError;

use symbiont_types::{AuditHead, Phase, StorageStatus, SystemStatus};

use super::Inner;

impl Inner {
    pub(super) async fn status(&self) -> SystemStatus {
        let counts = self.fleet.counts();
        let stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (mut active, mut waiting) = (0, 0);
        for member in self.fleet.all() {
            let cell = member.cell();
            match (&cell.run, &cell.blocked_on) {
                (Some(_), None) => active += 1,
                (Some(_), Some(_)) => waiting += 1,
                (None, _) => {}
            }
        }
        let store = self.journal.store().status().await;
        let well = stuck.is_empty() && store.is_ok();
        let phase = match (self.fleet.is_closed(), self.tasks.is_done(), well) {
            (true, true, _) => Phase::Stopped,
            (true, false, _) => Phase::Draining,
            (false, _, false) => Phase::Degraded,
            (false, _, true) => Phase::Running,
        };
        let mut warnings: Vec<String> = stuck
            .into_iter()
            .map(|(id, why)| format!("agent `{id}` can't be ended: {why}"))
            .collect();
        let (storage, head) = match store {
            Ok(store) => (
                StorageStatus {
                    backend: store.backend.to_owned(),
                    size: store.size,
                    fsync_p99: store.commit_p99,
                },
                store.head.sequence,
            ),
            Err(error) => {
                warnings.push(format!("the store does not answer: {error}"));
                (StorageStatus::default(), 0)
            }
        };
        let resources = match &self.resources {
            Some(resources) => Some(resources.get_system_resources().await),
            None => None,
        };
        let tiers = match &self.sandbox {
            Some(sandbox) => sandbox.tiers().await,
            None => Vec::new(),
        };
        SystemStatus {
            node_id: format!("{}-{}", host_name(), std::process::id()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            build: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
            profile: self.profile.to_owned(),
            started_at: self.started_at,
            uptime: self.began.elapsed(),
            phase,
            agents_total: counts.values().sum(),
            agents_by_state: counts,
            agents_capacity: self.settings.max_agents,
            runs_active: active,
            runs_waiting: waiting,
            tasks_pending: None,
            tasks_running: None,
            messages_pending: None,
            messages_dead: None,
            resources,
            breakers_open: None,
            approvals_pending: 0,
            policy_digest: Some(self.policy.digest()),
            audit_head: AuditHead { sequence: head, checkpoint_age: None, last_verified: None },
            storage,
            tiers,
            components: Vec::new(),
            warnings,
        }
    }
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}
