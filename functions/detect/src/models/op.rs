//! `TreeEnsembleRegressor` for tract, which has none of its own: as much of it as regression forests use.
//!
//! Taken: one target, sum of leaves, `BRANCH_LEQ` branches whose children stand after them (so that every walk
//! ends). Anything else is refused when the model is loaded, never computed wrongly.
//!
//! Source: ONNX operator documentation, `ai.onnx.ml.TreeEnsembleRegressor`, version 3.

#[allow(clippy::wildcard_imports, reason = "tract's internal prelude, which its macros expect whole")]
use tract_onnx::tract_hir::internal::*;
use tract_onnx::{
    model::ParsingContext,
    pb::{AttributeProto, NodeProto},
    tract_core::{as_op, op_as_typed_op, op_out_of_plan},
};

/// A model that tract can read, with this operator known.
pub fn onnx_with_trees() -> tract_onnx::Onnx {
    let mut onnx = tract_onnx::onnx();
    onnx.op_register.insert("TreeEnsembleRegressor", parse);
    onnx
}

/// A node: the feature compared, or `LEAF`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Flat {
    feature: u32,
    /// Threshold of a branch, weight of a leaf.
    value: f32,
    left: u32,
    right: u32,
}

const LEAF: u32 = u32::MAX;

impl Eq for Flat {}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Trees {
    nodes: Vec<Flat>,
    roots: Vec<u32>,
    width: usize,
}

fn attribute<'a>(node: &'a NodeProto, name: &str) -> TractResult<&'a AttributeProto> {
    node.attribute.iter().find(|a| a.name == name).with_context(|| format!("attribute {name} is missing"))
}

fn text_is(node: &NodeProto, name: &str, wanted: &str) -> bool {
    node.attribute.iter().find(|a| a.name == name).is_none_or(|a| a.s == wanted.as_bytes())
}

fn parse(_: &ParsingContext, node: &NodeProto) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    ensure!(text_is(node, "aggregate_function", "SUM"), "only sums are supported");
    ensure!(text_is(node, "post_transform", "NONE"), "no post transform is supported");
    ensure!(attribute(node, "n_targets")?.i == 1, "only one target is supported");
    ensure!(node.attribute.iter().all(|a| a.name != "base_values" || a.floats.is_empty()), "no base values, please");
    let ints = |name| attribute(node, name).map(|a| &a.ints);
    let (ids, trees, features) = (ints("nodes_nodeids")?, ints("nodes_treeids")?, ints("nodes_featureids")?);
    let (lefts, rights) = (ints("nodes_truenodeids")?, ints("nodes_falsenodeids")?);
    let values = &attribute(node, "nodes_values")?.floats;
    let modes = &attribute(node, "nodes_modes")?.strings;
    let count = ids.len();
    let same = [trees.len(), features.len(), lefts.len(), rights.len(), values.len(), modes.len()];
    ensure!(count > 0 && same.iter().all(|n| *n == count), "node attributes differ in length");

    let mut nodes = Vec::with_capacity(count);
    let mut roots: Vec<u32> = Vec::new();
    let mut width = 0;
    for i in 0..count {
        let here = u32::try_from(i)?;
        if i == 0 || trees[i] != trees[i - 1] {
            ensure!(trees[i] == i64::try_from(roots.len())?, "trees are not numbered in order");
            roots.push(here);
        }
        let root = *roots.last().context("no tree has begun")?;
        ensure!(ids[i] == i64::from(here - root), "nodes are not numbered in order");
        let child = |id: i64| -> TractResult<u32> {
            let at = u32::try_from(id)?.checked_add(root).context("a child is out of range")?;
            ensure!(
                at as usize > i && (at as usize) < count && trees[at as usize] == trees[i],
                "bad child of node {i}"
            );
            Ok(at)
        };
        match modes[i].as_slice() {
            b"LEAF" => nodes.push(Flat { feature: LEAF, value: 0.0, left: 0, right: 0 }),
            b"BRANCH_LEQ" => {
                let feature = u32::try_from(features[i])?;
                ensure!(feature < 65_536, "feature {feature} is out of range");
                width = width.max(feature as usize + 1);
                nodes.push(Flat { feature, value: values[i], left: child(lefts[i])?, right: child(rights[i])? });
            }
            other => bail!("node mode {} is not supported", String::from_utf8_lossy(other)),
        }
    }
    set_leaves(node, &mut nodes, &roots)?;
    Ok((expand(Trees { nodes, roots, width }), vec![]))
}

fn set_leaves(node: &NodeProto, nodes: &mut [Flat], roots: &[u32]) -> TractResult<()> {
    let ids = &attribute(node, "target_nodeids")?.ints;
    let trees = &attribute(node, "target_treeids")?.ints;
    let weights = &attribute(node, "target_weights")?.floats;
    ensure!(ids.len() == trees.len() && ids.len() == weights.len(), "leaf attributes differ in length");
    for ((id, tree), weight) in ids.iter().zip(trees).zip(weights) {
        let root = roots.get(usize::try_from(*tree)?).context("a leaf names no tree")?;
        let at = usize::try_from(*id)?.checked_add(*root as usize).context("a leaf is out of range")?;
        let leaf = nodes.get_mut(at).filter(|n| n.feature == LEAF).context("a leaf names no leaf")?;
        leaf.value += weight;
    }
    Ok(())
}

impl Expansion for Trees {
    fn name(&self) -> StaticName {
        "TreeEnsembleRegressor".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        s.equals(&inputs[0].rank, 2)?;
        s.equals(&outputs[0].datum_type, DatumType::F32)?;
        s.equals(&outputs[0].rank, 2)?;
        s.equals(&outputs[0].shape[0], &inputs[0].shape[0])?;
        s.equals(&outputs[0].shape[1], 1.to_dim())?;
        Ok(())
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, self.clone(), inputs)
    }
}

impl Op for Trees {
    fn name(&self) -> StaticName {
        "TreeEnsembleRegressor".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Trees {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let rows = inputs[0].to_plain_array_view::<f32>()?.into_dimensionality::<tract_ndarray::Ix2>()?;
        ensure!(rows.ncols() >= self.width, "rows have {} columns, the trees need {}", rows.ncols(), self.width);
        let sums: Vec<f32> =
            rows.outer_iter().map(|row| self.roots.iter().map(|r| self.walk(*r, &row)).sum()).collect();
        Ok(tvec!(tensor1(&sums).into_shape(&[sums.len(), 1])?.into_tvalue()))
    }
}

impl Trees {
    fn walk(&self, root: u32, row: &tract_ndarray::ArrayView1<f32>) -> f32 {
        let mut at = self.nodes[root as usize];
        while at.feature != LEAF {
            let next = if row[at.feature as usize] <= at.value { at.left } else { at.right };
            at = self.nodes[next as usize];
        }
        at.value
    }
}

impl TypedOp for Trees {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(&[inputs[0].shape[0].clone(), 1.to_dim()])))
    }
}
