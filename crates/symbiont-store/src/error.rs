//! Why the store refused.

use uuid::Uuid;

/// Why the store refused. Nothing of a refused batch was kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A key that had to be absent is there.
    #[error("`{key}` is in `{table}` already")]
    Conflict {
        /// Which table.
        table: &'static str,
        /// The key, lossily as text or in hexadecimal.
        key: String,
    },
    /// The log has a record with this id.
    #[error("the log has a record `{id}` already")]
    DuplicateRecord {
        /// The id.
        id: Uuid,
    },
    /// The store was opened without this table.
    #[error("the store has no table `{table}`")]
    UnknownTable {
        /// The name.
        table: &'static str,
    },
    /// A store cannot have a table with this name.
    #[error("`{table}` is no name for a table: use lowercase letters and `_`, at most 64 of them")]
    InvalidTable {
        /// The name.
        table: &'static str,
    },
    /// The batch is larger than a store takes in one step.
    #[error("a batch of {size} bytes is too large: one may have {limit}")]
    TooLarge {
        /// Bytes in it.
        size: u64,
        /// Most bytes that a batch may have.
        limit: u64,
    },
    /// It was opened to be read only.
    #[error("the store is open for reading only")]
    ReadOnly,
    /// Another process holds the directory.
    #[error("`{path}` is in use by {holder}: stop it, or choose another directory")]
    Locked {
        /// The directory.
        path: String,
        /// Who holds it, as far as the lock file says.
        holder: String,
    },
    /// The format is newer than this program.
    #[error("`{path}` has format {found}, and this program knows up to {known}: use a newer one")]
    NewerFormat {
        /// The file.
        path: String,
        /// Its format.
        found: u32,
        /// The newest that this program knows.
        known: u32,
    },
    /// There is no store, or it was never finished being made.
    #[error("there is no store in `{path}`")]
    NotThere {
        /// The directory.
        path: String,
    },
    /// No room is left on the disk.
    #[error("no room is left on the disk")]
    Full,
    /// What was read is not what was written.
    #[error("the store is damaged: {reason}")]
    Corrupted {
        /// Where, and how.
        reason: String,
    },
    /// A record is there, but is not as the store writes one.
    #[error("record {sequence} is damaged: {reason}")]
    DamagedRecord {
        /// Its number.
        sequence: u64,
        /// How.
        reason: String,
    },
    /// The disk could not be used.
    #[error("{context}: {reason}")]
    Io {
        /// What was to be done, and with which file.
        context: String,
        /// Why it failed.
        reason: String,
    },
    /// The store is closing or closed.
    #[error("the store is closed")]
    Closed,
}
