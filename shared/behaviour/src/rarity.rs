//! How rare an API is in general, and how much harm it can do.
//!
//! The table is counted over the activity that a model was trained on, and is stored and versioned with that
//! model: account-wide counters kept live would be one hot partition. An API that the table does not know is
//! judged by its verb, so that the first `DescribeSomething` of an account is not as strange as the first
//! `DeleteSomething`.

use std::collections::{BTreeMap, BTreeSet};

use sentinel_model::Event;
use serde::{Deserialize, Serialize};

use crate::{api_name, operation};

/// How much harm an API can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Risk {
    /// Reads settings.
    Read = 0,
    /// Changes something that can be changed back.
    Change = 1,
    /// Reads what is secret, or takes on another identity, or destroys.
    Sensitive = 2,
    /// Changes who may do what, or what is recorded.
    Control = 3,
}

/// How much harm the event's API can do, by service and verb.
pub fn risk(event: &Event) -> Risk {
    let service = event.action.service.trim_end_matches(".amazonaws.com");
    let name = operation(&event.action.name);
    // Signing in is recorded as a change, but changes nothing.
    let reads = event.action.read_only.unwrap_or_else(|| verb_class(name) == VerbClass::Read) || service == "signin";
    let discloses = ["Secret", "Password", "Credential", "Token", "ParametersByPath", "AssumeRole"];
    if matches!(service, "sts" | "secretsmanager" | "ssm" | "ec2" | "ecr" | "rds")
        && discloses.iter().any(|d| name.contains(d))
        && !name.starts_with("List")
        && !name.starts_with("Describe")
    {
        return Risk::Sensitive;
    }
    if reads {
        return Risk::Read;
    }
    let controls = matches!(
        service,
        "iam" | "organizations" | "cloudtrail" | "guardduty" | "config" | "securityhub" | "kms" | "access-analyzer"
    );
    let opens = ["Policy", "Permission", "Acl", "Attribute", "SecurityGroupIngress", "PublicAccess", "FlowLogs"];
    if (controls && verb_class(name) != VerbClass::Use) || opens.iter().any(|o| name.contains(o)) {
        return Risk::Control;
    }
    if verb_class(name) == VerbClass::Destroy { Risk::Sensitive } else { Risk::Change }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum VerbClass {
    Read,
    Use,
    Change,
    Destroy,
}

fn verb_class(name: &str) -> VerbClass {
    const READ: [&str; 9] = ["Describe", "List", "Get", "Head", "Lookup", "Search", "Query", "View", "BatchGet"];
    const USE: [&str; 8] =
        ["Encrypt", "Decrypt", "Generate", "Sign", "Verify", "AssumeRole", "ConsoleLogin", "CheckMfa"];
    const DESTROY: [&str; 9] =
        ["Delete", "Terminate", "Stop", "Disable", "Remove", "Deregister", "Detach", "Leave", "Schedule"];
    let starts = |verbs: &[&str]| verbs.iter().any(|v| name.starts_with(v));
    if starts(&READ) {
        VerbClass::Read
    } else if starts(&USE) {
        VerbClass::Use
    } else if starts(&DESTROY) {
        VerbClass::Destroy
    } else {
        VerbClass::Change
    }
}

/// Surprisal (-ln of the share of all calls) of APIs and services, in nats.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Rarity {
    /// By API, e.g. `iam:CreateUser`.
    pub apis: BTreeMap<String, f32>,
    /// By service host name.
    pub services: BTreeMap<String, f32>,
}

impl Rarity {
    /// Surprisal of the event's API.
    pub fn api(&self, event: &Event) -> f32 {
        let by_verb = match verb_class(operation(&event.action.name)) {
            VerbClass::Read => 7.0,
            VerbClass::Use => 6.5,
            VerbClass::Change => 8.5,
            VerbClass::Destroy => 9.5,
        };
        self.apis.get(&api_name(event)).copied().filter(|v| v.is_finite()).unwrap_or(by_verb)
    }

    /// Surprisal of the event's service.
    pub fn service(&self, event: &Event) -> f32 {
        self.services.get(&event.action.service).copied().filter(|v| v.is_finite()).unwrap_or(7.0)
    }
}

/// Counts activity into a [`Rarity`].
///
/// Each principal weighs the same, however busy: one chatty workload must not make its APIs look common.
#[derive(Debug, Clone, Default)]
pub struct RarityBuilder {
    by_actor: BTreeMap<String, BTreeMap<(String, String), u32>>,
}

impl RarityBuilder {
    /// Counts an event.
    pub fn add(&mut self, event: &Event) {
        let counts = self.by_actor.entry(event.principal.actor.clone()).or_default();
        *counts.entry((event.action.service.clone(), api_name(event))).or_default() += 1;
    }

    /// The table, rounded to hundredths.
    pub fn build(&self) -> Rarity {
        let mut apis = BTreeMap::<String, f64>::new();
        let mut services = BTreeMap::<String, f64>::new();
        for counts in self.by_actor.values() {
            let total: f64 = counts.values().map(|c| f64::from(*c)).sum();
            for ((service, api), count) in counts {
                *apis.entry(api.clone()).or_default() += f64::from(*count) / total;
                *services.entry(service.clone()).or_default() += f64::from(*count) / total;
            }
        }
        #[allow(clippy::cast_precision_loss, reason = "a count of principals")]
        let actors = (self.by_actor.len() as f64).max(1.0);
        Rarity { apis: surprisals(apis, actors), services: surprisals(services, actors) }
    }

    /// The principals counted.
    pub fn actors(&self) -> BTreeSet<&str> {
        self.by_actor.keys().map(String::as_str).collect()
    }
}

#[allow(clippy::cast_possible_truncation, reason = "a few nats, rounded")]
fn surprisals(shares: BTreeMap<String, f64>, actors: f64) -> BTreeMap<String, f32> {
    let nats = |share: f64| ((-(share / actors).ln()).clamp(0.0, 9.0) * 100.0).round() / 100.0;
    shares.into_iter().map(|(name, share)| (name, nats(share) as f32)).collect()
}
