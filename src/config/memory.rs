//! How the memory that there is gets divided between requests, models and the process itself.

use crate::config::Settings;
use crate::runtime::machine;

const MIB: u64 = 1 << 20;

/// What is left to the process itself: its code, threads, connections and caches.
const RESERVE: (u64, u64) = (64 * MIB, 256 * MIB);

/// How many of the largest bodies requests may hold together: one request that is decoded, and a little for all others.
const LARGEST_BODIES: u64 = 5;

/// Bytes that requests and models may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Division {
    /// `limits.memory`.
    pub(crate) requests: u64,
    /// `engine.memory_budget`.
    pub(crate) models: u64,
}

/// What the operator chose of them, and what each request may bring.
#[derive(Debug, Clone, Copy)]
struct Chosen {
    requests: Option<u64>,
    models: Option<u64>,
    max_body: u64,
}

/// The division for these settings; `None` where it is not known how much memory there is.
pub(crate) fn division(settings: &Settings) -> Option<Division> {
    let chosen = Chosen {
        requests: settings.limits.memory,
        models: settings.engine.memory_budget,
        max_body: settings.server.max_body,
    };
    machine::memory_limit().map(|total| divide(total, chosen))
}

/// Bytes that all requests may hold together.
pub(crate) fn of_requests(settings: &Settings) -> usize {
    let chosen = settings.limits.memory;
    let bytes = chosen.or_else(|| Some(division(settings)?.requests));
    bytes.map_or(usize::MAX, |bytes| {
        usize::try_from(bytes).unwrap_or(usize::MAX)
    })
}

/// Bytes that all models may hold together; `None` is any number.
pub(crate) fn of_models(settings: &Settings) -> Option<u64> {
    let chosen = settings.engine.memory_budget;
    chosen.or_else(|| Some(division(settings)?.models))
}

fn divide(total: u64, chosen: Chosen) -> Division {
    let reserve = (total / 16).clamp(RESERVE.0, RESERVE.1);
    let free = total.saturating_sub(reserve);
    // Whatever was chosen for the others, each gets something.
    let least = total / 16;
    let requests = chosen.requests.unwrap_or_else(|| {
        let most = chosen.models.map_or(total / 2, |models| {
            free.saturating_sub(models).clamp(least, total / 2)
        });
        let wanted = (total / 5).max(chosen.max_body.saturating_mul(LARGEST_BODIES));
        wanted.min(most)
    });
    let models = chosen.models.unwrap_or_else(|| {
        let left = free.saturating_sub(requests);
        left.max(least)
    });
    Division { requests, models }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn divided(total: u64, requests: Option<u64>, models: Option<u64>) -> (u64, u64) {
        let chosen = Chosen {
            requests: requests.map(|mib| mib * MIB),
            models: models.map(|mib| mib * MIB),
            max_body: 64 * MIB,
        };
        let Division { requests, models } = divide(total * MIB, chosen);
        (requests / MIB, models / MIB)
    }

    #[test]
    fn the_table_of_the_manual_is_true() {
        // docs/guides/sizing.md
        assert_eq!(divided(256, None, None), (128, 64));
        assert_eq!(divided(512, None, None), (256, 192));
        assert_eq!(divided(1024, None, None), (320, 640));
        assert_eq!(divided(2048, None, None), (409, 1510));
        assert_eq!(divided(4096, None, None), (819, 3020));
        assert_eq!(divided(16 << 10, None, None), (3276, 12_851));
    }

    #[test]
    fn what_is_chosen_for_one_is_taken_from_the_other() {
        assert_eq!(divided(1024, Some(64), None), (64, 896));
        assert_eq!(divided(1024, None, Some(800)), (160, 800));
        assert_eq!(divided(1024, Some(64), Some(900)), (64, 900));
        // More than there is: each keeps a little.
        assert_eq!(divided(1024, None, Some(4000)), (64, 4000));
        assert_eq!(divided(1024, Some(4000), None), (4000, 64));
    }

    #[test]
    fn a_request_of_the_largest_body_fits_a_gibibyte_and_all_together_fit_every_machine() {
        let (requests, _) = divided(1024, None, None);
        assert!(requests >= 4 * 64);
        for total in (128..20_000).step_by(7) {
            let (requests, models) = divided(total, None, None);
            assert!(requests > 0 && models > 0, "{total}");
            assert!(requests + models <= total, "{total}");
        }
    }
}
