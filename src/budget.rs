//! Memory that requests may hold: each by itself, and all of the process together.
//!
//! Decoders charge what they are about to allocate before they allocate it, so that a small body can never become a large
//! one in memory unnoticed. What a request was charged returns when its [`Allowance`] is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crate::error::{ErrorKind, Kinded};

/// How many times `server.max_body` a request may hold while it is decoded: its body, and what is made of it.
pub const BODY_MULTIPLE: usize = 4;

/// A request that holds no more than this may take what is kept back from larger ones: however much those take, it is
/// answered.
const SMALL: usize = 64 << 10;

/// The part of a budget that is kept back, when that is enough for a few small requests.
const KEPT_BACK: usize = 8;

/// Why a request gets no more memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OverBudget {
    /// It would hold more than any request may.
    #[error(
        "the request needs more than {limit} bytes of memory ({BODY_MULTIPLE} times `server.max_body`, and no more than \
         `limits.memory`): send fewer rows in each request"
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

/// What any request may hold: buffers and messages have sizes of their own, however small bodies must be.
const LEAST: usize = 1 << 20;

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
    /// Of it, for small requests alone.
    kept_back: usize,
    used: AtomicUsize,
    /// Requests refused for their own limit, and for that of the process.
    refused: [AtomicU64; 2],
}

/// Requests that got no more memory, by the limit that they met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Refusals {
    /// Their own limit.
    pub request: u64,
    /// That of the process.
    pub process: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self::unlimited()
    }
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        let part = if limit == usize::MAX {
            0
        } else {
            limit / KEPT_BACK
        };
        Self(Arc::new(Pool {
            limit,
            kept_back: if part >= 16 * SMALL { part } else { 0 },
            used: AtomicUsize::new(0),
            refused: Default::default(),
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

    /// Whether anything exceeds it.
    pub fn is_limited(&self) -> bool {
        self.0.limit < usize::MAX
    }

    /// Bytes that requests may hold together.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// Requests that were refused since the process began.
    pub fn refusals(&self) -> Refusals {
        let [request, process] = self.0.refused.each_ref();
        Refusals {
            request: request.load(Ordering::Relaxed),
            process: process.load(Ordering::Relaxed),
        }
    }

    /// The allowance of one request of at most `limit` bytes, or of all that there are; nothing is charged yet.
    pub fn allowance(&self, limit: usize) -> Allowance {
        Allowance(Arc::new(Account {
            // What can never be had is no reason to try again.
            limit: limit.min(self.0.limit - self.0.kept_back),
            pool: Arc::clone(&self.0),
            used: AtomicUsize::new(0),
            is_refused: AtomicBool::new(false),
        }))
    }

    /// The allowance of one request over HTTP or gRPC, whose body has at most `max_body` bytes.
    pub fn of_request(&self, max_body: usize) -> Allowance {
        self.allowance(max_body.saturating_mul(BODY_MULTIPLE).max(LEAST))
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
    /// Each request is counted once.
    is_refused: AtomicBool,
}

impl Default for Allowance {
    fn default() -> Self {
        Self::unlimited()
    }
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
        let charged = account.charge(bytes);
        if let Err(over) = charged
            && !account.is_refused.swap(true, Ordering::Relaxed)
        {
            let [request, process] = &account.pool.refused;
            let counter = match over {
                OverBudget::Request { .. } => request,
                OverBudget::Process { .. } => process,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
        charged
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

    /// Bytes that all requests of the process may hold together.
    pub fn of_process(&self) -> usize {
        self.0.pool.limit
    }
}

impl Account {
    fn charge(&self, bytes: usize) -> Result<(), OverBudget> {
        let own = add(&self.used, bytes, self.limit);
        let own = own.map_err(|()| OverBudget::Request { limit: self.limit })?;
        let pool = &*self.pool;
        let kept_back = if own > SMALL { pool.kept_back } else { 0 };
        let all = add(&pool.used, bytes, pool.limit - kept_back);
        all.map(drop).map_err(|()| {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            OverBudget::Process { limit: pool.limit }
        })
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let used = *self.used.get_mut();
        self.pool.used.fetch_sub(used, Ordering::Relaxed);
    }
}

/// Adds unless the sum, which is returned, would exceed the limit.
fn add(used: &AtomicUsize, bytes: usize, limit: usize) -> Result<usize, ()> {
    let sum = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= limit);
    used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum)
        .map(|before| before + bytes)
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
        assert_eq!(
            budget.refusals(),
            Refusals {
                request: 1,
                process: 1
            }
        );
        other.charge(20).unwrap();
        other.release(30);
        assert_eq!((other.used(), budget.used()), (30, 30));
    }

    #[test]
    fn large_requests_leave_a_little_to_small_ones() {
        const MIB: usize = 1 << 20;
        let budget = Budget::new(16 * MIB);
        let large = budget.allowance(usize::MAX);
        large.charge(14 * MIB).unwrap();
        let refused = budget.allowance(usize::MAX).charge(SMALL + 1);
        assert_eq!(refused, Err(OverBudget::Process { limit: 16 * MIB }));
        let small: Vec<Allowance> = (0..2 * MIB / SMALL)
            .map(|_| budget.allowance(usize::MAX))
            .collect();
        assert!(small.iter().all(|small| small.charge(SMALL).is_ok()));
        assert!(budget.allowance(1).charge(1).is_err(), "all is taken");
        // More than that no request ever gets.
        let limit = 14 * MIB;
        assert_eq!(large.charge(1), Err(OverBudget::Request { limit }));
    }

    #[test]
    fn a_request_may_hold_no_more_than_there_is_and_is_counted_once() {
        let budget = Budget::new(10);
        let request = budget.of_request(8);
        for _ in 0..3 {
            assert_eq!(request.charge(11), Err(OverBudget::Request { limit: 10 }));
        }
        assert_eq!(budget.refusals().request, 1);
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
