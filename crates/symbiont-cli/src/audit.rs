//! `symbiont audit`: reads, verifies and exports the trail of a data directory, in use or not.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};
use symbiont_runtime::{
    AgentId, AuditError, AuditQuery, ConfigurationError, DefaultAuditTrail, ExportFormat,
    IntegrityReport, Receipt, RuntimeError, TrailRow, Verdict, open_trail,
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
  symbiont audit show --data ./data --agent notebook --kind 'memory.*' --limit 5
  symbiont audit show --data ./data --sequence 1
  symbiont audit show --data ./data --kind policy.decision --output json

Exit codes:
  0  done, also when no record matches
  1  some record can't be read, or the trail could not be looked at
  2  the arguments make no sense, or there is no trail in the directory")]
struct Show {
    /// The data directory, as it was given to `symbiont run`.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// At most so many records.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=99_999))]
    limit: u32,
    /// Only records about this agent: its id, or its name, which may have been that of several.
    #[arg(long, value_name = "NAME_OR_ID")]
    agent: Option<String>,
    /// Only records of this kind; a `*` at the end stands for any text. May be repeated.
    #[arg(long = "kind", value_name = "KIND")]
    kinds: Vec<String>,
    /// Only the record of this number, with all of its fields.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    sequence: Option<u64>,
    /// `text` for people; `json` for an object a line, as in an export.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Writes all records, the oldest first, with their hashes and a receipt.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  symbiont audit export --data ./data --format jsonl --out trail.jsonl
  symbiont audit export --data ./data --format csv

The receipt at the end tells how many records there are and the hash of the last one, so that
whoever gets the export can tell whether something is missing. It is not signed. Keep it where
nobody who may write the trail can change it: `audit verify --receipt` compares the trail with it.

Exit codes:
  0  done
  1  some record can't be read and stands there as `unreadable`, or it could not all be written
  2  the arguments make no sense, or there is no trail in the directory")]
struct Export {
    /// The data directory, as it was given to `symbiont run`.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The format.
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
    /// Where to write it, if not to standard output. The file is replaced once all is written.
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
    let shown = data.display();
    let none = || {
        Failure::usage(format!("there is no trail in `{shown}`"))
            .help("--data is the directory that was given to `symbiont run --data`")
    };
    let file = data.join("symbiont.db");
    // Opening a pipe would wait for whoever writes to it.
    if std::fs::metadata(&file).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(none());
    }
    match File::open(&file) {
        Ok(_) => {}
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Err(none());
        }
        Err(error) => {
            return Err(Failure::usage(format!("the trail in `{shown}` can't be read: {error}")));
        }
    }
    open_trail(data).await.map_err(|error| match error {
        RuntimeError::Configuration(ConfigurationError::Missing { .. }) => none(),
        error => Failure::failed(error),
    })
}

/// What the trail says of a question that makes no sense, and of one that it can't answer.
fn refused(error: AuditError) -> Failure {
    match error {
        error @ AuditError::InvalidQuery { .. } => Failure::usage(error),
        error => Failure::failed(error),
    }
}

// Verifying.

async fn verify(arguments: Verify) -> Result<Exit, Failure> {
    let trail = open(&arguments.data).await?;
    // All times that a record can have.
    let widest = Duration::from_micros(i64::MAX.unsigned_abs());
    let before = UNIX_EPOCH.checked_sub(widest).unwrap_or(UNIX_EPOCH);
    let always = UNIX_EPOCH.checked_add(widest).unwrap_or(UNIX_EPOCH);
    let receipts = arguments.receipts.iter().map(|path| receipt(path));
    let receipts = receipts.collect::<Result<Vec<_>, _>>()?;
    let report = trail.verify_against(before, always, &receipts).await.map_err(refused)?;
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
    let receipt = Receipt::read(&String::from_utf8_lossy(&end)).map_err(|error| match error {
        AuditError::InvalidQuery { reason } => unusable(&reason),
        error => unusable(&error),
    })?;
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
            // What is wrong with all of the trail is wrong with no record.
            true if finding.sequence == 0 => format!("{:?}: {words}", finding.kind),
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
    let limit = usize::try_from(arguments.limit).unwrap_or(usize::MAX);
    let query = AuditQuery {
        first_sequence: arguments.sequence,
        last_sequence: arguments.sequence,
        agent_ids,
        kinds: arguments.kinds,
        // One more tells whether there are more.
        limit: Some(limit.saturating_add(1)),
        ..AuditQuery::default()
    };
    let mut rows = trail.rows(&query).await.map_err(refused)?;
    if rows.is_empty()
        && let Some(id) = query.agent_ids.first()
        && arguments.agent.is_some_and(|wanted| wanted.parse::<AgentId>().is_ok())
        && !names.contains_key(id)
    {
        return Err(Failure::usage(format!("the trail has no agent `{id}`")));
    }
    let left_out = rows.len() > limit;
    rows.truncate(limit);
    rows.reverse();
    let mut out = String::new();
    for row in &rows {
        match (arguments.output, arguments.sequence) {
            (Output::Json, _) => out.push_str(&format!("{}\n", row.to_json())),
            (Output::Text, Some(_)) => out.push_str(&fields(row)),
            (Output::Text, None) => out.push_str(&line(row, &names)),
        }
    }
    match arguments.output {
        Output::Json => screen::result(out.as_bytes())?,
        Output::Text => screen::report(&out)?,
    }
    if left_out {
        let all = "raise --limit for more, or use `audit export` for all";
        screen::tell(&format!("{}\n", styled(DIM, &format!("there are older records: {all}"))));
    } else if rows.is_empty() {
        screen::tell(&format!("{}\n", styled(DIM, "no record matches")));
    }
    Ok(conclude(rows.iter().filter(|row| row.event().is_err()).count() as u64))
}

/// The names of the agents that were created, as far as a query reaches.
async fn names(trail: &DefaultAuditTrail) -> Result<HashMap<AgentId, String>, Failure> {
    let query = AuditQuery {
        kinds: vec!["agent.created".to_owned()],
        limit: Some(100_000),
        ..AuditQuery::default()
    };
    let created = trail.rows(&query).await.map_err(refused)?;
    // One that can't be read names nobody.
    let named = created.iter().filter_map(|row| row.event().ok());
    Ok(named.filter_map(|event| Some((event.agent_id?, event.details))).collect())
}

/// All fields of a record, each on a line of its own.
fn fields(row: &TrailRow) -> String {
    let mut out = String::new();
    let mut field = |name: &str, value: &Value| {
        let value = match value {
            Value::Null => return,
            Value::String(text) if text.is_empty() => return,
            Value::String(text) => text::lines(text).replace('\n', &format!("\n{:15}| ", "")),
            other => text::line(&other.to_string()),
        };
        out.push_str(&format!("{} {value}\n", styled(DIM, &format!("{:<16}", text::line(name)))));
    };
    let Ok(Value::Object(all)) = serde_json::from_str(&row.to_json()) else {
        return format!("{}\n", text::line(&row.to_json()));
    };
    for (name, value) in &all {
        match value {
            Value::Object(entries) => {
                entries.iter().for_each(|(key, value)| field(&format!(". {key}"), value));
            }
            value => field(name, value),
        }
    }
    out
}

/// The most characters of what happened that are shown; an export has all.
const LONGEST: usize = 200;

fn line(row: &TrailRow, names: &HashMap<AgentId, String>) -> String {
    let sequence = styled(DIM, &format!("{:>7}", row.sequence()));
    let event = match row.event() {
        Ok(event) => event,
        Err(reason) => {
            return format!(
                "{sequence} {}\n",
                styled(BAD, &format!("unreadable: {}", text::line(reason)))
            );
        }
    };
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
        sequence,
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

async fn export(arguments: Export) -> Result<Exit, Failure> {
    let trail = open(&arguments.data).await?;
    let format = match arguments.format {
        Format::Jsonl => ExportFormat::JsonLines,
        Format::Csv => ExportFormat::Csv,
        Format::Json => ExportFormat::Json,
    };
    let mut export = trail.export(format).await.map_err(refused)?;
    match &arguments.out {
        None => {
            while let Some(piece) = export.piece().await.map_err(refused)? {
                if !screen::written(screen::put(&piece))? {
                    break;
                }
            }
        }
        Some(path) => {
            let mut target = Target::open(path, &arguments.data)?;
            while let Some(piece) = export.piece().await.map_err(refused)? {
                target.write(&piece)?;
            }
            target.finish()?;
            let records = text::counted(export.records(), "record");
            screen::tell(&format!(
                "{records} written to {}\n",
                styled(BOLD, &text::line(&path.display().to_string()))
            ));
        }
    }
    Ok(conclude(export.unreadable()))
}

/// Says how many records could not be read, if any.
fn conclude(unreadable: u64) -> Exit {
    if unreadable == 0 {
        return Exit::Success;
    }
    let records = text::counted(unreadable, "record");
    let failure = Failure::failed(format!("the trail is damaged: {records} can't be read"));
    screen::say(&failure.help("`symbiont audit verify` says what else is wrong"));
    Exit::Failed
}

/// A file being written. What was there before stays until everything is written.
struct Target {
    path: PathBuf,
    /// Where it is written until it is whole; a device or a pipe is written at once.
    partial: Option<PathBuf>,
    out: File,
}

impl Target {
    fn open(path: &Path, data: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let unusable =
            |error: io::Error| Failure::usage(format!("`{shown}` can't be written: {error}"));
        let path = match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                return Err(Failure::usage(format!("`{shown}` is a directory")));
            }
            Ok(metadata) if !metadata.is_file() => {
                let out = File::options().write(true).open(path).map_err(unusable)?;
                return Ok(Self { path: path.to_owned(), partial: None, out });
            }
            // A link stays one.
            Ok(_) => path.canonicalize().map_err(unusable)?,
            Err(_) => {
                let name = path
                    .file_name()
                    .ok_or_else(|| Failure::usage(format!("`{shown}` is no name for a file")))?;
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                let parent = parent.unwrap_or(Path::new("."));
                parent.canonicalize().map_err(unusable)?.join(name)
            }
        };
        if data.canonicalize().is_ok_and(|data| path.starts_with(data)) {
            let message = format!("`{shown}` is in the data directory, which is the runtime's own");
            return Err(Failure::usage(message).help("write it elsewhere, best on another machine"));
        }
        let mut partial = path.clone().into_os_string();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        match std::fs::remove_file(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unusable(error)),
            Ok(()) | Err(_) => {}
        }
        let out = File::options().write(true).create_new(true).open(&partial);
        Ok(Self { path, out: out.map_err(unusable)?, partial: Some(partial) })
    }

    fn write(&mut self, piece: &[u8]) -> Result<(), Failure> {
        self.out.write_all(piece).map_err(|error| self.unwritten(&error))
    }

    fn finish(mut self) -> Result<(), Failure> {
        let Some(partial) = &self.partial else { return Ok(()) };
        let done = self.out.sync_all().and_then(|()| std::fs::rename(partial, &self.path));
        done.map_err(|error| self.unwritten(&error))?;
        self.partial = None;
        Ok(())
    }

    fn unwritten(&self, error: &io::Error) -> Failure {
        Failure::failed(format!("`{}` could not be written: {error}", self.path.display()))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            // Half of an export is of use to nobody; what hinders this hindered the writing too.
            let _ = std::fs::remove_file(partial);
        }
    }
}
