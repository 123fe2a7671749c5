//! Swaps of a model of 100 MB: what it held goes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use crate::Scale;
use crate::client::{Client, Request};
use crate::files::{EACH_SWAP_LOADS, Files, until_announced};
use crate::process::Usage;
use crate::report::Report;

/// Longer than idle threads that read files stay; by then the last old version is freed too.
const SETTLE: Duration = Duration::from_secs(12);

/// Between two requests: the model answers ten to twenty of them in a second and a core.
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) async fn run(scale: &Scale) -> Report {
    let swaps = scale.of(100, 12);
    let files = Files::new();
    files.add_generated("big").await;
    let server = files.serve(&["big"], EACH_SWAP_LOADS, scale).await;
    let stop = Arc::new(AtomicBool::new(false));
    let request = Request::invocations(server.address(), "[1.0, 1.0]");
    let client = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || ask_on(&request, &stop)
    });
    let mut report = Report::default();
    report.line(Usage::HEAD);
    let mut read = Vec::new();
    for swap in 1..=swaps {
        files.promote("big", swap as u64 % 2 + 1).await;
        until_announced(&server, swap + 1).await;
        if swap == 5 || swap == 20 || swap == 50 || swap == swaps {
            report.line(Usage::of(server.process_id()).row(format!("{swap}, at once")));
            sleep(SETTLE).await;
            let usage = Usage::of(server.process_id());
            report.line(usage.row(swap));
            read.push(usage);
        }
    }
    stop.store(true, Ordering::Relaxed);
    let (answers, wrong) = client.join().expect("the client does not panic");
    let (first, last) = (read[0], read[read.len() - 1]);
    report.line(format!("\n{answers} answers of one connection meanwhile."));
    let what = format!("memory after {swaps} swaps by that after 5");
    report.bar(&what, last.resident_mb / first.resident_mb, 1.15, "");
    report.bar(
        "threads more",
        last.threads.saturating_sub(first.threads) as f64,
        0.0,
        "",
    );
    report.bar(
        "open files more",
        last.files.saturating_sub(first.files) as f64,
        0.0,
        "",
    );
    report.never("wrong or failed answers", &wrong);
    server.terminate().await;
    report
}

fn ask_on(request: &Request, stop: &AtomicBool) -> (usize, Vec<String>) {
    let (mut answers, mut wrong) = (0, Vec::new());
    let mut client = Client::connect(request).expect("the server listens");
    while !stop.load(Ordering::Relaxed) {
        match client.ask() {
            Ok(answer) if answer.predicted == Some(answer.version as f64) => answers += 1,
            Ok(answer) => wrong.push(format!(
                "status {}, version {}, answer {:?}",
                answer.status, answer.version, answer.predicted
            )),
            Err(error) => {
                wrong.push(error.to_string());
                client = Client::connect(request).expect("the server listens");
            }
        }
        std::thread::sleep(PAUSE);
    }
    (answers, wrong)
}
