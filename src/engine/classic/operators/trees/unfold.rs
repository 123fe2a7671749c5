//! From the attributes of `TreeEnsemble` to a forest: inner nodes and leaves are apart there, and a node may test for
//! membership in a set.

use std::collections::HashMap;

use super::super::super::failure::Refusal;
use super::super::super::node::Node;
use super::Real;
use super::fault::TreeFault;
use super::forest::{Forest, Vote};
use super::read::{Mode, Raw, build, vote};
use crate::model::onnx::WholeTensor;
use crate::tensor::DType;

/// The lists of `TreeEnsemble`: inner nodes and leaves apart.
pub(super) struct Unfolder<'g, T> {
    features: &'g [i64],
    modes: Vec<u8>,
    splits: Vec<T>,
    yes: (&'g [i64], &'g [i64]),
    no: (&'g [i64], &'g [i64]),
    missing_is_true: &'g [i64],
    roots: &'g [i64],
    leaf_targets: &'g [i64],
    leaf_weights: Vec<T>,
    /// The members of each set.
    sets: std::vec::IntoIter<Vec<T>>,
}

/// The mode of a test for membership (`TreeEnsemble`, attribute `nodes_modes`).
const MEMBER: u8 = 6;

/// Nodes that a file may unfold to: sets become one node for each member.
const MOST_NODES: usize = 1 << 26;

impl<'g, T: Real> Unfolder<'g, T> {
    pub(super) fn new(node: &Node<'g>) -> Result<Self, Refusal> {
        let modes = node
            .attribute("nodes_modes")
            .and_then(|attribute| attribute.t.as_deref());
        let modes = modes.map(WholeTensor::tensor).transpose();
        let modes =
            modes.map_err(|error| node.refuse(format!("attribute `nodes_modes` {error}")))?;
        let modes = modes.filter(|modes| modes.dtype() == DType::U8);
        let modes = modes
            .ok_or_else(|| node.refuse("attribute `nodes_modes` must be a tensor of UINT8"))?;
        let members = node.elements::<T>("membership_values")?;
        let mut sets: Vec<Vec<T>> = members
            .split(|member| member.is_nan_number())
            .map(<[T]>::to_vec)
            .collect();
        // NaN ends a set: behind the last one nothing follows.
        if sets.last().is_some_and(Vec::is_empty) {
            sets.pop();
        }
        Ok(Self {
            features: node.ints("nodes_featureids"),
            modes: modes.bytes().to_vec(),
            splits: node.elements("nodes_splits")?,
            yes: (node.ints("nodes_truenodeids"), node.ints("nodes_trueleafs")),
            no: (
                node.ints("nodes_falsenodeids"),
                node.ints("nodes_falseleafs"),
            ),
            missing_is_true: node.ints("nodes_missing_value_tracks_true"),
            roots: node.ints("tree_roots"),
            leaf_targets: node.ints("leaf_targetids"),
            leaf_weights: node.elements("leaf_weights")?,
            sets: sets.into_iter(),
        })
    }

    pub(super) fn read(mut self, targets: usize) -> Result<Forest<T>, TreeFault> {
        let count = self.features.len();
        let lists = [
            ("nodes_modes", self.modes.len()),
            ("nodes_splits", self.splits.len()),
            ("nodes_truenodeids", self.yes.0.len()),
            ("nodes_trueleafs", self.yes.1.len()),
            ("nodes_falsenodeids", self.no.0.len()),
            ("nodes_falseleafs", self.no.1.len()),
        ];
        if let Some((name, found)) = lists.iter().find(|list| list.1 != count) {
            return Err(TreeFault::Length {
                name,
                found: *found,
                expected: count,
            });
        }
        if !self.missing_is_true.is_empty() && self.missing_is_true.len() != count {
            return Err(TreeFault::Length {
                name: "nodes_missing_value_tracks_true",
                found: self.missing_is_true.len(),
                expected: count,
            });
        }
        if self.leaf_targets.len() != self.leaf_weights.len() {
            return Err(TreeFault::Votes {
                what: "weights",
                found: self.leaf_weights.len(),
                expected: self.leaf_targets.len(),
            });
        }
        if self.roots.is_empty() {
            return Err(TreeFault::Nothing("roots"));
        }
        let mut tree = Unfolded {
            nodes: Vec::new(),
            votes: Vec::new(),
            chains: HashMap::new(),
        };
        let mut roots = Vec::new();
        let mut used = vec![false; count];
        for root in self.roots {
            let place = usize::try_from(*root).ok().filter(|root| *root < count);
            let root = place.ok_or(TreeFault::Root(*root))?;
            roots.push(self.unfold(root, targets, &mut tree, &mut used)?);
        }
        tree.votes.sort_by_key(|(place, _)| *place);
        build(&tree.nodes, &roots, &tree.votes, targets)
    }

    /// Adds a tree, its nodes in the order of the file.
    fn unfold(
        &mut self,
        root: usize,
        targets: usize,
        tree: &mut Unfolded<T>,
        used: &mut [bool],
    ) -> Result<usize, TreeFault> {
        // Where each node goes: known once all nodes before it have been unfolded.
        let mut open = vec![(root, None)];
        let mut first = None;
        while let Some((index, parent)) = open.pop() {
            if std::mem::replace(&mut used[index], true) {
                let is_leaf_tree = self.is_leaf_tree(index);
                if !is_leaf_tree {
                    return Err(TreeFault::Parents);
                }
            }
            let (place, yes, no) = self.add(index, targets, tree)?;
            match parent {
                None => first = Some(place),
                Some((parent, true)) => tree.set_yes(parent, place),
                Some((parent, false)) => tree.set_no(parent, place),
            }
            if let Some(no) = no {
                open.push((no, Some((place, false))));
            }
            if let Some(yes) = yes {
                open.push((yes, Some((place, true))));
            }
            if tree.nodes.len() > MOST_NODES {
                return Err(TreeFault::TooMany("nodes"));
            }
        }
        first.ok_or(TreeFault::Nothing("roots"))
    }

    /// Both children are the same leaf: how a tree without a split is written.
    fn is_leaf_tree(&self, index: usize) -> bool {
        self.yes.1[index] != 0 && self.no.1[index] != 0 && self.yes.0[index] == self.no.0[index]
    }

    /// Adds a node and those of its children that are leaves; answers with its place and the children that are none.
    fn add(
        &mut self,
        index: usize,
        targets: usize,
        tree: &mut Unfolded<T>,
    ) -> Result<(usize, Option<usize>, Option<usize>), TreeFault> {
        if self.is_leaf_tree(index) {
            return Ok((self.leaf(self.yes.0[index], targets, tree)?, None, None));
        }
        let mode = match self.modes[index] {
            0 => Mode::Leq,
            1 => Mode::Lt,
            2 => Mode::Gte,
            3 => Mode::Gt,
            4 | MEMBER => Mode::Eq,
            5 => Mode::Neq,
            other => return Err(TreeFault::Mode(other.to_string())),
        };
        let members = if self.modes[index] == MEMBER {
            self.sets.next().ok_or(TreeFault::Sets(
                "fewer sets than there are tests for membership",
            ))?
        } else {
            vec![self.splits[index]]
        };
        let missing_is_true = self
            .missing_is_true
            .get(index)
            .is_some_and(|flag| *flag != 0);
        let mut place = tree.nodes.len();
        let first = place;
        // A set is a chain of tests for equality; each but the last one leads on to the next.
        let yes_leaf = (self.yes.1[index] != 0).then_some(self.yes.0[index]);
        let mut chain = Vec::with_capacity(members.len());
        for (number, member) in members.iter().enumerate() {
            place = tree.nodes.len();
            chain.push(place);
            tree.nodes.push(Raw {
                feature: self.features[index],
                mode,
                threshold: *member,
                missing_is_true,
                yes: usize::MAX,
                no: usize::MAX,
            });
            if let Some(leaf) = yes_leaf {
                tree.nodes[place].yes = self.leaf(leaf, targets, tree)?;
            }
            if number + 1 < members.len() {
                tree.nodes[place].no = tree.nodes.len();
            }
        }
        if members.is_empty() {
            return Err(TreeFault::Sets("an empty set"));
        }
        let child = |child: i64| {
            let found = usize::try_from(child)
                .ok()
                .filter(|child| *child < self.features.len());
            found.ok_or(TreeFault::Child {
                node: i64::try_from(index).unwrap_or(i64::MAX),
                which: "inner",
                child,
            })
        };
        let yes = if yes_leaf.is_none() {
            Some(child(self.yes.0[index])?)
        } else {
            None
        };
        let no = if self.no.1[index] != 0 {
            tree.nodes[place].no = self.leaf(self.no.0[index], targets, tree)?;
            None
        } else {
            Some(child(self.no.0[index])?)
        };
        tree.chains.insert(first, chain);
        Ok((first, yes, no))
    }

    fn leaf(&self, leaf: i64, targets: usize, tree: &mut Unfolded<T>) -> Result<usize, TreeFault> {
        let index = usize::try_from(leaf)
            .ok()
            .filter(|leaf| *leaf < self.leaf_targets.len());
        let index = index.ok_or(TreeFault::Leaf(leaf))?;
        let place = tree.nodes.len();
        tree.nodes.push(Raw {
            feature: 0,
            mode: Mode::Leaf,
            threshold: T::ZERO,
            missing_is_true: false,
            yes: place,
            no: place,
        });
        tree.votes.push((
            place,
            vote(self.leaf_targets[index], self.leaf_weights[index], targets)?,
        ));
        Ok(place)
    }
}

/// Nodes as [`build`] takes them.
struct Unfolded<T> {
    nodes: Vec<Raw<T>>,
    votes: Vec<(usize, Vote<T>)>,
    /// The nodes that a test for membership has become, by the first one.
    chains: HashMap<usize, Vec<usize>>,
}

impl<T> Unfolded<T> {
    fn set_yes(&mut self, place: usize, child: usize) {
        self.nodes[place].yes = child;
        for member in self.chains.get(&place).into_iter().flatten() {
            self.nodes[*member].yes = child;
        }
    }

    /// The way out of a node; of a set, that of its last member.
    fn set_no(&mut self, place: usize, child: usize) {
        let last = self
            .chains
            .get(&place)
            .and_then(|chain| chain.last())
            .copied();
        self.nodes[last.unwrap_or(place)].no = child;
    }
}
