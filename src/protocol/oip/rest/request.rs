//! The JSON of an infer request.

use super::binary::Section;
use super::elements;
use crate::protocol::json::{Cells, Flat, Json, Reader};
use crate::protocol::meter::Meter;
use crate::protocol::oip::content::Content;
use crate::protocol::oip::error::OipError;
use crate::protocol::oip::outputs::Requested;
use crate::protocol::oip::parameters::{Parameter, Parameters, RequestParameters};
use crate::protocol::oip::raw;
use crate::tensor::Tensor;

/// More inputs, or outputs, than any model has.
const MOST_TENSORS: usize = 10_000;

/// Bytes of the name of a tensor.
const MAX_NAME: usize = 1_000;

/// An infer request without the bytes behind its JSON.
#[derive(Debug, Default)]
pub(crate) struct InferRequest {
    pub(crate) id: Option<String>,
    pub(crate) inputs: Vec<Input>,
    pub(crate) outputs: Vec<Requested>,
    pub(crate) parameters: RequestParameters,
}

/// One tensor of a request.
#[derive(Debug, Default)]
pub(crate) struct Input {
    name: Option<String>,
    datatype: Option<String>,
    shape: Option<Vec<i64>>,
    data: Option<Json>,
    parameters: Parameters,
}

/// Reads the JSON of a request.
///
/// # Errors
/// [`OipError::Invalid`], with what is wrong and where; [`OipError::OverBudget`].
pub(crate) fn parse(json: &[u8], meter: &Meter) -> Result<InferRequest, OipError> {
    let mut reader = Reader::metered(json, meter)?;
    if !reader.next_is_object()? {
        reader.skip()?;
        reader.finish()?;
        return Err(OipError::Invalid(
            "the body is no JSON object: expected `{\"inputs\": [...]}`".to_owned(),
        ));
    }
    let mut request = InferRequest::default();
    let mut has_inputs = false;
    reader.object(|reader, key| {
        if reader.null()? {
            return Ok(());
        }
        match key {
            "id" => request.id = text(reader.value()?, "id")?,
            "inputs" => {
                has_inputs = true;
                request.inputs = read_list(reader, "inputs", read_input)?;
            }
            "outputs" => request.outputs = read_list(reader, "outputs", read_requested)?,
            "parameters" => request.parameters = read_parameters(reader)?.of_request()?,
            _ => reader.skip()?,
        }
        Ok::<(), OipError>(())
    })?;
    reader.finish()?;
    if has_inputs {
        Ok(request)
    } else {
        let message = "`inputs` is missing: expected a list of tensors";
        Err(OipError::Invalid(message.to_owned()))
    }
}

fn read_list<T>(
    reader: &mut Reader<'_>,
    what: &str,
    mut read: impl FnMut(&mut Reader<'_>, usize) -> Result<T, OipError>,
) -> Result<Vec<T>, OipError> {
    let mut items = Vec::new();
    let is_list = reader.each(|reader, index| {
        if index == MOST_TENSORS {
            return Err(OipError::Invalid(format!(
                "`{what}` has more than {MOST_TENSORS} entries"
            )));
        }
        if !reader.next_is_object()? {
            return Err(OipError::Invalid(format!("`{what}[{index}]` is no object")));
        }
        let item = read(reader, index)?;
        let meter = reader.meter();
        Ok(meter.push(&mut items, item)?)
    })?;
    if is_list {
        Ok(items)
    } else {
        Err(OipError::Invalid(format!("`{what}` must be a list")))
    }
}

fn read_input(reader: &mut Reader<'_>, index: usize) -> Result<Input, OipError> {
    let mut input = Input::default();
    reader.object(|reader, key| {
        if reader.null()? {
            return Ok(());
        }
        match key {
            "name" => input.name = name(reader.value()?)?,
            "datatype" => input.datatype = text(reader.value()?, "datatype")?,
            "shape" => input.shape = Some(dims(reader.value()?, index)?),
            "data" => input.data = Some(reader.value()?),
            "parameters" => input.parameters = read_parameters(reader)?,
            _ => reader.skip()?,
        }
        Ok::<(), OipError>(())
    })?;
    Ok(input)
}

fn read_requested(reader: &mut Reader<'_>, index: usize) -> Result<Requested, OipError> {
    let (mut name, mut parameters) = (None, Parameters::default());
    reader.object(|reader, key| {
        if reader.null()? {
            return Ok(());
        }
        match key {
            "name" => name = self::name(reader.value()?)?,
            "parameters" => parameters = read_parameters(reader)?,
            _ => reader.skip()?,
        }
        Ok::<(), OipError>(())
    })?;
    let name =
        name.ok_or_else(|| OipError::Invalid(format!("`outputs[{index}].name` is missing")))?;
    Requested::new(name, &parameters)
}

fn read_parameters(reader: &mut Reader<'_>) -> Result<Parameters, OipError> {
    let mut parameters = Parameters::default();
    if !reader.next_is_object()? {
        let message = "`parameters` must be an object".to_owned();
        return Err(OipError::Invalid(message));
    }
    reader.object(|reader, key| {
        if reader.null()? {
            return Ok(());
        }
        let name = reader.meter().text(key)?;
        parameters.push(name, parameter(reader.value()?))
    })?;
    Ok(parameters)
}

fn parameter(value: Json) -> Parameter {
    match value {
        Json::Bool(value) => Parameter::Bool(value),
        Json::Int(value) => Parameter::Int(value),
        Json::Big(digits) => match digits.parse() {
            Ok(value) => Parameter::Uint(value),
            Err(_) => digits.parse().map_or(Parameter::Other, Parameter::Float),
        },
        Json::Float(value) => Parameter::Float(value),
        Json::Text(value) => Parameter::Text(value),
        Json::Null | Json::Array(_) | Json::List(_) | Json::Object(_) => Parameter::Other,
    }
}

/// The name of a tensor, which messages show.
fn name(value: Json) -> Result<Option<String>, OipError> {
    let name = text(value, "name")?;
    match name {
        Some(name) if name.len() > MAX_NAME => Err(OipError::Invalid(format!(
            "the name of a tensor has {} bytes, more than {MAX_NAME}",
            name.len()
        ))),
        name => Ok(name),
    }
}

fn text(value: Json, key: &str) -> Result<Option<String>, OipError> {
    match value {
        Json::Text(text) => Ok(Some(text)),
        Json::Null => Ok(None),
        _ => Err(OipError::Invalid(format!("`{key}` is no string"))),
    }
}

fn dims(value: Json, index: usize) -> Result<Vec<i64>, OipError> {
    if let Json::Array(flat) = value
        && let Flat {
            shape,
            cells: Cells::Int(dims),
        } = *flat
        && shape.len() == 1
    {
        return Ok(dims);
    }
    Err(OipError::Invalid(format!(
        "`inputs[{index}].shape` must be a list of whole numbers from 0 up"
    )))
}

impl Input {
    /// The tensor: from its own JSON, or from what comes next in the bytes behind all of it. `content` is the request's.
    ///
    /// # Errors
    /// When a part is missing, or they contradict each other.
    pub(crate) fn into_tensor(
        self,
        section: &mut Section,
        meter: &Meter,
        content: Content,
    ) -> Result<(String, Tensor), OipError> {
        let name = self
            .name
            .ok_or_else(|| OipError::Invalid("an input has no `name`".to_owned()))?;
        let missing = |key: &str| OipError::Invalid(format!("input `{name}` has no `{key}`"));
        let datatype = self.datatype.ok_or_else(|| missing("datatype"))?;
        let shape = self.shape.ok_or_else(|| missing("shape"))?;
        let shape = raw::shape(&name, &shape)?;
        let dtype = raw::dtype(&name, &datatype)?;
        self.parameters.refuse_shared_memory(&name)?;
        let size = self.parameters.count("binary_data_size");
        let size = size.map_err(|error| OipError::Invalid(format!("input `{name}`: {error}")))?;
        let tensor = match (self.data, size) {
            (None, None) => return Err(missing("data")),
            (Some(data), None) => elements::tensor(&name, dtype, shape, data, meter)?,
            (None, Some(size)) => {
                let bytes = section.take(&name, size)?;
                raw::decode(&name, dtype, shape, bytes, meter)?
            }
            (Some(_), Some(_)) => {
                return Err(OipError::Invalid(format!(
                    "input `{name}` has both `data` and `binary_data_size`: expected one of them"
                )));
            }
        };
        let content = Content::named(&self.parameters)?.unwrap_or(content);
        let tensor = content.undone(&name, tensor)?;
        Ok((name, tensor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_as_many_tensors_as_it_may_and_no_more() {
        let body = |count: usize| format!("{{\"inputs\": [{}]}}", vec!["{}"; count].join(","));
        let read = parse(body(MOST_TENSORS).as_bytes(), &Meter::unlimited()).unwrap();
        assert_eq!(read.inputs.len(), MOST_TENSORS);
        let refused = parse(body(MOST_TENSORS + 1).as_bytes(), &Meter::unlimited()).unwrap_err();
        assert!(
            refused
                .to_string()
                .contains("`inputs` has more than 10000 entries"),
            "{refused}"
        );
    }
}
