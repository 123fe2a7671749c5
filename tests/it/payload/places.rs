//! Object stores, restarts and crashes.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use onstage::payload::{LogFile, Sink};
use onstage::registry::{Environment, ObjectAccess};
use serde_json::json;

use super::{PATIENCE, Place, metric, texts};
use crate::support::object_servers::{BUCKET, Dialect, Imitation, S3Server, Variables};
use crate::support::server::{Server, Starter};

const IRIS: &str = "model-examples/iris";

async fn ask(server: &Server, id: &str) {
    let body = json!({ "inputs": [[5.1, 3.5, 1.4, 0.2]] }).to_string();
    let request = server
        .request(reqwest::Method::POST, "/invocations")
        .header("content-type", "application/json")
        .header("x-request-id", id)
        .body(body);
    assert_eq!(request.send().await.unwrap().status(), 200);
}

/// The files of a store, read by our own code: pyarrow and others read the same bytes elsewhere.
async fn stored(uri: &str, variables: &Variables) -> Vec<LogFile> {
    onstage::network::install_provider();
    let environment = variables
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let access = ObjectAccess::new(
        client,
        std::sync::Arc::new(Environment::from_iter(environment)),
    );
    let sink = Sink::open(uri, &access).unwrap();
    let mut files = Vec::new();
    for path in sink.list().await.unwrap() {
        let bytes: Bytes = sink.get(&path).await.unwrap();
        files.push(LogFile::parse(&path, bytes).unwrap());
    }
    files
}

fn with(starter: Starter, variables: &Variables) -> Starter {
    variables
        .iter()
        .fold(starter, |starter, (name, value)| starter.env(name, value))
}

/// Logs to a store, which refuses us for a while.
async fn log_to(uri: &str, variables: &Variables, refuse: impl AsyncFn(bool)) {
    let place = Place::new();
    let cache = place.path("cache").display().to_string();
    let flags = [
        IRIS,
        "--payload-log",
        uri,
        "--cache-dir",
        &cache,
        "--payload-roll",
        "1s",
    ];
    let server = with(Starter::serve(&flags), variables).start().await;
    ask(&server, "first").await;
    let written = "onstage_payload_rows_total{model=\"iris\",outcome=\"written\"}";
    let wait = async |rows: f64| {
        let arrived = async {
            while metric(&server, written).await < rows {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let arrived = tokio::time::timeout(PATIENCE, arrived).await;
        assert!(
            arrived.is_ok(),
            "{rows} rows never came: {}",
            server.stderr()
        );
    };
    wait(1.0).await;
    refuse(true).await;
    ask(&server, "second").await;
    server
        .logged(&["files of the payload log cannot be sent"])
        .await;
    assert_eq!(metric(&server, written).await, 1.0);
    refuse(false).await;
    wait(2.0).await;
    let files = stored(uri, variables).await;
    let ids: BTreeSet<_> = texts(&files, "_request_id").into_iter().flatten().collect();
    assert_eq!(ids, ["first", "second"].map(str::to_owned).into());
    assert_eq!(files.len(), 2);
    assert!(
        files[0].name.starts_with("model=iris/version=1/date="),
        "{}",
        files[0].name
    );
}

#[tokio::test]
async fn the_log_goes_to_s3() {
    let s3 = S3Server::start().await;
    let uri = format!("s3://{BUCKET}/team a/log");
    log_to(&uri, &s3.variables(), async |refuses| {
        s3.refuse(refuses).await
    })
    .await;
}

#[tokio::test]
async fn the_log_goes_to_google_cloud_storage() {
    let store = Imitation::start(Dialect::Google).await;
    let uri = format!("gs://{BUCKET}/log");
    log_to(&uri, &store.variables(), async |refuses| {
        store.refuse(refuses)
    })
    .await;
}

#[tokio::test]
async fn the_log_goes_to_azure() {
    let store = Imitation::start(Dialect::Azure).await;
    let uri = format!("az://{BUCKET}/log");
    log_to(&uri, &store.variables(), async |refuses| {
        store.refuse(refuses)
    })
    .await;
}

#[tokio::test]
async fn a_killed_server_loses_only_open_files_and_the_next_one_sends_the_rest() {
    let place = Place::new();
    // A file where the directory should be: nothing can be sent.
    std::fs::write(place.log(), "").unwrap();
    let server = place.serve(IRIS, &["--payload-roll", "5s"]).await;
    ask(&server, "closed").await;
    server
        .logged(&["files of the payload log cannot be sent"])
        .await;
    ask(&server, "open").await;
    // SIGKILL.
    drop(server);
    std::fs::remove_file(place.log()).unwrap();
    let server = place.serve(IRIS, &[]).await;
    let files = place.rows(1).await;
    assert_eq!(texts(&files, "_request_id"), [Some("closed".to_owned())]);
    ask(&server, "later").await;
    place.rows(2).await;
    assert_eq!(server.terminate().await.status.code(), Some(0));
    // A third start finds nothing to send.
    let server = place.serve(IRIS, &[]).await;
    assert_eq!(server.terminate().await.status.code(), Some(0));
    let mut ids = texts(&place.files(), "_request_id");
    ids.sort();
    assert_eq!(ids, ["closed", "later"].map(|id| Some(id.to_owned())));
    let left = super::paths(&place.path("cache"));
    assert_eq!(left, Vec::<std::path::PathBuf>::new());
}
