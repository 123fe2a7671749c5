//! Swaps as fast as they go, under load: nothing fails, nothing is mixed, nothing comes too late, nothing leaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::Scale;
use crate::client::{Answer, Client, Request};
use crate::files::{EACH_SWAP_LOADS, Files, until_announced};
use crate::load::CONNECTIONS;
use crate::process::Usage;
use crate::report::Report;

const VERSIONS: u64 = 4;

/// Between two requests of a connection: a moderate load, so that the memory is that of serving and not of a queue.
const PAUSE: Duration = Duration::from_millis(1);

/// Time for the last old version to be freed before memory is read.
const SETTLE: Duration = Duration::from_secs(1);

/// Swap 0 serves version 1; swap N the N-th one after it, round and round.
fn version_of(swap: u64) -> u64 {
    swap % VERSIONS + 1
}

pub(crate) async fn run(scale: &Scale) -> Report {
    let (early, swaps) = (scale.of(20, 8) as u64, scale.of(200, 40) as u64);
    // Whether what the memory grew by is a leak shows later only.
    let last = 10 * swaps;
    let files = Files::new();
    files.add_times("scale", VERSIONS).await;
    let server = files.serve(&["scale"], EACH_SWAP_LOADS, scale).await;
    let request = Request::invocations(server.address(), "[1.0, 1.0]");
    let storm = Storm::start(&request);
    let mut report = Report::default();
    report.line(Usage::HEAD);
    let mut memory = Vec::new();
    let began = Instant::now();
    let mut measuring = Duration::ZERO;
    for swap in 1..=last {
        storm.ordered.store(swap, Ordering::SeqCst);
        files.promote("scale", version_of(swap)).await;
        until_announced(&server, swap as usize + 1).await;
        // From the announcement on, and not only from the first answer, the old version is too old.
        storm.on_stage.fetch_max(swap, Ordering::SeqCst);
        if [early, swaps, last].contains(&swap) {
            let measure = Instant::now();
            sleep(SETTLE).await;
            let usage = Usage::of(server.process_id());
            report.line(usage.row(swap));
            memory.push(usage.resident_mb);
            measuring += measure.elapsed();
        }
    }
    let took = began.elapsed() - measuring;
    let seen = storm.end();
    let per_swap = took.as_secs_f64() * 1e3 / last as f64;
    report.line(format!(
        "\n{last} swaps, one every {per_swap:.0} ms; {} answers on {CONNECTIONS} connections.",
        seen.answers
    ));
    report.never("failed requests", &seen.failed);
    report.never("connection errors", &seen.disconnected);
    report.never("answers of two versions", &seen.mixed);
    report.never(
        "old version for a request sent after the swap was announced",
        &seen.late,
    );
    let what = format!("memory after {swaps} swaps by that after {early}");
    report.bar(&what, memory[1] / memory[0], 1.1, "");
    server.terminate().await;
    report
}

/// Clients that watch each answer.
struct Storm {
    stop: Arc<AtomicBool>,
    /// The last swap that was asked for.
    ordered: Arc<AtomicU64>,
    /// The last swap that somebody knows to have happened.
    on_stage: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Seen>>,
}

#[derive(Default)]
struct Seen {
    answers: u64,
    failed: Vec<String>,
    disconnected: Vec<String>,
    mixed: Vec<String>,
    late: Vec<String>,
}

impl Storm {
    fn start(request: &Request) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let ordered = Arc::new(AtomicU64::new(0));
        let on_stage = Arc::new(AtomicU64::new(0));
        let clients = (0..CONNECTIONS).map(|_| {
            let (stop, request) = (Arc::clone(&stop), request.clone());
            let (ordered, on_stage) = (Arc::clone(&ordered), Arc::clone(&on_stage));
            std::thread::spawn(move || watch(&request, &stop, &ordered, &on_stage))
        });
        let clients = clients.collect();
        Self {
            stop,
            ordered,
            on_stage,
            clients,
        }
    }

    fn end(self) -> Seen {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Seen::default();
        for client in self.clients {
            let seen = client.join().expect("a client does not panic");
            all.answers += seen.answers;
            all.failed.extend(seen.failed);
            all.disconnected.extend(seen.disconnected);
            all.mixed.extend(seen.mixed);
            all.late.extend(seen.late);
        }
        all
    }
}

fn watch(request: &Request, stop: &AtomicBool, ordered: &AtomicU64, on_stage: &AtomicU64) -> Seen {
    let mut seen = Seen::default();
    let mut client = Client::connect(request).expect("the server listens");
    while !stop.load(Ordering::SeqCst) {
        let known = on_stage.load(Ordering::SeqCst);
        match client.ask() {
            Err(error) => {
                seen.disconnected.push(error.to_string());
                client = Client::connect(request).expect("the server listens");
            }
            Ok(answer) if answer.status != 200 => {
                seen.failed.push(format!("status {}", answer.status));
            }
            Ok(answer) => {
                seen.judge(&answer, known, ordered.load(Ordering::SeqCst), on_stage);
            }
        }
        std::thread::sleep(PAUSE);
    }
    seen
}

impl Seen {
    /// An answer to a request that was sent when swap `known` was known to have happened.
    fn judge(&mut self, answer: &Answer, known: u64, ordered: u64, on_stage: &AtomicU64) {
        self.answers += 1;
        let (version, predicted) = (answer.version, answer.predicted);
        if predicted != Some(version as f64) {
            let mixed = format!("version {version} answered {predicted:?}");
            self.mixed.push(mixed);
        }
        match (known..=ordered).find(|swap| version_of(*swap) == version) {
            Some(swap) => {
                on_stage.fetch_max(swap, Ordering::SeqCst);
            }
            None => {
                let expected = version_of(known);
                let late = format!("version {version} after version {expected} was on stage");
                self.late.push(late);
            }
        }
    }
}
