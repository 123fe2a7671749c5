//! Comparing: everybody's turn in each round, in an order that turns about.

use std::time::Duration;

use crate::client::Request;
use crate::contender::Contender;
use crate::drive::{Round, closed_loop};
use crate::report::{Median, Report};

/// One server with one request.
pub(crate) struct Row<'c> {
    pub(crate) what: String,
    pub(crate) contender: &'c Contender,
    pub(crate) request: Request,
}

/// The rounds of each row.
pub(crate) struct Rounds(pub(crate) Vec<Vec<Round>>);

/// Runs all rows so many times, for `time` each.
pub(crate) fn take(rows: &[Row<'_>], connections: usize, rounds: usize, time: Duration) -> Rounds {
    for row in rows {
        row.contender.warm_up(&row.request, 200.min(rounds * 20));
    }
    let mut taken: Vec<Vec<Round>> = rows.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let row = &rows[index];
            let processes = row.contender.processes();
            taken[index].push(closed_loop(&row.request, &processes, connections, time));
        }
    }
    Rounds(taken)
}

impl Rounds {
    pub(crate) fn median(&self, row: usize, of: impl Fn(&Round) -> f64) -> Median {
        Median::of(self.0[row].iter().map(of))
    }

    /// The median over the rounds of a figure of one row by that of another in the same round.
    pub(crate) fn ratio(&self, row: usize, by: usize, of: impl Fn(&Round) -> f64) -> Median {
        let pairs = self.0[row].iter().zip(&self.0[by]);
        Median::of(pairs.map(|(one, other)| of(one) / of(other)))
    }

    /// A table of all rows, the first being what the others are compared with.
    pub(crate) fn table(&self, rows: &[Row<'_>], report: &mut Report) {
        report.line(
            "| | answers/s | by the first | server's CPU for an answer, µs | p50, µs | p99, µs |\n|---|---|---|---|---|---|",
        );
        for (index, row) in rows.iter().enumerate() {
            let us = |time: Duration| time.as_secs_f64() * 1e6;
            report.line(format!(
                "| {} | {:.0} | {} | {:.1} | {:.0} | {:.0} |",
                row.what,
                self.median(index, Round::per_second).value,
                self.ratio(index, 0, Round::per_second),
                self.median(index, Round::cpu_us).value,
                self.median(index, |round| us(round.p50)).value,
                self.median(index, |round| us(round.p99)).value,
            ));
            let refused: usize = self.0[index].iter().map(|round| round.refused).sum();
            assert_eq!(refused, 0, "{} refused", row.what);
        }
    }
}
