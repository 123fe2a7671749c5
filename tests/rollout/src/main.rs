//! Simulates rollouts with the state machine of the server: whether a challenger that is as good as the stable version is left
//! alone, and whether a bad one is caught before a quarter of the users meet it.
//!
//! `rollout-simulation SEED [RUNS]` prints a row for each cell and ends with 1 when one breaks its bound.

// The machine itself, from its own sources: it needs nothing else of the server.
#[allow(dead_code)]
#[path = "../../../src/error.rs"]
pub mod error;
#[allow(dead_code)]
#[path = "../../../src/model/id.rs"]
mod id;
#[path = "../../../src/lifecycle/rollout/mod.rs"]
pub mod rollout;

/// What the machine takes from the module of this name.
pub mod model {
    pub use crate::id::Version;
}

mod cells;
mod fleet;
mod times;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use cells::{Cell, Tally};

/// Runs of each cell, unless the command line has another number.
const RUNS: u32 = 4_000;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let seed = arguments.next().and_then(|text| text.parse().ok());
    let runs = arguments
        .next()
        .map_or(Some(RUNS), |text| text.parse().ok());
    let (Some(seed), Some(runs), None) = (seed, runs, arguments.next()) else {
        eprintln!("usage: rollout-simulation SEED [RUNS]");
        return ExitCode::from(2);
    };
    let cells = cells::all();
    let broken = simulate(&cells, seed, runs);
    println!(
        "\n{} cells, {broken} beyond their bounds, seed {seed}",
        cells.len()
    );
    if broken == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs all cells on all processors, prints their rows in order, and counts those that break their bounds.
fn simulate(cells: &[Cell], seed: u64, runs: u32) -> usize {
    let next = AtomicUsize::new(0);
    let tallies: Mutex<Vec<Option<Tally>>> = Mutex::new(vec![None; cells.len()]);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(cell) = cells.get(place) else { return };
                    let tally = cell.run(place, seed, runs);
                    tallies.lock().expect("no thread panics with it")[place] = Some(tally);
                }
            });
        }
    });
    println!("{}", Cell::HEADER);
    let tallies = tallies.into_inner().expect("no thread panicked");
    let rows = cells.iter().zip(tallies.into_iter().flatten());
    rows.filter(|(cell, tally)| {
        println!("{}", cell.row(tally, seed));
        !cell.holds(tally)
    })
    .count()
}
