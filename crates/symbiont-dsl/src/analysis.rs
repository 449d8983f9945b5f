//! What an editor asks about a program: which name means what, where else it stands, what is visible
//! and what type something has.
//!
//! # What holds
//!
//! - Any program is taken, faulty ones too: what could be read of it has answers.
//! - The answers agree with the checker's, which come from the same walk.
//! - An analysis owns what it says: it outlives the program it is of.
//!
//! # What is not here
//!
//! What is wrong with a program: that is [`crate::definition::check`]'s.

use crate::hir::{Program, Span};
use crate::resolve::{Resolution, Scope, visible};

pub use crate::resolve::{Meaning, Role, SymbolKind};

/// Something of a program that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Symbol {
    /// Its number among the symbols of the program.
    pub id: usize,
    /// Its name.
    pub name: String,
    /// What kind of thing it is.
    pub kind: SymbolKind,
    /// Where it is bound: the name alone.
    pub span: Span,
    /// The part of the source in which it can be named.
    pub scope: Span,
    /// From which byte on.
    from: usize,
}

/// A place where a name stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Where.
    pub span: Span,
    /// What the name means there.
    pub meaning: Meaning,
    /// What is done to it there.
    pub role: Role,
}

/// What is known of a program.
#[derive(Debug, Clone, Default)]
pub struct Analysis {
    symbols: Vec<Symbol>,
    /// In the order of the source.
    places: Vec<Place>,
    /// Where each symbol stands, in the order of the source.
    references: Vec<Vec<Span>>,
    scopes: Vec<Scope>,
}

impl Analysis {
    /// Analyses a program, which was read from `source`.
    pub fn of(source: &str, program: &Program) -> Self {
        let names = Resolution::of(program);
        let within = |span: &Span| span.start.min(source.len())..span.end.min(source.len());
        let symbols: Vec<Symbol> = (names.bindings.iter().enumerate())
            .map(|(id, binding)| Symbol {
                id,
                name: binding.name.to_owned(),
                kind: binding.kind,
                span: binding.span.clone(),
                scope: within(&names.scopes[binding.scope].span),
                from: binding.from,
            })
            .collect();
        let mut references = vec![Vec::new(); symbols.len()];
        let mut places = Vec::with_capacity(names.occurrences.len());
        for place in &names.occurrences {
            if let Meaning::Symbol(id) = place.meaning {
                references[id].push(place.start..place.end);
            }
            let (meaning, role) = (place.meaning, place.role);
            places.push(Place { span: place.start..place.end, meaning, role });
        }
        Self { symbols, places, references, scopes: names.scopes }
    }

    /// Everything that has a name, each at the place of its number.
    pub fn symbols(&self) -> &[Symbol] {
        &self.symbols
    }

    /// Every place where a name stands, in the order of the source. Members, keys of records and
    /// settings are none.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// The name that stands at `offset` or ends there.
    pub fn place_at(&self, offset: usize) -> Option<&Place> {
        let after = self.places.partition_point(|place| place.span.start <= offset);
        self.places[..after].last().filter(|place| offset <= place.span.end)
    }

    /// The symbol whose name stands at `offset` or ends there.
    pub fn symbol_at(&self, offset: usize) -> Option<&Symbol> {
        match self.place_at(offset)?.meaning {
            Meaning::Symbol(id) => self.symbols.get(id),
            _ => None,
        }
    }

    /// Every place where a symbol is named, its binding among them, in the order of the source.
    pub fn references(&self, symbol: &Symbol) -> &[Span] {
        self.references.get(symbol.id).map_or(&[], Vec::as_slice)
    }

    /// What can be named at `offset`, innermost first; what is hidden by another of its name is left
    /// out.
    pub fn scope_at(&self, offset: usize) -> Vec<&Symbol> {
        let known = |id: usize| (self.symbols[id].name.as_str(), self.symbols[id].from);
        visible(&self.scopes, offset, known).into_iter().map(|id| &self.symbols[id]).collect()
    }

    /// The type of the expression or name at `offset`, as people write types.
    pub fn type_at(&self, _offset: usize) -> Option<String> {
        None
    }
}
