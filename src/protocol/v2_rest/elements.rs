//! The infer request and response as JSON.

use std::time::Duration;

use axum::body::Bytes;
use half::{bf16, f16};

use super::error::V2Error;
use crate::engine::Outputs;
use crate::model::Batch;
use crate::protocol::json::{
    Cells, Flat, Json, Layout, NonFinite, Reader, write_str, write_tensor,
};
use crate::serving::{Codec, Servable, Wishes};
use crate::tensor::{DType, Element, Tensor, Value};

/// One infer request.
pub(super) struct InferCodec {
    /// Taken by `decode`; an error of the headers or of reading the body is reported there, where it is counted.
    body: Option<Result<Bytes, V2Error>>,
    bytes: usize,
    non_finite: NonFinite,
    id: Option<String>,
    /// The outputs asked for, in the order of the answer; empty for all.
    requested: Vec<String>,
    wishes: Wishes,
}

/// The parts of a request's JSON.
#[derive(Default)]
struct Parsed {
    id: Option<String>,
    inputs: Option<Vec<Input>>,
    outputs: Vec<String>,
    wishes: Wishes,
}

/// One tensor of a request.
#[derive(Default)]
struct Input {
    name: Option<String>,
    datatype: Option<String>,
    shape: Option<Vec<usize>>,
    data: Option<Json>,
}

impl InferCodec {
    /// `timeout` is what the headers say.
    pub(super) fn new(
        body: Result<Bytes, V2Error>,
        non_finite: NonFinite,
        timeout: Option<Duration>,
    ) -> Self {
        Self {
            bytes: body.as_ref().map_or(0, Bytes::len),
            body: Some(body),
            non_finite,
            id: None,
            requested: Vec::new(),
            wishes: Wishes {
                timeout,
                urgent: false,
            },
        }
    }
}

impl Codec for InferCodec {
    type Answer = Vec<u8>;
    type Error = V2Error;

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn decode(&mut self, servable: &Servable) -> Result<Batch, V2Error> {
        let body = self.body.take().expect("a request is decoded once")?;
        let parsed = parse(&body)?;
        let inputs = parsed.inputs.ok_or_else(|| {
            V2Error::Invalid("`inputs` is missing: expected a list of tensors".to_owned())
        })?;
        let named: Result<Vec<_>, _> = inputs.into_iter().map(Input::into_tensor).collect();
        for name in &parsed.outputs {
            if !servable
                .signature()
                .outputs
                .iter()
                .any(|output| output.name == *name)
            {
                let known: Vec<String> = servable
                    .signature()
                    .outputs
                    .iter()
                    .map(|output| format!("`{}`", output.name))
                    .collect();
                let known = known.join(", ");
                return Err(V2Error::Invalid(format!(
                    "unknown output `{name}`; this model gives {known}"
                )));
            }
        }
        self.id = parsed.id;
        self.requested = parsed.outputs;
        let timeouts = [self.wishes.timeout, parsed.wishes.timeout];
        self.wishes = Wishes {
            timeout: timeouts.into_iter().flatten().min(),
            ..parsed.wishes
        };
        Ok(servable.signature().bind(named?)?)
    }

    fn wishes(&self) -> Wishes {
        self.wishes
    }

    fn encode(self, servable: &Servable, outputs: Outputs) -> Result<Vec<u8>, V2Error> {
        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(b"{\"model_name\": ");
        write_str(&mut out, servable.id().name.as_str());
        out.extend_from_slice(
            format!(", \"model_version\": \"{}\"", servable.id().version).as_bytes(),
        );
        if let Some(id) = &self.id {
            out.extend_from_slice(b", \"id\": ");
            write_str(&mut out, id);
        }
        out.extend_from_slice(b", \"outputs\": [");
        let names: Vec<&str> = servable
            .signature()
            .outputs
            .iter()
            .map(|output| output.name.as_str())
            .collect();
        let all: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let wanted = if self.requested.is_empty() {
            &all
        } else {
            &self.requested
        };
        for (index, name) in wanted.iter().enumerate() {
            let place = names.iter().position(|known| known == name);
            let Some(value) = place.and_then(|place| outputs.get(place)) else {
                continue;
            };
            out.extend_from_slice(if index > 0 { b", " } else { b"" });
            write_output(&mut out, name, value, self.non_finite)?;
        }
        out.extend_from_slice(b"]}");
        Ok(out)
    }
}

fn write_output(
    out: &mut Vec<u8>,
    name: &str,
    value: &Value,
    non_finite: NonFinite,
) -> Result<(), V2Error> {
    let (tensor, labels) = match value {
        Value::Tensor(tensor) => (tensor, None),
        Value::Maps(maps) => (&maps.scores, Some(maps.labels.to_texts())),
    };
    if matches!(tensor.dtype(), DType::F16 | DType::Bf16) {
        let dtype = tensor.dtype();
        return Err(V2Error::Invalid(format!(
            "output `{name}` is {dtype}, which has no JSON form; ask for other outputs or use a binary protocol"
        )));
    }
    out.extend_from_slice(b"{\"name\": ");
    write_str(out, name);
    out.extend_from_slice(
        format!(
            ", \"datatype\": \"{}\", \"shape\": {:?}",
            tensor.dtype().oip_name(),
            tensor.shape()
        )
        .as_bytes(),
    );
    if let Some(labels) = labels {
        let labels = serde_json::Value::from(labels).to_string();
        out.extend_from_slice(b", \"parameters\": {\"labels\": ");
        write_str(out, &labels);
        out.push(b'}');
    }
    out.extend_from_slice(b", \"data\": ");
    write_tensor(out, tensor, Layout::Flat, non_finite);
    out.push(b'}');
    Ok(())
}

fn parse(body: &[u8]) -> Result<Parsed, V2Error> {
    let mut reader = Reader::new(body)?;
    if !reader.next_is_object()? {
        reader.skip()?;
        reader.finish()?;
        return Err(V2Error::Invalid(
            "the body is no JSON object: expected `{\"inputs\": [...]}`".to_owned(),
        ));
    }
    let mut parsed = Parsed::default();
    reader.object(|reader, key| {
        match key {
            "id" => parsed.id = text(reader.value()?, "id")?,
            "inputs" => parsed.inputs = Some(read_list(reader, "inputs", read_input)?),
            "outputs" => parsed.outputs = read_list(reader, "outputs", read_requested)?,
            "parameters" => parsed.wishes = wishes(&reader.value()?)?,
            _ => reader.skip()?,
        }
        Ok::<(), V2Error>(())
    })?;
    reader.finish()?;
    Ok(parsed)
}

fn read_list<T>(
    reader: &mut Reader<'_>,
    what: &str,
    mut read: impl FnMut(&mut Reader<'_>, usize) -> Result<T, V2Error>,
) -> Result<Vec<T>, V2Error> {
    let mut items = Vec::new();
    let is_list = reader.each(|reader, index| {
        if !reader.next_is_object()? {
            return Err(V2Error::Invalid(format!("`{what}[{index}]` is no object")));
        }
        items.push(read(reader, index)?);
        Ok(())
    })?;
    if is_list {
        Ok(items)
    } else {
        Err(V2Error::Invalid(format!("`{what}` is no list")))
    }
}

fn read_input(reader: &mut Reader<'_>, index: usize) -> Result<Input, V2Error> {
    let mut input = Input::default();
    reader.object(|reader, key| {
        match key {
            "name" => input.name = text(reader.value()?, "name")?,
            "datatype" => input.datatype = text(reader.value()?, "datatype")?,
            "shape" => input.shape = Some(shape(reader.value()?, index)?),
            "data" => input.data = Some(reader.value()?),
            _ => reader.skip()?,
        }
        Ok::<(), V2Error>(())
    })?;
    Ok(input)
}

fn read_requested(reader: &mut Reader<'_>, index: usize) -> Result<String, V2Error> {
    let mut name = None;
    reader.object(|reader, key| {
        match key {
            "name" => name = text(reader.value()?, "name")?,
            "parameters" => check_output_parameters(&reader.value()?)?,
            _ => reader.skip()?,
        }
        Ok::<(), V2Error>(())
    })?;
    name.ok_or_else(|| V2Error::Invalid(format!("`outputs[{index}].name` is missing")))
}

/// `priority`: 1 is before all others, anything else the usual one. `timeout`: microseconds, 0 is none.
fn wishes(parameters: &Json) -> Result<Wishes, V2Error> {
    let mut wishes = Wishes::default();
    let Json::Object(entries) = parameters else {
        return Ok(wishes);
    };
    for (name, value) in entries {
        if !matches!(name.as_str(), "priority" | "timeout") {
            continue;
        }
        let number = match value {
            Json::Int(number) => u64::try_from(*number).ok(),
            _ => None,
        };
        let number = number.ok_or_else(|| {
            V2Error::Invalid(format!(
                "the parameter `{name}` is no whole number from 0 up"
            ))
        })?;
        if name == "priority" {
            wishes.urgent = number == 1;
        } else {
            wishes.timeout = (number > 0).then(|| Duration::from_micros(number));
        }
    }
    Ok(wishes)
}

fn check_output_parameters(parameters: &Json) -> Result<(), V2Error> {
    let Json::Object(entries) = parameters else {
        return Ok(());
    };
    let asks = |key: &str| {
        entries
            .iter()
            .any(|(name, value)| name == key && !matches!(value, Json::Bool(false)))
    };
    if asks("binary_data") || asks("classification") {
        return Err(V2Error::Unsupported(
            "the output parameters `binary_data` and `classification` are not supported yet"
                .to_owned(),
        ));
    }
    Ok(())
}

fn text(value: Json, key: &str) -> Result<Option<String>, V2Error> {
    match value {
        Json::Text(text) => Ok(Some(text)),
        Json::Null => Ok(None),
        _ => Err(V2Error::Invalid(format!("`{key}` is no string"))),
    }
}

fn shape(value: Json, index: usize) -> Result<Vec<usize>, V2Error> {
    let invalid = || {
        V2Error::Invalid(format!(
            "`inputs[{index}].shape` is no list of whole numbers from 0 up"
        ))
    };
    let Json::Array(flat) = value else {
        return Err(invalid());
    };
    let Flat {
        shape,
        cells: Cells::Int(dims),
    } = *flat
    else {
        return Err(invalid());
    };
    let dims: Option<Vec<usize>> = dims
        .into_iter()
        .map(|dim| usize::try_from(dim).ok())
        .collect();
    dims.filter(|_| shape.len() == 1).ok_or_else(invalid)
}

impl Input {
    fn into_tensor(self) -> Result<(String, Tensor), V2Error> {
        let name = self
            .name
            .ok_or_else(|| V2Error::Invalid("an input has no `name`".to_owned()))?;
        let missing = |key: &str| V2Error::Invalid(format!("input `{name}` has no `{key}`"));
        let datatype = self.datatype.ok_or_else(|| missing("datatype"))?;
        let shape = self.shape.ok_or_else(|| missing("shape"))?;
        let data = self.data.ok_or_else(|| missing("data"))?;
        let dtype = DType::from_oip(&datatype).ok_or_else(|| {
            V2Error::Invalid(format!(
                "input `{name}` has unknown datatype `{datatype}`: expected one such as `FP32`"
            ))
        })?;
        let Json::Array(flat) = data else {
            return Err(V2Error::Invalid(format!(
                "the data of input `{name}` is no rectangular list of values"
            )));
        };
        if flat.shape.len() > 1 && flat.shape != shape {
            return Err(V2Error::Invalid(format!(
                "the data of input `{name}` is nested to shape {:?}, expected {shape:?} or a flat list",
                flat.shape
            )));
        }
        let tensor = tensor_of(&name, dtype, shape, flat.cells)?;
        Ok((name, tensor))
    }
}

fn tensor_of(name: &str, dtype: DType, shape: Vec<usize>, cells: Cells) -> Result<Tensor, V2Error> {
    let reader = Elements { name, dtype };
    let tensor = match dtype {
        DType::Bool => Tensor::from_bools(shape, &reader.bools(cells)?),
        DType::String => Tensor::from_strings(shape, reader.strings(cells)?),
        DType::F32 => Tensor::from_vec(shape, reader.floats(cells, narrow)?),
        DType::F64 => Tensor::from_vec(shape, reader.floats(cells, |value| value)?),
        DType::F16 => Tensor::from_vec(shape, reader.no_json::<f16>()?),
        DType::Bf16 => Tensor::from_vec(shape, reader.no_json::<bf16>()?),
        DType::U8 => Tensor::from_vec(shape, reader.ints::<u8>(cells)?),
        DType::U16 => Tensor::from_vec(shape, reader.ints::<u16>(cells)?),
        DType::U32 => Tensor::from_vec(shape, reader.ints::<u32>(cells)?),
        DType::U64 => Tensor::from_vec(shape, reader.ints::<u64>(cells)?),
        DType::I8 => Tensor::from_vec(shape, reader.ints::<i8>(cells)?),
        DType::I16 => Tensor::from_vec(shape, reader.ints::<i16>(cells)?),
        DType::I32 => Tensor::from_vec(shape, reader.ints::<i32>(cells)?),
        DType::I64 => Tensor::from_vec(shape, reader.ints::<i64>(cells)?),
    };
    tensor.map_err(|error| V2Error::Tensor {
        name: name.to_owned(),
        error,
    })
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "rounds to the nearest single"
)]
fn narrow(value: f64) -> f32 {
    value as f32
}

/// Reads elements of one type; whole numbers are fine for floats, nothing else is converted.
struct Elements<'n> {
    name: &'n str,
    dtype: DType,
}

impl Elements<'_> {
    fn refuse(&self, value: &Json) -> V2Error {
        let given = match value {
            Json::Null => "null".to_owned(),
            Json::Bool(value) => value.to_string(),
            Json::Int(value) => value.to_string(),
            Json::Big(digits) => digits.to_string(),
            Json::Float(value) => value.to_string(),
            Json::Text(_) => "a string".to_owned(),
            Json::Array(_) | Json::List(_) => "a list".to_owned(),
            Json::Object(_) => "an object".to_owned(),
        };
        let Self { name, dtype } = self;
        V2Error::Invalid(format!(
            "the data of input `{name}` holds {given}, expected values of {dtype}"
        ))
    }

    fn no_json<T>(&self) -> Result<Vec<T>, V2Error> {
        let Self { name, dtype } = self;
        Err(V2Error::Invalid(format!(
            "input `{name}` is {dtype}, which has no JSON form; use a binary protocol"
        )))
    }

    fn bools(&self, cells: Cells) -> Result<Vec<bool>, V2Error> {
        if let Cells::Bool(values) = cells {
            return Ok(values);
        }
        let bool = |cell| match cell {
            Json::Bool(value) => Ok(value),
            other => Err(self.refuse(&other)),
        };
        cells.into_iter().map(bool).collect()
    }

    fn strings(&self, cells: Cells) -> Result<Vec<String>, V2Error> {
        if let Cells::Text(values) = cells {
            return Ok(values);
        }
        let text = |cell| match cell {
            Json::Text(value) => Ok(value),
            other => Err(self.refuse(&other)),
        };
        cells.into_iter().map(text).collect()
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a whole number for a float is rounded to it"
    )]
    fn floats<T>(&self, cells: Cells, narrow: impl Fn(f64) -> T) -> Result<Vec<T>, V2Error> {
        match cells {
            Cells::Number(numbers) => Ok(numbers.values.into_iter().map(narrow).collect()),
            Cells::Int(values) => Ok(values
                .into_iter()
                .map(|value| narrow(value as f64))
                .collect()),
            other => {
                let float = |cell| match &cell {
                    Json::Int(value) => Ok(*value as f64),
                    Json::Float(value) => Ok(*value),
                    Json::Big(digits) => digits.parse().map_err(|_| self.refuse(&cell)),
                    // What this server writes for a NaN, it also reads.
                    Json::Null => Ok(f64::NAN),
                    _ => Err(self.refuse(&cell)),
                };
                other
                    .into_iter()
                    .map(|cell| float(cell).map(&narrow))
                    .collect()
            }
        }
    }

    fn ints<T: Element + TryFrom<i64> + std::str::FromStr>(
        &self,
        cells: Cells,
    ) -> Result<Vec<T>, V2Error> {
        let int = |cell| match &cell {
            Json::Int(value) => T::try_from(*value).map_err(|_| self.refuse(&cell)),
            Json::Big(digits) => digits.parse().map_err(|_| self.refuse(&cell)),
            _ => Err(self.refuse(&cell)),
        };
        cells.into_iter().map(int).collect()
    }
}
