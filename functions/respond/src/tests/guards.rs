//! The guardrails, by themselves and through the whole stage.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use proptest::prelude::*;
use sentinel_model::response::{Mode, ResponseState};
use sentinel_model::{Channel, OwnRoles, PrincipalKind, Provenance};

use super::world::*;
use crate::config::Protected;
use crate::guardrails::{Decision, Facts, Verdict, decide};
use crate::iam::{IamError, KeyOwner, SimulatedUser};
use crate::ports::FoundAlert;

fn owner() -> KeyOwner {
    KeyOwner { user_name: USER.into(), user_arn: user_arn(), tags: BTreeMap::new() }
}

fn with_facts(found: &FoundAlert, change: impl FnOnce(&mut Facts<'_>)) -> Decision {
    let (protected, roles) = (Protected::default(), [OUR_ROLE].into_iter().collect::<OwnRoles>());
    let mut facts = Facts {
        alert: &found.alert,
        false_positive: false,
        access_key_id: KEY,
        owner: Ok(Some(owner())),
        protected: &protected,
        own_roles: &roles,
        kill_switch: false,
        ask_always: false,
        undo_count: 0,
        earlier: None,
        actions_this_hour: 0,
        hourly_cap: 3,
        iam_simulated: true,
    };
    change(&mut facts);
    decide(&facts)
}

fn by(channel: Channel, age: i64) -> FoundAlert {
    let mut found = alert("al-1");
    found.alert.key_uses = vec![key_use(KEY, channel, age)];
    found
}

fn bus() -> Channel {
    Channel::Bus { bus: "default".into(), account: ACCOUNT.into() }
}

#[test]
fn automatic_says_by_which_copy_and_how_fresh() {
    let decision = with_facts(&alert("al-1"), |_| {});
    assert_eq!(decision.verdict, Verdict::Automatic);
    assert!(decision.reasons.iter().any(|r| r.contains("simulated account") && r.contains("30 seconds")));
}

#[test]
fn only_a_copy_from_the_account_itself_makes_an_action_automatic() {
    let object = |only| Channel::Object { bucket: "b".into(), key: "k".into(), only_cloudtrail_writes: only };
    let api = Channel::CloudTrailApi { account: ACCOUNT.into(), region: "us-east-1".into() };
    for (channel, simulated, verdict) in [
        (bus(), false, Verdict::Automatic),
        (object(true), false, Verdict::Automatic),
        (api, false, Verdict::Automatic),
        (simulated(), true, Verdict::Automatic),
        (object(false), false, Verdict::Approval),
        (simulated(), false, Verdict::Approval),
        (Channel::Api { user: "u".into() }, true, Verdict::Approval),
        (Channel::Folder { path: "f".into() }, true, Verdict::Approval),
    ] {
        let decision = with_facts(&by(channel.clone(), 5), |f| f.iam_simulated = simulated);
        assert_eq!(decision.verdict, verdict, "{channel:?}, simulated: {simulated}");
    }
}

#[test]
fn an_event_over_one_hour_old_on_arrival_asks() {
    for (age, verdict) in [
        (3600, Verdict::Automatic),
        (3601, Verdict::Approval),
        (0, Verdict::Automatic),
        (-60, Verdict::Automatic),
        (-301, Verdict::Approval),
    ] {
        assert_eq!(with_facts(&by(bus(), age), |_| {}).verdict, verdict, "age {age}");
    }
}

#[test]
fn a_fresh_copy_by_api_does_not_vouch_for_an_old_one_from_the_account() {
    let mut found = by(bus(), 7200);
    let fresh = key_use(KEY, Channel::Api { user: "u".into() }, 5).uses[0].provenance[0].clone();
    found.alert.key_uses[0].uses[0].provenance.push(fresh);
    assert_eq!(with_facts(&found, |_| {}).verdict, Verdict::Approval);
}

#[test]
fn the_attested_event_must_be_one_that_used_this_very_key() {
    let mut found = by(Channel::Api { user: "u".into() }, 5);
    found.alert.key_uses.push(key_use(OTHER_KEY, bus(), 5));
    found.alert.provenance = vec![Provenance { channel: bus(), received_at: found.alert.time }];
    assert_eq!(with_facts(&found, |_| {}).verdict, Verdict::Approval);
    let other = with_facts(&found, |f| f.access_key_id = OTHER_KEY);
    assert_eq!(other.verdict, Verdict::Automatic);
    let unused = with_facts(&found, |f| f.access_key_id = "AKIANEVERUSEDHERE001");
    assert_eq!(unused.verdict, Verdict::Refused);
}

#[test]
fn the_key_s_owner_must_be_the_principal_path_included() {
    for arn in ["arn:aws:iam::111122223333:user/somebody".to_owned(), user_arn().replace("/division/team", "")] {
        let stranger = KeyOwner { user_arn: arn.clone(), ..owner() };
        let decision = with_facts(&alert("al-1"), |f| f.owner = Ok(Some(stranger)));
        assert_eq!(decision.verdict, Verdict::Refused, "{arn}");
        assert!(decision.reasons[0].contains(&arn));
    }
    assert_eq!(with_facts(&alert("al-1"), |f| f.owner = Ok(None)).verdict, Verdict::Refused);
    let denied = Err(IamError::Denied("no".into()));
    assert_eq!(with_facts(&alert("al-1"), |f| f.owner = denied).verdict, Verdict::Refused);
}

#[test]
fn an_inferred_principal_is_never_acted_on() {
    let mut found = alert("al-1");
    found.alert.principal.inferred = true;
    assert_eq!(with_facts(&found, |_| {}).verdict, Verdict::Refused);
}

#[test]
fn another_account_s_principal_is_refused() {
    let mut found = alert("al-1");
    found.alert.principal.account = Some("999988887777".into());
    assert_eq!(with_facts(&found, |_| {}).verdict, Verdict::Refused);
}

#[test]
fn root_services_service_linked_and_our_own_roles_are_refused_and_say_so() {
    let change = |kind, id: &str, role: Option<&str>| {
        let mut found = alert("al-1");
        found.alert.principal.kind = kind;
        found.alert.principal.id = id.into();
        found.alert.principal.role = role.map(str::to_owned);
        found
    };
    let linked = "arn:aws:iam::111122223333:role/aws-service-role/x.amazonaws.com/AWSServiceRoleForX";
    for (found, says) in [
        (change(PrincipalKind::Root, "arn:aws:iam::111122223333:root", None), "root user"),
        (change(PrincipalKind::Service, "ec2.amazonaws.com", None), "AWS service"),
        (change(PrincipalKind::AssumedRole, "arn:aws:sts::1:assumed-role/X/s", Some(linked)), "service-linked"),
        (change(PrincipalKind::AssumedRole, "arn:aws:sts::1:assumed-role/C/s", Some(OUR_ROLE)), "our own role"),
    ] {
        let decision = with_facts(&found, |_| {});
        assert_eq!(decision.verdict, Verdict::Refused);
        assert!(decision.reasons.iter().any(|r| r.contains(says)), "{says}: {:?}", decision.reasons);
    }
}

#[test]
fn protected_and_break_glass_principals_and_tags_are_refused_and_say_so() {
    let decide_with = |protected: &Protected, tags: &[(&str, &str)]| {
        let tags = tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let found = alert("al-1");
        let roles = OwnRoles::default();
        decide(&Facts {
            alert: &found.alert,
            false_positive: false,
            access_key_id: KEY,
            owner: Ok(Some(KeyOwner { tags, ..owner() })),
            protected,
            own_roles: &roles,
            kill_switch: false,
            ask_always: false,
            undo_count: 0,
            earlier: None,
            actions_this_hour: 0,
            hourly_cap: 3,
            iam_simulated: true,
        })
    };
    let of = |principals: &[&str], glass: &[&str]| Protected {
        principals: principals.iter().map(|p| (*p).to_owned()).collect(),
        break_glass: glass.iter().map(|p| (*p).to_owned()).collect(),
        ..Protected::default()
    };
    let arn = user_arn();
    for entry in [USER, &USER.to_ascii_uppercase(), &arn, "mallory+*", "arn:aws:iam::111122223333:user/division/*"] {
        let decision = decide_with(&of(&[entry], &[]), &[]);
        assert!(decision.reasons.iter().any(|r| r.contains("protected principal")), "{entry}");
        assert_eq!(decision.verdict, Verdict::Refused, "{entry}");
        let decision = decide_with(&of(&[], &[entry]), &[]);
        assert!(decision.reasons.iter().any(|r| r.contains("break-glass")), "{entry}");
    }
    assert_eq!(decide_with(&of(&["mallory"], &["root"]), &[]).verdict, Verdict::Automatic);
    let tagged = decide_with(&Protected::default(), &[("cloudsentinel:protected", "")]);
    assert_eq!(tagged.verdict, Verdict::Refused);
    assert!(tagged.reasons.iter().any(|r| r.contains("cloudsentinel:protected")));
    assert_eq!(decide_with(&Protected::default(), &[("team", "x")]).verdict, Verdict::Automatic);
}

#[test]
fn the_cap_an_undo_and_the_kill_switch_ask() {
    let capped = with_facts(&alert("al-1"), |f| f.actions_this_hour = 3);
    assert_eq!((capped.verdict, capped.cap_reached), (Verdict::Approval, true));
    assert_eq!(with_facts(&alert("al-1"), |f| f.actions_this_hour = 2).verdict, Verdict::Automatic);
    assert_eq!(with_facts(&alert("al-1"), |f| f.undo_count = 1).verdict, Verdict::Approval);
    let stopped = with_facts(&alert("al-1"), |f| (f.kill_switch, f.actions_this_hour) = (true, 3));
    assert_eq!((stopped.verdict, stopped.cap_reached), (Verdict::Approval, false));
}

proptest! {
    #[test]
    fn automatic_only_when_every_guardrail_holds(
        age in -1000_i64..8000, own in any::<bool>(), kill in any::<bool>(), ask in any::<bool>(),
        undo in 0_u32..2, count in 0_u32..5, inferred in any::<bool>(), right in any::<bool>(), fp in any::<bool>(),
    ) {
        let mut found = by(if own { bus() } else { Channel::Folder { path: "f".into() } }, age);
        found.alert.principal.inferred = inferred;
        let key_owner = KeyOwner { user_arn: if right { user_arn() } else { "arn:other".into() }, ..owner() };
        let decision = with_facts(&found, |f| {
            (f.kill_switch, f.ask_always, f.undo_count, f.actions_this_hour) = (kill, ask, undo, count);
            f.owner = Ok(Some(key_owner));
            f.false_positive = fp;
        });
        let refused = inferred || !right || fp;
        let asks = kill || ask || undo > 0 || count >= 3 || !own || !(-300..=3600).contains(&age);
        let expected = if refused { Verdict::Refused } else if asks { Verdict::Approval } else { Verdict::Automatic };
        prop_assert_eq!(decision.verdict, expected);
        prop_assert!(!decision.reasons.is_empty());
    }
}

#[tokio::test]
async fn above_the_hourly_cap_a_person_is_asked_and_somebody_is_told_once() {
    let mut limited = config(Mode::Automatic);
    limited.hourly_cap = 2;
    let world = World::with(limited, 0, BTreeMap::new()).await;
    for i in 0..5 {
        let (name, key) = (format!("user{i}"), format!("AKIA00000000000000{i:02}"));
        let user = SimulatedUser { name: name.clone(), keys: vec![key.clone()], ..SimulatedUser::default() };
        world.iam.add_user(ACCOUNT, &user).await.unwrap();
        let mut found = alert(&format!("al-{i}"));
        found.alert.principal.id = format!("arn:aws:iam::{ACCOUNT}:user/{name}");
        found.alert.key_uses = vec![key_use(&key, simulated(), 5)];
        world.raise(found).await;
    }
    world.pass(60).await;
    let mut states = BTreeMap::new();
    for i in 0..5 {
        let response = world.response_of(&format!("AKIA00000000000000{i:02}"), 0).await.unwrap();
        *states.entry(response.state.as_str()).or_insert(0) += 1;
    }
    assert_eq!(states, BTreeMap::from([("awaiting_approval", 3), ("contained", 2)]));
    let told = world.titles().iter().filter(|t| t.contains("hourly cap")).count();
    assert_eq!(told, 1);
}

#[tokio::test]
async fn a_protecting_tag_read_from_iam_stops_the_action() {
    let tags = BTreeMap::from([("cloudsentinel:protected".to_owned(), "yes".to_owned())]);
    let world = World::with(config(Mode::Automatic), 0, tags).await;
    world.raise(alert("al-1")).await;
    world.pass(60).await;
    assert_eq!(world.response().await.state, ResponseState::Refused);
    assert_eq!(world.faults.sets.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_event_of_our_own_role_never_starts_an_action() {
    let world = World::new(Mode::Automatic).await;
    let mut found = alert("al-1");
    found.alert.principal.kind = PrincipalKind::AssumedRole;
    found.alert.principal.id = format!("arn:aws:sts::{ACCOUNT}:assumed-role/CloudSentinelRespond/s");
    found.alert.principal.role = Some(OUR_ROLE.into());
    found.alert.key_uses = vec![key_use("ASIAOURSESSIONKEY001", simulated(), 5), key_use(KEY, simulated(), 5)];
    world.raise(found).await;
    world.pass(60).await;
    for key in ["ASIAOURSESSIONKEY001", KEY] {
        let response = world.response_of(key, 0).await.unwrap();
        assert_eq!(response.state, ResponseState::Refused, "{key}");
        assert!(response.reasons[0].contains("our own role"));
    }
    assert_eq!(world.faults.sets.load(Ordering::SeqCst), 0);
}

#[test]
fn who_is_asked_is_told_owner_and_evidence_too() {
    let decision = with_facts(&alert("al-1"), |f| f.ask_always = true);
    assert_eq!(decision.verdict, Verdict::Approval);
    let told = decision.reasons.join(" ");
    for part in ["The mode is approve", "IAM says that the key belongs to", "signed with this key, came by"] {
        assert!(told.contains(part), "{told}");
    }
}
