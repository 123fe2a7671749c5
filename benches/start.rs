//! From the start of the process to its first prediction, and the memory it then holds: iris on each engine.
//!
//! Prints medians of several starts; writes nothing. The figures are of this machine and this moment: compare the rows
//! of one run with each other.

#![expect(
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "real time is what is measured, and a table is what is wanted"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const STARTS: usize = 15;
const BODY: &str = r#"{"inputs": [[5.1, 3.5, 1.4, 0.2]]}"#;

fn main() {
    println!("| engine | start to banner, ms | start to first prediction, ms | resident, MB |");
    println!("|---|---|---|---|");
    for engine in ["tract", "onnxruntime"] {
        let mut runs: Vec<Run> = (0..STARTS).map(|_| start(engine)).collect();
        let mut median = |of: fn(&Run) -> f64| {
            runs.sort_by(|a, b| of(a).total_cmp(&of(b)));
            of(&runs[STARTS / 2])
        };
        let (banner, prediction, memory) = (
            median(|run| run.banner_ms),
            median(|run| run.prediction_ms),
            median(|run| run.resident_mb),
        );
        println!("| {engine} | {banner:.1} | {prediction:.1} | {memory:.1} |");
    }
}

struct Run {
    banner_ms: f64,
    prediction_ms: f64,
    resident_mb: f64,
}

fn start(engine: &str) -> Run {
    let began = Instant::now();
    let mut server = Command::new(env!("CARGO_BIN_EXE_onstage"))
        .args([
            "serve",
            "model-examples/iris",
            "--port",
            "0",
            "--grpc-port",
            "0",
            "--engine",
            engine,
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary was just built");
    let stdout = BufReader::new(server.stdout.take().expect("stdout is piped"));
    let address = stdout
        .lines()
        .map_while(Result::ok)
        .find_map(|line| {
            line.split_once("http://")
                .map(|(_, rest)| rest.trim().to_owned())
        })
        .unwrap_or_else(|| panic!("`onstage serve --engine {engine}` did not start"));
    let banner = began.elapsed();
    let answer = predict(&address);
    let prediction = began.elapsed();
    assert!(answer.contains("\"label\": [0]"), "{answer}");
    let resident_mb = resident_kb(server.id()) / 1024.0;
    server.kill().expect("the server runs");
    server.wait().expect("the server was killed");
    let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
    Run {
        banner_ms: ms(banner),
        prediction_ms: ms(prediction),
        resident_mb,
    }
}

fn predict(address: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    let request = format!(
        "POST /invocations HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    stream
        .write_all(request.as_bytes())
        .expect("the server reads");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .expect("the server answers");
    answer
}

fn resident_kb(process: u32) -> f64 {
    let status =
        std::fs::read_to_string(format!("/proc/{process}/status")).expect("the server runs");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .expect("Linux tells");
    line.split_whitespace()
        .nth(1)
        .and_then(|kb| kb.parse().ok())
        .expect("a number of kB")
}
