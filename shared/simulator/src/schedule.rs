//! One actor's day: when they work, in which bouts, and what they call in each.

use rand::{Rng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use sentinel_model::{Timestamp, time};
use serde_json::{Value, json};

use crate::{
    catalogue,
    company::{Actor, CompanyOptions, Role, generator},
    identity::Caller,
    record::{Call, Place, hex_digits, render, stamp, unique_id},
};

/// 1970-01-01 was a Thursday; days count from Monday.
fn is_weekend(t: Timestamp) -> bool {
    (t.as_second().div_euclid(86_400) + 3).rem_euclid(7) >= 5
}

/// Adds the records of `actor` on the day that begins at `day_start`.
pub(crate) fn day(
    rng: &mut ChaCha8Rng,
    options: &CompanyOptions,
    actor: &Actor,
    day_start: Timestamp,
    out: &mut Vec<(Timestamp, Value)>,
) {
    let rest_day = actor.role.is_person() || actor.role == Role::Pipeline;
    if rest_day && is_weekend(day_start) && !rng.random_bool(0.06) {
        return;
    }
    if actor.role.is_person() && rng.random_bool(0.08) {
        return;
    }
    let travelling = actor.role.is_person() && rng.random_bool(0.02);
    let away = format!("2001:db8:{}:9::{:x}", hex_digits(rng, 4), rng.random_range(1..255));
    let bouts = poisson(rng, actor.bouts * options.activity);
    let session_key = unique_id(rng, "ASIA");
    let sign_in = begin(rng, actor, day_start);
    for bout in 0..bouts {
        let start = if bout == 0 { sign_in } else { time::plus_seconds(sign_in, offset(rng, actor)) };
        let address = if travelling { away.clone() } else { favourite(rng, &actor.addresses, 0.85).clone() };
        let place = Place {
            region: (*favourite(rng, &actor.regions, 0.9)).to_owned(),
            address,
            agent: favourite(rng, &actor.agents, 0.75).clone(),
        };
        let key = if actor.role == Role::Pipeline { unique_id(rng, "ASIA") } else { session_key.clone() };
        let caller = caller(actor, key, sign_in.min(start));
        if bout == 0 && actor.role.is_person() && place.agent.starts_with("Mozilla") {
            let call = console_login();
            out.push((start, render(rng, &options.account, start, &caller, &place, &call)));
        }
        if actor.role == Role::Pipeline {
            let record = web_identity_login(rng, options, actor, start, &place);
            out.push((start, record));
        }
        one_bout(rng, options, actor, &caller, &place, time::plus_seconds(start, 1), out);
    }
    if actor.role == Role::Workload {
        service_assumes(rng, options, actor, sign_in, out);
    }
}

/// One bout of work: calls of one place, some of them close together.
fn one_bout(
    rng: &mut ChaCha8Rng,
    options: &CompanyOptions,
    actor: &Actor,
    caller: &Caller,
    place: &Place,
    start: Timestamp,
    out: &mut Vec<(Timestamp, Value)>,
) {
    let in_console = place.agent.starts_with("Mozilla");
    let mean = match actor.role {
        Role::Pipeline => 25.0,
        Role::Workload | Role::Integration => 4.0,
        _ => 9.0,
    };
    // Work of people is uneven: now and then a bout is several times as long.
    let stretch = if rng.random_bool(0.05) { 5.0 } else { 1.0 };
    let count = 1 + poisson(rng, mean * stretch);
    let people_stray = if actor.role.is_person() { 0.015 } else { 0.0005 };
    // New work: a bout in which somebody learns a service of their own field that is new to them.
    let project = actor.role.is_person() && rng.random_bool(0.01);
    let mut at = start;
    for _ in 0..count {
        let api = if project || rng.random_bool(people_stray) {
            *actor.role.catalogue().choose(rng).unwrap_or(&actor.habits[0])
        } else {
            zipf(rng, &actor.habits)
        };
        let mut call = catalogue::call(rng, &options.account, api);
        let (refused, missing) = if actor.role.is_person() { (0.012, 0.012) } else { (0.0008, 0.004) };
        if rng.random_bool(refused * if project { 8.0 } else { 1.0 }) {
            call = catalogue::denied(call, &arn(options, actor));
        } else if rng.random_bool(missing) {
            call = catalogue::failed(rng, call);
        }
        let mut place = place.clone();
        if catalogue::is_global(api.source) {
            place.region = "us-east-1".into();
        }
        out.push((at, render(rng, &options.account, at, caller, &place, &call)));
        let pause = match actor.role {
            Role::Pipeline => 2.0,
            Role::Workload | Role::Integration => 15.0,
            // A console page asks for many things at once, then somebody reads it.
            _ if in_console && rng.random_bool(0.7) => 0.5,
            _ => 50.0,
        };
        at = time::plus_seconds(at, exponential(rng, pause));
    }
}

/// The role's session begins: a service takes it on for the workload.
fn service_assumes(
    rng: &mut ChaCha8Rng,
    options: &CompanyOptions,
    actor: &Actor,
    at: Timestamp,
    out: &mut Vec<(Timestamp, Value)>,
) {
    let host = if actor.name.starts_with("i-") { "ec2.amazonaws.com" } else { "lambda.amazonaws.com" };
    let key = unique_id(rng, "ASIA");
    let call = Call {
        source: "sts.amazonaws.com",
        name: "AssumeRole",
        read_only: true,
        request: json!({
            "roleArn": format!("arn:aws:iam::{}:role/{}", options.account, actor.role_name),
            "roleSessionName": actor.name,
        }),
        response: json!({
            "credentials": {"accessKeyId": key, "expiration": stamp(time::plus_seconds(at, 21_600))},
            "assumedRoleUser": {
                "assumedRoleId": format!("{}:{}", actor.unique_id, actor.name),
                "arn": arn(options, actor),
            },
        }),
        error: None,
    };
    let place = Place { region: actor.regions[0].into(), address: host.into(), agent: host.into() };
    let caller = Caller::Service { host: host.into() };
    let record = render(rng, &options.account, at, &caller, &place, &call);
    out.push((at, record));
}

fn web_identity_login(
    rng: &mut ChaCha8Rng,
    options: &CompanyOptions,
    actor: &Actor,
    at: Timestamp,
    place: &Place,
) -> Value {
    let provider = "token.actions.githubusercontent.com";
    let caller = Caller::WebIdentity {
        provider: provider.into(),
        subject: format!("sts.amazonaws.com:repo:acme/{}:ref:refs/heads/main", actor.role_name),
    };
    let call = Call {
        source: "sts.amazonaws.com",
        name: "AssumeRoleWithWebIdentity",
        read_only: true,
        request: json!({
            "roleArn": format!("arn:aws:iam::{}:role/{}", options.account, actor.role_name),
            "roleSessionName": actor.name,
            "durationSeconds": 3600,
        }),
        response: json!({
            "assumedRoleUser": {
                "assumedRoleId": format!("{}:{}", actor.unique_id, actor.name),
                "arn": arn(options, actor),
            },
            "provider": format!("arn:aws:iam::{}:oidc-provider/{provider}", options.account),
        }),
        error: None,
    };
    render(rng, &options.account, at, &caller, place, &call)
}

fn console_login() -> Call {
    Call {
        source: "signin.amazonaws.com",
        name: "ConsoleLogin",
        read_only: false,
        request: Value::Null,
        response: json!({"ConsoleLogin": "Success"}),
        error: None,
    }
}

/// The ARN under which the actor's calls are recorded.
fn arn(options: &CompanyOptions, actor: &Actor) -> String {
    let account = &options.account;
    if actor.role == Role::Integration {
        return format!("arn:aws:iam::{account}:user/{}", actor.name);
    }
    format!("arn:aws:sts::{account}:assumed-role/{}/{}", actor.role_name, actor.name)
}

fn caller(actor: &Actor, access_key_id: String, created: Timestamp) -> Caller {
    if actor.role == Role::Integration {
        return Caller::IamUser {
            name: actor.name.clone(),
            principal_id: actor.unique_id.clone(),
            access_key_id: actor.access_key_id.clone(),
        };
    }
    Caller::RoleSession {
        role: actor.role_name.clone(),
        path: actor.role_path.clone(),
        role_id: actor.unique_id.clone(),
        session: actor.name.clone(),
        access_key_id,
        created,
        mfa: false,
    }
}

/// When the day's work begins.
fn begin(rng: &mut ChaCha8Rng, actor: &Actor, day_start: Timestamp) -> Timestamp {
    if !actor.role.is_person() && actor.role != Role::Pipeline {
        return time::plus_seconds(day_start, rng.random_range(0..1_800));
    }
    // Once in a while somebody is called at night or starts very early.
    let hour = if rng.random_bool(0.01) { rng.random_range(0.0..23.0) } else { actor.begins };
    time::plus_seconds(day_start, whole(hour * 3_600.0) + exponential(rng, 1_500.0))
}

/// How long after the day's begin a bout starts: working hours with a break for people, the clock round for others.
fn offset(rng: &mut ChaCha8Rng, actor: &Actor) -> i64 {
    match actor.role {
        Role::Workload | Role::Integration => rng.random_range(0..82_800),
        _ if rng.random_bool(0.02) => rng.random_range(30_000..43_000),
        _ if rng.random_bool(0.5) => rng.random_range(0..14_000),
        _ => rng.random_range(18_000..31_000),
    }
}

/// Mostly the first, else any.
fn favourite<'a, T>(rng: &mut ChaCha8Rng, items: &'a [T], first: f64) -> &'a T {
    if rng.random_bool(first) { &items[0] } else { &items[rng.random_range(0..items.len())] }
}

/// One of the items, the n-th with a weight of 1/n.
fn zipf<T: Copy>(rng: &mut ChaCha8Rng, items: &[T]) -> T {
    #[allow(clippy::cast_precision_loss, reason = "a few dozen items")]
    let weight = |i: usize| 1.0 / (i as f64 + 1.0);
    let total: f64 = (0..items.len()).map(weight).sum();
    let mut left = rng.random_range(0.0..total);
    for (i, item) in items.iter().enumerate() {
        left -= weight(i);
        if left <= 0.0 {
            return *item;
        }
    }
    items[items.len() - 1]
}

/// A count with the given mean (Knuth's method, which is exact and fast enough below a few hundred).
fn poisson(rng: &mut ChaCha8Rng, mean: f64) -> u32 {
    let limit = (-mean.min(500.0)).exp();
    let mut product = 1.0_f64;
    let mut count = 0;
    loop {
        product *= rng.random_range(0.0..1.0_f64);
        if product <= limit {
            return count;
        }
        count += 1;
    }
}

/// Whole seconds with an exponential distribution.
fn exponential(rng: &mut ChaCha8Rng, mean: f64) -> i64 {
    whole(-mean * (1.0 - rng.random_range(0.0..1.0_f64)).ln())
}

#[allow(clippy::cast_possible_truncation, reason = "seconds within a day or two")]
fn whole(seconds: f64) -> i64 {
    seconds as i64
}

/// A generator for what is not an actor's own activity.
pub(crate) fn script_generator(seed: u64) -> ChaCha8Rng {
    generator(seed, u64::MAX, 0)
}
