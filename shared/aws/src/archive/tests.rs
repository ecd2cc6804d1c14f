//! What cannot be had from an emulator: puts at the same moment, damaged and refused objects, partial deletes.

use aws_sdk_s3::operation::{
    delete_objects::DeleteObjectsOutput, get_object::GetObjectOutput, list_objects_v2::ListObjectsV2Output,
    put_object::PutObjectOutput,
};
use aws_sdk_s3::types::{CommonPrefix, Error as DeleteError, Object as Listed};
use aws_smithy_mocks::{Rule, mock};
use sentinel_archive::conformance::event;

use super::*;
use crate::mocked;

const ACCOUNT: &str = "123456789012";
const DAY: &str = "2024-01-05";

fn archive(rules: &[&Rule]) -> S3Archive {
    S3Archive::new(mocked::s3(rules), "data", "archive/")
}

fn batch() -> Vec<Event> {
    vec![event("a", "2024-01-05T01:00:00Z", ACCOUNT, "{}")]
}

fn failure(code: &str) -> String {
    format!("<Error><Code>{code}</Code><Message>because</Message></Error>")
}

#[tokio::test]
async fn a_batch_is_put_where_there_is_none_of_its_name() {
    let name = objects(&batch()).unwrap().remove(0).name;
    let rule = mock!(Client::put_object)
        .match_requests(move |r| {
            let key = format!("archive/{ACCOUNT}/{DAY}/{name}");
            r.key() == Some(key.as_str()) && r.if_none_match() == Some("*") && r.bucket() == Some("data")
        })
        .then_output(|| PutObjectOutput::builder().build());
    archive(&[&rule]).put(&batch()).await.unwrap();
    assert_eq!(rule.num_calls(), 1);
}

#[tokio::test]
async fn one_that_is_there_is_no_error_and_one_that_is_coming_is_waited_for() {
    let there = mock!(Client::put_object).sequence().http_status(412, Some(failure("PreconditionFailed"))).build();
    archive(&[&there]).put(&batch()).await.unwrap();
    let conflict = failure("ConditionalRequestConflict");
    let coming = mock!(Client::put_object)
        .sequence()
        .http_status(409, Some(conflict))
        .http_status(412, Some(failure("PreconditionFailed")))
        .build();
    archive(&[&coming]).put(&batch()).await.unwrap();
    assert_eq!(coming.num_calls(), 2);
    let denied = mock!(Client::put_object).sequence().http_status(403, Some(failure("AccessDenied"))).build();
    let error = archive(&[&denied]).put(&batch()).await.unwrap_err().to_string();
    assert!(error.contains("s3:PutObject") && error.contains("AccessDenied"), "{error}");
}

/// A listing that comes in pages of one object each.
fn listing(names: &[&'static str]) -> Vec<Rule> {
    names
        .iter()
        .enumerate()
        .map(|(at, name)| {
            let (token, next) =
                ((at > 0).then(|| at.to_string()), (at + 1 < names.len()).then(|| (at + 1).to_string()));
            let name = *name;
            mock!(Client::list_objects_v2)
                .match_requests(move |r| r.continuation_token() == token.as_deref())
                .then_output(move || {
                    let key = format!("archive/{ACCOUNT}/{DAY}/{name}");
                    ListObjectsV2Output::builder()
                        .contents(Listed::builder().key(key).build())
                        .set_next_continuation_token(next.clone())
                        .build()
                })
        })
        .collect()
}

#[tokio::test]
async fn what_cannot_be_read_stops_no_other_object() {
    let lists = listing(&["a.ndjson.gz", "b.ndjson.gz", "c.ndjson.gz", "notes.txt"]);
    let bytes = objects(&batch()).unwrap().remove(0).bytes;
    let named = |suffix: &'static str| move |key: Option<&str>| key.is_some_and(|k| k.ends_with(suffix));
    let whole = mock!(Client::get_object)
        .match_requests(move |r| named("b.ndjson.gz")(r.key()))
        .then_output(move || GetObjectOutput::builder().body(ByteStream::from(bytes.clone())).build());
    let broken = mock!(Client::get_object)
        .match_requests(move |r| named("a.ndjson.gz")(r.key()))
        .then_output(|| GetObjectOutput::builder().body(ByteStream::from_static(b"no gzip")).build());
    let denied = mock!(Client::get_object)
        .match_requests(move |r| named("c.ndjson.gz")(r.key()))
        .sequence()
        .http_status(403, Some(failure("KMS.DisabledException")))
        .build();
    let rules: Vec<&Rule> = lists.iter().chain([&whole, &broken, &denied]).collect();
    let day = archive(&rules).read(ACCOUNT, DAY).await.unwrap();
    assert_eq!(day.events.len(), 1);
    let problems: Vec<String> = day.unreadable.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].contains(&format!("{ACCOUNT}/{DAY}/a.ndjson.gz")), "{problems:?}");
    assert!(problems[1].contains("c.ndjson.gz") && problems[1].contains("KMS.DisabledException"), "{problems:?}");
}

#[tokio::test]
async fn a_bucket_that_does_not_answer_is_an_error_and_no_empty_day() {
    let lists = listing(&["a.ndjson.gz"]);
    let failing = mock!(Client::get_object).sequence().http_status(503, Some(failure("SlowDown"))).repeatedly().build();
    let error = archive(&[&lists[0], &failing]).read(ACCOUNT, DAY).await.unwrap_err();
    assert!(error.to_string().contains("SlowDown"), "{error}");
    assert_eq!(failing.num_calls(), 3, "the client's own retries");
}

#[tokio::test]
async fn what_cannot_be_deleted_is_an_error() {
    let folders = |prefix: &'static str, folder: &'static str| {
        mock!(Client::list_objects_v2).match_requests(move |r| r.prefix() == Some(prefix)).then_output(move || {
            let found = CommonPrefix::builder().prefix(format!("{prefix}{folder}/")).build();
            ListObjectsV2Output::builder().common_prefixes(found).build()
        })
    };
    let accounts = folders("archive/", ACCOUNT);
    let days = folders("archive/123456789012/", DAY);
    let object = listing(&["a.ndjson.gz"]).remove(0);
    let kept = mock!(Client::delete_objects).then_output(|| {
        let error = DeleteError::builder().key("archive/x").code("AccessDenied").message("locked").build();
        DeleteObjectsOutput::builder().errors(error).build()
    });
    let archive = archive(&[&accounts, &days, &object, &kept]);
    let error = archive.forget_before("2024-02-01T00:00:00Z".parse().unwrap()).await.unwrap_err().to_string();
    assert!(error.contains("archive/x: locked"), "{error}");
    assert_eq!(archive.forget_before("2024-01-05T23:00:00Z".parse().unwrap()).await.unwrap(), 0);
}
