//! Models that are loaded by their first request.

use std::sync::Arc;

use tokio::time::Instant;

use super::harness::{Harness, Setup, after, lazy, millis, model, seconds, settle, wish};
use super::loader::{LOAD, Script};
use crate::lifecycle::LoadError;
use crate::serving::{Demand as _, InferenceService, Selector, ServeError, VersionSelector};

/// Version 1 of the lazy model `m` is wanted.
async fn scene() -> Harness {
    let scene = Setup::all(lazy()).start();
    scene.want("m", wish("m", &[1])).await;
    scene
}

fn service(scene: &Harness) -> InferenceService {
    InferenceService::new(Arc::clone(&scene.catalog), Arc::clone(&scene.metrics))
        .with_demand(Arc::new(scene.handle.clone()))
}

fn selector() -> Selector {
    Selector {
        model: Some(model("m")),
        version: VersionSelector::Default,
    }
}

#[tokio::test(start_paused = true)]
async fn a_lazy_model_is_loaded_by_its_first_request() {
    let scene = scene().await;
    after(seconds(60)).await;
    assert_eq!(
        (scene.label("m", 1), scene.loader.begun().len()),
        ("unloaded", 0)
    );
    let service = service(&scene);
    let found = service.find(&selector(), Instant::now()).await.unwrap();
    assert_eq!(found.id().version.0, 1);
    assert_eq!(scene.swaps(), [(None, Some(1), "demand", "published")]);
}

#[tokio::test(start_paused = true)]
async fn many_requests_load_a_model_once() {
    let scene = scene().await;
    let service = Arc::new(service(&scene));
    let request = || {
        let service = Arc::clone(&service);
        tokio::spawn(async move { service.find(&selector(), Instant::now()).await })
    };
    let requests: Vec<_> = (0..50).map(|_| request()).collect();
    for request in requests {
        request.await.unwrap().unwrap();
    }
    assert_eq!(scene.loader.loads_of("m", 1), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_no_longer_than_it_may() {
    let scene = scene().await;
    scene
        .loader
        .script("m", 1, Script::serves().taking(seconds(60)));
    let service = service(&scene);
    let began = Instant::now();
    let found = service.find(&selector(), began).await;
    assert!(matches!(found, Err(ServeError::Deadline(_))));
    assert_eq!(began.elapsed().as_secs(), 10);
    after(seconds(60)).await;
    assert_eq!(scene.serving("m"), Some(1), "for the next request");
}

#[tokio::test(start_paused = true)]
async fn a_request_hears_at_once_that_its_model_cannot_be_loaded() {
    let scene = scene().await;
    let broken = || LoadError::Example("no".to_owned());
    scene.loader.script("m", 1, Script::fails(broken));
    let service = service(&scene);
    let began = Instant::now();
    let found = service.find(&selector(), began).await;
    assert!(matches!(found, Err(ServeError::Lookup(_))));
    assert!(began.elapsed() < millis(150));
}

#[tokio::test(start_paused = true)]
async fn a_model_that_sleeps_follows_the_registry_without_a_load() {
    let scene = scene().await;
    scene.want("m", wish("m", &[2])).await;
    assert_eq!(
        (scene.label("m", 1), scene.label("m", 2)),
        ("-", "unloaded")
    );
    scene.handle.wake(&model("m")).await;
    after(LOAD).await;
    assert_eq!(scene.loader.begun(), ["m:2"]);
}

#[tokio::test(start_paused = true)]
async fn a_model_that_was_woken_swaps_like_any_other() {
    let scene = scene().await;
    scene.handle.wake(&model("m")).await;
    after(2 * LOAD).await;
    scene.want("m", wish("m", &[2])).await;
    assert_eq!(scene.serving("m"), Some(1));
    after(LOAD).await;
    assert_eq!(scene.serving("m"), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_model_that_sleeps_is_in_sync() {
    let scene = scene().await;
    after(seconds(60)).await;
    assert!(scene.has_series("onstage_model_out_of_sync_seconds{model=\"m\"} 0"));
    scene.work.take();
    after(seconds(60)).await;
    assert_eq!(scene.work.take().wakes, 0);
}

#[tokio::test(start_paused = true)]
async fn nobody_wakes_a_model_that_is_not_there() {
    let scene = scene().await;
    scene.handle.wake(&model("unknown")).await;
    settle().await;
    assert!(scene.entry("unknown").is_none());
    assert_eq!(scene.work.totals().records, 1);
}

#[tokio::test(start_paused = true)]
async fn a_lazy_model_that_fails_is_tried_again_by_nobody_while_it_cannot_serve() {
    let scene = scene().await;
    let broken = || LoadError::Example("no".to_owned());
    scene.loader.script("m", 1, Script::fails(broken));
    scene.handle.wake(&model("m")).await;
    after(seconds(60)).await;
    scene.handle.wake(&model("m")).await;
    after(seconds(60)).await;
    assert_eq!(scene.loader.loads_of("m", 1), 1);
}
