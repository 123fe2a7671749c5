use std::collections::HashMap;

use proptest::prelude::*;
use prost::Message as _;

use super::super::inference::infer_parameter::ParameterChoice;
use super::super::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use super::super::inference::{InferParameter, InferTensorContents, ModelInferRequest};
use super::super::layouts;
use super::*;
use crate::budget::Budget;
use crate::protocol::oip::grpc::{DESCRIPTORS, METHODS};

const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

/// What a message of this method is charged, in pieces of so many bytes.
fn charged(path: &str, message: &[u8], piece: usize) -> Result<usize, WireError> {
    charged_within(usize::MAX, path, message, piece)
}

fn charged_within(
    limit: usize,
    path: &str,
    message: &[u8],
    piece: usize,
) -> Result<usize, WireError> {
    let allowance = Budget::unlimited().allowance(limit);
    let length = u64::try_from(message.len()).unwrap();
    let mut walker = Walker::new(layouts::find(path), length, allowance.clone());
    for piece in message.chunks(piece) {
        walker.push(piece)?;
    }
    walker.finish()?;
    Ok(allowance.used())
}

/// Bytes that a message holds, by the capacities of what it is made of.
fn held(message: &ModelInferRequest) -> usize {
    let texts = [&message.model_name, &message.model_version, &message.id];
    let inputs = message.inputs.iter().map(|input| {
        let contents = input.contents.as_ref().map_or(0, contents);
        input.name.capacity()
            + input.datatype.capacity()
            + input.shape.capacity() * 8
            + parameters(&input.parameters)
            + contents
    });
    let outputs = message.outputs.iter();
    let outputs = outputs.map(|output| output.name.capacity() + parameters(&output.parameters));
    size_of::<ModelInferRequest>()
        + texts.into_iter().map(String::capacity).sum::<usize>()
        + parameters(&message.parameters)
        + message.inputs.capacity() * size_of::<InferInputTensor>()
        + inputs.sum::<usize>()
        + message.outputs.capacity() * size_of::<InferRequestedOutputTensor>()
        + outputs.sum::<usize>()
        + message.raw_input_contents.capacity() * SLICE
}

fn contents(contents: &InferTensorContents) -> usize {
    contents.bool_contents.capacity()
        + contents.int_contents.capacity() * 4
        + contents.int64_contents.capacity() * 8
        + contents.uint_contents.capacity() * 4
        + contents.uint64_contents.capacity() * 8
        + contents.fp32_contents.capacity() * 4
        + contents.fp64_contents.capacity() * 8
        + contents.bytes_contents.capacity() * SLICE
}

fn parameters(parameters: &HashMap<String, InferParameter>) -> usize {
    let texts = parameters.iter().map(|(name, value)| {
        let text = match &value.parameter_choice {
            Some(ParameterChoice::StringParam(text)) => text.capacity(),
            _ => 0,
        };
        name.capacity() + text
    });
    let entry = size_of::<(String, InferParameter)>() + 1;
    // Tables are full to seven eighths at most.
    parameters.capacity() * entry * 8 / 7 + texts.sum::<usize>()
}

/// A vector has room for four elements from the first on.
fn few(message: &ModelInferRequest) -> usize {
    let lists =
        4 * (size_of::<InferInputTensor>() + size_of::<InferRequestedOutputTensor>() + SLICE);
    lists + message.inputs.len() * 4 * SLICE
}

fn any_parameters() -> impl Strategy<Value = HashMap<String, InferParameter>> {
    let choice = prop_oneof![
        any::<i64>().prop_map(ParameterChoice::Int64Param),
        ".{0,9}".prop_map(ParameterChoice::StringParam),
        any::<f64>().prop_map(ParameterChoice::DoubleParam),
    ];
    let value = prop::option::of(choice);
    let value = value.prop_map(|parameter_choice| InferParameter { parameter_choice });
    prop::collection::hash_map("[a-z]{0,3}", value, 0..5)
}

fn any_contents() -> impl Strategy<Value = InferTensorContents> {
    let few = || 0..40_usize;
    let bytes = prop::collection::vec(any::<u8>(), 0..4).prop_map(bytes::Bytes::from);
    (
        prop::collection::vec(any::<bool>(), few()),
        prop::collection::vec(-3..300_i32, few()),
        prop::collection::vec(any::<u64>(), few()),
        prop::collection::vec(any::<f32>(), few()),
        prop::collection::vec(any::<f64>(), few()),
        prop::collection::vec(bytes, few()),
    )
        .prop_map(
            |(bools, ints, longs, singles, doubles, texts)| InferTensorContents {
                bool_contents: bools,
                int_contents: ints,
                uint64_contents: longs,
                fp32_contents: singles,
                fp64_contents: doubles,
                bytes_contents: texts,
                ..InferTensorContents::default()
            },
        )
}

fn any_message() -> impl Strategy<Value = ModelInferRequest> {
    let shape = prop::collection::vec(any::<i64>(), 0..5);
    let input = (
        ".{0,4}",
        shape,
        any_parameters(),
        prop::option::of(any_contents()),
    );
    let input = input.prop_map(|(name, shape, parameters, contents)| InferInputTensor {
        name,
        shape,
        parameters,
        contents,
        ..InferInputTensor::default()
    });
    let output = (".{0,4}", any_parameters());
    let output =
        output.prop_map(|(name, parameters)| InferRequestedOutputTensor { name, parameters });
    let raw = prop::collection::vec(any::<u8>(), 0..50).prop_map(bytes::Bytes::from);
    (
        ".{0,20}",
        any_parameters(),
        prop::collection::vec(input, 0..6),
        prop::collection::vec(output, 0..20),
        prop::collection::vec(raw, 0..20),
    )
        .prop_map(
            |(model_name, parameters, inputs, outputs, raw)| ModelInferRequest {
                model_name,
                parameters,
                inputs,
                outputs,
                raw_input_contents: raw,
                ..ModelInferRequest::default()
            },
        )
}

proptest! {
    #[test]
    fn a_message_holds_no_more_than_it_was_charged(
        message in any_message(),
        piece in 1_usize..300,
    ) {
        let bytes = message.encode_to_vec();
        let all = charged(INFER, &bytes, usize::MAX).unwrap();
        prop_assert_eq!(charged(INFER, &bytes, piece).unwrap(), all);
        let decoded = ModelInferRequest::decode(bytes::Bytes::from(bytes)).unwrap();
        let held = held(&decoded);
        prop_assert!(held <= all + few(&decoded), "{held} > {all}");
    }

    #[test]
    fn whatever_the_library_reads_was_counted_in_full(
        mut bytes in prop::collection::vec(any::<u8>(), 0..60),
        message in any_message(),
        at in any::<prop::sample::Index>(),
        piece in 1_usize..20,
    ) {
        // Nonsense, and a message with a piece of nonsense in it.
        let mut mixed = message.encode_to_vec();
        let at = at.index(mixed.len() + 1);
        mixed.splice(at..at, bytes.iter().copied().take(3));
        for bytes in [std::mem::take(&mut bytes), mixed] {
            let counted = charged(INFER, &bytes, piece);
            prop_assert_eq!(&counted, &charged(INFER, &bytes, usize::MAX));
            if let (Ok(counted), Ok(decoded)) = (&counted, ModelInferRequest::decode(&bytes[..])) {
                // Of a message that is not shared slices are copied.
                let slices = decoded.raw_input_contents.iter().map(bytes::Bytes::len).sum::<usize>();
                prop_assert!(held(&decoded) <= counted + few(&decoded) + slices);
            }
        }
    }
}

/// A field of this number and type, with these contents.
fn field(number: u8, contents: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encode_length_delimiter(contents.len(), &mut field).unwrap();
    field.extend_from_slice(contents);
    field
}

#[test]
fn many_small_things_are_as_large_as_they_become() {
    // Two bytes each, and hundreds in memory.
    const MANY: usize = 1 << 20;
    for (number, each) in [
        (4, 200),
        (5, size_of::<InferInputTensor>()),
        (6, size_of::<InferRequestedOutputTensor>()),
        (7, SLICE),
    ] {
        let bomb = field(number, &[]).repeat(MANY);
        let counted = charged(INFER, &bomb, 4096).unwrap();
        assert!(counted >= MANY * each, "{number}: {counted}");
        let refused = charged_within(16 << 20, INFER, &bomb, 4096);
        assert!(matches!(refused, Err(WireError::OverBudget(_))), "{number}");
    }
    // Slices and numbers of the contents of one input.
    for (number, contents, each) in [
        (8, field(8, &[]).repeat(MANY), SLICE),
        (3, field(3, &vec![0; MANY]), 8),
        (5, [5 << 3, 0].repeat(MANY), 8),
        (1, field(1, &vec![0; MANY]), 1),
    ] {
        let counted = charged(INFER, &field(5, &field(5, &contents)), 4096).unwrap();
        assert!(counted >= MANY * each, "{number}: {counted}");
    }
    // Values of a setting of traces.
    let trace = "/inference.GRPCInferenceService/TraceSetting";
    let values = field(1, &field(2, &field(1, &[]).repeat(MANY)));
    assert!(charged(trace, &values, 4096).unwrap() >= MANY * size_of::<String>());
}

#[test]
fn what_is_no_message_is_refused_and_unknown_fields_are_passed_over() {
    let refused = |bytes: &[u8]| charged(INFER, bytes, 1).unwrap_err().to_string();
    assert!(refused(&[0x28, 0x80]).contains("ends in the middle"));
    assert!(refused(&[0x2A]).contains("longer than the message"));
    assert!(refused(&[0x2A, 5]).contains("longer than the message"));
    assert!(refused(&[0x2A, 2, 0x0A, 7, 0, 0, 0]).contains("longer than the message"));
    assert!(refused(&[0x80; 12]).contains("ten bytes"));
    assert!(refused(&[0x02, 0]).contains("a number or a type"));
    // A group, and its end.
    assert!(refused(&[0x2B, 0x2C]).contains("a number or a type"));
    for known in [
        &[][..],
        &[0xF8, 0x01, 5],
        &[0xFA, 0x01, 2, 1, 1],
        &[0xFD, 1, 1, 2, 3, 4],
    ] {
        assert!(charged(INFER, known, 1).unwrap() < 1000, "{known:?}");
    }
}

/// The part of a description that says what fields are.
#[derive(Clone, PartialEq, prost::Message)]
struct Files {
    #[prost(message, repeated, tag = "1")]
    files: Vec<File>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct File {
    #[prost(string, tag = "2")]
    package: String,
    #[prost(message, repeated, tag = "4")]
    messages: Vec<Described>,
    #[prost(message, repeated, tag = "6")]
    services: Vec<Service>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Described {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    fields: Vec<DescribedField>,
    #[prost(message, repeated, tag = "3")]
    nested: Vec<Self>,
    #[prost(message, optional, tag = "7")]
    options: Option<Options>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Options {
    #[prost(bool, tag = "7")]
    map_entry: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct DescribedField {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "3")]
    number: u32,
    #[prost(uint32, tag = "4")]
    label: u32,
    #[prost(uint32, tag = "5")]
    kind: u32,
    #[prost(string, tag = "6")]
    type_name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Service {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    methods: Vec<Method>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Method {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    input: String,
}

/// Messages by their full names.
fn remember(scope: &str, messages: &[Described], all: &mut HashMap<String, Described>) {
    for message in messages {
        let name = format!("{scope}.{}", message.name);
        remember(&name, &message.nested, all);
        all.insert(name, message.clone());
    }
}

/// Compares a layout with a description.
fn compare(layout: &Layout, name: &str, all: &HashMap<String, Described>) {
    const REPEATED: u32 = 3;
    const MESSAGE: u32 = 11;
    let message = &all[name];
    for described in &message.fields {
        let mut known = layout.fields.iter();
        let field = known.find(|(number, _)| *number == described.number);
        let field = field.map(|(_, field)| *field);
        let what = format!("{name}.{}: {field:?}", described.name);
        let is_map = || {
            let options = all[&described.type_name].options.as_ref();
            options.is_some_and(|options| options.map_entry)
        };
        let inner = match (described.label == REPEATED, described.kind) {
            (true, MESSAGE) if is_map() => match field {
                Some(Field::Map(layout)) => Some(layout),
                _ => panic!("{what}: expected a map"),
            },
            (true, MESSAGE) => match field {
                Some(Field::Messages(layout)) => Some(layout),
                _ => panic!("{what}: expected messages"),
            },
            (false, MESSAGE) => match field {
                Some(Field::Message(layout)) => Some(layout),
                _ => panic!("{what}: expected a message"),
            },
            (repeated, kind) => {
                assert!(is_as(field, repeated, kind), "{what}: is another kind");
                None
            }
        };
        if let Some(layout) = inner {
            compare(layout, &described.type_name, all);
        }
    }
}

/// Whether a field of this kind of description is what the table says.
fn is_as(field: Option<Field>, repeated: bool, kind: u32) -> bool {
    use Width::{Fixed, Variable};
    match (repeated, kind) {
        (false, 9 | 12) => matches!(field, Some(Field::Text)),
        (true, 9) => matches!(field, Some(Field::Texts)),
        (true, 12) => matches!(field, Some(Field::Slices)),
        (true, 1) => matches!(field, Some(Field::Numbers(8, Fixed))),
        (true, 2) => matches!(field, Some(Field::Numbers(4, Fixed))),
        (true, 3 | 4) => matches!(field, Some(Field::Numbers(8, Variable))),
        (true, 5 | 13) => matches!(field, Some(Field::Numbers(4, Variable))),
        (true, 8) => matches!(field, Some(Field::Numbers(1, Variable))),
        (true, _) => false,
        // Numbers are in the struct.
        (false, _) => true,
    }
}

#[test]
fn the_table_knows_every_field_of_every_message_of_clients() {
    let (mut all, mut inputs) = (HashMap::new(), HashMap::new());
    for description in [
        DESCRIPTORS,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ] {
        for file in Files::decode(description).unwrap().files {
            remember(&format!(".{}", file.package), &file.messages, &mut all);
            for service in file.services {
                for method in service.methods {
                    let path = format!("/{}.{}/{}", file.package, service.name, method.name);
                    inputs.insert(path, method.input);
                }
            }
        }
    }
    for (path, _) in METHODS {
        compare(layouts::find(path), &inputs[path], &all);
    }
}
