//! A fuzz target for each reader of foreign text or bytes: `cargo xtask fuzz`.
//!
//! What has to hold for an input is in [`properties`], which the tests of the language run on the
//! inputs in `seeds` as well. A target is one line that hands its input to one of them. What host and guest make of each other's bytes is
//! beside their readers, in the crates `symbiont-sandbox` and `symbiont-guest`.

pub mod properties;
