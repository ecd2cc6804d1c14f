//! Both engines against each other, and loading.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;
use sentinel_durable::ManualClock;
use sentinel_embedded::Database;
use sentinel_json::Document;
use sentinel_model::{Detection, Event, RawRecord, Timestamp, time::plus_seconds};
use serde_json::json;

use super::*;
use crate::{fields::Fields, testing};

/// A rule on a call by its name.
fn rule(call: &str) -> String {
    format!(
        "title: {call} call\nid: {call}\nlogsource: {{product: aws}}\ndetection: {{s: {{eventName: {call}}}, condition: s}}\n---\n"
    )
}

fn correlation(id: &str, body: &str) -> String {
    format!("title: Correlation {id}\nid: {id}\nlevel: high\nstatus: test\ncorrelation:\n{body}\n---\n")
}

/// One of each: counts, values, order, an absence, groups that share events, and correlations of correlations.
fn set() -> RuleSet {
    let rules = ["A", "B", "C"].map(rule).concat();
    let count = correlation(
        "count",
        "  type: event_count\n  rules: [A, B]\n  group-by: [sourceIPAddress]\n  timespan: 10m\n  condition: {gte: 3}",
    );
    let values = correlation(
        "values",
        "  type: value_count\n  rules: [A]\n  group-by: [sourceIPAddress]\n  timespan: 30m\n  condition: {gte: 2, field: user}",
    );
    let order = correlation(
        "order",
        "  type: temporal_ordered\n  rules: [B call, C call]\n  group-by: [user]\n  timespan: 15m",
    );
    let absence = correlation(
        "absence",
        "  type: temporal\n  rules: [A, C]\n  group-by: [user]\n  timespan: 20m\n  condition: A and not C",
    );
    let chain = correlation(
        "chain",
        "  type: temporal_ordered\n  rules: [A, B]\n  group-by: [key]\n  timespan: 40m\n  aliases:\n    key:\n      A: made\n      B: user",
    );
    let upper = correlation(
        "upper",
        "  type: event_count\n  rules: [order]\n  group-by: [user]\n  timespan: 90m\n  condition: {gte: 2}",
    );
    let unsure = correlation(
        "unsure",
        "  type: event_count\n  rules: [absence]\n  group-by: [sourceIPAddress]\n  timespan: 2h\n  condition: {gte: 2}",
    );
    // Every call of A is a hit in two groups: what it made, and who made it.
    let by = rule("A").replace(": A call", ": By call").replace("id: A", "id: By");
    let hops = correlation(
        "hops",
        "  type: temporal_ordered\n  rules: [A, By]\n  group-by: [key]\n  timespan: 50m\n  aliases:\n    key:\n      A: made\n      By: user",
    );
    let either = correlation(
        "either",
        "  type: event_count\n  rules: [A, By]\n  group-by: [key]\n  timespan: 1h\n  condition: {gte: 3}\n  aliases:\n    key:\n      A: made\n      By: user",
    );
    testing::rules(&[rules, by, count, values, order, absence, chain, hops, either, upper, unsure].concat())
}

/// Without correlations of correlations: a store keeps more of their hits than memory does.
fn flat_set() -> RuleSet {
    let count = correlation(
        "count",
        "  type: event_count\n  rules: [A, B]\n  group-by: [sourceIPAddress]\n  timespan: 10m\n  condition: {gte: 3}",
    );
    let values = correlation(
        "values",
        "  type: value_count\n  rules: [A]\n  group-by: [sourceIPAddress]\n  timespan: 30m\n  condition: {gte: 2, field: eventID}",
    );
    let order = correlation(
        "order",
        "  type: temporal_ordered\n  rules: [A call, B call]\n  group-by: [user]\n  timespan: 15m",
    );
    testing::rules(&[["A", "B", "C"].map(rule).concat(), count, values, order].concat())
}

fn start() -> Timestamp {
    "2026-03-02T08:00:00Z".parse().unwrap()
}

/// An event: its call, two users, two addresses and what it made follow from small numbers.
fn event(id: u32, seconds: u32, call: u8, who: u8) -> Event {
    let call = ["A", "B", "C"][usize::from(call % 3)];
    let time = plus_seconds(start(), i64::from(seconds));
    let id = format!("e{id}");
    let mut event = testing::event(&id, &time.to_string(), call);
    let (user, made) = (format!("u{}", who % 2), format!("u{}", who / 2 % 2));
    let record = json!({
        "eventID": id, "eventName": call, "user": user, "made": made,
        "sourceIPAddress": format!("198.51.100.{}", who / 4 % 2),
    });
    event.content = sentinel_model::hash::content_hash(&record);
    event.principal.id = user;
    event.raw = RawRecord::new(record.to_string()).unwrap();
    event
}

fn hits<'e>(rules: &RuleSet, event: &'e Event) -> (Document<'e>, Vec<RuleIndex>) {
    let record = Document::parse(event.raw.text()).unwrap();
    let mut hits = Vec::new();
    rules.matches(record.root(), &mut hits);
    (record, hits)
}

/// What was collected, and the events at the places that it names.
struct Whole {
    correlator: Correlator,
    events: Vec<Arc<Evidence>>,
}

fn collected<'a>(rules: &RuleSet, events: impl IntoIterator<Item = &'a Event>, budget: usize) -> Whole {
    let mut whole = Whole { correlator: Correlator::with_budget(budget), events: Vec::new() };
    whole.add(rules, events);
    whole
}

impl Whole {
    fn add<'a>(&mut self, rules: &RuleSet, events: impl IntoIterator<Item = &'a Event>) {
        for event in events {
            let (record, hits) = hits(rules, event);
            let mut memory = rules.memory();
            let looked = rules.look(record.root(), &mut memory);
            let at = self.events.len() as u64;
            let noted = Noted { account: &event.account, time: event.time, at, event: Some(event) };
            self.correlator.add(rules, &noted, &looked, &hits).unwrap();
            self.events.push(Arc::new(evidence_of(event)));
        }
    }
}

/// Alerts by id; of a detection what does not depend on how it came about.
type Alerts = BTreeMap<String, Detection>;

fn finished(rules: &RuleSet, whole: Whole) -> Alerts {
    let mut alerts = Alerts::new();
    let mut order: Vec<_> = whole.events.iter().map(|e| e.member.event.clone()).collect();
    let mut each = |completed: Completed| {
        let detection = completed.detection(rules, |at| Arc::clone(&whole.events[usize::try_from(at).unwrap()]));
        assert_eq!(detection.alert_id, completed.alert_id(rules));
        assert_eq!(detection.reasons[0], completed.finding(rules));
        assert!(alerts.insert(detection.alert_id.clone(), detection).is_none(), "an alert came twice");
        Ok(())
    };
    for part in whole.correlator.into_parts() {
        part.finish(rules, &mut order, &mut each).unwrap();
    }
    alerts
}

/// What is left when newer versions replace older ones.
#[derive(Default)]
struct Standing(BTreeMap<String, Detection>);

impl Standing {
    fn take(&mut self, detections: Vec<Detection>) {
        let revision = |d: &Detection| d.correlated.as_ref().unwrap().revision;
        for detection in detections {
            let known = self.0.get(&detection.alert_id);
            if known.is_none_or(|known| revision(known) <= revision(&detection)) {
                self.0.insert(detection.alert_id.clone(), detection);
            }
        }
    }

    fn alerts(&self) -> Alerts {
        let stand = self.0.values().filter(|d| d.correlated.as_ref().unwrap().superseded_by.is_none());
        stand
            .map(|d| {
                let mut detection = d.clone();
                detection.correlated.as_mut().unwrap().revision = 0;
                (detection.alert_id.clone(), detection)
            })
            .collect()
    }
}

fn stored() -> (StoredCorrelations, Database) {
    let clock = Arc::new(ManualClock::new("2026-03-02T10:00:00Z".parse().unwrap()));
    let database = Database::in_memory(Arc::clone(&clock) as Arc<_>).unwrap();
    (StoredCorrelations::new(database.table(), clock), database)
}

fn batch(rules: &RuleSet, events: &[Event]) -> Vec<Correlated> {
    events
        .iter()
        .flat_map(|event| {
            let (record, hits) = hits(rules, event);
            rules.correlated(event, record.root(), &hits)
        })
        .collect()
}

fn events(picks: &[(u32, u8, u8)]) -> Vec<Event> {
    (0..).zip(picks).map(|(id, (slot, call, who))| event(id, slot * 240, *call, *who)).collect()
}

fn picks() -> impl Strategy<Value = Vec<(u32, u8, u8)>> {
    prop::collection::vec((0..50_u32, 0..3_u8, 0..8_u8), 1..24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn a_store_fed_in_any_order_ends_where_memory_does(
        picks in picks(),
        turn in any::<prop::sample::Index>(),
        cuts in prop::collection::vec(1..6_usize, 1..10),
        again in any::<prop::sample::Index>(),
    ) {
        let rules = set();
        let all = events(&picks);
        let wanted = finished(&rules, collected(&rules, &all, 1 << 20));
        // Two processes in turn: what one keeps in memory the other has changed.
        let (one, database) = stored();
        let other = StoredCorrelations::new(database.table(), Arc::new(ManualClock::new(start())));
        let mut stores = [one, other].into_iter().cycle();
        let mut order: Vec<Event> = all.iter().rev().cloned().collect();
        order.rotate_left(turn.index(all.len()));
        order.push(all[again.index(all.len())].clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut standing = Standing::default();
        let mut rest = order.as_slice();
        for cut in cuts.iter().cycle() {
            let (head, tail) = rest.split_at((*cut).min(rest.len()));
            let store = stores.next().unwrap();
            let first = runtime.block_on(store.handle(&rules, batch(&rules, head))).unwrap();
            standing.take(first);
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(standing.alerts(), wanted);
    }

    #[test]
    fn spilling_joining_and_parts_change_nothing(
        picks in picks(),
        cut in any::<prop::sample::Index>(),
        parts in [1..4_usize, 1..4],
    ) {
        let rules = set();
        let mut all = events(&picks);
        for (n, event) in all.iter_mut().enumerate().filter(|(n, _)| n % 4 > 0) {
            event.account = format!("{:012}", n % 4);
        }
        let wanted = finished(&rules, collected(&rules, &all, 1 << 20));
        let (left, right) = all.split_at(cut.index(all.len()));
        // Some events come twice, and to both collectors.
        let mut spilled = Whole { correlator: Correlator::in_parts(1, parts[0]), events: Vec::new() };
        spilled.add(&rules, right.iter().rev());
        let first = std::mem::replace(&mut spilled.correlator, Correlator::in_parts(700, parts[1]));
        spilled.add(&rules, left.iter().chain(right.iter().step_by(2)));
        spilled.correlator = spilled.correlator.merge(first);
        prop_assert_eq!(finished(&rules, spilled), wanted);
    }

    #[test]
    fn an_event_is_listed_once_by_a_rule(picks in picks()) {
        let rules = set();
        let mut seen = std::collections::HashSet::new();
        for alert in finished(&rules, collected(&rules, &events(&picks), 1 << 20)).values() {
            for member in &alert.members {
                prop_assert!(seen.insert((alert.rule.id.clone(), member.event.clone())));
            }
        }
    }
}

#[test]
fn a_hundred_spilled_files_are_merged() {
    let rules = set();
    let all: Vec<Event> =
        (0..300).map(|n| event(n, n * 31 % 7000, u8::try_from(n % 3).unwrap(), u8::try_from(n % 8).unwrap())).collect();
    let wanted = finished(&rules, collected(&rules, &all, 1 << 20));
    assert!(wanted.len() > 10);
    assert_eq!(finished(&rules, collected(&rules, &all, 1)), wanted);
}

#[tokio::test]
async fn a_batch_that_comes_again_says_the_same_and_writes_nothing() {
    let rules = set();
    let (store, _database) = stored();
    let all = events(&[(0, 0, 0), (1, 1, 0), (2, 0, 0), (3, 2, 0)]);
    let first = store.handle(&rules, batch(&rules, &all)).await.unwrap();
    let again = store.handle(&rules, batch(&rules, &all)).await.unwrap();
    assert!(!first.is_empty());
    assert_eq!(again, first, "revisions count what is known and what was written");
}

#[tokio::test]
async fn what_a_late_event_makes_untrue_is_withdrawn() {
    let rules = set();
    let (store, _database) = stored();
    let (a, c) = (event(1, 600, 0, 0), event(2, 300, 2, 0));
    let mut standing = Standing::default();
    standing.take(store.handle(&rules, batch(&rules, std::slice::from_ref(&a))).await.unwrap());
    let raised: Vec<String> = standing.alerts().values().map(|d| d.rule.id.clone()).collect();
    assert!(raised.is_empty(), "absence feeds another correlation and alerts by that one alone: {raised:?}");
    let rules = testing::rules(
        &[
            rule("A"),
            rule("C"),
            correlation(
                "absence",
                "  type: temporal\n  rules: [A, C]\n  group-by: [user]\n  timespan: 20m\n  condition: A and not C",
            ),
        ]
        .concat(),
    );
    let (store, _database) = stored();
    standing.take(store.handle(&rules, batch(&rules, &[a])).await.unwrap());
    let raised = standing.alerts();
    assert_eq!(raised.len(), 1);
    standing.take(store.handle(&rules, batch(&rules, &[c])).await.unwrap());
    assert!(standing.alerts().is_empty());
    let withdrawn = &standing.0[raised.keys().next().unwrap()];
    assert_eq!(withdrawn.correlated.as_ref().unwrap().superseded_by.as_deref(), Some(""));
    assert!(withdrawn.members.is_empty());
}

#[tokio::test]
async fn a_late_event_changes_what_the_window_after_the_next_one_lists() {
    let count = "  type: event_count\n  rules: [A]\n  group-by: [user]\n  timespan: 1h\n  condition: {gte: 3}";
    let rules = testing::rules(&[rule("A"), correlation("count", count)].concat());
    let at = |id, minutes: u32| event(id, minutes * 60, 0, 0);
    let (late, prompt) = (at(1, 30), [at(2, 70), at(3, 80), at(4, 125)]);
    let wanted = finished(&rules, collected(&rules, prompt.iter().chain([&late]), 1 << 20));
    let listed: Vec<usize> = wanted.values().map(|d| d.members.len()).collect();
    assert_eq!(listed.iter().sum::<usize>(), 4, "each once: {listed:?}");
    let (store, _database) = stored();
    let mut standing = Standing::default();
    standing.take(store.handle(&rules, batch(&rules, &prompt)).await.unwrap());
    assert_eq!(standing.alerts().len(), 1, "the last three are within an hour");
    standing.take(store.handle(&rules, batch(&rules, &[late])).await.unwrap());
    assert_eq!(standing.alerts(), wanted);
}

#[tokio::test]
async fn an_event_goes_to_the_group_that_completes_first_though_that_is_in_a_later_window() {
    let rules = set();
    let at = |id, minutes: u32, who| event(id, minutes * 60, 0, who);
    // Two of "u1" that make "u0", then one of "u1" alone: three of either for "u1". One of "u0" before that: three of it too.
    let first = [at(1, 8, 1), at(2, 8, 1), at(3, 68, 3)];
    let late = at(4, 60, 0);
    let wanted = finished(&rules, collected(&rules, first.iter().chain([&late]), 1 << 20));
    let (store, _database) = stored();
    let mut standing = Standing::default();
    standing.take(store.handle(&rules, batch(&rules, &first)).await.unwrap());
    let of_either = |alerts: &Alerts| {
        let either = alerts.values().filter(|d| d.rule.id == "either");
        either.map(|d| (d.principal.id.clone(), d.members.len())).collect::<Vec<_>>()
    };
    assert_eq!(of_either(&standing.alerts()), [("u1".to_owned(), 3)]);
    standing.take(store.handle(&rules, batch(&rules, &[late])).await.unwrap());
    let mut now = of_either(&standing.alerts());
    now.sort();
    assert_eq!(now, [("u0".to_owned(), 3), ("u1".to_owned(), 1)], "each event is listed once");
    assert_eq!(standing.alerts(), wanted);
}

#[tokio::test]
async fn many_that_write_at_once_lose_nothing() {
    let rules = Arc::new(set());
    let (store, _database) = stored();
    let all: Vec<Event> = (0..40).map(|n| event(n, n * 100, u8::try_from(n % 3).unwrap(), 0)).collect();
    let wanted = finished(&rules, collected(&rules, &all, 1 << 20));
    let mut tasks = tokio::task::JoinSet::new();
    for event in all {
        let (rules, store) = (Arc::clone(&rules), store.clone());
        tasks.spawn(async move { store.handle(&rules, batch(&rules, &[event])).await.unwrap() });
    }
    let mut standing = Standing::default();
    while let Some(detections) = tasks.join_next().await {
        standing.take(detections.unwrap());
    }
    assert_eq!(standing.alerts(), wanted);
}

#[test]
fn rules_that_serve_correlations_do_not_alert_unless_told_to() {
    let alone = |generate: &str| {
        let body = format!(
            "  type: event_count\n  rules: [A]\n  group-by: [user]\n  timespan: 1m\n  condition: {{gte: 2}}\n  generate: {generate}"
        );
        let rules = testing::rules(&[rule("A"), rule("B"), correlation("c", &body)].concat());
        rules.iter().map(|(index, _)| rules.alerts_alone(index)).collect::<Vec<_>>()
    };
    assert_eq!(alone("false"), [false, true]);
    assert_eq!(alone("true"), [true, true]);
}

#[test]
fn an_event_without_any_group_field_is_in_no_group() {
    let rules = testing::rules(
        &[
            rule("A"),
            correlation(
                "c",
                "  type: event_count\n  rules: [A]\n  group-by: [nowhere, user]\n  timespan: 1m\n  condition: {gte: 1}",
            ),
            correlation(
                "d",
                "  type: event_count\n  rules: [A]\n  group-by: [nowhere]\n  timespan: 1m\n  condition: {gte: 1}",
            ),
            correlation("e", "  type: event_count\n  rules: [A]\n  timespan: 1m\n  condition: {gte: 1}"),
        ]
        .concat(),
    );
    let found = batch(&rules, &[event(1, 0, 0, 0)]);
    let groups: Vec<_> = found.iter().map(|c| (c.plan, c.group.0.clone())).collect();
    assert_eq!(groups, [(0, vec![None, Some("u0".into())]), (2, Vec::new())]);
}

#[test]
fn long_and_many_values_are_bounded_and_differ() {
    let mut fields = Fields::default();
    let field = fields.number("v");
    let texts = |record: &str| {
        let (record, scratch) = (Document::parse(record).unwrap(), fields.scratch());
        texts_of(field, &fields.of(record.root(), &scratch))
    };
    assert_eq!(texts(r#"{"v":["b",1,true,null,"b",["x"]]}"#), ["1", "[\"x\"]", "b", "true"]);
    let (one, two) = (format!("{}1", "x".repeat(5000)), format!("{}2", "x".repeat(5000)));
    let both = texts(&json!({ "v": [one, two] }).to_string());
    assert_eq!(both.len(), 2);
    assert!(both.iter().all(|t| t.len() == MAX_VALUE_BYTES));
}

/// File name, line, field and reason of what is refused.
fn refused(files: &[(&str, &str)]) -> Vec<(String, u32, Option<String>, String)> {
    let (_, report) = RuleSet::from_texts(false, files.iter().copied());
    report.refused.into_iter().map(|r| (r.file, r.line, r.field, r.reason)).collect()
}

#[test]
fn references_are_found_in_the_own_file_then_in_the_own_folder() {
    let c = |id: &str| {
        correlation(id, "  type: event_count\n  rules:\n    - A call\n  timespan: 1m\n  condition: {gte: 2}")
    };
    let twin = rule("A").replace("id: A", "id: A2");
    let (own, apart) = ([c("own"), rule("A")].concat(), c("apart"));
    let files = [("x/a.yml", own.as_str()), ("y/b.yml", twin.as_str()), ("y/c.yml", apart.as_str())];
    assert_eq!(refused(&files), []);
    let (rules, report) = RuleSet::from_texts(false, files);
    assert_eq!((report.rules, report.correlations), (2, 2));
    let quiet: Vec<bool> = rules.iter().map(|(index, _)| rules.alerts_alone(index)).collect();
    assert_eq!(quiet, [false, false], "each takes the near one");
    let far = [("x/a.yml", rule("A")), ("y/b.yml", twin.clone()), ("z/c.yml", c("far"))];
    let far: Vec<(&str, &str)> = far.iter().map(|(f, t)| (*f, t.as_str())).collect();
    let [(file, line, field, reason)] = &refused(&far)[..] else { panic!("{:?}", refused(&far)) };
    assert_eq!((file.as_str(), *line, field.as_deref()), ("z/c.yml", 7, Some("rules")));
    assert!(reason.contains("x/a.yml") && reason.contains("y/b.yml"), "{reason}");
}

#[test]
fn what_cannot_be_used_is_refused_with_its_place() {
    let base = rule("A");
    for (body, field, word) in [
        ("  type: event_count\n  rules: [Nobody]\n  timespan: 1m\n  condition: {gte: 2}", "rules", "Nobody"),
        (
            "  type: event_count\n  rules: [A]\n  timespan: 1m\n  window: tumbling\n  condition: {gte: 2}",
            "window",
            "slides",
        ),
        ("  type: event_count\n  rules: [A]\n  timespan: 2y\n  condition: {gte: 2}", "timespan", "days"),
        ("  type: value_count\n  rules: [A]\n  timespan: 1m\n  condition: {gte: 2}", "condition", "field"),
        ("  type: event_count\n  rules: [A]\n  timespan: 1m\n  condition: A and A", "condition", "temporal"),
        ("  type: temporal\n  rules: [A]\n  timespan: 1m\n  condition: A and B", "condition", "\"B\""),
        ("  type: event_count\n  rules: [bad]\n  timespan: 1m\n  condition: {gte: 2}", "rules", "itself"),
        (
            "  type: event_count\n  rules: [A]\n  timespan: 1m\n  condition: {gte: 2}\n  aliases: {x: {B: y}}",
            "aliases",
            "\"B\"",
        ),
    ] {
        let text = [base.clone(), correlation("bad", body)].concat();
        let all = refused(&[("f.yml", &text)]);
        let [(_, line, found, reason)] = &all[..] else { panic!("{body}: {all:?}") };
        assert!(*line > 5 && found.as_deref() == Some(field), "{body}: line {line}, field {found:?}");
        assert!(reason.contains(word), "{body}: {reason}");
    }
    let circle = [
        correlation("one", "  type: event_count\n  rules: [two]\n  timespan: 1m\n  condition: {gte: 2}"),
        correlation("two", "  type: event_count\n  rules: [one]\n  timespan: 1m\n  condition: {gte: 2}"),
    ]
    .concat();
    assert_eq!(refused(&[("f.yml", &circle)]).len(), 2);
}

#[tokio::test]
async fn more_hits_than_are_kept_give_the_same_in_memory_as_in_a_store() {
    let rules = flat_set();
    let many = u32::try_from(sentinel_correlation::CAP).unwrap() + 300;
    // All of one second; spread over the window; and more of one second than are looked at together.
    for (count, width) in [(many, 1), (many, 1200), (5 * many, 1)] {
        let all: Vec<Event> = (0..count)
            .map(|n| event(n * 7919 % count, n % width, u8::from(n % 50 == 0), u8::try_from(n % 4).unwrap()))
            .collect();
        let wanted = finished(&rules, collected(&rules, &all, 1 << 14));
        assert!(wanted.values().any(|d| d.correlated.as_ref().unwrap().at_least), "nothing was left out");
        let (store, _database) = stored();
        let mut standing = Standing::default();
        for some in all.chunks(4000) {
            standing.take(store.handle(&rules, batch(&rules, some)).await.unwrap());
        }
        assert_eq!(briefly(&standing.alerts()), briefly(&wanted));
    }
}

#[tokio::test]
async fn what_an_intruder_writes_into_every_event_costs_nobody_else_a_detection() {
    let rules = flat_set();
    let mut all: Vec<Event> = (0..1_900).map(|n| event(n, n % 1200, 0, 0)).collect();
    for (n, event) in all.iter_mut().enumerate() {
        let noise = |part: usize| format!("{:032x}", hash::hash_128(format!("{n} {part}").as_bytes()));
        event.network.user_agent = Some((0..8).map(noise).collect());
    }
    let (store, _database) = stored();
    let first = store.handle(&rules, batch(&rules, &all)).await.unwrap();
    let count = first.iter().find(|d| d.rule.id == "count").unwrap();
    assert!(count.correlated.as_ref().unwrap().at_least && count.members.len() > 500, "{}", count.members.len());
    // It stays so, whatever comes again or anew, and others are heard.
    let again = store.handle(&rules, batch(&rules, &all)).await.unwrap();
    assert_eq!(again, first);
    let mut later = event(5_000, 1_250, 0, 0);
    later.network.user_agent = all[0].network.user_agent.clone();
    let others: Vec<Event> = (0..3).map(|n| event(6_000 + n, 1_260, 0, 4)).collect();
    let said = store.handle(&rules, batch(&rules, &[vec![later], others].concat())).await.unwrap();
    assert!(said.iter().any(|d| d.rule.id == "count" && d.members.len() == 3), "{}", said.len());
}

/// What alerts say, short enough to be read when it differs.
fn briefly(alerts: &Alerts) -> Vec<String> {
    let brief = |d: &Detection| {
        let ids: Vec<&str> = d.members.iter().map(|m| m.event.id.as_str()).collect();
        let hash = hash::hash_64(ids.join(" ").as_bytes());
        format!("{} {} {} {:?} {} {hash}", d.rule.id, d.principal.id, d.window.start, d.reasons[0], ids.len())
    };
    alerts.values().map(brief).collect()
}
