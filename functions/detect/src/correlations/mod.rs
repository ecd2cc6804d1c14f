//! From matched events to correlations' alerts.
//!
//! In: events, and the rules that each matched. Out: detections, one for each group and window in which a
//! correlation completes. What a window means is `sentinel-correlation`'s; here hits are made of records, and kept:
//! in memory and temporary files for whoever reads whole inputs ([`Correlator`]), in a store for whoever handles
//! batches, many at a time ([`StoredCorrelations`]). Both give the same alerts.

mod memory;
mod noted;
mod stored;
#[cfg(test)]
mod tests;
mod whole;

use std::sync::Arc;

use sentinel_correlation::{Evidence, Group, Hit, Onward, Plan};
use sentinel_json::{Kind, Value};
use sentinel_model::{Event, hash};

pub use memory::{Correlator, Noted, SpillError};
pub use stored::{CorrelationError, StoredCorrelations};
pub use whole::{Completed, Events, Part};

use crate::{
    detection,
    fields::Lookup,
    rules::{Extract, RuleIndex, RuleSet},
    view::Found,
};

/// Longest value kept whole, in bytes; of a longer one its beginning and its hash.
const MAX_VALUE_BYTES: usize = 256;
/// Values that one event brings to one correlation.
const MAX_VALUES: usize = 100;
/// Longest user agent kept; alerts keep no more of it.
const MAX_AGENT_CHARS: usize = 256;

/// An event that is a hit for a correlation.
#[derive(Debug, Clone, PartialEq)]
pub struct Correlated {
    /// The correlation, by position in its set.
    pub(crate) plan: usize,
    /// The account.
    pub(crate) account: String,
    /// The group.
    pub(crate) group: Group,
    /// The hit.
    pub(crate) hit: Hit,
}

impl RuleSet {
    /// Whether any of an event's matches counts for a correlation.
    pub fn feeds_correlations(&self, hits: &[RuleIndex]) -> bool {
        hits.iter().any(|index| self.brief(*index).feeds)
    }

    /// What an event with these matches counts for correlations. `record` is the event's.
    pub fn correlated(&self, event: &Event, record: Value<'_>, hits: &[RuleIndex]) -> Vec<Correlated> {
        let mut found: Vec<Correlated> = Vec::new();
        let correlations = self.correlations();
        let scratch = self.fields().scratch();
        let record = &self.fields().of(record, &scratch);
        let mut evidence: Option<Arc<Evidence>> = None;
        for feed in hits.iter().flat_map(|index| correlations.feeds(index.0)) {
            let (plan, meta) = (&correlations.plans[feed.plan], &correlations.metas[feed.plan]);
            let Some((group, values)) = fields_of(plan, &feed.fields, record) else { continue };
            if !self.exceptions().is_empty() && self.exceptions().suppresses(event, &meta.names()) {
                continue;
            }
            let evidence = evidence.get_or_insert_with(|| Arc::new(evidence_of(event)));
            let onward = onward_of(&correlations.plans, plan, &feed.fields, record);
            let hit = Hit { base: feed.base, evidence: Arc::clone(evidence), values, onward, elsewhere: Vec::new() };
            found.push(Correlated { plan: feed.plan, account: event.account.clone(), group, hit });
        }
        tell_of_other_groups(&correlations.plans, &mut found);
        found
    }
}

/// An event that is a hit in several groups of one correlation says so in each.
fn tell_of_other_groups(plans: &[Plan], found: &mut [Correlated]) {
    for at in 0..found.len() {
        let plan = found[at].plan;
        if !plans[plan].splits_events {
            continue;
        }
        let others = found.iter().filter(|c| c.plan == plan && c.group != found[at].group);
        let mut others: Vec<u128> = others.map(|c| c.group.key(plans[plan].fingerprint)).collect();
        others.sort_unstable();
        others.dedup();
        found[at].hit.elsewhere = others;
    }
}

fn evidence_of(event: &Event) -> Evidence {
    let mut member = detection::member(event, None);
    if let Some(agent) = &mut member.user_agent
        && let Some((at, _)) = agent.char_indices().nth(MAX_AGENT_CHARS)
    {
        agent.truncate(at);
    }
    Evidence { member, principal: event.principal.clone() }
}

/// Group and values; `None` when the event is no hit: it has none of the group's fields, or no value to count.
fn fields_of(plan: &Plan, fields: &Extract, record: &Lookup<'_>) -> Option<(Group, Vec<String>)> {
    let group: Vec<Option<String>> = fields.group.iter().map(|field| text_of(*field, record)).collect();
    if !group.is_empty() && group.iter().all(Option::is_none) {
        return None;
    }
    if plan.fields.is_empty() {
        return Some((Group(group), Vec::new()));
    }
    let values = match fields.values.as_slice() {
        [one] => texts_of(*one, record),
        several => {
            let all: Option<Vec<String>> = several.iter().map(|field| text_of(*field, record)).collect();
            all.map(|all| vec![bounded(all.join("\u{0}"))]).unwrap_or_default()
        }
    };
    (!values.is_empty()).then_some((Group(group), values))
}

fn onward_of(plans: &[Plan], plan: &Plan, fields: &Extract, record: &Lookup<'_>) -> Vec<Option<Onward>> {
    if plan.parents.is_empty() {
        return Vec::new();
    }
    plan.parents
        .iter()
        .zip(&fields.onward)
        .map(|(link, fields)| {
            let parent = &plans[link.plan];
            let (group, values) = fields_of(parent, fields, record)?;
            Some(Onward { group, values, onward: onward_of(plans, parent, fields, record) })
        })
        .collect()
}

/// The text of a field; several values are one text.
fn text_of(field: usize, record: &Lookup<'_>) -> Option<String> {
    let mut texts = texts_of(field, record);
    match texts.len() {
        0 => None,
        1 => texts.pop(),
        _ => Some(bounded(texts.join(","))),
    }
}

/// The texts of a field, sorted, each once: those of its elements where it is or crosses an array.
fn texts_of(field: usize, record: &Lookup<'_>) -> Vec<String> {
    let mut texts = Vec::new();
    match record.find(field) {
        Found::Absent => {}
        Found::One(value) => add_texts(value, &mut texts),
        Found::Many(values) => values.into_iter().for_each(|value| add_texts(value, &mut texts)),
    }
    if texts.len() > 1 {
        texts.sort_unstable();
        texts.dedup();
        texts.truncate(MAX_VALUES);
    }
    texts
}

fn add_texts(value: Value<'_>, texts: &mut Vec<String>) {
    match value.kind() {
        Kind::Null => {}
        Kind::Array => {
            for item in value.items() {
                // An array within an array is one value.
                if item.is_array() {
                    texts.push(bounded(item.compact()));
                } else {
                    add_texts(item, texts);
                }
            }
        }
        Kind::String => texts.push(bounded(value.as_str().unwrap_or_default().to_owned())),
        Kind::Boolean | Kind::Number | Kind::Object => texts.push(bounded(value.compact())),
    }
}

/// A value of bounded length that still differs from all others.
fn bounded(mut text: String) -> String {
    if text.len() > MAX_VALUE_BYTES {
        let hash = hash::hash_128(text.as_bytes());
        let mut end = MAX_VALUE_BYTES - 32;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text = format!("{}{hash:032x}", &text[..end]);
    }
    text
}
