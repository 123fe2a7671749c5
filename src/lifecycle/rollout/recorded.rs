//! What the machine decides about looks that were recorded elsewhere, one after the other.

use serde::Deserialize;

use super::action::{Action, Phase};
use super::counts::{Counts, ScoreShift, VersionCounts};
use super::known::Known;
use super::machine::{Evidence, Observation, Peers, Reading, Replica, Rollout};
use super::moment::Moment;
use super::plan::Plan;
use super::tags::{Ended, Lease, Order, OrderWord, Tags};
use crate::error::{ErrorKind, Kinded};
use crate::model::Version;

/// One look: what happened since the one before.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedLook {
    /// When it is.
    at: Moment,
    /// What all replicas counted since the look before.
    #[serde(default)]
    counts: Counts,
    /// Of these, what the replica counted that judges alone; without it there is only one.
    #[serde(default)]
    replica: Option<Counts>,
    /// How far the challenger's scores are from the stable version's.
    #[serde(default)]
    scores: Option<ScoreShift>,
    /// Where the aliases lead from now on.
    #[serde(default)]
    aliases: Option<Aliases>,
    /// What a person orders now.
    #[serde(default)]
    order: Option<OrderWord>,
    /// Whether the registry answers at this look.
    #[serde(default = "answers")]
    registry_answers: bool,
}

/// Where the aliases lead. One that is absent or null was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Aliases {
    /// The version that serves.
    #[serde(default)]
    stable: Option<Version>,
    /// The version that may take its place.
    #[serde(default)]
    challenger: Option<Version>,
}

fn answers() -> bool {
    true
}

/// A look that cannot have been.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Time goes on.
    #[error("`at` is {at}, expected a time after that of the look before, {before}")]
    Backwards {
        /// The time of the look.
        at: Moment,
        /// The time of the one before.
        before: Moment,
    },
    /// A part that is larger than the whole.
    #[error("`{place}` has {part} `{name}` of {whole} `{of}`, expected at most as many")]
    Part {
        /// Where.
        place: &'static str,
        /// What.
        name: &'static str,
        /// So many.
        part: u64,
        /// Of what.
        of: &'static str,
        /// So many.
        whole: u64,
    },
    /// An order about nothing.
    #[error("`order` is given before a rollout has begun")]
    Early,
}

impl Kinded for RecordError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}

/// What was decided at a look.
#[derive(Debug, Clone, PartialEq)]
pub struct Looked {
    /// When.
    pub at: Moment,
    /// What.
    pub action: Action,
    /// The challenger's share of the traffic from then on, in per cent.
    pub percent: u8,
    /// How the rollout stands from then on.
    pub phase: Phase,
}

/// A rollout that follows recorded looks, with a registry that does what it is told.
#[derive(Debug)]
pub struct Recording {
    rollout: Rollout,
    reading: Reading,
    fleet: Counts,
    own: Counts,
    before: Option<Moment>,
}

/// The one replica.
const NAME: &str = "recorded";

impl Recording {
    /// A rollout of version 2 over version 1, unless the looks say otherwise.
    pub fn new(plan: Plan) -> Self {
        let replica = Replica {
            name: NAME.to_owned(),
            fleet: "default".to_owned(),
            model: NAME.to_owned(),
        };
        let lease = Lease {
            holder: NAME.to_owned(),
            until: Moment::from_millis(u64::MAX),
        };
        Self {
            rollout: Rollout::new(replica, plan, Known::default()),
            reading: Reading {
                stable: Some(Version(1)),
                challenger: Some(Version(2)),
                tags: Tags {
                    lease: Some(lease),
                    ..Tags::default()
                },
            },
            fleet: Counts::default(),
            own: Counts::default(),
            before: None,
        }
    }

    /// The next look.
    ///
    /// # Errors
    /// When it cannot have been.
    pub fn look(&mut self, look: &RecordedLook) -> Result<Looked, RecordError> {
        look.check(self.before)?;
        self.before = Some(look.at);
        if let Some(Aliases { stable, challenger }) = look.aliases {
            if challenger != self.reading.challenger {
                // Tags are of a version.
                (self.reading.tags.state, self.reading.tags.order) = (None, None);
                self.reading.tags.ended = None;
            }
            (self.reading.stable, self.reading.challenger) = (stable, challenger);
        }
        if let Some(order) = look.order {
            self.order(order, look.at)?;
        }
        self.fleet.add(&look.counts);
        self.own.add(look.replica.as_ref().unwrap_or(&look.counts));
        let action = self.decide(look);
        self.follow(&action, look);
        Ok(Looked {
            at: look.at,
            percent: self.rollout.percent(),
            phase: self.rollout.phase(),
            action,
        })
    }

    fn order(&mut self, order: OrderWord, when: Moment) -> Result<(), RecordError> {
        let state = self.rollout.known().state().ok_or(RecordError::Early)?;
        self.reading.tags.order = Some(Order {
            id: state.id.clone(),
            order,
            who: "a person".to_owned(),
            when,
        });
        Ok(())
    }

    fn decide(&mut self, look: &RecordedLook) -> Action {
        let state = self.rollout.known().state().cloned();
        let evidence = state.as_ref().map(|state| Evidence {
            id: &state.id,
            step: state.step,
            own: &self.own,
            peers: match look.replica {
                Some(_) => Peers::Together(&self.fleet),
                None => Peers::Alone,
            },
            scores: look.scores,
        });
        self.rollout.look(&Observation {
            now: look.at,
            registry: look.registry_answers.then_some(&self.reading),
            serving: self.reading.stable,
            evidence,
        })
    }

    /// The registry takes what is written, and the replica reads it back.
    fn follow(&mut self, action: &Action, look: &RecordedLook) {
        match action {
            Action::Begin(state) | Action::Step(state) => {
                self.reading.tags.state = Some(state.clone());
                (self.fleet, self.own) = (Counts::default(), Counts::default());
            }
            Action::Promote { to, .. } => self.reading.stable = Some(*to),
            Action::End(_) | Action::Wait(_) => return,
        }
        self.decide(look);
    }

    /// How the rollout ended, if it has.
    pub fn ended(&self) -> Option<&Ended> {
        self.rollout.known().ended()
    }
}

impl RecordedLook {
    fn check(&self, before: Option<Moment>) -> Result<(), RecordError> {
        let at = self.at;
        if let Some(before) = before.filter(|before| at <= *before) {
            return Err(RecordError::Backwards { at, before });
        }
        let replica = self
            .replica
            .iter()
            .flat_map(|counts| parts("replica", counts));
        let mut parts = replica.chain(parts("counts", &self.counts));
        parts.find_map(Part::refused).map_or(Ok(()), Err)
    }
}

/// A part of something.
struct Part {
    place: &'static str,
    name: &'static str,
    part: u64,
    of: &'static str,
    whole: u64,
}

impl Part {
    /// Why it is none.
    fn refused(self) -> Option<RecordError> {
        let Self {
            place,
            name,
            part,
            of,
            whole,
        } = self;
        (part > whole).then_some(RecordError::Part {
            place,
            name,
            part,
            of,
            whole,
        })
    }
}

fn parts(place: &'static str, counts: &Counts) -> Vec<Part> {
    let answers = |name, part, version: &VersionCounts| Part {
        place,
        name,
        part,
        of: "answers",
        whole: version.answers,
    };
    let (stable, challenger) = (&counts.stable, &counts.challenger);
    vec![
        answers("failed", stable.failed, stable),
        answers("nonfinite", stable.nonfinite, stable),
        answers("failed", challenger.failed, challenger),
        answers("nonfinite", challenger.nonfinite, challenger),
        Part {
            place,
            name: "differing",
            part: counts.compared.differing,
            of: "rows",
            whole: counts.compared.rows,
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::super::plan::PlanParts;
    use super::*;

    fn recording() -> Recording {
        Recording::new(Plan::new(PlanParts::default()).unwrap())
    }

    fn look(text: &str) -> RecordedLook {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// Looks at ten minutes each; what was decided.
    fn decided(recording: &mut Recording, looks: &[&str]) -> Vec<(&'static str, u8)> {
        let looks = looks.iter().enumerate().map(|(place, rest)| {
            let at = Moment::from_millis(1_796_119_200_000 + place as u64 * 600_000);
            let looked = recording
                .look(&look(&format!(r#"{{"at":"{at}"{rest}}}"#)))
                .unwrap();
            (looked.action.word(), looked.percent)
        });
        looks.collect()
    }

    const GOOD: &str =
        r#","counts":{"stable":{"answers":5000,"failed":5},"challenger":{"answers":600}}"#;

    #[test]
    fn a_good_challenger_takes_all_steps_and_waits_for_a_person() {
        let mut recording = recording();
        let promoted = format!(r#"{GOOD},"order":"promote""#);
        let decided = decided(
            &mut recording,
            &["", GOOD, GOOD, GOOD, GOOD, GOOD, &promoted, GOOD],
        );
        let expected = [
            ("begin", 1),
            ("step", 5),
            ("step", 25),
            ("step", 50),
            ("wait", 50),
            ("wait", 50),
            ("promote", 0),
            ("wait", 0),
        ];
        assert_eq!(decided, expected);
        assert_eq!(recording.rollout.phase(), Phase::Promoted);
    }

    #[test]
    fn counts_begin_anew_with_a_step_and_grow_within_one() {
        let few = r#","counts":{"stable":{"answers":5000},"challenger":{"answers":260}}"#;
        let decided = decided(&mut recording(), &["", few, few, few, few]);
        assert_eq!(
            decided,
            [
                ("begin", 1),
                ("wait", 1),
                ("step", 5),
                ("wait", 5),
                ("step", 25)
            ]
        );
    }

    #[test]
    fn aliases_orders_and_a_registry_that_is_away_are_followed() {
        let away = format!(r#"{GOOD},"registry_answers":false"#);
        let pause = format!(r#"{GOOD},"order":"pause""#);
        let moved = r#","aliases":{"stable":7,"challenger":2}"#;
        let mut recording = recording();
        let decided = decided(&mut recording, &["", &away, &pause, moved, ""]);
        assert_eq!(
            decided,
            [
                ("begin", 1),
                ("wait", 1),
                ("wait", 1),
                ("end", 0),
                ("wait", 0)
            ]
        );
        assert_eq!(
            recording.ended().unwrap().reason,
            "the stable version is 7 now, not 1"
        );
    }

    #[test]
    fn one_replica_judges_its_own_counts_beside_those_of_all() {
        let bad = r#","counts":{"stable":{"answers":9000},"challenger":{"answers":300,"failed":12}},
            "replica":{"stable":{"answers":3000},"challenger":{"answers":110,"failed":12}}"#;
        let mut recording = recording();
        assert_eq!(
            decided(&mut recording, &["", bad]),
            [("begin", 1), ("end", 0)]
        );
        let reason = &recording.ended().unwrap().reason;
        assert!(reason.ends_with("on one replica"), "{reason}");
    }

    #[test]
    fn what_cannot_have_been_is_refused() {
        let refused = |looks: &[&str]| {
            let mut recording = recording();
            let mut results = looks.iter().map(|text| recording.look(&look(text)));
            results.find_map(Result::err).unwrap().to_string()
        };
        let at = r#""at":"2026-12-01T10:00:00Z""#;
        assert_eq!(
            refused(&[&format!("{{{at}}}"), &format!("{{{at}}}")]),
            "`at` is 2026-12-01T10:00:00.000Z, expected a time after that of the look before, 2026-12-01T10:00:00.000Z"
        );
        assert_eq!(
            refused(&[&format!(
                r#"{{{at},"counts":{{"challenger":{{"answers":1,"failed":2}}}}}}"#
            )]),
            "`counts` has 2 `failed` of 1 `answers`, expected at most as many"
        );
        assert!(refused(&[&format!(r#"{{{at},"order":"abort"}}"#)]).contains("before a rollout"));
        for text in [
            "{}",
            r#"{"at":1}"#,
            r#"{"at":"2026-12-01T10:00:00Z","count":{}}"#,
        ] {
            assert!(
                serde_json::from_str::<RecordedLook>(text).is_err(),
                "{text}"
            );
        }
    }
}
