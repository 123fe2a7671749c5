//! CSV bodies, read as `pandas.read_csv` reads them.
//!
//! A body is read twice: once for the types of its columns, once for their values. So nothing is held beside the body
//! but the columns themselves.

mod column;
mod fields;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use self::column::{Builder, Natural, Place};
use self::fields::Fields;
use super::frame::{Column, Frame};
use crate::budget::OverBudget;
use crate::model::{ColType, DataType, Schema};
use crate::protocol::json::Json;
use crate::protocol::meter::{Meter, block};

/// How many times the work of a list of numbers in JSON a table takes of as many bytes, at most.
pub(crate) const EFFORT: usize = 8;

/// Empty cells that are made for short rows, for each byte of the body and beside them.
const PADDING: usize = 16;
const FREE_PADDING: usize = 1_000;

/// What a column takes beside its name and its values.
const COLUMN: usize = 256;

/// Why a body is no table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CsvError {
    /// pandas' reason.
    #[error("{0}")]
    Malformed(String),
    /// It takes more memory than there is for the request.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
}

type Result<T> = std::result::Result<T, CsvError>;

fn malformed<T>(reason: impl Into<String>) -> Result<T> {
    Err(CsvError::Malformed(reason.into()))
}

/// Reads a table with a header row; columns that the schema names have its types, others are inferred.
///
/// # Errors
/// [`CsvError`].
pub(crate) fn read(body: &str, schema: Option<&Schema>, meter: &Meter) -> Result<Frame> {
    let types = types_of(schema)?;
    let body = body.strip_prefix('\u{feff}').unwrap_or(body);
    let table = Table::scan(body, meter)?;
    let named: HashMap<&str, DataType> = types
        .iter()
        .filter_map(|(name, kind)| Some(((*name)?, *kind)))
        .rev()
        .collect();
    let mut builders = meter.vec(table.names.len())?;
    for (index, (name, natural)) in table.names.iter().zip(&table.naturals).enumerate() {
        let unnamed = types.get(index).filter(|(name, _)| name.is_none());
        let wanted = named.get(name.as_str()).copied();
        let wanted = wanted.or(unnamed.map(|(_, kind)| *kind));
        let place = Place { index, name };
        let builder = Builder::new(*natural, wanted, place, table.rows, meter)?;
        builders.push(builder);
    }
    table.fill(body, &mut builders, meter)?;
    let mut columns = meter.vec(builders.len())?;
    for (name, builder) in table.names.into_iter().zip(builders) {
        columns.push(Column {
            name: Json::Text(name),
            data: builder.finish(table.rows, meter)?,
        });
    }
    Ok(Frame {
        columns,
        rows: table.rows,
    })
}

/// The names and types that a schema gives to columns.
fn types_of(schema: Option<&Schema>) -> Result<Vec<(Option<&str>, DataType)>> {
    let specs = match schema {
        None => &[][..],
        Some(Schema::Columns(specs)) => specs.as_slice(),
        Some(Schema::Tensors(_)) => return malformed("TensorSpec only supports numpy types"),
    };
    let kind = |spec: &crate::model::ColSpec| match spec.kind {
        ColType::Scalar(kind) => Some(kind),
        ColType::Array(_) | ColType::Object(_) | ColType::Map(_) | ColType::Any => None,
    };
    let types = specs
        .iter()
        .map(|spec| Some((spec.name.as_deref(), kind(spec)?)));
    types.collect::<Option<_>>().ok_or_else(|| {
        let message = "Failed to get pandas types as some of the inputs types are not DataType.";
        CsvError::Malformed(message.to_owned())
    })
}

/// What the first pass over the body finds.
struct Table {
    names: Vec<String>,
    naturals: Vec<Natural>,
    rows: usize,
    /// Fields of a row in front of the first column.
    index_columns: usize,
    /// Bytes of the longest cell that is put together of parts.
    longest: usize,
}

impl Table {
    /// Finds the header, the types of the columns and the number of rows. Rows longer than the header have an index in
    /// front, which is dropped.
    fn scan(body: &str, meter: &Meter) -> Result<Self> {
        let mut fields = Fields::new(body);
        let mut table = Self::header(&mut fields, meter)?;
        let header = table.names.len();
        let mut width = header;
        let mut padding_left = FREE_PADDING + PADDING.saturating_mul(body.len());
        // Columns from here on are missing somewhere.
        let mut shortest = usize::MAX;
        let mut is_first = true;
        while let Some(row) = fields.next_row() {
            if is_first {
                width = width.max(fields.count_row(row));
                table.index_columns = width - header;
                is_first = false;
            }
            let mut count: usize = 0;
            let mut next = Some(row);
            while let Some(start) = next {
                let (cell, after) = fields.field(start);
                if let Some(place) = count.checked_sub(table.index_columns)
                    && let Some(natural) = table.naturals.get_mut(place)
                {
                    natural.see(&cell);
                }
                if let Cow::Owned(cell) = cell {
                    table.longest = table.longest.max(cell.capacity());
                }
                count += 1;
                next = after;
            }
            if count > width {
                let line = table.rows + 2;
                return malformed(format!(
                    "Error tokenizing data. C error: Expected {width} fields in line {line}, saw {count}"
                ));
            }
            padding_left = padding_left.checked_sub(width - count).ok_or_else(|| {
                CsvError::Malformed("most cells of the table are missing".to_owned())
            })?;
            shortest = shortest.min(count);
            table.rows += 1;
        }
        if fields.ends_inside_quotes() {
            return malformed(format!(
                "Error tokenizing data. C error: EOF inside string starting at row {}",
                table.rows
            ));
        }
        let from = shortest.saturating_sub(table.index_columns);
        for natural in table.naturals.iter_mut().skip(from) {
            natural.see("");
        }
        Ok(table)
    }

    /// The second column of a name gets `.1`, the third `.2`; a column without a name is called after its place.
    fn header(fields: &mut Fields<'_>, meter: &Meter) -> Result<Self> {
        let Some(row) = fields.next_row() else {
            return malformed("No columns to parse from file");
        };
        let mut names: Vec<String> = Vec::new();
        let mut naturals = Vec::new();
        let held = meter.held();
        let mut taken: HashSet<String> = HashSet::new();
        let mut counts: HashMap<String, usize> = HashMap::new();
        let mut kept = 0;
        let mut next = Some(row);
        while let Some(start) = next {
            let (name, after) = fields.field(start);
            next = after;
            let name = match &*name {
                "" => Cow::Owned(format!("Unnamed: {}", names.len())),
                _ => name,
            };
            // In the set, the map and the header; sets and maps double.
            let text = block(name.len() + 8);
            meter.charge(4 * text + 6 * (size_of::<(String, usize)>() + 1) + COLUMN)?;
            kept += text + COLUMN;
            let mut candidate = name.clone().into_owned();
            let count = counts.entry(name.clone().into_owned()).or_default();
            while taken.contains(&candidate) {
                *count += 1;
                candidate = format!("{name}.{count}");
            }
            taken.insert(candidate.clone());
            names.push(candidate);
            naturals.push(Natural::default());
        }
        drop((taken, counts));
        meter.settle(held, kept);
        Ok(Self {
            names,
            naturals,
            rows: 0,
            index_columns: 0,
            longest: 0,
        })
    }

    /// Gives every cell to its column.
    fn fill(&self, body: &str, builders: &mut [Builder], meter: &Meter) -> Result<()> {
        meter.charge(block(self.longest))?;
        let mut fields = Fields::new(body);
        if let Some(header) = fields.next_row() {
            fields.skip_row(header);
        }
        while let Some(row) = fields.next_row() {
            let mut count: usize = 0;
            let mut next = Some(row);
            while let Some(start) = next {
                let (cell, after) = fields.field(start);
                if let Some(place) = count.checked_sub(self.index_columns)
                    && let Some(builder) = builders.get_mut(place)
                {
                    builder.push(&cell, meter)?;
                }
                count += 1;
                next = after;
            }
            let from = count.saturating_sub(self.index_columns);
            for builder in builders.iter_mut().skip(from) {
                builder.push("", meter)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ColSpec;
    use crate::protocol::pandas::array::Array;

    fn read(body: &str, schema: Option<&Schema>) -> Result<Frame> {
        super::read(body, schema, &Meter::unlimited())
    }

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
        let error = read("a,b\n1,2\n1,2,3\n", None).unwrap_err().to_string();
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
            let error = read(body, Some(&types)).unwrap_err().to_string();
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
