//! `onstage pull`: versions of any registry, copied into a registry of files.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use tempfile::TempDir;

use super::doctor::to_json;
use super::registry::WhereArgs;
use super::remote::block_on;
use super::text::{self, Page};
use super::{Console, Failure, progress};
use crate::config::registry_access;
use crate::model::{ModelId, Package, PackageError, Pointer};
use crate::registry::sources;
use crate::registry::{
    Environment, Filter, ModelUri, Pull, Selection, Source, SourceError, StoreRegistry, Target,
};

#[derive(Debug, Args)]
pub(super) struct PullArgs {
    /// models:/NAME/VERSION, models:/NAME/latest, models:/NAME/STAGE or models:/NAME@ALIAS
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// Target directory, created if missing, or the URL of an object store
    #[arg(short, long, value_name = "DIR")]
    output: String,
    /// Alias (`@champion`) or stage (`Production`) to copy for every model; repeatable
    #[arg(long, value_name = "POINTER")]
    follow: Vec<String>,
    /// Copy only models whose name and tags match, such as `fraud-*,tag.team=payments`
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: WhereArgs,
}

/// One version, as reported.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    version: u64,
    digest: String,
    pointers: Vec<String>,
    /// Whether it has been copied now; otherwise it was there already.
    copied: bool,
}

pub(super) fn run(
    args: &PullArgs,
    environment: &[(OsString, OsString)],
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let selection = selection(args)?;
    let (settings, uri) = args.at.load(environment, None)?;
    let variables = Arc::new(Environment::new(environment));
    let source = sources::source(&uri, &registry_access(&settings, &variables))?;
    let target = sources::store(&args.output, &registry_access(&settings, &variables))?;
    let copy = Copy {
        source,
        target,
        room: room(&args.output)?,
    };
    let reports = block_on(copy.all(&selection, console))?;
    if args.json {
        return console.print(&to_json(&reports));
    }
    let rows: Vec<[String; 4]> = reports.into_iter().map(row).collect();
    let mut page = Page::new(text::width(environment));
    page.table(["model", "version", "stages, aliases", ""], &rows);
    console.print(&page.into_text())
}

fn row(report: Report) -> [String; 4] {
    let outcome = if report.copied {
        "copied"
    } else {
        "was there already"
    };
    [
        report.model,
        report.version.to_string(),
        report.pointers.join(", "),
        outcome.to_owned(),
    ]
}

fn usage(error: impl std::fmt::Display) -> Failure {
    Failure::usage(error.to_string())
}

fn selection(args: &PullArgs) -> Result<Selection, Failure> {
    if args.targets.is_empty() && args.follow.is_empty() {
        return Err(Failure::usage("nothing to copy: no TARGET is given").hint(
            "name a version, such as `onstage pull models:/iris@champion -o DIR`, or a pointer of every model with \
             `--follow @champion`",
        ));
    }
    let target = |text: &String| -> Result<Target, Failure> {
        let uri: ModelUri = text.parse().map_err(usage)?;
        Ok(Target {
            serve_as: None,
            uri,
        })
    };
    let pointer = |text: &String| text.parse::<Pointer>().map_err(usage);
    Ok(Selection {
        targets: args.targets.iter().map(target).collect::<Result<_, _>>()?,
        optional: BTreeSet::new(),
        follow: args.follow.iter().map(pointer).collect::<Result<_, _>>()?,
        filter: match &args.filter {
            Some(text) => text.parse::<Filter>().map_err(usage)?,
            None => Filter::default(),
        },
    })
}

/// Where packages are on their way: on the disk that has room for them.
fn room(output: &str) -> Result<TempDir, Failure> {
    let directory = Path::new(output);
    let (made, shown) = if output.contains("://") {
        (TempDir::new(), std::env::temp_dir())
    } else {
        let made = std::fs::create_dir_all(directory);
        let mut builder = tempfile::Builder::new();
        let made = made.and_then(|()| builder.prefix(".pull-").tempdir_in(directory));
        (made, directory.to_owned())
    };
    made.map_err(|error| Failure::failed(format!("cannot write to `{}`: {error}", shown.display())))
}

fn failed(error: SourceError) -> Failure {
    Failure::failed(error.to_string())
}

/// From one registry to another.
struct Copy {
    source: Arc<dyn Source>,
    target: StoreRegistry,
    room: TempDir,
}

impl Copy {
    async fn all(
        &self,
        selection: &Selection,
        console: &mut Console<'_>,
    ) -> Result<Vec<Report>, Failure> {
        let state = self.source.snapshot(&selection.query()).await;
        let pulls = selection.pulls(&state.map_err(failed)?).map_err(failed)?;
        for (id, reason) in &pulls.unready {
            console.note(&format!(
                "{id} is left out: it is not complete in the registry: {reason}"
            ));
        }
        for (name, reason) in &pulls.broken {
            console.note(&format!(
                "{name} is left out: the registry's records of it cannot be read: {reason}"
            ));
        }
        let bar = progress::steps(pulls.versions.len());
        let mut reports = Vec::new();
        for (id, pull) in &pulls.versions {
            bar.set_message(id.to_string());
            match self.one(id, pull).await? {
                Ok(report) => reports.push(report),
                Err(reason) => bar.suspend(|| {
                    console.note(&format!("{id} is left out: {reason}"));
                }),
            }
            bar.inc(1);
        }
        Ok(reports)
    }

    /// The inner error is why a version that is only followed cannot be served by anybody.
    async fn one(
        &self,
        id: &ModelId,
        pull: &Pull,
    ) -> Result<Result<Report, PackageError>, Failure> {
        let (digest, copied) = match self.held(id, pull).await? {
            Some(digest) => (digest, false),
            None => {
                let fetched = self.fetched(pull).await?;
                let opened = fetched.and_then(|directory| {
                    let package = Package::open(&directory)?;
                    Ok((directory, package))
                });
                let (directory, package) = match opened {
                    Ok(opened) => opened,
                    Err(error) if pull.named => {
                        return Err(Failure::failed(format!("{id} is no package: {error}")));
                    }
                    Err(error) => return Ok(Err(error)),
                };
                check_digest(id, pull, &package)?;
                let origin = self.origin(pull);
                let copied = self.target.import(id, &package, &origin).await;
                let copied = copied.map_err(failed)?;
                let _ = std::fs::remove_dir_all(&directory);
                (package.digest, copied)
            }
        };
        for pointer in &pull.pointers {
            self.target.adopt(pointer, id).await.map_err(failed)?;
        }
        Ok(Ok(Report {
            model: id.name.to_string(),
            version: id.version.0,
            digest,
            pointers: pull.pointers.iter().map(ToString::to_string).collect(),
            copied,
        }))
    }

    /// The digest, when the version is there already and need not be fetched to know so.
    async fn held(&self, id: &ModelId, pull: &Pull) -> Result<Option<String>, Failure> {
        if let Some(digest) = &pull.package.digest {
            let holds = self.target.holds(id, digest).await.map_err(failed)?;
            return Ok(holds.then(|| digest.clone()));
        }
        let held = self.target.held(id).await.map_err(failed)?;
        let held = held.filter(|held| held.source == self.origin(pull));
        Ok(held.map(|held| held.digest))
    }

    /// The inner error is that it is a model of another kind, of which no more is fetched than what says so.
    async fn fetched(&self, pull: &Pull) -> Result<Result<PathBuf, PackageError>, Failure> {
        let directory = self.room.path().join("package");
        let made = std::fs::remove_dir_all(&directory);
        let made = made.or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        });
        made.and_then(|()| std::fs::create_dir(&directory))
            .map_err(|error| Failure::failed(format!("`{}`: {error}", directory.display())))?;
        match self.source.fetch(&pull.package, &directory).await {
            Ok(()) => Ok(Ok(directory)),
            Err(SourceError::Package(error)) => Ok(Err(*error)),
            Err(error) => Err(failed(error)),
        }
    }

    /// Changes when the files may have.
    fn origin(&self, pull: &Pull) -> String {
        format!("{} {}", self.source.address(), pull.package.revision)
    }
}

fn check_digest(id: &ModelId, pull: &Pull, package: &Package) -> Result<(), Failure> {
    match &pull.package.digest {
        Some(expected) if *expected != package.digest => Err(Failure::failed(format!(
            "the files of {id} have digest `{}`, expected `{expected}` as the registry says",
            package.digest
        ))),
        _ => Ok(()),
    }
}
