//! Manual decisions against the registry's.

use super::harness::{Harness, Setup, after, model, options, seconds, settle, wish};
use super::loader::{LOAD, Script};
use crate::lifecycle::{LoadError, ModelOptions};
use crate::model::Version;
use crate::serving::{Admin as _, AdminError, Cause, HoldRecord};

fn broken() -> LoadError {
    LoadError::Example("the engine fails".to_owned())
}

/// Version 1 of `m` serves, and the registry has version 2.
async fn scene() -> Harness {
    let scene = Setup::default().found("m", 2).start();
    scene.want("m", wish("m", &[1])).await;
    after(LOAD).await;
    scene
}

async fn swap(scene: &Harness, version: u64) -> Result<(), AdminError> {
    scene.handle.swap(&model("m"), Version(version)).await
}

fn held(scene: &Harness) -> Option<Option<u64>> {
    let held = |hold: &HoldRecord| hold.version.map(|version| version.0);
    scene.handle.holds().first().map(held)
}

#[tokio::test(start_paused = true)]
async fn a_manual_swap_is_answered_when_its_version_serves() {
    let scene = scene().await;
    swap(&scene, 2).await.unwrap();
    assert_eq!(scene.serving("m"), Some(2));
    assert_eq!(held(&scene), Some(Some(2)));
    assert_eq!(scene.swaps()[1], (Some(1), Some(2), "manual", "published"));
    assert!(scene.has_series("onstage_model_held{model=\"m\"} 1"));
}

#[tokio::test(start_paused = true)]
async fn a_hold_ends_when_the_registry_changes() {
    let scene = scene().await;
    swap(&scene, 2).await.unwrap();
    scene.want("m", wish("m", &[3])).await;
    assert_eq!(held(&scene), None);
    after(LOAD).await;
    assert_eq!(scene.serving("m"), Some(3));
}

#[tokio::test(start_paused = true)]
async fn a_hold_stands_while_other_models_change() {
    let scene = scene().await;
    swap(&scene, 2).await.unwrap();
    scene.want("other", wish("other", &[1])).await;
    after(LOAD).await;
    assert_eq!((held(&scene), scene.serving("m")), (Some(Some(2)), Some(2)));
}

#[tokio::test(start_paused = true)]
async fn a_swap_to_a_version_that_the_registry_lacks_changes_nothing() {
    let scene = scene().await;
    let error = swap(&scene, 9).await.unwrap_err();
    assert_eq!(error.to_string(), "model `m` has no version 9 to serve");
    assert_eq!((held(&scene), scene.serving("m")), (None, Some(1)));
}

#[tokio::test(start_paused = true)]
async fn a_swap_that_fails_holds_nothing_and_says_why() {
    let scene = scene().await;
    scene.loader.script("m", 2, Script::fails(broken));
    let error = swap(&scene, 2).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("model `m` version 2 cannot be served: "),
        "{text}"
    );
    settle().await;
    assert_eq!((held(&scene), scene.serving("m")), (None, Some(1)));
    assert_eq!(scene.label("m", 2), "-", "nobody wants it");
}

#[tokio::test(start_paused = true)]
async fn a_swap_tries_a_version_again_that_failed() {
    let scene = scene().await;
    scene.loader.script("m", 2, Script::fails(broken));
    scene.want("m", wish("m", &[2])).await;
    after(LOAD).await;
    assert_eq!(scene.label("m", 2), "failed");
    swap(&scene, 2).await.unwrap();
    assert_eq!(scene.serving("m"), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_swap_to_a_version_that_is_loaded_needs_no_load() {
    let scene = scene().await;
    scene.want("m", wish("m", &[2])).await;
    after(LOAD).await;
    swap(&scene, 1).await.unwrap();
    assert_eq!(scene.serving("m"), Some(1));
    assert_eq!(scene.loader.begun(), ["m:1", "m:2"]);
}

#[tokio::test(start_paused = true)]
async fn a_swap_ends_when_the_registry_changes_meanwhile() {
    let scene = scene().await;
    scene
        .loader
        .script("m", 2, Script::serves().taking(seconds(60)));
    let (swapped, ()) = tokio::join!(swap(&scene, 2), async {
        settle().await;
        scene.want("m", wish("m", &[3])).await;
    });
    let error = swapped.unwrap_err().to_string();
    assert_eq!(
        error,
        "the registry changed meanwhile, which ends the manual swap"
    );
    after(LOAD).await;
    assert_eq!(scene.serving("m"), Some(3));
}

#[tokio::test(start_paused = true)]
async fn a_swap_ends_when_its_model_is_removed() {
    let scene = Setup::default().found("m", 2).start();
    scene.loader.script("m", 1, Script::hangs());
    scene.want("m", wish("m", &[1])).await;
    scene.loader.script("m", 2, Script::hangs());
    let (swapped, ()) = tokio::join!(swap(&scene, 2), async {
        settle().await;
        scene.remove("m").await;
    });
    assert!(
        matches!(swapped, Err(AdminError::NotFound(_))),
        "{swapped:?}"
    );
    assert_eq!(scene.work.totals().records, 0);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_ten_minutes_for_a_swap() {
    let scene = scene().await;
    scene.loader.script("m", 2, Script::hangs());
    let error = swap(&scene, 2).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "model `m` was not on stage within 600s; it goes on loading"
    );
    assert_eq!(
        (scene.serving("m"), scene.label("m", 2)),
        (Some(1), "compiling")
    );
}

#[tokio::test(start_paused = true)]
async fn the_last_of_two_swaps_wins() {
    let scene = Setup::default().found("m", 2).found("m", 3).start();
    scene.want("m", wish("m", &[1])).await;
    after(LOAD).await;
    scene
        .loader
        .script("m", 2, Script::serves().taking(seconds(5)));
    let second = async {
        settle().await;
        swap(&scene, 3).await
    };
    let first = tokio::time::timeout(seconds(1), swap(&scene, 2));
    let (first, second) = tokio::join!(first, second);
    assert!(first.is_err(), "version 2 never serves");
    second.unwrap();
    assert_eq!(held(&scene), Some(Some(3)));
}

#[tokio::test(start_paused = true)]
async fn a_hold_keeps_the_version_that_serves() {
    let scene = scene().await;
    scene
        .loader
        .script("m", 2, Script::serves().taking(seconds(9)));
    scene.want("m", wish("m", &[2])).await;
    scene.handle.hold(&model("m")).await.unwrap();
    after(seconds(20)).await;
    assert_eq!((held(&scene), scene.serving("m")), (Some(Some(1)), Some(1)));
    assert_eq!(scene.entry("m").unwrap().instead_of, None, "on purpose");
    scene.handle.resume(&model("m")).await.unwrap();
    after(LOAD).await;
    assert_eq!((held(&scene), scene.serving("m")), (None, Some(2)));
}

#[tokio::test(start_paused = true)]
async fn what_does_not_serve_cannot_be_held() {
    let scene = Harness::start();
    scene.loader.script("m", 1, Script::hangs());
    scene.want("m", wish("m", &[1])).await;
    let error = scene.handle.hold(&model("m")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "no version of model `m` serves that could be held"
    );
}

#[tokio::test(start_paused = true)]
async fn an_unloaded_model_answers_nobody_once_that_is_confirmed() {
    let scene = scene().await;
    scene.handle.unload(&model("m")).await.unwrap();
    assert_eq!(scene.serving("m"), None);
    assert_eq!(held(&scene), Some(None));
    settle().await;
    scene.loader.wait_until_loaded(0);
    after(seconds(60)).await;
    assert_eq!(scene.loader.loads_of("m", 1), 1, "it stays unloaded");
}

#[tokio::test(start_paused = true)]
async fn resume_loads_what_the_registry_wants() {
    let scene = scene().await;
    scene.handle.unload(&model("m")).await.unwrap();
    settle().await;
    scene.handle.resume(&model("m")).await.unwrap();
    after(2 * LOAD).await;
    assert_eq!((held(&scene), scene.serving("m")), (None, Some(1)));
    let last = scene.history().remove(0);
    assert_eq!(last.cause, Cause::Manual);
}

#[tokio::test(start_paused = true)]
async fn a_held_version_stays_when_the_registry_wants_another_kind_of_change() {
    let scene = scene().await;
    swap(&scene, 2).await.unwrap();
    scene
        .desired
        .send_modify(|desired| desired.complete = false);
    settle().await;
    assert_eq!((held(&scene), scene.serving("m")), (Some(Some(2)), Some(2)));
}

#[tokio::test(start_paused = true)]
async fn load_tries_again_what_failed_and_waits_for_it() {
    let scene = Harness::start();
    scene.loader.script("m", 1, Script::fails(broken));
    scene.want("m", wish("m", &[1])).await;
    after(LOAD).await;
    scene.handle.load(&model("m")).await.unwrap();
    assert_eq!(scene.serving("m"), Some(1));
}

#[tokio::test(start_paused = true)]
async fn load_says_why_it_failed_again() {
    let scene = Harness::start();
    for _ in 0..2 {
        scene.loader.script("m", 1, Script::fails(broken));
    }
    scene.want("m", wish("m", &[1])).await;
    after(LOAD).await;
    let error = scene.handle.load(&model("m")).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("the engine fails"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn load_ends_an_unload() {
    let scene = scene().await;
    scene.handle.unload(&model("m")).await.unwrap();
    scene.handle.load(&model("m")).await.unwrap();
    assert_eq!((held(&scene), scene.serving("m")), (None, Some(1)));
}

#[tokio::test(start_paused = true)]
async fn load_without_a_wanted_version_says_so() {
    let scene = Harness::start();
    scene
        .want("m", crate::registry::DesiredModel::default())
        .await;
    let error = scene.handle.load(&model("m")).await.unwrap_err();
    assert_eq!(error.to_string(), "nothing is wanted of model `m`");
}

#[tokio::test(start_paused = true)]
async fn a_model_that_nobody_knows_is_not_found() {
    let scene = scene().await;
    let unknown = model("unknown");
    let answers = [
        scene.handle.swap(&unknown, Version(1)).await,
        scene.handle.load(&unknown).await,
        scene.handle.hold(&unknown).await,
        scene.handle.unload(&unknown).await,
        scene.handle.resume(&unknown).await,
    ];
    for answer in answers {
        let error = answer.unwrap_err();
        assert_eq!(error.to_string(), "no model named `unknown`");
    }
}

#[tokio::test(start_paused = true)]
async fn a_manager_that_has_stopped_says_so() {
    let scene = scene().await;
    scene.stop.cancel();
    settle().await;
    let stopped = scene.handle.unload(&model("m")).await;
    assert!(matches!(stopped, Err(AdminError::Stopping)));
}

#[tokio::test(start_paused = true)]
async fn a_held_model_stays_when_the_registry_removes_others() {
    let scene = Setup::all(ModelOptions {
        keep_previous: 0,
        ..options()
    })
    .found("m", 2)
    .start();
    scene.want("m", wish("m", &[1])).await;
    scene.want("other", wish("other", &[1])).await;
    after(LOAD).await;
    swap(&scene, 2).await.unwrap();
    scene.remove("other").await;
    assert_eq!(
        (scene.serving("m"), scene.entry("other").is_none()),
        (Some(2), true)
    );
}
