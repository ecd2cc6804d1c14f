//! The features: what they mean, in what unit, and how each is computed.
//!
//! "Surprisal" is -ln of the share of the principal's past that looked like this, in nats: 0 is what always
//! happens, 7 is one in a thousand. Where a principal's past is short, the account-wide share fills in (as
//! [`PRIOR`] imagined events), so that somebody new is judged as an average colleague until known.

use sentinel_model::Event;

use crate::{
    PrincipalState, Rarity, agent_family, api_name,
    counter::{Counters, HOUR, WEEK},
    network,
    rarity::{Risk, risk},
    sketch::{Sketch, hash},
    state::{hour_of_day, is_refused, minute, weekday},
};

/// Number of features.
pub const N: usize = 29;

/// Imagined events that the account-wide share counts for.
const PRIOR: f32 = 20.0;
/// No surprisal is above this: one in 22,000.
const MOST_SURPRISING: f32 = 10.0;

/// A feature, as documents and models name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    /// Name.
    pub name: &'static str,
    /// Meaning.
    pub meaning: &'static str,
    /// Unit.
    pub unit: &'static str,
}

const fn feature(name: &'static str, meaning: &'static str, unit: &'static str) -> Feature {
    Feature { name, meaning, unit }
}

/// All features, in the order in which models take them.
pub const FEATURES: [Feature; N] = [
    feature("hour_surprisal", "how unusual this hour of the day is for the principal", "nats"),
    feature("weekday_surprisal", "how unusual this day of the week is for the principal", "nats"),
    feature("events_5m", "events of the last five minutes", "ln(1 + count)"),
    feature("events_1h", "events of the last hour", "ln(1 + count)"),
    feature("burst", "events of the last hour against an ordinary active hour of the last week", "ln ratio, 0 or more"),
    feature("gap", "time since the principal's latest event", "ln(1 + hours)"),
    feature("error", "the call failed", "0 or 1"),
    feature("refused", "the call was refused for want of rights", "0 or 1"),
    feature("error_rate_1h", "share of failures in the last hour, one imagined success for each 5 events", "share"),
    feature("error_change", "failures' share of the last hour above that of the last week", "share, 0 or more"),
    feature("api_surprisal", "how unusual the API is for the principal", "nats"),
    feature("service_surprisal", "how unusual the service is for the principal", "nats"),
    feature("api_rarity", "how unusual the API is in general", "nats"),
    feature("service_rarity", "how unusual the service is in general", "nats"),
    feature("api_first", "the principal never used the API before", "0 or 1, times maturity"),
    feature("service_first", "the principal never used the service before", "0 or 1, times maturity"),
    feature("network_surprisal", "how unusual the source network is for the principal", "nats"),
    feature("network_first", "the principal never came from this network before", "0 or 1, times maturity"),
    feature("agent_surprisal", "how unusual the tool is for the principal", "nats"),
    feature("agent_first", "the principal never used this tool before", "0 or 1, times maturity"),
    feature("region_surprisal", "how unusual the Region is for the principal", "nats"),
    feature("region_first", "the principal never worked in this Region before", "0 or 1, times maturity"),
    feature("novelty_1h", "APIs new to the principal in the last hour", "ln(1 + count), times maturity"),
    feature(
        "novelty_burst",
        "new APIs of the last hour above what the last week had an hour",
        "ln ratio, times maturity",
    ),
    feature("services_1h", "different services used in the last hour", "ln(1 + count)"),
    feature("reading_change", "change of the share of reading calls, last hour against last week", "share, 0 to 1"),
    feature("risk", "how much harm the API can do: 0 reads, 1 changes, 2 discloses or destroys, 3 controls", "tier"),
    feature("risk_novelty", "risk of an API that the principal never or hardly ever uses", "tier x share"),
    feature(
        "risky_1h",
        "calls of the last hour that disclose, destroy or change control, this one too",
        "ln(1 + count)",
    ),
];

/// The features of `event`, given the past that `state` holds. The state must not have learned the event yet.
/// Every value is finite and within 0 to 30.
pub fn features(event: &Event, state: &PrincipalState, rarity: &Rarity) -> [f32; N] {
    let seconds = event.time.as_second();
    let now = state.counters.seen_at(seconds);
    let maturity = state.maturity();
    let first = |count: u32| if count == 0 { maturity } else { 0.0 };

    let api = hash(&api_name(event));
    let service = hash(&event.action.service);
    let api_count = state.apis.count(api);
    let service_count = state.services.count(service);
    let api_rarity = rarity.api(event);
    let service_rarity = rarity.service(event);
    let api_share = blended(api_count, state.apis.total(), (-api_rarity).exp());
    let service_share = blended(service_count, state.services.total(), (-service_rarity).exp());
    let (network_surprisal, network_first) = place(&state.networks, network(event).as_deref(), maturity);
    let agent = event.network.user_agent.as_deref().map(agent_family);
    let (agent_surprisal, agent_first) = place(&state.agents, agent.as_deref(), maturity);
    let (region_surprisal, region_first) = place(&state.regions, event.region.as_deref(), maturity);
    let failed = !event.outcome.is_success();
    let error_rate = (now.errors[0] + flag(failed)) / (now.events[1] + 6.0);
    let risk = f32::from(risk(event) as u8);
    // Spread over the hours of a working week that have activity: nobody works around the clock.
    let active_hour = weekly_rate(&now, state, now.events[2]) * 4.0;

    let values = [
        surprise(state.hours[hour_of_day(seconds)], state.hours.iter().sum(), 24.0),
        surprise(state.weekdays[weekday(seconds)], state.weekdays.iter().sum(), 7.0),
        now.events[0].ln_1p(),
        now.events[1].ln_1p(),
        ((now.events[1] + 5.0) / (active_hour + 5.0)).ln().max(0.0),
        if state.last == 0 { 0.0 } else { hours(seconds - state.last).ln_1p() },
        flag(failed),
        flag(is_refused(&event.outcome)),
        error_rate,
        (error_rate - now.errors[1] / (now.events[2] + 5.0)).max(0.0),
        surprisal(api_share),
        surprisal(service_share),
        api_rarity,
        service_rarity,
        first(api_count),
        first(service_count),
        network_surprisal,
        network_first,
        agent_surprisal,
        agent_first,
        region_surprisal,
        region_first,
        now.novel[0].ln_1p() * maturity,
        ((now.novel[0] + 1.0) / (weekly_rate(&now, state, now.novel[1]) + 1.0)).ln().max(0.0) * maturity,
        count(state.services.used_within_hour(minute(seconds))).ln_1p(),
        (share(now.reads[0], now.events[1]) - share(now.reads[1], now.events[2])).abs(),
        risk,
        risk * (1.0 - (api_share * 200.0).min(1.0)),
        (now.risky[0] + flag(risk >= f32::from(Risk::Sensitive as u8))).ln_1p(),
    ];
    values.map(|v| if v.is_finite() { v.clamp(0.0, 30.0) } else { 0.0 })
}

fn flag(is: bool) -> f32 {
    if is { 1.0 } else { 0.0 }
}

#[allow(clippy::cast_precision_loss, reason = "counts of a few slots")]
fn count(n: usize) -> f32 {
    n as f32
}

#[allow(clippy::cast_precision_loss, reason = "counts below 20,000 a sketch, and f32 is enough beyond")]
fn number(n: u32) -> f32 {
    n as f32
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "hours need no more than f32")]
fn hours(seconds: i64) -> f32 {
    (seconds.max(0) as f64 / HOUR) as f32
}

/// Half, when nothing is known.
fn share(part: f32, whole: f32) -> f32 {
    (part + 0.5 * 4.0) / (whole + 4.0)
}

fn surprisal(share: f32) -> f32 {
    (-share.max(1e-6).ln()).clamp(0.0, MOST_SURPRISING)
}

fn blended(count: u32, total: u32, prior: f32) -> f32 {
    (number(count) + PRIOR * prior) / (number(total) + PRIOR)
}

/// Surprisal of one of `kinds` kinds above that of an even spread, as an extra event of each kind smooths it.
fn surprise(count: u32, total: u32, kinds: f32) -> f32 {
    let share = (number(count) + 1.0) / (number(total) + kinds);
    (surprisal(share) - kinds.ln()).max(0.0)
}

/// Surprisal and first-seen flag of where or with what somebody works; nothing when the record does not say.
fn place<const CAP: usize>(known: &Sketch<CAP>, value: Option<&str>, maturity: f32) -> (f32, f32) {
    let Some(value) = value else { return (0.0, 0.0) };
    let count = known.count(hash(value));
    // Of somebody new, any place is as good as another.
    let share = (number(count) + PRIOR * 0.5) / (number(known.total()) + PRIOR);
    (surprisal(share), if count == 0 { maturity } else { 0.0 })
}

/// Mean events an hour of the last week, or of the time since the first event when that is shorter.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a rate needs no more than f32")]
fn weekly_rate(now: &Counters, state: &PrincipalState, decayed: f32) -> f32 {
    if now.events[2] <= 0.0 {
        return 0.0;
    }
    let age = ((state.last - state.first).max(3_600)) as f64;
    let filled = WEEK * (1.0 - (-age / WEEK).exp());
    (f64::from(decayed) / (filled / HOUR)) as f32
}
