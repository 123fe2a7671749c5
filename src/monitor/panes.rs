//! Counts over time: panes of five minutes, over which windows slide.

use std::collections::VecDeque;
use std::time::Duration;

/// The length of a pane.
pub const PANE: Duration = Duration::from_mins(5);

/// How far windows look back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// For the eye: daily rhythms show.
    Hour,
    /// For verdicts that raise an alert.
    Day,
}

impl Window {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Hour, Self::Day];

    /// What it is called.
    pub fn label(self) -> &'static str {
        match self {
            Self::Hour => "1h",
            Self::Day => "24h",
        }
    }

    /// The panes in it, that in progress included.
    fn panes(self) -> u64 {
        match self {
            Self::Hour => 12,
            Self::Day => 288,
        }
    }
}

/// What rows weigh together, and from how many requests they come.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Weight {
    /// Rows that were looked at.
    pub rows: u64,
    /// What they weigh: those that were not looked at are in it.
    pub sum: f64,
    /// The sum of the squares of their weights.
    pub squares: f64,
    /// Requests that they came with.
    pub requests: u64,
}

impl Weight {
    /// As many rows of equal weight say as much: (Σw)² / Σw².
    pub fn effective(&self) -> f64 {
        if self.squares > 0.0 {
            self.sum * self.sum / self.squares
        } else {
            0.0
        }
    }

    /// Adds rows.
    pub fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.sum += other.sum;
        self.squares += other.squares;
        self.requests += other.requests;
    }
}

/// Counts of bins, one after the other, for all features.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// What the rows in each bin weigh.
    pub bins: Vec<f64>,
    /// The rows.
    pub weight: Weight,
}

#[derive(Debug)]
struct Pane {
    number: u64,
    /// Singles hold 288 panes of 50 features in less than a megabyte.
    bins: Box<[f32]>,
    weight: Weight,
}

/// The last day.
#[derive(Debug, Default)]
pub struct Panes {
    panes: VecDeque<Pane>,
    /// Since the version was loaded, for counters.
    totals: Vec<f64>,
    rows: u64,
}

impl Panes {
    /// Adds what was counted in this pane.
    pub fn add(&mut self, number: u64, counts: &Counts) {
        self.forget(number);
        self.rows += counts.weight.rows;
        self.totals.resize(counts.bins.len(), 0.0);
        for (total, count) in self.totals.iter_mut().zip(&counts.bins) {
            *total += count;
        }
        let pane = match self.panes.iter().position(|pane| pane.number == number) {
            Some(place) => &mut self.panes[place],
            None => {
                self.panes.push_back(Pane {
                    number,
                    bins: vec![0.0; counts.bins.len()].into(),
                    weight: Weight::default(),
                });
                self.panes.back_mut().expect("just pushed")
            }
        };
        #[expect(clippy::cast_possible_truncation, reason = "counts of five minutes")]
        for (bin, count) in pane.bins.iter_mut().zip(&counts.bins) {
            *bin += *count as f32;
        }
        pane.weight.add(&counts.weight);
    }

    /// Drops what is older than every window.
    fn forget(&mut self, now: u64) {
        let oldest = (now + 1).saturating_sub(Window::Day.panes());
        self.panes.retain(|pane| pane.number >= oldest);
    }

    /// What a window holds that ends with this pane.
    pub fn window(&self, window: Window, now: u64) -> Counts {
        let oldest = (now + 1).saturating_sub(window.panes());
        let mut counts = Counts {
            bins: vec![0.0; self.totals.len()],
            weight: Weight::default(),
        };
        for pane in self.panes.iter().filter(|pane| pane.number >= oldest) {
            for (sum, bin) in counts.bins.iter_mut().zip(&pane.bins) {
                *sum += f64::from(*bin);
            }
            counts.weight.add(&pane.weight);
        }
        counts
    }

    /// All that was ever counted.
    pub fn totals(&self) -> (&[f64], u64) {
        (&self.totals, self.rows)
    }

    /// Whether every window is empty.
    pub fn is_past(&self, now: u64) -> bool {
        let oldest = (now + 1).saturating_sub(Window::Day.panes());
        self.panes.iter().all(|pane| pane.number < oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(bins: Vec<f64>) -> Counts {
        let rows = bins.iter().sum();
        let weight = Weight {
            rows: 1,
            sum: rows,
            squares: rows * rows,
            requests: 1,
        };
        Counts { bins, weight }
    }

    #[test]
    fn windows_slide_and_totals_stay() {
        let mut panes = Panes::default();
        panes.add(0, &one(vec![1.0, 0.0]));
        panes.add(11, &one(vec![0.0, 2.0]));
        assert_eq!(panes.window(Window::Hour, 11).bins, [1.0, 2.0]);
        assert_eq!(panes.window(Window::Hour, 12).bins, [0.0, 2.0]);
        assert_eq!(panes.window(Window::Day, 287).bins, [1.0, 2.0]);
        assert_eq!(panes.window(Window::Day, 288).bins, [0.0, 2.0]);
        panes.add(300, &one(vec![1.0, 1.0]));
        assert_eq!(panes.panes.len(), 1);
        assert_eq!(panes.totals(), (&[2.0, 3.0][..], 3));
        assert!(!panes.is_past(587) && panes.is_past(588));
    }

    #[test]
    fn rows_of_unequal_weight_say_less() {
        let mut weight = Weight::default();
        for sum in [1.0, 1.0, 10.0] {
            weight.add(&Weight {
                rows: 1,
                sum,
                squares: sum * sum,
                requests: 1,
            });
        }
        assert!((weight.effective() - 144.0 / 102.0).abs() < 1e-12);
    }
}
