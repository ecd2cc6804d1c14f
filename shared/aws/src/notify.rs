//! Notices to an SNS topic, from where they go to mail, chat, queues and functions.
//!
//! In: respond's notices. Out: one message each, with a subject, text that people read and the whole notice as
//! JSON after it, and attributes (`kind`, and `level` where there is one) that subscriptions filter by. The watch tells
//! operators the same way, in text alone.

use std::time::Duration;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_sns::{Client, operation::publish::builders::PublishFluentBuilder, types::MessageAttributeValue};
use sentinel_respond::notify::{NoticeKind, Notification, Notifier, NotifyError};
use sentinel_watch::{Notice, Operators, TellError};

use crate::{late::Late, sdk::CallError};

/// IAM actions of this module.
pub const ACTIONS: &[&str] = &[PUBLISH];

const PUBLISH: &str = "sns:Publish";
/// Longest subject: SNS takes fewer than 100 characters of ASCII (SNS API Reference, `Publish`).
const SUBJECT: usize = 99;
/// Largest message in bytes: SNS takes 256 KiB together with its attributes.
const MESSAGE: usize = 255 * 1024;
/// Longest delivery; the port allows 30 seconds.
const TIMEOUT: Duration = Duration::from_secs(25);

/// Publishes notices to a topic.
pub struct SnsNotifier {
    client: Late<Client>,
    topic_arn: String,
}

impl SnsNotifier {
    /// To the topic of this ARN, standard or FIFO.
    pub fn new(config: &SdkConfig, topic_arn: impl Into<String>) -> Self {
        let config = config.clone();
        Self::over(Late::new(move || Client::new(&config)), topic_arn)
    }

    fn over(client: impl Into<Late<Client>>, topic_arn: impl Into<String>) -> Self {
        Self { client: client.into(), topic_arn: topic_arn.into() }
    }

    /// By its name (SNS Developer Guide, "Amazon SNS FIFO topics"), which is in lower case.
    fn is_fifo(&self) -> bool {
        self.topic_arn.rsplit_once('.').is_some_and(|(_, ending)| ending == "fifo")
    }
}

#[async_trait]
impl Notifier for SnsNotifier {
    fn name(&self) -> &'static str {
        "sns"
    }

    async fn notify(&self, notification: &Notification) -> Result<(), NotifyError> {
        let mut request = self
            .client
            .publish()
            .topic_arn(&self.topic_arn)
            .subject(subject(&notification.title))
            .message(message(notification)?)
            .message_attributes("kind", attribute(kind(notification.kind))?);
        if let Some(level) = notification.level {
            request = request.message_attributes("level", attribute(level.as_str())?);
        }
        if self.is_fifo() {
            request = request.message_group_id(&notification.account).message_deduplication_id(&notification.id);
        }
        publish(request).await.map_err(NotifyError)
    }
}

#[async_trait]
impl Operators for SnsNotifier {
    async fn tell(&self, notice: &Notice) -> Result<(), TellError> {
        let request = self.client.publish().topic_arn(&self.topic_arn);
        publish(request.subject(subject(&notice.title)).message(cut(&notice.text, MESSAGE))).await.map_err(TellError)
    }
}

/// Sends what was made, in time; else why not.
async fn publish(request: PublishFluentBuilder) -> Result<(), String> {
    match tokio::time::timeout(TIMEOUT, request.send()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(e)) => Err(CallError::new(PUBLISH, &e).to_string()),
        Err(_) => Err(format!("{PUBLISH}: no answer within {} seconds", TIMEOUT.as_secs())),
    }
}

fn kind(kind: NoticeKind) -> &'static str {
    match kind {
        NoticeKind::Alert => "alert",
        NoticeKind::Response => "response",
        NoticeKind::CapReached => "cap_reached",
    }
}

fn attribute(value: &str) -> Result<MessageAttributeValue, NotifyError> {
    let made = MessageAttributeValue::builder().data_type("String").string_value(value).build();
    made.map_err(|e| NotifyError(e.to_string()))
}

/// A title as a subject: ASCII without control characters, begun by a letter or digit, not too long.
fn subject(title: &str) -> String {
    let plain = |c: char| match c {
        ' '..='~' => c,
        c if c.is_whitespace() || c.is_control() => ' ',
        _ => '?',
    };
    let ascii: String = title.chars().map(plain).collect();
    let text = ascii.trim_start_matches(|c: char| !c.is_ascii_alphanumeric()).trim_end();
    match text {
        "" => "CloudSentinel notice".to_owned(),
        text if text.len() <= SUBJECT => text.to_owned(),
        text => format!("{}...", text[..SUBJECT - 3].trim_end()),
    }
}

/// Text for people, an empty line, the notice as JSON. What is too large loses the alert's and the response's
/// details first, then the end of its text; the dashboard has all of it.
fn message(notification: &Notification) -> Result<String, NotifyError> {
    let json = |n: &Notification| serde_json::to_string(n).map_err(|e| NotifyError(e.to_string()));
    let mut text = format!("{}\n", notification.title);
    for sentence in &notification.text {
        text.extend(["- ", sentence, "\n"]);
    }
    text = format!("{text}Account {}, {}, notice {}.\n", notification.account, notification.at, notification.id);
    let whole = format!("{text}\n{}\n", json(notification)?);
    if whole.len() <= MESSAGE {
        return Ok(whole);
    }
    let mut short = notification.clone();
    (short.alert, short.response) = (None, None);
    let left = MESSAGE / 4;
    short.title = cut(&short.title, left / 2);
    short.text = vec![format!("Cut: the notice has {} bytes; the dashboard shows all of it.", whole.len())];
    let json = json(&short)?;
    Ok(format!("{}\n\n{json}\n", cut(&text, MESSAGE.saturating_sub(json.len() + 3))))
}

/// A text of at most so many bytes, with dots where its end was.
fn cut(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    format!("{}...", &text[..text.floor_char_boundary(bytes.saturating_sub(3))])
}

#[cfg(test)]
mod tests;
