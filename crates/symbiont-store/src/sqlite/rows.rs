//! How the log and its end are read from rows.
//!
//! # What holds
//!
//! - A row is a record only if its text is the text that the store would write for it: a hash covers
//!   what a text says, and one content must not have two forms of which an index knows only one.
//! - Only the numbers from 1 to the end of the log are records, whatever else lies in the table.

use std::collections::BTreeMap;
use std::io;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row};
use uuid::Uuid;

use crate::log::End;
use crate::matcher::Matcher;
use crate::sqlite::{failure, format};
use crate::{
    Hash, Head, LogPage, LogRow, Micros, Record, RecordQuery, StoreError, StoredRecord, rules,
};

/// The columns of a record, in the order in which [`read_record`] takes them.
const COLUMNS: &str = "sequence, id, ingested_at, at, event_type, kind, agent_id, actor, \
                       correlation, details, metadata, prev_hash, leaf_hash";

/// A page of the log has no further row when its rows have so many bytes.
const ENOUGH_BYTES: usize = 8 << 20;

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

/// The last row that is there, whatever the state says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LastRow {
    pub(super) number: i64,
    /// Its hash and when it was taken in, if they can be read.
    pub(super) content: Option<(Hash, Micros)>,
}

pub(super) fn last_row(connection: &Connection) -> Result<Option<LastRow>, StoreError> {
    let sql = "SELECT sequence, leaf_hash, ingested_at FROM audit_events
               ORDER BY sequence DESC LIMIT 1";
    connection
        .query_row(sql, [], |row| {
            let hash = row.get_ref(1)?.as_blob().ok().and_then(|hash| Hash::try_from(hash).ok());
            Ok(LastRow { number: row.get(0)?, content: hash.zip(row.get(2).ok()) })
        })
        .optional()
        .map_err(|error| failure("read the end of the log", &error))
}

pub(super) fn record(
    connection: &Connection,
    id: Uuid,
) -> Result<Option<StoredRecord>, StoreError> {
    let context = "read a record by its id";
    let last = last_record(connection)?;
    let sql =
        format!("SELECT {COLUMNS} FROM audit_events WHERE id = ?1 AND sequence BETWEEN 1 AND ?2");
    let mut statement =
        connection.prepare_cached(&sql).map_err(|error| failure(context, &error))?;
    let mut rows =
        statement.query((id.to_string(), last)).map_err(|error| failure(context, &error))?;
    match rows.next().map_err(|error| failure(context, &error))? {
        Some(row) => Ok(Some(read_record(row)?)),
        None => Ok(None),
    }
}

/// The number of the last record by the end of the log: what lies beyond is none.
fn last_record(connection: &Connection) -> Result<i64, StoreError> {
    let last = read_state(connection)?.end.head.sequence;
    Ok(i64::try_from(last).unwrap_or(i64::MAX))
}

pub(super) fn log(connection: &Connection, from: i64, limit: usize) -> Result<LogPage, StoreError> {
    let failed = |error: rusqlite::Error| failure("read the log", &error);
    // One moment for the rows and for where they end.
    let transaction = connection.unchecked_transaction().map_err(failed)?;
    // The file may have been changed since it was opened.
    format::check_layout(&transaction)?;
    let end = read_state(&transaction)?.end;
    let mut found = Vec::new();
    {
        let sql = format!(
            "SELECT {COLUMNS} FROM audit_events WHERE sequence >= ?1 ORDER BY sequence LIMIT ?2"
        );
        let mut statement = transaction.prepare_cached(&sql).map_err(failed)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut rows = statement.query((from, limit)).map_err(failed)?;
        let mut size = 0;
        while size < ENOUGH_BYTES
            && let Some(row) = rows.next().map_err(failed)?
        {
            let number = number(row)?;
            let record = parse_record(row, number);
            size += record.as_ref().map_or(0, |stored| rules::record_size(&stored.record));
            found.push(LogRow { number, record });
        }
    }
    transaction.commit().map_err(failed)?;
    Ok(LogPage {
        gone: Head::default(),
        head: end.head,
        head_ingested_at: end.ingested_at,
        rows: found,
    })
}

/// Most faults that are looked for.
const MOST_FAULTS: u32 = 100;

pub(super) fn faults(connection: &Connection) -> Result<Vec<String>, StoreError> {
    let failed = |error: rusqlite::Error| failure("check the indexes of the log", &error);
    let mut found = Vec::new();
    for table in ["audit_events", "store_state"] {
        let sql = format!("SELECT * FROM pragma_integrity_check('{table}') LIMIT {MOST_FAULTS}");
        let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
        let said = statement.query_map([], |row| row.get::<_, String>(0)).map_err(failed)?;
        found.extend(said.collect::<rusqlite::Result<Vec<_>>>().map_err(failed)?);
    }
    found.retain(|said| said != "ok");
    Ok(found)
}

pub(super) fn rows(
    connection: &Connection,
    query: &RecordQuery,
) -> Result<Vec<LogRow>, StoreError> {
    let failed = |error: rusqlite::Error| failure("read records", &error);
    let narrowing = Narrowing::of(query, last_record(connection)?);
    let matcher = Matcher::new(query);
    let mut statement = connection.prepare_cached(&narrowing.sql).map_err(failed)?;
    let mut rows = statement.query(rusqlite::params_from_iter(narrowing.values)).map_err(failed)?;
    let mut found = Vec::new();
    while found.len() < query.limit
        && let Some(row) = rows.next().map_err(failed)?
    {
        let number = number(row)?;
        let record = parse_record(row, number);
        // What can't be read may be what is asked for.
        if record.as_ref().map_or(true, |stored| matcher.matches(stored)) {
            found.push(LogRow { number, record });
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
    /// `last` is the number of the last record.
    fn of(query: &RecordQuery, last: i64) -> Self {
        let clamp = |sequence: u64| i64::try_from(sequence).unwrap_or(i64::MAX);
        let first = query.first_sequence.map_or(1, clamp).max(1);
        let last = query.last_sequence.map_or(last, clamp).min(last);
        let mut conditions = vec!["sequence BETWEEN ? AND ?".to_owned()];
        let mut values: Vec<Value> = vec![first.into(), last.into()];
        let in_order = conditions.len();
        let mut compare = |condition: &str, value: Option<Value>| {
            if let Some(value) = value {
                conditions.push(condition.to_owned());
                values.push(value);
            }
        };
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
        let is_range = conditions.len() == in_order;
        let conditions = conditions.join(" AND ");
        let limit = if is_complete {
            values.push(i64::try_from(query.limit).unwrap_or(i64::MAX).into());
            " LIMIT ?"
        } else {
            ""
        };
        let sql = if is_range {
            // The table is in this order already.
            format!(
                "SELECT {COLUMNS} FROM audit_events WHERE {conditions} \
                 ORDER BY sequence {order}{limit}"
            )
        } else {
            // Numbers are found and sorted first, as SQLite would otherwise sort whole records.
            let limited = if is_complete {
                format!(" ORDER BY sequence {order}{limit}")
            } else {
                String::new()
            };
            format!(
                "SELECT {COLUMNS} FROM audit_events WHERE sequence IN \
                 (SELECT sequence FROM audit_events WHERE {conditions}{limited}) \
                 ORDER BY sequence {order}"
            )
        };
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

/// The number of a row of [`COLUMNS`].
fn number(row: &Row<'_>) -> Result<i64, StoreError> {
    row.get(0).map_err(|error| StoreError::Corrupted {
        reason: format!("a row of the log has no number: {error}"),
    })
}

/// A record from a row of [`COLUMNS`].
fn read_record(row: &Row<'_>) -> Result<StoredRecord, StoreError> {
    let number = number(row)?;
    parse_record(row, number).map_err(|reason| StoreError::DamagedRecord {
        sequence: u64::try_from(number).unwrap_or(0),
        reason,
    })
}

/// The record in a row of [`COLUMNS`] with that number, or why it is none.
fn parse_record(row: &Row<'_>, number: i64) -> Result<StoredRecord, String> {
    let damaged = |column: &str| format!("it has no sensible `{column}`");
    let text = |index: usize, column: &str| {
        row.get_ref(index).ok().and_then(|value| value.as_str().ok()).ok_or_else(|| damaged(column))
    };
    let owned = |index: usize, column: &str| text(index, column).map(str::to_owned);
    let integer = |index: usize, column: &str| row.get(index).map_err(|_other| damaged(column));
    let hash = |index: usize, column: &str| {
        row.get_ref(index)
            .ok()
            .and_then(|value| Hash::try_from(value.as_blob().ok()?).ok())
            .ok_or_else(|| damaged(column))
    };
    let agent = match row.get_ref(6) {
        Ok(rusqlite::types::ValueRef::Null) => None,
        Ok(_) | Err(_) => {
            let agent = canonical_id(text(6, "agent_id")?);
            Some(agent.ok_or_else(|| damaged("agent_id"))?)
        }
    };
    Ok(StoredRecord {
        sequence: u64::try_from(number).map_err(|_negative| damaged("sequence"))?,
        ingested_at: integer(2, "ingested_at")?,
        prev_hash: hash(11, "prev_hash")?,
        leaf_hash: hash(12, "leaf_hash")?,
        record: Record {
            id: canonical_id(text(1, "id")?).ok_or_else(|| damaged("id"))?,
            at: integer(3, "at")?,
            event_type: owned(4, "event_type")?,
            kind: owned(5, "kind")?,
            agent_id: agent,
            actor: owned(7, "actor")?,
            correlation: owned(8, "correlation")?,
            details: owned(9, "details")?,
            metadata: canonical_metadata(text(10, "metadata")?)
                .ok_or_else(|| damaged("metadata"))?,
        },
    })
}

/// The id that `text` is written for, if it is written as the store does.
fn canonical_id(text: &str) -> Option<Uuid> {
    let id = Uuid::try_parse(text).ok()?;
    (*id.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == *text).then_some(id)
}

/// The metadata that `text` is written for, if it is written as the store does: an object may name a
/// key twice, and then says two things.
fn canonical_metadata(text: &str) -> Option<BTreeMap<String, String>> {
    let metadata = serde_json::from_str(text).ok()?;
    let mut rest = Rest(text.as_bytes());
    serde_json::to_writer(&mut rest, &metadata).ok()?;
    rest.0.is_empty().then_some(metadata)
}

/// What is left of a text of which everything written must be the beginning.
struct Rest<'text>(&'text [u8]);

impl io::Write for Rest<'_> {
    fn write(&mut self, written: &[u8]) -> io::Result<usize> {
        self.0 = self.0.strip_prefix(written).ok_or(io::ErrorKind::InvalidData)?;
        Ok(written.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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

    #[test]
    fn one_content_has_one_text() {
        let ids = [
            ("0192aaaa-0000-7000-8000-00000000abcd", true),
            ("0192AAAA-0000-7000-8000-00000000ABCD", false),
            ("0192aaaa000070008000000000000000abcd", false),
            ("0192aaaa00007000800000000000abcd", false),
            ("{0192aaaa-0000-7000-8000-00000000abcd}", false),
            ("urn:uuid:0192aaaa-0000-7000-8000-00000000abcd", false),
            ("", false),
        ];
        for (text, accepted) in ids {
            assert_eq!(canonical_id(text).is_some(), accepted, "{text}");
        }
        let metadata = [
            (r"{}", true),
            (r#"{"a":"1","b":"\n\u0001\"ö"}"#, true),
            (r#"{"a":"forged","a":"1"}"#, false),
            (r#"{"b":"2","a":"1"}"#, false),
            (r#"{"a": "1"}"#, false),
            (r#"{"a":"1"} "#, false),
            (r#"{"\u0061":"1"}"#, false),
            (r#"{"a":1}"#, false),
            (r"[]", false),
            ("", false),
        ];
        for (text, accepted) in metadata {
            assert_eq!(canonical_metadata(text).is_some(), accepted, "{text}");
        }
    }
}
