//! Makes the baseline of a model out of data: runs the model on it, in two passes and in bounded memory.

use std::collections::BTreeMap;
use std::path::Path;

use super::offline::Offline;
use super::table::{self, TableError};
use crate::engine::Outputs;
use crate::model::{Batch, Dim};
use crate::monitor::Reference;
use crate::monitor::baseline::{Baseline, ByScore, Content, Dataset, Extra, Learner};
use crate::monitor::bins::Bins;
use crate::monitor::features::{Cell, Feature, Layout, Naming, Views};
use crate::monitor::watched::{Binding, Origin, Watched, place};
use crate::protocol;
use crate::tensor::DType;

/// Rows of one run.
const ROWS: usize = 1024;

/// What a baseline is made of.
#[derive(Debug, Clone, Default)]
pub struct BaselineOptions {
    /// The column with what the model should answer.
    pub label: Option<String>,
    /// Whether the data is none that the model was trained on.
    pub follow_up: bool,
    /// Columns of which no value may be kept.
    pub private: Vec<String>,
    /// Most columns; wider tensors are summed up.
    pub most: usize,
}

/// Why there is no baseline.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The data.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The model takes other data, or fails on it.
    #[error("the model does not answer rows {from} to {to} of the data: {reason}")]
    Refused {
        /// The first row, from 1 on.
        from: u64,
        /// The last one.
        to: u64,
        /// Its words.
        reason: String,
    },
    /// There is nothing to learn from.
    #[error("the data has no rows")]
    Empty,
    /// There is nothing to watch.
    #[error("the model has neither columns nor outputs that can be watched")]
    Nothing,
    /// No column of this name.
    #[error("a column to keep private, `{0}`, is no input of the model")]
    Unknown(String),
    /// What was made is not what would be read.
    #[error("the baseline cannot be read again: {0}")]
    Unreadable(#[from] crate::monitor::baseline::ContentError),
}

/// A baseline, and what there is to tell of it.
#[derive(Debug)]
pub struct Made {
    /// The file.
    pub content: Content,
    /// As the server reads it.
    pub baseline: Baseline,
}

/// Rows of the data as the model takes and answers them.
struct Answered {
    batch: Batch,
    outputs: Outputs,
    labels: Option<Vec<Option<String>>>,
}

/// Makes the baseline of `model` out of the table in `data`.
///
/// # Errors
/// [`MakeError`].
pub fn make(model: &Offline, data: &Path, options: &BaselineOptions) -> Result<Made, MakeError> {
    let mut first: Option<(Layout, Learner, Option<Judge>)> = None;
    each(model, data, options, |rows| {
        let (layout, learner, _) = first.get_or_insert_with(|| {
            let layout = layout(model, rows, options.most);
            let learner = Learner::new(&layout.features, &options.private, false);
            let judge = Judge::new(&layout.features, rows);
            (layout, learner, judge)
        });
        let views = Views::new(rows.batch.inputs(), &rows.outputs);
        for row in 0..rows.batch.rows() {
            let cells = layout.features.iter();
            learner.add(cells.map(|feature| views.cell(feature.source, row)));
        }
    })?;
    let (layout, learner, judge) = first.ok_or(MakeError::Empty)?;
    check(&layout, &learner, options)?;
    let draft = Baseline {
        features: learner.references(),
        accuracy: None,
        rows: learner.rows(),
        data: None,
    };
    let watched = Watched::new(draft, Origin::Package, usize::MAX);
    let binding = Binding::new(&watched, &layout);
    let mut counts = vec![0.0; watched.bins];
    let mut accuracy = judge.map(|judge| Tally::new(judge, &watched));
    each(model, data, options, |rows| {
        let views = Views::new(rows.batch.inputs(), &rows.outputs);
        let all: Vec<usize> = (0..rows.batch.rows()).collect();
        binding.count(&views, &all, (1.0, &mut counts));
        if let (Some(accuracy), Some(labels)) = (&mut accuracy, &rows.labels) {
            accuracy.add(&views, labels);
        }
    })?;
    let extra = Extra {
        data: Some(table::digest(data)?),
        follow_up: options.follow_up,
        accuracy: accuracy.and_then(Tally::finish),
        ..Extra::default()
    };
    let content = content(&learner, (&watched, &layout), &counts, extra);
    let baseline = Baseline::from_content(&content)?;
    Ok(Made { content, baseline })
}

fn check(layout: &Layout, learner: &Learner, options: &BaselineOptions) -> Result<(), MakeError> {
    if learner.rows() == 0 {
        return Err(MakeError::Empty);
    }
    if layout.features.is_empty() {
        return Err(MakeError::Nothing);
    }
    let is_known = |name: &&String| {
        let mut features = layout.features.iter();
        features.any(|feature| feature.name == **name)
    };
    match options.private.iter().find(|name| !is_known(name)) {
        Some(unknown) => Err(MakeError::Unknown(unknown.clone())),
        None => Ok(()),
    }
}

/// Runs the model on all of the data.
fn each(
    model: &Offline,
    data: &Path,
    options: &BaselineOptions,
    mut take: impl FnMut(&Answered),
) -> Result<(), MakeError> {
    let servable = model.servable();
    let mut done = 0;
    for part in table::parts(data, rows_of_a_run(model))? {
        let part = part?;
        let label = options.label.as_deref();
        let read = protocol::labelled_batch(&servable, (part.0, part.1), label);
        let refused = |rows: u64, reason: String| MakeError::Refused {
            from: done + 1,
            to: done + rows.max(1),
            reason,
        };
        let read = read.map_err(|(_, reason)| refused(ROWS as u64, reason))?;
        let rows = read.batch.rows() as u64;
        let outputs = model.run(read.batch.clone());
        let outputs = outputs.map_err(|error| refused(rows, error.to_string()))?;
        take(&Answered {
            batch: read.batch,
            outputs,
            labels: read.labels,
        });
        done += rows;
    }
    Ok(())
}

/// A graph may take no other number of rows than one.
fn rows_of_a_run(model: &Offline) -> usize {
    let servable = model.servable();
    let shapes = servable.signature().inputs.iter();
    let fixed = shapes.filter_map(|input| match input.shape.as_ref()?.first()? {
        Dim::Fixed(rows) => Some(*rows),
        Dim::Any(_) => None,
    });
    fixed.min().unwrap_or(ROWS).clamp(1, ROWS)
}

fn layout(model: &Offline, rows: &Answered, most: usize) -> Layout {
    let servable = model.servable();
    let naming = Naming {
        graph: servable.signature(),
        declared: servable.package().manifest.signature.as_ref(),
        most,
    };
    naming.layout(rows.batch.inputs(), &rows.outputs, rows.batch.rows())
}

fn content(
    learner: &Learner,
    (watched, layout): (&Watched, &Layout),
    counts: &[f64],
    mut extra: Extra,
) -> Content {
    let mut features = Vec::new();
    let mut lengths = BTreeMap::new();
    for (place, sketch) in learner.sketches().iter().enumerate() {
        let reference = &watched.features[place];
        let counted = Reference {
            counts: watched.part(place, counts).to_vec(),
            ..reference.clone()
        };
        let (statistics, length) = sketch.statistics(&counted);
        if let Some(length) = length {
            lengths.insert(reference.name.clone(), length);
        }
        if sketch.nans() > 0 {
            extra.nan.insert(reference.name.clone(), sketch.nans());
        }
        match layout.features[place].source.is_input() {
            true => features.push(statistics),
            false => extra.outputs.push(statistics),
        }
    }
    extra.lengths = lengths;
    Content {
        version: 0.0,
        dataset: Dataset {
            item_count: learner.rows(),
        },
        features,
        onstage: Some(extra),
    }
}

/// Which of the outputs is the score of a model with two classes, and which the class.
#[derive(Debug)]
struct Judge {
    score: Feature,
    class: Option<Feature>,
}

impl Judge {
    fn new(features: &[Feature], rows: &Answered) -> Option<Self> {
        rows.labels.as_ref()?;
        let views = Views::new(rows.batch.inputs(), &rows.outputs);
        let outputs = features.iter().filter(|feature| !feature.source.is_input());
        let outputs: Vec<&Feature> = outputs.collect();
        let is_float = |feature: &&&Feature| {
            let kind = views.dtype(feature.source);
            matches!(kind, Some(DType::F32 | DType::F64))
        };
        let class = outputs
            .iter()
            .find(|feature| !is_float(feature) && feature.source.width() == Some(1));
        let score = outputs.iter().filter(is_float).find(|feature| {
            let is_second = feature.name.ends_with("[1]") && feature.source.width() == Some(2);
            is_second || feature.source.width() == Some(1)
        });
        Some(Self {
            score: Feature::clone(score?),
            class: class.map(|class| Feature::clone(class)),
        })
    }

    /// The class that the model says.
    fn says(&self, views: &Views<'_>, row: usize) -> Option<String> {
        match &self.class {
            Some(class) => match views.cell(class.source, row) {
                Cell::Text(text) => Some(text.to_owned()),
                Cell::Number(number) => Some(number.to_string()),
                Cell::Missing | Cell::Nan => None,
            },
            None => match views.cell(self.score.source, row) {
                Cell::Number(score) => Some(u8::from(score >= 0.5).to_string()),
                _ => None,
            },
        }
    }
}

/// How often the model was right.
#[derive(Debug)]
struct Tally {
    judge: Judge,
    bins: Bins,
    /// Right answers and all of them, by the bin of the score.
    by_bin: Vec<(f64, f64)>,
}

impl Tally {
    fn new(judge: Judge, watched: &Watched) -> Self {
        let reference = watched.features.iter();
        let mut reference = reference.filter(|feature| feature.name == judge.score.name);
        let bins = reference.next().map(|feature| feature.bins.clone());
        let bins = bins.expect("the score is one of the features");
        let own = match &bins {
            Bins::Numbers(edges) | Bins::Lengths(edges) => edges.len(),
            Bins::Categories(_) => 0,
        };
        Self {
            judge,
            bins,
            by_bin: vec![(0.0, 0.0); own],
        }
    }

    fn add(&mut self, views: &Views<'_>, labels: &[Option<String>]) {
        for (row, label) in labels.iter().enumerate() {
            let (Some(label), Some(said)) = (label, self.judge.says(views, row)) else {
                continue;
            };
            let score = views.cell(self.judge.score.source, row);
            if let Some((right, all)) = self.by_bin.get_mut(place(&self.bins, score)) {
                *right += f64::from(u8::from(*label == said));
                *all += 1.0;
            }
        }
    }

    fn finish(self) -> Option<ByScore> {
        let sum = |part: fn(&(f64, f64)) -> f64| self.by_bin.iter().map(part).sum::<f64>();
        let (right, all) = (sum(|bin| bin.0), sum(|bin| bin.1));
        let share = |(right, all): &(f64, f64)| (*all > 0.0).then(|| right / all);
        (all > 0.0).then(|| ByScore {
            output: self.judge.score.name.clone(),
            overall: right / all,
            by_bin: self.by_bin.iter().map(share).collect(),
        })
    }
}
