//! The memory budget, and swaps that cannot have both versions in memory.

use super::harness::{
    DRAIN_TIMEOUT, Harness, Setup, after, evictable, millis, model, options, seconds, settle, wish,
};
use super::loader::{BYTES, LOAD, Script};
use crate::lifecycle::{LoadError, ModelOptions, SwapOrder};
use crate::serving::{Admin as _, Demand as _};

fn break_before_make() -> ModelOptions {
    ModelOptions {
        swap: SwapOrder::BreakBeforeMake,
        ..options()
    }
}

/// Models that give up their memory for others, of which this many fit.
fn crowded(fit: u64) -> Harness {
    Setup::all(evictable()).budget(fit * BYTES).start()
}

async fn load(scene: &Harness, name: &str) {
    scene.want(name, wish(name, &[1])).await;
    after(LOAD).await;
}

/// A request uses it now.
fn touch(scene: &Harness, name: &str) {
    let servable = scene.request(name);
    servable.health().touch(tokio::time::Instant::now());
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_is_refused_with_figures() {
    let scene = Setup::default().budget(250).start();
    load(&scene, "a").await;
    load(&scene, "b").await;
    load(&scene, "c").await;
    let state = scene.state("c", 1).unwrap();
    let reason = state.reason().unwrap();
    assert_eq!((reason.label, reason.retry_at), ("memory", None));
    let figures =
        "it needs about 100 B, and 200 B of the budget of 250 B (`engine.memory_budget`) are taken";
    assert!(reason.detail.starts_with(figures), "{}", reason.detail);
    assert_eq!(scene.work.totals().memory, 200);
}

#[tokio::test(start_paused = true)]
async fn without_a_budget_everything_fits() {
    let scene = Harness::start();
    scene
        .loader
        .script("m", 1, Script::serves().bytes(u64::MAX));
    load(&scene, "m").await;
    assert_eq!(scene.serving("m"), Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_load_counts_before_it_has_ended() {
    let scene = Setup::default().budget(150).start();
    scene
        .loader
        .script("a", 1, Script::serves().taking(seconds(10)));
    scene.want("a", wish("a", &[1])).await;
    load(&scene, "b").await;
    assert_eq!(
        (scene.label("a", 1), scene.label("b", 1)),
        ("compiling", "failed")
    );
    assert_eq!(scene.work.totals().memory, 100);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_load_gives_back_what_it_reserved() {
    let scene = Setup::default().budget(150).start();
    scene.loader.script("a", 1, Script::hangs());
    scene.want("a", wish("a", &[1])).await;
    assert_eq!(scene.work.totals().memory, 100);
    scene.remove("a").await;
    load(&scene, "b").await;
    assert_eq!(
        (scene.serving("b"), scene.work.totals().memory),
        (Some(1), 100)
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_load_gives_back_what_it_reserved() {
    let scene = Setup::default().budget(150).start();
    let broken = || LoadError::Example("no".to_owned());
    scene.loader.script("a", 1, Script::fails(broken));
    load(&scene, "a").await;
    assert_eq!(scene.work.totals().memory, 0);
    load(&scene, "b").await;
    assert_eq!(scene.serving("b"), Some(1));
}

#[tokio::test(start_paused = true)]
async fn the_previous_version_goes_when_another_model_needs_its_memory() {
    let scene = Setup::default().budget(250).start();
    for version in [1, 2] {
        scene.want("m", wish("m", &[version])).await;
        after(LOAD).await;
    }
    assert_eq!(scene.label("m", 1), "ready");
    load(&scene, "other").await;
    settle().await;
    assert_eq!(scene.label("m", 1), "-");
    assert_eq!(
        (scene.serving("m"), scene.serving("other")),
        (Some(2), Some(1))
    );
}

#[tokio::test(start_paused = true)]
async fn the_oldest_previous_version_goes_first() {
    let scene = Setup::all(ModelOptions {
        keep_previous: 2,
        ..options()
    })
    .budget(350)
    .start();
    for version in [1, 2, 3] {
        scene.want("m", wish("m", &[version])).await;
        after(LOAD).await;
    }
    load(&scene, "other").await;
    settle().await;
    let labels = [1, 2, 3].map(|version| scene.label("m", version));
    assert_eq!(labels, ["-", "ready", "ready"]);
}

#[tokio::test(start_paused = true)]
async fn a_load_waits_for_a_version_that_drains() {
    let scene = Setup::default().budget(150).start();
    load(&scene, "a").await;
    let request = scene.request("a");
    scene.remove("a").await;
    load(&scene, "b").await;
    after(seconds(10)).await;
    assert_eq!(
        (scene.label("b", 1), scene.work.totals().memory_requests),
        ("verifying", 1)
    );
    drop(request);
    settle().await;
    assert_eq!(scene.label("b", 1), "compiling");
    after(LOAD).await;
    assert_eq!(scene.serving("b"), Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_load_waits_no_longer_than_a_version_may_drain() {
    let scene = Setup::default().budget(150).start();
    load(&scene, "a").await;
    let _request = scene.request("a");
    scene.remove("a").await;
    scene.want("b", wish("b", &[1])).await;
    after(DRAIN_TIMEOUT + LOAD).await;
    assert_eq!(scene.serving("b"), Some(1));
}

#[tokio::test(start_paused = true)]
async fn the_model_that_was_used_longest_ago_is_evicted() {
    let scene = crowded(3);
    for name in ["a", "b", "c"] {
        load(&scene, name).await;
    }
    after(seconds(10)).await;
    for name in ["b", "a", "c"] {
        touch(&scene, name);
        after(seconds(1)).await;
    }
    load(&scene, "d").await;
    settle().await;
    let serving = ["a", "b", "c", "d"].map(|name| scene.serving(name));
    assert_eq!(serving, [Some(1), None, Some(1), Some(1)]);
    assert_eq!(scene.label("b", 1), "unloaded");
    let evicted = scene.swaps();
    assert!(
        evicted.contains(&(Some(1), None, "memory", "unloaded")),
        "{evicted:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_evicted_model_is_loaded_again_by_its_next_request() {
    let scene = crowded(1);
    load(&scene, "a").await;
    after(seconds(2)).await;
    load(&scene, "b").await;
    after(seconds(2)).await;
    assert_eq!((scene.serving("a"), scene.serving("b")), (None, Some(1)));
    scene.handle.wake(&model("a")).await;
    after(LOAD + millis(5)).await;
    assert_eq!((scene.serving("a"), scene.serving("b")), (Some(1), None));
}

#[tokio::test(start_paused = true)]
async fn a_model_that_was_loaded_for_a_request_waits_a_second_for_it() {
    let scene = crowded(1);
    load(&scene, "a").await;
    scene.want("b", wish("b", &[1])).await;
    after(millis(800)).await;
    assert_eq!(
        (scene.serving("a"), scene.label("b", 1)),
        (Some(1), "verifying")
    );
    after(millis(200) + LOAD).await;
    assert_eq!((scene.serving("a"), scene.serving("b")), (None, Some(1)));
}

#[tokio::test(start_paused = true)]
async fn once_its_request_has_come_a_model_may_be_evicted() {
    let scene = crowded(1);
    load(&scene, "a").await;
    after(millis(100)).await;
    scene.want("b", wish("b", &[1])).await;
    touch(&scene, "a");
    after(millis(60)).await;
    assert_eq!(scene.label("b", 1), "compiling");
}

#[tokio::test(start_paused = true)]
async fn a_held_model_is_not_evicted() {
    let scene = crowded(1);
    load(&scene, "a").await;
    scene.handle.hold(&model("a")).await.unwrap();
    after(seconds(2)).await;
    load(&scene, "b").await;
    assert_eq!(
        (scene.serving("a"), scene.label("b", 1)),
        (Some(1), "failed")
    );
}

#[tokio::test(start_paused = true)]
async fn models_that_must_stay_are_not_evicted() {
    let scene = Setup::each(|name| match name.as_str() {
        "pinned" => options(),
        _ => evictable(),
    })
    .budget(BYTES)
    .start();
    load(&scene, "pinned").await;
    after(seconds(2)).await;
    load(&scene, "b").await;
    assert_eq!(
        (scene.serving("pinned"), scene.label("b", 1)),
        (Some(1), "failed")
    );
}

#[tokio::test(start_paused = true)]
async fn an_evictable_model_that_found_no_memory_is_tried_again() {
    let scene = Setup::each(|name| match name.as_str() {
        "pinned" => options(),
        _ => evictable(),
    })
    .budget(BYTES)
    .start();
    load(&scene, "pinned").await;
    load(&scene, "b").await;
    let state = scene.state("b", 1).unwrap();
    assert!(state.reason().unwrap().retry_at.is_some());
    scene.remove("pinned").await;
    after(seconds(3)).await;
    assert_eq!(scene.serving("b"), Some(1));
}

#[tokio::test(start_paused = true)]
async fn with_break_before_make_the_old_version_goes_first() {
    let scene = Setup::all(break_before_make()).budget(150).start();
    load(&scene, "m").await;
    scene
        .loader
        .script("m", 2, Script::serves().taking(seconds(5)));
    scene.want("m", wish("m", &[2])).await;
    assert_eq!(
        (scene.serving("m"), scene.label("m", 2)),
        (None, "compiling")
    );
    scene.loader.wait_until_loaded(0);
    after(seconds(5)).await;
    assert_eq!(scene.serving("m"), Some(2));
}

#[tokio::test(start_paused = true)]
async fn with_break_before_make_the_old_version_serves_while_the_new_one_is_verified() {
    let scene = Setup::all(break_before_make()).start();
    load(&scene, "m").await;
    let request = scene.request("m");
    scene.want("m", wish("m", &[2])).await;
    assert_eq!(
        scene.label("m", 2),
        "verifying",
        "the old one still has a request"
    );
    drop(request);
    settle().await;
    assert_eq!(scene.label("m", 2), "compiling");
}

#[tokio::test(start_paused = true)]
async fn after_break_before_make_went_wrong_the_last_good_version_is_loaded_again() {
    let scene = Setup::all(break_before_make()).start();
    load(&scene, "m").await;
    let broken = || LoadError::Example("no".to_owned());
    scene.loader.script("m", 2, Script::fails(broken));
    scene.want("m", wish("m", &[2])).await;
    after(3 * LOAD).await;
    assert_eq!(
        (scene.serving("m"), scene.label("m", 2)),
        (Some(1), "failed")
    );
    assert_eq!(scene.loader.begun(), ["m:1", "m:2", "m:1"]);
}

#[tokio::test(start_paused = true)]
async fn break_before_make_leaves_other_versions_alone() {
    let scene = Setup::all(break_before_make()).start();
    load(&scene, "m").await;
    scene.want("m", wish("m", &[1, 2])).await;
    after(LOAD).await;
    assert_eq!(
        (scene.serving("m"), scene.label("m", 2)),
        (Some(1), "ready")
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_is_reserved_once_everything_is_gone() {
    let scene = crowded(2);
    for name in ["a", "b", "c", "d"] {
        load(&scene, name).await;
        after(seconds(2)).await;
    }
    for name in ["a", "b", "c", "d"] {
        scene.remove(name).await;
    }
    settle().await;
    assert_eq!(scene.work.totals(), Default::default());
    scene.loader.wait_until_loaded(0);
}
