//! Who asks, and whether they may: API keys, tokens of an identity provider (JWT), certificates of clients.
//!
//! Two steps, so that neither can be passed by another spelling of a path. In front of everything, for HTTP and gRPC
//! alike, a request gets a [`Caller`]: known or not, never refused. Behind the router, where the route and the model in
//! it are certain, the protocol asks the [`Guard`] for what the route table declares.
//!
//! ```text
//! request ─► Authenticator ─► Caller ─► router ─► route (its Access) ─► Guard ─► handler
//!              │   │   │                                                  └─► audit log, metric
//!           keys  JWT  certificate ──► callers file: name, scopes, patterns of models
//! ```
//!
//! Without callers none of this is there: no step, no memory.

mod authenticator;
mod callers;
mod credentials;
mod grant;
mod guard;
mod jwt;
mod key;
mod pattern;
mod peer;

use std::sync::Arc;

use axum::http::HeaderValue;

pub use self::authenticator::Authenticator;
pub use self::callers::{CallerLine, Callers, CallersError, LineError};
pub use self::grant::{Grant, Identity, On, Scope, UnknownScope};
pub use self::guard::{Guard, Refusal};
pub use self::jwt::{
    KeySetError, KeySource, KeySourceError, RefreshError, TokenAlgorithm, TokenOptions, Tokens,
    UnknownAlgorithm,
};
pub use self::key::{ApiKey, NoRandomness, digest};
pub use self::pattern::{Pattern, PatternError};
pub use self::peer::Peer;

/// Who sent a request, as far as that is known; with authentication, an extension of every request.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The caller, or why authentication failed.
    pub who: Result<Arc<Identity>, Unknown>,
    /// The id of the request, for the audit log.
    pub request_id: HeaderValue,
}

impl Caller {
    /// The name for the audit log.
    pub fn name(&self) -> &str {
        self.who.as_ref().map_or("-", |identity| &identity.name)
    }

    /// Who vouches for the name, for the audit log.
    pub fn issuer(&self) -> &str {
        self.who.as_ref().map_or("-", |identity| &identity.issuer)
    }
}

/// Why authentication failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// There is no credential.
    Missing,
    /// No such API key.
    Key,
    /// No token that is taken here; what is wrong with it.
    Token(&'static str),
    /// The key or token was good once.
    Expired,
    /// The client certificate is valid, but no line of the file of callers matches it.
    Certificate,
}

impl Unknown {
    /// The `reason` label of `onstage_auth_refusals_total`.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Key => "unknown_key",
            Self::Token(_) => "invalid_token",
            Self::Expired => "expired_token",
            Self::Certificate => "unknown_certificate",
        }
    }
}
