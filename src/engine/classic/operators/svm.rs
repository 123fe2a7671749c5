//! Support vector machines, as libsvm (Chang and Lin, 2011) and ONNX Runtime
//! calculate them.

use super::super::failure::{Failure, Refusal};
use super::super::node::Node;
use super::super::operator::{Built, Inputs, Operator, Run};
use super::super::value::Value;
use super::linear::{as_floats, check_number};
use super::matmul::{dot, exact_dot};
use super::scores::{ClassLabels, Transform, best, logistic};
use crate::tensor::DType;

/// How alike two rows are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kernel {
    Linear,
    Poly { gamma: f32, coef0: f32, degree: f32 },
    Rbf { gamma: f32 },
    Sigmoid { gamma: f32, coef0: f32 },
}

impl Kernel {
    pub(super) fn new(node: &Node<'_>) -> Result<Self, Refusal> {
        let parameters = node.floats("kernel_params");
        let parameter = |index: usize| parameters.get(index).copied().unwrap_or(0.0);
        let (gamma, coef0, degree) = (parameter(0), parameter(1), parameter(2));
        Ok(match node.text("kernel_type")?.unwrap_or("LINEAR") {
            "LINEAR" => Self::Linear,
            "POLY" => Self::Poly {
                gamma,
                coef0,
                degree,
            },
            "RBF" => Self::Rbf { gamma },
            "SIGMOID" => Self::Sigmoid { gamma, coef0 },
            other => {
                return Err(node.refuse(format!("`kernel_type` is `{}`", other.escape_debug())));
            }
        })
    }

    pub(super) fn alike(self, one: &[f32], other: &[f32]) -> f32 {
        match self {
            Self::Linear => exact_dot(one, other),
            Self::Poly {
                gamma,
                coef0,
                degree,
            } => (gamma * exact_dot(one, other) + coef0).powf(degree),
            Self::Rbf { gamma } => {
                let squares = one
                    .iter()
                    .zip(other)
                    .map(|(one, other)| (one - other) * (one - other));
                (-gamma * squares.sum::<f32>()).exp()
            }
            Self::Sigmoid { gamma, coef0 } => (gamma * exact_dot(one, other) + coef0).tanh(),
        }
    }
}

/// One classifier for each pair of classes.
struct Pairs {
    kernel: Kernel,
    vectors: Vec<f32>,
    features: usize,
    coefficients: Vec<f32>,
    /// The first vector of each class, and how many there are.
    classes: Vec<(usize, usize)>,
    rho: Vec<f32>,
    /// Platt's scaling: a slope and an offset for each pair.
    scaling: Option<(Vec<f32>, Vec<f32>)>,
}

/// A weight for each feature and class.
struct Linear {
    coefficients: Vec<f32>,
    features: usize,
    rho: f32,
}

enum Machine {
    Pairs(Pairs),
    Linear(Linear),
}

struct Classifier {
    machine: Machine,
    labels: ClassLabels,
    transform: Transform,
    are_all_positive: bool,
}

impl Pairs {
    fn vectors(&self) -> usize {
        self.vectors.len() / self.features
    }

    /// The decision of each pair of classes, and the votes that the classes get.
    fn decide(
        &self,
        row: &[f32],
        memory: &mut Vec<f32>,
        scores: &mut Vec<f32>,
        votes: &mut Vec<u32>,
    ) {
        memory.clear();
        memory.extend(
            self.vectors
                .chunks_exact(self.features)
                .map(|vector| self.kernel.alike(row, vector)),
        );
        votes.clear();
        votes.resize(self.classes.len(), 0);
        let count = self.vectors();
        for (i, (start_i, size_i)) in self.classes.iter().copied().enumerate() {
            for (j, (start_j, size_j)) in self.classes.iter().copied().enumerate().skip(i + 1) {
                let part = |of: usize, start: usize, size: usize| -> f64 {
                    let coefficients = &self.coefficients[count * of + start..][..size];
                    let pairs = coefficients.iter().zip(&memory[start..][..size]);
                    pairs
                        .map(|(coefficient, alike)| f64::from(coefficient * alike))
                        .sum()
                };
                let sum = part(j - 1, start_i, size_i) + part(i, start_j, size_j);
                let sum = sum + f64::from(self.rho[scores.len()]);
                #[expect(clippy::cast_possible_truncation, reason = "scores are FP32")]
                scores.push(sum as f32);
                votes[if sum > 0.0 { i } else { j }] += 1;
            }
        }
    }
}

/// Probabilities of classes from those of pairs (Wu, Lin and Weng, 2004, second method), iterated as libsvm does.
fn couple(pairs: &[f32], probabilities: &mut [f32]) {
    let count = probabilities.len();
    #[expect(clippy::cast_precision_loss, reason = "few classes")]
    let size = count as f32;
    let epsilon = 0.005 / size;
    let mut q = vec![0.0f32; count * count];
    for t in 0..count {
        probabilities[t] = 1.0 / size;
        for j in 0..count {
            if j == t {
                continue;
            }
            q[t * count + t] += pairs[j * count + t] * pairs[j * count + t];
            q[t * count + j] = if j < t {
                q[j * count + t]
            } else {
                -pairs[j * count + t] * pairs[t * count + j]
            };
        }
    }
    let mut qp = vec![0.0f32; count];
    for _ in 0..100 {
        let mut pqp = 0.0;
        for t in 0..count {
            qp[t] = (0..count)
                .map(|j| q[t * count + j] * probabilities[j])
                .sum();
            pqp += probabilities[t] * qp[t];
        }
        let error = qp
            .iter()
            .map(|value| (value - pqp).abs())
            .fold(0.0, f32::max);
        if error < epsilon {
            break;
        }
        for t in 0..count {
            let diff = (-qp[t] + pqp) / q[t * count + t];
            probabilities[t] += diff;
            pqp = (pqp + diff * (diff * q[t * count + t] + 2.0 * qp[t]))
                / (1.0 + diff)
                / (1.0 + diff);
            for j in 0..count {
                qp[j] = (qp[j] + diff * q[t * count + j]) / (1.0 + diff);
                probabilities[j] /= 1.0 + diff;
            }
        }
    }
}

impl Classifier {
    /// Adds the scores of a row and answers with its class.
    fn row(&self, row: &[f32], memory: &mut Memory, written: &mut Vec<f32>) -> usize {
        let Memory {
            kernels,
            scores,
            votes,
        } = memory;
        scores.clear();
        match &self.machine {
            Machine::Linear(machine) => {
                let classes = machine.coefficients.chunks_exact(machine.features);
                scores.extend(classes.map(|weights| dot(row, weights, 0.0) + machine.rho));
                let class = best(scores);
                let most = scores[class];
                self.transform.apply(scores);
                written.extend_from_slice(scores);
                let is_second = if self.are_all_positive {
                    most >= 0.5
                } else {
                    most > 0.0
                };
                if self.labels.len() == 2 && is_second {
                    1
                } else {
                    class
                }
            }
            Machine::Pairs(machine) => {
                machine.decide(row, kernels, scores, votes);
                let most = votes.iter().copied().max().unwrap_or(0);
                let class = votes.iter().position(|votes| *votes == most).unwrap_or(0);
                match &machine.scaling {
                    Some(scaling) => {
                        let mut probabilities = vec![0.0; self.labels.len()];
                        couple(
                            &pair_probabilities(scores, scaling, self.labels.len()),
                            &mut probabilities,
                        );
                        self.transform.apply(&mut probabilities);
                        written.extend_from_slice(&probabilities);
                    }
                    None => self.write(scores, written),
                }
                class
            }
        }
    }

    /// Writes the decisions of pairs; two classes have one, and two scores.
    fn write(&self, scores: &mut [f32], written: &mut Vec<f32>) {
        if let [score] = *scores {
            written.extend(match self.transform {
                Transform::Logistic => [logistic(-score), logistic(score)],
                Transform::None => [-score, score],
                _ => [1.0 - score, score],
            });
            return;
        }
        self.transform.apply(scores);
        written.extend_from_slice(scores);
    }
}

/// The probability of the first class of each pair, and of the second.
fn pair_probabilities(
    scores: &[f32],
    (slopes, offsets): &(Vec<f32>, Vec<f32>),
    count: usize,
) -> Vec<f32> {
    let mut pairs = vec![0.0; count * count];
    let mut index = 0;
    for i in 0..count {
        for j in i + 1..count {
            let scaled = scores[index] * slopes[index] + offsets[index];
            let probability = (1.0 - logistic(scaled)).clamp(1e-7, 1.0 - 1e-7);
            pairs[i * count + j] = probability;
            pairs[j * count + i] = 1.0 - probability;
            index += 1;
        }
    }
    pairs
}

#[derive(Default)]
struct Memory {
    kernels: Vec<f32>,
    scores: Vec<f32>,
    votes: Vec<u32>,
}

impl Operator for Classifier {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let input = inputs.get(0)?;
        let (columns, pairs) = match &self.machine {
            Machine::Pairs(machine) => (machine.features, machine.rho.len()),
            Machine::Linear(machine) => (machine.features, self.labels.len()),
        };
        let rows = input.rows_of(columns)?;
        let mut memory = std::mem::take(&mut run.scratch.floats);
        let features = as_floats(input, &mut memory)?;
        let [labels, scores] = outputs else {
            return Err(Failure::new("has two outputs".to_owned()));
        };
        let has_scaling = matches!(
            &self.machine,
            Machine::Pairs(Pairs {
                scaling: Some(_),
                ..
            })
        );
        let width = if has_scaling {
            self.labels.len()
        } else {
            pairs.max(2)
        };
        self.labels.start(rows, labels);
        let scores = scores.start::<f32>(&[rows, width]);
        let mut own = Memory::default();
        for (index, row) in features.chunks_exact(columns.max(1)).enumerate().take(rows) {
            if index.is_multiple_of(64) {
                run.check()?;
            }
            let class = self.row(row, &mut own, scores);
            self.labels.push(class, labels);
        }
        run.scratch.floats = memory;
        Ok(())
    }

    fn size(&self) -> u64 {
        match &self.machine {
            Machine::Pairs(machine) => {
                ((machine.vectors.len() + machine.coefficients.len()) * 4) as u64
            }
            Machine::Linear(machine) => (machine.coefficients.len() * 4) as u64,
        }
    }

    fn cost(&self) -> Option<u64> {
        Some(match &self.machine {
            Machine::Pairs(machine) => {
                500 + (machine.vectors.len() + machine.coefficients.len()) as u64 * 2
            }
            Machine::Linear(machine) => 100 + machine.coefficients.len() as u64,
        })
    }
}

pub(super) const ATTRIBUTES: [&str; 12] = [
    "classlabels_ints",
    "classlabels_strings",
    "coefficients",
    "kernel_params",
    "kernel_type",
    "n_supports",
    "one_class",
    "post_transform",
    "prob_a",
    "prob_b",
    "rho",
    "support_vectors",
];

pub(super) fn classifier(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&[&ATTRIBUTES[..], &["vectors_per_class"]].concat())?;
    check_number(node)?;
    let labels = ClassLabels::new(node, "classlabels_ints")?;
    let transform = Transform::new(node)?;
    let machine = match node.ints("vectors_per_class") {
        [] => Machine::Linear(linear(node, &labels)?),
        counts => Machine::Pairs(pairs(node, &labels, counts)?),
    };
    if transform == Transform::Probit && labels.len() < 3 {
        return Err(node.refuse("`post_transform` PROBIT of two classes is not supported"));
    }
    let are_all_positive = node
        .floats("coefficients")
        .iter()
        .all(|weight| *weight >= 0.0);
    let dtypes = [labels.dtype(), DType::F32];
    Built::two(
        dtypes,
        Classifier {
            machine,
            labels,
            transform,
            are_all_positive,
        },
    )
}

fn linear(node: &Node<'_>, labels: &ClassLabels) -> Result<Linear, Refusal> {
    let coefficients = node.floats("coefficients").to_vec();
    let classes = labels.len();
    if classes < 2 || coefficients.is_empty() || !coefficients.len().is_multiple_of(classes) {
        let count = coefficients.len();
        return Err(node.refuse(format!("has {count} coefficients for {classes} classes")));
    }
    let rho = node.floats("rho").first().copied();
    let rho = rho.ok_or_else(|| node.refuse("has no `rho`"))?;
    let features = coefficients.len() / classes;
    Ok(Linear {
        coefficients,
        features,
        rho,
    })
}

fn pairs(node: &Node<'_>, labels: &ClassLabels, counts: &[i64]) -> Result<Pairs, Refusal> {
    let classes = labels.len();
    if classes < 2 || counts.len() != classes {
        let found = counts.len();
        return Err(node.refuse(format!(
            "`vectors_per_class` has {found} entries for {classes} classes"
        )));
    }
    let mut starts = Vec::with_capacity(classes);
    let mut total = 0usize;
    for count in counts {
        let size = usize::try_from(*count).ok().filter(|size| *size <= 1 << 30);
        let size =
            size.ok_or_else(|| node.refuse(format!("`vectors_per_class` has the entry {count}")))?;
        starts.push((total, size));
        total += size;
    }
    let vectors = node.floats("support_vectors").to_vec();
    if total == 0 || vectors.is_empty() || !vectors.len().is_multiple_of(total) {
        let count = vectors.len();
        return Err(node.refuse(format!(
            "has {count} numbers in `support_vectors` for {total} vectors"
        )));
    }
    let coefficients = node.floats("coefficients").to_vec();
    if coefficients.len() != total * (classes - 1) {
        let (found, expected) = (coefficients.len(), total * (classes - 1));
        return Err(node.refuse(format!("has {found} coefficients; expected {expected}")));
    }
    let count = classes * (classes - 1) / 2;
    let rho = node.floats("rho").to_vec();
    let (slopes, offsets) = (
        node.floats("prob_a").to_vec(),
        node.floats("prob_b").to_vec(),
    );
    let fits = |list: &[f32]| list.len() == count;
    let scaling = (!slopes.is_empty()).then_some((slopes, offsets));
    if !fits(&rho)
        || scaling
            .as_ref()
            .is_some_and(|(slopes, offsets)| !fits(slopes) || !fits(offsets))
    {
        return Err(node.refuse(format!(
            "expected {count} entries in `rho`, and in `prob_a` and `prob_b`"
        )));
    }
    Ok(Pairs {
        kernel: Kernel::new(node)?,
        features: vectors.len() / total,
        vectors,
        coefficients,
        classes: starts,
        rho,
        scaling,
    })
}
