//! What the guest and the host say to each other.
//!
//! The guest itself is the binary of this crate; the host embeds it and speaks to it in the
//! frames of [`protocol`]. Directories that go from one to the other are read and made by [`tree`] on
//! either side.

#![warn(missing_docs)]

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod protocol;
pub mod tree;
pub mod users;
