//! The types of columns, and their values.

use super::{Result, malformed};
use crate::model::DataType;
use crate::protocol::meter::Meter;
use crate::protocol::pandas::array::{
    Array, Opaque, filled, metered_bools, metered_texts, objects, to_f32,
};
use crate::tensor::{Absent, Element};

/// The cells that pandas takes for missing.
const MISSING: [&str; 19] = [
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
    "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
];

fn is_missing(cell: &str) -> bool {
    cell.len() <= 8 && MISSING.contains(&cell)
}

/// What the cells of a column have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Natural {
    is_int: bool,
    is_unsigned: bool,
    is_float: bool,
    is_bool: bool,
    /// Whether a cell is missing.
    missing_operators: bool,
    /// Whether each number is a whole one that fits 64 bits with a sign.
    is_exact: bool,
    /// Whether each is 0 or 1, or a boolean.
    is_binary: bool,
}

impl Default for Natural {
    fn default() -> Self {
        Self {
            is_int: true,
            is_unsigned: true,
            is_float: true,
            is_bool: true,
            missing_operators: false,
            is_exact: true,
            is_binary: true,
        }
    }
}

/// The narrowest type that pandas finds for all cells of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Int,
    /// Whole numbers of which one is beyond `i64`.
    Unsigned,
    /// Numbers; a missing cell is NaN.
    Float,
    /// Some may be missing.
    Bool,
    Text,
}

impl Natural {
    pub(crate) fn see(&mut self, cell: &str) {
        if is_missing(cell) {
            self.missing_operators = true;
            (self.is_int, self.is_unsigned) = (false, false);
            return;
        }
        let trimmed = cell.trim();
        if let Ok(int) = trimmed.parse::<i64>() {
            self.is_unsigned &= !trimmed.starts_with('-');
            self.is_bool = false;
            self.is_binary &= matches!(int, 0 | 1);
            return;
        }
        self.is_int = false;
        self.is_unsigned &= self.is_unsigned && trimmed.parse::<u64>().is_ok();
        let boolean = boolean(cell);
        self.is_bool &= boolean.is_some();
        if self.is_float {
            let float = float(trimmed);
            self.is_float = float.is_some();
            self.is_exact &= float.is_some_and(|float| exact(float).is_some());
            self.is_binary &=
                boolean.is_some() || float.is_some_and(|float| float == 0.0 || float == 1.0);
        }
    }

    fn form(self) -> Form {
        match self {
            Self { is_int: true, .. } => Form::Int,
            Self {
                is_unsigned: true, ..
            } => Form::Unsigned,
            Self { is_float: true, .. } => Form::Float,
            Self { is_bool: true, .. } => Form::Bool,
            _ => Form::Text,
        }
    }
}

impl Form {
    fn name(self) -> &'static str {
        match self {
            Self::Int => "int64",
            Self::Unsigned => "uint64",
            Self::Float => "float64",
            Self::Bool => "bool",
            Self::Text => "object",
        }
    }

    /// A cell as a float.
    #[expect(clippy::cast_precision_loss, reason = "pandas rounds too")]
    fn float(self, cell: &str) -> f64 {
        match self {
            Self::Int => cell
                .trim()
                .parse::<i64>()
                .map_or(Absent::F64, |int| int as f64),
            Self::Unsigned => cell
                .trim()
                .parse::<u64>()
                .map_or(Absent::F64, |int| int as f64),
            Self::Float if is_missing(cell) => Absent::F64,
            Self::Float => float(cell.trim()).unwrap_or(f64::NAN),
            Self::Bool => boolean(cell).map_or(Absent::F64, |value| f64::from(u8::from(value))),
            Self::Text => Absent::F64,
        }
    }

    /// A cell as a whole number, which it is.
    fn int(self, cell: &str) -> i64 {
        match self {
            Self::Int => cell.trim().parse().unwrap_or_default(),
            Self::Unsigned => unsigned(cell).cast_signed(),
            Self::Float => float(cell.trim()).and_then(exact).unwrap_or_default(),
            Self::Bool => i64::from(boolean(cell).unwrap_or_default()),
            Self::Text => 0,
        }
    }
}

fn unsigned(cell: &str) -> u64 {
    cell.trim().parse().unwrap_or_default()
}

/// A column while it is filled.
pub(crate) struct Builder {
    form: Form,
    values: Values,
}

enum Values {
    F64(Vec<f64>),
    F32(Vec<f32>),
    I64(Vec<i64>),
    I32(Vec<i32>),
    U64(Vec<u64>),
    Bool(Vec<bool>),
    Text(Vec<String>),
    /// Dates that there are none of.
    Datetime,
    /// Of a table without rows.
    Nothing,
}

/// Which column of a table it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'t> {
    pub(crate) index: usize,
    pub(crate) name: &'t str,
}

impl Builder {
    /// A column of the signature's type: its natural type, when no value is lost by the cast.
    pub(crate) fn new(
        natural: Natural,
        wanted: Option<DataType>,
        place: Place<'_>,
        rows: usize,
        meter: &Meter,
    ) -> Result<Self> {
        let Place { index, name } = place;
        let form = natural.form();
        let (is_number, is_int) = (form != Form::Text, is_int(natural, form));
        let unsafe_cast = |wanted: DataType| {
            let (wanted, natural) = (wanted.numpy_name(), form.name());
            malformed(format!(
                "cannot safely convert passed user dtype of {wanted} for {natural} dtyped data in column {index}"
            ))
        };
        let values = match wanted {
            None if rows == 0 => Values::Nothing,
            None => Values::inferred(natural, rows, meter)?,
            Some(wanted @ (DataType::Double | DataType::Float)) if !is_number => {
                return unsafe_cast(wanted);
            }
            Some(DataType::Double) => Values::F64(meter.vec(rows)?),
            Some(DataType::Float) => Values::F32(meter.vec(rows)?),
            Some(DataType::Long | DataType::Integer) if natural.missing_operators => {
                return malformed(format!("Integer column has NA values in column {index}"));
            }
            // It stays unsigned, which enforcement then refuses.
            Some(DataType::Long) if form == Form::Unsigned => Values::U64(meter.vec(rows)?),
            Some(DataType::Long) if is_int => Values::I64(meter.vec(rows)?),
            Some(DataType::Integer) if is_int => Values::I32(meter.vec(rows)?),
            Some(DataType::Boolean) if natural.missing_operators => {
                return malformed(format!("Bool column has NA values in column {index}"));
            }
            Some(DataType::Boolean) if is_int && natural.is_binary && form != Form::Unsigned => {
                Values::Bool(meter.vec(rows)?)
            }
            Some(wanted @ (DataType::Long | DataType::Integer | DataType::Boolean)) => {
                return unsafe_cast(wanted);
            }
            Some(DataType::String | DataType::Binary) if rows == 0 => Values::Nothing,
            Some(DataType::String | DataType::Binary) => Values::Text(meter.vec(rows)?),
            Some(DataType::Datetime) if rows == 0 => Values::Datetime,
            Some(DataType::Datetime) => {
                let message = "the dtype datetime64[ns] is not supported for parsing, pass this column using parse_dates";
                return malformed(format!("{message} (column `{name}`)"));
            }
        };
        Ok(Self { form, values })
    }

    #[expect(clippy::cast_possible_truncation, reason = "pandas wraps around too")]
    pub(crate) fn push(&mut self, cell: &str, meter: &Meter) -> Result<()> {
        let form = self.form;
        match &mut self.values {
            Values::F64(values) => values.push(form.float(cell)),
            Values::F32(values) => values.push(to_f32(form.float(cell))),
            Values::I64(values) => values.push(form.int(cell)),
            Values::I32(values) => values.push(form.int(cell) as i32),
            Values::U64(values) => values.push(unsigned(cell)),
            Values::Bool(values) => values.push(form.int(cell) == 1),
            // A missing cell is NaN, which reaches a graph as the text `nan`.
            Values::Text(values) if is_missing(cell) => values.push(meter.text("nan")?),
            Values::Text(values) => values.push(meter.text(cell)?),
            Values::Datetime | Values::Nothing => {}
        }
        Ok(())
    }

    pub(crate) fn finish(self, rows: usize, meter: &Meter) -> Result<Array> {
        fn tensor<T: Element>(values: Vec<T>) -> Array {
            Array::Tensor(filled(vec![values.len()], values))
        }
        Ok(match self.values {
            Values::F64(values) => tensor(values),
            Values::F32(values) => tensor(values),
            Values::I64(values) => tensor(values),
            Values::I32(values) => tensor(values),
            Values::U64(values) => tensor(values),
            Values::Bool(values) => Array::Tensor(metered_bools(vec![rows], values, meter)?),
            Values::Text(values) => Array::Tensor(metered_texts(vec![rows], values, meter)?),
            Values::Datetime => Array::Opaque(Opaque::Datetime, vec![rows]),
            Values::Nothing => objects(vec![rows], vec![]),
        })
    }
}

impl Values {
    /// The type that pandas gives a column without a declared one.
    fn inferred(natural: Natural, rows: usize, meter: &Meter) -> Result<Self> {
        Ok(match natural.form() {
            Form::Int => Self::I64(meter.vec(rows)?),
            Form::Unsigned => Self::U64(meter.vec(rows)?),
            Form::Float => Self::F64(meter.vec(rows)?),
            Form::Bool if !natural.missing_operators => Self::Bool(meter.vec(rows)?),
            Form::Bool | Form::Text => Self::Text(meter.vec(rows)?),
        })
    }
}

/// Whether no value changes when all are whole numbers.
fn is_int(natural: Natural, form: Form) -> bool {
    match form {
        Form::Int | Form::Unsigned => true,
        Form::Float => natural.is_exact && !natural.missing_operators,
        Form::Bool => !natural.missing_operators,
        Form::Text => false,
    }
}

/// The whole number that a float is.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "the round trip is checked"
)]
fn exact(float: f64) -> Option<i64> {
    Some(float as i64).filter(|&int| int as f64 == float)
}

/// A number as pandas' tokenizer takes it: no underscores, no hexadecimal, and `nan` in no other spelling.
fn float(trimmed: &str) -> Option<f64> {
    // Rust reads what Python reads: nan, inf and infinity in any case, and no underscores.
    trimmed.parse().ok().filter(|float: &f64| !float.is_nan())
}

fn boolean(cell: &str) -> Option<bool> {
    match cell {
        "True" | "TRUE" | "true" => Some(true),
        "False" | "FALSE" | "false" => Some(false),
        _ => None,
    }
}
