//! What swapping costs: dropped requests, latency, memory, time to the first answer, requests to the registry.
//!
//! `cargo bench --bench swap -- [SCENARIO…] [--quick] [--engine ENGINE]` runs all scenarios, or those named. Prints
//! Markdown and writes nothing; what it printed, and what it means, is in `RESULTS.md`. Registries are made for the
//! occasion: directories, and real MLflow servers.

#![expect(
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "real time is what is measured, a table is what is wanted, and a bench may stop on a surprise"
)]

// What starts servers and makes graphs for the tests does so here.
#[allow(dead_code)]
#[path = "../tests/it/support/mlflow_server.rs"]
mod mlflow_server;
#[allow(dead_code)]
#[path = "../tests/it/support/onnx.rs"]
mod onnx;
#[allow(dead_code)]
#[path = "../tests/it/support/server.rs"]
mod server;

#[path = "swap/big.rs"]
mod big;
// The other benches use more of these.
#[allow(dead_code)]
#[path = "harness/client.rs"]
mod client;
#[path = "swap/files.rs"]
mod files;
#[path = "swap/fleet.rs"]
mod fleet;
#[path = "swap/freshness.rs"]
mod freshness;
#[path = "swap/latency.rs"]
mod latency;
#[path = "harness/load.rs"]
mod load;
#[path = "swap/loading.rs"]
mod loading;
#[allow(dead_code)]
#[path = "harness/process.rs"]
mod process;
#[allow(dead_code)]
#[path = "harness/report.rs"]
mod report;
#[path = "swap/storm.rs"]
mod storm;

use report::Report;

/// How much to measure.
struct Scale {
    quick: bool,
    /// `tract` or `onnxruntime`.
    engine: String,
}

impl Scale {
    /// The first number, or the second one when it has to be quick.
    fn of(&self, whole: usize, quick: usize) -> usize {
        if self.quick { quick } else { whole }
    }
}

const SCENARIOS: [&str; 6] = ["storm", "latency", "big", "freshness", "loading", "fleet"];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let flag = |name: &str| arguments.iter().any(|argument| argument == name);
    let engine = arguments
        .iter()
        .skip_while(|argument| *argument != "--engine")
        .nth(1);
    let engine = engine.map_or("tract", String::as_str).to_owned();
    let scale = Scale {
        quick: flag("--quick"),
        engine,
    };
    let named: Vec<&str> = SCENARIOS.into_iter().filter(|name| flag(name)).collect();
    let chosen = if named.is_empty() {
        SCENARIOS.to_vec()
    } else {
        named
    };
    let runtime = tokio::runtime::Runtime::new().expect("the system gives threads");
    println!("{}", report::machine(&scale.engine));
    for scenario in chosen {
        let report = runtime.block_on(run(scenario, &scale));
        println!("## {scenario}\n\n{report}");
    }
}

async fn run(scenario: &str, scale: &Scale) -> Report {
    match scenario {
        "storm" => storm::run(scale).await,
        "latency" => latency::run(scale).await,
        "big" => big::run(scale).await,
        "freshness" => freshness::run(scale).await,
        "loading" => loading::run(scale).await,
        "fleet" => fleet::run(scale).await,
        other => unreachable!("`{other}` is not in the list"),
    }
}
