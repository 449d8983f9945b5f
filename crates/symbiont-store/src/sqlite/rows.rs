//! How the log and its end are read from rows.

use std::collections::BTreeMap;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row};
use uuid::Uuid;

use crate::log::End;
use crate::matcher::Matcher;
use crate::sqlite::failure;
use crate::{Hash, Head, Record, RecordQuery, StoreError, StoredRecord};

/// The columns of a record, in the order in which [`read_record`] takes them.
const COLUMNS: &str = "sequence, id, ingested_at, at, event_type, kind, agent_id, actor, \
                       correlation, details, metadata, prev_hash, leaf_hash";

/// Most values in a list for SQLite to look through; longer lists are left to the [`Matcher`].
const MOST_LISTED: usize = 256;

/// The row of the store's state.
#[derive(Debug, Clone, Copy)]
pub(super) struct State {
    pub(super) end: End,
    pub(super) epoch: u64,
}

pub(super) fn read_state(connection: &Connection) -> Result<State, StoreError> {
    let damaged = || StoreError::Corrupted {
        reason: "the row for the end of the log does not make sense".to_owned(),
    };
    let mut statement = connection
        .prepare_cached("SELECT sequence, hash, ingested_at, epoch FROM store_state WHERE id = 1")
        .map_err(|error| failure("read the end of the log", &error))?;
    let row: Option<(i64, Vec<u8>, i64, i64)> = statement
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .optional()
        .map_err(|error| failure("read the end of the log", &error))?;
    let (sequence, hash, ingested_at, epoch) = row.ok_or_else(damaged)?;
    let sequence = u64::try_from(sequence).map_err(|_negative| damaged())?;
    let epoch = u64::try_from(epoch).map_err(|_negative| damaged())?;
    let hash = Hash::try_from(hash).map_err(|_other_length| damaged())?;
    Ok(State { end: End { head: Head { sequence, hash }, ingested_at }, epoch })
}

/// The number of the last record that is there, whatever the state says.
pub(super) fn last_sequence(connection: &Connection) -> Result<Option<i64>, StoreError> {
    connection
        .query_row("SELECT max(sequence) FROM audit_events", [], |row| row.get(0))
        .map_err(|error| failure("read the end of the log", &error))
}

pub(super) fn record(
    connection: &Connection,
    id: Uuid,
) -> Result<Option<StoredRecord>, StoreError> {
    let context = "read a record by its id";
    let sql = format!("SELECT {COLUMNS} FROM audit_events WHERE id = ?1");
    let mut statement =
        connection.prepare_cached(&sql).map_err(|error| failure(context, &error))?;
    let mut rows = statement.query([id.to_string()]).map_err(|error| failure(context, &error))?;
    match rows.next().map_err(|error| failure(context, &error))? {
        Some(row) => Ok(Some(read_record(row)?)),
        None => Ok(None),
    }
}

pub(super) fn records(
    connection: &Connection,
    query: &RecordQuery,
) -> Result<Vec<StoredRecord>, StoreError> {
    let failed = |error: rusqlite::Error| failure("read records", &error);
    let narrowing = Narrowing::of(query);
    let matcher = Matcher::new(query);
    let mut statement = connection.prepare(&narrowing.sql).map_err(failed)?;
    let mut rows = statement.query(rusqlite::params_from_iter(narrowing.values)).map_err(failed)?;
    let mut found = Vec::new();
    while found.len() < query.limit
        && let Some(row) = rows.next().map_err(failed)?
    {
        let stored = read_record(row)?;
        if matcher.matches(&stored) {
            found.push(stored);
        }
    }
    Ok(found)
}

/// The part of a query that SQLite does with its indexes. It may let through what the query does not
/// ask for, and never keeps back what it asks for: the [`Matcher`] decides.
struct Narrowing {
    sql: String,
    values: Vec<Value>,
}

impl Narrowing {
    fn of(query: &RecordQuery) -> Self {
        let mut conditions: Vec<String> = Vec::new();
        let mut values: Vec<Value> = Vec::new();
        let clamp = |sequence: u64| i64::try_from(sequence).unwrap_or(i64::MAX);
        let mut compare = |condition: &str, value: Option<Value>| {
            if let Some(value) = value {
                conditions.push(condition.to_owned());
                values.push(value);
            }
        };
        compare("sequence >= ?", query.first_sequence.map(|first| clamp(first).into()));
        compare("sequence <= ?", query.last_sequence.map(|last| clamp(last).into()));
        compare("at >= ?", query.from.map(Value::from));
        compare("at < ?", query.to.map(Value::from));
        compare("actor = ?", query.actor.clone().map(Value::from));

        let fits = |length: usize| (1..=MOST_LISTED).contains(&length);
        // Everything that SQLite can decide is decided, so that it can apply the limit.
        let is_complete = query.correlation.is_none()
            && query.text.is_none()
            && query.metadata.is_empty()
            && [query.event_types.len(), query.agent_ids.len(), query.kinds.len()]
                .iter()
                .all(|length| *length <= MOST_LISTED);
        if fits(query.event_types.len()) {
            conditions.push(format!("event_type IN ({})", marks(query.event_types.len())));
            values.extend(query.event_types.iter().cloned().map(Value::from));
        }
        if fits(query.agent_ids.len()) {
            conditions.push(format!("agent_id IN ({})", marks(query.agent_ids.len())));
            values.extend(query.agent_ids.iter().map(|agent| Value::from(agent.to_string())));
        }
        if fits(query.kinds.len()) && !query.kinds.iter().any(|pattern| pattern == "*") {
            let mut kinds = Vec::new();
            for pattern in &query.kinds {
                match pattern.strip_suffix('*') {
                    None => {
                        kinds.push("kind = ?");
                        values.push(pattern.clone().into());
                    }
                    Some(prefix) => match text_after(prefix) {
                        Some(end) => {
                            kinds.push("(kind >= ? AND kind < ?)");
                            values.extend([prefix.to_owned().into(), end.into()]);
                        }
                        None => {
                            kinds.push("kind >= ?");
                            values.push(prefix.to_owned().into());
                        }
                    },
                }
            }
            conditions.push(format!("({})", kinds.join(" OR ")));
        }
        let order = if query.oldest_first { "ASC" } else { "DESC" };
        let mut sql = format!("SELECT {COLUMNS} FROM audit_events");
        if !conditions.is_empty() {
            // Numbers are found and sorted first, as SQLite would otherwise sort whole records.
            let conditions = conditions.join(" AND ");
            sql.push_str(&format!(
                " WHERE sequence IN (SELECT sequence FROM audit_events WHERE {conditions}"
            ));
            if is_complete {
                sql.push_str(&format!(" ORDER BY sequence {order} LIMIT ?"));
                values.push(i64::try_from(query.limit).unwrap_or(i64::MAX).into());
            }
            sql.push(')');
        }
        sql.push_str(&format!(" ORDER BY sequence {order}"));
        Self { sql, values }
    }
}

fn marks(count: usize) -> String {
    vec!["?"; count].join(", ")
}

/// The first text, in the order of bytes, after all that begin with `prefix`; there is none after
/// those that begin with nothing but the last character.
fn text_after(prefix: &str) -> Option<String> {
    let mut characters: Vec<char> = prefix.chars().collect();
    while let Some(last) = characters.pop() {
        if let Some(next) = (last..=char::MAX).nth(1) {
            characters.push(next);
            return Some(characters.into_iter().collect());
        }
    }
    None
}

/// A record from a row of [`COLUMNS`].
fn read_record(row: &Row<'_>) -> Result<StoredRecord, StoreError> {
    let number: i64 = row.get(0).map_err(|error| failure("read a record", &error))?;
    let damaged = |column: &str| StoreError::Corrupted {
        reason: format!("record {number} has no sensible `{column}`"),
    };
    let text = |index: usize, column: &str| {
        row.get_ref(index)
            .ok()
            .and_then(|value| value.as_str().ok().map(str::to_owned))
            .ok_or_else(|| damaged(column))
    };
    let integer = |index: usize, column: &str| row.get(index).map_err(|_other| damaged(column));
    let hash = |index: usize, column: &str| {
        row.get_ref(index)
            .ok()
            .and_then(|value| Hash::try_from(value.as_blob().ok()?).ok())
            .ok_or_else(|| damaged(column))
    };
    let id = |value: &str, column: &str| Uuid::try_parse(value).map_err(|_other| damaged(column));
    let agent: Option<String> = row.get(6).map_err(|_other| damaged("agent_id"))?;
    let metadata: BTreeMap<String, String> =
        serde_json::from_str(&text(10, "metadata")?).map_err(|_other| damaged("metadata"))?;
    Ok(StoredRecord {
        sequence: u64::try_from(number).map_err(|_negative| damaged("sequence"))?,
        ingested_at: integer(2, "ingested_at")?,
        prev_hash: hash(11, "prev_hash")?,
        leaf_hash: hash(12, "leaf_hash")?,
        record: Record {
            id: id(&text(1, "id")?, "id")?,
            at: integer(3, "at")?,
            event_type: text(4, "event_type")?,
            kind: text(5, "kind")?,
            agent_id: agent.map(|agent| id(&agent, "agent_id")).transpose()?,
            actor: text(7, "actor")?,
            correlation: text(8, "correlation")?,
            details: text(9, "details")?,
            metadata,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_after_a_prefix_skips_what_is_no_character() {
        let cases = [
            ("", None),
            ("a", Some("b")),
            ("az", Some("a{")),
            ("\u{d7ff}", Some("\u{e000}")),
            ("a\u{10ffff}", Some("b")),
            ("\u{10ffff}\u{10ffff}", None),
        ];
        for (prefix, expected) in cases {
            assert_eq!(text_after(prefix).as_deref(), expected, "{prefix:?}");
        }
    }
}
