//! What tract cannot run, or runs wrongly.

use super::convert::datum_type;
use super::load::onnx;
use crate::engine::Support;
use crate::model::{Graph, MlNode, OutputKind};
use crate::tensor::DType;

/// Operators of ONNX Runtime's own domain that tract implements. Others of that domain share a name with an ONNX
/// operator of another meaning, and tract looks at names only.
const MICROSOFT: [&str; 12] = [
    "BiasGelu",
    "FastGelu",
    "GatherBlockQuantized",
    "Gelu",
    "GroupQueryAttention",
    "MatMulNBits",
    "MultiHeadAttention",
    "QuickGelu",
    "RotaryEmbedding",
    "SimplifiedLayerNormalization",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
];

/// Everything that speaks against running `graph` on tract, from the graph's summary alone.
pub(super) fn judge(graph: &Graph) -> Support {
    let reasons: Vec<String> = [
        missing_operators(graph),
        local_functions(graph),
        binary_trees(&graph.ml_nodes),
        base_values(&graph.ml_nodes),
        text_labels(&graph.ml_nodes),
        feature_extractors(&graph.ml_nodes),
        element_types(graph),
        sequences(graph),
    ]
    .into_iter()
    .flatten()
    .collect();
    if reasons.is_empty() {
        Support::Yes
    } else {
        Support::No(reasons)
    }
}

/// The operators of `graph` that tract does not have.
pub(super) fn lacking(graph: &Graph) -> Vec<(String, String)> {
    let operators = graph.operators.keys();
    let lacking = operators.filter(|(domain, name)| !implements(domain, name));
    lacking.cloned().collect()
}

fn missing_operators(graph: &Graph) -> Option<String> {
    let lacking = lacking(graph).into_iter();
    let missing: Vec<String> = lacking
        .map(|(domain, name)| match domain.as_str() {
            "" => format!("`{name}`"),
            domain => format!("`{domain}.{name}`"),
        })
        .collect();
    match missing.as_slice() {
        [] => None,
        [one] => Some(format!("it lacks the operator {one}")),
        several => Some(format!("it lacks the operators {}", several.join(", "))),
    }
}

fn implements(domain: &str, name: &str) -> bool {
    let known_domain = match domain {
        "" | "ai.onnx.ml" => true,
        "com.microsoft" => MICROSOFT.contains(&name),
        _ => false,
    };
    known_domain && onnx().op_register.0.contains_key(name)
}

fn local_functions(graph: &Graph) -> Option<String> {
    if graph.functions.is_empty() {
        return None;
    }
    let names: Vec<String> = graph
        .functions
        .iter()
        .map(|(domain, name)| format!("`{domain}.{name}`"))
        .collect();
    Some(format!(
        "it cannot call functions that a model defines itself ({})",
        names.join(", ")
    ))
}

/// tract takes the winner before it completes the second probability, so that labels are wrong.
fn binary_trees(nodes: &[MlNode]) -> Option<String> {
    let binary = |node: &MlNode| node.op_type == "TreeEnsembleClassifier" && node.class_labels <= 2;
    nodes.iter().any(binary).then(|| {
        "it gives wrong labels for `ai.onnx.ml.TreeEnsembleClassifier` with two classes".to_owned()
    })
}

fn base_values(nodes: &[MlNode]) -> Option<String> {
    let two = |node: &MlNode| node.op_type == "TreeEnsembleClassifier" && node.base_values == 2;
    nodes.iter().any(two).then(|| {
        "it cannot read `ai.onnx.ml.TreeEnsembleClassifier` with two `base_values`".to_owned()
    })
}

/// tract replaces labels by numbers of their own type, and a text is none.
fn text_labels(nodes: &[MlNode]) -> Option<String> {
    let is_read = |node: &&MlNode| node.has_text_labels && implements("ai.onnx.ml", &node.op_type);
    let name = &nodes.iter().find(is_read)?.op_type;
    Some(format!(
        "it cannot read labels of `ai.onnx.ml.{name}` that are texts"
    ))
}

/// For one index, and for an input of one axis, tract drops an axis.
fn feature_extractors(nodes: &[MlNode]) -> Option<String> {
    let extracts = |node: &MlNode| node.op_type == "ArrayFeatureExtractor";
    nodes
        .iter()
        .any(extracts)
        .then(|| "it gives wrong shapes for `ai.onnx.ml.ArrayFeatureExtractor`".to_owned())
}

fn element_types(graph: &Graph) -> Option<String> {
    let unknown = |dtype: DType| datum_type(dtype).is_none();
    let inputs = graph.signature.inputs.iter();
    let inputs = inputs
        .filter(|input| unknown(input.dtype))
        .map(|input| &input.name);
    let outputs = graph.signature.outputs.iter();
    let outputs = outputs
        .filter(|output| matches!(output.kind, OutputKind::Tensor { dtype, .. } if unknown(dtype)))
        .map(|output| &output.name);
    let names: Vec<String> = inputs
        .chain(outputs)
        .map(|name| format!("`{name}`"))
        .collect();
    (!names.is_empty()).then(|| format!("it has no BF16, the datatype of {}", names.join(", ")))
}

fn sequences(graph: &Graph) -> Option<String> {
    let outputs = graph.signature.outputs.iter();
    let names: Vec<String> = outputs
        .filter(|output| !matches!(output.kind, OutputKind::Tensor { .. }))
        .map(|output| format!("`{}`", output.name))
        .collect();
    let zip_map = ("ai.onnx.ml".to_owned(), "ZipMap".to_owned());
    // With ZipMap in the graph the operator is named already, and that is the remedy to look for.
    if names.is_empty() || graph.operators.contains_key(&zip_map) {
        return None;
    }
    Some(format!(
        "it has no sequences, the type of output {}",
        names.join(", ")
    ))
}
