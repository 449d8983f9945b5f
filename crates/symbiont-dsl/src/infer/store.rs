//! Types as inference handles them: each is made once and is a small number afterwards.
//!
//! # What holds
//!
//! - A declared type is followed only when something depends on what it is, so that types may speak of
//!   themselves and of each other.
//! - Comparing costs at most [`FUEL`] steps in a file; beyond that everything fits everything.
//! - A type is shown within [`LONGEST`] bytes.

use crate::hir::{Program, Type, TypeKind};
use crate::resolve::Names;
use crate::syntax::literal::short;
use crate::types::{Types, is_option};

/// How many types are compared with each other in a file.
const FUEL: usize = 1_000_000;

/// How deeply types are compared; what is deeper is taken to fit.
const DEEPEST: u32 = 64;

/// Up to how many fields are looked through for one.
const SMALL: usize = 8;

/// About how long a type is when it is shown.
const LONGEST: usize = 200;

/// The number of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TyId(u32);

/// A type, one level of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Ty<'a> {
    /// Nobody knows.
    Any,
    /// What never gives a value: a block that is left before its end.
    Never,
    Null,
    Bool,
    Int,
    Float,
    String,
    Duration,
    Size,
    Bytes,
    Time,
    Error,
    Secret,
    Function,
    Memory,
    Array(TyId),
    Map(TyId),
    Option(TyId),
    Result(TyId, TyId),
    /// The fields are in the store; those of a type that somebody wrote are marked.
    Record {
        fields: u32,
        written: bool,
    },
    /// A declared type, by its place in the program.
    Declared(u32),
    /// A type that nobody defined.
    Opaque(&'a str),
}

/// The types that have numbers of their own, in the order of their numbers.
const FIXED: [Ty<'static>; 15] = [
    Ty::Any,
    Ty::Never,
    Ty::Null,
    Ty::Bool,
    Ty::Int,
    Ty::Float,
    Ty::String,
    Ty::Duration,
    Ty::Size,
    Ty::Bytes,
    Ty::Time,
    Ty::Error,
    Ty::Secret,
    Ty::Function,
    Ty::Memory,
];

#[expect(non_upper_case_globals, reason = "they read as the variants that they are the numbers of")]
impl TyId {
    pub(crate) const Any: TyId = TyId(0);
    pub(crate) const Never: TyId = TyId(1);
    pub(crate) const Null: TyId = TyId(2);
    pub(crate) const Bool: TyId = TyId(3);
    pub(crate) const Int: TyId = TyId(4);
    pub(crate) const Float: TyId = TyId(5);
    pub(crate) const String: TyId = TyId(6);
    pub(crate) const Duration: TyId = TyId(7);
    pub(crate) const Size: TyId = TyId(8);
    pub(crate) const Time: TyId = TyId(10);
    pub(crate) const Error: TyId = TyId(11);
    pub(crate) const Secret: TyId = TyId(12);
    pub(crate) const Function: TyId = TyId(13);
    pub(crate) const Memory: TyId = TyId(14);
}

/// The name of a field and its type.
pub(crate) type Field<'a> = (&'a str, TyId);

/// The types of a program.
pub(crate) struct Store<'a> {
    types: Vec<Ty<'a>>,
    numbers: Names<Ty<'a>, TyId>,
    records: Vec<Vec<Field<'a>>>,
    /// Where the fields of large records are.
    places: Names<(u32, &'a str), usize>,
    /// The declared types by name, and what each stands for once somebody has asked.
    declared: Names<&'a str, u32>,
    names: Vec<&'a str>,
    heads: Vec<Option<TyId>>,
    aliases: Types<'a>,
    /// Pairs that were compared. One that is being compared counts as fitting, which ends the
    /// comparison of types that speak of themselves.
    fits: Names<(TyId, TyId), bool>,
    fuel: usize,
}

/// What `T` and `Self` stand for in the type of a result.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inside {
    pub(crate) element: TyId,
    pub(crate) itself: TyId,
}

impl<'a> Store<'a> {
    pub(crate) fn of(program: &'a Program) -> Self {
        let names: Vec<&str> = program.types.iter().map(|ty| ty.name.node.as_str()).collect();
        let numbered = names.iter().zip(0..).map(|(name, number)| (*name, number));
        Self {
            types: FIXED.to_vec(),
            numbers: FIXED.into_iter().zip((0..).map(TyId)).collect(),
            records: Vec::new(),
            places: Names::default(),
            declared: numbered.collect(),
            heads: vec![None; names.len()],
            names,
            aliases: Types::of(program),
            fits: Names::default(),
            fuel: FUEL,
        }
    }

    pub(crate) fn make(&mut self, ty: Ty<'a>) -> TyId {
        let next = TyId(u32::try_from(self.types.len()).unwrap_or(0));
        let types = &mut self.types;
        *self.numbers.entry(ty).or_insert_with(|| {
            types.push(ty);
            next
        })
    }

    pub(crate) fn array(&mut self, of: TyId) -> TyId {
        self.make(Ty::Array(of))
    }

    /// A record. One that is inferred is a type of its own.
    pub(crate) fn record(&mut self, fields: Vec<Field<'a>>, written: bool) -> TyId {
        let number = u32::try_from(self.records.len()).unwrap_or(0);
        if fields.len() > SMALL {
            let places = fields.iter().enumerate().map(|(at, (name, _))| ((number, *name), at));
            self.places.extend(places);
        }
        self.records.push(fields);
        self.make(Ty::Record { fields: number, written })
    }

    pub(crate) fn fields(&self, number: u32) -> &[Field<'a>] {
        &self.records[number as usize]
    }

    /// The type of a field, if the record has one of that name.
    pub(crate) fn field(&self, number: u32, name: &'a str) -> Option<TyId> {
        let fields = self.fields(number);
        let found = if fields.len() > SMALL {
            self.places.get(&(number, name)).map(|at| &fields[*at])
        } else {
            fields.iter().find(|(known, _)| *known == name)
        };
        found.map(|(_, ty)| *ty)
    }

    /// A written type.
    pub(crate) fn lower(&mut self, ty: &'a Type) -> TyId {
        self.lower_in(ty, None)
    }

    /// A written type; `inside` is given where `T` and `Self` stand for something, and the types that
    /// cannot be written have names.
    pub(crate) fn lower_in(&mut self, ty: &'a Type, inside: Option<Inside>) -> TyId {
        let (name, arguments) = match &ty.kind {
            TypeKind::Record(fields) => {
                let fields = fields
                    .iter()
                    .map(|(name, ty)| (name.node.as_str(), self.lower_in(ty, inside)))
                    .collect();
                return self.record(fields, inside.is_none());
            }
            TypeKind::Named(name, arguments) => (name.as_str(), arguments),
        };
        match (name, inside) {
            ("T", Some(inside)) => return inside.element,
            ("Self", Some(inside)) => return inside.itself,
            ("error", Some(_)) => return TyId::Error,
            ("null", Some(_)) => return TyId::Null,
            ("secret", Some(_)) => return TyId::Secret,
            (_, None) => {
                if let Some(&number) = self.declared.get(name) {
                    return self.make(Ty::Declared(number));
                }
            }
            (_, Some(_)) => {}
        }
        let mut argument =
            |at: usize| arguments.get(at).map_or(TyId::Any, |ty| self.lower_in(ty, inside));
        let made = match name {
            "any" | "JSON" | "Value" | "" => Ty::Any,
            "String" => Ty::String,
            "int" => Ty::Int,
            "float" => Ty::Float,
            "bool" => Ty::Bool,
            "duration" => Ty::Duration,
            "size" => Ty::Size,
            "bytes" => Ty::Bytes,
            "time" => Ty::Time,
            "Array" | "List" => Ty::Array(argument(0)),
            // With one argument alone nobody can tell which it is.
            "Map" => Ty::Map(argument(1)),
            "Result" => Ty::Result(argument(0), argument(1)),
            name if is_option(name) => Ty::Option(argument(0)),
            name => Ty::Opaque(name),
        };
        self.make(made)
    }

    /// The declared type of this name.
    pub(crate) fn declared(&mut self, name: &str) -> TyId {
        match self.declared.get(name) {
            Some(&number) => self.make(Ty::Declared(number)),
            None => TyId::Any,
        }
    }

    /// What a type is, through the names of declared types.
    pub(crate) fn head(&mut self, id: TyId) -> Ty<'a> {
        match self.types[id.0 as usize] {
            Ty::Declared(number) => {
                let meant = self.meant(number);
                self.types[meant.0 as usize]
            }
            ty => ty,
        }
    }

    /// The place of a declared type in the program.
    pub(crate) fn declaration(&self, id: TyId) -> Option<usize> {
        match self.types[id.0 as usize] {
            Ty::Declared(number) => Some(number as usize),
            _ => None,
        }
    }

    fn meant(&mut self, number: u32) -> TyId {
        if let Some(known) = self.heads[number as usize] {
            return known;
        }
        let meant = self.aliases.meant(self.names[number as usize]);
        let meant = meant.map_or(TyId::Any, |ty| self.lower(ty));
        self.heads[number as usize] = Some(meant);
        meant
    }

    /// Whether a value of the type `from` may stand where `to` is written.
    pub(crate) fn fits(&mut self, from: TyId, to: TyId) -> bool {
        self.fits_within(from, to, DEEPEST)
    }

    /// Takes the cost of comparing so many fields; `false` where it is too much.
    pub(crate) fn affords(&mut self, fields: usize) -> bool {
        let rest = self.fuel.checked_sub(fields);
        self.fuel = rest.unwrap_or(0);
        rest.is_some()
    }

    fn fits_within(&mut self, from: TyId, to: TyId, depth: u32) -> bool {
        let Some(depth) = depth.checked_sub(1).filter(|_| self.affords(1)) else { return true };
        if from == to {
            return true;
        }
        match (self.head(from), self.head(to)) {
            (Ty::Any | Ty::Never | Ty::Opaque(_), _) | (_, Ty::Any | Ty::Opaque(_)) => true,
            (Ty::Int, Ty::Float) | (Ty::Secret, Ty::String) | (Ty::Null, Ty::Option(_)) => true,
            (Ty::Result(a, b), Ty::Result(c, d)) => {
                self.fits_within(a, c, depth) && self.fits_within(b, d, depth)
            }
            // What is no result yet may be meant as one: an error, or the value itself.
            (_, Ty::Result(..)) => true,
            (Ty::Option(a), Ty::Option(b))
            | (Ty::Array(a), Ty::Array(b))
            | (Ty::Map(a), Ty::Map(b)) => self.fits_within(a, b, depth),
            (_, Ty::Option(b)) => self.fits_within(from, b, depth),
            // What is in a map is seen when it is read.
            (Ty::Map(_), Ty::Record { .. }) => true,
            (Ty::Record { fields, .. }, Ty::Map(b)) => self.remembered(from, to, |store| {
                (0..store.fields(fields).len())
                    .all(|at| store.fits_within(store.fields(fields)[at].1, b, depth))
            }),
            (Ty::Record { fields: a, .. }, Ty::Record { fields: b, .. }) => {
                a == b || self.remembered(from, to, |store| store.record_fits(a, b, depth))
            }
            (from, to) => from == to,
        }
    }

    /// What comparing the two types gave, or gives now.
    fn remembered(&mut self, from: TyId, to: TyId, compare: impl Fn(&mut Self) -> bool) -> bool {
        if let Some(&known) = self.fits.get(&(from, to)) {
            return known;
        }
        self.fits.insert((from, to), true);
        let fits = compare(self);
        self.fits.insert((from, to), fits);
        fits
    }

    fn record_fits(&mut self, a: u32, b: u32, depth: u32) -> bool {
        (0..self.fields(b).len()).all(|at| {
            let (name, wanted) = self.fields(b)[at];
            match self.field(a, name) {
                Some(given) => self.fits_within(given, wanted, depth),
                None => self.may_be_missing(wanted),
            }
        })
    }

    /// Whether a field of this type may be left out.
    pub(crate) fn may_be_missing(&mut self, id: TyId) -> bool {
        matches!(self.head(id), Ty::Option(_))
    }

    /// What a value is that has the one type or the other.
    pub(crate) fn join(&mut self, a: TyId, b: TyId) -> TyId {
        match (self.types[a.0 as usize], self.types[b.0 as usize]) {
            _ if a == b => a,
            (Ty::Never, _) => b,
            (_, Ty::Never) => a,
            (Ty::Int, Ty::Float) | (Ty::Float, Ty::Int) => TyId::Float,
            (Ty::Option(inner), Ty::Option(other)) => match (inner, other) {
                (TyId::Any, known) | (known, TyId::Any) => self.make(Ty::Option(known)),
                _ => self.make(Ty::Option(TyId::Any)),
            },
            (Ty::Array(_), Ty::Array(_)) => self.array(TyId::Any),
            (Ty::Map(_), Ty::Map(_)) => self.make(Ty::Map(TyId::Any)),
            (Ty::Result(..), Ty::Result(..)) => self.make(Ty::Result(TyId::Any, TyId::Any)),
            (Ty::Record { fields, written }, Ty::Record { fields: other, .. })
                if self.fields(fields).len() <= SMALL
                    && self.fields(fields) == self.fields(other) =>
            {
                self.make(Ty::Record { fields, written })
            }
            _ => TyId::Any,
        }
    }

    /// The type as people write it.
    pub(crate) fn show(&self, id: TyId) -> String {
        let mut out = String::new();
        self.write(id, &mut out, 4);
        out
    }

    fn write(&self, id: TyId, out: &mut String, depth: u32) {
        let ty = self.types[id.0 as usize];
        if depth == 0 || out.len() > LONGEST {
            out.push_str("...");
            return;
        }
        let mut holds = |name: &str, inner: &[TyId]| {
            out.push_str(name);
            if inner.iter().all(|inner| *inner == TyId::Any) {
                return;
            }
            out.push('<');
            for (at, inner) in inner.iter().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                self.write(*inner, out, depth - 1);
            }
            out.push('>');
        };
        match ty {
            Ty::Array(inner) => holds("Array", &[inner]),
            Ty::Map(TyId::Any) => out.push_str("Map"),
            Ty::Map(inner) => holds("Map", &[TyId::String, inner]),
            Ty::Option(inner) => holds("Option", &[inner]),
            Ty::Result(ok, TyId::Any) => holds("Result", &[ok]),
            Ty::Result(ok, err) => holds("Result", &[ok, err]),
            Ty::Record { fields, .. } => {
                for (at, (name, ty)) in self.fields(fields).iter().enumerate() {
                    out.push_str(if at > 0 { ", " } else { "{ " });
                    if out.len() > LONGEST {
                        out.push_str("...");
                        break;
                    }
                    out.push_str(&short(name));
                    out.push_str(": ");
                    self.write(*ty, out, depth - 1);
                }
                out.push_str(if self.fields(fields).is_empty() { "{}" } else { " }" });
            }
            Ty::Declared(number) => out.push_str(&short(self.names[number as usize])),
            Ty::Opaque(name) => out.push_str(&short(name)),
            Ty::Any => out.push_str("any"),
            Ty::Never => out.push_str("nothing"),
            Ty::Null => out.push_str("null"),
            Ty::Bool => out.push_str("bool"),
            Ty::Int => out.push_str("int"),
            Ty::Float => out.push_str("float"),
            Ty::String => out.push_str("String"),
            Ty::Duration => out.push_str("duration"),
            Ty::Size => out.push_str("size"),
            Ty::Bytes => out.push_str("bytes"),
            Ty::Time => out.push_str("time"),
            Ty::Error => out.push_str("error"),
            Ty::Secret => out.push_str("secret"),
            Ty::Function => out.push_str("function"),
            Ty::Memory => out.push_str("memory"),
        }
    }
}
