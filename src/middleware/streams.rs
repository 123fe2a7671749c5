//! How many streams one client may keep open. Each holds a place on its connection for as long as the client likes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http_body_util::BodyExt as _;
use parking_lot::Mutex;

use super::clients::{Key, TooMuch};
use crate::telemetry::Metrics;

/// The methods that clients keep open.
const STREAMS: [&str; 4] = [
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/inference.GRPCInferenceService/ModelStreamInfer",
];

/// The streams of all clients; cheap to clone.
#[derive(Debug, Clone)]
pub struct Streams(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    most: usize,
    open: Mutex<HashMap<Key, usize>>,
    metrics: Arc<Metrics>,
}

/// A stream that is open for as long as this lives.
#[derive(Debug)]
pub(super) struct Open {
    counts: Arc<Counts>,
    key: Key,
}

/// Whether a path is that of a stream.
pub(super) fn is_stream(path: &str) -> bool {
    STREAMS.contains(&path)
}

impl Streams {
    /// At most so many of each client.
    pub fn new(most: usize, metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Counts {
            most,
            open: Mutex::default(),
            metrics,
        }))
    }

    /// Lets a client open a stream; `None` for what is no stream.
    pub(super) fn open(&self, request: &Request) -> Result<Option<Open>, TooMuch> {
        if !is_stream(request.uri().path()) {
            return Ok(None);
        }
        let Some(key) = Key::from_extensions(request.extensions()) else {
            return Ok(None);
        };
        let mut open = self.0.open.lock();
        let count = open.entry(key.clone()).or_default();
        if *count >= self.0.most {
            self.0.metrics.client_refused("client_streams");
            let message = "more streams at a time than `limits.client_streams`";
            return Err(TooMuch::new(message, Duration::ZERO));
        }
        *count += 1;
        let counts = Arc::clone(&self.0);
        Ok(Some(Open { counts, key }))
    }
}

impl Open {
    /// Keeps the stream open until its answer ends.
    pub(super) fn until_end(self, response: Response) -> Response {
        response.map(|body| {
            Body::new(body.map_frame(move |frame| {
                let _open = &self;
                frame
            }))
        })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut open = self.counts.open.lock();
        if let Some(count) = open.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::middleware::{ClientAddress, ClientName};
    use crate::telemetry::DURATION_BUCKETS;

    fn request(path: &str, last: u8, name: Option<&str>) -> Request {
        let mut request = Request::builder().uri(path).body(Body::empty()).unwrap();
        let extensions = request.extensions_mut();
        extensions.insert(ClientAddress(([10, 0, 0, last], 1).into()));
        if let Some(name) = name {
            extensions.insert(ClientName(name.into()));
        }
        request
    }

    #[test]
    fn a_client_keeps_as_many_streams_as_it_may_and_other_requests_are_not_counted() {
        let streams = Streams::new(2, Arc::new(Metrics::new(&DURATION_BUCKETS)));
        let open = |path: &str, last, name| streams.open(&request(path, last, name));
        let first = open(STREAMS[0], 1, None).unwrap().unwrap();
        let _second = open(STREAMS[3], 1, None).unwrap().unwrap();
        assert!(open(STREAMS[1], 1, None).is_err());
        assert!(
            open("/grpc.health.v1.Health/Check", 1, None)
                .unwrap()
                .is_none()
        );
        // Another address, and a name at the same address.
        let _other = open(STREAMS[0], 2, None).unwrap().unwrap();
        let _named = open(STREAMS[0], 1, Some("ci")).unwrap().unwrap();
        let response = first.until_end(Response::new(Body::empty()));
        assert!(open(STREAMS[0], 1, None).is_err(), "it goes on");
        drop(response);
        let _third = open(STREAMS[0], 1, None).unwrap().unwrap();
        drop((_second, _other, _named, _third));
        assert!(streams.0.open.lock().is_empty());
    }
}
