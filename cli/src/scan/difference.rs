//! What two rule sets make of the same logs, printed for people.

use std::io::{self, Write};

use sentinel_model::Level;
use sentinel_replay::{Affected, Change, Report, RuleDifference, Sample, Side};

use super::output::{clean, new_table};

/// Rules of the table; programs get all.
const ROWS: usize = 200;
/// Rules that are told in full.
const IN_FULL: usize = 30;
/// Titles of rules that raise nothing, told of each kind.
const TITLES: usize = 10;

/// Prints a report.
pub(super) fn print(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let span = match (report.first_event, report.last_event) {
        (Some(first), Some(last)) => format!(", {first} to {last}"),
        _ => String::new(),
    };
    writeln!(out, "{} on {}{span}", several(report.events, "event"), several(report.days, "day"))?;
    side(out, "baseline ", &report.baseline)?;
    side(out, "candidate", &report.candidate)?;
    writeln!(out, "gained       {}: {}", report.gained, levels(&report.gained_by_level))?;
    writeln!(out, "lost         {}: {}", report.lost, levels(&report.lost_by_level))?;
    if report.level_changed > 0 {
        writeln!(out, "level        {} at another level", several(report.level_changed, "alert"))?;
    }
    let differs = |rule: &&RuleDifference| rule.differences() + rule.level_changed > 0;
    let loud: Vec<&RuleDifference> = report.rules.iter().filter(differs).collect();
    if loud.is_empty() {
        writeln!(out, "\nNo alert is gained or lost.")?;
    } else {
        table(out, &loud)?;
    }
    for change in [Change::New, Change::Changed, Change::Gone] {
        let quiet = report.rules.iter().filter(|rule| rule.change == change && !differs(rule));
        quietly(out, change, &quiet.collect::<Vec<_>>())?;
    }
    for rule in loud.iter().take(IN_FULL) {
        in_full(out, rule)?;
    }
    if loud.len() > IN_FULL {
        let more = several((loud.len() - IN_FULL) as u64, "rule");
        writeln!(out, "\nand {more} more, with fewer differences: --format json has all")?;
    }
    if !report.principals.is_empty() {
        writeln!(out, "\nMost affected over all rules")?;
        for who in &report.principals {
            writeln!(out, "    {}", affected(who))?;
        }
    }
    Ok(())
}

fn side(out: &mut impl Write, name: &str, side: &Side) -> io::Result<()> {
    let rules = several(side.rules as u64, "rule");
    let correlations = several(side.correlations as u64, "correlation");
    let refused = if side.refused_count > 0 { format!(", {} refused", side.refused_count) } else { String::new() };
    writeln!(
        out,
        "{name}    {rules}, {correlations}{refused}; {}, {} a day: {}",
        several(side.alerts, "alert"),
        side.alerts_per_day,
        levels(&side.by_level)
    )
}

fn table(out: &mut impl Write, rules: &[&RuleDifference]) -> io::Result<()> {
    let mut table = new_table(["Rule", "Change", "Level", "Gained", "Lost", "Alerts a day"]);
    for rule in rules.iter().take(ROWS) {
        let level = match rule.baseline_level {
            Some(before) => format!("{before} > {}", rule.level),
            None => rule.level.to_string(),
        };
        table.add_row([
            clean(&rule.title),
            change_name(rule.change).to_owned(),
            level,
            rule.gained.to_string(),
            rule.lost.to_string(),
            format!("{} > {}", rule.baseline_alerts_per_day, rule.alerts_per_day),
        ]);
    }
    writeln!(out, "\n{table}")?;
    if rules.len() > ROWS {
        let more = several((rules.len() - ROWS) as u64, "rule");
        writeln!(out, "and {more} more, with fewer differences: --format json has all")?;
    }
    Ok(())
}

/// Rules that are new, changed or gone without a difference in alerts.
fn quietly(out: &mut impl Write, change: Change, rules: &[&RuleDifference]) -> io::Result<()> {
    if rules.is_empty() {
        return Ok(());
    }
    let titles: Vec<String> = rules.iter().take(TITLES).map(|rule| clean(&rule.title)).collect();
    let more = if rules.len() > TITLES { ", ..." } else { "" };
    let count = several(rules.len() as u64, "rule");
    writeln!(out, "{}, no difference: {count}: {}{more}", change_name(change), titles.join(", "))
}

fn in_full(out: &mut impl Write, rule: &RuleDifference) -> io::Result<()> {
    writeln!(out, "\n{} ({}, {})", clean(&rule.title), clean(&rule.id), clean(&rule.file))?;
    for (name, samples) in [("gained", &rule.gained_samples), ("lost  ", &rule.lost_samples)] {
        for one in samples {
            writeln!(out, "    {name}  {}", sample(one))?;
        }
    }
    if rule.level_changed > 0 {
        writeln!(out, "    level   {} at another level", several(rule.level_changed, "alert"))?;
    }
    if !rule.principals.is_empty() {
        let all: Vec<String> = rule.principals.iter().map(affected).collect();
        writeln!(out, "    most affected: {}", all.join("; "))?;
    }
    Ok(())
}

fn sample(sample: &Sample) -> String {
    let source = sample.source_ip.as_deref().map(|s| format!(" from {s}")).unwrap_or_default();
    clean(&format!(
        "{} {} {} in {}{source}: {}, {}",
        sample.time,
        sample.level,
        sample.principal,
        sample.account,
        several(sample.event_count, "event"),
        sample.event_ids.join(", ")
    ))
}

fn affected(who: &Affected) -> String {
    clean(&format!("{} in {} (+{} -{})", who.principal, who.account, who.gained, who.lost))
}

fn change_name(change: Change) -> &'static str {
    match change {
        Change::New => "new",
        Change::Gone => "gone",
        Change::Changed => "changed",
        Change::Same => "same",
    }
}

fn levels(counts: &std::collections::BTreeMap<&'static str, u64>) -> String {
    let all = Level::ALL.iter().rev();
    let all = all.map(|level| format!("{} {level}", counts.get(level.as_str()).unwrap_or(&0)));
    all.collect::<Vec<_>>().join(", ")
}

fn several(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
