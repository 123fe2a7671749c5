//! The choice between the kernels, and the sums of what the leaves say.

use pulp::{Arch, NullaryFnOnce};

use super::super::super::failure::Failure;
use super::super::super::operator::Run;
use super::super::super::value::{Slice, View};
use super::fault::TreeFault;
use super::forest::Forest;
use super::lanes::{Blocks, MOST_LEAVES, Rows, WIDTH};
use super::walk::{Index, NARROW, ROWS, Walker};
use super::{Buffers, Real};

/// Rows whose slots and sums are in memory at a time.
const BLOCK: usize = WIDTH;

/// Fewer rows are never worth a block in which every split of a tree is evaluated.
const LANES_FROM: usize = 24;

/// What a step of a walk costs beside evaluating a split for a row of a block.
const WALK_BY_SPLIT: u64 = 4;

/// Nodes of so many bytes do not stay in the caches from one row to the next.
const LARGE: u64 = 1 << 20;

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
    splits: u64,
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
            splits: splits as u64,
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
                converted,
                rows: slots,
                sums,
                ranks,
                votes,
            } = T::scratch(run.scratch);
            let block = first * columns..(first + count) * columns;
            let rows = Rows {
                elements: numbers(input.data, block, converted),
                count,
                columns,
            };
            let outputs = self.outputs();
            sums.clear();
            sums.resize(count * outputs, T::ZERO);
            votes.clear();
            if self.always_voted.is_some() {
                votes.resize(count * outputs, false);
            }
            match (&self.lanes, &self.walks) {
                (Some(lanes), _) if self.takes_lanes(count) => Arch::new().dispatch(LaneSums {
                    ensemble: self,
                    lanes,
                    rows,
                    bytes: ranks,
                    sums,
                    votes,
                }),
                (_, Walks::Narrow(walker)) => self.add_walks(walker, (rows, slots), sums, votes),
                (_, Walks::Wide(walker)) => self.add_walks(walker, (rows, slots), sums, votes),
            }
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

    /// Whether evaluating every split takes less time than walking, for so many rows.
    fn takes_lanes(&self, rows: usize) -> bool {
        rows >= LANES_FROM && self.visits * rows as u64 >= WALK_BY_SPLIT * self.splits
    }

    /// What stands in the slots of a row: the features that trees test, each with its way of what is missing.
    fn values<'r>(&'r self, row: &'r [T]) -> impl Iterator<Item = T> + 'r {
        self.forest.slots.iter().map(|slot| {
            let value = row[slot.feature as usize];
            if slot.passes_missing && value.is_nan_number() {
                T::LOWEST
            } else {
                value
            }
        })
    }

    /// Slots of a row, with one at least that is lower than everything.
    fn width(&self) -> usize {
        (self.forest.slots.len() + 1).max(NARROW)
    }

    fn add_walks<I: Index>(
        &self,
        walker: &Walker<T, I>,
        (rows, slots): (Rows<'_, T>, &mut Vec<T>),
        sums: &mut [T],
        votes: &mut [bool],
    ) {
        let width = self.width();
        let leaf_of =
            |tree: usize, payload: T| self.forest.trees[tree].first_leaf + payload.to_count();
        slots.clear();
        if rows.count < ROWS || walker.size() < LARGE {
            slots.resize(width, T::LOWEST);
            for (index, row) in rows.iter().enumerate() {
                slots
                    .iter_mut()
                    .zip(self.values(row))
                    .for_each(|(slot, value)| *slot = value);
                if self.weights.is_some() {
                    // In a register: each addition waits for the one before.
                    let mut sum = T::ZERO;
                    walker.row(slots, |_, weight| sum += weight);
                    sums[index] = sum;
                } else {
                    walker.row(slots, |tree, leaf| {
                        self.vote(leaf_of(tree, leaf), index, sums, votes);
                    });
                }
            }
            return;
        }
        let blocks = rows.count.div_ceil(ROWS);
        slots.resize(blocks * width * ROWS, T::LOWEST);
        for (index, row) in rows.iter().enumerate() {
            let block = &mut slots[index / ROWS * width * ROWS..][..width * ROWS];
            let own = block[index % ROWS..].iter_mut().step_by(ROWS);
            own.zip(self.values(row))
                .for_each(|(slot, value)| *slot = value);
        }
        for tree in 0..self.trees() {
            for (block, slots) in slots.chunks_exact(width * ROWS).enumerate() {
                walker.tree(tree, slots, |row, payload| {
                    let row = block * ROWS + row;
                    if row >= rows.count {
                        return;
                    }
                    if self.weights.is_some() {
                        sums[row] += payload;
                    } else {
                        self.vote(leaf_of(tree, payload), row, sums, votes);
                    }
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

/// The sums of a block of rows, with the instructions that this processor has.
struct LaneSums<'a, T> {
    ensemble: &'a Ensemble<T>,
    lanes: &'a Blocks<T>,
    rows: Rows<'a, T>,
    bytes: &'a mut Vec<u8>,
    sums: &'a mut [T],
    votes: &'a mut [bool],
}

impl<T: Real> NullaryFnOnce for LaneSums<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self {
            ensemble,
            lanes,
            rows,
            bytes,
            sums,
            votes,
        } = self;
        // As long as a byte counts, so that no leaf has to be checked.
        let mut table = [T::ZERO; MOST_LEAVES];
        lanes.leaves(&rows, bytes, |tree, leaves| {
            let tree = &ensemble.forest.trees[tree];
            match &ensemble.weights {
                Some(weights) => {
                    let weights = &weights[tree.first_leaf..][..tree.leaves];
                    table[..weights.len()].copy_from_slice(weights);
                    for (sum, leaf) in sums.iter_mut().zip(leaves) {
                        *sum += table[usize::from(*leaf)];
                    }
                }
                None => {
                    for (row, leaf) in leaves.iter().enumerate().take(rows.count) {
                        ensemble.vote(tree.first_leaf + usize::from(*leaf), row, sums, votes);
                    }
                }
            }
        });
    }
}

/// Some elements as numbers of the thresholds' type, integers as ONNX Runtime compares them.
fn numbers<'n, T: Real>(
    data: Slice<'n>,
    range: std::ops::Range<usize>,
    converted: &'n mut Vec<T>,
) -> &'n [T] {
    if let Some(elements) = T::elements(data) {
        return &elements[range];
    }
    converted.clear();
    #[expect(
        clippy::cast_precision_loss,
        reason = "as ONNX Runtime compares integers"
    )]
    match data {
        Slice::F32(all) => converted.extend(all[range].iter().map(|value| T::from_f32(*value))),
        Slice::F64(all) => converted.extend(all[range].iter().map(|value| T::from_f64(*value))),
        Slice::I64(all) => {
            converted.extend(all[range].iter().map(|value| T::from_f32(*value as f32)));
        }
        Slice::I32(all) => {
            converted.extend(all[range].iter().map(|value| T::from_f32(*value as f32)));
        }
        Slice::I16(_) | Slice::Bool(_) | Slice::Text(_) => {}
    }
    converted
}
