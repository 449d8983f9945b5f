//! The Symbiont agent language.

pub mod hir;
pub mod machine;
pub mod value;
