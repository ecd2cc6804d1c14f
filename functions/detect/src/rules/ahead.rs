//! Our own pack, loaded while operators' rules are still on their way.
//!
//! In: nothing. Out: a set that begins with our own pack, with operators' rules behind it. Reading theirs waits for a
//! store, so a process that starts loads ours meanwhile, on a thread of its own.

use std::{
    sync::{Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use super::{LoadReport, RuleSet, load::Loader};

/// Our own pack on its way. It serves one set, the first; every other loads it anew.
#[derive(Debug)]
pub struct PackAhead(Mutex<Option<JoinHandle<Loader>>>);

impl PackAhead {
    /// Starts to load it.
    pub fn start() -> Self {
        Self(Mutex::new(thread::Builder::new().spawn(Loader::pack_entered).ok()))
    }

    /// Our own pack alone.
    pub fn alone(&self) -> RuleSet {
        self.with_texts(&[]).0
    }

    /// The same as [`RuleSet::from_texts`] with our own pack. Waits for it.
    pub fn with_texts(&self, texts: &[(&str, &str)]) -> (RuleSet, LoadReport) {
        let loading = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A thread that failed, or never was, is no reason to be without rules.
        match loading.and_then(|thread| thread.join().ok()) {
            Some(pack) => pack.texts_behind(texts),
            None => Loader::texts(true, texts),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sentinel_json::Document;

    const RULE: &str = "title: T\nid: t\nlogsource: {product: aws}\ndetection: {s: {eventName: X}, condition: s}\n";

    #[track_caller]
    fn same(texts: &[(&str, &str)]) {
        let told = |(set, report): (RuleSet, LoadReport)| {
            let metas: Vec<_> =
                set.iter().map(|(_, meta)| meta.clone()).chain(set.correlation_metas().cloned()).collect();
            let events = crate::check::pack_events();
            let mut hits = Vec::new();
            let matched: Vec<_> = events
                .iter()
                .map(|event| {
                    set.matches(Document::parse(event).unwrap().root(), &mut hits);
                    hits.clone()
                })
                .collect();
            assert!(matched.iter().filter(|hits| !hits.is_empty()).count() > 100);
            (format!("{report:?}"), format!("{metas:?}"), set.dispatch_stats(), matched)
        };
        assert_eq!(told(PackAhead::start().with_texts(texts)), told(RuleSet::from_texts(true, texts.iter().copied())));
    }

    #[test]
    fn a_set_is_the_same_whether_the_pack_was_loaded_ahead() {
        same(&[]);
        let first = super::super::pack_files()[0];
        let correlation = "title: C\nid: c\ncorrelation: {type: event_count, rules: [t], group-by: [awsRegion], timespan: 5m, condition: {gte: 3}}\n";
        same(&[
            ("own.yml", RULE),
            ("again.yml", first.1),
            ("correlation.yml", correlation),
            ("bad.yml", "title: 5\ndetection: 5\n"),
        ]);
    }

    #[test]
    fn what_changes_our_own_rules_is_heard() {
        same(&[("placeholders.yml", "trusted_accounts: ['111122223333']\n"), ("own.yml", RULE)]);
        let filter = "title: F\nlogsource: {product: aws, service: cloudtrail}\nfilter: {rules: any, selection: {awsRegion: eu-west-1}, condition: not selection}\n";
        same(&[("filter.yml", filter)]);
        same(&[("exceptions.yml", "- rule: t\n  reason: nothing\n")]);
    }

    #[test]
    fn it_serves_every_set() {
        let ahead = PackAhead::start();
        let first = ahead.alone().len();
        assert_eq!((first > 400, ahead.alone().len()), (true, first));
    }
}
