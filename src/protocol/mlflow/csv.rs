//! CSV bodies, read as `pandas.read_csv` reads them.

use super::array::{Array, bools, filled, objects, texts, to_f32};
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
    columns: Vec<Vec<String>>,
    rows: usize,
}

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
    let mut columns: Vec<Vec<String>> = vec![Vec::new(); width];
    let mut rows = 0;
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
        let index_columns = width - header.len();
        for (place, column) in columns.iter_mut().enumerate() {
            column.push(
                record
                    .get(index_columns + place)
                    .unwrap_or_default()
                    .to_owned(),
            );
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

fn is_blank(record: &csv::StringRecord) -> bool {
    record.len() == 1 && record.get(0).is_none_or(|cell| cell.trim().is_empty())
}

/// The second column of a name gets `.1`, the third `.2`; a column without a name is called after its place.
fn unique_names<'r>(names: impl Iterator<Item = &'r str>) -> Vec<String> {
    let mut unique: Vec<String> = Vec::new();
    for (index, name) in names.enumerate() {
        let name = if name.is_empty() {
            format!("Unnamed: {index}")
        } else {
            name.to_owned()
        };
        let mut candidate = name.clone();
        let mut count = 0;
        while unique.contains(&candidate) {
            count += 1;
            candidate = format!("{name}.{count}");
        }
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

fn typed(cells: &[String], wanted: DataType, name: &str, index: usize) -> Result<Array, String> {
    let shape = vec![cells.len()];
    Ok(match wanted {
        DataType::Double => Array::Tensor(filled(shape, floats(cells)?)),
        DataType::Float => Array::Tensor(filled(
            shape,
            floats(cells)?.into_iter().map(to_f32).collect(),
        )),
        DataType::Long => Array::Tensor(filled(shape, ints(cells, index)?)),
        DataType::Integer => {
            let ints = ints(cells, index)?;
            #[expect(clippy::cast_possible_truncation, reason = "pandas wraps around too")]
            Array::Tensor(filled(
                shape,
                ints.into_iter().map(|int| int as i32).collect(),
            ))
        }
        DataType::Boolean => {
            if cells.iter().any(|cell| is_missing(cell)) {
                return Err(format!("Bool column has NA values in column {index}"));
            }
            let values: Option<Vec<bool>> = cells.iter().map(|cell| boolean(cell)).collect();
            let message = || {
                format!(
                    "cannot safely convert passed user dtype of bool for object dtyped data in column {index}"
                )
            };
            Array::Tensor(bools(shape, &values.ok_or_else(message)?))
        }
        DataType::String | DataType::Binary => text_column(cells),
        DataType::Datetime => {
            let message = "the dtype datetime64[ns] is not supported for parsing, pass this column using parse_dates";
            return Err(format!("{message} (column `{name}`)"));
        }
    })
}

fn floats(cells: &[String]) -> Result<Vec<f64>, String> {
    let parse = |cell: &String| {
        let missing = is_missing(cell).then_some(f64::NAN);
        missing
            .or_else(|| float(cell))
            .ok_or_else(|| format!("could not convert string to float: '{cell}'"))
    };
    cells.iter().map(parse).collect()
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

fn ints(cells: &[String], index: usize) -> Result<Vec<i64>, String> {
    if cells.iter().any(|cell| is_missing(cell)) {
        return Err(format!("Integer column has NA values in column {index}"));
    }
    let parse = |cell: &String| {
        let trimmed = cell.trim();
        let unsigned = || trimmed.parse::<u64>().map(u64::cast_signed);
        trimmed
            .parse::<i64>()
            .or_else(|_| unsigned())
            .map_err(|_| format!("invalid literal for int() with base 10: '{cell}'"))
    };
    cells.iter().map(parse).collect()
}

fn boolean(cell: &str) -> Option<bool> {
    match cell {
        "True" | "TRUE" | "true" => Some(true),
        "False" | "FALSE" | "false" => Some(false),
        _ => None,
    }
}

/// Text; a missing cell is NaN, which reaches a graph as the text `nan`.
fn text_column(cells: &[String]) -> Array {
    let shape = vec![cells.len()];
    if cells.is_empty() {
        return objects(shape, vec![]);
    }
    let text = |cell: &String| {
        if is_missing(cell) {
            "nan".to_owned()
        } else {
            cell.clone()
        }
    };
    Array::Tensor(texts(shape, cells.iter().map(text).collect()))
}

/// pandas tries integers, then floats, then booleans; what is none of them is text.
fn inferred(cells: &[String]) -> Array {
    let shape = vec![cells.len()];
    if cells.is_empty() {
        return objects(shape, vec![]);
    }
    let trimmed = |cell: &String| cell.trim().parse::<i64>().ok();
    if let Some(ints) = cells.iter().map(trimmed).collect::<Option<Vec<i64>>>() {
        return Array::Tensor(filled(shape, ints));
    }
    if let Ok(floats) = floats(cells) {
        return Array::Tensor(filled(shape, floats));
    }
    if let Some(values) = cells
        .iter()
        .map(|cell| boolean(cell))
        .collect::<Option<Vec<bool>>>()
    {
        return Array::Tensor(bools(shape, &values));
    }
    text_column(cells)
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
            ("n\n34.5\n", "invalid literal"),
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
    fn a_header_alone_is_a_table_of_no_rows() {
        let frame = read("n,x\n", Some(&schema(&[("n", DataType::Double)]))).unwrap();
        assert_eq!((frame.rows, dtypes(&frame)), (0, vec!["float64", "object"]));
    }
}
