//! Guardrails: whether an action may go ahead by itself, must ask, or is refused, with readable reasons.
//!
//! Pure: facts in, decision out. Asked when an action is planned and once more just before it is done, so
//! that what changed meanwhile counts.

use sentinel_model::alert::{AttestedUse, KeyUse};
use sentinel_model::provenance::{Channel, Provenance};
use sentinel_model::{Alert, OwnRoles, Principal, PrincipalKind, time};

use crate::config::Protected;
use crate::iam::{IamError, KeyOwner};

/// Oldest, in seconds, that an event may be on arrival for an automatic action.
pub const FRESH_SECONDS: i64 = 3600;
/// How far, in seconds, an event's time may lie after its arrival: clocks differ.
const SKEW_SECONDS: i64 = 300;

/// What a decision rests on.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts, each given by name")]
pub struct Facts<'a> {
    /// The alert, as just read from the store.
    pub alert: &'a Alert,
    /// Whether an analyst called it a false positive.
    pub false_positive: bool,
    /// The key.
    pub access_key_id: &'a str,
    /// Its owner as IAM just gave it.
    pub owner: Result<Option<KeyOwner>, IamError>,
    /// Who is never acted on.
    pub protected: &'a Protected,
    /// Our own roles.
    pub own_roles: &'a OwnRoles,
    /// Whether the kill switch is on.
    pub kill_switch: bool,
    /// Whether the operator wants to be asked always.
    pub ask_always: bool,
    /// Undos of this action on this key so far.
    pub undo_count: u32,
    /// What came of an earlier question about this key that now forbids acting without asking.
    pub earlier: Option<&'a str>,
    /// Actions counted in this account and hour, this one not included.
    pub actions_this_hour: u32,
    /// Most of them without asking.
    pub hourly_cap: u32,
    /// Whether the accounts behind IAM are simulated.
    pub iam_simulated: bool,
}

/// What may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Go ahead.
    Automatic,
    /// Ask a person.
    Approval,
    /// Not at all.
    Refused,
}

/// A decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What may be done.
    pub verdict: Verdict,
    /// Why, in sentences.
    pub reasons: Vec<String>,
    /// Whether the hourly cap alone stood in the way.
    pub cap_reached: bool,
}

/// Decides about an action on a long-term key.
pub fn decide(facts: &Facts<'_>) -> Decision {
    let refused = refusals(facts);
    if !refused.is_empty() {
        return Decision { verdict: Verdict::Refused, reasons: refused, cap_reached: false };
    }
    let mut asks = Vec::new();
    if facts.kill_switch {
        asks.push("The kill switch is on: nothing is done until it is off and a person has approved.".to_owned());
    }
    if facts.ask_always {
        asks.push("The mode is approve: every action waits for a person.".to_owned());
    }
    if facts.undo_count > 0 {
        asks.push("An action on this key was undone before, so it is only touched with approval.".to_owned());
    }
    asks.extend(facts.earlier.map(str::to_owned));
    // Whoever decides needs what the machine would have decided by.
    let mut evidence = vec![format!("IAM says that the key belongs to {}.", facts.alert.principal.id)];
    match attestation(facts) {
        Ok(sentence) => evidence.push(sentence),
        Err(reason) => asks.push(reason),
    }
    let capped = facts.actions_this_hour >= facts.hourly_cap;
    let cap_reached = capped && asks.is_empty();
    if capped {
        asks.push(format!("The cap of {} automatic actions an hour and account is reached.", facts.hourly_cap));
    }
    let verdict = if asks.is_empty() { Verdict::Automatic } else { Verdict::Approval };
    asks.extend(evidence);
    Decision { verdict, reasons: asks, cap_reached }
}

/// Why a principal is never acted on, whatever the key: our own roles, service-linked roles, services, root.
pub fn principal_refusals(principal: &Principal, own_roles: &OwnRoles) -> Vec<String> {
    let mut reasons = Vec::new();
    let role = principal.role.as_deref();
    if own_roles.contains(&principal.id) || role.is_some_and(|role| own_roles.contains(role)) {
        reasons.push("The principal is our own role: it is never acted on.".to_owned());
    }
    let linked = |arn: &str| arn.contains(":role/aws-service-role/") || arn.contains("/AWSServiceRoleFor");
    if linked(&principal.id) || role.is_some_and(linked) {
        reasons.push("The principal is a service-linked role: only its AWS service uses it.".to_owned());
    }
    if principal.kind == PrincipalKind::Service {
        reasons.push("The principal is an AWS service.".to_owned());
    }
    if principal.kind == PrincipalKind::Root || principal.id.ends_with(":root") {
        reasons.push("The principal is the account's root user: only its holder can act on it.".to_owned());
    }
    reasons
}

fn refusals(facts: &Facts<'_>) -> Vec<String> {
    let principal = &facts.alert.principal;
    let mut reasons = principal_refusals(principal, facts.own_roles);
    reasons.extend(alert_refusals(facts.alert, facts.false_positive));
    if principal.inferred {
        reasons.push("The record gave no ARN: an inferred principal is never acted on.".to_owned());
    }
    if principal.account.as_ref().is_some_and(|account| *account != facts.alert.account) {
        reasons.push(format!(
            "The principal belongs to another account than the alert's {}: its key is not acted on from here.",
            facts.alert.account
        ));
    }
    if facts.alert.key_uses.iter().all(|k| k.access_key_id != facts.access_key_id) {
        reasons.push("No event of the alert was signed with this key.".to_owned());
    }
    match &facts.owner {
        Err(e) => reasons.push(format!("The key's owner could not be read: {e}.")),
        Ok(None) => reasons.push("IAM knows no user that owns this key: it is gone, or the root user's.".to_owned()),
        Ok(Some(owner)) => reasons.extend(owner_refusals(facts, owner)),
    }
    reasons
}

/// Why an alert is none to act on any more.
pub(crate) fn alert_refusals(alert: &Alert, false_positive: bool) -> Vec<String> {
    let judged = false_positive.then_some("An analyst called the alert a false positive.");
    let withdrawn = alert.superseded_by.is_some().then_some("Later events showed that this was no alert.");
    judged.into_iter().chain(withdrawn).map(str::to_owned).collect()
}

fn owner_refusals(facts: &Facts<'_>, owner: &KeyOwner) -> Vec<String> {
    let mut reasons = Vec::new();
    let principal = &facts.alert.principal;
    if principal.kind != PrincipalKind::IamUser || owner.user_arn != principal.id {
        reasons.push(format!(
            "IAM says that the key belongs to {}, but the alert is about {}.",
            owner.user_arn, principal.id
        ));
    }
    if named_in(&facts.protected.break_glass, owner) {
        reasons.push(format!("{} is a break-glass principal.", owner.user_name));
    }
    if named_in(&facts.protected.principals, owner) {
        reasons.push(format!("{} is a protected principal.", owner.user_name));
    }
    for tag in facts.protected.tags.iter().filter(|tag| owner.tags.contains_key(*tag)) {
        reasons.push(format!("{} carries the protecting tag {tag}.", owner.user_name));
    }
    reasons
}

/// IAM tells users apart without regard to case, so a spelling must not lift protection.
fn named_in(list: &[String], owner: &KeyOwner) -> bool {
    let (name, arn) = (owner.user_name.to_ascii_lowercase(), owner.user_arn.to_ascii_lowercase());
    list.iter().map(|entry| entry.to_ascii_lowercase()).any(|entry| match entry.strip_suffix('*') {
        Some(start) => name.starts_with(start) || arn.starts_with(start),
        None => name == entry || arn == entry,
    })
}

/// The sentence that says by which copy the account attests a fresh use of the key, or why none does.
fn attestation(facts: &Facts<'_>) -> Result<String, String> {
    let uses: Vec<&AttestedUse> =
        facts.alert.key_uses.iter().filter(|k| k.access_key_id == facts.access_key_id).flat_map(uses_of).collect();
    let own: Vec<(&AttestedUse, &Provenance)> = uses
        .iter()
        .flat_map(|used| used.provenance.iter().map(move |copy| (*used, copy)))
        .filter(|(_, copy)| copy.channel.is_accounts_own(facts.iam_simulated))
        .collect();
    if own.is_empty() {
        return Err("No copy of an event signed with this key came from the account itself.".to_owned());
    }
    let age = |(used, copy): &(&AttestedUse, &Provenance)| time::seconds_between(used.time, copy.received_at);
    let fresh = |pair: &&(&AttestedUse, &Provenance)| (-SKEW_SECONDS..=FRESH_SECONDS).contains(&age(pair));
    if let Some(pair) = own.iter().find(fresh) {
        let seconds = age(pair).max(0);
        let (event, by) = (&pair.0.event_id, channel_words(&pair.1.channel));
        return Ok(format!("Event {event}, signed with this key, came by {by}, {seconds} seconds after it happened."));
    }
    Err("Every copy from the account itself was over one hour old (or dated ahead) when it came.".to_owned())
}

fn uses_of(key_use: &KeyUse) -> impl Iterator<Item = &AttestedUse> {
    key_use.uses.iter()
}

fn channel_words(channel: &Channel) -> &'static str {
    match channel {
        Channel::Bus { .. } => "the account's own event bus",
        Channel::Object { .. } => "a bucket that only CloudTrail can write",
        Channel::CloudTrailApi { .. } => "the account's own CloudTrail API",
        Channel::Api { .. } => "our API",
        Channel::Folder { .. } => "a folder",
        Channel::Simulated { .. } => "the simulated account itself",
    }
}
