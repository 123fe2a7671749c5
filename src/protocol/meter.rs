//! What one decoder charges to the allowance of its request, before it allocates.
//!
//! Allocations are charged as they are on the heap: rounded up, with the allocator's own books. Small ones come out of a
//! slice that was taken of the allowance at once, as all threads of the process count in one place.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;

use crate::budget::{Allowance, OverBudget};
use crate::tensor::Tensor;

/// Taken at once for small allocations.
const SLICE: usize = 16 << 10;

/// What a block of the heap is a multiple of, at least twice, and what the allocator keeps of it for itself.
const UNIT: usize = 16;
const BOOKS: usize = 8;

/// Bytes that an allocation of this size takes on the heap.
pub(crate) fn block(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        1..=24 => 2 * UNIT,
        more => more.saturating_add(BOOKS + UNIT - 1) / UNIT * UNIT,
    }
}

/// The same of a vector or a text with room for so many items.
pub(crate) fn block_of<T>(capacity: usize) -> usize {
    block(capacity.saturating_mul(size_of::<T>()))
}

/// Bytes that the elements of a tensor take on the heap.
pub(crate) fn tensor_heap(tensor: &Tensor) -> usize {
    match tensor.as_strings() {
        None => block(tensor.bytes().len()),
        Some(texts) => {
            let heap = texts.iter().map(|text| block(text.capacity()));
            block_of::<String>(texts.len()) + heap.sum::<usize>()
        }
    }
}

/// Counts what one decoder holds. Clones count together; when the last is dropped, all of it returns that was not kept.
#[derive(Debug, Clone)]
pub(crate) struct Meter(Rc<Account>);

#[derive(Debug)]
struct Account {
    allowance: Allowance,
    /// What is held, of what was charged.
    held: Cell<usize>,
    /// What was charged beyond that.
    left: Cell<usize>,
}

impl Meter {
    /// A meter of this request.
    pub(crate) fn new(allowance: &Allowance) -> Self {
        Self(Rc::new(Account {
            allowance: allowance.clone(),
            held: Cell::new(0),
            left: Cell::new(0),
        }))
    }

    /// A meter that refuses nothing, for what no client sends.
    pub(crate) fn unlimited() -> Self {
        Self::new(&Allowance::unlimited())
    }

    /// Charges so many bytes.
    ///
    /// # Errors
    /// [`OverBudget`]: nothing was charged.
    #[inline]
    pub(crate) fn charge(&self, bytes: usize) -> Result<(), OverBudget> {
        let account = &*self.0;
        match account.left.get().checked_sub(bytes) {
            Some(left) => account.left.set(left),
            None => account.take(bytes)?,
        }
        account.held.set(account.held.get() + bytes);
        Ok(())
    }

    /// Charges a vector of so many items.
    ///
    /// # Errors
    /// [`OverBudget`].
    pub(crate) fn charge_many<T>(&self, count: usize) -> Result<(), OverBudget> {
        self.charge(block_of::<T>(count))
    }

    /// Gives back what is freed.
    pub(crate) fn release(&self, bytes: usize) {
        let account = &*self.0;
        let bytes = bytes.min(account.held.get());
        account.held.set(account.held.get() - bytes);
        account.left.set(account.left.get() + bytes);
        // What is large is for others too.
        if account.left.get() > 2 * SLICE {
            account.allowance.release(account.left.get() - SLICE);
            account.left.set(SLICE);
        }
    }

    /// Bytes that are held now.
    pub(crate) fn held(&self) -> usize {
        self.0.held.get()
    }

    /// Gives back what was charged since `held` was what it was, but for `kept` bytes.
    pub(crate) fn settle(&self, held: usize, kept: usize) {
        let since = self.held().saturating_sub(held);
        self.release(since.saturating_sub(kept));
    }

    /// Holds as many bytes as the caller knows that it does.
    ///
    /// # Errors
    /// [`OverBudget`].
    pub(crate) fn hold(&self, bytes: usize) -> Result<(), OverBudget> {
        match bytes.checked_sub(self.held()) {
            Some(more) => self.charge(more),
            None => {
                self.release(self.held() - bytes);
                Ok(())
            }
        }
    }

    /// Leaves so many bytes charged to the request when the decoder ends: those of what it made.
    pub(crate) fn keep(&self, bytes: usize) {
        self.settle(0, bytes);
        self.0.held.set(0);
    }

    /// Frees the body, which the request was charged with, unless somebody still reads it.
    pub(crate) fn free(&self, body: Bytes) {
        let size = body.len();
        if body.is_unique() {
            drop(body);
            self.0.allowance.release(size);
        }
    }

    /// Makes room for one more item.
    ///
    /// # Errors
    /// [`OverBudget`].
    #[inline]
    pub(crate) fn room<T>(&self, items: &mut Vec<T>) -> Result<(), OverBudget> {
        if items.len() < items.capacity() {
            return Ok(());
        }
        self.grow(items)
    }

    /// By a quarter: what is made for a hundred million items and never filled is refused to somebody.
    #[cold]
    fn grow<T>(&self, items: &mut Vec<T>) -> Result<(), OverBudget> {
        let capacity = items.capacity();
        let more = match capacity {
            0 => 4,
            1..64 => capacity,
            many => many / 4,
        };
        let before = block_of::<T>(capacity);
        self.charge(block_of::<T>(capacity + more).saturating_sub(before))?;
        items.reserve_exact(more);
        Ok(())
    }

    /// Adds an item.
    ///
    /// # Errors
    /// [`OverBudget`].
    #[inline]
    pub(crate) fn push<T>(&self, items: &mut Vec<T>, item: T) -> Result<(), OverBudget> {
        self.room(items)?;
        items.push(item);
        Ok(())
    }

    /// An empty vector with room for so many items.
    ///
    /// # Errors
    /// [`OverBudget`].
    pub(crate) fn vec<T>(&self, capacity: usize) -> Result<Vec<T>, OverBudget> {
        self.charge(block_of::<T>(capacity))?;
        Ok(Vec::with_capacity(capacity))
    }

    /// A copy of a text.
    ///
    /// # Errors
    /// [`OverBudget`].
    pub(crate) fn text(&self, text: &str) -> Result<String, OverBudget> {
        self.charge(block(text.len()))?;
        Ok(text.to_owned())
    }
}

impl Account {
    fn take(&self, bytes: usize) -> Result<(), OverBudget> {
        let left = self.left.get();
        let missing = bytes - left;
        // The last few bytes are taken one by one.
        let taken = match self.allowance.charge(missing.max(SLICE)) {
            Ok(()) => missing.max(SLICE),
            Err(_) if missing < SLICE => self.allowance.charge(missing).map(|()| missing)?,
            Err(over) => return Err(over),
        };
        self.left.set(left + taken - bytes);
        Ok(())
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.allowance.release(self.held.get() + self.left.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;

    #[test]
    fn blocks_are_what_the_allocator_makes_of_them() {
        for (bytes, expected) in [(0, 0), (1, 32), (24, 32), (25, 48), (40, 48), (41, 64)] {
            assert_eq!(block(bytes), expected, "{bytes}");
        }
        assert!(block(usize::MAX) > usize::MAX / 2);
    }

    #[test]
    fn what_is_held_is_charged_and_returns_unless_it_is_kept() {
        let budget = Budget::new(1 << 20);
        let allowance = budget.allowance(100_000);
        let meter = Meter::new(&allowance);
        meter.charge(10).unwrap();
        assert_eq!((meter.held(), allowance.used()), (10, SLICE));
        meter.charge(99_900).unwrap();
        assert_eq!(allowance.used(), 99_910, "the last bytes one by one");
        assert!(meter.charge(200).is_err() && meter.charge(90).is_ok());
        meter.release(99_990);
        assert_eq!((meter.held(), allowance.used()), (10, SLICE + 10));
        let held = meter.held();
        meter.charge(5_000).unwrap();
        meter.settle(held, 100);
        assert_eq!(meter.held(), 110);
        meter.keep(60);
        drop(meter);
        assert_eq!(allowance.used(), 60);
        drop(Meter::new(&allowance));
        assert_eq!(allowance.used(), 60);
    }

    #[test]
    fn a_vector_grows_by_what_was_charged_first() {
        let allowance = Budget::unlimited().allowance(40_000);
        let meter = Meter::new(&allowance);
        let mut items = Vec::new();
        let pushed = (0_u64..10_000).take_while(|&item| meter.push(&mut items, item).is_ok());
        let pushed = pushed.count();
        assert!((4_000..5_000).contains(&pushed), "{pushed}");
        assert_eq!(meter.held(), block_of::<u64>(items.capacity()));
    }

    #[test]
    fn a_body_is_freed_when_nobody_else_reads_it() {
        let allowance = Budget::unlimited().allowance(1000);
        allowance.charge(100).unwrap();
        let meter = Meter::new(&allowance);
        let body = Bytes::from(vec![1; 100]);
        meter.free(body.clone());
        assert_eq!(allowance.used(), 100);
        meter.free(body);
        assert_eq!(allowance.used(), 0);
    }
}
