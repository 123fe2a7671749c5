//! The threads that serve connections. Each has a runtime of its own, and a connection stays on its thread for life: a
//! request for a small model wakes no other thread on its way, which costs more than the model.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::runtime::machine::Priority;
use crate::runtime::threads;

/// How long a thread of work beside the connections stays for more.
const ASIDE_STAYS: Duration = Duration::from_secs(1);

/// How long such work may keep its thread once serving is over.
const LAST_WORK: Duration = Duration::from_secs(1);

/// See the module. Dropping it ends the threads, with what still runs on them.
#[derive(Debug)]
pub(crate) struct EventLoops {
    loops: Vec<EventLoop>,
    _stop: DropGuard,
}

/// One of the threads.
#[derive(Debug, Clone)]
pub(super) struct EventLoop {
    pub(super) runtime: Handle,
    load: Load,
}

impl EventLoops {
    /// As many as the calling runtime has threads.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub(crate) fn start() -> io::Result<Self> {
        let threads = Handle::current().metrics().num_workers();
        let stop = CancellationToken::new();
        let start = |index| EventLoop::start(index, threads, stop.clone());
        Ok(Self {
            loops: (0..threads).map(start).collect::<io::Result<_>>()?,
            _stop: stop.drop_guard(),
        })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &EventLoop> {
        self.loops.iter()
    }
}

impl EventLoop {
    fn start(index: usize, threads: usize, stop: CancellationToken) -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .thread_name("aside")
            // What is heavy has as many places as there are threads; the rest is for what seldom happens.
            .max_blocking_threads(threads + 2)
            .thread_keep_alive(ASIDE_STAYS)
            // Of those alone: the thread of the loop is started below.
            .on_thread_start(|| Priority::Runs.take())
            .build()?;
        let handle = runtime.handle().clone();
        threads::spawn(format!("http-{index}"), move || run(runtime, &stop))?;
        Ok(Self {
            runtime: handle,
            load: Load::default(),
        })
    }

    /// The connections that it has.
    pub(super) fn connections(&self) -> usize {
        self.load.0.load(Ordering::Relaxed)
    }

    /// One more, for as long as the result lives.
    pub(super) fn take_slot(&self) -> ConnectionSlot {
        self.load.0.fetch_add(1, Ordering::Relaxed);
        ConnectionSlot(self.load.clone())
    }
}

fn run(runtime: Runtime, stop: &CancellationToken) {
    runtime.block_on(stop.cancelled());
    runtime.shutdown_timeout(LAST_WORK);
}

#[derive(Debug, Clone, Default)]
struct Load(Arc<AtomicUsize>);

/// A connection that an event loop has.
#[derive(Debug)]
pub(crate) struct ConnectionSlot(Load);

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn each_thread_counts_its_connections_and_ends_with_all() {
        let loops = EventLoops::start().unwrap();
        assert_eq!(loops.iter().count(), 3);
        let first = loops.iter().next().unwrap();
        let seats = [first.take_slot(), first.take_slot()];
        let connections: Vec<_> = loops.iter().map(EventLoop::connections).collect();
        assert_eq!(connections, [2, 0, 0]);
        drop(seats);
        assert_eq!(first.connections(), 0);
        let named = async { std::thread::current().name().map(str::to_owned) };
        let name = first.runtime.spawn(named).await;
        assert_eq!(name.unwrap().as_deref(), Some("http-0"));
        #[cfg(target_os = "linux")]
        {
            let niceness = crate::runtime::machine::niceness;
            let here = first
                .runtime
                .spawn(async move { niceness() })
                .await
                .unwrap();
            let aside = first.runtime.spawn_blocking(niceness).await.unwrap();
            assert!(here < aside, "{aside} is no lower priority than {here}");
        }
        let endless = first.runtime.spawn(std::future::pending::<()>());
        drop(loops);
        assert!(endless.await.unwrap_err().is_cancelled());
    }
}
