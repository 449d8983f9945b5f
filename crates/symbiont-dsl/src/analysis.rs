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

use crate::diagnostic::Sink;
use crate::hir::{Function, Program, Span, TypeKind};
use crate::infer::{Inferred, Ty, TyId, infer, kind};
use crate::resolve::{Names, Origin, Resolution, Scope, visible};
use crate::signatures::{self, FUNCTIONS, Signature};
use crate::syntax::{SyntaxKind, lex};

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
    /// What it takes and gives, if it is a builtin or a host call.
    pub signature: Option<&'static Signature>,
}

/// Something that can stand behind the dot after a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// The type of a field, or the signature of a method.
    pub detail: String,
    /// Whether it is a method, and not a field.
    pub is_method: bool,
    /// Where it is declared: the name alone, if it is a field of a type that the program declares.
    pub declared: Option<Span>,
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
    /// The types that something has.
    types: Vec<Type>,
    /// The type of each expression: those that begin first come first, and of those the longest.
    expressions: Vec<(Span, usize)>,
    /// The names of members, in the order of the source, each with the type that it belongs to and its
    /// number among what is in it.
    members: Vec<(Span, usize, usize)>,
    /// The type of each symbol that has one.
    typed: Vec<Option<usize>>,
}

/// A type, as it is shown, and what stands behind the dot after it.
#[derive(Debug, Clone)]
struct Type {
    text: String,
    members: Vec<Member>,
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
                span: bare(source, &binding.span),
                scope: within(&names.scopes[binding.scope].span),
                from: binding.from,
            })
            .collect();
        let mut references = vec![Vec::new(); symbols.len()];
        let mut places = Vec::with_capacity(names.occurrences.len());
        for place in &names.occurrences {
            let span = bare(source, &(place.start..place.end));
            if let Meaning::Symbol(id) = place.meaning {
                references[id].push(span.clone());
            }
            let (meaning, role) = (place.meaning, place.role);
            let name = source.get(span.clone());
            let signature = match meaning {
                Meaning::Builtin | Meaning::HostCall => name.and_then(signatures::function),
                _ => None,
            };
            places.push(Place { span, meaning, role, signature });
        }
        let mut types = Shown {
            program,
            inferred: infer(program, &names),
            types: Vec::new(),
            numbers: Names::default(),
        };
        let mut expressions: Vec<(Span, usize)> = std::mem::take(&mut types.inferred.expressions)
            .into_iter()
            .map(|(span, ty)| (span, types.number(ty)))
            .collect();
        expressions.sort_by_key(|(span, _)| (span.start, std::cmp::Reverse(span.end)));
        let mut members: Vec<(Span, usize, usize)> = std::mem::take(&mut types.inferred.members)
            .into_iter()
            .filter_map(|(name, of)| {
                let of = types.number(of);
                let found = types.types[of].members.iter().position(|it| it.name == name.node)?;
                Some((name.span.clone(), of, found))
            })
            .collect();
        members.sort_by_key(|(span, ..)| span.start);
        let typed = (0..symbols.len()).map(|id| types.of_binding(&names, id)).collect();
        let (scopes, types) = (names.scopes, types.types);
        Self { symbols, places, references, scopes, types, expressions, members, typed }
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

    /// The type of what stands at `offset`, as people write types: of a name, or of the smallest
    /// expression around. A function, builtin or host call has its signature.
    pub fn type_at(&self, offset: usize) -> Option<String> {
        if let Some(place) = self.place_at(offset) {
            match place.meaning {
                Meaning::Symbol(id) => {
                    let written = || self.typed[id].map(|ty| self.types[ty].text.clone());
                    // A variable has the type that it has here.
                    let is_variable = self.symbols[id].kind == SymbolKind::Variable;
                    let here = is_variable.then(|| self.expression(&place.span)).flatten();
                    return here.map(|ty| ty.text.clone()).or_else(written);
                }
                _ => {
                    if let Some(signature) = place.signature {
                        return Some(signature.to_string());
                    }
                }
            }
        }
        let around = |(span, _): &&(Span, usize)| span.start <= offset && offset <= span.end;
        let smallest = self.expressions.iter().filter(around).min_by_key(|(span, _)| span.len());
        smallest.map(|(_, ty)| self.types[*ty].text.clone())
    }

    fn expression(&self, span: &Span) -> Option<&Type> {
        let first = self.expressions.partition_point(|(other, _)| other.start < span.start);
        let beginning = self.expressions[first..].iter().take_while(|(o, _)| o.start == span.start);
        let found = beginning.into_iter().find(|(other, _)| other == span);
        found.map(|(_, ty)| &self.types[*ty])
    }

    /// The member whose name stands at `offset` or ends there, behind a dot or as a key of a record.
    pub fn member_at(&self, offset: usize) -> Option<&Member> {
        let after = self.members.partition_point(|(span, ..)| span.start <= offset);
        let (span, ty, number) = self.members[..after].last()?;
        (offset <= span.end).then(|| &self.types[*ty].members[*number])
    }

    /// Every place where a field is named that is declared at a place, in the order of the source, that of
    /// its declaration left out.
    pub fn field_references(&self, declared: &Span) -> Vec<Span> {
        let of = |(_, ty, number): &&(Span, usize, usize)| {
            self.types[*ty].members[*number].declared.as_ref() == Some(declared)
        };
        self.members.iter().filter(of).map(|(span, ..)| span.clone()).collect()
    }

    /// What can stand behind a dot at `offset`, where the expression before it ends: fields, then
    /// methods. Empty where nobody knows.
    pub fn members_at(&self, offset: usize) -> &[Member] {
        let before = self.expressions.iter().filter(|(span, _)| span.end == offset);
        let longest = before.max_by_key(|(span, _)| span.len());
        longest.map_or(&[], |(_, ty)| self.types[*ty].members.as_slice())
    }
}

/// The name alone, without the parentheses that an expression has around it.
fn bare(source: &str, span: &Span) -> Span {
    let Some(text) = source.get(span.clone()).filter(|text| text.starts_with('(')) else {
        return span.clone();
    };
    let tokens = lex(text, &mut Sink::default()).tokens;
    let name = tokens.iter().find(|token| token.kind == SyntaxKind::Name);
    name.map_or(span.clone(), |name| {
        span.start + name.start as usize..span.start + name.end as usize
    })
}

/// The types that were shown so far.
struct Shown<'a> {
    program: &'a Program,
    inferred: Inferred<'a>,
    types: Vec<Type>,
    numbers: Names<TyId, usize>,
}

impl Shown<'_> {
    fn number(&mut self, ty: TyId) -> usize {
        if let Some(&known) = self.numbers.get(&ty) {
            return known;
        }
        let text = self.inferred.store.show(ty);
        let members = self.members(ty);
        self.types.push(Type { text, members });
        self.numbers.insert(ty, self.types.len() - 1);
        self.types.len() - 1
    }

    fn members(&mut self, ty: TyId) -> Vec<Member> {
        let declared =
            self.inferred.store.declaration(ty).map(|number| &self.program.types[number]);
        let declared = match declared.map(|declared| &declared.ty.kind) {
            Some(TypeKind::Record(fields)) => fields.as_slice(),
            Some(TypeKind::Named(..)) | None => &[],
        };
        let store = &mut self.inferred.store;
        let head = store.head(ty);
        let mut members = Vec::new();
        let method = |name: &str, detail: String| Member {
            name: name.to_owned(),
            detail,
            is_method: true,
            declared: None,
        };
        match head {
            Ty::Any | Ty::Opaque(_) | Ty::Never | Ty::Null => return members,
            Ty::Memory => {
                let rows = FUNCTIONS
                    .iter()
                    .filter_map(|row| Some((row.name.strip_prefix("memory.")?, row)));
                members.extend(rows.map(|(name, row)| method(name, row.to_string())));
                return members;
            }
            Ty::Record { fields, .. } => {
                members.extend(store.fields(fields).iter().map(|(name, ty)| {
                    Member {
                        name: (*name).to_owned(),
                        detail: store.show(*ty),
                        is_method: false,
                        declared: (declared.iter().find(|(field, _)| field.node == **name))
                            .map(|(field, _)| field.span.clone()),
                    }
                }));
            }
            _ => {}
        }
        members.extend(kind(head).methods().iter().map(|row| method(row.name, row.to_string())));
        members
    }

    fn of_binding(&mut self, names: &Resolution<'_>, id: usize) -> Option<usize> {
        let binding = &names.bindings[id];
        match (binding.kind, binding.origin) {
            (_, Origin::Function(function)) => {
                let text = self.signature(names, id, function);
                self.types.push(Type { text, members: Vec::new() });
                Some(self.types.len() - 1)
            }
            (SymbolKind::Parameter | SymbolKind::Variable | SymbolKind::Type, _) => {
                let ty = self.inferred.bindings[id];
                Some(self.number(ty))
            }
            _ => None,
        }
    }

    /// `name(a: int, b) -> String`
    fn signature(&self, names: &Resolution<'_>, id: usize, function: &Function) -> String {
        // As much as anyone reads.
        const MOST: usize = 20;
        let store = &self.inferred.store;
        let mut params: Vec<String> = (function.params.iter().take(MOST))
            .map(|param| match names.parameter(id, &param.name.node) {
                Some(number) if self.inferred.bindings[number] != TyId::Any => {
                    format!("{}: {}", param.name.node, store.show(self.inferred.bindings[number]))
                }
                _ => param.name.node.clone(),
            })
            .collect();
        if function.params.len() > MOST {
            params.push("...".to_owned());
        }
        let result = store.show(self.inferred.bindings[id]);
        format!("{}({}) -> {result}", function.name.node, params.join(", "))
    }
}
