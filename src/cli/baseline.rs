//! `onstage baseline`: what the data of a model looks like, in its package.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use futures_util::TryStreamExt as _;
use object_store::ObjectStoreExt as _;
use serde::Serialize;
use tempfile::TempDir;
use url::Url;

use super::doctor::to_json;
use super::inspect::open;
use super::remote::block_on;
use super::text::{self, Page};
use super::{Console, Failure, LookArgs, progress};
use crate::config::Settings;
use crate::engine::EngineChoice;
use crate::model::{Package, with_baseline};
use crate::monitor::Reference;
use crate::monitor::baseline::{Baseline, FILE};
use crate::monitor::bins::Bins;
use crate::monitor::divergence::{jensen_shannon, shares, stability_index};
use crate::network;
use crate::registry::{Environment, ObjectAccess, without_secrets};
use crate::scoring::baseline::{BaselineOptions, Made, make};
use crate::scoring::offline::Offline;
use crate::signing;

/// The manifest of a package.
const MANIFEST: &str = "MLmodel";

#[derive(Debug, Args)]
pub(super) struct BaselineArgs {
    /// Parquet or CSV file with rows that the model takes, or its URL in an object store; other columns are ignored.
    /// Prefer data that the model was not trained on: its scores on training data are over-confident
    #[arg(value_name = "DATA")]
    data: String,
    /// Package directory; the baseline becomes `baseline.json` in it
    #[arg(value_name = "PACKAGE")]
    package: PathBuf,
    /// Column with the correct answers, to estimate the accuracy of a classifier from its scores
    #[arg(long, value_name = "COLUMN")]
    label: Option<String>,
    /// The data is not what the model was trained on
    #[arg(long)]
    follow_up: bool,
    /// Text column of which no value may be kept, only lengths; repeatable
    #[arg(long, value_name = "COLUMN")]
    exclude: Vec<String>,
    /// Write the baseline to this file and leave the package as it is
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Engine: auto, classic, tract or onnxruntime [default: as `serve` chooses]
    #[arg(long, value_name = "ENGINE")]
    engine: Option<EngineChoice>,
    #[command(flatten)]
    look: LookArgs,
}

/// Everything that the command tells.
#[derive(Debug, Serialize)]
struct Report {
    file: String,
    rows: u64,
    data: Option<String>,
    features: Vec<FeatureReport>,
    /// The share of right answers, where there are labels.
    accuracy: Option<f64>,
}

/// One column or output.
#[derive(Debug, Clone, Serialize)]
pub(super) struct FeatureReport {
    pub(super) feature: String,
    pub(super) kind: &'static str,
    pub(super) bins: String,
    pub(super) missing: f64,
}

impl FeatureReport {
    pub(super) fn new(reference: &Reference) -> Self {
        let shares = reference.shares();
        let (kind, bins) = match &reference.bins {
            Bins::Numbers(edges) => ("number", range(edges.as_slice())),
            Bins::Lengths(edges) => ("free text", format!("length {}", range(edges.as_slice()))),
            Bins::Categories(categories) => {
                let first = categories.first();
                let word = if first.len() == 1 { "value" } else { "values" };
                ("text", format!("{} {word}", first.len()))
            }
        };
        Self {
            feature: reference.name.clone(),
            kind,
            bins,
            missing: shares[reference.bins.missing()],
        }
    }

    pub(super) fn row(&self) -> [String; 4] {
        [
            self.feature.clone(),
            self.kind.to_owned(),
            format!("{:.1} %", self.missing * 100.0),
            self.bins.clone(),
        ]
    }
}

/// The baseline of a package, for `inspect`.
#[derive(Debug, Clone, Serialize)]
pub(super) struct BaselineReport {
    /// The file, relative to the package.
    pub(super) file: String,
    pub(super) rows: u64,
    pub(super) features: Vec<FeatureReport>,
    /// Why the server will not use it.
    pub(super) problem: Option<String>,
}

impl BaselineReport {
    /// `None` for a package without one.
    pub(super) fn new(package: &Package) -> Option<Self> {
        let file = package.manifest.hints.baseline.as_ref()?;
        let read = Baseline::read(&package.root.join(file));
        let (rows, features) = read.as_ref().map_or((0, vec![]), |baseline| {
            let features = baseline.features.iter().map(FeatureReport::new);
            (baseline.rows, features.collect())
        });
        Some(Self {
            file: file.display().to_string(),
            rows,
            features,
            problem: read.err().map(|error| error.to_string()),
        })
    }

    pub(super) fn render(&self, page: &mut Page) {
        page.heading(&format!("Baseline ({}, {} rows)", self.file, self.rows));
        if let Some(problem) = &self.problem {
            page.rows(&[("not used", problem)]);
            return;
        }
        let rows: Vec<[String; 4]> = self.features.iter().map(FeatureReport::row).collect();
        page.table(HEADINGS, &rows);
    }
}

/// How far a feature of two baselines is apart.
#[derive(Debug, Clone, Serialize)]
pub(super) struct BaselineDifference {
    pub(super) feature: String,
    /// Of B's values in the bins of A; `None` where only one has the feature, or its kind is another one.
    pub(super) psi: Option<f64>,
    pub(super) jensen_shannon: Option<f64>,
    pub(super) remark: Option<&'static str>,
}

impl BaselineDifference {
    /// All features of two packages that both have a baseline, the one that differs most first.
    pub(super) fn all(old: &Package, new: &Package) -> Option<Vec<Self>> {
        let read = |package: &Package| {
            let file = package.manifest.hints.baseline.as_ref()?;
            Baseline::read(&package.root.join(file)).ok()
        };
        let (old, new) = (read(old)?, read(new)?);
        let only = |feature: &Reference, remark| Self {
            feature: feature.name.clone(),
            psi: None,
            jensen_shannon: None,
            remark: Some(remark),
        };
        let compared = old.features.iter().map(|was| {
            let Some(is) = new.feature(&was.name) else {
                return only(was, "only in A");
            };
            let Some(counts) = was.recounted(is) else {
                return only(was, "of another kind in B");
            };
            Self {
                feature: was.name.clone(),
                psi: Some(stability_index(&shares(&was.counts), &shares(&counts))),
                jensen_shannon: Some(jensen_shannon(&was.counts, &counts)),
                remark: None,
            }
        });
        let mut all: Vec<Self> = compared.collect();
        let is_new = |feature: &&Reference| old.feature(&feature.name).is_none();
        let added = new.features.iter().filter(is_new);
        all.extend(added.map(|feature| only(feature, "only in B")));
        let key = |difference: &Self| difference.psi.unwrap_or(f64::INFINITY);
        all.sort_by(|one, other| key(other).total_cmp(&key(one)));
        Some(all)
    }

    pub(super) fn row(&self) -> [String; 3] {
        let number =
            |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
        let psi = match self.remark {
            Some(remark) => remark.to_owned(),
            None => number(self.psi),
        };
        [self.feature.clone(), number(self.jensen_shannon), psi]
    }
}

/// The headings of [`FeatureReport::row`].
pub(super) const HEADINGS: [&str; 4] = ["feature", "kind", "missing", "values"];

fn range(edges: &[f64]) -> String {
    let number = |edge: Option<&f64>| edge.map_or(String::new(), |edge| short(*edge));
    format!("{} to {}", number(edges.first()), number(edges.last()))
}

/// Four digits tell enough.
fn short(number: f64) -> String {
    if number == 0.0 || (1e-3..1e6).contains(&number.abs()) {
        let digits = format!("{number:.4}");
        return digits
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned();
    }
    format!("{number:.3e}")
}

pub(super) fn run(
    args: &BaselineArgs,
    environment: Vec<(OsString, OsString)>,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let width = text::width(&environment);
    let variables = Arc::new(Environment::new(&environment));
    let settings = args.look.load(environment)?.settings;
    let package = open(&args.package)?;
    if args.output.is_none() {
        check(&package)?;
    }
    let progress = progress::spinner();
    progress.set_message("reading the data");
    let (data, _fetched) = local(&args.data, &settings, &variables)?;
    let model = Offline::choose(&package, args.engine, &settings)?;
    progress.set_message(format!("running on {}", model.engine()));
    let options = BaselineOptions {
        label: args.label.clone(),
        follow_up: args.follow_up,
        private: args.exclude.clone(),
        most: settings.monitor.max_features,
    };
    let made = make(&model, &data, &options).map_err(anyhow::Error::from)?;
    let file = match &args.output {
        Some(file) => {
            replace(file, &text_of(&made))?;
            file.clone()
        }
        None => write(&package, &made)?,
    };
    progress.finish_and_clear();
    let report = Report::new(&file, &made);
    if args.label.is_some() && report.accuracy.is_none() {
        console.note("the accuracy is not estimated: no output is the score of two classes");
    }
    if !args.follow_up && !args.look.json {
        console.note("if the model was trained on this data, its scores are over-confident: prefer validation data, and say so with `--follow-up`");
    }
    if args.look.json {
        console.print(&to_json(&report))
    } else {
        console.print(&report.render(width))
    }
}

/// Whether a baseline can be put into the package.
fn check(package: &Package) -> Result<(), Failure> {
    let root = package.root.display();
    if package.is_bare {
        let failure = Failure::failed(format!("`{root}` has no `MLmodel` to name a baseline"));
        return Err(failure.hint("make a package of the graph with `onstage package`, or write the baseline to a file with `--output` and name it in `models.<name>.baseline`"));
    }
    if let Some(seal) = signing::find(&package.root) {
        let failure = Failure::failed(format!(
            "the package is signed (`{}`), and a baseline would break the signature",
            seal.display()
        ));
        return Err(failure.hint("remove the signature, add the baseline, then sign again"));
    }
    Ok(())
}

/// The data as a file of this machine, and what holds it when it was fetched.
fn local(
    data: &str,
    settings: &Settings,
    environment: &Arc<Environment>,
) -> Result<(PathBuf, Option<TempDir>), Failure> {
    let url = data.parse::<Url>().ok().filter(|_| data.contains("://"));
    let Some(url) = url else {
        return Ok((PathBuf::from(data), None));
    };
    let directory = tempfile::tempdir().map_err(anyhow::Error::from)?;
    let client = network::client(&settings.network.config()).map_err(anyhow::Error::from)?;
    let access = ObjectAccess::new(client, Arc::clone(environment));
    let (store, path) = access.open(&url).map_err(anyhow::Error::from)?;
    let name = path.filename().unwrap_or("data").to_owned();
    let file = directory.path().join(name);
    let shown = without_secrets(&url);
    let failed =
        |error: String| Failure::failed(format!("cannot fetch the data from `{shown}`: {error}"));
    block_on(async {
        let found = store.get(&path).await;
        let found = found.map_err(|error| failed(error.to_string()))?;
        let mut parts = found.into_stream();
        let mut to = fs::File::create(&file).map_err(|error| failed(error.to_string()))?;
        while let Some(part) = parts
            .try_next()
            .await
            .map_err(|error| failed(error.to_string()))?
        {
            to.write_all(&part)
                .map_err(|error| failed(error.to_string()))?;
        }
        Ok::<_, Failure>(())
    })?;
    Ok((file, Some(directory)))
}

fn text_of(made: &Made) -> Vec<u8> {
    let text = serde_json::to_string_pretty(&made.content);
    let mut text = text.expect("numbers that are not finite were left out");
    text.push('\n');
    text.into_bytes()
}

/// Puts the baseline into the package: the file first, then the line that names it.
fn write(package: &Package, made: &Made) -> Result<PathBuf, Failure> {
    let manifest = package.root.join(MANIFEST);
    let text = fs::read_to_string(&manifest).map_err(cannot("read", &manifest))?;
    let text = with_baseline(&text, FILE).map_err(|error| {
        let failure = Failure::failed(format!("`{}`: {error}", manifest.display()));
        failure.hint("write `metadata.onstage.baseline: baseline.json` there yourself")
    })?;
    let file = package.root.join(FILE);
    replace(&file, &text_of(made))?;
    replace(&manifest, text.as_bytes())?;
    Package::open(&package.root).map_err(anyhow::Error::from)?;
    Ok(file)
}

fn replace(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    super::predict::replace(file, bytes)
}

fn cannot(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Failure {
    let path = path.display().to_string();
    move |error| Failure::failed(format!("cannot {what} `{path}`: {error}"))
}

impl Report {
    fn new(file: &Path, made: &Made) -> Self {
        let extra = made.content.onstage.as_ref();
        let accuracy = extra.and_then(|extra| extra.accuracy.as_ref());
        Self {
            file: file.display().to_string(),
            rows: made.baseline.rows,
            data: made.baseline.data.clone(),
            features: made
                .baseline
                .features
                .iter()
                .map(FeatureReport::new)
                .collect(),
            accuracy: accuracy.map(|accuracy| accuracy.overall),
        }
    }

    fn render(&self, width: usize) -> String {
        let mut page = Page::new(width);
        page.heading(&format!("made {}", self.file));
        let mut rows = vec![("rows", self.rows.to_string())];
        rows.extend(self.data.clone().map(|data| ("data", data)));
        rows.extend(
            self.accuracy
                .map(|share| ("accuracy", format!("{share:.4}"))),
        );
        page.rows(&rows);
        page.heading("features");
        let rows: Vec<[String; 4]> = self.features.iter().map(FeatureReport::row).collect();
        page.table(HEADINGS, &rows);
        page.into_text()
    }
}
