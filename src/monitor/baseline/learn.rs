//! From values to bins, in memory that does not grow with their number.

use std::collections::HashMap;

use datasketches::common::SearchCriteria;
use datasketches::hll::{HllSketch, HllType};
use datasketches::kll::{KllFloat, KllSketch};

use super::statistics::{
    Buckets, Common, Distribution, FeatureStatistics, NumberBucket, Numerical, TextBucket, Textual,
};
use crate::monitor::bins::{Bins, Categories, Edges, LONGEST_CATEGORY, MOST_VALUES};
use crate::monitor::features::{Cell, Feature};
use crate::monitor::reference::Reference;

/// Quantile bins of a number.
const BINS: usize = 10;

/// The size of a sketch of quantiles: an error of their rank of a quarter per cent, where that of SageMaker's is twice as
/// large.
const ACCURACY: u16 = 800;

/// The same for the first rows of a version, which 50 features keep at a time.
const ACCURACY_WHILE_SERVING: u16 = 200;

/// What is known of one feature after one pass.
#[derive(Debug)]
pub struct Sketch {
    name: String,
    numbers: Quantiles,
    texts: Texts,
    missing: u64,
    nan: u64,
    is_text: bool,
    is_whole: bool,
    /// Whether it is a column of singles, so that its bounds are some, too.
    is_single: bool,
    /// Whether no value of it may be kept, however few there are.
    is_private: bool,
}

/// Quantiles of numbers, or of lengths.
#[derive(Debug)]
struct Quantiles {
    sketch: KllSketch<KllFloat<f64>>,
    /// Distinct values, while there are few.
    few: Option<Vec<(f64, u64)>>,
    count: u64,
    sum: f64,
    /// Sum of squared distances from the running mean.
    squares: f64,
}

/// Texts, and how often each came.
#[derive(Debug)]
struct Texts {
    /// `None` once they are free text.
    counts: Option<HashMap<String, u64>>,
    distinct: Option<HllSketch>,
}

/// Learns the features of a table.
#[derive(Debug)]
pub struct Learner {
    sketches: Vec<Sketch>,
    rows: u64,
}

impl Learner {
    /// Of these features; `private` are those of which no value may be kept.
    pub fn new(features: &[Feature], private: &[String], is_serving: bool) -> Self {
        let accuracy = if is_serving {
            ACCURACY_WHILE_SERVING
        } else {
            ACCURACY
        };
        let sketch = |feature: &Feature| Sketch {
            name: feature.name.clone(),
            is_private: private.contains(&feature.name),
            is_single: feature.source.is_single,
            numbers: Quantiles::new(accuracy),
            texts: Texts {
                counts: Some(HashMap::new()),
                distinct: HllSketch::new(12, HllType::Hll8).ok(),
            },
            missing: 0,
            nan: 0,
            is_text: false,
            is_whole: true,
        };
        Self {
            sketches: features.iter().map(sketch).collect(),
            rows: 0,
        }
    }

    /// Takes a row, one cell for each feature.
    pub fn add<'a>(&mut self, cells: impl IntoIterator<Item = Cell<'a>>) {
        self.rows += 1;
        for (sketch, cell) in self.sketches.iter_mut().zip(cells) {
            sketch.add(cell);
        }
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// One for each feature.
    pub fn sketches(&self) -> &[Sketch] {
        &self.sketches
    }

    /// What is known of each, without a second pass: the counts of numbers are as exact as the sketch.
    pub fn references(&self) -> Vec<Reference> {
        self.sketches.iter().map(Sketch::reference).collect()
    }
}

impl Quantiles {
    fn new(accuracy: u16) -> Self {
        Self {
            sketch: KllSketch::new(accuracy).unwrap_or_default(),
            few: Some(Vec::new()),
            count: 0,
            sum: 0.0,
            squares: 0.0,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a count of rows")]
    fn add(&mut self, number: f64) {
        if let Ok(number) = KllFloat::<f64>::new(number) {
            self.sketch.update(number);
        }
        // Welford's, which large numbers do not harm; an infinity has no mean.
        if number.is_finite() {
            let before = self.mean();
            self.count += 1;
            self.sum += number;
            self.squares += (number - before) * (number - self.sum / self.count as f64);
        }
        let Some(few) = &mut self.few else { return };
        if let Some((_, count)) = few.iter_mut().find(|(value, _)| *value == number) {
            *count += 1;
        } else if few.len() < BINS {
            few.push((number, 1));
        } else {
            self.few = None;
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a count of rows")]
    fn mean(&self) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        self.sum / self.count as f64
    }

    /// The bounds of ten bins of equal size; of few values each has a bin of its own. None without a finite number.
    #[expect(clippy::cast_precision_loss, reason = "ten bins")]
    fn edges(&self) -> Option<Edges> {
        let finite = |value: &f64| value.is_finite();
        if let Some(few) = &self.few {
            let mut values: Vec<f64> = few.iter().map(|(value, _)| *value).filter(finite).collect();
            values.sort_by(f64::total_cmp);
            let middles = values
                .windows(2)
                .map(|pair| f64::midpoint(pair[0], pair[1]));
            let edges = values.first().copied().into_iter().chain(middles);
            return Edges::new(edges.chain(values.last().copied()).collect());
        }
        let view = self.sketch.sorted_view();
        let quantile = |tenth: usize| {
            let rank = tenth as f64 / BINS as f64;
            let value = view.quantile(rank, SearchCriteria::Inclusive).ok()??;
            Some(value.into_inner())
        };
        let lowest = self.sketch.min_item().map(|item| item.into_inner());
        let highest = self.sketch.max_item().map(|item| item.into_inner());
        let inner = (1..BINS).filter_map(quantile);
        let edges = lowest.into_iter().chain(inner).chain(highest);
        let mut edges: Vec<f64> = edges.filter(finite).collect();
        edges.dedup();
        if edges.len() == 1 {
            edges.push(edges[0]);
        }
        Edges::new(edges)
    }

    /// About how many numbers lie in each bin, below and above.
    #[expect(clippy::cast_precision_loss, reason = "a count of rows")]
    fn counts(&self, edges: &Edges) -> Vec<f64> {
        let mut counts = vec![0.0; edges.len() + 2];
        if let Some(few) = &self.few {
            for (value, count) in few {
                counts[edges.place(*value)] += *count as f64;
            }
            return counts;
        }
        let view = self.sketch.sorted_view();
        let total = self.sketch.n() as f64;
        // The share of numbers below a bound; up to the last one, which its bin holds.
        let below = |edge: f64, criteria| {
            let edge = KllFloat::<f64>::new(edge).ok();
            let rank = edge.and_then(|edge| view.rank(&edge, criteria));
            rank.unwrap_or(0.0) * total
        };
        let bounds = edges.as_slice();
        let last = bounds.len() - 1;
        let mut before = below(bounds[0], SearchCriteria::Exclusive);
        counts[last] = before;
        for (bin, edge) in bounds[1..].iter().enumerate() {
            let criteria = match bin + 1 == last {
                true => SearchCriteria::Inclusive,
                false => SearchCriteria::Exclusive,
            };
            let up_to = below(*edge, criteria);
            counts[bin] = (up_to - before).max(0.0);
            before = up_to;
        }
        counts[last + 1] = (total - before).max(0.0);
        counts
    }
}

impl Sketch {
    fn add(&mut self, cell: Cell<'_>) {
        match cell {
            Cell::Missing => self.missing += 1,
            Cell::Nan => self.nan += 1,
            Cell::Number(number) => {
                self.is_whole &= number.fract() == 0.0;
                self.numbers.add(number);
            }
            Cell::Text(text) => self.add_text(text),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "the length of a text")]
    fn add_text(&mut self, text: &str) {
        self.is_text = true;
        self.numbers.add(text.len() as f64);
        if let Some(distinct) = &mut self.texts.distinct {
            distinct.update(text);
        }
        let Some(counts) = &mut self.texts.counts else {
            return;
        };
        if let Some(count) = counts.get_mut(text) {
            *count += 1;
        } else if counts.len() < MOST_VALUES && text.len() <= LONGEST_CATEGORY {
            counts.insert(text.to_owned(), 1);
        } else {
            self.texts.counts = None;
        }
    }

    /// The values of a text that is no free text, the most frequent first.
    fn categories(&self) -> Option<Vec<(&str, u64)>> {
        let counts = self.texts.counts.as_ref();
        let counts = counts.filter(|_| self.is_text && !self.is_private)?;
        let mut sorted: Vec<(&str, u64)> = counts
            .iter()
            .map(|(value, count)| (value.as_str(), *count))
            .collect();
        sorted.sort_by(|one, other| other.1.cmp(&one.1).then(one.0.cmp(other.0)));
        Some(sorted)
    }

    /// The bins that fit what was seen.
    pub fn bins(&self) -> Bins {
        let nothing = || Edges::new(vec![0.0, 0.0]).expect("one bin");
        match self.categories() {
            Some(values) => {
                let values = values.iter().map(|(value, _)| (*value).to_owned());
                Bins::Categories(Categories::new(values.collect()))
            }
            None if self.is_text => Bins::Lengths(self.numbers.edges().unwrap_or_else(nothing)),
            None => {
                let edges = self.numbers.edges().unwrap_or_else(nothing);
                Bins::Numbers(if self.is_single {
                    edges.rounded()
                } else {
                    edges
                })
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of rows")]
    fn reference(&self) -> Reference {
        let bins = self.bins();
        let counts = match &bins {
            Bins::Numbers(edges) | Bins::Lengths(edges) => {
                let mut counts = self.numbers.counts(edges);
                counts.extend([self.missing as f64, self.nan as f64]);
                counts
            }
            Bins::Categories(categories) => {
                let mut counts = vec![0.0; bins.len()];
                for (value, count) in self.categories().unwrap_or_default() {
                    counts[categories.place(value)] += count as f64;
                }
                counts[bins.missing()] = self.missing as f64;
                counts
            }
        };
        Reference {
            name: self.name.clone(),
            bins,
            counts,
        }
    }

    /// Cells that are NaN.
    pub fn nans(&self) -> u64 {
        self.nan
    }

    /// The feature as the file has it, with the counts of a second pass.
    pub fn statistics(
        &self,
        counted: &Reference,
    ) -> (FeatureStatistics, Option<Buckets<NumberBucket>>) {
        let common = Common {
            num_present: self.numbers.sketch.n() + self.nan,
            num_missing: self.missing,
        };
        let kind = match (self.is_text, self.is_whole) {
            (true, _) => "String",
            (false, _) if self.numbers.sketch.is_empty() => "Unknown",
            (false, true) => "Integral",
            (false, false) => "Fractional",
        };
        let mut statistics = FeatureStatistics {
            name: self.name.clone(),
            inferred_type: kind.to_owned(),
            ..FeatureStatistics::default()
        };
        let mut lengths = None;
        match &counted.bins {
            Bins::Numbers(edges) => {
                statistics.numerical_statistics = Some(self.numerical(common, edges, counted));
            }
            Bins::Lengths(edges) => {
                lengths = Some(buckets(edges, &counted.counts));
                statistics.string_statistics = Some(self.textual(common, None));
            }
            Bins::Categories(_) => {
                let values = self.categories().unwrap_or_default();
                statistics.string_statistics = Some(self.textual(common, Some(values)));
            }
        }
        (statistics, lengths)
    }

    #[expect(clippy::cast_precision_loss, reason = "a count of rows")]
    fn numerical(&self, common: Common, edges: &Edges, counted: &Reference) -> Numerical {
        let numbers = &self.numbers;
        let is_there = numbers.count > 0;
        let deviation = || (numbers.squares / numbers.count as f64).sqrt();
        let bound = |item: Option<&KllFloat<f64>>| {
            item.map(|item| item.into_inner())
                .filter(|value| value.is_finite())
        };
        let kll = match numbers.sketch.is_empty() {
            true => Buckets { buckets: vec![] },
            false => buckets(edges, &counted.counts),
        };
        Numerical {
            common,
            mean: is_there
                .then(|| numbers.mean())
                .filter(|mean| mean.is_finite()),
            sum: is_there
                .then_some(numbers.sum)
                .filter(|sum| sum.is_finite()),
            std_dev: is_there.then(deviation).filter(|value| value.is_finite()),
            min: bound(numbers.sketch.min_item()),
            max: bound(numbers.sketch.max_item()),
            distribution: Distribution {
                kll: Some(kll),
                categorical: None,
            },
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a count of rows")]
    fn textual(&self, common: Common, values: Option<Vec<(&str, u64)>>) -> Textual {
        let estimate = self.texts.distinct.as_ref().map(HllSketch::estimate);
        let distinct = values.as_ref().map(|values| values.len() as f64);
        let bucket = |(value, count): (&str, u64)| TextBucket {
            value: value.to_owned(),
            count: count as f64,
        };
        Textual {
            common,
            distinct_count: distinct.or(estimate).unwrap_or_default().round(),
            distribution: Distribution {
                kll: None,
                categorical: values.map(|values| Buckets {
                    buckets: values.into_iter().map(bucket).collect(),
                }),
            },
        }
    }
}

fn buckets(edges: &Edges, counts: &[f64]) -> Buckets<NumberBucket> {
    let pairs = edges.as_slice().windows(2).zip(counts);
    let bucket = |(pair, count): (&[f64], &f64)| NumberBucket {
        lower_bound: pair[0],
        upper_bound: pair[1],
        count: *count,
    };
    Buckets {
        buckets: pairs.map(bucket).collect(),
    }
}
