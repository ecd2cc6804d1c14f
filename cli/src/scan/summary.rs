//! What a scan found, counted: printed at its end and written for programs.

use std::{collections::BTreeMap, time::Duration};

use sentinel_detect::Suppressed;
use sentinel_model::Level;
use serde::Serialize;

use super::output::clean;

/// Something in the input that could not be read as a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Malformed {
    /// The file.
    pub(crate) file: String,
    /// Where in it: `line N, byte M`.
    pub(crate) position: String,
    /// What is wrong, and what was expected.
    pub(crate) reason: String,
}

/// The counts of one scan; as JSON, the object that `--summary` writes.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Summary {
    /// Files read.
    pub(crate) files: u64,
    /// `CloudTrail` records read, duplicates included.
    pub(crate) records: u64,
    /// Records seen before, with the same content.
    pub(crate) duplicates: u64,
    /// Records whose id was seen before with other content.
    pub(crate) conflicting: u64,
    /// What could not be read as a record.
    pub(crate) malformed: Vec<Malformed>,
    /// Other kinds of log, counted by kind.
    pub(crate) unknown: BTreeMap<String, u64>,
    /// Alerts by level, of every level whatever was printed.
    pub(crate) alerts: BTreeMap<&'static str, u64>,
    /// Wall time.
    pub(crate) seconds: f64,
    /// Records whose account is not the one of their folder or envelope.
    pub(crate) account_mismatches: u64,
    /// Rules in force.
    pub(crate) rules: usize,
    /// Rules refused.
    pub(crate) rules_refused: usize,
    /// What exceptions took, those that took nothing included.
    pub(crate) suppressed: Vec<Suppressed>,
    /// Paths and streams that could not be opened or decompressed.
    pub(crate) unreadable: Vec<Unreadable>,
    /// What stands in the folders and is no file: links to folders, pipes, sockets, devices.
    pub(crate) skipped: Vec<String>,
}

/// A path or stream that could not be opened or decompressed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Unreadable {
    /// The path.
    pub(crate) file: String,
    /// Why.
    pub(crate) reason: String,
}

/// Malformed entries and the like printed for people; the JSON summary has more.
const PRINTED: usize = 20;
/// Malformed entries listed of one file; further ones are told together in a last one. A file of a billion broken
/// lines would fill the memory otherwise.
const LISTED: usize = 10_000;
/// Other kinds of log told apart; further ones count as `other`. Some kinds are named by whoever wrote the log.
const KINDS: usize = 500;

/// What one worker read; entries of lists stand beside the number of their file.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// Files read.
    pub(crate) files: u64,
    /// Records read.
    pub(crate) records: u64,
    /// Records whose account is not the one of their folder or envelope.
    pub(crate) account_mismatches: u64,
    /// What could not be opened or decompressed.
    pub(crate) unreadable: Vec<(usize, Unreadable)>,
    malformed: Vec<(usize, Malformed)>,
    unknown: Kinds,
    /// The file that is read.
    file: usize,
    /// Its malformed entries: how many, and where the last one was.
    of_file: (usize, String),
}

impl Reading {
    /// Begins a file.
    pub(crate) fn begin_file(&mut self, number: usize) {
        self.files += 1;
        self.file = number;
        self.of_file = (0, String::new());
    }

    /// Takes note of something malformed in the file that is read.
    pub(crate) fn malformed(&mut self, file: &str, position: String, reason: String) {
        self.of_file.0 += 1;
        if self.of_file.0 <= LISTED {
            self.malformed.push((self.file, Malformed { file: file.to_owned(), position, reason }));
        } else {
            self.of_file.1 = position;
        }
    }

    /// Ends a file: what was too much to list is told as one.
    pub(crate) fn end_file(&mut self, file: &str) {
        let (count, last) = std::mem::take(&mut self.of_file);
        if count > LISTED {
            let reason = format!("{} more like these, this is the last", count - LISTED);
            self.malformed.push((self.file, Malformed { file: file.to_owned(), position: last, reason }));
        }
    }

    /// Counts an object that is no `CloudTrail` record.
    pub(crate) fn unknown(&mut self, kind: String) {
        self.unknown.add(kind, 1);
    }
}

/// Other kinds of log, counted: the first by name are told apart, so that who came first does not matter.
#[derive(Debug, Default)]
struct Kinds {
    apart: BTreeMap<String, u64>,
    others: u64,
}

impl Kinds {
    fn add(&mut self, kind: String, count: u64) {
        *self.apart.entry(kind).or_default() += count;
        if self.apart.len() > KINDS
            && let Some((_, count)) = self.apart.pop_last()
        {
            self.others += count;
        }
    }

    fn merge(&mut self, more: Self) {
        self.others += more.others;
        more.apart.into_iter().for_each(|(kind, count)| self.add(kind, count));
    }

    fn all(mut self) -> BTreeMap<String, u64> {
        if self.others > 0 {
            *self.apart.entry("other".to_owned()).or_default() += self.others;
        }
        self.apart
    }
}

impl Summary {
    /// A summary with every level at zero.
    pub(crate) fn new() -> Self {
        Self { alerts: Level::ALL.iter().map(|l| (l.as_str(), 0)).collect(), ..Self::default() }
    }

    /// Takes over what the workers read. What stands in lists is in the order of the files.
    pub(crate) fn read(&mut self, readings: Vec<Reading>) {
        let (mut malformed, mut unreadable, mut kinds) = (Vec::new(), Vec::new(), Kinds::default());
        for one in readings {
            self.files += one.files;
            self.records += one.records;
            self.account_mismatches += one.account_mismatches;
            malformed.extend(one.malformed);
            unreadable.extend(one.unreadable);
            kinds.merge(one.unknown);
        }
        malformed.sort_by_key(|(number, _)| *number);
        unreadable.sort_by_key(|(number, _)| *number);
        self.malformed.extend(malformed.into_iter().map(|(_, m)| m));
        self.unreadable.extend(unreadable.into_iter().map(|(_, u)| u));
        self.unknown = kinds.all();
    }

    /// Counts alerts.
    pub(crate) fn count_alerts(&mut self, level: Level, count: u64) {
        *self.alerts.entry(level.as_str()).or_default() += count;
    }

    /// Sets the wall time.
    pub(crate) fn finish(&mut self, elapsed: Duration) {
        self.seconds = elapsed.as_secs_f64();
    }

    /// The summary for people, one fact a line.
    pub(crate) fn text(&self) -> String {
        use std::fmt::Write as _;
        let mut out = String::new();
        // Writing to a String cannot fail.
        let mut line = |text: std::fmt::Arguments<'_>| {
            let _ = writeln!(out, "{text}");
        };
        #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = if self.seconds > 0.0 { self.records as f64 / self.seconds } else { 0.0 };
        line(format_args!("files        {}", self.files));
        line(format_args!("records      {} ({rate:.0} per second, {:.2} s)", self.records, self.seconds));
        line(format_args!("duplicates   {}", self.duplicates));
        line(format_args!("conflicting  {}", self.conflicting));
        if self.account_mismatches > 0 {
            line(format_args!(
                "accounts     {} records name another account than their folder or envelope",
                self.account_mismatches
            ));
        }
        line(format_args!("malformed    {}", self.malformed.len()));
        for m in self.malformed.iter().take(PRINTED) {
            line(format_args!("  {}: {}: {}", clean(&m.file), m.position, clean(&m.reason)));
        }
        if self.malformed.len() > PRINTED {
            line(format_args!("  and {} more: --summary FILE lists all", self.malformed.len() - PRINTED));
        }
        line(format_args!("other kinds  {}", self.unknown.values().sum::<u64>()));
        for (kind, count) in self.unknown.iter().take(PRINTED) {
            line(format_args!("  {}: {count}", clean(kind)));
        }
        if self.unknown.len() > PRINTED {
            line(format_args!("  and {} kinds more: --summary FILE lists them", self.unknown.len() - PRINTED));
        }
        line(format_args!("rules        {} ({} refused)", self.rules, self.rules_refused));
        let alerts: Vec<_> =
            Level::ALL.iter().rev().map(|l| format!("{} {l}", self.alerts.get(l.as_str()).unwrap_or(&0))).collect();
        line(format_args!("alerts       {}", alerts.join(", ")));
        for s in &self.suppressed {
            let (name, rule, reason) = (clean(&s.exception), clean(&s.rule), clean(&s.reason));
            line(format_args!("suppressed   {} of {rule} by {name}: {reason}", s.count));
        }
        for path in self.skipped.iter().take(PRINTED) {
            line(format_args!("skipped      {}: a link to a folder, or no file: name it to read it", clean(path)));
        }
        if self.skipped.len() > PRINTED {
            line(format_args!("skipped      {} more", self.skipped.len() - PRINTED));
        }
        for u in &self.unreadable {
            line(format_args!("NOT READ     {}: {}", clean(&u.file), clean(&u.reason)));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary_of(readings: Vec<Reading>) -> Summary {
        let mut summary = Summary::new();
        summary.read(readings);
        summary
    }

    #[test]
    fn a_file_of_endless_mistakes_takes_bounded_memory() {
        // Two workers; the second had the first file.
        let mut readings = [Reading::default(), Reading::default()];
        for (worker, number, file) in [(1, 0, "a"), (0, 1, "b"), (0, 2, "c")] {
            let reading = &mut readings[worker];
            reading.begin_file(number);
            for n in 0..if file == "c" { 1 } else { LISTED + 5 } {
                reading.malformed(file, format!("line {n}"), "not JSON".into());
            }
            reading.end_file(file);
        }
        let summary = summary_of(readings.into());
        assert_eq!((summary.files, summary.malformed.len()), (3, 2 * (LISTED + 1) + 1));
        let last = &summary.malformed[LISTED];
        assert_eq!((last.file.as_str(), last.position.as_str()), ("a", "line 10004"));
        assert_eq!(last.reason, "5 more like these, this is the last");
        assert_eq!(summary.malformed[2 * (LISTED + 1)].file, "c");
    }

    #[test]
    fn endless_kinds_are_counted_together_whoever_comes_first() {
        let told = |kinds: &mut dyn Iterator<Item = usize>, workers: usize| {
            let mut readings: Vec<Reading> = (0..workers).map(|_| Reading::default()).collect();
            for (n, kind) in kinds.enumerate() {
                readings[n % workers].unknown(format!("eventbridge:{kind}"));
            }
            readings[0].unknown("eventbridge:1".into());
            summary_of(readings)
        };
        let summary = told(&mut (0..2 * KINDS), 1);
        assert_eq!((summary.unknown.len(), summary.unknown["other"]), (KINDS + 1, KINDS as u64));
        assert_eq!(summary.unknown["eventbridge:1"], 2);
        assert!(summary.text().lines().count() < 50);
        assert_eq!(told(&mut (0..2 * KINDS).rev(), 3).unknown, summary.unknown);
    }

    #[test]
    fn names_and_kinds_from_logs_do_not_drive_the_terminal() {
        let mut reading = Reading::default();
        reading.begin_file(0);
        reading.malformed("a\u{1b}[2J\n.json", "line 1".into(), "\u{1b}]0;x\u{7}".into());
        reading.unknown("k\u{1b}[1m".into());
        let mut summary = summary_of(vec![reading]);
        summary.skipped.push("p\u{1b}".into());
        summary.unreadable.push(Unreadable { file: "u\u{1b}".into(), reason: "\u{1b}".into() });
        assert!(summary.text().chars().all(|c| c == '\n' || !c.is_control()));
    }
}
