//! What serves, and when.

use super::harness::{
    Harness, Setup, after, changed, millis, model, options, package, seconds, settle, wish,
    with_alias,
};
use super::loader::{LOAD, Script};
use crate::lifecycle::ModelOptions;
use crate::model::{Stage, Version};
use crate::registry::{DesiredModel, Wanted};
use crate::serving::{Demand as _, LookupError, Selector, VersionSelector};

#[tokio::test(start_paused = true)]
async fn a_version_serves_once_it_is_loaded() {
    let scene = Harness::start();
    scene.want("m", wish("m", &[1])).await;
    assert_eq!(
        (scene.serving("m"), scene.label("m", 1)),
        (None, "compiling")
    );
    after(LOAD).await;
    assert_eq!(
        (scene.serving("m"), scene.label("m", 1)),
        (Some(1), "ready")
    );
    assert_eq!(scene.swaps(), [(None, Some(1), "registry", "published")]);
}

#[tokio::test(start_paused = true)]
async fn the_first_version_of_a_start_is_published_because_of_the_start() {
    let scene = Setup::default().wanting("m", wish("m", &[1])).start();
    after(2 * LOAD).await;
    assert_eq!(scene.swaps(), [(None, Some(1), "start", "published")]);
}

#[tokio::test(start_paused = true)]
async fn what_is_wanted_is_known_once_the_registry_has_answered() {
    let scene = Setup::default().incomplete().start();
    settle().await;
    assert!(!scene.catalog.snapshot().known);
    scene.desired.send_modify(|desired| desired.complete = true);
    settle().await;
    assert!(scene.catalog.snapshot().known);
    assert!(scene.catalog.snapshot().is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_load_shows_each_state_that_it_enters() {
    let scene = Setup::default().budget(150).start();
    scene.want("first", wish("first", &[1])).await;
    scene.loader.script("m", 1, Script::serves().bytes(50));
    scene.want("m", wish("m", &[1])).await;
    assert_eq!(scene.label("m", 1), "compiling");
    after(LOAD).await;
    assert_eq!(scene.label("m", 1), "ready");
}

#[tokio::test(start_paused = true)]
async fn the_old_version_serves_until_the_new_one_can() {
    let scene = Harness::start();
    scene.want("m", wish("m", &[1])).await;
    after(LOAD).await;
    scene
        .loader
        .script("m", 2, Script::serves().taking(seconds(30)));
    scene.want("m", wish("m", &[2])).await;
    for _ in 0..29 {
        after(seconds(1)).await;
        assert_eq!(scene.serving("m"), Some(1));
    }
    after(seconds(2)).await;
    assert_eq!(scene.serving("m"), Some(2));
    let swaps = scene.swaps();
    assert_eq!(swaps[1], (Some(1), Some(2), "registry", "published"));
}

#[tokio::test(start_paused = true)]
async fn the_history_tells_how_long_each_phase_took() {
    let scene = Harness::start();
    scene.want("m", wish("m", &[1])).await;
    after(LOAD).await;
    let phases = scene.history().remove(0).phases;
    let compile = phases.iter().find(|(phase, _)| *phase == "compile");
    assert_eq!(compile, Some(&("compile", LOAD)));
}

#[tokio::test(start_paused = true)]
async fn while_another_version_is_wanted_the_entry_says_which() {
    let scene = Harness::start();
    scene.want("m", wish("m", &[1])).await;
    after(LOAD).await;
    scene.want("m", wish("m", &[2])).await;
    assert_eq!(scene.entry("m").unwrap().instead_of, Some(Version(2)));
    after(LOAD).await;
    assert_eq!(scene.entry("m").unwrap().instead_of, None);
}

#[tokio::test(start_paused = true)]
async fn an_alias_leads_to_the_old_version_until_the_new_one_can_answer() {
    let scene = Harness::start();
    scene
        .want("m", with_alias(wish("m", &[1]), "champion", 1))
        .await;
    assert_eq!(scene.alias("m", "champion"), None, "it was never served");
    after(LOAD).await;
    scene
        .want("m", with_alias(wish("m", &[1, 2]), "champion", 2))
        .await;
    assert_eq!(scene.alias("m", "champion"), Some(1));
    after(LOAD).await;
    assert_eq!(scene.alias("m", "champion"), Some(2));
    assert_eq!(scene.serving("m"), Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_stage_moves_with_its_version() {
    let scene = Harness::start();
    let staged = |version: u64| {
        let mut wish = wish("m", &[1, version]);
        wish.stages.insert(Stage::Production, Version(version));
        wish
    };
    scene.want("m", staged(1)).await;
    after(LOAD).await;
    scene.want("m", staged(2)).await;
    let production = || scene.entry("m").unwrap().stages[&Stage::Production].0;
    assert_eq!(production(), 1);
    after(LOAD).await;
    assert_eq!(production(), 2);
}

#[tokio::test(start_paused = true)]
async fn without_a_default_the_highest_version_that_can_answer_does() {
    let scene = Harness::start();
    scene
        .loader
        .script("m", 3, Script::serves().taking(seconds(5)));
    let any = DesiredModel {
        default: None,
        ..wish("m", &[1, 2, 3])
    };
    scene.want("m", any).await;
    after(LOAD).await;
    assert_eq!(scene.serving("m"), Some(2));
    after(seconds(5)).await;
    assert_eq!(scene.serving("m"), Some(3));
    assert_eq!(scene.label("m", 1), "ready", "all that are wanted stay");
}

#[tokio::test(start_paused = true)]
async fn the_default_version_is_loaded_first() {
    let scene = Harness::start();
    scene.want("m", wish("m", &[2, 1, 3])).await;
    assert_eq!(scene.loader.begun(), ["m:2", "m:1", "m:3"]);
}

#[tokio::test(start_paused = true)]
async fn a_previous_version_stays_loaded_and_comes_back_without_a_load() {
    let scene = Harness::start();
    for version in [1, 2] {
        scene.want("m", wish("m", &[version])).await;
        after(LOAD).await;
    }
    assert_eq!(scene.label("m", 1), "ready");
    scene.want("m", wish("m", &[1])).await;
    assert_eq!(scene.serving("m"), Some(1), "at once");
    assert_eq!(scene.loader.loads_of("m", 1), 1);
}

#[tokio::test(start_paused = true)]
async fn of_three_versions_the_first_one_leaves() {
    let scene = Harness::start();
    for version in [1, 2, 3] {
        scene.want("m", wish("m", &[version])).await;
        after(LOAD).await;
    }
    assert_eq!(
        [1, 2, 3].map(|version| scene.label("m", version)),
        ["-", "ready", "ready"]
    );
    scene.loader.wait_until_loaded(2);
}

#[tokio::test(start_paused = true)]
async fn no_previous_version_stays_where_none_is_kept() {
    let scene = Setup::all(ModelOptions {
        keep_previous: 0,
        ..options()
    })
    .start();
    for version in [1, 2] {
        scene.want("m", wish("m", &[version])).await;
        after(LOAD).await;
    }
    assert_eq!((scene.label("m", 1), scene.serving("m")), ("-", Some(2)));
    scene.loader.wait_until_loaded(1);
}

#[tokio::test(start_paused = true)]
async fn other_files_under_the_same_number_are_loaded_anew() {
    let scene = Harness::start();
    scene.want("m", wish("m", &[1])).await;
    after(LOAD).await;
    let mut again = wish("m", &[1]);
    again.versions = [(Version(1), Wanted::Package(changed("m", 1)))].into();
    scene.want("m", again).await;
    after(LOAD).await;
    assert_eq!(scene.serving("m"), Some(1));
    assert_eq!(scene.loader.loads_of("m", 1), 2);
    scene.loader.wait_until_loaded(1);
}

#[tokio::test(start_paused = true)]
async fn a_load_that_nobody_wants_any_more_is_cancelled() {
    let scene = Harness::start();
    scene
        .loader
        .script("m", 1, Script::serves().taking(seconds(60)));
    scene.want("m", wish("m", &[1])).await;
    scene.want("m", wish("m", &[2])).await;
    assert_eq!(
        (scene.label("m", 1), scene.label("m", 2)),
        ("-", "compiling")
    );
    after(seconds(120)).await;
    assert_eq!((scene.serving("m"), scene.loader.loaded()), (Some(2), 1));
}

#[tokio::test(start_paused = true)]
async fn an_earlier_load_of_the_same_version_changes_nothing() {
    let scene = Harness::start();
    scene
        .loader
        .script("m", 1, Script::serves().taking(seconds(2)));
    scene
        .loader
        .script("m", 1, Script::serves().taking(seconds(9)));
    scene.want("m", wish("m", &[1])).await;
    let mut again = wish("m", &[1]);
    again.versions = [(Version(1), Wanted::Package(changed("m", 1)))].into();
    scene.want("m", again).await;
    after(seconds(5)).await;
    assert_eq!((scene.serving("m"), scene.loader.loaded()), (None, 0));
    after(seconds(5)).await;
    assert_eq!((scene.serving("m"), scene.loader.loaded()), (Some(1), 1));
}

#[tokio::test(start_paused = true)]
async fn a_model_that_may_have_no_version_says_why() {
    let scene = Harness::start();
    let absent = DesiredModel {
        absent: Some("no alias `champion`".to_owned()),
        ..DesiredModel::default()
    };
    scene.want("m", absent).await;
    let entry = scene.entry("m").unwrap();
    assert_eq!(entry.absent.as_deref(), Some("no alias `champion`"));
    assert!(scene.has_series("onstage_model_state{model=\"m\",state=\"failed\",version=\"\"} 1"));
}

#[tokio::test(start_paused = true)]
async fn a_version_without_files_is_not_loaded_until_they_are_there() {
    let scene = Harness::start();
    let mut unready = wish("m", &[1]);
    let reason = Wanted::Unready("it is being uploaded".to_owned());
    unready.versions.insert(Version(1), reason);
    scene.want("m", unready).await;
    let state = scene.state("m", 1).unwrap();
    assert_eq!(state.reason().unwrap().label, "unready");
    assert!(scene.loader.begun().is_empty());
    scene.want("m", wish("m", &[1])).await;
    after(LOAD).await;
    assert_eq!(scene.serving("m"), Some(1));
}

#[tokio::test(start_paused = true)]
async fn each_change_is_announced_to_those_who_wait() {
    let scene = Harness::start();
    settle().await;
    let mut progress = scene.handle.progress();
    progress.mark_unchanged();
    after(seconds(60)).await;
    assert!(!progress.has_changed().unwrap(), "nothing happened");
    scene.want("m", wish("m", &[1])).await;
    progress.changed().await.unwrap();
    after(LOAD / 2).await;
    progress.mark_unchanged();
    tokio::time::timeout(LOAD, progress.changed())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(scene.serving("m"), Some(1), "shown before it is announced");
}

#[tokio::test(start_paused = true)]
async fn a_model_that_is_removed_is_gone_for_requests_at_once() {
    let scene = Harness::start();
    scene.want("m", wish("m", &[1])).await;
    after(LOAD).await;
    let request = scene.request("m");
    scene.remove("m").await;
    let selector = Selector {
        model: Some(model("m")),
        version: VersionSelector::Default,
    };
    let error = scene.catalog.lookup(&selector).unwrap_err();
    assert!(matches!(error, LookupError::UnknownModel { .. }), "{error}");
    assert_eq!(scene.work.totals().records, 1, "its version drains");
    drop(request);
    settle().await;
    assert_eq!(scene.work.totals().records, 0);
    assert_eq!(scene.series_of("m"), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_model_that_is_wanted_again_while_it_drains_is_loaded_again() {
    let scene = Harness::start();
    scene.want("m", wish("m", &[1])).await;
    after(LOAD).await;
    let request = scene.request("m");
    scene.remove("m").await;
    scene.want("m", wish("m", &[1])).await;
    assert_eq!(scene.label("m", 1), "draining");
    drop(request);
    after(millis(1)).await;
    assert_eq!(scene.label("m", 1), "compiling");
    after(LOAD).await;
    assert_eq!(scene.serving("m"), Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_model_is_out_of_sync_while_another_version_is_wanted() {
    let scene = Harness::start();
    scene.want("m", wish("m", &[1])).await;
    after(LOAD).await;
    scene
        .loader
        .script("m", 2, Script::serves().taking(seconds(10)));
    scene.want("m", wish("m", &[2])).await;
    let gauge = || {
        let lines = scene.series_of("m");
        let line = lines
            .iter()
            .find(|line| line.starts_with("onstage_model_out_of_sync"));
        let value = line.unwrap().split_whitespace().last().unwrap();
        value.parse::<f64>().unwrap()
    };
    after(seconds(5)).await;
    assert!((4.0..=5.5).contains(&gauge()), "{}", gauge());
    after(seconds(6)).await;
    assert!(gauge().abs() < 1e-9);
}

#[tokio::test(start_paused = true)]
async fn what_is_wanted_last_is_what_is_loaded() {
    let scene = Harness::start();
    let wanted = Wanted::Package(package("m", 3));
    scene.desired.send_modify(|desired| {
        desired.models.insert(model("m"), wish("m", &[1]));
    });
    scene.desired.send_modify(|desired| {
        let mut last = wish("m", &[3]);
        last.versions.insert(Version(3), wanted);
        desired.models.insert(model("m"), last);
    });
    after(2 * LOAD).await;
    assert_eq!(scene.loader.begun(), ["m:3"]);
}
