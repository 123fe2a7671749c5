//! Memory for runs: what a run takes is known before it starts, and charged for as long as it lasts.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::error::BatchError;
use crate::budget::{Allowance, Budget};
use crate::engine::Outputs;
use crate::model::{Batch, Extent, Needs, Work};
use crate::tensor::Value;

/// Sizes of runs whose needs are kept.
const MOST_KNOWN: usize = 128;

/// A run that takes more bytes than this is not done where the request is, however quick one row is.
const IN_PLACE_BYTES: u64 = 4 << 20;

/// Nor one with more to do.
const IN_PLACE_WORK: u64 = 4 << 20;

/// What runs of one model take, and where that is charged.
#[derive(Debug)]
pub(super) struct Room {
    work: Work,
    budget: Budget,
    known: Mutex<Known>,
}

/// Needs that were found before.
#[derive(Debug, Default)]
struct Known {
    /// Those of the last run: mostly the next one is as large.
    last: Option<(Vec<Extent>, Needs)>,
    others: HashMap<Vec<Extent>, Needs>,
}

impl Known {
    fn get(&self, extents: &Vec<Extent>) -> Option<Needs> {
        match &self.last {
            Some((last, needs)) if last == extents => Some(*needs),
            _ => self.others.get(extents).copied(),
        }
    }

    fn note(&mut self, extents: Vec<Extent>, needs: Needs) {
        if self.others.len() >= MOST_KNOWN {
            self.others.clear();
        }
        self.others.insert(extents.clone(), needs);
        self.last = Some((extents, needs));
    }
}

impl Room {
    pub(super) fn new(work: Work, budget: Budget) -> Self {
        Self {
            work,
            budget,
            known: Mutex::default(),
        }
    }

    /// What a run of these requests together takes.
    pub(super) fn needs(&self, batches: &[&Batch]) -> Needs {
        self.needs_of(Batch::extents(batches))
    }

    /// What a run of so many of its rows takes, at most.
    pub(super) fn needs_of_rows(&self, batch: &Batch, rows: usize) -> Needs {
        self.needs_of(batch.extents_of_rows(rows))
    }

    fn needs_of(&self, extents: Vec<Extent>) -> Needs {
        // Not followed under the lock.
        let known = self.known.lock().get(&extents);
        if let Some(needs) = known {
            return needs;
        }
        let needs = self.work.needs(&extents);
        self.known.lock().note(extents, needs);
        needs
    }

    /// Whether a run is so small that it may be done on the thread of a connection.
    pub(super) fn may_be_in_place(&self, needs: Needs) -> bool {
        self.work.open().is_none() && needs.bytes <= IN_PLACE_BYTES && needs.work <= IN_PLACE_WORK
    }

    /// Whether a part of a request, beside what the whole request gives, can never be run. Outputs are there twice: in
    /// parts, and put together.
    pub(super) fn part_is_too_much(&self, part: Needs, whole: Needs) -> bool {
        let outputs = whole.outputs.saturating_mul(2);
        self.exceeds(part.bytes.saturating_add(outputs))
    }

    /// Holds what the outputs of a part take until the request is done.
    ///
    /// # Errors
    /// When no request may hold so much, or when others have it now.
    pub(super) fn keep(&self, held: &Allowance, outputs: &Outputs) -> Result<(), BatchError> {
        let bytes = 2 * outputs.iter().map(Value::size).sum::<usize>();
        let together = held.used().saturating_add(bytes) as u64;
        if self.exceeds(together) {
            return Err(self.too_much(together));
        }
        Ok(held.charge(bytes)?)
    }

    /// Nothing yet of what a request will hold.
    pub(super) fn nothing(&self) -> Allowance {
        self.budget.allowance(usize::MAX)
    }

    /// Whether no run may ever take so much.
    pub(super) fn is_too_much(&self, needs: Needs) -> bool {
        self.exceeds(needs.bytes)
    }

    fn exceeds(&self, bytes: u64) -> bool {
        usize::try_from(bytes).map_or(true, |bytes| bytes > self.budget.limit())
    }

    /// Why a run that takes so much cannot be, ever.
    pub(super) fn too_much(&self, bytes: u64) -> BatchError {
        BatchError::TooLarge {
            bytes,
            limit: self.budget.limit(),
        }
    }

    /// So much memory, for as long as the result lives.
    ///
    /// # Errors
    /// When no run may take so much, or when others have it now.
    pub(super) fn take(&self, needs: Needs) -> Result<Allowance, BatchError> {
        if self.is_too_much(needs) {
            return Err(self.too_much(needs.bytes));
        }
        let allowance = self.nothing();
        let bytes = usize::try_from(needs.bytes).unwrap_or(usize::MAX);
        allowance.charge(bytes).map_err(BatchError::from)?;
        Ok(allowance)
    }
}
