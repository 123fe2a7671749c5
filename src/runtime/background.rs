//! A runtime of low priority, for fetching packages while others serve.
//!
//! Copying, inflating and hashing hundreds of megabytes on the runtime of the requests would be felt by them.

use std::future::Future;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use crate::runtime::{machine, threads};

/// What its threads are called.
const THREADS: &str = "fetch";

/// Starts its thread when first needed; the thread ends with the last clone.
#[derive(Clone, Default)]
pub(crate) struct Background(Arc<Mutex<Option<Running>>>);

struct Running {
    runtime: Handle,
    /// The thread goes on until this is dropped.
    _end: oneshot::Sender<()>,
}

impl Background {
    /// Runs `work` there. Dropping the future ends it.
    ///
    /// # Errors
    /// When there is no thread for it, or the work panicked.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> io::Result<T> {
        let runtime = self.runtime()?;
        let task = AbortOnDropHandle::new(runtime.spawn(work));
        task.await.map_err(io::Error::other)
    }

    fn runtime(&self) -> io::Result<Handle> {
        let mut running = self.0.lock();
        if let Some(running) = &*running {
            return Ok(running.runtime.clone());
        }
        let runtime = Builder::new_current_thread()
            .enable_all()
            .thread_name(THREADS)
            .build()?;
        let (end, ended) = oneshot::channel();
        let handle = runtime.handle().clone();
        threads::spawn(THREADS, move || {
            machine::Priority::Background.take();
            let _ = runtime.block_on(ended);
            // What waits for a disk or a resolver is not waited for.
            runtime.shutdown_background();
        })?;
        *running = Some(Running {
            runtime: handle.clone(),
            _end: end,
        });
        Ok(handle)
    }
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::machine::niceness;

    #[tokio::test]
    async fn work_and_its_blocking_parts_have_a_lower_priority() {
        let background = Background::default();
        let ran = background.run(async {
            let blocking = Handle::current().spawn_blocking(niceness);
            (niceness(), blocking.await.unwrap())
        });
        let (work, blocking) = ran.await.unwrap();
        assert!(work > niceness() && blocking > niceness());
    }

    #[tokio::test]
    async fn dropping_the_future_ends_the_work() {
        let background = Background::default();
        let (started, has_started) = oneshot::channel();
        let (held, dropped) = oneshot::channel::<()>();
        let work = background.run(async move {
            let _ = started.send(());
            std::future::pending::<()>().await;
            drop(held);
        });
        tokio::select! {
            _ = work => unreachable!("it never ends by itself"),
            begun = has_started => begun.unwrap(),
        }
        dropped.await.unwrap_err();
    }

    #[tokio::test]
    async fn a_panic_is_an_error() {
        let background = Background::default();
        let failed = background.run(async { panic!("no") }).await;
        assert!(failed.unwrap_err().to_string().contains("panicked"));
        assert_eq!(background.run(async { 1 }).await.unwrap(), 1);
    }
}
