//! The places of connections: how many there are, how many one client may have, and who leaves when they are short.
//!
//! A connection on which nothing happens, or nothing but public streams, makes room for one that comes; those of whoever
//! has the most of them go first. Whoever has proved who they are keeps their connections.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::Activity;
use crate::server::listen::ConnectionSlot;
use crate::telemetry::Metrics;

/// A connection that came or was in use a moment ago is not idle.
const MOMENT: Duration = Duration::from_secs(1);

/// How many there are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Most {
    /// Of all clients.
    pub(crate) all: usize,
    /// Of one client.
    pub(crate) of_client: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Places {
    most: Most,
    taken: Mutex<Taken>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    connections: HashMap<u64, Connection>,
    of_client: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Connection {
    client: Option<IpAddr>,
    activity: Arc<Activity>,
}

/// A place that is taken for as long as this lives.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    _seat: Option<ConnectionSlot>,
}

impl Places {
    pub(super) fn new(most: Most, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            most,
            taken: Mutex::default(),
            metrics,
        })
    }

    /// A place for a connection; `None` when there is none, and nobody to leave.
    pub(super) fn take(
        self: &Arc<Self>,
        client: Option<IpAddr>,
        activity: &Arc<Activity>,
        slot: Option<ConnectionSlot>,
    ) -> Option<Place> {
        let mut taken = self.taken.lock();
        let own = client.and_then(|client| taken.of_client.get(&client).copied());
        let has_room = if own.unwrap_or_default() >= self.most.of_client {
            taken.make_room(|connection| connection.client == client)
        } else if taken.connections.len() >= self.most.all {
            taken.make_room(|_| true)
        } else {
            true
        };
        if !has_room {
            self.metrics.connection_refused();
            return None;
        }
        let number = taken.next;
        taken.next += 1;
        let activity = Arc::clone(activity);
        taken
            .connections
            .insert(number, Connection { client, activity });
        if let Some(client) = client {
            *taken.of_client.entry(client).or_default() += 1;
        }
        self.metrics.connections(1);
        Some(Place {
            places: Arc::clone(self),
            number,
            _seat: slot,
        })
    }
}

impl Taken {
    /// Ends one of these connections that is idle; false when none is.
    fn make_room(&mut self, may_leave: impl Fn(&Connection) -> bool) -> bool {
        let now = Instant::now();
        let idle = self.connections.iter().filter_map(|(number, connection)| {
            let since = connection.activity.idle_since()?;
            let leaves = may_leave(connection) && since + MOMENT <= now;
            let client = connection.client.as_ref();
            let crowd = client.and_then(|client| self.of_client.get(client));
            leaves.then_some((*number, crowd.copied().unwrap_or_default(), since))
        });
        let longest = |one: &(u64, usize, Instant), other: &(u64, usize, Instant)| {
            let first = (other.2, other.0).cmp(&(one.2, one.0));
            one.1.cmp(&other.1).then(first)
        };
        let Some((number, ..)) = idle.max_by(longest) else {
            return false;
        };
        if let Some(gone) = self.remove(number) {
            gone.activity.evict();
        }
        true
    }

    fn remove(&mut self, number: u64) -> Option<Connection> {
        let connection = self.connections.remove(&number)?;
        if let Some(client) = connection.client
            && let Some(count) = self.of_client.get_mut(&client)
        {
            *count -= 1;
            if *count == 0 {
                self.of_client.remove(&client);
            }
        }
        Some(connection)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // One that had to leave is not there any more.
        self.places.taken.lock().remove(self.number);
        self.places.metrics.connections(-1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::DURATION_BUCKETS;

    fn places(all: usize, of_client: usize) -> Arc<Places> {
        let metrics = Arc::new(Metrics::new(&DURATION_BUCKETS));
        Places::new(Most { all, of_client }, metrics)
    }

    fn client(last: u8) -> Option<IpAddr> {
        Some([10, 0, 0, last].into())
    }

    struct Come {
        places: Arc<Places>,
        activity: Arc<Activity>,
        place: Option<Place>,
    }

    fn come(places: &Arc<Places>, last: u8) -> Come {
        let activity = Arc::new(Activity::new(None));
        let place = places.take(client(last), &activity, None);
        Come {
            places: Arc::clone(places),
            activity,
            place,
        }
    }

    impl Come {
        fn left(&self) -> bool {
            self.place.is_none() || self.activity.is_evicted()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_idle_connection_of_whoever_has_the_most_leaves_first() {
        let places = places(4, 10);
        let alone = come(&places, 1);
        tokio::time::advance(MOMENT).await;
        let many: Vec<Come> = (0..3).map(|_| come(&places, 2)).collect();
        // Those came just now, and the one that did not is idle.
        let newcomer = come(&places, 3);
        assert!(alone.left() && !newcomer.left());
        tokio::time::advance(MOMENT * 2).await;
        let another = come(&places, 4);
        assert!(!another.left() && !newcomer.left());
        let left: Vec<bool> = many.iter().map(Come::left).collect();
        assert_eq!(left, [true, false, false], "the one that came first");
        drop((alone, many));
        assert_eq!(places.taken.lock().connections.len(), 2);
        assert_eq!(places.taken.lock().of_client.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_works_or_is_known_stays_and_public_streams_are_no_work() {
        let places = places(3, 10);
        let works = come(&places, 1);
        works.activity.begin(false);
        let known = come(&places, 2);
        known.activity.known();
        let watches = come(&places, 3);
        watches.activity.begin(true);
        tokio::time::advance(MOMENT * 2).await;
        assert!(!come(&places, 4).left());
        assert!(watches.left() && !works.left() && !known.left());
        let last = come(&places, 5);
        tokio::time::advance(MOMENT * 2).await;
        assert!(!last.left());
        last.activity.begin(false);
        assert!(come(&places, 6).left(), "nobody has to leave");
        assert_eq!(last.places.taken.lock().connections.len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_with_as_many_as_it_may_have_loses_one_of_its_own() {
        let places = places(10, 2);
        let mine: Vec<Come> = (0..2).map(|_| come(&places, 1)).collect();
        let other = come(&places, 2);
        assert!(come(&places, 1).left());
        tokio::time::advance(MOMENT * 2).await;
        assert!(!come(&places, 1).left());
        assert!(mine[0].left() && !mine[1].left() && !other.left());
    }
}
