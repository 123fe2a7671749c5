//! Starts the manager, and the watcher of the registry, and waits until the server can begin.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, bail};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::guests::Guests;
use super::local::SHOWN;
use super::memory;
use super::plan::{self, Plan};
use super::{ServeRequest, registry};
use crate::lifecycle::{Compiler, Manager, ManagerHandle, ManagerParts, PackageLoader, Supply};
use crate::model::{ModelId, ModelName};
use crate::protocol::Shared;
use crate::registry::{DesiredState, FirstLook, Selection, Watcher, WatcherParts};
use crate::serving::{CatalogSnapshot, Demand as _, Servable, VersionState};
use crate::telemetry::Metrics;

/// What runs beside the servers.
pub(super) struct Stage {
    pub(super) manager: ManagerHandle,
    /// What the first look at the registry found.
    first_look: Option<tokio::sync::oneshot::Receiver<FirstLook>>,
    /// Whether versions of the registry were named, which the server cannot do without.
    names_targets: bool,
    wishes: Wishes,
}

/// What the server cannot begin without.
#[derive(Debug, Default)]
struct Wishes {
    /// Of each of these one model must serve.
    groups: Vec<BTreeSet<ModelName>>,
    /// Versions that a required model can be without.
    spare: BTreeSet<ModelId>,
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
        (hint, stop): (Arc<Notify>, CancellationToken),
    ) -> anyhow::Result<Self> {
        let settings = &request.settings;
        let plan = open(request.clone()).await?;
        let default = plan::default_model(settings)?;
        let catalog = shared.service().shared_catalog();
        catalog.update(|snapshot| {
            snapshot.default_model = default;
            snapshot.needs_models = !settings.server.ready_without_models;
            snapshot.hosts_models = request.multi_model.is_some();
        });
        let local = plan.local();
        let (desired, desires) = watch::channel(local.clone());
        let wishes = Wishes {
            groups: plan.groups.clone(),
            spare: plan.spare(),
        };
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
        let (desired, guests) = match &request.multi_model {
            Some(_) => (None, Some(desired)),
            None => (Some(desired), None),
        };
        let metrics = shared.service().shared_metrics();
        let first_look = followed.zip(desired).map(|(followed, desired)| {
            let selection = plan.selection.clone();
            let watcher = watcher(followed, selection.clone(), metrics, hint);
            let (told, first_look) = tokio::sync::oneshot::channel();
            let watched = watch(watcher, (selection, local), desired, told);
            let stop = stop.clone();
            tokio::spawn(async move { stop.run_until_cancelled(watched).await });
            first_look
        });
        let supply = supply.map(|supply| Arc::new(supply) as Arc<dyn Supply>);
        let loader = PackageLoader::new(compiler, supply.clone(), past.clone(), opened);
        let parts = ManagerParts {
            loader: Arc::new(loader),
            supply,
            past,
            catalog,
            metrics: shared.service().shared_metrics(),
            tracer: shared.tracer().clone(),
            options: plan::options(settings, plan.required)?,
            memory_budget: memory::of_models(settings),
            drain_timeout: settings.server.drain_timeout,
        };
        let (manager, handle) = Manager::new(parts, desires, stop);
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
            names_targets,
            wishes,
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
            if let Some(servables) = self.wishes.settled(&snapshot)? {
                return Ok(servables);
            }
            progress.changed().await.context("the manager stopped")?;
        }
    }
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

async fn watch(
    mut watcher: Watcher,
    (selection, local): (Selection, DesiredState),
    desired: watch::Sender<DesiredState>,
    told: tokio::sync::oneshot::Sender<FirstLook>,
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
    let (wanted, look) = watcher.first_look().await;
    let wanted = wanted.or_else(|| match &look {
        FirstLook::Failed(error) => selection.without_registry(&error.for_clients()),
        FirstLook::Read { .. } => None,
    });
    if let Some(wanted) = wanted {
        publish(wanted);
    }
    let _ = told.send(look);
    watcher.run(publish).await;
}

impl Wishes {
    /// The servables, once nothing more happens to what was wanted at the start.
    ///
    /// # Errors
    /// Why what cannot be missing cannot be served.
    fn settled(&self, snapshot: &CatalogSnapshot) -> anyhow::Result<Option<Vec<Arc<Servable>>>> {
        let mut servables = Vec::new();
        let mut pending = !snapshot.known;
        for (name, model) in &snapshot.models {
            for (version, entry) in &model.versions {
                let id = ModelId {
                    name: name.clone(),
                    version: *version,
                };
                // What serves in its place, as before this process, is good enough to begin with.
                let is_spare = self.spare.contains(&id) || model.instead_of.is_some();
                match &entry.state {
                    VersionState::Ready => servables.extend(entry.servable.clone()),
                    VersionState::Unloaded => {}
                    state => match state.reason() {
                        Some(reason) if model.required && !is_spare => bail!(
                            "cannot serve model {name} version {version}: {}",
                            reason.detail
                        ),
                        Some(_) => {}
                        None => pending |= !model.given_up && model.instead_of.is_none(),
                    },
                }
            }
        }
        for group in &self.groups {
            if let Some(reasons) = failed_as_a_whole(group, snapshot) {
                bail!("{reasons}");
            }
        }
        pending |= !snapshot.is_settled();
        Ok((!pending).then_some(servables))
    }
}

/// Why none of these models serves, once that is certain.
fn failed_as_a_whole(group: &BTreeSet<ModelName>, snapshot: &CatalogSnapshot) -> Option<String> {
    let mut reasons = Vec::new();
    for name in group {
        let model = snapshot.models.get(name)?;
        for (version, entry) in &model.versions {
            let reason = entry.state.reason()?;
            if !entry.state.is_settled() && !model.given_up {
                return None;
            }
            reasons.push(format!("{name} version {version}: {}", reason.detail));
        }
    }
    let more = match reasons.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    reasons.truncate(SHOWN);
    (!reasons.is_empty()).then(|| format!("cannot serve model {}{more}", reasons.join("; model ")))
}
