//! Records for others: every line with its hashes, and a receipt at the end.

use serde_json::{Map, Value, json};
use symbiont_store::StoredRecord;
use symbiont_types::{AuditError, ExportFormat};

use super::receipt::Receipt;
use super::verify::hex;
use crate::clock::{from_micros, rfc3339};

/// The records, oldest first, in `format`.
pub(crate) fn export(
    records: &[StoredRecord],
    format: ExportFormat,
) -> Result<Vec<u8>, AuditError> {
    match format {
        ExportFormat::Json => json_document(records),
        ExportFormat::JsonLines => json_lines(records),
        ExportFormat::Csv => csv_table(records),
        ExportFormat::Cef
        | ExportFormat::Ocsf
        | ExportFormat::CloudEvents
        | ExportFormat::Bundle => Err(AuditError::ExportFailed {
            reason: format!("{format:?} is not served yet (use Json, JsonLines or Csv)"),
        }),
    }
}

/// What vouches for the export: how many records, which, and the hash of the last.
fn receipt(records: &[StoredRecord]) -> Receipt {
    Receipt {
        records: records.len() as u64,
        first_sequence: records.first().map(|first| first.sequence),
        last_sequence: records.last().map(|last| last.sequence),
        head: records.last().map(|last| last.leaf_hash),
    }
}

fn json_document(records: &[StoredRecord]) -> Result<Vec<u8>, AuditError> {
    let events: Vec<Value> = records.iter().map(object).collect();
    let document = json!({ "events": events, "receipt": receipt(records).to_value() });
    serde_json::to_vec_pretty(&document).map_err(failed)
}

fn json_lines(records: &[StoredRecord]) -> Result<Vec<u8>, AuditError> {
    let mut out = Vec::new();
    let closing = json!({ "receipt": receipt(records).to_value() });
    for value in records.iter().map(object).chain([closing]) {
        serde_json::to_writer(&mut out, &value).map_err(failed)?;
        out.push(b'\n');
    }
    Ok(out)
}

fn object(stored: &StoredRecord) -> Value {
    let record = &stored.record;
    let metadata: Map<String, Value> =
        record.metadata.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
    json!({
        "sequence": stored.sequence,
        "id": record.id.to_string(),
        "timestamp": rfc3339(from_micros(record.at)),
        "ingest_time": rfc3339(from_micros(stored.ingested_at)),
        "event_type": record.event_type,
        "kind": record.kind,
        "agent_id": record.agent_id.map(|id| id.to_string()),
        "actor": record.actor,
        "correlation": record.correlation,
        "details": record.details,
        "metadata": metadata,
        "prev_hash": hex(&stored.prev_hash),
        "leaf_hash": hex(&stored.leaf_hash),
    })
}

const COLUMNS: [&str; 13] = [
    "sequence",
    "id",
    "timestamp",
    "ingest_time",
    "event_type",
    "kind",
    "agent_id",
    "actor",
    "correlation",
    "details",
    "metadata",
    "prev_hash",
    "leaf_hash",
];

fn csv_table(records: &[StoredRecord]) -> Result<Vec<u8>, AuditError> {
    let mut writer = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .flexible(true)
        .from_writer(Vec::new());
    writer.write_record(COLUMNS).map_err(failed)?;
    for stored in records {
        let value = object(stored);
        let row = COLUMNS.map(|column| match &value[column] {
            Value::Null => String::new(),
            Value::String(text) => guarded(text),
            other => other.to_string(),
        });
        writer.write_record(row).map_err(failed)?;
    }
    // A comment row would break readers; the receipt is a row whose first cell says what it is.
    writer.write_record(["receipt", &receipt(records).to_json()]).map_err(failed)?;
    writer.into_inner().map_err(failed)
}

/// Text that no spreadsheet takes for a formula.
fn guarded(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        format!("'{text}")
    } else {
        text.to_owned()
    }
}

fn failed(error: impl std::fmt::Display) -> AuditError {
    AuditError::ExportFailed { reason: error.to_string() }
}
