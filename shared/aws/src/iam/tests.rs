//! How many requests each call makes, and what becomes of refusals.

use std::sync::Mutex as StdMutex;

use aws_sdk_iam::error::ErrorMetadata;
use aws_sdk_iam::operation::{
    get_access_key_last_used::{GetAccessKeyLastUsedError, GetAccessKeyLastUsedOutput},
    get_user::{GetUserError, GetUserOutput},
    list_access_keys::ListAccessKeysOutput,
    list_user_tags::ListUserTagsOutput,
    update_access_key::{UpdateAccessKeyError, UpdateAccessKeyOutput},
};
use aws_sdk_iam::types::{AccessKeyMetadata, Tag, User};
use aws_sdk_sts::operation::assume_role::{AssumeRoleError, AssumeRoleOutput};
use aws_smithy_mocks::{Rule, mock};
use sentinel_durable::ManualClock;

use super::*;
use crate::mocked;

const OWN: &str = "111122223333";
const MEMBER: &str = "444455556666";
const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const NOW: &str = "2026-03-01T12:00:00Z";

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(NOW.parse().unwrap()))
}

fn iam(rules: &[&Rule]) -> AwsIam {
    over(&mocked::iam(rules), &mocked::sts(&[]), None, clock())
}

fn over(own: &Client, sts: &aws_sdk_sts::Client, member: Option<MemberRole>, clock: Arc<dyn Clock>) -> AwsIam {
    AwsIam::over(own.config().to_builder(), sts.config().to_builder(), OWN.into(), member, clock)
}

fn meta(code: &str, message: &str) -> ErrorMetadata {
    ErrorMetadata::builder().code(code).message(message).build()
}

fn used_by(name: Option<&'static str>) -> Rule {
    mock!(Client::get_access_key_last_used)
        .match_requests(|r| r.access_key_id() == Some(KEY))
        .then_output(move || GetAccessKeyLastUsedOutput::builder().set_user_name(name.map(str::to_owned)).build())
}

fn date() -> aws_smithy_types::DateTime {
    aws_smithy_types::DateTime::from_secs(0)
}

fn user(arn: &'static str) -> Rule {
    mock!(Client::get_user).match_requests(|r| r.user_name() == Some("bob")).then_output(move || {
        let user = User::builder().path("/").user_name("bob").user_id("AIDA").arn(arn).create_date(date());
        GetUserOutput::builder().user(user.build().unwrap()).build()
    })
}

/// Whether an error is the one expected.
type Expects = fn(&IamError) -> bool;
/// Role and external id of each session asked for.
type Asked = Arc<StdMutex<Vec<(String, Option<String>)>>>;

fn updates(code: &'static str) -> Rule {
    mock!(Client::update_access_key).then_error(move || UpdateAccessKeyError::generic(meta(code, "because")))
}

#[tokio::test]
async fn an_owner_is_read_by_one_request_of_each_operation_and_all_pages_of_tags() {
    let asked = used_by(Some("bob"));
    let user = user("arn:aws:iam::111122223333:user/division/bob");
    let page = |marker: Option<&'static str>, key: &'static str, next: Option<&'static str>| {
        mock!(Client::list_user_tags).match_requests(move |r| r.marker() == marker).then_output(move || {
            let tag = Tag::builder().key(key).value("v").build().unwrap();
            let page = ListUserTagsOutput::builder().tags(tag).is_truncated(next.is_some());
            page.set_marker(next.map(str::to_owned)).build().unwrap()
        })
    };
    let (first, second) = (page(None, "one", Some("more")), page(Some("more"), "two", None));
    let owner = iam(&[&asked, &user, &first, &second]).key_owner(OWN, KEY).await.unwrap().unwrap();
    assert_eq!(owner.user_arn, "arn:aws:iam::111122223333:user/division/bob");
    assert_eq!(owner.tags.keys().collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!([&asked, &user, &first, &second].map(Rule::num_calls), [1, 1, 1, 1]);
}

#[tokio::test]
async fn a_key_without_an_iam_user_of_the_account_has_no_owner() {
    let foreign = |code: &'static str, message: &'static str| {
        mock!(Client::get_access_key_last_used)
            .then_error(move || GetAccessKeyLastUsedError::generic(meta(code, message)))
    };
    let not_ours = "User: arn:aws:sts::111122223333:assumed-role/r/s is not authorized to perform: \
                    iam:GetAccessKeyLastUsed on resource: access key AKIAIOSFODNN7EXAMPLE";
    for rule in [foreign("NoSuchEntity", "no such key"), foreign("AccessDenied", not_ours), used_by(None)] {
        assert_eq!(iam(&[&rule]).key_owner(OWN, KEY).await, Ok(None));
    }
    let gone = mock!(Client::get_user).then_error(|| GetUserError::generic(meta("NoSuchEntity", "no such user")));
    assert_eq!(iam(&[&used_by(Some("bob")), &gone]).key_owner(OWN, KEY).await, Ok(None));
    let root = user("arn:aws:iam::111122223333:root");
    assert_eq!(iam(&[&used_by(Some("bob")), &root]).key_owner(OWN, KEY).await, Ok(None));

    let lacking = "User: x is not authorized to perform: iam:GetAccessKeyLastUsed on resource: access key \
                   AKIAIOSFODNN7EXAMPLE because no identity-based policy allows the action";
    let denied = iam(&[&foreign("AccessDenied", lacking)]).key_owner(OWN, KEY).await;
    assert!(matches!(denied, Err(IamError::Denied(_))), "our own lack of a permission is told: {denied:?}");
}

#[tokio::test]
async fn a_status_is_read_from_all_pages() {
    let page = |marker: Option<&'static str>, key: &'static str, next: Option<&'static str>| {
        mock!(Client::list_access_keys).match_requests(move |r| r.marker() == marker).then_output(move || {
            let key = AccessKeyMetadata::builder().access_key_id(key).status(StatusType::Inactive).build();
            let page = ListAccessKeysOutput::builder().access_key_metadata(key).is_truncated(next.is_some());
            page.set_marker(next.map(str::to_owned)).build().unwrap()
        })
    };
    let (first, second) = (page(None, "AKIAOTHEROTHEROTHER1", Some("m")), page(Some("m"), KEY, None));
    let iam = iam(&[&first, &second]);
    assert_eq!(iam.key_status(OWN, "bob", KEY).await, Ok(Some(KeyStatus::Inactive)));
    assert_eq!([&first, &second].map(Rule::num_calls), [1, 1]);
    assert_eq!(iam.key_status(OWN, "bob", "AKIAMISSINGMISSING99").await, Ok(None));
}

#[tokio::test]
async fn every_refusal_is_one_request_and_told_as_what_it_is() {
    let done = mock!(Client::update_access_key)
        .match_requests(|r| {
            r.user_name() == Some("bob") && r.access_key_id() == Some(KEY) && r.status() == Some(&StatusType::Inactive)
        })
        .then_output(|| UpdateAccessKeyOutput::builder().build());
    assert_eq!(iam(&[&done]).set_key_status(OWN, "bob", KEY, KeyStatus::Inactive).await, Ok(()));
    assert_eq!(done.num_calls(), 1);
    let cases: [(&'static str, Expects); 7] = [
        ("Throttling", |e| *e == IamError::Throttled),
        ("RequestLimitExceeded", |e| *e == IamError::Throttled),
        ("NoSuchEntity", |e| *e == IamError::NotFound),
        ("AccessDenied", |e| matches!(e, IamError::Denied(why) if why.contains("iam:UpdateAccessKey"))),
        ("ValidationError", |e| matches!(e, IamError::Denied(_))),
        ("ExpiredToken", |e| matches!(e, IamError::Other(_))),
        ("EntityTemporarilyUnmodifiable", |e| e.is_passing()),
    ];
    for (code, expected) in cases {
        let rule = updates(code);
        let error = iam(&[&rule]).set_key_status(OWN, "bob", KEY, KeyStatus::Inactive).await.unwrap_err();
        assert!(expected(&error), "{code}: {error:?}");
        assert_eq!(rule.num_calls(), 1, "{code} is not tried again here");
    }
    let broken = mock!(Client::update_access_key).sequence().http_status(503, None).times(5).build();
    let error = iam(&[&broken]).set_key_status(OWN, "bob", KEY, KeyStatus::Inactive).await.unwrap_err();
    assert!(matches!(error, IamError::Other(_)), "{error:?}");
    assert_eq!(broken.num_calls(), 1);
}

#[tokio::test]
async fn a_member_account_s_session_is_kept_until_shortly_before_its_end() {
    let names = Asked::default();
    let seen = Arc::clone(&names);
    let ends = NOW.parse::<Timestamp>().unwrap().as_second() + i64::from(SESSION_SECONDS);
    let assume = mock!(aws_sdk_sts::Client::assume_role)
        .match_requests(move |r| {
            let arn = r.role_arn().unwrap_or_default().to_owned();
            seen.lock().unwrap().push((arn, r.external_id().map(str::to_owned)));
            true
        })
        .then_output(move || {
            let given = aws_sdk_sts::types::Credentials::builder().access_key_id("ASIA").secret_access_key("s");
            let given = given.session_token("t").expiration(aws_smithy_types::DateTime::from_secs(ends)).build();
            AssumeRoleOutput::builder().credentials(given.unwrap()).build()
        });
    let none = mock!(Client::list_access_keys)
        .then_output(|| ListAccessKeysOutput::builder().set_access_key_metadata(Some(Vec::new())).build().unwrap());
    let role = MemberRole { name: "security/Member".into(), external_id: Some("ours".into()) };
    let clock = clock();
    let iam = over(&mocked::iam(&[&none]), &mocked::sts(&[&assume]), Some(role), clock.clone());
    for (wait, calls) in [(0, 1), (0, 1), (830, 1), (20, 2)] {
        clock.advance(wait);
        assert_eq!(iam.key_status(MEMBER, "bob", KEY).await, Ok(None));
        assert_eq!(assume.num_calls(), calls);
    }
    let arn = "arn:aws:iam::444455556666:role/security/Member".to_owned();
    assert_eq!(names.lock().unwrap()[0], (arn, Some("ours".into())));
    let contain = "arn:aws:iam::111122223333:role/Contain";
    let iam = iam.under(Some(contain.into()));
    assert_eq!(iam.key_status(OWN, "bob", KEY).await, Ok(None));
    assert_eq!(names.lock().unwrap().last(), Some(&(contain.to_owned(), None)), "the external id is the members'");
    let odd = iam.key_status("44445555666/x", "bob", KEY).await;
    assert!(matches!(odd, Err(IamError::NotConnected(_))), "an account is twelve digits: {odd:?}");
}

#[tokio::test]
async fn an_account_whose_role_cannot_be_assumed_is_not_connected() {
    for (code, connected) in [("AccessDenied", false), ("Throttling", true)] {
        let refused = mock!(aws_sdk_sts::Client::assume_role).then_error(move || {
            let meta = aws_sdk_sts::error::ErrorMetadata::builder().code(code).message("no").build();
            AssumeRoleError::generic(meta)
        });
        let role = Some(MemberRole::named("Member"));
        let iam = over(&mocked::iam(&[]), &mocked::sts(&[&refused]), role, clock());
        let error = iam.key_owner(MEMBER, KEY).await.unwrap_err();
        assert_eq!(!matches!(error, IamError::NotConnected(_)), connected, "{code}: {error:?}");
        let own =
            iam.under(Some("arn:aws:iam::111122223333:role/Contain".into())).key_owner(OWN, KEY).await.unwrap_err();
        assert!(own.is_passing(), "our own role may be too new to be known everywhere: {own:?}");
        assert_eq!(refused.num_calls(), 2);
    }
    let alone = iam(&[]).key_owner(MEMBER, KEY).await;
    assert_eq!(alone, Err(IamError::NotConnected(MEMBER.into())));
}
