//! Log objects of a trail's bucket as streams, and the queue by which a long one is continued.
//!
//! In goes the slice that a notification names, out comes a blocking [`Read`]: a task of the runtime fetches the
//! body a few chunks ahead of whoever reads it, so an object is never held whole. What is read must be what
//! was announced: its version where the bucket keeps versions, and its entity tag. So a file that is continued
//! is the same one, byte for byte. A bucket may be in any Region: S3 says in which, and is asked there from then on.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use async_trait::async_trait;
use aws_config::{Region, SdkConfig};
use aws_sdk_s3::{
    operation::get_object::{GetObjectError, GetObjectOutput},
    primitives::ByteStream,
};
use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use sentinel_ingest::objects::{ObjectError, Objects, OpenObject, Slice};
use sentinel_model::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::sdk::CallError;

/// What [`S3Objects`] calls: the second where a version is named, which buckets that keep versions do. For an
/// object that a KMS key encrypts, S3 calls `kms:Decrypt` in the caller's name ("Protecting data with
/// SSE-KMS", Amazon S3 User Guide): the role needs it on that key, and in another account the key's policy
/// must allow it too.
pub const READ: &[&str] = &["s3:GetObject", "s3:GetObjectVersion", "kms:Decrypt"];
/// What [`SqsContinuations`] calls.
pub const CONTINUE: &[&str] = &["sqs:SendMessage"];

/// Chunks fetched ahead of the reader; the SDK's are some tens of kilobytes each.
const CHUNKS_AHEAD: usize = 16;

/// Objects of buckets in this or another account.
#[derive(Debug, Clone)]
pub struct S3Objects {
    client: aws_sdk_s3::Client,
    /// Clients of the Regions of buckets that are not in the client's own, by bucket.
    elsewhere: Arc<Mutex<HashMap<String, aws_sdk_s3::Client>>>,
}

impl S3Objects {
    /// Objects read with this configuration, and in whichever Region their bucket is.
    pub fn connect(sdk: &SdkConfig) -> Self {
        Self::new(aws_sdk_s3::Client::new(sdk))
    }

    /// Objects read by this client, and by ones like it for buckets of other Regions.
    pub fn new(client: aws_sdk_s3::Client) -> Self {
        Self { client, elsewhere: Arc::default() }
    }

    /// The client of a bucket, as far as is known.
    fn client(&self, bucket: &str) -> aws_sdk_s3::Client {
        let elsewhere = self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner);
        elsewhere.get(bucket).unwrap_or(&self.client).clone()
    }

    /// The client of the Region that S3 says a bucket is in; `None` when it says none but the one that was asked.
    fn redirected(
        &self,
        asked: &aws_sdk_s3::Client,
        bucket: &str,
        error: &SdkError<GetObjectError, HttpResponse>,
    ) -> Option<aws_sdk_s3::Client> {
        let region = bucket_region(error.raw_response()?)?;
        if asked.config().region().is_some_and(|known| known.as_ref() == region) {
            return None;
        }
        tracing::info!(bucket, region, "the bucket is in another Region");
        let config = asked.config().to_builder().region(Region::new(region)).build();
        let client = aws_sdk_s3::Client::from_conf(config);
        let mut elsewhere = self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner);
        elsewhere.insert(bucket.to_owned(), client.clone());
        Some(client)
    }
}

async fn get(
    client: &aws_sdk_s3::Client,
    slice: &Slice,
) -> Result<GetObjectOutput, SdkError<GetObjectError, HttpResponse>> {
    let call = client.get_object().bucket(&slice.bucket).key(&slice.key);
    let call = call.set_version_id(slice.version.clone());
    call.set_if_match(slice.etag.as_ref().map(|tag| format!("\"{tag}\""))).send().await
}

/// The Region that a refusal names as the bucket's: a redirect by a header, a signature for the wrong Region
/// perhaps in its text alone (Amazon S3 API Reference, "Error responses": `PermanentRedirect`,
/// `AuthorizationHeaderMalformed`). Clients do not follow these by themselves.
fn bucket_region(refusal: &HttpResponse) -> Option<String> {
    if !matches!(refusal.status().as_u16(), 301 | 307 | 400) {
        return None;
    }
    let in_text = || {
        let text = std::str::from_utf8(refusal.body().bytes()?).ok()?;
        let (_, rest) = text.split_once("<Region>")?;
        rest.split_once("</Region>").map(|(region, _)| region)
    };
    let region = refusal.headers().get("x-amz-bucket-region").or_else(in_text)?;
    let is_region = !region.is_empty() && region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    is_region.then(|| region.to_owned())
}

#[async_trait]
impl Objects for S3Objects {
    async fn open(&self, slice: &Slice) -> Result<OpenObject, ObjectError> {
        let client = self.client(&slice.bucket);
        let mut answer = get(&client, slice).await;
        if let Err(e) = &answer
            && let Some(client) = self.redirected(&client, &slice.bucket, e)
        {
            answer = get(&client, slice).await;
        }
        let answer = answer.map_err(|e| failed(slice, CallError::new(READ[0], &e)))?;
        let modified = answer.last_modified().and_then(|t| Timestamp::from_second(t.secs()).ok());
        Ok(OpenObject {
            modified,
            version: answer.version_id().filter(|v| *v != "null").map(str::to_owned),
            etag: answer.e_tag().map(|tag| tag.trim_matches('"').to_owned()),
            reader: Box::new(stream(answer.body)),
        })
    }
}

fn failed(slice: &Slice, error: CallError) -> ObjectError {
    let (bucket, key) = (slice.bucket.clone(), slice.key.clone());
    match error.status {
        // Without `s3:ListBucket` a missing object is a 403, which can't be told from a missing permission.
        Some(404) => ObjectError::Gone { bucket, key },
        Some(412) => ObjectError::Replaced { bucket, key },
        _ => ObjectError::Store { bucket, key, error: Box::new(error) },
    }
}

/// What a stream is made of.
trait Body: Send + 'static {
    /// The next chunk; `None` at the end.
    fn chunk(&mut self) -> impl Future<Output = Option<io::Result<Vec<u8>>>> + Send;
}

impl Body for ByteStream {
    async fn chunk(&mut self) -> Option<io::Result<Vec<u8>>> {
        Some(self.next().await?.map(|bytes| bytes.to_vec()).map_err(io::Error::other))
    }
}

/// A chunk, and the room that it takes among those fetched ahead.
type Chunk = (io::Result<Option<Vec<u8>>>, OwnedSemaphorePermit);

/// Makes a stream a blocking reader. Unlike `SyncIoBridge` it may be read inside `block_on`, as ingest does.
fn stream(mut body: impl Body) -> impl Read + Send + 'static {
    let (sender, chunks) = mpsc::channel::<Chunk>();
    let room = Arc::new(Semaphore::new(CHUNKS_AHEAD));
    tokio::spawn(async move {
        // The semaphore is never closed; were it, the body would seem cut, and so it would be told.
        while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
            let chunk = body.chunk().await;
            let last = !matches!(chunk, Some(Ok(_)));
            // An error here: nobody reads any more, so the rest isn't fetched.
            if sender.send((chunk.transpose(), permit)).is_err() || last {
                return;
            }
        }
    });
    Chunks { coming: chunks, current: io::Cursor::new(Vec::new()), ended: false }
}

/// Reads chunks as they come.
struct Chunks {
    coming: mpsc::Receiver<Chunk>,
    current: io::Cursor<Vec<u8>>,
    ended: bool,
}

impl Read for Chunks {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let n = self.current.read(into)?;
            if n > 0 || into.is_empty() || self.ended {
                return Ok(n);
            }
            // A task that ended without saying so panicked, or went with its runtime.
            let (chunk, _room) = self.coming.recv().map_err(|_| io::ErrorKind::ConnectionAborted)?;
            match chunk? {
                Some(bytes) => self.current = io::Cursor::new(bytes),
                None => self.ended = true,
            }
        }
    }
}

/// The queue to which the messages go that continue an object.
#[derive(Debug, Clone)]
pub struct SqsContinuations {
    client: aws_sdk_sqs::Client,
    queue_url: String,
}

impl SqsContinuations {
    /// The queue with this URL, used with this configuration.
    pub fn connect(sdk: &SdkConfig, queue_url: impl Into<String>) -> Self {
        Self::new(aws_sdk_sqs::Client::new(sdk), queue_url)
    }

    /// The queue with this URL.
    pub fn new(client: aws_sdk_sqs::Client, queue_url: impl Into<String>) -> Self {
        Self { client, queue_url: queue_url.into() }
    }

    /// Sends one; when it returns, the message is durable.
    pub async fn send(&self, body: String) -> Result<(), CallError> {
        let sent = self.client.send_message().queue_url(&self.queue_url).message_body(body).send().await;
        sent.map(drop).map_err(|e| CallError::new(CONTINUE[0], &e))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use aws_sdk_sqs::operation::send_message::SendMessageOutput;
    use aws_smithy_mocks::{Rule, mock};
    use aws_smithy_types::body::SdkBody;

    use super::*;
    use crate::mocked;

    fn slice() -> Slice {
        Slice {
            bucket: "trail".into(),
            key: "a b/CloudTrail/x.json.gz".into(),
            version: Some("v1".into()),
            etag: Some("0123".into()),
            ..Slice::default()
        }
    }

    fn objects(rule: &Rule) -> S3Objects {
        S3Objects::new(mocked::s3(&[rule]))
    }

    async fn refused(status: u16, body: &'static str) -> ObjectError {
        let rule = mock!(aws_sdk_s3::Client::get_object)
            .then_http_response(move || HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body)));
        match objects(&rule).open(&slice()).await {
            Err(e) => e,
            Ok(_) => panic!("status {status} opened the object"),
        }
    }

    /// Reads as ingest does: in a thread of its own, inside `block_on`.
    async fn read(mut reader: Box<dyn Read + Send>) -> io::Result<Vec<u8>> {
        let handle = tokio::runtime::Handle::current();
        let blocking = move || {
            handle.block_on(async {
                let mut bytes = Vec::new();
                reader.read_to_end(&mut bytes).map(|_| bytes)
            })
        };
        tokio::task::spawn_blocking(blocking).await.unwrap()
    }

    #[tokio::test]
    async fn an_object_is_read_as_the_version_and_content_that_were_announced() {
        let rule = mock!(aws_sdk_s3::Client::get_object)
            .match_requests(|r| {
                r.bucket() == Some("trail")
                    && r.key() == Some("a b/CloudTrail/x.json.gz")
                    && r.version_id() == Some("v1")
                    && r.if_match() == Some("\"0123\"")
            })
            .then_output(|| {
                GetObjectOutput::builder()
                    .body(ByteStream::from_static(b"bytes of it"))
                    .e_tag("\"0123\"")
                    .version_id("v1")
                    .last_modified(aws_smithy_types::DateTime::from_secs(1_714_979_400))
                    .build()
            });
        let open = objects(&rule).open(&slice()).await.unwrap();
        assert_eq!((open.etag.as_deref(), open.version.as_deref()), (Some("0123"), Some("v1")));
        assert_eq!(open.modified.unwrap().to_string(), "2024-05-06T07:10:00Z");
        assert_eq!(read(open.reader).await.unwrap(), b"bytes of it");
    }

    #[tokio::test]
    async fn without_version_and_tag_none_is_asked_for() {
        let rule = mock!(aws_sdk_s3::Client::get_object)
            .match_requests(|r| r.version_id().is_none() && r.if_match().is_none())
            .then_output(|| GetObjectOutput::builder().body(ByteStream::from_static(b"")).version_id("null").build());
        let open = objects(&rule).open(&Slice { version: None, etag: None, ..slice() }).await.unwrap();
        assert_eq!((open.etag, open.version), (None, None));
        assert!(read(open.reader).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn an_object_that_is_gone_or_replaced_is_told_from_a_failure() {
        let gone = refused(404, "<Error><Code>NoSuchKey</Code></Error>").await;
        assert_eq!(gone.to_string(), "object a b/CloudTrail/x.json.gz of bucket trail is gone");
        assert!(matches!(
            refused(412, "<Error><Code>PreconditionFailed</Code></Error>").await,
            ObjectError::Replaced { .. }
        ));
        let denied = refused(403, "<Error><Code>AccessDenied</Code><Message>no</Message></Error>").await;
        assert!(matches!(denied, ObjectError::Store { .. }), "{denied}");
        assert!(denied.to_string().contains("s3:GetObject"), "{denied}");
    }

    #[tokio::test]
    async fn a_bucket_of_another_region_is_asked_there_from_then_on() {
        let redirect = || {
            let body = "<Error><Code>PermanentRedirect</Code><Message>elsewhere</Message></Error>";
            let mut answer = HttpResponse::new(301.try_into().unwrap(), SdkBody::from(body));
            answer.headers_mut().insert("x-amz-bucket-region", "eu-west-1");
            answer
        };
        let malformed = || {
            let body = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>";
            HttpResponse::new(400.try_into().unwrap(), SdkBody::from(body))
        };
        let found = || GetObjectOutput::builder().body(ByteStream::from_static(b"bytes of it")).build();
        for refusal in [redirect as fn() -> HttpResponse, malformed] {
            let rule = mock!(aws_sdk_s3::Client::get_object)
                .sequence()
                .http_response(refusal)
                .output(found)
                .output(found)
                .build();
            let objects = objects(&rule);
            let region = |objects: &S3Objects| objects.client("trail").config().region().map(ToString::to_string);
            assert_eq!(region(&objects).as_deref(), Some("us-east-1"));
            for _ in 0..2 {
                let open = objects.open(&slice()).await.unwrap();
                assert_eq!(read(open.reader).await.unwrap(), b"bytes of it");
                assert_eq!(region(&objects).as_deref(), Some("eu-west-1"));
            }
            assert_eq!(rule.num_calls(), 3);
        }
    }

    #[tokio::test]
    async fn a_refusal_that_names_no_other_region_is_final() {
        for body in ["<Error><Code>InvalidRequest</Code></Error>", "<Error><Region>us-east-1</Region></Error>"] {
            let refusal = move || HttpResponse::new(400.try_into().unwrap(), SdkBody::from(body));
            let rule = mock!(aws_sdk_s3::Client::get_object).sequence().http_response(refusal).build();
            assert!(matches!(objects(&rule).open(&slice()).await, Err(ObjectError::Store { .. })), "{body}");
            assert_eq!(rule.num_calls(), 1, "{body}");
        }
    }

    #[tokio::test]
    async fn long_bodies_come_whole_and_only_a_little_ahead() {
        let chunks = 4 * CHUNKS_AHEAD;
        let (body, fetched) = counted(chunks, None);
        let reader = stream(body);
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
        assert_eq!(fetched(), CHUNKS_AHEAD, "fetched before anybody reads");
        let bytes = read(Box::new(reader)).await.unwrap();
        assert_eq!((bytes.len(), fetched()), (chunks * CHUNK, chunks));
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_an_error_and_not_an_end() {
        let (body, _) = counted(5, Some(3));
        let error = read(Box::new(stream(body))).await.unwrap_err();
        assert!(format!("{error:?}").contains("connection lost"), "{error:?}");
    }

    #[tokio::test]
    async fn what_nobody_reads_is_not_fetched() {
        let (body, fetched) = counted(4 * CHUNKS_AHEAD, None);
        drop(stream(body));
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
        assert!(fetched() <= CHUNKS_AHEAD, "{}", fetched());
    }

    #[tokio::test]
    async fn a_continuation_is_sent_to_its_queue() {
        let rule = mock!(aws_sdk_sqs::Client::send_message)
            .match_requests(|r| r.queue_url() == Some("http://q") && r.message_body() == Some("{}"))
            .then_output(|| SendMessageOutput::builder().message_id("1").build());
        SqsContinuations::new(mocked::sqs(&[&rule]), "http://q").send("{}".into()).await.unwrap();
        assert_eq!(rule.num_calls(), 1);
    }

    /// A body that counts how much of it was fetched.
    struct Counted {
        fetched: Arc<AtomicUsize>,
        chunks: usize,
        breaks_at: Option<usize>,
    }

    const CHUNK: usize = 1_000;

    impl Body for Counted {
        async fn chunk(&mut self) -> Option<io::Result<Vec<u8>>> {
            tokio::task::yield_now().await;
            let at = self.fetched.load(Ordering::SeqCst);
            if self.breaks_at == Some(at) {
                return Some(Err(io::Error::other("connection lost")));
            }
            if at == self.chunks {
                return None;
            }
            self.fetched.fetch_add(1, Ordering::SeqCst);
            Some(Ok(vec![0; CHUNK]))
        }
    }

    /// A body of so many chunks that may break off, and how many were fetched.
    fn counted(chunks: usize, breaks_at: Option<usize>) -> (Counted, impl Fn() -> usize) {
        let fetched = Arc::<AtomicUsize>::default();
        (Counted { fetched: fetched.clone(), chunks, breaks_at }, move || fetched.load(Ordering::SeqCst))
    }
}
