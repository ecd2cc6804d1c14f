//! Each wrapping that CloudTrail records come in.

use super::*;

#[test]
fn records_of_a_log_file_on_one_line() {
    let found = seen(format!(r#"{{"Records":[{},{}]}}"#, record("1"), record("2")));
    assert_eq!(found, Seen { records: vec!["1".into(), "2".into()], ..Seen::default() });
    assert_eq!(seen(r#"{"Records": []}"#), Seen::default(), "an empty log file is no mistake");
}

#[test]
fn a_log_file_with_other_members_around_its_records() {
    let found = seen(format!(
        r#"{{"a":{{"Records":[1]}},"Records":[{}],"b":[{{}}],"Records":[{}]}}"#,
        record("1"),
        record("2")
    ));
    assert_eq!(ids(&found), ["1", "2"]);
    assert_eq!(found.malformed, Vec::<String>::new());
}

#[test]
fn a_bare_array_and_arrays_in_arrays() {
    assert_eq!(ids(&seen(format!("[{},\n {}]", record("1"), record("2")))), ["1", "2"]);
    assert_eq!(ids(&seen(format!("[[{}],[{}]]", record("1"), record("2")))), ["1", "2"]);
    assert_eq!(ids(&seen(format!(r#"[{{"Records":[{}]}},{{"Records":[{}]}}]"#, record("1"), record("2")))), ["1", "2"]);
}

#[test]
fn one_object_a_line_and_values_behind_each_other() {
    let lines = seen(format!("{}\r\n\r\n{}\n{}", record("1"), record("2"), record("3")));
    assert_eq!(lines, Seen { records: vec!["1".into(), "2".into(), "3".into()], ..Seen::default() });
    let glued = seen(format!(r#"{}{} {{"Records":[{}]}}[{}]"#, record("1"), record("2"), record("3"), record("4")));
    assert_eq!(ids(&glued), ["1", "2", "3", "4"]);
    assert!(glued.malformed.is_empty());
    assert_eq!(ids(&seen(format!("\u{1e}{}\n\u{1e}{}\n", record("1"), record("2")))), ["1", "2"], "RFC 7464");
    assert_eq!(ids(&seen(format!("{},\n{},\n", record("1"), record("2")))), ["1", "2"]);
}

#[test]
fn one_record_pretty_printed_over_many_lines() {
    let value: serde_json::Value = serde_json::from_str(&record("1")).unwrap();
    let found = seen(serde_json::to_string_pretty(&value).unwrap());
    assert_eq!(found, Seen { records: vec!["1".into()], ..Seen::default() });
}

#[test]
fn event_bridge_envelopes() {
    let envelope = |kind: &str, detail: &str| {
        format!(
            r#"{{"version":"0","id":"x","detail-type":"{kind}","source":"aws.iam","account":"111122223333","time":"2024-05-06T07:08:09Z","region":"eu-west-1","detail":{detail}}}"#
        )
    };
    let text = [
        envelope("AWS API Call via CloudTrail", &record("1")),
        envelope("AWS Console Sign In via CloudTrail", &record("2")),
        envelope("AWS Service Event via CloudTrail", &record("3")),
        envelope("GuardDuty Finding", r#"{"type":"x"}"#),
        envelope("AWS Insight via CloudTrail", r#"{"eventType":"AwsCloudTrailInsight","insightDetails":{}}"#),
        envelope("Scheduled Event", "{}"),
    ];
    let found = seen(text.join("\n"));
    let tail = "111122223333 eu-west-1 2024-05-06T07:08:09Z";
    assert_eq!(found.records, [format!("1 {tail}"), format!("2 {tail}"), format!("3 {tail}")]);
    assert_eq!(found.unknown, ["eventbridge:GuardDuty Finding", "cloudtrail-insight", "eventbridge:Scheduled Event"]);
    assert!(found.malformed.is_empty());
}

#[test]
fn cloudwatch_logs_subscriptions_plain_and_packed() {
    let plain = format!(
        r#"{{"messageType":"DATA_MESSAGE","owner":"444455556666","logGroup":"g","logEvents":[{{"id":"1","timestamp":1715000000000,"message":{}}},{{"id":"2","timestamp":1715000001000,"message":{}}}]}}"#,
        string(&record("1")),
        string(&record("2"))
    );
    let records = ["1 444455556666 2024-05-06T12:53:20Z", "2 444455556666 2024-05-06T12:53:21Z"];
    assert_eq!(seen(&plain).records, records);
    let packed = format!(r#"{{"awslogs":{{"data":"{}"}}}}"#, base64(gzip(&plain)));
    let found = seen(packed);
    assert_eq!(found.records, records);
    assert!(found.malformed.is_empty() && found.unknown.is_empty());
}

#[test]
fn payloads_of_cloudwatch_logs_subscriptions_outside_their_wrapping() {
    let payload = |id: &str| {
        let plain = format!(r#"{{"messageType":"DATA_MESSAGE","logEvents":[{{"message":{}}}]}}"#, string(&record(id)));
        base64(gzip(plain))
    };
    let broken_lines =
        |text: &str| text.as_bytes().chunks(76).map(String::from_utf8_lossy).collect::<Vec<_>>().join("\n");
    let (a, b) = (payload("a"), payload("b"));
    let kinesis = format!(
        r#"{{"eventSource":"aws:kinesis","eventName":"aws:kinesis:record","eventID":"s:1","kinesis":{{"data":"{a}"}}}}"#
    );
    for (text, want) in [
        (a.clone(), &["a"][..]),
        (format!("{a}\n{b}\n"), &["a", "b"]),
        (format!("{}\r\n{}\n{}\n", broken_lines(&a), broken_lines(&b), record("c")), &["a", "b", "c"]),
        (format!(r#"{{"Records":[{kinesis}]}}"#), &["a"]),
        (format!(r#"{{"recordId":"1","data":"{b}"}}"#), &["b"]),
    ] {
        for chunk in [1, 7, 100_000] {
            let found = seen_with(Slowly(text.as_bytes(), chunk), "x", &Limits::default());
            assert_eq!(ids(&found), want, "{text}");
            assert!(found.malformed.is_empty() && found.unknown.is_empty(), "{found:?}");
        }
    }
    for junk in ["H4sI", "H4sIAAAA", "H4", "Hello\nH4sI!!", "H4sI====="] {
        let found = seen(junk);
        assert_eq!((found.malformed.len(), found.records.len(), &found.error), (1, 0, &None), "{junk}: {found:?}");
    }
    let found = seen(format!("{}\n{}\n", &a[..a.len() / 2 / 4 * 4], record("after")));
    assert_eq!((ids(&found), found.malformed.len()), (vec!["after"], 1), "{found:?}");
}

#[test]
fn a_control_message_of_cloudwatch_logs_is_no_mistake() {
    let found = seen(
        r#"{"messageType":"CONTROL_MESSAGE","owner":"CloudwatchLogs","logEvents":[{"id":"","timestamp":1,"message":"CWL CONTROL MESSAGE: Checking health"}]}"#,
    );
    assert_eq!(found.unknown, ["cloudwatch-logs:CONTROL_MESSAGE"]);
    assert!(found.malformed.is_empty());
}

#[test]
fn answers_of_lookup_events() {
    let text = format!(
        r#"{{"Events":[{{"EventId":"1","EventName":"GetUser","EventTime":1715000000.0,"Resources":[],"CloudTrailEvent":{}}}],"NextToken":"t"}}"#,
        string(&record("1"))
    );
    assert_eq!(seen(text).records, ["1 2024-05-06T12:53:20Z"]);
    // --query 'Events[].CloudTrailEvent', and the same through jq.
    assert_eq!(ids(&seen(format!("[{},{}]", string(&record("1")), string(&record("2"))))), ["1", "2"]);
    assert_eq!(ids(&seen(format!("{}\n{}\n", string(&record("1")), string(&record("2"))))), ["1", "2"]);
}

#[test]
fn index_dumps() {
    let doc = |id: &str| format!(r#"{{"_index":"i","_id":"x","_source":{}}}"#, record(id));
    assert_eq!(ids(&seen(format!("{}\n{}\n", doc("1"), doc("2")))), ["1", "2"]);
    let answer =
        format!(r#"{{"took":3,"hits":{{"total":{{"value":2}},"hits":[{},{}],"max_score":1}}}}"#, doc("1"), doc("2"));
    let found = seen(answer);
    assert_eq!(found, Seen { records: vec!["1".into(), "2".into()], ..Seen::default() });
    let shipped = format!(r#"{{"_source":{{"event":{{"original":{}}},"aws":{{}}}}}}"#, string(&record("1")));
    assert_eq!(ids(&seen(shipped)), ["1"]);
}

#[test]
fn objects_of_our_own_archive() {
    let mut events = Vec::new();
    read(record("1").as_bytes(), "x.json", None, &Limits::default(), &mut |found| {
        let Found::Record(record) = found else { panic!("no record") };
        let channel = sentinel_model::Channel::Folder { path: "logs".into() };
        let received_at = "2026-03-02T10:00:00Z".parse().unwrap();
        let mut event =
            crate::normalise::normalise(&record, sentinel_model::Provenance { channel, received_at }).unwrap();
        event.account = "111122223333".into();
        events.push(event);
    })
    .unwrap();
    let object = sentinel_archive::object::objects(&events).unwrap().remove(0);
    assert_eq!(seen(object.bytes), Seen { records: vec!["1".into()], ..Seen::default() });
    assert_eq!(seen(r#"{"raw":{"eventName":"x","eventID":"y"}}"#).records, [""; 0], "not every raw is a record's");
}

#[test]
fn messages_of_sns_and_sqs_in_each_other() {
    let sns = format!(
        r#"{{"Type":"Notification","TopicArn":"t","Message":{}}}"#,
        string(&format!(r#"{{"Records":[{}]}}"#, record("1")))
    );
    assert_eq!(ids(&seen(&sns)), ["1"]);
    let sqs = format!(r#"{{"Records":[{{"messageId":"m","body":{},"eventSource":"aws:sqs"}}]}}"#, string(&sns));
    assert_eq!(ids(&seen(&sqs)), ["1"]);
    let lambda = format!(r#"{{"Records":[{{"EventSource":"aws:sns","Sns":{sns}}}]}}"#);
    assert_eq!(ids(&seen(&lambda)), ["1"]);
    let received = format!(r#"{{"Messages":[{{"Body":{}}}]}}"#, string(&sns));
    assert_eq!(ids(&seen(&received)), ["1"]);
    assert_eq!(
        seen(r#"{"Type":"SubscriptionConfirmation","Message":"You have chosen"}"#).unknown,
        ["sns:SubscriptionConfirmation"]
    );
}

#[test]
fn log_lines_of_other_programs_are_no_mistake() {
    let found = seen("{\"level\":\"info\",\"message\":\"started\"}\n{\"message\":\"[INFO] started\"}\n");
    assert_eq!(found.unknown, ["unrecognised", "unrecognised"]);
    assert!(found.malformed.is_empty(), "{:?}", found.malformed);
    let lookup = seen(r#"{"Events":[{"CloudTrailEvent":"gone"}]}"#);
    assert_eq!(lookup.malformed, ["line 1, byte 11: its CloudTrailEvent is not JSON"]);
}

#[test]
fn texts_wrapped_too_often_are_malformed() {
    let mut text = record("1");
    for _ in 0..9 {
        text = format!(r#"{{"Message":{}}}"#, string(&text));
    }
    let found = seen(text);
    assert!(found.records.is_empty());
    assert_eq!(found.malformed, ["line 1, byte 0: wrapped in more than 8 texts"]);
}

#[test]
fn order_is_kept_through_wrapped_texts() {
    let wrapped = |id: &str| format!(r#"{{"Message":{}}}"#, string(&format!("[{},{}]", record(id), record(id))));
    let found = seen(format!("{}\n{}\n{}\n{}", wrapped("1"), record("2"), wrapped("3"), record("4")));
    assert_eq!(ids(&found), ["1", "1", "2", "3", "3", "4"]);
}

#[test]
fn gzip_is_told_by_content_in_members_and_layers() {
    let two = [gzip(format!("{}\n", record("1"))), gzip(record("2"))].concat();
    assert_eq!(ids(&seen(&two)), ["1", "2"], "two members in one file");
    assert_eq!(ids(&seen(gzip(gzip(record("1"))))), ["1"], "gzip in gzip");
}

#[test]
fn a_byte_order_mark_is_passed_over_and_utf_16_is_told() {
    assert_eq!(ids(&seen(format!("\u{feff}{}", record("1")))), ["1"]);
    for bom in [[0xff, 0xfe], [0xfe, 0xff]] {
        let found = seen([&bom[..], b"{\0\"\0"].concat());
        assert_eq!(found.malformed, ["line 1, byte 0: UTF-16 text; only UTF-8 is read"]);
    }
}

#[test]
fn other_objects_are_told_by_kind() {
    let digest = r#"{"awsAccountId":"1","digestStartTime":"t","digestS3Object":"o","logFiles":[]}"#;
    let insight = r#"{"eventVersion":"1.07","eventType":"AwsCloudTrailInsight","eventID":"i","insightDetails":{"eventName":"x"}}"#;
    let bucket = r#"{"Records":[{"eventSource":"aws:s3","eventName":"ObjectCreated:Put","s3":{}}]}"#;
    let delivery = r#"{"s3Bucket":"b","s3ObjectKey":["k"]}"#;
    let rule = r#"{"configRuleName":"r","invokingEvent":"{}"}"#;
    let found = seen([digest, insight, bucket, delivery, rule, r#"{"a":1}"#, "{}"].join("\n"));
    let kinds = [
        "cloudtrail-digest",
        "cloudtrail-insight",
        "notification:aws:s3",
        "cloudtrail-delivery-notification",
        "config-rule-invocation",
        "unrecognised",
        "unrecognised",
    ];
    assert_eq!(found.unknown, kinds);
    assert!(found.malformed.is_empty() && found.records.is_empty());
}

#[test]
fn a_record_needs_a_name_and_one_of_source_and_id() {
    let found = seen(
        "{\"eventName\":\"A\",\"eventSource\":\"s\"}\n{\"eventName\":\"A\",\"eventID\":\"i\"}\n{\"eventName\":\"A\"}\n{\"eventSource\":\"s\",\"eventID\":\"i\"}",
    );
    assert_eq!(ids(&found), ["-", "i"]);
    assert_eq!(found.unknown, ["unrecognised", "unrecognised"]);
}

#[test]
fn the_key_tells_account_region_and_time() {
    let name =
        "AWSLogs/123456789012/CloudTrail/eu-west-1/2024/05/06/123456789012_CloudTrail_eu-west-1_20240506T0710Z_a.json";
    let mut keys = Vec::new();
    read(record("1").as_bytes(), name, None, &Limits::default(), &mut |found| {
        if let Found::Record(r) = found {
            keys.push(r.envelope.key.clone());
        }
    })
    .unwrap();
    assert_eq!(keys, [KeyHints::of(name)]);
    assert_eq!(keys[0].account.as_deref(), Some("123456789012"));
}
