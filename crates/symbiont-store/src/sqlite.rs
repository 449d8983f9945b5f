//! In SQLite.
