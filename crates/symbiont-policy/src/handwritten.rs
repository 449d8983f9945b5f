//! Rules written in Cedar's own words.

use std::collections::BTreeMap;
use std::sync::Arc;

use cedar_policy::pst::{
    ActionConstraint, Clause, Effect, EntityOrSlot, EntityUID, Expr, Policy, ResourceConstraint,
    Template, Var,
};
use miette::Diagnostic as _;
use symbiont_types::PolicyEffect;

use crate::compile::{ACTION, Demands, RESOURCE};
use crate::fact::Demand;

/// Operators, dots, brackets and keywords in one text: each can nest one deeper, and Cedar's reader
/// goes down with them on the caller's stack.
const MAX_NESTING: usize = 200;

/// What is wrong with a text, and which of its bytes.
pub(crate) struct Fault {
    pub(crate) message: String,
    pub(crate) span: Option<(usize, usize)>,
    pub(crate) suggestion: Option<String>,
}

impl From<String> for Fault {
    fn from(message: String) -> Self {
        Self { message, span: None, suggestion: None }
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
                message: format!("the text has more than {MAX_NESTING} operators and brackets"),
                span: None,
                suggestion: Some("split it into several rules".to_owned()),
            });
        }
        let policy = cedar_policy::Policy::parse(None, text).map_err(|errors| {
            let error = errors.iter().next();
            let label = error.and_then(|error| error.labels()).and_then(|mut labels| labels.next());
            Fault {
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
                message: "`context` is used as a whole".to_owned(),
                span: None,
                suggestion: Some("name the attribute that is meant".to_owned()),
            });
        }
        let operations = operations(&body);
        Ok(Self { body, operations })
    }

    /// The `permit` that is satisfied when the rule matches. What it may read from the context is
    /// added to `demands`.
    pub(crate) fn permit(&self, id: &str, demands: &mut Demands) -> Template {
        for attribute in expressions(&self.body).flat_map(attributes) {
            demands.insert(attribute.clone(), Demand::of_key(&attribute));
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
