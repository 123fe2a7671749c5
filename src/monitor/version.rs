//! One version under watch: it counts what the version sees and answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::baseline::{Baseline, Learner};
use super::features::{Feature, Naming, Views};
use super::pace::{Lot, Pace};
use super::panes::{Counts, PANE, Panes, Weight, Window};
use super::slots::{SLOTS, slot};
use super::verdict::Streaks;
use super::watched::{Binding, Origin, Watched};
use crate::model::{ModelId, ModelSignature, Signature};
use crate::serving::Observed;

/// Rows that a version without a baseline learns from.
pub(super) const FIRST_ROWS: u64 = 5_000;

/// Rows that are counted before other work of the thread gets its turn.
const AT_ONCE: usize = 256;

/// What is not to be looked up for each request.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Which version it is.
    pub id: ModelId,
    /// The digest of its package.
    pub digest: String,
    /// What its graph takes and gives.
    pub graph: Signature,
    /// What its package says of that.
    pub declared: Option<ModelSignature>,
}

/// One version under watch.
#[derive(Debug)]
pub struct VersionMonitor {
    subject: Subject,
    /// Most columns, and most rows a second.
    limits: Limits,
    began: Instant,
    pace: Pace,
    /// `None` while it learns.
    watched: ArcSwapOption<Watched>,
    /// `None` until the first request.
    binding: ArcSwapOption<Binding>,
    learning: Mutex<Option<Learning>>,
    shards: [Mutex<Shard>; SLOTS],
    panes: Mutex<Panes>,
    streaks: Mutex<[Streaks; Window::ALL.len()]>,
    /// Whether requests were too odd to bind, which is said once.
    has_complained: AtomicBool,
}

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Columns; wider tensors are summed up.
    pub features: usize,
    /// Rows a second; 0 is no bound.
    pub rows_per_second: u32,
}

/// The first rows of a version without a baseline.
#[derive(Debug)]
struct Learning {
    features: Vec<Feature>,
    learner: Learner,
}

#[derive(Debug, Default)]
struct Shard {
    pane: u64,
    counts: Counts,
}

impl VersionMonitor {
    /// A version that is compared with `watched`, or, without one, with its own first rows.
    pub fn new(subject: Subject, watched: Option<Watched>, limits: Limits) -> Self {
        Self {
            subject,
            limits,
            began: Instant::now(),
            pace: Pace::new(limits.rows_per_second),
            watched: ArcSwapOption::new(watched.map(Arc::new)),
            binding: ArcSwapOption::empty(),
            learning: Mutex::new(None),
            shards: Default::default(),
            panes: Mutex::default(),
            streaks: Mutex::default(),
            has_complained: AtomicBool::new(false),
        }
    }

    /// Which version it is.
    pub fn id(&self) -> &ModelId {
        &self.subject.id
    }

    /// The digest of its package.
    pub fn digest(&self) -> &str {
        &self.subject.digest
    }

    /// What it is compared with; `None` while it learns.
    pub fn watched(&self) -> Option<Arc<Watched>> {
        self.watched.load_full()
    }

    /// The share of the rows of a request that are looked at; `None` when that is none of them.
    pub fn share(&self, id: &str, at: Instant, rows: usize) -> Option<f64> {
        let second = self.second(at);
        let share = self.pace.share(second, rows as u64);
        let lot = Lot::new(id, second, share);
        (0..rows).any(|row| lot.falls_on(row)).then_some(share)
    }

    fn second(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.began).as_secs()
    }

    fn pane(&self) -> u64 {
        self.began.elapsed().as_secs() / PANE.as_secs()
    }

    /// Counts a request, a few rows at a time.
    pub async fn count(&self, seen: &Observed, share: f64) {
        let (Some(inputs), Some(outputs), None) = (&seen.inputs, &seen.outputs, seen.failure)
        else {
            return;
        };
        let rows = inputs.rows();
        let lot = Lot::new(seen.id.as_str(), self.second(seen.started), share);
        let chosen: Vec<usize> = (0..rows).filter(|row| lot.falls_on(*row)).collect();
        self.pace.took(chosen.len() as u64);
        let naming = Naming {
            graph: &self.subject.graph,
            declared: self.subject.declared.as_ref(),
            most: self.limits.features,
        };
        if self.watched.load().is_none() {
            let layout = || naming.layout(inputs.inputs(), outputs, rows).features;
            self.learn(&Views::new(inputs.inputs(), outputs), &chosen, layout);
            return;
        }
        let Some(binding) = self.binding(|watched| {
            Binding::new(watched, &naming.layout(inputs.inputs(), outputs, rows))
        }) else {
            return;
        };
        let mut is_first = true;
        for part in chosen.chunks(AT_ONCE) {
            if !is_first {
                tokio::task::yield_now().await;
            }
            let views = Views::new(inputs.inputs(), outputs);
            self.count_rows(&binding, &views, (part, 1.0 / share, is_first));
            is_first = false;
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a few rows")]
    fn count_rows(
        &self,
        binding: &Binding,
        views: &Views<'_>,
        (rows, weight, is_first): (&[usize], f64, bool),
    ) {
        let Some(watched) = self.watched.load_full() else {
            return;
        };
        let now = self.pane();
        let mut shard = self.shards[slot()].lock();
        if shard.pane != now {
            self.flush(&mut shard);
            shard.pane = now;
        }
        shard.counts.bins.resize(watched.bins, 0.0);
        binding.count(views, rows, (weight, &mut shard.counts.bins));
        shard.counts.weight.add(&Weight {
            rows: rows.len() as u64,
            sum: rows.len() as f64 * weight,
            squares: rows.len() as f64 * weight * weight,
            requests: u64::from(is_first),
        });
    }

    /// Puts what a thread counted where all can see it.
    fn flush(&self, shard: &mut Shard) {
        if shard.counts.weight.rows > 0 {
            self.panes.lock().add(shard.pane, &shard.counts);
            shard.counts.bins.fill(0.0);
            shard.counts.weight = Weight::default();
        }
    }

    fn collect(&self) {
        for shard in &self.shards {
            self.flush(&mut shard.lock());
        }
    }

    fn binding(&self, bind: impl FnOnce(&Watched) -> Binding) -> Option<Arc<Binding>> {
        if let Some(binding) = self.binding.load_full() {
            return Some(binding);
        }
        let watched = self.watched.load_full()?;
        let binding = Arc::new(bind(&watched));
        self.binding.store(Some(Arc::clone(&binding)));
        if !self.has_complained.swap(true, Ordering::Relaxed) {
            self.tell(&watched, &binding);
        }
        Some(binding)
    }

    /// Says in the log what is not watched.
    fn tell(&self, watched: &Watched, binding: &Binding) {
        let ModelId { name, version } = &self.subject.id;
        if binding.lacking.len() == watched.features.len() {
            let first = binding.lacking.first();
            tracing::warn!(model = %name, %version, feature = first, "the baseline is one of another model: requests have none of its features");
        } else if !binding.lacking.is_empty() {
            let (lacking, first) = (binding.lacking.len(), binding.lacking.first());
            tracing::warn!(model = %name, %version, lacking, first, "requests lack features that the baseline has");
        }
        if binding.unwatched > 0 {
            let unwatched = binding.unwatched;
            tracing::info!(model = %name, %version, unwatched, "columns beyond `monitor.max_features` are not watched");
        }
    }

    fn learn(&self, views: &Views<'_>, rows: &[usize], layout: impl FnOnce() -> Vec<Feature>) {
        let mut learning = self.learning.lock();
        if self.watched.load().is_some() {
            return;
        }
        let own = learning.get_or_insert_with(|| {
            let features = layout();
            Learning {
                learner: Learner::new(&features, &[], true),
                features,
            }
        });
        for row in rows {
            let cells = own.features.iter();
            let cells = cells.map(|feature| views.cell(feature.source, *row));
            own.learner.add(cells);
            if own.learner.rows() >= FIRST_ROWS {
                break;
            }
        }
        if own.learner.rows() < FIRST_ROWS {
            return;
        }
        let baseline = Baseline {
            features: own.learner.references(),
            accuracy: None,
            rows: own.learner.rows(),
            data: None,
        };
        let watched = Watched::new(baseline, Origin::Itself, self.limits.features);
        self.watched.store(Some(Arc::new(watched)));
        *learning = None;
    }

    /// What a window holds now.
    pub fn window(&self, window: Window) -> Counts {
        self.collect();
        let mut counts = self.panes.lock().window(window, self.pane());
        if let Some(watched) = self.watched.load_full() {
            counts.bins.resize(watched.bins, 0.0);
        }
        counts
    }

    /// What each bin has held since the version was loaded, and the rows that were looked at.
    pub fn totals(&self) -> (Vec<f64>, u64) {
        self.collect();
        let panes = self.panes.lock();
        let (totals, rows) = panes.totals();
        let mut totals = totals.to_vec();
        if let Some(watched) = self.watched.load_full() {
            totals.resize(watched.bins, 0.0);
        }
        (totals, rows)
    }

    /// Gives a verdict on every feature.
    pub fn evaluate(&self) {
        let Some(watched) = self.watched.load_full() else {
            return;
        };
        for (place, window) in Window::ALL.into_iter().enumerate() {
            let counts = self.window(window);
            self.streaks.lock()[place].evaluate(&watched, &counts);
        }
    }

    /// The verdicts of the last evaluations of a window.
    pub fn streaks(&self, window: Window) -> Streaks {
        self.streaks.lock()[window as usize].clone()
    }

    /// Whether nothing in it is in any window any more.
    pub fn is_past(&self) -> bool {
        self.collect();
        self.panes.lock().is_past(self.pane())
    }

    /// What it has served in the last day, as a reference for the version after it; `None` when that is little.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts of rows"
    )]
    pub fn as_baseline(&self) -> Option<Baseline> {
        let watched = self.watched.load_full()?;
        let counts = self.window(Window::Day);
        let rows = counts.weight.effective();
        if rows < FIRST_ROWS as f64 {
            return None;
        }
        // Weighted rows say less than their number.
        let scale = rows / counts.weight.sum.max(1.0);
        let features = watched.features.iter().enumerate();
        let features = features.map(|(place, feature)| {
            let counts = watched.part(place, &counts.bins);
            super::reference::Reference {
                counts: counts.iter().map(|count| count * scale).collect(),
                ..feature.clone()
            }
        });
        Some(Baseline {
            features: features.filter(|feature| feature.rows() > 0.0).collect(),
            accuracy: None,
            rows: rows as u64,
            data: None,
        })
    }
}
