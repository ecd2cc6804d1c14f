//! A stand-in for the two AWS services that `sentinel serve --poll` asks, STS and CloudTrail, on this machine.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};

/// Stands for STS and CloudTrail: the caller is `arn`, and `LookupEvents` gives the asked Region's records, a page of
/// two at a time.
pub(crate) struct Aws {
    arn: &'static str,
    records: Vec<Value>,
    /// Answered with `ThrottlingException` before anything is told.
    throttled: usize,
    /// Requests of `LookupEvents`, and answers that were a Region's last page.
    asked: AtomicUsize,
    told: Mutex<BTreeMap<String, usize>>,
}

impl Aws {
    pub(crate) fn new(arn: &'static str, records: Vec<Value>, throttled: usize) -> Arc<Self> {
        Arc::new(Self { arn, records, throttled, asked: AtomicUsize::new(0), told: Mutex::default() })
    }

    /// How often a Region's events were read to the end.
    pub(crate) fn told(&self, region: &str) -> usize {
        self.told.lock().unwrap().get(region).copied().unwrap_or(0)
    }

    /// Newest first and with both ends inclusive, as the CloudTrail API Reference says of `LookupEvents`.
    fn lookup(&self, region: &str, asked: &Value) -> Result<Value, &'static str> {
        if self.asked.fetch_add(1, Ordering::SeqCst) < self.throttled {
            return Err("ThrottlingException");
        }
        let second = |name: &str| asked[name].as_i64().map(|t| jiff::Timestamp::from_second(t).unwrap());
        let (Some(from), Some(to)) = (second("StartTime"), second("EndTime")) else { return Err("InvalidTimeRange") };
        if from > to {
            return Err("InvalidTimeRangeException");
        }
        let time = |r: &Value| r["eventTime"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        let mut found: Vec<_> =
            self.records.iter().filter(|r| r["awsRegion"] == region && (from..=to).contains(&time(r))).collect();
        found.sort_by_key(|r| std::cmp::Reverse(time(r)));
        let offset = match asked["NextToken"].as_str() {
            None => 0,
            Some(token) => token.parse().map_err(|_| "InvalidNextTokenException")?,
        };
        let events: Vec<_> = found
            .iter()
            .skip(offset)
            .take(2)
            .map(|r| {
                json!({
                    "EventId": r["eventID"], "EventName": r["eventName"], "EventSource": r["eventSource"],
                    "EventTime": time(r).as_second(), "ReadOnly": "false", "Username": r["userIdentity"]["userName"],
                    "AccessKeyId": r["userIdentity"]["accessKeyId"], "Resources": [], "CloudTrailEvent": r.to_string(),
                })
            })
            .collect();
        let next = offset + events.len();
        if next < found.len() {
            return Ok(json!({ "Events": events, "NextToken": next.to_string() }));
        }
        *self.told.lock().unwrap().entry(region.to_owned()).or_default() += 1;
        Ok(json!({ "Events": events }))
    }

    /// The answer to a request by its Region (from the signature's scope), operation and body. All else is refused.
    fn answer(&self, headers: &HeaderMap, body: &str) -> (StatusCode, String) {
        let header = |name| headers.get(name).map_or("", |v: &HeaderValue| v.to_str().unwrap());
        let operation = header("x-amz-target");
        if operation.ends_with("CloudTrail_20131101.LookupEvents") {
            let region = header("authorization").split('/').nth(2).unwrap();
            return match self.lookup(region, &serde_json::from_str(body).unwrap()) {
                Ok(page) => (StatusCode::OK, page.to_string()),
                Err(code) => (StatusCode::BAD_REQUEST, json!({ "__type": code, "message": "no" }).to_string()),
            };
        }
        if !body.contains("Action=GetCallerIdentity") {
            let refused =
                "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>";
            return (StatusCode::FORBIDDEN, refused.to_owned());
        }
        let (arn, account) = (self.arn, self.arn.split(':').nth(4).unwrap());
        let xml = format!(
            "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
             <Arn>{arn}</Arn><UserId>x</UserId><Account>{account}</Account></GetCallerIdentityResult>\
             </GetCallerIdentityResponse>"
        );
        (StatusCode::OK, xml)
    }

    /// Answers from now on; gives the address.
    pub(crate) async fn listen(self: &Arc<Self>) -> String {
        use hyper_util::{rt::TokioIo, service::TowerToHyperService};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let aws = Arc::clone(self);
        let answer = async move |headers: HeaderMap, body: String| aws.answer(&headers, &body);
        let router = axum::Router::new().route("/", axum::routing::post(answer));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = TowerToHyperService::new(router.clone());
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        format!("http://{address}")
    }
}
