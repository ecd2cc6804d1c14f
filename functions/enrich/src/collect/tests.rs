//! Collecting the matches of single events gives what merging their detections gives, however they come.

use std::io::BufRead as _;

use proptest::prelude::*;
use sentinel_model::{Attack, Detection, Member, RuleRef, alert::MatchedRule, incident::AlertBrief};

use super::*;
use crate::{
    Accumulator,
    testing::{detection, member},
};

fn list() -> Arc<IndicatorList> {
    let mut list = IndicatorList::default();
    let lines = "198.51.100.3,suspicious\nAKIA00000000000002,known_bad\nagent:agent/1,suspicious";
    assert!(list.add(lines, "f", "list").is_empty());
    Arc::new(list)
}

const WHO: [&str; 2] = ["alice", "bob"];
const WINDOWS: [u32; 3] = [60, 15, 60];

/// Rules, the labels of each and its sentence.
fn rules() -> Vec<(RuleRef, Attack, String)> {
    let some = |techniques: &[&str]| Attack {
        tactics: vec!["persistence".into()],
        techniques: techniques.iter().map(|t| (*t).to_owned()).collect(),
    };
    vec![
        (rule("r", Level::High), some(&["T1098.001", "T1098"]), "Matched \"r\".".into()),
        (rule("s", Level::Low), some(&[]), "A sentence before the calls.".into()),
        (rule("t", Level::Informational), Attack::default(), "Matched on CreateUser.".into()),
    ]
}

fn rule(id: &str, level: Level) -> RuleRef {
    RuleRef { id: id.into(), title: format!("Rule \"{id}\"\n"), level, author: None }
}

fn labels(rules: &[(RuleRef, Attack, String)]) -> Vec<MatchedRule<'_>> {
    let label = |(n, window_minutes): (usize, u32)| {
        let (rule, attack, why) = &rules[n];
        MatchedRule { rule, attack, window_minutes, why }
    };
    WINDOWS.into_iter().enumerate().map(label).collect()
}

/// An event whose fields follow from its number, as a record's fields follow from its content.
fn numbered(n: u32) -> Member {
    // Two contents of one id now and then.
    let mut m = member(&format!("e{}", if n.is_multiple_of(9) { 0 } else { n }), "2024-05-01T10:00:00Z");
    m.event.content = u64::from(n);
    m.event.time = sentinel_model::time::plus_seconds(m.event.time, i64::from(n * 37 % 4000) - 500);
    m.source_ip = [Some("AWS \u{1f980} \"Internal\""), None]
        .get(n as usize % 11)
        .map_or_else(|| Some(format!("198.51.100.{}", n % 120)), |host| host.map(str::to_owned));
    m.user_agent = (!n.is_multiple_of(7)).then(|| format!("agent/{}{}", n % 3, "é".repeat(n as usize % 300)));
    m.access_key_id = (!n.is_multiple_of(4)).then(|| format!("AKIA{:014}", n % 30));
    (m.service, m.action) = match n % 3 {
        0 => ("iam.amazonaws.com".into(), "CreateUser".into()),
        1 => ("s3.amazonaws.com".into(), "DeleteBucket".into()),
        _ => ("ec2.amazonaws.com".into(), "DescribeInstances".into()),
    };
    m.read_only = [None, Some(true), Some(false)][n as usize % 3];
    m.success = !n.is_multiple_of(5);
    m.region = (!n.is_multiple_of(6)).then(|| format!("eu-west-{}", n % 3));
    m
}

fn who(n: u32) -> &'static str {
    WHO[n as usize % 2]
}

/// The rules that an event matches.
fn matched(n: u32) -> Vec<u32> {
    (0..3).filter(|rule| n % (rule + 2) != 1).collect()
}

fn call(m: &Member) -> String {
    format!("Matched on {}.", m.action)
}

/// What merging detections gives.
fn expected(events: &[u32], list: &Arc<IndicatorList>) -> Vec<Alert> {
    let (mut all, rules) = (Accumulator::new(Arc::clone(list)), rules());
    for n in events {
        let m = numbered(*n);
        for number in matched(*n) {
            let (rule, attack, why) = &rules[number as usize];
            let mut d: Detection = detection(&rule.id, rule.level, who(*n), vec![m.clone()]);
            d.window = sentinel_model::Window::around(m.event.time, WINDOWS[number as usize]);
            d.alert_id = sentinel_model::alert::alert_id(&rule.id, &d.principal.id, &d.account, d.window);
            (d.rule, d.attack) = (rule.clone(), attack.clone());
            d.reasons = vec![call(&m), why.clone()];
            all.add(&d);
        }
    }
    all.finish()
}

fn fact_of<'a>(m: &'a Member, user: &'a sentinel_model::Principal, class: ActionClass) -> Fact<'a> {
    Fact {
        time: m.event.time,
        id: &m.event.id,
        content: m.event.content,
        account: "111122223333",
        principal: &user.id,
        kind: user.kind,
        who: "Somebody",
        region: m.region.as_deref(),
        source: m.source_ip.as_deref(),
        user_agent: m.user_agent.as_deref(),
        access_key: m.access_key_id.as_deref(),
        class,
        service: &m.service,
        action: &m.action,
        invoked_by: None,
        failure: None,
    }
}

fn say(fact: &Fact<'_>, said: &mut String) {
    said.extend(["Matched on ", fact.action, "."]);
}

fn collected(events: &[u32], workers: usize, budget: usize) -> Vec<Collector> {
    let mut all: Vec<Collector> = (0..workers).map(|n| Collector::new(budget, u16::try_from(n).unwrap())).collect();
    for (i, n) in events.iter().enumerate() {
        let (m, user) = (numbered(*n), crate::testing::user(who(*n)));
        let collector = &mut all[i % workers];
        let class = collector.class(&m.service, &m.action, m.read_only, m.success);
        let fact = fact_of(&m, &user, class);
        let at = collector.keep(&fact).unwrap();
        collector.add(at, &fact, &matched(*n)).unwrap();
    }
    all
}

fn told(
    collectors: Vec<Collector>,
    wanted: Wanted,
    others: &[Alert],
    list: &Arc<IndicatorList>,
) -> (Vec<String>, Counts) {
    let (mut lines, mut counts, rules) = (Vec::new(), Counts::default(), rules());
    let all = Collected::new(collectors, labels(&rules), say, Arc::clone(list));
    all.tell(wanted, others, &mut counts, &mut |some| {
        assert_eq!(some.last(), Some(&b'\n'), "whole lines");
        lines.extend(some.lines().map(Result::unwrap));
        Ok(())
    })
    .unwrap();
    (lines, counts)
}

fn lines(alerts: &[Alert], min_level: Level) -> Vec<String> {
    let shown = alerts.iter().filter(|a| a.level >= min_level);
    shown.map(|a| serde_json::to_string(&a.to_view()).unwrap()).collect()
}

fn counts(alerts: &[Alert]) -> Counts {
    let mut counts = Counts::default();
    for alert in alerts {
        counts[alert.level as usize] += 1;
    }
    counts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn order_repetition_workers_and_memory_do_not_matter(
        events in prop::collection::vec(0..400_u32, 1..200),
        turn in any::<prop::sample::Index>(),
        (workers, threads) in (1..4_usize, 1..4_usize),
        budget in prop::sample::select(vec![1, 4_000, 1 << 20]),
        min_level in prop::sample::select(vec![Level::Informational, Level::Medium]),
        with_list in any::<bool>(),
    ) {
        let list = &if with_list { list() } else { Arc::new(IndicatorList::default()) };
        let alerts = expected(&events, list);
        let mut other: Vec<u32> = events.iter().rev().chain(events.iter().step_by(3)).copied().collect();
        let turn = turn.index(other.len());
        other.rotate_left(turn);
        // What models and correlations find stands among the rest.
        let models = {
            let mut all = Accumulator::new(Arc::clone(list));
            let mut d = detection("model:m", Level::Medium, "carol", vec![numbered(events[0])]);
            d.members[0].model_score = Some(0.7);
            all.add(&d);
            all.finish()
        };
        let mut all = [alerts, models.clone()].concat();
        all.sort_by(|a, b| (a.time, &a.alert_id).cmp(&(b.time, &b.alert_id)));

        let wanted = Wanted { form: Form::Line, min_level, threads };
        let (found, counted) = told(collected(&other, workers, budget), wanted, &models, list);
        prop_assert_eq!(found, lines(&all, min_level));
        prop_assert_eq!(counted, counts(&all));

        let (found, _) = told(collected(&other, workers, budget), Wanted { form: Form::Brief, ..wanted }, &models, list);
        let found: Vec<AlertBrief> = found.iter().map(|b| serde_json::from_str(b).unwrap()).collect();
        all.retain(|a| a.level >= min_level);
        prop_assert_eq!(found, all.iter().map(AlertBrief::of).collect::<Vec<_>>());

        let (found, _) = told(collected(&other, workers, budget), Wanted { form: Form::Row, ..wanted }, &models, list);
        let found: Vec<Row> = found.iter().map(|r| serde_json::from_str(r).unwrap()).collect();
        all.sort_by(|a, b| b.level.cmp(&a.level).then(a.time.cmp(&b.time)));
        let places: Vec<_> = found.iter().map(|r| (r.level, r.time, r.title.clone(), r.event_count)).collect();
        let wanted: Vec<_> = all.iter().map(|a| (a.level, a.time, a.title.clone(), a.event_count)).collect();
        prop_assert_eq!(places, wanted);
    }
}

#[test]
fn lists_are_capped_and_the_count_stops_at_the_cap() {
    // Numbers that match the first rule, by one principal, in one window.
    let events: Vec<u32> =
        (0..200_000).filter(|n| n % 2 == 0 && n % 9 != 0 && (500..4000).contains(&(n * 37 % 4000))).collect();
    for budget in [1 << 26, 1 << 18] {
        for take in [10_050, 10_000] {
            let some = &events[..take];
            let wanted = Wanted { form: Form::Line, min_level: Level::High, threads: 2 };
            let (found, _) = told(collected(some, 2, budget), wanted, &[], &list());
            assert_eq!(found, lines(&expected(some, &list()), Level::High));
            let full = format!("\"event_count\":10000,\"at_least\":{},", take > 10_000);
            assert!(found.iter().any(|line| line.contains(&full)), "{found:?}");
        }
    }
}

#[test]
fn alerts_of_one_moment_are_in_order_of_their_ids_however_many() {
    let m = numbered(1);
    for (people, form) in [(3, Form::Line), (700, Form::Line), (700, Form::Row)] {
        let mut found = Vec::new();
        for (threads, budget) in [(1, 1 << 26), (3, 1 << 26), (1, 1)] {
            let mut collector = Collector::new(budget, 0);
            for n in 0..people {
                let (user, mut m) = (crate::testing::user(&format!("p{n}")), m.clone());
                m.event.id = format!("e{n}");
                let class = collector.class(&m.service, &m.action, m.read_only, m.success);
                // Some before and behind those of the same time.
                let aside = sentinel_model::time::plus_seconds(m.event.time, if n < 5 { -1 } else { i64::from(n < 9) });
                let fact = Fact { time: aside, ..fact_of(&m, &user, class) };
                let at = collector.keep(&fact).unwrap();
                collector.add(at, &fact, &[0, 1]).unwrap();
            }
            let wanted = Wanted { form, min_level: Level::Low, threads };
            found.push(told(vec![collector], wanted, &[], &Arc::new(IndicatorList::default())).0);
        }
        assert_eq!(found[0].len(), 2 * usize::try_from(people).unwrap());
        assert!(found[1] == found[0] && found[2] == found[0], "threads and disk change nothing");
        if form == Form::Line {
            let place = |line: &String| {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                (line["time"].to_string(), line["alert_id"].to_string())
            };
            assert!(found[0].is_sorted_by_key(place));
        }
    }
}

#[test]
fn whoever_stops_reading_stops_the_printing() {
    let events: Vec<u32> = (0..20_000).filter(|n| n % 9 != 0).collect();
    for threads in [1, 3] {
        let rules = rules();
        let all = Collected::new(collected(&events, 1, 1 << 26), labels(&rules), say, list());
        let wanted = Wanted { form: Form::Line, min_level: Level::Informational, threads };
        let mut counts = Counts::default();
        let gone = all.tell(wanted, &[], &mut counts, &mut |_| Err(io::ErrorKind::BrokenPipe.into()));
        assert_eq!(gone.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert!(counts.iter().sum::<u64>() > 0, "all were counted before");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    #[test]
    fn a_correlation_says_what_its_detection_would(
        events in prop::collection::btree_set(0..400_u32, 1..80),
        completing in any::<prop::sample::Index>(),
        at_least in any::<bool>(),
        budget in prop::sample::select(vec![1, 1 << 20]),
        with_list in any::<bool>(),
        few_sessions in any::<bool>(),
    ) {
        let list = if with_list { list() } else { Arc::new(IndicatorList::default()) };
        let mut members: Vec<(u32, Member)> = events.iter().map(|n| (*n, numbered(*n))).collect();
        for (n, m) in members.iter_mut().filter(|_| few_sessions) {
            (m.user_agent, m.access_key_id, m.region) = (Some("agent".into()), None, None);
            m.source_ip = Some(format!("198.51.100.{}", *n % 2));
        }
        members.sort_by(|a, b| a.1.event.cmp(&b.1.event));
        let first = members[completing.index(members.len())].0;
        let (rule, attack, why) = rules().swap_remove(0);
        let mut calls = sentinel_correlation::Calls::default();
        for (_, m) in &members {
            calls.add(&m.service, &m.action, m.success);
        }
        let mut d = detection(&rule.id, rule.level, who(first), members.iter().map(|(_, m)| m.clone()).collect());
        (d.rule, d.attack) = (rule, attack);
        d.reasons = vec!["Many events.".into(), calls.said(), why.clone()];
        d.correlated = Some(sentinel_model::Correlated { revision: 0, at_least, superseded_by: None });
        let mut all = Accumulator::new(Arc::clone(&list));
        all.add(&d);
        let wanted = all.finish();

        let mut collector = Collector::new(budget, 0);
        let users: Vec<_> = members.iter().map(|(n, _)| crate::testing::user(who(*n))).collect();
        let mut places = Vec::new();
        for ((n, m), user) in members.iter().zip(&users) {
            let class = collector.class(&m.service, &m.action, m.read_only, m.success);
            let fact = fact_of(m, user, class);
            places.push(collector.keep(&fact).unwrap());
            if *n == members[0].0 {
                // Matches beside it do not get into it.
                collector.add(places[places.len() - 1], &fact, &[2]).unwrap();
            }
        }
        let completing = places[members.iter().position(|(n, _)| *n == first).unwrap()];
        let mut found = AllFound::default();
        let alert = Found {
            rule: 0,
            alert_id: &d.alert_id,
            account: &d.account,
            window: d.window.start,
            finding: "Many events.",
            completing,
            at_least,
        };
        found.add(&alert, &places).unwrap();
        let (mut told, mut counts, rules) = (Vec::new(), Counts::default(), rules());
        let collected = Collected::new(vec![collector], labels(&rules), say, list).with(found);
        let form = Wanted { form: Form::Line, min_level: Level::Low, threads: 2 };
        collected
            .tell(form, &[], &mut counts, &mut |some| {
                told.extend(some.lines().map(Result::unwrap));
                Ok(())
            })
            .unwrap();
        prop_assert_eq!(told, lines(&wanted, Level::Low));
        prop_assert_eq!(counts[wanted[0].level as usize], 1);
    }
}

#[test]
fn what_is_only_counted_is_counted_once_an_alert() {
    let window =
        |hour: i64| sentinel_model::Window { start: Timestamp::from_second(hour * 3600).unwrap(), minutes: 60 };
    for budget in [1, 1 << 20] {
        let mut all = [Collector::new(budget, 0), Collector::new(budget, 1)];
        for n in 0..40_usize {
            let who = ("111122223333", WHO[n % 2]);
            all[n % 3 % 2]
                .count(Who::new(who.0, who.1), u32::try_from(n % 4 / 2).unwrap(), window(i64::try_from(n % 5).unwrap()))
                .unwrap();
        }
        let wanted = Wanted { form: Form::Line, min_level: Level::Low, threads: 1 };
        let (found, counts) = told(all.into(), wanted, &[], &list());
        assert_eq!((found.len(), counts), (0, [20, 0, 0, 0, 0]));
    }
}

#[test]
fn jobs_give_in_their_order_whoever_runs_them() {
    for (threads, jobs) in [(1, 5), (3, 5), (8, 2), (4, 0)] {
        let job = |n: usize| {
            move || {
                // The first are done last.
                std::thread::sleep(std::time::Duration::from_millis(5 * (jobs - n) as u64));
                Ok::<_, String>(n)
            }
        };
        assert_eq!(at_once(threads, (0..jobs).map(job).collect()), Ok((0..jobs).collect::<Vec<_>>()));
        let failing = |n: usize| move || if n + 1 == jobs { Err("broken".to_owned()) } else { Ok(n) };
        let told = at_once(threads, (0..jobs).map(failing).collect());
        assert_eq!(told, if jobs == 0 { Ok(Vec::new()) } else { Err("broken".to_owned()) });
    }
}

#[test]
fn events_have_keys_in_order_of_second_and_copies_the_same() {
    let user = crate::testing::user(who(1));
    let key = |time: &str, id: &str, content: u64| {
        let mut m = numbered(1);
        m.event.time = time.parse().unwrap();
        (m.event.id, m.event.content) = (id.to_owned(), content);
        event_key(&fact_of(&m, &user, ActionClass::Read))
    };
    let in_order = [
        "-009999-01-02T01:59:59Z",
        "1969-12-31T23:59:58.5Z",
        "1969-12-31T23:59:59.5Z",
        "1970-01-01T00:00:00.5Z",
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:01.999Z",
        "9999-12-30T22:00:00.999999999Z",
    ];
    // However large the hashes are, the second decides.
    assert!(in_order.windows(2).all(|two| key(two[0], "a", u64::MAX) < key(two[1], "b", 0)));
    let same = in_order[4];
    assert_eq!(key(same, "a", 7), key(same, "a", 7));
    assert_ne!(key(same, "a", 7), key(same, "b", 7));
    assert_ne!(key(same, "a", 7), key(same, "a", 8));
    assert_ne!(key(same, "a", 7), key(same, "a", 7 | 1 << 63));
}
