//! Work that takes too long for a thread that serves connections.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Does such work on threads of its own, so much at a time, and takes turns between callers.
///
/// No caller has all places, where there are several: another one's work always begins soon, and the threads share the
/// processor. Whoever goes away while it waits frees what it brought at once; whoever goes away later keeps its place until
/// the work is done, so that nobody has more in work by going away.
#[derive(Debug, Clone)]
pub(crate) struct BlockingPool {
    queue: Arc<Mutex<Queue>>,
}

#[derive(Debug)]
struct Queue {
    free: usize,
    /// Places that one caller may have.
    each: usize,
    /// Places that callers have.
    taken: HashMap<u64, usize>,
    /// Who waits; the caller whose turn it is comes first.
    waiting: VecDeque<(u64, VecDeque<oneshot::Sender<Place>>)>,
}

/// A place, which returns when it is dropped.
#[derive(Debug)]
struct Place {
    caller: u64,
    /// `None` when nobody took it.
    queue: Option<Arc<Mutex<Queue>>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            queue.lock().free(self.caller);
            grant(&queue);
        }
    }
}

impl Queue {
    fn may_take(&self, caller: u64) -> bool {
        let has = self.taken.get(&caller).copied().unwrap_or(0);
        self.free > 0 && has < self.each
    }

    fn take(&mut self, caller: u64) {
        self.free -= 1;
        *self.taken.entry(caller).or_default() += 1;
    }

    fn free(&mut self, caller: u64) {
        self.free += 1;
        if let Some(has) = self.taken.get_mut(&caller) {
            *has -= 1;
            if *has == 0 {
                self.taken.remove(&caller);
            }
        }
    }

    /// Whoever is next, and may have a place.
    fn next(&mut self) -> Option<(u64, oneshot::Sender<Place>)> {
        let turn = (0..self.waiting.len()).find(|&turn| self.may_take(self.waiting[turn].0))?;
        let (caller, mut waiting) = self.waiting.remove(turn)?;
        let next = waiting.pop_front();
        // Then it is the turn of the others.
        if !waiting.is_empty() {
            self.waiting.push_back((caller, waiting));
        }
        Some((caller, next?))
    }

    fn wait(&mut self, caller: u64) -> oneshot::Receiver<Place> {
        let (sender, receiver) = oneshot::channel();
        let known = self.waiting.iter_mut().find(|(known, _)| *known == caller);
        match known {
            Some((_, waiting)) => {
                // Who has gone away needs no place in the line; now and then is enough.
                if waiting.len().is_power_of_two() {
                    waiting.retain(|sender| !sender.is_closed());
                }
                waiting.push_back(sender);
            }
            None => self.waiting.push_back((caller, [sender].into())),
        }
        receiver
    }
}

/// Gives free places to those who wait.
fn grant(queue: &Arc<Mutex<Queue>>) {
    let mut locked = queue.lock();
    while let Some((caller, sender)) = locked.next() {
        let place = Place {
            caller,
            queue: Some(Arc::clone(queue)),
        };
        match sender.send(place) {
            Ok(()) => locked.take(caller),
            // It has gone away.
            Err(mut place) => place.queue = None,
        }
    }
}

impl BlockingPool {
    /// For so much at a time.
    pub(crate) fn new(places: usize) -> Self {
        let others = if places > 1 { places.div_ceil(4) } else { 0 };
        Self {
            queue: Arc::new(Mutex::new(Queue {
                free: places,
                each: places - others,
                taken: HashMap::new(),
                waiting: VecDeque::new(),
            })),
        }
    }

    /// Waits for a place among those of this caller, and for the result.
    ///
    /// # Panics
    /// When the work does.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        caller: u64,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let place = self.place(caller).await;
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

    async fn place(&self, caller: u64) -> Place {
        let waits = {
            let mut queue = self.queue.lock();
            if queue.may_take(caller) {
                queue.take(caller);
                return Place {
                    caller,
                    queue: Some(Arc::clone(&self.queue)),
                };
            }
            queue.wait(caller)
        };
        match waits.await {
            Ok(place) => place,
            // Whoever waits is never forgotten.
            Err(_) => std::future::pending().await,
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
        let pool = BlockingPool::new(1);
        let (go, gone) = mpsc::channel::<()>();
        let first = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(0, move || gone.recv()).await }
        });
        while pool.queue.lock().free > 0 {
            tokio::task::yield_now().await;
        }
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        let held = Arc::new(());
        let waits = pool.run(0, {
            let held = Arc::clone(&held);
            move || drop(held)
        });
        let waited = tokio::time::timeout(Duration::from_millis(20), waits).await;
        assert!(waited.is_err(), "two are in work");
        assert_eq!(Arc::strong_count(&held), 1, "what it brought is kept");
        go.send(()).unwrap();
        assert_eq!(pool.run(0, || 7).await, 7);
    }

    #[tokio::test]
    async fn no_caller_has_all_places_and_those_who_wait_take_turns() {
        let pool = BlockingPool::new(4);
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(pool.place(1).await);
        }
        let waits = |caller| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.place(caller).await })
        };
        let soon = Duration::from_millis(20);
        let mut more: Vec<_> = (0..3).map(|_| waits(1)).collect();
        assert!(tokio::time::timeout(soon, &mut more[0]).await.is_err());
        let other = pool.place(2).await;
        let mut others: Vec<_> = (0..2).map(|_| waits(2)).collect();
        assert!(tokio::time::timeout(soon, &mut others[0]).await.is_err());
        // The first caller has all that it may have; then they take turns.
        drop(other);
        let turn = others.remove(0).await.unwrap();
        drop(held.pop());
        held.push(more.remove(0).await.unwrap());
        drop(turn);
        drop(others.remove(0).await.unwrap());
        // One that went away is passed over.
        let gone = more.remove(0);
        gone.abort();
        assert!(gone.await.is_err());
        drop(held);
        drop(more.remove(0).await.unwrap());
        let queue = pool.queue.lock();
        assert_eq!(
            (queue.free, queue.taken.len(), queue.waiting.len()),
            (4, 0, 0)
        );
    }

    #[tokio::test]
    async fn a_place_that_is_given_to_nobody_returns() {
        let pool = BlockingPool::new(1);
        let held = pool.place(1).await;
        let waits = pool.queue.lock().wait(2);
        drop(held);
        assert_eq!(pool.queue.lock().free, 0, "it is on its way");
        drop(waits);
        assert_eq!(pool.queue.lock().free, 1);
    }

    #[tokio::test]
    async fn a_panic_is_that_of_whoever_waits() {
        let pool = BlockingPool::new(1);
        let panics = pool.clone();
        let result =
            tokio::spawn(async move { panics.run(0, || panic!("on purpose")).await }).await;
        let () = result
            .map_err(|error| assert!(error.is_panic()))
            .unwrap_or_default();
        assert_eq!(pool.run(0, || 7).await, 7, "its place is free again");
    }
}
