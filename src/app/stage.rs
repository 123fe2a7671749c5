//! Starts the manager, and the watcher of the registry, and waits until the server can begin.

use std::sync::Arc;

use anyhow::{Context, bail};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::guests::Guests;
use super::plan::{self, Plan};
use super::{ServeRequest, registry};
use crate::config::Settings;
use crate::lifecycle::{Loader, Manager, ManagerHandle, ManagerParts, Supply};
use crate::machine;
use crate::protocol::Shared;
use crate::registry::{DesiredState, FirstLook, Watcher, WatcherParts};
use crate::serving::{CatalogSnapshot, Demand as _, Servable, VersionState};

/// What runs beside the servers.
pub(super) struct Stage {
    pub(super) manager: ManagerHandle,
    /// What the first look at the registry found.
    first_look: Option<tokio::sync::oneshot::Receiver<FirstLook>>,
    /// Whether versions of the registry were named, which the server cannot do without.
    names_targets: bool,
}

impl Stage {
    /// Opens the packages, and begins to load and to look.
    ///
    /// # Errors
    /// What is wrong with the first package or with the registry's address.
    pub(super) async fn begin(
        request: &ServeRequest,
        shared: &Shared,
        loader: Loader,
        (hint, stop): (Arc<Notify>, CancellationToken),
    ) -> anyhow::Result<Self> {
        let settings = &request.settings;
        let plan = open(request.clone()).await?;
        let default = plan::default_model(settings)?;
        let catalog = shared.service().shared_catalog();
        catalog.update(|snapshot| snapshot.default_model = default);
        let local = plan.local();
        let (desired, wishes) = watch::channel(local.clone());
        let followed = registry::Followed::open(
            settings,
            &request.environment,
            &plan.selection,
            shared.service().shared_metrics(),
        )?;
        let supply = followed.as_ref().map(registry::Followed::supply);
        // One of two may change what is wanted; without either it stays as it is.
        let (desired, guests) = match &request.multi_model {
            Some(_) => (None, Some(desired)),
            None => (Some(desired), None),
        };
        let first_look = followed.zip(desired).map(|(followed, desired)| {
            let (told, first_look) = tokio::sync::oneshot::channel();
            let parts = WatcherParts {
                source: followed.source,
                fallback: followed.fallback,
                selection: plan.selection.clone(),
                interval: followed.interval,
                memory: followed.memory,
                metrics: shared.service().shared_metrics(),
                hint,
            };
            tokio::spawn(watch(
                Watcher::new(parts),
                local,
                desired,
                told,
                stop.clone(),
            ));
            first_look
        });
        let parts = ManagerParts {
            loader,
            supply: supply.map(|supply| Arc::new(supply) as Arc<dyn Supply>),
            catalog,
            metrics: shared.service().shared_metrics(),
            tracer: shared.tracer().clone(),
            options: plan::options(settings, plan.required)?,
            memory_budget: memory_budget(settings),
            drain_timeout: settings.server.drain_timeout,
        };
        let (manager, handle) = Manager::new(parts, wishes, plan.packages, stop);
        shared.service().load_on_demand(Arc::new(handle.clone()));
        if let Some((root, desired)) = request.multi_model.clone().zip(guests) {
            let catalog = shared.service().shared_catalog();
            let guests = Guests::new(root, desired, catalog, handle.progress());
            shared.host_models(Arc::new(guests));
        }
        tokio::spawn(manager.run());
        Ok(Self {
            manager: handle,
            first_look,
            names_targets: !plan.selection.targets.is_empty(),
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
            if let Some(servables) = settled(&snapshot)? {
                return Ok(servables);
            }
            progress.changed().await.context("the manager stopped")?;
        }
    }
}

/// The chosen budget, else what leaves a fifth of the memory to requests and to everything else.
fn memory_budget(settings: &Settings) -> Option<u64> {
    let chosen = settings.engine.memory_budget;
    chosen.or_else(|| Some(machine::memory_limit()? / 5 * 4))
}

/// Reads the packages on a thread that may block.
async fn open(request: ServeRequest) -> anyhow::Result<Plan> {
    let (done, opened) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("open".to_owned())
        .spawn(move || drop(done.send(Plan::of(&request))))
        .context("cannot start a thread")?;
    opened.await.context("reading the packages panicked")?
}

async fn watch(
    mut watcher: Watcher,
    local: DesiredState,
    desired: watch::Sender<DesiredState>,
    told: tokio::sync::oneshot::Sender<FirstLook>,
    stop: CancellationToken,
) {
    let publish = |wanted: DesiredState| {
        let wanted = plan::merged(&local, wanted);
        desired.send_if_modified(|current| {
            let changed = *current != wanted;
            if changed {
                *current = wanted;
            }
            changed
        });
    };
    let watching = async {
        let (wanted, look) = watcher.first_look().await;
        if let Some(wanted) = wanted {
            publish(wanted);
        }
        let _ = told.send(look);
        watcher.run(publish).await;
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = watching => {}
    }
}

/// The servables, once nothing more happens to what was wanted at the start.
fn settled(snapshot: &CatalogSnapshot) -> anyhow::Result<Option<Vec<Arc<Servable>>>> {
    let mut servables = Vec::new();
    let mut pending = !snapshot.known;
    for (name, model) in &snapshot.models {
        for (version, entry) in &model.versions {
            match &entry.state {
                VersionState::Failed(reason) if model.required => {
                    bail!(
                        "cannot serve model {name} version {version}: {}",
                        reason.message
                    );
                }
                VersionState::Ready => servables.extend(entry.servable.clone()),
                VersionState::Failed(_) | VersionState::Unloaded => {}
                _ => pending = true,
            }
        }
    }
    pending |= !snapshot.is_ready();
    Ok((!pending).then_some(servables))
}
