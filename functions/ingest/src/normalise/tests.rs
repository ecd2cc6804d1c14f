//! Each fact about CloudTrail's records that normalising rests on.

use sentinel_json::Document;
use sentinel_model::{Channel, PrincipalKind};
use serde_json::{Value as Json, json};

use super::*;
use crate::reader::KeyHints;
use crate::{Found, Limits, Position};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn provenance() -> Provenance {
    Provenance { channel: Channel::Folder { path: "x".into() }, received_at: at("2030-01-01T00:00:00Z") }
}

fn base() -> Json {
    json!({
        "eventVersion": "1.08",
        "eventID": "e-1",
        "eventName": "GetUser",
        "eventSource": "iam.amazonaws.com",
        "awsRegion": "us-east-1",
        "eventTime": "2024-05-06T07:08:09Z",
        "recipientAccountId": "111122223333",
        "userIdentity": {"type": "IAMUser", "arn": "arn:aws:iam::111122223333:user/dev/alice",
            "accountId": "111122223333", "accessKeyId": "AKIAEXAMPLE", "userName": "alice"},
    })
}

/// The base record with members set; a null takes the member away.
fn with(changes: &Json) -> Json {
    let mut record = base();
    for (key, value) in changes.as_object().unwrap() {
        match value {
            Json::Null => drop(record.as_object_mut().unwrap().remove(key)),
            value => record[key] = value.clone(),
        }
    }
    record
}

fn event_in(record: &Json, envelope: &Envelope) -> Event {
    let text = record.to_string();
    let document = Document::parse(&text).unwrap();
    let value = document.root();
    let event = normalise(&Record::new(&text, value, envelope, Position::default()), provenance()).unwrap();
    let note = |account: &str, principal: &Principal| (account.to_owned(), principal.id.clone());
    thread_local! {
        static MET_OTHERS: std::cell::RefCell<Option<Sketcher<Noted>>> = const { std::cell::RefCell::new(None) };
    }
    let head = Head::of(value);
    MET_OTHERS.with_borrow_mut(|sketcher| {
        let sketcher = sketcher.get_or_insert_with(|| Sketcher::new(note));
        same(&sketcher.sketch(&head, envelope, provenance().received_at), &event);
        same(&sketcher.sketch(&head, envelope, provenance().received_at), &event);
    });
    event
}

type Noted = (String, String);

/// Every record of these tests is told alike by its sketch, whoever was met before.
fn same(sketch: &Sketch<'_, Noted>, event: &Event) {
    assert_eq!((sketch.time, &sketch.who.principal), (event.time, &event.principal));
    assert_eq!(sketch.who.noted, (event.account.clone(), event.principal.id.clone()));
    assert_eq!((sketch.account, sketch.region), (event.account.as_str(), event.region.as_deref()));
    let action = (sketch.service, sketch.action, sketch.read_only);
    assert_eq!(action, (event.action.service.as_str(), event.action.name.as_str(), event.action.read_only));
    let through = (sketch.access_key, sketch.invoked_by, sketch.user_agent);
    let network = &event.network;
    assert_eq!(through, (event.access_key_id.as_deref(), event.invoked_by.as_deref(), network.user_agent.as_deref()));
    let source = network.source_ip.map(|ip| ip.to_string()).or_else(|| network.source_host.clone());
    assert_eq!(sketch.source.as_deref(), source.as_deref());
    let failure = match &event.outcome {
        Outcome::Failure { code, .. } => Some(code.as_str()),
        Outcome::Success => None,
    };
    assert_eq!(sketch.failure.as_deref(), failure);
}

fn event(changes: &Json) -> Event {
    event_in(&with(changes), &Envelope::default())
}

fn who(identity: &Json) -> Principal {
    event(&json!({ "userIdentity": identity })).principal
}

use sentinel_model::Principal;

fn brief(p: &Principal) -> (&str, PrincipalKind, bool) {
    (p.id.as_str(), p.kind, p.inferred)
}

#[test]
fn the_raw_record_is_untouched() {
    let text = "{ \"eventName\" : \"X\",\n \"eventSource\":\"s\", \"n\": 1.50 }";
    let mut raw = None;
    crate::read(text.as_bytes(), "x", None, &Limits::default(), &mut |found| {
        if let Found::Record(r) = found {
            raw = Some(normalise(&r, provenance()).unwrap().raw.text().to_owned());
        }
    })
    .unwrap();
    assert_eq!(raw.as_deref(), Some(text));
}

#[test]
fn success_is_an_absent_error_code() {
    assert!(event(&json!({})).outcome.is_success());
    assert!(
        event_in(
            &{
                let mut r = base();
                r["errorCode"] = Json::Null;
                r
            },
            &Envelope::default()
        )
        .outcome
        .is_success()
    );
    let refused = event(&json!({"errorCode": "AccessDenied", "errorMessage": "no"})).outcome;
    assert_eq!(refused, Outcome::Failure { code: "AccessDenied".into(), message: Some("no".into()) });
    assert_eq!(event(&json!({"errorCode": 404})).outcome, Outcome::Failure { code: "404".into(), message: None });
}

#[test]
fn a_failed_sign_in_has_no_error_code_and_is_a_failure() {
    let login = |result: &str| {
        event(&json!({"eventName": "ConsoleLogin", "eventSource": "signin.amazonaws.com",
            "errorMessage": "Failed authentication", "responseElements": {"ConsoleLogin": result}}))
    };
    assert!(login("Success").outcome.is_success());
    let failed = Outcome::Failure { code: "Failure".into(), message: Some("Failed authentication".into()) };
    assert_eq!(login("Failure").outcome, failed);
}

#[test]
fn request_and_response_may_be_anything() {
    for odd in
        [json!("{\"userName\":\"bob\"}"), json!([1]), json!(5), json!({"userName": ["bob"], "roleName": {"a": 1}})]
    {
        let found = event(&json!({"eventName": "CreateUser", "requestParameters": odd, "responseElements": odd}));
        assert!(found.targets.is_empty() && found.lineage.is_empty(), "{odd}");
    }
    let mut nulls = base();
    nulls["requestParameters"] = Json::Null;
    nulls["responseElements"] = Json::Null;
    assert!(event_in(&nulls, &Envelope::default()).targets.is_empty());
}

#[test]
fn booleans_and_numbers_may_be_text() {
    for (written, read) in
        [(json!(true), Some(true)), (json!("false"), Some(false)), (json!("maybe"), None), (json!(1), None)]
    {
        assert_eq!(event(&json!({ "readOnly": written })).action.read_only, read);
    }
    assert_eq!(event(&json!({"eventTime": 1_715_000_000})).time, at("2024-05-06T12:53:20Z"));
}

#[test]
fn an_iam_user_is_its_arn() {
    let p = event(&json!({})).principal;
    assert_eq!(brief(&p), ("arn:aws:iam::111122223333:user/dev/alice", PrincipalKind::IamUser, false));
    assert_eq!((p.name.as_deref(), p.account.as_deref()), (Some("alice"), Some("111122223333")));
    assert_eq!(p.actor, p.id);
}

#[test]
fn a_user_on_whose_behalf_a_service_calls_stays_the_principal() {
    let e = event(
        &json!({"userIdentity": {"type": "IAMUser", "arn": "arn:aws:iam::1:user/a", "invokedBy": "cloudformation.amazonaws.com"}}),
    );
    assert_eq!(e.principal.id, "arn:aws:iam::1:user/a");
    assert_eq!(e.invoked_by.as_deref(), Some("cloudformation.amazonaws.com"));
}

#[test]
fn a_user_without_arn_is_built_and_marked() {
    let p = who(&json!({"type": "IAMUser", "accountId": "111122223333", "userName": "bob"}));
    assert_eq!(brief(&p), ("arn:aws:iam::111122223333:user/bob", PrincipalKind::IamUser, true));
    let p = who(&json!({"type": "IAMUser", "userName": "bob"}));
    assert_eq!(brief(&p), ("arn:aws:iam::111122223333:user/bob", PrincipalKind::IamUser, true), "account of the event");
}

#[test]
fn a_hidden_user_name_names_nobody() {
    let p = who(
        &json!({"type": "IAMUser", "accountId": "111122223333", "accessKeyId": "", "userName": "HIDDEN_DUE_TO_SECURITY_REASONS"}),
    );
    assert_eq!(brief(&p), ("unknown", PrincipalKind::Unknown, false));
    assert_eq!((p.name, p.account.as_deref()), (None, Some("111122223333")));
}

fn session(arn: Option<&str>, name: &str, issuer: &Json) -> Principal {
    let mut identity = json!({"type": "AssumedRole", "principalId": format!("AROA:{name}"), "accountId": "111122223333",
        "sessionContext": {"sessionIssuer": issuer}});
    if let Some(arn) = arn {
        identity["arn"] = json!(arn);
    }
    who(&identity)
}

#[test]
fn a_role_session_is_its_arn_with_the_role_beside_it() {
    let issuer = json!({"type": "Role", "arn": "arn:aws:iam::111122223333:role/path/App", "userName": "App"});
    let p = session(Some("arn:aws:sts::111122223333:assumed-role/App/i-0abc"), "i-0abc", &issuer);
    assert_eq!(brief(&p), ("arn:aws:sts::111122223333:assumed-role/App/i-0abc", PrincipalKind::AssumedRole, false));
    assert_eq!(p.role.as_deref(), Some("arn:aws:iam::111122223333:role/path/App"));
    assert_eq!(p.name.as_deref(), Some("i-0abc"));
    assert_eq!(p.actor, "arn:aws:iam::111122223333:role/path/App", "a workload is its role");
}

#[test]
fn the_person_behind_a_session_is_the_actor() {
    let sso = "arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_Admin_0a";
    let p = session(
        Some("arn:aws:sts::111122223333:assumed-role/AWSReservedSSO_Admin_0a/jane"),
        "jane",
        &json!({"arn": sso}),
    );
    assert_eq!(p.actor, format!("{sso}/jane"));
    let role = "arn:aws:iam::111122223333:role/Dev";
    let p = session(
        Some("arn:aws:sts::111122223333:assumed-role/Dev/jane@example.com"),
        "jane@example.com",
        &json!({"arn": role}),
    );
    assert_eq!(p.actor, format!("{role}/jane@example.com"));
    let p = who(
        &json!({"type": "AssumedRole", "arn": "arn:aws:sts::111122223333:assumed-role/Dev/jane", "sessionContext": {
        "sessionIssuer": {"arn": role}, "webIdFederationData": {"federatedProvider": "arn:aws:iam::111122223333:saml-provider/idp"}}}),
    );
    assert_eq!(p.actor, format!("{role}/jane"));
}

#[test]
fn a_session_that_lacks_arn_or_issuer_is_built() {
    let issuer = json!({"arn": "arn:aws:iam::111122223333:role/App", "userName": "App"});
    let p = session(None, "s", &issuer);
    assert_eq!(brief(&p), ("arn:aws:sts::111122223333:assumed-role/App/s", PrincipalKind::AssumedRole, true));
    let p = session(Some("arn:aws-cn:sts::111122223333:assumed-role/App/s"), "s", &json!({}));
    assert_eq!(p.role.as_deref(), Some("arn:aws-cn:iam::111122223333:role/App"));
    assert!(!p.inferred, "the session's ARN is the record's own");
    let p = who(&json!({"type": "AssumedRole"}));
    assert_eq!(brief(&p), ("unknown", PrincipalKind::Unknown, false));
}

#[test]
fn a_federated_user_is_the_sessions_arn() {
    let p = who(
        &json!({"type": "FederatedUser", "arn": "arn:aws:sts::111122223333:federated-user/fred", "accountId": "111122223333",
        "sessionContext": {"sessionIssuer": {"type": "IAMUser", "arn": "arn:aws:iam::111122223333:user/alice"}}}),
    );
    assert_eq!(brief(&p), ("arn:aws:sts::111122223333:federated-user/fred", PrincipalKind::FederatedUser, false));
    assert_eq!((p.role.as_deref(), p.name.as_deref()), (Some("arn:aws:iam::111122223333:user/alice"), Some("fred")));
    let p = who(&json!({"type": "FederatedUser", "principalId": "111122223333:fred", "accountId": "111122223333"}));
    assert_eq!(brief(&p), ("arn:aws:sts::111122223333:federated-user/fred", PrincipalKind::FederatedUser, true));
}

#[test]
fn root_is_root_with_or_without_arn() {
    let p = who(&json!({"type": "Root", "arn": "arn:aws:iam::111122223333:root", "accountId": "111122223333"}));
    assert_eq!(brief(&p), ("arn:aws:iam::111122223333:root", PrincipalKind::Root, false));
    let p = who(&json!({"type": "Root", "principalId": "444455556666"}));
    assert_eq!(brief(&p), ("arn:aws:iam::444455556666:root", PrincipalKind::Root, true));
}

#[test]
fn partitions_follow_the_region() {
    for (region, partition) in [
        ("cn-north-1", "aws-cn"),
        ("us-gov-west-1", "aws-us-gov"),
        ("us-isob-east-1", "aws-iso-b"),
        ("eu-west-1", "aws"),
    ] {
        let e = event(&json!({"awsRegion": region, "userIdentity": {"type": "Root", "accountId": "111122223333"}}));
        assert_eq!(e.principal.id, format!("arn:{partition}:iam::111122223333:root"));
    }
}

#[test]
fn a_service_is_its_host_name() {
    let p = who(&json!({"type": "AWSService", "invokedBy": "ec2.amazonaws.com"}));
    assert_eq!(brief(&p), ("ec2.amazonaws.com", PrincipalKind::Service, false));
    assert_eq!(p.account, None);
    let p = who(&json!({"accountId": "111122223333", "invokedBy": "s3.amazonaws.com"}));
    assert_eq!(brief(&p), ("s3.amazonaws.com", PrincipalKind::Service, false), "only invokedBy");
    let e = event(
        &json!({"sourceIPAddress": "rds.amazonaws.com", "userIdentity": {"type": "AWSService", "invokedBy": "AWS Internal"}}),
    );
    assert_eq!(brief(&e.principal), ("rds.amazonaws.com", PrincipalKind::Service, false));
    let e = event(&json!({"sourceIPAddress": "192.0.2.1", "userIdentity": {"type": "AWSService"}}));
    assert_eq!(e.principal.id, "iam.amazonaws.com", "an address is no service");
}

#[test]
fn service_events_may_have_no_identity_type() {
    for identity in [json!(null), json!({}), json!({"accountId": "111122223333"}), json!("x")] {
        let e = event(
            &json!({"eventType": "AwsServiceEvent", "eventSource": "kms.amazonaws.com", "userIdentity": identity}),
        );
        assert_eq!(brief(&e.principal), ("kms.amazonaws.com", PrincipalKind::Service, false), "{identity}");
    }
    assert_eq!(brief(&who(&json!(null))), ("unknown", PrincipalKind::Unknown, false));
}

#[test]
fn another_account_is_known_by_its_id() {
    let p = who(&json!({"type": "AWSAccount", "principalId": "AIDA:x", "accountId": "999988887777"}));
    assert_eq!(brief(&p), ("account:999988887777", PrincipalKind::Account, false));
    let p = who(&json!({"type": "AWSAccount", "accountId": "ANONYMOUS_PRINCIPAL"}));
    assert_eq!(brief(&p), ("unknown", PrincipalKind::Unknown, false));
}

#[test]
fn outside_identities_without_arn_are_unknown_by_name() {
    for kind in ["SAMLUser", "WebIdentityUser", "Directory"] {
        let p = who(&json!({"type": kind, "principalId": "x", "userName": "jdoe", "identityProvider": "idp"}));
        assert_eq!(brief(&p), ("unknown", PrincipalKind::External, false));
        assert_eq!(p.name.as_deref(), Some("jdoe"));
        assert!(!p.identifies_someone());
    }
}

#[test]
fn an_identity_center_user_is_the_identity_stores_user() {
    let p = who(
        &json!({"type": "IdentityCenterUser", "accountId": "111122223333", "onBehalfOf": {"userId": "u-1", "identityStoreArn": "x"}}),
    );
    assert_eq!(brief(&p), ("arn:aws:identitystore:::user/u-1", PrincipalKind::IdentityCenterUser, true));
}

#[test]
fn an_unknown_type_is_read_from_its_arn() {
    let p = who(&json!({"type": "Unknown", "arn": "arn:aws:iam::111122223333:user/bob"}));
    assert_eq!(brief(&p), ("arn:aws:iam::111122223333:user/bob", PrincipalKind::IamUser, false));
    let p = who(&json!({"type": "Brand-New", "arn": "arn:aws:sts::111122223333:assumed-role/R/s"}));
    assert_eq!(brief(&p), ("arn:aws:sts::111122223333:assumed-role/R/s", PrincipalKind::AssumedRole, false));
    let p = who(&json!({"type": "Unknown", "accountId": "111122223333"}));
    assert_eq!(brief(&p), ("unknown", PrincipalKind::Unknown, false));
}

#[test]
fn the_source_may_be_an_address_a_host_or_neither() {
    let from = |s: &str| {
        let n = event(&json!({ "sourceIPAddress": s })).network;
        (n.source_ip.map(|ip| ip.to_string()), n.source_host)
    };
    assert_eq!(from("192.0.2.1"), (Some("192.0.2.1".into()), None));
    assert_eq!(from("2001:db8::1"), (Some("2001:db8::1".into()), None));
    for host in ["cloudformation.amazonaws.com", "AWS Internal", "192.0.2.999"] {
        assert_eq!(from(host), (None, Some(host.into())));
    }
    assert_eq!(from(""), (None, None));
}

#[test]
fn the_operation_keeps_its_version_suffix() {
    assert_eq!(
        event(&json!({"eventName": "UpdateFunctionCode20150331v2"})).action.name,
        "UpdateFunctionCode20150331v2"
    );
}

#[test]
fn event_time_formats_vary_and_the_text_is_kept() {
    let e = event(&json!({"eventTime": "2022-09-27 17:09:18"}));
    assert_eq!((e.time, e.time_text.as_deref()), (at("2022-09-27T17:09:18Z"), Some("2022-09-27 17:09:18")));
}

#[test]
fn without_a_readable_time_envelope_key_file_and_arrival_count_in_this_order() {
    let mut envelope = Envelope {
        time: Some(at("2024-01-01T00:00:00Z")),
        key: KeyHints { time: Some(at("2024-01-02T00:00:00Z")), ..KeyHints::default() },
        file_time: Some(at("2024-01-03T00:00:00Z")),
        ..Envelope::default()
    };
    let time = |e: &Envelope| {
        let found = event_in(&with(&json!({"eventTime": "soon"})), e);
        assert_eq!(found.time_text, None);
        found.time.to_string()
    };
    assert_eq!(time(&envelope), "2024-01-01T00:00:00Z");
    envelope.time = None;
    assert_eq!(time(&envelope), "2024-01-02T00:00:00Z");
    envelope.key.time = None;
    assert_eq!(time(&envelope), "2024-01-03T00:00:00Z");
    envelope.file_time = None;
    assert_eq!(time(&envelope), "2030-01-01T00:00:00Z");
}

#[test]
fn old_records_without_account_take_envelope_key_then_identity() {
    let old = with(&json!({"recipientAccountId": null}));
    let mut envelope =
        Envelope { account: Some("444455556666".into()), owner: Some("999900001111".into()), ..Envelope::default() };
    envelope.key.account = Some("777788889999".into());
    assert_eq!(event_in(&old, &envelope).account, "444455556666");
    envelope.account = None;
    assert_eq!(event_in(&old, &envelope).account, "777788889999");
    envelope.key.account = None;
    assert_eq!(event_in(&old, &envelope).account, "111122223333");
    let service = with(
        &json!({"recipientAccountId": null, "userIdentity": {"type": "AWSService", "invokedBy": "x.amazonaws.com"}}),
    );
    assert_eq!(event_in(&service, &envelope).account, "999900001111");
    assert_eq!(event_in(&service, &Envelope::default()).account, "unknown");
}

#[test]
fn what_is_no_account_id_does_not_reach_keys() {
    let e =
        event(&json!({"recipientAccountId": "../../etc", "userIdentity": {"type": "AWSAccount", "accountId": "a/b"}}));
    assert_eq!(e.account, "unknown");
}

#[test]
fn the_sender_must_be_the_recipient() {
    let text = base().to_string();
    let document = Document::parse(&text).unwrap();
    let head = Head::of(document.root());
    let with_account = |account: &str| Envelope { account: Some(account.into()), ..Envelope::default() };
    let with_key = |account: &str| Envelope {
        key: KeyHints { account: Some(account.into()), ..KeyHints::default() },
        ..Envelope::default()
    };
    assert_eq!(check_account(&head, &with_account("111122223333")), Ok(()));
    assert_eq!(check_account(&head, &with_key("111122223333")), Ok(()));
    let mismatch = AccountMismatch { record: "111122223333".into(), sender: "444455556666".into() };
    assert_eq!(check_account(&head, &with_account("444455556666")), Err(mismatch.clone()));
    assert_eq!(check_account(&head, &with_key("444455556666")), Err(mismatch));
    let owner = Envelope { owner: Some("444455556666".into()), ..Envelope::default() };
    assert_eq!(check_account(&head, &owner), Ok(()), "a log group's owner is not compared");
    let text = with(&json!({"recipientAccountId": null})).to_string();
    let old = Document::parse(&text).unwrap();
    assert_eq!(check_account(&Head::of(old.root()), &with_account("444455556666")), Ok(()));
}

#[test]
fn global_events_keep_the_region_that_the_record_names() {
    let envelope = Envelope { region: Some("eu-west-1".into()), ..Envelope::default() };
    assert_eq!(event_in(&base(), &envelope).region.as_deref(), Some("us-east-1"));
    assert_eq!(event_in(&with(&json!({"awsRegion": null})), &envelope).region.as_deref(), Some("eu-west-1"));
}

#[test]
fn both_records_of_a_cross_account_call_are_events() {
    let shared = json!({"eventName": "AssumeRole", "eventSource": "sts.amazonaws.com", "sharedEventID": "s"});
    let mut caller = with(&shared);
    caller["eventID"] = json!("a");
    caller["userIdentity"] = json!({"type": "AssumedRole", "arn": "arn:aws:sts::111122223333:assumed-role/R/s"});
    let mut owner = with(&shared);
    owner["eventID"] = json!("b");
    owner["recipientAccountId"] = json!("444455556666");
    owner["userIdentity"] = json!({"type": "AWSAccount", "accountId": "111122223333"});
    let (caller, owner) = (event_in(&caller, &Envelope::default()), event_in(&owner, &Envelope::default()));
    assert_ne!(caller.id, owner.id);
    assert_eq!((owner.principal.id.as_str(), owner.account.as_str()), ("account:111122223333", "444455556666"));
}

#[test]
fn targets_come_from_resources_and_telling_parameters() {
    let e = event(&json!({
        "resources": [{"ARN": "arn:aws:s3:::logs/a.txt", "type": "AWS::S3::Object"}, {"ARN": "arn:aws:s3:::logs", "accountId": "111122223333", "type": "AWS::S3::Bucket"}],
        "requestParameters": {"bucketName": "logs", "key": "b.txt", "instancesSet": {"items": [{"instanceId": "i-1"}, {"instanceId": "i-2"}]}, "userName": ""},
    }));
    let found: Vec<_> = e.targets.iter().map(|t| (t.id.as_str(), t.kind.as_str())).collect();
    let wanted = [
        ("arn:aws:s3:::logs/a.txt", "AWS::S3::Object"),
        ("arn:aws:s3:::logs", "AWS::S3::Bucket"),
        ("b.txt", "key"),
        ("i-1", "instanceId"),
        ("i-2", "instanceId"),
    ];
    assert_eq!(found, wanted);
    assert_eq!(e.targets[1].account.as_deref(), Some("111122223333"));
}

#[test]
fn targets_are_bounded() {
    let items: Vec<_> = (0..100).map(|i| json!({"instanceId": format!("i-{i}")})).collect();
    assert_eq!(event(&json!({"requestParameters": {"instancesSet": {"items": items}}})).targets.len(), 20);
}
