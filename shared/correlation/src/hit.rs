//! Hits: events as correlations see them.

use std::sync::Arc;

use sentinel_model::{EventRef, Member, Principal, hash, provenance};

/// What the alert will say of an event: shared by all hits of the event.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// The event.
    pub member: Member,
    /// Who did it.
    pub principal: Principal,
}

/// The values that make a group, in the order of the rule's fields; `None` for a field that the event lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group(pub Vec<Option<String>>);

impl Group {
    /// A short key for the group within one version of a rule.
    pub fn key(&self, fingerprint: u64) -> u128 {
        let texts: usize = self.0.iter().flatten().map(String::len).sum();
        let mut bytes = Vec::with_capacity(8 + 9 * self.0.len() + texts);
        bytes.extend(fingerprint.to_le_bytes());
        for value in &self.0 {
            match value {
                Some(text) => {
                    bytes.push(1);
                    bytes.extend((text.len() as u64).to_le_bytes());
                    bytes.extend(text.as_bytes());
                }
                None => bytes.push(0),
            }
        }
        hash::hash_128(&bytes)
    }
}

/// What a hit would be to a correlation that refers to the hit's own, if it completes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Onward {
    /// The group there.
    pub group: Group,
    /// Values of the fields there.
    pub values: Vec<String>,
    /// And so on, in the order of that plan's parents; `None` where it is no hit.
    pub onward: Vec<Option<Self>>,
}

/// An event that matched a rule that a correlation refers to.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// Which rule: its position among the plan's bases.
    pub base: u16,
    /// The event.
    pub evidence: Arc<Evidence>,
    /// Values of the plan's fields, each once. Empty where the plan has none.
    pub values: Vec<String>,
    /// For the plan's parents, in their order; `None` where it is no hit.
    pub onward: Vec<Option<Onward>>,
    /// Keys of other groups of the same plan in which the same event is a hit.
    pub elsewhere: Vec<u128>,
}

/// What tells hits of one group apart, and their order: by time, id, content, then rule.
pub type HitKey = (EventRef, u16);

impl Hit {
    /// The event.
    pub fn event(&self) -> &EventRef {
        &self.evidence.member.event
    }

    /// What tells it from other hits.
    pub fn key(&self) -> HitKey {
        (self.event().clone(), self.base)
    }

    /// Takes in another copy of the same hit: where else the event was seen, and in which other groups. Returns
    /// whether that was news.
    pub(crate) fn absorb(&mut self, other: &Self) -> bool {
        let mut news = false;
        for group in &other.elsewhere {
            if let Err(at) = self.elsewhere.binary_search(group) {
                self.elsewhere.insert(at, *group);
                news = true;
            }
        }
        let mut copies = self.evidence.member.provenance.clone();
        provenance::merge(&mut copies, other.evidence.member.provenance.iter().cloned());
        if copies != self.evidence.member.provenance {
            Arc::make_mut(&mut self.evidence).member.provenance = copies;
            news = true;
        }
        news
    }
}
