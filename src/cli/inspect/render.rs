//! The facts as text for people.

use super::external::ExternalFile;
use super::report::{
    Field, ManifestReport, Report, RowsReport, SealReport, SignatureReport, Tried, Verdict,
};
use crate::cli::text::{self, Page};

pub(super) fn render(report: &Report, width: usize) -> String {
    let mut page = Page::new(width);
    page.heading(&format!("{} version {}", report.model, report.version));
    page.rows(&package_rows(report));
    let manifest = manifest_rows(&report.manifest);
    if !manifest.is_empty() {
        page.heading("Manifest");
        page.rows(&manifest);
    }
    match &report.signature {
        Some(signature) => signature_sections(&mut page, signature),
        None => {
            page.heading("Signature");
            page.rows(&[("none", "requests are checked against the graph")]);
        }
    }
    page.heading("Graph inputs");
    page.rows(&fields(&report.graph.inputs));
    page.heading("Graph outputs");
    page.rows(&fields(&report.graph.outputs));
    if !report.external_data.is_empty() {
        page.heading("External data");
        page.rows(
            &report
                .external_data
                .iter()
                .map(external)
                .collect::<Vec<_>>(),
        );
    }
    if let Some(baseline) = &report.baseline {
        baseline.render(&mut page);
    }
    page.heading("Engines");
    page.rows(&report.engines.iter().map(verdict).collect::<Vec<_>>());
    for cost in report.costs.iter().flatten() {
        cost.render(&mut page);
    }
    page.into_text()
}

fn package_rows(report: &Report) -> Vec<(&'static str, String)> {
    let graph = &report.graph;
    let opsets = graph.opsets.iter();
    let opsets = opsets.map(|opset| format!("{} {}", opset.domain, opset.version));
    let operators = graph.operators.iter().map(|operator| {
        let domain = match operator.domain.as_str() {
            "ai.onnx" => String::new(),
            domain => format!("{domain}."),
        };
        let count = match operator.count {
            1 => String::new(),
            count => format!(" ×{count}"),
        };
        let missing = match operator.missing_in.as_slice() {
            [] => String::new(),
            engines => format!(" (not in {})", engines.join(", ")),
        };
        format!("{domain}{}{count}{missing}", operator.name)
    });
    let operators: Vec<String> = operators.collect();
    let mut rows = vec![
        ("path", report.path.clone()),
        ("model file", report.model_file.clone()),
        ("weights", text::bytes(report.weight_bytes)),
        ("digest", report.digest.clone()),
        ("opsets", opsets.collect::<Vec<_>>().join(", ")),
        ("operators", text::list(&operators, "none")),
    ];
    rows.push(("rows", shared_runs(&graph.rows)));
    if let Some(reason) = &graph.work.reason {
        let confined = format!("served in a process of its own, with bounded memory: {reason}");
        rows.push(("isolation", confined));
    }
    rows.extend(signed(report).map(|signed| ("signed", signed)));
    if !graph.producer.is_empty() {
        rows.push(("producer", graph.producer.clone()));
    }
    rows
}

/// Whether requests may share a run, and why not.
fn shared_runs(rows: &RowsReport) -> String {
    match &rows.reason {
        None => "independent: requests may share a run".to_owned(),
        Some(reason) => format!("not proven independent, so each request runs alone: {reason}"),
    }
}

fn signed(report: &Report) -> Option<String> {
    let SealReport { file, kind, by } = report.signed.as_ref()?;
    Some(match file.as_str() {
        "" => by.clone(),
        file => format!("{kind} in {file}, says to be by {by}; `onstage verify --key` checks it"),
    })
}

fn external(file: &ExternalFile) -> (&str, String) {
    let tensors = match file.tensors {
        1 => "1 tensor".to_owned(),
        count => format!("{count} tensors"),
    };
    (
        &file.file,
        format!("{}, {tensors}", text::bytes(file.bytes)),
    )
}

fn manifest_rows(manifest: &ManifestReport) -> Vec<(&'static str, String)> {
    let providers = (!manifest.providers.is_empty()).then(|| manifest.providers.join(", "));
    let metadata = &manifest.metadata;
    let metadata =
        (!metadata.is_empty()).then(|| serde_json::Value::Object(metadata.clone()).to_string());
    let rows = [
        ("MLflow version", manifest.mlflow_version.clone()),
        ("run", manifest.run_id.clone()),
        ("logged model", manifest.model_id.clone()),
        ("created", manifest.created.clone()),
        ("input example", manifest.input_example.clone()),
        ("providers", providers),
        ("metadata", metadata),
    ];
    let there = rows
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    there.collect()
}

fn signature_sections(page: &mut Page, signature: &SignatureReport) {
    for (heading, list) in [
        ("Signature inputs", &signature.inputs),
        ("Signature outputs", &signature.outputs),
    ] {
        if !list.is_empty() {
            page.heading(heading);
            page.rows(&fields(list));
        }
    }
    if !signature.params.is_empty() {
        page.heading("Signature params");
        let params = signature.params.iter();
        let row = params.map(|param| {
            let value = format!("{}, default {}", param.kind, param.default);
            (param.name.as_str(), value)
        });
        page.rows(&row.collect::<Vec<_>>());
    }
}

fn fields(list: &[Field]) -> Vec<(&str, String)> {
    let row = |field: &'_ Field| {
        let shape = field.shape.as_ref().map(|shape| format!(" {shape:?}"));
        let optional = if field.required { "" } else { ", optional" };
        format!("{}{}{optional}", field.kind, shape.unwrap_or_default())
    };
    list.iter()
        .map(|field| (field.name.as_deref().unwrap_or("(unnamed)"), row(field)))
        .collect()
}

fn verdict(verdict: &Verdict) -> (&'static str, String) {
    let version = verdict.version.as_deref().unwrap_or("");
    let word = match (verdict.supported, verdict.available, verdict.tried) {
        (false, _, _) => "cannot run it",
        (true, false, _) => "could run it, but is not here",
        (true, true, Tried::Not) => "may run it; not tried",
        (true, true, Tried::Compiled) => "loads it; no call was made that it answers",
        (true, true, Tried::Ran) => "runs it",
    };
    let reasons = match verdict.reasons.as_slice() {
        [] => String::new(),
        reasons => format!(": {}", reasons.join("; ")),
    };
    let text = format!("{version} {word}{reasons}");
    (verdict.engine, text.trim_start().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use crate::cli::inspect::cost::CostReport;
    use crate::cli::inspect::report::{GraphReport, Operator, Opset, Param, WorkReport};
    use crate::scoring::measure::{Cost, Point};

    fn field(name: Option<&str>, kind: &str, shape: Option<&[i64]>) -> Field {
        Field {
            name: name.map(str::to_owned),
            kind: kind.to_owned(),
            shape: shape.map(<[i64]>::to_vec),
            required: true,
        }
    }

    fn operator(domain: &str, name: &str, count: usize) -> Operator {
        Operator {
            domain: domain.to_owned(),
            name: name.to_owned(),
            count,
            missing_in: if name == "Scaler" {
                vec!["tract"]
            } else {
                Vec::new()
            },
        }
    }

    fn cost() -> CostReport {
        let point = |rows, micros| Point {
            rows,
            calls: 200,
            per_call: Duration::from_micros(micros),
        };
        let cost = Cost {
            compile: Duration::from_micros(3_100),
            from_example: true,
            points: vec![point(1, 40), point(2, 60), point(4, 1234)],
            stopped: Some("8 rows would take longer than the 2 s for an engine".to_owned()),
        };
        CostReport::new("third", &cost)
    }

    fn report() -> Report {
        let optional = Field {
            required: false,
            ..field(Some("sex"), "string", None)
        };
        Report {
            model: "penguins".to_owned(),
            version: 3,
            path: "/models/penguins".to_owned(),
            model_file: "model.onnx".to_owned(),
            digest: "sha256:abc".to_owned(),
            signed: None,
            weight_bytes: 1536,
            external_data: vec![ExternalFile {
                file: "weights.data".to_owned(),
                bytes: 1024,
                tensors: 2,
            }],
            manifest: ManifestReport {
                mlflow_version: Some("3.1.0".to_owned()),
                run_id: None,
                model_id: None,
                created: None,
                input_example: Some("dataframe".to_owned()),
                providers: vec!["CPUExecutionProvider".to_owned()],
                metadata: serde_json::Map::new(),
            },
            signature: Some(SignatureReport {
                inputs: vec![field(Some("bill"), "double", None), optional],
                outputs: vec![field(None, "int64", Some(&[-1]))],
                params: vec![Param {
                    name: "threshold".to_owned(),
                    kind: "double".to_owned(),
                    default: 0.5.into(),
                }],
            }),
            graph: GraphReport {
                producer: "skl2onnx 1.19".to_owned(),
                ir_version: 9,
                opsets: vec![Opset {
                    domain: "ai.onnx".to_owned(),
                    version: 17,
                }],
                operators: vec![
                    operator("ai.onnx", "Concat", 2),
                    operator("ai.onnx.ml", "Scaler", 1),
                ],
                inputs: vec![field(Some("bill"), "FP32", Some(&[-1, 1]))],
                outputs: vec![field(Some("label"), "INT64", None)],
                rows: RowsReport {
                    independent: true,
                    reason: None,
                },
                work: WorkReport {
                    bounded: false,
                    reason: Some("operator `Range` makes many".to_owned()),
                },
            },
            baseline: None,
            engines: vec![
                Verdict {
                    engine: "onnxruntime",
                    version: None,
                    available: false,
                    supported: true,
                    tried: Tried::Not,
                    reasons: vec!["no library was found".to_owned()],
                },
                Verdict {
                    engine: "tract",
                    version: Some("0.23.9".to_owned()),
                    available: true,
                    supported: false,
                    tried: Tried::Not,
                    reasons: vec!["operator `Scaler` is not implemented".to_owned()],
                },
                Verdict {
                    engine: "third",
                    version: None,
                    available: true,
                    supported: true,
                    tried: Tried::Ran,
                    reasons: Vec::new(),
                },
            ],
            costs: Some(vec![cost()]),
        }
    }

    #[test]
    fn tells_people() {
        insta::assert_snapshot!(render(&report(), 80));
    }

    #[test]
    fn tells_programs() {
        insta::assert_snapshot!(crate::cli::doctor::to_json(&report()));
    }
}
