//! What is wrong with the attributes of an ensemble of trees.

/// Why trees cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum TreeFault {
    #[error("has no {0}")]
    Nothing(&'static str),
    #[error("attribute `{name}` has {found} entries; expected {expected}, one for each node")]
    Length {
        name: &'static str,
        found: usize,
        expected: usize,
    },
    #[error("has {found} {what} of leaves; expected {expected}")]
    Votes {
        what: &'static str,
        found: usize,
        expected: usize,
    },
    #[error("tree {tree} has two nodes {node}")]
    Duplicate { tree: i64, node: i64 },
    #[error("a node has the mode `{0}`")]
    Mode(String),
    #[error("node {node} has the {which} child {child}, which does not exist")]
    Child {
        node: i64,
        which: &'static str,
        child: i64,
    },
    #[error("gives a weight to node {node} of tree {tree}, which does not exist")]
    Weight { tree: i64, node: i64 },
    #[error("a leaf votes for output {output}; there are {outputs}")]
    Output { output: i64, outputs: usize },
    #[error("leaf {0} does not exist")]
    Leaf(i64),
    #[error("root {0} does not exist")]
    Root(i64),
    #[error("a leaf has the weight NaN")]
    NanWeight,
    #[error("tests feature {0}")]
    Feature(i64),
    #[error("compares feature {0} with NaN")]
    NanThreshold(u32),
    #[error("has children that form a circle")]
    Circle,
    #[error("has a node with two parents")]
    Parents,
    #[error("`membership_values` has {0}")]
    Sets(&'static str),
    #[error("has too many {0}")]
    TooMany(&'static str),
}
