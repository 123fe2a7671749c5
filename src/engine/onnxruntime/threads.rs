//! The threads of ONNX Runtime's pools.
//!
//! A thread inherits the priority of the one that starts it. A model that takes the place of another is loaded at a low
//! priority, and its pool must not serve at that: a thread with the priority of runs starts them all.

use std::sync::mpsc::{Sender, channel, sync_channel};
use std::thread::{Builder, JoinHandle};

use ort::environment::ThreadManager;

use crate::runtime::machine::Priority;

/// Starts threads at the priority of runs, whoever asks for them.
#[derive(Debug, Clone)]
pub(super) struct Nursery {
    orders: Sender<Order>,
}

type Work = Box<dyn FnOnce() + Send>;
type Order = (
    Work,
    std::sync::mpsc::SyncSender<std::io::Result<JoinHandle<()>>>,
);

impl Nursery {
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn new() -> std::io::Result<Self> {
        let (orders, received) = channel::<Order>();
        Builder::new()
            .name("ort-threads".to_owned())
            .spawn(move || {
                Priority::Runs.take();
                // Ends with the last one who could order.
                for (work, reply) in received {
                    let thread = Builder::new().name("ort-pool".to_owned()).spawn(work);
                    // Whoever ordered it waits for the answer.
                    let _ = reply.send(thread);
                }
            })?;
        Ok(Self { orders })
    }
}

impl ThreadManager for Nursery {
    type Thread = JoinHandle<()>;

    fn create(&self, work: impl FnOnce() + Send + 'static) -> ort::Result<JoinHandle<()>> {
        let (reply, thread) = sync_channel(1);
        let ended = || ort::Error::new("the thread that starts threads has ended");
        let order = (Box::new(work) as Work, reply);
        self.orders.send(order).map_err(|_| ended())?;
        let thread = thread.recv().map_err(|_| ended())?;
        thread.map_err(|error| ort::Error::new(format!("no thread: {error}")))
    }

    fn join(thread: JoinHandle<()>) -> ort::Result<()> {
        let joined = thread.join();
        joined.map_err(|_| ort::Error::new("a thread of the pool panicked"))
    }
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::machine::niceness;

    #[test]
    fn a_thread_that_a_slow_one_asks_for_is_not_slow() {
        let normal = niceness();
        let nursery = Nursery::new().unwrap();
        let asking = std::thread::spawn(move || {
            Priority::Background.take();
            let (described, heard) = channel();
            let work = move || described.send(niceness()).unwrap();
            let thread = nursery.create(work).unwrap();
            Nursery::join(thread).unwrap();
            (niceness(), heard.recv().unwrap())
        });
        let (slow, started) = asking.join().unwrap();
        assert!(
            normal < started,
            "{started} is no lower priority than {normal}"
        );
        assert!(started < slow, "{slow} is no lower priority than {started}");
    }
}
