//! The conditions of all rules as one graph, in which equal parts are one.
//!
//! In: parts of conditions, from the smallest up. Out: their numbers, and their verdicts on a record. Rules leave out the
//! same things again and again (what services do for themselves, what tools do, what failed); such a part is one node
//! however many rules have it, and is judged once per record.

use sentinel_model::fast_hash::FastMap;

use super::Members;
use crate::fields::{CHEAP, Fields, Lookup};

/// The number of a node.
pub(crate) type Id = u32;

/// Nodes under their numbers.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    nodes: Vec<Node>,
    /// The parts of nodes that have several, one after the other.
    parts: Vec<Id>,
    members: Vec<Members>,
    known: FastMap<Key, Id>,
    /// What a verdict of each node costs, in about nanoseconds for a usual record.
    costs: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    kind: Kind,
    /// Where its verdict is remembered, plus one; 0 for one that is judged each time.
    memo: u32,
}

/// What a node says of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Always or never.
    Fixed(bool),
    /// Something about a field's value, by its number.
    Test(u32),
    /// Whether a field is there (null counts as absent).
    Exists(u32, bool),
    /// Something about any text of the record, by its number.
    Keyword(u32),
    /// Something about single members of an array, which rsigma judges.
    Members(u32),
    Not(Id),
    /// All of so many parts from there on.
    All(u32, u32),
    /// Any of so many parts from there on.
    Any(u32, u32),
    /// At least the first number of so many parts from there on.
    AtLeast(u32, u32, u32),
}

/// What makes nodes the same.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Key {
    Leaf(Kind),
    All(Box<[Id]>),
    Any(Box<[Id]>),
    AtLeast(u32, Box<[Id]>),
}

pub(super) fn number(number: usize) -> u32 {
    // Memory ends long before.
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Whether so many of some parts hold, of which no more are asked than that takes.
pub(super) fn at_least(least: u32, parts: &[u32], holds: impl Fn(u32) -> bool) -> bool {
    let (mut missing, mut left) = (least, number(parts.len()));
    for part in parts {
        if missing == 0 || missing > left {
            break;
        }
        missing -= u32::from(holds(*part));
        left -= 1;
    }
    missing == 0
}

impl Graph {
    /// A node without parts, or with one.
    pub(super) fn leaf(&mut self, kind: Kind, fields: &Fields) -> Id {
        if let Some(id) = self.known.get(&Key::Leaf(kind)) {
            return *id;
        }
        let cost = match kind {
            Kind::Fixed(_) => 0,
            Kind::Exists(..) => 1,
            Kind::Test(test) => fields.cost(test as usize),
            // What rules leave out is rare, so it seldom decides.
            Kind::Not(inner) => self.costs[inner as usize].saturating_add(10),
            _ => 1_000,
        };
        self.add(Key::Leaf(kind), kind, cost)
    }

    fn add(&mut self, key: Key, kind: Kind, cost: u32) -> Id {
        let id = number(self.nodes.len());
        self.nodes.push(Node { kind, memo: 0 });
        self.costs.push(cost);
        self.known.insert(key, id);
        id
    }

    pub(super) fn fixed(&mut self, verdict: bool, fields: &Fields) -> Id {
        self.leaf(Kind::Fixed(verdict), fields)
    }

    pub(super) fn members(&mut self, members: Members) -> Id {
        self.members.push(members);
        let kind = Kind::Members(number(self.members.len() - 1));
        self.add(Key::Leaf(kind), kind, 1_000)
    }

    pub(super) fn not(&mut self, inner: Id, fields: &Fields) -> Id {
        let kind = match self.nodes[inner as usize].kind {
            Kind::Fixed(verdict) => Kind::Fixed(!verdict),
            Kind::Not(inner) => return inner,
            Kind::Exists(field, there) => Kind::Exists(field, !there),
            _ => Kind::Not(inner),
        };
        self.leaf(kind, fields)
    }

    /// All of these, or any of them. The parts of a part of the same kind count as its own where all must hold; what
    /// costs little comes first. None of it changes a verdict: nodes have no effects.
    pub(super) fn joined(&mut self, parts: &[Id], all: bool, fields: &mut Fields) -> Id {
        let mut flat = Vec::with_capacity(parts.len());
        for part in parts {
            match self.nodes[*part as usize].kind {
                Kind::Fixed(verdict) if verdict == all => {}
                Kind::Fixed(verdict) => return self.fixed(verdict, fields),
                Kind::All(from, count) if all => flat.extend_from_slice(self.range(from, count)),
                _ => flat.push(*part),
            }
        }
        flat.sort_unstable_by_key(|id| (self.costs[*id as usize], *id));
        flat.dedup();
        match flat.as_slice() {
            [] => return self.fixed(all, fields),
            [only] => return *only,
            _ => {}
        }
        let key = if all { Key::All(flat.as_slice().into()) } else { Key::Any(flat.as_slice().into()) };
        if let Some(known) = self.known.get(&key) {
            let id = *known;
            self.share(id, fields);
            return id;
        }
        let cost = flat.iter().map(|id| self.costs[*id as usize]).fold(1, u32::saturating_add);
        let (from, count) = self.append(&flat);
        self.add(key, if all { Kind::All(from, count) } else { Kind::Any(from, count) }, cost)
    }

    /// At least so many of these.
    pub(super) fn at_least(&mut self, least: usize, parts: &[Id], fields: &mut Fields) -> Id {
        let least = number(least);
        let key = Key::AtLeast(least, parts.into());
        if let Some(known) = self.known.get(&key) {
            let id = *known;
            self.share(id, fields);
            return id;
        }
        let cost = parts.iter().map(|id| self.costs[*id as usize]).fold(1, u32::saturating_add);
        let (from, count) = self.append(parts);
        self.add(key, Kind::AtLeast(least, from, count), cost)
    }

    /// A node that is met again is worth remembering, unless it costs as little as that.
    fn share(&mut self, id: Id, fields: &mut Fields) {
        let node = &mut self.nodes[id as usize];
        if node.memo == 0 && self.costs[id as usize] > CHEAP {
            node.memo = fields.verdict().saturating_add(1);
        }
    }

    fn append(&mut self, parts: &[Id]) -> (u32, u32) {
        let from = number(self.parts.len());
        self.parts.extend_from_slice(parts);
        (from, number(parts.len()))
    }

    /// Parts of a node.
    pub(super) fn range(&self, from: u32, count: u32) -> &[Id] {
        &self.parts[from as usize..][..count as usize]
    }

    /// What a verdict costs, in about nanoseconds for a usual record, if all of it must be asked.
    pub(super) fn cost(&self, id: Id) -> u32 {
        self.costs[id as usize]
    }

    /// The verdict of a node on a record.
    pub(crate) fn holds(&self, id: Id, record: &Lookup<'_>) -> bool {
        let node = self.nodes[id as usize];
        match node.memo.checked_sub(1) {
            None => self.judge(node.kind, record),
            Some(verdict) => record.once(verdict, || self.judge(node.kind, record)),
        }
    }

    pub(super) fn judge(&self, kind: Kind, record: &Lookup<'_>) -> bool {
        match kind {
            Kind::Fixed(verdict) => verdict,
            Kind::Test(test) => record.test(test as usize),
            Kind::Exists(field, there) => record.is_there(field as usize) == there,
            Kind::Keyword(keyword) => record.keyword(keyword as usize),
            Kind::Members(members) => self.members_hold(members, record),
            Kind::Not(inner) => !self.holds(inner, record),
            Kind::All(from, count) => self.range(from, count).iter().all(|p| self.holds(*p, record)),
            Kind::Any(from, count) => self.range(from, count).iter().any(|p| self.holds(*p, record)),
            Kind::AtLeast(least, from, count) => {
                at_least(least, self.range(from, count), |part| self.holds(part, record))
            }
        }
    }

    /// What a node says.
    pub(super) fn kind(&self, id: Id) -> Kind {
        self.nodes[id as usize].kind
    }

    /// Whether a selection about single members of an array matches a record.
    pub(super) fn members_hold(&self, members: u32, record: &Lookup<'_>) -> bool {
        self.members[members as usize].holds(record)
    }

    /// How many nodes there are, and how many of them are remembered.
    #[cfg(test)]
    fn size(&self) -> (usize, usize) {
        (self.nodes.len(), self.nodes.iter().filter(|n| n.memo > 0).count())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use sentinel_json::Document;

    use super::*;

    #[test]
    fn equal_parts_are_one_node_and_remembered() {
        let (mut graph, mut fields) = (Graph::default(), Fields::default());
        let exists: Vec<_> = (0..20).map(|n| number(fields.number(&format!("f{n}")))).collect();
        let leaves: Vec<_> = exists.iter().map(|f| graph.leaf(Kind::Exists(*f, true), &fields)).collect();
        let any = graph.joined(&leaves, false, &mut fields);
        let (nodes, remembered) = graph.size();
        assert_eq!(remembered, 0);
        let reversed: Vec<_> = leaves.iter().rev().copied().collect();
        assert_eq!(graph.joined(&reversed, false, &mut fields), any);
        assert_eq!(graph.size(), (nodes, 1));
        assert_ne!(graph.joined(&leaves, true, &mut fields), any);
        let not = graph.not(any, &fields);
        assert_eq!(graph.not(not, &fields), any);
    }

    /// A condition over fields, as text for people and as a function.
    #[derive(Debug, Clone)]
    pub(in crate::program) enum Tree {
        Field(usize),
        Fixed(bool),
        Not(Box<Tree>),
        All(Vec<Tree>),
        Any(Vec<Tree>),
        AtLeast(usize, Vec<Tree>),
    }

    impl Tree {
        pub(in crate::program) fn holds(&self, there: &[bool]) -> bool {
            match self {
                Self::Field(n) => there[*n],
                Self::Fixed(verdict) => *verdict,
                Self::Not(inner) => !inner.holds(there),
                Self::All(parts) => parts.iter().all(|p| p.holds(there)),
                Self::Any(parts) => parts.iter().any(|p| p.holds(there)),
                Self::AtLeast(least, parts) => parts.iter().filter(|p| p.holds(there)).count() >= *least,
            }
        }

        pub(in crate::program) fn enter(&self, graph: &mut Graph, fields: &mut Fields, numbers: &[usize]) -> Id {
            let mut several =
                |parts: &[Self]| parts.iter().map(|p| p.enter(graph, fields, numbers)).collect::<Vec<_>>();
            match self {
                Self::Field(n) => graph.leaf(Kind::Exists(number(numbers[*n]), true), fields),
                Self::Fixed(verdict) => graph.fixed(*verdict, fields),
                Self::Not(inner) => {
                    let inner = inner.enter(graph, fields, numbers);
                    graph.not(inner, fields)
                }
                Self::All(parts) => {
                    let parts = several(parts);
                    graph.joined(&parts, true, fields)
                }
                Self::Any(parts) => {
                    let parts = several(parts);
                    graph.joined(&parts, false, fields)
                }
                Self::AtLeast(least, parts) => {
                    let parts = several(parts);
                    graph.at_least(*least, &parts, fields)
                }
            }
        }
    }

    pub(in crate::program) fn tree() -> impl Strategy<Value = Tree> {
        let leaf = prop_oneof![8 => (0..4_usize).prop_map(Tree::Field), 1 => any::<bool>().prop_map(Tree::Fixed)];
        leaf.prop_recursive(4, 32, 4, |inner| {
            let several = prop::collection::vec(inner.clone(), 0..4);
            prop_oneof![
                inner.prop_map(|t| Tree::Not(Box::new(t))),
                several.clone().prop_map(Tree::All),
                several.clone().prop_map(Tree::Any),
                (0..4_usize, several).prop_map(|(n, all)| Tree::AtLeast(n, all)),
            ]
        })
    }

    proptest! {
        #[test]
        fn verdicts_are_those_of_the_trees(trees in prop::collection::vec(tree(), 1..6), there in any::<[bool; 4]>()) {
            let (mut graph, mut fields) = (Graph::default(), Fields::default());
            let names = ["f0", "f1", "f2", "f3"];
            let numbers: Vec<_> = names.iter().map(|name| fields.number(name)).collect();
            let ids: Vec<_> = trees.iter().map(|t| t.enter(&mut graph, &mut fields, &numbers)).collect();
            let members: Vec<_> = (0..4).filter(|n| there[*n]).map(|n| format!(r#""{}":1"#, names[n])).collect();
            let text = format!("{{{}}}", members.join(","));
            let record = Document::parse(&text).unwrap();
            let scratch = fields.scratch();
            let lookup = fields.of(record.root(), &scratch);
            for (tree, id) in trees.iter().zip(ids) {
                prop_assert_eq!(graph.holds(id, &lookup), tree.holds(&there), "{:?}", tree);
            }
        }
    }
}
