//! Twice as many requests as can be answered: those that are accepted are as quick as at capacity, and as many.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use onstage::model::Package;

use crate::Scale;
use crate::bodies::{Form, infer};
use crate::client::{Client, Request};
use crate::drive::closed_loop;
use crate::large::start;
use crate::models::made;
use crate::raw::inputs;
use crate::report::{Median, Report, ms, quantile};

/// Enough connections that one is free whenever a request is to be sent.
const CONNECTIONS: usize = 192;

/// Requests that may wait: as many as are run in a tenth of a second, or so.
const QUEUE: &str = "16";

struct Outcome {
    accepted: Vec<Duration>,
    refused: usize,
    /// Sent later than intended, as no connection was free.
    late: usize,
    seconds: f64,
}

pub(crate) async fn run(scale: Scale) -> Report {
    let (_directory, file) = made("mobilenet");
    let ours = start(&file, &[("ONSTAGE_BATCHING__MAX_QUEUE_SIZE", QUEUE)]).await;
    let package = Package::open(&file).unwrap();
    let inputs = inputs(&package.graph.signature, 1);
    let request = infer(ours.address, "mobilenet", &inputs, Form::Binary);
    closed_loop(&request, &ours.processes(), 8, Duration::from_secs(3));
    let mut report = Report::default();
    report.line("| requests/s sent | answered/s | refused/s | p50, ms | p99, ms | sent late |\n|---|---|---|---|---|---|");
    let (mut rates, mut tails) = (Vec::new(), Vec::new());
    for _ in 0..scale.of(7, 2) {
        let most = closed_loop(&request, &ours.processes(), 8, Duration::from_secs(3)).per_second();
        let mut at = |share: f64| {
            let mut outcome = send(&request, most * share, Duration::from_secs(4));
            let answered = outcome.accepted.len() as f64 / outcome.seconds;
            let p99 = quantile(&mut outcome.accepted, 0.99);
            report.line(format!(
                "| {:.0} | {answered:.0} | {:.0} | {} | {} | {} |",
                most * share,
                outcome.refused as f64 / outcome.seconds,
                ms(quantile(&mut outcome.accepted, 0.5)),
                ms(p99),
                outcome.late,
            ));
            (answered, p99.as_secs_f64())
        };
        let (_, p99_at_capacity) = at(1.0);
        let (answered, p99) = at(2.0);
        rates.push(answered / most);
        tails.push(p99 / p99_at_capacity);
    }
    report.line("");
    report.bar(
        "twice the capacity: p99 of accepted by that at capacity",
        Median::of(tails).value,
        2.0,
        "",
    );
    report.at_least(
        "twice the capacity: answered by the capacity",
        Median::of(rates).value,
        0.9,
    );
    report
}

fn send(request: &Request, rate: f64, time: Duration) -> Outcome {
    let next = Arc::new(AtomicUsize::new(0));
    let begin = Instant::now() + Duration::from_millis(50);
    let total = (rate * time.as_secs_f64()) as usize;
    let threads: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (request, next) = (request.clone(), Arc::clone(&next));
            std::thread::spawn(move || {
                let mut client = Client::connect(&request).expect("the server listens");
                let (mut accepted, mut refused, mut late) = (Vec::new(), 0, 0);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= total {
                        return (accepted, refused, late);
                    }
                    let at = begin + Duration::from_secs_f64(number as f64 / rate);
                    let wait = at.saturating_duration_since(Instant::now());
                    late += usize::from(at.elapsed() > Duration::from_millis(5));
                    std::thread::sleep(wait);
                    match client.ask().expect("the server answers").status {
                        200 => accepted.push(at.elapsed()),
                        429 => refused += 1,
                        other => panic!("status {other}"),
                    }
                }
            })
        })
        .collect();
    let mut outcome = Outcome {
        accepted: Vec::new(),
        refused: 0,
        late: 0,
        seconds: time.as_secs_f64(),
    };
    for thread in threads {
        let (accepted, refused, late) = thread.join().expect("a client does not panic");
        outcome.accepted.extend(accepted);
        outcome.refused += refused;
        outcome.late += late;
    }
    outcome.seconds = (begin.elapsed()).as_secs_f64();
    outcome
}
