//! What servers and models tell about themselves: the same as over REST.

use std::collections::BTreeMap;

use onstage::protocol::inference::{
    ModelConfigRequest, ModelMetadataRequest, ModelReadyRequest, ModelStatisticsRequest,
    RepositoryIndexRequest, RepositoryModelLoadRequest, RepositoryModelUnloadRequest,
    ServerLiveRequest, ServerMetadataRequest, ServerReadyRequest,
    SystemSharedMemoryRegisterRequest, SystemSharedMemoryStatusRequest,
    SystemSharedMemoryUnregisterRequest, TraceSettingRequest, model_config, trace_setting_request,
};
use serde_json::{Value, json};
use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::{v1, v1alpha};

use super::*;

async fn rest(server: &Server, path: &str) -> Value {
    let response = server.get(path).await;
    assert_eq!(response.status(), 200, "{path}");
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

fn named(name: &str, version: &str) -> (String, String) {
    (name.to_owned(), version.to_owned())
}

#[tokio::test]
async fn the_server_is_live_and_ready_and_has_the_metadata_of_rest() {
    let server = iris().await;
    let mut client = client(&server).await;
    let live = client.server_live(ServerLiveRequest {}).await.unwrap();
    let ready = client.server_ready(ServerReadyRequest {}).await.unwrap();
    assert!(live.get_ref().live && ready.get_ref().ready);
    let told = client.server_metadata(ServerMetadataRequest {}).await;
    let told = told.unwrap().into_inner();
    let told = json!({ "name": told.name, "version": told.version, "extensions": told.extensions });
    assert_eq!(told, rest(&server, "/v2").await);
    let extensions = told["extensions"].as_array().unwrap();
    for extension in ["model_configuration", "statistics"] {
        assert!(extensions.contains(&json!(extension)), "{told}");
    }
}

#[tokio::test]
async fn a_model_is_ready_or_not() {
    let server = iris().await;
    let mut client = client(&server).await;
    for (name, version, expected) in [
        ("iris", "", true),
        ("iris", "1", true),
        ("iris", "7", false),
        ("iris", "newest", false),
        ("rose", "", false),
        ("", "", false),
    ] {
        let (name, version) = named(name, version);
        let request = ModelReadyRequest { name, version };
        let answer = client.model_ready(request.clone()).await.unwrap();
        assert_eq!(answer.get_ref().ready, expected, "{request:?}");
    }
}

#[tokio::test]
async fn a_model_has_the_metadata_of_rest() {
    let server = iris().await;
    let (name, version) = named("iris", "1");
    let request = ModelMetadataRequest { name, version };
    let told = client(&server).await.model_metadata(request).await.unwrap();
    let told = told.into_inner();
    let tensors =
        |all: &[onstage::protocol::inference::model_metadata_response::TensorMetadata]| {
            let all = all.iter().map(
                |one| json!({ "name": one.name, "datatype": one.datatype, "shape": one.shape }),
            );
            Value::Array(all.collect())
        };
    let properties: BTreeMap<_, _> = told.properties.iter().collect();
    let told = json!({
        "name": told.name,
        "versions": told.versions,
        "platform": told.platform,
        "inputs": tensors(&told.inputs),
        "outputs": tensors(&told.outputs),
        "properties": properties,
    });
    assert_eq!(told, rest(&server, "/v2/models/iris").await);
}

#[tokio::test]
async fn a_model_that_takes_rows_has_a_configuration_without_them() {
    let flags = ["--max-batch-size", "16", "--max-queue-delay", "2ms"];
    let package = ["model-examples/iris", "--engine", "tract"];
    let server = Server::start(&[&package[..], &flags].concat()).await;
    let (name, version) = named("iris", "");
    let request = ModelConfigRequest { name, version };
    let told = client(&server).await.model_config(request).await.unwrap();
    let config = told.into_inner().config.unwrap();
    let json = rest(&server, "/v2/models/iris/config").await;
    assert_eq!(
        json,
        rest(&server, "/v2/models/iris/versions/1/config").await
    );
    assert_eq!(config.max_batch_size, 16);
    assert_eq!(json["max_batch_size"], 16);
    assert_eq!(
        (config.input[0].dims.as_slice(), config.input[0].data_type),
        (&[4][..], 11)
    );
    let input = json!([{ "name": "features", "data_type": "TYPE_FP32", "dims": [4] }]);
    assert_eq!(json["input"], input);
    // A label is nothing but a row.
    let label = &config.output[0];
    assert_eq!((label.dims.as_slice(), label.data_type), (&[1][..], 9));
    assert_eq!(label.reshape.clone().unwrap().shape, Vec::<i64>::new());
    assert_eq!(json["output"][0]["reshape"], json!({ "shape": [] }));
    let Some(model_config::SchedulingChoice::DynamicBatching(batching)) = config.scheduling_choice
    else {
        panic!("no batching");
    };
    assert_eq!(batching.preferred_batch_size, [16]);
    assert_eq!(batching.max_queue_delay_microseconds, 2000);
    assert_eq!(
        json["dynamic_batching"]["preferred_batch_size"],
        json!([16])
    );
    let queue = batching.default_queue_policy.unwrap();
    assert_eq!(queue.default_timeout_microseconds, 60_000_000);
    assert_eq!(queue.max_queue_size, 1024);
    assert_eq!(config.backend, "tract");
    assert_eq!(json["instance_group"][0]["kind"], "KIND_CPU");
    assert!(config.instance_group[0].count > 0);
    assert_eq!(config.parameters["engine"].string_value, "tract");
    assert_eq!(json["parameters"]["engine"]["string_value"], "tract");
    assert_eq!(json["version_policy"]["specific"]["versions"], json!([1]));
    assert_eq!(json["model_transaction_policy"]["decoupled"], false);
}

#[tokio::test]
async fn a_model_whose_rows_depend_on_each_other_takes_none() {
    // It gives its rows twice.
    let server =
        Server::start(&["tests/models/twice_float32.onnx", "--engine", "onnxruntime"]).await;
    let config = rest(&server, "/v2/models/twice_float32/config").await;
    assert_eq!(config["max_batch_size"], 0);
    assert_eq!(config["input"][0]["dims"].as_array().unwrap().len(), 2);
    assert!(config.get("dynamic_batching").is_none(), "{config}");
}

#[tokio::test]
async fn statistics_count_what_was_asked_since_the_load() {
    let server = iris().await;
    let fresh = rest(&server, "/v2/models/iris/stats").await;
    let nothing = json!({ "count": 0, "ns": 0 });
    let model = &fresh["model_stats"][0];
    assert_eq!(
        (&model["name"], &model["version"]),
        (&json!("iris"), &json!("1"))
    );
    for count in ["last_inference", "inference_count", "execution_count"] {
        assert_eq!(model[count], 0, "the warm-up is none of them: {fresh}");
    }
    assert!(
        model["inference_stats"]
            .as_object()
            .unwrap()
            .values()
            .all(|sum| *sum == nothing)
    );
    assert_eq!(
        (&model["batch_stats"], &model["response_stats"]),
        (&json!([]), &json!({}))
    );
    assert!(model["memory_usage"][0]["byte_size"].as_u64().unwrap() > 0);

    let mut client = client(&server).await;
    for _ in 0..3 {
        client.model_infer(flowers()).await.unwrap();
    }
    let wrong = ModelInferRequest {
        inputs: vec![],
        ..flowers()
    };
    client.model_infer(wrong).await.unwrap_err();
    let (name, version) = named("iris", "1");
    let request = ModelStatisticsRequest { name, version };
    let told = client.model_statistics(request).await.unwrap().into_inner();
    let [model] = &told.model_stats[..] else {
        panic!("{told:?}")
    };
    assert_eq!((model.inference_count, model.execution_count), (6, 3));
    assert!(model.last_inference > 1_700_000_000_000);
    let sums = model.inference_stats.as_ref().unwrap();
    let count = |sum: &Option<onstage::protocol::inference::StatisticDuration>| {
        let sum = sum.as_ref().unwrap();
        assert!(sum.count == 0 || sum.ns > 0, "{sums:?}");
        sum.count
    };
    assert_eq!((count(&sums.success), count(&sums.fail)), (3, 1));
    assert_eq!(
        (count(&sums.compute_input), count(&sums.compute_output)),
        (3, 3)
    );
    assert_eq!(count(&sums.compute_infer), 3);
    assert_eq!(sums.queue.as_ref().unwrap().count, 3);
    let [batch] = &model.batch_stats[..] else {
        panic!("{told:?}")
    };
    assert_eq!((batch.batch_size, count(&batch.compute_infer)), (2, 3));
    for path in [
        "/v2/models/stats",
        "/v2/models/iris/stats",
        "/v2/models/iris/versions/1/stats",
    ] {
        let json = rest(&server, path).await;
        assert_eq!(
            json["model_stats"][0]["inference_stats"]["success"]["count"], 3,
            "{path}"
        );
        assert_eq!(
            json["model_stats"][0]["batch_stats"][0]["batch_size"], 2,
            "{path}"
        );
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let server = iris().await;
    let mut client = client(&server).await;
    for (name, version) in [("rose", ""), ("iris", "7"), ("iris", "newest")] {
        let (name, version) = named(name, version);
        let metadata = ModelMetadataRequest {
            name: name.clone(),
            version: version.clone(),
        };
        let config = ModelConfigRequest {
            name: name.clone(),
            version: version.clone(),
        };
        let statistics = ModelStatisticsRequest {
            name: name.clone(),
            version: version.clone(),
        };
        let codes = [
            client.model_metadata(metadata).await.unwrap_err().code(),
            client.model_config(config).await.unwrap_err().code(),
            client
                .model_statistics(statistics)
                .await
                .unwrap_err()
                .code(),
        ];
        assert_eq!(codes, [Code::NotFound; 3], "{name} {version}");
        let path = if version.is_empty() {
            format!("/v2/models/{name}")
        } else {
            format!("/v2/models/{name}/versions/{version}")
        };
        for what in ["", "/config", "/stats"] {
            let response = server.get(&format!("{path}{what}")).await;
            assert_eq!(response.status(), 404, "{path}{what}");
        }
    }
}

#[tokio::test]
async fn the_repository_is_listed_and_changed_elsewhere() {
    let server = iris().await;
    let mut client = client(&server).await;
    let listed = client
        .repository_index(RepositoryIndexRequest::default())
        .await;
    let listed = listed.unwrap().into_inner().models;
    let [row] = &listed[..] else {
        panic!("{listed:?}")
    };
    assert_eq!(
        (&*row.name, &*row.version, &*row.state),
        ("iris", "1", "READY")
    );
    let load = client
        .repository_model_load(RepositoryModelLoadRequest::default())
        .await;
    let unload = client
        .repository_model_unload(RepositoryModelUnloadRequest::default())
        .await;
    for error in [load.unwrap_err(), unload.unwrap_err()] {
        assert_eq!(error.code(), Code::PermissionDenied);
        assert!(error.message().contains("--admin-port"), "{error}");
    }
}

#[tokio::test]
async fn what_is_not_offered_says_so_and_tidying_up_does_no_harm() {
    let server = iris().await;
    let mut client = client(&server).await;
    let status = client
        .system_shared_memory_status(SystemSharedMemoryStatusRequest::default())
        .await;
    assert!(status.unwrap().get_ref().regions.is_empty());
    let unregister = SystemSharedMemoryUnregisterRequest::default();
    client
        .system_shared_memory_unregister(unregister)
        .await
        .unwrap();
    let register = SystemSharedMemoryRegisterRequest::default();
    let error = client
        .system_shared_memory_register(register)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
    let trace = client
        .trace_setting(TraceSettingRequest::default())
        .await
        .unwrap();
    assert_eq!(trace.get_ref().settings["trace_level"].value, ["OFF"]);
    let value = trace_setting_request::SettingValue {
        value: vec!["TIMESTAMPS".to_owned()],
    };
    let settings = [("trace_level".to_owned(), value)].into();
    let change = TraceSettingRequest {
        settings,
        ..TraceSettingRequest::default()
    };
    let error = client.trace_setting(change).await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
}

#[tokio::test]
async fn each_service_has_a_health() {
    let server = iris().await;
    let mut client = HealthClient::new(channel(server.grpc_address()).await);
    for service in ["", "inference.GRPCInferenceService"] {
        let service = service.to_owned();
        let answer = client.check(HealthCheckRequest { service }).await.unwrap();
        assert_eq!(answer.get_ref().status(), ServingStatus::Serving);
    }
    let service = "another".to_owned();
    let error = client
        .check(HealthCheckRequest { service })
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
}

const SERVICES: [&str; 2] = ["inference.GRPCInferenceService", "grpc.health.v1.Health"];

#[tokio::test]
async fn reflection_tells_the_services_in_both_versions() {
    let server = iris().await;
    let channel = channel(server.grpc_address()).await;
    let list = v1::server_reflection_request::MessageRequest::ListServices(String::new());
    let request = v1::ServerReflectionRequest {
        message_request: Some(list),
        ..Default::default()
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let answers = client
        .server_reflection_info(tokio_stream::once(request))
        .await;
    let answer = answers.unwrap().into_inner().next().await.unwrap().unwrap();
    let told = format!("{answer:?}");
    assert!(
        SERVICES.iter().all(|service| told.contains(service)),
        "{told}"
    );

    let symbol = SERVICES[0].to_owned();
    let list = v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(symbol);
    let request = v1alpha::ServerReflectionRequest {
        message_request: Some(list),
        ..Default::default()
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let answers = client
        .server_reflection_info(tokio_stream::once(request))
        .await;
    let answer = answers.unwrap().into_inner().next().await.unwrap().unwrap();
    let files = answer.message_response.unwrap();
    let v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(files) = files
    else {
        panic!("{files:?}");
    };
    assert!(!files.file_descriptor_proto.is_empty());
}
