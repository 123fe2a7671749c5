//! Which replica takes steps. For a moment two may believe that they do, which does no harm: each writes the step after the
//! one that it read.

use std::time::Duration;

use super::moment::Moment;
use super::tags::Lease;

impl Lease {
    /// Whether `replica` may take steps.
    pub fn is_held_by(&self, replica: &str, now: Moment) -> bool {
        self.holder == replica && self.until > now
    }

    /// The lease that `replica` should write after it read `seen`, if any. It holds it once it has read it back.
    pub fn claim(
        seen: Option<&Self>,
        replica: &str,
        now: Moment,
        length: Duration,
    ) -> Option<Self> {
        let due = match seen {
            None => true,
            Some(own) if own.holder == replica => own.until <= now.after(length / 2),
            // A clock that is years ahead must not stop the fleet.
            Some(other) => other.until <= now || other.until > now.after(length * 4),
        };
        due.then(|| Self {
            holder: replica.to_owned(),
            until: now.after(length),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> Moment {
        Moment::from_millis(1_796_119_200_000 + seconds * 1000)
    }

    #[test]
    fn a_lease_is_taken_renewed_at_half_time_and_left_to_its_holder() {
        let own = Lease::claim(None, "a:1", at(0), LENGTH).unwrap();
        assert!(own.is_held_by("a:1", at(29)) && !own.is_held_by("a:1", at(30)));
        assert!(!own.is_held_by("b:1", at(0)));
        let claim = |replica, seconds| Lease::claim(Some(&own), replica, at(seconds), LENGTH);
        assert_eq!(claim("a:1", 14), None);
        assert_eq!(claim("a:1", 15).unwrap().until, at(45));
        assert_eq!(claim("b:1", 29), None);
        assert_eq!(claim("b:1", 30).unwrap().holder, "b:1");
    }

    #[test]
    fn a_lease_from_a_clock_that_is_far_ahead_is_taken_over() {
        let lease = Lease {
            holder: "a:1".to_owned(),
            until: at(100_000),
        };
        assert!(Lease::claim(Some(&lease), "b:1", at(0), LENGTH).is_some());
    }
}
