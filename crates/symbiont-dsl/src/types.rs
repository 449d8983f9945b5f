//! The types of a program, by name.
//!
//! A name may stand for another name; where that ends is found once for each, so that a long chain
//! of aliases costs no more than its length, and a circle of them is nobody's type.

use std::collections::HashMap;

use crate::hir::{Program, Type, TypeKind};

/// The types that everybody knows.
pub(crate) const BUILTIN_TYPES: &[&str] = &[
    "String", "int", "float", "bool", "duration", "size", "bytes", "time", "any", "Array", "List",
    "Map", "Option", "Maybe", "Optional", "Result", "JSON", "Value",
];

/// Whether everybody knows the type of this name.
pub(crate) fn is_builtin(name: &str) -> bool {
    BUILTIN_TYPES.contains(&name)
}

/// How many types stand between the brackets behind a type, at most.
pub(crate) fn arity(name: &str) -> usize {
    match name {
        "Array" | "List" => 1,
        "Map" | "Result" => 2,
        name if is_option(name) => 1,
        name if is_builtin(name) => 0,
        // Nobody knows what nobody defined.
        _ => usize::MAX,
    }
}

/// The types that somebody declared.
#[derive(Debug, Default)]
pub(crate) struct Types<'a> {
    /// What each name stands for, through all other names; `None` for what stands for nothing.
    meant: HashMap<&'a str, Option<&'a Type>>,
}

impl<'a> Types<'a> {
    pub(crate) fn of(program: &'a Program) -> Self {
        let declared: HashMap<&str, &Type> =
            program.types.iter().map(|ty| (ty.name.node.as_str(), &ty.ty)).collect();
        let mut meant: HashMap<&'a str, Option<&'a Type>> = HashMap::with_capacity(declared.len());
        for ty in &program.types {
            let mut chain = Vec::new();
            let mut name = ty.name.node.as_str();
            let end = loop {
                if let Some(end) = meant.get(name) {
                    break *end;
                }
                let Some(&ty) = declared.get(name) else { break None };
                // Whoever comes by here again before the end is known has walked in a circle.
                meant.insert(name, None);
                chain.push(name);
                match &ty.kind {
                    TypeKind::Named(next, _) if declared.contains_key(next.as_str()) => name = next,
                    TypeKind::Named(..) | TypeKind::Record(_) => break Some(ty),
                }
            };
            meant.extend(chain.into_iter().map(|name| (name, end)));
        }
        Self { meant }
    }

    /// What a declared name stands for, through all other names; `None` for one of a circle.
    pub(crate) fn meant(&self, name: &str) -> Option<&'a Type> {
        self.meant.get(name).copied().flatten()
    }

    /// Whether somebody declared a type of this name.
    pub(crate) fn is_declared(&self, name: &str) -> bool {
        self.meant.contains_key(name)
    }

    /// What a type stands for, through all its names; `None` for one that stands for itself.
    pub(crate) fn resolve<'t>(&'t self, ty: &'t Type) -> Option<&'t Type> {
        match &ty.kind {
            TypeKind::Record(_) => Some(ty),
            TypeKind::Named(name, _) => match self.meant.get(name.as_str()) {
                Some(meant) => *meant,
                None => Some(ty),
            },
        }
    }

    /// Whether what is of this type may be missing: it is an `Option`, perhaps by another name.
    pub(crate) fn is_optional(&self, ty: Option<&Type>) -> bool {
        let resolved = ty.and_then(|ty| self.resolve(ty));
        matches!(resolved, Some(Type { kind: TypeKind::Named(name, _), .. }) if is_option(name))
    }
}

/// Whether this is a name of `Option`.
pub(crate) fn is_option(name: &str) -> bool {
    matches!(name, "Option" | "Maybe" | "Optional")
}
