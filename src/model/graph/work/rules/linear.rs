//! Products of matrices, recurrent networks, attention.

use super::super::fact::{Fact, axis_of, product};
use super::super::follow::{Call, Effect, Rule, Unbounded};
use super::elementwise::broadcasted;
use crate::tensor::DType;

pub(super) fn find(op: &str) -> Option<Rule> {
    Some(match op {
        "MatMul" | "MatMulInteger" | "QLinearMatMul" => matmul,
        "Gemm" => gemm,
        "Einsum" => einsum,
        "LSTM" | "GRU" | "RNN" => recurrent,
        "Attention" => attention,
        "Det" => determinant,
        _ => return None,
    })
}

pub(super) fn contributed(op: &str) -> Option<Rule> {
    Some(match op {
        "FusedMatMul" | "MatMulInteger16" | "TransposeMatMul" => matmul,
        "FusedGemm" => gemm,
        "FusedConv" | "NhwcConv" => return super::spatial::find("Conv"),
        "MatMulNBits" | "MatMulBnb4" => packed,
        "Attention"
        | "DecoderMaskedMultiHeadAttention"
        | "DecoderMaskedSelfAttention"
        | "GroupQueryAttention"
        | "MultiHeadAttention"
        | "QAttention" => attention,
        "CDist" => distances,
        _ => return None,
    })
}

type Ruled = Result<Effect, Unbounded>;

fn matmul(call: &Call<'_>) -> Ruled {
    let (dtype, second) = match &*call.step.op {
        "MatMulInteger" | "MatMulInteger16" => (DType::I32, 1),
        "QLinearMatMul" => (call.input(7).map_or(DType::U8, |zero| zero.dtype), 3),
        _ => (call.dtype(0), 1),
    };
    let (Some(one), Some(other)) = (call.shape(0), call.shape(second)) else {
        return Ok(call.guess(dtype).into());
    };
    let flip = |name: &str, shape: &[u64]| {
        let mut shape = shape.to_vec();
        let rank = shape.len();
        if call.int(name, 0) != 0 && rank > 1 {
            shape.swap(rank - 1, rank - 2);
        }
        shape
    };
    let (one, other) = (flip("transA", one), flip("transB", other));
    let inner = one.last().copied().unwrap_or(1);
    let (rows, batch) = match one.as_slice() {
        [batch @ .., rows, _] => (Some(*rows), batch.to_vec()),
        _ => (None, vec![]),
    };
    let (columns, others) = match other.as_slice() {
        [batch @ .., _, columns] => (Some(*columns), batch.to_vec()),
        _ => (None, vec![]),
    };
    let facts =
        [batch, others].map(|shape| Fact::shaped(dtype, shape, super::super::fact::Content::Fixed));
    let Some(mut shape) = broadcasted(facts.iter()) else {
        return Ok(call.guess(dtype).into());
    };
    shape.extend(rows);
    shape.extend(columns);
    let work = product(&shape).saturating_mul(inner);
    Ok(Effect {
        work: Some(work),
        ..call.result(dtype, shape).into()
    })
}

fn gemm(call: &Call<'_>) -> Ruled {
    let dtype = call.dtype(0);
    let (Some([a, b]), Some([c, d])) = (call.shape(0), call.shape(1)) else {
        return Ok(call.guess(dtype).into());
    };
    let (rows, inner) = if call.int("transA", 0) != 0 {
        (*b, *a)
    } else {
        (*a, *b)
    };
    let columns = if call.int("transB", 0) != 0 { *c } else { *d };
    let work = rows.saturating_mul(inner).saturating_mul(columns);
    Ok(Effect {
        work: Some(work),
        ..call.result(dtype, vec![rows, columns]).into()
    })
}

/// Weights of a few bits: the shape is in the attributes.
fn packed(call: &Call<'_>) -> Ruled {
    let dtype = call.dtype(0);
    let (inner, columns) = (
        call.int("K", 1).unsigned_abs(),
        call.int("N", 1).unsigned_abs(),
    );
    let Some([before @ .., _]) = call.shape(0) else {
        return Ok(call.guess(dtype).into());
    };
    let shape = [before, &[columns]].concat();
    let work = product(&shape).saturating_mul(inner);
    Ok(Effect {
        work: Some(work),
        ..call.result(dtype, shape).into()
    })
}

fn einsum(call: &Call<'_>) -> Ruled {
    let dtype = call.dtype(0);
    let all: u64 = call
        .given()
        .map(Fact::elements)
        .fold(1, u64::saturating_mul);
    let Some((shape, work)) = subscripts(call) else {
        return Ok(Fact {
            guess: all,
            ..call.guess(dtype)
        }
        .into());
    };
    // Of more than two tensors an engine may make the product of all before it adds up.
    let between = if call.inputs.len() > 2 { work } else { 0 };
    let width = dtype.width().unwrap_or(8) as u64;
    Ok(Effect {
        work: Some(work),
        scratch: between.saturating_mul(width),
        ..call.result(dtype, shape).into()
    })
}

/// The shape of a result in the notation of Einstein, and the product of all sizes; `None` for what is not followed.
fn subscripts(call: &Call<'_>) -> Option<(Vec<u64>, u64)> {
    let text: String = call
        .text("equation")?
        .chars()
        .filter(|letter| !letter.is_whitespace())
        .collect();
    let (left, right) = text.split_once("->")?;
    if left.contains('.') {
        return None;
    }
    let mut sizes: Vec<(char, u64)> = Vec::new();
    for (term, fact) in left.split(',').zip(call.given()) {
        for (letter, size) in term.chars().zip(fact.shape.as_ref()?) {
            match sizes.iter_mut().find(|known| known.0 == letter) {
                Some(known) => known.1 = known.1.max(*size),
                None => sizes.push((letter, *size)),
            }
        }
    }
    let size = |letter: char| {
        sizes
            .iter()
            .find(|known| known.0 == letter)
            .map(|known| known.1)
    };
    let shape: Vec<u64> = right.chars().map(size).collect::<Option<_>>()?;
    let work = sizes
        .iter()
        .map(|known| known.1)
        .fold(1, u64::saturating_mul);
    Some((shape, work))
}

fn recurrent(call: &Call<'_>) -> Ruled {
    let dtype = call.dtype(0);
    let (Some([first, second, features]), Some([directions, gates, _])) =
        (call.shape(0), call.shape(1))
    else {
        return Ok(vec![call.guess(dtype); call.step.outputs.len()].into());
    };
    let hidden = call
        .shape(2)
        .and_then(|shape| shape.get(2).copied())
        .unwrap_or(1);
    let is_batch_first = call.int("layout", 0) != 0;
    let (steps, batch) = if is_batch_first {
        (*second, *first)
    } else {
        (*first, *second)
    };
    let (all, last) = if is_batch_first {
        (
            vec![batch, steps, *directions, hidden],
            vec![batch, *directions, hidden],
        )
    } else {
        (
            vec![steps, *directions, batch, hidden],
            vec![*directions, batch, hidden],
        )
    };
    let rounds = steps.saturating_mul(batch).saturating_mul(*directions);
    let work = rounds.saturating_mul(gates.saturating_mul(features.saturating_add(hidden)));
    let scratch = rounds.saturating_mul(gates.saturating_mul(4));
    let outputs = vec![
        call.result(dtype, all),
        call.result(dtype, last.clone()),
        call.result(dtype, last),
    ];
    Ok(Effect {
        work: Some(work),
        scratch,
        ..outputs.into()
    })
}

/// The scores of each word for each other one are what is large.
fn attention(call: &Call<'_>) -> Ruled {
    let dtype = call.dtype(0);
    let Some(query) = call.shape(0) else {
        return super::as_large_as_inputs(call);
    };
    let words = |shape: Option<&[u64]>| match shape {
        Some([_, words, _] | [_, _, words, _]) => *words,
        _ => 1,
    };
    let heads = call
        .int("num_heads", call.int("q_num_heads", 1))
        .unsigned_abs();
    let heads = if query.len() == 4 {
        query[1]
    } else {
        heads.max(1)
    };
    let own = words(Some(query));
    let others = words(call.shape(1)).max(own);
    let batch = query.first().copied().unwrap_or(1);
    let scores = batch
        .saturating_mul(heads)
        .saturating_mul(own.saturating_mul(others));
    let width = query.last().copied().unwrap_or(1);
    let largest = call.guess(dtype);
    let mut outputs = vec![largest; call.step.outputs.len()];
    if let Some(first) = outputs.first_mut() {
        *first = call.result(dtype, query.to_vec());
    }
    Ok(Effect {
        work: Some(scores.saturating_mul(width)),
        scratch: scores.saturating_mul(8),
        outputs,
    })
}

fn determinant(call: &Call<'_>) -> Ruled {
    let dtype = call.dtype(0);
    let shape = call
        .shape(0)
        .and_then(|shape| shape.get(..axis_of(-2, shape.len())?));
    Ok(shape
        .map_or_else(
            || call.guess(dtype),
            |shape| call.result(dtype, shape.to_vec()),
        )
        .into())
}

fn distances(call: &Call<'_>) -> Ruled {
    let dtype = call.dtype(0);
    let (Some([one, width]), Some([other, _])) = (call.shape(0), call.shape(1)) else {
        return Ok(call.guess(dtype).into());
    };
    let work = one.saturating_mul(*other).saturating_mul(*width);
    Ok(Effect {
        work: Some(work),
        ..call.result(dtype, vec![*one, *other]).into()
    })
}
