//! From what two sets collected to what differs.
//!
//! Alerts are the same when they have one id, which is made of rule, principal, account and window. The alerts of each
//! set are made as a scan makes them, sorted by id on disk where they are many, and gone through side by side; so memory
//! is bounded by the number of rules.

use std::{collections::HashMap, io, sync::Arc};

use sentinel_detect::{RuleMeta, RuleSet};
use sentinel_enrich::{
    Collected, IndicatorList,
    collect::{Counts, Form, Wanted},
};
use sentinel_model::{Level, Timestamp, hash};
use sentinel_spill::Sorter;
use serde::{Deserialize, Serialize};

use crate::{
    Affected, Change, Kind, Pair, Pass, Report, RuleDifference, Sample, Side,
    pass::Half,
    report::{a_day, by_level},
    told,
};

/// Bytes held in memory of alerts, and of the principals that they concern.
const BUDGET: usize = 6 << 20;
/// Examples of each rule, gained and lost.
const SAMPLES: usize = 5;
/// Ids of events that an example tells.
const SAMPLE_EVENTS: usize = 5;
/// Principals told of each rule.
const PRINCIPALS: usize = 5;
/// Principals told of all rules together.
const PRINCIPALS_IN_ALL: usize = 10;

/// An alert, as much of it as is compared and told.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Outline {
    alert_id: String,
    time: Timestamp,
    rule: RuleId,
    level: Level,
    principal: String,
    account: String,
    source_ip: Option<String>,
    event_count: u64,
    event_ids: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct RuleId {
    id: String,
}

impl Outline {
    fn sample(&self) -> Sample {
        Sample {
            time: self.time,
            alert_id: self.alert_id.clone(),
            level: self.level,
            principal: self.principal.clone(),
            account: self.account.clone(),
            source_ip: self.source_ip.clone(),
            event_count: self.event_count,
            event_ids: self.event_ids.clone(),
        }
    }
}

/// Compares what the two sets of a pair made of the events of all passes. Errors are those of temporary files.
pub fn compare(pair: &Pair, passes: Vec<Pass>, list: &Arc<IndicatorList>, threads: usize) -> io::Result<Report> {
    let mut report = Report::default();
    let mut days: Option<crate::pass::Days> = None;
    let mut halves: [Vec<Half>; 2] = [Vec::new(), Vec::new()];
    for pass in passes {
        report.events += pass.events;
        match &mut days {
            Some(days) => days.merge(pass.days),
            None => days = Some(pass.days),
        }
        halves.iter_mut().zip(pass.halves).for_each(|(all, half)| all.push(half));
    }
    let days = days.unwrap_or_default();
    report.days = days.count();
    (report.first_event, report.last_event) = days.span();

    let mut alerts = Sorter::new(BUDGET);
    let mut counts = [Counts::default(); 2];
    for (side, (halves, loaded)) in halves.into_iter().zip(pair.sides()).enumerate() {
        alerts_of(&loaded.rules, halves, list, threads, &mut counts[side], &mut |lines| {
            for alert in serde_json::Deserializer::from_slice(lines).into_iter::<Outline>() {
                let mut alert = alert?;
                alert.event_ids.truncate(SAMPLE_EVENTS);
                let mut written = Ok(());
                alerts.push(hash::hash_128(alert.alert_id.as_bytes()), 0, |into| {
                    into.push(u8::from(side == 1));
                    written = serde_json::to_writer(into, &alert);
                })?;
                written?;
            }
            Ok(())
        })?;
    }
    report.baseline = Side::of(&pair.baseline.report, &counts[0], report.days);
    report.candidate = Side::of(&pair.candidate.report, &counts[1], report.days);

    let mut differences = Differences::new();
    side_by_side(alerts, &mut |before, after| differences.note(before, after))?;
    differences.tell(pair, report)
}

/// Hands the alerts of one set to `take`, a line of JSON each, some lines at a time.
fn alerts_of(
    rules: &RuleSet,
    halves: Vec<Half>,
    list: &Arc<IndicatorList>,
    threads: usize,
    counts: &mut Counts,
    take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut collectors = Vec::new();
    let mut correlator = sentinel_detect::Correlator::default();
    for half in halves {
        collectors.push(half.collector);
        correlator = correlator.merge(half.correlator);
    }
    let labels = rules.iter().map(|(index, _)| rules.labels(index)).chain(rules.correlation_labels());
    let wanted = Wanted { form: Form::Line, min_level: Level::Informational, threads };
    let alerts = Collected::new(collectors, labels, told::say, Arc::clone(list));
    let found = told::correlations(rules, correlator, &alerts, threads)?;
    alerts.with(found).tell(wanted, &[], counts, take)
}

/// Hands each alert to `take` as the baseline and as the candidate has it.
fn side_by_side(
    alerts: Sorter,
    take: &mut dyn FnMut(Option<Outline>, Option<Outline>) -> io::Result<()>,
) -> io::Result<()> {
    let mut merged = Sorter::merge(vec![alerts])?;
    let (mut open, mut sides) = (None, [None, None]);
    while let Some((key, bytes)) = merged.take_next()? {
        if open.replace(key).is_some_and(|known| known != key) {
            let [before, after] = std::mem::take(&mut sides);
            take(before, after)?;
        }
        let (side, line) = bytes.split_first().ok_or(io::ErrorKind::UnexpectedEof)?;
        sides[usize::from(*side == 1)] = Some(serde_json::from_slice(line)?);
    }
    match sides {
        [None, None] => Ok(()),
        [before, after] => take(before, after),
    }
}

/// What differs, gathered alert by alert.
struct Differences {
    rules: HashMap<String, Tally>,
    /// Who was affected: by rule, and under no rule's name by all.
    people: Sorter,
    gained: Counts,
    lost: Counts,
}

/// What differs of one rule.
#[derive(Default)]
struct Tally {
    baseline: u64,
    candidate: u64,
    gained: u64,
    lost: u64,
    level_changed: u64,
    gained_samples: Samples,
    lost_samples: Samples,
}

/// The first alert of each of the principals whose first alert is earliest: the same in whatever order they come.
#[derive(Default)]
struct Samples(Vec<Sample>);

impl Samples {
    fn note(&mut self, alert: &Outline) {
        let sample = alert.sample();
        let same = |known: &Sample| (&known.principal, &known.account) == (&sample.principal, &sample.account);
        match self.0.iter().position(same) {
            Some(at) if self.0[at] <= sample => return,
            Some(at) => self.0[at] = sample,
            None => self.0.push(sample),
        }
        self.0.sort_unstable();
        self.0.truncate(SAMPLES);
    }
}

impl Differences {
    fn new() -> Self {
        Self { rules: HashMap::new(), people: Sorter::new(BUDGET), gained: Counts::default(), lost: Counts::default() }
    }

    fn note(&mut self, before: Option<Outline>, after: Option<Outline>) -> io::Result<()> {
        let Some(one) = after.as_ref().or(before.as_ref()) else { return Ok(()) };
        let tally = self.rules.entry(one.rule.id.clone()).or_default();
        tally.baseline += u64::from(before.is_some());
        tally.candidate += u64::from(after.is_some());
        match (before, after) {
            (Some(before), Some(after)) => {
                tally.level_changed += u64::from(before.level != after.level);
                Ok(())
            }
            (None, Some(gained)) => {
                tally.gained += 1;
                tally.gained_samples.note(&gained);
                self.gained[gained.level as usize] += 1;
                self.affected(&gained, true)
            }
            (Some(lost), None) => {
                tally.lost += 1;
                tally.lost_samples.note(&lost);
                self.lost[lost.level as usize] += 1;
                self.affected(&lost, false)
            }
            (None, None) => Ok(()),
        }
    }

    fn affected(&mut self, alert: &Outline, gained: bool) -> io::Result<()> {
        for rule in [alert.rule.id.as_str(), ""] {
            let who = (rule, alert.account.as_str(), alert.principal.as_str(), gained);
            let written = serde_json::to_vec(&who)?;
            // Sorted by rule and principal; whether it was gained is not part of the key.
            let key = hash::hash_128(&serde_json::to_vec(&(who.0, who.1, who.2))?);
            self.people.push(key, 0, |into| into.extend_from_slice(&written))?;
        }
        Ok(())
    }

    /// The principals of which most differs, by rule.
    fn people(sorter: Sorter) -> io::Result<HashMap<String, Vec<Affected>>> {
        let mut all: HashMap<String, Vec<Affected>> = HashMap::new();
        let mut merged = Sorter::merge(vec![sorter])?;
        let mut open: Option<(u128, String, Affected)> = None;
        while let Some((key, bytes)) = merged.take_next()? {
            let (rule, account, principal, gained): (String, String, String, bool) = serde_json::from_slice(bytes)?;
            if open.as_ref().is_none_or(|(known, ..)| *known != key) {
                let next = Affected { principal, account, gained: 0, lost: 0 };
                if let Some((_, rule, done)) = open.replace((key, rule, next)) {
                    most(&mut all, rule, done);
                }
            }
            if let Some((_, _, affected)) = &mut open {
                *(if gained { &mut affected.gained } else { &mut affected.lost }) += 1;
            }
        }
        if let Some((_, rule, done)) = open {
            most(&mut all, rule, done);
        }
        Ok(all)
    }

    fn tell(mut self, pair: &Pair, mut report: Report) -> io::Result<Report> {
        let mut people = Self::people(self.people)?;
        report.principals = people.remove("").unwrap_or_default();
        report.gained_by_level = by_level(&self.gained);
        report.lost_by_level = by_level(&self.lost);
        for (id, (before, after)) in both(pair) {
            let Some(known) = after.or(before) else { continue };
            let tally = self.rules.remove(&id).unwrap_or_default();
            report.gained += tally.gained;
            report.lost += tally.lost;
            report.level_changed += tally.level_changed;
            let change = match (before, after) {
                (Some(before), Some(after)) if before.meta.text_hash == after.meta.text_hash => Change::Same,
                (Some(_), Some(_)) => Change::Changed,
                (None, _) => Change::New,
                (_, None) => Change::Gone,
            };
            if change == Change::Same && tally.gained + tally.lost + tally.level_changed == 0 {
                report.rules_unchanged += 1;
                continue;
            }
            let level = known.meta.reference.level;
            report.rules.push(RuleDifference {
                principals: people.remove(&id).unwrap_or_default(),
                id,
                title: known.meta.reference.title.clone(),
                kind: known.kind,
                level,
                baseline_level: before.map(|b| b.meta.reference.level).filter(|l| *l != level),
                file: known.meta.file.clone(),
                change,
                baseline_alerts: tally.baseline,
                alerts: tally.candidate,
                baseline_alerts_per_day: a_day(tally.baseline, report.days),
                alerts_per_day: a_day(tally.candidate, report.days),
                gained: tally.gained,
                lost: tally.lost,
                level_changed: tally.level_changed,
                gained_samples: tally.gained_samples.0,
                lost_samples: tally.lost_samples.0,
            });
        }
        report.rules.sort_by(|a, b| {
            let by = |r: &RuleDifference| (std::cmp::Reverse((r.differences(), r.level_changed, r.level)), r.change);
            by(a).cmp(&by(b)).then_with(|| (&a.title, &a.id).cmp(&(&b.title, &b.id)))
        });
        Ok(report)
    }
}

/// Keeps the principals of a rule of which most differs.
fn most(all: &mut HashMap<String, Vec<Affected>>, rule: String, one: Affected) {
    let most = if rule.is_empty() { PRINCIPALS_IN_ALL } else { PRINCIPALS };
    let known = all.entry(rule).or_default();
    let by = |a: &Affected| (std::cmp::Reverse(a.gained + a.lost), a.principal.clone(), a.account.clone());
    let at = known.binary_search_by_key(&by(&one), by).unwrap_or_else(|at| at);
    known.insert(at, one);
    known.truncate(most);
}

/// A rule of a set.
#[derive(Clone, Copy)]
struct Known<'a> {
    meta: &'a RuleMeta,
    kind: Kind,
}

/// A rule as the baseline and as the candidate has it.
type BeforeAfter<'a> = (Option<Known<'a>>, Option<Known<'a>>);

/// The rules of both sets by id, as the baseline and as the candidate has them. Rules of other log sources are left out.
fn both(pair: &Pair) -> Vec<(String, BeforeAfter<'_>)> {
    let known =
        |rules| -> HashMap<String, Known<'_>> { rules_of(rules).map(|k| (k.meta.reference.id.clone(), k)).collect() };
    let (mut before, after) = (known(&pair.baseline.rules), known(&pair.candidate.rules));
    let mut all: Vec<_> = Vec::with_capacity(before.len().max(after.len()));
    for (id, known) in after {
        let earlier = before.remove(&id);
        all.push((id, (earlier, Some(known))));
    }
    all.extend(before.into_iter().map(|(id, known)| (id, (Some(known), None))));
    all
}

fn rules_of(rules: &RuleSet) -> impl Iterator<Item = Known<'_>> {
    let single = rules.iter().map(|(_, meta)| Known { meta, kind: Kind::Rule });
    let several = rules.correlation_metas().map(|meta| Known { meta, kind: Kind::Correlation });
    single.chain(several).filter(|known| known.meta.evaluated)
}
