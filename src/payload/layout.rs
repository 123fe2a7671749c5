//! Which columns a version has in the log, and what each is made of.

use std::collections::BTreeSet;

use super::options::ColumnOptions;
use super::record::{Kept, Seen};
use crate::model::{Dim, ModelSignature, OutputKind, Package, Schema, Signature};
use crate::tensor::DType;

/// Values of one row up to which a tensor is a list, and not a shape and a hash.
pub(super) const WIDEST: usize = 256;

/// The columns that each row has.
pub(super) const FIXED: [&str; 12] = [
    "_request_id",
    "_row",
    "_time",
    "_model",
    "_version",
    "_alias",
    "_role",
    "_status",
    "_error_code",
    "_duration_ms",
    "_sampling_fraction",
    "_caller",
];

/// Names of directories: a column of the same name would be in their way.
const PARTITIONS: [&str; 4] = ["model", "version", "date", "hour"];

/// The columns of one version beside those that each row has.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Plan {
    /// The digest of the package.
    package: String,
    pub(super) columns: Vec<Column>,
    /// For each input whether its first dimension is the rows.
    pub(super) carries: Vec<bool>,
}

/// One column.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) source: Source,
    pub(super) dtype: DType,
    pub(super) kind: Kind,
    /// Whether only a keyed hash is kept.
    pub(super) is_hashed: bool,
    /// Whether an answer has shown what it is; before, it is what the graph declares.
    is_settled: bool,
}

/// Where the values of a column come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// An input.
    Input(usize),
    /// One column of an input that is a matrix of named columns.
    Part {
        input: usize,
        column: usize,
        of: usize,
    },
    /// An output.
    Output(usize),
}

/// What a cell holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// One value.
    Scalar,
    /// So many values.
    List(usize),
    /// Shape, hash, and values where they are few or asked for.
    Tensor,
    /// A value for each label.
    Map(Vec<String>),
}

impl Plan {
    /// The columns of a version with this signature, as far as the graph declares them.
    pub(crate) fn new(package: &Package, options: &ColumnOptions) -> Self {
        let declared = package.manifest.signature.as_ref();
        let plan = Self::of_signature(&package.signature(), declared, options);
        Self {
            package: package.digest.clone(),
            ..plan
        }
    }

    /// The same of no package in particular.
    pub(super) fn of_signature(
        signature: &Signature,
        declared: Option<&ModelSignature>,
        options: &ColumnOptions,
    ) -> Self {
        let mut columns = columns(signature, declared);
        let mut names = BTreeSet::new();
        columns.retain(|column| !options.exclude.contains(&column.name));
        for column in &mut columns {
            column.is_hashed = options.hash.contains(&column.name);
            let name = column.name.clone();
            let mut number = 2;
            while !names.insert(column.name.to_lowercase()) {
                column.name = format!("{name}_{number}");
                number += 1;
            }
        }
        Self {
            package: String::new(),
            columns,
            carries: carriers(signature),
        }
    }

    /// Whether both are of one package.
    pub(super) fn is_of(&self, other: &Self) -> bool {
        self.package == other.package
    }

    /// The columns that are keyed hashes, as a list in JSON.
    pub(super) fn hashed(&self) -> String {
        let hashed = self.columns.iter().filter(|column| column.is_hashed);
        serde_json::Value::from(
            hashed
                .map(|column| column.name.as_str())
                .collect::<Vec<_>>(),
        )
        .to_string()
    }

    /// Takes over what an answer shows; whether that is another form than before. Each column changes twice at most.
    pub(super) fn fit(&mut self, seen: &Seen) -> bool {
        let mut has_changed = false;
        for column in &mut self.columns {
            let (kept, carries) = match column.source {
                Source::Input(index) => (&seen.inputs[index], self.carries[index]),
                Source::Part { .. } => continue,
                Source::Output(index) => match seen.outputs.get(index) {
                    Some(kept) => (kept, true),
                    None => continue,
                },
            };
            let kind = kept.kind(seen.rows, carries);
            if kept.dtype().is_some_and(|dtype| dtype != column.dtype) {
                column.dtype = kept.dtype().unwrap_or(column.dtype);
                has_changed = true;
            }
            if column.kind == kind || column.kind == Kind::Tensor && column.is_settled {
                column.is_settled = true;
                continue;
            }
            // What changes from request to request is a tensor once and for all.
            column.kind = if column.is_settled {
                Kind::Tensor
            } else {
                kind
            };
            column.is_settled = true;
            has_changed = true;
        }
        has_changed
    }
}

/// The columns of all inputs and outputs.
fn columns(signature: &Signature, declared: Option<&ModelSignature>) -> Vec<Column> {
    let carries = carriers(signature);
    let mut columns = Vec::new();
    let split = split(signature, declared);
    for (index, input) in signature.inputs.iter().enumerate() {
        let column = |name: &str, source, kind| Column {
            name: input_name(name),
            source,
            dtype: input.dtype,
            kind,
            is_hashed: false,
            is_settled: true,
        };
        match &split {
            Some((sole, parts)) if *sole == index => {
                columns.extend(parts.iter().enumerate().map(|(number, name)| {
                    let (input, of) = (index, parts.len());
                    let source = Source::Part {
                        input,
                        column: number,
                        of,
                    };
                    column(name, source, Kind::Scalar)
                }));
            }
            _ => {
                let kind = declared_kind(input.shape.as_deref(), carries[index]);
                columns.push(column(&input.name, Source::Input(index), kind));
            }
        }
    }
    columns.extend(outputs(signature));
    columns
}

impl Kept {
    fn dtype(&self) -> Option<DType> {
        match self {
            Self::Values(tensor) => Some(tensor.dtype()),
            Self::Maps(_, scores) => Some(scores.dtype()),
            Self::Digest { .. } => None,
        }
    }

    fn kind(&self, rows: usize, carries: bool) -> Kind {
        match self {
            Self::Values(tensor) => {
                let has_rows = carries && tensor.rows() == Some(rows);
                inner_kind(if has_rows {
                    &tensor.shape()[1..]
                } else {
                    tensor.shape()
                })
            }
            Self::Maps(labels, _) if labels.len() <= WIDEST => Kind::Map(labels.to_texts()),
            Self::Maps(..) | Self::Digest { .. } => Kind::Tensor,
        }
    }
}

fn inner_kind(inner: &[usize]) -> Kind {
    match inner {
        [] | [1] => Kind::Scalar,
        [width] if (1..=WIDEST).contains(width) => Kind::List(*width),
        _ => Kind::Tensor,
    }
}

/// Which inputs have an axis of rows: as the graph says; where it leaves no dimension open, those whose first one is that of the
/// first input.
fn carriers(signature: &Signature) -> Vec<bool> {
    if signature.has_batch_axis() {
        return signature.row_inputs().collect();
    }
    let first = |shape: &Option<Vec<Dim>>| shape.as_ref().and_then(|shape| shape.first().cloned());
    let rows = signature
        .inputs
        .first()
        .and_then(|input| first(&input.shape));
    let inputs = signature.inputs.iter();
    inputs
        .map(|input| rows.is_some() && first(&input.shape) == rows)
        .collect()
}

/// The input that is a matrix of named columns, and their names.
fn split(signature: &Signature, declared: Option<&ModelSignature>) -> Option<(usize, Vec<String>)> {
    let Some(Schema::Columns(specs)) = declared?.inputs.as_ref() else {
        return None;
    };
    let names: Vec<String> = specs
        .iter()
        .map(|spec| spec.name.clone())
        .collect::<Option<_>>()?;
    let sole = signature.sole_input()?;
    let index = signature
        .inputs
        .iter()
        .position(|input| input.name == sole.name)?;
    let is_matrix = match sole.shape.as_deref() {
        Some([_, Dim::Fixed(width)]) => *width == names.len(),
        Some([_, Dim::Any(_)]) => true,
        _ => false,
    };
    is_matrix.then_some((index, names))
}

fn declared_kind(shape: Option<&[Dim]>, carries: bool) -> Kind {
    let Some(shape) = shape else {
        return Kind::Tensor;
    };
    let inner = if carries {
        shape.get(1..).unwrap_or_default()
    } else {
        shape
    };
    let fixed = inner.iter().map(|dim| match dim {
        Dim::Fixed(size) => Some(*size),
        Dim::Any(_) => None,
    });
    match fixed.collect::<Option<Vec<usize>>>() {
        Some(inner) => inner_kind(&inner),
        None => Kind::Tensor,
    }
}

fn outputs(signature: &Signature) -> impl Iterator<Item = Column> + '_ {
    let is_only = signature.outputs.len() == 1;
    signature
        .outputs
        .iter()
        .enumerate()
        .map(move |(index, output)| {
            let shape = match &output.kind {
                OutputKind::Tensor { shape, .. } => shape.as_deref(),
                OutputKind::Maps { .. } | OutputKind::Sequence { .. } => None,
            };
            let name = if is_only {
                "prediction".to_owned()
            } else {
                format!("prediction_{}", output.name)
            };
            Column {
                name,
                source: Source::Output(index),
                dtype: output.kind.dtype(),
                kind: declared_kind(shape, true),
                is_hashed: false,
                is_settled: false,
            }
        })
}

/// The name of an input's column: its own, unless something else has that.
fn input_name(name: &str) -> String {
    let is_taken = name.starts_with('_')
        || name == "prediction"
        || name.starts_with("prediction_")
        || PARTITIONS.contains(&name);
    if is_taken {
        format!("input_{name}")
    } else {
        name.to_owned()
    }
}
