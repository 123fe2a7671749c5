//! What was fetched once is there after a restart, with and without the registry.

use std::fs;
use std::path::Path;

use super::scene::{Files, answering, metrics, until, until_answering};
use crate::support::server::Server;

async fn serve(files: &Files, cache: &Path) -> Server {
    let cache = cache.to_str().unwrap();
    files
        .serve("", &["--cache-dir", cache, "--poll-interval", "100ms"])
        .await
}

/// Waits until the disk has this many versions; a swap does not.
async fn until_kept(server: &Server, cache: &Path, versions: usize) {
    until("it is never written down", server, async || {
        fs::read_dir(cache.join("refs")).unwrap().count() == versions
    })
    .await;
}

#[tokio::test]
async fn a_restart_without_the_registry_serves_what_was_known_last() {
    let files = Files::of(&[1.0, 2.0]).await;
    let cache = tempfile::tempdir().unwrap();
    let server = serve(&files, cache.path()).await;
    files.promote(2).await;
    until_answering(&server, "/invocations", 2).await;
    let known = cache.path().join("known");
    until(
        "what the registry says is not written down",
        &server,
        async || {
            let files = fs::read_dir(&known)
                .unwrap()
                .map(|file| file.unwrap().path());
            let texts = files.filter_map(|path| fs::read_to_string(path).ok());
            { texts }.any(|text| text.contains(r#""aliases":{"champion":2}"#))
        },
    )
    .await;
    until_kept(&server, cache.path(), 2).await;
    // As `kill -9` would end it.
    drop(server);
    let away = format!("{}-away", files.models);
    fs::rename(&files.models, &away).unwrap();

    let server = serve(&files, cache.path()).await;
    // A version whose probation was cut short is tried again, after the one that is proven.
    until_answering(&server, "/invocations", 2).await;
    let told = "serving the last known state of the registry";
    server.logged(&[told, r#""age":"#]).await;
    let text = metrics(&server).await;
    assert!(!text.contains("onstage_cache_bytes 0\n"), "{text}");
    assert!(
        text.contains("onstage_registry_last_success_timestamp_seconds 0\n"),
        "{text}"
    );

    // Once it is back, it is followed again.
    fs::rename(&away, &files.models).unwrap();
    files.promote(1).await;
    until_answering(&server, "/invocations", 1).await;
}

#[tokio::test]
async fn a_damaged_package_in_the_cache_is_fetched_again() {
    let files = Files::of(&[1.0]).await;
    let cache = tempfile::tempdir().unwrap();
    let server = serve(&files, cache.path()).await;
    until_kept(&server, cache.path(), 1).await;
    drop(server);
    let mut damaged = 0;
    for package in fs::read_dir(cache.path().join("packages")).unwrap() {
        let graph = package.unwrap().path().join("model.onnx");
        if graph.is_file() {
            fs::write(graph, "half").unwrap();
            damaged += 1;
        }
    }
    assert_eq!(damaged, 1);
    let server = serve(&files, cache.path()).await;
    assert_eq!(answering(&server, "/invocations").await, Some(1));
    server.logged(&["was damaged; it is fetched again"]).await;
}

#[tokio::test]
async fn a_server_that_follows_waits_for_a_registry_that_is_not_there_yet() {
    let files = Files::of(&[1.0]).await;
    let away = format!("{}-away", files.models);
    fs::rename(&files.models, &away).unwrap();
    let mut starting = Box::pin(files.serve("", &["--poll-interval", "100ms"]));
    let early = tokio::time::timeout(std::time::Duration::from_secs(1), &mut starting).await;
    assert!(
        early.is_err(),
        "it is not ready before it has heard of its models"
    );
    fs::rename(&away, &files.models).unwrap();
    let server = starting.await;
    assert_eq!(answering(&server, "/invocations").await, Some(1));
}
