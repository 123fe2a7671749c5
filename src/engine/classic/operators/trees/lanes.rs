//! The kernel for many rows of small trees: every split of a tree is evaluated for a block of rows at once.
//!
//! The value of a feature is replaced by its rank among the thresholds of that feature, one byte. A split is then one
//! comparison and one choice between two vectors of leaves, from the lowest splits up: no branches, no loads that depend
//! on each other (compare QuickScorer, Lucchese et al., SIGIR 2015, which has masks of leaves instead).

use std::hint::select_unpredictable;

use super::Real;
use super::forest::{Child, Forest, Slot, Test, Tree};

/// Rows of the largest block: what is done once for a split counts little then.
pub(super) const WIDTH: usize = 256;

/// Largest trees: a leaf is one byte.
pub(super) const MOST_LEAVES: usize = 256;

/// Most thresholds of a slot: the ranks of numbers end below that of what is missing.
const MOST_THRESHOLDS: usize = 254;

/// The rank of what is missing: it passes no test "at most".
const MISSING: u8 = u8::MAX;

/// What a child becomes.
#[derive(Debug, Clone, Copy)]
enum Operand {
    Leaf(u8),
    /// What an earlier split of the tree has chosen, at this place.
    Chosen(u8),
}

/// What a split chooses between. What an earlier split has chosen is where the choice goes, so that it is made in place.
#[derive(Debug, Clone, Copy)]
enum Choice {
    Leaves {
        yes: u8,
        no: u8,
    },
    /// What is there stays where the test passes, else it is this leaf.
    StaysOr(u8),
    /// This leaf where the test passes, else what is there stays.
    OrStays(u8),
    /// What is there stays where the test passes, else it is what is at the next place.
    StaysOrNext,
    NextOrStays,
}

#[derive(Debug, Clone, Copy)]
struct Step {
    slot: u32,
    test: Test,
    rank: u8,
    choice: Choice,
    /// Where the choice goes.
    to: u8,
}

/// Ranges of equal width between the least and the largest threshold.
const RANGES: usize = 256;

/// Places for the thresholds of a slot, and for those that a search looks at behind them.
const TABLE: usize = 2 * RANGES;

/// The thresholds of a slot, ascending, and behind them infinity.
///
/// A value is looked up by the range that it lies in, then searched for among the thresholds of this range. Rounding keeps
/// the order of numbers, so that thresholds of lower ranges are lower than the value, and those of higher ones higher.
#[derive(Debug)]
struct Thresholds<T> {
    table: Box<[T; TABLE]>,
    least: T,
    /// Ranges for one.
    scale: T,
    /// How many thresholds are in lower ranges, by range.
    starts: Box<[u8; RANGES]>,
    /// Of a search: the largest power of two that is not larger than the number of thresholds in a range.
    first_step: usize,
}

impl<T: Real> Thresholds<T> {
    fn new(list: &[T]) -> Self {
        let mut table = Box::new([T::HIGHEST; TABLE]);
        table[..list.len()].copy_from_slice(list);
        let (least, largest) = match list {
            [] => (T::ZERO, T::ZERO),
            [first, .., last] => (*first, *last),
            [one] => (*one, *one),
        };
        let mut thresholds = Self {
            table,
            least,
            scale: T::ranges(RANGES, least, largest),
            starts: Box::new([0; RANGES]),
            first_step: 0,
        };
        let mut counts = [0usize; RANGES];
        list.iter()
            .for_each(|own| counts[usize::from(thresholds.range(*own))] += 1);
        let mut lower = 0;
        for (start, count) in thresholds.starts.iter_mut().zip(counts) {
            *start = u8::try_from(lower).unwrap_or(u8::MAX);
            lower += count;
        }
        let most = counts.into_iter().max().unwrap_or(0);
        thresholds.first_step = (most + 1).next_power_of_two() / 2;
        thresholds
    }

    fn rank(&self, threshold: T) -> usize {
        self.table.partition_point(|own| *own < threshold)
    }

    #[inline(always)]
    fn range(&self, value: T) -> u8 {
        value.range(self.least, self.scale)
    }
}

/// All trees as steps.
#[derive(Debug)]
pub(super) struct Blocks<T> {
    slots: Vec<Slot>,
    thresholds: Vec<Thresholds<T>>,
    steps: Vec<Step>,
    /// The end of the steps of each tree.
    ends: Vec<u32>,
    roots: Vec<Operand>,
    /// Choices that wait at a time.
    waiting: usize,
    /// Where the steps of a tree end at the latest: a node to which several others lead is evaluated for each of them.
    most_steps: usize,
}

impl<T: Real> Blocks<T> {
    /// `None` for forests that are too large for bytes.
    pub(super) fn new(forest: &Forest<T>) -> Option<Self> {
        if forest.trees.iter().any(|tree| tree.leaves > MOST_LEAVES) {
            return None;
        }
        let mut thresholds = vec![Vec::new(); forest.slots.len()];
        for split in forest.trees.iter().flat_map(|tree| &tree.splits) {
            let of = &mut thresholds[split.lower_slot as usize];
            of.push(split.threshold);
            if split.test != Test::AtMost {
                of.push(split.threshold.next_below());
            }
        }
        for of in &mut thresholds {
            of.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
            of.dedup();
        }
        if thresholds.iter().any(|of| of.len() > MOST_THRESHOLDS) {
            return None;
        }
        let mut blocks = Self {
            slots: forest.slots.clone(),
            thresholds: thresholds
                .iter()
                .map(|list| Thresholds::new(list))
                .collect(),
            steps: Vec::new(),
            ends: Vec::new(),
            roots: Vec::new(),
            waiting: 1,
            most_steps: 0,
        };
        for tree in &forest.trees {
            blocks.compile(tree)?;
        }
        Some(blocks)
    }

    /// Splits come after their children already; what waits is kept as on a stack, the deeper side first.
    fn compile(&mut self, tree: &Tree<T>) -> Option<()> {
        let mut depths = vec![0u32; tree.splits.len()];
        let depth_of = |child: Child, depths: &[u32]| match child {
            Child::Leaf(_) => 0,
            Child::Split(index) => depths[index as usize],
        };
        for (index, split) in tree.splits.iter().enumerate() {
            let (yes, no) = (depth_of(split.yes, &depths), depth_of(split.no, &depths));
            // The places that its subtree needs (Sethi and Ullman, 1970).
            depths[index] = if yes == no { yes + 1 } else { yes.max(no) };
        }
        self.most_steps = self.steps.len() + 2 * tree.splits.len() + 64;
        let root = self.child(tree, tree.root, 0, &depths)?;
        self.roots.push(root);
        self.ends.push(u32::try_from(self.steps.len()).ok()?);
        Some(())
    }

    /// Recursion is as deep as the tree, which has no more than 256 leaves.
    fn child(&mut self, tree: &Tree<T>, child: Child, free: u8, depths: &[u32]) -> Option<Operand> {
        let index = match child {
            Child::Leaf(leaf) => return Some(Operand::Leaf(u8::try_from(leaf).ok()?)),
            Child::Split(index) => index as usize,
        };
        if self.steps.len() >= self.most_steps {
            return None;
        }
        let split = tree.splits[index];
        let need = |child: Child| match child {
            Child::Leaf(_) => 0,
            Child::Split(index) => depths[index as usize],
        };
        let yes_first = need(split.yes) >= need(split.no);
        let (first, second) = if yes_first {
            (split.yes, split.no)
        } else {
            (split.no, split.yes)
        };
        let first = self.child(tree, first, free, depths)?;
        let next = if matches!(first, Operand::Chosen(_)) {
            free.checked_add(1)?
        } else {
            free
        };
        let second = self.child(tree, second, next, depths)?;
        let choice = match (first, second) {
            (Operand::Leaf(first), Operand::Leaf(second)) => {
                let (yes, no) = if yes_first {
                    (first, second)
                } else {
                    (second, first)
                };
                Choice::Leaves { yes, no }
            }
            // Both are at this place, as nothing waits beside them.
            (Operand::Chosen(_), Operand::Leaf(leaf)) if yes_first => Choice::StaysOr(leaf),
            (Operand::Chosen(_), Operand::Leaf(leaf)) => Choice::OrStays(leaf),
            (Operand::Leaf(leaf), Operand::Chosen(_)) if yes_first => Choice::OrStays(leaf),
            (Operand::Leaf(leaf), Operand::Chosen(_)) => Choice::StaysOr(leaf),
            (Operand::Chosen(_), Operand::Chosen(_)) if yes_first => Choice::StaysOrNext,
            (Operand::Chosen(_), Operand::Chosen(_)) => Choice::NextOrStays,
        };
        let rank = self.thresholds[split.lower_slot as usize].rank(split.threshold);
        self.steps.push(Step {
            slot: split.lower_slot,
            test: split.test,
            rank: u8::try_from(rank).ok()?,
            choice,
            to: free,
        });
        self.waiting = self.waiting.max(usize::from(free) + 1);
        Some(Operand::Chosen(free))
    }

    pub(super) fn size(&self) -> u64 {
        let thresholds = self.thresholds.len() * TABLE * size_of::<T>();
        (thresholds + self.steps.len() * size_of::<Step>() + self.roots.len() * 8) as u64
    }

    /// How many vectors of bytes a block needs: ranks of its slots and choices that wait.
    fn vectors(&self) -> usize {
        self.thresholds.len() + self.waiting
    }

    /// Finds the leaf of each of up to [`WIDTH`] rows in each tree, in order. `bytes` is memory that it may use.
    #[inline(always)]
    pub(super) fn leaves(
        &self,
        rows: &Rows<'_, T>,
        bytes: &mut Vec<u8>,
        each: impl FnMut(usize, &[u8]),
    ) {
        match rows.count {
            0..=32 => self.block::<32>(rows, bytes, each),
            33..=64 => self.block::<64>(rows, bytes, each),
            65..=128 => self.block::<128>(rows, bytes, each),
            _ => self.block::<WIDTH>(rows, bytes, each),
        }
    }

    #[inline(always)]
    fn block<const ROWS: usize>(
        &self,
        rows: &Rows<'_, T>,
        bytes: &mut Vec<u8>,
        mut each: impl FnMut(usize, &[u8]),
    ) {
        let needed = self.vectors() * ROWS;
        bytes.resize(needed.max(bytes.len()), 0);
        let (vectors, _) = bytes[..needed].as_chunks_mut::<ROWS>();
        let (ranks, chosen) = vectors.split_at_mut(self.thresholds.len());
        for ((slot, thresholds), ranks) in self.slots.iter().zip(&self.thresholds).zip(&mut *ranks)
        {
            thresholds.rank_all(rows, *slot, ranks);
        }
        let mut first = 0;
        for (tree, (end, root)) in self.ends.iter().zip(&self.roots).enumerate() {
            for step in &self.steps[first..*end as usize] {
                choose(step, &ranks[step.slot as usize], chosen);
            }
            first = *end as usize;
            match root {
                Operand::Leaf(leaf) => each(tree, &[*leaf; ROWS]),
                Operand::Chosen(at) => each(tree, &chosen[usize::from(*at)]),
            }
        }
    }
}

/// Some rows of numbers, one after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows<'r, T> {
    pub(super) elements: &'r [T],
    pub(super) count: usize,
    /// Numbers of a row; there may be none.
    pub(super) columns: usize,
}

impl<'r, T> Rows<'r, T> {
    pub(super) fn iter(&self) -> impl Iterator<Item = &'r [T]> {
        let Self {
            elements,
            count,
            columns,
        } = *self;
        (0..count).map(move |row| &elements[row * columns..][..columns])
    }
}

impl<T: Real> Thresholds<T> {
    /// The rank of the feature of this slot in each row.
    #[inline(always)]
    fn rank_all(&self, rows: &Rows<'_, T>, slot: Slot, ranks: &mut [u8]) {
        let missing = if slot.passes_missing { 0 } else { MISSING };
        for (row, rank) in rows.iter().zip(ranks) {
            let value = row[slot.feature as usize];
            let below = self.below(value);
            *rank = if value.is_nan_number() {
                missing
            } else {
                below
            };
        }
    }

    /// How many thresholds are below a value. Steps do not depend on the value, so that the processor searches for several
    /// rows at once.
    #[inline(always)]
    fn below(&self, value: T) -> u8 {
        let mut rank = usize::from(self.starts[usize::from(self.range(value))]);
        let mut step = self.first_step;
        while step > 0 {
            let is_below = self.table[(rank + step - 1) % TABLE] < value;
            // As a branch it would be mispredicted every other time.
            rank = select_unpredictable(is_below, rank + step, rank);
            step /= 2;
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "there are at most 254 thresholds"
        )]
        let rank = rank as u8;
        rank
    }
}

#[inline(always)]
fn choose<const ROWS: usize>(step: &Step, ranks: &[u8; ROWS], chosen: &mut [[u8; ROWS]]) {
    let rank = step.rank;
    match step.test {
        Test::AtMost => blend(step, ranks, chosen, |own| mask(own <= rank)),
        // Both the threshold and the number below it have ranks of their own.
        Test::Equal => blend(step, ranks, chosen, |own| mask(own == rank)),
        Test::EqualOrMissing => blend(step, ranks, chosen, |own| {
            mask(own == rank) | mask(own == MISSING)
        }),
    }
}

/// All bits, or none: a choice by bits is one that the compiler makes for many rows at once.
#[inline(always)]
fn mask(passes: bool) -> u8 {
    0u8.wrapping_sub(u8::from(passes))
}

#[inline(always)]
fn blend<const ROWS: usize>(
    step: &Step,
    ranks: &[u8; ROWS],
    chosen: &mut [[u8; ROWS]],
    mask: impl Fn(u8) -> u8,
) {
    let to = usize::from(step.to);
    let (place, next) = chosen.split_at_mut(to + 1);
    let place = &mut place[to];
    match step.choice {
        Choice::Leaves { yes, no } => {
            for (place, rank) in place.iter_mut().zip(ranks) {
                *place = no ^ ((yes ^ no) & mask(*rank));
            }
        }
        Choice::StaysOr(leaf) => {
            for (place, rank) in place.iter_mut().zip(ranks) {
                *place = leaf ^ ((*place ^ leaf) & mask(*rank));
            }
        }
        Choice::OrStays(leaf) => {
            for (place, rank) in place.iter_mut().zip(ranks) {
                *place ^= (*place ^ leaf) & mask(*rank);
            }
        }
        Choice::StaysOrNext => {
            for ((place, next), rank) in place.iter_mut().zip(&next[0]).zip(ranks) {
                *place = next ^ ((*place ^ next) & mask(*rank));
            }
        }
        Choice::NextOrStays => {
            for ((place, next), rank) in place.iter_mut().zip(&next[0]).zip(ranks) {
                *place ^= (*place ^ next) & mask(*rank);
            }
        }
    }
}
