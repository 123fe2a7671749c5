//! The features of a version: which columns and outputs are looked at, and where they lie in the tensors of a request.

use std::borrow::Cow;

use crate::model::{ModelSignature, Schema, Signature};
use crate::tensor::{Absent, DType, Element, Tensor, Value};

/// What a text is that the graph gets for a cell without one: as pandas and Python print it.
const MISSING_TEXTS: [&str; 2] = ["None", "nan"];

/// What is looked at of a tensor that is too wide to look at each of its elements.
const SUMMARIES: [(Summary, &str); 4] = [
    (Summary::Norm, "norm"),
    (Summary::Mean, "mean"),
    (Summary::Min, "min"),
    (Summary::Max, "max"),
];

/// One cell of a table, or one number of an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell<'a> {
    /// A number that is no NaN.
    Number(f64),
    /// A NaN that was sent or calculated.
    Nan,
    /// Null, or not there.
    Missing,
    /// A text.
    Text(&'a str),
}

/// Where a feature lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    tensor: Place,
    part: Part,
    /// Whether it is a column of singles, so that what it is compared with is rounded.
    pub is_single: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Input(usize),
    Output(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Column { index: usize, width: usize },
    Summary { of: Summary, width: usize },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Summary {
    Norm,
    Mean,
    Min,
    Max,
}

impl Source {
    /// Whether it is a column, not an output.
    pub fn is_input(&self) -> bool {
        matches!(self.tensor, Place::Input(_))
    }

    /// The elements of a row of its tensor; `None` when it sums them up.
    pub fn width(&self) -> Option<usize> {
        match self.part {
            Part::Column { width, .. } => Some(width),
            Part::Summary { .. } => None,
        }
    }
}

/// One feature and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// The column, or the output.
    pub name: String,
    /// Where it lies.
    pub source: Source,
}

/// The features of one request, and so of all of its version.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Layout {
    /// Columns in the order of the signature, then outputs.
    pub features: Vec<Feature>,
    /// Columns beyond those that may be looked at.
    pub unwatched: usize,
}

/// What the names of features come from.
#[derive(Debug, Clone, Copy)]
pub struct Naming<'a> {
    /// The graph's.
    pub graph: &'a Signature,
    /// The package's own.
    pub declared: Option<&'a ModelSignature>,
    /// The most columns, and the widest tensor.
    pub most: usize,
}

impl Naming<'_> {
    /// The names of the columns of a table that is one tensor.
    fn columns(&self, width: usize) -> Option<Vec<&str>> {
        self.graph.sole_input()?;
        let Some(Schema::Columns(columns)) = self.declared?.inputs.as_ref() else {
            return None;
        };
        let names = columns.iter().map(|column| column.name.as_deref());
        let names: Vec<&str> = names.collect::<Option<_>>()?;
        (names.len() == width).then_some(names)
    }

    /// The features of these inputs and outputs of a request.
    pub fn layout(&self, inputs: &[Tensor], outputs: &[Value], rows: usize) -> Layout {
        let mut layout = Layout::default();
        for (place, tensor) in inputs.iter().enumerate() {
            let Some(spec) = self.graph.inputs.get(place) else {
                continue;
            };
            let width = width(tensor, rows);
            let columns = width.and_then(|width| self.columns(width));
            if let Some(columns) = columns {
                for (index, name) in columns.iter().enumerate() {
                    let part = Part::Column {
                        index,
                        width: columns.len(),
                    };
                    layout.push((*name).to_owned(), (Place::Input(place), part), tensor);
                }
            } else {
                let whole = (spec.name.clone(), Place::Input(place));
                layout.tensor(whole, tensor, (rows, self.most));
            }
        }
        layout.unwatched = layout.features.len().saturating_sub(self.most);
        layout.features.truncate(self.most);
        for (place, value) in outputs.iter().enumerate() {
            let name = match self.graph.outputs.get(place) {
                Some(output) if outputs.len() > 1 => format!("prediction_{}", output.name),
                _ => "prediction".to_owned(),
            };
            if let Some(tensor) = tensor_of(value) {
                layout.tensor((name, Place::Output(place)), tensor, (rows, self.most));
            }
        }
        layout
    }
}

impl Layout {
    fn push(&mut self, name: String, (place, part): (Place, Part), tensor: &Tensor) {
        let source = Source {
            tensor: place,
            part,
            is_single: tensor.dtype() == DType::F32 && matches!(part, Part::Column { .. }),
        };
        self.features.push(Feature { name, source });
    }

    fn tensor(
        &mut self,
        (name, place): (String, Place),
        tensor: &Tensor,
        (rows, most): (usize, usize),
    ) {
        let shape = tensor.shape();
        match width(tensor, rows) {
            Some(1) if shape.len() <= 2 => {
                let part = Part::Column { index: 0, width: 1 };
                self.push(name, (place, part), tensor);
            }
            Some(width) if shape.len() <= 2 && width <= most => {
                for index in 0..width {
                    let part = Part::Column { index, width };
                    self.push(format!("{name}[{index}]"), (place, part), tensor);
                }
            }
            Some(width) if tensor.dtype() != DType::String && width > 0 => {
                for (of, word) in SUMMARIES {
                    let part = Part::Summary { of, width };
                    self.push(format!("{name}[{word}]"), (place, part), tensor);
                }
            }
            // One that is the same for all rows, or a text that is a tensor.
            _ => {}
        }
    }
}

/// Elements of each row; `None` where the tensor has not as many rows as the request.
fn width(tensor: &Tensor, rows: usize) -> Option<usize> {
    let (first, rest) = tensor.shape().split_first()?;
    (*first == rows).then(|| rest.iter().product())
}

fn tensor_of(value: &Value) -> Option<&Tensor> {
    match value {
        Value::Tensor(tensor) => Some(tensor),
        Value::Maps(maps) => Some(&maps.scores),
        Value::Sequence(_) => None,
    }
}

/// The elements of the tensors of a request, ready to be read one by one.
pub struct Views<'a> {
    inputs: Vec<View<'a>>,
    outputs: Vec<View<'a>>,
}

impl std::fmt::Debug for Views<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Views").finish_non_exhaustive()
    }
}

impl<'a> Views<'a> {
    /// Those of a request.
    pub fn new(inputs: &'a [Tensor], outputs: &'a [Value]) -> Self {
        let view = |value: &'a Value| tensor_of(value).map_or(View::None, View::new);
        Self {
            inputs: inputs.iter().map(View::new).collect(),
            outputs: outputs.iter().map(view).collect(),
        }
    }

    /// The type of the elements of a feature's tensor, where that is one of the frequent ones.
    pub fn dtype(&self, source: Source) -> Option<DType> {
        let view = match source.tensor {
            Place::Input(place) => self.inputs.get(place),
            Place::Output(place) => self.outputs.get(place),
        };
        Some(match view? {
            View::F32(_) => DType::F32,
            View::F64(_) => DType::F64,
            View::I32(_) => DType::I32,
            View::I64(_) => DType::I64,
            View::Bytes(_) => DType::U8,
            View::Texts(_) => DType::String,
            View::Numbers(_) | View::None => return None,
        })
    }

    /// The cell of a feature in a row.
    pub fn cell(&self, source: Source, row: usize) -> Cell<'_> {
        let (view, is_input) = match source.tensor {
            Place::Input(place) => (self.inputs.get(place), true),
            Place::Output(place) => (self.outputs.get(place), false),
        };
        let Some(view) = view else {
            return Cell::Missing;
        };
        match source.part {
            Part::Column { index, width } => match view.cell(row * width + index) {
                Cell::Text(text) if is_input && MISSING_TEXTS.contains(&text) => Cell::Missing,
                cell => cell,
            },
            Part::Summary { of, width } => of.over(view, row * width..(row + 1) * width),
        }
    }
}

impl Summary {
    #[expect(clippy::cast_precision_loss, reason = "the width of a tensor")]
    fn over(self, view: &View<'_>, elements: std::ops::Range<usize>) -> Cell<'static> {
        let width = elements.len();
        let start = match self {
            Self::Norm | Self::Mean => 0.0,
            Self::Min => f64::INFINITY,
            Self::Max => f64::NEG_INFINITY,
        };
        let mut sum = start;
        for element in elements {
            let Cell::Number(number) = view.cell(element) else {
                return Cell::Nan;
            };
            sum = match self {
                Self::Norm => number.mul_add(number, sum),
                Self::Mean => sum + number,
                Self::Min => sum.min(number),
                Self::Max => sum.max(number),
            };
        }
        let value = match self {
            Self::Norm => sum.sqrt(),
            Self::Mean => sum / width as f64,
            Self::Min | Self::Max => sum,
        };
        if value.is_nan() {
            return Cell::Nan;
        }
        Cell::Number(value)
    }
}

/// The elements of one tensor, which need not lie aligned in the body of a request.
enum View<'a> {
    F32(Cow<'a, [f32]>),
    F64(Cow<'a, [f64]>),
    I32(Cow<'a, [i32]>),
    I64(Cow<'a, [i64]>),
    /// Booleans, too.
    Bytes(&'a [u8]),
    /// All others, which are rare.
    Numbers(Vec<f64>),
    Texts(&'a [String]),
    None,
}

fn elements<T: Element>(tensor: &Tensor) -> Cow<'_, [T]> {
    match tensor.as_slice() {
        Some(elements) => Cow::Borrowed(elements),
        None => Cow::Owned(tensor.to_vec().unwrap_or_default()),
    }
}

fn numbers<T: Element>(tensor: &Tensor, number: impl Fn(T) -> f64) -> View<'_> {
    let elements = elements::<T>(tensor);
    View::Numbers(elements.iter().map(|element| number(*element)).collect())
}

impl<'a> View<'a> {
    #[expect(clippy::cast_precision_loss, reason = "bins are wider than that")]
    fn new(tensor: &'a Tensor) -> Self {
        match tensor.dtype() {
            DType::F32 => Self::F32(elements(tensor)),
            DType::F64 => Self::F64(elements(tensor)),
            DType::I32 => Self::I32(elements(tensor)),
            DType::I64 => Self::I64(elements(tensor)),
            DType::Bool | DType::U8 => Self::Bytes(tensor.bytes()),
            DType::String => Self::Texts(tensor.as_strings().unwrap_or_default()),
            DType::I8 => numbers(tensor, |element: i8| f64::from(element)),
            DType::I16 => numbers(tensor, |element: i16| f64::from(element)),
            DType::U16 => numbers(tensor, |element: u16| f64::from(element)),
            DType::U32 => numbers(tensor, |element: u32| f64::from(element)),
            DType::U64 => numbers(tensor, |element: u64| element as f64),
            DType::F16 => numbers(tensor, half::f16::to_f64),
            DType::Bf16 => numbers(tensor, half::bf16::to_f64),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "bins are wider than that")]
    fn cell(&self, index: usize) -> Cell<'_> {
        let cell = match self {
            Self::F32(elements) => elements.get(index).map(|element| match element {
                element if !element.is_nan() => Cell::Number(f64::from(*element)),
                element if Absent::is_f32(*element) => Cell::Missing,
                _ => Cell::Nan,
            }),
            Self::F64(elements) => elements.get(index).map(|element| of_double(*element)),
            Self::Numbers(elements) => elements.get(index).map(|element| of_double(*element)),
            Self::I32(elements) => elements.get(index).map(|int| Cell::Number((*int).into())),
            Self::I64(elements) => elements.get(index).map(|int| Cell::Number(*int as f64)),
            Self::Bytes(bytes) => bytes.get(index).map(|byte| Cell::Number((*byte).into())),
            Self::Texts(texts) => texts.get(index).map(|text| Cell::Text(text)),
            Self::None => None,
        };
        cell.unwrap_or(Cell::Missing)
    }
}

fn of_double(element: f64) -> Cell<'static> {
    match element {
        element if !element.is_nan() => Cell::Number(element),
        element if Absent::is_f64(element) => Cell::Missing,
        _ => Cell::Nan,
    }
}
