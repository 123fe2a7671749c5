//! What the log sees of requests: it looks at those that it keeps, after they were answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use bytes::Bytes;

use super::bodies::LONGEST;
use super::layout::Plan;
use super::log::{PayloadLog, Tray};
use super::record::{Record, Role, Seen};
use super::sample::sample_number;
use crate::error::ErrorKind;
use crate::model::{ModelId, Pointer, Signature};
use crate::serving::{Arrival, Observable, Observed, Observer, Observers};

/// The log of one version.
#[derive(Debug)]
struct VersionLog {
    tray: Tray,
    id: ModelId,
    signature: Signature,
    plan: Arc<Plan>,
    is_enabled: Arc<AtomicBool>,
}

impl Observers for PayloadLog {
    fn observer(&self, version: &Observable<'_>) -> Option<Arc<dyn Observer>> {
        let id = version.package.id.clone();
        self.tray.tally.begin(&id.name);
        Some(Arc::new(VersionLog {
            tray: self.tray.clone(),
            signature: version.signature.clone(),
            plan: Arc::new(Plan::new(version.package, &self.tray.options.columns)),
            is_enabled: self.switch(&id.name),
            id,
        }))
    }
}

impl VersionLog {
    /// The body of a request that failed, in memory of its own: it may be a part of something larger.
    fn body(&self, seen: &Observed) -> Option<Bytes> {
        if !self.tray.options.errors || seen.failure.is_none() {
            return None;
        }
        let body = seen.context.raw.as_ref()?.body()?;
        (body.len() <= LONGEST).then(|| Bytes::copy_from_slice(&body))
    }
}

impl Observer for VersionLog {
    fn wants(&self, arrival: &Arrival<'_>) -> Option<f64> {
        if arrival.is_private || !self.is_enabled.load(Ordering::Relaxed) {
            return None;
        }
        let fraction = self.tray.options.fraction;
        // What keeps everything need not look at ids.
        let is_kept =
            fraction >= 1.0 || sample_number(self.id.name.as_str(), arrival.id.as_str()) < fraction;
        is_kept.then_some(fraction)
    }

    fn observe(&self, seen: Arc<Observed>, share: f64) {
        let answer = seen.inputs.as_ref().zip(seen.outputs.as_ref());
        let tensors = self.tray.options.columns.tensors;
        let answer = answer.filter(|_| seen.failure.is_none());
        let kept = answer
            .map(|(inputs, outputs)| Seen::capture(&self.signature, inputs, outputs, tensors));
        if kept.as_ref().is_some_and(|kept| kept.rows == 0) {
            return;
        }
        let now = SystemTime::now();
        let raw = seen.context.raw.as_ref();
        self.tray.offer(Record {
            request_id: seen.id.as_str().to_owned(),
            time: now.checked_sub(seen.took).unwrap_or(now),
            model: self.id.clone(),
            alias: seen.pointer.as_ref().map(alias),
            role: Role::Serving,
            status: seen.failure.map_or(200, ErrorKind::http_status),
            error_code: seen.failure.map(code),
            duration: seen.took,
            caller: seen.context.name.clone(),
            headers: raw.map_or_else(Vec::new, |raw| raw.headers.clone()),
            fraction: share,
            body: self.body(&seen),
            plan: Arc::clone(&self.plan),
            seen: kept,
        });
    }
}

/// The value of `_alias`: the alias or stage by itself.
fn alias(pointer: &Pointer) -> String {
    match pointer {
        Pointer::Alias(alias) => alias.as_str().to_owned(),
        Pointer::Stage(stage) => stage.as_str().to_owned(),
    }
}

/// The value of `_error_code`.
fn code(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidArgument => "invalid_argument",
        ErrorKind::TooLarge => "too_large",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::Unauthenticated => "unauthenticated",
        ErrorKind::PermissionDenied => "permission_denied",
        ErrorKind::NotFound => "not_found",
        ErrorKind::Conflict => "conflict",
        ErrorKind::Overloaded => "overloaded",
        ErrorKind::NotReady => "not_ready",
        ErrorKind::DeadlineExceeded => "deadline_exceeded",
        ErrorKind::Cancelled => "cancelled",
        ErrorKind::NotImplemented => "not_implemented",
        ErrorKind::OutOfMemory => "out_of_memory",
        ErrorKind::Internal => "internal",
    }
}
