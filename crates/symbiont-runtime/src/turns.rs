//! Whose turn it is: what is done about one agent is done in order.

use std::hash::{BuildHasher, RandomState};

use symbiont_types::AgentId;
use tokio::sync::{Mutex, MutexGuard};

/// Locks that agents share; two agents rarely meet in one.
const STRIPES: usize = 64;

/// A bounded number of locks, of which each agent always gets the same one. A turn is held while a
/// change is decided and recorded, so that changes are recorded in the order they were decided in;
/// nobody who holds one asks for another.
#[derive(Debug)]
pub(crate) struct Turns {
    hasher: RandomState,
    stripes: Vec<Mutex<()>>,
}

impl Default for Turns {
    fn default() -> Self {
        let stripes = (0..STRIPES).map(|_| Mutex::default()).collect();
        Self { hasher: RandomState::new(), stripes }
    }
}

impl Turns {
    /// The agent's turn, once it comes.
    pub(crate) async fn of(&self, agent_id: AgentId) -> MutexGuard<'_, ()> {
        self.stripe(agent_id).lock().await
    }

    fn stripe(&self, agent_id: AgentId) -> &Mutex<()> {
        #[expect(clippy::cast_possible_truncation, reason = "any part of a hash is one")]
        let hash = self.hasher.hash_one(agent_id) as usize;
        &self.stripes[hash % STRIPES]
    }
}
