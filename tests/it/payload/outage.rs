//! Load while the place of the log is gone: requests do not notice, memory stays, and every sampled row is counted once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;

use super::{Place, metric};

const CONNECTIONS: usize = 64;

/// Kibibytes of memory that a process has.
fn memory(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Rows of the log by what became of them.
async fn counted(server: &crate::support::server::Server) -> [f64; 3] {
    let mut rows = [0.0; 3];
    for (place, outcome) in ["written", "dropped", "failed"].into_iter().enumerate() {
        let series = format!("onstage_payload_rows_total{{model=\"iris\",outcome=\"{outcome}\"}}");
        rows[place] = metric(server, &series).await;
    }
    rows
}

async fn outage(time: Duration) {
    let place = Place::new();
    std::fs::write(place.log(), "").unwrap();
    // Small bounds, which fill in seconds.
    let flags = [
        "--payload-queue",
        "1MiB",
        "--payload-spool",
        "512KiB",
        "--payload-roll-size",
        "64KiB",
    ];
    let server = Arc::new(place.serve("model-examples/iris", &flags).await);
    let (stop, sent) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let body = json!({ "inputs": [[5.1, 3.5, 1.4, 0.2]] }).to_string();
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (server, stop, sent, body) = (
                Arc::clone(&server),
                Arc::clone(&stop),
                Arc::clone(&sent),
                body.clone(),
            );
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let response = server
                        .post("/invocations", "application/json", body.clone())
                        .await;
                    assert_eq!(response.status(), 200);
                    response.bytes().await.unwrap();
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    tokio::time::sleep(time / 4).await;
    let early = memory(server.process_id());
    tokio::time::sleep(time * 3 / 4).await;
    let late = memory(server.process_id());
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    // The queue, files that are written, and what the allocator keeps.
    assert!(late < early + 32 * 1024, "{early} KiB grew to {late} KiB");
    let sent = sent.load(Ordering::Relaxed) as f64;
    let [written, dropped, failed] = counted(&server).await;
    assert!(
        written == 0.0 && dropped > 0.0 && failed == 0.0,
        "{written} {dropped} {failed}: {}",
        server.stderr()
    );
    std::fs::remove_file(place.log()).unwrap();
    let arrived = async {
        while counted(&server).await.iter().sum::<f64>() < sent {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    // The sender waits for a minute at most between two attempts.
    let arrived = tokio::time::timeout(Duration::from_secs(90), arrived).await;
    let rows = counted(&server).await;
    assert!(arrived.is_ok(), "{rows:?} of {sent}: {}", server.stderr());
    assert_eq!(rows.iter().sum::<f64>(), sent, "{rows:?}");
    let logged: usize = place.files().iter().map(|file| file.rows.num_rows()).sum();
    assert_eq!(logged as f64, rows[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_is_gone_costs_no_request_and_every_row_is_counted() {
    let seconds = std::env::var("ONSTAGE_OUTAGE_SECONDS");
    let seconds = seconds.map_or(120, |text| text.parse().unwrap());
    outage(Duration::from_secs(seconds)).await;
}
