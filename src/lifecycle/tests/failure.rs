//! Loads that fail: tried again or not, and what serves meanwhile.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::harness::{Harness, Setup, after, changed, model, options, seconds, settle, wish};
use super::loader::{LOAD, Script};
use crate::lifecycle::{Contract, LoadError, ModelOptions};
use crate::model::{
    ContractError, Conversion, FlavorNames, ManifestError, ManifestProblem, PackageError,
    SignaturePolicy, Version,
};
use crate::registry::{SourceError, Wanted};
use crate::serving::VersionState;

fn unreachable() -> LoadError {
    LoadError::Fetch(SourceError::Unreachable {
        registry: "https://registry".to_owned(),
        reason: "connection refused".to_owned(),
    })
}

fn busy(retry_after: Duration) -> impl Fn() -> LoadError {
    move || {
        LoadError::Fetch(SourceError::Status {
            registry: "https://registry".to_owned(),
            status: 503,
            reason: "busy".to_owned(),
            retry_after: Some(retry_after),
        })
    }
}

fn broken() -> LoadError {
    LoadError::Example("the engine fails".to_owned())
}

fn foreign() -> LoadError {
    LoadError::Package(PackageError::Manifest(ManifestError {
        file: "MLmodel".into(),
        problem: ManifestProblem::Loader {
            loader: "mlflow.sklearn".to_owned(),
            flavors: FlavorNames(vec!["sklearn".to_owned()]),
        },
        conversion: Box::new(Conversion::of_directory(Path::new("m"))),
    }))
}

/// The wait before the next attempt, by what the state says.
fn retry_after(scene: &Harness) -> Option<Duration> {
    let Some(VersionState::Failed(reason)) = scene.state("m", 1) else {
        panic!("it has not failed");
    };
    let at = reason.retry_at?;
    Some(
        at.duration_since(std::time::SystemTime::now())
            .unwrap_or_default(),
    )
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_is_away_is_tried_again_after_longer_and_longer_waits() {
    let scene = Harness::start();
    for _ in 0..12 {
        let fails = Script::fails(unreachable).taking(Duration::ZERO);
        scene.loader.script("m", 1, fails);
    }
    scene.want("m", wish("m", &[1])).await;
    for attempt in 1..10 {
        let began = Instant::now();
        while scene.loader.loads_of("m", 1) == attempt {
            after(Duration::from_millis(10)).await;
        }
        // The wait differs by up to a quarter.
        let backoff = f64::from(1 << (attempt - 1).min(6)).min(60.0);
        let waited = began.elapsed().as_secs_f64() / backoff;
        assert!(
            (0.72..1.28).contains(&waited),
            "attempt {attempt}: {waited}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_wait_never_grows_beyond_a_minute_and_a_quarter() {
    let scene = Harness::start();
    for _ in 0..40 {
        let fails = Script::fails(unreachable).taking(Duration::ZERO);
        scene.loader.script("m", 1, fails);
    }
    scene.want("m", wish("m", &[1])).await;
    after(seconds(600)).await;
    let before = scene.loader.loads_of("m", 1);
    after(seconds(750)).await;
    assert!(scene.loader.loads_of("m", 1) >= before + 10);
}

#[tokio::test(start_paused = true)]
async fn a_registry_says_when_it_wants_to_be_tried_again() {
    let scene = Harness::start();
    scene
        .loader
        .script("m", 1, Script::fails(busy(seconds(30))));
    scene.want("m", wish("m", &[1])).await;
    after(seconds(29)).await;
    assert_eq!(scene.loader.loads_of("m", 1), 1);
    after(seconds(2)).await;
    assert_eq!(scene.serving("m"), Some(1));
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_the_files_is_not_tried_again() {
    let scene = Harness::start();
    scene.loader.script("m", 1, Script::fails(broken));
    scene.want("m", wish("m", &[1])).await;
    after(seconds(3600)).await;
    assert_eq!(scene.loader.loads_of("m", 1), 1);
    assert_eq!(retry_after(&scene), None);
    assert!(scene.state("m", 1).unwrap().is_settled());
}

#[tokio::test(start_paused = true)]
async fn other_files_are_tried_at_once() {
    let scene = Harness::start();
    scene.loader.script("m", 1, Script::fails(broken));
    scene.want("m", wish("m", &[1])).await;
    after(LOAD).await;
    let mut again = wish("m", &[1]);
    again.versions = [(Version(1), Wanted::Package(changed("m", 1)))].into();
    scene.want("m", again).await;
    after(LOAD).await;
    assert_eq!(scene.serving("m"), Some(1));
}

#[tokio::test(start_paused = true)]
async fn the_old_version_serves_when_the_new_one_cannot() {
    let scene = Harness::start();
    scene.want("m", wish("m", &[1])).await;
    after(LOAD).await;
    scene.loader.script("m", 2, Script::fails(broken));
    scene.want("m", wish("m", &[2])).await;
    after(LOAD).await;
    assert_eq!(
        (scene.serving("m"), scene.label("m", 2)),
        (Some(1), "failed")
    );
    assert_eq!(scene.swaps()[1], (Some(1), Some(2), "registry", "failed"));
    let failures = "onstage_candidate_failures_total{model=\"m\",reason=\"example\"} 1";
    assert!(scene.has_series(failures));
}

#[tokio::test(start_paused = true)]
async fn the_next_version_takes_over_from_the_old_one_after_a_failure() {
    let scene = Harness::start();
    scene.want("m", wish("m", &[1])).await;
    after(LOAD).await;
    scene.loader.script("m", 2, Script::fails(broken));
    scene.want("m", wish("m", &[2])).await;
    after(LOAD).await;
    scene.want("m", wish("m", &[3])).await;
    after(LOAD).await;
    assert_eq!((scene.serving("m"), scene.label("m", 2)), (Some(3), "-"));
    assert_eq!(scene.swaps()[2].0, Some(1), "version 2 never served");
}

#[tokio::test(start_paused = true)]
async fn the_history_tells_of_the_first_attempt_alone() {
    let scene = Harness::start();
    for _ in 0..5 {
        scene.loader.script("m", 1, Script::fails(unreachable));
    }
    scene.want("m", wish("m", &[1])).await;
    after(seconds(12)).await;
    assert!(scene.loader.loads_of("m", 1) >= 3);
    assert_eq!(scene.swaps(), [(None, Some(1), "registry", "failed")]);
}

#[tokio::test(start_paused = true)]
async fn attempts_count_from_one_again_after_a_success() {
    let scene = Harness::start();
    scene.loader.script("m", 1, Script::fails(unreachable));
    scene.loader.script("m", 1, Script::fails(unreachable));
    scene.want("m", wish("m", &[1])).await;
    after(seconds(10)).await;
    assert_eq!(scene.serving("m"), Some(1));
    let mut again = wish("m", &[1]);
    again.versions = [(Version(1), Wanted::Package(changed("m", 1)))].into();
    scene.loader.script("m", 1, Script::fails(unreachable));
    scene.want("m", again).await;
    after(LOAD).await;
    let state = scene.state("m", 1).unwrap();
    assert_eq!(state.reason().unwrap().attempt, 1);
}

#[tokio::test(start_paused = true)]
async fn a_model_of_another_kind_is_no_failure() {
    let scene = Harness::start();
    scene.loader.script("m", 1, Script::fails(foreign));
    scene.want("m", wish("m", &[1])).await;
    after(seconds(600)).await;
    assert_eq!(scene.label("m", 1), "unsupported");
    assert_eq!(scene.loader.loads_of("m", 1), 1);
    assert!(scene.history().is_empty());
    assert!(scene.catalog.snapshot().is_ready(), "nobody waits for it");
}

#[tokio::test(start_paused = true)]
async fn a_model_of_another_kind_in_place_of_one_that_serves_is_a_failed_swap() {
    let scene = Harness::start();
    scene.want("m", wish("m", &[1])).await;
    after(LOAD).await;
    scene.loader.script("m", 2, Script::fails(foreign));
    scene.want("m", wish("m", &[2])).await;
    after(LOAD).await;
    assert_eq!(scene.serving("m"), Some(1));
    assert_eq!(scene.swaps()[1], (Some(1), Some(2), "registry", "failed"));
}

#[tokio::test(start_paused = true)]
async fn a_load_that_panics_fails_alone() {
    let scene = Harness::start();
    scene.loader.script("m", 1, Script::panics());
    scene.want("m", wish("m", &[1])).await;
    scene.want("other", wish("other", &[1])).await;
    after(LOAD).await;
    let state = scene.state("m", 1).unwrap();
    let reason = state.reason().unwrap();
    assert_eq!(reason.label, "internal");
    assert!(reason.detail.contains("on purpose"), "{}", reason.detail);
    assert_eq!(scene.serving("other"), Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_load_that_never_ends_holds_up_nobody_and_is_cancelled() {
    let scene = Harness::start();
    scene.loader.script("m", 1, Script::hangs());
    scene.want("m", wish("m", &[1])).await;
    scene.want("other", wish("other", &[1])).await;
    after(seconds(60)).await;
    assert_eq!(scene.serving("other"), Some(1));
    scene.remove("m").await;
    assert_eq!(scene.work.totals().records, 1);
    assert!(scene.entry("m").is_none());
}

fn breaking(change: &str) -> ContractError {
    ContractError {
        policy: SignaturePolicy::Exact,
        changes: vec![change.to_owned()],
    }
}

#[tokio::test(start_paused = true)]
async fn a_contract_keeps_a_version_out_that_would_break_clients() {
    let contract = Contract(Arc::new(|old, new| {
        let (old, new) = (old.id.version, new.id.version);
        if new.0 == 2 {
            return Err(breaking(&format!(
                "version {old} gives `score`, version {new} does not"
            )));
        }
        Ok(())
    }));
    let scene = Setup::all(ModelOptions {
        contract,
        ..options()
    })
    .start();
    scene.want("m", wish("m", &[1])).await;
    after(LOAD).await;
    scene.want("m", wish("m", &[2])).await;
    after(LOAD).await;
    let state = scene.state("m", 2).unwrap();
    assert_eq!(state.reason().unwrap().label, "contract_changed");
    assert_eq!(scene.serving("m"), Some(1));
    scene.want("m", wish("m", &[3])).await;
    after(LOAD).await;
    assert_eq!(scene.serving("m"), Some(3));
}

#[tokio::test(start_paused = true)]
async fn the_first_version_breaks_no_contract() {
    let scene = Setup::all(ModelOptions {
        contract: Contract(Arc::new(|_, _| Err(breaking("never")))),
        ..options()
    })
    .start();
    scene.want("m", wish("m", &[1])).await;
    after(LOAD).await;
    assert_eq!(scene.serving("m"), Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_start_gives_up_waiting_after_five_attempts() {
    let scene = Setup::default().wanting("m", wish("m", &[1])).start();
    for _ in 0..20 {
        let fails = Script::fails(unreachable).taking(Duration::ZERO);
        scene.loader.script("m", 1, fails);
    }
    settle().await;
    let given_up = || scene.entry("m").unwrap().given_up;
    while scene.loader.loads_of("m", 1) < 4 {
        after(seconds(1)).await;
    }
    assert!(!given_up());
    after(seconds(11)).await;
    assert_eq!(scene.loader.loads_of("m", 1), 5);
    assert!(given_up() && scene.catalog.snapshot().is_settled());
    after(seconds(600)).await;
    assert!(scene.loader.loads_of("m", 1) > 8, "it is still tried");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_a_failed_version_that_is_not_wanted_any_more() {
    let scene = Harness::start();
    scene.loader.script("m", 1, Script::fails(unreachable));
    scene.want("m", wish("m", &[1])).await;
    after(LOAD).await;
    scene.remove("m").await;
    let totals = scene.work.totals();
    assert_eq!((totals.records, totals.timers), (0, 0));
    after(seconds(60)).await;
    assert_eq!(scene.loader.loads_of("m", 1), 1);
}

#[tokio::test(start_paused = true)]
async fn models_fail_each_for_itself() {
    let scene = Harness::start();
    scene.loader.script("a", 1, Script::fails(unreachable));
    scene.loader.script("b", 1, Script::fails(broken));
    scene.desired.send_modify(|desired| {
        for name in ["a", "b", "c"] {
            desired.models.insert(model(name), wish(name, &[1]));
        }
    });
    after(seconds(5)).await;
    let serving = ["a", "b", "c"].map(|name| scene.serving(name));
    assert_eq!(serving, [Some(1), None, Some(1)]);
}
