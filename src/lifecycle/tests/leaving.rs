//! Versions that leave: who waits for whom, and who frees them.

use super::harness::{
    DRAIN_TIMEOUT, Harness, Setup, after, changed, millis, model, options, seconds, settle, wish,
};
use super::loader::LOAD;
use crate::lifecycle::ModelOptions;
use crate::model::Version;
use crate::registry::Wanted;

/// Version 1 of `m` serves, and no previous version stays.
async fn scene() -> Harness {
    let scene = Setup::all(ModelOptions {
        keep_previous: 0,
        ..options()
    })
    .start();
    scene.want("m", wish("m", &[1])).await;
    after(LOAD).await;
    scene
}

#[tokio::test(start_paused = true)]
async fn a_version_drains_until_its_last_request_has_gone() {
    let scene = scene().await;
    let requests = [scene.request("m"), scene.request("m")];
    scene.want("m", wish("m", &[2])).await;
    after(LOAD).await;
    let [first, last] = requests;
    drop(first);
    after(seconds(5)).await;
    assert_eq!(scene.label("m", 1), "draining");
    drop(last);
    settle().await;
    assert_eq!(scene.label("m", 1), "-");
    scene.loader.wait_until_loaded(1);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_looked_at_while_a_version_drains() {
    let scene = scene().await;
    let request = scene.request("m");
    scene.want("m", wish("m", &[2])).await;
    after(LOAD).await;
    scene.work.take();
    after(DRAIN_TIMEOUT / 2).await;
    let seen = scene.work.take();
    assert_eq!((seen.wakes, seen.decided.len()), (0, 0));
    drop(request);
    settle().await;
    assert_eq!(scene.label("m", 1), "-");
}

#[tokio::test(start_paused = true)]
async fn after_the_timeout_a_version_goes_although_a_request_holds_it() {
    let scene = scene().await;
    let request = scene.request("m");
    scene.want("m", wish("m", &[2])).await;
    after(LOAD + DRAIN_TIMEOUT - seconds(1)).await;
    assert_eq!(scene.label("m", 1), "draining");
    after(seconds(2)).await;
    assert_eq!(scene.label("m", 1), "-");
    assert_eq!(scene.loader.loaded(), 2, "the request can still use it");
    drop(request);
    scene.loader.wait_until_loaded(1);
}

#[tokio::test(start_paused = true)]
async fn the_last_request_does_not_free_the_model() {
    let scene = scene().await;
    let request = scene.request("m");
    scene.want("m", wish("m", &[2])).await;
    after(LOAD).await;
    let dropped = std::thread::Builder::new()
        .name("request".to_owned())
        .spawn(move || drop(request));
    dropped.unwrap().join().unwrap();
    assert_eq!(scene.loader.loaded(), 2, "nobody has freed it yet");
    settle().await;
    scene.loader.wait_until_loaded(1);
    assert_eq!(scene.loader.freed_by(), ["unload"]);
}

#[tokio::test(start_paused = true)]
async fn a_late_request_for_an_earlier_load_does_not_release_the_later_one() {
    let scene = scene().await;
    let earlier = scene.request("m");
    let mut again = wish("m", &[1]);
    again.versions = [(Version(1), Wanted::Package(changed("m", 1)))].into();
    scene.want("m", again).await;
    // The first load is given up, and the second one serves.
    after(DRAIN_TIMEOUT + LOAD).await;
    settle().await;
    assert_eq!(scene.serving("m"), Some(1));
    let later = scene.request("m");
    scene.want("m", wish("m", &[2])).await;
    after(LOAD).await;
    assert_eq!(scene.label("m", 1), "draining");
    drop(earlier);
    settle().await;
    assert_eq!(scene.label("m", 1), "draining", "another lease");
    drop(later);
    settle().await;
    assert_eq!(scene.label("m", 1), "-");
}

#[tokio::test(start_paused = true)]
async fn requests_of_a_version_that_stays_send_nothing() {
    let scene = scene().await;
    scene.work.take();
    for _ in 0..100 {
        drop(scene.request("m"));
    }
    settle().await;
    assert_eq!(scene.work.take().wakes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_whole_hour_without_changes_wakes_nobody() {
    let scene = scene().await;
    scene.want("broken", wish("broken", &[1])).await;
    after(LOAD).await;
    scene.work.take();
    after(seconds(3600)).await;
    assert_eq!(scene.work.take().wakes, 0);
}

#[tokio::test(start_paused = true)]
async fn series_stay_ten_minutes_after_their_version() {
    let scene = scene().await;
    scene.want("m", wish("m", &[2])).await;
    after(LOAD).await;
    let has_series = || {
        let lines = scene.series_of("m");
        let requests = lines.iter().filter(|line| line.contains("version=\"1\""));
        requests.count() > 0
    };
    after(seconds(599)).await;
    assert!(has_series());
    after(seconds(2)).await;
    assert!(!has_series());
    assert_eq!(scene.work.totals().timers, 0);
}

#[tokio::test(start_paused = true)]
async fn series_of_a_version_that_is_back_stay() {
    let scene = scene().await;
    scene.want("m", wish("m", &[2])).await;
    after(seconds(300)).await;
    scene.want("m", wish("m", &[1])).await;
    after(seconds(900)).await;
    let lines = scene.series_of("m");
    let of = |version: &str| lines.iter().any(|line| line.contains(version));
    assert!(of("version=\"1\""), "it serves");
    assert!(!of("version=\"2\""), "it left fifteen minutes ago");
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_of_the_catalog_counts_as_a_request() {
    let scene = scene().await;
    let snapshot = scene.catalog.snapshot();
    scene.want("m", wish("m", &[2])).await;
    after(LOAD).await;
    assert_eq!(scene.label("m", 1), "draining");
    drop(snapshot);
    settle().await;
    assert_eq!(scene.label("m", 1), "-");
}

#[tokio::test(start_paused = true)]
async fn how_long_a_version_drained_is_measured() {
    let scene = scene().await;
    let request = scene.request("m");
    scene.want("m", wish("m", &[2])).await;
    after(LOAD + seconds(7)).await;
    drop(request);
    settle().await;
    let text = scene.metrics.render();
    let sum = text.lines().find_map(|line| {
        let value = line.strip_prefix("onstage_swap_duration_seconds_sum{phase=\"drain\"} ");
        value.map(|value| value.parse::<f64>().unwrap())
    });
    let sum = sum.expect("the drain was counted");
    assert!((6.9..7.2).contains(&sum), "{sum}");
}

#[tokio::test(start_paused = true)]
async fn a_load_that_ends_when_nobody_wants_it_any_more_leaves_nothing() {
    let scene = scene().await;
    scene.want("late", wish("late", &[1])).await;
    // The load ends in this very moment, and the manager hears of both at once.
    after(LOAD - millis(1)).await;
    scene.desired.send_modify(|desired| {
        desired.models.remove(&model("late"));
    });
    settle().await;
    scene.loader.wait_until_loaded(1);
    assert_eq!(scene.loader.freed_by(), ["unload"], "it was loaded");
    assert_eq!(scene.series_of("late"), Vec::<String>::new());
    assert!(scene.entry("late").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_version_that_leaves_twice_is_freed_twice() {
    let scene = scene().await;
    for version in [2, 1, 2] {
        scene.want("m", wish("m", &[version])).await;
        after(LOAD).await;
        scene.loader.wait_until_loaded(1);
    }
    assert_eq!(scene.loader.freed_by(), ["unload"; 3]);
    assert_eq!(scene.loader.begun(), ["m:1", "m:2", "m:1", "m:2"]);
}
