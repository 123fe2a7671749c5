//! `onstage serve`.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::flags::SettingFlags;
use super::{Console, Failure};
use crate::app::{self, ServeRequest, ServeTarget};
use crate::config::{self, Inputs, KeyPath, Loaded, TelemetrySettings};
use crate::model::{ModelName, Pointer};
use crate::registry::{Environment, Filter, ModelUri};
use crate::telemetry::{self, LogFormat, LogOptions};

/// Most threads that work on files at a time.
const FILE_THREADS: usize = 16;

/// How long one of them waits for more to do.
const FILE_THREADS_STAY: Duration = Duration::from_secs(1);

/// How long a thread may keep the process from ending once serving is over.
const LAST_THREADS: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// Package directory, .onnx file, tree of versions, or directory of packages; models:/NAME/VERSION,
    /// models:/NAME/latest, models:/NAME/STAGE or models:/NAME@ALIAS of the registry
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
    let variables = Arc::new(Environment::new(&environment));
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
    let follows = !loaded.settings.registry.follow.is_empty();
    let configured = sources.filter_map(|model| model.source.as_ref()).count();
    if args.targets.is_empty() && configured == 0 && !follows {
        return Err(Failure::usage(
            "nothing to serve: no TARGET is given, nothing is followed, and no `models.<name>.source` is configured",
        )
        .hint(
            "name a package, such as `onstage serve model-examples/iris`, or follow a registry with `--registry URI --follow @champion`",
        ));
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
        environment: variables,
    };
    serve(request)
}

fn serve(request: ServeRequest) -> Result<(), Failure> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    // Files are read and written by threads that come and go; there need not be hundreds of them.
    let runtime = builder
        .enable_all()
        .max_blocking_threads(FILE_THREADS)
        .thread_keep_alive(FILE_THREADS_STAY)
        .build();
    let runtime =
        runtime.map_err(|error| Failure::failed(format!("cannot start threads: {error}")))?;
    let result = runtime.block_on(app::serve(request));
    runtime.shutdown_timeout(LAST_THREADS);
    Ok(result?)
}

/// What can be known to be wrong before anything is opened.
fn check_models(loaded: &Loaded) -> Result<(), Failure> {
    for (name, model) in &loaded.settings.models {
        ModelName::new(name.as_str())
            .map_err(|error| Failure::config(format!("{error} (in section `models`)")))?;
        let source = model.source.as_ref().and_then(|source| source.to_str());
        let key = || KeyPath::new(["models", name, "source"].map(str::to_owned).to_vec());
        if let Some(source) = source {
            check_address(source).map_err(|message| {
                Failure::config(format!(
                    "{message} (`models.{name}.source` from {})",
                    loaded.origin(&key())
                ))
                .hint(TARGETS)
            })?;
        }
    }
    let registry = &loaded.settings.registry;
    let origin = |key: &str| loaded.origin(&KeyPath::of(key));
    for pointer in &registry.follow {
        pointer.parse::<Pointer>().map_err(|error| {
            Failure::usage(format!("{error} (from {})", origin("registry.follow")))
        })?;
    }
    let filter = registry.filter.as_deref().unwrap_or_default();
    filter
        .parse::<Filter>()
        .map(drop)
        .map_err(|error| Failure::usage(format!("{error} (from {})", origin("registry.filter"))))
}

const TARGETS: &str = "a TARGET is the path of a package or an `.onnx` file, or a model of the registry such as `models:/iris@champion`";

fn check_address(target: &str) -> Result<(), String> {
    if ModelUri::is_meant(target) {
        let parsed = target.parse::<ModelUri>();
        return parsed.map(drop).map_err(|error| error.to_string());
    }
    let schemes = ["http://", "https://", "s3://", "gs://", "az://"];
    if schemes.iter().any(|scheme| target.starts_with(scheme)) {
        return Err(format!(
            "`{target}` is the address of a registry, not of a model: give it with `--registry`"
        ));
    }
    Ok(())
}

fn check_targets(targets: &[PathBuf], name: Option<&str>) -> Result<(), Failure> {
    for target in targets.iter().filter_map(|target| target.to_str()) {
        check_address(target).map_err(|message| Failure::usage(message).hint(TARGETS))?;
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
