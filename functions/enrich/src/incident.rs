//! Grouping alerts into incidents: which alerts are one story.
//!
//! Two alerts of level low or above are linked when no more than 24 hours lie between them and they share
//! an account and a principal that stands for someone, or an access key, or a lineage: a chain of steps, each
//! no earlier than the one before, from an identity of one alert to an identity of the other, none of them after
//! the later alert or more than 24 hours before the earlier. An incident is a set of alerts connected by
//! links. Pure and independent of order; how it is told is [`crate::story`].

use std::collections::{BTreeMap, BinaryHeap, HashMap};

use sentinel_model::{
    Alert, Identity, Incident, Level, LineageEdge, Timestamp,
    incident::{AlertBrief, CHAIN_SECONDS},
    lineage, time,
};

use crate::story;

/// Groups alerts into incidents, by time of their first event. Alerts below level low are left out, and those that later
/// events showed to be none.
pub fn group(alerts: &[Alert], edges: &[LineageEdge]) -> Vec<Incident> {
    group_briefs(
        &alerts
            .iter()
            .filter(|a| a.level >= Level::Low && a.superseded_by.is_none())
            .map(AlertBrief::of)
            .collect::<Vec<_>>(),
        edges,
    )
}

/// The same of what grouping needs to know of the alerts; none below level low may be among them.
pub fn group_briefs(briefs: &[AlertBrief], edges: &[LineageEdge]) -> Vec<Incident> {
    let edges = lineage::condense(edges.iter().cloned());
    let told = story::Lineage::new(&edges);
    let mut incidents: Vec<Incident> = components(briefs, &edges)
        .into_iter()
        .map(|members| {
            let members: Vec<&AlertBrief> = members.into_iter().map(|i| &briefs[i]).collect();
            story::tell(&members, &told)
        })
        .collect();
    incidents.sort_by(|a, b| (a.time_first, &a.incident_id).cmp(&(b.time_first, &b.incident_id)));
    incidents
}

/// The connected sets of alerts, as positions in `briefs`, each sorted by time and id. Edges must be condensed
/// ([`lineage::condense`]).
pub fn components(briefs: &[AlertBrief], edges: &[LineageEdge]) -> Vec<Vec<usize>> {
    let mut sets = Sets::new(briefs.len());
    let mut order: Vec<usize> = (0..briefs.len()).collect();
    order.sort_by(|a, b| place(&briefs[*a]).cmp(&place(&briefs[*b])));
    chain_shared(briefs, &order, &mut sets);
    Ancestry::new(briefs, &order, edges).link_all(&mut sets);
    let mut found: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for i in order {
        found.entry(sets.root(i)).or_default().push(i);
    }
    found.into_values().collect()
}

fn place(brief: &AlertBrief) -> (Timestamp, &str) {
    (brief.time, brief.alert_id.as_str())
}

/// Links alerts that share account and principal, or a key: in time order, each with the one before whose
/// events reach furthest.
fn chain_shared(briefs: &[AlertBrief], order: &[usize], sets: &mut Sets) {
    let mut furthest: HashMap<(Option<&str>, Option<&str>, &str), usize> = HashMap::new();
    for &i in order {
        let brief = &briefs[i];
        let principal = brief.identifies_someone.then_some((
            Some(brief.account.as_str()),
            Some("principal"),
            brief.principal.as_str(),
        ));
        let keys = brief.keys.iter().map(|k| (None, None, k.as_str()));
        for shared in principal.into_iter().chain(keys) {
            match furthest.get_mut(&shared) {
                None => {
                    furthest.insert(shared, i);
                }
                Some(last) => {
                    if near(&briefs[*last], brief) {
                        sets.join(*last, i);
                    }
                    if brief.time_last > briefs[*last].time_last {
                        *last = i;
                    }
                }
            }
        }
    }
}

/// Whether no more than 24 hours lie between two alerts.
fn near(a: &AlertBrief, b: &AlertBrief) -> bool {
    let (earlier, later) = if a.time <= b.time { (a, b) } else { (b, a) };
    later.time <= time::plus_seconds(earlier.time_last, CHAIN_SECONDS)
}

/// Finds for each alert the alerts whose identities made its own: backwards along the steps, since an identity
/// is made by few while it may make many.
struct Ancestry<'a> {
    briefs: &'a [AlertBrief],
    /// Numbers of identities.
    numbers: HashMap<Identity, usize>,
    /// Steps into each identity: time and makers, by time.
    into: Vec<Vec<(Timestamp, Vec<usize>)>>,
    /// Alerts in which each identity was seen, by time.
    seen: Vec<Vec<usize>>,
    /// Longest time that an alert spans, in seconds.
    span: i64,
}

impl<'a> Ancestry<'a> {
    fn new(briefs: &'a [AlertBrief], order: &[usize], edges: &[LineageEdge]) -> Self {
        let span = briefs.iter().map(|b| time::seconds_between(b.time, b.time_last) + 1).max().unwrap_or(0);
        let mut ancestry = Self { briefs, numbers: HashMap::new(), into: Vec::new(), seen: Vec::new(), span };
        for edge in edges {
            let makers: Vec<usize> = edge.makers().map(|m| ancestry.number(m)).collect();
            let made = ancestry.number(edge.made.clone());
            ancestry.into[made].push((edge.time, makers));
        }
        for steps in &mut ancestry.into {
            steps.sort();
        }
        for &i in order {
            for identity in briefs[i].identities() {
                // An identity without steps can neither make nor be made: nothing leads to it.
                if let Some(&n) = ancestry.numbers.get(&identity) {
                    ancestry.seen[n].push(i);
                }
            }
        }
        ancestry
    }

    fn number(&mut self, identity: Identity) -> usize {
        let next = self.into.len();
        let n = *self.numbers.entry(identity).or_insert(next);
        if n == next {
            self.into.push(Vec::new());
            self.seen.push(Vec::new());
        }
        n
    }

    fn link_all(&self, sets: &mut Sets) {
        for later in 0..self.briefs.len() {
            for identity in self.briefs[later].identities() {
                if let Some(&n) = self.numbers.get(&identity)
                    && !self.into[n].is_empty()
                {
                    self.link(later, n, sets);
                }
            }
        }
    }

    /// Links the alert `of`, in which the identity `made` was seen, to the alerts of those from whom a chain of
    /// steps leads to it. Chains that end within the alert's time come first; then those that end after it,
    /// which only an alert at least as late as their end can be linked by.
    fn link(&self, of: usize, made: usize, sets: &mut Sets) {
        let alert = &self.briefs[of];
        let floor = time::plus_seconds(alert.time, -2 * CHAIN_SECONDS - self.span);
        let ceiling = time::plus_seconds(alert.time_last, CHAIN_SECONDS + self.span);
        let mut reached: HashMap<usize, Timestamp> = HashMap::new();
        let (within, after): (Vec<_>, Vec<_>) = self.into[made]
            .iter()
            .filter(|(t, _)| *t >= floor && *t <= ceiling)
            .partition(|(t, _)| *t <= alert.time_last);
        let starts = std::iter::once((None, within)).chain(after.into_iter().map(|step| (Some(step.0), vec![step])));
        for (end, steps) in starts {
            let mut open: BinaryHeap<(Timestamp, usize)> =
                steps.iter().flat_map(|(t, makers)| makers.iter().map(move |m| (*t, *m))).collect();
            while let Some((t, maker)) = open.pop() {
                // Reached before by a chain that begins no earlier and ends no later: nothing to gain.
                if reached.get(&maker).is_some_and(|known| *known >= t) {
                    continue;
                }
                reached.insert(maker, t);
                self.link_seen(of, maker, t, end, sets);
                for (earlier, makers) in self.into[maker].iter().rev() {
                    if *earlier > t {
                        continue;
                    }
                    if *earlier < floor {
                        break;
                    }
                    open.extend(makers.iter().map(|m| (*earlier, *m)));
                }
            }
        }
    }

    /// Links `of` to the alerts in which `maker` was seen, over a chain of steps from `begin` to `end`.
    fn link_seen(&self, of: usize, maker: usize, begin: Timestamp, end: Option<Timestamp>, sets: &mut Sets) {
        let alert = &self.briefs[of];
        let first = time::plus_seconds(alert.time, -CHAIN_SECONDS - self.span);
        let last = time::plus_seconds(alert.time_last, CHAIN_SECONDS);
        let seen = &self.seen[maker];
        let from = seen.partition_point(|i| self.briefs[*i].time < first);
        for &i in &seen[from..] {
            let other = &self.briefs[i];
            if other.time > last {
                break;
            }
            let in_time = end.is_none_or(|end| end <= other.time_last.max(alert.time_last))
                && begin >= time::plus_seconds(other.time.min(alert.time), -CHAIN_SECONDS);
            if in_time && near(alert, other) {
                sets.join(of, i);
            }
        }
    }
}

/// Disjoint sets.
struct Sets(Vec<usize>);

impl Sets {
    fn new(n: usize) -> Self {
        Self((0..n).collect())
    }

    fn root(&mut self, mut i: usize) -> usize {
        while self.0[i] != i {
            self.0[i] = self.0[self.0[i]];
            i = self.0[i];
        }
        i
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.max(b)] = a.min(b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;
    use proptest::prelude::*;
    use sentinel_model::{Attack, lineage::LineageKind};

    const BASE: &str = "2024-05-01T00:00:00Z";

    fn hours(h: f64) -> Timestamp {
        #[allow(clippy::cast_possible_truncation)]
        time::plus_seconds(at(BASE), (h * 3600.0) as i64)
    }

    fn brief(id: &str, account: &str, who: &str, h: f64) -> AlertBrief {
        AlertBrief {
            alert_id: id.into(),
            account: account.into(),
            principal: who.into(),
            identifies_someone: who != "unknown",
            time: hours(h),
            time_last: hours(h),
            level: Level::Medium,
            score: 0.5,
            title: "T".into(),
            attack: Attack::default(),
            keys: [].into(),
            source_ips: [].into(),
            event_count: 1,
            at_least: false,
            superseded: false,
        }
    }

    fn with_key(mut brief: AlertBrief, key: &str) -> AlertBrief {
        brief.keys.insert(key.into());
        brief
    }

    fn identity(text: &str) -> Identity {
        if text.starts_with("AKIA") { Identity::AccessKey(text.into()) } else { Identity::Principal(text.into()) }
    }

    fn edge(maker: &str, made: &str, h: f64) -> LineageEdge {
        LineageEdge {
            maker: identity(maker),
            maker_key: None,
            made: identity(made),
            how: LineageKind::Made,
            time: hours(h),
            event_id: format!("{maker}-{made}-{h}"),
        }
    }

    fn sets(briefs: &[AlertBrief], edges: &[LineageEdge]) -> Vec<Vec<String>> {
        let edges = lineage::condense(edges.iter().cloned());
        let mut sets: Vec<Vec<String>> = components(briefs, &edges)
            .into_iter()
            .map(|c| {
                let mut ids: Vec<String> = c.into_iter().map(|i| briefs[i].alert_id.clone()).collect();
                ids.sort();
                ids
            })
            .collect();
        sets.sort();
        sets
    }

    fn together(briefs: &[AlertBrief], edges: &[LineageEdge]) -> bool {
        sets(briefs, edges).len() == 1
    }

    #[test]
    fn a_shared_principal_links_within_a_day_and_chains() {
        let p = |id, h| brief(id, "1", "alice", h);
        assert!(together(&[p("a", 0.0), p("b", 24.0)], &[]));
        assert!(!together(&[p("a", 0.0), p("b", 24.01)], &[]));
        assert!(together(&[p("a", 0.0), p("b", 48.0), p("c", 24.0)], &[]));
        assert!(!together(&[p("a", 0.0), brief("b", "2", "alice", 1.0)], &[]), "another account");
        assert!(!together(&[brief("a", "1", "unknown", 0.0), brief("b", "1", "unknown", 0.0)], &[]));
    }

    #[test]
    fn a_long_alert_reaches_as_far_as_its_last_event() {
        let mut long = brief("a", "1", "alice", 0.0);
        long.time_last = hours(10.0);
        assert!(together(&[long, brief("b", "1", "alice", 5.0), brief("c", "1", "alice", 34.0)], &[]));
    }

    #[test]
    fn a_shared_key_links_in_any_account() {
        let a = with_key(brief("a", "1", "alice", 0.0), "AKIA1");
        let b = with_key(brief("b", "2", "unknown", 5.0), "AKIA1");
        assert!(together(&[a.clone(), b], &[]));
        assert!(!together(&[a, with_key(brief("b", "2", "unknown", 30.0), "AKIA1")], &[]));
    }

    #[test]
    fn a_hop_over_three_identities_is_one_incident() {
        let briefs = [
            brief("a", "1", "alice", 0.0),
            with_key(brief("b", "1", "bob", 3.0), "AKIABOB"),
            brief("c", "2", "session", 6.0),
        ];
        let edges = [edge("alice", "AKIABOB", 1.0), edge("bob", "session", 4.0)];
        assert!(together(&briefs, &edges));
        assert_eq!(sets(&briefs, &edges[..1]).len(), 2, "the second step is what joins the third");
    }

    #[test]
    fn lineage_passes_through_identities_without_alerts() {
        let briefs = [brief("a", "1", "alice", 0.0), brief("c", "2", "carol", 6.0)];
        let mut by_key = edge("bob", "carol", 2.0);
        by_key.maker_key = Some("AKIABOB".into());
        assert!(together(&briefs, &[edge("alice", "AKIABOB", 1.0), by_key.clone()]));
        assert!(!together(&briefs, &[edge("alice", "AKIABOB", 3.0), by_key]), "steps must be in time order");
        assert!(
            together(&briefs, &[edge("alice", "bob", 2.0), edge("bob", "carol", 2.0)]),
            "the same time is in order"
        );
    }

    #[test]
    fn siblings_of_a_maker_without_alerts_stay_apart() {
        let briefs = [brief("a", "1", "alice", 5.0), brief("b", "1", "bob", 6.0)];
        let edges = [edge("ci", "alice", 1.0), edge("ci", "bob", 2.0)];
        assert!(!together(&briefs, &edges));
        let with_maker = [briefs[0].clone(), briefs[1].clone(), brief("c", "1", "ci", 0.5)];
        assert!(together(&with_maker, &edges));
    }

    #[test]
    fn a_step_after_the_later_alert_or_long_before_the_earlier_links_nothing() {
        let briefs = [brief("a", "1", "alice", 30.0), brief("b", "1", "bob", 35.0)];
        for (h, linked) in [(5.9, false), (6.0, true), (32.0, true), (35.0, true), (35.1, false)] {
            assert_eq!(together(&briefs, &[edge("alice", "bob", h)]), linked, "{h}");
        }
        // The maker's alert may be the later one.
        let later_maker = [brief("a", "1", "alice", 35.0), brief("b", "1", "bob", 30.0)];
        assert!(together(&later_maker, &[edge("alice", "bob", 33.0)]));
        assert!(!together(&later_maker, &[edge("alice", "bob", 36.0)]));
        // More than a day apart, lineage does not help.
        let apart = [brief("a", "1", "alice", 0.0), brief("b", "1", "bob", 25.0)];
        assert!(!together(&apart, &[edge("alice", "bob", 1.0)]));
    }

    /// The definition itself, by trying all chains of steps between all pairs.
    fn by_definition(briefs: &[AlertBrief], edges: &[LineageEdge]) -> Vec<Vec<String>> {
        fn leads(
            edges: &[LineageEdge],
            from: &Identity,
            to: &AlertBrief,
            after: Timestamp,
            until: Timestamp,
            depth: u8,
        ) -> bool {
            depth > 0
                && edges.iter().any(|e| {
                    e.time >= after
                        && e.time <= until
                        && e.makers().any(|m| m == *from)
                        && (to.identities().any(|i| i == e.made) || leads(edges, &e.made, to, e.time, until, depth - 1))
                })
        }
        let linked = |a: &AlertBrief, b: &AlertBrief| {
            let begin = time::plus_seconds(a.time.min(b.time), -CHAIN_SECONDS);
            let end = a.time_last.max(b.time_last);
            near(a, b)
                && ((a.identifies_someone && a.account == b.account && a.principal == b.principal)
                    || a.keys.intersection(&b.keys).next().is_some()
                    || a.identities().any(|i| leads(edges, &i, b, begin, end, 6))
                    || b.identities().any(|i| leads(edges, &i, a, begin, end, 6)))
        };
        let mut sets = Sets::new(briefs.len());
        for i in 0..briefs.len() {
            for j in 0..i {
                if linked(&briefs[i], &briefs[j]) {
                    sets.join(i, j);
                }
            }
        }
        let mut found: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for (i, brief) in briefs.iter().enumerate() {
            found.entry(sets.root(i)).or_default().push(brief.alert_id.clone());
        }
        let mut found: Vec<Vec<String>> = found.into_values().collect();
        for ids in &mut found {
            ids.sort();
        }
        found.sort();
        found
    }

    const NAMES: [&str; 7] = ["alice", "bob", "carol", "session", "AKIA1", "AKIA2", "unknown"];

    fn world() -> impl Strategy<Value = (Vec<AlertBrief>, Vec<LineageEdge>)> {
        let alert = (0..7_usize, 0..2_usize, 0..160_u32, 0..20_u32, proptest::option::of(4..6_usize));
        let step = (0..6_usize, 0..6_usize, 0..160_u32, proptest::option::of(4..6_usize));
        (proptest::collection::vec(alert, 1..9), proptest::collection::vec(step, 0..9)).prop_map(|(alerts, steps)| {
            let alerts = alerts.into_iter().enumerate().map(|(i, (who, account, h, long, key))| {
                let who = if NAMES[who].starts_with("AKIA") { "unknown" } else { NAMES[who] };
                let mut b = brief(&format!("al{i}"), ["1", "2"][account], who, f64::from(h) / 2.0);
                b.time_last = time::plus_seconds(b.time, i64::from(long) * 1800);
                b.keys.extend(key.map(|k| NAMES[k].to_owned()));
                b
            });
            let steps = steps.into_iter().map(|(maker, made, h, key)| {
                let mut e = edge(NAMES[maker], NAMES[made], f64::from(h) / 2.0);
                e.maker_key = key.map(|k| NAMES[k].to_owned());
                e
            });
            (alerts.collect(), steps.collect())
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
        #[test]
        fn the_fast_way_finds_what_the_definition_says((briefs, edges) in world()) {
            prop_assert_eq!(sets(&briefs, &edges), by_definition(&briefs, &lineage::condense(edges)));
        }

        #[test]
        fn order_does_not_matter_and_steps_only_merge((briefs, edges) in world()) {
            let whole = sets(&briefs, &edges);
            let turned: Vec<_> = briefs.iter().rev().cloned().collect();
            let steps: Vec<_> = edges.iter().rev().cloned().collect();
            prop_assert_eq!(&sets(&turned, &steps), &whole);
            for n in 0..edges.len() {
                let fewer = sets(&briefs, &edges[..n]);
                for set in &fewer {
                    prop_assert!(whole.iter().any(|w| set.iter().all(|id| w.contains(id))), "a step split {:?}", set);
                }
            }
        }
    }

    #[test]
    fn ten_thousand_alerts_and_a_hundred_thousand_steps_take_seconds() {
        let briefs: Vec<AlertBrief> = (0..10_000_u32)
            .map(|i| brief(&format!("al{i:05}"), "1", &format!("user{}", i % 2000), f64::from(i) / 60.0))
            .collect();
        let mut edges: Vec<LineageEdge> = (0..100_000_u32)
            .map(|i| edge(&format!("user{}", i % 700), &format!("session{}", i % 9000), f64::from(i) / 600.0))
            .collect();
        edges.extend(
            (0..500_u32).map(|i| edge(&format!("session{i}"), &format!("user{}", i + 1000), f64::from(i) / 4.0)),
        );
        let begun = std::time::Instant::now();
        let found = components(&briefs, &lineage::condense(edges));
        assert!(found.len() > 1 && found.len() < 10_000);
        assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
    }
}
