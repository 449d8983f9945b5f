//! Breakers as they are kept: a row for each agent that has one that is not at rest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use symbiont_types::{AgentId, ErrorType};

use super::breaker::Breaker;
use crate::clock::{from_micros, micros};

/// What the keys of these rows begin with.
pub(crate) const PREFIX: &[u8] = b"breakers/";

/// The key of an agent's row.
pub(crate) fn key(agent_id: AgentId) -> Vec<u8> {
    [PREFIX, agent_id.as_uuid().as_bytes()].concat()
}

/// Whose row a key is.
pub(crate) fn agent_of(key: &[u8]) -> Option<AgentId> {
    let uuid = uuid::Uuid::from_slice(key.strip_prefix(PREFIX)?).ok()?;
    Some(uuid.into())
}

/// An agent's breakers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Breakers(Vec<(ErrorType, Stored)>);

/// Times in microseconds since 1970.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    failures: Vec<i64>,
    open_until: Option<i64>,
    probe_until: Option<i64>,
    opened: u32,
}

impl Breakers {
    /// Those of `breakers` that are not at rest, if there are any.
    pub(crate) fn of(breakers: &BTreeMap<ErrorType, Breaker>) -> Option<Self> {
        let stored: Vec<_> = breakers
            .iter()
            .filter(|(_, breaker)| **breaker != Breaker::default())
            .map(|(kind, breaker)| {
                let stored = Stored {
                    failures: breaker.failures.iter().copied().map(micros).collect(),
                    open_until: breaker.open_until.map(micros),
                    probe_until: breaker.probe_until.map(micros),
                    opened: breaker.opened,
                };
                (*kind, stored)
            })
            .collect();
        (!stored.is_empty()).then_some(Self(stored))
    }

    pub(crate) fn into_breakers(self) -> BTreeMap<ErrorType, Breaker> {
        let breaker = |stored: Stored| Breaker {
            failures: stored.failures.into_iter().map(from_micros).collect(),
            open_until: stored.open_until.map(from_micros),
            probe_until: stored.probe_until.map(from_micros),
            opened: stored.opened,
        };
        self.0.into_iter().map(|(kind, stored)| (kind, breaker(stored))).collect()
    }
}
