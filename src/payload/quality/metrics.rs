//! Metrics of predictions whose outcome is known, weighted, under the names and by the definitions of scikit-learn.

use super::sample::Sample;

/// What a row is worth for metrics.
#[derive(Debug, Clone)]
pub(super) enum Known {
    /// A class that was predicted and one that was true.
    Classes(Vec<Classified>),
    /// A number that was predicted and one that was true.
    Numbers(Vec<(f64, f64)>),
}

/// One classified row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Classified {
    pub(super) is_right: bool,
    /// Of two classes: whether the second was predicted, and whether it was true.
    pub(super) binary: Option<(bool, bool)>,
    /// Of two classes: the probability of the second.
    pub(super) score: Option<f64>,
    /// The probability of the class that was true.
    pub(super) likelihood: Option<f64>,
}

/// One metric.
pub(super) type Metric = (&'static str, f64);

impl Known {
    /// The rows in the order of their scores, which areas under curves need; computed once for all weights.
    pub(super) fn order(&self) -> Vec<usize> {
        let Self::Classes(rows) = self else {
            return Vec::new();
        };
        if rows.iter().any(|row| row.score.is_none()) {
            return Vec::new();
        }
        let mut order: Vec<usize> = (0..rows.len()).collect();
        let score = |row: &usize| rows[*row].score.unwrap_or_default();
        order.sort_by(|one, other| score(one).total_cmp(&score(other)));
        order
    }

    /// The metrics that are defined for these weights.
    pub(super) fn metrics(&self, weights: &[f64], order: &[usize]) -> Vec<Metric> {
        let total: f64 = weights.iter().sum();
        if total <= 0.0 {
            return Vec::new();
        }
        match self {
            Self::Classes(rows) => classes(rows, (weights, total), order),
            Self::Numbers(rows) => numbers(rows, weights, total),
        }
    }
}

fn classes(rows: &[Classified], (weights, total): (&[f64], f64), order: &[usize]) -> Vec<Metric> {
    let pairs = || rows.iter().zip(weights);
    let sum = |of: &dyn Fn(&Classified) -> f64| {
        pairs().map(|(row, weight)| weight * of(row)).sum::<f64>()
    };
    let mut found = vec![(
        "accuracy_score",
        sum(&|row| f64::from(u8::from(row.is_right))) / total,
    )];
    if rows.iter().all(|row| row.binary.is_some()) {
        let count =
            |wanted: (bool, bool)| sum(&|row| f64::from(u8::from(row.binary == Some(wanted))));
        let (hits, wrong) = (
            count((true, true)),
            count((true, false)) + count((false, true)),
        );
        // As scikit-learn: 0 where there is nothing to find.
        let f1 = if hits + wrong > 0.0 {
            2.0 * hits / (2.0 * hits + wrong)
        } else {
            0.0
        };
        found.push(("f1_score", f1));
    }
    found.extend(area(rows, weights, order).map(|area| ("roc_auc", area)));
    if rows.iter().all(|row| row.likelihood.is_some()) {
        let loss = sum(&|row| -row.likelihood.unwrap_or(1.0).ln());
        found.push(("log_loss", loss / total));
    }
    found
}

/// The area under the ROC curve: the chance that a positive row scores above a negative one, ties counting half. `None` when
/// only one class was true.
fn area(rows: &[Classified], weights: &[f64], order: &[usize]) -> Option<f64> {
    let (mut below, mut pairs) = (0.0, 0.0);
    let (mut positives, mut negatives) = (0.0, 0.0);
    let mut index = 0;
    while index < order.len() {
        let score = rows[order[index]].score;
        let (mut positive, mut negative) = (0.0, 0.0);
        while index < order.len() && rows[order[index]].score == score {
            let row = order[index];
            match rows[row].binary? {
                (_, true) => positive += weights[row],
                (_, false) => negative += weights[row],
            }
            index += 1;
        }
        pairs += positive * (below + negative / 2.0);
        below += negative;
        positives += positive;
        negatives += negative;
    }
    (positives > 0.0 && negatives > 0.0).then(|| pairs / (positives * negatives))
}

fn numbers(rows: &[(f64, f64)], weights: &[f64], total: f64) -> Vec<Metric> {
    let pairs = || rows.iter().zip(weights);
    let absolute: f64 = pairs()
        .map(|((predicted, label), weight)| weight * (predicted - label).abs())
        .sum();
    let squared: f64 = pairs()
        .map(|((predicted, label), weight)| weight * (predicted - label).powi(2))
        .sum();
    let mean = pairs()
        .map(|((_, label), weight)| weight * label)
        .sum::<f64>()
        / total;
    let spread: f64 = pairs()
        .map(|((_, label), weight)| weight * (label - mean).powi(2))
        .sum();
    let mut found = vec![
        ("mean_absolute_error", absolute / total),
        ("root_mean_squared_error", (squared / total).sqrt()),
    ];
    // Of one row, or of labels that are all the same, it says nothing.
    if spread > 0.0 && rows.len() > 1 {
        found.push(("r2_score", 1.0 - squared / spread));
    }
    found
}

/// Repetitions of the bootstrap.
const REPETITIONS: u64 = 200;

/// A metric with the limits between which it is in 95 of 100 cases.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Estimate {
    /// Of the rows as they are.
    pub value: f64,
    /// The lower limit.
    pub low: f64,
    /// The upper limit.
    pub high: f64,
}

/// The metrics with their intervals: percentiles of a bootstrap over requests, as rows of one request are no independent
/// evidence. The same rows always give the same numbers.
pub(super) fn estimates(
    known: &Known,
    weights: &[f64],
    requests: &[&str],
) -> Vec<(&'static str, Estimate)> {
    let order = known.order();
    let values = known.metrics(weights, &order);
    let mut repeated: Vec<Vec<f64>> = vec![Vec::new(); values.len()];
    for repetition in 0..REPETITIONS {
        let sample = Sample::new(repetition);
        let drawn = weights.iter().zip(requests);
        let drawn: Vec<f64> = drawn
            .map(|(weight, request)| weight * sample.times(request))
            .collect();
        let again = known.metrics(&drawn, &order);
        for (place, (name, _)) in values.iter().enumerate() {
            let found = again.iter().find(|(other, _)| other == name);
            repeated[place].extend(found.map(|(_, value)| value));
        }
    }
    let estimate = |((name, value), mut repeated): (Metric, Vec<f64>)| {
        repeated.sort_by(f64::total_cmp);
        let limit = |share: f64| {
            let place = (share * repeated.len() as f64) as usize;
            repeated
                .get(place.min(repeated.len().saturating_sub(1)))
                .copied()
                .unwrap_or(value)
        };
        let (low, high) = (limit(0.025).min(value), limit(0.975).max(value));
        (name, Estimate { value, low, high })
    };
    values.into_iter().zip(repeated).map(estimate).collect()
}
