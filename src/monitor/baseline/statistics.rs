//! The form of the file.

use serde::{Deserialize, Serialize};

use super::{Accuracy, Baseline, MOST_FEATURES};
use crate::monitor::bins::{Bins, Categories, Edges, LONGEST_CATEGORY, MOST_VALUES};
use crate::monitor::reference::Reference;

/// Bins that a feature of numbers may have.
const MOST_BUCKETS: usize = 100;

/// What the file holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Content {
    /// The version of the form.
    #[serde(default)]
    pub version: f64,
    /// What it was made of.
    #[serde(default)]
    pub dataset: Dataset,
    /// Columns.
    pub features: Vec<FeatureStatistics>,
    /// What the form has no place for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub onstage: Option<Extra>,
}

/// What the statistics were made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Dataset {
    /// Rows.
    #[serde(default)]
    pub item_count: u64,
}

/// One feature.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FeatureStatistics {
    /// Its name.
    pub name: String,
    /// `Fractional`, `Integral`, `String` or `Unknown`.
    #[serde(default)]
    pub inferred_type: String,
    /// Of a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numerical_statistics: Option<Numerical>,
    /// Of a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub string_statistics: Option<Textual>,
}

/// Cells with and without a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Common {
    /// With.
    #[serde(default)]
    pub num_present: u64,
    /// Without.
    #[serde(default)]
    pub num_missing: u64,
}

/// A number.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Numerical {
    /// Its cells.
    #[serde(default)]
    pub common: Common,
    /// The mean of those that are numbers.
    #[serde(default)]
    pub mean: Option<f64>,
    /// Their sum.
    #[serde(default)]
    pub sum: Option<f64>,
    /// Their standard deviation.
    #[serde(default)]
    pub std_dev: Option<f64>,
    /// The lowest.
    #[serde(default)]
    pub min: Option<f64>,
    /// The highest.
    #[serde(default)]
    pub max: Option<f64>,
    /// Its bins.
    #[serde(default)]
    pub distribution: Distribution,
}

/// A text.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Textual {
    /// Its cells.
    #[serde(default)]
    pub common: Common,
    /// How many values it has, about.
    #[serde(default)]
    pub distinct_count: f64,
    /// Its values; free text has none here.
    #[serde(default)]
    pub distribution: Distribution,
}

/// The bins of a feature, of one kind.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Distribution {
    /// Of numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kll: Option<Buckets<NumberBucket>>,
    /// Of texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub categorical: Option<Buckets<TextBucket>>,
}

/// Bins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Buckets<B> {
    /// In order.
    pub buckets: Vec<B>,
}

/// A bin of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct NumberBucket {
    /// Its lower end, which belongs to it.
    pub lower_bound: f64,
    /// Its upper end, which belongs to the next one, if there is one.
    pub upper_bound: f64,
    /// Cells in it.
    pub count: f64,
}

/// A value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TextBucket {
    /// Its text.
    pub value: String,
    /// Cells that hold it.
    pub count: f64,
}

/// What only this server reads.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Extra {
    /// The digest of the data.
    #[serde(default)]
    pub data: Option<String>,
    /// Whether the data was none that the model was trained on.
    #[serde(default)]
    pub follow_up: bool,
    /// Outputs, in the form of features.
    #[serde(default)]
    pub outputs: Vec<FeatureStatistics>,
    /// Cells that hold NaN, by feature.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub nan: std::collections::BTreeMap<String, u64>,
    /// The length of free texts, by feature.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub lengths: std::collections::BTreeMap<String, Buckets<NumberBucket>>,
    /// How often the model was right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<ByScore>,
}

/// How often the model was right, by its score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ByScore {
    /// The output that is the score.
    pub output: String,
    /// The share of right answers in all rows.
    pub overall: f64,
    /// In the rows of each of its bins; null where there is no row.
    pub by_bin: Vec<Option<f64>>,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// It is no JSON of that form.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// It says nothing.
    #[error("`features` is empty")]
    Empty,
    /// It says too much.
    #[error("it has {0} features, expected at most {MOST_FEATURES}")]
    TooMany(usize),
    /// A feature that comes twice.
    #[error("feature `{0}` is there twice")]
    Twice(String),
    /// The bins of a feature.
    #[error("feature `{name}` {problem}")]
    Feature {
        /// Its name.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl Baseline {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// [`ContentError`].
    pub fn parse(text: &[u8]) -> Result<Self, ContentError> {
        Self::from_content(&serde_json::from_slice(text)?)
    }

    /// The same of a file that was read.
    ///
    /// # Errors
    /// [`ContentError`].
    pub fn from_content(content: &Content) -> Result<Self, ContentError> {
        let extra = content.onstage.clone().unwrap_or_default();
        let all = || content.features.iter().chain(&extra.outputs);
        match all().count() {
            0 => return Err(ContentError::Empty),
            many if many > MOST_FEATURES => return Err(ContentError::TooMany(many)),
            _ => {}
        }
        let mut names = std::collections::HashSet::new();
        if let Some(twice) = all().find(|feature| !names.insert(&feature.name)) {
            return Err(ContentError::Twice(twice.name.clone()));
        }
        let mut features = Vec::new();
        for feature in all() {
            // A column that SageMaker could make nothing of has no statistics.
            features.extend(feature.reference(&extra)?);
        }
        if features.is_empty() {
            return Err(ContentError::Empty);
        }
        Ok(Self {
            features,
            accuracy: extra.accuracy.map(|accuracy| Accuracy {
                feature: accuracy.output,
                by_bin: accuracy.by_bin,
            }),
            rows: content.dataset.item_count,
            data: extra.data,
        })
    }
}

impl FeatureStatistics {
    fn reference(&self, extra: &Extra) -> Result<Option<Reference>, ContentError> {
        let wrong = |problem| ContentError::Feature {
            name: self.name.clone(),
            problem,
        };
        let (bins, counts) = if let Some(numbers) = &self.numerical_statistics {
            let nan = extra.nan.get(&self.name).copied().unwrap_or(0);
            let Some(kll) = &numbers.distribution.kll else {
                return Ok(None);
            };
            let (edges, counts) =
                numbers_of(kll, (numbers.common.num_missing, nan)).map_err(wrong)?;
            (Bins::Numbers(edges), counts)
        } else if let Some(texts) = &self.string_statistics {
            let missing = texts.common.num_missing;
            if let Some(lengths) = extra.lengths.get(&self.name) {
                let (edges, counts) = numbers_of(lengths, (missing, 0)).map_err(wrong)?;
                (Bins::Lengths(edges), counts)
            } else if let Some(values) = &texts.distribution.categorical {
                categories_of(values, missing).map_err(wrong)?
            } else {
                return Ok(None);
            }
        } else {
            return Ok(None);
        };
        let total: f64 = counts.iter().sum();
        if total <= 0.0 {
            return Err(wrong("has no rows in any bin"));
        }
        Ok(Some(Reference {
            name: self.name.clone(),
            bins,
            counts,
        }))
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of rows")]
fn numbers_of(
    kll: &Buckets<NumberBucket>,
    (missing, nan): (u64, u64),
) -> Result<(Edges, Vec<f64>), &'static str> {
    let buckets = &kll.buckets;
    if buckets.is_empty() {
        // All cells are missing: whatever comes is above.
        let edges = Edges::new(vec![0.0, 0.0]).ok_or("has no buckets")?;
        return Ok((edges, vec![0.0, 0.0, 0.0, missing as f64, nan as f64]));
    }
    if buckets.len() > MOST_BUCKETS {
        return Err("has more than 100 buckets");
    }
    let joined = buckets
        .windows(2)
        .all(|pair| pair[0].upper_bound == pair[1].lower_bound);
    if !joined {
        return Err(
            "has buckets that do not adjoin: expected each `upper_bound` to be the next `lower_bound`",
        );
    }
    let mut edges: Vec<f64> = buckets.iter().map(|bucket| bucket.lower_bound).collect();
    edges.extend(buckets.last().map(|bucket| bucket.upper_bound));
    let edges = Edges::new(edges);
    let edges = edges.ok_or("has buckets whose bounds do not ascend, or are no finite numbers")?;
    let mut counts: Vec<f64> = buckets.iter().map(|bucket| bucket.count).collect();
    check(&counts)?;
    counts.extend([0.0, 0.0, missing as f64, nan as f64]);
    Ok((edges, counts))
}

#[expect(clippy::cast_precision_loss, reason = "counts of rows")]
fn categories_of(
    values: &Buckets<TextBucket>,
    missing: u64,
) -> Result<(Bins, Vec<f64>), &'static str> {
    let mut sorted: Vec<&TextBucket> = values.buckets.iter().collect();
    if sorted.len() > MOST_VALUES {
        return Err("has more than 1000 values, which is free text: expected its lengths");
    }
    if sorted
        .iter()
        .any(|bucket| bucket.value.len() > LONGEST_CATEGORY)
    {
        return Err("has a value of more than 256 bytes, which is free text: expected its lengths");
    }
    let mut values = std::collections::HashSet::new();
    if !sorted.iter().all(|bucket| values.insert(&bucket.value)) {
        return Err("has a value twice");
    }
    let found: Vec<f64> = sorted.iter().map(|bucket| bucket.count).collect();
    check(&found)?;
    // Ties stay in the order of the file.
    sorted.sort_by(|one, other| other.count.total_cmp(&one.count));
    let categories = Categories::new(sorted.iter().map(|bucket| bucket.value.clone()).collect());
    let own = categories.first().len();
    let mut counts: Vec<f64> = sorted.iter().map(|bucket| bucket.count).collect();
    let other: f64 = counts.drain(own..).sum();
    counts.extend([other, 0.0, missing as f64]);
    Ok((Bins::Categories(categories), counts))
}

fn check(counts: &[f64]) -> Result<(), &'static str> {
    let is_count = |count: &f64| count.is_finite() && *count >= 0.0;
    if counts.iter().all(is_count) {
        return Ok(());
    }
    Err("has a count that is negative, or no number")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A feature whose statistics are these, as SageMaker writes them.
    fn parsed(statistics: &str) -> Result<Baseline, ContentError> {
        let text = format!(
            r#"{{"version": 0.0, "dataset": {{"item_count": 10}}, "features": [{{"name": "x", "inferred_type": "Fractional", {statistics}}}]}}"#
        );
        Baseline::parse(text.as_bytes())
    }

    fn numbers(buckets: &str) -> Result<Baseline, ContentError> {
        parsed(&format!(
            r#""numerical_statistics": {{"common": {{"num_present": 8, "num_missing": 2}}, "mean": 1.0, "sum": 8.0, "std_dev": 0.5, "min": 0.0, "max": 2.0, "distribution": {{"kll": {{"buckets": [{buckets}], "sketch": {{"parameters": {{"c": 0.64, "k": 2048.0}}, "data": [[1.0]]}}}}}}}}"#
        ))
    }

    fn texts(buckets: &str) -> Result<Baseline, ContentError> {
        parsed(&format!(
            r#""string_statistics": {{"common": {{"num_present": 8, "num_missing": 2}}, "distinct_count": 2.0, "distribution": {{"categorical": {{"buckets": [{buckets}]}}}}}}"#
        ))
    }

    #[test]
    fn files_of_sagemaker_are_read() {
        let bucket = |low: f64, high: f64, count: f64| {
            format!(r#"{{"lower_bound": {low}, "upper_bound": {high}, "count": {count}}}"#)
        };
        let baseline = numbers(&[bucket(0.0, 1.0, 5.0), bucket(1.0, 2.0, 3.0)].join(",")).unwrap();
        assert_eq!(baseline.features[0].counts, [5.0, 3.0, 0.0, 0.0, 2.0, 0.0]);
        let value =
            |value: &str, count: f64| format!(r#"{{"value": "{value}", "count": {count}}}"#);
        let baseline = texts(&[value("a", 3.0), value("b", 5.0)].join(",")).unwrap();
        let Bins::Categories(categories) = &baseline.features[0].bins else {
            panic!("texts have categories");
        };
        assert_eq!(categories.first(), ["b", "a"]);
        assert_eq!(baseline.features[0].counts, [5.0, 3.0, 0.0, 0.0, 2.0]);
    }

    #[test]
    fn bins_that_are_none_are_refused_by_name() {
        let value = |value: &str| format!(r#"{{"value": "{value}", "count": 1}}"#);
        let many: Vec<String> = (0..1001).map(|number| value(&number.to_string())).collect();
        let cases = [
            (
                numbers(r#"{"lower_bound": 2, "upper_bound": 1, "count": 1}"#),
                "do not ascend",
            ),
            (
                numbers(
                    r#"{"lower_bound": 0, "upper_bound": 1, "count": 1}, {"lower_bound": 2, "upper_bound": 3, "count": 1}"#,
                ),
                "do not adjoin",
            ),
            (
                numbers(r#"{"lower_bound": 0, "upper_bound": 1, "count": -1}"#),
                "negative",
            ),
            (texts(&[value("a"), value("a")].join(",")), "a value twice"),
            (texts(&value(&"x".repeat(300))), "more than 256 bytes"),
            (texts(&many.join(",")), "more than 1000 values"),
        ];
        for (parsed, part) in cases {
            let message = parsed.unwrap_err().to_string();
            assert!(
                message.contains("`x`") && message.contains(part),
                "{message}"
            );
        }
        let nan = numbers(r#"{"lower_bound": NaN, "upper_bound": 1, "count": 1}"#);
        assert!(matches!(nan, Err(ContentError::Json(_))));
    }

    #[test]
    fn a_column_that_is_all_missing_has_a_bin() {
        let baseline = numbers("").unwrap();
        assert_eq!(baseline.features[0].counts, [0.0, 0.0, 0.0, 2.0, 0.0]);
        assert_eq!(baseline.features[0].shares()[3], 1.0);
    }

    #[test]
    fn too_many_features_and_the_same_one_twice_are_refused() {
        let features = |count: usize| {
            let features: Vec<String> = (0..count)
                .map(|number| format!(r#"{{"name": "f{number}"}}"#))
                .collect();
            Baseline::parse(format!(r#"{{"features": [{}]}}"#, features.join(",")).as_bytes())
        };
        assert!(matches!(
            features(10_001),
            Err(ContentError::TooMany(10_001))
        ));
        assert!(matches!(features(3), Err(ContentError::Empty)));
        let twice = br#"{"features": [{"name": "a"}, {"name": "a"}]}"#;
        assert!(matches!(
            Baseline::parse(twice),
            Err(ContentError::Twice(_))
        ));
    }
}
