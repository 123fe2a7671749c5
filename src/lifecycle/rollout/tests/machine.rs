//! What the machine decides, look by look.

use std::time::Duration;

use super::super::*;
use crate::model::Version;

const STABLE: Version = Version(11);
const CHALLENGER: Version = Version(12);
const START: u64 = 1_796_119_200_000;

/// One replica, and what it looks at.
struct Scene {
    rollout: Rollout,
    reading: Reading,
    now: Moment,
    own: Counts,
    peers: Others,
    scores: Option<ScoreShift>,
}

enum Others {
    Unknown,
    None,
    Sum(Counts),
}

fn rollout(change: impl FnOnce(&mut PlanParts), known: Known) -> Rollout {
    let mut parts = PlanParts::default();
    change(&mut parts);
    let replica = Replica {
        name: "a:8080".to_owned(),
        fleet: "default".to_owned(),
        model: "fraud".to_owned(),
    };
    Rollout::new(replica, Plan::new(parts).unwrap(), known)
}

fn counts(failed: u64, answers: u64) -> Counts {
    let version = |answers, failed| VersionCounts {
        answers,
        failed,
        ..VersionCounts::default()
    };
    Counts {
        stable: version(50_000, 0),
        challenger: version(answers, failed),
        ..Counts::default()
    }
}

impl Scene {
    fn new(change: impl FnOnce(&mut PlanParts)) -> Self {
        let lease = Lease {
            holder: "a:8080".to_owned(),
            until: Moment::from_millis(u64::MAX),
        };
        Self {
            rollout: rollout(change, Known::default()),
            reading: Reading {
                stable: Some(STABLE),
                challenger: Some(CHALLENGER),
                tags: Tags {
                    lease: Some(lease),
                    ..Tags::default()
                },
            },
            now: Moment::from_millis(START),
            own: counts(0, 1_000),
            peers: Others::None,
            scores: None,
        }
    }

    /// A rollout in its first step, which this replica has read.
    fn running(change: impl FnOnce(&mut PlanParts)) -> Self {
        let mut scene = Self::new(change);
        let Action::Begin(state) = scene.look() else {
            panic!("it begins");
        };
        scene.reading.tags.state = Some(state);
        assert_eq!(scene.look(), Action::Wait(Wait::NotDue));
        scene
    }

    fn at_the_last_step(change: impl FnOnce(&mut PlanParts)) -> Self {
        let mut scene = Self::running(change);
        for percent in [5, 25, 50] {
            scene.pass(600);
            let Action::Step(state) = scene.look() else {
                panic!("a step to {percent}");
            };
            assert_eq!(state.weight.percent(), percent);
            scene.reading.tags.state = Some(state);
            assert_eq!(scene.look(), Action::Wait(Wait::NotDue));
        }
        scene.pass(600);
        scene
    }

    fn pass(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
    }

    fn look_with(&mut self, registry: bool) -> Action {
        let state = self.rollout.known().state().cloned();
        let state = state.or_else(|| self.reading.tags.state.clone());
        let evidence = state.as_ref().map(|state| Evidence {
            id: &state.id,
            step: state.step,
            own: &self.own,
            peers: match &self.peers {
                Others::Unknown => Peers::Unknown,
                Others::None => Peers::Alone,
                Others::Sum(sum) => Peers::Together(sum),
            },
            scores: self.scores,
        });
        self.rollout.look(&Observation {
            now: self.now,
            registry: registry.then_some(&self.reading),
            serving: Some(STABLE),
            evidence,
        })
    }

    fn look(&mut self) -> Action {
        self.look_with(true)
    }

    fn waits(&mut self) -> Wait {
        match self.look() {
            Action::Wait(wait) => wait,
            action => panic!("expected a wait, got {action:?}"),
        }
    }

    fn ends(&mut self) -> Ended {
        match self.look() {
            Action::End(ended) => {
                assert_eq!(self.rollout.percent(), 0);
                ended
            }
            action => panic!("expected an end, got {action:?}"),
        }
    }

    fn order(&mut self, order: OrderWord, seconds: u64) {
        self.reading.tags.order = Some(Order {
            id: self.reading.tags.state.as_ref().unwrap().id.clone(),
            order,
            who: "ann".to_owned(),
            when: Moment::from_millis(START).after(Duration::from_secs(seconds)),
        });
    }
}

#[test]
fn steps_are_served_once_they_are_read_back_and_a_person_has_the_last_word() {
    let mut scene = Scene::new(|_| ());
    let Action::Begin(state) = scene.look() else {
        panic!("it begins");
    };
    assert_eq!((state.step, state.weight.percent()), (1, 1));
    assert_eq!(scene.rollout.percent(), 0, "a write may fail");
    scene.reading.tags.state = Some(state);
    assert_eq!(scene.waits(), Wait::NotDue);
    assert_eq!(scene.rollout.percent(), 1);
    let mut scene = Scene::at_the_last_step(|_| ());
    assert_eq!(scene.waits(), Wait::Person);
    assert_eq!(scene.rollout.percent(), 50);
    assert_eq!(scene.rollout.phase(), Phase::Waiting);
    scene.pass(1);
    assert_eq!(scene.waits(), Wait::Person);
    scene.order(OrderWord::Promote, 5_000);
    let promote = Action::Promote {
        from: STABLE,
        to: CHALLENGER,
    };
    assert_eq!(scene.look(), promote);
    assert_eq!(
        scene.look(),
        promote,
        "as long as nobody has moved the alias"
    );
}

#[test]
fn automatic_promotion_follows_the_last_step() {
    let mut scene = Scene::at_the_last_step(|parts| parts.promote = Promotion::Auto);
    let promote = Action::Promote {
        from: STABLE,
        to: CHALLENGER,
    };
    assert_eq!(scene.look(), promote);
    assert_eq!(scene.look(), promote, "the look after the second reading");
    scene.reading.stable = Some(CHALLENGER);
    assert_eq!(scene.waits(), Wait::Promoted);
    assert_eq!(scene.rollout.percent(), 50, "until this replica serves it");
    assert_eq!(scene.rollout.phase(), Phase::Promoted);
    let observation = Observation {
        now: scene.now,
        registry: Some(&scene.reading),
        serving: Some(CHALLENGER),
        evidence: None,
    };
    scene.rollout.look(&observation);
    assert_eq!(scene.rollout.percent(), 0);
    // Somebody takes the alias back: the rollout does not come back with it.
    scene.reading.stable = Some(STABLE);
    assert_eq!(scene.waits(), Wait::Promoted);
    assert_eq!(scene.rollout.percent(), 0);
}

#[test]
fn a_replica_that_missed_the_promotion_does_not_serve_the_challenger_after_it_was_taken_back() {
    let mut scene = Scene::at_the_last_step(|_| ());
    scene.waits();
    scene.reading.tags.state.as_mut().unwrap().promoted = Some(scene.now);
    assert_eq!(scene.waits(), Wait::Promoted);
    assert_eq!(scene.rollout.percent(), 0);
}

#[test]
fn no_traffic_holds_until_the_deadline_and_then_stable_serves() {
    let mut scene = Scene::running(|_| ());
    scene.own = Counts::default();
    for _ in 0..143 {
        scene.pass(600);
        let hold = Hold::FewRequests {
            answers: 0,
            of: 500,
        };
        assert_eq!(scene.waits(), Wait::Gate(hold));
        assert_eq!(
            (scene.rollout.percent(), scene.rollout.phase()),
            (1, Phase::Running)
        );
    }
    scene.pass(600);
    let ended = scene.ends();
    assert_eq!(ended.cause, Cause::Deadline);
    assert_eq!(
        ended.reason,
        "step 1 at 1 % had not ended after `1day`, the deadline"
    );
    assert_eq!(scene.rollout.phase(), Phase::Expired);
    assert_eq!(scene.waits(), Wait::Ended(ended.id));
}

#[test]
fn a_bad_challenger_is_gone_at_the_look_that_shows_it_also_without_the_registry() {
    for registry in [true, false] {
        let mut scene = Scene::running(|_| ());
        scene.own = counts(60, 600);
        scene.pass(599);
        let before = scene.look_with(registry);
        assert_eq!(
            before,
            Action::Wait(Wait::NotDue),
            "a test at every moment would find chance"
        );
        scene.pass(1);
        let Action::End(ended) = scene.look_with(registry) else {
            panic!("10 % fail");
        };
        assert_eq!(scene.rollout.percent(), 0);
        assert_eq!((ended.cause, ended.who.as_str()), (Cause::Gate, "a:8080"));
        let numbers = ended.numbers.clone().unwrap();
        assert_eq!((numbers.challenger, numbers.challenger_of), (60, 600));
        assert!(
            ended.reason.starts_with("step 1 at 1 %: 60 of 600 answers"),
            "{}",
            ended.reason
        );
        assert_eq!(scene.rollout.phase(), Phase::Aborted);
        // The registry forgets it, and this replica does not.
        assert_eq!(scene.waits(), Wait::Ended(ended.id.clone()));
        assert_eq!(scene.rollout.missing(&scene.reading).0, Some(&ended));
    }
}

#[test]
fn half_of_twenty_do_not_wait_for_a_look() {
    let mut scene = Scene::running(|_| ());
    scene.own = counts(10, 20);
    scene.pass(1);
    assert_eq!(scene.ends().cause, Cause::Gate);
}

#[test]
fn what_all_replicas_saw_together_ends_it_and_one_alone_needs_more() {
    let mut scene = Scene::running(|_| ());
    scene.own = counts(6, 200);
    scene.own.stable.failed = 500;
    scene.pass(600);
    scene.peers = Others::Sum(scene.own.clone());
    assert!(matches!(
        scene.waits(),
        Wait::Gate(Hold::FewRequests { .. })
    ));
    let mut sum = counts(30, 600);
    sum.stable.failed = 500;
    scene.peers = Others::Sum(sum);
    scene.pass(600);
    assert_eq!(scene.ends().numbers.unwrap().basis, Basis::Fleet);
}

#[test]
fn counts_of_another_step_say_nothing_about_this_one() {
    let mut scene = Scene::running(|_| ());
    scene.pass(600);
    let Action::Step(state) = scene.look() else {
        panic!("a step");
    };
    let bad = counts(600, 600);
    scene.reading.tags.state = Some(state.clone());
    let late = Evidence {
        id: &state.id,
        step: 1,
        own: &bad,
        peers: Peers::Alone,
        scores: None,
    };
    let action = scene.rollout.look(&Observation {
        now: scene.now,
        registry: Some(&scene.reading),
        serving: Some(STABLE),
        evidence: Some(late),
    });
    assert_eq!(action, Action::Wait(Wait::NotDue));
    assert_eq!(scene.rollout.percent(), 5);
}

#[test]
fn without_peers_the_lease_holder_only_advises() {
    let mut scene = Scene::running(|_| ());
    scene.peers = Others::Unknown;
    scene.pass(600);
    let next = Weight::try_from(5).unwrap();
    assert_eq!(scene.waits(), Wait::Advises(Some(next)));
    let mut scene = Scene::at_the_last_step(|parts| parts.promote = Promotion::Auto);
    scene.peers = Others::Unknown;
    assert_eq!(scene.waits(), Wait::Advises(None));
    scene.order(OrderWord::Promote, 5_000);
    assert!(
        matches!(scene.look(), Action::Promote { .. }),
        "a person may"
    );
}

#[test]
fn only_the_holder_of_the_lease_takes_steps() {
    let mut scene = Scene::running(|_| ());
    scene.reading.tags.lease.as_mut().unwrap().holder = "b:8080".to_owned();
    scene.pass(600);
    assert_eq!(scene.waits(), Wait::Follows);
    // The holder has died: what passed still holds.
    scene.reading.tags.lease.as_mut().unwrap().holder = "a:8080".to_owned();
    scene.pass(1);
    assert!(matches!(scene.look(), Action::Step(_)));
}

#[test]
fn while_the_registry_is_away_weights_stay() {
    let mut scene = Scene::running(|_| ());
    scene.pass(600);
    assert_eq!(scene.look_with(false), Action::Wait(Wait::RegistryAway));
    assert_eq!(
        (scene.rollout.percent(), scene.rollout.phase()),
        (1, Phase::Running)
    );
    assert!(matches!(scene.look(), Action::Step(_)), "it comes back");
}

#[test]
fn a_paused_rollout_takes_no_step_and_is_still_judged() {
    let mut scene = Scene::running(|_| ());
    scene.order(OrderWord::Pause, 1);
    scene.pass(600);
    assert_eq!(scene.waits(), Wait::Paused);
    assert_eq!(
        (scene.rollout.percent(), scene.rollout.phase()),
        (1, Phase::Paused)
    );
    scene.order(OrderWord::Resume, 2);
    assert!(
        matches!(scene.look(), Action::Step(_)),
        "the look before counts"
    );
    scene.order(OrderWord::Pause, 1);
    assert!(
        matches!(scene.look(), Action::Step(_)),
        "an order that arrives late"
    );
    scene.order(OrderWord::Pause, 3);
    scene.own = counts(60, 600);
    scene.pass(600);
    assert_eq!(scene.ends().cause, Cause::Gate);
}

#[test]
fn a_person_promotes_from_any_step_while_a_gate_holds_and_aborts_for_good() {
    let mut scene = Scene::running(|_| ());
    scene.own = Counts::default();
    scene.scores = Some(ScoreShift {
        psi: 3.0,
        bound: 0.1,
    });
    scene.order(OrderWord::Promote, 1);
    assert!(matches!(scene.look(), Action::Promote { .. }));
    scene.order(OrderWord::Abort, 2);
    let ended = scene.ends();
    assert_eq!((ended.cause, ended.who.as_str()), (Cause::Person, "ann"));
    scene.order(OrderWord::Promote, 3);
    assert_eq!(scene.waits(), Wait::Ended(ended.id));
}

#[test]
fn scores_that_moved_hold_it() {
    let mut scene = Scene::running(|_| ());
    scene.scores = Some(ScoreShift {
        psi: 0.3,
        bound: 0.1,
    });
    scene.pass(600);
    let Wait::Gate(hold) = scene.waits() else {
        panic!("a gate");
    };
    assert!(hold.to_string().contains("PSI 0.30"), "{hold}");
}

#[test]
fn a_second_challenger_ends_the_first_and_then_begins() {
    let mut scene = Scene::running(|_| ());
    scene.reading.challenger = Some(Version(13));
    let of_first = scene.reading.tags.state.take();
    let ended = scene.ends();
    assert_eq!(ended.cause, Cause::Withdrawn);
    assert_eq!(ended.reason, "the challenger is version 13 now");
    let Action::Begin(state) = scene.look() else {
        panic!("the next one begins");
    };
    assert_eq!(state.challenger, Version(13));
    scene.reading.tags.state = Some(state);
    assert_eq!(scene.waits(), Wait::NotDue);
    assert_eq!(scene.rollout.percent(), 1);
    // Back to the first: its end is remembered, though its tag says nothing of it.
    scene.reading.challenger = Some(CHALLENGER);
    scene.reading.tags.state = of_first;
    scene.ends();
    assert_eq!(scene.waits(), Wait::Ended(ended.id));
}

#[test]
fn a_stable_version_that_a_person_moved_and_deleted_aliases_withdraw_it() {
    for (stable, challenger, reason) in [
        (
            Some(Version(9)),
            Some(CHALLENGER),
            "the stable version is 9 now, not 11",
        ),
        (
            None,
            Some(CHALLENGER),
            "the stable version's alias was deleted",
        ),
        (Some(STABLE), None, "the challenger's alias was deleted"),
    ] {
        let mut scene = Scene::running(|_| ());
        (scene.reading.stable, scene.reading.challenger) = (stable, challenger);
        let ended = scene.ends();
        assert_eq!(
            (ended.cause, ended.reason.as_str()),
            (Cause::Withdrawn, reason)
        );
        assert_eq!(scene.rollout.phase(), Phase::Withdrawn);
        (scene.reading.stable, scene.reading.challenger) = (Some(STABLE), Some(CHALLENGER));
        assert_eq!(scene.waits(), Wait::Ended(ended.id), "nothing undoes it");
    }
}

#[test]
fn a_person_starts_again_after_an_end_with_a_new_id() {
    let mut scene = Scene::running(|_| ());
    scene.own = counts(600, 600);
    let ended = scene.ends();
    scene.reading.tags.ended = Some(ended.clone());
    scene.pass(60);
    let state = scene
        .rollout
        .start(&scene.reading, scene.now, None)
        .unwrap();
    assert_ne!(state.id, ended.id);
    scene.reading.tags.state = Some(state);
    scene.own = counts(0, 0);
    assert_eq!(scene.waits(), Wait::NotDue);
    assert_eq!(scene.rollout.percent(), 1);
    let again = scene.rollout.start(&scene.reading, scene.now, None);
    assert_eq!(again, Err(Wait::RunsAlready));
    // A tag of the old rollout that arrives late changes nothing.
    let state = scene.reading.tags.state.as_mut().unwrap();
    (state.id, state.step) = (ended.id.clone(), 3);
    state.began = Moment::from_millis(START);
    assert_eq!(scene.waits(), Wait::NotDue);
    assert_eq!(scene.rollout.percent(), 1);
    assert!(
        scene.rollout.missing(&scene.reading).1.is_some(),
        "and is put right"
    );
}

#[test]
fn a_start_that_cannot_end_before_the_deadline_is_refused_with_the_time_that_it_takes() {
    let scene = Scene::new(|_| ());
    let start = |requests| {
        scene
            .rollout
            .start(&scene.reading, scene.now, Some(requests))
    };
    assert!(start(6_000).is_ok());
    let refused = |requests| start(requests).unwrap_err().to_string();
    assert_eq!(
        refused(2_000),
        "with the traffic of the last hour the steps take `1day 7h 30m`, longer than the deadline of `1day`; raise it, or \
         lower `min_requests`"
    );
    assert!(refused(0).contains("take for ever"));
}

#[test]
fn a_plan_that_was_changed_takes_nobody_back() {
    let mut scene = Scene::running(|parts| parts.steps = vec![1, 2, 3]);
    let state = scene.reading.tags.state.as_mut().unwrap();
    (state.step, state.weight) = (2, Weight::try_from(25).unwrap());
    scene.waits();
    scene.pass(600);
    let Action::Step(state) = scene.look() else {
        panic!("a step");
    };
    assert_eq!((state.step, state.weight.percent()), (3, 25));
    scene.reading.tags.state = Some(State {
        step: u32::MAX,
        ..state
    });
    scene.waits();
    scene.pass(600);
    assert_eq!(scene.waits(), Wait::Person, "there is no step after that");
}

#[test]
fn nothing_that_is_read_or_counted_makes_it_panic() {
    let words = [
        "",
        "{",
        "null",
        "[]",
        "1",
        "{}",
        "\"x\"",
        "9e999",
        "\u{0}",
        r#"{"holder":"a:8080","until":"9999-12-31T23:59:59Z"}"#,
        r#"{"id":"i","order":"abort","who":"","when":"1970-01-01T00:00:00Z"}"#,
        r#"{"id":"i","cause":"gate","reason":"","who":"","when":"9999-12-31T23:59:59Z"}"#,
        r#"{"id":"i","fleet":"default","challenger":12,"stable":11,"step":4294967295,"weight":100,"since":"2026-12-01T10:00:00Z","began":"2026-12-01T10:00:00Z"}"#,
        r#"{"id":"i","fleet":"default","challenger":12,"stable":11,"step":1,"weight":1,"since":"1970-01-01T00:00:00Z","began":"2026-12-01T10:00:00Z"}"#,
    ];
    let numbers = [0, 1, 20, 500, u64::MAX];
    let mut scene = Scene::new(|parts| parts.promote = Promotion::Auto);
    let mut turn = 0_usize;
    let mut next = |of: usize| {
        turn = turn
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (turn >> 33) % of
    };
    for _ in 0..20_000 {
        let texts = [
            words[next(words.len())],
            words[next(words.len())],
            words[next(words.len())],
            words[9],
        ];
        scene.reading.tags = Tags::read(CHALLENGER, |name| {
            let place = [STATE, ORDER, ENDED, LEASE]
                .iter()
                .position(|tag| *tag == name);
            Some(texts[place.unwrap()]).filter(|text| !text.is_empty())
        });
        for version in [&mut scene.own.stable, &mut scene.own.challenger] {
            version.answers = numbers[next(5)];
            version.failed = numbers[next(5)];
            version.nonfinite = numbers[next(5)];
            version
                .times
                .record(numbers[next(5)], 1e-3, numbers[next(5)]);
        }
        scene.own.compared.rows = numbers[next(5)];
        scene.reading.challenger =
            [None, Some(STABLE), Some(CHALLENGER), Some(CHALLENGER)][next(4)];
        scene.now = Moment::from_millis([0, START, START + 600_000, u64::MAX][next(4)]);
        let registry = next(5) > 0;
        scene.look_with(registry);
        assert!(scene.rollout.percent() <= 100);
        if next(20) == 0 {
            scene.rollout = rollout(|_| (), Known::default());
        }
    }
}

#[test]
fn what_cannot_begin_says_why() {
    let mut scene = Scene::new(|_| ());
    scene.reading.challenger = Some(STABLE);
    assert_eq!(scene.waits(), Wait::SameVersion(STABLE));
    scene.reading.challenger = None;
    assert_eq!(scene.waits(), Wait::NoChallenger);
    (scene.reading.challenger, scene.reading.stable) = (Some(CHALLENGER), None);
    assert_eq!(scene.waits(), Wait::NoStable);
    assert_eq!(
        scene.rollout.start(&scene.reading, scene.now, None),
        Err(Wait::NoStable)
    );
    scene.reading.stable = Some(STABLE);
    scene.reading.tags.lease = None;
    assert_eq!(scene.waits(), Wait::Follows);
    assert_eq!(scene.look_with(false), Action::Wait(Wait::NoRollout));
    assert_eq!(scene.rollout.phase(), Phase::None);
}

#[test]
fn a_tag_that_makes_no_sense_serves_stable_until_it_does() {
    let mut scene = Scene::running(|_| ());
    let good = scene.reading.tags.clone();
    scene.reading.tags = Tags::read(CHALLENGER, |name| (name == STATE).then_some("{}"));
    let Wait::Unreadable(error) = scene.waits() else {
        panic!("unreadable");
    };
    assert!(
        error
            .to_string()
            .contains("`onstage.rollout` of version 12"),
        "{error}"
    );
    assert_eq!(scene.rollout.percent(), 0);
    assert_eq!(scene.look_with(false), Action::Wait(Wait::NotDue));
    scene.pass(600);
    assert_eq!(scene.look_with(false), Action::Wait(Wait::RegistryAway));
    assert_eq!(scene.rollout.percent(), 0, "it may still be there");
    assert_eq!(
        scene.rollout.missing(&scene.reading),
        (None, None),
        "and is left for a person"
    );
    scene.reading.tags = good;
    assert!(matches!(scene.look(), Action::Step(_)));
    assert_eq!(scene.rollout.percent(), 1);
}

#[test]
fn a_step_that_begins_in_the_future_is_not_served_unjudged() {
    let mut scene = Scene::running(|_| ());
    let state = scene.reading.tags.state.as_mut().unwrap();
    (state.step, state.since) = (2, scene.now.after(Duration::from_secs(301)));
    let Wait::Unreadable(error) = scene.waits() else {
        panic!("unreadable");
    };
    assert!(
        error.problem.starts_with("`since` is 2026-12-01T10:05:01"),
        "{error}"
    );
    assert_eq!(scene.rollout.percent(), 0);
    let state = scene.reading.tags.state.as_mut().unwrap();
    state.since = scene.now.after(Duration::from_secs(299));
    assert_eq!(scene.waits(), Wait::NotDue, "clocks differ");
}

#[test]
fn two_fleets_do_not_share_a_rollout() {
    let mut scene = Scene::running(|_| ());
    let mut other = Scene::new(|_| ());
    other.reading = scene.reading.clone();
    other.reading.tags.state.as_mut().unwrap().fleet = "batch".to_owned();
    assert_eq!(other.waits(), Wait::OtherFleet("batch".to_owned()));
    assert_eq!(other.rollout.percent(), 0);
    assert_eq!(scene.waits(), Wait::NotDue);
}

#[test]
fn a_weight_that_was_edited_by_hand_never_gives_more_users_to_the_challenger() {
    let mut scene = Scene::running(|_| ());
    scene.reading.tags.state.as_mut().unwrap().weight = Weight::try_from(90).unwrap();
    scene.waits();
    assert_eq!(scene.rollout.percent(), 1);
    let (_, state) = scene.rollout.missing(&scene.reading);
    assert_eq!(
        state.map(|state| state.weight.percent()),
        Some(1),
        "it is put right"
    );
}

#[test]
fn a_replica_that_restarts_without_the_registry_keeps_its_weight_or_0_after_an_end() {
    let mut scene = Scene::running(|_| ());
    let restart = |scene: &Scene| {
        let kept = serde_json::to_string(scene.rollout.known()).unwrap();
        rollout(|_| (), serde_json::from_str(&kept).unwrap())
    };
    assert_eq!(restart(&scene).percent(), 1);
    scene.own = counts(600, 600);
    scene.ends();
    let restarted = restart(&scene);
    assert_eq!(
        (restarted.percent(), restarted.phase()),
        (0, Phase::Aborted)
    );
}

#[test]
fn an_abort_of_a_peer_counts_at_once_even_before_the_rollout_is_known() {
    let mut scene = Scene::running(|_| ());
    let ended = Ended {
        id: scene.reading.tags.state.as_ref().unwrap().id.clone(),
        cause: Cause::Gate,
        reason: "10 of 20 failed".to_owned(),
        numbers: None,
        who: "b:8080".to_owned(),
        when: scene.now,
    };
    scene.rollout.learn_end(&ended);
    assert_eq!(scene.rollout.percent(), 0);
    let mut late = Scene::new(|_| ());
    late.rollout.learn_end(&ended);
    late.reading = scene.reading.clone();
    assert_eq!(late.waits(), Wait::Ended(ended.id.clone()));
    assert_eq!(late.rollout.percent(), 0);
    late.reading.tags.state = None;
    let mut fresh = Scene::new(|_| ());
    fresh.rollout.learn_end(&ended);
    assert_eq!(fresh.waits(), Wait::EndedBefore, "not by itself");
}
