//! What follows from the rules that match.
//!
//! # What holds
//!
//! - Deny beats approval, and approval beats allow, whatever the layers and priorities; but for a
//!   deny marked `overridable`, which an allow of a greater priority in its layer beats.
//! - The agent's own layer narrows: it never makes an operation allowed that the global one denies,
//!   covers without allowing, or leaves to a person.
//! - A decision of [`decide`] always has an effect.

use std::collections::BTreeMap;
use std::time::Duration;

use symbiont_types::{Obligation, PolicyDecision, PolicyEffect};

use crate::set::{Matches, PolicySet};
use crate::{Profile, Request, digest, glob, words};

/// Rules named in a reason or among what is missing.
const MAX_NAMED: usize = 8;

/// What one layer says.
struct Layer<'a> {
    set: &'a PolicySet,
    matches: &'a Matches,
    denies: Vec<usize>,
    approvals: Vec<usize>,
    allows: Vec<usize>,
    audits: Vec<usize>,
    shadows: Vec<usize>,
}

impl<'a> Layer<'a> {
    fn new(set: &'a PolicySet, matches: &'a Matches) -> Self {
        let mut layer = Self {
            set,
            matches,
            denies: Vec::new(),
            approvals: Vec::new(),
            allows: Vec::new(),
            audits: Vec::new(),
            shadows: Vec::new(),
        };
        for &at in &matches.rules {
            match set.rule(at).effect {
                PolicyEffect::Allow => layer.allows.push(at),
                PolicyEffect::Deny => layer.denies.push(at),
                PolicyEffect::RequireApproval { .. } => layer.approvals.push(at),
                PolicyEffect::Audit => layer.audits.push(at),
                PolicyEffect::Shadow(_) => layer.shadows.push(at),
            }
        }
        let greatest = layer.allows.first().map(|&at| set.entry(at).priority);
        layer.denies.retain(|&at| {
            let beaten = greatest.is_some_and(|allow| allow > set.entry(at).priority);
            !(set.rule(at).overridable && beaten)
        });
        layer
    }

    fn says_nothing(&self) -> bool {
        self.denies.is_empty() && self.approvals.is_empty() && self.allows.is_empty()
    }
}

/// Decides over the layers: the global one first, then the agent's own.
///
/// `own` is `None` when the agent has no policies of its own, or when they do not govern the
/// operation; a set in which no policy is enabled is the same.
pub fn decide(
    global: &PolicySet,
    own: Option<&PolicySet>,
    profile: Profile,
    request: &Request<'_>,
) -> PolicyDecision {
    let own = own.filter(|own| !own.is_empty());
    let (global_matches, own_matches) =
        (global.matches(request), own.map(|own| own.matches(request)));
    let mut layers = vec![Layer::new(global, &global_matches)];
    layers.extend(own.zip(own_matches.as_ref()).map(|(set, matches)| Layer::new(set, matches)));
    let digest = match own {
        None => global.digest().to_owned(),
        Some(own) => digest::of_layers(global.digest(), own.digest()),
    };
    if let Some(ruled) = by_rules(&layers, request, |operation| global.covers(operation)) {
        return ruled.finish(&layers, digest);
    }
    let operation = words::shown(request.operation);
    let ruling = if own.is_some() {
        Ruling::refusal(
            format!("nothing allows `{operation}`; {}", allowed(&layers, "the policies", request)),
            would_allow(&layers, request),
        )
    } else {
        match profile {
            Profile::Production => Ruling::refusal(
                format!(
                    "no policy speaks of `{operation}`, and the production profile denies that"
                ),
                would_allow(&layers, request),
            ),
            Profile::Dev => Ruling {
                effect: Some(PolicyEffect::Allow),
                ..Ruling::refusal(
                    format!("no policy speaks of `{operation}`, and the dev profile allows that"),
                    Vec::new(),
                )
            },
        }
    };
    ruling.finish(&layers, digest)
}

/// What `matches`, all of one policy, come to.
pub(crate) fn one(
    set: &PolicySet,
    policy_id: &str,
    matches: &Matches,
    request: &Request<'_>,
) -> PolicyDecision {
    let layers = [Layer::new(set, matches)];
    let digest = set.digest().to_owned();
    if let Some(ruled) = by_rules(&layers, request, |_| false) {
        return ruled.finish(&layers, digest);
    }
    let operation = words::shown(request.operation);
    let reason = format!("no rule of policy `{policy_id}` applies to `{operation}`");
    Ruling { effect: None, ..Ruling::refusal(reason, Vec::new()) }.finish(&layers, digest)
}

/// What the rules decide; `None` if they leave it open.
fn by_rules(
    layers: &[Layer<'_>],
    request: &Request<'_>,
    covers: impl FnOnce(&str) -> bool,
) -> Option<Ruling> {
    if layers.iter().any(|layer| !layer.denies.is_empty()) {
        return Some(Ruling::of(layers, |layer| &layer.denies, "denied"));
    }
    if layers.first().is_some_and(Layer::says_nothing) && covers(request.operation) {
        let operation = words::shown(request.operation);
        let global = &layers[..1];
        let allowed = allowed(global, "the global policies", request);
        return Some(Ruling::refusal(
            format!("the global policies cover `{operation}` and do not allow it; {allowed}"),
            would_allow(global, request),
        ));
    }
    if layers.iter().any(|layer| !layer.approvals.is_empty()) {
        return Some(Ruling::of(layers, |layer| &layer.approvals, "left to approval"));
    }
    if layers.iter().any(|layer| !layer.allows.is_empty()) {
        return Some(Ruling::of(layers, |layer| &layer.allows, "allowed"));
    }
    None
}

/// A decision before what is the same for all of them.
struct Ruling {
    effect: Option<PolicyEffect>,
    policy_id: Option<String>,
    rules: Vec<String>,
    reason: String,
    missing: Vec<String>,
}

impl Ruling {
    fn refusal(reason: String, missing: Vec<String>) -> Self {
        Self {
            effect: Some(PolicyEffect::Deny),
            policy_id: None,
            rules: Vec::new(),
            reason,
            missing,
        }
    }

    /// The decision of the rules that `pick` gives, of which there is one at least; the first of
    /// the first layer speaks for them.
    fn of<'a>(
        layers: &'a [Layer<'a>],
        pick: impl Fn(&'a Layer<'a>) -> &'a Vec<usize>,
        verb: &str,
    ) -> Self {
        let mut chosen =
            layers.iter().flat_map(|layer| pick(layer).iter().map(move |&at| (layer.set, at)));
        let (set, at) = chosen.clone().next().expect("the caller saw a rule");
        let (rule, label) = (set.rule(at), &set.entry(at).label);
        let mut effect = rule.effect.clone();
        // The other layer's approval narrows the one that speaks.
        let others = layers
            .iter()
            .filter_map(|layer| pick(layer).first().map(|&at| &layer.set.rule(at).effect));
        for other in others {
            narrow(&mut effect, other);
        }
        let missing = match &effect {
            PolicyEffect::Deny => chosen
                .by_ref()
                .take(MAX_NAMED)
                .map(|(set, at)| {
                    let (label, when) = (&set.entry(at).label, words::when(set.rule(at)));
                    match when.as_str() {
                        "" => format!("rule `{label}` denies it whatever else holds"),
                        when => format!("rule `{label}` no longer applying: it does when {when}"),
                    }
                })
                .collect(),
            PolicyEffect::RequireApproval { approvers, quorum, .. } => {
                let approvers: Vec<_> =
                    approvers.iter().take(MAX_NAMED).map(|name| words::shown(name)).collect();
                vec![match approvers.as_slice() {
                    [] => format!("approval by {quorum}"),
                    names => format!("approval by {quorum} of {}", names.join(", ")),
                }]
            }
            PolicyEffect::Allow | PolicyEffect::Audit | PolicyEffect::Shadow(_) => Vec::new(),
        };
        let rules = layers
            .iter()
            .flat_map(|layer| pick(layer).iter().map(|&at| layer.set.entry(at).label.clone()))
            .collect();
        let reason = match rule.reason.as_str() {
            "" => format!("{verb} by rule `{label}`"),
            why => format!("{verb} by rule `{label}`: {}", words::shown(why)),
        };
        Self {
            effect: Some(effect),
            policy_id: Some(set.policy_id(at).to_owned()),
            rules,
            reason,
            missing,
        }
    }

    fn finish(self, layers: &[Layer<'_>], bundle_digest: String) -> PolicyDecision {
        let mut matched_rules = self.rules;
        let audits = |layer: &Layer<'_>| {
            let label = |&at: &usize| layer.set.entry(at).label.clone();
            layer.audits.iter().map(label).collect::<Vec<_>>()
        };
        matched_rules.extend(layers.iter().flat_map(audits));
        let obligations = match &self.effect {
            Some(PolicyEffect::Allow | PolicyEffect::RequireApproval { .. }) => {
                strictest(layers.iter().flat_map(|layer| {
                    let some = [&layer.allows, &layer.approvals, &layer.audits];
                    some.into_iter().flatten().flat_map(|&at| &layer.set.rule(at).obligations)
                }))
            }
            Some(PolicyEffect::Deny | PolicyEffect::Audit | PolicyEffect::Shadow(_)) | None => {
                Vec::new()
            }
        };
        let shadow = |layer: &Layer<'_>| {
            let text = |&at: &usize| {
                let effect = match &layer.set.rule(at).effect {
                    PolicyEffect::Shadow(inner) => words::effect(inner),
                    other => words::effect(other),
                };
                format!("{}: {effect}", layer.set.entry(at).label)
            };
            layer.shadows.iter().map(text).collect::<Vec<_>>()
        };
        PolicyDecision {
            effect: self.effect,
            policy_id: self.policy_id,
            matched_rules,
            reason: self.reason,
            missing: self.missing,
            obligations,
            bundle_digest,
            evaluated_rules: layers.iter().map(|layer| layer.matches.evaluated).sum(),
            duration: Duration::ZERO,
            shadow_results: layers.iter().flat_map(shadow).collect(),
            decision_id: None,
            valid_until: None,
        }
    }
}

/// Makes an approval as hard to get as `other`, by those who may give it already.
fn narrow(effect: &mut PolicyEffect, other: &PolicyEffect) {
    if let (
        PolicyEffect::RequireApproval { quorum, ttl, .. },
        PolicyEffect::RequireApproval { quorum: other_quorum, ttl: other_ttl, .. },
    ) = (effect, other)
    {
        *quorum = (*quorum).max(*other_quorum);
        *ttl = (*ttl).min(*other_ttl);
    }
}

/// What `layers` allow of the kind of operation that is asked for.
fn allowed(layers: &[Layer<'_>], whose: &str, request: &Request<'_>) -> String {
    let name = glob::name_of(request.operation);
    let mut shown: Vec<String> = layers
        .iter()
        .flat_map(|layer| {
            let rules = layer.set.allows_of(name).iter().take(MAX_NAMED * 4);
            rules.flat_map(|&at| allowance(layer.set, at, name))
        })
        .take(MAX_NAMED * 4)
        .collect();
    shown.sort_unstable();
    shown.dedup();
    let name = words::shown(name);
    if shown.is_empty() {
        return format!("of `{name}` {whose} allow nothing");
    }
    let more = if shown.len() > MAX_NAMED { " and more" } else { "" };
    shown.truncate(MAX_NAMED);
    format!("of `{name}` {whose} allow {}{more}", shown.join(", "))
}

/// What one rule allows of the operations of a name: those that it covers or, where it sets
/// conditions, the rule in the words that it was written in.
fn allowance(set: &PolicySet, at: usize, name: &str) -> Vec<String> {
    let rule = set.rule(at);
    if !rule.conditions.is_empty() {
        let label = &set.entry(at).label;
        return vec![match rule.reason.as_str() {
            "" => format!("what rule `{label}` says"),
            reason => format!("what rule `{label}` says: `{}`", words::shown(reason)),
        }];
    }
    let of_name = rule.operations.iter().filter(|glob| glob::name_of(glob) == name);
    of_name.map(|glob| format!("`{}`", words::shown(glob))).collect()
}

/// What would make a rule of `layers` allow what is asked for.
fn would_allow(layers: &[Layer<'_>], request: &Request<'_>) -> Vec<String> {
    let mut missing: Vec<_> = layers
        .iter()
        .flat_map(|layer| {
            let near = layer.set.near_misses(request, &layer.matches.rules);
            near.into_iter().take(MAX_NAMED).map(|at| {
                let (label, when) = (&layer.set.entry(at).label, words::when(layer.set.rule(at)));
                format!("rule `{label}` would allow it when {when}")
            })
        })
        .take(MAX_NAMED)
        .collect();
    if missing.is_empty() {
        missing.push(format!("a rule that allows `{}`", words::shown(request.operation)));
    }
    missing
}

/// All obligations, the stricter where two contradict.
fn strictest<'a>(all: impl Iterator<Item = &'a Obligation>) -> Vec<Obligation> {
    let mut rates: BTreeMap<Duration, u32> = BTreeMap::new();
    let mut timeout: Option<Duration> = None;
    let (mut levels, mut redacted, mut notified) = (Vec::new(), Vec::new(), Vec::new());
    for obligation in all {
        match obligation {
            Obligation::RateLimit { count, per } => {
                let least = rates.entry(*per).or_insert(*count);
                *least = (*least).min(*count);
            }
            Obligation::Timeout(time) => {
                timeout = Some(timeout.map_or(*time, |least| least.min(*time)));
            }
            Obligation::LogLevel(level) => levels.push(level.clone()),
            Obligation::Redact(fields) => redacted.extend(fields.iter().cloned()),
            Obligation::Notify(channel) => notified.push(channel.clone()),
        }
    }
    // The level at which more is recorded is the stricter.
    const LEVELS: [&str; 5] = ["trace", "debug", "info", "warn", "error"];
    let detail = |level: &String| LEVELS.iter().position(|known| level.eq_ignore_ascii_case(known));
    levels.sort_by_key(|level| (detail(level), level.clone()));
    let known = levels.iter().position(|level| detail(level).is_some());
    let keep = levels.iter().take(known.map_or(levels.len(), |known| known + 1)).cloned();
    let mut levels: Vec<String> = keep.collect();
    levels.dedup();
    redacted.sort();
    redacted.dedup();
    notified.sort();
    notified.dedup();
    let mut kept: Vec<_> =
        rates.into_iter().map(|(per, count)| Obligation::RateLimit { count, per }).collect();
    kept.extend(timeout.map(Obligation::Timeout));
    kept.extend(levels.into_iter().map(Obligation::LogLevel));
    if !redacted.is_empty() {
        kept.push(Obligation::Redact(redacted));
    }
    kept.extend(notified.into_iter().map(Obligation::Notify));
    kept
}
