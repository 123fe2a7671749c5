//! How often a request is drawn in one repetition of a bootstrap.

use twox_hash::XxHash3_64;

/// One repetition.
pub(super) struct Sample(u64);

/// The chances of a Poisson distribution with mean 1 to be at most so many: each request is drawn so often, independently.
const AT_MOST: [f64; 8] = [
    0.367_879_441_171_442_3,
    0.735_758_882_342_884_6,
    0.919_698_602_928_605_8,
    0.981_011_843_123_846_3,
    0.996_340_153_172_656_4,
    0.999_405_815_182_418_3,
    0.999_916_758_850_712,
    0.999_989_750_803_325_2,
];

impl Sample {
    pub(super) fn new(repetition: u64) -> Self {
        Self(repetition)
    }

    /// How often this request is drawn.
    pub(super) fn times(&self, request: &str) -> f64 {
        let hash = XxHash3_64::oneshot_with_seed(self.0, request.as_bytes());
        let chance = (hash >> 11) as f64 / (1_u64 << 53) as f64;
        AT_MOST.iter().take_while(|limit| chance >= **limit).count() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_mean_and_variance_one() {
        let sample = Sample::new(3);
        let draws: Vec<f64> = (0..100_000)
            .map(|request| sample.times(&format!("r{request}")))
            .collect();
        let mean = draws.iter().sum::<f64>() / 1e5;
        let variance = draws.iter().map(|draw| (draw - mean).powi(2)).sum::<f64>() / 1e5;
        // Five standard deviations of a mean of 100,000 draws are 0.016.
        assert!(
            (mean - 1.0).abs() < 0.016 && (variance - 1.0).abs() < 0.04,
            "{mean} {variance}"
        );
    }
}
