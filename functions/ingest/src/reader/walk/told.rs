//! What is told as malformed: held back until it is known whether a text holds any JSON, because a text that
//! holds none is one mistake and not one a line.

use super::super::{Found, Position};

/// Broken lines remembered until then.
const MAX_PENDING: usize = 1_000;

#[derive(Default)]
pub(super) struct Told {
    json_seen: bool,
    pending: Vec<(Position, String)>,
    more: u64,
}

impl Told {
    pub(super) fn malformed(&mut self, position: Position, reason: String, sink: &mut dyn FnMut(Found<'_>)) {
        if self.json_seen {
            sink(Found::Malformed { position, reason });
        } else if self.pending.len() < MAX_PENDING {
            self.pending.push((position, reason));
        } else {
            self.more += 1;
        }
    }

    /// The text holds JSON: what was held back is told, one by one.
    pub(super) fn now_json(&mut self, sink: &mut dyn FnMut(Found<'_>)) {
        if std::mem::replace(&mut self.json_seen, true) {
            return;
        }
        let last = self.pending.last().map(|(position, _)| *position);
        for (position, reason) in self.pending.drain(..) {
            sink(Found::Malformed { position, reason });
        }
        if let Some(position) = last.filter(|_| self.more > 0) {
            let reason = format!("{} more broken lines follow", self.more);
            sink(Found::Malformed { position, reason });
        }
    }

    /// The text has ended: when it held no JSON, one entry tells so.
    pub(super) fn end(&mut self, last_line: u64, sink: &mut dyn FnMut(Found<'_>)) {
        let Some((position, reason)) = self.pending.drain(..).next() else { return };
        let many = last_line > position.line;
        let reason = if many { format!("no JSON in the whole text: {reason}") } else { reason };
        sink(Found::Malformed { position, reason });
    }
}
