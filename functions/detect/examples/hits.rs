//! Which rules each event matches, for comparing with other Sigma engines (`tests/sigma/differential.py`).
//!
//! `hits events` prints the events of our own pack's tests, one JSON record a line. `hits match PLACEHOLDERS DIR...`
//! reads such lines and prints the loaded rules as one JSON array of `[file, title]`, then for each event the numbers
//! (positions in that array) of the rules that match. Rules that alert only through a correlation count like others.

use std::io::{self, BufRead, BufWriter, Write};

use anyhow::{Context, bail};
use sentinel_detect::{LoadOptions, RuleSet, check};
use sentinel_json::Document;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args_os().skip(1);
    let mut out = BufWriter::new(io::stdout().lock());
    match args.next().as_deref().and_then(|a| a.to_str()) {
        Some("events") => {
            for event in check::pack_events() {
                // A tests file may lay an event out over many lines; inside texts JSON has no line ends.
                writeln!(out, "{}", event.replace(['\n', '\r'], " "))?;
            }
        }
        Some("match") => {
            let placeholders = args.next().context("no file of placeholders is named")?;
            let dirs = args.map(Into::into).collect();
            let options = LoadOptions { dirs, placeholders: Some(placeholders.into()), ..LoadOptions::default() };
            let (set, report) = RuleSet::load(&options)?;
            if let Some(refused) = report.refused.first() {
                bail!("{}:{}: {}", refused.file, refused.line, refused.reason);
            }
            let names: Vec<_> = set.iter().map(|(_, meta)| (&meta.file, &meta.reference.title)).collect();
            writeln!(out, "{}", serde_json::to_string(&names)?)?;
            let mut hits = Vec::new();
            for line in io::stdin().lock().lines() {
                set.matches(Document::parse(&line?)?.root(), &mut hits);
                let numbers: Vec<_> = hits.iter().map(|index| index.number()).collect();
                writeln!(out, "{}", serde_json::to_string(&numbers)?)?;
            }
        }
        _ => bail!("usage: hits events | hits match PLACEHOLDERS DIR..."),
    }
    out.flush()?;
    Ok(())
}
