//! Operators' rules in a bucket: a prefix of a versioned bucket as the [`RuleSource`] that detect keeps in force.
//!
//! One listing tells the current version of every object (S3 API Reference, `ListObjectVersions`); texts are read
//! by exactly that version, so that what is checked is what was listed, and what was in force can be read again
//! after it was overwritten or deleted. In a bucket without versions it works, but what was deleted is gone.

use async_trait::async_trait;
use aws_sdk_s3::{Client, types::ObjectVersion};
use sentinel_state::rules::{RuleObject, RuleSource, RuleSourceError};

use crate::sdk::CallError;

/// What [`RuleSource::list`] and [`RuleSource::read`] call.
pub const READ: &[&str] = &["s3:ListBucketVersions", "s3:GetObject", "s3:GetObjectVersion"];
/// How S3 names the version of an object that was stored while the bucket had no versions.
const UNVERSIONED: &str = "null";

/// Rules under a prefix.
#[derive(Debug, Clone)]
pub struct S3Rules {
    client: Client,
    bucket: String,
    prefix: String,
}

impl S3Rules {
    /// The rules of this bucket under a prefix, with or without a `/` at its end.
    pub fn new(client: Client, bucket: impl Into<String>, prefix: &str) -> Self {
        let prefix = prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Self { client, bucket: bucket.into(), prefix }
    }

    /// An object as the port tells of it; `None` for an older version, or a folder's mark.
    fn object(&self, version: &ObjectVersion) -> Option<RuleObject> {
        let name = version.key()?.strip_prefix(&self.prefix)?;
        if version.is_latest() != Some(true) || name.is_empty() || name.ends_with('/') {
            return None;
        }
        Some(RuleObject {
            name: name.to_owned(),
            version_id: version.version_id().unwrap_or(UNVERSIONED).to_owned(),
            etag: version.e_tag().unwrap_or_default().trim_matches('"').to_owned(),
            size: version.size().and_then(|size| u64::try_from(size).ok()).unwrap_or_default(),
        })
    }
}

#[async_trait]
impl RuleSource for S3Rules {
    async fn list(&self) -> Result<Vec<RuleObject>, RuleSourceError> {
        let mut objects = Vec::new();
        let (mut key, mut version) = (None, None);
        loop {
            let call = self.client.list_object_versions().bucket(&self.bucket).prefix(&self.prefix);
            let page = call.set_key_marker(key).set_version_id_marker(version).send().await;
            let page = page.map_err(|e| RuleSourceError::unreadable(CallError::new(READ[0], &e)))?;
            objects.extend(page.versions().iter().filter_map(|version| self.object(version)));
            key = page.next_key_marker().filter(|marker| !marker.is_empty()).map(str::to_owned);
            version = page.next_version_id_marker().filter(|marker| !marker.is_empty()).map(str::to_owned);
            if page.is_truncated() != Some(true) || key.is_none() {
                return Ok(objects);
            }
        }
    }

    async fn read(&self, object: &RuleObject) -> Result<String, RuleSourceError> {
        let unusable = |reason: &str| RuleSourceError::Object { name: object.name.clone(), reason: reason.to_owned() };
        let version = Some(object.version_id.clone()).filter(|version| version != UNVERSIONED);
        let call = self.client.get_object().bucket(&self.bucket).key(format!("{}{}", self.prefix, object.name));
        let answer = match call.set_version_id(version).send().await.map_err(|e| CallError::new(READ[2], &e)) {
            Ok(answer) => answer,
            Err(e) if e.status == Some(404) => return Err(unusable("this version is gone")),
            Err(e) => return Err(RuleSourceError::unreadable(e)),
        };
        let bytes = answer.body.collect().await.map_err(RuleSourceError::unreadable)?.to_vec();
        String::from_utf8(bytes).map_err(|_| unusable("is not UTF-8 text"))
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::{
        operation::{get_object::GetObjectOutput, list_object_versions::ListObjectVersionsOutput},
        primitives::ByteStream,
    };
    use aws_smithy_mocks::mock;
    use aws_smithy_types::error::ErrorMetadata;

    use super::*;
    use crate::mocked;

    fn version(key: &str, id: &str, latest: bool) -> ObjectVersion {
        ObjectVersion::builder().key(key).version_id(id).e_tag("\"e\"").size(5).is_latest(latest).build()
    }

    fn object(name: &str, version_id: &str) -> RuleObject {
        RuleObject { name: name.into(), version_id: version_id.into(), etag: "e".into(), size: 5 }
    }

    #[tokio::test]
    async fn the_current_version_of_every_object_is_listed_over_all_pages() {
        let first = mock!(Client::list_object_versions)
            .match_requests(|r| r.prefix() == Some("rules/") && r.key_marker().is_none())
            .then_output(|| {
                ListObjectVersionsOutput::builder()
                    .versions(version("rules/a.yml", "v2", true))
                    .versions(version("rules/a.yml", "v1", false))
                    .versions(version("rules/", "v0", true))
                    .is_truncated(true)
                    .next_key_marker("rules/a.yml")
                    .next_version_id_marker("v1")
                    .build()
            });
        let second = mock!(Client::list_object_versions)
            .match_requests(|r| r.key_marker() == Some("rules/a.yml") && r.version_id_marker() == Some("v1"))
            .then_output(|| {
                ListObjectVersionsOutput::builder().versions(version("rules/team/b.yml", "v3", true)).build()
            });
        let client = mocked::s3(&[&first, &second]);
        for prefix in ["rules", "/rules/"] {
            assert_eq!(S3Rules::new(client.clone(), "b", prefix).prefix, "rules/");
        }
        let listed = S3Rules::new(client, "b", "rules/").list().await.unwrap();
        assert_eq!(listed, [object("a.yml", "v2"), object("team/b.yml", "v3")]);
    }

    #[tokio::test]
    async fn exactly_the_listed_version_is_read() {
        let versioned = mock!(Client::get_object)
            .match_requests(|r| r.key() == Some("rules/a.yml") && r.version_id() == Some("v2"))
            .then_output(|| GetObjectOutput::builder().body(ByteStream::from_static(b"text")).build());
        let plain = mock!(Client::get_object)
            .match_requests(|r| r.version_id().is_none())
            .then_output(|| GetObjectOutput::builder().body(ByteStream::from_static(&[0xff, 0xfe])).build());
        let client = mocked::s3(&[&versioned, &plain]);
        let rules = S3Rules::new(client, "b", "rules");
        assert_eq!(rules.read(&object("a.yml", "v2")).await.unwrap(), "text");
        let bad = rules.read(&object("a.yml", UNVERSIONED)).await.unwrap_err();
        assert!(matches!(&bad, RuleSourceError::Object { reason, .. } if reason.contains("UTF-8")), "{bad}");
    }

    #[tokio::test]
    async fn a_version_that_is_gone_is_told_from_a_bucket_that_cannot_be_read() {
        let error = |status: u16, code: &'static str| {
            let rule = mock!(Client::get_object).then_http_response(move || {
                let body = format!("<Error><Code>{code}</Code><Message>told</Message></Error>");
                let status = aws_smithy_runtime_api::http::StatusCode::try_from(status).unwrap();
                aws_smithy_runtime_api::client::orchestrator::HttpResponse::new(status, body.into())
            });
            S3Rules::new(mocked::s3(&[&rule]), "b", "rules")
        };
        let gone = error(404, "NoSuchVersion").read(&object("a.yml", "v")).await.unwrap_err();
        assert!(matches!(&gone, RuleSourceError::Object { name, .. } if name == "a.yml"), "{gone}");
        let denied = error(403, "AccessDenied").read(&object("a.yml", "v")).await.unwrap_err();
        assert!(matches!(&denied, RuleSourceError::Unreadable(_)), "{denied}");
        assert!(denied.to_string().contains("s3:GetObjectVersion"), "{denied}");
        let list = mock!(Client::list_object_versions).then_error(|| {
            let about = ErrorMetadata::builder().code("AccessDenied").message("told").build();
            aws_sdk_s3::operation::list_object_versions::ListObjectVersionsError::generic(about)
        });
        let rules = S3Rules::new(mocked::s3(&[&list]), "b", "rules");
        let unlisted = rules.list().await.unwrap_err();
        assert!(unlisted.to_string().contains("s3:ListBucketVersions"), "{unlisted}");
    }
}
