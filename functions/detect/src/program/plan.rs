//! What is left of rules' conditions once a record's names and shape are known.
//!
//! In: the conditions of rules that can match such records. Out: which of them hold for one. What `eventName`,
//! `eventSource`, fields that no record of the shape has, and records' sorts by fields of which rules tell few things
//! apart decide is decided when the plan is made; parts that are equal by then are one, and the first 64 of them are judged
//! once per record.

use std::cell::Cell;

use sentinel_model::fast_hash::FastMap;

use super::graph::{Graph, Id, Kind, at_least, number};
use crate::fields::{By, Lists, Lookup, Wanted};

/// What is left to ask of records with one shape, one pair of `eventSource` and `eventName`, and equal sorts.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Rules that can match, in order, each with the node that decides; `None` where nothing is left to ask.
    rules: Vec<(u32, Option<u32>)>,
    nodes: Vec<Node>,
    /// The parts of nodes that have several, one after the other.
    parts: Vec<u32>,
}

/// What a node says of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Node {
    /// What the graph's node of this kind says, which has no parts.
    Leaf(Kind),
    Not(u32),
    /// All of so many parts from there on.
    All(u32, u32),
    /// Any of so many parts from there on.
    Any(u32, u32),
    /// At least the first number of so many parts from there on.
    AtLeast(u32, u32, u32),
}

/// Verdicts on one record, a bit for each of the first nodes.
#[derive(Debug, Default)]
struct Verdicts {
    known: Cell<u64>,
    yes: Cell<u64>,
}

impl Plan {
    /// The plan of records that have shape and names in common with this one, and their sorts by some fields.
    /// `candidates` are rules that can match, each with its condition, in order.
    pub(crate) fn new(graph: &Graph, record: &Lookup<'_>, candidates: &[(u32, Id)], lists: &Lists, by: By) -> Self {
        let (made, known) = (FastMap::default(), FastMap::default());
        let mut maker = Maker { graph, record, lists, by, plan: Self::default(), made, known };
        for (rule, condition) in candidates {
            match maker.left(*condition) {
                Left::Is(false) => {}
                Left::Is(true) => maker.plan.rules.push((*rule, None)),
                Left::Node(node) => maker.plan.rules.push((*rule, Some(node))),
            }
        }
        maker.plan
    }

    /// Calls `hit` with each rule that matches a record, in order.
    pub(crate) fn ask(&self, graph: &Graph, record: &Lookup<'_>, mut hit: impl FnMut(u32)) {
        let asked = Asked { plan: self, graph, record, verdicts: Verdicts::default() };
        for (rule, node) in &self.rules {
            if node.is_none_or(|node| asked.holds(node)) {
                hit(*rule);
            }
        }
    }

    /// What is left to be asked of fields of which rules tell few things apart.
    pub(crate) fn few(&self, record: &Lookup<'_>) -> Wanted {
        let mut wanted = Wanted::default();
        for node in &self.nodes {
            match node {
                Node::Leaf(Kind::Test(test)) => record.note(*test, &mut wanted),
                Node::Leaf(Kind::Exists(field, _)) => wanted.field(*field as usize),
                _ => {}
            }
        }
        wanted
    }

    fn range(&self, from: u32, count: u32) -> &[u32] {
        &self.parts[from as usize..][..count as usize]
    }
}

/// A plan that is asked about one record.
struct Asked<'a, 'r> {
    plan: &'a Plan,
    graph: &'a Graph,
    record: &'a Lookup<'r>,
    verdicts: Verdicts,
}

impl Asked<'_, '_> {
    fn holds(&self, node: u32) -> bool {
        let Some(bit) = 1_u64.checked_shl(node) else { return self.judge(node) };
        let Verdicts { known, yes } = &self.verdicts;
        if known.get() & bit != 0 {
            return yes.get() & bit != 0;
        }
        let verdict = self.judge(node);
        known.set(known.get() | bit);
        if verdict {
            yes.set(yes.get() | bit);
        }
        verdict
    }

    fn judge(&self, node: u32) -> bool {
        match self.plan.nodes[node as usize] {
            Node::Leaf(kind) => self.graph.judge(kind, self.record),
            Node::Not(inner) => !self.holds(inner),
            Node::All(from, count) => self.plan.range(from, count).iter().all(|part| self.holds(*part)),
            Node::Any(from, count) => self.plan.range(from, count).iter().any(|part| self.holds(*part)),
            Node::AtLeast(least, from, count) => at_least(least, self.plan.range(from, count), |part| self.holds(part)),
        }
    }
}

/// What is left of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Is(bool),
    Node(u32),
}

/// Makes a plan.
struct Maker<'a, 'r> {
    graph: &'a Graph,
    record: &'a Lookup<'r>,
    lists: &'a Lists,
    by: By,
    plan: Plan,
    /// What is left of the graph's nodes.
    made: FastMap<Id, Left>,
    /// Nodes by what they say.
    known: FastMap<(Node, Box<[u32]>), u32>,
}

impl Maker<'_, '_> {
    fn left(&mut self, id: Id) -> Left {
        if let Some(made) = self.made.get(&id) {
            return *made;
        }
        let graph = self.graph;
        let left = match graph.kind(id) {
            Kind::Fixed(verdict) => Left::Is(verdict),
            kind @ Kind::Test(test) => {
                self.record.decided(test, self.lists, self.by).map_or_else(|| self.leaf(kind), Left::Is)
            }
            kind @ Kind::Exists(field, there) => {
                match self.record.is_there_for_all(field as usize, self.lists, self.by) {
                    Some(is) => Left::Is(is == there),
                    None => self.leaf(kind),
                }
            }
            kind @ (Kind::Keyword(_) | Kind::Members(_)) => self.leaf(kind),
            Kind::Not(inner) => match self.left(inner) {
                Left::Is(verdict) => Left::Is(!verdict),
                Left::Node(inner) => self.node(Node::Not(inner), &[]),
            },
            Kind::All(from, count) => self.joined(graph.range(from, count), true),
            Kind::Any(from, count) => self.joined(graph.range(from, count), false),
            Kind::AtLeast(least, from, count) => self.at_least(least, graph.range(from, count)),
        };
        self.made.insert(id, left);
        left
    }

    fn leaf(&mut self, kind: Kind) -> Left {
        self.node(Node::Leaf(kind), &[])
    }

    /// All of these, or any of them, in their order.
    fn joined(&mut self, parts: &[Id], all: bool) -> Left {
        let mut open = Vec::with_capacity(parts.len());
        for part in parts {
            match self.left(*part) {
                Left::Is(verdict) if verdict == all => {}
                Left::Is(verdict) => return Left::Is(verdict),
                Left::Node(node) if open.contains(&node) => {}
                Left::Node(node) => open.push(node),
            }
        }
        self.several(&open, all)
    }

    fn several(&mut self, open: &[u32], all: bool) -> Left {
        match open {
            [] => Left::Is(all),
            [only] => Left::Node(*only),
            _ if all => self.node(Node::All(0, number(open.len())), open),
            _ => self.node(Node::Any(0, number(open.len())), open),
        }
    }

    fn at_least(&mut self, least: u32, parts: &[Id]) -> Left {
        let (mut missing, mut open) = (least, Vec::with_capacity(parts.len()));
        for part in parts {
            match self.left(*part) {
                Left::Is(true) => missing = missing.saturating_sub(1),
                Left::Is(false) => {}
                Left::Node(node) => open.push(node),
            }
        }
        match missing {
            0 => Left::Is(true),
            _ if missing as usize > open.len() => Left::Is(false),
            _ => self.node(Node::AtLeast(missing, 0, number(open.len())), &open),
        }
    }

    /// The node that says this of its parts: one for all that say the same.
    fn node(&mut self, says: Node, parts: &[u32]) -> Left {
        if let Some(known) = self.known.get(&(says, parts.into())) {
            return Left::Node(*known);
        }
        let from = number(self.plan.parts.len());
        let node = match says {
            Node::All(_, count) => Node::All(from, count),
            Node::Any(_, count) => Node::Any(from, count),
            Node::AtLeast(least, _, count) => Node::AtLeast(least, from, count),
            Node::Leaf(_) | Node::Not(_) => says,
        };
        let id = number(self.plan.nodes.len());
        self.plan.parts.extend_from_slice(parts);
        self.plan.nodes.push(node);
        self.known.insert((says, parts.into()), id);
        Left::Node(id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sentinel_json::Document;

    use super::*;
    use crate::{fields::Fields, program::graph::tests::tree};

    proptest! {
        /// A plan that one record made says of others with its names and shape what the conditions say.
        #[test]
        fn plans_say_what_conditions_say(
            trees in prop::collection::vec(tree(), 1..80),
            there in any::<[bool; 4]>(),
            others in any::<[bool; 2]>(),
            nowhere in any::<[bool; 2]>(),
        ) {
            let (mut graph, mut fields) = (Graph::default(), Fields::default());
            let names = ["eventName", "eventSource", "f2", "f3"];
            let numbers: Vec<_> = names.iter().map(|name| fields.number(name)).collect();
            let ids: Vec<_> = trees.iter().map(|t| t.enter(&mut graph, &mut fields, &numbers)).collect();
            // What is null is there for the shape, and not for rules.
            let [there, others] = [
                [there[0], there[1], there[2] && !nowhere[0], there[3] && !nowhere[1]],
                [there[0], there[1], others[0] && !nowhere[0], others[1] && !nowhere[1]],
            ];
            let record = |there: [bool; 4]| {
                let value = |n: usize| if there[n] { "1" } else { "null" };
                let members = (0..4).filter(|n| if *n >= 2 { !nowhere[*n - 2] } else { there[*n] });
                members.map(|n| format!(r#""{}":{}"#, names[n], value(n))).collect::<Vec<_>>().join(",")
            };
            let text = format!("{{{}}}", record(there));
            let document = Document::parse(&text).unwrap();
            let (scratch, layout) = (fields.scratch(), fields.layout());
            let candidates: Vec<_> = (0..).zip(ids).collect();
            let record_of_plan = fields.of_shape(document.root(), Some(&layout), &scratch);
            let plan = Plan::new(&graph, &record_of_plan, &candidates, &Lists::default(), By::default());
            for there in [there, others] {
                let text = format!("{{{}}}", record(there));
                let document = Document::parse(&text).unwrap();
                let lookup = fields.of_shape(document.root(), Some(&layout), &scratch);
                let mut hits = Vec::new();
                plan.ask(&graph, &lookup, |rule| hits.push(rule as usize));
                let wanted: Vec<_> = (0..trees.len()).filter(|n| trees[*n].holds(&there)).collect();
                prop_assert_eq!(hits, wanted);
            }
        }
    }
}
