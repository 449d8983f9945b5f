//! How the file is laid out: made, checked, and brought forward from older formats.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::sqlite::{failure, file_failure};
use crate::{Micros, StoreError, Table};

/// Marks a file as ours: `SYMB`.
const APPLICATION: i64 = 0x5359_4d42;

/// A step from one format to the next.
type Step = fn(&Transaction<'_>) -> rusqlite::Result<()>;

/// The steps from format 1 to the newest: the first leads to format 2. A new format adds a step
/// here, and changes [`LAYOUT`] in the same way.
const STEPS: &[Step] = &[];

/// How long to wait for another connection's lock on the file.
const PATIENCE: Duration = Duration::from_secs(5);

/// The statements that lay out the newest format. What is in a file is compared with them.
const LAYOUT: [&str; 6] = [
    "CREATE TABLE store_state (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    sequence INTEGER NOT NULL,
    hash BLOB NOT NULL,
    ingested_at INTEGER NOT NULL,
    epoch INTEGER NOT NULL
) STRICT",
    "CREATE TABLE audit_events (
    sequence INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    ingested_at INTEGER NOT NULL,
    at INTEGER NOT NULL,
    event_type TEXT NOT NULL,
    kind TEXT NOT NULL,
    agent_id TEXT,
    actor TEXT NOT NULL,
    correlation TEXT NOT NULL,
    details TEXT NOT NULL,
    metadata TEXT NOT NULL,
    prev_hash BLOB NOT NULL,
    leaf_hash BLOB NOT NULL
) STRICT",
    // An index holds the `sequence` of its rows, so each of these answers "the newest of ..." without
    // sorting.
    "CREATE UNIQUE INDEX audit_events_id ON audit_events (id)",
    "CREATE INDEX audit_events_agent ON audit_events (agent_id) WHERE agent_id IS NOT NULL",
    "CREATE INDEX audit_events_kind ON audit_events (kind)",
    "CREATE INDEX audit_events_at ON audit_events (at)",
];

/// The name of `table` in SQL.
pub(super) fn sql_name(table: &str) -> String {
    format!("kv_{table}")
}

/// The file beside `file` whose name has `ending` in addition.
pub(super) fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(ending);
    PathBuf::from(name)
}

/// Makes `directory`, for its owner alone, unless it is there.
pub(super) fn make_directory(directory: &Path) -> Result<(), StoreError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| file_failure(format!("make `{}`", directory.display()), &error))
}

/// Opens `file` for the one writer: made if need be, of the newest format, with these tables, and
/// with its epoch counted up.
pub(super) fn open_for_writing(file: &Path, tables: &[Table]) -> Result<Connection, StoreError> {
    make_file(file)?;
    let context = format!("open `{}`", file.display());
    let failed = |error: rusqlite::Error| failure(&context, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(file, flags).map_err(failed)?;
    connection.busy_timeout(PATIENCE).map_err(failed)?;
    // Before anything is changed: it may be the database of someone else.
    read_format(&connection).map_err(failed)?.check(file, format_after(STEPS))?;
    prepare(&connection).map_err(failed)?;
    bring_forward(&mut connection, file, STEPS)?;
    check_layout(&connection)?;
    enter(&mut connection, file, tables)?;
    Ok(connection)
}

/// Opens `file` to look at it. Nothing is made or changed, but for the log and the index that SQLite
/// keeps beside a file while it is open: it may leave them behind, the log empty.
pub(super) fn open_for_reading(file: &Path) -> Result<Connection, StoreError> {
    let context = format!("open `{}`", file.display());
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    match std::fs::metadata(file) {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Err(StoreError::Io { context, reason: "it is not a file".to_owned() }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(not_there(file));
        }
        Err(error) => return Err(file_failure(context, &error)),
    }
    let opened = Connection::open_with_flags(file, flags).and_then(|connection| {
        connection.busy_timeout(PATIENCE)?;
        let format = read_format(&connection)?;
        Ok((connection, format))
    });
    let (connection, format) = match opened {
        Ok(opened) => opened,
        Err(error) => open_unchanging(file, flags, &error)
            .and_then(|connection| {
                let format = read_format(&connection)?;
                Ok((connection, format))
            })
            .map_err(|error| failure(&context, &error))?,
    };
    let newest = format_after(STEPS);
    match format.check(file, newest)? {
        Found::Format(version) if version == newest => {
            check_layout(&connection)?;
            Ok(connection)
        }
        Found::Format(version) => Err(StoreError::Io {
            context,
            reason: format!(
                "it has format {version}, and this program reads format {newest}: open it for \
                 writing once, which brings it forward"
            ),
        }),
        Found::Nothing => Err(not_there(file)),
    }
}

fn not_there(file: &Path) -> StoreError {
    StoreError::NotThere { path: file.parent().unwrap_or(file).display().to_string() }
}

/// Opens a file that `error` kept from being read as usual.
///
/// Where nothing can be written, SQLite cannot make the index of the write-ahead log that it reads
/// by. When there is no such log, the file is complete without it and can be read as it stands. When
/// there is one, reading without it would leave out commits, so the error stays.
fn open_unchanging(
    file: &Path,
    flags: OpenFlags,
    error: &rusqlite::Error,
) -> rusqlite::Result<Connection> {
    use rusqlite::ErrorCode;
    let unwritable =
        matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly));
    let has_log = std::fs::metadata(beside(file, "-wal")).is_ok_and(|log| log.len() > 0);
    if !unwritable || has_log {
        let advice = if unwritable && has_log {
            "; its write-ahead log cannot be read here: copy the directory to where it can be \
             written, and read it there"
        } else {
            ""
        };
        return Err(match error {
            rusqlite::Error::SqliteFailure(code, message) => {
                let message = message.clone().unwrap_or_else(|| code.to_string());
                rusqlite::Error::SqliteFailure(*code, Some(format!("{message}{advice}")))
            }
            other => rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ERROR),
                Some(other.to_string()),
            ),
        });
    }
    let mut uri = String::from("file:");
    for byte in file.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.".contains(byte) {
            uri.push(char::from(*byte));
        } else {
            uri.push_str(&format!("%{byte:02x}"));
        }
    }
    uri.push_str("?immutable=1");
    Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)
}

/// Makes `file`, for its owner alone, unless it is there. SQLite takes an empty file for a new one,
/// and gives the files beside it the same mode.
fn make_file(file: &Path) -> Result<(), StoreError> {
    let failed = |error: &std::io::Error| file_failure(format!("make `{}`", file.display()), error);
    let mut options = OpenOptions::new();
    match options.write(true).create_new(true).mode(0o600).open(file) {
        Ok(_) => {
            // The name has to survive a power cut as well.
            let directory = file.parent().unwrap_or(Path::new("."));
            File::open(directory).and_then(|it| it.sync_all()).map_err(|error| failed(&error))
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed(&error)),
    }
}

/// Sets what lasts as long as the connection.
fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // Kibibytes, as a negative number.
    connection.pragma_update(None, "cache_size", -16_384)?;
    // The writer does this after it has answered.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    // After a burst the log gives its room back.
    connection.pragma_update(None, "journal_size_limit", 64 << 20)
}

/// What the head of a file says about its format.
struct Format {
    application: i64,
    version: i64,
    is_empty: bool,
}

/// What a file is, as far as this program can use it.
enum Found {
    /// Nothing is in it.
    Nothing,
    /// A store of this format, which this program knows.
    Format(u32),
}

fn read_format(connection: &Connection) -> rusqlite::Result<Format> {
    connection.query_row(
        "SELECT application_id, user_version, NOT EXISTS (SELECT 1 FROM sqlite_schema)
         FROM pragma_application_id, pragma_user_version",
        [],
        |row| Ok(Format { application: row.get(0)?, version: row.get(1)?, is_empty: row.get(2)? }),
    )
}

impl Format {
    fn check(&self, file: &Path, newest: u32) -> Result<Found, StoreError> {
        if self.is_empty && self.application == 0 && self.version == 0 {
            return Ok(Found::Nothing);
        }
        let path = file.display().to_string();
        let version = u32::try_from(self.version).unwrap_or(0);
        if self.application != APPLICATION || version == 0 {
            return Err(StoreError::Corrupted {
                reason: format!("`{path}` is a database, but not one of a Symbiont store"),
            });
        }
        if version > newest {
            return Err(StoreError::NewerFormat { path, found: version, known: newest });
        }
        Ok(Found::Format(version))
    }
}

/// The format that `steps` lead to.
fn format_after(steps: &[Step]) -> u32 {
    u32::try_from(steps.len()).map_or(u32::MAX, |steps| steps.saturating_add(1))
}

/// Brings the file to the newest format: from nothing, or by `steps` from an older one, after a copy
/// of it was laid beside it. All steps are made, or none.
fn bring_forward(
    connection: &mut Connection,
    file: &Path,
    steps: &[Step],
) -> Result<(), StoreError> {
    let context = format!("bring `{}` to the newest format", file.display());
    let failed = |error: rusqlite::Error| failure(&context, &error);
    let newest = format_after(steps);
    let format = read_format(connection).map_err(failed)?;
    let found = format.check(file, newest)?;
    if let Found::Format(version) = found
        && version < newest
    {
        back_up(connection, file, version)?;
    }
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let made = match found {
        Found::Nothing => make_layout(&transaction),
        Found::Format(version) => steps
            .iter()
            .skip(usize::try_from(version - 1).unwrap_or(usize::MAX))
            .try_for_each(|step| step(&transaction)),
    };
    made.and_then(|()| transaction.pragma_update(None, "user_version", newest))
        .and_then(|()| transaction.commit())
        .map_err(failed)
}

/// Refuses a file in which the tables of the store and their indexes are not the ones that it made, or
/// something else is done to them.
pub(super) fn check_layout(connection: &Connection) -> Result<(), StoreError> {
    let objects = (|| {
        let mut statement =
            connection.prepare_cached("SELECT name, tbl_name, sql FROM sqlite_schema")?;
        let rows = statement.query_map([], |row| row.try_into())?;
        rows.collect::<rusqlite::Result<Vec<(String, String, Option<String>)>>>()
    })()
    .map_err(|error| failure("read the layout of the store", &error))?;
    match fault(&objects) {
        None => Ok(()),
        Some(reason) => Err(StoreError::Corrupted { reason }),
    }
}

/// What is wrong with a layout: of each object its name, the table that it belongs to, and the
/// statement that made it. Tables of others that lie in the same file are none of it.
fn fault(objects: &[(String, String, Option<String>)]) -> Option<String> {
    let mut missing: Vec<&str> = LAYOUT.to_vec();
    for (name, table, sql) in objects {
        // SQLite does not tell names apart by case.
        let table = table.to_ascii_lowercase();
        let sql = sql.as_deref().unwrap_or_default();
        let made = match table.strip_prefix("kv_") {
            Some(_) => words(sql) == words(&format!("CREATE TABLE {}", table_of(&table))),
            None if table == "audit_events" || table == "store_state" => {
                let before = missing.len();
                missing.retain(|part| *part != sql);
                missing.len() < before
            }
            None => true,
        };
        if !made {
            return Some(format!("`{name}` of the table `{table}` is not what the store made"));
        }
    }
    let part = words(missing.first()?);
    Some(format!("what `{}` made is not there", part.split(" (").next().unwrap_or(&part)))
}

/// A text with one space between its words.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The definition of a table of keys and values, from its name on.
fn table_of(sql_name: &str) -> String {
    format!("{sql_name} (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL) STRICT, WITHOUT ROWID")
}

fn make_layout(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    for part in LAYOUT {
        transaction.execute_batch(part)?;
    }
    transaction.execute(
        "INSERT INTO store_state (id, sequence, hash, ingested_at, epoch)
         VALUES (1, 0, zeroblob(32), ?1, 0)",
        [Micros::MIN],
    )?;
    Ok(())
}

/// Copies the store to a file beside it, which has its format in its name.
fn back_up(connection: &Connection, file: &Path, version: u32) -> Result<(), StoreError> {
    let whole = beside(file, &format!(".format-{version}"));
    let context = format!("copy the store to `{}` before its format changes", whole.display());
    let partial = beside(&whole, ".partial");
    match std::fs::remove_file(&partial) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(file_failure(context, &error)),
    }
    make_file(&partial)?;
    connection
        .backup("main", &partial, None::<fn(rusqlite::backup::Progress)>)
        .map_err(|error| failure(&context, &error))?;
    let directory = file.parent().unwrap_or(Path::new("."));
    File::open(&partial)
        .and_then(|it| it.sync_all())
        .and_then(|()| std::fs::rename(&partial, &whole))
        .and_then(|()| File::open(directory)?.sync_all())
        .map_err(|error| file_failure(context, &error))
}

/// Makes the tables that are not there yet, and counts the epoch up.
fn enter(connection: &mut Connection, file: &Path, tables: &[Table]) -> Result<(), StoreError> {
    let context = format!("open `{}` for writing", file.display());
    let entered = (|| {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for table in tables {
            let table = table_of(&sql_name(table.0));
            transaction.execute_batch(&format!("CREATE TABLE IF NOT EXISTS {table}"))?;
        }
        let rows = transaction.execute(
            "UPDATE store_state SET epoch = epoch + 1 WHERE epoch BETWEEN 0 AND ?1",
            [i64::MAX - 1],
        )?;
        transaction.commit()?;
        Ok(rows)
    })();
    match entered {
        Ok(1) => Ok(()),
        Ok(_) => Err(StoreError::Corrupted {
            reason: format!(
                "`{}` has no row for the end of its log that counts how often it was opened",
                file.display()
            ),
        }),
        Err(error) => Err(failure(&context, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Table = Table("agents");

    fn add_column(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        transaction.execute_batch("ALTER TABLE audit_events ADD COLUMN extra TEXT")
    }

    fn fill_column(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        transaction.execute_batch("UPDATE audit_events SET extra = kind")
    }

    fn fail(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        transaction.execute_batch("DROP TABLE audit_events; SELECT * FROM missing")
    }

    fn version(file: &Path) -> i64 {
        let connection = Connection::open(file).expect("it opens");
        read_format(&connection).expect("a format").version
    }

    /// A store of format 1 with one record, in a new directory.
    fn old_store() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = crate::file_in(directory.path());
        make_file(&file).expect("it is made");
        let mut connection = Connection::open(&file).expect("it opens");
        prepare(&connection).expect("it is prepared");
        bring_forward(&mut connection, &file, &[]).expect("it is laid out");
        connection
            .execute(
                "INSERT INTO audit_events VALUES
                 (1, 'id', 0, 0, 'Type', 'kind', NULL, '', '', '', '{}', x'', x'')",
                [],
            )
            .expect("it has a record");
        (directory, file)
    }

    #[test]
    fn an_older_format_is_copied_and_then_brought_forward() {
        let (_directory, file) = old_store();
        let copy = beside(&file, ".format-1");
        std::fs::write(beside(&copy, ".partial"), "left from an attempt").expect("it is written");
        let mut connection = Connection::open(&file).expect("it opens");
        bring_forward(&mut connection, &file, &[add_column, fill_column]).expect("it succeeds");
        let extra: String = connection
            .query_row("SELECT extra FROM audit_events", [], |row| row.get(0))
            .expect("the column is there");
        assert_eq!((extra.as_str(), version(&file)), ("kind", 3));
        assert!(!beside(&copy, ".partial").exists());

        let old = Connection::open(&copy).expect("the copy opens");
        let count: i64 = old
            .query_row("SELECT count(*) FROM audit_events", [], |row| row.get(0))
            .expect("it has the records");
        assert_eq!((count, version(&copy)), (1, 1));
        assert!(old.prepare("SELECT extra FROM audit_events").is_err());

        // From the second format only the second step is made, and a third time there is nothing
        // to do.
        connection.pragma_update(None, "user_version", 2).expect("it is set");
        bring_forward(&mut connection, &file, &[fail, fill_column]).expect("it succeeds");
        bring_forward(&mut connection, &file, &[fail, fail]).expect("it succeeds");
        // This program knows but the first.
        drop(connection);
        let refused = open_for_writing(&file, &[TABLE]).expect_err("it is newer");
        assert!(matches!(refused, StoreError::NewerFormat { found: 3, known: 1, .. }));
    }

    #[test]
    fn a_step_that_fails_changes_nothing() {
        let (_directory, file) = old_store();
        let mut connection = Connection::open(&file).expect("it opens");
        let refused = bring_forward(&mut connection, &file, &[add_column, fail]);
        assert!(matches!(refused, Err(StoreError::Io { .. })), "{refused:?}");
        assert_eq!(version(&file), 1);
        drop(connection);
        open_for_writing(&file, &[TABLE]).expect("it is as it was");
    }

    #[test]
    fn a_store_that_cannot_be_written_is_read_as_it_stands() {
        let (_directory, file) = old_store();
        let error = rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN),
            None,
        );
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = open_unchanging(&file, flags, &error).expect("it opens");
        assert_eq!(read_format(&connection).expect("a format").version, 1);
        drop(connection);

        // With a log beside it, reading without the log would leave something out.
        std::fs::write(beside(&file, "-wal"), "something").expect("it is written");
        let refused = open_unchanging(&file, flags, &error).expect_err("there is a log");
        assert!(refused.to_string().contains("copy the directory"), "{refused}");
        std::fs::remove_file(beside(&file, "-wal")).expect("it is removed");

        // Other errors stay what they are.
        let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
        let busy = rusqlite::Error::SqliteFailure(busy, None);
        let refused = open_unchanging(&file, flags, &busy).expect_err("it is busy");
        assert_eq!(refused.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseBusy));
    }
}
