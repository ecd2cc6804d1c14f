//! Speed of matching: our pack's own test events, parsed once, parsed each time, and parsed alone.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use sentinel_detect::{RuleSet, check};
use sentinel_json::Document;

fn matching(c: &mut Criterion) {
    let rules = RuleSet::default_pack();
    let texts = check::pack_events();
    // Texts that do not parse would make parsing look fast.
    let records: Vec<Document> = texts.iter().filter_map(|t| Document::parse(t).ok()).collect();
    assert_eq!(records.len(), texts.len());
    let mut group = c.benchmark_group("pack");
    group.throughput(Throughput::Elements(texts.len() as u64));
    group.bench_function("match", |b| {
        let mut hits = Vec::new();
        b.iter(|| {
            records.iter().fold(0, |n, record| {
                rules.matches(record.root(), &mut hits);
                n + hits.len()
            })
        });
    });
    group.bench_function("parse and match", |b| {
        let mut hits = Vec::new();
        b.iter(|| {
            texts.iter().filter_map(|t| Document::parse(t).ok()).fold(0, |n, record| {
                rules.matches(record.root(), &mut hits);
                n + hits.len()
            })
        });
    });
    group.bench_function("parse", |b| {
        b.iter(|| texts.iter().filter_map(|t| Document::parse(t).ok()).count());
    });
    group.bench_function("load", |b| b.iter_batched(|| (), |()| RuleSet::default_pack(), BatchSize::SmallInput));
    group.finish();
}

criterion_group!(benches, matching);
criterion_main!(benches);
