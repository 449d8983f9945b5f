//! Which batches a store takes: the same answer whatever keeps them.

use std::collections::HashSet;

use uuid::Uuid;

use crate::{Batch, Record, StoreError, Table};

/// Most bytes of keys, values and records in one batch.
const MOST_BYTES: usize = 64 << 20;

/// Most letters in the name of a table.
const MOST_LETTERS: usize = 64;

/// Most characters of a key that an error shows.
const MOST_SHOWN: usize = 128;

/// Whether a table may have this name. What passes can stand in SQL as it is.
pub(crate) fn is_table_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MOST_LETTERS
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// Checks what can be seen from the batch alone, and returns its size in bytes.
pub(crate) fn check_shape(
    batch: &Batch,
    is_known: impl Fn(Table) -> bool,
) -> Result<usize, StoreError> {
    let named = batch.absent.iter().map(|(table, _)| table);
    let named = named.chain(batch.changes.iter().map(|(table, _, _)| table));
    for table in named {
        if !is_known(*table) {
            return Err(StoreError::UnknownTable { table: table.0 });
        }
    }
    let absent = batch.absent.iter().map(|(_, key)| key.len());
    let changes =
        batch.changes.iter().map(|(_, key, value)| key.len() + value.as_ref().map_or(0, Vec::len));
    let records = batch.records.iter().map(record_size);
    let size = absent.chain(changes).chain(records).fold(0, usize::saturating_add);
    if size > MOST_BYTES {
        return Err(StoreError::TooLarge { size: size as u64, limit: MOST_BYTES as u64 });
    }
    Ok(size)
}

/// Bytes of a record's content.
pub(crate) fn record_size(record: &Record) -> usize {
    let metadata: usize = record.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
    size_of::<Uuid>() * 2
        + record.event_type.len()
        + record.kind.len()
        + record.actor.len()
        + record.correlation.len()
        + record.details.len()
        + metadata
}

/// Why the store as it stands refuses `batch`, or `None` when it takes it. An error means that the
/// store could not be asked.
pub(crate) fn refusal(
    batch: &Batch,
    mut has_key: impl FnMut(Table, &[u8]) -> Result<bool, StoreError>,
    mut has_record: impl FnMut(Uuid) -> Result<bool, StoreError>,
) -> Result<Option<StoreError>, StoreError> {
    for (table, key) in &batch.absent {
        if has_key(*table, key)? {
            return Ok(Some(StoreError::Conflict { table: table.0, key: show_key(key) }));
        }
    }
    let mut own = HashSet::new();
    for record in &batch.records {
        let repeated = batch.records.len() > 1 && !own.insert(record.id);
        if repeated || has_record(record.id)? {
            return Ok(Some(StoreError::DuplicateRecord { id: record.id }));
        }
    }
    Ok(None)
}

/// A key as a person reads it: its text if it is text, else hexadecimal; cut when it is long.
fn show_key(key: &[u8]) -> String {
    let whole = match std::str::from_utf8(key) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        Ok(_) | Err(_) => {
            key.iter().take(MOST_SHOWN).map(|byte| format!("{byte:02x}")).collect::<String>()
        }
    };
    if whole.chars().count() <= MOST_SHOWN {
        return whole;
    }
    whole.chars().take(MOST_SHOWN).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_shown_as_text_or_in_hexadecimal() {
        let long = "k".repeat(MOST_SHOWN + 1);
        let cases: [(&[u8], String); 5] = [
            (b"agent/1", "agent/1".into()),
            ("schlüssel".as_bytes(), "schlüssel".into()),
            (b"a\nb", "610a62".into()),
            (&[0xff, 0x00], "ff00".into()),
            (long.as_bytes(), format!("{}...", "k".repeat(MOST_SHOWN))),
        ];
        for (key, shown) in cases {
            assert_eq!(show_key(key), shown, "{key:?}");
        }
    }

    #[test]
    fn a_table_has_a_plain_name() {
        let long = "a".repeat(MOST_LETTERS + 1);
        let cases = [
            ("agents", true),
            ("agent_state", true),
            ("", false),
            ("Agents", false),
            ("agents2", false),
            ("a b", false),
            ("a;drop", false),
            ("ä", false),
            (long.as_str(), false),
        ];
        for (name, allowed) in cases {
            assert_eq!(is_table_name(name), allowed, "{name:?}");
        }
    }
}
