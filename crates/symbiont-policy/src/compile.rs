//! From a rule to a policy of Cedar.
//!
//! Every rule becomes one `permit`, whatever its effect: that it is satisfied says that the rule
//! matches, and what follows from that is `decide.rs`'s affair.
//!
//! # What holds
//!
//! - A condition is true, false or unknown; unknown is what speaks of a missing fact or compares
//!   what doesn't compare. `not`, `all` and `any` treat it as Kleene's logic does.
//! - A rule that allows matches where its condition is true ([`Reading::True`]); any other where it
//!   is not false ([`Reading::NotFalse`]). Both readings are written with guards, so that Cedar
//!   never errs on them.
//! - A text of a rule gets into Cedar as a literal of its syntax tree, never through its parser.

use std::collections::BTreeMap;
use std::sync::Arc;

use cedar_policy::pst::{
    ActionConstraint, BinaryOp, Clause, EntityOrSlot, EntityType, EntityUID, Expr, Literal, Name,
    PatternElem, PrincipalConstraint, ResourceConstraint, Template, UnaryOp, Var,
};
use symbiont_types::{Comparison, Condition, Operand, PolicyRule, PolicyValue, PrincipalSelector};

use symbiont_dsl::formula::Formula;

use crate::fact::{self, Build, Demand, Fact, Kind, Source, Term};
use crate::glob::{self, Pattern};

/// The type of the principal, the agent that asks.
pub(crate) const AGENT: &str = "Agent";
/// The type of the action, the operation's name.
pub(crate) const ACTION: &str = "Action";
/// The type of the resource, the operation's part after the colon.
pub(crate) const RESOURCE: &str = "Resource";

type Tree = Arc<Expr>;

/// What of a condition has to hold for the rule to match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// It is true.
    True,
    /// It is true or unknown.
    NotFalse,
}

impl Reading {
    fn of_negated(self) -> Self {
        match self {
            Self::True => Self::NotFalse,
            Self::NotFalse => Self::True,
        }
    }

    fn unknown(self) -> Tree {
        flag(self == Self::NotFalse)
    }

    /// `value` where it is `known`; `value` is not evaluated elsewhere.
    fn guarded(self, known: Tree, value: Tree) -> Tree {
        match self {
            Self::True => and(known, value),
            Self::NotFalse => or(not(known), value),
        }
    }
}

/// The context's attributes that rules read, by key.
pub(crate) type Demands = BTreeMap<String, Demand>;

/// The `permit` that is satisfied when `rule` matches; `id` names it in Cedar's answers.
///
/// What it reads from the context is added to `demands`.
pub(crate) fn rule(
    id: &str,
    rule: &PolicyRule,
    reading: Reading,
    demands: &mut Demands,
) -> Template {
    let mut compiler = Compiler { demands };
    let patterns: Vec<_> = rule.operations.iter().map(|text| Pattern::new(text)).collect();
    let (action, resource, operations) = compiler.operations(&patterns);
    let (principal, principals) = compiler.principals(&rule.principals);
    let resources = if rule.resources.is_empty() {
        flag(true)
    } else {
        let resource = compiler.fact(&["resource".to_owned()]);
        let some = rule.resources.iter().map(|glob| like(resource.member("text"), glob)).collect();
        and(resource.is_there(), any(some))
    };
    let conditions =
        rule.conditions.iter().map(|condition| compiler.condition(condition, reading)).collect();
    let clauses = [operations, principals, resources, all(conditions)]
        .into_iter()
        .filter(|clause| *clause != flag(true))
        .map(Clause::When);
    Template::new(id, cedar_policy::pst::Effect::Permit, principal, action, resource)
        .try_with_clauses(clauses)
        .expect("the compiler writes neither slots nor unknowns")
}

struct Compiler<'a> {
    demands: &'a mut Demands,
}

/// An attribute of the context.
#[derive(Clone)]
struct Place {
    key: String,
}

impl Place {
    fn value(&self) -> Tree {
        get(Arc::new(Expr::Var(Var::Context)), &self.key)
    }

    fn member(&self, name: &str) -> Tree {
        get(self.value(), name)
    }

    fn is_there(&self) -> Tree {
        has(Arc::new(Expr::Var(Var::Context)), &self.key)
    }

    fn is_of(&self, kind: Kind) -> Tree {
        has(self.value(), kind.member())
    }

    /// It has a kind at all.
    fn is_comparable(&self) -> Tree {
        binary(BinaryOp::NotEq, self.value(), Tree::record([]))
    }
}

/// One side of a comparison.
enum Side {
    Known(Fact),
    /// A literal that compares with nothing.
    Incomparable,
    Read(Place, Source),
}

impl Compiler<'_> {
    fn demand(&mut self, demand: Demand) -> Place {
        let key = demand.key();
        self.demands.insert(key.clone(), demand);
        Place { key }
    }

    fn fact(&mut self, path: &[String]) -> Place {
        self.demand(Demand::Fact(Source::Path(path.to_vec())))
    }

    fn side(&mut self, operand: &Operand) -> Side {
        match term(operand) {
            Term::Written(value) => Fact::of(&value).map_or(Side::Incomparable, Side::Known),
            Term::Read(source) => {
                let place = self.demand(Demand::Fact(source.clone()));
                Side::Read(place, source)
            }
        }
    }

    fn operations(
        &mut self,
        patterns: &[Pattern<'_>],
    ) -> (ActionConstraint, ResourceConstraint, Tree) {
        let mut names: Option<Vec<&str>> = Some(Vec::new());
        let mut each = Vec::new();
        for &pattern in patterns {
            let name = match pattern {
                Pattern::Every | Pattern::NameLike(_) | Pattern::Like(_) => None,
                Pattern::Name(name) | Pattern::Under(name, _) => Some(name),
                Pattern::Exact(operation) => Some(glob::name_of(operation)),
            };
            names = names.zip(name).map(|(mut names, name)| {
                names.push(name);
                names
            });
            each.push(match pattern {
                Pattern::Every => flag(true),
                Pattern::Name(name) => is(Var::Action, entity(ACTION, name)),
                Pattern::NameLike(glob) => {
                    like(self.fact(&["action".to_owned()]).member("text"), glob)
                }
                Pattern::Exact(operation) => match parts(operation) {
                    Some((name, resource)) => {
                        let resource = is(Var::Resource, entity(RESOURCE, resource));
                        and(is(Var::Action, entity(ACTION, name)), resource)
                    }
                    None => binary(
                        BinaryOp::Eq,
                        self.fact(&["operation".to_owned()]).member("text"),
                        Tree::text(operation),
                    ),
                },
                Pattern::Under(_, glob) | Pattern::Like(glob) => {
                    like(self.fact(&["operation".to_owned()]).member("text"), glob)
                }
            });
        }
        let action = match names.as_deref() {
            None => ActionConstraint::Any,
            Some([name]) => ActionConstraint::Eq(entity(ACTION, name)),
            Some(names) => {
                let mut names = names.to_vec();
                names.sort_unstable();
                names.dedup();
                ActionConstraint::In(names.into_iter().map(|name| entity(ACTION, name)).collect())
            }
        };
        // What the scope says already need not be said again, and needs nothing of the context.
        if let [Pattern::Exact(operation)] = patterns
            && let Some((_, resource)) = parts(operation)
        {
            let resource = EntityOrSlot::Entity(entity(RESOURCE, resource));
            return (action, ResourceConstraint::Eq(resource), flag(true));
        }
        if patterns.iter().all(|pattern| matches!(pattern, Pattern::Name(_))) {
            return (action, ResourceConstraint::Any, flag(true));
        }
        (action, ResourceConstraint::Any, any(each))
    }

    fn principals(&mut self, selectors: &[PrincipalSelector]) -> (PrincipalConstraint, Tree) {
        match selectors {
            [] => return (PrincipalConstraint::Any, flag(true)),
            [PrincipalSelector::Id(id)] => {
                let agent = entity(AGENT, &id.to_string());
                return (PrincipalConstraint::Eq(EntityOrSlot::Entity(agent)), flag(true));
            }
            _ => {}
        }
        let each = selectors.iter().map(|selector| match selector {
            PrincipalSelector::Id(id) => is(Var::Principal, entity(AGENT, &id.to_string())),
            PrincipalSelector::Name(glob) => {
                like(self.fact(&["agent".to_owned(), "name".to_owned()]).member("text"), glob)
            }
            PrincipalSelector::Metadata { key, value } => {
                let place = self.fact(&["agent".to_owned(), "metadata".to_owned(), key.clone()]);
                let same = binary(BinaryOp::Eq, place.member("text"), Tree::text(value));
                and(place.is_there(), same)
            }
        });
        (PrincipalConstraint::Any, any(each.collect()))
    }

    fn condition(&mut self, condition: &Condition, reading: Reading) -> Tree {
        match condition {
            Condition::All(parts) => {
                all(parts.iter().map(|part| self.condition(part, reading)).collect())
            }
            Condition::Any(parts) => {
                any(parts.iter().map(|part| self.condition(part, reading)).collect())
            }
            Condition::Not(part) => not(self.condition(part, reading.of_negated())),
            Condition::Is(operand) => match self.side(operand) {
                Side::Known(Fact::Flag(value)) => flag(value),
                Side::Known(_) | Side::Incomparable => reading.unknown(),
                Side::Read(place, _) => reading.guarded(
                    and(place.is_there(), place.is_of(Kind::Flag)),
                    place.member(Kind::Flag.member()),
                ),
            },
            Condition::Compare { left, op, right } => {
                let (left, right) = (self.side(left), self.side(right));
                compare(&left, *op, &right, reading)
            }
            Condition::In { value, set } => self.contains(value, set, reading),
            Condition::Like { value, pattern } => match self.side(value) {
                Side::Known(Fact::Text(text)) => flag(glob::matches(pattern, &text)),
                Side::Known(_) | Side::Incomparable => reading.unknown(),
                Side::Read(place, _) => reading.guarded(
                    and(place.is_there(), place.is_of(Kind::Text)),
                    like(place.member(Kind::Text.member()), pattern),
                ),
            },
            Condition::TierAtLeast(tier) => binary(
                BinaryOp::GreaterEq,
                self.fact(&["agent".to_owned(), "tier".to_owned()]).member("whole"),
                Tree::long(*tier as i64),
            ),
            Condition::Has(path) => self.fact(path).is_there(),
            Condition::Inexpressible(_) => reading.unknown(),
        }
    }

    /// `value in set` is whether any element equals the value, or the value is a part of the text.
    fn contains(&mut self, value: &Operand, set: &Operand, reading: Reading) -> Tree {
        let (found, refuted) = match self.side(set) {
            Side::Known(Fact::List(elements)) => {
                let of = fact::common_kind(&elements);
                match self.side(value) {
                    Side::Incomparable => return reading.unknown(),
                    Side::Known(value) => {
                        let found = elements.contains(&value);
                        let comparable = value.kind() == Kind::Null
                            || [value.kind().member(), "any"].contains(&of);
                        (flag(found), flag(!found && comparable))
                    }
                    Side::Read(value, _) => {
                        let items = Tree::set(elements.iter().map(Fact::encode));
                        let found = binary(BinaryOp::Contains, items, value.value());
                        let comparable = Kind::ALL
                            .into_iter()
                            .filter(|kind| {
                                matches!(kind, Kind::Null) || [kind.member(), "any"].contains(&of)
                            })
                            .map(|kind| value.is_of(kind))
                            .collect();
                        (
                            and(value.is_there(), found.clone()),
                            all(vec![value.is_there(), any(comparable), not(found)]),
                        )
                    }
                }
            }
            Side::Known(Fact::Record(members)) => match self.side(value) {
                Side::Known(Fact::Text(name)) => {
                    let found = members.contains_key(&name);
                    (flag(found), flag(!found))
                }
                Side::Known(_) | Side::Incomparable => return reading.unknown(),
                Side::Read(..) => self.part(value, set),
            },
            Side::Known(Fact::Text(_)) => self.part(value, set),
            Side::Known(_) | Side::Incomparable => return reading.unknown(),
            Side::Read(place, source) => {
                let items = self.demand(Demand::Items(source));
                let of = |name: &str| binary(BinaryOp::Eq, items.member("of"), Tree::text(name));
                let (found, refuted) = match self.side(value) {
                    Side::Incomparable => return reading.unknown(),
                    Side::Known(value) => {
                        let found =
                            binary(BinaryOp::Contains, items.member("items"), value.encode());
                        let comparable = match value.kind() {
                            Kind::Null => flag(true),
                            kind => or(of("any"), of(kind.member())),
                        };
                        (
                            and(items.is_there(), found.clone()),
                            all(vec![items.is_there(), comparable, not(found)]),
                        )
                    }
                    Side::Read(value, _) => {
                        let there = and(items.is_there(), value.is_there());
                        let found =
                            binary(BinaryOp::Contains, items.member("items"), value.value());
                        let comparable = Kind::ALL
                            .into_iter()
                            .map(|kind| match kind {
                                Kind::Null => value.is_of(kind),
                                kind => and(value.is_of(kind), or(of("any"), of(kind.member()))),
                            })
                            .collect();
                        (
                            and(there.clone(), found.clone()),
                            all(vec![there, any(comparable), not(found)]),
                        )
                    }
                };
                let (part_found, part_refuted) = self.part(value, set);
                let (key_found, key_refuted) = key(value, &place);
                (
                    any(vec![found, part_found, key_found]),
                    any(vec![refuted, part_refuted, key_refuted]),
                )
            }
        };
        match reading {
            Reading::True => found,
            Reading::NotFalse => not(refuted),
        }
    }

    /// When the text `needle` is, and when it is not, part of the text or a key of the record
    /// `haystack`.
    fn part(&mut self, needle: &Operand, haystack: &Operand) -> (Tree, Tree) {
        let answer = self.demand(Demand::Part { needle: term(needle), haystack: term(haystack) });
        let value = answer.member(Kind::Flag.member());
        (and(answer.is_there(), value.clone()), and(answer.is_there(), not(value)))
    }
}

/// When a text that is written in the rule is, and when it is not, a key of the record there.
fn key(name: &Operand, of: &Place) -> (Tree, Tree) {
    let Operand::Literal(PolicyValue::String(name)) = name else {
        return (flag(false), flag(false));
    };
    let found = has(of.member(Kind::Record.member()), name);
    let is_record = and(of.is_there(), of.is_of(Kind::Record));
    (and(is_record.clone(), found.clone()), and(is_record, not(found)))
}

fn term(operand: &Operand) -> Term {
    match operand {
        Operand::Literal(value) => Term::Written(value.clone()),
        Operand::Attribute(path) => Term::Read(Source::Path(path.clone())),
        Operand::Formula(text) => {
            let formula = Formula::read(text).expect("the formulas of a set are checked before");
            Term::Read(Source::Formula(formula))
        }
    }
}

fn compare(left: &Side, op: Comparison, right: &Side, reading: Reading) -> Tree {
    match op {
        Comparison::Equal => equal(left, right, reading),
        Comparison::NotEqual => not(equal(left, right, reading.of_negated())),
        Comparison::Less => less(left, BinaryOp::Less, right, reading),
        Comparison::LessOrEqual => less(left, BinaryOp::LessEq, right, reading),
        Comparison::Greater => less(right, BinaryOp::Less, left, reading),
        Comparison::GreaterOrEqual => less(right, BinaryOp::LessEq, left, reading),
    }
}

fn equal(left: &Side, right: &Side, reading: Reading) -> Tree {
    match (left, right) {
        (Side::Incomparable, _) | (_, Side::Incomparable) => reading.unknown(),
        (Side::Known(left), Side::Known(right)) => {
            if left.kind() == right.kind() || [left.kind(), right.kind()].contains(&Kind::Null) {
                flag(left == right)
            } else {
                reading.unknown()
            }
        }
        (Side::Read(place, _), Side::Known(fact)) | (Side::Known(fact), Side::Read(place, _)) => {
            let comparable = match fact.kind() {
                Kind::Null => place.is_comparable(),
                kind => or(place.is_of(kind), place.is_of(Kind::Null)),
            };
            let same = binary(BinaryOp::Eq, place.value(), fact.encode());
            reading.guarded(and(place.is_there(), comparable), same)
        }
        (Side::Read(left, _), Side::Read(right, _)) => {
            let comparable = Kind::ALL
                .into_iter()
                .flat_map(|kind| match kind {
                    Kind::Null => vec![
                        and(left.is_of(kind), right.is_comparable()),
                        and(right.is_of(kind), left.is_comparable()),
                    ],
                    kind => vec![and(left.is_of(kind), right.is_of(kind))],
                })
                .collect();
            let same = binary(BinaryOp::Eq, left.value(), right.value());
            reading.guarded(all(vec![left.is_there(), right.is_there(), any(comparable)]), same)
        }
    }
}

/// Whether `left` is below `right`, or with `LessEq` at most it.
fn less(left: &Side, op: BinaryOp, right: &Side, reading: Reading) -> Tree {
    let mut guards = Vec::new();
    let mut parts = |side: &Side| match side {
        Side::Known(Fact::Number { whole, part }) => Some((Tree::long(*whole), Tree::long(*part))),
        Side::Known(_) | Side::Incomparable => None,
        Side::Read(place, _) => {
            guards.push(and(place.is_there(), place.is_of(Kind::Number)));
            Some((place.member("whole"), place.member("part")))
        }
    };
    let (Some((left_whole, left_part)), Some((right_whole, right_part))) =
        (parts(left), parts(right))
    else {
        return reading.unknown();
    };
    let value = or(
        binary(BinaryOp::Less, left_whole.clone(), right_whole.clone()),
        and(binary(BinaryOp::Eq, left_whole, right_whole), binary(op, left_part, right_part)),
    );
    reading.guarded(all(guards), value)
}

impl Build for Tree {
    fn flag(flag: bool) -> Self {
        Self::new(Expr::Literal(Literal::Bool(flag)))
    }

    fn long(number: i64) -> Self {
        Self::new(Expr::Literal(Literal::Long(number)))
    }

    fn text(text: &str) -> Self {
        Self::new(Expr::Literal(Literal::String(text.into())))
    }

    fn set(values: impl Iterator<Item = Self>) -> Self {
        Self::new(Expr::Set(values.collect()))
    }

    fn record(members: impl IntoIterator<Item = (String, Self)>) -> Self {
        Self::new(Expr::Record(members.into_iter().collect()))
    }
}

fn entity(kind: &str, id: &str) -> EntityUID {
    let name = Name::unqualified(kind).expect("the entity types are identifiers");
    EntityUID { ty: EntityType::from_name(name), eid: id.into() }
}

/// The name and the resource of an operation that nothing else has both of: without a resource it
/// would be mistaken for the operation without a colon.
fn parts(operation: &str) -> Option<(&str, &str)> {
    operation.split_once(':').filter(|(_, resource)| !resource.is_empty())
}

fn is(var: Var, uid: EntityUID) -> Tree {
    let uid = Arc::new(Expr::Literal(Literal::EntityUID(uid)));
    binary(BinaryOp::Eq, Arc::new(Expr::Var(var)), uid)
}

fn flag(value: bool) -> Tree {
    Tree::flag(value)
}

fn get(of: Tree, name: &str) -> Tree {
    Arc::new(Expr::GetAttr { expr: of, attr: name.into() })
}

fn has(of: Tree, name: &str) -> Tree {
    Arc::new(Expr::HasAttr { expr: of, attrs: (name.into(), Vec::new()).into() })
}

fn like(text: Tree, glob: &str) -> Tree {
    let element = |next| if next == '*' { PatternElem::Wildcard } else { PatternElem::Char(next) };
    Arc::new(Expr::Like { expr: text, pattern: glob.chars().map(element).collect() })
}

fn binary(op: BinaryOp, left: Tree, right: Tree) -> Tree {
    Arc::new(Expr::BinaryOp { op, left, right })
}

fn constant(tree: &Tree) -> Option<bool> {
    if let Expr::Literal(Literal::Bool(value)) = &**tree { Some(*value) } else { None }
}

fn not(tree: Tree) -> Tree {
    match (constant(&tree), &*tree) {
        (Some(value), _) => flag(!value),
        (None, Expr::UnaryOp { op: UnaryOp::Not, expr }) => expr.clone(),
        (None, _) => Arc::new(Expr::UnaryOp { op: UnaryOp::Not, expr: tree }),
    }
}

fn and(left: Tree, right: Tree) -> Tree {
    match (constant(&left), constant(&right)) {
        (Some(false), _) | (_, Some(false)) => flag(false),
        (Some(true), _) => right,
        (_, Some(true)) => left,
        (None, None) => binary(BinaryOp::And, left, right),
    }
}

fn or(left: Tree, right: Tree) -> Tree {
    match (constant(&left), constant(&right)) {
        (Some(true), _) | (_, Some(true)) => flag(true),
        (Some(false), _) => right,
        (_, Some(false)) => left,
        (None, None) => binary(BinaryOp::Or, left, right),
    }
}

fn all(parts: Vec<Tree>) -> Tree {
    fold(&parts, &and, true)
}

fn any(parts: Vec<Tree>) -> Tree {
    fold(&parts, &or, false)
}

/// Joins in halves, in order, so that many parts make a tree that is wide and not deep.
fn fold(parts: &[Tree], join: &impl Fn(Tree, Tree) -> Tree, empty: bool) -> Tree {
    match parts {
        [] => flag(empty),
        [one] => one.clone(),
        several => {
            let (left, right) = several.split_at(several.len() / 2);
            join(fold(left, join, empty), fold(right, join, empty))
        }
    }
}

/// How many conditions and values there are in `condition`, and how deep they nest; no deeper than
/// `depth` is looked. `None` if it nests deeper.
pub(crate) fn size(condition: &Condition, depth: usize) -> Option<usize> {
    let depth = depth.checked_sub(1)?;
    let operand = |operand: &Operand| match operand {
        Operand::Literal(value) => size_of_value(value, depth),
        Operand::Attribute(path) => Some(path.len()),
        Operand::Formula(_) => Some(1),
    };
    Some(
        1 + match condition {
            Condition::All(parts) | Condition::Any(parts) => {
                parts.iter().map(|part| size(part, depth)).sum::<Option<usize>>()?
            }
            Condition::Not(part) => size(part, depth)?,
            Condition::Is(value) | Condition::Like { value, .. } => operand(value)?,
            Condition::Compare { left, right, .. } | Condition::In { value: left, set: right } => {
                operand(left)? + operand(right)?
            }
            Condition::Has(path) => path.len(),
            Condition::TierAtLeast(_) | Condition::Inexpressible(_) => 0,
        },
    )
}

fn size_of_value(value: &PolicyValue, depth: usize) -> Option<usize> {
    let depth = depth.checked_sub(1)?;
    Some(
        1 + match value {
            PolicyValue::List(values) => {
                values.iter().map(|value| size_of_value(value, depth)).sum::<Option<usize>>()?
            }
            PolicyValue::Record(members) => {
                members.values().map(|value| size_of_value(value, depth)).sum::<Option<usize>>()?
            }
            PolicyValue::Null
            | PolicyValue::Bool(_)
            | PolicyValue::Int(_)
            | PolicyValue::Float(_)
            | PolicyValue::String(_) => 0,
        },
    )
}
