//! `TreeEnsembleRegressor`, and `TreeEnsemble` of ai.onnx.ml 5, which has taken its place.

use super::super::super::failure::{Failure, Refusal};
use super::super::super::node::Node;
use super::super::super::operator::{Built, Inputs, Operator, Run};
use super::super::super::value::{Element, Value};
use super::super::scores::Transform;
use super::Real;
use super::classifier::{is_double, lists, numbers};
use super::fault::TreeFault;
use super::kernel::{Aggregate, Ensemble};
use super::read::from_lists;
use super::unfold::Unfolder;
use crate::tensor::DType;

struct Regressor<T> {
    ensemble: Ensemble<T>,
    base_values: Vec<T>,
    aggregate: Aggregate,
    transform: Transform,
    /// FP64 where `TreeEnsemble` takes FP64.
    keeps_double: bool,
}

impl<T: Real> Operator for Regressor<T> {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let input = inputs.get(0)?;
        let (rows, _) = input.samples();
        let targets = self.ensemble.outputs();
        let shape = [rows, targets];
        let output = &mut outputs[0];
        if self.keeps_double {
            output.start::<f64>(&shape).reserve(rows * targets);
        } else {
            output.start::<f32>(&shape).reserve(rows * targets);
        }
        let trees = T::from_count(u32::try_from(self.ensemble.trees()).unwrap_or(u32::MAX));
        let data = &mut output.data;
        self.ensemble.run(input, run, |_, row| {
            for target in 0..targets {
                if self.aggregate == Aggregate::Average {
                    row.sums[target] = row.sums[target].over(trees);
                }
                // A target without a vote stays 0.
                if let (Some(base), true) = (
                    self.base_values.get(target),
                    targets == 1 || row.is_voted(target),
                ) {
                    row.sums[target] += *base;
                }
            }
            if self.keeps_double {
                f64::vec_of(data).extend(row.sums.iter().map(|sum| sum.to_f64()));
                return;
            }
            let written = f32::vec_of(data);
            let first = written.len();
            written.extend(row.sums.iter().map(|sum| sum.to_f32()));
            match &mut written[first..] {
                [score] => *score = self.transform.apply_to_one(*score),
                scores => self.transform.apply(scores),
            }
        })
    }

    fn size(&self) -> u64 {
        self.ensemble.size()
    }

    fn cost(&self) -> Option<u64> {
        Some(self.ensemble.cost())
    }
}

const ATTRIBUTES: [&str; 23] = [
    "aggregate_function",
    "base_values",
    "base_values_as_tensor",
    "n_targets",
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
    "post_transform",
    "target_ids",
    "target_nodeids",
    "target_treeids",
    "target_weights",
    "target_weights_as_tensor",
    "domain",
    "name",
];

fn targets(node: &Node<'_>) -> Result<usize, Refusal> {
    let count = node.int("n_targets").unwrap_or(1);
    let targets = usize::try_from(count)
        .ok()
        .filter(|count| (1..=1 << 20).contains(count));
    targets.ok_or_else(|| node.refuse(format!("`n_targets` is {count}")))
}

pub(in super::super) fn regressor(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&ATTRIBUTES)?;
    if is_double(node)? {
        typed::<f64>(node)
    } else {
        typed::<f32>(node)
    }
}

fn typed<T: Real>(node: &Node<'_>) -> Result<Built, Refusal> {
    let targets = targets(node)?;
    let name = node.text("aggregate_function")?;
    let aggregate =
        Aggregate::parse(name).ok_or_else(|| node.refuse("has an unknown `aggregate_function`"))?;
    let lists = lists::<T>(node, "target", targets)?;
    let mut forest = from_lists(&lists).map_err(|fault| node.refuse(fault.to_string()))?;
    if targets == 1 {
        // Converters repeat the weight of a leaf for each class, and ONNX Runtime takes the first one.
        forest = forest.with_first_votes();
    }
    let base_values = numbers::<T>(node, "base_values")?;
    finish(
        node,
        Ensemble::new(forest, aggregate),
        base_values,
        (aggregate, Transform::new(node)?, false),
    )
}

fn finish<T: Real>(
    node: &Node<'_>,
    ensemble: Result<Ensemble<T>, TreeFault>,
    base_values: Vec<T>,
    (aggregate, transform, keeps_double): (Aggregate, Transform, bool),
) -> Result<Built, Refusal> {
    let ensemble = ensemble.map_err(|fault| node.refuse(fault.to_string()))?;
    if !base_values.is_empty() && base_values.len() != ensemble.outputs() {
        let (found, expected) = (base_values.len(), ensemble.outputs());
        return Err(node.refuse(format!("has {found} `base_values` for {expected} targets")));
    }
    let dtype = if keeps_double { DType::F64 } else { DType::F32 };
    Built::one(
        dtype,
        Regressor {
            ensemble,
            base_values,
            aggregate,
            transform,
            keeps_double,
        },
    )
}

/// The attributes of `TreeEnsemble`.
const V5: [&str; 15] = [
    "aggregate_function",
    "leaf_targetids",
    "leaf_weights",
    "membership_values",
    "n_targets",
    "nodes_falseleafs",
    "nodes_falsenodeids",
    "nodes_featureids",
    "nodes_hitrates",
    "nodes_missing_value_tracks_true",
    "nodes_modes",
    "nodes_splits",
    "nodes_trueleafs",
    "nodes_truenodeids",
    "post_transform",
];

pub(in super::super) fn ensemble(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&[&V5[..], &["tree_roots"]].concat())?;
    match node.dtype(0)? {
        DType::F64 => typed_v5::<f64>(node, true),
        DType::F32 => typed_v5::<f32>(node, false),
        other => Err(node.unsupported(other)),
    }
}

fn typed_v5<T: Real>(node: &Node<'_>, keeps_double: bool) -> Result<Built, Refusal> {
    let targets = targets(node)?;
    let aggregate = match node.int("aggregate_function").unwrap_or(1) {
        0 => Aggregate::Average,
        1 => Aggregate::Sum,
        2 => Aggregate::Min,
        3 => Aggregate::Max,
        other => return Err(node.refuse(format!("`aggregate_function` is {other}"))),
    };
    let transform = match node.int("post_transform").unwrap_or(0) {
        0 => Transform::None,
        // The specification says SOFTMAX and LOGISTIC, ONNX Runtime takes them the other way round.
        1 | 2 => return Err(node.refuse("`post_transform` 1 and 2 are not supported")),
        3 => Transform::SoftmaxZero,
        4 => Transform::Probit,
        other => return Err(node.refuse(format!("`post_transform` is {other}"))),
    };
    if keeps_double && transform != Transform::None {
        return Err(node.refuse("`post_transform` of FP64 is not supported"));
    }
    let read = Unfolder::<T>::new(node)?
        .read(targets)
        .map_err(|fault| node.refuse(fault.to_string()))?;
    finish(
        node,
        Ensemble::new(read, aggregate),
        Vec::new(),
        (aggregate, transform, keeps_double),
    )
}
