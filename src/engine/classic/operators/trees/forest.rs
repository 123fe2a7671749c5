//! Trees as both kernels take them: every test is "at most" or "equal", every way of a missing value is in the choice of
//! the slot that a test reads.

use std::collections::HashMap;

use super::Real;

/// A child of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Child {
    Split(u32),
    /// A leaf of this tree, counted from 0.
    Leaf(u32),
}

/// Which values go to the first child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    AtMost,
    Equal,
    /// Equal, or missing.
    EqualOrMissing,
}

/// A split.
#[derive(Debug, Clone, Copy)]
pub(super) struct Split<T> {
    pub(super) slot: u32,
    /// For equality, which is "at most this, and not at most the number below": the slot of the second half.
    pub(super) lower_slot: u32,
    pub(super) test: Test,
    pub(super) threshold: T,
    pub(super) yes: Child,
    pub(super) no: Child,
}

/// One tree.
#[derive(Debug, Clone)]
pub(super) struct Tree<T> {
    pub(super) root: Child,
    pub(super) splits: Vec<Split<T>>,
    /// The first of its leaves among those of all trees.
    pub(super) first_leaf: usize,
    pub(super) leaves: usize,
}

/// Where a slot comes from: a feature, with the way of what is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Slot {
    pub(super) feature: u32,
    /// NaN passes every test "at most", and fails it otherwise.
    pub(super) passes_missing: bool,
}

/// Slots by what they hold.
#[derive(Debug, Default)]
pub(super) struct Slots {
    known: HashMap<Slot, u32>,
    pub(super) list: Vec<Slot>,
}

impl Slots {
    pub(super) fn slot(&mut self, slot: Slot) -> u32 {
        *self.known.entry(slot).or_insert_with(|| {
            self.list.push(slot);
            u32::try_from(self.list.len() - 1).unwrap_or(u32::MAX)
        })
    }
}

/// What a leaf adds to one output.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Vote<T> {
    pub(super) output: u32,
    pub(super) weight: T,
}

/// All trees.
#[derive(Debug, Clone)]
pub(super) struct Forest<T> {
    pub(super) trees: Vec<Tree<T>>,
    pub(super) slots: Vec<Slot>,
    /// The votes of each leaf of all trees: where they begin, one more for the end.
    pub(super) starts: Vec<u32>,
    pub(super) votes: Vec<Vote<T>>,
    pub(super) outputs: usize,
}

impl<T: Real> Forest<T> {
    /// How many features a row must have.
    pub(super) fn features(&self) -> usize {
        let features = self.slots.iter().map(|slot| slot.feature as usize + 1);
        features.max().unwrap_or(0)
    }

    pub(super) fn votes_of(&self, leaf: usize) -> &[Vote<T>] {
        &self.votes[self.starts[leaf] as usize..self.starts[leaf + 1] as usize]
    }

    /// Outputs that get a vote whatever the row.
    pub(super) fn always_voted(&self) -> Vec<bool> {
        let mut always = vec![false; self.outputs];
        for tree in &self.trees {
            let mut counts = vec![0; self.outputs];
            for leaf in tree.first_leaf..tree.first_leaf + tree.leaves {
                for vote in self.votes_of(leaf) {
                    counts[vote.output as usize] += 1;
                }
            }
            for (always, count) in always.iter_mut().zip(counts) {
                *always |= count >= tree.leaves;
            }
        }
        always
    }

    /// The same trees with this output alone, for which all leaves vote.
    pub(super) fn with_output(mut self, output: usize) -> Self {
        debug_assert!(self.votes.iter().all(|vote| vote.output as usize == output));
        self.votes.iter_mut().for_each(|vote| vote.output = 0);
        self.outputs = 1;
        self
    }

    /// The same trees, of whose leaves only the first votes count.
    pub(super) fn with_first_votes(mut self) -> Self {
        let leaves = 0..self.starts.len() - 1;
        let votes = leaves.map(|leaf| self.votes_of(leaf).first().copied());
        let votes: Vec<Option<Vote<T>>> = votes.collect();
        self.votes = votes.iter().flatten().copied().collect();
        let mut end = 0;
        for (start, vote) in self.starts[1..].iter_mut().zip(votes) {
            end += u32::from(vote.is_some());
            *start = end;
        }
        self
    }

    /// The weights of all leaves, a row for each, when each leaf votes once for each output, in their order.
    pub(super) fn dense_weights(&self) -> Option<Vec<T>> {
        let outputs = self.outputs;
        let is_dense = |leaf: usize| {
            let votes = self.votes_of(leaf);
            votes.len() == outputs
                && votes
                    .iter()
                    .zip(0..)
                    .all(|(vote, output)| vote.output == output)
        };
        let leaves = self.starts.len() - 1;
        (0..leaves)
            .all(is_dense)
            .then(|| self.votes.iter().map(|vote| vote.weight).collect())
    }

    /// The weights of all leaves, when there is one output and each leaf has at most one vote.
    pub(super) fn single_weights(&self) -> Option<Vec<T>> {
        if self.outputs != 1 {
            return None;
        }
        let leaves = 0..self.starts.len() - 1;
        let weights = leaves.map(|leaf| match self.votes_of(leaf) {
            [] => Some(T::ZERO),
            [vote] => Some(vote.weight),
            _ => None,
        });
        weights.collect()
    }
}
