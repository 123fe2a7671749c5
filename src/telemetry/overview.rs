//! Metrics of what is wanted and of how it got there: states, pointers, swaps, registry.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::labels::{CANDIDATE_FAILURES, SWAPS};
use super::metrics::Metrics;

/// What is known of one model at a moment, for its gauges.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModelOverview {
    /// Each version with its state, one of the given list.
    pub states: Vec<(String, &'static str)>,
    /// Each alias (`@champion`) or stage (`Production`) with the version that it leads to.
    pub pointers: Vec<(String, String)>,
    /// Whether a manual swap or unload keeps the registry from deciding.
    pub held: bool,
    /// How long another version has been wanted than the one that is served.
    pub out_of_sync: Duration,
}

impl Metrics {
    /// Sets the gauges of a model; series of versions and pointers that are no longer named leave. `states` are all
    /// the states there are.
    pub fn describe_model(&self, model: &str, overview: ModelOverview, states: &[&'static str]) {
        let mut described = self.described().lock();
        let families = self.families();
        match described.get(model) {
            Some(before) => self.leave(model, before, Some(&overview), states),
            None => self.begin_counting(model),
        }
        for (version, current) in &overview.states {
            for state in states {
                let gauge = families
                    .versions
                    .state
                    .with_label_values(&[model, version, state]);
                gauge.set(i64::from(state == current));
            }
        }
        for (pointer, version) in &overview.pointers {
            let labels = [model, version, pointer];
            families
                .lifecycle
                .alias_info
                .with_label_values(&labels)
                .set(1);
        }
        let held = families.lifecycle.held.with_label_values(&[model]);
        held.set(i64::from(overview.held));
        let out_of_sync = families.lifecycle.out_of_sync.with_label_values(&[model]);
        out_of_sync.set(overview.out_of_sync.as_secs_f64());
        described.insert(model.to_owned(), overview);
    }

    /// Counters begin at 0: `increase` does not see a series that is born with its first event.
    fn begin_counting(&self, model: &str) {
        let families = &self.families().lifecycle;
        for reason in CANDIDATE_FAILURES {
            families
                .candidate_failures
                .with_label_values(&[model, reason]);
        }
        for outcome in SWAPS {
            families.swaps.with_label_values(&[model, outcome]);
        }
    }

    /// Takes the gauges of a model away.
    pub fn forget_model(&self, model: &str, states: &[&'static str]) {
        let mut described = self.described().lock();
        let Some(before) = described.remove(model) else {
            return;
        };
        self.leave(model, &before, None, states);
        let families = self.families();
        // Taking away fails only when it is gone already, here and below.
        let _ = families.lifecycle.held.remove_label_values(&[model]);
        let _ = families.lifecycle.out_of_sync.remove_label_values(&[model]);
    }

    fn leave(
        &self,
        model: &str,
        before: &ModelOverview,
        now: Option<&ModelOverview>,
        states: &[&'static str],
    ) {
        let families = self.families();
        for (version, _) in &before.states {
            let stays = now.is_some_and(|now| now.states.iter().any(|(other, _)| other == version));
            for state in states.iter().filter(|_| !stays) {
                let _ = families
                    .versions
                    .state
                    .remove_label_values(&[model, version, state]);
            }
        }
        for entry in &before.pointers {
            if !now.is_some_and(|now| now.pointers.contains(entry)) {
                let labels = [model, &entry.1, &entry.0];
                let _ = families.lifecycle.alias_info.remove_label_values(&labels);
            }
        }
    }

    /// Counts a change of the version that a model serves; `outcome` is of a closed list.
    pub fn swapped(&self, model: &str, outcome: &'static str) {
        debug_assert!(SWAPS.contains(&outcome), "{outcome} is not in the list");
        let swaps = &self.families().lifecycle.swaps;
        swaps.with_label_values(&[model, outcome]).inc();
    }

    /// Counts the time of one phase of a swap; `phase` is of a closed list.
    pub fn swap_phase(&self, phase: &'static str, took: Duration) {
        let durations = &self.families().lifecycle.swap_duration;
        durations
            .with_label_values(&[phase])
            .observe(took.as_secs_f64());
    }

    /// Counts a version that could not go on stage or was taken back; `reason` is of a closed list.
    pub fn candidate_failed(&self, model: &str, reason: &'static str) {
        debug_assert!(
            CANDIDATE_FAILURES.contains(&reason),
            "{reason} is not in the list"
        );
        let failures = &self.families().lifecycle.candidate_failures;
        failures.with_label_values(&[model, reason]).inc();
    }

    /// Counts a look at the registry.
    pub fn registry_synced(&self, success: bool) {
        let families = self.families();
        let outcome = if success { "success" } else { "failure" };
        families
            .lifecycle
            .registry_syncs
            .with_label_values(&[outcome])
            .inc();
        if success {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let now = now.unwrap_or_default().as_secs_f64();
            families.lifecycle.registry_last_success.set(now);
        }
    }

    /// The size of the package cache.
    pub fn set_cache_bytes(&self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.families().lifecycle.cache_bytes.set(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::DURATION_BUCKETS;

    const STATES: [&str; 2] = ["loading", "ready"];

    fn lines(metrics: &Metrics, prefix: &str) -> Vec<String> {
        let text = metrics.render();
        let lines = text.lines().filter(|line| line.starts_with(prefix));
        lines.map(str::to_owned).collect()
    }

    #[test]
    fn series_of_versions_and_pointers_leave_when_they_are_no_longer_named() {
        let metrics = Metrics::new(&DURATION_BUCKETS);
        let overview = |version: &str| ModelOverview {
            states: vec![(version.to_owned(), "ready")],
            pointers: vec![("@champion".to_owned(), version.to_owned())],
            held: true,
            out_of_sync: Duration::from_secs(2),
        };
        metrics.describe_model("m", overview("1"), &STATES);
        metrics.describe_model("m", overview("2"), &STATES);
        insta::assert_snapshot!(lines(&metrics, "onstage_model_").join("\n"), @r#"
        onstage_model_alias_info{alias="@champion",model="m",version="2"} 1
        onstage_model_held{model="m"} 1
        onstage_model_out_of_sync_seconds{model="m"} 2
        onstage_model_state{model="m",state="loading",version="2"} 0
        onstage_model_state{model="m",state="ready",version="2"} 1
        "#);
        metrics.forget_model("m", &STATES);
        assert_eq!(lines(&metrics, "onstage_model_"), [""; 0]);
    }

    #[test]
    fn what_is_alerted_on_begins_at_zero() {
        let metrics = Metrics::new(&DURATION_BUCKETS);
        metrics.describe_model("m", ModelOverview::default(), &STATES);
        let failures = lines(&metrics, "onstage_candidate_failures_total");
        assert_eq!(failures.len(), CANDIDATE_FAILURES.len());
        let swaps = lines(&metrics, "onstage_swaps_total");
        assert_eq!(swaps.len(), SWAPS.len());
        for line in failures.iter().chain(&swaps) {
            assert!(line.ends_with(" 0"), "{line}");
        }
        metrics.candidate_failed("m", "compile");
        metrics.describe_model("m", ModelOverview::default(), &STATES);
        let compile = r#"onstage_candidate_failures_total{model="m",reason="compile"} 1"#;
        assert!(lines(&metrics, "onstage_candidate_failures_total").contains(&compile.to_owned()));
    }

    #[test]
    fn swaps_failures_and_looks_are_counted() {
        let metrics = Metrics::new(&DURATION_BUCKETS);
        metrics.swapped("m", "published");
        metrics.candidate_failed("m", "compile");
        metrics.registry_synced(false);
        let before = lines(&metrics, "onstage_registry_last_success");
        metrics.registry_synced(true);
        assert_eq!(
            lines(&metrics, "onstage_swaps_total"),
            [r#"onstage_swaps_total{model="m",outcome="published"} 1"#]
        );
        assert_eq!(
            lines(&metrics, "onstage_registry_syncs_total"),
            [
                r#"onstage_registry_syncs_total{outcome="failure"} 1"#,
                r#"onstage_registry_syncs_total{outcome="success"} 1"#
            ]
        );
        assert_eq!(
            before,
            ["onstage_registry_last_success_timestamp_seconds 0"]
        );
        assert_ne!(lines(&metrics, "onstage_registry_last_success"), before);
    }
}
