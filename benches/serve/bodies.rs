//! The requests.

use std::net::SocketAddr;

use onstage::tensor::{DType, Tensor};

use crate::client::Request;

/// A form in which the same row can be sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// MLflow's `inputs`.
    Invocations,
    /// The Open Inference Protocol as JSON.
    Json,
    /// The Open Inference Protocol, tensors as bytes both ways.
    Binary,
}

impl Form {
    pub(crate) const ALL: [Self; 3] = [Self::Invocations, Self::Json, Self::Binary];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Invocations => "/invocations",
            Self::Json => "OIP, JSON",
            Self::Binary => "OIP, binary",
        }
    }
}

/// The name of iris' only input.
pub(crate) const IRIS_INPUT: &str = "features";

/// A row of its data.
pub(crate) const IRIS_ROW: [f32; 4] = [5.1, 3.5, 1.4, 0.2];

/// A row of iris.
pub(crate) fn iris(address: SocketAddr, form: Form) -> Request {
    match form {
        Form::Invocations => Request::invocations(address, "[5.1, 3.5, 1.4, 0.2]"),
        Form::Json | Form::Binary => {
            let tensor = Tensor::from_vec(vec![1, 4], IRIS_ROW.to_vec()).expect("four numbers");
            infer(address, "iris", &[(IRIS_INPUT.to_owned(), tensor)], form)
        }
    }
}

/// The penguins' dataframe, as MLflow's clients send it.
pub(crate) fn penguins(address: SocketAddr) -> Request {
    let body = include_str!("../../model-examples/penguins/request.json");
    Request::new(address, "/invocations", body)
}

/// An infer request for these tensors.
pub(crate) fn infer(
    address: SocketAddr,
    model: &str,
    inputs: &[(String, Tensor)],
    form: Form,
) -> Request {
    let path = format!("/v2/models/{model}/infer");
    let describe = |(name, tensor): &(String, Tensor)| {
        let mut input = serde_json::json!({
            "name": name, "datatype": tensor.dtype().oip_name(), "shape": tensor.shape(),
        });
        if form == Form::Binary {
            input["parameters"] = serde_json::json!({ "binary_data_size": tensor.bytes().len() });
        } else {
            input["data"] = match tensor.dtype() {
                DType::I64 => serde_json::json!(tensor.to_vec::<i64>()),
                _ => serde_json::json!(tensor.to_vec::<f32>()),
            };
        }
        input
    };
    let described: Vec<_> = inputs.iter().map(describe).collect();
    if form != Form::Binary {
        let body = serde_json::json!({ "inputs": described }).to_string();
        return Request::new(address, &path, &body);
    }
    let parameters = serde_json::json!({ "binary_data_output": true });
    let head = serde_json::json!({ "inputs": described, "parameters": parameters }).to_string();
    let headers = format!(
        "Content-Type: application/octet-stream\r\nInference-Header-Content-Length: {}\r\n",
        head.len()
    );
    let mut body = head.into_bytes();
    for (_, tensor) in inputs {
        body.extend_from_slice(tensor.bytes());
    }
    Request::with_headers(address, &path, &headers, &body)
}
