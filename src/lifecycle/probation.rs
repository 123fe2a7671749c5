//! Whether a version that went on stage lately may stay there: a pure judgement of how its requests end.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::Version;
use crate::serving::{Counts, Evidence};

/// Of so many requests, half that failed are enough.
const FIRST_LOOK: u64 = 20;

/// Requests that must have been judged before a small share of failures counts.
const ENOUGH: u64 = 50;

/// Processes that may end on requests that the version before answers; while one is started again, there is little else to
/// judge by.
const LOSSES: u64 = 3;

/// Of the latest requests so many must be of other callers than the one that has most failures.
const OTHERS: u64 = 10;

/// A new version may fail so much larger a share than the version before.
const MARGIN: f64 = 0.05;

/// A caller that is alone may be one of many, the first that asks.
const ALONE: Duration = Duration::from_secs(2);

/// A new version that may still be taken back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Probation {
    /// The version.
    pub(super) version: Version,
    /// The version that served before, which stays loaded.
    pub(super) fallback: Option<Version>,
    /// When it began.
    pub(super) since: Instant,
    /// When it has passed.
    pub(super) until: Instant,
    /// The share of requests that the version before failed lately for what cannot be tried again: time, and numbers
    /// that are not finite.
    pub(super) before: f64,
    /// Whether several connections asked the version before lately.
    pub(super) crowded: bool,
}

/// What to do with a version on probation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Look again.
    Wait,
    /// It stays.
    Passed,
    /// The old version comes back: why.
    Failed(String),
}

impl Probation {
    /// Judges by what was seen; a version `in_doubt` passes by its successes alone.
    pub(super) fn judge(&self, evidence: &Evidence, in_doubt: bool, now: Instant) -> Judgement {
        let fails = self.fails(evidence.all) && self.others_agree(evidence, now);
        if fails || self.fails_by_now(evidence, now) {
            return Judgement::Failed(self.reason(evidence));
        }
        if now >= self.until && !in_doubt {
            Judgement::Passed
        } else {
            Judgement::Wait
        }
    }

    /// When time alone may change the judgement.
    pub(super) fn next_look(&self, now: Instant) -> Option<Instant> {
        let looks = [self.since + ALONE, self.until];
        looks.into_iter().filter(|at| *at > now).min()
    }

    fn fails(&self, counts: Counts) -> bool {
        let Counts {
            requests,
            failed,
            lost,
        } = counts;
        let half = requests >= FIRST_LOOK && failed * 2 >= requests;
        lost >= LOSSES || (self.is_worse(counts) && (half || requests >= ENOUGH))
    }

    fn is_worse(&self, counts: Counts) -> bool {
        share(counts) > self.before + MARGIN
    }

    /// Whether half of the latest requests fail, however many were answered before.
    fn fails_by_now(&self, evidence: &Evidence, now: Instant) -> bool {
        let half_of = |counts: Counts, least: u64| {
            counts.requests >= least
                && counts.failed * 2 >= counts.requests
                && self.is_worse(counts)
        };
        let others_agree = match evidence.others.requests {
            0 => self.others_agree(evidence, now),
            _ => half_of(evidence.latest_of_others, OTHERS),
        };
        half_of(evidence.latest, FIRST_LOOK) && others_agree
    }

    /// The failures of one caller never suffice while others succeed.
    fn others_agree(&self, evidence: &Evidence, now: Instant) -> bool {
        let others = evidence.others;
        match others.requests {
            0 => !self.crowded || now >= self.since + ALONE,
            _ => others.succeeded() == 0 || self.fails(others),
        }
    }

    fn reason(&self, evidence: &Evidence) -> String {
        let Counts {
            requests, failed, ..
        } = evidence.all;
        let causes = evidence.causes.iter();
        let causes: Vec<String> = causes
            .map(|(cause, count)| format!("{count} {cause}"))
            .collect();
        let mut reason = format!(
            "{failed} of its first {requests} requests failed ({})",
            causes.join(", ")
        );
        if let Some(fallback) = self.fallback {
            let share = self.before * 100.0;
            reason.push_str(&format!(
                ", and not on version {fallback}, which failed {share:.1} % before"
            ));
        }
        if let Some(last) = &evidence.last {
            reason.push_str(&format!("; the last one: {last}"));
        }
        reason
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share")]
fn share(counts: Counts) -> f64 {
    counts.failed as f64 / counts.requests.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probation(before: f64) -> Probation {
        let since = Instant::now();
        Probation {
            version: Version(2),
            fallback: Some(Version(1)),
            since,
            until: since + Duration::from_secs(60),
            before,
            crowded: true,
        }
    }

    fn counts(requests: u64, failed: u64) -> Counts {
        Counts {
            requests,
            failed,
            lost: 0,
        }
    }

    fn evidence(all: Counts, others: Counts) -> Evidence {
        Evidence {
            all,
            others,
            ..Evidence::default()
        }
    }

    /// The judgement of failures that are everybody's.
    fn taken_back(probation: &Probation, requests: u64, failed: u64) -> bool {
        let all = counts(requests, failed);
        let judgement = probation.judge(&evidence(all, all), false, probation.since);
        matches!(judgement, Judgement::Failed(_))
    }

    #[test]
    fn half_of_twenty_are_enough_and_five_per_cent_of_fifty() {
        let probation = probation(0.0);
        assert!(!taken_back(&probation, 19, 19));
        assert!(taken_back(&probation, 20, 10));
        assert!(!taken_back(&probation, 49, 24));
        assert!(!taken_back(&probation, 60, 3), "exactly 5 %");
        assert!(taken_back(&probation, 59, 3));
    }

    #[test]
    fn a_version_that_begins_to_fail_late_is_taken_back_by_its_latest_requests() {
        let probation = probation(0.0);
        let judge = |latest, latest_of_others| {
            let all = counts(100_000, 64);
            let evidence = Evidence {
                latest,
                latest_of_others,
                ..evidence(all, all)
            };
            probation.judge(&evidence, false, probation.since)
        };
        let taken_back = |judgement| matches!(judgement, Judgement::Failed(_));
        assert!(taken_back(judge(counts(128, 64), counts(100, 50))));
        assert!(!taken_back(judge(counts(128, 63), counts(100, 50))));
        assert!(!taken_back(judge(counts(19, 19), counts(15, 15))));
        assert!(
            !taken_back(judge(counts(128, 100), counts(28, 5))),
            "one caller's"
        );
        assert!(
            !taken_back(judge(counts(128, 128), counts(9, 9))),
            "one caller's, and too few of others"
        );
    }

    #[test]
    fn three_processes_are_enough_however_few_the_requests() {
        let probation = probation(0.0);
        let judge = |lost, of_others| {
            let counts = |lost| Counts {
                lost,
                ..counts(1000, lost)
            };
            probation.judge(
                &evidence(counts(lost), counts(of_others)),
                false,
                probation.since,
            )
        };
        assert_eq!(judge(2, 2), Judgement::Wait);
        assert!(matches!(judge(3, 3), Judgement::Failed(_)));
        assert_eq!(judge(30, 2), Judgement::Wait, "one caller's");
    }

    #[test]
    fn the_share_of_the_version_before_is_forgiven() {
        let slow = probation(0.1);
        assert!(!taken_back(&slow, 100, 15));
        assert!(taken_back(&slow, 100, 16));
        let hopeless = probation(0.8);
        assert!(
            !taken_back(&hopeless, 20, 16),
            "half, and no worse than before"
        );
        assert!(taken_back(&hopeless, 100, 86));
    }

    #[test]
    fn one_caller_never_suffices_while_others_succeed() {
        let probation = probation(0.0);
        let judge = |all, others, after: u64| {
            let now = probation.since + Duration::from_secs(after);
            probation.judge(&evidence(all, others), false, now)
        };
        let hostile = counts(100_000, 99_990);
        assert_eq!(judge(hostile, counts(10, 0), 30), Judgement::Wait);
        assert_eq!(judge(hostile, counts(1000, 50), 30), Judgement::Wait);
        assert!(matches!(
            judge(hostile, counts(1000, 51), 0),
            Judgement::Failed(_)
        ));
        assert!(matches!(
            judge(hostile, counts(3, 3), 0),
            Judgement::Failed(_)
        ));
        assert_eq!(judge(hostile, counts(0, 0), 1), Judgement::Wait);
        assert!(
            matches!(judge(hostile, counts(0, 0), 2), Judgement::Failed(_)),
            "nobody else is there"
        );
        let alone = Probation {
            crowded: false,
            ..probation
        };
        let judgement = alone.judge(&evidence(hostile, counts(0, 0)), false, alone.since);
        assert!(
            matches!(judgement, Judgement::Failed(_)),
            "nor was there before"
        );
    }

    #[test]
    fn time_passes_a_version_but_one_in_doubt() {
        let probation = probation(0.0);
        let judge = |in_doubt, at| probation.judge(&Evidence::default(), in_doubt, at);
        let (since, until) = (probation.since, probation.until);
        assert_eq!(judge(false, since), Judgement::Wait);
        assert_eq!(judge(false, until), Judgement::Passed);
        assert_eq!(judge(true, until), Judgement::Wait);
        let all = counts(50, 50);
        let last_look = probation.judge(&evidence(all, all), false, until);
        assert!(
            matches!(last_look, Judgement::Failed(_)),
            "the last look counts too"
        );
    }

    #[test]
    fn the_reason_says_what_failed_how_often_and_what_the_version_before_did() {
        let failed = Evidence {
            causes: vec![("errors of the engine", 18), ("time-outs", 2)],
            last: Some("Gather: 6 is out of range".to_owned()),
            ..evidence(counts(20, 20), counts(20, 20))
        };
        let probation = probation(0.015);
        let Judgement::Failed(reason) = probation.judge(&failed, false, probation.since) else {
            panic!("it failed");
        };
        assert_eq!(
            reason,
            "20 of its first 20 requests failed (18 errors of the engine, 2 time-outs), and not on version 1, which \
             failed 1.5 % before; the last one: Gather: 6 is out of range"
        );
    }
}
