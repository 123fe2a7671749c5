//! The threads that run models: one pool for the whole process, however many models there are.
//!
//! A run that does not end must not take the server with it. A runner whose run is given up is replaced ([`Seat::leave`]);
//! and when work waits while every runner has been in one run for long, one more runner is started, up to a bound.

use std::cell::RefCell;
use std::collections::binary_heap::PeekMut;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::time::Instant;

use crate::runtime::machine::Priority;
use crate::runtime::threads;

/// When no runner has taken anything for so long and work waits, one more is started.
const STALLED: Duration = Duration::from_secs(1);

/// Runners beyond those that the pool should have, at most.
const MOST_EXTRA: usize = 16;

/// An extra runner that finds nothing to do for so long ends.
const EXTRA_STAYS: Duration = Duration::from_secs(5);

/// How long dropping the pool waits for runners that do not finish.
const LAST_RUNS: Duration = Duration::from_millis(300);

/// Something with work for a runner. Each run should be short: the pool takes turns between those that wait.
pub(super) trait Work: Send + Sync {
    /// Does one piece of work on the calling runner thread. Must not panic.
    fn run_one(self: Arc<Self>);

    /// The time has come to look again.
    fn look_again(self: Arc<Self>);
}

/// Something to look at when its time has come, whatever the runners do. Must be quick.
pub(super) trait Check: Send + Sync {
    /// The time has come.
    fn due(self: Arc<Self>);
}

/// Threads that take turns. Dropping the pool finishes what was scheduled, then ends the threads; one whose run does not
/// end is left behind.
pub struct RunnerPool {
    shared: Arc<Shared>,
}

struct Shared {
    /// Runners, as long as none has more to do than it should.
    threads: usize,
    ready: Mutex<Ready>,
    /// For runners.
    wake: Condvar,
    /// For the thread that watches them.
    watch: Condvar,
    /// For whoever waits until all have ended.
    ended: Condvar,
}

struct Ready {
    queue: VecDeque<Arc<dyn Work>>,
    later: BinaryHeap<Timed<Arc<dyn Work>>>,
    checks: BinaryHeap<Timed<Weak<dyn Check>>>,
    closed: bool,
    /// Threads that take turns: those that were left are not among them.
    runners: usize,
    /// Those that wait for work.
    idle: usize,
    /// How many were ever started, for their names.
    started: usize,
    /// When a runner took something last.
    last_turn: Instant,
    watcher: Watcher,
}

/// What the thread does that watches the runners.
#[derive(PartialEq, Eq)]
enum Watcher {
    /// It was not needed yet.
    NotStarted,
    /// There is nothing that it waits for.
    Sleeps,
    /// It looks again by itself.
    Looks,
}

/// Something to look at, the soonest first.
struct Timed<T> {
    at: Instant,
    what: T,
}

impl<T> Ord for Timed<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // The heap gives the greatest first.
        other.at.cmp(&self.at)
    }
}

impl<T> PartialOrd for Timed<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Timed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl<T> Eq for Timed<T> {}

fn due<T>(heap: &mut BinaryHeap<Timed<T>>, now: Instant) -> Option<T> {
    let first = heap.peek_mut()?;
    (first.at <= now).then(|| PeekMut::pop(first).what)
}

/// What a runner does next.
enum Turn {
    Run(Arc<dyn Work>),
    LookAgain(Arc<dyn Work>),
}

/// The place of one runner thread in its pool.
pub(super) struct Seat {
    shared: Weak<Shared>,
    left: AtomicBool,
}

thread_local! {
    static SEAT: RefCell<Option<Arc<Seat>>> = const { RefCell::new(None) };
}

impl Seat {
    /// That of the calling thread, if it is a runner.
    pub(super) fn current() -> Option<Arc<Self>> {
        SEAT.with_borrow(Option::clone)
    }

    /// Whether somebody else has its place by now: the thread ends once its run does.
    pub(super) fn is_left(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }

    /// The run of this thread is given up; [`Self::replace`] must follow.
    pub(super) fn leave(&self) {
        self.left.store(true, Ordering::Release);
    }

    /// Another thread takes the place of this one, which was left.
    pub(super) fn replace(&self) {
        if let Some(shared) = self.shared.upgrade() {
            let mut ready = shared.ready.lock();
            ready.runners -= 1;
            if !ready.closed {
                shared.start_runner(&mut ready);
            }
            shared.ended.notify_all();
        }
    }

    /// Has something looked at so long from now, whatever the runners do then.
    pub(super) fn look_after(&self, wait: Duration, check: Weak<dyn Check>) {
        if let Some(shared) = self.shared.upgrade() {
            let at = Instant::now() + wait;
            let mut ready = shared.ready.lock();
            ready.checks.push(Timed { at, what: check });
            shared.need_watcher(&mut ready);
            shared.watch.notify_one();
        }
    }
}

impl RunnerPool {
    /// A pool of `threads` runners, at least one.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn new(threads: usize) -> io::Result<Self> {
        let threads = threads.max(1);
        let ready = Ready {
            queue: VecDeque::new(),
            later: BinaryHeap::new(),
            checks: BinaryHeap::new(),
            closed: false,
            runners: 0,
            idle: 0,
            started: 0,
            last_turn: Instant::now(),
            watcher: Watcher::NotStarted,
        };
        let shared = Arc::new(Shared {
            threads,
            ready: Mutex::new(ready),
            wake: Condvar::new(),
            watch: Condvar::new(),
            ended: Condvar::new(),
        });
        // Ends those that were started when one cannot be.
        let pool = Self { shared };
        let mut ready = pool.shared.ready.lock();
        for _ in 0..threads {
            pool.shared.try_start_runner(&mut ready)?;
        }
        drop(ready);
        Ok(pool)
    }

    /// Puts `work` at the end of the line for a runner.
    pub(super) fn schedule(&self, work: Arc<dyn Work>) {
        let mut ready = self.shared.ready.lock();
        ready.queue.push_back(work);
        if ready.queue.len() > ready.idle {
            self.shared.need_watcher(&mut ready);
        }
        drop(ready);
        self.shared.wake.notify_one();
    }

    /// Has `work` looked at again at this time.
    pub(super) fn look_again_at(&self, at: Instant, work: Arc<dyn Work>) {
        let mut ready = self.shared.ready.lock();
        ready.later.push(Timed { at, what: work });
        if ready.idle == 0 {
            self.shared.need_watcher(&mut ready);
        }
        drop(ready);
        // Someone must wait for it, and no longer than that.
        self.shared.wake.notify_one();
    }

    /// How many runners there are, beside those that runs without an end take.
    pub fn threads(&self) -> usize {
        self.shared.threads
    }
}

impl Shared {
    fn start_runner(self: &Arc<Self>, ready: &mut Ready) {
        if let Err(error) = self.try_start_runner(ready) {
            tracing::error!(%error, "no thread can be started that runs models");
        }
    }

    fn try_start_runner(self: &Arc<Self>, ready: &mut Ready) -> io::Result<()> {
        let shared = Arc::clone(self);
        threads::spawn(format!("runner-{}", ready.started), move || {
            Priority::Runs.take();
            shared.run();
        })?;
        ready.runners += 1;
        ready.started += 1;
        Ok(())
    }

    fn run(self: Arc<Self>) {
        let seat = Arc::new(Seat {
            shared: Arc::downgrade(&self),
            left: AtomicBool::new(false),
        });
        SEAT.set(Some(Arc::clone(&seat)));
        while let Some(turn) = self.next() {
            match turn {
                Turn::Run(work) => work.run_one(),
                Turn::LookAgain(work) => work.look_again(),
            }
            if seat.is_left() {
                return;
            }
        }
        self.ended.notify_all();
    }

    /// What to do next; `None` ends the runner, which is not counted any more.
    fn next(&self) -> Option<Turn> {
        let mut ready = self.ready.lock();
        let began = Instant::now();
        loop {
            let now = Instant::now();
            if let Some(work) = due(&mut ready.later, now) {
                ready.last_turn = now;
                return Some(Turn::LookAgain(work));
            }
            if let Some(work) = ready.queue.pop_front() {
                ready.last_turn = now;
                return Some(Turn::Run(work));
            }
            let is_extra = ready.runners > self.threads && now >= began + EXTRA_STAYS;
            if ready.closed || is_extra {
                ready.runners -= 1;
                return None;
            }
            let later = ready.later.peek().map(|later| later.at);
            let end = (ready.runners > self.threads).then(|| began + EXTRA_STAYS);
            ready.idle += 1;
            match later.into_iter().chain(end).min() {
                Some(at) => drop(
                    self.wake
                        .wait_for(&mut ready, at.saturating_duration_since(now)),
                ),
                None => self.wake.wait(&mut ready),
            }
            ready.idle -= 1;
        }
    }

    /// Sees to it that somebody looks after the runners.
    fn need_watcher(self: &Arc<Self>, ready: &mut Ready) {
        match ready.watcher {
            Watcher::Looks => return,
            Watcher::Sleeps => {}
            Watcher::NotStarted => {
                let shared = Arc::clone(self);
                let started = threads::spawn("runner-watch", move || shared.look_after_runners());
                if let Err(error) = started {
                    tracing::error!(%error, "no thread can be started that looks after runs");
                    return;
                }
            }
        }
        ready.watcher = Watcher::Looks;
        self.watch.notify_one();
    }

    fn look_after_runners(self: Arc<Self>) {
        let mut ready = self.ready.lock();
        while !ready.closed {
            let now = Instant::now();
            if let Some(check) = due(&mut ready.checks, now) {
                parking_lot::MutexGuard::unlocked(&mut ready, || {
                    if let Some(check) = check.upgrade() {
                        check.due();
                    }
                });
                continue;
            }
            let stalls = ready
                .stalls_at(now)
                .filter(|_| ready.runners < self.threads + MOST_EXTRA);
            if stalls.is_some_and(|at| at <= now) {
                tracing::warn!(
                    runners = ready.runners,
                    "every runner has been in one run for {STALLED:?} while others wait: one more is started"
                );
                self.start_runner(&mut ready);
                // It is given the same time.
                ready.last_turn = now;
                continue;
            }
            let check = ready.checks.peek().map(|check| check.at);
            // As long as there are runs it looks now and then, so that nobody has to wake it each time.
            let soon = (now < ready.last_turn + STALLED).then(|| now + STALLED);
            match stalls.or(soon).into_iter().chain(check).min() {
                Some(at) => drop(
                    self.watch
                        .wait_for(&mut ready, at.saturating_duration_since(now)),
                ),
                None => {
                    ready.watcher = Watcher::Sleeps;
                    self.watch.wait(&mut ready);
                    ready.watcher = Watcher::Looks;
                }
            }
        }
    }
}

impl Ready {
    /// When the runners have kept what waits waiting for too long; `None` when nothing waits for them.
    fn stalls_at(&self, now: Instant) -> Option<Instant> {
        let waits_since = match self.queue.is_empty() {
            false => Some(now),
            true => self.later.peek().map(|later| later.at),
        };
        let waits_since = waits_since.filter(|_| self.idle == 0)?;
        Some(waits_since.max(self.last_turn + STALLED))
    }
}

impl Drop for RunnerPool {
    fn drop(&mut self) {
        let mut ready = self.shared.ready.lock();
        ready.closed = true;
        self.shared.wake.notify_all();
        self.shared.watch.notify_all();
        let is_ours = |seat: Arc<Seat>| std::ptr::eq(seat.shared.as_ptr(), &raw const *self.shared);
        // A runner may be the one that drops the pool.
        let rest = usize::from(Seat::current().is_some_and(is_ours));
        while ready.runners > rest {
            let seen = (ready.runners, ready.last_turn);
            let waited = self.shared.ended.wait_for(&mut ready, LAST_RUNS);
            if waited.timed_out() && seen == (ready.runners, ready.last_turn) {
                tracing::warn!(
                    runners = ready.runners - rest,
                    "left behind in runs that do not end"
                );
                return;
            }
        }
    }
}

impl std::fmt::Debug for RunnerPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunnerPool")
            .field("threads", &self.shared.threads)
            .finish_non_exhaustive()
    }
}
