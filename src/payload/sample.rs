//! Which requests are kept: decided by a hash of the request's id, so that every replica, and every part that samples, decides
//! alike.

use smallvec::SmallVec;
use twox_hash::XxHash3_64;

/// What keeps this number apart from the one that splits traffic.
const PURPOSE: &[u8] = b"sample";

/// Ids up to this length, with the model's name, need no memory of their own.
const SHORT: usize = 256;

/// A number from 0 to below 1 that depends on the model and the request's id only. A request is kept where it is less than the
/// fraction.
pub fn sample_number(model: &str, request_id: &str) -> f64 {
    let mut text: SmallVec<[u8; SHORT]> = SmallVec::new();
    for part in [PURPOSE, model.as_bytes(), request_id.as_bytes()] {
        text.extend_from_slice(part);
        text.push(0);
    }
    // The upper 53 bits: as many as a double holds.
    let bits = XxHash3_64::oneshot(&text) >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_request_always_has_the_same_number() {
        assert_eq!(sample_number("iris", "a"), sample_number("iris", "a"));
        assert_ne!(sample_number("iris", "a"), sample_number("iris", "b"));
        assert_ne!(sample_number("iris", "a"), sample_number("wine", "a"));
        // No id can be moved into the name of a model.
        assert_ne!(sample_number("ab", "c"), sample_number("a", "bc"));
    }

    #[test]
    fn numbers_are_spread_evenly() {
        let count = 100_000;
        let mut bins = [0_u32; 10];
        for request in 0..count {
            let number = sample_number("iris", &format!("request-{request}"));
            assert!((0.0..1.0).contains(&number));
            bins[(number * 10.0) as usize] += 1;
        }
        // Of a fair die each bin is within 5 standard deviations (95) of 10,000.
        for bin in bins {
            assert!((9_525..=10_475).contains(&bin), "{bins:?}");
        }
    }
}
