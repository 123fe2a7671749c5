//! `onstage inspect`: what a package holds and which engines can run it.

mod render;
mod report;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;

use super::doctor::to_json;
use super::{Console, Failure, LookArgs, text};
use crate::app;
use crate::model::{Package, discover};
use report::Report;

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// Package directory or .onnx file
    #[arg(value_name = "PACKAGE")]
    package: PathBuf,
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
    let report = Report::new(&package, &app::engines(&settings.engine));
    if args.look.json {
        console.print(&to_json(&report))
    } else {
        console.print(&render::render(&report, width))
    }
}

fn open(path: &Path) -> Result<Package, Failure> {
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
                Some(first) => failure.hint(format!(
                    "inspect one of them, such as `{}`",
                    first.display()
                )),
                None => failure,
            })
        }
    }
}
