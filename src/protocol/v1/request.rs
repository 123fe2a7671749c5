//! The body of a predict request, as tensors: `{"instances": […]}` by rows, `{"inputs": …}` by columns.

use std::collections::HashMap;

use axum::body::Bytes;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::model::{Dim, InputSpec, Signature, SignatureError};
use crate::protocol::client_id;
use crate::protocol::json::{Cells, ElementError, Flat, Items, Json, Reader, tensor_of};
use crate::protocol::meter::{Meter, block};
use crate::protocol::oip::error::OipError;
use crate::serving::RequestId;
use crate::tensor::{DType, Tensor};

/// Characters of a name that a message shows.
const SHOWN: usize = 1_000;

/// The key of bytes that are no text of their own.
const BASE64: &str = "b64";

/// How the request gave its tensors, which is how the answer gives its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// One entry for each of so many examples.
    Rows(usize),
    /// Whole tensors.
    Columns,
}

/// A body that was read.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) form: Form,
    pub(crate) named: Vec<(String, Tensor)>,
    /// The id that the client gave it.
    pub(crate) id: Option<RequestId>,
}

/// Values under the names of inputs, in the order of the signature.
type Named = Vec<Option<Json>>;

/// Reads a body for a model with these inputs.
///
/// # Errors
/// [`OipError`], naming the input that is wrong.
pub(crate) fn parse(
    body: Bytes,
    signature: &Signature,
    meter: &Meter,
) -> Result<Request, OipError> {
    let inputs = Inputs::new(signature, meter);
    let (form, values, id) = read(&body, &inputs)?;
    meter.free(body);
    let named = inputs.tensors(values)?;
    Ok(Request { form, named, id })
}

/// What is read of a body before it is made tensors of.
type Body = (Form, Named, Option<RequestId>);

fn read(body: &[u8], inputs: &Inputs<'_>) -> Result<Body, OipError> {
    let expected = "expected `{\"instances\": [...]}` or `{\"inputs\": ...}`";
    let mut reader = Reader::metered(body, inputs.meter)?;
    if !reader.next_is_object()? {
        reader.skip()?;
        reader.finish()?;
        let message = format!("the body is no JSON object: {expected}");
        return Err(OipError::Invalid(message));
    }
    let mut given: Option<(Form, Named)> = None;
    let mut id = None;
    reader.object(|reader, key| {
        if reader.null()? {
            return Ok(());
        }
        let is_second = given.is_some();
        match key {
            "instances" | "inputs" if is_second => {
                let message = format!("`instances` and `inputs` exclude each other: {expected}");
                return Err(OipError::Invalid(message));
            }
            "instances" => given = Some(inputs.read_rows(reader)?),
            "inputs" => given = Some((Form::Columns, inputs.read_columns(reader)?)),
            client_id::KEY => id = client_id::read(reader, inputs.meter)?,
            // A graph has one signature, whatever the client calls it.
            "signature_name" => check_text(&reader.value()?)?,
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    reader.finish()?;
    let given = given.map(|(form, named)| (form, named, id));
    given.ok_or_else(|| {
        let message = format!("neither `instances` nor `inputs` is given: {expected}");
        OipError::Invalid(message)
    })
}

fn check_text(name: &Json) -> Result<(), OipError> {
    match name {
        Json::Text(_) | Json::Null => Ok(()),
        _ => Err(OipError::Invalid(
            "`signature_name` is no string".to_owned(),
        )),
    }
}

/// The inputs of a model, under which values are put.
struct Inputs<'s> {
    specs: &'s [InputSpec],
    place_of: HashMap<&'s str, usize>,
    /// The place of the input that a value without a name is for.
    sole: Option<usize>,
    meter: &'s Meter,
}

impl<'s> Inputs<'s> {
    fn new(signature: &'s Signature, meter: &'s Meter) -> Self {
        let specs = signature.inputs.as_slice();
        let sole = signature.sole_input();
        let places = specs.iter().enumerate();
        let place_of = places
            .rev()
            .map(|(place, input)| (input.name.as_str(), place));
        Self {
            specs,
            place_of: place_of.collect(),
            sole: sole.and_then(|sole| specs.iter().position(|input| input == sole)),
            meter,
        }
    }

    fn read_rows(&self, reader: &mut Reader<'_>) -> Result<(Form, Named), OipError> {
        if reader.next_is_list_of_objects()? {
            return self.read_objects(reader);
        }
        let value = reader.value()?;
        let rows = match &value {
            Json::Array(flat) => flat.shape.first().copied(),
            Json::List(items) => Some(items.len()),
            _ => None,
        };
        let rows = rows.ok_or_else(|| {
            let message = "`instances` must be a list with an entry for each example";
            OipError::Invalid(message.to_owned())
        })?;
        Ok((Form::Rows(rows), self.only("instances", value)?))
    }

    /// Each row an object of values by the name of their input.
    fn read_objects(&self, reader: &mut Reader<'_>) -> Result<(Form, Named), OipError> {
        let mut columns: Vec<Items> = self.specs.iter().map(|_| Items::default()).collect();
        let mut rows = 0;
        reader.each(|reader, row| {
            if !reader.next_is_object()? {
                return Err(OipError::Invalid(format!(
                    "`instances[{row}]` is no object, as `instances[0]` is"
                )));
            }
            let (mut place, mut count) = (0, 0);
            reader.object(|reader, key| {
                // Rows repeat their keys in the same order: names are searched only when they do not.
                if self.specs.get(place).is_none_or(|input| input.name != key) {
                    place = self.place(key)?;
                }
                if columns[place].len() > row {
                    return Err(OipError::Invalid(format!(
                        "`instances[{row}]` gives input `{}` twice",
                        self.specs[place].name
                    )));
                }
                let value = reader.value()?;
                columns[place].push(self.unwrapped(key, place, value)?, self.meter)?;
                (place, count) = (place + 1, count + 1);
                Ok(())
            })?;
            rows += 1;
            // None comes twice, so that they are all there when they are as many.
            if count < columns.len() {
                return self.check_row(&columns, row);
            }
            Ok(())
        })?;
        let mut named = Vec::with_capacity(columns.len());
        for (items, input) in columns.into_iter().zip(self.specs) {
            let is_left_out = input.is_optional() && items.len() == 0;
            named.push(match is_left_out {
                true => None,
                false => Some(items.finish(self.meter)?),
            });
        }
        Ok((Form::Rows(rows), named))
    }

    /// Every row has every input; one that is optional may be left out of all of them.
    fn check_row(&self, columns: &[Items], row: usize) -> Result<(), OipError> {
        let mut given = columns.iter().zip(self.specs);
        let missing = given.position(|(items, input)| {
            items.len() <= row && !(input.is_optional() && items.len() == 0)
        });
        missing.map_or(Ok(()), |place| {
            let name = &self.specs[place].name;
            let message = format!("`instances[{row}]` lacks input `{name}`");
            Err(OipError::Invalid(message))
        })
    }

    fn read_columns(&self, reader: &mut Reader<'_>) -> Result<Named, OipError> {
        if !reader.next_is_object()? {
            let value = reader.value()?;
            return self.only("inputs", value);
        }
        let mut values: Named = vec![None; self.specs.len()];
        reader.object(|reader, key| {
            let place = self.place(key)?;
            let value = reader.value()?;
            let value = self.unwrapped(key, place, value)?;
            if values[place].replace(value).is_some() {
                let name = self.specs[place].name.clone();
                return Err(OipError::from(SignatureError::DuplicateInput(name)));
            }
            Ok(())
        })?;
        Ok(values)
    }

    /// The place of an input; `b64` is the only one's, when it has another name.
    fn place(&self, key: &str) -> Result<usize, OipError> {
        let named = self.place_of.get(key).copied();
        let only = || self.sole.filter(|_| key == BASE64);
        named.or_else(only).ok_or_else(|| {
            let names = self.specs.iter().map(|input| input.name.clone());
            let expected = crate::model::Names(names.collect());
            let name: String = key.chars().take(SHOWN).collect();
            SignatureError::UnknownInput { name, expected }.into()
        })
    }

    /// The value under a key; what stands under the key of bytes is one.
    fn unwrapped(&self, key: &str, place: usize, value: Json) -> Result<Json, OipError> {
        let name = &self.specs[place].name;
        match value {
            Json::Text(text) if key == BASE64 && name != BASE64 => {
                let decoded = self.decoded(name, &text)?;
                self.meter.release(block(text.capacity()));
                Ok(decoded)
            }
            value => Ok(value),
        }
    }

    /// A value without a name is the only input's.
    fn only(&self, field: &str, value: Json) -> Result<Named, OipError> {
        if let Some(place) = self.sole {
            let mut named: Named = vec![None; self.specs.len()];
            named[place] = Some(value);
            return Ok(named);
        }
        let names: Vec<String> = self
            .specs
            .iter()
            .map(|input| format!("`{}`", input.name))
            .collect();
        let names = names.join(", ");
        let expected = if field == "instances" {
            "each entry of `instances` to be an object"
        } else {
            "`inputs` to be an object"
        };
        Err(OipError::Invalid(format!(
            "this model takes inputs {names}: expected {expected} with their names"
        )))
    }

    fn tensors(&self, values: Named) -> Result<Vec<(String, Tensor)>, OipError> {
        let given = self.specs.iter().zip(values);
        let given = given.filter_map(|(input, value)| Some((input, value?)));
        given
            .map(|(input, value)| self.tensor(input, value))
            .collect()
    }

    fn tensor(&self, input: &InputSpec, value: Json) -> Result<(String, Tensor), OipError> {
        let name = &input.name;
        let flat = match self.with_bytes(name, value)? {
            Json::Array(flat) => *flat,
            Json::List(_) => {
                let message =
                    format!("input `{name}`: the lists are not rectangular, or hold objects");
                return Err(OipError::Invalid(message));
            }
            scalar => Flat {
                shape: vec![],
                cells: Cells::one(scalar, self.meter)?,
            },
        };
        let heap = flat.heap();
        let shape = shaped(flat.shape, input);
        let tensor = tensor_of(input.dtype, shape, flat.cells, self.meter);
        let tensor = tensor.map_err(|error| match error {
            ElementError::OverBudget(over) => over.into(),
            error => OipError::Invalid(format!("input `{name}`: {error}")),
        })?;
        // Some tensors are the cells themselves, texts among them.
        if !matches!(input.dtype, DType::F64 | DType::I64 | DType::String) {
            self.meter.release(heap);
        }
        Ok((name.clone(), tensor))
    }

    /// The value with each `{"b64": …}` in it replaced by what it encodes.
    fn with_bytes(&self, name: &str, value: Json) -> Result<Json, OipError> {
        match value {
            Json::Object(entries) => match entries.as_slice() {
                [(key, Json::Text(text))] if key == BASE64 => self.decoded(name, text),
                _ => Err(OipError::Invalid(format!(
                    "input `{name}` holds an object, expected values, lists or `{{\"b64\": ...}}`"
                ))),
            },
            Json::List(items) => {
                let mut stacked = Items::default();
                for item in items {
                    let heap = item.heap();
                    let is_object = matches!(item, Json::Object(_));
                    stacked.push(self.with_bytes(name, item)?, self.meter)?;
                    if is_object {
                        self.meter.release(heap);
                    }
                }
                Ok(stacked.finish(self.meter)?)
            }
            other => Ok(other),
        }
    }

    fn decoded(&self, name: &str, text: &str) -> Result<Json, OipError> {
        // No more than three bytes come of four.
        self.meter.charge(block(text.len()))?;
        decode(name, text).map(Json::Text)
    }
}

/// Scalars, one for each row, also fill a matrix of one column, which is how skl2onnx declares its inputs.
fn shaped(shape: Vec<usize>, input: &InputSpec) -> Vec<usize> {
    match (shape.as_slice(), input.shape.as_deref()) {
        (&[rows], Some([_, Dim::Fixed(1)])) => vec![rows, 1],
        _ => shape,
    }
}

fn decode(name: &str, text: &str) -> Result<String, OipError> {
    let bytes = BASE64_STANDARD.decode(text);
    let bytes = bytes.map_err(|error| {
        OipError::Invalid(format!("input `{name}`: `b64` is no base64: {error}"))
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        OipError::Invalid(format!(
            "input `{name}`: what `b64` encodes is not UTF-8 from byte {place}; the engines take text only"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(name: &str, dtype: DType, shape: &[i64]) -> InputSpec {
        let dim = |&dim: &i64| usize::try_from(dim).map_or(Dim::Any(None), Dim::Fixed);
        InputSpec {
            name: name.to_owned(),
            dtype,
            shape: Some(shape.iter().map(dim).collect()),
            default: None,
        }
    }

    fn read(body: &str, inputs: Vec<InputSpec>) -> Result<Request, OipError> {
        let outputs = vec![];
        let body = Bytes::copy_from_slice(body.as_bytes());
        parse(
            body,
            &Signature {
                inputs,
                outputs,
                ..Signature::default()
            },
            &Meter::unlimited(),
        )
    }

    fn matrix() -> Vec<InputSpec> {
        vec![input("x", DType::F32, &[-1, 2])]
    }

    fn pair() -> Vec<InputSpec> {
        vec![
            input("a", DType::F32, &[-1, 2]),
            input("s", DType::String, &[-1, 1]),
        ]
    }

    fn shapes(request: &Request) -> Vec<(&str, &[usize])> {
        let named = request.named.iter();
        named
            .map(|(name, tensor)| (name.as_str(), tensor.shape()))
            .collect()
    }

    #[test]
    fn rows_are_values_or_objects_and_stack_to_tensors() {
        for body in [
            r#"{"signature_name": "serving_default", "instances": [[1, 2.5], [3, 4]], "extra": [1, {}]}"#,
            r#"{"instances": [{"x": [1, 2.5]}, {"x": [3, 4]}], "signature_name": null}"#,
        ] {
            let request = read(body, matrix()).unwrap();
            assert_eq!(request.form, Form::Rows(2));
            assert_eq!(shapes(&request), [("x", &[2, 2][..])], "{body}");
            let values = request.named[0].1.to_vec::<f32>().unwrap();
            assert_eq!(values, [1.0, 2.5, 3.0, 4.0]);
        }
        let body =
            r#"{"instances": [{"s": "u", "a": [1, 2]}, {"a": [3, 4], "s": {"b64": "dg=="}}]}"#;
        let request = read(body, pair()).unwrap();
        assert_eq!(shapes(&request), [("a", &[2, 2][..]), ("s", &[2, 1])]);
        assert_eq!(request.named[1].1.as_strings().unwrap(), ["u", "v"]);
    }

    #[test]
    fn columns_are_a_tensor_or_an_object_of_tensors() {
        for body in [
            r#"{"inputs": [[1, NaN]]}"#,
            r#"{"inputs": {"x": [[1, NaN]]}}"#,
        ] {
            let request = read(body, matrix()).unwrap();
            assert_eq!(request.form, Form::Columns);
            assert_eq!(shapes(&request), [("x", &[1, 2][..])], "{body}");
        }
        let request = read(r#"{"inputs": {"s": [["u"]], "a": [[1, 2]]}}"#, pair()).unwrap();
        assert_eq!(shapes(&request), [("a", &[1, 2][..]), ("s", &[1, 1])]);
    }

    #[test]
    fn bytes_in_base64_are_values_at_any_depth() {
        let text = || vec![input("t", DType::String, &[-1, 2])];
        for body in [
            r#"{"instances": [[{"b64": "dQ=="}, "v"]]}"#,
            r#"{"inputs": {"t": [[{"b64": "dQ=="}, {"b64": "dg=="}]]}}"#,
        ] {
            let request = read(body, text()).unwrap();
            assert_eq!(shapes(&request), [("t", &[1, 2][..])], "{body}");
            assert_eq!(request.named[0].1.as_strings().unwrap(), ["u", "v"]);
        }
        let flat = || vec![input("t", DType::String, &[-1])];
        let request = read(
            r#"{"instances": [{"b64": "dQ=="}, {"b64": "dg=="}]}"#,
            flat(),
        )
        .unwrap();
        assert_eq!(request.named[0].1.as_strings().unwrap(), ["u", "v"]);
        for (body, part) in [
            (r#"{"instances": [{"b64": "*"}]}"#, "no base64"),
            (
                r#"{"instances": [{"b64": "/w=="}]}"#,
                "not UTF-8 from byte 0",
            ),
        ] {
            let error = read(body, flat()).unwrap_err().to_string();
            assert!(
                error.contains(part) && error.contains("`t`"),
                "{body}: {error}"
            );
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_the_input() {
        for (body, part) in [
            ("[1]", "no JSON object"),
            ("{", "no JSON"),
            ("{}", "neither `instances` nor `inputs`"),
            (r#"{"inputs": {}, "instances": []}"#, "exclude each other"),
            (r#"{"inputs": {}, "inputs": {}}"#, "exclude each other"),
            (r#"{"instances": 3}"#, "`instances` must be a list"),
            (r#"{"instances": [1, 2]}"#, "inputs `a`, `s`"),
            (r#"{"inputs": [1, 2]}"#, "`inputs` to be an object"),
            (
                r#"{"instances": [{"a": [1, 2]}]}"#,
                "`instances[0]` lacks input `s`",
            ),
            (
                r#"{"instances": [{"a": [1, 2], "s": "u"}, 3]}"#,
                "`instances[1]` is no object",
            ),
            (
                r#"{"instances": [{"a": [1, 2], "a": 1, "s": ""}]}"#,
                "input `a` twice",
            ),
            (
                r#"{"inputs": {"a": [1], "a": [1]}}"#,
                "input `a` is given twice",
            ),
            (
                r#"{"instances": [{"a": [1, 2], "z": "u"}]}"#,
                "unknown input `z`",
            ),
            (
                r#"{"instances": [{"a": [1, 2], "s": 5}]}"#,
                "input `s`: the data holds 5",
            ),
            (
                r#"{"instances": [{"a": [1], "s": ""}, {"a": [1, 2], "s": ""}]}"#,
                "input `a`: the lists are not",
            ),
            (
                r#"{"instances": [{"a": ["x", 1], "s": ""}]}"#,
                "input `a`: the data holds a string",
            ),
            (
                r#"{"inputs": {"a": {"x": 1}}}"#,
                "input `a` holds an object",
            ),
            (
                r#"{"signature_name": 3, "instances": []}"#,
                "`signature_name`",
            ),
        ] {
            let error = read(body, pair()).unwrap_err().to_string();
            assert!(error.contains(part), "{body}: {error}");
        }
    }
}
