//! Alerts of a whole input in memory, without a store: what `scan` uses.
//!
//! In: detections, in any order. Out: the alerts that the pipeline would have stored for them. Memory is
//! bounded per alert: a set of at most 10,000 member keys beside the alert itself.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use sentinel_model::{Alert, Detection, alert::MEMBER_CAP};

use crate::{
    indicator_list::IndicatorList,
    intel,
    merge::{self, Growing, Intel},
};

/// Collects detections into alerts.
pub struct Accumulator {
    list: Arc<IndicatorList>,
    alerts: HashMap<String, (Growing, HashSet<u128>)>,
}

impl Accumulator {
    /// An accumulator that asks `list` about indicators.
    pub fn new(list: Arc<IndicatorList>) -> Self {
        Self { list, alerts: HashMap::new() }
    }

    /// Adds what one batch of events gave for one alert. A detection without members adds nothing.
    pub fn add(&mut self, detection: &Detection) {
        let intel = Intel {
            findings: if self.list.is_empty() {
                Vec::new()
            } else {
                self.list.check_all(&intel::indicators_of(None, detection), detection.window.start)
            },
            failed: false,
        };
        let Some((growing, members)) = self.alerts.get_mut(&detection.alert_id) else {
            let mut members = HashSet::new();
            let (fresh, overflow) = count(&mut members, detection);
            let grown = merge::grow(None, detection, fresh, overflow, &intel, "");
            if let Some(growing) = grown {
                self.alerts.insert(detection.alert_id.clone(), (growing, members));
            }
            return;
        };
        let (fresh, overflow) = count(members, detection);
        merge::absorb(growing, detection, fresh, overflow, &intel);
    }

    /// How many alerts there are so far.
    pub fn len(&self) -> usize {
        self.alerts.len()
    }

    /// Whether there is none so far.
    pub fn is_empty(&self) -> bool {
        self.alerts.is_empty()
    }

    /// The alerts, by time of their first event, then id.
    pub fn finish(self) -> Vec<Alert> {
        let mut alerts: Vec<Alert> = self
            .alerts
            .into_values()
            .map(|(mut growing, _)| {
                merge::settle(&mut growing);
                growing.alert
            })
            .collect();
        alerts.sort_by(|a, b| (a.time, &a.alert_id).cmp(&(b.time, &b.alert_id)));
        alerts
    }
}

/// Counts a detection's members: how many are new, and whether one found no room.
fn count(members: &mut HashSet<u128>, detection: &Detection) -> (u64, bool) {
    let (mut fresh, mut overflow) = (0, false);
    for member in &detection.members {
        let key = member.event.member_key();
        if members.contains(&key) {
            continue;
        }
        if members.len() as u64 >= MEMBER_CAP {
            overflow = true;
            continue;
        }
        members.insert(key);
        fresh += 1;
    }
    (fresh, overflow)
}
