//! Models that come and go by request, below one directory: SageMaker's multi-model endpoints.
//!
//! They are wanted as those of a registry are, so that the manager, its budget and its metrics see no difference.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::model::{ModelName, Version, real_path};
use crate::registry::local_packages::packages;
use crate::registry::{DesiredState, Wanted};
use crate::runtime::threads;
use crate::serving::{Catalog, CatalogSnapshot, HostError, HostedModel, ModelHost};

/// How long a model may take to come on stage, and to leave it: the platform waits six minutes.
pub const LONGEST: Duration = Duration::from_secs(350);

/// The label of a version that found no room.
const MEMORY: &str = "memory";

/// See the module.
pub struct HostedModels {
    /// Nothing outside of it is served.
    root: PathBuf,
    desired: watch::Sender<DesiredState>,
    catalog: Arc<Catalog>,
    progress: watch::Receiver<u64>,
    hosted: Mutex<BTreeMap<ModelName, Hosted>>,
}

/// A model that was added.
struct Hosted {
    /// Where it is, as it was said.
    url: String,
    is_leaving: bool,
}

impl std::fmt::Debug for HostedModels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostedModels").finish_non_exhaustive()
    }
}

impl HostedModels {
    /// Models below `root`, which are wanted by `desired` and found in `catalog`; `progress` changes with it.
    pub fn new(
        root: PathBuf,
        desired: watch::Sender<DesiredState>,
        catalog: Arc<Catalog>,
        progress: watch::Receiver<u64>,
    ) -> Self {
        Self {
            root,
            desired,
            catalog,
            progress,
            hosted: Mutex::default(),
        }
    }

    /// Waits until `outcome` is known.
    async fn wait<T>(
        &self,
        model: &ModelName,
        outcome: impl Fn(&CatalogSnapshot) -> Option<Result<T, HostError>>,
    ) -> Result<T, HostError> {
        let mut progress = self.progress.clone();
        let waiting = async {
            loop {
                progress.mark_unchanged();
                if let Some(outcome) = outcome(&self.catalog.snapshot()) {
                    return outcome;
                }
                if progress.changed().await.is_err() {
                    return Err(HostError::Stopping);
                }
            }
        };
        let outcome = tokio::time::timeout(LONGEST, waiting).await;
        outcome.unwrap_or_else(|_| {
            let message = format!("model `{model}` took longer than {LONGEST:?}");
            Err(HostError::TimedOut(message))
        })
    }

    async fn load(&self, model: &ModelName, url: &str) -> Result<(), HostError> {
        let found = find(self.root.clone(), model.clone(), PathBuf::from(url)).await?;
        self.desired.send_modify(|desired| {
            for (version, path) in found {
                desired.add(model, version, Wanted::Local(path));
            }
            if let Some(wish) = desired.models.get_mut(model) {
                // The highest version that can be served is the default.
                wish.default = None;
            }
        });
        let is_leaving = || {
            self.hosted
                .lock()
                .get(model)
                .is_none_or(|guest| guest.is_leaving)
        };
        self.wait(model, |snapshot| {
            if is_leaving() {
                return Some(Err(HostError::NotFound(model.clone())));
            }
            loaded(snapshot, model)
        })
        .await
    }

    fn forget(&self, model: &ModelName) {
        self.desired.send_modify(|desired| {
            desired.models.remove(model);
        });
    }
}

#[async_trait]
impl ModelHost for HostedModels {
    async fn add(&self, model: &ModelName, url: &str) -> Result<(), HostError> {
        // Reserved at once: a second request for the same name gets an error.
        match self.hosted.lock().entry(model.clone()) {
            Entry::Occupied(_) => return Err(HostError::Exists(model.clone())),
            Entry::Vacant(place) => {
                let url = url.to_owned();
                let is_leaving = false;
                place.insert(Hosted { url, is_leaving });
            }
        }
        let mut stay = LoadGuard::new(self, model);
        self.load(model, url).await?;
        stay.ends = false;
        Ok(())
    }

    async fn remove(&self, model: &ModelName) -> Result<(), HostError> {
        match self.hosted.lock().get_mut(model) {
            Some(guest) if !guest.is_leaving => guest.is_leaving = true,
            _ => return Err(HostError::NotFound(model.clone())),
        }
        let _stay = LoadGuard::new(self, model);
        self.forget(model);
        let left = |snapshot: &CatalogSnapshot| {
            let is_gone = !snapshot.models.contains_key(model);
            is_gone.then_some(Ok(()))
        };
        self.wait(model, left).await
    }

    fn models(&self) -> Vec<HostedModel> {
        let hosted = self.hosted.lock();
        let model = |(name, guest): (&ModelName, &Hosted)| HostedModel {
            name: name.clone(),
            url: guest.url.clone(),
        };
        hosted.iter().map(model).collect()
    }
}

/// Removes the model again when it is dropped, unless the model came on stage; also when the client disconnects.
struct LoadGuard<'g> {
    hosted: &'g HostedModels,
    model: &'g ModelName,
    ends: bool,
}

impl<'g> LoadGuard<'g> {
    fn new(hosted: &'g HostedModels, model: &'g ModelName) -> Self {
        let ends = true;
        Self {
            hosted,
            model,
            ends,
        }
    }
}

impl Drop for LoadGuard<'_> {
    fn drop(&mut self) {
        if self.ends {
            self.hosted.forget(self.model);
            self.hosted.hosted.lock().remove(self.model);
        }
    }
}

/// Whether a version serves, or all have failed.
fn loaded(snapshot: &CatalogSnapshot, model: &ModelName) -> Option<Result<(), HostError>> {
    let versions = &snapshot.models.get(model)?.versions;
    if versions.values().any(|version| version.servable.is_some()) {
        return Some(Ok(()));
    }
    let mut reason = None;
    for entry in versions.values() {
        reason = Some(entry.state.reason()?);
    }
    let reason = reason?;
    let message = format!("cannot serve model `{model}`: {}", reason.message);
    Some(Err(if reason.label == MEMORY {
        HostError::OutOfMemory(message)
    } else {
        HostError::Invalid(message)
    }))
}

/// The versions at `path`, which must lie below `root`, opened on a thread that may block.
async fn find(
    root: PathBuf,
    model: ModelName,
    path: PathBuf,
) -> Result<Vec<(Version, PathBuf)>, HostError> {
    let found = threads::run("open", move || look(&root, &model, &path));
    let found =
        found.map_err(|_| HostError::Invalid("there is no thread to read it".to_owned()))?;
    found.await.unwrap_or(Err(HostError::Stopping))
}

fn look(root: &Path, model: &ModelName, path: &Path) -> Result<Vec<(Version, PathBuf)>, HostError> {
    let outside = || {
        let message = "the model's files are not in the directory that this server may read";
        HostError::Invalid(message.to_owned())
    };
    // Links are followed first: a path may lead out of the directory in which it begins.
    let (root, path) = match (real_path(root), real_path(path)) {
        (Ok(root), Ok(path)) => (root, path),
        _ => return Err(outside()),
    };
    if !path.starts_with(&root) || path == root {
        return Err(outside());
    }
    let found = packages(&path, Some(model));
    let found = found.map_err(|error| HostError::Invalid(format!("{error:#}")))?;
    let versions = found.into_iter();
    Ok(versions
        .map(|package| (package.id.version, package.root))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_below_the_directory_is_served() {
        let root = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let model = ModelName::new("m").unwrap();
        let place = root.path().join("m");
        std::fs::create_dir_all(&place).unwrap();
        let reason = |path: &Path| look(root.path(), &model, path).unwrap_err().to_string();
        let refused = "not in the directory";
        for path in [
            outside.path().to_owned(),
            root.path().to_owned(),
            place.join("../.."),
            root.path().join("nowhere"),
            PathBuf::from("/etc"),
        ] {
            assert!(reason(&path).contains(refused), "{}", path.display());
        }
        #[cfg(unix)]
        {
            let link = root.path().join("link");
            std::os::unix::fs::symlink(outside.path(), &link).unwrap();
            assert!(reason(&link).contains(refused));
        }
        assert!(!reason(&place).contains(refused));
    }
}
