//! Many models, registries that flap, and the end.

use std::time::Duration;

use super::harness::{Harness, Setup, after, millis, model, options, seconds, settle, wish};
use super::loader::{LOAD, Script};
use crate::lifecycle::ModelOptions;
use crate::serving::{Admin as _, AdminError};

const MANY: usize = 1000;

async fn many() -> Harness {
    let scene = Harness::start();
    scene.desired.send_modify(|desired| {
        for number in 0..MANY {
            let name = format!("m{number}");
            desired.models.insert(model(&name), wish(&name, &[1]));
        }
    });
    after(2 * LOAD).await;
    scene
}

#[tokio::test(start_paused = true)]
async fn a_swap_of_one_of_a_thousand_models_touches_no_other() {
    let scene = many().await;
    let snapshot = scene.catalog.snapshot();
    let ready = snapshot
        .models
        .values()
        .filter(|entry| entry.serving().is_some());
    assert_eq!(ready.count(), MANY);
    drop(snapshot);
    scene.work.take();
    scene.want("m7", wish("m7", &[2])).await;
    after(2 * LOAD).await;
    assert_eq!(scene.serving("m7"), Some(2));
    let seen = scene.work.take();
    let touched: Vec<&str> = seen.decided.keys().map(|name| name.as_str()).collect();
    assert_eq!(touched, ["m7"]);
    let shown: Vec<&str> = seen.shown.keys().map(|name| name.as_str()).collect();
    assert_eq!(shown, ["m7"]);
    let (decided, shown) = (seen.decided[&model("m7")], seen.shown[&model("m7")]);
    assert!(decided <= 10 && shown <= 10, "{decided} {shown}");
    // A removal, and a manual decision, are as cheap.
    scene.remove("m8").await;
    scene.handle.unload(&model("m9")).await.unwrap();
    settle().await;
    let seen = scene.work.take();
    let touched: Vec<&str> = seen.decided.keys().map(|name| name.as_str()).collect();
    assert_eq!(touched, ["m8", "m9"]);
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_flaps_leaves_no_gap() {
    let scene = Setup::all(ModelOptions {
        keep_previous: 0,
        ..options()
    })
    .start();
    scene.want("m", wish("m", &[1])).await;
    after(LOAD).await;
    scene
        .loader
        .script("m", 2, Script::serves().taking(seconds(1)));
    for round in 0..100 {
        let version = if round % 2 == 0 { 2 } else { 1 };
        scene.want("m", wish("m", &[version])).await;
        after(millis(30)).await;
        assert!(scene.serving("m").is_some(), "round {round}");
    }
    after(seconds(2)).await;
    assert_eq!(scene.serving("m"), Some(1));
    assert_eq!(scene.loader.loads_of("m", 1), 1, "it served all the time");
}

#[tokio::test(start_paused = true)]
async fn a_model_that_comes_and_goes_leaves_nothing() {
    let scene = Harness::start();
    for _ in 0..20 {
        scene.want("m", wish("m", &[1])).await;
        after(LOAD / 2).await;
        scene.remove("m").await;
        scene.want("m", wish("m", &[1])).await;
        after(2 * LOAD).await;
        assert_eq!(scene.serving("m"), Some(1));
        scene.remove("m").await;
    }
    settle().await;
    assert_eq!(scene.work.totals(), Default::default());
    assert_eq!(scene.series_of("m"), Vec::<String>::new());
    scene.loader.wait_until_loaded(0);
}

#[tokio::test(start_paused = true)]
async fn the_end_in_the_middle_of_a_load_cancels_it() {
    let scene = Harness::start();
    scene.want("served", wish("served", &[1])).await;
    after(LOAD).await;
    scene
        .loader
        .script("m", 1, Script::serves().taking(seconds(5)));
    scene.want("m", wish("m", &[1])).await;
    scene.stop.cancel();
    scene.task.await.unwrap();
    after(seconds(10)).await;
    assert_eq!(scene.loader.loaded(), 1, "the second one was never made");
    let answer = scene.catalog.snapshot().models[&model("served")].serving();
    assert!(
        answer.is_some(),
        "what is loaded serves until the process ends"
    );
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_at_the_end_hears_of_it() {
    let scene = Setup::default().found("m", 2).start();
    scene.want("m", wish("m", &[1])).await;
    after(LOAD).await;
    scene.loader.script("m", 2, Script::hangs());
    let name = model("m");
    let swap = scene.handle.swap(&name, crate::model::Version(2));
    let (swapped, ()) = tokio::join!(swap, async {
        settle().await;
        scene.stop.cancel();
    });
    assert!(matches!(swapped, Err(AdminError::Stopping)));
}

#[tokio::test(start_paused = true)]
async fn without_a_registry_what_is_there_is_served_on() {
    let Harness {
        desired,
        handle,
        catalog,
        loader,
        task,
        ..
    } = {
        let scene = Setup::default().wanting("m", wish("m", &[1])).start();
        after(2 * LOAD).await;
        scene
    };
    drop(desired);
    settle().await;
    assert!(!task.is_finished());
    handle.unload(&model("m")).await.unwrap();
    handle.load(&model("m")).await.unwrap();
    let serving = catalog.snapshot().models[&model("m")].serving();
    assert!(serving.is_some());
    assert_eq!(loader.loads_of("m", 1), 2);
}

#[tokio::test(start_paused = true)]
async fn a_manager_without_handles_goes_on() {
    let Harness {
        desired,
        handle,
        catalog,
        task,
        ..
    } = Harness::start();
    drop(handle);
    settle().await;
    desired.send_modify(|desired| {
        desired.models.insert(model("m"), wish("m", &[1]));
    });
    after(2 * LOAD).await;
    assert!(catalog.snapshot().models[&model("m")].serving().is_some());
    assert!(!task.is_finished());
}

#[tokio::test(start_paused = true)]
async fn many_models_that_fail_are_retried_each_in_its_time() {
    let scene = Harness::start();
    for number in 0..100 {
        for _ in 0..2 {
            let slow = || crate::lifecycle::LoadError::Slow(seconds(1));
            let fails = Script::fails(slow).taking(Duration::ZERO);
            scene.loader.script(&format!("m{number}"), 1, fails);
        }
    }
    scene.desired.send_modify(|desired| {
        for number in 0..100 {
            let name = format!("m{number}");
            desired.models.insert(model(&name), wish(&name, &[1]));
        }
    });
    after(seconds(10)).await;
    let snapshot = scene.catalog.snapshot();
    assert!(
        snapshot
            .models
            .values()
            .all(|entry| entry.serving().is_some())
    );
    assert_eq!(scene.loader.begun().len(), 300);
}
