//! Answers must be those that MLflow's scoring server gave: see `tests/conformance/mlflow/README.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::protocols::http::{RawRequest, RawResponse};
use crate::protocols::json;
use crate::support::server::{Starter, project};

#[derive(Deserialize)]
struct Case {
    id: String,
    model: String,
    method: String,
    path: String,
    #[serde(default)]
    headers: Map<String, Value>,
    body: Option<String>,
    body_base64: Option<String>,
    compare: Compare,
    /// The model's `response` setting.
    setting: Option<String>,
    response: Expected,
    #[serde(default)]
    quirk: bool,
    #[serde(default)]
    message_prefix: String,
    #[serde(default)]
    message_contains: String,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Compare {
    Predictions,
    Error,
    Status,
}

#[derive(Deserialize)]
struct Expected {
    status: u16,
    format: String,
    body: Value,
}

impl Case {
    fn request(&self) -> RawRequest<'_> {
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str().unwrap()));
        let decoded = self
            .body_base64
            .as_ref()
            .map(|body| BASE64_STANDARD.decode(body).unwrap());
        RawRequest {
            method: &self.method,
            path: &self.path,
            headers: headers.collect(),
            body: decoded.or_else(|| self.body.clone().map(String::into_bytes)),
        }
    }

    /// Why the answer is not good enough; `None` when it is.
    fn judge(&self, answer: &RawResponse) -> Option<String> {
        let excused = self.quirk && (answer.status < 500 || self.response.status >= 500);
        self.compare(answer).filter(|_| !excused)
    }

    fn compare(&self, answer: &RawResponse) -> Option<String> {
        let text = String::from_utf8_lossy(&answer.body);
        if answer.status != self.response.status {
            return Some(format!(
                "want status {}, got {}: {}",
                self.response.status,
                answer.status,
                json::cut(&text, 300)
            ));
        }
        if matches!(self.compare, Compare::Status) {
            return None;
        }
        let Ok(got) = json::parse(&text) else {
            return Some(format!("the body is no JSON: {}", json::cut(&text, 160)));
        };
        match self.compare {
            Compare::Predictions => self.compare_predictions(answer, &got),
            _ => self.compare_error(&got),
        }
    }

    fn compare_predictions(&self, answer: &RawResponse, got: &Value) -> Option<String> {
        let content_type = answer.header("content-type").unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/json") {
            return Some(format!(
                "want content type application/json, got `{content_type}`"
            ));
        }
        let want = match (&self.response.format[..], &self.response.body) {
            ("json-nan", Value::String(text)) => json::parse(text).unwrap(),
            (_, value) => value.clone(),
        };
        json::difference(&want, got, json::RECORDED)
    }

    fn compare_error(&self, got: &Value) -> Option<String> {
        let code = &self.response.body["error_code"];
        if &got["error_code"] != code {
            return Some(format!("want error_code {code}, got {}", json::short(got)));
        }
        let Some(message) = got["message"].as_str() else {
            return Some(format!("want a text as message, got {}", json::short(got)));
        };
        let wanted =
            message.starts_with(&self.message_prefix) && message.contains(&self.message_contains);
        (!wanted).then(|| {
            let (prefix, part) = (&self.message_prefix, &self.message_contains);
            format!(
                "want a message that begins `{prefix}` and contains `{part}`, got `{}`",
                json::cut(message, 400)
            )
        })
    }
}

fn data() -> PathBuf {
    project().join("tests/conformance/mlflow")
}

/// The cases of each model and `response` setting.
fn cases() -> BTreeMap<(String, Option<String>), Vec<Case>> {
    let mut groups = BTreeMap::<_, Vec<Case>>::new();
    for line in std::fs::read_to_string(data().join("cases.jsonl"))
        .unwrap()
        .lines()
    {
        let case: Case = serde_json::from_str(line).unwrap();
        let key = (case.model.clone(), case.setting.clone());
        groups.entry(key).or_default().push(case);
    }
    groups
}

#[tokio::test]
async fn answers_as_mlflow_does() {
    let mut failures = Vec::new();
    let mut passed = 0;
    for ((model, setting), cases) in cases() {
        let package = data().join("models").join(&model);
        let mut starter = Starter::serve(&[package.to_str().unwrap(), "--engine", "onnxruntime"])
            .with_onnxruntime();
        if let Some(setting) = setting {
            let key = format!("ONSTAGE_MODELS__{}__RESPONSE", model.to_uppercase());
            starter = starter.env(&key, setting);
        }
        let server = starter.start().await;
        for case in cases {
            match case.request().send(server.address()).await {
                Ok(answer) => match case.judge(&answer) {
                    Some(why) => failures.push((case.id, why)),
                    None => passed += 1,
                },
                Err(why) => failures.push((case.id, format!("no answer: {why}"))),
            }
        }
        let alive = server.get("/ping").await.status();
        assert_eq!(
            alive,
            200,
            "`{model}` after its cases; stderr:\n{}",
            server.stderr()
        );
    }
    assert!(
        failures.is_empty(),
        "{passed} passed, {} failed\n{}",
        failures.len(),
        table(&failures)
    );
}

fn table(failures: &[(String, String)]) -> String {
    let width = failures.iter().map(|(id, _)| id.len()).max().unwrap_or(0);
    failures.iter().fold(String::new(), |mut table, (id, why)| {
        writeln!(table, "  {id:width$}  {why}").expect("writing to a text cannot fail");
        table
    })
}

#[test]
fn every_recorded_package_has_cases() {
    let packages: Vec<String> = std::fs::read_dir(data().join("models"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let cases = cases();
    let with_cases: BTreeSet<&String> = cases.keys().map(|(model, _)| model).collect();
    assert_eq!(packages.iter().collect::<BTreeSet<_>>(), with_cases);
}

#[test]
fn a_quirk_excuses_another_answer_but_no_server_error() {
    let mut case = cases()
        .remove(&("house_v2".to_owned(), None))
        .unwrap()
        .into_iter()
        .find(|case| !case.quirk)
        .unwrap();
    let answer = |status| RawResponse {
        status,
        headers: Vec::new(),
        body: b"{}".to_vec(),
    };
    case.quirk = true;
    case.response.status = 200;
    assert!(case.judge(&answer(400)).is_none());
    assert!(case.judge(&answer(500)).is_some());
    case.quirk = false;
    assert!(case.judge(&answer(400)).is_some());
}
