//! A walk over every node of a model: operators, classic machine-learning nodes, tensors in other files.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::model::graph::proto::{
    AttributeProto, EXTERNAL, FunctionProto, GraphProto, NodeProto, SparseTensorProto, TensorProto,
};
use crate::model::graph::{GraphProblem, domain};
use crate::model::{ExternalData, MlNode, Origin};
use crate::tensor::DType;

/// The domain of the classic machine-learning operators.
const ML_DOMAIN: &str = "ai.onnx.ml";

/// What the walk found; the fields are those of [`super::Graph`].
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub(crate) operators: BTreeMap<(String, String), usize>,
    pub(crate) functions: BTreeSet<(String, String)>,
    pub(crate) external_data: Vec<ExternalData>,
    pub(crate) ml_nodes: Vec<MlNode>,
}

impl Survey {
    /// Walks the graph, its subgraphs and the model's own functions.
    pub(crate) fn new(
        graph: &GraphProto,
        functions: &[FunctionProto],
    ) -> Result<Self, GraphProblem> {
        let mut survey = Self::default();
        let name = |function: &FunctionProto| {
            (
                domain(&function.domain),
                function.name.clone().unwrap_or_default(),
            )
        };
        survey.functions = functions.iter().map(name).collect();
        survey.graph(graph)?;
        for function in functions {
            survey.nodes(&function.node)?;
        }
        Ok(survey)
    }

    // Recursion is safe: prost refuses messages that are nested deeper than 100.
    fn graph(&mut self, graph: &GraphProto) -> Result<(), GraphProblem> {
        for tensor in &graph.initializer {
            self.tensor(tensor)?;
        }
        for tensor in &graph.sparse_initializer {
            self.sparse_tensor(tensor)?;
        }
        self.nodes(&graph.node)
    }

    fn nodes(&mut self, nodes: &[NodeProto]) -> Result<(), GraphProblem> {
        for node in nodes {
            let key = (
                domain(&node.domain),
                node.op_type.clone().unwrap_or_default(),
            );
            if key.0 == ML_DOMAIN {
                self.ml_nodes.push(ml_node(&key.1, &node.attribute));
            }
            if !self.functions.contains(&key) {
                *self.operators.entry(key).or_default() += 1;
            }
            for attribute in &node.attribute {
                self.attribute(attribute)?;
            }
        }
        Ok(())
    }

    fn attribute(&mut self, attribute: &AttributeProto) -> Result<(), GraphProblem> {
        for tensor in attribute.t.as_deref().into_iter().chain(&attribute.tensors) {
            self.tensor(tensor)?;
        }
        let sparse = attribute.sparse_tensor.as_deref().into_iter();
        for tensor in sparse.chain(&attribute.sparse_tensors) {
            self.sparse_tensor(tensor)?;
        }
        for graph in attribute.g.as_deref().into_iter().chain(&attribute.graphs) {
            self.graph(graph)?;
        }
        Ok(())
    }

    fn sparse_tensor(&mut self, tensor: &SparseTensorProto) -> Result<(), GraphProblem> {
        for part in tensor.values.iter().chain(&tensor.indices) {
            self.tensor(part)?;
        }
        Ok(())
    }

    fn tensor(&mut self, tensor: &TensorProto) -> Result<(), GraphProblem> {
        if tensor.data_location == Some(EXTERNAL) {
            self.external_data.push(external_data(tensor)?);
        }
        Ok(())
    }
}

fn ml_node(op_type: &str, attributes: &[AttributeProto]) -> MlNode {
    let mut node = MlNode {
        op_type: op_type.to_owned(),
        class_labels: 0,
        has_text_labels: false,
        base_values: 0,
    };
    for attribute in attributes {
        match attribute.name.as_deref().unwrap_or_default() {
            "classlabels_int64s" | "classlabels_ints" | "classlabels_strings" => {
                let labels = attribute.ints.len().max(attribute.strings.len());
                node.class_labels = node.class_labels.max(labels);
                node.has_text_labels |= !attribute.strings.is_empty();
            }
            "base_values" => node.base_values = attribute.floats.len(),
            "base_values_as_tensor" => {
                let count = attribute.t.as_deref().and_then(element_count);
                node.base_values = count.and_then(|count| count.try_into().ok()).unwrap_or(0);
            }
            _ => {}
        }
    }
    node
}

/// Operators whose output is what they take in another type, shape or scale.
const LOOKED_THROUGH: [&str; 8] = [
    "Cast",
    "CastLike",
    "Flatten",
    "Identity",
    "Normalizer",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
];

/// The operator behind each output of the graph.
pub(crate) fn origins(graph: &GraphProto) -> BTreeMap<String, Origin> {
    let mut makers: HashMap<&str, (&NodeProto, usize)> = HashMap::new();
    for node in &graph.node {
        for (index, output) in node.output.iter().enumerate() {
            makers.insert(output, (node, index));
        }
    }
    let mut known: HashMap<&str, Option<Origin>> = HashMap::new();
    let names = graph.output.iter().filter_map(|out| out.name.as_deref());
    let found = names.filter_map(|name| {
        let origin = origin(name, &makers, &mut known)?;
        Some((name.to_owned(), origin))
    });
    found.collect()
}

/// The operator behind a value. What was passed on the way is remembered, so that each node is looked through once.
fn origin<'g>(
    output: &'g str,
    makers: &HashMap<&'g str, (&'g NodeProto, usize)>,
    known: &mut HashMap<&'g str, Option<Origin>>,
) -> Option<Origin> {
    let mut passed = Vec::new();
    let mut name = output;
    let found = loop {
        if let Some(found) = known.get(name) {
            break found.clone();
        }
        // A graph with a loop is no ONNX, but must not hold us up: it comes back to where it was, of which nothing is known.
        known.insert(name, None);
        passed.push(name);
        let Some((node, index)) = makers.get(name) else {
            break None;
        };
        let op_type = node.op_type.as_deref().unwrap_or_default();
        match node.input.first() {
            Some(input) if LOOKED_THROUGH.contains(&op_type) => name = input,
            _ => {
                break Some(Origin {
                    op_type: op_type.to_owned(),
                    index: *index,
                });
            }
        }
    };
    for name in passed {
        known.insert(name, found.clone());
    }
    found
}

/// The class labels of each output of the graph that ZipMap makes.
pub(crate) fn labels(graph: &GraphProto) -> BTreeMap<String, Vec<String>> {
    let outputs = graph.output.iter();
    let outputs: HashSet<&str> = outputs.filter_map(|out| out.name.as_deref()).collect();
    let is_zip_map = |node: &&NodeProto| node.op_type.as_deref() == Some("ZipMap");
    let zip_maps = graph.node.iter().filter(is_zip_map);
    let labelled = zip_maps.filter_map(|node| {
        // It has one.
        let output = node
            .output
            .first()
            .filter(|name| outputs.contains(name.as_str()))?;
        let named = node.attribute.iter().find(|attribute| {
            let name = attribute.name.as_deref().unwrap_or_default();
            matches!(name, "classlabels_int64s" | "classlabels_strings")
        });
        let numbers = named.into_iter().flat_map(|named| &named.ints);
        let texts = named.into_iter().flat_map(|named| &named.strings);
        let texts = texts.map(|text| String::from_utf8_lossy(text).into_owned());
        let labels = numbers.map(i64::to_string).chain(texts).collect();
        Some((output.clone(), labels))
    });
    labelled.collect()
}

fn external_data(tensor: &TensorProto) -> Result<ExternalData, GraphProblem> {
    let name = tensor.name.clone().unwrap_or_default();
    let refuse = |reason: String| GraphProblem::ExternalData {
        tensor: name.clone(),
        reason,
    };
    let entry = |key: &str| {
        let entries = tensor.external_data.iter();
        let mut entries = entries.filter(|entry| entry.key.as_deref() == Some(key));
        entries.next().and_then(|entry| entry.value.as_deref())
    };
    let number = |key: &str| {
        let parse = |text: &str| {
            text.parse::<u64>().map_err(|_| {
                let text = text.escape_debug();
                refuse(format!("has {key} `{text}`; expected a number of bytes"))
            })
        };
        entry(key).map(parse).transpose()
    };
    let location = entry("location").filter(|location| !location.is_empty());
    let Some(location) = location else {
        return Err(refuse("names no file (`location`)".to_owned()));
    };
    let location = location.to_owned();
    let offset = number("offset")?.unwrap_or(0);
    let length = number("length")?.or_else(|| byte_size(tensor));
    Ok(ExternalData {
        tensor: name.clone(),
        location,
        offset,
        length,
    })
}

fn element_count(tensor: &TensorProto) -> Option<u64> {
    tensor.dims.iter().try_fold(1u64, |count, &dim| {
        count.checked_mul(u64::try_from(dim).ok()?)
    })
}

/// The bytes that a tensor's contents take, where its shape and type tell.
fn byte_size(tensor: &TensorProto) -> Option<u64> {
    let width = DType::from_onnx(tensor.data_type?)?.width()?;
    element_count(tensor)?.checked_mul(width as u64)
}
