//! The directories of the log: `model=/version=/date=/hour=`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::model::{ModelId, ModelName};

/// Readers of Hive layouts take these back; everything else could be a separator to one of them.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// The folder of labels.
pub(super) const LABELS: &str = "labels";

/// The folder of bodies of failed requests.
pub(super) const ERRORS: &str = "errors";

/// An hour, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Partition {
    /// Hours since 1970.
    hour: i64,
}

impl Partition {
    /// The hour of this time; of one before 1970, by a clock that jumped, the first.
    pub(crate) fn of(time: SystemTime) -> Self {
        let seconds = time
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        Self {
            hour: i64::try_from(seconds / 3600).unwrap_or(i64::MAX / 3600),
        }
    }

    /// Its directory, below those of the version when there is one.
    pub(crate) fn directory(self, id: Option<&ModelId>) -> String {
        let begin = Timestamp::from_second(self.hour * 3600).unwrap_or(Timestamp::MAX);
        let time = begin.strftime("date=%Y-%m-%d/hour=%H");
        match id {
            Some(ModelId { name, version }) => {
                format!("{}/version={version}/{time}", of_model(name.as_str()))
            }
            None => time.to_string(),
        }
    }

    /// The hour of a path; `None` when it is not in the layout of the log.
    pub(crate) fn of_path(path: &str) -> Option<Self> {
        let value = |key: &str| {
            path.split('/')
                .find_map(|part| part.strip_prefix(key)?.strip_prefix('='))
        };
        let (date, hour) = (value("date")?, value("hour")?);
        let time: Timestamp = format!("{date}T{hour}:00:00Z").parse().ok()?;
        Some(Self {
            hour: time.as_second() / 3600,
        })
    }

    /// Whether all of it is older than this.
    pub(crate) fn is_older(self, age: Duration, now: SystemTime) -> bool {
        let Some(limit) = now.checked_sub(age) else {
            return false;
        };
        self.hour < Self::of(limit).hour
    }
}

/// The directory of a model.
pub(crate) fn of_model(name: &str) -> String {
    format!("model={}", utf8_percent_encode(name, ENCODED))
}

/// The model of a path.
pub(crate) fn model_of(path: &str) -> Option<ModelName> {
    let text = path
        .split('/')
        .find_map(|part| part.strip_prefix("model="))?;
    let name = percent_decode_str(text).decode_utf8().ok()?;
    ModelName::new(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ModelName, Version};

    #[test]
    fn a_path_says_whose_rows_it_has_and_of_which_hour() {
        let id = ModelId {
            name: ModelName::new("fraud = 1%").unwrap(),
            version: Version(3),
        };
        let time = UNIX_EPOCH + Duration::from_secs(1_764_583_199);
        let partition = Partition::of(time);
        let directory = partition.directory(Some(&id));
        assert_eq!(
            directory,
            "model=fraud%20%3D%201%25/version=3/date=2025-12-01/hour=09"
        );
        assert_eq!(Partition::of_path(&directory), Some(partition));
        assert_eq!(model_of(&directory), Some(id.name));
        assert_eq!(Partition::of_path("a/b.parquet"), None);
    }

    #[test]
    fn only_hours_that_are_over_are_old() {
        let at = |hours: u64| UNIX_EPOCH + Duration::from_secs(hours * 3600);
        let day = Duration::from_secs(24 * 3600);
        let partition = Partition::of(at(100));
        assert!(!partition.is_older(day, at(124)));
        assert!(partition.is_older(day, at(125)));
        // A clock that jumped back deletes nothing.
        assert!(!partition.is_older(day, at(3)));
    }
}
