//! Which of two versions answers a request: a pure function, alike on all replicas.

use smallvec::SmallVec;
use twox_hash::XxHash3_64;

/// The places that keys fall into: a hundredth of a per cent each.
const PLACES: u64 = 10_000;

/// Whether the challenger of a rollout answers the requests with this key, at a weight of so many per cent.
///
/// Who meets the challenger at one weight does so at every greater one. The rollout is part of the hash, so that not the same
/// users come first each time; what is sampled for a log is decided by another hash, or a log of 20 % would hold 25 % of the
/// challenger's answers at a weight of 5 %.
pub fn meets_challenger(rollout: &str, key: &[u8], percent: u8) -> bool {
    place(rollout, key) < u64::from(percent) * (PLACES / 100)
}

fn place(rollout: &str, key: &[u8]) -> u64 {
    // An identifier has no control characters, so the two cannot run into each other.
    let mut input = SmallVec::<[u8; 256]>::from_slice(rollout.as_bytes());
    input.push(0);
    input.extend_from_slice(key);
    XxHash3_64::oneshot(&input) % PLACES
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLLOUT: &str = "fraud-12-over-11";
    const KEYS: usize = 20_000;

    fn keys() -> Vec<String> {
        (0..KEYS).map(|number| format!("user-{number}")).collect()
    }

    fn challengers(rollout: &str, keys: &[String], percent: u8) -> usize {
        let mut keys = keys.iter().map(String::as_bytes);
        keys.by_ref()
            .filter(|key| meets_challenger(rollout, key, percent))
            .count()
    }

    #[test]
    fn keys_fall_where_another_implementation_of_the_hash_puts_them() {
        // `xxhash.xxh3_64_intdigest(rollout + b"\0" + key) % 10_000` of the Python package xxhash 4.1.0.
        for (rollout, key, expected) in [
            (ROLLOUT, "user-1", 825),
            (ROLLOUT, "user-2", 91),
            ("fraud-13-over-11", "user-1", 4457),
            (ROLLOUT, "", 9839),
            (ROLLOUT, &"ü".repeat(100), 2076),
        ] {
            assert_eq!(place(rollout, key.as_bytes()), expected, "{rollout} {key}");
        }
    }

    #[test]
    fn the_share_of_many_keys_is_the_weight() {
        let keys = keys();
        // `scipy.stats.binom.interval(0.999, 20_000, weight)`.
        for (percent, least, most) in [
            (1, 155, 248),
            (5, 900, 1_103),
            (25, 4_799, 5_202),
            (50, 9_767, 10_233),
        ] {
            let share = challengers(ROLLOUT, &keys, percent);
            assert!((least..=most).contains(&share), "{share} at {percent} %");
        }
        assert_eq!(challengers(ROLLOUT, &keys, 0), 0);
        assert_eq!(challengers(ROLLOUT, &keys, 100), KEYS);
    }

    #[test]
    fn nobody_goes_back_while_the_weight_rises() {
        for key in &keys()[..1_000] {
            let met = |percent| meets_challenger(ROLLOUT, key.as_bytes(), percent);
            let first = (0..=100).find(|percent| met(*percent)).unwrap();
            assert!((first..=100).all(met), "{key} from {first} % on");
        }
    }

    #[test]
    fn another_rollout_begins_with_other_users() {
        let keys = keys();
        let both = keys.iter().filter(|key| {
            let met = |rollout| meets_challenger(rollout, key.as_bytes(), 5);
            met(ROLLOUT) && met("fraud-13-over-11")
        });
        let both = both.count();
        assert!(
            (30..=75).contains(&both),
            "{both} of 20,000, and chance alone makes 50"
        );
    }

    #[test]
    fn a_sampled_log_holds_as_many_of_the_challengers_answers_as_it_gives() {
        let sampled = |key: &String| {
            let input = ["sample\0fraud\0", key].concat();
            XxHash3_64::oneshot(input.as_bytes()) % PLACES < 2_000
        };
        let log: Vec<String> = keys().into_iter().filter(sampled).collect();
        let share = challengers(ROLLOUT, &log, 5) as f64 / log.len() as f64;
        assert!(
            (0.039..=0.062).contains(&share),
            "{share}, and one hash for both makes 0.25"
        );
    }
}
