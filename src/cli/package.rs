//! `onstage package`: an MLflow package out of a bare ONNX file.

mod example;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::doctor::to_json;
use super::text::{self, Page};
use super::{Console, Failure, LookArgs, progress};
use crate::config::Settings;
use crate::model::{Draft, ModelName, Package};
use crate::scoring::offline::try_request;
use crate::signing::{self, PrivateKey};

const MANIFEST: &str = "MLmodel";

#[derive(Debug, Args)]
pub(super) struct PackageArgs {
    /// The .onnx file; its external data is copied too
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Directory of the package
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Name of the model [default: the name of whichever directory holds the package]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// JSON file with a request for the model, or only its `inputs`; onstage runs it before it writes the package
    #[arg(long, value_name = "FILE")]
    input_example: Option<PathBuf>,
    /// A note for the manifest; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    metadata: Vec<String>,
    /// Sign the package with this private key (PEM): ECDSA on P-256 or P-384 makes an OpenSSF model signature,
    /// Ed25519 a plain one; it becomes `model.sig` in DIR
    #[arg(long, value_name = "KEY")]
    sign: Option<PathBuf>,
    /// Replace the package in DIR
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    look: LookArgs,
}

/// Everything that the command tells.
#[derive(Debug, Serialize)]
struct Report {
    path: String,
    model: String,
    digest: String,
    signature: bool,
    /// Whose key has signed the package.
    signed_by: Option<String>,
    example: Option<ExampleReport>,
}

#[derive(Debug, Serialize)]
struct ExampleReport {
    engine: &'static str,
    answer: serde_json::Value,
}

pub(super) fn run(
    args: &PackageArgs,
    environment: Vec<(OsString, OsString)>,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let width = text::width(&environment);
    let settings = args.look.load(environment)?.settings;
    let target = Target::new(&args.output, args.force)?;
    let source = source(&args.model)?;
    let draft = Draft {
        source: &source,
        name: args.name.as_deref().map(name).transpose()?,
        metadata: args
            .metadata
            .iter()
            .map(|text| note(text))
            .collect::<Result<_, _>>()?,
        example: args
            .input_example
            .as_deref()
            .map(example::read)
            .transpose()?,
        created: created(),
        uuid: uuid::Uuid::new_v4().simple().to_string(),
    };
    let id = match &draft.name {
        Some(name) => name.clone(),
        None => name_of(&target.path)?,
    };
    let key = args.sign.as_deref().map(PrivateKey::read).transpose();
    let key = key.map_err(anyhow::Error::from)?;
    let report = make(&draft, id, &target, (&settings, key.as_ref()))?;
    if !report.signature {
        console.note(
            "the package has no signature: MLflow has no words for the type or rank of an input",
        );
    }
    if args.look.json {
        console.print(&to_json(&report))
    } else {
        console.print(&render(&report, width))
    }
}

/// Writes beside the target, proves what was written, then moves it into place.
fn make(
    draft: &Draft<'_>,
    name: ModelName,
    target: &Target,
    (settings, key): (&Settings, Option<&PrivateKey>),
) -> Result<Report, Failure> {
    let progress = progress::spinner();
    progress.set_message("writing");
    let beside = tempfile::Builder::new()
        .prefix(".onstage-")
        .tempdir_in(&target.parent);
    let beside = beside.map_err(cannot_write(&target.parent))?;
    // Inside, because the directory itself is closed to everybody else.
    let made = beside.path().join("package");
    fs::create_dir(&made).map_err(cannot_write(&made))?;
    draft.write(&made).map_err(anyhow::Error::from)?;
    if let Some(key) = key {
        signed(&made, name.as_str(), key)?;
    }
    let package = Package::open_named(&made, Some(name)).map_err(anyhow::Error::from)?;
    let (model, digest) = (package.id.name.to_string(), package.digest.clone());
    let signature = package.manifest.signature.is_some();
    progress.set_message("trying the input example");
    let example = match draft.example {
        Some(_) => Some(answered(package, settings)?),
        None => None,
    };
    target.replace(&made, beside.path())?;
    progress.finish_and_clear();
    Ok(Report {
        path: target.path.display().to_string(),
        model,
        digest,
        signature,
        signed_by: key.map(|key| key.public().to_string()),
        example,
    })
}

/// Writes the signature of what is in `directory`.
fn signed(directory: &Path, name: &str, key: &PrivateKey) -> Result<(), Failure> {
    let text = signing::sign(directory, name, key).map_err(anyhow::Error::from)?;
    let path = directory.join(signing::SEAL);
    fs::write(&path, text.map_err(anyhow::Error::from)?).map_err(cannot_write(&path))
}

fn answered(package: Package, settings: &Settings) -> Result<ExampleReport, Failure> {
    let refused = |error: anyhow::Error| {
        // MLflow's words are several lines.
        let reason = format!("{error:#}");
        let reason: Vec<&str> = reason.split_whitespace().collect();
        let reason = reason.join(" ");
        Failure::failed(format!("the input example does not work: {reason}"))
            .hint("`onstage inspect` shows what the graph takes; leave `--input-example` out to make the package without")
    };
    let body = package.serving_input().map_err(anyhow::Error::from)?;
    let trial = try_request(package, settings, body.unwrap_or_default());
    let trial = trial.map_err(refused)?;
    Ok(ExampleReport {
        engine: trial.engine,
        answer: serde_json::from_slice(&trial.answer).unwrap_or_default(),
    })
}

fn render(report: &Report, width: usize) -> String {
    let mut page = Page::new(width);
    page.heading(&format!("made {}", report.path));
    let signature = if report.signature {
        "of the graph"
    } else {
        "none"
    };
    let example = report
        .example
        .as_ref()
        .map_or("none".to_owned(), |example| {
            format!(
                "{} answers {}",
                example.engine,
                shortened(&example.answer.to_string())
            )
        });
    page.rows(&[
        ("model", report.model.clone()),
        ("digest", report.digest.clone()),
        ("signature", signature.to_owned()),
        ("input example", example),
    ]);
    if let Some(by) = &report.signed_by {
        page.rows(&[("signed by", by)]);
    }
    page.into_text()
}

fn shortened(text: &str) -> String {
    const LIMIT: usize = 200;
    match text.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn source(path: &Path) -> Result<Package, Failure> {
    if path.is_dir() {
        let message = format!(
            "`{}` is a directory, expected an `.onnx` file",
            path.display()
        );
        return Err(Failure::failed(message));
    }
    Ok(Package::open(path).map_err(anyhow::Error::from)?)
}

fn name(text: &str) -> Result<ModelName, Failure> {
    ModelName::new(text).map_err(|error| Failure::usage(format!("{error} (from flag `--name`)")))
}

fn name_of(directory: &Path) -> Result<ModelName, Failure> {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    ModelName::new(name).map_err(|error| {
        Failure::usage(format!("{error} (from the name of the directory)"))
            .hint("give the model a name with `--name`")
    })
}

fn note(text: &str) -> Result<(String, String), Failure> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(Failure::usage(format!(
            "invalid value `{text}` for `--metadata`: expected KEY=VALUE, such as `owner=fraud-team`"
        ))),
    }
}

/// This moment as MLflow writes it.
fn created() -> String {
    jiff::Timestamp::now()
        .strftime("%Y-%m-%d %H:%M:%S.%6f")
        .to_string()
}

fn cannot_write(path: &Path) -> impl FnOnce(std::io::Error) -> Failure + '_ {
    |error| Failure::failed(format!("cannot write `{}`: {error}", path.display()))
}

/// Where the package goes.
struct Target {
    path: PathBuf,
    parent: PathBuf,
}

impl Target {
    fn new(path: &Path, force: bool) -> Result<Self, Failure> {
        let shown = path.display();
        let path = match path.canonicalize() {
            Ok(resolved) => resolved,
            Err(_) => std::path::absolute(path).map_err(cannot_write(path))?,
        };
        let Some(parent) = path.parent().map(Path::to_owned) else {
            return Err(Failure::usage(format!("`{shown}` cannot be a package")));
        };
        if path.exists() {
            let mut entries = fs::read_dir(&path).map_err(cannot_write(&path))?;
            let is_empty = entries.next().is_none();
            if !is_empty && !force {
                let failure = Failure::failed(format!("`{shown}` exists and is not empty"));
                return Err(
                    failure.hint("name another directory, or replace the package with `--force`")
                );
            }
            if !is_empty && !path.join(MANIFEST).is_file() {
                return Err(Failure::failed(format!(
                    "`{shown}` holds other things than a package; `--force` replaces packages only"
                )));
            }
        }
        fs::create_dir_all(&parent).map_err(cannot_write(&parent))?;
        Ok(Self { path, parent })
    }

    /// Moves `made` into place. What was there goes to `aside` first, and comes back when something fails.
    fn replace(&self, made: &Path, aside: &Path) -> Result<(), Failure> {
        let old = aside.join("old");
        let had_one = self.path.exists();
        if had_one {
            fs::rename(&self.path, &old).map_err(cannot_write(&self.path))?;
        }
        fs::rename(made, &self.path).map_err(|error| {
            if had_one {
                // The first error is the one to tell.
                let _ = fs::rename(&old, &self.path);
            }
            cannot_write(&self.path)(error)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let scores: Vec<f64> = (0..100).map(f64::from).collect();
        Report {
            path: "/models/fraud".to_owned(),
            model: "fraud".to_owned(),
            digest: "sha256:abc".to_owned(),
            signature: true,
            signed_by: None,
            example: Some(ExampleReport {
                engine: "tract",
                answer: serde_json::json!({ "predictions": scores }),
            }),
        }
    }

    #[test]
    fn tells_people_and_cuts_long_answers() {
        insta::assert_snapshot!(render(&report(), 80));
        let bare = Report {
            signature: false,
            example: None,
            ..report()
        };
        insta::assert_snapshot!("tells_people_of_a_bare_package", render(&bare, 80));
    }

    #[test]
    fn tells_the_time_as_mlflow_does() {
        let text = created();
        let digits = |c: char| if c.is_ascii_digit() { '0' } else { c };
        let form: String = text.chars().map(digits).collect();
        assert_eq!(form, "0000-00-00 00:00:00.000000");
    }
}
