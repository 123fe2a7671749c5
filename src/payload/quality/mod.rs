//! How good predictions were: the log joined with labels, in windows by the time of the prediction.

mod metrics;
mod predictions;
mod sample;
mod truth;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Serialize;

pub use self::metrics::Estimate;
use self::metrics::{Classified, Known, estimates};
use self::predictions::{Chances, Predicted, Said};
use self::truth::Truth;
use super::PayloadError;
use super::read::LogFiles;
use crate::registry::ObjectAccess;

/// How long a window is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Every {
    /// A time, counted from 1970.
    Time(Duration),
    /// A month of the calendar.
    Month,
}

impl FromStr for Every {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "month" {
            return Ok(Self::Month);
        }
        let time = humantime::parse_duration(text).ok();
        let time = time.filter(|time| *time >= Duration::from_secs(1));
        time.map(Self::Time)
            .ok_or_else(|| "expected a time such as `1d` or `12h`, or `month`".to_owned())
    }
}

/// How good predictions were.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Quality {
    /// The model.
    pub model: String,
    /// In the order of time; a window without predictions is left out.
    pub windows: Vec<Window>,
    /// What became of the labels.
    pub labels: Labels,
}

/// One window.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Window {
    /// Its begin, RFC 3339.
    pub from: String,
    /// Its end.
    pub to: String,
    /// Rows of the log.
    pub rows: usize,
    /// Those of which the truth is known.
    pub labelled: usize,
    /// Their share.
    pub coverage: f64,
    /// Under MLflow's names.
    pub metrics: BTreeMap<&'static str, Estimate>,
}

/// What became of the labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Labels {
    /// All of them.
    pub total: usize,
    /// Those that a later one of the same row has replaced.
    pub duplicates: usize,
    /// Those of rows that are not in the log.
    pub unknown: usize,
    /// Those with a prediction that the client says it got, which is not believed.
    pub client: usize,
}

/// What is compared.
#[derive(Debug, Clone, Copy)]
pub struct QualityRequest<'r> {
    /// The log.
    pub log: &'r str,
    /// The labels: a folder, a Parquet file, or lines of JSON.
    pub labels: &'r str,
    /// The length of windows.
    pub every: Every,
    /// The model, where the log has several.
    pub model: Option<&'r str>,
}

/// Joins a log with labels and measures each window.
///
/// # Errors
/// When one of them cannot be read, the log has several models and none is named, or a label is no value of the prediction's
/// type.
pub async fn quality(
    request: QualityRequest<'_>,
    access: &ObjectAccess,
) -> Result<Quality, PayloadError> {
    let mut predicted = Vec::new();
    let files = LogFiles::open(request.log, access).await?;
    for path in files.paths() {
        predictions::read(&files.read(path).await?, &mut predicted)?;
    }
    let model = sole_model(&predicted, request.model)?;
    predicted.retain(|one| one.model == model);
    let truth = truth(request.labels, access).await?;
    let mut windows: BTreeMap<i64, Vec<&Predicted>> = BTreeMap::new();
    for one in &predicted {
        windows
            .entry(begin(one.time, request.every))
            .or_default()
            .push(one);
    }
    let mut joined = 0;
    let mut measured = Vec::new();
    for (begin, rows) in windows {
        let window = measure(begin, request.every, &rows, &truth)?;
        joined += window.labelled;
        measured.push(window);
    }
    Ok(Quality {
        model,
        windows: measured,
        labels: Labels {
            total: truth.total,
            duplicates: truth.duplicates,
            unknown: (truth.total - truth.duplicates).saturating_sub(joined),
            client: truth.client,
        },
    })
}

fn sole_model(predicted: &[Predicted], wanted: Option<&str>) -> Result<String, PayloadError> {
    let names: BTreeSet<&str> = predicted.iter().map(|one| one.model.as_str()).collect();
    let listed = || {
        names
            .iter()
            .map(|name| format!("`{name}`"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    match (wanted, names.len()) {
        (Some(name), _) if names.contains(name) => Ok(name.to_owned()),
        (Some(name), _) => Err(PayloadError::Unfit(format!(
            "the log has no predictions of `{name}`, only of {}",
            listed()
        ))),
        (None, 0) => Err(PayloadError::Unfit(
            "the log holds no predictions".to_owned(),
        )),
        (None, 1) => Ok(names.first().copied().unwrap_or_default().to_owned()),
        (None, _) => Err(PayloadError::Unfit(format!(
            "the log has predictions of {}: name one with `--model`",
            listed()
        ))),
    }
}

async fn truth(place: &str, access: &ObjectAccess) -> Result<Truth, PayloadError> {
    let mut truth = Truth::default();
    let path = Path::new(place);
    if path.is_file()
        && path
            .extension()
            .is_none_or(|extension| extension != "parquet")
    {
        let text = std::fs::read_to_string(path).map_err(PayloadError::io(path))?;
        truth.add_lines(place, &text)?;
        return Ok(truth);
    }
    let files = LogFiles::all(place, access).await?;
    // Of a whole log, labels included, only these are labels.
    let is_label = |path: &&String| path.starts_with("labels/");
    let has_folder = files.paths().iter().any(|path| is_label(&path));
    for path in files
        .paths()
        .iter()
        .filter(|path| !has_folder || is_label(path))
    {
        truth.add_file(&files.read(path).await?)?;
    }
    Ok(truth)
}

/// When the window of a time begins, in microseconds since 1970.
fn begin(time: i64, every: Every) -> i64 {
    match every {
        Every::Time(length) => {
            let length = i64::try_from(length.as_micros()).unwrap_or(i64::MAX);
            time.div_euclid(length) * length
        }
        Every::Month => {
            let date = Timestamp::from_microsecond(time)
                .unwrap_or(Timestamp::MIN)
                .to_zoned_datetime(TimeZone::UTC)
                .date();
            of_date(date.first_of_month())
        }
    }
}

fn end(begin: i64, every: Every) -> i64 {
    match every {
        Every::Time(length) => {
            begin.saturating_add(i64::try_from(length.as_micros()).unwrap_or(i64::MAX))
        }
        Every::Month => {
            let date = Timestamp::from_microsecond(begin)
                .unwrap_or(Timestamp::MIN)
                .to_zoned_datetime(TimeZone::UTC)
                .date();
            let next = date.last_of_month().tomorrow();
            next.map_or(i64::MAX, of_date)
        }
    }
}

fn of_date(date: Date) -> i64 {
    let zoned = date.to_zoned_datetime(TimeZone::UTC);
    zoned.map_or(0, |zoned| zoned.timestamp().as_microsecond())
}

fn shown(time: i64) -> String {
    Timestamp::from_microsecond(time).map_or_else(|_| time.to_string(), |time| time.to_string())
}

fn measure(
    begin: i64,
    every: Every,
    rows: &[&Predicted],
    truth: &Truth,
) -> Result<Window, PayloadError> {
    let pairs = rows
        .iter()
        .filter_map(|one| Some((*one, truth.find(&one.model, &one.request, one.row)?)));
    let pairs: Vec<(&Predicted, &str)> = pairs.collect();
    let known = known(&pairs)?;
    let weights: Vec<f64> = pairs.iter().map(|(one, _)| one.weight).collect();
    let requests: Vec<&str> = pairs.iter().map(|(one, _)| one.request.as_str()).collect();
    let metrics = if pairs.is_empty() {
        Vec::new()
    } else {
        estimates(&known, &weights, &requests)
    };
    Ok(Window {
        from: shown(begin),
        to: shown(end(begin, every)),
        rows: rows.len(),
        labelled: pairs.len(),
        coverage: pairs.len() as f64 / rows.len().max(1) as f64,
        metrics: metrics.into_iter().collect(),
    })
}

/// Predictions and labels, side by side, in the type of the prediction.
fn known(pairs: &[(&Predicted, &str)]) -> Result<Known, PayloadError> {
    let is_number = |(one, _): &(&Predicted, &str)| matches!(one.said, Said::Number(_));
    let score = |one: &Predicted| match one.said {
        Said::Number(number) => Some(number),
        Said::Class(..) => None,
    };
    if pairs.iter().any(is_number) {
        let numbers = pairs.iter().map(|(one, label)| {
            let number = boolean(label).or_else(|| label.parse::<f64>().ok());
            let number = number.ok_or_else(|| unfit(one, label, "a number"))?;
            Ok((score(one).unwrap_or(f64::NAN), number))
        });
        let numbers = numbers.collect::<Result<Vec<(f64, f64)>, PayloadError>>()?;
        let is_score = |(score, label): &(f64, f64)| {
            (0.0..=1.0).contains(score) && (*label == 0.0 || *label == 1.0)
        };
        // Numbers from 0 to 1 whose truth is 0 or 1 are probabilities.
        return Ok(if numbers.iter().all(is_score) {
            Known::Classes(numbers.iter().map(of_score).collect())
        } else {
            Known::Numbers(numbers)
        });
    }
    let is_binary = is_binary(pairs);
    let rows = pairs.iter().map(|(one, label)| {
        let Said::Class(class, chances) = &one.said else {
            return Err(unfit(one, label, "a class"));
        };
        classified((one, label), (class, chances.as_ref()), is_binary)
    });
    Ok(Known::Classes(rows.collect::<Result<_, _>>()?))
}

/// Whether all classes are 0 and 1, or there are two of them by name.
fn is_binary(pairs: &[(&Predicted, &str)]) -> bool {
    pairs.iter().all(|(one, label)| match &one.said {
        Said::Class(_, Some(chances)) => chances.values.len() == 2,
        Said::Class(class, None) => [class.as_str(), canonical(class, label).as_str()]
            .iter()
            .all(|class| matches!(*class, "0" | "1" | "true" | "false")),
        Said::Number(_) => false,
    })
}

fn of_score((score, label): &(f64, f64)) -> Classified {
    let (predicted, actual) = (*score >= 0.5, *label == 1.0);
    let least = f64::from(f32::EPSILON);
    let chance = if actual { *score } else { 1.0 - score };
    Classified {
        is_right: predicted == actual,
        binary: Some((predicted, actual)),
        score: Some(*score),
        likelihood: Some(chance.clamp(least, 1.0 - least)),
    }
}

fn classified(
    (one, label): (&Predicted, &str),
    (class, chances): (&str, Option<&Chances>),
    is_binary: bool,
) -> Result<Classified, PayloadError> {
    let actual = canonical(class, label);
    let is_whole = class.parse::<i64>().is_ok() || boolean(class).is_some();
    if is_whole && actual.parse::<i64>().is_err() && boolean(&actual).is_none() {
        return Err(unfit(
            one,
            label,
            "a class such as the predictions have: a whole number",
        ));
    }
    let place = chances.and_then(|chances| chances.place(&actual));
    if let (Some(chances), None) = (chances, place)
        && (is_whole || !chances.names.is_empty())
    {
        return Err(unfit(
            one,
            label,
            &format!("one of {} classes", chances.values.len()),
        ));
    }
    let second = |class: &str| match chances.and_then(|chances| chances.place(class)) {
        Some(place) => place == 1,
        None => matches!(class, "1" | "true"),
    };
    let likelihood = chances
        .zip(place)
        .map(|(chances, place)| chances.values[place].clamp(chances.least, 1.0 - chances.least));
    Ok(Classified {
        is_right: class == actual,
        binary: is_binary.then(|| (second(class), second(&actual))),
        score: chances
            .filter(|_| is_binary)
            .map(|chances| chances.values[1]),
        likelihood,
    })
}

/// A label in the spelling of the class beside it: `1.0` and `true` are 1 where classes are whole numbers.
fn canonical(class: &str, label: &str) -> String {
    let label = label.trim();
    if boolean(class).is_some() {
        return match label {
            "1" | "1.0" | "True" => "true".to_owned(),
            "0" | "0.0" | "False" => "false".to_owned(),
            label => label.to_owned(),
        };
    }
    if class.parse::<i64>().is_ok() && label.parse::<i64>().is_err() {
        let number = boolean(label).or_else(|| label.parse().ok());
        if let Some(number) =
            number.filter(|number: &f64| number.fract() == 0.0 && number.abs() < 1e15)
        {
            return (number as i64).to_string();
        }
    }
    label.to_owned()
}

fn boolean(text: &str) -> Option<f64> {
    match text {
        "true" | "True" => Some(1.0),
        "false" | "False" => Some(0.0),
        _ => None,
    }
}

fn unfit(one: &Predicted, label: &str, expected: &str) -> PayloadError {
    let shown: String = label.chars().take(80).collect();
    PayloadError::Unfit(format!(
        "label `{shown}` of request `{}`, row {}, does not fit the predictions: expected {expected}",
        one.request, one.row
    ))
}
