//! What `serve` was asked to serve: packages on this machine, and what is wanted of a registry.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, bail};

use super::{ServeRequest, ServeTarget};
use crate::config::Settings;
use crate::lifecycle::Requirements;
use crate::model::{ModelId, ModelName};
use crate::registry::local_packages::{Found, Place, settle_twins};
use crate::registry::{DesiredState, ModelUri, Selection, Target, Wanted};

/// See the module.
#[derive(Debug)]
pub(super) struct Plan {
    /// Packages on this machine, opened; those too that could not be.
    pub(super) packages: Vec<Found>,
    /// What is wanted of the registry.
    pub(super) selection: Selection,
    /// Models that the server cannot do without.
    pub(super) required: BTreeSet<ModelName>,
    /// The models of each directory that cannot be without all of them.
    pub(super) groups: Vec<BTreeSet<ModelName>>,
}

impl Plan {
    /// Reads the packages. Blocking.
    ///
    /// # Errors
    /// What is wrong with the first one that the server cannot do without.
    pub(super) fn read(request: &ServeRequest) -> anyhow::Result<Self> {
        let settings = &request.settings;
        let mut plan = Self {
            packages: Vec::new(),
            selection: selection(settings)?,
            required: BTreeSet::new(),
            groups: Vec::new(),
        };
        let targets = request.targets.iter();
        let targets = targets.map(|target| (target.clone(), request.name.as_deref(), true));
        let configured = settings.models.iter().filter_map(|(name, model)| {
            let source = ServeTarget::parse(model.source.as_deref()?);
            Some((source, Some(name.as_str()), model.required.unwrap_or(true)))
        });
        for (target, name, required) in targets.chain(configured) {
            let name = name.map(ModelName::new).transpose()?;
            match target {
                ServeTarget::Path(path) => plan.add_path(&path, name.as_ref(), required)?,
                ServeTarget::Url(url) => bail!("`{url}` was not fetched"),
                ServeTarget::Registry(uri) => plan.add_uri(uri?, name, required),
            }
        }
        plan.packages = settle_twins(plan.packages)?;
        plan.check_default(settings)?;
        Ok(plan)
    }

    fn add_path(
        &mut self,
        path: &Path,
        name: Option<&ModelName>,
        required: bool,
    ) -> anyhow::Result<()> {
        let place = Place {
            path,
            name,
            required,
        };
        let found = place.open()?;
        if required {
            let models = found.iter().map(|found| found.id.name.clone());
            let models: BTreeSet<ModelName> = models.collect();
            // Of several models none is worth more than the others.
            if models.len() == 1 {
                self.required.extend(models.clone());
            }
            self.groups.push(models);
        }
        self.packages.extend(found);
        Ok(())
    }

    fn add_uri(&mut self, uri: ModelUri, serve_as: Option<ModelName>, required: bool) {
        let registered = match &uri {
            ModelUri::Registered { name, .. } => Some(name.clone()),
            ModelUri::Logged(_) | ModelUri::Run { .. } => None,
        };
        let served = serve_as.clone().or(registered);
        if required {
            self.required.extend(served);
        } else {
            self.selection.optional.extend(served);
        }
        self.selection.targets.push(Target { serve_as, uri });
    }

    /// What has to serve before the server is ready.
    pub(super) fn requirements(&self) -> Requirements {
        let spare = self.packages.iter().filter(|found| found.is_one_of_many);
        Requirements {
            groups: self.groups.clone(),
            spare: spare.map(|found| found.id.clone()).collect(),
        }
    }

    /// A default model that is never there would be found out by the first request only.
    fn check_default(&self, settings: &Settings) -> anyhow::Result<()> {
        let Some(name) = default_model(settings)? else {
            return Ok(());
        };
        let names: BTreeSet<&ModelName> = {
            let local = self.packages.iter().map(|found| &found.id.name);
            local.chain(&self.required).collect()
        };
        if self.selection.is_empty() && !names.contains(&name) {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            bail!(
                "the default model `{name}` is not among the models served: {}",
                names.join(", ")
            );
        }
        Ok(())
    }

    /// What is wanted before the registry is heard.
    pub(super) fn local(&self) -> DesiredState {
        let mut desired = DesiredState {
            complete: self.selection.is_empty(),
            ..DesiredState::default()
        };
        for found in &self.packages {
            let ModelId { name, version } = &found.id;
            let root = found.opened.as_ref().map(|package| &package.root);
            let root = root.unwrap_or(&found.path).clone();
            desired.add(name, *version, Wanted::Local(root));
        }
        for model in desired.models.values_mut() {
            // In a tree of versions the highest one that can be served is the default.
            model.default = None;
        }
        desired
    }
}

/// The model behind paths without a name.
///
/// # Errors
/// When the name is not one.
pub(super) fn default_model(settings: &Settings) -> anyhow::Result<Option<ModelName>> {
    let name = settings.server.default_model.as_deref().map(ModelName::new);
    name.transpose().context("invalid `server.default_model`")
}

/// Puts what the registry says beside what is on this machine, which wins where both claim a name.
pub(super) fn merged(local: &DesiredState, mut registry: DesiredState) -> DesiredState {
    for (name, model) in &local.models {
        if registry
            .models
            .insert(name.clone(), model.clone())
            .is_some()
        {
            tracing::error!(model = %name, "both the registry and a path on this machine have a model of this name; serving the one on this machine: rename one, or narrow `--filter`");
        }
    }
    registry
}

fn selection(settings: &Settings) -> anyhow::Result<Selection> {
    let registry = &settings.registry;
    let pointers = registry.follow.iter().map(|pointer| pointer.parse());
    let filter = registry.filter.as_deref().unwrap_or_default();
    Ok(Selection {
        targets: Vec::new(),
        optional: BTreeSet::new(),
        follow: pointers
            .collect::<Result<_, _>>()
            .context("invalid `registry.follow`")?,
        filter: filter.parse().context("invalid `registry.filter`")?,
    })
}
