//! `symbiont audit`: reads, verifies and exports the trail of a data directory, in use or not.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};
use symbiont_runtime::{
    AgentId, AuditEvent, AuditOrder, AuditQuery, AuditTrail, DefaultAuditTrail, ExportFormat,
    IntegrityReport, Receipt, Verdict, open_trail,
};

use crate::screen::{self, BAD, BOLD, CARE, DIM, GOOD, NAME, styled};
use crate::{Exit, Failure, Output, text};

const EXAMPLES: &str = "\
Examples:
  symbiont audit verify --data ./data
  symbiont audit show --data ./data --limit 20
  symbiont audit show --data ./data --kind 'policy.*'
  symbiont audit export --data ./data --format csv --out trail.csv
  symbiont audit verify --data ./data --receipt trail.csv

Exit codes:
  0  done; for `verify`: every record is what was written, and none is missing or added
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

/// Checks that every record is what was written, and that none is missing or added.
///
/// By itself a trail can't show that nobody has computed it anew, or cut off its end with all that
/// names it. A receipt of an earlier export, kept where those who may write the trail can't reach it,
/// shows that for every record up to the last one of the export.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  symbiont audit verify --data ./data
  symbiont audit export --data ./data --out trail.jsonl
  symbiont audit verify --data ./data --receipt trail.jsonl

Exit codes:
  0  intact
  1  some record was changed, added, removed or moved, or could not be looked at
  2  there is no trail in the directory, or no receipt in the file")]
struct Verify {
    /// The data directory, as it was given to `symbiont run`.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// An export of this trail, in any format, or the receipt at its end alone: the trail must still
    /// contain what it names. May be repeated.
    #[arg(long = "receipt", value_name = "FILE")]
    receipts: Vec<PathBuf>,
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
whoever gets the export can tell whether something is missing. It is not signed. Keep it where
nobody who may write the trail can change it: `audit verify --receipt` compares the trail with it.")]
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
    let receipts = arguments.receipts.iter().map(|path| receipt(path));
    let receipts = receipts.collect::<Result<Vec<_>, _>>()?;
    let report = trail.verify_against(before, always, &receipts).await.map_err(Failure::failed)?;
    match arguments.output {
        Output::Text => screen::report(&verdict(&report))?,
        Output::Json => screen::result(format!("{}\n", json(&report)).as_bytes())?,
    }
    Ok(match report.verdict {
        Verdict::Intact => Exit::Success,
        Verdict::Tampered | Verdict::Incomplete | Verdict::Unverifiable => Exit::Failed,
    })
}

/// The most bytes of an export that are read for its receipt, which is at its end.
const END: u64 = 1 << 20;

/// The receipt in a file.
fn receipt(path: &Path) -> Result<Receipt, Failure> {
    let unusable = |error: &dyn std::fmt::Display| {
        Failure::usage(format!("`{}` can't be used as a receipt: {error}", path.display()))
            .help("--receipt is a file that `symbiont audit export` wrote")
    };
    let read = || {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(END)))?;
        let mut end = Vec::new();
        file.take(END).read_to_end(&mut end)?;
        Ok(end)
    };
    let end = read().map_err(|error: io::Error| unusable(&error))?;
    let receipt =
        Receipt::read(&String::from_utf8_lossy(&end)).map_err(|error| unusable(&error))?;
    match receipt.head {
        Some(_) => Ok(receipt),
        None => Err(unusable(&"it is of no records, so it vouches for none")),
    }
}

fn verdict(report: &IntegrityReport) -> String {
    let words = match report.verdict {
        Verdict::Intact => {
            styled(GOOD, "intact: every record is what was written, and none is missing or added")
        }
        Verdict::Tampered => {
            styled(BAD, "TAMPERED: some record was changed, added, removed or moved")
        }
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
    for anchor in &report.anchors {
        row("anchor", text::line(anchor));
    }
    for finding in &report.findings {
        let damage = finding.kind.is_damage();
        let (name, style) = if damage { ("DAMAGE", BAD) } else { ("note", DIM) };
        let words = text::line(&finding.detail);
        let words = match damage {
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
                "damage": finding.kind.is_damage(),
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
        match receipt.last_sequence {
            Some(last) if receipt.records == PAGE as u64 => next = last + 1,
            Some(_) | None => return Ok(copier.finish(out)),
        }
    }
}

/// Joins pages, each with a receipt of its own, into one export with one receipt.
struct Copier {
    format: Format,
    /// Of all pages so far.
    receipt: Receipt,
    begun: bool,
}

impl Copier {
    fn new(format: Format) -> Self {
        Self { format, receipt: Receipt::default(), begun: false }
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
        let receipt = std::str::from_utf8(receipt).map_err(|_| broken)?;
        let receipt = Receipt::read(receipt).map_err(|_| broken)?;
        let all = &self.receipt;
        self.receipt = Receipt {
            records: all.records + receipt.records,
            first_sequence: all.first_sequence.or(receipt.first_sequence),
            last_sequence: receipt.last_sequence.or(all.last_sequence),
            head: receipt.head.or(all.head),
        };
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

    /// Writes the receipt; how many records there were.
    fn finish(&self, out: &mut impl Write) -> io::Result<u64> {
        let receipt = self.receipt.to_json();
        match self.format {
            Format::Jsonl => writeln!(out, "{{\"receipt\":{receipt}}}")?,
            Format::Csv => {
                write!(out, "receipt,\"{}\"\r\n", receipt.replace('"', "\"\""))?;
            }
            Format::Json => writeln!(out, "\n],\n\"receipt\": {receipt}\n}}")?,
        }
        Ok(self.receipt.records)
    }
}
