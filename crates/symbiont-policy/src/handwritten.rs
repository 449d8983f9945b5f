//! Rules written in Cedar's own words.

use std::collections::BTreeMap;
use std::sync::Arc;

use cedar_policy::pst::{
    ActionConstraint, Clause, Effect, EntityOrSlot, EntityUID, Expr, Literal, Policy,
    PrincipalConstraint, ResourceConstraint, Template, Var,
};
use miette::Diagnostic as _;
use symbiont_types::{AgentId, PolicyEffect};

use crate::compile::{ACTION, AGENT, Demands, RESOURCE};
use crate::fact::Demand;

/// Operators, dots, brackets and keywords in one text: each can nest one deeper, and Cedar's reader
/// goes down with them on the caller's stack.
const MAX_NESTING: usize = 200;

/// The text is not one policy that says what the rule says.
const UNREADABLE: &str = "P0110";
/// The policy names what no request has, so that it never applies, or always.
const UNREACHABLE: &str = "P0117";

/// A formula in it is none.
pub(crate) const NO_FORMULA: &str = "P0118";

/// What is wrong with a text, and which of its bytes.
pub(crate) struct Fault {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) span: Option<(usize, usize)>,
    pub(crate) suggestion: Option<String>,
}

impl From<String> for Fault {
    fn from(message: String) -> Self {
        Self { code: UNREADABLE, message, span: None, suggestion: None }
    }
}

/// A hand-written rule, read.
#[derive(Debug, Clone)]
pub(crate) struct Handwritten {
    body: Template,
    /// The operations that its scope names; `None` if it names none and so covers every one.
    pub(crate) operations: Option<Vec<String>>,
}

impl Handwritten {
    /// Reads `text` as one policy which says `effect`.
    pub(crate) fn read(text: &str, effect: &PolicyEffect) -> Result<Self, Fault> {
        if nesting(text) > MAX_NESTING {
            return Err(Fault {
                code: UNREADABLE,
                message: format!("the text has more than {MAX_NESTING} operators and brackets"),
                span: None,
                suggestion: Some("split it into several rules".to_owned()),
            });
        }
        let policy = cedar_policy::Policy::parse(None, text).map_err(|errors| {
            let error = errors.iter().next();
            let label = error.and_then(|error| error.labels()).and_then(|mut labels| labels.next());
            Fault {
                code: UNREADABLE,
                message: error.map_or_else(|| errors.to_string(), ToString::to_string),
                span: label.map(|label| (label.offset(), label.offset() + label.len())),
                suggestion: error.and_then(|error| error.help()).map(|help| help.to_string()),
            }
        })?;
        let body = match policy.to_pst().map_err(|error| error.to_string())? {
            Policy::Static(policy) => policy.body().clone(),
            Policy::Linked(_) => return Err("the text is a template's instance".to_owned().into()),
        };
        let said = match body.effect {
            Effect::Permit => PolicyEffect::Allow,
            Effect::Forbid => PolicyEffect::Deny,
        };
        let declared = match effect {
            PolicyEffect::Shadow(inner) => inner,
            other => other,
        };
        if *declared != said {
            return Err(Fault {
                code: UNREADABLE,
                message: format!(
                    "the text says `{}`, and the rule's effect is `{}`",
                    body.effect,
                    crate::words::effect(declared)
                ),
                span: None,
                suggestion: Some("`permit` is allow, and `forbid` is deny".to_owned()),
            });
        }
        if expressions(&body).any(uses_whole_context) {
            return Err(Fault {
                code: UNREADABLE,
                message: "`context` is used as a whole".to_owned(),
                span: None,
                suggestion: Some("name the attribute that is meant".to_owned()),
            });
        }
        reachable(&body)?;
        for attribute in expressions(&body).flat_map(attributes) {
            Demand::of_key(&attribute).map_err(|error| Fault {
                code: NO_FORMULA,
                message: format!("`{}` is no formula: {error}", crate::words::shown(&attribute)),
                span: None,
                suggestion: Some("a formula computes, and calls nobody".to_owned()),
            })?;
        }
        let operations = operations(&body);
        Ok(Self { body, operations })
    }

    /// The `permit` that is satisfied when the rule matches. What it may read from the context is
    /// added to `demands`.
    pub(crate) fn permit(&self, id: &str, demands: &mut Demands) -> Template {
        for attribute in expressions(&self.body).flat_map(attributes) {
            let demand = Demand::of_key(&attribute).expect("the attributes were read before");
            demands.insert(attribute, demand);
        }
        let mut body = self.body.clone().with_id(id.into());
        body.effect = Effect::Permit;
        body.annotations = BTreeMap::new();
        body
    }
}

fn expressions(body: &Template) -> impl Iterator<Item = &Arc<Expr>> {
    body.clauses().iter().map(|clause| match clause {
        Clause::When(expression) | Clause::Unless(expression) => expression,
    })
}

fn uses_whole_context(expression: &Arc<Expr>) -> bool {
    let decide = |expression: &Expr| match expression {
        Expr::Var(Var::Context) => Some(true),
        Expr::GetAttr { expr, .. } | Expr::HasAttr { expr, .. }
            if matches!(**expr, Expr::Var(Var::Context)) =>
        {
            Some(false)
        }
        _ => None,
    };
    expression.reduce(&decide, &|left, right| left || right, false)
}

/// The names of all attributes in `expression`, whatever they are attributes of.
fn attributes(expression: &Arc<Expr>) -> Vec<String> {
    let names = std::cell::RefCell::new(Vec::new());
    let note = |expression: &Expr| {
        match expression {
            Expr::GetAttr { attr, .. } => names.borrow_mut().push(attr.to_string()),
            Expr::HasAttr { attrs, .. } => {
                names.borrow_mut().extend(attrs.iter().map(ToString::to_string));
            }
            _ => {}
        }
        None
    };
    expression.reduce(&note, &|(), ()| (), ());
    names.into_inner()
}

/// Refuses what names a principal, an action or a resource that no request has: a `forbid` like that
/// would deny nothing, and nobody would be told.
fn reachable(body: &Template) -> Result<(), Fault> {
    let uid = |of: &EntityOrSlot| match of {
        EntityOrSlot::Entity(uid) => Some(uid.clone()),
        // A template's instance is refused elsewhere.
        EntityOrSlot::Slot(_) => None,
    };
    let (principal, is_principal) = match &body.principal {
        PrincipalConstraint::Any => (None, None),
        PrincipalConstraint::Eq(of) | PrincipalConstraint::In(of) => (uid(of), None),
        PrincipalConstraint::Is(kind) => (None, Some(kind)),
        PrincipalConstraint::IsIn(kind, of) => (uid(of), Some(kind)),
    };
    let (resource, is_resource) = match &body.resource {
        ResourceConstraint::Any => (None, None),
        ResourceConstraint::Eq(of) | ResourceConstraint::In(of) => (uid(of), None),
        ResourceConstraint::Is(kind) => (None, Some(kind)),
        ResourceConstraint::IsIn(kind, of) => (uid(of), Some(kind)),
    };
    let actions = match &body.action {
        ActionConstraint::Any => Vec::new(),
        ActionConstraint::Eq(uid) => vec![uid.clone()],
        ActionConstraint::In(uids) if uids.is_empty() => {
            let message = "the scope names no action, so that the rule never applies".to_owned();
            return Err(Fault {
                code: UNREACHABLE,
                message,
                span: None,
                suggestion: Some("`action` alone stands for every action".to_owned()),
            });
        }
        ActionConstraint::In(uids) => uids.clone(),
    };
    let kinds = [("principal", AGENT, is_principal), ("resource", RESOURCE, is_resource)];
    for (role, kind, is) in kinds {
        if let Some(is) = is.filter(|is| is.to_string() != kind) {
            return Err(foreign(role, &is.to_string(), kind));
        }
    }
    let scope = principal
        .into_iter()
        .map(|uid| ("principal", AGENT, uid))
        .chain(actions.into_iter().map(|uid| ("action", ACTION, uid)))
        .chain(resource.into_iter().map(|uid| ("resource", RESOURCE, uid)));
    for (role, kind, uid) in scope {
        if uid.ty.to_string() != kind {
            return Err(foreign(role, &uid.ty.to_string(), kind));
        }
        possible(&uid)?;
    }
    let literals = std::cell::RefCell::new(Vec::new());
    for expression in expressions(body) {
        let note = |expression: &Expr| {
            if let Expr::Literal(Literal::EntityUID(uid)) = expression {
                literals.borrow_mut().push(uid.clone());
            }
            None
        };
        expression.reduce(&note, &|(), ()| (), ());
    }
    literals.into_inner().iter().try_for_each(possible)
}

fn foreign(role: &str, found: &str, kind: &str) -> Fault {
    let instead = match role {
        "principal" => {
            "write `principal == Agent::\"<agent id>\"`, or leave the scope `principal` and say \
             `when { principal.name == \"<name>\" }`"
        }
        "action" => "write `action == Action::\"<the operation's name>\"`",
        _ => "write `resource == Resource::\"<what follows the operation's colon>\"`",
    };
    Fault {
        code: UNREACHABLE,
        message: format!(
            "no {role} is of the type `{found}`, so that the rule never applies: each is of the \
             type `{kind}`, and in no group"
        ),
        span: None,
        suggestion: Some(instead.to_owned()),
    }
}

/// Refuses an entity that no request has.
fn possible(uid: &EntityUID) -> Result<(), Fault> {
    let (kind, id) = (uid.ty.to_string(), &*uid.eid);
    let shown = crate::words::shown(id);
    let suggestion = match kind.as_str() {
        AGENT => {
            let canonical = id.parse::<AgentId>().ok().map(|id| id.to_string());
            match canonical {
                Some(canonical) if *canonical == *id => return Ok(()),
                Some(canonical) => format!("write `Agent::\"{canonical}\"`"),
                None => format!(
                    "an agent's id is a UUID; of a name say `when {{ principal.name == \"{shown}\" }}`"
                ),
            }
        }
        ACTION => match id.split_once(':') {
            Some((name, "")) => format!("write `action == Action::\"{name}\"`"),
            Some((name, resource)) if !resource.contains('*') => format!(
                "write `action == Action::\"{}\", resource == Resource::\"{}\"`",
                crate::words::shown(name),
                crate::words::shown(resource)
            ),
            Some((name, resource)) => format!(
                "write `action == Action::\"{}\"` and `when {{ resource.name like \"{}\" }}`",
                crate::words::shown(name),
                crate::words::shown(resource)
            ),
            None if id.contains('*') => format!(
                "leave the scope `action` and say `when {{ context has \"action\" && \
                 context.action.text like \"{shown}\" }}`"
            ),
            None => return Ok(()),
        },
        RESOURCE if id.contains('*') => format!(
            "leave the scope `resource` and say `when {{ resource.name like \"{shown}\" }}`"
        ),
        RESOURCE => return Ok(()),
        other => format!(
            "compare with an `{AGENT}`, an `{ACTION}` or a `{RESOURCE}`; nothing is a `{}`",
            crate::words::shown(other)
        ),
    };
    Err(Fault {
        code: UNREACHABLE,
        message: format!(
            "no request has `{}::\"{shown}\"`: an entity is equal to one of that very name only",
            crate::words::shown(&kind)
        ),
        span: None,
        suggestion: Some(suggestion),
    })
}

fn operations(body: &Template) -> Option<Vec<String>> {
    let resource = match &body.resource {
        ResourceConstraint::Eq(EntityOrSlot::Entity(uid)) => id_of(uid, RESOURCE),
        ResourceConstraint::Eq(EntityOrSlot::Slot(_))
        | ResourceConstraint::Any
        | ResourceConstraint::In(_)
        | ResourceConstraint::Is(_)
        | ResourceConstraint::IsIn(..) => None,
    };
    let name = |uid: &EntityUID| {
        let name = id_of(uid, ACTION).unwrap_or_default();
        match resource.as_deref() {
            // An operation without a part after the colon is on the resource of no name.
            None | Some("") => name,
            Some(resource) => format!("{name}:{resource}"),
        }
    };
    match &body.action {
        ActionConstraint::Any => None,
        ActionConstraint::Eq(uid) => Some(vec![name(uid)]),
        ActionConstraint::In(uids) => Some(uids.iter().map(name).collect()),
    }
}

fn id_of(uid: &EntityUID, kind: &str) -> Option<String> {
    (uid.ty.to_string() == kind).then(|| uid.eid.to_string())
}

/// An upper bound of how deep the syntax tree of `text` is, without reading it.
fn nesting(text: &str) -> usize {
    let (mut count, mut quoted, mut escaped, mut comment) = (0, false, false, false);
    let (mut word, mut last) = (String::new(), ' ');
    for next in text.chars().chain([' ']) {
        if quoted {
            (quoted, escaped) = (escaped || next != '"', !escaped && next == '\\');
        } else if comment {
            comment = !matches!(next, '\n' | '\r');
        } else if next.is_alphanumeric() || next == '_' {
            word.push(next);
        } else {
            quoted = next == '"';
            comment = next == '/' && last == '/';
            let keywords = ["when", "unless", "if", "in", "has", "like", "is"];
            count += usize::from(keywords.contains(&word.as_str()));
            count += usize::from("([{!-+*&|=<>.@".contains(next));
            word.clear();
        }
        last = next;
    }
    count
}
