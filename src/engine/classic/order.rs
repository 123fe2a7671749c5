//! The order of nodes: each after those whose values it reads.

use std::collections::{HashMap, HashSet};

use super::failure::Refusal;
use crate::model::onnx::{GraphProto, NodeProto};

/// The nodes that these names need, each after those that it reads.
///
/// # Errors
/// [`Refusal`] for a loop, and for a value that two nodes make.
pub(super) fn in_order(
    nodes: &[NodeProto],
    names: &[&str],
    is_known: impl Fn(&str) -> bool,
) -> Result<Vec<usize>, Refusal> {
    let mut makers: HashMap<&str, usize> = HashMap::new();
    for (index, node) in nodes.iter().enumerate() {
        for output in node.output.iter().filter(|name| !name.is_empty()) {
            if makers.insert(output, index).is_some() {
                return Err(Refusal::Graph(format!(
                    "two nodes make `{}`",
                    output.escape_debug()
                )));
            }
        }
    }
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        New,
        Open,
        Done,
    }
    let mut states = vec![State::New; nodes.len()];
    let mut order = Vec::new();
    let mut stack: Vec<(usize, bool)> = Vec::new();
    let first = names.iter().rev().filter_map(|name| makers.get(name));
    stack.extend(first.map(|index| (*index, false)));
    while let Some((index, is_ready)) = stack.pop() {
        if is_ready {
            states[index] = State::Done;
            order.push(index);
            continue;
        }
        match states[index] {
            State::Done => continue,
            State::Open => return Err(Refusal::Graph("the graph has a loop".to_owned())),
            State::New => states[index] = State::Open,
        }
        stack.push((index, true));
        let inner = nodes[index]
            .attribute
            .iter()
            .filter_map(|attribute| attribute.g.as_deref());
        let captured = inner.flat_map(|graph| captures(graph));
        let read = nodes[index]
            .input
            .iter()
            .map(String::as_str)
            .chain(captured);
        for name in read {
            match makers.get(name) {
                Some(maker) if states[*maker] == State::New => stack.push((*maker, false)),
                Some(maker) if states[*maker] == State::Open && !is_known(name) => {
                    return Err(Refusal::Graph("the graph has a loop".to_owned()));
                }
                _ => {}
            }
        }
    }
    Ok(order)
}

/// The names that a subgraph reads of the graphs around it.
pub(super) fn captures(graph: &GraphProto) -> Vec<&str> {
    let named = |name: &'_ Option<String>| name.clone().unwrap_or_default();
    let own: HashSet<String> = { graph.node.iter() }
        .flat_map(|node| node.output.iter().cloned())
        .chain(graph.initializer.iter().map(|tensor| named(&tensor.name)))
        .chain(graph.input.iter().map(|input| named(&input.name)))
        .collect();
    let mut names = Vec::new();
    for node in &graph.node {
        names.extend(node.input.iter().map(String::as_str));
        let inner = node
            .attribute
            .iter()
            .filter_map(|attribute| attribute.g.as_deref());
        names.extend(inner.flat_map(captures));
    }
    names.extend(
        graph
            .output
            .iter()
            .filter_map(|output| output.name.as_deref()),
    );
    names.retain(|name| !own.contains(*name));
    names
}
