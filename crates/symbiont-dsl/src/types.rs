//! The types of a program, by name.
//!
//! A name may stand for another name; where that ends is found once for each, so that a long chain
//! of aliases costs no more than its length, and a circle of them is nobody's type.

use std::collections::HashMap;

use crate::hir::{Program, Type, TypeDecl, TypeKind};

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

/// The types that stand for themselves, each with the names on the way back to it: those that no
/// value is of, since it would have no end. Of each circle the first in the file.
pub(crate) fn endless(program: &Program) -> Vec<(&TypeDecl, Vec<&str>)> {
    let number: HashMap<&str, usize> =
        (program.types.iter().enumerate()).map(|(at, ty)| (ty.name.node.as_str(), at)).collect();
    let needs: Vec<Vec<usize>> = (program.types.iter())
        .map(|ty| {
            let mut needed = Vec::new();
            part_of(&ty.ty, &mut |name| needed.extend(number.get(name)));
            needed
        })
        .collect();
    // What needs nothing that is left has values.
    let mut waits: Vec<usize> = needs.iter().map(Vec::len).collect();
    let mut needed_by: Vec<Vec<usize>> = vec![Vec::new(); needs.len()];
    for (at, needed) in needs.iter().enumerate() {
        needed.iter().for_each(|other| needed_by[*other].push(at));
    }
    let mut ready: Vec<usize> = (0..needs.len()).filter(|at| waits[*at] == 0).collect();
    while let Some(at) = ready.pop() {
        for other in &needed_by[at] {
            waits[*other] -= 1;
            if waits[*other] == 0 {
                ready.push(*other);
            }
        }
    }
    // What is left needs something that is left: whoever follows that comes into a circle.
    let mut walk_of = vec![0; needs.len()];
    let mut circles = Vec::new();
    for start in 0..needs.len() {
        let (mut at, mut path) = (start, Vec::new());
        while waits[at] > 0 && walk_of[at] == 0 {
            walk_of[at] = start + 1;
            path.push(at);
            at = needs[at].iter().copied().find(|next| waits[*next] > 0).unwrap_or(at);
        }
        if waits[at] > 0 && walk_of[at] == start + 1 {
            let circle = &path[path.iter().position(|on| *on == at).unwrap_or(0)..];
            let first = circle.iter().copied().min().unwrap_or(at);
            let turn = circle.iter().position(|on| *on == first).unwrap_or(0);
            let names = (circle[turn..].iter().chain(&circle[..turn]))
                .map(|on| program.types[*on].name.node.as_str());
            circles.push((&program.types[first], names.collect()));
        }
    }
    circles
}

/// Gives the names of which every value of a type has a value in it.
fn part_of<'a>(ty: &'a Type, give: &mut impl FnMut(&'a str)) {
    match &ty.kind {
        // An array, a map and an option may be empty, and a result may be an error.
        TypeKind::Named(name, _) => give(name),
        TypeKind::Record(fields) => fields.iter().for_each(|(_, ty)| part_of(ty, give)),
    }
}

/// Whether this is a name of `Option`.
pub(crate) fn is_option(name: &str) -> bool {
    matches!(name, "Option" | "Maybe" | "Optional")
}
