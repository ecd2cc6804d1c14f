//! How alerts and incidents are printed: tables for people, NDJSON for programs.

use std::io::{self, Write};

use comfy_table::{ContentArrangement, Table, presets};
use sentinel_enrich::collect::Row;
use sentinel_model::Incident;

use crate::args::Format;

/// Prints alerts as a table in the order given; `more` of them are left out.
pub(crate) fn alerts(out: &mut impl Write, alerts: &[Row], more: u64) -> io::Result<()> {
    if narrow() {
        print(out, &narrow_table(alerts), alerts.is_empty(), NO_ALERTS)?;
    } else {
        let mut table =
            new_table(["Level", "Score", "First event", "Alert", "Principal", "Account", "Source", "Events"]);
        for a in alerts {
            table.add_row([
                a.level.to_string(),
                format!("{:.2}", a.score),
                a.time.to_string(),
                clean(&a.title),
                clean(&a.principal),
                clean(&a.account),
                clean(a.source_ip.as_deref().unwrap_or_default()),
                count(a.event_count, a.at_least),
            ]);
        }
        print(out, &table, alerts.is_empty(), NO_ALERTS)?;
    }
    if more > 0 {
        writeln!(out, "and {more} alerts more, none graver than these: --format ndjson has all")?;
    }
    Ok(())
}

const NO_ALERTS: &str = "No alerts at this level.";
/// Columns of a terminal that an alert needs to stand on one line.
const WIDE: u16 = 160;

/// Whether the terminal is too narrow for the wide table; a file or pipe is never.
fn narrow() -> bool {
    Table::new().width().is_some_and(|columns| columns < WIDE)
}

/// Who and where under what, so that a terminal of 80 columns breaks no time or account number.
fn narrow_table(alerts: &[Row]) -> Table {
    let mut table = new_table(["Level", "First event", "Alert", "Events"]);
    for a in alerts {
        let source = a.source_ip.as_deref().map(|s| format!(" from {s}")).unwrap_or_default();
        let place = format!("in {}{source}", a.account);
        table.add_row([
            format!("{}\n{:.2}", a.level, a.score),
            a.time.to_string().replacen('T', "\n", 1),
            format!("{}\n{}\n{}", clean(&a.title), clean(&a.principal), clean(&place)),
            count(a.event_count, a.at_least),
        ]);
    }
    table
}

/// Prints incidents in the order given.
pub(crate) fn incidents(out: &mut impl Write, format: Format, incidents: &[&Incident]) -> io::Result<()> {
    match format {
        Format::Ndjson => {
            for incident in incidents {
                serde_json::to_writer(&mut *out, incident)?;
                out.write_all(b"\n")?;
            }
            Ok(())
        }
        Format::Table => {
            // The story takes the room: it is what is read, and a terminal of 80 columns must not cut it to pieces.
            let mut table = new_table(["Level", "Incident"]);
            for i in incidents {
                let summary: Vec<_> = i.summary.iter().map(|s| clean(s)).collect();
                let facts = format!("{}, {} to {}", i.incident_id, i.time_first, i.time_last);
                table.add_row([
                    format!("{}\n{:.2}\n\nalerts {}\nevents {}", i.level, i.score, i.alert_count, i.event_count),
                    format!("{}\n{facts}\n\n{}", clean(&i.title), summary.join("\n")),
                ]);
            }
            print(out, &table, incidents.is_empty(), "No incidents at this level.")
        }
    }
}

/// A count, or the lower bound of one.
fn count(n: u64, at_least: bool) -> String {
    if at_least { format!("at least {n}") } else { n.to_string() }
}

/// Text without control characters: what attackers put into logs must not drive the reader's terminal.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A table that fits its terminal.
pub(crate) fn new_table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header);
    table
}

fn print(out: &mut impl Write, table: &Table, empty: bool, none: &str) -> io::Result<()> {
    if empty { writeln!(out, "{none}") } else { writeln!(out, "{table}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_from_logs_do_not_reach_the_terminal() {
        assert_eq!(clean("a\u{1b}[31mb\r"), "a\u{fffd}[31mb\u{fffd}");
    }
}
