//! A time that several machines can compare: milliseconds of the wall clock, written as RFC 3339.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970. The caller reads the clock; nothing here does.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Moment(u64);

/// The end of the year 9999, the last one that RFC 3339 can write.
const LAST: u64 = 253_402_300_799_999;

/// A text that is no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid time `{0}`: expected one such as `2026-11-30T10:00:00Z`")]
pub struct MomentError(String);

impl Moment {
    /// So many milliseconds after the beginning of 1970, at most the end of the year 9999.
    pub fn from_millis(millis: u64) -> Self {
        Self(millis.min(LAST))
    }

    /// Milliseconds since the beginning of 1970.
    pub fn millis(self) -> u64 {
        self.0
    }

    /// The time that has passed since an earlier moment; none when that one is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// The moment after `duration`.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(LAST);
        Self::from_millis(self.0.saturating_add(millis))
    }
}

impl From<SystemTime> for Moment {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::default().after(since)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = UNIX_EPOCH + Duration::from_millis(self.0);
        humantime::format_rfc3339_millis(time).fmt(f)
    }
}

impl FromStr for Moment {
    type Err = MomentError;

    fn from_str(text: &str) -> Result<Self, MomentError> {
        let time = humantime::parse_rfc3339_weak(text)
            .map_err(|_| MomentError(text.escape_debug().to_string()))?;
        Ok(time.into())
    }
}

impl TryFrom<String> for Moment {
    type Error = MomentError;

    fn try_from(text: String) -> Result<Self, MomentError> {
        text.parse()
    }
}

impl From<Moment> for String {
    fn from(moment: Moment) -> Self {
        moment.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_and_read_as_rfc_3339() {
        let moment = Moment::from_millis(1_796_119_200_250);
        assert_eq!(moment.to_string(), "2026-12-01T10:00:00.250Z");
        assert_eq!("2026-12-01T10:00:00.250Z".parse(), Ok(moment));
        assert_eq!(
            "tomorrow".parse::<Moment>().unwrap_err().to_string(),
            "invalid time `tomorrow`: expected one such as `2026-11-30T10:00:00Z`"
        );
    }

    #[test]
    fn every_moment_can_be_written_and_read_again() {
        for moment in [Moment::default(), Moment::from_millis(u64::MAX)] {
            assert_eq!(moment.to_string().parse(), Ok(moment));
        }
        let end = Moment::from_millis(u64::MAX);
        assert_eq!(end.after(Duration::MAX), end);
        assert_eq!(Moment::default().since(end), Duration::ZERO);
    }
}
