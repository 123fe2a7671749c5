//! Classic machine learning: trees, support vectors, encoders.

use super::super::fact::{Content, Fact};
use super::super::follow::{Call, Effect, Rule, Unbounded};
use crate::tensor::DType;

/// Bytes of an entry of a map from labels to scores.
const MAP_ENTRY: u64 = 64;

/// Comparisons from the root of a tree to a leaf.
const DEPTH: u64 = 16;

pub(super) fn find(op: &str) -> Option<Rule> {
    Some(match op {
        "ArrayFeatureExtractor" => extracted,
        "Binarizer" | "Imputer" | "Normalizer" | "Scaler" => same,
        "CategoryMapper" | "LabelEncoder" => mapped,
        "FeatureVectorizer" => joined,
        "DictVectorizer" => looked_up,
        "OneHotEncoder" => encoded,
        "LinearClassifier" | "SVMClassifier" | "TreeEnsembleClassifier" => classified,
        "LinearRegressor" | "SVMRegressor" | "TreeEnsemble" | "TreeEnsembleRegressor" => regressed,
        "ZipMap" => zipped,
        _ => return None,
    })
}

type Ruled = Result<Effect, Unbounded>;

fn same(call: &Call<'_>) -> Ruled {
    let Some(input) = call.input(0) else {
        return super::as_large_as_inputs(call);
    };
    let dtype = if &*call.step.op == "Scaler" || &*call.step.op == "Normalizer" {
        DType::F32
    } else {
        input.dtype
    };
    let content = super::super::fact::derived([input]);
    Ok(Fact {
        dtype,
        content,
        ..input.clone()
    }
    .into())
}

/// Labels that a graph names are taken to have so many letters.
const LABEL: u64 = 64;

fn mapped(call: &Call<'_>) -> Ruled {
    let mut effect = same(call)?;
    let texts = ["default_string", "values_strings"]
        .iter()
        .any(|name| call.has(name));
    for output in &mut effect.outputs {
        output.longest = LABEL;
        // Text is the larger of what it may be.
        output.dtype = if texts { DType::String } else { DType::I64 };
    }
    Ok(effect)
}

fn extracted(call: &Call<'_>) -> Ruled {
    let dtype = call.dtype(0);
    let shape = call
        .shape(0)
        .zip(call.input(1))
        .and_then(|(shape, indices)| {
            let (_, before) = shape.split_last()?;
            // A vector becomes a row.
            let before = if before.is_empty() { &[1] } else { before };
            indices.shape.as_ref()?;
            Some([before, &[indices.elements()]].concat())
        });
    Ok(shape
        .map_or_else(|| call.guess(dtype), |shape| call.result(dtype, shape))
        .into())
}

fn joined(call: &Call<'_>) -> Ruled {
    let rows = rows(call);
    let width = match call.ints("inputdimensions") {
        Some(sizes) => sizes
            .iter()
            .map(|size| size.unsigned_abs())
            .fold(0, u64::saturating_add),
        None => {
            call.given()
                .map(Fact::elements)
                .fold(0, u64::saturating_add)
                / rows.max(1)
        }
    };
    Ok(call.result(DType::F32, vec![rows, width]).into())
}

fn looked_up(call: &Call<'_>) -> Ruled {
    let width = call
        .count("int64_vocabulary")
        .max(call.count("string_vocabulary"));
    Ok(call.result(DType::F32, vec![rows(call), width]).into())
}

fn rows(call: &Call<'_>) -> u64 {
    call.shape(0).map_or(1, |shape| match shape {
        [] | [_] => 1,
        [rows, ..] => *rows,
    })
}

fn encoded(call: &Call<'_>) -> Ruled {
    let width = call.count("cats_int64s").max(call.count("cats_strings"));
    let fact = match call.shape(0) {
        Some(shape) => call.result(DType::F32, [shape, &[width]].concat()),
        None => Fact {
            guess: call.guess(DType::F32).guess.saturating_mul(width),
            ..call.guess(DType::F32)
        },
    };
    Ok(fact.into())
}

/// Numbers that are calculated for each row.
fn work_of_row(call: &Call<'_>) -> u64 {
    let features = call
        .shape(0)
        .and_then(|shape| shape.get(1).copied())
        .unwrap_or(1);
    let trees = call
        .largest("nodes_treeids")
        .map_or(0, |last| last.unsigned_abs() + 1);
    let trees = trees.max(call.count("tree_roots"));
    let linear = call
        .count("coefficients")
        .max(call.count("support_vectors"))
        .max(features);
    linear.max(trees.saturating_mul(DEPTH))
}

fn classified(call: &Call<'_>) -> Ruled {
    let labels = [
        "classlabels_int64s",
        "classlabels_strings",
        "classlabels_ints",
    ];
    let classes = labels
        .iter()
        .map(|name| call.count(name))
        .max()
        .unwrap_or(0)
        .max(2);
    let is_text = call.has("classlabels_strings");
    let rows = rows(call);
    let label = Fact {
        longest: LABEL,
        ..call.result(if is_text { DType::String } else { DType::I64 }, vec![rows])
    };
    // Pairs of classes are compared before they are counted.
    let scores = if &*call.step.op == "SVMClassifier" {
        classes.saturating_mul(classes)
    } else {
        classes
    };
    let vectors = call.count("vectors_per_class");
    let kernels = if vectors > 0 {
        call.count("support_vectors")
            .min(call.count("coefficients"))
    } else {
        0
    };
    let scores_of_rows = call.result(DType::F32, vec![rows, scores]);
    Ok(Effect {
        work: Some(rows.saturating_mul(work_of_row(call))),
        scratch: rows.saturating_mul(kernels.saturating_mul(4)),
        ..vec![label, scores_of_rows].into()
    })
}

fn regressed(call: &Call<'_>) -> Ruled {
    let rows = rows(call);
    let targets = call
        .int("n_targets", call.int("targets", 1))
        .unsigned_abs()
        .max(1);
    Ok(Effect {
        work: Some(rows.saturating_mul(work_of_row(call))),
        ..call.result(DType::F32, vec![rows, targets]).into()
    })
}

fn zipped(call: &Call<'_>) -> Ruled {
    let entries = call.input(0).map_or(0, Fact::elements);
    // Not a tensor: as many bytes as its maps take.
    let fact = Fact::unknown(
        DType::U8,
        entries.saturating_mul(MAP_ENTRY + LABEL),
        Content::Values,
    );
    Ok(fact.into())
}
