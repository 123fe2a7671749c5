//! `onstage inspect`: what a package holds and which engines can run it.

mod cost;
mod external;
mod render;
mod report;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::doctor::to_json;
use super::{Console, Failure, LookArgs, progress, text};
use crate::config;
use crate::config::Settings;
use crate::engine::{Engine, Support};
use crate::model::{Package, discover};
use crate::scoring::measure;
use report::Report;

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// Package directory or .onnx file
    #[arg(value_name = "PACKAGE")]
    package: PathBuf,
    /// Skip compiling and timing the graph
    #[arg(long)]
    no_measure: bool,
    #[command(flatten)]
    look: LookArgs,
}

pub(super) fn run(
    args: &InspectArgs,
    environment: Vec<(OsString, OsString)>,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let width = text::width(&environment);
    let settings = args.look.load(environment)?.settings;
    let package = open(&args.package)?;
    let engines = config::engines(&settings.engine);
    let mut report = Report::new(&package, &engines);
    if !args.no_measure {
        measure(&mut report, &package, &engines, &settings);
    }
    if args.look.json {
        console.print(&to_json(&report))
    } else {
        console.print(&render::render(&report, width))
    }
}

/// Tries the graph on each engine that may run it.
fn measure(
    report: &mut Report,
    package: &Package,
    engines: &[Arc<dyn Engine>],
    settings: &Settings,
) {
    let progress = progress::spinner();
    report.costs = Some(Vec::new());
    for engine in engines {
        let name = engine.name();
        if engine.check().is_err() || matches!(engine.supports(package), Support::No(_)) {
            continue;
        }
        progress.set_message(format!("compiling on {name}"));
        let tell = |rows| progress.set_message(format!("timing {name}, {rows} rows a call"));
        let measured = measure::measure(package, engine.as_ref(), settings, tell);
        report.add(name, measured.as_ref());
    }
    progress.finish_and_clear();
}

/// The only package at `path`.
pub(super) fn open(path: &Path) -> Result<Package, Failure> {
    let found = discover(path).map_err(anyhow::Error::from)?;
    match found.as_slice() {
        [one] => Ok(Package::open(one).map_err(anyhow::Error::from)?),
        several => {
            let message = format!(
                "`{}` holds {} packages, expected one",
                path.display(),
                several.len()
            );
            let failure = Failure::failed(message);
            Err(match several.first() {
                Some(first) => {
                    failure.hint(format!("name one of them, such as `{}`", first.display()))
                }
                None => failure,
            })
        }
    }
}
