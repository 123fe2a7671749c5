//! `onstage serve`.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::flags::SettingFlags;
use super::{Console, Failure};
use crate::app::{self, ServeRequest, ServeTarget};
use crate::config::{self, Inputs, KeyPath, Loaded, TelemetrySettings};
use crate::model::ModelName;
use crate::telemetry::{self, LogFormat, LogOptions};

/// How long a thread may keep the process from ending once serving is over.
const LAST_THREADS: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// Package directory, .onnx file, tree of versions, or directory of packages; models:/NAME/VERSION and
    /// models:/NAME@ALIAS (not in this build yet)
    #[arg(value_name = "TARGET")]
    targets: Vec<PathBuf>,
    /// Serve the only TARGET under this name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print every setting with its origin, and stop
    #[arg(long)]
    check_config: bool,
    #[command(flatten)]
    settings: SettingFlags,
}

pub(super) fn run(
    args: ServeArgs,
    environment: Vec<(OsString, OsString)>,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let loaded = config::load(&Inputs {
        file: args.config,
        environment,
        flags: args.settings.0,
    })?;
    if args.check_config {
        console.print(&loaded.show())?;
    }
    loaded.require_built()?;
    check_models(&loaded)?;
    check_targets(&args.targets, args.name.as_deref())?;
    if args.check_config {
        loaded
            .notices
            .iter()
            .for_each(|notice| console.note(notice));
        return Ok(());
    }
    let sources = loaded.settings.models.values();
    if args.targets.is_empty() && sources.filter_map(|model| model.source.as_ref()).count() == 0 {
        return Err(Failure::usage(
            "nothing to serve: no TARGET is given, and no `models.<name>.source` is configured",
        )
        .hint("name a package, such as `onstage serve model-examples/iris`"));
    }
    start_log(&loaded.settings.telemetry)?;
    for notice in &loaded.notices {
        tracing::warn!("{notice}");
    }
    let request = ServeRequest {
        settings: loaded.settings,
        targets: args
            .targets
            .iter()
            .map(|target| ServeTarget::of(target))
            .collect(),
        name: args.name,
    };
    serve(request)
}

fn serve(request: ServeRequest) -> Result<(), Failure> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::failed(format!("cannot start threads: {error}")))?;
    let result = runtime.block_on(app::serve(request));
    runtime.shutdown_timeout(LAST_THREADS);
    Ok(result?)
}

fn check_models(loaded: &Loaded) -> Result<(), Failure> {
    for (name, model) in &loaded.settings.models {
        ModelName::new(name.as_str())
            .map_err(|error| Failure::config(format!("{error} (in section `models`)")))?;
        let source = model.source.as_ref().and_then(|source| source.to_str());
        if let Some(source) = source.filter(|source| is_registry_address(source)) {
            let key = ["models", name, "source"].map(str::to_owned);
            let origin = loaded.origin(&KeyPath::new(key.to_vec()));
            let message =
                format!("`{source}` (`models.{name}.source` from {origin}) {NO_REGISTRY}");
            return Err(Failure::config(message).hint(PATHS_ONLY));
        }
    }
    Ok(())
}

const NO_REGISTRY: &str = "is in a model registry or store, which this build does not read yet";
const PATHS_ONLY: &str = "give the path of a package directory or an `.onnx` file";

fn check_targets(targets: &[PathBuf], name: Option<&str>) -> Result<(), Failure> {
    let texts = targets.iter().filter_map(|target| target.to_str());
    if let Some(target) = { texts }.find(|target| is_registry_address(target)) {
        let message = format!("`{target}` {NO_REGISTRY}");
        return Err(Failure::usage(message).hint(PATHS_ONLY));
    }
    let Some(name) = name else {
        return Ok(());
    };
    if targets.len() != 1 {
        let count = targets.len();
        return Err(Failure::usage(format!(
            "`--name` renames a single TARGET, and {count} are given"
        )));
    }
    ModelName::new(name)
        .map(drop)
        .map_err(|error| Failure::usage(format!("{error} (from flag `--name`)")))
}

fn is_registry_address(text: &str) -> bool {
    let schemes = [
        "models:/", "runs:/", "http://", "https://", "s3://", "gs://", "az://",
    ];
    schemes.iter().any(|scheme| text.starts_with(scheme))
}

fn start_log(settings: &TelemetrySettings) -> Result<(), Failure> {
    let stderr = std::io::stderr();
    let format = settings.log.unwrap_or(if stderr.is_terminal() {
        LogFormat::Text
    } else {
        LogFormat::Json
    });
    let options = LogOptions {
        format,
        filter: settings.log_level.clone(),
        color: anstream::AutoStream::choice(&stderr) != anstream::ColorChoice::Never,
    };
    telemetry::init(&options).map_err(|error| Failure::failed(format!("cannot log: {error}")))
}
