//! Writes a forest as an ONNX model: one `TreeEnsembleRegressor` that sums leaf depths, then `Mul` and `Pow`
//! that turn the sum into the anomaly score.
//!
//! Input `features`, float [N, width]; output `score`, float [N, 1]. Operator sets ai.onnx 17 and ai.onnx.ml 3,
//! IR version 8. Source: ONNX operator documentation, `ai.onnx.ml.TreeEnsembleRegressor`.

use prost::Message;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto,
    attribute_proto::AttributeType,
    tensor_proto::DataType,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};

use super::forest::{Forest, Node, mean_depth};

/// Name of the model's input.
pub const INPUT: &str = "features";
/// Name of the model's output.
pub const OUTPUT: &str = "score";
/// Name of the batch dimension.
pub const BATCH: &str = "N";

/// The forest as the bytes of an ONNX file; the same forest gives the same bytes.
pub fn export(forest: &Forest, producer_version: &str) -> Vec<u8> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a small factor in f32")]
    let factor = (-1.0 / (forest.trees.len() as f64 * mean_depth(forest.sample))) as f32;
    let graph = GraphProto {
        name: "isolation-forest".into(),
        node: vec![
            ensemble(forest),
            node("scale", "Mul", &["depth", "factor"], "exponent"),
            node("power", "Pow", &["two", "exponent"], OUTPUT),
        ],
        initializer: vec![scalar("factor", factor), scalar("two", 2.0)],
        input: vec![value(INPUT, forest.width)],
        output: vec![value(OUTPUT, 1)],
        ..GraphProto::default()
    };
    let model = ModelProto {
        ir_version: 8,
        opset_import: vec![opset("", 17), opset("ai.onnx.ml", 3)],
        producer_name: "sentinel".into(),
        producer_version: producer_version.into(),
        graph: Some(graph),
        ..ModelProto::default()
    };
    model.encode_to_vec()
}

fn opset(domain: &str, version: i64) -> OperatorSetIdProto {
    OperatorSetIdProto { domain: domain.into(), version }
}

fn node(name: &str, op: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        name: name.into(),
        op_type: op.into(),
        input: inputs.iter().map(|i| (*i).to_owned()).collect(),
        output: vec![output.into()],
        ..NodeProto::default()
    }
}

fn scalar(name: &str, number: f32) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: vec![1],
        data_type: DataType::Float as i32,
        raw_data: number.to_le_bytes().to_vec(),
        ..TensorProto::default()
    }
}

fn value(name: &str, width: usize) -> ValueInfoProto {
    let dim = |value| Dimension { value: Some(value), ..Dimension::default() };
    let shape = TensorShapeProto {
        dim: vec![dim(dimension::Value::DimParam(BATCH.into())), dim(dimension::Value::DimValue(int(width)))],
    };
    let tensor = type_proto::Tensor { elem_type: DataType::Float as i32, shape: Some(shape) };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.into(), r#type: Some(kind), ..ValueInfoProto::default() }
}

/// Counts and positions are far below 2^63.
fn int(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn ensemble(forest: &Forest) -> NodeProto {
    let mut ids = Vec::new();
    let mut tree_ids = Vec::new();
    let mut features = Vec::new();
    let mut thresholds = Vec::new();
    let mut modes: Vec<&str> = Vec::new();
    let (mut lefts, mut rights) = (Vec::new(), Vec::new());
    let (mut leaf_ids, mut leaf_trees, mut leaf_depths) = (Vec::new(), Vec::new(), Vec::new());
    for (tree, nodes) in forest.trees.iter().enumerate() {
        for (id, node) in nodes.iter().enumerate() {
            ids.push(int(id));
            tree_ids.push(int(tree));
            let (mode, feature, threshold, left, right) = match *node {
                Node::Branch { feature, threshold, left, right } => ("BRANCH_LEQ", feature, threshold, left, right),
                Node::Leaf { depth } => {
                    leaf_ids.push(int(id));
                    leaf_trees.push(int(tree));
                    leaf_depths.push(depth);
                    ("LEAF", 0, 0.0, 0, 0)
                }
            };
            modes.push(mode);
            features.push(int(feature));
            thresholds.push(threshold);
            lefts.push(int(left));
            rights.push(int(right));
        }
    }
    let targets = vec![0; leaf_ids.len()];
    let mut ensemble = node("forest", "TreeEnsembleRegressor", &[INPUT], "depth");
    ensemble.domain = "ai.onnx.ml".into();
    ensemble.attribute = vec![
        string("aggregate_function", "SUM"),
        AttributeProto {
            name: "n_targets".into(),
            r#type: AttributeType::Int as i32,
            i: 1,
            ..AttributeProto::default()
        },
        ints("nodes_falsenodeids", rights),
        ints("nodes_featureids", features),
        strings("nodes_modes", &modes),
        ints("nodes_nodeids", ids),
        ints("nodes_treeids", tree_ids),
        ints("nodes_truenodeids", lefts),
        floats("nodes_values", thresholds),
        string("post_transform", "NONE"),
        ints("target_ids", targets),
        ints("target_nodeids", leaf_ids),
        ints("target_treeids", leaf_trees),
        floats("target_weights", leaf_depths),
    ];
    ensemble
}

fn ints(name: &str, ints: Vec<i64>) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Ints as i32, ints, ..AttributeProto::default() }
}

fn floats(name: &str, floats: Vec<f32>) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Floats as i32, floats, ..AttributeProto::default() }
}

fn string(name: &str, text: &str) -> AttributeProto {
    let s = text.as_bytes().to_vec();
    AttributeProto { name: name.into(), r#type: AttributeType::String as i32, s, ..AttributeProto::default() }
}

fn strings(name: &str, texts: &[&str]) -> AttributeProto {
    let strings = texts.iter().map(|t| t.as_bytes().to_vec()).collect();
    AttributeProto { name: name.into(), r#type: AttributeType::Strings as i32, strings, ..AttributeProto::default() }
}
