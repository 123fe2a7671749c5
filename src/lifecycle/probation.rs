//! Whether a version that went on stage lately may stay there: a pure judgement of how its requests end.

use tokio::time::Instant;

use crate::model::Version;

/// Requests that must have been judged before a version is.
const ENOUGH: u64 = 50;

/// A version may have one bad request in this many.
const ONE_IN: u64 = 20;

/// A new version that may still be taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Probation {
    /// The version.
    pub(super) version: Version,
    /// The version that served before, which stays loaded.
    pub(super) fallback: Option<Version>,
    /// When it has passed.
    pub(super) until: Instant,
    /// What had been counted when it went on stage: it may have served by its own path before.
    pub(super) counted: (u64, u64),
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
    /// Judges by the counts of requests and of bad ones.
    pub(super) fn judge(&self, (requests, bad): (u64, u64), now: Instant) -> Judgement {
        let requests = requests.saturating_sub(self.counted.0);
        let bad = bad.saturating_sub(self.counted.1);
        if requests >= ENOUGH && bad * ONE_IN > requests {
            return Judgement::Failed(format!(
                "{bad} of its first {requests} requests ended in a server error or in outputs that are NaN or infinite, more than 5 %"
            ));
        }
        if now >= self.until {
            Judgement::Passed
        } else {
            Judgement::Wait
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn judges_after_fifty_requests_and_five_per_cent() {
        let now = Instant::now();
        let until = now + Duration::from_secs(60);
        let probation = Probation {
            version: Version(2),
            fallback: Some(Version(1)),
            until,
            counted: (100, 90),
        };
        let judge = |requests: u64, bad: u64, at| probation.judge((100 + requests, 90 + bad), at);
        assert_eq!(judge(49, 49, now), Judgement::Wait);
        assert_eq!(judge(60, 3, now), Judgement::Wait, "exactly 5 %");
        assert!(matches!(judge(59, 3, now), Judgement::Failed(_)));
        assert_eq!(judge(0, 0, until), Judgement::Passed);
        assert!(
            matches!(judge(50, 50, until), Judgement::Failed(_)),
            "the last look counts too"
        );
    }
}
