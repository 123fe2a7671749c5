//! From the attributes of a node to a forest: every index is checked, so that no run can leave a tree.

use std::collections::HashMap;

use super::Real;
use super::fault::TreeFault;
use super::forest::{Child, Forest, Slot, Slots, Split, Test, Tree, Vote};

/// How a split compares, as ONNX names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Leq,
    Lt,
    Gte,
    Gt,
    Eq,
    Neq,
    Leaf,
}

impl Mode {
    fn parse(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"BRANCH_LEQ" => Self::Leq,
            b"BRANCH_LT" => Self::Lt,
            b"BRANCH_GTE" => Self::Gte,
            b"BRANCH_GT" => Self::Gt,
            b"BRANCH_EQ" => Self::Eq,
            b"BRANCH_NEQ" => Self::Neq,
            b"LEAF" => Self::Leaf,
            _ => return None,
        })
    }
}

/// The attributes of versions 1 and 3, in parallel lists.
pub(super) struct Lists<'g, T> {
    pub(super) tree_ids: &'g [i64],
    pub(super) node_ids: &'g [i64],
    pub(super) features: &'g [i64],
    pub(super) modes: &'g [Vec<u8>],
    pub(super) thresholds: Vec<T>,
    pub(super) yes: &'g [i64],
    pub(super) no: &'g [i64],
    pub(super) missing_is_true: &'g [i64],
    pub(super) vote_trees: &'g [i64],
    pub(super) vote_nodes: &'g [i64],
    pub(super) vote_outputs: &'g [i64],
    pub(super) vote_weights: Vec<T>,
    pub(super) outputs: usize,
}

/// A node as the file has it.
pub(super) struct Raw<T> {
    pub(super) feature: i64,
    pub(super) mode: Mode,
    pub(super) threshold: T,
    pub(super) missing_is_true: bool,
    /// Places in the list of all nodes.
    pub(super) yes: usize,
    pub(super) no: usize,
}

/// Largest tree: its leaves are counted in a floating-point number.
const MOST_LEAVES: usize = 1 << 24;

fn same_length(name: &'static str, found: usize, expected: usize) -> Result<(), TreeFault> {
    if found == expected {
        return Ok(());
    }
    Err(TreeFault::Length {
        name,
        found,
        expected,
    })
}

/// Reads the lists of versions 1 and 3.
///
/// # Errors
/// What is wrong with them.
pub(super) fn from_lists<T: Real>(lists: &Lists<'_, T>) -> Result<Forest<T>, TreeFault> {
    let count = lists.tree_ids.len();
    if count == 0 {
        return Err(TreeFault::Nothing("nodes"));
    }
    same_length("nodes_nodeids", lists.node_ids.len(), count)?;
    same_length("nodes_featureids", lists.features.len(), count)?;
    same_length("nodes_modes", lists.modes.len(), count)?;
    same_length("nodes_values", lists.thresholds.len(), count)?;
    same_length("nodes_truenodeids", lists.yes.len(), count)?;
    same_length("nodes_falsenodeids", lists.no.len(), count)?;
    if !lists.missing_is_true.is_empty() {
        same_length(
            "nodes_missing_value_tracks_true",
            lists.missing_is_true.len(),
            count,
        )?;
    }
    let mut places: HashMap<(i64, i64), usize> = HashMap::with_capacity(count);
    let mut roots = Vec::new();
    let mut seen_trees = HashMap::new();
    for (place, key) in lists
        .tree_ids
        .iter()
        .copied()
        .zip(lists.node_ids.iter().copied())
        .enumerate()
    {
        if places.insert(key, place).is_some() {
            return Err(TreeFault::Duplicate {
                tree: key.0,
                node: key.1,
            });
        }
        if seen_trees.insert(key.0, ()).is_none() {
            roots.push(place);
        }
    }
    let mut nodes = Vec::with_capacity(count);
    for place in 0..count {
        let (tree, id) = (lists.tree_ids[place], lists.node_ids[place]);
        let name = &lists.modes[place];
        let mode = Mode::parse(name).ok_or_else(|| {
            let name = String::from_utf8_lossy(name);
            TreeFault::Mode(name.escape_debug().to_string())
        })?;
        let child = |child: i64, which: &'static str| {
            if mode == Mode::Leaf {
                return Ok(place);
            }
            let found = places.get(&(tree, child)).copied();
            found.ok_or(TreeFault::Child {
                node: id,
                which,
                child,
            })
        };
        nodes.push(Raw {
            feature: lists.features[place],
            mode,
            threshold: lists.thresholds[place],
            missing_is_true: lists
                .missing_is_true
                .get(place)
                .is_some_and(|flag| *flag != 0),
            yes: child(lists.yes[place], "true")?,
            no: child(lists.no[place], "false")?,
        });
    }
    let votes = votes(lists, &places, &nodes)?;
    build(&nodes, &roots, &votes, lists.outputs)
}

/// The votes of each node, by its place. Those of nodes that are no leaves do not count.
fn votes<T: Real>(
    lists: &Lists<'_, T>,
    places: &HashMap<(i64, i64), usize>,
    nodes: &[Raw<T>],
) -> Result<Vec<(usize, Vote<T>)>, TreeFault> {
    let count = lists.vote_trees.len();
    for (name, found) in [
        ("ids of nodes", lists.vote_nodes.len()),
        ("ids of outputs", lists.vote_outputs.len()),
        ("weights", lists.vote_weights.len()),
    ] {
        if found != count {
            return Err(TreeFault::Votes {
                what: name,
                found,
                expected: count,
            });
        }
    }
    let mut votes = Vec::with_capacity(count);
    for index in 0..count {
        let key = (lists.vote_trees[index], lists.vote_nodes[index]);
        let place = places.get(&key).copied();
        let place = place.ok_or(TreeFault::Weight {
            tree: key.0,
            node: key.1,
        })?;
        let vote = vote(
            lists.vote_outputs[index],
            lists.vote_weights[index],
            lists.outputs,
        )?;
        if nodes[place].mode == Mode::Leaf {
            votes.push((place, vote));
        }
    }
    // Stable: the votes of one leaf stay in their order.
    votes.sort_by_key(|(place, _)| *place);
    Ok(votes)
}

/// # Errors
/// For an output that does not exist, and a weight that is no number.
pub(super) fn vote<T: Real>(output: i64, weight: T, outputs: usize) -> Result<Vote<T>, TreeFault> {
    let index = usize::try_from(output)
        .ok()
        .filter(|index| *index < outputs);
    let index = index.ok_or(TreeFault::Output { output, outputs })?;
    if weight.is_nan_number() {
        return Err(TreeFault::NanWeight);
    }
    let output = u32::try_from(index).map_err(|_| TreeFault::TooMany("outputs"))?;
    Ok(Vote { output, weight })
}

/// Makes a forest of nodes whose children exist.
///
/// # Errors
/// For a circle, and for features and thresholds that make no sense.
pub(super) fn build<T: Real>(
    nodes: &[Raw<T>],
    roots: &[usize],
    votes: &[(usize, Vote<T>)],
    outputs: usize,
) -> Result<Forest<T>, TreeFault> {
    let mut forest = Forest {
        trees: Vec::with_capacity(roots.len()),
        slots: Vec::new(),
        starts: vec![0],
        votes: Vec::with_capacity(votes.len()),
        outputs,
    };
    let mut slots = Slots::default();
    let mut builder = Builder {
        nodes,
        votes,
        slots: &mut slots,
        state: vec![State::New; nodes.len()],
    };
    for root in roots {
        builder.tree(*root, &mut forest)?;
    }
    forest.slots = slots.list;
    Ok(forest)
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    New,
    Open,
    /// What it became.
    Done(Child),
}

struct Builder<'n, T> {
    nodes: &'n [Raw<T>],
    votes: &'n [(usize, Vote<T>)],
    slots: &'n mut Slots,
    state: Vec<State>,
}

impl<T: Real> Builder<'_, T> {
    fn tree(&mut self, root: usize, forest: &mut Forest<T>) -> Result<(), TreeFault> {
        let first_leaf = forest.starts.len() - 1;
        let mut splits = Vec::new();
        let mut leaves = 0usize;
        let mut stack = vec![(root, false)];
        while let Some((place, has_children)) = stack.pop() {
            let node = &self.nodes[place];
            if has_children {
                let child = self.split(node, &mut splits)?;
                self.state[place] = State::Done(child);
                continue;
            }
            match self.state[place] {
                State::Open => return Err(TreeFault::Circle),
                // Several nodes may lead to one, as those of a set of categories do.
                State::Done(_) => continue,
                State::New => {}
            }
            if node.mode == Mode::Leaf {
                self.add_votes(place, forest)?;
                let leaf = u32::try_from(leaves).unwrap_or(u32::MAX);
                self.state[place] = State::Done(Child::Leaf(leaf));
                leaves += 1;
                continue;
            }
            self.state[place] = State::Open;
            stack.extend([(place, true), (node.no, false), (node.yes, false)]);
        }
        if leaves > MOST_LEAVES {
            return Err(TreeFault::TooMany("leaves"));
        }
        let State::Done(root) = self.state[root] else {
            return Err(TreeFault::Circle);
        };
        forest.trees.push(Tree {
            root,
            splits,
            first_leaf,
            leaves,
        });
        Ok(())
    }

    fn add_votes(&self, place: usize, forest: &mut Forest<T>) -> Result<(), TreeFault> {
        let first = self.votes.partition_point(|(of, _)| *of < place);
        let own = self.votes[first..]
            .iter()
            .take_while(|(of, _)| *of == place);
        forest.votes.extend(own.map(|(_, vote)| *vote));
        let end = u32::try_from(forest.votes.len()).map_err(|_| TreeFault::TooMany("weights"))?;
        forest.starts.push(end);
        Ok(())
    }

    fn child(&self, place: usize) -> Result<Child, TreeFault> {
        match self.state[place] {
            State::Done(child) => Ok(child),
            _ => Err(TreeFault::Circle),
        }
    }

    /// Folds all comparisons into two, and the way of NaN into the slot.
    fn split(&mut self, node: &Raw<T>, splits: &mut Vec<Split<T>>) -> Result<Child, TreeFault> {
        let feature = u32::try_from(node.feature).map_err(|_| TreeFault::Feature(node.feature))?;
        if node.threshold.is_nan_number() {
            return Err(TreeFault::NanThreshold(feature));
        }
        let (yes, no) = (self.child(node.yes)?, self.child(node.no)?);
        let threshold = node.threshold;
        // NaN fails every comparison but "not equal", unless the node sends it to the true branch.
        let (test, threshold, swap) = match node.mode {
            Mode::Leq => (Test::AtMost, threshold, false),
            Mode::Lt => (Test::AtMost, threshold.next_below(), false),
            Mode::Gt => (Test::AtMost, threshold, true),
            Mode::Gte => (Test::AtMost, threshold.next_below(), true),
            Mode::Eq if node.missing_is_true => (Test::EqualOrMissing, threshold, false),
            Mode::Eq => (Test::Equal, threshold, false),
            Mode::Neq | Mode::Leaf => (Test::Equal, threshold, true),
        };
        let missing_is_true = node.missing_is_true || node.mode == Mode::Neq;
        let passes_missing = missing_is_true != swap;
        let mut slot = |passes_missing| {
            self.slots.slot(Slot {
                feature,
                passes_missing,
            })
        };
        let lower_slot = if test == Test::AtMost {
            slot(passes_missing)
        } else {
            slot(false)
        };
        let slot = slot(passes_missing);
        let (yes, no) = if swap { (no, yes) } else { (yes, no) };
        splits.push(Split {
            slot,
            lower_slot,
            test,
            threshold,
            yes,
            no,
        });
        let index = u32::try_from(splits.len() - 1).map_err(|_| TreeFault::TooMany("nodes"))?;
        Ok(Child::Split(index))
    }
}
