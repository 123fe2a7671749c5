//! Decides whether a caller may do what it asks for, and keeps the record of refusals.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use governor::clock::DefaultClock;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use super::{Caller, On, Scope, Unknown};
use crate::error::ErrorKind;
use crate::telemetry::{Metrics, short};

/// Lines of refusals in a second; more are counted. A stranger must not fill a disk.
const LINES: NonZeroU32 = NonZeroU32::new(10).expect("ten is not zero");

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Guard(Arc<Record>);

struct Record {
    metrics: Arc<Metrics>,
    lines: RateLimiter<NotKeyed, InMemoryState, DefaultClock>,
    /// Refusals without a line since the last one.
    untold: AtomicU64,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Guard")
    }
}

/// The answer to a request that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// [`ErrorKind::Unauthenticated`] or [`ErrorKind::PermissionDenied`].
    pub kind: ErrorKind,
    /// For the caller.
    pub message: String,
    /// The value of `WWW-Authenticate`.
    pub challenge: &'static str,
}

impl Guard {
    /// Counts refusals in these metrics.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Record {
            metrics,
            lines: RateLimiter::direct(Quota::per_second(LINES)),
            untold: AtomicU64::new(0),
        }))
    }

    /// Whether anybody at all may be told more than that it is refused. A request without a caller is a stranger's.
    ///
    /// # Errors
    /// The answer to a stranger.
    pub fn know<'a>(&self, caller: Option<&'a Caller>, path: &str) -> Result<&'a Caller, Refusal> {
        let unknown = match caller.map(|caller| (caller, &caller.who)) {
            Some((caller, Ok(_))) => return Ok(caller),
            Some((_, Err(unknown))) => *unknown,
            None => Unknown::Missing,
        };
        if self.counts(unknown.reason()) {
            let untold = self.0.untold.swap(0, Ordering::Relaxed);
            tracing::warn!(
                target: "onstage::audit",
                path = short(path),
                reason = unknown.reason(),
                request_id = request_id(caller),
                untold,
                "a request of a stranger was refused"
            );
        }
        Err(Refusal::of_stranger(unknown))
    }

    /// Whether a caller may do this. The answer is the same whether there is such a model or not.
    ///
    /// # Errors
    /// The answer to a caller that may not.
    pub fn check(
        &self,
        caller: Option<&Caller>,
        scope: Scope,
        on: On<'_>,
        path: &str,
    ) -> Result<(), Refusal> {
        let caller = self.know(caller, path)?;
        let is_allowed = caller.who.as_ref().is_ok_and(|who| who.may(scope, on));
        if is_allowed {
            return Ok(());
        }
        if self.counts("permission") {
            let untold = self.0.untold.swap(0, Ordering::Relaxed);
            let model = match on {
                On::Model(name) | On::Default(name) => name,
                On::EveryModel => "*",
                On::Server => "-",
            };
            tracing::warn!(
                target: "onstage::audit",
                caller = caller.name(),
                issuer = caller.issuer(),
                scope = scope.name(),
                model = short(model),
                path = short(path),
                request_id = request_id(Some(caller)),
                untold,
                "a request was refused: the caller may not do this"
            );
        }
        Err(Refusal::of_known(caller.name(), scope, on))
    }

    /// Counts a refusal; whether there is room for its line.
    fn counts(&self, reason: &'static str) -> bool {
        self.0.metrics.auth_refused(reason);
        let has_room = self.0.lines.check().is_ok();
        if !has_room {
            self.0.untold.fetch_add(1, Ordering::Relaxed);
        }
        has_room
    }
}

fn request_id(caller: Option<&Caller>) -> &str {
    let id = caller.and_then(|caller| caller.request_id.to_str().ok());
    id.unwrap_or("-")
}

impl Refusal {
    fn of_stranger(unknown: Unknown) -> Self {
        let message = match unknown {
            Unknown::Missing => {
                "authentication required: send `Authorization: Bearer` with an API key or a token, or `X-API-Key`"
                    .to_owned()
            }
            Unknown::Key => "the API key is not known".to_owned(),
            Unknown::Token(what) => format!("the token is refused: {what}"),
            Unknown::Expired => "the API key or token has expired".to_owned(),
            Unknown::Certificate => {
                "the client's certificate stands for no caller of this server".to_owned()
            }
        };
        let challenge = match unknown {
            Unknown::Missing | Unknown::Certificate => r#"Bearer realm="onstage""#,
            Unknown::Key | Unknown::Token(_) | Unknown::Expired => {
                r#"Bearer realm="onstage", error="invalid_token""#
            }
        };
        Self {
            kind: ErrorKind::Unauthenticated,
            message,
            challenge,
        }
    }

    fn of_known(name: &str, scope: Scope, on: On<'_>) -> Self {
        let what = match on {
            On::Model(model) => format!(" on model `{}`", short(model)),
            On::Default(_) => " on the default model".to_owned(),
            On::EveryModel => " on all models".to_owned(),
            On::Server => String::new(),
        };
        Self {
            kind: ErrorKind::PermissionDenied,
            message: format!("caller `{name}` has no scope `{scope}`{what}"),
            challenge: r#"Bearer realm="onstage", error="insufficient_scope""#,
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::middleware::auth::{Grant, Identity};
    use crate::telemetry::DURATION_BUCKETS;

    fn caller(who: Result<Identity, Unknown>) -> Caller {
        Caller {
            who: who.map(Arc::new),
            request_id: HeaderValue::from_static("id"),
        }
    }

    #[test]
    fn strangers_and_callers_without_the_scope_are_refused_and_counted() {
        let metrics = Arc::new(Metrics::new(&DURATION_BUCKETS));
        let guard = Guard::new(Arc::clone(&metrics));
        let check = |caller: Option<&Caller>| {
            let on = On::Model("iris");
            guard
                .check(caller, Scope::Predict, on, "/")
                .map_err(|refusal| refusal.kind)
        };
        assert_eq!(check(None), Err(ErrorKind::Unauthenticated));
        for unknown in [
            Unknown::Missing,
            Unknown::Key,
            Unknown::Expired,
            Unknown::Token("x"),
        ] {
            let stranger = caller(Err(unknown));
            assert_eq!(check(Some(&stranger)), Err(ErrorKind::Unauthenticated));
        }
        let nobody = caller(Ok(Identity::new("a", Vec::new())));
        assert_eq!(check(Some(&nobody)), Err(ErrorKind::PermissionDenied));
        let all = caller(Ok(Identity::new("a", vec![Grant::all()])));
        assert_eq!(check(Some(&all)), Ok(()));
        let text = metrics.render();
        for count in [
            "{reason=\"missing\"} 2",
            "{reason=\"unknown_key\"} 1",
            "{reason=\"invalid_token\"} 1",
            "{reason=\"expired_token\"} 1",
            "{reason=\"permission\"} 1",
        ] {
            assert!(
                text.contains(&format!("onstage_auth_refusals_total{count}")),
                "{count}"
            );
        }
    }

    #[test]
    fn a_refusal_does_not_name_the_model_that_the_caller_did_not_name() {
        let guard = Guard::new(Arc::new(Metrics::new(&DURATION_BUCKETS)));
        let nobody = caller(Ok(Identity::new("a", Vec::new())));
        let refused = |on| {
            guard
                .check(Some(&nobody), Scope::Predict, on, "/")
                .unwrap_err()
        };
        assert!(refused(On::Model("secret")).message.contains("secret"));
        assert!(!refused(On::Default("secret")).message.contains("secret"));
    }

    #[test]
    fn lines_are_few_and_the_rest_is_counted() {
        let guard = Guard::new(Arc::new(Metrics::new(&DURATION_BUCKETS)));
        for _ in 0..1000 {
            let _ = guard.know(None, "/");
        }
        assert!(guard.0.untold.load(Ordering::Relaxed) > 900);
    }
}
