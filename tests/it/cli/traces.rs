//! Traces: what a collector gets, and what happens without one.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use reqwest::Method;

use crate::lifecycle::swap::scene::{counter, metrics, until};
use crate::support::server::{Server, Starter};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const IRIS: &str = "model-examples/iris";
const EXAMPLE: &str = include_str!("../../../model-examples/iris/request.json");

/// A collector over HTTP, which keeps what it gets.
struct Collector {
    url: String,
    bodies: Arc<Mutex<Vec<Bytes>>>,
}

impl Collector {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let bodies: Arc<Mutex<Vec<Bytes>>> = Arc::default();
        let take = async |State(bodies): State<Arc<Mutex<Vec<Bytes>>>>, body: Bytes| {
            bodies.lock().unwrap().push(body);
        };
        let router = Router::new().route("/v1/traces", post(take));
        let router = router.with_state(Arc::clone(&bodies));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, bodies }
    }

    /// Whether it got these bytes; names and ids stand in the messages as they are.
    fn got(&self, what: &[u8]) -> bool {
        let bodies = self.bodies.lock().unwrap();
        let in_body = |body: &Bytes| body.windows(what.len()).any(|window| window == what);
        bodies.iter().any(in_body)
    }

    async fn serve(&self, flags: &[&str]) -> Server {
        let arguments = [
            &[IRIS, "--engine", "tract", "--otlp-endpoint", &self.url],
            flags,
        ]
        .concat();
        let starter = Starter::serve(&arguments).env("OTEL_BSP_SCHEDULE_DELAY", "50");
        starter.start().await
    }
}

fn bytes_of(id: &str) -> Vec<u8> {
    let digits = (0..id.len()).step_by(2);
    digits
        .map(|at| u8::from_str_radix(&id[at..at + 2], 16).unwrap())
        .collect()
}

async fn predict(server: &Server, traceparent: Option<&str>) -> u16 {
    let request = server.request(Method::POST, "/models/iris/invocations");
    let request = match traceparent {
        Some(parent) => request.header("traceparent", parent),
        None => request,
    };
    let request = request.header("content-type", "application/json");
    request
        .body(EXAMPLE)
        .send()
        .await
        .unwrap()
        .status()
        .as_u16()
}

#[tokio::test]
async fn a_request_and_the_load_of_its_model_are_traced() {
    let collector = Collector::start().await;
    let server = collector.serve(&["--access-log", "all"]).await;
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    assert_eq!(predict(&server, Some(&parent)).await, 200);
    let trace = bytes_of(TRACE);
    let expected: [&[u8]; 8] = [
        &trace,
        b"POST /models/{name}/invocations",
        b"batch",
        b"infer",
        b"onstage.model.version",
        b"swap",
        b"compile",
        b"publish",
    ];
    for what in expected {
        let name = String::from_utf8_lossy(what).into_owned();
        until(&name, &server, async || collector.got(what)).await;
    }
    assert!(!collector.got(b"/ping"), "probes are not traced");
    let told = format!(r#""trace_id":"{TRACE}""#);
    server.logged(&[&told]).await;
}

#[tokio::test]
async fn what_the_client_does_not_sample_is_not_traced_but_logged() {
    let collector = Collector::start().await;
    let server = collector.serve(&["--access-log", "all"]).await;
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-00");
    assert_eq!(predict(&server, Some(&parent)).await, 200);
    let other = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{other}-00f067aa0ba902b7-01");
    assert_eq!(predict(&server, Some(&parent)).await, 200);
    until("the sampled one", &server, async || {
        collector.got(&bytes_of(other))
    })
    .await;
    assert!(!collector.got(&bytes_of(TRACE)));
    let told = format!(r#""trace_id":"{TRACE}""#);
    server.logged(&[&told]).await;
}

#[tokio::test]
async fn the_last_spans_are_sent_before_the_process_ends() {
    let collector = Collector::start().await;
    let arguments = [IRIS, "--engine", "tract", "--otlp-endpoint", &collector.url];
    let slow = Starter::serve(&arguments).env("OTEL_BSP_SCHEDULE_DELAY", "600000");
    let server = slow.start().await;
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    assert_eq!(predict(&server, Some(&parent)).await, 200);
    assert!(!collector.got(&bytes_of(TRACE)));
    let ended = server.terminate().await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(collector.got(&bytes_of(TRACE)));
}

#[tokio::test]
async fn a_collector_that_is_not_there_disturbs_nothing() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let collector = Collector {
        url: format!("http://{address}"),
        bodies: Arc::default(),
    };
    let server = collector.serve(&[]).await;
    for _ in 0..50 {
        assert_eq!(predict(&server, None).await, 200);
    }
    let lost = r#"onstage_trace_spans_lost_total{reason="export"}"#;
    until("lost spans are counted", &server, async || {
        counter(&server, lost).await > 0
    })
    .await;
    assert_eq!(predict(&server, None).await, 200);
    let stopping = tokio::time::Instant::now();
    let ended = server.terminate().await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(stopping.elapsed() < Duration::from_secs(30));
    let told = ended.stderr.matches("traces are lost").count();
    assert_eq!(told, 1, "{}", ended.stderr);
}

#[tokio::test]
async fn the_variables_of_opentelemetry_turn_traces_on_and_off() {
    let collector = Collector::start().await;
    let starter = || {
        Starter::serve(&[IRIS, "--engine", "tract"])
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url)
            .env("OTEL_SERVICE_NAME", "penguin-server")
            .env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=trial")
            .env("OTEL_BSP_SCHEDULE_DELAY", "50")
    };
    let off = starter().env("OTEL_SDK_DISABLED", "true").start().await;
    assert_eq!(predict(&off, None).await, 200);
    assert!(!metrics(&off).await.is_empty());
    let ended = off.terminate().await;
    assert!(!ended.stderr.contains("traces are exported"));
    assert!(collector.bodies.lock().unwrap().is_empty());
    let server = starter().start().await;
    assert_eq!(predict(&server, None).await, 200);
    for what in ["penguin-server", "deployment.environment", "infer"] {
        until(what, &server, async || collector.got(what.as_bytes())).await;
    }
}
