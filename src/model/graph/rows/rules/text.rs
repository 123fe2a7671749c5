//! Operators on texts.

use super::super::call::Call;
use super::super::size::Size;
use super::super::value::{Padding, Refusal, Tensor, Value};
use super::Ruled;

pub(super) fn rule(call: &Call<'_>) -> Ruled {
    Some(match (call.domain, call.op) {
        ("", "StringNormalizer") => normalize(call),
        ("", "TfIdfVectorizer") => vectorize(call),
        ("", "Flatten") => return flatten_words(call),
        ("com.microsoft", "Tokenizer") => tokenize(call),
        _ => return None,
    })
}

/// Without stop words it changes texts; with them it removes some.
fn normalize(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (tensor, shape) = call.shaped(0)?;
    if call
        .strings("stopwords")
        .is_some_and(|words| !words.is_empty())
    {
        return Err("removes stop words, from whichever row");
    }
    match (tensor.rows, shape) {
        (None, _) | (Some(0), [_]) | (Some(1), [_, _]) => Ok(vec![tensor.clone().changed().into()]),
        _ => Err("takes a single row of texts"),
    }
}

/// Words of each text, filled up to the longest text of all rows.
fn tokenize(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (tensor, shape) = call.shaped(0)?;
    let mut shape = shape.to_vec();
    shape.push(call.symbols.fresh());
    let value = call.bytes("pad_value").unwrap_or_default().to_vec();
    Ok(vec![
        Tensor {
            padded: tensor.rows.is_some().then_some(Padding { value }),
            ..Tensor::with_rows(shape, tensor.rows)
        }
        .into(),
    ])
}

/// A list of words for each row stays one, when there was one text in each.
fn flatten_words(call: &Call<'_>) -> Ruled {
    let Some(Value::Tensor(
        words @ Tensor {
            padded: Some(_), ..
        },
    )) = call.value(0)
    else {
        return None;
    };
    Some(match (words.shape.as_deref(), call.int("axis", 1)) {
        (Some([rows, single, length]), 1) if single.is_one() => {
            let shape = Some(vec![rows.clone(), length.clone()]);
            Ok(vec![
                Tensor {
                    shape,
                    ..words.clone()
                }
                .into(),
            ])
        }
        (Some([_, _]), 1) => Ok(vec![words.clone().into()]),
        _ => Err("brings together words of several texts that are filled up"),
    })
}

/// Counts n-grams of each row. What fills up is never counted, and stands behind the words of a single text.
fn vectorize(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let Some(Value::Tensor(tensor)) = call.value(0) else {
        return Err("takes what are no words");
    };
    let shape = tensor
        .shape
        .as_deref()
        .ok_or(super::super::call::UNKNOWN_RANK)?;
    let [rows, _] = shape else {
        return Err("reads all rows as the words of one text");
    };
    if tensor.rows.is_some_and(|rows| rows != 0) {
        return Err("has the rows where it expects words");
    }
    if let Some(padding) = &tensor.padded {
        let counted = call.strings("pool_strings").unwrap_or_default();
        if call.has("pool_int64s") || counted.contains(&padding.value) {
            return Err("counts what only fills up shorter texts");
        }
    }
    let indexes = call
        .ints("ngram_indexes")
        .and_then(|indexes| indexes.iter().max().copied());
    let width = indexes.and_then(|last| u64::try_from(last.checked_add(1)?).ok());
    let width = width.map_or_else(|| call.symbols.fresh(), Size::known);
    Ok(vec![
        Tensor::with_rows(vec![rows.clone(), width], tensor.rows).into(),
    ])
}
