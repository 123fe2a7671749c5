//! Targets to servables: find the packages, load them side by side, stop at the first required one that fails.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};

use super::ServeRequest;
use crate::config::{self, ModelSettings, Settings};
use crate::engine::{EngineChoice, EngineOptions};
use crate::lifecycle::{LoadOptions, Loader};
use crate::model::{ModelId, ModelName, Package, Provider, Version, discover};
use crate::protocol::Shared;
use crate::serving::{Servable, VersionEntry, VersionState};

/// A package to load.
struct Wanted {
    package: Package,
    required: bool,
    options: LoadOptions,
}

/// Loads everything that was asked for.
///
/// # Errors
/// What is wrong with the first required package that cannot be served.
pub(super) async fn all(
    request: &ServeRequest,
    shared: &Shared,
    loader: Loader,
) -> anyhow::Result<Vec<Arc<Servable>>> {
    let request = request.clone();
    let shared = shared.clone();
    // Reading and compiling block: not on the threads that answer requests.
    let (done, loaded) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("loader".to_owned())
        .spawn(move || drop(done.send(load_all(&request, &shared, &loader))))
        .context("cannot start the loader thread")?;
    loaded.await.context("the loader stopped")?
}

fn load_all(
    request: &ServeRequest,
    shared: &Shared,
    loader: &Loader,
) -> anyhow::Result<Vec<Arc<Servable>>> {
    let wanted = wanted(request)?;
    announce(request, shared, &wanted)?;
    let workers = std::thread::available_parallelism()
        .map_or(1, std::num::NonZero::get)
        .min(wanted.len().max(1));
    let queue = parking_lot::Mutex::new(wanted.into_iter());
    let work = || -> anyhow::Result<Vec<Arc<Servable>>> {
        let mut servables = Vec::new();
        loop {
            let Some(next) = queue.lock().next() else {
                return Ok(servables);
            };
            let id = next.package.id.clone();
            match loader.load(next.package, &next.options) {
                Ok(servable) => servables.push(servable),
                Err(error) if next.required => {
                    return Err(
                        anyhow::Error::new(error).context(format!("cannot serve model {id}"))
                    );
                }
                // The others serve without it; the catalog and a metric show it too.
                Err(error) => {
                    tracing::error!(model = %id.name, version = %id.version, %error, "cannot be served");
                }
            }
        }
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect()
    });
    let mut servables = Vec::new();
    for result in results {
        match result {
            Ok(loaded) => servables.extend(loaded?),
            Err(_) => bail!("a loader thread panicked"),
        }
    }
    servables.sort_by(|a, b| a.id().cmp(b.id()));
    Ok(servables)
}

/// Makes every wanted version visible as `New`, so that readiness waits for all of them.
fn announce(request: &ServeRequest, shared: &Shared, wanted: &[Wanted]) -> anyhow::Result<()> {
    let default_model = match &request.settings.server.default_model {
        Some(name) => {
            let name = ModelName::new(name).context("invalid `server.default_model`")?;
            if !wanted.iter().any(|wanted| wanted.package.id.name == name) {
                let names: Vec<String> = wanted
                    .iter()
                    .map(|wanted| format!("`{}`", wanted.package.id.name))
                    .collect();
                bail!(
                    "the default model `{name}` is not among the models served: {}",
                    names.join(", ")
                );
            }
            Some(name)
        }
        None => None,
    };
    shared.service().catalog().update(|snapshot| {
        snapshot.known = true;
        snapshot.default_model = default_model;
        for wanted in wanted {
            let id = &wanted.package.id;
            let model = snapshot.models.entry(id.name.clone()).or_default();
            model.required |= wanted.required;
            model.versions.insert(
                id.version,
                VersionEntry {
                    state: VersionState::New,
                    servable: None,
                },
            );
        }
    });
    Ok(())
}

fn wanted(request: &ServeRequest) -> anyhow::Result<Vec<Wanted>> {
    let settings = &request.settings;
    let mut wanted: BTreeMap<(ModelName, Version), Wanted> = BTreeMap::new();
    let targets = request
        .targets
        .iter()
        .map(|target| (Path::new(target), None, true));
    let configured = settings.models.iter().filter_map(|(name, model)| {
        let source = model.source.as_deref()?;
        Some((source, Some(name.as_str()), model.required.unwrap_or(true)))
    });
    for (target, name, required) in targets.chain(configured) {
        let name = name.or(request.name.as_deref());
        for package in open_all(target, name)? {
            let options = options_for(settings, package.id.name.as_str())?;
            let ModelId { name, version } = package.id.clone();
            let root = package.root.clone();
            if let Some(other) = wanted.insert(
                (name.clone(), version),
                Wanted {
                    package,
                    required,
                    options,
                },
            ) {
                let other = other.package.root;
                bail!(
                    "`{}` and `{}` are both model `{name}` version {version}: rename one, or serve it with `--name`",
                    other.display(),
                    root.display()
                );
            }
        }
    }
    Ok(wanted.into_values().collect())
}

fn open_all(target: &Path, name: Option<&str>) -> anyhow::Result<Vec<Package>> {
    let paths: Vec<PathBuf> = discover(target)?;
    let name = name.map(ModelName::new).transpose()?;
    if name.is_some() && paths.len() > 1 {
        bail!(
            "`--name` renames a single package, but `{}` holds {}",
            target.display(),
            paths.len()
        );
    }
    paths
        .iter()
        .map(|path| Ok(Package::open_named(path, name.clone())?))
        .collect()
}

pub(super) fn options_for(settings: &Settings, name: &str) -> anyhow::Result<LoadOptions> {
    let default = ModelSettings::default();
    let model = settings.models.get(name).unwrap_or(&default);
    let providers = model.providers.as_ref().map(|names| {
        names
            .iter()
            .map(|name| Provider {
                name: name.clone(),
                options: Vec::new(),
            })
            .collect()
    });
    Ok(LoadOptions {
        engine: engine_choice(model.engine.unwrap_or(settings.engine.default)),
        engine_options: EngineOptions {
            intra_op_threads: settings.engine.intra_op_threads,
            inter_op_threads: settings.engine.inter_op_threads,
            providers,
        },
        max_queue_size: model
            .queue_size()
            .unwrap_or(settings.batching.max_queue_size),
        request_timeout: model
            .request_timeout
            .unwrap_or(settings.server.request_timeout),
        warmup: model.warmup.unwrap_or(true),
    })
}

fn engine_choice(choice: config::EngineChoice) -> EngineChoice {
    match choice {
        config::EngineChoice::Auto => EngineChoice::Auto,
        config::EngineChoice::Tract => EngineChoice::Tract,
        config::EngineChoice::Onnxruntime => EngineChoice::OnnxRuntime,
    }
}
