//! The choice between the kernels, and the sums of what the leaves say.

use super::super::super::failure::Failure;
use super::super::super::operator::Run;
use super::super::super::value::{Slice, View};
use super::fault::TreeFault;
use super::forest::{Forest, Slot};
use super::lanes::{Blocks, Lanes, WIDTH};
use super::walk::{NARROW, ROWS, Walker};
use super::{Buffers, Real};

/// Rows whose slots and sums are in memory at a time.
const BLOCK: usize = 256;

/// From so many rows on every split of a small tree is evaluated.
const LANES_FROM: usize = 24;

/// How the votes for an output become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aggregate {
    Sum,
    Average,
    Min,
    Max,
}

impl Aggregate {
    pub(super) fn parse(name: Option<&str>) -> Option<Self> {
        Some(match name {
            None | Some("SUM") => Self::Sum,
            Some("AVERAGE") => Self::Average,
            Some("MIN") => Self::Min,
            Some("MAX") => Self::Max,
            Some(_) => return None,
        })
    }
}

/// Nodes of eight bytes, or of twelve for trees with more than 65,535.
enum Walks<T> {
    Narrow(Walker<T, u16>),
    Wide(Walker<T, u32>),
}

/// Trees, ready to run.
pub(super) struct Ensemble<T> {
    forest: Forest<T>,
    walks: Walks<T>,
    lanes: Option<Blocks<T>>,
    /// The weight of each leaf, when that is all that it says.
    weights: Option<Vec<T>>,
    /// The weights of each leaf, when it votes for all outputs.
    dense: Option<Vec<T>>,
    aggregate: Aggregate,
    /// Outputs that get a vote whatever the row; `None` when that is all of them.
    always_voted: Option<Vec<bool>>,
    features: usize,
    /// Splits from a root to a leaf, over all trees, roughly.
    visits: u64,
}

/// The sums of a row and which outputs got a vote.
pub(super) struct Row<'r, T> {
    pub(super) sums: &'r mut [T],
    /// `None` when all did.
    pub(super) voted: Option<&'r [bool]>,
}

impl<T> Row<'_, T> {
    pub(super) fn is_voted(&self, output: usize) -> bool {
        self.voted.is_none_or(|voted| voted[output])
    }
}

impl<T: Real> Ensemble<T> {
    /// # Errors
    /// When the forest is too large.
    pub(super) fn new(mut forest: Forest<T>, aggregate: Aggregate) -> Result<Self, TreeFault> {
        let weights = match aggregate {
            Aggregate::Sum | Aggregate::Average => forest.single_weights(),
            Aggregate::Min | Aggregate::Max => None,
        };
        let dense = match aggregate {
            Aggregate::Sum | Aggregate::Average if weights.is_none() => forest.dense_weights(),
            _ => None,
        };
        let payload = |tree: &super::forest::Tree<T>, leaf: u32| match &weights {
            Some(weights) => weights[tree.first_leaf + leaf as usize],
            None => T::from_count(leaf),
        };
        let walks = match Walker::new(&forest, payload) {
            Some(walker) => Walks::Narrow(walker),
            None => Walks::Wide(Walker::new(&forest, payload).ok_or(TreeFault::TooMany("nodes"))?),
        };
        let always = match aggregate {
            Aggregate::Sum | Aggregate::Average => forest.always_voted(),
            // The first vote counts whatever it is.
            Aggregate::Min | Aggregate::Max => vec![false; forest.outputs],
        };
        let splits: usize = forest.trees.iter().map(|tree| tree.splits.len()).sum();
        let depth =
            |tree: &super::forest::Tree<T>| u64::from(usize::BITS - tree.leaves.leading_zeros());
        let ensemble = Self {
            lanes: Blocks::new(&forest),
            always_voted: (!always.iter().all(|voted| *voted)).then_some(always),
            features: forest.features(),
            visits: forest
                .trees
                .iter()
                .map(depth)
                .sum::<u64>()
                .min(splits as u64),
            walks,
            weights,
            dense,
            aggregate,
            forest: {
                // The kernels have the splits in a form of their own.
                forest
                    .trees
                    .iter_mut()
                    .for_each(|tree| tree.splits = Vec::new());
                forest
            },
        };
        Ok(ensemble)
    }

    pub(super) fn outputs(&self) -> usize {
        self.forest.outputs
    }

    pub(super) fn trees(&self) -> usize {
        self.forest.trees.len()
    }

    pub(super) fn size(&self) -> u64 {
        let walks = match &self.walks {
            Walks::Narrow(walker) => walker.size(),
            Walks::Wide(walker) => walker.size(),
        };
        let lanes = self.lanes.as_ref().map_or(0, Blocks::size);
        let votes = self.forest.votes.len() * 8 + self.forest.starts.len() * 4;
        walks + lanes + votes as u64 + (self.trees() * 64) as u64
    }

    /// Nanoseconds for one row, roughly.
    pub(super) fn cost(&self) -> u64 {
        50 + self.visits * 2 + (self.trees() * 3) as u64
    }

    /// Runs the trees and hands out each row, in order.
    ///
    /// # Errors
    /// [`Failure`] when rows have too few features, and when nobody waits any more.
    pub(super) fn run(
        &self,
        input: View<'_>,
        run: &mut Run<'_>,
        mut each: impl FnMut(usize, Row<'_, T>),
    ) -> Result<(), Failure> {
        let (rows, columns) = input.samples();
        if columns < self.features && rows > 0 {
            let needed = self.features;
            return Err(Failure::shapes(format!(
                "rows have {columns} features; the trees test {needed}"
            )));
        }
        for first in (0..rows).step_by(BLOCK) {
            run.check()?;
            let count = BLOCK.min(rows - first);
            let Buffers {
                rows: slots,
                sums,
                ranks,
                votes,
            } = T::scratch(run.scratch);
            self.fill(input, first..first + count, columns, slots);
            let outputs = self.outputs();
            sums.clear();
            sums.resize(count * outputs, T::ZERO);
            votes.clear();
            if self.always_voted.is_some() {
                votes.resize(count * outputs, false);
            }
            self.add_up(slots, ranks, sums, votes);
            for (row, sums) in sums.chunks_exact_mut(outputs).enumerate() {
                let voted = self.always_voted.as_ref().map(|always| {
                    let voted = &mut votes[row * outputs..][..outputs];
                    voted
                        .iter_mut()
                        .zip(always)
                        .for_each(|(voted, always)| *voted |= *always);
                    &*voted
                });
                each(first + row, Row { sums, voted });
            }
        }
        Ok(())
    }

    /// Writes the slots of some rows: the features that trees test, each with its way of what is missing, and what is
    /// lower than everything.
    fn fill(
        &self,
        input: View<'_>,
        rows: std::ops::Range<usize>,
        columns: usize,
        slots: &mut Vec<T>,
    ) {
        slots.clear();
        slots.reserve(rows.len() * self.width());
        #[expect(
            clippy::cast_precision_loss,
            reason = "as ONNX Runtime compares integers"
        )]
        match input.data {
            Slice::F32(elements) => {
                self.fill_from(elements, rows, columns, slots, |value| T::from_f32(*value))
            }
            Slice::F64(elements) => {
                self.fill_from(elements, rows, columns, slots, |value| T::from_f64(*value))
            }
            Slice::I64(elements) => self.fill_from(elements, rows, columns, slots, |value| {
                T::from_f32(*value as f32)
            }),
            Slice::I32(elements) => self.fill_from(elements, rows, columns, slots, |value| {
                T::from_f32(*value as f32)
            }),
            Slice::I16(_) | Slice::Bool(_) | Slice::Text(_) => {}
        }
    }

    fn fill_from<E>(
        &self,
        elements: &[E],
        rows: std::ops::Range<usize>,
        columns: usize,
        slots: &mut Vec<T>,
        convert: impl Fn(&E) -> T,
    ) {
        let width = self.width();
        for (index, row) in rows.enumerate() {
            let row = &elements[row * columns..][..columns];
            slots.extend(self.forest.slots.iter().map(
                |Slot {
                     feature,
                     passes_missing,
                 }| {
                    let value = convert(&row[*feature as usize]);
                    if *passes_missing && value.is_nan_number() {
                        T::LOWEST
                    } else {
                        value
                    }
                },
            ));
            slots.resize((index + 1) * width, T::LOWEST);
        }
    }

    /// Slots of a row, with one at least that is lower than everything.
    fn width(&self) -> usize {
        (self.forest.slots.len() + 1).max(NARROW)
    }

    fn add_up(&self, slots: &[T], ranks: &mut Vec<Lanes>, sums: &mut [T], votes: &mut [bool]) {
        let width = self.width();
        let count = slots.len() / width;
        match (&self.lanes, &self.walks) {
            (Some(lanes), _) if count >= LANES_FROM => {
                self.add_lanes(lanes, slots, ranks, sums, votes);
            }
            (_, Walks::Narrow(walker)) => self.add_walks(walker, slots, sums, votes),
            (_, Walks::Wide(walker)) => self.add_walks(walker, slots, sums, votes),
        }
    }

    fn add_lanes(
        &self,
        lanes: &Blocks<T>,
        slots: &[T],
        ranks: &mut Vec<Lanes>,
        sums: &mut [T],
        votes: &mut [bool],
    ) {
        let width = self.width();
        let outputs = self.outputs();
        let blocks = slots
            .chunks(WIDTH * width)
            .zip(sums.chunks_mut(WIDTH * outputs));
        for (block, (slots, sums)) in blocks.enumerate() {
            let count = slots.len() / width;
            let votes = votes.get_mut(block * WIDTH * outputs..).unwrap_or_default();
            // Lanes without a row do again what the last one does.
            let value = |slot: usize, row: usize| slots[row.min(count - 1) * width + slot];
            let add = |tree: usize, leaves: &Lanes| {
                let first = self.forest.trees[tree].first_leaf;
                match &self.weights {
                    Some(weights) => {
                        let weights = &weights[first..];
                        for (sum, leaf) in sums.iter_mut().zip(leaves) {
                            *sum += weights[usize::from(*leaf)];
                        }
                    }
                    None => {
                        for (row, leaf) in leaves.iter().enumerate().take(count) {
                            self.vote(first + usize::from(*leaf), row, sums, votes);
                        }
                    }
                }
            };
            if count <= WIDTH / 2 {
                lanes.block::<{ WIDTH / 2 }>(ranks, value, add);
            } else {
                lanes.block::<WIDTH>(ranks, value, add);
            }
        }
    }

    fn add_walks<I: super::walk::Index>(
        &self,
        walker: &Walker<T, I>,
        slots: &[T],
        sums: &mut [T],
        votes: &mut [bool],
    ) {
        let width = self.width();
        let mut add = |row: usize, tree: usize, payload: T| match &self.weights {
            Some(_) => sums[row] += payload,
            None => self.vote(
                self.forest.trees[tree].first_leaf + payload.to_count(),
                row,
                sums,
                votes,
            ),
        };
        if slots.len() / width < ROWS / 2 {
            for (row, slots) in slots.chunks_exact(width).enumerate() {
                walker.row(slots, |tree, payload| add(row, tree, payload));
            }
            return;
        }
        for tree in 0..self.trees() {
            for (block, slots) in slots.chunks(ROWS * width).enumerate() {
                walker.tree(tree, slots, width, |row, payload| {
                    add(block * ROWS + row, tree, payload)
                });
            }
        }
    }

    #[inline]
    fn vote(&self, leaf: usize, row: usize, sums: &mut [T], votes: &mut [bool]) {
        let outputs = self.outputs();
        let sums = &mut sums[row * outputs..][..outputs];
        if let Some(dense) = &self.dense {
            let weights = &dense[leaf * outputs..][..outputs];
            sums.iter_mut()
                .zip(weights)
                .for_each(|(sum, weight)| *sum += *weight);
            return;
        }
        for vote in self.forest.votes_of(leaf) {
            let output = vote.output as usize;
            let sum = &mut sums[output];
            match self.aggregate {
                Aggregate::Sum | Aggregate::Average => *sum += vote.weight,
                Aggregate::Min | Aggregate::Max => {
                    let voted = &mut votes[row * outputs + output];
                    let is_better = if self.aggregate == Aggregate::Min {
                        vote.weight < *sum
                    } else {
                        vote.weight > *sum
                    };
                    if is_better || !*voted {
                        *sum = vote.weight;
                    }
                }
            }
            if let Some(voted) = votes.get_mut(row * outputs + output) {
                *voted = true;
            }
        }
    }
}
