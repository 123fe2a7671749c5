//! Products of matrices.

use super::super::call::{Call, UNKNOWN_RANK};
use super::super::size::Size;
use super::super::value::{Refusal, Tensor, Value};
use super::Ruled;
use super::elementwise::broadcast;

const OVER_ROWS: Refusal = "sums over the rows";
const OTHER_ROWS: Refusal = "multiplies each row with others";
const SCALE: Refusal = "has a scale of its own for each row, or takes it from the data";

pub(super) fn rule(call: &Call<'_>) -> Ruled {
    Some(match call.op {
        "MatMul" => product_of(call, [0, 1]),
        "MatMulInteger" => scalar(call, &[2])
            .and_then(|()| constant(call, &[3]))
            .and_then(|()| product_of(call, [0, 1])),
        "QLinearMatMul" => scalar(call, &[1, 2, 6, 7])
            .and_then(|()| constant(call, &[4, 5]))
            .and_then(|()| product_of(call, [0, 3])),
        "Gemm" => gemm(call),
        "Einsum" => einsum(call),
        "Det" => det(call),
        _ => return None,
    })
}

pub(super) fn contributed(call: &Call<'_>) -> Ruled {
    let plain = ["transA", "transB", "transBatchA", "transBatchB"]
        .iter()
        .all(|name| call.int(name, 0) == 0);
    (call.op == "FusedMatMul" && plain).then(|| product_of(call, [0, 1]))
}

/// One number for the whole tensor.
fn scalar(call: &Call<'_>, inputs: &[usize]) -> Result<(), Refusal> {
    for index in inputs {
        let single = |tensor: &Tensor| {
            tensor
                .shape
                .as_ref()
                .is_some_and(|shape| shape.iter().all(Size::is_one))
        };
        if call
            .invariant(*index, SCALE)?
            .is_some_and(|scale| !single(scale))
        {
            return Err(SCALE);
        }
    }
    Ok(())
}

fn constant(call: &Call<'_>, inputs: &[usize]) -> Result<(), Refusal> {
    inputs
        .iter()
        .try_for_each(|index| call.invariant(*index, SCALE).map(|_| ()))
}

/// numpy's `matmul`: the last axis of the first is summed with the last but one of the second; axes before these are
/// broadcast.
fn product_of(call: &Call<'_>, [first, second]: [usize; 2]) -> Result<Vec<Value>, Refusal> {
    let (one, left) = call.shaped(first)?;
    let (other, right) = call.shaped(second)?;
    if left.is_empty() || right.is_empty() {
        return Err("multiplies what are no matrices");
    }
    let summed = [left.len() - 1, right.len().saturating_sub(2)];
    if one.rows == Some(summed[0]) || other.rows == Some(summed[1]) {
        return Err(OVER_ROWS);
    }
    let height = left.len().checked_sub(2).map(|axis| left[axis].clone());
    let width = (right.len() > 1).then(|| right[right.len() - 1].clone());
    // The axes that are broadcast, with the rows where they are among them.
    let outer = |tensor: &Tensor, shape: &[Size]| {
        let count = shape.len().saturating_sub(2);
        Tensor::with_rows(
            shape[..count].to_vec(),
            tensor.rows.filter(|rows| *rows < count),
        )
    };
    let (outer_one, outer_other) = (outer(one, left), outer(other, right));
    // Rows that become a height or a width meet the other tensor in none of its own axes.
    let in_height = one.rows.is_some() && outer_one.rows.is_none();
    let in_width = other.rows.is_some() && outer_other.rows.is_none();
    if (in_height && other.rows.is_some()) || (in_width && one.rows.is_some()) {
        return Err(OTHER_ROWS);
    }
    let batch = broadcast(&outer_one, &outer_other, call)?;
    let mut shape = batch.shape.ok_or(UNKNOWN_RANK)?;
    let mut rows = batch.rows;
    if let Some(height) = height {
        rows = rows.or(in_height.then_some(shape.len()));
        shape.push(height);
    }
    if let Some(width) = width {
        rows = rows.or(in_width.then_some(shape.len()));
        shape.push(width);
    }
    Ok(vec![Tensor::with_rows(shape, rows).into()])
}

fn gemm(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (one, left) = call.shaped(0)?;
    let (other, right) = call.shaped(1)?;
    let ([_, _], [_, _]) = (left, right) else {
        return Err("multiplies what are no matrices");
    };
    // The axis that stays; the other one is summed over.
    let kept_left = usize::from(call.int("transA", 0) != 0);
    let kept_right = usize::from(call.int("transB", 0) == 0);
    let rows = match (one.rows, other.rows) {
        (Some(rows), None) if rows == kept_left => Some(0),
        (None, Some(rows)) if rows == kept_right => Some(1),
        (None, None) => None,
        (Some(_), Some(_)) => return Err(OTHER_ROWS),
        _ => return Err(OVER_ROWS),
    };
    let shape = vec![left[kept_left].clone(), right[kept_right].clone()];
    let result = Tensor::with_rows(shape.clone(), rows);
    let Some(bias) = call.optional(2)? else {
        return Ok(vec![result.into()]);
    };
    let sum = broadcast(&result, bias, call)?;
    // The bias never makes the result larger.
    if sum.rows != rows || sum.rank() != Some(2) {
        return Err("adds another number of rows");
    }
    Ok(vec![Tensor::with_rows(shape, rows).into()])
}

/// Rows have one letter, which stands once in each operand with rows and in the result, and nowhere else.
fn einsum(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let unfollowed = "has an equation that is not followed";
    let equation: String = call
        .text("equation")
        .unwrap_or_default()
        .chars()
        .filter(|c| !c.is_whitespace())
        .collect();
    let (terms, result) = equation.split_once("->").ok_or(unfollowed)?;
    let terms: Vec<Vec<char>> = terms
        .split(',')
        .map(|term| term.chars().collect())
        .collect();
    let result: Vec<char> = result.chars().collect();
    let letters = terms.iter().flatten().chain(&result);
    if terms.len() != call.inputs.len() || !letters.clone().all(char::is_ascii_alphabetic) {
        return Err(unfollowed);
    }
    let mut of_rows: Option<(char, Size)> = None;
    for (index, term) in terms.iter().enumerate() {
        let (tensor, shape) = call.shaped(index)?;
        if shape.len() != term.len() {
            return Err(unfollowed);
        }
        if let (Some(rows), Some(size)) = (tensor.rows, tensor.row_size()) {
            let found = (term[rows], size.clone());
            if of_rows.as_ref().is_some_and(|before| *before != found) {
                return Err(OTHER_ROWS);
            }
            of_rows = Some(found);
        }
    }
    let size_of = |letter: &char| {
        let mut places = terms.iter().enumerate();
        let known = places.find_map(|(index, term)| {
            let axis = term.iter().position(|other| other == letter)?;
            call.shaped(index)
                .ok()?
                .1
                .get(axis)
                .filter(|size| !size.is_one())
                .cloned()
        });
        known.unwrap_or_else(|| call.symbols.fresh())
    };
    let shape: Vec<Size> = result.iter().map(size_of).collect();
    let Some((letter, size)) = of_rows else {
        return Ok(vec![Tensor::invariant(shape).into()]);
    };
    for (index, term) in terms.iter().enumerate() {
        let stands = term.iter().filter(|other| **other == letter).count();
        let has_rows = call.shaped(index)?.0.rows.is_some();
        if stands != usize::from(has_rows) {
            return Err(OTHER_ROWS);
        }
    }
    let rows = result
        .iter()
        .position(|other| *other == letter)
        .ok_or(OVER_ROWS)?;
    if result.iter().filter(|other| **other == letter).count() != 1 {
        return Err(OTHER_ROWS);
    }
    let mut shape = shape;
    shape[rows] = size;
    Ok(vec![Tensor::with_rows(shape, Some(rows)).into()])
}

fn det(call: &Call<'_>) -> Result<Vec<Value>, Refusal> {
    let (tensor, shape) = call.shaped(0)?;
    let count = shape
        .len()
        .checked_sub(2)
        .ok_or("takes a determinant of what is no matrix")?;
    if tensor.rows.is_some_and(|rows| rows >= count) {
        return Err(OVER_ROWS);
    }
    Ok(vec![
        Tensor::with_rows(shape[..count].to_vec(), tensor.rows).into(),
    ])
}
