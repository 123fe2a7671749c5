//! `onstage doctor`: what is found on this machine.

use std::ffi::OsString;

use clap::Args;
use serde::Serialize;

use super::text::{self, Page};
use super::{Console, Failure, LookArgs};
use crate::config::EngineSettings;
use crate::config::{self, LibraryPlace};
use crate::engine::EngineError;
use crate::runtime::machine::Machine;

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    look: LookArgs,
}

/// Everything that the command tells.
#[derive(Debug, Clone, Serialize)]
struct Report {
    version: &'static str,
    engines: Vec<EngineReport>,
    library_search: Vec<LibraryPlace>,
    custom_operators: Vec<LibraryPlace>,
    machine: Machine,
}

#[derive(Debug, Clone, Serialize)]
struct EngineReport {
    name: &'static str,
    version: Option<String>,
    available: bool,
    reason: Option<String>,
}

pub(super) fn run(
    args: &DoctorArgs,
    environment: Vec<(OsString, OsString)>,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let width = text::width(&environment);
    let settings = args.look.load(environment)?.settings;
    let report = Report::gather(&settings.engine);
    if args.look.json {
        console.print(&to_json(&report))
    } else {
        console.print(&report.render(width))
    }
}

/// Indented JSON with a line end.
pub(super) fn to_json(report: &impl Serialize) -> String {
    let json = serde_json::to_string_pretty(report);
    let mut json = json.expect("reports are structs, lists, text and numbers");
    json.push('\n');
    json
}

/// Why an engine is not there, without saying again that it is not.
fn reason(error: EngineError) -> String {
    match error {
        EngineError::Unavailable { reason, .. } => reason,
        error => error.to_string(),
    }
}

impl Report {
    fn gather(settings: &EngineSettings) -> Self {
        let engines = config::engines(settings).into_iter().map(|engine| {
            let checked = engine.check();
            EngineReport {
                name: engine.name(),
                version: engine.version(),
                available: checked.is_ok(),
                reason: checked.err().map(reason),
            }
        });
        Self {
            version: env!("CARGO_PKG_VERSION"),
            engines: engines.collect(),
            library_search: config::library_search(settings),
            custom_operators: config::custom_operators(settings),
            machine: Machine::detect(),
        }
    }

    fn render(&self, width: usize) -> String {
        let mut page = Page::new(width);
        page.heading(&format!("onstage {}", self.version));
        page.heading("Engines");
        let engine = |engine: &EngineReport| {
            let version = engine.version.as_deref().unwrap_or("unknown version");
            let verdict = match &engine.reason {
                None => version.to_owned(),
                Some(reason) => format!("not available: {reason}"),
            };
            (engine.name, verdict)
        };
        page.rows(&self.engines.iter().map(engine).collect::<Vec<_>>());
        page.heading("Where libonnxruntime was looked for");
        let place = |place: &LibraryPlace| {
            let found = format!("{}: {}", place.path, place.outcome);
            (place.origin.clone(), found)
        };
        page.rows(&self.library_search.iter().map(place).collect::<Vec<_>>());
        if !self.custom_operators.is_empty() {
            page.heading("Custom operators");
            let library = |place: &LibraryPlace| (place.path.clone(), place.outcome.clone());
            page.rows(
                &self
                    .custom_operators
                    .iter()
                    .map(library)
                    .collect::<Vec<_>>(),
            );
        }
        page.heading("Machine");
        page.rows(&self.machine.rows());
        page.into_text()
    }
}

impl Machine {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let features: Vec<String> = self.cpu_features.iter().map(ToString::to_string).collect();
        let cgroup = &self.cgroup;
        let quota = cgroup.cpu_quota.map(|quota| format!("{quota} CPUs"));
        let limit = cgroup.memory_limit_bytes.map(text::bytes);
        let none = || "none".to_owned();
        let unknown = || "unknown".to_owned();
        vec![
            ("platform", format!("{} {}", self.system, self.architecture)),
            ("CPU features", text::list(&features, "none known")),
            ("threads", self.threads.to_string()),
            (
                "memory",
                self.memory_bytes.map_or_else(unknown, text::bytes),
            ),
            (
                "cgroup version",
                cgroup
                    .version
                    .map_or_else(none, |version| version.to_string()),
            ),
            ("cgroup CPU quota", quota.unwrap_or_else(none)),
            ("cgroup memory limit", limit.unwrap_or_else(none)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::machine::Cgroup;

    fn report() -> Report {
        Report {
            version: "1.2.3",
            engines: vec![
                EngineReport {
                    name: "onnxruntime",
                    version: None,
                    available: false,
                    reason: Some("no library was found in 2 places".to_owned()),
                },
                EngineReport {
                    name: "tract",
                    version: Some("0.23.9".to_owned()),
                    available: true,
                    reason: None,
                },
            ],
            library_search: vec![LibraryPlace {
                path: "/opt/lib/libonnxruntime.so".to_owned(),
                origin: "ORT_DYLIB_PATH".to_owned(),
                outcome: "version 1.10, expected 1.16 or newer".to_owned(),
            }],
            custom_operators: vec![LibraryPlace {
                path: "/opt/lib/operators.so".to_owned(),
                origin: "engine.custom_operators".to_owned(),
                outcome: "sha256:2cf2 agrees".to_owned(),
            }],
            machine: Machine {
                architecture: "x86_64",
                system: "linux",
                cpu_features: vec!["avx2", "fma"],
                cgroup: Cgroup {
                    version: Some(2),
                    cpu_quota: Some(1.5),
                    memory_limit_bytes: None,
                },
                threads: 2,
                memory_bytes: Some(8 << 30),
            },
        }
    }

    #[test]
    fn an_absent_engine_is_called_absent_once() {
        let absent = EngineError::Unavailable {
            engine: "onnxruntime",
            reason: "no library was found".to_owned(),
        };
        assert_eq!(reason(absent), "no library was found");
    }

    #[test]
    fn tells_people() {
        insta::assert_snapshot!(report().render(80));
    }

    #[test]
    fn tells_programs() {
        insta::assert_snapshot!(to_json(&report()));
    }

    #[test]
    fn finds_this_machine() {
        let report = Report::gather(&crate::config::Settings::default().engine);
        assert!(report.machine.threads >= 1);
    }
}
