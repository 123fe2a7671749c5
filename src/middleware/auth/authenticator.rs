//! Finds out who sends a request.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::extract::Request;
use axum::http::{Extensions, HeaderMap, HeaderValue};
use jiff::Timestamp;
use subtle::ConstantTimeEq;

use super::credentials::Credential;
use super::{Caller, Callers, Grant, Identity, Peer, Tokens, Unknown, digest};

/// See the module. Cheap to clone; clones share what they know.
#[derive(Debug, Clone)]
pub struct Authenticator {
    callers: Arc<ArcSwap<Callers>>,
    tokens: Option<Arc<Tokens>>,
    operator: Option<Operator>,
}

/// Who holds the token of the management API.
#[derive(Clone)]
struct Operator {
    digest: [u8; 32],
    identity: Arc<Identity>,
}

impl std::fmt::Debug for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Operator(…)")
    }
}

impl Authenticator {
    /// Knows these callers, and whoever bears a token.
    pub fn new(callers: Callers, tokens: Option<Arc<Tokens>>) -> Self {
        Self {
            callers: Arc::new(ArcSwap::from_pointee(callers)),
            tokens,
            operator: None,
        }
    }

    /// Knows the holder of the token of the management API as well.
    #[must_use]
    pub fn with_operator(self, token: &str) -> Self {
        let operator = Some(Operator {
            digest: digest(token.as_bytes()),
            identity: Arc::new(Identity::new("operator", vec![Grant::all()])),
        });
        Self { operator, ..self }
    }

    /// Knows these callers from here on.
    pub fn replace(&self, callers: Callers) {
        self.callers.store(Arc::new(callers));
    }

    /// Says in the request who sent it.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn identify(&self, request: &mut Request, request_id: &HeaderValue) {
        // Not the request: its body cannot be looked at from two threads.
        let who = self.who(request.headers(), request.extensions()).await;
        let caller = Caller {
            who,
            request_id: request_id.clone(),
        };
        request.extensions_mut().insert(caller);
    }

    async fn who(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<Arc<Identity>, Unknown> {
        let now = Timestamp::now();
        match Credential::from_headers(headers) {
            Credential::Key(key) => match self.by_key(key, now) {
                Some(found) => found,
                None => Err(Unknown::Key),
            },
            Credential::Bearer(token) => match (self.by_key(token, now), &self.tokens) {
                (Some(found), _) => found,
                (None, Some(tokens)) => {
                    tokens.identify(token, &self.callers.load_full(), now).await
                }
                (None, None) => Err(Unknown::Key),
            },
            Credential::Unclear => Err(Unknown::Token(
                "there is more than one credential, or it is too long",
            )),
            Credential::None => match extensions.get::<Arc<Peer>>() {
                Some(peer) => {
                    let found = self.callers.load().by_certificate(&peer.names, now);
                    found.ok_or(Unknown::Certificate)
                }
                None => Err(Unknown::Missing),
            },
        }
    }

    fn by_key(&self, key: &[u8], now: Timestamp) -> Option<Result<Arc<Identity>, Unknown>> {
        if let Some(operator) = &self.operator
            && operator.digest.ct_eq(&digest(key)).into()
        {
            return Some(Ok(Arc::clone(&operator.identity)));
        }
        self.callers.load().by_key(key, now)
    }
}
