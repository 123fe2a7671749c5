//! How a model is loaded, by its own settings and those of all models.

use super::settings::{self, Isolation, ModelSettings, Quirks, Settings};
use crate::engine::EngineOptions;
use crate::lifecycle::{BatchingOptions, ExamplePolicy, LoadLimits, LoadOptions};
use crate::model::Provider;
use crate::signing::SealPolicy;

/// How a model of this name is loaded.
pub(crate) fn load_options(settings: &Settings, name: &str) -> LoadOptions {
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
        engine: model.engine.unwrap_or(settings.engine.default),
        isolated: model.isolation == Some(Isolation::Process),
        engine_options: EngineOptions {
            intra_op_threads: settings.engine.intra_op_threads,
            inter_op_threads: settings.engine.inter_op_threads,
            providers,
            allows_quirks: model.engine_quirks == Some(Quirks::Allow),
        },
        batching: BatchingOptions {
            max_rows: (model.batching.max_batch_size).or(settings.batching.max_batch_size),
            max_delay: (model.batching.max_queue_delay).or(settings.batching.max_queue_delay),
            max_queue_size: model
                .queue_size()
                .unwrap_or(settings.batching.max_queue_size),
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
            settings::ExamplePolicy::Require => ExamplePolicy::Require,
            settings::ExamplePolicy::Warn => ExamplePolicy::Warn,
        },
        response: model.response.unwrap_or_default(),
        seal: SealPolicy::default(),
        limits: LoadLimits {
            fetch: settings.registry.fetch_timeout,
            phase: settings.engine.load_timeout,
        },
    }
}
