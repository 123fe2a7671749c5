//! How busy the process is, as one number to scale on.
//!
//! Requests cost CPU time outside of engines too (JSON above all), and engines may run elsewhere than on the CPU. So the
//! greater of two shares counts: CPU time of what the control group grants, and engine time of what the runners have.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::runtime::machine;
use crate::telemetry::Metrics;

/// How often to look.
const PERIOD: Duration = Duration::from_secs(1);

/// How fast the past is forgotten: after this time a change shows by two thirds.
const MEMORY: Duration = Duration::from_secs(10);

/// Keeps the gauge current until `stop`.
pub(crate) async fn watch(metrics: Arc<Metrics>, stop: CancellationToken) {
    let runners = machine::threads();
    let mut saturation = Saturation::default();
    let mut before = Reading::take(&metrics);
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let now = Reading::take(&metrics);
        let capacity = Capacity {
            cpus: machine::cpus(),
            runners,
        };
        let took = now.at - before.at;
        saturation.observe(before.share_used_until(&now, &capacity), took);
        metrics.set_saturation(saturation.ratio);
        before = now;
    }
}

/// What the process may use.
struct Capacity {
    cpus: f64,
    runners: usize,
}

/// What the process had used at a moment.
struct Reading {
    at: Instant,
    cpu: Option<Duration>,
    engines: Duration,
}

impl Reading {
    fn take(metrics: &Metrics) -> Self {
        Self {
            at: Instant::now(),
            cpu: machine::cpu_time(),
            engines: metrics.engine_time(),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a count of threads")]
    fn share_used_until(&self, later: &Self, capacity: &Capacity) -> f64 {
        let elapsed = (later.at - self.at).as_secs_f64();
        let share = |used: Duration, of: f64| used.as_secs_f64() / (elapsed * of);
        let cpu = later.cpu.zip(self.cpu);
        let cpu = cpu.map_or(0.0, |(now, before)| {
            share(now.saturating_sub(before), capacity.cpus)
        });
        let engines = later.engines.saturating_sub(self.engines);
        let share = cpu.max(share(engines, capacity.runners as f64));
        // Nothing at all in no time is no number.
        if share.is_finite() {
            share.min(1.0)
        } else {
            0.0
        }
    }
}

/// A mean that forgets.
#[derive(Default)]
struct Saturation {
    ratio: f64,
}

impl Saturation {
    fn observe(&mut self, share: f64, took: Duration) {
        let weight = 1.0 - (-took.as_secs_f64() / MEMORY.as_secs_f64()).exp();
        self.ratio += weight * (share - self.ratio);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: Capacity = Capacity {
        cpus: 0.5,
        runners: 2,
    };

    fn share(cpu: Option<u64>, engines: u64) -> f64 {
        let at = Instant::now();
        let before = Reading {
            at,
            cpu: Some(Duration::ZERO),
            engines: Duration::ZERO,
        };
        let now = Reading {
            at: at + Duration::from_secs(1),
            cpu: cpu.map(Duration::from_millis),
            engines: Duration::from_millis(engines),
        };
        before.share_used_until(&now, &CAPACITY)
    }

    #[test]
    fn the_greater_share_counts_and_one_is_the_most() {
        assert_eq!(share(Some(250), 400), 0.5);
        assert_eq!(share(Some(50), 1000), 0.5);
        assert_eq!(share(None, 1000), 0.5);
        assert_eq!(share(Some(900), 0), 1.0);
        assert_eq!(share(Some(0), 0), 0.0);
    }

    #[test]
    fn no_time_at_all_is_no_share() {
        let reading = Reading {
            at: Instant::now(),
            cpu: None,
            engines: Duration::ZERO,
        };
        assert_eq!(reading.share_used_until(&reading, &CAPACITY), 0.0);
    }

    #[test]
    fn a_change_shows_by_two_thirds_after_ten_seconds_however_often_one_looks() {
        let mut often = Saturation::default();
        (0..100).for_each(|_| often.observe(1.0, Duration::from_millis(100)));
        let mut once = Saturation::default();
        once.observe(1.0, Duration::from_secs(10));
        assert!((often.ratio - once.ratio).abs() < 1e-9);
        assert!((0.6..0.7).contains(&once.ratio), "{}", once.ratio);
    }
}
