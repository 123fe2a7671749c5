//! Parquet files. Those that want to harm are small: what they hold is written once and counted often.

use std::sync::Arc;

use arrow_array::builder::{Decimal128Builder, Float64Builder, ListBuilder};
use arrow_array::{
    ArrayRef, Date32Array, Float32Array, Float64Array, Int64Array, RecordBatch, StringArray,
    StructArray,
};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::WIDTH;

fn properties() -> parquet::file::properties::WriterPropertiesBuilder {
    WriterProperties::builder().set_created_by("budget".to_owned())
}

fn file(columns: Vec<(String, ArrayRef)>, properties: WriterProperties) -> Vec<u8> {
    let field =
        |(name, array): &(String, ArrayRef)| Field::new(name, array.data_type().clone(), true);
    let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).unwrap();
    let mut out = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut out, schema, Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    out
}

/// One column, whose pages are compressed.
fn packed(name: &str, array: impl arrow_array::Array + 'static) -> Vec<u8> {
    let level = ZstdLevel::try_new(3).unwrap();
    let properties = properties().set_compression(Compression::ZSTD(level));
    file(vec![(name.to_owned(), Arc::new(array))], properties.build())
}

/// Numbers that look like chance.
fn chance(index: usize) -> u64 {
    (index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 11
}

/// As pandas writes doubles: a dictionary that grows too large, and the numbers as they are.
pub(crate) fn floats(size: usize) -> Vec<u8> {
    let rows = (size - (64 << 10)) / (8 * WIDTH);
    let column = |column: usize| {
        let numbers = (0..rows).map(|row| chance(row * WIDTH + column) as f64);
        let array: ArrayRef = Arc::new(Float64Array::from_iter_values(numbers));
        (format!("c{column}"), array)
    };
    let properties = properties().set_dictionary_enabled(false);
    file((0..WIDTH).map(column).collect(), properties.build())
}

pub(crate) fn missing(size: usize) -> Vec<u8> {
    let rows = (size - (64 << 10)) / (8 * WIDTH);
    let column = |column: usize| {
        let number = |row: usize| {
            let number = chance(row * WIDTH + column);
            (!number.is_multiple_of(8)).then_some(number as f64)
        };
        let array: ArrayRef = Arc::new(Float64Array::from_iter((0..rows).map(number)));
        (format!("c{column}"), array)
    };
    let properties = properties().set_dictionary_enabled(false);
    file((0..WIDTH).map(column).collect(), properties.build())
}

pub(crate) fn repeated(size: usize) -> Vec<u8> {
    packed("c0", Int64Array::from_iter_values((0..size).map(|_| 7)))
}

pub(crate) fn lists(size: usize) -> Vec<u8> {
    let mut lists = ListBuilder::new(Float64Builder::new());
    (0..size / 8).for_each(|_| lists.append_value([Some(1.0)]));
    packed("a", lists.finish())
}

pub(crate) fn empty_lists(size: usize) -> Vec<u8> {
    let mut lists = ListBuilder::new(Float64Builder::new());
    (0..size / 8).for_each(|_| lists.append_value([]));
    packed("a", lists.finish())
}

pub(crate) fn decimals(size: usize) -> Vec<u8> {
    let decimals = Decimal128Builder::new().with_precision_and_scale(20, 2);
    let mut decimals = decimals.unwrap();
    (0..size / 8).for_each(|_| decimals.append_value(-150));
    packed("t", decimals.finish())
}

pub(crate) fn dates(size: usize) -> Vec<u8> {
    packed(
        "t",
        Date32Array::from_iter_values((0..size / 8).map(|_| 19_844)),
    )
}

pub(crate) fn missing_texts(size: usize) -> Vec<u8> {
    let texts = (0..size / 4).map(|row| (row == 0).then_some("a"));
    packed("t", StringArray::from_iter(texts))
}

pub(crate) fn long_texts(size: usize) -> Vec<u8> {
    let text = "x".repeat(1 << 10);
    packed(
        "t",
        StringArray::from_iter_values((0..size / 64).map(|_| &text)),
    )
}

pub(crate) fn structs(size: usize) -> Vec<u8> {
    let inner: ArrayRef = Arc::new(Float32Array::from_iter_values((0..size / 4).map(|_| 1.0)));
    let fields = [("x", DataType::Float32), ("y", DataType::Float32)]
        .map(|(name, kind)| Arc::new(Field::new(name, kind, true)));
    let [x, y] = fields;
    packed(
        "a",
        StructArray::from(vec![(x, Arc::clone(&inner)), (y, inner)]),
    )
}

/// As many as a footer may describe.
pub(crate) fn columns(size: usize) -> Vec<u8> {
    let column = |column: usize| {
        let array: ArrayRef = Arc::new(Float32Array::from_iter_values([1.0]));
        (format!("{column:x}"), array)
    };
    let count = size / 8 / 300;
    let properties = properties()
        .set_statistics_enabled(parquet::file::properties::EnabledStatistics::None)
        .set_dictionary_enabled(false);
    file((0..count).map(column).collect(), properties.build())
}
