//! One inference: a message to tensors, outputs to a message.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use super::contents;
use super::inference::infer_parameter::ParameterChoice;
use super::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use super::inference::model_infer_response::InferOutputTensor;
use super::inference::{InferParameter, ModelInferRequest, ModelInferResponse};
use crate::budget::Allowance;
use crate::engine::Outputs;
use crate::model::Batch;
use crate::protocol::meter::Meter;
use crate::protocol::oip::content::{self, Content};
use crate::protocol::oip::error::OipError;
use crate::protocol::oip::outputs::{Requested, Selection, Sent};
use crate::protocol::oip::parameters::{Parameter, Parameters, RequestParameters};
use crate::protocol::oip::raw;
use crate::protocol::oip::selector::select;
use crate::protocol::state::Shared;
use crate::serving::{Answered, Codec, RequestId, RequestOptions, Servable};
use crate::telemetry::Protocol;
use crate::tensor::{DType, Tensor};

/// Runs a request; `timeout` is what the call allows.
pub(crate) async fn infer(
    shared: &Shared,
    (request, allowance): (ModelInferRequest, Allowance),
    timeout: Option<Duration>,
) -> Answered<ModelInferResponse, OipError> {
    let version = Some(request.model_version.as_str()).filter(|version| !version.is_empty());
    let selector = match select(request.model_name.clone(), version) {
        Ok(selector) => selector,
        Err(error) => {
            return Answered {
                model: None,
                result: Err(error),
            };
        }
    };
    let codec = InferCodec::new(request, timeout, allowance);
    let service = shared.service();
    service.metrics().request_size(codec.bytes);
    service.infer(Protocol::V2Grpc, &selector, codec).await
}

/// One request.
struct InferCodec {
    request: ModelInferRequest,
    bytes: usize,
    timeout: Option<Duration>,
    parameters: RequestParameters,
    selection: Selection,
    allowance: Allowance,
}

impl InferCodec {
    fn new(request: ModelInferRequest, timeout: Option<Duration>, allowance: Allowance) -> Self {
        Self {
            bytes: request.encoded_len(),
            request,
            timeout,
            parameters: RequestParameters::default(),
            selection: Selection::default(),
            allowance,
        }
    }
}

impl Codec for InferCodec {
    type Answer = ModelInferResponse;
    type Error = OipError;

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn decode(&mut self, servable: &Servable) -> Result<Batch, OipError> {
        let request = &mut self.request;
        self.parameters = parameters(std::mem::take(&mut request.parameters))?.of_request()?;
        let outputs = std::mem::take(&mut request.outputs);
        let requested: Result<Vec<_>, _> = outputs.into_iter().map(requested).collect();
        let signature = servable.signature();
        self.selection = Selection::new(&requested?, signature, true)?;
        let inputs = std::mem::take(&mut request.inputs);
        let raw = std::mem::take(&mut request.raw_input_contents);
        let mut named = tensors(inputs, raw, self.parameters.content)?;
        content::columns(signature, &mut named);
        Ok(signature.bind(named)?)
    }

    fn allowance(&self) -> Allowance {
        self.allowance.clone()
    }

    fn request_id(&self) -> Option<RequestId> {
        RequestId::given(self.request.id.as_bytes())
    }

    fn request_options(&self) -> RequestOptions {
        let timeouts = [self.timeout, self.parameters.request_options.timeout];
        RequestOptions {
            timeout: timeouts.into_iter().flatten().min(),
            ..self.parameters.request_options
        }
    }

    fn encode(self, servable: &Servable, outputs: Outputs) -> Result<ModelInferResponse, OipError> {
        // As bytes, and once more in the message that is sent.
        let of = (servable.signature(), &servable.package().labels);
        let size = self.selection.size(of, &outputs);
        self.allowance.charge(size.saturating_mul(2))?;
        let id = servable.id();
        let mut response = ModelInferResponse {
            model_name: id.name.as_str().to_owned(),
            model_version: id.version.to_string(),
            id: self.request.id,
            ..ModelInferResponse::default()
        };
        if self.parameters.empty_final_response {
            let is_final = parameter(ParameterChoice::BoolParam(true));
            let name = "triton_final_response".to_owned();
            response.parameters.insert(name, is_final);
        }
        for sent in self.selection.apply(of, &outputs)? {
            response
                .raw_output_contents
                .push(raw::encode(&sent.tensor)?);
            response.outputs.push(output(sent));
        }
        Ok(response)
    }
}

/// Named tensors: of bytes, one entry for each input, or of typed elements. `content` is the content type of inputs that
/// have none of their own.
fn tensors(
    inputs: Vec<InferInputTensor>,
    raw: Vec<Bytes>,
    content: Content,
) -> Result<Vec<(String, Tensor)>, OipError> {
    if raw.is_empty() {
        let inputs = inputs.into_iter();
        return inputs.map(|input| typed(input, content)).collect();
    }
    if let Some(input) = inputs.iter().find(|input| input.contents.is_some()) {
        return Err(OipError::Invalid(format!(
            "input `{}` has `contents` although the request has `raw_input_contents`: expected one of them",
            input.name
        )));
    }
    if inputs.len() != raw.len() {
        return Err(OipError::Invalid(format!(
            "the request has {} entries in `raw_input_contents`, expected one for each of its {} inputs",
            raw.len(),
            inputs.len()
        )));
    }
    let with_bytes = inputs.into_iter().zip(raw);
    let tensor = |(mut input, bytes): (InferInputTensor, Bytes)| {
        let (dtype, shape, own) = checked(&mut input)?;
        let tensor = raw::decode(&input.name, dtype, shape, bytes, &Meter::unlimited())?;
        let tensor = own.unwrap_or(content).undone(&input.name, tensor)?;
        Ok((input.name, tensor))
    };
    with_bytes.map(tensor).collect()
}

fn typed(mut input: InferInputTensor, content: Content) -> Result<(String, Tensor), OipError> {
    let (dtype, shape, own) = checked(&mut input)?;
    let contents = input.contents.unwrap_or_default();
    let tensor = contents::tensor(&input.name, dtype, shape, contents)?;
    let tensor = own.unwrap_or(content).undone(&input.name, tensor)?;
    Ok((input.name, tensor))
}

/// What both forms have to say of an input.
fn checked(input: &mut InferInputTensor) -> Result<(DType, Vec<usize>, Option<Content>), OipError> {
    let parameters = parameters(std::mem::take(&mut input.parameters))?;
    parameters.refuse_shared_memory(&input.name)?;
    let dtype = raw::dtype(&input.name, &input.datatype)?;
    let shape = raw::shape(&input.name, &input.shape)?;
    Ok((dtype, shape, Content::named(&parameters)?))
}

fn requested(output: InferRequestedOutputTensor) -> Result<Requested, OipError> {
    Requested::new(output.name, &parameters(output.parameters)?)
}

fn parameters(given: HashMap<String, InferParameter>) -> Result<Parameters, OipError> {
    let mut parameters = Parameters::default();
    for (name, value) in given {
        let value = match value.parameter_choice {
            Some(ParameterChoice::BoolParam(value)) => Parameter::Bool(value),
            Some(ParameterChoice::Int64Param(value)) => Parameter::Int(value),
            Some(ParameterChoice::Uint64Param(value)) => Parameter::Uint(value),
            Some(ParameterChoice::DoubleParam(value)) => Parameter::Float(value),
            Some(ParameterChoice::StringParam(value)) => Parameter::Text(value),
            None => Parameter::Other,
        };
        parameters.push(name, value)?;
    }
    Ok(parameters)
}

fn output(sent: Sent<'_>) -> InferOutputTensor {
    let dims = sent.tensor.shape().iter();
    let labels = sent.labels.map(|labels| {
        let labels = parameter(ParameterChoice::StringParam(labels));
        ("labels".to_owned(), labels)
    });
    InferOutputTensor {
        name: sent.name.to_owned(),
        datatype: sent.tensor.dtype().oip_name().to_owned(),
        shape: dims
            .map(|&dim| i64::try_from(dim).unwrap_or(i64::MAX))
            .collect(),
        parameters: labels.into_iter().collect(),
        contents: None,
    }
}

fn parameter(choice: ParameterChoice) -> InferParameter {
    InferParameter {
        parameter_choice: Some(choice),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::inference::InferTensorContents;
    use super::*;

    fn input(name: &str, contents: Option<Vec<f32>>) -> InferInputTensor {
        InferInputTensor {
            name: name.to_owned(),
            datatype: "FP32".to_owned(),
            shape: vec![1],
            contents: contents.map(|fp32_contents| InferTensorContents {
                fp32_contents,
                ..InferTensorContents::default()
            }),
            ..InferInputTensor::default()
        }
    }

    fn raw(value: f32) -> Bytes {
        value.to_le_bytes().to_vec().into()
    }

    fn message(inputs: Vec<InferInputTensor>, raw: Vec<Bytes>) -> String {
        tensors(inputs, raw, Content::Plain)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn typed_and_raw_elements_are_the_same_tensor() {
        let typed = tensors(vec![input("x", Some(vec![1.5]))], vec![], Content::Plain).unwrap();
        let raw = tensors(vec![input("x", None)], vec![raw(1.5)], Content::Plain).unwrap();
        assert_eq!(typed[0].1.bytes(), raw[0].1.bytes());
    }

    #[test]
    fn raw_bytes_are_not_copied() {
        let bytes = raw(1.5);
        let tensors = tensors(vec![input("x", None)], vec![bytes.clone()], Content::Plain).unwrap();
        assert_eq!(tensors[0].1.bytes().as_ptr(), bytes.as_ptr());
    }

    #[test]
    fn typed_and_raw_elements_exclude_each_other() {
        let both = vec![input("x", None), input("y", Some(vec![1.0]))];
        let said = message(both, vec![raw(1.0), raw(2.0)]);
        assert!(
            said.contains("`y`") && said.contains("`contents`"),
            "{said}"
        );
        let said = message(vec![input("x", None)], vec![raw(1.0), raw(2.0)]);
        assert!(said.contains('2') && said.contains('1'), "{said}");
        let said = message(vec![input("x", None)], vec![]);
        assert!(said.contains("`x`"), "{said}");
    }

    #[test]
    fn what_is_no_shape_or_datatype_is_named() {
        let mut negative = input("x", None);
        negative.shape = vec![-1];
        assert!(message(vec![negative], vec![raw(1.0)]).contains("[-1]"));
        let mut float = input("x", None);
        float.datatype = "FLOAT".to_owned();
        assert!(message(vec![float], vec![raw(1.0)]).contains("`FLOAT`"));
        let mut huge = input("x", None);
        huge.shape = vec![i64::MAX, i64::MAX];
        assert!(tensors(vec![huge.clone()], vec![raw(1.0)], Content::Plain).is_err());
        assert!(tensors(vec![huge], vec![], Content::Plain).is_err());
        let mut region = input("x", None);
        let name = "shared_memory_region".to_owned();
        let value = parameter(ParameterChoice::StringParam("r".to_owned()));
        region.parameters.insert(name, value);
        assert!(message(vec![region], vec![raw(1.0)]).contains("shared memory"));
    }

    /// An input whose parts may contradict each other.
    fn any_input() -> impl Strategy<Value = InferInputTensor> {
        let datatype = prop_oneof![
            Just("FP32"),
            Just("BOOL"),
            Just("BYTES"),
            Just("BF16"),
            Just("INT8"),
            Just("x"),
        ];
        let dim = prop_oneof![any::<i64>(), 0_i64..4];
        let shape = prop::collection::vec(dim, 0..4);
        let typed = (
            prop::collection::vec(any::<f32>(), 0..4),
            prop::collection::vec(any::<i32>(), 0..4),
            prop::collection::vec(prop::collection::vec(any::<u8>(), 0..4), 0..4),
        );
        (datatype, shape, prop::option::of(typed)).prop_map(|(datatype, shape, typed)| {
            let contents = typed.map(|(singles, ints, texts)| InferTensorContents {
                fp32_contents: singles,
                int_contents: ints,
                bytes_contents: texts.into_iter().map(Bytes::from).collect(),
                ..InferTensorContents::default()
            });
            InferInputTensor {
                name: "x".to_owned(),
                datatype: datatype.to_owned(),
                shape,
                contents,
                ..InferInputTensor::default()
            }
        })
    }

    proptest! {
        #[test]
        fn no_message_makes_a_tensor_that_is_not_full(
            inputs in prop::collection::vec(any_input(), 0..3),
            raw in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..3),
        ) {
            let raw = raw.into_iter().map(Bytes::from).collect();
            for (_, tensor) in tensors(inputs, raw, Content::Plain).unwrap_or_default() {
                let elements = match tensor.as_strings() {
                    Some(texts) => texts.len(),
                    None => tensor.bytes().len() / tensor.dtype().width().unwrap(),
                };
                prop_assert_eq!(elements, tensor.len());
            }
        }

        #[test]
        fn singles_come_through_bit_for_bit(values in prop::collection::vec(any::<f32>(), 1..20)) {
            let mut typed = input("x", Some(values.clone()));
            typed.shape = vec![i64::try_from(values.len()).unwrap()];
            let mut raw = typed.clone();
            raw.contents = None;
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let typed = tensors(vec![typed], vec![], Content::Plain).unwrap();
            let raw = tensors(vec![raw], vec![bytes.clone().into()], Content::Plain).unwrap();
            prop_assert_eq!(typed[0].1.bytes(), &bytes[..]);
            prop_assert_eq!(super::raw::encode(&raw[0].1).unwrap(), bytes);
        }
    }
}
