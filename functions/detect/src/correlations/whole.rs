//! The second half of correlations of a whole input: from sorted hits to what completes.
//!
//! In: the hits that [`Correlator`]s collected, those of some accounts at a time ([`Part`]). Out: each [`Completed`]
//! correlation, group by group. Groups come one after the other, the hits of each in order of time; correlations that
//! refer to correlations are looked at after those.

use std::{
    cmp::Ordering,
    collections::{HashMap, HashSet},
    io, mem,
};

use sentinel_correlation::{
    CAP, Evidence, Group, Outcome, Plan,
    judge::{self, Sight},
    slice_width,
};
use sentinel_model::{Detection, EventRef, Timestamp, Window};
use sentinel_spill::{Merge, Sorter};

use super::{
    memory::{Correlator, Slim, SpillError, depth, plan, read_texts, scope, texts_at},
    noted::{AllNoted, TextsAt},
};
use crate::rules::{Correlations, RuleSet};

/// The events that hits name.
pub trait Events {
    /// Compares two events of one time by id, then content: the same event may have several places.
    fn compare(&mut self, a: u64, b: u64) -> io::Result<Ordering>;
}

impl Events for Vec<EventRef> {
    fn compare(&mut self, a: u64, b: u64) -> io::Result<Ordering> {
        let event = |at: u64| usize::try_from(at).ok().and_then(|at| self.get(at)).ok_or(io::ErrorKind::NotFound);
        Ok(event(a)?.cmp(event(b)?))
    }
}

/// A correlation that completed, in one group and window.
#[derive(Debug, Clone, PartialEq)]
pub struct Completed {
    /// The correlation, by position in its set.
    pub plan: usize,
    /// The account.
    pub account: String,
    /// The group.
    pub group: Group,
    /// The window.
    pub window: Window,
    /// The events that the alert lists, in order, each once.
    pub members: Vec<u64>,
    /// The event that completed it first: its principal is the alert's.
    pub completing: u64,
    /// See [`Outcome::peak`].
    pub peak: f64,
    /// See [`Outcome::peak_events`].
    pub peak_events: usize,
    /// Whether hits had to be left out, so that there are at least so many.
    pub at_least: bool,
}

impl Completed {
    /// The detection that it makes; `evidence` gives an event by its place.
    pub fn detection(&self, rules: &RuleSet, evidence: impl Fn(u64) -> std::sync::Arc<Evidence>) -> Detection {
        let outcome = Outcome {
            evidence: self.members.iter().map(|at| evidence(*at)).collect(),
            principal: evidence(self.completing).principal.clone(),
            peak: self.peak,
            peak_events: self.peak_events,
            at_least: self.at_least,
            contested: Vec::new(),
        };
        rules.correlations().plans[self.plan].detection(&self.account, &self.group, self.window, &outcome, 0)
    }

    /// The identity of its alert.
    pub fn alert_id(&self, rules: &RuleSet) -> String {
        rules.correlations().plans[self.plan].alert_id(&self.account, &self.group, self.window)
    }

    /// The sentence that says count, span and group.
    pub fn finding(&self, rules: &RuleSet) -> String {
        rules.correlations().plans[self.plan].finding(&self.group, self.peak, self.peak_events, self.at_least)
    }
}

/// Who is told of what completes.
type Told<'a> = dyn FnMut(Completed) -> Result<(), SpillError> + 'a;

/// All hits of some accounts.
pub struct Part {
    budget: usize,
    hits: Vec<Sorter>,
    texts: AllNoted,
}

impl Correlator {
    /// All that was collected, in parts of accounts. Each is looked at by itself, side by side with the others.
    pub fn into_parts(self) -> Vec<Part> {
        let count = self.hits.len();
        // Accounts of another division would be in other parts.
        let alike = self.joined.iter().all(|(hits, _)| hits.len() == count);
        let count = if alike { count } else { 1 };
        let budget = self.budget * (self.joined.len() + 1) / count;
        let mut parts: Vec<_> = (0..count).map(|_| Vec::new()).collect();
        let mut texts = AllNoted::default();
        for (hits, noted) in self.joined.into_iter().chain([(self.hits, self.texts.into_log())]) {
            for (n, sorter) in hits.into_iter().enumerate() {
                parts[n % count].push(sorter);
            }
            texts.add(noted);
        }
        parts.into_iter().map(|hits| Part { budget, hits, texts: texts.clone() }).collect()
    }
}

impl Part {
    /// All correlations that complete and raise an alert of their own, each handed to `each` as soon as it is known.
    pub fn finish(
        self,
        rules: &RuleSet,
        events: &mut dyn Events,
        mut each: impl FnMut(Completed) -> Result<(), SpillError>,
    ) -> Result<(), SpillError> {
        self.finish_all(rules, events, |completed| {
            if rules.correlations().quiet_plans.contains(&completed.plan) { Ok(()) } else { each(completed) }
        })
    }

    /// The same, also of those that raise no alert of their own.
    pub(crate) fn finish_all(
        self,
        rules: &RuleSet,
        events: &mut dyn Events,
        mut each: impl FnMut(Completed) -> Result<(), SpillError>,
    ) -> Result<(), SpillError> {
        let correlations = rules.correlations();
        let Self { budget, hits, texts } = self;
        let mut streams = Streams(vec![Sorter::merge(hits)?]);
        let mut upper = Correlator::with_budget(budget);
        let mut scope_of: Option<Scope<'_>> = None;
        let mut tools = Tools { events, texts, upper: &mut upper, each: &mut each };
        loop {
            let next = streams.least();
            // Whoever refers to correlations is looked at when all of these are: their hits come by then.
            let ends_depth =
                scope_of.as_ref().is_some_and(|scope| next.is_none_or(|(_, key)| depth(key) != depth(scope.key)));
            if ends_depth && let Some(done) = scope_of.take() {
                done.finish(&mut tools)?;
                if !tools.upper.is_empty() {
                    let more = mem::replace(tools.upper, Correlator::with_budget(budget));
                    streams.0.push(Sorter::merge(more.hits)?);
                    tools.texts.add(more.texts.into_log());
                }
                continue;
            }
            let Some((stream, key)) = next else { break };
            if scope_of.as_ref().is_none_or(|known| scope(known.key) != scope(key))
                && let Some(done) = scope_of.replace(Scope::new(correlations, key)?)
            {
                done.finish(&mut tools)?;
            }
            if let Some(scope) = &mut scope_of
                && let Some((_, bytes)) = streams.0[stream].peek()
            {
                scope.add(key, bytes, &mut tools)?;
            }
            streams.0[stream].advance()?;
        }
        Ok(())
    }
}

/// Sorted hits from several sources.
struct Streams(Vec<Merge>);

impl Streams {
    /// The source with the first hit, and its key.
    fn least(&self) -> Option<(usize, u128)> {
        let heads = self.0.iter().enumerate().filter_map(|(n, stream)| Some((stream.peek()?, n)));
        heads.min().map(|((key, _), n)| (n, key))
    }
}

/// What looking at groups needs from outside.
struct Tools<'t> {
    events: &'t mut dyn Events,
    texts: AllNoted,
    upper: &'t mut Correlator,
    each: &'t mut Told<'t>,
}

/// The hits of one group within one window, in order: what a `Bucket` holds that took them in.
#[derive(Default)]
struct Filled {
    hits: Vec<Slim>,
    /// Number of the event, by hit.
    events: Vec<u32>,
    /// Past [`CAP`] hits, what was met: slice of the timespan, rule, values.
    met: Option<HashSet<(i64, u16, Vec<u64>)>>,
}

impl Filled {
    /// Adds the hits of one time, in order.
    fn extend(&mut self, plan: &Plan, hits: impl Iterator<Item = (Slim, u32)>) {
        for (hit, event) in hits {
            if let Some(met) = &mut self.met {
                // Hits come in order: what is beyond the cap stays so.
                if self.hits.len() >= CAP || !is_new(plan, met, &hit) {
                    continue;
                }
            }
            self.hits.push(hit);
            self.events.push(event);
            if self.hits.len() > CAP {
                self.thin(plan);
            }
        }
    }

    fn thin(&mut self, plan: &Plan) {
        let mut met = HashSet::new();
        let keep: Vec<bool> = self.hits.iter().map(|hit| is_new(plan, &mut met, hit)).collect();
        let mut kept = keep.iter();
        self.hits.retain(|_| kept.next().is_some_and(|keep| *keep));
        let mut kept = keep.iter();
        self.events.retain(|_| kept.next().is_some_and(|keep| *keep));
        self.hits.truncate(CAP);
        self.events.truncate(CAP);
        self.met = Some(met);
    }
}

/// Whether a hit is the first of its kind in its slice of the timespan; where every event counts each is.
fn is_new(plan: &Plan, met: &mut HashSet<(i64, u16, Vec<u64>)>, hit: &Slim) -> bool {
    let Some(width) = slice_width(plan) else { return true };
    met.insert((hit.time.as_second().div_euclid(width), hit.base, hit.numbers.as_slice().to_vec()))
}

/// One correlation in one account: its groups come one after the other, the hits of each in order of time.
struct Scope<'a> {
    correlations: &'a Correlations,
    number: usize,
    plan: &'a Plan,
    key: u128,
    /// Where account and group are: few groups complete anything.
    texts: TextsAt,
    /// The window that is filled, its end in seconds, and the two before it.
    window: Option<(Window, i64)>,
    filled: [Filled; 3],
    /// Hits of the second that is read: their order is not yet known.
    pending: Vec<Slim>,
    /// Whether some of them were left out.
    pending_thinned: bool,
    next_event: u32,
    /// What completed with events that another group's alert may list.
    waiting: Vec<(u128, Completed, Vec<Contested>)>,
}

/// A listed event that is a hit in other groups too, and the first completing hit here that has it.
struct Contested {
    event: u64,
    by: (Timestamp, u64),
}

impl<'a> Scope<'a> {
    fn new(correlations: &'a Correlations, key: u128) -> Result<Self, SpillError> {
        let number = plan(key);
        Ok(Self {
            correlations,
            number,
            plan: correlations.plans.get(number).ok_or(SpillError::Damaged)?,
            key: !key,
            texts: TextsAt::default(),
            window: None,
            filled: <[Filled; 3]>::default(),
            pending: Vec::new(),
            pending_thinned: false,
            next_event: 0,
            waiting: Vec::new(),
        })
    }

    fn add(&mut self, key: u128, bytes: &[u8], tools: &mut Tools<'_>) -> Result<(), SpillError> {
        if key != self.key {
            self.close(tools)?;
            self.filled.iter_mut().for_each(clear);
            self.window = None;
            self.key = key;
            self.next_event = 0;
            self.texts = texts_at(bytes)?;
        }
        let hit = Slim::read(bytes)?;
        if self.pending.first().is_some_and(|first| first.time != hit.time) {
            self.settle(tools)?;
        }
        if self.window.is_none_or(|(_, end)| hit.time.as_second() >= end) {
            self.turn(hit.time, tools)?;
        }
        self.pending.push(hit);
        if self.pending.len() > 4 * CAP {
            self.shorten(tools)?;
        }
        Ok(())
    }

    /// Goes on to the window of a time.
    fn turn(&mut self, time: Timestamp, tools: &mut Tools<'_>) -> Result<(), SpillError> {
        let window = self.plan.window(time);
        let width = i64::from(window.minutes) * 60;
        if let Some((filled, _)) = self.window {
            self.close(tools)?;
            let passed = (window.start.as_second() - filled.start.as_second()) / width;
            for _ in 0..passed.clamp(0, 3) {
                self.filled.rotate_left(1);
                clear(&mut self.filled[2]);
            }
        }
        self.window = Some((window, window.start.as_second() + width));
        Ok(())
    }

    /// Puts the hits of one time in order and leaves out what comes twice.
    fn order(&mut self, tools: &mut Tools<'_>) -> Result<(), SpillError> {
        let mut failed = None;
        let mut compare = |a: &Slim, b: &Slim| match tools.events.compare(a.at, b.at) {
            _ if a.at == b.at => Ordering::Equal,
            Ok(order) => order,
            Err(e) => {
                failed = Some(e);
                Ordering::Equal
            }
        };
        // Of several places of one event the first stands for it.
        self.pending.sort_unstable_by(|a, b| compare(a, b).then_with(|| (a.base, a.at).cmp(&(b.base, b.at))));
        let mut first = 0;
        let mut at_of: Vec<u64> = self.pending.iter().map(|hit| hit.at).collect();
        for n in 1..self.pending.len() {
            if compare(&self.pending[first], &self.pending[n]) == Ordering::Equal {
                let least = at_of[first].min(at_of[n]);
                at_of[first..=n].fill(least);
            } else {
                first = n;
            }
        }
        for (hit, at) in self.pending.iter_mut().zip(at_of) {
            hit.at = at;
        }
        self.pending.dedup_by(|again, kept| (again.at, again.base) == (kept.at, kept.base));
        failed.map_or(Ok(()), |e| Err(e.into()))
    }

    /// There are more hits of one time than are kept of a window: those that cannot be are left out.
    fn shorten(&mut self, tools: &mut Tools<'_>) -> Result<(), SpillError> {
        self.order(tools)?;
        if self.pending.len() > CAP {
            self.pending_thinned = true;
            let mut met = HashSet::new();
            let plan = self.plan;
            self.pending.retain(|hit| is_new(plan, &mut met, hit));
            self.pending.truncate(CAP);
        }
        Ok(())
    }

    /// The hits of one time are all there.
    fn settle(&mut self, tools: &mut Tools<'_>) -> Result<(), SpillError> {
        if self.pending.len() > 1 {
            self.order(tools)?;
        }
        let (plan, mut event, mut before) = (self.plan, self.next_event, None);
        let this = &mut self.filled[2];
        if mem::take(&mut self.pending_thinned) && this.met.is_none() {
            this.thin(plan);
        }
        this.extend(
            plan,
            self.pending.drain(..).map(|hit| {
                if before.replace(hit.at) != Some(hit.at) {
                    event = event.wrapping_add(1);
                }
                (hit, event)
            }),
        );
        self.next_event = event;
        Ok(())
    }

    /// The window that was filled is complete: its outcome is told, and its completions to whoever refers to them.
    fn close(&mut self, tools: &mut Tools<'_>) -> Result<(), SpillError> {
        self.settle(tools)?;
        let Some((window, _)) = self.window else { return Ok(()) };
        let all = || self.filled.iter().flat_map(|filled| &filled.hits);
        let values = || all().map(|hit| hit.numbers.as_slice().len()).sum();
        if !self.plan.can_do_with(self.filled.iter().map(|filled| filled.hits.len()).sum(), values()) {
            return Ok(());
        }
        let (account, group) = read_texts(tools.texts.get(self.texts)?).ok_or(SpillError::Damaged)?;
        let group = Group(group);
        let [before, previous, this] = &self.filled;
        let hits: Vec<&Slim> = [before, previous, this].into_iter().flat_map(|filled| &filled.hits).collect();
        let events = [before, previous, this].into_iter().flat_map(|filled| &filled.events);
        let sights: Vec<Sight<'_>> = (hits.iter().zip(events))
            .map(|(hit, event)| Sight {
                time: hit.time,
                event: *event,
                base: hit.base,
                numbers: hit.numbers.as_slice(),
            })
            .collect();
        let starts = (before.hits.len(), before.hits.len() + previous.hits.len());
        if !self.plan.parents.is_empty() {
            for at in judge::completing(self.plan, &sights[starts.0..], starts.1 - starts.0) {
                let hit = hits[starts.0 + at];
                let onward = hit.beyond.as_ref().map_or(&[][..], |beyond| &beyond.onward);
                for (link, next) in self.plan.parents.iter().zip(onward) {
                    let Some(next) = next else { continue };
                    let (next, event) = ((next, link.base), (hit.time, hit.at));
                    tools.upper.push_onward(self.correlations, link.plan, &account, next, event)?;
                }
            }
        }
        let Some(verdict) = judge::judge(self.plan, &sights, starts) else { return Ok(()) };
        let mut members: Vec<u64> = Vec::with_capacity(verdict.listed.len());
        let mut contested: Vec<Contested> = Vec::new();
        for (at, by) in &verdict.listed {
            let (hit, by) = (hits[*at], hits[*by]);
            if members.last() != Some(&hit.at) {
                members.push(hit.at);
            }
            // The hits of one event come one after the other, and the first to complete comes first.
            if !hit.elsewhere().is_empty() && contested.last().is_none_or(|last| last.event != hit.at) {
                contested.push(Contested { event: hit.at, by: (by.time, by.at) });
            }
        }
        let completed = Completed {
            plan: self.number,
            account,
            group,
            window,
            members,
            completing: hits[verdict.first].at,
            peak: verdict.peak,
            peak_events: verdict.peak_events,
            at_least: self.filled.iter().any(|filled| filled.met.is_some()),
        };
        if contested.is_empty() {
            return self.tell(completed, tools);
        }
        self.waiting.push((completed.group.key(self.plan.fingerprint), completed, contested));
        Ok(())
    }

    fn tell(&self, completed: Completed, tools: &mut Tools<'_>) -> Result<(), SpillError> {
        if completed.at_least {
            sentinel_telemetry::metrics::correlation_capped(&self.plan.rule.id);
        }
        (tools.each)(completed)
    }

    /// All groups are known: an event that several list goes to the one whose completing hit comes first.
    fn finish(mut self, tools: &mut Tools<'_>) -> Result<(), SpillError> {
        self.close(tools)?;
        let mut owners: HashMap<u64, ((Timestamp, u64), u128)> = HashMap::new();
        for (key, _, contested) in &self.waiting {
            for Contested { event, by } in contested {
                let owner = owners.entry(*event).or_insert((*by, *key));
                let order = by.0.cmp(&owner.0.0);
                let order = match order {
                    Ordering::Equal if by.1 != owner.0.1 => tools.events.compare(by.1, owner.0.1)?,
                    other => other,
                };
                if order.then(key.cmp(&owner.1)) == Ordering::Less {
                    *owner = (*by, *key);
                }
            }
        }
        for (key, mut completed, contested) in mem::take(&mut self.waiting) {
            let is_lost = |c: &&Contested| owners.get(&c.event).is_some_and(|(_, owner)| *owner != key);
            let lost: HashSet<u64> = contested.iter().filter(is_lost).map(|c| c.event).collect();
            completed.members.retain(|at| !lost.contains(at));
            if !completed.members.is_empty() {
                self.tell(completed, tools)?;
            }
        }
        Ok(())
    }
}

fn clear(filled: &mut Filled) {
    filled.hits.clear();
    filled.events.clear();
    filled.met = None;
}
