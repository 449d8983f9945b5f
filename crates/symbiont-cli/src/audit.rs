//! `symbiont audit`: reads, verifies and exports the trail of a data directory, in use or not.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};
use symbiont_runtime::{
    AgentId, AuditEvent, AuditOrder, AuditQuery, AuditTrail, DefaultAuditTrail, ExportFormat,
    FindingKind, IntegrityReport, Verdict, open_trail,
};

use crate::screen::{self, BAD, BOLD, CARE, DIM, GOOD, NAME, styled};
use crate::{Exit, Failure, Output, text};

const EXAMPLES: &str = "\
Examples:
  symbiont audit verify --data ./data
  symbiont audit show --data ./data --limit 20
  symbiont audit show --data ./data --kind 'policy.*'
  symbiont audit export --data ./data --format csv --out trail.csv

Exit codes:
  0  done; for `verify`: every record is what was written, and none is missing
  1  the trail is damaged, or could not be looked at
  2  the arguments make no sense, or there is no trail in the directory";

/// Reads, verifies and exports an audit trail.
///
/// Everything that a runtime with a data directory does is on record there, each record vouching
/// for the one before it. The directory may be in use meanwhile.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Verify(Verify),
    Show(Show),
    Export(Export),
}

/// Checks that every record is what was written, and that none is missing.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  symbiont audit verify --data ./data

Exit codes:
  0  intact
  1  some record was changed, removed or moved, or could not be looked at
  2  there is no trail in the directory")]
struct Verify {
    /// The data directory, as it was given to `symbiont run`.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// `text` for people, `json` for programs.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Shows records, the newest last.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  symbiont audit show --data ./data
  symbiont audit show --data ./data --agent notebook --kind 'memory.*' --limit 5")]
struct Show {
    /// The data directory, as it was given to `symbiont run`.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// At most so many records.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Only records about this agent: its id, or its name, which may have been that of several.
    #[arg(long, value_name = "NAME_OR_ID")]
    agent: Option<String>,
    /// Only records of this kind; a `*` at the end stands for any text. May be repeated.
    #[arg(long = "kind", value_name = "KIND")]
    kinds: Vec<String>,
}

/// Writes all records, the oldest first, with their hashes and a receipt.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  symbiont audit export --data ./data --format jsonl --out trail.jsonl
  symbiont audit export --data ./data --format csv

The receipt at the end tells how many records there are and the hash of the last one, so that
whoever gets the export can tell whether something is missing.")]
struct Export {
    /// The data directory, as it was given to `symbiont run`.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The format.
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
    /// Where to write it, if not to standard output. The file is replaced.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A JSON object a line, the receipt last.
    Jsonl,
    /// A table (RFC 4180), the receipt in the last row.
    Csv,
    /// One JSON document with `events` and `receipt`.
    Json,
}

pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    match arguments.command {
        Command::Verify(arguments) => verify(arguments).await,
        Command::Show(arguments) => show(arguments).await,
        Command::Export(arguments) => export(arguments).await,
    }
}

async fn open(data: &Path) -> Result<DefaultAuditTrail, Failure> {
    if let Err(error) = std::fs::metadata(data.join("symbiont.db")) {
        let message = format!("there is no trail in `{}`: {error}", data.display());
        return Err(Failure::usage(message)
            .help("--data is the directory that was given to `symbiont run --data`"));
    }
    open_trail(data).await.map_err(Failure::failed)
}

// Verifying.

async fn verify(arguments: Verify) -> Result<Exit, Failure> {
    let trail = open(&arguments.data).await?;
    let always = UNIX_EPOCH + Duration::from_secs(u64::from(u32::MAX) * 64);
    let before = UNIX_EPOCH - Duration::from_secs(u64::from(u32::MAX));
    let report = trail.verify_integrity(before, always).await.map_err(Failure::failed)?;
    match arguments.output {
        Output::Text => screen::report(&verdict(&report))?,
        Output::Json => screen::result(format!("{}\n", json(&report)).as_bytes())?,
    }
    Ok(match report.verdict {
        Verdict::Intact => Exit::Success,
        Verdict::Tampered | Verdict::Incomplete | Verdict::Unverifiable => Exit::Failed,
    })
}

/// What a finding means, for people.
fn is_damage(kind: FindingKind) -> bool {
    match kind {
        FindingKind::UnanchoredTail | FindingKind::PrunedRange => false,
        FindingKind::HashMismatch
        | FindingKind::MissingSequence
        | FindingKind::Reordered
        | FindingKind::BadCheckpointSignature
        | FindingKind::RootMismatch
        | FindingKind::TruncatedTail
        | FindingKind::ClockRegression
        | FindingKind::UnknownKey => true,
    }
}

fn verdict(report: &IntegrityReport) -> String {
    let words = match report.verdict {
        Verdict::Intact => {
            styled(GOOD, "intact: every record is what was written, and none is missing")
        }
        Verdict::Tampered => styled(BAD, "TAMPERED: some record was changed, removed or moved"),
        Verdict::Incomplete => styled(BAD, "INCOMPLETE: some records could not be looked at"),
        Verdict::Unverifiable => styled(CARE, "unverifiable: there is nothing to verify against"),
    };
    let mut out = String::new();
    let mut row = |name: &str, words: String| {
        out.push_str(&format!("{} {words}\n", styled(DIM, &format!("{name:<8}"))));
    };
    row("verdict", words);
    row("trail", text::line(&report.origin));
    let range = match (report.first_sequence, report.last_sequence) {
        (Some(first), Some(last)) => format!(" ({first} to {last})"),
        _ => String::new(),
    };
    let records = text::counted(report.events_checked, "record");
    row("checked", format!("{records}{range} in {}", text::duration(report.duration)));
    row("head", report.root_hash.clone());
    for finding in &report.findings {
        let (name, style) = if is_damage(finding.kind) { ("DAMAGE", BAD) } else { ("note", DIM) };
        let words = text::line(&finding.detail);
        let words = match is_damage(finding.kind) {
            true => format!("record {}, {:?}: {words}", finding.sequence, finding.kind),
            false => words,
        };
        row(name, styled(style, &words));
    }
    out
}

fn json(report: &IntegrityReport) -> Value {
    let findings: Vec<Value> = report
        .findings
        .iter()
        .map(|finding| {
            json!({
                "sequence": finding.sequence,
                "kind": finding.kind,
                "damage": is_damage(finding.kind),
                "detail": finding.detail,
            })
        })
        .collect();
    json!({
        "verdict": report.verdict,
        "records_checked": report.events_checked,
        "first_sequence": report.first_sequence,
        "last_sequence": report.last_sequence,
        "tree_size": report.tree_size,
        "head": report.root_hash,
        "findings": findings,
        "anchors": report.anchors,
        "origin": report.origin,
    })
}

// Showing.

async fn show(arguments: Show) -> Result<Exit, Failure> {
    let trail = open(&arguments.data).await?;
    let names = names(&trail).await?;
    let agent_ids = match &arguments.agent {
        None => Vec::new(),
        Some(wanted) => match wanted.parse::<AgentId>() {
            Ok(id) => vec![id],
            Err(_) => {
                let ids: Vec<_> =
                    names.iter().filter(|(_, name)| *name == wanted).map(|(id, _)| *id).collect();
                if ids.is_empty() {
                    return Err(Failure::usage(format!("the trail has no agent `{wanted}`")));
                }
                ids
            }
        },
    };
    let query = AuditQuery {
        agent_ids,
        kinds: arguments.kinds,
        limit: usize::try_from(arguments.limit).ok(),
        ..AuditQuery::default()
    };
    let mut records = trail.numbered_events(&query).await.map_err(Failure::failed)?;
    records.reverse();
    let mut out = String::new();
    for (sequence, event) in &records {
        out.push_str(&row(*sequence, event, &names));
    }
    screen::report(&out)?;
    Ok(Exit::Success)
}

/// The names of the agents that were created, as far as a query reaches.
async fn names(trail: &DefaultAuditTrail) -> Result<HashMap<AgentId, String>, Failure> {
    let query = AuditQuery {
        kinds: vec!["agent.created".to_owned()],
        limit: Some(100_000),
        ..AuditQuery::default()
    };
    let created = trail.query_events(query).await.map_err(Failure::failed)?;
    let named = created.into_iter().filter_map(|event| Some((event.agent_id?, event.details)));
    Ok(named.collect())
}

/// The most characters of what happened that are shown; an export has all.
const LONGEST: usize = 200;

fn row(sequence: u64, event: &AuditEvent, names: &HashMap<AgentId, String>) -> String {
    let metadata = |name: &str| event.metadata.get(name).map_or("", String::as_str);
    let name = event
        .agent_id
        .map(|id| names.get(&id).map_or_else(|| id.to_string(), |name| text::short(name, 20)));
    let decision = metadata("decision");
    let kind = match (metadata("kind"), metadata("phase")) {
        (kind, "") => kind.to_owned(),
        (kind, phase) => format!("{kind} {phase}"),
    };
    let mut words = Vec::new();
    for name in ["level", "decision", "operation", "state"] {
        // The call itself says what the operation's name says.
        let value = if name == "operation" && decision.is_empty() { "" } else { metadata(name) };
        if !value.is_empty() {
            words.push(text::short(value, 100));
        }
    }
    words.push(text::short(&event.details, LONGEST));
    let style = match decision {
        "deny" | "approval" => BAD,
        _ if metadata("error").is_empty() => NAME,
        _ => BAD,
    };
    format!(
        "{} {}  {:<20} {} {}\n",
        styled(DIM, &format!("{sequence:>7}")),
        styled(DIM, &time(event.timestamp)),
        name.unwrap_or_default(),
        styled(style, &format!("{:<22}", text::short(&kind, 40))),
        words.join(" ").trim_end(),
    )
}

fn time(at: SystemTime) -> String {
    match jiff::Timestamp::try_from(at) {
        Ok(at) => format!("{at:.3}"),
        Err(_) => "-".to_owned(),
    }
}

// Exporting.

/// Records read at a time, so that a long trail needs no more memory than a short one.
const PAGE: usize = 4096;

async fn export(arguments: Export) -> Result<Exit, Failure> {
    let trail = open(&arguments.data).await?;
    match &arguments.out {
        None => {
            let mut out = BufWriter::new(io::stdout().lock());
            let written = copy(&trail, arguments.format, &mut out).await?;
            screen::written(written.and_then(|_| out.flush()))?;
        }
        Some(path) => {
            let refused = |error: io::Error| {
                Failure::usage(format!("`{}` can't be written: {error}", path.display()))
            };
            let mut out = BufWriter::new(File::create(path).map_err(refused)?);
            let records = copy(&trail, arguments.format, &mut out).await?.map_err(refused)?;
            out.flush().map_err(refused)?;
            let records = text::counted(records, "record");
            screen::tell(&format!(
                "{records} written to {}\n",
                styled(BOLD, &text::line(&path.display().to_string()))
            ));
        }
    }
    Ok(Exit::Success)
}

/// Copies the trail page by page; how many records that were. The outer error is the trail's.
async fn copy(
    trail: &DefaultAuditTrail,
    format: Format,
    out: &mut impl Write,
) -> Result<io::Result<u64>, Failure> {
    let mut copier = Copier::new(format);
    let mut next = 1;
    loop {
        let query = AuditQuery {
            first_sequence: Some(next),
            order: AuditOrder::OldestFirst,
            limit: Some(PAGE),
            ..AuditQuery::default()
        };
        let page = trail.export_events(query, copier.format()).await.map_err(Failure::failed)?;
        let receipt = match copier.page(&page, out) {
            Ok(Ok(receipt)) => receipt,
            Ok(Err(error)) => return Ok(Err(error)),
            Err(problem) => return Err(Failure::failed(problem)),
        };
        match receipt.last {
            Some(last) if receipt.records == PAGE as u64 => next = last + 1,
            Some(_) | None => return Ok(copier.finish(out)),
        }
    }
}

/// The receipt of one page.
struct Receipt {
    records: u64,
    first: Option<u64>,
    last: Option<u64>,
    head: Option<String>,
}

/// Joins pages, each with a receipt of its own, into one export with one receipt.
struct Copier {
    format: Format,
    records: u64,
    first: Option<u64>,
    last: Option<u64>,
    head: Option<String>,
    begun: bool,
}

impl Copier {
    fn new(format: Format) -> Self {
        Self { format, records: 0, first: None, last: None, head: None, begun: false }
    }

    fn format(&self) -> ExportFormat {
        match self.format {
            Format::Csv => ExportFormat::Csv,
            // A document is put together from lines.
            Format::Jsonl | Format::Json => ExportFormat::JsonLines,
        }
    }

    /// Writes the records of a page. The outer error is a page that is not what it should be.
    fn page(
        &mut self,
        page: &[u8],
        out: &mut impl Write,
    ) -> Result<io::Result<Receipt>, &'static str> {
        let broken = "a page of the export is not whole";
        let body = page.strip_suffix(b"\n").ok_or(broken)?;
        let body = body.strip_suffix(b"\r").unwrap_or(body);
        let at = body.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let (records, receipt) = body.split_at(at);
        let receipt = self.receipt(receipt).ok_or(broken)?;
        self.records += receipt.records;
        self.first = self.first.or(receipt.first);
        self.last = receipt.last.or(self.last);
        self.head = receipt.head.clone().or_else(|| self.head.take());
        let written = match self.format {
            Format::Jsonl => out.write_all(records),
            Format::Csv if self.begun => {
                let header = records.iter().position(|&byte| byte == b'\n').ok_or(broken)?;
                out.write_all(&records[header + 1..])
            }
            Format::Csv => out.write_all(records),
            Format::Json => self.elements(records, out),
        };
        self.begun = true;
        Ok(written.map(|()| receipt))
    }

    /// Lines as elements of an array.
    fn elements(&self, lines: &[u8], out: &mut impl Write) -> io::Result<()> {
        if !self.begun {
            out.write_all(b"{\n\"events\": [")?;
        }
        let mut first = !self.begun;
        for line in lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            out.write_all(if first { b"\n" } else { b",\n" })?;
            out.write_all(line)?;
            first = false;
        }
        Ok(())
    }

    /// What the last line of a page says.
    fn receipt(&self, line: &[u8]) -> Option<Receipt> {
        let line = std::str::from_utf8(line).ok()?;
        let value: Value = match self.format {
            Format::Csv => {
                let quoted = line.strip_prefix("receipt,\"")?.strip_suffix('"')?;
                serde_json::from_str(&quoted.replace("\"\"", "\"")).ok()?
            }
            Format::Jsonl | Format::Json => {
                serde_json::from_str::<Value>(line).ok()?.get("receipt")?.clone()
            }
        };
        Some(Receipt {
            records: value.get("records")?.as_u64()?,
            first: value.get("first_sequence")?.as_u64(),
            last: value.get("last_sequence")?.as_u64(),
            head: value.get("head")?.as_str().map(str::to_owned),
        })
    }

    /// Writes the receipt; how many records there were.
    fn finish(&self, out: &mut impl Write) -> io::Result<u64> {
        let receipt = json!({
            "records": self.records,
            "first_sequence": self.first,
            "last_sequence": self.last,
            "head": self.head,
        });
        match self.format {
            Format::Jsonl => writeln!(out, "{}", json!({ "receipt": receipt }))?,
            Format::Csv => {
                write!(out, "receipt,\"{}\"\r\n", receipt.to_string().replace('"', "\"\""))?;
            }
            Format::Json => writeln!(out, "\n],\n\"receipt\": {receipt}\n}}")?,
        }
        Ok(self.records)
    }
}
