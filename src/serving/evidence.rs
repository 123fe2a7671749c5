//! How the requests of a version on probation ended, kept by caller in bounded memory: pure counting.

use std::collections::VecDeque;

use crate::telemetry::EngineFailure;

/// Requests that were judged, and those of them that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Answered or failed by no fault of the client.
    pub requests: u64,
    /// Failed.
    pub failed: u64,
    /// Processes that ended, each of which is one of those that failed.
    pub lost: u64,
}

impl Counts {
    /// One that failed because of this, or was answered.
    fn add(&mut self, cause: Option<Cause>) {
        self.requests += 1;
        self.failed += u64::from(cause.is_some());
        self.lost += u64::from(cause == Some(LOST));
    }

    fn without(self, other: Self) -> Self {
        Self {
            requests: self.requests - other.requests,
            failed: self.failed - other.failed,
            lost: self.lost - other.lost,
        }
    }

    /// How many were answered.
    pub fn succeeded(self) -> u64 {
        self.requests - self.failed
    }
}

/// What a version is judged by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Evidence {
    /// Of all callers.
    pub all: Counts,
    /// Without the caller that has most failures.
    pub others: Counts,
    /// The latest requests alone, of all callers: a version may begin to fail after it answered thousands.
    pub latest: Counts,
    /// The same without the caller that has most failures among them.
    pub latest_of_others: Counts,
    /// How often each cause was counted, those that were, in words.
    pub causes: Vec<(&'static str, u64)>,
    /// What the last failure said.
    pub last: Option<String>,
}

/// Why a request failed on a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) cause: Cause,
    /// The process that ended with the request.
    pub(super) process: Option<u32>,
    pub(super) message: String,
}

/// What went wrong, as far as a judgement needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Engine(EngineFailure),
    /// Refused, as it would have missed its deadline.
    Refused,
    NonFinite,
    /// The outputs could not be made into an answer.
    Answer,
}

impl Cause {
    const ALL: [Self; 7] = [
        Self::Engine(EngineFailure::Run),
        Self::Engine(EngineFailure::Panic),
        Self::Engine(EngineFailure::Lost),
        Self::Engine(EngineFailure::Timeout),
        Self::Refused,
        Self::NonFinite,
        Self::Answer,
    ];

    /// Whether the same request on the version before says whose fault it is. Time depends on what else the machine
    /// does, and on the version that fails.
    fn is_told_by_replay(self) -> bool {
        use EngineFailure::{Lost, Panic, Run};
        matches!(self, Self::Engine(Run | Panic | Lost))
    }

    fn words(self) -> &'static str {
        match self {
            Self::Engine(EngineFailure::Run) => "errors of the engine",
            Self::Engine(EngineFailure::Panic) => "panics of the engine",
            Self::Engine(EngineFailure::Lost) => "lost processes",
            Self::Engine(EngineFailure::Timeout) => "time-outs",
            Self::Refused => "refusals of what would have been late",
            Self::NonFinite => "outputs that are NaN or infinite",
            Self::Answer => "outputs that make no answer",
        }
    }
}

const LOST: Cause = Cause::Engine(EngineFailure::Lost);

/// Callers that are told apart; those that come later share one place.
const CALLERS: usize = 64;

/// Requests that count as the latest.
const LATEST: usize = 128;

/// The caller of a request, and why it failed if it did.
type Outcome = (u64, Option<Cause>);

#[derive(Debug, Default)]
pub(super) struct Record {
    all: Counts,
    callers: Vec<(u64, Counts)>,
    /// Of the callers that found no place.
    later: Counts,
    latest: VecDeque<Outcome>,
    causes: [u64; Cause::ALL.len()],
    last: Option<String>,
    loss: Option<Loss>,
}

/// The last process that ended.
#[derive(Debug)]
struct Loss {
    process: u32,
    /// For whom it was counted.
    counted: Option<u64>,
}

impl Record {
    pub(super) fn evidence(&self) -> Evidence {
        let callers = self.callers.iter().map(|(_, counts)| *counts);
        let worst = callers
            .chain([self.later])
            .max_by_key(|counts| counts.failed);
        let causes = Cause::ALL.into_iter().zip(self.causes);
        let latest = sum(&self.latest, |_| true);
        Evidence {
            all: self.all,
            others: self.all.without(worst.unwrap_or_default()),
            latest,
            latest_of_others: latest.without(self.worst_of_the_latest()),
            causes: causes
                .filter(|(_, count)| *count > 0)
                .map(|(cause, count)| (cause.words(), count))
                .collect(),
            last: self.last.clone(),
        }
    }

    /// The latest requests of the caller that has most failures among them.
    fn worst_of_the_latest(&self) -> Counts {
        let mut failures: Vec<u64> = self
            .latest
            .iter()
            .filter(|(_, cause)| cause.is_some())
            .map(|(key, _)| *key)
            .collect();
        failures.sort_unstable();
        let worst = failures
            .chunk_by(|one, other| one == other)
            .max_by_key(|group| group.len());
        let Some(&[worst, ..]) = worst else {
            return Counts::default();
        };
        sum(&self.latest, |key| key == worst)
    }

    fn add(&mut self, key: u64, cause: Option<Cause>) {
        self.all.add(cause);
        self.counts(key).add(cause);
        if self.latest.len() == LATEST {
            self.latest.pop_front();
        }
        self.latest.push_back((key, cause));
    }

    fn counts(&mut self, key: u64) -> &mut Counts {
        let place = self.callers.iter().position(|(known, _)| *known == key);
        match place {
            Some(place) => &mut self.callers[place].1,
            None if self.callers.len() < CALLERS => {
                self.callers.push((key, Counts::default()));
                let place = self.callers.len() - 1;
                &mut self.callers[place].1
            }
            None => &mut self.later,
        }
    }

    pub(super) fn succeeded(&mut self, key: u64) {
        self.add(key, None);
    }

    /// A failure counts when the version before answered the same request, or when that would say nothing.
    pub(super) fn failed(&mut self, key: u64, failure: Failure, answered: Option<bool>) {
        let counts = match answered {
            Some(answered) if failure.cause.is_told_by_replay() => answered,
            _ => true,
        };
        if failure.cause == LOST && !self.is_new_loss(&failure, key, counts) {
            return;
        }
        if counts {
            self.add(key, Some(failure.cause));
            if let Some(place) = Cause::ALL.iter().position(|cause| *cause == failure.cause) {
                self.causes[place] += 1;
            }
            self.last = Some(failure.message);
        }
    }

    /// A process takes many requests with it, and ends once. When one of them ends that of the version before as well,
    /// it is to blame, and no version.
    fn is_new_loss(&mut self, failure: &Failure, key: u64, counts: bool) -> bool {
        let Some(process) = failure.process else {
            return false;
        };
        match &mut self.loss {
            Some(loss) if loss.process == process => {
                if !counts && let Some(key) = loss.counted.take() {
                    self.take_back(key);
                }
                false
            }
            _ => {
                let counted = counts.then_some(key);
                self.loss = Some(Loss { process, counted });
                true
            }
        }
    }

    fn take_back(&mut self, key: u64) {
        if let Some(place) = Cause::ALL.iter().position(|cause| *cause == LOST) {
            self.causes[place] -= 1;
        }
        let one = Counts {
            requests: 1,
            failed: 1,
            lost: 1,
        };
        self.all = self.all.without(one);
        let caller = self.counts(key);
        *caller = caller.without(one);
        let counted = self
            .latest
            .iter()
            .rposition(|latest| *latest == (key, Some(LOST)));
        if let Some(place) = counted {
            self.latest.remove(place);
        }
    }
}

fn sum(outcomes: &VecDeque<Outcome>, counts: impl Fn(u64) -> bool) -> Counts {
    let mut sum = Counts::default();
    for (_, cause) in outcomes.iter().filter(|(key, _)| counts(*key)) {
        sum.add(*cause);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(cause: Cause, process: Option<u32>) -> Failure {
        Failure {
            cause,
            process,
            message: "Gather: 6 is out of range".to_owned(),
        }
    }

    const RUN: Cause = Cause::Engine(EngineFailure::Run);
    const TIMEOUT: Cause = Cause::Engine(EngineFailure::Timeout);

    fn counts(requests: u64, failed: u64) -> Counts {
        Counts {
            requests,
            failed,
            lost: 0,
        }
    }

    #[test]
    fn a_failure_counts_when_the_version_before_answers_the_same() {
        let mut record = Record::default();
        record.failed(1, failure(RUN, None), Some(false));
        assert_eq!(
            record.evidence(),
            Evidence::default(),
            "the request's fault"
        );
        record.failed(1, failure(RUN, None), Some(true));
        record.failed(2, failure(RUN, None), None);
        record.failed(2, failure(TIMEOUT, None), Some(false));
        record.succeeded(2);
        let evidence = record.evidence();
        assert_eq!(
            (evidence.all, evidence.others),
            (counts(4, 3), counts(1, 1))
        );
        let causes = [("errors of the engine", 2), ("time-outs", 1)];
        assert_eq!(evidence.causes, causes);
        assert_eq!(evidence.last.as_deref(), Some("Gather: 6 is out of range"));
    }

    #[test]
    fn the_caller_with_most_failures_is_left_out_of_the_others() {
        let mut record = Record::default();
        for _ in 0..30 {
            record.failed(7, failure(RUN, None), Some(true));
            record.succeeded(1);
        }
        record.failed(1, failure(RUN, None), Some(true));
        assert_eq!(record.evidence().others, counts(31, 1));
    }

    #[test]
    fn the_latest_requests_are_counted_apart() {
        let mut record = Record::default();
        for _ in 0..10_000 {
            record.succeeded(1);
        }
        for key in 0..100 {
            record.failed(key % 4, failure(RUN, None), Some(true));
        }
        let evidence = record.evidence();
        assert_eq!(evidence.all, counts(10_100, 100));
        assert_eq!(evidence.latest, counts(128, 100));
        let others = evidence.latest_of_others;
        assert_eq!((others.failed, others.requests >= 75), (75, true));
    }

    #[test]
    fn a_lost_process_counts_once_whatever_it_took_with_it() {
        let mut record = Record::default();
        for key in 0..24 {
            record.failed(key, failure(LOST, Some(100)), Some(true));
            record.failed(key, failure(LOST, None), Some(true));
        }
        let lost = |lost| Counts {
            lost,
            ..counts(lost, lost)
        };
        assert_eq!(record.evidence().all, lost(1));
        record.failed(3, failure(LOST, Some(101)), Some(true));
        assert_eq!(record.evidence().all, lost(2));
    }

    #[test]
    fn a_request_that_ends_both_versions_is_to_blame_for_those_that_it_took_with_it() {
        let mut record = Record::default();
        record.failed(1, failure(LOST, Some(100)), Some(true));
        record.failed(2, failure(LOST, Some(100)), Some(false));
        record.failed(3, failure(LOST, Some(100)), Some(true));
        let evidence = record.evidence();
        assert_eq!(evidence.all, counts(0, 0));
        assert_eq!(evidence.causes, []);
    }

    #[test]
    fn callers_take_a_bounded_place_and_the_rest_of_them_one() {
        let mut record = Record::default();
        for key in 0..10_000 {
            record.failed(key, failure(RUN, None), Some(true));
        }
        assert_eq!(record.callers.len(), CALLERS);
        assert_eq!(record.evidence().all, counts(10_000, 10_000));
        assert_eq!(record.evidence().others, counts(64, 64));
    }
}
