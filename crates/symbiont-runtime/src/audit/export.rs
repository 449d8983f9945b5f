//! Records for others: every line with its hashes, and a receipt at the end.

use serde_json::{Map, Value, json};
use symbiont_store::{LogRow, StoredRecord};
use symbiont_types::{AuditError, ExportFormat};

use super::receipt::Receipt;
use super::verify::hex;
use crate::clock::{from_micros, rfc3339};

/// The shapes of exports that are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Document,
    Lines,
    Table,
}

/// An export being put together. All of it has one form, one receipt and one path, whether it is made
/// at once or piece by piece.
#[derive(Debug)]
pub(super) struct Exporter {
    form: Form,
    pub(super) receipt: Receipt,
    /// How many records could not be read.
    pub(super) unreadable: u64,
    begun: bool,
}

impl Exporter {
    pub(super) fn new(format: ExportFormat) -> Result<Self, AuditError> {
        let form = match format {
            ExportFormat::Json => Form::Document,
            ExportFormat::JsonLines => Form::Lines,
            ExportFormat::Csv => Form::Table,
            ExportFormat::Cef
            | ExportFormat::Ocsf
            | ExportFormat::CloudEvents
            | ExportFormat::Bundle => {
                return Err(AuditError::ExportFailed {
                    reason: format!("{format:?} is not served yet (use Json, JsonLines or Csv)"),
                });
            }
        };
        Ok(Self { form, receipt: Receipt::default(), unreadable: 0, begun: false })
    }

    /// Adds rows, the oldest first. The receipt is of those that can be read.
    pub(super) fn add(&mut self, rows: &[LogRow], out: &mut Vec<u8>) -> Result<(), AuditError> {
        if !self.begun {
            match self.form {
                Form::Document => out.extend_from_slice(b"{\n\"events\": ["),
                Form::Lines => {}
                Form::Table => table_row(COLUMNS, out)?,
            }
        }
        for row in rows {
            let value = object(row);
            match self.form {
                Form::Document => {
                    let is_first = self.receipt.records + self.unreadable == 0;
                    out.extend_from_slice(if is_first { b"\n" } else { b",\n" });
                    serde_json::to_writer(&mut *out, &value).map_err(failed)?;
                }
                Form::Lines => {
                    serde_json::to_writer(&mut *out, &value).map_err(failed)?;
                    out.push(b'\n');
                }
                Form::Table => table_row(COLUMNS.map(|column| cell(&value, column)), out)?,
            }
            match &row.record {
                Ok(stored) => {
                    let receipt = &mut self.receipt;
                    receipt.records += 1;
                    receipt.first_sequence.get_or_insert(stored.sequence);
                    receipt.last_sequence = Some(stored.sequence);
                    receipt.head = Some(stored.leaf_hash);
                }
                Err(_) => self.unreadable += 1,
            }
        }
        self.begun = true;
        Ok(())
    }

    /// Adds what vouches for the export: how many records, which, and the hash of the last.
    pub(super) fn finish(&self, out: &mut Vec<u8>) -> Result<(), AuditError> {
        let receipt = self.receipt.to_json();
        match self.form {
            Form::Document => out.extend(format!("\n],\n\"receipt\": {receipt}\n}}\n").bytes()),
            Form::Lines => out.extend(format!("{{\"receipt\":{receipt}}}\n").bytes()),
            // A comment row would break readers; the receipt is a row whose first cell says what it is.
            Form::Table => table_row(["receipt", &receipt], out)?,
        }
        Ok(())
    }
}

/// A row of the trail as exports write it.
pub(super) fn object(row: &LogRow) -> Value {
    match &row.record {
        Ok(stored) => record(stored),
        Err(reason) => json!({ "sequence": row.number, "unreadable": reason }),
    }
}

fn record(stored: &StoredRecord) -> Value {
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

fn table_row<T: AsRef<[u8]>>(
    cells: impl IntoIterator<Item = T>,
    out: &mut Vec<u8>,
) -> Result<(), AuditError> {
    let mut writer =
        csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).flexible(true).from_writer(out);
    writer.write_record(cells).and_then(|()| writer.flush().map_err(Into::into)).map_err(failed)
}

/// The text of a record in a column. Why one can't be read stands where others say what happened.
fn cell(value: &Value, column: &str) -> String {
    match &value[column] {
        Value::Null if column == "details" => match value["unreadable"].as_str() {
            Some(reason) => format!("unreadable: {reason}"),
            None => String::new(),
        },
        Value::Null => String::new(),
        Value::String(text) => guarded(text),
        other => other.to_string(),
    }
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
