//! What is simulated.

use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::time::Duration;

use crate::fleet::{self, Outcome};
use crate::rollout::{Plan, PlanParts, Promotion};
use crate::times::Times;

/// How both versions answer; the stable one first.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Shares of failed answers, each by chance.
    pub errors: [f64; 2],
    /// The same in the last step, of both.
    pub errors_at_the_end: Option<f64>,
    /// Shares of answers that hold NaN.
    pub nonfinite: [f64; 2],
    /// The share of users whose requests always fail, on both.
    pub failing_users: f64,
    /// Times of runs, where they are looked at.
    pub times: Option<[Times; 2]>,
}

/// What must come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// At most 20 of 4,000 are aborted.
    LeftAlone,
    /// At least 1,980 of 2,000 are aborted before a quarter of the users meet the challenger.
    Caught,
}

/// One row of the result.
#[derive(Debug)]
pub struct Cell {
    name: &'static str,
    /// How both versions answer.
    pub traffic: Traffic,
    /// Requests in an interval.
    pub requests: u64,
    /// Looks at the last weight.
    pub looks: u32,
    /// Replicas; all judge alone, and the first one judges the sum, too.
    pub replicas: usize,
    expected: Expected,
}

/// What came out.
#[derive(Debug, Clone, Copy)]
pub struct Tally {
    runs: u32,
    aborted: u32,
    early: u32,
}

/// A quarter of the users.
const EARLY: u8 = 25;

type Scenario = (&'static str, Expected, fn() -> Traffic);

const SCENARIOS: &[Scenario] = &[
    ("no errors", Expected::LeftAlone, || errors(0.0, 0.0)),
    ("errors 1 %", Expected::LeftAlone, || errors(0.01, 0.01)),
    ("errors 3 %", Expected::LeftAlone, || errors(0.03, 0.03)),
    (
        "errors 1 %, 4 % in the last step",
        Expected::LeftAlone,
        || Traffic {
            errors_at_the_end: Some(0.04),
            ..errors(0.01, 0.01)
        },
    ),
    ("NaN 1 %", Expected::LeftAlone, || Traffic {
        nonfinite: [0.01; 2],
        ..Traffic::default()
    }),
    ("3 % of users always fail", Expected::LeftAlone, || {
        Traffic {
            failing_users: 0.03,
            ..Traffic::default()
        }
    }),
    ("times σ 0.3", Expected::LeftAlone, || times(0.3, 0.0, 1.0)),
    ("times σ 0.6", Expected::LeftAlone, || times(0.6, 0.0, 1.0)),
    ("times σ 1", Expected::LeftAlone, || times(1.0, 0.0, 1.0)),
    ("times σ 0.3, 0.8 % pauses", Expected::LeftAlone, || {
        times(0.3, 0.008, 1.0)
    }),
    ("times σ 0.6, 0.8 % pauses", Expected::LeftAlone, || {
        times(0.6, 0.008, 1.0)
    }),
    ("times σ 1, 0.8 % pauses", Expected::LeftAlone, || {
        times(1.0, 0.008, 1.0)
    }),
    ("errors 5 % against 1 %", Expected::Caught, || {
        errors(0.01, 0.05)
    }),
    ("NaN 5 % against none", Expected::Caught, || Traffic {
        nonfinite: [0.0, 0.05],
        ..Traffic::default()
    }),
    (
        "3 × slower, σ 0.6, 0.8 % pauses",
        Expected::Caught,
        || times(0.6, 0.008, 3.0),
    ),
];

fn errors(stable: f64, challenger: f64) -> Traffic {
    Traffic {
        errors: [stable, challenger],
        ..Traffic::default()
    }
}

fn times(sigma: f64, pauses: f64, slower: f64) -> Traffic {
    Traffic {
        times: Some([
            Times::new(sigma, pauses, 1.0),
            Times::new(sigma, pauses, slower),
        ]),
        ..Traffic::default()
    }
}

/// Every cell.
pub fn all() -> Vec<Cell> {
    let mut cells = Vec::new();
    for (name, expected, traffic) in SCENARIOS {
        for requests in [1_000, 6_000] {
            for looks in [1, 144] {
                for replicas in [1, 3] {
                    cells.push(Cell {
                        name,
                        traffic: traffic(),
                        requests,
                        looks,
                        replicas,
                        expected: *expected,
                    });
                }
            }
        }
    }
    cells
}

impl Cell {
    /// The first lines of the table.
    pub const HEADER: &str = "| traffic | requests | looks at 50 % | replicas | runs | aborted | before 25 % | seed | |\n\
                              |---|---|---|---|---|---|---|---|---|";

    /// Runs it so often. `place` gives every cell numbers of its own.
    pub fn run(&self, place: usize, seed: u64, runs: u32) -> Tally {
        let mut rng =
            SmallRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(place as u64));
        let promote = if self.looks == 1 {
            Promotion::Auto
        } else {
            Promotion::Manual
        };
        let parts = PlanParts {
            promote,
            // Traffic is thin in some cells, and the deadline is no part of what is tried.
            deadline: Duration::from_secs(365 * 24 * 3600),
            ..PlanParts::default()
        };
        let plan = Plan::new(parts).expect("a plan");
        let mut tally = Tally {
            runs: if self.expected == Expected::Caught {
                runs / 2
            } else {
                runs
            },
            aborted: 0,
            early: 0,
        };
        for _ in 0..tally.runs {
            if let Outcome::Aborted(percent) = fleet::run(self, &plan, &mut rng) {
                tally.aborted += 1;
                tally.early += u32::from(percent < EARLY);
            }
        }
        tally
    }

    /// Whether the bound holds: 0.5 % of equal ones, 99 % of bad ones.
    pub fn holds(&self, tally: &Tally) -> bool {
        match self.expected {
            Expected::LeftAlone => tally.aborted * 200 <= tally.runs,
            Expected::Caught => tally.early * 100 >= tally.runs * 99,
        }
    }

    /// A line of the table.
    pub fn row(&self, tally: &Tally, seed: u64) -> String {
        let looks = if self.looks == 1 {
            "auto".to_owned()
        } else {
            self.looks.to_string()
        };
        format!(
            "| {} | {} | {looks} | {} | {} | {} | {} | {seed} | {} |",
            self.name,
            self.requests,
            self.replicas,
            tally.runs,
            tally.aborted,
            tally.early,
            if self.holds(tally) {
                ""
            } else {
                "**beyond its bound**"
            }
        )
    }
}
