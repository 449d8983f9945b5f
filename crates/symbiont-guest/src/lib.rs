//! What the guest and the host say to each other.
//!
//! The guest itself is the binary of this crate; the host embeds it and speaks to it in the
//! frames of [`protocol`].

#![warn(missing_docs)]

pub mod protocol;
