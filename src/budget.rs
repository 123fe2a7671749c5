//! Memory that requests may hold: each by itself, and all of the process together.
//!
//! Decoders charge what they are about to allocate before they allocate it, so that a small body can never become a large
//! one in memory unnoticed. What a request was charged returns when its [`Allowance`] is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{ErrorKind, Kinded};

/// How many times `server.max_body` a request may hold while it is decoded: its body, and what is made of it.
pub const BODY_MULTIPLE: usize = 4;

/// Why a request gets no more memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OverBudget {
    /// It would hold more than any request may.
    #[error(
        "the request needs more than {limit} bytes of memory, {BODY_MULTIPLE} times `server.max_body`: send fewer rows \
         in each request"
    )]
    Request {
        /// Bytes that one request may hold.
        limit: usize,
    },
    /// Together with the other requests it would hold more than the process may.
    #[error(
        "the requests in progress hold all of the {limit} bytes that they may (`limits.memory`): try again later"
    )]
    Process {
        /// Bytes that all requests may hold together.
        limit: usize,
    },
}

impl Kinded for OverBudget {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Request { .. } => ErrorKind::TooLarge,
            Self::Process { .. } => ErrorKind::Overloaded,
        }
    }
}

/// What all requests of the process may hold together. Clones share one budget.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Pool {
            limit,
            used: AtomicUsize::new(0),
        }))
    }

    /// A budget that nothing exceeds.
    pub fn unlimited() -> Self {
        Self::new(usize::MAX)
    }

    /// Bytes that requests hold now.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Bytes that requests may hold together.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// The allowance of one request of at most `limit` bytes; nothing is charged yet.
    pub fn allowance(&self, limit: usize) -> Allowance {
        Allowance(Arc::new(Account {
            pool: Arc::clone(&self.0),
            limit,
            used: AtomicUsize::new(0),
        }))
    }
}

/// What one request may hold. Clones share one allowance; when the last is dropped, all of it returns to the process.
#[derive(Debug, Clone)]
pub struct Allowance(Arc<Account>);

#[derive(Debug)]
struct Account {
    pool: Arc<Pool>,
    limit: usize,
    used: AtomicUsize,
}

impl Allowance {
    /// An allowance that nothing exceeds, for what no client sends.
    pub fn unlimited() -> Self {
        Budget::unlimited().allowance(usize::MAX)
    }

    /// Charges so many bytes, before they are allocated.
    ///
    /// # Errors
    /// [`OverBudget`]: nothing was charged.
    pub fn charge(&self, bytes: usize) -> Result<(), OverBudget> {
        let account = &*self.0;
        add(&account.used, bytes, account.limit).map_err(|()| OverBudget::Request {
            limit: account.limit,
        })?;
        let pool = &*account.pool;
        add(&pool.used, bytes, pool.limit).map_err(|()| {
            account.used.fetch_sub(bytes, Ordering::Relaxed);
            OverBudget::Process { limit: pool.limit }
        })
    }

    /// Charges `count` values of type `T`.
    ///
    /// # Errors
    /// [`OverBudget`]: nothing was charged.
    pub fn charge_many<T>(&self, count: usize) -> Result<(), OverBudget> {
        self.charge(count.saturating_mul(size_of::<T>()))
    }

    /// Gives back what was charged and is freed before the request ends.
    pub fn release(&self, bytes: usize) {
        let account = &*self.0;
        let bytes = bytes.min(account.used.load(Ordering::Relaxed));
        account.used.fetch_sub(bytes, Ordering::Relaxed);
        account.pool.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes that were charged so far.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let used = *self.used.get_mut();
        self.pool.used.fetch_sub(used, Ordering::Relaxed);
    }
}

/// Adds unless the sum would exceed the limit.
fn add(used: &AtomicUsize, bytes: usize, limit: usize) -> Result<(), ()> {
    let sum = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= limit);
    used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum)
        .map(drop)
        .map_err(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_holds_no_more_than_it_may_and_all_together_no_more_than_the_process() {
        let budget = Budget::new(100);
        let (one, other) = (budget.allowance(60), budget.allowance(60));
        one.charge(60).unwrap();
        assert_eq!(one.charge(1), Err(OverBudget::Request { limit: 60 }));
        other.charge(40).unwrap();
        assert_eq!(other.charge(1), Err(OverBudget::Process { limit: 100 }));
        assert_eq!((one.used(), other.used(), budget.used()), (60, 40, 100));
        let clone = one.clone();
        drop(one);
        assert_eq!(budget.used(), 100);
        drop(clone);
        assert_eq!(budget.used(), 40);
        other.charge(20).unwrap();
        other.release(30);
        assert_eq!((other.used(), budget.used()), (30, 30));
    }

    #[test]
    fn a_sum_beyond_all_numbers_is_refused() {
        let allowance = Budget::unlimited().allowance(usize::MAX);
        allowance.charge(2).unwrap();
        let refused = allowance.charge_many::<u64>(usize::MAX);
        assert_eq!(refused, Err(OverBudget::Request { limit: usize::MAX }));
        assert_eq!(allowance.used(), 2);
    }
}
