//! gRPC on the port of HTTP.

use serde_json::json;

use super::*;

async fn multiplexed(flags: &[&str]) -> Server {
    let package = ["model-examples/iris", "--engine", "tract", "--grpc-on-http"];
    Server::start(&[&package[..], flags].concat()).await
}

#[tokio::test]
async fn the_port_of_http_speaks_both_when_asked() {
    let server = multiplexed(&["--base-path", "/models-api"]).await;
    let mut client = GrpcInferenceServiceClient::new(channel(server.address()).await);
    let answer = client.model_infer(flowers()).await.unwrap();
    assert_eq!(labels(answer.get_ref()), [0, 2]);
    let body = json!({ "inputs": [[5.1, 3.5, 1.4, 0.2]] });
    let path = "/models-api/invocations";
    let (status, answer) = server.post_json(path, body.to_string()).await;
    assert_eq!(status, 200, "{answer}");
    // And the other port still does.
    let mut client = GrpcInferenceServiceClient::new(channel(server.grpc_address()).await);
    client.model_infer(flowers()).await.unwrap();
}

#[tokio::test]
async fn limits_of_both_hold_on_the_one_port() {
    let server = multiplexed(&["--max-body", "4KiB"]).await;
    let mut client = GrpcInferenceServiceClient::new(channel(server.address()).await);
    let id = "x".repeat(5000);
    let error = client
        .model_infer(ModelInferRequest { id, ..flowers() })
        .await
        .unwrap_err();
    assert!(error.message().contains("`server.max_body`"), "{error}");
    for path in ["/invocations", "/inference.GRPCInferenceService/ModelInfer"] {
        let response = server
            .post(path, "application/json", "1".repeat(5000))
            .await;
        let expected = if path == "/invocations" { 413 } else { 404 };
        assert_eq!(response.status(), expected, "{path}");
    }
    let call = RawCall::infer(&flowers()).header("grpc-timeout", "0n");
    assert_eq!(call.send(server.address()).await.status, Some(4));
}

#[tokio::test]
async fn without_being_asked_it_speaks_http_alone() {
    let server = iris().await;
    let response = server
        .post(MODEL_INFER, "application/grpc", flowers().encode_to_vec())
        .await;
    assert_eq!(response.status(), 404);
}
