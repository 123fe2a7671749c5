//! The classic operators of `ai.onnx.ml`. Most read a tensor of rank 1 as **one** row of features, so that the rows must
//! be the first of two axes.

use super::super::call::Call;
use super::super::size::{Size, product};
use super::super::value::{Refusal, Tensor, Value};
use super::Ruled;

pub(super) fn rule(call: &Call<'_>) -> Ruled {
    Some(match call.op {
        "Binarizer" | "CategoryMapper" | "LabelEncoder" => of_elements(call),
        "Imputer" | "Normalizer" | "Scaler" => of_features(call),
        "OneHotEncoder" => one_hot(call),
        "FeatureVectorizer" => beside(call),
        "ArrayFeatureExtractor" => extract(call),
        "LinearClassifier" | "SVMClassifier" | "TreeEnsembleClassifier" => classify(call),
        "LinearRegressor" | "SVMRegressor" | "TreeEnsemble" | "TreeEnsembleRegressor" => {
            regress(call)
        }
        "ZipMap" => zip_map(call),
        _ => return None,
    })
}

fn of_elements(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    Ok(vec![call.tensor(0)?.clone().changed().into()])
}

/// A table: a row of features for each row.
fn table<'a>(call: &'a Call<'_>, index: usize) -> Result<(&'a Tensor, &'a [Size]), Refusal> {
    let (tensor, shape) = call.shaped(index)?;
    match (tensor.rows, shape) {
        (None | Some(0), [_, _]) => Ok((tensor, shape)),
        (None, _) => Err("takes what is no table"),
        (Some(_), [_]) => Err("reads all rows as the features of one"),
        (Some(_), _) => Err("has the rows where it expects features"),
    }
}

fn of_features(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    Ok(vec![table(call, 0)?.0.clone().changed().into()])
}

fn one_hot(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (tensor, shape) = call.shaped(0)?;
    let categories = call.ints("cats_int64s").map(<[i64]>::len);
    let categories = categories.or_else(|| call.strings("cats_strings").map(<[Vec<u8>]>::len));
    let count = categories.map(|count| Size::known(count as u64));
    let mut shape = shape.to_vec();
    shape.push(count.unwrap_or_else(|| call.symbols.fresh()));
    Ok(vec![Tensor::with_rows(shape, tensor.rows).into()])
}

fn beside(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (first, shape) = table(call, 0)?;
    for index in 1..call.inputs.len() {
        let (next, sizes) = table(call, index)?;
        if next.rows != first.rows || sizes[0] != shape[0] {
            return Err("brings together tables of different rows");
        }
    }
    Ok(vec![
        Tensor::with_rows(vec![shape[0].clone(), call.symbols.fresh()], first.rows).into(),
    ])
}

/// Takes places of the last axis; all places are one list, whatever their shape.
fn extract(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (tensor, shape) = call.shaped(0)?;
    let (places, sizes) = call.shaped(1)?;
    let count = product(sizes).unwrap_or_else(|| call.symbols.fresh());
    let mut result = match shape {
        [] => return Err("takes places of a single number"),
        [_] => vec![Size::ONE],
        [outer @ .., _] => outer.to_vec(),
    };
    result.push(count);
    let last = shape.len() - 1;
    let rows = match (tensor.rows, places.rows) {
        (None, None) => None,
        (Some(rows), None) if rows < last => Some(rows),
        (None, Some(rows)) if sizes[..rows].iter().all(Size::is_one) => Some(result.len() - 1),
        _ => return Err("may take other rows, by their number"),
    };
    Ok(vec![Tensor::with_rows(result, rows).into()])
}

fn classify(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (tensor, shape) = table(call, 0)?;
    let labels = Tensor::with_rows(vec![shape[0].clone()], tensor.rows);
    let classes = classes(call).map(|count| Size::known(count as u64));
    let classes = classes.unwrap_or_else(|| call.symbols.fresh());
    let scores = Tensor::with_rows(vec![shape[0].clone(), classes], tensor.rows);
    Ok(vec![labels.into(), scores.into()])
}

/// How many scores each row gets, where that is certain: engines give other numbers of them in special cases of two classes
/// or one, and of SVMs.
fn classes(call: &Call<'_>) -> Option<usize> {
    let names = ["classlabels_int64s", "classlabels_ints"];
    let numbers = names
        .iter()
        .find_map(|name| call.ints(name))
        .map(<[i64]>::len);
    let texts = call.strings("classlabels_strings").map(<[Vec<u8>]>::len);
    let count = numbers.or(texts).filter(|count| *count > 2)?;
    match call.op {
        "TreeEnsembleClassifier" => Some(count),
        "LinearClassifier" => (call.floats("intercepts")?.len() == count).then_some(count),
        _ => None,
    }
}

fn regress(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (tensor, shape) = table(call, 0)?;
    let targets = match call.op {
        "SVMRegressor" => 1,
        "LinearRegressor" => call.int("targets", 1),
        _ => call.int("n_targets", 1),
    };
    let targets = u64::try_from(targets).map_or_else(|_| call.symbols.fresh(), Size::known);
    Ok(vec![
        Tensor::with_rows(vec![shape[0].clone(), targets], tensor.rows).into(),
    ])
}

/// A map for each row.
fn zip_map(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (tensor, shape) = table(call, 0)?;
    Ok(vec![
        Tensor::with_rows(vec![shape[0].clone()], tensor.rows).into(),
    ])
}
