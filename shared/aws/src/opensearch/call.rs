//! One request to OpenSearch, tried again while it is overloaded and the invocation has time.

use std::error::Error;
use std::time::Duration;

use opensearch::http::{Method as HttpMethod, headers::HeaderMap};
use rand::Rng;
use serde_json::Value;

use super::{OpenSearch, REQUEST};
use crate::sdk::MARGIN;

/// Most tries of one request.
const TRIES: u32 = 4;
/// Rest before the second try; doubled for each further one.
const REST: Duration = Duration::from_millis(200);
/// Most characters of an answer that an error repeats.
const SHOWN: usize = 300;

/// The methods that are used.
#[derive(Debug, Clone, Copy)]
pub(super) enum Method {
    Get,
    Put,
    Post,
    Delete,
}

impl From<Method> for HttpMethod {
    fn from(method: Method) -> Self {
        match method {
            Method::Get => Self::Get,
            Method::Put => Self::Put,
            Method::Post => Self::Post,
            Method::Delete => Self::Delete,
        }
    }
}

/// What went wrong with a request.
#[derive(Debug, thiserror::Error)]
#[error("OpenSearch: {0}")]
pub(super) struct CallError(String);

impl CallError {
    pub(super) fn endpoint(endpoint: &str, e: &dyn Error) -> Self {
        Self(format!("{endpoint:?} is no endpoint: {e}"))
    }

    pub(super) fn answer(what: &str, answer: &Value) -> Self {
        Self(format!("{what}: {}", short(&answer.to_string())))
    }

    pub(super) fn bulk(count: usize, first: &Value) -> Self {
        Self(format!("{count} operations failed, as {}", short(&first.to_string())))
    }

    fn sending(e: &dyn Error) -> Self {
        let mut text = e.to_string();
        let mut cause = e.source();
        while let Some(e) = cause {
            text = format!("{text}: {e}");
            cause = e.source();
        }
        Self(text)
    }
}

fn short(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

impl OpenSearch {
    /// Sends a request with a body of JSON and returns the JSON of its answer. Requests of every kind used here
    /// can be sent twice without a second effect.
    pub(super) async fn call(&self, method: Method, path: &str, body: &str) -> Result<Value, CallError> {
        let mut attempt = 1;
        loop {
            let left = self.budget.remaining();
            if left < MARGIN {
                return Err(CallError(format!("the invocation has {} ms left: no request is begun", left.as_millis())));
            }
            let timeout = REQUEST.min(left.saturating_sub(MARGIN / 2));
            let failed = match self.once(method, path, body, timeout).await {
                Ok(answer) => return Ok(answer),
                Err((e, again)) if !again || attempt == TRIES => return Err(e),
                Err((e, _)) => e,
            };
            let rest = (REST * (1 << attempt)).mul_f64(rand::rng().random_range(0.5..=1.0));
            if self.budget.remaining() < rest + MARGIN {
                return Err(failed);
            }
            tokio::time::sleep(rest).await;
            attempt += 1;
        }
    }

    /// Sends it once; an error says whether another try is worth it.
    async fn once(
        &self,
        method: Method,
        path: &str,
        body: &str,
        timeout: Duration,
    ) -> Result<Value, (CallError, bool)> {
        let body = (!body.is_empty()).then(|| body.to_owned());
        let sent = self.transport.send(method.into(), path, HeaderMap::new(), None::<&()>, body, Some(timeout)).await;
        let answer = sent.map_err(|e| (CallError::sending(&e), true))?;
        let status = answer.status_code().as_u16();
        let text = answer.text().await.map_err(|e| (CallError::sending(&e), true))?;
        if !(200..300).contains(&status) {
            let again = matches!(status, 429 | 500 | 502 | 503 | 504);
            return Err((CallError(format!("{method:?} {path}: status {status}: {}", short(&text))), again));
        }
        serde_json::from_str(&text).map_err(|e| (CallError(format!("{method:?} {path}: {e}: {}", short(&text))), false))
    }
}
