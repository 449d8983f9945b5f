//! Questions to the trail, and its records as events.

use std::collections::{BTreeMap, HashMap};

use symbiont_store::{Record, RecordQuery};
use symbiont_types::{AuditError, AuditEvent, AuditEventType, AuditOrder, AuditQuery};

use crate::clock::{from_micros, micros};

/// What a query gets unless it says otherwise.
const LIMIT: usize = 1_000;
/// The most that a query may ask for.
const MOST: usize = 100_000;

/// The store's question for a caller's query.
pub(crate) fn checked(query: &AuditQuery) -> Result<RecordQuery, AuditError> {
    let invalid = |reason: &str| Err(AuditError::InvalidQuery { reason: reason.to_owned() });
    let limit = query.limit.unwrap_or(LIMIT);
    if limit > MOST {
        return invalid("the limit is above 100,000: ask for ranges of sequence numbers");
    }
    if let (Some(from), Some(to)) = (query.from, query.to)
        && to < from
    {
        return invalid("the range of time ends before it begins");
    }
    if let (Some(first), Some(last)) = (query.first_sequence, query.last_sequence)
        && last < first
    {
        return invalid("the range of sequence numbers ends before it begins");
    }
    if query.kinds.iter().any(|kind| kind.trim_end_matches('*').contains('*')) {
        return invalid("a `*` in a kind may only stand at its end");
    }
    Ok(RecordQuery {
        first_sequence: query.first_sequence,
        last_sequence: query.last_sequence,
        from: query.from.map(micros),
        to: query.to.map(micros),
        event_types: query.event_types.iter().map(|t| format!("{t:?}")).collect(),
        kinds: query.kinds.clone(),
        agent_ids: query.agent_ids.iter().map(|id| (*id).into()).collect(),
        actor: query.actor.clone(),
        correlation: query.correlation.clone(),
        text: query.text.clone(),
        metadata: query
            .metadata
            .iter()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect::<BTreeMap<_, _>>(),
        oldest_first: query.order == AuditOrder::OldestFirst,
        limit,
    })
}

/// The event that a record tells of.
pub(crate) fn event(record: &Record) -> AuditEvent {
    AuditEvent {
        id: record.id.into(),
        timestamp: from_micros(record.at),
        event_type: event_type(&record.event_type),
        agent_id: record.agent_id.map(Into::into),
        details: record.details.clone(),
        metadata: record
            .metadata
            .iter()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect::<HashMap<_, _>>(),
    }
}

/// The type of this name. A name that no version ever wrote is someone's tampering, which is a
/// security event; verification reports the record itself.
fn event_type(name: &str) -> AuditEventType {
    AuditEventType::ALL
        .into_iter()
        .find(|t| format!("{t:?}") == name)
        .unwrap_or(AuditEventType::SecurityEvent)
}
