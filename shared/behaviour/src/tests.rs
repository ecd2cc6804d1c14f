use std::sync::Arc;

use proptest::prelude::*;
use sentinel_model::{Action, Event, Network, Outcome, Principal, PrincipalKind, RawRecord, SourceKind, Timestamp};

use super::*;

const MONDAY_9AM: i64 = 1_741_597_200;

struct Sample {
    id: u64,
    at: i64,
    service: &'static str,
    name: &'static str,
    address: &'static str,
    agent: &'static str,
    region: &'static str,
    error: Option<&'static str>,
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            id: 0,
            at: MONDAY_9AM,
            service: "s3.amazonaws.com",
            name: "ListBuckets",
            address: "203.0.113.7",
            agent: "aws-cli/2.15.0 md/x",
            region: "eu-west-1",
            error: None,
        }
    }
}

fn event(sample: &Sample) -> Event {
    Event {
        id: format!("event-{}", sample.id),
        content: sample.id,
        time: Timestamp::from_second(sample.at).unwrap(),
        time_text: None,
        source: SourceKind::CloudTrail,
        account: "123456789012".into(),
        region: Some(sample.region.into()),
        action: Action {
            service: sample.service.into(),
            name: sample.name.into(),
            read_only: Some(["List", "Get", "Describe"].iter().any(|v| sample.name.starts_with(v))),
        },
        principal: Principal {
            id: "arn:aws:iam::123456789012:user/ann".into(),
            kind: PrincipalKind::IamUser,
            actor: "arn:aws:iam::123456789012:user/ann".into(),
            ..Principal::unknown()
        },
        access_key_id: None,
        invoked_by: None,
        targets: Vec::new(),
        network: Network {
            source_ip: Some(sample.address.parse().unwrap()),
            user_agent: Some(sample.agent.into()),
            ..Network::default()
        },
        outcome: match sample.error {
            None => Outcome::Success,
            Some(code) => Outcome::Failure { code: code.into(), message: None },
        },
        lineage: Vec::new(),
        provenance: Vec::new(),
        raw: RawRecord(Arc::from(serde_json::value::RawValue::from_string("{}".into()).unwrap())),
    }
}

fn value(values: &[f32; N], name: &str) -> f32 {
    values[FEATURES.iter().position(|f| f.name == name).unwrap()]
}

/// Somebody who lists buckets on weekday mornings, for four weeks.
fn settled() -> PrincipalState {
    let mut state = PrincipalState::default();
    for day in 0..28_u32 {
        if day % 7 >= 5 {
            continue;
        }
        for n in 0..20_u32 {
            let at = MONDAY_9AM + i64::from(day) * 86_400 + i64::from(n) * 200;
            let name = if n % 4 == 0 { "GetObject" } else { "ListBuckets" };
            state.update(&event(&Sample { id: u64::from(day * 100 + n), at, name, ..Sample::default() }), Learn::Habit);
        }
    }
    state
}

const LATER: i64 = MONDAY_9AM + 28 * 86_400;

#[test]
fn habits_are_unremarkable_and_departures_show_in_their_own_feature() {
    let state = settled();
    let rarity = Rarity::default();
    let usual = features(&event(&Sample { id: 1_000_000, at: LATER, ..Sample::default() }), &state, &rarity);
    for name in ["hour_surprisal", "api_first", "network_first", "agent_first", "region_first", "error", "risk"] {
        assert!(value(&usual, name) < 0.01, "{name} is {}", value(&usual, name));
    }
    let cases: [(&str, Sample); 8] = [
        ("hour_surprisal", Sample { at: LATER + 14 * 3_600, ..Sample::default() }),
        ("weekday_surprisal", Sample { at: LATER + 5 * 86_400, ..Sample::default() }),
        ("api_first", Sample { name: "DeleteBucket", ..Sample::default() }),
        ("service_first", Sample { service: "iam.amazonaws.com", name: "ListUsers", ..Sample::default() }),
        ("network_first", Sample { address: "192.0.2.1", ..Sample::default() }),
        ("agent_first", Sample { agent: "Boto3/1.2", ..Sample::default() }),
        ("region_first", Sample { region: "sa-east-1", ..Sample::default() }),
        ("refused", Sample { error: Some("AccessDenied"), ..Sample::default() }),
    ];
    for (name, sample) in cases {
        let sample = Sample { id: 2_000_000, at: if sample.at == MONDAY_9AM { LATER } else { sample.at }, ..sample };
        let unusual = features(&event(&sample), &state, &rarity);
        assert!(value(&unusual, name) > value(&usual, name) + 0.5, "{name}: {}", value(&unusual, name));
    }
}

#[test]
fn newness_means_little_of_somebody_new() {
    let fresh = features(&event(&Sample::default()), &PrincipalState::default(), &Rarity::default());
    for name in ["api_first", "service_first", "network_first", "agent_first", "region_first", "novelty_1h", "gap"] {
        assert!(value(&fresh, name) < 0.01, "{name} is {}", value(&fresh, name));
    }
}

#[test]
fn a_burst_shows_in_the_rates() {
    let mut state = settled();
    let rarity = Rarity::default();
    let before = features(&event(&Sample { id: 1, at: LATER, ..Sample::default() }), &state, &rarity);
    for n in 0..60 {
        let sample = Sample { id: 3_000_000 + n, at: LATER, error: Some("AccessDenied"), ..Sample::default() };
        state.update(&event(&sample), Learn::Habit);
    }
    let after = features(&event(&Sample { id: 2, at: LATER + 1, ..Sample::default() }), &state, &rarity);
    for name in ["events_5m", "events_1h", "burst", "error_rate_1h", "error_change"] {
        assert!(value(&after, name) > value(&before, name) + 0.3, "{name}: {}", value(&after, name));
    }
}

#[test]
fn a_replayed_event_changes_nothing_and_keeps_its_verdict() {
    let mut state = settled();
    let quiet = event(&Sample { id: 1, at: LATER, ..Sample::default() });
    let loud = event(&Sample { id: 2, at: LATER, name: "DeleteBucket", ..Sample::default() });
    state.update(&quiet, Learn::Habit);
    state.update(&loud, Learn::Alerted { score: 0.7, reasons: 5 });
    let once = state.clone();
    state.update(&loud, Learn::Habit);
    state.update(&quiet, Learn::Habit);
    assert_eq!(state, once);
    assert_eq!(state.replay(&quiet), Replay::Quiet);
    assert_eq!(state.replay(&loud), Replay::Alerted { score: 0.7, reasons: 5 });
}

#[test]
fn a_batch_is_known_again_whatever_its_order_and_however_many_events_came_since() {
    let mut state = PrincipalState::default();
    let events: Vec<Event> =
        (0..500).map(|id| event(&Sample { id, at: MONDAY_9AM + 1, ..Sample::default() })).collect();
    let mut list: Vec<&Event> = events.iter().collect();
    assert!(!state.knows_batch(&list));
    state.remember_batch(&list);
    list.reverse();
    assert!(state.knows_batch(&list));
    assert!(!state.knows_batch(&list[1..]));
}

#[test]
fn alerted_behaviour_is_not_learned_until_it_came_on_three_days() {
    let mut state = settled();
    let rarity = Rarity::default();
    let strange = |id, at| event(&Sample { id, at, name: "DeleteBucket", ..Sample::default() });
    for day in 0..3 {
        for n in 0..5 {
            let e = strange(5_000 + day * 10 + n, LATER + i64::try_from(day).unwrap() * 86_400);
            if day < 2 || n == 0 {
                assert!(value(&features(&e, &state, &rarity), "api_first") > 0.5, "day {day}");
            }
            state.update(&e, Learn::Alerted { score: 0.5, reasons: 1 });
        }
    }
    let e = strange(9_999, LATER + 3 * 86_400);
    assert!(value(&features(&e, &state, &rarity), "api_first") < 0.01);
}

#[test]
fn names_of_apis_agents_and_networks_are_brought_to_one_form() {
    for (name, wanted) in [
        ("UpdateFunctionCode20150331v2", "UpdateFunctionCode"),
        ("ListFunctions20150331", "ListFunctions"),
        ("ListObjectsV2", "ListObjectsV2"),
        ("GetCallerIdentity", "GetCallerIdentity"),
        ("20150331", "20150331"),
    ] {
        assert_eq!(operation(name), wanted);
    }
    for (agent, wanted) in [
        ("aws-cli/2.15.30 Python/3.11.8", "aws-cli"),
        ("[Boto3/1.34 md/x]", "boto3"),
        ("APN/1.0 HashiCorp/1.0 Terraform/1.5 (+x)", "terraform"),
        ("Mozilla/5.0 (X11)", "mozilla"),
        ("lambda.amazonaws.com", "lambda.amazonaws.com"),
        ("", ""),
    ] {
        assert_eq!(agent_family(agent), wanted);
    }
    let from = |address| network(&event(&Sample { address, ..Sample::default() })).unwrap();
    assert_eq!(from("203.0.113.7"), from("203.0.1.2"));
    assert_eq!(from("::ffff:203.0.113.7"), from("203.0.1.2"));
    assert_eq!(from("2001:db8:5:1::1"), from("2001:db8:5:2::9"));
    assert_ne!(from("2001:db8:5:1::1"), from("2001:db8:6:1::1"));
    let through = |service: &str| {
        let made = event(&Sample { address: "203.0.113.7", ..Sample::default() });
        network(&Event { invoked_by: Some(service.into()), ..made }).unwrap()
    };
    assert_eq!(through("athena.amazonaws.com"), "aws");
    assert_eq!(through("signin.amazonaws.com"), from("203.0.113.7"), "a person in the console");
}

#[test]
fn risk_follows_what_an_api_can_do() {
    let of = |service, name| risk(&event(&Sample { service, name, ..Sample::default() }));
    assert_eq!(of("ec2.amazonaws.com", "DescribeInstances"), Risk::Read);
    assert_eq!(of("ec2.amazonaws.com", "CreateTags"), Risk::Change);
    assert_eq!(of("secretsmanager.amazonaws.com", "GetSecretValue"), Risk::Sensitive);
    assert_eq!(of("secretsmanager.amazonaws.com", "ListSecrets"), Risk::Read);
    assert_eq!(of("cloudtrail.amazonaws.com", "StopLogging"), Risk::Control);
    assert_eq!(of("iam.amazonaws.com", "CreateUser"), Risk::Control);
    assert_eq!(of("s3.amazonaws.com", "DeleteBucket"), Risk::Sensitive);
}

#[test]
fn rarity_weighs_principals_alike_and_unknown_apis_by_verb() {
    let mut builder = RarityBuilder::default();
    for id in 0..1_000 {
        builder.add(&event(&Sample { id, ..Sample::default() }));
    }
    let mut other = event(&Sample { name: "GetObject", ..Sample::default() });
    other.principal.actor = "somebody else".into();
    builder.add(&other);
    let table = builder.build();
    assert!((table.apis["s3:GetObject"] - table.apis["s3:ListBuckets"]).abs() < 0.01);
    let rare = |name| table.api(&event(&Sample { name, ..Sample::default() }));
    assert!(rare("ListBuckets") < rare("DescribeUnheardOf") && rare("DescribeUnheardOf") < rare("DeleteUnheardOf"));
}

#[test]
fn a_state_stays_small_and_comes_back_from_its_bytes_exactly() {
    let mut state = PrincipalState::default();
    for n in 0..20_000_u64 {
        let mut e = event(&Sample { id: n, at: MONDAY_9AM + i64::try_from(n).unwrap() * 977, ..Sample::default() });
        e.action.name = format!("List{}", n % 977);
        e.action.service = format!("service{}.amazonaws.com", n % 101);
        e.region = Some(format!("region-{}", n % 37));
        e.network.user_agent = Some(format!("agent{}/1", n % 53));
        e.network.source_ip =
            Some(std::net::Ipv4Addr::from(u32::try_from(n * 7_777_777 % 4_000_000_000).unwrap()).into());
        let learn = if n % 5 == 0 { Learn::Alerted { score: 0.123_456_7, reasons: u32::MAX } } else { Learn::Habit };
        state.update(&e, learn);
        state.remember_batch(&[&e]);
    }
    let packed = state.pack().unwrap();
    println!("a full state has {} bytes", packed.len());
    assert!(packed.len() <= 1_536, "{} bytes", packed.len());
    assert_eq!(PrincipalState::unpack(&packed).unwrap(), state);
    // Somebody ordinary leaves room for the key and the store's own attributes in a kilobyte.
    assert!(settled().pack().unwrap().len() < 500);
}

#[test]
fn bytes_of_another_form_or_cut_short_are_no_state() {
    let packed = settled().pack().unwrap();
    assert!(matches!(PrincipalState::unpack(&[]), Err(UnpackError::Form(None))));
    let other = [&[packed[0] + 1], &packed[1..]].concat();
    assert!(matches!(PrincipalState::unpack(&other), Err(UnpackError::Form(Some(2)))));
    for end in 1..packed.len() {
        assert!(matches!(PrincipalState::unpack(&packed[..end]), Err(UnpackError::Damaged(_))), "{end} bytes");
    }
    let empty = PrincipalState::default();
    assert_eq!(PrincipalState::unpack(&empty.pack().unwrap()).unwrap(), empty);
}

/// Events with something new in each: in the order given, one a minute.
fn varied(ids: std::ops::Range<u64>) -> Vec<Event> {
    let names = ["ListBuckets", "GetObject", "DeleteBucket", "GetSecretValue"];
    let regions = ["eu-west-1", "us-east-1", "sa-east-1"];
    let one = |id: u64| {
        let at = LATER + i64::try_from(id).unwrap() * 60;
        let index = usize::try_from(id).unwrap();
        event(&Sample { id, at, name: names[index % 4], region: regions[index % 3], ..Sample::default() })
    };
    ids.map(one).collect()
}

/// Learns a batch, and tells what it taught.
fn teach(state: &mut PrincipalState, batch: &[Event]) -> Lessons {
    let list: Vec<&Event> = batch.iter().collect();
    let mut lessons = Lessons::of(&list);
    for event in batch {
        let lesson = Lesson::of(event, Learn::Habit);
        assert!(state.apply(&lesson));
        lessons.add(lesson);
    }
    state.remember_batch(&list);
    lessons
}

#[test]
fn what_another_state_learned_can_be_learned_again_and_counts_once() {
    let (first, second) = (varied(1..21), varied(21..41));
    let mut both = settled();
    teach(&mut both, &first);
    let mut theirs = both.clone();
    teach(&mut both, &second);

    let mut mine = settled();
    let lessons = teach(&mut mine, &second);
    let list: Vec<&Event> = second.iter().collect();
    assert!(!both.relearn(&lessons), "the batch is known");
    assert!(theirs.relearn(&lessons));
    assert!(!theirs.relearn(&lessons), "the events are known");
    theirs.remember_batch(&list);
    assert_eq!(theirs, both, "in order, as if one state had learned all");

    // Cut otherwise, the batch is unknown, but each of its events is not.
    let list: Vec<&Event> = second[..10].iter().collect();
    let mut part = Lessons::of(&list);
    second[..10].iter().for_each(|e| part.add(Lesson::of(e, Learn::Habit)));
    assert_eq!((part.events(), part.alerted()), (10, false));
    assert!(!theirs.relearn(&part));
    assert_eq!(theirs, both);
}

proptest! {
    #[test]
    fn features_are_finite_and_bounded_whatever_happens(
        steps in proptest::collection::vec((0_u8..6, -4_000_000_i64..4_000_000, 0_u8..5, any::<bool>(), any::<bool>()), 1..120)
    ) {
        let mut state = PrincipalState::default();
        let rarity = Rarity { apis: [("s3:ListBuckets".to_owned(), f32::NAN)].into(), ..Rarity::default() };
        for (n, (api, offset, place, failed, alerted)) in steps.into_iter().enumerate() {
            let names = ["ListBuckets", "GetObject", "DeleteBucket", "PutBucketPolicy", "", "GetSecretValue"];
            let addresses = ["203.0.113.7", "192.0.2.1", "2001:db8::1", "10.0.0.1", "::1"];
            let e = event(&Sample {
                id: n as u64,
                at: MONDAY_9AM + offset * 1_000,
                name: names[usize::from(api)],
                address: addresses[usize::from(place)],
                error: failed.then_some("AccessDenied"),
                ..Sample::default()
            });
            let values = features(&e, &state, &rarity);
            prop_assert!(values.iter().all(|v| v.is_finite() && (0.0..=30.0).contains(v)), "{values:?}");
            state.update(&e, if alerted { Learn::Alerted { score: 0.5, reasons: 1 } } else { Learn::Habit });
        }
        let packed = state.pack().unwrap();
        prop_assert!(packed.len() <= 1_536, "{} bytes", packed.len());
        prop_assert_eq!(PrincipalState::unpack(&packed).unwrap(), state);
    }

    #[test]
    fn counts_do_not_depend_on_the_order_of_arrival(mut offsets in proptest::collection::vec(0_i64..500_000, 1..60)) {
        let learn = |offsets: &[i64]| {
            let mut state = PrincipalState::default();
            for at in offsets {
                state.update(&event(&Sample { id: at.unsigned_abs(), at: MONDAY_9AM + at, ..Sample::default() }), Learn::Habit);
            }
            state
        };
        offsets.sort_unstable();
        offsets.dedup();
        let forward = learn(&offsets);
        offsets.reverse();
        let backward = learn(&offsets);
        let probe = event(&Sample { id: u64::MAX, at: MONDAY_9AM + 500_000, ..Sample::default() });
        let (a, b) = (features(&probe, &forward, &Rarity::default()), features(&probe, &backward, &Rarity::default()));
        // Which event of a kind was the first depends on the order; all else must not.
        for i in (0..N).filter(|i| !FEATURES[*i].name.starts_with("novelty")) {
            prop_assert!((a[i] - b[i]).abs() < 0.01, "{}: {} or {}", FEATURES[i].name, a[i], b[i]);
        }
    }
}
