//! Webhooks as MLflow keeps them: what ours looks like, which there are, and making it.

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Dialect, Mlflow};
use crate::registry::SourceError;

/// What MLflow should be told to send, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookRequest {
    /// Its name in MLflow.
    pub name: String,
    /// Where this server is reached from MLflow: `https://host/webhooks/mlflow`.
    pub url: String,
}

/// A webhook that MLflow has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    /// MLflow's own name for it.
    #[serde(rename = "webhook_id")]
    pub id: String,
    /// The name that was given.
    #[serde(default)]
    pub name: String,
    /// Where it sends to.
    #[serde(default)]
    pub url: String,
    /// `ACTIVE` or `DISABLED`.
    #[serde(default)]
    pub status: String,
}

/// Everything that can change what should be served, and that MLflow has an event for. Stages are not among them.
const EVENTS: [(&str, &str); 6] = [
    ("REGISTERED_MODEL", "CREATED"),
    ("MODEL_VERSION", "CREATED"),
    ("MODEL_VERSION_TAG", "SET"),
    ("MODEL_VERSION_TAG", "DELETED"),
    ("MODEL_VERSION_ALIAS", "CREATED"),
    ("MODEL_VERSION_ALIAS", "DELETED"),
];

const CALL: &str = "mlflow/webhooks";

const MOST_PAGES: usize = 100;

impl WebhookRequest {
    /// The body of the call that makes it.
    pub fn body(&self, secret: &str) -> Value {
        let event = |(entity, action): (&str, &str)| json!({"entity": entity, "action": action});
        json!({
            "name": self.name,
            "url": self.url,
            "description": "tells onstage to look at the registry now",
            "events": EVENTS.map(event),
            "secret": secret,
            "status": "ACTIVE",
        })
    }
}

impl Mlflow {
    /// The URL of the call that makes a webhook.
    pub fn webhooks_url(&self) -> String {
        self.api.url(CALL.split('/')).to_string()
    }

    /// All webhooks of the server.
    ///
    /// # Errors
    /// [`SourceError::Unauthenticated`] for users who may not see them, [`SourceError::Status`] with 500 when the server
    /// has lost the key of their secrets.
    pub async fn webhooks(&self) -> Result<Vec<Webhook>, SourceError> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Page {
            webhooks: Vec<Webhook>,
            next_page_token: String,
        }
        self.refuse_unity_catalog()?;
        let (mut found, mut token) = (Vec::new(), String::new());
        for _ in 0..MOST_PAGES {
            let query = [("page_token", token.as_str())];
            let query = if token.is_empty() { &[] } else { &query[..] };
            let page: Page = self.api.get(CALL, query).await?;
            found.extend(page.webhooks);
            token = page.next_page_token;
            if token.is_empty() {
                return Ok(found);
            }
        }
        let reason = format!("the list of webhooks does not end after {MOST_PAGES} pages");
        Err(self.api.malformed(&reason))
    }

    /// Makes a webhook. MLflow allows any number with the same name and address: look at [`webhooks`](Self::webhooks) first.
    ///
    /// # Errors
    /// [`SourceError::Invalid`] when MLflow refuses the address.
    pub async fn register_webhook(
        &self,
        request: &WebhookRequest,
        secret: &str,
    ) -> Result<Webhook, SourceError> {
        #[derive(Deserialize)]
        struct Made {
            webhook: Webhook,
        }
        self.refuse_unity_catalog()?;
        let body = request.body(secret);
        let made: Made = self.api.send(Method::POST, CALL, &body).await?;
        Ok(made.webhook)
    }

    fn refuse_unity_catalog(&self) -> Result<(), SourceError> {
        if self.dialect == Dialect::OpenSource {
            return Ok(());
        }
        Err(SourceError::Unsupported(
            "Unity Catalog has no such webhooks: it is polled".to_owned(),
        ))
    }
}
