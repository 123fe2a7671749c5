//! `TreeEnsembleClassifier`: labels and scores, by the rules of ONNX Runtime for two classes.

use super::super::super::failure::{Failure, Refusal};
use super::super::super::node::Node;
use super::super::super::operator::{Built, Inputs, Operator, Run};
use super::super::super::value::Value;
use super::super::scores::{ClassLabels, Transform, logistic};
use super::Real;
use super::kernel::{Aggregate, Ensemble, Row};
use super::read::{Lists, from_lists};
use crate::tensor::DType;

/// How a row's sums become a label and scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Three classes or more: the largest sum.
    Largest,
    /// Two classes, and all leaves vote for one of them: the sum is the score of the second class. With weights that are
    /// all positive it is a probability.
    One {
        are_all_positive: bool,
        voted: usize,
    },
    /// Two classes with votes for both: the sign of the second sum decides.
    Both,
}

struct Classifier<T> {
    ensemble: Ensemble<T>,
    labels: ClassLabels,
    base_values: Vec<T>,
    transform: Transform,
    rule: Rule,
}

impl<T: Real> Operator for Classifier<T> {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let input = inputs.get(0)?;
        let (rows, _) = input.samples();
        let classes = self.labels.len();
        let [labels, scores] = outputs else {
            return Err(Failure::new("has two outputs".to_owned()));
        };
        self.labels.start(rows, labels);
        let scores = scores.start::<f32>(&[rows, classes]);
        scores.resize(rows * classes, 0.0);
        self.ensemble.run(input, run, |index, row| {
            let scores = &mut scores[index * classes..][..classes];
            let class = self.finish(row, scores);
            self.labels.push(class, labels);
        })
    }

    fn size(&self) -> u64 {
        self.ensemble.size()
    }

    fn cost(&self) -> Option<u64> {
        Some(self.ensemble.cost())
    }
}

impl<T: Real> Classifier<T> {
    /// Writes the scores of a row and answers with its class.
    fn finish(&self, row: Row<'_, T>, scores: &mut [f32]) -> usize {
        match self.rule {
            Rule::Largest => self.largest(&row, scores),
            Rule::One {
                are_all_positive,
                voted,
            } => self.one(row.sums, scores, are_all_positive, voted),
            Rule::Both => {
                if let (Some(base), true) = (self.base_values.first(), row.is_voted(0)) {
                    row.sums[0] += *base;
                }
                let class = usize::from(row.is_voted(1) && row.sums[1] > T::ZERO);
                scores[0] = row.sums[0].to_f32();
                scores[1] = row.sums[1].to_f32();
                self.transform.apply(scores);
                class
            }
        }
    }

    fn largest(&self, row: &Row<'_, T>, scores: &mut [f32]) -> usize {
        let mut best = None;
        for (class, score) in scores.iter_mut().enumerate() {
            let mut sum = row.sums[class];
            match self.base_values.get(class) {
                Some(base) => sum += *base,
                // A class without a vote cannot win.
                None if !row.is_voted(class) => continue,
                None => {}
            }
            row_max(&mut best, class, sum);
            *score = sum.to_f32();
        }
        self.transform.apply(scores);
        best.map_or(0, |(class, _)| class)
    }

    fn one(&self, sums: &[T], scores: &mut [f32], are_all_positive: bool, voted: usize) -> usize {
        let mut sum = sums[0];
        if voted == 1 {
            // The first class has a column of its own, in which nothing is, nor does the base value count.
            scores[1] = sum.to_f32();
            self.transform.apply(scores);
        } else {
            if let Some(base) = self.base_values.first() {
                sum += *base;
            }
            let score = sum.to_f32();
            [scores[0], scores[1]] = match self.transform {
                Transform::Logistic => [logistic(-score), logistic(score)],
                _ if are_all_positive => [1.0 - score, score],
                _ => [-score, score],
            };
        }
        let threshold = if are_all_positive { 0.5 } else { 0.0 };
        usize::from(sum.to_f64() > threshold)
    }
}

fn row_max<T: PartialOrd + Copy>(best: &mut Option<(usize, T)>, class: usize, sum: T) {
    if best.is_none_or(|(_, most)| sum > most) {
        *best = Some((class, sum));
    }
}

const ATTRIBUTES: [&str; 20] = [
    "base_values",
    "base_values_as_tensor",
    "class_ids",
    "class_nodeids",
    "class_treeids",
    "class_weights",
    "class_weights_as_tensor",
    "classlabels_int64s",
    "classlabels_strings",
    "nodes_falsenodeids",
    "nodes_featureids",
    "nodes_hitrates",
    "nodes_hitrates_as_tensor",
    "nodes_missing_value_tracks_true",
    "nodes_modes",
    "nodes_nodeids",
    "nodes_treeids",
    "nodes_truenodeids",
    "nodes_values",
    "nodes_values_as_tensor",
];

/// Numbers that are an attribute of FP32, or a tensor for FP64.
pub(super) fn numbers<T: Real>(node: &Node<'_>, name: &str) -> Result<Vec<T>, Refusal> {
    let tensor = format!("{name}_as_tensor");
    if node.attribute(&tensor).is_some() {
        if node.attribute(name).is_some() {
            return Err(node.refuse(format!("has both `{name}` and `{tensor}`")));
        }
        return node.elements::<T>(&tensor);
    }
    Ok(node
        .floats(name)
        .iter()
        .map(|value| T::from_f32(*value))
        .collect())
}

/// The lists that both operators have under one name.
pub(super) fn lists<'g, T: Real>(
    node: &Node<'g>,
    votes: &str,
    outputs: usize,
) -> Result<Lists<'g, T>, Refusal> {
    let modes = node.attribute("nodes_modes");
    Ok(Lists {
        tree_ids: node.ints("nodes_treeids"),
        node_ids: node.ints("nodes_nodeids"),
        features: node.ints("nodes_featureids"),
        modes: modes.map_or(&[], |modes| &modes.strings),
        thresholds: numbers(node, "nodes_values")?,
        yes: node.ints("nodes_truenodeids"),
        no: node.ints("nodes_falsenodeids"),
        missing_is_true: node.ints("nodes_missing_value_tracks_true"),
        vote_trees: node.ints(&format!("{votes}_treeids")),
        vote_nodes: node.ints(&format!("{votes}_nodeids")),
        vote_outputs: node.ints(&format!("{votes}_ids")),
        vote_weights: numbers(node, &format!("{votes}_weights"))?,
        outputs,
    })
}

/// Trees that compare in FP64 have their numbers in tensors; all others compare in FP32.
pub(super) fn is_double(node: &Node<'_>) -> Result<bool, Refusal> {
    match node.dtype(0)? {
        DType::F64 => Ok(true),
        DType::F32 | DType::I64 | DType::I32 => Ok(false),
        other => Err(node.unsupported(other)),
    }
}

pub(in super::super) fn classifier(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&[&ATTRIBUTES[..], &["post_transform"]].concat())?;
    if is_double(node)? {
        typed::<f64>(node)
    } else {
        typed::<f32>(node)
    }
}

fn typed<T: Real>(node: &Node<'_>) -> Result<Built, Refusal> {
    let labels = ClassLabels::new(node, "classlabels_int64s")?;
    let transform = Transform::new(node)?;
    let lists = lists::<T>(node, "class", labels.len())?;
    let base_values = numbers::<T>(node, "base_values")?;
    let rule = rule(node, &lists, &labels, transform)?;
    let expected = if rule == Rule::Largest {
        labels.len()
    } else {
        1
    };
    if !base_values.is_empty() && base_values.len() != expected {
        let count = base_values.len();
        return Err(node.refuse(format!(
            "{count} `base_values` for {} classes are not supported",
            labels.len()
        )));
    }
    let mut forest = from_lists(&lists).map_err(|fault| node.refuse(fault.to_string()))?;
    if let Rule::One { voted, .. } = rule {
        forest = forest.with_output(voted);
    }
    let ensemble =
        Ensemble::new(forest, Aggregate::Sum).map_err(|fault| node.refuse(fault.to_string()))?;
    let dtypes = [labels.dtype(), DType::F32];
    let operator = Classifier {
        ensemble,
        labels,
        base_values,
        transform,
        rule,
    };
    Built::two(dtypes, operator)
}

/// # Errors
/// [`Refusal`] for what ONNX Runtime answers in a way that nobody can mean.
fn rule<T: Real>(
    node: &Node<'_>,
    lists: &Lists<'_, T>,
    labels: &ClassLabels,
    transform: Transform,
) -> Result<Rule, Refusal> {
    match labels.len() {
        0 | 1 => return Err(node.refuse("one class is not supported")),
        2 => {}
        _ => return Ok(Rule::Largest),
    }
    if transform == Transform::Probit {
        return Err(node.refuse("`post_transform` PROBIT of two classes is not supported"));
    }
    let mut voted = lists.vote_outputs.to_vec();
    voted.sort_unstable();
    voted.dedup();
    match voted.as_slice() {
        [one] => Ok(Rule::One {
            are_all_positive: lists.vote_weights.iter().all(|weight| *weight >= T::ZERO),
            voted: usize::from(*one == 1),
        }),
        _ => match labels {
            ClassLabels::Int64(labels) if labels != &[0, 1] => Err(node.refuse(
                "votes for both of two classes whose labels are not 0 and 1 are not supported",
            )),
            _ => Ok(Rule::Both),
        },
    }
}
