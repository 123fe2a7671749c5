//! `onstage predict`: the answer of `/invocations` to one body, without a server.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;

use super::inspect::open;
use super::log::Logged;
use super::{Console, EngineArgs, Failure, progress};
use crate::config::Settings;
use crate::engine::EngineChoice;
use crate::model::Package;
use crate::scoring::offline::Offline;
use crate::scoring::replay::Replayed;

#[derive(Debug, Args)]
pub(super) struct PredictArgs {
    /// Package directory or .onnx file
    #[arg(value_name = "PACKAGE")]
    package: PathBuf,
    /// JSON, CSV or Parquet file with the body, or a file or folder of the payload log; `-` is stdin
    #[arg(short, long, value_name = "FILE")]
    input: PathBuf,
    /// Output file, replaced atomically [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Content type of the body [default: by the extension .csv or .parquet, else application/json]
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Engine: auto, classic, tract or onnxruntime [default: as `serve` chooses]
    #[arg(long, value_name = "ENGINE")]
    engine: Option<EngineChoice>,
    #[command(flatten)]
    engines: EngineArgs,
}

pub(super) fn run(
    args: &PredictArgs,
    environment: Vec<(OsString, OsString)>,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let settings = args.engines.load(environment.clone())?.settings;
    let package = open(&args.package)?;
    if let Some(logged) = Logged::find(&args.input, &settings, &environment)? {
        return replay(args, (&package, &settings), &logged, console);
    }
    let body = Body::read(&args.input, args.content_type.as_deref())?;
    let progress = progress::spinner();
    progress.set_message(format!("loading {}", package.id.name));
    let model = Offline::choose(&package, args.engine, &settings)?;
    progress.set_message(format!("running on {}", model.engine()));
    let answer = model.score(&body.content_type, body.bytes);
    progress.finish_and_clear();
    let answer = answer.map_err(|refusal| Failure::failed(refusal.to_string()))?;
    write(args, &answer, console)
}

fn write(args: &PredictArgs, answer: &[u8], console: &mut Console<'_>) -> Result<(), Failure> {
    match &args.output {
        Some(file) => replace(file, answer),
        None => console.print(&String::from_utf8_lossy(answer)),
    }
}

/// Answers every request of a log again, in the order of its files, then of their rows.
fn replay(
    args: &PredictArgs,
    (package, settings): (&Package, &Settings),
    logged: &Logged,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let progress = progress::spinner();
    progress.set_message(format!("loading {}", package.id.name));
    let model = Offline::choose(package, args.engine, settings)?;
    let mut replayed = Replayed::new(package);
    logged.each(|file| {
        progress.set_message(format!("running {} on {}", file.name, model.engine()));
        Ok(replayed.run(&model, file)?)
    })?;
    progress.finish_and_clear();
    if replayed.requests() == 0 {
        let input = args.input.display();
        return Err(Failure::failed(format!(
            "`{input}` holds no request that was answered"
        )));
    }
    let outputs = replayed.joined().ok_or_else(|| {
        Failure::failed("the answers have different shapes, which makes no single answer: replay one file at a time")
    })?;
    let answer = model.answer(outputs);
    write(
        args,
        &answer.map_err(|refusal| Failure::failed(refusal.to_string()))?,
        console,
    )
}

/// What a request carries.
#[derive(Debug, Clone)]
pub(super) struct Body {
    pub(super) content_type: String,
    pub(super) bytes: Vec<u8>,
}

impl Body {
    /// Reads a file, or stdin for `-`; its extension tells the content type where no other is given.
    pub(super) fn read(file: &Path, content_type: Option<&str>) -> Result<Self, Failure> {
        let mut bytes = Vec::new();
        let read = if file == Path::new("-") {
            std::io::stdin().lock().read_to_end(&mut bytes).map(drop)
        } else {
            std::fs::read(file).map(|read| bytes = read)
        };
        read.map_err(|error| {
            Failure::failed(format!("cannot read `{}`: {error}", file.display()))
        })?;
        let guessed = match file.extension().and_then(|extension| extension.to_str()) {
            Some("csv") => "text/csv",
            Some("parquet") => "application/vnd.apache.parquet",
            _ => "application/json",
        };
        Ok(Self {
            content_type: content_type.unwrap_or(guessed).to_owned(),
            bytes,
        })
    }
}

/// Whoever reads the file sees the old answer or the new one, never half of it.
fn replace(file: &Path, answer: &[u8]) -> Result<(), Failure> {
    let cannot =
        |reason: String| Failure::failed(format!("cannot write `{}`: {reason}", file.display()));
    let parent = file.parent().filter(|parent| *parent != Path::new(""));
    let parent = parent.unwrap_or(Path::new("."));
    std::fs::metadata(parent).map_err(|error| cannot(error.to_string()))?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".onstage-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // As any new file: the rest is up to the umask.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let written = builder.tempfile_in(parent).and_then(|mut beside| {
        beside.write_all(answer)?;
        beside.persist(file).map_err(|error| error.error)
    });
    // The kind alone: the rest names the temporary file.
    written
        .map(drop)
        .map_err(|error| cannot(error.kind().to_string()))
}
