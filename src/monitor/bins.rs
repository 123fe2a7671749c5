//! The bins of a feature: which one a value falls into.

use std::collections::HashMap;

/// The categories that have a bin of their own.
pub const MOST_CATEGORIES: usize = 20;

/// A text with more values than this is free text, of which only the length is looked at.
pub const MOST_VALUES: usize = 1_000;

/// Longer texts are no category: to look for them would take as long as they are.
pub const LONGEST_CATEGORY: usize = 256;

/// The bins of one feature.
#[derive(Debug, Clone, PartialEq)]
pub enum Bins {
    /// Of a number.
    Numbers(Edges),
    /// Of a text with few values.
    Categories(Categories),
    /// Of the length in bytes of a text with many.
    Lengths(Edges),
}

/// Bins between ascending numbers, closed as in `numpy.histogram`: each without its upper end, the last one with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Edges(Vec<f64>);

/// Bins of texts.
#[derive(Debug, Clone, PartialEq)]
pub struct Categories {
    /// The most frequent ones, in the order of their bins.
    first: Vec<String>,
    /// The bin of each known one; of those without a bin of their own that of `other`.
    places: HashMap<String, usize>,
}

impl Edges {
    /// `None` unless they are finite, ascend and bound a bin.
    pub fn new(edges: Vec<f64>) -> Option<Self> {
        let ascends = edges.windows(2).all(|pair| pair[0] <= pair[1]);
        let is_finite = edges.iter().all(|edge| edge.is_finite());
        (edges.len() > 1 && ascends && is_finite).then_some(Self(edges))
    }

    /// From the lowest to the highest.
    pub fn as_slice(&self) -> &[f64] {
        &self.0
    }

    /// How many bins lie between them.
    pub fn len(&self) -> usize {
        self.0.len() - 1
    }

    /// There is always a bin.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The same for a column of singles: what is compared is rounded, so these are, too.
    #[must_use]
    pub fn rounded(&self) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "to round is the purpose")]
        let round = |edge: &f64| f64::from((*edge as f32).clamp(f32::MIN, f32::MAX));
        Self(self.0.iter().map(round).collect())
    }

    /// The bin of a number that is no NaN.
    pub fn place(&self, value: f64) -> usize {
        let bins = self.len();
        let last = self.0[bins];
        if value < self.0[0] {
            return bins;
        }
        if value > last {
            return bins + 1;
        }
        if value == last {
            return bins - 1;
        }
        // Few edges: to compare with each takes less than to search.
        let inner = &self.0[1..bins];
        inner.iter().map(|edge| usize::from(value >= *edge)).sum()
    }
}

impl Categories {
    /// Those that are known, the most frequent first.
    pub fn new(known: Vec<String>) -> Self {
        let other = known.len().min(MOST_CATEGORIES);
        let place = |(place, value): (usize, &String)| (value.clone(), place.min(other));
        let places = known.iter().enumerate().map(place).collect();
        let mut first = known;
        first.truncate(MOST_CATEGORIES);
        Self { first, places }
    }

    /// Those with a bin of their own.
    pub fn first(&self) -> &[String] {
        &self.first
    }

    /// The bin of a text.
    pub fn place(&self, value: &str) -> usize {
        let unseen = self.first.len() + 1;
        if value.len() > LONGEST_CATEGORY {
            return unseen;
        }
        self.places.get(value).copied().unwrap_or(unseen)
    }
}

impl Bins {
    /// How many there are, those for what fits no other included.
    pub fn len(&self) -> usize {
        match self {
            Self::Numbers(edges) | Self::Lengths(edges) => edges.len() + 4,
            Self::Categories(categories) => categories.first.len() + 3,
        }
    }

    /// There are always some.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The bin of cells that are null or not there.
    pub fn missing(&self) -> usize {
        match self {
            Self::Numbers(edges) | Self::Lengths(edges) => edges.len() + 2,
            Self::Categories(categories) => categories.first.len() + 2,
        }
    }

    /// The bin of NaN, which only numbers have.
    pub fn nan(&self) -> usize {
        self.missing() + 1
    }

    /// Whether the baseline has nothing in this bin by its nature: what is below and above all that it has seen, or was
    /// never seen.
    pub fn is_outside(&self, place: usize) -> bool {
        match self {
            Self::Numbers(edges) | Self::Lengths(edges) => {
                (edges.len()..edges.len() + 2).contains(&place)
            }
            Self::Categories(categories) => place == categories.first.len() + 1,
        }
    }

    /// What a bin is called: its number, never a text of the data.
    pub fn label(&self, place: usize) -> String {
        let (own, others): (usize, &[&str]) = match self {
            Self::Numbers(edges) | Self::Lengths(edges) => {
                (edges.len(), &["below", "above", "missing", "nan"])
            }
            Self::Categories(categories) => {
                (categories.first.len(), &["other", "unseen", "missing"])
            }
        };
        match place.checked_sub(own) {
            None => place.to_string(),
            Some(other) => others.get(other).copied().unwrap_or("other").to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fall_into_bins_as_in_numpy() {
        let edges = Edges::new(vec![0.0, 1.0, 1.0, 2.0, 4.0]).unwrap();
        let places = [
            (-0.1, 4),
            (0.0, 0),
            (0.9, 0),
            (1.0, 2),
            (2.0, 3),
            (4.0, 3),
            (4.1, 5),
            (f64::INFINITY, 5),
            (f64::NEG_INFINITY, 4),
        ];
        for (value, place) in places {
            assert_eq!(edges.place(value), place, "{value}");
        }
        let one = Edges::new(vec![3.0, 3.0]).unwrap();
        assert_eq!([one.place(2.0), one.place(3.0), one.place(4.0)], [1, 0, 2]);
    }

    #[test]
    fn what_bounds_no_bin_is_refused() {
        for edges in [
            vec![],
            vec![1.0],
            vec![2.0, 1.0],
            vec![0.0, f64::NAN],
            vec![0.0, f64::INFINITY],
        ] {
            assert!(Edges::new(edges.clone()).is_none(), "{edges:?}");
        }
    }

    #[test]
    fn edges_of_singles_lie_on_singles() {
        let edges = Edges::new(vec![0.1, 1e300]).unwrap().rounded();
        assert_eq!(edges.as_slice(), [f64::from(0.1_f32), f64::from(f32::MAX)]);
    }

    #[test]
    fn the_twenty_first_category_is_another_and_a_new_one_unseen() {
        let known: Vec<String> = (0..30).map(|value| format!("v{value}")).collect();
        let bins = Categories::new(known);
        assert_eq!(bins.place("v19"), 19);
        assert_eq!(bins.place("v20"), 20);
        assert_eq!(bins.place("x"), 21);
        assert_eq!(bins.place(&"v".repeat(1 << 20)), 21);
        let bins = Bins::Categories(bins);
        let labels: Vec<String> = (19..23).map(|place| bins.label(place)).collect();
        assert_eq!(labels, ["19", "other", "unseen", "missing"]);
        assert_eq!((bins.len(), bins.missing()), (23, 22));
        assert!(bins.is_outside(21) && !bins.is_outside(20));
    }
}
