//! How models are watched.

use std::time::Duration;

use super::settings::Settings;
use crate::model::ModelName;
use crate::monitor::{Limits, MonitorOptions};

/// Evaluations are not closer than this, however short the interval.
const SHORTEST: Duration = Duration::from_secs(1);

/// How models are watched.
pub(crate) fn monitor_options(settings: &Settings) -> MonitorOptions {
    let monitor = &settings.monitor;
    let baselines = settings.models.iter().filter_map(|(name, model)| {
        let name = ModelName::new(name.as_str()).ok()?;
        Some((name, model.baseline.clone()?))
    });
    MonitorOptions {
        enabled: monitor.enabled,
        interval: monitor.interval.max(SHORTEST),
        limits: Limits {
            features: monitor.max_features,
            rows_per_second: monitor.max_rows_per_second,
        },
        export: monitor.export,
        baselines: baselines.collect(),
    }
}
