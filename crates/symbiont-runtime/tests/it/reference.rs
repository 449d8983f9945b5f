//! The reference, name by name.
