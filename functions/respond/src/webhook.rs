//! The webhook notifier: one POST of JSON, signed when a secret is configured.
//!
//! Headers: `Idempotency-Key` (the notice's id), `X-CloudSentinel-Timestamp` (epoch seconds) and, with a
//! secret, `X-CloudSentinel-Signature: sha256=HEX`, the HMAC-SHA256 (RFC 2104) over the timestamp, a full stop
//! and the body, so that a receiver can refuse both forgeries and old repetitions.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hmac::{Hmac, Mac};
use sentinel_durable::Clock;
use sha2::Sha256;

use crate::notify::{Notification, Notifier, NotifyError};

/// Longest that one delivery may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A webhook that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The address is no http or https URL.
    #[error("the webhook's address is no http or https URL: {0}")]
    Address(String),
    /// The HTTP client cannot be made.
    #[error("the webhook's HTTP client cannot be made: {0}")]
    Client(#[source] reqwest::Error),
    /// An empty secret would sign for nobody.
    #[error("the webhook's secret is empty")]
    EmptySecret,
}

/// Posts notices to an address.
pub struct WebhookNotifier {
    name: String,
    url: reqwest::Url,
    secret: Option<String>,
    client: reqwest::Client,
    clock: Arc<dyn Clock>,
}

impl WebhookNotifier {
    /// A webhook under a channel name of its own. Redirects are not followed: they could lead a signed
    /// notice elsewhere.
    pub fn new(
        name: impl Into<String>,
        url: &str,
        secret: Option<String>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, WebhookError> {
        let parsed = reqwest::Url::parse(url).map_err(|e| WebhookError::Address(e.to_string()))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(WebhookError::Address(format!("scheme {}", parsed.scheme())));
        }
        if secret.as_ref().is_some_and(String::is_empty) {
            return Err(WebhookError::EmptySecret);
        }
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(WebhookError::Client)?;
        Ok(Self { name: name.into(), url: parsed, secret, client, clock })
    }
}

#[async_trait]
impl Notifier for WebhookNotifier {
    fn name(&self) -> &str {
        &self.name
    }

    async fn notify(&self, notification: &Notification) -> Result<(), NotifyError> {
        let body = serde_json::to_vec(notification).map_err(|e| NotifyError(e.to_string()))?;
        let timestamp = self.clock.now().as_second().to_string();
        let mut request = self
            .client
            .post(self.url.clone())
            .header("Content-Type", "application/json")
            .header("Idempotency-Key", &notification.id)
            .header("X-CloudSentinel-Timestamp", &timestamp);
        if let Some(secret) = &self.secret {
            request = request.header("X-CloudSentinel-Signature", signature(secret, &timestamp, &body)?);
        }
        // The address may hold a token: errors are told without it.
        let answer = request.body(body).send().await.map_err(|e| NotifyError(e.without_url().to_string()))?;
        if answer.status().is_success() {
            return Ok(());
        }
        Err(NotifyError(format!("the receiver answered {}", answer.status())))
    }
}

/// The value of the signature header.
pub fn signature(secret: &str, timestamp: &str, body: &[u8]) -> Result<String, NotifyError> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map_err(|e| NotifyError(e.to_string()))?;
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    Ok(format!("sha256={}", hex::encode(mac.finalize().into_bytes())))
}
