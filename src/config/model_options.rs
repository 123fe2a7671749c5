//! What the operator chose for each model.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::load_options::load_options;
use super::seals::Seals;
use super::settings::{self, ModelSettings, Settings};
use crate::lifecycle::{Contract, LoadOptions, ModelOptions, OnDemand, OptionsOf, SwapOrder};
use crate::model::{ModelName, SignaturePolicy};

/// What the operator chose for each model.
///
/// # Errors
/// When a key that is to be trusted is none.
pub(crate) fn model_options(
    settings: &Settings,
    required: BTreeSet<ModelName>,
) -> anyhow::Result<Box<OptionsOf>> {
    let settings = settings.clone();
    let seals = Seals::read(&settings)?;
    Ok(Box::new(move |name| {
        let default = ModelSettings::default();
        let model = settings.models.get(name.as_str()).unwrap_or(&default);
        let is_required = required.contains(name) || model.required == Some(true);
        let lazy = settings.registry.lazy && !is_required;
        ModelOptions {
            load: LoadOptions {
                seal: seals.policy(name),
                ..load_options(&settings, name.as_str())
            },
            keep_previous: model.keep_previous.unwrap_or(1),
            swap: match model.swap {
                Some(settings::SwapOrder::BreakBeforeMake) => SwapOrder::BreakBeforeMake,
                Some(settings::SwapOrder::MakeBeforeBreak) | None => SwapOrder::MakeBeforeBreak,
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
fn contract(policy: settings::SignaturePolicy) -> Contract {
    let policy = match policy {
        settings::SignaturePolicy::Compatible => SignaturePolicy::Compatible,
        settings::SignaturePolicy::Exact => SignaturePolicy::Exact,
        settings::SignaturePolicy::Any => SignaturePolicy::Any,
    };
    Contract(Arc::new(move |old, new| policy.check(old, new)))
}

/// The default of `models.<name>.probation`.
const PROBATION: Duration = Duration::from_secs(60);
