//! Lineage: which identities an identity made, changed or assumed.
//!
//! Known from all successful events, not only alerted ones, so that one intruder who hops from a user to
//! a key to a role session stays one incident.

use serde::{Deserialize, Serialize};

use crate::{Timestamp, hash, time};

/// Repeats of one step within this many minutes (by the UTC clock) are one step at its earliest time: a
/// workload that assumes a role every second leaves a handful of steps an hour.
pub const SLOT_MINUTES: u32 = 10;

/// An identity as lineage links it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", content = "id", rename_all = "snake_case")]
pub enum Identity {
    /// A principal: IAM user ARN, role session ARN, root ARN.
    Principal(String),
    /// An access key id, long-term or temporary.
    AccessKey(String),
}

impl Identity {
    /// One text for keys of stores: `principal#ARN` or `key#ID`.
    pub fn as_key(&self) -> String {
        match self {
            Self::Principal(arn) => format!("principal#{arn}"),
            Self::AccessKey(id) => format!("key#{id}"),
        }
    }
}

/// What the maker did to the other identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineageKind {
    /// Created the user, key or login profile.
    Made,
    /// Changed its credentials or rights.
    Changed,
    /// Took on its role or session.
    Assumed,
}

/// One step of lineage: `maker` made, changed or assumed `made` at `time`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineageEdge {
    /// Who did it (a principal; never a service, `unknown` or a whole account).
    pub maker: Identity,
    /// The access key the maker used, so that a stolen key's trail is followed too.
    pub maker_key: Option<String>,
    /// The identity made, changed or assumed.
    pub made: Identity,
    /// What was done.
    pub how: LineageKind,
    /// Event time.
    pub time: Timestamp,
    /// The event that shows it.
    pub event_id: String,
}

impl LineageEdge {
    /// What makes two steps repeats of each other: maker, its key, the identity made and the slot of time.
    pub fn repeat_key(&self) -> u128 {
        let slot = time::window_start(self.time, SLOT_MINUTES).as_second();
        let maker_key = self.maker_key.as_deref().unwrap_or_default();
        hash::hash_128(
            format!("{}\u{0}{maker_key}\u{0}{}\u{0}{slot}", self.maker.as_key(), self.made.as_key()).as_bytes(),
        )
    }

    /// Whether this is the one to keep of two repeats: the earlier, else the one with the smaller event id.
    pub fn precedes(&self, other: &Self) -> bool {
        (self.time, &self.event_id) < (other.time, &other.event_id)
    }

    /// The identities that made this step: the maker, and the key it used.
    pub fn makers(&self) -> impl Iterator<Item = Identity> + '_ {
        let key = self.maker_key.clone().map(Identity::AccessKey).filter(|key| *key != self.maker);
        std::iter::once(self.maker.clone()).chain(key)
    }
}

/// Steps without their repeats, whatever the order in which they come; sorted by time.
pub fn condense(edges: impl IntoIterator<Item = LineageEdge>) -> Vec<LineageEdge> {
    let mut kept: std::collections::HashMap<u128, LineageEdge> = std::collections::HashMap::new();
    for edge in edges {
        match kept.entry(edge.repeat_key()) {
            std::collections::hash_map::Entry::Vacant(slot) => {
                slot.insert(edge);
            }
            std::collections::hash_map::Entry::Occupied(mut slot) => {
                if edge.precedes(slot.get()) {
                    slot.insert(edge);
                }
            }
        }
    }
    let mut edges: Vec<_> = kept.into_values().collect();
    edges.sort_by(|a, b| {
        (a.time, &a.event_id, &a.maker, &a.maker_key, &a.made).cmp(&(
            b.time,
            &b.event_id,
            &b.maker,
            &b.maker_key,
            &b.made,
        ))
    });
    edges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(made: &str, time: &str) -> LineageEdge {
        LineageEdge {
            maker: Identity::Principal("alice".into()),
            maker_key: None,
            made: Identity::Principal(made.into()),
            how: LineageKind::Assumed,
            time: time.parse().unwrap(),
            event_id: time.into(),
        }
    }

    #[test]
    fn repeats_are_one_step_at_its_earliest_time_in_any_order() {
        let (a, b) = (edge("r", "2024-01-01T10:01:00Z"), edge("r", "2024-01-01T10:09:00Z"));
        let (later, other) = (edge("r", "2024-01-01T10:11:00Z"), edge("s", "2024-01-01T10:05:00Z"));
        let want = vec![a.clone(), other.clone(), later.clone()];
        assert_eq!(condense([a.clone(), b.clone(), later.clone(), other.clone()]), want);
        assert_eq!(condense([other, later, b, a]), want);
    }
}
