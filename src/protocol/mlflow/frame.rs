//! Data frames as pandas makes them: from rows, from records, from a mapping of columns.

use half::{bf16, f16};

use super::array::{Array, bools, filled, objects, texts};
use super::python::{self, PyError};
use crate::protocol::json::{Cells, Columns, Flat, Json};
use crate::tensor::{DType, Tensor};

/// A table: named columns of equal length.
#[derive(Debug, Clone, Default)]
pub(super) struct Frame {
    pub(super) columns: Vec<Column>,
    pub(super) rows: usize,
}

/// A column of a [`Frame`].
#[derive(Debug, Clone)]
pub(super) struct Column {
    /// Text, or the position where the client gave no name.
    pub(super) name: Json,
    /// Of shape `[rows]`.
    pub(super) data: Array,
}

impl Column {
    /// Early versions of MLflow wrote the positions of columns without names into signatures.
    pub(super) fn is_named(&self, name: &str) -> bool {
        match &self.name {
            Json::Text(text) => text == name,
            Json::Int(position) => name.parse() == Ok(*position),
            _ => false,
        }
    }
}

/// The rows of a `dataframe_split` or `dataframe_records` value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Rows {
    /// A list of lists.
    Lists(Columns),
    /// A list of objects.
    Records(Columns),
    /// Anything else.
    Other(Json),
}

impl Frame {
    /// `pd.DataFrame(data=rows, columns=names, index=index)`.
    pub(super) fn new(
        rows: Rows,
        names: Option<Json>,
        index: Option<&Json>,
    ) -> Result<Self, PyError> {
        let names = names.map_or(Ok(None), column_names)?;
        let frame = match rows {
            Rows::Lists(columns) => from_lists(columns, names)?,
            Rows::Records(columns) => from_records(columns, names),
            Rows::Other(value) => from_value(value, names)?,
        };
        check_index(frame.rows, index)?;
        Ok(frame)
    }

    /// `pd.DataFrame(mapping)`: arrays of equal length; scalars are repeated to that length, or make one row.
    pub(super) fn from_mapping(mapping: Vec<(String, Array)>) -> Result<Self, PyError> {
        let mut lengths = mapping
            .iter()
            .filter_map(|(_, array)| array.shape().first().copied());
        let rows = lengths.next().unwrap_or(1);
        if lengths.any(|length| length != rows) {
            return Err(PyError::value("All arrays must be of the same length"));
        }
        let columns = mapping.into_iter().map(|(name, data)| Column {
            name: Json::Text(name),
            data: if data.shape().is_empty() {
                repeated(data, rows)
            } else {
                cells_as_lists(data)
            },
        });
        Ok(Self {
            columns: columns.collect(),
            rows,
        })
    }

    /// `pd.DataFrame(array)`: a list is one column, a matrix has one per column.
    pub(super) fn from_array(array: Array) -> Result<Self, PyError> {
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
        let column = |index: usize| {
            let picked: Vec<usize> = (0..rows).map(|row| row * width + index).collect();
            Column {
                name: position(index),
                data: pick(&array, &picked),
            }
        };
        Ok(Self {
            columns: (0..width).map(column).collect(),
            rows,
        })
    }

    /// The column with this name.
    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.is_named(name))
    }

    /// `frame.values`: one matrix of the columns' common type.
    pub(super) fn values(&self) -> Array {
        let shape = vec![self.rows, self.columns.len()];
        macro_rules! matrix {
            ($rust:ty) => {{
                let elements =
                    self.interleaved(|tensor| tensor.to_vec::<$rust>().unwrap_or_default());
                Array::Tensor(filled(shape, elements))
            }};
        }
        let Some((dtype, uniform)) = common_dtype(&self.columns) else {
            let columns = self.columns.iter().map(|column| cells_of(&column.data));
            return objects(shape, interleave(&columns.collect::<Vec<_>>(), self.rows));
        };
        match dtype {
            DType::Bool => {
                let elements = self
                    .interleaved(|tensor| tensor.bytes().iter().map(|&byte| byte != 0).collect());
                Array::Tensor(bools(shape, &elements))
            }
            DType::String => {
                let elements =
                    self.interleaved(|tensor| tensor.as_strings().unwrap_or_default().to_vec());
                Array::Tensor(texts(shape, elements))
            }
            DType::I64 if !uniform => Array::Tensor(filled(shape, self.interleaved(to_i64))),
            DType::F64 if !uniform => Array::Tensor(filled(shape, self.interleaved(to_f64))),
            DType::U8 => matrix!(u8),
            DType::U16 => matrix!(u16),
            DType::U32 => matrix!(u32),
            DType::U64 => matrix!(u64),
            DType::I8 => matrix!(i8),
            DType::I16 => matrix!(i16),
            DType::I32 => matrix!(i32),
            DType::I64 => matrix!(i64),
            DType::F16 => matrix!(f16),
            DType::Bf16 => matrix!(bf16),
            DType::F32 => matrix!(f32),
            DType::F64 => matrix!(f64),
        }
    }

    fn interleaved<T: Clone>(&self, read: impl Fn(&Tensor) -> Vec<T>) -> Vec<T> {
        let tensors = self.columns.iter().filter_map(|column| match &column.data {
            Array::Tensor(tensor) => Some(read(tensor)),
            Array::Object(_) | Array::Opaque(..) => None,
        });
        interleave(&tensors.collect::<Vec<_>>(), self.rows)
    }
}

/// Row-major order out of columns.
fn interleave<T: Clone>(columns: &[Vec<T>], rows: usize) -> Vec<T> {
    let mut out = Vec::with_capacity(rows * columns.len());
    for row in 0..rows {
        out.extend(columns.iter().map(|column| column[row].clone()));
    }
    out
}

/// The type that holds all columns, as numpy promotes them, and whether it is the type of each; `None` is `object`.
fn common_dtype(columns: &[Column]) -> Option<(DType, bool)> {
    let mut common: Option<(DType, bool)> = None;
    for column in columns {
        let dtype = column.data.dtype()?;
        common = Some(match common {
            None => (dtype, true),
            Some((same, uniform)) if same == dtype => (dtype, uniform),
            Some((DType::Bool | DType::String, _)) => return None,
            Some(_) if matches!(dtype, DType::Bool | DType::String) => return None,
            Some((DType::I32 | DType::I64, _)) if matches!(dtype, DType::I32 | DType::I64) => {
                (DType::I64, false)
            }
            Some(_) => (DType::F64, false),
        });
    }
    common
}

/// The name of a column that has none.
pub(super) fn position(index: usize) -> Json {
    Json::Int(i64::try_from(index).unwrap_or(i64::MAX))
}

fn column_names(names: Json) -> Result<Option<Vec<Json>>, PyError> {
    match names {
        Json::Null => Ok(None),
        Json::Object(entries) => Ok(Some(
            entries
                .into_iter()
                .map(|(key, _)| Json::Text(key))
                .collect(),
        )),
        other => match python::items(&other) {
            Some(items) => Ok(Some(items)),
            None => Err(PyError::kind(format!(
                "Index(...) must be called with a collection of some kind, {} was passed",
                python::repr(&other)
            ))),
        },
    }
}

fn from_lists(columns: Columns, names: Option<Vec<Json>>) -> Result<Frame, PyError> {
    let width = columns.cells.len();
    if columns.rows == 0 {
        let names = names.unwrap_or_default();
        return Ok(empty_frame(names));
    }
    let names = names.unwrap_or_else(|| (0..width).map(position).collect());
    if names.len() != width {
        return Err(PyError::value(format!(
            "{} columns passed, passed data had {width} columns",
            names.len()
        )));
    }
    let columns_of = names.into_iter().zip(columns.cells);
    let columns_of = columns_of.map(|(name, cells)| Column {
        name,
        data: infer_column(cells),
    });
    Ok(Frame {
        columns: columns_of.collect(),
        rows: columns.rows,
    })
}

fn empty_frame(names: Vec<Json>) -> Frame {
    let column = |name| Column {
        name,
        data: objects(vec![0], vec![]),
    };
    Frame {
        columns: names.into_iter().map(column).collect(),
        rows: 0,
    }
}

fn from_records(columns: Columns, names: Option<Vec<Json>>) -> Frame {
    let Columns {
        names: keys,
        cells,
        rows,
    } = columns;
    if rows == 0 {
        return empty_frame(names.unwrap_or_default());
    }
    let found = keys.into_iter().zip(cells);
    let mut found: Vec<Column> = found
        .map(|(key, cells)| Column {
            name: Json::Text(key),
            data: infer_column(cells),
        })
        .collect();
    if let Some(names) = names {
        let select = |name: Json| {
            let known = found.iter().find(|column| column.name == name);
            let missing = || filled(vec![rows], vec![f64::NAN; rows]);
            Column {
                data: known.map_or_else(|| Array::Tensor(missing()), |column| column.data.clone()),
                name,
            }
        };
        found = names.into_iter().map(select).collect();
    }
    Frame {
        columns: found,
        rows,
    }
}

fn from_value(value: Json, names: Option<Vec<Json>>) -> Result<Frame, PyError> {
    match value {
        Json::Null => Ok(empty_frame(names.unwrap_or_default())),
        Json::Object(entries) if entries.is_empty() => Ok(empty_frame(names.unwrap_or_default())),
        Json::Object(entries) => {
            let mut mapping = Vec::with_capacity(entries.len());
            for (key, value) in entries {
                let cells = python::items(&value).unwrap_or_else(|| vec![value]);
                mapping.push((key, infer_column(cells_from(cells))));
            }
            let mut frame = Frame::from_mapping(mapping)?;
            if let Some(names) = names {
                frame.columns.retain(|column| names.contains(&column.name));
            }
            Ok(frame)
        }
        Json::Array(_) | Json::List(_) => {
            from_items(python::items(&value).unwrap_or_default(), names)
        }
        scalar => Err(PyError::value(format!(
            "DataFrame constructor not properly called! Got {}",
            python::repr(&scalar)
        ))),
    }
}

/// A list whose first item is no list and no object is one column; other mixtures have no table.
fn from_items(items: Vec<Json>, names: Option<Vec<Json>>) -> Result<Frame, PyError> {
    if items.first().is_some_and(|first| !python::is_scalar(first)) {
        return Err(PyError::kind("the rows are not all lists or all objects"));
    }
    let rows = items.len();
    let names = names.unwrap_or_else(|| vec![position(0)]);
    if names.len() != 1 {
        return Err(PyError::value(format!(
            "Shape of passed values is ({rows}, 1), indices imply ({rows}, {})",
            names.len()
        )));
    }
    let data = infer_column(cells_from(items));
    Ok(Frame {
        columns: names
            .into_iter()
            .map(|name| Column {
                name,
                data: data.clone(),
            })
            .collect(),
        rows,
    })
}

fn check_index(rows: usize, index: Option<&Json>) -> Result<(), PyError> {
    let length = match index {
        None | Some(Json::Null) => return Ok(()),
        Some(Json::Object(entries)) => entries.len(),
        Some(list) => match python::items(list) {
            Some(items) => items.len(),
            None => {
                let given = python::repr(list);
                let message = format!(
                    "Index(...) must be called with a collection of some kind, {given} was passed"
                );
                return Err(PyError::kind(message));
            }
        },
    };
    if length == rows {
        return Ok(());
    }
    Err(PyError::value(format!(
        "Length of values ({rows}) does not match length of index ({length})"
    )))
}

fn cells_from(items: Vec<Json>) -> Cells {
    let mut cells = Cells::default();
    items.into_iter().for_each(|item| cells.push(item));
    cells
}

/// The type that pandas gives a column of Python values.
pub(super) fn infer_column(cells: Cells) -> Array {
    let shape = vec![cells.len()];
    match cells {
        cells if cells.is_empty() => objects(shape, vec![]),
        Cells::Int(values) => Array::Tensor(filled(shape, values)),
        Cells::Number(numbers) => Array::Tensor(filled(shape, numbers.values)),
        Cells::Bool(values) => Array::Tensor(bools(shape, &values)),
        Cells::Text(values) => Array::Tensor(texts(shape, values)),
        Cells::Mixed(values) => infer_mixed(shape, values),
    }
}

/// Nulls beside numbers are NaN; whole numbers up to 2⁶⁴ are unsigned; everything else is `object`.
fn infer_mixed(shape: Vec<usize>, values: Vec<Json>) -> Array {
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
            _ => return objects(shape, values),
        }
    }
    if numbers == 0 || (big > 0 && negative && floats == 0 && nulls == 0) {
        return objects(shape, values);
    }
    if floats == 0 && nulls == 0 {
        let unsigned = values.iter().map(|value| {
            python::int(value)
                .ok()
                .and_then(|int| u64::try_from(int).ok())
        });
        return match unsigned.collect::<Option<Vec<u64>>>() {
            Some(unsigned) => Array::Tensor(filled(shape, unsigned)),
            None => objects(shape, values),
        };
    }
    let floats: Vec<f64> = values
        .iter()
        .map(|value| python::float(value).unwrap_or(f64::NAN))
        .collect();
    Array::Tensor(filled(shape, floats))
}

/// A column whose cells are the rows of an array with more than one dimension.
fn cells_as_lists(array: Array) -> Array {
    if array.shape().len() <= 1 {
        return array;
    }
    let mut cells = Cells::default();
    cells_of(&array)
        .into_iter()
        .for_each(|cell| cells.push(cell));
    let shape = array.shape().to_vec();
    let rows = python::items(&Json::Array(Box::new(Flat { shape, cells }))).unwrap_or_default();
    objects(vec![rows.len()], rows)
}

fn repeated(scalar: Array, rows: usize) -> Array {
    pick(&scalar, &vec![0; rows])
}

/// The elements at these flat positions, as a column.
fn pick(array: &Array, positions: &[usize]) -> Array {
    let shape = vec![positions.len()];
    macro_rules! typed {
        ($tensor:expr, $($dtype:ident => $rust:ty),* $(,)?) => {
            match $tensor.dtype() {
                $(DType::$dtype => {
                    let values = $tensor.to_vec::<$rust>().unwrap_or_default();
                    filled(shape, positions.iter().map(|&at| values[at]).collect())
                })*
                DType::Bool => {
                    bools(shape, &positions.iter().map(|&at| $tensor.bytes()[at] != 0).collect::<Vec<_>>())
                }
                DType::String => {
                    let values = $tensor.as_strings().unwrap_or_default();
                    texts(shape, positions.iter().map(|&at| values[at].clone()).collect())
                }
            }
        };
    }
    match array {
        Array::Tensor(tensor) => Array::Tensor(typed!(
            tensor, U8 => u8, U16 => u16, U32 => u32, U64 => u64, I8 => i8, I16 => i16, I32 => i32, I64 => i64,
            F16 => half::f16, Bf16 => half::bf16, F32 => f32, F64 => f64,
        )),
        Array::Object(data) => objects(
            shape,
            positions.iter().map(|&at| data.cells[at].clone()).collect(),
        ),
        Array::Opaque(opaque, _) => Array::Opaque(*opaque, shape),
    }
}

/// The elements of a boolean or integer column, those beyond `i64` wrapped around.
pub(super) fn to_i64(tensor: &Tensor) -> Vec<i64> {
    macro_rules! ints {
        ($rust:ty) => {
            tensor
                .to_vec::<$rust>()
                .unwrap_or_default()
                .into_iter()
                .map(i64::from)
                .collect()
        };
    }
    match tensor.dtype() {
        DType::Bool => tensor.bytes().iter().map(|&byte| i64::from(byte)).collect(),
        DType::U8 => ints!(u8),
        DType::U16 => ints!(u16),
        DType::U32 => ints!(u32),
        DType::I8 => ints!(i8),
        DType::I16 => ints!(i16),
        DType::I32 => ints!(i32),
        DType::U64 => tensor
            .to_vec::<u64>()
            .unwrap_or_default()
            .into_iter()
            .map(u64::cast_signed)
            .collect(),
        _ => tensor.to_vec::<i64>().unwrap_or_default(),
    }
}

/// The elements of a numeric column as doubles.
#[expect(
    clippy::cast_precision_loss,
    reason = "numpy's promotion to float64 rounds too"
)]
pub(super) fn to_f64(tensor: &Tensor) -> Vec<f64> {
    match tensor.dtype() {
        DType::F64 => tensor.to_vec::<f64>().unwrap_or_default(),
        DType::F32 => tensor
            .to_vec::<f32>()
            .unwrap_or_default()
            .into_iter()
            .map(f64::from)
            .collect(),
        DType::F16 => tensor
            .to_vec::<f16>()
            .unwrap_or_default()
            .into_iter()
            .map(f16::to_f64)
            .collect(),
        DType::Bf16 => tensor
            .to_vec::<bf16>()
            .unwrap_or_default()
            .into_iter()
            .map(bf16::to_f64)
            .collect(),
        DType::U64 => tensor
            .to_vec::<u64>()
            .unwrap_or_default()
            .into_iter()
            .map(|int| int as f64)
            .collect(),
        _ => to_i64(tensor).into_iter().map(|int| int as f64).collect(),
    }
}

/// The Python objects of a column.
pub(super) fn cells_of(array: &Array) -> Vec<Json> {
    match array {
        Array::Object(data) => data.cells.clone(),
        Array::Opaque(_, shape) => {
            vec![Json::Null; shape.iter().product()]
        }
        Array::Tensor(tensor) => match tensor.dtype() {
            DType::String => tensor
                .as_strings()
                .unwrap_or_default()
                .iter()
                .cloned()
                .map(Json::Text)
                .collect(),
            DType::Bool => tensor
                .bytes()
                .iter()
                .map(|&byte| Json::Bool(byte != 0))
                .collect(),
            DType::U64 => {
                let ints = tensor.to_vec::<u64>().unwrap_or_default();
                ints.into_iter()
                    .map(|int| Json::Big(int.to_string().into()))
                    .collect()
            }
            dtype if dtype.is_float() => to_f64(tensor).into_iter().map(Json::Float).collect(),
            _ => to_i64(tensor).into_iter().map(Json::Int).collect(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::json::Reader;

    fn json(text: &str) -> Json {
        Reader::new(text.as_bytes()).unwrap().value().unwrap()
    }

    fn split(data: &str, names: Option<&str>) -> Result<Frame, String> {
        let mut reader = Reader::new(data.as_bytes()).unwrap();
        let rows = match reader.rows().unwrap() {
            Some(columns) => Rows::Lists(columns),
            None => match reader.records().unwrap() {
                Some(columns) => Rows::Records(columns),
                None => Rows::Other(reader.value().unwrap()),
            },
        };
        Frame::new(rows, names.map(json), None).map_err(|error| error.to_string())
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
        assert_eq!(error, "1 columns passed, passed data had 2 columns");
        assert_eq!(split("[1, 2]", Some(r#"["a"]"#)).unwrap().rows, 2);
        assert!(split("[[1, 2], 3]", Some(r#"["a", "b"]"#)).is_err());
        assert!(split("5", Some(r#"["a"]"#)).is_err());
        assert_eq!(split("[]", Some(r#"["a", "b"]"#)).unwrap().columns.len(), 2);
        assert!(split("[[1]]", Some("\"a\"")).is_err());
    }

    #[test]
    fn values_have_the_common_type_of_the_columns() {
        let values = |data: &str| split(data, None).unwrap().values().dtype_name();
        assert_eq!(values("[[1, 2]]"), "int64");
        assert_eq!(values("[[1, 2.5]]"), "float64");
        assert_eq!(values("[[1, true]]"), "object");
        assert_eq!(values("[[\"a\", \"b\"]]"), "str");
        let Array::Tensor(matrix) = split("[[1, 2.5], [3, 4.5]]", None).unwrap().values() else {
            panic!()
        };
        assert_eq!(
            (matrix.shape(), matrix.as_slice::<f64>().unwrap()),
            (&[2, 2][..], &[1.0, 2.5, 3.0, 4.5][..])
        );
    }

    #[test]
    fn scalars_are_repeated_beside_arrays() {
        let array = |text: &str| Array::infer(json(text)).unwrap();
        let mapping = vec![
            ("a".to_owned(), array("[1, 2]")),
            ("b".to_owned(), array("5")),
        ];
        assert_eq!(Frame::from_mapping(mapping).unwrap().rows, 2);
        let unequal = vec![
            ("a".to_owned(), array("[1, 2]")),
            ("b".to_owned(), array("[1]")),
        ];
        assert!(Frame::from_mapping(unequal).is_err());
    }
}
