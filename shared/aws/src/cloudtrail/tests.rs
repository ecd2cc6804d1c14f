//! What is asked, by how many requests, and what refusals mean.

use aws_sdk_cloudtrail::error::ErrorMetadata;
use aws_sdk_cloudtrail::operation::lookup_events::{LookupEventsError, LookupEventsOutput};
use aws_sdk_cloudtrail::types::Event;
use aws_smithy_mocks::{Rule, mock};

use super::*;
use crate::mocked;

fn lookup(rule: &Rule) -> CloudTrailLookup {
    CloudTrailLookup::over(mocked::cloudtrail(&[rule]).config().to_builder())
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

async fn page(lookup: &CloudTrailLookup, next: Option<&str>) -> Result<LookupPage, LookupError> {
    let (start, end) = (at("2026-03-01T12:00:00Z"), at("2026-03-01T12:01:00Z"));
    lookup.page("eu-central-1", start, end, next.map(str::to_owned)).await
}

#[tokio::test]
async fn a_page_is_one_request_whose_end_is_exclusive() {
    let rule = mock!(Client::lookup_events)
        .match_requests(|r| {
            r.start_time().map(DateTime::secs) == Some(at("2026-03-01T12:00:00Z").as_second())
                && r.end_time().map(DateTime::secs) == Some(at("2026-03-01T12:00:59Z").as_second())
                && r.next_token() == Some("two")
                && r.max_results() == Some(PAGE)
        })
        .then_output(|| {
            let event = |text: &str| Event::builder().cloud_trail_event(text).build();
            LookupEventsOutput::builder().events(event("{\"a\":1}")).events(event("{}")).next_token("three").build()
        });
    let found = page(&lookup(&rule), Some("two")).await.unwrap();
    assert_eq!(found, LookupPage { records: vec!["{\"a\":1}".into(), "{}".into()], next: Some("three".into()) });
    assert_eq!(rule.num_calls(), 1);
}

#[tokio::test]
async fn refusals_are_one_request_and_told_as_what_they_are() {
    type Expected = fn(&LookupError) -> bool;
    let cases: [(&'static str, Expected); 4] = [
        ("ThrottlingException", |e| *e == LookupError::Throttled),
        ("InvalidNextTokenException", |e| *e == LookupError::Restart),
        ("AccessDeniedException", |e| matches!(e, LookupError::Denied(_))),
        ("InternalFailure", |e| matches!(e, LookupError::Passing(_))),
    ];
    for (code, expected) in cases {
        let rule = mock!(Client::lookup_events)
            .then_error(move || LookupEventsError::generic(ErrorMetadata::builder().code(code).build()));
        let error = page(&lookup(&rule), None).await.unwrap_err();
        assert!(expected(&error), "{code}: {error:?}");
        assert_eq!(rule.num_calls(), 1);
    }
}
