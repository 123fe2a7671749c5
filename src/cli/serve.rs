//! `onstage serve`.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::banner;
use super::flags::SettingFlags;
use super::{Console, Failure};
use crate::app::{self, ServeRequest, ServeTarget};
use crate::config::{
    self, Inputs, KeyPath, Loaded, MULTI_MODEL, MULTI_MODEL_ROOT, TelemetrySettings,
};
use crate::model::{ModelName, Pointer};
use crate::registry::notify::peers::check_peer;
use crate::registry::{Environment, Filter, ModelUri, UriError};
use crate::telemetry::{self, LogFormat, LogGuard, LogOptions, trace};

/// Most threads that work on files at a time.
const FILE_THREADS: usize = 16;

/// How long one of them waits for more to do.
const FILE_THREADS_STAY: Duration = Duration::from_secs(1);

/// How long a thread may keep the process from ending once serving is over.
const LAST_THREADS: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// What to serve: a package directory, an .onnx file, a tree of versions, a directory of packages, or a
    /// registry URI (models:/NAME/VERSION, models:/NAME/latest, models:/NAME/STAGE, models:/NAME@ALIAS)
    #[arg(value_name = "TARGET")]
    targets: Vec<PathBuf>,
    /// Name of the model; only for a single TARGET
    #[arg(long, value_name = "NAME", visible_alias = "model-name")]
    name: Option<String>,
    /// Where the model is, in place of a TARGET; with SAGEMAKER_MULTI_MODEL=true, the directory of all models
    #[arg(long, value_name = "DIR")]
    model_dir: Option<PathBuf>,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print every setting with its origin, and exit
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
    let named = Named {
        targets: args.targets,
        directory: args.model_dir,
        name: args.name,
    };
    let loaded = config::load(&Inputs {
        file: args.config,
        environment,
        flags: args.settings.0,
    })?;
    if args.check_config {
        console.print(&loaded.show())?;
    }
    check_models(&loaded)?;
    check_traces(&loaded)?;
    config::payload_log::check(&loaded)?;
    check_targets(&named.targets, named.name.as_deref())?;
    if args.check_config {
        loaded
            .notices
            .iter()
            .for_each(|notice| console.note(notice));
        return Ok(());
    }
    let wanted = Wanted::new(&named, &loaded, &variables)?;
    let _log = start_log(&loaded.settings.telemetry)?;
    if let Some(convention) = &wanted.convention {
        tracing::info!("{convention}");
    }
    for notice in &loaded.notices {
        tracing::warn!("{notice}");
    }
    let request = ServeRequest {
        settings: loaded.settings,
        targets: wanted.targets,
        name: named.name,
        multi_model: wanted.multi_model,
        environment: variables,
    };
    serve(request)
}

/// What the command line names.
struct Named {
    targets: Vec<PathBuf>,
    directory: Option<PathBuf>,
    name: Option<String>,
}

/// What is served, and by which convention when it was not named.
struct Wanted {
    targets: Vec<ServeTarget>,
    multi_model: Option<PathBuf>,
    /// What to tell about it.
    convention: Option<String>,
}

impl Wanted {
    fn new(named: &Named, loaded: &Loaded, variables: &Environment) -> Result<Self, Failure> {
        let follows = !loaded.settings.registry.follow.is_empty();
        let directory = named.directory.as_ref();
        let wanted = if variables.is_true(MULTI_MODEL) {
            if follows || !named.targets.is_empty() {
                return Err(Failure::usage(format!(
                    "`{MULTI_MODEL}=true` serves the models that requests name: a TARGET or `--follow` cannot be given as well"
                )));
            }
            let root = directory.map_or(MULTI_MODEL_ROOT.into(), Clone::clone);
            let convention = format!(
                "models below `{}` come and go by request (SageMaker, `{MULTI_MODEL}`)",
                root.display()
            );
            Self {
                targets: Vec::new(),
                multi_model: Some(root),
                convention: Some(convention),
            }
        } else if let Some(directory) = directory {
            if !named.targets.is_empty() {
                let message =
                    "`--model-dir` and TARGET both say where the model is: give one of them";
                return Err(Failure::usage(message));
            }
            Self::found(ServeTarget::parse(directory), None)
        } else if named.targets.is_empty() && !follows && !is_configured(loaded) {
            Self::provided(variables)?
        } else {
            let targets = named
                .targets
                .iter()
                .map(|target| ServeTarget::parse(target));
            Self {
                targets: targets.collect(),
                multi_model: None,
                convention: None,
            }
        };
        if named.name.is_some() && wanted.targets.is_empty() {
            let message = "`--name` renames a single TARGET, and none is given";
            return Err(Failure::usage(message));
        }
        Ok(wanted)
    }

    fn found(target: ServeTarget, convention: Option<String>) -> Self {
        Self {
            targets: vec![target],
            multi_model: None,
            convention,
        }
    }

    /// The model that a platform provides.
    fn provided(variables: &Environment) -> Result<Self, Failure> {
        let found = config::provided(Path::new("/"), |name| variables.get(name));
        let found = found.map_err(|seen| {
            Failure::usage(format!(
                "nothing to serve: no TARGET is given, nothing is followed, no `models.<name>.source` is configured, and no \
                 platform provides a model: looked at {}",
                seen.join(", ")
            ))
            .hint(
                "name a package, such as `onstage serve model-examples/iris`, or follow a registry with `--registry URI --follow @champion`",
            )
        })?;
        let variable = found
            .variable
            .map_or(String::new(), |name| format!(", `{name}`"));
        let convention = format!("serving `{}` ({}{variable})", found.target, found.platform);
        let target = ServeTarget::of_platform(&found.target);
        Ok(Self::found(target, Some(convention)))
    }
}

fn is_configured(loaded: &Loaded) -> bool {
    let mut models = loaded.settings.models.values();
    models.any(|model| model.source.is_some())
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
    let result = runtime.block_on(app::serve(request, banner::print));
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
    let origin = |key: &str| loaded.origin(&KeyPath::parse(key));
    for pointer in &registry.follow {
        pointer.parse::<Pointer>().map_err(|error| {
            Failure::usage(format!("{error} (from {})", origin("registry.follow")))
        })?;
    }
    for peer in &registry.peers {
        check_peer(peer).map_err(|error| {
            Failure::config(format!("{error} (from {})", origin("registry.peers")))
        })?;
    }
    let filter = registry.filter.as_deref().unwrap_or_default();
    filter
        .parse::<Filter>()
        .map(drop)
        .map_err(|error| Failure::usage(format!("{error} (from {})", origin("registry.filter"))))
}

fn check_traces(loaded: &Loaded) -> Result<(), Failure> {
    let Some(endpoint) = &loaded.settings.telemetry.otlp_endpoint else {
        return Ok(());
    };
    trace::check_endpoint(endpoint).map(drop).map_err(|error| {
        let origin = loaded.origin(&KeyPath::parse("telemetry.otlp_endpoint"));
        Failure::config(format!(
            "invalid value `{endpoint}` for `telemetry.otlp_endpoint` (from {origin}): {error}"
        ))
    })
}

const TARGETS: &str = "a TARGET is the path of a package or an `.onnx` file, or a model of the registry such as `models:/iris@champion`";

/// Why a target names no model.
#[derive(Debug, thiserror::Error)]
enum TargetError {
    #[error(transparent)]
    Uri(#[from] UriError),
    #[error("`{0}` is the address of a registry, not of a model: give it with `--registry`")]
    Registry(String),
}

fn check_address(target: &str) -> Result<(), TargetError> {
    if ModelUri::is_meant(target) {
        let _: ModelUri = target.parse()?;
        return Ok(());
    }
    let schemes = ["http://", "https://", "s3://", "gs://", "az://"];
    if schemes.iter().any(|scheme| target.starts_with(scheme)) {
        return Err(TargetError::Registry(target.to_owned()));
    }
    Ok(())
}

fn check_targets(targets: &[PathBuf], name: Option<&str>) -> Result<(), Failure> {
    for target in targets.iter().filter_map(|target| target.to_str()) {
        check_address(target).map_err(|error| Failure::usage(error.to_string()).hint(TARGETS))?;
    }
    let Some(name) = name else {
        return Ok(());
    };
    if targets.len() > 1 {
        let count = targets.len();
        return Err(Failure::usage(format!(
            "`--name` renames a single TARGET, and {count} are given"
        )));
    }
    ModelName::new(name)
        .map(drop)
        .map_err(|error| Failure::usage(format!("{error} (from flag `--name`)")))
}

pub(super) fn start_log(settings: &TelemetrySettings) -> Result<LogGuard, Failure> {
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
