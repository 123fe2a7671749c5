//! What is known of one feature before the window: its bins, and what the baseline holds in each.

use super::bins::{Bins, Edges};

/// One feature of a baseline.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// The column, or the output.
    pub name: String,
    /// Its bins.
    pub bins: Bins,
    /// What each of them holds.
    pub counts: Vec<f64>,
}

impl Reference {
    /// The rows of the baseline.
    pub fn rows(&self) -> f64 {
        self.counts.iter().sum()
    }

    /// The share of each bin. What the baseline cannot hold has that of the next row, not none: a single new value in a
    /// large window is no drift.
    pub fn shares(&self) -> Vec<f64> {
        let rows = self.rows();
        let share = |(place, count): (usize, &f64)| {
            if *count > 0.0 {
                count / rows
            } else if self.bins.is_outside(place) {
                1.0 / (rows + 1.0)
            } else {
                0.0
            }
        };
        self.counts.iter().enumerate().map(share).collect()
    }

    /// What another baseline holds in the bins of this one, as far as its own bins tell: numbers lie evenly in each of
    /// them. `None` when one of them is a text and the other is not.
    pub fn recounted(&self, other: &Self) -> Option<Vec<f64>> {
        let mut counts = vec![0.0; self.bins.len()];
        match (&self.bins, &other.bins) {
            (Bins::Numbers(own), Bins::Numbers(edges))
            | (Bins::Lengths(own), Bins::Lengths(edges)) => {
                for (pair, count) in edges.as_slice().windows(2).zip(&other.counts) {
                    spread(own, (pair[0], pair[1]), *count, &mut counts);
                }
                counts[self.bins.nan()] = other.counts[other.bins.nan()];
            }
            (Bins::Categories(own), Bins::Categories(categories)) => {
                for (value, count) in categories.first().iter().zip(&other.counts) {
                    counts[own.place(value)] += count;
                }
                counts[own.first().len()] += other.counts[categories.first().len()];
            }
            _ => return None,
        }
        counts[self.bins.missing()] = other.counts[other.bins.missing()];
        Some(counts)
    }
}

/// Spreads the numbers of a bin evenly over others.
fn spread(edges: &Edges, (low, high): (f64, f64), count: f64, counts: &mut [f64]) {
    if high <= low {
        counts[edges.place(low)] += count;
        return;
    }
    let bounds = edges.as_slice();
    let inside = bounds
        .iter()
        .copied()
        .filter(|edge| *edge > low && *edge < high);
    let mut from = low;
    for to in inside.chain([high]) {
        if to > from {
            let middle = f64::midpoint(from, to);
            counts[edges.place(middle)] += count * (to - from) / (high - low);
        }
        from = to;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::bins::Categories;

    fn numbers(edges: &[f64], counts: &[f64]) -> Reference {
        Reference {
            name: "x".to_owned(),
            bins: Bins::Numbers(Edges::new(edges.to_vec()).unwrap()),
            counts: [counts, &[0.0; 4]].concat(),
        }
    }

    #[test]
    fn what_the_baseline_cannot_hold_has_the_share_of_the_next_row() {
        let shares = numbers(&[0.0, 1.0], &[9.0]).shares();
        assert_eq!(shares, [1.0, 0.1, 0.1, 0.0, 0.0]);
    }

    #[test]
    fn numbers_are_counted_in_the_bins_of_another_baseline() {
        let own = numbers(&[0.0, 1.0, 2.0], &[1.0, 1.0]);
        let other = numbers(&[0.5, 1.5, 3.5], &[10.0, 20.0]);
        let counts = own.recounted(&other).unwrap();
        assert_eq!(counts, [5.0, 10.0, 0.0, 15.0, 0.0, 0.0]);
        let same = numbers(&[2.0, 2.0], &[7.0]);
        assert_eq!(own.recounted(&same).unwrap()[1], 7.0);
        assert_eq!(own.recounted(&own).unwrap(), own.counts);
    }

    #[test]
    fn texts_are_counted_by_their_value_and_never_as_numbers() {
        let texts = |known: [&str; 2]| Reference {
            name: "x".to_owned(),
            bins: Bins::Categories(Categories::new(known.map(str::to_owned).to_vec())),
            counts: vec![3.0, 2.0, 0.0, 0.0, 1.0],
        };
        let counts = texts(["a", "b"]).recounted(&texts(["b", "c"]));
        assert_eq!(counts.unwrap(), [0.0, 3.0, 0.0, 2.0, 1.0]);
        assert!(
            texts(["a", "b"])
                .recounted(&numbers(&[0.0, 1.0], &[1.0]))
                .is_none()
        );
    }
}
