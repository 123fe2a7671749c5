//! What requests and clients may take, by the settings.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::Settings;
use crate::middleware::{ClientLimits, Clients, RequestLimits, Streams};
use crate::telemetry::Metrics;

/// The limits of the listeners.
pub(crate) fn request_limits(settings: &Settings, metrics: Arc<Metrics>) -> RequestLimits {
    let limits = &settings.limits;
    let clients = ClientLimits {
        rate: limits.client_rate.and_then(NonZeroU32::new),
        burst: limits.client_burst.and_then(NonZeroU32::new),
        concurrency: limits.client_concurrency,
    };
    RequestLimits {
        headers: limits.max_headers,
        header_bytes: usize::try_from(limits.max_header_size).unwrap_or(usize::MAX),
        streams: Some(Streams::new(limits.client_streams, Arc::clone(&metrics))),
        clients: Clients::new(clients, metrics).map(Arc::new),
    }
}
