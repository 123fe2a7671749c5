//! Probation: a version that took the place of another one may have to give it back.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Record;
use crate::lifecycle::probation::Probation;
use crate::model::Version;

/// Versions that are remembered as served before; only `keep_previous` of them stay loaded.
const PREVIOUS: usize = 16;

impl Record {
    pub(crate) fn served_before(&mut self, version: Version) {
        self.previous.retain(|other| *other != version);
        self.previous.push_front(version);
        self.previous.truncate(PREVIOUS);
    }

    pub(crate) fn begin_probation(
        &mut self,
        before: Option<Version>,
        after: Version,
        (now, news): (Instant, &Arc<Notify>),
    ) {
        let earlier = self.probation;
        self.leave_probation();
        // A version that served before has passed already: going back to it must not begin another trial.
        let has_served = self
            .previous
            .iter()
            .skip(1)
            .any(|version| *version == after);
        let has_passed = has_served && !self.unproven.remove(&after);
        let Some(servable) = self.servable(after) else {
            return;
        };
        // What has not passed itself is nothing to fall back to, while there is something better.
        let proven = earlier
            .filter(|earlier| Some(earlier.version) == before)
            .and_then(|earlier| earlier.fallback)
            .filter(|version| *version != after && self.servable(*version).is_some());
        let fallback = proven.or(before);
        let beside = fallback.and_then(|version| self.servable(version));
        let Some(beside) = beside.filter(|_| !has_passed && !self.options.probation.is_zero())
        else {
            if servable.is_in_doubt() {
                tracing::warn!(model = %servable.id().name, version = %after, "serves although it answered nothing that was tried: there is no version, or no probation, to serve beside");
            }
            return;
        };
        servable.begin_probation(beside, Arc::clone(news));
        self.probation = Some(Probation {
            version: after,
            fallback,
            since: now,
            until: now + self.options.probation,
            before: beside.health().bad_share(),
            crowded: beside.connections() > 1,
        });
    }

    /// The version on probation stands for itself from here on.
    pub(crate) fn pass_probation(&mut self) {
        if let Some(probation) = self.probation.take()
            && let Some(servable) = self.servable(probation.version)
        {
            servable.end_probation();
        }
    }

    /// Ends the probation of a version that can no longer answer: nothing more will be seen of it.
    pub(crate) fn end_probation_of_the_gone(&mut self) {
        let probation = self.probation.as_ref();
        if probation.is_some_and(|probation| self.servable(probation.version).is_none()) {
            self.pass_probation();
        }
    }

    /// The version on probation leaves the stage before it has passed.
    fn leave_probation(&mut self) {
        if let Some(probation) = self.probation {
            self.pass_probation();
            self.unproven.insert(probation.version);
        }
        let previous = &self.previous;
        self.unproven.retain(|version| previous.contains(version));
    }
}
