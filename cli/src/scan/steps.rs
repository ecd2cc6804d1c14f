//! The steps of lineage that a scan has seen, without their repeats: a workload that assumes a role a million times
//! must not fill the memory.

use sentinel_model::{LineageEdge, lineage};

/// Steps kept before repeats are looked for.
const FIRST: usize = 10_000;

/// Steps of lineage.
#[derive(Debug, Default)]
pub(super) struct Steps {
    edges: Vec<LineageEdge>,
    /// How many were left when repeats were last taken out.
    kept: usize,
}

impl Steps {
    /// Adds the steps that an event shows.
    pub(super) fn add(&mut self, edges: &[LineageEdge]) {
        self.edges.extend_from_slice(edges);
        if self.edges.len() >= (2 * self.kept).max(FIRST) {
            self.edges = lineage::condense(std::mem::take(&mut self.edges));
            self.kept = self.edges.len();
        }
    }

    /// The steps; some may be there again.
    pub(super) fn all(&self) -> &[LineageEdge] {
        &self.edges
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sentinel_model::{Identity, Timestamp, lineage::LineageKind};

    #[test]
    fn repeats_take_no_memory_and_nothing_else_is_lost() {
        let edge = |made: usize, n: i64| LineageEdge {
            maker: Identity::Principal("worker".into()),
            maker_key: None,
            made: Identity::Principal(format!("session{made}")),
            how: LineageKind::Assumed,
            time: Timestamp::from_second(n % 600).unwrap(),
            event_id: format!("e{n}"),
        };
        let all: Vec<LineageEdge> = (0..100_000).map(|n| edge(n % 3000, i64::try_from(n).unwrap())).collect();
        let mut steps = Steps::default();
        for edge in &all {
            steps.add(std::slice::from_ref(edge));
            assert!(steps.edges.len() < FIRST);
        }
        assert_eq!(lineage::condense(steps.all().iter().cloned()), lineage::condense(all));
    }
}
