//! The webhook as a notifier whose secret may be rotated. The secret is read with the first notice and again some
//! minutes later, so that a new one needs no new instance. One that cannot be read must not keep respond from
//! containing: its notices then fail, and are tried again for hours.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use sentinel_aws::{SdkConfig, connect};
use sentinel_lambda::Start;
use sentinel_respond::{Notification, Notifier, WebhookError, WebhookNotifier, notify::NotifyError};
use tokio::sync::Mutex;

use crate::config::Webhook;

/// The channel's name.
const CHANNEL: &str = "webhook";
/// How long a secret is used before it is read again.
const SECRET_KEPT: Duration = Duration::from_mins(5);

/// The notifier of a webhook. An address that cannot be used is a mistake in the settings.
pub(crate) fn notifier(start: &Start, webhook: Webhook) -> Result<Arc<dyn Notifier>, WebhookError> {
    let (url, clock) = (webhook.url, start.clock.clone());
    let unsigned = WebhookNotifier::new(CHANNEL, &url, None, clock.clone())?;
    let Some(arn) = webhook.secret else { return Ok(Arc::new(unsigned)) };
    let sdk = start.sdk.clone();
    Ok(Arc::new(Signed {
        secrets: Arc::new(SecretAt { sdk, arn }),
        sign: Box::new(move |secret| Ok(Arc::new(WebhookNotifier::new(CHANNEL, &url, Some(secret), clock.clone())?))),
        kept: SECRET_KEPT,
        known: Mutex::new(None),
    }))
}

/// Where the secret is.
#[async_trait]
trait Secrets: Send + Sync {
    /// The secret in force, or why it cannot be read.
    async fn read(&self) -> Result<String, String>;
}

/// A secret in Secrets Manager.
struct SecretAt {
    sdk: SdkConfig,
    arn: String,
}

#[async_trait]
impl Secrets for SecretAt {
    async fn read(&self) -> Result<String, String> {
        connect::secret(&self.sdk, &self.arn).await.map(|secret| secret.text).map_err(|e| e.to_string())
    }
}

type Sign = dyn Fn(String) -> Result<Arc<dyn Notifier>, WebhookError> + Send + Sync;

/// Notices signed with the secret in force.
struct Signed {
    secrets: Arc<dyn Secrets>,
    sign: Box<Sign>,
    kept: Duration,
    /// The notifier of the secret that was read last, and when that was.
    known: Mutex<Option<(Instant, Arc<dyn Notifier>)>>,
}

impl Signed {
    async fn current(&self) -> Result<Arc<dyn Notifier>, NotifyError> {
        let mut known = self.known.lock().await;
        if let Some((read_at, notifier)) = &*known
            && read_at.elapsed() < self.kept
        {
            return Ok(Arc::clone(notifier));
        }
        match self.secrets.read().await {
            Ok(secret) => {
                let notifier = (self.sign)(secret).map_err(|e| NotifyError(e.to_string()))?;
                *known = Some((Instant::now(), Arc::clone(&notifier)));
                Ok(notifier)
            }
            Err(reason) => {
                tracing::error!(reason, "the webhook's secret cannot be read");
                // The receiver may still know the one before.
                let before = known.as_ref().map(|(_, notifier)| Arc::clone(notifier));
                before.ok_or_else(|| NotifyError(format!("the webhook's secret cannot be read: {reason}")))
            }
        }
    }
}

#[async_trait]
impl Notifier for Signed {
    fn name(&self) -> &'static str {
        CHANNEL
    }

    async fn notify(&self, notification: &Notification) -> Result<(), NotifyError> {
        self.current().await?.notify(notification).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as Plain;

    use super::*;

    /// A secret that answers as told, the last answer again and again.
    struct Told(Plain<Vec<Result<&'static str, &'static str>>>);

    #[async_trait]
    impl Secrets for Told {
        async fn read(&self) -> Result<String, String> {
            let mut answers = self.0.lock().unwrap();
            let answer = if answers.len() > 1 { answers.remove(0) } else { answers[0] };
            answer.map(str::to_owned).map_err(str::to_owned)
        }
    }

    /// A notifier that is named by its secret.
    struct Named(String);

    #[async_trait]
    impl Notifier for Named {
        fn name(&self) -> &str {
            &self.0
        }

        async fn notify(&self, _: &Notification) -> Result<(), NotifyError> {
            Ok(())
        }
    }

    fn signed(kept: Duration, answers: &[Result<&'static str, &'static str>]) -> Signed {
        Signed {
            secrets: Arc::new(Told(Plain::new(answers.to_vec()))),
            sign: Box::new(|secret| Ok(Arc::new(Named(secret)))),
            kept,
            known: Mutex::new(None),
        }
    }

    async fn used(signed: &Signed) -> Result<String, String> {
        signed.current().await.map(|n| n.name().to_owned()).map_err(|e| e.to_string())
    }

    #[tokio::test]
    async fn a_rotated_secret_is_taken_up_after_a_while() {
        let soon = signed(Duration::ZERO, &[Ok("one"), Ok("two")]);
        assert_eq!((used(&soon).await.unwrap(), used(&soon).await.unwrap()), ("one".into(), "two".into()));
        let later = signed(SECRET_KEPT, &[Ok("one"), Ok("two")]);
        assert_eq!((used(&later).await.unwrap(), used(&later).await.unwrap()), ("one".into(), "one".into()));
    }

    #[tokio::test]
    async fn a_secret_that_cannot_be_read_leaves_the_one_before_or_fails_the_notice() {
        let known = signed(Duration::ZERO, &[Ok("one"), Err("throttled")]);
        assert_eq!((used(&known).await.unwrap(), used(&known).await.unwrap()), ("one".into(), "one".into()));
        let unknown = signed(Duration::ZERO, &[Err("denied"), Ok("one")]);
        assert_eq!(used(&unknown).await, Err("the webhook's secret cannot be read: denied".into()));
        assert_eq!(used(&unknown).await.unwrap(), "one", "the next notice reads it again");
    }
}
