//! What a server's answers say of its registry, in as few requests as possible.
//!
//! One search returns the aliases of all models and the highest version of each stage. Only a version that none of them is
//! needs a request of its own, and its answer is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;

use super::answer::AnswerError;
use super::client::{self, Api};
use super::{Dialect, wire};
use crate::model::{ModelId, ModelName, Version};
use crate::registry::{
    Alias, Query, RegisteredModel, RegisteredVersion, RegistryState, SourceError, VersionStatus,
};

/// A model of an answer, or why it cannot be read.
type Found = Result<wire::Model, AnswerError>;

/// By name.
type AllFound = BTreeMap<String, Found>;

/// A name to look up where no model is known: only MLflow answers in its own words that it does not exist.
const NOBODY: &str = "onstage-asks-whether-this-is-mlflow";

/// Requests at the same time.
const CONCURRENT: usize = 4;

/// Models in one answer of a search; the most that MLflow takes.
const PAGE: &str = "1000";

/// In a larger registry each model is looked up by name.
const MOST_PAGES: usize = 1_000;

/// How long an answer about one version stays fresh, and the shortest time between two refreshes.
const FRESH: Duration = Duration::from_secs(60);
const REFRESH_EVERY: Duration = Duration::from_secs(30);

/// What earlier snapshots have learned.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<Learned>);

#[derive(Debug, Default)]
struct Learned {
    versions: BTreeMap<Key, Detail>,
    refreshed: Option<Instant>,
    /// Pages of the last search.
    pages: Option<usize>,
    /// The models of the last search.
    models: BTreeSet<String>,
    /// Names that cannot be served, each told once.
    odd: BTreeSet<String>,
}

/// A version; with the time when its model was made, as a name can be used again.
type Key = (ModelId, Option<u64>);

#[derive(Debug, Clone)]
struct Detail {
    asked: Instant,
    version: RegisteredVersion,
}

/// Takes one snapshot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Snapshot<'a> {
    pub(super) api: &'a Api,
    pub(super) dialect: Dialect,
    pub(super) memory: &'a Memory,
}

impl Snapshot<'_> {
    pub(super) async fn take(self, query: &Query) -> Result<RegistryState, SourceError> {
        let pinned = query.versions.iter().map(|id| &id.name);
        let named: BTreeSet<&ModelName> = query.models.iter().chain(pinned).collect();
        let found = if query.everything || self.search_is_cheaper(named.len()) {
            let mut all = self.search().await?;
            all.retain(|found, _| {
                query.everything || named.iter().any(|name| name.as_str() == found)
            });
            all
        } else {
            let names = named.iter().map(|name| name.as_str().to_owned());
            self.each(names.collect()).await?
        };
        let mut state = RegistryState::default();
        let mut created = BTreeMap::new();
        for (name, model) in found {
            let Some(name) = self.servable_name(&name) else {
                continue;
            };
            let read = model.and_then(|model| {
                created.insert(name.clone(), model.creation_timestamp);
                registered(model)
            });
            match read {
                Ok(model) => drop(state.models.insert(name, model)),
                Err(error) => drop(state.broken.insert(name, error.to_string())),
            }
        }
        self.add_versions(query, &created, &mut state).await?;
        if query.every_version {
            self.add_every_version(&mut state).await?;
        }
        match state.broken.values().next() {
            // Nothing can be read: that is the registry's trouble, not a model's.
            Some(reason) if state.models.is_empty() => Err(self.api.malformed(reason)),
            _ => Ok(state),
        }
    }

    /// One search costs as many requests as it has pages, single models one each.
    fn search_is_cheaper(self, models: usize) -> bool {
        let pages = self.memory.0.lock().pages.unwrap_or(1);
        models > 1 && self.dialect == Dialect::OpenSource && pages < models
    }

    async fn search(self) -> Result<AllFound, SourceError> {
        let (mut found, mut nameless) = (AllFound::new(), false);
        let (mut token, mut pages) = (String::new(), 0);
        loop {
            let mut query = vec![("max_results", PAGE)];
            if !token.is_empty() {
                query.push(("page_token", &token));
            }
            let path = self.dialect.path("registered-models/search");
            let page: wire::SearchModels = self.api.get(&path, &query).await?;
            for model in page.registered_models {
                match named(model) {
                    Some((name, model)) => drop(found.insert(name, model)),
                    None => nameless = true,
                }
            }
            pages += 1;
            if page.next_page_token.is_empty() {
                break;
            }
            if page.next_page_token == token || pages == MOST_PAGES {
                let reason = format!("the search for models does not end after {pages} pages");
                return Err(self.api.malformed(&reason));
            }
            token = page.next_page_token;
        }
        if found.is_empty() {
            self.confirm_emptiness().await?;
        }
        if self.dialect == Dialect::UnityCatalog {
            // Its search returns names only.
            return self.each(found.into_keys().collect()).await;
        }
        let mut known = self.remember_search(pages);
        if pages > 1 || nameless {
            // Pages are counted off while others delete models: what slipped between two of them is still there.
            known.retain(|name| !found.contains_key(name));
            found.extend(self.each(known).await?);
        }
        let names = found.keys().cloned().collect();
        self.memory.0.lock().models = names;
        Ok(found)
    }

    /// Nearly anybody may answer `{}`: only MLflow says in its own words that a model does not exist.
    async fn confirm_emptiness(self) -> Result<(), SourceError> {
        let known = self.memory.0.lock().models.first().cloned();
        let name = known.unwrap_or_else(|| NOBODY.to_owned());
        let there = self.each(vec![name]).await?;
        match there.keys().next() {
            None => Ok(()),
            Some(name) => {
                let reason = format!("the search for models finds none, but `{name}` is there");
                Err(self.api.malformed(&reason))
            }
        }
    }

    /// The models of the search before.
    fn remember_search(self, pages: usize) -> Vec<String> {
        let mut learned = self.memory.0.lock();
        learned.pages = Some(pages);
        learned.models.iter().cloned().collect()
    }

    /// Those of the models that exist.
    async fn each(self, names: Vec<String>) -> Result<AllFound, SourceError> {
        let path = self.dialect.path("registered-models/get");
        let get = |name: String| {
            let path = &path;
            async move {
                match self.api.get(path, &[("name", &name)]).await {
                    Ok(wire::GetModel { registered_model }) => match named(registered_model) {
                        Some((found, model)) if found == name => Ok(Some((name, model))),
                        _ => Err(self.api.malformed(&format!(
                            "asked for model `{name}`, it answers with another object"
                        ))),
                    },
                    Err(SourceError::NotFound(_)) => Ok(None),
                    Err(other) => Err(other),
                }
            }
        };
        let answers = stream::iter(names).map(get).buffer_unordered(CONCURRENT);
        let found: Vec<Option<(String, Found)>> = answers.try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// A name that MLflow accepts and we do not is logged once, not at each poll.
    fn servable_name(self, name: &str) -> Option<ModelName> {
        match ModelName::new(name) {
            Ok(name) => Some(name),
            Err(error) => {
                if self.memory.0.lock().odd.insert(name.to_owned()) {
                    tracing::warn!(%error, registry = self.api.address(), "a registered model cannot be served");
                }
                None
            }
        }
    }

    /// Adds what aliases and `query` name and no stage does.
    async fn add_versions(
        self,
        query: &Query,
        created: &BTreeMap<ModelName, Option<u64>>,
        state: &mut RegistryState,
    ) -> Result<(), SourceError> {
        let mut needed: BTreeSet<Key> = BTreeSet::new();
        for (name, model) in &state.models {
            let asked = query.versions.iter().filter(|id| id.name == *name);
            let versions = model.aliases.values().copied();
            let versions = versions.chain(asked.map(|id| id.version));
            let missing = versions.filter(|version| !model.versions.contains_key(version));
            needed.extend(missing.map(|version| {
                let name = name.clone();
                let created = created.get(&name).copied().flatten();
                (ModelId { name, version }, created)
            }));
        }
        for (id, version) in self.details(needed).await? {
            match version {
                Ok(version) => {
                    if let Some(model) = state.models.get_mut(&id.name) {
                        model.versions.insert(id.version, version);
                    }
                }
                Err(error) => {
                    state.models.remove(&id.name);
                    state.broken.insert(id.name, error.to_string());
                }
            }
        }
        for model in state.models.values_mut() {
            // Deleted between two requests: the next poll will not see the alias either.
            let versions = &model.versions;
            model
                .aliases
                .retain(|_, version| versions.contains_key(version));
        }
        Ok(())
    }

    async fn add_every_version(self, state: &mut RegistryState) -> Result<(), SourceError> {
        let path = self.dialect.path("model-versions/search");
        for (name, model) in &mut state.models {
            let quote = if name.as_str().contains('\'') {
                '"'
            } else {
                '\''
            };
            let filter = format!("name = {quote}{name}{quote}");
            let mut token = String::new();
            for _ in 0..MOST_PAGES {
                let mut query = vec![("filter", filter.as_str()), ("max_results", PAGE)];
                if !token.is_empty() {
                    query.push(("page_token", &token));
                }
                let page: wire::SearchVersions = self.api.get(&path, &query).await?;
                for found in page.model_versions {
                    let number = number(&found.version)
                        .map_err(|error| self.api.malformed(&error.to_string()))?;
                    let version = self::version(found);
                    model.versions.entry(number).or_insert(version);
                }
                token = page.next_page_token;
                if token.is_empty() {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn details(
        self,
        needed: BTreeSet<Key>,
    ) -> Result<Vec<(ModelId, Result<RegisteredVersion, AnswerError>)>, SourceError> {
        let ask = self.to_ask(&needed);
        let get = |key: Key| async move {
            let id = &key.0;
            let (path, version) = (
                self.dialect.path("model-versions/get"),
                id.version.to_string(),
            );
            let query = [("name", id.name.as_str()), ("version", &version)];
            match self.api.get(&path, &query).await {
                Ok(wire::GetVersion { model_version }) => Ok((key, Some(model_version))),
                Err(SourceError::NotFound(_)) => Ok((key, None)),
                Err(other) => Err(other),
            }
        };
        let answers = stream::iter(ask).map(get).buffer_unordered(CONCURRENT);
        let answers: Vec<(Key, Option<Value>)> = answers.try_collect().await?;
        let mut unreadable = Vec::new();
        let mut learned = self.memory.0.lock();
        learned.versions.retain(|key, _| needed.contains(key));
        for (key, answer) in answers {
            match answer.map(|answer| asked_for(&key.0, answer)) {
                Some(Ok(version)) => {
                    let asked = Instant::now();
                    learned.versions.insert(key, Detail { asked, version });
                }
                Some(Err(error)) => {
                    learned.versions.remove(&key);
                    unreadable.push((key.0, Err(error)));
                }
                None => drop(learned.versions.remove(&key)),
            }
        }
        let known = learned.versions.iter();
        let known = known.map(|((id, _), detail)| (id.clone(), Ok(detail.version.clone())));
        Ok(known.chain(unreadable).collect())
    }

    /// Versions that are unknown or not ready, and now and then the one whose answer is oldest.
    fn to_ask(self, needed: &BTreeSet<Key>) -> BTreeSet<Key> {
        let mut learned = self.memory.0.lock();
        let is_known = |key: &&Key| {
            let known = learned.versions.get(key);
            known.is_some_and(|detail| detail.version.status == VersionStatus::Ready)
        };
        let mut ask: BTreeSet<Key> = needed
            .iter()
            .filter(|key| !is_known(key))
            .cloned()
            .collect();
        let now = Instant::now();
        let is_due = learned
            .refreshed
            .is_none_or(|last| now - last >= REFRESH_EVERY);
        let oldest = needed
            .iter()
            .filter_map(|key| Some((learned.versions.get(key)?.asked, key)))
            .min();
        if let Some((asked, key)) = oldest
            && is_due
            && now - asked >= FRESH
        {
            ask.insert(key.clone());
            learned.refreshed = Some(now);
        }
        ask
    }
}

/// The name of a model and what else can be read of it; `None` for what has no name.
fn named(model: Value) -> Option<(String, Found)> {
    let name = model.get("name")?.as_str()?.to_owned();
    let model = serde_json::from_value(model);
    Some((name, model.map_err(|error| unreadable(&error))))
}

fn unreadable(error: &serde_json::Error) -> AnswerError {
    AnswerError::Unreadable(client::words(&error.to_string()))
}

fn registered(model: wire::Model) -> Result<RegisteredModel, AnswerError> {
    let tags = model.tags.into_iter().map(|tag| (tag.key, tag.value));
    let mut registered = RegisteredModel {
        tags: tags.collect(),
        ..RegisteredModel::default()
    };
    for version in model.latest_versions {
        let number = number(&version.version)?;
        let stage = version.current_stage.as_deref().unwrap_or("None");
        // Deleted versions have a stage of their own, which is none of ours.
        let Ok(stage) = stage.parse() else { continue };
        let highest = registered.stages.entry(stage).or_insert(number);
        *highest = number.max(*highest);
        registered.latest = registered.latest.max(Some(number));
        registered.versions.insert(number, self::version(version));
    }
    for target in model.aliases {
        let number = number(&target.version)?;
        if let Ok(alias) = Alias::new(&target.alias) {
            registered.aliases.insert(alias, number);
        }
    }
    Ok(registered)
}

fn number(text: &str) -> Result<Version, AnswerError> {
    let invalid = |_| {
        let text = client::words(&text.escape_debug().to_string());
        AnswerError::VersionNumber(text)
    };
    text.parse().map_err(invalid)
}

/// The version of an answer, when it is the requested one.
fn asked_for(id: &ModelId, answer: Value) -> Result<RegisteredVersion, AnswerError> {
    let read = serde_json::from_value(answer);
    let found: wire::ModelVersion = read.map_err(|error| unreadable(&error))?;
    if number(&found.version)? == id.version {
        return Ok(version(found));
    }
    Err(AnswerError::OtherVersion(id.version))
}

fn version(version: wire::ModelVersion) -> RegisteredVersion {
    let status = match version.status.as_deref() {
        None | Some("READY" | "") => VersionStatus::Ready,
        Some(status) => VersionStatus::Unready(match version.status_message.as_deref() {
            None | Some("") => client::words(status),
            Some(message) => client::words(&format!("{status}: {message}")),
        }),
    };
    let location = version.storage_location.filter(|text| !text.is_empty());
    let location = location.or(version.source).unwrap_or_default();
    let created = version.creation_timestamp.unwrap_or_default();
    RegisteredVersion {
        status,
        revision: format!("{location}@{created}"),
        location,
        digest: None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::auth::Credentials;
    use super::*;

    fn key(version: u64) -> Key {
        let name = ModelName::new("m").unwrap();
        let version = Version(version);
        (ModelId { name, version }, None)
    }

    fn known(status: VersionStatus) -> Detail {
        Detail {
            asked: Instant::now(),
            version: RegisteredVersion {
                status,
                location: String::new(),
                revision: String::new(),
                digest: None,
            },
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_known_is_asked_again_one_at_a_time_and_seldom() {
        crate::network::install_provider();
        let base = "http://host".parse().unwrap();
        let api = Api::new(reqwest::Client::new(), base, Credentials::None);
        let memory = Memory::default();
        let snapshot = Snapshot {
            api: &api,
            dialect: Dialect::OpenSource,
            memory: &memory,
        };
        let needed: BTreeSet<Key> = (0..50).map(key).collect();
        assert_eq!(snapshot.to_ask(&needed), needed, "nothing is known");
        let learn = |key: &Key, status| {
            let mut learned = memory.0.lock();
            learned.versions.insert(key.clone(), known(status));
        };
        needed
            .iter()
            .for_each(|key| learn(key, VersionStatus::Ready));
        let (mut requests, begin) = (0, Instant::now());
        while begin.elapsed() < Duration::from_secs(600) {
            let ask = snapshot.to_ask(&needed);
            assert!(ask.len() <= 1);
            ask.iter().for_each(|key| learn(key, VersionStatus::Ready));
            requests += ask.len();
            tokio::time::advance(Duration::from_secs(5)).await;
        }
        assert_eq!(requests, 18, "two a minute, after the first");
        // What is not ready may be at any time.
        learn(&key(7), VersionStatus::Unready("PENDING".to_owned()));
        assert!(snapshot.to_ask(&needed).contains(&key(7)));
    }
}
