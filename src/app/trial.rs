//! One request to one package, without a server.

use anyhow::Context;

use super::load::options_for;
use super::{loader, shared};
use crate::config::Settings;
use crate::model::Package;
use crate::protocol;

/// An answer, and who gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// The engine.
    pub engine: &'static str,
    /// What `/invocations` would answer.
    pub answer: Vec<u8>,
}

/// Loads `package` on the engine that `settings` choose and sends it the scoring request `body`. Blocking.
///
/// # Errors
/// When no engine can load it, or it does not answer.
pub fn try_request(package: Package, settings: &Settings, body: Vec<u8>) -> anyhow::Result<Trial> {
    let mut options = options_for(settings, package.id.name.as_str())?;
    options.warmup = false;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let loader = {
        let _inside = runtime.enter();
        loader(settings, &shared(settings))?
    };
    let servable = loader.load(package, &options)?;
    let answer = runtime.block_on(protocol::score_example(&servable, body));
    let answer = answer.map_err(|(_, message)| anyhow::Error::msg(message))?;
    Ok(Trial {
        engine: servable.engine(),
        answer,
    })
}
