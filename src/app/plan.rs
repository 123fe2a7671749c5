//! What `serve` was asked to serve: packages on this machine, and what is wanted of a registry.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};

use super::local::{Found, Place, settle_twins};
use super::seals::Seals;
use super::{ServeRequest, ServeTarget};
use crate::config::{self, ModelSettings, Settings};
use crate::engine::{EngineChoice, EngineOptions};
use crate::lifecycle::{
    BatchingOptions, Contract, ExamplePolicy, LoadLimits, LoadOptions, ModelOptions, OnDemand,
    SwapOrder,
};
use crate::model::{ModelId, ModelName, Provider, ResponseForm, SignaturePolicy};
use crate::registry::{DesiredState, ModelUri, Selection, Target, Wanted};
use crate::signing::SealPolicy;

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
    pub(super) fn of(request: &ServeRequest) -> anyhow::Result<Self> {
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
            let source = ServeTarget::of(model.source.as_deref()?);
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

    /// Versions without which their model can serve.
    pub(super) fn spare(&self) -> BTreeSet<ModelId> {
        let spare = self.packages.iter().filter(|found| found.is_one_of_many);
        spare.map(|found| found.id.clone()).collect()
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

/// What the operator chose for the model of a name.
type OptionsOf = dyn Fn(&ModelName) -> ModelOptions + Send + Sync;

/// What the operator chose for each model.
///
/// # Errors
/// When a key that is to be trusted is none.
pub(super) fn options(
    settings: &Settings,
    required: BTreeSet<ModelName>,
) -> anyhow::Result<Box<OptionsOf>> {
    let settings = settings.clone();
    let seals = Seals::of(&settings)?;
    Ok(Box::new(move |name| {
        let default = ModelSettings::default();
        let model = settings.models.get(name.as_str()).unwrap_or(&default);
        let is_required = required.contains(name) || model.required == Some(true);
        let lazy = settings.registry.lazy && !is_required;
        ModelOptions {
            load: LoadOptions {
                seal: seals.policy(name),
                ..options_for(&settings, name.as_str())
            },
            keep_previous: model.keep_previous.unwrap_or(1),
            swap: match model.swap {
                Some(config::SwapOrder::BreakBeforeMake) => SwapOrder::BreakBeforeMake,
                Some(config::SwapOrder::MakeBeforeBreak) | None => SwapOrder::MakeBeforeBreak,
            },
            contract: contract(model.signature_policy.unwrap_or_default()),
            probation: model.probation.unwrap_or(PROBATION),
            required: is_required,
            on_demand: OnDemand {
                lazy,
                evictable: model.evictable.unwrap_or(lazy),
            },
        }
    }))
}

/// Which changes a new version may bring.
fn contract(policy: config::SignaturePolicy) -> Contract {
    let policy = match policy {
        config::SignaturePolicy::Compatible => SignaturePolicy::Compatible,
        config::SignaturePolicy::Exact => SignaturePolicy::Exact,
        config::SignaturePolicy::Any => SignaturePolicy::Any,
    };
    Contract(Arc::new(move |old, new| policy.check(old, new)))
}

/// The default of `models.<name>.probation`.
const PROBATION: Duration = Duration::from_secs(60);

/// How a model of this name is loaded.
pub(super) fn options_for(settings: &Settings, name: &str) -> LoadOptions {
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
    LoadOptions {
        engine: engine_choice(model.engine.unwrap_or(settings.engine.default)),
        isolated: model.isolation == Some(config::Isolation::Process),
        engine_options: EngineOptions {
            intra_op_threads: settings.engine.intra_op_threads,
            inter_op_threads: settings.engine.inter_op_threads,
            providers,
            allows_quirks: model.engine_quirks == Some(config::Quirks::Allow),
        },
        batching: BatchingOptions {
            max_rows: (model.batching.max_batch_size).or(settings.batching.max_batch_size),
            max_delay: (model.batching.max_queue_delay).or(settings.batching.max_queue_delay),
            max_queue_size: { model.queue_size() }.unwrap_or(settings.batching.max_queue_size),
            instances: (model.batching.instances).or(settings.batching.instances),
        },
        rows: model.rows.unwrap_or_default(),
        max_concurrency: model.max_concurrency,
        max_rows: model.max_rows.or(settings.limits.max_rows),
        request_timeout: model
            .request_timeout
            .unwrap_or(settings.server.request_timeout),
        warmup: model.warmup,
        example: match model.example.unwrap_or_default() {
            config::ExamplePolicy::Require => ExamplePolicy::Require,
            config::ExamplePolicy::Warn => ExamplePolicy::Warn,
        },
        response: response_form(model.response.unwrap_or_default()),
        seal: SealPolicy::default(),
        limits: LoadLimits {
            fetch: settings.registry.fetch_timeout,
            phase: settings.engine.load_timeout,
        },
    }
}

fn response_form(form: config::ResponseForm) -> ResponseForm {
    match form {
        config::ResponseForm::MlflowOnnx => ResponseForm::MlflowOnnx,
        config::ResponseForm::Predict => ResponseForm::Predict,
        config::ResponseForm::PredictProba => ResponseForm::PredictProba,
    }
}

fn engine_choice(choice: config::EngineChoice) -> EngineChoice {
    match choice {
        config::EngineChoice::Auto => EngineChoice::Auto,
        config::EngineChoice::Tract => EngineChoice::Tract,
        config::EngineChoice::Onnxruntime => EngineChoice::OnnxRuntime,
    }
}
