//! What a scan and a comparison have in common once all events are collected: the sentence on an event, and the alerts of
//! correlations.
//!
//! In: what was collected of events, and the hits of correlations, which name events by their places. Out: sentences, and
//! alerts to be told beside those of rules.

use std::{cmp::Ordering, io};

use sentinel_detect::{Call, Correlator, Events, Part, RuleSet};
use sentinel_enrich::{
    Collected,
    collect::{AllFound, Fact, Found, at_once},
};

/// Appends the sentence on one event.
pub fn say(fact: &Fact<'_>, said: &mut String) {
    Call {
        who: fact.who,
        service: fact.service,
        action: fact.action,
        invoked_by: fact.invoked_by,
        source: fact.source,
        region: fact.region,
        failure: fact.failure,
    }
    .write(said);
}

/// The events of correlations, compared where they are kept.
struct Compared<F>(F);

impl<F: FnMut(u64, u64) -> io::Result<Ordering>> Events for Compared<F> {
    fn compare(&mut self, a: u64, b: u64) -> io::Result<Ordering> {
        (self.0)(a, b)
    }
}

/// The alerts of correlations whose hits are of the events in `kept`. The collector's parts are looked at side by side, on so
/// many threads. Errors are those of temporary files.
pub fn correlations(
    rules: &RuleSet,
    correlator: Correlator,
    kept: &Collected<'_>,
    threads: usize,
) -> io::Result<AllFound> {
    let parts = correlator.into_parts();
    let count = parts.len();
    let jobs = parts.into_iter().map(|part| move || of_part(rules, part, kept, AllFound::of_part(count)));
    let mut found = at_once(threads, jobs.collect())?.into_iter();
    if count == 1 {
        return Ok(found.next().unwrap_or_default());
    }
    let mut all = AllFound::default();
    found.try_for_each(|more| all.append(&more))?;
    Ok(all)
}

fn of_part(rules: &RuleSet, part: Part, kept: &Collected<'_>, mut all: AllFound) -> io::Result<AllFound> {
    let first = u32::try_from(rules.len()).map_err(io::Error::other)?;
    let finished = part.finish(rules, &mut Compared(kept.comparison()), |completed| {
        let plan = u32::try_from(completed.plan).map_err(io::Error::other)?;
        let found = Found {
            rule: first + plan,
            alert_id: &completed.alert_id(rules),
            account: &completed.account,
            window: completed.window.start,
            finding: &completed.finding(rules),
            completing: completed.completing,
            at_least: completed.at_least,
        };
        Ok(all.add(&found, &completed.members)?)
    });
    finished.map_err(io::Error::other)?;
    Ok(all)
}
