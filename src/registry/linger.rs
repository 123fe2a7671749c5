//! What has gone from a registry counts as gone only after a while: an alias that is deleted and set again, as some tools
//! move one, or a model that is registered anew, must not unload what serves. Pure: the time is passed in.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::{RegisteredModel, RegistryState};
use crate::model::{ModelName, Pointer};

/// What has gone, and since when.
#[derive(Debug, Default)]
pub(super) struct Lingering {
    delay: Duration,
    since: BTreeMap<Gone, Instant>,
}

/// A pointer of a model, or the whole model.
type Gone = (ModelName, Option<Pointer>);

impl Lingering {
    /// Keeps what has gone for this long.
    pub(super) fn new(delay: Duration) -> Self {
        Self {
            delay,
            ..Self::default()
        }
    }

    /// Puts back into an answer what was in the `last` one, put back things included, and has gone lately.
    pub(super) fn keep(
        &mut self,
        state: &mut RegistryState,
        last: &BTreeMap<ModelName, RegisteredModel>,
        now: Instant,
    ) {
        let mut since = BTreeMap::new();
        for (name, model) in last {
            let Some(current) = state.models.get_mut(name) else {
                if self.lingers((name.clone(), None), now, &mut since) {
                    state.models.insert(name.clone(), model.clone());
                }
                continue;
            };
            for (pointer, version) in pointers(model) {
                if current.follow(&pointer).is_some() {
                    continue;
                }
                let Some(registered) = model.versions.get(&version) else {
                    continue;
                };
                if self.lingers((name.clone(), Some(pointer.clone())), now, &mut since) {
                    let known = current.versions.entry(version);
                    known.or_insert_with(|| registered.clone());
                    match pointer {
                        Pointer::Alias(alias) => drop(current.aliases.insert(alias, version)),
                        Pointer::Stage(stage) => drop(current.stages.insert(stage, version)),
                    }
                }
            }
        }
        self.since = since;
    }

    fn lingers(&self, gone: Gone, now: Instant, since: &mut BTreeMap<Gone, Instant>) -> bool {
        let begin = self.since.get(&gone).copied().unwrap_or(now);
        let lingers = now.saturating_duration_since(begin) < self.delay;
        if lingers {
            since.insert(gone, begin);
        }
        lingers
    }
}

fn pointers(
    model: &RegisteredModel,
) -> impl Iterator<Item = (Pointer, crate::model::Version)> + '_ {
    let aliases = model.aliases.iter();
    let aliases = aliases.map(|(alias, version)| (Pointer::Alias(alias.clone()), *version));
    let stages = model.stages.iter();
    let stages = stages.map(|(stage, version)| (Pointer::Stage(*stage), *version));
    aliases.chain(stages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Alias, Stage, Version};
    use crate::registry::{RegisteredVersion, VersionStatus};

    /// A registry with one model whose pointers lead to these versions.
    fn state(champion: Option<u64>, production: Option<u64>) -> RegistryState {
        let version = |number: u64| {
            let registered = RegisteredVersion {
                status: VersionStatus::Ready,
                location: String::new(),
                revision: String::new(),
                digest: None,
            };
            (Version(number), registered)
        };
        let champion = champion.map(|number| (Alias::new("champion").unwrap(), Version(number)));
        let production = production.map(|number| (Stage::Production, Version(number)));
        let versions = [champion.as_ref().map(|c| c.1), production.map(|p| p.1)];
        let model = RegisteredModel {
            versions: versions
                .into_iter()
                .flatten()
                .map(|v| version(v.0))
                .collect(),
            aliases: champion.into_iter().collect(),
            stages: production.into_iter().collect(),
            ..RegisteredModel::default()
        };
        RegistryState {
            models: [(ModelName::new("m").unwrap(), model)].into(),
            ..RegistryState::default()
        }
    }

    /// The answers of a registry, one a second, as they are taken.
    fn taken(delay: u64, answers: &[RegistryState]) -> Vec<RegistryState> {
        let mut lingering = Lingering::new(Duration::from_secs(delay));
        let (mut last, begin) = (BTreeMap::new(), Instant::now());
        let answers = answers.iter().zip(0..);
        answers
            .map(|(answer, second)| {
                let mut state = answer.clone();
                lingering.keep(&mut state, &last, begin + Duration::from_secs(second));
                last = state.models.clone();
                state
            })
            .collect()
    }

    #[test]
    fn an_alias_that_is_deleted_and_set_again_never_left() {
        let (before, gone, after) = (
            state(Some(1), None),
            state(None, None),
            state(Some(2), None),
        );
        let answers = [before.clone(), gone.clone(), after.clone(), gone];
        let expected = [before.clone(), before, after.clone(), after];
        assert_eq!(taken(2, &answers), expected);
    }

    #[test]
    fn what_has_gone_for_as_long_as_the_delay_is_gone() {
        let (there, gone) = (state(Some(1), Some(2)), state(None, Some(2)));
        let none = RegistryState::default();
        for gone in [gone, none] {
            let answers = [&[there.clone()][..], &vec![gone.clone(); 4]].concat();
            let kept = |delay: u64| {
                let taken = taken(delay, &answers);
                taken.iter().filter(|state| **state == there).count()
            };
            assert_eq!([0, 1, 2, 3].map(kept), [1, 2, 3, 4]);
        }
    }

    #[test]
    fn a_pointer_that_moves_moves_at_once() {
        let answers = [state(Some(1), Some(1)), state(Some(2), Some(3))];
        assert_eq!(taken(60, &answers), answers);
    }
}
