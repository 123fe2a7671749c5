//! Data frames as pandas makes them: from rows, from records, from a mapping of columns.

mod elements;
mod infer;
mod matrix;
mod names;

use std::collections::HashSet;

pub(crate) use self::elements::{cells_of, into_cells, to_f64, to_i64};
use self::infer::cells_as_lists;
pub(crate) use self::infer::infer_column;
pub(crate) use self::names::{Found, Names};
use super::array::{Array, filled, metered_bools, metered_texts, objects};
use super::python::{self, PyError};
use crate::budget::OverBudget;
use crate::protocol::json::{Cells, Columns, Json, JsonError, Reader, Table};
use crate::protocol::meter::{Meter, block, block_of};
use crate::tensor::{Absent, DType};

/// What a tensor takes beside its elements: its shape, and the books of its storage.
const TENSOR: usize = 112;

/// A table: named columns of equal length.
#[derive(Debug, Clone, Default)]
pub(crate) struct Frame {
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: usize,
}

/// A column of a [`Frame`].
#[derive(Debug, Clone)]
pub(crate) struct Column {
    /// Text, or the position where the client gave no name.
    pub(crate) name: Json,
    /// Of shape `[rows]`.
    pub(crate) data: Array,
}

/// The rows of a `dataframe_split` or `dataframe_records` value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Rows {
    /// A list of lists.
    Lists(Columns),
    /// A list of objects.
    Records(Columns),
    /// Anything else.
    Other(Json),
}

impl Rows {
    /// Reads the next value.
    ///
    /// # Errors
    /// [`JsonError`].
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, JsonError> {
        if let Some(table) = reader.rows()? {
            return Ok(Self::new(table, Self::Lists));
        }
        Ok(match reader.records()? {
            Some(table) => Self::new(table, Self::Records),
            None => Self::Other(reader.value()?),
        })
    }

    /// Rows of several kinds have no table, whatever they are.
    fn new(table: Table, regular: impl Fn(Columns) -> Self) -> Self {
        match table {
            Table::Columns(columns) => regular(columns),
            Table::Irregular => Self::Other(Json::List(vec![Json::List(vec![])])),
        }
    }
}

impl Frame {
    /// `pd.DataFrame(data=rows, columns=names, index=index)`.
    pub(crate) fn new(
        rows: Rows,
        names: Option<Json>,
        index: Option<&Json>,
        meter: &Meter,
    ) -> Result<Self, PyError> {
        let names = names.map_or(Ok(None), |names| column_names(names, meter))?;
        let frame = match rows {
            Rows::Lists(columns) => from_lists(columns, names, meter)?,
            Rows::Records(columns) => from_records(columns, names, meter)?,
            Rows::Other(value) => from_value(value, names, meter)?,
        };
        check_index(frame.rows, index)?;
        Ok(frame)
    }

    /// `pd.DataFrame(mapping)`: arrays of equal length; scalars are repeated to that length, or make one row. Those that are
    /// not `wanted` stay as they are, as nobody reads them: thousands beside a long list would be millions of cells.
    pub(crate) fn from_mapping(
        mapping: Vec<(String, Array)>,
        wanted: impl Fn(&str) -> bool,
        meter: &Meter,
    ) -> Result<Self, PyError> {
        let mut lengths = mapping
            .iter()
            .filter_map(|(_, array)| array.shape().first().copied());
        let rows = lengths.next().unwrap_or(1);
        if lengths.any(|length| length != rows) {
            return Err(PyError::value("All arrays must be of the same length"));
        }
        let mut columns = meter.vec(mapping.len())?;
        for (name, data) in mapping {
            let data = if !wanted(&name) {
                data
            } else if data.shape().is_empty() {
                let all = Strided {
                    start: 0,
                    step: 0,
                    count: rows,
                };
                pick(&data, all, meter)?
            } else {
                cells_as_lists(data, meter)?
            };
            let name = Json::Text(name);
            columns.push(Column { name, data });
        }
        Ok(Self { columns, rows })
    }

    /// `pd.DataFrame(array)`: a list is one column, a matrix has one per column.
    pub(crate) fn from_array(array: Array, meter: &Meter) -> Result<Self, PyError> {
        let (rows, width) = match *array.shape() {
            [] => (1, 1),
            [rows] => (rows, 1),
            [rows, width] => (rows, width),
            _ => {
                return Err(PyError::value(format!(
                    "Must pass 2-d input. shape={:?}",
                    array.shape()
                )));
            }
        };
        let mut columns = meter.vec(width)?;
        for index in 0..width {
            let picked = Strided {
                start: index,
                step: width,
                count: rows,
            };
            columns.push(Column {
                name: position(index),
                data: pick(&array, picked, meter)?,
            });
        }
        meter.release(array.heap());
        Ok(Self { columns, rows })
    }
}

/// The name of a column that has none.
pub(crate) fn position(index: usize) -> Json {
    Json::Int(i64::try_from(index).unwrap_or(i64::MAX))
}

fn column_names(names: Json, meter: &Meter) -> Result<Option<Vec<Json>>, PyError> {
    match names {
        Json::Null => Ok(None),
        Json::Object(entries) => {
            let mut names = meter.vec(entries.len())?;
            names.extend(entries.into_iter().map(|(key, _)| Json::Text(key)));
            Ok(Some(names))
        }
        Json::Array(_) | Json::List(_) => Ok(python::into_items(names, meter)?),
        other => Err(no_collection(&other)),
    }
}

fn no_collection(given: &Json) -> PyError {
    PyError::kind(format!(
        "Index(...) must be called with a collection of some kind, {} was passed",
        python::repr(given)
    ))
}

fn from_lists(columns: Columns, names: Option<Vec<Json>>, meter: &Meter) -> Result<Frame, PyError> {
    let width = columns.cells.len();
    if columns.rows == 0 {
        return Ok(empty_frame(names.unwrap_or_default(), meter)?);
    }
    let names = match names {
        Some(names) => names,
        None => {
            let mut names = meter.vec(width)?;
            names.extend((0..width).map(position));
            names
        }
    };
    if names.len() != width {
        return Err(PyError::value(format!(
            "{} columns passed, passed data had {width} columns",
            names.len()
        )));
    }
    let mut found = meter.vec(width)?;
    for (name, cells) in names.into_iter().zip(columns.cells) {
        let data = infer_column(cells, meter)?;
        found.push(Column { name, data });
    }
    Ok(Frame {
        columns: found,
        rows: columns.rows,
    })
}

fn empty_frame(names: Vec<Json>, meter: &Meter) -> Result<Frame, OverBudget> {
    meter.charge(names.len().saturating_mul(TENSOR))?;
    let mut columns = meter.vec(names.len())?;
    columns.extend(names.into_iter().map(|name| Column {
        name,
        data: objects(vec![0], vec![]),
    }));
    Ok(Frame { columns, rows: 0 })
}

fn from_records(
    columns: Columns,
    names: Option<Vec<Json>>,
    meter: &Meter,
) -> Result<Frame, PyError> {
    let Columns {
        names: keys,
        cells,
        rows,
        ..
    } = columns;
    if rows == 0 {
        return Ok(empty_frame(names.unwrap_or_default(), meter)?);
    }
    let mut columns = meter.vec(keys.len())?;
    for (key, cells) in keys.into_iter().zip(cells) {
        let name = Json::Text(key);
        let data = infer_column(cells, meter)?;
        columns.push(Column { name, data });
    }
    match names {
        None => Ok(Frame { columns, rows }),
        Some(names) => Ok(selected(&Frame { columns, rows }, names, meter)?),
    }
}

/// The columns of these names; of one that is not there every value is missing.
fn selected(frame: &Frame, names: Vec<Json>, meter: &Meter) -> Result<Frame, OverBudget> {
    let rows = frame.rows;
    let known = Names::new(&frame.columns, meter)?;
    let mut missing: Option<Array> = None;
    let mut columns = meter.vec(names.len())?;
    for name in names {
        let found = match &name {
            Json::Text(text) => known.find(text),
            _ => None,
        };
        let data = match (found, &missing) {
            (Some(found), _) => {
                let data = &frame.columns[found.index].data;
                // Tensors are shared.
                if matches!(data, Array::Object(_)) {
                    meter.charge(data.heap())?;
                }
                data.clone()
            }
            (None, Some(missing)) => missing.clone(),
            (None, None) => {
                let mut values = meter.vec(rows)?;
                values.resize(rows, Absent::F64);
                let array = Array::Tensor(filled(vec![rows], values));
                missing.insert(array).clone()
            }
        };
        meter.charge(TENSOR)?;
        columns.push(Column { name, data });
    }
    Ok(Frame { columns, rows })
}

fn from_value(value: Json, names: Option<Vec<Json>>, meter: &Meter) -> Result<Frame, PyError> {
    match value {
        Json::Null => Ok(empty_frame(names.unwrap_or_default(), meter)?),
        Json::Object(entries) if entries.is_empty() => {
            Ok(empty_frame(names.unwrap_or_default(), meter)?)
        }
        Json::Object(entries) => {
            let mut mapping = meter.vec(entries.len())?;
            for (key, value) in entries {
                let cells = match value {
                    Json::Array(_) | Json::List(_) => column_cells(value, meter)?,
                    scalar => Cells::one(scalar, meter)?,
                };
                mapping.push((key, infer_column(cells, meter)?));
            }
            let mut frame = Frame::from_mapping(mapping, |_| true, meter)?;
            if let Some(names) = names {
                meter.charge(block_of::<(u8, &str)>(3 * names.len()))?;
                let wanted: HashSet<&str> = names.iter().filter_map(as_text).collect();
                let is_wanted = |column: &Column| {
                    as_text(&column.name).is_some_and(|name| wanted.contains(name))
                };
                frame.columns.retain(is_wanted);
            }
            Ok(frame)
        }
        Json::Array(_) | Json::List(_) => from_items(value, names, meter),
        scalar => Err(PyError::value(format!(
            "DataFrame constructor not properly called! Got {}",
            python::repr(&scalar)
        ))),
    }
}

fn as_text(name: &Json) -> Option<&str> {
    match name {
        Json::Text(text) => Some(text),
        _ => None,
    }
}

/// The items of a list as the cells of a column.
fn column_cells(list: Json, meter: &Meter) -> Result<Cells, OverBudget> {
    match list {
        Json::Array(flat) if flat.shape.len() == 1 => Ok(flat.cells),
        list => {
            let items = python::into_items(list, meter)?.unwrap_or_default();
            let slots = block_of::<Json>(items.capacity());
            let cells = Cells::new(items, meter)?;
            meter.release(slots);
            Ok(cells)
        }
    }
}

/// A list whose first item is no list and no object is one column; other mixtures have no table.
fn from_items(list: Json, names: Option<Vec<Json>>, meter: &Meter) -> Result<Frame, PyError> {
    let rows = python::length(&list).unwrap_or(0);
    if rows > 0 && !python::is_scalar(&*python::item(&list, 0, meter)?) {
        return Err(PyError::kind("the rows are not all lists or all objects"));
    }
    let names = names.unwrap_or_else(|| vec![position(0)]);
    if names.len() != 1 {
        return Err(PyError::value(format!(
            "Shape of passed values is ({rows}, 1), indices imply ({rows}, {})",
            names.len()
        )));
    }
    let data = infer_column(column_cells(list, meter)?, meter)?;
    let column = |name| Column {
        name,
        data: data.clone(),
    };
    Ok(Frame {
        columns: names.into_iter().take(1).map(column).collect(),
        rows,
    })
}

fn check_index(rows: usize, index: Option<&Json>) -> Result<(), PyError> {
    let length = match index {
        None | Some(Json::Null) => return Ok(()),
        Some(Json::Object(entries)) => entries.len(),
        Some(list) => python::length(list).ok_or_else(|| no_collection(list))?,
    };
    if length == rows {
        return Ok(());
    }
    Err(PyError::value(format!(
        "Length of values ({rows}) does not match length of index ({length})"
    )))
}

/// Every `step`th element.
#[derive(Debug, Clone, Copy)]
struct Strided {
    start: usize,
    step: usize,
    count: usize,
}

impl Strided {
    fn of<T: Clone>(self, values: &[T], meter: &Meter) -> Result<Vec<T>, OverBudget> {
        let mut picked = meter.vec(self.count)?;
        let at = |index: usize| values[self.start + index * self.step].clone();
        picked.extend((0..self.count).map(at));
        Ok(picked)
    }
}

/// These elements, as a column.
fn pick(array: &Array, picked: Strided, meter: &Meter) -> Result<Array, OverBudget> {
    meter.charge(TENSOR)?;
    let shape = vec![picked.count];
    macro_rules! typed {
        ($tensor:expr, $($dtype:ident => $rust:ty),* $(,)?) => {
            match $tensor.dtype() {
                // What was read here lies aligned.
                $(DType::$dtype => filled(
                    shape,
                    picked.of($tensor.as_slice::<$rust>().unwrap_or_default(), meter)?,
                ),)*
                DType::Bool => {
                    let bytes = picked.of($tensor.bytes(), meter)?;
                    metered_bools(shape, bytes.into_iter().map(|byte| byte != 0).collect(), meter)?
                }
                DType::String => {
                    let texts = $tensor.as_strings().unwrap_or_default();
                    let heap = |index: usize| block(texts[picked.start + index * picked.step].len());
                    meter.charge((0..picked.count).map(heap).sum())?;
                    metered_texts(shape, picked.of(texts, meter)?, meter)?
                }
            }
        };
    }
    Ok(match array {
        Array::Tensor(tensor) => Array::Tensor(typed!(
            tensor, U8 => u8, U16 => u16, U32 => u32, U64 => u64, I8 => i8, I16 => i16, I32 => i32, I64 => i64,
            F16 => half::f16, Bf16 => half::bf16, F32 => f32, F64 => f64,
        )),
        Array::Object(data) => {
            let heap = |index: usize| data.cells[picked.start + index * picked.step].heap();
            let mut heaps = (0..picked.count).map(heap);
            heaps.try_for_each(|heap| meter.charge(heap))?;
            objects(shape, picked.of(&data.cells, meter)?)
        }
        Array::Opaque(opaque, _) => Array::Opaque(*opaque, shape),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        Reader::new(text.as_bytes()).unwrap().value().unwrap()
    }

    fn split(data: &str, names: Option<&str>) -> Result<Frame, PyError> {
        let mut reader = Reader::new(data.as_bytes()).unwrap();
        let rows = Rows::read(&mut reader).unwrap();
        Frame::new(rows, names.map(json), None, &Meter::unlimited())
    }

    fn dtypes(frame: &Frame) -> Vec<&'static str> {
        frame
            .columns
            .iter()
            .map(|column| column.data.dtype_name())
            .collect()
    }

    #[test]
    fn columns_have_the_types_that_pandas_infers() {
        let frame = split(
            r#"[[1, 2.5, true, "a", null, 1], [2, 3, false, "b", null, null]]"#,
            None,
        )
        .unwrap();
        assert_eq!(
            dtypes(&frame),
            ["int64", "float64", "bool", "str", "object", "float64"]
        );
        let frame = split("[[9223372036854775808, true, 1], [1, 1, \"x\"]]", None).unwrap();
        assert_eq!(dtypes(&frame), ["uint64", "object", "object"]);
    }

    #[test]
    fn rows_must_fit_the_columns() {
        let error = split("[[5.1, 3.5]]", Some(r#"["a"]"#)).unwrap_err();
        let error = error.to_string();
        assert_eq!(error, "1 columns passed, passed data had 2 columns");
        assert_eq!(split("[1, 2]", Some(r#"["a"]"#)).unwrap().rows, 2);
        assert!(split("[[1, 2], 3]", Some(r#"["a", "b"]"#)).is_err());
        assert!(split("5", Some(r#"["a"]"#)).is_err());
        assert_eq!(split("[]", Some(r#"["a", "b"]"#)).unwrap().columns.len(), 2);
        assert!(split("[[1]]", Some("\"a\"")).is_err());
    }

    #[test]
    fn values_have_the_common_type_of_the_columns() {
        let matrix = |data: &str, wanted| {
            let frame = split(data, None).unwrap();
            frame.values(wanted, &Meter::unlimited()).unwrap()
        };
        let values = |data: &str| matrix(data, None).dtype_name();
        assert_eq!(values("[[1, 2]]"), "int64");
        assert_eq!(values("[[1, 2.5]]"), "float64");
        assert_eq!(values("[[1, true]]"), "object");
        assert_eq!(values("[[\"a\", \"b\"]]"), "str");
        let singles = matrix("[[1, 2.5], [3, 4.5]]", Some(DType::F32));
        assert_eq!(singles.dtype_name(), "float32");
        let Array::Tensor(matrix) = matrix("[[1, 2.5], [3, 4.5]]", None) else {
            panic!()
        };
        assert_eq!(
            (matrix.shape(), matrix.as_slice::<f64>().unwrap()),
            (&[2, 2][..], &[1.0, 2.5, 3.0, 4.5][..])
        );
    }

    #[test]
    fn scalars_are_repeated_beside_arrays() {
        let meter = Meter::unlimited();
        let array = |text: &str| Array::infer(json(text), &meter).unwrap();
        let mapping = vec![
            ("a".to_owned(), array("[1, 2]")),
            ("b".to_owned(), array("5")),
        ];
        let repeated = |wanted: bool| {
            let frame = Frame::from_mapping(mapping.clone(), |_| wanted, &meter).unwrap();
            (frame.rows, frame.columns[1].data.shape().to_vec())
        };
        assert_eq!(repeated(true), (2, vec![2]));
        assert_eq!(repeated(false), (2, vec![]), "nobody reads it");
        let unequal = vec![
            ("a".to_owned(), array("[1, 2]")),
            ("b".to_owned(), array("[1]")),
        ];
        assert!(Frame::from_mapping(unequal, |_| true, &meter).is_err());
    }
}
