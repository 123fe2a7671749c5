//! Tokens of an identity provider: JSON Web Tokens, signed with a key of its set (JWKS).
//!
//! ```text
//! token ─► parts (header, claims) ─► claims (issuer, audience, times) ─► key by `kid` ─► signature ─► caller
//!                                                                          │ unknown
//!                                                                          └─► one look at the set, now and then
//! ```
//!
//! A token that was good once is remembered by its digest until the keys change; its times are looked at each time.

mod algorithm;
mod claims;
mod error;
mod key_set;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use governor::clock::DefaultClock;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use jiff::Timestamp;
use parking_lot::Mutex;

pub use self::algorithm::{TokenAlgorithm, UnknownAlgorithm};
use self::claims::Claims;
pub use self::error::{KeySourceError, RefreshError};
pub use self::key_set::KeySetError;
use self::key_set::{Key, KeySet};
use super::{Callers, Identity, Unknown, digest};

/// Tokens that are remembered; they come from the provider, so that no stranger can fill this.
const REMEMBERED: usize = 4096;

/// An unknown key is a reason to look at the set again, but strangers make them up as well.
const LOOKS_EVERY: Duration = Duration::from_secs(5);

/// Which tokens are taken.
#[derive(Debug, Clone)]
pub struct TokenOptions {
    /// Who must have made them.
    pub issuer: String,
    /// For whom: one of these.
    pub audience: Vec<String>,
    /// How they may be signed.
    pub algorithms: Vec<TokenAlgorithm>,
    /// By how much clocks may differ.
    pub leeway: Duration,
}

/// Where the keys are.
#[async_trait]
pub trait KeySource: Send + Sync {
    /// The set of keys as it is now, in bounded time.
    ///
    /// # Errors
    /// Why there is none, without secrets.
    async fn fetch(&self) -> Result<Vec<u8>, KeySourceError>;
}

/// Checks tokens.
pub struct Tokens {
    options: TokenOptions,
    source: Box<dyn KeySource>,
    keys: ArcSwap<Known>,
    /// One look at a time; the others wait for its end.
    looking: tokio::sync::Mutex<()>,
    looks: RateLimiter<NotKeyed, InMemoryState, DefaultClock>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

/// A set of keys, and tokens that it has proved.
#[derive(Default)]
struct Known {
    set: KeySet,
    proved: Mutex<HashMap<[u8; 32], Proved>>,
}

/// A token that is good but for its times.
#[derive(Clone)]
struct Proved {
    claims: Arc<Claims>,
    identity: Arc<Identity>,
    /// Of whose lines the identity was made.
    callers: Arc<Callers>,
}

/// A token in its parts.
struct Parts<'a> {
    signed: &'a [u8],
    signature: Vec<u8>,
    key_id: Option<String>,
    algorithm: TokenAlgorithm,
    claims: Claims,
}

impl Tokens {
    /// Takes no token until there are keys; see [`refresh`](Self::refresh).
    pub fn new(options: TokenOptions, source: Box<dyn KeySource>) -> Self {
        let quota = Quota::with_period(LOOKS_EVERY).expect("some seconds are not none");
        Self {
            options,
            source,
            keys: ArcSwap::default(),
            looking: tokio::sync::Mutex::new(()),
            looks: RateLimiter::direct(quota.allow_burst(NonZeroU32::MIN)),
        }
    }

    /// Looks at the keys. What cannot be read leaves those that are known.
    ///
    /// # Errors
    /// Why they are as before.
    pub async fn refresh(&self) -> Result<(), RefreshError> {
        let _looking = self.looking.lock().await;
        self.look().await
    }

    async fn look(&self) -> Result<(), RefreshError> {
        let bytes = self.source.fetch().await?;
        if self.keys.load().set.is_made_of(&bytes) {
            return Ok(());
        }
        let set = KeySet::parse(&bytes)?;
        tracing::info!(keys = set.count(), "the keys of tokens have changed");
        let proved = Mutex::default();
        self.keys.store(Arc::new(Known { set, proved }));
        Ok(())
    }

    /// Who bears this token.
    pub(super) async fn identify(
        &self,
        token: &[u8],
        callers: &Arc<Callers>,
        now: Timestamp,
    ) -> Result<Arc<Identity>, Unknown> {
        let digest = digest(token);
        let known = self.keys.load_full();
        let proved = known.proved.lock().get(&digest).cloned();
        if let Some(proved) = proved {
            proved.claims.are_timely(self.options.leeway, now)?;
            if Arc::ptr_eq(&proved.callers, callers) {
                return Ok(proved.identity);
            }
            let claims = proved.claims;
            return Ok(remember(&known, digest, claims, callers, now));
        }
        let parts = self.parts(token)?;
        parts.claims.check(&self.options, now)?;
        let known = self.known(&parts).await;
        let mut keys = known
            .set
            .candidates(parts.key_id.as_deref(), parts.algorithm);
        if keys.clone().next().is_none() {
            return Err(Unknown::Token("it is signed with a key that is not known"));
        }
        if !keys.any(|key: &Key| key.proves(parts.algorithm, parts.signed, &parts.signature)) {
            return Err(Unknown::Token("its signature is wrong"));
        }
        let claims = Arc::new(parts.claims);
        Ok(remember(&known, digest, claims, callers, now))
    }

    /// The keys, after another look when none of them can be the one of the token.
    async fn known(&self, parts: &Parts<'_>) -> Arc<Known> {
        let has_key = |known: &Known| {
            let mut keys = known
                .set
                .candidates(parts.key_id.as_deref(), parts.algorithm);
            keys.next().is_some()
        };
        let known = self.keys.load_full();
        if has_key(&known) {
            return known;
        }
        // Requests that waited here find the keys that the first one fetched.
        let _looking = self.looking.lock().await;
        let known = self.keys.load_full();
        if has_key(&known) || self.looks.check().is_err() {
            return known;
        }
        if let Err(reason) = self.look().await {
            tracing::warn!(%reason, "the keys of tokens cannot be read: those from before are still used");
        }
        self.keys.load_full()
    }

    fn parts<'a>(&self, token: &'a [u8]) -> Result<Parts<'a>, Unknown> {
        let no_token = Unknown::Token("it is neither a known API key nor a token");
        let mut dots = token.iter().enumerate().filter(|(_, byte)| **byte == b'.');
        let (Some((first, _)), Some((second, _)), None) = (dots.next(), dots.next(), dots.next())
        else {
            return Err(no_token);
        };
        // Algorithms that this library does not know, such as `none`, end here.
        let header = jsonwebtoken::decode_header(token);
        let header = header.map_err(|_| Unknown::Token("its header is not understood"))?;
        let algorithm = TokenAlgorithm::new(header.alg);
        let algorithm = algorithm.filter(|one| self.options.algorithms.contains(one));
        let algorithm = algorithm.ok_or(Unknown::Token(
            "its algorithm is not one of `auth.jwt.algorithms`",
        ))?;
        if header.crit.is_some() {
            return Err(Unknown::Token("its header asks for an extension (`crit`)"));
        }
        let decode = |part: &[u8]| BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| no_token);
        let claims = decode(&token[first + 1..second])?;
        Ok(Parts {
            signed: &token[..second],
            signature: decode(&token[second + 1..])?,
            key_id: header.kid,
            algorithm,
            claims: Claims::parse(&claims)?,
        })
    }
}

fn remember(
    known: &Known,
    digest: [u8; 32],
    claims: Arc<Claims>,
    callers: &Arc<Callers>,
    now: Timestamp,
) -> Arc<Identity> {
    let identity = Arc::new(claims.identity(callers, now));
    let proved = Proved {
        claims,
        identity: Arc::clone(&identity),
        callers: Arc::clone(callers),
    };
    let mut all = known.proved.lock();
    if all.len() >= REMEMBERED {
        all.clear();
    }
    all.insert(digest, proved);
    identity
}

#[cfg(test)]
mod tests;
