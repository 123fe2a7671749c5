//! Open Inference Protocol v2 over gRPC, as its clients use it.

mod describe;
mod infer;
mod limits;
mod port;
mod stream;

use bytes::Bytes;
use http_body_util::BodyExt;
use onstage::protocol::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use onstage::protocol::inference::infer_parameter::ParameterChoice;
use onstage::protocol::inference::model_infer_request::{
    InferInputTensor, InferRequestedOutputTensor,
};
use onstage::protocol::inference::{InferParameter, ModelInferRequest, ModelInferResponse};
use prost::Message;
use tonic::transport::{Channel, Endpoint};

use crate::support::server::{Server, Starter};

pub(crate) type Client = GrpcInferenceServiceClient<Channel>;

const MODEL_INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

async fn iris() -> Server {
    Server::start(&["model-examples/iris", "--engine", "tract"]).await
}

/// A server whose requests wait for company until there are so many rows.
async fn patient(rows: &str) -> Server {
    patient_with(rows, &[]).await
}

async fn patient_with(rows: &str, more: &[&str]) -> Server {
    let package = ["model-examples/iris", "--engine", "tract"];
    let flags = ["--max-batch-size", rows, "--max-queue-delay", "50s"];
    let starter = Starter::serve(&[&package[..], &flags, more].concat());
    // The warm-up would wait, too.
    starter
        .env("ONSTAGE_MODELS__IRIS__WARMUP", "false")
        .start()
        .await
}

async fn channel(address: std::net::SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect().await.unwrap()
}

pub(crate) async fn client(server: &Server) -> Client {
    client_at(server.grpc_address()).await
}

pub(crate) async fn client_at(address: std::net::SocketAddr) -> Client {
    GrpcInferenceServiceClient::new(channel(address).await)
}

/// Two flowers, as bytes.
pub(crate) fn flowers() -> ModelInferRequest {
    let rows = [5.1_f32, 3.5, 1.4, 0.2, 6.3, 3.3, 6.0, 2.5];
    ModelInferRequest {
        model_name: "iris".to_owned(),
        inputs: vec![input("features", "FP32", &[2, 4])],
        raw_input_contents: vec![bytes(&rows.map(f32::to_le_bytes).concat())],
        ..ModelInferRequest::default()
    }
}

pub(crate) fn input(name: &str, datatype: &str, shape: &[i64]) -> InferInputTensor {
    InferInputTensor {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape: shape.to_vec(),
        ..InferInputTensor::default()
    }
}

fn wanted(name: &str, parameters: &[(&str, ParameterChoice)]) -> InferRequestedOutputTensor {
    let parameters = parameters.iter();
    InferRequestedOutputTensor {
        name: name.to_owned(),
        parameters: parameters
            .map(|(name, value)| ((*name).to_owned(), parameter(value.clone())))
            .collect(),
    }
}

fn parameter(choice: ParameterChoice) -> InferParameter {
    InferParameter {
        parameter_choice: Some(choice),
    }
}

fn bytes(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// The names and bytes of the outputs.
fn outputs(answer: &ModelInferResponse) -> Vec<(&str, &[u8])> {
    assert_eq!(answer.outputs.len(), answer.raw_output_contents.len());
    let outputs = answer.outputs.iter().zip(&answer.raw_output_contents);
    outputs
        .map(|(output, bytes)| (output.name.as_str(), &bytes[..]))
        .collect()
}

fn labels(answer: &ModelInferResponse) -> Vec<i64> {
    let outputs = outputs(answer);
    let (_, bytes) = outputs.iter().find(|(name, _)| *name == "label").unwrap();
    let labels = bytes.chunks_exact(8);
    labels
        .map(|label| i64::from_le_bytes(label.try_into().unwrap()))
        .collect()
}

/// A call without a client of gRPC between: what it is answered, with status and headers.
pub(crate) struct RawCall {
    path: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    body: Vec<u8>,
}

impl RawCall {
    fn infer(request: &ModelInferRequest) -> Self {
        Self::of(MODEL_INFER, 0, &request.encode_to_vec())
    }

    /// `flag` is 1 for a compressed message.
    pub(crate) fn of(path: &'static str, flag: u8, message: &[u8]) -> Self {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        Self {
            path,
            headers: Vec::new(),
            body: [&[flag][..], &length, message].concat(),
        }
    }

    pub(crate) fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(crate) async fn send(self, address: std::net::SocketAddr) -> RawAnswer {
        onstage::network::install_provider();
        let client = reqwest::Client::builder();
        let client = client.no_proxy().http2_prior_knowledge().build().unwrap();
        let mut request = client
            .post(format!("http://{address}{}", self.path))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        let response = request.body(self.body).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let headers = response.headers().clone();
        let body = axum::http::Response::from(response).into_body();
        let body = body.collect().await.unwrap();
        // Of an answer with a message the status comes behind that.
        let trailers = body.trailers().cloned().unwrap_or_default();
        let header = |name: &str| {
            let value = headers.get(name).or_else(|| trailers.get(name))?;
            let text = percent_encoding::percent_decode(value.as_bytes());
            Some(text.decode_utf8().unwrap().into_owned())
        };
        let status = header("grpc-status").map(|status| status.parse().unwrap());
        RawAnswer {
            status: status.filter(|status| *status != 0),
            message: header("grpc-message").unwrap_or_default(),
            encoding: header("grpc-encoding"),
            headers,
            body: body.to_bytes(),
        }
    }
}

pub(crate) struct RawAnswer {
    /// `None` for success.
    pub(crate) status: Option<i32>,
    pub(crate) message: String,
    encoding: Option<String>,
    pub(crate) headers: reqwest::header::HeaderMap,
    body: Bytes,
}

/// A line of `/metrics`; 0 when it is not there.
async fn metric(server: &Server, series: &str) -> f64 {
    let text = server.get("/metrics").await.text().await.unwrap();
    let line = text.lines().find(|line| line.starts_with(series));
    line.map_or(0.0, |line| {
        line.rsplit(' ').next().unwrap().parse().unwrap()
    })
}

/// Requests over gRPC that ended so.
async fn ended(server: &Server, outcome: &str) -> f64 {
    let series = format!(
        r#"onstage_requests_total{{model="iris",outcome="{outcome}",protocol="v2_grpc",version="1"}}"#
    );
    metric(server, &series).await
}
