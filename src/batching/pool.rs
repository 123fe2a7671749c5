//! The threads that run models: one pool for the whole process, however many models there are.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

/// Something with work for a runner. Each run should be short: the pool takes turns between those that wait.
pub(super) trait Work: Send + Sync {
    /// Does one piece of work on the calling runner thread. Must not panic.
    fn run_one(self: Arc<Self>);
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
    closed: bool,
}

impl RunnerPool {
    /// A pool of `threads` runners, at least one.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let ready = Ready {
            queue: VecDeque::new(),
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
                .spawn(move || shared.run())
        };
        let threads = (0..threads.max(1)).map(spawn).collect::<Result<_, _>>()?;
        Ok(Self { shared, threads })
    }

    /// Puts `work` at the end of the line for a runner.
    pub(super) fn schedule(&self, work: Arc<dyn Work>) {
        self.shared.ready.lock().queue.push_back(work);
        self.shared.wake.notify_one();
    }

    /// How many runners there are.
    pub fn threads(&self) -> usize {
        self.threads.len()
    }
}

impl Shared {
    fn run(&self) {
        while let Some(work) = self.next() {
            work.run_one();
        }
    }

    fn next(&self) -> Option<Arc<dyn Work>> {
        let mut ready = self.ready.lock();
        loop {
            if let Some(work) = ready.queue.pop_front() {
                return Some(work);
            }
            if ready.closed {
                return None;
            }
            self.wake.wait(&mut ready);
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
