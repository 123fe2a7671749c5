//! The gates: what ends a rollout, and what makes it wait. Pure functions of what was counted.
//!
//! Input drift and estimated accuracy are no gates: both versions see the same traffic.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::counts::{Counts, RunTimes, ScoreShift};
use super::fisher::{self, Share};
use super::plan::Plan;

/// The challenger may do worse by one percentage point.
const MARGIN: f64 = 0.01;

/// One replica alone judges from so many answers of the challenger on.
const ALONE_FROM: u64 = 100;

/// Of so many answers, half that are bad are enough.
const HALF_OF: u64 = 20;

/// So many of the challenger's runs may be slower than 1.5 times the stable version's 99th percentile.
const SLOW: f64 = 0.02;

/// Of fewer runs the 99th percentile is the slowest one.
const PERCENTILE_FROM: u64 = 100;

/// Whose counts are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// Those of all replicas together.
    Fleet,
    /// Those of one replica, which needs stronger evidence, because every replica looks.
    Replica,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// Server errors and failures of the engine.
    Errors,
    /// Answers that hold NaN or infinity.
    Nonfinite,
    /// Runs of the engine, among those of alike size.
    EngineTime,
    /// Rows of the shadow outside the tolerances.
    Disagreement,
}

/// A gate that ended a rollout, with the numbers that decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The gate.
    pub gate: Gate,
    /// Whose counts.
    pub basis: Basis,
    /// What was bad of the challenger.
    pub challenger: u64,
    /// Of so many answers, runs or rows.
    pub challenger_of: u64,
    /// What was bad of the stable version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<u64>,
    /// Of so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable_of: Option<u64>,
    /// The p-value of Fisher's exact test, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p: Option<f64>,
}

/// Why a look takes no step although nothing is wrong.
#[derive(Debug, Clone, PartialEq)]
pub enum Hold {
    /// The challenger answered too little in this step.
    FewRequests {
        /// So many answers.
        answers: u64,
        /// Of so many that a step needs.
        of: u64,
    },
    /// Both versions ran, but never with an alike number of rows.
    NoCommonSize,
    /// The scores moved; a person may know why.
    Scores {
        /// How far.
        psi: f64,
        /// How far they may.
        limit: f64,
    },
}

impl Basis {
    /// The p-value below which chance is no explanation.
    fn significance(self) -> f64 {
        match self {
            Self::Fleet => 2e-4,
            Self::Replica => 1e-5,
        }
    }

    /// The answers that bad ones are judged from.
    fn from(self, plan: &Plan) -> u64 {
        match self {
            Self::Fleet => plan.min_requests(),
            Self::Replica => ALONE_FROM,
        }
    }
}

/// A challenger that fails at once. Does not wait for an interval to pass.
pub(super) fn at_once(counts: &Counts, basis: Basis) -> Option<Finding> {
    [Gate::Errors, Gate::Nonfinite]
        .into_iter()
        .find_map(|gate| {
            let bad = Bad::answers(gate, counts);
            let Share { hits, of } = bad.challenger;
            let half = of >= HALF_OF && hits * 2 >= of;
            (half && bad.is_worse()).then(|| Finding::new(gate, basis, bad).with(bad.p()))
        })
}

/// The first gate that ends the rollout.
pub(super) fn judge(plan: &Plan, counts: &Counts, basis: Basis) -> Option<Finding> {
    at_once(counts, basis)
        .or_else(|| bad_answers(Gate::Errors, plan, counts, basis))
        .or_else(|| bad_answers(Gate::Nonfinite, plan, counts, basis))
        .or_else(|| slow_runs(plan, counts, basis))
        .or_else(|| disagreement(plan, counts, basis))
}

/// The first reason not to take a step.
pub(super) fn hold(plan: &Plan, counts: &Counts, scores: Option<ScoreShift>) -> Option<Hold> {
    let answers = counts.challenger.answers;
    let of = plan.min_requests();
    if answers < of {
        return Some(Hold::FewRequests { answers, of });
    }
    let (stable, challenger) = (&counts.stable.times, &counts.challenger.times);
    let ran = !stable.is_empty() || !challenger.is_empty();
    if ran && Bad::runs(stable, challenger).challenger.of == 0 {
        return Some(Hold::NoCommonSize);
    }
    let limit = plan.psi_hold();
    scores
        .filter(|scores| scores.psi > limit && scores.psi > scores.bound)
        .map(|scores| Hold::Scores {
            psi: scores.psi,
            limit,
        })
}

/// What is bad of both versions.
#[derive(Debug, Clone, Copy, Default)]
struct Bad {
    challenger: Share,
    stable: Share,
}

impl Bad {
    fn answers(gate: Gate, counts: &Counts) -> Self {
        let (challenger, stable) = (&counts.challenger, &counts.stable);
        match gate {
            Gate::Nonfinite => Self {
                challenger: challenger.nonfinite(),
                stable: stable.nonfinite(),
            },
            _ => Self {
                challenger: challenger.failures(),
                stable: stable.failures(),
            },
        }
    }

    fn is_worse(self) -> bool {
        self.challenger.value() > self.stable.value() + MARGIN
    }

    fn p(self) -> f64 {
        fisher::greater(self.challenger, self.stable)
    }

    /// Runs of sizes that both versions have; bad are those that are slower than 1.5 times the stable version's 99th
    /// percentile.
    fn runs(stable: &RunTimes, challenger: &RunTimes) -> Self {
        let (mut slow, mut runs, mut stable_slow, mut stable_runs) = (0_u64, 0_u64, 0_u64, 0_u64);
        let sizes = stable.common(challenger);
        for (theirs, own) in sizes.filter(|(theirs, _)| theirs.runs() >= PERCENTILE_FROM) {
            let p99 = theirs.p99();
            slow = slow.saturating_add(own.slower(p99));
            runs = runs.saturating_add(own.runs());
            stable_slow = stable_slow.saturating_add(theirs.slower(p99));
            stable_runs = stable_runs.saturating_add(theirs.runs());
        }
        Self {
            challenger: Share::new(slow, runs),
            stable: Share::new(stable_slow, stable_runs),
        }
    }
}

fn bad_answers(gate: Gate, plan: &Plan, counts: &Counts, basis: Basis) -> Option<Finding> {
    let bad = Bad::answers(gate, counts);
    if bad.challenger.of < basis.from(plan) || !bad.is_worse() {
        return None;
    }
    let p = bad.p();
    (p < basis.significance()).then(|| Finding::new(gate, basis, bad).with(p))
}

fn slow_runs(plan: &Plan, counts: &Counts, basis: Basis) -> Option<Finding> {
    let slow = Bad::runs(&counts.stable.times, &counts.challenger.times);
    if slow.challenger.of < plan.min_requests() || slow.challenger.value() <= SLOW {
        return None;
    }
    let p = slow.p();
    (p < basis.significance()).then(|| Finding::new(Gate::EngineTime, basis, slow).with(p))
}

fn disagreement(plan: &Plan, counts: &Counts, basis: Basis) -> Option<Finding> {
    let most = plan.max_disagreement()?;
    let rows = Share::new(counts.compared.differing, counts.compared.rows);
    let differs = rows.of >= plan.min_requests() && rows.value() > most;
    let bad = Bad {
        challenger: rows,
        ..Bad::default()
    };
    differs.then(|| Finding {
        stable: None,
        stable_of: None,
        ..Finding::new(Gate::Disagreement, basis, bad)
    })
}

impl Finding {
    fn new(gate: Gate, basis: Basis, Bad { challenger, stable }: Bad) -> Self {
        Self {
            gate,
            basis,
            challenger: challenger.hits,
            challenger_of: challenger.of,
            stable: Some(stable.hits),
            stable_of: Some(stable.of),
            p: None,
        }
    }

    fn with(self, p: f64) -> Self {
        Self { p: Some(p), ..self }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.gate {
            Gate::Errors => "answers of the challenger failed",
            Gate::Nonfinite => "answers of the challenger hold NaN or infinity",
            Gate::EngineTime => {
                "runs of the challenger took over 1.5 times the stable version's 99th percentile"
            }
            Gate::Disagreement => "compared rows differ beyond the tolerances",
        };
        let challenger = Share::new(self.challenger, self.challenger_of);
        let per_cent = |share: Share| share.value() * 100.0;
        let Share { hits, of } = challenger;
        write!(f, "{hits} of {of} {what} ({:.1} %)", per_cent(challenger))?;
        if let (Some(hits), Some(of)) = (self.stable, self.stable_of) {
            let stable = Share::new(hits, of);
            write!(
                f,
                ", {hits} of {of} of the stable version ({:.1} %)",
                per_cent(stable)
            )?;
        }
        if let Some(p) = self.p {
            write!(f, ", p = {p:.1e}")?;
        }
        match self.basis {
            Basis::Fleet => Ok(()),
            Basis::Replica => f.write_str(", on one replica"),
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FewRequests { answers, of } => write!(
                f,
                "the challenger answered {answers} requests in this step, a step needs {of}"
            ),
            Self::NoCommonSize => {
                f.write_str("the versions have not run batches of alike size, so their times cannot be compared")
            }
            Self::Scores { psi, limit } => write!(
                f,
                "the challenger's scores differ from the stable version's: PSI {psi:.2}, at most {limit} passes; \
                 `promote` overrides it"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::counts::{Compared, VersionCounts};
    use super::super::plan::PlanParts;
    use super::*;

    fn plan() -> Plan {
        Plan::new(PlanParts {
            max_disagreement: Some(0.02),
            ..PlanParts::default()
        })
        .unwrap()
    }

    /// Failures of answers: the stable version's, the challenger's.
    fn failed(stable: (u64, u64), challenger: (u64, u64)) -> Counts {
        let version = |(failed, answers)| VersionCounts {
            answers,
            failed,
            ..VersionCounts::default()
        };
        Counts {
            stable: version(stable),
            challenger: version(challenger),
            ..Counts::default()
        }
    }

    fn gate(counts: &Counts, basis: Basis) -> Option<Gate> {
        judge(&plan(), counts, basis).map(|finding| finding.gate)
    }

    // The numbers on both sides of each bound are those of scipy: 16 of 500 against 495 of 49,500 has p = 6.9e-5, 15 has 2.3e-4.
    #[test]
    fn errors_count_for_a_fleet_from_min_requests_and_below_two_in_ten_thousand() {
        let fleet = |failures, of| gate(&failed((495, 49_500), (failures, of)), Basis::Fleet);
        assert_eq!(fleet(16, 500), Some(Gate::Errors));
        assert_eq!(fleet(15, 500), None);
        assert_eq!(fleet(60, 499), None, "too few answers");
    }

    #[test]
    fn one_percentage_point_is_forgiven_however_sure_the_difference_is() {
        let fleet = |failures| {
            gate(
                &failed((10_000, 1_000_000), (failures, 1_000_000)),
                Basis::Fleet,
            )
        };
        assert_eq!(fleet(20_000), None);
        assert_eq!(fleet(20_001), Some(Gate::Errors));
    }

    #[test]
    fn one_replica_judges_from_a_hundred_on_and_needs_to_be_surer() {
        let replica = |failures, of| gate(&failed((0, 3_000), (failures, of)), Basis::Replica);
        assert_eq!(replica(3, 100), None, "p = 3.3e-5");
        assert_eq!(replica(4, 100), Some(Gate::Errors), "p = 1.0e-6");
        assert_eq!(replica(9, 99), None);
    }

    #[test]
    fn half_of_twenty_are_enough_but_not_when_the_stable_version_fails_as_often() {
        let at = |stable, challenger| {
            at_once(&failed(stable, challenger), Basis::Fleet).map(|finding| finding.gate)
        };
        assert_eq!(at((0, 1_000), (10, 20)), Some(Gate::Errors));
        assert_eq!(at((0, 1_000), (9, 20)), None);
        assert_eq!(at((0, 1_000), (19, 19)), None);
        assert_eq!(at((495, 1_000), (10, 20)), None);
        assert_eq!(
            at((0, 0), (20, 20)),
            Some(Gate::Errors),
            "nobody else answers"
        );
    }

    #[test]
    fn answers_with_nan_are_judged_as_errors_are() {
        let mut counts = failed((0, 49_500), (0, 500));
        counts.stable.nonfinite = 495;
        counts.challenger.nonfinite = 15;
        assert_eq!(gate(&counts, Basis::Fleet), None);
        counts.challenger.nonfinite = 16;
        assert_eq!(gate(&counts, Basis::Fleet), Some(Gate::Nonfinite));
    }

    /// So many runs of each version: `slow` ones of the challenger take three times as long.
    fn times(rows: [u64; 2], slow: u64, runs: u64) -> Counts {
        let mut counts = failed((0, 10_000), (0, runs));
        let [stable_rows, rows] = rows;
        counts.stable.times.record(stable_rows, 0.001, 9_990);
        counts.stable.times.record(stable_rows, 0.1, 10);
        counts.challenger.times.record(rows, 0.001, runs - slow);
        counts.challenger.times.record(rows, 0.003, slow);
        counts
    }

    #[test]
    fn slow_runs_are_compared_among_those_of_alike_size() {
        assert_eq!(
            gate(&times([1, 1], 11, 500), Basis::Fleet),
            Some(Gate::EngineTime)
        );
        assert_eq!(gate(&times([1, 1], 10, 500), Basis::Fleet), None, "2 %");
        assert_eq!(
            gate(&times([1, 1], 400, 499), Basis::Fleet),
            None,
            "too few runs"
        );
        assert_eq!(
            gate(&times([7, 8], 11, 500), Basis::Fleet),
            Some(Gate::EngineTime)
        );
        assert_eq!(
            gate(&times([1, 8], 500, 500), Basis::Fleet),
            None,
            "nothing to compare"
        );
        assert_eq!(
            hold(&plan(), &times([1, 8], 500, 500), None),
            Some(Hold::NoCommonSize)
        );
        assert_eq!(hold(&plan(), &times([1, 1], 0, 500), None), None);
        assert_eq!(
            hold(&plan(), &failed((0, 500), (0, 500)), None),
            None,
            "nothing was timed"
        );
    }

    #[test]
    fn rows_that_differ_end_a_rollout_only_beyond_the_users_bound() {
        let mut counts = failed((0, 500), (0, 500));
        counts.compared = Compared {
            rows: 1_000,
            differing: 20,
        };
        assert_eq!(gate(&counts, Basis::Fleet), None);
        counts.compared.differing = 21;
        assert_eq!(gate(&counts, Basis::Fleet), Some(Gate::Disagreement));
        let without = Plan::new(PlanParts::default()).unwrap();
        assert_eq!(judge(&without, &counts, Basis::Fleet), None);
        counts.compared.rows = 499;
        assert_eq!(gate(&counts, Basis::Fleet), None, "too few rows");
    }

    #[test]
    fn few_requests_and_scores_that_moved_hold() {
        let enough = failed((0, 9_500), (0, 500));
        let few = failed((0, 9_500), (0, 499));
        let of = 500;
        assert_eq!(
            hold(&plan(), &few, None),
            Some(Hold::FewRequests { answers: 499, of })
        );
        let scores = |psi, bound| hold(&plan(), &enough, Some(ScoreShift { psi, bound }));
        assert_eq!(
            scores(0.21, 0.05),
            Some(Hold::Scores {
                psi: 0.21,
                limit: 0.2
            })
        );
        assert_eq!(scores(0.2, 0.05), None);
        assert_eq!(scores(0.21, 0.3), None, "chance alone reaches that");
    }

    #[test]
    fn a_finding_says_what_decided() {
        let finding = judge(&plan(), &failed((495, 49_500), (25, 500)), Basis::Fleet).unwrap();
        assert_eq!(
            finding.to_string(),
            "25 of 500 answers of the challenger failed (5.0 %), 495 of 49500 of the stable version (1.0 %), p = 1.6e-10"
        );
        let text = serde_json::to_string(&finding).unwrap();
        assert!(
            text.starts_with(r#"{"gate":"errors","basis":"fleet","challenger":25,"#),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<Finding>(&text).unwrap(), finding);
    }
}
