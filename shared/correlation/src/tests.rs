//! The windows against a plain reading of what they mean, and buckets against order, repetition and batches.

use std::{collections::BTreeSet, sync::Arc};

use proptest::prelude::*;
use sentinel_model::{
    Attack, Channel, EventRef, Level, Member, Principal, Provenance, RuleRef, Timestamp, time::plus_seconds,
};

use crate::{
    Bucket, CAP, Calls, Condition, Evidence, Expression, Group, Hit, Kind, Op, Outcome, Plan, call_name, claim,
    completing, evaluate, judge::percentile, wire,
};

/// What a hit is made of: seconds from the start, event number, rule, value.
type Seed = (u32, u8, u16, u8);

fn start() -> Timestamp {
    "2026-03-02T08:00:00Z".parse().unwrap()
}

fn plan(kind: Kind, condition: Condition, timespan: u64) -> Plan {
    let rule = RuleRef { id: "c1".into(), title: "Many".into(), level: Level::High, author: None };
    Plan {
        rule,
        attack: Attack::default(),
        why: "Rule \"Many\" matched.".into(),
        kind,
        condition,
        timespan,
        bases: vec!["A".into(), "B".into(), "C".into()],
        group_by: vec!["sourceIPAddress".into()],
        fields: vec!["userName".into()],
        parents: Vec::new(),
        splits_events: false,
        unsure_base: false,
        fingerprint: 7,
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "it is mapped over slices")]
fn hit(&(at, id, base, value): &Seed) -> Hit {
    // An event has one time: it follows from its number as well.
    let time = plus_seconds(start(), i64::from(at));
    let member = Member {
        event: EventRef { time, id: format!("e{id}-{at}"), content: 1 },
        region: Some("eu-west-1".into()),
        source_ip: Some("198.51.100.7".into()),
        user_agent: None,
        access_key_id: None,
        service: "iam.amazonaws.com".into(),
        action: format!("Call{base}"),
        read_only: Some(false),
        success: value.is_multiple_of(2),
        issuer: None,
        model_score: None,
        provenance: vec![Provenance { channel: Channel::Folder { path: "f".into() }, received_at: time }],
    };
    let principal = Principal { id: format!("user{}", id % 3), ..Principal::unknown() };
    let evidence = Arc::new(Evidence { member, principal });
    Hit { base, evidence, values: vec![(value % 5).to_string()], onward: Vec::new(), elsewhere: Vec::new() }
}

/// Fills the buckets of consecutive windows from the start on.
fn buckets<'a>(plan: &Plan, hits: impl IntoIterator<Item = &'a Hit>) -> Vec<Bucket> {
    let width = i64::from(plan.window_minutes()) * 60;
    let first = plan.window(start()).start.as_second();
    let mut all = vec![Bucket::default(); 12];
    for hit in hits {
        let place = (hit.event().time.as_second() - first) / width;
        all[usize::try_from(place).unwrap() + 2].insert(plan, hit.clone());
    }
    all
}

fn outcomes(plan: &Plan, buckets: &[Bucket]) -> Vec<Option<Outcome>> {
    buckets.windows(3).map(|w| evaluate(plan, &w[0], &w[1], &w[2])).collect()
}

/// Whether the condition holds over a window, read off the definition.
fn holds(plan: &Plan, window: &[&Hit]) -> bool {
    let has = |base: u16| window.iter().any(|h| h.base == base);
    let distinct = |of: &dyn Fn(&Hit) -> String| window.iter().map(|h| of(h)).collect::<BTreeSet<_>>().len();
    #[allow(clippy::cast_precision_loss)]
    let number = match plan.kind {
        Kind::EventCount => distinct(&|h| h.event().id.clone()) as f64,
        Kind::ValueCount => distinct(&|h| h.values[0].clone()) as f64,
        Kind::Temporal | Kind::TemporalOrdered => (0..3).filter(|b| has(*b)).count() as f64,
        Kind::ValueSum | Kind::ValueAvg | Kind::ValuePercentile(_) => {
            let mut seen = BTreeSet::new();
            let firsts = window.iter().filter(|h| seen.insert(h.event().clone()));
            let mut numbers: Vec<f64> = firsts.map(|h| h.values[0].parse().unwrap()).collect();
            numbers.sort_by(f64::total_cmp);
            match plan.kind {
                Kind::ValueSum => numbers.iter().sum(),
                Kind::ValueAvg => numbers.iter().sum::<f64>() / numbers.len() as f64,
                _ => percentile(&numbers, 50.0),
            }
        }
    };
    let enough = match &plan.condition {
        #[allow(clippy::cast_precision_loss)]
        Condition::Threshold(all) => all.iter().all(|(op, than)| op.holds(number, *than as f64)),
        Condition::All => (0..3).all(has),
        Condition::Expression(e) => e.holds(&has),
    };
    enough && (plan.kind != Kind::TemporalOrdered || in_order(window, &plan.steps(), None))
}

/// Whether the steps can be taken one after the other, each a second not before, and another event than, the last.
fn in_order(window: &[&Hit], steps: &[u16], after: Option<&Hit>) -> bool {
    let Some((step, rest)) = steps.split_first() else { return true };
    window.iter().any(|h| {
        h.base == *step
            && after.is_none_or(|a| h.event() != a.event() && h.event().time.as_second() >= a.event().time.as_second())
            && in_order(window, rest, Some(h))
    })
}

/// The members of every window's alert, read off the definition: each event belongs to the window of the first hit
/// that completes and has it within its timespan.
fn naive(plan: &Plan, hits: &[Hit]) -> Vec<(Timestamp, BTreeSet<EventRef>)> {
    let mut sorted: Vec<&Hit> = hits.iter().collect();
    sorted.sort_by_key(|h| h.key());
    sorted.dedup_by_key(|h| h.key());
    let mut alerts: Vec<(Timestamp, BTreeSet<EventRef>)> = Vec::new();
    let mut listed = BTreeSet::new();
    for (at, last) in sorted.iter().enumerate() {
        let from = plus_seconds(last.event().time, -i64::try_from(plan.timespan).unwrap());
        let window: Vec<&Hit> = sorted[..=at].iter().copied().filter(|h| h.event().time >= from).collect();
        if !holds(plan, &window) {
            continue;
        }
        let of = plan.window(last.event().time).start;
        if alerts.last().is_none_or(|(start, _)| *start != of) {
            alerts.push((of, BTreeSet::new()));
        }
        for h in window {
            if listed.insert(h.event().clone()) {
                alerts.last_mut().unwrap().1.insert(h.event().clone());
            }
        }
    }
    alerts
}

fn members(outcome: &Outcome) -> BTreeSet<EventRef> {
    outcome.evidence.iter().map(|e| e.member.event.clone()).collect()
}

fn plans() -> impl Strategy<Value = Plan> {
    let ops = prop::sample::select(vec![Op::Lt, Op::Lte, Op::Gt, Op::Gte, Op::Eq, Op::Neq]);
    let thresholds = prop::collection::vec((ops, 1..6_u64), 1..3).prop_map(Condition::Threshold);
    let enough = (2..6_u64).prop_map(|n| Condition::Threshold(vec![(Op::Gte, n)]));
    let expression = prop::sample::select(vec![
        Expression::And(vec![Expression::Base(0), Expression::Not(Box::new(Expression::Base(2)))]),
        Expression::Or(vec![Expression::AtLeast(2, vec![0, 1, 2]), Expression::Base(1)]),
        Expression::And(vec![Expression::Base(1), Expression::Base(2)]),
    ])
    .prop_map(Condition::Expression);
    let temporal = || prop::sample::select(vec![Kind::Temporal, Kind::TemporalOrdered]);
    let counted = prop::sample::select(vec![
        Kind::EventCount,
        Kind::ValueCount,
        Kind::ValueSum,
        Kind::ValueAvg,
        Kind::ValuePercentile(50),
    ]);
    let kinds = prop_oneof![
        (counted.clone(), thresholds),
        (counted, enough),
        (temporal(), expression),
        (temporal(), Just(Condition::All)),
    ];
    (kinds, prop::sample::select(vec![60_u64, 300, 3600, 5400]))
        .prop_map(|((kind, condition), timespan)| plan(kind, condition, timespan))
}

/// Seconds in steps that make many events share one.
fn seeds(most: usize) -> impl Strategy<Value = Vec<Seed>> {
    prop::collection::vec(((0..60_u32).prop_map(|n| n * 150), 0..4_u8, 0..3_u16, 0..9_u8), 1..most)
}

/// A value follows from the event, as it does from a record.
fn made(seeds: &[Seed]) -> Vec<Hit> {
    seeds
        .iter()
        .map(|(at, id, base, _)| hit(&(*at, *id, *base, id.wrapping_mul(7) ^ u8::try_from(at / 150 % 9).unwrap())))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn windows_mean_what_they_say(plan in plans(), seeds in seeds(40)) {
        let hits = made(&seeds);
        let buckets = buckets(&plan, &hits);
        let found: Vec<_> = outcomes(&plan, &buckets).into_iter().flatten().map(|o| members(&o)).collect();
        let wanted: Vec<_> = naive(&plan, &hits).into_iter().map(|(_, members)| members).collect();
        prop_assert_eq!(found, wanted);
    }

    #[test]
    fn order_repetition_and_batches_change_nothing(
        plan in plans(),
        seeds in seeds(40),
        turn in any::<prop::sample::Index>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let hits = made(&seeds);
        let ordered = buckets(&plan, &hits);
        let mut others = [hits.clone(), hits].concat();
        others.rotate_left(turn.index(seeds.len()));
        let (left, right) = others.split_at(cut.index(others.len()));
        let (mut merged, right) = (buckets(&plan, right.iter().rev()), buckets(&plan, left));
        for (bucket, other) in merged.iter_mut().zip(right) {
            bucket.merge(&plan, other);
        }
        prop_assert_eq!(&merged, &ordered);
        prop_assert_eq!(outcomes(&plan, &merged), outcomes(&plan, &ordered));
    }

    /// Every event comes up to ten minutes late; the states along the way may say other things, the last one not.
    #[test]
    fn lateness_changes_nothing_in_the_end(plan in plans(), seeds in seeds(30), lag in prop::collection::vec(0..600_i64, 30)) {
        let hits = made(&seeds);
        let mut late: Vec<_> = hits.iter().zip(lag).map(|(h, lag)| (h.event().time.as_second() + lag, h)).collect();
        late.sort_by_key(|(arrives, _)| *arrives);
        let mut state = vec![Bucket::default(); 12];
        for (_, hit) in &late {
            for (bucket, more) in state.iter_mut().zip(buckets(&plan, [*hit])) {
                bucket.merge(&plan, more);
            }
        }
        prop_assert_eq!(outcomes(&plan, &state), outcomes(&plan, &buckets(&plan, &hits)));
    }

    #[test]
    fn what_was_complete_stays_so_where_the_plan_says_it(plan in plans(), seeds in seeds(30)) {
        if !plan.only_grows() {
            return Ok(());
        }
        let hits = made(&seeds);
        let mut before: Vec<bool> = vec![false; 10];
        for upto in 0..=hits.len() {
            let now: Vec<bool> = outcomes(&plan, &buckets(&plan, &hits[..upto])).iter().map(Option::is_some).collect();
            prop_assert!(before.iter().zip(&now).all(|(b, n)| !b || *n));
            before = now;
        }
    }

    #[test]
    fn a_bucket_survives_its_bytes(plan in plans(), seeds in seeds(20)) {
        let group = Group(vec![Some("198.51.100.7".into()), None]);
        for mut bucket in buckets(&plan, &made(&seeds)) {
            bucket.mark_raised();
            let bytes = wire::write_bucket(&group, &bucket);
            let (read_group, read) = wire::read_bucket(&bytes).unwrap();
            prop_assert_eq!((&read_group, &read), (&group, &bucket));
            for cut in 0..bytes.len() {
                prop_assert!(wire::read_bucket(&bytes[..cut]).is_err());
            }
        }
    }

    #[test]
    fn broken_bytes_are_errors(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = wire::read_bucket(&[&[1], bytes.as_slice()].concat());
    }
}

/// Past the cap, whatever the order: one state, bounded, and it still says that the correlation is complete.
#[test]
fn a_thinned_bucket_is_bounded_and_the_same_in_any_order() {
    let many = u32::try_from(CAP).unwrap() + 700;
    let seeds: Vec<Seed> =
        (0..many).map(|n| (n * 7919 % 3500, u8::try_from(n % 4).unwrap(), 0, u8::try_from(n % 9).unwrap())).collect();
    let hits: Vec<Hit> = seeds.iter().map(hit).collect();
    for (kind, least) in [(Kind::EventCount, 50), (Kind::ValueCount, 4)] {
        let plan = plan(kind, Condition::Threshold(vec![(Op::Gte, least)]), 600);
        let ordered = buckets(&plan, &hits);
        assert!(ordered[2].is_thinned() && ordered[2].hits().len() <= CAP);
        assert_eq!(buckets(&plan, hits.iter().rev()), ordered);
        let (left, right) = hits.split_at(900);
        let mut merged = buckets(&plan, right);
        for (bucket, other) in merged.iter_mut().zip(buckets(&plan, left)) {
            bucket.merge(&plan, other);
        }
        assert_eq!(merged, ordered);
        let outcome = outcomes(&plan, &ordered)[0].clone().unwrap();
        assert!(outcome.at_least);
        let detection = plan.detection("1", &Group(vec![Some("x".into())]), plan.window(start()), &outcome, 1);
        assert!(detection.reasons[0].starts_with("At least "), "{:?}", detection.reasons);
    }
}

#[test]
fn an_alert_says_count_span_and_group() {
    let plan = plan(Kind::EventCount, Condition::Threshold(vec![(Op::Gte, 3)]), 600);
    let hits: Vec<Hit> = [(0, 1, 0, 1), (60, 2, 0, 1), (400, 3, 1, 2), (900, 4, 0, 1)].iter().map(hit).collect();
    let outcome = outcomes(&plan, &buckets(&plan, &hits))[0].clone().unwrap();
    let group = Group(vec![Some("198.51.100.7".into())]);
    let d = plan.detection("111122223333", &group, plan.window(start()), &outcome, 5);
    assert_eq!(
        d.reasons,
        [
            "3 events of \"A\" or \"B\" or \"C\" within 10 minutes (sourceIPAddress 198.51.100.7).",
            "Calls: 2 iam:Call0 (failed), 1 iam:Call1.",
            "Rule \"Many\" matched.",
        ]
    );
    assert_eq!((d.members.len(), d.principal.id.as_str(), d.window.minutes), (3, "user0", 60));
    let id =
        sentinel_model::hash::derived_id("al-", &["c1", "111122223333", "198.51.100.7", "2026-03-02T08:00:00Z", "60"]);
    assert_eq!(d.alert_id, id);
}

#[test]
fn the_first_completing_hit_claims_an_event() {
    let plan = plan(Kind::EventCount, Condition::Threshold(vec![(Op::Gte, 2)]), 600);
    let hits: Vec<Hit> = [(3500, 1, 0, 1), (3700, 2, 0, 1), (3800, 3, 0, 1)].iter().map(hit).collect();
    let all = buckets(&plan, &hits);
    let three = [all[1].clone(), all[2].clone(), all[3].clone()];
    assert_eq!(claim(&plan, &three, hits[0].event()).as_ref(), Some(hits[1].event()));
    assert_eq!(completing(&plan, &all[2], &all[3]).len(), 2);
    assert_eq!(completing(&plan, &all[1], &all[2]).len(), 0);
}

#[test]
fn calls_are_counted_by_name_whatever_their_hash() {
    let mut calls = Calls::default();
    for _ in 0..2 {
        calls.clear();
        // Of one hash, or of the one behind it.
        for (name, hash) in [("a:X", 7), ("b:Y", 7), ("c:Z", 8), ("b:Y", 7), ("a:X", 7), ("b:Y", 7), ("c:Z", 8)] {
            calls.add_named(name, hash, name != "a:X");
        }
        assert_eq!(calls.said(), "Calls: 3 b:Y, 2 a:X (failed), 2 c:Z.");
    }
}

proptest! {
    #[test]
    fn the_most_frequent_calls_are_said_in_whatever_order_they_come(
        events in prop::collection::vec((0..12_u8, any::<bool>()), 0..60),
    ) {
        let action = |n: u8| format!("Call{n}");
        let mut calls = Calls::default();
        let mut counts = std::collections::BTreeMap::<String, (usize, usize)>::new();
        for (n, success) in &events {
            // Known by name, or only now.
            let name = call_name("iam.amazonaws.com", &action(*n));
            if n % 2 == 0 {
                calls.add_named(&name, Calls::hash(&name), *success);
            } else {
                calls.add("iam.amazonaws.com", &action(*n), *success);
            }
            let count = counts.entry(name).or_default();
            *count = (count.0 + 1, count.1 + usize::from(!success));
        }
        let mut wanted: Vec<_> = counts.into_iter().collect();
        wanted.sort_by(|a, b| (b.1.0, &a.0).cmp(&(a.1.0, &b.0)));
        let said = |(name, (all, failed)): &(String, (usize, usize))| match failed {
            0 => format!("{all} {name}"),
            failed if failed == all => format!("{all} {name} (failed)"),
            failed => format!("{all} {name} ({failed} failed)"),
        };
        let shown: Vec<_> = wanted.iter().take(6).map(said).collect();
        let more = match wanted.len().saturating_sub(6) {
            0 => String::new(),
            1 => String::from(" and 1 other call"),
            more => format!(" and {more} other calls"),
        };
        prop_assert_eq!(calls.said(), format!("Calls: {}{more}.", shown.join(", ")));
    }
}
