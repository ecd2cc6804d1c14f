//! Measures: how well scores tell attacks from ordinary activity, and how many false alerts there are.

use std::{collections::BTreeMap, sync::Arc};

use sentinel_behaviour::PrincipalState;
use sentinel_model::Event;

use super::{
    runner::Model,
    scorer::{Assessed, assess},
};

/// The scores that a stream of events in order of time gets, as the scorer gives them.
pub(crate) fn replay(model: &Model, events: &[Event]) -> Vec<Assessed> {
    let mut states: BTreeMap<Arc<str>, PrincipalState> = BTreeMap::new();
    let none = Assessed { score: 0.0, reasons: 0 };
    events
        .iter()
        .map(|event| {
            if !event.principal.identifies_someone() {
                return none;
            }
            let state = states.entry(event.principal.actor.as_str().into()).or_default();
            assess(model, state, event).unwrap()
        })
        .collect()
}

/// Area under the receiver operating characteristic: how often an attack's score is above an ordinary one's
/// (ties count half). By ranks, so it takes n log n.
#[allow(clippy::cast_precision_loss, reason = "counts")]
pub(crate) fn roc_auc(attack: &[f64], ordinary: &[f64]) -> f64 {
    let mut all: Vec<(f64, bool)> = attack.iter().map(|s| (*s, true)).collect();
    all.extend(ordinary.iter().map(|s| (*s, false)));
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut ranks = 0.0;
    let mut at = 0;
    while at < all.len() {
        let ties = all[at..].iter().take_while(|(s, _)| s.total_cmp(&all[at].0).is_eq()).count();
        let attacks = all[at..at + ties].iter().filter(|(_, is)| *is).count();
        // Tied scores share the mean of their ranks.
        ranks += f64::midpoint(at as f64 + 1.0, (at + ties) as f64) * attacks as f64;
        at += ties;
    }
    let (n, m) = (attack.len() as f64, ordinary.len() as f64);
    (ranks - n * (n + 1.0) / 2.0) / (n * m)
}
