//! The state machine: what was seen goes in, one action comes out. It has no clock, reads nothing and writes nothing.

use super::action::{Action, Outlook, Phase, Wait};
use super::counts::{Counts, ScoreShift};
use super::gates::{self, Basis, Finding};
use super::known::Known;
use super::moment::Moment;
use super::plan::{Plan, Promotion};
use super::tags::{Cause, Ended, OrderWord, RolloutId, State, Tags};
use crate::model::Version;

/// Who looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Its name, as `HOST:PORT`.
    pub name: String,
    /// The fleet that it is of.
    pub fleet: String,
    /// The model.
    pub model: String,
}

/// What the registry says, or said last when it answered.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reading {
    /// The version that has the alias which serves.
    pub stable: Option<Version>,
    /// The version that the alias of the challenger names.
    pub challenger: Option<Version>,
    /// The tags of that version.
    pub tags: Tags,
}

/// Whose counts there are beside those of this replica.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Peers<'c> {
    /// Nobody said who the others are: this replica only advises.
    Unknown,
    /// There are none.
    Alone,
    /// All that answered, together with this replica.
    Together(&'c Counts),
}

/// What was counted in one step of one rollout.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evidence<'c> {
    /// Of which rollout.
    pub id: &'c RolloutId,
    /// In which step.
    pub step: u32,
    /// By this replica.
    pub own: &'c Counts,
    /// By the others, too.
    pub peers: Peers<'c>,
    /// How far the scores moved.
    pub scores: Option<ScoreShift>,
}

impl<'c> Evidence<'c> {
    /// The counts of as many replicas as are known.
    fn all(&self) -> &'c Counts {
        match self.peers {
            Peers::Together(counts) => counts,
            Peers::Unknown | Peers::Alone => self.own,
        }
    }
}

/// One look at everything.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observation<'o> {
    /// Now.
    pub now: Moment,
    /// What the registry says; `None` while it does not answer.
    pub registry: Option<&'o Reading>,
    /// The version that this replica serves where a request names none.
    pub serving: Option<Version>,
    /// What was counted since the step began; `None` before anything was.
    pub evidence: Option<Evidence<'o>>,
}

/// The two that a rollout is about.
#[derive(Debug, Clone, Copy)]
struct Versions {
    challenger: Version,
    stable: Version,
}

/// One replica's view of the rollout of one model.
#[derive(Debug, Clone)]
pub struct Rollout {
    replica: Replica,
    plan: Plan,
    known: Known,
    /// When the gates were judged last.
    looked: Option<Moment>,
    /// The step whose gates let it pass.
    passed: Option<(RolloutId, u32)>,
    /// The challenger has the alias, and this replica has yet to follow: until then users keep the version they have.
    follows_alias: bool,
    outlook: Outlook,
}

impl Rollout {
    /// A rollout as the replica left it when it stopped; [`Known::default`] for one that knows nothing.
    pub fn new(replica: Replica, plan: Plan, known: Known) -> Self {
        Self {
            replica,
            plan,
            known,
            looked: None,
            passed: None,
            follows_alias: false,
            outlook: Outlook::default(),
        }
    }

    /// What it knows, to be kept across restarts.
    pub fn known(&self) -> &Known {
        &self.known
    }

    /// The challenger's share of the traffic in per cent, which is to be served from now on.
    pub fn percent(&self) -> u8 {
        let is_promoted = self
            .known
            .state()
            .is_some_and(|state| state.promoted.is_some());
        let serves = self.outlook.serves() && (!is_promoted || self.follows_alias);
        let weight = self.known.weight().filter(|_| serves);
        weight.map_or(0, |weight| weight.percent())
    }

    /// How it stands.
    pub fn phase(&self) -> Phase {
        match self.known.ended().map(|ended| ended.cause) {
            Some(Cause::Gate | Cause::Person) => Phase::Aborted,
            Some(Cause::Deadline) => Phase::Expired,
            Some(Cause::Withdrawn) => Phase::Withdrawn,
            None => self.outlook.phase(),
        }
    }

    /// What this replica should write again, because the registry lost it, or an older write arrived late. Every replica does:
    /// the one with the lease may be the one that has not seen it.
    pub fn missing(&self, reading: &Reading) -> (Option<&Ended>, Option<&State>) {
        let state = self.known.state();
        let is_of_it = state.is_some_and(|state| reading.challenger == Some(state.challenger));
        if !is_of_it || !self.outlook.serves() {
            return (None, None);
        }
        self.known.missing(&reading.tags)
    }

    /// A message of a peer, which need not wait for a look: an abort counts at once.
    pub fn learn_end(&mut self, ended: &Ended) {
        self.known.end(ended);
    }

    /// Looks, and says what to do. Steps count once they are read back; ends count at once.
    pub fn look(&mut self, seen: &Observation<'_>) -> Action {
        let ran = !self.is_over();
        let action = self.decide(seen);
        if let Action::End(ended) = &action {
            self.known.end(ended);
        }
        self.outlook.note(&action, seen.registry.is_some());
        self.follow_alias(seen, ran);
        action
    }

    fn follow_alias(&mut self, seen: &Observation<'_>, ran: bool) {
        let Some(state) = self.known.state().filter(|state| state.promoted.is_some()) else {
            self.follows_alias = false;
            return;
        };
        let taken_back = |reading: &Reading| reading.stable != Some(state.challenger);
        let done = seen.serving == Some(state.challenger) || seen.registry.is_some_and(taken_back);
        self.follows_alias = (ran || self.follows_alias) && !done;
    }

    fn decide(&mut self, seen: &Observation<'_>) -> Action {
        if let Some(reading) = seen.registry
            && let Some(action) = self.read(reading, seen.now)
        {
            return action;
        }
        let Some(state) = self.known.state().cloned() else {
            return Action::Wait(Wait::NoRollout);
        };
        if state.promoted.is_some() {
            return Action::Wait(Wait::Promoted);
        }
        if let Some(ended) = self.known.ended() {
            return Action::Wait(Wait::Ended(ended.id.clone()));
        }
        if let Some(ended) = self.end_by_people_or_time(&state, seen.now) {
            return Action::End(ended);
        }
        let due = self.is_due(&state, seen.now);
        let evidence = seen.evidence.filter(|evidence| {
            // Counts of another step say nothing about this one.
            *evidence.id == state.id && evidence.step == state.step
        });
        if let Some(finding) = evidence.and_then(|evidence| self.judge(&evidence, due)) {
            return Action::End(self.ended_by_gate(&state, finding, seen.now));
        }
        if self.order(OrderWord::Promote) {
            return self.promote(&state, seen);
        }
        self.advance(state, seen, evidence, due)
    }

    /// Learns what the registry says; `Some` when that alone decides.
    fn read(&mut self, reading: &Reading, now: Moment) -> Option<Action> {
        let known = self.known.state();
        let running = known.filter(|_| !self.is_over());
        // The rollout that runs is ended before the next one is looked at.
        if let Some(state) = running.filter(|state| reading.challenger != Some(state.challenger)) {
            if reading.stable == Some(state.challenger) {
                return Some(self.note_promotion(now));
            }
            let reason = match reading.challenger {
                Some(version) => format!("the challenger is version {version} now"),
                None => "the challenger's alias was deleted".to_owned(),
            };
            return Some(self.withdraw(state, reason, now));
        }
        if let Some(wait) = self.refuses(&reading.tags, now) {
            return Some(Action::Wait(wait));
        }
        self.known.learn(&reading.tags);
        let Some(challenger) = reading.challenger else {
            return Some(Action::Wait(Wait::NoChallenger));
        };
        let state = self
            .known
            .state()
            .filter(|state| state.challenger == challenger);
        match (state, reading.stable) {
            (Some(_), _) if self.is_over() => None,
            (Some(_), Some(stable)) if stable == challenger => Some(self.note_promotion(now)),
            (Some(state), Some(stable)) if state.stable == stable => None,
            (Some(state), stable) => {
                let reason = match stable {
                    Some(stable) => {
                        format!("the stable version is {stable} now, not {}", state.stable)
                    }
                    None => "the stable version's alias was deleted".to_owned(),
                };
                Some(self.withdraw(state, reason, now))
            }
            (None, None) => Some(Action::Wait(Wait::NoStable)),
            (None, Some(stable)) if stable == challenger => {
                Some(Action::Wait(Wait::SameVersion(stable)))
            }
            (None, _) if reading.tags.ended.is_some() => Some(Action::Wait(Wait::EndedBefore)),
            (None, Some(stable)) => Some(self.begin(reading, Versions { challenger, stable }, now)),
        }
    }

    /// Why tags are not followed.
    fn refuses(&self, tags: &Tags, now: Moment) -> Option<Wait> {
        if let Some(error) = tags.unreadable.first() {
            return Some(Wait::Unreadable(error.clone()));
        }
        let state = tags.state.as_ref()?;
        if let Some(error) = state.misdated(now) {
            return Some(Wait::Unreadable(error));
        }
        (state.fleet != self.replica.fleet).then(|| Wait::OtherFleet(state.fleet.clone()))
    }

    fn withdraw(&self, state: &State, reason: String, now: Moment) -> Action {
        Action::End(self.ended(state, Cause::Withdrawn, reason, now))
    }

    /// Whether there is nothing that runs.
    fn is_over(&self) -> bool {
        let promoted = |state: &State| state.promoted.is_some();
        self.known.state().is_none_or(promoted) || self.known.ended().is_some()
    }

    fn begin(&self, reading: &Reading, versions: Versions, now: Moment) -> Action {
        let Versions { challenger, stable } = versions;
        let id = RolloutId::by_alias(&self.replica.model, challenger, stable);
        if self.known.has_ended(&id) {
            return Action::Wait(Wait::EndedBefore);
        }
        if !self.has_lease(reading, now) {
            return Action::Wait(Wait::Follows);
        }
        Action::Begin(self.first_step(id, versions, now))
    }

    /// The state that a person's `start` writes: a rollout with a new id, later than the one that is known.
    /// `requests_an_hour` are those of late, if they are known.
    ///
    /// # Errors
    /// Why there is nothing to start.
    pub fn start(
        &self,
        reading: &Reading,
        now: Moment,
        requests_an_hour: Option<u64>,
    ) -> Result<State, Wait> {
        let stable = reading.stable.ok_or(Wait::NoStable)?;
        let challenger = reading.challenger.ok_or(Wait::NoChallenger)?;
        if stable == challenger {
            return Err(Wait::SameVersion(stable));
        }
        if let Some(error) = reading.tags.unreadable.first() {
            return Err(Wait::Unreadable(error.clone()));
        }
        let known = self.known.state();
        if known.is_some_and(|state| !self.is_over() && state.challenger == challenger) {
            return Err(Wait::RunsAlready);
        }
        let deadline = self.plan.deadline();
        let takes = requests_an_hour.map(|requests| self.plan.takes(requests));
        if let Some(takes) = takes
            && takes.is_none_or(|takes| takes > deadline)
        {
            return Err(Wait::TooLong { takes, deadline });
        }
        // Clocks differ, and the later rollout counts.
        let after = known.map_or(now, |state| {
            state.began.after(std::time::Duration::from_millis(1))
        });
        let began = now.max(after);
        let id = RolloutId::by_person(&self.replica.model, challenger, stable, began);
        Ok(self.first_step(id, Versions { challenger, stable }, began))
    }

    fn first_step(&self, id: RolloutId, versions: Versions, now: Moment) -> State {
        State {
            id,
            fleet: self.replica.fleet.clone(),
            challenger: versions.challenger,
            stable: versions.stable,
            step: 1,
            weight: self.plan.weight(1).expect("a plan has at least one step"),
            since: now,
            began: now,
            promoted: None,
        }
    }

    /// The alias is moved: nothing is taken back from here on, probation judges the version now.
    fn note_promotion(&mut self, now: Moment) -> Action {
        if let Some(mut state) = self.known.state().cloned() {
            state.promoted = Some(now);
            self.known.follow(&state);
        }
        Action::Wait(Wait::Promoted)
    }

    fn end_by_people_or_time(&self, state: &State, now: Moment) -> Option<Ended> {
        let order = self
            .known
            .order()
            .filter(|order| order.order == OrderWord::Abort);
        if let Some(order) = order {
            let reason = format!("aborted by `{}`", order.who);
            let ended = self.ended(state, Cause::Person, reason, order.when);
            return Some(Ended {
                who: order.who.clone(),
                ..ended
            });
        }
        let deadline = self.plan.deadline();
        (now.since(state.began) >= deadline).then(|| {
            let reason = format!(
                "step {} at {} % had not ended after `{}`, the deadline",
                state.step,
                state.weight,
                humantime::format_duration(deadline)
            );
            self.ended(state, Cause::Deadline, reason, now)
        })
    }

    /// Whether an interval has passed since the step began, and since the last look.
    fn is_due(&mut self, state: &State, now: Moment) -> bool {
        let last = self.looked.unwrap_or_default().max(state.since);
        let due = now.since(last) >= self.plan.interval();
        if due {
            self.looked = Some(now);
            self.passed = None;
        }
        due
    }

    fn judge(&self, evidence: &Evidence<'_>, due: bool) -> Option<Finding> {
        let judge = |counts, basis| match due {
            true => gates::judge(&self.plan, counts, basis),
            false => gates::at_once(counts, basis),
        };
        let fleet = match evidence.peers {
            Peers::Unknown => None,
            Peers::Alone => judge(evidence.own, Basis::Fleet),
            Peers::Together(counts) => judge(counts, Basis::Fleet),
        };
        fleet.or_else(|| judge(evidence.own, Basis::Replica))
    }

    fn promote(&self, state: &State, seen: &Observation<'_>) -> Action {
        match seen.registry {
            None => Action::Wait(Wait::RegistryAway),
            Some(reading) if !self.has_lease(reading, seen.now) => Action::Wait(Wait::Follows),
            Some(_) => Action::Promote {
                from: state.stable,
                to: state.challenger,
            },
        }
    }

    /// The next step, when the gates let this one pass.
    fn advance(
        &mut self,
        state: State,
        seen: &Observation<'_>,
        evidence: Option<Evidence<'_>>,
        due: bool,
    ) -> Action {
        let place = (state.id.clone(), state.step);
        if due {
            let Some(evidence) = evidence else {
                return Action::Wait(Wait::NoEvidence);
            };
            if let Some(hold) = gates::hold(&self.plan, evidence.all(), evidence.scores) {
                return Action::Wait(Wait::Gate(hold));
            }
            self.passed = Some(place.clone());
        }
        if self.order(OrderWord::Pause) {
            return Action::Wait(Wait::Paused);
        }
        if self.passed.as_ref() != Some(&place) {
            return Action::Wait(Wait::NotDue);
        }
        let Some(reading) = seen.registry else {
            return Action::Wait(Wait::RegistryAway);
        };
        let next = self.plan.weight(state.step.saturating_add(1));
        if next.is_none() && self.plan.promote() == Promotion::Manual {
            return Action::Wait(Wait::Person);
        }
        if evidence.is_none_or(|evidence| evidence.peers == Peers::Unknown) {
            return Action::Wait(Wait::Advises(next));
        }
        let Some(weight) = next else {
            return self.promote(&state, seen);
        };
        if !self.has_lease(reading, seen.now) {
            return Action::Wait(Wait::Follows);
        }
        Action::Step(State {
            step: state.step + 1,
            // The plan may be another one since then, and nobody goes back.
            weight: weight.max(state.weight),
            since: seen.now,
            ..state
        })
    }

    fn order(&self, word: OrderWord) -> bool {
        self.known.order().is_some_and(|order| order.order == word)
    }

    fn has_lease(&self, reading: &Reading, now: Moment) -> bool {
        let lease = reading.tags.lease.as_ref();
        lease.is_some_and(|lease| lease.is_held_by(&self.replica.name, now))
    }

    fn ended_by_gate(&self, state: &State, finding: Finding, now: Moment) -> Ended {
        let reason = format!("step {} at {} %: {finding}", state.step, state.weight);
        Ended {
            numbers: Some(finding),
            ..self.ended(state, Cause::Gate, reason, now)
        }
    }

    fn ended(&self, state: &State, cause: Cause, reason: String, now: Moment) -> Ended {
        Ended {
            id: state.id.clone(),
            cause,
            reason,
            numbers: None,
            who: self.replica.name.clone(),
            when: now,
        }
    }
}
