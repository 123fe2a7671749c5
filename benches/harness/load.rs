//! Requests: as many as there is time for, or at fixed times whatever the answers take.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use crate::client::{Client, Request};
use crate::report::{ms, quantile};

/// Connections of every load.
pub(crate) const CONNECTIONS: usize = 16;

/// One request of a load: when it was to be sent, and how long from then to the end of its answer.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) at: Instant,
    pub(crate) took: Duration,
}

/// Requests at a fixed rate. A late answer delays none of the others' intended times, so it counts for all that had to
/// wait behind it.
pub(crate) struct OpenLoop {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<(Vec<Sample>, Vec<String>)>>,
}

impl OpenLoop {
    pub(crate) fn start(request: &Request, per_second: f64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let gap = Duration::from_secs_f64(CONNECTIONS as f64 / per_second);
        let begin = Instant::now() + Duration::from_millis(20);
        let threads = (0..CONNECTIONS).map(|index| {
            let (stop, request) = (Arc::clone(&stop), request.clone());
            // The connections take turns.
            let first = begin + gap.mul_f64(index as f64 / CONNECTIONS as f64);
            std::thread::spawn(move || send_at_times(&request, first, gap, &stop))
        });
        let threads = threads.collect();
        Self { stop, threads }
    }

    /// All samples in no order, and what failed.
    pub(crate) fn end(self) -> (Vec<Sample>, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = (Vec::new(), Vec::new());
        for thread in self.threads {
            let (samples, failures) = thread.join().expect("a client does not panic");
            all.0.extend(samples);
            all.1.extend(failures);
        }
        all
    }
}

fn send_at_times(
    request: &Request,
    first: Instant,
    gap: Duration,
    stop: &AtomicBool,
) -> (Vec<Sample>, Vec<String>) {
    let (mut samples, mut failures) = (Vec::new(), Vec::new());
    let mut client = Client::connect(request);
    let mut at = first;
    while !stop.load(Ordering::Relaxed) {
        sleep(at.saturating_duration_since(Instant::now()));
        let answer = match &mut client {
            Ok(client) => client.ask(),
            Err(error) => Err(std::io::Error::other(error.to_string())),
        };
        match answer {
            Ok(answer) if answer.status == 200 => samples.push(Sample {
                at,
                took: at.elapsed(),
            }),
            Ok(answer) => failures.push(format!("status {}", answer.status)),
            Err(error) => {
                failures.push(error.to_string());
                client = Client::connect(request);
            }
        }
        at += gap;
    }
    (samples, failures)
}

/// Requests per second when each connection sends the next one as soon as it has its answer.
pub(crate) fn capacity(request: &Request, time: Duration) -> f64 {
    let count = |index: usize| {
        let request = request.clone();
        std::thread::Builder::new()
            .name(format!("client-{index}"))
            .spawn(move || {
                let mut client = Client::connect(&request).expect("the server listens");
                let (began, mut answers) = (Instant::now(), 0_usize);
                while began.elapsed() < time {
                    let answer = client.ask().expect("the server answers");
                    assert_eq!(answer.status, 200, "capacity is that of good answers");
                    answers += 1;
                }
                answers
            })
            .expect("the system gives threads")
    };
    let threads: Vec<_> = (0..CONNECTIONS).map(count).collect();
    let answers = threads
        .into_iter()
        .map(|thread| thread.join().expect("a client does not panic"));
    answers.sum::<usize>() as f64 / time.as_secs_f64()
}

/// The latencies of requests that were to be sent between two moments.
pub(crate) fn within(samples: &[Sample], from: Instant, to: Instant) -> Vec<Duration> {
    let inside = samples
        .iter()
        .filter(|sample| sample.at >= from && sample.at < to);
    inside.map(|sample| sample.took).collect()
}

/// `p50 | p99 | p99.9 | max` in milliseconds.
pub(crate) fn quantiles(latencies: &mut [Duration]) -> String {
    let at = |latencies: &mut [Duration], share| ms(quantile(latencies, share));
    format!(
        "{} | {} | {} | {}",
        at(latencies, 0.5),
        at(latencies, 0.99),
        at(latencies, 0.999),
        at(latencies, 1.0)
    )
}
