//! What a rollout is to do: its steps, and when it may take one.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{ErrorKind, Kinded};

/// A share of the traffic, in per cent: 1 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Weight(u8);

/// Who moves the alias after the last step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Promotion {
    /// A person.
    #[default]
    Manual,
    /// The rollout itself.
    Auto,
}

/// What is wrong with a plan.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// No share of the traffic.
    #[error("{0} is no weight: expected a whole number of per cent from 1 to 100")]
    Weight(i64),
    /// Not even a number.
    #[error("`{0}` is no weight: expected a whole number of per cent from 1 to 100")]
    NotWhole(String),
    /// Nothing to do.
    #[error("`steps` is empty: expected weights in per cent, such as `[1, 5, 25, 50]`")]
    NoSteps,
    /// More than anybody waits for.
    #[error("`steps` has {0} weights: expected at most {MOST_STEPS}")]
    ManySteps(usize),
    /// Users would go back and forth.
    #[error(
        "`steps` goes from {from} to {to} per cent: expected each weight to be greater than the one before"
    )]
    Falling {
        /// The weight before.
        from: Weight,
        /// The one that is not greater.
        to: Weight,
    },
    /// Nobody would ever look.
    #[error("`interval` is zero: expected a time between two looks, such as `10m`")]
    NoInterval,
    /// A test that one answer decides.
    #[error(
        "`min_requests` is {0}: expected at least {LEAST_REQUESTS}, because fewer answers decide nothing"
    )]
    FewRequests(u64),
    /// It would end before it begins.
    #[error(
        "`deadline` is `{deadline}`, but {steps} steps of `{interval}` take longer: expected at least `{least}`",
        deadline = humantime::format_duration(*.deadline),
        interval = humantime::format_duration(*.interval),
        least = humantime::format_duration(.interval.saturating_mul(*.steps)),
    )]
    Deadline {
        /// The deadline.
        deadline: Duration,
        /// The time that each step takes at least.
        interval: Duration,
        /// The number of steps.
        steps: u32,
    },
    /// No share.
    #[error(
        "`max_disagreement` is {0}: expected a share of the compared rows from 0 to 1, such as `0.02`"
    )]
    Disagreement(f64),
    /// No index.
    #[error("`psi_hold` is {0}: expected a positive number, such as `0.2`")]
    PsiHold(f64),
}

impl Kinded for PlanError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}

/// With fewer answers, chance alone decides.
const LEAST_REQUESTS: u64 = 20;

const MOST_STEPS: usize = 100;

/// What a rollout is to do, as it is written.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanParts {
    /// The weights, one after the other.
    pub steps: Vec<i64>,
    /// The time between two looks.
    pub interval: Duration,
    /// Answers of the challenger that a step needs.
    pub min_requests: u64,
    /// Who moves the alias.
    pub promote: Promotion,
    /// When it ends at the stable version.
    pub deadline: Duration,
    /// The share of compared rows that may differ; no gate without it.
    pub max_disagreement: Option<f64>,
    /// Scores that moved further hold the rollout.
    pub psi_hold: f64,
}

impl Default for PlanParts {
    fn default() -> Self {
        Self {
            steps: vec![1, 5, 25, 50],
            interval: Duration::from_secs(600),
            min_requests: 500,
            promote: Promotion::Manual,
            deadline: Duration::from_secs(24 * 3600),
            max_disagreement: None,
            psi_hold: 0.2,
        }
    }
}

impl PlanParts {
    fn check(&self, steps: usize) -> Result<(), PlanError> {
        if steps == 0 {
            return Err(PlanError::NoSteps);
        }
        if steps > MOST_STEPS {
            return Err(PlanError::ManySteps(steps));
        }
        if self.interval.is_zero() {
            return Err(PlanError::NoInterval);
        }
        if self.min_requests < LEAST_REQUESTS {
            return Err(PlanError::FewRequests(self.min_requests));
        }
        let (deadline, interval) = (self.deadline, self.interval);
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        if interval.saturating_mul(steps) > deadline {
            return Err(PlanError::Deadline {
                deadline,
                interval,
                steps,
            });
        }
        let no_share = |share: &f64| !(0.0..=1.0).contains(share);
        if let Some(share) = self.max_disagreement.filter(no_share) {
            return Err(PlanError::Disagreement(share));
        }
        if self.psi_hold.is_nan() || self.psi_hold <= 0.0 {
            return Err(PlanError::PsiHold(self.psi_hold));
        }
        Ok(())
    }
}

/// A plan that makes sense.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    steps: Vec<Weight>,
    parts: PlanParts,
}

impl Plan {
    /// Checks a plan.
    ///
    /// # Errors
    /// The first thing that makes no sense.
    pub fn new(parts: PlanParts) -> Result<Self, PlanError> {
        let steps: Result<Vec<Weight>, PlanError> =
            parts.steps.iter().copied().map(Weight::try_from).collect();
        let steps = steps?;
        for pair in steps.windows(2) {
            if pair[1] <= pair[0] {
                let (from, to) = (pair[0], pair[1]);
                return Err(PlanError::Falling { from, to });
            }
        }
        parts.check(steps.len())?;
        Ok(Self { steps, parts })
    }

    /// The weight of a step; steps count from 1.
    pub fn weight(&self, step: u32) -> Option<Weight> {
        let place = usize::try_from(step.checked_sub(1)?).ok()?;
        self.steps.get(place).copied()
    }

    /// How long all steps take with so many requests an hour, if every look passes; `None` when they never end.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate, and a cast of a float saturates"
    )]
    pub fn takes(&self, requests_an_hour: u64) -> Option<Duration> {
        let interval = self.parts.interval;
        let requests = requests_an_hour as f64 * interval.as_secs_f64() / 3600.0;
        let looks = self.steps.iter().map(|weight| {
            let answers = requests * f64::from(weight.0) / 100.0;
            // What is a whole number but for rounding is one.
            (self.parts.min_requests as f64 / answers - 1e-9)
                .ceil()
                .max(1.0) as u32
        });
        let looks = looks.fold(0_u32, u32::saturating_add);
        (looks < u32::MAX).then(|| interval.saturating_mul(looks))
    }

    /// The time between two looks.
    pub fn interval(&self) -> Duration {
        self.parts.interval
    }

    /// Answers of the challenger that a step needs.
    pub fn min_requests(&self) -> u64 {
        self.parts.min_requests
    }

    /// Who moves the alias.
    pub fn promote(&self) -> Promotion {
        self.parts.promote
    }

    /// When it ends at the stable version.
    pub fn deadline(&self) -> Duration {
        self.parts.deadline
    }

    /// The share of compared rows that may differ.
    pub fn max_disagreement(&self) -> Option<f64> {
        self.parts.max_disagreement
    }

    /// Scores that moved further hold the rollout.
    pub fn psi_hold(&self) -> f64 {
        self.parts.psi_hold
    }
}

impl Weight {
    /// Per cent.
    pub fn percent(self) -> u8 {
        self.0
    }
}

impl TryFrom<i64> for Weight {
    type Error = PlanError;

    fn try_from(percent: i64) -> Result<Self, PlanError> {
        let weight = u8::try_from(percent)
            .ok()
            .filter(|one| (1..=100).contains(one));
        weight.map(Self).ok_or(PlanError::Weight(percent))
    }
}

impl FromStr for Weight {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Self, PlanError> {
        let number: i64 = text
            .trim()
            .parse()
            .map_err(|_| PlanError::NotWhole(text.escape_debug().to_string()))?;
        number.try_into()
    }
}

impl From<Weight> for i64 {
    fn from(weight: Weight) -> Self {
        weight.0.into()
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Promotion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Manual => "manual",
            Self::Auto => "auto",
        })
    }
}

impl FromStr for Promotion {
    type Err = PromotionError;

    fn from_str(text: &str) -> Result<Self, PromotionError> {
        match text {
            "manual" => Ok(Self::Manual),
            "auto" => Ok(Self::Auto),
            _ => Err(PromotionError(text.escape_debug().to_string())),
        }
    }
}

/// A word for no way of promotion.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown way of promotion `{0}`: expected `manual` or `auto`")]
pub struct PromotionError(String);

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut PlanParts)) -> String {
        let mut parts = PlanParts::default();
        change(&mut parts);
        Plan::new(parts).unwrap_err().to_string()
    }

    #[test]
    fn the_default_is_a_plan_of_four_steps() {
        let plan = Plan::new(PlanParts::default()).unwrap();
        let weights: Vec<Option<u8>> = (0..6)
            .map(|step| plan.weight(step).map(Weight::percent))
            .collect();
        assert_eq!(weights, [None, Some(1), Some(5), Some(25), Some(50), None]);
    }

    #[test]
    fn steps_that_fall_or_stay_and_weights_of_0_and_101_are_refused() {
        assert_eq!(
            refused(|parts| parts.steps = vec![5, 1]),
            "`steps` goes from 5 to 1 per cent: expected each weight to be greater than the one before"
        );
        assert!(refused(|parts| parts.steps = vec![5, 5]).contains("from 5 to 5"));
        for weight in [0, 101, -1, i64::MAX] {
            assert_eq!(
                refused(|parts| parts.steps = vec![weight]),
                format!("{weight} is no weight: expected a whole number of per cent from 1 to 100")
            );
        }
        assert!(refused(|parts| parts.steps.clear()).contains("`steps` is empty"));
        assert!(refused(|parts| parts.steps = (1..=101).collect()).contains("101"));
        Plan::new(PlanParts {
            steps: vec![100],
            ..PlanParts::default()
        })
        .unwrap();
    }

    #[test]
    fn how_long_the_steps_take_is_told_from_the_traffic() {
        let plan = Plan::new(PlanParts::default()).unwrap();
        let minutes = |minutes: u64| Some(Duration::from_secs(60 * minutes));
        // 6,000 in an interval: 60, 300, 1,500 and 3,000 answers, so 9, 2, 1 and 1 looks.
        assert_eq!(plan.takes(36_000), minutes(130));
        assert_eq!(plan.takes(6_000), minutes(630));
        assert_eq!(plan.takes(u64::MAX), minutes(40));
        assert_eq!(plan.takes(0), None);
    }

    #[test]
    fn what_can_never_work_is_refused_in_a_sentence() {
        assert!(refused(|parts| parts.interval = Duration::ZERO).contains("`interval` is zero"));
        assert!(refused(|parts| parts.min_requests = 1).contains("`min_requests` is 1"));
        assert_eq!(
            refused(|parts| parts.deadline = Duration::from_secs(1200)),
            "`deadline` is `20m`, but 4 steps of `10m` take longer: expected at least `40m`"
        );
        for share in [-0.1, 1.1, f64::NAN] {
            let sentence = refused(|parts| parts.max_disagreement = Some(share));
            assert!(sentence.contains("`max_disagreement` is"), "{sentence}");
        }
        for psi in [0.0, -1.0, f64::NAN] {
            assert!(refused(|parts| parts.psi_hold = psi).contains("`psi_hold` is"));
        }
    }
}
