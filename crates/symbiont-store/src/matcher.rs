//! Which records a query asks for.

use std::collections::HashSet;

use uuid::Uuid;

use crate::{RecordQuery, StoredRecord};

/// A query, made ready to be asked of many records.
#[derive(Debug)]
pub(crate) struct Matcher<'query> {
    query: &'query RecordQuery,
    agents: HashSet<Uuid>,
    text: Option<Vec<u8>>,
}

impl<'query> Matcher<'query> {
    pub(crate) fn new(query: &'query RecordQuery) -> Self {
        Self {
            query,
            agents: query.agent_ids.iter().copied().collect(),
            text: query.text.as_ref().map(|text| text.to_ascii_lowercase().into_bytes()),
        }
    }

    /// Whether the query asks for `stored`, its order and limit aside.
    pub(crate) fn matches(&self, stored: &StoredRecord) -> bool {
        let query = self.query;
        let record = &stored.record;
        query.first_sequence.is_none_or(|first| first <= stored.sequence)
            && query.last_sequence.is_none_or(|last| stored.sequence <= last)
            && query.from.is_none_or(|from| from <= record.at)
            && query.to.is_none_or(|to| record.at < to)
            && (self.agents.is_empty()
                || record.agent_id.is_some_and(|agent| self.agents.contains(&agent)))
            && (query.event_types.is_empty() || query.event_types.contains(&record.event_type))
            && (query.kinds.is_empty()
                || query.kinds.iter().any(|pattern| matches_kind(pattern, &record.kind)))
            && query.actor.as_ref().is_none_or(|actor| *actor == record.actor)
            && query.metadata.iter().all(|(key, value)| record.metadata.get(key) == Some(value))
            && query.correlation.as_ref().is_none_or(|part| record.correlation.contains(part))
            && self.text.as_ref().is_none_or(|text| contains_lowercase(&record.details, text))
    }
}

fn matches_kind(pattern: &str, kind: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => kind.starts_with(prefix),
        None => kind == pattern,
    }
}

/// Whether `text`, its ASCII letters made lowercase, contains `part`.
fn contains_lowercase(text: &str, part: &[u8]) -> bool {
    let text = text.as_bytes();
    let Some(&first) = part.first() else { return true };
    let Some(last_start) = text.len().checked_sub(part.len()) else { return false };
    (0..=last_start).any(|start| {
        text[start].to_ascii_lowercase() == first
            && text[start..start + part.len()].eq_ignore_ascii_case(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_at_the_end_of_a_kind_stands_for_any_text() {
        let cases = [
            ("policy.decision", "policy.decision", true),
            ("policy.decision", "policy.decision.late", false),
            ("policy.*", "policy.decision", true),
            ("policy.*", "policy.", true),
            ("policy.*", "policy", false),
            ("*", "", true),
            ("a*c", "abc", false),
            ("a*c", "a*c", true),
            ("a**", "a*", true),
            ("a**", "ab", false),
        ];
        for (pattern, kind, expected) in cases {
            assert_eq!(matches_kind(pattern, kind), expected, "{pattern} {kind}");
        }
    }

    #[test]
    fn text_is_found_whatever_its_ascii_case() {
        let cases = [
            ("The Cat", "cat", true),
            ("the CAT", "the cat", true),
            ("the cat", "dog", false),
            ("", "", true),
            ("x", "", true),
            ("", "x", false),
            ("ca", "cat", false),
            ("GRÖSSE", "grÖsse", true),
            ("GRÖSSE", "größe", false),
        ];
        for (text, part, expected) in cases {
            let part = part.to_ascii_lowercase();
            assert_eq!(contains_lowercase(text, part.as_bytes()), expected, "{text} {part}");
        }
    }
}
