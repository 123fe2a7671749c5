//! The kernel for many rows of small trees: every split of a tree is evaluated for 64 rows at once.
//!
//! The value of a feature is replaced by its rank among the thresholds of that feature, one byte. A split is then one
//! comparison and one choice between two vectors of leaves, from the lowest splits up: no branches, no loads that depend
//! on each other (compare QuickScorer, Lucchese et al., SIGIR 2015, which has masks of leaves instead).

use std::hint::select_unpredictable;

use super::Real;
use super::forest::{Child, Forest, Test, Tree};

/// Rows of a block.
pub(super) const WIDTH: usize = 64;

/// The value of each row of a block in one byte.
pub(super) type Lanes = [u8; WIDTH];

/// Largest trees: a leaf is one byte.
const MOST_LEAVES: usize = 256;

/// Most thresholds of a slot: the ranks of numbers end below that of what is missing.
const MOST_THRESHOLDS: usize = 254;

/// The rank of what is missing: it passes no test "at most".
const MISSING: u8 = u8::MAX;

/// What a split chooses between.
#[derive(Debug, Clone, Copy)]
enum Operand {
    Leaf(u8),
    /// What an earlier split of the tree has chosen.
    Chosen(u8),
}

#[derive(Debug, Clone, Copy)]
struct Step {
    slot: u32,
    test: Test,
    rank: u8,
    yes: Operand,
    no: Operand,
    /// Where the choice goes.
    to: u8,
}

/// Places for the thresholds of a slot.
const TABLE: usize = 256;

/// The thresholds of a slot, ascending, and behind them infinity.
#[derive(Debug)]
struct Thresholds<T> {
    table: Box<[T; TABLE]>,
    /// Of a search: the largest power of two that is not larger than their number.
    first_step: usize,
}

impl<T: Real> Thresholds<T> {
    fn new(list: &[T]) -> Self {
        let mut table = Box::new([T::HIGHEST; TABLE]);
        table[..list.len()].copy_from_slice(list);
        Self {
            table,
            first_step: (list.len() + 1).next_power_of_two() / 2,
        }
    }

    fn rank(&self, threshold: T) -> usize {
        self.table.partition_point(|own| *own < threshold)
    }
}

/// All trees as steps.
#[derive(Debug)]
pub(super) struct Blocks<T> {
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
        let (yes, no) = if yes_first {
            (first, second)
        } else {
            (second, first)
        };
        let rank = self.thresholds[split.lower_slot as usize].rank(split.threshold);
        self.steps.push(Step {
            slot: split.lower_slot,
            test: split.test,
            rank: u8::try_from(rank).ok()?,
            yes,
            no,
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

    /// Finds the leaf of each of the first rows of a block in each tree, in order. `value` gives the value of a row in a slot.
    pub(super) fn block<const ROWS: usize>(
        &self,
        vectors: &mut Vec<Lanes>,
        value: impl Fn(usize, usize) -> T,
        mut each: impl FnMut(usize, &Lanes),
    ) {
        vectors.resize(self.vectors().max(vectors.len()), [0; WIDTH]);
        let (ranks, chosen) = vectors.split_at_mut(self.thresholds.len());
        for (slot, ranks) in ranks.iter_mut().enumerate() {
            let Thresholds { table, first_step } = &self.thresholds[slot];
            for (row, rank) in ranks[..ROWS].iter_mut().enumerate() {
                *rank = rank_of(table, *first_step, value(slot, row));
            }
        }
        let mut first = 0;
        for (tree, (end, root)) in self.ends.iter().zip(&self.roots).enumerate() {
            for step in &self.steps[first..*end as usize] {
                choose::<ROWS>(step, &ranks[step.slot as usize], chosen);
            }
            first = *end as usize;
            match root {
                Operand::Leaf(leaf) => each(tree, &[*leaf; WIDTH]),
                Operand::Chosen(at) => each(tree, &chosen[usize::from(*at)]),
            }
        }
    }
}

/// How many thresholds are below a value. Steps do not depend on the value, so that the processor searches for several
/// rows at once.
#[inline]
fn rank_of<T: Real>(thresholds: &[T; TABLE], first_step: usize, value: T) -> u8 {
    let mut rank = 0usize;
    let mut step = first_step;
    while step > 0 {
        let is_below = thresholds[(rank + step - 1) % TABLE] < value;
        // As a branch it would be mispredicted every other time.
        rank = select_unpredictable(is_below, rank + step, rank);
        step /= 2;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "there are at most 254 thresholds"
    )]
    let rank = rank as u8;
    if value.is_nan_number() { MISSING } else { rank }
}

#[inline]
fn choose<const ROWS: usize>(step: &Step, ranks: &Lanes, chosen: &mut [Lanes]) {
    let rank = step.rank;
    match step.test {
        Test::AtMost => blend::<ROWS>(step, chosen, |row| mask(ranks[row] <= rank)),
        // Both the threshold and the number below it have ranks of their own.
        Test::Equal => blend::<ROWS>(step, chosen, |row| mask(ranks[row] == rank)),
        Test::EqualOrMissing => blend::<ROWS>(step, chosen, |row| {
            mask(ranks[row] == rank) | mask(ranks[row] == MISSING)
        }),
    }
}

/// All bits, or none: a choice by bits is one that the compiler makes for many rows at once.
#[inline]
fn mask(passes: bool) -> u8 {
    0u8.wrapping_sub(u8::from(passes))
}

#[inline]
fn blend<const ROWS: usize>(step: &Step, chosen: &mut [Lanes], mask: impl Fn(usize) -> u8) {
    let to = usize::from(step.to);
    match (step.yes, step.no) {
        (Operand::Leaf(yes), Operand::Leaf(no)) => {
            each::<ROWS>(&mut chosen[to], mask, |_| yes, |_| no)
        }
        (Operand::Leaf(yes), Operand::Chosen(no)) => {
            let no = chosen[usize::from(no)];
            each::<ROWS>(&mut chosen[to], mask, |_| yes, |row| no[row]);
        }
        (Operand::Chosen(yes), Operand::Leaf(no)) => {
            let yes = chosen[usize::from(yes)];
            each::<ROWS>(&mut chosen[to], mask, |row| yes[row], |_| no);
        }
        (Operand::Chosen(yes), Operand::Chosen(no)) => {
            let (yes, no) = (chosen[usize::from(yes)], chosen[usize::from(no)]);
            each::<ROWS>(&mut chosen[to], mask, |row| yes[row], |row| no[row]);
        }
    }
}

#[inline]
fn each<const ROWS: usize>(
    choice: &mut Lanes,
    mask: impl Fn(usize) -> u8,
    yes: impl Fn(usize) -> u8,
    no: impl Fn(usize) -> u8,
) {
    for (row, choice) in choice[..ROWS].iter_mut().enumerate() {
        let mask = mask(row);
        *choice = (yes(row) & mask) | (no(row) & !mask);
    }
}
