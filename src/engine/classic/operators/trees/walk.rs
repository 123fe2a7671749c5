//! The kernel for a few rows and for large trees: from the root to a leaf, many walks at a time. One row walks many trees;
//! where the trees are larger than the caches, many rows walk one tree, so that it is fetched once for all of them.
//!
//! Nodes are small and have no branches: the next node is so far ahead, or the one behind it when the value is larger
//! than the threshold. A leaf leads to itself, through a slot that is lower than everything. So walks of different lengths can go
//! on side by side, and the processor waits for many of their loads at once.

use super::Real;
use super::forest::{Child, Forest, Test, Tree};

/// Trees that one row walks at a time.
const TREES: usize = 16;

/// Rows that walk one tree at a time.
pub(super) const ROWS: usize = 16;

/// Rows of so many slots, or fewer, lie in arrays of this length: then no step has to check where it reads.
pub(super) const NARROW: usize = 64;

/// Walks of trees up to this depth all take as many steps; of deeper ones few leaves are that deep.
const SHALLOW: u32 = 10;

/// A slot or a distance in a node.
pub(super) trait Index: Copy + Default + Send + Sync + 'static {
    fn new(index: usize) -> Option<Self>;
    fn get(self) -> usize;
    fn get32(self) -> u32;

    /// The distance from one place to another one.
    fn between(from: usize, to: usize) -> Option<Self>;
}

impl Index for u16 {
    fn new(index: usize) -> Option<Self> {
        Self::try_from(index).ok()
    }

    fn get(self) -> usize {
        self.into()
    }

    fn get32(self) -> u32 {
        self.into()
    }

    fn between(from: usize, to: usize) -> Option<Self> {
        Self::new(to.checked_sub(from)?)
    }
}

impl Index for u32 {
    fn new(index: usize) -> Option<Self> {
        Self::try_from(index).ok()
    }

    fn get(self) -> usize {
        self as usize
    }

    fn get32(self) -> u32 {
        self
    }

    fn between(from: usize, to: usize) -> Option<Self> {
        let (from, to) = (Self::new(from)?, Self::new(to)?);
        Some(to.wrapping_sub(from))
    }
}

/// A node: 8 bytes with FP32 and `u16`.
#[derive(Debug, Clone, Copy)]
struct Node<T, I> {
    /// Of a leaf: its payload.
    threshold: T,
    slot: I,
    /// From here to the first child; the other one is behind it. Of a leaf 0.
    ahead: I,
}

/// All trees, packed.
#[derive(Debug)]
pub(super) struct Walker<T, I> {
    nodes: Vec<Node<T, I>>,
    blocks: Vec<Block>,
    trees: usize,
}

/// Trees that one row walks at a time.
#[derive(Debug, Clone, Copy)]
struct Block {
    /// Where each tree begins. Lanes without a tree do again what the first one does.
    starts: [u32; TREES],
    /// Steps to the lowest leaf of each tree.
    depths: [u32; TREES],
    /// The largest of them.
    depth: u32,
}

impl<T: Real, I: Index> Walker<T, I> {
    /// Packs a forest; `payload` is what a walk that ends in a leaf, counted over all trees, brings back: no NaN. `None`
    /// when indices of this width do not suffice.
    pub(super) fn new(forest: &Forest<T>, payload: impl Fn(&Tree<T>, u32) -> T) -> Option<Self> {
        let leaf_slot = I::new(forest.slots.len())?;
        let mut walker = Self {
            nodes: Vec::new(),
            blocks: Vec::with_capacity(forest.trees.len().div_ceil(TREES)),
            trees: forest.trees.len(),
        };
        for trees in forest.trees.chunks(TREES) {
            let mut block = Block {
                starts: [u32::try_from(walker.nodes.len()).ok()?; TREES],
                depths: [0; TREES],
                depth: 0,
            };
            for (lane, tree) in trees.iter().enumerate() {
                block.starts[lane] = u32::try_from(walker.nodes.len()).ok()?;
                block.depths[lane] = walker.pack(tree, leaf_slot, &payload)?;
                block.depth = block.depth.max(block.depths[lane]);
            }
            walker.blocks.push(block);
        }
        Some(walker)
    }

    /// Packs a tree; answers with the steps to its lowest leaf.
    fn pack(
        &mut self,
        tree: &Tree<T>,
        leaf_slot: I,
        payload: impl Fn(&Tree<T>, u32) -> T,
    ) -> Option<u32> {
        /// What stands at a place.
        #[derive(Clone, Copy)]
        enum Content {
            Child(Child),
            /// The second half of a test for equality.
            Lower(u32),
            /// Leads on to another place.
            Forward(usize),
        }
        let empty = Node {
            threshold: T::ZERO,
            slot: leaf_slot,
            ahead: I::default(),
        };
        // Several nodes may lead to one: it has one place, to which the others lead on.
        let mut placed: Vec<Option<usize>> = vec![None; tree.splits.len()];
        let mut open = vec![(self.nodes.len(), Content::Child(tree.root), 0)];
        let mut deepest = 0;
        self.nodes.push(empty);
        while let Some((place, content, depth)) = open.pop() {
            deepest = deepest.max(depth);
            let mut pair = |nodes: &mut Vec<Node<T, I>>, yes: Content, no: Content| {
                let first = nodes.len();
                nodes.extend([empty, empty]);
                open.extend([(first + 1, no, depth + 1), (first, yes, depth + 1)]);
                first
            };
            let (threshold, slot, next) = match content {
                Content::Child(Child::Leaf(leaf)) => (payload(tree, leaf), None, place),
                Content::Forward(to) => {
                    // How far it is from there is not followed.
                    deepest = u32::MAX - 1;
                    (T::ZERO, None, to)
                }
                Content::Child(Child::Split(index)) if let Some(to) = placed[index as usize] => {
                    deepest = u32::MAX - 1;
                    (T::ZERO, None, to)
                }
                Content::Child(Child::Split(index)) => {
                    placed[index as usize] = Some(place);
                    let split = &tree.splits[index as usize];
                    let [yes, no] = [split.yes, split.no].map(Content::Child);
                    let next = match split.test {
                        Test::AtMost => pair(&mut self.nodes, yes, no),
                        Test::Equal | Test::EqualOrMissing => {
                            // Larger: no. Else the lower half decides; its "no" is behind this pair.
                            let lower_no = self.nodes.len() + 2;
                            let lower = Content::Lower(index);
                            pair(&mut self.nodes, lower, Content::Forward(lower_no))
                        }
                    };
                    (split.threshold, Some(split.slot), next)
                }
                Content::Lower(index) => {
                    let split = &tree.splits[index as usize];
                    let [yes, no] = [split.yes, split.no].map(Content::Child);
                    let next = pair(&mut self.nodes, no, yes);
                    (split.threshold.next_below(), Some(split.lower_slot), next)
                }
            };
            let slot = match slot {
                Some(slot) => I::new(slot as usize)?,
                None => leaf_slot,
            };
            self.nodes[place] = Node {
                threshold,
                slot,
                // What leads back needs the wider form, whose sums wrap around.
                ahead: I::between(place, next)?,
            };
        }
        Some(deepest)
    }

    pub(super) fn size(&self) -> u64 {
        (self.nodes.len() * size_of::<Node<T, I>>() + self.blocks.len() * size_of::<Block>()) as u64
    }

    /// Walks each tree for one row, whose last slot is lower than everything; `each` gets tree and payload, in order.
    pub(super) fn row(&self, slots: &[T], mut each: impl FnMut(usize, T)) {
        for (index, block) in self.blocks.iter().enumerate() {
            let places = match <&[T; NARROW]>::try_from(slots).ok() {
                Some(slots) => {
                    self.leaves(block.starts, block.depth, |_, slot| slots[slot % NARROW])
                }
                None => self.leaves(block.starts, block.depth, |_, slot| slots[slot]),
            };
            let first = index * TREES;
            for (lane, place) in places.iter().enumerate().take(self.trees - first) {
                each(first + lane, self.nodes[*place as usize].threshold);
            }
        }
    }

    /// Walks one tree for [`ROWS`] rows, each slot of which stands beside that of the other rows; `each` gets row and
    /// payload.
    pub(super) fn tree(&self, tree: usize, slots: &[T], mut each: impl FnMut(usize, T)) {
        let block = &self.blocks[tree / TREES];
        let lane = tree % TREES;
        let (places, depth) = ([block.starts[lane]; ROWS], block.depths[lane]);
        let places = match <&[T; NARROW * ROWS]>::try_from(slots).ok() {
            Some(slots) => self.leaves(places, depth, |lane, slot| {
                slots[slot % NARROW * ROWS + lane]
            }),
            None => self.leaves(places, depth, |lane, slot| slots[slot * ROWS + lane]),
        };
        for (row, place) in places.iter().enumerate() {
            each(row, self.nodes[*place as usize].threshold);
        }
    }

    /// From these nodes to leaves, side by side.
    #[inline]
    fn leaves<const LANES: usize>(
        &self,
        mut places: [u32; LANES],
        depth: u32,
        value: impl Fn(usize, usize) -> T,
    ) -> [u32; LANES] {
        let nodes = self.nodes.as_slice();
        let step = |places: &mut [u32; LANES]| {
            let mut moved = 0;
            for (lane, place) in places.iter_mut().enumerate() {
                let node = &nodes[*place as usize];
                #[expect(clippy::neg_cmp_op_on_partial_ord, reason = "NaN goes to the right")]
                let is_right = !(value(lane, node.slot.get()) <= node.threshold);
                let next = place
                    .wrapping_add(node.ahead.get32())
                    .wrapping_add(u32::from(is_right));
                moved |= next ^ *place;
                *place = next;
            }
            moved
        };
        if depth <= SHALLOW {
            for _ in 0..depth {
                step(&mut places);
            }
            return places;
        }
        loop {
            step(&mut places);
            if step(&mut places) == 0 {
                return places;
            }
        }
    }
}
