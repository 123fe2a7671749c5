//! `onstage verify`: a package on every engine, their answers held against each other and against what was recorded.

mod render;
mod report;
mod requests;
mod seal;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use indicatif::ProgressBar;
use serde_json::Value;

use super::doctor::to_json;
use super::inspect::open;
use super::{Console, Failure, LookArgs, progress, text};
use crate::config;
use crate::config::Settings;
use crate::engine::{Chosen, Engine, EngineChoice, EngineError};
use crate::model::{Package, Probe};
use crate::scoring::difference;
use crate::scoring::difference::Tolerances;
use crate::scoring::offline::{Offline, Refusal};
pub(super) use render::number;
use report::{Answers, Comparison, EngineReport, Outcome, Report};
use requests::{Request, Requests};
use seal::SealArgs;

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// Package directory or .onnx file
    #[arg(value_name = "PACKAGE")]
    package: PathBuf,
    /// Engine that must run the package: classic, tract or onnxruntime [default: any]
    #[arg(long, value_name = "ENGINE")]
    engine: Option<EngineChoice>,
    /// Absolute or relative tolerance for floating-point numbers [default: 1e-4 for FP32,
    /// 1e-7 for FP64, 1e-2 for FP16, 5e-2 for BF16]
    #[arg(long, value_name = "NUMBER", value_parser = tolerance)]
    tolerance: Option<f64>,
    #[command(flatten)]
    seal: SealArgs,
    #[command(flatten)]
    look: LookArgs,
}

/// A text that is no tolerance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a number from 0 on, such as `1e-4`")]
struct NoTolerance;

fn tolerance(text: &str) -> Result<f64, NoTolerance> {
    let number = text.parse::<f64>().ok();
    number
        .filter(|number| number.is_finite() && *number >= 0.0)
        .ok_or(NoTolerance)
}

pub(super) fn run(
    args: &VerifyArgs,
    environment: Vec<(OsString, OsString)>,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let width = text::width(&environment);
    let settings = args.look.load(environment)?.settings;
    let sealed = args.seal.check(&args.package)?;
    let package = open(&args.package)?;
    let seal = sealed.describe(&package)?;
    let requests = Requests::new(&package, args.package.is_file())?;
    let tolerances = Tolerances::new(&package.graph.signature, args.tolerance);
    let verifier = Verifier {
        package: &package,
        settings: &settings,
        required: args.engine.filter(|engine| *engine != EngineChoice::Auto),
    };
    let engines = config::engines(&settings.engine);
    let mut report = verifier.report(&engines, &requests, &tolerances);
    report.signature = seal;
    if args.look.json {
        console.print(&to_json(&report))?;
    } else {
        console.print(&render::render(&report, width))?;
    }
    match report.problems.as_slice() {
        [] => Ok(()),
        problems => {
            let name = &package.id.name;
            let problems = problems.join("; ");
            Err(Failure::failed(format!(
                "`{name}` did not pass: {problems}"
            )))
        }
    }
}

struct Verifier<'a> {
    package: &'a Package,
    settings: &'a Settings,
    required: Option<EngineChoice>,
}

impl Verifier<'_> {
    fn report(
        &self,
        engines: &[Arc<dyn Engine>],
        requests: &Requests,
        tolerances: &Tolerances,
    ) -> Report {
        let mut report = Report::new(self.package, requests);
        let progress = progress::spinner();
        let mut loaded = Vec::new();
        for engine in engines {
            progress.set_message(format!("compiling on {}", engine.name()));
            let outcome = match self.load(engine) {
                Ok(model) => {
                    loaded.push(model);
                    Outcome::Ran
                }
                Err(outcome) => outcome,
            };
            self.judge(engine.name(), &outcome, &mut report);
            report.engines.push(EngineReport {
                engine: engine.name(),
                version: engine.version(),
                outcome,
            });
        }
        // The one whose answers people compare with.
        loaded.sort_by_key(|model| model.engine() != EngineChoice::OnnxRuntime.as_str());
        let mut has_answer = false;
        for request in &requests.list {
            let is_made_up = request.body.is_none();
            if is_made_up && has_answer {
                break;
            }
            let answers: Vec<_> = loaded
                .iter()
                .map(|model| {
                    (
                        model.engine(),
                        answer(model, request, &progress, &mut report),
                    )
                })
                .collect();
            has_answer |= answers.iter().any(|(_, answer)| answer.is_some());
            compare(&answers, request, tolerances, &mut report);
        }
        probe(&loaded, requests, tolerances, &mut report);
        progress.finish_and_clear();
        if loaded.is_empty() {
            report.problems.push("no engine runs it".to_owned());
        } else if !has_answer {
            let problem = "no engine gave an answer to any request";
            report.problems.push(problem.to_owned());
        }
        report.finish()
    }

    fn load(&self, engine: &Arc<dyn Engine>) -> Result<Offline, Outcome> {
        match engine.check() {
            Ok(()) => {}
            Err(EngineError::Unavailable { reason, .. }) => {
                return Err(Outcome::Unavailable(reason));
            }
            // The operator asked for it.
            Err(error) => return Err(Outcome::Failed(error.to_string())),
        }
        let chosen = Chosen::new(engine, self.package)
            .map_err(|reasons| Outcome::Unsupported(reasons.join("; ")))?;
        Offline::load(self.package, chosen, self.settings).map_err(|error| {
            match error.downcast_ref::<EngineError>() {
                Some(EngineError::Unsupported { reasons, .. }) => {
                    Outcome::Unsupported(reasons.join("; "))
                }
                _ => Outcome::Failed(format!("{error:#}")),
            }
        })
    }

    fn judge(&self, engine: &'static str, outcome: &Outcome, report: &mut Report) {
        let required = self.required.is_some_and(|one| one.as_str() == engine);
        let problem = match outcome {
            Outcome::Ran => return,
            Outcome::Failed(reason) => format!("{engine} failed: {reason}"),
            Outcome::Unavailable(reason) if required => format!("{engine} is not here: {reason}"),
            Outcome::Unsupported(reason) if required => format!("{engine} cannot run it: {reason}"),
            Outcome::Unavailable(_) | Outcome::Unsupported(_) => return,
        };
        report.problems.push(problem);
    }
}

/// Asks with values that requests seldom hold: where there are several engines, they must agree on those too.
fn probe(loaded: &[Offline], requests: &Requests, tolerances: &Tolerances, report: &mut Report) {
    let [first, _, ..] = loaded else {
        return;
    };
    let made_for = first.servable();
    for probe in Probe::ALL {
        let Some(batch) = first.probe(requests.example(), probe) else {
            continue;
        };
        let request = Request {
            name: probe.name().to_owned(),
            body: None,
            expected: None,
        };
        let answers = loaded.iter().filter_map(|model| {
            let answer = model.score_inputs(&made_for, &batch)?;
            Some((model.engine(), read(model, &request, answer, report)))
        });
        let answers: Vec<_> = answers.collect();
        compare(&answers, &request, tolerances, report);
    }
}

/// The answer of one engine; what it refuses is a problem.
fn answer(
    model: &Offline,
    request: &Request,
    progress: &ProgressBar,
    report: &mut Report,
) -> Option<Value> {
    let name = &request.name;
    progress.set_message(format!("{name} on {}", model.engine()));
    let answer = match &request.body {
        Some(body) => model.score("application/json", body.clone()),
        None => match model.score_sample(name) {
            Some(answer) => answer,
            None => {
                report.note(&format!(
                    "the graph leaves a rank open, so {name} cannot be made"
                ));
                return None;
            }
        },
    };
    read(model, request, answer, report)
}

/// An answer as JSON; `None` for a refusal, which is a problem unless the request was made up.
fn read(
    model: &Offline,
    request: &Request,
    answer: Result<Vec<u8>, Refusal>,
    report: &mut Report,
) -> Option<Value> {
    let (name, engine) = (&request.name, model.engine());
    let problem = match answer {
        Ok(answer) => match difference::parse(&answer) {
            Ok(answer) => return Some(answer),
            Err(error) => format!("{engine} answers {name} with no JSON: {error}"),
        },
        // The model may have its reasons to refuse what was made up.
        Err(refusal) if request.body.is_none() => {
            let reason = one_line(&refusal.to_string());
            report.note(&format!("{engine} refuses {name}: {reason}"));
            return None;
        }
        Err(refusal) => {
            let reason = one_line(&refusal.to_string());
            format!("{engine} refuses {name}: {reason}")
        }
    };
    report.problems.push(problem);
    None
}

/// Holds the answers of the engines against each other and against what was recorded.
fn compare(
    answers: &[(&'static str, Option<Value>)],
    request: &Request,
    tolerances: &Tolerances,
    report: &mut Report,
) {
    let answered = answers
        .iter()
        .filter_map(|(engine, answer)| Some((*engine, answer.as_ref()?)));
    let mut first: Option<(&'static str, &Value)> = None;
    let mut comparisons = Vec::new();
    let mut engines = Vec::new();
    let against = |engine, with: &str, old: &Value, new: &Value| Comparison {
        engine,
        with: with.to_owned(),
        outputs: difference::compare(old, new, tolerances, false),
    };
    for (engine, answer) in answered {
        engines.push(engine);
        if let Some((name, reference)) = first {
            comparisons.push(against(engine, name, reference, answer));
        }
        first = first.or(Some((engine, answer)));
        if let Some(expected) = &request.expected {
            comparisons.push(against(engine, requests::EXPECTED, expected, answer));
        }
    }
    report.requests.push(Answers {
        request: request.name.clone(),
        engines,
        comparisons,
    });
}

/// MLflow's words are several lines.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fake::{self, Behaviour, Fake};
    use crate::tensor::DType;
    use serde_json::json;

    fn report(engines: Vec<Fake>, required: Option<EngineChoice>) -> Report {
        let package = fake::package("doubles", 1, &[("x", DType::F32)]);
        let (settings, tolerances) = (Settings::default(), tolerances(&package));
        let verifier = Verifier {
            package: &package,
            settings: &settings,
            required,
        };
        let engines: Vec<Arc<dyn Engine>> = engines
            .into_iter()
            .map(|engine| Arc::new(engine) as Arc<dyn Engine>)
            .collect();
        let requests = Requests::new(&package, false).unwrap();
        verifier.report(&engines, &requests, &tolerances)
    }

    fn tolerances(package: &Package) -> Tolerances {
        Tolerances::new(&package.graph.signature, None)
    }

    fn tract() -> Fake {
        Fake::named("tract")
    }

    fn onnxruntime() -> Fake {
        Fake::named("onnxruntime")
    }

    #[test]
    fn engines_that_agree_pass() {
        let report = report(vec![onnxruntime(), tract()], None);
        assert!(report.passed, "{report:?}");
        assert_eq!(report.requests[0].engines, ["onnxruntime", "tract"]);
        assert_eq!(report.requests[0].comparisons[0].with, "onnxruntime");
        assert!(report.notes[0].contains("zeros"), "{:?}", report.notes);
    }

    #[test]
    fn an_engine_that_cannot_is_no_problem_while_another_one_can() {
        for other in [onnxruntime().missing(), onnxruntime().refusing("too odd")] {
            let report = report(vec![other.clone(), tract()], None);
            assert!(report.passed, "{report:?}");
            let alone = self::report(vec![other], None);
            assert_eq!(alone.problems, ["no engine runs it"]);
        }
    }

    #[test]
    fn an_engine_that_is_required_has_to_run_it() {
        let required = Some(EngineChoice::OnnxRuntime);
        let missing = report(vec![onnxruntime().missing(), tract()], required);
        assert!(missing.problems[0].contains("onnxruntime is not here"));
        let refusing = report(vec![onnxruntime().refusing("too odd"), tract()], required);
        assert_eq!(refusing.problems, ["onnxruntime cannot run it: too odd"]);
    }

    #[test]
    fn a_library_that_was_named_and_does_not_load_is_a_problem() {
        let report = report(vec![onnxruntime().misconfigured(), tract()], None);
        assert!(report.problems[0].starts_with("onnxruntime failed"));
    }

    #[test]
    fn a_refusal_of_zeros_is_worth_a_note() {
        let refuses = onnxruntime().behaving(Behaviour::BadInput("not zero".to_owned()));
        let report = report(vec![refuses, tract()], None);
        assert!(report.passed, "{report:?}");
        assert!(report.notes[1].contains("not zero"), "{:?}", report.notes);
        assert_eq!(report.requests[0].engines, ["tract"]);
    }

    #[test]
    fn what_no_engine_answers_does_not_pass() {
        let refuses = || onnxruntime().behaving(Behaviour::BadInput("never".to_owned()));
        let report = report(vec![refuses(), refuses()], None);
        assert!(!report.passed);
        assert_eq!(report.problems, ["no engine gave an answer to any request"]);
        let asked: Vec<&str> = report
            .requests
            .iter()
            .map(|one| one.request.as_str())
            .collect();
        let probes = Probe::ALL.map(Probe::name);
        assert_eq!(asked, [&requests::MADE_UP[..], &probes].concat());
        assert!(
            report.notes[1].contains("refuses zeros: "),
            "{:?}",
            report.notes
        );
    }

    #[test]
    fn what_refuses_zeros_is_asked_with_ones() {
        let refuses = tract()
            .behaving(Behaviour::BadInput("zero".to_owned()))
            .only_for(0.0);
        let report = report(vec![refuses], None);
        assert!(report.passed, "{report:?}");
        let asked: Vec<&str> = report
            .requests
            .iter()
            .map(|one| one.request.as_str())
            .collect();
        assert_eq!(asked, ["zeros", "ones"]);
    }

    #[test]
    fn answers_that_differ_are_told_with_the_first_value() {
        let package = fake::package("doubles", 1, &[("x", DType::F32)]);
        let requests = Requests {
            list: vec![Request {
                name: "request.json".to_owned(),
                body: None,
                expected: Some(json!({"predictions": {"x": [1.0, 2.0]}})),
            }],
            notes: Vec::new(),
        };
        let answer = |value: f64| Some(json!({"predictions": {"x": [1.0, value]}}));
        let ran = [("onnxruntime", answer(2.0)), ("tract", answer(2.5))];
        let mut report = Report::new(&package, &requests);
        compare(&ran, &requests.list[0], &tolerances(&package), &mut report);
        let report = report.finish();
        assert!(!report.passed);
        assert_eq!(
            report.problems,
            [
                "tract differs from onnxruntime on request.json: x[1] is 2.5, was 2.0",
                "tract differs from expected.json on request.json: x[1] is 2.5, was 2.0"
            ]
        );
        insta::assert_snapshot!(render::render(&report, 100));
    }

    #[test]
    fn a_tolerance_is_a_number_from_0_on() {
        for text in ["-1", "NaN", "inf", "few"] {
            assert!(tolerance(text).is_err(), "{text}");
        }
        assert_eq!(tolerance("1e-3"), Ok(1e-3));
    }
}
