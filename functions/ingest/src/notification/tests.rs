//! Bodies as the services document them.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const KEY: &str =
    "AWSLogs/111122223333/CloudTrail/eu-west-1/2024/05/06/111122223333_CloudTrail_eu-west-1_20240506T0710Z_a.json.gz";

fn s3(name: &str, key: &str) -> serde_json::Value {
    json!({"eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "eu-west-1", "eventName": name,
        "s3": {"s3SchemaVersion": "1.0", "bucket": {"name": "trail", "arn": "arn:aws:s3:::trail"},
            "object": {"key": key, "size": 7, "eTag": "0123abcd", "versionId": "v1", "sequencer": "00"}}})
}

fn slice(key: &str) -> Slice {
    Slice {
        bucket: "trail".into(),
        key: key.into(),
        version: Some("v1".into()),
        etag: Some("0123abcd".into()),
        size: Some(7),
        skip_records: 0,
    }
}

fn sns(message: &str) -> String {
    json!({"Type": "Notification", "MessageId": "m", "TopicArn": "arn:aws:sns:eu-west-1:111122223333:trail",
        "Subject": "Amazon S3 Notification", "Message": message, "Timestamp": "2024-05-06T07:10:00.000Z"})
    .to_string()
}

fn event_bridge(kind: &str, key: &str) -> String {
    json!({"version": "0", "id": "1", "detail-type": kind, "source": "aws.s3", "account": "111122223333",
        "region": "eu-west-1", "resources": ["arn:aws:s3:::trail"],
        "detail": {"version": "0", "bucket": {"name": "trail"}, "reason": "PutObject",
            "object": {"key": key, "size": 7, "etag": "0123abcd", "version-id": "v1", "sequencer": "00"}}})
    .to_string()
}

#[test]
fn every_wrapping_tells_of_the_same_object() {
    let direct = json!({"Records": [s3("ObjectCreated:Put", KEY)]}).to_string();
    for body in [direct.clone(), sns(&direct), event_bridge("Object Created", KEY), sns(&sns(&direct))] {
        let notice = read(&body).unwrap();
        assert_eq!((notice.objects, notice.skipped.len()), (vec![slice(KEY)], 0), "{body}");
    }
}

#[test]
fn a_trails_own_notice_names_its_files() {
    let message =
        json!({"s3Bucket": "trail", "s3ObjectKey": [KEY, "AWSLogs/1/CloudTrail-Digest/x.json.gz"]}).to_string();
    let notice = read(&sns(&message)).unwrap();
    assert_eq!(notice.objects, [Slice { bucket: "trail".into(), key: KEY.into(), ..Slice::default() }]);
    assert_eq!(notice.skipped, [(Skipped::Digest, 1)].into());
}

#[test]
fn only_logs_that_were_created_are_read() {
    let organisation = "p/AWSLogs/o-abcd123456/111122223333/CloudTrail/us-east-1/2024/05/06/x.json";
    let records = json!({"Records": [
        s3("ObjectCreated:Put", organisation),
        s3("ObjectCreated:CompleteMultipartUpload", KEY),
        s3("ObjectRemoved:Delete", KEY),
        s3("ObjectCreated:Put", "AWSLogs/111122223333/CloudTrail-Digest/eu-west-1/2024/05/06/x.json.gz"),
        s3("ObjectCreated:Put", "AWSLogs/111122223333/CloudTrail-Insight/eu-west-1/2024/05/06/x.json.gz"),
        s3("ObjectCreated:Put", "AWSLogs/111122223333/Config/eu-west-1/x.json.gz"),
        s3("ObjectCreated:Put", "AWSLogs/111122223333/CloudTrail/eu-west-1/x.txt"),
        s3("ObjectCreated:Put", "CloudTrail.json"),
    ]});
    let notice = read(&records.to_string()).unwrap();
    assert_eq!(notice.objects, [slice(organisation), slice(KEY)]);
    let skipped = [(Skipped::Digest, 1), (Skipped::Insight, 1), (Skipped::NoLog, 3), (Skipped::NotCreated, 1)];
    assert_eq!(notice.skipped, skipped.into());
    let deleted = read(&event_bridge("Object Deleted", KEY)).unwrap();
    assert_eq!((deleted.objects.len(), deleted.skipped), (0, [(Skipped::NotCreated, 1)].into()));
}

#[test]
fn the_test_message_is_no_object() {
    let test =
        json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2024-05-06T07:10:00.000Z", "Bucket": "trail"});
    for body in [test.to_string(), sns(&test.to_string())] {
        let notice = read(&body).unwrap();
        assert_eq!((notice.objects.len(), notice.skipped), (0, [(Skipped::Test, 1)].into()));
    }
}

#[test]
fn keys_are_decoded_where_s3_encodes_them() {
    let body = json!({"Records": [s3("ObjectCreated:Put", "my+logs%2Fa%C3%A9/CloudTrail/x%2B1.json.gz")]}).to_string();
    assert_eq!(read(&body).unwrap().objects[0].key, "my logs/aé/CloudTrail/x+1.json.gz");
    let plain = "my+logs/CloudTrail/x%2B1.json.gz";
    assert_eq!(read(&event_bridge("Object Created", plain)).unwrap().objects[0].key, plain);
    for key in ["a%2", "a%zz", "a%ff"] {
        let body = json!({"Records": [s3("ObjectCreated:Put", key)]}).to_string();
        assert!(matches!(read(&body), Err(NoticeError::Key(k)) if k == key), "{key}");
    }
}

#[test]
fn a_bucket_without_versions_names_none() {
    let mut record = s3("ObjectCreated:Put", KEY);
    record["s3"]["object"].as_object_mut().unwrap().remove("versionId");
    record["s3"]["object"]["eTag"] = json!("\"0123abcd\"");
    let notice = read(&json!({"Records": [record]}).to_string()).unwrap();
    assert_eq!(notice.objects, [Slice { version: None, ..slice(KEY) }]);
}

#[test]
fn what_is_no_notification_is_refused() {
    for body in ["", "x", "[]", "{}", r#"{"Records":[{}]}"#, r#"{"Type":"SubscriptionConfirmation","Message":"{}"}"#] {
        read(body).unwrap_err();
    }
    let event = json!({"source": "aws.ec2", "detail-type": "Object Created", "detail": {}}).to_string();
    assert!(matches!(read(&event), Err(NoticeError::Unknown)));
    let deep = (0..5).fold("{}".to_owned(), |inner, _| sns(&inner));
    assert!(matches!(read(&deep), Err(NoticeError::TooDeep)));
}

proptest! {
    #[test]
    fn a_continuation_comes_back_as_it_was(
        bucket in "[a-z]{3,9}", key in ".{1,40}", version in proptest::option::of("[a-z]{1,9}"),
        etag in proptest::option::of("[a-f0-9]{1,32}"), size in proptest::option::of(any::<u64>()),
        skip_records in any::<u64>(),
    ) {
        let slice = Slice { bucket, key, version, etag, size, skip_records };
        let notice = read(&continuation(&slice).unwrap()).unwrap();
        prop_assert_eq!((notice.objects, notice.skipped.len()), (vec![slice], 0));
    }

    #[test]
    fn keys_survive_encoding(key in "\\PC{0,30}") {
        let encoded: String = key.bytes().map(|b| match b {
            b' ' => "+".to_owned(),
            b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        }).collect();
        prop_assert_eq!(decode(&encoded), Some(key));
    }
}
