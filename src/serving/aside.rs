//! Work that takes too long for a thread that serves connections.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Does such work on threads of its own, so much at a time.
///
/// Whoever goes away while it waits frees what it brought at once; whoever goes away later keeps its place until the
/// work is done, so that nobody has more in work by going away.
#[derive(Debug, Clone)]
pub struct Aside {
    places: Arc<Semaphore>,
}

impl Aside {
    /// For so much at a time.
    pub fn new(places: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places)),
        }
    }

    /// Waits for a place and for the result.
    ///
    /// # Panics
    /// When the work does.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let place = Arc::clone(&self.places).acquire_owned().await;
        #[expect(
            clippy::disallowed_methods,
            reason = "as much at a time as there are places"
        )]
        let working = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(place);
            done
        });
        match working.await {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The process ends, and nobody waits any more.
                Err(_) => std::future::pending().await,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::mpsc;
    use std::time::Duration;

    #[tokio::test]
    async fn whoever_goes_away_keeps_its_place_until_the_work_is_done() {
        let aside = Aside::new(1);
        let (go, gone) = mpsc::channel::<()>();
        let first = tokio::spawn({
            let aside = aside.clone();
            async move { aside.run(move || gone.recv()).await }
        });
        while aside.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        let held = Arc::new(());
        let waits = aside.run({
            let held = Arc::clone(&held);
            move || drop(held)
        });
        let waited = tokio::time::timeout(Duration::from_millis(20), waits).await;
        assert!(waited.is_err(), "two are in work");
        assert_eq!(Arc::strong_count(&held), 1, "what it brought is kept");
        go.send(()).unwrap();
        assert_eq!(aside.run(|| 7).await, 7);
    }

    #[tokio::test]
    async fn a_panic_is_that_of_whoever_waits() {
        let aside = Aside::new(1);
        let panics = aside.clone();
        let result = tokio::spawn(async move { panics.run(|| panic!("on purpose")).await }).await;
        let () = result
            .map_err(|error| assert!(error.is_panic()))
            .unwrap_or_default();
        assert_eq!(aside.run(|| 7).await, 7, "its place is free again");
    }
}
