//! Whose signatures each model needs.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, bail};

use crate::config::Settings;
use crate::model::ModelName;
use crate::signing::{SealPolicy, Trust};

/// See the module.
#[derive(Debug)]
pub(crate) struct Seals {
    every: SealPolicy,
    models: BTreeMap<String, SealPolicy>,
}

impl Seals {
    /// Reads the keys and authorities that are to be trusted.
    ///
    /// # Errors
    /// When one of them is none, or signatures are required that nobody could make.
    pub(crate) fn read(settings: &Settings) -> anyhow::Result<Self> {
        let required = settings.registry.require_signature;
        let policy = |texts: &[String]| {
            let trust = Trust::read(texts)?;
            anyhow::Ok(SealPolicy {
                // Whoever names a key means it: who could alter a package could take its signature away as well.
                required: required.unwrap_or(!trust.is_empty()),
                trust: Arc::new(trust),
            })
        };
        let every = policy(&settings.registry.trust).context("invalid `registry.trust`")?;
        let mut models = BTreeMap::new();
        for (name, model) in &settings.models {
            let Some(trust) = &model.trust else { continue };
            let policy = policy(trust).with_context(|| format!("invalid `models.{name}.trust`"))?;
            if policy.trust.is_empty() {
                bail!(
                    "`models.{name}.trust` is empty: name a key, or leave it out to trust those in `registry.trust`"
                );
            }
            models.insert(name.clone(), policy);
        }
        if required == Some(true) && every.trust.is_empty() && models.is_empty() {
            bail!(
                "signatures are required and nobody is trusted: name a public key with `--trust KEY.pem`, or in `registry.trust`"
            );
        }
        Ok(Self { every, models })
    }

    /// Whose signature this model needs.
    pub(crate) fn policy(&self, name: &ModelName) -> SealPolicy {
        let own = self.models.get(name.as_str());
        own.unwrap_or(&self.every).clone()
    }
}
