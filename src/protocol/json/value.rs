//! What the reader makes of a document: values, with lists of scalars side by side.

/// Whole numbers up to here are exact as `f64`.
const MAX_EXACT: u64 = 1 << 53;

/// A JSON value. Rectangular lists of scalars are [`Json::Array`]; only ragged ones and lists of objects are
/// [`Json::List`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Int(i64),
    /// A whole number beyond `i64`, as its digits.
    Big(Box<str>),
    Float(f64),
    Text(String),
    /// Boxed: it is large, and a list of several types has a value of this type per element.
    Array(Box<Flat>),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

/// A rectangular n-dimensional list of scalars.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Flat {
    pub(crate) shape: Vec<usize>,
    pub(crate) cells: Cells,
}

/// Scalars in order, in the narrowest form that loses nothing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cells {
    Int(Vec<i64>),
    Number(Numbers),
    Bool(Vec<bool>),
    Text(Vec<String>),
    Mixed(Vec<Json>),
}

/// Numbers of which at least one is a float.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Numbers {
    pub(crate) values: Vec<f64>,
    /// Positions of those that were written as whole numbers, ascending.
    pub(crate) whole: Vec<u32>,
}

/// Rows turned into columns.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Columns {
    /// The keys of records, in order of first appearance; empty for rows without keys.
    pub(crate) names: Vec<String>,
    /// One entry per column, each of `rows` cells.
    pub(crate) cells: Vec<Cells>,
    pub(crate) rows: usize,
}

impl Json {
    /// A list of values; lists of equal shape become one array, as they would have been read.
    pub(crate) fn stacked(values: Vec<Self>) -> Self {
        let inner = match values.first() {
            Some(Self::Array(first)) => first.shape.clone(),
            Some(Self::List(_) | Self::Object(_)) => return Self::List(values),
            _ => Vec::new(),
        };
        let regular = values.iter().all(|value| match value {
            Self::Array(flat) => flat.shape == inner && !inner.is_empty(),
            Self::List(_) | Self::Object(_) => false,
            _ => inner.is_empty(),
        });
        if !regular {
            return Self::List(values);
        }
        let shape = [&[values.len()], inner.as_slice()].concat();
        let mut cells = Cells::default();
        for value in values {
            match value {
                Self::Array(flat) => flat.cells.into_iter().for_each(|cell| cells.push(cell)),
                scalar => cells.push(scalar),
            }
        }
        Self::Array(Box::new(Flat { shape, cells }))
    }
}

impl Default for Cells {
    fn default() -> Self {
        Self::Int(Vec::new())
    }
}

impl Cells {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Int(values) => values.len(),
            Self::Number(numbers) => numbers.values.len(),
            Self::Bool(values) => values.len(),
            Self::Text(values) => values.len(),
            Self::Mixed(values) => values.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A single value.
    pub(crate) fn one(value: Json) -> Self {
        let mut cells = Self::default();
        cells.push(value);
        cells
    }

    /// Appends a value, changing the form when it does not fit.
    pub(crate) fn push(&mut self, value: Json) {
        match (&mut *self, value) {
            (Self::Int(values), Json::Int(value)) => values.push(value),
            (Self::Number(numbers), Json::Float(value)) => numbers.values.push(value),
            (Self::Number(numbers), Json::Int(value)) if value.unsigned_abs() <= MAX_EXACT => {
                numbers.push_whole(value);
            }
            (Self::Bool(values), Json::Bool(value)) => values.push(value),
            (Self::Text(values), Json::Text(value)) => values.push(value),
            (Self::Mixed(values), value) => values.push(value),
            (_, value) => self.widen(value),
        }
    }

    fn widen(&mut self, value: Json) {
        if self.is_empty() {
            *self = match value {
                Json::Int(value) => Self::Int(vec![value]),
                Json::Float(value) => Self::Number(Numbers {
                    values: vec![value],
                    whole: Vec::new(),
                }),
                Json::Bool(value) => Self::Bool(vec![value]),
                Json::Text(value) => Self::Text(vec![value]),
                value => Self::Mixed(vec![value]),
            };
            return;
        }
        if let (Self::Int(ints), Json::Float(_)) = (&*self, &value)
            && ints.iter().all(|int| int.unsigned_abs() <= MAX_EXACT)
        {
            let mut numbers = Numbers::default();
            ints.iter().for_each(|&int| numbers.push_whole(int));
            *self = Self::Number(numbers);
            return self.push(value);
        }
        let mut values: Vec<Json> = std::mem::take(self).into_iter().collect();
        values.push(value);
        *self = Self::Mixed(values);
    }

    /// The scalars one by one.
    pub(crate) fn into_iter(self) -> Box<dyn Iterator<Item = Json>> {
        match self {
            Self::Int(values) => Box::new(values.into_iter().map(Json::Int)),
            Self::Number(numbers) => Box::new(numbers.into_iter()),
            Self::Bool(values) => Box::new(values.into_iter().map(Json::Bool)),
            Self::Text(values) => Box::new(values.into_iter().map(Json::Text)),
            Self::Mixed(values) => Box::new(values.into_iter()),
        }
    }
}

impl Numbers {
    #[expect(
        clippy::cast_precision_loss,
        reason = "callers check that the number is exact"
    )]
    fn push_whole(&mut self, value: i64) {
        // A body of 4 G elements does not fit the body limit; past it the text form `1.0` is all that is lost.
        self.whole.extend(u32::try_from(self.values.len()));
        self.values.push(value as f64);
    }

    #[expect(clippy::cast_possible_truncation, reason = "exact by construction")]
    fn into_iter(self) -> impl Iterator<Item = Json> {
        let mut whole = self.whole.into_iter().peekable();
        self.values
            .into_iter()
            .enumerate()
            .map(move |(index, value)| {
                let is_whole =
                    u32::try_from(index).is_ok_and(|index| whole.next_if_eq(&index).is_some());
                if is_whole {
                    Json::Int(value as i64)
                } else {
                    Json::Float(value)
                }
            })
    }
}
