//! The threads that run models: one pool for the whole process, however many models there are.

use std::collections::binary_heap::PeekMut;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};
use tokio::time::Instant;

use crate::machine::Priority;

/// Something with work for a runner. Each run should be short: the pool takes turns between those that wait.
pub(super) trait Work: Send + Sync {
    /// Does one piece of work on the calling runner thread. Must not panic.
    fn run_one(self: Arc<Self>);

    /// The time has come to look again.
    fn look_again(self: Arc<Self>);
}

/// A fixed number of runner threads. Dropping the pool finishes what was scheduled, then ends the threads.
pub struct RunnerPool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    ready: Mutex<Ready>,
    wake: Condvar,
}

struct Ready {
    queue: VecDeque<Arc<dyn Work>>,
    later: BinaryHeap<Later>,
    closed: bool,
}

/// Something to look at again, the soonest first.
struct Later {
    at: Instant,
    work: Arc<dyn Work>,
}

impl Ord for Later {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // The heap gives the greatest first.
        other.at.cmp(&self.at)
    }
}

impl PartialOrd for Later {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Later {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Later {}

/// What a runner does next.
enum Turn {
    Run(Arc<dyn Work>),
    LookAgain(Arc<dyn Work>),
}

impl RunnerPool {
    /// A pool of `threads` runners, at least one.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let ready = Ready {
            queue: VecDeque::new(),
            later: BinaryHeap::new(),
            closed: false,
        };
        let shared = Arc::new(Shared {
            ready: Mutex::new(ready),
            wake: Condvar::new(),
        });
        let spawn = |index| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name(format!("runner-{index}"))
                .spawn(move || {
                    Priority::Runs.take();
                    shared.run();
                })
        };
        let threads = (0..threads.max(1)).map(spawn).collect::<Result<_, _>>()?;
        Ok(Self { shared, threads })
    }

    /// Puts `work` at the end of the line for a runner.
    pub(super) fn schedule(&self, work: Arc<dyn Work>) {
        self.shared.ready.lock().queue.push_back(work);
        self.shared.wake.notify_one();
    }

    /// Has `work` looked at again at this time.
    pub(super) fn look_again_at(&self, at: Instant, work: Arc<dyn Work>) {
        self.shared.ready.lock().later.push(Later { at, work });
        // Someone must wait for it, and no longer than that.
        self.shared.wake.notify_one();
    }

    /// How many runners there are.
    pub fn threads(&self) -> usize {
        self.threads.len()
    }
}

impl Shared {
    fn run(&self) {
        while let Some(turn) = self.next() {
            match turn {
                Turn::Run(work) => work.run_one(),
                Turn::LookAgain(work) => work.look_again(),
            }
        }
    }

    fn next(&self) -> Option<Turn> {
        let mut ready = self.ready.lock();
        loop {
            let now = Instant::now();
            if let Some(later) = ready.later.peek_mut()
                && later.at <= now
            {
                return Some(Turn::LookAgain(PeekMut::pop(later).work));
            }
            if let Some(work) = ready.queue.pop_front() {
                return Some(Turn::Run(work));
            }
            if ready.closed {
                return None;
            }
            match ready.later.peek().map(|later| later.at - now) {
                Some(wait) => drop(self.wake.wait_for(&mut ready, wait)),
                None => self.wake.wait(&mut ready),
            }
        }
    }
}

impl Drop for RunnerPool {
    fn drop(&mut self) {
        self.shared.ready.lock().closed = true;
        self.shared.wake.notify_all();
        let this = std::thread::current().id();
        for thread in self
            .threads
            .drain(..)
            .filter(|thread| thread.thread().id() != this)
        {
            // A runner never panics; were it to, there is nothing left to do for it here.
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for RunnerPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunnerPool")
            .field("threads", &self.threads.len())
            .finish_non_exhaustive()
    }
}
