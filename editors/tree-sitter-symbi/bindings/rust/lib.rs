//! The Symbiont agent language for [tree-sitter], which editors read it with.
//!
//! The parser is generated from `grammar.js` and committed, so that a C compiler is all that is
//! needed to build it. The language's own parser, which explains what is wrong with a program, is
//! in the crate `symbiont-dsl`; where that one finds no fault, this one finds none.
//!
//! [tree-sitter]: https://tree-sitter.github.io

#![warn(missing_docs)]

use tree_sitter_language::LanguageFn;

#[expect(unsafe_code, reason = "the generated parser is in C")]
mod generated {
    unsafe extern "C" {
        pub(super) fn tree_sitter_symbi() -> *const ();
    }

    /// # Safety
    ///
    /// The function gives a language that lives as long as the program, which is what
    /// `LanguageFn` asks for: it returns the address of a constant.
    pub(super) const LANGUAGE: super::LanguageFn =
        // SAFETY: as above.
        unsafe { super::LanguageFn::from_raw(tree_sitter_symbi) };
}

/// The language.
pub const LANGUAGE: LanguageFn = generated::LANGUAGE;

/// How to colour it.
pub const HIGHLIGHTS_QUERY: &str = include_str!("../../queries/highlights.scm");
/// Which names belong together.
pub const LOCALS_QUERY: &str = include_str!("../../queries/locals.scm");
/// What may be folded.
pub const FOLDS_QUERY: &str = include_str!("../../queries/folds.scm");
/// How far lines are indented.
pub const INDENTS_QUERY: &str = include_str!("../../queries/indents.scm");
/// Which parts are in another language.
pub const INJECTIONS_QUERY: &str = include_str!("../../queries/injections.scm");
/// What is defined and used where.
pub const TAGS_QUERY: &str = include_str!("../../queries/tags.scm");
