//! What a start begins with, and what it leaves to the next one.

use std::sync::Arc;

use super::harness::{
    Past, Setup, after, options, package, seconds, settle, wish, with_alias, with_probation,
};
use super::loader::{LOAD, Script};
use crate::lifecycle::LoadError;
use crate::model::Version;
use crate::registry::{DesiredModel, Wanted};

#[tokio::test(start_paused = true)]
async fn a_start_begins_with_the_version_that_served_before() {
    let scene = Setup::all(with_probation())
        .past(Past::new("m", 1))
        .wanting("m", wish("m", &[2]))
        .start();
    settle().await;
    assert_eq!(scene.loader.begun(), ["m:1"]);
    after(LOAD).await;
    assert_eq!(scene.serving("m"), Some(1));
    after(LOAD).await;
    assert_eq!(scene.serving("m"), Some(2));
    assert!(
        scene.request("m").observation().is_some(),
        "the same probation"
    );
}

#[tokio::test(start_paused = true)]
async fn a_start_moves_on_when_what_served_before_cannot() {
    let scene = Setup::all(options())
        .past(Past::new("m", 1))
        .wanting("m", wish("m", &[2]))
        .start();
    let broken = || LoadError::Example("no".to_owned());
    scene.loader.script("m", 1, Script::fails(broken));
    after(3 * LOAD).await;
    assert_eq!((scene.serving("m"), scene.label("m", 1)), (Some(2), "-"));
}

#[tokio::test(start_paused = true)]
async fn a_version_that_the_configuration_names_is_begun_with() {
    let pinned = DesiredModel {
        pinned: true,
        ..wish("m", &[2])
    };
    let scene = Setup::all(options())
        .past(Past::new("m", 1))
        .wanting("m", pinned)
        .start();
    after(2 * LOAD).await;
    assert_eq!(scene.loader.begun(), ["m:2"]);
}

#[tokio::test(start_paused = true)]
async fn what_served_before_is_better_than_nothing() {
    let absent = DesiredModel {
        absent: Some("the registry is away".to_owned()),
        ..DesiredModel::default()
    };
    let scene = Setup::all(options())
        .past(Past::new("m", 1))
        .wanting("m", absent)
        .start();
    after(seconds(60)).await;
    assert_eq!(scene.serving("m"), Some(1));
    scene.want("m", wish("m", &[2])).await;
    after(2 * LOAD).await;
    assert_eq!(scene.serving("m"), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_version_is_written_down_once_it_has_passed() {
    let scene = Setup::all(with_probation()).start();
    for version in [1, 2] {
        scene.want("m", wish("m", &[version])).await;
        after(LOAD).await;
    }
    after(seconds(30)).await;
    assert_eq!(scene.past.saved(), [1]);
    after(seconds(31)).await;
    assert_eq!(scene.past.saved(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_version_that_was_taken_back_is_never_written_down() {
    let scene = Setup::all(with_probation()).start();
    for version in [1, 2] {
        scene.want("m", wish("m", &[version])).await;
        after(LOAD).await;
    }
    let observation = scene.request("m").observation().unwrap();
    observation.count(0, 30);
    after(seconds(120)).await;
    assert_eq!(scene.past.saved(), [1]);
}

#[tokio::test(start_paused = true)]
async fn where_aliases_lead_is_written_down_too() {
    let scene = Setup::all(options()).start();
    scene
        .want("m", with_alias(wish("m", &[1, 2]), "champion", 2))
        .await;
    after(2 * LOAD).await;
    let saved = scene.past.saved();
    assert_eq!(saved.last(), Some(&1));
    assert!(saved.len() <= 2, "only what changes is written: {saved:?}");
}

#[tokio::test(start_paused = true)]
async fn a_model_that_is_removed_is_forgotten() {
    let scene = Setup::all(options()).start();
    scene.want("m", wish("m", &[1])).await;
    after(LOAD).await;
    scene.remove("m").await;
    settle().await;
    assert_eq!(scene.past.notes.lock().forgotten.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn files_that_serve_are_noted_as_good() {
    let scene = Setup::all(options()).start();
    scene.want("m", wish("m", &[1])).await;
    let noted = || scene.past.notes.lock().has_served.len();
    assert_eq!(noted(), 0);
    after(LOAD).await;
    assert_eq!(noted(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_orderly_end_is_noted() {
    let scene = Setup::all(options()).start();
    settle().await;
    let past = Arc::clone(&scene.past);
    assert!(!past.notes.lock().stopped);
    scene.stop.cancel();
    scene.task.await.unwrap();
    assert!(past.notes.lock().stopped);
}

#[tokio::test(start_paused = true)]
async fn a_local_version_is_not_written_down() {
    let scene = Setup::all(options()).start();
    let mut local = wish("m", &[1]);
    local
        .versions
        .insert(Version(1), Wanted::Local("/models/m".into()));
    scene.want("m", local).await;
    after(LOAD).await;
    assert_eq!(scene.serving("m"), Some(1));
    assert!(scene.past.saved().is_empty(), "{:?}", package("m", 1));
}
