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

/// Groups alerts into incidents, by time of their first event. Alerts below level low are left out.
pub fn group(alerts: &[Alert], edges: &[LineageEdge]) -> Vec<Incident> {
    let briefs: Vec<AlertBrief> = alerts.iter().filter(|a| a.level >= Level::Low).map(AlertBrief::of).collect();
    let edges = lineage::condense(edges.iter().cloned());
    let told = story::Lineage::new(&edges);
    let mut incidents: Vec<Incident> = components(&briefs, &edges)
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
