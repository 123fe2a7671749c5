//! Files that pandas would write, and files that nobody should.

use std::sync::Arc;

use arrow_array::builder::{Decimal128Builder, ListBuilder, StringDictionaryBuilder};
use arrow_array::types::Int32Type;
use arrow_array::{
    Array as _, ArrayRef, BinaryArray, BooleanArray, Date32Array, Float16Array, Float32Array,
    Float64Array, Int8Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, UInt64Array,
};
use arrow_schema::{Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{BrotliLevel, Compression, Encoding, GzipLevel, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use proptest::prelude::*;

use super::super::array::{Array, Opaque};
use super::super::frame::cells_of;
use super::*;

const LIMIT: usize = 1 << 20;

fn read(body: &Bytes, limit: usize) -> Result<Frame, ParquetError> {
    let allowance = crate::budget::Budget::unlimited().allowance(4 * limit);
    super::read(body, limit, &Meter::new(&allowance))
}

fn properties() -> WriterPropertiesBuilder {
    WriterProperties::builder()
}

fn file(columns: Vec<(&str, ArrayRef)>, properties: WriterPropertiesBuilder) -> Bytes {
    let field =
        |(name, array): &(&str, ArrayRef)| Field::new(*name, array.data_type().clone(), true);
    let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).unwrap();
    let mut out = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut out, schema, Some(properties.build())).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    out.into()
}

fn column(array: impl arrow_array::Array + 'static) -> (String, Vec<Json>) {
    let frame = read(&file(vec![("x", Arc::new(array))], properties()), LIMIT).unwrap();
    let data = &frame.columns[0].data;
    (data.dtype_name().to_owned(), cells(data))
}

fn cells(array: &Array) -> Vec<Json> {
    cells_of(array).map(std::borrow::Cow::into_owned).collect()
}

fn text(text: &str) -> Json {
    Json::Text(text.to_owned())
}

#[test]
fn numbers_keep_their_width() {
    let (dtype, cells) = column(Int8Array::from(vec![-1, 2]));
    assert_eq!(
        (dtype.as_str(), cells),
        ("int8", vec![Json::Int(-1), Json::Int(2)])
    );
    assert_eq!(column(Int32Array::from(vec![1])).0, "int32");
    assert_eq!(column(Int64Array::from(vec![1])).0, "int64");
    let (dtype, cells) = column(UInt64Array::from(vec![u64::MAX]));
    assert_eq!(dtype, "uint64");
    assert_eq!(cells, [Json::Big(u64::MAX.to_string().into())]);
    assert_eq!(column(Float32Array::from(vec![1.5])).0, "float32");
    let half = Float16Array::from(vec![half::f16::from_f32(1.5)]);
    assert_eq!(column(half), ("float16".to_owned(), vec![Json::Float(1.5)]));
    assert_eq!(column(BooleanArray::from(vec![true])).0, "bool");
}

#[test]
fn a_missing_number_is_nan_and_a_missing_text_none() {
    let (dtype, cells) = column(Int64Array::from(vec![Some(3), None]));
    assert_eq!(dtype, "float64");
    assert!(matches!(cells[..], [Json::Float(3.0), Json::Float(nan)] if nan.is_nan()));
    assert_eq!(
        column(Float32Array::from(vec![Some(3.0), None])).0,
        "float32"
    );
    let (dtype, cells) = column(StringArray::from(vec![Some("a"), None]));
    assert_eq!(
        (dtype.as_str(), cells),
        ("object", vec![text("a"), Json::Null])
    );
    let (dtype, cells) = column(BooleanArray::from(vec![Some(true), None]));
    assert_eq!(
        (dtype.as_str(), cells),
        ("object", vec![Json::Bool(true), Json::Null])
    );
    assert_eq!(column(Int64Array::from(vec![None, None])).0, "float64");
}

#[test]
fn texts_and_categories_are_their_values() {
    let expected = vec![text("b"), text(""), text("b")];
    assert_eq!(column(StringArray::from(vec!["b", "", "b"])).1, expected);
    let mut builder = StringDictionaryBuilder::<Int32Type>::new();
    ["b", "", "b"].iter().for_each(|value| {
        builder.append(value).unwrap();
    });
    assert_eq!(column(builder.finish()).1, expected);
}

#[test]
fn dates_bytes_and_decimals_have_what_a_signature_can_ask_of_them() {
    let kind = |array: ArrayRef| {
        let frame = read(&file(vec![("x", array)], properties()), LIMIT).unwrap();
        match frame.columns[0].data {
            Array::Opaque(opaque, _) => opaque,
            ref other => panic!("{other:?}"),
        }
    };
    let instants = TimestampMicrosecondArray::from(vec![Some(1), None]);
    assert_eq!(kind(Arc::new(instants.clone())), Opaque::Datetime);
    assert_eq!(kind(Arc::new(instants.with_timezone("UTC"))), Opaque::Zoned);
    assert_eq!(
        kind(Arc::new(BinaryArray::from(vec![&b"\xff"[..]]))),
        Opaque::Binary
    );
    assert_eq!(
        column(Date32Array::from(vec![19_844])).1,
        [text("2024-05-01")]
    );
    let mut decimals = Decimal128Builder::new()
        .with_precision_and_scale(20, 2)
        .unwrap();
    decimals.append_value(-150);
    assert_eq!(column(decimals.finish()).1, [text("-1.50")]);
}

#[test]
fn lists_of_numbers_are_cells() {
    let mut lists = ListBuilder::new(arrow_array::builder::Float64Builder::new());
    lists.append_value([Some(1.0), None]);
    lists.append_value([]);
    lists.append_null();
    let (_, cells) = column(lists.finish());
    let lengths: Vec<Option<usize>> = cells
        .iter()
        .map(|cell| match cell {
            Json::Array(flat) => Some(flat.cells.len()),
            _ => None,
        })
        .collect();
    assert_eq!(lengths, [Some(2), Some(0), None]);
}

#[test]
fn the_index_of_pandas_is_no_column() {
    let pandas =
        r#"{"index_columns": ["__index_level_0__", {"kind": "range", "start": 0}], "columns": []}"#;
    let entry = KeyValue::new("pandas".to_owned(), pandas.to_owned());
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("x", Arc::new(Int64Array::from(vec![1, 2]))),
        ("__index_level_0__", Arc::new(Int64Array::from(vec![7, 8]))),
    ];
    let body = file(
        columns,
        properties().set_key_value_metadata(Some(vec![entry])),
    );
    let frame = read(&body, LIMIT).unwrap();
    let names: Vec<&Json> = frame.columns.iter().map(|column| &column.name).collect();
    assert_eq!((names, frame.rows), (vec![&text("x")], 2));
}

fn codecs() -> [Compression; 6] {
    [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::ZSTD(ZstdLevel::default()),
        Compression::BROTLI(BrotliLevel::default()),
        Compression::LZ4_RAW,
    ]
}

#[test]
fn every_codec_is_read_and_none_inflates_beyond_the_limit() {
    // Numbers that a dictionary does not shrink but a codec does.
    let zeros = || -> ArrayRef { Arc::new(Float64Array::from(vec![0.0; 100_000])) };
    for codec in codecs() {
        let plain = || {
            properties()
                .set_compression(codec)
                .set_dictionary_enabled(false)
        };
        let body = file(vec![("x", zeros())], plain());
        let frame = read(&body, LIMIT).unwrap();
        assert_eq!(frame.rows, 100_000, "{codec:?}");
        let error = read(&body, 700_000).unwrap_err();
        assert!(
            matches!(error, ParquetError::TooLarge(_)),
            "{codec:?}: {error}"
        );
    }
}

#[test]
fn a_long_text_that_is_repeated_counts_each_time() {
    let long = "x".repeat(10_000);
    let texts = StringArray::from(vec![long.as_str(); 1_000]);
    let body = file(vec![("x", Arc::new(texts))], properties());
    assert!(body.len() < 100_000, "{}", body.len());
    let error = read(&body, LIMIT).unwrap_err();
    assert!(matches!(error, ParquetError::OverBudget(_)), "{error}");
    let encoded = properties()
        .set_dictionary_enabled(false)
        .set_encoding(Encoding::DELTA_BYTE_ARRAY);
    let body = file(
        vec![("x", Arc::new(StringArray::from(vec![long.as_str(); 10])))],
        encoded,
    );
    let error = read(&body, LIMIT).unwrap_err();
    assert!(error.to_string().contains("DELTA_BYTE_ARRAY"), "{error}");
}

#[test]
fn a_gzip_page_that_is_larger_than_it_says_is_refused() {
    let gzip = Compression::GZIP(GzipLevel::default());
    let plain = properties()
        .set_compression(gzip)
        .set_dictionary_enabled(false);
    let zeros = Float64Array::from(vec![0.0; 100_000]);
    let body = file(vec![("x", Arc::new(zeros))], plain);
    // Behind the magic and the page's type its header claims some 160,000 bytes, a varint of three: claim one byte.
    let mut forged = body.to_vec();
    assert_eq!(forged[4..7], [0x15, 0, 0x15]);
    forged[7..10].copy_from_slice(&[0x82, 0x80, 0]);
    let error = read(&forged.into(), LIMIT).unwrap_err();
    assert!(matches!(error, ParquetError::Malformed(_)), "{error}");
}

fn sample() -> Bytes {
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "a",
            Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])),
        ),
        ("b", Arc::new(StringArray::from(vec!["x", "yy", "x"]))),
        ("c", Arc::new(Float64Array::from(vec![0.5, 1.5, 2.5]))),
    ];
    file(columns, properties().set_compression(Compression::SNAPPY))
}

proptest! {
    #[test]
    fn a_broken_file_is_an_error_and_nothing_worse(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<Option<prop::sample::Index>>(),
    ) {
        let mut body = sample().to_vec();
        for (place, byte) in changes {
            let place = place.index(body.len());
            body[place] = byte;
        }
        if let Some(cut) = cut {
            body.truncate(cut.index(body.len()));
        }
        if let Ok(frame) = read(&body.into(), LIMIT) {
            for column in frame.columns {
                prop_assert_eq!(column.data.shape(), [frame.rows]);
            }
        }
    }
}
