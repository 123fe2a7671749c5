//! How large a graph is once its functions are in the place of their calls: functions that call each other make a small
//! file a graph that no memory holds.

use std::collections::HashMap;

use super::census::MOST_NODES;
use super::proto::{FunctionProto, GraphProto, NodeProto};
use super::{GraphProblem, domain};

/// Functions inside each other.
const DEEPEST: u32 = 64;

type Key<'g> = (String, &'g str, &'g str);

/// What is known of a function.
#[derive(Clone, Copy)]
enum Size {
    /// It is being counted: whoever asks calls itself.
    Open,
    /// So many nodes, with those of all that it calls.
    Nodes(u64),
}

struct Calls<'g> {
    functions: HashMap<Key<'g>, &'g FunctionProto>,
    sizes: HashMap<Key<'g>, Size>,
}

/// Refuses a graph whose calls stand for too many nodes, or never end.
///
/// # Errors
/// [`GraphProblem::TooMuch`], [`GraphProblem::Recursive`].
pub(super) fn check(graph: &GraphProto, functions: &[FunctionProto]) -> Result<(), GraphProblem> {
    if functions.is_empty() {
        return Ok(());
    }
    let keyed = functions.iter().map(|function| {
        let name = function.name.as_deref().unwrap_or_default();
        let overload = function.overload.as_deref().unwrap_or_default();
        ((domain(&function.domain), name, overload), function)
    });
    let mut calls = Calls {
        functions: keyed.collect(),
        sizes: HashMap::new(),
    };
    calls.nodes(&graph.node, 0).map(drop)
}

impl<'g> Calls<'g> {
    fn nodes(&mut self, nodes: &'g [NodeProto], depth: u32) -> Result<u64, GraphProblem> {
        let mut total = 0u64;
        for node in nodes {
            total = total.saturating_add(1);
            for attribute in &node.attribute {
                let one = attribute.g.as_deref().into_iter();
                for graph in one.chain(&attribute.graphs) {
                    total = total.saturating_add(self.nodes(&graph.node, depth)?);
                }
            }
            let name = node.op_type.as_deref().unwrap_or_default();
            let overload = node.overload.as_deref().unwrap_or_default();
            let key = (domain(&node.domain), name, overload);
            if let Some(function) = self.functions.get(&key).copied() {
                total = total.saturating_add(self.function(key, function, depth + 1)?);
            }
            if total > MOST_NODES {
                return Err(GraphProblem::TooMuch {
                    what: "nodes, those that its functions stand for included",
                    limit: MOST_NODES,
                });
            }
        }
        Ok(total)
    }

    fn function(
        &mut self,
        key: Key<'g>,
        function: &'g FunctionProto,
        depth: u32,
    ) -> Result<u64, GraphProblem> {
        match self.sizes.get(&key) {
            Some(Size::Nodes(nodes)) => return Ok(*nodes),
            Some(Size::Open) => return Err(GraphProblem::Recursive(key.1.to_owned())),
            None if depth > DEEPEST => {
                return Err(GraphProblem::TooMuch {
                    what: "functions inside each other",
                    limit: DEEPEST.into(),
                });
            }
            None => {}
        }
        self.sizes.insert(key.clone(), Size::Open);
        let nodes = self.nodes(&function.node, depth)?;
        self.sizes.insert(key, Size::Nodes(nodes));
        Ok(nodes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str) -> NodeProto {
        NodeProto {
            op_type: Some(name.to_owned()),
            domain: Some("own".to_owned()),
            ..NodeProto::default()
        }
    }

    fn function(name: &str, callees: &[&str]) -> FunctionProto {
        FunctionProto {
            name: Some(name.to_owned()),
            domain: Some("own".to_owned()),
            node: callees.iter().map(|callee| call(callee)).collect(),
            ..FunctionProto::default()
        }
    }

    fn outcome(functions: &[FunctionProto]) -> Result<(), GraphProblem> {
        let graph = GraphProto {
            node: vec![call("f0")],
            ..GraphProto::default()
        };
        check(&graph, functions)
    }

    /// Each calls the next one so often.
    fn chain(length: usize, times: usize) -> Vec<FunctionProto> {
        let name = |index: usize| format!("f{index}");
        let functions = (0..length).map(|index| {
            let next = name(index + 1);
            function(&name(index), &vec![next.as_str(); times])
        });
        functions.collect()
    }

    #[test]
    fn functions_may_call_each_other_within_reason() {
        assert!(outcome(&[]).is_ok());
        assert!(outcome(&chain(50, 1)).is_ok());
        assert!(outcome(&chain(10, 3)).is_ok());
        let deep = outcome(&chain(65, 1)).unwrap_err().to_string();
        assert!(deep.contains("64 functions inside each other"), "{deep}");
    }

    #[test]
    fn what_doubles_at_each_step_is_refused_at_once() {
        let doubled = outcome(&chain(40, 2)).unwrap_err().to_string();
        assert!(doubled.contains("more than 1000000 nodes"), "{doubled}");
        let wide = outcome(&chain(6, 1000)).unwrap_err().to_string();
        assert!(wide.contains("more than 1000000 nodes"), "{wide}");
    }

    #[test]
    fn what_calls_itself_is_refused() {
        let round = [function("f0", &["f1"]), function("f1", &["f0"])];
        let error = outcome(&round).unwrap_err().to_string();
        assert!(
            error.contains("a function `f0` that calls itself"),
            "{error}"
        );
    }
}
