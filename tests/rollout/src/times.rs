//! Times of an engine's runs: log-normal, with pauses.

use libm::erf;
use rand::Rng;
use rand_distr::{Binomial, Distribution};

use crate::rollout::Histogram;

/// The median, in seconds. Gates know ratios alone; a quick model's histograms are short.
const MEDIAN: f64 = 0.000_02;

/// How many times as long a run with a pause takes.
const PAUSE: f64 = 20.0;

/// Runs below this quantile are counted in one bucket, the highest of them. The 99th percentile would be there only if at most
/// one of 100 runs were above: in one of 3,000 histograms that have so few.
const BODY: f64 = 0.9;

/// Times that runs are drawn from, in the buckets of the machine's histograms.
#[derive(Debug)]
pub struct Times {
    /// The bucket of all quick runs.
    body: usize,
    /// Their share.
    body_share: f64,
    /// How the others fall into the buckets after it.
    tail: Tail,
}

/// A distribution over a few buckets, drawn from by inversion.
#[derive(Debug)]
struct Tail {
    /// The upper bound of each bucket among the numbers of 64 bits.
    bounds: Vec<u64>,
    /// The first bucket that a number with these upper bits can be in.
    guide: Vec<usize>,
}

impl Tail {
    const BITS: u32 = 10;

    fn new(shares: &[f64]) -> Self {
        let sum: f64 = shares.iter().sum();
        let mut cumulated = 0.0;
        let mut bounds: Vec<u64> = shares
            .iter()
            .map(|share| {
                cumulated += share / sum;
                (cumulated * 2.0_f64.powi(64)) as u64
            })
            .collect();
        *bounds.last_mut().expect("a bucket") = u64::MAX;
        let guide = (0..1_u64 << Self::BITS).map(|slot| {
            let first = slot << (64 - Self::BITS);
            bounds.partition_point(|bound| *bound < first)
        });
        Self {
            guide: guide.collect(),
            bounds,
        }
    }

    fn draw(&self, rng: &mut impl Rng) -> usize {
        let number = rng.next_u64();
        let mut bucket = self.guide[(number >> (64 - Self::BITS)) as usize];
        while self.bounds[bucket] < number {
            bucket += 1;
        }
        bucket
    }
}

impl Times {
    /// Log-normal times with this σ, of which `pauses` take 20 times as long; all are `slower` times as long.
    pub fn new(sigma: f64, pauses: f64, slower: f64) -> Self {
        let normal = |x: f64| 0.5 * (1.0 + erf(x / std::f64::consts::SQRT_2));
        let below = |seconds: f64| {
            let log = (seconds / (MEDIAN * slower)).ln();
            (1.0 - pauses) * normal(log / sigma) + pauses * normal((log - PAUSE.ln()) / sigma)
        };
        let last = Histogram::bucket(f64::INFINITY);
        let upper_edge = |bucket: usize| Histogram::middle(bucket) * 1.5_f64.powf(0.5 / 8.0);
        let body = (0..last).rfind(|bucket| below(upper_edge(*bucket)) <= BODY);
        let body = body.expect("some bucket is below the median");
        let shares: Vec<f64> = (body + 1..=last)
            .map(|bucket| {
                let upper = if bucket == last {
                    1.0
                } else {
                    below(upper_edge(bucket))
                };
                (upper - below(upper_edge(bucket - 1))).max(0.0)
            })
            .collect();
        Self {
            body,
            body_share: below(upper_edge(body)),
            tail: Tail::new(&shares),
        }
    }

    /// Draws the times of so many runs.
    pub fn draw(&self, runs: u64, rng: &mut impl Rng, into: &mut Histogram) {
        let quick = binomial(runs, self.body_share, rng);
        into.add_to(self.body, quick);
        for _ in quick..runs {
            into.add_to(self.body + 1 + self.tail.draw(rng), 1);
        }
    }
}

/// How many of `n` happen with probability `p`.
pub fn binomial(n: u64, p: f64, rng: &mut impl Rng) -> u64 {
    if n == 0 || p <= 0.0 {
        return 0;
    }
    Binomial::new(n, p.min(1.0))
        .expect("a probability")
        .sample(rng)
}
