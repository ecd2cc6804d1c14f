//! The webhook as a notifier. A secret that cannot be read must not keep respond from containing: its notices
//! then fail, are tried again for hours, and go out once a new instance can read it.

use std::sync::Arc;

use async_trait::async_trait;
use sentinel_aws::connect;
use sentinel_lambda::Start;
use sentinel_respond::{Notification, Notifier, WebhookError, WebhookNotifier, notify::NotifyError};

use crate::config::Webhook;

/// The channel's name.
const CHANNEL: &str = "webhook";

/// The notifier of a webhook. An address that cannot be used is a mistake in the settings.
pub(crate) async fn notifier(start: &Start, webhook: Webhook) -> Result<Arc<dyn Notifier>, WebhookError> {
    let secret = match webhook.secret {
        None => None,
        Some(arn) => match connect::secret(&start.sdk, &arn).await {
            Ok(secret) => Some(secret.text),
            Err(e) => {
                sentinel_telemetry::error(start.stage);
                tracing::error!(error = %e, "the webhook's secret cannot be read: its notices wait");
                return Ok(Arc::new(Waiting(format!("the webhook's secret cannot be read: {e}"))));
            }
        },
    };
    Ok(Arc::new(WebhookNotifier::new(CHANNEL, &webhook.url, secret, start.clock.clone())?))
}

/// Stands in for a webhook that cannot be used yet.
struct Waiting(String);

#[async_trait]
impl Notifier for Waiting {
    fn name(&self) -> &'static str {
        CHANNEL
    }

    async fn notify(&self, _: &Notification) -> Result<(), NotifyError> {
        Err(NotifyError(self.0.clone()))
    }
}
