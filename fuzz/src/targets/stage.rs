//! Models of every kind behind all protocols, without a socket.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::response::Parts;
use http_body_util::BodyExt;
use onstage::batching::{BatchObserver, Batcher, BatcherConfig, RunnerPool};
use onstage::budget::Budget;
use onstage::engine::fake::{Fake, package};
use onstage::engine::{CancelToken, Engine, EngineOptions};
use onstage::http::Entry;
use onstage::model::{Manifest, ModelName, Package, Version};
use onstage::protocol::{Grpc, ProtocolOptions, Shared, entry, router};
use onstage::serving::{
    Catalog, InferenceService, Limits, ModelEntry, Running, Servable, ServableParts, VersionEntry,
    VersionState,
};
use onstage::telemetry::{DURATION_BUCKETS, Metrics};
use onstage::tensor::DType;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tower::ServiceExt;

/// Bytes of the largest body: small, so that a body that grows is found out.
pub(super) const MAX_BODY: usize = 1 << 20;

/// Bytes that all requests may hold.
pub(super) const MEMORY: usize = 8 << 20;

/// The models, by name; the first is the one behind paths without a name.
pub(super) const MODELS: [&str; 5] = ["plain", "table", "text", "kinds", "pair"];

/// The path in front of every other on the second server.
pub(super) const BASE_PATH: &str = "/api";

const TABLE: &str = r#"
flavors: { onnx: { data: model.onnx, onnx_version: 1.19.0 } }
signature:
  inputs: '[{"type": "double", "name": "a", "required": true}, {"type": "string", "name": "b", "required": true},
    {"type": "long", "name": "c", "required": true}, {"type": "boolean", "name": "d", "required": false},
    {"type": "array", "items": {"type": "float"}, "name": "e", "required": true}]'
  outputs: null
  params: '[{"name": "p", "type": "long", "default": 1, "shape": null}]'
"#;

const PAIR: &str = r#"
flavors: { onnx: { data: model.onnx, onnx_version: 1.19.0 } }
signature:
  inputs: '[{"name": "a", "type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, -1]}},
    {"name": "b", "type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1, -1]}}]'
  outputs: null
  params: null
"#;

/// See the module.
pub(super) struct Stage {
    runtime: Runtime,
    plain: Entry,
    based: Entry,
    grpc: Router,
}

/// An answer as it would be on the wire.
pub(super) struct Answered {
    pub(super) head: Parts,
    pub(super) body: Bytes,
    pub(super) trailers: HeaderMap,
}

/// The only one of the process.
pub(super) fn stage() -> &'static Stage {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    STAGE.get_or_init(Stage::new)
}

impl Stage {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("the system gives a runtime");
        let _inside = runtime.enter();
        let catalog = Arc::new(Catalog::default());
        let metrics = Arc::new(Metrics::new(&DURATION_BUCKETS));
        let pool = Arc::new(RunnerPool::new(1).expect("the system gives a thread"));
        for package in packages() {
            publish(&catalog, package, &metrics, &pool);
        }
        let served = |base_path: &str| {
            let options = ProtocolOptions {
                max_body: MAX_BODY,
                budget: Budget::new(MEMORY),
                base_path: base_path.to_owned(),
                ..ProtocolOptions::default()
            };
            let service = InferenceService::new(Arc::clone(&catalog), Arc::clone(&metrics));
            Shared::new(service, options, watch::channel(Running::default()).1)
        };
        let (shared, prefixed) = (served(""), served(BASE_PATH));
        let plain = entry(&shared, router(&shared));
        let based = entry(&prefixed, router(&prefixed));
        let grpc = Grpc::new(&shared).router;
        drop(_inside);
        Self {
            runtime,
            plain,
            based,
            grpc,
        }
    }

    /// What the server answers over HTTP.
    pub(super) fn http(&self, request: Request) -> Answered {
        let answer = self.plain.clone().oneshot(request);
        self.runtime.block_on(async {
            let Ok(response) = answer.await;
            whole(response).await
        })
    }

    /// The same of the server that has a path in front of every other.
    pub(super) fn based(&self, request: Request) -> Answered {
        let answer = self.based.clone().oneshot(request);
        self.runtime.block_on(async {
            let Ok(response) = answer.await;
            whole(response).await
        })
    }

    /// What the server answers over gRPC.
    pub(super) fn grpc(&self, request: Request) -> Answered {
        let answer = self.grpc.clone().oneshot(request);
        self.runtime.block_on(async {
            let Ok(response) = answer.await;
            whole(response).await
        })
    }

    /// Waits for something that is not a request.
    pub(super) fn wait_for<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }
}

async fn whole(response: axum::response::Response) -> Answered {
    let (head, body) = response.into_parts();
    let collected = Body::collect(body).await.expect("an answer is whole");
    let trailers = collected.trailers().cloned().unwrap_or_default();
    let body = collected.to_bytes();
    Answered {
        head,
        body,
        trailers,
    }
}

fn packages() -> [Package; 5] {
    let manifest = |text: &str| Manifest::parse(text.as_bytes()).expect("the text is a manifest");
    let table = [
        ("a", DType::F64),
        ("b", DType::String),
        ("c", DType::I64),
        ("d", DType::Bool),
        ("e", DType::F32),
    ];
    let kinds = [
        ("BOOL", DType::Bool),
        ("UINT8", DType::U8),
        ("INT8", DType::I8),
        ("INT16", DType::I16),
        ("INT32", DType::I32),
        ("UINT64", DType::U64),
        ("FP16", DType::F16),
        ("BF16", DType::Bf16),
        ("FP64", DType::F64),
        ("BYTES", DType::String),
    ];
    let [plain, of_table, text, of_kinds, of_pair] = MODELS;
    let pair = [("a", DType::F64), ("b", DType::I64)];
    [
        package(plain, 1, &[("x", DType::F32)]),
        Package {
            manifest: manifest(TABLE),
            ..package(of_table, 1, &table)
        },
        package(text, 1, &[("s", DType::String)]),
        package(of_kinds, 1, &kinds),
        Package {
            manifest: manifest(PAIR),
            ..package(of_pair, 1, &pair)
        },
    ]
}

fn publish(catalog: &Catalog, package: Package, metrics: &Metrics, pool: &Arc<RunnerPool>) {
    let engine = Fake::default();
    let options = EngineOptions::default();
    let model = engine.compile(&package, &options, &CancelToken::new());
    let model = model.expect("this engine takes every package");
    let (name, version) = (package.id.name.clone(), package.id.version);
    let series = metrics.version(name.as_str(), &version.to_string(), "fake", &package.digest);
    let config = BatcherConfig {
        max_queue_size: 16,
        instances: 1,
        groups: false,
        max_rows: None,
        max_delay: Duration::ZERO,
        // On the thread of the request as soon as the engine is known to be quick.
        in_place: Duration::from_secs(1),
    };
    let observer = Arc::clone(&series) as Arc<dyn BatchObserver>;
    let batcher = Batcher::new(Arc::clone(&model), Arc::clone(pool), config, observer);
    let limits = Limits {
        request_timeout: Duration::from_secs(60),
        max_concurrency: None,
        max_rows: None,
    };
    let servable = Servable::new(ServableParts {
        package,
        engine: "fake",
        model: &*model,
        batcher,
        limits,
        metrics: series,
    });
    let entry = VersionEntry {
        state: VersionState::Ready,
        servable: Some(Arc::new(servable)),
    };
    catalog.update(|snapshot| {
        let default = ModelName::new(MODELS[0]).expect("it is a name");
        snapshot.default_model = Some(default);
        snapshot.known = true;
        let model = ModelEntry {
            versions: [(Version(1), entry)].into(),
            default: Some(Version(1)),
            ..ModelEntry::default()
        };
        snapshot.models.insert(name, model);
    });
}
