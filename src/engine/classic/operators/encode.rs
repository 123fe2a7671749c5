//! Operators that turn categories into numbers and back: `LabelEncoder`, `CategoryMapper`, `OneHotEncoder`.

use std::collections::HashMap;
use std::hash::Hash;

use super::super::failure::{Failure, Refusal};
use super::super::node::Node;
use super::super::operator::{Built, Inputs, Operator, Run, count};
use super::super::value::{Element, Slice, Value};
use crate::tensor::DType;

/// An element as the key of a table: numbers by their bits, where 0 and −0 are one.
pub(super) trait Key: Element {
    type Hashed: Hash + Eq + Send + Sync + 'static;

    fn to_key(&self) -> Self::Hashed;
    /// Looks this element up.
    fn find<'t, V>(&self, table: &'t HashMap<Self::Hashed, V>) -> Option<&'t V>;
    fn is_missing(&self) -> bool;
}

impl Key for i64 {
    type Hashed = Self;

    fn to_key(&self) -> Self {
        *self
    }

    fn find<'t, V>(&self, table: &'t HashMap<Self, V>) -> Option<&'t V> {
        table.get(self)
    }

    fn is_missing(&self) -> bool {
        false
    }
}

impl Key for String {
    type Hashed = Self;

    fn to_key(&self) -> Self {
        self.clone()
    }

    fn find<'t, V>(&self, table: &'t HashMap<Self, V>) -> Option<&'t V> {
        table.get(self.as_str())
    }

    fn is_missing(&self) -> bool {
        false
    }
}

macro_rules! float_key {
    ($($rust:ty: $bits:ty),*) => {
        $(impl Key for $rust {
            type Hashed = $bits;

            fn to_key(&self) -> $bits {
                if *self == 0.0 { 0 } else if self.is_nan() { <$bits>::MAX } else { self.to_bits() }
            }

            fn find<'t, V>(&self, table: &'t HashMap<$bits, V>) -> Option<&'t V> {
                table.get(&self.to_key())
            }

            fn is_missing(&self) -> bool {
                self.is_nan()
            }
        })*
    };
}

float_key!(f32: u32, f64: u64);

/// A table from elements to elements, with one for all others.
struct Table<K: Key, V> {
    table: HashMap<K::Hashed, V>,
    default: V,
}

impl<K: Key, V: Element> Operator for Table<K, V> {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        _run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let input = inputs.get(0)?;
        let elements = input.elements::<K>()?;
        let output = outputs[0].start::<V>(input.shape);
        output.extend(
            elements
                .iter()
                .map(|key| key.find(&self.table).unwrap_or(&self.default).clone()),
        );
        Ok(())
    }

    fn size(&self) -> u64 {
        (self.table.len() * 64) as u64
    }
}

/// Which entry counts when a key is there twice.
#[derive(Clone, Copy, PartialEq)]
enum Duplicates {
    First,
    Last,
}

fn table<K: Key, V: Element>(
    node: &Node<'_>,
    keys: &[K],
    values: Vec<V>,
    default: V,
    duplicates: Duplicates,
) -> Result<Built, Refusal> {
    if keys.len() != values.len() {
        return Err(node.refuse(format!(
            "has {} keys and {} values",
            keys.len(),
            values.len()
        )));
    }
    // Only later versions find NaN.
    let finds_missing = node.version >= 4;
    let mut table = HashMap::with_capacity(keys.len());
    for (key, value) in keys.iter().zip(values) {
        if key.is_missing() && !finds_missing {
            continue;
        }
        if duplicates == Duplicates::Last {
            table.insert(key.to_key(), value);
        } else {
            table.entry(key.to_key()).or_insert(value);
        }
    }
    Built::one(V::DTYPE, Table::<K, V> { table, default })
}

/// The texts of an unknown key.
const UNUSED: &str = "_Unused";

pub(super) fn label_encoder(node: &Node<'_>) -> Result<Built, Refusal> {
    if node.version < 2 {
        return label_encoder_1(node);
    }
    node.only(&[
        "default_float",
        "default_int64",
        "default_string",
        "default_tensor",
        "keys_floats",
        "keys_int64s",
        "keys_strings",
        "keys_tensor",
        "values_floats",
        "values_int64s",
        "values_strings",
        "values_tensor",
    ])?;
    match node.dtype(0)? {
        DType::String => with_keys(node, &keys(node, node.texts("keys_strings")?)?),
        DType::I64 => with_keys(node, &keys(node, node.ints("keys_int64s").to_vec())?),
        DType::F32 => with_keys(node, &keys(node, node.floats("keys_floats").to_vec())?),
        DType::F64 => with_keys(node, &keys::<f64>(node, Vec::new())?),
        other => Err(node.unsupported(other)),
    }
}

/// Those of the list, else of the tensor.
fn listed<T: Element>(node: &Node<'_>, list: Vec<T>, tensor: &str) -> Result<Vec<T>, Refusal> {
    if list.is_empty() {
        node.elements(tensor)
    } else {
        Ok(list)
    }
}

fn keys<K: Element>(node: &Node<'_>, list: Vec<K>) -> Result<Vec<K>, Refusal> {
    let keys = listed(node, list, "keys_tensor")?;
    if keys.is_empty() {
        return Err(node.refuse(format!("has no keys of {}", K::DTYPE)));
    }
    Ok(keys)
}

fn with_keys<K: Key>(node: &Node<'_>, keys: &[K]) -> Result<Built, Refusal> {
    let tensor = node.tensor("values_tensor")?;
    let of = tensor.as_ref().map(|values| values.view().dtype());
    let texts = node.texts("values_strings")?;
    if !texts.is_empty() || of == Some(DType::String) {
        let default = node.text("default_string")?.unwrap_or(UNUSED).to_owned();
        return with_values(node, keys, texts, default);
    }
    let numbers = node.ints("values_int64s");
    if !numbers.is_empty() || of == Some(DType::I64) {
        let default = node.int("default_int64").unwrap_or(-1);
        return with_values(node, keys, numbers.to_vec(), default);
    }
    let floats = node.floats("values_floats");
    if !floats.is_empty() || of == Some(DType::F32) {
        // ONNX Runtime's own default differs by version and by type of the keys.
        let is_zero = node.version >= 4 && matches!(K::DTYPE, DType::String | DType::I64);
        let default = node
            .float("default_float")
            .unwrap_or(if is_zero { 0.0 } else { -0.0 });
        return with_values(node, keys, floats.to_vec(), default);
    }
    match of {
        Some(DType::F64) => with_values(node, keys, Vec::new(), -0.0f64),
        Some(DType::I16) => with_values(node, keys, Vec::new(), 0i16),
        Some(other) => Err(node.refuse(format!("values of {other} are not supported"))),
        None => Err(node.refuse("has no values")),
    }
}

fn with_values<K: Key, V: Element>(
    node: &Node<'_>,
    keys: &[K],
    list: Vec<V>,
    default: V,
) -> Result<Built, Refusal> {
    let values = listed(node, list, "values_tensor")?;
    let tensor = node.elements::<V>("default_tensor")?;
    let default = tensor.into_iter().next().unwrap_or(default);
    table(node, keys, values, default, Duplicates::First)
}

/// Version 1: a list of texts, which stand for their places.
fn label_encoder_1(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&["classes_strings", "default_int64", "default_string"])?;
    let texts = node.texts("classes_strings")?;
    let places = (0..).take(texts.len()).collect();
    texts_and_numbers(node, texts, places)
}

pub(super) fn category_mapper(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&[
        "cats_int64s",
        "cats_strings",
        "default_int64",
        "default_string",
    ])?;
    let texts = node.texts("cats_strings")?;
    texts_and_numbers(node, texts, node.ints("cats_int64s").to_vec())
}

/// From texts to numbers or back, by the type of the input.
fn texts_and_numbers(
    node: &Node<'_>,
    texts: Vec<String>,
    numbers: Vec<i64>,
) -> Result<Built, Refusal> {
    match node.dtype(0)? {
        DType::String => {
            let default = node.int("default_int64").unwrap_or(-1);
            table(node, &texts, numbers, default, Duplicates::Last)
        }
        DType::I64 => {
            let default = node.text("default_string")?.unwrap_or(UNUSED).to_owned();
            table(node, &numbers, texts, default, Duplicates::Last)
        }
        other => Err(node.unsupported(other)),
    }
}

/// The columns of categories.
enum Categories {
    Int64(HashMap<i64, usize>),
    Text(HashMap<String, usize>),
}

/// A row of zeros with one 1 for each element.
struct OneHot {
    categories: Categories,
    width: usize,
    /// An unknown category becomes zeros; else it is an error.
    allows_unknown: bool,
}

impl OneHot {
    fn write(
        &self,
        columns: impl Iterator<Item = Option<usize>>,
        output: &mut [f32],
    ) -> Result<(), Failure> {
        for (place, column) in columns.enumerate() {
            match column {
                Some(column) => output[place * self.width + column] = 1.0,
                None if self.allows_unknown => {}
                None => {
                    return Err(Failure::new(format!(
                        "element {place} is of an unknown category"
                    )));
                }
            }
        }
        Ok(())
    }
}

/// A number without its fraction, as C++ casts it.
#[expect(
    clippy::cast_possible_truncation,
    reason = "that is what a category is"
)]
fn whole(value: f64) -> Option<i64> {
    (value.abs() < 9.3e18).then_some(value as i64)
}

impl Operator for OneHot {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        _run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let input = inputs.get(0)?;
        let shape = [input.shape, &[self.width]].concat();
        let length = count(&shape)?;
        let output = outputs[0].start::<f32>(&shape);
        output.resize(length, 0.0);
        match (&self.categories, input.data) {
            (Categories::Text(table), Slice::Text(texts)) => self.write(
                texts.iter().map(|text| table.get(text.as_str()).copied()),
                output,
            ),
            (Categories::Int64(table), Slice::I64(numbers)) => self.write(
                numbers.iter().map(|number| table.get(number).copied()),
                output,
            ),
            (Categories::Int64(table), Slice::I32(numbers)) => self.write(
                numbers
                    .iter()
                    .map(|number| table.get(&i64::from(*number)).copied()),
                output,
            ),
            (Categories::Int64(table), Slice::F32(numbers)) => {
                let column = |number: &f32| table.get(&whole(f64::from(*number))?).copied();
                self.write(numbers.iter().map(column), output)
            }
            (Categories::Int64(table), Slice::F64(numbers)) => {
                let column = |number: &f64| table.get(&whole(*number)?).copied();
                self.write(numbers.iter().map(column), output)
            }
            _ => Err(Failure::new(format!(
                "elements of {} are no categories of it",
                input.dtype()
            ))),
        }
    }

    fn size(&self) -> u64 {
        (self.width * 64) as u64
    }
}

pub(super) fn one_hot_encoder(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&["cats_int64s", "cats_strings", "zeros"])?;
    let texts = node.texts("cats_strings")?;
    let numbers = node.ints("cats_int64s");
    let is_text = node.dtype(0)? == DType::String;
    // Of a category that is there twice the last column counts.
    let (categories, width) = match (texts.is_empty(), numbers.is_empty()) {
        (false, true) if is_text => {
            let width = texts.len();
            (
                Categories::Text(texts.into_iter().zip(0..).collect()),
                width,
            )
        }
        (true, false) if !is_text => (
            Categories::Int64(numbers.iter().copied().zip(0..).collect()),
            numbers.len(),
        ),
        (true, true) | (false, false) => {
            return Err(node.refuse("must have categories of one type"));
        }
        _ => return Err(node.refuse("its categories are of another type than its input")),
    };
    if node.dtype(0)? == DType::Bool {
        return Err(node.unsupported(DType::Bool));
    }
    let allows_unknown = node.flag("zeros", true);
    Built::one(
        DType::F32,
        OneHot {
            categories,
            width,
            allows_unknown,
        },
    )
}
