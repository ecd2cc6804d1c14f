//! Each way in which one identity makes, changes or takes on another.

use sentinel_json::Document;
use sentinel_model::{Channel, Provenance};
use serde_json::{Value as Json, json};

use super::*;
use crate::{Envelope, Position, Record, normalise};

const ALICE: &str = "arn:aws:iam::111122223333:user/alice";

fn event(name: &str, source: &str, identity: &Json, rest: &Json) -> Event {
    let mut record = json!({"eventID": "e", "eventName": name, "eventSource": source, "awsRegion": "us-east-1",
        "eventTime": "2024-05-06T07:08:09Z", "recipientAccountId": "111122223333", "userIdentity": identity});
    record.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    let text = record.to_string();
    let document = Document::parse(&text).unwrap();
    let provenance = Provenance {
        channel: Channel::Folder { path: "x".into() },
        received_at: sentinel_model::Timestamp::UNIX_EPOCH,
    };
    let envelope = Envelope::default();
    let record = Record::new(&text, document.root(), &envelope, Position::default());
    normalise::normalise(&record, provenance).unwrap()
}

fn alice() -> Json {
    json!({"type": "IAMUser", "arn": ALICE, "accountId": "111122223333", "userName": "alice", "accessKeyId": "AKIAALICE"})
}

fn edges_of(e: &Event) -> Vec<(LineageKind, String)> {
    for edge in &e.lineage {
        assert_eq!((edge.event_id.as_str(), edge.time), ("e", e.time));
    }
    e.lineage.iter().map(|l| (l.how, l.made.as_key())).collect()
}

fn iam(name: &str, rest: &Json) -> Vec<(LineageKind, String)> {
    edges_of(&event(name, "iam.amazonaws.com", &alice(), rest))
}

fn user(how: LineageKind, name: &str) -> (LineageKind, String) {
    (how, format!("principal#arn:aws:iam::111122223333:user/{name}"))
}

#[test]
fn the_maker_is_the_principal_with_the_key_it_used() {
    let e = event("CreateUser", "iam.amazonaws.com", &alice(), &json!({"requestParameters": {"userName": "bob"}}));
    assert_eq!(e.lineage[0].maker, Identity::Principal(ALICE.into()));
    assert_eq!(e.lineage[0].maker_key.as_deref(), Some("AKIAALICE"));
}

#[test]
fn a_created_user_is_the_answers_arn_or_built() {
    let answered = json!({"requestParameters": {"userName": "bob"}, "responseElements": {"user": {"arn": "arn:aws:iam::111122223333:user/team/bob"}}});
    assert_eq!(iam("CreateUser", &answered), [user(LineageKind::Made, "team/bob")]);
    assert_eq!(
        iam("CreateUser", &json!({"requestParameters": {"userName": "bob", "path": "/x/"}})),
        [user(LineageKind::Made, "x/bob")]
    );
    assert_eq!(iam("CreateUser", &json!({"requestParameters": {"userName": "bob"}})), [user(LineageKind::Made, "bob")]);
}

#[test]
fn a_created_key_is_made_and_its_user_changed() {
    let rest = json!({"requestParameters": {"userName": "bob"}, "responseElements": {"accessKey": {"accessKeyId": "AKIABOB", "userName": "bob"}}});
    assert_eq!(
        iam("CreateAccessKey", &rest),
        [(LineageKind::Made, "key#AKIABOB".into()), user(LineageKind::Changed, "bob")]
    );
    let own = json!({"requestParameters": null, "responseElements": {"accessKey": {"accessKeyId": "AKIATWO", "userName": "alice"}}});
    assert_eq!(iam("CreateAccessKey", &own), [(LineageKind::Made, "key#AKIATWO".into())], "a second key of one's own");
}

#[test]
fn login_profiles_policies_groups_and_devices_of_users() {
    let bob = json!({"requestParameters": {"userName": "bob"}});
    assert_eq!(iam("CreateLoginProfile", &bob), [user(LineageKind::Made, "bob")]);
    for name in CHANGES {
        assert_eq!(iam(name, &bob), [user(LineageKind::Changed, "bob")], "{name}");
    }
    let key = json!({"requestParameters": {"userName": "bob", "accessKeyId": "AKIABOB", "status": "Active"}});
    assert_eq!(
        iam("UpdateAccessKey", &key),
        [(LineageKind::Changed, "key#AKIABOB".into()), user(LineageKind::Changed, "bob")]
    );
}

#[test]
fn the_list_of_changes_is_sorted_for_the_search_in_it() {
    assert!(CHANGES.is_sorted());
    assert!(
        is_lineage_action("AttachUserPolicy") && is_lineage_action("AssumeRole") && is_lineage_action("SwitchRole")
    );
    assert!(!is_lineage_action("ConsoleLogin") && !is_lineage_action("GetUser") && !is_lineage_action("CreateRole"));
}

#[test]
fn an_assumed_role_gives_session_and_key() {
    let rest = json!({"responseElements": {"credentials": {"accessKeyId": "ASIA1"}, "assumedRoleUser": {"arn": "arn:aws:sts::444455556666:assumed-role/R/s"}}});
    let wanted = [
        (LineageKind::Assumed, "principal#arn:aws:sts::444455556666:assumed-role/R/s".to_owned()),
        (LineageKind::Assumed, "key#ASIA1".to_owned()),
    ];
    for name in ["AssumeRole", "AssumeRoleWithSAML", "AssumeRoleWithWebIdentity", "AssumeRoot"] {
        assert_eq!(edges_of(&event(name, "sts.amazonaws.com", &alice(), &rest)), wanted);
    }
}

#[test]
fn session_and_federation_tokens() {
    let token = json!({"responseElements": {"credentials": {"accessKeyId": "ASIA1"}}});
    assert_eq!(
        edges_of(&event("GetSessionToken", "sts.amazonaws.com", &alice(), &token)),
        [(LineageKind::Assumed, "key#ASIA1".into())]
    );
    let fed = json!({"responseElements": {"credentials": {"accessKeyId": "ASIA1"}, "federatedUser": {"arn": "arn:aws:sts::111122223333:federated-user/f"}}});
    let found = edges_of(&event("GetFederationToken", "sts.amazonaws.com", &alice(), &fed));
    assert_eq!(found[0], (LineageKind::Assumed, "principal#arn:aws:sts::111122223333:federated-user/f".into()));
}

#[test]
fn a_role_switched_to_in_the_console() {
    let to = json!({"additionalEventData": {"SwitchTo": "arn:aws:iam::444455556666:role/x/Ops"}, "responseElements": {"SwitchRole": "Success"}});
    let found = edges_of(&event("SwitchRole", "signin.amazonaws.com", &alice(), &to));
    assert_eq!(found, [(LineageKind::Assumed, "principal#arn:aws:sts::444455556666:assumed-role/Ops/alice".into())]);
    let session = json!({"type": "AssumedRole", "arn": "arn:aws:sts::111122223333:assumed-role/Ops/alice"});
    let from = json!({"additionalEventData": {"SwitchFrom": ALICE}});
    let e = event("SwitchRole", "signin.amazonaws.com", &session, &from);
    assert_eq!(e.lineage[0].maker, Identity::Principal(ALICE.into()));
    assert_eq!(e.lineage[0].made, Identity::Principal("arn:aws:sts::111122223333:assumed-role/Ops/alice".into()));
}

#[test]
fn failures_make_nothing() {
    let rest = json!({"errorCode": "AccessDenied", "requestParameters": {"userName": "bob"}});
    assert_eq!(iam("CreateUser", &rest), []);
    let rest = json!({"responseElements": {"SwitchRole": "Failure"}, "additionalEventData": {"SwitchTo": "arn:aws:iam::1:role/R"}});
    assert_eq!(edges_of(&event("SwitchRole", "signin.amazonaws.com", &alice(), &rest)), []);
}

#[test]
fn services_accounts_and_unknowns_make_nobody() {
    let rest = json!({"requestParameters": {"userName": "bob"}});
    for identity in [
        json!({"type": "AWSService", "invokedBy": "cloudformation.amazonaws.com"}),
        json!({"type": "AWSAccount", "accountId": "999988887777"}),
        json!({"type": "SAMLUser", "userName": "jdoe"}),
        json!({}),
    ] {
        assert_eq!(edges_of(&event("CreateUser", "iam.amazonaws.com", &identity, &rest)), [], "{identity}");
    }
}

#[test]
fn the_same_name_of_another_service_shows_nothing() {
    let rest = json!({"requestParameters": {"userName": "bob"}});
    assert_eq!(edges_of(&event("CreateUser", "transfer.amazonaws.com", &alice(), &rest)), []);
}
