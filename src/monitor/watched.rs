//! What one version is compared with, and where its features lie.

use super::baseline::{Accuracy, Baseline};
use super::bins::Bins;
use super::features::{Cell, Layout, Source, Views};
use super::reference::Reference;

/// Where a reference comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// `models.<name>.baseline`.
    Setting,
    /// The package.
    Package,
    /// What the version before, or this one, has served.
    Itself,
}

impl Origin {
    /// What it is called.
    pub fn label(self) -> &'static str {
        match self {
            Self::Setting => "setting",
            Self::Package => "package",
            Self::Itself => "self",
        }
    }
}

/// The features of a version that have a reference.
#[derive(Debug)]
pub struct Watched {
    /// One after the other.
    pub features: Vec<Reference>,
    /// Where the bins of each begin.
    pub offsets: Vec<usize>,
    /// All bins.
    pub bins: usize,
    /// Where the references come from.
    pub origin: Origin,
    /// How often the model was right, by its score.
    pub accuracy: Option<Accuracy>,
}

impl Watched {
    /// Everything of a baseline but the columns beyond `most`.
    pub fn new(baseline: Baseline, origin: Origin, most: usize) -> Self {
        let mut columns = 0;
        let mut features = baseline.features;
        features.retain(|feature| {
            let is_output = is_output(&feature.name);
            columns += usize::from(!is_output);
            is_output || columns <= most
        });
        let mut bins = 0;
        let offsets = features.iter().map(|feature| {
            let offset = bins;
            bins += feature.bins.len();
            offset
        });
        Self {
            offsets: offsets.collect(),
            bins,
            features,
            origin,
            accuracy: baseline.accuracy,
        }
    }

    /// The bins of one feature among those of all.
    pub fn part<'c>(&self, feature: usize, bins: &'c [f64]) -> &'c [f64] {
        let from = self.offsets[feature];
        bins.get(from..from + self.features[feature].bins.len())
            .unwrap_or_default()
    }

    /// The share of right answers that these counts let expect.
    pub fn expected_accuracy(&self, bins: &[f64]) -> Option<f64> {
        let accuracy = self.accuracy.as_ref()?;
        let feature = self
            .features
            .iter()
            .position(|feature| feature.name == accuracy.feature)?;
        let counts = self.part(feature, bins);
        let own = accuracy.by_bin.len();
        let (mut right, mut rows) = (0.0, 0.0);
        for (place, count) in counts.iter().take(own + 2).enumerate() {
            // Below the first bin and above the last one nothing is known but what is in them.
            let by_bin = match place.checked_sub(own) {
                None => accuracy.by_bin[place],
                Some(0) => accuracy.by_bin.first().copied().flatten(),
                Some(_) => accuracy.by_bin.last().copied().flatten(),
            };
            if let Some(share) = by_bin {
                right += share * count;
                rows += count;
            }
        }
        (rows > 0.0).then(|| right / rows)
    }
}

/// Whether a feature is one of the answer.
fn is_output(name: &str) -> bool {
    let rest = name.strip_prefix("prediction");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['_', '[']))
}

/// A feature that is both in the reference and in requests.
#[derive(Debug)]
struct Bound {
    source: Source,
    bins: Bins,
    offset: usize,
}

/// The places of the features in the tensors of requests.
#[derive(Debug)]
pub struct Binding {
    features: Vec<Bound>,
    /// Features that the reference has and no request.
    pub lacking: Vec<String>,
    /// Columns beyond those that are watched.
    pub unwatched: usize,
}

impl Binding {
    /// Brings references and requests together.
    pub fn new(watched: &Watched, layout: &Layout) -> Self {
        let mut lacking = Vec::new();
        let mut features = Vec::new();
        for (reference, offset) in watched.features.iter().zip(&watched.offsets) {
            let found = layout
                .features
                .iter()
                .find(|feature| feature.name == reference.name);
            let Some(found) = found else {
                lacking.push(reference.name.clone());
                continue;
            };
            let bins = match &reference.bins {
                Bins::Numbers(edges) if found.source.is_single => Bins::Numbers(edges.rounded()),
                bins => bins.clone(),
            };
            features.push(Bound {
                source: found.source,
                bins,
                offset: *offset,
            });
        }
        Self {
            features,
            lacking,
            unwatched: layout.unwatched,
        }
    }

    /// Counts these rows, each with this weight.
    pub fn count(&self, views: &Views<'_>, rows: &[usize], (weight, bins): (f64, &mut [f64])) {
        for feature in &self.features {
            let own = &mut bins[feature.offset..feature.offset + feature.bins.len()];
            for row in rows {
                let place = place(&feature.bins, views.cell(feature.source, *row));
                own[place] += weight;
            }
        }
    }
}

/// The bin of a cell. What has another type than the baseline is as good as never seen.
pub fn place(bins: &Bins, cell: Cell<'_>) -> usize {
    match (bins, cell) {
        (_, Cell::Missing) => bins.missing(),
        (Bins::Numbers(edges), Cell::Number(number)) => edges.place(number),
        (Bins::Numbers(_) | Bins::Lengths(_), Cell::Nan) => bins.nan(),
        #[expect(clippy::cast_precision_loss, reason = "the length of a text")]
        (Bins::Lengths(edges), Cell::Text(text)) => edges.place(text.len() as f64),
        (Bins::Categories(categories), Cell::Text(text)) => categories.place(text),
        // A column that was text and is a number now, or the other way round.
        (Bins::Categories(categories), Cell::Number(_) | Cell::Nan) => categories.first().len() + 1,
        (Bins::Numbers(edges), Cell::Text(_)) | (Bins::Lengths(edges), Cell::Number(_)) => {
            edges.len() + 1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_told_from_columns_by_their_name() {
        let outputs = ["prediction", "prediction[1]", "prediction_score"];
        assert!(outputs.into_iter().all(is_output));
        assert!(!is_output("predictions") && !is_output("age"));
    }
}
