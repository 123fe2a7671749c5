//! Attributes of operators that tract reads past: it would load the graph and answer wrongly.
//!
//! The summary of a graph names operators only, so that this looks at the file itself, when a graph is compiled.

use std::collections::BTreeSet;

use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto};

/// One sentence for each kind of node of `model`, subgraphs included, that tract would run wrongly.
pub(super) fn overlooked(model: &ModelProto) -> Vec<String> {
    let mut found = BTreeSet::new();
    if let Some(graph) = &model.graph {
        walk(graph, &mut found);
    }
    found
        .into_iter()
        .map(|(operator, attribute)| {
            format!(
                "it overlooks {attribute} of the operator `{operator}` and would answer wrongly"
            )
        })
        .collect()
}

// Recursion is safe: prost refuses messages that are nested deeper than 100.
fn walk<'a>(graph: &'a GraphProto, found: &mut BTreeSet<(&'a str, String)>) {
    for node in &graph.node {
        found.extend(of_node(node).map(|attribute| (node.op_type.as_str(), attribute)));
        for attribute in &node.attribute {
            for graph in attribute.g.iter().chain(&attribute.graphs) {
                walk(graph, found);
            }
        }
    }
}

fn of_node(node: &NodeProto) -> Option<String> {
    match node.op_type.as_str() {
        "RNN" => of_recurrent(node, &["tanh"]),
        "GRU" => of_recurrent(node, &["sigmoid", "tanh"]),
        "LSTM" => of_recurrent(node, &["sigmoid", "tanh", "tanh"]),
        "Attention" => of_attention(node),
        "Celu" | "Swish" => named(node, "alpha").and_then(|alpha| unless(alpha.f == 1.0, "alpha")),
        "SpaceToDepth" => named(node, "mode").and_then(|mode| unless(mode.s == b"DCR", "mode")),
        "BatchNormalization" => non_zero(node, "training_mode"),
        // It makes the product of all, and does not always add up.
        "Einsum" => has_input(node, 2).then(|| "more than two inputs".to_owned()),
        "Dropout" => has_input(node, 2).then(|| "`training_mode`".to_owned()),
        // A missing number is lost.
        "ScatterElements" | "ScatterND" => named(node, "reduction")
            .filter(|reduction| matches!(&*reduction.s, b"max" | b"min"))
            .map(|_| "`reduction` = `max` or `min`".to_owned()),
        // Up to opset 6 it placed the smaller side; since then the last dimensions are matched.
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "And" | "Or" | "Xor" | "Equal" | "Greater"
        | "Less" => named(node, "axis").and_then(|_| unless(false, "axis")),
        _ => None,
    }
}

fn of_recurrent(node: &NodeProto, activations: &[&str]) -> Option<String> {
    let direction = named(node, "direction").filter(|direction| direction.s == b"reverse");
    let usual = |attribute: &&AttributeProto| {
        let mut expected = activations.iter().cycle();
        attribute.strings.iter().all(|name| {
            expected
                .next()
                .is_some_and(|usual| name.eq_ignore_ascii_case(usual.as_bytes()))
        })
    };
    let unusual = named(node, "activations").filter(|attribute| !usual(attribute));
    let clip = named(node, "clip").filter(|clip| clip.f != 0.0);
    direction
        .map(|_| "`direction` = `reverse`".to_owned())
        .or_else(|| unusual.and_then(|_| unless(false, "activations")))
        .or_else(|| clip.and_then(|_| unless(false, "clip")))
        .or_else(|| non_zero(node, "input_forget"))
}

fn of_attention(node: &NodeProto) -> Option<String> {
    let window = ["left_window_size", "right_window_size"]
        .into_iter()
        .find(|name| named(node, name).is_some_and(|size| size.i >= 0));
    if let Some(name) = window {
        return unless(false, name);
    }
    // Of a row that it hides whole ONNX makes 0.
    if has_input(node, 3) {
        return unless(false, "attn_mask");
    }
    // The mask is placed as if there were no past.
    let has_past = has_input(node, 4);
    let is_causal = named(node, "is_causal").is_some_and(|causal| causal.i != 0);
    (has_past && is_causal).then(|| "`is_causal` beside `past_key`".to_owned())
}

fn has_input(node: &NodeProto, index: usize) -> bool {
    node.input.get(index).is_some_and(|name| !name.is_empty())
}

fn non_zero(node: &NodeProto, name: &str) -> Option<String> {
    named(node, name).and_then(|attribute| unless(attribute.i == 0, name))
}

fn unless(harmless: bool, name: &str) -> Option<String> {
    (!harmless).then(|| format!("`{name}`"))
}

fn named<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute
        .iter()
        .find(|attribute| attribute.name == name)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    enum Set {
        Int(i64),
        Float(f32),
        Text(&'static str),
        Texts(&'static [&'static str]),
    }
    use Set::{Float, Int, Text, Texts};

    fn node(operator: &str, set: &[(&str, Set)]) -> NodeProto {
        let attribute = |(name, value): &(&str, Set)| {
            let mut attribute = AttributeProto {
                name: (*name).to_owned(),
                ..AttributeProto::default()
            };
            match value {
                Int(value) => attribute.i = *value,
                Float(value) => attribute.f = *value,
                Text(value) => attribute.s = value.as_bytes().to_vec(),
                Texts(values) => {
                    let values = values.iter().map(|value| value.as_bytes().to_vec());
                    attribute.strings = values.collect();
                }
            }
            attribute
        };
        NodeProto {
            op_type: operator.to_owned(),
            attribute: set.iter().map(attribute).collect(),
            ..NodeProto::default()
        }
    }

    fn graph(nodes: Vec<NodeProto>) -> GraphProto {
        GraphProto {
            node: nodes,
            ..GraphProto::default()
        }
    }

    fn reasons(nodes: Vec<NodeProto>) -> Vec<String> {
        overlooked(&ModelProto {
            graph: Some(graph(nodes)),
            ..ModelProto::default()
        })
    }

    #[rstest]
    #[case("LSTM", ("direction", Text("reverse")), "`direction` = `reverse`")]
    #[case("GRU", ("activations", Texts(&["Sigmoid", "Relu"])), "`activations`")]
    #[case("LSTM", ("activations", Texts(&["Sigmoid", "Tanh", "Tanh", "Sigmoid", "Tanh", "Relu"])), "`activations`")]
    #[case("RNN", ("clip", Float(1.0)), "`clip`")]
    #[case("LSTM", ("input_forget", Int(1)), "`input_forget`")]
    #[case("Attention", ("left_window_size", Int(0)), "`left_window_size`")]
    #[case("Attention", ("right_window_size", Int(4)), "`right_window_size`")]
    #[case("Celu", ("alpha", Float(2.0)), "`alpha`")]
    #[case("Swish", ("alpha", Float(0.5)), "`alpha`")]
    #[case("SpaceToDepth", ("mode", Text("CRD")), "`mode`")]
    #[case("BatchNormalization", ("training_mode", Int(1)), "`training_mode`")]
    #[case("Add", ("axis", Int(1)), "`axis`")]
    fn what_tract_overlooks_is_named(
        #[case] operator: &str,
        #[case] set: (&str, Set),
        #[case] attribute: &str,
    ) {
        let expected = format!(
            "it overlooks {attribute} of the operator `{operator}` and would answer wrongly"
        );
        assert_eq!(reasons(vec![node(operator, &[set])]), [expected]);
    }

    #[rstest]
    #[case("LSTM", ("direction", Text("bidirectional")))]
    #[case("LSTM", ("activations", Texts(&["Sigmoid", "Tanh", "tanh", "Sigmoid", "Tanh", "Tanh"])))]
    #[case("LSTM", ("clip", Float(0.0)))]
    #[case("RNN", ("activations", Texts(&["Tanh"])))]
    #[case("GRU", ("hidden_size", Int(3)))]
    #[case("Attention", ("is_causal", Int(1)))]
    #[case("Attention", ("left_window_size", Int(-1)))]
    #[case("Celu", ("alpha", Float(1.0)))]
    #[case("Elu", ("alpha", Float(2.0)))]
    #[case("SpaceToDepth", ("mode", Text("DCR")))]
    #[case("BatchNormalization", ("training_mode", Int(0)))]
    #[case("Concat", ("axis", Int(1)))]
    fn what_tract_heeds_or_is_the_default_is_taken(
        #[case] operator: &str,
        #[case] set: (&str, Set),
    ) {
        assert_eq!(reasons(vec![node(operator, &[set])]), [] as [&str; 0]);
    }

    #[test]
    fn a_past_speaks_against_causal_attention_only() {
        let inputs = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let mut attention = node("Attention", &[("is_causal", Int(1))]);
        attention.input = inputs(&["q", "k", "v", "", "past_key", "past_value"]);
        assert_eq!(reasons(vec![attention.clone()]).len(), 1);
        attention.input = inputs(&["q", "k", "v", "", "", ""]);
        assert_eq!(reasons(vec![attention.clone()]), [] as [&str; 0]);
        attention.input = inputs(&["q", "k", "v", "mask"]);
        assert_eq!(reasons(vec![attention]).len(), 1);
    }

    #[test]
    fn subgraphs_are_looked_at_and_each_kind_is_named_once() {
        let celu = || node("Celu", &[("alpha", Float(2.0))]);
        let mut branch = node("If", &[]);
        branch.attribute.push(AttributeProto {
            name: "then_branch".to_owned(),
            g: Some(graph(vec![celu()])),
            ..AttributeProto::default()
        });
        assert_eq!(reasons(vec![branch.clone()]).len(), 1);
        assert_eq!(reasons(vec![branch, celu(), celu()]).len(), 1);
    }
}
