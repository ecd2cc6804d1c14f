//! The claim-check: a body that does not fit a message lies in a bucket, and the message says where.
//!
//! In goes a body, out comes `claim:{"key":"claims/..","sha256":"..","bytes":n}`; and back. Objects are named
//! by their content, so that the same body again is the same object, and what is read is held to that name:
//! whoever may write to the bucket cannot change a message that is under way. Nothing here deletes objects:
//! the bucket's lifecycle does, [`KEPT_DAYS`] after they were written, when no queue holds the message any more.

use aws_sdk_s3::{Client, primitives::ByteStream};
use sentinel_durable::{QueueError, queue::MAX_BODY_BYTES};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{late::Late, sdk::CallError};

/// What [`Claims::put`] calls.
pub const WRITE: &[&str] = &["s3:PutObject"];
/// What [`Claims::open`] calls.
pub const READ: &[&str] = &["s3:GetObject"];

/// How the names of these objects begin.
pub const KEY_PREFIX: &str = "claims/";
/// Days that the bucket's lifecycle keeps these objects: longer than a queue and its dead-letter queue keep
/// a message (14 days at most, SQS Developer Guide, "Amazon SQS message quotas") and than a timer's item lives.
pub const KEPT_DAYS: i64 = 30;

/// Begins a body that is a claim.
const MARK: &str = "claim:";

/// A reference to a body, as it stands in a message.
#[derive(Debug, Serialize, Deserialize)]
struct Claim {
    key: String,
    sha256: String,
    bytes: usize,
}

/// What can go wrong with a claim. Only [`Call`](Self::Call) is worth another try.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// The text is no claim, or claims what no message of ours can.
    #[error("not a valid claim: {0}")]
    Malformed(String),
    /// The object is not what was put there.
    #[error("object {key} is not what its message claims: {reason}")]
    Tampered {
        /// The object's name.
        key: String,
        /// How it differs.
        reason: String,
    },
    /// The bucket failed.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl From<ClaimError> for QueueError {
    fn from(e: ClaimError) -> Self {
        Self::store(e)
    }
}

/// Bodies in a bucket.
#[derive(Debug, Clone)]
pub struct Claims {
    client: Late<Client>,
    bucket: String,
}

impl Claims {
    /// Claims in this bucket, under [`KEY_PREFIX`].
    pub fn new(client: impl Into<Late<Client>>, bucket: impl Into<String>) -> Self {
        Self { client: client.into(), bucket: bucket.into() }
    }

    /// Whether a message's body is a claim.
    pub fn is_claim(body: &str) -> bool {
        body.starts_with(MARK)
    }

    /// Writes a body and returns the claim that stands for it. The same body again writes the same object,
    /// whose age then begins anew.
    pub async fn put(&self, body: &str) -> Result<String, ClaimError> {
        let sha256 = digest(body.as_bytes());
        let claim = Claim { key: format!("{KEY_PREFIX}{sha256}"), sha256, bytes: body.len() };
        let text = serde_json::to_string(&claim).map_err(|e| ClaimError::Malformed(e.to_string()))?;
        self.client
            .put_object()
            .bucket(&self.bucket)
            .key(&claim.key)
            .content_type("text/plain; charset=utf-8")
            .body(ByteStream::from(body.as_bytes().to_vec()))
            .send()
            .await
            .map_err(|e| CallError::new(WRITE[0], &e))?;
        Ok(format!("{MARK}{text}"))
    }

    /// Reads the body that a claim stands for.
    pub async fn open(&self, body: &str) -> Result<String, ClaimError> {
        let claim = parse(body)?;
        let tampered = |reason: String| ClaimError::Tampered { key: claim.key.clone(), reason };
        let answer = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(&claim.key)
            .send()
            .await
            .map_err(|e| CallError::new(READ[0], &e))?;
        // Known before it is read, so that a huge object in its place fills no memory.
        let length = answer.content_length().and_then(|length| usize::try_from(length).ok());
        if length != Some(claim.bytes) {
            return Err(tampered(format!("{length:?} bytes instead of {}", claim.bytes)));
        }
        let cut_off = |e| CallError::answer(READ[0], None, format!("the object was cut off: {e}"));
        let bytes = answer.body.collect().await.map_err(cut_off)?.to_vec();
        if digest(&bytes) != claim.sha256 {
            return Err(tampered("its SHA-256 is another".to_owned()));
        }
        String::from_utf8(bytes).map_err(|e| tampered(e.to_string()))
    }
}

fn parse(body: &str) -> Result<Claim, ClaimError> {
    let text = body.strip_prefix(MARK).ok_or_else(|| ClaimError::Malformed("it does not begin as one".to_owned()))?;
    let claim: Claim = serde_json::from_str(text).map_err(|e| ClaimError::Malformed(e.to_string()))?;
    // A message must not make us read any other object of the bucket.
    let named_by_content = claim.key.strip_prefix(KEY_PREFIX) == Some(claim.sha256.as_str());
    let is_digest = claim.sha256.len() == 64 && claim.sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !named_by_content || !is_digest {
        return Err(ClaimError::Malformed(format!("{:?} is no name of such an object", claim.key)));
    }
    if claim.bytes > MAX_BODY_BYTES {
        return Err(ClaimError::Malformed(format!("{} bytes are over the limit of {MAX_BODY_BYTES}", claim.bytes)));
    }
    Ok(claim)
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::operation::{get_object::GetObjectOutput, put_object::PutObjectOutput};
    use aws_smithy_mocks::{Rule, mock};

    use super::*;
    use crate::mocked;

    const BODY: &str = "a body";

    fn claims(rules: &[&Rule]) -> Claims {
        Claims::new(mocked::s3(rules), "data")
    }

    /// A bucket whose objects have this content.
    fn holds(content: &'static str, length: Option<i64>) -> Rule {
        mock!(Client::get_object).match_requests(|r| r.bucket() == Some("data")).then_output(move || {
            GetObjectOutput::builder()
                .set_content_length(length)
                .body(ByteStream::from_static(content.as_bytes()))
                .build()
        })
    }

    async fn claim() -> String {
        let put = mock!(Client::put_object)
            .match_requests(|r| r.bucket() == Some("data") && r.key().is_some_and(|k| k.starts_with(KEY_PREFIX)))
            .then_output(|| PutObjectOutput::builder().build());
        claims(&[&put]).put(BODY).await.unwrap()
    }

    #[tokio::test]
    async fn a_claim_names_its_content_and_opens_to_it() {
        let claim = claim().await;
        let name = digest(BODY.as_bytes());
        assert_eq!(claim, format!(r#"claim:{{"key":"claims/{name}","sha256":"{name}","bytes":6}}"#));
        assert!(Claims::is_claim(&claim) && !Claims::is_claim("{}"));
        assert_eq!(claims(&[&holds(BODY, Some(6))]).open(&claim).await.unwrap(), BODY);
    }

    #[tokio::test]
    async fn another_content_is_refused() {
        let claim = claim().await;
        for (content, length) in [("b body", Some(6)), ("a longer body", Some(13)), (BODY, None), (BODY, Some(-1))] {
            let opened = claims(&[&holds(content, length)]).open(&claim).await;
            assert!(matches!(opened, Err(ClaimError::Tampered { .. })), "{content}: {opened:?}");
        }
    }

    #[tokio::test]
    async fn a_claim_on_another_object_reads_nothing() {
        let name = digest(BODY.as_bytes());
        let other = digest(b"other");
        for (key, sha256, bytes) in [
            (format!("archive/{name}"), name.clone(), 6),
            (format!("claims/{other}"), name.clone(), 6),
            (format!("claims/../{name}"), format!("../{name}"), 6),
            ("claims/".to_owned(), String::new(), 6),
            (format!("claims/{name}"), name.clone(), MAX_BODY_BYTES + 1),
        ] {
            let body = format!("claim:{}", serde_json::json!({"key": key, "sha256": sha256, "bytes": bytes}));
            let rule = holds(BODY, Some(6));
            let opened = claims(&[&rule]).open(&body).await;
            assert!(matches!(opened, Err(ClaimError::Malformed(_))), "{body}: {opened:?}");
            assert_eq!(rule.num_calls(), 0);
        }
        for body in ["claim:", "claim:{}", "claim:[]", "{}"] {
            assert!(matches!(claims(&[]).open(body).await, Err(ClaimError::Malformed(_))), "{body}");
        }
    }

    #[tokio::test]
    async fn a_refused_read_says_why() {
        let denied = mock!(Client::get_object)
            .sequence()
            .http_status(403, Some("<Error><Code>AccessDenied</Code><Message>no</Message></Error>".to_owned()))
            .build();
        let error = claims(&[&denied]).open(&claim().await).await.unwrap_err();
        assert!(matches!(&error, ClaimError::Call(e) if e.is("AccessDenied")), "{error:?}");
    }
}
