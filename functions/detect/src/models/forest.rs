//! An isolation forest: how few random cuts it takes to set a row apart from the others.
//!
//! Source: Liu, Ting, Zhou, "Isolation Forest", 2008; cuts are drawn as scikit-learn draws them (a feature that
//! still varies in the node, a threshold even between its least and greatest value).

use rand::{Rng, SeedableRng, seq::index};
use rand_chacha::ChaCha8Rng;

/// How a forest is grown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForestOptions {
    /// Number of trees.
    pub trees: usize,
    /// Rows that each tree sees.
    pub sample: usize,
    /// The same seed grows the same forest from the same rows.
    pub seed: u64,
}

impl Default for ForestOptions {
    fn default() -> Self {
        Self { trees: 100, sample: 256, seed: 1 }
    }
}

/// A node of a tree.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Node {
    /// Rows with `row[feature] <= threshold` go to `left`, others to `right`; children stand after their parent.
    Branch {
        /// Column.
        feature: usize,
        /// Greatest value that goes left.
        threshold: f32,
        /// Position of the left child.
        left: usize,
        /// Position of the right child.
        right: usize,
    },
    /// The end of a path.
    Leaf {
        /// Cuts to here, and the mean number still to go for the rows that ended here together.
        depth: f32,
    },
}

/// A grown forest.
#[derive(Debug, Clone, PartialEq)]
pub struct Forest {
    /// Each tree's nodes, the root first.
    pub trees: Vec<Vec<Node>>,
    /// Columns that rows have.
    pub width: usize,
    /// Rows each tree saw.
    pub sample: usize,
}

/// Mean number of cuts that set one of `n` rows apart: the mean depth of an unsuccessful search in a binary
/// search tree.
#[allow(clippy::cast_precision_loss, reason = "row counts")]
pub fn mean_depth(n: usize) -> f64 {
    const EULER: f64 = 0.577_215_664_901_532_9;
    match n {
        0 | 1 => 0.0,
        2 => 1.0,
        _ => 2.0 * (((n - 1) as f64).ln() + EULER) - 2.0 * ((n - 1) as f64) / (n as f64),
    }
}

impl Forest {
    /// Grows a forest. Rows must all have the same width and hold finite numbers; `None` when there are
    /// fewer than two rows, when they differ in width, or when a value is not finite.
    pub fn fit<R: AsRef<[f32]>>(rows: &[R], options: ForestOptions) -> Option<Self> {
        let width = rows.first()?.as_ref().len();
        let sound = |r: &R| r.as_ref().len() == width && r.as_ref().iter().all(|v| v.is_finite());
        if rows.len() < 2 || width == 0 || !rows.iter().all(sound) {
            return None;
        }
        let sample = options.sample.clamp(2, rows.len());
        let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
        let depth = sample.next_power_of_two().trailing_zeros();
        let trees = (0..options.trees.max(1))
            .map(|_| {
                let mut chosen = index::sample(&mut rng, rows.len(), sample).into_vec();
                let mut nodes = Vec::new();
                grow(rows, &mut chosen, 0, depth, &mut rng, &mut nodes);
                nodes
            })
            .collect();
        Some(Self { trees, width, sample })
    }

    /// The anomaly score of a row, 0 to 1: 0.5 is average, above is easier to set apart.
    #[allow(clippy::cast_precision_loss, reason = "tree counts")]
    pub fn score(&self, row: &[f32]) -> f64 {
        let depth: f32 = self.trees.iter().map(|t| depth_of(t, row)).sum();
        let mean = f64::from(depth) / self.trees.len() as f64;
        (-mean / mean_depth(self.sample)).exp2()
    }
}

fn depth_of(nodes: &[Node], row: &[f32]) -> f32 {
    let mut at = 0;
    loop {
        match nodes[at] {
            Node::Leaf { depth } => return depth,
            Node::Branch { feature, threshold, left, right } => {
                at = if row[feature] <= threshold { left } else { right };
            }
        }
    }
}

fn grow<R: AsRef<[f32]>>(
    rows: &[R],
    chosen: &mut [usize],
    depth: u32,
    limit: u32,
    rng: &mut ChaCha8Rng,
    nodes: &mut Vec<Node>,
) -> usize {
    let position = nodes.len();
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "depths below a few hundred")]
    let leaf = Node::Leaf { depth: (f64::from(depth) + mean_depth(chosen.len())) as f32 };
    nodes.push(leaf);
    if depth >= limit || chosen.len() <= 1 {
        return position;
    }
    let Some((feature, low, high)) = varying_feature(rows, chosen, rng) else { return position };
    // Even between the ends, the greatest value left out, so that both sides get rows.
    let cut = low + (high - low) * rng.random_range(0.0..1.0_f32);
    let threshold = if cut < high { cut.max(low) } else { low };
    let middle = partition(chosen, |row| rows[row].as_ref()[feature] <= threshold);
    let (left_rows, right_rows) = chosen.split_at_mut(middle);
    let left = grow(rows, left_rows, depth + 1, limit, rng, nodes);
    let right = grow(rows, right_rows, depth + 1, limit, rng, nodes);
    nodes[position] = Node::Branch { feature, threshold, left, right };
    position
}

/// A feature that still varies among the chosen rows, with its ends; each such feature is as likely.
fn varying_feature<R: AsRef<[f32]>>(rows: &[R], chosen: &[usize], rng: &mut ChaCha8Rng) -> Option<(usize, f32, f32)> {
    let width = rows[chosen[0]].as_ref().len();
    let order = index::sample(rng, width, width);
    order.into_iter().find_map(|feature| {
        let values = chosen.iter().map(|row| rows[*row].as_ref()[feature]);
        let (low, high) = values.fold((f32::MAX, f32::MIN), |(low, high), v| (low.min(v), high.max(v)));
        (low < high).then_some((feature, low, high))
    })
}

/// Moves the rows that belong left to the front; how many they are.
fn partition(chosen: &mut [usize], left: impl Fn(usize) -> bool) -> usize {
    let mut middle = 0;
    for i in 0..chosen.len() {
        if left(chosen[i]) {
            chosen.swap(i, middle);
            middle += 1;
        }
    }
    middle
}
