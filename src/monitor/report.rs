//! What is told of versions under watch: to people, and to Prometheus.

use serde::Serialize;

use super::monitors::{Export, Monitors};
use super::panes::Window;
use super::verdict::{Comparison, is_enough};
use super::version::VersionMonitor;
use super::watched::Watched;
use crate::model::ModelName;
use crate::telemetry::{Monitored, MonitoredBin, MonitoredFeature, MonitoredVersion};

/// `GET /admin/models/{model}/drift`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Drift {
    /// Those that are loaded.
    pub versions: Vec<VersionDrift>,
}

/// One version.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VersionDrift {
    /// Its number.
    pub version: String,
    /// Where its reference comes from: `setting`, `package` or `self`; null while it learns from its first rows.
    pub reference: Option<&'static str>,
    /// Rows that were looked at since it was loaded.
    pub rows: u64,
    /// The share of right answers that its scores let expect, from the baseline's labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_accuracy: Option<f64>,
    /// What each window holds.
    pub windows: Windows,
}

/// Both windows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Windows {
    /// The last hour.
    #[serde(rename = "1h")]
    pub hour: WindowDrift,
    /// The last day.
    #[serde(rename = "24h")]
    pub day: WindowDrift,
}

/// One window.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WindowDrift {
    /// Features, the one that is furthest from its reference first.
    pub features: Vec<FeatureDrift>,
}

/// One feature.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FeatureDrift {
    /// Its name.
    pub feature: String,
    /// The population stability index.
    pub psi: f64,
    /// The Jensen–Shannon distance.
    pub jensen_shannon: f64,
    /// Rows of the window, as far as weighted ones say as much.
    pub n: f64,
    /// Rows of the reference.
    pub m: f64,
    /// What the index stays below by chance.
    pub bound: f64,
    /// `stable`, `warning` or `drifted`.
    pub verdict: &'static str,
    /// Shares.
    pub bins: Vec<BinDrift>,
}

/// One bin.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BinDrift {
    /// Its number or word.
    pub bin: String,
    /// Its share in the reference.
    pub reference: f64,
    /// Its share in the window.
    pub current: f64,
}

impl Monitors {
    /// What is known of the versions of a model; `None` when nothing is watched.
    pub fn drift(&self, model: &ModelName) -> Option<Drift> {
        if !self.options().enabled {
            return None;
        }
        let versions = self.loaded();
        let versions = versions
            .iter()
            .filter(|version| version.id().name == *model);
        Some(Drift {
            versions: versions.map(|version| version_drift(version)).collect(),
        })
    }
}

fn version_drift(monitor: &VersionMonitor) -> VersionDrift {
    let watched = monitor.watched();
    let window = |window| match &watched {
        Some(watched) => window_drift(monitor, watched, window),
        None => WindowDrift { features: vec![] },
    };
    let day = monitor.window(Window::Day);
    let accuracy = watched
        .as_ref()
        .and_then(|watched| watched.expected_accuracy(&day.bins));
    VersionDrift {
        version: monitor.id().version.to_string(),
        reference: watched.as_ref().map(|watched| watched.origin.label()),
        rows: monitor.totals().1,
        estimated_accuracy: accuracy,
        windows: Windows {
            hour: window(Window::Hour),
            day: window(Window::Day),
        },
    }
}

fn window_drift(monitor: &VersionMonitor, watched: &Watched, window: Window) -> WindowDrift {
    let counts = monitor.window(window);
    let streaks = monitor.streaks(window);
    let feature = |(place, reference): (usize, &super::reference::Reference)| {
        let comparison = Comparison::new(watched, place, &counts);
        let verdict = streaks.verdict(place, (&comparison, &counts));
        let shares = comparison.reference.iter().zip(&comparison.current);
        let bin = |(bin, (base, current)): (usize, (&f64, &f64))| BinDrift {
            bin: reference.bins.label(bin),
            reference: *base,
            current: *current,
        };
        FeatureDrift {
            feature: reference.name.clone(),
            psi: comparison.psi,
            jensen_shannon: comparison.distance,
            n: counts.weight.effective(),
            m: comparison.m,
            bound: comparison.bound,
            verdict: verdict.label(),
            bins: shares.enumerate().map(bin).collect(),
        }
    };
    let mut features: Vec<FeatureDrift> =
        watched.features.iter().enumerate().map(feature).collect();
    features.sort_by(|one, other| other.psi.total_cmp(&one.psi));
    WindowDrift { features }
}

impl Monitored for Monitors {
    fn versions(&self) -> Vec<MonitoredVersion> {
        let versions = self.loaded();
        let with_bins = self.options().export == Export::Bins;
        versions
            .iter()
            .map(|version| scraped(version, with_bins))
            .collect()
    }
}

#[expect(clippy::cast_precision_loss, reason = "a few features")]
fn scraped(monitor: &VersionMonitor, with_bins: bool) -> MonitoredVersion {
    let id = monitor.id();
    let (totals, rows) = monitor.totals();
    let mut version = MonitoredVersion {
        model: id.name.to_string(),
        version: id.version.to_string(),
        rows,
        ..MonitoredVersion::default()
    };
    let Some(watched) = monitor.watched() else {
        return version;
    };
    let windows = Window::ALL.map(|window| (window, monitor.window(window)));
    for (window, counts) in &windows {
        // What a version is compared with that it has served itself may be wrong already.
        if watched.origin != super::watched::Origin::Itself {
            let drifted = monitor.streaks(*window).drifted();
            version.drifted.push((window.label(), drifted as f64));
        }
        if *window == Window::Day && is_enough(counts) {
            version.accuracy = watched.expected_accuracy(&counts.bins);
        }
    }
    for (place, reference) in watched.features.iter().enumerate() {
        let enough = windows.iter().filter(|(_, counts)| is_enough(counts));
        let psi = enough.map(|(window, counts)| {
            let comparison = Comparison::new(&watched, place, counts);
            (window.label(), comparison.psi)
        });
        let shares = reference.shares();
        let counts = watched.part(place, &totals);
        let bin = |bin: usize| MonitoredBin {
            label: reference.bins.label(bin),
            count: counts.get(bin).copied().unwrap_or_default(),
            share: shares[bin],
        };
        version.features.push(MonitoredFeature {
            name: reference.name.clone(),
            psi: psi.collect(),
            bins: match with_bins {
                true => (0..shares.len()).map(bin).collect(),
                false => vec![],
            },
        });
    }
    version
}
