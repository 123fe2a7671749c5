//! What a token says about its bearer.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::TokenOptions;
use crate::middleware::auth::{Callers, Grant, Identity, Pattern, Scope, Unknown};

/// Values of a claim that scopes of ours begin with: `onstage:predict`, or `onstage:predict:fraud-*`.
const PREFIX: &str = "onstage:";

/// The claims that hold scopes: of OAuth, and of some providers.
const SCOPES: [&str; 2] = ["scope", "scp"];

/// The claims of a token, as texts where they are some.
#[derive(Debug)]
pub(super) struct Claims {
    texts: BTreeMap<String, Vec<String>>,
    /// In seconds of Unix.
    expires: Option<f64>,
    not_before: Option<f64>,
}

impl Claims {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Unknown> {
        let unclear = Unknown::Token("its claims are not understood");
        let Ok(Value::Object(claims)) = serde_json::from_slice(bytes) else {
            return Err(unclear);
        };
        let time = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or(unclear),
        };
        let (expires, not_before) = (time("exp")?, time("nbf")?);
        let texts = claims.into_iter().map(|(name, value)| (name, texts(value)));
        Ok(Self {
            texts: texts.collect(),
            expires,
            not_before,
        })
    }

    fn get(&self, name: &str) -> &[String] {
        self.texts.get(name).map_or(&[], Vec::as_slice)
    }

    /// Everything but the signature.
    pub(super) fn check(&self, options: &TokenOptions, now: Timestamp) -> Result<(), Unknown> {
        if self.get("iss") != [options.issuer.as_str()] {
            return Err(Unknown::Token("another issuer made it (`iss`)"));
        }
        let is_ours = |audience: &String| options.audience.contains(audience);
        if !self.get("aud").iter().any(is_ours) {
            return Err(Unknown::Token("it is for another audience (`aud`)"));
        }
        self.are_timely(options.leeway, now)
    }

    pub(super) fn are_timely(&self, leeway: Duration, now: Timestamp) -> Result<(), Unknown> {
        let (now, leeway) = (now.as_duration().as_secs_f64(), leeway.as_secs_f64());
        match self.expires {
            None => return Err(Unknown::Token("it does not say when it expires (`exp`)")),
            // Written so that no number passes that cannot be compared.
            Some(at) if now < at + leeway => {}
            Some(_) => return Err(Unknown::Expired),
        }
        match self.not_before {
            Some(at) if now + leeway < at || at.is_nan() => {
                Err(Unknown::Token("it is not valid yet (`nbf`)"))
            }
            _ => Ok(()),
        }
    }

    /// Who the bearer is.
    pub(super) fn identity(&self, callers: &Callers, now: Timestamp) -> Identity {
        let names = ["sub", "client_id", "azp"].into_iter();
        let mut names = names.filter_map(|claim| Some((claim, self.get(claim).first()?.as_str())));
        let name = names.next().unwrap_or(("", "a token"));
        let issuer = self.get("iss").first().map_or("", String::as_str);
        let scopes = SCOPES.iter().flat_map(|claim| self.get(claim));
        let words = scopes.flat_map(|text| text.split(' '));
        let mut grants: Vec<Grant> = words.filter_map(grant).collect();
        grants.extend(callers.by_claims(&self.texts, now));
        Identity::issued_by(issuer, name, grants)
    }
}

/// A text, or a list of them; anything else has none.
fn texts(value: Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => {
            let text = |item| match item {
                Value::String(text) => Some(text),
                _ => None,
            };
            items.into_iter().filter_map(text).collect()
        }
        _ => Vec::new(),
    }
}

/// What a scope of the provider allows here.
fn grant(word: &str) -> Option<Grant> {
    let word = word.strip_prefix(PREFIX)?;
    let (scope, model) = match word.split_once(':') {
        Some((scope, pattern)) => (scope, pattern.parse().ok()?),
        None => (word, Pattern::all()),
    };
    Some(Grant {
        scopes: vec![scope.parse::<Scope>().ok()?],
        models: vec![model],
    })
}
