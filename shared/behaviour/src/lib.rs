//! Behaviour: how unlike its principal's past an event is, as numbers that models can weigh.
//!
//! In: a normalised event, the state of the person or workload behind it ([`PrincipalState`]: of
//! constant size, at most 1.5 KB as bytes, whatever the principal does), and how rare each API is in general ([`Rarity`], which travels
//! with the model). Out: [`FEATURES`] numbers, always finite. Features are taken before the state learns the
//! event. Nothing here knows which tools attackers use: user agents count only as "the usual one or not".
//!
//! Left out on purpose: country, network operator and travel speed (there is no geographical data yet, so the
//! address's /16 or /48 network stands in), and the hour as such (the principal's own hours count instead).

mod counter;
mod features;
mod lesson;
mod packed;
mod rarity;
mod sketch;
mod state;
#[cfg(test)]
mod tests;

pub use features::{FEATURES, Feature, N, features};
pub use lesson::{Lesson, Lessons};
pub use packed::UnpackError;
pub use rarity::{Rarity, RarityBuilder, Risk, risk};
pub use state::{Learn, PrincipalState, Replay};

use sentinel_model::Event;

/// The short name of an event's API as rarity tables write it: `iam:CreateUser`, without the version suffix
/// that some services append (`UpdateFunctionCode20150331v2`).
pub fn api_name(event: &Event) -> String {
    let service = event.action.service.trim_end_matches(".amazonaws.com");
    format!("{service}:{}", operation(&event.action.name))
}

/// An operation's name without its API version: digits at the end, with or without `v2`.
pub fn operation(name: &str) -> &str {
    let base = match name.rsplit_once('v') {
        Some((base, digits)) if is_version(digits, 1) && base.ends_with(|c: char| c.is_ascii_digit()) => base,
        _ => name,
    };
    let trimmed = base.trim_end_matches(|c: char| c.is_ascii_digit());
    // An API version is a date of eight digits; `ListObjectsV2` and `Route53` keep theirs.
    if base.len() - trimmed.len() == 8 && !trimmed.is_empty() { trimmed } else { name }
}

fn is_version(text: &str, most: usize) -> bool {
    !text.is_empty() && text.len() <= most && text.bytes().all(|b| b.is_ascii_digit())
}

/// The tool that an event's user agent names, without versions: `aws-cli`, `boto3`, `mozilla`. The first
/// product alone, except that Terraform hides behind the partner prefix `APN`.
pub fn agent_family(agent: &str) -> String {
    let agent = agent.trim_start_matches('[').trim();
    if agent.starts_with("APN/") && agent.contains("Terraform/") {
        return "terraform".into();
    }
    let end = agent.find(['/', ' ', '(', ',']).unwrap_or(agent.len());
    agent[..end].to_ascii_lowercase()
}

/// What calls by people in the console are made through: no service's own work.
const CONSOLE: &str = "signin.amazonaws.com";

/// The network an event came from: its address's /16 (IPv4) or /48 (IPv6), `aws` when a service made the call.
pub fn network(event: &Event) -> Option<String> {
    use std::net::IpAddr;
    let by_service = event.invoked_by.as_deref().is_some_and(|service| service != CONSOLE);
    if by_service || event.network.source_host.is_some() {
        return Some("aws".into());
    }
    match event.network.source_ip? {
        IpAddr::V4(a) => Some(format!("{}.{}", a.octets()[0], a.octets()[1])),
        IpAddr::V6(a) => match a.to_ipv4_mapped() {
            Some(a) => Some(format!("{}.{}", a.octets()[0], a.octets()[1])),
            None => Some(format!("{:x}:{:x}:{:x}", a.segments()[0], a.segments()[1], a.segments()[2])),
        },
    }
}
