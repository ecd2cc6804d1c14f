//! The configuration that all clients share: Region and credentials as the SDK finds them, retries with jitter
//! inside the invocation's [`Budget`], timeouts on every attempt, and one pool of connections.
//!
//! In goes the budget, out comes the configuration that every client is made from. [`CallError`] is how
//! adapters say which call failed and why.

use std::error::Error;
use std::time::Duration;

use aws_config::{
    BehaviorVersion, SdkConfig,
    environment::{EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider},
    retry::RetryConfig,
    timeout::TimeoutConfig,
};
use aws_sdk_sqs::config::{AsyncSleep, Sleep};
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::{
    connector_metadata::ConnectorMetadata,
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
    },
    orchestrator::{HttpRequest, HttpResponse},
    result::{ConnectorError, SdkError},
    runtime_components::RuntimeComponents,
};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::budget::Budget;

/// Most attempts of one call, the first included.
const MAX_ATTEMPTS: u32 = 5;
/// Longest time that one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(15);
/// Longest time that connecting may take.
const CONNECT: Duration = Duration::from_secs(3);
/// Time that must be left of an invocation for an attempt to begin, and at which attempts and waits end: what
/// remains is for reporting the failure.
pub const MARGIN: Duration = Duration::from_millis(500);
/// Shortest wait, so that what waits in a loop does not spin once the time is over.
const SHORTEST_WAIT: Duration = Duration::from_millis(20);

/// Loads it. Region and endpoint come from where the SDK always looks for them: the environment first, and so in Lambda
/// nothing else is asked, neither a profile's file nor an instance's metadata.
///
/// An attempt is not begun when less than [`MARGIN`] is left of the budget, and neither an attempt nor the wait
/// before the next one goes on beyond that.
pub async fn load(budget: Budget, trust: Trust, credentials: Credentials) -> SdkConfig {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(CryptoMode::AwsLc))
        .tls_context(trust.context())
        .build_https();
    let mut loader = aws_config::defaults(BehaviorVersion::latest());
    if credentials == Credentials::Environment {
        // Looking further for the Region would make a client of the instance's metadata, which a function has not.
        loader = loader
            .credentials_provider(EnvironmentVariableCredentialsProvider::new())
            .region(EnvironmentVariableRegionProvider::new());
    }
    loader
        .retry_config(RetryConfig::standard().with_max_attempts(MAX_ATTEMPTS))
        .timeout_config(timeouts())
        .http_client(BudgetedClient { inner: http, budget: budget.clone() })
        .sleep_impl(BudgetedSleep(budget))
        .load()
        .await
}

/// Where credentials are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credentials {
    /// Wherever the SDK looks for them, in its order. Making what looks there takes a client of STS.
    Anywhere,
    /// In the environment alone, which is where Lambda puts a function's, and its Region.
    Environment,
}

/// Whose certificates are taken for those of AWS' endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Those that this machine trusts: where somebody may stand between it and AWS on purpose.
    Machine,
    /// Amazon's own roots alone (Amazon Trust Services Repository). Reading a machine's 140 certificates is two
    /// thirds of what a function computes from its start to its first answer.
    Amazon,
}

const AMAZON_ROOTS: &str = include_str!("amazon-roots.pem");

impl Trust {
    fn context(self) -> tls::TlsContext {
        let store = match self {
            Self::Machine => tls::TrustStore::default(),
            Self::Amazon => tls::TrustStore::empty().with_pem_certificate(AMAZON_ROOTS),
        };
        let made = tls::TlsContext::builder().with_trust_store(store).build();
        // The SDK's own default is what is left; it checks certificates too.
        made.unwrap_or_default()
    }
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(ATTEMPT).build()
}

/// Why a request was not sent.
#[derive(Debug, thiserror::Error)]
#[error("the invocation has {left_ms} ms left: too little to begin a request")]
struct OutOfTime {
    left_ms: u128,
}

/// An HTTP client that sends nothing once the budget is used up.
#[derive(Debug)]
struct BudgetedClient {
    inner: SharedHttpClient,
    budget: Budget,
}

impl HttpClient for BudgetedClient {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let inner = self.inner.http_connector(settings, components);
        SharedHttpConnector::new(BudgetedConnector { inner, budget: self.budget.clone() })
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.inner.connector_metadata()
    }
}

#[derive(Debug)]
struct BudgetedConnector {
    inner: SharedHttpConnector,
    budget: Budget,
}

impl HttpConnector for BudgetedConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let left = self.budget.remaining();
        if left < MARGIN {
            // A user's error is the kind that is not tried again.
            let refused = ConnectorError::user(Box::new(OutOfTime { left_ms: left.as_millis() }));
            return HttpConnectorFuture::ready(Err(refused));
        }
        self.inner.call(request)
    }
}

/// The SDK's waits, for the next attempt and for an attempt's end, cut where the budget ends.
#[derive(Debug)]
struct BudgetedSleep(Budget);

impl AsyncSleep for BudgetedSleep {
    fn sleep(&self, duration: Duration) -> Sleep {
        let longest = self.0.remaining().saturating_sub(MARGIN).max(SHORTEST_WAIT);
        Sleep::new(tokio::time::sleep(duration.min(longest)))
    }
}

/// A call to AWS that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{action}: {detail}")]
pub struct CallError {
    /// The IAM action that the call needs, as `sqs:SendMessage`.
    pub action: &'static str,
    /// The service's error code, as `AccessDenied`; `None` when no answer came.
    pub code: Option<String>,
    /// The HTTP status of the answer.
    pub status: Option<u16>,
    detail: String,
}

impl CallError {
    /// Tells of an SDK's error what a reader of logs needs: all its causes, in one line.
    pub fn new<E>(action: &'static str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: Error + ProvideErrorMetadata + 'static,
    {
        let mut detail = error.to_string();
        let mut cause = error.source();
        while let Some(e) = cause {
            let text = e.to_string();
            if !detail.ends_with(&text) {
                detail = format!("{detail}: {text}");
            }
            cause = e.source();
        }
        let metadata = error.as_service_error().map(ProvideErrorMetadata::meta);
        let code = metadata.and_then(|m| m.code()).map(str::to_owned);
        // A service's own error prints its name but not what it says.
        if let Some(message) = metadata.and_then(|m| m.message())
            && !detail.contains(message)
        {
            detail = format!("{detail}: {message}");
        }
        let status = error.raw_response().map(|r| r.status().as_u16());
        Self { action, code, status, detail }
    }

    /// Makes an error of an answer that lacks something or cannot be used.
    pub(crate) fn answer(action: &'static str, code: Option<String>, detail: impl Into<String>) -> Self {
        Self { action, code, status: None, detail: detail.into() }
    }

    /// Whether the service answered with this error code.
    pub fn is(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Instant, SystemTime, UNIX_EPOCH};

    use aws_sdk_sqs::config::{Credentials as Given, Region, SharedAsyncSleep};
    use aws_smithy_runtime_api::client::http::http_client_fn;
    use aws_smithy_types::body::SdkBody;

    use super::*;

    fn budget(left: Duration) -> Budget {
        let deadline = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + left;
        let budget = Budget::unlimited();
        budget.set_deadline_ms(u64::try_from(deadline.as_millis()).unwrap());
        budget
    }

    /// A server that is overloaded at every request, or never answers.
    #[derive(Debug, Clone)]
    struct Server {
        requests: Arc<AtomicUsize>,
        answers: bool,
    }

    impl HttpConnector for Server {
        fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
            self.requests.fetch_add(1, Ordering::Relaxed);
            if self.answers {
                let overloaded = HttpResponse::new(503.try_into().unwrap(), SdkBody::from("{}"));
                return HttpConnectorFuture::ready(Ok(overloaded));
            }
            HttpConnectorFuture::new(std::future::pending())
        }
    }

    fn client(server: &Server, budget: &Budget) -> aws_sdk_sqs::Client {
        let shared = SharedHttpConnector::new(server.clone());
        let inner = http_client_fn(move |_, _| shared.clone());
        let config = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Given::new("id", "secret", None, None, "test"))
            .retry_config(RetryConfig::standard().with_max_attempts(MAX_ATTEMPTS))
            .timeout_config(timeouts())
            .http_client(BudgetedClient { inner, budget: budget.clone() })
            .sleep_impl(SharedAsyncSleep::new(BudgetedSleep(budget.clone())))
            .build();
        aws_sdk_sqs::Client::from_conf(config)
    }

    async fn call(client: &aws_sdk_sqs::Client) -> CallError {
        let error = client.list_queues().send().await.unwrap_err();
        CallError::new("sqs:ListQueues", &error)
    }

    #[tokio::test]
    async fn no_request_is_begun_without_time_to_end_it() {
        let server = Server { requests: Arc::default(), answers: true };
        let error = call(&client(&server, &budget(MARGIN / 2))).await.to_string();
        assert!(error.starts_with("sqs:ListQueues: ") && error.contains("ms left"), "{error}");
        assert_eq!(server.requests.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn retries_end_where_the_budget_does() {
        let server = Server { requests: Arc::default(), answers: true };
        let (begun, left) = (Instant::now(), MARGIN + Duration::from_millis(400));
        let error = call(&client(&server, &budget(left))).await;
        assert!(begun.elapsed() < left, "{:?}", begun.elapsed());
        let requests = server.requests.load(Ordering::Relaxed);
        assert!((1..MAX_ATTEMPTS as usize).contains(&requests), "{requests} requests, {error}");
    }

    #[tokio::test]
    async fn an_attempt_without_an_answer_ends_where_the_budget_does() {
        let server = Server { requests: Arc::default(), answers: false };
        let (begun, left) = (Instant::now(), MARGIN + Duration::from_millis(300));
        let error = call(&client(&server, &budget(left))).await;
        assert!(begun.elapsed() < left, "{:?}: {error}", begun.elapsed());
    }

    #[tokio::test]
    async fn errors_say_code_status_and_message() {
        let shared = SharedHttpConnector::new(Denies);
        let inner = http_client_fn(move |_, _| shared.clone());
        let config = client(&Server { requests: Arc::default(), answers: true }, &Budget::unlimited())
            .config()
            .to_builder()
            .http_client(inner)
            .build();
        let error = call(&aws_sdk_sqs::Client::from_conf(config)).await;
        assert!(error.is("AccessDenied"), "{error:?}");
        assert_eq!(error.status, Some(403));
        assert!(error.to_string().contains("not yours"), "{error}");
    }

    #[derive(Debug)]
    struct Denies;

    impl HttpConnector for Denies {
        fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
            let body = r#"{"__type":"com.amazonaws.sqs#AccessDenied","message":"not yours"}"#;
            let mut denied = HttpResponse::new(403.try_into().unwrap(), SdkBody::from(body));
            denied.headers_mut().insert("content-type", "application/x-amz-json-1.0");
            HttpConnectorFuture::ready(Ok(denied))
        }
    }
}
