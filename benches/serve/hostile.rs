//! Clients that want to harm, beside one that does not: what it feels of them, and what they cost.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::Scale;
use crate::bodies::{Form, iris};
use crate::client::{Client, Request};
use crate::contender::Contender;
use crate::drive::{Round, closed_loop};
use crate::process::Usage;
use crate::report::{Report, ms};
use crate::server::Starter;

const STRETCH: Duration = Duration::from_secs(4);

/// The connections of the client that means no harm.
const CONNECTIONS: usize = 4;

/// What does the harm until it is told to stop.
type Harm = Box<dyn Fn(&Contender, Arc<AtomicBool>) -> Vec<std::thread::JoinHandle<()>>>;

pub(crate) async fn run(scale: Scale) -> Report {
    let crowd = scale.of(10_000, 1000);
    let mut report = Report::default();
    report.line("| beside | answers/s | p50, ms | p99, ms | p99 by that alone | most memory, MB |\n|---|---|---|---|---|---|");
    // The harm costs its sender's time and the kernel's as well, on the same cores: this server takes it and does nothing.
    let sink = Contender::sink();
    let harms: [(&str, Harm); 5] = [
        (
            "slow heads",
            Box::new(move |at, stop| slow(at, stop, crowd / 10)),
        ),
        (
            "idle connections",
            Box::new(move |at, stop| idle(at, stop, crowd)),
        ),
        ("zip bombs", Box::new(|at, stop| again(&bomb(at), stop))),
        (
            "100 MB of nesting",
            Box::new(|at, stop| again(&nested(at), stop)),
        ),
        (
            "huge declared shapes",
            Box::new(|at, stop| again(&shapes(at), stop)),
        ),
    ];
    for (name, harm) in harms {
        let ours = started(crowd).await;
        let request = iris(ours.address(), Form::Json);
        let healthy = || closed_loop(&request, &ours.processes(), CONNECTIONS, STRETCH);
        healthy();
        let alone = healthy();
        row(&mut report, "nobody", alone, 1.0, &ours);
        let beside_harm_to = |harmed: &Contender| {
            let stop = Arc::new(AtomicBool::new(false));
            let threads = harm(harmed, Arc::clone(&stop));
            let beside = healthy();
            stop.store(true, Ordering::Relaxed);
            for thread in threads {
                thread.join().expect("whoever does harm does not panic");
            }
            let times = beside.p99.as_secs_f64() / alone.p99.as_secs_f64();
            (beside, times)
        };
        let (beside, times) = beside_harm_to(&sink);
        row(
            &mut report,
            &format!("{name}, to another server"),
            beside,
            times,
            &ours,
        );
        let (beside, times) = beside_harm_to(&ours);
        row(&mut report, name, beside, times, &ours);
        report.bar(&format!("{name}: p99 by that alone"), times, 2.0, "");
        report.bar(&format!("{name}: refused"), beside.refused as f64, 0.0, "");
    }
    report
}

async fn started(crowd: usize) -> Contender {
    let connections = (crowd + 100).to_string();
    let arguments = [
        "model-examples/iris",
        "--engine",
        "tract",
        "--max-body",
        "128MiB",
    ];
    let starter = Starter::serve(&arguments).env("ONSTAGE_LIMITS__MAX_CONNECTIONS", connections);
    Contender::started("onstage", starter.start().await)
}

fn row(report: &mut Report, name: &str, round: Round, times: f64, ours: &Contender) {
    let process = ours.processes()[0];
    report.line(format!(
        "| {name} | {:.0} | {} | {} | {times:.2} | {:.0} |",
        round.per_second(),
        ms(round.p50),
        ms(round.p99),
        Usage::of(process).resident_mb,
    ));
}

/// Heads that come byte by byte and never end.
fn slow(at: &Contender, stop: Arc<AtomicBool>, count: usize) -> Vec<std::thread::JoinHandle<()>> {
    let address = at.address();
    vec![std::thread::spawn(move || {
        let open = |_| TcpStream::connect(address).ok();
        let mut streams: Vec<_> = (0..count).filter_map(open).collect();
        while !stop.load(Ordering::Relaxed) {
            streams.retain_mut(|stream| stream.write_all(b"x").is_ok());
            std::thread::sleep(Duration::from_millis(100));
        }
    })]
}

/// Connections that are there.
fn idle(at: &Contender, stop: Arc<AtomicBool>, count: usize) -> Vec<std::thread::JoinHandle<()>> {
    let address = at.address();
    let open = |_| TcpStream::connect(address).ok();
    let streams: Vec<_> = (0..count).filter_map(open).collect();
    vec![std::thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
        }
        drop(streams);
    })]
}

/// The same request again and again, on one connection.
fn again(request: &Request, stop: Arc<AtomicBool>) -> Vec<std::thread::JoinHandle<()>> {
    let request = request.clone();
    vec![std::thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            // Who refuses a body may close the connection that it comes on.
            let _ = Client::connect(&request).and_then(|mut client| client.ask());
        }
    })]
}

fn bomb(at: &Contender) -> Request {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let spaces = vec![b' '; 1 << 20];
    (0..1024).for_each(|_| encoder.write_all(&spaces).expect("memory"));
    let headers = "Content-Type: application/json\r\nContent-Encoding: gzip\r\n";
    let body = encoder.finish().expect("memory");
    Request::with_headers(at.address(), "/invocations", headers, &body)
}

fn nested(at: &Contender) -> Request {
    let headers = "Content-Type: application/json\r\n";
    Request::with_headers(
        at.address(),
        "/invocations",
        headers,
        &vec![b'['; 100 << 20],
    )
}

fn shapes(at: &Contender) -> Request {
    let body = r#"{"inputs":[{"name":"features","datatype":"FP32","shape":[4611686018427387904,4],"data":[1,2,3,4]}]}"#;
    Request::new(at.address(), "/v2/models/iris/infer", body)
}
