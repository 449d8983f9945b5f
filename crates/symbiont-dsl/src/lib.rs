//! The Symbiont agent language.
//!
//! A source text is read into a tree and a program ([`syntax`]), checked
//! and turned into what the runtime needs to know of each agent ([`definition`]); its policy blocks
//! become policies ([`policy`]). [`machine`] runs the behaviour and yields host calls, whose names
//! and classes are in [`operations`]. [`format`](mod@format) prints it in its one form.
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
pub mod format;
pub mod hir;
mod infer;
pub mod machine;
pub mod operations;
pub mod policy;
mod resolve;
pub mod signatures;
pub mod syntax;
mod types;
pub mod value;
