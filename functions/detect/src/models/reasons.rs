//! Readable sentences on what was unusual about an event.

use sentinel_behaviour::{FEATURES, N, agent_family, network, operation};
use sentinel_model::Event;

/// Most reasons given.
const MOST: usize = 4;

/// The features that stand out most, as bits: those beyond what one benign event in 100 reaches, the farthest
/// first; when none is, the one farthest from its median.
pub fn standing_out(values: &[f32; N], usual: &[[f32; 2]]) -> u32 {
    let mut excess: Vec<(usize, f32)> = Vec::new();
    for (i, ([median, high], value)) in usual.iter().zip(values).enumerate() {
        let spread = (high - median).max(0.1);
        excess.push((i, (value - high) / spread));
    }
    excess.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut bits = excess.first().map_or(0, |(i, _)| 1 << i);
    for (i, by) in excess.iter().take(MOST) {
        if *by > 0.0 {
            bits |= 1 << i;
        }
    }
    bits
}

/// The sentences for features named by bits; several features that say the same give one sentence.
pub fn sentences(event: &Event, bits: u32) -> Vec<String> {
    let mut said = Vec::new();
    for (i, feature) in FEATURES.iter().enumerate() {
        if bits & (1 << i) == 0 {
            continue;
        }
        let sentence = sentence(event, feature.name);
        if !said.contains(&sentence) {
            said.push(sentence);
        }
    }
    said
}

fn sentence(event: &Event, feature: &str) -> String {
    let service = &event.action.service;
    let api = operation(&event.action.name);
    match feature {
        "hour_surprisal" => {
            format!("Activity at an hour ({}:00 UTC) that is unusual for this principal.", event.time.strftime("%H"))
        }
        "weekday_surprisal" => {
            format!("Activity on a day of the week ({}) that is unusual for this principal.", event.time.strftime("%A"))
        }
        "events_5m" | "events_1h" | "burst" => {
            "Far more calls in a short time than this principal usually makes.".into()
        }
        "gap" => "The principal was silent for long before this.".into(),
        "error" | "error_rate_1h" | "error_change" => "An unusual share of this principal's calls failed.".into(),
        "refused" => format!("{api} was refused for want of rights."),
        "api_surprisal" | "api_rarity" => format!("{api} is seldom called."),
        "api_first" => format!("First use of {api} by this principal."),
        "service_surprisal" | "service_rarity" => format!("{service} is seldom used."),
        "service_first" => format!("First use of {service} by this principal."),
        "network_surprisal" | "network_first" => {
            format!("The call came from a network ({}) that is new or rare for this principal.", network_text(event))
        }
        "agent_surprisal" | "agent_first" => {
            let agent = event.network.user_agent.as_deref().map(agent_family).unwrap_or_default();
            format!("A tool ({agent}) that is new or rare for this principal.")
        }
        "region_surprisal" | "region_first" => {
            let region = event.region.as_deref().unwrap_or("unknown");
            format!("A Region ({region}) that is new or rare for this principal.")
        }
        "novelty_1h" | "novelty_burst" => "Many APIs that this principal had never called, within an hour.".into(),
        "services_1h" => "Unusually many different services within an hour.".into(),
        "reading_change" => "The mix of reading and changing calls differs from this principal's usual one.".into(),
        "risk" => format!("{api} can disclose secrets, or change rights or what is recorded."),
        "risk_novelty" => format!("{api} can do harm, and this principal hardly ever calls it."),
        "risky_1h" => "Unusually many calls within an hour that disclose secrets, destroy or change rights.".into(),
        other => format!("{other} is unusual."),
    }
}

fn network_text(event: &Event) -> String {
    match (event.network.source_ip, network(event)) {
        (Some(std::net::IpAddr::V4(_)), Some(n)) => format!("{n}.0.0/16"),
        (Some(std::net::IpAddr::V6(_)), Some(n)) => format!("{n}::/48"),
        (_, n) => n.unwrap_or_else(|| "unknown".into()),
    }
}
