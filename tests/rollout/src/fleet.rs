//! One rollout: replicas that look at what was drawn, and a registry that always answers.

use rand::{Rng, RngExt};
use std::time::Duration;

use crate::cells::{Cell, Traffic};
use crate::model::Version;
use crate::rollout::{
    Action, Counts, Evidence, Failures, Known, Lease, Moment, Observation, Peers, Plan, Reading,
    Replica, Rollout, State, VersionCounts, Wait,
};
use crate::times::binomial;

const STABLE: Version = Version(1);
const CHALLENGER: Version = Version(2);

/// Users, each of whom always meets the same version.
const USERS: u64 = 2_000;

/// Replays of failed answers on the other version, a second.
const REPLAYS: u64 = 10;

/// How a rollout went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The challenger took the alias, or would wait for a person for ever.
    Passed,
    /// A gate ended it at this weight.
    Aborted(u8),
}

/// A rollout of one run.
struct Fleet<'c> {
    cell: &'c Cell,
    replicas: Vec<Rollout>,
    /// What each replica counted in this step, and the sum.
    own: Vec<Counts>,
    sum: Counts,
    reading: Reading,
    now: Moment,
    /// Where the users who always fail are, from 0 to 1 as the split hashes them.
    failing: Vec<f64>,
}

/// Runs one rollout.
pub fn run(cell: &Cell, plan: &Plan, rng: &mut impl Rng) -> Outcome {
    let mut fleet = Fleet::new(cell, plan, rng);
    fleet.begin();
    let mut looks_at_the_end = 0;
    loop {
        let state = fleet.state();
        let percent = state.weight.percent();
        let at_the_end = plan.weight(state.step + 1).is_none();
        fleet.serve(f64::from(percent) / 100.0, at_the_end, plan.interval(), rng);
        looks_at_the_end += u32::from(at_the_end);
        for replica in 0..fleet.replicas.len() {
            match fleet.look(replica) {
                Action::End(_) => return Outcome::Aborted(percent),
                Action::Promote { .. } => return Outcome::Passed,
                Action::Step(next) => fleet.reading.tags.state = Some(next),
                Action::Wait(_) | Action::Begin(_) => {}
            }
        }
        if fleet.state().step != state.step {
            fleet.forget();
        }
        if looks_at_the_end >= cell.looks {
            return Outcome::Passed;
        }
    }
}

impl<'c> Fleet<'c> {
    fn new(cell: &'c Cell, plan: &Plan, rng: &mut impl Rng) -> Self {
        let replica = |number: usize| {
            let replica = Replica {
                name: format!("replica-{number}:8080"),
                fleet: "default".to_owned(),
                model: "simulated".to_owned(),
            };
            Rollout::new(replica, plan.clone(), Known::default())
        };
        let failing = (USERS as f64 * cell.traffic.failing_users).round() as u64;
        let mut fleet = Self {
            failing: (0..failing).map(|_| rng.random()).collect(),
            cell,
            replicas: (0..cell.replicas).map(replica).collect(),
            own: vec![Counts::default(); cell.replicas],
            sum: Counts::default(),
            reading: Reading {
                stable: Some(STABLE),
                challenger: Some(CHALLENGER),
                ..Reading::default()
            },
            now: Moment::from_millis(1_796_119_200_000),
        };
        fleet.reading.tags.lease = Some(Lease {
            holder: "replica-0:8080".to_owned(),
            until: Moment::from_millis(u64::MAX),
        });
        fleet
    }

    fn begin(&mut self) {
        let action = self.look(0);
        let Action::Begin(state) = action else {
            panic!("expected a rollout to begin, got {action:?}");
        };
        self.reading.tags.state = Some(state);
        for replica in 0..self.replicas.len() {
            let action = self.look(replica);
            assert_eq!(action, Action::Wait(Wait::NotDue), "replica {replica}");
        }
    }

    fn state(&self) -> State {
        self.reading.tags.state.clone().expect("it has begun")
    }

    fn look(&mut self, replica: usize) -> Action {
        let state = self.reading.tags.state.as_ref();
        let alone = self.replicas.len() == 1;
        // Only the first one sums; the others judge alone.
        let peers = match replica {
            _ if alone => Peers::Alone,
            0 => Peers::Together(&self.sum),
            _ => Peers::Unknown,
        };
        let evidence = state.map(|state| Evidence {
            id: &state.id,
            step: state.step,
            own: &self.own[replica],
            peers,
            scores: None,
        });
        self.replicas[replica].look(&Observation {
            now: self.now,
            registry: Some(&self.reading),
            serving: Some(STABLE),
            evidence,
        })
    }

    /// The next step begins with nothing counted.
    fn forget(&mut self) {
        self.sum = Counts::default();
        self.own.fill(Counts::default());
    }

    /// Draws what happens in an interval.
    fn serve(&mut self, weight: f64, at_the_end: bool, interval: Duration, rng: &mut impl Rng) {
        self.now = self.now.after(interval);
        let to_challenger = binomial(self.cell.requests, weight, rng);
        let mut left = [self.cell.requests - to_challenger, to_challenger];
        let traffic = &self.cell.traffic;
        let errors = match traffic.errors_at_the_end {
            Some(errors) if at_the_end => [errors; 2],
            _ => traffic.errors,
        };
        let answering = Answering {
            traffic,
            errors,
            failing: self.failing_shares(weight),
            replays: REPLAYS * interval.as_secs(),
        };
        let replicas = self.own.len();
        for (replica, own) in self.own.iter_mut().enumerate() {
            let share = 1.0 / (replicas - replica) as f64;
            for (version, counts) in [&mut own.stable, &mut own.challenger]
                .into_iter()
                .enumerate()
            {
                let answers = binomial(left[version], share, rng);
                left[version] -= answers;
                answering.count(version, answers, counts, rng);
            }
        }
        if replicas > 1 {
            self.sum = Counts::default();
            self.own.iter().for_each(|own| self.sum.add(own));
        }
    }

    /// The shares of both versions' requests that come from users who always fail.
    fn failing_shares(&self, weight: f64) -> [f64; 2] {
        if self.failing.is_empty() {
            return [0.0; 2];
        }
        let users = USERS as f64;
        let first = self.failing.iter().filter(|place| **place < weight).count() as f64;
        let rest = self.failing.len() as f64 - first;
        [
            rest / (users * (1.0 - weight)),
            (first / (users * weight)).min(1.0),
        ]
    }
}

/// How both versions answer in an interval, the stable one first.
struct Answering<'c> {
    traffic: &'c Traffic,
    errors: [f64; 2],
    /// Shares of the requests that come from users who always fail.
    failing: [f64; 2],
    /// Replays of one replica.
    replays: u64,
}

impl Answering<'_> {
    fn count(&self, version: usize, answers: u64, counts: &mut VersionCounts, rng: &mut impl Rng) {
        let always = binomial(answers, self.failing[version], rng);
        let sometimes = binomial(answers - always, self.errors[version], rng);
        let failed = always + sometimes;
        let replayed = failed.min(self.replays);
        // Who always fails does so on both.
        let on_both = always + binomial(sometimes, self.errors[1 - version], rng);
        let failures = Failures {
            failed,
            replayed,
            on_both: on_both.min(replayed),
        };
        counts.count(answers, failures);
        counts.nonfinite += binomial(answers, self.traffic.nonfinite[version], rng);
        let Some(times) = &self.traffic.times else {
            return;
        };
        // Most runs have one row, a quarter eight.
        let eight = binomial(answers, 0.25, rng);
        for (rows, runs) in [(1, answers - eight), (8, eight)] {
            times[version].draw(runs, rng, counts.times.size(rows));
        }
    }
}
