//! Alerts of detections in memory, without a store: what `scan` uses for those of models and correlations, which
//! are few; for the many that single events make see [`crate::collect`].
//!
//! In: detections, in any order. Out: the alerts that the pipeline would have stored for them. Memory is
//! bounded per alert: a set of at most 10,000 member keys beside the alert itself.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use sentinel_model::{Alert, Detection, Member, Principal, Timestamp, alert::MEMBER_CAP};

use crate::{
    indicator_list::IndicatorList,
    intel,
    merge::{self, Counted, Growing, Intel},
};

/// Collects detections into alerts.
pub struct Accumulator {
    list: Arc<IndicatorList>,
    alerts: Vec<(Growing, HashSet<u128>)>,
    /// Where an alert is, by its id.
    by_id: HashMap<String, usize>,
}

impl Accumulator {
    /// An accumulator that asks `list` about indicators.
    pub fn new(list: Arc<IndicatorList>) -> Self {
        Self { list, alerts: Vec::new(), by_id: HashMap::new() }
    }

    /// Adds what one batch of events gave for one alert. A detection without members adds nothing.
    pub fn add(&mut self, detection: &Detection) {
        let intel = self.intel(&detection.principal, &detection.members, detection.window.start);
        let Some(at) = self.by_id.get(&detection.alert_id) else {
            let mut members = HashSet::new();
            let Counted { fresh, overflow } = count(&mut members, detection);
            let grown = merge::grow(None, detection, fresh, overflow, &intel, "");
            if let Some(growing) = grown {
                self.by_id.insert(detection.alert_id.clone(), self.alerts.len());
                self.alerts.push((growing, members));
            }
            return;
        };
        let (growing, members) = &mut self.alerts[*at];
        let Counted { fresh, overflow } = count(members, detection);
        merge::absorb(growing, detection, fresh, overflow, &intel);
    }

    fn intel(&self, principal: &Principal, members: &[Member], at: Timestamp) -> Intel {
        if self.list.is_empty() {
            return Intel::default();
        }
        let indicators: Vec<_> = intel::indicators_in(principal, members).into_iter().collect();
        Intel { findings: self.list.check_all(&indicators, at), failed: false }
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
            .into_iter()
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
fn count(members: &mut HashSet<u128>, detection: &Detection) -> Counted {
    let mut counted = Counted::default();
    for member in &detection.members {
        count_one(members, member.event.member_key(), &mut counted);
    }
    counted
}

fn count_one(members: &mut HashSet<u128>, key: u128, counted: &mut Counted) {
    if (members.len() as u64) < MEMBER_CAP {
        counted.fresh += u64::from(members.insert(key));
    } else {
        counted.overflow |= !members.contains(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, detection, member};
    use proptest::prelude::*;
    use sentinel_model::{
        Channel, Level, Member, Provenance,
        alert::{INDICATOR_CAP, KEY_CAP, SHOWN_EVENTS, USES_PER_KEY},
    };

    fn list() -> Arc<IndicatorList> {
        let mut list = IndicatorList::default();
        assert!(list.add("198.51.100.3,suspicious\nAKIA00000000000002,known_bad", "f", "list").is_empty());
        Arc::new(list)
    }

    /// A member whose fields follow from its number, as a record's fields follow from its content.
    fn numbered(n: u32, copy: u32) -> Member {
        let mut m = member(&format!("e{n:05}"), "2024-05-01T10:00:00Z");
        m.event.time = sentinel_model::time::plus_seconds(m.event.time, i64::from(n * 7 % 3000));
        m.source_ip = Some(format!("198.51.100.{}", n % 200));
        m.user_agent = Some(format!("agent/{}", n % 3));
        m.access_key_id = (!n.is_multiple_of(4)).then(|| format!("AKIA{:014}", n % 30));
        (m.service, m.action, m.read_only) = match n % 3 {
            0 => ("iam.amazonaws.com".into(), "CreateUser".into(), Some(false)),
            1 => ("s3.amazonaws.com".into(), "DeleteBucket".into(), Some(false)),
            _ => ("ec2.amazonaws.com".into(), "DescribeInstances".into(), Some(true)),
        };
        m.success = !n.is_multiple_of(5);
        m.region = Some(format!("eu-west-{}", n % 3));
        m.provenance = vec![Provenance {
            channel: Channel::Folder { path: format!("f{copy}") },
            received_at: sentinel_model::time::plus_seconds(m.event.time, i64::from(copy)),
        }];
        m
    }

    fn alert_of(batches: &[Vec<Member>]) -> Option<Alert> {
        let mut all = Accumulator::new(list());
        for batch in batches {
            let mut d = detection("r", Level::Medium, "alice", batch.clone());
            d.window = sentinel_model::Window::around(testing::at("2024-05-01T10:00:00Z"), 60);
            d.alert_id = "al-1".into();
            d.reasons = batch.iter().map(|m| format!("Matched on {}.", m.action)).collect();
            all.add(&d);
        }
        all.finish().pop()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn order_repetition_and_batching_do_not_matter(
            seen in proptest::collection::vec((0..300_u32, 0..3_u32), 1..200),
            cuts in proptest::collection::vec(1..20_usize, 1..40),
            shuffled in any::<prop::sample::Index>(),
        ) {
            let members: Vec<Member> = seen.iter().map(|(n, copy)| numbered(*n, *copy)).collect();
            let whole = alert_of(std::slice::from_ref(&members)).unwrap();

            let mut other: Vec<Member> = members.iter().rev().chain(members.iter().step_by(3)).cloned().collect();
            let turn = shuffled.index(other.len());
            other.rotate_left(turn);
            let mut batches = Vec::new();
            let mut rest = other.as_slice();
            for cut in cuts.iter().cycle() {
                let (head, tail) = rest.split_at((*cut).min(rest.len()));
                batches.push(head.to_vec());
                rest = tail;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(alert_of(&batches).unwrap(), whole);
        }
    }

    #[test]
    fn an_alert_says_what_it_rests_on() {
        let members: Vec<Member> = [1, 2, 3].map(|n| numbered(n, 0)).to_vec();
        let alert = alert_of(&[members]).unwrap();
        assert_eq!((alert.score, alert.level), (0.855, Level::Critical), "0.5 x 1.14 x 1.5");
        assert_eq!(alert.category, "persistence");
        assert_eq!(
            alert.reasons,
            [
                "Matched on CreateUser.",
                "Matched on DeleteBucket.",
                "Matched on DescribeInstances.",
                "3 events; the gravest, DeleteBucket, destroys data, locks it away or gives it out.",
                "The access key AKIA00000000000002 is known bad according to list.",
                "The address 198.51.100.3 is suspicious according to list.",
                "MITRE ATT&CK: T1098.001 Account Manipulation: Additional Cloud Credentials.",
            ]
        );
    }

    #[test]
    fn lists_are_capped_and_the_count_stops_at_the_cap() {
        let members: Vec<Member> = (0..10_050).map(|n| numbered(n, 0)).collect();
        let alert = alert_of(&members.chunks(999).map(<[_]>::to_vec).collect::<Vec<_>>()).unwrap();
        assert_eq!((alert.event_count, alert.at_least), (10_000, true));
        assert_eq!(alert.first_events.len(), SHOWN_EVENTS);
        assert_eq!(alert.indicators.addresses.len(), INDICATOR_CAP);
        assert_eq!(alert.key_uses.len(), KEY_CAP);
        assert!(alert.key_uses.iter().all(|k| k.uses.len() == USES_PER_KEY));
        let full: Vec<Member> = (0..10_000).map(|n| numbered(n, 0)).collect();
        let exact = alert_of(&[full.clone(), full]).unwrap();
        assert_eq!((exact.event_count, exact.at_least), (10_000, false));
    }

    #[test]
    fn the_accounts_own_copies_of_a_use_outlast_others() {
        let own = Channel::Bus { bus: "default".into(), account: "111122223333".into() };
        let mut m = numbered(1, 0);
        m.provenance = (0..9)
            .map(|n| Channel::Api { user: format!("a{n}") })
            .chain([own.clone()])
            .map(|channel| Provenance { channel, received_at: m.event.time })
            .collect();
        let alert = alert_of(&[vec![m]]).unwrap();
        let copies = &alert.key_uses[0].uses[0].provenance;
        assert_eq!(copies.len(), sentinel_model::alert::COPIES_PER_USE);
        assert!(copies.iter().any(|p| p.channel == own));
    }

    #[test]
    fn a_principal_once_inferred_is_never_acted_on() {
        let mut all = Accumulator::new(Arc::default());
        for inferred in [false, true, false] {
            let mut d = detection("r", Level::High, "alice", vec![numbered(1, 0)]);
            d.principal.inferred = inferred;
            all.add(&d);
        }
        assert!(all.finish()[0].principal.inferred);
    }
}
