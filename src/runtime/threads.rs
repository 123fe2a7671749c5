//! Threads of their own, under names that `ps` and profilers show.

use std::io;
use std::thread::Builder;

use tokio::sync::oneshot;

/// Starts a thread that nobody waits for.
///
/// # Errors
/// When the system gives no thread.
pub(crate) fn spawn(
    name: impl Into<String>,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let thread = Builder::new().name(name.into());
    thread.spawn(work).map(drop)
}

/// Runs what blocks on a thread of its own. The receiver fails when the work panicked.
///
/// # Errors
/// When the system gives no thread.
pub(crate) fn run<T: Send + 'static>(
    name: impl Into<String>,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<oneshot::Receiver<T>> {
    let (done, finished) = oneshot::channel();
    spawn(name, move || drop(done.send(work())))?;
    Ok(finished)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_has_a_thread_of_this_name_and_a_panic_is_an_error() {
        let name = run("own", || std::thread::current().name().map(str::to_owned));
        assert_eq!(name.unwrap().await.unwrap().as_deref(), Some("own"));
        let failed = run("own", || panic!("no"));
        let failed: Result<(), _> = failed.unwrap().await;
        assert!(failed.is_err());
    }
}
