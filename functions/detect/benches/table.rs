//! What matching costs beside parsing, as one table: `cargo bench -p sentinel-detect --bench table`.
//!
//! Every figure is the median of alternating runs over the same events on one thread: what parsing alone (a sonic-rs
//! DOM of each record) takes of processor time, as a share of what reading as we do and matching takes in the same round:
//! each record by itself, and one after the other as scans do, with what they remember. `--events N`, `--runs N` set the size.
//! `--count SET WAY` makes one pass for an instruction counter instead: it collects in the function `counted`. `--load [SET]`
//! says instead what loading takes; with one processor to run on, all of it is this thread's.
#![allow(missing_docs, clippy::expect_used)]

mod corpus;

use std::{hint::black_box, time::Instant};

use sentinel_detect::{Matcher, RuleIndex, RuleSet};
use sentinel_json::{Document, Make, Memory};

/// A way to go over the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Parse,
    /// Each record by itself, as functions do.
    Alone,
    /// One after the other with what is remembered, and with the hash by which copies are told, as scans do.
    Scan,
}

impl Way {
    const ALL: [(Self, &'static str); 2] = [(Self::Alone, "alone"), (Self::Scan, "scan")];
}

fn pass(way: Way, rules: &RuleSet, texts: &[String]) -> usize {
    let mut hits: Vec<RuleIndex> = Vec::new();
    if way == Way::Parse {
        for text in texts {
            black_box(sonic_rs::from_str::<sonic_rs::Value>(text).expect("events are JSON"));
        }
        return 0;
    }
    let (mut total, mut memory, mut matcher) = (0, Memory::default(), Matcher::new(rules));
    let make = if way == Way::Scan { Make::Likeness } else { Make::Places };
    for text in texts {
        let read = Document::read(text.as_bytes(), Document::DEEPEST, memory, make, |_, _| false);
        let record = read.expect("events are JSON");
        if way == Way::Scan {
            matcher.matches(record.root(), &mut hits);
        } else {
            rules.matches(record.root(), &mut hits);
        }
        total += hits.len();
        memory = record.into_memory();
    }
    total
}

#[inline(never)]
fn counted(way: Way, rules: &RuleSet, texts: &[String]) -> usize {
    pass(way, rules, texts)
}

/// Seconds that this thread ran, which other processes' work on the machine does not lengthen. Elsewhere than on
/// Linux the time that passed.
fn clock(start: Instant) -> f64 {
    let ran = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = ran.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    nanos.map_or_else(|| start.elapsed().as_secs_f64(), |n| n / 1e9)
}

#[inline(never)]
fn counted_load(options: &sentinel_detect::LoadOptions) -> RuleSet {
    corpus::load(options)
}

/// Prints medians of what loading each set takes, in milliseconds of this thread and of time.
fn loading(begin: Instant, runs: usize, only: Option<&str>) {
    println!("{:<14}{:>7}{:>10}{:>10}", "rules", "count", "CPU ms", "ms");
    let all = corpus::options();
    let known = only.is_some_and(|only| all.iter().any(|(name, _)| *name == only));
    for (name, options) in all.into_iter().filter(|(name, _)| !known || Some(*name) == only) {
        let mut count = 0;
        let (mut spent, mut passed): (Vec<f64>, Vec<f64>) = (0..runs)
            .map(|_| {
                let (cpu, time) = (clock(begin), Instant::now());
                let set = black_box(counted_load(&options));
                let took = ((clock(begin) - cpu) * 1e3, time.elapsed().as_secs_f64() * 1e3);
                count = set.len();
                took
            })
            .unzip();
        spent.sort_by(f64::total_cmp);
        passed.sort_by(f64::total_cmp);
        println!("{name:<14}{count:>7}{:>10.1}{:>10.1}", spent[runs / 2], passed[runs / 2]);
    }
}

fn main() {
    let begin = Instant::now();
    let args: Vec<String> = std::env::args().collect();
    let option = |name: &str| args.iter().position(|a| a == name).and_then(|at| args.get(at + 1));
    let number = |name, default| option(name).map_or(default, |n| n.parse().expect("a number"));
    if args.iter().any(|a| a == "--load") {
        return loading(begin, number("--runs", 21), option("--load").map(String::as_str));
    }
    let sets = corpus::rule_sets();
    if let Some(set) = option("--count") {
        let way = args.last().expect("a way");
        let way = Way::ALL.iter().find(|(_, n)| n == way).map_or(Way::Parse, |(w, _)| *w);
        let texts = corpus::events(number("--events", 873));
        let set = sets.iter().find(|s| s.name == set).expect("a set");
        // What is made when it is first asked is no part of a record's cost.
        black_box(pass(way, &set.rules, &corpus::events(873)));
        println!("{} hits", counted(way, &set.rules, &texts));
        return;
    }
    let texts = corpus::events(number("--events", 100_000));
    let bytes: usize = texts.iter().map(String::len).sum();
    println!("{} events, {bytes} bytes", texts.len());
    println!("{:<14}{:>7}{:>14}{:>10}{:>10}", "rules", "count", "way", "share", "hits");
    for set in &sets {
        for (way, name) in Way::ALL {
            let mut hits = 0;
            let mut shares: Vec<f64> = (0..number("--runs", 7))
                .map(|_| {
                    let start = clock(begin);
                    black_box(pass(Way::Parse, &set.rules, &texts));
                    let parsed = clock(begin);
                    hits = pass(way, &set.rules, &texts);
                    (parsed - start) / (clock(begin) - parsed)
                })
                .collect();
            shares.sort_by(f64::total_cmp);
            let share = shares[shares.len() / 2];
            println!("{:<14}{:>7}{name:>14}{share:>10.3}{hits:>10}", set.name, set.rules.len());
        }
    }
}
