//! How far what the models of a running server see and say is from their baselines.

use std::time::Duration;

use reqwest::Method;
use serde::{Deserialize, Serialize};

use super::one_line;
use crate::cli::Failure;
use crate::cli::remote::Remote;
use crate::cli::text::Page;

/// Features of each version that are printed; JSON has all of them.
const MOST: usize = 10;

/// One model.
#[derive(Debug, Serialize)]
pub(super) struct ModelDrift {
    model: String,
    versions: Vec<Version>,
}

/// What `GET /admin/models/{model}/drift` answers.
#[derive(Debug, Serialize, Deserialize)]
struct Drift {
    versions: Vec<Version>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Version {
    version: String,
    reference: Option<String>,
    rows: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    estimated_accuracy: Option<f64>,
    windows: Windows,
}

#[derive(Debug, Serialize, Deserialize)]
struct Windows {
    #[serde(rename = "1h")]
    hour: Window,
    #[serde(rename = "24h")]
    day: Window,
}

#[derive(Debug, Serialize, Deserialize)]
struct Window {
    features: Vec<Feature>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Feature {
    feature: String,
    psi: f64,
    jensen_shannon: f64,
    n: f64,
    m: f64,
    bound: f64,
    verdict: String,
    bins: Vec<Bin>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Bin {
    bin: String,
    reference: f64,
    current: f64,
}

impl Feature {
    /// The bin whose share has changed most.
    fn largest_change(&self) -> String {
        let change = |bin: &Bin| (bin.current - bin.reference).abs();
        let largest = self
            .bins
            .iter()
            .max_by(|one, other| change(one).total_cmp(&change(other)));
        largest.map_or(String::new(), |bin| {
            let (was, is) = (bin.reference * 100.0, bin.current * 100.0);
            format!("bin {}: {was:.1} % -> {is:.1} %", bin.bin)
        })
    }
}

/// Those that have seen something. A server of before has no such path, and one that watches nothing says so.
pub(super) async fn ask(
    admin: &Remote,
    models: &[String],
    timeout: Duration,
) -> Result<Vec<ModelDrift>, Failure> {
    let mut found = Vec::new();
    for model in models {
        let name = percent_encoding::utf8_percent_encode(model, percent_encoding::NON_ALPHANUMERIC);
        let path = format!("/admin/models/{name}/drift");
        if !admin.status(&path, timeout).await?.is_success() {
            continue;
        }
        let drift = admin.json(Method::GET, &path, timeout).await?;
        let drift: Result<Drift, _> = serde_json::from_value(drift);
        let mut versions = drift
            .map_err(|error| super::unknown_form(admin, error))?
            .versions;
        versions.retain(|version| version.rows > 0);
        if !versions.is_empty() {
            found.push(ModelDrift {
                model: model.clone(),
                versions,
            });
        }
    }
    Ok(found)
}

/// The last day of each version.
pub(super) fn render(drift: &[ModelDrift], page: &mut Page) {
    for ModelDrift { model, versions } in drift {
        for version in versions {
            let number = &version.version;
            let reference = match version.reference.as_deref() {
                Some("self") => "compared with what was served before",
                Some(_) => "compared with its baseline",
                None => "learning from its first rows",
            };
            let heading = format!("drift of {model} version {number}, 24 h, {reference}");
            page.heading(&one_line(&heading));
            if let Some(accuracy) = version.estimated_accuracy {
                page.rows(&[("estimated accuracy", format!("{accuracy:.4}"))]);
            }
            let features = version.windows.day.features.iter().take(MOST);
            let row = |feature: &Feature| {
                let cells = [
                    feature.feature.clone(),
                    format!("{:.4}", feature.psi),
                    format!("{:.4}", feature.bound),
                    format!("{:.0}", feature.n),
                    feature.verdict.clone(),
                    feature.largest_change(),
                ];
                cells.map(|cell| one_line(&cell))
            };
            let rows: Vec<[String; 6]> = features.map(row).collect();
            page.table(
                [
                    "feature",
                    "PSI",
                    "bound",
                    "rows",
                    "verdict",
                    "largest change",
                ],
                &rows,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_people_what_has_changed_most() {
        let bin = |bin: &str, reference: f64, current: f64| Bin {
            bin: bin.to_owned(),
            reference,
            current,
        };
        let feature = Feature {
            feature: "age".to_owned(),
            psi: 0.31234,
            jensen_shannon: 0.2,
            n: 1200.0,
            m: 5000.0,
            bound: 0.04,
            verdict: "drifted".to_owned(),
            bins: vec![bin("0", 0.1, 0.12), bin("above", 0.0, 0.25)],
        };
        let empty = || Window { features: vec![] };
        let version = Version {
            version: "3".to_owned(),
            reference: Some("package".to_owned()),
            rows: 1200,
            estimated_accuracy: Some(0.9112),
            windows: Windows {
                hour: empty(),
                day: Window {
                    features: vec![feature],
                },
            },
        };
        let drift = [ModelDrift {
            model: "loans".to_owned(),
            versions: vec![version],
        }];
        let mut page = Page::new(100);
        render(&drift, &mut page);
        insta::assert_snapshot!(page.into_text());
    }
}
