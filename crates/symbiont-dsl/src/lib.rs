//! The Symbiont agent language.
//!
//! A source text is read into a tree and a program ([`syntax`]), checked
//! and turned into what the runtime needs to know of each agent ([`definition`]); its policy blocks
//! become policies ([`policy`]), with a [`formula`] where a condition computes. [`machine`] runs the behaviour and yields host calls, whose names
//! and classes are in [`operations`]. What is called and is neither a function nor a host call is a tool
//! ([`tools`]), declared by a manifest. [`format`](mod@format) prints a program in its one form. Editors
//! ask [`analysis`] what its names mean and which types it has, [`signatures`] what builtins, host calls
//! and methods take and give, and [`docs`] what there is to say about them.
//!
//! # What holds
//!
//! - Pure: no async, no clock, no files. The same source gives the same answers.
//! - No source makes anything here panic, overflow the stack or take more than linear time.
//! - Whatever is wrong with a source is a [`diagnostic`] with a place in it.

#![warn(missing_docs)]

pub mod analysis;
mod check;
pub mod definition;
pub mod diagnostic;
pub mod docs;
mod foreign;
pub mod format;
pub mod formula;
pub mod hir;
mod infer;
pub mod machine;
mod negation;
pub mod operations;
pub mod policy;
mod resolve;
pub mod signatures;
pub mod syntax;
pub mod tools;
mod types;
pub mod url;
pub mod value;
