//! Correlations over a store: batch by batch, by many at a time.
//!
//! In: what the events of one batch count for correlations. Out: the detections of every window that the batch
//! touched, as they stand with all that the store knows. Groups with the same values, of whatever rules, lie on one
//! shelf: it is read, joined with what the batch brings and written on the condition that nobody wrote in between; then
//! it is read again, until there is nothing left to write. So of two that write neighbouring windows at the same moment, the later one sees both, and what it says has
//! the greater revision. What is said is worked out from the state alone: a batch that comes again, after a crash at
//! whatever moment, says the same again.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use futures::{StreamExt, TryStreamExt, stream};
use sentinel_correlation::{
    Bucket, Group, Hit, Outcome, Plan, Source, SourceKey, claim, completing, evaluate, revision,
};
use sentinel_durable::{Clock, contention::pause};
use sentinel_model::{Detection, EventRef, Timestamp, Window, time};
use sentinel_state::{
    Table, TableError,
    correlations::{Correlations as Store, Shelf, ShelfKey, StoredBucket, bucket_name},
};

use super::Correlated;
use crate::rules::{Correlations, RuleSet};

/// Attempts to write against other writers before the batch goes back to the queue.
const ATTEMPTS: u32 = 30;
/// Shelves that are worked on at the same time.
const AT_ONCE: usize = 16;
/// Shelves kept in memory, beyond which all are let go, and the largest that is kept.
const WARM_SHELVES: usize = 2_000;
const WARM_BYTES: usize = 16 * 1024;
/// Groups of one correlation that one batch is looked at for; the rest comes with the next event of each.
const MAX_GROUPS: usize = 20_000;

/// Why correlations could not be worked out; the batch comes again.
#[derive(Debug, thiserror::Error)]
pub enum CorrelationError {
    /// The store failed.
    #[error(transparent)]
    Table(#[from] TableError),
    /// Other writers kept changing the same group.
    #[error("a group of correlation {0} was changed by others {ATTEMPTS} times in a row")]
    Contended(String),
}

/// The correlations in a store.
#[derive(Clone)]
pub struct StoredCorrelations {
    store: Store,
    clock: Arc<dyn Clock>,
    warm: Arc<Warm>,
}

/// First and last start of the windows that were read.
type Range = (Timestamp, Timestamp);

/// Shelves as this process last read them, which saves reading them before the next write.
#[derive(Debug, Default)]
struct Warm(Mutex<HashMap<ShelfKey, (Range, Shelf)>>);

impl Warm {
    fn shelves(&self) -> MutexGuard<'_, HashMap<ShelfKey, (Range, Shelf)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shelf, if it was read over this range; it is gone from here then.
    fn take(&self, key: &ShelfKey, range: Range) -> Option<Shelf> {
        self.shelves().remove(key).filter(|(read, _)| *read == range).map(|(_, shelf)| shelf)
    }

    fn keep(&self, key: &ShelfKey, range: Range, read: Shelf) {
        if read.bytes() > WARM_BYTES {
            return;
        }
        let mut shelves = self.shelves();
        if shelves.len() >= WARM_SHELVES {
            shelves.clear();
        }
        shelves.insert(key.clone(), (range, read));
    }
}

/// A group of one correlation in one account.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct GroupKey {
    plan: usize,
    account: String,
    key: u128,
}

/// What a batch brings to a group.
#[derive(Debug, Default)]
struct Work {
    group: Group,
    /// By start of the window.
    hits: BTreeMap<Timestamp, Vec<Hit>>,
    sources: BTreeMap<Timestamp, Vec<(SourceKey, Source)>>,
    /// Windows to look at though nothing comes to them: an event of theirs is another group's too.
    look: BTreeSet<Timestamp>,
}

impl Work {
    /// Starts of all windows that something comes to.
    fn touched(&self) -> BTreeSet<Timestamp> {
        self.hits.keys().chain(self.sources.keys()).chain(&self.look).copied().collect()
    }
}

/// A group's buckets by start of the window.
type Buckets = HashMap<Timestamp, StoredBucket>;

/// Buckets of other groups of a plan, by name and start of the window.
type Others = HashMap<(u128, Timestamp), StoredBucket>;

/// Windows of a group that a batch concerns.
struct Windows {
    /// What is said of may have changed.
    looked_at: BTreeSet<Timestamp>,
    /// What that depends on.
    read: BTreeSet<Timestamp>,
}

impl Windows {
    fn of(at: &At<'_>, work: &Work) -> Self {
        // What completes in a window depends on hits of the one before; what it lists on one more, for what the window
        // before lists is not listed again.
        let after = |s| (0..=2).map(move |n| at.next(s, n));
        let looked_at: BTreeSet<Timestamp> = work.touched().into_iter().flat_map(after).collect();
        let read = looked_at.iter().flat_map(|s| (-2..=0).map(|n| at.next(*s, n))).collect();
        Self { looked_at, read }
    }
}

/// Where a group lies. Those of a plan whose groups share events are found by their keys alone, so each lies alone; and
/// a group that is the whole account is written often enough without company.
fn shelf_key(plan: &Plan, account: &str, key: u128, group: &Group) -> ShelfKey {
    let values = if plan.splits_events || group.0.is_empty() { key } else { group.key(0) };
    ShelfKey { account: account.to_owned(), minutes: plan.window_minutes(), values }
}

/// What one group gave.
#[derive(Default)]
struct Given {
    detections: Vec<Detection>,
    /// For correlations that refer to this one.
    onward: Vec<(GroupKey, Group, Timestamp, SourceKey, Source)>,
    /// Other groups, with the windows in which what they list may have changed.
    neighbours: Vec<(u128, Timestamp)>,
}

impl StoredCorrelations {
    /// Correlations kept in a table.
    pub fn new(table: Arc<dyn Table>, clock: Arc<dyn Clock>) -> Self {
        Self { store: Store::new(table), clock, warm: Arc::default() }
    }

    /// Takes in what the events of a batch count for, and says how every window that they touch stands.
    pub async fn handle(&self, rules: &RuleSet, batch: Vec<Correlated>) -> Result<Vec<Detection>, CorrelationError> {
        let correlations = rules.correlations();
        let mut open: BTreeMap<usize, BTreeMap<GroupKey, Work>> = BTreeMap::new();
        for Correlated { plan, account, group, hit } in batch {
            let key = GroupKey { plan, account, key: group.key(correlations.plans[plan].fingerprint) };
            let start = correlations.plans[plan].window(hit.event().time).start;
            let work = open.entry(correlations.depths[plan]).or_default().entry(key).or_default();
            work.group = group;
            work.hits.entry(start).or_default().push(hit);
        }
        let mut detections = Vec::new();
        // Correlations that refer to others come after those.
        while let Some((_, works)) = open.pop_first() {
            let neighbours = self.level(correlations, works, &mut open, &mut detections).await?;
            // One round is enough: neighbours' own windows depend on no further group.
            self.level(correlations, neighbours, &mut open, &mut detections).await?;
        }
        Ok(detections)
    }

    /// Works on groups of correlations that do not refer to each other. Returns the neighbours to be looked at again.
    async fn level(
        &self,
        correlations: &Correlations,
        works: BTreeMap<GroupKey, Work>,
        open: &mut BTreeMap<usize, BTreeMap<GroupKey, Work>>,
        detections: &mut Vec<Detection>,
    ) -> Result<BTreeMap<GroupKey, Work>, CorrelationError> {
        let mut per_plan: HashMap<usize, usize> = HashMap::new();
        let mut chosen = Vec::new();
        for (key, work) in works {
            let count = per_plan.entry(key.plan).or_default();
            *count += 1;
            if *count <= MAX_GROUPS {
                chosen.push((key, work));
            } else if *count == MAX_GROUPS + 1 {
                let rule = &correlations.plans[key.plan].rule.id;
                sentinel_telemetry::metrics::correlation_capped(rule);
                tracing::warn!(rule, "more groups in one batch than are looked at: the rest is left out");
            }
        }
        let mut shelves: BTreeMap<ShelfKey, Vec<(GroupKey, Work)>> = BTreeMap::new();
        for (key, work) in chosen {
            let plan = &correlations.plans[key.plan];
            shelves.entry(shelf_key(plan, &key.account, key.key, &work.group)).or_default().push((key, work));
        }
        let given: Vec<Vec<(GroupKey, Given)>> = stream::iter(shelves)
            .map(|(shelf, works)| async move { self.shelf(correlations, &shelf, works).await })
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        let mut neighbours: BTreeMap<GroupKey, Work> = BTreeMap::new();
        for (key, given) in given.into_iter().flatten() {
            detections.extend(given.detections);
            for (parent, group, start, source_key, source) in given.onward {
                let work = open.entry(correlations.depths[parent.plan]).or_default().entry(parent).or_default();
                work.group = group;
                work.sources.entry(start).or_default().push((source_key, source));
            }
            for (other, start) in given.neighbours {
                let other = GroupKey { key: other, ..key.clone() };
                neighbours.entry(other).or_default().look.insert(start);
            }
        }
        Ok(neighbours)
    }

    /// Works on groups that lie on one shelf.
    async fn shelf(
        &self,
        correlations: &Correlations,
        key: &ShelfKey,
        works: Vec<(GroupKey, Work)>,
    ) -> Result<Vec<(GroupKey, Given)>, CorrelationError> {
        let groups: Vec<(At<'_>, &Work, Windows)> = works
            .iter()
            .map(|(key, work)| {
                let plan = &correlations.plans[key.plan];
                let at = At { plan, key, width: i64::from(plan.window_minutes()) * 60 };
                let windows = Windows::of(&at, work);
                (at, work, windows)
            })
            .collect();
        let all = || groups.iter().flat_map(|(_, _, windows)| &windows.read);
        let (Some(from), Some(to)) = (all().min(), all().max()) else { return Ok(Vec::new()) };
        let (mut warm, mut attempt) = (self.warm.take(key, (*from, *to)), 0);
        let buckets = loop {
            attempt += 1;
            // What is warm may be old: good enough to write on condition, not to say anything.
            let (mut loaded, may_be_old) = match warm.take() {
                Some(warm) => (warm, true),
                None => (self.store.load(key, *from, *to).await?, false),
            };
            let mut buckets: Vec<Buckets> = Vec::with_capacity(groups.len());
            let mut changed = false;
            for (at, work, windows) in &groups {
                let mut of_group = at.read(&loaded, &windows.read);
                for start in at.absorb(&mut of_group, work, &windows.looked_at) {
                    if let Some(stored) = of_group.get(&start) {
                        loaded.put(at.name(at.key.key), start, stored);
                        changed = true;
                    }
                }
                buckets.push(of_group);
            }
            if !changed {
                if may_be_old {
                    continue;
                }
                self.warm.keep(key, (*from, *to), loaded);
                break buckets;
            }
            if attempt > ATTEMPTS {
                return Err(CorrelationError::Contended(groups[0].0.plan.rule.id.clone()));
            }
            let began = Instant::now();
            match self.store.save(loaded, self.clock.now()).await {
                Err(e) if e.is_condition() => pause(attempt, began.elapsed()).await,
                done => done?,
            }
        };
        let mut given = Vec::with_capacity(groups.len());
        for ((at, work, windows), mut buckets) in groups.iter().zip(buckets) {
            if let Some(group) = buckets.values().find(|stored| !stored.group.0.is_empty()).map(|s| s.group.clone()) {
                // Who is only looked at is known by its key alone.
                for stored in buckets.values_mut() {
                    stored.group = group.clone();
                }
            }
            given.push((at.key.clone(), self.say(correlations, at, work, &windows.looked_at, &buckets).await?));
        }
        Ok(given)
    }

    /// What the windows of a group give as they stand.
    async fn say(
        &self,
        correlations: &Correlations,
        at: &At<'_>,
        work: &Work,
        looked_at: &BTreeSet<Timestamp>,
        buckets: &Buckets,
    ) -> Result<Given, CorrelationError> {
        let plan = at.plan;
        let mut given = Given::default();
        let mut owners: HashMap<EventRef, String> = HashMap::new();
        let mut outcomes = Vec::new();
        for start in looked_at {
            let Some(this) = buckets.get(start) else { continue };
            let (measure, versions) = at.knowledge(buckets, *start);
            if !plan.parents.is_empty() {
                at.onward(buckets, *start, revision(measure, versions), &correlations.plans, &mut given.onward);
            }
            if work.look.is_empty() {
                at.neighbours(&this.bucket, *start, &mut given.neighbours);
                // What completes here may list events of the window before too.
                if let Some(previous) = buckets.get(&at.next(*start, -1)) {
                    at.neighbours(&previous.bucket, *start, &mut given.neighbours);
                }
            }
            let outcome = at.evaluate(buckets, *start);
            if let Some(outcome) = &outcome {
                let id = plan.alert_id(&at.key.account, &this.group, at.window(*start));
                owners.extend(outcome.evidence.iter().map(|e| (e.member.event.clone(), id.clone())));
            }
            outcomes.push((*start, this, outcome, measure, versions));
        }
        if correlations.quiet_plans.contains(&at.key.plan) {
            return Ok(given);
        }
        for (start, this, mut outcome, mut measure, mut versions) in outcomes {
            if plan.splits_events {
                let others = self.neighbours(at, buckets, start).await?;
                measure += others.values().map(|stored| stored.bucket.measure()).sum::<u64>();
                versions += others.values().map(|stored| stored.version).sum::<u64>();
                if let Some(outcome) = &mut outcome {
                    at.give_way(outcome, &others, &mut owners);
                }
            }
            let (window, revision) = (at.window(start), revision(measure, versions));
            let account = &at.key.account;
            match outcome.filter(|outcome| !outcome.evidence.is_empty()) {
                Some(outcome) => {
                    if outcome.at_least {
                        sentinel_telemetry::metrics::correlation_capped(&plan.rule.id);
                    }
                    given.detections.push(plan.detection(account, &this.group, window, &outcome, revision));
                }
                None if this.bucket.is_raised() => {
                    let heir = this.bucket.hits().into_iter().find_map(|hit| owners.get(hit.event()).cloned());
                    let heir = heir.unwrap_or_default();
                    given.detections.push(plan.withdrawal(account, &this.group, window, revision, heir));
                }
                None => {}
            }
        }
        Ok(given)
    }

    /// What is known of other groups in which hits of a window, or of those that it depends on, are hits too.
    async fn neighbours(&self, at: &At<'_>, buckets: &Buckets, start: Timestamp) -> Result<Others, CorrelationError> {
        let mut wanted = BTreeSet::new();
        for stored in (-2..=0).filter_map(|n| buckets.get(&at.next(start, n))) {
            for hit in stored.bucket.own_hits() {
                let window = at.plan.window(hit.event().time).start;
                for group in &hit.elsewhere {
                    let alone = shelf_key(at.plan, &at.key.account, *group, &Group::default());
                    wanted.extend((-1..=1).map(|n| (alone.clone(), at.name(*group), at.next(window, n))));
                }
            }
        }
        Ok(self.store.load_alone(&wanted.into_iter().collect::<Vec<_>>()).await?)
    }
}

/// A group of a plan.
struct At<'a> {
    plan: &'a Plan,
    key: &'a GroupKey,
    /// Seconds of a window.
    width: i64,
}

impl At<'_> {
    /// The start of the window so many later.
    fn next(&self, start: Timestamp, windows: i64) -> Timestamp {
        time::plus_seconds(start, windows * self.width)
    }

    fn window(&self, start: Timestamp) -> Window {
        Window { start, minutes: self.plan.window_minutes() }
    }

    /// The name of a group's buckets.
    fn name(&self, group: u128) -> u128 {
        bucket_name(&self.plan.rule.id, group)
    }

    fn read(&self, from: &Shelf, starts: &BTreeSet<Timestamp>) -> Buckets {
        let name = self.name(self.key.key);
        starts.iter().filter_map(|start| Some((*start, from.bucket(name, *start)?))).collect()
    }

    /// Joins what the batch brings with what is stored; returns the windows that changed.
    fn absorb(&self, buckets: &mut Buckets, work: &Work, looked_at: &BTreeSet<Timestamp>) -> BTreeSet<Timestamp> {
        let mut changed = BTreeSet::new();
        for (start, hits) in &work.hits {
            let stored = buckets.entry(*start).or_insert_with(|| fresh(work));
            for hit in hits {
                if stored.bucket.insert(self.plan, hit.clone()) {
                    changed.insert(*start);
                }
            }
        }
        for (start, sources) in &work.sources {
            let stored = buckets.entry(*start).or_insert_with(|| fresh(work));
            for (key, source) in sources {
                if stored.bucket.put_source(*key, source.clone()) {
                    changed.insert(*start);
                }
            }
        }
        if self.plan.can_be_taken_back() {
            for start in looked_at {
                let complete = self.evaluate(buckets, *start).is_some();
                if complete && buckets.get_mut(start).is_some_and(|stored| stored.bucket.mark_raised()) {
                    changed.insert(*start);
                }
            }
        }
        changed.retain(|start| buckets.get(start).is_some_and(|stored| !stored.bucket.is_empty()));
        for start in &changed {
            if let Some(stored) = buckets.get_mut(start)
                && stored.group.0.is_empty()
            {
                stored.group = work.group.clone();
            }
        }
        changed
    }

    fn evaluate(&self, buckets: &Buckets, start: Timestamp) -> Option<Outcome> {
        let none = Bucket::default();
        let bucket = |n| buckets.get(&self.next(start, n)).map_or(&none, |stored| &stored.bucket);
        evaluate(self.plan, bucket(-2), bucket(-1), bucket(0))
    }

    /// How much is known of a window and those that it depends on, and the sum of their versions.
    fn knowledge(&self, buckets: &Buckets, start: Timestamp) -> (u64, u64) {
        let three = (-2..=0).filter_map(|n| buckets.get(&self.next(start, n)));
        three.fold((0, 0), |(measure, versions), s| (measure + s.bucket.measure(), versions + s.version))
    }

    /// What a window's completing hits are to those that refer to this correlation. Where they could have been and are
    /// not, that is said too.
    fn onward(
        &self,
        buckets: &Buckets,
        start: Timestamp,
        revision: u64,
        plans: &[Plan],
        onward: &mut Vec<(GroupKey, Group, Timestamp, SourceKey, Source)>,
    ) {
        let none = Bucket::default();
        let bucket = |n| buckets.get(&self.next(start, n)).map_or(&none, |stored| &stored.bucket);
        let complete: BTreeSet<_> = completing(self.plan, bucket(-1), bucket(0)).iter().map(|hit| hit.key()).collect();
        let mut sources: BTreeMap<(usize, Group, Timestamp), Vec<Hit>> = BTreeMap::new();
        for hit in bucket(0).hits() {
            for (position, next) in hit.onward.iter().enumerate() {
                let (Some(next), Some(link)) = (next, self.plan.parents.get(position)) else { continue };
                // Windows of the one that refers to this may be of another width.
                let parents_window = plans[link.plan].window(hit.event().time).start;
                let hits = sources.entry((position, next.group.clone(), parents_window)).or_default();
                if complete.contains(&hit.key()) {
                    hits.push(Hit {
                        base: link.base,
                        evidence: Arc::clone(&hit.evidence),
                        values: next.values.clone(),
                        onward: next.onward.clone(),
                        elsewhere: Vec::new(),
                    });
                }
            }
        }
        for ((position, group, parents_window), hits) in sources {
            if hits.is_empty() && self.plan.only_grows() {
                continue;
            }
            let link = self.plan.parents[position];
            let key = group.key(plans[link.plan].fingerprint);
            let parent = GroupKey { plan: link.plan, account: self.key.account.clone(), key };
            let source_key = (link.base, self.key.key, start.as_second());
            onward.push((parent, group, parents_window, source_key, Source { revision, hits }));
        }
    }

    /// Takes events off the list that another group's alert has: the one whose completing hit comes first.
    fn give_way(&self, outcome: &mut Outcome, others: &Others, owners: &mut HashMap<EventRef, String>) {
        for contested in std::mem::take(&mut outcome.contested) {
            let start = self.plan.window(contested.event.time).start;
            let mut best = (contested.completed_by.clone(), self.key.key);
            for group in &contested.elsewhere {
                let stored = |n| others.get(&(self.name(*group), self.next(start, n)));
                let three = [-1, 0, 1].map(|n| stored(n).map(|s| s.bucket.clone()).unwrap_or_default());
                let Some(by) = claim(self.plan, &three, &contested.event) else { continue };
                if (by.clone(), *group) < best {
                    if let Some(theirs) = stored(0) {
                        let id = self.plan.alert_id(&self.key.account, &theirs.group, self.plan.window(by.time));
                        owners.insert(contested.event.clone(), id);
                    }
                    best = (by, *group);
                }
            }
            if best.1 != self.key.key {
                outcome.drop_event(&contested.event);
            }
        }
    }

    /// Other groups in which hits of this bucket are hits too, if what completes from `since` on can list them.
    fn neighbours(&self, bucket: &Bucket, since: Timestamp, neighbours: &mut Vec<(u128, Timestamp)>) {
        let earliest = time::plus_seconds(since, -i64::try_from(self.plan.timespan).unwrap_or(i64::MAX));
        for hit in bucket.hits().into_iter().filter(|hit| hit.event().time >= earliest) {
            let start = self.plan.window(hit.event().time).start;
            neighbours.extend(hit.elsewhere.iter().map(|group| (*group, start)));
        }
        neighbours.sort_unstable();
        neighbours.dedup();
    }
}

fn fresh(work: &Work) -> StoredBucket {
    StoredBucket { group: work.group.clone(), ..StoredBucket::default() }
}
