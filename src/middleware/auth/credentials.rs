//! What a request brings to say who sends it. The same headers for HTTP and gRPC.

use axum::http::{HeaderMap, HeaderName, header};

/// Where API keys may stand as well, as many gateways have it.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Nothing longer is looked at: it would be hashed.
const LONGEST: usize = 16 << 10;

/// A credential of the headers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Credential<'a> {
    /// There is none.
    None,
    /// From `Authorization: Bearer`: an API key or a token.
    Bearer(&'a [u8]),
    /// From `X-API-Key`.
    Key(&'a [u8]),
    /// There is more than one, or it is too long.
    Unclear,
}

impl<'a> Credential<'a> {
    pub(super) fn from_headers(headers: &'a HeaderMap) -> Self {
        let bearer = match only(headers, &header::AUTHORIZATION) {
            Ok(value) => value.and_then(bearer),
            Err(()) => return Self::Unclear,
        };
        match (bearer, only(headers, &API_KEY)) {
            (None, Ok(None)) => Self::None,
            (Some(token), Ok(None)) if token.len() <= LONGEST => Self::Bearer(token),
            (None, Ok(Some(key))) if key.len() <= LONGEST => Self::Key(key),
            // Two of them: whoever checked one of them in front of us may have meant the other.
            _ => Self::Unclear,
        }
    }
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a [u8]>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (first, None) => Ok(first.map(|value| value.as_bytes().trim_ascii())),
        _ => Err(()),
    }
}

/// What stands behind `Bearer`; another scheme is none of ours.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_credential_is_a_bearer_or_a_key_and_only_one() {
        let long = "x".repeat(LONGEST + 1);
        let long = format!("Bearer {long}");
        for (pairs, expected) in [
            (&[][..], Credential::None),
            (
                &[("authorization", "Bearer abc")],
                Credential::Bearer(b"abc"),
            ),
            (
                &[("authorization", "bEARER  abc ")],
                Credential::Bearer(b"abc"),
            ),
            (&[("authorization", "Basic abc")], Credential::None),
            (&[("authorization", "Bearer")], Credential::None),
            (&[("authorization", "")], Credential::None),
            (&[("x-api-key", "abc")], Credential::Key(b"abc")),
            (
                &[("authorization", "Basic x"), ("x-api-key", "abc")],
                Credential::Key(b"abc"),
            ),
            (
                &[("authorization", "Bearer x"), ("x-api-key", "abc")],
                Credential::Unclear,
            ),
            (
                &[("x-api-key", "a"), ("x-api-key", "b")],
                Credential::Unclear,
            ),
            (
                &[("authorization", "Bearer a"), ("authorization", "Bearer b")],
                Credential::Unclear,
            ),
            (&[("authorization", long.as_str())], Credential::Unclear),
        ] {
            assert_eq!(
                Credential::from_headers(&headers(pairs)),
                expected,
                "{pairs:?}"
            );
        }
    }
}
