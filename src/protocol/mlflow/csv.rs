//! CSV bodies, read as `pandas.read_csv` reads them.

use std::collections::{HashMap, HashSet};

use super::array::{Array, Opaque, bools, filled, objects, texts, to_f32};
use super::frame::{Column, Frame};
use super::python;
use crate::model::{ColType, DataType, Schema};
use crate::protocol::json::Json;

/// The cells that pandas takes for missing.
const MISSING: [&str; 19] = [
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
    "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
];

/// Reads a table with a header row; columns that the schema names have its types, others are inferred.
///
/// # Errors
/// pandas' reason.
pub(super) fn read(body: &str, schema: Option<&Schema>) -> Result<Frame, String> {
    let types = match schema {
        None => &[][..],
        Some(Schema::Columns(specs)) => specs.as_slice(),
        Some(Schema::Tensors(_)) => return Err("TensorSpec only supports numpy types".to_owned()),
    };
    if types
        .iter()
        .any(|spec| !matches!(spec.kind, ColType::Scalar(_)))
    {
        return Err(
            "Failed to get pandas types as some of the inputs types are not DataType.".to_owned(),
        );
    }
    let table = tokenize(body)?;
    let mut columns = Vec::with_capacity(table.header.len());
    for (index, (name, cells)) in table.header.into_iter().zip(table.columns).enumerate() {
        let spec = types
            .iter()
            .enumerate()
            .find(|(place, spec)| match &spec.name {
                Some(wanted) => *wanted == name,
                None => *place == index,
            });
        let wanted = spec.and_then(|(_, spec)| match spec.kind {
            ColType::Scalar(wanted) => Some(wanted),
            ColType::Array(_) | ColType::Object(_) | ColType::Map(_) | ColType::Any => None,
        });
        let data = match wanted {
            Some(wanted) => typed(&cells, wanted, &name, index)?,
            None => inferred(&cells),
        };
        columns.push(Column {
            name: Json::Text(name),
            data,
        });
    }
    Ok(Frame {
        columns,
        rows: table.rows,
    })
}

struct Table {
    header: Vec<String>,
    columns: Vec<Cells>,
    rows: usize,
}

/// The cells of a column, in one text: a table of millions of short cells costs little more than its body.
#[derive(Debug, Clone, Default)]
struct Cells {
    text: String,
    ends: Vec<usize>,
}

impl Cells {
    fn push(&mut self, cell: &str) {
        self.text.push_str(cell);
        self.ends.push(self.text.len());
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(start, &end)| &self.text[start..end])
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

/// Empty cells that are made for short rows, beside one for each byte of the body.
const FREE_PADDING: usize = 1_000_000;

/// Splits the text into cells. Rows longer than the header have an index in front, which is dropped.
fn tokenize(body: &str) -> Result<Table, String> {
    let body = body.strip_prefix('\u{feff}').unwrap_or(body);
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(body.as_bytes());
    let mut records = reader
        .records()
        .filter(|record| !record.as_ref().is_ok_and(is_blank));
    let header = match records.next() {
        Some(header) => header.map_err(|error| error.to_string())?,
        None => return Err("No columns to parse from file".to_owned()),
    };
    let header = unique_names(header.iter());
    let mut width = header.len();
    let mut columns = vec![Cells::default(); width];
    let mut rows = 0;
    let mut padding_left = FREE_PADDING + body.len();
    for record in records {
        let record = record.map_err(|error| error.to_string())?;
        if rows == 0 && record.len() > width {
            width = record.len();
        }
        if record.len() > width {
            let (line, seen) = (rows + 2, record.len());
            return Err(format!(
                "Error tokenizing data. C error: Expected {width} fields in line {line}, saw {seen}"
            ));
        }
        let missing = width - record.len();
        padding_left = padding_left
            .checked_sub(missing)
            .ok_or("most cells of the table are missing")?;
        let index_columns = width - header.len();
        for (place, column) in columns.iter_mut().enumerate() {
            column.push(record.get(index_columns + place).unwrap_or_default());
        }
        rows += 1;
    }
    if ends_inside_quotes(body) {
        return Err(format!(
            "Error tokenizing data. C error: EOF inside string starting at row {rows}"
        ));
    }
    Ok(Table {
        header,
        columns,
        rows,
    })
}

/// Whether the line holds white space only. A line `""` is a row with an empty cell; empty lines never get here.
fn is_blank(record: &csv::StringRecord) -> bool {
    let blank = |cell: &str| !cell.is_empty() && cell.trim().is_empty();
    record.len() == 1 && record.get(0).is_none_or(blank)
}

/// The second column of a name gets `.1`, the third `.2`; a column without a name is called after its place.
fn unique_names<'r>(names: impl Iterator<Item = &'r str>) -> Vec<String> {
    let mut unique: Vec<String> = Vec::new();
    let mut taken: HashSet<String> = HashSet::new();
    let mut counts: HashMap<String, usize> = HashMap::new();
    for (index, name) in names.enumerate() {
        let name = if name.is_empty() {
            format!("Unnamed: {index}")
        } else {
            name.to_owned()
        };
        let mut candidate = name.clone();
        let count = counts.entry(name.clone()).or_default();
        while taken.contains(&candidate) {
            *count += 1;
            candidate = format!("{name}.{count}");
        }
        taken.insert(candidate.clone());
        unique.push(candidate);
    }
    unique
}

/// Whether a quoted cell is still open at the end.
fn ends_inside_quotes(body: &str) -> bool {
    let mut inside = false;
    let mut at_start = true;
    for byte in body.bytes() {
        match byte {
            b'"' if inside || at_start => inside = !inside,
            // A doubled quote closes and opens again.
            b'"' => inside = true,
            _ => {}
        }
        at_start = !inside && matches!(byte, b',' | b'\n' | b'\r' | b'"');
    }
    inside
}

fn is_missing(cell: &str) -> bool {
    MISSING.contains(&cell)
}

/// The cells of a column as the narrowest type that pandas finds for all of them.
enum Natural {
    Int(Vec<i64>),
    /// Whole numbers of which one is beyond `i64`.
    Unsigned(Vec<u64>),
    /// Numbers; a missing cell is NaN.
    Float(Vec<f64>),
    /// `None` is a missing cell.
    Bool(Vec<Option<bool>>),
    Text,
}

impl Natural {
    fn of(cells: &Cells) -> Self {
        let all = |parse: fn(&str) -> Option<i64>| {
            cells
                .iter()
                .map(|cell| parse(cell.trim()))
                .collect::<Option<Vec<i64>>>()
        };
        if let Some(ints) = all(|cell| cell.parse().ok()) {
            return Self::Int(ints);
        }
        if let Some(ints) = cells
            .iter()
            .map(|cell| cell.trim().parse().ok())
            .collect::<Option<Vec<u64>>>()
        {
            return Self::Unsigned(ints);
        }
        let float_or_missing = |cell: &str| {
            if is_missing(cell) {
                Some(f64::NAN)
            } else {
                float(cell)
            }
        };
        if let Some(floats) = cells
            .iter()
            .map(float_or_missing)
            .collect::<Option<Vec<f64>>>()
        {
            return Self::Float(floats);
        }
        let bool_or_missing = |cell: &str| {
            if is_missing(cell) {
                Some(None)
            } else {
                boolean(cell).map(Some)
            }
        };
        cells
            .iter()
            .map(bool_or_missing)
            .collect::<Option<Vec<_>>>()
            .map_or(Self::Text, Self::Bool)
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Int(_) => "int64",
            Self::Unsigned(_) => "uint64",
            Self::Float(_) => "float64",
            Self::Bool(_) => "bool",
            Self::Text => "object",
        }
    }
}

/// A column of the signature's type: its natural type, when no value is lost by the cast.
fn typed(cells: &Cells, wanted: DataType, name: &str, index: usize) -> Result<Array, String> {
    let shape = vec![cells.len()];
    let natural = Natural::of(cells);
    let found = natural.name();
    let unsafe_cast = || {
        let (wanted, natural) = (wanted.numpy_name(), found);
        format!(
            "cannot safely convert passed user dtype of {wanted} for {natural} dtyped data in column {index}"
        )
    };
    Ok(match wanted {
        DataType::Double => Array::Tensor(filled(shape, floats(&natural).ok_or_else(unsafe_cast)?)),
        DataType::Float => {
            let floats = floats(&natural).ok_or_else(unsafe_cast)?;
            Array::Tensor(filled(shape, floats.into_iter().map(to_f32).collect()))
        }
        DataType::Long | DataType::Integer if cells.iter().any(is_missing) => {
            return Err(format!("Integer column has NA values in column {index}"));
        }
        DataType::Long => match natural {
            // It stays unsigned, which enforcement then refuses.
            Natural::Unsigned(ints) => Array::Tensor(filled(shape, ints)),
            natural => Array::Tensor(filled(shape, ints(&natural).ok_or_else(unsafe_cast)?)),
        },
        DataType::Integer => {
            let ints = ints(&natural).ok_or_else(unsafe_cast)?;
            #[expect(clippy::cast_possible_truncation, reason = "pandas wraps around too")]
            Array::Tensor(filled(
                shape,
                ints.into_iter().map(|int| int as i32).collect(),
            ))
        }
        DataType::Boolean if cells.iter().any(is_missing) => {
            return Err(format!("Bool column has NA values in column {index}"));
        }
        DataType::Boolean => {
            let ints = ints(&natural).filter(|ints| ints.iter().all(|int| matches!(int, 0 | 1)));
            let values: Vec<bool> = ints
                .ok_or_else(unsafe_cast)?
                .into_iter()
                .map(|int| int == 1)
                .collect();
            Array::Tensor(bools(shape, &values))
        }
        DataType::String | DataType::Binary => text_column(cells),
        DataType::Datetime if cells.is_empty() => Array::Opaque(Opaque::Datetime, shape),
        DataType::Datetime => {
            let message = "the dtype datetime64[ns] is not supported for parsing, pass this column using parse_dates";
            return Err(format!("{message} (column `{name}`)"));
        }
    })
}

/// The column as floats; `None` when it holds text.
#[expect(clippy::cast_precision_loss, reason = "pandas rounds too")]
fn floats(natural: &Natural) -> Option<Vec<f64>> {
    Some(match natural {
        Natural::Int(ints) => ints.iter().map(|&int| int as f64).collect(),
        Natural::Unsigned(ints) => ints.iter().map(|&int| int as f64).collect(),
        Natural::Float(floats) => floats.clone(),
        Natural::Bool(values) => values
            .iter()
            .map(|value| value.map_or(f64::NAN, |value| f64::from(u8::from(value))))
            .collect(),
        Natural::Text => return None,
    })
}

/// The column as whole numbers; `None` when a value would change.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "the round trip is checked"
)]
fn ints(natural: &Natural) -> Option<Vec<i64>> {
    match natural {
        Natural::Int(ints) => Some(ints.clone()),
        Natural::Unsigned(ints) => Some(ints.iter().map(|int| int.cast_signed()).collect()),
        Natural::Float(floats) => {
            let exact = |&float: &f64| Some(float as i64).filter(|&int| int as f64 == float);
            floats.iter().map(exact).collect()
        }
        Natural::Bool(values) => values.iter().map(|value| value.map(i64::from)).collect(),
        Natural::Text => None,
    }
}

/// A number as pandas' tokenizer takes it: no underscores, no hexadecimal.
fn float(cell: &str) -> Option<f64> {
    let trimmed = cell.trim();
    (!trimmed.contains('_'))
        .then(|| python::float_of_text(trimmed).ok())
        .flatten()
        .filter(|value| {
            // `nan` in other spellings is no number to pandas.
            !value.is_nan()
        })
}

fn boolean(cell: &str) -> Option<bool> {
    match cell {
        "True" | "TRUE" | "true" => Some(true),
        "False" | "FALSE" | "false" => Some(false),
        _ => None,
    }
}

/// Text; a missing cell is NaN, which reaches a graph as the text `nan`.
fn text_column(cells: &Cells) -> Array {
    let shape = vec![cells.len()];
    if cells.is_empty() {
        return objects(shape, vec![]);
    }
    let text = |cell: &str| {
        if is_missing(cell) {
            "nan".to_owned()
        } else {
            cell.to_owned()
        }
    };
    Array::Tensor(texts(shape, cells.iter().map(text).collect()))
}

/// The type that pandas gives a column without a declared one.
fn inferred(cells: &Cells) -> Array {
    let shape = vec![cells.len()];
    if cells.is_empty() {
        return objects(shape, vec![]);
    }
    match Natural::of(cells) {
        Natural::Int(ints) => Array::Tensor(filled(shape, ints)),
        Natural::Unsigned(ints) => Array::Tensor(filled(shape, ints)),
        Natural::Float(floats) => Array::Tensor(filled(shape, floats)),
        Natural::Bool(values) => match values.iter().copied().collect::<Option<Vec<bool>>>() {
            Some(values) => Array::Tensor(bools(shape, &values)),
            None => text_column(cells),
        },
        Natural::Text => text_column(cells),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ColSpec;

    fn schema(columns: &[(&str, DataType)]) -> Schema {
        let spec = |(name, kind): &(&str, DataType)| ColSpec {
            name: Some((*name).to_owned()),
            required: true,
            kind: ColType::Scalar(*kind),
        };
        Schema::Columns(columns.iter().map(spec).collect())
    }

    fn dtypes(frame: &Frame) -> Vec<&'static str> {
        frame
            .columns
            .iter()
            .map(|column| column.data.dtype_name())
            .collect()
    }

    #[test]
    fn columns_without_a_type_are_inferred() {
        let frame = read("a,b,c,d,e\n1,2.5,true,x,\n2,,false,NA,\n", None).unwrap();
        assert_eq!(
            dtypes(&frame),
            ["int64", "float64", "bool", "str", "float64"]
        );
        assert_eq!(frame.rows, 2);
    }

    #[test]
    fn longer_rows_have_an_index_in_front() {
        let frame = read("a,b\n0,1,2\n1,3,4\n", None).unwrap();
        let Array::Tensor(a) = &frame.columns[0].data else {
            panic!()
        };
        assert_eq!(a.as_slice::<i64>().unwrap(), [1, 3]);
        let error = read("a,b\n1,2\n1,2,3\n", None).unwrap_err();
        assert_eq!(
            error,
            "Error tokenizing data. C error: Expected 2 fields in line 3, saw 3"
        );
    }

    #[test]
    fn cells_must_have_the_types_of_the_signature() {
        let types = schema(&[
            ("n", DataType::Integer),
            ("b", DataType::Boolean),
            ("s", DataType::String),
        ]);
        let frame = read(
            "\u{feff}s,b,n\r\n\"a,\"\"b\",TRUE,3000000000\r\n\r\n",
            Some(&types),
        )
        .unwrap();
        assert_eq!(dtypes(&frame), ["str", "bool", "int32"]);
        let Array::Tensor(text) = &frame.columns[0].data else {
            panic!()
        };
        assert_eq!(text.as_strings().unwrap(), ["a,\"b"]);
        for (body, reason) in [
            (
                "n\n34.5\n",
                "cannot safely convert passed user dtype of int32 for float64 dtyped data in column 0",
            ),
            ("n\nNA\n", "Integer column has NA values in column 0"),
            ("b\nyes\n", "cannot safely convert"),
            ("", "No columns to parse from file"),
            ("s\n\"open\n", "EOF inside string"),
        ] {
            let error = read(body, Some(&types)).unwrap_err();
            assert!(error.contains(reason), "{body:?}: {error}");
        }
    }

    #[test]
    fn a_cast_that_loses_nothing_is_made() {
        let column = |kind, cells: &str| {
            let frame = read(&format!("x\n{cells}\n"), Some(&schema(&[("x", kind)]))).unwrap();
            frame.columns[0].data.clone()
        };
        let Array::Tensor(ints) = column(DataType::Long, "1.0\n1e3") else {
            panic!()
        };
        assert_eq!(ints.as_slice::<i64>().unwrap(), [1, 1000]);
        let Array::Tensor(floats) = column(DataType::Double, "true\nNA") else {
            panic!()
        };
        assert!(floats.as_slice::<f64>().unwrap()[1].is_nan());
        let Array::Tensor(bools) = column(DataType::Boolean, "1\n0") else {
            panic!()
        };
        assert_eq!(bools.bytes(), [1, 0]);
        assert_eq!(
            column(DataType::Long, "9223372036854775808").dtype_name(),
            "uint64"
        );
    }

    #[test]
    fn a_quoted_empty_cell_is_a_row_and_a_blank_line_is_none() {
        let frame = read(
            "x\n1\n\n  \n\"\"\n2\n",
            Some(&schema(&[("x", DataType::Double)])),
        )
        .unwrap();
        assert_eq!(frame.rows, 3);
    }

    #[test]
    fn a_header_alone_is_a_table_of_no_rows() {
        let frame = read("n,x\n", Some(&schema(&[("n", DataType::Double)]))).unwrap();
        assert_eq!((frame.rows, dtypes(&frame)), (0, vec!["float64", "object"]));
    }
}
