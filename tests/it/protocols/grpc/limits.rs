//! Sizes, compression, deadlines and cancellation.

use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use rstest::rstest;
use tonic::Code;
use tonic::codec::CompressionEncoding;

use super::*;

const LIMIT: usize = 64 << 10;

async fn small() -> Server {
    let flags = ["--max-body", "64KiB"];
    let package = ["model-examples/iris", "--engine", "tract"];
    Server::start(&[&package[..], &flags].concat()).await
}

/// A request of exactly so many bytes; the id fills it.
fn of_size(size: usize) -> ModelInferRequest {
    let mut request = flowers();
    request.id = "x".repeat(size);
    let over = request.encoded_len() - size;
    request.id.truncate(size - over);
    assert_eq!(request.encoded_len(), size);
    request
}

#[tokio::test]
async fn a_message_of_the_limit_is_read_and_one_byte_more_is_not() {
    let server = small().await;
    let mut client = client(&server).await;
    let answer = client.model_infer(of_size(LIMIT)).await.unwrap();
    assert_eq!(labels(answer.get_ref()), [0, 2]);
    let error = client.model_infer(of_size(LIMIT + 1)).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("`server.max_body`"), "{error}");
    assert!(error.message().contains("65536"), "{error}");
    let refused = r#"onstage_requests_total{model="unknown",outcome="client_error",protocol="v2_grpc",version="unknown"}"#;
    assert_eq!(metric(&server, refused).await, 1.0);
    client.model_infer(flowers()).await.unwrap();
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[rstest]
#[case::gzip("gzip", gzip)]
#[case::deflate("deflate", deflate)]
#[tokio::test]
async fn the_limit_holds_for_what_is_inflated(
    #[case] encoding: &'static str,
    #[case] compress: fn(&[u8]) -> Vec<u8>,
) {
    let server = small().await;
    let send = |size: usize| {
        let message = compress(&of_size(size).encode_to_vec());
        assert!(message.len() < LIMIT, "it is small on its way");
        let call = RawCall::of(MODEL_INFER, 1, &message).header("grpc-encoding", encoding);
        call.send(server.grpc_address())
    };
    assert_eq!(send(LIMIT).await.status, None);
    for size in [LIMIT + 1, 100 * LIMIT] {
        let answer = send(size).await;
        assert_eq!(answer.status, Some(3), "{size}: {}", answer.message);
        assert!(
            answer.message.contains("`server.max_body`"),
            "{}",
            answer.message
        );
    }
}

#[rstest]
#[case::garbage(RawCall::of(MODEL_INFER, 0, b"\xff\xff\xff\xff"), 3)]
#[case::wrong_type(RawCall::of(MODEL_INFER, 0, b"\x08\x01"), 3)]
#[case::cut_off(RawCall { body: vec![0, 0, 0, 1, 0, 1], ..RawCall::of(MODEL_INFER, 0, b"") }, 3)]
#[case::nothing(RawCall { body: vec![], ..RawCall::of(MODEL_INFER, 0, b"") }, 3)]
#[case::flag(RawCall::of(MODEL_INFER, 7, b""), 3)]
#[case::not_compressed(RawCall::of(MODEL_INFER, 1, b"").header("grpc-encoding", "gzip"), 3)]
#[case::unknown_encoding(RawCall::of(MODEL_INFER, 1, b"").header("grpc-encoding", "zstd"), 12)]
#[case::unknown_method(RawCall::of("/inference.GRPCInferenceService/Nothing", 0, b""), 12)]
#[case::unknown_service(RawCall::of("/inference.Nothing/ModelInfer", 0, b""), 12)]
#[case::mixed_case(RawCall::of("/inference.grpcinferenceservice/modelinfer", 0, b""), 12)]
#[case::doubled(RawCall::of("//inference.GRPCInferenceService/ModelInfer", 0, b""), 12)]
#[tokio::test]
async fn a_call_that_is_none_is_refused(#[case] call: RawCall, #[case] code: i32) {
    let server = iris().await;
    let answer = call.send(server.grpc_address()).await;
    assert_eq!(answer.status, Some(code), "{}", answer.message);
    assert!(answer.headers.contains_key("x-request-id"));
    let answer = RawCall::infer(&flowers()).send(server.grpc_address()).await;
    assert_eq!(answer.status, None, "the server is well");
}

#[rstest]
#[case::gzip(CompressionEncoding::Gzip, "gzip")]
#[case::deflate(CompressionEncoding::Deflate, "deflate")]
#[tokio::test]
async fn answers_are_compressed_when_requests_are(
    #[case] encoding: CompressionEncoding,
    #[case] name: &'static str,
) {
    let server = iris().await;
    let mut client = client(&server)
        .await
        .send_compressed(encoding)
        .accept_compressed(encoding);
    let answer = client.model_infer(flowers()).await.unwrap();
    assert_eq!(labels(answer.get_ref()), [0, 2]);

    let compressed = if name == "gzip" { gzip } else { deflate }(&flowers().encode_to_vec());
    let accepts = "identity, deflate, gzip";
    let call = RawCall::of(MODEL_INFER, 1, &compressed).header("grpc-encoding", name);
    let call = call.header("grpc-accept-encoding", accepts);
    let answer = call.send(server.grpc_address()).await;
    assert_eq!(answer.encoding.as_deref(), Some(name));
    assert_eq!(answer.body[0], 1, "the message says that it is compressed");
    // Nearly every client accepts it; that alone is no wish.
    let call = RawCall::infer(&flowers()).header("grpc-accept-encoding", accepts);
    let answer = call.send(server.grpc_address()).await;
    assert_eq!((answer.encoding, answer.body[0]), (None, 0));
}

#[tokio::test]
async fn the_deadline_of_the_call_is_kept() {
    let server = patient("4").await;
    let call = RawCall::infer(&flowers()).header("grpc-timeout", "200m");
    let answer = call.send(server.grpc_address()).await;
    assert_eq!(answer.status, Some(4), "{}", answer.message);
    assert!(answer.message.contains("200ms"), "{}", answer.message);
    assert_eq!(ended(&server, "server_error").await, 1.0);
}

#[tokio::test]
async fn the_parameter_timeout_is_kept_too() {
    let server = patient("4").await;
    let timeout = parameter(ParameterChoice::Int64Param(200_000));
    let parameters = [("timeout".to_owned(), timeout)].into();
    let request = ModelInferRequest {
        parameters,
        ..flowers()
    };
    let error = client(&server)
        .await
        .model_infer(request)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
}

#[tokio::test]
async fn a_cancelled_request_is_not_run() {
    let server = patient("4").await;
    let mut client = client(&server).await;
    let mut cancelled = client.clone();
    let waiting = tokio::spawn(async move { cancelled.model_infer(flowers()).await });
    let queue = r#"onstage_queue_depth{model="iris"}"#;
    until("it waits", async || metric(&server, queue).await == 1.0).await;
    waiting.abort();
    until("it is counted", async || {
        ended(&server, "cancelled").await == 1.0
    })
    .await;
    // Four rows are a batch and wait for nobody.
    let raw = flowers().raw_input_contents[0].repeat(2).into();
    let four = ModelInferRequest {
        inputs: vec![input("features", "FP32", &[4, 4])],
        raw_input_contents: vec![raw],
        ..flowers()
    };
    let answer = client.model_infer(four).await.unwrap();
    assert_eq!(labels(answer.get_ref()), [0, 2, 0, 2]);
    let rows = r#"onstage_rows_total{model="iris",version="1"}"#;
    assert_eq!(metric(&server, rows).await, 4.0);
}

#[tokio::test]
async fn a_request_too_many_is_told_when_to_come_again() {
    let server = patient_with("4", &["--max-queue-size", "1"]).await;
    let mut client = client(&server).await;
    let mut first = client.clone();
    let waiting = tokio::spawn(async move { first.model_infer(flowers()).await });
    let queue = r#"onstage_queue_depth{model="iris"}"#;
    until("it waits", async || metric(&server, queue).await == 1.0).await;
    let error = client.model_infer(flowers()).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
    let again = error.metadata().get("grpc-retry-pushback-ms").unwrap();
    assert_eq!(again.to_str().unwrap(), "1000");
    assert_eq!(error.metadata().get("x-model-name").unwrap(), "iris");
    waiting.abort();
}

/// Waits for what must come.
pub(crate) async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !is_so().await {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
