//! What a comparison says, whatever the order of events, and what it leaves out.

use sentinel_model::{Event, Level};

use crate::{
    Change, Pair, Report,
    testing::{compared, event, loaded, rule},
};

fn pair(before: &[String], after: &[String]) -> Pair {
    Pair { baseline: loaded(&before.join("---\n")), candidate: loaded(&after.join("---\n")) }
}

/// Events of several users over two days.
fn history(users: usize) -> Vec<Event> {
    let mut events = Vec::new();
    for user in 0..users {
        let name = format!("user{user:03}");
        let at = |day: u32, hour: usize| format!("2026-03-{day:02}T{:02}:00:00Z", hour % 24);
        events.push(event(&format!("a{user}"), &at(2, user), "CreateUser", &name));
        events.push(event(&format!("b{user}"), &at(3, user), "CreateUser", &name));
        events.push(event(&format!("c{user}"), &at(3, user), "DeleteUser", &name));
    }
    events
}

#[test]
fn rules_are_new_gone_changed_or_the_same_and_alerts_gained_lost_or_at_another_level() {
    let before = [rule("a", "medium", "CreateUser"), rule("b", "low", "DeleteUser"), rule("same", "low", "ListUsers")];
    let after = [rule("a", "critical", "CreateUser"), rule("c", "low", "DeleteUser"), rule("same", "low", "ListUsers")];
    let events = history(3);
    let report = compared(&pair(&before, &after), &[&events], 1 << 20);
    let told: Vec<_> = report
        .rules
        .iter()
        .map(|r| (r.id.as_str(), r.change, r.gained, r.lost, r.level_changed, r.baseline_level))
        .collect();
    assert_eq!(
        told,
        [
            ("c", Change::New, 3, 0, 0, None),
            ("b", Change::Gone, 0, 3, 0, None),
            ("a", Change::Changed, 0, 0, 6, Some(Level::Medium)),
        ]
    );
    assert_eq!((report.gained, report.lost, report.level_changed, report.rules_unchanged), (3, 3, 6, 1));
    assert_eq!((report.events, report.days), (9, 2));
    assert_eq!((report.baseline.alerts, report.candidate.alerts, report.candidate.alerts_per_day), (9, 9, 4.5));
    assert_eq!(report.rules[2].alerts_per_day.to_string(), "3");
    assert_eq!(report.gained_by_level["low"] + report.gained_by_level["medium"], 3, "{:?}", report.gained_by_level);
}

#[test]
fn order_repeats_workers_and_memory_change_nothing() {
    let pair = pair(&[rule("a", "medium", "CreateUser")], &[rule("b", "low", "DeleteUser")]);
    let events = history(40);
    let whole = compared(&pair, &[&events], 1 << 20);
    assert_eq!((whole.gained, whole.lost), (40, 80));
    let mut other: Vec<Event> = events.iter().rev().chain(&events[..20]).cloned().collect();
    other.rotate_left(33);
    let (one, two) = other.split_at(50);
    for budget in [1 << 20, 64] {
        let again = compared(&pair, &[one, two], budget);
        assert_eq!(again, Report { events: 140, ..whole.clone() }, "budget {budget}");
    }
}

#[test]
fn samples_are_of_different_principals_and_the_most_affected_come_first() {
    let pair = pair(&[], &[rule("a", "medium", "CreateUser")]);
    let mut events = history(30);
    // One of them makes a user every hour of a third day.
    events.extend(
        (0..24).map(|h| event(&format!("d{h}"), &format!("2026-03-04T{h:02}:00:00Z"), "CreateUser", "user007")),
    );
    let report = compared(&pair, &[&events], 1 << 20);
    let rule = &report.rules[0];
    assert_eq!((rule.gained, rule.gained_samples.len(), rule.principals.len()), (84, 5, 5));
    let names: std::collections::BTreeSet<_> = rule.gained_samples.iter().map(|s| s.principal.as_str()).collect();
    assert_eq!(names.len(), 5, "{names:?}");
    // Of 30 users over the hours of a day, six begin in its first three hours.
    let times: Vec<_> = rule.gained_samples.iter().map(|s| s.time.to_string()[11..13].to_owned()).collect();
    assert_eq!(times, ["00", "00", "01", "01", "02"]);
    let most = &rule.principals[0];
    assert_eq!((most.principal.as_str(), most.gained, most.lost), ("arn:aws:iam::111122223333:user/user007", 26, 0));
    assert_eq!(report.principals.len(), 10);
    assert_eq!(report.principals[0], *most);
}

#[test]
fn a_report_that_must_be_small_leaves_out_the_rules_with_the_fewest_differences() {
    let after: Vec<String> = (0..40).map(|n| rule(&format!("r{n:02}"), "low", "CreateUser")).collect();
    let more = [rule("loud", "low", "*User")];
    let events = history(4);
    let mut report = compared(&pair(&[], &[&after[..], &more].concat()), &[&events], 1 << 20);
    let size = |report: &Report| serde_json::to_vec(report).unwrap().len();
    let (whole, most) = (report.clone(), size(&report) / 3);
    report.fit(most).unwrap();
    // The count of rules left out takes a byte more than the zero.
    assert!(size(&report) <= most + 2, "{} of {most}", size(&report));
    assert!(size(&report) > most / 2);
    assert_eq!(report.rules[0].id, "loud");
    assert_eq!(report.rules.len() as u64 + report.rules_omitted, 41);
    assert_eq!((report.gained, report.rules.first()), (whole.gained, whole.rules.first()));
    let mut fits = whole.clone();
    fits.fit(usize::MAX).unwrap();
    assert_eq!(fits, whole);
}
