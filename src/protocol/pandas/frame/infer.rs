//! The types of columns, as pandas infers them.

use super::{TENSOR, into_cells};
use crate::budget::OverBudget;
use crate::protocol::json::{Cells, Json};
use crate::protocol::meter::Meter;
use crate::protocol::pandas::array::{
    Array, as_objects, filled, fitted, metered_bools, metered_texts, objects,
};
use crate::protocol::pandas::python;
use crate::tensor::Absent;

/// The type that pandas gives a column of Python values.
///
/// # Errors
/// [`OverBudget`].
pub(crate) fn infer_column(cells: Cells, meter: &Meter) -> Result<Array, OverBudget> {
    meter.charge(TENSOR)?;
    let shape = vec![cells.len()];
    Ok(Array::Tensor(match cells {
        cells if cells.is_empty() => return Ok(objects(shape, vec![])),
        Cells::Number(numbers) if numbers.is_null() => {
            return as_objects(shape, Cells::Number(numbers), meter);
        }
        Cells::Int(values) => filled(shape, fitted(values, meter)),
        Cells::Number(numbers) => filled(shape, fitted(numbers.values, meter)),
        Cells::Bool(values) => metered_bools(shape, values, meter)?,
        Cells::Text(values) => metered_texts(shape, values, meter)?,
        Cells::Mixed(values) => return infer_mixed(shape, values, meter),
    }))
}

/// Nulls beside numbers are NaN; whole numbers up to 2⁶⁴ are unsigned; everything else is `object`.
fn infer_mixed(shape: Vec<usize>, values: Vec<Json>, meter: &Meter) -> Result<Array, OverBudget> {
    let (mut numbers, mut floats, mut nulls, mut big) = (0, 0, 0, 0);
    let mut negative = false;
    for value in &values {
        match value {
            Json::Int(int) => {
                numbers += 1;
                negative |= *int < 0;
            }
            Json::Float(_) => {
                numbers += 1;
                floats += 1;
            }
            Json::Big(digits) if digits.parse::<u64>().is_ok() => {
                numbers += 1;
                big += 1;
            }
            Json::Null => nulls += 1,
            _ => return Ok(objects(shape, values)),
        }
    }
    if numbers == 0 || (big > 0 && negative && floats == 0 && nulls == 0) {
        return Ok(objects(shape, values));
    }
    if floats == 0 && nulls == 0 {
        let mut unsigned = meter.vec(values.len())?;
        for value in &values {
            let int = python::int(value).ok();
            match int.and_then(|int| u64::try_from(int).ok()) {
                Some(int) => unsigned.push(int),
                None => return Ok(objects(shape, values)),
            }
        }
        meter.release(objects(vec![], values).heap());
        return Ok(Array::Tensor(filled(shape, unsigned)));
    }
    let mut floats = meter.vec(values.len())?;
    floats.extend(
        values
            .iter()
            .map(|value| python::float(value).unwrap_or(Absent::F64)),
    );
    meter.release(objects(vec![], values).heap());
    Ok(Array::Tensor(filled(shape, floats)))
}

/// A column whose cells are the rows of an array with more than one dimension.
pub(super) fn cells_as_lists(array: Array, meter: &Meter) -> Result<Array, OverBudget> {
    if array.shape().len() <= 1 {
        return Ok(array);
    }
    let shape = array.shape().to_vec();
    let cells = Cells::new(into_cells(array, meter)?, meter)?;
    let list = Json::array(shape, cells, meter)?;
    let heap = list.heap();
    let rows = python::into_items(list, meter)?.unwrap_or_default();
    meter.release(heap);
    Ok(objects(vec![rows.len()], rows))
}
