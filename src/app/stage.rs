//! Starts the manager, and the watcher of the registry, and waits until the server can begin.

use std::sync::Arc;

use anyhow::{Context, bail};
use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::plan::{self, Plan};
use super::{ServeRequest, registry};
use crate::config::{Settings, memory, model_options};
use crate::lifecycle::{
    Compiler, HostedModels, Mailbox, Manager, ManagerHandle, ManagerParts, OptionsOf,
    PackageLoader, Requirements, Supply,
};
use crate::protocol::Shared;
use crate::registry::{DesiredState, FirstLook, PastRuns, Selection, Watcher, WatcherParts};
use crate::runtime::threads;
use crate::serving::{Catalog, Demand as _, ModelHost, Running, Servable};
use crate::telemetry::Metrics;

/// What the start of the models needs from the start of the servers.
pub(super) struct Beginning {
    /// The manager's own end of its handles.
    pub(super) mailbox: Mailbox,
    pub(super) manager: ManagerHandle,
    /// Told when the registry may have changed.
    pub(super) hint: Arc<Notify>,
    pub(super) stop: CancellationToken,
}

/// What runs beside the servers.
pub(super) struct Stage {
    manager: ManagerHandle,
    /// What requests can use from now on.
    pub(super) running: Running,
    /// What the first look at the registry found.
    first_look: Option<oneshot::Receiver<FirstLook>>,
    /// Whether versions of the registry were named, which the server cannot do without.
    names_targets: bool,
    requirements: Requirements,
}

impl Stage {
    /// Opens the packages, and begins to load and to look.
    ///
    /// # Errors
    /// What is wrong with the first package or with the registry's address.
    pub(super) async fn begin(
        request: &ServeRequest,
        shared: &Shared,
        compiler: Compiler,
        beginning: Beginning,
    ) -> anyhow::Result<Self> {
        let Beginning {
            mailbox,
            manager: handle,
            hint,
            stop,
        } = beginning;
        let settings = &request.settings;
        let plan = open(request.clone()).await?;
        let catalog = shared.service().shared_catalog();
        describe(&catalog, request)?;
        let local = plan.local();
        let (desired, desires) = watch::channel(local.clone());
        let requirements = plan.requirements();
        let names_targets = plan.selection.has_required();
        let opened = plan.packages.into_iter();
        let opened = opened.map(|found| (found.id, found.opened)).collect();
        let followed = registry::Followed::open(
            settings,
            &request.environment,
            &plan.selection,
            shared.service().shared_metrics(),
        )?;
        let supply = followed.as_ref().map(registry::Followed::supply);
        let past = followed.as_ref().and_then(registry::Followed::past_runs);
        // One of two may change what is wanted; without either it stays as it is.
        let (desired, hosted) = match &request.multi_model {
            Some(_) => (None, Some(desired)),
            None => (Some(desired), None),
        };
        let metrics = shared.service().shared_metrics();
        let first_look = followed.zip(desired).map(|(followed, desired)| {
            let watched = Watched {
                watcher: watcher(followed, plan.selection.clone(), metrics, hint),
                selection: plan.selection.clone(),
                local,
                desired,
            };
            watched.start(stop.clone())
        });
        let supply = supply.map(|supply| Arc::new(supply) as Arc<dyn Supply>);
        let loader = PackageLoader::new(compiler, supply.clone(), past.clone(), opened);
        let options = model_options(settings, plan.required)?;
        let parts = parts(settings, shared, loader, past, options);
        let handle = handle.with_supply(supply);
        let hosted = request.multi_model.clone().zip(hosted);
        let host = hosted.map(|(root, desired)| -> Arc<dyn ModelHost> {
            Arc::new(HostedModels::new(root, desired, catalog, handle.progress()))
        });
        tokio::spawn(Manager::new(parts, mailbox, desires, stop).run());
        Ok(Self {
            running: Running {
                admin: Some(Arc::new(handle.clone())),
                host,
            },
            manager: handle,
            first_look,
            names_targets,
            requirements,
        })
    }

    /// Waits until every model that was wanted at the start serves or has failed for good.
    ///
    /// # Errors
    /// Why a required model cannot be served.
    pub(super) async fn ready(&mut self, shared: &Shared) -> anyhow::Result<Vec<Arc<Servable>>> {
        if let Some(first_look) = self.first_look.take() {
            match first_look
                .await
                .context("the watcher of the registry stopped")?
            {
                FirstLook::Read { missing } if missing.is_empty() => {}
                FirstLook::Read { missing } => {
                    let missing: Vec<String> =
                        missing.iter().map(|uri| format!("`{uri}`")).collect();
                    bail!("the registry does not have {}", missing.join(", "));
                }
                // A target that was named cannot be served.
                FirstLook::Failed(error) if self.names_targets => return Err(error.into()),
                // What is only followed may come later; until then the server is not ready.
                FirstLook::Failed(_) => {}
            }
        }
        let mut progress = self.manager.progress();
        loop {
            progress.mark_unchanged();
            let snapshot = shared.service().catalog().snapshot();
            if let Some(servables) = self.requirements.settled(&snapshot)? {
                return Ok(servables);
            }
            progress.changed().await.context("the manager stopped")?;
        }
    }
}

/// What the manager works with.
fn parts(
    settings: &Settings,
    shared: &Shared,
    loader: PackageLoader,
    past: Option<Arc<dyn PastRuns>>,
    options: Box<OptionsOf>,
) -> ManagerParts {
    ManagerParts {
        loader: Arc::new(loader),
        past,
        catalog: shared.service().shared_catalog(),
        metrics: shared.service().shared_metrics(),
        tracer: shared.tracer().clone(),
        options,
        memory_budget: memory::of_models(settings),
        drain_timeout: settings.server.drain_timeout,
    }
}

/// Puts into the catalog what is known before the first model.
fn describe(catalog: &Catalog, request: &ServeRequest) -> anyhow::Result<()> {
    let settings = &request.settings;
    let default = plan::default_model(settings)?;
    catalog.update(|snapshot| {
        snapshot.default_model = default;
        snapshot.needs_models = !settings.server.ready_without_models;
        snapshot.hosts_models = request.multi_model.is_some();
    });
    Ok(())
}

/// Reads the packages on a thread that may block.
async fn open(request: ServeRequest) -> anyhow::Result<Plan> {
    let opened = threads::run("open", move || Plan::read(&request));
    let opened = opened.context("cannot start a thread")?;
    opened.await.context("reading the packages panicked")?
}

fn watcher(
    followed: registry::Followed,
    selection: Selection,
    metrics: Arc<Metrics>,
    hint: Arc<Notify>,
) -> Watcher {
    Watcher::new(WatcherParts {
        source: followed.source,
        fallback: followed.fallback,
        selection,
        interval: followed.interval,
        unload_delay: followed.unload_delay,
        memory: followed.memory,
        metrics,
        hint,
    })
}

/// A registry that is watched, and what its answers change.
struct Watched {
    watcher: Watcher,
    selection: Selection,
    /// The models on this machine, which are desired too.
    local: DesiredState,
    desired: watch::Sender<DesiredState>,
}

impl Watched {
    /// Watches until `stop`; the receiver gets what the first look found.
    fn start(self, stop: CancellationToken) -> oneshot::Receiver<FirstLook> {
        let (found, first_look) = oneshot::channel();
        let watching = self.run(found);
        tokio::spawn(async move { stop.run_until_cancelled(watching).await });
        first_look
    }

    async fn run(mut self, found: oneshot::Sender<FirstLook>) {
        let (wanted, look) = self.watcher.first_look().await;
        let wanted = wanted.or_else(|| match &look {
            FirstLook::Failed(error) => self.selection.without_registry(&error.for_clients()),
            FirstLook::Read { .. } => None,
        });
        let publish = |wanted: DesiredState| {
            let wanted = plan::merged(&self.local, wanted);
            self.desired.send_if_modified(|current| {
                let changed = *current != wanted;
                if changed {
                    *current = wanted;
                }
                changed
            });
        };
        if let Some(wanted) = wanted {
            publish(wanted);
        }
        let _ = found.send(look);
        self.watcher.run(publish).await;
    }
}
