//! Versions on probation: who may be taken back, and to what.

use super::harness::{
    Harness, Setup, after, changed, millis, model, seconds, settle, wish, with_probation,
};
use super::loader::{LOAD, Script};
use crate::lifecycle::ModelOptions;
use crate::model::Version;
use crate::registry::Wanted;
use crate::serving::{Admin as _, ServableHandle};

/// Version 2 of `m` serves on probation after version 1.
async fn scene() -> Harness {
    let scene = Setup::all(with_probation()).start();
    for version in [1, 2] {
        scene.want("m", wish("m", &[version])).await;
        after(LOAD).await;
    }
    scene
}

/// So many requests to a version that fail in the engine, and that the version before answers.
fn fail(servable: &ServableHandle, requests: usize) {
    let observation = servable.observation().expect("it is on probation");
    observation.count(0, requests);
}

#[tokio::test(start_paused = true)]
async fn the_version_before_stays_loaded_during_probation() {
    let scene = scene().await;
    after(seconds(59)).await;
    assert_eq!(
        (scene.serving("m"), scene.label("m", 1)),
        (Some(2), "ready")
    );
    after(seconds(2)).await;
    assert_eq!(scene.label("m", 1), "-");
    assert!(scene.request("m").observation().is_none(), "it has passed");
}

#[tokio::test(start_paused = true)]
async fn a_version_that_fails_its_requests_is_taken_back() {
    let scene = scene().await;
    fail(&scene.request("m"), 30);
    // Its only caller may be one of many: two seconds show that nobody else is there.
    after(millis(2100)).await;
    assert_eq!(
        (scene.serving("m"), scene.label("m", 2)),
        (Some(1), "failed")
    );
    let last = scene.history().remove(0);
    assert_eq!(last.outcome.label(), "rolled_back");
    assert_eq!((last.from, last.to), (Some(Version(2)), Some(Version(1))));
    let reason = last.outcome.reason().unwrap().to_owned();
    assert!(
        reason.starts_with("30 of its first 30 requests failed"),
        "{reason}"
    );
    let failures = "onstage_candidate_failures_total{model=\"m\",reason=\"probation\"} 1";
    assert!(scene.has_series(failures));
}

#[tokio::test(start_paused = true)]
async fn a_few_failures_take_nothing_back() {
    let scene = scene().await;
    let observation = scene.request("m").observation().unwrap();
    observation.count(100, 3);
    after(seconds(70)).await;
    assert_eq!(scene.serving("m"), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_version_that_was_taken_back_finishes_its_requests() {
    let scene = scene().await;
    let request = scene.request("m");
    fail(&request, 30);
    after(seconds(3)).await;
    assert_eq!((scene.serving("m"), scene.loader.loaded()), (Some(1), 2));
    drop(request);
    settle().await;
    scene.loader.wait_until_loaded(1);
    assert_eq!(scene.loader.freed_by(), ["unload"]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_never_ends_does_not_keep_a_version_that_was_taken_back() {
    let scene = scene().await;
    let request = scene.request("m");
    fail(&request, 30);
    after(seconds(40)).await;
    drop(request);
    scene.loader.wait_until_loaded(1);
    scene.remove("m").await;
    settle().await;
    assert_eq!(scene.work.totals(), Default::default());
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_back_is_not_tried_again_before_it_changes() {
    let scene = scene().await;
    fail(&scene.request("m"), 30);
    after(seconds(3600)).await;
    assert_eq!(
        (scene.serving("m"), scene.loader.loads_of("m", 2)),
        (Some(1), 1)
    );
    let mut again = wish("m", &[2]);
    again.versions = [(Version(2), Wanted::Package(changed("m", 2)))].into();
    scene.want("m", again).await;
    after(LOAD).await;
    assert_eq!(scene.serving("m"), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_swap_during_probation_falls_back_to_what_has_passed() {
    let scene = scene().await;
    scene.want("m", wish("m", &[3])).await;
    after(LOAD).await;
    assert_eq!(scene.label("m", 1), "ready", "version 2 has not passed");
    fail(&scene.request("m"), 30);
    after(seconds(3)).await;
    assert_eq!(scene.serving("m"), Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_version_that_has_passed_needs_no_second_probation() {
    let scene = Setup::all(ModelOptions {
        keep_previous: 1,
        ..with_probation()
    })
    .start();
    for version in [1, 2] {
        scene.want("m", wish("m", &[version])).await;
        after(seconds(61)).await;
    }
    scene.want("m", wish("m", &[1])).await;
    assert_eq!(scene.serving("m"), Some(1));
    assert!(scene.request("m").observation().is_none());
}

#[tokio::test(start_paused = true)]
async fn the_first_version_is_on_no_probation() {
    let scene = Setup::all(with_probation()).start();
    scene.want("m", wish("m", &[1])).await;
    after(LOAD).await;
    assert!(scene.request("m").observation().is_none());
    assert_eq!(scene.work.totals().on_probation, 0);
}

#[tokio::test(start_paused = true)]
async fn a_version_in_doubt_passes_by_its_successes_alone() {
    let scene = Setup::all(with_probation()).start();
    scene.want("m", wish("m", &[1])).await;
    after(LOAD).await;
    scene.loader.script("m", 2, Script::serves().in_doubt());
    scene.want("m", wish("m", &[2])).await;
    after(seconds(600)).await;
    let observation = scene.request("m").observation();
    observation.expect("time proves nothing").count(10, 0);
    after(millis(60)).await;
    assert!(scene.request("m").observation().is_none());
    settle().await;
    assert_eq!(scene.label("m", 1), "-");
}

#[tokio::test(start_paused = true)]
async fn probation_decides_nothing_while_it_waits() {
    let scene = scene().await;
    // After two seconds nobody else will come whose requests were wanted.
    after(seconds(3)).await;
    scene.work.take();
    after(seconds(30)).await;
    let seen = scene.work.take();
    assert_eq!((seen.wakes, seen.decided.len()), (0, 0), "no request came");
}

#[tokio::test(start_paused = true)]
async fn requests_during_probation_are_judged_at_most_every_fifty_milliseconds() {
    let scene = scene().await;
    after(seconds(1)).await;
    scene.work.take();
    let observation = scene.request("m").observation().unwrap();
    for _ in 0..1000 {
        observation.count(10, 0);
        after(millis(1)).await;
    }
    let seen = scene.work.take();
    assert_eq!(
        (seen.decided.len(), seen.shown.len()),
        (0, 0),
        "all is well"
    );
    assert_eq!(scene.serving("m"), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_version_whose_requests_all_fail_is_taken_back_within_a_moment() {
    let scene = scene().await;
    after(seconds(10)).await;
    fail(&scene.request("m"), 30);
    after(millis(60)).await;
    assert_eq!(scene.serving("m"), Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_manual_swap_back_ends_the_probation() {
    let scene = scene().await;
    scene.handle.swap(&model("m"), Version(1)).await.unwrap();
    assert_eq!(scene.serving("m"), Some(1));
    after(seconds(120)).await;
    assert_eq!(
        (scene.serving("m"), scene.work.totals().on_probation),
        (Some(1), 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_model_that_is_removed_on_probation_leaves_nothing() {
    let scene = scene().await;
    scene.remove("m").await;
    settle().await;
    assert_eq!(scene.work.totals(), Default::default());
    after(seconds(1)).await;
    scene.work.take();
    after(seconds(60)).await;
    assert_eq!(scene.work.take().wakes, 0);
}
