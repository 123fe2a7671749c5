//! What MLflow sends to `POST /webhooks/mlflow`: whether it is genuine, and which model to look at.
//!
//! Pure: time is passed in, and nothing is done. A delivery is only a hint to poll now, as deliveries come late, twice,
//! in any order, and after four attempts not at all.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use serde::Deserialize;
use sha2::Sha256;

use crate::error::{ErrorKind, Kinded};
use crate::model::ModelName;

/// The header that tells deliveries apart; a repeated attempt has the same.
pub const DELIVERY_ID: &str = "x-mlflow-delivery-id";
/// The header with the seconds of the Unix clock.
pub const TIMESTAMP: &str = "x-mlflow-timestamp";
/// The header with `v1,` and the signature.
pub const SIGNATURE: &str = "x-mlflow-signature";

/// How far the sender's clock may be from ours, either way; with it the time in which a delivery can be sent again by
/// someone who has seen it.
const WINDOW: Duration = Duration::from_secs(300);

/// Deliveries remembered; more than come in a window.
const REMEMBERED: usize = 4_096;

const LONGEST_ID: usize = 128;

/// What has been delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// Something about this model may have changed.
    Model(ModelName),
    /// Something that is not about a model, or a model that cannot be served.
    Other,
    /// The same was delivered before.
    Repeated,
}

/// Why a delivery is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// A header is missing or no text.
    #[error("no header `{0}`: is the webhook registered with a secret?")]
    Header(&'static str),
    /// The signature is not that of this secret and body.
    #[error("the signature does not fit: the webhook was registered with another secret")]
    Signature,
    /// Too old, or from the future.
    #[error("the delivery is {0} seconds from this clock, expected at most 300")]
    Time(u64),
    /// Signed, but not what MLflow sends.
    #[error("the body is no event of MLflow: {0}")]
    Body(String),
}

impl Kinded for WebhookError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}

impl WebhookError {
    /// The HTTP status: 401 for what is not proved to come from MLflow, 400 for what cannot be read. MLflow tries neither
    /// again.
    pub fn status(&self) -> u16 {
        match self {
            Self::Header(_) | Self::Signature | Self::Time(_) => 401,
            Self::Body(_) => 400,
        }
    }
}

/// The headers of a delivery, as far as they matter.
#[derive(Debug, Clone, Copy, Default)]
pub struct Headers<'a> {
    /// [`DELIVERY_ID`].
    pub delivery_id: Option<&'a str>,
    /// [`TIMESTAMP`].
    pub timestamp: Option<&'a str>,
    /// [`SIGNATURE`].
    pub signature: Option<&'a str>,
}

/// Checks deliveries of one secret and remembers the last of them.
pub struct Receiver {
    secret: Vec<u8>,
    seen: Mutex<VecDeque<String>>,
}

impl Receiver {
    /// For webhooks that were registered with `secret`.
    pub fn new(secret: impl Into<Vec<u8>>) -> Self {
        Self {
            secret: secret.into(),
            seen: Mutex::default(),
        }
    }

    /// What the delivery hints at, once it is proved to be MLflow's. `body` is the raw body.
    ///
    /// # Errors
    /// [`WebhookError`].
    pub fn receive(
        &self,
        headers: Headers<'_>,
        body: &[u8],
        now: SystemTime,
    ) -> Result<Hint, WebhookError> {
        let needed = |value: Option<_>, name| value.ok_or(WebhookError::Header(name));
        let id = needed(headers.delivery_id, DELIVERY_ID)?;
        let timestamp = needed(headers.timestamp, TIMESTAMP)?;
        let signature = needed(headers.signature, SIGNATURE)?;
        // The signature first: nothing of what is not signed decides anything.
        self.verify(id, timestamp, signature, body)?;
        check_time(timestamp, now)?;
        if id.is_empty() || id.len() > LONGEST_ID {
            return Err(WebhookError::Header(DELIVERY_ID));
        }
        let hint = hint(body)?;
        if self.is_repeated(id) {
            return Ok(Hint::Repeated);
        }
        Ok(hint)
    }

    fn verify(
        &self,
        id: &str,
        timestamp: &str,
        signature: &str,
        body: &[u8],
    ) -> Result<(), WebhookError> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret)
            .expect("a key of any length will do for HMAC");
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        let encoded = signature.trim().strip_prefix("v1,");
        let given = encoded.and_then(|encoded| STANDARD.decode(encoded).ok());
        // Compares in constant time.
        let fits = given.is_some_and(|given| mac.verify_slice(&given).is_ok());
        fits.then_some(()).ok_or(WebhookError::Signature)
    }

    fn is_repeated(&self, id: &str) -> bool {
        let mut seen = self.seen.lock();
        if seen.iter().any(|known| known == id) {
            return true;
        }
        if seen.len() == REMEMBERED {
            seen.pop_front();
        }
        seen.push_back(id.to_owned());
        false
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

fn check_time(timestamp: &str, now: SystemTime) -> Result<(), WebhookError> {
    let sent: u64 = timestamp
        .trim()
        .parse()
        .map_err(|_| WebhookError::Header(TIMESTAMP))?;
    let now = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let apart = now.as_secs().abs_diff(sent);
    if apart > WINDOW.as_secs() {
        return Err(WebhookError::Time(apart));
    }
    Ok(())
}

fn hint(body: &[u8]) -> Result<Hint, WebhookError> {
    #[derive(Deserialize)]
    struct Event {
        entity: String,
        #[serde(default)]
        data: Data,
    }
    #[derive(Deserialize, Default)]
    struct Data {
        name: Option<String>,
    }
    let event: Event =
        serde_json::from_slice(body).map_err(|error| WebhookError::Body(error.to_string()))?;
    let about_models = matches!(
        event.entity.as_str(),
        "registered_model" | "model_version" | "model_version_tag" | "model_version_alias"
    );
    let name = event.data.name.filter(|_| about_models);
    Ok(match name.map(ModelName::new) {
        Some(Ok(name)) => Hint::Model(name),
        _ => Hint::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// One delivery as MLflow 3.17.2 sent it; the secret was `s3cr3t`.
    const BODY: &str = r#"{"entity": "model_version_alias", "action": "created", "timestamp": "2026-11-23T07:04:36.306125+00:00", "data": {"name": "dbl", "alias": "champion", "version": "1"}}"#;
    const ID: &str = "e843a3c6-9fbc-498e-b79c-ab2a969be210";
    const SENT: u64 = 1_795_417_476;
    const SIGNED: &str = "v1,FR7rpZMW+gA8nIiiK6NFbURyEfjmCZh8bykXwlC/0bI=";

    fn sign(secret: &str, id: &str, timestamp: &str, body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn receive(receiver: &Receiver, id: &str, body: &str, now: u64) -> Result<Hint, WebhookError> {
        let timestamp = SENT.to_string();
        let signature = sign("s3cr3t", id, &timestamp, body.as_bytes());
        let headers = Headers {
            delivery_id: Some(id),
            timestamp: Some(&timestamp),
            signature: Some(&signature),
        };
        receiver.receive(headers, body.as_bytes(), at(now))
    }

    fn model(name: &str) -> Hint {
        Hint::Model(ModelName::new(name).unwrap())
    }

    #[test]
    fn events_of_models_hint_at_their_model() {
        let receiver = Receiver::new("s3cr3t");
        for (number, (body, expected)) in [
            (BODY, model("dbl")),
            (r#"{"entity":"model_version_alias","action":"deleted","data":{"name":"a b","alias":"x"}}"#, model("a b")),
            (r#"{"entity":"model_version","action":"created","data":{"name":"m","version":"1","source":"models:/m-1","run_id":"r","tags":{},"description":null},"workspace":"w"}"#, model("m")),
            (r#"{"entity":"model_version_tag","action":"set","data":{"name":"m","version":"1","key":"k","value":"v"}}"#, model("m")),
            (r#"{"entity":"registered_model","action":"created","data":{"name":"m","tags":{},"description":""}}"#, model("m")),
            (r#"{"entity":"prompt","action":"created","data":{"name":"m"}}"#, Hint::Other),
            (r#"{"entity":"budget_policy","action":"exceeded","data":{}}"#, Hint::Other),
            (r#"{"entity":"registered_model","action":"created","data":{"name":"a/b"}}"#, Hint::Other),
        ]
        .into_iter()
        .enumerate()
        {
            let id = format!("delivery-{number}");
            assert_eq!(receive(&receiver, &id, body, SENT), Ok(expected), "{body}");
        }
    }

    #[test]
    fn a_delivery_counts_once_and_old_ones_are_forgotten() {
        let receiver = Receiver::new("s3cr3t");
        assert_eq!(receive(&receiver, ID, BODY, SENT), Ok(model("dbl")));
        assert_eq!(receive(&receiver, ID, BODY, SENT + 8), Ok(Hint::Repeated));
        for number in 0..REMEMBERED {
            receive(&receiver, &number.to_string(), BODY, SENT).unwrap();
        }
        assert_eq!(receiver.seen.lock().len(), REMEMBERED);
        assert_eq!(receive(&receiver, ID, BODY, SENT), Ok(model("dbl")));
    }

    #[test]
    fn deliveries_far_from_our_clock_are_refused_on_both_sides() {
        for (now, expected) in [
            (SENT, Ok(model("dbl"))),
            (SENT + 300, Ok(model("dbl"))),
            (SENT - 300, Ok(model("dbl"))),
            (SENT + 301, Err(WebhookError::Time(301))),
            (SENT - 301, Err(WebhookError::Time(301))),
        ] {
            assert_eq!(
                receive(&Receiver::new("s3cr3t"), ID, BODY, now),
                expected,
                "{now}"
            );
        }
    }

    #[test]
    fn the_recorded_delivery_is_genuine() {
        let headers = Headers {
            delivery_id: Some(ID),
            timestamp: Some("1795417476"),
            signature: Some(SIGNED),
        };
        let result = Receiver::new("s3cr3t").receive(headers, BODY.as_bytes(), at(SENT + 1));
        assert_eq!(result, Ok(model("dbl")));
    }

    #[test]
    fn a_missing_or_wrong_part_is_refused_and_told() {
        let timestamp = SENT.to_string();
        let signature = sign("s3cr3t", ID, &timestamp, BODY.as_bytes());
        let whole = Headers {
            delivery_id: Some(ID),
            timestamp: Some(&timestamp),
            signature: Some(&signature),
        };
        let unpadded = signature.trim_end_matches('=');
        let bare = signature.trim_start_matches("v1,");
        let cases = [
            (
                Headers {
                    delivery_id: None,
                    ..whole
                },
                WebhookError::Header(DELIVERY_ID),
            ),
            (
                Headers {
                    timestamp: None,
                    ..whole
                },
                WebhookError::Header(TIMESTAMP),
            ),
            (
                Headers {
                    signature: None,
                    ..whole
                },
                WebhookError::Header(SIGNATURE),
            ),
            (
                Headers {
                    delivery_id: Some("other"),
                    ..whole
                },
                WebhookError::Signature,
            ),
            (
                Headers {
                    timestamp: Some("1795417477"),
                    ..whole
                },
                WebhookError::Signature,
            ),
            (
                Headers {
                    signature: Some("v1,"),
                    ..whole
                },
                WebhookError::Signature,
            ),
            (
                Headers {
                    signature: Some(unpadded),
                    ..whole
                },
                WebhookError::Signature,
            ),
            (
                Headers {
                    signature: Some(bare),
                    ..whole
                },
                WebhookError::Signature,
            ),
        ];
        for (headers, expected) in cases {
            let receiver = Receiver::new("s3cr3t");
            let result = receiver.receive(headers, BODY.as_bytes(), at(SENT));
            assert_eq!(result.as_ref(), Err(&expected));
            assert_eq!(expected.status(), 401);
        }
        for secret in ["", "S3cr3t", "s3cr3t "] {
            let result = Receiver::new(secret).receive(whole, BODY.as_bytes(), at(SENT));
            assert_eq!(result, Err(WebhookError::Signature), "{secret:?}");
        }
        assert_eq!(
            Receiver::new("s3cr3t").receive(whole, BODY.as_bytes(), at(SENT)),
            Ok(model("dbl"))
        );
    }

    #[test]
    fn signed_bodies_that_are_no_events_are_refused() {
        let receiver = Receiver::new("s3cr3t");
        for body in ["", "[]", "null", "{}", "{\"entity\": 1}", "\u{0}"] {
            let error = receive(&receiver, body, body, SENT);
            let error = error
                .or_else(|_| receive(&receiver, "id", body, SENT))
                .unwrap_err();
            assert!(matches!(error, WebhookError::Body(_)), "{body}: {error}");
            assert_eq!(error.status(), 400);
        }
    }

    #[test]
    fn the_secret_is_not_shown() {
        assert!(!format!("{:?}", Receiver::new("s3cr3t")).contains("s3cr3t"));
    }

    proptest! {
        #[test]
        fn no_delivery_can_be_changed_unnoticed(at_byte in 0..BODY.len(), flip in 1_u8..) {
            let timestamp = SENT.to_string();
            let signature = sign("s3cr3t", ID, &timestamp, BODY.as_bytes());
            let headers = Headers {
                delivery_id: Some(ID),
                timestamp: Some(&timestamp),
                signature: Some(&signature),
            };
            let mut body = BODY.as_bytes().to_vec();
            body[at_byte] ^= flip;
            let result = Receiver::new("s3cr3t").receive(headers, &body, at(SENT));
            prop_assert_eq!(result, Err(WebhookError::Signature));
        }

        #[test]
        fn nothing_that_is_sent_makes_it_panic(
            id in ".{0,200}",
            timestamp in "[0-9 .-]{0,30}",
            signature in "(v1,)?.{0,60}",
            body in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let headers = Headers {
                delivery_id: Some(&id),
                timestamp: Some(&timestamp),
                signature: Some(&signature),
            };
            prop_assert!(Receiver::new("s3cr3t").receive(headers, &body, at(SENT)).is_err());
            let genuine = sign("s3cr3t", &id, &timestamp, &body);
            let headers = Headers { signature: Some(&genuine), ..headers };
            let _ = Receiver::new("s3cr3t").receive(headers, &body, at(SENT));
        }
    }
}
