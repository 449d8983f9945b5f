//! A fuzz target for each reader of foreign text: `cargo xtask fuzz`.
//!
//! What has to hold for an input is in [`properties`], which the tests of the language run on the
//! inputs in `seeds` as well. A target is one line that hands its input to one of them.

pub mod properties;
