//! What serving costs, beside what it could cost at least: a constant answer, and ONNX Runtime without a server.
//!
//! `cargo bench --bench serve -- [SCENARIO…] [--quick]` runs all scenarios, or those named. Those that are compared run in
//! turns of a second, forwards and backwards, so that the machine's moods are the same for all. Prints Markdown; what it
//! printed, and what it means, is in `RESULTS.md`. With `--plot`, `small` also draws `iris.svg` for that page.

#![expect(
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "real time is what is measured, a table is what is wanted, and a bench may stop on a surprise"
)]

// What starts servers and makes graphs for the tests does so here.
#[allow(dead_code)]
#[path = "../tests/it/support/onnx.rs"]
mod onnx;
#[allow(dead_code)]
#[path = "../tests/it/support/server.rs"]
mod server;

#[allow(dead_code)]
#[path = "harness/client.rs"]
mod client;
#[path = "harness/drive.rs"]
mod drive;
#[path = "harness/grpc.rs"]
mod grpc;
#[allow(dead_code)]
#[path = "harness/load.rs"]
mod load;
#[path = "harness/plot.rs"]
mod plot;
#[allow(dead_code)]
#[path = "harness/process.rs"]
mod process;
#[allow(dead_code)]
#[path = "harness/report.rs"]
mod report;

#[path = "serve/bare.rs"]
mod bare;
#[path = "serve/batching.rs"]
mod batching;
#[path = "serve/bodies.rs"]
mod bodies;
#[path = "serve/constant.rs"]
mod constant;
#[path = "serve/contender.rs"]
mod contender;
#[path = "serve/hostile.rs"]
mod hostile;
#[path = "serve/image.rs"]
mod image;
#[path = "serve/large.rs"]
mod large;
#[path = "serve/many.rs"]
mod many;
#[path = "serve/models.rs"]
mod models;
#[path = "serve/neighbours.rs"]
mod neighbours;
#[path = "serve/open.rs"]
mod open;
#[path = "serve/overload.rs"]
mod overload;
#[path = "serve/protocols.rs"]
mod protocols;
#[path = "serve/raw.rs"]
mod raw;
#[path = "serve/small.rs"]
mod small;
#[path = "serve/turns.rs"]
mod turns;

use report::Report;

/// How much to measure.
#[derive(Clone, Copy)]
struct Scale {
    quick: bool,
    plot: bool,
}

impl Scale {
    /// The first number, or the second one when it has to be quick.
    fn of(self, whole: usize, quick: usize) -> usize {
        if self.quick { quick } else { whole }
    }
}

const SCENARIOS: [&str; 11] = [
    "small",
    "protocols",
    "large",
    "image",
    "batching",
    "open",
    "quota",
    "overload",
    "neighbours",
    "many",
    "hostile",
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Runtime::new().expect("the system gives threads");
    // The roles in which the bench starts itself.
    match arguments
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["constant"] => return runtime.block_on(constant::serve()),
        ["sink"] => return runtime.block_on(constant::sink()),
        ["bare", model] => return runtime.block_on(bare::serve(model)),
        ["raw", model, rows] => return raw::serve(model, rows),
        ["image", model, body] => return image::serve(model, body),
        _ => {}
    }
    let flag = |name: &str| arguments.iter().any(|argument| argument == name);
    let scale = Scale {
        quick: flag("--quick"),
        plot: flag("--plot"),
    };
    let named: Vec<&str> = SCENARIOS.into_iter().filter(|name| flag(name)).collect();
    let chosen = if named.is_empty() {
        SCENARIOS.to_vec()
    } else {
        named
    };
    println!("{}", report::machine("tract and ONNX Runtime"));
    for scenario in chosen {
        let report = runtime.block_on(run(scenario, scale));
        println!("## {scenario}\n\n{report}");
    }
}

async fn run(scenario: &str, scale: Scale) -> Report {
    match scenario {
        "small" => small::run(scale).await,
        "protocols" => protocols::run(scale).await,
        "large" => large::run(scale).await,
        "image" => image::run(scale).await,
        "batching" => batching::run(scale).await,
        "open" => open::run(scale).await,
        "quota" => open::quota(scale).await,
        "overload" => overload::run(scale).await,
        "neighbours" => neighbours::run(scale).await,
        "hostile" => hostile::run(scale).await,
        "many" => many::run(scale).await,
        other => unreachable!("`{other}` is not in the list"),
    }
}
