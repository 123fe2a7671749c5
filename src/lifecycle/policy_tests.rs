use std::time::Duration;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

use super::*;

fn v(version: u64) -> Version {
    Version(version)
}

fn view(wanted: &[u64], versions: &[(u64, Phase)]) -> ModelView {
    ModelView {
        wanted: wanted.iter().copied().map(Version).collect(),
        target: wanted.first().copied().map(Version),
        versions: versions.iter().map(|(n, phase)| (v(*n), *phase)).collect(),
        keep_previous: 1,
        ..ModelView::default()
    }
}

fn act(view: &ModelView) -> Action {
    next_action(view, Instant::now())
}

#[test]
fn a_new_version_is_loaded_beside_the_old_one() {
    let mut model = view(&[2], &[(1, Phase::Ready)]);
    model.published = [v(1)].into();
    assert_eq!(act(&model), Action::Load(v(2)));
    model.versions.insert(v(2), Phase::Loading);
    assert_eq!(
        act(&model),
        Action::Rest,
        "the old one serves until the new one can"
    );
}

#[test]
fn the_load_of_a_version_that_is_no_longer_wanted_is_cancelled_first() {
    let model = view(&[3], &[(1, Phase::Ready), (2, Phase::Loading)]);
    let model = ModelView {
        published: [v(1)].into(),
        ..model
    };
    assert_eq!(act(&model), Action::Cancel(v(2)));
}

#[test]
fn as_many_previous_versions_stay_as_are_kept() {
    let mut model = view(&[4], &[1, 2, 3, 4].map(|n| (n, Phase::Ready)));
    model.published = [v(4)].into();
    model.previous = vec![v(3), v(2), v(1)];
    assert_eq!(act(&model), Action::Unload(v(1)));
    model.keep_previous = 3;
    assert_eq!(act(&model), Action::Rest);
    model.keep_previous = 0;
    model.fallback = Some(v(2));
    assert_eq!(
        act(&model),
        Action::Unload(v(1)),
        "the one to go back to stays through probation"
    );
    model.versions.remove(&v(1));
    assert_eq!(act(&model), Action::Unload(v(3)));
}

#[test]
fn failures_wait_for_their_time_or_for_a_change() {
    let later = Instant::now() + Duration::from_secs(5);
    assert_eq!(act(&view(&[1], &[(1, Phase::Failed(None))])), Action::Rest);
    let model = view(&[1], &[(1, Phase::Failed(Some(later)))]);
    assert_eq!(act(&model), Action::Rest);
    assert_eq!(next_action(&model, later), Action::Load(v(1)));
    assert_eq!(
        act(&view(&[2], &[(1, Phase::Failed(None)), (2, Phase::Ready)])),
        Action::Forget(v(1))
    );
}

#[test]
fn an_unwanted_model_is_unloaded_whole() {
    let mut model = view(&[], &[(1, Phase::Ready), (2, Phase::Loading)]);
    model.keep_previous = 0;
    assert_eq!(act(&model), Action::Cancel(v(2)));
    model.versions.remove(&v(2));
    assert_eq!(act(&model), Action::Unload(v(1)));
}

#[test]
fn paths_lead_to_the_last_good_version_until_the_wanted_one_can_answer() {
    let wanted = Paths {
        default: Some(v(3)),
        ..Paths::default()
    };
    let now = Paths {
        default: Some(v(2)),
        ..Paths::default()
    };
    let lead = |ready: &[u64]| {
        let ready = ready.iter().copied().map(Version).collect();
        paths(&wanted, &now, &ready, &[v(1)]).default.unwrap().0
    };
    assert_eq!(lead(&[1, 2, 3]), 3);
    assert_eq!(lead(&[1, 2]), 2);
    assert_eq!(lead(&[1]), 1, "the current one is gone: the one before");
    assert_eq!(lead(&[]), 3, "so that its state is told");
}

fn phase() -> impl Strategy<Value = Phase> {
    prop_oneof![
        Just(Phase::New),
        Just(Phase::Loading),
        Just(Phase::Ready),
        Just(Phase::Draining),
        Just(Phase::Failed(None)),
    ]
}

prop_compose! {
    fn any_model()(
        wanted in btree_set(1u64..6, 0..3),
        versions in btree_map(1u64..6, phase(), 0..5),
        published in btree_set(1u64..6, 0..2),
        previous in vec(1u64..6, 0..4),
        fallback in proptest::option::of(1u64..6),
        keep_previous in 0usize..3,
    ) -> ModelView {
        let set = |numbers: &BTreeSet<u64>| numbers.iter().copied().map(Version).collect();
        ModelView {
            target: wanted.iter().next().copied().map(Version),
            wanted: set(&wanted),
            versions: versions.into_iter().map(|(n, phase)| (v(n), phase)).collect(),
            published: set(&published),
            previous: previous.into_iter().map(Version).collect(),
            fallback: fallback.map(Version),
            keep_previous,
        }
    }
}

/// Does what the policy says, as if every load succeeded at once, and moves the paths when they can.
fn settle(mut model: ModelView) -> (ModelView, usize) {
    for step in 0..100 {
        let ready = model.ready();
        if let Some(target) = model.target.filter(|target| ready.contains(target)) {
            let before = std::mem::replace(&mut model.published, [target].into());
            model.published.extend(
                model
                    .wanted
                    .iter()
                    .filter(|version| ready.contains(version)),
            );
            let left = before
                .difference(&model.published)
                .copied()
                .collect::<Vec<_>>();
            model.previous.splice(0..0, left);
        }
        match act(&model) {
            Action::Rest
                if model
                    .versions
                    .values()
                    .all(|phase| !matches!(phase, Phase::Loading | Phase::Draining)) =>
            {
                return (model, step);
            }
            Action::Rest => {
                for phase in model
                    .versions
                    .values_mut()
                    .filter(|phase| **phase == Phase::Loading)
                {
                    *phase = Phase::Ready;
                }
                model.versions.retain(|_, phase| *phase != Phase::Draining);
            }
            Action::Load(version) => {
                model.versions.insert(version, Phase::Loading);
            }
            Action::Cancel(version) | Action::Forget(version) => {
                model.versions.remove(&version);
            }
            Action::Unload(version) => {
                model.versions.insert(version, Phase::Draining);
            }
        }
    }
    panic!("it never comes to rest: {model:?}");
}

proptest! {
    #[test]
    fn nothing_that_is_needed_is_ever_unloaded_and_nothing_is_loaded_twice(model in any_model()) {
        match act(&model) {
            Action::Unload(version) => {
                prop_assert!(!model.wanted.contains(&version) && !model.published.contains(&version));
                prop_assert_ne!(model.fallback, Some(version));
                prop_assert_eq!(model.versions[&version], Phase::Ready);
            }
            Action::Load(version) => {
                prop_assert!(model.wanted.contains(&version));
                prop_assert!(matches!(model.versions.get(&version), None | Some(Phase::New)));
            }
            Action::Cancel(version) => prop_assert_eq!(model.versions[&version], Phase::Loading),
            Action::Forget(_) | Action::Rest => {}
        }
    }

    #[test]
    fn it_comes_to_rest_with_everything_wanted_ready_and_the_rest_gone(model in any_model()) {
        let (end, _) = settle(model.clone());
        for version in &model.wanted {
            let failed = model.versions.get(version) == Some(&Phase::Failed(None));
            prop_assert!(failed || end.versions.get(version) == Some(&Phase::Ready), "{version}: {end:?}");
        }
        let needed = end.wanted.len() + end.published.len() + 1 + end.keep_previous;
        prop_assert!(end.versions.len() <= needed, "{end:?}");
    }

    #[test]
    fn paths_never_lead_to_a_version_that_cannot_answer_when_a_good_one_is_known(
        wanted in 1u64..5, now in 1u64..5, ready in btree_set(1u64..5, 0..4), previous in vec(1u64..5, 0..3),
    ) {
        let of = |version| Paths { default: Some(v(version)), ..Paths::default() };
        let ready: BTreeSet<Version> = ready.into_iter().map(Version).collect();
        let previous: Vec<Version> = previous.into_iter().map(Version).collect();
        let led = paths(&of(wanted), &of(now), &ready, &previous).default.unwrap();
        let mut known = [v(wanted), v(now)].into_iter().chain(previous);
        if known.any(|version| ready.contains(&version)) {
            prop_assert!(ready.contains(&led));
        } else {
            prop_assert_eq!(led, v(wanted));
        }
    }
}
