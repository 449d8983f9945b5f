//! The types of a program, by name.

use std::collections::HashMap;

use crate::hir::{Program, Type, TypeKind};

/// The types that somebody declared.
#[derive(Debug, Default)]
pub(crate) struct Types<'a>(HashMap<&'a str, &'a Type>);

impl<'a> Types<'a> {
    pub(crate) fn of(program: &'a Program) -> Self {
        Self(program.types.iter().map(|ty| (ty.name.node.as_str(), &ty.ty)).collect())
    }

    /// What a type stands for, through all its names; `None` for one that stands for itself.
    pub(crate) fn resolve<'t>(&'t self, mut ty: &'t Type) -> Option<&'t Type> {
        for _ in 0..=self.0.len() {
            match &ty.kind {
                TypeKind::Record(_) => return Some(ty),
                TypeKind::Named(name, _) => match self.0.get(name.as_str()) {
                    Some(alias) => ty = alias,
                    None => return Some(ty),
                },
            }
        }
        None
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
